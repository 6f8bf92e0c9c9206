/* Programs through the client library: from threads of their own, from workers' threads, waiting
 * and not, over several workers at once. */
#include "tests/unit/db/api/fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "tests/unit/sanitized.h"

/* Not negative. */
static int random_next(uint64_t *seed)
{
    return (int)(hash_u64(++*seed) >> 33);
}

enum { ACCOUNTS = 12, FIRST = 1000 };

static void make_accounts(struct fixture *fx)
{
    for (uint32_t id = 0; id < ACCOUNTS; id++)
        cr_assert_eq(account_create(fx, (uint16_t)id, id, FIRST), ERR_NONE);
}

static void put_transfer(struct program *program, const struct table_def *account,
                         struct arena *arena, uint32_t from, uint32_t to, int64_t amount)
{
    program_begin(program);
    program_section(program, (uint16_t)from);
    account_add(program, account, arena, (uint16_t)from, from, -amount);
    program_section(program, (uint16_t)to);
    account_add(program, account, arena, (uint16_t)to, to, amount);
}

static void put_sum(struct program *program, const struct table_def *account)
{
    uint16_t column = ACCOUNT_BALANCE;
    program_begin(program);
    for (uint32_t id = 0; id < ACCOUNTS; id++) {
        struct operand key[2] = {operand_value(value_u64(id)), operand_value(value_u64(id))};
        program_section(program, (uint16_t)id);
        program_read(program, account, key, ERR_NOT_FOUND);
        program_output(program, &column, 1);
    }
}

static int64_t sum_of(const struct program_reply *reply)
{
    int64_t sum = 0;
    for (uint8_t step = 0; step < ACCOUNTS; step++)
        sum += program_row(reply, step, 0)->i;
    return sum;
}

static void expect_sum(struct fixture *fx)
{
    put_sum(&fx->program, fx->account);
    cr_assert_eq(db_run(fx->client, &fx->program, &fx->reply), ERR_NONE);
    cr_assert_eq(sum_of(&fx->reply), ACCOUNTS * FIRST);
}

Test(run, a_program_over_several_workers_is_whole_or_nothing)
{
    struct fixture fx;
    struct arena arena;
    arena_init(&arena, 0);
    fixture_init(&fx, (struct db_config){.worker_count = 4, .partition_count = 8});
    make_accounts(&fx);
    put_transfer(&fx.program, fx.account, &arena, 1, 6, 400);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
    cr_assert_gt(fx.reply.commit_ts, 0);
    put_transfer(&fx.program, fx.account, &arena, 1, 6, 700);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_EDQUOT);
    cr_assert_eq(fx.reply.failed_step, 0);
    put_transfer(&fx.program, fx.account, &arena, 6, 99, 1);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NOT_FOUND);
    cr_assert_eq(fx.reply.failed_step, 1);
    int64_t balance;
    cr_assert_eq(account_balance(&fx, 1, 1, &balance), ERR_NONE);
    cr_assert_eq(balance, FIRST - 400);
    cr_assert_eq(account_balance(&fx, 6, 6, &balance), ERR_NONE);
    cr_assert_eq(balance, FIRST + 400);
    expect_sum(&fx);
    /* Nothing stays locked. */
    put_transfer(&fx.program, fx.account, &arena, 6, 1, 400);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
    fixture_fini(&fx);
    arena_fini(&arena);
}

/* ---- prepared ---- */

enum { MOVE_FROM_SLOT, MOVE_FROM, MOVE_TO_SLOT, MOVE_TO, MOVE_AMOUNT, MOVE_PARAMS };

/* A section with: balance += or -= the amount, never below 0. */
static void put_half(struct program *program, const struct table_def *account, struct arena *arena,
                     uint16_t slot_param, uint16_t id_param, enum expr_op op)
{
    const struct operand key[2] = {operand_param(slot_param), operand_param(id_param)};
    uint8_t step = program_update(program, account, key, ERR_NOT_FOUND);
    for (int guard = 0; guard < 2; guard++) {
        struct expr_builder builder;
        struct expr expr;
        expr_begin(&builder, arena);
        uint16_t balance = expr_column(&builder, KIND_I64, step, ACCOUNT_BALANCE);
        uint16_t amount = expr_column(&builder, KIND_I64, PROGRAM_SOURCE_PARAM, MOVE_AMOUNT);
        uint16_t after = expr_op2(&builder, op, KIND_I64, balance, amount);
        if (guard) expr_op2(&builder, EXPR_GE, KIND_I64, after, expr_const(&builder, value_i64(0)));
        cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
        if (guard)
            program_guard(program, expr, ERR_EDQUOT);
        else
            program_set(program, ACCOUNT_BALANCE, operand_expr(expr));
    }
    uint16_t column = ACCOUNT_BALANCE;
    program_output(program, &column, 1);
}

