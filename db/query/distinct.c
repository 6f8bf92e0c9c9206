/* Hash sets with open addressing over an array of entries: see distinct.h. */
#include "db/query/distinct.h"

#include <math.h>

#include "base/check.h"
#include "base/hash.h"

enum { CAPACITY_MIN = 64, SLOTS_MIN = 16, ENTRIES_MAX = 1 << 30 };

void distinct_init(struct distinct_set *set, struct query_memory *memory, bool fold)
{
    *set = (struct distinct_set){.memory = memory, .fold = fold};
    arena_init(&set->arena, 0);
}

void distinct_fini(struct distinct_set *set)
{
    if (!set->memory) return;
    query_free(set->memory, set->entries, set->capacity * sizeof(*set->entries));
    for (uint32_t i = 0; i < DISTINCT_TABLES; i++)
        query_free(set->memory, set->tables[i].slots,
                   set->tables[i].slot_count * sizeof(*set->tables[i].slots));
    query_arena_fini(set->memory, &set->arena);
    *set = (struct distinct_set){0};
}

uint64_t distinct_bits(uint8_t kind, uint64_t bits)
{
    if (kind != KIND_F64) return bits;
    double f;
    memcpy(&f, &bits, sizeof(f));
    if (f == 0) return 0;
    if (isnan(f)) return UINT64_C(0x7ff8000000000000);
    return bits;
}

static struct distinct_table *table_of(struct distinct_set *set, uint64_t hash)
{
    return &set->tables[hash / (UINT64_MAX / DISTINCT_TABLES + 1)];
}

static void put_slot(struct distinct_table *table, uint64_t hash, uint32_t number)
{
    while (table->slots[hash & (table->slot_count - 1)])
        hash++;
    table->slots[hash & (table->slot_count - 1)] = number;
    table->used++;
}

static enum err grow_table(struct distinct_set *set, struct distinct_table *table)
{
    uint32_t count = table->slot_count ? 2 * table->slot_count : SLOTS_MIN;
    void *at;
    enum err err = query_alloc(set->memory, count * sizeof(*table->slots), &at);
    if (err) return err;
    memset(at, 0, count * sizeof(*table->slots));
    struct distinct_table grown = {.slots = at, .slot_count = count};
    for (uint32_t i = 0; i < table->slot_count; i++)
        if (table->slots[i])
            put_slot(&grown, set->entries[table->slots[i] - 1].hash, table->slots[i]);
    query_free(set->memory, table->slots, table->slot_count * sizeof(*table->slots));
    *table = grown;
    return ERR_NONE;
}

/* Room for one more entry with this hash. All tables fill up alike: so that they do not all grow in
 * the same moment, the first one does when it is a third full, the last one when it is two thirds
 * full. */
static enum err make_room(struct distinct_set *set, uint64_t hash)
{
    struct distinct_table *table = table_of(set, hash);
    uint64_t share = DISTINCT_TABLES + (uint64_t)(table - set->tables);
    if ((table->used + UINT64_C(1)) * 3 * DISTINCT_TABLES > table->slot_count * share) {
        enum err err = grow_table(set, table);
        if (err) return err;
    }
    if (set->count < set->capacity) return ERR_NONE;
    if (set->capacity >= ENTRIES_MAX) return ERR_QUERY_MEMORY;
    uint32_t capacity = set->capacity ? 2 * set->capacity : CAPACITY_MIN;
    void *at = set->entries;
    enum err err = query_realloc(set->memory, &at, set->capacity * sizeof(*set->entries),
                                 capacity * sizeof(*set->entries));
    if (err) return err;
    set->entries = at;
    set->capacity = capacity;
    return ERR_NONE;
}

static void add_entry(struct distinct_set *set, struct distinct_entry entry)
{
    set->entries[set->count] = entry;
    put_slot(table_of(set, entry.hash), entry.hash, ++set->count);
}

enum err distinct_add_number(struct distinct_set *set, uint32_t group, uint64_t bits,
                             bool *ret_added)
{
    uint64_t hash = hash_u64(bits ^ (uint64_t)group * UINT64_C(0x9e3779b97f4a7c15));
    enum err err = make_room(set, hash);
    if (err) return err;
    const struct distinct_table *table = table_of(set, hash);
    for (uint64_t at = hash;; at++) {
        uint32_t number = table->slots[at & (table->slot_count - 1)];
        if (!number) break;
        const struct distinct_entry *entry = &set->entries[number - 1];
        if (entry->bits == bits && entry->group == group) {
            *ret_added = false;
            return ERR_NONE;
        }
    }
    add_entry(set, (struct distinct_entry){.hash = hash, .group = group, .bits = bits});
    *ret_added = true;
    return ERR_NONE;
}

static inline uint8_t fold_byte(uint8_t byte)
{
    return (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

static uint64_t bytes_hash(const struct distinct_set *set, uint32_t group, const uint8_t *bytes,
                           uint32_t size)
{
    uint64_t hash = (uint64_t)group * UINT64_C(0x9e3779b97f4a7c15);
    if (!set->fold) return hash ^ hash_bytes(bytes, size);
    hash ^= size;
    for (uint32_t i = 0; i < size; i++)
        hash = (hash ^ fold_byte(bytes[i])) * UINT64_C(0x9e3779b97f4a7c15);
    return hash_u64(hash);
}

static bool bytes_equal(const struct distinct_set *set, const struct distinct_entry *entry,
                        const uint8_t *bytes, uint32_t size)
{
    if (entry->size != size) return false;
    if (!set->fold) return !size || !memcmp(entry->bytes, bytes, size);
    for (uint32_t i = 0; i < size; i++)
        if (entry->bytes[i] != fold_byte(bytes[i])) return false;
    return true;
}

enum err distinct_add_bytes(struct distinct_set *set, uint32_t group, const uint8_t *bytes,
                            uint32_t size, bool *ret_added)
{
    uint64_t hash = bytes_hash(set, group, bytes, size);
    enum err err = make_room(set, hash);
    if (err) return err;
    const struct distinct_table *table = table_of(set, hash);
    for (uint64_t at = hash;; at++) {
        uint32_t number = table->slots[at & (table->slot_count - 1)];
        if (!number) break;
        const struct distinct_entry *entry = &set->entries[number - 1];
        if (entry->hash == hash && entry->group == group && bytes_equal(set, entry, bytes, size)) {
            *ret_added = false;
            return ERR_NONE;
        }
    }
    void *kept;
    err = query_arena_alloc(set->memory, &set->arena, size, &kept);
    if (err) return err;
    uint8_t *copy = kept;
    for (uint32_t i = 0; i < size; i++)
        copy[i] = set->fold ? fold_byte(bytes[i]) : bytes[i];
    add_entry(set,
              (struct distinct_entry){.hash = hash, .group = group, .size = size, .bytes = copy});
    *ret_added = true;
    return ERR_NONE;
}
