/* Taking every connection through one step: connecting, or subscribing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "fields.h"
#include "load.h"
#include "net.h"

enum { STALLED = 20 }; /* seconds without progress after which the rest counts as failed */

static char command[PAYLOAD_MOST]; /* a command being written; tokens are the longest */

static void begin(struct load *load, enum phase phase, const char *line, uint32_t count)
{
    load->phase = phase;
    load->progress = (struct progress){
        .count = count,
        .limit = (uint32_t)field_number(line, "pending", 64),
        .rate = field_number(line, "rate", 0),
        .began = now_ns(),
        .last = now_ns(),
    };
    if (count == 0 || load->progress.limit == 0)
        die("nothing to do: %s", line);
}

static void grow(struct load *load, uint32_t capacity)
{
    load->clients = realloc(load->clients, capacity * sizeof *load->clients);
    if (load->clients == NULL)
        die("out of memory");
    for (; load->capacity < capacity; load->capacity++)
        load->clients[load->capacity] = (struct client){.stream = {.fd = -1}};
}

/* {"do":"connect","count":N,"pending":P,"rate":R,"bare":0}: have N connections, those that are there included. */
void connect_begin(struct load *load, const char *line)
{
    uint32_t count = (uint32_t)field_number(line, "count", 0);
    if (count > load->capacity)
        grow(load, count);
    load->bare = field_number(line, "bare", 0) != 0;
    begin(load, PHASE_CONNECT, line, count);
    load->progress.next = load->progress.done = load->opened;
}

/* {"do":"subscribe","channels":M,"prefix":"live:","pending":P}: connection i subscribes to channel i mod M. */
void subscribe_begin(struct load *load, const char *line)
{
    load->channels = (uint32_t)field_number(line, "channels", 1);
    field_text(line, "prefix", load->prefix, sizeof load->prefix);
    begin(load, PHASE_SUBSCRIBE, line, load->opened);
    if (load->channels == 0)
        die("no channels: %s", line);
}

void close_all(struct load *load)
{
    for (uint32_t i = 0; i < load->opened; i++)
        client_close(load, &load->clients[i]);
    load->opened = load->channels = 0;
    load->closed = 0;
    load->phase = PHASE_IDLE;
    puts("{\"event\":\"close\"}");
}

void channel_name(const struct load *load, uint32_t number, char *out, size_t size)
{
    snprintf(out, size, "%s%u", load->prefix, number);
}

static void subscribe(struct load *load, struct client *client, uint32_t number)
{
    char name[192];
    client->channel = number % load->channels;
    channel_name(load, client->channel, name, sizeof name);
    client_send(load, client, command, load->codec->subscribe(command, sizeof command, name));
    client_flush(load, client);
}

static void start_next(struct load *load)
{
    uint32_t number = load->progress.next++;
    struct client *client = &load->clients[number];
    load->progress.pending++;
    if (load->phase == PHASE_CONNECT) {
        load->opened = number + 1;
        client_open(load, client);
    } else if (client->state == CLIENT_READY) {
        subscribe(load, client, number);
    } else { /* lost or subscribed before */
        load->progress.pending--;
        *(client->state == CLIENT_SUBSCRIBED ? &load->progress.done : &load->progress.failed) += 1;
    }
}

static int64_t next_start(const struct progress *progress)
{
    return progress->rate > 0 ? progress->began + (int64_t)(progress->next * NANOSECONDS / progress->rate) : 0;
}

static void finish(struct load *load)
{
    const struct progress *progress = &load->progress;
    printf("{\"event\":\"%s\",\"done\":%u,\"failed\":%u,\"seconds\":%.6f}\n",
           load->phase == PHASE_CONNECT ? "connect" : "subscribe", progress->done, progress->count - progress->done,
           (double)(now_ns() - progress->began) / NANOSECONDS);
    load->phase = PHASE_IDLE;
}

void progress_step(struct load *load)
{
    struct progress *progress = &load->progress;
    int64_t now = now_ns();
    while (progress->next < progress->count && progress->pending < progress->limit && next_start(progress) <= now)
        start_next(load);
    if (progress->done + progress->failed == progress->count || now - progress->last > STALLED * NANOSECONDS)
        finish(load);
}

int64_t progress_deadline(const struct load *load)
{
    int64_t stalled = load->progress.last + STALLED * NANOSECONDS + 1;
    int64_t next = next_start(&load->progress);
    bool waits = load->progress.next < load->progress.count && load->progress.pending < load->progress.limit;
    return waits && next < stalled ? next : stalled;
}

static void step_done(struct load *load, struct client *client, enum client_state state)
{
    client->state = state;
    load->progress.pending--;
    load->progress.done++;
    load->progress.last = load->now;
}

void on_upgraded(struct load *load, struct client *client)
{
    if (load->bare) {
        step_done(load, client, CLIENT_READY);
        return;
    }
    const char *token = load->token_count ? load->tokens[client_number(load, client) % load->token_count] : "";
    client_send(load, client, command, load->codec->connect(command, sizeof command, token));
    client_flush(load, client);
}

static void on_reply(struct load *load, struct client *client, uint32_t id, bool failed)
{
    if (id >= FIRST_PUBLISH_ID)
        run_acked(load, client, id, failed);
    else if (failed)
        on_lost(load, client, 0);
    else if (id == CONNECT_ID && client->state == CLIENT_OPEN)
        step_done(load, client, CLIENT_READY);
    else if (id == SUBSCRIBE_ID && client->state == CLIENT_READY)
        step_done(load, client, CLIENT_SUBSCRIBED);
}

void on_item(struct load *load, struct client *client, const struct item *item)
{
    switch (item->kind) {
    case ITEM_DELIVERY:
        run_delivered(load, client, &item->stamp);
        break;
    case ITEM_REPLY:
    case ITEM_ERROR:
        on_reply(load, client, item->id, item->kind == ITEM_ERROR);
        break;
    case ITEM_PING:
        client_send(load, client, load->codec->pong, strlen(load->codec->pong));
        client_flush(load, client);
        break;
    case ITEM_NONE:
        break;
    }
}

/* Whether the phase waits for this connection. */
static bool awaited(const struct load *load, const struct client *client)
{
    return (load->phase == PHASE_CONNECT && client->state < CLIENT_READY) ||
           (load->phase == PHASE_SUBSCRIBE && client->state == CLIENT_READY &&
            client_number(load, client) < load->progress.next);
}

void on_lost(struct load *load, struct client *client, int close_code)
{
    if (awaited(load, client)) {
        load->progress.pending--;
        load->progress.failed++;
        load->progress.last = now_ns();
    } else {
        load->closed++;
    }
    load->close_code = close_code;
    client_close(load, client);
}
