/* Aggregates: the state of one aggregate for every group, in columns. Single-threaded. */
#ifndef DB_QUERY_AGGREGATE_H
#define DB_QUERY_AGGREGATE_H

#include "db/query/vector.h"

struct aggregate_text; /* of MIN and MAX over STR */
struct distinct_set;   /* of COUNT DISTINCT */

struct aggregate {
    struct query_memory *memory;
    uint8_t fn;
    uint8_t kind;  /* of the argument */
    uint8_t scale; /* of a DEC argument */
    uint8_t out_kind;
    uint8_t out_scale;
    uint8_t collation;
    uint32_t count; /* groups that have a state */
    uint32_t capacity;
    uint64_t *counts; /* rows or values counted; while by_rows: the NULLs among the group's rows */
    bool by_rows;     /* COUNT, SUM, AVG: what counts is the rows of the group without the NULLs */
    union {
        __int128 *sums; /* SUM, AVG of integers and DEC */
        struct aggregate_float {
            double sum;
            double lost;    /* the low-order part that the additions lost (Neumaier 1974) */
        } * floats;         /* SUM, AVG of F64 */
        uint64_t *extremes; /* MIN, MAX of numbers */
        struct aggregate_text *texts;
        void *states;
    };
    size_t counts_size; /* bytes allocated */
    size_t states_size;
    struct distinct_set *distinct;
};

/* argument is the type of its expression (of no meaning for COUNT_STAR). ERR_QUERY_MEMORY,
 * ERR_NO_MEMORY. */
MUST_USE enum err aggregate_init(struct aggregate *aggregate, struct query_memory *memory,
                                 const struct query_aggregate *definition,
                                 struct query_type argument);
void aggregate_fini(struct aggregate *aggregate); /* a zeroed one is allowed */
/* States for this many groups; the new ones are of no rows. */
MUST_USE enum err aggregate_resize(struct aggregate *aggregate, uint32_t group_count);
/* COUNT, SUM and AVG need to know how many rows of a group had a value. When the caller counts the
 * rows of each group anyway, they count the NULLs only, which mostly there are none of; the caller
 * then gives the row counts to aggregate_encode. Called before the first update, not by the
 * coordinator. */
void aggregate_count_by_rows(struct aggregate *aggregate);
/* Row i belongs to group ids[i]; argument is NULL for COUNT_STAR. one_group: all ids are equal. The
 * groups must have states. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err aggregate_update(struct aggregate *aggregate, const struct vector *argument,
                                   const uint32_t *ids, bool one_group, uint32_t count);
/* The states of `count` groups from `first` as bytes, for aggregate_merge at the coordinator: of
 * each group u64 count, then for SUM and AVG 16 bytes, for MIN and MAX of some values 8 bytes or a
 * varint size and the bytes. COUNT DISTINCT has nothing here: its values travel as rows of (keys,
 * value) and are counted by aggregate_update. */
void aggregate_encode(const struct aggregate *aggregate, const uint64_t *rows, uint32_t first,
                      uint32_t count, struct buf *buf);
/* Adds encoded states of `count` groups to those of ids. ERR_BAD_SIGNAL and the memory errors. */
MUST_USE enum err aggregate_merge(struct aggregate *aggregate, struct reader *reader,
                                  const uint32_t *ids, uint32_t count);
/* The result for one group; text is borrowed until the next update. ERR_OUT_OF_RANGE. */
MUST_USE enum err aggregate_result(const struct aggregate *aggregate, uint32_t group,
                                   struct value *ret_value);

#endif
