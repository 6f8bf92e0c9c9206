/* Inserting, finding, changing and deleting rows of one fragment: outcomes, locks, limits. */
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct change_set *mine;
    struct change_set *other;
    uint64_t ts;
};

static void fixture_init(struct fixture *fx, uint64_t memory_max)
{
    test_store_init(&fx->store, memory_max);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->mine), ERR_NONE);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->other), ERR_NONE);
    fx->ts = 100;
}

static void fixture_fini(struct fixture *fx)
{
    change_set_rollback(fx->mine);
    change_set_rollback(fx->other);
    while (ldm_collect(fx->store.ldm, 1000, NULL, NULL))
        ;
    test_verify(&fx->store);
    change_set_destroy(fx->mine);
    change_set_destroy(fx->other);
    test_store_fini(&fx->store);
}

static void commit(struct fixture *fx)
{
    change_set_commit(fx->mine, ++fx->ts);
}

/* A row of the first table. */
static enum err put(struct fixture *fx, struct change_set *changes, uint64_t id, struct value b)
{
    struct value values[6] = {value_u64(id), value_i64((int64_t)id), value_text("Text"), b,
                              value_null(),  value_f64(0.5)};
    uint32_t row;
    return fragment_insert(test_fragment(&fx->store, 1), changes, values, &row);
}

static enum err find(struct fixture *fx, struct change_set *changes, uint64_t id, uint32_t *ret_row)
{
    struct value key = value_u64(id);
    return fragment_find(test_fragment(&fx->store, 1), changes, &key, ret_row);
}

static enum err set_b(struct fixture *fx, struct change_set *changes, uint32_t row, struct value b)
{
    uint16_t column = 3;
    return fragment_update(test_fragment(&fx->store, 1), changes, row, &column, &b, 1);
}

static struct value get_b(struct fixture *fx, uint32_t row)
{
    return fragment_value(test_fragment(&fx->store, 1), row, 3);
}

#define ASSERT_TEXT(found, text)                                                                   \
    do {                                                                                           \
        struct value checked = (found);                                                            \
        cr_assert_eq(checked.kind, KIND_STR);                                                      \
        cr_assert_eq(checked.size, strlen(text));                                                  \
        cr_assert_arr_eq(checked.bytes, text, strlen(text));                                       \
    } while (0)

Test(fragment, insert_rejects_a_key_that_is_there)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("a")), ERR_NONE);
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("b")), ERR_EXISTS);
    commit(&fx);
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("b")), ERR_EXISTS);
    cr_assert_eq(fragment_row_count(test_fragment(&fx.store, 1)), 1);
    fixture_fini(&fx);
}

Test(fragment, equal_keys_of_another_case_are_the_same_key)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct fragment *fragment = test_fragment(&fx.store, 2);
    struct value values[6] = {value_u64(7),     value_text("ReadMe"), value_i64(1),
                              value_text("ab"), value_null(),         value_null()};
    uint32_t row;
    uint32_t found;
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    commit(&fx);
    values[1] = value_text("README");
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &found), ERR_EXISTS);
    cr_assert_eq(fragment_find(fragment, NULL, values, &found), ERR_NONE);
    cr_assert_eq(found, row);
    ASSERT_TEXT(fragment_value(fragment, row, 1), "ReadMe");
    /* BINARY is read back as long as its column. */
    cr_assert_eq(fragment_value(fragment, row, 3).size, 5);
    /* Deleted and inserted in one transaction, the new spelling stands. */
    cr_assert_eq(fragment_delete(fragment, fx.mine, row), ERR_NONE);
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    commit(&fx);
    ASSERT_TEXT(fragment_value(fragment, row, 1), "README");
    fixture_fini(&fx);
}

/* What is fetched ahead is a guess: the row that follows may be there, gone or never have been, or
 * be named by a NULL, and another fragment's key may be of another kind. */
