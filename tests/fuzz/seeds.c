/* Writes the first inputs of every target below the directory named: `seeds tests/fuzz/corpus`. The
 * corpus in the repository grew out of them: fuzz_NAME -merge=1 NEW_CORPUS OLD_CORPUS. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "db/query/message.h"
#include "db/wire/ddl.h"
#include "db/wire/info.h"
#include "db/wire/program.h"
#include "db/wire/signal.h"
#include "sql/ddl.h"
#include "sql/prepare.h"
#include "tests/fuzz/fuzz.h"

static const char *directory;
static unsigned number;

static void write_seed(const char *target, const void *bytes, size_t size)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, target);
    ASSERT(mkdir(path, 0755) == 0 || errno == EEXIST);
    (void)snprintf(path, sizeof(path), "%s/%s/seed%03u", directory, target, number++);
    FILE *file = fopen(path, "wbe");
    ASSERT(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

static void write_message(uint8_t kind, const struct buf *body)
{
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, kind);
    buf_put(&buf, body->bytes, body->size);
    ASSERT(!buf.failed);
    write_seed("message", buf.bytes, buf.size);
    buf_fini(&buf);
}

static const char *const statements[] = {
    "SELECT uid, COUNT(*), SUM(size), AVG(size), MIN(mtime), MAX(mtime) FROM inode GROUP BY uid "
    "HAVING SUM(size) > 10 ORDER BY 3 DESC, uid LIMIT 5 OFFSET 2",
    "SELECT d.name, i.size FROM dentry d JOIN inode i ON i.ino = d.ino WHERE d.parent = 1 AND "
    "i.size BETWEEN 1 AND 100",
    "SELECT COUNT(DISTINCT s), i DIV 2 MOD 3 FROM t GROUP BY i DIV 2, i",
    "SELECT CASE WHEN i > 1 THEN 'a' ELSE 'b' END, COALESCE(d, f, 1e3), CAST(i AS DECIMAL(10,2)) "
    "FROM t WHERE s LIKE 'a%' ESCAPE '|' AND ci IN ('a', 'B', NULL) OR NOT dd IS NOT NULL",
    "SELECT x, dt FROM t WHERE b >= 3 AND b < 9 ORDER BY x DESC LIMIT 3",
    "SELECT u.name, COUNT(*) FROM inode i JOIN users u ON u.uid = i.uid GROUP BY u.name",
    "SELECT DISTINCT ci FROM t WHERE d > 1.5 AND dd = DATE '2024-01-31' + INTERVAL 1 MONTH",
    "SELECT id, su & 3 << 2 FROM t WHERE id IN (1, 2, 3)",
    "CREATE TABLE q (a BIGINT UNSIGNED NOT NULL, b VARCHAR(20) COLLATE utf8mb4_bin, c "
    "DECIMAL(10,2) NULL, PRIMARY KEY (a) USING HASH, INDEX k (b)) PARTITION BY KEY(a) TTL=60@a",
    "CREATE INDEX k ON t (i, b)",
    "DROP TABLE t",
    "DROP INDEX by_b ON t",
    "EXPLAIN SELECT * FROM users",
    "SHOW CREATE TABLE t",
};

static void write_query(const struct query_tree *tree)
{
    struct buf buf;
    buf_init(&buf);
    query_run_encode(&(struct query_run){.ts = 5, .memory_max = 1 << 20, .window = 8}, &buf);
    query_encode(tree, &buf);
    ASSERT(!buf.failed);
    write_seed("query", buf.bytes, buf.size);
    buf_fini(&buf);
}

static void write_statements(void)
{
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        const char *text = statements[i];
        write_seed("sql", text, strlen(text));
        struct arena arena;
        arena_init(&arena, 0);
        struct sql_statement statement = {0};
        struct diag diag;
        enum err err = prepare_at(fuzz_catalog(), 8, "fs", text, (uint32_t)strlen(text), 0, &arena,
                                  &statement, &diag);
        if (err) {
            fprintf(stderr, "%s: %s\n", text, diag.text);
            exit(1);
        }
        if (statement.kind == SQL_SELECT) write_query(&statement.tree);
        arena_fini(&arena);
    }
}

static struct operand of_u64(uint64_t number)
{
    return operand_value(value_u64(number));
}

/* What a create looks like, over a second section. */
static void write_programs(void)
{
    const struct table_def *inode = catalog_find(fuzz_catalog(), "fs", "inode");
    const struct table_def *dentry = catalog_find(fuzz_catalog(), "fs", "dentry");
    static const uint16_t columns[] = {0, 1, 2, 3};
    struct program program;
    program_init(&program);
    program_begin(&program);
    program_section(&program, 7);
    struct operand key[] = {of_u64(1)};
    uint8_t parent = program_read(&program, inode, key, ERR_ENOENT);
    program_output(&program, columns, 3);
    struct operand entry[] = {of_u64(1), of_u64(99), operand_value(value_text("name")),
                              of_u64(1234)};
    program_insert(&program, dentry, entry, ERR_EEXIST);
    program_update(&program, inode, key, ERR_ENOENT);
    program_set(&program, 3, of_u64(17));
    program_set(&program, 2, operand_column(parent, 2));
    program_scan(&program, dentry, 0, key, 1, entry + 1, 1, true, 100);
    program_scan_lookup(&program, inode, 3, columns, 4);
    program_output(&program, columns, 4);
    program_section(&program, 8);
    program_delete(&program, inode, key, ERR_NONE);
    program_flags(&program, STEP_OPTIONAL);
    ASSERT(program_finish(&program) == ERR_NONE);
    write_seed("program", program.buf.bytes, program.buf.size);
    program_fini(&program);
}

