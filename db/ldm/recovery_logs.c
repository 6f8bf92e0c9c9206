/* The first half of recovery: which bytes of which logs count.
 *
 * Lives that ended before the last recovery are in the history (redo_history.c): what counts of
 * them is settled. All segments with a number from history.next_segment on are of one life, the one
 * that has just ended; it is judged here, without changing anything on disk, so a crash during
 * recovery leaves the same question to the next one.
 *
 * Each log of that life is read backwards by headers (each names the size and the timestamps of
 * what came before) as far as checkpoints do not cover it, and forwards by records. Its last
 * segment ends by the rules of redo_format.c; the others must be whole. The log's horizon is its
 * last horizon record's, or without limit when it was closed. Transactions after the last horizon
 * record do not count: it is not known whether the same flush was to write more.
 *
 * The cut is the least horizon of all logs. A transaction at or below it is in the kept part of
 * every log that has a share in it: its logs promised so. Those above are dropped everywhere, so no
 * half of one remains, and since commit timestamps respect the order of conflicting transactions,
 * nothing remains that depends on one that is dropped. An fsync is answered when all logs have a
 * horizon above it, so nothing acknowledged is dropped.
 *
 * Checkpoints are published only when every log's horizon has reached them. A log whose horizon is
 * below a checkpoint of the same life has therefore lost bytes that were synced: damage that the
 * log alone does not show. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/checkpoint_format.h"
#include "db/ldm/recovery_state.h"

/* ---- a log of the life that has ended ---- */

struct log_segment {
    struct segment_header header;
    struct segment_end end;
    uint64_t file_size;
    uint64_t size;     /* that counts */
    uint64_t unsynced; /* from here on it may be in the page cache only */
    uint64_t ts_max;   /* of the transactions in that, before the cut is applied */
};

struct log {
    uint16_t worker;
    bool closed;
    uint64_t horizon;
    size_t segment_count; /* of those needed */
    struct log_segment *segments;
};

struct logs {
    struct recovery_state *state;
    uint16_t worker_count;
    size_t count;
    struct log *items;
};

static void clock_observe(struct recovery_state *state, uint64_t ts)
{
    if (ts > state->clock) state->clock = ts;
}

/* Reads the header of redo/worker.number. *ret_torn: the file never became a segment. */
static enum err header_read(struct recovery_state *state, uint16_t worker, uint64_t number,
                            bool may_be_torn, struct log_segment *ret_segment, bool *ret_torn)
{
    struct segment_reader reader;
    enum err err =
        segment_reader_open(&reader, state->env, state->info.id, worker, number, state->diag);
    if (err == ERR_NOT_FOUND) return recovery_segment_missing(state, worker, number, UINT64_MAX);
    if (err) return err;
    err = segment_reader_header(&reader, state->diag);
    *ret_torn = false;
    if (err == ERR_CORRUPT && may_be_torn) {
        uint64_t later;
        enum err find_err = segment_reader_find_later(&reader, SEGMENT_HEADER_SIZE - REDO_ALIGN, 0,
                                                      &later, state->diag);
        *ret_torn = find_err == ERR_NOT_FOUND;
        if (*ret_torn)
            err = ERR_NONE;
        else if (find_err)
            err = find_err;
    } else if (!err) {
        *ret_segment = (struct log_segment){
            .header = reader.header, .end = reader.end, .file_size = reader.window.file_size};
    }
    segment_reader_close(&reader);
    return err;
}

/* The life that has ended had flushed logs. */
static bool life_is_noted(const struct recovery_state *state)
{
    return state->noted_life >= state->history.next_segment;
}

/* All segments must tell of one life. */
static enum err life_check(struct logs *logs, const struct segment_header *header)
{
    struct recovery_state *state = logs->state;
    char path[STORE_PATH_SIZE];
    store_segment_path(header->worker, header->number, path);
    if (header->life < state->history.next_segment)
        return store_damaged(state->diag, path, STORE_FRAME_SIZE,
                             "the segment is of start %" PRIu64 ", whose logs had ended",
                             header->life);
    if (!state->life) {
        state->life = header->life;
        logs->worker_count = header->worker_count;
    }
    bool noted = life_is_noted(state);
    if (noted &&
        (header->life != state->noted_life || header->worker_count != state->noted_workers))
        return store_damaged(state->diag, path, STORE_FRAME_SIZE,
                             "the segment is of start %" PRIu64
                             " with %u logs, redo/life.* tells of "
                             "%" PRIu64 " with %u",
                             header->life, (unsigned)header->worker_count, state->noted_life,
                             (unsigned)state->noted_workers);
    if (header->life != state->life || header->worker_count != logs->worker_count)
        return store_damaged(state->diag, path, STORE_FRAME_SIZE,
                             "the segment is of start %" PRIu64 " with %u logs, others are of "
                             "%" PRIu64 " with %u",
                             header->life, (unsigned)header->worker_count, state->life,
                             (unsigned)logs->worker_count);
    return ERR_NONE;
}

