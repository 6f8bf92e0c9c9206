/* Checkpoints of a worker's partitions, one after the other, while it serves.
 *
 *   IDLE -> SETTLING: the partition's snapshot T is pinned; wait until no transaction prepared at
 * or below T is open
 *        -> WRITING:  a task encodes pages in slices; jobs write them
 *        -> FLUSHING: every log gets durable up to T, so that no restart can cut below what the
 * file holds
 *        -> PUBLISHING: the file gets its name
 *        -> the next partition, or, after the last, the log is trimmed
 *
 * A run is started by the amount of redo that all workers wrote since their last ones (whoever sees
 * the limit passed asks the others, since a log can only be trimmed when every partition of the
 * store has a newer checkpoint), by a client's SIGNAL_CHECKPOINT (answered when the run that began
 * after it arrived has published everything), which is also what a clean close sends. A change of
 * the catalog interrupts it: the partition at hand is begun again afterwards. A failure ends the
 * run, is reported, and delays the next automatic one.
 *
 * SIGNAL_CHECKPOINT  no body. SIGNAL_CHECKPOINT_REPLY  no body; from worker to worker: a run has
 * ended, logs may be trimmed. */
#include "db/node/worker_private.h"

#include <stdlib.h>

#include "base/check.h"

static const uint64_t retry_ns = 10u * 1000000000u;

enum { LOOK_BYTES = 64 << 10 }; /* of own redo, after which the redo of all is added up */

enum checkpointer_state { IDLE, SETTLING, WRITING, FLUSHING, PUBLISHING, DRAINING };

struct checkpointer {
    struct worker *worker;
    enum checkpointer_state state;
    uint16_t partition; /* number of the one at hand */
    uint64_t ts;
    const struct partition *pinned; /* NULL: none is */
    struct checkpoint *checkpoint;
    struct worker_task task;
    struct worker_waiter waiter;
    struct worker_durable durable;
    struct signal *running; /* requests that this run answers, linked */
    struct signal *pending; /* that came during it: the next one does */
    bool suspended;
    void (*suspend_ready)(struct worker *worker);
    enum err err;           /* of a run that is being ended */
    uint64_t not_before_ns; /* of the next automatic run */
    uint64_t unseen_bytes;  /* of redo since the last look at all workers' */
};

static void partition_begin(struct checkpointer *self);

/* Only this worker writes it. */
static atomic_uint_fast64_t *log_bytes(struct worker *worker)
{
    return &worker->node->log_bytes[worker->index];
}

static struct env *env_of(const struct checkpointer *self)
{
    return self->worker->node->env;
}

static void unpin(struct checkpointer *self)
{
    if (self->pinned) worker_unpin_restricted(self->worker, self->ts, self->pinned);
    self->pinned = NULL;
}

/* ---- runs ---- */

static void run_begin(struct checkpointer *self)
{
    self->running = self->pending;
    self->pending = NULL;
    self->not_before_ns =
        worker_monotonic_ns(self->worker) + self->worker->node->config.checkpoint_interval_ns;
    atomic_store(log_bytes(self->worker), 0);
    self->err = ERR_NONE;
    self->partition = self->worker->index;
    partition_begin(self);
}

static void trim(struct worker *worker)
{
    const struct node *node = worker->node;
    uint64_t ts = UINT64_MAX;
    for (uint32_t p = worker->index; p < node->partition_count; p += node->worker_count) {
        uint64_t one = atomic_load(&node->checkpoint_ts[p]);
        if (one < ts) ts = one;
    }
    redo_trim(worker->redo, ts);
}

/* Tells the other workers something that may as well get lost for want of memory. */
static void tell_others(struct worker *worker, enum signal_type type)
{
    for (uint16_t i = 0; i < worker_count(worker); i++)
        if (i != worker->index) (void)!worker_send_new(worker, i, type, 0, 0, NULL, 0);
}

