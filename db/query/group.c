/* Group numbers by key: see group.h.
 *
 * Most groupings are by one integer (an owner, a type, a size class) or by a few small ones, so
 * those get the short way: keys below 65,536 index a table of group numbers, others are found by
 * open addressing over 16-byte slots {key, group}. Several keys of known small width are packed
 * into one 64-bit number first. A single text key with binary collation is its own encoding.
 * Everything else is encoded row by row: for each key a NULL byte, then 8 bytes, or a size and the
 * bytes, folded when the collation ignores case; F64 with one zero and one NaN, as value_compare
 * has it.
 *
 * What a group's keys looked like in its first row is kept in columns, which is what the outputs
 * show. */
#include "db/query/group.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

struct group_slot {
    uint64_t key;   /* the number, or the hash of the encoding */
    uint32_t group; /* + 1; 0: free */
    uint32_t reserved;
};

enum { GROUP_CAPACITY_MIN = 64, GROUP_SLOTS_MIN = 16, PREFETCH_GROUPS_MIN = 1 << 13 };

static size_t key_width(const struct group_key *key)
{
    return key->type.kind == KIND_STR ? sizeof(struct vector_str) : sizeof(uint64_t);
}

static bool kind_is_integer(uint8_t kind)
{
    return kind == KIND_I64 || kind == KIND_U64 || kind == KIND_DEC;
}

/* Do all keys together fit 64 bits? Then each remembers its width. */
static bool pack(struct groups *groups, const struct group_width *widths)
{
    unsigned bits = 0;
    if (!widths || groups->key_count < 2) return false;
    for (uint16_t k = 0; k < groups->key_count; k++) {
        if (!widths[k].bits || !kind_is_integer(groups->keys[k].type.kind)) return false;
        bits += widths[k].bits + (unsigned)widths[k].nullable;
    }
    if (bits > 64) return false;
    for (uint16_t k = 0; k < groups->key_count; k++) {
        groups->keys[k].bits = widths[k].bits;
        groups->keys[k].nullable = widths[k].nullable;
    }
    return true;
}

static enum group_mode choose_mode(struct groups *groups, const struct group_width *widths)
{
    if (!groups->key_count) return GROUP_NONE;
    const struct group_key *key = &groups->keys[0];
    if (groups->key_count == 1 && kind_is_integer(key->type.kind)) return GROUP_NUMBER;
    if (groups->key_count == 1 && key->type.kind == KIND_STR && key->collation == COLLATION_BINARY)
        return GROUP_TEXT;
    return pack(groups, widths) ? GROUP_NUMBER : GROUP_BYTES;
}

/* ---- memory ---- */

/* An array that a failure leaves larger than the others is only larger. */
static enum err grow(struct groups *groups)
{
    if (groups->capacity >= GROUPS_MAX) return ERR_QUERY_MEMORY;
    uint32_t capacity = groups->capacity ? 2 * groups->capacity : GROUP_CAPACITY_MIN;
    enum err err = ERR_NONE;
    for (uint16_t k = 0; !err && k < groups->key_count; k++) {
        struct group_key *key = &groups->keys[k];
        void *at = key->numbers;
        err = query_grow(groups->memory, &at, &key->values_size, capacity * key_width(key));
        key->numbers = at;
        if (err) break;
        at = key->nulls;
        err = query_grow(groups->memory, &at, &key->nulls_size, capacity);
        key->nulls = at;
    }
    void *at = groups->encoded;
    if (!err && groups->mode >= GROUP_TEXT)
        err = query_grow(groups->memory, &at, &groups->encoded_size,
                         capacity * sizeof(*groups->encoded));
    groups->encoded = at;
    at = groups->rows;
    if (!err)
        err = query_grow(groups->memory, &at, &groups->rows_size, capacity * sizeof(*groups->rows));
    groups->rows = at;
    if (!err) groups->capacity = capacity;
    return err;
}

/* What a table has before its first group. */
static struct group_slot no_slots[1];

static inline struct group_table *table_of(const struct groups *groups, uint64_t hash)
{
    return &groups->tables[hash / (UINT64_MAX / GROUP_TABLES + 1)];
}

