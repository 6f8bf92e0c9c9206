/* Partitions that follow a catalog: tables and indexes that come and go over rows with old
 * versions. */
#include "tests/unit/db/ldm/faults.h"
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct change_set *changes;
    uint64_t ts;
};

static void fixture_init(struct fixture *fx)
{
    test_store_init(&fx->store, 0);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->changes), ERR_NONE);
    fx->ts = 100;
}

static void fixture_fini(struct fixture *fx)
{
    change_set_rollback(fx->changes);
    while (ldm_collect(fx->store.ldm, 1000, NULL, NULL))
        ;
    test_verify(&fx->store);
    change_set_destroy(fx->changes);
    test_store_fini(&fx->store);
}

static void publish(struct fixture *fx, struct catalog *catalog)
{
    enum err err = partition_set_catalog(fx->store.partition, catalog);
    cr_assert_eq(err, ERR_NONE, "%s", err_name(err));
    catalog_destroy(fx->store.catalog);
    fx->store.catalog = catalog;
}

static struct catalog *without_table(const struct catalog *catalog, uint32_t position)
{
    struct catalog *copy = catalog_copy(catalog);
    cr_assert(copy);
    table_def_destroy(copy->tables[position]);
    memmove(&copy->tables[position], &copy->tables[position + 1],
            (copy->table_count - position - 1) * sizeof(copy->tables[0]));
    copy->table_count--;
    return copy;
}

static void fill(struct fixture *fx, int64_t count)
{
    struct fragment *fragment = test_fragment(&fx->store, 3);
    for (int64_t k = 0; k < count; k++) {
        struct value values[4] = {value_i64(k), value_null(), value_text("note"),
                                  value_u64((uint64_t)k % 7)};
        uint32_t row;
        cr_assert_eq(fragment_insert(fragment, fx->changes, values, &row), ERR_NONE);
    }
    change_set_commit(fx->changes, ++fx->ts);
}

static void change(struct fixture *fx, int64_t k, uint64_t n)
{
    struct fragment *fragment = test_fragment(&fx->store, 3);
    struct value key = value_i64(k);
    uint16_t column = 3;
    struct value value = value_u64(n);
    uint32_t row;
    cr_assert_eq(fragment_find(fragment, fx->changes, &key, &row), ERR_NONE);
    cr_assert_eq(fragment_update(fragment, fx->changes, row, &column, &value, 1), ERR_NONE);
}

static struct catalog *with_index(const struct catalog *catalog)
{
    struct catalog *copy = catalog_copy(catalog);
    cr_assert(copy);
    struct table_def *table = copy->tables[2];
    test_index(table, "by_n", INDEX_ORDERED, 1, 3, 0);
    table->version++;
    cr_assert_eq(table_def_check(table, NULL), ERR_NONE);
    return copy;
}

static uint32_t count_by_n(struct fixture *fx, uint64_t n, uint64_t ts)
{
    struct value eq = value_u64(n);
    struct index_bounds bounds = {.eq = &eq, .eq_count = 1};
    struct index_cursor cursor;
    uint32_t row;
    uint32_t count = 0;
    cr_assert_eq(index_cursor_open(&cursor, test_fragment(&fx->store, 3), 2, &bounds, false, ts,
                                   fx->changes),
                 ERR_NONE);
    while (index_cursor_next(&cursor, &row) == ERR_NONE)
        count++;
    return count;
}

