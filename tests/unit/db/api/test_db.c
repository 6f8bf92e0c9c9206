/* Stores as a whole: opening, refusing, closing, restarting with other numbers of workers,
 * definitions, watches. */
#include "tests/unit/db/api/fixture.h"
#include "tests/unit/sanitized.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static const struct db_config one = {.worker_count = 1, .partition_count = 4};

static void sleep_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static enum err open_err(struct db_config config, struct diag *diag)
{
    struct db *db;
    enum err err = db_open_embedded(&config, &db, diag);
    cr_assert_neq(err, ERR_NONE);
    cr_assert_neq(diag->text[0], '\0');
    cr_assert_null(strchr(diag->text, '\n'));
    return err;
}

Test(db, keeps_rows_over_close_and_open)
{
    struct fixture fx;
    fixture_init(&fx, one);
    for (uint32_t id = 0; id < 100; id++)
        cr_assert_eq(account_create(&fx, (uint16_t)(id % 7), id, id * 10), ERR_NONE);
    cr_assert_eq(account_create(&fx, 3, 3, 1), ERR_EXISTS);
    uint8_t key[16], again[16];
    db_store_key(fx.db, key);
    fixture_close(&fx);
    fixture_open(&fx, one);
    for (uint32_t id = 0; id < 100; id++) {
        int64_t balance = -1;
        cr_assert_eq(account_balance(&fx, (uint16_t)(id % 7), id, &balance), ERR_NONE);
        cr_assert_eq(balance, id * 10);
    }
    db_store_key(fx.db, again);
    cr_assert_eq(memcmp(key, again, 16), 0);
    fixture_fini(&fx);
}

