/* Scans: an index range, a batch at a time.
 *
 * Rows next to each other in an index are anywhere in the pages, and the rows they point to as
 * well; each column of each is a cache line of its own. One after the other they would cost a
 * memory latency for every step of every row. So a batch goes through stages, and each stage is
 * done for all rows before the next, which then finds in the cache what the one before asked for:
 *
 *   1. the cursor gives the row; its columns are asked for;
 *   2. the column that points elsewhere is read: the other table's index is asked for, and the
 *      bytes of the row's strings;
 *   3. the index names the other row: its columns are asked for;
 *   4. the other row is found for certain, and both are read by the caller.
 *
 * Called by the executor (execute.c), which writes nothing while a scan is open. */
#include "db/txn/scan.h"

#include "base/check.h"

enum err scan_open(struct scan *scan, const struct executor *executor, const struct change_set *own,
                   const struct fragment *fragment, const struct step *step,
                   const struct index_bounds *bounds)
{
    scan->executor = executor;
    scan->own = own;
    scan->fragment = fragment;
    scan->step = step;
    scan->left = step->limit;
    scan->count = 0;
    enum err err =
        index_cursor_open(&scan->cursor, fragment, step->index, bounds, false, TS_LATEST, own);
    if (err) return err;
    scan->cursor.stable = true;
    return ERR_NONE;
}

static enum err batch_fill(struct scan *scan)
{
    const struct step *step = scan->step;
    uint32_t limit = scan->left < SCAN_BATCH ? (uint32_t)scan->left : SCAN_BATCH;
    enum err err = limit ? ERR_NONE : ERR_END;
    scan->count = 0;
    while (scan->count < limit && !err) {
        struct scan_row *at = &scan->rows[scan->count];
        err = index_cursor_next(&scan->cursor, &at->row);
        if (err) break;
        at->found = NULL;
        scan->count++;
        if (limit == 1) break;
        fragment_prefetch_row(scan->fragment, at->row, step->outputs, step->output_count);
        if (step->lookup_table)
            fragment_prefetch_row(scan->fragment, at->row, &step->lookup_column, 1);
    }
    scan->left -= scan->count;
    return err;
}

/* Which rows point to one that may be on this worker, and where it would be. */
static void batch_point(struct scan *scan)
{
    const struct step *step = scan->step;
    const struct table_def *table = step->lookup_table;
    const struct column_def *key_column = &table->columns[table->indexes[0].columns[0]];
    const struct executor *executor = scan->executor;
    for (uint32_t i = 0; i < scan->count; i++) {
        struct scan_row *at = &scan->rows[i];
        struct value value = fragment_value(scan->fragment, at->row, step->lookup_column);
        uint16_t slot;
        if (value_is_null(value) || value_fit(key_column, value, &scan->keys[i]) ||
            table_slot(table, &scan->keys[i], &slot))
            continue;
        struct partition *partition = executor->partitions[slot & (executor->partition_count - 1)];
        if (!partition) continue;
        at->found = partition_fragment(partition, table->id);
        if (scan->count > 1) fragment_prefetch(at->found, &scan->keys[i]);
    }
}

static enum err batch_find(struct scan *scan)
{
    const struct step *step = scan->step;
    for (uint32_t i = 0; scan->count > 1 && i < scan->count; i++)
        if (scan->rows[i].found)
            fragment_prefetch_found(scan->rows[i].found, &scan->keys[i], step->lookup_outputs,
                                    step->lookup_output_count);
    for (uint32_t i = 0; i < scan->count; i++) {
        struct scan_row *at = &scan->rows[i];
        if (!at->found) continue;
        enum err err = fragment_find(at->found, scan->own, &scan->keys[i], &at->found_row);
        if (err == ERR_NOT_FOUND)
            at->found = NULL;
        else if (err)
            return err;
    }
    return ERR_NONE;
}

enum err scan_next(struct scan *scan)
{
    const struct step *step = scan->step;
    enum err end = batch_fill(scan);
    if (step->lookup_table) batch_point(scan);
    for (uint32_t i = 0; scan->count > 1 && i < scan->count; i++)
        fragment_prefetch_parts(scan->fragment, scan->rows[i].row, step->outputs,
                                step->output_count);
    enum err err = step->lookup_table ? batch_find(scan) : ERR_NONE;
    if (err) scan->count = 0;
    return err ? err : end;
}
