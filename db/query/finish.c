/* Merging and finishing: see finish.h.
 *
 * Rows reach the client from a chunk: up to QUERY_VECTOR_ROWS rows as vectors of the outputs, of
 * which some are picked (HAVING, DISTINCT). A chunk is a message of the workers, or a thousand
 * groups once all groups are merged. With ORDER BY all chunks go through a sort first. OFFSET and
 * LIMIT are applied at the very end. */
#include "db/query/finish.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/query/aggregate.h"
#include "db/query/group.h"
#include "db/query/result.h"
#include "db/query/vexpr.h"

struct query_finish {
    const struct query_tree *tree;
    struct query_memory memory;
    struct vector_pool pool;
    struct vector_pool registers; /* of expressions: see pipeline.h */
    struct arena arena;           /* what lives as long as this */
    struct arena scratch;         /* of the chunk */
    struct query_type output_types[QUERY_OUTPUTS_MAX];
    /* aggregation */
    struct query_scope scope;
    struct groups groups;
    struct aggregate *aggregates;
    struct vexpr having;
    struct vexpr *outputs;
    uint64_t group_next;
    /* the chunk */
    uint32_t count; /* rows picked */
    uint32_t next;
    const struct vector *vectors[QUERY_OUTPUTS_MAX];
    struct vector decoded[QUERY_OUTPUTS_MAX];
    uint16_t picks[QUERY_VECTOR_ROWS];
    uint32_t ids[QUERY_VECTOR_ROWS]; /* groups of the chunk */
    uint32_t id_count;
    struct vector *columns; /* of the chunk's groups: keys, then aggregates */
    struct vector_buffer **buffers;
    /* the end */
    struct result_distinct distinct;
    struct result_sort sort;
    uint64_t sort_next;
    uint64_t offset_left;
    uint64_t limit_left;
    bool ended;
    struct value row[QUERY_OUTPUTS_MAX];
};

/* ---- creation ---- */

static enum err alloc(struct query_finish *finish, size_t size, size_t count, void **ret_at)
{
    enum err err = query_arena_alloc(&finish->memory, &finish->arena, size * count, ret_at);
    if (!err) memset(*ret_at, 0, size * count);
    return err;
}

static enum err find_output_types(struct query_finish *finish)
{
    for (uint16_t i = 0; i < finish->tree->output_count; i++) {
        const struct expr *expr = &finish->tree->outputs[i].expr;
        void *types;
        enum err err = alloc(finish, sizeof(struct query_type), expr->ins_count, &types);
        if (!err) err = query_expr_types(expr, &finish->scope, types);
        if (err) return err;
        finish->output_types[i] = ((struct query_type *)types)[expr->ins_count - 1];
        if (finish->output_types[i].scale == QUERY_SCALE_ANY) finish->output_types[i].scale = 0;
    }
    return ERR_NONE;
}

static enum err init_vexpr(struct query_finish *finish, const struct expr *expr,
                           struct vexpr *vexpr)
{
    return vexpr_init(vexpr, expr, (uint16_t)(expr->ins_count - 1), &finish->scope,
                      &finish->registers, &finish->memory, &finish->arena);
}

static enum err argument_type(struct query_finish *finish, const struct query_scope *sources,
                              const struct query_aggregate *aggregate, struct query_type *ret_type)
{
    const struct expr *expr = &aggregate->argument;
    *ret_type = (struct query_type){0};
    if (aggregate->fn == AGG_COUNT_STAR) return ERR_NONE;
    void *types;
    enum err err = alloc(finish, sizeof(struct query_type), expr->ins_count, &types);
    if (!err) err = query_expr_types(expr, sources, types);
    if (!err) *ret_type = ((struct query_type *)types)[expr->ins_count - 1];
    return err;
}

