/* Peers in other processes, which are killed or stopped: the survivor sees the link go down, gives
 * back what was half received, and goes on serving others. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/rdma/harness.h"

/* ---- the child ---- */

static uint32_t size_of_child(uint64_t number)
{
    return number % 20 == 7 ? 400000 : 1 + (uint32_t)(number * 37 % 1500);
}

/* Connects, and floods until it is killed; with `fickle` it also closes its links now and then. */
static void child_run(enum test_backend_number backend, const struct port_address *to, bool fickle,
                      uint32_t keepalive_ms)
{
    (void)close_range(3, ~0u, 0); /* the parent's ports must not live on in here */
    struct world world;
    world_init(&world, backend);
    struct endpoint *endpoint = endpoint_create(&world);
    endpoint->size_of = size_of_child;
    endpoint->config.keepalive_ms = keepalive_ms;
    endpoint->config.reconnect_ms_max = 50;
    struct diag diag;
    if (port_create(&endpoint->config, &endpoint->port, &diag)) _exit(1);
    struct flow *flow = &endpoint->flows[0];
    for (unsigned life = 0;; life++) {
        *flow = (struct flow){.endpoint = endpoint, .used = true};
        struct link_options options = {.context = flow};
        struct link *link;
        if (port_connect(endpoint->port, to, &options, &link, &diag)) _exit(1);
        for (unsigned turn = 0; !fickle || turn < 50 + life % 7 * 40; turn++) {
            while (flow->link && flow->sent - flow->received < 300 && !flow_send(flow))
                continue;
            (void)port_wait(endpoint->port, 1000000);
        }
        link_close(link);
    }
}

/* The child is killed when this process dies in between. */
static pid_t child_start(enum test_backend_number backend, const struct port_address *to,
                         bool fickle, uint32_t keepalive_ms)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid) return pid;
    alarm(120);
    if (getppid() == parent) child_run(backend, to, fickle, keepalive_ms);
    _exit(1);
}

static void child_kill(pid_t pid)
{
    cr_assert_eq(kill(pid, SIGKILL), 0);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* ---- the survivor ---- */

LINK_TEST_REAL(a_peer_killed_at_any_moment_leaves_the_others_served)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *server = endpoint_create(&world), *friend = endpoint_create(&world);
    server->size_of = NULL;
    server->config.keepalive_ms = 2000;
    endpoint_start(server);
    endpoint_start(friend);
    endpoint_listen(server);
    struct flow *flow = endpoint_connect(friend, server, NULL);
    UNTIL(&world, flow->link);
    server->size_of = size_of_child;
    friend->size_of = size_of_child;
    server->echo = true;
    uint32_t seed = (uint32_t)getpid();
    uint64_t count = rounds(30) < 5 ? 5 : rounds(30);
    for (uint64_t round = 0; round < count; round++) {
        pid_t pid = child_start(backend, &server->bound, round % 2, 2000);
        seed = seed * 1103515245u + 12345u;
        /* In the middle of the traffic, or of coming up. */
        unsigned ups = server->ups;
        if (round % 3) UNTIL(&world, server->ups > ups);
        turn_for_ms(&world, (seed >> 16) % 40);
        child_kill(pid);
        UNTIL(&world, endpoint_up_count(server) == 1);
        for (unsigned i = 0; i < 25; i++)
            cr_assert_eq(flow_send(flow), ERR_NONE);
        UNTIL(&world, flow->received == flow->sent);
    }
    cr_assert_not(friend->broken || server->broken);
    cr_assert_eq(friend->downs, 0);
    cr_assert_gt(server->ups, count / 2, "most children got in");
    cr_assert_eq(server->downs, server->ups - 1);
    UNTIL(&world, atomic_load(&server->messages_alive) == 0);
    struct port_stats stats;
    port_stats(server->port, &stats);
    cr_assert_eq(stats.links, 1);
    world_fini(&world);
}

LINK_TEST_REAL(a_stopped_peer_is_lost_and_comes_back)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *server = endpoint_create(&world);
    server->config.keepalive_ms = 600;
    server->size_of = size_of_child;
    server->echo = true;
    server->keep_links = true;
    endpoint_start(server);
    endpoint_listen(server);
    pid_t pid = child_start(backend, &server->bound, false, 600);
    UNTIL(&world, server->ups && server->received > 10);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    /* The echoes under way are for nobody; the queue takes them. */
    UNTIL(&world, endpoint_up_count(server) == 0);
    cr_assert_eq(server->last_down.err, ERR_TIMEOUT, "%s", server->last_down.text);
    cr_assert_eq(kill(pid, SIGCONT), 0);
    uint64_t received = server->received;
    unsigned ups = server->ups;
    UNTIL(&world, server->ups > ups && server->received > received + 10);
    child_kill(pid);
    UNTIL(&world, server->downs == server->ups);
    cr_assert_not(server->broken);
    world_fini(&world);
}

LINK_TEST_REAL(peers_killed_in_the_middle_of_coming_up_leave_nothing_behind)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *server = endpoint_create(&world);
    server->config.handshake_ms = 300;
    server->config.keepalive_ms = 1000;
    server->size_of = size_of_child;
    server->echo = true;
    endpoint_start(server);
    endpoint_listen(server);
    uint32_t seed = (uint32_t)getpid();
    for (uint64_t round = 0; round < (rounds(20) < 5 ? 5 : rounds(20)); round++) {
        pid_t pids[4];
        for (unsigned i = 0; i < 4; i++)
            pids[i] = child_start(backend, &server->bound, true, 1000);
        for (unsigned i = 0; i < 4; i++) {
            seed = seed * 1103515245u + 12345u;
            usleep((seed >> 16) % 3000);
            world_turn(&world);
            child_kill(pids[i]);
        }
    }
    struct port_stats stats;
    do {
        world_rest(&world);
        port_stats(server->port, &stats);
    } while (stats.links || stats.links_pending);
    UNTIL(&world, atomic_load(&server->messages_alive) == 0);
    cr_assert_eq(server->ups, server->downs);
    cr_assert_not(server->broken);
    world_fini(&world);
}
