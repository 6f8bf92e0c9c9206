/* The transactions that are prepared on one worker and not yet decided: what it has promised to be
 * able to commit. Kept by transaction id and in order of prepare timestamps, so that "is anything
 * at or below T undecided?", which snapshots, checkpoints and log horizons ask, is one comparison.
 */
#ifndef DB_TXN_PARTICIPANT_H
#define DB_TXN_PARTICIPANT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "db/ldm/partition.h"

struct participant {
    uint64_t txn;         /* unique while it is open; chosen by the coordinator */
    uint32_t coordinator; /* endpoint: the only one whose decision counts */
    uint64_t prepare_ts;
    struct change_set *changes;
    struct buf redo; /* the encoded changes; empty when there is nothing to log */
    struct participant *next_in_bucket;
    struct participant *older;
    struct participant *newer;
};

enum { PARTICIPANTS_BUCKETS = 256, PARTICIPANTS_MAX = 4096, PARTICIPANTS_IDLE_MAX = 64 };

struct participants {
    struct ldm *ldm;
    uint32_t count;
    uint64_t redo_size; /* of all: room that the log must keep for them */
    struct participant *oldest;
    struct participant *newest;
    struct participant *idle; /* for reuse, with their change sets */
    uint32_t idle_count;
    struct participant *buckets[PARTICIPANTS_BUCKETS];
};

void participants_init(struct participants *all, struct ldm *ldm);
/* Rolls back what is still open. */
void participants_fini(struct participants *all);

/* A fresh one, with an empty change set, in no list yet. ERR_NO_MEMORY, ERR_BUSY (too many). */
MUST_USE enum err participant_create(struct participants *all, struct participant **ret);
/* Of one that is not (any more) in the lists and whose change set is empty. */
void participant_destroy(struct participants *all, struct participant *one);
/* txn, coordinator, prepare_ts (greater than every earlier one's) and redo are set. The txn must be
 * new: ask participants_find. */
void participants_add(struct participants *all, struct participant *one);
void participants_remove(struct participants *all, struct participant *one);
struct participant *participants_find(const struct participants *all, uint64_t txn); /* or NULL */

/* UINT64_MAX when nothing is open. */
static inline uint64_t participants_oldest_ts(const struct participants *all)
{
    return all->oldest ? all->oldest->prepare_ts : UINT64_MAX;
}

#endif
