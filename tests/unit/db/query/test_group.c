/* Group tables and distinct sets at sizes where their arrays become mappings and their tables grow
 * in turns, and with memory ending at every point on the way. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "db/query/distinct.h"
#include "db/query/group.h"

enum { KEYS = 100000 };

struct columns {
    uint64_t numbers[QUERY_VECTOR_ROWS];
    struct vector_str texts[QUERY_VECTOR_ROWS];
    uint8_t nulls[QUERY_VECTOR_ROWS];
    char bytes[QUERY_VECTOR_ROWS][24];
};

/* Key number k of column c; every 1,000th is NULL in column 1. */
static void fill(struct columns *columns, struct vector *number, struct vector *text,
                 uint64_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t k = first + i;
        columns->numbers[i] = k % 3 ? k : hash_u64(k);
        int size = snprintf(columns->bytes[i], sizeof(columns->bytes[i]), "%s%lu",
                            k % 2 ? "Key" : "kEy", (unsigned long)(k / 2));
        columns->texts[i] =
            (struct vector_str){.bytes = (uint8_t *)columns->bytes[i], .size = (uint32_t)size};
        columns->nulls[i] = k % 1000 == 0;
    }
    *number = (struct vector){.kind = KIND_U64, .count = count, .u = columns->numbers};
    *text = (struct vector){.kind = KIND_STR,
                            .has_nulls = true,
                            .count = count,
                            .str = columns->texts,
                            .nulls = columns->nulls};
}

/* Which keys of the two columns a grouping uses, and how many groups come out. */
struct grouping {
    uint16_t key_count;
    uint8_t first; /* column of the first key */
    uint8_t collation;
    uint32_t groups;
};

static const struct grouping groupings[] = {
    {1, 0, COLLATION_BINARY, KEYS},
    {1, 1, COLLATION_BINARY, KEYS - KEYS / 1000 + 1},
    {1, 1, COLLATION_CASE_INSENSITIVE, KEYS / 2 + 1},
    {2, 0, COLLATION_BINARY, KEYS},
};

static enum err group_all(const struct grouping *grouping, uint64_t memory_max, bool check,
                          uint64_t *ret_peak)
{
    static struct columns columns;
    struct query_memory memory;
    struct groups groups;
    query_memory_init(&memory, memory_max);
    struct query_type types[2] = {{.kind = grouping->first ? KIND_STR : KIND_U64},
                                  {.kind = KIND_STR}};
    uint8_t collations[2] = {grouping->collation, grouping->collation};
    enum err err = groups_init(&groups, &memory, grouping->key_count, types, collations, NULL);
    if (err) {
        cr_assert_eq(memory.used, 0);
        return err;
    }
    /* Twice over all keys: the second time every one is found again. */
    for (int round = 0; round < 2 && !err; round++) {
        for (uint64_t first = 0; first < KEYS && !err; first += 1000) {
            struct vector number;
            struct vector text;
            uint32_t ids[QUERY_VECTOR_ROWS];
            bool one_group;
            fill(&columns, &number, &text, first, 1000);
            const struct vector *keys[2] = {grouping->first ? &text : &number, &text};
            err = groups_find(&groups, keys, 1000, ids, &one_group);
            for (uint32_t i = 0; check && i < 1000 && !err; i++) {
                struct vector key = groups_key(&groups, 0, ids[i], 1);
                struct value found = vector_value(&key, 0);
                struct value wanted = vector_value(keys[0], i);
                cr_assert_eq(found.kind, wanted.kind);
                if (found.kind != KIND_NULL)
                    cr_assert_eq(value_compare(found, wanted, grouping->collation), 0);
            }
        }
    }
    if (check) {
        cr_assert_eq(err, ERR_NONE);
        cr_assert_eq(groups.count, grouping->groups, "%u groups, not %u", groups.count,
                     grouping->groups);
        uint64_t rows = 0;
        for (uint32_t i = 0; i < groups.count; i++)
            rows += groups.rows[i];
        cr_assert_eq(rows, 2 * KEYS);
    }
    *ret_peak = memory.peak;
    groups_fini(&groups);
    cr_assert_eq(memory.used, 0);
    return err;
}

Test(group, every_key_has_one_group_at_any_size)
{
    uint64_t peak;
    for (size_t g = 0; g < sizeof(groupings) / sizeof(groupings[0]); g++)
        cr_assert_eq(group_all(&groupings[g], 0, true, &peak), ERR_NONE);
}

Test(group, running_out_of_memory_anywhere_gives_everything_back)
{
    for (size_t g = 0; g < sizeof(groupings) / sizeof(groupings[0]); g++) {
        uint64_t peak;
        uint64_t ignored;
        cr_assert_eq(group_all(&groupings[g], 0, false, &peak), ERR_NONE);
        for (uint64_t limit = 1; limit < peak; limit += peak / 17)
            cr_assert_eq(group_all(&groupings[g], limit, false, &ignored), ERR_QUERY_MEMORY);
    }
}

