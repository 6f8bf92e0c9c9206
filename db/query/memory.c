/* Accounting for the memory of one query: see memory.h. What counts is what malloc was asked for;
 * the few fixed structures of an executor are counted too, so the limit bounds the whole. */
#include "db/query/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

enum { LARGE_SIZE = 1 << 20 };

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

/* ---- blocks: large ones are mappings, which grow by moving page tables instead of bytes ---- */

static bool is_large(size_t size)
{
    return size >= LARGE_SIZE;
}

static void *block_alloc(size_t size)
{
    if (!is_large(size)) return malloc(size ? size : 1);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void block_free(void *at, size_t size)
{
    if (!is_large(size))
        free(at);
    else if (munmap(at, size))
        ASSERT(false);
}

static void *block_grow(void *at, size_t old_size, size_t new_size)
{
    if (!is_large(new_size)) return realloc(at, new_size ? new_size : 1);
    if (is_large(old_size)) {
        void *moved = mremap(at, old_size, new_size, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    void *moved = block_alloc(new_size);
    if (!moved) return NULL;
    if (old_size) memcpy(moved, at, old_size);
    free(at);
    return moved;
}

enum err query_alloc(struct query_memory *memory, size_t size, void **ret_at)
{
    enum err err = query_memory_take(memory, size);
    if (err) return err;
    void *at = block_alloc(size);
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
    void *moved = block_grow(*at, old_size, new_size);
    if (!moved) {
        query_memory_give(memory, new_size - old_size);
        return ERR_NO_MEMORY;
    }
    *at = moved;
    return ERR_NONE;
}

enum err query_grow(struct query_memory *memory, void **at, size_t *size, size_t new_size)
{
    if (new_size <= *size) return ERR_NONE;
    enum err err = query_realloc(memory, at, *size, new_size);
    if (!err) *size = new_size;
    return err;
}

void query_free(struct query_memory *memory, void *at, size_t size)
{
    if (!at) return;
    block_free(at, size);
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
