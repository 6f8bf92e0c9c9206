/* redo/history: what it holds comes back, damage is named, that of the former version is read; and
 * what recovery writes down of the starts of a store. */
#include <criterion/criterion.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"
#include "tests/unit/db/ldm/durable_engine.h"

Test(redo_history, comes_back_as_written_and_every_flipped_bit_is_detected)
{
    struct sim *sim = disk_with_store(1, 1);
    struct store_info info = info_of(sim);
    struct history history = {.next_segment = 30, .clock = 1000, .cut = 950, .floor = 5};
    /* Added in another order than that of replay. */
    static const struct history_segment segments[] = {
        {.life = 20, .number = 20, .size = 700, .ts_max = 900, .cut = 950, .worker = 0},
        {.life = 1, .number = 2, .size = 600, .ts_max = 50, .cut = 60, .worker = 1},
        {.life = 1, .number = 1, .size = 600, .ts_max = 40, .cut = 60, .worker = 1},
        {.life = 1, .number = 3, .size = 600, .ts_max = 40, .cut = 60, .worker = 0},
    };
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(history_add(&history, &segments[i]), ERR_NONE);
    static const struct store_start starts[] = {{7, 0}, {UINT64_MAX, 60}, {9, 60}, {8, 950}};
    for (size_t i = 0; i < 4; i++)
        history_add_start(&history, &starts[i]);
    cr_assert_eq(history_write(sim_env(sim), &info, &history, NULL), ERR_NONE);
    history_fini(&history);
    struct diag diag;
    cr_assert_eq(history_read(sim_env(sim), &info, &history, &diag), ERR_NONE, "%s", diag.text);
    cr_assert(history.next_segment == 30 && history.clock == 1000 && history.cut == 950 &&
              history.floor == 5);
    cr_assert_eq(history.segment_count, 4);
    static const uint64_t numbers[] = {3, 1, 2, 20};
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(history.segments[i].number, numbers[i]);
    cr_assert_eq(history_find(&history, 1, 2)->ts_max, 50);
    cr_assert_null(history_find(&history, 2, 2));
    cr_assert_eq(history.start_count, 4);
    cr_assert_eq(memcmp(history.starts, starts, sizeof(starts)), 0);
    history_fini(&history);

    struct buf bytes = file_get(sim, "redo/history");
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        file_put(sim, "redo/history", bytes.bytes, bytes.size);
        bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_eq(history_read(sim_env(sim), &info, &history, &diag), ERR_CORRUPT);
        cr_assert(strstr(diag.text, "redo/history: offset "), "%s", diag.text);
    }
    for (size_t size = 0; size < bytes.size; size++) {
        file_put(sim, "redo/history", bytes.bytes, size);
        cr_assert_eq(history_read(sim_env(sim), &info, &history, &diag), ERR_CORRUPT);
    }
    buf_fini(&bytes);
    sim_destroy(sim);
}

/* ---- the list of starts ---- */

/* Makes the checksums of a frame those of its content (store_format.c). */
static void frame_seal(uint8_t *frame)
{
    uint64_t seed, sum;
    uint32_t size;
    memcpy(&seed, frame, sizeof(seed));
    memcpy(&size, frame + 12, sizeof(size));
    sum = hash_checksum(frame + STORE_FRAME_SIZE, size, seed);
    memcpy(frame + 32, &sum, sizeof(sum));
    sum = hash_checksum(frame, 40, seed);
    memcpy(frame + 40, &sum, sizeof(sum));
}

Test(redo_history, the_oldest_starts_are_forgotten)
{
    struct sim *sim = disk_with_store(1, 1);
    struct store_info info = info_of(sim);
    struct history history = {.next_segment = 1, .clock = 1000, .cut = 300};
    for (uint64_t i = 1; i <= 300; i++)
        history_add_start(&history, &(struct store_start){.id = i, .cut = i});
    cr_assert_eq(history_write(sim_env(sim), &info, &history, NULL), ERR_NONE);
    memset(&history, 0, sizeof(history));
    cr_assert_eq(history_read(sim_env(sim), &info, &history, NULL), ERR_NONE);
    cr_assert_eq(history.start_count, STORE_STARTS_MAX);
    for (uint64_t i = 0; i < STORE_STARTS_MAX; i++)
        cr_assert_eq(history.starts[i].id, 300 - STORE_STARTS_MAX + 1 + i);
    history_fini(&history);
    sim_destroy(sim);
}

