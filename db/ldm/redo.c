/* A worker's redo log: appending, flushing, starting segments, closing. Trimming is in redo_trim.c,
 * the bytes in redo_format.c.
 *
 * Two buffers. The worker's loop appends to `active`. A flush moves that to `writing`, which
 * belongs to the flush job until its done(): the job adds the horizon record, fills in checksums,
 * writes all with one call and syncs. Meanwhile the loop goes on appending; requests that come
 * during a flush share the next one.
 *
 * Who owns what: fields under "loop" in struct redo are the worker's; those under "job" belong to
 * the I/O thread while a job of this log is queued or runs, and to the worker's loop otherwise.
 * Flush and trim jobs have the same order, so they never run at once.
 *
 * Horizons. redo_flush(h) promises that every transaction of this log with a timestamp at most h
 * was appended before; a later append at or below h would be lost by recovery's cut without anybody
 * knowing, so it is asserted.
 *
 * Failures. When a write or sync fails, nobody knows what of the segment is on disk, and Linux may
 * have dropped the pages: the log is failed for good, and every later append and flush gets that
 * error. Recovery finds whatever was synced before. One case is milder: a write for which there is
 * no space (or no memory to prepare it), whose traces we can truncate away. Then nothing that was
 * synced is touched and what was to be written is still in `writing`. The log is stalled:
 * redo_check refuses new transactions, the waiters get the error, redo_is_dirty stays true, and the
 * next redo_flush tries again with what has been appended since. If the truncation is lost in a
 * crash, the leftover is a torn tail of the same flush.
 *
 * A new segment is started by the flush job when the current one is full: header written, synced,
 * and its name synced, then the old one's end slot written and synced, before the first record goes
 * into the new one. Its header says how the log went so far, so that it proves the exact size of
 * its predecessor and recovery can tell trimmed segments from lost ones. A failure before the end
 * slot is touched removes the new file again; after that, the log has failed. */
#include "db/ldm/redo.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"
#include "db/ldm/redo_log.h"

enum {
    SEGMENT_SIZE_DEFAULT = 64 << 20,
    BUFFER_SIZE_DEFAULT = 64 << 20,
    BUFFER_KEPT_SIZE = 4 << 20, /* a larger one is given back after its flush */
    BUFFER_MIN_SIZE = 64 << 10,
};

/* ---- waiters ---- */

static bool waiters_add(struct redo_waiters *waiters, struct redo_waiter waiter)
{
    if (waiters->count == waiters->capacity) {
        size_t capacity = waiters->capacity ? waiters->capacity * 2 : 16;
        void *items = realloc(waiters->items, capacity * sizeof(waiters->items[0]));
        if (!items) return false;
        waiters->items = items;
        waiters->capacity = capacity;
    }
    waiters->items[waiters->count++] = waiter;
    return true;
}

/* ---- segments ---- */

static bool err_is_stall(enum err err)
{
    return err == ERR_NO_SPACE || err == ERR_NO_MEMORY;
}

/* Makes the file durable with its header and name, or leaves nothing. */
static enum err segment_create(const struct redo *redo, const struct segment_header *header,
                               struct env_file **ret_file)
{
    const struct env_ops *ops = redo->env->ops;
    char path[STORE_PATH_SIZE];
    store_segment_path(header->worker, header->number, path);
    struct buf bytes;
    buf_init(&bytes);
    segment_header_put(&bytes, redo->id, header);
    enum err err = bytes.failed ? ERR_NO_MEMORY : ERR_NONE;
    if (err) goto free_bytes;
    struct env_file *file;
    err = ops->file_open(redo->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE,
                         &file);
    if (err) goto free_bytes;
    err = ops->file_write(file, bytes.bytes, bytes.size, 0);
    if (!err) err = ops->file_sync(file);
    if (!err) err = ops->dir_sync(redo->env, "redo");
    if (err) {
        ops->file_close(file);
        enum err remove_err = ops->remove(redo->env, path);
        if (remove_err) err = ERR_IO;
        goto free_bytes;
    }
    *ret_file = file;

free_bytes:
    buf_fini(&bytes);
    return err;
}

