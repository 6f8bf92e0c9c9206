/* The hash index: linear hashing (Litwin, 1980) over buckets of one cache line.
 *
 * With 2^level buckets, of which the first `split` have been split already, there are 2^level +
 * split of them. The bucket of a hash is its lowest level bits, or level + 1 where that bucket has
 * been split. An insert splits the next bucket when the index is loaded above LOAD_MAX, a remove
 * takes the last split back below LOAD_MIN; both touch two buckets.
 *
 *     bucket, 64 bytes:  u16 tags [10] | u32 chain | u32 rows [10]
 *     unit, 32 bytes:    u16 tags [4] | u32 chain | u32 reserved | u32 rows [4]     (overflow, from
 * a pool) chain:             entries here in bits 28 to 31 | the next unit's number + 1, or 0
 *
 * A tag is 16 bits of the hash from bit 8 * floor(level / 8) on, for the bucket's own level. So the
 * bit that a split goes by is in the tag, and rows are asked for their hash only when a split or
 * its undoing moves the tag's window, which is once in eight doublings; 8 to 15 bits of a tag are
 * left to tell rows in one bucket apart.
 *
 * Buckets live in segments: the first grows by doubling up to 2^SEGMENT_SHIFT, then whole segments
 * are added, so nothing is moved but in that first small one. Units likewise. A small index is a
 * few hundred bytes, an empty one has no buckets.
 *
 * A chain is filled without gaps: every unit but the last is full. */
#include "db/ldm/hash_index.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/check.h"
#include "db/ldm/hash_pool.h"

enum {
    BUCKET_ENTRIES = 10,
    UNIT_ENTRIES = 4,
    SEGMENT_SHIFT = 8,      /* 16 KiB */
    UNIT_SEGMENT_SHIFT = 8, /* 8 KiB */
    CHAIN_COUNT_SHIFT = 28,
    LEVEL_MAX = 28,
    TAG_WINDOW = 8,
    /* Entries per 16 buckets. */
    LOAD_MAX = 144,
    LOAD_MIN = 56,
};
#define CHAIN_NEXT_MASK ((1u << CHAIN_COUNT_SHIFT) - 1)

struct bucket {
    uint16_t tags[BUCKET_ENTRIES];
    uint32_t chain;
    uint32_t rows[BUCKET_ENTRIES];
};
_Static_assert(sizeof(struct bucket) == 64, "one cache line");

struct unit {
    uint16_t tags[UNIT_ENTRIES];
    uint32_t chain;
    uint32_t reserved;
    uint32_t rows[UNIT_ENTRIES];
};
_Static_assert(sizeof(struct unit) == 32, "two to a cache line");

struct hash_index {
    struct hash_index_config config;
    uint64_t count;
    uint32_t level;
    uint32_t split;
    uint32_t bucket_count; /* 0, or 2^level + split */
    uint32_t unit_count;   /* ever used */
    uint32_t unit_free;    /* first of the free ones, number + 1, linked by chain */
    uint32_t units_used;
    struct hash_pool buckets;
    struct hash_pool units;
};

/* ---- making ---- */

MUST_USE enum err hash_index_create(const struct hash_index_config *config,
                                    struct hash_index **ret_index)
{
    struct hash_index *index = calloc(1, sizeof *index);
    if (!index) return ERR_NO_MEMORY;
    index->config = *config;
    if (config->memory) *config->memory += sizeof *index;
    hash_pool_init(&index->buckets, sizeof(struct bucket), SEGMENT_SHIFT, config->memory,
                   config->pages);
    hash_pool_init(&index->units, sizeof(struct unit), UNIT_SEGMENT_SHIFT, config->memory, NULL);
    *ret_index = index;
    return ERR_NONE;
}

void hash_index_destroy(struct hash_index *index)
{
    if (!index) return;
    hash_pool_fini(&index->buckets);
    hash_pool_fini(&index->units);
    if (index->config.memory) *index->config.memory -= sizeof *index;
    free(index);
}

uint64_t hash_index_count(const struct hash_index *index)
{
    return index->count;
}

/* ---- buckets and chains ---- */

static struct bucket *bucket_at(const struct hash_index *index, uint32_t number)
{
    return hash_pool_at(&index->buckets, number);
}

