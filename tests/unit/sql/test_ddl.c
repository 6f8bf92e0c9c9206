/* DDL: definitions from text, and back to text that makes the same definition. */
#include "tests/unit/sql/fixture.h"

static const struct table_def *create(struct fixture *fixture, const char *text)
{
    enum err err = fixture_prepare(fixture, text);
    cr_assert_eq(err, ERR_NONE, "%s: %s", text, fixture->diag.text);
    cr_assert_eq(fixture->statement.kind, SQL_DDL);
    return fixture->statement.ddl->table;
}

FIXTURE_TEST(ddl, every_type_has_its_column)
{
    const struct table_def *table = create(
        fixture,
        "CREATE TABLE db2.x (k BIGINT PRIMARY KEY, a TINYINT, b SMALLINT(5), c INT UNSIGNED NOT "
        "NULL, "
        "d BIGINT UNSIGNED, e FLOAT, f DOUBLE, g DECIMAL(12,3), h DATE, i DATETIME, j "
        "TIMESTAMP(6), l "
        "CHAR(3), m VARCHAR(7) COLLATE utf8mb4_general_ci, n BINARY(5), o VARBINARY(9), p TEXT, q "
        "BLOB(100), r BOOL, s DECIMAL)");
    static const struct {
        uint8_t type;
        uint32_t size;
        uint8_t precision, scale, collation;
        bool nullable;
    } expected[] = {
        {TYPE_BIGINT, 0, 0, 0, 0, false},
        {TYPE_TINYINT, 0, 0, 0, 0, true},
        {TYPE_SMALLINT, 0, 0, 0, 0, true},
        {TYPE_INT_UNSIGNED, 0, 0, 0, 0, false},
        {TYPE_BIGINT_UNSIGNED, 0, 0, 0, 0, true},
        {TYPE_FLOAT, 0, 0, 0, 0, true},
        {TYPE_DOUBLE, 0, 0, 0, 0, true},
        {TYPE_DECIMAL, 0, 12, 3, 0, true},
        {TYPE_DATE, 0, 0, 0, 0, true},
        {TYPE_DATETIME, 0, 0, 0, 0, true},
        {TYPE_TIMESTAMP, 0, 0, 6, 0, true},
        {TYPE_CHAR, 12, 0, 0, 0, true},
        {TYPE_VARCHAR, 28, 0, 0, COLLATION_CASE_INSENSITIVE, true},
        {TYPE_BINARY, 5, 0, 0, 0, true},
        {TYPE_VARBINARY, 9, 0, 0, 0, true},
        {TYPE_TEXT, 65535, 0, 0, 0, true},
        {TYPE_BLOB, 100, 0, 0, 0, true},
        {TYPE_TINYINT, 0, 0, 0, 0, true},
        {TYPE_DECIMAL, 0, 10, 0, 0, true},
    };
    cr_assert_str_eq(table->database, "db2");
    cr_assert_eq(table->column_count, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        cr_expect_eq(column->type, expected[i].type, "%s", column->name);
        cr_expect_eq(column->size_max, expected[i].size, "%s", column->name);
        cr_expect_eq(column->precision, expected[i].precision, "%s", column->name);
        cr_expect_eq(column->scale, expected[i].scale, "%s", column->name);
        cr_expect_eq(column->collation, expected[i].collation, "%s", column->name);
        cr_expect_eq(column->nullable, expected[i].nullable, "%s", column->name);
    }
}

FIXTURE_TEST(ddl, keys_indexes_and_options)
{
    const struct table_def *table =
        create(fixture,
               "create table if not exists x (`a b` bigint unsigned, b int, primary key (`a b`, b) "
               "using hash, index i1 (b), key i2 (b, `a b`)) ttl=60@b, partition by home(`a b`)");
    cr_assert(fixture->statement.ddl->if_exists);
    cr_assert_eq(table->index_count, 3);
    cr_assert_eq(table->indexes[0].kind, INDEX_HASH);
    cr_assert_eq(table->indexes[1].kind, INDEX_ORDERED);
    cr_assert_eq(table->indexes[2].columns[0], 1);
    cr_assert_eq(table->indexes[2].columns[1], 0);
    cr_assert_eq(table->partition_by, PARTITION_BY_HOME);
    cr_assert_eq(table->ttl_seconds, 60);
    cr_assert_eq(table->ttl_column, 1);
    table = create(fixture, "CREATE TABLE x (a INT PRIMARY KEY)");
    cr_assert_eq(table->indexes[0].kind, INDEX_ORDERED);
    cr_assert(table->indexes[0].has_hash);
    cr_assert_eq(table->partition_by, PARTITION_BY_KEY);
    cr_assert_eq(table->partition_columns[0], 0);
    table = create(fixture, "CREATE TABLE x (a INT, PRIMARY KEY (a) USING BTREE)");
    cr_assert_not(table->indexes[0].has_hash);
}

