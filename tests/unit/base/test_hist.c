/* The histogram: bounded error over the whole range, exact ends. */
#include "base/hist.h"

#include <criterion/criterion.h>

static struct hist hist, other;

Test(hist, empty_has_quantile_zero)
{
    hist_init(&hist);
    cr_assert_eq(hist_quantile(&hist, 0.5), 0);
    cr_assert_eq(hist.count, 0);
}

Test(hist, every_value_is_within_a_64th)
{
    for (uint64_t value = 1; value < (uint64_t)1 << 39; value += 1 + value / 7) {
        hist_init(&hist);
        hist_add(&hist, value);
        hist_add(&hist, UINT64_MAX); /* so that max does not clamp the answer */
        uint64_t got = hist_quantile(&hist, 0.5);
        cr_assert_geq(got, value);
        cr_assert_leq(got - value, value / 64, "value %llu got %llu", (unsigned long long)value,
                      (unsigned long long)got);
    }
}

Test(hist, buckets_do_not_overlap)
{
    /* Around each power of two the order of values is the order of their buckets. */
    for (unsigned bit = 1; bit < 39; bit++) {
        uint64_t at = (uint64_t)1 << bit;
        hist_init(&hist);
        hist_add(&hist, at - 1);
        hist_add(&hist, at);
        hist_add(&hist, UINT64_MAX);
        uint64_t low = hist_quantile(&hist, 1.0 / 3);
        uint64_t high = hist_quantile(&hist, 2.0 / 3);
        cr_assert_eq(low, at - 1, "the bucket below a power of two ends at it");
        cr_assert_geq(high, at);
    }
}

Test(hist, quantiles_of_a_uniform_range)
{
    hist_init(&hist);
    for (uint64_t i = 1; i <= 100000; i++)
        hist_add(&hist, i);
    cr_assert_eq(hist.min, 1);
    cr_assert_eq(hist.max, 100000);
    cr_assert_eq(hist.sum, (uint64_t)100000 * 100001 / 2);
    cr_assert_eq(hist_quantile(&hist, 0), 1);
    cr_assert_eq(hist_quantile(&hist, 1), 100000);
    uint64_t median = hist_quantile(&hist, 0.5);
    cr_assert(median >= 50000 && median <= 50000 + 50000 / 64);
    uint64_t p999 = hist_quantile(&hist, 0.999);
    cr_assert(p999 >= 99900 && p999 <= 100000);
}

Test(hist, values_beyond_the_range_count_in_the_last_bucket)
{
    hist_init(&hist);
    hist_add(&hist, UINT64_MAX);
    hist_add(&hist, (uint64_t)1 << 40);
    cr_assert_eq(hist.counts[HIST_BUCKETS - 1], 2);
    cr_assert_eq(hist_quantile(&hist, 0.5), UINT64_MAX);
}

Test(hist, merge_equals_adding_all)
{
    hist_init(&hist);
    hist_init(&other);
    static struct hist both;
    hist_init(&both);
    for (uint64_t i = 0; i < 1000; i++) {
        hist_add(i & 1 ? &hist : &other, i * i);
        hist_add(&both, i * i);
    }
    hist_merge(&hist, &other);
    cr_assert_eq(hist.count, both.count);
    cr_assert_eq(hist.sum, both.sum);
    cr_assert_eq(hist.min, both.min);
    cr_assert_eq(hist.max, both.max);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        cr_assert_eq(hist.counts[i], both.counts[i]);
}
