/* The second half of recovery: filling the partitions from checkpoints and logs.
 *
 * A partition is the work of one thread: first its checkpoint, then every log in the order of
 * replay, of which it takes the changes to its own partitions that their checkpoints do not have.
 * Partitions that share an ldm share a thread. Each thread reads the logs by itself: checking a
 * record's checksum costs far less than handing it over, and the threads need not meet. The
 * caller's thread is one of them; with threads = 1 no other is made.
 *
 * Order. A partition belongs to one worker during a life, so all its changes of that life are in
 * one log, in which conflicting changes are in the order of their commits; lives follow each other.
 * That is the order of history.segments.
 *
 * The logs were judged before (recovery_logs.c): all that is read here must be valid, else it is
 * damage. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "db/ldm/checkpoint_format.h"
#include "db/ldm/recovery_state.h"

struct team {
    const struct recovery_state *state;
    const struct recovery_config *config;
    uint16_t owner[PARTITIONS_MAX]; /* the thread of each partition */
    atomic_uint_fast64_t done;      /* bytes read */
    uint64_t total;
    atomic_bool failed;
};

struct loader {
    struct team *team;
    uint16_t number;
    pthread_t thread;
    enum err err;
    struct diag diag;
    uint64_t replayed_count;
    uint64_t checkpoint_min; /* of its partitions */
    struct ldm **ldms;       /* of its partitions, each once, and a change set for each */
    struct change_set **changes;
    unsigned ldm_count;
    /* the record being replayed */
    uint64_t ts;
    const struct ldm *ldm; /* whose partitions are being filled */
    bool counted;
    bool has_stranger; /* a change to a partition that the store does not have */
};

/* ---- progress ---- */

static void progress_report(struct loader *loader, const char *what)
{
    const struct recovery_config *config = loader->team->config;
    if (loader->number != 0 || !config->progress) return;
    uint64_t done = atomic_load_explicit(&loader->team->done, memory_order_relaxed);
    config->progress(config->progress_context, what, done, loader->team->total);
}

static void checkpoint_progress(void *context, uint64_t size)
{
    struct loader *loader = context;
    atomic_fetch_add_explicit(&loader->team->done, size, memory_order_relaxed);
    progress_report(loader, "loading checkpoints");
}

/* Bytes to be read in all; only asked for when somebody watches. */
static enum err total_measure(struct team *team)
{
    const struct recovery_state *state = team->state;
    for (unsigned i = 0; i < state->info.partition_count; i++) {
        if (!state->checkpoints[i]) continue;
        char path[STORE_PATH_SIZE];
        store_checkpoint_path((uint16_t)i, state->checkpoints[i], false, path);
        struct store_window window;
        enum err err = store_window_open(&window, state->env, path, state->diag);
        if (err == ERR_NOT_FOUND) return store_failed(state->diag, err, path);
        if (err) return err;
        team->total += window.file_size;
        store_window_close(&window);
    }
    return ERR_NONE;
}

/* ---- replay ---- */

static struct partition *partition_find(void *context, uint16_t number)
{
    struct loader *loader = context;
    const struct recovery_state *state = loader->team->state;
    if (number >= state->info.partition_count) {
        loader->has_stranger = true;
        return NULL;
    }
    if (loader->ts <= state->checkpoints[number]) return NULL;
    /* Every thread sees the record; the owner of its first change that is needed counts it. */
    if (!loader->counted && loader->team->owner[number] == loader->number) loader->replayed_count++;
    loader->counted = true;
    const struct recovery_config *config = loader->team->config;
    return config->partition_ldm[number] == loader->ldm ? config->partitions[number] : NULL;
}

