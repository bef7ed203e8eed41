#include "stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum handshake stream_handshake(const struct stream *stream)
{
    if (stream->tls == NULL || tls_handshake(stream->tls))
        return HANDSHAKE_DONE;
    return errno == EAGAIN ? HANDSHAKE_GOES_ON : HANDSHAKE_BROKEN;
}

ssize_t stream_read(const struct stream *stream, void *data, size_t size)
{
    return stream->tls == NULL ? read(stream->fd, data, size) : tls_read(stream->tls, data, size);
}

ssize_t stream_write(const struct stream *stream, const void *data, size_t length)
{
    if (stream->tls == NULL)
        return send(stream->fd, data, length, MSG_NOSIGNAL);
    return tls_write(stream->tls, data, length);
}

bool stream_holds(const struct stream *stream)
{
    return stream->tls != NULL && tls_holds(stream->tls);
}

bool stream_flush(const struct stream *stream, struct bytes *pending)
{
    size_t written = 0;
    while (written < pending->length) {
        ssize_t got = stream_write(stream, pending->data + written, pending->length - written);
        if (got < 0 && errno != EAGAIN)
            return false;
        if (got < 0)
            break;
        written += (size_t)got;
    }
    bytes_drop(pending, written);
    return true;
}

void stream_close(struct stream *stream)
{
    if (stream->tls != NULL)
        tls_free(stream->tls);
    if (stream->fd >= 0)
        close(stream->fd);
    *stream = (struct stream){.fd = -1};
}
