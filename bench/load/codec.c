#include "codec.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"

static size_t format(char *out, size_t size, const char *pattern, ...) __attribute__((format(printf, 3, 4)));

static size_t format(char *out, size_t size, const char *pattern, ...)
{
    va_list arguments;
    va_start(arguments, pattern);
    int length = vsnprintf(out, size, pattern, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size)
        die("a command is too long");
    return (size_t)length;
}

static int starts_with(const char *text, size_t length, const char *start)
{
    size_t needed = strlen(start);
    return length >= needed && memcmp(text, start, needed) == 0;
}

/* The number at `text`; `*end` is where it ends. Text of a frame is never the last of its buffer. */
static uint32_t number(const char *text, const char *stop, const char **end)
{
    uint32_t value = 0;
    for (; text < stop && *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint32_t)(*text - '0');
    *end = text;
    return value;
}

/* ---- Centrifuge client protocol, version 2, JSON: lines of {"id":..,"<method>":{..}}, {"push":..} or {}. */

static size_t centrifuge_connect(char *out, size_t size, const char *token)
{
    return format(out, size, "{\"id\":%d,\"connect\":{\"token\":\"%s\",\"name\":\"loadgen\"}}", CONNECT_ID, token);
}

static size_t centrifuge_subscribe(char *out, size_t size, const char *channel)
{
    /* flag 1 offers channel ids, as both SDKs always do */
    return format(out, size, "{\"id\":%d,\"subscribe\":{\"channel\":\"%s\",\"flag\":1}}", SUBSCRIBE_ID, channel);
}

static size_t centrifuge_publish(char *out, size_t size, uint32_t id, const char *channel, struct text data)
{
    return format(out, size, "{\"id\":%u,\"publish\":{\"channel\":\"%s\",\"data\":%.*s}}", id, channel,
                  (int)data.length, data.start);
}

static size_t centrifuge_read(const char *text, size_t length, struct item *item)
{
    const char *newline = memchr(text, '\n', length), *end;
    size_t line = newline == NULL ? length : (size_t)(newline - text);
    item->kind = ITEM_NONE;
    if (starts_with(text, line, "{\"push\":")) {
        if (payload_find(text, line, &item->stamp) != NULL)
            item->kind = ITEM_DELIVERY;
    } else if (starts_with(text, line, "{\"id\":")) {
        item->id = number(text + 6, text + line, &end);
        item->kind = starts_with(end, (size_t)(text + line - end), ",\"error\"") ? ITEM_ERROR : ITEM_REPLY;
    } else if (line == 2) {
        item->kind = ITEM_PING;
    }
    return line + (newline != NULL);
}

/* ---- Socket.IO 5 over Engine.IO 4, a packet a frame. Commands are acknowledged events: 42<id>["name",..]. */

static size_t socketio_connect(char *out, size_t size, const char *token)
{
    return format(out, size, "40{\"token\":\"%s\"}", token);
}

static size_t socketio_subscribe(char *out, size_t size, const char *channel)
{
    return format(out, size, "42%d[\"subscribe\",\"%s\"]", SUBSCRIBE_ID, channel);
}

static size_t socketio_publish(char *out, size_t size, uint32_t id, const char *channel, struct text data)
{
    return format(out, size, "42%u[\"publish\",\"%s\",%.*s]", id, channel, (int)data.length, data.start);
}

static size_t socketio_read(const char *text, size_t length, struct item *item)
{
    const char *end;
    item->kind = ITEM_NONE;
    if (starts_with(text, length, "42") && payload_find(text, length, &item->stamp) != NULL) {
        item->kind = ITEM_DELIVERY;
    } else if (starts_with(text, length, "43")) {
        item->kind = ITEM_REPLY;
        item->id = number(text + 2, text + length, &end);
    } else if (starts_with(text, length, "40") || starts_with(text, length, "44")) {
        item->kind = text[1] == '0' ? ITEM_REPLY : ITEM_ERROR;
        item->id = CONNECT_ID;
    } else if (length == 1 && *text == '2') {
        item->kind = ITEM_PING;
    }
    return length;
}

#define CENTRIFUGE                                                                                            \
    .target = "/connection/websocket", .pong = "{}", .connect = centrifuge_connect,                           \
    .subscribe = centrifuge_subscribe, .publish = centrifuge_publish, .read = centrifuge_read

static const struct codec CODECS[] = {
    {
        .name = "centrifuge",
        CENTRIFUGE,
    },
    {
        .name = "centrifuge-deflate",
        .headers = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
        CENTRIFUGE,
    },
    {
        .name = "socketio",
        .target = "/socket.io/?EIO=4&transport=websocket",
        .pong = "3",
        .connect = socketio_connect,
        .subscribe = socketio_subscribe,
        .publish = socketio_publish,
        .read = socketio_read,
    },
};

const struct codec *codec_named(const char *name)
{
    for (size_t i = 0; i < sizeof CODECS / sizeof *CODECS; i++)
        if (strcmp(CODECS[i].name, name) == 0)
            return &CODECS[i];
    die("unknown protocol: %s", name);
}