Test(db, open_refuses_what_is_no_store_or_in_use)
{
    struct fixture fx;
    struct diag diag;
    fixture_init(&fx, one);
    struct db_config config = one;
    config.dir = fx.dir;
    cr_assert_eq(open_err(config, &diag), ERR_IN_USE);
    char pid[16];
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    cr_assert_not_null(strstr(diag.text, pid), "%s", diag.text);
    fixture_close(&fx);
    config.worker_count = 65;
    cr_assert_eq(open_err(config, &diag), ERR_INVALID);
    config.worker_count = 1;
    config.partition_count = 3;
    cr_assert_eq(open_err(config, &diag), ERR_INVALID);
    config.partition_count = 0;
    config.dir = "";
    cr_assert_eq(open_err(config, &diag), ERR_INVALID);

    char dir[] = "/tmp/trellis-test-XXXXXX";
    char path[64];
    cr_assert_not_null(mkdtemp(dir));
    config.dir = dir;
    cr_assert_eq(open_err(config, &diag), ERR_INVALID, "empty, and not to be made");
    snprintf(path, sizeof(path), "%s/missing/deep", dir);
    config.dir = path;
    config.create = true;
    cr_assert_eq(open_err(config, &diag), ERR_NOT_FOUND);
    snprintf(path, sizeof(path), "%s/file", dir);
    cr_assert_geq(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    cr_assert_eq(open_err(config, &diag), ERR_INVALID, "a file");
    config.dir = dir;
    cr_assert_eq(open_err(config, &diag), ERR_EXISTS, "a directory of something else");
    unlink(path);
    struct db *db;
    cr_assert_eq(db_open_embedded(&config, &db, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(db_partition_count(db), 8);
    cr_assert_eq(db_close(db, &diag), ERR_NONE);
    nftw(dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
    fixture_fini(&fx);
}

Test(db, can_be_opened_with_any_number_of_workers)
{
    struct fixture fx;
    const uint16_t counts[] = {4, 1, 3, 2, 8, 1};
    fixture_init(&fx, (struct db_config){.worker_count = 2, .partition_count = 8});
    uint32_t id = 0;
    for (unsigned round = 0; round < ARRAY_SIZE(counts); round++) {
        for (unsigned i = 0; i < 40; i++, id++)
            cr_assert_eq(account_create(&fx, (uint16_t)(id % 11), id, id), ERR_NONE);
        if (round % 2) cr_assert_eq(db_checkpoint(fx.client), ERR_NONE);
        for (unsigned i = 0; i < 10; i++, id++)
            cr_assert_eq(account_create(&fx, (uint16_t)(id % 11), id, id), ERR_NONE);
        fixture_close(&fx);
        fixture_open(&fx, (struct db_config){.worker_count = counts[round]});
        cr_assert_eq(db_worker_count(fx.db), counts[round]);
        for (uint32_t i = 0; i < id; i++) {
            int64_t balance = -1;
            cr_assert_eq(account_balance(&fx, (uint16_t)(i % 11), i, &balance), ERR_NONE);
            cr_assert_eq(balance, i);
        }
    }
    fixture_fini(&fx);
}

/* The thread sanitizer does not follow a process with threads into its child; the other builds run
 * these. */
static void skip_under_tsan(void)
{
#ifdef __SANITIZE_THREAD__
    cr_skip_test("no fork with threads under the thread sanitizer");
#endif
}

/* What a child acknowledged before it was killed is there. */
static void kill_round(struct fixture *fx, enum db_flush_policy policy, bool flush)
{
    skip_under_tsan();
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    struct db_config config = {.worker_count = 2, .flush_policy = policy};
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct diag diag;
        config.dir = fx->dir;
        if (db_open_embedded(&config, &fx->db, &diag)) _exit(1);
        if (db_client_create(fx->db, &fx->client)) _exit(1);
        fx->catalog = NULL;
        fixture_catalog(fx);
        for (uint32_t id = 0;; id++) {
            if (account_create(fx, (uint16_t)(id % 5), id, 1)) _exit(1);
            if (flush && id % 16 == 0 && db_flush(fx->client)) _exit(1);
            if ((!flush || id % 16 == 0) && write(pipes[1], &id, sizeof(id)) != sizeof(id))
                _exit(1);
        }
    }
    close(pipes[1]);
    uint32_t last = 0;
    for (int i = 0; i < 40; i++)
        cr_assert_eq(read(pipes[0], &last, sizeof(last)), sizeof(last));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(pipes[0], &last, sizeof(last)) == sizeof(last))
        continue;
    close(pipes[0]);
    fixture_open(fx, one);
    for (uint32_t id = 0; id <= last; id++) {
        int64_t balance = -1;
        cr_assert_eq(account_balance(fx, (uint16_t)(id % 5), id, &balance), ERR_NONE,
                     "row %u of %u is lost", id, last);
    }
    fixture_close(fx);
}

Test(db, policy_always_keeps_what_was_acknowledged_when_killed)
{
    struct fixture fx;
    fixture_init(&fx, one);
    fixture_close(&fx);
    kill_round(&fx, DB_FLUSH_ALWAYS, false);
    fixture_fini(&fx);
}

Test(db, flush_keeps_what_was_acknowledged_before_when_killed)
{
    struct fixture fx;
    fixture_init(&fx, one);
    fixture_close(&fx);
    kill_round(&fx, DB_FLUSH_INTERVAL, true);
    fixture_fini(&fx);
}

Test(db, an_idle_store_is_not_woken)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){.worker_count = 2, .flush_interval_ms = 10});
    cr_assert_eq(account_create(&fx, 1, 1, 1), ERR_NONE);
    sleep_ms(300);
    uint64_t sleeps[2];
    for (int i = 0; i < 2; i++) {
        char *json;
        cr_assert_eq(db_status_json(fx.client, &json), ERR_NONE);
        const char *at = strstr(json, "\"sleeps\": ");
        cr_assert_not_null(at);
        sleeps[i] = strtoull(at + strlen("\"sleeps\": "), NULL, 10);
        free(json);
        sleep_ms(500);
    }
    /* The status requests themselves, and nothing else. */
    cr_assert_leq(sleeps[1] - sleeps[0], 3);
    fixture_fini(&fx);
}

