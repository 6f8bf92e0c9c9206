/* The hash index against a model: the set of rows that are in it. Families of hashes aim at chains
 * (hashes that agree in many bits, or all) and at the moving window of tags. */
#include <criterion/criterion.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/hash_index.h"

/* ---- allocation failures: the linker sends the library's allocations here ---- */

void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

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

enum { ROWS_MAX = 60000 };

struct model {
    struct hash_index *index;
    uint64_t memory;
    uint64_t random;
    uint32_t count;
    uint64_t hash_calls;
    uint64_t hashes[ROWS_MAX];
    bool in[ROWS_MAX];
};

static uint64_t next_random(struct model *model)
{
    model->random += 0x9e3779b97f4a7c15u;
    return hash_u64(model->random);
}

static uint64_t model_hash_of(const void *context, uint32_t row)
{
    const struct model *model = context;
    cr_assert(row < ROWS_MAX && model->in[row], "the hash of a dead row was asked for");
    ((struct model *)(uintptr_t)context)->hash_calls++;
    return model->hashes[row];
}

static struct model *model_create(uint64_t seed)
{
    struct model *model = __real_calloc(1, sizeof *model);
    model->random = seed;
    struct hash_index_config config = {
        .hash_of = model_hash_of, .context = model, .memory = &model->memory};
    cr_assert_eq(hash_index_create(&config, &model->index), ERR_NONE);
    return model;
}

static void model_destroy(struct model *model)
{
    hash_index_destroy(model->index);
    cr_assert_eq(model->memory, 0);
    free(model);
}

static void verify(const struct model *model)
{
    struct diag diag = {0};
    cr_assert_eq(hash_index_verify(model->index, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(hash_index_count(model->index), model->count);
}

static void model_insert(struct model *model, uint32_t row)
{
    cr_assert_eq(hash_index_insert(model->index, model->hashes[row], row), ERR_NONE);
    model->in[row] = true;
    model->count++;
}

static void model_remove(struct model *model, uint32_t row)
{
    model->in[row] = false; /* its hash must not be needed any more */
    cr_assert_eq(hash_index_remove(model->index, model->hashes[row], row), ERR_NONE);
    model->count--;
}

struct wanted {
    uint32_t row;
    uint32_t candidates;
};

static bool match_row(const void *context, uint32_t row)
{
    struct wanted *wanted = (struct wanted *)(uintptr_t)context;
    wanted->candidates++;
    return row == wanted->row;
}

static void check_find(const struct model *model, uint32_t row)
{
    struct wanted wanted = {.row = row};
    uint32_t found = UINT32_MAX;
    hash_index_prefetch(model->index, model->hashes[row]);
    enum err err = hash_index_find(model->index, model->hashes[row], match_row, &wanted, &found);
    cr_assert_eq(err, model->in[row] ? ERR_NONE : ERR_NOT_FOUND);
    cr_assert_eq(found, model->in[row] ? row : UINT32_MAX);
}

enum family {
    FAMILY_RANDOM,
    FAMILY_FEW,      /* 50 different hashes */
    FAMILY_LOW_SAME, /* the low 20 bits are the same */
    FAMILY_HIGH_SAME,
    FAMILY_SEQUENCE,
    FAMILY_COUNT,
};

static uint64_t make_hash(struct model *model, enum family family, uint32_t row)
{
    switch (family) {
    case FAMILY_FEW:
        return hash_u64(next_random(model) % 50);
    case FAMILY_LOW_SAME:
        return next_random(model) << 20 | 0x12345;
    case FAMILY_HIGH_SAME:
        return next_random(model) & 0xfff;
    case FAMILY_SEQUENCE:
        return row;
    default:
        return next_random(model);
    }
}

static void run_family(enum family family, uint32_t rows, uint32_t steps, uint64_t seed)
{
    struct model *model = model_create(seed);
    for (uint32_t row = 0; row < rows; row++)
        model->hashes[row] = make_hash(model, family, row);
    uint32_t grow = 60;
    for (uint32_t i = 0; i < steps; i++) {
        if (i % (steps / 6) == 0) grow = 120 - grow + (grow == 60 ? 30 : 0);
        uint32_t row = (uint32_t)(next_random(model) % rows);
        bool inserts = next_random(model) % 100 < grow;
        if (inserts && !model->in[row]) model_insert(model, row);
        if (!inserts && model->in[row]) model_remove(model, row);
        check_find(model, (uint32_t)(next_random(model) % rows));
        if (i % (steps / 50) == 0) verify(model);
    }
    verify(model);
    for (uint32_t row = 0; row < rows; row++) {
        check_find(model, row);
        if (model->in[row]) {
            model_remove(model, row);
        } else {
            enum err err = hash_index_remove(model->index, model->hashes[row], row);
            cr_assert_eq(err, ERR_NOT_FOUND);
        }
        if (row % (rows / 40) == 0) verify(model);
    }
    cr_assert_lt(model->memory, 256);
    model_destroy(model);
}

Test(hash_index, agrees_with_a_set_of_rows)
{
    run_family(FAMILY_RANDOM, 40000, 120000, 1);
    run_family(FAMILY_RANDOM, 200, 30000, 2);
    run_family(FAMILY_SEQUENCE, 20000, 60000, 3);
}

Test(hash_index, agrees_with_a_set_of_rows_whose_hashes_collide)
{
    run_family(FAMILY_FEW, 1000, 6000, 4);
    run_family(FAMILY_LOW_SAME, 1000, 6000, 5);
    run_family(FAMILY_HIGH_SAME, 8000, 20000, 6);
}

Test(hash_index, is_verified_after_every_change_while_small)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        struct model *model = model_create(10 + family);
        for (uint32_t row = 0; row < 400; row++) {
            model->hashes[row] = make_hash(model, (enum family)family, row);
            model_insert(model, row);
            verify(model);
        }
        for (uint32_t row = 0; row < 400; row++) {
            model_remove(model, row * 7 % 400);
            verify(model);
        }
        model_destroy(model);
    }
}

