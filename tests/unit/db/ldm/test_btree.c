/* The B+tree against a model: a sorted array of (key, row). Families of keys aim at what is
 * delicate in the tree: prefixes that shrink and grow, heads that tie, zero padding, equal keys
 * that span leaves. */
#include <criterion/criterion.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/btree.h"
#include "tests/unit/sanitized.h"

/* ---- allocation failures: the linker sends the library's malloc here ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static uint64_t fail_at; /* the how manieth allocation from now fails; 0: none */
static bool fail_on;     /* and all after it */

static bool allocation_fails(void)
{
    if (fail_at && --fail_at == 0) {
        if (fail_on) fail_at = 1;
        return true;
    }
    return false;
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return allocation_fails() ? NULL : __real_aligned_alloc(alignment, size);
}

/* ---- the model ---- */

enum { ROWS_MAX = 6000, ENTRIES_MAX = 6000 };

struct model_key {
    uint32_t size;
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
};

struct model_entry {
    struct model_key *key;
    uint32_t row;
};

struct model {
    struct btree *tree;
    uint64_t memory;
    uint64_t random;
    bool store_keys;
    bool no_key_of; /* reading keys is a failure */
    uint32_t count;
    struct model_key *rows[ROWS_MAX]; /* without stored keys: the key of a live row */
    struct model_entry entries[ENTRIES_MAX];
};

static uint64_t next_random(struct model *model)
{
    model->random += 0x9e3779b97f4a7c15u;
    return hash_u64(model->random);
}

static uint32_t below(struct model *model, uint32_t bound)
{
    return (uint32_t)(next_random(model) % bound);
}

static uint32_t model_key_of(const void *context, uint32_t row, uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    const struct model *model = context;
    cr_assert(!model->no_key_of, "a key was read that heads decide");
    cr_assert(row < ROWS_MAX && model->rows[row], "the key of a dead row was read");
    memcpy(key, model->rows[row]->bytes, model->rows[row]->size);
    return model->rows[row]->size;
}

static void model_head_of(const void *context, uint32_t row, uint8_t head[16])
{
    const struct model *model = context;
    const struct model_key *key = model->rows[row];
    cr_assert(key);
    memset(head, 0, 16);
    memcpy(head, key->bytes, key->size < 16 ? key->size : 16);
}

static struct model *model_create(bool store_keys, bool with_heads, uint64_t seed)
{
    struct model *model = __real_calloc(1, sizeof *model);
    model->random = seed;
    model->store_keys = store_keys;
    struct btree_config config = {.key_of = model_key_of,
                                  .head_of = with_heads ? model_head_of : NULL,
                                  .context = model,
                                  .store_keys = store_keys,
                                  .memory = &model->memory};
    cr_assert_eq(btree_create(&config, &model->tree), ERR_NONE);
    return model;
}

static void model_destroy(struct model *model)
{
    btree_destroy(model->tree);
    cr_assert_eq(model->memory, 0);
    for (uint32_t i = 0; i < model->count; i++)
        free(model->entries[i].key);
    free(model);
}

static int key_order(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size)
{
    uint32_t size = a_size < b_size ? a_size : b_size;
    int order = memcmp(a, b, size);
    if (order) return order;
    return (a_size > b_size) - (a_size < b_size);
}

