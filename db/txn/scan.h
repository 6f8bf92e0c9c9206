/* Rows of an index range for a SCAN step, a batch at a time, each with the row that it points to.
 * Private to db/txn. */
#ifndef DB_TXN_SCAN_H
#define DB_TXN_SCAN_H

#include "db/ldm/partition.h"
#include "db/txn/execute.h"

enum { SCAN_BATCH = 16 };

struct scan_row {
    uint32_t row;
    uint32_t found_row;
    const struct fragment *found; /* of the looked-up table; NULL: not on this worker, or missing */
};

struct scan {
    const struct executor *executor;
    const struct change_set *own;
    const struct fragment *fragment;
    const struct step *step;
    uint64_t left; /* rows until the step's limit */
    struct index_cursor cursor;
    uint32_t count; /* of the batch */
    struct scan_row rows[SCAN_BATCH];
    struct value keys[SCAN_BATCH]; /* that the rows point with; of `found` only */
};

/* Nothing may change the fragments between calls. Errors of index_cursor_open. */
MUST_USE enum err scan_open(struct scan *scan, const struct executor *executor,
                            const struct change_set *own, const struct fragment *fragment,
                            const struct step *step, const struct index_bounds *bounds);
/* The next batch. What is in it comes before the error: ERR_END (there are no more, or the limit is
 * reached), ERR_CONFLICT (the row behind the batch, or one that a row points to, is locked by
 * another: then the batch is empty). */
MUST_USE enum err scan_next(struct scan *scan);

#endif