static enum err log_prepend(struct logs *logs, struct log *log, const struct log_segment *segment)
{
    enum err err = life_check(logs, &segment->header);
    if (err) return err;
    size_t count = log->segment_count;
    void *segments = realloc(log->segments, (count + 1) * sizeof(log->segments[0]));
    if (!segments) return recovery_no_memory(logs->state);
    log->segments = segments;
    memmove(log->segments + 1, log->segments, count * sizeof(log->segments[0]));
    log->segments[0] = *segment;
    log->segment_count++;
    return ERR_NONE;
}

/* The segment says that the log goes on, but the next is not there, or is no segment. */
static enum err continuation_missing(struct recovery_state *state,
                                     const struct segment_header *header, bool is_there)
{
    if (is_there) {
        struct log_segment segment;
        bool torn;
        return header_read(state, header->worker, header->number + 1, false, &segment, &torn);
    }
    char path[STORE_PATH_SIZE], before[STORE_PATH_SIZE];
    store_segment_path(header->worker, header->number + 1, path);
    store_segment_path(header->worker, header->number, before);
    return store_damaged(state->diag, path, 0, "the file is missing: %s goes on in it", before);
}

/* Finds the segments of a log that are needed. files: its segments of this life, ascending. */
static enum err log_headers(struct logs *logs, struct log *log, const struct recovery_file *files,
                            size_t count)
{
    struct recovery_state *state = logs->state;
    struct log_segment segment;
    bool torn;
    enum err err = header_read(state, log->worker, files[count - 1].number,
                               count > 1 || !life_is_noted(state), &segment, &torn);
    if (err) return err;
    if (torn) {
        err = recovery_drop_file(state, log->worker, files[--count].number);
        if (err || !count) return err;
        bool also_torn;
        err = header_read(state, log->worker, files[count - 1].number, false, &segment, &also_torn);
        if (err) return err;
    }
    if (segment.end.kind == SEGMENT_CONTINUED)
        return continuation_missing(state, &segment.header, torn);
    err = log_prepend(logs, log, &segment);
    if (err) return err;
    uint64_t number = segment.header.number;
    while (segment.header.previous_size && segment.header.previous_ts > state->checkpoint_min) {
        uint64_t ts = segment.header.previous_ts;
        number--;
        if (!recovery_has_file(state, log->worker, number))
            return recovery_segment_missing(state, log->worker, number, ts);
        err = header_read(state, log->worker, number, false, &segment, &torn);
        if (!err) err = log_prepend(logs, log, &segment);
        if (err) return err;
    }
    if (segment.header.previous_ts > state->next.floor)
        state->next.floor = segment.header.previous_ts;
    for (size_t i = 0; i < count && files[i].number < number; i++) {
        err = recovery_drop_file(state, log->worker, files[i].number);
        if (err) return err;
    }
    return ERR_NONE;
}

/* What one pass over a segment's records finds. */
struct scan {
    uint64_t size;       /* up to the last horizon record */
    uint64_t flush_at;   /* where the flush that ends there began */
    uint64_t horizon;    /* that one's timestamp, or as given */
    uint64_t ts_max;     /* of the transactions before it */
    uint64_t tail_count; /* transactions after it */
};

