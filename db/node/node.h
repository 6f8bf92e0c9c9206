/* The node: the workers of one process, what they share, and the endpoints of clients. Private to
 * db/.
 *
 * What workers share is little and guarded: the endpoint table, the published catalog, the first
 * failure. Everything else goes by signals. */
#ifndef DB_NODE_NODE_H
#define DB_NODE_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "db/ldm/redo.h"
#include "db/node/catalogs.h"
#include "db/node/env.h"
#include "db/node/mailbox.h"
#include "db/node/worker.h"
#include "rdma/port.h"

enum { NODE_MODULES_MAX = 4 };

struct node_config {
    struct env *env; /* its done and wake functions lead to node_job_done and node_wake */
    uint16_t worker_count;
    bool threads;      /* false: the owner gives every worker its turns (the simulator) */
    bool flush_always; /* a program is answered when it is durable */
    bool pin_workers;  /* each thread to a core */
    uint32_t flush_interval_ms;
    uint64_t checkpoint_log_bytes;   /* over all workers */
    uint64_t checkpoint_interval_ns; /* automatic ones do not begin more often */
    uint64_t memory_max;             /* over all workers; 0: none */
    uint64_t query_memory_max;
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *progress_context;
    const struct worker_module *modules[NODE_MODULES_MAX]; /* up to the first NULL */
    enum port_spin spin;                                   /* of links with other processes */
    /* The simulated network that links go through: worker w is its node sim_net_node + w. */
    struct sim_net *sim_net;
    uint32_t sim_net_node;
    /* The simulator's network: gets every signal instead of the destination's mailbox; it calls
     * node_deliver later. NULL: delivery is at once. */
    void (*transport)(void *context, struct signal *signal);
    void *transport_context;
};

/* A client's end of the wire. Never freed while the node lives, only reused, so that a late sender
 * finds memory. */
struct endpoint {
    uint32_t number;
    struct worker
        *worker; /* whose thread the client shares, and whose mailbox; NULL: it has its own */
    struct mailbox mailbox;
    atomic_bool open;
    uint64_t client; /* the id of its present user: other signals are stale */
    /* Of a bound one: called by the worker's loop, also nested, for each signal. It owns the
     * signal. */
    void (*receive)(struct endpoint *endpoint, struct signal *signal);
    /* Of a bound one: called by the worker's loop, never nested, after signals were received. */
    void (*turn)(struct endpoint *endpoint);
    void *context;
    bool linked;                 /* a client of another process: no turns */
    struct endpoint *next_bound; /* the worker's list, of those that get turns */
};

/* Endpoints that clients of other processes leave to those of this one, db_close among them. */
enum { ENDPOINTS_LOCAL = 512 };
_Static_assert(ENDPOINTS_MAX - ENDPOINT_CLIENT_FIRST >= ENDPOINTS_LOCAL + 64 * (int)WORKERS_MAX,
               "every worker can have links");

struct listeners;
struct watch;

struct node {
    struct node_config config;
    struct env *env;
    struct store_info info;
    struct recovery_result recovery;
    uint16_t worker_count;
    uint16_t partition_count;
    struct worker *workers[WORKERS_MAX];
    struct partition *partitions[PARTITIONS_MAX]; /* each used by its owner's thread only */

    _Atomic(struct endpoint *) endpoints[ENDPOINTS_MAX - ENDPOINT_CLIENT_FIRST];
    atomic_bool dirty;   /* a log has something that no interval flush covers */
    atomic_int health;   /* enum err of the first failed flush or log */
    atomic_bool closing; /* nothing new is begun any more */
    atomic_uint open;    /* what a stop waits for: transactions and catalog changes over several
                            workers, and changes whose answers wait to be durable */
    atomic_int stalled;  /* logs that have no space and are waiting for it */
    atomic_uint_fast64_t checkpoint_ts[PARTITIONS_MAX]; /* of the newest published; 0: none */

    /* Of redo since the worker's last checkpoint began; each written by its worker only. */
    atomic_uint_fast64_t log_bytes[WORKERS_MAX];

    struct catalogs catalogs;
    _Atomic(struct listeners *) listeners; /* listen.c; NULL: nobody listens */

    pthread_mutex_t mutex; /* guards what follows */
    struct watch *watches;
    uint32_t endpoint_count;
    uint32_t linked_count[WORKERS_MAX]; /* of these, each worker's for clients of other processes */
    uint64_t client_next;
    struct diag health_diag; /* of the first failure, also of checkpoints */
};

