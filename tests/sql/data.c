/* Rows: made at random once, then written to every store through programs and to SQLite through its
 * C interface. */
#include "tests/sql/data.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/datetime.h"
#include "sql/sql.h"

/* Small ranges make equal values, so that groups, joins and IN lists find something. */
const struct test_table test_tables[TABLES] = {
    {
        .name = "t1",
        .ddl =
            "CREATE TABLE t1 (id BIGINT PRIMARY KEY, k INT NOT NULL, v BIGINT, u INT UNSIGNED, f "
            "DOUBLE, d DECIMAL(10,2), s VARCHAR(20), ci VARCHAR(20) COLLATE utf8mb4_general_ci, dd "
            "DATE, dt DATETIME, INDEX kv (k, v), INDEX by_s (s), INDEX by_d (d), INDEX by_dd "
            "(dd))",
        .lite =
            "CREATE TABLE t1 (id INTEGER PRIMARY KEY, k INTEGER, v INTEGER, u INTEGER, f REAL, d "
            "REAL, s TEXT, ci TEXT COLLATE NOCASE, dd TEXT, dt TEXT)",
        .index = "CREATE INDEX kv ON t1 (k, v)",
        .column_count = 10,
        .key_count = 1,
        .row_count = 1500,
        .columns = {{"id", CLASS_INT, false, 2000},
                    {"k", CLASS_INT, false, 100},
                    {"v", CLASS_INT, true, 50},
                    {"u", CLASS_UINT, true, 300},
                    {"f", CLASS_DOUBLE, true, 100},
                    {"d", CLASS_DECIMAL, true, 100},
                    {"s", CLASS_TEXT, true, 40},
                    {"ci", CLASS_FOLDED, true, 40},
                    {"dd", CLASS_DATE, true, 400},
                    {"dt", CLASS_TIME, true, 100}},
    },
    {
        .name = "t2",
        .ddl = "CREATE TABLE t2 (a INT, b SMALLINT, w VARCHAR(10), n TINYINT, PRIMARY KEY (a, b) "
               "USING "
               "BTREE) PARTITION BY KEY(a)",
        .lite = "CREATE TABLE t2 (a INTEGER, b INTEGER, w TEXT, n INTEGER, PRIMARY KEY (a, b))",
        .column_count = 4,
        .key_count = 2,
        .row_count = 400,
        .columns = {{"a", CLASS_INT, false, 100},
                    {"b", CLASS_INT, false, 10},
                    {"w", CLASS_TEXT, true, 15},
                    {"n", CLASS_INT, true, 5}},
    },
    {
        .name = "t3",
        .ddl =
            "CREATE TABLE t3 (ino BIGINT UNSIGNED, uid INT UNSIGNED NOT NULL, x INT, size BIGINT "
            "UNSIGNED NOT NULL, PRIMARY KEY (ino) USING HASH) PARTITION BY HOME(ino)",
        .lite = "CREATE TABLE t3 (ino INTEGER PRIMARY KEY, uid INTEGER, x INTEGER, size INTEGER)",
        .column_count = 4,
        .key_count = 1,
        .row_count = 500,
        .columns = {{"ino", CLASS_UINT, false, 700},
                    {"uid", CLASS_UINT, false, 12},
                    {"x", CLASS_INT, true, 100},
                    {"size", CLASS_UINT, false, 100000}},
    },
    {
        .name = "t4",
        .ddl = "CREATE TABLE t4 (parent BIGINT UNSIGNED, h INT UNSIGNED, name VARBINARY(30), ino "
               "BIGINT "
               "UNSIGNED NOT NULL, PRIMARY KEY (parent, h, name) USING BTREE, INDEX by_ino (ino)) "
               "PARTITION BY HOME(parent)",
        .lite = "CREATE TABLE t4 (parent INTEGER, h INTEGER, name TEXT, ino INTEGER, PRIMARY KEY "
                "(parent, h, name))",
        .index = "CREATE INDEX by_ino ON t4 (ino)",
        .column_count = 4,
        .key_count = 3,
        .row_count = 600,
        .columns = {{"parent", CLASS_UINT, false, 700},
                    {"h", CLASS_UINT, false, 20},
                    {"name", CLASS_TEXT, false, 60},
                    {"ino", CLASS_UINT, false, 700}},
    },
    {
        .name = "t5",
        .ddl = "CREATE TABLE t5 (slot SMALLINT UNSIGNED, c CHAR(8), fl FLOAT, tu TINYINT UNSIGNED, "
               "tn TINYINT, m VARCHAR(12) COLLATE utf8mb4_general_ci, PRIMARY KEY (slot, c) USING "
               "BOTH, INDEX by_fl (fl), INDEX by_tn (tn, tu), INDEX by_m (m)) PARTITION BY "
               "SLOT(slot)",
        .lite = "CREATE TABLE t5 (slot INTEGER, c TEXT, fl REAL, tu INTEGER, tn INTEGER, m TEXT "
                "COLLATE NOCASE, PRIMARY KEY (slot, c))",
        .column_count = 6,
        .key_count = 2,
        .row_count = 300,
        .columns = {{"slot", CLASS_UINT, false, 40},
                    {"c", CLASS_TEXT, false, 12},
                    {"fl", CLASS_DOUBLE, true, 30},
                    {"tu", CLASS_UINT, true, 9},
                    {"tn", CLASS_INT, true, 100},
                    {"m", CLASS_FOLDED, true, 30}},
    },
};

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "oracle: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