Test(db, definitions_change_under_programs)
{
    struct fixture fx;
    struct diag diag = {0};
    fixture_init(&fx, (struct db_config){.worker_count = 3, .partition_count = 8});
    for (uint32_t id = 0; id < 50; id++)
        cr_assert_eq(account_create(&fx, (uint16_t)id, id, 100 - id), ERR_NONE);
    struct index_def index = {
        .name = "by_balance", .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}};
    cr_assert_eq(db_create_index(fx.client, "bank", "account", &index, &diag), ERR_NONE, "%s",
                 diag.text);
    cr_assert_eq(db_create_index(fx.client, "bank", "account", &index, &diag), ERR_EXISTS);
    cr_assert_not_null(strstr(diag.text, "by_balance"));
    cr_assert_eq(account_create(&fx, 1, 1000, 1), ERR_SCHEMA_CHANGED, "the old definition");
    fixture_catalog(&fx);
    cr_assert_eq(account_create(&fx, 1, 1000, 1), ERR_NONE);
    struct operand low = operand_value(value_i64(0));
    uint16_t columns[] = {ACCOUNT_ID, ACCOUNT_BALANCE};
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_scan(&fx.program, fx.account, 1, NULL, 0, &low, 1, false, 10);
    program_output(&fx.program, columns, 2);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[0].u, 1000);
    cr_assert_eq(program_row(&fx.reply, 0, 1)[1].i, 51); /* slot 49, of the same partition */
    fixture_close(&fx);

    fixture_open(&fx, one);
    cr_assert_eq(fx.account->index_count, 2);
    cr_assert_eq(db_drop_index(fx.client, "bank", "account", "by_balance", &diag), ERR_NONE);
    cr_assert_eq(db_drop_index(fx.client, "bank", "account", "by_balance", &diag), ERR_NOT_FOUND);
    cr_assert_eq(db_drop_table(fx.client, "bank", "account", &diag), ERR_NONE);
    cr_assert_eq(db_drop_table(fx.client, "bank", "account", &diag), ERR_NOT_FOUND);
    cr_assert_eq(account_create(&fx, 1, 2000, 1), ERR_SCHEMA_CHANGED);
    struct table_def bad = *fx.inode;
    bad.column_count = 0;
    cr_assert_eq(db_create_table(fx.client, &bad, &diag), ERR_INVALID);
    cr_assert_eq(db_create_table(fx.client, fx.inode, &diag), ERR_EXISTS);
    fixture_catalog(&fx);
    cr_assert_null(fx.account);
    fixture_close(&fx);
    fixture_open(&fx, one);
    cr_assert_null(fx.account);
    fixture_fini(&fx);
}

/* Soon full. */
enum { MEMORY_MAX = SANITIZED ? 1 << 20 : 2 << 20 };

Test(db, memory_limit_refuses_growth_and_nothing_else)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){.worker_count = 1, .memory_max = MEMORY_MAX});
    enum err err = ERR_NONE;
    uint32_t count = 0;
    while (!err && count < 2000000)
        err = account_create(&fx, 1, count++, 1);
    cr_assert_eq(err, ERR_NO_SPACE);
    int64_t balance;
    cr_assert_eq(account_balance(&fx, 1, 0, &balance), ERR_NONE);
    struct operand key[2] = {operand_value(value_u64(1)), operand_value(value_u64(0))};
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_delete(&fx.program, fx.account, key, ERR_NOT_FOUND);
    cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
    fixture_fini(&fx);
}

/* An account goes, and a row of the other table, which had none so far, says so. */
static enum err account_take(struct fixture *fx, uint16_t slot, uint32_t id, unsigned flags)
{
    struct operand key[2] = {operand_value(value_u64(slot)), operand_value(value_u64(id))};
    struct operand values[4] = {operand_value(value_u64((uint64_t)slot << HOME_SHIFT | id)),
                                operand_value(value_u64(0)), operand_value(value_u64(0)),
                                operand_value(value_u64(0))};
    program_begin(&fx->program);
    program_section(&fx->program, slot);
    program_delete(&fx->program, fx->account, key, ERR_NOT_FOUND);
    program_insert(&fx->program, fx->inode, values, ERR_EXISTS);
    program_flags(&fx->program, flags);
    return db_run(fx->client, &fx->program, &fx->reply);
}

