/* Waiting: spinning, sleeping, waking.
 *
 * Before a sleep every back end with peers announces it to them (arm), and looks once more; so
 * either this side sees what was sent, or the sender sees the announcement and wakes it. Back ends
 * whose descriptors are always live (tcp) need nothing of that.
 *
 * A sleep without a limit of its own takes no timeout: setting up and taking down the kernel's
 * timer in each of thousands of sleeps a second would cost more than the rest of a wait. The port's
 * timers, which are rarely due, wake it by a timer descriptor in the same epoll, which is set only
 * when an earlier time is needed than it has already; so it may fire early, for nothing. */
#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/core/port_private.h"

enum { WAIT_CLOCK_ROUNDS = 16 };

static void timer_ready(struct backend_watch *watch, uint32_t events);

void port_wait_init(struct port *port)
{
    port->timer_fd = -1;
    port->timer_armed_ns = UINT64_MAX;
    port->timer_watch.ready = timer_ready;
}

void port_wait_fini(struct port *port)
{
    if (port->timer_fd < 0) return;
    (void)epoll_ctl(port->epoll_fd, EPOLL_CTL_DEL, port->timer_fd, NULL);
    close(port->timer_fd);
}

static int epoll_wait_ns(int epoll_fd, struct epoll_event *events, uint64_t timeout_ns)
{
    if (!timeout_ns) return epoll_wait(epoll_fd, events, PORT_EVENTS_MAX, 0);
    if (timeout_ns == UINT64_MAX) return epoll_wait(epoll_fd, events, PORT_EVENTS_MAX, -1);
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int count = epoll_pwait2(epoll_fd, events, PORT_EVENTS_MAX, &timeout, NULL);
    if (count >= 0 || errno != ENOSYS) return count;
    uint64_t ms = (timeout_ns + 999999) / 1000000;
    return epoll_wait(epoll_fd, events, PORT_EVENTS_MAX, ms < 1000000 ? (int)ms : 1000000);
}

bool port_events_fetch(struct port *port, uint64_t timeout_ns)
{
    int count = epoll_wait_ns(port->epoll_fd, port->events, timeout_ns);
    port->event_next = 0;
    port->event_count = count > 0 ? count : 0;
    port->epoll_due = false;
    port->epoll_skipped = 0;
    port->epoll_last_ns = port->now_ns;
    return count > 0;
}

/* Whether nothing but descriptors can bring something. */
static bool has_only_descriptors(const struct port *port)
{
    for (unsigned i = 0; i < port->open_count; i++) {
        const struct backend_slot *slot = &port->slots[port->open[i]];
        if (slot->ops->arm && slot->links) return false;
    }
    return true;
}

int port_fd(const struct port *port)
{
    return port->epoll_fd;
}

uint64_t port_timer_ns(const struct port *port)
{
    uint64_t ns = port->timer_ns;
    for (unsigned i = 0; i < port->open_count; i++) {
        const struct backend_slot *slot = &port->slots[port->open[i]];
        if (!slot->ops->timer_ns) continue;
        uint64_t own = slot->ops->timer_ns(slot->backend);
        if (own < ns) ns = own;
    }
    return ns;
}

uint64_t port_spin_ns(struct port *port)
{
    port_time_fine(port);
    spin_idle(&port->spin, port->now_ns);
    return spin_budget_ns(&port->spin, port->now_ns);
}

static void disarm_all(struct port *port)
{
    for (unsigned i = 0; i < port->open_count; i++) {
        struct backend_slot *slot = &port->slots[port->open[i]];
        if (slot->armed) slot->ops->disarm(slot->backend);
        slot->armed = false;
    }
}

static bool arm_all(struct port *port)
{
    for (unsigned i = 0; i < port->open_count; i++) {
        struct backend_slot *slot = &port->slots[port->open[i]];
        if (!slot->ops->arm || !(slot->links || slot->listeners)) continue;
        slot->armed = true;
        if (!slot->ops->arm(slot->backend)) {
            disarm_all(port);
            return false;
        }
    }
    return true;
}

bool port_sleep(struct port *port)
{
    ASSERT(!port->polling && !port->asleep);
    if (port->spin.mode == PORT_SPIN_ALWAYS) return false;
    port_flush(port);
    if (port->ending || !arm_all(port)) return false;
    spin_idle(&port->spin, port->now_ns);
    port->asleep = true;
    port->stats.sleeps++;
    return true;
}

