/* The codec of query trees: what is encoded comes back, what makes no sense is refused, and no
 * bytes, however damaged, do worse than that. */
#include "tests/unit/db/query/harness.h"

struct fixture {
    struct catalog *catalog;
    struct builder b;
    struct buf buf;
    struct arena arena;
    struct query_tree decoded;
};

/* Every part that a tree can have. */
static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->catalog = harness_catalog();
    buf_init(&f->buf);
    arena_init(&f->arena, 0);
    build_begin(&f->b);
    struct builder *b = &f->b;
    struct query_source *source = build_scan(b, TABLE_INODE);
    source->access = ACCESS_RANGES;
    source->index = 1;
    source->range_count = 2;
    source->ranges = arena_new(&b->arena, struct index_range, 2);
    source->ranges[0] = (struct index_range){.has_low = true, .low = value_u64(5)};
    source->ranges[1] =
        (struct index_range){.eq_count = 1, .eq = arena_new(&b->arena, struct value, 1)};
    source->ranges[1].eq[0] = value_null();
    build_filter(b, 0, build_compare(b, EXPR_GT, KIND_I64, 0, INODE_DELTA, value_i64(3)));
    build_join(b, TABLE_OWNER, 0, false, build_column(b, KIND_U64, 0, INODE_UID));
    build_filter(b, 1, build_compare(b, EXPR_NE, KIND_STR, 1, OWNER_NAME, value_text("root")));
    build_group(b, build_column(b, KIND_STR, 1, OWNER_NAME), COLLATION_CASE_INSENSITIVE);
    build_aggregate(b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
    build_aggregate(b, AGG_AVG, KIND_DEC, KIND_DEC, 6, build_column(b, KIND_DEC, 0, INODE_PRICE));
    b->tree.has_having = true;
    b->tree.having = build_compare(b, EXPR_GT, KIND_I64, EXPR_SOURCE_AGG, 0, value_i64(1));
    build_output_column(b, KIND_STR, EXPR_SOURCE_GROUP, 0);
    build_output(b, KIND_DEC, 6, build_column(b, KIND_DEC, EXPR_SOURCE_AGG, 1));
    build_order(b, 1, true);
    build_limit(b, 10, 2);
    static uint16_t slots[] = {1, 65535};
    b->tree.pruned = true;
    b->tree.slots = slots;
    b->tree.slot_count = 2;
    b->tree.distinct = true;
    b->tree.catalog_version = 77;
}

static void fixture_fini(struct fixture *f)
{
    build_end(&f->b);
    buf_fini(&f->buf);
    arena_fini(&f->arena);
    catalog_destroy(f->catalog);
}

static enum err decode(struct fixture *f)
{
    buf_clear(&f->buf);
    arena_reset(&f->arena);
    query_encode(&f->b.tree, &f->buf);
    cr_assert(!f->buf.failed);
    struct reader reader = reader_of(f->buf.bytes, f->buf.size);
    return query_decode(&reader, f->catalog, &f->arena, &f->decoded);
}

Test(query, decodes_what_was_encoded)
{
    struct fixture f;
    fixture_init(&f);
    cr_assert_eq(decode(&f), ERR_NONE);
    const struct query_tree *tree = &f.decoded;
    cr_assert_eq(tree->source_count, 2);
    cr_assert_eq(tree->sources[0].range_count, 2);
    cr_assert_eq(tree->sources[0].ranges[0].low.u, 5);
    cr_assert(!tree->sources[0].ranges[0].has_high);
    cr_assert_eq(tree->sources[1].key_count, 1);
    cr_assert_eq(tree->groups[0].collation, COLLATION_CASE_INSENSITIVE);
    cr_assert_eq(tree->aggregates[1].fn, AGG_AVG);
    cr_assert_eq(tree->aggregates[1].out_scale, 6);
    cr_assert_str_eq(tree->outputs[1].name, "c1");
    cr_assert(tree->has_having && tree->distinct && tree->pruned && tree->has_limit);
    cr_assert_eq(tree->limit, 10);
    cr_assert_eq(tree->offset, 2);
    cr_assert_eq(tree->slots[1], 65535);
    cr_assert_eq(tree->catalog_version, 77);
    cr_assert(tree->order[0].descending);
    /* And again to the same bytes. */
    struct buf again;
    buf_init(&again);
    query_encode(tree, &again);
    cr_assert_eq(again.size, f.buf.size);
    cr_assert_eq(memcmp(again.bytes, f.buf.bytes, again.size), 0);
    buf_fini(&again);
    fixture_fini(&f);
}

