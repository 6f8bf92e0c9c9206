/* How long a worker looks for the next request before it sleeps. */
#include <criterion/criterion.h>

#include "db/node/watch_spin.h"

enum { US = 1000, MS = 1000 * 1000 };

/* A request at *now, handled at once; then looks every microsecond for up to `quiet` nanoseconds
 * until the next request. How long it looked. */
static uint64_t serve(struct watch_spin *spin, uint64_t *now, uint64_t quiet)
{
    watch_spin_found(spin, *now);
    uint64_t looked = 0;
    while (looked < quiet && watch_spin_again(spin, *now + looked))
        looked += US;
    *now += quiet;
    return looked;
}

Test(watch_spin, goes_on_looking_while_requests_follow_each_other)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    uint64_t now = MS;
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(serve(&spin, &now, 20 * US), 20 * US, "request %d", i);
}

Test(watch_spin, sleeps_when_nothing_was_found_since)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    cr_assert_not(watch_spin_again(&spin, 5 * MS));
    uint64_t now = 10 * MS;
    uint64_t looked = serve(&spin, &now, 10 * MS);
    cr_assert(looked >= 40 * US && looked <= 100 * US, "one spin is bounded");
    for (int i = 0; i < 1000; i++)
        cr_assert_not(watch_spin_again(&spin, now + (uint64_t)i * MS));
}

Test(watch_spin, costs_little_where_it_finds_nothing)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    uint64_t now = MS;
    uint64_t looked = 0;
    for (int i = 0; i < 20000; i++)
        looked += serve(&spin, &now, 300 * US);
    /* A five-hundredth of six seconds. */
    cr_assert_lt(looked, UINT64_C(12) * MS);
    cr_assert_gt(looked, 0);
}

Test(watch_spin, forgives_a_failure_now_and_then)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    uint64_t now = MS;
    for (int i = 0; i < 100; i++)
        (void)serve(&spin, &now, 10 * US);
    for (int round = 0; round < 50; round++) {
        (void)serve(&spin, &now, 400 * US);
        for (int i = 0; i < 20; i++)
            cr_assert_eq(serve(&spin, &now, 10 * US), 10 * US);
    }
}

Test(watch_spin, comes_back_when_requests_follow_each_other_again)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    uint64_t now = MS;
    for (int i = 0; i < 5000; i++)
        (void)serve(&spin, &now, 300 * US);
    uint64_t begin = now;
    while (serve(&spin, &now, 10 * US) == 0)
        cr_assert_lt(now - begin, 300 * MS);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(serve(&spin, &now, 10 * US), 10 * US);
}

Test(watch_spin, ends_where_others_take_the_core)
{
    struct watch_spin spin;
    watch_spin_init(&spin);
    uint64_t now = MS;
    unsigned spins = 0;
    for (int i = 0; i < 1000; i++) {
        watch_spin_found(&spin, now);
        now += US;
        if (!watch_spin_again(&spin, now)) {
            now += 10 * US;
            continue;
        }
        spins++;
        now += 3 * MS; /* a time slice of somebody else's; meanwhile the request has come */
    }
    cr_assert_lt(spins, 20);
}
