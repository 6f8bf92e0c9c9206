/* `bench report`: usage by owner over 5 million inodes on one core, beside SQLite in memory over
 * the same rows. Both answers are compared before anything is reported. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/store.h"
#include "sql/sql.h"

enum { FILES = 5000000, PER_DIR = 1000, RUNS_MAX = 32, OWNERS_MAX = 4096 };

static const char query[] =
    "SELECT uid, COUNT(*), SUM(size), SUM(blocks) FROM inode GROUP BY uid ORDER BY uid";
static const char copy_query[] =
    "SELECT ino, type, mode, uid, gid, nlink, size, blocks, atime, mtime, "
    "ctime, btime, rdev, generation, flags, project, parent FROM inode";
static const char create_table[] =
    "CREATE TABLE inode(ino INTEGER PRIMARY KEY, type, mode, uid, gid, nlink, size, blocks, atime, "
    "mtime, ctime, btime, rdev, generation, flags, project, parent)";

struct answer {
    uint32_t count;
    int64_t rows[OWNERS_MAX][4];
};

static enum err take_row(void *context, const struct value *row, uint32_t count)
{
    struct answer *answer = context;
    if (count != 4 || answer->count == OWNERS_MAX) return ERR_TOO_BIG;
    for (uint32_t i = 0; i < 4; i++)
        answer->rows[answer->count][i] = row[i].i;
    answer->count++;
    return ERR_NONE;
}

static enum err copy_row(void *context, const struct value *row, uint32_t count)
{
    sqlite3_stmt *insert = context;
    for (uint32_t i = 0; i < count; i++)
        (void)sqlite3_bind_int64(insert, (int)i + 1, row[i].i);
    if (sqlite3_step(insert) != SQLITE_DONE) return ERR_IO;
    (void)sqlite3_reset(insert);
    return ERR_NONE;
}

static enum err fill_sqlite(struct db_client *client, sqlite3 *sqlite, struct diag *diag)
{
    char insert_text[256] = "INSERT INTO inode VALUES(?";
    for (int i = 1; i < 17; i++)
        (void)strcat(insert_text, ",?");
    (void)strcat(insert_text, ")");
    sqlite3_stmt *insert = NULL;
    if (sqlite3_exec(sqlite, create_table, NULL, NULL, NULL) ||
        sqlite3_exec(sqlite, "BEGIN", NULL, NULL, NULL) ||
        sqlite3_prepare_v2(sqlite, insert_text, -1, &insert, NULL))
        return diag_set(diag, ERR_IO, "SQLite: %s", sqlite3_errmsg(sqlite));
    enum err err = sql_query(client, "fs", copy_query, copy_row, insert, diag);
    (void)sqlite3_finalize(insert);
    if (!err && sqlite3_exec(sqlite, "COMMIT", NULL, NULL, NULL))
        err = diag_set(diag, ERR_IO, "SQLite: %s", sqlite3_errmsg(sqlite));
    return err;
}

static enum err ask_sqlite(sqlite3 *sqlite, struct answer *answer, struct diag *diag)
{
    sqlite3_stmt *select = NULL;
    if (sqlite3_prepare_v2(sqlite, query, -1, &select, NULL))
        return diag_set(diag, ERR_IO, "SQLite: %s", sqlite3_errmsg(sqlite));
    while (sqlite3_step(select) == SQLITE_ROW && answer->count < OWNERS_MAX) {
        for (int i = 0; i < 4; i++)
            answer->rows[answer->count][i] = sqlite3_column_int64(select, i);
        answer->count++;
    }
    (void)sqlite3_finalize(select);
    return ERR_NONE;
}

static enum err compare(struct bench *bench, struct db_client *client, sqlite3 *sqlite,
                        struct diag *diag)
{
    static struct answer ours;
    static struct answer theirs;
    double our_s[RUNS_MAX];
    double their_s[RUNS_MAX];
    uint32_t runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    for (uint32_t run = 0; run < runs; run++) {
        ours.count = theirs.count = 0;
        double start = bench_now_s();
        enum err err = sql_query(client, "fs", query, take_row, &ours, diag);
        our_s[run] = bench_now_s() - start;
        if (err) return err;
        start = bench_now_s();
        err = ask_sqlite(sqlite, &theirs, diag);
        their_s[run] = bench_now_s() - start;
        if (err) return err;
        if (ours.count != theirs.count ||
            memcmp(ours.rows, theirs.rows, ours.count * sizeof(ours.rows[0])))
            return diag_set(diag, ERR_CORRUPT, "the answers differ");
    }
    bench_add(bench, &(struct bench_result){.label = "usage by owner, one core",
                                            .value = bench_median(our_s, runs) * 1000,
                                            .unit = "ms",
                                            .against = "SQLite in memory",
                                            .against_value = bench_median(their_s, runs) * 1000,
                                            .note = "lower is better; at most 0.05"});
    return ERR_NONE;
}

enum err bench_report(struct bench *bench, struct diag *diag)
{
    char *dir = bench_temp_dir(diag);
    if (!dir) return ERR_IO;
    struct bench_store store;
    struct bench_fill fill = {.per_dir = PER_DIR};
    fill.to = bench->files ? bench->files : FILES / (bench->quick ? 10u : 1u);
    struct db_client *client = NULL;
    sqlite3 *sqlite = NULL;
    enum err err = bench_store_open(&store, dir, diag);
    if (!err) {
        err = bench_store_run(&store, bench_store_fill, &fill);
        if (err) (void)!diag_set(diag, err, "filling the store: %s", err_text(err));
    }
    if (!err && (err = db_client_create(store.db, &client)))
        (void)!diag_set(diag, err, "%s", err_text(err));
    if (!err && sqlite3_open(":memory:", &sqlite))
        err = diag_set(diag, ERR_NO_MEMORY, "SQLite cannot open a database");
    if (!err) err = fill_sqlite(client, sqlite, diag);
    if (!err) err = compare(bench, client, sqlite, diag);
    (void)sqlite3_close(sqlite);
    db_client_destroy(client);
    bench_fill_fini(&fill);
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    bench_store_remove(&store);
    bench_remove_tree(dir);
    free(dir);
    return err ? err : close_err;
}
