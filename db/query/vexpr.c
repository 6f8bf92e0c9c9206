/* Compiling and evaluating expressions over vectors: see vexpr.h.
 *
 * vexpr_init walks back from the root to find the instructions that matter, and gives each a
 * register:
 *
 *   - a column borrows the vector that the input hands out;
 *   - what depends on constants alone is computed once, for one row, and then repeated into a
 * buffer of its own, so that kernels see vectors only;
 *   - the root has a buffer of its own, since several results live side by side;
 *   - everything else uses a buffer from the pool that is free for others again after its last use.
 * The buffers are given back at the end of vexpr_init already: evaluations never overlap, so all
 *     expressions of an executor share them.
 *
 * An instruction's result never shares a buffer with its operands. */
#include "db/query/vexpr.h"

#include "base/check.h"
#include "db/wire/expr_rules.h"

struct compiling {
    struct vexpr *vexpr;
    const struct expr *expr;
    struct query_memory *memory;
    struct arena *arena;
    uint8_t *used;      /* of each register: does the root need it? */
    uint8_t *constant;  /* does it depend on constants alone? */
    uint32_t *last_use; /* position in steps */
    struct vector_buffer **temporary;
};

static enum err take_array(struct compiling *compiling, size_t size, size_t count, void **ret_at)
{
    enum err err = query_arena_alloc(compiling->memory, compiling->arena, size * count, ret_at);
    if (!err) memset(*ret_at, 0, size * count);
    return err;
}

static enum err take_arrays(struct compiling *compiling, const struct query_scope *scope)
{
    struct vexpr *vexpr = compiling->vexpr;
    size_t count = compiling->expr->ins_count;
    void *at;
#define TAKE(member, type)                                                                         \
    do {                                                                                           \
        enum err err = take_array(compiling, sizeof(type), count, &at);                            \
        if (err) return err;                                                                       \
        (member) = at;                                                                             \
    } while (0)
    TAKE(vexpr->types, struct query_type);
    TAKE(vexpr->registers, struct vector);
    TAKE(vexpr->owned, struct vector_buffer *);
    TAKE(vexpr->aids, void *);
    TAKE(vexpr->steps, uint16_t);
    TAKE(compiling->used, uint8_t);
    TAKE(compiling->constant, uint8_t);
    TAKE(compiling->last_use, uint32_t);
    TAKE(compiling->temporary, struct vector_buffer *);
#undef TAKE
    enum err err = query_expr_types(compiling->expr, scope, vexpr->types);
    for (size_t i = 0; i < count; i++)
        if (vexpr->types[i].scale == QUERY_SCALE_ANY) vexpr->types[i].scale = 0;
    return err;
}

/* Which registers the root needs, which of them are constant, and in which order they are computed.
 */
static void order_steps(struct compiling *compiling)
{
    struct vexpr *vexpr = compiling->vexpr;
    const struct expr *expr = compiling->expr;
    compiling->used[vexpr->root] = 1;
    for (uint32_t i = vexpr->root + 1u; i-- > 0;) {
        if (!compiling->used[i]) continue;
        const struct expr_ins *ins = &expr->ins[i];
        unsigned operands = expr_operand_count(ins);
        if (operands > 0) compiling->used[ins->a] = 1;
        if (operands > 1) compiling->used[ins->b] = 1;
        if (operands > 2) compiling->used[ins->c] = 1;
    }
    for (uint32_t i = 0; i <= vexpr->root; i++) {
        const struct expr_ins *ins = &expr->ins[i];
        unsigned operands = expr_operand_count(ins);
        compiling->constant[i] = ins->op != EXPR_COLUMN &&
                                 (operands < 1 || compiling->constant[ins->a]) &&
                                 (operands < 2 || compiling->constant[ins->b]) &&
                                 (operands < 3 || compiling->constant[ins->c]);
    }
    for (int constant = 1; constant >= 0; constant--) {
        for (uint32_t i = 0; i <= vexpr->root; i++)
            if (compiling->used[i] && compiling->constant[i] == constant)
                vexpr->steps[vexpr->step_count++] = (uint16_t)i;
        if (constant) vexpr->constant_count = vexpr->step_count;
    }
    for (uint32_t at = 0; at < vexpr->step_count; at++) {
        const struct expr_ins *ins = &expr->ins[vexpr->steps[at]];
        unsigned operands = expr_operand_count(ins);
        if (operands > 0) compiling->last_use[ins->a] = at;
        if (operands > 1) compiling->last_use[ins->b] = at;
        if (operands > 2) compiling->last_use[ins->c] = at;
    }
}