/* The first entry not below (key, row). */
static uint32_t model_place(const struct model *model, const struct model_key *key, uint32_t row)
{
    uint32_t from = 0;
    uint32_t to = model->count;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        const struct model_entry *entry = &model->entries[middle];
        int order = key_order(entry->key->bytes, entry->key->size, key->bytes, key->size);
        if (order == 0) order = (entry->row > row) - (entry->row < row);
        if (order < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static bool model_has(const struct model *model, uint32_t at, const struct model_key *key)
{
    if (at >= model->count) return false;
    const struct model_key *other = model->entries[at].key;
    return key_order(other->bytes, other->size, key->bytes, key->size) == 0;
}

static void verify(const struct model *model)
{
    struct diag diag = {0};
    enum err err = btree_verify(model->tree, &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    cr_assert_eq(btree_count(model->tree), model->count);
}

/* Inserts into both and compares the outcomes. */
static void model_insert(struct model *model, const struct model_key *key, uint32_t row,
                         bool unique)
{
    if (model->count == ENTRIES_MAX) return;
    uint32_t at = model_place(model, key, row);
    bool exact = model_has(model, at, key) && model->entries[at].row == row;
    uint32_t first = model_place(model, key, 0);
    bool exists = exact || (unique && model_has(model, first, key));
    uint32_t existing = UINT32_MAX;
    uint64_t changes = btree_change_count(model->tree);
    enum err err = btree_insert(model->tree, key->bytes, key->size, row, unique, &existing);
    if (exists) {
        cr_assert_eq(err, ERR_EXISTS);
        uint32_t other = model_place(model, key, existing);
        cr_assert(model_has(model, other, key) && model->entries[other].row == existing);
        cr_assert_eq(btree_change_count(model->tree), changes);
        return;
    }
    cr_assert_eq(err, ERR_NONE);
    cr_assert_eq(existing, UINT32_MAX);
    cr_assert_eq(btree_change_count(model->tree), changes + 1);
    memmove(&model->entries[at + 1], &model->entries[at],
            (model->count - at) * sizeof model->entries[0]);
    model->entries[at].key = __real_malloc(sizeof *key);
    *model->entries[at].key = *key;
    model->entries[at].row = row;
    model->count++;
    if (!model->store_keys) model->rows[row] = model->entries[at].key;
}

static void model_remove_at(struct model *model, uint32_t at)
{
    struct model_entry entry = model->entries[at];
    cr_assert_eq(btree_remove(model->tree, entry.key->bytes, entry.key->size, entry.row), ERR_NONE);
    model->count--;
    memmove(&model->entries[at], &model->entries[at + 1],
            (model->count - at) * sizeof model->entries[0]);
    if (!model->store_keys) model->rows[entry.row] = NULL;
    enum err err = btree_remove(model->tree, entry.key->bytes, entry.key->size, entry.row);
    cr_assert_eq(err, ERR_NOT_FOUND);
    free(entry.key);
}

/* Seeks to a key and compares some entries on both sides with the model. */
static void check_seek(struct model *model, const struct model_key *key, bool after)
{
    struct btree_position position;
    btree_seek(model->tree, key->bytes, key->size, after, &position);
    uint32_t at = model_place(model, key, 0);
    if (after) {
        while (at < model->count && model->entries[at].key->size >= key->size &&
               memcmp(model->entries[at].key->bytes, key->bytes, key->size) == 0)
            at++;
    }
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = btree_key_at(model->tree, &position, bytes);
    if (at < model->count) {
        const struct model_key *expected = model->entries[at].key;
        cr_assert_eq(key_order(bytes, size, expected->bytes, expected->size), 0);
    } else {
        cr_assert_eq(size, 0);
    }
    struct btree_position back = position;
    uint32_t row;
    for (uint32_t i = 0; i < 5; i++) {
        bool more = btree_next(model->tree, &position, &row);
        cr_assert_eq(more, at + i < model->count);
        if (!more) break;
        cr_assert_eq(row, model->entries[at + i].row);
    }
    for (uint32_t i = 0; i < 5; i++) {
        bool more = btree_previous(model->tree, &back, &row);
        cr_assert_eq(more, at > i);
        if (!more) break;
        cr_assert_eq(row, model->entries[at - i - 1].row);
    }
}

static void check_find(struct model *model, const struct model_key *key)
{
    uint32_t at = model_place(model, key, 0);
    uint32_t row = UINT32_MAX;
    btree_prefetch(model->tree, key->bytes, key->size);
    enum err err = btree_find(model->tree, key->bytes, key->size, &row);
    if (model_has(model, at, key)) {
        cr_assert_eq(err, ERR_NONE);
        cr_assert_eq(row, model->entries[at].row);
    } else {
        cr_assert_eq(err, ERR_NOT_FOUND);
        cr_assert_eq(row, UINT32_MAX);
    }
}

/* Walks the whole tree both ways. */
static void check_walk(const struct model *model)
{
    struct btree_position position;
    btree_seek(model->tree, NULL, 0, false, &position);
    uint32_t row;
    for (uint32_t i = 0; i < model->count; i++) {
        uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
        uint32_t size = btree_key_at(model->tree, &position, bytes);
        const struct model_key *expected = model->entries[i].key;
        cr_assert_eq(key_order(bytes, size, expected->bytes, expected->size), 0);
        cr_assert(btree_next(model->tree, &position, &row));
        cr_assert_eq(row, model->entries[i].row);
    }
    cr_assert_not(btree_next(model->tree, &position, &row));
    cr_assert_null(position.leaf);
    for (uint32_t i = model->count; i > 0; i--) {
        cr_assert(btree_previous(model->tree, &position, &row));
        cr_assert_eq(row, model->entries[i - 1].row);
    }
    cr_assert_not(btree_previous(model->tree, &position, &row));
}

/* ---- families of keys ---- */

static void put_u64(struct model_key *key, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        key->bytes[key->size++] = (uint8_t)(value >> shift);
}

static void put_random(struct model *model, struct model_key *key, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        key->bytes[key->size++] = (uint8_t)next_random(model);
}

enum family {
    FAMILY_RANDOM,  /* any bytes, any size */
    FAMILY_TINY,    /* sizes 0 to 12 of bytes 0, 1 and 255: padding and ties */
    FAMILY_NUMBERS, /* 8 bytes, close together */
    FAMILY_ENTRIES, /* few directories, hashes, names */
    FAMILY_NAMES,   /* few directories, names without hashes */
    FAMILY_LONG,    /* 300 equal bytes in front, some 1000 */
    FAMILY_EQUAL,   /* very few different keys */
    FAMILY_FAR,     /* equal to byte 20, then random: heads tie until the prefix grows */
    FAMILY_MIXED,   /* any of the above */
    FAMILY_COUNT,
};

static void make_key(struct model *model, enum family family, struct model_key *key)
{
    static const uint8_t few[] = {0, 1, 255};
    key->size = 0;
    switch (family) {
    case FAMILY_RANDOM:
        put_random(model, key, below(model, 40));
        break;
    case FAMILY_TINY: {
        uint32_t size = below(model, 13);
        while (key->size < size)
            key->bytes[key->size++] = few[below(model, 3)];
        break;
    }
    case FAMILY_NUMBERS:
        put_u64(key, 0x8000000000000000u + below(model, 8000));
        break;
    case FAMILY_ENTRIES:
        put_u64(key, (uint64_t)below(model, 12) << 37 | 77);
        put_u64(key, next_random(model));
        put_random(model, key, below(model, 12));
        break;
    case FAMILY_NAMES:
        put_u64(key, 1000 + below(model, 4));
        key->size += (uint32_t)sprintf((char *)key->bytes + key->size, "a_file_name_%u.txt",
                                       below(model, 3000));
        break;
    case FAMILY_LONG:
        memset(key->bytes, 'x', 1000);
        key->size = below(model, 8) ? 300 : 1000;
        put_random(model, key, below(model, 24));
        break;
    case FAMILY_EQUAL:
        put_u64(key, below(model, 3));
        if (below(model, 2)) put_u64(key, 0);
        break;
    case FAMILY_FAR:
        memset(key->bytes, 'y', 20);
        key->size = 20;
        put_random(model, key, 9);
        break;
    default:
        make_key(model, (enum family)below(model, FAMILY_MIXED), key);
    }
}

static uint32_t free_row(struct model *model)
{
    for (;;) {
        uint32_t row = below(model, ROWS_MAX);
        if (model->store_keys || !model->rows[row]) return row;
    }
}

/* Grows and shrinks a tree of the family in waves. */
static void run_family(bool store_keys, bool unique, enum family family, uint64_t seed,
                       uint32_t steps)
{
    struct model *model = model_create(store_keys, seed & 1, seed);
    struct model_key *key = __real_calloc(1, sizeof *key);
    uint32_t grow = 75;
    for (uint32_t i = 0; i < steps; i++) {
        if (i % 1500 == 0) grow = i / 1500 % 2 ? 20 : 80;
        uint32_t dice = below(model, 100);
        if (model->count == 0 || dice < grow) {
            if (model->count < 3000 || dice < 10) {
                make_key(model, family, key);
                model_insert(model, key, free_row(model), unique);
            }
        } else {
            model_remove_at(model, below(model, model->count));
        }
        if (i % 8 == 0) {
            if (model->count && below(model, 2)) {
                *key = *model->entries[below(model, model->count)].key;
                if (key->size && below(model, 3) == 0) key->size--;
            } else {
                make_key(model, family, key);
            }
            check_find(model, key);
            check_seek(model, key, false);
            check_seek(model, key, true);
        }
        if (i % (steps / 40) == 0) verify(model);
    }
    check_walk(model);
    verify(model);
    while (model->count) {
        model_remove_at(model, below(model, model->count));
        if (model->count % 64 == 0) verify(model);
    }
    free(key);
    model_destroy(model);
}

Test(btree, agrees_with_a_sorted_array_reading_keys_from_rows)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        run_family(false, false, (enum family)family, 1 + family, 6000);
}

Test(btree, agrees_with_a_sorted_array_storing_keys)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        run_family(true, false, (enum family)family, 100 + family, 6000);
}

Test(btree, agrees_with_a_sorted_array_when_keys_are_unique)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        run_family(false, true, (enum family)family, 200 + family, 4000);
        run_family(true, true, (enum family)family, 300 + family, 4000);
    }
}