Test(partition, an_empty_store_of_many_tables_is_small)
{
    struct fixture fx;
    fixture_init(&fx);
    struct catalog *catalog = catalog_copy(fx.store.catalog);
    catalog->next_table_id--;
    for (uint32_t i = 0; i < 200; i++) {
        char name[20];
        snprintf(name, sizeof(name), "table%u", i);
        struct table_def *table = test_table(catalog, name);
        test_column(table, "id", TYPE_BIGINT, 0, false);
        test_index(table, "PRIMARY", i % 2 ? INDEX_HASH : INDEX_ORDERED, 1, 0, 0);
        table->partition_column_count = 1;
    }
    catalog->next_table_id++;
    publish(&fx, catalog);
    struct ldm_memory memory;
    ldm_memory(fx.store.ldm, &memory);
    cr_assert_lt(memory.pages + memory.indexes + memory.versions + memory.other, 1 << 20);
    for (uint32_t i = 0; i < catalog->table_count; i++)
        cr_assert_eq(fragment_table(test_fragment(&fx.store, catalog->tables[i]->id)),
                     catalog->tables[i]);
    cr_assert_null(partition_fragment(fx.store.partition, catalog->next_table_id));
    cr_assert_null(partition_fragment(fx.store.partition, 100000));
    fixture_fini(&fx);
}

Test(partition, a_dropped_table_goes_with_rows_and_old_versions)
{
    struct fixture fx;
    fixture_init(&fx);
    fill(&fx, 3000);
    cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts), ERR_NONE);
    uint64_t pinned = fx.ts;
    for (int64_t k = 0; k < 1000; k++)
        change(&fx, k, 50);
    /* Another table's versions stay. */
    struct value values[6] = {value_u64(1),    value_null(), value_null(),
                              value_text("b"), value_null(), value_f64(0)};
    uint32_t row;
    cr_assert_eq(fragment_insert(test_fragment(&fx.store, 1), fx.changes, values, &row), ERR_NONE);
    struct catalog *catalog = without_table(fx.store.catalog, 2);
    cr_assert_eq(partition_set_catalog(fx.store.partition, catalog), ERR_BUSY);
    cr_assert_eq(partition_catalog(fx.store.partition), fx.store.catalog);
    change_set_commit(fx.changes, ++fx.ts);
    publish(&fx, catalog);
    cr_assert_null(partition_fragment(fx.store.partition, 3));
    cr_assert_not(fragment_visible_at(test_fragment(&fx.store, 1), row, pinned));
    ldm_unpin(fx.store.ldm, pinned);
    struct ldm_memory memory;
    ldm_memory(fx.store.ldm, &memory);
    cr_assert_lt(memory.pages, 128 << 10);
    fixture_fini(&fx);
}

Test(partition, a_new_index_knows_old_versions_and_open_changes)
{
    struct fixture fx;
    fixture_init(&fx);
    fill(&fx, 700);
    cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts), ERR_NONE);
    uint64_t pinned = fx.ts;
    change(&fx, 0, 1000);
    change_set_commit(fx.changes, ++fx.ts);
    change(&fx, 0, 0); /* back to an older key, uncommitted */
    change(&fx, 7, 2000);
    publish(&fx, with_index(fx.store.catalog));
    test_verify(&fx.store);
    cr_assert_eq(count_by_n(&fx, 0, pinned), 100);
    cr_assert_eq(count_by_n(&fx, 1000, pinned), 0);
    cr_assert_eq(count_by_n(&fx, 1000, fx.ts), 1);
    cr_assert_eq(count_by_n(&fx, 0, fx.ts), 99);
    cr_assert_eq(count_by_n(&fx, 2000, TS_LATEST), 1);
    cr_assert_eq(count_by_n(&fx, 0, TS_LATEST), 99);
    change_set_rollback(fx.changes);
    test_verify(&fx.store);
    cr_assert_eq(count_by_n(&fx, 1000, TS_LATEST), 1);
    ldm_unpin(fx.store.ldm, pinned);
    while (ldm_collect(fx.store.ldm, 10, NULL, NULL))
        ;
    test_verify(&fx.store);
    cr_assert_eq(count_by_n(&fx, 0, TS_LATEST), 99);
    struct catalog *catalog = catalog_copy(fx.store.catalog);
    catalog->tables[2]->index_count--;
    catalog->tables[2]->version++;
    publish(&fx, catalog);
    fixture_fini(&fx);
}