static void release_temporary(struct compiling *compiling, uint16_t reg, uint32_t at)
{
    if (!compiling->temporary[reg] || compiling->last_use[reg] > at) return;
    vector_release_shared(compiling->vexpr->pool, compiling->temporary[reg]);
    compiling->temporary[reg] = NULL;
}

static enum err assign_buffers(struct compiling *compiling)
{
    struct vexpr *vexpr = compiling->vexpr;
    for (uint32_t at = 0; at < vexpr->step_count; at++) {
        uint16_t reg = vexpr->steps[at];
        const struct expr_ins *ins = &compiling->expr->ins[reg];
        struct query_type type = vexpr->types[reg];
        if (ins->op == EXPR_COLUMN) continue;
        struct vector_buffer *buffer;
        bool owned = at < vexpr->constant_count || reg == vexpr->root;
        enum err err = owned ? vector_acquire(vexpr->pool, &buffer)
                             : vector_acquire_shared(vexpr->pool, &buffer);
        if (err) return err;
        if (owned)
            vexpr->owned[reg] = buffer;
        else
            compiling->temporary[reg] = buffer;
        vexpr->registers[reg] = vector_in(buffer, type.kind, type.scale);
        unsigned operands = expr_operand_count(ins);
        if (operands > 0) release_temporary(compiling, ins->a, at);
        if (operands > 1) release_temporary(compiling, ins->b, at);
        if (operands > 2) release_temporary(compiling, ins->c, at);
        if (operands == 1) {
            err = kernel_prepare(compiling->expr, ins, vexpr->types[ins->a], compiling->memory,
                                 compiling->arena, &vexpr->aids[reg]);
            if (err) return err;
        }
    }
    return ERR_NONE;
}

enum err vexpr_init(struct vexpr *vexpr, const struct expr *expr, uint16_t root,
                    const struct query_scope *scope, struct vector_pool *pool,
                    struct query_memory *memory, struct arena *arena)
{
    ASSERT(root < expr->ins_count);
    *vexpr = (struct vexpr){.expr = expr, .root = root, .pool = pool};
    struct compiling compiling = {.vexpr = vexpr, .expr = expr, .memory = memory, .arena = arena};
    enum err err = take_arrays(&compiling, scope);
    if (err) {
        *vexpr = (struct vexpr){0};
        return err;
    }
    order_steps(&compiling);
    err = assign_buffers(&compiling);
    for (uint32_t i = 0; i < expr->ins_count; i++)
        vector_release_shared(pool, compiling.temporary[i]);
    if (err) vexpr_fini(vexpr);
    return err;
}

void vexpr_fini(struct vexpr *vexpr)
{
    for (uint32_t at = 0; vexpr->pool && at < vexpr->step_count; at++)
        vector_release(vexpr->pool, vexpr->owned[vexpr->steps[at]]);
    *vexpr = (struct vexpr){0};
}

void vexpr_columns(const struct vexpr *vexpr,
                   void (*each)(void *context, uint8_t source, uint16_t column), void *context)
{
    for (uint32_t at = vexpr->constant_count; at < vexpr->step_count; at++) {
        const struct expr_ins *ins = &vexpr->expr->ins[vexpr->steps[at]];
        if (ins->op == EXPR_COLUMN) each(context, (uint8_t)ins->a, (uint16_t)ins->x);
    }
}