Test(db, a_full_store_can_be_emptied_and_filled_again)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){.worker_count = 2, .memory_max = MEMORY_MAX});
    enum { SLOTS = 2 };
    for (int round = 0; round < 2; round++) {
        uint32_t counts[SLOTS] = {0};
        for (uint16_t slot = 0; slot < SLOTS; slot++) {
            enum err err = ERR_NONE;
            while (!err) {
                err = account_create(&fx, slot, counts[slot], 1);
                counts[slot] += !err;
                cr_assert_lt(counts[slot], 2000000);
            }
            cr_assert_eq(err, ERR_NO_SPACE);
        }
        cr_assert_gt(counts[0], 1000);
        cr_assert_eq(account_take(&fx, 0, 0, 0), ERR_NO_SPACE);
        for (uint16_t slot = 0; slot < SLOTS; slot++) {
            for (uint32_t id = 0; id < counts[slot]; id++) {
                enum err err = account_take(&fx, slot, id, STEP_FREES);
                cr_assert_eq(err, ERR_NONE, "%u of %u: %s", id, counts[slot], err_name(err));
            }
            for (uint32_t id = 0; id < counts[slot]; id++) {
                struct operand key = operand_value(value_u64((uint64_t)slot << HOME_SHIFT | id));
                program_begin(&fx.program);
                program_section(&fx.program, slot);
                program_delete(&fx.program, fx.inode, &key, ERR_NOT_FOUND);
                cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
            }
        }
    }
    fixture_fini(&fx);
}

Test(db, expired_rows_vanish_and_are_purged)
{
    struct fixture fx;
    struct diag diag = {0};
    fixture_init(&fx, one);
    struct column_def columns[2] = {fixture_column("slot", TYPE_SMALLINT_UNSIGNED, false),
                                    fixture_column("made", TYPE_BIGINT, false)};
    struct table_def table = {
        .database = "bank",
        .name = "session",
        .column_count = 2,
        .columns = columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .ttl_seconds = 1,
        .ttl_column = 1,
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_HASH,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 1}},
    };
    cr_assert_eq(db_create_table(fx.client, &table, &diag), ERR_NONE, "%s", diag.text);
    fixture_catalog(&fx);
    const struct table_def *session = catalog_find(fx.catalog, "bank", "session");
    for (uint64_t slot = 0; slot < 200; slot++) {
        int64_t made = slot < 150 ? time(NULL) - 100 : time(NULL) + 1000;
        struct operand values[2] = {operand_value(value_u64(slot)), operand_value(value_i64(made))};
        program_begin(&fx.program);
        program_section(&fx.program, (uint16_t)slot);
        program_insert(&fx.program, session, values, ERR_EXISTS);
        cr_assert_eq(db_run(fx.client, &fx.program, &fx.reply), ERR_NONE);
    }
    struct operand key = operand_value(value_u64(3));
    program_begin(&fx.program);
    program_section(&fx.program, 3);
    program_read(&fx.program, session, &key, ERR_NOT_FOUND);
    enum err err = db_run(fx.client, &fx.program, &fx.reply);
    cr_assert_eq(err, ERR_NOT_FOUND, "%s", err_text(err));
    bool purged = false;
    for (int i = 0; i < 100 && !purged; i++) {
        sleep_ms(50);
        char *json;
        cr_assert_eq(db_status_json(fx.client, &json), ERR_NONE);
        purged = strstr(json, "\"purged\": 150,") != NULL;
        free(json);
    }
    cr_assert(purged);
    fixture_fini(&fx);
}

/* ---- watches and posts ---- */