/* Reads the store in the environment (which was created), recovers it and makes the workers; none
 * runs yet. Errors of store_open and recovery_run, ERR_NO_MEMORY. */
MUST_USE enum err node_create(const struct node_config *config, struct node **ret_node,
                              struct diag *diag);
/* Starts the workers' threads, when the config says so. ERR_NO_MEMORY. */
MUST_USE enum err node_start(struct node *node, struct diag *diag);
/* Lets what is under way over several workers end, ends the threads, and closes the logs with all
 * that was committed. The error is of that: what was durable stays so. Without threads the owner
 * has given turns until node_is_idle. */
MUST_USE enum err node_stop(struct node *node, struct diag *diag);
/* No job is in flight and nothing over several workers is under way. Only while no thread runs. */
bool node_is_idle(const struct node *node);
/* Of a node that has stopped, was not started, or (in the simulator) has crashed. NULL is allowed.
 */
void node_destroy(struct node *node);

/* The number of this start of the store, which tells clients one life of the node from another. */
static inline uint64_t node_life(const struct node *node)
{
    return node->recovery.starts[node->recovery.start_count - 1].id;
}

/* For the environment: any thread. */
void node_job_done(void *node, struct env_job *job);
void node_wake(void *node, uint16_t worker);

/* Any thread. Takes the signal; its header is complete. */
void node_send(struct node *node, struct signal *signal);
void node_deliver(struct node *node, struct signal *signal); /* behind the transport */
/* Calls fn(context) once on the worker's thread. Any thread. ERR_NO_MEMORY. */
MUST_USE enum err node_post(struct node *node, uint16_t worker, void (*fn)(void *context),
                            void *context);
/* Calls ready(context) on the worker's thread whenever fd is readable, until it returns false. With
 * `found`, which counts what ready has found, also without being told, while that pays. Any thread.
 * ERR_NO_MEMORY, ERR_IO. */
MUST_USE enum err node_watch(struct node *node, uint16_t worker, int fd,
                             bool (*ready)(void *context), void *context, const uint32_t *found);

/* An endpoint with a client id never used before; bound to the worker when that is not NULL (then
 * on its thread). ERR_NO_MEMORY, ERR_BUSY. */
MUST_USE enum err node_endpoint_open(struct node *node, struct worker *worker,
                                     struct endpoint **ret_endpoint);
/* The same for a client of another process, whose id is given, on the worker's thread. */
MUST_USE enum err node_endpoint_open_linked(struct node *node, struct worker *worker,
                                            uint64_t client, struct endpoint **ret_endpoint);
/* How many of those one worker may have: what is left of the table, in equal parts. Beyond it
 * ERR_BUSY. */
uint32_t node_linked_max(const struct node *node);
/* Ends the watch; on its worker's thread, or when that has ended. */
void node_unwatch(struct node *node, struct watch *watch);
void node_endpoint_close(struct node *node, struct endpoint *endpoint);

/* The published catalog, with a reference for the caller. Any thread. */
const struct catalog *node_catalog_acquire(struct node *node);
void node_catalog_release(struct node *node, const struct catalog *catalog);
/* Takes the catalog, heap-allocated, and makes it the published one. ERR_NO_MEMORY: not taken. */
MUST_USE enum err node_catalog_publish(struct node *node, struct catalog *catalog);

/* A log or flush failed: from now on every change is refused with err. Only the first is kept. Any
 * thread. */
void node_fail(struct node *node, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Before something that needs several workers to finish and answer it: false when the node is
 * closing. */
bool node_open_begin(struct node *node);
void node_open_end(struct node *node);
/* Something failed that only has to be known (a checkpoint). */
void node_report(struct node *node, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Why changes are refused now: that failure, or ERR_NO_SPACE while a log waits for space. ERR_NONE:
 * they are not. */
static inline enum err node_health(const struct node *node)
{
    int health = atomic_load_explicit(&node->health, memory_order_relaxed);
    if (health) return (enum err)health;
    return atomic_load_explicit(&node->stalled, memory_order_relaxed) ? ERR_NO_SPACE : ERR_NONE;
}

static inline uint16_t node_partition_owner(const struct node *node, uint16_t number)
{
    return (uint16_t)(number % node->worker_count);
}
static inline uint16_t node_slot_owner(const struct node *node, uint16_t slot)
{
    return node_partition_owner(node, (uint16_t)(slot & (node->partition_count - 1)));
}

#endif
