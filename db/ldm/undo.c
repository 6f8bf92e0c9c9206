/* The pool of undo records.
 *
 * Records are carved from 64 KiB chunks in units of 16 bytes and freed into lists by size, so a
 * short transaction uses the same few cache lines as the one before it. Free records are linked
 * both ways, so that a chunk whose last record is freed can take its own out of the lists: it is
 * then carved anew, or, when some such chunks are there, its memory goes back to the page pool and
 * from there to the kernel. So what a long snapshot kept is given back as its records are
 * collected, also while others, of a later snapshot, stay.
 *
 *   chunk   carved (the current one up to `next`, others all of it, with a rest at the end that was
 *           too small), blank (has memory, no records), or bare (no memory: its number is free)
 *
 * A reference is chunk number << 12 | unit. Unit 0 of chunk 0 is never used, so 0 means none. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

enum {
    CHUNK_UNITS = 1 << UNDO_CHUNK_SHIFT,
    CHUNK_SIZE = CHUNK_UNITS * UNDO_UNIT,
    BLANKS_MAX = 4,
    CHUNKS_MAX = 1 << (32 - UNDO_CHUNK_SHIFT),
};
#define CHUNK_NONE UINT32_MAX

struct undo_chunk {
    uint32_t live; /* records */
    uint32_t end;  /* units carved; of the current one it is the pool's `next` */
    uint32_t link; /* of the list it is in: the next one's number + 1 */
};

void undo_pool_init(struct undo_pool *pool, uint64_t *counter, struct page_pool *pages)
{
    *pool = (struct undo_pool){
        .counter = counter, .pages = pages, .chunk = CHUNK_NONE, .next = CHUNK_UNITS};
}

void undo_pool_fini(struct undo_pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++)
        if (pool->chunks[i])
            page_pool_free(pool->pages, pool->chunks[i], CHUNK_SIZE, pool->counter);
    mem_free(pool->counter, pool->chunks);
    mem_free(pool->counter, pool->states);
    undo_pool_init(pool, pool->counter, pool->pages);
}

static struct undo *at(const struct undo_pool *pool, uint32_t ref)
{
    return (struct undo *)(void *)(pool->chunks[ref >> UNDO_CHUNK_SHIFT] +
                                   (size_t)(ref & (CHUNK_UNITS - 1)) * UNDO_UNIT);
}

/* ---- chunks ---- */

static bool numbers_grow(struct undo_pool *pool)
{
    if (pool->chunk_count == CHUNKS_MAX) return false;
    if (pool->chunk_count < pool->chunk_capacity) return true;
    uint32_t capacity = pool->chunk_capacity ? pool->chunk_capacity * 2 : 16;
    uint8_t **chunks = mem_realloc(pool->counter, pool->chunks, capacity * sizeof(*pool->chunks));
    if (!chunks) return false;
    pool->chunks = chunks;
    struct undo_chunk *states =
        mem_realloc(pool->counter, pool->states, capacity * sizeof(*pool->states));
    if (!states) return false;
    pool->states = states;
    pool->chunk_capacity = capacity;
    return true;
}

static void list_add(struct undo_pool *pool, struct undo *undo, uint32_t ref)
{
    uint32_t *head = &pool->free_lists[undo->units];
    undo->older = *head;
    undo->newer = 0;
    if (*head) at(pool, *head)->newer = ref;
    *head = ref;
}

static void list_remove(struct undo_pool *pool, const struct undo *undo)
{
    if (undo->older) at(pool, undo->older)->newer = undo->newer;
    if (undo->newer)
        at(pool, undo->newer)->older = undo->older;
    else
        pool->free_lists[undo->units] = undo->older;
}

/* No record of the chunk, which is not the current one, is in use any more. */
static void chunk_release(struct undo_pool *pool, uint32_t number)
{
    struct undo_chunk *state = &pool->states[number];
    for (uint32_t unit = number ? 0 : 1; unit < state->end;) {
        const struct undo *undo = at(pool, number << UNDO_CHUNK_SHIFT | unit);
        list_remove(pool, undo);
        unit += undo->units;
    }
    if (pool->blank_count < BLANKS_MAX) {
        state->link = pool->blank;
        pool->blank = number + 1;
        pool->blank_count++;
        return;
    }
    page_pool_free(pool->pages, pool->chunks[number], CHUNK_SIZE, pool->counter);
    pool->chunks[number] = NULL;
    state->link = pool->bare;
    pool->bare = number + 1;
}

/* Makes another chunk the current one. */
static bool chunk_next(struct undo_pool *pool)
{
    if (pool->chunk != CHUNK_NONE) {
        uint32_t full = pool->chunk;
        pool->states[full].end = pool->next;
        pool->chunk = CHUNK_NONE;
        pool->next = CHUNK_UNITS;
        if (pool->states[full].live == 0) chunk_release(pool, full);
    }
    uint32_t number;
    if (pool->blank) {
        number = pool->blank - 1;
        pool->blank = pool->states[number].link;
        pool->blank_count--;
    } else {
        if (!pool->bare && !numbers_grow(pool)) return false;
        uint8_t *bytes = page_pool_alloc(pool->pages, CHUNK_SIZE, pool->counter);
        if (!bytes) return false;
        if (pool->bare) {
            number = pool->bare - 1;
            pool->bare = pool->states[number].link;
        } else {
            number = pool->chunk_count++;
        }
        pool->chunks[number] = bytes;
    }
    pool->chunk = number;
    pool->next = number ? 0 : 1;
    pool->states[number] = (struct undo_chunk){.end = CHUNK_UNITS};
    return true;
}

/* ---- records ---- */

uint32_t undo_alloc(struct undo_pool *pool, uint32_t size)
{
    uint32_t units = (size + UNDO_UNIT - 1) / UNDO_UNIT;
    ASSERT(units <= UNDO_UNITS_MAX);
    uint32_t ref = pool->free_lists[units];
    if (__builtin_expect(ref != 0, 1)) {
        uint32_t older = at(pool, ref)->older;
        pool->free_lists[units] = older;
        if (older) at(pool, older)->newer = 0;
    } else {
        if (pool->next + units > CHUNK_UNITS && !chunk_next(pool)) return 0;
        ref = pool->chunk << UNDO_CHUNK_SHIFT | pool->next;
        pool->next += units;
        at(pool, ref)->units = (uint16_t)units;
    }
    pool->live_count++;
    pool->states[ref >> UNDO_CHUNK_SHIFT].live++;
    return ref;
}

void undo_free(struct undo_pool *pool, uint32_t ref)
{
    uint32_t number = ref >> UNDO_CHUNK_SHIFT;
    list_add(pool, at(pool, ref), ref);
    ASSERT(pool->live_count > 0 && pool->states[number].live > 0);
    pool->live_count--;
    if (--pool->states[number].live == 0 && number != pool->chunk) chunk_release(pool, number);
}
