/* A connected socket that never blocks, plain or with TLS over it. */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "bytes.h"
#include "tls.h"

struct stream {
    int fd;
    struct tls *tls; /* NULL: plain */
};

enum handshake { HANDSHAKE_BROKEN, HANDSHAKE_GOES_ON, HANDSHAKE_DONE };

/* Carry the handshake on as far as the socket allows; a plain stream has none to do. */
enum handshake stream_handshake(const struct stream *stream);
/* As read(2) and send(2): -1 with EAGAIN in errno when the socket is not ready. */
ssize_t stream_read(const struct stream *stream, void *data, size_t size);
ssize_t stream_write(const struct stream *stream, const void *data, size_t length);
/* Whether bytes may have come that epoll does not report, as they have left the socket. */
bool stream_holds(const struct stream *stream);
/* Write what the socket takes of `pending`; false when the connection is broken. */
bool stream_flush(const struct stream *stream, struct bytes *pending);
/* Close the socket without a goodbye, and forget it. */
void stream_close(struct stream *stream);

#endif
