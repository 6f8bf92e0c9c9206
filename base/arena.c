/* The bump allocator.
 *
 * Blocks come from malloc in growing sizes (BLOCK_SIZE_MIN doubling to BLOCK_SIZE_MAX, or as large
 * as one request needs) and form a list, newest first; only the newest is allocated from. A block
 * that a large request needed alone goes behind the newest, so that the newest one's free part
 * stays in use. Invariants: next <= end, both inside the newest block or both NULL; size is the sum
 * of the blocks' malloc sizes and never above size_max when that is set.
 *
 * Under AddressSanitizer the unused part of a block is poisoned, so that an overrun of an
 * allocation is found as it would be with malloc. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define POISON(at, size) ASAN_POISON_MEMORY_REGION((at), (size))
#define UNPOISON(at, size) ASAN_UNPOISON_MEMORY_REGION((at), (size))
/* Room between allocations that stays poisoned. */
enum { RED_ZONE = 16 };
#else
#define POISON(at, size) ((void)(at), (void)(size))
#define UNPOISON(at, size) ((void)(at), (void)(size))
enum { RED_ZONE = 0 };
#endif

enum { ALIGNMENT = 16, BLOCK_SIZE_MIN = 4096, BLOCK_SIZE_MAX = 256 * 1024 };

struct arena_block {
    struct arena_block *older;
    size_t size; /* with this header */
    _Alignas(ALIGNMENT) uint8_t bytes[];
};
_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "blocks start aligned");

void arena_init(struct arena *arena, size_t size_max)
{
    *arena = (struct arena){.size_max = size_max};
}

static void block_free(struct arena *arena, struct arena_block *block)
{
    UNPOISON(block, block->size);
    arena->size -= block->size;
    free(block);
}

/* Makes the block the one allocated from, all of it free. */
static void block_use(struct arena *arena, struct arena_block *block)
{
    arena->next = block->bytes;
    arena->end = (uint8_t *)block + block->size;
    POISON(arena->next, (size_t)(arena->end - arena->next));
}

void arena_fini(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block) {
        struct arena_block *older = block->older;
        block_free(arena, block);
        block = older;
    }
    arena_init(arena, arena->size_max);
}

void arena_reset(struct arena *arena)
{
    struct arena_block *kept = arena->blocks;
    if (!kept) return;
    struct arena_block *block = kept->older;
    while (block) {
        struct arena_block *older = block->older;
        block_free(arena, block);
        block = older;
    }
    kept->older = NULL;
    /* One huge request must not keep its memory for ever. */
    if (kept->size > BLOCK_SIZE_MAX) {
        block_free(arena, kept);
        arena_init(arena, arena->size_max);
        return;
    }
    block_use(arena, kept);
}

/* A new block with room for size (aligned, with its red zone) bytes, counted but not linked. */
static struct arena_block *block_create(struct arena *arena, size_t size)
{
    size_t want = arena->blocks ? arena->blocks->size * 2 : BLOCK_SIZE_MIN;
    if (want > BLOCK_SIZE_MAX) want = BLOCK_SIZE_MAX;
    size_t need = sizeof(struct arena_block) + size;
    if (want < need) want = need;
    if (arena->size_max) {
        size_t left = arena->size_max - arena->size;
        if (left < need) return NULL;
        if (want > left) want = left & ~(size_t)(ALIGNMENT - 1);
        if (want < need) want = need;
    }
    struct arena_block *block = malloc(want);
    if (!block) return NULL;
    block->older = NULL;
    block->size = want;
    arena->size += want;
    return block;
}

static __attribute__((noinline)) void *arena_alloc_slow(struct arena *arena, size_t need,
                                                        size_t size)
{
    struct arena_block *block = block_create(arena, need);
    if (!block) return NULL;
    struct arena_block *newest = arena->blocks;
    size_t left_in_newest = (size_t)(arena->end - arena->next);
    size_t left_in_block = block->size - sizeof(*block) - need;
    if (newest && left_in_newest > left_in_block) {
        block->older = newest->older;
        newest->older = block;
        POISON(block->bytes + size, block->size - sizeof(*block) - size);
        return block->bytes;
    }
    block->older = newest;
    arena->blocks = block;
    block_use(arena, block);
    arena->next += need;
    UNPOISON(block->bytes, size);
    return block->bytes;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    /* At least one unit, so that no two allocations share an address. */
    size_t need = (size + RED_ZONE + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (need == 0) need = ALIGNMENT;
    if (__builtin_expect((size_t)(arena->end - arena->next) < need, 0))
        return arena_alloc_slow(arena, need, size);
    uint8_t *at = arena->next;
    arena->next += need;
    UNPOISON(at, size);
    return at;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *at = arena_alloc(arena, size);
    if (at) memset(at, 0, size);
    return at;
}

char *arena_copy(struct arena *arena, const void *bytes, size_t size)
{
    if (size == SIZE_MAX) return NULL;
    char *at = arena_alloc(arena, size + 1);
    if (!at) return NULL;
    if (size) memcpy(at, bytes, size);
    at[size] = '\0';
    return at;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0) return NULL;
    char *at = arena_alloc(arena, (size_t)size + 1);
    if (!at) return NULL;
    va_start(args, format);
    vsnprintf(at, (size_t)size + 1, format, args);
    va_end(args);
    return at;
}

void *arena_array(struct arena *arena, size_t element_size, size_t count)
{
    size_t size;
    if (__builtin_mul_overflow(element_size, count, &size)) return NULL;
    return arena_zalloc(arena, size);
}
