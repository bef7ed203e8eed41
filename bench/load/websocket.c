#include "websocket.h"

#include <string.h>

enum { FINAL = 0x80, COMPRESSED = 0x40, RESERVED = 0x30, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f };

static void mask(char *data, size_t length, uint32_t key)
{
    uint64_t both = (uint64_t)key << 32 | key;
    size_t at = 0;
    for (uint64_t word; at + sizeof word <= length; at += sizeof word) {
        memcpy(&word, data + at, sizeof word);
        word ^= both;
        memcpy(data + at, &word, sizeof word);
    }
    for (const char *bytes = (const char *)&key; at < length; at++)
        data[at] ^= bytes[at % sizeof key];
}

/* The payload's length, whose field ends at `*at` then; -1 when that has not come yet. */
static int64_t payload_length(const char *data, size_t length, size_t *at)
{
    unsigned small = (uint8_t)data[1] & LENGTH;
    size_t extra = small == 126 ? 2 : small == 127 ? 8 : 0;
    if (length < *at + extra)
        return -1;
    uint64_t size = extra == 0 ? small : 0;
    for (size_t i = 0; i < extra; i++)
        size = size << 8 | (uint8_t)data[*at + i];
    *at += extra;
    return (int64_t)(size & INT64_MAX);
}

ssize_t ws_parse(char *data, size_t length, bool masked, struct ws_frame *frame)
{
    size_t at = 2;
    uint32_t key = 0;
    if (length < at)
        return 0;
    if (data[0] & RESERVED || (((uint8_t)data[1] & MASKED) != 0) != masked)
        return -1;
    int64_t size = payload_length(data, length, &at);
    if (size < 0 || length < at + (masked ? sizeof key : 0) + (uint64_t)size)
        return 0;
    if (masked) {
        memcpy(&key, data + at, sizeof key);
        at += sizeof key;
        mask(data + at, (size_t)size, key);
    }
    *frame = (struct ws_frame){
        .opcode = data[0] & OPCODE,
        .final = (data[0] & FINAL) != 0,
        .compressed = (data[0] & COMPRESSED) != 0,
        .payload = data + at,
        .length = (size_t)size,
    };
    return (ssize_t)(at + (size_t)size);
}

static size_t header(char *out, enum ws_opcode opcode, size_t length, unsigned masked)
{
    size_t extra = length < 126 ? 0 : length < 65536 ? 2 : 8;
    out[0] = (char)(FINAL | opcode);
    out[1] = (char)(masked | (extra == 0 ? length : extra == 2 ? 126 : 127));
    for (size_t i = 0; i < extra; i++)
        out[2 + i] = (char)(length >> 8 * (extra - 1 - i));
    return 2 + extra;
}

size_t ws_header(char *out, enum ws_opcode opcode, size_t length)
{
    return header(out, opcode, length, 0);
}

void ws_append_masked(struct bytes *out, enum ws_opcode opcode, const char *payload, size_t length, uint32_t key)
{
    char *start = bytes_room(out, WS_MAX_HEADER + length);
    size_t at = header(start, opcode, length, MASKED);
    memcpy(start + at, &key, sizeof key);
    at += sizeof key;
    memcpy(start + at, payload, length);
    mask(start + at, length, key);
    out->length += at + length;
}

size_t ws_head(const char *data, size_t length)
{
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - data) + 4;
}
