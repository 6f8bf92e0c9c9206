/* The inside of a worker, shared by the files of db/node. Everything but the marked members is
 * touched by the worker's own thread only (before it starts and after it ended: by whoever starts
 * and ends it). */
#ifndef DB_NODE_WORKER_PRIVATE_H
#define DB_NODE_WORKER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/buf.h"
#include "db/ldm/redo.h"
#include "db/node/hlc.h"
#include "db/node/links.h"
#include "db/node/node.h"
#include "db/node/watch_spin.h"
#include "db/node/worker.h"
#include "db/txn/execute.h"
#include "db/txn/participant.h"

struct transaction;
struct checkpointer;
struct ddl;

struct worker_counters {
    uint64_t signals;
    uint64_t signals_dropped; /* malformed, unhandled or stale */
    uint64_t programs;        /* run here, alone */
    uint64_t programs_failed;
    uint64_t commits;
    uint64_t prepares;
    uint64_t prepares_refused;
    uint64_t coordinated;
    uint64_t coordinated_aborted;
    uint64_t flushes;
    uint64_t checkpoints;
    uint64_t purged;
    uint64_t sleeps;
};

/* flush.c */
struct flush_wait;
struct flusher {
    bool in_flight; /* of the own log */
    bool stalled;   /* the last flush found no space */
    struct worker_timer retry;
    uint64_t dirty_bytes;         /* appended since the last flush began */
    enum err err;                 /* sticky */
    struct flush_wait *waits;     /* for the own log */
    struct worker_waiter settled; /* armed while a wait is held up by a prepared transaction */
    /* A round makes all logs durable up to round_ts. */
    bool round_open;
    uint16_t round_missing;
    enum err round_err;
    uint64_t round_ts;
    uint64_t round_request;
    uint64_t durable_ts;             /* all logs, as of the last round */
    struct worker_durable *durables; /* waiting; those <= round_ts ride the open round */
    struct worker_durable *durables_last;
    struct worker_task deliver; /* calls back those that need no round */
    struct worker_timer interval;
    struct worker_durable interval_durable;
    bool interval_riding;
};

enum { TRANSACTION_BUCKETS = 256, TRANSACTIONS_MAX = 4096 };

struct post {
    struct post *next;
    void (*fn)(void *context);
    void *context;
};

struct watch {
    struct watch *next; /* the node's list */
    struct worker *worker;
    int fd;
    bool (*ready)(void *context);
    void *context;
    const uint32_t *found; /* counts what ready has found; NULL: it is not looked at unasked */
};

struct worker {
    struct node *node;
    uint16_t index;
    uint16_t partition_mask;
    struct ldm *ldm;
    struct redo *redo;
    struct partition **partitions; /* by number; NULL: another worker's */
    struct catalog *catalog;       /* the worker's own copy, which its partitions follow */
    struct hlc clock;
    struct participants prepared;
    struct worker_waiter *waiters; /* for prepared transactions to be decided */

    /* Of the program that runs now. */
    struct arena arena;
    struct executor executor;
    struct change_set *changes;
    struct buf redo_body;
    struct buf reply;

    /* The loop. */
    worker_signal_fn *handlers[SIGNAL_TYPE_MAX + 1];
    struct worker_task *tasks;   /* the last of a ring, NULL: none */
    struct worker_timer *timers; /* by time */
    struct endpoint *bound;      /* clients on this thread */
    struct links *links;         /* clients of other processes; NULL: nobody listens */
    unsigned depth;              /* 1 in a nested turn */
    struct watch *hot;      /* the last watch that found something and may be looked at unasked */
    struct watch_spin spin; /* of that */
    uint32_t looks;
    int epoll_fd;
    pthread_t thread;
    bool thread_started;
    bool has_ttl; /* a table of the catalog has */

    struct transaction *transactions[TRANSACTION_BUCKETS]; /* coordinated here */
    uint32_t transaction_count;
    uint64_t transaction_next;

    struct flusher flusher;
    struct checkpointer *checkpointer;
    struct ddl *ddl;
    struct worker_task collector;
    struct worker_timer collector_timer;
    uint32_t pin_count;
    uint64_t ddl_block; /* programs of other workers are not prepared while the catalog is about to
                           change */

    unsigned module_count; /* started */
    void *module_states[NODE_MODULES_MAX];
    struct worker_counters counters;

    /* Touched by other threads. */
    struct mailbox mailbox;
    _Atomic(struct env_job *) jobs; /* done, newest first */
    _Atomic(struct post *) posts;   /* newest first */
    atomic_bool stopping;
};

