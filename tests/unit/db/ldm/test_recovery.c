/* Recovery: what comes back after clean and unclean ends, across numbers of workers, crashes and
 * failures of recovery itself. Damage has its own tests (test_recovery_damage.c). */
#include <criterion/criterion.h>
#include <dirent.h>
#include <unistd.h>

#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"
#include "tests/unit/db/ldm/durable_engine.h"

static struct catalog *catalog;

static void catalog_setup(void)
{
    catalog = catalog_make(2, 1);
}
static void catalog_teardown(void)
{
    catalog_destroy(catalog);
}

TestSuite(recovery, .init = catalog_setup, .fini = catalog_teardown);

/* Recovers with so many workers, checks the rows, and starts new logs. */
static void restart(struct engine *engine, struct sim *sim, uint16_t partitions, uint16_t workers,
                    const char *expected)
{
    engine_start(engine, sim, catalog, partitions, workers);
    char text[1024];
    engine_text(engine, text);
    cr_assert_str_eq(text, expected);
}

Test(recovery, new_store_is_empty_and_begins_with_segment_1)
{
    struct sim *sim = disk_with_store(1, 4);
    struct engine engine;
    restart(&engine, sim, 4, 2, "");
    cr_assert_eq(engine.result.clock, 0);
    cr_assert_eq(engine.result.cut, 0);
    cr_assert_eq(engine.result.next_segment, 1);
    cr_assert_eq(engine.result.replayed_count, 0);
    for (unsigned i = 0; i < PARTITIONS_MAX; i++)
        cr_assert_eq(engine.result.checkpoint_ts[i], 0);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, flushed_transactions_come_back_and_later_ones_do_not)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim *sim = disk_with_store(seed, 1);
        struct engine engine;
        restart(&engine, sim, 1, 1, "");
        put(&engine, 10, 0, 1, 11);
        put(&engine, 11, 0, 2, 12);
        put(&engine, 12, 0, 1, 13);
        put(&engine, 13, 0, 2, 0);
        engine_flush(&engine, 15);
        put(&engine, 20, 0, 3, 14);
        engine_crash(&engine);
        restart(&engine, sim, 1, 1, "0.1=13 ");
        cr_assert_eq(engine.result.cut, 15);
        cr_assert_eq(engine.result.replayed_count, 4);
        cr_assert_geq(engine.result.clock, 15);
        engine_crash(&engine);
        sim_destroy(sim);
    }
}

/* The second log was flushed further than the first: what the first lacks is dropped from both, for
 * good. */