static enum err record_replay(struct loader *loader, struct change_set *changes,
                              const struct segment_reader *reader, const struct redo_record *record)
{
    struct reader body = reader_of(record->body, record->body_size);
    enum err err = change_set_replay(changes, &body, partition_find, loader);
    if (!err && (loader->has_stranger || reader_left(&body))) err = ERR_CORRUPT;
    if (err) {
        change_set_rollback(changes);
        if (err == ERR_CORRUPT)
            return store_damaged(&loader->diag, reader->path, record->offset,
                                 "the transaction at %" PRIu64 " does not fit the rows",
                                 record->ts);
        return store_failed(&loader->diag, err, reader->path);
    }
    change_set_commit(changes, record->ts);
    return ERR_NONE;
}

static enum err records_replay(struct loader *loader, struct segment_reader *reader,
                               const struct history_segment *segment)
{
    while (!atomic_load_explicit(&loader->team->failed, memory_order_relaxed)) {
        struct redo_record record;
        enum err err = segment_reader_next(reader, &record, &loader->diag);
        if (err == ERR_END) return ERR_NONE;
        if (err == ERR_CORRUPT)
            return store_damaged(&loader->diag, reader->path, reader->offset, "%s", reader->reason);
        if (err) return err;
        if (record.kind != REDO_TRANSACTION || record.ts > segment->cut) continue;
        if (record.ts <= loader->checkpoint_min) continue;
        loader->ts = record.ts;
        loader->counted = false;
        loader->has_stranger = false;
        for (unsigned i = 0; i < loader->ldm_count; i++) {
            loader->ldm = loader->ldms[i];
            err = record_replay(loader, loader->changes[i], reader, &record);
            if (err) return err;
        }
    }
    return ERR_CANCELLED;
}

static enum err segment_replay(struct loader *loader, const struct history_segment *segment)
{
    const struct recovery_state *state = loader->team->state;
    struct segment_reader reader;
    enum err err = segment_reader_open(&reader, state->env, state->info.id, segment->worker,
                                       segment->number, &loader->diag);
    if (err == ERR_NOT_FOUND) return store_failed(&loader->diag, err, reader.path);
    if (err) return err;
    reader.limit = segment->size;
    err = segment_reader_header(&reader, &loader->diag);
    if (!err && reader.header.life != segment->life)
        err = store_damaged(&loader->diag, reader.path, STORE_FRAME_SIZE,
                            "the segment is of start %" PRIu64 " and not %" PRIu64,
                            reader.header.life, segment->life);
    if (!err) err = records_replay(loader, &reader, segment);
    segment_reader_close(&reader);
    return err;
}

/* ---- threads ---- */

