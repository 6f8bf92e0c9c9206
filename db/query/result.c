/* DISTINCT, ORDER BY and LIMIT: see result.h.
 *
 * The order is that of the ORDER BY terms, and among rows equal by them that of all outputs from
 * the left: so what LIMIT cuts off does not depend on how rows are spread over workers. NULL comes
 * first, in descending order last.
 *
 * With a limit only the rows that can still be in the result are kept, in a heap with the worst one
 * on top: most rows of a large input are compared once, with that one, by their first ORDER BY
 * term. */
#include "db/query/result.h"

#include <stdlib.h>

#include "base/check.h"

/* ---- DISTINCT ---- */

void result_distinct_init(struct result_distinct *distinct, const struct query_tree *tree,
                          struct query_memory *memory)
{
    *distinct = (struct result_distinct){.tree = tree};
    distinct_init(&distinct->set, memory, false);
    buf_init(&distinct->scratch);
}

void result_distinct_fini(struct result_distinct *distinct)
{
    if (!distinct->tree) return;
    distinct_fini(&distinct->set);
    buf_fini(&distinct->scratch);
    *distinct = (struct result_distinct){0};
}

static void encode_value(struct value value, uint8_t collation, struct buf *buf)
{
    buf_put_u8(buf, value_is_null(value));
    if (value_is_null(value)) return;
    if (value.kind != KIND_STR) {
        buf_put_u64(buf, distinct_bits(value.kind, value.u));
        return;
    }
    buf_put_u32(buf, value.size);
    uint8_t *at = buf_add(buf, value.size);
    if (!at) return;
    if (value.size) memcpy(at, value.bytes, value.size);
    for (uint32_t i = 0; collation == COLLATION_CASE_INSENSITIVE && i < value.size; i++)
        if ((uint8_t)(at[i] - 'A') < 26) at[i] |= 0x20;
}

enum err result_distinct_add(struct result_distinct *distinct, const struct vector *const *outputs,
                             uint32_t count, uint16_t ret_picks[QUERY_VECTOR_ROWS],
                             uint32_t *ret_count)
{
    uint32_t picked = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct buf *buf = &distinct->scratch;
        buf_clear(buf);
        for (uint16_t k = 0; k < distinct->tree->visible_count; k++)
            encode_value(vector_value(outputs[k], i), distinct->tree->outputs[k].collation, buf);
        if (buf->failed) return ERR_NO_MEMORY;
        if (buf->size > UINT32_MAX) return ERR_QUERY_MEMORY;
        bool added;
        enum err err =
            distinct_add_bytes(&distinct->set, 0, buf->bytes, (uint32_t)buf->size, &added);
        if (err) return err;
        ret_picks[picked] = (uint16_t)i;
        picked += added;
    }
    *ret_count = picked;
    return ERR_NONE;
}

/* ---- ORDER BY ---- */

struct result_row {
    uint64_t size; /* of the block */
    struct value values[];
};

enum { ROWS_CAPACITY_MIN = 64 };

void result_sort_init(struct result_sort *sort, const struct query_tree *tree,
                      struct query_memory *memory, uint64_t row_max)
{
    *sort = (struct result_sort){.tree = tree, .memory = memory, .row_max = row_max};
}

static void free_row(struct result_sort *sort, struct result_row *row)
{
    query_free(sort->memory, row, row->size);
}

void result_sort_fini(struct result_sort *sort)
{
    if (!sort->memory) return;
    for (uint64_t i = 0; i < sort->count; i++)
        free_row(sort, sort->rows[i]);
    query_free(sort->memory, sort->rows, sort->capacity * sizeof(*sort->rows));
    *sort = (struct result_sort){0};
}

static int compare_values(struct value a, struct value b, uint8_t collation)
{
    bool a_null = value_is_null(a);
    bool b_null = value_is_null(b);
    if (a_null || b_null) return (int)b_null - (int)a_null;
    return value_compare(a, b, (enum collation)collation);
}

static int compare_term(const struct query_order *order, struct value a, struct value b)
{
    int result = compare_values(a, b, order->collation);
    return order->descending ? -result : result;
}

static int compare_rows(const struct query_tree *tree, const struct value *a, const struct value *b)
{
    for (uint16_t k = 0; k < tree->order_count; k++) {
        uint16_t output = tree->order[k].output;
        int result = compare_term(&tree->order[k], a[output], b[output]);
        if (result) return result;
    }
    for (uint16_t k = 0; k < tree->output_count; k++) {
        int result = compare_values(a[k], b[k], COLLATION_BINARY);
        if (result) return result;
    }
    return 0;
}

