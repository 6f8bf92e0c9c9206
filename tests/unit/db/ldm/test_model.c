/* Thousands of random operations on the storage engine against a model that simply keeps every
 * version of every row.
 *
 * Several transactions at once insert, update, delete, commit and roll back in three tables;
 * snapshots are pinned, settled and released; old versions and expired rows are collected. Every
 * outcome is compared with the model's, and from time to time every read path (pages, single rows,
 * cursors over every index) at the newest and at pinned timestamps, the engine's own invariants,
 * the replay of the encoded changes in a second store, and a checkpoint loaded into a third. */
#include "base/arena.h"
#include "tests/unit/db/ldm/faults.h"
#include "tests/unit/db/ldm/storage.h"
#include "tests/unit/sanitized.h"

enum { TABLES = 3, COLUMNS_MAX = 8, TRANSACTIONS = 3, PINS_MAX = 4, KEYS_MAX = 2500 };

struct version {
    uint64_t ts;
    bool live;
    struct value values[COLUMNS_MAX];
    struct version *older;
};

struct entity {
    struct version *newest; /* committed */
    int owner;              /* transaction that locks it, -1: none */
    bool live;              /* the owner's version */
    struct value values[COLUMNS_MAX];
};

struct pin {
    uint64_t ts;
    bool exact;
};

struct world {
    struct test_random random;
    struct arena arena;
    struct test_store store;
    struct test_store replica;
    struct change_set *changes[TRANSACTIONS];
    struct change_set *replica_changes;
    struct entity *entities[TABLES];
    uint32_t key_count;
    struct pin pins[PINS_MAX];
    uint32_t pin_count;
    uint64_t clock;
    int64_t now_us;
    bool with_faults; /* now and then an allocation fails */
    uint32_t fault_count;
};

static const struct table_def *table_of(const struct world *world, uint32_t table)
{
    return world->store.catalog->tables[table];
}

static struct fragment *fragment_of(struct world *world, uint32_t table)
{
    return test_fragment(&world->store, table + 1);
}

/* ---- values ---- */

static struct value copy_value(struct world *world, struct value value)
{
    if (value.kind == KIND_STR)
        value.bytes = (uint8_t *)arena_copy(&world->arena, value.bytes, value.size);
    return value;
}

static struct value random_bytes(struct world *world, uint32_t size, const char *letters)
{
    uint8_t *bytes = arena_alloc(&world->arena, size + 1);
    cr_assert(bytes);
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = letters ? (uint8_t)letters[test_below(&world->random, (uint32_t)strlen(letters))]
                           : (uint8_t)test_below(&world->random, 3);
    return value_str(bytes, size);
}

static uint32_t random_size(struct world *world, uint32_t size_max)
{
    uint32_t choice = test_below(&world->random, 100);
    uint32_t limit = choice < 85 ? 20 : choice < 97 ? 300 : size_max;
    return test_below(&world->random, (limit < size_max ? limit : size_max) + 1);
}

static struct value random_value(struct world *world, const struct column_def *column)
{
    struct test_random *random = &world->random;
    if (column->nullable && test_below(random, 4) == 0) return value_null();
    switch ((enum column_type)column->type) {
    case TYPE_INT:
        return value_i64((int64_t)test_below(random, 7) - 3);
    case TYPE_TINYINT:
        return value_i64((int64_t)test_below(random, 5) - 2);
    case TYPE_BIGINT_UNSIGNED:
        return value_u64(0); /* a key, set by random_row */
    case TYPE_SMALLINT_UNSIGNED:
        return value_u64(test_below(random, 60000));
    case TYPE_DATE:
        return value_i64((int64_t)test_below(random, 30000));
    case TYPE_DOUBLE:
        return value_f64((double)test_below(random, 9) / 8);
    case TYPE_FLOAT:
        return value_f64((double)(float)test_below(random, 1000) / 4);
    case TYPE_DECIMAL:
        return value_dec((int64_t)test_below(random, 6) - 3, 2);
    case TYPE_TIMESTAMP:
        return value_i64(world->now_us - (int64_t)test_below(random, 12000000) + 2000000);
    case TYPE_VARCHAR:
        return random_bytes(world, test_below(random, 4), "aAbB");
    case TYPE_TEXT:
        return random_bytes(world, random_size(world, column->size_max), "xyz");
    case TYPE_VARBINARY:
        return random_bytes(world, random_size(world, column->size_max), NULL);
    case TYPE_BINARY:
        /* As it is read back. */
        return random_bytes(world, 5, NULL);
    default:
        cr_assert_fail("a type without values");
    }
    return value_null();
}