Test(fragment, what_is_fetched_ahead_changes_no_answer)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct fragment *ordered = test_fragment(&fx.store, 2);
    const uint16_t columns[] = {0, 1, 4};
    uint32_t row, made[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct value values[6] = {value_u64(i), value_text("name"), value_i64(1),
                                  value_null(), value_null(),       value_null()};
        cr_assert_eq(fragment_insert(ordered, fx.mine, values, &made[i]), ERR_NONE);
    }
    struct value next[6] = {value_u64(1),    value_null(), value_null(),
                            value_text("b"), value_null(), value_f64(1)};
    cr_assert_eq(fragment_insert(test_fragment(&fx.store, 1), fx.mine, next, &row), ERR_NONE);
    commit(&fx);
    for (uint32_t table = 1; table <= 3; table++) {
        for (uint16_t column = 0; column < 6; column++) {
            const struct read_ahead ahead = {.columns = columns,
                                             .count = 3,
                                             .then = test_fragment(&fx.store, table),
                                             .then_column = column,
                                             .then_columns = columns,
                                             .then_count = 2};
            for (uint32_t i = 0; i < 3; i++) {
                const struct value key[] = {value_u64(i), value_text("NAME")};
                cr_assert_eq(fragment_find_ahead(ordered, NULL, key, &ahead, &row), ERR_NONE);
                cr_assert_eq(row, made[i]);
            }
            const struct value absent[] = {value_u64(1), value_text("other")};
            cr_assert_eq(fragment_find_ahead(ordered, NULL, absent, &ahead, &row), ERR_NOT_FOUND);
        }
    }
    fixture_fini(&fx);
}

Test(fragment, a_row_being_changed_is_locked_to_others)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    uint32_t row;
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("a")), ERR_NONE);
    cr_assert_eq(find(&fx, fx.other, 1, &row), ERR_CONFLICT);
    cr_assert_eq(find(&fx, NULL, 1, &row), ERR_CONFLICT);
    cr_assert_eq(put(&fx, fx.other, 1, value_text("b")), ERR_CONFLICT);
    cr_assert_eq(find(&fx, fx.mine, 1, &row), ERR_NONE);
    commit(&fx);
    cr_assert_eq(fragment_delete(test_fragment(&fx.store, 1), fx.mine, row), ERR_NONE);
    cr_assert_eq(find(&fx, fx.mine, 1, &row), ERR_NOT_FOUND);
    cr_assert_eq(find(&fx, fx.other, 1, &row), ERR_CONFLICT);
    cr_assert_eq(put(&fx, fx.other, 1, value_text("b")), ERR_CONFLICT);
    cr_assert_eq(set_b(&fx, fx.other, row, value_text("b")), ERR_CONFLICT);
    cr_assert_eq(fragment_delete(test_fragment(&fx.store, 1), fx.other, row), ERR_CONFLICT);
    change_set_rollback(fx.mine);
    cr_assert_eq(find(&fx, fx.other, 1, &row), ERR_NONE);
    fixture_fini(&fx);
}

Test(fragment, an_update_that_changes_nothing_takes_no_lock)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    uint32_t row;
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("same")), ERR_NONE);
    commit(&fx);
    cr_assert_eq(find(&fx, NULL, 1, &row), ERR_NONE);
    cr_assert_eq(set_b(&fx, fx.mine, row, value_text("same")), ERR_NONE);
    cr_assert(change_set_is_empty(fx.mine));
    fixture_fini(&fx);
}

Test(fragment, update_refuses_key_columns_unknown_columns_and_bad_values)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct fragment *fragment = test_fragment(&fx.store, 1);
    uint32_t row;
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("a")), ERR_NONE);
    commit(&fx);
    cr_assert_eq(find(&fx, NULL, 1, &row), ERR_NONE);
    struct value values[2] = {value_u64(2), value_u64(3)};
    uint16_t key[1] = {0};
    uint16_t unknown[1] = {6};
    uint16_t twice[2] = {1, 1};
    uint16_t b[1] = {3};
    cr_assert_eq(fragment_update(fragment, fx.mine, row, key, values, 1), ERR_INVALID);
    cr_assert_eq(fragment_update(fragment, fx.mine, row, unknown, values, 1), ERR_INVALID);
    cr_assert_eq(fragment_update(fragment, fx.mine, row, twice, values, 2), ERR_INVALID);
    cr_assert_eq(fragment_update(fragment, fx.mine, row, b, values, 1), ERR_INVALID);
    values[0] = value_null();
    cr_assert_eq(fragment_update(fragment, fx.mine, row, b, values, 1), ERR_NULL_VALUE);
    uint16_t a[1] = {1};
    values[0] = value_i64(INT64_C(1) << 40);
    cr_assert_eq(fragment_update(fragment, fx.mine, row, a, values, 1), ERR_OUT_OF_RANGE);
    cr_assert(change_set_is_empty(fx.mine));
    cr_assert_eq(fragment_value(fragment, row, 1).i, 1);
    fixture_fini(&fx);
}