static enum err init_aggregation(struct query_finish *finish, const struct catalog *catalog)
{
    const struct query_tree *tree = finish->tree;
    uint8_t collations[QUERY_GROUPS_MAX];
    for (uint16_t i = 0; i < tree->group_count; i++)
        collations[i] = tree->groups[i].collation;
    enum err err = groups_init(&finish->groups, &finish->memory, tree->group_count,
                               finish->scope.groups, collations, NULL);
    if (err) return err;
    struct query_scope sources;
    query_scope_sources(tree, catalog, tree->source_count, &sources);
    void *at;
    err = alloc(finish, sizeof(struct aggregate), tree->aggregate_count, &at);
    if (err) return err;
    finish->aggregates = at;
    for (uint16_t i = 0; !err && i < tree->aggregate_count; i++) {
        struct query_type type;
        err = argument_type(finish, &sources, &tree->aggregates[i], &type);
        if (!err)
            err =
                aggregate_init(&finish->aggregates[i], &finish->memory, &tree->aggregates[i], type);
        if (!err) err = aggregate_resize(&finish->aggregates[i], finish->groups.count);
    }
    size_t column_count = tree->group_count + (size_t)tree->aggregate_count;
    if (!err) err = alloc(finish, sizeof(struct vector), column_count, &at);
    if (err) return err;
    finish->columns = at;
    err = alloc(finish, sizeof(struct vector_buffer *), column_count, &at);
    if (err) return err;
    finish->buffers = at;
    if (tree->has_having) err = init_vexpr(finish, &tree->having, &finish->having);
    if (!err) err = alloc(finish, sizeof(struct vexpr), tree->output_count, &at);
    if (err) return err;
    finish->outputs = at;
    for (uint16_t i = 0; !err && i < tree->output_count; i++)
        err = init_vexpr(finish, &tree->outputs[i].expr, &finish->outputs[i]);
    return err;
}

static enum err prepare(struct query_finish *finish, const struct catalog *catalog)
{
    const struct query_tree *tree = finish->tree;
    enum err err = ERR_NONE;
    if (tree->has_aggregation)
        err = query_scope_groups(tree, catalog, &finish->arena, &finish->scope);
    else
        query_scope_sources(tree, catalog, tree->source_count, &finish->scope);
    /* The scope's memory was not counted when it was taken. */
    if (!err) err = query_memory_take(&finish->memory, finish->arena.size);
    if (err) {
        arena_fini(&finish->arena);
        return err;
    }
    err = find_output_types(finish);
    if (!err && tree->has_aggregation) err = init_aggregation(finish, catalog);
    if (err) return err;
    if (tree->distinct) result_distinct_init(&finish->distinct, tree, &finish->memory);
    finish->offset_left = tree->offset;
    finish->limit_left = tree->has_limit ? tree->limit : UINT64_MAX;
    uint64_t wanted;
    if (__builtin_add_overflow(finish->limit_left, finish->offset_left, &wanted))
        wanted = UINT64_MAX;
    if (tree->order_count) result_sort_init(&finish->sort, tree, &finish->memory, wanted);
    return ERR_NONE;
}

enum err query_finish_create(const struct query_tree *tree, const struct catalog *catalog,
                             uint64_t memory_max, struct query_finish **ret_finish,
                             struct diag *diag)
{
    struct query_finish *finish = calloc(1, sizeof(*finish));
    if (!finish) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    finish->tree = tree;
    query_memory_init(&finish->memory, memory_max);
    vector_pool_init(&finish->pool, &finish->memory);
    vector_pool_init(&finish->registers, &finish->memory);
    arena_init(&finish->arena, 0);
    arena_init(&finish->scratch, 0);
    enum err err = prepare(finish, catalog);
    if (err) {
        query_finish_destroy(finish);
        return diag_set(diag, err, "%s", err_text(err));
    }
    *ret_finish = finish;
    return ERR_NONE;
}