static void random_row(struct world *world, uint32_t table, uint32_t key,
                       struct value values[COLUMNS_MAX])
{
    const struct table_def *def = table_of(world, table);
    for (uint32_t i = 0; i < def->column_count; i++)
        values[i] = random_value(world, &def->columns[i]);
    if (table == 0) values[0] = value_u64(key * UINT64_C(0x10001));
    if (table == 2) values[0] = value_i64((int64_t)key - 20);
    if (table != 1) return;
    values[0] = value_u64(key % 5);
    char name[40];
    snprintf(name, sizeof(name), "name%u", key / 5);
    for (uint32_t i = 0; i < 4; i++)
        if (test_below(&world->random, 8) == 0) name[i] = (char)(name[i] - 'a' + 'A');
    values[1] = copy_value(world, value_text(name));
}

static void key_values(struct world *world, uint32_t table, uint32_t key,
                       struct value values[SCHEMA_KEY_COLUMNS_MAX])
{
    struct value row[COLUMNS_MAX];
    random_row(world, table, key, row);
    const struct index_def *primary = &table_of(world, table)->indexes[0];
    for (uint32_t i = 0; i < primary->column_count; i++)
        values[i] = row[primary->columns[i]];
}

/* Which entity a row read from the store is. */
static uint32_t key_of(uint32_t table, const struct value *values)
{
    if (table == 0) return (uint32_t)(values[0].u / UINT64_C(0x10001));
    if (table == 2) return (uint32_t)(values[0].i + 20);
    char text[8] = {0};
    memcpy(text, values[1].bytes + 4, values[1].size - 4);
    return (uint32_t)(values[0].u + 5 * strtoull(text, NULL, 10));
}

static bool value_same(struct value a, struct value b)
{
    if (a.kind != b.kind) return false;
    if (a.kind == KIND_NULL) return true;
    if (a.kind == KIND_STR)
        return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
    return a.u == b.u && a.scale == b.scale;
}

static bool expired(const struct world *world, uint32_t table, const struct value *values)
{
    return table == 2 && values[1].kind != KIND_NULL &&
           values[1].i <= world->now_us - INT64_C(10000000);
}

/* ---- the model ---- */

static const struct value *model_at(const struct world *world, uint32_t table, uint32_t key,
                                    uint64_t ts, bool with_expired)
{
    const struct version *version = world->entities[table][key].newest;
    while (version && version->ts > ts)
        version = version->older;
    if (!version || !version->live) return NULL;
    if (!with_expired && expired(world, table, version->values)) return NULL;
    return version->values;
}

/* What a transaction sees: its own version, or the newest committed one. */
static const struct value *model_seen(const struct world *world, uint32_t table, uint32_t key)
{
    const struct entity *entity = &world->entities[table][key];
    if (entity->owner < 0) return model_at(world, table, key, UINT64_MAX, true);
    return entity->live ? entity->values : NULL;
}

static void model_lock(struct world *world, uint32_t table, uint32_t key, int owner)
{
    struct entity *entity = &world->entities[table][key];
    if (entity->owner == owner) return;
    const struct value *values = model_at(world, table, key, UINT64_MAX, true);
    entity->live = values != NULL;
    if (values) memcpy(entity->values, values, sizeof(entity->values));
    entity->owner = owner;
}

/* ---- operations ---- */

static void maybe_arm(struct world *world)
{
    if (world->with_faults && test_below(&world->random, 2))
        fault_arm(1 + test_below(&world->random, 6));
}

/* The operation failed because an allocation did: it must have changed nothing. */
static bool failed_by_fault(struct world *world, enum err err)
{
    bool failed = fault_disarm() && err == ERR_NO_MEMORY;
    world->fault_count += failed;
    return failed;
}

static void do_insert(struct world *world, uint32_t table, uint32_t key, int owner)
{
    struct entity *entity = &world->entities[table][key];
    struct value values[COLUMNS_MAX];
    random_row(world, table, key, values);
    const struct value *seen = model_seen(world, table, key);
    enum err want = ERR_NONE;
    if (entity->owner >= 0 && entity->owner != owner)
        want = ERR_CONFLICT;
    else if (seen && !expired(world, table, seen))
        want = ERR_EXISTS;
    uint32_t row;
    maybe_arm(world);
    enum err err = fragment_insert(fragment_of(world, table), world->changes[owner], values, &row);
    if (failed_by_fault(world, err)) return;
    cr_assert_eq(err, want, "insert: %s for %s", err_name(err), err_name(want));
    if (err) return;
    model_lock(world, table, key, owner);
    entity->live = true;
    memcpy(entity->values, values, sizeof(values));
}