/* Each changes one thing of a good tree. */
static void no_sources(struct builder *b)
{
    b->tree.source_count = 0;
}
static void no_outputs(struct builder *b)
{
    b->tree.output_count = b->tree.visible_count = 0;
}
static void nothing_visible(struct builder *b)
{
    b->tree.visible_count = 0;
}
static void too_much_visible(struct builder *b)
{
    b->tree.visible_count = 3;
}
static void groups_without_aggregation(struct builder *b)
{
    b->tree.has_aggregation = false;
}
static void slots_without_pruning(struct builder *b)
{
    b->tree.pruned = false;
}
static void join_first(struct builder *b)
{
    b->sources[0].access = ACCESS_JOIN;
}
static void scan_second(struct builder *b)
{
    b->sources[1].access = ACCESS_SCAN;
}
static void unknown_access(struct builder *b)
{
    b->sources[0].access = 9;
}
static void unknown_index(struct builder *b)
{
    b->sources[0].index = 2;
}
static void ranges_of_a_hash(struct builder *b)
{
    b->sources[0].index = 0;
}
static void keys_of_a_secondary_index(struct builder *b)
{
    b->sources[0].access = ACCESS_KEYS;
}
static void join_without_keys(struct builder *b)
{
    b->sources[1].key_count = 0;
}
static void local_scan(struct builder *b)
{
    b->sources[0].local = true;
}
static void range_of_another_kind(struct builder *b)
{
    b->sources[0].ranges[0].low = value_i64(5);
}
static void range_too_long(struct builder *b)
{
    b->sources[0].ranges[1].has_high = true;
    b->sources[0].ranges[1].high = value_u64(1);
}
static void key_of_another_kind(struct builder *b)
{
    b->sources[1].keys[0] = build_column(b, KIND_I64, 0, INODE_DELTA);
}
static void key_over_its_own_source(struct builder *b)
{
    b->sources[1].keys[0] = build_column(b, KIND_U64, 1, OWNER_UID);
}
static void filter_over_a_later_source(struct builder *b)
{
    b->sources[0].filter = build_compare(b, EXPR_EQ, KIND_U64, 1, OWNER_UID, value_u64(1));
}
static void filter_that_is_text(struct builder *b)
{
    b->sources[0].filter = build_column(b, KIND_STR, 0, INODE_NOTE);
}
static void column_of_another_kind(struct builder *b)
{
    b->groups[0].expr = build_column(b, KIND_U64, 0, INODE_DELTA);
}
static void column_that_is_not(struct builder *b)
{
    b->groups[0].expr = build_column(b, KIND_U64, 0, 99);
}
static void output_over_a_source(struct builder *b)
{
    b->outputs[0].expr = build_column(b, KIND_STR, 1, OWNER_NAME);
}
static void group_that_is_not(struct builder *b)
{
    b->outputs[0].expr = build_column(b, KIND_STR, EXPR_SOURCE_GROUP, 1);
}
static void aggregate_that_is_not(struct builder *b)
{
    b->outputs[1].expr = build_column(b, KIND_DEC, EXPR_SOURCE_AGG, 2);
}
static void output_of_another_kind(struct builder *b)
{
    b->outputs[0].kind = KIND_I64;
}
static void output_of_another_scale(struct builder *b)
{
    b->outputs[1].scale = 2;
}
static void output_shown_as_a_date(struct builder *b)
{
    b->outputs[0].display = TYPE_DATE;
}
static void order_by_nothing(struct builder *b)
{
    b->order[0].output = 2;
}
static void unknown_collation(struct builder *b)
{
    b->groups[0].collation = 2;
}
static void unknown_aggregate(struct builder *b)
{
    b->aggregates[1].fn = 99;
}
static void average_as_integer(struct builder *b)
{
    b->aggregates[1].out_kind = KIND_I64;
}
static void average_with_too_few_digits(struct builder *b)
{
    b->aggregates[1].out_scale = 1;
}
static void sum_of_text(struct builder *b)
{
    b->aggregates[1].fn = AGG_SUM;
    b->aggregates[1].kind = KIND_STR;
    b->aggregates[1].argument = build_column(b, KIND_STR, 1, OWNER_NAME);
}
static void scales_that_differ(struct builder *b)
{
    struct expr_builder e;
    expr_begin(&e, &b->arena);
    uint16_t sum = expr_op2(&e, EXPR_ADD, KIND_DEC, expr_column(&e, KIND_DEC, 0, INODE_PRICE),
                            expr_const(&e, value_dec(1, 3)));
    expr_op2(&e, EXPR_GT, KIND_DEC, sum, expr_const(&e, value_dec(1, 3)));
    cr_assert_eq(expr_finish(&e, &b->sources[0].filter), ERR_NONE);
}

