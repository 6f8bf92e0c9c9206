/* The worker as other modules of db/ see it: how two-phase commit, queries, checkpoints and the
 * client library plug into the event loop. Private to db/.
 *
 * A worker is a thread (or, in the simulator, a slot that the test gives turns to) that owns some
 * partitions. One turn of its loop handles: signals from its mailbox, completions of jobs, due
 * timers, readable watches, and then one step of one task. Everything here is called on the
 * worker's own thread unless it says otherwise, and no handler may block: what takes long is a
 * task, what waits for the disk is a job.
 *
 * A handler may run nested, while a client on the worker's thread waits inside db_run or
 * db_query_next. Then signals, jobs, timers and tasks run, but no watch and no posted function.
 * Handlers, timers and tasks never call the client library, so nesting is one deep. */
#ifndef DB_NODE_WORKER_H
#define DB_NODE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "db/ldm/partition.h"
#include "db/node/env.h"
#include "db/node/mailbox.h" /* struct signal */
#include "db/wire/schema.h"
#include "db/wire/signal.h"

struct node;
struct redo;
struct worker;

enum { WORKERS_MAX = 64 };

/* ---- what a worker has ---- */

uint16_t worker_index(const struct worker *worker); /* its endpoint number as well */
struct node *worker_node(const struct worker *worker);
struct env *worker_env(const struct worker *worker);
struct ldm *worker_ldm(const struct worker *worker);
struct redo *worker_redo(const struct worker *worker);
/* NULL when the partition belongs to another worker. */
struct partition *worker_partition(const struct worker *worker, uint16_t number);
uint16_t worker_partition_count(const struct worker *worker); /* of the store, not only its own */
uint16_t worker_count(const struct worker *worker);           /* of the node */
/* Which worker owns the partition, or the slot. */
uint16_t worker_partition_owner(const struct worker *worker, uint16_t number);
uint16_t worker_slot_owner(const struct worker *worker, uint16_t slot);
/* The catalog that the worker's partitions follow now. Valid until the module's catalog_changing
 * was called. */
const struct catalog *worker_catalog(const struct worker *worker);
/* Bytes one query may use on this node. */
uint64_t worker_query_memory_max(const struct worker *worker);

/* ---- the clock: hybrid logical, see hlc.h ---- */

/* A timestamp greater than every one given out or observed before. */
uint64_t worker_clock_next(struct worker *worker);
/* Later timestamps are greater than ts; an absurd one, hours ahead, is ignored. Every signal's
 * header.clock has been observed before its handler runs. */
void worker_clock_observe(struct worker *worker, uint64_t ts);
/* Transactions of this worker with a timestamp at or below it are all committed or gone, and no new
 * one will get one: min(clock now, oldest open prepare timestamp - 1). */
uint64_t worker_horizon(struct worker *worker);

/* ---- signals ---- */

/* Takes the signal, whose type, destination, request, client, term, partition, err and body are
 * set; fills in size (from body_size), version, source and clock. Cannot fail, and never runs a
 * handler before it returns, also when the destination is this worker. Order is kept per
 * destination. */
void worker_send(struct worker *worker, struct signal *signal, uint32_t body_size);
/* The same with a fresh block. ERR_NO_MEMORY. */
MUST_USE enum err worker_send_new(struct worker *worker, uint32_t destination,
                                  enum signal_type type, uint64_t request, uint64_t client,
                                  const void *body, uint32_t body_size);
/* Answers `signal` in its own block, which it takes (so it cannot fail for memory): to its source,
 * with its request and client. body may be longer than the block: then a new block is taken, and
 * when there is no memory for it the answer is ERR_NO_MEMORY without a body. body must not point
 * into the signal. */
void worker_reply(struct worker *worker, struct signal *signal, enum signal_type type, enum err err,
                  const void *body, uint32_t body_size);

/* The handler of a signal type. It owns the signal: destroys it, keeps it, or sends it on. The
 * header was checked (signal_check), the body was not. A signal without a handler is dropped and
 * counted. */
typedef void worker_signal_fn(struct worker *worker, struct signal *signal);
void worker_on(struct worker *worker, enum signal_type type, worker_signal_fn *fn);

