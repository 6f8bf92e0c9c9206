/* The redo log of one worker, the checkpoints of its partitions, and recovery of a store from both.
 *
 * Files of a store directory: `trellis` (the superblock: format version, store id, random key,
 * partition count), `lock`, `catalog`, `redo/W.N` (segment N of worker W's log), `redo/history`
 * (how earlier starts' logs ended), `redo/life.W.N` (the W logs from segment N on are in use),
 * `checkpoint/P.T` (partition P as of timestamp T). Byte layouts are in the .c files that own them.
 *
 * Jobs of a worker's log have the order 1 + worker, those of a partition's checkpoint the order
 * 65536 + partition. */
#ifndef DB_LDM_REDO_H
#define DB_LDM_REDO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/ldm/partition.h"
#include "db/node/env.h"

/* ---- store.c: superblock, lock, catalog ---- */

enum { STORE_FORMAT_VERSION = 2 };

struct store_info {
    uint32_t format_version;
    uint16_t partition_count;
    uint8_t id[16];  /* random */
    uint8_t key[16]; /* random; hashes of names are keyed with it */
};
/* Makes a store in the environment's directory, which must be empty; durable when it returns.
 * ERR_EXISTS (not empty), ERR_NO_SPACE, ERR_IO. */
MUST_USE enum err store_create(struct env *env, uint16_t partition_count, struct diag *diag);
/* Reads and checks the superblock and the catalog. ERR_INVALID (no store), ERR_VERSION, ERR_CORRUPT
 * with file and offset. */
MUST_USE enum err store_open(struct env *env, struct store_info *ret_info,
                             struct catalog **ret_catalog, struct diag *diag);
/* Replaces the catalog file atomically and durably. Blocks: call it from a job.
 * ERR_OUTCOME_UNKNOWN: the next start may find the old one or the new one. */
MUST_USE enum err store_write_catalog(struct env *env, const struct catalog *catalog,
                                      struct diag *diag);

/* ---- recovery.c ---- */

enum { STORE_STARTS_MAX = 128 };

struct store_start {
    uint64_t id;  /* random, not 0 */
    uint64_t cut; /* of the starts before it, its recovery kept every transaction up to this
                     timestamp, and no other */
};

struct recovery_config {
    struct env *env;
    uint16_t partition_count;
    struct partition **partitions; /* all of the store's, empty, with the catalog set */
    struct ldm **partition_ldm;    /* the ldm of each partition, for change sets */
    unsigned
        threads; /* loads this many partitions at once, one ldm per thread (1 in the simulator) */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *progress_context;
};
struct recovery_result {
    uint64_t clock; /* every timestamp in the store is at most this: clocks start above it */
    uint64_t cut;   /* transactions above this were dropped, now or by the last recovery */
    uint64_t replayed_count;
    uint64_t dropped_count;
    uint16_t start_count;                        /* at least 1 */
    struct store_start starts[STORE_STARTS_MAX]; /* the latest ones; the last is this start */
    uint64_t next_segment;                       /* new log segments start with this number */
    uint64_t checkpoint_ts[PARTITIONS_MAX];      /* 0: none */
};
/* Loads the newest good checkpoint of every partition, reads every log, cuts at the last consistent
 * horizon, replays. A torn tail (the log ends within a record that was never synced: nothing valid
 * follows it) is cut. Damage anywhere else is ERR_CORRUPT with file, offset and reason. After
 * success the dropped tail can never come back: it was truncated away durably. */
MUST_USE enum err recovery_run(const struct recovery_config *config,
                               struct recovery_result *ret_result, struct diag *diag);

/* ---- redo.c: a worker's log ---- */

struct redo;

struct redo_config {
    struct env *env;
    uint16_t worker;
    uint16_t worker_count;  /* logs of this start, all of them created before any is flushed;
                               recovery then notices  a log that is missing altogether. 0: not known,
                               no such check */
    uint64_t first_segment; /* recovery_result.next_segment: the same for all logs of this start */
    uint64_t segment_size_max; /* a new segment starts beyond this; 0: 64 MiB */
    uint64_t buffer_size_max;  /* unwritten bytes; beyond it appends get ERR_BUSY; 0: 64 MiB */
};
/* Creates the first segment (blocks; at start only). Worker 0's log also takes over, for trimming,
 * the segments of all earlier starts. ERR_INVALID (first_segment is not what recovery said),
 * ERR_EXISTS, ERR_NO_SPACE, ERR_NO_MEMORY, ERR_IO, ERR_CORRUPT; nothing is left behind. */
