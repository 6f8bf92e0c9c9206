/* The catalog that programs, queries and statements are fuzzed against: the shapes of the file
 * system's own tables and one with a column of every type. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sql/ddl.h"
#include "sql/prepare.h"
#include "tests/fuzz/fuzz.h"

static const char *const tables[] = {
    "CREATE TABLE inode (ino BIGINT UNSIGNED, type TINYINT UNSIGNED NOT NULL, uid INT UNSIGNED NOT "
    "NULL, size BIGINT UNSIGNED NOT NULL, mtime BIGINT NOT NULL, PRIMARY KEY (ino) USING HASH) "
    "PARTITION BY HOME(ino)",
    "CREATE TABLE dentry (parent BIGINT UNSIGNED, hash BIGINT UNSIGNED, name VARBINARY(255), ino "
    "BIGINT UNSIGNED NOT NULL, PRIMARY KEY (parent, hash, name) USING BTREE) PARTITION BY "
    "HOME(parent)",
    "CREATE TABLE users (uid INT UNSIGNED PRIMARY KEY, name VARCHAR(20) COLLATE "
    "utf8mb4_general_ci, city VARCHAR(20), INDEX by_name (name), INDEX by_city (city, uid))",
    "CREATE TABLE t (id BIGINT PRIMARY KEY, i INT, b BIGINT, u BIGINT UNSIGNED, su SMALLINT "
    "UNSIGNED, f DOUBLE, d DECIMAL(10,2), s VARCHAR(50), ci VARCHAR(50) COLLATE "
    "utf8mb4_general_ci, c CHAR(8), x BINARY(4), dd DATE, dt DATETIME(3), n INT, INDEX by_b (b, "
    "i), INDEX by_s (s), INDEX by_d (d), INDEX by_dd (dd))",
};

static void add(struct catalog *catalog, const char *text)
{
    struct arena arena;
    arena_init(&arena, 0);
    struct sql_statement statement = {0};
    struct diag diag;
    enum err err =
        prepare_at(catalog, 8, "fs", text, (uint32_t)strlen(text), 0, &arena, &statement, &diag);
    ASSERT(!err && statement.kind == SQL_DDL && statement.ddl->table);
    struct table_def *table = table_def_copy(statement.ddl->table);
    ASSERT(table);
    table->id = ++catalog->next_table_id;
    catalog->tables[catalog->table_count++] = table;
    arena_fini(&arena);
}

const struct catalog *fuzz_catalog(void)
{
    static struct catalog catalog;
    if (!catalog.version) {
        catalog.version = 1;
        for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
            add(&catalog, tables[i]);
    }
    return &catalog;
}

uint8_t *fuzz_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    ASSERT(copy);
    if (size) memcpy(copy, bytes, size);
    return copy;
}