Test(redo_history, starts_that_cannot_be_are_refused)
{
    static const struct store_start bad[][2] = {
        {{1, 9}, {0, 20}},  /* no id */
        {{0, 9}, {2, 20}},  /* no id */
        {{1, 21}, {2, 20}}, /* falling */
        {{1, 9}, {2, 19}},  /* the last cut is another one */
        {{1, 9}, {2, 21}},
    };
    struct sim *sim = disk_with_store(1, 1);
    struct store_info info = info_of(sim);
    struct history history = {.next_segment = 1, .clock = 100, .cut = 20};
    history_add_start(&history, &(struct store_start){.id = 1, .cut = 9});
    history_add_start(&history, &(struct store_start){.id = 2, .cut = 20});
    cr_assert_eq(history_write(sim_env(sim), &info, &history, NULL), ERR_NONE);
    struct buf bytes = file_get(sim, "redo/history");
    uint8_t *starts = bytes.bytes + bytes.size - sizeof(bad[0]);
    struct diag diag;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        memcpy(starts, bad[i], sizeof(bad[i]));
        frame_seal(bytes.bytes);
        file_put(sim, "redo/history", bytes.bytes, bytes.size);
        cr_assert_eq(history_read(sim_env(sim), &info, &history, &diag), ERR_CORRUPT, "%zu", i);
        cr_assert(strstr(diag.text, "redo/history: offset "), "%s", diag.text);
    }
    /* More of them than there may be. */
    buf_fini(&bytes);
    buf_init(&bytes);
    struct buf body;
    buf_init(&body);
    for (int i = 0; i < 4; i++)
        buf_put_u64(&body, i ? 0 : 1);
    buf_put_u32(&body, 0);
    buf_put_u32(&body, STORE_STARTS_MAX + 1);
    for (uint64_t i = 0; i <= STORE_STARTS_MAX; i++) {
        buf_put_u64(&body, i + 1);
        buf_put_u64(&body, 0);
    }
    store_frame_put(&bytes, STORE_HISTORY, info.id, body.bytes, body.size);
    file_put(sim, "redo/history", bytes.bytes, bytes.size);
    cr_assert_eq(history_read(sim_env(sim), &info, &history, &diag), ERR_CORRUPT);
    buf_fini(&body);
    buf_fini(&bytes);
    sim_destroy(sim);
}

static struct catalog *catalog;

static void catalog_setup(void)
{
    catalog = catalog_make(2, 1);
}
static void catalog_teardown(void)
{
    catalog_destroy(catalog);
}

TestSuite(starts, .init = catalog_setup, .fini = catalog_teardown);

static const struct store_start *last_start(const struct engine *engine)
{
    cr_assert_gt(engine->result.start_count, 0);
    return &engine->result.starts[engine->result.start_count - 1];
}

Test(starts, each_start_that_was_used_is_listed_with_its_cut)
{
    struct sim *sim = disk_with_store(1, 2);
    struct engine engine;
    engine_start(&engine, sim, catalog, 2, 2);
    cr_assert_eq(engine.result.start_count, 1);
    const struct store_start first = *last_start(&engine);
    cr_assert(first.id && !first.cut);
    put(&engine, 10, 0, 1, 11);
    engine_flush(&engine, 15);
    put(&engine, 20, 0, 2, 12);
    engine_crash(&engine);

    engine_start(&engine, sim, catalog, 2, 1);
    cr_assert_eq(engine.result.start_count, 2);
    const struct store_start second = *last_start(&engine);
    cr_assert_eq(second.cut, 15, "what was done at 20 is lost");
    cr_assert_neq(second.id, first.id);
    put(&engine, 30, 1, 1, 13);
    engine_close(&engine);

    engine_start(&engine, sim, catalog, 2, 2);
    cr_assert_eq(engine.result.start_count, 3);
    cr_assert_eq(memcmp(&engine.result.starts[0], &first, sizeof(first)), 0);
    cr_assert_eq(memcmp(&engine.result.starts[1], &second, sizeof(second)), 0);
    cr_assert_geq(last_start(&engine)->cut, 30, "a clean end loses nothing");
    /* It ends before any log is flushed: nothing that it did counts. */
    uint64_t clock = engine.result.clock;
    engine_crash(&engine);
    engine_start(&engine, sim, catalog, 2, 2);
    cr_assert_eq(engine.result.start_count, 4);
    cr_assert_eq(last_start(&engine)->cut, clock);
    engine_crash(&engine);
    sim_destroy(sim);
}

Test(starts, a_start_that_made_no_logs_gives_its_place_to_the_next)
{
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    struct store_start starts[2];
    for (int life = 0; life < 2; life++) {
        for (int i = 0; i < 3; i++) {
            engine_init(&engine, sim, NULL, catalog, 1, 1);
            cr_assert_eq(engine_recover(&engine, 1), ERR_NONE, "%s", engine.diag.text);
            cr_assert_eq(engine.result.start_count, life + 1);
            if (i) cr_assert_eq(memcmp(last_start(&engine), &starts[life], sizeof(starts[0])), 0);
            starts[life] = *last_start(&engine);
            engine_crash(&engine);
        }
        engine_start(&engine, sim, catalog, 1, 1);
        put(&engine, 10, 0, 1, 11);
        engine_close(&engine);
    }
    cr_assert_neq(starts[0].id, starts[1].id);
    sim_destroy(sim);
}