/* Finds the row as the transaction does, and checks the outcome. */
static bool do_find(struct world *world, uint32_t table, uint32_t key, int owner, uint32_t *ret_row)
{
    struct entity *entity = &world->entities[table][key];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    key_values(world, table, key, values);
    const struct value *seen = model_seen(world, table, key);
    enum err want = ERR_NONE;
    if (entity->owner >= 0 && entity->owner != owner)
        want = ERR_CONFLICT;
    else if (!seen || expired(world, table, seen))
        want = ERR_NOT_FOUND;
    fragment_prefetch(fragment_of(world, table), values);
    enum err err = fragment_find(fragment_of(world, table), world->changes[owner], values, ret_row);
    cr_assert_eq(err, want, "find: %s for %s", err_name(err), err_name(want));
    if (err) return false;
    for (uint16_t i = 0; i < table_of(world, table)->column_count; i++)
        cr_assert(value_same(fragment_value(fragment_of(world, table), *ret_row, i), seen[i]));
    return true;
}

static void do_update(struct world *world, uint32_t table, uint32_t key, int owner)
{
    uint32_t row;
    if (!do_find(world, table, key, owner, &row)) return;
    const struct table_def *def = table_of(world, table);
    struct value values[COLUMNS_MAX];
    random_row(world, table, key, values);
    uint16_t columns[COLUMNS_MAX];
    struct value chosen[COLUMNS_MAX];
    uint32_t count = 0;
    uint16_t first = table == 1 ? 2 : 1;
    bool changed = false;
    const struct value *seen = model_seen(world, table, key);
    for (uint16_t i = first; i < def->column_count; i++) {
        if (test_below(&world->random, 2)) continue;
        columns[count] = i;
        chosen[count++] = values[i];
        changed |= !value_same(values[i], seen[i]);
    }
    maybe_arm(world);
    enum err err = fragment_update(fragment_of(world, table), world->changes[owner], row, columns,
                                   chosen, count);
    if (failed_by_fault(world, err)) return;
    cr_assert_eq(err, ERR_NONE, "update: %s", err_name(err));
    if (!changed) return;
    model_lock(world, table, key, owner);
    for (uint32_t i = 0; i < count; i++)
        world->entities[table][key].values[columns[i]] = chosen[i];
}

static void do_delete(struct world *world, uint32_t table, uint32_t key, int owner)
{
    uint32_t row;
    if (!do_find(world, table, key, owner, &row)) return;
    maybe_arm(world);
    enum err err = fragment_delete(fragment_of(world, table), world->changes[owner], row);
    if (failed_by_fault(world, err)) return;
    cr_assert_eq(err, ERR_NONE, "delete: %s", err_name(err));
    model_lock(world, table, key, owner);
    world->entities[table][key].live = false;
}

static struct partition *find_replica(void *context, uint16_t number)
{
    struct world *world = context;
    return number == 5 ? world->replica.partition : NULL;
}

static void replicate(struct world *world, const struct change_set *changes, uint64_t ts)
{
    struct buf buf;
    buf_init(&buf);
    change_set_encode(changes, &buf);
    cr_assert(!buf.failed);
    struct reader reader = reader_of(buf.bytes, buf.size);
    enum err err = change_set_replay(world->replica_changes, &reader, find_replica, world);
    cr_assert_eq(err, ERR_NONE, "replay: %s", err_name(err));
    cr_assert_eq(reader_left(&reader), 0);
    change_set_commit(world->replica_changes, ts);
    buf_fini(&buf);
}

static void model_finish(struct world *world, int owner, uint64_t ts)
{
    for (uint32_t table = 0; table < TABLES; table++) {
        for (uint32_t key = 0; key < world->key_count; key++) {
            struct entity *entity = &world->entities[table][key];
            if (entity->owner != owner) continue;
            entity->owner = -1;
            if (!ts) continue;
            struct version *version = arena_new(&world->arena, struct version, 1);
            cr_assert(version);
            version->ts = ts;
            version->live = entity->live;
            memcpy(version->values, entity->values, sizeof(version->values));
            version->older = entity->newest;
            entity->newest = version;
        }
    }
}

static void do_commit(struct world *world, int owner)
{
    world->clock += 1 + test_below(&world->random, 5);
    replicate(world, world->changes[owner], world->clock);
    maybe_arm(world);
    change_set_commit(world->changes[owner], world->clock);
    (void)fault_disarm();
    cr_assert(change_set_is_empty(world->changes[owner]));
    model_finish(world, owner, world->clock);
}

