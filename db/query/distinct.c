/* Hash sets with open addressing over an array of entries: see distinct.h. */
#include "db/query/distinct.h"

#include <math.h>

#include "base/check.h"
#include "base/hash.h"

enum { CAPACITY_MIN = 64, ENTRIES_MAX = 1 << 30 };

void distinct_init(struct distinct_set *set, struct query_memory *memory, bool fold)
{
    *set = (struct distinct_set){.memory = memory, .fold = fold};
    arena_init(&set->arena, 0);
}

void distinct_fini(struct distinct_set *set)
{
    if (!set->memory) return;
    query_free(set->memory, set->entries, set->capacity * sizeof(*set->entries));
    query_free(set->memory, set->slots, set->slot_count * sizeof(*set->slots));
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

/* Room for one more entry: slots stay at most half full. */
static enum err make_room(struct distinct_set *set)
{
    if (set->count < set->capacity) return ERR_NONE;
    if (set->capacity >= ENTRIES_MAX) return ERR_QUERY_MEMORY;
    uint32_t capacity = set->capacity ? 2 * set->capacity : CAPACITY_MIN;
    void *at;
    enum err err = query_alloc(set->memory, 2 * (size_t)capacity * sizeof(*set->slots), &at);
    if (err) return err;
    uint32_t *slots = at;
    uint32_t slot_count = 2 * capacity;
    at = set->entries;
    err = query_realloc(set->memory, &at, set->capacity * sizeof(*set->entries),
                        capacity * sizeof(*set->entries));
    if (err) {
        query_free(set->memory, slots, slot_count * sizeof(*slots));
        return err;
    }
    set->entries = at;
    set->capacity = capacity;
    memset(slots, 0, slot_count * sizeof(*slots));
    for (uint32_t i = 0; i < set->count; i++) {
        uint64_t slot = set->entries[i].hash;
        while (slots[slot & (slot_count - 1)])
            slot++;
        slots[slot & (slot_count - 1)] = i + 1;
    }
    query_free(set->memory, set->slots, set->slot_count * sizeof(*slots));
    set->slots = slots;
    set->slot_count = slot_count;
    return ERR_NONE;
}

enum err distinct_add_number(struct distinct_set *set, uint32_t group, uint64_t bits,
                             bool *ret_added)
{
    enum err err = make_room(set);
    if (err) return err;
    uint64_t hash = hash_u64(bits ^ (uint64_t)group * UINT64_C(0x9e3779b97f4a7c15));
    uint64_t at = hash;
    for (;; at++) {
        uint32_t number = set->slots[at & (set->slot_count - 1)];
        if (!number) break;
        const struct distinct_entry *entry = &set->entries[number - 1];
        if (entry->bits == bits && entry->group == group) {
            *ret_added = false;
            return ERR_NONE;
        }
    }
    set->entries[set->count] = (struct distinct_entry){.hash = hash, .group = group, .bits = bits};
    set->slots[at & (set->slot_count - 1)] = ++set->count;
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
    enum err err = make_room(set);
    if (err) return err;
    uint64_t hash = bytes_hash(set, group, bytes, size);
    uint64_t at = hash;
    for (;; at++) {
        uint32_t number = set->slots[at & (set->slot_count - 1)];
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
    set->entries[set->count] =
        (struct distinct_entry){.hash = hash, .group = group, .size = size, .bytes = copy};
    set->slots[at & (set->slot_count - 1)] = ++set->count;
    *ret_added = true;
    return ERR_NONE;
}
