/* The back end over the simulated network.
 *
 * Events for a port wait in its heap, ordered by time and then by serial number, until the port is
 * polled at or after their time. What the core may rely on, this back end does in the way least
 * comfortable for it:
 *
 *   - nothing leaves before flush, so a batch that the core forgets to flush never arrives;
 *   - reserve is refused now and then (not in the handshake), and core_writable comes later;
 *   - more batches under way than the peer's credits and BATCHES_SPARE are a bug, and asserted;
 *   - batches are small, and a bit of one can be flipped on the way: there is a checksum;
 *   - closing without `drain` loses what is under way, half of the time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "rdma/sim/sim_private.h"

enum { REFUSE_RESERVE_SHARE = 32, HANDSHAKE_POSTS = 2, EVENTS_MIN = 16 };

static struct sim *sim_of(const struct backend *backend)
{
    return (struct sim *)backend;
}

static struct sim_end *end_of(const struct link *link)
{
    return (struct sim_end *)link_backend(link);
}

static struct sim_end *other_end(struct sim_end *end)
{
    return &end->wire->ends[!end->index];
}

/* ---- events ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->serial < b->serial);
}

void sim_event_push(struct sim *sim, struct sim_event event)
{
    if (sim->event_count == sim->event_capacity) {
        uint32_t capacity = sim->event_capacity ? 2 * sim->event_capacity : EVENTS_MIN;
        struct sim_event *events = realloc(sim->events, capacity * sizeof(*events));
        ASSERT(events); /* a simulation has nobody to tell */
        sim->events = events;
        sim->event_capacity = capacity;
    }
    event.serial = sim->net->serial++;
    event.wire->references++;
    uint32_t at = sim->event_count++;
    while (at && event_before(&event, &sim->events[(at - 1) / 2])) {
        sim->events[at] = sim->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->events[at] = event;
}

/* The caller gets the reference to the wire, and the bytes. */
static struct sim_event event_pop(struct sim *sim)
{
    struct sim_event first = sim->events[0];
    struct sim_event last = sim->events[--sim->event_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= sim->event_count) break;
        if (child + 1 < sim->event_count &&
            event_before(&sim->events[child + 1], &sim->events[child]))
            child++;
        if (!event_before(&sim->events[child], &last)) break;
        sim->events[at] = sim->events[child];
        at = child;
    }
    sim->events[at] = last;
    return first;
}

/* ---- connections ---- */

static enum err sim_listen(struct backend *backend, const struct port_address *address,
                           struct port_address *ret_bound, struct diag *diag)
{
    struct sim *sim = sim_of(backend);
    (void)ret_bound;
    if (address->sim != sim->node)
        return diag_set(diag, ERR_INVALID, "sim:%u is another node", address->sim);
    if (sim_listener(sim->net, sim->node))
        return diag_set(diag, ERR_IN_USE, "another port listens at sim:%u", address->sim);
    sim->listening = true;
    return ERR_NONE;
}

static enum err sim_connect(struct backend *backend, struct link *link,
                            const struct port_address *address, struct diag *diag)
{
    struct sim *sim = sim_of(backend);
    struct sim_net *net = sim->net;
    struct sim_wire *wire = sim_wire_create(net);
    if (!wire) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    struct sim_end *end = &wire->ends[0];
    end->sim = sim;
    end->link = link;
    end->node = sim->node;
    wire->ends[1].node = address->sim;
    link_set_backend(link, (struct backend_link *)end);
    struct sim_pair *pair = sim_pair_find(net, sim->node, address->sim);
    if (pair && pair->silence) return ERR_NONE; /* it will wait in vain */
    uint64_t at_ns = sim_net_now_ns(net) + sim_delay_ns(net, pair);
    struct sim *listener = sim_listener(net, address->sim);
    if (!listener || (pair && pair->refuse)) {
        sim_lose(end, at_ns, ERR_IO, "connection refused");
        return ERR_NONE;
    }
    sim_event_push(listener,
                   (struct sim_event){.at_ns = at_ns, .kind = SIM_CONNECT, .end = 1, .wire = wire});
    return ERR_NONE;
}