static void prepare_transfer(struct program_prepared *prepared, struct program *program,
                             const struct table_def *account, struct arena *arena)
{
    const uint8_t kinds[MOVE_PARAMS] = {KIND_U64, KIND_U64, KIND_U64, KIND_U64, KIND_I64};
    program_begin(program);
    program_params(program, kinds, MOVE_PARAMS);
    program_section(program, 0);
    put_half(program, account, arena, MOVE_FROM_SLOT, MOVE_FROM, EXPR_SUB);
    program_section(program, 1);
    put_half(program, account, arena, MOVE_TO_SLOT, MOVE_TO, EXPR_ADD);
    cr_assert_eq(program_prepare(prepared, program), ERR_NONE);
}

struct prepared_run {
    struct fixture *fx;
    atomic_int done;
    unsigned moved;
};

/* Every pair of accounts: on one worker and over two, as the slots fall. */
static void move_all(struct prepared_run *run, struct db_client *client)
{
    struct fixture *fx = run->fx;
    struct arena arena;
    struct program program;
    struct program_prepared prepared;
    struct program_reply reply;
    arena_init(&arena, 0);
    program_init(&program);
    program_prepared_init(&prepared);
    program_reply_init(&reply);
    prepare_transfer(&prepared, &program, fx->account, &arena);
    for (uint16_t from = 0; from < ACCOUNTS; from++) {
        for (uint16_t to = 0; to < ACCOUNTS; to++) {
            const uint16_t slots[2] = {from, to};
            struct value params[MOVE_PARAMS] = {value_u64(from), value_u64(from), value_u64(to),
                                                value_u64(to), value_i64(10)};
            enum err err = db_run_prepared(client, &prepared, slots, params, &reply);
            cr_assert_eq(err, from == to ? ERR_INVALID : ERR_NONE, "%s", err_text(err));
            if (err) continue;
            run->moved++;
            cr_assert_gt(reply.commit_ts, 0);
            int64_t had = program_row(&reply, 0, 0)->i;
            params[MOVE_AMOUNT] = value_i64(had + 1);
            cr_assert_eq(db_run_prepared(client, &prepared, slots, params, &reply), ERR_EDQUOT);
            cr_assert_eq(reply.failed_step, 0);
            params[MOVE_AMOUNT] = value_u64(1);
            cr_assert_eq(db_run_prepared(client, &prepared, slots, params, &reply), ERR_INVALID);
        }
    }
    program_reply_fini(&reply);
    program_prepared_fini(&prepared);
    program_fini(&program);
    arena_fini(&arena);
}

static void move_on_worker(void *context)
{
    struct prepared_run *run = context;
    struct db_client *client;
    cr_assert_eq(db_client_on_worker(run->fx->db, 0, &client), ERR_NONE);
    move_all(run, client);
    db_client_destroy(client);
    atomic_store(&run->done, 1);
}

static void prepared_everywhere(uint16_t workers, enum db_flush_policy policy)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){
                          .worker_count = workers, .partition_count = 8, .flush_policy = policy});
    make_accounts(&fx);
    struct prepared_run run = {.fx = &fx};
    move_all(&run, fx.client);
    cr_assert_eq(run.moved, ACCOUNTS * (ACCOUNTS - 1));
    expect_sum(&fx);
    cr_assert_eq(db_post(fx.db, 0, move_on_worker, &run), ERR_NONE);
    while (!atomic_load(&run.done))
        usleep(1000);
    cr_assert_eq(run.moved, 2 * ACCOUNTS * (ACCOUNTS - 1));
    expect_sum(&fx);
    fixture_fini(&fx);
}

Test(run, prepared_programs_run_in_place_and_on_other_workers)
{
    prepared_everywhere(1, DB_FLUSH_INTERVAL);
    prepared_everywhere(3, DB_FLUSH_INTERVAL);
}

