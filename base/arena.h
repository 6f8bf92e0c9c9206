/* A bump allocator for what one request or one statement needs; freed all at once. Not thread-safe.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    uint8_t *next;
    uint8_t *end;
    size_t size;     /* bytes handed out by malloc for the blocks */
    size_t size_max; /* 0: no limit */
};

/* Zeroes; allocates nothing. size_max bounds what it will take from malloc (0: no limit). */
void arena_init(struct arena *arena, size_t size_max);
void arena_fini(struct arena *arena);
/* Frees everything but one block, which is kept for the next request. */
void arena_reset(struct arena *arena);
/* Aligned to 16, not zeroed. NULL when malloc fails or size_max would be passed. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t size);
/* A NUL-terminated copy of size bytes. NULL as above. */
char *arena_copy(struct arena *arena, const void *bytes, size_t size);
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A zeroed array of count elements; NULL as above, or when the size overflows. */
void *arena_array(struct arena *arena, size_t element_size, size_t count);
#define arena_new(arena, type, count) ((type *)arena_array((arena), sizeof(type), (count)))

#endif
