/* Adaptive spinning: looking a little longer before sleeping, while that pays.
 *
 * A sleep and the wake-up after it cost a certain time on this machine. Looking for about that long
 * first costs as much again when nothing comes, and saves it, in latency and in CPU, when something
 * does. A spin lasts up to two such costs: the peer may have been asleep itself when it was asked,
 * and what it answers takes its wake-up and some work. With less, two peers that have once begun to
 * sleep would do so for ever, each because the other does; this way one finds the other's answer
 * while it looks, then the other finds the next question at once, and both stay awake.
 *
 * Spins are made only while enough of the recent waits gain by it. That is learned from every wait,
 * also from those that slept: it counts as a gain when it was no longer than a spin, the peer's and
 * our own wake-up. Where all are busy a wake-up takes longer than it took when the cost was
 * measured; so a wait counts, too, that was at most half as long as those with a sleep in them were
 * lately.
 *
 * Most waits of a steady stream are shorter than that, and some much longer: a clock tick, a flush
 * of the log. Who sleeps in these pays for it, and so does its peer, which is kept waiting longer
 * for it. So once most waits gain, a spin lasts up to the longest wait that does, its share; and
 * what shorter ones leave of their shares is saved up, to a limit, for those that take longer.
 *
 * Where the peer has more to do than that, its answer always comes too late as long as it sleeps in
 * between, and it sleeps because we are late. So now and then there is a trial: for some waits in a
 * row we look as long as waits with a sleep in them took lately. The peer then waits for its own
 * wake-up only, finds that spinning gains, stays awake, and its answers come in time from then on.
 * A trial that changes nothing makes the next one rarer, unless a long pause ended it, and none is
 * made while waits are long anyway.
 *
 * The cost is taken from how late a thread is that sleeps until a timer is due: the same way from
 * an interrupt through the scheduler as of a wake-up by a peer, which one thread alone cannot time.
 * (What system calls cost says little about it: an emulated processor makes them in 0.6 us, and
 * wakes up in 100.)
 *
 * When more threads want to run than there are cores, and this one is kept waiting for its own, the
 * peer may be waiting for this very core: then there is no spin at all. */
#include "rdma/core/spin.h"

#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    COST_ROUNDS = 5,
    COST_SLEEP_NS = 30 * 1000,
    COST_NS_MIN = 5000,
    COST_NS_MAX = 150 * 1000,
    SPIN_COSTS = 2,
    GAIN_COSTS = SPIN_COSTS + 2, /* a wait that takes no more is one that a spin shortens, … */
    GAIN_COSTS_MAX = 8,          /* … or no more than this where sleeping takes twice as long */
    SAVED_COSTS_MAX = 16,
    GAIN_ONE = 65536,
    GAIN_STEP = 16,     /* a new wait weighs 1/16 */
    GAIN_MIN_SHARE = 4, /* spin while at least 1/4 of the waits gain */
    TRIAL_WAITS = 32,
    TRIAL_NS_MAX = 2 * 1000 * 1000, /* how long to look in a trial; none while waits are longer */
    SLEPT_STEP = 8,                 /* a new wait weighs 1/8 in their average */
    TRIAL_GAP_MIN = 16,             /* waits until the next */
    TRIAL_GAP_MAX = 1024,
};

static uint64_t clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* How late a sleeper is, in nanoseconds: the second best of some, as the machine may be busy. It
 * takes a moment, and is the same for all ports of a process. */
static uint64_t cost_measure(void)
{
    static atomic_uint_fast64_t known;
    if (atomic_load_explicit(&known, memory_order_relaxed)) return known;
    uint64_t best = COST_NS_MAX, second = COST_NS_MAX;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd < 0) return COST_NS_MIN;
    for (unsigned i = 0; i < COST_ROUNDS; i++) {
        uint64_t due = clock_ns() + COST_SLEEP_NS, expirations;
        struct itimerspec setting = {.it_value = {.tv_sec = (time_t)(due / 1000000000u),
                                                  .tv_nsec = (long)(due % 1000000000u)}};
        if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &setting, NULL)) break;
        if (read(fd, &expirations, sizeof(expirations)) < 0) break;
        uint64_t now = clock_ns(), late = now > due ? now - due : 0;
        if (late < best) {
            second = best;
            best = late;
        } else if (late < second) {
            second = late;
        }
    }
    close(fd);
    if (second < COST_NS_MIN) second = COST_NS_MIN;
    atomic_store_explicit(&known, second, memory_order_relaxed);
    return second;
}

