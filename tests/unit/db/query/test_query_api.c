/* Queries through the client library, on a real node with one, two and four workers. */
#include <pthread.h>
#include <unistd.h>
#include <stdatomic.h>

#include "tests/unit/db/api/fixture.h"
#include "tests/unit/db/query/build.h"
#include "tests/unit/sanitized.h"

enum { ACCOUNTS = 4000, SLOTS = 64 };
#define BALANCE INT64_C(100)

static const uint16_t worker_counts[] = {1, 2, 4};

static uint64_t ino_for(uint16_t slot, uint32_t id)
{
    return (uint64_t)slot << HOME_SHIFT | id;
}

/* Account i is in slot i % SLOTS; the inode for it is in the next slot. */
static void fill(struct fixture *f)
{
    uint32_t i = 0;
    while (i < ACCOUNTS) {
        program_begin(&f->program);
        /* 16 sections of at most 4 steps. */
        for (uint32_t n = 0; n < 16 && i < ACCOUNTS; n++, i++) {
            program_section(&f->program, (uint16_t)(i % SLOTS));
            account_insert(&f->program, f->account, (uint16_t)(i % SLOTS), i, BALANCE);
        }
        cr_assert_eq(db_run(f->client, &f->program, &f->reply), ERR_NONE);
    }
    for (i = 0; i < ACCOUNTS; i += 2) {
        uint16_t slot = (uint16_t)(i % SLOTS + 1);
        program_begin(&f->program);
        program_section(&f->program, slot);
        struct operand values[4] = {operand_value(value_u64(ino_for(slot, i))),
                                    operand_value(value_u64(i % 8)), operand_value(value_u64(1)),
                                    operand_value(value_u64(i))};
        program_insert(&f->program, f->inode, values, ERR_EXISTS);
        cr_assert_eq(db_run(f->client, &f->program, &f->reply), ERR_NONE);
    }
}

static void build_total(struct builder *b, const struct table_def *account)
{
    build_begin(b);
    build_scan(b, account->id)->table_version = account->version;
    build_aggregate(b, AGG_SUM, KIND_I64, KIND_I64, 0, build_column(b, KIND_I64, 0, 2));
    build_aggregate(b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
    build_output_column(b, KIND_I64, EXPR_SOURCE_AGG, 0);
    build_output_column(b, KIND_I64, EXPR_SOURCE_AGG, 1);
}

/* account joined with the inode for it, which is in another partition; grouped by the inode's mode,
 * ordered. */
static void build_joined(struct builder *b, const struct fixture *f, bool grouped)
{
    build_begin(b);
    build_scan(b, f->account->id)->table_version = f->account->version;
    struct expr_builder e;
    struct expr key;
    expr_begin(&e, &b->arena);
    uint16_t next = expr_op2(&e, EXPR_ADD, KIND_U64, expr_column(&e, KIND_U64, 0, ACCOUNT_SLOT),
                             expr_const(&e, value_u64(1)));
    uint16_t home = expr_op2(&e, EXPR_SHL, KIND_U64, next, expr_const(&e, value_u64(HOME_SHIFT)));
    expr_op2(&e, EXPR_BIT_OR, KIND_U64, home, expr_column(&e, KIND_U64, 0, ACCOUNT_ID));
    cr_assert_eq(expr_finish(&e, &key), ERR_NONE);
    build_join(b, f->inode->id, 0, false, key)->table_version = f->inode->version;
    if (!grouped) {
        build_output_column(b, KIND_U64, 0, ACCOUNT_ID);
        build_output_column(b, KIND_U64, 1, INODE_MODE);
        return;
    }
    build_group(b, build_column(b, KIND_U64, 1, INODE_MODE), 0);
    build_aggregate(b, AGG_COUNT_STAR, KIND_NULL, KIND_I64, 0, (struct expr){0});
    build_aggregate(b, AGG_SUM, KIND_U64, KIND_DEC, 0, build_column(b, KIND_U64, 1, INODE_SIZE));
    build_output_column(b, KIND_U64, EXPR_SOURCE_GROUP, 0);
    build_output_column(b, KIND_I64, EXPR_SOURCE_AGG, 0);
    build_output_column(b, KIND_DEC, EXPR_SOURCE_AGG, 1);
    build_order(b, 0, false);
}

Test(query_api, every_worker_count_gives_the_same_result)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n]});
        fill(&f);
        struct builder b;
        build_joined(&b, &f, true);
        struct db_query *query;
        struct diag diag = {0};
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE, "%s", diag.text);
        const struct value *row;
        for (uint64_t mode = 0; mode < 8; mode += 2) {
            cr_assert_eq(db_query_next(query, &row, &diag), ERR_NONE, "%s", diag.text);
            cr_assert_eq(row[0].u, mode);
            int64_t count = 0;
            int64_t sum = 0;
            for (uint32_t i = 0; i < ACCOUNTS; i += 2) {
                count += i % 8 == mode;
                sum += i % 8 == mode ? (int64_t)i : 0;
            }
            cr_assert_eq(row[1].i, count);
            cr_assert_eq(row[2].i, sum);
        }
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_END);
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_END);
        struct db_query_stats stats;
        db_query_stats(query, &stats);
        cr_assert_eq(stats.rows_scanned, ACCOUNTS + ACCOUNTS / 2);
        cr_assert_eq(stats.rows_returned, 4);
        cr_assert_eq(stats.partitions, 8);
        cr_assert_gt(stats.snapshot_ts, 0);
        db_query_close(query);
        build_end(&b);
        fixture_fini(&f);
    }
}

