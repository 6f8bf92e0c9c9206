/* Trimming a worker's log: removing segments that checkpoints have made unnecessary.
 *
 * A segment may go when every partition's published checkpoint is as new as everything in it. The
 * caller says up to which timestamp its own partitions are covered, but segments of earlier lives
 * hold rows of partitions that other workers own now, and recovery demands segments by the same
 * rule for all. So the job looks for itself which checkpoints are there, syncs their directory (a
 * rename that it has seen must not be undone by a crash that keeps the removals), and takes the
 * lesser of both.
 *
 * The segments of earlier lives are worker 0's, whoever wrote them: there always is a worker 0.
 *
 * A removal that fails or is undone by a crash does no harm: the segment is tried again by the next
 * trim, or removed by the next recovery. */
#include <stdlib.h>

#include "base/check.h"
#include "db/ldm/redo_log.h"

enum err redo_old_reserve(struct redo *redo)
{
    if (redo->old_count < redo->old_capacity) return ERR_NONE;
    size_t capacity = redo->old_capacity ? redo->old_capacity * 2 : 16;
    void *old = realloc(redo->old, capacity * sizeof(redo->old[0]));
    if (!old) return ERR_NO_MEMORY;
    redo->old = old;
    redo->old_capacity = capacity;
    return ERR_NONE;
}

void redo_old_add(struct redo *redo, const struct redo_old *old)
{
    ASSERT(redo->old_count < redo->old_capacity);
    redo->old[redo->old_count++] = *old;
}

enum err redo_adopt(struct redo *redo, const struct history *history)
{
    if (redo->worker != 0) return ERR_NONE;
    for (size_t i = 0; i < history->segment_count; i++) {
        enum err err = redo_old_reserve(redo);
        if (err) return err;
        const struct history_segment *segment = &history->segments[i];
        redo_old_add(redo, &(struct redo_old){
                               .worker = segment->worker,
                               .number = segment->number,
                               .ts_max = segment->ts_max,
                           });
    }
    return ERR_NONE;
}

static bool old_covered(const struct redo *redo, uint64_t ts)
{
    for (size_t i = 0; i < redo->old_count; i++)
        if (redo->old[i].ts_max <= ts) return true;
    return false;
}

static void trim_run(struct env_job *job)
{
    struct redo *redo = CONTAINER_OF(job, struct redo, trim_job);
    const struct env_ops *ops = redo->env->ops;
    if (!old_covered(redo, redo->trim_limit)) return;
    uint64_t checkpoints[PARTITIONS_MAX];
    if (store_list_checkpoints(redo->env, redo->partition_count, checkpoints, NULL)) return;
    uint64_t limit = store_checkpoints_min(checkpoints, redo->partition_count);
    if (limit > redo->trim_limit) limit = redo->trim_limit;
    if (!old_covered(redo, limit) || ops->dir_sync(redo->env, "checkpoint")) return;
    size_t left = 0;
    for (size_t i = 0; i < redo->old_count; i++) {
        bool removed = false;
        if (redo->old[i].ts_max <= limit) {
            char path[STORE_PATH_SIZE];
            store_segment_path(redo->old[i].worker, redo->old[i].number, path);
            enum err err = ops->remove(redo->env, path);
            removed = !err || err == ERR_NOT_FOUND;
        }
        if (!removed) redo->old[left++] = redo->old[i];
    }
    redo->old_count = left;
}

static void trim_start(struct redo *redo)
{
    redo->trimming = true;
    redo->trim_limit = redo->trim_ts;
    redo->env->ops->submit(redo->env, &redo->trim_job, redo_job_order(redo));
}

static void trim_done(struct env_job *job)
{
    struct redo *redo = CONTAINER_OF(job, struct redo, trim_job);
    redo->trimming = false;
    if (redo->trim_ts > redo->trim_limit) trim_start(redo);
}

void redo_trim_init(struct redo *redo)
{
    redo->trim_job = (struct env_job){.run = trim_run, .done = trim_done, .worker = redo->worker};
}

void redo_trim(struct redo *redo, uint64_t ts)
{
    if (ts > redo->trim_ts) redo->trim_ts = ts;
    if (!redo->trimming) trim_start(redo);
}