void port_awake(struct port *port, bool ready)
{
    ASSERT(port->asleep);
    port->asleep = false;
    disarm_all(port);
    port_time_fine(port);
    port->epoll_due = ready;
    if (ready) port->stats.wakeups++;
}

/* Looks for `budget` ns; true when something came. Without an instruction to pause: a turn takes
 * its time anyway, and in an emulated processor that one costs microseconds. */
static bool wait_spin(struct port *port, uint64_t budget)
{
    uint64_t start = port->now_ns;
    for (unsigned round = 0;; round++) {
        port_poll(port);
        if (port->callbacks) {
            port->stats.spins++;
            return true;
        }
        if (round % WAIT_CLOCK_ROUNDS == 0) {
            port_time_fine(port);
            if (port->now_ns - start >= budget) return false;
        }
    }
}

/* The descriptor of the timer is due: the turn that follows runs the timers. */
static void timer_ready(struct backend_watch *watch, uint32_t events)
{
    (void)events;
    struct port *port = CONTAINER_OF(watch, struct port, timer_watch);
    uint64_t expirations;
    (void)!read(port->timer_fd, &expirations, sizeof(expirations));
    port->timer_armed_ns = UINT64_MAX;
}

static bool timer_open(struct port *port)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) return false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &port->timer_watch};
    if (epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        close(fd);
        return false;
    }
    port->timer_fd = fd;
    return true;
}

/* Makes the timer's descriptor wake the port no later than at `ns`. False: without one. */
static bool timer_set(struct port *port, uint64_t ns)
{
    if (ns == UINT64_MAX || port->timer_armed_ns <= ns) return true;
    if (port->timer_fd < 0 && !timer_open(port)) return false;
    uint64_t left = ns > port->now_ns ? ns - port->now_ns : 1; /* 0 would disarm it */
    struct itimerspec setting = {.it_value = {.tv_sec = (time_t)(left / 1000000000u),
                                              .tv_nsec = (long)(left % 1000000000u)}};
    if (timerfd_settime(port->timer_fd, 0, &setting, NULL)) return false;
    port->timer_armed_ns = ns;
    return true;
}

/* How long to sleep at most. */
static uint64_t wait_timeout(struct port *port, uint64_t until_ns)
{
    uint64_t timer = port_timer_ns(port);
    if (until_ns == UINT64_MAX && timer_set(port, timer)) return UINT64_MAX;
    if (timer < until_ns) until_ns = timer;
    return until_ns > port->now_ns ? until_ns - port->now_ns : 0;
}

/* One sleep, and the turn after it; false: only the turn, as something was there. */
static bool wait_sleep(struct port *port, uint64_t until_ns)
{
    if (!port_sleep(port)) {
        port_poll(port);
        return false;
    }
    /* The events that end the sleep are used at once: a message costs one epoll_wait. */
    bool ready = port_events_fetch(port, wait_timeout(port, until_ns));
    port_awake(port, ready);
    port->epoll_due = false;
    port->time_is_fine = true;
    port_turn_begin(port);
    port_turn_rest(port);
    return true;
}

uint32_t port_wait(struct port *port, uint64_t timeout_ns)
{
    port_flush(port);
    if (timeout_ns == UINT64_MAX)
        port_time_coarse(port); /* only timers need it */
    else
        port_time_fine(port);
    uint64_t until =
        timeout_ns > UINT64_MAX - port->now_ns ? UINT64_MAX : port->now_ns + timeout_ns;
    if (!has_only_descriptors(port) || port->ending) {
        port_poll(port);
        if (port->callbacks) return port->messages;
    }
    bool slept = false;
    for (;;) {
        spin_idle(&port->spin, port->now_ns);
        /* A timer that woke the port is no reason to look again. */
        uint64_t budget = slept ? 0 : spin_budget_ns(&port->spin, port->now_ns);
        uint64_t left = until > port->now_ns ? until - port->now_ns : 0;
        bool found = budget && left && wait_spin(port, budget < left ? budget : left);
        if (!found && port->spin.mode != PORT_SPIN_ALWAYS) {
            slept |= wait_sleep(port, until);
            found = port->callbacks;
        }
        if (found) return port->messages;
        if (port->now_ns >= until) return 0;
        port_flush(port); /* credits that are owed */
    }
}
