/* Planning: a bound query to a query tree. Private to sql/. */
#ifndef SQL_PLAN_H
#define SQL_PLAN_H

#include "base/arena.h"
#include "base/diag.h"
#include "sql/bound.h"

enum {
    PLAN_SLOTS_MAX = 4096
}; /* more constant partition keys than that: every partition is asked */

/* What the conditions say about one column of a table. */
struct column_bounds {
    bool has_eq;  /* it equals one of the values */
    bool derived; /* through an equality with another column: the condition stays a filter */
    uint32_t value_count;
    struct value *values; /* sorted, distinct, fit for the column */
    uint32_t eq_conjunct;
    bool has_low;
    bool low_inclusive;
    bool has_high;
    bool high_inclusive;
    bool keep; /* the range says less than its condition (LIKE): the condition stays a filter */
    struct value low;
    struct value high;
    uint32_t low_conjunct;
    uint32_t high_conjunct;
};

enum plan_conjunct_use {
    CONJUNCT_FILTER = 0, /* checked row by row */
    CONJUNCT_INDEX,      /* what the index access gives already */
};

struct plan_source {
    uint16_t table; /* in FROM */
    uint8_t access; /* enum access_kind */
    uint8_t index;
    bool local;
    bool broadcast; /* JOIN: the key does not tell the partition */
    uint32_t range_count;
    struct index_range *ranges;
    uint16_t eq_count; /* RANGES, KEYS: of every range */
    bool has_range;    /* and a bound on the next column */
    uint16_t key_count;
    struct bound *keys[SCHEMA_KEY_COLUMNS_MAX];
    uint32_t key_conjuncts[SCHEMA_KEY_COLUMNS_MAX];
};

struct plan {
    const struct catalog *catalog;
    struct bound_query *query;
    struct arena *arena;
    struct diag *diag;
    uint16_t partition_count;
    struct column_bounds *bounds[QUERY_SOURCES_MAX]; /* of each table, by column */
    uint16_t
        *classes[QUERY_SOURCES_MAX]; /* of each table's columns: equal numbers are equal values */
    uint8_t *uses;                   /* of each conjunct: enum plan_conjunct_use */
    bool never;                      /* a condition holds for no row */
    struct plan_source sources[QUERY_SOURCES_MAX];
    uint16_t position[QUERY_SOURCES_MAX]; /* of each table: which source it is */
    bool pruned;
    uint32_t slot_count;
    uint16_t *slots;
};

/* Plans and builds the tree; *ret_plan is for EXPLAIN. ERR_NOT_PUSHABLE, ERR_TOO_BIG, ERR_NO_MEMORY
 * with the place. */
MUST_USE enum err plan_query(const struct catalog *catalog, uint16_t partition_count,
                             struct bound_query *query, struct arena *arena,
                             struct query_tree *ret_tree, struct plan **ret_plan,
                             struct diag *diag);

/* plan_bounds.c: fills bounds, classes and never. */
MUST_USE enum err plan_bounds(struct plan *plan);

/* plan_access.c */
enum access_class { /* better first */
                    CLASS_KEYS,
                    CLASS_EQUAL,
                    CLASS_RANGE,
                    CLASS_SCAN,
};
/* The best access to the table by constants alone. */
MUST_USE enum err plan_access(struct plan *plan, uint16_t table, enum access_class *ret_class,
                              struct plan_source *ret_source);
/* The slots of the rows that the constants allow; *ret_pruned is false when they do not tell. */
MUST_USE enum err plan_slots(struct plan *plan, uint16_t table, bool *ret_pruned,
                             uint32_t *ret_count, uint16_t **ret_slots);

/* plan_join.c: source `at` as a lookup of the table from the sources before it; false when there is
 * no key. */
bool plan_join(struct plan *plan, uint16_t at, uint16_t table, struct plan_source *ret_source);

/* emit.c: bound expressions to bytecode. ERR_TOO_BIG, ERR_NO_MEMORY. */
struct emitter {
    struct arena *arena;
    const uint16_t *position; /* of each table of FROM: its source */
    uint32_t epoch;
};
MUST_USE enum err emit_expr(struct emitter *emitter, struct bound *root, struct expr *ret_expr);

#endif
