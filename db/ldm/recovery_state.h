/* Private to recovery*.c. */
#ifndef DB_LDM_RECOVERY_STATE_H
#define DB_LDM_RECOVERY_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"

struct recovery_file {
    uint64_t number;
    uint16_t worker;
};

struct recovery_files {
    struct recovery_file *items;
    size_t count;
    size_t capacity;
};

/* What the files say, and what is to be made of it. */
struct recovery_state {
    struct env *env;
    struct store_info info;
    struct diag *diag;
    uint64_t checkpoints[PARTITIONS_MAX]; /* newest of each partition; 0: none */
    uint64_t checkpoint_min;              /* of all partitions */
    struct history history;               /* as found */
    struct history next;            /* with the life that has ended, without what nobody needs */
    bool changed;                   /* next is to be written */
    struct recovery_files files;    /* every segment in redo/, by worker and number */
    struct recovery_files obsolete; /* to be removed once `next` is durable */
    uint64_t noted_life; /* of redo/life.W.N, that this or an earlier life was in use; 0: none */
    uint16_t noted_workers;
    uint64_t life; /* of the life that has ended; 0: none, the last recovery was not used */
    uint64_t cut;
    uint64_t clock;
    uint64_t dropped_count;
};

/* ---- recovery_files.c ---- */

/* Lists redo/ into files and noted_*. */
MUST_USE enum err recovery_list_files(struct recovery_state *state);
/* Puts what is still needed of earlier lives into next, the rest into obsolete. */
MUST_USE enum err recovery_earlier_lives(struct recovery_state *state);
bool recovery_has_file(const struct recovery_state *state, uint16_t worker, uint64_t number);
/* Adds a segment to obsolete. ERR_NO_MEMORY. */
MUST_USE enum err recovery_drop_file(struct recovery_state *state, uint16_t worker,
                                     uint64_t number);
/* Set the diagnostic and return ERR_CORRUPT, for a segment with transactions up to ts, and
 * ERR_NO_MEMORY. */
enum err recovery_segment_missing(struct recovery_state *state, uint16_t worker, uint64_t number,
                                  uint64_t ts);
enum err recovery_no_memory(struct recovery_state *state);

/* ---- recovery_logs.c, recovery_load.c ---- */

/* Judges the logs: fills everything above but the first four fields and checkpoints, which are
 * given. Changes nothing on disk. ERR_CORRUPT with file, offset and reason, ERR_VERSION,
 * ERR_NO_MEMORY, ERR_IO. */
MUST_USE enum err recovery_logs(struct recovery_state *state);
/* Loads checkpoints and replays state->next into config's partitions. The errors of recovery_logs,
 * ERR_NO_SPACE. */
MUST_USE enum err recovery_load(const struct recovery_state *state,
                                const struct recovery_config *config, uint64_t *ret_replayed_count);

#endif