static void free_slots(struct groups *groups, struct group_table *table)
{
    if (table->slots != no_slots)
        query_free(groups->memory, table->slots, table->slot_count * sizeof(*table->slots));
}

static void put_slot(struct group_table *table, uint64_t hash, struct group_slot slot)
{
    while (table->slots[hash & (table->slot_count - 1)].group)
        hash++;
    table->slots[hash & (table->slot_count - 1)] = slot;
    table->used++;
}

static enum err grow_table(struct groups *groups, struct group_table *table)
{
    uint32_t count = table->slot_count < GROUP_SLOTS_MIN ? GROUP_SLOTS_MIN : 2 * table->slot_count;
    void *at;
    enum err err = query_alloc(groups->memory, count * sizeof(struct group_slot), &at);
    if (err) return err;
    memset(at, 0, count * sizeof(struct group_slot));
    struct group_table grown = {.slots = at, .slot_count = count};
    bool numbers = groups->mode == GROUP_NUMBER;
    for (uint32_t i = 0; i < table->slot_count; i++) {
        struct group_slot slot = table->slots[i];
        if (slot.group) put_slot(&grown, numbers ? hash_u64(slot.key) : slot.key, slot);
    }
    free_slots(groups, table);
    *table = grown;
    return ERR_NONE;
}

/* Room for one more. All tables fill up alike: so that they do not all grow in the same moment, the
 * first one does when it is a third full, the last one when it is two thirds full. */
static enum err make_slot(struct groups *groups, uint64_t hash)
{
    struct group_table *table = table_of(groups, hash);
    uint64_t share = GROUP_TABLES + (uint64_t)(table - groups->tables);
    bool full = (table->used + UINT64_C(1)) * 3 * GROUP_TABLES > table->slot_count * share;
    return full ? grow_table(groups, table) : ERR_NONE;
}

static enum err init_tables(struct groups *groups)
{
    void *at;
    enum err err = query_alloc(groups->memory, GROUP_TABLES * sizeof(*groups->tables), &at);
    if (err) return err;
    groups->tables = at;
    for (uint32_t i = 0; i < GROUP_TABLES; i++)
        groups->tables[i] = (struct group_table){.slots = no_slots, .slot_count = 1};
    return ERR_NONE;
}

enum err groups_init(struct groups *groups, struct query_memory *memory, uint16_t key_count,
                     const struct query_type *types, const uint8_t *collations,
                     const struct group_width *widths)
{
    *groups = (struct groups){.memory = memory, .key_count = key_count};
    arena_init(&groups->arena, 0);
    buf_init(&groups->scratch);
    void *at;
    enum err err = query_alloc(memory, (key_count + 1u) * sizeof(struct group_key), &at);
    if (err) {
        *groups = (struct groups){0};
        return err;
    }
    groups->keys = at;
    memset(groups->keys, 0, (key_count + 1u) * sizeof(struct group_key));
    for (uint16_t k = 0; k < key_count; k++) {
        groups->keys[k].type = types[k];
        groups->keys[k].collation = collations[k];
    }
    groups->mode = choose_mode(groups, widths);
    if (groups->mode == GROUP_NONE) {
        err = grow(groups);
        if (err) {
            groups_fini(groups);
            return err;
        }
        groups->rows[0] = 0;
        groups->count = 1;
        return ERR_NONE;
    }
    if (groups->mode == GROUP_NUMBER) {
        err = query_memory_take(memory, GROUP_DIRECT_MAX * sizeof(uint32_t));
        if (!err) {
            groups->direct = calloc(GROUP_DIRECT_MAX, sizeof(uint32_t));
            if (!groups->direct) {
                query_memory_give(memory, GROUP_DIRECT_MAX * sizeof(uint32_t));
                err = ERR_NO_MEMORY;
            }
        }
    }
    if (!err) err = init_tables(groups);
    if (err) groups_fini(groups);
    return err;
}