Test(recovery, all_logs_are_cut_at_the_least_horizon_and_stay_cut)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    restart(&engine, sim, 2, 2, "");
    engine_put(&engine, 10, (const struct put[]){{0, 1, 11}, {1, 1, 12}}, 2);
    engine_flush(&engine, 12);
    engine_put(&engine, 20, (const struct put[]){{0, 1, 21}, {1, 1, 22}}, 2);
    put(&engine, 14, 1, 2, 33);
    engine_flush_one(&engine, 1, 30);
    engine_crash(&engine);
    restart(&engine, sim, 2, 2, "0.1=11 1.1=12 ");
    cr_assert_eq(engine.result.cut, 12);
    cr_assert_eq(engine.result.dropped_count, 2);
    cr_assert_geq(engine.result.clock, 30);
    /* The dropped ones are still in the segment: they must not come back with the next horizon. */
    put(&engine, 40, 0, 5, 55);
    engine_flush(&engine, 50);
    engine_crash(&engine);
    restart(&engine, sim, 2, 1, "0.1=11 0.5=55 1.1=12 ");
    cr_assert_eq(engine.result.cut, 50);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, record_above_the_cut_among_others_is_dropped_alone)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    restart(&engine, sim, 2, 2, "");
    put(&engine, 10, 1, 1, 11);
    put(&engine, 50, 1, 2, 12); /* decided elsewhere, with a later timestamp */
    put(&engine, 11, 1, 3, 13);
    engine_flush_one(&engine, 1, 60);
    engine_flush_one(&engine, 0, 20);
    engine_crash(&engine);
    restart(&engine, sim, 2, 2, "1.1=11 1.3=13 ");
    cr_assert_eq(engine.result.cut, 20);
    cr_assert_eq(engine.result.dropped_count, 1);
    engine_crash(&engine);
    restart(&engine, sim, 2, 2, "1.1=11 1.3=13 ");
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, closed_logs_keep_everything_whatever_their_horizons)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    restart(&engine, sim, 2, 2, "");
    put(&engine, 10, 0, 1, 11);
    engine_flush(&engine, 12);
    put(&engine, 90, 1, 1, 12);
    engine_close(&engine);
    sim_crash(sim);
    restart(&engine, sim, 2, 2, "0.1=11 1.1=12 ");
    cr_assert_geq(engine.result.cut, 90);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, number_of_workers_may_change_with_every_start)
{
    static const uint16_t workers[] = {4, 1, 2, 3, 1, 4, 2};
    struct sim *sim = disk_with_store(1, 8);
    struct engine engine;
    char expected[1024] = "";
    uint64_t ts = 0;
    for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++) {
        restart(&engine, sim, 8, workers[i], expected);
        cr_assert_geq(engine.result.clock, ts);
        ts = engine.result.clock;
        /* Every row is changed in every life, so their order matters. */
        for (uint16_t partition = 0; partition < 8; partition++)
            put(&engine, ++ts, partition, 1, 10 * i + partition + 1);
        engine_flush(&engine, ts);
        engine_text(&engine, expected);
        if (i == 3) engine_checkpoint(&engine, 5, ts);
        if (i % 2)
            engine_close(&engine);
        else
            engine_crash(&engine);
    }
    restart(&engine, sim, 8, 1, expected);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, checkpoints_take_the_place_of_the_log_they_cover)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    restart(&engine, sim, 2, 1, "");
    for (uint64_t ts = 1; ts <= 40; ts++) {
        put(&engine, ts, (uint16_t)(ts % 2), ts % 7, ts);
        engine_flush(&engine, ts);
    }
    cr_assert_gt(names_with(sim, "redo", "0."), 3);
    engine_checkpoint(&engine, 0, 40);
    put(&engine, 41, 0, 8, 41);
    put(&engine, 42, 1, 8, 42);
    engine_flush(&engine, 42);
    redo_trim(engine.redos[0], 42);
    jobs_run(sim);
    cr_assert(file_exists(sim, "redo/0.1"), "partition 1 has no checkpoint");
    engine_checkpoint(&engine, 1, 42);
    redo_trim(engine.redos[0], 42);
    jobs_run(sim);
    cr_assert_not(file_exists(sim, "redo/0.1"));
    put(&engine, 43, 1, 9, 43);
    put(&engine, 44, 0, 3, 0);
    engine_flush(&engine, 44);
    char expected[1024];
    engine_text(&engine, expected);
    engine_crash(&engine);
    restart(&engine, sim, 2, 2, expected);
    cr_assert_eq(engine.result.checkpoint_ts[0], 40);
    cr_assert_eq(engine.result.checkpoint_ts[1], 42);
    cr_assert_eq(engine.result.replayed_count, 3);
    engine_crash(&engine);
    restart(&engine, sim, 2, 1, expected);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, segments_that_nobody_needs_are_removed_and_their_numbers_not_used_again)
{
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    uint64_t next = 1;
    for (uint64_t ts = 1; ts <= 8; ts++) {
        engine_start(&engine, sim, catalog, 1, 1);
        cr_assert_geq(engine.result.next_segment, next);
        next = engine.result.next_segment + 1;
        uint64_t now = engine.result.clock + 1;
        if (ts % 3 == 0) {
            put(&engine, now, 0, 1, ts);
            engine_flush(&engine, now);
            engine_checkpoint(&engine, 0, now);
        }
        engine_crash(&engine);
    }
    engine_start(&engine, sim, catalog, 1, 1);
    /* The history, and the segment of this life. */
    cr_assert_eq(names_with(sim, "redo", ""), 2);
    cr_assert_eq(names_with(sim, "checkpoint", ""), 1);
    char text[1024];
    engine_text(&engine, text);
    cr_assert_str_eq(text, "0.1=6 ");
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, litter_of_interrupted_work_is_swept)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    restart(&engine, sim, 2, 1, "");
    put(&engine, 1, 0, 1, 1);
    engine_flush(&engine, 1);
    engine_checkpoint(&engine, 0, 1);
    struct buf old = file_get(sim, "checkpoint/0.1");
    put(&engine, 2, 0, 1, 2);
    engine_flush(&engine, 2);
    engine_checkpoint(&engine, 0, 2);
    engine_crash(&engine);
    /* A removal that a crash has undone, and temporary files. */
    file_put(sim, "checkpoint/0.1", old.bytes, old.size);
    file_put(sim, "checkpoint/1.77.tmp", "x", 1);
    file_put(sim, "redo/history.tmp", "x", 1);
    file_put(sim, "catalog.tmp", "x", 1);
    buf_fini(&old);
    restart(&engine, sim, 2, 1, "0.1=2 ");
    cr_assert_eq(names_with(sim, "checkpoint", ""), 1);
    cr_assert_eq(names_with(sim, "redo", "tmp"), 0);
    cr_assert_eq(names_with(sim, ".", "tmp"), 0);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(recovery, rows_of_dropped_tables_are_skipped_and_of_new_ones_replayed)
{
    struct catalog *two = catalog_make(3, 2), *none = catalog_make(4, 0);
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    engine_start(&engine, sim, two, 1, 1);
    put(&engine, 1, 0, 1, 1);
    engine_flush(&engine, 1);
    engine_checkpoint(&engine, 0, 1);
    put(&engine, 2, 0, 2, 2);
    engine_flush(&engine, 2);
    engine_crash(&engine);
    engine_start(&engine, sim, none, 1, 1);
    cr_assert_null(partition_fragment(engine.partitions[0], ENGINE_TABLE));
    engine_crash(&engine);
    /* Nothing was changed by that: with the table it is all there again. */
    restart(&engine, sim, 1, 1, "0.1=1 0.2=2 ");
    engine_crash(&engine);
    catalog_destroy(two);
    catalog_destroy(none);
    sim_destroy(sim);
}

