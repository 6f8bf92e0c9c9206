/* What the tests of checkpoints and recovery share beyond durability.h: a store with one small
 * table in life, driven directly. Rows are (slot, key, value, text); the slot is the partition. */
#ifndef TESTS_DB_LDM_DURABLE_ENGINE_H
#define TESTS_DB_LDM_DURABLE_ENGINE_H

#include "tests/unit/db/ldm/durability.h"

enum { ENGINE_WORKERS_MAX = 4, ENGINE_PARTITIONS_MAX = 8, ENGINE_KEYS = 10, ENGINE_TABLE = 3 };

static inline struct table_def *table_make(uint32_t id, const char *name)
{
    static const struct {
        const char *name;
        enum column_type type;
    } columns[] = {{"slot", TYPE_INT_UNSIGNED},
                   {"k", TYPE_BIGINT_UNSIGNED},
                   {"v", TYPE_BIGINT_UNSIGNED},
                   {"t", TYPE_BLOB}};
    struct table_def *table = calloc(1, sizeof(*table));
    cr_assert(table);
    *table = (struct table_def){
        .database = "d",
        .id = id,
        .version = 1,
        .column_count = 4,
        .index_count = 2,
        .next_index_id = 2,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .columns = calloc(4, sizeof(struct column_def)),
    };
    cr_assert(table->columns);
    snprintf(table->name, sizeof(table->name), "%s", name);
    for (size_t i = 0; i < 4; i++) {
        snprintf(table->columns[i].name, sizeof(table->columns[i].name), "%s", columns[i].name);
        table->columns[i].type = (uint8_t)columns[i].type;
    }
    table->columns[3].nullable = true;
    table->columns[3].size_max = 60000;
    table->indexes[0] = (struct index_def){.name = "PRIMARY",
                                           .kind = INDEX_ORDERED,
                                           .has_hash = true,
                                           .unique = true,
                                           .column_count = 2,
                                           .columns = {0, 1}};
    table->indexes[1] = (struct index_def){
        .name = "v", .id = 1, .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}};
    struct diag diag;
    cr_assert_eq(table_def_check(table, &diag), ERR_NONE, "%s", diag.text);
    return table;
}

/* Tables ENGINE_TABLE, ENGINE_TABLE + 1, … */
static inline struct catalog *catalog_make(uint64_t version, uint32_t table_count)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    cr_assert(catalog);
    catalog->version = version;
    catalog->next_table_id = 20;
    catalog->table_count = table_count;
    for (uint32_t i = 0; i < table_count; i++) {
        char name[8];
        snprintf(name, sizeof(name), "t%u", i);
        catalog->tables[i] = table_make(ENGINE_TABLE + i, name);
    }
    return catalog;
}

struct engine {
    struct sim *sim; /* NULL: a real directory */
    struct env *env;
    const struct catalog *catalog;
    uint16_t partition_count;
    uint16_t worker_count;
    struct ldm *ldms[ENGINE_WORKERS_MAX];
    struct partition *partitions[ENGINE_PARTITIONS_MAX];
    struct ldm *partition_ldm[ENGINE_PARTITIONS_MAX];
    struct redo *redos[ENGINE_WORKERS_MAX];
    struct recovery_result result;
    struct diag diag;
};

/* Empty partitions. */
static inline void engine_init(struct engine *engine, struct sim *sim, struct env *env,
                               const struct catalog *catalog, uint16_t partition_count,
                               uint16_t worker_count)
{
    *engine = (struct engine){
        .sim = sim,
        .env = env ? env : sim_env(sim),
        .catalog = catalog,
        .partition_count = partition_count,
        .worker_count = worker_count,
    };
    for (uint16_t i = 0; i < worker_count; i++)
        cr_assert_eq(ldm_create(0, &engine->ldms[i]), ERR_NONE);
    for (uint16_t i = 0; i < partition_count; i++) {
        engine->partition_ldm[i] = engine->ldms[i % worker_count];
        cr_assert_eq(partition_create(engine->partition_ldm[i], i, &engine->partitions[i]),
                     ERR_NONE);
        cr_assert_eq(partition_set_catalog(engine->partitions[i], catalog), ERR_NONE);
    }
}