Test(btree, is_verified_after_every_change_while_small)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        for (uint32_t store = 0; store < 2; store++) {
            struct model *model = model_create(store, family & 1, 400 + family);
            struct model_key key = {0};
            for (uint32_t i = 0; i < 600; i++) {
                make_key(model, (enum family)family, &key);
                model_insert(model, &key, free_row(model), false);
                verify(model);
            }
            while (model->count) {
                model_remove_at(model, below(model, model->count));
                verify(model);
            }
            model_destroy(model);
        }
    }
}

Test(btree, has_nothing_in_an_empty_tree)
{
    struct model *model = model_create(false, false, 1);
    struct btree_position position = {.leaf = model, .index = 7};
    uint32_t row;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    cr_assert_lt(model->memory, 200);
    cr_assert_eq(btree_find(model->tree, (const uint8_t *)"a", 1, &row), ERR_NOT_FOUND);
    cr_assert_eq(btree_remove(model->tree, (const uint8_t *)"a", 1, 0), ERR_NOT_FOUND);
    btree_prefetch(model->tree, (const uint8_t *)"a", 1);
    btree_seek(model->tree, (const uint8_t *)"a", 1, false, &position);
    cr_assert_null(position.leaf);
    cr_assert_eq(btree_key_at(model->tree, &position, key), 0);
    cr_assert_not(btree_next(model->tree, &position, &row));
    cr_assert_not(btree_previous(model->tree, &position, &row));
    cr_assert_eq(btree_build(model->tree, NULL, 0, true), ERR_NONE);
    verify(model);
    model_destroy(model);
    btree_destroy(NULL);
}

