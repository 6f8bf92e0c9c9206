/* Whole queries on simulated workers, compared with loops over a plain copy of the rows: every
 * access path, joins within and across workers, aggregation, order, limits, snapshots under change,
 * limits of memory. */
#include "tests/unit/db/query/harness.h"

#include "base/check.h"
#include "tests/unit/sanitized.h"

enum { INODES = 3000, OWNERS = 12, HOMES = 40 };

struct inode {
    uint64_t ino;
    uint64_t type;
    bool has_uid;
    uint64_t uid;
    uint64_t size;
    bool has_delta;
    int64_t delta;
    bool has_ratio;
    double ratio;
    bool has_price;
    int64_t price;
    bool has_note;
    char note[40];
    bool live;
    uint32_t row;
};

struct dentry {
    uint64_t parent;
    char name[24];
    uint64_t ino;
};

/* The rows as the test knows them. */
struct model {
    struct cluster cluster;
    uint32_t inode_count;
    struct inode inodes[INODES];
    uint32_t dentry_count;
    struct dentry dentries[INODES];
};

static void inode_values(const struct inode *inode, struct value *values)
{
    values[INODE_INO] = value_u64(inode->ino);
    values[INODE_TYPE] = value_u64(inode->type);
    values[INODE_UID] = inode->has_uid ? value_u64(inode->uid) : value_null();
    values[INODE_SIZE] = value_u64(inode->size);
    values[INODE_DELTA] = inode->has_delta ? value_i64(inode->delta) : value_null();
    values[INODE_RATIO] = inode->has_ratio ? value_f64(inode->ratio) : value_null();
    values[INODE_PRICE] = inode->has_price ? value_dec(inode->price, 2) : value_null();
    values[INODE_NOTE] = inode->has_note ? value_text(inode->note) : value_null();
}

static void make_inode(struct model *model, struct inode *inode, uint64_t serial)
{
    struct cluster *c = &model->cluster;
    static const char *const notes[] = {"alpha", "Beta", "beta", "gamma.txt", "", "delta.TXT"};
    *inode = (struct inode){
        .ino = ino_of((uint16_t)(cluster_random(c) % HOMES), serial),
        .type = cluster_random(c) % 3,
        .has_uid = cluster_random(c) % 10 != 0,
        .uid = cluster_random(c) % 4 ? 1000 + cluster_random(c) % 6 : 70000 + cluster_random(c) % 6,
        .size = cluster_random(c) % 10000,
        .has_delta = cluster_random(c) % 5 != 0,
        .delta = (int64_t)(cluster_random(c) % 2001) - 1000,
        .has_ratio = cluster_random(c) % 5 != 0,
        .ratio = (double)(cluster_random(c) % 64) / 8,
        .has_price = cluster_random(c) % 5 != 0,
        .price = (int64_t)(cluster_random(c) % 20001) - 10000,
        .has_note = cluster_random(c) % 6 != 0,
        .live = true,
    };
    strcpy(inode->note, notes[cluster_random(c) % ARRAY_SIZE(notes)]);
}

static struct model *model_create(uint16_t worker_count, uint64_t seed)
{
    struct model *model = calloc(1, sizeof(*model));
    cr_assert(model);
    cluster_init(&model->cluster, worker_count, seed);
    for (uint32_t i = 0; i < INODES; i++) {
        struct inode *inode = &model->inodes[model->inode_count++];
        struct value values[8];
        make_inode(model, inode, i + 1);
        inode_values(inode, values);
        inode->row = cluster_insert(&model->cluster, TABLE_INODE, values);
        /* Most entries lie in the home of their inode, some point elsewhere, some nowhere. */
        struct dentry *dentry = &model->dentries[model->dentry_count++];
        uint64_t r = cluster_random(&model->cluster);
        uint16_t home = r % 3 ? (uint16_t)(inode->ino >> HOME_SHIFT) : (uint16_t)(r % HOMES);
        *dentry = (struct dentry){.parent = ino_of(home, r % 7), .ino = r % 20 ? inode->ino : r};
        snprintf(dentry->name, sizeof(dentry->name), "f%u.%s", i, i % 3 ? "c" : "H");
        struct value entry[4] = {value_u64(dentry->parent), value_text(dentry->name),
                                 value_u64(dentry->ino),
                                 i % 4 ? value_i64((int64_t)i % 9) : value_null()};
        cluster_insert(&model->cluster, TABLE_DENTRY, entry);
    }
    for (uint64_t uid = 0; uid < OWNERS; uid++) {
        char name[16];
        snprintf(name, sizeof(name), "%s%u", uid % 2 ? "User" : "user", (unsigned)(uid / 2));
        struct value owner[2] = {value_u64(uid < 6 ? 1000 + uid : 70000 + uid - 6),
                                 value_text(name)};
        cluster_insert(&model->cluster, TABLE_OWNER, owner);
    }
    return model;
}

static void model_destroy(struct model *model)
{
    cluster_fini(&model->cluster);
    free(model);
}

static void expect_rows(struct result *result, struct result *expected, bool ordered)
{
    cr_assert_eq(result->err, ERR_NONE, "%s: %s", err_text(result->err), result->diag.text);
    if (!ordered) {
        result_sort(result);
        result_sort(expected);
    }
    cr_assert_eq(result->row_count, expected->row_count, "%" PRIu64 " rows, not %" PRIu64,
                 result->row_count, expected->row_count);
    for (uint64_t i = 0; i < result->row_count; i++)
        cr_assert_str_eq(result->rows[i], expected->rows[i]);
    result_fini(result);
    result_fini(expected);
}

/* Each case on one, two, three and four workers. */
static const uint16_t worker_counts[] = {1, 2, 3, 4};

/* ---- one table ---- */