/* Keeps the heap's order below position i, whose row may be too early in the order for its place.
 */
static void sift_down(struct result_sort *sort, uint64_t i)
{
    struct result_row *row = sort->rows[i];
    for (;;) {
        uint64_t child = 2 * i + 1;
        if (child >= sort->count) break;
        if (child + 1 < sort->count &&
            compare_rows(sort->tree, sort->rows[child + 1]->values, sort->rows[child]->values) > 0)
            child++;
        if (compare_rows(sort->tree, sort->rows[child]->values, row->values) <= 0) break;
        sort->rows[i] = sort->rows[child];
        i = child;
    }
    sort->rows[i] = row;
}

static enum err make_row(struct result_sort *sort, const struct value *values,
                         struct result_row **ret_row)
{
    uint16_t count = sort->tree->output_count;
    size_t size = sizeof(struct result_row) + count * sizeof(struct value);
    size_t text_at = size;
    for (uint16_t k = 0; k < count; k++)
        if (values[k].kind == KIND_STR) size += values[k].size;
    void *at;
    enum err err = query_alloc(sort->memory, size, &at);
    if (err) return err;
    struct result_row *row = at;
    row->size = size;
    uint8_t *text = (uint8_t *)at + text_at;
    for (uint16_t k = 0; k < count; k++) {
        row->values[k] = values[k];
        if (values[k].kind != KIND_STR) continue;
        if (values[k].size) memcpy(text, values[k].bytes, values[k].size);
        row->values[k].bytes = text;
        text += values[k].size;
    }
    *ret_row = row;
    return ERR_NONE;
}

static enum err append_row(struct result_sort *sort, const struct value *values)
{
    if (sort->count == sort->capacity) {
        uint64_t capacity = sort->capacity ? 2 * sort->capacity : ROWS_CAPACITY_MIN;
        void *at = sort->rows;
        enum err err = query_realloc(sort->memory, &at, sort->capacity * sizeof(*sort->rows),
                                     capacity * sizeof(*sort->rows));
        if (err) return err;
        sort->rows = at;
        sort->capacity = capacity;
    }
    enum err err = make_row(sort, values, &sort->rows[sort->count]);
    if (!err) sort->count++;
    return err;
}

static enum err replace_worst(struct result_sort *sort, const struct value *values)
{
    if (compare_rows(sort->tree, values, sort->rows[0]->values) >= 0) return ERR_NONE;
    struct result_row *row;
    enum err err = make_row(sort, values, &row);
    if (err) return err;
    free_row(sort, sort->rows[0]);
    sort->rows[0] = row;
    sift_down(sort, 0);
    return ERR_NONE;
}

/* The first term alone already says that the row comes after the worst one kept. */
static bool is_hopeless(const struct result_sort *sort, const struct vector *const *outputs,
                        uint32_t i)
{
    if (!sort->is_heap || !sort->tree->order_count) return false;
    const struct query_order *order = &sort->tree->order[0];
    return compare_term(order, vector_value(outputs[order->output], i),
                        sort->rows[0]->values[order->output]) > 0;
}

enum err result_sort_add(struct result_sort *sort, const struct vector *const *outputs,
                         const uint16_t *picks, uint32_t count)
{
    struct value values[QUERY_OUTPUTS_MAX];
    if (!sort->row_max) return ERR_NONE;
    for (uint32_t at = 0; at < count; at++) {
        uint32_t i = picks ? picks[at] : at;
        if (is_hopeless(sort, outputs, i)) continue;
        for (uint16_t k = 0; k < sort->tree->output_count; k++)
            values[k] = vector_value(outputs[k], i);
        enum err err = sort->is_heap ? replace_worst(sort, values) : append_row(sort, values);
        if (err) return err;
        if (!sort->is_heap && sort->count == sort->row_max) {
            sort->is_heap = true;
            for (uint64_t row = sort->count / 2; row-- > 0;)
                sift_down(sort, row);
        }
    }
    return ERR_NONE;
}

static int compare_sorted(const void *a, const void *b, void *tree)
{
    const struct result_row *const *x = a;
    const struct result_row *const *y = b;
    return compare_rows(tree, (*x)->values, (*y)->values);
}

void result_sort_finish(struct result_sort *sort)
{
    sort->is_heap = false;
    if (sort->count > 1)
        qsort_r(sort->rows, sort->count, sizeof(*sort->rows), compare_sorted,
                (void *)(uintptr_t)sort->tree);
}

const struct value *result_sort_row(const struct result_sort *sort, uint64_t i)
{
    ASSERT(i < sort->count);
    return sort->rows[i]->values;
}
