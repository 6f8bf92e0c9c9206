/* Recovery of a store: judge the logs, load, settle.
 *
 * Three steps, of which only the last changes the disk:
 *   1. recovery_logs.c decides which bytes count and drafts the next history.
 *   2. recovery_load.c fills the partitions.
 *   3. settle() makes the decision durable: it syncs what was relied on (after a process was
 * killed, bytes and names that we have read may exist in the page cache only), replaces the
 * history, and only then truncates tails and removes files that are of no use. A crash before the
 * history is replaced leaves the question as it was; a crash after it leaves the answer, and at
 * most some litter that the next recovery removes. So recovery may be cut short any number of
 * times.
 *
 * A checkpoint that does not check is ERR_CORRUPT, even if an older one and its log happen to be
 * there: a file that was whole when it got its name has been damaged, and that is for a person to
 * know. Who removes the file gets the older one, provided that the log reaches back to it, which is
 * checked like everything else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/recovery_state.h"

/* ---- litter: removed where possible, found again by the next recovery where not ---- */

struct litter {
    struct recovery_state *state;
    const char *dir;
};

static void litter_remove(struct recovery_state *state, const char *dir, const char *name)
{
    char path[STORE_PATH_SIZE];
    int size = snprintf(path, sizeof(path), "%s%s", dir, name);
    if (size > 0 && (size_t)size < sizeof(path)) (void)!state->env->ops->remove(state->env, path);
}

static enum err litter_listed(void *context, const char *name)
{
    struct litter *litter = context;
    struct recovery_state *state = litter->state;
    uint16_t partition;
    uint64_t ts;
    if (store_name_is_temporary(name)) {
        litter_remove(state, litter->dir, name);
    } else if (!strcmp(litter->dir, "checkpoint/") && store_name_parse(name, &partition, &ts)) {
        /* A newer one of the partition was loaded. */
        if (partition < state->info.partition_count && ts < state->checkpoints[partition])
            litter_remove(state, litter->dir, name);
    } else if (!strcmp(litter->dir, "redo/") && store_life_parse(name, &partition, &ts)) {
        if (ts < state->history.next_segment) litter_remove(state, litter->dir, name);
    }
    return ERR_NONE;
}

static void litter_sweep(struct recovery_state *state)
{
    struct litter litter = {.state = state, .dir = "checkpoint/"};
    (void)!state->env->ops->dir_list(state->env, "checkpoint", litter_listed, &litter);
    litter.dir = "redo/";
    (void)!state->env->ops->dir_list(state->env, "redo", litter_listed, &litter);
    litter_remove(state, "", "catalog.tmp");
    litter_remove(state, "", "trellis.tmp");
}

/* ---- settling ---- */

/* Writes the last flush again. After a sync that failed and a process that ended for it, the bytes
 * can be in the page cache, clean, and never reach the disk, and a sync of ours would succeed
 * without doing anything. */
static enum err tail_rewrite(struct recovery_state *state, struct env_file *file,
                             const struct history_segment *segment)
{
    const struct env_ops *ops = state->env->ops;
    size_t size = (size_t)(segment->size - segment->unsynced);
    if (!size) return ERR_NONE;
    uint8_t *bytes = malloc(size);
    if (!bytes) return ERR_NO_MEMORY;
    size_t read = 0;
    enum err err = ops->file_read(file, bytes, size, segment->unsynced, &read);
    if (!err && read != size) err = ERR_IO;
    if (!err) err = ops->file_write(file, bytes, size, segment->unsynced);
    free(bytes);
    return err;
}

/* Bytes behind what the history names. */
static enum err tail_cut(struct recovery_state *state, struct env_file *file,
                         const struct history_segment *segment, bool *ret_cut)
{
    uint64_t size;
    enum err err = state->env->ops->file_size(file, &size);
    *ret_cut = !err && size > segment->size;
    return *ret_cut ? state->env->ops->file_truncate(file, segment->size) : err;
}

/* The segments of the life that has ended: what counts is made durable before the history names it
 * (before), the rest is cut off after. */