uint32_t random_below(struct random *random, uint32_t limit)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = random->state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((mixed ^ (mixed >> 31)) >> 32) % limit;
}

/* ---- values ---- */

enum { VALUE_TEXT_SIZE = 64 };

/* One value for both engines. */
struct cell {
    struct value value;
    char text[VALUE_TEXT_SIZE]; /* of text and dates */
    double number;              /* of DOUBLE and DECIMAL */
};

static void make_text(struct random *random, const struct test_column *column, struct cell *cell)
{
    static const char *const stems[] = {"a",        "ab",  "Abc", "b_",  "c%",  "file.txt",
                                        "x.TAR.gz", ".rc", "",    "Zed", "k'q", "m n"};
    uint32_t number = random_below(random, (uint32_t)column->range);
    const char *stem = stems[number % (sizeof(stems) / sizeof(stems[0]))];
    if (number > 12)
        snprintf(cell->text, sizeof(cell->text), "%s%u", stem, number / 12);
    else
        snprintf(cell->text, sizeof(cell->text), "%s", stem);
    if (column->class == CLASS_FOLDED && random_below(random, 2)) {
        for (char *c = cell->text; *c; c++)
            if (*c >= 'a' && *c <= 'z') *c = (char)(*c - 32);
    }
    cell->value = value_text(cell->text);
}

static void make_cell(struct random *random, const struct test_column *column, struct cell *cell)
{
    uint32_t range = (uint32_t)column->range;
    if (column->nullable && random_below(random, 8) == 0) {
        cell->value = value_null();
        return;
    }
    switch (column->class) {
    case CLASS_INT:
        cell->value = value_i64((int64_t)random_below(random, 2 * range + 1) - (int64_t)range);
        break;
    case CLASS_UINT:
        cell->value = value_u64(random_below(random, range + 1));
        break;
    case CLASS_DOUBLE:
        cell->number = ((double)random_below(random, 8 * range + 1) - 4.0 * range) / 4;
        cell->value = value_f64(cell->number);
        break;
    case CLASS_DECIMAL: {
        int64_t cents = (int64_t)random_below(random, 200 * range + 1) - 100 * (int64_t)range;
        if (random_below(random, 3) == 0) cents = cents / 100 * 100;
        cell->number = (double)cents / 100;
        cell->value = value_dec(cents, 2);
        break;
    }
    case CLASS_TEXT:
    case CLASS_FOLDED:
        make_text(random, column, cell);
        break;
    case CLASS_DATE:
        cell->value = value_i64(19700 + (int64_t)random_below(random, range));
        date_format(cell->value.i, cell->text);
        break;
    case CLASS_TIME:
        cell->value =
            value_i64(((int64_t)19700 * 86400 + random_below(random, range) * 30011) * 1000000);
        datetime_format(cell->value.i, 0, cell->text);
        break;
    }
}

