/* A worker's log: what it writes, when it answers, how it fails, what it keeps and trims. Recovery
 * has tests of its own; here segments are read back record by record. */
#include <criterion/criterion.h>

#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"
#include "tests/unit/db/ldm/durability.h"

struct told {
    unsigned count;
    enum err err;
    uint64_t horizon;
    unsigned order[16]; /* of the contexts */
};

struct told_as {
    struct told *told;
    unsigned number;
};

static void tell(void *context, enum err err, uint64_t horizon)
{
    struct told *told = context;
    told->count++;
    told->err = err;
    told->horizon = horizon;
}

static void tell_as(void *context, enum err err, uint64_t horizon)
{
    struct told_as *as = context;
    as->told->order[as->told->count] = as->number;
    tell(as->told, err, horizon);
}

static struct redo *log_create(struct sim *sim, uint64_t segment_size_max)
{
    const struct redo_config config = {.env = sim_env(sim),
                                       .first_segment = 1,
                                       .worker_count = 1,
                                       .segment_size_max = segment_size_max};
    struct redo *redo;
    cr_assert_eq(redo_create(&config, &redo), ERR_NONE);
    return redo;
}

static void append(struct redo *redo, uint64_t ts, const char *text)
{
    uint32_t size = (uint32_t)strlen(text);
    cr_assert_eq(redo_check(redo, size), ERR_NONE);
    cr_assert_eq(redo_append(redo, ts, text, size), ERR_NONE);
}

static enum err flush(struct sim *sim, struct redo *redo, uint64_t horizon)
{
    struct told told = {0};
    redo_flush(redo, horizon, tell, &told);
    jobs_run(sim);
    cr_assert_eq(told.count, 1);
    if (!told.err) cr_assert_geq(told.horizon, horizon);
    return told.err;
}

/* "ts:text ts:text |horizon …" of a segment, up to its first invalid record, which is shown as "!".
 */
static void segment_text(struct sim *sim, uint16_t worker, uint64_t number, char text[512])
{
    struct store_info info = info_of(sim);
    struct segment_reader reader;
    struct diag diag;
    text[0] = '\0';
    cr_assert_eq(segment_reader_open(&reader, sim_env(sim), info.id, worker, number, &diag),
                 ERR_NONE);
    cr_assert_eq(segment_reader_header(&reader, &diag), ERR_NONE, "%s", diag.text);
    for (;;) {
        struct redo_record record;
        enum err err = segment_reader_next(&reader, &record, &diag);
        if (err == ERR_END) break;
        char *at = text + strlen(text);
        size_t left = 512 - strlen(text);
        if (err) {
            snprintf(at, left, "!");
            break;
        }
        if (record.kind == REDO_HORIZON)
            snprintf(at, left, "|%llu ", (unsigned long long)record.ts);
        else
            snprintf(at, left, "%llu:%.*s ", (unsigned long long)record.ts, (int)record.body_size,
                     (const char *)record.body);
    }
    segment_reader_close(&reader);
}

Test(redo, records_come_back_in_order_with_their_horizons)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "a");
    append(redo, 11, "bbbbbbbb");
    cr_assert(redo_is_dirty(redo));
    cr_assert_eq(flush(sim, redo, 11), ERR_NONE);
    cr_assert_not(redo_is_dirty(redo));
    cr_assert_eq(redo_horizon_durable(redo), 11);
    append(redo, 15, "ccccccccc");
    cr_assert_eq(flush(sim, redo, 20), ERR_NONE);
    cr_assert_eq(flush(sim, redo, 30), ERR_NONE);
    char text[512];
    segment_text(sim, 0, 1, text);
    cr_assert_str_eq(text, "10:a 11:bbbbbbbb |11 15:ccccccccc |20 |30 ");
    struct buf bytes = file_get(sim, "redo/0.1");
    cr_assert_eq(bytes.size - SEGMENT_HEADER_SIZE, redo_bytes_written(redo));
    buf_fini(&bytes);
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, what_a_flush_answered_survives_a_crash)
{
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim *sim = disk_with_store(seed, 1);
        struct redo *redo = log_create(sim, 0);
        append(redo, 10, "first");
        cr_assert_eq(flush(sim, redo, 12), ERR_NONE);
        append(redo, 20, "second, not answered");
        struct told told = {0};
        redo_flush(redo, 20, tell, &told);
        sim_crash(sim);
        char text[512];
        segment_text(sim, 0, 1, text);
        cr_assert_eq(strncmp(text, "10:first |12 ", 13), 0, "%s", text);
        cr_assert_eq(told.count, 0);
        redo_destroy(redo);
        sim_destroy(sim);
    }
}

