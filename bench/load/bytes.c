#include "bytes.h"

#include <stdlib.h>
#include <string.h>

#include "die.h"

char *bytes_room(struct bytes *bytes, size_t more)
{
    size_t needed = bytes->length + more;
    if (needed > bytes->capacity) {
        bytes->capacity = needed < 256 ? 256 : needed * 2;
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (bytes->data == NULL)
            die("out of memory");
    }
    return bytes->data + bytes->length;
}

void bytes_append(struct bytes *bytes, const void *data, size_t length)
{
    if (length > 0) {
        memcpy(bytes_room(bytes, length), data, length);
        bytes->length += length;
    }
}

void bytes_drop(struct bytes *bytes, size_t length)
{
    bytes->length -= length;
    if (bytes->length > 0)
        memmove(bytes->data, bytes->data + length, bytes->length);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}
