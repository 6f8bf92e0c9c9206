/* Links over the simulated network, under faults of every kind, for thousands of seeds.
 *
 * What must hold whatever happens: on each connection each side receives a prefix of what the other
 * sent on it, in order and undamaged; memory of messages is given back; a closed link stays closed;
 * and after everything is healed every link that should be up comes up and carries traffic.
 *
 * TRELLIS_TEST_SEEDS says how many seeds (tests/sim runs 600), TRELLIS_TEST_SEED runs one, with
 * its story on stderr. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "rdma/port.h"
#include "rdma/sim.h"
#include "tests/unit/sanitized.h"

enum { NODES = 4, LINKS_PER_NODE = 3, CONNECTIONS_MAX = 16384 };

/* One side of one connection: the number of the next message in each direction. */
struct side {
    uint64_t sent, received;
    uint64_t
        token; /* which connection it is: said by the connector in its hello and first message */
    struct side *other;
    bool up;
};

struct node {
    struct universe *universe;
    struct port *port; /* NULL: crashed */
    uint32_t number;
    struct link *links[LINKS_PER_NODE];
    uint32_t to[LINKS_PER_NODE];
    long alive;
};

struct universe {
    struct sim_net *net;
    struct node nodes[NODES];
    struct side sides[2 * CONNECTIONS_MAX];
    unsigned side_count;
    uint64_t random;
    uint64_t delivered, ups, downs;
    bool loud;
};

static uint64_t draw(struct universe *universe)
{
    universe->random += 0x9e3779b97f4a7c15u;
    return hash_u64(universe->random);
}

#define TELL(universe, ...)                                                                        \
    do {                                                                                           \
        if ((universe)->loud) fprintf(stderr, __VA_ARGS__);                                        \
    } while (0)

/* ---- messages: token of the sender's side, number, then bytes that follow from both ---- */

static uint32_t message_size(uint64_t token, uint64_t number)
{
    uint64_t random = hash_u64(token * 1000003 + number);
    if (random % 40 == 0) return 16 + (uint32_t)(random >> 20) % 30000;
    return 16 + (uint32_t)(random >> 20) % 200;
}

static void message_fill(uint64_t token, uint64_t number, uint8_t *bytes, uint32_t size)
{
    memcpy(bytes, &token, 8);
    memcpy(bytes + 8, &number, 8);
    for (uint32_t i = 16; i < size; i++)
        bytes[i] = (uint8_t)(token * 7 + number * 13 + i);
}

static void side_send(struct link *link, struct side *side)
{
    static uint8_t bytes[1 << 16];
    uint64_t token = (uint64_t)side->token;
    uint32_t size = message_size(token, side->sent);
    message_fill(token, side->sent, bytes, size);
    struct link_piece piece = {bytes, size};
    enum err err = link_send(link, &piece, 1);
    cr_assert(!err || err == ERR_BUSY, "%s", err_text(err));
    if (!err) side->sent++;
}

/* ---- events ---- */

/* A new connection: the two ends find each other by their first messages, whose token is the
 * sending side's own. */
static enum err on_up(void *context, struct link *link)
{
    struct node *node = context;
    struct universe *universe = node->universe;
    if (draw(universe) % 50 == 0) return ERR_BUSY;
    cr_assert_lt(universe->side_count, 2 * CONNECTIONS_MAX);
    struct side *side = &universe->sides[universe->side_count];
    *side = (struct side){.token = universe->side_count++, .up = true};
    link_set_context(link, side);
    universe->ups++;
    side_send(link, side);
    return ERR_NONE;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    struct node *node = context;
    struct side *side = link_context(link);
    TELL(node->universe, "node %u: down: %s\n", node->number, reason->text);
    /* Without a side it is the connection that `up` refused. */
    cr_assert(side ? side->up : reason->err == ERR_BUSY);
    if (side) side->up = false;
    link_set_context(link, NULL);
    node->universe->downs++;
    /* `up` of a connector said no: it is down for good, and another is made. */
    for (unsigned i = 0; i < LINKS_PER_NODE; i++) {
        if (node->links[i] != link || reason->err != ERR_BUSY) continue;
        link_close(link);
        node->links[i] = NULL;
    }
}

static void *on_alloc(void *context, struct link *link, uint32_t size)
{
    struct node *node = context;
    (void)link;
    node->alive++;
    return malloc(size);
}