static void run_end(struct checkpointer *self)
{
    struct worker *worker = self->worker;
    self->state = IDLE;
    if (self->err) {
        node_report(worker->node, self->err, "checkpoint of partition %u: %s",
                    (unsigned)self->partition, err_text(self->err));
        self->not_before_ns = worker_monotonic_ns(worker) + retry_ns;
    } else {
        trim(worker);
        tell_others(worker, SIGNAL_CHECKPOINT_REPLY);
        worker->counters.checkpoints++;
    }
    struct signal *signal = self->running;
    self->running = NULL;
    while (signal) {
        struct signal *next = signal->next;
        worker_reply(worker, signal, SIGNAL_CHECKPOINT_REPLY, self->err, NULL, 0);
        signal = next;
    }
    if (self->pending) run_begin(self);
}

/* ---- one partition ---- */

static void drain(struct checkpointer *self);

/* Lets go of the partition at hand: DRAINING until no job of it is in flight. */
static void drop(struct checkpointer *self)
{
    struct worker *worker = self->worker;
    worker_task_stop(worker, &self->task);
    worker_waiter_cancel(worker, &self->waiter);
    unpin(self);
    self->state = DRAINING;
    drain(self);
}

/* Goes on when the jobs are done: a failed run ends, a suspended one stays here, with nothing in
 * hand. */
static void drain(struct checkpointer *self)
{
    if (self->checkpoint) {
        if (!checkpoint_is_idle(self->checkpoint)) return;
        checkpoint_destroy(self->checkpoint);
        self->checkpoint = NULL;
    }
    if (self->err) run_end(self); /* a run that it begins ends here again while suspended */
    if (self->suspended && self->suspend_ready) {
        void (*ready)(struct worker * worker) = self->suspend_ready;
        self->suspend_ready = NULL;
        ready(self->worker);
    }
}

static void fail(struct checkpointer *self, enum err err)
{
    self->err = err;
    drop(self);
}

static void on_published(void *context, enum err err)
{
    struct checkpointer *self = context;
    struct node *node = self->worker->node;
    if (!err) atomic_store(&node->checkpoint_ts[self->partition], self->ts);
    if (err) {
        fail(self, err);
        return;
    }
    checkpoint_destroy(self->checkpoint);
    self->checkpoint = NULL;
    uint32_t next = (uint32_t)self->partition + node->worker_count;
    if (next >= node->partition_count) {
        run_end(self);
        return;
    }
    self->partition = (uint16_t)next;
    partition_begin(self);
}

static void on_durable(struct worker_durable *durable, enum err err)
{
    struct checkpointer *self = durable->context;
    if (err) {
        fail(self, err);
        return;
    }
    self->state = PUBLISHING;
    checkpoint_publish(self->checkpoint, on_published, self);
}

static bool step(struct worker_task *task)
{
    struct checkpointer *self = task->context;
    enum err err = checkpoint_step(self->checkpoint);
    if (err == ERR_NONE) return true;
    if (err == ERR_BUSY) return false; /* checkpointer_kick starts it again */
    if (err != ERR_END) {
        fail(self, err);
        return false;
    }
    unpin(self);
    self->state = FLUSHING;
    self->durable.ts = self->ts;
    worker_when_durable(self->worker, &self->durable);
    return false;
}

static void on_settled(struct worker_waiter *waiter)
{
    struct checkpointer *self = waiter->context;
    struct worker *worker = self->worker;
    enum err err = checkpoint_create(env_of(self), worker->partitions[self->partition], self->ts,
                                     worker->index, &self->checkpoint);
    if (err) {
        fail(self, err);
        return;
    }
    self->state = WRITING;
    worker_task_start(worker, &self->task);
}

static void partition_begin(struct checkpointer *self)
{
    struct worker *worker = self->worker;
    self->state = SETTLING;
    if (self->partition >= worker->node->partition_count) { /* more workers than partitions */
        run_end(self);
        return;
    }
    if (self->suspended) {
        drop(self);
        return;
    }
    enum err err = worker_pin(worker, &self->ts);
    if (err) {
        fail(self, err);
        return;
    }
    self->pinned = worker->partitions[self->partition];
    worker_pin_settle(worker, self->ts, self->ts);
    ldm_pin_restrict(worker->ldm, self->ts, self->pinned);
    self->waiter.ts = self->ts;
    worker_when_settled(worker, &self->waiter);
}

/* ---- what others call ---- */

void checkpointer_kick(struct worker *worker)
{
    struct checkpointer *self = worker->checkpointer;
    if (self->state == WRITING)
        worker_task_start(worker, &self->task);
    else if (self->state == DRAINING && self->checkpoint)
        drain(self);
}