Test(group, no_keys_make_one_group)
{
    struct query_memory memory;
    struct groups groups;
    query_memory_init(&memory, 0);
    cr_assert_eq(groups_init(&groups, &memory, 0, NULL, NULL, NULL), ERR_NONE);
    cr_assert_eq(groups.count, 1);
    uint32_t ids[QUERY_VECTOR_ROWS];
    bool one_group;
    cr_assert_eq(groups_find(&groups, NULL, 700, ids, &one_group), ERR_NONE);
    cr_assert(one_group);
    cr_assert_eq(ids[699], 0);
    cr_assert_eq(groups.rows[0], 700);
    groups_fini(&groups);
    cr_assert_eq(memory.used, 0);
}

/* Small keys packed into one number must not run into each other. */
Test(group, packed_keys_stay_apart)
{
    struct query_memory memory;
    struct groups groups;
    query_memory_init(&memory, 0);
    struct query_type types[2] = {{.kind = KIND_I64}, {.kind = KIND_U64}};
    uint8_t collations[2] = {0};
    struct group_width widths[2] = {{.bits = 8, .nullable = true}, {.bits = 32, .nullable = true}};
    cr_assert_eq(groups_init(&groups, &memory, 2, types, collations, widths), ERR_NONE);
    cr_assert_eq(groups.mode, GROUP_NUMBER);
    int64_t a[] = {-1, -1, 0, 0, 127, -128, -1, 5, 0};
    uint64_t b[] = {UINT32_MAX, 0, UINT32_MAX, 0, 1, 1, UINT32_MAX, 7, 0};
    uint8_t a_nulls[] = {0, 0, 0, 0, 0, 0, 0, 1, 0};
    uint8_t b_nulls[] = {0, 0, 0, 0, 0, 0, 0, 1, 1};
    struct vector first = {
        .kind = KIND_I64, .count = 9, .i = a, .nulls = a_nulls, .has_nulls = true};
    struct vector second = {
        .kind = KIND_U64, .count = 9, .u = b, .nulls = b_nulls, .has_nulls = true};
    const struct vector *keys[2] = {&first, &second};
    uint32_t ids[QUERY_VECTOR_ROWS];
    bool one_group;
    cr_assert_eq(groups_find(&groups, keys, 9, ids, &one_group), ERR_NONE);
    cr_assert_eq(groups.count, 8);
    cr_assert_eq(ids[0], ids[6]);
    cr_assert_neq(ids[3], ids[8]);
    struct vector key = groups_key(&groups, 0, ids[5], 1);
    cr_assert_eq(key.i[0], -128);
    groups_fini(&groups);
    cr_assert_eq(memory.used, 0);
}

static enum err add_all(uint64_t memory_max, bool fold, uint64_t *ret_peak, uint32_t *ret_count)
{
    struct query_memory memory;
    struct distinct_set set;
    query_memory_init(&memory, memory_max);
    distinct_init(&set, &memory, fold);
    enum err err = ERR_NONE;
    for (uint32_t k = 0; k < 2 * KEYS && !err; k++) {
        char text[24];
        bool added;
        int size = snprintf(text, sizeof(text), "%s%u", k % 2 ? "a" : "A", k % KEYS / 2);
        if (k % 5 == 0)
            err = distinct_add_number(&set, 1, k % KEYS, &added);
        else
            err = distinct_add_bytes(&set, 0, (uint8_t *)text, (uint32_t)size, &added);
        /* The second time round nothing is new. */
        if (!err && k >= KEYS) cr_assert(!added);
    }
    *ret_count = set.count;
    *ret_peak = memory.peak;
    distinct_fini(&set);
    cr_assert_eq(memory.used, 0);
    return err;
}

Test(distinct, counts_each_value_once_and_survives_lack_of_memory)
{
    for (int fold = 0; fold < 2; fold++) {
        uint64_t peak;
        uint64_t ignored;
        uint32_t count = 0;
        cr_assert_eq(add_all(0, fold, &peak, &count), ERR_NONE);
        /* A fifth are numbers; of the texts, pairs are one when folded unless one of the pair is a
         * number. */
        uint32_t numbers = KEYS / 5;
        uint32_t pairs_whole = KEYS / 10 * 3;
        cr_assert_eq(count, fold ? numbers + pairs_whole + KEYS / 5 : KEYS, "%u", count);
        for (uint64_t limit = 1; limit < peak; limit += peak / 17)
            cr_assert_eq(add_all(limit, fold, &ignored, &count), ERR_QUERY_MEMORY);
    }
}
