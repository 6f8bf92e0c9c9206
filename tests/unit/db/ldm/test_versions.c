/* Old versions: what pins keep, how much of it, and when it goes. */
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct change_set *changes;
    struct fragment *fragment; /* the third table: k, made, note, n */
    uint64_t ts;
};

static void fixture_init(struct fixture *fx)
{
    test_store_init(&fx->store, 0);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->changes), ERR_NONE);
    fx->fragment = test_fragment(&fx->store, 3);
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

static void commit(struct fixture *fx)
{
    change_set_commit(fx->changes, ++fx->ts);
}

static uint32_t put(struct fixture *fx, int64_t k, const char *note, uint64_t n)
{
    struct value values[4] = {value_i64(k), value_null(), value_text(note), value_u64(n)};
    uint32_t row;
    cr_assert_eq(fragment_insert(fx->fragment, fx->changes, values, &row), ERR_NONE);
    return row;
}

static void set(struct fixture *fx, uint32_t row, uint16_t column, struct value value)
{
    cr_assert_eq(fragment_update(fx->fragment, fx->changes, row, &column, &value, 1), ERR_NONE);
}

static uint64_t n_at(struct fixture *fx, uint32_t row, uint64_t ts)
{
    return fragment_value_at(fx->fragment, row, 3, ts).u;
}

static uint64_t version_bytes(struct fixture *fx)
{
    struct ldm_memory memory;
    ldm_memory(fx->store.ldm, &memory);
    return memory.versions;
}

/* Verifying so many rows that share a key in an index would take long. */
static void delete_all(struct fixture *fx, struct fragment *fragment)
{
    for (uint32_t row = 0; row < fragment_page_count(fragment) * FRAGMENT_PAGE_ROWS; row++)
        if (fragment_visible_at(fragment, row, TS_LATEST))
            cr_assert_eq(fragment_delete(fragment, fx->changes, row), ERR_NONE);
    commit(fx);
}

Test(versions, a_pin_keeps_every_later_version)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "n", 0);
    commit(&fx);
    uint64_t pinned = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, pinned), ERR_NONE);
    for (uint64_t n = 1; n <= 50; n++) {
        set(&fx, row, 3, value_u64(n));
        commit(&fx);
    }
    for (uint64_t n = 0; n <= 50; n++)
        cr_assert_eq(n_at(&fx, row, pinned + n), n);
    cr_assert_eq(n_at(&fx, row, TS_LATEST), 50);
    cr_assert_eq(ldm_collect(fx.store.ldm, 100, NULL, NULL), 0);
    ldm_unpin(fx.store.ldm, pinned);
    cr_assert_eq(ldm_collect(fx.store.ldm, 20, NULL, NULL), 20, "no more than the budget");
    cr_assert_eq(ldm_collect(fx.store.ldm, 100, NULL, NULL), 30);
    cr_assert_eq(ldm_collect(fx.store.ldm, 100, NULL, NULL), 0);
    fixture_fini(&fx);
}

Test(versions, uncommitted_changes_are_seen_by_nobody_else)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "n", 1);
    cr_assert_not(fragment_visible_at(fx.fragment, row, TS_LATEST));
    commit(&fx);
    cr_assert(fragment_visible_at(fx.fragment, row, TS_LATEST));
    cr_assert_eq(fragment_delete(fx.fragment, fx.changes, row), ERR_NONE);
    cr_assert(fragment_visible_at(fx.fragment, row, TS_LATEST));
    cr_assert_eq(put(&fx, 1, "again", 2), row);
    cr_assert_eq(n_at(&fx, row, TS_LATEST), 1);
    uint16_t slots[FRAGMENT_PAGE_ROWS];
    cr_assert_eq(fragment_page_select(fx.fragment, 0, TS_LATEST, slots), 1);
    uint64_t number;
    uint8_t null;
    struct vector vector = {.u = &number, .nulls = &null};
    fragment_page_gather(fx.fragment, 0, TS_LATEST, 3, slots, 1, &vector);
    cr_assert_eq(number, 1);
    commit(&fx);
    cr_assert_eq(n_at(&fx, row, TS_LATEST), 2);
    fixture_fini(&fx);
}

Test(versions, a_deleted_row_stays_readable_when_its_key_is_used_again)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "old", 1);
    commit(&fx);
    uint64_t old = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, old), ERR_NONE);
    cr_assert_eq(fragment_delete(fx.fragment, fx.changes, row), ERR_NONE);
    commit(&fx);
    uint64_t none = fx.ts;
    uint32_t again = put(&fx, 1, "a new and longer note", 2);
    commit(&fx);
    cr_assert(fragment_visible_at(fx.fragment, row, old));
    cr_assert_not(fragment_visible_at(fx.fragment, row, none));
    struct value note = fragment_value_at(fx.fragment, row, 2, old);
    cr_assert_eq(note.size, 3);
    cr_assert_arr_eq(note.bytes, "old", 3);
    cr_assert(fragment_visible_at(fx.fragment, again, TS_LATEST));
    cr_assert_eq(n_at(&fx, again, TS_LATEST), 2);
    test_verify(&fx.store);
    ldm_unpin(fx.store.ldm, old);
    fixture_fini(&fx);
}