static void release_columns(struct query_finish *finish)
{
    size_t column_count = finish->tree->group_count + (size_t)finish->tree->aggregate_count;
    for (size_t i = 0; finish->buffers && i < column_count; i++) {
        vector_release(&finish->pool, finish->buffers[i]);
        finish->buffers[i] = NULL;
    }
}

void query_finish_destroy(struct query_finish *finish)
{
    if (!finish) return;
    const struct query_tree *tree = finish->tree;
    release_columns(finish);
    for (uint16_t i = 0; finish->outputs && i < tree->output_count; i++)
        vexpr_fini(&finish->outputs[i]);
    vexpr_fini(&finish->having);
    for (uint16_t i = 0; finish->aggregates && i < tree->aggregate_count; i++)
        aggregate_fini(&finish->aggregates[i]);
    groups_fini(&finish->groups);
    result_distinct_fini(&finish->distinct);
    result_sort_fini(&finish->sort);
    vector_pool_fini(&finish->registers);
    vector_pool_fini(&finish->pool);
    query_arena_fini(&finish->memory, &finish->scratch);
    query_arena_fini(&finish->memory, &finish->arena);
    ASSERT(!finish->memory.used);
    free(finish);
}

uint64_t query_finish_memory_peak(const struct query_finish *finish)
{
    return finish->memory.peak;
}

/* ---- taking messages ---- */

static enum err read_count(struct reader *reader, uint32_t *ret_count)
{
    uint32_t count = reader_u32(reader);
    if (reader->failed || !count || count > QUERY_VECTOR_ROWS) return ERR_BAD_SIGNAL;
    *ret_count = count;
    return ERR_NONE;
}

/* Rows were put into finish->vectors: drops duplicates, and with ORDER BY takes them into the sort.
 */
static enum err take_chunk(struct query_finish *finish, uint32_t count, struct diag *diag)
{
    uint32_t picked = count;
    finish->next = 0;
    finish->count = 0;
    enum err err = ERR_NONE;
    if (finish->tree->distinct) {
        err =
            result_distinct_add(&finish->distinct, finish->vectors, count, finish->picks, &picked);
        if (err) return diag_set(diag, err, "%s: DISTINCT", err_text(err));
    } else {
        for (uint32_t i = 0; i < count; i++)
            finish->picks[i] = (uint16_t)i;
    }
    if (!finish->tree->order_count) {
        finish->count = picked;
        return ERR_NONE;
    }
    err = result_sort_add(&finish->sort, finish->vectors, finish->picks, picked);
    return err ? diag_set(diag, err, "%s: ORDER BY", err_text(err)) : ERR_NONE;
}

static enum err take_batch(struct query_finish *finish, struct reader *reader, struct diag *diag)
{
    const struct query_tree *tree = finish->tree;
    uint32_t count;
    ASSERT(finish->next == finish->count);
    query_arena_reset(&finish->memory, &finish->scratch);
    if (tree->has_aggregation) return ERR_BAD_SIGNAL;
    enum err err = read_count(reader, &count);
    for (uint16_t k = 0; !err && k < tree->output_count; k++) {
        struct query_type type = finish->output_types[k];
        err = vector_decode(reader, &finish->memory, &finish->scratch, type.kind, type.scale, count,
                            &finish->decoded[k]);
        finish->vectors[k] = &finish->decoded[k];
    }
    if (!err && reader_left(reader)) err = ERR_BAD_SIGNAL;
    return err ? err : take_chunk(finish, count, diag);
}

/* The groups that the key vectors in the message name. */
static enum err take_keys(struct query_finish *finish, struct reader *reader, uint32_t count)
{
    struct vector keys[QUERY_GROUPS_MAX];
    const struct vector *pointers[QUERY_GROUPS_MAX];
    for (uint16_t k = 0; k < finish->tree->group_count; k++) {
        struct query_type type = finish->scope.groups[k];
        enum err err = vector_decode(reader, &finish->memory, &finish->scratch, type.kind,
                                     type.scale, count, &keys[k]);
        if (err) return err;
        pointers[k] = &keys[k];
    }
    bool one_group;
    enum err err = groups_find(&finish->groups, pointers, count, finish->ids, &one_group);
    for (uint16_t i = 0; !err && i < finish->tree->aggregate_count; i++)
        err = aggregate_resize(&finish->aggregates[i], finish->groups.count);
    return err;
}