Test(query_api, rows_stream_and_a_query_may_be_closed_anywhere)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n]});
        fill(&f);
        struct builder b;
        build_joined(&b, &f, false);
        for (uint32_t stop = 0; stop <= ACCOUNTS; stop = stop ? stop * 3 : 1) {
            struct db_query *query;
            struct diag diag = {0};
            cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE);
            uint32_t rows = 0;
            const struct value *row;
            enum err err = ERR_NONE;
            while (rows < stop && !(err = db_query_next(query, &row, &diag)))
                rows++;
            cr_assert(err == ERR_NONE || (err == ERR_END && rows == ACCOUNTS / 2), "%s", diag.text);
            db_query_close(query);
        }
        /* Several at once, read in turns. */
        struct db_query *queries[5];
        struct diag diag = {0};
        uint32_t rows[5] = {0};
        for (int q = 0; q < 5; q++)
            cr_assert_eq(db_query_open(f.client, &b.tree, &queries[q], &diag), ERR_NONE);
        for (bool more = true; more;) {
            more = false;
            for (int q = 0; q < 5; q++) {
                const struct value *row;
                enum err err = db_query_next(queries[q], &row, &diag);
                cr_assert(err == ERR_NONE || err == ERR_END, "%s", diag.text);
                rows[q] += err == ERR_NONE;
                more |= err == ERR_NONE;
            }
        }
        for (int q = 0; q < 5; q++) {
            cr_assert_eq(rows[q], ACCOUNTS / 2);
            db_query_close(queries[q]);
        }
        build_end(&b);
        fixture_fini(&f);
    }
}

/* ---- snapshots ---- */

struct transfers {
    struct fixture *f;
    atomic_bool stop;
    atomic_uint done;
    uint32_t seed;
};

static void *transfer(void *context)
{
    struct transfers *t = context;
    struct db_client *client;
    struct program program;
    struct program_reply reply;
    program_init(&program);
    program_reply_init(&reply);
    cr_assert_eq(db_client_create(t->f->db, &client), ERR_NONE);
    uint32_t random = t->seed;
    while (!atomic_load(&t->stop)) {
        random = random * 1664525u + 1013904223u;
        uint32_t from = (random >> 8) % ACCOUNTS;
        random = random * 1664525u + 1013904223u;
        uint32_t to = (random >> 8) % ACCOUNTS;
        if (from % SLOTS == to % SLOTS) continue;
        struct arena arena;
        arena_init(&arena, 0);
        program_begin(&program);
        program_section(&program, (uint16_t)(from % SLOTS));
        account_add(&program, t->f->account, &arena, (uint16_t)(from % SLOTS), from, -7);
        program_section(&program, (uint16_t)(to % SLOTS));
        account_add(&program, t->f->account, &arena, (uint16_t)(to % SLOTS), to, 7);
        enum err err = db_run(client, &program, &reply);
        cr_assert(err == ERR_NONE || err == ERR_EDQUOT || err == ERR_CONFLICT, "%s", err_text(err));
        atomic_fetch_add(&t->done, err == ERR_NONE);
        arena_fini(&arena);
    }
    db_client_destroy(client);
    program_fini(&program);
    program_reply_fini(&reply);
    return NULL;
}

