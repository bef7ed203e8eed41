/* A growing run of bytes: output that a socket did not take yet, or the head of a frame whose rest has not come. */
#ifndef BYTES_H
#define BYTES_H

#include <stddef.h>

struct bytes {
    char *data;
    size_t length;
    size_t capacity;
};

/* Make room for `more` bytes and return where they go; the caller adds to `length`. Ends the process without memory. */
char *bytes_room(struct bytes *bytes, size_t more);
void bytes_append(struct bytes *bytes, const void *data, size_t length);
/* Forget the first `length` bytes. */
void bytes_drop(struct bytes *bytes, size_t length);
/* Forget all, and give the memory back. */
void bytes_free(struct bytes *bytes);

#endif
