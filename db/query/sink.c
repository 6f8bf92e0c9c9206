/* The end of the pipeline on a worker: rows of all sources are aggregated here, or become result
 * rows.
 *
 * With an aggregation, nothing is sent before everything is done; then come the groups with the
 * aggregates' states, up to a thousand at a time, and after them the values of each COUNT(DISTINCT
 * …) with their keys.
 *
 * Without one, rows are sent as they come, as credit allows. DISTINCT drops the rows that this
 * worker has sent already; ORDER BY with LIMIT keeps the first of this worker's rows and sends
 * those at the end, unordered; LIMIT alone stops the scan. Whatever is dropped here cannot be in
 * the result; the coordinator does the same again over all workers. */
#include "db/query/pipeline.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/query/distinct.h"

/* Of more rows than this the coordinator does all the sorting: heaps on workers would take long
 * steps. */
enum { SORTED_ROWS_MAX = 1 << 16 };
/* Of groups and distinct values, into the first message that is tried. */
enum { PIECE_ROWS_FIRST = 128 };

/* ---- creation ---- */

/* How many bits the values of a group key need, when that is known to be few. */
static struct group_width width_of(const struct query_exec *exec, const struct vexpr *vexpr)
{
    const struct expr_ins *ins = &vexpr->expr->ins[vexpr->root];
    if (ins->op == EXPR_LOG2) return (struct group_width){.bits = 8, .nullable = true};
    if (ins->op != EXPR_COLUMN) return (struct group_width){0};
    const struct column_def *column = &exec->sources[ins->a].table->columns[ins->x];
    struct group_width width = {.nullable = column->nullable};
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
    case TYPE_TINYINT_UNSIGNED:
        width.bits = 8;
        break;
    case TYPE_SMALLINT:
    case TYPE_SMALLINT_UNSIGNED:
        width.bits = 16;
        break;
    case TYPE_INT:
    case TYPE_INT_UNSIGNED:
    case TYPE_DATE:
        width.bits = 32;
        break;
    default:
        break;
    }
    return width;
}

static enum err alloc_vexprs(struct query_exec *exec, uint16_t count, struct vexpr **ret_vexprs)
{
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct vexpr), count, &at);
    if (!err) *ret_vexprs = at;
    return err;
}

static enum err init_vexpr(struct query_exec *exec, const struct query_scope *scope,
                           const struct expr *expr, struct vexpr *vexpr)
{
    return vexpr_init(vexpr, expr, (uint16_t)(expr->ins_count - 1), scope, &exec->registers,
                      &exec->memory, &exec->arena);
}

static enum err init_groups(struct query_exec *exec, const struct query_scope *scope)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    struct query_type types[QUERY_GROUPS_MAX];
    struct group_width widths[QUERY_GROUPS_MAX];
    uint8_t collations[QUERY_GROUPS_MAX];
    enum err err = alloc_vexprs(exec, tree->group_count, &sink->groups);
    for (uint16_t i = 0; !err && i < tree->group_count; i++) {
        err = init_vexpr(exec, scope, &tree->groups[i].expr, &sink->groups[i]);
        if (err) break;
        types[i] = vexpr_type(&sink->groups[i]);
        widths[i] = width_of(exec, &sink->groups[i]);
        collations[i] = tree->groups[i].collation;
    }
    if (err) return err;
    return groups_init(&sink->table, &exec->memory, tree->group_count, types, collations, widths);
}

static enum err init_aggregates(struct query_exec *exec, const struct query_scope *scope)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct aggregate), tree->aggregate_count, &at);
    if (err) return err;
    sink->aggregates = at;
    err = alloc_vexprs(exec, tree->aggregate_count, &sink->arguments);
    for (uint16_t i = 0; !err && i < tree->aggregate_count; i++) {
        const struct query_aggregate *definition = &tree->aggregates[i];
        struct query_type type = {0};
        if (definition->fn != AGG_COUNT_STAR) {
            err = init_vexpr(exec, scope, &definition->argument, &sink->arguments[i]);
            if (err) return err;
            type = vexpr_type(&sink->arguments[i]);
        }
        err = aggregate_init(&sink->aggregates[i], &exec->memory, definition, type);
        if (!err) err = aggregate_resize(&sink->aggregates[i], sink->table.count);
        if (!err) aggregate_count_by_rows(&sink->aggregates[i]);
    }
    return err;
}