Test(redo, requests_during_a_flush_share_the_next_one_and_are_answered_in_order)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    struct told told = {0};
    struct told_as as[4];
    for (unsigned i = 0; i < 4; i++)
        as[i] = (struct told_as){.told = &told, .number = i};
    append(redo, 10, "a");
    redo_flush(redo, 10, tell_as, &as[0]);
    append(redo, 11, "b");
    cr_assert(redo_is_dirty(redo));
    redo_flush(redo, 11, tell_as, &as[1]);
    cr_assert_not(redo_is_dirty(redo));
    redo_flush(redo, 12, tell_as, &as[2]);
    append(redo, 13, "c");
    redo_flush(redo, 13, tell_as, &as[3]);
    cr_assert_eq(told.count, 0);
    cr_assert_not(redo_is_idle(redo));
    jobs_run(sim);
    cr_assert(redo_is_idle(redo));
    cr_assert_eq(told.count, 4);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(told.order[i], i);
    char text[512];
    segment_text(sim, 0, 1, text);
    cr_assert_str_eq(text, "10:a |10 11:b 13:c |13 ");
    redo_destroy(redo);
    sim_destroy(sim);
}

static void flush_again(void *context, enum err err, uint64_t horizon)
{
    struct redo **redo = context;
    cr_assert_eq(err, ERR_NONE);
    if (horizon < 14) redo_flush(*redo, horizon + 1, flush_again, context);
}

Test(redo, a_callback_may_ask_for_the_next_flush)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "a");
    redo_flush(redo, 11, flush_again, &redo);
    jobs_run(sim);
    char text[512];
    segment_text(sim, 0, 1, text);
    cr_assert_str_eq(text, "10:a |11 |12 |13 |14 ");
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, full_segments_are_followed_by_new_ones_that_tell_of_them)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 601);
    for (uint64_t ts = 1; ts <= 9; ts++) {
        append(redo, ts * 10, "12345678901234567890");
        cr_assert_eq(flush(sim, redo, ts * 10 + 1), ERR_NONE);
    }
    cr_assert_eq(names_with(sim, "redo", "0."), 5);
    struct store_info info = info_of(sim);
    for (uint64_t number = 1; number <= 5; number++) {
        struct segment_reader reader;
        struct diag diag;
        cr_assert_eq(segment_reader_open(&reader, sim_env(sim), info.id, 0, number, &diag),
                     ERR_NONE);
        cr_assert_eq(segment_reader_header(&reader, &diag), ERR_NONE);
        cr_assert_eq(reader.header.life, 1);
        cr_assert_eq(reader.header.worker_count, 1);
        cr_assert_eq(reader.end.kind, number < 5 ? SEGMENT_CONTINUED : 0);
        cr_assert_eq(reader.end.size, number < 5 ? SEGMENT_HEADER_SIZE + 2 * (56 + 32) : 0);
        if (number == 1) {
            cr_assert_eq(reader.header.previous_size, 0);
        } else {
            cr_assert_eq(reader.header.previous_size, SEGMENT_HEADER_SIZE + 2 * (56 + 32));
            cr_assert_eq(reader.header.previous_ts, (number - 1) * 20);
            cr_assert_eq(reader.header.previous_horizon, (number - 1) * 20 + 1);
        }
        segment_reader_close(&reader);
    }
    char text[512];
    segment_text(sim, 0, 5, text);
    cr_assert_str_eq(text, "90:12345678901234567890 |91 ");
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, close_writes_what_is_left_and_the_exact_size)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "a");
    cr_assert_eq(flush(sim, redo, 10), ERR_NONE);
    append(redo, 20, "b");
    cr_assert_eq(redo_close(redo), ERR_NONE);
    cr_assert_eq(redo_check(redo, 1), ERR_CLOSED);
    cr_assert_eq(redo_append(redo, 30, "c", 1), ERR_CLOSED);
    cr_assert_eq(flush(sim, redo, 30), ERR_CLOSED);
    redo_destroy(redo);
    sim_crash(sim);
    char text[512];
    segment_text(sim, 0, 1, text);
    cr_assert_str_eq(text, "10:a |10 20:b |20 ");
    struct store_info info = info_of(sim);
    struct segment_reader reader;
    cr_assert_eq(segment_reader_open(&reader, sim_env(sim), info.id, 0, 1, NULL), ERR_NONE);
    cr_assert_eq(segment_reader_header(&reader, NULL), ERR_NONE);
    cr_assert_eq(reader.end.kind, SEGMENT_CLOSED);
    cr_assert_eq(reader.end.size, reader.window.file_size);
    cr_assert_eq(reader.end.ts_max, 20);
    segment_reader_close(&reader);
    sim_destroy(sim);
}