/* Reads records up to the limit or the first invalid one (ERR_CORRUPT, the reader stands at it). */
static enum err records_scan(struct recovery_state *state, struct segment_reader *reader,
                             struct scan *scan)
{
    uint64_t ts_max = scan->ts_max;
    for (;;) {
        struct redo_record record;
        enum err err = segment_reader_next(reader, &record, state->diag);
        if (err) return err == ERR_END ? ERR_NONE : err;
        clock_observe(state, record.ts);
        if (record.kind == REDO_HORIZON) {
            scan->flush_at = scan->size;
            scan->size = record.offset_end;
            scan->horizon = record.ts > scan->horizon ? record.ts : scan->horizon;
            scan->ts_max = ts_max;
            scan->tail_count = 0;
            continue;
        }
        if (record.ts <= scan->horizon || record.ts <= state->history.clock)
            return store_damaged(state->diag, reader->path, record.offset,
                                 "a transaction at %" PRIu64 " follows the horizon %" PRIu64,
                                 record.ts, scan->horizon);
        if (record.ts > ts_max) ts_max = record.ts;
        scan->tail_count++;
    }
}

/* The end of a log that was not closed: is it torn or damaged? */
static enum err tail_judge(struct recovery_state *state, struct segment_reader *reader)
{
    uint64_t later;
    enum err err =
        segment_reader_find_later(reader, reader->offset, reader->flush, &later, state->diag);
    if (err == ERR_NOT_FOUND) return ERR_NONE;
    if (err) return err;
    return store_damaged(state->diag, reader->path, reader->offset,
                         "%s, yet what was written after it was synced stands at offset %" PRIu64,
                         reader->reason, later);
}

/* Reads the index'th segment of the log; scan carries on from the one before. */
static enum err segment_scan(struct recovery_state *state, struct log *log, size_t index,
                             struct scan *scan)
{
    struct log_segment *segment = &log->segments[index];
    bool last = index + 1 == log->segment_count;
    uint64_t exact = last ? segment->end.size : segment[1].header.previous_size;
    if (segment->end.size && segment->end.size != exact) {
        char path[STORE_PATH_SIZE];
        store_segment_path(log->worker, segment->header.number, path);
        return store_damaged(state->diag, path, SEGMENT_END_AT,
                             "it ends at %" PRIu64 ", the next segment says at %" PRIu64,
                             segment->end.size, exact);
    }
    struct segment_reader reader;
    enum err err = segment_reader_open(&reader, state->env, state->info.id, log->worker,
                                       segment->header.number, state->diag);
    if (err == ERR_NOT_FOUND) return store_failed(state->diag, err, reader.path);
    if (err) return err;
    scan->size = SEGMENT_HEADER_SIZE;
    scan->flush_at = SEGMENT_HEADER_SIZE;
    scan->ts_max = 0;
    scan->tail_count = 0;
    if (exact) reader.limit = exact;
    reader.reason = NULL;
    err = records_scan(state, &reader, scan);
    if (err == ERR_CORRUPT && !reader.reason) goto close_reader; /* the diagnostic is there */
    if (err && err != ERR_CORRUPT) goto close_reader;
    if (exact) {
        if (err)
            err = store_damaged(state->diag, reader.path, reader.offset, "%s", reader.reason);
        else if (scan->size != exact)
            err = store_damaged(state->diag, reader.path, scan->size,
                                "the records do not end at %" PRIu64 " with a horizon", exact);
    } else if (err) {
        err = tail_judge(state, &reader);
    }
    segment->size = scan->size;
    /* A later flush, segment or end slot shows that the ones before were synced. */
    segment->unsynced = exact ? scan->size : scan->flush_at;
    segment->ts_max = scan->ts_max;

close_reader:
    segment_reader_close(&reader);
    return err;
}

static enum err log_scan(struct recovery_state *state, struct log *log)
{
    if (!log->segment_count) return ERR_NONE;
    const struct segment_header *first = &log->segments[0].header;
    struct scan scan = {.horizon = first->previous_horizon};
    clock_observe(state, first->previous_horizon);
    clock_observe(state, first->previous_ts);
    uint64_t ts_max = first->previous_ts;
    for (size_t i = 0; i < log->segment_count; i++) {
        const struct segment_header *header = &log->segments[i].header;
        if (header->previous_ts < ts_max || header->previous_horizon != scan.horizon) {
            char path[STORE_PATH_SIZE];
            store_segment_path(header->worker, header->number, path);
            return store_damaged(state->diag, path, STORE_FRAME_SIZE,
                                 "the header and the segment before disagree");
        }
        enum err err = segment_scan(state, log, i, &scan);
        if (err) return err;
        if (log->segments[i].ts_max > ts_max) ts_max = log->segments[i].ts_max;
    }
    state->dropped_count += scan.tail_count;
    log->horizon = scan.horizon;
    log->closed = log->segments[log->segment_count - 1].end.kind == SEGMENT_CLOSED;
    return ERR_NONE;
}

