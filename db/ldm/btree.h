/* Private to db/ldm: an ordered index from normalized keys (memcmp order) to row numbers.
 *
 * Leaves of 256 entries hold, per entry, an 8-byte head (the key's next 8 bytes after the prefix
 * that all of the leaf shares, zero-padded) and a 4-byte row number; equal heads are told apart by
 * the full key, which the tree asks its owner for (key_of), or, with store_keys, keeps in the leaf
 * (for secondary indexes, where entries of older row versions have keys that the row in place no
 * longer has). Entries are unique by (key, row). Splits at the right edge leave the left leaf full,
 * so ascending inserts fill leaves; underfull neighbours merge. About 12 bytes / fill factor per
 * entry without stored keys. */
#ifndef DB_LDM_BTREE_H
#define DB_LDM_BTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "db/wire/schema.h"

struct btree;

struct page_pool;

struct btree_config {
    /* Writes the full normalized key of the row in place and returns its size. Not used with
     * store_keys but for btree_build. */
    uint32_t (*key_of)(const void *context, uint32_t row, uint8_t key[SCHEMA_KEY_SIZE_MAX]);
    /* At least the first 16 bytes of it (zero-padded when shorter), for sorting and heads without
     * building the rest; may be NULL. */
    void (*head_of)(const void *context, uint32_t row, uint8_t head[16]);
    const void *context;
    bool store_keys;
    uint32_t key_size; /* of every key, where all have the same; 0: they vary. Saves reading keys
                          after btree_build */
    uint64_t *memory;  /* every allocation is added to it and every free subtracted */
    struct page_pool *pages; /* of nodes; NULL: malloc */
};

MUST_USE enum err btree_create(const struct btree_config *config, struct btree **ret_tree);
void btree_destroy(struct btree *tree); /* NULL is allowed */
uint64_t btree_count(const struct btree *tree);
/* Adds one to every change, so cursors see that their leaf pointer may be stale. */
uint64_t btree_change_count(const struct btree *tree);
/* ERR_EXISTS for the same key and row; with `unique`, for the same key with any row, which is then
 * in *ret_existing (a caller that finds a dead row there decides itself). ERR_NO_MEMORY. Nothing
 * changes on failure. */
MUST_USE enum err btree_insert(struct btree *tree, const uint8_t *key, uint32_t key_size,
                               uint32_t row, bool unique, uint32_t *ret_existing);
/* ERR_NOT_FOUND. */
MUST_USE enum err btree_remove(struct btree *tree, const uint8_t *key, uint32_t key_size,
                               uint32_t row);
/* The first row with exactly this key. ERR_NOT_FOUND. */
MUST_USE enum err btree_find(const struct btree *tree, const uint8_t *key, uint32_t key_size,
                             uint32_t *ret_row);
void btree_prefetch(const struct btree *tree, const uint8_t *key, uint32_t key_size);

/* A position between entries. Valid while btree_change_count is what it was. */
struct btree_position {
    const void *leaf; /* NULL: at the end */
    uint32_t index;
};
/* The first entry with key >= `key` (after: the first whose key is greater and does not start with
 * it, i.e. behind all keys with this prefix). size 0: the first entry (after: the end). */
void btree_seek(const struct btree *tree, const uint8_t *key, uint32_t key_size, bool after,
                struct btree_position *ret_position);
/* The entry at the position and one step on; false at the end. */
bool btree_next(const struct btree *tree, struct btree_position *position, uint32_t *ret_row);
/* The entry before the position and one step back; false at the start. */
bool btree_previous(const struct btree *tree, struct btree_position *position, uint32_t *ret_row);
/* The full key of the entry that the position stands before. Its size; 0 at the end. */
uint32_t btree_key_at(const struct btree *tree, const struct btree_position *position,
                      uint8_t key[SCHEMA_KEY_SIZE_MAX]);
/* Replaces an empty tree's content: rows (borrowed, reordered) in any order, keys by key_of.
 * `unique`: ERR_EXISTS on equal keys. Leaves are filled to about 15/16. Millions of rows: radix
 * sort on 16-byte heads, then full keys where those tie. */
MUST_USE enum err btree_build(struct btree *tree, uint32_t *rows, uint64_t count, bool unique);
/* Order, prefixes, heads, counts, links, fill. ERR_CORRUPT with a reason. */
MUST_USE enum err btree_verify(const struct btree *tree, struct diag *diag);

#endif
