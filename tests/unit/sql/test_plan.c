/* Plans: the access to each table, the order, where conditions go, as EXPLAIN shows them; and the
 * query tree that comes out. */
#include <stdio.h>

#include "tests/unit/sql/fixture.h"

/* EXPLAIN's rows with the step left out, cells joined by " | ". */
static const char *explain(struct fixture *fixture, const char *query)
{
    enum err err = fixture_prepare(fixture, query);
    if (err) return arena_printf(&fixture->arena, "%s %s", err_name(err), fixture->diag.text);
    const struct listing *listing = &fixture->statement.plan->listing;
    const char *text = "";
    for (uint32_t i = 0; i < listing->row_count; i++) {
        const char **cells = listing->cells + (size_t)i * listing->column_count;
        text = arena_printf(&fixture->arena, "%s%s | %s | %s | %s | %s\n", text, cells[1], cells[2],
                            cells[3], cells[4], cells[5]);
    }
    return text;
}

static void check(struct fixture *fixture, const char *query, const char *expected)
{
    const char *text = explain(fixture, query);
    cr_expect_str_eq(text, expected, "%s\n got: %s\nwant: %s", query, text, expected);
    struct buf buf;
    buf_init(&buf);
    query_encode(&fixture->statement.tree, &buf);
    struct reader reader = reader_of(buf.bytes, buf.size);
    struct query_tree tree;
    enum err err = query_decode(&reader, &fixture->catalog, &fixture->arena, &tree);
    cr_expect_eq(err, ERR_NONE, "%s: the tree does not decode", query);
    buf_fini(&buf);
}

FIXTURE_TEST(plan, a_primary_key_is_looked_up)
{
    check(fixture, "SELECT * FROM inode WHERE ino = 5 AND size > 7",
          "key lookup | fs.inode | PRIMARY (ino): ino = 5 | 1 of 8 partitions | size > 7\n");
    check(
        fixture, "SELECT * FROM inode WHERE ino IN (137438953472, 5, 274877906944, 5)",
        "key lookup | fs.inode | PRIMARY (ino): 3 keys, ino IN (137438953472, 5, 274877906944, 5) "
        "| 3 of 8 partitions | \n");
    check(fixture, "SELECT * FROM inode WHERE ino = 5 OR ino = 6",
          "key lookup | fs.inode | PRIMARY (ino): 2 keys, ino = 5 OR ino = 6 | 1 of 8 partitions | "
          "\n");
    check(fixture, "SELECT * FROM users WHERE uid = 3.0",
          "key lookup | fs.users | PRIMARY (uid): uid = 3.0 | 1 of 8 partitions | \n");
}

FIXTURE_TEST(plan, a_prefix_of_an_ordered_index_is_a_range)
{
    check(fixture, "SELECT * FROM dentry WHERE parent = 5 AND hash >= 10 AND hash < 20",
          "index range | fs.dentry | PRIMARY (parent, hash, name): parent = 5 AND hash >= 10 AND "
          "hash < 20 | 1 of 8 partitions | \n");
    check(fixture, "SELECT * FROM t WHERE b BETWEEN 3 AND 5 AND i = 1",
          "index range | fs.t | by_b (b, i): b BETWEEN 3 AND 5 | 8 of 8 partitions | i = 1\n");
    check(fixture, "SELECT * FROM t WHERE b = 3 AND i > 1 AND i <> 4",
          "index range | fs.t | by_b (b, i): b = 3 AND i > 1 | 8 of 8 partitions | i <> 4\n");
    check(fixture, "SELECT * FROM t WHERE b IN (1, 2) AND i IN (3, 4)",
          "index range | fs.t | by_b (b, i): 4 ranges, b IN (1, 2) AND i IN (3, 4) | 8 of 8 "
          "partitions | \n");
    check(fixture, "SELECT * FROM t WHERE d > 1.505",
          "index range | fs.t | by_d (d): d > 1.505 | 8 of 8 partitions | \n");
    check(fixture, "SELECT * FROM t WHERE dd = '2024-01-01'",
          "index range | fs.t | by_dd (dd): dd = '2024-01-01' | 8 of 8 partitions | \n");
    check(fixture, "SELECT * FROM t WHERE s LIKE 'ab%c'",
          "index range | fs.t | by_s (s): s LIKE 'ab%c' | 8 of 8 partitions | s LIKE 'ab%c'\n");
    check(fixture, "SELECT * FROM users WHERE name = 'Bob'",
          "index range | fs.users | by_name (name): name = 'Bob' | 8 of 8 partitions | \n");
}