/* Each file call of a flush in turn: the log is failed for good, whatever works afterwards. */
Test(redo, failed_write_or_sync_fails_the_log_for_good)
{
    for (uint64_t k = 1; k <= 2; k++) {
        struct sim *sim = disk_with_store(k, 1);
        struct redo *redo = log_create(sim, 0);
        append(redo, 10, "a");
        cr_assert_eq(flush(sim, redo, 10), ERR_NONE);
        append(redo, 20, "b");
        sim_fault_arm(sim, k, ERR_IO);
        cr_assert_eq(flush(sim, redo, 20), ERR_IO);
        cr_assert(sim_fault_fired(sim));
        sim_fault_arm(sim, 0, ERR_NONE);
        cr_assert_eq(redo_check(redo, 1), ERR_IO);
        cr_assert_eq(redo_append(redo, 30, "c", 1), ERR_IO);
        cr_assert_eq(flush(sim, redo, 40), ERR_IO);
        cr_assert_eq(redo_close(redo), ERR_IO);
        cr_assert_eq(redo_horizon_durable(redo), 10);
        redo_destroy(redo);
        sim_crash(sim);
        char text[512];
        segment_text(sim, 0, 1, text);
        cr_assert_eq(strncmp(text, "10:a |10 ", 9), 0, "%s", text);
        sim_destroy(sim);
    }
}

Test(redo, failed_sync_for_lack_of_space_is_final_too)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "a");
    sim_fault_arm(sim, 4, ERR_NO_SPACE);
    cr_assert_eq(flush(sim, redo, 10), ERR_NO_SPACE);
    cr_assert_eq(flush(sim, redo, 11), ERR_NO_SPACE);
    cr_assert_eq(redo_append(redo, 30, "c", 1), ERR_NO_SPACE);
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, full_disk_stalls_the_log_until_there_is_space)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim *sim = disk_with_store(seed, 1);
        struct redo *redo = log_create(sim, 0);
        append(redo, 10, "a");
        cr_assert_eq(flush(sim, redo, 10), ERR_NONE);
        append(redo, 20, "b");
        sim_fault_arm(sim, 1, ERR_NO_SPACE);
        cr_assert_eq(flush(sim, redo, 21), ERR_NO_SPACE);
        cr_assert_eq(redo_check(redo, 1), ERR_NO_SPACE);
        cr_assert(redo_is_dirty(redo));
        cr_assert_eq(redo_horizon_durable(redo), 10);
        /* A transaction that was prepared before may still commit. */
        cr_assert_eq(redo_append(redo, 30, "c", 1), ERR_NONE);
        sim_fault_arm(sim, 1, ERR_NO_SPACE);
        cr_assert_eq(flush(sim, redo, 31), ERR_NO_SPACE);
        cr_assert_eq(flush(sim, redo, 32), ERR_NONE);
        cr_assert_not(redo_is_dirty(redo));
        append(redo, 40, "d");
        cr_assert_eq(flush(sim, redo, 40), ERR_NONE);
        redo_destroy(redo);
        sim_crash(sim);
        char text[512];
        segment_text(sim, 0, 1, text);
        cr_assert_str_eq(text, "10:a |10 20:b 30:c |32 40:d |40 ");
        sim_destroy(sim);
    }
}

