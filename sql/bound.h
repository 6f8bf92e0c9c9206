/* Bound expressions: names resolved, every kind decided, every cast in place. Private to sql/.
 *
 * A bound expression speaks the operations of expression bytecode (db/wire/expr.h), so that
 * emitting it is a walk; its columns name tables in the order of FROM, since the planner decides
 * the order of sources later. Nodes are interned: two expressions that mean the same are one
 * pointer, which makes GROUP BY matching a comparison of pointers and gives common subexpressions
 * one register. Nodes are immutable once made, but for the marks of one walk. */
#ifndef SQL_BOUND_H
#define SQL_BOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/diag.h"
#include "db/wire/query.h"
#include "sql/ast.h"

enum { BOUND_DEPTH_MAX = 3000 };

/* How strongly an expression insists on its collation; the lower wins. */
enum collation_strength {
    STRENGTH_EXPLICIT = 0, /* COLLATE */
    STRENGTH_COLUMN = 1,   /* a column, or made of one */
    STRENGTH_NONE = 2,     /* a literal, a number as text */
};

struct bound {
    uint8_t op;        /* enum expr_op */
    uint8_t kind;      /* of the result; of a NULL literal KIND_NULL until it is cast */
    uint8_t scale;     /* of DEC; digits of a second where display is DATETIME or TIMESTAMP */
    uint8_t collation; /* of STR */
    uint8_t strength;  /* enum collation_strength */
    uint8_t display;   /* TYPE_DATE, TYPE_DATETIME, TYPE_TIMESTAMP, or 0 */
    bool truth;        /* 0, 1 or NULL */
    bool unsigned_low; /* U64 that is never beyond I64 */
    bool nonnegative;  /* I64 that is never negative */
    bool hex;          /* a literal X'…' */
    bool binary; /* bytes of a BINARY or BLOB, shown as hexadecimal (a VARBINARY holds names) */
    uint8_t arg_count;
    uint16_t source; /* of COLUMN: position in FROM, EXPR_SOURCE_GROUP or EXPR_SOURCE_AGG */
    uint16_t column;
    uint16_t depth;
    uint32_t tables;     /* bits of the tables of FROM it reads */
    uint32_t group_refs; /* it reads a group key or an aggregate */
    uint32_t x; /* of CAST, ROUND, CAST_DATETIME_STR: as in expr_ins; of LIKE the escape byte */
    uint32_t list_count; /* of IN */
    struct value *list;
    struct value value; /* of CONST; of LIKE the pattern */
    struct bound *args[3];
    uint64_t hash;
    /* Marks of a walk. */
    struct bound *rewritten;
    uint32_t epoch;
    uint16_t reg;
};

enum clause {
    CLAUSE_SELECT,
    CLAUSE_WHERE,
    CLAUSE_ON,
    CLAUSE_GROUP,
    CLAUSE_HAVING,
    CLAUSE_ORDER,
};

struct bound_table {
    const struct table_def *def;
    const char *alias; /* or the table's name */
    bool has_alias;
    uint32_t position;
};

/* One condition of WHERE and ON, which hold all together. */
struct conjunct {
    struct bound *expr;
    uint32_t start; /* its text */
    uint32_t end;
};

struct bound_aggregate {
    uint8_t fn; /* enum aggregate_fn */
    uint8_t kind;
    uint8_t out_kind;
    uint8_t out_scale;
    uint8_t collation;
    struct bound *argument; /* NULL: COUNT(*) */
    uint32_t start;
    uint32_t end;
};

struct bound_output {
    const char *name;
    struct bound *expr;
    uint32_t start;
    uint32_t end;
};

struct bound_order {
    uint16_t output;
    bool descending;
    uint32_t start;
    uint32_t end;
};

struct bound_query {
    const char *text; /* the statement, for headings and EXPLAIN */
    uint16_t table_count;
    uint16_t group_count;
    uint16_t aggregate_count;
    uint16_t output_count;
    uint16_t visible_count;
    uint16_t order_count;
    uint32_t conjunct_count;
    uint32_t conjunct_capacity;
    bool has_aggregation;
    bool distinct;
    bool has_limit;
    uint64_t limit;
    uint64_t offset;
    struct bound_table tables[QUERY_SOURCES_MAX];
    struct bound *groups[QUERY_GROUPS_MAX];
    uint16_t named_group_count; /* the rest follow from these: columns of a table whose key is
                                   grouped by */
    struct conjunct group_texts[QUERY_GROUPS_MAX];
    struct bound_aggregate aggregates[QUERY_AGGREGATES_MAX];
    struct bound_output outputs[QUERY_OUTPUTS_MAX];
    struct bound_order order[QUERY_OUTPUTS_MAX];
    struct conjunct *conjuncts;
    struct bound *having;
    uint32_t having_start;
    uint32_t having_end;
};

struct binder {
    struct arena *arena;
    struct diag *diag;
    enum err err; /* the first error */
    const struct catalog *catalog;
    const char *database;
    int64_t now_us;
    struct bound_query *query;
    enum clause clause;
    bool in_aggregate;
    struct bound **interned; /* open addressing */
    uint32_t interned_count;
    uint32_t interned_capacity;
};