static void bind_cell(sqlite3_stmt *statement, int at, const struct test_column *column,
                      const struct cell *cell)
{
    if (value_is_null(cell->value)) {
        sqlite3_bind_null(statement, at);
        return;
    }
    switch (column->class) {
    case CLASS_INT:
    case CLASS_UINT:
        sqlite3_bind_int64(statement, at, cell->value.i);
        break;
    case CLASS_DOUBLE:
    case CLASS_DECIMAL:
        sqlite3_bind_double(statement, at, cell->number);
        break;
    case CLASS_TEXT:
    case CLASS_FOLDED:
    case CLASS_DATE:
    case CLASS_TIME:
        sqlite3_bind_text(statement, at, cell->text, -1, SQLITE_TRANSIENT);
        break;
    }
}

/* ---- rows ---- */

static void run_program(struct data *data, int store, int number, const struct value *values,
                        bool insert)
{
    struct program program;
    struct program_reply reply;
    const struct catalog *catalog = db_catalog_acquire(data->stores[store]);
    const struct table_def *table = catalog_find(catalog, "test", test_tables[number].name);
    struct value keys[SCHEMA_KEY_COLUMNS_MAX];
    struct operand operands[16];
    uint16_t slot;
    if (!table) fail("table %s is not there", test_tables[number].name);
    for (int i = 0; i < table->partition_column_count; i++)
        keys[i] = values[table->partition_columns[i]];
    if (table_slot(table, keys, &slot)) fail("no slot for a row of %s", table->name);
    int count = insert ? table->column_count : test_tables[number].key_count;
    for (int i = 0; i < count; i++)
        operands[i] = operand_value(values[i]);
    program_init(&program);
    program_reply_init(&reply);
    program_begin(&program);
    program_section(&program, slot);
    if (insert)
        program_insert(&program, table, operands, ERR_EXISTS);
    else
        program_delete(&program, table, operands, ERR_NOT_FOUND);
    enum err err = db_run(data->clients[store], &program, &reply);
    if (err)
        fail("%s of a row of %s: %s", insert ? "insert" : "delete", table->name, err_text(err));
    program_reply_fini(&reply);
    program_fini(&program);
    db_catalog_release(data->stores[store], catalog);
}

/* A new row, unless its key is there already. */
static void insert_row(struct data *data, int number)
{
    const struct test_table *table = &test_tables[number];
    struct cell cells[12] = {0};
    struct value values[12];
    sqlite3_stmt *statement = data->inserts[number];
    for (int i = 0; i < table->column_count; i++) {
        make_cell(&data->random, &table->columns[i], &cells[i]);
        bind_cell(statement, i + 1, &table->columns[i], &cells[i]);
        values[i] = cells[i].value;
    }
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    if (result == SQLITE_CONSTRAINT) return;
    if (result != SQLITE_DONE) fail("SQLite: %s", sqlite3_errmsg(data->lite));
    for (int store = 0; store < STORES; store++)
        run_program(data, store, number, values, true);
}

/* Deletes a row with a random key, when there is one. */
static void delete_row(struct data *data, int number)
{
    const struct test_table *table = &test_tables[number];
    struct cell cells[12] = {0};
    struct value values[12];
    sqlite3_stmt *statement = data->deletes[number];
    for (int i = 0; i < table->key_count; i++) {
        make_cell(&data->random, &table->columns[i], &cells[i]);
        bind_cell(statement, i + 1, &table->columns[i], &cells[i]);
        values[i] = cells[i].value;
    }
    if (sqlite3_step(statement) != SQLITE_DONE) fail("SQLite: %s", sqlite3_errmsg(data->lite));
    sqlite3_reset(statement);
    if (sqlite3_changes(data->lite) == 0) return;
    for (int store = 0; store < STORES; store++)
        run_program(data, store, number, values, false);
}

