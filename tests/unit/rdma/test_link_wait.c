/* Sleeping and waking: ports in threads of their own, that wait for each other. A wake-up that gets
 * lost shows as a wait that ends by its limit with nothing to show for it. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/rdma/harness.h"

static const uint64_t WAIT_LIMIT_NS = (uint64_t)30 * 1000000000u;

struct waiter {
    pthread_t thread;
    struct endpoint *endpoint;
    atomic_bool stop;
    bool own_loop;
    unsigned in_vain;
};

/* One wait in an event loop of one's own, which has the port's descriptor among others. */
static void own_loop_turn(struct port *port, int epoll_fd)
{
    port_flush(port);
    uint64_t until = clock_now_ns() + port_spin_ns(port);
    do {
        if (port_poll(port)) return;
    } while (clock_now_ns() < until);
    port_flush(port);
    if (!port_sleep(port)) {
        port_poll(port);
        return;
    }
    uint64_t timer = port_timer_ns(port), now = clock_now_ns();
    uint64_t wait_ns = timer > now ? timer - now : 0;
    if (wait_ns > 50 * 1000000) wait_ns = 50 * 1000000; /* to see `stop` */
    struct epoll_event event;
    int count = epoll_wait(epoll_fd, &event, 1, (int)((wait_ns + 999999) / 1000000));
    port_awake(port, count > 0);
    port_poll(port);
}

static void *waiter_run(void *argument)
{
    struct waiter *waiter = argument;
    struct port *port = waiter->endpoint->port;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, port_fd(port), &event);
    while (!atomic_load(&waiter->stop)) {
        if (waiter->own_loop)
            own_loop_turn(port, epoll_fd);
        else
            (void)port_wait(port, 50 * 1000000);
    }
    close(epoll_fd);
    return NULL;
}

static void waiter_start(struct waiter *waiter, struct endpoint *endpoint, bool own_loop)
{
    *waiter = (struct waiter){.endpoint = endpoint, .own_loop = own_loop};
    cr_assert_eq(pthread_create(&waiter->thread, NULL, waiter_run, waiter), 0);
}

static void waiter_stop(struct waiter *waiter)
{
    atomic_store(&waiter->stop, true);
    pthread_join(waiter->thread, NULL);
}

/* A client in this thread and an echoing server in another, with one link. */
struct talk {
    struct world world;
    struct endpoint *a, *b;
    struct flow *flow;
    struct waiter server;
};

static void talk_start(struct talk *talk, enum test_backend_number backend, enum port_spin a_spin,
                       enum port_spin b_spin, bool own_loop)
{
    world_init(&talk->world, backend);
    struct endpoint *a = talk->a = endpoint_create(&talk->world);
    struct endpoint *b = talk->b = endpoint_create(&talk->world);
    b->echo = true;
    a->config.spin = a_spin;
    b->config.spin = b_spin;
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    waiter_start(&talk->server, b, own_loop);
    talk->flow = endpoint_connect(a, b, NULL);
    uint64_t start = clock_now_ns();
    while (!talk->flow->link) {
        (void)port_wait(a->port, 100 * 1000000);
        cr_assert_lt(clock_now_ns() - start, WAIT_LIMIT_NS);
    }
}

static void talk_stop(struct talk *talk)
{
    waiter_stop(&talk->server);
    world_fini(&talk->world);
}

static void ping_pong(struct talk *talk, uint64_t count)
{
    struct flow *flow = talk->flow;
    for (uint64_t i = 0; i < count; i++) {
        cr_assert_eq(flow_send(flow), ERR_NONE);
        uint64_t start = clock_now_ns();
        while (flow->received < flow->sent) {
            (void)port_wait(talk->a->port, WAIT_LIMIT_NS);
            cr_assert_lt(clock_now_ns() - start, WAIT_LIMIT_NS, "round %lu: nobody woke us", i);
        }
    }
    cr_assert_not(flow->broken);
}

LINK_TEST_REAL(sleeping_never_loses_a_wake_up)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_NEVER, PORT_SPIN_NEVER, false);
    ping_pong(&talk, rounds(20000));
    struct port_stats stats;
    port_stats(talk.a->port, &stats);
    cr_assert_gt(stats.sleeps, 0);
    cr_assert_eq(stats.spins, 0);
    talk_stop(&talk);
}

LINK_TEST_REAL(adaptive_waiting_never_loses_a_wake_up)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_ADAPTIVE, PORT_SPIN_ADAPTIVE, false);
    ping_pong(&talk, rounds(10000));
    talk_stop(&talk);
}

LINK_TEST_REAL(one_side_may_spin_while_the_other_sleeps)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_ALWAYS, PORT_SPIN_NEVER, false);
    ping_pong(&talk, rounds(2000));
    struct port_stats stats;
    port_stats(talk.a->port, &stats);
    cr_assert_eq(stats.sleeps, 0);
    talk_stop(&talk);
}