static enum err partitions_load(struct loader *loader)
{
    struct team *team = loader->team;
    for (unsigned i = 0; i < team->state->info.partition_count; i++) {
        if (team->owner[i] != loader->number || !team->state->checkpoints[i]) continue;
        if (atomic_load_explicit(&team->failed, memory_order_relaxed)) return ERR_CANCELLED;
        enum err err = checkpoint_load(team->state->env, team->state->info.id,
                                       team->config->partitions[i], team->state->checkpoints[i],
                                       checkpoint_progress, loader, &loader->diag);
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err logs_replay(struct loader *loader)
{
    const struct history *logs = &loader->team->state->next;
    for (size_t i = 0; i < logs->segment_count; i++) {
        progress_report(loader, "replaying the log");
        if (logs->segments[i].ts_max <= loader->checkpoint_min) continue;
        enum err err = segment_replay(loader, &logs->segments[i]);
        if (err) return err;
    }
    return ERR_NONE;
}

static void *loader_run(void *argument)
{
    struct loader *loader = argument;
    loader->err = partitions_load(loader);
    if (!loader->err) loader->err = logs_replay(loader);
    if (loader->err) atomic_store(&loader->team->failed, true);
    return NULL;
}

/* Gives the loader what it owns. ERR_NO_MEMORY. */
static enum err loader_init(struct loader *loader, struct team *team, uint16_t number)
{
    const struct recovery_config *config = team->config;
    loader->team = team;
    loader->number = number;
    loader->checkpoint_min = UINT64_MAX;
    unsigned count = team->state->info.partition_count;
    loader->ldms = calloc(count, sizeof(struct ldm *));
    loader->changes = calloc(count, sizeof(struct change_set *));
    if (!loader->ldms || !loader->changes) return ERR_NO_MEMORY;
    for (unsigned i = 0; i < count; i++) {
        if (team->owner[i] != number) continue;
        if (team->state->checkpoints[i] < loader->checkpoint_min)
            loader->checkpoint_min = team->state->checkpoints[i];
        bool known = false;
        for (unsigned j = 0; j < loader->ldm_count; j++)
            known |= loader->ldms[j] == config->partition_ldm[i];
        if (known) continue;
        enum err err =
            change_set_create(config->partition_ldm[i], &loader->changes[loader->ldm_count]);
        if (err) return err;
        loader->ldms[loader->ldm_count++] = config->partition_ldm[i];
    }
    return ERR_NONE;
}

static void loader_fini(struct loader *loader)
{
    for (unsigned i = 0; i < loader->ldm_count; i++)
        change_set_destroy(loader->changes[i]);
    free(loader->changes);
    free(loader->ldms);
}

/* Deals the ldms out to threads. Returns how many threads have any. */
static uint16_t owners_assign(struct team *team)
{
    const struct recovery_config *config = team->config;
    unsigned threads = config->threads ? config->threads : 1;
    unsigned ldm_count = 0;
    for (unsigned i = 0; i < team->state->info.partition_count; i++) {
        unsigned same = 0;
        while (config->partition_ldm[same] != config->partition_ldm[i])
            same++;
        if (same < i)
            team->owner[i] = team->owner[same];
        else
            team->owner[i] = (uint16_t)(ldm_count++ % threads);
    }
    return (uint16_t)(ldm_count < threads ? ldm_count : threads);
}

/* Runs loaders[0] here and the others on threads of their own, or here too when there are none to
 * get. */
static void loaders_run(struct loader *loaders, uint16_t count)
{
    bool started[PARTITIONS_MAX] = {false};
    for (uint16_t i = 1; i < count; i++)
        started[i] = !pthread_create(&loaders[i].thread, NULL, loader_run, &loaders[i]);
    for (uint16_t i = 0; i < count; i++)
        if (!started[i]) loader_run(&loaders[i]);
    for (uint16_t i = 1; i < count; i++)
        if (started[i]) pthread_join(loaders[i].thread, NULL);
}

enum err recovery_load(const struct recovery_state *state, const struct recovery_config *config,
                       uint64_t *ret_replayed_count)
{
    struct team *team = calloc(1, sizeof(*team));
    struct loader *loaders = NULL;
    uint16_t count = 0;
    enum err err = ERR_NO_MEMORY;
    if (!team) goto free_loaders;
    team->state = state;
    team->config = config;
    uint16_t wanted = owners_assign(team);
    loaders = calloc(wanted, sizeof(*loaders));
    if (!loaders) goto free_loaders;
    err = config->progress ? total_measure(team) : ERR_NONE;
    if (err) goto free_loaders;
    while (!err && count < wanted) {
        err = loader_init(&loaders[count], team, count);
        count++;
    }
    if (err) goto free_loaders;
    loaders_run(loaders, count);
    uint64_t replayed_count = 0;
    for (uint16_t i = 0; i < count; i++) {
        const struct loader *loader = &loaders[i];
        replayed_count += loader->replayed_count;
        /* The one that failed by itself has the reason; the others stopped for it. */
        if (!loader->err || (err && err != ERR_CANCELLED)) continue;
        err = loader->err;
        if (state->diag && err != ERR_CANCELLED) *state->diag = loader->diag;
    }
    if (!err) *ret_replayed_count = replayed_count;

free_loaders:
    for (uint16_t i = 0; i < count; i++)
        loader_fini(&loaders[i]);
    free(loaders);
    free(team);
    if (err == ERR_NO_MEMORY) return diag_set(state->diag, err, "no memory for recovery");
    return err;
}