static struct unit *unit_at(const struct hash_index *index, uint32_t number)
{
    return hash_pool_at(&index->units, number);
}

static uint32_t chain_count(uint32_t chain)
{
    return chain >> CHAIN_COUNT_SHIFT;
}

/* NULL behind the last. */
static struct unit *chain_next(const struct hash_index *index, uint32_t chain)
{
    uint32_t next = chain & CHAIN_NEXT_MASK;
    return next ? unit_at(index, next - 1) : NULL;
}

static uint32_t bucket_of(const struct hash_index *index, uint64_t hash)
{
    uint32_t number = (uint32_t)hash & ((1u << index->level) - 1);
    if (number < index->split) number = (uint32_t)hash & ((2u << index->level) - 1);
    return number;
}

/* How many bits of a hash name this bucket. */
static uint32_t bucket_level(const struct hash_index *index, uint32_t number)
{
    bool is_split = number < index->split || number >= 1u << index->level;
    return index->level + is_split;
}

static uint32_t tag_shift(uint32_t level)
{
    return level / TAG_WINDOW * TAG_WINDOW;
}

static uint16_t tag_at(uint64_t hash, uint32_t level)
{
    return (uint16_t)(hash >> tag_shift(level));
}

static uint32_t unit_take(struct hash_index *index)
{
    uint32_t number;
    if (index->unit_free) {
        number = index->unit_free - 1;
        index->unit_free = unit_at(index, number)->chain;
    } else {
        number = index->unit_count;
        if (number >= CHAIN_NEXT_MASK - 1 || !hash_pool_reach(&index->units, number)) {
            return UINT32_MAX;
        }
        index->unit_count++;
    }
    index->units_used++;
    unit_at(index, number)->chain = 0;
    return number;
}

static void unit_give(struct hash_index *index, uint32_t number)
{
    unit_at(index, number)->chain = index->unit_free;
    index->unit_free = number + 1;
    index->units_used--;
}

enum { UNITS_RESERVE_MAX = 3 };

/* Makes sure that the next `count` units can be taken without memory. May move units, so it comes
 * before anything points to one. */
static bool units_reserve(struct hash_index *index, uint32_t count)
{
    uint32_t numbers[UNITS_RESERVE_MAX];
    uint32_t taken = 0;
    while (taken < count) {
        numbers[taken] = unit_take(index);
        if (numbers[taken] == UINT32_MAX) break;
        taken++;
    }
    for (uint32_t i = taken; i > 0; i--)
        unit_give(index, numbers[i - 1]);
    return taken == count;
}

/* Where the next entry of a chain goes. */
struct chain_end {
    uint32_t *chain; /* of the last bucket or unit */
    uint16_t *tags;
    uint32_t *rows;
    uint32_t capacity;
};

static struct chain_end bucket_end(const struct hash_index *index, struct bucket *bucket)
{
    struct chain_end end = {&bucket->chain, bucket->tags, bucket->rows, BUCKET_ENTRIES};
    struct unit *unit;
    while ((unit = chain_next(index, *end.chain)))
        end = (struct chain_end){&unit->chain, unit->tags, unit->rows, UNIT_ENTRIES};
    return end;
}

static bool chain_is_full(const struct chain_end *end)
{
    return chain_count(*end->chain) == end->capacity;
}

/* A full chain takes a unit, which units_reserve has made sure of. */
static void chain_append(struct hash_index *index, struct chain_end *end, uint16_t tag,
                         uint32_t row)
{
    if (chain_is_full(end)) {
        ASSERT(index->unit_free);
        uint32_t number = unit_take(index);
        struct unit *unit = unit_at(index, number);
        *end->chain |= number + 1;
        *end = (struct chain_end){&unit->chain, unit->tags, unit->rows, UNIT_ENTRIES};
    }
    uint32_t count = chain_count(*end->chain);
    end->tags[count] = tag;
    end->rows[count] = row;
    *end->chain += 1u << CHAIN_COUNT_SHIFT;
}

/* Bit i: tag i equals. */
static uint32_t bucket_matches(const struct bucket *bucket, uint16_t tag)
{
    uint32_t matches = 0;
#ifdef __SSE2__
    /* Tags 0 to 7, and 2 to 9. Equal 16-bit lanes become bytes of ones. */
    __m128i wanted = _mm_set1_epi16((short)tag);
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)bucket->tags);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(bucket->tags + 2));
    __m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted));
    uint32_t bits = (uint32_t)_mm_movemask_epi8(equal);
    matches = (bits & 0xff) | (bits >> 6 & 0x300);