Test(redo, full_disk_at_a_new_segment_stalls_and_goes_on_with_it)
{
    bool fired = true;
    unsigned stalls = 0;
    for (uint64_t k = 1; fired; k++) {
        struct sim *sim = disk_with_store(k, 1);
        struct redo *redo = log_create(sim, 601);
        append(redo, 10, "12345678901234567890");
        cr_assert_eq(flush(sim, redo, 10), ERR_NONE);
        append(redo, 20, "12345678901234567890");
        cr_assert_eq(flush(sim, redo, 20), ERR_NONE);
        append(redo, 30, "c");
        sim_fault_arm(sim, k, ERR_NO_SPACE);
        enum err err = flush(sim, redo, 30);
        fired = sim_fault_fired(sim);
        sim_fault_arm(sim, 0, ERR_NONE);
        if (fired) cr_assert_eq(err, ERR_NO_SPACE);
        if (redo_check(redo, 1) == ERR_NONE || flush(sim, redo, 31) == ERR_NONE) {
            stalls += fired;
            append(redo, 40, "d");
            cr_assert_eq(flush(sim, redo, 40), ERR_NONE);
            char text[512];
            segment_text(sim, 0, 2, text);
            cr_assert_str_eq(text, fired ? "30:c |31 40:d |40 " : "30:c |30 40:d |40 ");
        }
        redo_destroy(redo);
        sim_destroy(sim);
    }
    /* Creating the file, its header, its sync, the directory's sync, and the write itself. */
    cr_assert_eq(stalls, 5);
}

Test(redo, limits_are_refused_before_anything_is_executed)
{
    struct sim *sim = disk_with_store(1, 1);
    const struct redo_config config = {
        .env = sim_env(sim), .first_segment = 1, .buffer_size_max = 1000};
    struct redo *redo;
    cr_assert_eq(redo_create(&config, &redo), ERR_NONE);
    cr_assert_eq(redo_check(redo, 900), ERR_NONE);
    cr_assert_eq(redo_check(redo, 1000), ERR_TOO_BIG);
    cr_assert_eq(redo_check(redo, UINT64_MAX), ERR_TOO_BIG);
    char body[600] = {0};
    cr_assert_eq(redo_append(redo, 1, body, sizeof(body)), ERR_NONE);
    cr_assert_eq(redo_check(redo, 600), ERR_BUSY);
    struct told told = {0};
    redo_flush(redo, 1, tell, &told);
    /* What is in flight still takes memory. */
    cr_assert_eq(redo_check(redo, 600), ERR_BUSY);
    jobs_run(sim);
    cr_assert_eq(redo_check(redo, 600), ERR_NONE);
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, segment_numbers_of_earlier_lives_are_refused)
{
    struct sim *sim = disk_with_store(1, 1);
    struct store_info info = info_of(sim);
    const struct history history = {.next_segment = 5};
    cr_assert_eq(history_write(sim_env(sim), &info, &history, NULL), ERR_NONE);
    struct redo *redo;
    struct redo_config config = {.env = sim_env(sim), .first_segment = 4};
    cr_assert_eq(redo_create(&config, &redo), ERR_INVALID);
    config.first_segment = 5;
    cr_assert_eq(redo_create(&config, &redo), ERR_NONE);
    redo_destroy(redo);
    cr_assert_eq(redo_create(&config, &redo), ERR_EXISTS);
    sim_destroy(sim);
}