/* Latches the error and returns NULL. */
void *bind_fail(struct binder *binder, enum err err, uint32_t position, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Nodes. All take NULL operands, and then return NULL with an error latched. Operations over
 * constants are folded where the result is sure. */
struct bound *bound_const(struct binder *binder, struct value value);
struct bound *bound_null(struct binder *binder, enum value_kind kind);
struct bound *bound_column(struct binder *binder, uint16_t table, uint16_t column);
/* `like` gives kind, scale, display and collation. */
struct bound *bound_reference(struct binder *binder, uint16_t source, uint16_t column,
                              const struct bound *like);
struct bound *bound_op(struct binder *binder, enum expr_op op, enum value_kind kind,
                       struct bound *a, struct bound *b, struct bound *c);
/* The interned node equal to the template, whose derived fields are computed here. */
struct bound *bound_make(struct binder *binder, struct bound node);
/* Joins all with one associative operation, as a tree of small depth. */
struct bound *bound_balanced(struct binder *binder, enum expr_op op, enum value_kind kind,
                             struct bound **nodes, uint32_t count);
static inline bool bound_is_const(const struct bound *node)
{
    return node && node->op == EXPR_CONST;
}
static inline bool bound_is_null(const struct bound *node)
{
    return bound_is_const(node) && value_is_null(node->value);
}

/* fold.c: the value of an operation over constant operands; false when it is left to the executor.
 * An overflow latches ERR_OUT_OF_RANGE. */
bool fold_op(struct binder *binder, const struct bound *node, struct value *ret_value);
/* Brings a number to the scale; false when it has more than 18 digits or, with exact, when digits
 * are lost. */
bool fold_rescale(int64_t number, uint8_t from, uint8_t to, bool exact, int64_t *ret_number);
/* A constant in another kind. */
bool fold_cast(struct binder *binder, struct value value, enum value_kind kind, uint8_t scale,
               struct value *ret_value);

/* types.c: MySQL's rules of kinds. Positions are for errors. */
struct bound *type_cast(struct binder *binder, struct bound *node, enum value_kind kind,
                        uint8_t scale);
struct bound *type_number(struct binder *binder, struct bound *node, uint32_t position);
struct bound *type_truth(struct binder *binder, struct bound *node, uint32_t position);
struct bound *type_string(struct binder *binder, struct bound *node);
/* An integer with the bits of a BIGINT UNSIGNED: -1 becomes 2^64 - 1. */
struct bound *type_bits(struct binder *binder, struct bound *node, uint32_t position);
struct bound *type_signed(struct binder *binder, struct bound *node, uint32_t position);
/* DATE to microseconds; the others are microseconds already. */
struct bound *type_datetime(struct binder *binder, struct bound *node);
struct bound *type_with_display(struct binder *binder, struct bound *node, uint8_t display,
                                uint8_t digits);
struct bound *type_arithmetic(struct binder *binder, int token, struct bound *a, struct bound *b,
                              uint32_t position);
struct bound *type_negate(struct binder *binder, struct bound *a, uint32_t position);
/* Makes all nodes one kind, as CASE and COALESCE need. False with an error latched. */
bool type_unify(struct binder *binder, struct bound **nodes, uint32_t count, uint32_t position);
/* The collation of an operation over both; false with an error latched. */
bool type_collation(struct binder *binder, const struct bound *a, const struct bound *b,
                    uint32_t position, uint8_t *ret_collation, uint8_t *ret_strength);

/* compare.c */
struct bound *type_compare(struct binder *binder, enum expr_op op, struct bound *a, struct bound *b,
                           uint32_t position);
struct bound *type_in(struct binder *binder, struct bound *a, struct bound **list, uint32_t count,
                      uint32_t position);
/* OR of truth values, none NULL. */
struct bound *type_or(struct binder *binder, struct bound **tests, uint32_t count);
struct bound *type_like(struct binder *binder, struct bound *a, struct bound *pattern,
                        struct bound *escape, uint32_t position);
/* 0 or NULL, 1 or NULL, as the operand is NULL. */
struct bound *type_never(struct binder *binder, struct bound *a);
struct bound *type_always(struct binder *binder, struct bound *a);

/* functions.c: a call by name, with its arguments bound. */
struct bound *function_bind(struct binder *binder, const struct ast *call, struct bound **args,
                            uint32_t count);
/* CURRENT_TIMESTAMP and CURRENT_DATE without parentheses; NULL, without an error, for another name.
 */
struct bound *function_constant(struct binder *binder, const char *name);
/* AGG_…, or 0. */
uint8_t function_aggregate(const char *name);

/* bind_expr.c */
struct bound *bind_expr(struct binder *binder, const struct ast *ast);
struct bound *bind_aggregate(struct binder *binder, const struct ast *call, uint8_t fn);
/* bind_name.c */
struct bound *bind_name(struct binder *binder, const struct ast *ast);
/* The column a name means, in FROM: false with an error latched, or without one when there is none
 * and quiet. */
bool bind_column_find(struct binder *binder, const struct ast *name, bool quiet,
                      uint16_t *ret_table, uint16_t *ret_column);

/* bind.c: a whole SELECT. The query lives in the arena. ERR_BIND, ERR_TABLE_UNKNOWN,
 * ERR_NOT_PUSHABLE, ERR_OUT_OF_RANGE, ERR_TOO_BIG, ERR_NO_MEMORY, with the place. */
MUST_USE enum err bind_select(const struct catalog *catalog, const char *database, int64_t now_us,
                              const char *text, const struct ast_select *select,
                              struct arena *arena, struct bound_query **ret_query,
                              struct diag *diag);

#endif