static void do_rollback(struct world *world, int owner)
{
    maybe_arm(world);
    change_set_rollback(world->changes[owner]);
    (void)fault_disarm();
    cr_assert(change_set_is_empty(world->changes[owner]));
    model_finish(world, owner, 0);
}

static void do_pin(struct world *world)
{
    if (world->pin_count == PINS_MAX) return;
    struct pin *pin = &world->pins[world->pin_count++];
    *pin = (struct pin){.ts = world->clock};
    cr_assert_eq(ldm_pin(world->store.ldm, pin->ts), ERR_NONE);
}

static void do_settle(struct world *world)
{
    if (!world->pin_count) return;
    struct pin *pin = &world->pins[test_below(&world->random, world->pin_count)];
    if (pin->exact) return;
    uint64_t ts = pin->ts + test_next(&world->random) % (world->clock - pin->ts + 1);
    ldm_pin_settle(world->store.ldm, pin->ts, ts);
    *pin = (struct pin){.ts = ts, .exact = true};
}

static void do_unpin(struct world *world)
{
    if (!world->pin_count) return;
    uint32_t at = test_below(&world->random, world->pin_count);
    uint64_t ts = world->pins[at].ts;
    bool exact = world->pins[at].exact;
    /* Pins with the same timestamp are told apart by nobody: an exact one goes first. */
    for (uint32_t i = 0; i < world->pin_count && !exact; i++)
        if (world->pins[i].ts == ts && world->pins[i].exact) at = i;
    ldm_unpin(world->store.ldm, ts);
    world->pins[at] = world->pins[--world->pin_count];
}

static void purge(void *context, struct fragment *fragment, uint32_t row)
{
    struct world *world = context;
    uint32_t table = fragment_table(fragment)->id - 1;
    struct value values[COLUMNS_MAX];
    for (uint16_t i = 0; i < fragment_table(fragment)->column_count; i++)
        values[i] = fragment_value(fragment, row, i);
    uint32_t key = key_of(table, values);
    cr_assert(expired(world, table, values));
    cr_assert_lt(world->entities[table][key].owner, 0);
    struct change_set *changes;
    cr_assert_eq(change_set_create(world->store.ldm, &changes), ERR_NONE);
    cr_assert_eq(fragment_delete(fragment, changes, row), ERR_NONE);
    model_lock(world, table, key, TRANSACTIONS);
    world->entities[table][key].live = false;
    world->clock++;
    replicate(world, changes, world->clock);
    change_set_commit(changes, world->clock);
    model_finish(world, TRANSACTIONS, world->clock);
    change_set_destroy(changes);
}

static void do_collect(struct world *world)
{
    maybe_arm(world);
    (void)ldm_collect(world->store.ldm, test_below(&world->random, 50), NULL, NULL);
    (void)fault_disarm();
    (void)ldm_collect(world->store.ldm, test_below(&world->random, 50), purge, world);
}

/* An index more or less on a table of both stores, while transactions and pins are open. */
static void do_index(struct world *world, uint32_t table)
{
    struct test_random *random = &world->random;
    struct catalog *catalogs[2];
    struct test_store *stores[2] = {&world->store, &world->replica};
    uint16_t first = (uint16_t)test_below(random, table_of(world, table)->column_count);
    uint16_t second = (uint16_t)test_below(random, table_of(world, table)->column_count);
    uint8_t count = first == second || test_below(random, 2) ? 1 : 2;
    for (uint32_t i = 0; i < 2; i++) {
        catalogs[i] = catalog_copy(stores[i]->catalog);
        cr_assert(catalogs[i]);
        struct table_def *def = catalogs[i]->tables[table];
        def->version++;
        if (def->index_count > 3) {
            /* The second goes, the others move up. */
            memmove(&def->indexes[1], &def->indexes[2],
                    (def->index_count - 2u) * sizeof(def->indexes[0]));
            def->index_count--;
        } else {
            char name[20];
            snprintf(name, sizeof(name), "extra%u", def->next_index_id);
            test_index(def, name, INDEX_ORDERED, count, first, second);
        }
        if (table_def_check(def, NULL) == ERR_NONE) continue;
        /* TEXT and long columns have no index. */
        for (uint32_t j = 0; j <= i; j++)
            catalog_destroy(catalogs[j]);
        return;
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 0) maybe_arm(world);
        enum err err = partition_set_catalog(stores[i]->partition, catalogs[i]);
        if (i == 0 && failed_by_fault(world, err)) {
            catalog_destroy(catalogs[0]);
            catalog_destroy(catalogs[1]);
            return;
        }
        cr_assert_eq(err, ERR_NONE, "index: %s", err_name(err));
        cr_assert_eq(partition_catalog(stores[i]->partition), catalogs[i]);
        catalog_destroy(stores[i]->catalog);
        stores[i]->catalog = catalogs[i];
    }
}

