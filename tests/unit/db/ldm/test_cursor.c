/* Index cursors where the model test does not look: exact bounds, NULLs, locked rows, trees that
 * change under a walk. */
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct change_set *changes;
    struct fragment *fragment; /* the second table: (parent, name), v by index 1 */
    uint64_t ts;
};

static void fixture_init(struct fixture *fx)
{
    test_store_init(&fx->store, 0);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->changes), ERR_NONE);
    fx->fragment = test_fragment(&fx->store, 2);
    fx->ts = 100;
}

static void fixture_fini(struct fixture *fx)
{
    change_set_rollback(fx->changes);
    test_verify(&fx->store);
    change_set_destroy(fx->changes);
    test_store_fini(&fx->store);
}

static uint32_t put(struct fixture *fx, uint64_t parent, const char *name, int64_t v)
{
    struct value values[6] = {value_u64(parent), value_text(name), value_i64(v),
                              value_null(),      value_null(),     value_null()};
    uint32_t row;
    cr_assert_eq(fragment_insert(fx->fragment, fx->changes, values, &row), ERR_NONE);
    return row;
}

static void commit(struct fixture *fx)
{
    change_set_commit(fx->changes, ++fx->ts);
}

/* The names met, joined. */
static void names_of(struct fixture *fx, uint8_t index, const struct index_bounds *bounds,
                     bool descending, uint64_t ts, char *ret_names)
{
    struct index_cursor cursor;
    uint32_t row;
    enum err err =
        index_cursor_open(&cursor, fx->fragment, index, bounds, descending, ts, fx->changes);
    cr_assert_eq(err, ERR_NONE);
    ret_names[0] = 0;
    while ((err = index_cursor_next(&cursor, &row)) == ERR_NONE) {
        struct value name = fragment_value_at(fx->fragment, row, 1, ts);
        if (ts == TS_LATEST) name = fragment_value(fx->fragment, row, 1);
        strncat(ret_names, (const char *)name.bytes, name.size);
        strcat(ret_names, " ");
    }
    cr_assert_eq(err, ERR_END);
    cr_assert_eq(index_cursor_next(&cursor, &row), ERR_END);
}

Test(cursor, a_prefix_of_the_key_is_a_range)
{
    struct fixture fx;
    fixture_init(&fx);
    put(&fx, 2, "c", 1);
    put(&fx, 1, "b", 1);
    put(&fx, 2, "a", 1);
    put(&fx, 3, "d", 1);
    put(&fx, 2, "B", 1);
    commit(&fx);
    char names[100];
    struct value eq[2] = {value_u64(2), value_text("b")};
    struct index_bounds bounds = {.eq = eq, .eq_count = 1};
    names_of(&fx, 0, &bounds, false, TS_LATEST, names);
    cr_assert_str_eq(names, "a B c ");
    names_of(&fx, 0, &bounds, true, TS_LATEST, names);
    cr_assert_str_eq(names, "c B a ");
    bounds.eq_count = 2;
    names_of(&fx, 0, &bounds, true, TS_LATEST, names);
    cr_assert_str_eq(names, "B ");
    bounds.eq_count = 0;
    names_of(&fx, 0, &bounds, false, TS_LATEST, names);
    cr_assert_str_eq(names, "b a B c d ");
    eq[0] = value_u64(9);
    bounds.eq_count = 1;
    names_of(&fx, 0, &bounds, false, TS_LATEST, names);
    cr_assert_str_eq(names, "");
    fixture_fini(&fx);
}

Test(cursor, bounds_are_inclusive_or_not_and_may_be_empty)
{
    struct fixture fx;
    fixture_init(&fx);
    for (int64_t v = 1; v <= 5; v++)
        put(&fx, 1, (char[2]){(char)('a' + v), 0}, v);
    commit(&fx);
    struct value low = value_i64(2);
    struct value high = value_i64(4);
    struct index_bounds bounds = {.low = &low, .high = &high, .low_count = 1, .high_count = 1};
    static const char *const want[] = {"d ", "d e ", "c d ", "c d e "};
    char names[100];
    for (unsigned i = 0; i < 4; i++) {
        bounds.low_inclusive = i & 2;
        bounds.high_inclusive = i & 1;
        names_of(&fx, 1, &bounds, false, TS_LATEST, names);
        cr_assert_str_eq(names, want[i]);
    }
    high = value_i64(1);
    names_of(&fx, 1, &bounds, false, TS_LATEST, names);
    cr_assert_str_eq(names, "");
    names_of(&fx, 1, &bounds, true, TS_LATEST, names);
    cr_assert_str_eq(names, "");
    high = low;
    bounds.low_inclusive = false;
    names_of(&fx, 1, &bounds, false, TS_LATEST, names);
    cr_assert_str_eq(names, "");
    fixture_fini(&fx);
}

