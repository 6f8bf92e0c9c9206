/* Private to the B+tree: its nodes and what the files of the tree share.
 *
 * A tree is empty (root NULL), a single leaf (depth 0), or `depth` levels of inner nodes above a
 * level of leaves that are linked in key order. All entries are ordered by (key, row), keys as
 * memcmp orders them.
 *
 * Leaf, one allocation, sized by its capacity (a multiple of 32, or 8 or 16), so that a leaf that a
 * split left half full does not hold memory for a full one:
 *
 *     struct leaf, 192 bytes | u64 heads [capacity] | u32 rows [capacity] | prefix [prefix_room]
 *
 * The last head of each full block of 16 is kept in `samples` as well: a search of a cold leaf
 * reads those, one block and a row number, and not a line of every block.
 *
 * Every key of a leaf starts with its prefix; an entry's head is the next 8 bytes of its key,
 * zero-padded, as a big-endian number, so that unequal heads order two entries. Any prefix length
 * up to the true common one is valid: it shrinks in place, by shifting heads, when a key arrives
 * that does not share it, and grows only when a leaf is rebuilt (another capacity, a split) and
 * only when that is worth reading keys for.
 *
 * With store_keys the bytes behind a head (the tail) are in `tails`, unless all keys of the leaf
 * have the same size and end within their heads: then there is none.
 *
 * Inner nodes hold count children and count - 1 separators; child i holds the entries below
 * separator i and not below separator i - 1. A separator is the shortest prefix of the right
 * neighbour's first key that is above the left neighbour's last, with row 0; only between equal
 * keys it is the whole key and the row. */
#ifndef DB_LDM_BTREE_NODE_H
#define DB_LDM_BTREE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/btree.h"

enum {
    LEAF_CAPACITY_MAX = 256,
    LEAF_CAPACITY_STEP = 32,
    LEAF_LOW = 64,     /* fewer entries: merged with a neighbour if both fit in LEAF_MERGED_MAX */
    LEAF_STARVED = 32, /* fewer: takes entries from a neighbour otherwise */
    LEAF_MERGED_MAX = 192,
    LEAF_BUILD_COUNT = 240, /* of btree_build: 15/16 */
    INNER_CHILDREN_MAX = 128,
    INNER_LOW = 32, /* fewer children: merged with or filled from a neighbour */
    INNER_BUILD_COUNT = 120,
    INNER_PREFIX_MAX = 48,
    BTREE_DEPTH_MAX = 16,
    HEAD_SIZE = 8,
    HEADS_BLOCK = 16, /* heads between two samples of a search */
    LEAF_SHORT_PREFIX = 30,
};

struct tails {
    uint32_t used;     /* bytes of records, with garbage */
    uint32_t capacity; /* bytes of records */
    uint32_t garbage;
    uint32_t offsets[]; /* leaf capacity of them, then the records: u16 key size, tail bytes */
};

struct leaf {
    struct leaf *previous;
    struct leaf *next;
    struct tails *tails;
    uint16_t count;
    uint16_t capacity;
    uint16_t prefix_size;
    uint16_t prefix_room; /* 0: the prefix is in short_prefix */
    uint16_t key_size;    /* with store_keys and no tails: of every key */
    uint8_t short_prefix[LEAF_SHORT_PREFIX];
    uint64_t samples[LEAF_CAPACITY_MAX / HEADS_BLOCK];
    uint64_t heads[];
};
_Static_assert(sizeof(struct leaf) == 192, "three cache lines that a search reads first");

struct separator {
    uint32_t row;
    uint32_t size;
    uint8_t bytes[];
};

struct inner {
    uint16_t count; /* of children */
    uint16_t prefix_size;
    uint8_t prefix[INNER_PREFIX_MAX];
    uint64_t heads[INNER_CHILDREN_MAX - 1];
    void *children[INNER_CHILDREN_MAX];
    struct separator *separators[INNER_CHILDREN_MAX - 1];
};

struct btree {
    struct btree_config config;
    void *root;
    struct leaf *first;
    struct leaf *last;
    uint64_t count;
    uint64_t change_count;
    uint64_t bytes; /* allocated, with this struct */
    uint32_t depth;
    uint32_t key_size_min; /* bounds of the sizes of all keys that the tree may hold */
    uint32_t key_size_max;
};

/* What is looked for: an entry, or the place where it would be. */
struct entry_key {
    const uint8_t *bytes;
    uint32_t size;
    uint32_t row;
};

static inline uint32_t *leaf_rows(const struct leaf *leaf)
{
    return (uint32_t *)(uintptr_t)(leaf->heads + leaf->capacity);
}

static inline uint8_t *leaf_prefix(const struct leaf *leaf)
{
    if (leaf->prefix_room) return (uint8_t *)(leaf_rows(leaf) + leaf->capacity);
    return (uint8_t *)(uintptr_t)leaf->short_prefix;
}

