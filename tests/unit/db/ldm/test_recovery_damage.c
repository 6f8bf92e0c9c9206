/* Damage: every bit of every file of a store flipped, every file cut at every length, and every
 * file lost, one at a time. Each must be refused with the file's name, or recovery must give a
 * state that is allowed: the same rows, or, in a log that was not closed, those before its last
 * flush. A refusal changes nothing. */
#include <criterion/criterion.h>

#include "db/ldm/redo_format.h"
#include "db/ldm/redo_history.h"
#include "tests/unit/db/ldm/durable_engine.h"

enum { STATES_MAX = 12, FILES_MAX = 24 };

/* A store that is put back to how it was before every trial. */
struct specimen {
    struct sim *sim;
    struct catalog *catalog;
    uint16_t partition_count;
    /* What recovery may give: the first without damage, the others with a lost tail. */
    char states[STATES_MAX][1024];
    unsigned state_count;
    unsigned file_count;
    struct {
        char path[STORE_PATH_SIZE];
        struct buf bytes;
    } files[FILES_MAX];
};

struct listing {
    struct specimen *specimen;
    const char *dir;
};

static enum err file_listed(void *context, const char *name)
{
    struct listing *listing = context;
    struct specimen *specimen = listing->specimen;
    if (!strcmp(name, "redo") || !strcmp(name, "checkpoint")) return ERR_NONE;
    cr_assert_lt(specimen->file_count, FILES_MAX);
    unsigned i = specimen->file_count++;
    snprintf(specimen->files[i].path, STORE_PATH_SIZE, "%s%s", listing->dir, name);
    return ERR_NONE;
}

static void specimen_list(struct specimen *specimen)
{
    static const char *const dirs[][2] = {
        {".", ""}, {"redo", "redo/"}, {"checkpoint", "checkpoint/"}};
    for (size_t i = 0; i < 3; i++) {
        struct listing listing = {.specimen = specimen, .dir = dirs[i][1]};
        struct env *env = sim_env(specimen->sim);
        cr_assert_eq(env->ops->dir_list(env, dirs[i][0], file_listed, &listing), ERR_NONE);
    }
}

static void specimen_keep(struct specimen *specimen)
{
    specimen->file_count = 0;
    specimen_list(specimen);
    for (unsigned i = 0; i < specimen->file_count; i++)
        specimen->files[i].bytes = file_get(specimen->sim, specimen->files[i].path);
}

/* Removes what a recovery made, and puts every file back. */
static void specimen_restore(struct specimen *specimen)
{
    struct specimen now = {.sim = specimen->sim};
    specimen_list(&now);
    struct env *env = sim_env(specimen->sim);
    for (unsigned i = 0; i < now.file_count; i++)
        cr_assert_eq(env->ops->remove(env, now.files[i].path), ERR_NONE);
    for (unsigned i = 0; i < specimen->file_count; i++)
        file_put(specimen->sim, specimen->files[i].path, specimen->files[i].bytes.bytes,
                 specimen->files[i].bytes.size);
}

static bool specimen_is_unchanged(struct specimen *specimen, const char *except)
{
    struct specimen now = {.sim = specimen->sim};
    specimen_list(&now);
    for (unsigned i = 0; i < specimen->file_count; i++) {
        const char *path = specimen->files[i].path;
        if (!strcmp(path, except)) continue;
        if (!file_exists(specimen->sim, path)) return false;
        struct buf bytes = file_get(specimen->sim, path);
        bool same =
            bytes.size == specimen->files[i].bytes.size &&
            (!bytes.size || !memcmp(bytes.bytes, specimen->files[i].bytes.bytes, bytes.size));
        buf_fini(&bytes);
        if (!same) return false;
    }
    return now.file_count <= specimen->file_count;
}

static void specimen_fini(struct specimen *specimen)
{
    for (unsigned i = 0; i < specimen->file_count; i++)
        buf_fini(&specimen->files[i].bytes);
    catalog_destroy(specimen->catalog);
    sim_destroy(specimen->sim);
}