/* Writes and syncs the current segment's end slot. Everything before it is synced. */
static enum err segment_end_write(struct redo *redo, enum segment_end_kind kind)
{
    struct buf slot;
    buf_init(&slot);
    segment_end_put(
        &slot, redo->id, &(struct segment_header){.number = redo->number, .worker = redo->worker},
        &(struct segment_end){.kind = kind, .size = redo->offset, .ts_max = redo->ts_max});
    enum err err = slot.failed ? ERR_NO_MEMORY : ERR_NONE;
    if (!err) err = redo->env->ops->file_write(redo->file, slot.bytes, slot.size, SEGMENT_END_AT);
    if (!err) err = redo->env->ops->file_sync(redo->file);
    buf_fini(&slot);
    return err;
}

/* Makes it durable that the logs of this life are in use. */
static enum err life_note(struct redo *redo)
{
    const struct env_ops *ops = redo->env->ops;
    char path[STORE_PATH_SIZE];
    store_life_path(redo->worker_count, redo->life, path);
    struct env_file *file;
    enum err err = ops->file_open(redo->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file);
    if (err) return err;
    ops->file_close(file);
    /* Also when another log has made it, which may not have synced it yet. */
    err = ops->dir_sync(redo->env, "redo");
    redo->life_noted = !err;
    return err;
}

/* Goes on in a new segment. The old one is complete and synced. *ret_stalled: it failed and changed
 * nothing. */
static enum err segment_roll(struct redo *redo, bool *ret_stalled)
{
    /* Room for the old one among those to trim first: nothing may fail after the switch. */
    enum err err = redo_old_reserve(redo);
    *ret_stalled = err_is_stall(err);
    if (err) return err;
    const struct segment_header header = {
        .worker = redo->worker,
        .worker_count = redo->worker_count,
        .number = redo->number + 1,
        .life = redo->life,
        .previous_size = redo->offset,
        .previous_ts = redo->ts_max,
        .previous_horizon = redo->horizon_written,
    };
    struct env_file *file;
    err = segment_create(redo, &header, &file);
    *ret_stalled = err_is_stall(err);
    if (err) return err;
    err = segment_end_write(redo, SEGMENT_CONTINUED);
    if (err) {
        /* The slot may say so now: the new segment stays, and the log has failed. */
        redo->env->ops->file_close(file);
        return err;
    }
    redo->env->ops->file_close(redo->file);
    redo_old_add(redo, &(struct redo_old){
                           .worker = redo->worker,
                           .number = redo->number,
                           .ts_max = redo->ts_max,
                       });
    redo->file = file;
    redo->number = header.number;
    redo->seed = segment_seed(redo->id, redo->worker, redo->number);
    redo->offset = SEGMENT_HEADER_SIZE;
    redo->flush = 1;
    return ERR_NONE;
}

/* ---- the flush job ---- */

/* Writes and syncs `writing` and a horizon record. *ret_stalled: it failed without a trace and may
 * be tried again. */
static enum err flush_write(struct redo *redo, bool *ret_stalled)
{
    const struct env_ops *ops = redo->env->ops;
    enum err err;
    *ret_stalled = false;
    if (redo->offset >= redo->segment_size_max || redo->flush > REDO_FLUSH_MAX) {
        err = segment_roll(redo, ret_stalled);
        if (err) return err;
    }
    if (!redo->life_noted) {
        err = life_note(redo);
        *ret_stalled = err_is_stall(err);
        if (err) return err;
    }
    size_t size = redo->writing.size;
    redo_record_put(&redo->writing, REDO_HORIZON, redo->flush_horizon, NULL, 0);
    ASSERT(!redo->writing.failed); /* its room was reserved */
    uint64_t ts_max = redo_records_seal(redo->writing.bytes, redo->writing.size, redo->seed,
                                        redo->offset, redo->flush);
    err = ops->file_write(redo->file, redo->writing.bytes, redo->writing.size, redo->offset);
    if (err == ERR_NO_SPACE && !ops->file_truncate(redo->file, redo->offset)) {
        redo->writing.size = size;
        *ret_stalled = true;
        return err;
    }
    if (!err) err = ops->file_sync(redo->file);
    if (err) return err;
    redo->offset += redo->writing.size;
    redo->flush++;
    redo->horizon_written = redo->flush_horizon;
    if (ts_max > redo->ts_max) redo->ts_max = ts_max;
    buf_clear(&redo->writing);
    return ERR_NONE;
}

