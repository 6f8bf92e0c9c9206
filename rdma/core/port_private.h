/* The insides of ports and links, shared by the files of core/. The essays are in port.c (the
 * port's turn), link.c (a link's life), send.c and receive.c (flow). */
#ifndef RDMA_CORE_PORT_PRIVATE_H
#define RDMA_CORE_PORT_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "rdma/core/backend.h"
#include "rdma/core/batch.h"
#include "rdma/core/handshake.h"
#include "rdma/core/spin.h"
#include "rdma/port.h"

enum link_state {
    LINK_WAITING,    /* connected, down: tried again at retry_ns */
    LINK_CONNECTING, /* ops->connect was called */
    LINK_GREETED,    /* connector: HELLO sent */
    LINK_PROVED,     /* connector: PROOF sent */
    LINK_ACCEPTED,   /* acceptor: waits for HELLO */
    LINK_CHALLENGED, /* acceptor: CHALLENGE sent, waits for PROOF */
    LINK_UP,
    LINK_DRAINING, /* closed by its owner; the queue still leaves */
    LINK_ENDED,    /* down for good; connected: the owner's until link_close */
};

/* A message, or its rest, that waits for credits or buffers. */
struct queued {
    struct queued *next;
    uint32_t size, sent;
    uint8_t bytes[];
};

struct link {
    /* ---- sending ---- */
    struct port *port;
    const struct backend_ops *ops;
    struct backend_link *backend_link;
    uint8_t *open; /* the reserved batch that messages are appended to, or NULL */
    uint32_t open_size, open_capacity, open_count;
    uint32_t capacity; /* of a batch, once one was reserved; 0 before */
    uint32_t credits;  /* DATA and PING batches that may still be posted */
    uint32_t window;   /* credits of a fresh link */
    enum link_state state;
    bool dirty; /* in port->dirty: something is open, unflushed or owed */
    struct link *dirty_next;
    uint64_t send_sequence;
    uint64_t sent_ns;    /* when something was posted last */
    uint64_t sent_count; /* messages of this connection that link_send took */
    uint64_t peer_taken; /* of those, what the peer's GOODBYE says it took; else UINT64_MAX */
    struct queued *queue, **queue_tail;
    uint64_t queue_bytes;

    /* ---- receiving ---- */
    uint64_t receive_sequence;
    uint64_t taken_count; /* messages of this connection that were handed out */
    uint64_t received_ns;
    uint32_t receive_left; /* DATA and PING batches that the peer may still post */
    uint32_t owed;         /* credits not yet given back; travels alone from owed_alone on */
    uint32_t owed_alone;
    uint8_t *partial; /* of alloc: the message in pieces, or NULL */
    uint32_t partial_size, partial_have;

    /* ---- life ---- */
    struct backend *backend;
    void *context;
    uint64_t number;
    uint64_t deadline_ns; /* of the handshake, the back-off or the draining; UINT64_MAX: none */
    uint64_t up_ns;
    uint64_t ping_ns; /* when a PING has to be thought of */
    uint64_t ping_interval_ns;
    uint32_t backoff_ms;
    bool accepted;        /* else connected */
    bool once;            /* no reconnects */
    bool report;          /* report_failures */
    bool was_up;          /* in this connection */
    bool greeting;        /* acceptor: in `up`, WELCOME not yet sent */
    bool closed;          /* by the owner: no callbacks; freed when settled */
    bool counted_held;    /* in port->links_held */
    bool counted_pending; /* in port->pending */
    bool ending;          /* in port->ending; with it */
    bool tell;            /*   `down` is due */
    bool drain;           /*   the back end lets leave what was posted */
    struct link *ending_next;
    struct link *next, *previous; /* in port->links */
    struct diag reason;           /* of being down */
    struct transcript transcript;
    struct offer peer_offer;
    uint8_t hello[PORT_HELLO_SIZE_MAX]; /* connected only, like */
    uint8_t hello_size;
    struct port_address *address;
    char *peer_text;
    struct link_stats stats;
};

struct backend_slot {
    const struct backend_ops *ops;
    struct backend *backend; /* NULL: not opened */
    uint32_t links, listeners;
    bool armed;
};

enum {
    PORT_EVENTS_MAX = 64,
    LINK_DRAIN_MS = 1000, /* how long a closed link's queue may take to leave */
};