Test(btree, insert_rejects_duplicate_key_and_names_its_row)
{
    struct model *model = model_create(true, false, 1);
    uint32_t existing = 0;
    const uint8_t *key = (const uint8_t *)"some key";
    cr_assert_eq(btree_insert(model->tree, key, 8, 5, true, &existing), ERR_NONE);
    cr_assert_eq(btree_insert(model->tree, key, 8, 6, true, &existing), ERR_EXISTS);
    cr_assert_eq(existing, 5);
    cr_assert_eq(btree_insert(model->tree, key, 8, 5, false, &existing), ERR_EXISTS);
    cr_assert_eq(btree_insert(model->tree, key, 8, 6, false, &existing), ERR_NONE);
    cr_assert_eq(btree_count(model->tree), 2);
    model_destroy(model);
}

Test(btree, seek_after_passes_all_keys_with_the_prefix)
{
    struct model *model = model_create(true, false, 1);
    const char *keys[] = {"a", "ab", "ab\xff", "ab\xff\xff", "ac", "b"};
    uint32_t row;
    for (uint32_t i = 0; i < ARRAY_SIZE(keys); i++) {
        enum err err = btree_insert(model->tree, (const uint8_t *)keys[i],
                                    (uint32_t)strlen(keys[i]), i, true, &row);
        cr_assert_eq(err, ERR_NONE);
    }
    struct btree_position position;
    btree_seek(model->tree, (const uint8_t *)"ab", 2, true, &position);
    cr_assert(btree_next(model->tree, &position, &row));
    cr_assert_eq(row, 4);
    btree_seek(model->tree, (const uint8_t *)"ab\xff", 3, true, &position);
    cr_assert(btree_next(model->tree, &position, &row));
    cr_assert_eq(row, 4);
    btree_seek(model->tree, (const uint8_t *)"\xff\xff", 2, true, &position);
    cr_assert_null(position.leaf);
    btree_seek(model->tree, (const uint8_t *)"", 0, true, &position);
    cr_assert_null(position.leaf);
    cr_assert(btree_previous(model->tree, &position, &row));
    cr_assert_eq(row, 5);
    model_destroy(model);
}

