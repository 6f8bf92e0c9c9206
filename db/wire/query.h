/* The query tree: what RonSQL's planner hands to the database, which runs it in parallel inside the
 * partitions.
 *
 * Shape of this first version: a pipeline of tables joined by key, then optionally an aggregation,
 * then projection, order and limit.
 *
 *   source 0: scan of a table (all pages, or ranges of an ordered index, or rows by primary key)
 *   source k: for every row so far, the rows of another table whose index columns equal key
 * expressions over sources < k (inner join). Runs where that table's rows are: no hop when the
 * planner proved co-partitioning, else batches of rows move to the partition that owns the key.
 *   filter k: applied as soon as source k is joined
 *   aggregate: group keys and aggregates over the joined row; partial per partition, merged at the
 * coordinator having, outputs, order: over EXPR_SOURCE_GROUP columns (group keys) and
 * EXPR_SOURCE_AGG columns (aggregates) when there is an aggregation, else over the sources
 *   distinct: over the outputs
 *   order by: over outputs (and hidden outputs behind visible_count), then limit and offset */
#ifndef DB_WIRE_QUERY_H
#define DB_WIRE_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "db/wire/expr.h"
#include "db/wire/schema.h"

enum {
    QUERY_SOURCES_MAX = 16,
    QUERY_GROUPS_MAX = 32,
    QUERY_AGGREGATES_MAX = 64,
    QUERY_OUTPUTS_MAX = 256,
    QUERY_RANGES_MAX = 65536,
    QUERY_SIZE_MAX = 8 << 20, /* bytes encoded */
    QUERY_VECTOR_ROWS = 1024,
};

enum access_kind {
    ACCESS_SCAN = 1,   /* every page */
    ACCESS_RANGES = 2, /* ranges of an ordered index */
    ACCESS_KEYS = 3,   /* primary keys, all columns given: each range has eq_count = all */
    ACCESS_JOIN = 4,   /* sources > 0: index prefix equal to key expressions */
};

/* The first eq_count index columns equal `eq`; then optionally bounds on the next index column. */
struct index_range {
    uint16_t eq_count;
    bool has_low;
    bool low_inclusive;
    bool has_high;
    bool high_inclusive;
    struct value *eq;
    struct value low;
    struct value high;
};

struct query_source {
    uint32_t table_id;
    uint32_t table_version;
    uint8_t access; /* enum access_kind */
    uint8_t index;  /* position in table_def.indexes, of RANGES, KEYS and JOIN */
    bool local;     /* JOIN: the planner proved that the row is in the same partition */
    bool has_filter;
    struct expr filter; /* over sources <= this one */
    uint32_t range_count;
    struct index_range *ranges;
    uint16_t key_count; /* JOIN: of the index's leading columns; kinds as the columns' */
    struct expr *keys;  /* JOIN: over sources before this one */
};

enum aggregate_fn {
    AGG_COUNT_STAR = 1,
    AGG_COUNT = 2, /* of non-NULL values */
    AGG_SUM = 3,   /* I64, U64: exact in 128 bits, ERR_OUT_OF_RANGE if the result exceeds the output
                      kind (I64, U64   or DEC); DEC exact; F64 */
    AGG_MIN = 4,
    AGG_MAX = 5,
    AGG_AVG = 6, /* I64, U64, DEC: DEC with scale + 4, rounded half away from zero; F64: F64 */
    AGG_COUNT_DISTINCT = 7,
};

struct query_aggregate {
    uint8_t fn;        /* enum aggregate_fn */
    uint8_t kind;      /* of the argument */
    uint8_t out_kind;  /* of the result: COUNT I64, SUM as above, MIN and MAX as the argument, AVG
                          DEC or F64 */
    uint8_t out_scale; /* of a DEC result */
    uint8_t collation; /* of MIN, MAX and DISTINCT over STR */
    struct expr argument; /* not for COUNT_STAR */
};

struct query_group {
    uint8_t collation; /* of a STR key */
    struct expr expr;
};

struct query_order {
    uint16_t output;
    bool descending; /* NULL sorts first ascending, last descending, as in MySQL and SQLite */
    uint8_t collation;
};

struct query_output {
    const char *name; /* the column heading; NUL-terminated, borrowed */
    uint8_t kind;
    uint8_t scale;
    uint8_t collation; /* of STR: for distinct */
    uint8_t display; /* enum column_type when the value is a DATE, DATETIME or TIMESTAMP, else 0 */
    struct expr expr;
};

struct query_tree {
    uint64_t catalog_version;
    uint16_t source_count;
    uint16_t group_count;
    uint16_t aggregate_count;
    uint16_t output_count;  /* with hidden ones */
    uint16_t visible_count; /* the first of the outputs that a client sees */
    uint16_t order_count;
    bool has_aggregation; /* group_count may be 0: then always exactly one row before HAVING */
    bool has_having;
    bool distinct;
    bool has_limit;
    uint64_t limit;
    uint64_t offset;
    struct query_source *sources;
    struct query_group *groups;
    struct query_aggregate *aggregates;
    struct expr having;
    struct query_output *outputs;
    struct query_order *order;
    bool pruned; /* only the slots below are touched; else every partition */
    uint32_t slot_count;
    uint16_t *slots;
};

/* What a register holds, known before any row is read: values of one kind and, for DEC, one scale.
 */
struct query_type {
    uint8_t kind;  /* enum value_kind */
    uint8_t scale; /* of DEC; QUERY_SCALE_ANY: only NULL was seen, as of KIND_NULL */
};
enum { QUERY_SCALE_ANY = 0xff, QUERY_SCALE_MAX = 18 };

/* What the columns of an expression may refer to. */
struct query_scope {
    const struct table_def *tables[QUERY_SOURCES_MAX];
    uint16_t source_count; /* 0 for an expression over groups */
    uint16_t group_count;  /* 0 for an expression over sources, as the next */
    uint16_t aggregate_count;
    struct query_type groups[QUERY_GROUPS_MAX];
    struct query_type aggregates[QUERY_AGGREGATES_MAX];
};

/* The types of all registers of a decoded expression (ret_types has ins_count elements).
 * ERR_BAD_QUERY when a column is not in the scope or of another kind, or when two scales meet that
 * must be equal. */
MUST_USE enum err query_expr_types(const struct expr *expr, const struct query_scope *scope,
                                   struct query_type *ret_types);
/* The two scopes of a decoded tree: over the first source_count sources, and over groups. */
void query_scope_sources(const struct query_tree *tree, const struct catalog *catalog,
                         uint16_t source_count, struct query_scope *ret_scope);
MUST_USE enum err query_scope_groups(const struct query_tree *tree, const struct catalog *catalog,
                                     struct arena *arena, struct query_scope *ret_scope);

void query_encode(const struct query_tree *tree, struct buf *buf);
/* Validates everything against limits and the catalog. Memory from the arena, bytes borrowed.
 * ERR_BAD_QUERY, ERR_SCHEMA_CHANGED, ERR_NO_MEMORY. */
MUST_USE enum err query_decode(struct reader *reader, const struct catalog *catalog,
                               struct arena *arena, struct query_tree *ret_tree);

#endif
