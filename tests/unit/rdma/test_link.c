/* What a link promises while it is up: whole messages, once, in order, in bounded memory, and no
 * stall. The same cases over every back end. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/core/batch.h"
#include "tests/unit/rdma/harness.h"

LINK_TEST(a_link_comes_up_and_each_side_knows_what_the_other_said)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    memcpy(b->config.hello, "I am b", 6);
    b->config.hello_size = 6;
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *plain = endpoint_connect(a, b, NULL);
    struct link_options options = {.hello = "only this link", .hello_size = 14};
    struct flow *own = endpoint_connect(a, b, &options);
    UNTIL(&world, plain->link && own->link && endpoint_up_count(b) == 2);
    uint8_t size;
    const uint8_t *hello = link_hello(plain->link, &size);
    cr_assert(size == 6 && !memcmp(hello, "I am b", 6));
    cr_assert_not(link_is_accepted(plain->link));
    unsigned plain_count = 0, own_count = 0;
    for (struct link *link = port_link_next(b->port, NULL); link;
         link = port_link_next(b->port, link)) {
        cr_assert(link_is_accepted(link) && link_is_up(link));
        cr_assert_eq(link_port(link), b->port);
        cr_assert_gt(strlen(link_peer_text(link)), 0);
        hello = link_hello(link, &size);
        plain_count += size == 5 && !memcmp(hello, "hello", 5);
        own_count += size == 14 && !memcmp(hello, "only this link", 14);
    }
    cr_assert_eq(plain_count, 1);
    cr_assert_eq(own_count, 1);
    struct port_stats stats;
    port_stats(b->port, &stats);
    cr_assert_eq(stats.links_up, 2);
    cr_assert_eq(stats.accepted, 2);
    cr_assert_eq(stats.links_pending, 0);
    world_fini(&world);
}

/* Sends `count` messages one way, receiver polled in between; busy is waited out. */
static void flood(struct world *world, struct flow *from, struct flow *to, uint64_t count)
{
    uint64_t first = from->sent;
    while (from->sent < first + count) {
        enum err err = flow_send(from);
        if (err == ERR_BUSY || from->sent % 64 == 0) world_turn(world);
        cr_assert(!err || err == ERR_BUSY, "%s", err_text(err));
    }
    UNTIL(world, to->received == from->sent);
    cr_assert_not(to->broken);
}

LINK_TEST(messages_arrive_whole_once_and_in_order_both_ways)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    for (uint64_t i = 0; i < rounds(20000); i++) {
        (void)flow_send(at_a);
        (void)flow_send(at_b);
        if (i % 100 == 0) world_turn(&world);
    }
    cr_assert_gt(at_a->sent, 0);
    UNTIL(&world, at_a->received == at_b->sent && at_b->received == at_a->sent);
    cr_assert_not(a->broken || b->broken);
    struct link_stats stats;
    link_stats(at_a->link, &stats);
    cr_assert_eq(stats.messages_sent, at_a->sent);
    cr_assert_eq(stats.messages_received, at_a->received);
    cr_assert_gt(stats.batches_sent, 0);
    cr_assert_gt(stats.bytes_sent, stats.batches_sent * 32);
    world_fini(&world);
}

static const uint32_t sizes[] = {
    1,      2,     7,     8,     9,     31,    63,      64,      65,      2047,
    2048,   2049,  4095,  4096,  4097,  16384, 65527,   65528,   65535,   65536,
    65537,  69592, 69593, 69600, 69632, 70000, 1 << 20, 1000001, 3 << 20, (8 << 20) - 1,
    8 << 20};

static uint32_t size_of_list(uint64_t number)
{
    return sizes[number % (sizeof(sizes) / sizeof(sizes[0]))];
}

LINK_TEST(messages_of_every_size_arrive_undamaged)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    a->size_of = b->size_of = size_of_list;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cr_assert_eq(flow_send(at_a), ERR_NONE);
        cr_assert_eq(flow_send(at_b), ERR_NONE);
        UNTIL(&world, at_b->received == at_a->sent && at_a->received == at_b->sent);
    }
    cr_assert_not(a->broken || b->broken);
    world_fini(&world);
}

static uint32_t size_large_among_small(uint64_t number)
{
    if (number % 50 == 20) return 300000;
    if (number % 501 == 500) return 5 << 20;
    return 1 + (uint32_t)(number % 200);
}

LINK_TEST(large_messages_and_small_ones_keep_their_order)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    a->size_of = b->size_of = size_large_among_small;
    uint64_t count = rounds(2000);
    while (at_a->sent < count || at_b->sent < count) {
        if (at_a->sent < count) (void)flow_send(at_a);
        if (at_b->sent < count) (void)flow_send(at_b);
        world_turn(&world);
    }
    UNTIL(&world, at_a->received == at_b->sent && at_b->received == at_a->sent);
    cr_assert_not(a->broken || b->broken);
    world_fini(&world);
}

