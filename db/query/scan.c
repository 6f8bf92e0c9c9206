/* Source 0: every page of the touched partitions, or the rows that index ranges or primary keys
 * give.
 *
 * Ranges are brought to values that their columns can hold first: a bound between two such values
 * becomes the one below it or above it, a value equal to none makes the range empty. Rows whose
 * ranges overlap are given once: with more than one range, a bit for each row of the fragment
 * remembers. A range whose equal columns tell the slot is looked for in that partition only. */
#include "db/query/pipeline.h"

#include "base/check.h"

#define ANY_PARTITION UINT16_MAX
_Static_assert(PARTITIONS_MAX < UINT16_MAX, "a number for any");

static bool is_touched(const struct query_exec *exec, uint16_t partition)
{
    const struct query_tree *tree = exec->tree;
    if (!tree->pruned) return true;
    for (uint32_t i = 0; i < tree->slot_count; i++)
        if ((tree->slots[i] & (exec->host.partition_count - 1)) == partition) return true;
    return false;
}

/* The partition whose rows alone can be in the range. */
static uint16_t range_partition(const struct query_exec *exec, const struct index_range *range)
{
    const struct exec_source *source = &exec->sources[0];
    const struct table_def *table = source->table;
    const struct index_def *index = &table->indexes[source->query->index];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint8_t p = 0; p < table->partition_column_count; p++) {
        uint16_t k = 0;
        while (k < range->eq_count && index->columns[k] != table->partition_columns[p])
            k++;
        if (k == range->eq_count) return ANY_PARTITION;
        if (value_fit(&table->columns[index->columns[k]], range->eq[k], &values[p]))
            return ANY_PARTITION;
    }
    uint16_t slot;
    if (table_slot(table, values, &slot)) return ANY_PARTITION;
    return slot & (uint16_t)(exec->host.partition_count - 1);
}

enum err scan_init(struct query_exec *exec)
{
    struct scan *scan = &exec->scan;
    const struct query_source *query = exec->sources[0].query;
    void *at;
    enum err err = exec_alloc(exec, sizeof(uint16_t), exec->host.partition_count, &at);
    if (err) return err;
    scan->partitions = at;
    for (uint16_t p = 0; p < exec->host.partition_count; p++)
        if (exec->host.partition(exec->host.context, p) && is_touched(exec, p))
            scan->partitions[scan->partition_count++] = p;
    err = exec_alloc(exec, sizeof(struct index_cursor), 1, &at);
    if (err) return err;
    scan->cursor = at;
    err = exec_alloc(exec, sizeof(uint16_t), query->range_count, &at);
    if (err) return err;
    scan->range_partitions = at;
    for (uint32_t i = 0; i < query->range_count; i++)
        scan->range_partitions[i] = range_partition(exec, &query->ranges[i]);
    return ERR_NONE;
}

void scan_fini(struct query_exec *exec)
{
    struct scan *scan = &exec->scan;
    query_free(&exec->memory, scan->seen, scan->seen_size);
    scan->seen = NULL;
}

/* ---- ranges ---- */

enum fit {
    FIT_EXACT,
    FIT_BELOW, /* the value found is the greatest one below, or none is */
    FIT_ABOVE,
    FIT_NONE, /* of BELOW and ABOVE: *ret_value is not set, all values lie on the other side */
    FIT_ERROR,
};

/* Cuts text that is too long: what is left is the greatest that fits and comes before. */
static struct value cut_text(const struct column_def *column, struct value value)
{
    uint32_t size = value.size < column->size_max ? value.size : column->size_max;
    bool counted = column->type == TYPE_CHAR || column->type == TYPE_VARCHAR;
    if (counted) {
        uint32_t points = 0;
        for (uint32_t i = 0; i < size; i++) {
            points += (value.bytes[i] & 0xc0) != 0x80;
            if (points > column->size_max / 4) size = i;
        }
    }
    if (column->type != TYPE_BINARY && column->type != TYPE_VARBINARY && column->type != TYPE_BLOB)
        while (size && size < value.size && (value.bytes[size] & 0xc0) == 0x80)
            size--;
    return value_str(value.bytes, size);
}

static struct value floor_dec(const struct column_def *column, struct value value)
{
    while (value.scale > column->scale) {
        int64_t quotient = value.i / 10;
        value.i = value.i % 10 < 0 ? quotient - 1 : quotient;
        value.scale--;
    }
    return value;
}

