/* The transporter's one interface: a port has links to peers, and exchanges messages with them over
 * verbs, TCP, shared memory or a simulated network, all alike.
 *
 * A port belongs to one thread (an endpoint: a worker or a client thread); every function and
 * callback here is that thread's. A process may have many ports.
 *
 * Messages arrive whole, once and in the order of link_send, as long as the link is up. When a link
 * goes down, what was sent and not answered may or may not have arrived: the layer above decides
 * what that means. A peer that closes the link says how much it took (link_taken). A link made by
 * port_connect comes up again by itself, with back-off; one that was accepted is gone when it is
 * down.
 *
 * Life of a turn:      port_poll: callbacks with what has arrived, due timers
 *                      … link_send …, any number: appends to the link's open batch
 *                      port_flush: every open batch leaves, one post or one writev per link
 * and before sleeping: port_sleep, then wait for port_fd with everything else, then port_awake;
 * or port_wait, for a thread that has nothing else.
 *
 * Before a peer has proved that it knows the secret, nothing that it sends is read but the three
 * fixed-size frames of the handshake (core/handshake.h), and it holds no more than one slot of
 * pending_max, for handshake_ms at most. */
#ifndef RDMA_PORT_H
#define RDMA_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "rdma/address.h"

struct port;
struct link;
struct sim_net;

enum {
    PORT_SECRET_SIZE = 32,
    PORT_HELLO_SIZE_MAX = 64,
    PORT_MESSAGE_SIZE_MAX = 8 << 20,
    PORT_LISTENERS_MAX = 8,
    PORT_LINK_CREDITS_MAX = 256,
};

/* Called from port_poll, port_wait and port_sleep only. They may send and close links (also the one
 * they are called for). */
struct port_events {
    /* The link is up: the peer is who it should be, and link_hello is what it said of itself. An
     * error refuses an accepted link: it is closed, the peer learns the number, `down` is not
     * called. On a connected one an error closes it for good (then `down` is called). */
    enum err (*up)(void *context, struct link *link);
    /* The link is down. An accepted one must not be used after this call; a connected one is being
     * tried again unless it was closed. Not called for what never was up, except for a connected
     * link whose attempt failed when link_options.report_failures is set. */
    void (*down)(void *context, struct link *link, const struct diag *reason);
    /* Memory for a message of `size` bytes (1..PORT_MESSAGE_SIZE_MAX), aligned to 8, which is then
     * filled and handed to `message`; so a message is copied once, from the batch to where its
     * receiver wants it. NULL: the link goes down with ERR_NO_MEMORY. */
    void *(*alloc)(void *context, struct link *link, uint32_t size);
    /* The whole message; the callee owns it from now on. */
    void (*message)(void *context, struct link *link, void *message, uint32_t size);
    /* Gives back memory of alloc that will not become a message: the link went down in its middle,
     * or was closed (then from within link_close or port_destroy). */
    void (*release)(void *context, struct link *link, void *message);
};

enum port_spin {
    PORT_SPIN_ADAPTIVE = 0, /* about as long as a wake-up costs, while that pays; never when more
                               threads want to run than there are cores */
    PORT_SPIN_NEVER = 1,    /* sleeps at once */
    PORT_SPIN_ALWAYS = 2,   /* never sleeps: for measurements and for cores given away for it */
};

struct port_config {
    const struct port_events *events; /* outlives the port */
    void *context;
    uint8_t secret[PORT_SECRET_SIZE]; /* the cluster's; copied, wiped at the end */
    /* What this side says of itself, authenticated with the handshake. Copied. */
    uint8_t hello[PORT_HELLO_SIZE_MAX];
    uint8_t hello_size;
    enum port_spin spin;
    uint32_t links_max;        /* 0: 1024. More are refused */
    uint32_t pending_max;      /* links in handshake that were accepted; 0: 64 */
    uint32_t handshake_ms;     /* 0: 5000 */
    uint32_t keepalive_ms;     /* a silent peer is lost after this long; 0: 10000 */
    uint32_t reconnect_ms_max; /* back-off starts at 10 ms and doubles up to this; 0: 2000 */
    uint32_t link_credits;     /* batches under way per link and direction; 0: 16, at most 256 */
    uint32_t link_queue_bytes; /* waiting for credits, per link; beyond it ERR_BUSY; 0: 32 MiB */
    uint64_t registered_bytes_max; /* of RDMA memory, over all devices of this port; 0: 16 MiB */
    /* NULL: the real ones. The simulator gives its own. */
    uint64_t (*monotonic_ns)(void *clock_context);
    void (*random)(void *clock_context, void *bytes, size_t size);
    void *clock_context;
    struct sim_net *sim; /* for sim: addresses (sim.h); else NULL */
    uint32_t sim_node;   /* this port's number in it */
};

/* ERR_NO_MEMORY, ERR_BUSY (no descriptors left). */
MUST_USE enum err port_create(const struct port_config *config, struct port **ret_port,
                              struct diag *diag);
/* Closes every link as link_close does, waits until what was sent has left (a second at most; in
 * simulated time not at all) and frees everything. No callback is made but `release`. NULL is
 * allowed. */
void port_destroy(struct port *port);

/* Accepts links at the address; several are allowed. ERR_INVALID, ERR_IN_USE, ERR_DENIED, ERR_IO,
 * ERR_UNSUPPORTED (no such back end or device here), each with what to do. ret_bound (may be NULL)
 * is the address with the port that the system chose. */
MUST_USE enum err port_listen(struct port *port, const struct port_address *address,
                              struct port_address *ret_bound, struct diag *diag);