Test(fragment, values_may_be_borrowed_from_the_rows_they_replace)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct fragment *fragment = test_fragment(&fx.store, 1);
    uint32_t rows[40];
    char text[200];
    for (uint64_t i = 0; i < 40; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof(text));
        cr_assert_eq(put(&fx, fx.mine, i, value_str(text, 150)), ERR_NONE);
        cr_assert_eq(find(&fx, fx.mine, i, &rows[i]), ERR_NONE);
    }
    commit(&fx);
    /* Each takes the next one's value while the heap grows and is rebuilt under it. */
    for (uint32_t round = 0; round < 20; round++) {
        uint8_t first = get_b(&fx, rows[0]).bytes[0];
        for (uint32_t i = 0; i + 1 < 40; i++) {
            cr_assert_eq(set_b(&fx, fx.mine, rows[i], get_b(&fx, rows[i + 1])), ERR_NONE);
            commit(&fx);
        }
        memset(text, first, sizeof(text));
        cr_assert_eq(set_b(&fx, fx.mine, rows[39], value_str(text, 150)), ERR_NONE);
        commit(&fx);
    }
    for (uint32_t i = 0; i < 40; i++) {
        struct value b = get_b(&fx, rows[i]);
        memset(text, 'a' + (int)((i + 20) % 40 % 26), sizeof(text));
        cr_assert_eq(b.size, 150);
        cr_assert_arr_eq(b.bytes, text, 150);
    }
    /* A row's own values, into an insert. */
    struct value values[6];
    for (uint16_t i = 0; i < 6; i++)
        values[i] = fragment_value(fragment, rows[3], i);
    values[0] = value_u64(1000);
    uint32_t row;
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    cr_assert_arr_eq(get_b(&fx, row).bytes, get_b(&fx, rows[3]).bytes, 150);
    fixture_fini(&fx);
}

Test(fragment, binary_columns_can_be_exchanged)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct catalog *catalog = catalog_copy(fx.store.catalog);
    cr_assert(catalog);
    catalog->next_table_id--;
    struct table_def *table = test_table(catalog, "two_binaries");
    test_column(table, "id", TYPE_TINYINT, 0, false);
    test_column(table, "x", TYPE_BINARY, 3, false);
    test_column(table, "y", TYPE_BINARY, 3, false);
    test_index(table, "PRIMARY", INDEX_HASH, 1, 0, 0);
    table->partition_column_count = 1;
    catalog->next_table_id++;
    cr_assert_eq(partition_set_catalog(fx.store.partition, catalog), ERR_NONE);
    catalog_destroy(fx.store.catalog);
    fx.store.catalog = catalog;
    struct fragment *fragment = test_fragment(&fx.store, table->id);
    struct value values[3] = {value_i64(-1), value_text("abc"), value_text("xy")};
    uint32_t row;
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    uint16_t columns[2] = {1, 2};
    struct value swapped[2] = {fragment_value(fragment, row, 2), fragment_value(fragment, row, 1)};
    cr_assert_eq(fragment_update(fragment, fx.mine, row, columns, swapped, 2), ERR_NONE);
    cr_assert_arr_eq(fragment_value(fragment, row, 1).bytes, "xy\0", 3);
    cr_assert_arr_eq(fragment_value(fragment, row, 2).bytes, "abc", 3);
    change_set_rollback(fx.mine);
    cr_assert_eq(fragment_find(fragment, NULL, values, &row), ERR_NOT_FOUND);
    fixture_fini(&fx);
}

Test(fragment, values_of_every_size_survive_in_full_pages)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    enum { ROWS = 700 };
    static uint8_t bytes[5000];
    for (uint32_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    /* More than a page's heap may hold, and longer than fits a heap at all. */
    for (uint32_t i = 0; i < ROWS; i++)
        cr_assert_eq(put(&fx, fx.mine, i, value_str(bytes + i % 9, i * 13 % 4900)), ERR_NONE);
    commit(&fx);
    test_verify(&fx.store);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t row;
            cr_assert_eq(find(&fx, NULL, i, &row), ERR_NONE);
            uint32_t size = (i + round * 41) * 13 % 4900;
            struct value b = get_b(&fx, row);
            cr_assert_eq(b.size, size);
            cr_assert(size == 0 || memcmp(b.bytes, bytes + (i + round) % 9, size) == 0);
            size = (i + (round + 1) * 41) * 13 % 4900;
            b = value_str(bytes + (i + round + 1) % 9, size);
            cr_assert_eq(set_b(&fx, fx.mine, row, b), ERR_NONE);
            if (i % 3 == 0) {
                change_set_rollback(fx.mine);
                cr_assert_eq(set_b(&fx, fx.mine, row, b), ERR_NONE);
            }
            commit(&fx);
        }
    }
    fixture_fini(&fx);
}