/* ---- the cut ---- */

/* The log that did not get as far as a checkpoint shows it did. */
static enum err log_is_behind(struct logs *logs, const struct log *log, unsigned partition)
{
    struct recovery_state *state = logs->state;
    char checkpoint[STORE_PATH_SIZE], path[STORE_PATH_SIZE];
    store_checkpoint_path((uint16_t)partition, state->checkpoints[partition], false, checkpoint);
    if (!log || !log->segment_count)
        return store_damaged(state->diag, checkpoint, CHECKPOINT_TS_AT,
                             "it is newer than every log: the logs of its time are missing");
    const struct log_segment *segment = &log->segments[log->segment_count - 1];
    store_segment_path(log->worker, segment->header.number, path);
    return store_damaged(state->diag, path, segment->size,
                         "the log ends with the horizon %" PRIu64
                         ", but was synced further when %s was published",
                         log->horizon, checkpoint);
}

static enum err cut_check(struct logs *logs, const struct log *least)
{
    const struct recovery_state *state = logs->state;
    /* Checkpoints of earlier lives were checked when those ended. */
    uint64_t reached = state->cut > state->history.clock ? state->cut : state->history.clock;
    for (unsigned i = 0; i < state->info.partition_count; i++)
        if (state->checkpoints[i] > reached) return log_is_behind(logs, least, i);
    return ERR_NONE;
}

/* Logs that are missing altogether: allowed while none has been flushed. */
static enum err absent_check(struct logs *logs, bool *ret_absent)
{
    struct recovery_state *state = logs->state;
    bool used = life_is_noted(state);
    unsigned worker_count = used ? state->noted_workers : logs->worker_count;
    uint64_t life = used ? state->noted_life : state->life;
    if (used && !worker_count) worker_count = 1; /* at least one */
    *ret_absent = false;
    for (unsigned worker = 0; worker < worker_count; worker++) {
        bool found = false;
        for (size_t i = 0; i < logs->count; i++)
            found |= logs->items[i].worker == worker && logs->items[i].segment_count;
        if (found) continue;
        *ret_absent = true;
        if (!used) continue;
        char path[STORE_PATH_SIZE];
        store_segment_path((uint16_t)worker, life, path);
        return store_damaged(state->diag, path, 0,
                             "the file is missing: the log of worker %u, as are any after it",
                             worker);
    }
    return ERR_NONE;
}

static enum err cut_find(struct logs *logs)
{
    struct recovery_state *state = logs->state;
    bool absent;
    enum err err = absent_check(logs, &absent);
    if (err) return err;
    const struct log *least = NULL;
    for (size_t i = 0; i < logs->count; i++) {
        const struct log *log = &logs->items[i];
        if (!log->segment_count || log->closed) continue;
        if (!least || log->horizon < least->horizon) least = log;
    }
    if (!state->life) {
        state->cut = state->history.cut;
    } else if (absent) {
        /* No log was flushed: nothing of that life was acknowledged. */
        state->cut = state->history.clock;
    } else if (least) {
        state->cut = least->horizon > state->history.clock ? least->horizon : state->history.clock;
    } else {
        /* All were closed: everything counts. */
        for (unsigned i = 0; i < state->info.partition_count; i++)
            clock_observe(state, state->checkpoints[i]);
        state->cut = state->clock;
    }
    err = cut_check(logs, least);
    if (err) return err;
    for (unsigned i = 0; i < state->info.partition_count; i++)
        clock_observe(state, state->checkpoints[i]);
    return ERR_NONE;
}

/* ---- the next history ---- */

/* Some transactions of the segment are above the cut: what is left without them? */
static enum err segment_cut(struct recovery_state *state, struct log_segment *segment)
{
    struct segment_reader reader;
    enum err err = segment_reader_open(&reader, state->env, state->info.id, segment->header.worker,
                                       segment->header.number, state->diag);
    if (err == ERR_NOT_FOUND) return store_failed(state->diag, err, reader.path);
    if (err) return err;
    reader.limit = segment->size;
    segment->ts_max = 0;
    for (;;) {
        struct redo_record record;
        err = segment_reader_next(&reader, &record, state->diag);
        if (err == ERR_CORRUPT)
            err = store_damaged(state->diag, reader.path, reader.offset, "%s", reader.reason);
        if (err) break;
        if (record.kind != REDO_TRANSACTION) continue;
        if (record.ts > state->cut)
            state->dropped_count++;
        else if (record.ts > segment->ts_max)
            segment->ts_max = record.ts;
    }
    segment_reader_close(&reader);
    return err == ERR_END ? ERR_NONE : err;
}

