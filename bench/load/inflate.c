#include "inflate.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MAX_BITS = 15, LITERALS = 288, DISTANCES = 30, LENGTH_CODES = 19, END_OF_BLOCK = 256 };

/* A canonical Huffman code (RFC 1951 section 3.2.2): symbols in the order of their codes, and how many have each length. */
struct code {
    uint16_t count[MAX_BITS + 1];
    uint16_t symbols[LITERALS];
};

/* What is read, followed by the four bytes that every sender leaves out (RFC 7692 section 7.2.2), and what is written. */
struct stream {
    const unsigned char *in;
    size_t length; /* bytes */
    size_t at;     /* bits */
    char *out;
    size_t size, written;
    bool broken;
};

static unsigned bit(struct stream *stream)
{
    static const unsigned char TAIL[] = {0, 0, 0xff, 0xff};
    size_t byte = stream->at / 8, shift = stream->at % 8;
    if (byte >= stream->length + sizeof TAIL) {
        stream->broken = true;
        return 0;
    }
    stream->at++;
    return (byte < stream->length ? stream->in[byte] : TAIL[byte - stream->length]) >> shift & 1;
}

static unsigned bits(struct stream *stream, int count)
{
    unsigned value = 0;
    for (int i = 0; i < count; i++)
        value |= bit(stream) << i;
    return value;
}

static void put(struct stream *stream, char byte)
{
    if (stream->written == stream->size)
        stream->broken = true;
    else
        stream->out[stream->written++] = byte;
}

static void build(struct code *code, const uint8_t *lengths, int symbols)
{
    uint16_t offsets[MAX_BITS + 2] = {0};
    memset(code->count, 0, sizeof code->count);
    for (int symbol = 0; symbol < symbols; symbol++)
        code->count[lengths[symbol]]++;
    code->count[0] = 0;
    for (int length = 1; length <= MAX_BITS; length++)
        offsets[length + 1] = (uint16_t)(offsets[length] + code->count[length]);
    for (int symbol = 0; symbol < symbols; symbol++)
        if (lengths[symbol] != 0)
            code->symbols[offsets[lengths[symbol]]++] = (uint16_t)symbol;
}

static int decode(struct stream *stream, const struct code *code)
{
    int value = 0, first = 0, index = 0;
    for (int length = 1; length <= MAX_BITS; length++) {
        value |= (int)bit(stream);
        if (value - first < code->count[length])
            return code->symbols[index + value - first];
        index += code->count[length];
        first = (first + code->count[length]) << 1;
        value <<= 1;
    }
    stream->broken = true;
    return END_OF_BLOCK;
}

static void copy(struct stream *stream, size_t distance, unsigned length)
{
    if (distance > stream->written)
        stream->broken = true;
    for (; length > 0 && !stream->broken; length--)
        put(stream, stream->out[stream->written - distance]);
}

/* RFC 1951 section 3.2.5: a base and extra bits for each symbol of a length, from 257 on, and of a distance. */
static void read_symbols(struct stream *stream, const struct code *literals, const struct code *distances)
{
    static const uint16_t LENGTH_BASE[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t LENGTH_EXTRA[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                           2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t DISTANCE_BASE[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                             33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                             1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (int symbol; (symbol = decode(stream, literals)) != END_OF_BLOCK && !stream->broken;) {
        if (symbol < END_OF_BLOCK) {
            put(stream, (char)symbol);
            continue;
        }
        size_t at = (size_t)symbol - END_OF_BLOCK - 1;
        if (at >= sizeof LENGTH_EXTRA) {
            stream->broken = true;
            return;
        }
        unsigned length = LENGTH_BASE[at] + bits(stream, LENGTH_EXTRA[at]);
        int distance = decode(stream, distances);
        if (distance >= DISTANCES) {
            stream->broken = true;
            return;
        }
        copy(stream, DISTANCE_BASE[distance] + bits(stream, distance < 4 ? 0 : distance / 2 - 1), length);
    }
}

static void read_fixed(struct stream *stream)
{
    uint8_t lengths[LITERALS], distance_lengths[DISTANCES];
    struct code literals, distances;
    for (int symbol = 0; symbol < LITERALS; symbol++)
        lengths[symbol] = symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
    memset(distance_lengths, 5, sizeof distance_lengths);
    build(&literals, lengths, LITERALS);
    build(&distances, distance_lengths, DISTANCES);
    read_symbols(stream, &literals, &distances);
}

/* RFC 1951 section 3.2.7: the codes' own lengths come in a code of their own, with repetitions. */
static void read_dynamic(struct stream *stream)
{
    static const uint8_t ORDER[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + 32 + 138] = {0}; /* the longest repetition may overshoot */
    struct code literals, distances;
    int literal_count = (int)bits(stream, 5) + 257, distance_count = (int)bits(stream, 5) + 1;
    int all = literal_count + distance_count, codes = (int)bits(stream, 4) + 4;
    for (int i = 0; i < codes; i++)
        lengths[ORDER[i]] = (uint8_t)bits(stream, 3);
    build(&literals, lengths, LENGTH_CODES);
    memset(lengths, 0, LENGTH_CODES);
    for (int at = 0; at < all && !stream->broken;) {
        int symbol = decode(stream, &literals);
        if (symbol < 16) {
            lengths[at++] = (uint8_t)symbol;
            continue;
        }
        uint8_t repeated = symbol == 16 && at > 0 ? lengths[at - 1] : 0;
        int extra = symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
        int times = (symbol == 18 ? 11 : 3) + (int)bits(stream, extra);
        memset(lengths + at, repeated, (size_t)times);
        at += times;
    }
    if (literal_count > LITERALS || stream->broken) {
        stream->broken = true;
        return;
    }
    build(&literals, lengths, literal_count);
    build(&distances, lengths + literal_count, distance_count);
    read_symbols(stream, &literals, &distances);
}

static void read_stored(struct stream *stream)
{
    stream->at = (stream->at + 7) / 8 * 8;
    unsigned length = bits(stream, 16);
    if ((length ^ bits(stream, 16)) != 0xffff)
        stream->broken = true;
    for (; length > 0 && !stream->broken; length--)
        put(stream, (char)bits(stream, 8));
}

ssize_t inflate_message(const char *data, size_t length, char *out, size_t size)
{
    struct stream stream = {.in = (const unsigned char *)data, .length = length, .out = out, .size = size};
    bool last = false;
    while (!last && !stream.broken && stream.at < 8 * (length + 4)) {
        last = bit(&stream);
        switch (bits(&stream, 2)) {
        case 0:
            read_stored(&stream);
            break;
        case 1:
            read_fixed(&stream);
            break;
        case 2:
            read_dynamic(&stream);
            break;
        default:
            stream.broken = true;
        }
    }
    return stream.broken ? -1 : (ssize_t)stream.written;
}