Test(exec, scan_with_filter_gives_the_rows_that_hold)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 11 + n);
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_INODE);
        struct expr_builder e;
        struct expr filter;
        expr_begin(&e, &b.arena);
        uint16_t x = expr_op2(&e, EXPR_EQ, KIND_U64, expr_column(&e, KIND_U64, 0, INODE_TYPE),
                              expr_const(&e, value_u64(1)));
        uint16_t y = expr_op2(&e, EXPR_LT, KIND_I64, expr_column(&e, KIND_I64, 0, INODE_DELTA),
                              expr_const(&e, value_i64(100)));
        expr_op2(&e, EXPR_AND, KIND_I64, x, y);
        cr_assert_eq(expr_finish(&e, &filter), ERR_NONE);
        build_filter(&b, 0, filter);
        build_output_column(&b, KIND_U64, 0, INODE_INO);
        build_output_column(&b, KIND_I64, 0, INODE_DELTA);
        build_output_column(&b, KIND_STR, 0, INODE_NOTE);
        struct result result;
        struct result expected = {0};
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.rows_scanned, INODES);
        for (uint32_t i = 0; i < INODES; i++) {
            const struct inode *inode = &model->inodes[i];
            if (inode->type != 1 || !inode->has_delta || inode->delta >= 100) continue;
            struct value row[3] = {value_u64(inode->ino), value_i64(inode->delta),
                                   inode->has_note ? value_text(inode->note) : value_null()};
            result_add(&expected, row, 3);
        }
        expect_rows(&result, &expected, false);
        build_end(&b);
        model_destroy(model);
    }
}

/* Columns are fetched while an expression is half computed: one used first as the last operand,
 * after truth values of others, must not meet their buffers. */
Test(exec, columns_fetched_in_the_middle_of_an_expression_are_whole)
{
    struct model *model = model_create(1, 23);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    struct expr_builder e;
    struct expr filter;
    expr_begin(&e, &b.arena);
    uint16_t x = expr_op2(&e, EXPR_EQ, KIND_U64, expr_column(&e, KIND_U64, 0, INODE_TYPE),
                          expr_const(&e, value_u64(1)));
    uint16_t y = expr_op2(&e, EXPR_LT, KIND_I64, expr_column(&e, KIND_I64, 0, INODE_DELTA),
                          expr_const(&e, value_i64(100)));
    uint16_t z = expr_op2(&e, EXPR_GT, KIND_U64, expr_column(&e, KIND_U64, 0, INODE_SIZE),
                          expr_const(&e, value_u64(5000)));
    uint16_t xy = expr_op2(&e, EXPR_OR, KIND_I64, x, y);
    expr_op2(&e, EXPR_XOR, KIND_I64, xy, z);
    cr_assert_eq(expr_finish(&e, &filter), ERR_NONE);
    build_filter(&b, 0, filter);
    build_output_column(&b, KIND_U64, 0, INODE_SIZE);
    build_output_column(&b, KIND_I64, 0, INODE_DELTA);
    build_output_column(&b, KIND_U64, 0, INODE_TYPE);
    struct result result;
    struct result expected = {0};
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    for (uint32_t i = 0; i < INODES; i++) {
        const struct inode *inode = &model->inodes[i];
        bool either = inode->type == 1 || (inode->has_delta && inode->delta < 100);
        bool unknown = inode->type != 1 && !inode->has_delta;
        if (unknown || either == (inode->size > 5000)) continue;
        struct value row[3] = {value_u64(inode->size),
                               inode->has_delta ? value_i64(inode->delta) : value_null(),
                               value_u64(inode->type)};
        result_add(&expected, row, 3);
    }
    expect_rows(&result, &expected, false);
    build_end(&b);
    model_destroy(model);
}

Test(exec, ranges_follow_bounds_nulls_and_overlaps)
{
    struct model *model = model_create(2, 5);
    struct builder b;
    build_begin(&b);
    struct query_source *source = build_scan(&b, TABLE_INODE);
    source->access = ACCESS_RANGES;
    source->index = 1;
    struct index_range ranges[] = {
        /* < 1002, so neither NULL; overlapping [1001, 1003); above all; a bound beyond the column
         */
        {.has_high = true, .high = value_u64(1002)},
        {.has_low = true,
         .low_inclusive = true,
         .low = value_u64(1001),
         .has_high = true,
         .high = value_u64(1003)},
        {.has_low = true,
         .low = value_u64(70004),
         .has_high = true,
         .high = value_u64(UINT64_C(1) << 40)},
        {.has_low = true, .low = value_u64(UINT64_C(1) << 41)},
    };
    source->ranges = ranges;
    source->range_count = ARRAY_SIZE(ranges);
    build_output_column(&b, KIND_U64, 0, INODE_INO);
    build_output_column(&b, KIND_U64, 0, INODE_UID);
    struct result result;
    struct result expected = {0};
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    for (uint32_t i = 0; i < INODES; i++) {
        const struct inode *inode = &model->inodes[i];
        if (!inode->has_uid || !(inode->uid < 1003 || inode->uid > 70004)) continue;
        struct value row[2] = {value_u64(inode->ino), value_u64(inode->uid)};
        result_add(&expected, row, 2);
    }
    expect_rows(&result, &expected, false);

    /* Equal to NULL is how IS NULL is looked up. */
    struct value null = value_null();
    struct index_range is_null = {.eq_count = 1, .eq = &null};
    source->ranges = &is_null;
    source->range_count = 1;
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    for (uint32_t i = 0; i < INODES; i++) {
        if (model->inodes[i].has_uid) continue;
        struct value row[2] = {value_u64(model->inodes[i].ino), value_null()};
        result_add(&expected, row, 2);
    }
    expect_rows(&result, &expected, false);
    build_end(&b);
    model_destroy(model);
}

Test(exec, keys_are_looked_up_in_their_partition_once_each)
{
    struct model *model = model_create(3, 6);
    struct builder b;
    build_begin(&b);
    struct query_source *source = build_scan(&b, TABLE_INODE);
    source->access = ACCESS_KEYS;
    struct value keys[] = {value_u64(model->inodes[5].ino), value_u64(model->inodes[77].ino),
                           value_u64(ino_of(3, 999999)), value_u64(model->inodes[5].ino),
                           value_u64(model->inodes[2999].ino)};
    struct index_range ranges[ARRAY_SIZE(keys)];
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        ranges[i] = (struct index_range){.eq_count = 1, .eq = &keys[i]};
    source->ranges = ranges;
    source->range_count = ARRAY_SIZE(keys);
    build_output_column(&b, KIND_U64, 0, INODE_INO);
    struct result result;
    struct result expected = {0};
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    result_add(&expected, &keys[0], 1);
    result_add(&expected, &keys[1], 1);
    result_add(&expected, &keys[4], 1);
    cr_assert_eq(result.rows_scanned, 3);
    expect_rows(&result, &expected, false);
    build_end(&b);
    model_destroy(model);
}