/* Opens and recovers. */
static enum err try_recovery(struct specimen *specimen, char text[1024], struct diag *diag)
{
    struct engine engine;
    struct store_info info;
    struct catalog *catalog;
    enum err err = store_open(sim_env(specimen->sim), &info, &catalog, diag);
    if (err) return err;
    engine_init(&engine, specimen->sim, NULL, specimen->catalog, specimen->partition_count, 1);
    err = engine_recover(&engine, 1);
    *diag = engine.diag;
    if (!err) engine_text(&engine, text);
    engine_fini(&engine);
    catalog_destroy(catalog);
    return err;
}

struct tally {
    unsigned refused;
    unsigned same;
    unsigned shorter;
};

/* One trial after the damage was done to files[index]; puts the store back. */
static void trial(struct specimen *specimen, unsigned index, const char *what, size_t where,
                  struct tally *tally)
{
    const char *path = specimen->files[index].path;
    const struct buf *bytes = &specimen->files[index].bytes;
    char text[1024];
    struct diag diag = {.text = ""};
    enum err err = try_recovery(specimen, text, &diag);
    if (err) {
        cr_assert(err == ERR_CORRUPT || err == ERR_VERSION || err == ERR_INVALID,
                  "%s %s %zu: %s: %s", path, what, where, err_name(err), diag.text);
        cr_assert(strstr(diag.text, path), "%s %s %zu: %s", path, what, where, diag.text);
        if (err == ERR_CORRUPT)
            cr_assert(strstr(diag.text, "offset ") || strstr(diag.text, "missing"), "%s",
                      diag.text);
        /* Reading everything back is what takes the time of this test. */
        if (tally->refused++ % 16 == 0)
            cr_assert(specimen_is_unchanged(specimen, path), "%s %s %zu", path, what, where);
        file_put(specimen->sim, path, bytes->bytes, bytes->size);
        return;
    }
    unsigned state = 0;
    while (state < specimen->state_count && strcmp(text, specimen->states[state]))
        state++;
    cr_assert_lt(state, specimen->state_count, "%s %s %zu gave: %s", path, what, where, text);
    if (state)
        tally->shorter++;
    else
        tally->same++;
    specimen_restore(specimen);
}

static struct tally flip_all(struct specimen *specimen, const char *only)
{
    struct tally tally = {0};
    for (unsigned i = 0; i < specimen->file_count; i++) {
        const char *path = specimen->files[i].path;
        if (only && strncmp(path, only, strlen(only))) continue;
        struct buf *bytes = &specimen->files[i].bytes;
        for (size_t at = 0; at < bytes->size; at++) {
            uint8_t bit = (uint8_t)(1u << (at * 5 + at / 8) % 8);
            bytes->bytes[at] ^= bit;
            file_put(specimen->sim, path, bytes->bytes, bytes->size);
            bytes->bytes[at] ^= bit;
            trial(specimen, i, "byte", at, &tally);
        }
    }
    return tally;
}

static struct tally cut_all(struct specimen *specimen, const char *only)
{
    struct tally tally = {0};
    for (unsigned i = 0; i < specimen->file_count; i++) {
        const char *path = specimen->files[i].path;
        if (only && strncmp(path, only, strlen(only))) continue;
        for (size_t size = 0; size < specimen->files[i].bytes.size; size++) {
            file_put(specimen->sim, path, specimen->files[i].bytes.bytes, size);
            trial(specimen, i, "cut to", size, &tally);
        }
    }
    return tally;
}

static struct tally lose_all(struct specimen *specimen)
{
    struct tally tally = {0};
    struct env *env = sim_env(specimen->sim);
    for (unsigned i = 0; i < specimen->file_count; i++) {
        const char *path = specimen->files[i].path;
        cr_assert_eq(env->ops->remove(env, path), ERR_NONE);
        trial(specimen, i, "lost", 0, &tally);
    }
    return tally;
}

/* Two partitions and two logs; an earlier life with a dropped tail; a checkpoint of partition 0;
 * several segments. */