static enum err init_outputs(struct query_exec *exec, const struct query_scope *scope)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    enum err err = alloc_vexprs(exec, tree->output_count, &sink->outputs);
    for (uint16_t i = 0; !err && i < tree->output_count; i++)
        err = init_vexpr(exec, scope, &tree->outputs[i].expr, &sink->outputs[i]);
    if (err) return err;
    uint64_t wanted = UINT64_MAX;
    if (tree->has_limit && __builtin_add_overflow(tree->limit, tree->offset, &wanted))
        wanted = UINT64_MAX;
    if (tree->distinct) {
        sink->has_distinct = true;
        result_distinct_init(&sink->distinct, tree, &exec->memory);
    }
    if (tree->order_count && wanted <= SORTED_ROWS_MAX) {
        sink->has_sort = true;
        result_sort_init(&sink->sort, tree, &exec->memory, wanted);
    }
    sink->rows_left = tree->order_count ? UINT64_MAX : wanted;
    sink->full = wanted == 0;
    return collector_init(&sink->rows, &exec->memory, &exec->pool, &exec->arena,
                          tree->output_count);
}

enum err sink_init(struct query_exec *exec, const struct query_scope *scope, uint32_t step)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    sink->step = step;
    size_t vector_count = QUERY_GROUPS_MAX + QUERY_AGGREGATES_MAX + QUERY_OUTPUTS_MAX;
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct vector *), vector_count, &at);
    if (err) return err;
    sink->vectors = at;
    if (!tree->has_aggregation) return init_outputs(exec, scope);
    err = init_groups(exec, scope);
    if (!err) err = init_aggregates(exec, scope);
    return err;
}

static void fini_vexprs(struct vexpr *vexprs, uint16_t count)
{
    for (uint16_t i = 0; vexprs && i < count; i++)
        vexpr_fini(&vexprs[i]);
}

void sink_fini(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    fini_vexprs(sink->groups, exec->tree->group_count);
    fini_vexprs(sink->arguments, exec->tree->aggregate_count);
    fini_vexprs(sink->outputs, exec->tree->output_count);
    for (uint16_t i = 0; sink->aggregates && i < exec->tree->aggregate_count; i++)
        aggregate_fini(&sink->aggregates[i]);
    groups_fini(&sink->table);
    result_distinct_fini(&sink->distinct);
    result_sort_fini(&sink->sort);
    collector_fini(&sink->rows);
}

/* ---- aggregation ---- */

static enum step_result aggregate_step(struct query_exec *exec)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    struct batch *batch = &exec->last;
    uint32_t ids[QUERY_VECTOR_ROWS];
    for (uint16_t i = 0; i < tree->group_count; i++) {
        enum err err = batch_eval(exec, batch, &sink->groups[i], &sink->vectors[i]);
        if (err) return exec_fail(exec, err, "%s in GROUP BY expression %u", err_text(err), i + 1u);
    }
    bool one_group;
    enum err err = groups_find(&sink->table, sink->vectors, batch->count, ids, &one_group);
    if (err) return exec_fail(exec, err, "%s: GROUP BY", err_text(err));
    for (uint16_t i = 0; i < tree->aggregate_count; i++) {
        const struct vector *argument = NULL;
        if (sink->arguments[i].expr) err = batch_eval(exec, batch, &sink->arguments[i], &argument);
        if (!err) err = aggregate_resize(&sink->aggregates[i], sink->table.count);
        if (!err)
            err = aggregate_update(&sink->aggregates[i], argument, ids, one_group, batch->count);
        if (err)
            return exec_fail(exec, err, "%s in the argument of aggregate %u", err_text(err),
                             i + 1u);
    }
    batch_clear(exec, batch);
    return STEP_DONE;
}

/* ---- rows ---- */

static enum step_result eval_outputs(struct query_exec *exec)
{
    const struct query_tree *tree = exec->tree;
    struct sink *sink = &exec->sink;
    for (uint16_t i = 0; i < tree->output_count; i++) {
        enum err err = batch_eval(exec, &exec->last, &sink->outputs[i], &sink->vectors[i]);
        if (err)
            return exec_fail(exec, err, "%s in output column %s", err_text(err),
                             tree->outputs[i].name);
    }
    return STEP_DONE;
}

/* Drops from the last box the rows that were seen before. */
static enum step_result deduplicate(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    uint16_t picks[QUERY_VECTOR_ROWS];
    uint32_t picked;
    if (eval_outputs(exec) == STEP_FAILED) return STEP_FAILED;
    enum err err =
        result_distinct_add(&sink->distinct, sink->vectors, exec->last.count, picks, &picked);
    if (err) return exec_fail(exec, err, "%s: DISTINCT", err_text(err));
    sink->deduplicated = true;
    if (!picked)
        batch_clear(exec, &exec->last);
    else if (picked < exec->last.count)
        batch_compact(exec, &exec->last, picks, picked, sink->step - 1);
    return STEP_DONE;
}

static void end_box(struct query_exec *exec)
{
    batch_clear(exec, &exec->last);
    exec->sink.deduplicated = false;
    exec->sink.batch_next = 0;
}

