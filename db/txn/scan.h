/* Rows of an index range for a SCAN step, a batch at a time, each with the row that it points to.
 * Private to db/txn. */
#ifndef DB_TXN_SCAN_H
#define DB_TXN_SCAN_H

#include "db/ldm/partition.h"
#include "db/txn/execute.h"

enum { SCAN_BATCH = FRAGMENT_BATCH_MAX };

struct scan {
    const struct executor *executor;
    const struct change_set *own;
    const struct fragment *fragment;
    const struct step *step;
    uint64_t left;    /* rows until the step's limit */
    uint16_t columns; /* of the step's output, with what is looked up */
    uint16_t string_count;
    uint16_t strings[2 * SCHEMA_COLUMNS_MAX]; /* those of them that may be strings */
    struct index_cursor cursor;
    uint32_t count; /* of the batch */
    uint32_t rows[SCAN_BATCH];
    struct fragment_lookup found[SCAN_BATCH]; /* without fragment: not on this worker, or missing */
};

/* Nothing may change the fragments between calls. Errors of index_cursor_open. */
MUST_USE enum err scan_open(struct scan *scan, const struct executor *executor,
                            const struct change_set *own, const struct fragment *fragment,
                            const struct step *step, const struct index_bounds *bounds);
/* The next batch. What is in it comes before the error: ERR_END (there are no more, or the limit is
 * reached), ERR_CONFLICT (the row behind the batch, or one that a row points to, is locked by
 * another: then the batch is empty). */
MUST_USE enum err scan_next(struct scan *scan);
/* The output of `count` rows of the batch from `first` on. Strings are borrowed from the fragments.
 */
void scan_values(const struct scan *scan, uint32_t first, uint32_t count, struct value *values);

#endif