static void specimen_make(struct specimen *specimen, struct engine *engine)
{
    *specimen = (struct specimen){
        .sim = disk_with_store(5, 2), .catalog = catalog_make(2, 1), .partition_count = 2};
    struct diag diag;
    cr_assert_eq(store_write_catalog(sim_env(specimen->sim), specimen->catalog, &diag), ERR_NONE);
    engine_start(engine, specimen->sim, specimen->catalog, 2, 2);
    engine_put(engine, 10, (const struct put[]){{0, 1, 11}, {1, 1, 12}}, 2);
    engine_flush(engine, 12);
    put(engine, 20, 1, 2, 99);
    engine_flush_one(engine, 1, 20);
    engine_crash(engine);
    engine_start(engine, specimen->sim, specimen->catalog, 2, 2);
    uint64_t ts = engine->result.clock;
    put(engine, ts + 1, 0, 2, 21);
    engine_flush(engine, ts + 1);
    engine_checkpoint(engine, 0, ts + 1);
    /* Segments end at 1000 bytes: some of these start new ones. */
    for (uint64_t i = 2; i <= 7; i++) {
        engine_put(engine, ts + i, (const struct put[]){{0, i, 30 + i}, {1, i, 40 + i}}, 2);
        engine_flush(engine, ts + i);
    }
}

static void state_note(struct specimen *specimen, struct engine *engine)
{
    engine_text(engine, specimen->states[specimen->state_count++]);
}

/* Crashed after one more flush, of which either log may lose its part. */
static void unclosed_make(struct specimen *specimen)
{
    struct engine engine;
    specimen_make(specimen, &engine);
    uint64_t ts = engine.result.clock;
    specimen->state_count = 1;
    state_note(specimen, &engine);
    engine_put(&engine, ts + 20, (const struct put[]){{0, 9, 90}, {1, 9, 91}}, 2);
    engine_flush(&engine, ts + 20);
    engine_text(&engine, specimen->states[0]);
    engine_crash(&engine);
    specimen_keep(specimen);
}

/* Crashed after a number of flushes in one segment, all of which a cut may cost. */
static void flushes_make(struct specimen *specimen)
{
    *specimen = (struct specimen){
        .sim = disk_with_store(5, 2), .catalog = catalog_make(2, 1), .partition_count = 2};
    struct diag diag;
    cr_assert_eq(store_write_catalog(sim_env(specimen->sim), specimen->catalog, &diag), ERR_NONE);
    struct engine engine;
    engine_start(&engine, specimen->sim, specimen->catalog, 2, 1);
    specimen->state_count = 1;
    state_note(specimen, &engine);
    for (uint64_t ts = 1; ts <= 3; ts++) {
        engine_put(&engine, ts, (const struct put[]){{0, ts, ts}, {1, 1, ts}}, 2);
        engine_flush(&engine, ts);
        state_note(specimen, &engine);
    }
    specimen->state_count--;
    memcpy(specimen->states[0], specimen->states[specimen->state_count], 1024);
    engine_crash(&engine);
    specimen_keep(specimen);
}

static void closed_make(struct specimen *specimen)
{
    struct engine engine;
    specimen_make(specimen, &engine);
    put(&engine, engine.result.clock + 20, 1, 9, 91);
    state_note(specimen, &engine);
    engine_close(&engine);
    sim_crash(specimen->sim);
    specimen_keep(specimen);
}

Test(recovery_damage, flipped_bits_of_an_unclosed_store_cost_at_most_the_last_flush)
{
    struct specimen specimen;
    unclosed_make(&specimen);
    struct tally tally = flip_all(&specimen, NULL);
    cr_assert_gt(tally.refused, 2000);
    /* The last flush of either log: a transaction and a horizon. */
    cr_assert_gt(tally.shorter, 100);
    cr_assert_lt(tally.shorter, 500);
    specimen_fini(&specimen);
}

Test(recovery_damage, flipped_bits_of_a_closed_store_cost_nothing)
{
    struct specimen specimen;
    closed_make(&specimen);
    struct tally tally = flip_all(&specimen, NULL);
    cr_assert_gt(tally.refused, 2000);
    cr_assert_eq(tally.shorter, 0);
    /* One of the two copies of the end slot, in each of two logs; and end slots never written. */
    cr_assert_gt(tally.same, 0);
    specimen_fini(&specimen);
}