Test(btree, ascending_inserts_fill_leaves)
{
    struct model *model = model_create(false, false, 1);
    struct model_key key = {0};
    for (uint32_t i = 0; i < 5000; i++) {
        key.size = 0;
        put_u64(&key, 1000000 + i);
        model_insert(model, &key, i, true);
    }
    verify(model);
    cr_assert_lt(model->memory, 5000 * 13 + 8192, "%lu bytes", model->memory);
    model_destroy(model);
}

Test(btree, memory_follows_the_entries_down)
{
    struct model *model = model_create(false, false, 1);
    struct model_key key = {0};
    for (uint32_t i = 0; i < 5000; i++) {
        make_key(model, FAMILY_ENTRIES, &key);
        model_insert(model, &key, i, true);
    }
    cr_assert_lt(model->memory, model->count * 17 + 8192, "%lu bytes", model->memory);
    while (model->count > 200)
        model_remove_at(model, below(model, model->count));
    verify(model);
    cr_assert_lt(model->memory, 200 * 40 + 8192, "%lu bytes", model->memory);
    model_destroy(model);
}

Test(btree, reads_no_row_where_numbers_of_one_size_are_keys)
{
    struct model *model = model_create(false, false, 1);
    struct model_key key = {0};
    model->no_key_of = true;
    for (uint32_t i = 0; i < 250; i++) {
        key.size = 0;
        put_u64(&key, next_random(model));
        model_insert(model, &key, i, true);
        check_find(model, &key);
        model_insert(model, &key, i, true);
    }
    model->no_key_of = false;
    verify(model);
    model_destroy(model);
}

/* Fills two leaves whose border lies between two rows of one key, then takes that key from one of
 * them. */
static void check_unique_over_border(bool keep_left)
{
    struct model *model = model_create(true, false, 1);
    struct model_key few = {.size = 1, .bytes = {'m'}};
    struct model_key key = {0};
    for (uint32_t row = 0; row < 200; row++)
        model_insert(model, &few, 100 + row, false);
    for (uint32_t i = 0; i < 200; i++) {
        key.size = 0;
        key.bytes[key.size++] = i % 2 ? 'a' : 'z';
        put_u64(&key, i);
        model_insert(model, &key, 1000 + i, false);
    }
    verify(model);
    /* The border is wherever the split has put it: rows behind `cut`, or before it, are taken away
     * for every cut, and one of them is added again. */
    for (uint32_t cut = 101; cut < 300; cut++) {
        for (uint32_t row = 100; row < 300; row++) {
            if (keep_left == (row >= cut)) model_remove_at(model, model_place(model, &few, row));
        }
        uint32_t existing = UINT32_MAX;
        uint32_t added = keep_left ? cut : cut - 1;
        enum err err = btree_insert(model->tree, few.bytes, 1, added, true, &existing);
        cr_assert_eq(err, ERR_EXISTS);
        cr_assert(keep_left ? existing >= 100 && existing < cut
                            : existing >= cut && existing < 300);
        check_find(model, &few);
        for (uint32_t row = 100; row < 300; row++) {
            if (keep_left == (row >= cut)) model_insert(model, &few, row, false);
        }
        verify(model);
    }
    model_destroy(model);
}

Test(btree, insert_rejects_a_duplicate_key_in_the_neighbouring_leaf)
{
    check_unique_over_border(true);
    check_unique_over_border(false);
}

Test(btree, a_leaf_that_gets_empty_is_taken_out)
{
    struct model *model = model_create(false, false, 1);
    struct model_key key = {0};
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = model->count; i < 257; i++) {
            key.size = 0;
            put_u64(&key, i);
            model_insert(model, &key, i, true);
        }
        model_remove_at(model, 256);
        verify(model);
        check_walk(model);
    }
    model_destroy(model);
}

