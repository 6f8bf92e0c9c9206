/* Making transactions durable.
 *
 * Recovery keeps what every log knows to be complete: it cuts all logs at the smallest of their
 * last horizons. So a transaction is durable when every log has a horizon at or above its timestamp
 * on disk, and there are two kinds of flush here:
 *
 *   - of the own log (flush_own): one at a time; who wants the horizon to reach some timestamp
 * waits in `waits` and is served by the first flush that gets there. While a prepared transaction
 * holds the horizon down, the flush is repeated when that is decided.
 *   - a round over all logs: SIGNAL_FLUSH with a target timestamp goes to every worker, itself
 * included, and when all have answered, everything up to the target is durable. Whoever asks
 * meanwhile shares the next round, which is group commit for policy `always` and for fsync(2).
 *
 * Interval policy: the first change after an interval flush sets the node's dirty flag; whoever set
 * it has the timer for all. A clean node sets no timer.
 *
 * A log that failed stays failed: the node's health has the error from then on. One that only found
 * no space (or memory) stalls: it keeps what it was to write, waits are told, changes are refused,
 * and the flush is tried again once a second until it succeeds.
 *
 * SIGNAL_FLUSH  body: u64 target (from a worker: of the own log), or nothing (from a client:
 * everything up to now, in all logs). SIGNAL_FLUSH_REPLY: no body. */
#include "db/node/worker_private.h"

#include <stdlib.h>

#include "base/check.h"

enum { EAGER_BYTES = 8 << 20 }; /* a log with this much unwritten is flushed before the interval */

static const uint64_t retry_ns = 1000000000u;

/* A FLUSH signal to be answered. */
struct flush_wait {
    struct flush_wait *next;
    struct signal *signal;
    uint64_t ts;
};

static void flush_own(struct worker *worker);
static void round_begin(struct worker *worker);

/* ---- the own log ---- */

static void waits_answer(struct worker *worker, uint64_t durable, enum err err)
{
    struct flush_wait **link = &worker->flusher.waits;
    while (*link) {
        struct flush_wait *wait = *link;
        if (!err && wait->ts > durable) {
            link = &wait->next;
            continue;
        }
        *link = wait->next;
        worker_reply(worker, wait->signal, SIGNAL_FLUSH_REPLY, err, NULL, 0);
        free(wait);
    }
}

static void on_settled(struct worker_waiter *waiter)
{
    flush_own(waiter->context);
}

static void on_own_flushed(void *context, enum err err, uint64_t horizon)
{
    struct worker *worker = context;
    struct flusher *flusher = &worker->flusher;
    flusher->in_flight = false;
    worker->counters.flushes++;
    bool stalled = err == ERR_NO_SPACE || err == ERR_NO_MEMORY;
    if (stalled != flusher->stalled) {
        flusher->stalled = stalled;
        atomic_fetch_add(&worker->node->stalled, stalled ? 1 : -1);
    }
    if (stalled) {
        node_report(worker->node, err, "flush of redo log %u: %s", (unsigned)worker->index,
                    err_text(err));
        worker_timer_arm(worker, &flusher->retry, worker_monotonic_ns(worker) + retry_ns);
    } else if (err && !flusher->err) {
        flusher->err = err;
        node_fail(worker->node, err, "flush of redo log %u: %s", (unsigned)worker->index,
                  err_text(err));
    }
    waits_answer(worker, horizon, err);
    if (flusher->waits) flush_own(worker);
}

static void retry_fire(struct worker_timer *timer)
{
    flush_own(timer->context);
}

/* Flushes the log; when that would not get the horizon to where the first wait wants it, later. */
static void flush_own(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    if (flusher->in_flight) return;
    uint64_t horizon = worker_horizon(worker);
    uint64_t wanted = UINT64_MAX;
    for (struct flush_wait *wait = flusher->waits; wait; wait = wait->next)
        if (wait->ts < wanted) wanted = wait->ts;
    if (flusher->waits && horizon < wanted) {
        if (flusher->settled.waiting) return;
        flusher->settled.ts = wanted;
        worker_when_settled(worker, &flusher->settled);
        return;
    }
    flusher->in_flight = true;
    flusher->dirty_bytes = 0;
    redo_flush(worker->redo, horizon, on_own_flushed, worker);
}