Test(recovery_damage, cut_files_of_an_unclosed_store_are_refused_or_end_with_a_flush)
{
    static const char *const whole[] = {"checkpoint/", "catalog", "trellis", "redo/history"};
    struct specimen specimen;
    unclosed_make(&specimen);
    for (size_t i = 0; i < 4; i++) {
        struct tally tally = cut_all(&specimen, whole[i]);
        cr_assert(tally.refused && !tally.same && !tally.shorter);
    }
    specimen_fini(&specimen);

    flushes_make(&specimen);
    struct tally tally = cut_all(&specimen, "redo/0.");
    /* Within its header the segment is known to have been more than that. */
    cr_assert_eq(tally.refused, SEGMENT_HEADER_SIZE);
    cr_assert_eq(tally.same, 0);
    cr_assert_gt(tally.shorter, 300);
    specimen_fini(&specimen);
}

Test(recovery_damage, cut_files_of_a_closed_store_are_refused)
{
    struct specimen specimen;
    closed_make(&specimen);
    struct tally tally = cut_all(&specimen, NULL);
    cr_assert_gt(tally.refused, 2000);
    cr_assert_eq(tally.shorter, 0);
    cr_assert_eq(tally.same, 0);
    specimen_fini(&specimen);
}

Test(recovery_damage, lost_files_are_named)
{
    struct specimen specimen;
    for (int closed = 0; closed < 2; closed++) {
        if (closed)
            closed_make(&specimen);
        else
            unclosed_make(&specimen);
        struct tally tally = lose_all(&specimen);
        /* The log still reaches back to before the checkpoint; redo/life.2.N only guards others. */
        cr_assert_eq(tally.same, 2);
        cr_assert_eq(tally.shorter, 0);
        cr_assert_eq(tally.refused, specimen.file_count - 2);
        specimen_fini(&specimen);
    }
}

/* ---- single cases ---- */

struct scene {
    struct sim *sim;
    struct catalog *catalog;
    struct engine engine;
};

static void scene_start(struct scene *scene, uint16_t partitions, uint16_t workers)
{
    scene->sim = disk_with_store(1, partitions);
    scene->catalog = catalog_make(2, 1);
    engine_start(&scene->engine, scene->sim, scene->catalog, partitions, workers);
}

static enum err scene_recover(struct scene *scene, uint16_t partitions, char text[1024],
                              struct diag *diag)
{
    struct engine engine;
    engine_init(&engine, scene->sim, NULL, scene->catalog, partitions, 1);
    enum err err = engine_recover(&engine, 1);
    *diag = engine.diag;
    if (!err) engine_text(&engine, text);
    engine_fini(&engine);
    return err;
}

static void scene_end(struct scene *scene)
{
    catalog_destroy(scene->catalog);
    sim_destroy(scene->sim);
}

Test(recovery_damage, older_checkpoint_is_not_used_behind_anybodys_back)
{
    struct scene scene;
    scene_start(&scene, 1, 1);
    put(&scene.engine, 1, 0, 1, 1);
    engine_flush(&scene.engine, 1);
    engine_checkpoint(&scene.engine, 0, 1);
    struct buf old = file_get(scene.sim, "checkpoint/0.1");
    put(&scene.engine, 2, 0, 2, 2);
    engine_flush(&scene.engine, 2);
    engine_checkpoint(&scene.engine, 0, 2);
    engine_crash(&scene.engine);
    file_put(scene.sim, "checkpoint/0.1", old.bytes, old.size);
    buf_fini(&old);
    struct buf bytes = file_get(scene.sim, "checkpoint/0.2");
    bytes.bytes[100] ^= 1;
    file_put(scene.sim, "checkpoint/0.2", bytes.bytes, bytes.size);
    buf_fini(&bytes);
    char text[1024];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "checkpoint/0.2: offset "), "%s", diag.text);
    /* A person removes it: the log reaches back to the older one. */
    cr_assert_eq(scene.engine.env->ops->remove(scene.engine.env, "checkpoint/0.2"), ERR_NONE);
    cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_str_eq(text, "0.1=1 0.2=2 ");
    scene_end(&scene);
}