/* ---- checks ---- */

/* Every column of the selected rows by vectors; each row once; all of the model's rows there. */
static void check_pages(struct world *world, struct test_store *store, uint32_t table, uint64_t ts,
                        bool with_expired)
{
    const struct fragment *fragment = test_fragment(store, table + 1);
    const struct table_def *def = fragment_table(fragment);
    static uint64_t numbers[COLUMNS_MAX][FRAGMENT_PAGE_ROWS];
    static struct vector_str strings[COLUMNS_MAX][FRAGMENT_PAGE_ROWS];
    static uint8_t nulls[COLUMNS_MAX][FRAGMENT_PAGE_ROWS];
    struct vector vectors[COLUMNS_MAX];
    uint32_t found = 0;
    for (uint32_t page = 0; page < fragment_page_count(fragment); page++) {
        uint16_t slots[FRAGMENT_PAGE_ROWS];
        uint32_t count = fragment_page_select(fragment, page, ts, slots);
        cr_assert_leq(count, fragment_page_rows(fragment, page, ts));
        for (uint16_t i = 0; i < def->column_count; i++) {
            vectors[i].nulls = nulls[i];
            vectors[i].u = numbers[i];
            if (column_kind(&def->columns[i]) == KIND_STR) vectors[i].str = strings[i];
            fragment_page_gather(fragment, page, ts, i, slots, count, &vectors[i]);
            cr_assert_eq(vectors[i].count, count);
        }
        for (uint32_t j = 0; j < count; j++) {
            struct value values[COLUMNS_MAX];
            for (uint32_t i = 0; i < def->column_count; i++) {
                values[i] = (struct value){.kind = vectors[i].kind, .scale = vectors[i].scale};
                if (vectors[i].has_nulls && nulls[i][j])
                    values[i] = value_null();
                else if (vectors[i].kind == KIND_STR)
                    values[i] = value_str(strings[i][j].bytes, strings[i][j].size);
                else
                    values[i].u = numbers[i][j];
            }
            uint32_t key = key_of(table, values);
            cr_assert_lt(key, world->key_count);
            const struct value *want = model_at(world, table, key, ts, with_expired);
            cr_assert(want, "table %u: key %u is there at %" PRIu64, table, key, ts);
            uint32_t row = page * FRAGMENT_PAGE_ROWS + slots[j];
            cr_assert(fragment_visible_at(fragment, row, ts));
            for (uint16_t i = 0; i < def->column_count; i++) {
                cr_assert(value_same(values[i], want[i]), "table %u key %u column %u", table, key,
                          i);
                cr_assert(value_same(fragment_value_at(fragment, row, i, ts), want[i]));
            }
            found++;
        }
    }
    uint32_t wanted = 0;
    for (uint32_t key = 0; key < world->key_count; key++)
        wanted += model_at(world, table, key, ts, with_expired) != NULL;
    cr_assert_eq(found, wanted, "table %u at %" PRIu64 ": %u rows for %u", table, ts, found,
                 wanted);
}

struct sort_key {
    uint32_t size;
    uint32_t key;
    uint8_t bytes[200];
};

static int sort_compare(const void *a, const void *b)
{
    const struct sort_key *x = a;
    const struct sort_key *y = b;
    uint32_t size = x->size < y->size ? x->size : y->size;
    int order = memcmp(x->bytes, y->bytes, size);
    if (order) return order;
    return (x->size > y->size) - (x->size < y->size);
}

static void index_key(const struct table_def *def, const struct index_def *index,
                      const struct value *row, struct sort_key *ret_key)
{
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    for (uint32_t i = 0; i < index->column_count; i++)
        values[i] = row[index->columns[i]];
    cr_assert_eq(
        key_normalize(def, index->columns, index->column_count, values, bytes, &ret_key->size),
        ERR_NONE);
    cr_assert_leq(ret_key->size, sizeof(ret_key->bytes));
    memcpy(ret_key->bytes, bytes, ret_key->size);
}

