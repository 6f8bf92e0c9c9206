/* A catalog in memory, made by the project's own DDL, and statements prepared against it. */
#ifndef TESTS_UNIT_SQL_FIXTURE_H
#define TESTS_UNIT_SQL_FIXTURE_H

#include <string.h>

#include <criterion/criterion.h>

#include "sql/ddl.h"
#include "sql/prepare.h"

/* 2023-11-14 22:13:20 */
#define FIXTURE_NOW_US INT64_C(1700000000000000)

struct fixture {
    struct arena arena;
    struct catalog catalog;
    struct sql_statement statement;
    struct diag diag;
};

static inline enum err fixture_prepare(struct fixture *fixture, const char *text)
{
    fixture->diag = (struct diag){.position = UINT32_MAX};
    fixture->statement = (struct sql_statement){0};
    /* A copy of its own, so that a read behind the end is seen. */
    size_t size = strlen(text);
    char *copy = malloc(size + 1);
    cr_assert(copy);
    memcpy(copy, text, size + 1);
    char *kept = arena_copy(&fixture->arena, copy, size);
    free(copy);
    cr_assert(kept);
    return prepare_at(&fixture->catalog, 8, "fs", kept, (uint32_t)size, FIXTURE_NOW_US,
                      &fixture->arena, &fixture->statement, &fixture->diag);
}

static inline void fixture_table(struct fixture *fixture, const char *ddl)
{
    enum err err = fixture_prepare(fixture, ddl);
    cr_assert_eq(err, ERR_NONE, "%s: %s", ddl, fixture->diag.text);
    cr_assert_eq(fixture->statement.kind, SQL_DDL);
    struct table_def *table = fixture->statement.ddl->table;
    cr_assert(table);
    table->id = ++fixture->catalog.next_table_id;
    fixture->catalog.tables[fixture->catalog.table_count++] = table;
}

static inline void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    arena_init(&fixture->arena, 0);
    fixture->catalog.version = 1;
    fixture_table(
        fixture, "CREATE TABLE inode (ino BIGINT UNSIGNED, type TINYINT UNSIGNED NOT NULL, uid INT "
                 "UNSIGNED NOT NULL, size BIGINT UNSIGNED NOT NULL, mtime BIGINT NOT NULL, "
                 "PRIMARY KEY (ino) USING HASH) PARTITION BY HOME(ino)");
    fixture_table(fixture,
                  "CREATE TABLE dentry (parent BIGINT UNSIGNED, hash BIGINT UNSIGNED, name "
                  "VARBINARY(255), ino BIGINT UNSIGNED NOT NULL, PRIMARY KEY (parent, hash, name) "
                  "USING BTREE) PARTITION BY HOME(parent)");
    fixture_table(
        fixture, "CREATE TABLE users (uid INT UNSIGNED PRIMARY KEY, name VARCHAR(20) COLLATE "
                 "utf8mb4_general_ci, city VARCHAR(20), INDEX by_name (name), INDEX by_city (city, "
                 "uid))");
    fixture_table(fixture,
                  "CREATE TABLE t (id BIGINT PRIMARY KEY, i INT, b BIGINT, u BIGINT UNSIGNED, su "
                  "SMALLINT UNSIGNED, f DOUBLE, d DECIMAL(10,2), s VARCHAR(50), ci VARCHAR(50) "
                  "COLLATE utf8mb4_general_ci, c CHAR(8), x BINARY(4), dd DATE, dt DATETIME(3), n "
                  "INT, INDEX by_b (b, i), INDEX by_s (s), INDEX by_d (d), INDEX by_dd (dd))");
}

static inline void fixture_fini(struct fixture *fixture)
{
    arena_fini(&fixture->arena);
}

#define FIXTURE_TEST(suite, name)                                                                  \
    static void suite##_##name(struct fixture *fixture);                                           \
    Test(suite, name)                                                                              \
    {                                                                                              \
        struct fixture *fixture = malloc(sizeof(*fixture));                                        \
        cr_assert(fixture);                                                                        \
        fixture_init(fixture);                                                                     \
        suite##_##name(fixture);                                                                   \
        fixture_fini(fixture);                                                                     \
        free(fixture);                                                                             \
    }                                                                                              \
    static void suite##_##name(struct fixture *fixture)

#endif
