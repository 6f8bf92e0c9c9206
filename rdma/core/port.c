/* Ports: their making and ending, and the turn.
 *
 * A turn (port_poll) goes: the clock; what the descriptors say; what the back ends find; due
 * timers; then the links that ended are settled. During the first three, links are only marked and
 * put into port->ending: callbacks of `down`, closing of back ends other than the link's that is
 * being served, and freeing happen in port_settle, when nobody walks over links. Callbacks of `up`
 * and `message` come right from the batch that causes them, and may close any link.
 *
 * Time: a turn reads the coarse clock, which costs a few nanoseconds and is some milliseconds old
 * at most; all timers are coarse. After a sleep the fine one is read, so that a timer that woke the
 * port is found due.
 *
 * Descriptors: a back end whose descriptors are always live (tcp) needs epoll_wait in every turn,
 * the others have only listeners and connections in the making there, looked at every millisecond
 * or so. While asleep all of them are live.
 *
 * A port that comes back late (stopped, or its owner was busy) must not take the silence of the
 * meantime for its peers': the time by which it missed its timers does not count.
 */
#include "rdma/core/port_private.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/sim.h"

enum {
    LINKS_MAX_DEFAULT = 1024,
    PENDING_MAX_DEFAULT = 64,
    HANDSHAKE_MS_DEFAULT = 5000,
    KEEPALIVE_MS_DEFAULT = 10000,
    KEEPALIVE_MS_LEAST = 30,
    RECONNECT_MS_MAX_DEFAULT = 2000,
    LINK_CREDITS_DEFAULT = 16,
    LINK_QUEUE_BYTES_DEFAULT = 32 << 20,
    REGISTERED_BYTES_DEFAULT = 16 << 20,
    POLL_BUDGET = 256, /* batches of a back end in a turn */
    EPOLL_SKIP_MAX = 1000,
    EPOLL_INTERVAL_NS = 1000 * 1000,
};

/* Back ends add themselves here; one that is not built is missing. */
static const struct backend_ops *port_ops_of(enum link_kind kind)
{
    switch (kind) {
    case LINK_TCP:
        return &tcp_ops;
    case LINK_SHM:
        return &shm_ops;
    case LINK_SIM:
        return &sim_ops;
    case LINK_VERBS:
        return &verbs_ops;
    case LINK_KINDS:
        break;
    }
    return NULL;
}

/* ---- time and randomness ---- */