static enum err take_groups(struct query_finish *finish, struct reader *reader)
{
    uint32_t count;
    enum err err = read_count(reader, &count);
    if (!err) err = take_keys(finish, reader, count);
    for (uint16_t i = 0; !err && i < finish->tree->aggregate_count; i++)
        err = aggregate_merge(&finish->aggregates[i], reader, finish->ids, count);
    if (!err && (reader->failed || reader_left(reader))) err = ERR_BAD_SIGNAL;
    return err;
}

static enum err take_distinct(struct query_finish *finish, struct reader *reader)
{
    uint16_t number = reader_u16(reader);
    if (reader->failed || number >= finish->tree->aggregate_count) return ERR_BAD_SIGNAL;
    struct aggregate *aggregate = &finish->aggregates[number];
    if (!aggregate->distinct) return ERR_BAD_SIGNAL;
    uint32_t count;
    struct vector values;
    enum err err = read_count(reader, &count);
    if (!err) err = take_keys(finish, reader, count);
    if (!err)
        err = vector_decode(reader, &finish->memory, &finish->scratch, aggregate->kind,
                            aggregate->scale, count, &values);
    if (!err && reader_left(reader)) err = ERR_BAD_SIGNAL;
    return err ? err : aggregate_update(aggregate, &values, finish->ids, false, count);
}

enum err query_finish_take(struct query_finish *finish, enum query_rows_kind kind,
                           struct reader *reader, struct diag *diag)
{
    ASSERT(!finish->ended);
    if (kind == QUERY_ROWS_BATCH) {
        enum err err = take_batch(finish, reader, diag);
        return err == ERR_BAD_SIGNAL ? diag_set(diag, err, "%s", err_text(err)) : err;
    }
    query_arena_reset(&finish->memory, &finish->scratch);
    enum err err = ERR_BAD_SIGNAL;
    if (finish->tree->has_aggregation && kind == QUERY_ROWS_GROUPS)
        err = take_groups(finish, reader);
    else if (finish->tree->has_aggregation && kind == QUERY_ROWS_DISTINCT)
        err = take_distinct(finish, reader);
    return err ? diag_set(diag, err, "%s: merging groups", err_text(err)) : ERR_NONE;
}

/* ---- groups to rows ---- */

static enum err provide_column(void *context, uint8_t source, uint16_t column,
                               const struct vector **ret_vector)
{
    struct query_finish *finish = context;
    bool key = source == EXPR_SOURCE_GROUP;
    size_t at = key ? column : finish->tree->group_count + (size_t)column;
    struct vector *vector = &finish->columns[at];
    *ret_vector = vector;
    if (finish->buffers[at]) return ERR_NONE;
    enum err err = vector_acquire(&finish->pool, &finish->buffers[at]);
    if (err) return err;
    struct query_type type = key ? finish->scope.groups[column] : finish->scope.aggregates[column];
    *vector = vector_in(finish->buffers[at], type.kind, type.kind == KIND_DEC ? type.scale : 0);
    for (uint32_t i = 0; i < finish->id_count; i++) {
        struct value value;
        if (key) {
            struct vector one = groups_key(&finish->groups, column, finish->ids[i], 1);
            value = vector_value(&one, 0);
        } else {
            err = aggregate_result(&finish->aggregates[column], finish->ids[i], &value);
            if (err) return err;
        }
        vector_set(vector, i, value);
    }
    vector->count = finish->id_count;
    return ERR_NONE;
}