/* Money moves between partitions all the time; every query must see all of it. */
Test(query_api, a_snapshot_never_sees_half_a_transaction)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n]});
        fill(&f);
        struct transfers transfers[2] = {{.f = &f, .seed = 1}, {.f = &f, .seed = 99}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, transfer, &transfers[i]), 0);
        /* On a busy machine the rounds may be over before a thread has begun. */
        for (int i = 0; i < 2; i++)
            for (int waited_ms = 0; atomic_load(&transfers[i].done) == 0 && waited_ms < 20000;
                 waited_ms++)
                usleep(1000);
        struct builder b;
        build_total(&b, f.account);
        uint64_t last_ts = 0;
        for (int round = 0; round < (SANITIZED ? 60 : 200); round++) {
            struct db_query *query;
            struct diag diag = {0};
            const struct value *row;
            cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE, "%s",
                         diag.text);
            cr_assert_eq(db_query_next(query, &row, &diag), ERR_NONE, "%s", diag.text);
            cr_assert_eq(row[1].i, ACCOUNTS);
            cr_assert_eq(row[0].i, ACCOUNTS * BALANCE, "round %d: %lld", round,
                         (long long)row[0].i);
            struct db_query_stats stats;
            db_query_stats(query, &stats);
            cr_assert_gt(stats.snapshot_ts, last_ts);
            last_ts = stats.snapshot_ts;
            db_query_close(query);
        }
        for (int i = 0; i < 2; i++) {
            atomic_store(&transfers[i].stop, true);
            pthread_join(threads[i], NULL);
            cr_assert_gt(transfers[i].done, 0);
        }
        build_end(&b);
        fixture_fini(&f);
    }
}

/* ---- a client on a worker's thread ---- */

struct on_worker {
    struct fixture *f;
    uint16_t worker;
    enum err err;
    int64_t total;
    uint32_t rows;
    atomic_bool done;
};

static void query_on_worker(void *context)
{
    struct on_worker *at = context;
    struct db_client *client;
    struct diag diag = {0};
    at->err = db_client_on_worker(at->f->db, at->worker, &client);
    if (!at->err) {
        struct builder b;
        struct db_query *query;
        const struct value *row;
        build_total(&b, at->f->account);
        at->err = db_query_open(client, &b.tree, &query, &diag);
        if (!at->err) {
            at->err = db_query_next(query, &row, &diag);
            if (!at->err) at->total = row[0].i;
            db_query_close(query);
        }
        build_end(&b);
        if (!at->err) {
            build_joined(&b, at->f, false);
            at->err = db_query_open(client, &b.tree, &query, &diag);
            while (!at->err && !(at->err = db_query_next(query, &row, &diag)))
                at->rows++;
            if (at->err == ERR_END) at->err = ERR_NONE;
            db_query_close(query);
            build_end(&b);
        }
        db_client_destroy(client);
    }
    atomic_store(&at->done, true);
}

Test(query_api, a_client_on_a_workers_thread_can_query)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n]});
        fill(&f);
        for (uint16_t w = 0; w < worker_counts[n]; w++) {
            struct on_worker at = {.f = &f, .worker = w};
            cr_assert_eq(db_post(f.db, w, query_on_worker, &at), ERR_NONE);
            while (!atomic_load(&at.done))
                usleep(100);
            cr_assert_eq(at.err, ERR_NONE, "%s", err_text(at.err));
            cr_assert_eq(at.total, ACCOUNTS * BALANCE);
            cr_assert_eq(at.rows, ACCOUNTS / 2);
        }
        fixture_fini(&f);
    }
}