FIXTURE_TEST(plan, what_no_index_answers_is_scanned)
{
    check(fixture, "SELECT * FROM inode WHERE size = 5",
          "scan | fs.inode | all rows | 8 of 8 partitions | size = 5\n");
    check(fixture, "SELECT * FROM inode WHERE ino > 5",
          "scan | fs.inode | all rows | 8 of 8 partitions | ino > 5\n");
    check(fixture, "SELECT * FROM t WHERE b + 1 = 3",
          "scan | fs.t | all rows | 8 of 8 partitions | b + 1 = 3\n");
    check(fixture, "SELECT * FROM t WHERE s = 'a' COLLATE utf8mb4_general_ci",
          "scan | fs.t | all rows | 8 of 8 partitions | s = 'a' COLLATE utf8mb4_general_ci\n");
    check(fixture, "SELECT * FROM users WHERE name > 'b'",
          "scan | fs.users | all rows | 8 of 8 partitions | name > 'b'\n");
    check(fixture, "SELECT * FROM t WHERE b = 1 OR i = 2",
          "scan | fs.t | all rows | 8 of 8 partitions | b = 1 OR i = 2\n");
}

FIXTURE_TEST(plan, partitions_are_pruned_by_constants)
{
    check(fixture, "SELECT * FROM inode WHERE HOME(ino) = 3",
          "scan | fs.inode | all rows | 1 of 8 partitions | HOME(ino) = 3\n");
    check(fixture, "SELECT * FROM inode WHERE HOME(ino) IN (3, 11, 4)",
          "scan | fs.inode | all rows | 2 of 8 partitions | HOME(ino) IN (3, 11, 4)\n");
    cr_assert_eq(fixture->statement.tree.slot_count, 3);
    cr_assert(fixture->statement.tree.pruned);
    check(fixture, "SELECT * FROM dentry WHERE parent IN (137438953472, 274877906944)",
          "index range | fs.dentry | PRIMARY (parent, hash, name): 2 ranges, parent IN "
          "(137438953472, 274877906944) | 2 of 8 partitions | \n");
}

FIXTURE_TEST(plan, a_condition_that_never_holds_touches_no_partition)
{
    check(fixture, "SELECT * FROM inode WHERE ino = -1",
          "scan | fs.inode | all rows | 0 of 8 partitions | ino = -1\n");
    check(fixture, "SELECT * FROM users WHERE uid = 5000000000",
          "key lookup | fs.users | PRIMARY (uid): uid = 5000000000 | 0 of 8 partitions | \n");
    check(fixture, "SELECT COUNT(*) FROM inode WHERE 1 = 0",
          "scan | fs.inode | all rows | 0 of 8 partitions | 1 = 0\n"
          "aggregate |  | one row | partly in each partition, merged by the coordinator | \n");
    check(fixture, "SELECT COUNT(*) FROM inode WHERE size = NULL",
          "scan | fs.inode | all rows | 0 of 8 partitions | size = NULL\n"
          "aggregate |  | one row | partly in each partition, merged by the coordinator | \n");
}

FIXTURE_TEST(plan, joins_follow_keys_and_know_what_is_local)
{
    check(fixture,
          "SELECT d.name, i.size FROM dentry d JOIN inode i ON i.ino = d.ino WHERE d.parent = 5",
          "index range | fs.dentry d | PRIMARY (parent, hash, name): d.parent = 5 | 1 of 8 "
          "partitions | \n"
          "join by key | fs.inode i | PRIMARY (ino): i.ino = d.ino | rows move to the key's "
          "partition | \n");
    check(
        fixture, "SELECT COUNT(*) FROM dentry d, inode p WHERE p.ino = d.parent AND p.type = 2",
        "scan | fs.dentry d | all rows | 8 of 8 partitions | \n"
        "join by key | fs.inode p | PRIMARY (ino): p.ino = d.parent | local: the same partition | "
        "p.type = 2\n"
        "aggregate |  | one row | partly in each partition, merged by the coordinator | \n");
    check(
        fixture, "SELECT 1 FROM inode i JOIN dentry d ON d.parent = i.ino WHERE i.ino = 7",
        "key lookup | fs.inode i | PRIMARY (ino): i.ino = 7 | 1 of 8 partitions | \n"
        "join by index | fs.dentry d | PRIMARY (parent, hash, name): d.parent = i.ino | local: the "
        "same partition | \n");
    check(fixture, "SELECT 1 FROM inode i JOIN users u ON u.city = 'x' AND u.uid = i.uid",
          "scan | fs.inode i | all rows | 8 of 8 partitions | \n"
          "join by key | fs.users u | PRIMARY (uid): u.uid = i.uid | rows move to the key's "
          "partition | u.city = 'x'\n");
}