void groups_fini(struct groups *groups)
{
    if (!groups->memory) return;
    for (uint16_t k = 0; k < groups->key_count; k++) {
        struct group_key *key = &groups->keys[k];
        query_free(groups->memory, key->numbers, key->values_size);
        query_free(groups->memory, key->nulls, key->nulls_size);
    }
    query_free(groups->memory, groups->encoded, groups->encoded_size);
    query_free(groups->memory, groups->rows, groups->rows_size);
    for (uint32_t i = 0; groups->tables && i < GROUP_TABLES; i++)
        free_slots(groups, &groups->tables[i]);
    query_free(groups->memory, groups->tables, GROUP_TABLES * sizeof(*groups->tables));
    query_free(groups->memory, groups->direct, GROUP_DIRECT_MAX * sizeof(uint32_t));
    query_free(groups->memory, groups->keys, (groups->key_count + 1u) * sizeof(struct group_key));
    query_arena_fini(groups->memory, &groups->arena);
    buf_fini(&groups->scratch);
    *groups = (struct groups){0};
}

/* ---- making a group ---- */

static enum err keep_text(struct groups *groups, struct vector_str text, struct vector_str *ret)
{
    struct value kept;
    enum err err =
        value_keep(groups->memory, &groups->arena, value_str(text.bytes, text.size), &kept);
    if (!err) *ret = (struct vector_str){.bytes = kept.bytes, .size = kept.size};
    return err;
}

/* A new group with the keys of row i. */
static enum err add_group(struct groups *groups, const struct vector *const *keys, uint32_t i,
                          uint32_t *ret_group)
{
    if (groups->count == groups->capacity) {
        enum err err = grow(groups);
        if (err) return err;
    }
    uint32_t group = groups->count;
    for (uint16_t k = 0; k < groups->key_count; k++) {
        struct group_key *key = &groups->keys[k];
        key->nulls[group] = vector_is_null(keys[k], i);
        if (key->type.kind != KIND_STR) {
            key->numbers[group] = key->nulls[group] ? 0 : keys[k]->u[i];
            continue;
        }
        key->texts[group] = (struct vector_str){0};
        if (key->nulls[group]) continue;
        enum err err = keep_text(groups, keys[k]->str[i], &key->texts[group]);
        if (err) return err;
    }
    groups->rows[group] = 0;
    groups->count++;
    *ret_group = group;
    return ERR_NONE;
}

static enum err add_null_group(struct groups *groups, const struct vector *const *keys, uint32_t i,
                               uint32_t *ret_group)
{
    if (!groups->null_group) {
        uint32_t group;
        enum err err = add_group(groups, keys, i, &group);
        if (err) return err;
        if (groups->encoded) groups->encoded[group] = (struct vector_str){0};
        groups->null_group = group + 1;
    }
    *ret_group = groups->null_group - 1;
    return ERR_NONE;
}

/* ---- numbers ---- */

static enum err add_number(struct groups *groups, const struct vector *const *keys, uint32_t i,
                           uint64_t number, uint32_t *ret_group)
{
    uint64_t hash = hash_u64(number);
    bool direct = number < GROUP_DIRECT_MAX;
    enum err err = direct ? ERR_NONE : make_slot(groups, hash);
    if (err) return err;
    uint32_t group;
    err = add_group(groups, keys, i, &group);
    if (err) return err;
    if (direct)
        groups->direct[number] = group + 1;
    else
        put_slot(table_of(groups, hash), hash,
                 (struct group_slot){.key = number, .group = group + 1});
    *ret_group = group;
    return ERR_NONE;
}

static inline uint32_t probe_number(const struct groups *groups, uint64_t number)
{
    if (number < GROUP_DIRECT_MAX) return groups->direct[number];
    uint64_t hash = hash_u64(number);
    const struct group_table *table = table_of(groups, hash);
    for (;; hash++) {
        const struct group_slot *slot = &table->slots[hash & (table->slot_count - 1)];
        if (slot->key == number || !slot->group) return slot->group;
    }
}

/* Big tables miss the caches at every row: let the misses overlap. */
static void prefetch_numbers(const struct groups *groups, const uint64_t *numbers, uint32_t count)
{
    if (groups->count < PREFETCH_GROUPS_MIN) return;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash = hash_u64(numbers[i]);
        const struct group_table *table = table_of(groups, hash);
        __builtin_prefetch(&table->slots[hash & (table->slot_count - 1)]);
    }
}