Test(recovery_damage, older_checkpoint_does_not_do_when_the_log_was_trimmed)
{
    for (int settled = 0; settled < 2; settled++) {
        struct scene scene;
        scene_start(&scene, 1, 1);
        put(&scene.engine, 1, 0, 1, 1);
        engine_flush(&scene.engine, 1);
        engine_checkpoint(&scene.engine, 0, 1);
        struct buf old = file_get(scene.sim, "checkpoint/0.1");
        for (uint64_t ts = 2; ts < 12; ts++) {
            put(&scene.engine, ts, 0, ts % 10, ts);
            engine_flush(&scene.engine, ts);
        }
        engine_checkpoint(&scene.engine, 0, 11);
        redo_trim(scene.engine.redos[0], 11);
        jobs_run(scene.sim);
        engine_crash(&scene.engine);
        char text[1024];
        struct diag diag;
        /* In the life after, the history's floor says it; before, the header of the segment that is
         * left. */
        if (settled) cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_NONE);
        file_put(scene.sim, "checkpoint/0.1", old.bytes, old.size);
        buf_fini(&old);
        cr_assert_eq(scene.engine.env->ops->remove(scene.engine.env, "checkpoint/0.11"), ERR_NONE);
        cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
        cr_assert(strstr(diag.text, "missing"), "%s", diag.text);
        cr_assert(strstr(diag.text, settled ? "checkpoint/0." : "redo/0."), "%s", diag.text);
        scene_end(&scene);
    }
}

Test(recovery_damage, log_that_ends_before_a_checkpoint_of_its_time_is_named)
{
    struct scene scene;
    scene_start(&scene, 2, 2);
    put(&scene.engine, 1, 0, 1, 1);
    engine_flush(&scene.engine, 1);
    struct buf early = file_get(scene.sim, "redo/0.1");
    put(&scene.engine, 2, 1, 2, 2);
    engine_flush(&scene.engine, 2);
    engine_checkpoint(&scene.engine, 1, 2);
    engine_crash(&scene.engine);
    /* Cut at a flush boundary, which by itself looks like a crash before the second flush. */
    file_put(scene.sim, "redo/0.1", early.bytes, early.size);
    char text[1024];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 2, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "redo/0.1: offset "), "%s", diag.text);
    cr_assert(strstr(diag.text, "checkpoint/1.2"), "%s", diag.text);
    buf_fini(&early);
    scene_end(&scene);
}

Test(recovery_damage, log_that_is_missing_altogether_is_noticed_once_others_were_flushed)
{
    struct scene scene;
    scene_start(&scene, 2, 2);
    engine_crash(&scene.engine);
    struct env *env = scene.engine.env;
    cr_assert_eq(env->ops->remove(env, "redo/1.1"), ERR_NONE);
    char text[1024];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 2, text, &diag), ERR_NONE, "%s", diag.text);
    scene_end(&scene);

    scene_start(&scene, 2, 2);
    put(&scene.engine, 1, 0, 1, 1);
    engine_flush(&scene.engine, 1);
    engine_crash(&scene.engine);
    env = scene.engine.env;
    cr_assert_eq(env->ops->remove(env, "redo/1.1"), ERR_NONE);
    cr_assert_eq(scene_recover(&scene, 2, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "redo/1.1"), "%s", diag.text);
    scene_end(&scene);
}

Test(recovery_damage, segment_missing_between_others_is_named)
{
    struct scene scene;
    scene_start(&scene, 1, 1);
    for (uint64_t ts = 1; ts < 20; ts++) {
        put(&scene.engine, ts, 0, ts % 10, ts);
        engine_flush(&scene.engine, ts);
    }
    engine_crash(&scene.engine);
    struct env *env = scene.engine.env;
    cr_assert_eq(env->ops->remove(env, "redo/0.2"), ERR_NONE);
    char text[1024];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "redo/0.2") && strstr(diag.text, "missing"), "%s", diag.text);
    scene_end(&scene);
}

