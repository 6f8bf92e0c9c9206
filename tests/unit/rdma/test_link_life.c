/* How links come and go: refusals, losses, restarts, closes, keep-alive. One thread polls all. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/rdma/harness.h"

static const struct link_options reporting = {.report_failures = true};

/* Two endpoints, the second listening, neither connected. */
static void two(struct world *world, enum test_backend_number backend, struct endpoint **ret_a,
                struct endpoint **ret_b)
{
    world_init(world, backend);
    *ret_a = endpoint_create(world);
    *ret_b = endpoint_create(world);
}

static void start(struct endpoint *a, struct endpoint *b)
{
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
}

static void close_flow(struct flow *flow, struct link *link)
{
    link_close(link);
    *flow = (struct flow){0};
}

/* ---- losing and coming back ---- */

LINK_TEST(a_link_comes_up_again_after_its_peer_restarted)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    for (unsigned i = 1; i <= 3; i++) {
        struct link *link = at_a->link;
        endpoint_stop(b);
        UNTIL(&world, a->downs == i);
        cr_assert_not(link_is_up(link));
        struct link_piece piece = {"x", 1};
        cr_assert_eq(link_send(link, &piece, 1), ERR_CLOSED);
        endpoint_start(b);
        endpoint_listen(b);
        UNTIL(&world, at_a->link);
        cr_assert_eq(at_a->link, link, "it is the same link");
        cr_assert_eq(at_a->ups, i + 1);
        cr_assert_eq(flow_send(at_a), ERR_NONE);
        uint64_t received = b->received;
        UNTIL(&world, b->received == received + 1);
        struct link_stats stats;
        link_stats(link, &stats);
        cr_assert_geq(stats.reconnects, i);
    }
    world_fini(&world);
}

LINK_TEST(a_peer_that_closes_says_how_much_it_took)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct link *link = at_a->link;
    cr_assert_eq(link_sent(link), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(flow_send(at_a), ERR_NONE);
    UNTIL(&world, b->received == 3);
    b->paused = true;
    for (int i = 0; i < 2; i++)
        cr_assert_eq(flow_send(at_a), ERR_NONE);
    cr_assert_eq(link_sent(link), 5);
    turn_for_ms(&world, 20);
    endpoint_stop(b);
    UNTIL(&world, a->downs == 1);
    cr_assert_eq(link_taken(link), 3);
    cr_assert_eq(b->received, 3);
    world_fini(&world);
}

static void *poll_until_down(void *context)
{
    struct endpoint *endpoint = context;
    for (int i = 0; i < 1000 && !endpoint->downs; i++)
        port_wait(endpoint->port, 10000000);
    return NULL;
}

static uint32_t size_long(uint64_t number)
{
    (void)number;
    return 20000;
}

LINK_TEST_REAL(what_waits_for_credits_leaves_before_a_port_ends)
{
    enum { MESSAGES = 400 }; /* more than the credits take, whatever a batch is */
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    a->size_of = b->size_of = size_long;
    for (int i = 0; i < MESSAGES; i++)
        cr_assert_eq(flow_send(at_a), ERR_NONE);
    /* Something unread at the one that ends: it must not cost the peer what was sent to it. */
    cr_assert_eq(flow_send(endpoint_flow(b)), ERR_NONE);
    port_flush(b->port);
    port_flush(a->port);
    struct link_stats stats;
    link_stats(at_a->link, &stats);
    cr_assert_gt(stats.queue_bytes, 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, poll_until_down, b), 0);
    endpoint_stop(a);
    pthread_join(thread, NULL);
    cr_assert_eq(b->downs, 1);
    cr_assert_eq(b->received, MESSAGES);
    cr_assert_eq(b->last_down.err, ERR_CLOSED);
    world_fini(&world);
}

