/* Checkpoints: what is written while the partition goes on changing is the state at the timestamp,
 * byte for byte checked; publishing is atomic; nothing that fails costs the checkpoint before. */
#include <criterion/criterion.h>

#include "db/ldm/checkpoint_format.h"
#include "tests/unit/db/ldm/durable_engine.h"

static void change(struct engine *engine, uint64_t ts, uint64_t key, uint64_t value,
                   const char *text)
{
    struct change_set *changes;
    cr_assert_eq(change_set_create(engine->ldms[0], &changes), ERR_NONE);
    row_put(partition_fragment(engine->partitions[0], ENGINE_TABLE), changes, key, value, text);
    change_set_commit(changes, ts);
    change_set_destroy(changes);
}

/* A store with one partition and one table, not recovered: checkpoints need no log. */
static struct sim *partition_start(struct engine *engine, uint64_t seed, struct catalog *catalog)
{
    struct sim *sim = disk_with_store(seed, 1);
    engine_init(engine, sim, NULL, catalog, 1, 1);
    return sim;
}

static enum err load(struct engine *engine, uint64_t ts, struct diag *diag)
{
    struct store_info info;
    cr_assert_eq(store_read_info(engine->env, &info, NULL), ERR_NONE);
    return checkpoint_load(engine->env, info.id, engine->partitions[0], ts, NULL, NULL, diag);
}

/* Loads checkpoint 0.ts into a fresh partition and gives its rows as text; or the error. */
static enum err load_text(struct sim *sim, const struct catalog *catalog, uint64_t ts,
                          char text[1024], struct diag *diag)
{
    struct engine engine;
    engine_init(&engine, sim, NULL, catalog, 1, 1);
    enum err err = load(&engine, ts, diag);
    if (!err) engine_text(&engine, text);
    engine_fini(&engine);
    return err;
}