static void flush_run(struct env_job *job)
{
    struct redo *redo = CONTAINER_OF(job, struct redo, flush_job);
    if (redo->flush_err) return; /* known before it started */
    redo->flush_err = flush_write(redo, &redo->flush_stalled);
}

/* ---- the loop's side ---- */

static void buffer_shrink(struct buf *buf)
{
    if (buf->capacity <= BUFFER_KEPT_SIZE) return;
    struct buf small;
    buf_init(&small);
    if (!buf_reserve(&small, BUFFER_MIN_SIZE)) return; /* then we keep the large one */
    buf_fini(buf);
    *buf = small;
}

/* Hands what is in `active` to the job. ERR_NO_MEMORY: it stays there. */
static enum err flush_take(struct redo *redo)
{
    if (redo->writing.size == 0) {
        struct buf swap = redo->writing;
        redo->writing = redo->active;
        redo->active = swap;
    } else {
        /* A stalled flush left its records here; the new ones follow them. */
        if (!buf_reserve(&redo->writing, redo->active.size + REDO_RECORD_SIZE)) {
            redo->writing.failed = false; /* a failed growth leaves the content as it was */
            return ERR_NO_MEMORY;
        }
        buf_put(&redo->writing, redo->active.bytes, redo->active.size);
        buf_clear(&redo->active);
    }
    redo->writing_size = redo->writing.size;
    return ERR_NONE;
}

static void flush_start(struct redo *redo)
{
    redo->flushing = true;
    struct redo_waiters swap = redo->served;
    redo->served = redo->pending;
    redo->pending = swap;
    redo->flush_horizon = redo->horizon_promised;
    redo->flush_stalled = false;
    redo->flush_err = redo->failed;
    if (!redo->flush_err) {
        redo->flush_err = flush_take(redo);
        redo->flush_stalled = redo->flush_err == ERR_NO_MEMORY;
    }
    redo->env->ops->submit(redo->env, &redo->flush_job, redo_job_order(redo));
}

static void flush_done(struct env_job *job)
{
    struct redo *redo = CONTAINER_OF(job, struct redo, flush_job);
    enum err err = redo->flush_err;
    redo->stalled = ERR_NONE;
    if (!err) {
        redo->bytes_written += redo->writing_size + REDO_RECORD_SIZE;
        redo->writing_size = 0;
        redo->horizon_durable = redo->flush_horizon;
        buffer_shrink(&redo->writing);
    } else if (redo->flush_stalled) {
        redo->stalled = err;
    } else if (!redo->failed) {
        redo->failed = err;
    }
    /* Those called may ask for another flush: it waits until all of this one were told. */
    for (size_t i = 0; i < redo->served.count; i++)
        redo->served.items[i].done(redo->served.items[i].context, err, redo->horizon_durable);
    redo->served.count = 0;
    redo->flushing = false;
    if (redo->pending.count) flush_start(redo);
}

enum err redo_create(const struct redo_config *config, struct redo **ret_redo)
{
    struct redo *redo = calloc(1, sizeof(*redo));
    if (!redo) return ERR_NO_MEMORY;
    redo->env = config->env;
    redo->worker = config->worker;
    redo->worker_count = config->worker_count;
    redo->life = config->first_segment;
    redo->number = config->first_segment;
    redo->segment_size_max =
        config->segment_size_max ? config->segment_size_max : SEGMENT_SIZE_DEFAULT;
    redo->buffer_size_max = config->buffer_size_max ? config->buffer_size_max : BUFFER_SIZE_DEFAULT;
    redo->offset = SEGMENT_HEADER_SIZE;
    redo->flush = 1;
    redo->flush_job =
        (struct env_job){.run = flush_run, .done = flush_done, .worker = config->worker};
    redo_trim_init(redo);