static inline size_t leaf_size(uint32_t capacity, uint32_t prefix_room)
{
    return sizeof(struct leaf) + capacity * (sizeof(uint64_t) + sizeof(uint32_t)) + prefix_room;
}

/* What a search of the leaf reads first, before it is known how full it is. */
static inline void leaf_prefetch(const struct leaf *leaf)
{
    const uint8_t *bytes = (const uint8_t *)leaf;
    /* Leaves need not start at a line. */
    for (uint32_t at = 0; at <= sizeof(*leaf); at += 64)
        __builtin_prefetch(bytes + at);
}

/* size bytes (more than 8 are not read) as a zero-padded big-endian number. */
static inline uint64_t head_load(const uint8_t *bytes, uint32_t size)
{
    uint64_t head = 0;
    if (size >= HEAD_SIZE) {
        memcpy(&head, bytes, HEAD_SIZE);
    } else {
        for (uint32_t i = 0; i < size; i++)
            head |= (uint64_t)bytes[i] << (8 * i);
    }
    return __builtin_bswap64(head);
}

static inline void head_store(uint64_t head, uint8_t bytes[HEAD_SIZE])
{
    head = __builtin_bswap64(head);
    memcpy(bytes, &head, HEAD_SIZE);
}

/* The head of a key of at least `from` bytes. */
static inline uint64_t head_at(const uint8_t *key, uint32_t size, uint32_t from)
{
    return head_load(key + from, size - from);
}

/* An entry's head when the prefix gets shorter: what is cut off it comes in front. */
static inline uint64_t head_shift(const uint8_t *prefix, uint32_t old_size, uint32_t new_size,
                                  uint64_t head)
{
    uint32_t cut = old_size - new_size;
    if (cut == 0) return head;
    if (cut >= HEAD_SIZE) return head_load(prefix + new_size, HEAD_SIZE);
    return head_load(prefix + new_size, cut) | head >> (8 * cut);
}

static inline uint32_t bytes_common(const uint8_t *a, uint32_t a_size, const uint8_t *b,
                                    uint32_t b_size)
{
    uint32_t size = a_size < b_size ? a_size : b_size;
    uint32_t i = 0;
    while (i < size && a[i] == b[i])
        i++;
    return i;
}

/* <0, 0, >0; 0 only for equal bytes and sizes. */
static inline int bytes_compare(const uint8_t *a, uint32_t a_size, const uint8_t *b,
                                uint32_t b_size)
{
    uint32_t size = a_size < b_size ? a_size : b_size;
    int order = size ? memcmp(a, b, size) : 0;
    if (order) return order;
    return (a_size > b_size) - (a_size < b_size);
}

/* Takes the samples of the blocks from that of entry `index` on, after heads from there on have
 * changed. */
static inline void leaf_sample(struct leaf *leaf, uint32_t index)
{
    uint32_t blocks = leaf->count / HEADS_BLOCK;
    for (uint32_t i = index / HEADS_BLOCK; i < blocks; i++)
        leaf->samples[i] = leaf->heads[i * HEADS_BLOCK + HEADS_BLOCK - 1];
}

/* As heads_block, of a leaf, by its samples. */
static inline uint32_t leaf_block(const struct leaf *leaf, uint64_t head)
{
    uint32_t blocks = leaf->count / HEADS_BLOCK;
    uint32_t below = 0;
    for (uint32_t i = 0; i < blocks; i++)
        below += leaf->samples[i] < head;
    return below * HEADS_BLOCK;
}

/* The start of the block of HEADS_BLOCK heads in which the first one not below `head` is: one
 * sample of each block, whose loads do not depend on each other, so that a cold node costs two
 * rounds of misses and not the five of a binary search. */
static inline uint32_t heads_block(const uint64_t *heads, uint32_t count, uint64_t head)
{
    uint32_t blocks = count / HEADS_BLOCK;
    uint32_t below = 0;
    for (uint32_t i = 0; i < blocks; i++)
        below += heads[i * HEADS_BLOCK + HEADS_BLOCK - 1] < head;
    return below * HEADS_BLOCK;
}

/* How many of the ascending heads, of which those before base are, are below `head`. */
static inline uint32_t heads_below_from(const uint64_t *heads, uint32_t count, uint32_t base,
                                        uint64_t head)
{
    uint32_t end = count - base < HEADS_BLOCK ? count : base + HEADS_BLOCK;
    uint32_t below = base;
    for (uint32_t i = base; i < end; i++)
        below += heads[i] < head;
    return below;
}

static inline uint32_t heads_below(const uint64_t *heads, uint32_t count, uint64_t head)
{
    return heads_below_from(heads, count, heads_block(heads, count, head), head);
}