LINK_TEST_REAL(an_event_loop_of_ones_own_waits_for_the_descriptor)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_NEVER, PORT_SPIN_NEVER, true);
    ping_pong(&talk, rounds(10000));
    talk_stop(&talk);
    talk_start(&talk, backend, PORT_SPIN_ADAPTIVE, PORT_SPIN_ADAPTIVE, true);
    ping_pong(&talk, rounds(5000));
    talk_stop(&talk);
}

/* The client sees the echo while the server is on its way to sleep; after a pause of random length
 * its next message arrives at every possible point of that way. */
LINK_TEST_REAL(wake_ups_survive_bad_timing)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_ALWAYS, PORT_SPIN_NEVER, false);
    uint32_t seed = 1;
    for (uint64_t i = 0; i < rounds(20000); i++) {
        seed = seed * 1103515245u + 12345u;
        for (volatile uint32_t spin = (seed >> 16) % 1000; spin; spin--)
            continue;
        ping_pong(&talk, 1);
    }
    talk_stop(&talk);
}

LINK_TEST_REAL(floods_between_threads_arrive)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_NEVER, PORT_SPIN_ADAPTIVE, false);
    struct flow *flow = talk.flow;
    uint64_t count = rounds(100000), start = clock_now_ns();
    while (flow->received < count) {
        /* Few enough that the echoes always find room in the server's queue. */
        while (flow->sent < count && flow->sent - flow->received < 2000)
            if (flow_send(flow)) break;
        (void)port_wait(talk.a->port, WAIT_LIMIT_NS);
        cr_assert_lt(clock_now_ns() - start, 2 * WAIT_LIMIT_NS, "a stall");
    }
    cr_assert_not(flow->broken);
    talk_stop(&talk);
}

/* The receiver says nothing of its own, and sleeps. */
LINK_TEST_REAL(a_one_way_flood_to_a_sleeper_does_not_stall)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_NEVER, PORT_SPIN_NEVER, false);
    waiter_stop(&talk.server);
    talk.b->echo = false;
    waiter_start(&talk.server, talk.b, false);
    struct flow *flow = talk.flow;
    uint64_t count = rounds(100000), start = clock_now_ns();
    struct link_stats stats;
    while (flow->sent < count) {
        if (flow_send(flow)) (void)port_wait(talk.a->port, 1000000);
        cr_assert_lt(clock_now_ns() - start, 2 * WAIT_LIMIT_NS, "a stall");
    }
    do {
        (void)port_wait(talk.a->port, 1000000);
        link_stats(flow->link, &stats);
        cr_assert_lt(clock_now_ns() - start, 2 * WAIT_LIMIT_NS, "a stall");
    } while (stats.queue_bytes);
    waiter_stop(&talk.server);
    UNTIL(&talk.world, talk.b->received == count); /* what was still under way */
    world_fini(&talk.world);
}

LINK_TEST_REAL(a_wait_ends_at_its_limit)
{
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_ADAPTIVE, PORT_SPIN_ADAPTIVE, false);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t start = clock_now_ns();
        cr_assert_eq(port_wait(talk.a->port, 20 * 1000000), 0);
        uint64_t took = clock_now_ns() - start;
        cr_assert_geq(took, 19 * 1000000);
        cr_assert_lt(took, 2000 * 1000000u);
    }
    cr_assert_eq(port_wait(talk.a->port, 0), 0);
    talk_stop(&talk);
}

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

LINK_TEST_REAL(idle_links_cost_no_cpu)
{
    enum { LINKS = 64 };
    struct talk talk;
    talk_start(&talk, backend, PORT_SPIN_ADAPTIVE, PORT_SPIN_ADAPTIVE, false);
    waiter_stop(&talk.server);
    for (unsigned i = 1; i < LINKS; i++)
        (void)endpoint_connect(talk.a, talk.b, NULL);
    UNTIL(&talk.world, endpoint_up_count(talk.a) == LINKS);
    UNTIL(&talk.world, endpoint_up_count(talk.b) == LINKS);
    (void)port_wait(talk.a->port, 10 * 1000000); /* the spin learns that nothing comes */
    (void)port_wait(talk.b->port, 10 * 1000000);
    uint64_t cpu = cpu_ns();
    struct port_stats before, after;
    port_stats(talk.a->port, &before);
    (void)port_wait(talk.a->port, 700 * 1000000);
    (void)port_wait(talk.b->port, 700 * 1000000);
    port_stats(talk.a->port, &after);
    cpu = cpu_ns() - cpu;
    cr_assert_leq(after.sleeps - before.sleeps, 5);
    if (rounds(10) == 10) cr_assert_lt(cpu, 14 * 1000000 / 2, "%lu us in 1.4 s", cpu / 1000);
    world_fini(&talk.world);
}
