/* The codec of query trees, and the one place that decides whether a tree makes sense.
 *
 * Layout: u16 version (1), u64 catalog version, u16 counts of sources, groups, aggregates, outputs,
 * visible outputs and order terms, u16 flags, u64 limit, u64 offset, u32 slot count and u16 slots;
 * then the sources, groups, aggregates, the HAVING expression when there is one, outputs and order
 * terms. Expressions and values are in the format of expr.h; a name is a varint size and its bytes
 * with the final NUL.
 *
 * A tree comes from a client, so query_decode believes nothing: afterwards every count is within
 * its limit, every table has the version the planner saw, every column exists in the expression's
 * scope with the kind that the expression states, every key fits its index, and every register has
 * one kind and one scale. The executor relies on all of that and checks none of it again. */
#include "db/wire/query.h"

#include "base/check.h"
#include "db/wire/expr_rules.h"

enum {
    QUERY_FORMAT = 1,
    QUERY_NAME_SIZE_MAX = 65536,
    RANGE_SIZE_MIN = 5, /* encoded: eq_count, flags, no values */
};

enum query_flag {
    QUERY_HAS_AGGREGATION = 1,
    QUERY_HAS_HAVING = 2,
    QUERY_DISTINCT = 4,
    QUERY_HAS_LIMIT = 8,
    QUERY_PRUNED = 16,
    QUERY_FLAGS = 31,
};

enum source_flag { SOURCE_LOCAL = 1, SOURCE_HAS_FILTER = 2, SOURCE_FLAGS = 3 };

enum range_flag {
    RANGE_HAS_LOW = 1,
    RANGE_LOW_INCLUSIVE = 2,
    RANGE_HAS_HIGH = 4,
    RANGE_HIGH_INCLUSIVE = 8,
    RANGE_FLAGS = 15,
};

/* ---- encoding ---- */

static void range_encode(const struct index_range *range, struct buf *buf)
{
    unsigned flags = (range->has_low ? RANGE_HAS_LOW : 0u) |
                     (range->low_inclusive ? RANGE_LOW_INCLUSIVE : 0u) |
                     (range->has_high ? RANGE_HAS_HIGH : 0u) |
                     (range->high_inclusive ? RANGE_HIGH_INCLUSIVE : 0u);
    buf_put_u16(buf, range->eq_count);
    buf_put_u8(buf, (uint8_t)flags);
    for (uint16_t i = 0; i < range->eq_count; i++)
        value_encode(range->eq[i], buf);
    if (range->has_low) value_encode(range->low, buf);
    if (range->has_high) value_encode(range->high, buf);
}

static void source_encode(const struct query_source *source, struct buf *buf)
{
    unsigned flags =
        (source->local ? SOURCE_LOCAL : 0u) | (source->has_filter ? SOURCE_HAS_FILTER : 0u);
    buf_put_u32(buf, source->table_id);
    buf_put_u32(buf, source->table_version);
    buf_put_u8(buf, source->access);
    buf_put_u8(buf, source->index);
    buf_put_u8(buf, (uint8_t)flags);
    buf_put_u32(buf, source->range_count);
    buf_put_u16(buf, source->key_count);
    for (uint32_t i = 0; i < source->range_count; i++)
        range_encode(&source->ranges[i], buf);
    for (uint16_t i = 0; i < source->key_count; i++)
        expr_encode(&source->keys[i], buf);
    if (source->has_filter) expr_encode(&source->filter, buf);
}

static void output_encode(const struct query_output *output, struct buf *buf)
{
    const char *name = output->name ? output->name : "";
    buf_put_bytes(buf, name, strlen(name) + 1);
    buf_put_u8(buf, output->kind);
    buf_put_u8(buf, output->scale);
    buf_put_u8(buf, output->collation);
    buf_put_u8(buf, output->display);
    expr_encode(&output->expr, buf);
}

static void aggregate_encode(const struct query_aggregate *aggregate, struct buf *buf)
{
    buf_put_u8(buf, aggregate->fn);
    buf_put_u8(buf, aggregate->kind);
    buf_put_u8(buf, aggregate->out_kind);
    buf_put_u8(buf, aggregate->out_scale);
    buf_put_u8(buf, aggregate->collation);
    if (aggregate->fn != AGG_COUNT_STAR) expr_encode(&aggregate->argument, buf);
}