Test(versions, a_settled_pin_keeps_one_version_of_a_row_changed_a_million_times)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "a note", 7);
    uint32_t counter = put(&fx, 2, "", 0);
    commit(&fx);
    uint64_t pinned = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, pinned), ERR_NONE);
    ldm_pin_settle(fx.store.ldm, pinned, pinned + 10);
    fx.ts += 20;
    uint64_t before = version_bytes(&fx);
    for (uint64_t i = 1; i <= 100000; i++) {
        set(&fx, counter, 3, value_u64(i % 60000));
        if (i % 5 == 0) set(&fx, row, 3, value_u64(i % 50000));
        /* A column that the first change did not touch, and an index entry with it. */
        if (i % 7 == 0) set(&fx, row, 2, value_text(i % 2 ? "x" : "another"));
        if (i % 9 == 0) set(&fx, row, 1, value_i64((int64_t)(i % 1000)));
        commit(&fx);
    }
    cr_assert_lt(version_bytes(&fx), before + (128 << 10));
    cr_assert_eq(n_at(&fx, row, pinned + 10), 7);
    cr_assert_eq(n_at(&fx, counter, pinned + 10), 0);
    cr_assert_eq(fragment_value_at(fx.fragment, row, 2, pinned + 10).size, 6);
    cr_assert(value_is_null(fragment_value_at(fx.fragment, row, 1, pinned + 10)));
    test_verify(&fx.store);
    ldm_unpin(fx.store.ldm, pinned + 10);
    fixture_fini(&fx);
}

Test(versions, changes_between_two_settled_pins_keep_one_version_for_each)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "", 0);
    commit(&fx);
    uint64_t pins[5];
    for (uint64_t p = 0; p < 5; p++) {
        pins[p] = fx.ts;
        cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts), ERR_NONE);
        ldm_pin_settle(fx.store.ldm, fx.ts, fx.ts);
        for (uint64_t i = 1; i <= 10; i++) {
            set(&fx, row, 3, value_u64(p * 10 + i));
            commit(&fx);
        }
    }
    for (uint64_t p = 0; p < 5; p++)
        cr_assert_eq(n_at(&fx, row, pins[p]), p * 10);
    /* The middle one goes first. */
    ldm_unpin(fx.store.ldm, pins[2]);
    set(&fx, row, 3, value_u64(1000));
    commit(&fx);
    cr_assert_eq(n_at(&fx, row, pins[1]), 10);
    cr_assert_eq(n_at(&fx, row, pins[3]), 30);
    ldm_unpin(fx.store.ldm, pins[0]);
    ldm_unpin(fx.store.ldm, pins[1]);
    while (ldm_collect(fx.store.ldm, 10, NULL, NULL))
        ;
    test_verify(&fx.store);
    cr_assert_eq(n_at(&fx, row, pins[3]), 30);
    ldm_unpin(fx.store.ldm, pins[3]);
    ldm_unpin(fx.store.ldm, pins[4]);
    fixture_fini(&fx);
}

Test(versions, memory_of_a_long_snapshot_goes_back)
{
    struct fixture fx;
    fixture_init(&fx);
    cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts), ERR_NONE);
    uint64_t pinned = fx.ts;
    for (int64_t k = 0; k < 20000; k++) {
        put(&fx, k, "some text", 1);
        commit(&fx);
    }
    cr_assert_gt(version_bytes(&fx), 20000 * 32);
    ldm_unpin(fx.store.ldm, pinned);
    while (ldm_collect(fx.store.ldm, 1000, NULL, NULL))
        ;
    cr_assert_lt(version_bytes(&fx), 512 << 10);
    delete_all(&fx, fx.fragment);
    fixture_fini(&fx);
}

/* Inserts n rows, changes row 0 and deletes row 1 of a fragment, each in a transaction. */
static void change_some(struct fixture *fx, struct fragment *fragment, int64_t first, int64_t count)
{
    for (int64_t k = first; k < first + count; k++) {
        struct value values[4] = {value_i64(k), value_null(), value_text("new"), value_u64(9)};
        uint32_t row;
        cr_assert_eq(fragment_insert(fragment, fx->changes, values, &row), ERR_NONE);
        commit(fx);
    }
    uint16_t column = 3;
    struct value value = value_u64(77);
    cr_assert_eq(fragment_update(fragment, fx->changes, 0, &column, &value, 1), ERR_NONE);
    commit(fx);
    cr_assert_eq(fragment_delete(fragment, fx->changes, 1), ERR_NONE);
    commit(fx);
}