#else
    for (uint32_t i = 0; i < BUCKET_ENTRIES; i++)
        matches |= (uint32_t)(bucket->tags[i] == tag) << i;
#endif
    return matches & ((1u << chain_count(bucket->chain)) - 1);
}

/* ---- growing and shrinking ---- */

/* Takes all entries of a chain one after the other, giving its units back. */
struct chain_reader {
    struct hash_index *index;
    struct bucket bucket; /* a copy of what is being read; of a unit its first entries */
    uint32_t next;        /* entry */
};

static struct chain_reader chain_read(struct hash_index *index, struct bucket *bucket)
{
    struct chain_reader reader = {.index = index, .bucket = *bucket};
    bucket->chain = 0;
    return reader;
}

static bool chain_take(struct chain_reader *reader, uint16_t *ret_tag, uint32_t *ret_row)
{
    struct bucket *bucket = &reader->bucket;
    if (reader->next == chain_count(bucket->chain)) {
        uint32_t next = bucket->chain & CHAIN_NEXT_MASK;
        if (!next) return false;
        struct unit *unit = unit_at(reader->index, next - 1);
        memcpy(bucket->tags, unit->tags, sizeof unit->tags);
        memcpy(bucket->rows, unit->rows, sizeof unit->rows);
        bucket->chain = unit->chain;
        unit_give(reader->index, next - 1);
        reader->next = 0;
    }
    *ret_tag = bucket->tags[reader->next];
    *ret_row = bucket->rows[reader->next];
    reader->next++;
    return true;
}

/* Splits the next bucket. False when there is no memory; then nothing has changed. It never needs a
 * new unit: what overflows the two buckets fits in the units that the one had, which are given back
 * before. */
static bool grow(struct hash_index *index)
{
    if (index->level >= LEVEL_MAX) return false;
    if (!hash_pool_reach(&index->buckets, index->bucket_count)) return false;
    uint32_t level = index->level;
    struct bucket *low = bucket_at(index, index->split);
    struct bucket *high = bucket_at(index, index->bucket_count);
    struct chain_reader reader = chain_read(index, low);
    high->chain = 0;
    struct chain_end low_end = bucket_end(index, low);
    struct chain_end high_end = bucket_end(index, high);
    bool moves_window = tag_shift(level) != tag_shift(level + 1);
    uint32_t bit = level - tag_shift(level);
    uint16_t tag;
    uint32_t row;
    while (chain_take(&reader, &tag, &row)) {
        bool goes_high = tag >> bit & 1;
        if (moves_window) {
            tag = tag_at(index->config.hash_of(index->config.context, row), level + 1);
        }
        chain_append(index, goes_high ? &high_end : &low_end, tag, row);
    }
    index->bucket_count++;
    if (++index->split == 1u << level) {
        index->level++;
        index->split = 0;
    }
    return true;
}

/* Takes the last split back, unless there is no memory for what overflows: the ten entries of the
 * bucket that goes need three units at most beyond those that the two buckets had. */
static void shrink(struct hash_index *index)
{
    if (index->bucket_count <= 1 || !units_reserve(index, UNITS_RESERVE_MAX)) return;
    uint32_t level = index->split ? index->level : index->level - 1;
    uint32_t split = index->split ? index->split - 1 : (1u << level) - 1;
    struct bucket *low = bucket_at(index, split);
    struct bucket *high = bucket_at(index, index->bucket_count - 1);
    bool moves_window = tag_shift(level) != tag_shift(level + 1);
    struct chain_reader readers[2];
    readers[0] = chain_read(index, low);
    readers[1] = chain_read(index, high);
    struct chain_end end = bucket_end(index, low);
    for (uint32_t k = 0; k < ARRAY_SIZE(readers); k++) {
        uint16_t tag;
        uint32_t row;
        while (chain_take(&readers[k], &tag, &row)) {
            if (moves_window) {
                tag = tag_at(index->config.hash_of(index->config.context, row), level);
            }
            chain_append(index, &end, tag, row);
        }
    }
    index->bucket_count--;
    index->level = level;
    index->split = split;
    hash_pool_trim(&index->buckets, index->bucket_count);
}

