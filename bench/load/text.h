/* Bytes inside a buffer of somebody else. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

struct text {
    const char *start;
    size_t length;
};

#endif