Test(fragment, a_full_store_refuses_inserts_and_growth_but_not_rollback)
{
    struct fixture fx;
    fixture_init(&fx, 3 << 20);
    static const uint8_t bytes[900];
    uint64_t count = 0;
    enum err err;
    while ((err = put(&fx, fx.mine, count, value_str(bytes, 900))) == ERR_NONE) {
        count++;
        if (count % 100 == 0) commit(&fx);
    }
    cr_assert_eq(err, ERR_NO_SPACE);
    cr_assert_gt(count, 1000);
    struct ldm_memory memory;
    ldm_memory(fx.store.ldm, &memory);
    cr_assert_leq(memory.pages, 3 << 20);
    /* A key that is there is still told so. */
    cr_assert_eq(put(&fx, fx.mine, 1, value_text("")), ERR_EXISTS);
    uint32_t row;
    cr_assert_eq(find(&fx, fx.mine, 5, &row), ERR_NONE);
    static const uint8_t large[5000];
    for (uint32_t i = 0; err != ERR_NO_SPACE || i == 0; i++)
        err = set_b(&fx, fx.mine, row, value_str(large, 5000 - i % 2));
    change_set_rollback(fx.mine);
    test_verify(&fx.store);
    /* What deletes free can be used again. */
    commit(&fx);
    for (uint64_t id = 0; id < 900; id++) {
        if (find(&fx, NULL, id, &row)) continue;
        cr_assert_eq(fragment_delete(test_fragment(&fx.store, 1), fx.mine, row), ERR_NONE);
    }
    commit(&fx);
    for (uint64_t id = 0; id < 500; id++)
        cr_assert_eq(put(&fx, fx.mine, 100000 + id, value_str(bytes, 900)), ERR_NONE);
    fixture_fini(&fx);
}

Test(fragment, memory_of_deleted_rows_goes_back)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    static const uint8_t bytes[2000];
    for (uint64_t id = 0; id < 5000; id++)
        cr_assert_eq(put(&fx, fx.mine, id, value_str(bytes, (uint32_t)(id % 2000))), ERR_NONE);
    commit(&fx);
    struct ldm_memory full;
    ldm_memory(fx.store.ldm, &full);
    for (uint64_t id = 0; id < 5000; id++) {
        uint32_t row;
        cr_assert_eq(find(&fx, NULL, id, &row), ERR_NONE);
        cr_assert_eq(fragment_delete(test_fragment(&fx.store, 1), fx.mine, row), ERR_NONE);
        if (id % 64 == 0) commit(&fx);
    }
    commit(&fx);
    struct ldm_memory empty;
    ldm_memory(fx.store.ldm, &empty);
    cr_assert_gt(full.pages, 4 << 20);
    cr_assert_lt(empty.pages, 64 << 10);
    cr_assert_eq(fragment_row_count(test_fragment(&fx.store, 1)), 0);
    fixture_fini(&fx);
}

Test(fragment, expired_rows_are_invisible_at_once_and_purged_by_and_by)
{
    struct fixture fx;
    fixture_init(&fx, 0);
    struct fragment *fragment = test_fragment(&fx.store, 3);
    const int64_t second = 1000000;
    ldm_set_now(fx.store.ldm, 1000 * UINT64_C(1000000000));
    uint32_t row;
    for (int64_t i = 0; i < 2000; i++) {
        struct value values[4] = {value_i64(i), value_i64((900 + i % 101) * second), value_null(),
                                  value_u64(1)};
        if (i == 77) values[1] = value_null();
        cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    }
    commit(&fx);
    /* Those made in the last ten seconds, and the one that never expires. */
    uint32_t alive = 0;
    for (int64_t i = 0; i < 2000; i++)
        alive += i == 77 || 900 + i % 101 > 990;
    cr_assert_eq(fragment_row_count(fragment), alive);
    struct value key = value_i64(0);
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NOT_FOUND);
    key = value_i64(77);
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NONE);
    key = value_i64(99);
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NONE);
    ldm_set_now(fx.store.ldm, 1009 * UINT64_C(1000000000));
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NOT_FOUND);
    /* An expired row gives way to an insert; a rollback brings it back, expired. */
    struct value values[4] = {key, value_i64(1009 * second), value_null(), value_u64(2)};
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    cr_assert_eq(fragment_find(fragment, fx.mine, &key, &row), ERR_NONE);
    cr_assert_eq(fragment_value(fragment, row, 3).u, 2);
    change_set_rollback(fx.mine);
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NOT_FOUND);
    cr_assert_eq(fragment_insert(fragment, fx.mine, values, &row), ERR_NONE);
    commit(&fx);
    cr_assert_eq(fragment_find(fragment, NULL, &key, &row), ERR_NONE);
    fixture_fini(&fx);
}