Test(recovery_damage, directories_that_are_missing_are_named)
{
    static const char *const dirs[] = {"redo", "checkpoint"};
    for (size_t i = 0; i < 2; i++) {
        struct scene scene;
        scene_start(&scene, 1, 1);
        engine_crash(&scene.engine);
        struct env *env = scene.engine.env;
        cr_assert_eq(env->ops->rename(env, dirs[i], "elsewhere"), ERR_NONE);
        char text[1024];
        struct diag diag;
        cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
        cr_assert(strstr(diag.text, dirs[i]), "%s", diag.text);
        scene_end(&scene);
    }
}

/* Records that were written properly and whose content nobody could have logged. */
Test(recovery_damage, transactions_that_do_not_fit_the_rows_are_named_with_their_offset)
{
    static const struct {
        const void *body;
        uint32_t size;
    } bodies[] = {
        {"", 0},
        {"garbage that is no change", 25},
        /* partition 9, table 3, version 1, op 2 */
        {"\x09\0\x03\0\0\0\x01\0\0\0\x02", 11},
        {"\0\0\x03\0\0\0\x01\0\0\0\x07", 11},
    };
    for (size_t i = 0; i < 4; i++) {
        struct scene scene;
        scene_start(&scene, 1, 1);
        put(&scene.engine, 1, 0, 1, 1);
        engine_flush(&scene.engine, 1);
        struct buf before = file_get(scene.sim, "redo/0.1");
        cr_assert_eq(redo_append(scene.engine.redos[0], 2, bodies[i].body, bodies[i].size),
                     ERR_NONE);
        engine_flush(&scene.engine, 2);
        engine_crash(&scene.engine);
        char text[1024], place[64];
        struct diag diag;
        enum err err = scene_recover(&scene, 1, text, &diag);
        snprintf(place, sizeof(place), "redo/0.1: offset %u: ", (unsigned)before.size);
        if (bodies[i].size) {
            cr_assert_eq(err, ERR_CORRUPT, "body %zu", i);
            cr_assert(strstr(diag.text, place), "%s", diag.text);
        } else {
            cr_assert(err == ERR_NONE || err == ERR_CORRUPT);
        }
        buf_fini(&before);
        scene_end(&scene);
    }
}

/* The rules that the log keeps by itself: a horizon is a promise, and clocks do not go back. */
Test(recovery_damage, transactions_behind_a_horizon_are_refused)
{
    struct scene scene;
    scene_start(&scene, 1, 1);
    put(&scene.engine, 5, 0, 1, 1);
    engine_flush(&scene.engine, 9);
    engine_crash(&scene.engine);
    struct store_info info;
    cr_assert_eq(store_read_info(sim_env(scene.sim), &info, NULL), ERR_NONE);
    struct buf bytes = file_get(scene.sim, "redo/0.1"), late;
    buf_init(&late);
    redo_record_put(&late, REDO_TRANSACTION, 9, "x", 1);
    redo_record_put(&late, REDO_HORIZON, 20, NULL, 0);
    redo_records_seal(late.bytes, late.size, segment_seed(info.id, 0, 1), bytes.size, 2);
    size_t at = bytes.size;
    buf_put(&bytes, late.bytes, late.size);
    file_put(scene.sim, "redo/0.1", bytes.bytes, bytes.size);
    char text[1024], place[64];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
    snprintf(place, sizeof(place), "redo/0.1: offset %u: ", (unsigned)at);
    cr_assert(strstr(diag.text, place) && strstr(diag.text, "horizon"), "%s", diag.text);
    buf_fini(&bytes);
    buf_fini(&late);
    scene_end(&scene);
}

Test(recovery_damage, checkpoint_of_a_partition_that_the_store_does_not_have_is_named)
{
    struct scene scene;
    scene_start(&scene, 1, 1);
    engine_crash(&scene.engine);
    file_put(scene.sim, "checkpoint/7.12", "x", 1);
    char text[1024];
    struct diag diag;
    cr_assert_eq(scene_recover(&scene, 1, text, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "checkpoint/7.12"), "%s", diag.text);
    scene_end(&scene);
}
