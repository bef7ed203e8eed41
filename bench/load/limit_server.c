/* The limit: a server of the same protocol that does nothing that is not needed to move the bytes.
 *
 * Usage: limit_server HOST [CERTIFICATE KEY]; prints {"port":N}. With a certificate connections have TLS 1.3. One
 * thread, one write() per message and subscriber, no merging; replies to what came in one read leave in one write. It
 * knows no tokens, limits, pings, fragments or NATS, and reads commands only in the exact shape in which the load
 * generator writes them; anything else ends the connection.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "command.h"
#include "die.h"
#include "net.h"
#include "rooms.h"
#include "stream.h"
#include "websocket.h"

enum { EVENTS = 256, MAX_UNSENT = 1 << 22 };
#define UPGRADED                                                                                                       \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                \
    "Sec-WebSocket-Accept: " WS_ACCEPT "\r\n\r\n"

struct peer {
    struct stream stream;
    bool upgraded;
    bool broken; /* shut down; its descriptor is closed when epoll reports that */
    struct bytes unread;
    struct bytes unsent;
};

static int epoll;
static bool secure; /* connections have TLS */
static struct peer peers[MAX_FILES]; /* by descriptor */
static char inbox[1 << 18];
static struct bytes replies; /* to what is being read */

static void hang_up(int fd)
{
    room_leave(fd);
    stream_close(&peers[fd].stream);
    bytes_free(&peers[fd].unread);
    bytes_free(&peers[fd].unsent);
    peers[fd] = (struct peer){0};
}

/* Write at once what the socket takes, and keep the rest in order; too much of it ends the connection later. */
static void send_to(int fd, const char *data, size_t length)
{
    struct peer *peer = &peers[fd];
    ssize_t written = peer->unsent.length > 0 ? 0 : stream_write(&peer->stream, data, length);
    if (written == (ssize_t)length || peer->broken)
        return;
    if (written < 0 && errno == EAGAIN)
        written = 0;
    if (written < 0 || peer->unsent.length + length > MAX_UNSENT) {
        peer->broken = true;
        shutdown(fd, SHUT_RDWR); /* epoll reports it, and then it is closed */
        return;
    }
    if (peer->unsent.length == 0)
        net_watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, (uint64_t)fd);
    bytes_append(&peer->unsent, data + written, length - (size_t)written);
}

static void reply(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void reply(const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    size_t length = (size_t)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *out = bytes_room(&replies, WS_MAX_HEADER + length);
    size_t header = ws_header(out, WS_TEXT, length);
    memcpy(out + header, text, length);
    replies.length += header + length;
}

static void publish(const struct command *command)
{
    static char frame[1 << 18];
    char *payload = frame + WS_MAX_HEADER, header[WS_MAX_HEADER];
    const struct text *channel = &command->channel, *data = &command->data;
    const struct room *room = room_named(*channel);
    int length = snprintf(payload, sizeof frame - WS_MAX_HEADER,
                          "{\"push\":{\"channel\":\"%.*s\",\"pub\":{\"data\":%.*s}}}", (int)channel->length,
                          channel->start, (int)data->length, data->start);
    if ((size_t)length >= sizeof frame - WS_MAX_HEADER)
        die("a publication of %zu bytes", data->length);
    size_t header_size = ws_header(header, WS_TEXT, (size_t)length);
    memcpy(payload - header_size, header, header_size);
    for (size_t i = 0; room != NULL && i < room->count; i++)
        send_to(room->members[i], payload - header_size, header_size + (size_t)length);
}

static bool obey(int fd, const char *line, size_t length)
{
    struct command command;
    if (!command_read(line, length, &command))
        return false;
    switch (command.method) {
    case 'c':
        reply("{\"id\":%u,\"connect\":{\"client\":\"%d\",\"version\":\"limit\"}}", command.id, fd);
        break;
    case 's':
        room_join(command.channel, fd);
        reply("{\"id\":%u,\"subscribe\":{}}", command.id);
        break;
    default:
        publish(&command);
        reply("{\"id\":%u,\"publish\":{}}", command.id);
    }
    return true;
}

static bool obey_lines(int fd, const char *text, size_t length)
{
    for (const char *end = text + length; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line = (size_t)((newline == NULL ? end : newline) - text);
        if (!obey(fd, text, line))
            return false;
        text += line + (newline != NULL);
    }
    return true;
}

/* Obey what came; returns how much of it is done with, -1 when the connection has to end. */
static ssize_t handle(int fd, char *data, size_t length)
{
    struct ws_frame frame;
    size_t used = peers[fd].upgraded ? 0 : ws_head(data, length);
    if (used > 0) {
        bytes_append(&replies, UPGRADED, sizeof UPGRADED - 1);
        peers[fd].upgraded = true;
    }
    while (peers[fd].upgraded) {
        ssize_t size = ws_parse(data + used, length - used, true, &frame);
        if (size < 0 || (size > 0 && (frame.opcode != WS_TEXT || frame.compressed || !obey_lines(fd, frame.payload, frame.length))))
            return -1;
        if (size == 0)
            break;
        used += (size_t)size;
    }
    return (ssize_t)used;
}

static void receive_once(int fd)
{
    struct peer *peer = &peers[fd];
    size_t held = peer->unread.length;
    if (held > 0)
        memcpy(inbox, peer->unread.data, held);
    ssize_t got = stream_read(&peer->stream, inbox + held, sizeof inbox - held);
    if (got < 0 && errno == EAGAIN)
        return;
    ssize_t used = got <= 0 ? -1 : handle(fd, inbox, held + (size_t)got);
    if (used < 0) {
        hang_up(fd);
    } else {
        peer->unread.length = 0;
        bytes_append(&peer->unread, inbox + used, held + (size_t)got - (size_t)used);
        if (replies.length > 0)
            send_to(fd, replies.data, replies.length);
    }
    replies.length = 0;
}

static void receive(int fd)
{
    do
        receive_once(fd);
    while (stream_holds(&peers[fd].stream));
}

static void take(int fd)
{
    peers[fd].stream = (struct stream){fd, secure ? tls_new(fd) : NULL};
    net_watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, (uint64_t)fd);
}

static void take_all(int listener)
{
    for (int fd; (fd = net_accept(listener)) >= 0;)
        if (fd >= MAX_FILES)
            close(fd);
        else
            take(fd);
}

static void write_rest(int fd)
{
    if (!stream_flush(&peers[fd].stream, &peers[fd].unsent))
        hang_up(fd);
    else if (peers[fd].unsent.length == 0)
        net_watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN, (uint64_t)fd);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    if (argc != 2 && argc != 4)
        die("usage: limit_server HOST [CERTIFICATE KEY]");
    secure = argc == 4;
    if (secure)
        tls_server(argv[2], argv[3]);
    struct sockaddr_in address = net_address(argv[1], 0);
    int listener = net_listen(&address);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    net_watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, (uint64_t)listener);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = (int)events[i].data.u64;
            if (fd == listener)
                take_all(listener);
            else if (events[i].events & EPOLLOUT)
                write_rest(fd);
            else
                receive(fd);
        }
    }
}