static bool is_loaded(const struct hash_index *index, uint64_t count)
{
    return count * 16 > (uint64_t)index->bucket_count * LOAD_MAX;
}

static bool make_first(struct hash_index *index)
{
    if (!hash_pool_reach(&index->buckets, 0)) return false;
    bucket_at(index, 0)->chain = 0;
    index->bucket_count = 1;
    return true;
}

enum err hash_index_reserve(struct hash_index *index, uint64_t count)
{
    if (index->bucket_count == 0 && !make_first(index)) return ERR_NO_MEMORY;
    while (is_loaded(index, count)) {
        if (index->level >= LEVEL_MAX) break;
        if (!grow(index)) return ERR_NO_MEMORY;
    }
    return ERR_NONE;
}

/* ---- entries ---- */

enum err hash_index_insert(struct hash_index *index, uint64_t hash, uint32_t row)
{
    if (index->bucket_count == 0 && !make_first(index)) return ERR_NO_MEMORY;
    /* Before the row is in, so that hash_of is not asked for it. Without memory chains get longer.
     */
    if (is_loaded(index, index->count + 1)) (void)grow(index);
    uint32_t number = bucket_of(index, hash);
    struct chain_end end = bucket_end(index, bucket_at(index, number));
    if (chain_is_full(&end)) {
        if (!units_reserve(index, 1)) return ERR_NO_MEMORY;
        end = bucket_end(index, bucket_at(index, number)); /* units may have moved */
    }
    chain_append(index, &end, tag_at(hash, bucket_level(index, number)), row);
    index->count++;
    return ERR_NONE;
}

/* Empties an index, which keeps no memory for it. */
static void clear(struct hash_index *index)
{
    hash_pool_fini(&index->buckets);
    hash_pool_fini(&index->units);
    index->bucket_count = 0;
    index->level = 0;
    index->split = 0;
    index->unit_count = 0;
    index->unit_free = 0;
    ASSERT(index->units_used == 0);
}

/* Fills the gap with the last entry of the chain and frees a unit that gets empty. */
static void remove_entry(struct hash_index *index, struct bucket *bucket, uint16_t *tag,
                         uint32_t *row)
{
    uint32_t *before = NULL;
    uint32_t *chain = &bucket->chain;
    uint16_t *tags = bucket->tags;
    uint32_t *rows = bucket->rows;
    struct unit *unit;
    while ((unit = chain_next(index, *chain))) {
        before = chain;
        chain = &unit->chain;
        tags = unit->tags;
        rows = unit->rows;
    }
    uint32_t last = chain_count(*chain) - 1;
    *tag = tags[last];
    *row = rows[last];
    *chain -= 1u << CHAIN_COUNT_SHIFT;
    if (last == 0 && before) {
        uint32_t number = (*before & CHAIN_NEXT_MASK) - 1;
        *before &= ~CHAIN_NEXT_MASK;
        unit_give(index, number);
    }
}

enum err hash_index_remove(struct hash_index *index, uint64_t hash, uint32_t row)
{
    if (index->bucket_count == 0) return ERR_NOT_FOUND;
    uint32_t number = bucket_of(index, hash);
    struct bucket *bucket = bucket_at(index, number);
    uint16_t tag = tag_at(hash, bucket_level(index, number));
    uint32_t *chain = &bucket->chain;
    uint16_t *tags = bucket->tags;
    uint32_t *rows = bucket->rows;
    for (;;) {
        for (uint32_t i = 0; i < chain_count(*chain); i++) {
            if (rows[i] != row || tags[i] != tag) continue;
            remove_entry(index, bucket, &tags[i], &rows[i]);
            index->count--;
            if (index->count == 0) {
                clear(index);
            } else if (index->count * 16 < (uint64_t)index->bucket_count * LOAD_MIN) {
                shrink(index);
            }
            return ERR_NONE;
        }
        struct unit *unit = chain_next(index, *chain);
        if (!unit) return ERR_NOT_FOUND;
        chain = &unit->chain;
        tags = unit->tags;
        rows = unit->rows;
    }
}