static enum err segments_settle(struct recovery_state *state, bool before)
{
    const struct env_ops *ops = state->env->ops;
    for (size_t i = 0; i < state->next.segment_count; i++) {
        const struct history_segment *segment = &state->next.segments[i];
        if (segment->life != state->life) continue;
        char path[STORE_PATH_SIZE];
        store_segment_path(segment->worker, segment->number, path);
        struct env_file *file;
        enum err err = ops->file_open(state->env, path, ENV_OPEN_WRITE, &file);
        if (err) return store_failed(state->diag, err, path);
        bool changed = true;
        if (before)
            err = tail_rewrite(state, file, segment);
        else
            err = tail_cut(state, file, segment, &changed);
        if (!err && changed) err = ops->file_sync(file);
        ops->file_close(file);
        if (err) return store_failed(state->diag, err, path);
    }
    return ERR_NONE;
}

static enum err dirs_sync(struct recovery_state *state)
{
    static const char *const dirs[] = {"redo", "checkpoint"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        enum err err = state->env->ops->dir_sync(state->env, dirs[i]);
        if (err) return store_failed(state->diag, err, dirs[i]);
    }
    return ERR_NONE;
}

static enum err settle(struct recovery_state *state)
{
    enum err err = dirs_sync(state);
    if (!err && state->life) err = segments_settle(state, true);
    if (err) return err;
    litter_sweep(state); /* first, because the disk may be full */
    if (state->changed) {
        err = history_write(state->env, &state->info, &state->next, state->diag);
        if (err) return err;
    }
    if (state->life) err = segments_settle(state, false);
    if (err) return err;
    char path[STORE_PATH_SIZE];
    for (size_t i = 0; i < state->obsolete.count; i++) {
        store_segment_path(state->obsolete.items[i].worker, state->obsolete.items[i].number, path);
        (void)!state->env->ops->remove(state->env, path);
    }
    if (state->noted_life) {
        store_life_path(state->noted_workers, state->noted_life, path);
        (void)!state->env->ops->remove(state->env, path);
    }
    return ERR_NONE;
}

/* ---- all ---- */

static void state_destroy(struct recovery_state *state)
{
    history_fini(&state->history);
    history_fini(&state->next);
    free(state->files.items);
    free(state->obsolete.items);
    free(state);
}

enum err recovery_run(const struct recovery_config *config, struct recovery_result *ret_result,
                      struct diag *diag)
{
    struct recovery_state *state = calloc(1, sizeof(*state));
    if (!state) return diag_set(diag, ERR_NO_MEMORY, "no memory for recovery");
    state->env = config->env;
    state->diag = diag;
    enum err err = store_read_info(state->env, &state->info, diag);
    if (err) goto destroy_state;
    if (config->partition_count != state->info.partition_count) {
        err = diag_set(diag, ERR_INVALID, "the store has %u partitions, not %u",
                       (unsigned)state->info.partition_count, (unsigned)config->partition_count);
        goto destroy_state;
    }
    err = store_list_checkpoints(state->env, state->info.partition_count, state->checkpoints, diag);
    if (err == ERR_NOT_FOUND)
        err = store_damaged(diag, "checkpoint", 0, "the directory is missing");
    if (err) goto destroy_state;
    err = recovery_logs(state);
    if (err) goto destroy_state;
    uint64_t replayed_count;
    err = recovery_load(state, config, &replayed_count);
    if (err) goto destroy_state;
    err = settle(state);
    if (err) goto destroy_state;
    memset(ret_result, 0, sizeof(*ret_result));
    ret_result->clock = state->clock;
    ret_result->cut = state->cut;
    ret_result->replayed_count = replayed_count;
    ret_result->dropped_count = state->dropped_count;
    ret_result->start_count = state->next.start_count;
    memcpy(ret_result->starts, state->next.starts, sizeof(ret_result->starts));
    ret_result->next_segment = state->next.next_segment;
    memcpy(ret_result->checkpoint_ts, state->checkpoints, sizeof(state->checkpoints));

destroy_state:
    state_destroy(state);
    return err;
}
