#include "payload.h"

#include <string.h>

#define OPENING "{\"tw\":\""
#define BETWEEN "\",\"s\":\""
#define FILLER "\",\"x\":\""
#define CLOSING "\"}"
enum { TIME_DIGITS = 16, SEQUENCE_DIGITS = 8 };
enum { STAMP_SIZE = sizeof OPENING - 1 + TIME_DIGITS + sizeof BETWEEN - 1 + SEQUENCE_DIGITS };

static char *put_text(char *out, const char *text)
{
    size_t length = strlen(text);
    memcpy(out, text, length);
    return out + length;
}

static char *put_hex(char *out, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15];
    return out + digits;
}

static uint64_t read_hex(const char *text, int digits)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) /* 'a' & 15 is 1, and only letters have the bit 64 */
        value = value << 4 | (uint64_t)((text[i] & 15) + (text[i] & 64 ? 9 : 0));
    return value;
}

/* Letters that do not repeat, so that compression finds in them what it finds in words rather than in a run. */
static void fill(char *out, size_t size)
{
    uint32_t state = 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = (char)('a' + (state >> 16) % 26);
    }
}

void payload_write(char *out, size_t size, struct stamp stamp)
{
    char *at = put_text(out, OPENING);
    at = put_hex(at, (uint64_t)stamp.scheduled, TIME_DIGITS);
    at = put_text(at, BETWEEN);
    at = put_hex(at, stamp.sequence, SEQUENCE_DIGITS);
    at = put_text(at, FILLER);
    fill(at, size - PAYLOAD_LEAST);
    put_text(at + size - PAYLOAD_LEAST, CLOSING);
}

const char *payload_find(const char *text, size_t length, struct stamp *stamp)
{
    const char *at = memmem(text, length, OPENING, sizeof OPENING - 1);
    if (at == NULL || (size_t)(text + length - at) < STAMP_SIZE)
        return NULL;
    at += sizeof OPENING - 1;
    stamp->scheduled = (int64_t)read_hex(at, TIME_DIGITS);
    at += TIME_DIGITS + sizeof BETWEEN - 1;
    stamp->sequence = (uint32_t)read_hex(at, SEQUENCE_DIGITS);
    return at + SEQUENCE_DIGITS;
}