FIXTURE_TEST(plan, the_start_is_where_constants_are)
{
    check(
        fixture, "SELECT 1 FROM inode i JOIN dentry d ON d.parent = i.ino WHERE d.parent = 7",
        "key lookup | fs.inode i | PRIMARY (ino): d.parent = 7 | 1 of 8 partitions | \n"
        "join by index | fs.dentry d | PRIMARY (parent, hash, name): d.parent = i.ino | local: the "
        "same partition | d.parent = 7\n");
    check(
        fixture,
        "SELECT 1 FROM inode i JOIN users u ON u.uid = i.uid AND u.name = 'bob' AND i.size > u.uid",
        "scan | fs.inode i | all rows | 8 of 8 partitions | \n"
        "join by key | fs.users u | PRIMARY (uid): u.uid = i.uid | rows move to the key's "
        "partition | u.name = 'bob' AND i.size > u.uid\n");
    check(
        fixture, "SELECT 1 FROM users v JOIN t ON v.uid = t.su WHERE t.id = 4",
        "key lookup | fs.t | PRIMARY (id): t.id = 4 | 1 of 8 partitions | \n"
        "join by key | fs.users v | PRIMARY (uid): v.uid = t.su | rows move to the key's partition "
        "| \n");
}

FIXTURE_TEST(plan, a_join_by_a_secondary_index_asks_every_partition)
{
    check(fixture, "SELECT 1 FROM t x JOIN t y ON y.b = x.i",
          "scan | fs.t x | all rows | 8 of 8 partitions | \n"
          "join by index | fs.t y | by_b (b, i): y.b = x.i | rows go to every partition | \n");
}

FIXTURE_TEST(plan, local_ends_with_a_move)
{
    check(
        fixture,
        "SELECT 1 FROM dentry d JOIN inode i ON i.ino = d.ino JOIN inode p ON p.ino = d.parent "
        "WHERE d.parent = 3",
        "key lookup | fs.inode p | PRIMARY (ino): d.parent = 3 | 1 of 8 partitions | \n"
        "join by index | fs.dentry d | PRIMARY (parent, hash, name): p.ino = d.parent | local: the "
        "same partition | d.parent = 3\n"
        "join by key | fs.inode i | PRIMARY (ino): i.ino = d.ino | rows move to the key's "
        "partition | \n");
    check(fixture,
          "SELECT 1 FROM dentry d JOIN inode i ON i.ino = d.ino JOIN inode p ON p.ino = d.parent",
          "scan | fs.dentry d | all rows | 8 of 8 partitions | \n"
          "join by key | fs.inode i | PRIMARY (ino): i.ino = d.ino | rows move to the key's "
          "partition | \n"
          "join by key | fs.inode p | PRIMARY (ino): p.ino = d.parent | rows move to the key's "
          "partition | \n");
}

FIXTURE_TEST(plan, aggregation_order_and_limit_are_shown)
{
    check(
        fixture,
        "SELECT uid, SUM(size) total FROM inode GROUP BY uid HAVING total  >\n 5 ORDER BY total "
        "DESC, 1 LIMIT 5, 10",
        "scan | fs.inode | all rows | 8 of 8 partitions | \n"
        "aggregate |  | by uid | partly in each partition, merged by the coordinator | total > 5\n"
        "sort |  | total DESC, 1 | coordinator | \n"
        "limit |  | 10 after 5 | coordinator | \n");
    check(fixture, "SELECT DISTINCT type FROM inode",
          "scan | fs.inode | all rows | 8 of 8 partitions | \n"
          "distinct |  | all columns | coordinator | \n");
}

