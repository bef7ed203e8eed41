/* What a publication carries: {"tw":"<scheduled, ns, 16 hex digits>","s":"<sequence, 8 hex digits>","x":"<filler>"}. */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

enum { PAYLOAD_LEAST = 47, PAYLOAD_MOST = 32768 };

struct stamp {
    int64_t scheduled;
    uint32_t sequence;
};

/* Write a payload of exactly `size` bytes, PAYLOAD_LEAST to PAYLOAD_MOST. */
void payload_write(char *out, size_t size, struct stamp stamp);
/* Find the first payload in `text` and read its stamp; returns what follows the stamp, NULL when there is none. */
const char *payload_find(const char *text, size_t length, struct stamp *stamp);

#endif
