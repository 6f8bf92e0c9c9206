/* The simulated network: its clock, its randomness, its connections and what ails them.
 *
 * All randomness comes from one generator with the network's seed, and everything that happens is
 * an event with a time and a serial number in the receiving port's heap (sim.c); so a run is the
 * same each time as long as its ports are polled in the same order.
 *
 * A connection (wire) has two ends. Either may close at any time; the other learns of it by an
 * event after everything that was under way, or not at all when it is an orphan. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "rdma/sim/sim_private.h"

uint64_t sim_net_draw(struct sim_net *net)
{
    net->random_state += 0x9e3779b97f4a7c15u; /* SplitMix64 (Steele, Lea and Flood, 2014) */
    return hash_u64(net->random_state);
}

void sim_net_random(struct sim_net *net, void *bytes, size_t size)
{
    uint8_t *at = bytes;
    while (size) {
        uint64_t value = sim_net_draw(net);
        size_t part = size < sizeof(value) ? size : sizeof(value);
        memcpy(at, &value, part);
        at += part;
        size -= part;
    }
}

uint64_t sim_net_now_ns(const struct sim_net *net)
{
    if (net->config.monotonic_ns) return net->config.monotonic_ns(net->config.clock_context);
    return net->now_ns;
}

void sim_net_advance(struct sim_net *net, uint64_t ns)
{
    ASSERT(!net->config.monotonic_ns);
    net->now_ns += ns;
}

uint64_t sim_delay_ns(struct sim_net *net, const struct sim_pair *pair)
{
    enum { SLOW_FACTOR = 100 };
    uint64_t range = net->config.delay_ns_max - net->config.delay_ns_min;
    uint64_t delay = net->config.delay_ns_min + (range ? sim_net_draw(net) % (range + 1) : 0);
    return pair && pair->slow ? delay * SLOW_FACTOR : delay;
}

enum err sim_net_create(const struct sim_net_config *config, struct sim_net **ret_net)
{
    if (config->delay_ns_max < config->delay_ns_min) return ERR_INVALID;
    struct sim_net *net = calloc(1, sizeof(*net));
    if (!net) return ERR_NO_MEMORY;
    net->config = *config;
    net->random_state = config->seed;
    net->now_ns = 1000000000; /* 0 stands for never in many places */
    *ret_net = net;
    return ERR_NONE;
}

void sim_net_destroy(struct sim_net *net)
{
    if (!net) return;
    ASSERT(!net->sims && !net->wires);
    while (net->pairs) {
        struct sim_pair *pair = net->pairs;
        net->pairs = pair->next;
        free(pair);
    }
    free(net);
}

uint64_t sim_net_next_ns(const struct sim_net *net)
{
    uint64_t next = UINT64_MAX;
    for (const struct sim *sim = net->sims; sim; sim = sim->next)
        if (!sim->dead && sim->event_count && sim->events[0].at_ns < next)
            next = sim->events[0].at_ns;
    return next;
}

struct sim *sim_listener(const struct sim_net *net, uint32_t node)
{
    for (struct sim *sim = net->sims; sim; sim = sim->next)
        if (sim->node == node && sim->listening && !sim->dead) return sim;
    return NULL;
}

/* ---- wires ---- */

struct sim_wire *sim_wire_create(struct sim_net *net)
{
    struct sim_wire *wire = calloc(1, sizeof(*wire));
    if (!wire) return NULL;
    wire->net = net;
    wire->references = 1; /* the connector's */
    for (unsigned i = 0; i < 2; i++) {
        wire->ends[i].wire = wire;
        wire->ends[i].index = i;
        wire->ends[i].posted_tail = &wire->ends[i].posted;
    }
    wire->next = net->wires;
    if (net->wires) net->wires->previous = wire;
    net->wires = wire;
    return wire;
}