void query_encode(const struct query_tree *tree, struct buf *buf)
{
    unsigned flags = (tree->has_aggregation ? QUERY_HAS_AGGREGATION : 0u) |
                     (tree->has_having ? QUERY_HAS_HAVING : 0u) |
                     (tree->distinct ? QUERY_DISTINCT : 0u) |
                     (tree->has_limit ? QUERY_HAS_LIMIT : 0u) | (tree->pruned ? QUERY_PRUNED : 0u);
    buf_put_u16(buf, QUERY_FORMAT);
    buf_put_u64(buf, tree->catalog_version);
    buf_put_u16(buf, tree->source_count);
    buf_put_u16(buf, tree->group_count);
    buf_put_u16(buf, tree->aggregate_count);
    buf_put_u16(buf, tree->output_count);
    buf_put_u16(buf, tree->visible_count);
    buf_put_u16(buf, tree->order_count);
    buf_put_u16(buf, (uint16_t)flags);
    buf_put_u64(buf, tree->limit);
    buf_put_u64(buf, tree->offset);
    buf_put_u32(buf, tree->slot_count);
    for (uint32_t i = 0; i < tree->slot_count; i++)
        buf_put_u16(buf, tree->slots[i]);
    for (uint16_t i = 0; i < tree->source_count; i++)
        source_encode(&tree->sources[i], buf);
    for (uint16_t i = 0; i < tree->group_count; i++) {
        buf_put_u8(buf, tree->groups[i].collation);
        expr_encode(&tree->groups[i].expr, buf);
    }
    for (uint16_t i = 0; i < tree->aggregate_count; i++)
        aggregate_encode(&tree->aggregates[i], buf);
    if (tree->has_having) expr_encode(&tree->having, buf);
    for (uint16_t i = 0; i < tree->output_count; i++)
        output_encode(&tree->outputs[i], buf);
    for (uint16_t i = 0; i < tree->order_count; i++) {
        buf_put_u16(buf, tree->order[i].output);
        buf_put_u8(buf, tree->order[i].descending);
        buf_put_u8(buf, tree->order[i].collation);
    }
}

/* ---- types ---- */

static bool column_type_of(const struct query_scope *scope, uint8_t source, uint16_t column,
                           struct query_type *ret_type)
{
    if (source == EXPR_SOURCE_GROUP) {
        if (column >= scope->group_count) return false;
        *ret_type = scope->groups[column];
        return true;
    }
    if (source == EXPR_SOURCE_AGG) {
        if (column >= scope->aggregate_count) return false;
        *ret_type = scope->aggregates[column];
        return true;
    }
    if (source >= scope->source_count) return false;
    const struct table_def *table = scope->tables[source];
    if (column >= table->column_count) return false;
    const struct column_def *def = &table->columns[column];
    uint8_t kind = (uint8_t)column_kind(def);
    *ret_type = (struct query_type){.kind = kind, .scale = kind == KIND_DEC ? def->scale : 0};
    return true;
}

/* Two registers of which either may become the result. */
static bool scale_unify(uint8_t a, uint8_t b, uint8_t *ret_scale)
{
    if (a != b && a != QUERY_SCALE_ANY && b != QUERY_SCALE_ANY) return false;
    *ret_scale = a == QUERY_SCALE_ANY ? b : a;
    return true;
}

/* A result whose scale would pass 18 has no value that fits: it fails row by row, as out of range.
 */
static uint8_t scale_add(uint8_t a, uint8_t b)
{
    if (a == QUERY_SCALE_ANY || b == QUERY_SCALE_ANY) return QUERY_SCALE_ANY;
    return a + b > QUERY_SCALE_MAX ? QUERY_SCALE_MAX : (uint8_t)(a + b);
}

