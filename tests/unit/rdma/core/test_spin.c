/* Adaptive spinning, with time that the test makes up. */
#include <criterion/criterion.h>

#include "rdma/core/spin.h"

enum { COST = 10000, SECOND = 1000000000 };

static void spin_make(struct spin *spin)
{
    spin_init(spin, PORT_SPIN_ADAPTIVE);
    spin_fini(spin); /* how crowded this machine is must not matter */
    spin->cost_ns = COST;
}

/* One wait for something that comes `arrival` after it began, where a wake-up takes `wake`: returns
 * how long it took, *spun how much of it was spent looking. */
static uint64_t wait_for(struct spin *spin, uint64_t *now, uint64_t arrival, uint64_t wake,
                         uint64_t *spun)
{
    spin_idle(spin, *now);
    uint64_t budget = spin_budget_ns(spin, *now);
    uint64_t took = arrival <= budget ? arrival : arrival + wake;
    *spun = arrival <= budget ? arrival : budget;
    *now += took;
    spin_found(spin, *now);
    return took;
}

/* Two peers that ask and answer, each working for `work`: how long the last round trip took. */
static uint64_t talk(struct spin *a, struct spin *b, uint64_t work, uint64_t wake, unsigned rounds)
{
    uint64_t now = SECOND, spun, trip = 2 * (work + wake);
    uint64_t b_takes = wake; /* how late b sees a question */
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t a_took = wait_for(a, &now, b_takes + work, wake, &spun);
        /* b waits from its answer to the next question. */
        uint64_t a_late = a_took - (b_takes + work);
        uint64_t question = a_late + work, b_now = now;
        uint64_t b_took = wait_for(b, &b_now, question, wake, &spun);
        b_takes = b_took - question;
        trip = a_took + work;
    }
    return trip;
}

Test(spin, short_waits_are_looked_for)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, took = 0;
    for (unsigned i = 0; i < 100; i++)
        took = wait_for(&spin, &now, COST / 2, COST, &spun);
    cr_assert_eq(took, COST / 2);
}

Test(spin, long_waits_are_slept_through)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, total = 0;
    for (unsigned i = 0; i < 10000; i++) {
        wait_for(&spin, &now, 1000 * COST, COST, &spun);
        total += spun;
    }
    cr_assert_lt(total, 30 * 2 * COST, "only until it had learned: %lu", total);
}

Test(spin, two_sleepers_wake_each_other_up_for_good)
{
    struct spin a, b;
    spin_make(&a);
    spin_make(&b);
    a.gain = b.gain = 0;
    uint64_t trip = talk(&a, &b, COST / 4, COST, 200);
    cr_assert_eq(trip, 2 * (COST / 4), "%lu", trip);
}

/* A clock tick, or a flush of the log, makes a wait far longer now and then. */
Test(spin, rare_long_waits_of_a_stream_are_looked_through)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, took;
    for (unsigned i = 1; i < 1000; i++) {
        uint64_t arrival = i % 25 ? 2 * COST : 15 * COST;
        took = wait_for(&spin, &now, arrival, COST, &spun);
        if (i >= 25) cr_assert_eq(took, arrival, "wait %u took %lu", i, took);
    }
    wait_for(&spin, &now, 100 * COST, COST, &spun);
    cr_assert_eq(spun, 16 * COST, "when the stream ends, no longer: %lu", spun);
}

/* What is saved is spent once, and where nothing is saved looking costs what it did. */
Test(spin, looking_costs_no_more_than_the_share_of_waits_that_gain)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, total = 0;
    enum { WAITS = 10000 };
    for (unsigned i = 0; i < WAITS; i++) {
        wait_for(&spin, &now, i % 2 ? COST : 300 * COST, COST, &spun);
        total += spun;
    }
    cr_assert_leq(total, (uint64_t)WAITS / 2 * (8 + 2) * COST, "%lu", total);
}

/* On a machine where waking up takes longer than it did when its cost was measured. */
Test(spin, what_is_much_shorter_than_waits_with_a_sleep_is_looked_for)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, took = 0;
    for (unsigned i = 0; i < 200; i++)
        took = wait_for(&spin, &now, 5 * COST, 10 * COST, &spun);
    cr_assert_eq(took, 5 * COST, "%lu", took);
    spin_make(&spin);
    for (unsigned i = 0; i < 2000; i++)
        wait_for(&spin, &now, 5 * COST, 2 * COST, &spun);
    uint64_t total = 0;
    for (unsigned i = 0; i < 1000; i++) {
        wait_for(&spin, &now, 5 * COST, 2 * COST, &spun);
        total += spun;
    }
    cr_assert_lt(total, 1000 * COST / 4, "where sleeping costs little more: %lu", total);
}

/* With that much work a spin of the usual length never lasts until a sleeper's answer. */
Test(spin, two_sleepers_with_work_to_do_wake_each_other_up_too)
{
    struct spin a, b;
    spin_make(&a);
    spin_make(&b);
    a.gain = b.gain = 0;
    uint64_t trip = talk(&a, &b, 18 * COST / 10, 2 * COST, 2000);
    cr_assert_eq(trip, 2 * (18 * COST / 10), "%lu", trip);
}

Test(spin, trials_that_change_nothing_become_rare)
{
    struct spin spin;
    spin_make(&spin);
    uint64_t now = SECOND, spun, total = 0, first = 0;
    for (unsigned i = 0; i < 20000; i++) {
        wait_for(&spin, &now, 12 * COST, COST, &spun);
        if (i == 10000) first = now;
        if (i >= 10000) total += spun;
    }
    cr_assert_lt((double)total / (double)(now - first), 0.04);
}

Test(spin, never_and_always_do_as_they_say)
{
    struct spin spin;
    spin_init(&spin, PORT_SPIN_NEVER);
    cr_assert_eq(spin_budget_ns(&spin, SECOND), 0);
    spin_init(&spin, PORT_SPIN_ALWAYS);
    cr_assert_eq(spin_budget_ns(&spin, SECOND), UINT64_MAX);
}
