/* Decompressing messages of permessage-deflate (RFC 7692) without context takeover. */
#ifndef INFLATE_H
#define INFLATE_H

#include <stddef.h>
#include <sys/types.h>

/* Inflate one message into `out`. Returns its length, -1 when it is malformed or longer than `size`. Bit by bit, which is
 * slow but short: some 50 MB/s of output. */
ssize_t inflate_message(const char *data, size_t length, char *out, size_t size);

#endif