Test(exec, pruned_slots_touch_only_their_partitions)
{
    struct model *model = model_create(2, 8);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    uint16_t slots[] = {3, 12};
    b.tree.pruned = true;
    b.tree.slots = slots;
    b.tree.slot_count = 2;
    build_aggregate(&b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
    build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 0);
    int64_t count = 0;
    for (uint32_t i = 0; i < INODES; i++) {
        uint64_t partition = model->inodes[i].ino >> HOME_SHIFT & (CLUSTER_PARTITIONS - 1);
        count += partition == 3 || partition == 4;
    }
    struct result result;
    struct result expected = {0};
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    struct value row = value_i64(count);
    result_add(&expected, &row, 1);
    expect_rows(&result, &expected, false);

    b.tree.slot_count = 0; /* no partition: still one group */
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    row = value_i64(0);
    result_add(&expected, &row, 1);
    expect_rows(&result, &expected, false);
    build_end(&b);
    model_destroy(model);
}

Test(exec, order_limit_and_offset_do_not_depend_on_workers)
{
    char *first[20] = {0};
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 99); /* the same rows each time */
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_INODE);
        build_output_column(&b, KIND_I64, 0, INODE_DELTA);
        build_output_column(&b, KIND_U64, 0, INODE_UID);
        build_output_column(&b, KIND_U64, 0, INODE_INO);
        build_output_column(&b, KIND_STR, 0, INODE_NOTE);
        b.tree.visible_count = 3; /* ordered by a hidden one as well */
        build_order(&b, 3, true);
        build_order(&b, 0, false);
        build_limit(&b, 20, 0);
        struct result result;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        cr_assert_eq(result.row_count, 20);
        for (uint32_t i = 0; i < 20; i++) {
            if (!first[i]) first[i] = strdup(result.rows[i]);
            cr_assert_str_eq(result.rows[i], first[i]);
        }
        result_fini(&result);
        /* OFFSET skips the first of them; without a limit all come. */
        build_limit(&b, 5, 15);
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.row_count, 5);
        for (uint32_t i = 0; i < 5; i++)
            cr_assert_str_eq(result.rows[i], first[15 + i]);
        result_fini(&result);
        b.tree.has_limit = false;
        b.tree.offset = 0;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.row_count, INODES);
        for (uint32_t i = 0; i < 20; i++)
            cr_assert_str_eq(result.rows[i], first[i]);
        result_fini(&result);
        build_end(&b);
        model_destroy(model);
    }
    for (uint32_t i = 0; i < 20; i++)
        free(first[i]);
}

Test(exec, limit_without_order_stops_the_scan)
{
    struct model *model = model_create(1, 3);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    build_output_column(&b, KIND_U64, 0, INODE_INO);
    build_limit(&b, 7, 3);
    struct result result;
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_NONE);
    cr_assert_eq(result.row_count, 7);
    cr_assert_lt(result.rows_scanned, INODES / 2);
    result_fini(&result);
    build_limit(&b, 0, 0);
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_NONE);
    cr_assert_eq(result.row_count, 0);
    cr_assert_eq(result.rows_scanned, 0);
    result_fini(&result);
    build_end(&b);
    model_destroy(model);
}

Test(exec, distinct_rows_come_once)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 21);
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_INODE);
        build_output_column(&b, KIND_U64, 0, INODE_TYPE);
        build_output_column(&b, KIND_U64, 0, INODE_UID);
        b.tree.distinct = true;
        struct result result;
        struct result expected = {0};
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        for (uint32_t i = 0; i < INODES; i++) {
            const struct inode *inode = &model->inodes[i];
            bool seen = false;
            for (uint32_t j = 0; j < i && !seen; j++) {
                const struct inode *other = &model->inodes[j];
                seen = other->type == inode->type && other->has_uid == inode->has_uid &&
                       (!inode->has_uid || other->uid == inode->uid);
            }
            struct value row[2] = {value_u64(inode->type),
                                   inode->has_uid ? value_u64(inode->uid) : value_null()};
            if (!seen) result_add(&expected, row, 2);
        }
        expect_rows(&result, &expected, false);

        /* By collation: Beta and beta are one. */
        struct builder t;
        build_begin(&t);
        build_scan(&t, TABLE_INODE);
        build_output_column(&t, KIND_STR, 0, INODE_NOTE);
        t.outputs[0].collation = COLLATION_CASE_INSENSITIVE;
        t.tree.distinct = true;
        build_order(&t, 0, false);
        build_limit(&t, 100, 0);
        cluster_run(&model->cluster, &t.tree, NULL, &result);
        cr_assert_eq(result.row_count, 6); /* NULL, '', alpha, beta, gamma, delta */
        cr_assert_str_eq(result.rows[0], "NULL");
        cr_assert_str_eq(result.rows[1], "''");
        result_fini(&result);
        build_end(&t);
        build_end(&b);
        model_destroy(model);
    }
}

/* ---- aggregation ---- */

struct group_state {
    bool has_key;
    uint64_t key;
    int64_t rows;
    int64_t notes;
    int64_t deltas;
    int64_t delta_sum;
    int64_t delta_min;
    int64_t delta_max;
    double ratio_sum;
    int64_t ratios;
    int64_t price_sum;
    int64_t prices;
    uint64_t size_sum;
    bool types[3];
    const char *note_max;
};

static struct value dec_average(int64_t sum, int64_t count, uint8_t scale)
{
    if (!count) return value_null();
    __int128 scaled = (__int128)sum * 10000;
    __int128 quotient = scaled / count;
    __int128 rest = scaled % count;
    if (2 * (rest < 0 ? -rest : rest) >= count) quotient += sum < 0 ? -1 : 1;
    return value_dec((int64_t)quotient, scale);
}

