/* Blocks of rows for checkpoints: whole ones come back as they were, damaged ones are refused. */
#include "tests/unit/db/ldm/faults.h"
#include "tests/unit/db/ldm/storage.h"

struct fixture {
    struct test_store store;
    struct change_set *changes;
    struct buf block; /* of the table's first page */
};

/* One page of one table, with NULLs, long values and every type. */
static void fixture_init(struct fixture *fx, uint32_t table_id, uint32_t rows)
{
    test_store_init(&fx->store, 0);
    cr_assert_eq(change_set_create(fx->store.ldm, &fx->changes), ERR_NONE);
    struct fragment *fragment = test_fragment(&fx->store, table_id);
    static const uint8_t bytes[3000] = "three thousand bytes";
    for (uint32_t i = 0; i < rows; i++) {
        struct value hashed[6] = {value_u64(i),
                                  i % 3 ? value_i64(i) : value_null(),
                                  i % 4 ? value_text("h\xc3\xa9") : value_null(),
                                  value_str(bytes, i % 50 ? i % 40 : 3000),
                                  i % 5 ? value_f64(i) : value_null(),
                                  value_f64(1)};
        struct value ordered[6] = {value_u64(1), value_null(), value_i64(i % 9),
                                   value_null(), value_null(), i % 2 ? value_i64(i) : value_null()};
        char name[20];
        snprintf(name, sizeof(name), "%05u", rows - i);
        ordered[1] = value_text(name);
        if (i % 2) ordered[3] = value_text("four");
        if (i % 3) ordered[4] = value_dec(i, 2);
        uint32_t row;
        cr_assert_eq(fragment_insert(fragment, fx->changes, table_id == 1 ? hashed : ordered, &row),
                     ERR_NONE);
    }
    change_set_commit(fx->changes, 10);
    buf_init(&fx->block);
    if (rows) fragment_page_encode(fragment, 0, TS_LATEST, &fx->block);
    cr_assert(!fx->block.failed);
}

static void fixture_fini(struct fixture *fx)
{
    change_set_destroy(fx->changes);
    test_store_fini(&fx->store);
    buf_fini(&fx->block);
}

/* Into a store of its own. */
static enum err load(uint32_t table_id, const uint8_t *bytes, size_t size, uint64_t *ret_rows)
{
    struct test_store store;
    test_store_init(&store, 0);
    struct fragment *fragment = test_fragment(&store, table_id);
    struct reader reader = reader_of(bytes, size);
    enum err err = ERR_NONE;
    while (!err && reader_left(&reader))
        err = fragment_page_load(fragment, &reader);
    if (!err) err = fragment_load_end(fragment);
    if (!err) {
        test_verify(&store);
        *ret_rows = fragment_row_count(fragment);
    }
    test_store_fini(&store);
    return err;
}

Test(page_codec, a_block_comes_back)
{
    for (uint32_t table = 1; table <= 2; table++) {
        for (uint32_t rows = 1; rows <= FRAGMENT_PAGE_ROWS; rows = rows * 2 + 1) {
            struct fixture fx;
            fixture_init(&fx, table, rows);
            uint64_t loaded;
            cr_assert_eq(load(table, fx.block.bytes, fx.block.size, &loaded), ERR_NONE);
            cr_assert_eq(loaded, rows);
            fixture_fini(&fx);
        }
    }
}

Test(page_codec, an_empty_page_is_one_byte)
{
    struct fixture fx;
    fixture_init(&fx, 1, 3);
    struct fragment *fragment = test_fragment(&fx.store, 1);
    buf_clear(&fx.block);
    fragment_page_encode(fragment, 0, 1, &fx.block);
    /* Before the rows were committed, as nobody has pinned, is not told: but a page without rows
     * is. */
    for (uint32_t row = 0; row < 3; row++)
        cr_assert_eq(fragment_delete(fragment, fx.changes, row), ERR_NONE);
    change_set_commit(fx.changes, 11);
    buf_clear(&fx.block);
    fragment_page_encode(fragment, 0, TS_LATEST, &fx.block);
    cr_assert_eq(fx.block.size, 1);
    cr_assert_eq(fx.block.bytes[0], 0);
    cr_assert_eq(fragment_page_rows(fragment, 0, TS_LATEST), 0);
    uint64_t rows;
    cr_assert_eq(load(1, fx.block.bytes, fx.block.size, &rows), ERR_NONE);
    cr_assert_eq(rows, 0);
    fixture_fini(&fx);
}