/* The scale of a register of kind DEC. */
static bool dec_scale_of(const struct expr *expr, const struct expr_ins *ins,
                         const struct query_type *types, uint8_t *ret_scale)
{
    switch ((enum expr_op)ins->op) {
    case EXPR_CONST: {
        struct value value = expr->consts[ins->x];
        *ret_scale = value.kind == KIND_DEC ? value.scale : QUERY_SCALE_ANY;
        return *ret_scale == QUERY_SCALE_ANY || *ret_scale <= QUERY_SCALE_MAX;
    }
    case EXPR_ADD:
    case EXPR_SUB:
    case EXPR_MOD:
    case EXPR_COALESCE:
        return scale_unify(types[ins->a].scale, types[ins->b].scale, ret_scale);
    case EXPR_SELECT:
        return scale_unify(types[ins->b].scale, types[ins->c].scale, ret_scale);
    case EXPR_MUL:
        *ret_scale = scale_add(types[ins->a].scale, types[ins->b].scale);
        return true;
    case EXPR_DIV:
        *ret_scale = scale_add(types[ins->a].scale, 4);
        return true;
    case EXPR_CAST:
    case EXPR_ROUND:
        if (ins->x > QUERY_SCALE_MAX) return false;
        *ret_scale = (uint8_t)ins->x;
        return true;
    default:
        *ret_scale = types[ins->a].scale;
        return true;
    }
}

enum err query_expr_types(const struct expr *expr, const struct query_scope *scope,
                          struct query_type *ret_types)
{
    for (uint32_t i = 0; i < expr->ins_count; i++) {
        const struct expr_ins *ins = &expr->ins[i];
        struct query_type *type = &ret_types[i];
        if (ins->op == EXPR_COLUMN) {
            if (ins->a > UINT8_MAX || ins->x > UINT16_MAX) return ERR_BAD_QUERY;
            if (!column_type_of(scope, (uint8_t)ins->a, (uint16_t)ins->x, type))
                return ERR_BAD_QUERY;
            if (type->kind != ins->kind) return ERR_BAD_QUERY;
            continue;
        }
        *type = (struct query_type){.kind = (uint8_t)expr_result_kind(ins)};
        if (type->kind == KIND_NULL) type->scale = QUERY_SCALE_ANY;
        if (type->kind == KIND_DEC && !dec_scale_of(expr, ins, ret_types, &type->scale))
            return ERR_BAD_QUERY;
    }
    return ERR_NONE;
}

void query_scope_sources(const struct query_tree *tree, const struct catalog *catalog,
                         uint16_t source_count, struct query_scope *ret_scope)
{
    ASSERT(source_count <= tree->source_count && source_count <= QUERY_SOURCES_MAX);
    *ret_scope = (struct query_scope){.source_count = source_count};
    for (uint16_t i = 0; i < source_count; i++)
        ret_scope->tables[i] = catalog_find_id(catalog, tree->sources[i].table_id);
}

/* The type of the expression's result. */
static enum err result_type(const struct expr *expr, const struct query_scope *scope,
                            struct arena *arena, struct query_type *ret_type)
{
    if (!expr->ins_count) return ERR_BAD_QUERY;
    struct query_type *types = arena_new(arena, struct query_type, expr->ins_count);
    if (!types) return ERR_NO_MEMORY;
    enum err err = query_expr_types(expr, scope, types);
    if (err) return err;
    *ret_type = types[expr->ins_count - 1];
    return ERR_NONE;
}

enum err query_scope_groups(const struct query_tree *tree, const struct catalog *catalog,
                            struct arena *arena, struct query_scope *ret_scope)
{
    struct query_scope sources;
    query_scope_sources(tree, catalog, tree->source_count, &sources);
    struct query_scope scope = {.group_count = tree->group_count,
                                .aggregate_count = tree->aggregate_count};
    for (uint16_t i = 0; i < tree->group_count; i++) {
        enum err err = result_type(&tree->groups[i].expr, &sources, arena, &scope.groups[i]);
        if (err) return err;
        if (scope.groups[i].scale == QUERY_SCALE_ANY) scope.groups[i].scale = 0;
    }
    for (uint16_t i = 0; i < tree->aggregate_count; i++) {
        const struct query_aggregate *aggregate = &tree->aggregates[i];
        scope.aggregates[i] = (struct query_type){
            .kind = aggregate->out_kind,
            .scale = aggregate->out_kind == KIND_DEC ? aggregate->out_scale : 0};
    }
    *ret_scope = scope;
    return ERR_NONE;
}

