/* The insides of the verbs back end, shared by its files. The essays: verbs.c (the back end and its
 * turn), device.c (memory and queues of one adapter), pair.c (sending, and the ending of a link),
 * connect.c (connection manager). */
#ifndef RDMA_VERBS_VERBS_H
#define RDMA_VERBS_VERBS_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rdma/core/backend.h"
#include "rdma/core/resolve.h"

enum {
    /* Bytes of a batch. Smaller: more completions for a long message; larger: memory that short
     * ones leave unused, and less overlap of copying with sending. */
    BATCH_CAPACITY = 8 << 10,
    /* A peer that was built with another one is spoken to with the smaller; it is at least: */
    BATCH_CAPACITY_LEAST = 1 << 10,
    BATCH_CAPACITY_MOST = 1 << 20,
    CHUNK_BUFFERS = 32,  /* registered together */
    INLINE_SIZE = 512,   /* asked for; what the adapter gives may be less */
    PENDING_MAX = 8,     /* sends given to the adapter by one call */
    POLL_COUNT = 16,     /* completions taken by one call */
    REPOST_COUNT = 8,    /* receives given back by one call, at least, while there are plenty */
    ZOMBIE_MS = 100,     /* how long a queue pair in error may still bring completions */
    ZOMBIE_MS_MAX = 500, /* … when not even its own sends came back */
    DRAIN_MS = 1000,
    RESOLVE_MS = 2000,
    RELISTEN_MS = 500,
};

#define BUFFER_NONE UINT32_MAX

/* ---- lists: circular, intrusive ---- */

struct list {
    struct list *next, *previous;
};
static inline void list_init(struct list *list)
{
    list->next = list->previous = list;
}
static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}
static inline void list_remove(struct list *item)
{
    item->next->previous = item->previous;
    item->previous->next = item->next;
    list_init(item);
}
static inline void list_append(struct list *list, struct list *item)
{
    item->previous = list->previous;
    item->next = list;
    list->previous->next = item;
    list->previous = item;
}
/* Moves all of `from` to the empty `to`. */
static inline void list_take(struct list *from, struct list *to)
{
    list_init(to);
    if (list_is_empty(from)) return;
    *to = *from;
    to->next->previous = to;
    to->previous->next = to;
    list_init(from);
}

/* ---- memory ---- */

/* Registered buffers of BATCH_CAPACITY bytes, in chunks; a buffer's number is its place in them. */
struct pool {
    struct chunk *chunks;
    uint32_t chunk_count, chunk_count_max;
    uint32_t *free; /* a stack of numbers */
    uint32_t free_count;
};
struct chunk {
    uint8_t *bytes;
    struct ibv_mr *mr;
};

static inline uint8_t *pool_bytes(const struct pool *pool, uint32_t buffer)
{
    const struct chunk *chunk = &pool->chunks[buffer / CHUNK_BUFFERS];
    return chunk->bytes + (size_t)(buffer % CHUNK_BUFFERS) * BATCH_CAPACITY;
}
static inline uint32_t pool_key(const struct pool *pool, uint32_t buffer)
{
    return pool->chunks[buffer / CHUNK_BUFFERS].mr->lkey;
}

/* ---- devices ---- */

/* One adapter as this port uses it: with a context of its own, so that nothing of it is shared with
 * the process's other ports. */
struct verbs_device {
    struct list in_backend;
    struct backend *backend;
    char name[64];
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_srq *srq;
    struct rdma_cm_id *sentinel; /* bound to the adapter, so that its removal is always told */
    struct backend_watch channel_watch, async_watch;
    struct pool receive, send;
    uint32_t receive_posted;        /* buffers in the SRQ */
    uint32_t repost[CHUNK_BUFFERS]; /* handled, not yet posted again */
    uint32_t repost_count;
    uint32_t inline_size; /* what queue pairs are asked for; INLINE_SIZE until one got less */
    uint32_t send_depth;  /* sends under way on a link, at most */
    uint32_t cq_size_max;
    uint32_t pairs;                  /* queue pairs that may put completions into the CQ */
    uint32_t links;                  /* of them, and before they have one */
    struct ibv_wc stash[POLL_COUNT]; /* completions taken by arm, for the next poll */
    unsigned stash_count;
    struct list waiting;             /* links that want a buffer or a place in their send queue */
    struct backend_link **by_number; /* a hash table of queue pair numbers */
    uint32_t by_number_size;         /* a power of two */
    bool armed;                      /* an event will come, or has come and was not taken */
    bool armed_all;                  /* …for any completion, not just solicited ones */
    bool event_pending;              /* there is one in the channel */
    bool dead;                       /* removed, or failed as a whole */
    enum err dead_err;
    char dead_reason[120];
};

MUST_USE enum err device_of(struct backend *backend, struct rdma_cm_id *id,
                            struct verbs_device **ret_device, struct diag *diag);