LINK_TEST(what_a_peer_left_is_taken_whatever_credits_each_side_gave)
{
    for (int few_at_a = 0; few_at_a < 2; few_at_a++) {
        enum { BATCHES = 40 };
        struct world world;
        struct endpoint *a, *b;
        two(&world, backend, &a, &b);
        a->config.link_credits = few_at_a ? 2 : 64;
        b->config.link_credits = few_at_a ? 64 : 2;
        start(a, b);
        struct flow *at_a = endpoint_connect(a, b, NULL);
        UNTIL(&world, at_a->link && endpoint_up_count(b));
        struct endpoint *from = few_at_a ? a : b, *to = few_at_a ? b : a;
        struct flow *flow = few_at_a ? at_a : endpoint_flow(b);
        to->paused = true;
        for (int i = 0; i < BATCHES; i++) {
            cr_assert_eq(flow_send(flow), ERR_NONE);
            port_flush(from->port);
        }
        endpoint_stop(from);
        turn_for_ms(&world, 20); /* so that the end is seen before what is left */
        to->paused = false;
        UNTIL(&world, to->downs == 1);
        cr_assert_eq(to->received, BATCHES);
        cr_assert_eq(to->last_down.err, ERR_CLOSED, "%s", to->last_down.text);
        world_fini(&world);
    }
}

static struct link *link_to_close;

static void *alloc_and_close(void *context, struct link *link, uint32_t size)
{
    struct endpoint *endpoint = context;
    atomic_fetch_add(&endpoint->messages_alive, 1);
    if (link_to_close == link) link_close(link);
    return malloc(size);
}

static void release_and_close(void *context, struct link *link, void *message)
{
    struct endpoint *endpoint = context;
    atomic_fetch_sub(&endpoint->messages_alive, 1);
    free(message);
    if (link_to_close == link) link_close(link);
    link_to_close = NULL;
}

LINK_TEST(a_link_may_be_closed_from_within_alloc_and_release)
{
    for (int in_alloc = 0; in_alloc < 2; in_alloc++) {
        struct world world;
        world_init(&world, backend);
        struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
        struct port_events events = *b->config.events;
        if (in_alloc)
            events.alloc = alloc_and_close;
        else
            events.release = release_and_close;
        b->config.events = &events;
        start(a, b);
        struct flow *at_a = endpoint_connect(a, b, &(struct link_options){.once = true});
        UNTIL(&world, at_a->link && endpoint_up_count(b));
        link_to_close = endpoint_flow(b)->link;
        struct link *link = at_a->link;
        static uint8_t bytes[PORT_MESSAGE_SIZE_MAX];
        struct link_piece piece = {bytes, in_alloc ? 8 : sizeof(bytes)};
        cr_assert_eq(link_send(link, &piece, 1), ERR_NONE);
        if (in_alloc) {
            UNTIL(&world, a->downs == 1);
        } else {
            UNTIL(&world, atomic_load(&b->messages_alive) == 1);
            endpoint_stop(a); /* in the middle of the message */
            UNTIL(&world, !link_to_close);
        }
        cr_assert_eq(b->downs, 0);
        cr_assert_eq(b->received, 0);
        world_fini(&world);
    }
}

LINK_TEST(a_link_asked_for_once_ends_with_its_first_connection)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    start(a, b);
    struct link_options once = {.once = true};
    struct flow *flow = endpoint_connect(a, b, &once);
    UNTIL(&world, flow->link);
    struct link *link = flow->link;
    endpoint_stop(b);
    UNTIL(&world, a->downs == 1);
    endpoint_start(b);
    endpoint_listen(b);
    turn_for_ms(&world, 100);
    cr_assert_not(link_is_up(link));
    cr_assert_eq(b->ups, 1);
    close_flow(flow, link);
    world_fini(&world);
}

LINK_TEST(nobody_at_the_address_is_reported_and_tried_again_with_back_off)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    a->config.reconnect_ms_max = 100;
    start(a, b);
    endpoint_stop(b);
    struct flow *flow = endpoint_connect(a, b, &reporting);
    uint64_t start_ns = world_now_ns(&world);
    UNTIL(&world, a->downs >= 9);
    uint64_t took_ms = (world_now_ns(&world) - start_ns) / 1000000;
    cr_assert_geq(took_ms, 200, "9 attempts in %lu ms", took_ms);
    cr_assert_gt(strlen(a->last_down.text), 10);
    cr_assert_eq(flow->ups, 0);
    endpoint_start(b);
    endpoint_listen(b);
    UNTIL(&world, flow->link);
    world_fini(&world);
}