void sim_wire_release(struct sim_wire *wire)
{
    ASSERT(wire->references);
    if (--wire->references) return;
    if (wire->previous)
        wire->previous->next = wire->next;
    else
        wire->net->wires = wire->next;
    if (wire->next) wire->next->previous = wire->previous;
    free(wire);
}

void sim_lose(struct sim_end *end, uint64_t at_ns, enum err err, const char *text)
{
    if (end->lost || !end->sim) return;
    end->lost = true;
    if (at_ns < end->arrival_ns) at_ns = end->arrival_ns;
    sim_event_push(end->sim, (struct sim_event){.at_ns = at_ns,
                                                .kind = SIM_LOST,
                                                .end = end->index,
                                                .wire = end->wire,
                                                .err = err,
                                                .text = text});
}

/* ---- faults ---- */

struct sim_pair *sim_pair_find(const struct sim_net *net, uint32_t a, uint32_t b)
{
    uint32_t low = a < b ? a : b, high = a < b ? b : a;
    struct sim_pair *pair = net->pairs;
    while (pair && (pair->a != low || pair->b != high))
        pair = pair->next;
    return pair;
}

static struct sim_pair *pair_of(struct sim_net *net, uint32_t a, uint32_t b)
{
    struct sim_pair *pair = sim_pair_find(net, a, b);
    if (pair) return pair;
    pair = calloc(1, sizeof(*pair));
    ASSERT(pair); /* a simulation has nobody to tell */
    pair->a = a < b ? a : b;
    pair->b = a < b ? b : a;
    pair->next = net->pairs;
    net->pairs = pair;
    return pair;
}

/* The end's connection is over now: what is under way to it is lost. */
static void end_cut(struct sim_end *end)
{
    end->deaf = true;
    end->arrival_ns = 0;
    sim_lose(end, sim_net_now_ns(end->wire->net), ERR_CLOSED, "the connection was cut");
}

static void wire_fault(struct sim_wire *wire, unsigned first, enum sim_fault fault)
{
    struct sim_end *a = &wire->ends[first], *b = &wire->ends[!first];
    end_cut(a);
    if (fault == SIM_FAULT_CUT)
        end_cut(b);
    else
        b->orphan = true;
}

void sim_net_fault(struct sim_net *net, uint32_t a, uint32_t b, enum sim_fault fault)
{
    struct sim_pair *pair = pair_of(net, a, b);
    switch (fault) {
    case SIM_FAULT_CUT:
    case SIM_FAULT_RESET_A:
        for (struct sim_wire *wire = net->wires; wire; wire = wire->next) {
            if (wire->ends[0].node == a && wire->ends[1].node == b)
                wire_fault(wire, 0, fault);
            else if (wire->ends[1].node == a && wire->ends[0].node == b)
                wire_fault(wire, 1, fault);
        }
        break;
    case SIM_FAULT_SILENCE:
        pair->silence = true;
        break;
    case SIM_FAULT_REFUSE:
        pair->refuse = true;
        break;
    case SIM_FAULT_SLOW:
        pair->slow = true;
        break;
    case SIM_FAULT_CORRUPT:
        if (b == pair->b)
            pair->corrupt_to_b = true;
        else
            pair->corrupt_to_a = true;
        break;
    }
}

void sim_net_heal(struct sim_net *net, uint32_t a, uint32_t b)
{
    struct sim_pair *pair = sim_pair_find(net, a, b);
    if (pair) pair->silence = pair->refuse = pair->slow = false;
}

void sim_net_kill(struct sim_net *net, uint32_t node)
{
    for (struct sim *sim = net->sims; sim; sim = sim->next)
        if (sim->node == node) sim->dead = true;
    for (struct sim_wire *wire = net->wires; wire; wire = wire->next) {
        for (unsigned i = 0; i < 2; i++) {
            if (wire->ends[i].node != node) continue;
            if (wire->ends[!i].node != node) end_cut(&wire->ends[!i]);
        }
    }
}