/* worker.c */
MUST_USE enum err worker_create(struct node *node, uint16_t index, struct worker **ret_worker);
void worker_destroy(struct worker *worker); /* NULL is allowed */
MUST_USE enum err worker_start_thread(struct worker *worker);
void worker_join(struct worker *worker);
/* One turn of the loop without watches, posts and sleep. True: it did something. */
bool worker_turn(struct worker *worker);
/* Handles a signal for this worker, or for an endpoint bound to it, that did not come through its
 * mailbox. Takes it. */
void worker_dispatch(struct worker *worker, struct signal *signal);
/* A nested turn, for a client on this thread that waits; sleeps for up to timeout_ns (UINT64_MAX:
 * no limit) when there is nothing to do. */
void worker_nested_turn(struct worker *worker, uint64_t timeout_ns);
/* Monotonic time of the next timer; UINT64_MAX: none. */
uint64_t worker_timer_next(const struct worker *worker);
/* No job of the worker is in flight. */
bool worker_is_idle(const struct worker *worker);
/* Something is there to do at once: the simulator asks. */
bool worker_is_ready(const struct worker *worker);

/* programs.c */
void programs_start(struct worker *worker);
/* Runs a program whose sections are all of this worker and appends its reply to `reply`, header
 * included. */
void worker_run_program(struct worker *worker, const void *bytes, size_t size, struct buf *reply,
                        enum err *ret_err, uint64_t *ret_commit_ts);
/* The same of a decoded program, into a reply of this thread. Returns the program's outcome. */
MUST_USE enum err worker_run_decoded(struct worker *worker, const struct program_decoded *program,
                                     struct program_reply *reply);
/* The same of a program's bytes. */
MUST_USE enum err worker_run_directly(struct worker *worker, const void *bytes, size_t size,
                                      struct program_reply *reply);
/* Logs and commits what is in `changes`; rolls back on failure. *ret_ts is 0 when nothing was
 * changed. */
MUST_USE enum err worker_commit(struct worker *worker, struct change_set *changes,
                                uint64_t *ret_ts);
/* Answers a client's program in the block of its signal. */
void worker_answer_program(struct worker *worker, struct signal *signal, const void *reply,
                           size_t size, bool committed);

/* two_phase.c */
void two_phase_start(struct worker *worker);
void two_phase_stop(struct worker *worker);
/* Takes the signal of a program that needs other workers. */
void two_phase_run(struct worker *worker, struct signal *signal,
                   const struct program_outline *outline);

/* flush.c */
void flush_start(struct worker *worker);
void flush_stop(struct worker *worker);
/* The worker's log got `size` bytes more. */
void flush_note(struct worker *worker, uint64_t size);

/* snapshot.c */
void snapshot_start(struct worker *worker);
void snapshot_stop(struct worker *worker);
/* Prepared transactions have gone: calls back who waited for that. */
void snapshot_resolved(struct worker *worker);
/* Rows may have expired, versions may be collected. */
void collect_now(struct worker *worker);
/* The catalog changed: does any table expire? */
void collect_catalog(struct worker *worker);

/* checkpointer.c */
MUST_USE enum err checkpointer_start(struct worker *worker);
void checkpointer_stop(struct worker *worker);
/* The worker's log got `size` bytes more: starts a run when that was enough. */
void checkpointer_note(struct worker *worker, uint64_t size);
/* A job of this worker is done: a checkpoint that waited for it may go on. */
void checkpointer_kick(struct worker *worker);
/* The catalog is about to change: gives up the checkpoint under way, to be begun again by _resume,
 * and calls ready when it has let go of the partitions; at once when there is none. */
void checkpointer_suspend(struct worker *worker, void (*ready)(struct worker *worker));
void checkpointer_resume(struct worker *worker);
/* No job of it is in flight. */
bool checkpointer_is_idle(const struct worker *worker);

/* ddl.c */
bool ddl_is_idle(const struct worker *worker); /* no job of it is in flight */
MUST_USE enum err ddl_start(struct worker *worker);
void ddl_stop(struct worker *worker);

/* status.c */
void status_start(struct worker *worker);
void status_put_text(struct buf *buf, const char *text); /* as a JSON string */

/* info.c */
void info_start(struct worker *worker);
void info_announce(struct worker *worker); /* worker 0: the catalog has changed */

static inline uint64_t worker_realtime(const struct worker *worker)
{
    return worker->node->env->ops->realtime_ns(worker->node->env);
}

#endif
