/* Adaptive looking: who serves a stream of requests, each sent when the one before was answered,
 * sleeps and is woken for each of them, and that is most of what a request costs. So the loop goes
 * on looking for a moment, SPIN_NS, after a request, while that finds the next one.
 *
 * A spin that finds nothing was for nothing, and may have kept the core from the one that would
 * have sent the request. Each costs FAILURE_COST of a credit that successes add to; without credit
 * there is one spin after a pause, which doubles with each that fails. So what is lost stays small:
 * a worker that is used now and then spins for SPIN_NS in a tenth of a second at most, an idle one
 * never.
 *
 * Between two looks the loop offers its core to others. When it comes back so late that a wake-up
 * would have been quicker, the core is wanted by those who have nothing to do with us, and the spin
 * counts as failed even when a request is there. And when more threads want to run than there are
 * cores, and this one is kept waiting, there is no spin: a thread that only ever looks has used up
 * what the scheduler grants it, and waits behind the others when its request comes, while one that
 * slept is run at once. */
#include "db/node/watch_spin.h"

enum { CREDIT_MAX = 64, FAILURE_COST = 8 };
static const uint64_t spin_ns = 50 * 1000; /* about what a wake-up costs in a virtual machine */
static const uint64_t late_ns = 200 * 1000;
static const uint64_t pause_ns_min = 1000 * 1000;
static const uint64_t pause_ns_max = 128 * 1000 * 1000;

void watch_spin_init(struct watch_spin *spin)
{
    *spin = (struct watch_spin){.pause_ns = pause_ns_min, .crowd = {.fd = -1}};
}

static void failed(struct watch_spin *spin, uint64_t now_ns)
{
    spin->credit -= FAILURE_COST;
    if (spin->credit > 0) return;
    spin->credit = 0;
    spin->until_ns = now_ns + spin->pause_ns;
    if (spin->pause_ns < pause_ns_max) spin->pause_ns *= 2;
}

void watch_spin_found(struct watch_spin *spin, uint64_t now_ns)
{
    spin->armed = true;
    if (!spin->begin_ns) return;
    if (now_ns - spin->begin_ns > late_ns) {
        failed(spin, now_ns);
    } else {
        spin->pause_ns = pause_ns_min;
        if (spin->credit < CREDIT_MAX) spin->credit++;
    }
    spin->begin_ns = 0;
}

bool watch_spin_again(struct watch_spin *spin, uint64_t now_ns)
{
    if (!spin->armed) return false;
    if (!spin->begin_ns) {
        if (now_ns < spin->until_ns || crowd_is_there(&spin->crowd, now_ns)) return false;
        spin->begin_ns = now_ns;
        return true;
    }
    if (now_ns - spin->begin_ns < spin_ns) return true;
    failed(spin, now_ns);
    spin->begin_ns = 0;
    spin->armed = false;
    return false;
}