static void group_row(const struct group_state *g, struct value *row)
{
    row[0] = g->has_key ? value_u64(g->key) : value_null();
    row[1] = value_i64(g->rows);
    row[2] = value_i64(g->notes);
    row[3] = g->deltas ? value_i64(g->delta_sum) : value_null();
    row[4] = g->deltas ? value_i64(g->delta_min) : value_null();
    row[5] = g->deltas ? value_i64(g->delta_max) : value_null();
    row[6] = dec_average(g->delta_sum, g->deltas, 4);
    row[7] = g->ratios ? value_f64(g->ratio_sum / (double)g->ratios) : value_null();
    row[8] = g->prices ? value_dec(g->price_sum, 2) : value_null();
    row[9] = dec_average(g->price_sum, g->prices, 6);
    row[10] = value_i64(g->types[0] + g->types[1] + g->types[2]);
    row[11] = value_dec((int64_t)g->size_sum, 0);
    row[12] = g->note_max ? value_text(g->note_max) : value_null();
}

static void naive_aggregate(const struct model *model, bool grouped, struct result *expected)
{
    struct group_state groups[32] = {0};
    uint32_t count = grouped ? 0 : 1;
    for (uint32_t i = 0; i < INODES; i++) {
        const struct inode *n = &model->inodes[i];
        uint32_t at = 0;
        if (grouped)
            while (at < count &&
                   (groups[at].has_key != n->has_uid || (n->has_uid && groups[at].key != n->uid)))
                at++;
        struct group_state *g = &groups[at];
        if (at == count) {
            count++;
            g->has_key = n->has_uid;
            g->key = n->uid;
        }
        g->rows++;
        g->notes += n->has_note;
        g->size_sum += n->size;
        g->types[n->type] = true;
        if (n->has_delta) {
            if (!g->deltas || n->delta < g->delta_min) g->delta_min = n->delta;
            if (!g->deltas || n->delta > g->delta_max) g->delta_max = n->delta;
            g->deltas++;
            g->delta_sum += n->delta;
        }
        if (n->has_ratio) {
            g->ratios++;
            g->ratio_sum += n->ratio;
        }
        if (n->has_price) {
            g->prices++;
            g->price_sum += n->price;
        }
        if (n->has_note && (!g->note_max || strcmp(n->note, g->note_max) > 0))
            g->note_max = n->note;
    }
    for (uint32_t at = 0; at < count; at++) {
        struct value row[13];
        group_row(&groups[at], row);
        if (!grouped) row[0] = value_u64(0);
        result_add(expected, row, 13);
    }
}

static void build_all_aggregates(struct builder *b, bool grouped)
{
    build_scan(b, TABLE_INODE);
    b->tree.has_aggregation = true;
    if (grouped) build_group(b, build_column(b, KIND_U64, 0, INODE_UID), 0);
    struct expr delta = build_column(b, KIND_I64, 0, INODE_DELTA);
    struct expr ratio = build_column(b, KIND_F64, 0, INODE_RATIO);
    struct expr price = build_column(b, KIND_DEC, 0, INODE_PRICE);
    struct expr note = build_column(b, KIND_STR, 0, INODE_NOTE);
    build_aggregate(b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
    build_aggregate(b, AGG_COUNT, KIND_STR, KIND_I64, 0, note);
    build_aggregate(b, AGG_SUM, KIND_I64, KIND_I64, 0, delta);
    build_aggregate(b, AGG_MIN, KIND_I64, KIND_I64, 0, delta);
    build_aggregate(b, AGG_MAX, KIND_I64, KIND_I64, 0, delta);
    build_aggregate(b, AGG_AVG, KIND_I64, KIND_DEC, 4, delta);
    build_aggregate(b, AGG_AVG, KIND_F64, KIND_F64, 0, ratio);
    build_aggregate(b, AGG_SUM, KIND_DEC, KIND_DEC, 2, price);
    build_aggregate(b, AGG_AVG, KIND_DEC, KIND_DEC, 6, price);
    build_aggregate(b, AGG_COUNT_DISTINCT, KIND_U64, KIND_I64, 0,
                    build_column(b, KIND_U64, 0, INODE_TYPE));
    build_aggregate(b, AGG_SUM, KIND_U64, KIND_DEC, 0, build_column(b, KIND_U64, 0, INODE_SIZE));
    build_aggregate(b, AGG_MAX, KIND_STR, KIND_STR, 0, note);
    if (grouped)
        build_output_column(b, KIND_U64, EXPR_SOURCE_GROUP, 0);
    else
        build_output(b, KIND_U64, 0, build_const(b, value_u64(0)));
    for (uint16_t i = 0; i < b->tree.aggregate_count; i++) {
        const struct query_aggregate *aggregate = &b->aggregates[i];
        build_output(b, (enum value_kind)aggregate->out_kind, aggregate->out_scale,
                     build_column(b, (enum value_kind)aggregate->out_kind, EXPR_SOURCE_AGG, i));
    }
}

Test(exec, aggregates_equal_naive_ones)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        for (int grouped = 0; grouped < 2; grouped++) {
            struct model *model = model_create(worker_counts[n], 31 + n);
            struct builder b;
            build_begin(&b);
            build_all_aggregates(&b, grouped);
            struct result result;
            struct result expected = {0};
            cluster_run(&model->cluster, &b.tree, NULL, &result);
            naive_aggregate(model, grouped, &expected);
            expect_rows(&result, &expected, false);
            build_end(&b);
            model_destroy(model);
        }
    }
}