Test(versions, a_pin_of_one_partition_keeps_nothing_of_the_others)
{
    struct fixture fx;
    fixture_init(&fx);
    struct partition *other_partition;
    cr_assert_eq(partition_create(fx.store.ldm, 6, &other_partition), ERR_NONE);
    cr_assert_eq(partition_set_catalog(other_partition, fx.store.catalog), ERR_NONE);
    struct fragment *other = partition_fragment(other_partition, 3);
    for (uint32_t i = 0; i < 2; i++) {
        struct value values[4] = {value_i64(i), value_null(), value_text("old"), value_u64(1)};
        uint32_t row;
        cr_assert_eq(fragment_insert(fx.fragment, fx.changes, values, &row), ERR_NONE);
        cr_assert_eq(row, i);
        cr_assert_eq(fragment_insert(other, fx.changes, values, &row), ERR_NONE);
        cr_assert_eq(row, i);
        commit(&fx);
    }
    /* Locks rows of both partitions, first to no avail. */
    struct change_set *prepared;
    cr_assert_eq(change_set_create(fx.store.ldm, &prepared), ERR_NONE);
    uint64_t pinned = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, pinned), ERR_NONE);
    ldm_pin_settle(fx.store.ldm, pinned, pinned);
    ldm_pin_restrict(fx.store.ldm, pinned, fx.store.partition);
    uint64_t before = version_bytes(&fx);
    change_some(&fx, other, 100, 5000);
    cr_assert_leq(version_bytes(&fx), before, "nothing of the other partition stays");
    struct value again[4] = {value_i64(1), value_null(), value_text("again"), value_u64(3)};
    uint32_t row;
    cr_assert_eq(fragment_insert(other, prepared, again, &row), ERR_NONE);
    cr_assert_eq(fragment_delete(fx.fragment, prepared, 1), ERR_NONE);
    change_set_rollback(prepared);
    uint16_t column = 3;
    struct value value = value_u64(55);
    cr_assert_eq(fragment_update(fx.fragment, prepared, 0, &column, &value, 1), ERR_NONE);
    cr_assert_eq(fragment_insert(other, prepared, again, &row), ERR_NONE);
    change_set_commit(prepared, ++fx.ts);
    change_set_destroy(prepared);
    cr_assert_eq(fragment_row_count(other), 5002);
    change_some(&fx, fx.fragment, 100, 5000 - 1);
    cr_assert_gt(version_bytes(&fx), before + 4000 * 32);
    /* The pinned partition is as it was, whole. */
    struct diag diag = {0};
    uint16_t slots[FRAGMENT_PAGE_ROWS];
    cr_assert_eq(fragment_page_select(fx.fragment, 0, pinned, slots), 2);
    for (uint32_t page = 1; page < fragment_page_count(fx.fragment); page++)
        cr_assert_eq(fragment_page_select(fx.fragment, page, pinned, slots), 0);
    cr_assert_eq(n_at(&fx, 0, pinned), 1);
    /* A snapshot of all keeps what is changed from now on, also of the other. */
    uint64_t all = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, all), ERR_NONE);
    value = value_u64(88);
    cr_assert_eq(fragment_update(other, fx.changes, 0, &column, &value, 1), ERR_NONE);
    commit(&fx);
    cr_assert_eq(fragment_value_at(other, 0, 3, all).u, 77);
    cr_assert_eq(fragment_value_at(other, 0, 3, TS_LATEST).u, 88);
    ldm_unpin_restricted(fx.store.ldm, pinned, fx.store.partition);
    cr_assert_eq(fragment_value_at(other, 0, 3, all).u, 77);
    while (ldm_collect(fx.store.ldm, 1000, NULL, NULL))
        ;
    cr_assert_eq(fragment_value_at(other, 0, 3, all).u, 77);
    ldm_unpin(fx.store.ldm, all);
    while (ldm_collect(fx.store.ldm, 1000, NULL, NULL))
        ;
    delete_all(&fx, other);
    delete_all(&fx, fx.fragment);
    cr_assert_eq(fragment_verify(other, &diag), ERR_NONE, "%s", diag.text);
    fixture_fini(&fx);
}