Test(checkpoint, rows_as_of_the_timestamp_come_back_though_they_change_meanwhile)
{
    struct catalog *catalog = catalog_make(2, 1);
    struct engine engine;
    struct sim *sim = partition_start(&engine, 1, catalog);
    /* Some pages, NULLs, long and short texts, holes. */
    enum { ROWS = 9000 };
    static char text[50000];
    memset(text, 'x', sizeof(text) - 1);
    for (uint64_t key = 0; key < ROWS; key++) {
        text[0] = (char)('a' + key % 26);
        size_t size = key % 100 == 0 ? sizeof(text) - 1 : 1 + (size_t)(key * 7919 % 60);
        text[size] = '\0';
        change(&engine, 1 + key, key, key + 1, key % 5 ? text : NULL);
        text[size] = 'x';
    }
    for (uint64_t key = 0; key < ROWS; key += 3)
        change(&engine, 10000 + key, key, 0, NULL);
    uint64_t ts = 20000;
    cr_assert_eq(ldm_pin(engine.ldms[0], ts), ERR_NONE);
    struct checkpoint *checkpoint;
    cr_assert_eq(checkpoint_create(engine.env, engine.partitions[0], ts, 0, &checkpoint), ERR_NONE);
    uint64_t now = ts;
    enum err err;
    while ((err = checkpoint_step(checkpoint)) != ERR_END) {
        cr_assert(err == ERR_NONE || err == ERR_BUSY);
        /* Rows before and behind the place are changed, deleted and added. */
        for (int i = 0; i < 200; i++) {
            now++;
            change(&engine, now, now * 31 % ROWS, now % 4 ? now : 0, "changed");
            now++;
            change(&engine, now, ROWS + now, 5, "new");
        }
        if (err == ERR_BUSY) cr_assert(sim_step(sim));
    }
    cr_assert(checkpoint_is_idle(checkpoint));
    cr_assert(now > ts + 200, "nothing changed meanwhile");
    cr_assert(file_exists(sim, "checkpoint/0.20000.tmp"));
    cr_assert_not(file_exists(sim, "checkpoint/0.20000"));
    err = ERR_BUSY;
    checkpoint_publish(checkpoint, publish_told, &err);
    jobs_run(sim);
    cr_assert_eq(err, ERR_NONE);
    checkpoint_destroy(checkpoint);
    ldm_unpin(engine.ldms[0], ts);
    engine_fini(&engine);
    sim_crash(sim);

    struct engine loaded;
    engine_init(&loaded, sim, NULL, catalog, 1, 1);
    struct diag diag;
    cr_assert_eq(load(&loaded, ts, &diag), ERR_NONE, "%s", diag.text);
    struct fragment *fragment = partition_fragment(loaded.partitions[0], ENGINE_TABLE);
    cr_assert_eq(fragment_verify(fragment, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(fragment_row_count(fragment), ROWS - ROWS / 3);
    for (uint64_t key = 0; key < ROWS; key++) {
        const struct value values[2] = {value_u64(0), value_u64(key)};
        uint32_t row;
        err = fragment_find(fragment, NULL, values, &row);
        cr_assert_eq(err, key % 3 ? ERR_NONE : ERR_NOT_FOUND);
        if (err) continue;
        cr_assert_eq(fragment_value(fragment, row, 2).u, key + 1);
        struct value found = fragment_value(fragment, row, 3);
        size_t size = key % 100 == 0 ? sizeof(text) - 1 : 1 + (size_t)(key * 7919 % 60);
        cr_assert_eq(found.kind, key % 5 ? KIND_STR : KIND_NULL);
        if (key % 5 == 0) continue;
        cr_assert_eq(found.size, size);
        cr_assert_eq(found.bytes[0], 'a' + key % 26);
        cr_assert_eq(found.bytes[size - 1], size == 1 ? 'a' + key % 26 : 'x');
    }
    engine_fini(&loaded);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

Test(checkpoint, memory_is_bounded_by_waiting_for_the_disk)
{
    struct catalog *catalog = catalog_make(2, 1);
    struct engine engine;
    struct sim *sim = partition_start(&engine, 1, catalog);
    static char text[40000];
    memset(text, 'x', sizeof(text) - 1);
    for (uint64_t key = 0; key < 1024; key++)
        change(&engine, 1 + key, key, key + 1, text);
    cr_assert_eq(ldm_pin(engine.ldms[0], 2000), ERR_NONE);
    struct checkpoint *checkpoint;
    cr_assert_eq(checkpoint_create(engine.env, engine.partitions[0], 2000, 0, &checkpoint),
                 ERR_NONE);
    enum err err;
    while (!(err = checkpoint_step(checkpoint)))
        ;
    cr_assert_eq(err, ERR_BUSY);
    cr_assert_eq(checkpoint_step(checkpoint), ERR_BUSY);
    cr_assert_not(checkpoint_is_idle(checkpoint));
    cr_assert_eq(checkpoint_write(sim, checkpoint), ERR_NONE);
    checkpoint_destroy(checkpoint);
    cr_assert_eq(names_with(sim, "checkpoint", ""), 0, "an unpublished file is removed");
    ldm_unpin(engine.ldms[0], 2000);
    engine_fini(&engine);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

Test(checkpoint, publishing_removes_older_ones_of_the_same_partition_only)
{
    struct catalog *catalog = catalog_make(2, 1);
    struct engine engine;
    struct sim *sim = partition_start(&engine, 1, catalog);
    file_put(sim, "checkpoint/1.5", "x", 1);
    change(&engine, 1, 1, 11, "text of 11");
    engine_checkpoint(&engine, 0, 10);
    change(&engine, 11, 2, 22, "text of 22");
    engine_checkpoint(&engine, 0, 20);
    cr_assert_not(file_exists(sim, "checkpoint/0.10"));
    cr_assert(file_exists(sim, "checkpoint/0.20"));
    cr_assert(file_exists(sim, "checkpoint/1.5"));
    char text[1024];
    struct diag diag;
    cr_assert_eq(load_text(sim, catalog, 20, text, &diag), ERR_NONE);
    cr_assert_str_eq(text, "0.1=11 0.2=22 ");
    engine_fini(&engine);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

Test(checkpoint, empty_partition_has_one_too)
{
    struct catalog *none = catalog_make(2, 0), *one = catalog_make(3, 1);
    struct engine engine;
    struct sim *sim = partition_start(&engine, 1, none);
    engine_checkpoint(&engine, 0, 10);
    engine_fini(&engine);
    char text[1024];
    struct diag diag;
    cr_assert_eq(load_text(sim, one, 10, text, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_str_eq(text, "");
    catalog_destroy(none);
    catalog_destroy(one);
    sim_destroy(sim);
}

Test(checkpoint, table_dropped_while_it_is_written_is_left_out_and_skipped_when_loaded)
{
    struct catalog *two = catalog_make(2, 2), *one = catalog_make(3, 1);
    struct engine engine;
    struct sim *sim = partition_start(&engine, 1, two);
    struct change_set *changes;
    cr_assert_eq(change_set_create(engine.ldms[0], &changes), ERR_NONE);
    for (uint32_t i = 0; i < 2; i++)
        for (uint64_t key = 0; key < 3000; key++)
            row_put(partition_fragment(engine.partitions[0], ENGINE_TABLE + i), changes, key, 4,
                    NULL);
    change_set_commit(changes, 1);
    change_set_destroy(changes);
    for (unsigned steps = 0; steps < 6; steps++) {
        cr_assert_eq(partition_set_catalog(engine.partitions[0], two), ERR_NONE);
        cr_assert_eq(ldm_pin(engine.ldms[0], 10 + steps), ERR_NONE);
        struct checkpoint *checkpoint;
        cr_assert_eq(
            checkpoint_create(engine.env, engine.partitions[0], 10 + steps, 0, &checkpoint),
            ERR_NONE);
        for (unsigned i = 0; i < steps; i++)
            cr_assert_neq(checkpoint_step(checkpoint), ERR_END);
        cr_assert_eq(partition_set_catalog(engine.partitions[0], one), ERR_NONE);
        cr_assert_eq(checkpoint_write(sim, checkpoint), ERR_NONE);
        enum err err;
        checkpoint_publish(checkpoint, publish_told, &err);
        jobs_run(sim);
        cr_assert_eq(err, ERR_NONE);
        checkpoint_destroy(checkpoint);
        ldm_unpin(engine.ldms[0], 10 + steps);
        struct engine loaded;
        struct diag diag;
        engine_init(&loaded, sim, NULL, one, 1, 1);
        cr_assert_eq(load(&loaded, 10 + steps, &diag), ERR_NONE, "%s", diag.text);
        cr_assert_eq(fragment_row_count(partition_fragment(loaded.partitions[0], ENGINE_TABLE)),
                     3000);
        engine_fini(&loaded);
    }
    engine_fini(&engine);
    catalog_destroy(two);
    catalog_destroy(one);
    sim_destroy(sim);
}

/* A small checkpoint of two tables, as bytes. */
static struct sim *small_checkpoint(struct catalog *catalog, uint64_t seed)
{
    struct engine engine;
    struct sim *sim = partition_start(&engine, seed, catalog);
    change(&engine, 1, 1, 11, "text of 11");
    change(&engine, 2, 2, 12, NULL);
    change(&engine, 3, 3, 13, "text of 13");
    engine_checkpoint(&engine, 0, 10);
    engine_fini(&engine);
    return sim;
}

Test(checkpoint, every_flipped_bit_and_every_cut_is_detected_with_file_and_offset)
{
    struct catalog *catalog = catalog_make(2, 2);
    struct sim *sim = small_checkpoint(catalog, 1);
    struct buf bytes = file_get(sim, "checkpoint/0.10");
    char text[1024];
    struct diag diag;
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        file_put(sim, "checkpoint/0.10", bytes.bytes, bytes.size);
        bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_CORRUPT, "bit %zu", bit);
        cr_assert(strstr(diag.text, "checkpoint/0.10: offset "), "%s", diag.text);
    }
    for (size_t size = 0; size < bytes.size; size++) {
        file_put(sim, "checkpoint/0.10", bytes.bytes, size);
        cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_CORRUPT, "size %zu", size);
        cr_assert(strstr(diag.text, "checkpoint/0.10: offset "), "%s", diag.text);
    }
    buf_put(&bytes, "12345678", 8);
    file_put(sim, "checkpoint/0.10", bytes.bytes, bytes.size);
    cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_CORRUPT);
    file_put(sim, "checkpoint/0.10", bytes.bytes, bytes.size - 8);
    cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_str_eq(text, "0.1=11 0.2=12 0.3=13 ");
    buf_fini(&bytes);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

Test(checkpoint, file_under_another_name_or_of_another_store_is_refused)
{
    struct catalog *catalog = catalog_make(2, 1);
    struct sim *a = small_checkpoint(catalog, 1), *b = disk_with_store(2, 1);
    struct buf bytes = file_get(a, "checkpoint/0.10");
    char text[1024];
    struct diag diag;
    file_put(a, "checkpoint/0.11", bytes.bytes, bytes.size);
    cr_assert_eq(load_text(a, catalog, 11, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "another name"), "%s", diag.text);
    file_put(b, "checkpoint/0.10", bytes.bytes, bytes.size);
    cr_assert_eq(load_text(b, catalog, 10, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "another store"), "%s", diag.text);
    cr_assert_eq(load_text(b, catalog, 99, text, &diag), ERR_NOT_FOUND);
    buf_fini(&bytes);
    catalog_destroy(catalog);
    sim_destroy(a);
    sim_destroy(b);
}

/* Blocks that are each valid, in another order, doubled or left out: only the chain can tell. */
Test(checkpoint, missing_doubled_and_swapped_blocks_are_detected)
{
    struct sim *sim = disk_with_store(1, 1);
    struct catalog *catalog = catalog_make(2, 1);
    struct store_info info;
    cr_assert_eq(store_read_info(sim_env(sim), &info, NULL), ERR_NONE);
    struct buf file;
    buf_init(&file);
    uint64_t chain;
    checkpoint_header_put(&file, info.id, &(struct checkpoint_header){.ts = 10}, &chain);
    /* Blocks of a table that is not there need no rows. */
    size_t at[4];
    for (unsigned i = 0; i < 3; i++) {
        at[i] = file.size;
        const struct block_head head = {
            .kind = BLOCK_ROWS, .table_id = 9, .row_count = 1, .raw_size = 8, .stored_size = 8};
        block_put(&file, &head, "12345678", file.size, &chain);
    }
    at[3] = file.size;
    const struct block_head end = {.kind = BLOCK_END, .raw_size = 24, .stored_size = 24};
    uint64_t counts[3] = {3, 3, file.size + BLOCK_HEAD_SIZE + BLOCK_END_SIZE};
    block_put(&file, &end, counts, file.size, &chain);
    file_put(sim, "checkpoint/0.10", file.bytes, file.size);
    char text[1024];
    struct diag diag;
    cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_NONE, "%s", diag.text);
    static const unsigned orders[][4] = {{0, 2, 3}, {0, 1, 3}, {1, 0, 2, 3}, {0, 0, 1, 3}, {3}};
    size_t block = at[1] - at[0];
    for (size_t i = 0; i < 5; i++) {
        struct buf wrong;
        buf_init(&wrong);
        buf_put(&wrong, file.bytes, at[0]);
        for (unsigned j = 0; j < 4; j++) {
            unsigned from = orders[i][j];
            buf_put(&wrong, file.bytes + at[from], from == 3 ? file.size - at[3] : block);
            if (from == 3) break;
        }
        file_put(sim, "checkpoint/0.10", wrong.bytes, wrong.size);
        cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_CORRUPT, "order %zu", i);
        buf_fini(&wrong);
    }
    buf_fini(&file);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

/* A file whose checksums are right and whose content is not what we write. */
Test(checkpoint, malformed_blocks_with_good_checksums_are_refused)
{
    struct sim *sim = disk_with_store(1, 1);
    struct catalog *catalog = catalog_make(2, 1);
    struct store_info info;
    cr_assert_eq(store_read_info(sim_env(sim), &info, NULL), ERR_NONE);
    static const struct block_head heads[] = {
        {.kind = 3, .table_id = ENGINE_TABLE, .raw_size = 8, .stored_size = 8},
        {.kind = BLOCK_ROWS, .codec = 2, .table_id = ENGINE_TABLE, .raw_size = 8, .stored_size = 8},
        {.kind = BLOCK_ROWS, .table_id = ENGINE_TABLE, .raw_size = 9, .stored_size = 8},
        {.kind = BLOCK_ROWS, .table_id = ENGINE_TABLE, .raw_size = 8, .stored_size = 8},
        {.kind = BLOCK_ROWS,
         .codec = 1,
         .table_id = ENGINE_TABLE,
         .raw_size = 100,
         .stored_size = 8},
        {.kind = BLOCK_ROWS,
         .codec = 1,
         .table_id = ENGINE_TABLE,
         .raw_size = 0x7fffffff,
         .stored_size = 8},
        {.kind = BLOCK_END, .raw_size = 8, .stored_size = 8},
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct buf file;
        buf_init(&file);
        uint64_t chain;
        checkpoint_header_put(&file, info.id, &(struct checkpoint_header){.ts = 10}, &chain);
        block_put(&file, &heads[i], "\xff\xff\xff\xff\xff\xff\xff\xff", file.size, &chain);
        file_put(sim, "checkpoint/0.10", file.bytes, file.size);
        buf_fini(&file);
        char text[1024];
        struct diag diag;
        cr_assert_eq(load_text(sim, catalog, 10, text, &diag), ERR_CORRUPT, "head %zu", i);
        cr_assert(strstr(diag.text, "checkpoint/0.10: offset 72"), "%s", diag.text);
    }
    catalog_destroy(catalog);
    sim_destroy(sim);
}

/* Every file call of a second checkpoint fails in turn: the first stays good. */
Test(checkpoint, every_failed_file_call_is_reported_and_costs_no_earlier_checkpoint)
{
    struct catalog *catalog = catalog_make(2, 1);
    static const enum err errs[] = {ERR_IO, ERR_NO_SPACE};
    for (size_t i = 0; i < 2; i++) {
        bool fired = true;
        for (uint64_t k = 1; fired; k++) {
            struct engine engine;
            struct sim *sim = partition_start(&engine, k, catalog);
            change(&engine, 1, 1, 11, "text of 11");
            engine_checkpoint(&engine, 0, 10);
            change(&engine, 11, 2, 22, "text of 22");
            sim_fault_arm(sim, k, errs[i]);
            enum err err = engine_try_checkpoint(&engine, 0, 20);
            fired = sim_fault_fired(sim);
            sim_fault_arm(sim, 0, ERR_NONE);
            bool has_old = file_exists(sim, "checkpoint/0.10");
            bool has_new = file_exists(sim, "checkpoint/0.20");
            cr_assert(has_old || has_new);
            if (!err) cr_assert(has_new);
            if (!fired) cr_assert(!err && !has_old);
            engine_fini(&engine);
            sim_crash(sim);
            char text[1024];
            struct diag diag;
            has_new = file_exists(sim, "checkpoint/0.20");
            if (!err) cr_assert(has_new);
            enum err load_err = load_text(sim, catalog, has_new ? 20 : 10, text, &diag);
            cr_assert_eq(load_err, ERR_NONE, "fault %d: %s", (int)k, diag.text);
            cr_assert_str_eq(text, has_new ? "0.1=11 0.2=22 " : "0.1=11 ");
            sim_destroy(sim);
        }
    }
    catalog_destroy(catalog);
}

/* The power goes at every file call of a second checkpoint. */
Test(checkpoint, power_cut_at_any_file_call_leaves_a_whole_checkpoint)
{
    struct catalog *catalog = catalog_make(2, 1);
    bool halted = true;
    for (uint64_t k = 1; halted; k++) {
        for (uint64_t seed = 1; seed <= 10; seed++) {
            struct engine engine;
            struct sim *sim = partition_start(&engine, seed, catalog);
            change(&engine, 1, 1, 11, "text of 11");
            engine_checkpoint(&engine, 0, 10);
            change(&engine, 11, 2, 22, "text of 22");
            sim_halt_arm(sim, k);
            enum err err = engine_try_checkpoint(&engine, 0, 20);
            halted = sim_halted(sim);
            sim_crash(sim);
            sim_halt_arm(sim, 0);
            engine_fini(&engine);
            bool has_new = file_exists(sim, "checkpoint/0.20");
            if (!err) cr_assert(has_new);
            char text[1024];
            struct diag diag;
            cr_assert_eq(load_text(sim, catalog, has_new ? 20 : 10, text, &diag), ERR_NONE,
                         "halt %d: %s", (int)k, diag.text);
            cr_assert_str_eq(text, has_new ? "0.1=11 0.2=22 " : "0.1=11 ");
            sim_destroy(sim);
        }
    }
    catalog_destroy(catalog);
}