static enum step_result send_collected(struct query_exec *exec)
{
    struct collector *rows = &exec->sink.rows;
    if (!exec->row_credits) return STEP_NOTHING;
    exec_rows_begin(exec, QUERY_ROWS_BATCH);
    buf_put_u32(&exec->buf, rows->row_count);
    collector_encode(rows, &exec->buf);
    collector_clear(rows);
    return exec_rows_send(exec);
}

static enum step_result collect_step(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    if (collector_is_full(&sink->rows)) return send_collected(exec);
    if (eval_outputs(exec) == STEP_FAILED) return STEP_FAILED;
    uint64_t count = exec->last.count - sink->batch_next;
    if (count > sink->rows_left) count = sink->rows_left;
    uint32_t taken;
    enum err err =
        collector_add(&sink->rows, sink->vectors, NULL, sink->batch_next, (uint32_t)count, &taken);
    if (err) return exec_fail(exec, err, "%s", err_text(err));
    sink->batch_next += taken;
    if (sink->rows_left != UINT64_MAX) sink->rows_left -= taken;
    sink->full = sink->rows_left == 0;
    if (sink->full || sink->batch_next == exec->last.count) end_box(exec);
    return STEP_DONE;
}

static enum step_result rows_step(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    if (sink->full) {
        end_box(exec);
        return STEP_DONE;
    }
    if (sink->has_distinct && !sink->deduplicated) {
        enum step_result result = deduplicate(exec);
        if (result == STEP_FAILED) return result;
        if (!exec->last.count) {
            end_box(exec);
            return STEP_DONE;
        }
    }
    if (!sink->has_sort) return collect_step(exec);
    if (eval_outputs(exec) == STEP_FAILED) return STEP_FAILED;
    enum err err = result_sort_add(&sink->sort, sink->vectors, NULL, exec->last.count);
    if (err) return exec_fail(exec, err, "%s: ORDER BY", err_text(err));
    end_box(exec);
    return STEP_DONE;
}

enum step_result sink_step(struct query_exec *exec)
{
    return exec->tree->has_aggregation ? aggregate_step(exec) : rows_step(exec);
}

/* ---- sending the results ---- */

static void encode_groups(struct query_exec *exec, uint32_t first, uint32_t count)
{
    struct sink *sink = &exec->sink;
    exec_rows_begin(exec, QUERY_ROWS_GROUPS);
    buf_put_u32(&exec->buf, count);
    for (uint16_t k = 0; k < exec->tree->group_count; k++) {
        struct vector key = groups_key(&sink->table, k, first, count);
        vector_encode(&key, &exec->buf);
    }
    for (uint16_t i = 0; i < exec->tree->aggregate_count; i++)
        aggregate_encode(&sink->aggregates[i], sink->table.rows, first, count, &exec->buf);
}

/* How many of what is left to try to put into the next message: twice what fitted into the last, so
 * that long values are not encoded over and over, nor a thousand of them at once. */
static uint32_t piece_rows(const struct sink *sink, uint64_t left)
{
    uint32_t most = sink->piece ? 2 * sink->piece : PIECE_ROWS_FIRST;
    if (most > QUERY_VECTOR_ROWS) most = QUERY_VECTOR_ROWS;
    return left < most ? (uint32_t)left : most;
}

/* As many groups as make a message of a good size. */
static enum step_result send_groups(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    uint32_t count = piece_rows(sink, sink->table.count - sink->sent);
    encode_groups(exec, (uint32_t)sink->sent, count);
    while (count > 1 && exec->buf.size > QUERY_MESSAGE_SIZE) {
        count /= 2;
        encode_groups(exec, (uint32_t)sink->sent, count);
    }
    sink->sent += count;
    sink->piece = count;
    return exec_rows_send(exec);
}

/* The keys of the groups that these entries belong to, in column k. */
static void entry_keys(const struct sink *sink, uint16_t k, const struct distinct_entry *entries,
                       uint32_t count, struct vector *vector)
{
    for (uint32_t i = 0; i < count; i++) {
        struct vector key = groups_key(&sink->table, k, entries[i].group, 1);
        vector_set(vector, i, vector_value(&key, 0));
    }
    vector->count = count;
}

static void entry_values(const struct aggregate *aggregate, const struct distinct_entry *entries,
                         uint32_t count, struct vector *vector)
{
    for (uint32_t i = 0; i < count; i++) {
        struct value value = {.kind = aggregate->kind, .scale = aggregate->scale};
        if (aggregate->kind == KIND_STR)
            value = value_str(entries[i].bytes, entries[i].size);
        else
            value.u = entries[i].bits;
        vector_set(vector, i, value);
    }
    vector->count = count;
}

