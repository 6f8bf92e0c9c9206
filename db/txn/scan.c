/* Scans: an index range, a batch at a time.
 *
 * Rows next to each other in an index are anywhere in the pages, and the rows they point to as
 * well; each column of each is a cache line of its own. One after the other they would cost a
 * memory latency for every step of every row. So a batch goes through stages, and each stage is
 * done for all rows before the next, which then finds in the cache what the one before asked for:
 *
 *   1. the cursor gives the row; its columns are asked for;
 *   2. the bytes of the row's strings are asked for, and the column that points elsewhere is read;
 *   3. the rows pointed to are found together (db/ldm/batch.c), their columns asked for;
 *   4. all is read, column by column.
 *
 * Called by the executor (execute.c), which writes nothing while a scan is open. */
#include "db/txn/scan.h"

#include "base/check.h"

static void strings_find(struct scan *scan, const struct table_def *table, const uint16_t *columns,
                         uint16_t count, uint16_t at)
{
    for (uint16_t i = 0; i < count; i++)
        if (column_kind(&table->columns[columns[i]]) == KIND_STR)
            scan->strings[scan->string_count++] = (uint16_t)(at + i);
}

enum err scan_open(struct scan *scan, const struct executor *executor, const struct change_set *own,
                   const struct fragment *fragment, const struct step *step,
                   const struct index_bounds *bounds)
{
    scan->executor = executor;
    scan->own = own;
    scan->fragment = fragment;
    scan->step = step;
    scan->left = step->limit;
    scan->columns = (uint16_t)(step->output_count + step->lookup_output_count);
    scan->string_count = 0;
    strings_find(scan, step->table, step->outputs, step->output_count, 0);
    if (step->lookup_table)
        strings_find(scan, step->lookup_table, step->lookup_outputs, step->lookup_output_count,
                     step->output_count);
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
        uint32_t row;
        err = index_cursor_next(&scan->cursor, &row);
        if (err) break;
        scan->rows[scan->count++] = row;
        if (limit == 1) break;
        fragment_prefetch_row(scan->fragment, row, step->outputs, step->output_count);
        if (step->lookup_table) fragment_prefetch_row(scan->fragment, row, &step->lookup_column, 1);
    }
    scan->left -= scan->count;
    return err;
}

/* The fragment that the row with this key is in. NULL: not on this worker. */
static const struct fragment *fragment_of(const struct scan *scan, struct value key)
{
    const struct table_def *table = scan->step->lookup_table;
    const struct executor *executor = scan->executor;
    uint16_t slot;
    if (__builtin_expect(table->partition_by == PARTITION_BY_HOME && key.kind == KIND_U64, 1))
        slot = (uint16_t)(key.u >> HOME_SHIFT);
    else if (table_slot(table, &key, &slot))
        return NULL;
    struct partition *partition = executor->partitions[slot & (executor->partition_count - 1)];
    return partition ? partition_fragment(partition, table->id) : NULL;
}

static enum err batch_find(struct scan *scan)
{
    const struct step *step = scan->step;
    const struct table_def *table = step->lookup_table;
    const struct column_def *key_column = &table->columns[table->indexes[0].columns[0]];
    struct value keys[SCAN_BATCH];
    fragment_gather_rows(scan->fragment, scan->rows, scan->count, &step->lookup_column, 1, keys, 1);
    for (uint32_t i = 0; i < scan->count; i++) {
        struct fragment_lookup *lookup = &scan->found[i];
        lookup->fragment = NULL;
        lookup->key = keys[i];
        if (value_is_null(keys[i])) continue;
        bool fits = key_column->type == TYPE_BIGINT_UNSIGNED && keys[i].kind == KIND_U64;
        if (!fits && value_fit(key_column, keys[i], &lookup->key)) continue;
        lookup->fragment = fragment_of(scan, lookup->key);
    }
    return fragment_find_batch(scan->found, scan->count, scan->own, step->lookup_outputs,
                               step->lookup_output_count);
}

enum err scan_next(struct scan *scan)
{
    const struct step *step = scan->step;
    enum err end = batch_fill(scan);
    for (uint32_t i = 0; scan->string_count && i < scan->count; i++)
        fragment_prefetch_parts(scan->fragment, scan->rows[i], step->outputs, step->output_count);
    enum err err = step->lookup_table ? batch_find(scan) : ERR_NONE;
    if (err) scan->count = 0;
    return err ? err : end;
}

void scan_values(const struct scan *scan, uint32_t first, uint32_t count, struct value *values)
{
    const struct step *step = scan->step;
    fragment_gather_rows(scan->fragment, scan->rows + first, count, step->outputs,
                         step->output_count, values, scan->columns);
    values += step->output_count;
    for (uint32_t at = 0; step->lookup_table && at < count;) {
        /* Those of one fragment together: mostly all. */
        const struct fragment *fragment = scan->found[first + at].fragment;
        uint32_t rows[SCAN_BATCH];
        uint32_t run = 0;
        struct value *to = values + (size_t)at * scan->columns;
        for (; at < count && scan->found[first + at].fragment == fragment; at++)
            rows[run++] = scan->found[first + at].row;
        if (fragment) {
            fragment_gather_rows(fragment, rows, run, step->lookup_outputs,
                                 step->lookup_output_count, to, scan->columns);
            continue;
        }
        for (uint32_t i = 0; i < run; i++)
            for (uint16_t j = 0; j < step->lookup_output_count; j++)
                to[(size_t)i * scan->columns + j] = value_null();
    }
}