/* ---- decoding ---- */

struct decoding {
    struct reader *reader;
    const struct catalog *catalog;
    struct arena *arena;
    struct query_tree tree;
};

static enum err decode_expr(struct decoding *decoding, const struct query_scope *scope,
                            struct expr *ret_expr, struct query_type *ret_type)
{
    struct expr expr;
    enum err err = expr_decode(decoding->reader, decoding->arena, &expr);
    if (err == ERR_BAD_PROGRAM) return ERR_BAD_QUERY;
    if (err) return err;
    err = result_type(&expr, scope, decoding->arena, ret_type);
    if (err) return err;
    *ret_expr = expr;
    return ERR_NONE;
}

static bool kind_is_number(uint8_t kind)
{
    return kind == KIND_I64 || kind == KIND_U64 || kind == KIND_F64 || kind == KIND_DEC;
}

static bool collation_is_known(uint8_t collation)
{
    return collation == COLLATION_BINARY || collation == COLLATION_CASE_INSENSITIVE;
}

static bool value_suits(const struct column_def *column, struct value value)
{
    if (value_is_null(value)) return column->nullable;
    return value.kind == column_kind(column) &&
           (value.kind != KIND_DEC || value.scale <= QUERY_SCALE_MAX);
}

static enum err decode_range(struct decoding *decoding, const struct table_def *table,
                             const struct index_def *index, bool keys,
                             struct index_range *ret_range)
{
    struct reader *reader = decoding->reader;
    struct index_range range = {.eq_count = reader_u16(reader)};
    unsigned flags = reader_u8(reader);
    if (reader->failed || flags & ~(unsigned)RANGE_FLAGS) return ERR_BAD_QUERY;
    range.has_low = flags & RANGE_HAS_LOW;
    range.low_inclusive = flags & RANGE_LOW_INCLUSIVE;
    range.has_high = flags & RANGE_HAS_HIGH;
    range.high_inclusive = flags & RANGE_HIGH_INCLUSIVE;
    bool bounded = range.has_low || range.has_high;
    if (range.eq_count + bounded > index->column_count) return ERR_BAD_QUERY;
    bool whole = range.eq_count == index->column_count;
    if ((keys || index->kind != INDEX_ORDERED) && !whole) return ERR_BAD_QUERY;

    range.eq = arena_new(decoding->arena, struct value, range.eq_count);
    if (!range.eq) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < range.eq_count; i++) {
        range.eq[i] = value_decode(reader);
        if (reader->failed || !value_suits(&table->columns[index->columns[i]], range.eq[i]))
            return ERR_BAD_QUERY;
    }
    if (range.has_low) range.low = value_decode(reader);
    if (range.has_high) range.high = value_decode(reader);
    if (reader->failed) return ERR_BAD_QUERY;
    if (bounded) {
        const struct column_def *column = &table->columns[index->columns[range.eq_count]];
        if (range.has_low && !value_suits(column, range.low)) return ERR_BAD_QUERY;
        if (range.has_high && !value_suits(column, range.high)) return ERR_BAD_QUERY;
    }
    *ret_range = range;
    return ERR_NONE;
}

static enum err decode_ranges(struct decoding *decoding, const struct table_def *table,
                              struct query_source *source)
{
    /* Before memory is taken for them: that many ranges cannot be in fewer bytes. */
    if (source->range_count > QUERY_RANGES_MAX ||
        source->range_count > reader_left(decoding->reader) / (RANGE_SIZE_MIN - 2))
        return ERR_BAD_QUERY;
    source->ranges = arena_new(decoding->arena, struct index_range, source->range_count);
    if (!source->ranges) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < source->range_count; i++) {
        enum err err = decode_range(decoding, table, &table->indexes[source->index],
                                    source->access == ACCESS_KEYS, &source->ranges[i]);
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err decode_keys(struct decoding *decoding, const struct table_def *table,
                            const struct query_scope *before, struct query_source *source)
{
    const struct index_def *index = &table->indexes[source->index];
    if (!source->key_count || source->key_count > index->column_count) return ERR_BAD_QUERY;
    if (index->kind != INDEX_ORDERED && source->key_count != index->column_count)
        return ERR_BAD_QUERY;
    source->keys = arena_new(decoding->arena, struct expr, source->key_count);
    if (!source->keys) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < source->key_count; i++) {
        struct query_type type;
        enum err err = decode_expr(decoding, before, &source->keys[i], &type);
        if (err) return err;
        if (type.kind != column_kind(&table->columns[index->columns[i]])) return ERR_BAD_QUERY;
    }
    return ERR_NONE;
}