struct port {
    struct port_config config;
    struct handshake_keys keys;
    struct backend_slot slots[LINK_KINDS];
    uint8_t open[LINK_KINDS]; /* the kinds whose back end is open */
    unsigned open_count;
    int epoll_fd;
    /* Fetched and not yet handled: core_unwatch strikes out of it. */
    struct epoll_event events[PORT_EVENTS_MAX];
    int event_next, event_count;

    uint64_t now_ns; /* as of this turn */
    uint64_t timer_ns;
    int timer_fd;            /* -1: not needed yet */
    uint64_t timer_armed_ns; /* for when it is set */
    struct backend_watch timer_watch;
    uint64_t epoll_last_ns; /* when control events were looked for */
    uint32_t epoll_skipped;
    bool epoll_due;
    bool time_is_fine; /* now_ns was read right before this turn */
    bool polling;      /* in a turn: links are ended at its end */
    bool asleep;
    bool closing; /* in port_destroy */

    struct link *links, *links_last;
    struct link *dirty;
    struct link *ending, **ending_tail;
    struct link *settling;
    uint32_t links_held; /* connected and accepted ones, up to links_max */
    uint32_t pending;
    uint64_t last_number;
    uint32_t callbacks; /* made in this turn */
    uint32_t messages;  /* handed out in this turn */

    struct spin spin;
    uint64_t queue_bytes; /* of all links */
    struct port_stats stats;
};

/* ---- port.c ---- */
uint64_t port_clock_ns(const struct port *port);
/* The timers have to be looked at no later than this. */
static inline void port_timer_at(struct port *port, uint64_t ns)
{
    if (ns < port->timer_ns) port->timer_ns = ns;
}
void port_random(struct port *port, void *bytes, size_t size);
void port_time_fine(struct port *port);
void port_time_coarse(struct port *port);
/* A turn is port_turn_begin, port_events_fetch if it is due, port_turn_rest. */
void port_turn_begin(struct port *port);
void port_turn_rest(struct port *port);
struct backend_slot *port_slot_of(const struct link *link);

/* ---- wait.c ---- */
void port_wait_init(struct port *port);
void port_wait_fini(struct port *port);
/* Descriptor events, waited for at most timeout_ns (0: not at all; UINT64_MAX: no limit); whether
 * there are any. */
bool port_events_fetch(struct port *port, uint64_t timeout_ns);

/* ---- link.c ---- */
struct link *link_create(struct port *port, struct backend *backend, bool accepted,
                         const char *peer_text);
/* Closes its back end and frees it at once. */
void link_destroy(struct link *link);
/* Starts an attempt. */
MUST_USE enum err link_connect(struct link *link, struct diag *diag);
/* The link goes down now: its back end closes, the rest happens at the end of the turn. */
void link_fail(struct link *link, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `up` or a limit said no: down for good, but what was posted may leave. */
void link_refuse(struct link *link, enum err err);
/* Puts it into port->ending. */
void link_end(struct link *link);
/* Ends a draining link whose queue is empty. */
void link_drained(struct link *link);
/* Callbacks, closes and frees that are due. */
void port_settle(struct port *port);
void link_timer(struct link *link);
/* When link_timer has something to do. */
uint64_t link_timer_ns(const struct link *link);
/* The peer is authenticated and said this. Nothing leaves before the caller sets link->credits. */
void link_came_up(struct link *link, const struct offer *peer_offer);

/* ---- greet.c ---- */
void greet_start(struct link *link);
/* A batch of the handshake. */
void greet_batch(struct link *link, const struct batch_header *header, const uint8_t *bytes);

/* ---- send.c ---- */
/* Posts one batch of the core's own with the body; false: no buffer is free. */
MUST_USE bool link_post_control(struct link *link, enum batch_kind kind, const void *body,
                                uint32_t body_size);
/* Moves what waits in the queue into batches, as far as credits and buffers go. */
void link_pump(struct link *link);
/* Gives credits back alone when that is due. */
void link_give_credits(struct link *link);
void link_flush(struct link *link);
void link_mark_dirty(struct link *link);
/* As link_pump, and lets it leave: for what was flushed long ago. */
void link_pump_flush(struct link *link);
/* Forgets everything of the connection that was lost. */
void link_send_reset(struct link *link);

/* ---- receive.c ---- */
/* The message in pieces will not become whole. */
void link_receive_drop(struct link *link);
void link_receive_reset(struct link *link);

#endif