/* The value nearest to a bound that the column can hold, and on which side it lies. */
static enum fit fit_bound(const struct column_def *column, struct value value,
                          struct value *ret_value, bool *ret_below)
{
    struct value fitted;
    enum err err = value_fit(column, value, &fitted);
    if (err == ERR_TOO_BIG && value.kind == KIND_STR)
        err = value_fit(column, cut_text(column, value), &fitted);
    else if (err == ERR_OUT_OF_RANGE && value.kind == KIND_DEC)
        err = value_fit(column, floor_dec(column, value), &fitted);
    if (err == ERR_OUT_OF_RANGE) {
        bool negative = (value.kind == KIND_I64 || value.kind == KIND_DEC) ? value.i < 0
                        : value.kind == KIND_F64                           ? value.f < 0
                                                                           : false;
        *ret_below = negative;
        return FIT_NONE;
    }
    if (err) return FIT_ERROR;
    *ret_value = fitted;
    if (fitted.kind != value.kind) return FIT_EXACT;
    enum collation collation =
        value.kind == KIND_STR ? (enum collation)column->collation : COLLATION_BINARY;
    int order = value_compare(fitted, value, collation);
    return order == 0 ? FIT_EXACT : order < 0 ? FIT_BELOW : FIT_ABOVE;
}

struct fitted_range {
    struct value eq[SCHEMA_KEY_COLUMNS_MAX];
    struct value low;
    struct value high;
    struct index_bounds bounds;
    bool empty;
};

static enum err fit_low(const struct column_def *column, const struct index_range *range,
                        struct fitted_range *fitted)
{
    bool inclusive = range->low_inclusive;
    struct value low = value_null();
    if (range->has_low) {
        bool below = false;
        if (value_is_null(range->low)) {
            fitted->empty = true;
            return ERR_NONE;
        }
        switch (fit_bound(column, range->low, &low, &below)) {
        case FIT_EXACT:
            break;
        case FIT_BELOW:
            inclusive = false;
            break;
        case FIT_ABOVE:
            inclusive = true;
            break;
        case FIT_NONE:
            if (!below) {
                fitted->empty = true;
                return ERR_NONE;
            }
            low = value_null();
            break;
        case FIT_ERROR:
            return ERR_OUT_OF_RANGE;
        }
    }
    if (value_is_null(low)) {
        /* No bound below but that NULL, which comes first, is in no range. */
        if (!column->nullable) return ERR_NONE;
        inclusive = false;
    }
    fitted->low = low;
    fitted->bounds.low = &fitted->low;
    fitted->bounds.low_count = 1;
    fitted->bounds.low_inclusive = inclusive;
    return ERR_NONE;
}

static enum err fit_high(const struct column_def *column, const struct index_range *range,
                         struct fitted_range *fitted)
{
    if (!range->has_high) return ERR_NONE;
    bool inclusive = range->high_inclusive;
    bool below = false;
    if (value_is_null(range->high)) {
        fitted->empty = true;
        return ERR_NONE;
    }
    switch (fit_bound(column, range->high, &fitted->high, &below)) {
    case FIT_EXACT:
        break;
    case FIT_BELOW:
        inclusive = true;
        break;
    case FIT_ABOVE:
        inclusive = false;
        break;
    case FIT_NONE:
        if (below) fitted->empty = true;
        return ERR_NONE;
    case FIT_ERROR:
        return ERR_OUT_OF_RANGE;
    }
    fitted->bounds.high = &fitted->high;
    fitted->bounds.high_count = 1;
    fitted->bounds.high_inclusive = inclusive;
    return ERR_NONE;
}

static enum err fit_range(const struct query_exec *exec, const struct index_range *range,
                          struct fitted_range *fitted)
{
    const struct exec_source *source = &exec->sources[0];
    const struct table_def *table = source->table;
    const struct index_def *index = &table->indexes[source->query->index];
    *fitted = (struct fitted_range){.bounds = {.eq = fitted->eq, .eq_count = range->eq_count}};
    for (uint16_t i = 0; i < range->eq_count; i++) {
        const struct column_def *column = &table->columns[index->columns[i]];
        enum err err = value_fit(column, range->eq[i], &fitted->eq[i]);
        bool rounded = !err && range->eq[i].kind == KIND_F64 && fitted->eq[i].f != range->eq[i].f;
        if (err || rounded) {
            fitted->empty = true; /* no row holds such a value */
            return ERR_NONE;
        }
    }
    if (!range->has_low && !range->has_high) return ERR_NONE;
    const struct column_def *column = &table->columns[index->columns[range->eq_count]];
    enum err err = fit_low(column, range, fitted);
    if (!err && !fitted->empty) err = fit_high(column, range, fitted);
    return err;
}

/* Opens the cursor on the current range; *ret_open is false when the range has no rows here. */
static enum err open_range(struct query_exec *exec, bool *ret_open)
{
    struct scan *scan = &exec->scan;
    const struct query_source *query = exec->sources[0].query;
    uint16_t partition = scan->range_partitions[scan->range];
    *ret_open = false;
    if (partition != ANY_PARTITION && partition != scan->partitions[scan->partition])
        return ERR_NONE;
    struct fitted_range fitted;
    enum err err = fit_range(exec, &query->ranges[scan->range], &fitted);
    if (err || fitted.empty) return err;
    err = index_cursor_open(scan->cursor, scan->fragment, query->index, &fitted.bounds, false,
                            exec->run.ts, NULL);
    if (err == ERR_TOO_BIG) return ERR_NONE; /* longer than any key of the index */
    if (err) return err;
    *ret_open = true;
    return ERR_NONE;
}