/* All rows at once, when there is no NULL, every key is below GROUP_DIRECT_MAX and every group is
 * there: the common case of a few groups, without a branch for each row. */
static bool find_direct(const struct groups *groups, const uint64_t *numbers, uint32_t count,
                        uint32_t *restrict ids)
{
    const uint32_t *direct = groups->direct;
    uint64_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all |= numbers[i];
    if (all >= GROUP_DIRECT_MAX) return false;
    uint32_t missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t group = direct[numbers[i]];
        missing |= group == 0;
        ids[i] = group - 1;
    }
    return !missing;
}

static enum err find_numbers(struct groups *groups, const struct vector *const *keys,
                             const uint64_t *numbers, const uint8_t *nulls, uint32_t count,
                             uint32_t *restrict ids)
{
    if (!nulls && find_direct(groups, numbers, count, ids)) return ERR_NONE;
    prefetch_numbers(groups, numbers, count);
    for (uint32_t i = 0; i < count; i++) {
        enum err err = ERR_NONE;
        if (nulls && nulls[i]) {
            err = add_null_group(groups, keys, i, &ids[i]);
        } else {
            uint32_t group = probe_number(groups, numbers[i]);
            if (__builtin_expect(!group, 0))
                err = add_number(groups, keys, i, numbers[i], &ids[i]);
            else
                ids[i] = group - 1;
        }
        if (__builtin_expect(err != ERR_NONE, 0)) return err;
    }
    return ERR_NONE;
}

static void pack_numbers(const struct groups *groups, const struct vector *const *keys,
                         uint32_t count, uint64_t *restrict numbers)
{
    memset(numbers, 0, count * sizeof(*numbers));
    for (uint16_t k = 0; k < groups->key_count; k++) {
        const struct group_key *key = &groups->keys[k];
        const struct vector *vector = keys[k];
        uint64_t mask = (UINT64_C(1) << key->bits) - 1;
        for (uint32_t i = 0; i < count; i++)
            numbers[i] = numbers[i] << key->bits | (vector->u[i] & mask);
        if (!key->nullable) continue;
        for (uint32_t i = 0; i < count; i++) {
            bool null = vector->has_nulls && vector->nulls[i];
            if (null) numbers[i] &= ~mask; /* a NULL's number is arbitrary */
            numbers[i] = numbers[i] << 1 | null;
        }
    }
}

/* ---- bytes ---- */

static void encode_number(const struct vector *vector, uint32_t i, struct buf *buf)
{
    uint64_t bits = vector->u[i];
    if (vector->kind == KIND_F64) {
        double f = vector->f[i];
        if (f == 0) f = 0; /* of two zeros */
        if (isnan(f)) f = (double)NAN;
        memcpy(&bits, &f, sizeof(bits));
        if (f == 0) bits = 0;
    }
    buf_put_u64(buf, bits);
}

static void encode_text(struct vector_str text, bool fold, struct buf *buf)
{
    buf_put_u32(buf, text.size);
    uint8_t *at = buf_add(buf, text.size);
    if (!at) return;
    if (text.size) memcpy(at, text.bytes, text.size);
    for (uint32_t k = 0; fold && k < text.size; k++)
        if ((uint8_t)(at[k] - 'A') < 26) at[k] |= 0x20;
}

static void encode_row(const struct groups *groups, const struct vector *const *keys, uint32_t i,
                       struct buf *buf)
{
    buf_clear(buf);
    for (uint16_t k = 0; k < groups->key_count; k++) {
        bool null = vector_is_null(keys[k], i);
        buf_put_u8(buf, null);
        if (null) continue;
        if (keys[k]->kind == KIND_STR)
            encode_text(keys[k]->str[i], groups->keys[k].collation == COLLATION_CASE_INSENSITIVE,
                        buf);
        else
            encode_number(keys[k], i, buf);
    }
}

