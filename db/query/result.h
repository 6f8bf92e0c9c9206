/* Result rows: DISTINCT, ORDER BY and LIMIT over the outputs, on a worker (its share) and at the
 * coordinator. */
#ifndef DB_QUERY_RESULT_H
#define DB_QUERY_RESULT_H

#include "db/query/distinct.h"
#include "db/query/vector.h"
#include "db/wire/query.h"

/* SELECT DISTINCT: the rows seen so far, by their visible outputs. */
struct result_distinct {
    const struct query_tree *tree;
    struct distinct_set set;
    struct buf scratch;
};
void result_distinct_init(struct result_distinct *distinct, const struct query_tree *tree,
                          struct query_memory *memory);
void result_distinct_fini(struct result_distinct *distinct); /* a zeroed one is allowed */
/* The rows that were not there yet, ascending. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err result_distinct_add(struct result_distinct *distinct,
                                      const struct vector *const *outputs, uint32_t count,
                                      uint16_t ret_picks[QUERY_VECTOR_ROWS], uint32_t *ret_count);

/* ORDER BY: all rows, or the first row_max of the order in a heap. */
struct result_row;
struct result_sort {
    const struct query_tree *tree;
    struct query_memory *memory;
    uint64_t row_max; /* UINT64_MAX: all */
    uint64_t count;
    uint64_t capacity;
    struct result_row **rows; /* a heap with the last of the order on top while there are row_max;
                                 sorted at the end */
    bool is_heap;
};
void result_sort_init(struct result_sort *sort, const struct query_tree *tree,
                      struct query_memory *memory, uint64_t row_max);
void result_sort_fini(struct result_sort *sort); /* a zeroed one is allowed */
/* The picked rows, or all when picks is NULL. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err result_sort_add(struct result_sort *sort, const struct vector *const *outputs,
                                  const uint16_t *picks, uint32_t count);
/* Puts the rows in order. */
void result_sort_finish(struct result_sort *sort);
/* output_count values; borrowed until result_sort_fini. */
const struct value *result_sort_row(const struct result_sort *sort, uint64_t i);

#endif
