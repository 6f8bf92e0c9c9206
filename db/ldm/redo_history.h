/* Private to the durability files of db/ldm: `redo/history`, the record of the store's earlier
 * lives. */
#ifndef DB_LDM_REDO_HISTORY_H
#define DB_LDM_REDO_HISTORY_H

#include <stdint.h>

#include "base/diag.h"
#include "db/ldm/store_format.h"

/* A segment of a life that has ended: the first `size` bytes of redo/worker.number, of which the
 * transactions up to `cut` count. */
struct history_segment {
    uint64_t life; /* number of the first segment of that life */
    uint64_t number;
    uint64_t size;
    uint64_t ts_max; /* of the transactions that count; 0: there are none */
    uint64_t cut;
    uint64_t
        unsynced; /* not in the file: bytes from here to size are read but not known to be synced */
    uint16_t worker;
};

/* All lives but the running one, and where that began. Segments are in the order of replay: by
 * life, worker, number. */
struct history {
    uint64_t next_segment; /* every number below it was used; the next life's segments start at it
                              or above */
    uint64_t clock;        /* every timestamp of these lives is at most this */
    uint64_t
        cut; /* of the last life that ended: of it and all before, only what is up to it counts */
    uint64_t floor; /* transactions up to it are in no log any more: checkpoints must have them */
    uint16_t start_count; /* 0: the store was never started, or not since it had format version 1 */
    struct store_start starts[STORE_STARTS_MAX]; /* the latest, in order */
    size_t segment_count;
    size_t segment_capacity;
    struct history_segment *segments;
};

void history_fini(struct history *history);
/* Keeps the order. ERR_NO_MEMORY. */
MUST_USE enum err history_add(struct history *history, const struct history_segment *segment);
/* Adds a start; the list forgets the oldest when it is full. */
void history_add_start(struct history *history, const struct store_start *start);
/* Where redo/worker.number is; NULL when it is not in it. */
const struct history_segment *history_find(const struct history *history, uint16_t worker,
                                           uint64_t number);
/* Both block. The file is in every store: ERR_CORRUPT when it is missing. */
MUST_USE enum err history_read(struct env *env, const struct store_info *info,
                               struct history *ret_history, struct diag *diag);
MUST_USE enum err history_write(struct env *env, const struct store_info *info,
                                const struct history *history, struct diag *diag);

#endif
