/* Private to db/ldm: a hash index from 64-bit key hashes to row numbers.
 *
 * Buckets of one cache line hold up to 10 entries of a 32-bit row number and 16 bits of the hash;
 * growth is linear hashing, one bucket split at a time, so no insert ever pays for a whole rehash;
 * overflowing buckets chain from a pool. About 8 bytes per row. The owner compares keys: entries
 * with an equal tag are candidates. */
#ifndef DB_LDM_HASH_INDEX_H
#define DB_LDM_HASH_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"

struct hash_index;
struct page_pool;

struct hash_index_config {
    uint64_t (*hash_of)(const void *context, uint32_t row); /* for splits */
    const void *context;
    uint64_t *memory;
    struct page_pool *pages; /* gives the memory of buckets once there are many; NULL: malloc */
};

MUST_USE enum err hash_index_create(const struct hash_index_config *config,
                                    struct hash_index **ret_index);
void hash_index_destroy(struct hash_index *index); /* NULL is allowed */
uint64_t hash_index_count(const struct hash_index *index);
/* Makes room for count entries in all, for bulk loads. */
MUST_USE enum err hash_index_reserve(struct hash_index *index, uint64_t count);
/* The caller has made sure that the row is not in. ERR_NO_MEMORY: nothing changed. */
MUST_USE enum err hash_index_insert(struct hash_index *index, uint64_t hash, uint32_t row);
MUST_USE enum err hash_index_remove(struct hash_index *index, uint64_t hash, uint32_t row);
/* Calls match(context, row) on candidates until one returns true. ERR_NOT_FOUND. */
MUST_USE enum err hash_index_find(const struct hash_index *index, uint64_t hash,
                                  bool (*match)(const void *context, uint32_t row),
                                  const void *context, uint32_t *ret_row);
void hash_index_prefetch(const struct hash_index *index, uint64_t hash);
MUST_USE enum err hash_index_verify(const struct hash_index *index, struct diag *diag);

#endif