/* Rows that have expired are in checkpoints all the same: the log goes on to say that they are
 * purged. */
Test(recovery, rows_that_expire_before_a_checkpoint_and_are_purged_after_it_stay_away)
{
    struct catalog *expiring = catalog_make(3, 1);
    expiring->tables[0]->ttl_seconds = 10;
    expiring->tables[0]->ttl_column = 2;
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    engine_start(&engine, sim, expiring, 1, 1);
    uint64_t second = 1000000000;
    ldm_set_now(engine.ldms[0], 100 * second);
    put(&engine, 1, 0, 1, 101);
    put(&engine, 2, 0, 2, 500);
    engine_flush(&engine, 2);
    struct fragment *fragment = partition_fragment(engine.partitions[0], ENGINE_TABLE);
    const struct value key[2] = {value_u64(0), value_u64(1)};
    uint32_t row;
    cr_assert_eq(fragment_find(fragment, NULL, key, &row), ERR_NONE);
    ldm_set_now(engine.ldms[0], 200 * second);
    uint32_t other;
    cr_assert_eq(fragment_find(fragment, NULL, key, &other), ERR_NOT_FOUND);
    engine_checkpoint(&engine, 0, 2);
    struct change_set *changes;
    cr_assert_eq(change_set_create(engine.ldms[0], &changes), ERR_NONE);
    cr_assert_eq(fragment_delete(fragment, changes, row), ERR_NONE);
    struct buf body;
    buf_init(&body);
    change_set_encode(changes, &body);
    cr_assert_eq(redo_append(engine.redos[0], 3, body.bytes, (uint32_t)body.size), ERR_NONE);
    buf_fini(&body);
    change_set_commit(changes, 3);
    change_set_destroy(changes);
    engine_flush(&engine, 3);
    engine_crash(&engine);
    engine_init(&engine, sim, NULL, expiring, 1, 1);
    ldm_set_now(engine.ldms[0], 200 * second);
    cr_assert_eq(engine_recover(&engine, 1), ERR_NONE, "%s", engine.diag.text);
    cr_assert_eq(engine.result.replayed_count, 1);
    fragment = partition_fragment(engine.partitions[0], ENGINE_TABLE);
    ldm_set_now(engine.ldms[0], 100 * second);
    cr_assert_eq(fragment_find(fragment, NULL, key, &row), ERR_NOT_FOUND);
    cr_assert_eq(fragment_row_count(fragment), 1);
    engine_fini(&engine);
    catalog_destroy(expiring);
    sim_destroy(sim);
}

Test(recovery, wrong_number_of_partitions_is_refused)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    engine_init(&engine, sim, NULL, catalog, 4, 1);
    cr_assert_eq(engine_recover(&engine, 1), ERR_INVALID);
    engine_fini(&engine);
    sim_destroy(sim);
}

/* ---- interrupted recovery ---- */