enum err hash_index_find(const struct hash_index *index, uint64_t hash,
                         bool (*match)(const void *context, uint32_t row), const void *context,
                         uint32_t *ret_row)
{
    if (index->bucket_count == 0) return ERR_NOT_FOUND;
    uint32_t number = bucket_of(index, hash);
    const struct bucket *bucket = bucket_at(index, number);
    uint16_t tag = tag_at(hash, bucket_level(index, number));
    for (uint32_t matches = bucket_matches(bucket, tag); matches; matches &= matches - 1) {
        uint32_t row = bucket->rows[__builtin_ctz(matches)];
        if (match(context, row)) {
            *ret_row = row;
            return ERR_NONE;
        }
    }
    const struct unit *unit = chain_next(index, bucket->chain);
    for (; unit; unit = chain_next(index, unit->chain)) {
        for (uint32_t i = 0; i < chain_count(unit->chain); i++) {
            if (unit->tags[i] != tag || !match(context, unit->rows[i])) continue;
            *ret_row = unit->rows[i];
            return ERR_NONE;
        }
    }
    return ERR_NOT_FOUND;
}

void hash_index_prefetch(const struct hash_index *index, uint64_t hash)
{
    if (index->bucket_count) __builtin_prefetch(bucket_at(index, bucket_of(index, hash)));
}

/* ---- verifying ---- */

static enum err verify_entries(const struct hash_index *index, uint32_t number,
                               const uint16_t *tags, const uint32_t *rows, uint32_t count,
                               struct diag *diag)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash = index->config.hash_of(index->config.context, rows[i]);
        if (bucket_of(index, hash) != number) {
            return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " is in the wrong bucket", rows[i]);
        }
        if (tags[i] != tag_at(hash, bucket_level(index, number))) {
            return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " has a wrong tag", rows[i]);
        }
    }
    return ERR_NONE;
}

static enum err verify_bucket(const struct hash_index *index, uint32_t number, uint64_t *count,
                              uint32_t *units, struct diag *diag)
{
    const struct bucket *bucket = bucket_at(index, number);
    uint32_t chain = bucket->chain;
    uint32_t capacity = BUCKET_ENTRIES;
    const uint16_t *tags = bucket->tags;
    const uint32_t *rows = bucket->rows;
    for (;;) {
        uint32_t here = chain_count(chain);
        const struct unit *unit = chain_next(index, chain);
        if (here > capacity || (unit && here != capacity) ||
            (here == 0 && capacity == UNIT_ENTRIES)) {
            return diag_set(diag, ERR_CORRUPT, "bucket %" PRIu32 " has a gap", number);
        }
        enum err err = verify_entries(index, number, tags, rows, here, diag);
        if (err) return err;
        *count += here;
        if (!unit) return ERR_NONE;
        if (++*units > index->units_used) {
            return diag_set(diag, ERR_CORRUPT, "bucket %" PRIu32 " has a circle of units", number);
        }
        chain = unit->chain;
        capacity = UNIT_ENTRIES;
        tags = unit->tags;
        rows = unit->rows;
    }
}

enum err hash_index_verify(const struct hash_index *index, struct diag *diag)
{
    uint64_t count = 0;
    uint32_t units = 0;
    if (index->bucket_count && index->bucket_count != (1u << index->level) + index->split) {
        return diag_set(diag, ERR_CORRUPT,
                        "%" PRIu32 " buckets at level %" PRIu32 " split %" PRIu32,
                        index->bucket_count, index->level, index->split);
    }
    for (uint32_t i = 0; i < index->bucket_count; i++) {
        enum err err = verify_bucket(index, i, &count, &units, diag);
        if (err) return err;
    }
    if (count != index->count) {
        return diag_set(diag, ERR_CORRUPT, "%" PRIu64 " entries are counted as %" PRIu64, count,
                        index->count);
    }
    uint32_t unused = 0;
    for (uint32_t next = index->unit_free; next; next = unit_at(index, next - 1)->chain) {
        if (++unused > index->unit_count) {
            return diag_set(diag, ERR_CORRUPT, "the free units have a circle");
        }
    }
    if (units != index->units_used || units + unused != index->unit_count) {
        return diag_set(diag, ERR_CORRUPT, "%" PRIu32 " units are lost",
                        index->unit_count - units - unused);
    }
    return ERR_NONE;
}