Test(page_codec, blocks_pack_into_full_pages)
{
    struct fixture fx;
    fixture_init(&fx, 2, 0);
    struct fragment *fragment = test_fragment(&fx.store, 2);
    struct buf blocks;
    buf_init(&blocks);
    for (uint32_t i = 0; i < 10; i++) {
        struct fixture part;
        fixture_init(&part, 2, 100);
        /* Other parents for each, so that keys differ: the value stands behind the column's head.
         */
        struct test_store *store = &part.store;
        struct fragment *source = test_fragment(store, 2);
        for (uint32_t row = 0; row < 100; row++) {
            struct value values[6];
            for (uint16_t c = 0; c < 6; c++)
                values[c] = fragment_value(source, row, c);
            values[0] = value_u64(1000 + i);
            uint32_t made;
            cr_assert_eq(fragment_insert(source, part.changes, values, &made), ERR_NONE);
        }
        for (uint32_t row = 0; row < 100; row++)
            cr_assert_eq(fragment_delete(source, part.changes, row), ERR_NONE);
        change_set_commit(part.changes, 20);
        fragment_page_encode(source, 0, TS_LATEST, &blocks);
        fixture_fini(&part);
    }
    struct reader reader = reader_of(blocks.bytes, blocks.size);
    while (reader_left(&reader))
        cr_assert_eq(fragment_page_load(fragment, &reader), ERR_NONE);
    cr_assert_eq(fragment_load_end(fragment), ERR_NONE);
    test_verify(&fx.store);
    cr_assert_eq(fragment_row_count(fragment), 1000);
    cr_assert_eq(fragment_page_count(fragment), 2);
    /* Rows go on where loading stopped. */
    struct value values[6] = {value_u64(5), value_text("x"), value_i64(1),
                              value_null(), value_null(),    value_null()};
    uint32_t row;
    cr_assert_eq(fragment_insert(fragment, fx.changes, values, &row), ERR_NONE);
    cr_assert_eq(row, 1000);
    change_set_commit(fx.changes, 30);
    buf_fini(&blocks);
    fixture_fini(&fx);
}

Test(page_codec, the_same_block_twice_is_a_duplicate_key)
{
    struct fixture fx;
    for (uint32_t table = 1; table <= 2; table++) {
        fixture_init(&fx, table, 20);
        size_t size = fx.block.size;
        uint8_t *twice = malloc(2 * size);
        cr_assert(twice);
        memcpy(twice, fx.block.bytes, size);
        memcpy(twice + size, fx.block.bytes, size);
        uint64_t rows;
        cr_assert_eq(load(table, twice, 2 * size, &rows), ERR_CORRUPT);
        free(twice);
        fixture_fini(&fx);
    }
}

Test(page_codec, columns_added_since_are_null)
{
    struct fixture fx;
    fixture_init(&fx, 1, 10);
    struct fragment *fragment = test_fragment(&fx.store, 1);
    (void)fragment;
    /* The same rows in a table with one nullable column more. */
    struct catalog *catalog = test_catalog();
    test_column(catalog->tables[0], "added", TYPE_VARCHAR, 40, true);
    struct ldm *ldm;
    struct partition *partition;
    cr_assert_eq(ldm_create(0, &ldm), ERR_NONE);
    cr_assert_eq(partition_create(ldm, 0, &partition), ERR_NONE);
    cr_assert_eq(partition_set_catalog(partition, catalog), ERR_NONE);
    struct fragment *target = partition_fragment(partition, 1);
    struct reader reader = reader_of(fx.block.bytes, fx.block.size);
    cr_assert_eq(fragment_page_load(target, &reader), ERR_NONE);
    cr_assert_eq(fragment_load_end(target), ERR_NONE);
    cr_assert_eq(fragment_row_count(target), 10);
    for (uint32_t row = 0; row < 10; row++)
        cr_assert(value_is_null(fragment_value(target, row, 6)));
    struct diag diag;
    cr_assert_eq(fragment_verify(target, &diag), ERR_NONE, "%s", diag.text);
    ldm_destroy(ldm);
    catalog_destroy(catalog);
    fixture_fini(&fx);
}

Test(page_codec, damaged_blocks_are_refused_or_harmless)
{
    for (uint32_t table = 1; table <= 2; table++) {
        struct fixture fx;
        fixture_init(&fx, table, 12);
        uint64_t rows;
        for (size_t size = 1; size < fx.block.size; size++) {
            uint8_t *exact = malloc(size);
            cr_assert(exact);
            memcpy(exact, fx.block.bytes, size);
            cr_assert_eq(load(table, exact, size, &rows), ERR_CORRUPT, "cut at %zu", size);
            free(exact);
        }
        uint32_t refused = 0;
        uint32_t tried = 0;
        for (size_t bit = 0; bit < 8 * fx.block.size; bit += bit < 4000 ? 1 : 97) {
            uint8_t *exact = malloc(fx.block.size);
            cr_assert(exact);
            memcpy(exact, fx.block.bytes, fx.block.size);
            exact[bit / 8] ^= (uint8_t)(1 << (bit % 8));
            enum err err = load(table, exact, fx.block.size, &rows);
            cr_assert(err == ERR_NONE || err == ERR_CORRUPT);
            refused += err != ERR_NONE;
            tried++;
            free(exact);
        }
        cr_assert_gt(refused, tried / 20);
        fixture_fini(&fx);
    }
}

Test(page_codec, a_failed_allocation_while_loading_is_reported)
{
    struct fixture fx;
    fixture_init(&fx, 1, FRAGMENT_PAGE_ROWS);
    uint64_t failures = 0;
    for (uint64_t k = 1;; k++) {
        struct test_store store;
        test_store_init(&store, 0);
        struct fragment *fragment = test_fragment(&store, 1);
        struct reader reader = reader_of(fx.block.bytes, fx.block.size);
        fault_arm(k);
        enum err err = fragment_page_load(fragment, &reader);
        if (!err) err = fragment_load_end(fragment);
        bool fired = fault_disarm();
        cr_assert(err == ERR_NONE || (fired && err == ERR_NO_MEMORY));
        if (!err) test_verify(&store);
        test_store_fini(&store);
        if (!fired) break;
        failures += err != ERR_NONE;
    }
    cr_assert_gt(failures, 10);
    fixture_fini(&fx);
}