FIXTURE_TEST(plan, the_tree_has_what_the_statement_says)
{
    cr_assert_eq(fixture_prepare(fixture, "SELECT su + 1 x, s, dt FROM t WHERE b > 5 ORDER BY i "
                                          "DESC LIMIT 3 OFFSET 4"),
                 ERR_NONE);
    const struct query_tree *tree = &fixture->statement.tree;
    cr_assert_eq(tree->visible_count, 3);
    cr_assert_eq(tree->output_count, 4);
    cr_assert_str_eq(tree->outputs[0].name, "x");
    cr_assert_eq(tree->outputs[0].kind, KIND_U64);
    cr_assert_eq(tree->outputs[2].display, TYPE_DATETIME);
    cr_assert_eq(tree->outputs[2].scale, 3);
    cr_assert_eq(tree->order_count, 1);
    cr_assert_eq(tree->order[0].output, 3);
    cr_assert(tree->order[0].descending);
    cr_assert_eq(tree->limit, 3);
    cr_assert_eq(tree->offset, 4);
    cr_assert_eq(tree->sources[0].access, ACCESS_RANGES);
    cr_assert_eq(tree->sources[0].ranges[0].low.i, 5);
    cr_assert_not(tree->sources[0].ranges[0].low_inclusive);
    cr_assert_not(tree->sources[0].ranges[0].has_high);
    cr_assert_not(tree->sources[0].has_filter);
}

FIXTURE_TEST(plan, equal_expressions_share_groups_aggregates_and_outputs)
{
    cr_assert_eq(fixture_prepare(fixture,
                                 "SELECT i + 1, SUM(b), SUM(b) / COUNT(*), COUNT(*) FROM t "
                                 "GROUP BY I + 1 HAVING SUM(t.b) > 0 ORDER BY sum(B), i+1"),
                 ERR_NONE, "%s", fixture->diag.text);
    const struct query_tree *tree = &fixture->statement.tree;
    cr_assert_eq(tree->group_count, 1);
    cr_assert_eq(tree->aggregate_count, 2);
    cr_assert_eq(tree->output_count, 4);
    cr_assert_eq(tree->order_count, 2);
    cr_assert_eq(tree->order[0].output, 1);
    cr_assert_eq(tree->order[1].output, 0);
}

FIXTURE_TEST(plan, columns_that_follow_from_a_grouped_key_are_groups_too)
{
    cr_assert_eq(fixture_prepare(fixture,
                                 "SELECT i.ino, size, COUNT(*) FROM inode i JOIN dentry d ON "
                                 "d.parent = i.ino GROUP BY i.ino"),
                 ERR_NONE, "%s", fixture->diag.text);
    cr_assert_eq(fixture->statement.tree.group_count, 2);
}

FIXTURE_TEST(plan, kinds_of_aggregates)
{
    static const struct {
        const char *expr;
        uint8_t kind, scale;
    } expected[] = {
        {"COUNT(*)", KIND_I64, 0},  {"SUM(i)", KIND_I64, 0}, {"SUM(su)", KIND_U64, 0},
        {"SUM(d)", KIND_DEC, 2},    {"SUM(f)", KIND_F64, 0}, {"AVG(i)", KIND_DEC, 4},
        {"AVG(d)", KIND_DEC, 6},    {"AVG(f)", KIND_F64, 0}, {"MIN(s)", KIND_STR, 0},
        {"MAX(dt)", KIND_I64, 3},   {"SUM(s)", KIND_F64, 0}, {"COUNT(DISTINCT s)", KIND_I64, 0},
        {"SUM(i > 0)", KIND_I64, 0}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        char text[100];
        snprintf(text, sizeof(text), "SELECT %s FROM t", expected[i].expr);
        cr_assert_eq(fixture_prepare(fixture, text), ERR_NONE, "%s", fixture->diag.text);
        const struct query_output *output = &fixture->statement.tree.outputs[0];
        cr_expect_eq(output->kind, expected[i].kind, "%s", text);
        cr_expect_eq(output->scale, expected[i].scale, "%s", text);
    }
}

FIXTURE_TEST(plan, headings_are_names_or_the_text_as_written)
{
    cr_assert_eq(fixture_prepare(fixture,
                                 "SELECT t.i, i  +  1, 'x', (i), COUNT( * ) AS `a b`, 5 'q' "
                                 "FROM t GROUP BY i"),
                 ERR_SYNTAX);
    cr_assert_eq(fixture_prepare(fixture,
                                 "SELECT t.i, i  +  1, 'x', (i), COUNT( * ) AS `a b`, 5 AS "
                                 "'q' FROM t GROUP BY i"),
                 ERR_NONE, "%s", fixture->diag.text);
    static const char *const names[] = {"i", "i  +  1", "x", "i", "a b", "q"};
    for (size_t i = 0; i < 6; i++)
        cr_expect_str_eq(fixture->statement.tree.outputs[i].name, names[i]);
}
