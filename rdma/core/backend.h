/* What a back end (verbs, tcp, shm, sim) does for the core, and what the core does for it. Private
 * to rdma/.
 *
 * A back end moves batches: byte strings of 32..batch_size_max bytes that arrive whole, once and in
 * order. It knows nothing of what is in them. The core owns everything else, the same for all back
 * ends: the handshake, batching and splitting, sequence numbers, credits, keep-alive, reconnects,
 * limits, statistics.
 *
 *   connecting:   ops->connect(link) … core_connected(link)            or core_lost(link, reason)
 *   accepting:    core_accept(port, …) makes the link; its back end then uses it at once
 *   sending:      ops->reserve(link) -> buffer; the core fills it; ops->post(link, size);
 * ops->flush(link) receiving:    ops->poll(backend) calls core_batch(link, bytes, size) for each
 * that arrived going down:   the back end sees it: core_lost(link, reason), after which the core
 * calls ops->close(link); or the core decides: ops->close(link) only.
 *
 * core_batch, core_connected and core_lost may lead to ops->close of that link (never of another)
 * and to reserve/post/flush of any before they return: a back end that walks its links takes care.
 * After ops->close the link's backend_link is gone and the link must not be named to the core
 * again. reserve, post and flush make no core_… call: what they find out (the peer is gone) is
 * told by the next poll or descriptor event. */
#ifndef RDMA_CORE_BACKEND_H
#define RDMA_CORE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "rdma/address.h"
#include "rdma/port.h"

struct backend;      /* a back end's state in one port; defined by each, begins with backend_head */
struct backend_link; /* its state of one link; defined by each */

enum {
    /* Batches that a side may have under way beyond its credits: those that carry credits or
     * keep-alive only. A back end has room for link_credits + BATCHES_SPARE in each direction of
     * each link. */
    BATCHES_SPARE = 4,
    BATCH_SIZE_MIN = 32, /* struct batch_header */
};

struct backend_ops {
    enum link_kind kind;
    /* Bytes on the wire are not protected from damage by what carries them: the core adds and
     * checks a checksum. */
    bool needs_checksum;

    /* First use in a port. epoll_fd is the port's: descriptors are added with data.ptr pointing to
     * a struct backend_watch. ERR_UNSUPPORTED with a reason, ERR_NO_MEMORY. */
    enum err (*open)(struct port *port, int epoll_fd, struct backend **ret_backend,
                     struct diag *diag);
    /* Every link was closed before. */
    void (*destroy)(struct backend *backend);

    enum err (*listen)(struct backend *backend, const struct port_address *address,
                       struct port_address *ret_bound, struct diag *diag);
    /* Starts; ends in core_connected or core_lost, later or (not: before it returns). Fills
     * link->backend. An error: could not even start. */
    enum err (*connect)(struct backend *backend, struct link *link,
                        const struct port_address *address, struct diag *diag);
    /* Gives everything of the link back. `drain`: try to let what was posted and flushed leave (a
     * second at most, in the background, without the link); else it may be lost. */
    void (*close)(struct link *link, bool drain);

    /* A buffer for one batch, of *ret_capacity bytes (the same for every batch of the link), at
     * most one reserved at a time. ERR_BUSY: none is free now; core_writable(link) is called when
     * that changes. */
    enum err (*reserve)(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity);
    /* The reserved buffer now has `size` bytes. It may leave now or at flush. */
    void (*post)(struct link *link, uint32_t size);
    /* All that was posted leaves now, as far as the peer takes it; the rest by itself as soon as it
     * does. */
    void (*flush)(struct link *link);

    /* Handles what has arrived, in at most `budget` batches; true when something was done. Called
     * in every port_poll while the back end has links or listeners; must be cheap when there is
     * nothing. */
    bool (*poll)(struct backend *backend, unsigned budget);
    /* Before sleep: peers are told that they must wake us, then one more look; false: something is
     * there. After true one of the backend's descriptors in epoll_fd becomes readable when
     * something arrives. NULL: descriptors are always live. */
    bool (*arm)(struct backend *backend);
    void (*disarm)(struct backend *backend); /* NULL with arm */
    /* Counters of its own. May be NULL. */
    void (*stats)(const struct backend *backend, struct port_stats *stats);
    void (*link_stats)(const struct link *link, struct link_stats *stats);
    /* Monotonic time at which poll has something to do of its own accord (UINT64_MAX: never): the
     * port wakes up for it. May be NULL. */
    uint64_t (*timer_ns)(const struct backend *backend);
};

/* What data.ptr of an epoll event points to; embedded by its owner in the back end. */
struct backend_watch {
    void (*ready)(struct backend_watch *watch, uint32_t events);
};
/* The watch's memory is about to go: an event for it that was fetched but not yet handled is
 * dropped. Call it whenever a descriptor with that watch is closed. */
void core_unwatch(struct port *port, const struct backend_watch *watch);

extern const struct backend_ops tcp_ops;
extern const struct backend_ops shm_ops;
extern const struct backend_ops verbs_ops;
extern const struct backend_ops sim_ops;

/* ---- what back ends call ---- */

/* A peer wants in: the link for it, not yet authenticated; NULL: too many (the back end drops the
 * connection, the core has counted it). peer_text is for people, copied. Not from within
 * core_batch, core_connected or core_lost. */
struct link *core_accept(struct backend *backend, struct backend_link *link, const char *peer_text);
/* The low level of a link that ops->connect started is there. */
void core_connected(struct link *link);
/* One batch has arrived. The bytes are borrowed for the call. With a shared-memory back end the
 * peer may change them meanwhile: the core copies each byte once before it looks at it. */
void core_batch(struct link *link, const uint8_t *bytes, uint32_t size);
/* The link is dead; the core calls ops->close before this returns. */
void core_lost(struct link *link, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* reserve may succeed again. */
void core_writable(struct link *link);
/* A longer batch from this peer cannot be right (before it is authenticated: the frames of the
 * handshake): for back ends that buffer parts. */
uint32_t core_batch_size_max(const struct link *link);

struct backend_link *link_backend(const struct link *link);
void link_set_backend(struct link *link, struct backend_link *backend_link);
/* In port_destroy: no link is accepted any more. */
bool port_is_closing(const struct port *port);
uint32_t port_link_credits(const struct port *port);
uint64_t port_registered_bytes_max(const struct port *port);
const uint8_t *port_secret(const struct port *port); /* for TLS's pre-shared key */
uint64_t port_now_ns(const struct port *port);
struct sim_net *port_sim(const struct port *port, uint32_t *ret_node);

/* Every backend begins with it. */
struct backend_head {
    const struct backend_ops *ops;
    struct port *port;
};

#endif