Test(versions, a_snapshot_outlives_a_restricted_one_of_the_same_time)
{
    struct fixture fx;
    fixture_init(&fx);
    struct partition *elsewhere;
    cr_assert_eq(partition_create(fx.store.ldm, 1, &elsewhere), ERR_NONE);
    struct value values[4] = {value_i64(1), value_null(), value_text("x"), value_u64(77)};
    uint32_t row;
    cr_assert_eq(fragment_insert(fx.fragment, fx.changes, values, &row), ERR_NONE);
    commit(&fx);
    /* A checkpoint's of the other partition, and a query's, in this order. */
    uint64_t ts = fx.ts;
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(ldm_pin(fx.store.ldm, ts), ERR_NONE);
        ldm_pin_settle(fx.store.ldm, ts, ts);
        if (i == 0) ldm_pin_restrict(fx.store.ldm, ts, elsewhere);
    }
    /* And one more of a checkpoint, which finds the query's before its own. */
    cr_assert_eq(ldm_pin(fx.store.ldm, ts), ERR_NONE);
    ldm_pin_settle(fx.store.ldm, ts, ts);
    ldm_pin_restrict(fx.store.ldm, ts, elsewhere);
    ldm_unpin_restricted(fx.store.ldm, ts, elsewhere);
    uint16_t column = 3;
    struct value value = value_u64(88);
    cr_assert_eq(fragment_update(fx.fragment, fx.changes, row, &column, &value, 1), ERR_NONE);
    commit(&fx);
    cr_assert_eq(n_at(&fx, row, ts), 77);
    ldm_unpin(fx.store.ldm, ts);
    ldm_unpin_restricted(fx.store.ldm, ts, elsewhere);
    fixture_fini(&fx);
}

Test(versions, memory_goes_back_while_a_later_snapshot_keeps_its_own)
{
    struct fixture fx;
    fixture_init(&fx);
    enum { OLD = 50000, NEW = 100 };
    uint32_t rows[NEW];
    for (int64_t k = 0; k < NEW; k++) {
        rows[k] = put(&fx, -1 - k, "before", (uint64_t)k);
        commit(&fx);
    }
    uint64_t first = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, first), ERR_NONE);
    ldm_pin_settle(fx.store.ldm, first, first);
    for (int64_t k = 0; k < OLD; k++) {
        put(&fx, k, "some text", 1);
        /* Records of another size, of rows changed again and again, between those that stay. */
        set(&fx, rows[k % NEW], 3, value_u64((uint64_t)k % 1000));
        if (k % 7 == 0) set(&fx, rows[k % NEW], 2, value_text("other"));
        if (k % 11 == 0)
            change_set_rollback(fx.changes);
        else
            commit(&fx);
    }
    uint64_t full = version_bytes(&fx);
    cr_assert_gt(full, OLD / 11 * 10 * 32);
    /* A change that is not decided yet is of no snapshot, and stays through all of it. */
    struct change_set *open;
    cr_assert_eq(change_set_create(fx.store.ldm, &open), ERR_NONE);
    uint16_t column = 3;
    struct value value = value_u64(4711);
    cr_assert_eq(fragment_update(fx.fragment, open, rows[0], &column, &value, 1), ERR_NONE);
    uint64_t second = fx.ts;
    cr_assert_eq(ldm_pin(fx.store.ldm, second), ERR_NONE);
    uint64_t kept[NEW];
    for (int k = 0; k < NEW; k++)
        kept[k] = n_at(&fx, rows[k], second);
    for (uint64_t k = 1; k < NEW; k++) {
        set(&fx, rows[k], 3, value_u64(k + 1));
        commit(&fx);
    }
    ldm_unpin(fx.store.ldm, first);
    while (ldm_collect(fx.store.ldm, 1000, NULL, NULL))
        ;
    cr_assert_lt(version_bytes(&fx), full / 2);
    for (int k = 0; k < NEW; k++)
        cr_assert_eq(n_at(&fx, rows[k], second), kept[k]);
    change_set_rollback(open);
    change_set_destroy(open);
    cr_assert_eq(n_at(&fx, rows[0], TS_LATEST), kept[0]);
    ldm_unpin(fx.store.ldm, second);
    while (ldm_collect(fx.store.ldm, 1000, NULL, NULL))
        ;
    cr_assert_lt(version_bytes(&fx), 2 << 20);
    delete_all(&fx, fx.fragment);
    fixture_fini(&fx);
}

Test(versions, a_commit_below_a_pin_is_readable_at_the_pin)
{
    /* A prepared transaction may get a timestamp below a pin made meanwhile. */
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "", 1);
    commit(&fx);
    set(&fx, row, 3, value_u64(2));
    cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts + 10), ERR_NONE);
    change_set_commit(fx.changes, fx.ts + 5);
    cr_assert_eq(n_at(&fx, row, fx.ts + 10), 2);
    ldm_unpin(fx.store.ldm, fx.ts + 10);
    fixture_fini(&fx);
}