/* A store with checkpoints, an earlier life, logs with different horizons and a torn tail. */
static struct sim *eventful_store(uint64_t seed, char expected[1024])
{
    struct sim *sim = disk_with_store(seed, 4);
    struct engine engine;
    restart(&engine, sim, 4, 3, "");
    for (uint64_t ts = 1; ts <= 20; ts++) {
        engine_put(&engine, ts,
                   (const struct put[]){{(uint16_t)(ts % 4), ts % 7, ts},
                                        {(uint16_t)(ts % 3), 8, 100 + ts}},
                   2);
        if (ts % 4 == 0) engine_flush(&engine, ts);
    }
    engine_checkpoint(&engine, 1, 20);
    engine_crash(&engine);
    engine_start(&engine, sim, catalog, 4, 2);
    uint64_t ts = engine.result.clock;
    for (unsigned i = 1; i <= 10; i++)
        engine_put(&engine, ts + i,
                   (const struct put[]){{(uint16_t)(i % 4), 1, 200 + i},
                                        {(uint16_t)((i + 1) % 4), 2, 300 + i}},
                   2);
    engine_flush(&engine, ts + 10);
    for (uint16_t i = 0; i < 4; i++)
        if (i != 2) engine_checkpoint(&engine, i, ts + 10);
    engine_text(&engine, expected);
    for (unsigned i = 11; i <= 20; i++)
        engine_put(&engine, ts + i,
                   (const struct put[]){{(uint16_t)(i % 4), 1, 400 + i},
                                        {(uint16_t)((i + 1) % 4), 2, 500 + i}},
                   2);
    engine_flush_one(&engine, 1, ts + 20);
    enum err err;
    redo_flush(engine.redos[0], ts + 20, flush_told, &err);
    /* Before the job of that flush has run: nothing of it is on disk, log 0 ends at ts + 10. */
    engine_crash(&engine);
    return sim;
}

Test(recovery, power_cuts_at_any_file_call_of_recovery_again_and_again_change_nothing)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        bool halted = true;
        for (uint64_t k = 1; halted; k++) {
            char expected[1024], text[1024];
            struct sim *sim = eventful_store(seed, expected);
            for (unsigned again = 0; again < 3; again++) {
                struct engine engine;
                engine_init(&engine, sim, NULL, catalog, 4, 1);
                sim_halt_arm(sim, again ? 1 + sim_random(sim) % k : k);
                enum err err = engine_recover(&engine, 1);
                if (!again) halted = sim_halted(sim);
                if (!err) {
                    engine_text(&engine, text);
                    cr_assert_str_eq(text, expected);
                }
                engine_crash(&engine);
                sim_halt_arm(sim, 0);
            }
            struct engine engine;
            restart(&engine, sim, 4, 2, expected);
            engine_crash(&engine);
            sim_destroy(sim);
        }
    }
}

Test(recovery, every_failed_file_call_is_reported_and_can_be_tried_again)
{
    static const enum err errs[] = {ERR_IO, ERR_NO_SPACE};
    for (size_t i = 0; i < 2; i++) {
        bool fired = true;
        for (uint64_t k = 1; fired; k++) {
            char expected[1024];
            struct sim *sim = eventful_store(7, expected);
            struct engine engine;
            engine_init(&engine, sim, NULL, catalog, 4, 1);
            sim_fault_arm(sim, k, errs[i]);
            enum err err = engine_recover(&engine, 1);
            fired = sim_fault_fired(sim);
            sim_fault_arm(sim, 0, ERR_NONE);
            if (err) {
                cr_assert(fired);
                cr_assert_eq(err, errs[i], "fault %d: %s", (int)k, engine.diag.text);
                cr_assert_eq(engine.diag.err, err);
                cr_assert(engine.diag.text[0]);
            }
            engine_fini(&engine);
            restart(&engine, sim, 4, 2, expected);
            engine_crash(&engine);
            sim_destroy(sim);
        }
    }
}

/* After the process was killed, what the last flush wrote may be in memory only, with its sync
 * failed. Recovery counts on it, so it must make it durable before it says so. */
Test(recovery, bytes_that_a_failed_sync_left_behind_are_made_durable)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim *sim = disk_with_store(seed, 1);
        struct engine engine;
        restart(&engine, sim, 1, 1, "");
        put(&engine, 1, 0, 1, 1);
        engine_flush(&engine, 1);
        put(&engine, 2, 0, 2, 2);
        sim_fault_arm(sim, 2, ERR_IO);
        enum err err = ERR_NONE;
        redo_flush(engine.redos[0], 2, flush_told, &err);
        jobs_run(sim);
        cr_assert_eq(err, ERR_IO);
        sim_fault_arm(sim, 0, ERR_NONE);
        engine_fini(&engine);
        restart(&engine, sim, 1, 1, "0.1=1 0.2=2 ");
        engine_crash(&engine);
        restart(&engine, sim, 1, 1, "0.1=1 0.2=2 ");
        engine_crash(&engine);
        sim_destroy(sim);
    }
}

