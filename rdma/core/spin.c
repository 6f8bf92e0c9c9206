/* Adaptive spinning: looking a little longer before sleeping, while that pays.
 *
 * A sleep and the wake-up after it cost a certain time on this machine. Looking for that long
 * first costs at most as much again when nothing comes, and saves it, in latency and in CPU, when
 * something does: so a spin never lasts longer than a wake-up costs, and is done only while enough
 * of the recent waits ended within that time. The share is learned from every wait, also from
 * those that slept: a wait counts as a gain when it lasted no longer than a spin and a wake-up.
 *
 * The cost is taken from what the simplest system call on the port's epoll costs here, times what
 * a wake-up by another thread costs in units of it (measured: 15 to 30 on machines from bare metal
 * to an emulated guest), because a real wake-up cannot be timed by one thread alone.
 *
 * When more threads want to run than there are cores, the peer may be waiting for this very core:
 * then there is no spin at all. The kernel's count is read at most every 100 ms, and only when a
 * spin is being considered. */
#include "rdma/core/spin.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    COST_ROUNDS = 9,
    COST_FACTOR = 20,
    COST_NS_MIN = 5000,
    COST_NS_MAX = 100 * 1000,
    GAIN_ONE = 65536,
    GAIN_STEP = 16,     /* a new wait weighs 1/16 */
    GAIN_MIN_SHARE = 4, /* spin while at least 1/4 of the waits gain */
    LOAD_INTERVAL_NS = 100 * 1000 * 1000,
};

static uint64_t clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t cost_measure(int epoll_fd)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < COST_ROUNDS; i++) {
        struct epoll_event event;
        uint64_t start = clock_ns();
        (void)epoll_wait(epoll_fd, &event, 1, 0);
        uint64_t took = clock_ns() - start;
        if (took < best) best = took;
    }
    uint64_t cost = best * COST_FACTOR;
    if (cost < COST_NS_MIN) return COST_NS_MIN;
    return cost > COST_NS_MAX ? COST_NS_MAX : cost;
}

void spin_init(struct spin *spin, enum port_spin mode, int epoll_fd)
{
    *spin = (struct spin){.mode = mode, .gain = GAIN_ONE / 2, .load_fd = -1};
    if (mode != PORT_SPIN_ADAPTIVE) return;
    spin->cost_ns = cost_measure(epoll_fd);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    spin->cores = cores > 0 ? (uint32_t)cores : 1;
    spin->load_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
}

void spin_fini(struct spin *spin)
{
    if (spin->load_fd >= 0) close(spin->load_fd);
    spin->load_fd = -1;
}

void spin_found(struct spin *spin, uint64_t now_ns)
{
    if (!spin->idle_ns) return;
    uint64_t waited = now_ns > spin->idle_ns ? now_ns - spin->idle_ns : 0;
    spin->idle_ns = 0;
    spin->gain -= spin->gain / GAIN_STEP;
    if (waited <= 2 * spin->cost_ns) spin->gain += GAIN_ONE / GAIN_STEP;
}

/* The fourth field of /proc/loadavg is RUNNABLE/ALL, this thread included. */
static bool load_is_crowded(const struct spin *spin)
{
    char text[128];
    ssize_t size = pread(spin->load_fd, text, sizeof(text) - 1, 0);
    if (size <= 0) return false;
    text[size] = '\0';
    const char *at = text;
    for (unsigned field = 0; at && field < 3; field++) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    return at && strtoul(at, NULL, 10) > spin->cores;
}

uint64_t spin_budget_ns(struct spin *spin, uint64_t now_ns)
{
    if (spin->mode == PORT_SPIN_ALWAYS) return UINT64_MAX;
    if (spin->mode == PORT_SPIN_NEVER) return 0;
    if (spin->gain < GAIN_ONE / GAIN_MIN_SHARE) return 0;
    if (spin->load_fd >= 0 && now_ns >= spin->load_at_ns) {
        spin->crowded = load_is_crowded(spin);
        spin->load_at_ns = now_ns + LOAD_INTERVAL_NS;
    }
    return spin->crowded ? 0 : spin->cost_ns;
}