LINK_TEST(a_one_way_flood_does_not_stall)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    flood(&world, at_a, at_b, rounds(200000));
    struct link_stats stats;
    link_stats(at_b->link, &stats);
    cr_assert_eq(stats.messages_sent, 0);
    cr_assert_gt(stats.credit_batches_sent, 0, "credits had to travel alone");
    cr_assert_leq(2 * stats.credit_batches_sent, stats.batches_received, "but not for every batch");
    flood(&world, at_b, at_a, rounds(200000));
    world_fini(&world);
}

/* The receiver only polls: it never flushes. */
LINK_TEST(a_receiver_that_never_flushes_does_not_stall_the_sender)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    b->paused = true;
    uint64_t count = rounds(50000);
    while (at_b->received < count) {
        for (unsigned i = 0; i < 50 && at_a->sent < count; i++)
            if (flow_send(at_a)) break;
        world_turn(&world);
        port_poll(b->port);
    }
    cr_assert_not(b->broken);
    world_fini(&world);
}

LINK_TEST(floods_both_ways_do_not_stall)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    a->size_of = b->size_of = size_small;
    uint64_t count = rounds(300000);
    while (at_a->sent < count || at_b->sent < count) {
        for (unsigned i = 0; i < 500; i++) {
            if (at_a->sent < count) (void)flow_send(at_a);
            if (at_b->sent < count) (void)flow_send(at_b);
        }
        world_turn(&world);
    }
    UNTIL(&world, at_a->received == count && at_b->received == count);
    cr_assert_not(a->broken || b->broken);
    world_fini(&world);
}

LINK_TEST(one_credit_is_enough)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    a->config.link_credits = b->config.link_credits = 1;
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *at_a = endpoint_connect(a, b, NULL);
    UNTIL(&world, at_a->link && endpoint_up_count(b));
    struct flow *at_b = endpoint_flow(b);
    flood(&world, at_a, at_b, rounds(5000));
    flood(&world, at_b, at_a, rounds(5000));
    world_fini(&world);
}

LINK_TEST(what_cannot_be_sent_is_refused_as_a_whole)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    struct flow *at_b = endpoint_flow(b);
    static uint8_t bytes[PORT_MESSAGE_SIZE_MAX];
    struct link_piece empty = {bytes, 0};
    struct link_piece large[2] = {{bytes, PORT_MESSAGE_SIZE_MAX}, {bytes, 1}};
    struct link_piece huge[3] = {{bytes, UINT32_MAX}, {bytes, UINT32_MAX}, {bytes, 2}};
    cr_assert_eq(link_send(at_a->link, &empty, 1), ERR_INVALID);
    cr_assert_eq(link_send(at_a->link, NULL, 0), ERR_INVALID);
    cr_assert_eq(link_send(at_a->link, large, 2), ERR_TOO_BIG);
    cr_assert_eq(link_send(at_a->link, huge, 3), ERR_TOO_BIG);
    cr_assert_eq(flow_send(at_a), ERR_NONE);
    UNTIL(&world, at_b->received == 1);
    cr_assert_not(b->broken);
    world_fini(&world);
}

LINK_TEST(a_slow_receiver_makes_the_sender_busy_in_bounded_memory)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    a->config.link_queue_bytes = 1 << 20;
    a->config.keepalive_ms = b->config.keepalive_ms = 1000000;
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *at_a = endpoint_connect(a, b, NULL);
    UNTIL(&world, at_a->link && endpoint_up_count(b));
    struct flow *at_b = endpoint_flow(b);
    b->paused = true;
    unsigned busy = 0;
    for (uint64_t i = 0; busy < 1000; i++) {
        enum err err = flow_send(at_a);
        cr_assert(!err || err == ERR_BUSY);
        busy += err == ERR_BUSY;
        if (i % 100 == 0) world_turn(&world);
        cr_assert_lt(i, 10000000u, "it never becomes busy");
    }
    struct link_stats link;
    link_stats(at_a->link, &link);
    cr_assert_geq(link.queue_bytes, 1 << 20);
    cr_assert_leq(link.queue_bytes, (1 << 20) + 20000);
    cr_assert_gt(link.stalls, 0);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_leq(stats.buffer_bytes, 8 << 20);
    b->paused = false;
    UNTIL(&world, at_b->received == at_a->sent);
    link_stats(at_a->link, &link);
    cr_assert_eq(link.queue_bytes, 0);
    flood(&world, at_a, at_b, 1000);
    world_fini(&world);
}

