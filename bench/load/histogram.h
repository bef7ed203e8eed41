/* A log-linear histogram as HdrHistogram's: each power of two is cut into 128 buckets, so values are off by < 0.8 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
    uint64_t count;
    uint64_t largest;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
/* The least value, to a bucket's precision, that a share `quantile` (0 to 1) does not exceed; 0 if there is none. */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