/* ---- rounds ---- */

static void durable_add(struct flusher *flusher, struct worker_durable *durable)
{
    durable->next = NULL;
    if (flusher->durables)
        flusher->durables_last->next = durable;
    else
        flusher->durables = durable;
    flusher->durables_last = durable;
}

/* Calls back those that are served, or that a failed round was for. */
static void durables_deliver(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    struct worker_durable *all = flusher->durables;
    flusher->durables = NULL;
    enum err err = flusher->round_err;
    uint64_t ts = err ? flusher->round_ts : flusher->durable_ts;
    /* A callback may add new ones, behind those that stay. */
    struct worker_durable *served = NULL;
    struct worker_durable **served_end = &served;
    while (all) {
        struct worker_durable *durable = all;
        all = durable->next;
        durable->next = NULL;
        if (durable->ts <= ts) {
            *served_end = durable;
            served_end = &durable->next;
        } else {
            durable_add(flusher, durable);
        }
    }
    while (served) {
        struct worker_durable *durable = served;
        served = durable->next;
        durable->ready(durable, err);
    }
}

static void round_end(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    flusher->round_open = false;
    if (!flusher->round_err) flusher->durable_ts = flusher->round_ts;
    durables_deliver(worker);
    if (flusher->durables && !flusher->round_open) round_begin(worker);
}

static void round_answered(struct worker *worker, enum err err)
{
    struct flusher *flusher = &worker->flusher;
    if (err && !flusher->round_err) flusher->round_err = err;
    if (--flusher->round_missing == 0) round_end(worker);
}

static void round_begin(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    flusher->round_open = true;
    flusher->round_err = ERR_NONE;
    flusher->round_request++;
    flusher->round_ts = worker_clock_next(worker);
    /* One more than the workers, so that the round cannot end before all were asked. */
    flusher->round_missing = (uint16_t)(worker_count(worker) + 1);
    for (uint16_t i = 0; i < worker_count(worker); i++) {
        enum err err = worker_send_new(worker, i, SIGNAL_FLUSH, flusher->round_request, 0,
                                       &flusher->round_ts, sizeof(flusher->round_ts));
        if (!err) continue;
        round_answered(worker, err); /* the round cannot say that all is durable */
    }
    round_answered(worker, ERR_NONE);
}

static bool deliver_step(struct worker_task *task)
{
    struct worker *worker = task->context;
    struct flusher *flusher = &worker->flusher;
    if (flusher->round_open) return false;
    flusher->round_err = ERR_NONE;
    durables_deliver(worker);
    if (flusher->durables && !flusher->round_open) round_begin(worker);
    return false;
}

void worker_when_durable(struct worker *worker, struct worker_durable *durable)
{
    struct flusher *flusher = &worker->flusher;
    durable_add(flusher, durable);
    /* A round that is open took its timestamp before and serves only what is older; the next one
     * begins at its end. Otherwise one begins with this turn's last task, so that what the turn's
     * other signals commit shares it. */
    if (!flusher->round_open) worker_task_start(worker, &flusher->deliver);
}

/* ---- interval ---- */

static void interval_flushed(struct worker_durable *durable, enum err err)
{
    struct worker *worker = durable->context;
    (void)err; /* the health has it */
    worker->flusher.interval_riding = false;
}

static uint64_t interval_end(const struct worker *worker)
{
    return worker_monotonic_ns(worker) +
           (uint64_t)worker->node->config.flush_interval_ms * 1000000u;
}

static void interval_fire(struct worker_timer *timer)
{
    struct worker *worker = timer->context;
    struct flusher *flusher = &worker->flusher;
    if (flusher->interval_riding) {
        worker_timer_arm(worker, timer, interval_end(worker));
        return;
    }
    atomic_store(&worker->node->dirty, false);
    flusher->interval_riding = true;
    flusher->interval_durable.ts = worker_clock_next(worker);
    worker_when_durable(worker, &flusher->interval_durable);
}

