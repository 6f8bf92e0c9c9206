/* What is in redo/, and what of it earlier lives need.
 *
 * A segment is needed when some partition's checkpoint does not cover it. Three places tell of
 * segments that are not there: headers demand their predecessors, the history lists the segments of
 * earlier lives, and its floor remembers those that it does not list any more. So a lost checkpoint
 * or segment is never taken for one that never was. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "db/ldm/recovery_state.h"

/* ---- the files ---- */

static enum err files_add(struct recovery_files *files, uint16_t worker, uint64_t number)
{
    if (files->count == files->capacity) {
        size_t capacity = files->capacity ? files->capacity * 2 : 32;
        void *items = realloc(files->items, capacity * sizeof(files->items[0]));
        if (!items) return ERR_NO_MEMORY;
        files->items = items;
        files->capacity = capacity;
    }
    files->items[files->count++] = (struct recovery_file){.number = number, .worker = worker};
    return ERR_NONE;
}

static int file_compare(const void *left, const void *right)
{
    const struct recovery_file *a = left, *b = right;
    if (a->worker != b->worker) return a->worker < b->worker ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

bool recovery_has_file(const struct recovery_state *state, uint16_t worker, uint64_t number)
{
    const struct recovery_file key = {.number = number, .worker = worker};
    return state->files.count &&
           bsearch(&key, state->files.items, state->files.count, sizeof(key), file_compare) != NULL;
}

static enum err redo_listed(void *context, const char *name)
{
    struct recovery_state *state = context;
    uint16_t worker;
    uint64_t number;
    if (store_name_parse(name, &worker, &number)) return files_add(&state->files, worker, number);
    if (store_life_parse(name, &worker, &number) && number > state->noted_life) {
        state->noted_life = number;
        state->noted_workers = worker;
    }
    return ERR_NONE;
}

enum err recovery_list_files(struct recovery_state *state)
{
    enum err err = state->env->ops->dir_list(state->env, "redo", redo_listed, state);
    if (err == ERR_NOT_FOUND)
        return store_damaged(state->diag, "redo", 0, "the directory is missing");
    if (err) return store_failed(state->diag, err, "redo");
    if (state->files.count)
        qsort(state->files.items, state->files.count, sizeof(state->files.items[0]), file_compare);
    return ERR_NONE;
}

enum err recovery_no_memory(struct recovery_state *state)
{
    return diag_set(state->diag, ERR_NO_MEMORY, "no memory for recovery");
}

enum err recovery_drop_file(struct recovery_state *state, uint16_t worker, uint64_t number)
{
    return files_add(&state->obsolete, worker, number) ? recovery_no_memory(state) : ERR_NONE;
}

/* ---- earlier lives ---- */

/* The partition that a lost stretch of log is lost for. */
static unsigned partition_behind(const struct recovery_state *state)
{
    for (unsigned i = 0; i < state->info.partition_count; i++)
        if (state->checkpoints[i] == state->checkpoint_min) return i;
    return 0;
}

enum err recovery_segment_missing(struct recovery_state *state, uint16_t worker, uint64_t number,
                                  uint64_t ts)
{
    char path[STORE_PATH_SIZE];
    store_segment_path(worker, number, path);
    return store_damaged(state->diag, path, 0,
                         "the file is missing: it has transactions up to %" PRIu64
                         ", and the checkpoint of partition %u only those up to %" PRIu64,
                         ts, partition_behind(state), state->checkpoint_min);
}

enum err recovery_earlier_lives(struct recovery_state *state)
{
    const struct history *history = &state->history;
    if (history->floor > state->checkpoint_min) {
        unsigned partition = partition_behind(state);
        return diag_set(state->diag, ERR_CORRUPT,
                        "checkpoint/%u.*: a checkpoint of partition %u as of %" PRIu64
                        " or later is missing: the log up to there was removed",
                        partition, partition, history->floor);
    }
    state->next.floor = history->floor;
    for (size_t i = 0; i < history->segment_count; i++) {
        const struct history_segment *segment = &history->segments[i];
        if (segment->ts_max <= state->checkpoint_min) {
            if (segment->ts_max > state->next.floor) state->next.floor = segment->ts_max;
            state->changed = true;
            continue;
        }
        if (!recovery_has_file(state, segment->worker, segment->number))
            return recovery_segment_missing(state, segment->worker, segment->number,
                                            segment->ts_max);
        if (history_add(&state->next, segment)) return recovery_no_memory(state);
    }
    for (size_t i = 0; i < state->files.count; i++) {
        const struct recovery_file *file = &state->files.items[i];
        if (file->number >= history->next_segment) continue;
        if (history_find(&state->next, file->worker, file->number)) continue;
        enum err err = recovery_drop_file(state, file->worker, file->number);
        if (err) return err;
    }
    return ERR_NONE;
}