/* ---- tasks: long work in slices ---- */

/* Embedded by its owner. step() does a bounded piece, some 50 us, and returns true when it wants to
 * go on at once; false: the task is parked until worker_task_start is called again (also from
 * within step, or from a handler or timer). A worker with a started task does not sleep; started
 * tasks take turns. step may free its owner if it returns false and was not started again. */
struct worker_task {
    bool (*step)(struct worker_task *task);
    void *context;
    struct worker_task *next; /* the worker's, while started */
    bool started;
};
void worker_task_start(struct worker *worker, struct worker_task *task); /* again: no change */
void worker_task_stop(struct worker *worker, struct worker_task *task); /* not started: no change */

/* ---- timers ---- */

/* Embedded by its owner; fires once. */
struct worker_timer {
    void (*fire)(struct worker_timer *timer);
    void *context;
    uint64_t at_ns; /* monotonic */
    struct worker_timer *next;
    bool armed;
};
uint64_t worker_monotonic_ns(const struct worker *worker);
void worker_timer_arm(struct worker *worker, struct worker_timer *timer, uint64_t at_ns);
void worker_timer_disarm(struct worker *worker, struct worker_timer *timer);

/* ---- snapshots ---- */

/* Pins what is committed now and gives the timestamp T_w (answer it to whoever opens a snapshot
 * over several workers; the snapshot is the maximum T over all). ERR_NO_MEMORY. */
MUST_USE enum err worker_pin(struct worker *worker, uint64_t *ret_ts);
/* The snapshot's timestamp T, not below the pinned one, is known: only versions as of T stay
 * readable through the pin, and it is unpinned with T. */
void worker_pin_settle(struct worker *worker, uint64_t pinned_ts, uint64_t ts);
/* ts is the one that worker_pin gave, or worker_pin_settle was given. Starts the collection of what
 * only this pin needed. */
void worker_unpin(struct worker *worker, uint64_t ts);
/* The same of one that ldm_pin_restrict has restricted. */
void worker_unpin_restricted(struct worker *worker, uint64_t ts, const struct partition *partition);
/* No transaction with a prepare timestamp at or below ts is undecided here: a snapshot at ts may be
 * read, once ts was observed by the clock. */
bool worker_is_settled(const struct worker *worker, uint64_t ts);
/* Calls ready(waiter) once as soon as that holds; at once, before returning, when it holds now (the
 * clock then has observed ts). Embedded by its owner. */
struct worker_waiter {
    void (*ready)(struct worker_waiter *waiter);
    void *context;
    uint64_t ts;
    struct worker_waiter *next;
    bool waiting;
};
void worker_when_settled(struct worker *worker, struct worker_waiter *waiter);
void worker_waiter_cancel(struct worker *worker, struct worker_waiter *waiter);

/* ---- durability ---- */

/* Calls ready(waiter, err) once everything with a timestamp <= waiter->ts is durable in every log
 * of the node (which is what recovery needs to keep it), or when a log has failed. Always later,
 * never before returning. */
struct worker_durable {
    void (*ready)(struct worker_durable *durable, enum err err);
    void *context;
    uint64_t ts;
    struct worker_durable *next;
};
void worker_when_durable(struct worker *worker, struct worker_durable *durable);

/* ---- modules ---- */

/* What a module outside db/node adds to every worker. start registers its handlers; it is called
 * before the loop runs. stop is called on the worker's thread (or after it ended), with nothing in
 * flight any more: frees what the module keeps. */
struct worker_module {
    enum err (*start)(struct worker *worker);
    void (*stop)(struct worker *worker);
    /* The worker is about to follow another catalog: fragments of tables that are dropped, and
     * indexes, go away; table_def pointers of the old catalog become invalid. The module drops or
     * ends (ERR_SCHEMA_CHANGED) what uses them. */
    void (*catalog_changing)(struct worker *worker, const struct catalog *from,
                             const struct catalog *to);
};
/* The module's state on this worker, NULL at first. */
void *worker_module_state(const struct worker *worker, const struct worker_module *module);
void worker_set_module_state(struct worker *worker, const struct worker_module *module,
                             void *state);

/* Defined by db/query: started on every worker. */
extern const struct worker_module query_module;

#endif