/* NULL when malloc fails; counted in tree->bytes and config.memory. */
void *tree_alloc(struct btree *tree, size_t size);
void tree_free(struct btree *tree, void *memory, size_t size);
/* The same for nodes, which come from config.pages where they can. */
void *node_alloc(struct btree *tree, size_t size);
void node_free(struct btree *tree, void *node, size_t size);

/* ---- leaves (btree_leaf.c) ---- */

struct leaf_part {
    const struct leaf *leaf;
    uint32_t from;
    uint32_t to;
};

/* The place of a key in a leaf. */
struct leaf_place {
    uint32_t index; /* the first entry not below it */
    bool exact;     /* that entry has the same key and row */
    bool same_key;  /* some entry has the same key: */
    uint32_t same_row;
    bool same_at_index; /* the entry at index has the same key */
};

/* The smallest capacity for count entries. */
uint32_t leaf_capacity_for(uint32_t count);
/* A new leaf, unlinked, of the entries of one or two parts (in order), with room for `extra` (may
 * be NULL), which is not added. No parts: an empty one. NULL when out of memory. */
struct leaf *leaf_make(struct btree *tree, const struct leaf_part *parts, uint32_t part_count,
                       uint32_t capacity, const struct entry_key *extra);
/* Empty; the caller fills it. With_tails: tail_bytes bytes for records. */
struct leaf *leaf_alloc(struct btree *tree, uint32_t capacity, const uint8_t *prefix,
                        uint32_t prefix_size, bool with_tails, uint32_t tail_bytes);
void leaf_free(struct btree *tree, struct leaf *leaf);
void leaf_search(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key,
                 struct leaf_place *ret_place);
/* Without stored keys a row has one entry only: finds it by its number where heads tie. */
bool leaf_search_row(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key,
                     uint32_t *ret_index);
/* Whether leaf_insert can add the key without more memory. */
bool leaf_has_room(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key);
void leaf_insert(struct btree *tree, struct leaf *leaf, uint32_t index,
                 const struct entry_key *key);
/* Behind the last entry, which is smaller. The key has the prefix, and there is room. */
void leaf_append(struct btree *tree, struct leaf *leaf, const struct entry_key *key);
void leaf_remove(struct leaf *leaf, uint32_t index);
/* The full key of an entry; its size. */
uint32_t leaf_key(const struct btree *tree, const struct leaf *leaf, uint32_t index,
                  uint8_t key[SCHEMA_KEY_SIZE_MAX]);
/* The separator between two neighbouring entries, allocated. NULL when out of memory. */
struct separator *leaf_separate(struct btree *tree, const struct leaf *left, uint32_t left_index,
                                const struct leaf *right, uint32_t right_index);

/* ---- inner nodes (btree_inner.c) ---- */

struct separator *separator_alloc(struct btree *tree, const uint8_t *bytes, uint32_t size,
                                  uint32_t row);
/* The shortest one between two keys, the left below the right. */
struct separator *separator_between(struct btree *tree, const struct entry_key *left,
                                    const struct entry_key *right);
void separator_free(struct btree *tree, struct separator *separator);
/* The child where the key belongs. */
uint32_t inner_search(const struct inner *inner, const struct entry_key *key);
/* The child behind `index`, with the separator between them. There is room. */
void inner_insert(struct inner *inner, uint32_t index, struct separator *separator, void *child);
/* Takes out child index and a separator beside it (left of it, unless it is the first), which the
 * caller frees. */
struct separator *inner_remove(struct inner *inner, uint32_t index);
/* Moves the children from `at` on to the empty right; returns the separator that was between. */
struct separator *inner_split(struct inner *inner, struct inner *right, uint32_t at);
/* Computes prefix and heads anew. */
void inner_refresh(struct inner *inner);
/* Child index of the parent has few children: merges or shares with a neighbour. True: a child of
 * the parent is gone. */
bool inner_rebalance(struct btree *tree, struct inner *parent, uint32_t index);

/* ---- sorting for btree_build (btree_sort.c) ---- */

/* 12 bytes of a key behind those that all keys share, big-endian, zero-padded, and its row. */
struct sort_item {
    uint64_t high;
    uint32_t low;
    uint32_t row;
};

/* Items of all rows in key order; the caller gives them back to tree_free. *ret_offset: how many
 * bytes all keys share for certain, i.e. where the items' bytes start. ERR_EXISTS, ERR_NO_MEMORY.
 */
MUST_USE enum err btree_sort(struct btree *tree, const uint32_t *rows, uint64_t count, bool unique,
                             struct sort_item **ret_items, uint32_t *ret_offset);

/* ---- whole trees (btree.c) ---- */

/* Frees all nodes of a subtree; level 0 is a leaf. */
void subtree_free(struct btree *tree, void *node, uint32_t level);

#endif
