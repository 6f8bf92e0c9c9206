/* Rows under way through the pipeline: see struct batch. A batch says where its rows are (slots of
 * a page, row numbers, elements of a message) and fetches a column when an expression asks for it,
 * for the rows that are left by then. A fetched column stays with the batch as long as a later step
 * of the pipeline reads it.
 *
 * References stay good from slice to slice, because the snapshot is pinned; the bytes of strings do
 * not, since a page's heap may move when the page changes: batch_pause forgets those. */
#include "db/query/pipeline.h"

#include "base/check.h"

enum err batch_init(struct query_exec *exec, struct batch *batch, uint16_t source_count)
{
    void *at;
    enum err err = exec_alloc(exec, sizeof(uint16_t), QUERY_VECTOR_ROWS, &at);
    if (err) return err;
    batch->slots = at;
    err = exec_alloc(exec, sizeof(uint16_t), QUERY_VECTOR_ROWS, &at);
    if (err) return err;
    batch->moved_rows = at;
    for (uint16_t s = 0; s < source_count; s++) {
        err = exec_alloc(exec, sizeof(uint32_t), QUERY_VECTOR_ROWS, &at);
        if (err) return err;
        batch->sources[s].rows = at;
    }
    err = exec_alloc(exec, sizeof(struct vector), exec->column_count, &at);
    if (err) return err;
    batch->vectors = at;
    err = exec_alloc(exec, sizeof(struct vector_buffer *), exec->column_count, &at);
    if (err) return err;
    batch->buffers = at;
    return ERR_NONE;
}

static void forget_column(struct query_exec *exec, struct batch *batch, uint16_t column)
{
    vector_release(&exec->pool, batch->buffers[column]);
    batch->buffers[column] = NULL;
}

void batch_clear(struct query_exec *exec, struct batch *batch)
{
    for (uint16_t c = 0; batch->buffers && c < exec->column_count; c++)
        if (batch->buffers[c]) forget_column(exec, batch, c);
    if (batch->moved) moved_release(exec, batch->moved);
    batch->moved = NULL;
    batch->count = 0;
    batch->source_count = 0;
}

void batch_pause(struct query_exec *exec, struct batch *batch)
{
    for (uint16_t c = 0; batch->count && c < exec->column_count; c++) {
        const struct exec_column *column = &exec->columns[c];
        if (batch->buffers[c] && column->type.kind == KIND_STR &&
            batch->sources[column->source].form != BATCH_MOVED)
            forget_column(exec, batch, c);
    }
}

void batch_compact(struct query_exec *exec, struct batch *batch, const uint16_t *picks,
                   uint32_t count, uint32_t step)
{
    ASSERT(count <= batch->count);
    bool moved = false;
    for (uint16_t s = 0; s < batch->source_count; s++) {
        struct batch_source *source = &batch->sources[s];
        if (source->form == BATCH_PAGE)
            for (uint32_t i = 0; i < count; i++)
                batch->slots[i] = batch->slots[picks[i]];
        else if (source->form == BATCH_ROWS)
            for (uint32_t i = 0; i < count; i++)
                source->rows[i] = source->rows[picks[i]];
        else
            moved = true;
    }
    for (uint32_t i = 0; moved && i < count; i++)
        batch->moved_rows[i] = batch->moved_rows[picks[i]];
    for (uint16_t c = 0; c < exec->column_count; c++) {
        if (!batch->buffers[c]) continue;
        if (exec->columns[c].last_use > step)
            vector_take(&batch->vectors[c], &batch->vectors[c], picks, count);
        else
            forget_column(exec, batch, c);
    }
    batch->count = count;
}

/* Slots of a page become row numbers: picks may repeat rows, and number more than a page has. */
static void copy_source(struct batch *to, const struct batch *from, uint16_t s,
                        const uint16_t *picks, uint32_t count)
{
    const struct batch_source *source = &from->sources[s];
    uint32_t *rows = to->sources[s].rows;
    to->sources[s].fragment = source->fragment;
    to->sources[s].form = source->form == BATCH_MOVED ? BATCH_MOVED : BATCH_ROWS;
    if (source->form == BATCH_ROWS) {
        for (uint32_t i = 0; i < count; i++)
            rows[i] = source->rows[picks[i]];
    } else if (source->form == BATCH_PAGE) {
        for (uint32_t i = 0; i < count; i++)
            rows[i] = from->page * FRAGMENT_PAGE_ROWS + from->slots[picks[i]];
    }
}

enum err batch_copy(struct query_exec *exec, struct batch *to, const struct batch *from,
                    const uint16_t *picks, uint32_t count, uint32_t step)
{
    ASSERT(!to->count && count && count <= QUERY_VECTOR_ROWS);
    for (uint16_t s = 0; s < from->source_count; s++)
        copy_source(to, from, s, picks, count);
    to->source_count = from->source_count;
    to->partition = from->partition;
    to->count = count;
    if (from->moved) {
        to->moved = from->moved;
        to->moved->refs++;
        for (uint32_t i = 0; i < count; i++)
            to->moved_rows[i] = from->moved_rows[picks[i]];
    }
    for (uint16_t c = 0; c < exec->column_count; c++) {
        if (!from->buffers[c] || exec->columns[c].last_use <= step) continue;
        enum err err = vector_acquire(&exec->pool, &to->buffers[c]);
        if (err) {
            batch_clear(exec, to);
            return err;
        }
        to->vectors[c] = vector_in(to->buffers[c], from->vectors[c].kind, from->vectors[c].scale);
        vector_take(&to->vectors[c], &from->vectors[c], picks, count);
    }
    return ERR_NONE;
}