/* NULL is below everything. */
static int order_of(const struct table_def *def, uint16_t column, struct value a, struct value b)
{
    if (value_is_null(a) || value_is_null(b)) return value_is_null(b) - value_is_null(a);
    return value_compare(a, b, def->columns[column].collation);
}

static bool in_bounds(const struct table_def *def, const struct index_def *index,
                      const struct index_bounds *bounds, const struct value *row)
{
    for (uint32_t i = 0; i < bounds->eq_count; i++)
        if (order_of(def, index->columns[i], row[index->columns[i]], bounds->eq[i])) return false;
    if (!bounds->low_count && !bounds->high_count) return true;
    uint16_t column = index->columns[bounds->eq_count];
    if (bounds->high_count && value_is_null(row[column])) return false;
    if (bounds->low_count) {
        int order = order_of(def, column, row[column], bounds->low[0]);
        if (order < 0 || (order == 0 && !bounds->low_inclusive)) return false;
    }
    if (bounds->high_count) {
        int order = order_of(def, column, row[column], bounds->high[0]);
        if (order > 0 || (order == 0 && !bounds->high_inclusive)) return false;
    }
    return true;
}

/* Random bounds taken from a random row's values. low and high are never NULL. */
static void random_bounds(struct world *world, uint32_t table, const struct index_def *index,
                          struct value *eq, struct value *range, struct index_bounds *bounds)
{
    struct value row[COLUMNS_MAX];
    random_row(world, table, test_below(&world->random, world->key_count), row);
    *bounds = (struct index_bounds){.eq = eq, .low = &range[0], .high = &range[1]};
    bounds->eq_count = (uint16_t)test_below(&world->random, index->column_count + 1u);
    for (uint32_t i = 0; i < bounds->eq_count; i++)
        eq[i] = row[index->columns[i]];
    if (bounds->eq_count == index->column_count) return;
    const struct column_def *column =
        &table_of(world, table)->columns[index->columns[bounds->eq_count]];
    for (uint32_t i = 0; i < 2; i++) {
        do {
            struct value other[COLUMNS_MAX];
            random_row(world, table, test_below(&world->random, world->key_count), other);
            range[i] = other[index->columns[bounds->eq_count]];
        } while (column->nullable && value_is_null(range[i]));
    }
    bounds->low_count = (uint16_t)test_below(&world->random, 2);
    bounds->high_count = (uint16_t)test_below(&world->random, 2);
    bounds->low_inclusive = test_below(&world->random, 2);
    bounds->high_inclusive = test_below(&world->random, 2);
}

/* own: -1 for a snapshot. disturb: something changes in the trees between two steps. */
static void check_cursor(struct world *world, uint32_t table, uint8_t number, uint64_t ts, int own)
{
    const struct table_def *def = table_of(world, table);
    const struct index_def *index = &def->indexes[number];
    struct fragment *fragment = fragment_of(world, table);
    struct value eq[SCHEMA_KEY_COLUMNS_MAX];
    struct value range[2];
    struct index_bounds bounds;
    random_bounds(world, table, index, eq, range, &bounds);
    if (index->kind == INDEX_HASH && bounds.eq_count < index->column_count) return;
    static struct sort_key wanted[KEYS_MAX];
    uint32_t count = 0;
    for (uint32_t key = 0; key < world->key_count; key++) {
        const struct value *row =
            own < 0 ? model_at(world, table, key, ts, false) : model_seen(world, table, key);
        if (!row || expired(world, table, row) || !in_bounds(def, index, &bounds, row)) continue;
        index_key(def, index, row, &wanted[count]);
        wanted[count++].key = key;
    }
    qsort(wanted, count, sizeof(wanted[0]), sort_compare);
    bool descending = test_below(&world->random, 2);
    struct index_cursor cursor;
    enum err err =
        index_cursor_open(&cursor, fragment, number, &bounds, descending, own < 0 ? ts : TS_LATEST,
                          own < 0 ? NULL : world->changes[own]);
    cr_assert_eq(err, ERR_NONE);
    cursor.stable = test_below(&world->random, 2);
    bool disturb = !cursor.stable && own < 0;
    uint32_t row;
    uint32_t at = 0;
    for (; (err = index_cursor_next(&cursor, &row)) == ERR_NONE; at++) {
        cr_assert_lt(at, count, "table %u index %u: a row too many", table, number);
        struct value values[COLUMNS_MAX];
        for (uint16_t i = 0; i < def->column_count; i++)
            values[i] = fragment_value_at(fragment, row, i, own < 0 ? ts : TS_LATEST);
        if (own >= 0)
            for (uint16_t i = 0; i < def->column_count; i++)
                values[i] = fragment_value(fragment, row, i);
        struct sort_key got;
        index_key(def, index, values, &got);
        cr_assert_eq(sort_compare(&got, &wanted[descending ? count - 1 - at : at]), 0,
                     "table %u index %u: order", table, number);
        uint32_t key = key_of(table, values);
        const struct value *model =
            own < 0 ? model_at(world, table, key, ts, false) : model_seen(world, table, key);
        for (uint16_t i = 0; i < def->column_count; i++)
            cr_assert(value_same(values[i], model[i]));
        /* Changes by others between two steps must not move a snapshot's cursor. */
        if (disturb && test_below(&world->random, 4) == 0) {
            uint32_t other = test_below(&world->random, world->key_count);
            if (test_below(&world->random, 2))
                do_insert(world, table, other, 0);
            else
                do_update(world, table, other, 0);
        }
    }
    cr_assert_eq(err, ERR_END);
    cr_assert_eq(at, count, "table %u index %u: %u rows for %u", table, number, at, count);
}