void flush_note(struct worker *worker, uint64_t size)
{
    struct flusher *flusher = &worker->flusher;
    flusher->dirty_bytes += size;
    if (flusher->dirty_bytes > EAGER_BYTES) flush_own(worker);
    checkpointer_note(worker, size);
    struct node *node = worker->node;
    if (atomic_load_explicit(&node->dirty, memory_order_relaxed)) return;
    if (atomic_exchange(&node->dirty, true)) return;
    worker_timer_arm(worker, &flusher->interval, interval_end(worker));
}

/* ---- signals ---- */

/* A client's request for everything: its signal waits for a round. */
struct flush_all {
    struct worker_durable durable;
    struct worker *worker;
    struct signal *signal;
};

static void flush_all_done(struct worker_durable *durable, enum err err)
{
    struct flush_all *all = durable->context;
    worker_reply(all->worker, all->signal, SIGNAL_FLUSH_REPLY, err, NULL, 0);
    free(all);
}

static void on_flush(struct worker *worker, struct signal *signal)
{
    uint32_t size = signal_body_size(signal);
    enum err err = ERR_BAD_SIGNAL;
    if (size == 0) {
        struct flush_all *all = calloc(1, sizeof(*all));
        err = ERR_NO_MEMORY;
        if (!all) goto refuse;
        all->worker = worker;
        all->signal = signal;
        all->durable = (struct worker_durable){
            .ready = flush_all_done, .context = all, .ts = worker_clock_next(worker)};
        worker_when_durable(worker, &all->durable);
        return;
    }
    struct reader reader = reader_of(signal->body, size);
    uint64_t ts = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) ||
        !hlc_is_plausible(&worker->clock, ts, worker_realtime(worker)))
        goto refuse;
    worker_clock_observe(worker, ts);
    err = worker->flusher.err;
    if (err) goto refuse;
    struct flush_wait *wait = malloc(sizeof(*wait));
    err = ERR_NO_MEMORY;
    if (!wait) goto refuse;
    *wait = (struct flush_wait){.next = worker->flusher.waits, .signal = signal, .ts = ts};
    worker->flusher.waits = wait;
    flush_own(worker);
    return;

refuse:
    worker_reply(worker, signal, SIGNAL_FLUSH_REPLY, err, NULL, 0);
}

static void on_flush_reply(struct worker *worker, struct signal *signal)
{
    struct flusher *flusher = &worker->flusher;
    bool awaited = flusher->round_open && signal->header.request == flusher->round_request &&
                   signal->header.source < worker_count(worker);
    enum err err = (enum err)signal->header.err;
    signal_destroy(signal);
    if (awaited)
        round_answered(worker, err);
    else
        worker->counters.signals_dropped++;
}

void flush_start(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    flusher->settled = (struct worker_waiter){.ready = on_settled, .context = worker};
    flusher->deliver = (struct worker_task){.step = deliver_step, .context = worker};
    flusher->retry = (struct worker_timer){.fire = retry_fire, .context = worker};
    flusher->interval = (struct worker_timer){.fire = interval_fire, .context = worker};
    flusher->interval_durable =
        (struct worker_durable){.ready = interval_flushed, .context = worker};
    worker_on(worker, SIGNAL_FLUSH, on_flush);
    worker_on(worker, SIGNAL_FLUSH_REPLY, on_flush_reply);
}

void flush_stop(struct worker *worker)
{
    struct flusher *flusher = &worker->flusher;
    worker_timer_disarm(worker, &flusher->interval);
    worker_timer_disarm(worker, &flusher->retry);
    worker_task_stop(worker, &flusher->deliver);
    worker_waiter_cancel(worker, &flusher->settled);
    waits_answer(worker, 0, ERR_CLOSED);
    flusher->round_err = ERR_CLOSED;
    flusher->round_ts = UINT64_MAX;
    flusher->round_open = true; /* none begins any more */
    while (flusher->durables)
        durables_deliver(worker);
}