Test(query, refuses_trees_that_make_no_sense)
{
    static void (*const changes[])(struct builder *) = {no_sources,
                                                        no_outputs,
                                                        nothing_visible,
                                                        too_much_visible,
                                                        groups_without_aggregation,
                                                        slots_without_pruning,
                                                        join_first,
                                                        scan_second,
                                                        unknown_access,
                                                        unknown_index,
                                                        ranges_of_a_hash,
                                                        keys_of_a_secondary_index,
                                                        join_without_keys,
                                                        local_scan,
                                                        range_of_another_kind,
                                                        range_too_long,
                                                        key_of_another_kind,
                                                        key_over_its_own_source,
                                                        filter_over_a_later_source,
                                                        filter_that_is_text,
                                                        column_of_another_kind,
                                                        column_that_is_not,
                                                        output_over_a_source,
                                                        group_that_is_not,
                                                        aggregate_that_is_not,
                                                        output_of_another_kind,
                                                        output_of_another_scale,
                                                        output_shown_as_a_date,
                                                        order_by_nothing,
                                                        unknown_collation,
                                                        unknown_aggregate,
                                                        average_as_integer,
                                                        average_with_too_few_digits,
                                                        sum_of_text,
                                                        scales_that_differ};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct fixture f;
        fixture_init(&f);
        changes[i](&f.b);
        enum err err = decode(&f);
        cr_assert_eq(err, ERR_BAD_QUERY, "change %zu: %s", i, err_text(err));
        fixture_fini(&f);
    }
}

Test(query, a_changed_or_dropped_table_is_told_apart)
{
    struct fixture f;
    fixture_init(&f);
    f.b.sources[1].table_version = 2;
    cr_assert_eq(decode(&f), ERR_SCHEMA_CHANGED);
    f.b.sources[1].table_version = 1;
    f.b.sources[1].table_id = 99;
    cr_assert_eq(decode(&f), ERR_SCHEMA_CHANGED);
    fixture_fini(&f);
}

Test(query, cut_and_damaged_bytes_are_refused_or_harmless)
{
    struct fixture f;
    fixture_init(&f);
    cr_assert_eq(decode(&f), ERR_NONE);
    size_t size = f.buf.size;
    uint8_t *bytes = malloc(size);
    struct arena arena;
    arena_init(&arena, 0);
    for (size_t cut = 0; cut < size; cut++) {
        memcpy(bytes, f.buf.bytes, size);
        struct reader reader = reader_of(bytes, cut);
        struct query_tree tree;
        cr_assert_neq(query_decode(&reader, f.catalog, &arena, &tree), ERR_NONE);
        arena_reset(&arena);
    }
    uint64_t random = 1;
    for (uint32_t round = 0; round < 100000; round++) {
        memcpy(bytes, f.buf.bytes, size);
        for (uint32_t n = 0; n <= round % 3; n++) {
            random = hash_u64(random + round);
            bytes[random % size] = (uint8_t)(random >> 32);
        }
        struct reader reader = reader_of(bytes, size);
        struct query_tree tree;
        enum err err = query_decode(&reader, f.catalog, &arena, &tree);
        if (!err) {
            /* What was accepted encodes again to something that is accepted. */
            struct buf again;
            struct arena other;
            struct query_tree twice;
            buf_init(&again);
            arena_init(&other, 0);
            query_encode(&tree, &again);
            reader = reader_of(again.bytes, again.size);
            cr_assert_eq(query_decode(&reader, f.catalog, &other, &twice), ERR_NONE);
            arena_fini(&other);
            buf_fini(&again);
        } else {
            cr_assert(err == ERR_BAD_QUERY || err == ERR_SCHEMA_CHANGED, "%s", err_text(err));
        }
        arena_reset(&arena);
    }
    arena_fini(&arena);
    free(bytes);
    fixture_fini(&f);
}
