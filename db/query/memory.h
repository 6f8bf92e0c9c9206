/* The memory of one query on one worker, or of its coordinator: every allocation that grows with
 * the data is taken from here, so that a query ends with ERR_QUERY_MEMORY instead of taking the
 * node's memory. Single-threaded. */
#ifndef DB_QUERY_MEMORY_H
#define DB_QUERY_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

struct query_memory {
    uint64_t used;
    uint64_t peak;
    uint64_t max;
};

void query_memory_init(struct query_memory *memory, uint64_t max);
/* Accounts for memory that the caller has from elsewhere. ERR_QUERY_MEMORY: nothing was taken. */
MUST_USE enum err query_memory_take(struct query_memory *memory, uint64_t size);
void query_memory_give(struct query_memory *memory, uint64_t size);

/* Not zeroed, aligned to 16. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err query_alloc(struct query_memory *memory, size_t size, void **ret_at);
/* *at (NULL when old_size is 0) moves to new_size bytes; unchanged on failure. */
MUST_USE enum err query_realloc(struct query_memory *memory, void **at, size_t old_size,
                                size_t new_size);
/* The same for a block that remembers its size: to at least new_size, so that after a failure among
 * several arrays each still knows what it has. */
MUST_USE enum err query_grow(struct query_memory *memory, void **at, size_t *size, size_t new_size);
void query_free(struct query_memory *memory, void *at, size_t size); /* NULL is allowed */

/* arena_alloc that accounts for the blocks the arena takes. */
MUST_USE enum err query_arena_alloc(struct query_memory *memory, struct arena *arena, size_t size,
                                    void **ret_at);
/* arena_reset of an arena that was used so; and its end. */
void query_arena_reset(struct query_memory *memory, struct arena *arena);
void query_arena_fini(struct query_memory *memory, struct arena *arena);

#endif