void checkpointer_suspend(struct worker *worker, void (*ready)(struct worker *worker))
{
    struct checkpointer *self = worker->checkpointer;
    ASSERT(!self->suspended);
    self->suspended = true;
    if (self->state == SETTLING || self->state == WRITING) {
        self->suspend_ready = ready;
        drop(self);
    } else if (self->state == DRAINING && self->checkpoint) {
        self->suspend_ready = ready;
    } else {
        ready(
            worker); /* FLUSHING and PUBLISHING do not look at the partition any more: they go on */
    }
}

void checkpointer_resume(struct worker *worker)
{
    struct checkpointer *self = worker->checkpointer;
    self->suspended = false;
    if (self->state == DRAINING && !self->checkpoint)
        partition_begin(self);
    else if (self->state == IDLE && self->pending)
        run_begin(self);
}

/* An automatic run, when it is not too soon. */
static bool run_due(struct checkpointer *self)
{
    if (self->state != IDLE || self->suspended ||
        worker_monotonic_ns(self->worker) < self->not_before_ns)
        return false;
    run_begin(self);
    return true;
}

void checkpointer_note(struct worker *worker, uint64_t size)
{
    struct checkpointer *self = worker->checkpointer;
    const struct node *node = worker->node;
    uint64_t bytes = atomic_load_explicit(log_bytes(worker), memory_order_relaxed) + size;
    atomic_store_explicit(log_bytes(worker), bytes, memory_order_relaxed);
    self->unseen_bytes += size;
    if (self->unseen_bytes < LOOK_BYTES && bytes < node->config.checkpoint_log_bytes) return;
    self->unseen_bytes = 0;
    uint64_t sum = 0;
    for (uint16_t i = 0; i < node->worker_count; i++)
        sum += atomic_load_explicit(&node->log_bytes[i], memory_order_relaxed);
    if (sum >= node->config.checkpoint_log_bytes && run_due(self))
        tell_others(worker, SIGNAL_CHECKPOINT);
}

static void on_checkpoint(struct worker *worker, struct signal *signal)
{
    struct checkpointer *self = worker->checkpointer;
    if (signal->header.source < worker_count(worker)) {
        signal_destroy(signal);
        run_due(self);
        return;
    }
    enum err err = signal_body_size(signal) ? ERR_BAD_SIGNAL : node_health(worker->node);
    if (err) {
        worker_reply(worker, signal, SIGNAL_CHECKPOINT_REPLY, err, NULL, 0);
        return;
    }
    signal->next = self->pending;
    self->pending = signal;
    if (self->state == IDLE && !self->suspended) run_begin(self);
}

static void on_checkpoint_reply(struct worker *worker, struct signal *signal)
{
    signal_destroy(signal);
    trim(worker);
}

bool checkpointer_is_idle(const struct worker *worker)
{
    const struct checkpointer *self = worker->checkpointer;
    return !self->checkpoint || checkpoint_is_idle(self->checkpoint);
}

enum err checkpointer_start(struct worker *worker)
{
    struct checkpointer *self = calloc(1, sizeof(*self));
    if (!self) return ERR_NO_MEMORY;
    self->worker = worker;
    self->task = (struct worker_task){.step = step, .context = self};
    self->waiter = (struct worker_waiter){.ready = on_settled, .context = self};
    self->durable = (struct worker_durable){.ready = on_durable, .context = self};
    worker->checkpointer = self;
    worker_on(worker, SIGNAL_CHECKPOINT, on_checkpoint);
    worker_on(worker, SIGNAL_CHECKPOINT_REPLY, on_checkpoint_reply);
    return ERR_NONE;
}

static void signals_destroy(struct signal *signal)
{
    while (signal) {
        struct signal *next = signal->next;
        signal_destroy(signal);
        signal = next;
    }
}

void checkpointer_stop(struct worker *worker)
{
    struct checkpointer *self = worker->checkpointer;
    if (!self) return;
    worker_task_stop(worker, &self->task);
    worker_waiter_cancel(worker, &self->waiter);
    unpin(self);
    signals_destroy(self->running);
    signals_destroy(self->pending);
    if (self->checkpoint) checkpoint_destroy(self->checkpoint);
    free(self);
    worker->checkpointer = NULL;
}