/* Groups by text, by several keys packed and not, with the first row's spelling shown. */
Test(exec, groups_by_other_keys_are_complete)
{
    struct model *model = model_create(2, 17);
    static const struct {
        enum value_kind kind;
        uint16_t column;
        uint8_t collation;
    } keys[] = {{KIND_U64, INODE_TYPE, 0},  {KIND_U64, INODE_UID, 0},
                {KIND_STR, INODE_NOTE, 0},  {KIND_STR, INODE_NOTE, COLLATION_CASE_INSENSITIVE},
                {KIND_F64, INODE_RATIO, 0}, {KIND_DEC, INODE_PRICE, 0}};
    for (unsigned set = 1; set < 1u << ARRAY_SIZE(keys); set++) {
        if ((set & 12) == 12) continue; /* one spelling at a time */
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_INODE);
        for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
            if (set >> k & 1) {
                uint16_t group = build_group(&b, build_column(&b, keys[k].kind, 0, keys[k].column),
                                             keys[k].collation);
                build_output(&b, keys[k].kind, keys[k].kind == KIND_DEC ? 2 : 0,
                             build_column(&b, keys[k].kind, EXPR_SOURCE_GROUP, group));
            }
        build_aggregate(&b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
        build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 0);
        struct result result;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        /* Each group once, together all rows. */
        result_sort(&result);
        int64_t total = 0;
        for (uint64_t i = 0; i < result.row_count; i++) {
            total += atoll(strrchr(result.rows[i], '|') + 1);
            if (i) cr_assert_str_neq(result.rows[i], result.rows[i - 1]);
        }
        cr_assert_eq(total, INODES);
        if (set == 4) cr_assert_eq(result.row_count, 7);
        if (set == 8) cr_assert_eq(result.row_count, 6);
        if (set == 1) cr_assert_eq(result.row_count, 3);
        result_fini(&result);
        build_end(&b);
    }
    model_destroy(model);
}

Test(exec, having_order_and_limit_apply_to_groups)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 51);
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_INODE);
        build_group(&b, build_column(&b, KIND_U64, 0, INODE_INO), 0);
        build_aggregate(&b, AGG_SUM, KIND_U64, KIND_DEC, 0,
                        build_column(&b, KIND_U64, 0, INODE_SIZE));
        b.tree.has_having = true;
        b.tree.having =
            build_compare(&b, EXPR_GT, KIND_DEC, EXPR_SOURCE_AGG, 0, value_dec(5000, 0));
        build_output_column(&b, KIND_U64, EXPR_SOURCE_GROUP, 0);
        build_output_column(&b, KIND_DEC, EXPR_SOURCE_AGG, 0);
        build_order(&b, 1, false);
        build_limit(&b, 10, 0);
        struct result result;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE);
        cr_assert_eq(result.row_count, 10);
        uint64_t smallest = UINT64_MAX;
        uint32_t above = 0;
        for (uint32_t i = 0; i < INODES; i++) {
            uint64_t size = model->inodes[i].size;
            if (size > 5000 && size < smallest) smallest = size;
            above += size > 5000;
        }
        cr_assert_eq(strtoull(strchr(result.rows[0], '|') + 1, NULL, 10), smallest);
        result_fini(&result);
        b.tree.has_limit = false;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.row_count, above);
        result_fini(&result);
        b.tree.order_count = 0;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.row_count, above);
        result_fini(&result);
        build_end(&b);
        model_destroy(model);
    }
}

Test(exec, sums_beyond_their_kind_are_out_of_range)
{
    struct model *model = model_create(2, 1);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    struct expr_builder e;
    struct expr big;
    expr_begin(&e, &b.arena);
    expr_op2(&e, EXPR_BIT_OR, KIND_U64, expr_column(&e, KIND_U64, 0, INODE_SIZE),
             expr_const(&e, value_u64(UINT64_C(1) << 62)));
    cr_assert_eq(expr_finish(&e, &big), ERR_NONE);
    build_aggregate(&b, AGG_SUM, KIND_U64, KIND_U64, 0, big);
    build_output_column(&b, KIND_U64, EXPR_SOURCE_AGG, 0);
    struct result result;
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_OUT_OF_RANGE);
    cr_assert(strstr(result.diag.text, "output column c0"), "%s", result.diag.text);
    result_fini(&result);
    build_end(&b);
    model_destroy(model);
}

Test(exec, a_failing_expression_names_its_place)
{
    struct model *model = model_create(2, 1);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    struct expr_builder e;
    struct expr expr;
    expr_begin(&e, &b.arena);
    uint16_t difference = expr_op2(&e, EXPR_SUB, KIND_U64, expr_const(&e, value_u64(5)),
                                   expr_column(&e, KIND_U64, 0, INODE_SIZE));
    expr_op2(&e, EXPR_GT, KIND_U64, difference, expr_const(&e, value_u64(0)));
    cr_assert_eq(expr_finish(&e, &expr), ERR_NONE);
    build_filter(&b, 0, expr);
    build_output_column(&b, KIND_U64, 0, INODE_INO);
    struct result result;
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_OUT_OF_RANGE);
    cr_assert(strstr(result.diag.text, "filter of table inode"), "%s", result.diag.text);
    result_fini(&result);
    build_end(&b);
    model_destroy(model);
}

/* ---- joins ---- */

/* dentry joined with its inode; then with the inode's owner. */
static void build_entries(struct builder *b, bool local, bool owner)
{
    build_scan(b, TABLE_DENTRY);
    build_join(b, TABLE_INODE, 0, local, build_column(b, KIND_U64, 0, DENTRY_INO));
    build_output_column(b, KIND_STR, 0, DENTRY_NAME);
    build_output_column(b, KIND_U64, 1, INODE_SIZE);
    build_output_column(b, KIND_STR, 1, INODE_NOTE);
    if (!owner) return;
    build_join(b, TABLE_OWNER, 0, false, build_column(b, KIND_U64, 1, INODE_UID));
    build_output_column(b, KIND_STR, 2, OWNER_NAME);
}

static void naive_entries(const struct model *model, bool owner, struct result *expected)
{
    for (uint32_t d = 0; d < model->dentry_count; d++) {
        const struct dentry *dentry = &model->dentries[d];
        for (uint32_t i = 0; i < model->inode_count; i++) {
            const struct inode *inode = &model->inodes[i];
            if (inode->ino != dentry->ino) continue;
            struct value row[4] = {value_text(dentry->name), value_u64(inode->size),
                                   inode->has_note ? value_text(inode->note) : value_null()};
            if (owner) {
                char name[16];
                if (!inode->has_uid) continue;
                unsigned uid =
                    (unsigned)(inode->uid < 70000 ? inode->uid - 1000 : inode->uid - 70000 + 6);
                snprintf(name, sizeof(name), "%s%u", uid % 2 ? "User" : "user", uid / 2);
                row[3] = value_text(name);
                result_add(expected, row, 4);
            } else {
                result_add(expected, row, 3);
            }
        }
    }
}