static void connect_take(struct sim *sim, struct sim_wire *wire)
{
    struct sim_net *net = sim->net;
    struct sim_end *end = &wire->ends[1];
    struct sim_end *connector = &wire->ends[0];
    if (!connector->sim || connector->lost) return;
    struct sim_pair *pair = sim_pair_find(net, sim->node, connector->node);
    uint64_t at_ns = sim_net_now_ns(net) + sim_delay_ns(net, pair);
    char text[32];
    snprintf(text, sizeof(text), "sim:%u", connector->node);
    if (sim->listening)
        end->link = core_accept((struct backend *)sim, (struct backend_link *)end, text);
    if (!end->link) {
        sim_lose(connector, at_ns, ERR_IO, "connection refused");
        return;
    }
    end->sim = sim;
    wire->references++;
    if (pair && pair->silence) return;
    sim_event_push(connector->sim,
                   (struct sim_event){.at_ns = at_ns, .kind = SIM_CONNECTED, .wire = wire});
    connector->arrival_ns = at_ns;
}

static void end_free_posted(struct sim_end *end)
{
    while (end->posted) {
        struct sim_posted *posted = end->posted;
        end->posted = posted->next;
        free(posted);
    }
    end->posted_tail = &end->posted;
}

static void sim_flush(struct link *link);

static void sim_close(struct link *link, bool drain)
{
    struct sim_end *end = end_of(link);
    struct sim_end *other = other_end(end);
    struct sim_net *net = end->wire->net;
    if (drain) sim_flush(link);
    end_free_posted(end);
    free(end->reserved);
    end->reserved = NULL;
    link_set_backend(link, NULL);
    struct sim *sim = end->sim;
    end->sim = NULL;
    end->link = NULL;
    struct sim_pair *pair = sim_pair_find(net, end->node, other->node);
    bool silent = sim->dead || other->orphan || (pair && pair->silence);
    if (!silent) {
        if (!drain && sim_net_draw(net) % 2) {
            other->deaf = true;
            other->arrival_ns = 0;
        }
        sim_lose(other, sim_net_now_ns(net) + sim_delay_ns(net, pair), ERR_CLOSED,
                 "the peer closed the connection");
    }
    sim_wire_release(end->wire);
}

/* ---- sending ---- */

static enum err sim_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity)
{
    struct sim_end *end = end_of(link);
    struct sim_net *net = end->wire->net;
    ASSERT(!end->reserved);
    if (end->posts >= HANDSHAKE_POSTS && sim_net_draw(net) % REFUSE_RESERVE_SHARE == 0) {
        uint64_t at_ns = sim_net_now_ns(net) + sim_delay_ns(net, NULL);
        sim_event_push(end->sim, (struct sim_event){.at_ns = at_ns,
                                                    .kind = SIM_WRITABLE,
                                                    .end = end->index,
                                                    .wire = end->wire});
        return ERR_BUSY;
    }
    end->reserved = malloc(SIM_BATCH_SIZE_MAX);
    if (!end->reserved) return ERR_BUSY;
    *ret_bytes = end->reserved;
    *ret_capacity = SIM_BATCH_SIZE_MAX;
    return ERR_NONE;
}

static void sim_post(struct link *link, uint32_t size)
{
    struct sim_end *end = end_of(link);
    ASSERT(end->reserved && size <= SIM_BATCH_SIZE_MAX);
    struct sim_posted *posted = malloc(sizeof(*posted) + size);
    ASSERT(posted);
    posted->next = NULL;
    posted->size = size;
    memcpy(posted->bytes, end->reserved, size);
    free(end->reserved);
    end->reserved = NULL;
    *end->posted_tail = posted;
    end->posted_tail = &posted->next;
    end->posts++;
}

static bool corrupt_is_due(struct sim_pair *pair, uint32_t to)
{
    if (!pair) return false;
    bool *due = to == pair->b ? &pair->corrupt_to_b : &pair->corrupt_to_a;
    bool was = *due;
    *due = false;
    return was;
}

