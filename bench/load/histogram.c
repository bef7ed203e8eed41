#include "histogram.h"

#include <string.h>

enum { LINEAR = 1 << HISTOGRAM_BITS };

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

static unsigned bucket_of(uint64_t value)
{
    if (value < LINEAR)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    return ((shift + 1) << HISTOGRAM_BITS) + (unsigned)(value >> shift) - LINEAR;
}

static uint64_t largest_in(unsigned bucket)
{
    if (bucket < LINEAR)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_BITS) - 1;
    uint64_t mantissa = (bucket & (LINEAR - 1)) + LINEAR;
    return ((mantissa + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[bucket_of(value)]++;
    if (value > histogram->largest)
        histogram->largest = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    double needed = quantile * (double)histogram->count;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS && histogram->count > 0; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen > 0 && (double)seen >= needed) {
            uint64_t value = largest_in(bucket);
            return value < histogram->largest ? value : histogram->largest;
        }
    }
    return 0;
}