/* ---- errors ---- */

Test(query_api, errors_come_with_a_reason_and_leave_nothing_behind)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n],
                                            .query_memory_max = 512 << 10});
        fill(&f);
        struct builder b;
        struct db_query *query;
        struct diag diag = {0};
        const struct value *row;
        /* Groups by account: more than fits in half a megabyte. */
        build_total(&b, f.account);
        build_group(&b, build_column(&b, KIND_U64, 0, ACCOUNT_ID), 0);
        build_group(&b, build_column(&b, KIND_I64, 0, ACCOUNT_BALANCE), 0);
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE);
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_QUERY_MEMORY);
        cr_assert_gt(strlen(diag.text), 0);
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_QUERY_MEMORY);
        db_query_close(query);
        build_end(&b);
        /* A failing expression: 1 << (balance + 64). */
        build_total(&b, f.account);
        struct expr_builder e;
        struct expr bad;
        expr_begin(&e, &b.arena);
        uint16_t shift = expr_op2(&e, EXPR_ADD, KIND_U64, expr_column(&e, KIND_U64, 0, ACCOUNT_ID),
                                  expr_const(&e, value_u64(64)));
        uint16_t shifted = expr_op2(&e, EXPR_SHL, KIND_U64, expr_const(&e, value_u64(1)), shift);
        expr_op2(&e, EXPR_GT, KIND_U64, shifted, expr_const(&e, value_u64(0)));
        cr_assert_eq(expr_finish(&e, &bad), ERR_NONE);
        build_filter(&b, 0, bad);
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE);
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_OUT_OF_RANGE);
        cr_assert(strstr(diag.text, "filter of table account"), "%s", diag.text);
        db_query_close(query);
        build_end(&b);
        /* A tree that makes no sense, and one for a table that has changed. */
        build_total(&b, f.account);
        b.tree.visible_count = 0;
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_BAD_QUERY);
        b.tree.visible_count = 1;
        b.sources[0].table_version++;
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_SCHEMA_CHANGED);
        build_end(&b);
        /* The store still answers. */
        build_total(&b, f.account);
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_NONE);
        cr_assert_eq(db_query_next(query, &row, &diag), ERR_NONE, "%s", diag.text);
        cr_assert_eq(row[0].i, ACCOUNTS * BALANCE);
        db_query_close(query);
        build_end(&b);
        fixture_fini(&f);
    }
}

Test(query_api, dropping_a_table_ends_the_queries_over_it)
{
    for (size_t n = 0; n < ARRAY_SIZE(worker_counts); n++) {
        struct fixture f;
        fixture_init(&f, (struct db_config){.worker_count = worker_counts[n]});
        fill(&f);
        struct builder b;
        build_joined(&b, &f, false);
        struct db_query *queries[3];
        struct diag diag = {0};
        const struct value *row;
        for (int q = 0; q < 3; q++) {
            cr_assert_eq(db_query_open(f.client, &b.tree, &queries[q], &diag), ERR_NONE);
            for (int i = 0; i < q; i++)
                cr_assert_eq(db_query_next(queries[q], &row, &diag), ERR_NONE);
        }
        cr_assert_eq(db_drop_table(f.client, "bank", "inode", &diag), ERR_NONE, "%s", diag.text);
        for (int q = 0; q < 3; q++) {
            enum err err;
            uint32_t rows = (uint32_t)q;
            while (!(err = db_query_next(queries[q], &row, &diag)))
                rows++;
            cr_assert(err == ERR_SCHEMA_CHANGED || (err == ERR_END && rows == ACCOUNTS / 2),
                      "%s after %u rows", err_text(err), rows);
            db_query_close(queries[q]);
        }
        struct db_query *query;
        cr_assert_eq(db_query_open(f.client, &b.tree, &query, &diag), ERR_SCHEMA_CHANGED);
        build_end(&b);
        fixture_fini(&f);
    }
}