/* ---- building ---- */

static void build_family(bool store_keys, bool with_heads, enum family family, uint32_t count,
                         uint64_t seed)
{
    struct model *model = model_create(store_keys, with_heads, seed);
    static uint32_t rows[ROWS_MAX];
    /* The model is filled through another tree, to have its order and its keys in rows. */
    struct model *source = model_create(false, false, seed);
    struct model_key *key = __real_calloc(1, sizeof *key);
    for (uint32_t i = 0; i < count; i++) {
        make_key(source, family, key);
        model_insert(source, key, free_row(source), false);
    }
    model->count = source->count;
    for (uint32_t i = 0; i < source->count; i++) {
        model->entries[i] = source->entries[i];
        model->rows[source->entries[i].row] = source->entries[i].key;
    }
    uint32_t row_count = 0;
    for (uint32_t row = 0; row < ROWS_MAX; row++) {
        if (model->rows[row]) rows[row_count++] = row;
    }
    cr_assert_eq(row_count, model->count);
    for (uint32_t i = row_count; seed % 3 && i > 1; i--) {
        uint32_t other = below(model, i);
        uint32_t row = rows[i - 1];
        rows[i - 1] = rows[other];
        rows[other] = row;
    }
    bool equal = false;
    for (uint32_t i = 1; i < model->count; i++)
        equal |= model_has(model, i - 1, model->entries[i].key);
    if (equal) {
        cr_assert_eq(btree_build(model->tree, rows, row_count, true), ERR_EXISTS);
        cr_assert_eq(btree_count(model->tree), 0);
        struct diag diag = {0};
        cr_assert_eq(btree_verify(model->tree, &diag), ERR_NONE, "%s", diag.text);
    }
    cr_assert_eq(btree_build(model->tree, rows, row_count, !equal), ERR_NONE);
    verify(model);
    check_walk(model);
    for (uint32_t i = 0; i < 300; i++) {
        make_key(model, family, key);
        check_find(model, key);
        check_seek(model, key, i & 1);
        /* Stored keys need not be unique by row, so any row will do there. */
        if (!model->store_keys && model->count < ENTRIES_MAX) {
            model_insert(model, key, free_row(model), false);
        }
        if (model->count > 1) model_remove_at(model, below(model, model->count));
    }
    verify(model);
    source->count = 0;
    free(key);
    model_destroy(model);
    btree_destroy(source->tree);
    free(source);
}

Test(btree, build_sorts_rows_of_any_family)
{
    static const uint32_t counts[] = {1, 2, 7, 239, 240, 241, 300, 2500};
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        for (uint32_t i = 0; i < ARRAY_SIZE(counts); i++) {
            build_family(false, i & 1, (enum family)family, counts[i], 500 + family + i);
            build_family(true, i & 1, (enum family)family, counts[i], 600 + family + i);
        }
    }
}

Test(btree, build_without_memory_leaves_the_tree_empty)
{
    for (uint32_t store = 0; store < 2; store++) {
        struct model *model = model_create(store, false, 9);
        static uint32_t rows[ROWS_MAX];
        struct model_key key = {0};
        for (uint32_t i = 0; i < 3000; i++) {
            make_key(model, FAMILY_FAR, &key);
            model->rows[i] = __real_malloc(sizeof key);
            *model->rows[i] = key;
            rows[i] = i;
        }
        uint64_t memory = model->memory;
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            fail_at = n;
            enum err err = btree_build(model->tree, rows, 3000, true);
            failed = fail_at == 0;
            fail_at = 0;
            cr_assert_eq(err, failed ? ERR_NO_MEMORY : ERR_NONE);
            if (!failed) break;
            cr_assert_eq(model->memory, memory);
            verify(model);
        }
        model->count = 0;
        struct diag diag = {0};
        cr_assert_eq(btree_verify(model->tree, &diag), ERR_NONE, "%s", diag.text);
        cr_assert_eq(btree_count(model->tree), 3000);
        for (uint32_t i = 0; i < 3000; i++)
            free(model->rows[i]);
        model_destroy(model);
    }
}

/* ---- out of memory ---- */