/* Its links were destroyed before. */
void device_destroy(struct verbs_device *device);
/* Makes room for one more queue pair: buffers as far as they go, and completion queue entries. */
MUST_USE enum err device_grow(struct verbs_device *device, struct diag *diag);
/* Gives a received buffer back to the adapter, soon. */
void device_repost(struct verbs_device *device, uint32_t buffer);
void device_repost_now(struct verbs_device *device);
/* It is not to be used any more; what is left of it goes at the next tidying. */
void device_fail(struct verbs_device *device, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
MUST_USE enum err device_number_add(struct verbs_device *device, struct backend_link *link);
void device_number_remove(struct verbs_device *device, struct backend_link *link);
struct backend_link *device_number_find(const struct verbs_device *device, uint32_t number);

/* ---- links ---- */

enum pair_state {
    PAIR_NAME,     /* connector: the peer's name is being looked up */
    PAIR_ADDRESS,  /* connector: the adapter that reaches its address is being looked for */
    PAIR_ROUTE,    /* connector: the route */
    PAIR_ASKED,    /* connector: asked, no answer yet */
    PAIR_ANSWERED, /* acceptor: accepted; may send, the last word of the handshake is to come */
    PAIR_UP,
    PAIR_LEAVING,  /* closed by the core: what was posted leaves */
    PAIR_FLUSHING, /* in error: its completions come back */
};

struct pending {
    uint32_t buffer, size;
};

struct backend_link {
    struct list in_backend; /* backend->links, or backend->zombies once closed by the core */
    struct list in_waiting; /* device->waiting */
    struct list in_failed;  /* backend->failed */
    struct backend *backend;
    struct verbs_device *device; /* from the route on */
    struct link *link;           /* NULL: closed by the core */
    struct rdma_cm_id *id;       /* NULL before the name was found */
    struct ibv_qp *qp;
    enum pair_state state;
    struct resolve *resolve; /* of the name, or NULL */
    struct backend_watch resolve_watch;
    struct addrinfo *addresses; /* of the peer; … */
    struct addrinfo *untried;   /* … from here on */
    uint32_t capacity;          /* of a batch to this peer */
    uint32_t inline_size;       /* the largest batch that the queue pair takes inline */
    uint32_t reserved;          /* buffer, or BUFFER_NONE */
    struct pending pending[PENDING_MAX];
    uint32_t pending_count;
    /* Sends under way: number n is in slots[n % device->send_depth]; BUFFER_NONE when it was
     * inline. They end in order. */
    uint32_t *slots;
    uint32_t sent, ended;      /* numbers; sent - ended are under way */
    uint32_t unsignalled;      /* since the last one that tells its end */
    uint32_t unsignalled_held; /* of those, how many hold a buffer */
    bool in_table;             /* of the device's numbers */
    bool known;                /* its peer has proved itself, or we have asked for it */
    bool peer_left;            /* the peer's empty last message has come */
    bool drained;              /* flushing: the last of its own sends came back */
    bool last_receive;         /* flushing: the adapter said that nothing more is received */
    bool failed;               /* in backend->failed */
    enum err failed_err;
    char failed_reason[240];
    uint64_t deadline_ns;
};

struct listener {
    struct port_address address;
    struct sockaddr_storage at; /* the same, looked up: not again while the port works */
    struct rdma_cm_id *id;      /* NULL: its adapter is gone; tried again */
};

struct backend {
    struct backend_head head;
    int epoll_fd;
    struct rdma_event_channel *channel;
    struct backend_watch channel_watch;
    struct list devices;
    struct list links, zombies, failed;
    struct listener listeners[PORT_LISTENERS_MAX];
    uint32_t listener_count;
    uint64_t registered_bytes;
    uint64_t relisten_ns; /* UINT64_MAX: none is due */
    uint64_t timer_ns;
    bool untidy; /* something for backend_tidy */
};

/* ---- pair.c ---- */
struct backend_link *pair_create(struct backend *backend, struct rdma_cm_id *id);
/* The queue pair on the device of pair->device; its state is INIT. */
MUST_USE enum err pair_make(struct backend_link *pair, struct diag *diag);
/* To ready-to-send, with what the connection manager agreed on. */
MUST_USE enum err pair_ready(struct backend_link *pair, struct diag *diag);
/* For pair->failed: the core is told at the next tidying. */
void pair_fail(struct backend_link *pair, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void pair_completion(struct verbs_device *device, const struct ibv_wc *wc);
/* Links that found no buffer may try again. */
void pair_wake_waiting(struct verbs_device *device);
/* One of them would find what it waits for by now. */
bool pair_waits_in_vain(const struct verbs_device *device);
/* Goes on with the ending of a closed one, as far as it can go now. */
void pair_reap(struct backend_link *pair, uint64_t now_ns);
/* All of it, at once. */
void pair_destroy(struct backend_link *pair);

enum err verbs_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity);
void verbs_post(struct link *link, uint32_t size);
void verbs_flush(struct link *link);
void verbs_close(struct link *link, bool drain);

/* ---- connect.c ---- */
enum err verbs_listen(struct backend *backend, const struct port_address *address,
                      struct port_address *ret_bound, struct diag *diag);
enum err verbs_connect(struct backend *backend, struct link *link,
                       const struct port_address *address, struct diag *diag);
/* The connection manager's descriptor is readable. */
void connect_ready(struct backend_watch *watch, uint32_t events);
/* Listeners whose adapter was removed. */
void connect_listen_again(struct backend *backend);
/* Forgets what is left of looking for the peer's address. */
void connect_forget(struct backend_link *pair);

/* ---- verbs.c ---- */
/* Tells the core what failed, frees what has ended. */
void backend_tidy(struct backend *backend);
/* Takes completions of a device; how many. */
unsigned backend_poll_device(struct verbs_device *device, unsigned budget);
MUST_USE enum err backend_watch_fd(struct backend *backend, int fd, struct backend_watch *watch);
void backend_unwatch_fd(struct backend *backend, int fd, struct backend_watch *watch);
uint64_t backend_clock_ns(void);
/* Something for backend_tidy at that time. */
void backend_timer_at(struct backend *backend, uint64_t ns);

#endif