LINK_TEST(many_links_carry_traffic_at_once)
{
    enum { LINKS = 96 };
    struct world world;
    world_init(&world, backend);
    struct endpoint *server = endpoint_create(&world), *clients[2];
    server->echo = true;
    endpoint_start(server);
    endpoint_listen(server);
    struct flow *flows[LINKS];
    for (unsigned i = 0; i < 2; i++) {
        clients[i] = endpoint_create(&world);
        endpoint_start(clients[i]);
    }
    for (unsigned i = 0; i < LINKS; i++)
        flows[i] = endpoint_connect(clients[i % 2], server, NULL);
    UNTIL(&world, endpoint_up_count(clients[0]) + endpoint_up_count(clients[1]) == LINKS);
    uint64_t count = rounds(300);
    for (uint64_t round = 0; round < count; round++) {
        for (unsigned i = 0; i < LINKS; i++)
            (void)flow_send(flows[i]);
        world_turn(&world);
    }
    for (unsigned i = 0; i < LINKS; i++) {
        UNTIL(&world, flows[i]->received == flows[i]->sent);
        cr_assert_gt(flows[i]->sent, 0);
        cr_assert_not(flows[i]->broken);
    }
    struct port_stats stats;
    port_stats(server->port, &stats);
    cr_assert_eq(stats.links_up, LINKS);
    world_fini(&world);
}

/* ---- callbacks that send and close ---- */

static void send_at_once(struct flow *flow)
{
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(flow_send(flow), ERR_NONE);
}

LINK_TEST(messages_sent_while_coming_up_arrive_first)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    a->on_up = b->on_up = send_at_once;
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *at_a = endpoint_connect(a, b, NULL);
    UNTIL(&world, at_a->received == 5 && b->received == 5);
    cr_assert_not(a->broken || b->broken);
    world_fini(&world);
}

static void close_at_once(struct flow *flow)
{
    struct link *link = flow->link;
    flow->link = NULL;
    flow->used = false;
    link_close(link);
}

LINK_TEST(a_link_may_be_closed_while_it_comes_up)
{
    for (unsigned side = 0; side < 2; side++) {
        struct world world;
        world_init(&world, backend);
        struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
        (side ? a : b)->on_up = close_at_once;
        endpoint_start(a);
        endpoint_start(b);
        endpoint_listen(b);
        struct link_options once = {.once = true, .report_failures = true};
        (void)endpoint_connect(a, b, &once);
        UNTIL(&world, side ? a->ups && b->downs : b->ups && a->downs);
        turn_for_ms(&world, 20);
        cr_assert_eq(endpoint_up_count(a) + endpoint_up_count(b), 0);
        world_fini(&world);
    }
}

static void close_on_third(struct flow *flow, uint8_t *message, uint32_t size)
{
    cr_assert_lt(flow->received, 3, "nothing comes after the close");
    cr_assert(content_is_right(flow->received++, message, size));
    free(message);
    if (flow->received == 3) close_at_once(flow);
}

LINK_TEST(a_link_may_be_closed_by_the_message_it_delivers)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    b->on_message = close_on_third;
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(flow_send(at_a), ERR_NONE);
    UNTIL(&world, a->downs);
    cr_assert_eq(b->received, 3);
    cr_assert_eq(b->downs, 0, "whoever closes is not called back");
    cr_assert_eq(a->last_down.err, ERR_CLOSED, "%s", a->last_down.text);
    world_fini(&world);
}

static struct flow *other_flow; /* of the same endpoint */

static void close_the_other(struct flow *flow, uint8_t *message, uint32_t size)
{
    (void)size;
    flow->received++;
    free(message);
    if (other_flow && other_flow != flow && other_flow->link) close_at_once(other_flow);
}

LINK_TEST(a_message_of_one_link_may_close_another)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *one = endpoint_connect(a, b, NULL), *two = endpoint_connect(a, b, NULL);
    UNTIL(&world, one->link && two->link && endpoint_up_count(b) == 2);
    b->echo = true;
    other_flow = two;
    a->on_message = close_the_other;
    /* Both have something under way when one closes the other. */
    for (unsigned i = 0; i < 20; i++) {
        cr_assert_eq(flow_send(one), ERR_NONE);
        cr_assert_eq(flow_send(two), ERR_NONE);
    }
    UNTIL(&world, one->received == 20 && b->downs == 1);
    cr_assert_eq(endpoint_up_count(a), 1);
    world_fini(&world);
}

LINK_TEST(a_message_without_memory_ends_its_link_only)
{
    struct world world;
    world_init(&world, backend);
    struct endpoint *a, *b;
    struct flow *at_a = world_pair(&world, &a, &b);
    b->refuse_alloc = true;
    cr_assert_eq(flow_send(at_a), ERR_NONE);
    UNTIL(&world, b->downs == 1);
    cr_assert_eq(b->last_down.err, ERR_NO_MEMORY);
    b->refuse_alloc = false;
    UNTIL(&world, at_a->ups == 2 && at_a->link);
    cr_assert_eq(flow_send(at_a), ERR_NONE);
    UNTIL(&world, b->received == 1);
    world_fini(&world);
}