/* Every allocation of every insert fails once: the tree must be what it was. Removes go on without
 * memory. */
static void run_without_memory(bool store_keys, enum family family, bool never, uint64_t seed)
{
    struct model *model = model_create(store_keys, false, seed);
    struct model_key *key = __real_calloc(1, sizeof *key);
    for (uint32_t i = 0; i < 2500; i++) {
        make_key(model, family, key);
        uint32_t row = free_row(model);
        uint32_t at = model_place(model, key, row);
        if (model_has(model, at, key) && model->entries[at].row == row) continue;
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            uint64_t memory = model->memory;
            uint64_t changes = btree_change_count(model->tree);
            uint32_t existing = UINT32_MAX;
            fail_at = n;
            fail_on = false;
            enum err err = btree_insert(model->tree, key->bytes, key->size, row, false, &existing);
            failed = fail_at == 0;
            fail_at = 0;
            if (!failed) {
                cr_assert_eq(err, ERR_NONE);
                break;
            }
            cr_assert_eq(err, ERR_NO_MEMORY);
            cr_assert_eq(model->memory, memory);
            cr_assert_eq(btree_change_count(model->tree), changes);
            if (n > 1 || i % 64 == 0) verify(model);
        }
        cr_assert_eq(btree_remove(model->tree, key->bytes, key->size, row), ERR_NONE);
        model_insert(model, key, row, false);
    }
    verify(model);
    while (model->count) {
        fail_at = 1;
        fail_on = never || below(model, 4) != 0;
        uint32_t at = below(model, model->count);
        if (!fail_on) fail_at = 1 + below(model, 3);
        model_remove_at(model, at);
        fail_at = 0;
        fail_on = false;
        if (model->count % 32 == 0) verify(model);
    }
    free(key);
    model_destroy(model);
}

Test(btree, stays_as_it_was_when_memory_runs_out)
{
    static const enum family families[] = {FAMILY_ENTRIES, FAMILY_NAMES, FAMILY_EQUAL,
                                           FAMILY_MIXED};
    for (uint32_t i = 0; i < ARRAY_SIZE(families); i++) {
        run_without_memory(false, families[i], i & 1, 700 + i);
        run_without_memory(true, families[i], !(i & 1), 800 + i);
    }
}

/* ---- large trees: several inner levels ---- */

enum { LARGE_COUNT = SANITIZED ? 20000 : 60000 };

/* Keys by row: 20 bytes of which the first 8 are a number, so that leaves are many and order is
 * known. */
struct large {
    struct btree *tree;
    uint64_t memory;
    uint32_t key_of_calls;
    uint64_t numbers[LARGE_COUNT];
};

static uint32_t large_key(const struct large *large, uint32_t row, uint8_t *bytes)
{
    struct model_key key = {0};
    put_u64(&key, large->numbers[row]);
    memcpy(bytes, key.bytes, key.size);
    memset(bytes + key.size, 'k', 12);
    return key.size + 12;
}

static uint32_t large_key_of(const void *context, uint32_t row, uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    struct large *large = (struct large *)(uintptr_t)context;
    large->key_of_calls++;
    return large_key(large, row, key);
}

static struct large *large_create(bool store_keys, uint32_t order, uint32_t key_size)
{
    struct large *large = __real_calloc(1, sizeof *large);
    for (uint32_t i = 0; i < LARGE_COUNT; i++)
        large->numbers[i] = order == 0 ? i : order == 1 ? LARGE_COUNT - i : hash_u64(i + 1);
    struct btree_config config = {.key_of = large_key_of,
                                  .context = large,
                                  .store_keys = store_keys,
                                  .key_size = key_size,
                                  .memory = &large->memory};
    cr_assert_eq(btree_create(&config, &large->tree), ERR_NONE);
    return large;
}

static void large_destroy(struct large *large)
{
    btree_destroy(large->tree);
    cr_assert_eq(large->memory, 0);
    free(large);
}