Test(exec, joins_by_primary_key_move_rows_to_their_partition)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        for (int owner = 0; owner < 2; owner++) {
            struct model *model = model_create(worker_counts[n], 61 + n);
            struct builder b;
            build_begin(&b);
            build_entries(&b, false, owner);
            struct result result;
            struct result expected = {0};
            cluster_run(&model->cluster, &b.tree, NULL, &result);
            cr_assert_eq(model->cluster.moves > 0, worker_counts[n] > 1);
            naive_entries(model, owner, &expected);
            expect_rows(&result, &expected, false);
            build_end(&b);
            model_destroy(model);
        }
    }
}

Test(exec, local_joins_stay_in_the_partition)
{
    struct model *model = model_create(2, 71);
    struct builder b;
    build_begin(&b);
    build_entries(&b, true, false);
    struct result result;
    struct result expected = {0};
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(model->cluster.moves, 0);
    /* What is elsewhere is not found: that the planner was right is its affair. */
    for (uint32_t d = 0; d < model->dentry_count; d++) {
        const struct dentry *dentry = &model->dentries[d];
        for (uint32_t i = 0; i < model->inode_count; i++) {
            const struct inode *inode = &model->inodes[i];
            if (inode->ino != dentry->ino ||
                ((inode->ino ^ dentry->parent) >> HOME_SHIFT & (CLUSTER_PARTITIONS - 1)))
                continue;
            struct value row[3] = {value_text(dentry->name), value_u64(inode->size),
                                   inode->has_note ? value_text(inode->note) : value_null()};
            result_add(&expected, row, 3);
        }
    }
    expect_rows(&result, &expected, false);
    build_end(&b);
    model_destroy(model);
}

/* owner -> inode by its index over uid, which does not tell the partition: a broadcast, with a
 * large fan-out; the result aggregated, and compared with the join the other way round. */
Test(exec, joins_that_do_not_know_the_partition_visit_all)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 81 + n);
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_OWNER);
        build_join(&b, TABLE_INODE, 1, false, build_column(&b, KIND_U64, 0, OWNER_UID));
        build_filter(&b, 1, build_compare(&b, EXPR_NE, KIND_U64, 1, INODE_TYPE, value_u64(2)));
        build_group(&b, build_column(&b, KIND_STR, 0, OWNER_NAME), COLLATION_CASE_INSENSITIVE);
        build_aggregate(&b, AGG_SUM, KIND_U64, KIND_DEC, 0,
                        build_column(&b, KIND_U64, 1, INODE_SIZE));
        build_output_column(&b, KIND_DEC, EXPR_SOURCE_AGG, 0);
        build_aggregate(&b, AGG_MIN, KIND_STR, KIND_STR, 0,
                        build_column(&b, KIND_STR, 0, OWNER_NAME));
        b.aggregates[1].collation = COLLATION_CASE_INSENSITIVE;
        struct result result;
        struct result other;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        cr_assert_eq(result.row_count, OWNERS / 2); /* user0 and User0 are one */

        struct builder r;
        build_begin(&r);
        build_scan(&r, TABLE_INODE);
        build_filter(&r, 0, build_compare(&r, EXPR_NE, KIND_U64, 0, INODE_TYPE, value_u64(2)));
        build_join(&r, TABLE_OWNER, 0, false, build_column(&r, KIND_U64, 0, INODE_UID));
        build_group(&r, build_column(&r, KIND_STR, 1, OWNER_NAME), COLLATION_CASE_INSENSITIVE);
        build_aggregate(&r, AGG_SUM, KIND_U64, KIND_DEC, 0,
                        build_column(&r, KIND_U64, 0, INODE_SIZE));
        build_output_column(&r, KIND_DEC, EXPR_SOURCE_AGG, 0);
        cluster_run(&model->cluster, &r.tree, NULL, &other);
        expect_rows(&result, &other, false);
        build_end(&r);
        build_end(&b);
        model_destroy(model);
    }
}

/* Four tables, each hop to another partition, every row meeting many: more rows than any box holds.
 */
Test(exec, long_pipelines_with_fan_out_end_and_are_complete)
{
    int64_t counts[ARRAY_SIZE(worker_counts)];
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 91);
        struct builder b;
        build_begin(&b);
        build_scan(&b, TABLE_DENTRY);
        build_filter(&b, 0, build_compare(&b, EXPR_EQ, KIND_I64, 0, DENTRY_MARK, value_i64(1)));
        build_join(&b, TABLE_INODE, 0, false, build_column(&b, KIND_U64, 0, DENTRY_INO));
        build_join(&b, TABLE_OWNER, 0, false, build_column(&b, KIND_U64, 1, INODE_UID));
        build_join(&b, TABLE_INODE, 1, false, build_column(&b, KIND_U64, 2, OWNER_UID));
        build_aggregate(&b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
        build_aggregate(&b, AGG_COUNT_DISTINCT, KIND_STR, KIND_I64, 0,
                        build_column(&b, KIND_STR, 0, DENTRY_NAME));
        build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 0);
        build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 1);
        struct result result;
        cluster_run(&model->cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        cr_assert_eq(result.row_count, 1);
        counts[n] = atoll(result.rows[0]);
        cr_assert_eq(counts[n], counts[0]);
        if (worker_counts[n] > 1) cr_assert_geq(model->cluster.idle_reports, worker_counts[n]);
        result_fini(&result);

        int64_t expected = 0;
        for (uint32_t d = 0; d < model->dentry_count; d++) {
            if (!(d % 4 && d % 9 == 1)) continue;
            for (uint32_t i = 0; i < model->inode_count; i++) {
                const struct inode *inode = &model->inodes[i];
                if (inode->ino != model->dentries[d].ino || !inode->has_uid) continue;
                for (uint32_t k = 0; k < model->inode_count; k++)
                    expected += model->inodes[k].has_uid && model->inodes[k].uid == inode->uid;
            }
        }
        cr_assert_eq(counts[n], expected);
        build_end(&b);
        model_destroy(model);
    }
}