struct link_options {
    void *context;        /* link_context from the start */
    bool once;            /* the first failure, or going down, is the end: no reconnects */
    bool report_failures; /* call `down` also for attempts that failed */
    const void *hello;    /* instead of the port's; may be NULL */
    uint8_t hello_size;
};
/* Starts to connect and returns; `up` comes later. The link is the caller's until link_close, also
 * while it is down. ERR_INVALID, ERR_BUSY (links_max), ERR_NO_MEMORY, ERR_UNSUPPORTED. */
MUST_USE enum err port_connect(struct port *port, const struct port_address *address,
                               const struct link_options *options, struct link **ret_link,
                               struct diag *diag);
/* Ends the link: what was sent so far leaves, if the peer takes it within a second, which happens
 * in later turns; no callback is made for it any more; the pointer is invalid. */
void link_close(struct link *link);

/* ---- sending ---- */

struct link_piece {
    const void *bytes;
    uint32_t size;
};
/* Sends one message made of the pieces, copied before it returns. Nothing leaves before port_flush,
 * unless batches fill up. ERR_CLOSED: the link is not up. ERR_BUSY: link_queue_bytes are waiting
 * already (the peer is slow). ERR_TOO_BIG, ERR_NO_MEMORY. After any error nothing of the message is
 * sent. */
MUST_USE enum err link_send(struct link *link, const struct link_piece *pieces, unsigned count);
/* The number of the message that link_send took last over this connection: the first has 1; 0:
 * there was none yet. */
uint64_t link_sent(const struct link *link);
/* Within `down`: messages up to this number were handed to the peer's owner and those after it
 * never will be, by the peer's own words when it closed the link. UINT64_MAX: it did not say. */
uint64_t link_taken(const struct link *link);
/* Posts what is open, on all links. */
void port_flush(struct port *port);

/* ---- receiving and waiting ---- */

/* Handles what has arrived and what is due, without waiting; returns how many messages were handed
 * out. Bounded: at most some hundred batches per call. */
uint32_t port_poll(struct port *port);
/* Flushes and waits until at least one callback was made or timeout_ns passed (UINT64_MAX: no
 * limit): spins as configured, then sleeps. Returns how many messages were handed out. */
uint32_t port_wait(struct port *port, uint64_t timeout_ns);

/* For an owner with an event loop of its own. port_fd is one descriptor (an epoll) that becomes
 * readable when something has arrived, but only while asleep. Flush first. */
int port_fd(const struct port *port);
/* Announces sleep to all peers and looks once more: false means something has arrived (or spinning
 * is always): poll instead of sleeping. After true wait for port_fd, at most until
 * port_timer_ns. */
bool port_sleep(struct port *port);
/* After true from port_sleep, when no longer asleep: `ready` says whether port_fd was readable. */
void port_awake(struct port *port, bool ready);
/* Monotonic time at which port_poll has something to do of its own accord; UINT64_MAX: never. */
uint64_t port_timer_ns(const struct port *port);
/* How long the owner of an event loop should poll before it sleeps, now (0: not at all). */
uint64_t port_spin_ns(struct port *port);

/* ---- looking ---- */

bool link_is_up(const struct link *link);
bool link_is_accepted(const struct link *link);
struct port *link_port(const struct link *link);
void *link_context(const struct link *link);
void link_set_context(struct link *link, void *context);
enum link_kind link_kind(const struct link *link);
/* What the peer said of itself; of a link that is up. Borrowed while it is. */
const uint8_t *link_hello(const struct link *link, uint8_t *ret_size);
/* Unique in the port's life. */
uint64_t link_number(const struct link *link);
/* The peer's address for people. Borrowed while the link lives. */
const char *link_peer_text(const struct link *link);

struct link_stats {
    uint64_t messages_sent, messages_received;
    uint64_t batches_sent, batches_received; /* data only */
    uint64_t bytes_sent, bytes_received;     /* of all batches, headers included */
    uint64_t credit_batches_sent;            /* credits that had to travel alone */
    uint64_t stalls;       /* times that sending had to wait for a credit or buffer */
    uint64_t wakeups_sent; /* system calls made to wake the peer (shm) */
    uint64_t reconnects;
    uint64_t queue_bytes; /* waiting now */
    uint64_t up_ns;       /* monotonic time since when it is up; 0: it is down */
};
void link_stats(const struct link *link, struct link_stats *ret_stats);

struct port_stats {
    uint32_t links_up, links_pending, links;
    uint64_t registered_bytes, registered_bytes_max; /* RDMA memory */
    uint64_t buffer_bytes;                           /* all other buffers of the port's links */
    uint64_t sleeps, wakeups, spins; /* times asleep, woken by a peer, found something spinning */
    uint64_t accepted, refused, handshakes_failed, bad_frames, links_lost;
};
void port_stats(const struct port *port, struct port_stats *ret_stats);
/* The links of the port one after the other: NULL gives the first; NULL at the end. */
struct link *port_link_next(const struct port *port, const struct link *link);

/* Reads a secret file: 64 hexadecimal digits and an optional newline; refuses one that others may
 * read or that is not the caller's or root's. ERR_NOT_FOUND, ERR_DENIED, ERR_INVALID, with what to
 * do. */
MUST_USE enum err port_secret_read(const char *path, uint8_t secret[PORT_SECRET_SIZE],
                                   struct diag *diag);
/* Makes one with a fresh secret (0600, durable), unless the file is there: then reads it. */
MUST_USE enum err port_secret_make(const char *path, uint8_t secret[PORT_SECRET_SIZE],
                                   struct diag *diag);

#endif