static void batch_send(struct sim_end *end, const struct sim_posted *posted)
{
    struct sim_net *net = end->wire->net;
    struct sim_end *to = other_end(end);
    struct sim_pair *pair = sim_pair_find(net, end->node, to->node);
    uint64_t at_ns = sim_net_now_ns(net) + sim_delay_ns(net, pair);
    if (end->sim->dead || (pair && pair->silence)) return;
    if (end->orphan) sim_lose(end, at_ns, ERR_CLOSED, "the peer knows nothing of this connection");
    if (!to->sim) return;
    if (at_ns < to->arrival_ns) at_ns = to->arrival_ns;
    to->arrival_ns = at_ns;
    struct sim_event event = {.at_ns = at_ns,
                              .kind = SIM_BATCH,
                              .end = to->index,
                              .wire = end->wire,
                              .size = posted->size};
    event.bytes = malloc(posted->size);
    ASSERT(event.bytes);
    memcpy(event.bytes, posted->bytes, posted->size);
    if (corrupt_is_due(pair, to->node)) {
        uint64_t bit = sim_net_draw(net) % (8 * (uint64_t)posted->size);
        event.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    to->under_way++;
    ASSERT(to->under_way <= port_link_credits(to->sim->head.port) + BATCHES_SPARE);
    sim_event_push(to->sim, event);
}

static void sim_flush(struct link *link)
{
    struct sim_end *end = end_of(link);
    for (struct sim_posted *posted = end->posted; posted; posted = posted->next)
        batch_send(end, posted);
    end_free_posted(end);
}

/* ---- the turn ---- */

static void event_take(struct sim *sim, struct sim_event *event)
{
    struct sim_end *end = &event->wire->ends[event->end];
    if (event->kind == SIM_BATCH) end->under_way--;
    if (event->kind == SIM_CONNECT) {
        connect_take(sim, event->wire);
        return;
    }
    if (!end->link) return; /* closed meanwhile */
    switch (event->kind) {
    case SIM_CONNECTED:
        if (!end->deaf) core_connected(end->link);
        break;
    case SIM_BATCH:
        if (!end->deaf) core_batch(end->link, event->bytes, event->size);
        break;
    case SIM_LOST:
        core_lost(end->link, event->err, "%s", event->text);
        break;
    case SIM_WRITABLE:
        core_writable(end->link);
        break;
    case SIM_CONNECT:
        break;
    }
}

static bool sim_poll(struct backend *backend, unsigned budget)
{
    struct sim *sim = sim_of(backend);
    uint64_t now = sim_net_now_ns(sim->net);
    bool done = false;
    while (!sim->dead && budget-- && sim->event_count && sim->events[0].at_ns <= now) {
        struct sim_event event = event_pop(sim);
        event_take(sim, &event);
        free(event.bytes);
        sim_wire_release(event.wire);
        done = true;
    }
    return done;
}

static uint64_t sim_timer_ns(const struct backend *backend)
{
    const struct sim *sim = (const struct sim *)backend;
    return sim->event_count && !sim->dead ? sim->events[0].at_ns : UINT64_MAX;
}

/* There are no descriptors: whoever sleeps watches the network's clock. */
static bool sim_arm(struct backend *backend)
{
    return sim_timer_ns(backend) > sim_net_now_ns(sim_of(backend)->net);
}

static void sim_disarm(struct backend *backend)
{
    (void)backend;
}

/* ---- making and ending ---- */

static enum err sim_open(struct port *port, int epoll_fd, struct backend **ret_backend,
                         struct diag *diag)
{
    (void)epoll_fd;
    uint32_t node;
    struct sim_net *net = port_sim(port, &node);
    if (!net) return diag_set(diag, ERR_UNSUPPORTED, "this port is in no simulated network");
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    sim->head = (struct backend_head){.ops = &sim_ops, .port = port};
    sim->net = net;
    sim->node = node;
    sim->next = net->sims;
    net->sims = sim;
    *ret_backend = (struct backend *)sim;
    return ERR_NONE;
}

static void sim_destroy(struct backend *backend)
{
    struct sim *sim = sim_of(backend);
    struct sim_net *net = sim->net;
    struct sim **at = &net->sims;
    while (*at != sim)
        at = &(*at)->next;
    *at = sim->next;
    while (sim->event_count) {
        struct sim_event event = event_pop(sim);
        if (event.kind == SIM_CONNECT)
            sim_lose(&event.wire->ends[0], sim_net_now_ns(net), ERR_IO, "connection refused");
        free(event.bytes);
        sim_wire_release(event.wire);
    }
    free(sim->events);
    free(sim);
}

const struct backend_ops sim_ops = {
    .kind = LINK_SIM,
    .needs_checksum = true,
    .open = sim_open,
    .destroy = sim_destroy,
    .listen = sim_listen,
    .connect = sim_connect,
    .close = sim_close,
    .reserve = sim_reserve,
    .post = sim_post,
    .flush = sim_flush,
    .poll = sim_poll,
    .arm = sim_arm,
    .disarm = sim_disarm,
    .timer_ns = sim_timer_ns,
};
