/* The groups of an aggregation: from the values of the group keys to a dense group number.
 * Single-threaded. */
#ifndef DB_QUERY_GROUP_H
#define DB_QUERY_GROUP_H

#include "db/query/vector.h"

enum group_mode {
    GROUP_NONE,   /* no keys: one group, which always exists */
    GROUP_NUMBER, /* one integer or DEC key, or several small ones packed into 64 bits */
    GROUP_TEXT,   /* one binary STR key: its own bytes */
    GROUP_BYTES,  /* anything else: encoded row by row */
};

struct group_key {
    struct query_type type;
    uint8_t collation;
    uint8_t bits;  /* of a packed key's value; 0: not packed */
    bool nullable; /* of a packed key: a bit more */
    union {        /* of every group: its first row's values */
        uint64_t *numbers;
        struct vector_str *texts;
    };
    uint8_t *nulls;
    size_t values_size; /* bytes allocated, as the next and those below */
    size_t nulls_size;
};

struct groups {
    struct query_memory *memory;
    struct arena arena; /* text of keys */
    enum group_mode mode;
    uint16_t key_count;
    struct group_key *keys;
    uint32_t count;
    uint32_t capacity;
    uint32_t null_group;        /* group + 1 of the NULL key in modes NUMBER and TEXT, or 0 */
    uint32_t *direct;           /* NUMBER: group + 1 of keys below GROUP_DIRECT_MAX */
    struct group_table *tables; /* of every mode with keys: GROUP_TABLES of them */
    struct vector_str *encoded; /* BYTES, TEXT: of every group, in the arena */
    uint64_t *rows;             /* of every group: rows found by groups_find */
    size_t encoded_size;
    size_t rows_size;
    struct buf scratch;
};

/* One part of the hash table; parts grow one at a time, so that no step takes long. */
struct group_table {
    struct group_slot *slots;
    uint32_t slot_count; /* a power of two */
    uint32_t used;
};

enum { GROUP_TABLES = 64, GROUP_DIRECT_MAX = 1 << 16, GROUPS_MAX = 1 << 30 };

/* The width of a key's values, when it is known to be small: 8, 16 or 32 bits, else 0; and whether
 * it can be NULL. */
struct group_width {
    uint8_t bits;
    bool nullable;
};
/* types, collations and widths have key_count elements; widths may be NULL. ERR_QUERY_MEMORY,
 * ERR_NO_MEMORY. */
MUST_USE enum err groups_init(struct groups *groups, struct query_memory *memory,
                              uint16_t key_count, const struct query_type *types,
                              const uint8_t *collations, const struct group_width *widths);
void groups_fini(struct groups *groups); /* a zeroed one is allowed */
/* The groups of count rows, 1 or more, made where they are new, and whether all rows are of one.
 * keys[k] is key k's vector. On failure some may have been made. ERR_QUERY_MEMORY, ERR_NO_MEMORY.
 */
MUST_USE enum err groups_find(struct groups *groups, const struct vector *const *keys,
                              uint32_t count, uint32_t ret_ids[QUERY_VECTOR_ROWS],
                              bool *ret_one_group);
/* Key `key` of `count` groups from `first`, borrowed until the next groups_find. */
struct vector groups_key(const struct groups *groups, uint16_t key, uint32_t first, uint32_t count);

#endif