static bool any_locked(const struct world *world, uint32_t table, int but)
{
    for (uint32_t key = 0; key < world->key_count; key++)
        if (world->entities[table][key].owner >= 0 && world->entities[table][key].owner != but)
            return true;
    return false;
}

/* A timestamp that a pin keeps readable, or the newest. */
static uint64_t random_ts(struct world *world)
{
    if (!world->pin_count || test_below(&world->random, 4) == 0) return world->clock;
    const struct pin *pin = &world->pins[test_below(&world->random, world->pin_count)];
    if (pin->exact) return pin->ts;
    return pin->ts + test_next(&world->random) % (world->clock - pin->ts + 1);
}

static void check_checkpoint(struct world *world, uint64_t ts)
{
    struct test_store loaded;
    test_store_init(&loaded, 0);
    for (uint32_t table = 0; table < TABLES; table++) {
        const struct fragment *fragment = fragment_of(world, table);
        struct fragment *target = test_fragment(&loaded, table + 1);
        struct buf buf;
        buf_init(&buf);
        for (uint32_t page = 0; page < fragment_page_count(fragment); page++)
            fragment_page_encode(fragment, page, ts, &buf);
        cr_assert(!buf.failed);
        struct reader reader = reader_of(buf.bytes, buf.size);
        while (reader_left(&reader))
            cr_assert_eq(fragment_page_load(target, &reader), ERR_NONE);
        cr_assert_eq(fragment_load_end(target), ERR_NONE);
        buf_fini(&buf);
        check_pages(world, &loaded, table, ts, true);
    }
    test_verify(&loaded);
    test_store_fini(&loaded);
}

static void check_all(struct world *world)
{
    test_verify(&world->store);
    for (uint32_t table = 0; table < TABLES; table++) {
        check_pages(world, &world->store, table, world->clock, false);
        check_pages(world, &world->store, table, TS_LATEST, false);
        for (uint32_t i = 0; i < world->pin_count; i++)
            check_pages(world, &world->store, table, world->pins[i].ts, false);
        check_pages(world, &world->store, table, random_ts(world), false);
        check_pages(world, &world->replica, table, TS_LATEST, true);
        for (uint8_t index = 0; index < table_of(world, table)->index_count; index++) {
            for (uint32_t i = 0; i < 4; i++)
                check_cursor(world, table, index, random_ts(world), -1);
            int own = (int)test_below(&world->random, TRANSACTIONS);
            if (!any_locked(world, table, own)) check_cursor(world, table, index, 0, own);
        }
        uint64_t live = 0;
        for (uint32_t key = 0; key < world->key_count; key++) {
            const struct value *seen = model_seen(world, table, key);
            live += seen && !expired(world, table, seen);
        }
        cr_assert_eq(fragment_row_count(fragment_of(world, table)), live);
    }
}

static void step(struct world *world)
{
    struct test_random *random = &world->random;
    uint32_t table = test_below(random, TABLES);
    uint32_t key = test_below(random, world->key_count);
    int owner = (int)test_below(random, TRANSACTIONS);
    uint32_t choice = test_below(random, 1000);
    if (choice < 350)
        do_insert(world, table, key, owner);
    else if (choice < 650)
        do_update(world, table, key, owner);
    else if (choice < 800)
        do_delete(world, table, key, owner);
    else if (choice < 900)
        do_commit(world, owner);
    else if (choice < 940)
        do_rollback(world, owner);
    else if (choice < 955)
        do_pin(world);
    else if (choice < 962)
        do_settle(world);
    else if (choice < 975)
        do_unpin(world);
    else if (choice < 990)
        do_collect(world);
    else if (choice < 996)
        world->now_us += test_below(random, 1000000);
    else
        do_index(world, table);
    ldm_set_now(world->store.ldm, (uint64_t)world->now_us * 1000);
}