static void large_verify(const struct large *large, uint64_t count)
{
    struct diag diag = {0};
    cr_assert_eq(btree_verify(large->tree, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(btree_count(large->tree), count);
}

/* Every insert may run out of memory at any of its allocations, and is then tried again. */
static void large_fill(struct large *large, bool failing)
{
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t failures = 0;
    for (uint32_t row = 0; row < LARGE_COUNT; row++) {
        uint32_t size = large_key(large, row, key);
        uint32_t existing;
        fail_at = failing ? 1 + hash_u64(row) % 6 : 0;
        enum err err = btree_insert(large->tree, key, size, row, true, &existing);
        fail_at = 0;
        if (err == ERR_NO_MEMORY) {
            failures++;
            err = btree_insert(large->tree, key, size, row, true, &existing);
        }
        cr_assert_eq(err, ERR_NONE);
        if (row % 20000 == 0) large_verify(large, row + 1u);
    }
    cr_assert_eq(failures > 0, failing);
    large_verify(large, LARGE_COUNT);
}

static void large_remove(struct large *large, uint32_t row, bool failing)
{
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = large_key(large, row, key);
    uint32_t found;
    cr_assert_eq(btree_find(large->tree, key, size, &found), ERR_NONE);
    cr_assert_eq(found, row);
    fail_at = failing ? 1 + hash_u64(row) % 4 : 0;
    cr_assert_eq(btree_remove(large->tree, key, size, row), ERR_NONE);
    fail_at = 0;
    cr_assert_eq(btree_find(large->tree, key, size, &found), ERR_NOT_FOUND);
}

/* Empties the tree: from the front, from the back, or anywhere. */
static void large_empty(struct large *large, uint32_t order)
{
    for (uint32_t i = 0; i < LARGE_COUNT; i++) {
        uint32_t row = order == 0   ? i
                       : order == 1 ? LARGE_COUNT - 1 - i
                                    : (uint32_t)((uint64_t)i * 7919 % LARGE_COUNT);
        large_remove(large, row, order == 1);
        if (i % 10000 == 0 || i + 100 > LARGE_COUNT) large_verify(large, LARGE_COUNT - 1 - i);
    }
    cr_assert_lt(large->memory, 200);
}

Test(btree, stays_in_order_when_inner_nodes_split_and_merge)
{
    for (uint32_t order = 0; order < 3; order++) {
        for (uint32_t removal = 0; removal < 3; removal++) {
            struct large *large = large_create(removal == 2, order, 0);
            large_fill(large, removal == 1);
            large_empty(large, removal);
            large_destroy(large);
        }
    }
}

Test(btree, build_makes_inner_levels)
{
    static uint32_t rows[LARGE_COUNT];
    for (uint32_t order = 0; order < 3; order++) {
        struct large *large = large_create(false, order, 20);
        for (uint32_t i = 0; i < LARGE_COUNT; i++)
            rows[i] = i;
        cr_assert_eq(btree_build(large->tree, rows, LARGE_COUNT, true), ERR_NONE);
        large_verify(large, LARGE_COUNT);
        cr_assert_lt(large->memory, LARGE_COUNT * 14);
        large_empty(large, order);
        large_destroy(large);
    }
}

/* Keys of 8 bytes, so that heads reach to their ends. */
static uint32_t number_key_of(const void *context, uint32_t row, uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    uint32_t size = large_key_of(context, row, key);
    return size - 12;
}

Test(btree, a_known_key_size_saves_reading_keys_after_a_build)
{
    static uint32_t rows[LARGE_COUNT];
    for (uint32_t known = 0; known < 2; known++) {
        struct large *large = large_create(false, 2, 0);
        struct btree *tree;
        struct btree_config config = {
            .key_of = number_key_of, .context = large, .key_size = known ? 8 : 0};
        cr_assert_eq(btree_create(&config, &tree), ERR_NONE);
        for (uint32_t i = 0; i < LARGE_COUNT; i++)
            rows[i] = i;
        cr_assert_eq(btree_build(tree, rows, LARGE_COUNT, true), ERR_NONE);
        large->key_of_calls = 0;
        for (uint32_t row = 0; row < 1000; row++) {
            uint8_t key[SCHEMA_KEY_SIZE_MAX];
            uint32_t found;
            large_key(large, row, key);
            cr_assert_eq(btree_find(tree, key, 8, &found), ERR_NONE);
            cr_assert_eq(found, row);
        }
        cr_assert_eq(large->key_of_calls, known ? 0 : 1000);
        btree_destroy(tree);
        large_destroy(large);
    }
}