static void write_messages(void)
{
    struct buf buf;
    buf_init(&buf);
    struct signal_header header = {.size = sizeof(header) + 4,
                                   .type = SIGNAL_PROGRAM,
                                   .version = SIGNAL_VERSION,
                                   .source = ENDPOINT_CLIENT_FIRST,
                                   .request = 1};
    buf_put(&buf, &header, sizeof(header));
    buf_put_u32(&buf, 0);
    write_message(0, &buf);

    buf_clear(&buf);
    program_reply_begin(&buf);
    program_reply_end(&buf, 0, ERR_NONE, 0, 77);
    write_message(1, &buf);

    struct ddl_request request = {.op = DDL_DROP_INDEX, .database = "fs", .name = "t"};
    (void)snprintf(request.index.name, sizeof(request.index.name), "by_b");
    buf_clear(&buf);
    ddl_request_encode(&request, &buf);
    write_message(2, &buf);
    request = (struct ddl_request){.op = DDL_CREATE_TABLE, .database = "fs", .name = "t2"};
    request.table = table_def_copy(catalog_find(fuzz_catalog(), "fs", "t"));
    ASSERT(request.table);
    (void)snprintf(request.table->name, sizeof(request.table->name), "t2");
    buf_clear(&buf);
    ddl_request_encode(&request, &buf);
    write_message(2, &buf);
    ddl_request_fini(&request);

    buf_clear(&buf);
    catalog_encode(fuzz_catalog(), &buf);
    write_message(3, &buf);
    buf_clear(&buf);
    query_rows_encode(&(struct query_rows){.kind = QUERY_ROWS_BATCH, .ts = 9}, &buf);
    write_message(4, &buf);
    buf_clear(&buf);
    query_more_encode(&(struct query_more){.credits = 1}, &buf);
    write_message(5, &buf);
    buf_clear(&buf);
    query_move_encode(&(struct query_move){.source = 1, .row_count = 5}, &buf);
    write_message(6, &buf);
    struct node_info info = {.worker_count = 2,
                             .partition_count = 8,
                             .start_count = 2,
                             .starts = {{.life = 3, .cut = 0}, {.life = 4, .cut = 1000}}};
    buf_clear(&buf);
    node_info_encode(&info, fuzz_catalog(), &buf);
    write_message(7, &buf);
    uint8_t greeting[GREETING_CLIENT_SIZE];
    greeting_client_encode(&(struct greeting_client){.client = CLIENT_REMOTE_BIT | 1}, greeting);
    buf_clear(&buf);
    buf_put(&buf, greeting, sizeof(greeting));
    write_message(7, &buf);
    buf_fini(&buf);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    directory = argv[1];
    write_statements();
    write_programs();
    write_messages();
    return 0;
}
