/* The vector interpreter of expression bytecode: one instruction at a time over up to
 * QUERY_VECTOR_ROWS rows. It agrees with the scalar one (db/ldm/expr.h) on every value; only which
 * of several failing rows is reported may differ. */
#ifndef DB_QUERY_VEXPR_H
#define DB_QUERY_VEXPR_H

#include "base/arena.h"
#include "db/query/vector.h"
#include "db/wire/query.h"

/* An expression made ready for evaluation, or a part of one (a conjunct of a filter). */
struct vexpr {
    const struct expr *expr;
    struct query_type *types; /* of every register */
    struct vector *registers; /* of those it computes */
    struct vector_buffer *
        *owned;      /* of constant registers and the result; NULL where there is none */
    void **aids;     /* of LIKE and IN instructions: what was prepared */
    uint16_t *steps; /* registers to compute, ascending; constants first */
    uint32_t step_count;
    uint32_t constant_count; /* how many of the steps are constant */
    uint16_t root;           /* the register that is the result */
    bool constants_done;
    struct vector_pool *pool;
};

/* Where an evaluation takes columns from. column() gives the rows under evaluation, borrowed until
 * it ends. */
struct vexpr_input {
    enum err (*column)(void *context, uint8_t source, uint16_t column,
                       const struct vector **ret_vector);
    void *context;
    uint32_t count;              /* rows, 1..QUERY_VECTOR_ROWS */
    struct query_memory *memory; /* of the scratch arena */
    struct arena *scratch; /* strings of results; lives as long as the caller wants the result */
};

/* Prepares register `root` of the expression, which stays where it is, as do pool, memory and
 * arena, until vexpr_fini. ERR_QUERY_MEMORY, ERR_NO_MEMORY, ERR_BAD_QUERY. */
MUST_USE enum err vexpr_init(struct vexpr *vexpr, const struct expr *expr, uint16_t root,
                             const struct query_scope *scope, struct vector_pool *pool,
                             struct query_memory *memory, struct arena *arena);
/* Gives its buffers back. A zeroed one is allowed. */
void vexpr_fini(struct vexpr *vexpr);
/* Calls each(context, source, column) for every column it reads. */
void vexpr_columns(const struct vexpr *vexpr,
                   void (*each)(void *context, uint8_t source, uint16_t column), void *context);
/* The result for all rows of the input: borrowed until the next evaluation of this vexpr, or as the
 * column is. An expression that is a plain column costs nothing. ERR_OUT_OF_RANGE,
 * ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err vexpr_eval(struct vexpr *vexpr, const struct vexpr_input *input,
                             const struct vector **ret_result);
static inline struct query_type vexpr_type(const struct vexpr *vexpr)
{
    return vexpr->types[vexpr->root];
}
/* The rows where a filter's result holds, ascending; returns how many. */
uint32_t vexpr_select(const struct vector *result, uint32_t count,
                      uint16_t ret_picks[QUERY_VECTOR_ROWS]);

/* ---- kernels: what vexpr.c and kernel*.c share ---- */

struct kernel_call {
    const struct expr *expr;
    const struct expr_ins *ins;
    const struct vector *a;
    const struct vector *b;
    const struct vector *c;
    void *aid;
    uint32_t count;
    struct query_memory *memory;
    struct arena *scratch;
};
/* Computes one instruction for `count` rows into out, which has a buffer, kind and scale. */
MUST_USE enum err kernel_apply(const struct kernel_call *call, struct vector *out);
/* Prepares a LIKE or IN instruction; *ret_aid is NULL for others and where nothing can be prepared.
 */
MUST_USE enum err kernel_prepare(const struct expr *expr, const struct expr_ins *ins,
                                 struct query_type operand, struct query_memory *memory,
                                 struct arena *arena, void **ret_aid);
/* The instructions over text and sets: false when the caller has to do it value by value. */
bool kernel_text(const struct kernel_call *call, struct vector *out);

#endif