Test(cursor, an_upper_bound_leaves_nulls_out_and_is_null_finds_them)
{
    struct fixture fx;
    fixture_init(&fx);
    struct fragment *fragment = test_fragment(&fx.store, 1);
    for (uint64_t id = 0; id < 6; id++) {
        struct value values[6] = {value_u64(id), id % 2 ? value_i64((int64_t)id) : value_null(),
                                  value_null(),  value_text(""),
                                  value_null(),  value_f64(0)};
        uint32_t row;
        cr_assert_eq(fragment_insert(fragment, fx.changes, values, &row), ERR_NONE);
    }
    commit(&fx);
    struct value high = value_i64(3);
    struct value null = value_null();
    struct index_bounds below = {.high = &high, .high_count = 1, .high_inclusive = true};
    struct index_bounds is_null = {.eq = &null, .eq_count = 1};
    struct index_cursor cursor;
    uint32_t row;
    uint32_t count = 0;
    cr_assert_eq(index_cursor_open(&cursor, fragment, 1, &below, false, TS_LATEST, NULL), ERR_NONE);
    for (; index_cursor_next(&cursor, &row) == ERR_NONE; count++)
        cr_assert_eq(fragment_value(fragment, row, 1).i, 1 + 2 * (int64_t)count);
    cr_assert_eq(count, 2);
    cr_assert_eq(index_cursor_open(&cursor, fragment, 1, &is_null, true, TS_LATEST, NULL),
                 ERR_NONE);
    for (count = 0; index_cursor_next(&cursor, &row) == ERR_NONE; count++)
        cr_assert(value_is_null(fragment_value(fragment, row, 1)));
    cr_assert_eq(count, 3);
    fixture_fini(&fx);
}

Test(cursor, refuses_bounds_that_the_index_cannot_serve)
{
    struct fixture fx;
    fixture_init(&fx);
    struct value values[3] = {value_u64(1), value_text("a"), value_i64(1)};
    struct index_bounds bounds = {.eq = values, .eq_count = 3};
    struct index_cursor cursor;
    cr_assert_eq(index_cursor_open(&cursor, fx.fragment, 0, &bounds, false, TS_LATEST, NULL),
                 ERR_INVALID);
    bounds.eq_count = 0;
    cr_assert_eq(index_cursor_open(&cursor, fx.fragment, 3, &bounds, false, TS_LATEST, NULL),
                 ERR_INVALID);
    /* A hash index knows whole keys only. */
    struct fragment *hashed = test_fragment(&fx.store, 1);
    cr_assert_eq(index_cursor_open(&cursor, hashed, 0, &bounds, false, TS_LATEST, NULL),
                 ERR_INVALID);
    bounds.eq_count = 1;
    cr_assert_eq(index_cursor_open(&cursor, hashed, 0, &bounds, false, TS_LATEST, NULL), ERR_NONE);
    uint32_t row;
    cr_assert_eq(index_cursor_next(&cursor, &row), ERR_END);
    values[0] = value_text("x");
    cr_assert_eq(index_cursor_open(&cursor, hashed, 0, &bounds, false, TS_LATEST, NULL),
                 ERR_INVALID);
    fixture_fini(&fx);
}