struct watching {
    struct db_watch watch;
    int count;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

static bool on_ready(struct db_watch *watch)
{
    struct watching *watching = watch->context;
    char byte;
    bool more = read(watch->fd, &byte, 1) == 1 && byte != 'q';
    pthread_mutex_lock(&watching->mutex);
    watching->count++;
    pthread_cond_signal(&watching->changed);
    pthread_mutex_unlock(&watching->mutex);
    return more;
}

static void wait_count(struct watching *watching, int count)
{
    pthread_mutex_lock(&watching->mutex);
    while (watching->count < count)
        pthread_cond_wait(&watching->changed, &watching->mutex);
    pthread_mutex_unlock(&watching->mutex);
}

Test(db, watches_are_called_until_they_decline)
{
    struct fixture fx;
    int pipes[2];
    fixture_init(&fx, (struct db_config){.worker_count = 2});
    cr_assert_eq(pipe(pipes), 0);
    struct watching watching = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER};
    watching.watch = (struct db_watch){.fd = pipes[0], .ready = on_ready, .context = &watching};
    cr_assert_eq(db_watch(fx.db, 2, &watching.watch), ERR_INVALID);
    cr_assert_eq(db_watch(fx.db, 1, &watching.watch), ERR_NONE);
    cr_assert_eq(write(pipes[1], "a", 1), 1);
    wait_count(&watching, 1);
    cr_assert_eq(write(pipes[1], "q", 1), 1);
    wait_count(&watching, 2);
    cr_assert_eq(write(pipes[1], "abc", 3), 3);
    sleep_ms(50);
    pthread_mutex_lock(&watching.mutex);
    cr_assert_eq(watching.count, 2);
    pthread_mutex_unlock(&watching.mutex);
    fixture_fini(&fx);
    close(pipes[0]);
    close(pipes[1]);
}

/* Answers each byte of one pipe with one on the other. */
struct echo {
    struct db_watch watch;
    int back_fd;
};

static bool on_echo(struct db_watch *watch)
{
    struct echo *echo = watch->context;
    char byte;
    ssize_t got = read(watch->fd, &byte, 1);
    if (got < 0) return errno == EAGAIN;
    watch->found++;
    return write(echo->back_fd, &byte, 1) == 1 && byte != 'q';
}

Test(db, a_watch_that_spins_misses_nothing)
{
    struct fixture fx;
    int there[2];
    int back[2];
    fixture_init(&fx, (struct db_config){.worker_count = 2});
    cr_assert_eq(pipe2(there, O_NONBLOCK), 0);
    cr_assert_eq(pipe(back), 0);
    struct echo echo = {.back_fd = back[1]};
    echo.watch =
        (struct db_watch){.fd = there[0], .ready = on_echo, .context = &echo, .spins = true};
    cr_assert_eq(db_watch(fx.db, 0, &echo.watch), ERR_NONE);
    for (int i = 0; i < 20000; i++) {
        /* One after the other, with a pause now and then: found by looking, and by waking up. */
        if (i % 1000 == 999) sleep_ms(5);
        char byte = (char)('A' + i % 20);
        char answer = 0;
        cr_assert_eq(write(there[1], &byte, 1), 1);
        cr_assert_eq(read(back[0], &answer, 1), 1);
        cr_assert_eq(answer, byte);
    }
    /* What is done by others meanwhile is not forgotten for it. */
    struct db_client *client;
    cr_assert_eq(db_client_create(fx.db, &client), ERR_NONE);
    cr_assert_eq(write(there[1], "x", 1), 1);
    cr_assert_eq(db_flush(client), ERR_NONE);
    db_client_destroy(client);
    char last[2];
    cr_assert_eq(read(back[0], last, 1), 1);
    cr_assert_eq(write(there[1], "q", 1), 1);
    cr_assert_eq(read(back[0], last, 1), 1);
    cr_assert_eq(write(there[1], "y", 1), 1);
    sleep_ms(20);
    cr_assert_eq(fcntl(back[0], F_SETFL, O_NONBLOCK), 0);
    cr_assert_lt(read(back[0], last, 1), 0, "it declined");
    fixture_fini(&fx);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
}