/* The counts and kinds of access that fit together; the fields they count are decoded afterwards.
 */
static bool access_is_valid(const struct query_source *source, const struct table_def *table,
                            uint16_t position)
{
    if (source->access == ACCESS_JOIN) {
        if (position == 0 || source->range_count || source->index >= table->index_count)
            return false;
        return true;
    }
    if (position > 0 || source->local || source->key_count) return false;
    switch (source->access) {
    case ACCESS_SCAN:
        return !source->range_count && !source->index;
    case ACCESS_RANGES:
        return source->index < table->index_count &&
               table->indexes[source->index].kind == INDEX_ORDERED;
    case ACCESS_KEYS:
        return source->index == 0;
    default:
        return false;
    }
}

static enum err decode_source(struct decoding *decoding, uint16_t position)
{
    struct reader *reader = decoding->reader;
    struct query_source source = {.table_id = reader_u32(reader)};
    source.table_version = reader_u32(reader);
    source.access = reader_u8(reader);
    source.index = reader_u8(reader);
    unsigned flags = reader_u8(reader);
    source.range_count = reader_u32(reader);
    source.key_count = reader_u16(reader);
    if (reader->failed || flags & ~(unsigned)SOURCE_FLAGS) return ERR_BAD_QUERY;
    source.local = flags & SOURCE_LOCAL;
    source.has_filter = flags & SOURCE_HAS_FILTER;

    const struct table_def *table = catalog_find_id(decoding->catalog, source.table_id);
    if (!table || table->version != source.table_version) return ERR_SCHEMA_CHANGED;
    if (!access_is_valid(&source, table, position)) return ERR_BAD_QUERY;

    struct query_scope scope;
    decoding->tree.sources[position] = source; /* for the scope's tables */
    query_scope_sources(&decoding->tree, decoding->catalog, position, &scope);
    enum err err = decode_ranges(decoding, table, &source);
    if (!err && source.access == ACCESS_JOIN) err = decode_keys(decoding, table, &scope, &source);
    if (err) return err;
    if (source.has_filter) {
        query_scope_sources(&decoding->tree, decoding->catalog, (uint16_t)(position + 1), &scope);
        struct query_type type;
        err = decode_expr(decoding, &scope, &source.filter, &type);
        if (err) return err;
        if (!kind_is_number(type.kind) && type.kind != KIND_NULL) return ERR_BAD_QUERY;
    }
    decoding->tree.sources[position] = source;
    return ERR_NONE;
}

static bool aggregate_is_valid(const struct query_aggregate *aggregate, struct query_type type)
{
    uint8_t out = aggregate->out_kind;
    uint8_t scale = type.kind == KIND_DEC && type.scale != QUERY_SCALE_ANY ? type.scale : 0;
    if (aggregate->kind != type.kind || !collation_is_known(aggregate->collation)) return false;
    if (out == KIND_DEC && (aggregate->out_scale > QUERY_SCALE_MAX || aggregate->out_scale < scale))
        return false;
    switch ((enum aggregate_fn)aggregate->fn) {
    case AGG_COUNT:
    case AGG_COUNT_DISTINCT:
        return out == KIND_I64;
    case AGG_MIN:
    case AGG_MAX:
        return out == aggregate->kind && (out != KIND_DEC || aggregate->out_scale == scale);
    case AGG_SUM:
        if (type.kind == KIND_F64) return out == KIND_F64;
        if (type.kind == KIND_DEC) return out == KIND_DEC;
        return (type.kind == KIND_I64 || type.kind == KIND_U64) &&
               (out == KIND_I64 || out == KIND_U64 || out == KIND_DEC);
    case AGG_AVG:
        if (type.kind == KIND_F64) return out == KIND_F64;
        return kind_is_number(type.kind) && out == KIND_DEC;
    case AGG_COUNT_STAR:
        break;
    }
    return false;
}

