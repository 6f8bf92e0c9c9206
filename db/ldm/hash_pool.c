/* The pool of a hash index's buckets or overflow units: see hash_pool.h. Segments are aligned to
 * cache lines. */
#include "db/ldm/hash_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/ldm.h"

enum { LINE_SIZE = 64, FIRST_ELEMENTS = 2 };

static size_t rounded(size_t size)
{
    return (size + LINE_SIZE - 1) & ~(size_t)(LINE_SIZE - 1);
}

static void *take(struct hash_pool *pool, size_t size)
{
    void *memory = aligned_alloc(LINE_SIZE, rounded(size));
    if (memory && pool->memory) *pool->memory += rounded(size);
    return memory;
}

static void give(struct hash_pool *pool, void *memory, size_t size)
{
    if (!memory) return;
    if (pool->memory) *pool->memory -= rounded(size);
    free(memory);
}

static size_t segment_size(const struct hash_pool *pool, uint32_t segment)
{
    uint32_t elements = segment ? 1u << pool->shift : pool->first_capacity;
    return (size_t)elements * pool->element_size;
}

static uint64_t capacity(const struct hash_pool *pool)
{
    if (pool->segment_count <= 1) return pool->first_capacity;
    return (uint64_t)pool->segment_count << pool->shift;
}

/* A segment but the first. */
static uint8_t *segment_take(struct hash_pool *pool)
{
    size_t size = (size_t)pool->element_size << pool->shift;
    if (!pool->pages) return take(pool, size);
    return page_pool_alloc(pool->pages, (uint32_t)size, pool->memory);
}

static void segment_give(struct hash_pool *pool, uint32_t segment)
{
    size_t size = segment_size(pool, segment);
    if (segment && pool->pages)
        page_pool_free(pool->pages, pool->segments[segment], (uint32_t)size, pool->memory);
    else
        give(pool, pool->segments[segment], size);
}

void hash_pool_init(struct hash_pool *pool, uint32_t element_size, uint32_t shift, uint64_t *memory,
                    struct page_pool *pages)
{
    *pool = (struct hash_pool){
        .element_size = element_size, .shift = shift, .memory = memory, .pages = pages};
}

void hash_pool_fini(struct hash_pool *pool)
{
    for (uint32_t i = 0; i < pool->segment_count; i++)
        segment_give(pool, i);
    give(pool, pool->segments, pool->segment_capacity * sizeof *pool->segments);
    hash_pool_init(pool, pool->element_size, pool->shift, pool->memory, pool->pages);
}

static bool grow_first(struct hash_pool *pool)
{
    uint32_t elements = pool->first_capacity ? pool->first_capacity * 2 : FIRST_ELEMENTS;
    uint8_t *segment = take(pool, (size_t)elements * pool->element_size);
    if (!segment) return false;
    if (pool->segment_count) {
        memcpy(segment, pool->segments[0], segment_size(pool, 0));
        give(pool, pool->segments[0], segment_size(pool, 0));
    }
    pool->segments[0] = segment;
    pool->segment_count = 1;
    pool->first_capacity = elements;
    return true;
}

static bool grow_pointers(struct hash_pool *pool)
{
    uint32_t more = pool->segment_capacity ? pool->segment_capacity * 2 : 1;
    uint8_t **segments = take(pool, more * sizeof *segments);
    if (!segments) return false;
    if (pool->segment_count) {
        memcpy(segments, pool->segments, pool->segment_count * sizeof *segments);
    }
    give(pool, pool->segments, pool->segment_capacity * sizeof *segments);
    pool->segments = segments;
    pool->segment_capacity = more;
    return true;
}

bool hash_pool_reach(struct hash_pool *pool, uint32_t number)
{
    if (number < capacity(pool)) return true;
    ASSERT(number == capacity(pool));
    bool first = number < 1u << pool->shift;
    uint32_t pointers = first ? 1 : pool->segment_count + 1;
    if (pool->segment_capacity < pointers && !grow_pointers(pool)) return false;
    if (first) return grow_first(pool);
    uint8_t *segment = segment_take(pool);
    if (!segment) return false;
    pool->segments[pool->segment_count++] = segment;
    return true;
}

void hash_pool_trim(struct hash_pool *pool, uint32_t count)
{
    while (pool->segment_count > 2 && count <= (pool->segment_count - 2) << pool->shift) {
        pool->segment_count--;
        segment_give(pool, pool->segment_count);
    }
}