static void checkpoint_fake(struct sim *sim, unsigned partition, unsigned ts)
{
    char path[64];
    snprintf(path, sizeof(path), "checkpoint/%u.%u", partition, ts);
    file_put(sim, path, "x", 1);
}

Test(redo, trim_removes_what_every_partition_has_a_checkpoint_of_and_no_more)
{
    struct sim *sim = disk_with_store(1, 2);
    struct redo *redo = log_create(sim, 601);
    for (uint64_t ts = 1; ts <= 9; ts++) {
        append(redo, ts * 10, "12345678901234567890");
        cr_assert_eq(flush(sim, redo, ts * 10 + 1), ERR_NONE);
    }
    redo_trim(redo, 25);
    jobs_run(sim);
    cr_assert_eq(names_with(sim, "redo", "0."), 5, "no checkpoint, nothing trimmed");
    checkpoint_fake(sim, 0, 100);
    redo_trim(redo, 25);
    jobs_run(sim);
    cr_assert_eq(names_with(sim, "redo", "0."), 5, "partition 1 has no checkpoint");
    checkpoint_fake(sim, 1, 45);
    redo_trim(redo, 25);
    jobs_run(sim);
    cr_assert_not(file_exists(sim, "redo/0.1"));
    cr_assert(file_exists(sim, "redo/0.2"), "the caller said 25");
    redo_trim(redo, 1000);
    jobs_run(sim);
    cr_assert_not(file_exists(sim, "redo/0.2"));
    cr_assert(file_exists(sim, "redo/0.3"), "partition 1 is at 45");
    checkpoint_fake(sim, 1, 100);
    redo_trim(redo, 1000);
    jobs_run(sim);
    cr_assert_eq(names_with(sim, "redo", "0."), 1, "the one being written stays");
    cr_assert(file_exists(sim, "redo/0.5"));
    redo_destroy(redo);
    sim_destroy(sim);
}

Test(redo, trim_of_worker_0_takes_the_segments_of_earlier_lives)
{
    struct sim *sim = disk_with_store(1, 1);
    struct store_info info = info_of(sim);
    struct history history = {.next_segment = 9, .clock = 100};
    for (uint16_t worker = 0; worker < 3; worker++) {
        const struct history_segment segment = {.life = 1,
                                                .number = 1,
                                                .size = 600,
                                                .ts_max = 50 + worker,
                                                .cut = 100,
                                                .worker = worker};
        cr_assert_eq(history_add(&history, &segment), ERR_NONE);
        char path[64];
        snprintf(path, sizeof(path), "redo/%u.1", (unsigned)worker);
        file_put(sim, path, "x", 1);
    }
    cr_assert_eq(history_write(sim_env(sim), &info, &history, NULL), ERR_NONE);
    history_fini(&history);
    struct redo *redo[2];
    for (uint16_t worker = 0; worker < 2; worker++) {
        const struct redo_config config = {
            .env = sim_env(sim), .worker = worker, .worker_count = 2, .first_segment = 9};
        cr_assert_eq(redo_create(&config, &redo[worker]), ERR_NONE);
    }
    checkpoint_fake(sim, 0, 51);
    redo_trim(redo[1], 1000);
    jobs_run(sim);
    cr_assert_eq(names_with(sim, "redo", ".1"), 3);
    redo_trim(redo[0], 1000);
    jobs_run(sim);
    cr_assert_not(file_exists(sim, "redo/0.1"));
    cr_assert_not(file_exists(sim, "redo/1.1"));
    cr_assert(file_exists(sim, "redo/2.1"));
    redo_destroy(redo[0]);
    redo_destroy(redo[1]);
    sim_destroy(sim);
}