static inline enum err engine_recover(struct engine *engine, unsigned threads)
{
    const struct recovery_config config = {
        .env = engine->env,
        .partition_count = engine->partition_count,
        .partitions = engine->partitions,
        .partition_ldm = engine->partition_ldm,
        .threads = threads,
    };
    engine->diag = (struct diag){.text = ""};
    return recovery_run(&config, &engine->result, &engine->diag);
}

static inline void engine_fini(struct engine *engine)
{
    for (uint16_t i = 0; i < engine->worker_count; i++) {
        redo_destroy(engine->redos[i]);
        ldm_destroy(engine->ldms[i]);
    }
}

static inline void engine_logs(struct engine *engine)
{
    for (uint16_t i = 0; i < engine->worker_count; i++) {
        const struct redo_config config = {.env = engine->env,
                                           .worker = i,
                                           .worker_count = engine->worker_count,
                                           .first_segment = engine->result.next_segment,
                                           .segment_size_max = 1000};
        cr_assert_eq(redo_create(&config, &engine->redos[i]), ERR_NONE);
    }
}

/* Recovery that must succeed, and new logs. */
static inline void engine_start(struct engine *engine, struct sim *sim,
                                const struct catalog *catalog, uint16_t partition_count,
                                uint16_t worker_count)
{
    engine_init(engine, sim, NULL, catalog, partition_count, worker_count);
    cr_assert_eq(engine_recover(engine, 1), ERR_NONE, "%s", engine->diag.text);
    engine_logs(engine);
}

/* Sets a row of a table in an open change set; value 0 deletes it. text may be NULL. */
static inline void row_put(struct fragment *fragment, struct change_set *changes, uint64_t key,
                           uint64_t value, const char *text)
{
    const struct value values[4] = {value_u64(partition_number(fragment_partition(fragment))),
                                    value_u64(key), value_u64(value),
                                    text ? value_text(text) : value_null()};
    uint32_t row;
    enum err err = fragment_find(fragment, changes, values, &row);
    if (err == ERR_NOT_FOUND) {
        err = fragment_insert(fragment, changes, values, &row);
    } else if (!err && value) {
        static const uint16_t columns[] = {2, 3};
        err = fragment_update(fragment, changes, row, columns, &values[2], 2);
    } else if (!err) {
        err = fragment_delete(fragment, changes, row);
    }
    cr_assert_eq(err, ERR_NONE, "%s", err_name(err));
}

struct put {
    uint16_t partition;
    uint64_t key;
    uint64_t value;
};

/* Commits one transaction over the partitions of its puts and appends it to their workers' logs. */
static inline void engine_put(struct engine *engine, uint64_t ts, const struct put *puts,
                              size_t count)
{
    for (uint16_t worker = 0; worker < engine->worker_count; worker++) {
        struct change_set *changes;
        cr_assert_eq(change_set_create(engine->ldms[worker], &changes), ERR_NONE);
        for (size_t i = 0; i < count; i++) {
            if (puts[i].partition % engine->worker_count != worker) continue;
            char text[32];
            snprintf(text, sizeof(text), "text of %u", (unsigned)puts[i].value);
            row_put(partition_fragment(engine->partitions[puts[i].partition], ENGINE_TABLE),
                    changes, puts[i].key, puts[i].value, puts[i].value % 4 ? text : NULL);
        }
        if (!change_set_is_empty(changes)) {
            struct buf body;
            buf_init(&body);
            change_set_encode(changes, &body);
            cr_assert_not(body.failed);
            cr_assert_eq(redo_append(engine->redos[worker], ts, body.bytes, (uint32_t)body.size),
                         ERR_NONE);
            buf_fini(&body);
            change_set_commit(changes, ts);
        }
        change_set_destroy(changes);
    }
}

static inline void put(struct engine *engine, uint64_t ts, uint16_t partition, uint64_t key,
                       uint64_t value)
{
    engine_put(engine, ts, &(struct put){partition, key, value}, 1);
}