Test(starts, more_than_are_kept_push_the_first_out)
{
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    uint64_t second = 0;
    for (unsigned i = 1; i <= STORE_STARTS_MAX + 1; i++) {
        engine_start(&engine, sim, catalog, 1, 1);
        cr_assert_eq(engine.result.start_count, i < STORE_STARTS_MAX ? i : STORE_STARTS_MAX);
        if (i == 2) second = last_start(&engine)->id;
        for (unsigned j = 0; j < engine.result.start_count; j++)
            for (unsigned k = 0; k < j; k++)
                cr_assert_neq(engine.result.starts[j].id, engine.result.starts[k].id);
        put(&engine, 10 * i, 0, 1, i);
        engine_close(&engine);
    }
    cr_assert_eq(engine.result.starts[0].id, second);
    sim_destroy(sim);
}

/* ---- a store of the former version ---- */

static void frame_age(struct buf *bytes, size_t at)
{
    static const uint8_t nothing[STORE_FRAME_SIZE];
    if (at + STORE_FRAME_SIZE > bytes->size) return;
    uint8_t *frame = bytes->bytes + at;
    if (!memcmp(frame, nothing, sizeof(nothing))) return; /* no end slot was written */
    const uint32_t version = 1;
    memcpy(frame + 8, &version, sizeof(version));
    frame_seal(frame);
}

/* Of a history: what version 1 knew, that is no starts. */
static void history_age(struct buf *bytes)
{
    uint32_t count, none = 0, size;
    memcpy(&count, bytes->bytes + STORE_FRAME_SIZE + 36, sizeof(count));
    memcpy(bytes->bytes + STORE_FRAME_SIZE + 36, &none, sizeof(none));
    bytes->size -= count * sizeof(struct store_start);
    size = (uint32_t)(bytes->size - STORE_FRAME_SIZE);
    memcpy(bytes->bytes + 12, &size, sizeof(size));
}

static void store_age(struct sim *sim, const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf bytes = file_get(sim, paths[i]);
        if (!strcmp(paths[i], "redo/history")) history_age(&bytes);
        frame_age(&bytes, 0);
        if (!strncmp(paths[i], "redo/0.", 7)) frame_age(&bytes, SEGMENT_END_AT);
        file_put(sim, paths[i], bytes.bytes, bytes.size);
        buf_fini(&bytes);
    }
}

Test(starts, a_store_of_version_1_opens_and_begins_its_list)
{
    static const char *const paths[] = {"trellis", "catalog", "redo/history", "redo/0.1",
                                        "redo/0.2"};
    for (int closed = 0; closed < 2; closed++) {
        struct sim *sim = disk_with_store(1, 1);
        struct engine engine;
        engine_start(&engine, sim, catalog, 1, 1);
        put(&engine, 10, 0, 1, 11);
        engine_close(&engine);
        engine_start(&engine, sim, catalog, 1, 1);
        put(&engine, 20, 0, 2, 12);
        engine_flush(&engine, 25);
        put(&engine, 30, 0, 3, 13);
        if (closed)
            engine_close(&engine);
        else
            engine_crash(&engine);
        store_age(sim, paths, ARRAY_SIZE(paths));

        struct store_info info;
        struct catalog *found;
        struct diag diag;
        cr_assert_eq(store_open(sim_env(sim), &info, &found, &diag), ERR_NONE, "%s", diag.text);
        catalog_destroy(found);
        char text[1024];
        for (unsigned starts = 1; starts <= 2; starts++) {
            engine_start(&engine, sim, catalog, 1, 1);
            engine_text(&engine, text);
            cr_assert_str_eq(text, closed ? "0.1=11 0.2=12 0.3=13 " : "0.1=11 0.2=12 ");
            cr_assert_eq(engine.result.start_count, starts);
            cr_assert_eq(engine.result.starts[0].cut, closed ? 30 : 25);
            engine_crash(&engine);
        }
        sim_destroy(sim);
    }
}

Test(starts, a_store_of_version_1_that_was_recovered_and_not_used_begins_its_list)
{
    static const char *const paths[] = {"redo/history"};
    struct sim *sim = disk_with_store(1, 1);
    struct engine engine;
    engine_start(&engine, sim, catalog, 1, 1);
    put(&engine, 10, 0, 1, 11);
    engine_flush(&engine, 15);
    engine_crash(&engine);
    engine_init(&engine, sim, NULL, catalog, 1, 1);
    cr_assert_eq(engine_recover(&engine, 1), ERR_NONE);
    engine_crash(&engine);
    store_age(sim, paths, 1);
    struct store_start start = {0};
    for (int i = 0; i < 2; i++) {
        engine_init(&engine, sim, NULL, catalog, 1, 1);
        cr_assert_eq(engine_recover(&engine, 1), ERR_NONE, "%s", engine.diag.text);
        cr_assert_eq(engine.result.start_count, 1);
        cr_assert_eq(last_start(&engine)->cut, 15);
        if (i) cr_assert_eq(last_start(&engine)->id, start.id, "it was written down");
        start = *last_start(&engine);
        engine_crash(&engine);
    }
    sim_destroy(sim);
}
