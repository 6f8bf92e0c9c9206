/* Change sets: rollback, the redo body byte by byte, and replay of bodies good and bad. */
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct test_store target;
    struct change_set *changes;
    struct change_set *replay;
    struct buf body;
};

static void fixture_init(struct fixture *fx)
{
    test_store_init(&fx->store, 0);
    test_store_init(&fx->target, 0);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->changes), ERR_NONE);
    cr_assert_eq(change_set_create(fx->target.ldm, &fx->replay), ERR_NONE);
    buf_init(&fx->body);
}

static void fixture_fini(struct fixture *fx)
{
    test_verify(&fx->store);
    test_verify(&fx->target);
    change_set_destroy(fx->changes);
    change_set_destroy(fx->replay);
    test_store_fini(&fx->store);
    test_store_fini(&fx->target);
    buf_fini(&fx->body);
}

static struct partition *find_target(void *context, uint16_t number)
{
    struct fixture *fx = context;
    return number == 5 ? fx->target.partition : NULL;
}

static struct partition *find_none(void *context, uint16_t number)
{
    (void)context;
    (void)number;
    return NULL;
}

static enum err replay(struct fixture *fx, const void *bytes, size_t size)
{
    struct reader reader = reader_of(bytes, size);
    enum err err = change_set_replay(fx->replay, &reader, find_target, fx);
    if (!err && reader_left(&reader)) return ERR_TOO_BIG;
    return err;
}

static void encode(struct fixture *fx)
{
    buf_clear(&fx->body);
    change_set_encode(fx->changes, &fx->body);
    cr_assert(!fx->body.failed);
}

static uint32_t put(struct fixture *fx, int64_t k, const char *note)
{
    struct value values[4] = {value_i64(k), value_null(), value_text(note), value_u64(300)};
    uint32_t row;
    cr_assert_eq(fragment_insert(test_fragment(&fx->store, 3), fx->changes, values, &row),
                 ERR_NONE);
    return row;
}

Test(change_set, the_body_has_the_documented_bytes)
{
    struct fixture fx;
    fixture_init(&fx);
    put(&fx, -2, "hi");
    put(&fx, 1, "");
    encode(&fx);
    static const uint8_t inserts[] = {
        2,                                         /* changes */
        1,    5, 3, 1, 10,                         /* INSERT, partition, table, version, size */
        4,    3, 1, 0, 2,  'h',  'i', 0xf9, 44, 1, /* 300 in two bytes */
        0x81, 8,                                   /* INSERT, same table */
        4,    2, 1, 0, 0,  0xf9, 44,  1,
    };
    cr_assert_eq(fx.body.size, sizeof(inserts));
    cr_assert_arr_eq(fx.body.bytes, inserts, sizeof(inserts));
    change_set_commit(fx.changes, 10);

    struct value key = value_i64(-2);
    uint32_t row;
    cr_assert_eq(fragment_find(test_fragment(&fx.store, 3), NULL, &key, &row), ERR_NONE);
    uint16_t columns[2] = {3, 2};
    struct value values[2] = {value_u64(7), value_null()};
    cr_assert_eq(fragment_update(test_fragment(&fx.store, 3), fx.changes, row, columns, values, 2),
                 ERR_NONE);
    key = value_i64(1);
    cr_assert_eq(fragment_find(test_fragment(&fx.store, 3), NULL, &key, &row), ERR_NONE);
    cr_assert_eq(fragment_delete(test_fragment(&fx.store, 3), fx.changes, row), ERR_NONE);
    encode(&fx);
    static const uint8_t others[] = {
        2,    2, 5, 3, 1, 6, 3, 2, 2, 1, 3, 7, /* UPDATE: key, two columns */
        0x83, 1, 2,                            /* DELETE: key */
    };
    cr_assert_eq(fx.body.size, sizeof(others));
    cr_assert_arr_eq(fx.body.bytes, others, sizeof(others));
    change_set_rollback(fx.changes);
    fixture_fini(&fx);
}

Test(change_set, only_the_net_effect_is_encoded)
{
    struct fixture fx;
    fixture_init(&fx);
    struct fragment *fragment = test_fragment(&fx.store, 3);
    uint32_t row = put(&fx, 1, "gone");
    cr_assert_eq(fragment_delete(fragment, fx.changes, row), ERR_NONE);
    cr_assert(!change_set_is_empty(fx.changes));
    encode(&fx);
    cr_assert_eq(fx.body.size, 1);
    cr_assert_eq(fx.body.bytes[0], 0);
    change_set_commit(fx.changes, 10);

    row = put(&fx, 2, "first");
    change_set_commit(fx.changes, 11);
    /* Deleted and inserted with the same values: nothing happened. */
    cr_assert_eq(fragment_delete(fragment, fx.changes, row), ERR_NONE);
    cr_assert_eq(put(&fx, 2, "first"), row);
    encode(&fx);
    cr_assert_eq(fx.body.bytes[0], 0);
    /* And with another: an update. */
    cr_assert_eq(fragment_delete(fragment, fx.changes, row), ERR_NONE);
    cr_assert_eq(put(&fx, 2, "second"), row);
    encode(&fx);
    cr_assert_eq(fx.body.bytes[0], 1);
    cr_assert_eq(fx.body.bytes[1], 2);
    change_set_rollback(fx.changes);
    struct value note = fragment_value(fragment, row, 2);
    cr_assert_eq(note.size, 5);
    fixture_fini(&fx);
}