static enum err segment_settle(struct recovery_state *state, struct log_segment *segment)
{
    if (segment->ts_max > state->cut) {
        enum err err = segment_cut(state, segment);
        if (err) return err;
    }
    const struct segment_header *header = &segment->header;
    if (segment->ts_max <= state->checkpoint_min) {
        if (segment->ts_max > state->next.floor) state->next.floor = segment->ts_max;
        return recovery_drop_file(state, header->worker, header->number);
    }
    const struct history_segment settled = {
        .life = header->life,
        .number = header->number,
        .size = segment->size,
        .ts_max = segment->ts_max,
        .cut = state->cut,
        .unsynced = segment->unsynced,
        .worker = header->worker,
    };
    return history_add(&state->next, &settled) ? recovery_no_memory(state) : ERR_NONE;
}

/* This start, unless the last one came to nothing and its place is free. */
static void starts_fill(struct recovery_state *state)
{
    struct history *next = &state->next;
    next->start_count = state->history.start_count;
    memcpy(next->starts, state->history.starts, sizeof(next->starts));
    if (!state->life && next->start_count) return;
    struct store_start start = {.cut = state->cut};
    while (!start.id)
        state->env->ops->random(state->env, &start.id, sizeof(start.id));
    history_add_start(next, &start);
    state->changed = true;
}

static enum err next_fill(struct logs *logs)
{
    struct recovery_state *state = logs->state;
    for (size_t i = 0; i < logs->count; i++) {
        struct log *log = &logs->items[i];
        for (size_t j = 0; j < log->segment_count; j++) {
            enum err err = segment_settle(state, &log->segments[j]);
            if (err) return err;
        }
    }
    state->next.next_segment = state->history.next_segment;
    for (size_t i = 0; i < state->files.count; i++) {
        uint64_t number = state->files.items[i].number;
        if (number == UINT64_MAX)
            return diag_set(state->diag, ERR_CORRUPT, "redo/%u.%" PRIu64 ": no such segment",
                            (unsigned)state->files.items[i].worker, number);
        if (number < state->next.next_segment) continue;
        state->next.next_segment = number + 1;
        state->changed = true;
    }
    state->next.clock = state->clock;
    state->next.cut = state->cut;
    starts_fill(state);
    return ERR_NONE;
}

/* ---- all ---- */

static enum err logs_judge(struct logs *logs)
{
    struct recovery_state *state = logs->state;
    const struct recovery_files *files = &state->files;
    logs->items = calloc(files->count + 1, sizeof(logs->items[0]));
    if (!logs->items) return recovery_no_memory(state);
    for (size_t i = 0, end; i < files->count; i = end) {
        for (end = i; end < files->count && files->items[end].worker == files->items[i].worker;)
            end++;
        size_t first = i;
        while (first < end && files->items[first].number < state->history.next_segment)
            first++;
        if (first == end) continue;
        struct log *log = &logs->items[logs->count++];
        log->worker = files->items[i].worker;
        enum err err = log_headers(logs, log, &files->items[first], end - first);
        if (!err) err = log_scan(state, log);
        if (err) return err;
    }
    enum err err = cut_find(logs);
    return err ? err : next_fill(logs);
}

enum err recovery_logs(struct recovery_state *state)
{
    state->checkpoint_min = store_checkpoints_min(state->checkpoints, state->info.partition_count);
    enum err err = history_read(state->env, &state->info, &state->history, state->diag);
    if (!err) err = recovery_list_files(state);
    if (err) return err;
    state->clock = state->history.clock;
    err = recovery_earlier_lives(state);
    if (err) return err;
    struct logs logs = {.state = state};
    err = logs_judge(&logs);
    for (size_t i = 0; i < logs.count; i++)
        free(logs.items[i].segments);
    free(logs.items);
    return err;
}