static void on_release(void *context, struct link *link, void *message)
{
    struct node *node = context;
    (void)link;
    node->alive--;
    free(message);
}

static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct node *node = context;
    struct universe *universe = node->universe;
    struct side *side = link_context(link);
    cr_assert(side && side->up, "a message after the end");
    uint64_t token, number;
    cr_assert_geq(size, 16);
    memcpy(&token, message, 8);
    memcpy(&number, (uint8_t *)message + 8, 8);
    cr_assert_lt(token, universe->side_count);
    struct side *from = &universe->sides[token];
    if (!side->other) side->other = from;
    cr_assert_eq(side->other, from, "a message of another connection");
    cr_assert(!from->other || from->other == side, "a connection with two ends on one side");
    cr_assert_eq(number, side->received, "not the next");
    /* It may be arriving from within the very call that sends it, never before. */
    cr_assert_leq(number, from->sent);
    cr_assert_eq(size, message_size(token, number));
    static uint8_t expected[1 << 16];
    message_fill(token, number, expected, size);
    cr_assert_eq(memcmp(message, expected, size), 0, "damaged");
    side->received++;
    universe->delivered++;
    on_release(context, link, message);
    if (draw(universe) % 3 == 0) side_send(link, side);
}

static const struct port_events events = {on_up, on_down, on_alloc, on_message, on_release};

/* ---- nodes ---- */

static void node_start(struct node *node)
{
    struct port_config config = {
        .events = &events,
        .context = node,
        .sim = node->universe->net,
        .sim_node = node->number,
        .keepalive_ms = 300,
        .handshake_ms = 200,
        .reconnect_ms_max = 100,
        .link_credits = 1 + (uint32_t)(draw(node->universe) % 8),
        .link_queue_bytes = 1 << 16,
        .pending_max = 1 + (uint32_t)(draw(node->universe) % 4),
        .secret = "the same for all",
    };
    struct port_address own = {.kind = LINK_SIM, .sim = node->number};
    struct diag diag;
    cr_assert_eq(port_create(&config, &node->port, &diag), ERR_NONE);
    cr_assert_eq(port_listen(node->port, &own, NULL, &diag), ERR_NONE, "%s", diag.text);
}

static void node_crash(struct node *node)
{
    TELL(node->universe, "node %u crashes\n", node->number);
    sim_net_kill(node->universe->net, node->number);
    port_destroy(node->port);
    node->port = NULL;
    cr_assert_eq(node->alive, 0);
    memset(node->links, 0, sizeof(node->links));
}

static void node_connect(struct node *node)
{
    for (unsigned i = 0; i < LINKS_PER_NODE; i++) {
        if (node->links[i]) continue;
        node->to[i] = (uint32_t)(draw(node->universe) % NODES);
        struct port_address to = {.kind = LINK_SIM, .sim = node->to[i]};
        struct diag diag;
        cr_assert_eq(port_connect(node->port, &to, NULL, &node->links[i], &diag), ERR_NONE);
        return;
    }
}

static void node_send(struct node *node)
{
    for (struct link *link = port_link_next(node->port, NULL); link;
         link = port_link_next(node->port, link)) {
        struct side *side = link_context(link);
        if (!side || !link_is_up(link)) continue;
        for (uint64_t i = draw(node->universe) % 12; i; i--)
            side_send(link, side);
    }
}

static void node_close_one(struct node *node)
{
    struct universe *universe = node->universe;
    unsigned i = (unsigned)(draw(universe) % LINKS_PER_NODE);
    if (!node->links[i]) return;
    struct side *side = link_context(node->links[i]);
    if (side) side->up = false;
    link_close(node->links[i]);
    node->links[i] = NULL;
}

static void node_turn(struct node *node)
{
    struct universe *universe = node->universe;
    if (draw(universe) % 8 == 0) return; /* late */
    port_poll(node->port);
    switch (draw(universe) % 8) {
    case 0:
        node_connect(node);
        break;
    case 1:
    case 2:
    case 3:
        node_send(node);
        break;
    case 4:
        if (draw(universe) % 60 == 0) node_close_one(node);
        break;
    default:
        break;
    }
    if (draw(universe) % 4) port_flush(node->port);
}

/* ---- runs ---- */

