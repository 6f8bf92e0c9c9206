/* Private to the hash index: elements of one size with numbers from 0, in segments that stay where
 * they are. The first segment starts with two elements and doubles, moving, until it is as large as
 * the others. The others may come from a page pool: buckets are read at random, and there lie in
 * huge pages. */
#ifndef DB_LDM_HASH_POOL_H
#define DB_LDM_HASH_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page_pool;

struct hash_pool {
    uint8_t **segments;
    uint32_t segment_count;
    uint32_t segment_capacity; /* of the array of pointers */
    uint32_t first_capacity;   /* of the first segment, elements */
    uint32_t element_size;
    uint32_t shift;          /* elements of a full segment, log2 */
    uint64_t *memory;        /* NULL, or what allocations are added to and frees subtracted from */
    struct page_pool *pages; /* of segments but the first; NULL: malloc */
};

void hash_pool_init(struct hash_pool *pool, uint32_t element_size, uint32_t shift, uint64_t *memory,
                    struct page_pool *pages);
/* Frees everything; the pool is as after its init. */
void hash_pool_fini(struct hash_pool *pool);
/* Makes element `number` exist, the next one behind those that do. May move elements as long as
 * there is one segment. False when there is no memory; nothing changed then. */
bool hash_pool_reach(struct hash_pool *pool, uint32_t number);
/* Gives back whole segments behind the first `count` elements, but one in reserve. */
void hash_pool_trim(struct hash_pool *pool, uint32_t count);

static inline void *hash_pool_at(const struct hash_pool *pool, uint32_t number)
{
    return pool->segments[number >> pool->shift] +
           (size_t)(number & ((1u << pool->shift) - 1)) * pool->element_size;
}

#endif