static enum err apply(struct vexpr *vexpr, uint16_t reg, uint32_t count,
                      struct query_memory *memory, struct arena *scratch)
{
    const struct expr_ins *ins = &vexpr->expr->ins[reg];
    unsigned operands = expr_operand_count(ins);
    struct kernel_call call = {
        .expr = vexpr->expr,
        .ins = ins,
        .a = operands > 0 ? &vexpr->registers[ins->a] : NULL,
        .b = operands > 1 ? &vexpr->registers[ins->b] : NULL,
        .c = operands > 2 ? &vexpr->registers[ins->c] : NULL,
        .aid = vexpr->aids[reg],
        .count = count,
        .memory = memory,
        .scratch = scratch,
    };
    return kernel_apply(&call, &vexpr->registers[reg]);
}

/* Text made here must outlive the evaluation, so each result that is text is copied into its own
 * memory. */
static enum err compute_constants(struct vexpr *vexpr, const struct vexpr_input *input)
{
    for (uint32_t at = 0; at < vexpr->constant_count; at++) {
        uint16_t reg = vexpr->steps[at];
        struct vector *vector = &vexpr->registers[reg];
        enum err err = apply(vexpr, reg, 1, input->memory, input->scratch);
        if (err) return err;
        vector_fill(vector, QUERY_VECTOR_ROWS);
    }
    /* Constants that are text made by a constant computation point into the scratch arena of this
     * evaluation: compute them again next time. */
    vexpr->constants_done = true;
    for (uint32_t at = 0; at < vexpr->constant_count; at++) {
        uint16_t reg = vexpr->steps[at];
        if (vexpr->types[reg].kind == KIND_STR && vexpr->expr->ins[reg].op != EXPR_CONST)
            vexpr->constants_done = false;
    }
    return ERR_NONE;
}

enum err vexpr_eval(struct vexpr *vexpr, const struct vexpr_input *input,
                    const struct vector **ret_result)
{
    ASSERT(input->count && input->count <= QUERY_VECTOR_ROWS);
    if (!vexpr->constants_done) {
        enum err err = compute_constants(vexpr, input);
        if (err) return err;
    }
    for (uint32_t at = vexpr->constant_count; at < vexpr->step_count; at++) {
        uint16_t reg = vexpr->steps[at];
        const struct expr_ins *ins = &vexpr->expr->ins[reg];
        enum err err;
        if (ins->op == EXPR_COLUMN) {
            const struct vector *column;
            err = input->column(input->context, (uint8_t)ins->a, (uint16_t)ins->x, &column);
            if (err) return err;
            ASSERT_SLOW(column->kind == ins->kind && column->count >= input->count);
            vexpr->registers[reg] = *column;
        } else {
            err = apply(vexpr, reg, input->count, input->memory, input->scratch);
            if (err) return err;
        }
    }
    *ret_result = &vexpr->registers[vexpr->root];
    return ERR_NONE;
}

uint32_t vexpr_select(const struct vector *result, uint32_t count,
                      uint16_t ret_picks[QUERY_VECTOR_ROWS])
{
    uint32_t picked = 0;
    if (result->kind == KIND_NULL || result->kind == KIND_STR) return 0;
    if (result->kind == KIND_F64) {
        for (uint32_t i = 0; i < count; i++) {
            ret_picks[picked] = (uint16_t)i;
            picked += result->f[i] != 0 && !vector_is_null(result, i);
        }
        return picked;
    }
    if (result->has_nulls) {
        for (uint32_t i = 0; i < count; i++) {
            ret_picks[picked] = (uint16_t)i;
            picked += (uint32_t)((result->u[i] != 0) & !result->nulls[i]);
        }
        return picked;
    }
    for (uint32_t i = 0; i < count; i++) {
        ret_picks[picked] = (uint16_t)i;
        picked += result->u[i] != 0;
    }
    return picked;
}
