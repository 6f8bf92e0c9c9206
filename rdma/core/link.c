/* A link's life.
 *
 *     connected:  WAITING -> CONNECTING -> GREETED -> PROVED -> UP -+-> WAITING …
 *                     ^________________________________________|    +-> ENDED (once, refused)
 *     accepted:   ACCEPTED -> CHALLENGED -> UP -> ENDED, and is freed
 *     link_close: UP -> DRAINING while its queue leaves, then GOODBYE, and it is freed
 *
 * Links end in two steps, because the back end may be walking over its links: link_fail marks the
 * link and closes its own back end; port_settle, at the end of the turn, calls `down`, closes what
 * else is to be closed, and frees. A link in port->ending is dead: no batch of it is looked at. */
#include "rdma/core/port_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    BACKOFF_MS_MIN = 10,
    STEADY_MS = 1000, /* a link that was up for so long starts its back-off afresh */
    PINGS = 3,        /* in the time after which a silent peer is lost */
    SLACK_SHARE = 4,  /* pings due within a quarter of their interval go together */
};

static uint64_t ms_as_ns(uint64_t ms)
{
    return ms * 1000000u;
}

struct backend_slot *port_slot_of(const struct link *link)
{
    return &link->port->slots[link->ops->kind];
}

/* ---- making and freeing ---- */

struct link *link_create(struct port *port, struct backend *backend, bool accepted,
                         const char *peer_text)
{
    const struct backend_head *head = (const struct backend_head *)backend;
    struct link *link = calloc(1, sizeof(*link));
    if (!link) return NULL;
    link->peer_text = strdup(peer_text);
    if (!link->peer_text) {
        free(link);
        return NULL;
    }
    link->port = port;
    link->backend = backend;
    link->ops = head->ops;
    link->accepted = accepted;
    link->state = accepted ? LINK_ACCEPTED : LINK_WAITING;
    link->number = ++port->last_number;
    link->backoff_ms = BACKOFF_MS_MIN;
    link->deadline_ns = UINT64_MAX;
    link->peer_taken = UINT64_MAX;
    link_send_reset(link);
    link->previous = port->links_last;
    if (port->links_last)
        port->links_last->next = link;
    else
        port->links = link;
    port->links_last = link;
    port_slot_of(link)->links++;
    return link;
}

static void link_uncount(struct link *link)
{
    link->port->pending -= link->counted_pending;
    link->port->links_held -= link->counted_held;
    link->counted_pending = link->counted_held = false;
}

static void backend_close(struct link *link)
{
    if (!link->backend_link) return;
    link->ops->close(link, link->drain);
    link->backend_link = NULL;
    link->open = NULL; /* the buffer was the back end's */
}

void link_destroy(struct link *link)
{
    struct port *port = link->port;
    ASSERT(!link->ending);
    backend_close(link);
    link_send_reset(link);
    link_receive_reset(link);
    link_uncount(link);
    if (link->dirty) {
        struct link **at = &port->dirty;
        while (*at != link)
            at = &(*at)->dirty_next;
        *at = link->dirty_next;
    }
    if (link->previous)
        link->previous->next = link->next;
    else
        port->links = link->next;
    if (link->next)
        link->next->previous = link->previous;
    else
        port->links_last = link->previous;
    port_slot_of(link)->links--;
    free(link->address);
    free(link->peer_text);
    free(link);
}

/* ---- connecting and accepting ---- */

enum err link_connect(struct link *link, struct diag *diag)
{
    struct port *port = link->port;
    link->state = LINK_CONNECTING;
    link->drain = false;
    link->deadline_ns = port->now_ns + ms_as_ns(port->config.handshake_ms);
    port_timer_at(port, link->deadline_ns);
    return link->ops->connect(link->backend, link, link->address, diag);
}

void core_connected(struct link *link)
{
    if (link->ending) return;
    ASSERT(link->state == LINK_CONNECTING);
    greet_start(link);
}