/* Every file call of a log's life fails in turn: no leak, an error where it is due, and what was
 * answered as durable can be read. */
Test(redo, every_failed_file_call_leaves_what_was_answered_readable)
{
    static const enum err errs[] = {ERR_IO, ERR_NO_SPACE};
    for (size_t i = 0; i < 2; i++) {
        bool fired = true;
        for (uint64_t k = 1; fired; k++) {
            struct sim *sim = disk_with_store(k, 1);
            checkpoint_fake(sim, 0, 1);
            sim_fault_arm(sim, k, errs[i]);
            const struct redo_config config = {
                .env = sim_env(sim), .first_segment = 1, .segment_size_max = 601};
            struct redo *redo = NULL;
            enum err err = redo_create(&config, &redo);
            cr_assert_eq(err != ERR_NONE, redo == NULL);
            unsigned durable = 0;
            for (unsigned ts = 1; redo && ts <= 6; ts++) {
                if (redo_check(redo, 20) || redo_append(redo, ts, "12345678901234567890", 20))
                    break;
                struct told told = {0};
                redo_flush(redo, ts, tell, &told);
                jobs_run(sim);
                cr_assert_eq(told.count, 1);
                if (!told.err) durable = ts;
                redo_trim(redo, ts);
                jobs_run(sim);
            }
            if (redo) {
                enum err close_err = redo_close(redo);
                fired = sim_fault_fired(sim);
                if (!fired) cr_assert_eq(close_err, ERR_NONE);
            }
            redo_destroy(redo);
            sim_fault_arm(sim, 0, ERR_NONE);
            sim_crash(sim);
            char all[4096] = "", text[512];
            for (uint64_t number = 1; number <= 4; number++) {
                char path[64];
                snprintf(path, sizeof(path), "redo/0.%u", (unsigned)number);
                if (!file_exists(sim, path)) continue;
                struct buf bytes = file_get(sim, path);
                bool whole = bytes.size >= SEGMENT_HEADER_SIZE;
                buf_fini(&bytes);
                if (!whole || (number > 1 && durable < 2 * number - 1)) continue;
                if (number == 1 && !durable) continue;
                segment_text(sim, 0, number, text);
                strcat(all, text);
            }
            for (unsigned ts = 3; ts <= durable; ts++) {
                char record[64];
                snprintf(record, sizeof(record), "%u:12345678901234567890 ", ts);
                cr_assert(strstr(all, record), "fault at %d: %s is not in %s", (int)k, record, all);
            }
            sim_destroy(sim);
        }
    }
}

/* ---- the format ---- */

Test(redo_format, records_of_another_store_worker_segment_or_place_do_not_count)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "a");
    append(redo, 11, "b");
    cr_assert_eq(flush(sim, redo, 11), ERR_NONE);
    redo_destroy(redo);
    struct store_info info = info_of(sim);
    struct buf bytes = file_get(sim, "redo/0.1");
    /* The records of 0.1 in a file with a good header of its own: another number, another worker.
     */
    static const struct segment_header others[] = {{.number = 2, .life = 2, .worker = 0},
                                                   {.number = 1, .life = 1, .worker = 1}};
    for (size_t i = 0; i < 2; i++) {
        struct buf file;
        buf_init(&file);
        segment_header_put(&file, info.id, &others[i]);
        buf_put(&file, bytes.bytes + SEGMENT_HEADER_SIZE, bytes.size - SEGMENT_HEADER_SIZE);
        char path[STORE_PATH_SIZE];
        store_segment_path(others[i].worker, others[i].number, path);
        file_put(sim, path, file.bytes, file.size);
        buf_fini(&file);
        char text[512];
        segment_text(sim, others[i].worker, others[i].number, text);
        cr_assert_str_eq(text, "!");
    }
    /* The first record gone, the others moved up. */
    memmove(bytes.bytes + SEGMENT_HEADER_SIZE, bytes.bytes + SEGMENT_HEADER_SIZE + 40,
            bytes.size - SEGMENT_HEADER_SIZE - 40);
    file_put(sim, "redo/0.1", bytes.bytes, bytes.size - 40);
    char text[512];
    segment_text(sim, 0, 1, text);
    cr_assert_str_eq(text, "!");
    buf_fini(&bytes);
    sim_destroy(sim);
}