static void time_pass(struct universe *universe)
{
    uint64_t now = sim_net_now_ns(universe->net), next = sim_net_next_ns(universe->net);
    for (unsigned i = 0; i < NODES; i++) {
        if (!universe->nodes[i].port) continue;
        uint64_t timer = port_timer_ns(universe->nodes[i].port);
        if (timer < next) next = timer;
    }
    uint64_t step = next > now ? next - now : 1 + draw(universe) % 2000;
    sim_net_advance(universe->net, step < 5000000 ? step : 5000000);
}

static void fault(struct universe *universe)
{
    uint32_t a = (uint32_t)(draw(universe) % NODES), b = (uint32_t)(draw(universe) % NODES);
    uint64_t kind = draw(universe) % 9;
    struct node *node = &universe->nodes[a];
    if (kind <= SIM_FAULT_CORRUPT) {
        TELL(universe, "fault %lu between %u and %u\n", kind, a, b);
        sim_net_fault(universe->net, a, b, (enum sim_fault)kind);
    } else if (kind == 6 && node->port) {
        node_crash(node);
    } else if (kind == 7 && !node->port) {
        node_start(node);
    } else {
        sim_net_heal(universe->net, a, b);
    }
}

static void heal_all(struct universe *universe)
{
    for (unsigned a = 0; a < NODES; a++) {
        for (unsigned b = 0; b < NODES; b++)
            sim_net_heal(universe->net, a, b);
        if (!universe->nodes[a].port) node_start(&universe->nodes[a]);
    }
}

static bool all_up(const struct universe *universe)
{
    for (unsigned i = 0; i < NODES; i++) {
        for (unsigned k = 0; k < LINKS_PER_NODE; k++) {
            const struct link *link = universe->nodes[i].links[k];
            if (link && !link_is_up(link)) return false;
        }
    }
    return true;
}

/* Returns a hash of the whole story. */
static uint64_t run(uint64_t seed, bool loud)
{
    struct universe *universe = calloc(1, sizeof(*universe));
    universe->random = seed;
    universe->loud = loud;
    struct sim_net_config config = {
        .seed = seed, .delay_ns_min = 500, .delay_ns_max = 1000 + draw(universe) % 3000000};
    cr_assert_eq(sim_net_create(&config, &universe->net), ERR_NONE);
    for (uint32_t i = 0; i < NODES; i++) {
        universe->nodes[i] = (struct node){.universe = universe, .number = i};
        node_start(&universe->nodes[i]);
    }
    for (unsigned turn = 0; turn < 800; turn++) {
        for (unsigned i = 0; i < NODES; i++)
            if (universe->nodes[i].port) node_turn(&universe->nodes[i]);
        if (draw(universe) % 40 == 0) fault(universe);
        time_pass(universe);
    }
    heal_all(universe);
    uint64_t start = sim_net_now_ns(universe->net);
    uint64_t limit = (uint64_t)20 * 1000000000u;
    uint64_t delivered = universe->delivered;
    while (!all_up(universe) || universe->delivered < delivered + 50) {
        for (unsigned i = 0; i < NODES; i++) {
            struct node *node = &universe->nodes[i];
            port_poll(node->port);
            node_connect(node);
            if (all_up(universe)) node_send(node);
            port_flush(node->port);
        }
        time_pass(universe);
        cr_assert_lt(sim_net_now_ns(universe->net) - start, limit, "seed %lu: not all came up",
                     seed);
    }
    uint64_t story = hash_u64(universe->delivered) ^ hash_u64(universe->ups * 3) ^
                     hash_u64(universe->downs * 5) ^ sim_net_now_ns(universe->net);
    for (unsigned i = 0; i < NODES; i++) {
        port_destroy(universe->nodes[i].port);
        cr_assert_eq(universe->nodes[i].alive, 0, "seed %lu: lost memory", seed);
    }
    sim_net_destroy(universe->net);
    free(universe);
    return story;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

enum { SEEDS = SANITIZED ? 25 : 100 };

Test(sim_net, links_keep_their_promises_under_random_faults)
{
    uint64_t one = setting("TRELLIS_TEST_SEED", 0);
    uint64_t count = setting("TRELLIS_TEST_SEEDS", SEEDS);
    if (one) {
        (void)run(one, true);
        return;
    }
    for (uint64_t seed = 1; seed <= count; seed++)
        (void)run(seed, false);
}

Test(sim_net, the_same_seed_gives_the_same_story)
{
    for (uint64_t seed = 90001; seed < 90006; seed++)
        cr_assert_eq(run(seed, false), run(seed, false));
    cr_assert_neq(run(90001, false), run(90002, false));
}
