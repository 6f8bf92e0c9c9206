/* Latency histogram with a bounded relative error, after HdrHistogram: buckets of powers of two,
 * each in 64 linear parts (error at most 1/64), from 1 ns to about 9 minutes; larger values count
 * in the last. */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdint.h>

enum { HIST_PARTS = 64, HIST_POWERS = 34, HIST_BUCKETS = HIST_PARTS * HIST_POWERS };

struct hist {
    uint64_t counts[HIST_BUCKETS];
    uint64_t count;
    uint64_t sum;
    uint64_t min;
    uint64_t max;
};

void hist_init(struct hist *hist);
void hist_add(struct hist *hist, uint64_t value);
void hist_merge(struct hist *into, const struct hist *from);
/* The value below which the share (0..1) of all values lies; 0 for an empty histogram. */
uint64_t hist_quantile(const struct hist *hist, double share);

#endif
