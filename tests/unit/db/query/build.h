/* Query trees built by hand, for tests. */
#ifndef TESTS_QUERY_BUILD_H
#define TESTS_QUERY_BUILD_H

#include <criterion/criterion.h>
#include <string.h>

#include "db/wire/expr.h"
#include "db/wire/query.h"

struct builder {
    struct arena arena;
    struct query_tree tree;
    struct query_source sources[QUERY_SOURCES_MAX];
    struct query_group groups[QUERY_GROUPS_MAX];
    struct query_aggregate aggregates[QUERY_AGGREGATES_MAX];
    struct query_output outputs[QUERY_OUTPUTS_MAX];
    struct query_order order[QUERY_OUTPUTS_MAX];
};

static inline void build_begin(struct builder *builder)
{
    memset(builder, 0, sizeof(*builder));
    arena_init(&builder->arena, 0);
    builder->tree.sources = builder->sources;
    builder->tree.groups = builder->groups;
    builder->tree.aggregates = builder->aggregates;
    builder->tree.outputs = builder->outputs;
    builder->tree.order = builder->order;
}

static inline void build_end(struct builder *builder)
{
    arena_fini(&builder->arena);
}

static inline struct query_source *build_scan(struct builder *builder, uint32_t table_id)
{
    struct query_source *source = &builder->sources[builder->tree.source_count++];
    *source =
        (struct query_source){.table_id = table_id, .table_version = 1, .access = ACCESS_SCAN};
    return source;
}

static inline struct expr build_column(struct builder *builder, enum value_kind kind,
                                       uint8_t source, uint16_t column)
{
    struct expr_builder e;
    struct expr expr;
    expr_begin(&e, &builder->arena);
    expr_column(&e, kind, source, column);
    cr_assert_eq(expr_finish(&e, &expr), ERR_NONE);
    return expr;
}

static inline struct expr build_const(struct builder *builder, struct value value)
{
    struct expr_builder e;
    struct expr expr;
    expr_begin(&e, &builder->arena);
    expr_const(&e, value);
    cr_assert_eq(expr_finish(&e, &expr), ERR_NONE);
    return expr;
}

/* column op constant */
static inline struct expr build_compare(struct builder *builder, enum expr_op op,
                                        enum value_kind kind, uint8_t source, uint16_t column,
                                        struct value value)
{
    struct expr_builder e;
    struct expr expr;
    expr_begin(&e, &builder->arena);
    uint16_t a = expr_column(&e, kind, source, column);
    uint16_t b = expr_const(&e, value);
    expr_op2(&e, op, kind, a, b);
    cr_assert_eq(expr_finish(&e, &expr), ERR_NONE);
    return expr;
}

static inline void build_filter(struct builder *builder, uint16_t source, struct expr expr)
{
    builder->sources[source].has_filter = true;
    builder->sources[source].filter = expr;
}

static inline struct query_source *build_join(struct builder *builder, uint32_t table_id,
                                              uint8_t index, bool local, struct expr key)
{
    struct query_source *source = &builder->sources[builder->tree.source_count++];
    struct expr *keys = arena_new(&builder->arena, struct expr, 1);
    keys[0] = key;
    *source = (struct query_source){.table_id = table_id,
                                    .table_version = 1,
                                    .access = ACCESS_JOIN,
                                    .index = index,
                                    .local = local,
                                    .key_count = 1,
                                    .keys = keys};
    return source;
}

static inline uint16_t build_group(struct builder *builder, struct expr expr, uint8_t collation)
{
    builder->tree.has_aggregation = true;
    builder->groups[builder->tree.group_count] =
        (struct query_group){.collation = collation, .expr = expr};
    return builder->tree.group_count++;
}

static inline uint16_t build_aggregate(struct builder *builder, enum aggregate_fn fn,
                                       enum value_kind kind, enum value_kind out, uint8_t out_scale,
                                       struct expr argument)
{
    builder->tree.has_aggregation = true;
    builder->aggregates[builder->tree.aggregate_count] =
        (struct query_aggregate){.fn = (uint8_t)fn,
                                 .kind = (uint8_t)kind,
                                 .out_kind = (uint8_t)out,
                                 .out_scale = out_scale,
                                 .argument = argument};
    return builder->tree.aggregate_count++;
}

static inline uint16_t build_output(struct builder *builder, enum value_kind kind, uint8_t scale,
                                    struct expr expr)
{
    char *name = arena_printf(&builder->arena, "c%u", builder->tree.output_count);
    builder->outputs[builder->tree.output_count] =
        (struct query_output){.name = name, .kind = (uint8_t)kind, .scale = scale, .expr = expr};
    builder->tree.visible_count++;
    return builder->tree.output_count++;
}

static inline void build_output_column(struct builder *builder, enum value_kind kind,
                                       uint8_t source, uint16_t column)
{
    build_output(builder, kind, 0, build_column(builder, kind, source, column));
}

static inline void build_order(struct builder *builder, uint16_t output, bool descending)
{
    builder->order[builder->tree.order_count++] =
        (struct query_order){.output = output, .descending = descending};
}

static inline void build_limit(struct builder *builder, uint64_t limit, uint64_t offset)
{
    builder->tree.has_limit = true;
    builder->tree.limit = limit;
    builder->tree.offset = offset;
}

#endif