Test(exec, a_limit_ends_a_join_across_workers_early)
{
    struct model *model = model_create(4, 13);
    struct builder b;
    build_begin(&b);
    build_entries(&b, false, true);
    build_limit(&b, 5, 0);
    struct run_options options = {.window = 1};
    struct result result;
    cluster_run(&model->cluster, &b.tree, &options, &result);
    cr_assert_eq(result.err, ERR_NONE);
    cr_assert_eq(result.row_count, 5);
    result_fini(&result);
    build_end(&b);
    model_destroy(model);
}

/* ---- snapshots ---- */

static void change_some(struct cluster *cluster, void *context)
{
    struct model *model = context;
    for (int n = 0; n < 20; n++) {
        uint32_t i = (uint32_t)(cluster_random(cluster) % model->inode_count);
        struct inode *inode = &model->inodes[i];
        struct value values[8];
        inode_values(inode, values);
        uint16_t p = cluster_partition_of(cluster, TABLE_INODE, values);
        struct fragment *fragment = cluster_fragment(cluster, TABLE_INODE, p);
        struct change_set *changes = cluster->changes[p % cluster->worker_count];
        if (!inode->live) {
            cr_assert_eq(fragment_insert(fragment, changes, values, &inode->row), ERR_NONE);
            inode->live = true;
        } else if (cluster_random(cluster) % 3 == 0) {
            cr_assert_eq(fragment_delete(fragment, changes, inode->row), ERR_NONE);
            inode->live = false;
        } else {
            uint16_t columns[] = {INODE_SIZE, INODE_NOTE, INODE_UID};
            char note[40];
            snprintf(note, sizeof(note), "changed to %u",
                     (unsigned)(cluster_random(cluster) % 1000));
            struct value fresh[] = {value_u64(cluster_random(cluster) % 100000), value_text(note),
                                    value_u64(1000 + cluster_random(cluster) % 6)};
            cr_assert_eq(fragment_update(fragment, changes, inode->row, columns, fresh, 3),
                         ERR_NONE);
        }
        if (cluster_random(cluster) % 5)
            change_set_commit(changes, ++cluster->ts);
        else {
            change_set_rollback(changes);
            /* Undo what the model was told. */
            uint32_t row;
            enum err err = fragment_find(fragment, NULL, &values[0], &row);
            inode->live = err == ERR_NONE;
            if (inode->live) inode->row = row;
        }
        ldm_collect(cluster->workers[p % cluster->worker_count].ldm, 10, NULL, NULL);
    }
}

Test(exec, rows_changed_while_it_runs_are_seen_as_of_the_snapshot)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct model *model = model_create(worker_counts[n], 101 + n);
        struct run_options options = {.between = change_some, .context = model, .window = 2};
        struct builder aggregates;
        struct builder entries;
        struct builder ordered;
        build_begin(&aggregates);
        build_all_aggregates(&aggregates, true);
        build_begin(&entries);
        build_entries(&entries, false, true);
        build_begin(&ordered);
        struct query_source *source = build_scan(&ordered, TABLE_INODE);
        struct index_range all = {.has_low = true, .low_inclusive = true, .low = value_u64(0)};
        source->access = ACCESS_RANGES;
        source->index = 1;
        source->ranges = &all;
        source->range_count = 1;
        build_output_column(&ordered, KIND_STR, 0, INODE_NOTE);
        build_output_column(&ordered, KIND_U64, 0, INODE_INO);
        build_order(&ordered, 0, false);
        struct query_tree *trees[] = {&aggregates.tree, &entries.tree, &ordered.tree};
        for (int round = 0; round < 3; round++) {
            for (size_t t = 0; t < ARRAY_SIZE(trees); t++) {
                struct result before;
                struct result during;
                /* The same timestamp twice, the second time under change: one result. */
                cluster_run(&model->cluster, trees[t], NULL, &before);
                model->cluster.tick_ns = 20000; /* a step a slice */
                cluster_run(&model->cluster, trees[t], &options, &during);
                model->cluster.tick_ns = 1000;
                expect_rows(&during, &before, false);
            }
        }
        build_end(&aggregates);
        build_end(&entries);
        build_end(&ordered);
        model_destroy(model);
    }
}

/* ---- limits ---- */

Test(exec, more_groups_than_memory_allows_is_an_error)
{
    struct model *model = model_create(2, 44);
    struct builder b;
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    build_group(&b, build_column(&b, KIND_U64, 0, INODE_INO), 0);
    build_aggregate(&b, AGG_SUM, KIND_U64, KIND_DEC, 0, build_column(&b, KIND_U64, 0, INODE_SIZE));
    build_output_column(&b, KIND_DEC, EXPR_SOURCE_AGG, 0);
    struct result result;
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_NONE);
    uint64_t peak = result.memory_peak;
    result_fini(&result);
    /* Every limit up to what it needs fails cleanly somewhere else. */
    uint32_t failed = 0;
    for (uint64_t limit = 1; limit < peak; limit += peak / 61) {
        struct run_options options = {.memory_max = limit};
        cluster_run(&model->cluster, &b.tree, &options, &result);
        cr_assert(result.err == ERR_QUERY_MEMORY || result.err == ERR_NONE);
        failed += result.err == ERR_QUERY_MEMORY;
        result_fini(&result);
    }
    cr_assert_gt(failed, 30);
    build_end(&b);

    /* A join and a sort as well. */
    build_begin(&b);
    build_entries(&b, false, true);
    build_order(&b, 0, false);
    cluster_run(&model->cluster, &b.tree, NULL, &result);
    cr_assert_eq(result.err, ERR_NONE);
    peak = result.memory_peak;
    result_fini(&result);
    for (uint64_t limit = 1; limit < peak; limit += peak / 61) {
        struct run_options options = {.memory_max = limit};
        cluster_run(&model->cluster, &b.tree, &options, &result);
        cr_assert(result.err == ERR_QUERY_MEMORY || result.err == ERR_NONE);
        result_fini(&result);
    }
    build_end(&b);
    model_destroy(model);
}