void spin_init(struct spin *spin, enum port_spin mode)
{
    *spin = (struct spin){.mode = mode,
                          .gain = GAIN_ONE / 2,
                          .trial_gap = TRIAL_GAP_MIN,
                          .trial_waits = TRIAL_GAP_MIN,
                          .crowd = {.fd = -1}};
    if (mode != PORT_SPIN_ADAPTIVE) return;
    spin->cost_ns = cost_measure();
    crowd_init(&spin->crowd);
}

void spin_fini(struct spin *spin)
{
    crowd_fini(&spin->crowd);
}

static void trial_count(struct spin *spin, uint64_t waited)
{
    bool gains = spin->gain >= GAIN_ONE / GAIN_MIN_SHARE;
    if (spin->trial_left) {
        bool ended = waited > 2 * TRIAL_NS_MAX;
        spin->trial_left = ended ? 0 : spin->trial_left - 1;
        if (spin->trial_left) return;
        spin->trial_waits = 0;
        if (gains)
            spin->trial_gap = TRIAL_GAP_MIN;
        else if (!ended)
            spin->trial_gap *= 2;
        if (spin->trial_gap > TRIAL_GAP_MAX) spin->trial_gap = TRIAL_GAP_MAX;
    } else if (!gains && spin->slept_ns <= TRIAL_NS_MAX) {
        if (++spin->trial_waits >= spin->trial_gap) spin->trial_left = TRIAL_WAITS;
    }
}

/* How long a wait takes at most that gains. */
static uint64_t share_ns(const struct spin *spin)
{
    uint64_t least = GAIN_COSTS * spin->cost_ns;
    uint64_t most = GAIN_COSTS_MAX * spin->cost_ns;
    uint64_t half = spin->slept_ns / 2;
    if (half < least) return least;
    return half < most ? half : most;
}

/* What this wait left of its share is there for later ones. */
static void savings_count(struct spin *spin, uint64_t waited, uint64_t share)
{
    uint64_t looked = waited < spin->budget_ns ? waited : spin->budget_ns;
    uint64_t had = spin->saved_ns + (waited <= share ? share : 0);
    uint64_t left = had > looked ? had - looked : 0;
    uint64_t most = SAVED_COSTS_MAX * spin->cost_ns;
    spin->saved_ns = left < most ? left : most;
}

void spin_found(struct spin *spin, uint64_t now_ns)
{
    if (!spin->idle_ns) return;
    uint64_t waited = now_ns > spin->idle_ns ? now_ns - spin->idle_ns : 0;
    spin->idle_ns = 0;
    spin->gain -= spin->gain / GAIN_STEP;
    uint64_t share = share_ns(spin);
    if (waited <= share) spin->gain += GAIN_ONE / GAIN_STEP;
    savings_count(spin, waited, share);
    if (waited > spin->budget_ns) {
        uint64_t counted = waited < 4 * TRIAL_NS_MAX ? waited : 4 * TRIAL_NS_MAX;
        spin->slept_ns += counted / SLEPT_STEP;
        spin->slept_ns -= spin->slept_ns / SLEPT_STEP;
    }
    trial_count(spin, waited);
}

uint64_t spin_budget_ns(struct spin *spin, uint64_t now_ns)
{
    if (spin->mode == PORT_SPIN_ALWAYS) return UINT64_MAX;
    if (spin->mode == PORT_SPIN_NEVER) return 0;
    spin->budget_ns = 0;
    if (!spin->trial_left && spin->gain < GAIN_ONE / GAIN_MIN_SHARE) return 0;
    if (crowd_is_there(&spin->crowd, now_ns)) return 0;
    /* With less than the share, waits that are a little shorter than it would not be found once
     * savings are spent, and nothing could be saved any more. */
    bool most_gain = spin->gain >= GAIN_ONE / 2;
    spin->budget_ns = most_gain ? share_ns(spin) : SPIN_COSTS * spin->cost_ns;
    if (spin->saved_ns > spin->budget_ns) spin->budget_ns = spin->saved_ns;
    if (spin->trial_left && spin->slept_ns > spin->budget_ns)
        spin->budget_ns = spin->slept_ns < TRIAL_NS_MAX ? spin->slept_ns : TRIAL_NS_MAX;
    return spin->budget_ns;
}