Test(recovery, creation_of_logs_may_be_interrupted_at_any_file_call)
{
    bool halted = true;
    for (uint64_t k = 1; halted; k++) {
        for (uint64_t seed = 1; seed <= 10; seed++) {
            char expected[1024];
            struct sim *sim = eventful_store(seed, expected);
            struct engine engine;
            engine_init(&engine, sim, NULL, catalog, 4, 3);
            cr_assert_eq(engine_recover(&engine, 1), ERR_NONE, "%s", engine.diag.text);
            sim_halt_arm(sim, k);
            for (uint16_t i = 0; i < 3; i++) {
                const struct redo_config config = {.env = engine.env,
                                                   .worker = i,
                                                   .worker_count = 3,
                                                   .first_segment = engine.result.next_segment};
                if (redo_create(&config, &engine.redos[i])) break;
            }
            halted = sim_halted(sim);
            engine_crash(&engine);
            sim_halt_arm(sim, 0);
            restart(&engine, sim, 4, 2, expected);
            engine_crash(&engine);
            sim_destroy(sim);
        }
    }
}

/* ---- a real directory, and threads ---- */

struct watch {
    uint64_t done;
    uint64_t total;
    unsigned calls;
};

static void watched(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct watch *watch = context;
    cr_assert(what && *what);
    cr_assert_geq(done, watch->done);
    cr_assert_leq(done, total);
    watch->done = done;
    watch->total = total;
    watch->calls++;
}

static void directory_remove(const char *dir)
{
    static const char *const inner[] = {"redo", "checkpoint", "."};
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", dir, inner[i]);
        DIR *list = opendir(path);
        for (struct dirent *entry; list && (entry = readdir(list));) {
            char name[600];
            snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
            unlink(name);
        }
        if (list) closedir(list);
        rmdir(path);
    }
    rmdir(dir);
}

static void copy_file(struct sim *from, struct env *to, const char *path)
{
    struct buf bytes = file_get(from, path);
    struct env_file *file;
    cr_assert_eq(
        to->ops->file_open(to, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_TRUNCATE, &file),
        ERR_NONE);
    cr_assert_eq(to->ops->file_write(file, bytes.bytes, bytes.size, 0), ERR_NONE);
    to->ops->file_close(file);
    buf_fini(&bytes);
}

struct copy {
    struct sim *from;
    struct env *to;
    const char *dir;
};

static enum err copy_listed(void *context, const char *name)
{
    const struct copy *copy = context;
    if (!strcmp(copy->dir, "") && (!strcmp(name, "redo") || !strcmp(name, "checkpoint")))
        return ERR_NONE;
    char path[256];
    snprintf(path, sizeof(path), "%s%s", copy->dir, name);
    copy_file(copy->from, copy->to, path);
    return ERR_NONE;
}

Test(recovery, threads_on_a_real_directory_give_the_same_rows)
{
    char expected[1024], text[1024];
    for (unsigned threads = 1; threads <= 6; threads++) {
        struct sim *sim = eventful_store(3, expected);
        char dir[] = "/tmp/trellis-recovery-XXXXXX";
        cr_assert(mkdtemp(dir));
        const struct env_posix_config config = {.dir = dir, .io_threads = 1};
        struct env *env;
        cr_assert_eq(env_posix_create(&config, &env), ERR_NONE);
        cr_assert_eq(env->ops->dir_create(env, "redo"), ERR_NONE);
        cr_assert_eq(env->ops->dir_create(env, "checkpoint"), ERR_NONE);
        static const char *const dirs[][2] = {
            {".", ""}, {"redo", "redo/"}, {"checkpoint", "checkpoint/"}};
        for (size_t i = 0; i < 3; i++) {
            struct copy copy = {.from = sim, .to = env, .dir = dirs[i][1]};
            cr_assert_eq(sim_env(sim)->ops->dir_list(sim_env(sim), dirs[i][0], copy_listed, &copy),
                         ERR_NONE);
        }
        struct engine engine;
        engine_init(&engine, NULL, env, catalog, 4, 4);
        struct watch watch = {0};
        const struct recovery_config recovery = {
            .env = env,
            .partition_count = 4,
            .partitions = engine.partitions,
            .partition_ldm = engine.partition_ldm,
            .threads = threads,
            .progress = watched,
            .progress_context = &watch,
        };
        cr_assert_eq(recovery_run(&recovery, &engine.result, &engine.diag), ERR_NONE, "%s",
                     engine.diag.text);
        engine_text(&engine, text);
        cr_assert_str_eq(text, expected);
        cr_assert_gt(watch.calls, 0);
        cr_assert_gt(watch.total, 0);
        engine_fini(&engine);
        env_posix_destroy(env);
        directory_remove(dir);
        sim_destroy(sim);
    }
}