Test(run, prepared_programs_are_answered_when_durable)
{
    prepared_everywhere(2, DB_FLUSH_ALWAYS);
}

static void read_through_changes(void *context)
{
    struct prepared_run *run = context;
    struct fixture *fx = run->fx;
    struct db_client *client;
    cr_assert_eq(db_client_on_worker(fx->db, 0, &client), ERR_NONE);
    struct program program;
    struct program_prepared prepared;
    struct program_reply reply;
    program_init(&program);
    program_prepared_init(&prepared);
    program_reply_init(&reply);
    const struct catalog *catalog = NULL;
    const struct table_def *account = NULL;
    const uint16_t slot = 0;
    const uint8_t kinds[] = {KIND_U64};
    const uint16_t column = ACCOUNT_BALANCE;
    struct diag diag = {0};
    const struct index_def index = {
        .name = "by_balance", .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}};
    for (int round = 0; round < 6; round++) {
        bool fresh = !catalog;
        if (fresh) {
            catalog = db_catalog_acquire(fx->db);
            account = catalog_find(catalog, "bank", "account");
            const struct operand key[2] = {operand_param(0), operand_param(0)};
            program_begin(&program);
            program_params(&program, kinds, 1);
            program_section(&program, 0);
            program_read(&program, account, key, ERR_NOT_FOUND);
            program_output(&program, &column, 1);
            cr_assert_eq(program_prepare(&prepared, &program), ERR_NONE);
        }
        const struct value param = value_u64(0);
        enum err err = db_run_prepared(client, &prepared, &slot, &param, &reply);
        if (fresh) {
            cr_assert_eq(err, ERR_NONE);
            cr_assert_eq(program_row(&reply, 0, 0)->i, FIRST);
            /* Gives it a new version, and its definition another place. */
            if (round % 4 == 0)
                err = db_create_index(client, "bank", "account", &index, &diag);
            else
                err = db_drop_index(client, "bank", "account", "by_balance", &diag);
            cr_assert_eq(err, ERR_NONE, "%s", diag.text);
        } else {
            cr_assert_eq(err, ERR_SCHEMA_CHANGED);
            db_catalog_release(fx->db, catalog);
            catalog = NULL;
        }
    }
    if (catalog) db_catalog_release(fx->db, catalog);
    program_reply_fini(&reply);
    program_prepared_fini(&prepared);
    program_fini(&program);
    db_client_destroy(client);
    atomic_store(&run->done, 1);
}

Test(run, prepared_programs_notice_changed_definitions)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){.worker_count = 2, .partition_count = 8});
    make_accounts(&fx);
    struct prepared_run run = {.fx = &fx};
    cr_assert_eq(db_post(fx.db, 0, read_through_changes, &run), ERR_NONE);
    while (!atomic_load(&run.done))
        usleep(1000);
    fixture_fini(&fx);
}

struct mover {
    struct db *db;
    const struct table_def *account;
    uint64_t seed;
    unsigned rounds;
    unsigned moved;
    unsigned sums;
    enum err err;
    int worker; /* -1: a thread of its own */
    pthread_t thread;
    atomic_bool *stop;
    atomic_uint *left;
};

static enum err mover_round(struct mover *mover, struct db_client *client, struct program *program,
                            struct program_reply *reply, struct arena *arena)
{
    arena_reset(arena);
    uint32_t from = (uint32_t)random_next(&mover->seed) % ACCOUNTS;
    uint32_t to = (from + 1 + (uint32_t)random_next(&mover->seed) % (ACCOUNTS - 1)) % ACCOUNTS;
    if (random_next(&mover->seed) % 8 == 0) {
        put_sum(program, mover->account);
        enum err err = db_run(client, program, reply);
        if (err) return err == ERR_CONFLICT ? ERR_NONE : err;
        mover->sums++;
        return sum_of(reply) == ACCOUNTS * FIRST ? ERR_NONE : ERR_CORRUPT;
    }
    put_transfer(program, mover->account, arena, from, to, random_next(&mover->seed) % 50);
    enum err err = db_run(client, program, reply);
    if (err == ERR_NONE) mover->moved++;
    return err == ERR_EDQUOT || err == ERR_CONFLICT ? ERR_NONE : err;
}