    enum err err = ERR_NO_MEMORY;
    if (!buf_reserve(&redo->active, BUFFER_MIN_SIZE)) goto destroy_redo;
    if (!buf_reserve(&redo->writing, BUFFER_MIN_SIZE)) goto destroy_redo;
    struct store_info info;
    err = store_read_info(redo->env, &info, NULL);
    if (err) goto destroy_redo;
    memcpy(redo->id, info.id, sizeof(redo->id));
    redo->partition_count = info.partition_count;
    redo->seed = segment_seed(redo->id, redo->worker, redo->number);
    struct history history;
    err = history_read(redo->env, &info, &history, NULL);
    if (err) goto destroy_redo;
    /* A number of an earlier life would be taken for one of its forgotten segments. */
    err = redo->life >= history.next_segment ? ERR_NONE : ERR_INVALID;
    if (!err) err = redo_adopt(redo, &history);
    history_fini(&history);
    if (err) goto destroy_redo;
    const struct segment_header header = {
        .worker = redo->worker,
        .worker_count = redo->worker_count,
        .number = redo->number,
        .life = redo->life,
    };
    err = segment_create(redo, &header, &redo->file);
    if (err) goto destroy_redo;
    *ret_redo = redo;
    return ERR_NONE;

destroy_redo:
    redo_destroy(redo);
    return err;
}

void redo_destroy(struct redo *redo)
{
    if (!redo) return;
    redo->env->ops->file_close(redo->file);
    buf_fini(&redo->active);
    buf_fini(&redo->writing);
    free(redo->pending.items);
    free(redo->served.items);
    free(redo->old);
    free(redo);
}

enum err redo_close(struct redo *redo)
{
    ASSERT(!redo->flushing && !redo->trimming);
    if (redo->failed) return redo->failed;
    enum err err = ERR_NONE;
    if (redo_is_dirty(redo)) {
        err = flush_take(redo);
        if (err) return err;
        /* No transaction will follow, so every horizon holds. */
        redo->flush_horizon =
            redo->horizon_promised > redo->ts_appended ? redo->horizon_promised : redo->ts_appended;
        bool stalled;
        err = flush_write(redo, &stalled);
        if (err) {
            if (!stalled) redo->failed = err;
            return err;
        }
        redo->bytes_written += redo->writing_size + REDO_RECORD_SIZE;
        redo->writing_size = 0;
        redo->horizon_durable = redo->flush_horizon;
    }
    err = segment_end_write(redo, SEGMENT_CLOSED);
    redo->failed = err ? err : ERR_CLOSED;
    return err;
}

enum err redo_check(const struct redo *redo, uint64_t size)
{
    if (redo->failed) return redo->failed;
    if (redo->stalled) return redo->stalled;
    if (size > REDO_BODY_SIZE_MAX) return ERR_TOO_BIG;
    uint64_t need = redo_record_size((uint32_t)size);
    if (need > redo->buffer_size_max) return ERR_TOO_BIG;
    uint64_t used = redo->active.size + redo->writing_size;
    return used + need > redo->buffer_size_max ? ERR_BUSY : ERR_NONE;
}

enum err redo_append(struct redo *redo, uint64_t commit_ts, const void *body, uint32_t size)
{
    if (redo->failed) return redo->failed;
    ASSERT(size <= REDO_BODY_SIZE_MAX);
    ASSERT(commit_ts > redo->horizon_promised);
    /* With room for the horizon record of the flush that will take it. */
    if (!buf_reserve(&redo->active, redo_record_size(size) + REDO_RECORD_SIZE)) {
        /* A committed transaction is missing: what comes after it must not be durable. */
        redo->failed = ERR_NO_MEMORY;
        return ERR_NO_MEMORY;
    }
    redo_record_put(&redo->active, REDO_TRANSACTION, commit_ts, body, size);
    if (commit_ts > redo->ts_appended) redo->ts_appended = commit_ts;
    return ERR_NONE;
}

void redo_flush(struct redo *redo, uint64_t horizon,
                void (*done)(void *context, enum err err, uint64_t horizon), void *context)
{
    if (!waiters_add(&redo->pending, (struct redo_waiter){.done = done, .context = context})) {
        done(context, ERR_NO_MEMORY, redo->horizon_durable);
        return;
    }
    if (horizon > redo->horizon_promised) redo->horizon_promised = horizon;
    if (!redo->flushing) flush_start(redo);
}

uint64_t redo_horizon_durable(const struct redo *redo)
{
    return redo->horizon_durable;
}

uint64_t redo_bytes_written(const struct redo *redo)
{
    return redo->bytes_written;
}

bool redo_is_dirty(const struct redo *redo)
{
    if (redo->active.size) return !redo->pending.count;
    return !redo->flushing && redo->writing_size;
}

bool redo_is_idle(const struct redo *redo)
{
    return !redo->flushing && !redo->trimming;
}