static enum err eval(struct query_finish *finish, struct vexpr *vexpr,
                     const struct vector **ret_vector)
{
    struct vexpr_input input = {.column = provide_column,
                                .context = finish,
                                .count = finish->id_count,
                                .memory = &finish->memory,
                                .scratch = &finish->scratch};
    return vexpr_eval(vexpr, &input, ret_vector);
}

static enum err apply_having(struct query_finish *finish, struct diag *diag)
{
    if (!finish->tree->has_having) return ERR_NONE;
    const struct vector *result;
    enum err err = eval(finish, &finish->having, &result);
    if (err) return diag_set(diag, err, "%s in HAVING", err_text(err));
    uint32_t picked = vexpr_select(result, finish->id_count, finish->picks);
    if (picked == finish->id_count) return ERR_NONE;
    for (uint32_t i = 0; i < picked; i++)
        finish->ids[i] = finish->ids[finish->picks[i]];
    finish->id_count = picked;
    release_columns(finish);
    return ERR_NONE;
}

/* The next thousand groups become the chunk. It may come out empty. */
static enum err make_chunk(struct query_finish *finish, struct diag *diag)
{
    uint64_t left = finish->groups.count - finish->group_next;
    release_columns(finish);
    query_arena_reset(&finish->memory, &finish->scratch);
    finish->count = 0;
    finish->next = 0;
    finish->id_count = left < QUERY_VECTOR_ROWS ? (uint32_t)left : QUERY_VECTOR_ROWS;
    for (uint32_t i = 0; i < finish->id_count; i++)
        finish->ids[i] = (uint32_t)finish->group_next + i;
    finish->group_next += finish->id_count;
    enum err err = apply_having(finish, diag);
    if (err || !finish->id_count) return err;
    for (uint16_t k = 0; k < finish->tree->output_count; k++) {
        err = eval(finish, &finish->outputs[k], &finish->vectors[k]);
        if (err)
            return diag_set(diag, err, "%s in output column %s", err_text(err),
                            finish->tree->outputs[k].name);
    }
    return take_chunk(finish, finish->id_count, diag);
}

enum err query_finish_end(struct query_finish *finish, struct diag *diag)
{
    finish->ended = true;
    if (!finish->tree->order_count) return ERR_NONE;
    while (finish->tree->has_aggregation && finish->group_next < finish->groups.count) {
        enum err err = make_chunk(finish, diag);
        if (err) return err;
    }
    result_sort_finish(&finish->sort);
    finish->sort_next = finish->offset_left;
    return ERR_NONE;
}

/* ---- rows ---- */

static enum err next_sorted(struct query_finish *finish, const struct value **ret_row)
{
    if (!finish->ended) return ERR_BUSY;
    if (finish->sort_next >= finish->sort.count) return ERR_END;
    finish->limit_left--;
    *ret_row = result_sort_row(&finish->sort, finish->sort_next++);
    return ERR_NONE;
}

enum err query_finish_next(struct query_finish *finish, const struct value **ret_row,
                           struct diag *diag)
{
    const struct query_tree *tree = finish->tree;
    if (!finish->limit_left) return ERR_END;
    if (tree->order_count) return next_sorted(finish, ret_row);
    for (;;) {
        uint32_t left = finish->count - finish->next;
        uint32_t skipped = finish->offset_left < left ? (uint32_t)finish->offset_left : left;
        finish->offset_left -= skipped;
        finish->next += skipped;
        if (finish->next < finish->count) break;
        if (!finish->ended) return ERR_BUSY;
        if (!tree->has_aggregation || finish->group_next == finish->groups.count) return ERR_END;
        enum err err = make_chunk(finish, diag);
        if (err) return err;
    }
    uint32_t at = finish->picks[finish->next++];
    for (uint16_t k = 0; k < tree->visible_count; k++)
        finish->row[k] = vector_value(finish->vectors[k], at);
    finish->limit_left--;
    *ret_row = finish->row;
    return ERR_NONE;
}