static bool was_seen(struct scan *scan, uint32_t row)
{
    uint64_t at = row / 8;
    if (!scan->seen || at >= scan->seen_size) return false;
    uint8_t bit = (uint8_t)(1u << row % 8);
    bool seen = scan->seen[at] & bit;
    scan->seen[at] |= bit;
    return seen;
}

/* Rows of ranges, up to a batch full. */
static enum step_result range_step(struct query_exec *exec, struct batch *box)
{
    struct scan *scan = &exec->scan;
    const struct query_source *query = exec->sources[0].query;
    uint32_t *rows = box->sources[0].rows;
    uint32_t count = 0;
    uint32_t opened = 0;
    enum err err = ERR_NONE;
    while (!err && count < QUERY_VECTOR_ROWS && scan->range < query->range_count &&
           opened < QUERY_VECTOR_ROWS) {
        if (!scan->cursor_open) {
            err = open_range(exec, &scan->cursor_open);
            opened++;
            if (err || !scan->cursor_open) {
                scan->range++;
                continue;
            }
        }
        uint32_t row;
        err = index_cursor_next(scan->cursor, &row);
        if (err == ERR_END) {
            err = ERR_NONE;
            scan->cursor_open = false;
            scan->range++;
        } else if (!err && !was_seen(scan, row)) {
            rows[count++] = row;
        }
    }
    if (err)
        return exec_fail(exec, err, "%s in an index range of table %s", err_text(err),
                         exec->sources[0].table->name);
    exec->rows_scanned += count;
    if (!count) return STEP_DONE;
    box->count = count;
    box->source_count = 1;
    box->partition = scan->partitions[scan->partition];
    box->sources[0].form = BATCH_ROWS;
    box->sources[0].fragment = scan->fragment;
    return batch_filter(exec, box);
}

/* ---- pages ---- */

static enum step_result page_step(struct query_exec *exec, struct batch *box)
{
    struct scan *scan = &exec->scan;
    uint32_t page = scan->page++;
    uint32_t count = fragment_page_select(scan->fragment, page, exec->run.ts, box->slots);
    exec->rows_scanned += count;
    if (!count) return STEP_DONE;
    box->count = count;
    box->source_count = 1;
    box->partition = scan->partitions[scan->partition];
    box->page = page;
    box->sources[0].form = BATCH_PAGE;
    box->sources[0].fragment = scan->fragment;
    return batch_filter(exec, box);
}

/* ---- partitions ---- */

static enum step_result begin_partition(struct query_exec *exec)
{
    struct scan *scan = &exec->scan;
    struct partition *partition =
        exec->host.partition(exec->host.context, scan->partitions[scan->partition]);
    scan->fragment =
        partition ? partition_fragment(partition, exec->sources[0].query->table_id) : NULL;
    if (!scan->fragment)
        return exec_fail(exec, ERR_SCHEMA_CHANGED, "%s", err_text(ERR_SCHEMA_CHANGED));
    scan->page = 0;
    scan->range = 0;
    scan->cursor_open = false;
    query_free(&exec->memory, scan->seen, scan->seen_size);
    scan->seen = NULL;
    scan->seen_size = 0;
    if (exec->sources[0].query->range_count > 1) {
        /* Rows that the snapshot sees are in the pages that there are by now. */
        uint64_t size = (uint64_t)fragment_page_count(scan->fragment) * (FRAGMENT_PAGE_ROWS / 8);
        void *at;
        enum err err = query_alloc(&exec->memory, size, &at);
        if (err) return exec_fail(exec, err, "%s", err_text(err));
        memset(at, 0, size);
        scan->seen = at;
        scan->seen_size = size;
    }
    return STEP_DONE;
}

enum step_result scan_step(struct query_exec *exec)
{
    struct scan *scan = &exec->scan;
    const struct query_source *query = exec->sources[0].query;
    if (scan->partition == scan->partition_count) {
        scan->done = true;
        return STEP_DONE;
    }
    if (!scan->fragment) {
        enum step_result result = begin_partition(exec);
        if (result == STEP_FAILED) return result;
    }
    bool pages = query->access == ACCESS_SCAN;
    if (pages ? scan->page == fragment_page_count(scan->fragment)
              : scan->range == query->range_count) {
        scan->fragment = NULL;
        scan->partition++;
        return STEP_DONE;
    }
    struct batch *box = exec_box(exec, 1);
    return pages ? page_step(exec, box) : range_step(exec, box);
}