/* One column of the message: key k, or with k = group_count the values. */
static enum err encode_entries(struct query_exec *exec, uint16_t k,
                               const struct distinct_entry *entries, uint32_t count)
{
    struct sink *sink = &exec->sink;
    const struct aggregate *aggregate = &sink->aggregates[sink->aggregate];
    struct vector_buffer *buffer;
    enum err err = vector_acquire(&exec->pool, &buffer);
    if (err) return err;
    struct vector vector;
    if (k < exec->tree->group_count) {
        struct query_type type = sink->table.keys[k].type;
        vector = vector_in(buffer, type.kind, type.kind == KIND_DEC ? type.scale : 0);
        entry_keys(sink, k, entries, count, &vector);
    } else {
        vector = vector_in(buffer, aggregate->kind, aggregate->scale);
        entry_values(aggregate, entries, count, &vector);
    }
    vector_encode(&vector, &exec->buf);
    vector_release(&exec->pool, buffer);
    return ERR_NONE;
}

static enum step_result send_distinct(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    const struct distinct_set *set = sink->aggregates[sink->aggregate].distinct;
    uint32_t count = piece_rows(sink, set->count - sink->sent_distinct);
    for (;;) {
        exec_rows_begin(exec, QUERY_ROWS_DISTINCT);
        buf_put_u16(&exec->buf, sink->aggregate);
        buf_put_u32(&exec->buf, count);
        for (uint16_t k = 0; k <= exec->tree->group_count; k++) {
            enum err err = encode_entries(exec, k, set->entries + sink->sent_distinct, count);
            if (err) return exec_fail(exec, err, "%s", err_text(err));
        }
        if (count == 1 || exec->buf.size <= QUERY_MESSAGE_SIZE) break;
        count /= 2;
    }
    sink->sent_distinct += count;
    sink->piece = count;
    return exec_rows_send(exec);
}

static enum step_result send_aggregation(struct query_exec *exec, bool *ret_end)
{
    struct sink *sink = &exec->sink;
    if (sink->sent < sink->table.count) return exec->row_credits ? send_groups(exec) : STEP_NOTHING;
    for (; sink->aggregate < exec->tree->aggregate_count; sink->aggregate++) {
        const struct distinct_set *set = sink->aggregates[sink->aggregate].distinct;
        if (set && sink->sent_distinct < set->count)
            return exec->row_credits ? send_distinct(exec) : STEP_NOTHING;
        sink->sent_distinct = 0;
    }
    *ret_end = true;
    return STEP_DONE;
}

/* The rows that ORDER BY and LIMIT have kept go through the collector, one by one: they are few. */
static enum step_result collect_sorted(struct query_exec *exec)
{
    struct sink *sink = &exec->sink;
    uint16_t count = exec->tree->output_count;
    while (sink->sent < sink->sort.count && !collector_is_full(&sink->rows)) {
        const struct value *values = result_sort_row(&sink->sort, sink->sent);
        struct vector vectors[QUERY_OUTPUTS_MAX];
        struct vector_str texts[QUERY_OUTPUTS_MAX];
        uint64_t numbers[QUERY_OUTPUTS_MAX];
        uint8_t nulls[QUERY_OUTPUTS_MAX];
        for (uint16_t k = 0; k < count; k++) {
            struct query_type type = vexpr_type(&sink->outputs[k]);
            bool text = type.kind == KIND_STR;
            nulls[k] = value_is_null(values[k]);
            vectors[k] = (struct vector){.kind = type.kind,
                                         .scale = type.kind == KIND_DEC ? type.scale : (uint8_t)0,
                                         .has_nulls = nulls[k],
                                         .count = 1,
                                         .nulls = &nulls[k]};
            texts[k] = (struct vector_str){.bytes = values[k].bytes, .size = values[k].size};
            numbers[k] = values[k].u;
            if (text)
                vectors[k].str = &texts[k];
            else
                vectors[k].u = &numbers[k];
            sink->vectors[k] = &vectors[k];
        }
        uint32_t taken;
        enum err err = collector_add(&sink->rows, sink->vectors, NULL, 0, 1, &taken);
        if (err) return exec_fail(exec, err, "%s", err_text(err));
        sink->sent += taken;
    }
    return STEP_DONE;
}

enum step_result sink_send(struct query_exec *exec, bool *ret_end)
{
    struct sink *sink = &exec->sink;
    if (exec->tree->has_aggregation) return send_aggregation(exec, ret_end);
    if (sink->has_sort && sink->sent < sink->sort.count && !collector_is_full(&sink->rows))
        return collect_sorted(exec);
    if (sink->rows.row_count) return send_collected(exec);
    *ret_end = true;
    return STEP_DONE;
}
