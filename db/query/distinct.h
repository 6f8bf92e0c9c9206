/* Sets of (group, value) pairs for COUNT(DISTINCT …), and sets of rows for SELECT DISTINCT. */
#ifndef DB_QUERY_DISTINCT_H
#define DB_QUERY_DISTINCT_H

#include "db/query/vector.h"

struct distinct_entry {
    uint64_t hash;
    uint32_t group;
    uint32_t size; /* of STR, and of rows */
    union {
        uint64_t bits;        /* of numbers */
        const uint8_t *bytes; /* in the arena; folded when the collation ignores case */
    };
};

enum { DISTINCT_TABLES = 64 };

struct distinct_set {
    struct query_memory *memory;
    struct arena arena;
    bool fold;
    uint32_t count;
    uint32_t capacity;
    struct distinct_entry *entries; /* in order of arrival */
    struct distinct_table {
        uint32_t *slots; /* entry + 1 */
        uint32_t slot_count;
        uint32_t used;
    } tables[DISTINCT_TABLES]; /* each grows by itself, so that no step takes long */
};

void distinct_init(struct distinct_set *set, struct query_memory *memory, bool fold);
void distinct_fini(struct distinct_set *set);
/* Adds a number, or text; *ret_added: it was not there. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err distinct_add_number(struct distinct_set *set, uint32_t group, uint64_t bits,
                                      bool *ret_added);
MUST_USE enum err distinct_add_bytes(struct distinct_set *set, uint32_t group, const uint8_t *bytes,
                                     uint32_t size, bool *ret_added);
/* The 64 bits by which numbers are the same: F64 with one zero and one NaN. */
uint64_t distinct_bits(uint8_t kind, uint64_t bits);

#endif