/* Makes room for a newcomer: a flood of connections that never prove themselves must not lock out
 * a peer that will, so a random one goes. */
static void pending_drop(struct port *port)
{
    uint32_t chosen;
    port_random(port, &chosen, sizeof(chosen));
    chosen %= port->pending;
    for (struct link *link = port->links; link; link = link->next) {
        if (!link->counted_pending || chosen--) continue;
        port->stats.refused++;
        link->state = LINK_ENDED;
        link_end(link);
        return;
    }
}

struct link *core_accept(struct backend *backend, struct backend_link *backend_link,
                         const char *peer_text)
{
    const struct backend_head *head = (const struct backend_head *)backend;
    struct port *port = head->port;
    struct link *link = port->closing ? NULL : link_create(port, backend, true, peer_text);
    if (!link) {
        port->stats.refused++;
        return NULL;
    }
    if (port->pending >= port->config.pending_max) pending_drop(port);
    port->pending++;
    link->counted_pending = true;
    link->backend_link = backend_link;
    link->deadline_ns = port->now_ns + ms_as_ns(port->config.handshake_ms);
    port_timer_at(port, link->deadline_ns);
    return link;
}

void link_came_up(struct link *link, const struct offer *peer_offer)
{
    struct port *port = link->port;
    const struct port_config *config = &port->config;
    if (link->accepted) {
        link_uncount(link);
        link->counted_held = true;
        port->links_held++;
    }
    link->peer_offer = *peer_offer;
    link->window = peer_offer->credits;
    link->credits = 0;
    link->owed = 0;
    link->sent_count = 0;
    link->taken_count = 0;
    link->peer_taken = UINT64_MAX;
    link->receive_left = config->link_credits;
    link->owed_alone = (config->link_credits + 1) / 2;
    link->state = LINK_UP;
    link->was_up = true;
    link->up_ns = port->now_ns;
    link->deadline_ns = UINT64_MAX;
    uint32_t bears = config->keepalive_ms;
    if (peer_offer->keepalive_ms < bears) bears = peer_offer->keepalive_ms;
    link->ping_interval_ns = ms_as_ns(bears) / PINGS;
    link->ping_ns = port->now_ns + link->ping_interval_ns;
    port_timer_at(port, link->ping_ns);
}

/* ---- ending ---- */

void link_end(struct link *link)
{
    if (link->ending) return;
    struct port *port = link->port;
    link->ending = true;
    link->ending_next = NULL;
    *port->ending_tail = link;
    port->ending_tail = &link->ending_next;
    port->pending -= link->counted_pending;
    link->counted_pending = false;
}

/* When and whether it is tried again. */
static void link_schedule(struct link *link)
{
    struct port *port = link->port;
    if (link->accepted || link->once || link->closed || link->state == LINK_ENDED) {
        link->state = LINK_ENDED;
        link->deadline_ns = UINT64_MAX;
        return;
    }
    if (link->was_up && port->now_ns - link->up_ns >= ms_as_ns(STEADY_MS))
        link->backoff_ms = BACKOFF_MS_MIN;
    uint32_t backoff = link->backoff_ms;
    if (backoff > port->config.reconnect_ms_max) backoff = port->config.reconnect_ms_max;
    /* Between half and all of it, so that the clients of a restarted server do not come at once. */
    uint32_t jitter;
    port_random(port, &jitter, sizeof(jitter));
    uint64_t wait = ms_as_ns(backoff);
    wait = wait / 2 + wait / 2 * (jitter & 0xffff) / 0xffff;
    if (link->backoff_ms < port->config.reconnect_ms_max) link->backoff_ms *= 2;
    link->state = LINK_WAITING;
    link->deadline_ns = port->now_ns + wait;
    port_timer_at(port, link->deadline_ns);
}