static enum err find_encoded(struct groups *groups, const struct vector *const *keys, uint32_t i,
                             struct vector_str encoded, uint32_t *ret_group)
{
    uint64_t hash = hash_bytes(encoded.bytes, encoded.size);
    const struct group_table *table = table_of(groups, hash);
    for (uint64_t at = hash;; at++) {
        const struct group_slot *slot = &table->slots[at & (table->slot_count - 1)];
        if (!slot->group) break;
        if (slot->key != hash) continue;
        struct vector_str other = groups->encoded[slot->group - 1];
        if (other.size == encoded.size &&
            (!other.size || !memcmp(other.bytes, encoded.bytes, other.size))) {
            *ret_group = slot->group - 1;
            return ERR_NONE;
        }
    }
    enum err err = make_slot(groups, hash);
    if (err) return err;
    uint32_t group;
    err = add_group(groups, keys, i, &group);
    if (err) return err;
    if (groups->mode == GROUP_TEXT) {
        groups->encoded[group] = groups->keys[0].texts[group];
    } else {
        err = keep_text(groups, encoded, &groups->encoded[group]);
        if (err) return err;
    }
    put_slot(table_of(groups, hash), hash, (struct group_slot){.key = hash, .group = group + 1});
    *ret_group = group;
    return ERR_NONE;
}

static enum err find_bytes(struct groups *groups, const struct vector *const *keys, uint32_t count,
                           uint32_t *ids)
{
    for (uint32_t i = 0; i < count; i++) {
        enum err err;
        if (groups->mode == GROUP_TEXT) {
            if (vector_is_null(keys[0], i))
                err = add_null_group(groups, keys, i, &ids[i]);
            else
                err = find_encoded(groups, keys, i, keys[0]->str[i], &ids[i]);
        } else {
            encode_row(groups, keys, i, &groups->scratch);
            if (groups->scratch.failed) return ERR_NO_MEMORY;
            struct vector_str encoded = {.bytes = groups->scratch.bytes,
                                         .size = (uint32_t)groups->scratch.size};
            err = find_encoded(groups, keys, i, encoded, &ids[i]);
        }
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err find(struct groups *groups, const struct vector *const *keys, uint32_t count,
                     uint32_t *ret_ids)
{
    switch (groups->mode) {
    case GROUP_NONE:
        memset(ret_ids, 0, count * sizeof(*ret_ids));
        return ERR_NONE;
    case GROUP_NUMBER:
        if (groups->key_count > 1) {
            uint64_t packed[QUERY_VECTOR_ROWS];
            pack_numbers(groups, keys, count, packed);
            return find_numbers(groups, keys, packed, NULL, count, ret_ids);
        }
        return find_numbers(groups, keys, keys[0]->u, keys[0]->has_nulls ? keys[0]->nulls : NULL,
                            count, ret_ids);
    case GROUP_TEXT:
    case GROUP_BYTES:
        break;
    }
    return find_bytes(groups, keys, count, ret_ids);
}

static bool all_equal(const uint32_t *ids, uint32_t count)
{
    uint32_t difference = 0;
    for (uint32_t i = 1; i < count; i++)
        difference |= ids[i] ^ ids[0];
    return !difference;
}

enum err groups_find(struct groups *groups, const struct vector *const *keys, uint32_t count,
                     uint32_t ret_ids[QUERY_VECTOR_ROWS], bool *ret_one_group)
{
    ASSERT(count && count <= QUERY_VECTOR_ROWS);
    enum err err = find(groups, keys, count, ret_ids);
    if (err) return err;
    uint64_t *restrict rows = groups->rows;
    bool one_group = all_equal(ret_ids, count);
    if (one_group) {
        rows[ret_ids[0]] += count;
    } else {
        for (uint32_t i = 0; i < count; i++)
            rows[ret_ids[i]]++;
    }
    *ret_one_group = one_group;
    return ERR_NONE;
}

struct vector groups_key(const struct groups *groups, uint16_t key, uint32_t first, uint32_t count)
{
    ASSERT(key < groups->key_count && first + count <= groups->count);
    const struct group_key *from = &groups->keys[key];
    struct vector vector = {.kind = from->type.kind,
                            .scale = from->type.kind == KIND_DEC ? from->type.scale : (uint8_t)0,
                            .has_nulls = true,
                            .count = count,
                            .nulls = from->nulls + first};
    if (from->type.kind == KIND_STR)
        vector.str = from->texts + first;
    else
        vector.u = from->numbers + first;
    return vector;
}