/* Values of 60 KB: messages are cut by their size, not only by rows. */
Test(exec, long_values_travel_in_several_messages)
{
    enum { BLOBS = SANITIZED ? 100 : 400, BODY_SIZE = 60000 };
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct cluster cluster;
        cluster_init(&cluster, worker_counts[n], 7);
        char *body = malloc(BODY_SIZE);
        memset(body, 'x', BODY_SIZE);
        for (uint64_t id = 0; id < BLOBS; id++) {
            memcpy(body, &(char[4]){(char)('a' + id % 26), (char)('a' + id / 26), '-', 0}, 3);
            struct value values[2] = {value_u64(id),
                                      id % 10 ? value_str(body, BODY_SIZE) : value_null()};
            cluster_insert(&cluster, TABLE_BLOB, values);
        }
        free(body);
        struct builder b;
        struct result result;
        /* Each blob with the next one, which is in another partition. */
        build_begin(&b);
        build_scan(&b, TABLE_BLOB);
        struct expr_builder e;
        struct expr key;
        expr_begin(&e, &b.arena);
        expr_op2(&e, EXPR_ADD, KIND_U64, expr_column(&e, KIND_U64, 0, BLOB_ID),
                 expr_const(&e, value_u64(1)));
        cr_assert_eq(expr_finish(&e, &key), ERR_NONE);
        build_join(&b, TABLE_BLOB, 0, false, key);
        expr_begin(&e, &b.arena);
        expr_op1(&e, EXPR_LENGTH, KIND_STR, expr_column(&e, KIND_STR, 0, BLOB_BODY));
        cr_assert_eq(expr_finish(&e, &key), ERR_NONE);
        build_output(&b, KIND_I64, 0, key);
        build_output_column(&b, KIND_STR, 1, BLOB_BODY);
        build_output_column(&b, KIND_STR, 0, BLOB_BODY);
        cluster_run(&cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        cr_assert_eq(result.row_count, BLOBS - 1);
        uint32_t full = 0;
        for (uint64_t i = 0; i < result.row_count; i++)
            full += strncmp(result.rows[i], "60000|", 6) == 0;
        cr_assert_eq(full, BLOBS - 1 - BLOBS / 10);
        result_fini(&result);
        build_end(&b);

        build_begin(&b);
        build_scan(&b, TABLE_BLOB);
        build_group(&b, build_column(&b, KIND_STR, 0, BLOB_BODY), COLLATION_CASE_INSENSITIVE);
        struct expr text = build_column(&b, KIND_STR, 0, BLOB_BODY);
        build_aggregate(&b, AGG_MAX, KIND_STR, KIND_STR, 0, text);
        build_aggregate(&b, AGG_COUNT_DISTINCT, KIND_STR, KIND_I64, 0, text);
        build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 1);
        build_output_column(&b, KIND_STR, EXPR_SOURCE_AGG, 0);
        build_order(&b, 1, false);
        cluster_run(&cluster, &b.tree, NULL, &result);
        cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
        cr_assert_eq(result.row_count, 1 + BLOBS - BLOBS / 10);
        cr_assert_str_eq(result.rows[0], "0|NULL");
        cr_assert_eq(strncmp(result.rows[1], "1|'ab-xxx", 9), 0, "%.20s", result.rows[1]);
        result_fini(&result);
        build_end(&b);
        cluster_fini(&cluster);
    }
}

/* Bodies of random bytes, many of them close to real ones. */
Test(exec, malformed_messages_end_the_query)
{
    struct model *model = model_create(2, 4);
    struct builder b;
    build_begin(&b);
    build_entries(&b, false, false);
    struct buf buf;
    buf_init(&buf);
    struct arena arena;
    arena_init(&arena, 0);
    query_encode(&b.tree, &buf);
    struct reader reader = reader_of(buf.bytes, buf.size);
    struct query_tree decoded;
    cr_assert_eq(query_decode(&reader, model->cluster.catalog, &arena, &decoded), ERR_NONE);
    cr_assert_eq(ldm_pin(model->cluster.workers[0].ldm, ++model->cluster.ts), ERR_NONE);
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        struct query_exec_config config = {
            .tree = &decoded,
            .catalog = model->cluster.catalog,
            .run = {.ts = model->cluster.ts, .window = 4},
            .host = {.worker = 0,
                     .worker_count = 2,
                     .partition_count = CLUSTER_PARTITIONS,
                     .partition = harness_partition,
                     .owner = harness_owner,
                     .monotonic_ns = harness_clock,
                     .send_rows = harness_send_rows,
                     .send_move = harness_send_move,
                     .send_moved = harness_send_moved,
                     .context = &model->cluster.workers[0]},
        };
        struct query_exec *exec;
        struct diag diag;
        cr_assert_eq(query_exec_create(&config, &exec, &diag), ERR_NONE);
        uint8_t bytes[64];
        size_t size = cluster_random(&model->cluster) % sizeof(bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = cluster_random(&model->cluster) % 3
                           ? (uint8_t)(cluster_random(&model->cluster) % 4)
                           : (uint8_t)cluster_random(&model->cluster);
        switch (round % 3) {
        case 0:
            query_exec_move(exec, (uint16_t)(cluster_random(&model->cluster) % 3), bytes, size);
            break;
        case 1:
            query_exec_moved(exec, (uint16_t)(cluster_random(&model->cluster) % 3), bytes, size);
            break;
        default:
            query_exec_more(exec, bytes, size);
            break;
        }
        if (query_exec_run(exec, 0) == QUERY_EXEC_FAILED) refused++;
        query_exec_destroy(exec);
        while (model->cluster.messages) {
            struct harness_message *message = model->cluster.messages;
            model->cluster.messages = message->next;
            free(message);
        }
        model->cluster.messages_end = &model->cluster.messages;
    }
    cr_assert_gt(refused, 2000);
    ldm_unpin(model->cluster.workers[0].ldm, model->cluster.ts);
    arena_fini(&arena);
    buf_fini(&buf);
    build_end(&b);
    model_destroy(model);
}