static inline void flush_told(void *context, enum err err, uint64_t horizon)
{
    enum err *ret_err = context;
    *ret_err = err;
    (void)horizon;
}

static inline void engine_flush_one(struct engine *engine, uint16_t worker, uint64_t horizon)
{
    enum err err = ERR_BUSY;
    redo_flush(engine->redos[worker], horizon, flush_told, &err);
    jobs_run(engine->sim);
    cr_assert_eq(err, ERR_NONE);
}

static inline void engine_flush(struct engine *engine, uint64_t horizon)
{
    for (uint16_t i = 0; i < engine->worker_count; i++)
        engine_flush_one(engine, i, horizon);
}

static inline void publish_told(void *context, enum err err)
{
    enum err *ret_err = context;
    *ret_err = err;
}

/* Takes a checkpoint to its end, without publishing it. */
static inline enum err checkpoint_write(struct sim *sim, struct checkpoint *checkpoint)
{
    for (;;) {
        enum err err = checkpoint_step(checkpoint);
        if (err && err != ERR_BUSY) {
            jobs_run(sim);
            return err == ERR_END ? ERR_NONE : err;
        }
        if (err == ERR_BUSY) cr_assert(sim_step(sim));
    }
}

static inline enum err engine_try_checkpoint(struct engine *engine, uint16_t partition, uint64_t ts)
{
    struct ldm *ldm = engine->partition_ldm[partition];
    cr_assert_eq(ldm_pin(ldm, ts), ERR_NONE);
    struct checkpoint *checkpoint;
    enum err err = checkpoint_create(engine->env, engine->partitions[partition], ts,
                                     (uint16_t)(partition % engine->worker_count), &checkpoint);
    cr_assert_eq(err, ERR_NONE);
    err = checkpoint_write(engine->sim, checkpoint);
    if (!err) {
        err = ERR_BUSY;
        checkpoint_publish(checkpoint, publish_told, &err);
        jobs_run(engine->sim);
    }
    cr_assert(checkpoint_is_idle(checkpoint));
    checkpoint_destroy(checkpoint);
    ldm_unpin(ldm, ts);
    return err;
}

static inline void engine_checkpoint(struct engine *engine, uint16_t partition, uint64_t ts)
{
    cr_assert_eq(engine_try_checkpoint(engine, partition, ts), ERR_NONE);
}

static inline void engine_close(struct engine *engine)
{
    for (uint16_t i = 0; i < engine->worker_count; i++)
        cr_assert_eq(redo_close(engine->redos[i]), ERR_NONE);
    engine_fini(engine);
}

/* Power cut. */
static inline void engine_crash(struct engine *engine)
{
    sim_crash(engine->sim);
    engine_fini(engine);
}

/* "0.1=5 0.2=7 …" of all rows: partition.key=value; "?" for a row whose text is not that of its
 * value. */
static inline void engine_text(struct engine *engine, char text[1024])
{
    text[0] = '\0';
    for (uint16_t i = 0; i < engine->partition_count; i++) {
        struct fragment *fragment = partition_fragment(engine->partitions[i], ENGINE_TABLE);
        struct diag diag;
        cr_assert_eq(fragment_verify(fragment, &diag), ERR_NONE, "%s", diag.text);
        for (uint64_t key = 0; key < ENGINE_KEYS; key++) {
            const struct value values[2] = {value_u64(i), value_u64(key)};
            uint32_t row;
            if (fragment_find(fragment, NULL, values, &row)) continue;
            uint64_t value = fragment_value(fragment, row, 2).u;
            struct value found = fragment_value(fragment, row, 3);
            char expected[32];
            int size = snprintf(expected, sizeof(expected), "text of %u", (unsigned)value);
            bool same = value % 4 == 0 ? found.kind == KIND_NULL
                                       : found.kind == KIND_STR && found.size == (uint32_t)size &&
                                             !memcmp(found.bytes, expected, found.size);
            snprintf(text + strlen(text), 1024 - strlen(text), "%u.%u=%u%s ", (unsigned)i,
                     (unsigned)key, (unsigned)value, same ? "" : "?");
        }
    }
}

#endif