Test(cursor, a_row_that_another_changes_is_a_conflict_for_the_newest_only)
{
    struct fixture fx;
    fixture_init(&fx);
    put(&fx, 1, "a", 1);
    uint32_t row = put(&fx, 1, "b", 2);
    commit(&fx);
    cr_assert_eq(ldm_pin(fx.store.ldm, fx.ts), ERR_NONE);
    uint16_t column = 2;
    struct value v = value_i64(0);
    cr_assert_eq(fragment_update(fx.fragment, fx.changes, row, &column, &v, 1), ERR_NONE);
    struct index_bounds all = {0};
    struct index_cursor cursor;
    uint32_t met;
    /* By v, the row stands at its new key and at its old one. */
    cr_assert_eq(index_cursor_open(&cursor, fx.fragment, 1, &all, false, TS_LATEST, NULL),
                 ERR_NONE);
    cr_assert_eq(index_cursor_next(&cursor, &met), ERR_CONFLICT);
    cr_assert_eq(index_cursor_next(&cursor, &met), ERR_END);
    char names[100];
    names_of(&fx, 1, &all, false, TS_LATEST, names);
    cr_assert_str_eq(names, "b a ", "its own change set sees it once, at the new key");
    names_of(&fx, 1, &all, false, fx.ts, names);
    cr_assert_str_eq(names, "a b ", "a snapshot sees it once, at the old key");
    commit(&fx);
    names_of(&fx, 1, &all, false, fx.ts - 1, names);
    cr_assert_str_eq(names, "a b ");
    names_of(&fx, 1, &all, false, TS_LATEST, names);
    cr_assert_str_eq(names, "b a ");
    ldm_unpin(fx.store.ldm, fx.ts - 1);
    while (ldm_collect(fx.store.ldm, 10, NULL, NULL))
        ;
    fixture_fini(&fx);
}

Test(cursor, finds_its_place_again_when_the_row_it_stood_at_is_gone)
{
    for (unsigned descending = 0; descending < 2; descending++) {
        struct fixture fx;
        fixture_init(&fx);
        uint32_t rows[600];
        char name[20];
        for (uint32_t i = 0; i < 600; i++) {
            snprintf(name, sizeof(name), "%03u", i);
            rows[i] = put(&fx, 1, name, (int64_t)(i % 3));
        }
        commit(&fx);
        struct index_bounds all = {0};
        struct index_cursor cursor;
        cr_assert_eq(
            index_cursor_open(&cursor, fx.fragment, 0, &all, descending, TS_LATEST, fx.changes),
            ERR_NONE);
        for (uint32_t i = 0; i < 600; i++) {
            uint32_t at = descending ? 599 - i : i;
            uint32_t row;
            cr_assert_eq(index_cursor_next(&cursor, &row), ERR_NONE);
            cr_assert_eq(row, rows[at]);
            /* Each is deleted when it was met: its entry goes at the commit. */
            cr_assert_eq(fragment_delete(fx.fragment, fx.changes, row), ERR_NONE);
            commit(&fx);
        }
        uint32_t row;
        cr_assert_eq(index_cursor_next(&cursor, &row), ERR_END);
        cr_assert_eq(fragment_row_count(fx.fragment), 0);
        fixture_fini(&fx);
    }
}

Test(cursor, rows_with_equal_keys_are_each_met_once_while_others_come_and_go)
{
    for (unsigned descending = 0; descending < 2; descending++) {
        struct fixture fx;
        fixture_init(&fx);
        char name[20];
        for (uint32_t i = 0; i < 900; i++) {
            snprintf(name, sizeof(name), "%03u", i);
            put(&fx, 1, name, (int64_t)(i / 300));
        }
        commit(&fx);
        struct value v = value_i64(1);
        struct index_bounds bounds = {.eq = &v, .eq_count = 1};
        struct index_cursor cursor;
        cr_assert_eq(
            index_cursor_open(&cursor, fx.fragment, 1, &bounds, descending, TS_LATEST, fx.changes),
            ERR_NONE);
        uint32_t row;
        uint32_t last = descending ? UINT32_MAX : 0;
        uint32_t count = 0;
        for (; index_cursor_next(&cursor, &row) == ERR_NONE; count++) {
            cr_assert(descending ? row < last : row > last || count == 0);
            last = row;
            if (count % 7 == 0) {
                snprintf(name, sizeof(name), "x%u", count);
                put(&fx, 2, name, 0);
            }
            if (count % 11 == 0) commit(&fx);
        }
        cr_assert_eq(count, 300);
        commit(&fx);
        fixture_fini(&fx);
    }
}
