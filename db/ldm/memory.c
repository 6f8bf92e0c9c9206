/* Memory of the storage engine, counted.
 *
 * Small things come from malloc and are counted at what malloc really takes for them. The memory of
 * pages, their heaps and large nodes of trees comes from the page pool: extents mapped directly,
 * carved from front to back. The first extent of an ldm is small and takes ordinary pages, so that
 * an empty store stays small; later ones ask for huge pages, because rows are read at random and a
 * TLB miss costs as much as a cache miss. Freed page memory waits in bins by size; beyond a few per
 * bin it is given back to the kernel but for its first 4 KiB, which link the bin.
 *
 * Several ldms work in parallel at recovery: nothing here is shared between them. */
#include "db/ldm/ldm.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    MALLOC_OVERHEAD = 8,
    HUGE_SIZE = 2 << 20,
    EXTENT_SIZE_FIRST = 2 << 20,
    EXTENT_SIZE = 8 << 20,
    BIN_WARM_MAX = 8, /* recycled pages of one size that keep their memory */
    KERNEL_PAGE = 4096,
    /* Pieces of any size: so many sizes for each doubling, multiples of a cache line, so that few
     * bins serve them all at a loss of a sixteenth at most. */
    POOLED_MIN = 1024,
    POOLED_STEPS = 16,
};

struct page_extent {
    uint8_t *bytes;
    size_t size;
};

struct page_bin {
    uint32_t size;
    uint32_t warm_count;
    struct page_spare *warm;
    struct page_spare *cold;
};

struct page_spare {
    struct page_spare *next;
};

static size_t real_size(void *bytes)
{
    return malloc_usable_size(bytes) + MALLOC_OVERHEAD;
}

void *mem_alloc(uint64_t *counter, size_t size)
{
    void *bytes = malloc(size);
    if (bytes) *counter += real_size(bytes);
    return bytes;
}

void *mem_zalloc(uint64_t *counter, size_t size)
{
    void *bytes = calloc(1, size);
    if (bytes) *counter += real_size(bytes);
    return bytes;
}

void *mem_realloc(uint64_t *counter, void *bytes, size_t size)
{
    size_t before = bytes ? real_size(bytes) : 0;
    void *moved = realloc(bytes, size);
    if (moved) *counter = *counter - before + real_size(moved);
    return moved;
}

void mem_free(uint64_t *counter, void *bytes)
{
    if (!bytes) return;
    *counter -= real_size(bytes);
    free(bytes);
}

void page_pool_init(struct page_pool *pool)
{
    *pool = (struct page_pool){0};
}

void page_pool_fini(struct page_pool *pool)
{
    for (uint32_t i = 0; i < pool->extent_count; i++)
        munmap(pool->extents[i].bytes, pool->extents[i].size);
    free(pool->extents);
    free(pool->bins);
    page_pool_init(pool);
}

/* Maps size bytes aligned to huge pages. NULL when there is no memory. */
static uint8_t *extent_map(size_t size)
{
    size_t mapped = size + HUGE_SIZE;
    uint8_t *bytes = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bytes == MAP_FAILED) return NULL;
    size_t skip = (HUGE_SIZE - (uintptr_t)bytes % HUGE_SIZE) % HUGE_SIZE;
    if (skip) munmap(bytes, skip);
    if (HUGE_SIZE - skip) munmap(bytes + skip + size, HUGE_SIZE - skip);
    return bytes + skip;
}

static bool extent_add(struct page_pool *pool, uint32_t size_min)
{
    struct page_extent *extents =
        realloc(pool->extents, (pool->extent_count + 1) * sizeof(*pool->extents));
    if (!extents) return false;
    pool->extents = extents;
    bool is_first = pool->extent_count == 0;
    size_t size = is_first ? EXTENT_SIZE_FIRST : EXTENT_SIZE;
    if (size < size_min) size = EXTENT_SIZE;
    ASSERT(size >= size_min);
    uint8_t *bytes = extent_map(size);
    if (!bytes) return false;
    /* Only a hint: without huge pages everything still works. */
    if (!is_first) (void)madvise(bytes, size, MADV_HUGEPAGE);
    pool->extents[pool->extent_count++] = (struct page_extent){.bytes = bytes, .size = size};
    pool->next = bytes;
    pool->end = bytes + size;
    return true;
}

static struct page_bin *bin_find(const struct page_pool *pool, uint32_t size)
{
    for (uint32_t i = 0; i < pool->bin_count; i++)
        if (pool->bins[i].size == size) return &pool->bins[i];
    return NULL;
}

size_t pooled_size(size_t size)
{
    if (size < POOLED_MIN) return size;
    size_t step = POOLED_MIN / POOLED_STEPS;
    while (step * POOLED_STEPS * 2 <= size)
        step *= 2;
    return (size + step - 1) / step * step;
}

void *pooled_alloc(struct page_pool *pool, uint64_t *counter, size_t size)
{
    if (!pool || size < POOLED_MIN) return mem_alloc(counter, size);
    return page_pool_alloc(pool, (uint32_t)pooled_size(size), counter);
}

void pooled_free(struct page_pool *pool, uint64_t *counter, void *bytes, size_t size)
{
    if (!bytes) return;
    if (!pool || size < POOLED_MIN)
        mem_free(counter, bytes);
    else
        page_pool_free(pool, bytes, (uint32_t)pooled_size(size), counter);
}

uint8_t *page_pool_alloc(struct page_pool *pool, uint32_t size, uint64_t *counter)
{
    struct page_bin *bin = bin_find(pool, size);
    if (!bin) {
        /* Made now, so that freeing cannot fail. */
        struct page_bin *bins = realloc(pool->bins, (pool->bin_count + 1) * sizeof(*bins));
        if (!bins) return NULL;
        pool->bins = bins;
        bin = &bins[pool->bin_count++];
        *bin = (struct page_bin){.size = size};
    }
    uint8_t *bytes;
    if (bin->warm) {
        bytes = (uint8_t *)bin->warm;
        bin->warm = bin->warm->next;
        bin->warm_count--;
    } else if (bin->cold) {
        bytes = (uint8_t *)bin->cold;
        bin->cold = bin->cold->next;
    } else {
        if ((size_t)(pool->end - pool->next) < size && !extent_add(pool, size)) return NULL;
        bytes = pool->next;
        pool->next += size;
    }
    if (counter) *counter += size;
    return bytes;
}

void page_pool_free(struct page_pool *pool, uint8_t *bytes, uint32_t size, uint64_t *counter)
{
    struct page_bin *bin = bin_find(pool, size);
    ASSERT(bin);
    if (counter) *counter -= size;
    struct page_spare *spare = (struct page_spare *)(void *)bytes;
    if (bin->warm_count < BIN_WARM_MAX) {
        spare->next = bin->warm;
        bin->warm = spare;
        bin->warm_count++;
        return;
    }
    spare->next = bin->cold;
    bin->cold = spare;
    uint8_t *from =
        (uint8_t *)(((uintptr_t)(spare + 1) + KERNEL_PAGE - 1) & ~(uintptr_t)(KERNEL_PAGE - 1));
    uint8_t *to = (uint8_t *)((uintptr_t)(bytes + size) & ~(uintptr_t)(KERNEL_PAGE - 1));
    if (to > from) (void)madvise(from, (size_t)(to - from), MADV_DONTNEED);
}