LINK_TEST(failures_are_not_reported_unless_asked_for)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    start(a, b);
    endpoint_stop(b);
    struct flow *flow = endpoint_connect(a, b, NULL);
    turn_for_ms(&world, 300);
    cr_assert_eq(a->downs, 0);
    cr_assert_null(flow->link);
    world_fini(&world);
}

LINK_TEST(a_message_in_pieces_is_given_back_when_the_link_goes_down)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    static uint8_t bytes[PORT_MESSAGE_SIZE_MAX];
    struct link_piece piece = {bytes, sizeof(bytes)};
    cr_assert_eq(link_send(at_a->link, &piece, 1), ERR_NONE);
    UNTIL(&world, atomic_load(&b->messages_alive) == 1);
    cr_assert_eq(b->received, 0);
    endpoint_stop(a);
    UNTIL(&world, b->downs == 1);
    cr_assert_eq(atomic_load(&b->messages_alive), 0);
    world_fini(&world);
}

LINK_TEST(a_message_in_pieces_is_forgotten_before_the_next_connection)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    static uint8_t bytes[PORT_MESSAGE_SIZE_MAX];
    struct link_piece piece = {bytes, sizeof(bytes)};
    cr_assert_eq(link_send(at_b->link, &piece, 1), ERR_NONE);
    UNTIL(&world, atomic_load(&a->messages_alive) == 1);
    endpoint_stop(b);
    UNTIL(&world, a->downs == 1);
    cr_assert_eq(atomic_load(&a->messages_alive), 0);
    endpoint_start(b);
    endpoint_listen(b);
    UNTIL(&world, at_a->link && endpoint_up_count(b) == 1);
    cr_assert_eq(flow_send(endpoint_flow(b)), ERR_NONE);
    UNTIL(&world, a->received == 1);
    cr_assert_not(a->broken);
    world_fini(&world);
}

/* ---- who may come in ---- */

static void wrong_secret(enum test_backend_number backend, bool of_the_connector)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    (of_the_connector ? a : b)->config.secret[31] ^= 1;
    struct endpoint *friend = endpoint_create(&world);
    memcpy(friend->config.secret, b->config.secret, PORT_SECRET_SIZE);
    start(a, b);
    endpoint_start(friend);
    struct flow *flow = endpoint_connect(a, b, &reporting);
    UNTIL(&world, a->downs >= 2);
    cr_assert_eq(a->last_down.err, ERR_DENIED, "%s", a->last_down.text);
    cr_assert_not_null(strstr(a->last_down.text, "secret"), "%s", a->last_down.text);
    cr_assert_eq(flow->ups, 0);
    cr_assert_eq(b->ups, 0);
    struct port_stats stats;
    port_stats(b->port, &stats);
    cr_assert_geq(stats.handshakes_failed, 1);
    cr_assert_eq(stats.accepted, 0);
    struct flow *good = endpoint_connect(friend, b, NULL);
    UNTIL(&world, good->link && b->ups == 1);
    world_fini(&world);
}

LINK_TEST(a_connector_with_the_wrong_secret_stays_outside)
{
    wrong_secret(backend, true);
}

LINK_TEST(a_listener_with_the_wrong_secret_is_not_believed)
{
    wrong_secret(backend, false);
}

LINK_TEST(the_owner_may_refuse_a_peer_with_a_reason)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    b->up_answer = ERR_OLD_TERM;
    start(a, b);
    struct flow *flow = endpoint_connect(a, b, &reporting);
    UNTIL(&world, a->downs >= 1);
    cr_assert_eq(a->last_down.err, ERR_OLD_TERM, "%s", a->last_down.text);
    cr_assert_eq(flow->ups, 0);
    cr_assert_eq(b->downs, 0);
    struct port_stats stats;
    port_stats(b->port, &stats);
    cr_assert_geq(stats.refused, 1);
    b->up_answer = ERR_NONE;
    UNTIL(&world, flow->link && b->ups == 1);
    world_fini(&world);
}