static void link_down(struct link *link, enum err err, const char *text)
{
    struct port *port = link->port;
    if (link->ending) {
        backend_close(link);
        return;
    }
    diag_set(&link->reason, err, "%s: %s", link->peer_text, text);
    if (link->was_up)
        port->stats.links_lost += link->state == LINK_UP;
    else if (link->state != LINK_CONNECTING)
        port->stats.handshakes_failed++;
    link->tell = link->was_up || (!link->accepted && link->report);
    link_schedule(link);
    link->was_up = false;
    link->up_ns = 0;
    backend_close(link);
    link_end(link);
}

void link_fail(struct link *link, enum err err, const char *format, ...)
{
    char text[DIAG_TEXT_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    link_down(link, err, text);
}

void core_lost(struct link *link, enum err err, const char *format, ...)
{
    char text[DIAG_TEXT_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (err == ERR_BAD_FRAME && !link->ending) link->port->stats.bad_frames++;
    bool greeting = link->state == LINK_GREETED || link->state == LINK_PROVED;
    if (greeting && err == ERR_CLOSED)
        snprintf(text, sizeof(text),
                 "closed the connection during the handshake: its secret may differ");
    link_down(link, err, text);
}

void link_refuse(struct link *link, enum err err)
{
    if (link->ending) return;
    struct port *port = link->port;
    diag_set(&link->reason, err, "%s: refused: %s", link->peer_text, err_text(err));
    if (!link->accepted && link_post_control(link, BATCH_GOODBYE, NULL, 0)) link->ops->flush(link);
    port->stats.refused++;
    link->tell = !link->accepted;
    link->state = LINK_ENDED;
    link->deadline_ns = UINT64_MAX;
    link->up_ns = 0;
    link->drain = true;
    link_end(link);
}

/* Everything has left or will not any more. */
static void link_finish(struct link *link, bool drain)
{
    if (drain && link->backend_link) {
        link_flush(link);
        if (link_post_control(link, BATCH_GOODBYE, NULL, 0)) link->ops->flush(link);
    }
    link->drain = drain;
    link->state = LINK_ENDED;
    link->deadline_ns = UINT64_MAX;
    struct port *port = link->port;
    if (port->polling || port->settling)
        link_end(link);
    else
        link_destroy(link);
}

void link_drained(struct link *link)
{
    if (link->state == LINK_DRAINING && !link->queue && !link->ending) link_finish(link, true);
}

void link_close(struct link *link)
{
    struct port *port = link->port;
    ASSERT(!link->closed);
    /* Outside of a turn the clock may be old, and the second too short. */
    port_time_coarse(port);
    link->closed = true;
    link->context = NULL;
    link->tell = false;
    if (link->ending || link == port->settling) return; /* freed when it is settled */
    if (link->state != LINK_UP || link->greeting) {
        link_finish(link, false);
        return;
    }
    link_receive_drop(link);
    link_pump(link);
    if (!link->queue) {
        link_finish(link, true);
        return;
    }
    link->state = LINK_DRAINING;
    link->deadline_ns = port->now_ns + ms_as_ns(LINK_DRAIN_MS);
    port_timer_at(port, link->deadline_ns);
    link_mark_dirty(link);
}

static void link_settle(struct link *link)
{
    struct port *port = link->port;
    /* Both callbacks may close it: it is freed below. */
    port->settling = link;
    backend_close(link);
    link_send_reset(link);
    link_receive_reset(link);
    if (link->tell && !link->closed) {
        link->tell = false;
        port->callbacks++;
        port->config.events->down(port->config.context, link, &link->reason);
    }
    port->settling = NULL;
    if (link->accepted || link->closed) link_destroy(link);
}

void port_settle(struct port *port)
{
    while (port->ending) {
        struct link *link = port->ending;
        port->ending = link->ending_next;
        if (!port->ending) port->ending_tail = &port->ending;
        link->ending = false;
        link_settle(link);
    }
}

/* ---- timers ---- */

static void link_ping(struct link *link)
{
    uint64_t now = link->port->now_ns;
    uint64_t interval = link->ping_interval_ns;
    if (now + interval / SLACK_SHARE < link->sent_ns + interval) {
        link->ping_ns = link->sent_ns + interval;
        return;
    }
    link->ping_ns = now + interval;
    if (!link->credits || link->queue) return;  /* send.c says why not */
    if (link->open && link->open_count) return; /* it leaves with the next flush */
    if (!link_post_control(link, BATCH_PING, NULL, 0)) return;
    link->credits--;
    link->ops->flush(link);
}

static uint64_t link_lost_ns(const struct link *link)
{
    return link->received_ns + ms_as_ns(link->port->config.keepalive_ms);
}

void link_timer(struct link *link)
{
    struct port *port = link->port;
    uint64_t now = port->now_ns;
    if (link->ending) return;
    struct diag diag;
    switch (link->state) {
    case LINK_WAITING:
        if (now < link->deadline_ns) return;
        link->stats.reconnects++;
        enum err err = link_connect(link, &diag);
        if (err) link_fail(link, err, "%s", diag.text);
        return;
    case LINK_CONNECTING:
    case LINK_GREETED:
    case LINK_PROVED:
    case LINK_ACCEPTED:
    case LINK_CHALLENGED:
        if (now >= link->deadline_ns)
            link_fail(link, ERR_TIMEOUT, "no answer within %u ms", port->config.handshake_ms);
        return;
    case LINK_UP:
    case LINK_DRAINING:
        if (now >= link_lost_ns(link)) {
            link_fail(link, ERR_TIMEOUT, "nothing was heard of it for %u ms",
                      port->config.keepalive_ms);
        } else if (now >= link->deadline_ns) {
            link_finish(link, false);
        } else if (now + link->ping_interval_ns / SLACK_SHARE >= link->ping_ns) {
            link_ping(link);
        }
        return;
    case LINK_ENDED:
        return;
    }
}

uint64_t link_timer_ns(const struct link *link)
{
    /* One that ended in this turn may be due for its next attempt already. */
    if (link->ending && link->state != LINK_WAITING) return UINT64_MAX;
    if (link->state != LINK_UP && link->state != LINK_DRAINING) return link->deadline_ns;
    uint64_t ns = link_lost_ns(link);
    if (link->ping_ns < ns) ns = link->ping_ns;
    return link->deadline_ns < ns ? link->deadline_ns : ns;
}

/* ---- looking ---- */

bool link_is_up(const struct link *link)
{
    return link->state == LINK_UP;
}

bool link_is_accepted(const struct link *link)
{
    return link->accepted;
}

struct port *link_port(const struct link *link)
{
    return link->port;
}

void *link_context(const struct link *link)
{
    return link->context;
}

void link_set_context(struct link *link, void *context)
{
    link->context = context;
}

enum link_kind link_kind(const struct link *link)
{
    return link->ops->kind;
}

const uint8_t *link_hello(const struct link *link, uint8_t *ret_size)
{
    *ret_size = (uint8_t)link->peer_offer.hello_size;
    return link->peer_offer.hello;
}

uint64_t link_sent(const struct link *link)
{
    return link->sent_count;
}

uint64_t link_taken(const struct link *link)
{
    return link->peer_taken;
}

uint64_t link_number(const struct link *link)
{
    return link->number;
}

const char *link_peer_text(const struct link *link)
{
    return link->peer_text;
}

void link_stats(const struct link *link, struct link_stats *ret_stats)
{
    struct link_stats stats = link->stats;
    stats.queue_bytes = link->queue_bytes;
    stats.up_ns = link->up_ns;
    if (link->ops->link_stats && link->backend_link) link->ops->link_stats(link, &stats);
    *ret_stats = stats;
}

struct link *port_link_next(const struct port *port, const struct link *link)
{
    struct link *next = link ? link->next : port->links;
    /* Not what is still in the handshake, or closed by its owner. */
    while (next && (next->closed || (next->accepted && next->state != LINK_UP)))
        next = next->next;
    return next;
}

struct backend_link *link_backend(const struct link *link)
{
    return link->backend_link;
}

void link_set_backend(struct link *link, struct backend_link *backend_link)
{
    link->backend_link = backend_link;
}
