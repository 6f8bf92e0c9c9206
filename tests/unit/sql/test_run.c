/* Running statements on an embedded store: results, formats, DDL and who may use it, explain modes,
 * errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "sql/sql.h"

struct running {
    char dir[64];
    struct db *db;
    struct db_client *client;
    struct sql_sink sink;
    struct sql_options options;
    struct buf text;
    struct diag diag;
    char *caret;
    size_t limit; /* bytes the sink takes before it fails; 0: all */
};

static enum err take(struct sql_sink *sink, const char *bytes, size_t size)
{
    struct running *running = (struct running *)((char *)sink - offsetof(struct running, sink));
    if (running->limit && running->text.size + size > running->limit) return ERR_CLOSED;
    buf_put(&running->text, bytes, size);
    return ERR_NONE;
}

static void start(struct running *running)
{
    struct diag diag = {0};
    *running = (struct running){.sink = {take}};
    strcpy(running->dir, "/tmp/trellis-test-run-XXXXXX");
    cr_assert_not_null(mkdtemp(running->dir));
    struct db_config config = {.dir = running->dir, .create = true, .worker_count = 2};
    cr_assert_eq(db_open_embedded(&config, &running->db, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(db_client_create(running->db, &running->client), ERR_NONE);
    buf_init(&running->text);
    running->options = (struct sql_options){.format = SQL_FORMAT_TEXT, .allow_ddl = true};
}

static void stop(struct running *running)
{
    char command[128];
    struct diag diag = {0};
    db_client_destroy(running->client);
    cr_assert_eq(db_close(running->db, &diag), ERR_NONE, "%s", diag.text);
    buf_fini(&running->text);
    free(running->caret);
    snprintf(command, sizeof(command), "rm -rf %s", running->dir);
    cr_assert_eq(system(command), 0);
}

static enum err run(struct running *running, const char *text)
{
    buf_clear(&running->text);
    free(running->caret);
    enum err err = sql_run(running->client, text, strlen(text), &running->options, &running->sink,
                           &running->diag, &running->caret);
    buf_put_u8(&running->text, 0);
    return err;
}

static void check(struct running *running, const char *text, const char *expected)
{
    cr_assert_eq(run(running, text), ERR_NONE, "%s: %s", text, running->diag.text);
    cr_assert_str_eq((char *)running->text.bytes, expected);
    cr_assert_null(running->caret);
}

static void check_error(struct running *running, const char *text, enum err err, const char *reason,
                        const char *caret)
{
    cr_assert_eq(run(running, text), err, "%s: %s", text, running->diag.text);
    cr_assert_str_eq(running->diag.text, reason);
    if (caret)
        cr_assert_str_eq(running->caret, caret);
    else
        cr_assert_null(running->caret);
}

static void insert(struct running *running, const char *table, const struct value *values)
{
    struct program program;
    struct program_reply reply;
    const struct catalog *catalog = db_catalog_acquire(running->db);
    const struct table_def *def = catalog_find(catalog, "fs", table);
    struct operand operands[8];
    uint16_t slot;
    cr_assert_not_null(def);
    for (int i = 0; i < def->column_count; i++)
        operands[i] = operand_value(values[i]);
    cr_assert_eq(table_slot(def, values, &slot), ERR_NONE);
    program_init(&program);
    program_reply_init(&reply);
    program_begin(&program);
    program_section(&program, slot);
    program_insert(&program, def, operands, ERR_EXISTS);
    cr_assert_eq(db_run(running->client, &program, &reply), ERR_NONE);
    program_reply_fini(&reply);
    program_fini(&program);
    db_catalog_release(running->db, catalog);
}

static void fill(struct running *running)
{
    struct diag diag = {0};
    enum err err = sql_ddl(running->client, NULL,
                           "CREATE TABLE t (id BIGINT PRIMARY KEY, s VARCHAR(20)); -- nothing\n ; "
                           "CREATE INDEX by_s ON t (s);",
                           &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    for (int i = 1; i <= 5; i++) {
        char text[20];
        snprintf(text, sizeof(text), "row %d", i);
        const struct value values[] = {value_i64(i), i == 3 ? value_null() : value_text(text)};
        insert(running, "t", values);
    }
}

Test(run, a_script_runs_statement_by_statement)
{
    struct running running;
    start(&running);
    fill(&running);
    check(&running, "SELECT id, s FROM t WHERE id >= 3 ORDER BY id; SELECT COUNT(*) c FROM t;\n",
          "id\ts\n3\tNULL\n4\trow 4\n5\trow 5\nc\n5\n");
    check(&running,
          "USE other; CREATE TABLE o (a INT PRIMARY KEY); SELECT * FROM o; USE fs; SHOW "
          "TABLES; SHOW TABLES FROM other",
          "a\ntable\nt\ntable\no\n");
    check(&running,
          "DROP TABLE other.o; DROP TABLE IF EXISTS other.o; CREATE TABLE IF NOT EXISTS t "
          "(x INT PRIMARY KEY)",
          "");
    check(&running, "", "");
    stop(&running);
}

Test(run, every_format_goes_through)
{
    struct running running;
    start(&running);
    fill(&running);
    running.options.format = SQL_FORMAT_JSON;
    check(&running, "SELECT id, s FROM t WHERE id IN (2, 3) ORDER BY 1",
          "{\"data\":[\n{\"id\":2,\"s\":\"row 2\"},\n{\"id\":3,\"s\":null}\n]}\n");
    running.options.format = SQL_FORMAT_TABLE;
    check(&running, "SELECT id, s FROM t WHERE id IN (2, 3) ORDER BY 1",
          "id  s\n--  -----\n 2  row 2\n 3  NULL\n");
    check(&running, "SHOW CREATE TABLE t",
          "CREATE TABLE `t` (\n  `id` bigint NOT NULL,\n  `s` varchar(20) COLLATE utf8mb4_bin,\n"
          "  PRIMARY KEY (`id`) USING BOTH,\n  INDEX `by_s` (`s`)\n) PARTITION BY KEY(`id`)\n");
    running.options.format = SQL_FORMAT_CSV;
    check(&running, "SELECT s, id FROM t WHERE id = 3", "s,id\r\n,3\r\n");
    running.options.format = SQL_FORMAT_TEXT_NOHEADER;
    check(&running, "SELECT s FROM t WHERE s = 'row 4'", "row 4\n");
    stop(&running);
}

Test(run, explain_modes_allow_forbid_require_remove_and_force)
{
    static const char plan[] = "step\toperation\ttable\thow\twhere\tfilter\n"
                               "1\tkey lookup\tfs.t\tPRIMARY (id): id = 2\t1 of 8 partitions\t\n";
    struct running running;
    start(&running);
    fill(&running);
    check(&running, "EXPLAIN SELECT s FROM t WHERE id = 2", plan);
    running.options.explain_mode = SQL_EXPLAIN_FORCE;
    check(&running, "SELECT s FROM t WHERE id = 2", plan);
    running.options.explain_mode = SQL_EXPLAIN_REMOVE;
    check(&running, "EXPLAIN SELECT s FROM t WHERE id = 2", "s\nrow 2\n");
    running.options.explain_mode = SQL_EXPLAIN_FORBID;
    check_error(&running, "SELECT s FROM t; EXPLAIN SELECT s FROM t", ERR_DENIED,
                "EXPLAIN is forbidden here (explain mode FORBID)",
                "SELECT s FROM t; EXPLAIN SELECT s FROM t\n                 ^");
    running.options.explain_mode = SQL_EXPLAIN_REQUIRE;
    check_error(&running, "SELECT s FROM t", ERR_DENIED,
                "only EXPLAIN is allowed here (explain mode REQUIRE)", "SELECT s FROM t\n^");
    check_error(&running, "DROP TABLE t", ERR_DENIED,
                "only EXPLAIN is allowed here (explain mode REQUIRE)", "DROP TABLE t\n^");
    stop(&running);
}

Test(run, ddl_is_for_administrators)
{
    struct running running;
    start(&running);
    running.options.allow_ddl = false;
    check_error(&running, " DROP TABLE IF EXISTS t", ERR_DENIED,
                "CREATE and DROP are for administrators", " DROP TABLE IF EXISTS t\n ^");
    stop(&running);
}

Test(run, an_error_has_a_reason_and_a_caret_in_its_line)
{
    struct running running;
    start(&running);
    fill(&running);
    check_error(&running, "SELECT id FROM t;\nSELECT id, nix\nFROM t", ERR_BIND,
                "unknown column 'nix'", "SELECT id, nix\n           ^");
    check_error(&running, "SELECT id FROM nix", ERR_TABLE_UNKNOWN, "no table fs.nix",
                "SELECT id FROM nix\n               ^");
    cr_assert_eq(run(&running, "SELECT id * 9223372036854775807 FROM t"), ERR_OUT_OF_RANGE);
    cr_assert_neq(running.diag.text[0], '\0');
    cr_assert_eq(run(&running, "CREATE TABLE t (a INT PRIMARY KEY)"), ERR_EXISTS);
    cr_assert_eq(run(&running, "DROP TABLE nix"), ERR_TABLE_UNKNOWN, "%s",
                 err_name(running.diag.err));
    cr_assert_eq(run(&running, "DROP INDEX nix ON t"), ERR_NOT_FOUND, "%s",
                 err_name(running.diag.err));
    stop(&running);
}

Test(run, a_closed_sink_stops_the_statement)
{
    struct running running;
    start(&running);
    fill(&running);
    running.limit = 5;
    cr_assert_eq(run(&running, "SELECT id, s FROM t; SELECT id FROM t"), ERR_CLOSED);
    stop(&running);
}

Test(run, text_beyond_its_limit_is_refused)
{
    struct running running;
    start(&running);
    char *text = malloc(SQL_TEXT_SIZE_MAX + 2);
    cr_assert_not_null(text);
    memset(text, ' ', SQL_TEXT_SIZE_MAX + 1);
    text[SQL_TEXT_SIZE_MAX + 1] = '\0';
    cr_assert_eq(run(&running, text), ERR_TOO_BIG);
    free(text);
    stop(&running);
}

/* ---- for programs ---- */

struct summing {
    int64_t sum;
    uint32_t rows;
    uint32_t stop_after;
};

static enum err add(void *context, const struct value *row, uint32_t count)
{
    struct summing *summing = context;
    cr_assert_eq(count, 2);
    summing->sum += row[0].i;
    cr_assert(value_is_null(row[1]) || row[1].kind == KIND_STR);
    return ++summing->rows == summing->stop_after ? ERR_CANCELLED : ERR_NONE;
}

Test(run, a_query_calls_back_with_values)
{
    struct running running;
    struct summing summing = {0};
    struct diag diag;
    start(&running);
    fill(&running);
    cr_assert_eq(sql_query(running.client, "fs", "SELECT id, s FROM t;", add, &summing, &diag),
                 ERR_NONE, "%s", diag.text);
    cr_assert_eq(summing.sum, 15);
    cr_assert_eq(summing.rows, 5);
    summing = (struct summing){.stop_after = 2};
    cr_assert_eq(sql_query(running.client, NULL, "SELECT id, s FROM t", add, &summing, &diag),
                 ERR_CANCELLED);
    cr_assert_eq(summing.rows, 2);
    cr_assert_eq(sql_query(running.client, NULL, "SHOW TABLES", add, &summing, &diag), ERR_INVALID);
    cr_assert_eq(
        sql_query(running.client, NULL, "SELECT id, s FROM t; SELECT 1", add, &summing, &diag),
        ERR_INVALID);
    cr_assert_eq(sql_query(running.client, NULL, "", add, &summing, &diag), ERR_INVALID);
    cr_assert_eq(sql_query(running.client, NULL, "SELECT x FROM t", add, &summing, &diag),
                 ERR_BIND);
    stop(&running);
}

Test(run, ddl_text_may_hold_nothing_else)
{
    struct running running;
    struct diag diag;
    start(&running);
    cr_assert_eq(
        sql_ddl(running.client, NULL, "CREATE TABLE a (b INT PRIMARY KEY); SELECT b FROM a", &diag),
        ERR_INVALID);
    cr_assert_eq(diag.position, 36);
    cr_assert_str_eq(diag.text, "expected CREATE or DROP");
    stop(&running);
}
