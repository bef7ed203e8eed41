/* WebSocket framing (RFC 6455 section 5) and the upgrade with a constant key. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bytes.h"

/* The key and answer of RFC 6455 section 1.3: with one key for all nobody has to hash. */
#define WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum { WS_MAX_HEADER = 14 };

struct ws_frame {
    enum ws_opcode opcode;
    bool final;
    bool compressed; /* RSV1 (RFC 7692 section 6) */
    char *payload;
    size_t length;
};

/* Read the frame at the start of `data`, and unmask it in place. Returns its size with its header, 0 when its end has
 * not come yet, -1 when it is malformed: RSV2 or RSV3, or a mask where there must be none or the other way round. */
ssize_t ws_parse(char *data, size_t length, bool masked, struct ws_frame *frame);
/* Write the header of an unmasked frame; returns its size, at most WS_MAX_HEADER. */
size_t ws_header(char *out, enum ws_opcode opcode, size_t length);
/* Append a frame masked with `key`, as a client must send it. */
void ws_append_masked(struct bytes *out, enum ws_opcode opcode, const char *payload, size_t length, uint32_t key);
/* The size of an HTTP head (up to and with its blank line) at the start of `data`; 0 when its end has not come yet. */
size_t ws_head(const char *data, size_t length);

#endif