FIXTURE_TEST(ddl, names_that_are_words_of_the_language_can_be_columns)
{
    const struct table_def *table =
        create(fixture, "CREATE TABLE x (hash INT, date DATE, `select` INT, `key` INT, ttl INT, "
                        "PRIMARY KEY (hash))");
    cr_assert_eq(table->column_count, 5);
    cr_assert_str_eq(table->columns[2].name, "select");
}

FIXTURE_TEST(ddl, drops_and_indexes_name_their_table)
{
    cr_assert_eq(fixture_prepare(fixture, "DROP TABLE IF EXISTS a.b"), ERR_NONE);
    cr_assert_str_eq(fixture->statement.ddl->database, "a");
    cr_assert_str_eq(fixture->statement.ddl->name, "b");
    cr_assert(fixture->statement.ddl->if_exists);
    cr_assert_eq(fixture_prepare(fixture, "CREATE INDEX k ON t (i, s)"), ERR_NONE);
    cr_assert_eq(fixture->statement.ddl->index.column_count, 2);
    cr_assert_eq(fixture->statement.ddl->index.columns[1], 7);
    cr_assert_eq(fixture_prepare(fixture, "DROP INDEX BY_b ON t"), ERR_NONE);
    cr_assert_str_eq(fixture->statement.ddl->index.name, "BY_b");
}

/* SHOW CREATE TABLE makes the same table again. */
FIXTURE_TEST(ddl, the_text_of_a_table_makes_it_again)
{
    uint32_t count = fixture->catalog.table_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct table_def *table = fixture->catalog.tables[i];
        struct buf first, second;
        buf_init(&first);
        buf_init(&second);
        ddl_create_table_text(table, &first);
        char *text = arena_copy(&fixture->arena, first.bytes, first.size);
        const struct table_def *again = create(fixture, text);
        ddl_create_table_text(again, &second);
        cr_assert_eq(first.size, second.size);
        cr_assert_arr_eq(first.bytes, second.bytes, first.size);
        buf_fini(&first);
        buf_fini(&second);
    }
}

FIXTURE_TEST(ddl, show_and_describe_list_the_catalog)
{
    cr_assert_eq(fixture_prepare(fixture, "SHOW TABLES"), ERR_NONE);
    const struct listing *listing = &fixture->statement.plan->listing;
    cr_assert_eq(listing->row_count, 4);
    cr_assert_str_eq(listing->cells[0], "dentry");
    cr_assert_eq(fixture_prepare(fixture, "SHOW TABLES FROM nothing"), ERR_NONE);
    cr_assert_eq(fixture->statement.plan->listing.row_count, 0);
    cr_assert_eq(fixture_prepare(fixture, "SHOW DATABASES"), ERR_NONE);
    cr_assert_eq(fixture->statement.plan->listing.row_count, 1);
    cr_assert_eq(fixture_prepare(fixture, "DESC users"), ERR_NONE);
    listing = &fixture->statement.plan->listing;
    cr_assert_eq(listing->row_count, 3);
    static const char *const cells[] = {"uid",  "int unsigned", "NO",  "PRI", NULL,
                                        "name", "varchar(20)",  "YES", "MUL", "utf8mb4_general_ci"};
    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
        if (cells[i])
            cr_expect_str_eq(listing->cells[i], cells[i]);
        else
            cr_expect_null(listing->cells[i]);
    }
    cr_assert_eq(fixture_prepare(fixture, "SHOW CREATE TABLE inode"), ERR_NONE);
    cr_assert_str_eq(fixture->statement.plan->listing.cells[1],
                     "CREATE TABLE `inode` (\n"
                     "  `ino` bigint unsigned NOT NULL,\n"
                     "  `type` tinyint unsigned NOT NULL,\n"
                     "  `uid` int unsigned NOT NULL,\n"
                     "  `size` bigint unsigned NOT NULL,\n"
                     "  `mtime` bigint NOT NULL,\n"
                     "  PRIMARY KEY (`ino`) USING HASH\n"
                     ") PARTITION BY HOME(`ino`)");
}