void data_change(struct data *data)
{
    for (int table = 0; table < TABLES; table++) {
        for (int i = 0; i < 60; i++)
            delete_row(data, table);
        for (int i = 0; i < 30; i++)
            insert_row(data, table);
    }
}

/* ---- opening ---- */

static void lite_exec(struct data *data, const char *sql)
{
    char *message = NULL;
    if (sql && sqlite3_exec(data->lite, sql, NULL, NULL, &message) != SQLITE_OK)
        fail("SQLite: %s: %s", sql, message);
}

static void open_lite(struct data *data)
{
    if (sqlite3_open(":memory:", &data->lite) != SQLITE_OK) fail("SQLite does not open");
    lite_exec(data, "PRAGMA case_sensitive_like = ON");
    for (int i = 0; i < TABLES; i++) {
        const struct test_table *table = &test_tables[i];
        char sql[300];
        lite_exec(data, table->lite);
        lite_exec(data, table->index);
        int at = snprintf(sql, sizeof(sql), "INSERT INTO %s VALUES (?", table->name);
        for (int c = 1; c < table->column_count; c++)
            at += snprintf(sql + at, sizeof(sql) - (size_t)at, ", ?");
        snprintf(sql + at, sizeof(sql) - (size_t)at, ")");
        if (sqlite3_prepare_v2(data->lite, sql, -1, &data->inserts[i], NULL) != SQLITE_OK)
            fail("SQLite: %s", sqlite3_errmsg(data->lite));
        at = snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE 1", table->name);
        for (int c = 0; c < table->key_count; c++)
            at +=
                snprintf(sql + at, sizeof(sql) - (size_t)at, " AND %s = ?", table->columns[c].name);
        if (sqlite3_prepare_v2(data->lite, sql, -1, &data->deletes[i], NULL) != SQLITE_OK)
            fail("SQLite: %s", sqlite3_errmsg(data->lite));
    }
}

static void open_store(struct data *data, int store)
{
    static const uint16_t workers[STORES] = {1, 2, 4};
    char dir[512];
    struct diag diag = {0};
    snprintf(dir, sizeof(dir), "%s/store%d", data->dir, store);
    struct db_config config = {.dir = dir, .create = true, .worker_count = workers[store]};
    if (db_open_embedded(&config, &data->stores[store], &diag)) fail("%s: %s", dir, diag.text);
    if (db_client_create(data->stores[store], &data->clients[store])) fail("no client");
    for (int i = 0; i < TABLES; i++)
        if (sql_ddl(data->clients[store], "test", test_tables[i].ddl, &diag))
            fail("%s: %s", test_tables[i].ddl, diag.text);
}

void data_open(struct data *data, const char *dir, uint64_t seed)
{
    *data = (struct data){.dir = dir, .random = {seed ^ 0x5eed}};
    open_lite(data);
    for (int store = 0; store < STORES; store++)
        open_store(data, store);
    lite_exec(data, "BEGIN");
    for (int table = 0; table < TABLES; table++)
        for (int i = 0; i < test_tables[table].row_count; i++)
            insert_row(data, table);
    lite_exec(data, "COMMIT");
}

void data_close(struct data *data)
{
    for (int i = 0; i < TABLES; i++) {
        sqlite3_finalize(data->inserts[i]);
        sqlite3_finalize(data->deletes[i]);
    }
    sqlite3_close(data->lite);
    for (int store = 0; store < STORES; store++) {
        struct diag diag = {0};
        db_client_destroy(data->clients[store]);
        if (db_close(data->stores[store], &diag)) fail("closing a store: %s", diag.text);
    }
}