LINK_TEST(the_connector_may_refuse_whom_it_reached)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    a->up_answer = ERR_INVALID;
    start(a, b);
    (void)endpoint_connect(a, b, NULL);
    UNTIL(&world, a->downs == 1 && b->downs == 1);
    cr_assert_eq(a->last_down.err, ERR_INVALID);
    turn_for_ms(&world, 100);
    cr_assert_eq(a->ups, 1, "for good");
    world_fini(&world);
}

LINK_TEST(more_links_than_the_limit_are_refused)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    b->config.links_max = 3;
    a->config.links_max = 5;
    a->config.reconnect_ms_max = 50;
    start(a, b);
    for (unsigned i = 0; i < 5; i++)
        (void)endpoint_connect(a, b, &reporting);
    UNTIL(&world, endpoint_up_count(a) == 3 && a->downs >= 2);
    cr_assert_eq(a->last_down.err, ERR_BUSY, "%s", a->last_down.text);
    struct link *link;
    struct diag diag;
    cr_assert_eq(port_connect(a->port, &b->bound, NULL, &link, &diag), ERR_BUSY);
    for (unsigned i = 0; i < 5; i++) {
        if (!a->flows[i].link) continue;
        close_flow(&a->flows[i], a->flows[i].link);
        break;
    }
    UNTIL(&world, b->downs == 1);
    UNTIL(&world, endpoint_up_count(a) == 3 && endpoint_up_count(b) == 3);
    world_fini(&world);
}

/* ---- closing ---- */

LINK_TEST(close_lets_everything_sent_arrive)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    b->keep_links = true;
    struct flow *at_b = endpoint_flow(b);
    b->paused = true;
    /* More than fits under way, but little enough for the second that closing waits. */
    struct link_stats stats;
    do {
        cr_assert_eq(flow_send(at_a), ERR_NONE);
        link_stats(at_a->link, &stats);
    } while (stats.queue_bytes < 20000);
    uint64_t sent = at_a->sent;
    close_flow(at_a, at_a->link);
    cr_assert_null(port_link_next(a->port, NULL), "it is not seen any more");
    b->paused = false;
    uint64_t start_ns = world_now_ns(&world);
    UNTIL(&world, b->downs == 1);
    uint64_t took_ms = (world_now_ns(&world) - start_ns) / 1000000;
    cr_assert(!world.net || took_ms < 500, "the farewell comes with the last of it");
    cr_assert_eq(at_b->received, sent);
    cr_assert_eq(b->last_down.err, ERR_CLOSED);
    cr_assert_eq(a->downs, 0);
    world_fini(&world);
}

LINK_TEST(close_gives_up_on_a_peer_that_takes_nothing)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    b->paused = true;
    for (unsigned i = 0; i < 100000 && !flow_send(at_a); i++)
        continue;
    uint64_t start_ns = world_now_ns(&world);
    close_flow(at_a, at_a->link);
    struct port_stats stats;
    do {
        world_rest(&world);
        port_stats(a->port, &stats);
    } while (stats.links && world_now_ns(&world) - start_ns < 5000000000u);
    cr_assert_eq(stats.links, 0);
    b->paused = false;
    UNTIL(&world, b->downs == 1);
    world_fini(&world);
}

LINK_TEST(a_link_may_be_closed_in_every_state)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    start(a, b);
    for (unsigned turns = 0; turns < 12; turns++) {
        struct flow *flow = endpoint_connect(a, b, NULL);
        struct link *link = NULL;
        while ((link = port_link_next(a->port, link)) && link_context(link) != flow)
            continue;
        cr_assert_not_null(link);
        for (unsigned i = 0; i < turns; i++)
            world_turn(&world);
        close_flow(flow, link);
        world_turn(&world);
    }
    UNTIL(&world, endpoint_up_count(b) == 0);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_eq(stats.links, 0);
    /* A port with links in all states may go, too. */
    for (unsigned turns = 0; turns < 8; turns++) {
        (void)endpoint_connect(a, b, NULL);
        world_turn(&world);
    }
    world_fini(&world);
}

/* The farewell of each is for somebody who is gone: ending waits for no answer but a bounded time.
 */
LINK_TEST(ports_may_end_without_seeing_each_other_end)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    (void)world_pair(&world, &a, &b);
    endpoint_stop(a);
    endpoint_stop(b);
    world_fini(&world);
}

