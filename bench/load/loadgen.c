/* The load generator: many clients of one server in one process, driven by lines of JSON on standard input.
 *
 * Usage: loadgen HOST PORT PROTOCOL SOURCES [FILE OF TOKENS [CA FILE]]. PROTOCOL is a codec's name; SOURCES is the number of
 * source addresses 127.0.0.1, .2, .. that connections come from in turn (0: the system's choice), as one has only some
 * 28,000 ports towards a server. Connection i uses token i mod their number, a line each. With a CA FILE connections have
 * TLS 1.3, each with a full handshake; an empty name of the file of tokens is none.
 *
 * Each order has one answer, a line of JSON with the same name as its "event"; a run says between them when its
 * measured time begins and ends. Pings are answered at all times. The end of the input ends the process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "die.h"
#include "fields.h"
#include "load.h"
#include "net.h"

enum { EVENTS = 256 };
#define STANDARD_INPUT UINT64_MAX

static void read_tokens(struct load *load, const char *path)
{
    FILE *file = fopen(path, "r");
    size_t capacity = 0;
    char *line = NULL;
    if (file == NULL)
        die_errno(path);
    for (ssize_t length; (length = getline(&line, &capacity, file)) > 0;) {
        line[strcspn(line, "\n")] = '\0';
        load->tokens = realloc(load->tokens, (load->token_count + 1) * sizeof *load->tokens);
        if (load->tokens == NULL)
            die("out of memory");
        load->tokens[load->token_count++] = strdup(line);
    }
    free(line);
    fclose(file);
}

static void obey(struct load *load, const char *line)
{
    char order[32];
    field_text(line, "do", order, sizeof order);
    if (load->phase != PHASE_IDLE)
        die("an order before the last was carried out: %s", line);
    if (strcmp(order, "connect") == 0)
        connect_begin(load, line);
    else if (strcmp(order, "subscribe") == 0)
        subscribe_begin(load, line);
    else if (strcmp(order, "run") == 0)
        run_begin(load, line);
    else if (strcmp(order, "close") == 0)
        close_all(load);
    else
        die("not an order: %s", line);
}

static void read_orders(struct load *load)
{
    static char text[4096];
    static size_t length;
    ssize_t got = read(STDIN_FILENO, text + length, sizeof text - 1 - length);
    if (got <= 0)
        exit(0);
    length += (size_t)got;
    for (char *newline; (newline = memchr(text, '\n', length)) != NULL;) {
        *newline++ = '\0';
        obey(load, text);
        length -= (size_t)(newline - text);
        memmove(text, newline, length);
    }
}

static int64_t deadline(const struct load *load)
{
    switch (load->phase) {
    case PHASE_RUN:
        return run_deadline(load);
    case PHASE_IDLE:
        return INT64_MAX;
    default:
        return progress_deadline(load);
    }
}

/* Wait for events until the next deadline. */
static int wait(struct load *load, struct epoll_event *events)
{
    int64_t at = deadline(load), now = now_ns(), left = at > now ? at - now : 0;
    struct timespec timeout = {.tv_sec = left / NANOSECONDS, .tv_nsec = left % NANOSECONDS};
    int count = epoll_pwait2(load->epoll, events, EVENTS, at == INT64_MAX ? NULL : &timeout, NULL);
    if (count < 0 && errno != EINTR)
        die_errno("epoll_pwait2");
    return count;
}

static void serve(struct load *load)
{
    struct epoll_event events[EVENTS];
    int count = wait(load, events);
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 == STANDARD_INPUT)
            read_orders(load);
        else
            client_event(load, &load->clients[events[i].data.u64], events[i].events);
    if (load->phase == PHASE_RUN)
        run_step(load);
    else if (load->phase != PHASE_IDLE)
        progress_step(load);
}

int main(int argc, char **argv)
{
    static struct load load = {.key = 0x9e3779b9};
    if (argc < 5)
        die("usage: loadgen HOST PORT PROTOCOL SOURCES [FILE OF TOKENS [CA FILE]]");
    load.server = net_address(argv[1], atoi(argv[2]));
    load.codec = codec_named(argv[3]);
    load.sources = (unsigned)atoi(argv[4]);
    if (argc > 5 && *argv[5] != '\0')
        read_tokens(&load, argv[5]);
    load.secure = argc > 6;
    if (load.secure)
        tls_client(argv[6], argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    prctl(PR_SET_TIMERSLACK, 1); /* scheduled times are kept to the microsecond */
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    net_watch(load.epoll, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, STANDARD_INPUT);
    for (;;)
        serve(&load);
}