Test(redo_format, every_flipped_bit_of_a_segment_is_noticed_where_it_is)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "some text");
    append(redo, 11, "more");
    cr_assert_eq(flush(sim, redo, 11), ERR_NONE);
    redo_destroy(redo);
    struct store_info info = info_of(sim);
    struct buf bytes = file_get(sim, "redo/0.1");
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        size_t at = bit / 8;
        bytes.bytes[at] ^= (uint8_t)(1u << bit % 8);
        file_put(sim, "redo/0.1", bytes.bytes, bytes.size);
        bytes.bytes[at] ^= (uint8_t)(1u << bit % 8);
        struct segment_reader reader;
        struct diag diag;
        cr_assert_eq(segment_reader_open(&reader, sim_env(sim), info.id, 0, 1, &diag), ERR_NONE);
        enum err err = segment_reader_header(&reader, &diag);
        if (at < SEGMENT_END_AT) {
            cr_assert_eq(err, ERR_CORRUPT, "bit %zu", bit);
            cr_assert(strstr(diag.text, "redo/0.1: offset "), "%s", diag.text);
        } else {
            cr_assert_eq(err, ERR_NONE);
            cr_assert_eq(reader.end.size, 0, "a torn end slot says nothing");
        }
        if (at >= SEGMENT_HEADER_SIZE) {
            struct redo_record record;
            while (!(err = segment_reader_next(&reader, &record, &diag)))
                ;
            cr_assert_eq(err, ERR_CORRUPT, "bit %zu", bit);
            cr_assert(reader.offset <= at && at < reader.offset + 48, "bit %zu at %d", bit,
                      (int)reader.offset);
        }
        segment_reader_close(&reader);
    }
    buf_fini(&bytes);
    sim_destroy(sim);
}

Test(redo_format, later_flushes_are_found_behind_any_damage_and_body_bytes_are_not_mistaken)
{
    struct sim *sim = disk_with_store(1, 1);
    struct redo *redo = log_create(sim, 0);
    append(redo, 10, "first");
    cr_assert_eq(flush(sim, redo, 10), ERR_NONE);
    struct buf earlier = file_get(sim, "redo/0.1");
    /* A body that holds the bytes of real records. */
    cr_assert_eq(redo_append(redo, 20, earlier.bytes + SEGMENT_HEADER_SIZE,
                             (uint32_t)(earlier.size - SEGMENT_HEADER_SIZE)),
                 ERR_NONE);
    cr_assert_eq(flush(sim, redo, 20), ERR_NONE);
    redo_destroy(redo);
    struct store_info info = info_of(sim);
    struct segment_reader reader;
    struct diag diag;
    cr_assert_eq(segment_reader_open(&reader, sim_env(sim), info.id, 0, 1, &diag), ERR_NONE);
    uint64_t at;
    /* From the first record, flush 1: the first record of flush 2. */
    cr_assert_eq(segment_reader_find_later(&reader, SEGMENT_HEADER_SIZE, 1, &at, &diag), ERR_NONE);
    cr_assert_eq(at, earlier.size);
    /* Nothing later than flush 2, though the body has heads that once were valid elsewhere. */
    cr_assert_eq(segment_reader_find_later(&reader, earlier.size, 2, &at, &diag), ERR_NOT_FOUND);
    cr_assert_eq(segment_reader_find_later(&reader, earlier.size, 0, &at, &diag), ERR_NONE);
    cr_assert_eq(at, reader.window.file_size - REDO_RECORD_SIZE);
    segment_reader_close(&reader);
    buf_fini(&earlier);
    sim_destroy(sim);
}