Test(change_set, a_large_transaction_is_encoded_and_replayed)
{
    struct fixture fx;
    fixture_init(&fx);
    char note[400];
    memset(note, 'n', sizeof(note));
    note[399] = 0;
    for (int64_t k = 0; k < 3000; k++)
        put(&fx, k, note + k % 300);
    encode(&fx);
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_NONE);
    change_set_commit(fx.replay, 20);
    change_set_commit(fx.changes, 20);
    cr_assert_eq(fragment_row_count(test_fragment(&fx.target, 3)), 3000);
    fixture_fini(&fx);
}

Test(change_set, rollback_of_many_changes_restores_everything)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t rows[200];
    for (int64_t k = 0; k < 200; k++)
        rows[k] = put(&fx, k, "before");
    change_set_commit(fx.changes, 10);
    struct fragment *fragment = test_fragment(&fx.store, 3);
    for (uint32_t round = 0; round < 5; round++) {
        for (int64_t k = 0; k < 200; k++) {
            uint16_t columns[2] = {1, 2};
            struct value values[2] = {value_i64(k), value_text("after, and longer")};
            if (k % 3 == 0) {
                cr_assert_eq(fragment_delete(fragment, fx.changes, rows[k]), ERR_NONE);
                cr_assert_eq(put(&fx, k, "again"), rows[k]);
            }
            cr_assert_eq(
                fragment_update(fragment, fx.changes, rows[k], columns, values, 2 - round % 2),
                ERR_NONE);
        }
        put(&fx, 1000 + round, "new");
    }
    change_set_rollback(fx.changes);
    test_verify(&fx.store);
    cr_assert_eq(fragment_row_count(fragment), 200);
    for (int64_t k = 0; k < 200; k++) {
        cr_assert(value_is_null(fragment_value(fragment, rows[k], 1)));
        cr_assert_eq(fragment_value(fragment, rows[k], 2).size, 6);
    }
    fixture_fini(&fx);
}

Test(change_set, replay_passes_over_unknown_partitions_and_tables)
{
    struct fixture fx;
    fixture_init(&fx);
    put(&fx, 1, "one");
    put(&fx, 2, "two");
    encode(&fx);
    struct reader reader = reader_of(fx.body.bytes, fx.body.size);
    cr_assert_eq(change_set_replay(fx.replay, &reader, find_none, NULL), ERR_NONE);
    cr_assert_eq(reader_left(&reader), 0);
    cr_assert(change_set_is_empty(fx.replay));
    /* A dropped table. */
    fx.body.bytes[3] = 99;
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_NONE);
    cr_assert(change_set_is_empty(fx.replay));
    /* A definition newer than the catalog's. */
    fx.body.bytes[3] = 3;
    fx.body.bytes[4] = 2;
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_CORRUPT);
    change_set_rollback(fx.changes);
    fixture_fini(&fx);
}

Test(change_set, replay_refuses_what_does_not_fit_the_rows)
{
    struct fixture fx;
    fixture_init(&fx);
    uint32_t row = put(&fx, 1, "one");
    encode(&fx);
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_NONE);
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_CORRUPT, "the key is there");
    change_set_rollback(fx.replay);
    change_set_commit(fx.changes, 10);
    uint16_t column = 3;
    struct value value = value_u64(1);
    cr_assert_eq(fragment_update(test_fragment(&fx.store, 3), fx.changes, row, &column, &value, 1),
                 ERR_NONE);
    encode(&fx);
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_CORRUPT, "nothing to update");
    change_set_commit(fx.changes, 11);
    cr_assert_eq(fragment_delete(test_fragment(&fx.store, 3), fx.changes, row), ERR_NONE);
    encode(&fx);
    cr_assert_eq(replay(&fx, fx.body.bytes, fx.body.size), ERR_CORRUPT, "nothing to delete");
    change_set_commit(fx.changes, 12);
    fixture_fini(&fx);
}

Test(change_set, replay_of_damaged_bodies_fails_cleanly)
{
    struct fixture fx;
    fixture_init(&fx);
    for (int64_t k = 0; k < 10; k++)
        put(&fx, k, "some text");
    struct value values[6] = {value_u64(1),    value_i64(-1), value_text("s"),
                              value_text("b"), value_f64(2),  value_f64(1)};
    uint32_t row;
    cr_assert_eq(fragment_insert(test_fragment(&fx.store, 1), fx.changes, values, &row), ERR_NONE);
    encode(&fx);
    uint8_t *bytes = malloc(fx.body.size);
    cr_assert(bytes);
    /* Cut short: never accepted. */
    for (size_t size = 0; size < fx.body.size; size++) {
        memcpy(bytes, fx.body.bytes, size);
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, bytes, size);
        cr_assert_eq(replay(&fx, exact, size), ERR_CORRUPT);
        free(exact);
        change_set_rollback(fx.replay);
    }
    /* Any bit flipped: refused, or other rows; never a crash or a damaged store. */
    uint32_t refused = 0;
    for (size_t bit = 0; bit < 8 * fx.body.size; bit++) {
        memcpy(bytes, fx.body.bytes, fx.body.size);
        bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        enum err err = replay(&fx, bytes, fx.body.size);
        cr_assert(err == ERR_NONE || err == ERR_CORRUPT || err == ERR_TOO_BIG);
        refused += err != ERR_NONE;
        test_verify(&fx.target);
        change_set_rollback(fx.replay);
    }
    cr_assert_gt(refused, fx.body.size * 8 / 4);
    test_verify(&fx.target);
    struct test_random random = {.state = 5};
    for (uint32_t round = 0; round < 20000; round++) {
        size_t size = test_below(&random, 60);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)test_below(&random, test_below(&random, 2) ? 6 : 256);
        (void)!replay(&fx, bytes, size);
        change_set_rollback(fx.replay);
    }
    free(bytes);
    change_set_rollback(fx.changes);
    fixture_fini(&fx);
}