MUST_USE enum err redo_create(const struct redo_config *config, struct redo **ret_redo);
/* Nothing must be in flight: ask redo_is_idle. NULL is allowed. */
void redo_destroy(struct redo *redo);
/* No flush or trim is queued or runs. */
bool redo_is_idle(const struct redo *redo);
/* Ends the log in order, before redo_destroy: writes and syncs what is buffered, and marks the
 * segment as complete, so that recovery detects any later damage to its end and needs no horizon of
 * it. Blocks; at stop only, when no transaction is open on any worker and the log is idle. Later
 * appends and flushes get ERR_CLOSED. A log that cannot be closed is as durable as its last flush.
 */
MUST_USE enum err redo_close(struct redo *redo);
/* Room for a record of this size? ERR_BUSY, ERR_TOO_BIG (never), or the error that the log has
 * failed or is stalled with. Asked before executing. A log is stalled by ERR_NO_SPACE (or
 * ERR_NO_MEMORY) in a flush that left no trace: it keeps what was to be written and stays dirty; a
 * later redo_flush tries again and, when it succeeds, ends the stall. */
MUST_USE enum err redo_check(const struct redo *redo, uint64_t size);
/* Appends a committed transaction: into memory only. Cannot fail after redo_check but for memory
 * (ERR_NO_MEMORY: the log is then failed). */
MUST_USE enum err redo_append(struct redo *redo, uint64_t commit_ts, const void *body,
                              uint32_t size);
/* Starts writing what is buffered and a horizon marker, then syncs, in a job; done is called on the
 * worker's loop with the outcome. One flush is in flight at a time: a request during one is served
 * by the next. After a failure every later flush and append fails with the same error (fsyncgate),
 * but for a stall (redo_check). done gets the log's durable horizon, which after success is at
 * least the requested one; it is never called before redo_flush returns, but with ERR_NO_MEMORY
 * when the request itself could not be kept. */
void redo_flush(struct redo *redo, uint64_t horizon,
                void (*done)(void *context, enum err err, uint64_t horizon), void *context);
uint64_t redo_horizon_durable(const struct redo *redo);
uint64_t redo_bytes_written(const struct redo *redo); /* since creation */
bool redo_is_dirty(const struct redo *redo); /* something is buffered that no flush covers */
/* Removes, in a job, segments in which every transaction's timestamp is at most ts, and also at
 * most the published checkpoint of every partition of the store (the job looks which are there), so
 * that no caller can remove too much. */
void redo_trim(struct redo *redo, uint64_t ts);

/* ---- checkpoint.c ---- */

struct checkpoint;

/* Starts a checkpoint of the partition as of ts, which the caller has pinned. */
MUST_USE enum err checkpoint_create(struct env *env, struct partition *partition, uint64_t ts,
                                    uint16_t worker, struct checkpoint **ret_checkpoint);
/* Does a bounded piece of work (a few pages) on the worker's loop; writing happens in jobs.
 * ERR_NONE: call again; ERR_BUSY: call again when a job is done; ERR_END: everything is written and
 * synced, under a temporary name. */
MUST_USE enum err checkpoint_step(struct checkpoint *checkpoint);
/* Publishes by rename and removes older checkpoints of the partition, in a job. The caller has made
 * every log durable up to ts before. done(context, err) comes on the worker's loop. */
void checkpoint_publish(struct checkpoint *checkpoint, void (*done)(void *context, enum err err),
                        void *context);
/* Also removes the temporary file when it was not published. No job may be in flight: ask
 * checkpoint_is_idle. */
void checkpoint_destroy(struct checkpoint *checkpoint);
bool checkpoint_is_idle(const struct checkpoint *checkpoint);

#endif