static void close_in_down(struct flow *flow)
{
    struct endpoint *endpoint = flow->endpoint;
    for (struct link *link = port_link_next(endpoint->port, NULL); link;
         link = port_link_next(endpoint->port, link)) {
        if (link_context(link) != flow) continue;
        link_close(link);
        *flow = (struct flow){.endpoint = endpoint};
        return;
    }
}

LINK_TEST(a_link_may_be_closed_when_it_is_told_to_be_down)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    (void)world_pair(&world, &a, &b);
    a->on_down = close_in_down;
    endpoint_stop(b);
    UNTIL(&world, a->downs == 1);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_eq(stats.links, 0);
    world_fini(&world);
}

/* ---- silence ---- */

LINK_TEST(an_idle_link_is_kept_alive)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    a->config.keepalive_ms = 150;
    b->config.keepalive_ms = 5000; /* it must still speak often enough for the other */
    start(a, b);
    struct flow *flow = endpoint_connect(a, b, NULL);
    UNTIL(&world, flow->link && endpoint_up_count(b));
    turn_for_ms(&world, 1000);
    cr_assert_eq(a->downs + b->downs, 0, "%s", a->last_down.text);
    struct link_stats stats;
    link_stats(flow->link, &stats);
    cr_assert_eq(stats.batches_sent, 0);
    cr_assert_lt(stats.bytes_sent, 200 + 2 * 32 * 1000 / 50 * 2, "and not more often than that");
    world_fini(&world);
}

LINK_TEST(a_silent_peer_is_lost)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    a->config.keepalive_ms = b->config.keepalive_ms = 200;
    a->config.reconnect_ms_max = 50;
    start(a, b);
    struct flow *flow = endpoint_connect(a, b, NULL);
    UNTIL(&world, flow->link && endpoint_up_count(b));
    uint64_t start_ns = world_now_ns(&world);
    b->paused = true;
    UNTIL(&world, a->downs);
    uint64_t took_ms = (world_now_ns(&world) - start_ns) / 1000000;
    cr_assert_eq(a->last_down.err, ERR_TIMEOUT, "%s", a->last_down.text);
    cr_assert(took_ms >= 100 && took_ms < (world.net ? 400 : 20000), "after %lu ms", took_ms);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_eq(stats.links_lost, 1);
    b->paused = false;
    UNTIL(&world, b->downs >= 1 && flow->link && endpoint_up_count(b) == 1);
    cr_assert_eq(flow_send(flow), ERR_NONE);
    UNTIL(&world, b->received == 1);
    world_fini(&world);
}

LINK_TEST(a_port_that_was_away_does_not_blame_its_peers)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    a->config.keepalive_ms = b->config.keepalive_ms = 200;
    start(a, b);
    struct flow *flow = endpoint_connect(a, b, NULL);
    UNTIL(&world, flow->link && endpoint_up_count(b));
    for (unsigned i = 0; i < 3; i++) {
        if (world.net)
            sim_net_advance(world.net, 500 * 1000000);
        else
            usleep(500 * 1000);
        turn_for_ms(&world, 100);
        cr_assert_eq(a->downs + b->downs, 0, "%s%s", a->last_down.text, b->last_down.text);
    }
    world_fini(&world);
}

/* ---- what a port says of itself ---- */

LINK_TEST(listening_where_another_does_is_refused)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    if (world.net) a->config.sim_node = b->config.sim_node;
    start(a, b);
    struct diag diag = {0};
    cr_assert_eq(port_listen(a->port, &b->bound, NULL, &diag), ERR_IN_USE, "%s", diag.text);
    cr_assert_gt(strlen(diag.text), 10);
    world_fini(&world);
}

LINK_TEST(a_port_with_nothing_to_do_has_no_timer)
{
    struct world world;
    struct endpoint *a, *b;
    two(&world, backend, &a, &b);
    start(a, b);
    world_turn(&world);
    cr_assert_eq(port_timer_ns(a->port), UINT64_MAX);
    cr_assert_eq(port_timer_ns(b->port), UINT64_MAX);
    cr_assert_eq(port_poll(a->port), 0);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_eq(stats.links + stats.links_pending + stats.links_up, 0);
    world_fini(&world);
}
