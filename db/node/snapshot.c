/* Snapshots on one worker, and the collection of what they leave behind.
 *
 * A pin keeps versions; reading at T also needs every transaction that may commit at or below T to
 * be decided, so readers, checkpoints and horizons wait for prepared transactions here
 * (worker_when_settled).
 *
 * Collection is a task: it is started when a pin goes, since without pins a commit leaves nothing
 * to collect, and once a second when some table's rows expire. Expired rows are deleted in logged
 * transactions of their own, a few at a time. */
#include "db/node/worker_private.h"

#include "base/check.h"

enum { COLLECT_BUDGET = 512, PURGE_MAX = 64 };
static const uint64_t collect_interval_ns = 1000000000u;

enum err worker_pin(struct worker *worker, uint64_t *ret_ts)
{
    uint64_t ts = worker_clock_next(worker);
    enum err err = ldm_pin(worker->ldm, ts);
    if (err) return err;
    worker->pin_count++;
    *ret_ts = ts;
    return ERR_NONE;
}

void worker_pin_settle(struct worker *worker, uint64_t pinned_ts, uint64_t ts)
{
    worker_clock_observe(worker, ts);
    ldm_pin_settle(worker->ldm, pinned_ts, ts);
}

void worker_unpin(struct worker *worker, uint64_t ts)
{
    ASSERT(worker->pin_count);
    worker->pin_count--;
    ldm_unpin(worker->ldm, ts);
    collect_now(worker);
}

void worker_unpin_restricted(struct worker *worker, uint64_t ts, const struct partition *partition)
{
    ASSERT(worker->pin_count);
    worker->pin_count--;
    ldm_unpin_restricted(worker->ldm, ts, partition);
    collect_now(worker);
}

/* ---- waiting for prepared transactions ---- */

bool worker_is_settled(const struct worker *worker, uint64_t ts)
{
    return participants_oldest_ts(&worker->prepared) > ts;
}

void worker_when_settled(struct worker *worker, struct worker_waiter *waiter)
{
    ASSERT(!waiter->waiting);
    worker_clock_observe(worker, waiter->ts);
    if (worker_is_settled(worker, waiter->ts)) {
        waiter->ready(waiter);
        return;
    }
    waiter->waiting = true;
    waiter->next = worker->waiters;
    worker->waiters = waiter;
}

void worker_waiter_cancel(struct worker *worker, struct worker_waiter *waiter)
{
    if (!waiter->waiting) return;
    struct worker_waiter **link = &worker->waiters;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    waiter->waiting = false;
}

void snapshot_resolved(struct worker *worker)
{
    /* A callback may add or cancel waiters: begin again after each. */
    struct worker_waiter *waiter = worker->waiters;
    while (waiter) {
        if (!worker_is_settled(worker, waiter->ts)) {
            waiter = waiter->next;
            continue;
        }
        worker_waiter_cancel(worker, waiter);
        waiter->ready(waiter);
        waiter = worker->waiters;
    }
}

/* ---- collection ---- */

struct purge {
    uint32_t count;
    struct purge_row {
        struct fragment *fragment;
        uint32_t row;
    } rows[PURGE_MAX];
};

static void purge_add(void *context, struct fragment *fragment, uint32_t row)
{
    struct purge *purge = context;
    if (purge->count == PURGE_MAX) return; /* found again next time */
    purge->rows[purge->count++] = (struct purge_row){fragment, row};
}

/* Deletes them. A row that somebody has locked is left for the next time; so is all of it when the
 * log is full. */
static bool purge_run(struct worker *worker, const struct purge *purge)
{
    struct change_set *changes = worker->changes;
    uint32_t count = 0;
    for (uint32_t i = 0; i < purge->count; i++)
        if (!fragment_delete(purge->rows[i].fragment, changes, purge->rows[i].row)) count++;
    uint64_t ts;
    if (worker_commit(worker, changes, &ts)) return false;
    worker->counters.purged += count;
    return count > 0;
}

static bool collect_step(struct worker_task *task)
{
    struct worker *worker = task->context;
    struct purge purge = {0};
    bool purging = worker->has_ttl && !node_health(worker->node);
    uint32_t handled = ldm_collect(worker->ldm, COLLECT_BUDGET, purging ? purge_add : NULL, &purge);
    bool progress = purge.count == 0 || purge_run(worker, &purge);
    return handled > 0 && progress;
}

static void collect_fire(struct worker_timer *timer)
{
    struct worker *worker = timer->context;
    if (!worker->has_ttl) return;
    collect_now(worker);
    worker_timer_arm(worker, timer, worker_monotonic_ns(worker) + collect_interval_ns);
}

void collect_now(struct worker *worker)
{
    worker_task_start(worker, &worker->collector);
}

void collect_catalog(struct worker *worker)
{
    worker->has_ttl = false;
    for (uint32_t i = 0; i < worker->catalog->table_count; i++)
        worker->has_ttl |= worker->catalog->tables[i]->ttl_seconds != 0;
    /* The turn has begun without a look at the clock, and may have more to do. */
    if (worker->has_ttl) ldm_set_now(worker->ldm, worker_realtime(worker));
    if (worker->has_ttl && !worker->collector_timer.armed)
        worker_timer_arm(worker, &worker->collector_timer,
                         worker_monotonic_ns(worker) + collect_interval_ns);
}

void snapshot_start(struct worker *worker)
{
    worker->collector = (struct worker_task){.step = collect_step, .context = worker};
    worker->collector_timer = (struct worker_timer){.fire = collect_fire, .context = worker};
    collect_catalog(worker);
}

void snapshot_stop(struct worker *worker)
{
    worker_task_stop(worker, &worker->collector);
    worker_timer_disarm(worker, &worker->collector_timer);
}
