/* Private to redo.c and redo_trim.c: the log of a worker. */
#ifndef DB_LDM_REDO_LOG_H
#define DB_LDM_REDO_LOG_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "db/ldm/redo_history.h"
#include "db/ldm/store_format.h"

struct redo_waiter {
    void (*done)(void *context, enum err err, uint64_t horizon);
    void *context;
};

struct redo_waiters {
    struct redo_waiter *items;
    size_t count;
    size_t capacity;
};

/* A segment that nothing is written to any more, and that goes when checkpoints have all of it. */
struct redo_old {
    uint64_t number;
    uint64_t ts_max; /* of the transactions in it, and for our own also in those before it */
    uint16_t worker;
};

struct redo {
    struct env *env;
    uint8_t id[STORE_ID_SIZE];
    uint16_t worker;
    uint16_t worker_count;
    uint16_t partition_count;
    uint64_t life;
    uint64_t segment_size_max;
    uint64_t buffer_size_max;

    /* loop */
    struct buf active;
    size_t writing_size;       /* record bytes that a flush has taken and not made durable */
    uint64_t horizon_promised; /* the greatest that was asked for */
    uint64_t horizon_durable;
    uint64_t ts_appended; /* greatest */
    uint64_t bytes_written;
    enum err failed;  /* for good */
    enum err stalled; /* until a flush succeeds */
    bool flushing;
    struct redo_waiters pending; /* for the next flush */
    struct redo_waiters served;  /* by the flush in flight */
    bool trimming;
    uint64_t trim_ts;

    /* job */
    struct env_job flush_job;
    struct buf writing;
    struct env_file *file; /* of segment `number` */
    uint64_t number;
    uint64_t seed;
    uint64_t offset; /* durable size of the segment */
    uint32_t flush;  /* number of the next flush in it */
    bool life_noted; /* redo/life.W.N is durable */
    uint64_t ts_max; /* of the durable transactions of this life */
    uint64_t horizon_written;
    uint64_t flush_horizon;
    enum err flush_err;
    bool flush_stalled;
    struct env_job trim_job;
    uint64_t trim_limit;
    struct redo_old *old;
    size_t old_count;
    size_t old_capacity;
};

/* Jobs of one log run one after the other; the checkpoints of partitions have orders of their own.
 */
enum { REDO_JOB_ORDER = 1, CHECKPOINT_JOB_ORDER = 1 << 16 };
static_assert(UINT16_MAX + REDO_JOB_ORDER <= CHECKPOINT_JOB_ORDER, "orders are apart");

static inline uint32_t redo_job_order(const struct redo *redo)
{
    return REDO_JOB_ORDER + (uint32_t)redo->worker;
}

void redo_trim_init(struct redo *redo);
/* Room for one more old segment. ERR_NO_MEMORY. */
MUST_USE enum err redo_old_reserve(struct redo *redo);
void redo_old_add(struct redo *redo, const struct redo_old *old);
/* Takes over the segments of earlier lives. ERR_NO_MEMORY. */
MUST_USE enum err redo_adopt(struct redo *redo, const struct history *history);

#endif