static enum err decode_aggregate(struct decoding *decoding, const struct query_scope *scope,
                                 struct query_aggregate *ret_aggregate)
{
    struct reader *reader = decoding->reader;
    struct query_aggregate aggregate = {.fn = reader_u8(reader)};
    aggregate.kind = reader_u8(reader);
    aggregate.out_kind = reader_u8(reader);
    aggregate.out_scale = reader_u8(reader);
    aggregate.collation = reader_u8(reader);
    if (reader->failed) return ERR_BAD_QUERY;
    if (aggregate.fn == AGG_COUNT_STAR) {
        if (aggregate.out_kind != KIND_I64) return ERR_BAD_QUERY;
    } else {
        struct query_type type;
        enum err err = decode_expr(decoding, scope, &aggregate.argument, &type);
        if (err) return err;
        if (!aggregate_is_valid(&aggregate, type)) return ERR_BAD_QUERY;
    }
    *ret_aggregate = aggregate;
    return ERR_NONE;
}

static enum err decode_aggregation(struct decoding *decoding, const struct query_scope *scope)
{
    struct query_tree *tree = &decoding->tree;
    tree->groups = arena_new(decoding->arena, struct query_group, tree->group_count);
    tree->aggregates = arena_new(decoding->arena, struct query_aggregate, tree->aggregate_count);
    if (!tree->groups || !tree->aggregates) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < tree->group_count; i++) {
        struct query_group *group = &tree->groups[i];
        struct query_type type;
        group->collation = reader_u8(decoding->reader);
        enum err err = decode_expr(decoding, scope, &group->expr, &type);
        if (err) return err;
        if (!collation_is_known(group->collation)) return ERR_BAD_QUERY;
    }
    for (uint16_t i = 0; i < tree->aggregate_count; i++) {
        enum err err = decode_aggregate(decoding, scope, &tree->aggregates[i]);
        if (err) return err;
    }
    return ERR_NONE;
}

static bool display_is_valid(uint8_t display, uint8_t kind)
{
    return !display || (kind == KIND_I64 && (display == TYPE_DATE || display == TYPE_DATETIME ||
                                             display == TYPE_TIMESTAMP));
}

static enum err decode_output(struct decoding *decoding, const struct query_scope *scope,
                              struct query_output *ret_output)
{
    struct reader *reader = decoding->reader;
    size_t size = 0;
    const uint8_t *name = reader_bytes(reader, QUERY_NAME_SIZE_MAX, &size);
    struct query_output output = {.kind = reader_u8(reader)};
    output.scale = reader_u8(reader);
    output.collation = reader_u8(reader);
    output.display = reader_u8(reader);
    if (reader->failed || !size || memchr(name, 0, size) != name + size - 1) return ERR_BAD_QUERY;
    output.name = (const char *)name;
    struct query_type type;
    enum err err = decode_expr(decoding, scope, &output.expr, &type);
    if (err) return err;
    if (output.kind != type.kind || !collation_is_known(output.collation) ||
        !display_is_valid(output.display, output.kind))
        return ERR_BAD_QUERY;
    if (type.kind == KIND_DEC && type.scale != QUERY_SCALE_ANY && output.scale != type.scale)
        return ERR_BAD_QUERY;
    *ret_output = output;
    return ERR_NONE;
}

