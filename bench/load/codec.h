/* The client protocols that the load generator speaks: what is sent, and what the text of a received frame holds. */
#ifndef CODEC_H
#define CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "payload.h"
#include "text.h"

/* Numbers of the first two commands of a connection; those of publishes follow. */
enum { CONNECT_ID = 1, SUBSCRIBE_ID = 2, FIRST_PUBLISH_ID = 3 };

enum item_kind { ITEM_NONE, ITEM_PING, ITEM_REPLY, ITEM_ERROR, ITEM_DELIVERY };

struct item {
    enum item_kind kind;
    uint32_t id;        /* of ITEM_REPLY and ITEM_ERROR: the command's */
    struct stamp stamp; /* of ITEM_DELIVERY */
};

/* Functions that write a command return its length; it never exceeds `size`, or the process ends. */
struct codec {
    const char *name;
    const char *target;  /* of the upgrade request */
    const char *headers; /* of the upgrade request, beside the usual ones */
    const char *pong;    /* what answers ITEM_PING */
    size_t (*connect)(char *out, size_t size, const char *token);
    size_t (*subscribe)(char *out, size_t size, const char *channel);
    size_t (*publish)(char *out, size_t size, uint32_t id, const char *channel, struct text data);
    /* Read one item from the start of a frame's text, and return how long it was. */
    size_t (*read)(const char *text, size_t length, struct item *item);
};

/* The codec of that name; ends the process when there is none. */
const struct codec *codec_named(const char *name);

#endif
