/* The pool of undo records.
 *
 * Records are carved from 64 KiB chunks in units of 16 bytes and freed into lists by size, so a
 * short transaction uses the same few cache lines as the one before it. When the last record is
 * freed and more than one chunk was in use, the pool starts over and keeps only a few chunks: a
 * long snapshot's memory goes back.
 *
 * A reference is chunk number << 12 | unit. Unit 0 of chunk 0 is never used, so 0 means none. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

enum {
    CHUNK_UNITS = 1 << UNDO_CHUNK_SHIFT,
    CHUNK_SIZE = CHUNK_UNITS * UNDO_UNIT,
    CHUNKS_KEPT = 4,
    CHUNKS_MAX = 1 << (32 - UNDO_CHUNK_SHIFT),
};

void undo_pool_init(struct undo_pool *pool, uint64_t *counter)
{
    *pool = (struct undo_pool){.counter = counter, .next = 1};
}

void undo_pool_fini(struct undo_pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++)
        mem_free(pool->counter, pool->chunks[i]);
    mem_free(pool->counter, pool->chunks);
    undo_pool_init(pool, pool->counter);
}

static bool chunk_add(struct undo_pool *pool)
{
    if (pool->chunk_count == CHUNKS_MAX) return false;
    if (pool->chunk_count == pool->chunk_capacity) {
        uint32_t capacity = pool->chunk_capacity ? pool->chunk_capacity * 2 : 16;
        uint8_t **chunks =
            mem_realloc(pool->counter, pool->chunks, capacity * sizeof(*pool->chunks));
        if (!chunks) return false;
        pool->chunks = chunks;
        pool->chunk_capacity = capacity;
    }
    uint8_t *chunk = mem_alloc(pool->counter, CHUNK_SIZE);
    if (!chunk) return false;
    pool->chunks[pool->chunk_count++] = chunk;
    return true;
}

static struct undo *at(const struct undo_pool *pool, uint32_t ref)
{
    return (struct undo *)(void *)(pool->chunks[ref >> UNDO_CHUNK_SHIFT] +
                                   (size_t)(ref & (CHUNK_UNITS - 1)) * UNDO_UNIT);
}

uint32_t undo_alloc(struct undo_pool *pool, uint32_t size)
{
    uint32_t units = (size + UNDO_UNIT - 1) / UNDO_UNIT;
    ASSERT(units <= UNDO_UNITS_MAX);
    uint32_t ref = pool->free_lists[units];
    if (ref) {
        pool->free_lists[units] = at(pool, ref)->older;
    } else {
        if (pool->chunk_count == 0 && !chunk_add(pool)) return 0;
        if (pool->next + units > CHUNK_UNITS) {
            if (pool->chunk + 1 == pool->chunk_count && !chunk_add(pool)) return 0;
            pool->chunk++;
            pool->next = 0;
        }
        ref = pool->chunk << UNDO_CHUNK_SHIFT | pool->next;
        pool->next += units;
    }
    pool->live_count++;
    at(pool, ref)->units = (uint16_t)units;
    return ref;
}

static void pool_restart(struct undo_pool *pool)
{
    while (pool->chunk_count > CHUNKS_KEPT)
        mem_free(pool->counter, pool->chunks[--pool->chunk_count]);
    memset(pool->free_lists, 0, sizeof(pool->free_lists));
    pool->chunk = 0;
    pool->next = 1;
}

void undo_free(struct undo_pool *pool, uint32_t ref)
{
    struct undo *undo = at(pool, ref);
    uint32_t units = undo->units;
    undo->older = pool->free_lists[units];
    pool->free_lists[units] = ref;
    ASSERT(pool->live_count > 0);
    if (--pool->live_count == 0 && pool->chunk > 0) pool_restart(pool);
}