static enum err decode_outputs(struct decoding *decoding, const struct query_scope *scope)
{
    struct query_tree *tree = &decoding->tree;
    struct reader *reader = decoding->reader;
    if (tree->has_having) {
        struct query_type type;
        enum err err = decode_expr(decoding, scope, &tree->having, &type);
        if (err) return err;
        if (!kind_is_number(type.kind) && type.kind != KIND_NULL) return ERR_BAD_QUERY;
    }
    tree->outputs = arena_new(decoding->arena, struct query_output, tree->output_count);
    tree->order = arena_new(decoding->arena, struct query_order, tree->order_count);
    if (!tree->outputs || !tree->order) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < tree->output_count; i++) {
        enum err err = decode_output(decoding, scope, &tree->outputs[i]);
        if (err) return err;
    }
    for (uint16_t i = 0; i < tree->order_count; i++) {
        struct query_order *order = &tree->order[i];
        order->output = reader_u16(reader);
        uint8_t descending = reader_u8(reader);
        order->descending = descending;
        order->collation = reader_u8(reader);
        if (reader->failed || order->output >= tree->output_count || descending > 1 ||
            !collation_is_known(order->collation))
            return ERR_BAD_QUERY;
    }
    return ERR_NONE;
}

/* Counts, flags, limit and slots. */
static enum err decode_head(struct decoding *decoding)
{
    struct reader *reader = decoding->reader;
    struct query_tree *tree = &decoding->tree;
    if (reader_left(reader) > QUERY_SIZE_MAX) return ERR_BAD_QUERY;
    if (reader_u16(reader) != QUERY_FORMAT) return ERR_BAD_QUERY;
    tree->catalog_version = reader_u64(reader);
    tree->source_count = reader_u16(reader);
    tree->group_count = reader_u16(reader);
    tree->aggregate_count = reader_u16(reader);
    tree->output_count = reader_u16(reader);
    tree->visible_count = reader_u16(reader);
    tree->order_count = reader_u16(reader);
    unsigned flags = reader_u16(reader);
    tree->limit = reader_u64(reader);
    tree->offset = reader_u64(reader);
    tree->slot_count = reader_u32(reader);
    if (reader->failed || flags & ~(unsigned)QUERY_FLAGS) return ERR_BAD_QUERY;
    tree->has_aggregation = flags & QUERY_HAS_AGGREGATION;
    tree->has_having = flags & QUERY_HAS_HAVING;
    tree->distinct = flags & QUERY_DISTINCT;
    tree->has_limit = flags & QUERY_HAS_LIMIT;
    tree->pruned = flags & QUERY_PRUNED;

    if (!tree->source_count || tree->source_count > QUERY_SOURCES_MAX ||
        tree->group_count > QUERY_GROUPS_MAX || tree->aggregate_count > QUERY_AGGREGATES_MAX ||
        !tree->output_count || tree->output_count > QUERY_OUTPUTS_MAX || !tree->visible_count ||
        tree->visible_count > tree->output_count || tree->order_count > QUERY_OUTPUTS_MAX)
        return ERR_BAD_QUERY;
    if (!tree->has_aggregation && (tree->group_count || tree->aggregate_count || tree->has_having))
        return ERR_BAD_QUERY;
    if (tree->slot_count > PARTITION_SLOTS || (!tree->pruned && tree->slot_count) ||
        reader_left(reader) / sizeof(uint16_t) < tree->slot_count)
        return ERR_BAD_QUERY;
    tree->slots = arena_new(decoding->arena, uint16_t, tree->slot_count);
    if (!tree->slots) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < tree->slot_count; i++)
        tree->slots[i] = reader_u16(reader);
    return ERR_NONE;
}

enum err query_decode(struct reader *reader, const struct catalog *catalog, struct arena *arena,
                      struct query_tree *ret_tree)
{
    struct decoding decoding = {.reader = reader, .catalog = catalog, .arena = arena};
    struct query_tree *tree = &decoding.tree;
    enum err err = decode_head(&decoding);
    if (err) return err;
    tree->sources = arena_new(arena, struct query_source, tree->source_count);
    if (!tree->sources) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < tree->source_count; i++) {
        err = decode_source(&decoding, i);
        if (err) return err;
    }
    struct query_scope scope;
    query_scope_sources(tree, catalog, tree->source_count, &scope);
    if (tree->has_aggregation) {
        err = decode_aggregation(&decoding, &scope);
        if (!err) err = query_scope_groups(tree, catalog, arena, &scope);
        if (err) return err;
    }
    err = decode_outputs(&decoding, &scope);
    if (err) return err;
    if (reader->failed || reader_left(reader)) return ERR_BAD_QUERY;
    *ret_tree = *tree;
    return ERR_NONE;
}