Test(partition, other_columns_or_another_primary_key_are_refused)
{
    struct fixture fx;
    fixture_init(&fx);
    struct catalog *catalog = catalog_copy(fx.store.catalog);
    catalog->tables[1]->columns[2].type = TYPE_INT;
    cr_assert_eq(partition_set_catalog(fx.store.partition, catalog), ERR_UNSUPPORTED);
    catalog_destroy(catalog);
    catalog = catalog_copy(fx.store.catalog);
    catalog->tables[1]->indexes[0].has_hash = true;
    cr_assert_eq(partition_set_catalog(fx.store.partition, catalog), ERR_UNSUPPORTED);
    catalog_destroy(catalog);
    fixture_fini(&fx);
}

Test(partition, keys_too_long_for_an_index_refuse_it)
{
    struct fixture fx;
    fixture_init(&fx);
    struct catalog *catalog = catalog_copy(fx.store.catalog);
    catalog->next_table_id--;
    struct table_def *table = test_table(catalog, "zeros");
    test_column(table, "id", TYPE_BIGINT, 0, false);
    test_column(table, "z", TYPE_VARBINARY, 1000, false);
    test_index(table, "PRIMARY", INDEX_HASH, 1, 0, 0);
    table->partition_column_count = 1;
    catalog->next_table_id++;
    publish(&fx, catalog);
    static const uint8_t zeros[1000];
    struct value values[2] = {value_i64(1), value_str(zeros, 1000)};
    struct fragment *fragment = test_fragment(&fx.store, table->id);
    uint32_t row;
    cr_assert_eq(fragment_insert(fragment, fx.changes, values, &row), ERR_NONE);
    change_set_commit(fx.changes, ++fx.ts);
    catalog = catalog_copy(fx.store.catalog);
    table = catalog->tables[3];
    test_index(table, "by_z", INDEX_ORDERED, 1, 1, 0);
    table->version++;
    cr_assert_eq(partition_set_catalog(fx.store.partition, catalog), ERR_TOO_BIG);
    cr_assert_eq(fragment_delete(fragment, fx.changes, row), ERR_NONE);
    change_set_commit(fx.changes, ++fx.ts);
    publish(&fx, catalog);
    /* And from then on such values are refused. */
    cr_assert_eq(fragment_insert(fragment, fx.changes, values, &row), ERR_TOO_BIG);
    values[1].size = 500;
    cr_assert_eq(fragment_insert(fragment, fx.changes, values, &row), ERR_NONE);
    uint16_t column = 1;
    values[1].size = 999;
    cr_assert_eq(fragment_update(fragment, fx.changes, row, &column, &values[1], 1), ERR_TOO_BIG);
    cr_assert_eq(fragment_value(fragment, row, 1).size, 500);
    fixture_fini(&fx);
}

Test(partition, a_failed_allocation_leaves_the_old_catalog_in_force)
{
    struct fixture fx;
    fixture_init(&fx);
    fill(&fx, 600);
    struct catalog *catalog = with_index(fx.store.catalog);
    catalog->next_table_id--;
    struct table_def *table = test_table(catalog, "more");
    test_column(table, "id", TYPE_BIGINT, 0, false);
    test_index(table, "PRIMARY", INDEX_ORDERED, 1, 0, 0)->has_hash = true;
    table->partition_column_count = 1;
    catalog->next_table_id++;
    uint64_t failures = 0;
    for (uint64_t k = 1;; k++) {
        fault_arm(k);
        enum err err = partition_set_catalog(fx.store.partition, catalog);
        if (!fault_disarm()) {
            cr_assert_eq(err, ERR_NONE);
            break;
        }
        cr_assert_eq(err, ERR_NO_MEMORY);
        cr_assert_eq(partition_catalog(fx.store.partition), fx.store.catalog);
        cr_assert_null(partition_fragment(fx.store.partition, table->id));
        test_verify(&fx.store);
        failures++;
    }
    cr_assert_gt(failures, 8);
    catalog_destroy(fx.store.catalog);
    fx.store.catalog = catalog;
    cr_assert_eq(count_by_n(&fx, 3, TS_LATEST), 600 / 7 + 1);
    fixture_fini(&fx);
}