static void mover_run(struct mover *mover)
{
    struct db_client *client = NULL;
    struct program program;
    struct program_reply reply;
    struct arena arena;
    program_init(&program);
    program_reply_init(&reply);
    arena_init(&arena, 0);
    mover->err = mover->worker < 0
                     ? db_client_create(mover->db, &client)
                     : db_client_on_worker(mover->db, (uint16_t)mover->worker, &client);
    for (unsigned i = 0; i < mover->rounds && !mover->err; i++)
        mover->err = mover_round(mover, client, &program, &reply, &arena);
    db_client_destroy(client);
    program_fini(&program);
    program_reply_fini(&reply);
    arena_fini(&arena);
}

static void *mover_thread(void *context)
{
    mover_run(context);
    return NULL;
}

static void mover_post(void *context)
{
    struct mover *mover = context;
    mover_run(mover);
    atomic_fetch_sub(mover->left, 1);
}

/* Movers on threads of their own and, at the same time, on the workers' threads, where each waits
 * in nested turns. */
static void move_about(uint16_t workers, unsigned rounds)
{
    struct fixture fx;
    struct mover movers[4 + 4];
    atomic_uint left = workers;
    fixture_init(&fx, (struct db_config){
                          .worker_count = workers, .partition_count = 8, .flush_interval_ms = 5});
    make_accounts(&fx);
    for (unsigned i = 0; i < 4u + workers; i++) {
        movers[i] = (struct mover){.db = fx.db,
                                   .account = fx.account,
                                   .seed = i + 1,
                                   .rounds = rounds,
                                   .worker = i < 4 ? -1 : (int)i - 4,
                                   .left = &left};
        if (i < 4)
            cr_assert_eq(pthread_create(&movers[i].thread, NULL, mover_thread, &movers[i]), 0);
        else
            cr_assert_eq(db_post(fx.db, (uint16_t)(i - 4), mover_post, &movers[i]), ERR_NONE);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(movers[i].thread, NULL);
    while (atomic_load(&left))
        usleep(1000);
    unsigned moved = 0, sums = 0;
    for (unsigned i = 0; i < 4u + workers; i++) {
        cr_assert_eq(movers[i].err, ERR_NONE, "mover %u: %s", i, err_name(movers[i].err));
        moved += movers[i].moved;
        sums += movers[i].sums;
    }
    cr_assert_gt(moved, rounds);
    cr_assert_gt(sums, 0);
    expect_sum(&fx);
    fixture_close(&fx);
    fixture_open(&fx, (struct db_config){.worker_count = 1});
    expect_sum(&fx);
    fixture_fini(&fx);
}

Test(run, money_is_kept_with_1_worker)
{
    move_about(1, 400);
}

Test(run, money_is_kept_with_2_workers)
{
    move_about(2, 400);
}

Test(run, money_is_kept_with_4_workers)
{
    move_about(4, 300);
}

/* ---- without waiting ---- */

struct counting {
    struct fixture *fx;
    unsigned done;
    unsigned failed;
    int64_t last;
};

static void on_done(void *context, struct program_reply *reply)
{
    struct counting *counting = context;
    counting->done++;
    if (reply->err) counting->failed++;
}

Test(run, submitted_programs_are_called_back_once_each)
{
    struct fixture fx;
    struct arena arena;
    arena_init(&arena, 0);
    fixture_init(&fx, (struct db_config){.worker_count = 2, .partition_count = 8});
    make_accounts(&fx);
    struct counting counting = {.fx = &fx};
    unsigned submitted = 0;
    for (unsigned i = 0; i < (SANITIZED ? 600 : 2000); i++) {
        arena_reset(&arena);
        put_transfer(&fx.program, fx.account, &arena, i % ACCOUNTS, (i + 1) % ACCOUNTS, 1);
        enum err err = db_submit(fx.client, &fx.program, on_done, &counting);
        cr_assert_eq(err, ERR_NONE);
        submitted++;
        /* A few under way at a time: twelve accounts bear no more without giving up. */
        while (submitted - counting.done > 16)
            db_poll(fx.client, 5000);
    }
    while (counting.done < submitted)
        cr_assert_gt(db_poll(fx.client, 5000), 0);
    cr_assert_eq(counting.done, submitted);
    cr_assert_eq(counting.failed, 0, "conflicts are tried again");
    cr_assert_eq(db_poll(fx.client, 0), 0);
    expect_sum(&fx);
    unsigned accepted = 0;
    enum err err = ERR_NONE;
    while (accepted < 5000 && !err) {
        put_sum(&fx.program, fx.account);
        err = db_submit(fx.client, &fx.program, on_done, &counting);
        accepted += !err;
    }
    cr_assert_eq(err, ERR_BUSY);
    cr_assert_eq(accepted, 4096);
    while (counting.done < submitted + accepted)
        cr_assert_gt(db_poll(fx.client, 30000), 0);
    fixture_fini(&fx);
    arena_fini(&arena);
}

/* A client on a worker: what it submits is called back by the worker's loop. */
struct bound {
    struct fixture *fx;
    struct db_client *client;
    struct program program;
    struct arena arena;
    unsigned left;
    atomic_bool finished;
    enum err err;
};

static void bound_submit(struct bound *bound);

static void bound_done(void *context, struct program_reply *reply)
{
    struct bound *bound = context;
    if (reply->err) bound->err = reply->err;
    if (--bound->left && !bound->err) {
        bound_submit(bound);
        return;
    }
    atomic_store(&bound->finished, true);
}

static void bound_submit(struct bound *bound)
{
    arena_reset(&bound->arena);
    put_transfer(&bound->program, bound->fx->account, &bound->arena, bound->left % ACCOUNTS,
                 (bound->left + bound->left % 3 + 1) % ACCOUNTS, 1);
    enum err err = db_submit(bound->client, &bound->program, bound_done, bound);
    if (err) bound->err = err;
}

static void bound_begin(void *context)
{
    struct bound *bound = context;
    bound->err = db_client_on_worker(bound->fx->db, 0, &bound->client);
    if (!bound->err) bound_submit(bound);
    if (bound->err) atomic_store(&bound->finished, true);
}

static void bound_end(void *context)
{
    struct bound *bound = context;
    db_client_destroy(bound->client);
    atomic_store(&bound->finished, true);
}

static void run_bound(enum db_flush_policy policy)
{
    struct fixture fx;
    fixture_init(
        &fx, (struct db_config){.worker_count = 2, .partition_count = 8, .flush_policy = policy});
    make_accounts(&fx);
    struct bound bound = {.fx = &fx, .left = 200};
    program_init(&bound.program);
    arena_init(&bound.arena, 0);
    cr_assert_eq(db_client_on_worker(fx.db, 0, &bound.client), ERR_INVALID, "not its thread");
    cr_assert_eq(db_post(fx.db, 0, bound_begin, &bound), ERR_NONE);
    while (!atomic_load(&bound.finished))
        usleep(1000);
    cr_assert_eq(bound.err, ERR_NONE);
    cr_assert_eq(bound.left, 0);
    atomic_store(&bound.finished, false);
    cr_assert_eq(db_post(fx.db, 0, bound_end, &bound), ERR_NONE);
    while (!atomic_load(&bound.finished))
        usleep(1000);
    expect_sum(&fx);
    program_fini(&bound.program);
    arena_fini(&bound.arena);
    fixture_fini(&fx);
}

Test(run, a_client_on_a_worker_is_called_back_by_its_loop)
{
    run_bound(DB_FLUSH_INTERVAL);
}

Test(run, a_client_on_a_worker_is_called_back_when_durable)
{
    run_bound(DB_FLUSH_ALWAYS);
}

Test(run, checkpoints_while_programs_run)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){
                          .worker_count = 2, .partition_count = 4, .checkpoint_log_bytes = 20000});
    make_accounts(&fx);
    struct mover movers[2];
    for (int i = 0; i < 2; i++) {
        movers[i] = (struct mover){
            .db = fx.db, .account = fx.account, .seed = (uint64_t)i, .rounds = 1500, .worker = -1};
        cr_assert_eq(pthread_create(&movers[i].thread, NULL, mover_thread, &movers[i]), 0);
    }
    for (int i = 0; i < 5; i++)
        cr_assert_eq(db_checkpoint(fx.client), ERR_NONE);
    for (int i = 0; i < 2; i++) {
        pthread_join(movers[i].thread, NULL);
        cr_assert_eq(movers[i].err, ERR_NONE);
    }
    struct diag diag;
    cr_assert_eq(db_health(fx.db, &diag), ERR_NONE, "%s", diag.text);
    fixture_close(&fx);
    fixture_open(&fx, (struct db_config){.worker_count = 3});
    expect_sum(&fx);
    fixture_fini(&fx);
}