void batch_move(struct batch *to, struct batch *from)
{
    ASSERT(!to->count && !to->moved);
    struct batch empty = *to; /* its arrays, as many as those of `from` */
    *to = *from;
    *from = empty;
}

/* How many rows from i on are in one page, ascending, which is what gathering from it takes. */
static uint32_t page_run(const struct batch *batch, const uint32_t *rows, uint32_t i,
                         uint16_t slots[FRAGMENT_PAGE_ROWS])
{
    uint32_t page = rows[i] / FRAGMENT_PAGE_ROWS;
    uint32_t count = 0;
    do {
        slots[count] = (uint16_t)(rows[i + count] % FRAGMENT_PAGE_ROWS);
        count++;
    } while (i + count < batch->count && rows[i + count] > rows[i + count - 1] &&
             rows[i + count] / FRAGMENT_PAGE_ROWS == page);
    return count;
}

/* Row numbers to slots, run by run. */
static void gather_rows(struct query_exec *exec, const struct batch *batch, uint16_t column,
                        struct vector *vector)
{
    const struct exec_column *def = &exec->columns[column];
    const struct batch_source *source = &batch->sources[def->source];
    uint16_t slots[FRAGMENT_PAGE_ROWS];
    bool any_nulls = false;
    for (uint32_t i = 0; i < batch->count;) {
        uint32_t page = source->rows[i] / FRAGMENT_PAGE_ROWS;
        uint32_t count = page_run(batch, source->rows, i, slots);
        struct vector part = vector_slice(vector, i, count);
        part.nulls = vector->nulls + i;
        fragment_page_gather(source->fragment, page, exec->run.ts, def->column, slots, count,
                             &part);
        if (!part.has_nulls && any_nulls) memset(vector->nulls + i, 0, count);
        if (part.has_nulls && !any_nulls) memset(vector->nulls, 0, i);
        any_nulls |= part.has_nulls;
        i += count;
    }
    vector->has_nulls = any_nulls;
}

enum err batch_column(struct query_exec *exec, struct batch *batch, uint16_t column,
                      const struct vector **ret_vector)
{
    const struct exec_column *def = &exec->columns[column];
    struct vector *vector = &batch->vectors[column];
    if (batch->buffers[column]) {
        *ret_vector = vector;
        return ERR_NONE;
    }
    ASSERT(def->source < batch->source_count && batch->count);
    enum err err = vector_acquire(&exec->pool, &batch->buffers[column]);
    if (err) return err;
    *vector = vector_in(batch->buffers[column], def->type.kind, def->type.scale);
    vector->count = batch->count;
    const struct batch_source *source = &batch->sources[def->source];
    switch (source->form) {
    case BATCH_PAGE:
        fragment_page_gather(source->fragment, batch->page, exec->run.ts, def->column, batch->slots,
                             batch->count, vector);
        break;
    case BATCH_ROWS:
        gather_rows(exec, batch, column, vector);
        break;
    case BATCH_MOVED:
        vector_take(vector, &batch->moved->vectors[column], batch->moved_rows, batch->count);
        break;
    }
    vector->count = batch->count;
    *ret_vector = vector;
    return ERR_NONE;
}

struct batch_context {
    struct query_exec *exec;
    struct batch *batch;
};

static enum err provide_column(void *context, uint8_t source, uint16_t column,
                               const struct vector **ret_vector)
{
    struct batch_context *at = context;
    int16_t number = at->exec->sources[source].columns[column];
    ASSERT(number >= 0);
    return batch_column(at->exec, at->batch, (uint16_t)number, ret_vector);
}

enum err batch_eval(struct query_exec *exec, struct batch *batch, struct vexpr *vexpr,
                    const struct vector **ret_vector)
{
    struct batch_context context = {.exec = exec, .batch = batch};
    struct vexpr_input input = {.column = provide_column,
                                .context = &context,
                                .count = batch->count,
                                .memory = &exec->memory,
                                .scratch = &exec->scratch};
    return vexpr_eval(vexpr, &input, ret_vector);
}

enum step_result batch_filter(struct query_exec *exec, struct batch *batch)
{
    const struct exec_source *source = &exec->sources[batch->source_count - 1];
    for (uint16_t c = 0; c < source->conjunct_count && batch->count; c++) {
        const struct vector *result;
        uint16_t picks[QUERY_VECTOR_ROWS];
        enum err err = batch_eval(exec, batch, &source->conjuncts[c], &result);
        if (err)
            return exec_fail(exec, err, "%s in the filter of table %s", err_text(err),
                             source->table->name);
        uint32_t picked = vexpr_select(result, batch->count, picks);
        if (picked == batch->count) continue;
        if (!picked)
            batch_clear(exec, batch);
        else
            batch_compact(exec, batch, picks, picked, source->conjunct_steps[c]);
    }
    return STEP_DONE;
}

void moved_release(struct query_exec *exec, struct moved *moved)
{
    ASSERT(moved->refs);
    if (--moved->refs) return;
    exec->moves_taken++;
    struct buf body = {.bytes = &moved->source, .size = 1, .capacity = 1};
    if (exec->host.send_moved) {
        enum err err = exec->host.send_moved(exec->host.context, moved->from, &body);
        if (err) exec_fail(exec, err, "%s", err_text(err));
    }
    query_arena_fini(&exec->memory, &moved->arena);
    query_free(&exec->memory, moved, moved->size);
}
