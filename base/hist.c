/* The histogram's buckets.
 *
 * Values below HIST_PARTS have a bucket each (power 0). A larger value with its highest bit at
 * position b >= 6 belongs to power b - 5 and there to the part that its six bits after the highest
 * name: buckets of power p >= 1 are 2^(p-1) wide and start at 2^(p+5). The last power is 33, so
 * values from 2^39 ns (9.2 minutes) count in the last bucket. */
#include "base/hist.h"

#include <string.h>

enum { PART_BITS = 6 };
_Static_assert(HIST_PARTS == 1 << PART_BITS, "parts are a power of two");

static unsigned bucket_of(uint64_t value)
{
    if (value < HIST_PARTS) return (unsigned)value;
    unsigned high_bit = 63u - (unsigned)__builtin_clzll(value);
    unsigned power = high_bit - PART_BITS + 1;
    if (power >= HIST_POWERS) return HIST_BUCKETS - 1;
    unsigned part = (unsigned)(value >> (power - 1)) - HIST_PARTS;
    return power * HIST_PARTS + part;
}

/* The largest value that counts in the bucket. */
static uint64_t bucket_last(unsigned bucket)
{
    unsigned power = bucket / HIST_PARTS;
    uint64_t part = bucket % HIST_PARTS;
    if (power == 0) return part;
    return ((part + HIST_PARTS + 1) << (power - 1)) - 1;
}

void hist_init(struct hist *hist)
{
    memset(hist, 0, sizeof(*hist));
    hist->min = UINT64_MAX;
}

void hist_add(struct hist *hist, uint64_t value)
{
    hist->counts[bucket_of(value)]++;
    hist->count++;
    hist->sum += value;
    if (value < hist->min) hist->min = value;
    if (value > hist->max) hist->max = value;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->count += from->count;
    into->sum += from->sum;
    if (from->min < into->min) into->min = from->min;
    if (from->max > into->max) into->max = from->max;
}

uint64_t hist_quantile(const struct hist *hist, double share)
{
    if (hist->count == 0) return 0;
    if (!(share > 0)) return hist->min;
    if (share >= 1) return hist->max;
    /* The rank of the wanted value, from 1, rounded up: the p50 of two values is the first. */
    double exact = share * (double)hist->count;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact) rank++;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += hist->counts[i];
        if (seen < rank) continue;
        uint64_t value = i == HIST_BUCKETS - 1 ? hist->max : bucket_last(i);
        if (value > hist->max) value = hist->max;
        return value < hist->min ? hist->min : value;
    }
    return hist->max;
}