static void world_init(struct world *world, uint64_t seed, uint32_t key_count)
{
    memset(world, 0, sizeof(*world));
    world->random.state = seed;
    world->key_count = key_count;
    world->clock = 1000;
    world->now_us = INT64_C(1700000000000000);
    arena_init(&world->arena, 0);
    test_store_init(&world->store, 0);
    test_store_init(&world->replica, 0);
    for (uint32_t i = 0; i < TRANSACTIONS; i++)
        cr_assert_eq(change_set_create(world->store.ldm, &world->changes[i]), ERR_NONE);
    cr_assert_eq(change_set_create(world->replica.ldm, &world->replica_changes), ERR_NONE);
    for (uint32_t table = 0; table < TABLES; table++) {
        world->entities[table] = calloc(key_count, sizeof(*world->entities[table]));
        cr_assert(world->entities[table]);
        for (uint32_t key = 0; key < key_count; key++)
            world->entities[table][key].owner = -1;
    }
    ldm_set_now(world->store.ldm, (uint64_t)world->now_us * 1000);
}

/* With everything released and collected, no version and no dead row is left. */
static void world_drain(struct world *world)
{
    for (int i = 0; i < TRANSACTIONS; i++) {
        if (i % 2)
            do_commit(world, i);
        else
            do_rollback(world, i);
    }
    while (world->pin_count)
        do_unpin(world);
    while (ldm_collect(world->store.ldm, 1000, purge, world))
        ;
    check_all(world);
    for (uint32_t table = 0; table < TABLES; table++)
        for (uint32_t key = 0; key < world->key_count; key++) {
            uint32_t row;
            if (!do_find(world, table, key, 0, &row)) continue;
            do_delete(world, table, key, 0);
        }
    do_commit(world, 0);
    /* What is live and expired is hidden from do_find. */
    world->now_us += INT64_C(1000000000);
    ldm_set_now(world->store.ldm, (uint64_t)world->now_us * 1000);
    for (uint32_t i = 0; i < 100; i++)
        (void)ldm_collect(world->store.ldm, 100000, purge, world);
    check_all(world);
    struct ldm_memory memory;
    ldm_memory(world->store.ldm, &memory);
    cr_assert_lt(memory.versions, 2 << 20);
    /* Only descriptors of pages are left, 64 bytes each. */
    cr_assert_lt(memory.pages, 32 << 10);
}

static void world_fini(struct world *world)
{
    for (uint32_t i = 0; i < TRANSACTIONS; i++)
        change_set_destroy(world->changes[i]);
    change_set_destroy(world->replica_changes);
    for (uint32_t table = 0; table < TABLES; table++)
        free(world->entities[table]);
    test_store_fini(&world->store);
    test_store_fini(&world->replica);
    arena_fini(&world->arena);
}

static void run(uint64_t seed, uint32_t key_count, uint32_t steps, uint32_t check_every,
                bool with_faults)
{
    struct world world;
    world_init(&world, seed, key_count);
    world.with_faults = with_faults;
    for (uint32_t i = 0; i < steps; i++) {
        step(&world);
        if (i % check_every == check_every - 1) check_all(&world);
        if (i % (check_every * 10) == 0) check_checkpoint(&world, random_ts(&world));
    }
    cr_assert(!with_faults || world.fault_count > steps / 200);
    world.with_faults = false;
    world_drain(&world);
    world_fini(&world);
}

Test(model, few_rows_changed_over_and_over)
{
    for (uint64_t seed = 1; seed <= (SANITIZED ? 8 : 20); seed++)
        run(seed, 12, 3000, 50, false);
}

Test(model, many_rows_on_several_pages)
{
    for (uint64_t seed = 100; seed <= (SANITIZED ? 100 : 102); seed++)
        run(seed, KEYS_MAX, 20000, 2000, false);
}

Test(model, failed_allocations_change_nothing)
{
    for (uint64_t seed = 200; seed <= (SANITIZED ? 204 : 215); seed++)
        run(seed, 12, 3000, 50, true);
    for (uint64_t seed = 216; seed <= (SANITIZED ? 216 : 217); seed++)
        run(seed, KEYS_MAX, 15000, 1000, true);
}
