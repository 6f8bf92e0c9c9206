/* Accounting for the memory of one query: see memory.h. What counts is what malloc was asked for;
 * the few fixed structures of an executor are counted too, so the limit bounds the whole. */
#include "db/query/memory.h"

#include <stdlib.h>

#include "base/check.h"

void query_memory_init(struct query_memory *memory, uint64_t max)
{
    *memory = (struct query_memory){.max = max ? max : UINT64_MAX};
}

enum err query_memory_take(struct query_memory *memory, uint64_t size)
{
    if (size > memory->max - memory->used) return ERR_QUERY_MEMORY;
    memory->used += size;
    if (memory->used > memory->peak) memory->peak = memory->used;
    return ERR_NONE;
}

void query_memory_give(struct query_memory *memory, uint64_t size)
{
    ASSERT(size <= memory->used);
    memory->used -= size;
}

enum err query_alloc(struct query_memory *memory, size_t size, void **ret_at)
{
    enum err err = query_memory_take(memory, size);
    if (err) return err;
    void *at = malloc(size ? size : 1);
    if (!at) {
        query_memory_give(memory, size);
        return ERR_NO_MEMORY;
    }
    *ret_at = at;
    return ERR_NONE;
}

enum err query_realloc(struct query_memory *memory, void **at, size_t old_size, size_t new_size)
{
    ASSERT(new_size >= old_size);
    enum err err = query_memory_take(memory, new_size - old_size);
    if (err) return err;
    void *moved = realloc(*at, new_size ? new_size : 1);
    if (!moved) {
        query_memory_give(memory, new_size - old_size);
        return ERR_NO_MEMORY;
    }
    *at = moved;
    return ERR_NONE;
}

void query_free(struct query_memory *memory, void *at, size_t size)
{
    if (!at) return;
    free(at);
    query_memory_give(memory, size);
}

enum err query_arena_alloc(struct query_memory *memory, struct arena *arena, size_t size,
                           void **ret_at)
{
    size_t before = arena->size;
    void *at = arena_alloc(arena, size);
    if (!at) return ERR_NO_MEMORY;
    if (arena->size > before) {
        enum err err = query_memory_take(memory, arena->size - before);
        if (err) {
            /* The block stays with the arena: count it all the same, for query_arena_fini. */
            memory->used += arena->size - before;
            return err;
        }
    }
    *ret_at = at;
    return ERR_NONE;
}

void query_arena_reset(struct query_memory *memory, struct arena *arena)
{
    size_t before = arena->size;
    arena_reset(arena);
    query_memory_give(memory, before - arena->size);
}

void query_arena_fini(struct query_memory *memory, struct arena *arena)
{
    query_memory_give(memory, arena->size);
    arena_fini(arena);
}