Test(hash_index, finds_nothing_when_empty)
{
    struct model *model = model_create(1);
    cr_assert_lt(model->memory, 256);
    check_find(model, 5);
    cr_assert_eq(hash_index_remove(model->index, 5, 5), ERR_NOT_FOUND);
    hash_index_prefetch(model->index, 5);
    verify(model);
    model_destroy(model);
    hash_index_destroy(NULL);
}

Test(hash_index, offers_every_row_of_an_equal_hash)
{
    struct model *model = model_create(1);
    for (uint32_t row = 0; row < 30; row++) {
        model->hashes[row] = 0x1234567890abcdef;
        model_insert(model, row);
    }
    struct wanted wanted = {.row = UINT32_MAX};
    uint32_t found;
    enum err err = hash_index_find(model->index, 0x1234567890abcdef, match_row, &wanted, &found);
    cr_assert_eq(err, ERR_NOT_FOUND);
    cr_assert_eq(wanted.candidates, 30);
    verify(model);
    model_destroy(model);
}

Test(hash_index, takes_about_nine_bytes_a_row_and_seldom_offers_a_wrong_one)
{
    struct model *model = model_create(3);
    uint32_t candidates = 0;
    uint32_t finds = 0;
    for (uint32_t row = 0; row < ROWS_MAX; row++) {
        model->hashes[row] = next_random(model);
        model_insert(model, row);
        if (row < 10000 || row % 2000) continue;
        double bytes = (double)model->memory / (row + 1);
        cr_assert_lt(bytes, row < 30000 ? 11 : 9.4, "%f bytes a row at %u", bytes, row);
        for (uint32_t i = 0; i < 1000; i++) {
            struct wanted wanted = {.row = (uint32_t)(next_random(model) % (row + 1))};
            uint32_t found;
            enum err err = hash_index_find(model->index, model->hashes[wanted.row], match_row,
                                           &wanted, &found);
            cr_assert_eq(err, ERR_NONE);
            candidates += wanted.candidates;
            finds++;
        }
    }
    cr_assert_lt(candidates, finds + finds / 20, "%u candidates for %u", candidates, finds);
    model_destroy(model);
}

Test(hash_index, asks_rows_for_their_hashes_once_in_eight_doublings)
{
    struct model *model = model_create(3);
    uint64_t calls_at_4096_buckets = 0;
    for (uint32_t row = 0; row < ROWS_MAX; row++) {
        model->hashes[row] = next_random(model);
        model_insert(model, row);
        if (row == 5000) calls_at_4096_buckets = model->hash_calls;
    }
    cr_assert_eq(model->hash_calls, calls_at_4096_buckets);
    model_destroy(model);
}

Test(hash_index, reserve_makes_room_at_once)
{
    struct model *model = model_create(3);
    cr_assert_eq(hash_index_reserve(model->index, 50000), ERR_NONE);
    verify(model);
    uint64_t memory = model->memory;
    for (uint32_t row = 0; row < 50000; row++) {
        model->hashes[row] = next_random(model);
        model_insert(model, row);
    }
    cr_assert_lt(model->memory, memory + memory / 2); /* units only */
    verify(model);
    cr_assert_eq(hash_index_reserve(model->index, 60000), ERR_NONE);
    verify(model);
    for (uint32_t row = 0; row < 50000; row++)
        check_find(model, row);
    model_destroy(model);
}

Test(hash_index, stays_as_it_was_when_memory_runs_out)
{
    uint32_t failures = 0;
    for (uint32_t family = 0; family < FAMILY_COUNT; family++) {
        struct model *model = model_create(20 + family);
        for (uint32_t row = 0; row < 3000; row++) {
            model->hashes[row] = make_hash(model, (enum family)family, row);
            fail_at = 1 + next_random(model) % 3;
            fail_on = next_random(model) % 2;
            enum err err = hash_index_insert(model->index, model->hashes[row], row);
            fail_at = 0;
            cr_assert(err == ERR_NONE || err == ERR_NO_MEMORY);
            failures += err != ERR_NONE;
            if (err) {
                if (row % 16 == 0) verify(model);
                model_insert(model, row);
            } else {
                model->in[row] = true;
                model->count++;
            }
        }
        verify(model);
        for (uint32_t row = 0; row < 3000; row++) {
            fail_at = 1;
            fail_on = true;
            model_remove(model, row);
            fail_at = 0;
            if (row % 100 == 0) verify(model);
        }
        model_destroy(model);
    }
    cr_assert_gt(failures, 20);
    struct hash_index *index = NULL;
    struct hash_index_config config = {.hash_of = model_hash_of};
    fail_at = 1;
    cr_assert_eq(hash_index_create(&config, &index), ERR_NO_MEMORY);
    cr_assert_null(index);
    fail_at = 0;
}