static uint64_t clock_read(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t port_clock_ns(const struct port *port)
{
    const struct port_config *config = &port->config;
    if (config->monotonic_ns) return config->monotonic_ns(config->clock_context);
    return config->sim ? sim_net_now_ns(config->sim) : clock_read(CLOCK_MONOTONIC);
}

void port_time_fine(struct port *port)
{
    port->now_ns = port_clock_ns(port);
}

void port_time_coarse(struct port *port)
{
    bool real = !port->config.monotonic_ns && !port->config.sim;
    uint64_t now = real ? clock_read(CLOCK_MONOTONIC_COARSE) : port_clock_ns(port);
    if (now > port->now_ns) port->now_ns = now;
}

uint64_t port_now_ns(const struct port *port)
{
    return port->now_ns;
}

void port_random(struct port *port, void *bytes, size_t size)
{
    if (port->config.random)
        port->config.random(port->config.clock_context, bytes, size);
    else if (port->config.sim)
        sim_net_random(port->config.sim, bytes, size);
    else
        randombytes_buf(bytes, size);
}

/* ---- making and ending ---- */

static void config_defaults(struct port_config *config)
{
    if (!config->links_max) config->links_max = LINKS_MAX_DEFAULT;
    if (!config->pending_max) config->pending_max = PENDING_MAX_DEFAULT;
    if (!config->handshake_ms) config->handshake_ms = HANDSHAKE_MS_DEFAULT;
    if (!config->keepalive_ms) config->keepalive_ms = KEEPALIVE_MS_DEFAULT;
    if (config->keepalive_ms < KEEPALIVE_MS_LEAST) config->keepalive_ms = KEEPALIVE_MS_LEAST;
    if (!config->reconnect_ms_max) config->reconnect_ms_max = RECONNECT_MS_MAX_DEFAULT;
    if (!config->link_credits) config->link_credits = LINK_CREDITS_DEFAULT;
    if (config->link_credits > PORT_LINK_CREDITS_MAX) config->link_credits = PORT_LINK_CREDITS_MAX;
    if (!config->link_queue_bytes) config->link_queue_bytes = LINK_QUEUE_BYTES_DEFAULT;
    if (!config->registered_bytes_max) config->registered_bytes_max = REGISTERED_BYTES_DEFAULT;
}

enum err port_create(const struct port_config *config, struct port **ret_port, struct diag *diag)
{
    ASSERT(config->events && config->hello_size <= PORT_HELLO_SIZE_MAX);
    if (sodium_init() < 0) return diag_set(diag, ERR_IO, "libsodium found no source of randomness");
    struct port *port = calloc(1, sizeof(*port));
    if (!port) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    port->config = *config;
    config_defaults(&port->config);
    port->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (port->epoll_fd < 0) {
        enum err err = errno == ENOMEM ? ERR_NO_MEMORY : ERR_BUSY;
        diag_set(diag, err, "no descriptor for an epoll: %s", strerror(errno));
        sodium_memzero(&port->config, sizeof(port->config));
        free(port);
        return err;
    }
    handshake_keys_derive(port->config.secret, &port->keys);
    spin_init(&port->spin, port->config.spin);
    port->ending_tail = &port->ending;
    port->timer_ns = UINT64_MAX;
    port_wait_init(port);
    port_time_fine(port);
    port->stats.registered_bytes_max = port->config.registered_bytes_max;
    *ret_port = port;
    return ERR_NONE;
}

/* As link_close of each that its owner has not closed. What had ended already goes as well, and of
 * no link `down` is told any more. */
static void links_close_all(struct port *port)
{
    port->closing = true;
    port->polling = true; /* `release` may close others: nothing is freed under the walk */
    for (struct link *link = port->links; link; link = link->next)
        if (!link->closed) link_close(link);
    port->polling = false;
    port_settle(port);
}

static bool has_draining(const struct port *port)
{
    const struct link *link = port->links;
    while (link && link->state != LINK_DRAINING)
        link = link->next;
    return link != NULL;
}

/* Gives turns until the queues of closed links have left, or their second is over. In simulated
 * time nothing moves while one waits. */
static void links_drain(struct port *port)
{
    enum { WAIT_NS = 2 * 1000 * 1000 };
    if (port->config.sim || port->config.monotonic_ns) return;
    uint64_t until = clock_read(CLOCK_MONOTONIC) + (uint64_t)LINK_DRAIN_MS * 1000000u;
    while (has_draining(port) && clock_read(CLOCK_MONOTONIC) < until)
        (void)port_wait(port, WAIT_NS);
}

void port_destroy(struct port *port)
{
    if (!port) return;
    ASSERT(!port->polling);
    if (port->asleep) port_awake(port, false);
    links_close_all(port);
    links_drain(port);
    while (port->links) {
        struct link *link = port->links;
        link->drain = true;
        link_destroy(link);
    }
    for (unsigned i = 0; i < LINK_KINDS; i++)
        if (port->slots[i].backend) port->slots[i].ops->destroy(port->slots[i].backend);
    port_wait_fini(port);
    close(port->epoll_fd);
    spin_fini(&port->spin);
    sodium_memzero(&port->keys, sizeof(port->keys));
    sodium_memzero(&port->config, sizeof(port->config));
    free(port);
}

static enum err slot_open(struct port *port, struct backend_slot *slot, enum link_kind kind,
                          struct diag *diag)
{
    if (slot->backend) return ERR_NONE;
    slot->ops = port_ops_of(kind);
    if (!slot->ops)
        return diag_set(diag, ERR_UNSUPPORTED, "this program was built without %s",
                        link_kind_name(kind));
    enum err err = slot->ops->open(port, port->epoll_fd, &slot->backend, diag);
    if (!err) port->open[port->open_count++] = (uint8_t)kind;
    return err;
}

enum err port_listen(struct port *port, const struct port_address *address,
                     struct port_address *ret_bound, struct diag *diag)
{
    ASSERT((unsigned)address->kind < LINK_KINDS);
    struct backend_slot *slot = &port->slots[address->kind];
    enum err err = slot_open(port, slot, address->kind, diag);
    if (err) return err;
    uint32_t listeners = 0;
    for (unsigned i = 0; i < LINK_KINDS; i++)
        listeners += port->slots[i].listeners;
    if (listeners == PORT_LISTENERS_MAX)
        return diag_set(diag, ERR_BUSY, "a port listens at no more than %d addresses",
                        PORT_LISTENERS_MAX);
    struct port_address bound = *address;
    err = slot->ops->listen(slot->backend, address, &bound, diag);
    if (err) return err;
    slot->listeners++;
    if (ret_bound) *ret_bound = bound;
    return ERR_NONE;
}

enum err port_connect(struct port *port, const struct port_address *address,
                      const struct link_options *options, struct link **ret_link, struct diag *diag)
{
    static const struct link_options none;
    if (!options) options = &none;
    if (options->hello_size > PORT_HELLO_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "a hello has at most %d bytes", PORT_HELLO_SIZE_MAX);
    if (port->links_held >= port->config.links_max)
        return diag_set(diag, ERR_BUSY, "there are %u links already", port->links_held);
    ASSERT((unsigned)address->kind < LINK_KINDS);
    struct backend_slot *slot = &port->slots[address->kind];
    enum err err = slot_open(port, slot, address->kind, diag);
    if (err) return err;
    char text[PORT_ADDRESS_TEXT_SIZE];
    port_address_format(address, text);
    struct link *link = link_create(port, slot->backend, false, text);
    if (!link) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    link->address = malloc(sizeof(*link->address));
    if (!link->address) {
        link_destroy(link);
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    *link->address = *address;
    link->context = options->context;
    link->once = options->once;
    link->report = options->report_failures;
    if (options->hello) {
        memcpy(link->hello, options->hello, options->hello_size);
        link->hello_size = options->hello_size;
    }
    port->links_held++;
    link->counted_held = true;
    port_time_coarse(port);
    /* An attempt that cannot even start is a failed attempt like the others, but for what trying
     * again will not mend. */
    err = link_connect(link, diag);
    if (err) {
        link_destroy(link);
        return err;
    }
    *ret_link = link;
    return ERR_NONE;
}

/* ---- the turn ---- */

void core_unwatch(struct port *port, const struct backend_watch *watch)
{
    for (int i = port->event_next; i < port->event_count; i++)
        if (port->events[i].data.ptr == watch) port->events[i].data.ptr = NULL;
}

static void events_handle(struct port *port)
{
    while (port->event_next < port->event_count) {
        struct epoll_event event = port->events[port->event_next++];
        struct backend_watch *watch = event.data.ptr;
        if (watch) watch->ready(watch, event.events);
    }
    port->event_next = port->event_count = 0;
}

static bool has_live_descriptors(const struct port *port)
{
    for (unsigned i = 0; i < port->open_count; i++) {
        const struct backend_slot *slot = &port->slots[port->open[i]];
        if (!slot->ops->arm && slot->links) return true;
    }
    return false;
}

static bool epoll_is_due(struct port *port)
{
    if (port->epoll_due || has_live_descriptors(port)) return true;
    return ++port->epoll_skipped >= EPOLL_SKIP_MAX ||
           port->now_ns - port->epoll_last_ns >= EPOLL_INTERVAL_NS;
}

/* This thread was away for `ns` longer than it had meant to be. */
static void late_forgive(struct port *port, uint64_t ns)
{
    for (struct link *link = port->links; link; link = link->next) {
        link->received_ns += ns;
        if (link->received_ns > port->now_ns) link->received_ns = port->now_ns;
    }
}

static void timers_run(struct port *port)
{
    enum { LATE_SHARE = 6 }; /* of the time after which a silent peer is lost */
    uint64_t now = port->now_ns;
    uint64_t late = now - port->timer_ns;
    if (late > (uint64_t)port->config.keepalive_ms * 1000000u / LATE_SHARE)
        late_forgive(port, late);
    port->timer_ns = UINT64_MAX;
    struct link *next;
    for (struct link *link = port->links; link; link = next) {
        next = link->next; /* link_timer ends links, but frees none */
        link_timer(link);
        port_timer_at(port, link_timer_ns(link));
    }
}

static bool slot_has_work(const struct port *port, const struct backend_slot *slot)
{
    if (slot->links || slot->listeners) return true;
    return slot->ops->timer_ns && slot->ops->timer_ns(slot->backend) <= port->now_ns;
}

/* All but fetching descriptor events. */
void port_turn_rest(struct port *port)
{
    events_handle(port);
    for (unsigned i = 0; i < port->open_count; i++) {
        struct backend_slot *slot = &port->slots[port->open[i]];
        if (slot_has_work(port, slot)) (void)slot->ops->poll(slot->backend, POLL_BUDGET);
    }
    if (port->now_ns >= port->timer_ns) timers_run(port);
    port->polling = false;
    port_settle(port);
    if (port->callbacks && port->spin.idle_ns) {
        if (!port->time_is_fine) port_time_fine(port);
        spin_found(&port->spin, port->now_ns);
    }
    port->time_is_fine = false;
}

void port_turn_begin(struct port *port)
{
    ASSERT(!port->polling && !port->settling); /* no turn inside a callback */
    port->polling = true;
    port->callbacks = 0;
    port->messages = 0;
}

static void credits_give(struct port *port)
{
    struct link *next;
    for (struct link *link = port->dirty; link; link = next) {
        next = link->dirty_next;
        link_give_credits(link);
    }
}

uint32_t port_poll(struct port *port)
{
    port_time_coarse(port);
    /* Credits owed from the last turn that found no other batch to travel on. */
    if (port->dirty) credits_give(port);
    port_turn_begin(port);
    if (epoll_is_due(port)) (void)port_events_fetch(port, 0);
    port_turn_rest(port);
    return port->messages;
}

void port_flush(struct port *port)
{
    struct link *link;
    while ((link = port->dirty)) {
        port->dirty = link->dirty_next;
        link->dirty = false;
        link_flush(link);
    }
}

/* ---- looking ---- */

void port_stats(const struct port *port, struct port_stats *ret_stats)
{
    struct port_stats stats = port->stats;
    stats.links = port->links_held;
    stats.links_pending = port->pending;
    stats.buffer_bytes = port->queue_bytes;
    for (const struct link *link = port->links; link; link = link->next)
        stats.links_up += link->state == LINK_UP;
    for (unsigned i = 0; i < LINK_KINDS; i++) {
        const struct backend_slot *slot = &port->slots[i];
        if (slot->backend && slot->ops->stats) slot->ops->stats(slot->backend, &stats);
    }
    *ret_stats = stats;
}

uint32_t port_link_credits(const struct port *port)
{
    return port->config.link_credits;
}

uint64_t port_registered_bytes_max(const struct port *port)
{
    return port->config.registered_bytes_max;
}

bool port_is_closing(const struct port *port)
{
    return port->closing;
}

const uint8_t *port_secret(const struct port *port)
{
    return port->config.secret;
}

struct sim_net *port_sim(const struct port *port, uint32_t *ret_node)
{
    *ret_node = port->config.sim_node;
    return port->config.sim;
}
