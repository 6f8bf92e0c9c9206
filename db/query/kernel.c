/* Kernels: one instruction over vectors. The common operations are loops over typed arrays that the
 * compiler turns into vector instructions; the rest, and every loop that meets something out of the
 * ordinary (overflow, an infinite result, NaN), goes value by value through expr_apply, which the
 * scalar interpreter uses as well. So a loop only has to be right when nothing went wrong, and to
 * know when something did.
 *
 * Elements that are NULL hold arbitrary numbers: loops compute with them, and what goes wrong there
 * is ignored by the value-by-value pass. Text that is NULL is never read. */
#include "db/ldm/expr.h"
#include "db/query/vexpr.h"

#include <math.h>

#include "base/check.h"
#include "db/wire/expr_rules.h"

#define DEC_LIMIT INT64_C(1000000000000000000) /* a DEC has at most 18 digits */

/* ---- value by value ---- */

/* Brings a DEC to the scale that the register was found to have. */
static enum err rescale(struct value *value, uint8_t scale)
{
    while (value->scale < scale) {
        if (__builtin_mul_overflow(value->i, 10, &value->i)) return ERR_OUT_OF_RANGE;
        value->scale++;
    }
    while (value->scale > scale) {
        if (value->i % 10) return ERR_OUT_OF_RANGE;
        value->i /= 10;
        value->scale--;
    }
    return ERR_NONE;
}

static enum err apply_value(const struct kernel_call *call, uint32_t i, struct vector *out)
{
    struct value a = call->a ? vector_value(call->a, i) : value_null();
    struct value b = call->b ? vector_value(call->b, i) : value_null();
    struct value c = call->c ? vector_value(call->c, i) : value_null();
    size_t before = call->scratch->size;
    struct value result;
    enum err err = expr_apply(call->expr, call->ins, a, b, c, call->scratch, &result);
    if (err) return err;
    if (call->scratch->size > before) {
        uint64_t grown = call->scratch->size - before;
        err = query_memory_take(call->memory, grown);
        if (err) {
            call->memory->used += grown; /* the arena has it: given back with the arena */
            return err;
        }
    }
    if (result.kind == KIND_DEC && result.scale != out->scale) {
        err = rescale(&result, out->scale);
        if (err) return err;
    }
    vector_set(out, i, result);
    return ERR_NONE;
}

/* Operations that look at NULL operands instead of passing them on. */
static bool sees_nulls(uint8_t op)
{
    switch ((enum expr_op)op) {
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_IS_NULL:
    case EXPR_IS_NOT_NULL:
    case EXPR_EQ_NULLSAFE:
    case EXPR_SELECT:
    case EXPR_COALESCE:
        return true;
    default:
        return false;
    }
}

static enum err apply_values(const struct kernel_call *call, struct vector *out)
{
    bool strict = !sees_nulls(call->ins->op);
    out->has_nulls = false;
    for (uint32_t i = 0; i < call->count; i++) {
        if (strict &&
            ((call->a && vector_is_null(call->a, i)) || (call->b && vector_is_null(call->b, i)) ||
             (call->c && vector_is_null(call->c, i)))) {
            vector_set(out, i, value_null());
            continue;
        }
        enum err err = apply_value(call, i, out);
        if (err) return err;
    }
    return ERR_NONE;
}

/* ---- NULLs ---- */

static void set_all_null(struct vector *out, uint32_t count)
{
    out->has_nulls = true;
    memset(out->nulls, 1, count);
    if (out->kind == KIND_STR)
        memset(out->str, 0, count * sizeof(*out->str));
    else
        memset(out->u, 0, count * sizeof(*out->u));
}

/* The result is NULL where an operand is. */
static void merge_nulls(const struct kernel_call *call, struct vector *out)
{
    const struct vector *operands[] = {call->a, call->b, call->c};
    out->has_nulls = false;
    for (unsigned k = 0; k < 3; k++) {
        const struct vector *operand = operands[k];
        if (!operand || !operand->has_nulls) continue;
        if (!out->has_nulls) {
            memcpy(out->nulls, operand->nulls, call->count);
            out->has_nulls = true;
            continue;
        }
        for (uint32_t i = 0; i < call->count; i++)
            out->nulls[i] |= operand->nulls[i];
    }
}

/* ---- arithmetic: each returns false when value by value is needed ---- */

static bool add_i64(const int64_t *a, const int64_t *b, int64_t *restrict r, uint32_t count)
{
    int64_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t x = (int64_t)((uint64_t)a[i] + (uint64_t)b[i]);
        bad |= (a[i] ^ x) & (b[i] ^ x);
        r[i] = x;
    }
    return bad >= 0;
}

static bool sub_i64(const int64_t *a, const int64_t *b, int64_t *restrict r, uint32_t count)
{
    int64_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t x = (int64_t)((uint64_t)a[i] - (uint64_t)b[i]);
        bad |= (a[i] ^ b[i]) & (a[i] ^ x);
        r[i] = x;
    }
    return bad >= 0;
}

static bool mul_i64(const int64_t *a, const int64_t *b, int64_t *restrict r, uint32_t count)
{
    bool bad = false;
    for (uint32_t i = 0; i < count; i++)
        bad |= __builtin_mul_overflow(a[i], b[i], &r[i]);
    return !bad;
}

static bool add_u64(const uint64_t *a, const uint64_t *b, uint64_t *restrict r, uint32_t count)
{
    uint64_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t x = a[i] + b[i];
        bad |= x < a[i];
        r[i] = x;
    }
    return !bad;
}

static bool sub_u64(const uint64_t *a, const uint64_t *b, uint64_t *restrict r, uint32_t count)
{
    uint64_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        bad |= a[i] < b[i];
        r[i] = a[i] - b[i];
    }
    return !bad;
}

static bool mul_u64(const uint64_t *a, const uint64_t *b, uint64_t *restrict r, uint32_t count)
{
    bool bad = false;
    for (uint32_t i = 0; i < count; i++)
        bad |= __builtin_mul_overflow(a[i], b[i], &r[i]);
    return !bad;
}

/* Results with at most 18 digits. */
static bool dec_fits(const int64_t *r, uint32_t count)
{
    uint64_t bad = 0;
    for (uint32_t i = 0; i < count; i++)
        bad |= (uint64_t)r[i] + (uint64_t)(DEC_LIMIT - 1) > 2 * (uint64_t)(DEC_LIMIT - 1);
    return !bad;
}

#define F64_LOOP(name, operation)                                                                  \
    static bool name(const double *a, const double *b, double *restrict r, uint32_t count)         \
    {                                                                                              \
        unsigned bad = 0;                                                                          \
        for (uint32_t i = 0; i < count; i++) {                                                     \
            double x = a[i] operation b[i];                                                        \
            bad |= !(x - x == 0); /* infinite, or not a number */                                  \
            r[i] = x;                                                                              \
        }                                                                                          \
        return !bad;                                                                               \
    }
F64_LOOP(add_f64, +)
F64_LOOP(sub_f64, -)
F64_LOOP(mul_f64, *)
F64_LOOP(div_f64, /)
#undef F64_LOOP

static bool arithmetic(const struct kernel_call *call, struct vector *out)
{
    const struct vector *a = call->a;
    const struct vector *b = call->b;
    uint32_t count = call->count;
    if (a->kind != out->kind || b->kind != out->kind) return false;
    uint8_t op = call->ins->op;
    switch (out->kind) {
    case KIND_I64:
        return op == EXPR_ADD   ? add_i64(a->i, b->i, out->i, count)
               : op == EXPR_SUB ? sub_i64(a->i, b->i, out->i, count)
               : op == EXPR_MUL ? mul_i64(a->i, b->i, out->i, count)
                                : false;
    case KIND_U64:
        return op == EXPR_ADD   ? add_u64(a->u, b->u, out->u, count)
               : op == EXPR_SUB ? sub_u64(a->u, b->u, out->u, count)
               : op == EXPR_MUL ? mul_u64(a->u, b->u, out->u, count)
                                : false;
    case KIND_F64:
        return op == EXPR_ADD   ? add_f64(a->f, b->f, out->f, count)
               : op == EXPR_SUB ? sub_f64(a->f, b->f, out->f, count)
               : op == EXPR_MUL ? mul_f64(a->f, b->f, out->f, count)
               : op == EXPR_DIV ? div_f64(a->f, b->f, out->f, count)
                                : false;
    case KIND_DEC:
        if (op == EXPR_MUL)
            return a->scale + b->scale <= QUERY_SCALE_MAX && mul_i64(a->i, b->i, out->i, count) &&
                   dec_fits(out->i, count);
        if (a->scale != b->scale) return false;
        return op == EXPR_ADD   ? add_i64(a->i, b->i, out->i, count) && dec_fits(out->i, count)
               : op == EXPR_SUB ? sub_i64(a->i, b->i, out->i, count) && dec_fits(out->i, count)
                                : false;
    default:
        return false;
    }
}

/* Quotient and remainder; a division by zero gives NULL. */
static bool division_u64(const struct kernel_call *call, struct vector *out)
{
    bool modulo = call->ins->op == EXPR_MOD;
    bool zero = false;
    for (uint32_t i = 0; i < call->count; i++) {
        uint64_t b = call->b->u[i];
        zero |= b == 0;
        uint64_t divisor = b ? b : 1;
        out->u[i] = modulo ? call->a->u[i] % divisor : call->a->u[i] / divisor;
    }
    if (!zero) return true;
    if (!out->has_nulls) memset(out->nulls, 0, call->count);
    out->has_nulls = true;
    for (uint32_t i = 0; i < call->count; i++)
        out->nulls[i] |= call->b->u[i] == 0;
    return true;
}

static bool division_i64(const struct kernel_call *call, struct vector *out)
{
    bool modulo = call->ins->op == EXPR_MOD;
    for (uint32_t i = 0; i < call->count; i++) {
        int64_t b = call->b->i[i];
        if (b == 0 || b == -1) return false; /* NULL, or perhaps an overflow */
        out->i[i] = modulo ? call->a->i[i] % b : call->a->i[i] / b;
    }
    return true;
}

static bool bits(const struct kernel_call *call, struct vector *out)
{
    const uint64_t *a = call->a->u;
    const uint64_t *b = call->b->u;
    uint64_t *restrict r = out->u;
    uint64_t bad = 0;
    switch ((enum expr_op)call->ins->op) {
    case EXPR_BIT_AND:
        for (uint32_t i = 0; i < call->count; i++)
            r[i] = a[i] & b[i];
        return true;
    case EXPR_BIT_OR:
        for (uint32_t i = 0; i < call->count; i++)
            r[i] = a[i] | b[i];
        return true;
    case EXPR_BIT_XOR:
        for (uint32_t i = 0; i < call->count; i++)
            r[i] = a[i] ^ b[i];
        return true;
    case EXPR_SHL:
        for (uint32_t i = 0; i < call->count; i++) {
            bad |= b[i] > 63;
            r[i] = a[i] << (b[i] & 63);
        }
        return !bad;
    case EXPR_SHR:
        for (uint32_t i = 0; i < call->count; i++) {
            bad |= b[i] > 63;
            r[i] = a[i] >> (b[i] & 63);
        }
        return !bad;
    default:
        return false;
    }
}

/* ---- comparison ---- */

#define COMPARE_LOOPS(name, type)                                                                  \
    static void name(uint8_t op, const type *a, const type *b, int64_t *restrict r,                \
                     uint32_t count)                                                               \
    {                                                                                              \
        switch (op) {                                                                              \
        case EXPR_EQ:                                                                              \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] == b[i];                                                               \
            break;                                                                                 \
        case EXPR_NE:                                                                              \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] != b[i];                                                               \
            break;                                                                                 \
        case EXPR_LT:                                                                              \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] < b[i];                                                                \
            break;                                                                                 \
        case EXPR_LE:                                                                              \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] <= b[i];                                                               \
            break;                                                                                 \
        case EXPR_GT:                                                                              \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] > b[i];                                                                \
            break;                                                                                 \
        default:                                                                                   \
            for (uint32_t i = 0; i < count; i++)                                                   \
                r[i] = a[i] >= b[i];                                                               \
            break;                                                                                 \
        }                                                                                          \
    }
COMPARE_LOOPS(compare_i64, int64_t)
COMPARE_LOOPS(compare_u64, uint64_t)
COMPARE_LOOPS(compare_f64, double)
#undef COMPARE_LOOPS

static bool has_nan(const double *f, uint32_t count)
{
    unsigned bad = 0;
    for (uint32_t i = 0; i < count; i++)
        bad |= f[i] != f[i];
    return bad;
}

static void compare_str(const struct kernel_call *call, struct vector *out)
{
    enum collation collation = (enum collation)call->ins->x;
    uint8_t op = call->ins->op;
    bool equality = op == EXPR_EQ || op == EXPR_NE;
    for (uint32_t i = 0; i < call->count; i++) {
        if (out->has_nulls && out->nulls[i]) {
            out->i[i] = 0;
            continue;
        }
        struct vector_str a = call->a->str[i];
        struct vector_str b = call->b->str[i];
        int order;
        if (equality && a.size != b.size)
            order = 1; /* case folding keeps sizes */
        else
            order =
                value_compare(value_str(a.bytes, a.size), value_str(b.bytes, b.size), collation);
        out->i[i] = op == EXPR_EQ   ? order == 0
                    : op == EXPR_NE ? order != 0
                    : op == EXPR_LT ? order < 0
                    : op == EXPR_LE ? order <= 0
                    : op == EXPR_GT ? order > 0
                                    : order >= 0;
    }
}

static bool compare(const struct kernel_call *call, struct vector *out)
{
    const struct vector *a = call->a;
    const struct vector *b = call->b;
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case KIND_DEC:
        if (a->scale != b->scale) return false;
        /* fallthrough */
    case KIND_I64:
        compare_i64(call->ins->op, a->i, b->i, out->i, call->count);
        return true;
    case KIND_U64:
        compare_u64(call->ins->op, a->u, b->u, out->i, call->count);
        return true;
    case KIND_F64:
        if (has_nan(a->f, call->count) || has_nan(b->f, call->count)) return false;
        compare_f64(call->ins->op, a->f, b->f, out->i, call->count);
        return true;
    case KIND_STR:
        compare_str(call, out);
        return true;
    default:
        return false;
    }
}

/* ---- logic ---- */

static bool is_truth(const struct vector *vector)
{
    return vector->kind == KIND_I64 || vector->kind == KIND_U64;
}

static bool logic(const struct kernel_call *call, struct vector *out)
{
    const struct vector *a = call->a;
    const struct vector *b = call->b;
    uint32_t count = call->count;
    if (!is_truth(a) || !is_truth(b)) return false;
    bool conjunction = call->ins->op == EXPR_AND;
    int64_t *restrict r = out->i;
    if (!a->has_nulls && !b->has_nulls) {
        out->has_nulls = false;
        if (conjunction)
            for (uint32_t i = 0; i < count; i++)
                r[i] = (a->i[i] != 0) & (b->i[i] != 0);
        else
            for (uint32_t i = 0; i < count; i++)
                r[i] = (a->i[i] != 0) | (b->i[i] != 0);
        return true;
    }
    out->has_nulls = true;
    for (uint32_t i = 0; i < count; i++) {
        bool a_null = a->has_nulls && a->nulls[i];
        bool b_null = b->has_nulls && b->nulls[i];
        bool a_true = !a_null && a->i[i] != 0;
        bool b_true = !b_null && b->i[i] != 0;
        /* The operand that decides alone: a false one of AND, a true one of OR. */
        bool decided =
            conjunction ? (!a_null && !a_true) || (!b_null && !b_true) : a_true || b_true;
        r[i] = decided ? !conjunction : conjunction;
        out->nulls[i] = !decided && (a_null || b_null);
        if (out->nulls[i]) r[i] = 0;
    }
    return true;
}

static bool null_tests(const struct kernel_call *call, struct vector *out)
{
    bool want = call->ins->op == EXPR_IS_NULL;
    const struct vector *a = call->a;
    out->has_nulls = false;
    for (uint32_t i = 0; i < call->count; i++)
        out->i[i] = vector_is_null(a, i) == want;
    return true;
}

static void pick_element(struct vector *out, uint32_t i, const struct vector *from)
{
    if (out->kind == KIND_STR)
        out->str[i] = from->str[i];
    else
        out->u[i] = from->u[i];
}

/* SELECT and COALESCE: each element from one of two vectors of the result's kind and scale. */
static bool choose(const struct kernel_call *call, struct vector *out)
{
    bool select = call->ins->op == EXPR_SELECT;
    const struct vector *first = select ? call->b : call->a;
    const struct vector *second = select ? call->c : call->b;
    if (first->kind != out->kind || second->kind != out->kind) return false;
    if (out->kind == KIND_DEC && (first->scale != out->scale || second->scale != out->scale))
        return false; /* one side is a NULL without a scale */
    if (select && !is_truth(call->a)) return false;
    out->has_nulls = first->has_nulls || second->has_nulls;
    for (uint32_t i = 0; i < call->count; i++) {
        bool take_first =
            select ? call->a->u[i] != 0 && !vector_is_null(call->a, i) : !vector_is_null(first, i);
        const struct vector *from = take_first ? first : second;
        if (out->has_nulls) {
            out->nulls[i] = from->has_nulls && from->nulls[i];
            if (out->nulls[i] && out->kind == KIND_STR) {
                out->str[i] = (struct vector_str){0};
                continue;
            }
        }
        pick_element(out, i, from);
    }
    return true;
}

/* ---- one operand ---- */

static bool cast(const struct kernel_call *call, struct vector *out)
{
    const struct vector *a = call->a;
    uint32_t count = call->count;
    uint64_t bad = 0;
    if (a->kind == out->kind && a->kind != KIND_DEC) {
        size_t width = a->kind == KIND_STR ? sizeof(struct vector_str) : sizeof(uint64_t);
        memcpy(out->u, a->u, count * width);
        return true;
    }
    bool from_i64 = a->kind == KIND_I64;
    if (!from_i64 && a->kind != KIND_U64) return false;
    switch (out->kind) {
    case KIND_I64:
    case KIND_U64:
        for (uint32_t i = 0; i < count; i++) {
            bad |= a->u[i] >> 63;
            out->u[i] = a->u[i];
        }
        return !bad;
    case KIND_F64:
        if (from_i64)
            for (uint32_t i = 0; i < count; i++)
                out->f[i] = (double)a->i[i];
        else
            for (uint32_t i = 0; i < count; i++)
                out->f[i] = (double)a->u[i];
        return true;
    case KIND_DEC:
        if (out->scale) return false;
        for (uint32_t i = 0; i < count; i++) {
            bad |= !from_i64 && a->u[i] >> 63;
            out->u[i] = a->u[i];
        }
        return !bad && dec_fits(out->i, count);
    default:
        return false;
    }
}

static bool unary(const struct kernel_call *call, struct vector *out)
{
    const struct vector *a = call->a;
    uint32_t count = call->count;
    bool bad = false;
    switch ((enum expr_op)call->ins->op) {
    case EXPR_NOT:
        if (!is_truth(a)) return false;
        for (uint32_t i = 0; i < count; i++)
            out->i[i] = a->i[i] == 0;
        return true;
    case EXPR_BIT_NOT:
        for (uint32_t i = 0; i < count; i++)
            out->u[i] = ~a->u[i];
        return true;
    case EXPR_NEG:
        if (a->kind != KIND_I64 && a->kind != KIND_DEC) return false;
        for (uint32_t i = 0; i < count; i++)
            bad |= __builtin_sub_overflow(0, a->i[i], &out->i[i]);
        return !bad;
    case EXPR_ABS:
        if (a->kind != KIND_I64 && a->kind != KIND_DEC) return false;
        for (uint32_t i = 0; i < count; i++) {
            bad |= a->i[i] == INT64_MIN;
            out->i[i] = a->i[i] < 0 ? (int64_t)(0 - a->u[i]) : a->i[i];
        }
        return !bad;
    case EXPR_LOG2:
        if (a->kind != KIND_U64) return false;
        for (uint32_t i = 0; i < count; i++)
            out->i[i] = a->u[i] ? 63 - __builtin_clzll(a->u[i]) : -1;
        return true;
    case EXPR_HOME:
        for (uint32_t i = 0; i < count; i++)
            out->u[i] = (a->u[i] >> HOME_SHIFT) & (PARTITION_SLOTS - 1);
        return true;
    case EXPR_CAST:
        return cast(call, out);
    default:
        return false;
    }
}

/* ---- dispatch ---- */

static enum err apply_const(const struct kernel_call *call, struct vector *out)
{
    struct value value = call->expr->consts[call->ins->x];
    out->has_nulls = false;
    if (value.kind == KIND_DEC && value.scale != out->scale) {
        enum err err = rescale(&value, out->scale);
        if (err) return err;
    }
    if (value.kind != out->kind) value = value_null();
    for (uint32_t i = 0; i < call->count; i++)
        vector_set(out, i, value);
    return ERR_NONE;
}

static bool any_operand_untyped(const struct kernel_call *call)
{
    return (call->a && call->a->kind == KIND_NULL) || (call->b && call->b->kind == KIND_NULL) ||
           (call->c && call->c->kind == KIND_NULL);
}

/* NULLs of the result are those of the operands. */
static bool strict(const struct kernel_call *call, struct vector *out)
{
    switch ((enum expr_op)call->ins->op) {
    case EXPR_ADD:
    case EXPR_SUB:
    case EXPR_MUL:
    case EXPR_DIV:
        return arithmetic(call, out);
    case EXPR_IDIV:
    case EXPR_MOD:
        if (out->kind == KIND_U64) return division_u64(call, out);
        return out->kind == KIND_I64 && division_i64(call, out);
    case EXPR_BIT_AND:
    case EXPR_BIT_OR:
    case EXPR_BIT_XOR:
    case EXPR_SHL:
    case EXPR_SHR:
        return bits(call, out);
    case EXPR_EQ:
    case EXPR_NE:
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_GT:
    case EXPR_GE:
        return compare(call, out);
    case EXPR_LIKE:
    case EXPR_IN:
    case EXPR_LENGTH:
    case EXPR_EXTENSION:
        return kernel_text(call, out);
    default:
        return expr_operand_count(call->ins) == 1 && unary(call, out);
    }
}

enum err kernel_apply(const struct kernel_call *call, struct vector *out)
{
    uint8_t op = call->ins->op;
    bool done = false;
    out->count = call->count;
    if (out->kind == KIND_NULL) {
        set_all_null(out, call->count);
        return ERR_NONE;
    }
    if (op == EXPR_CONST) return apply_const(call, out);
    if (sees_nulls(op)) {
        if (op == EXPR_AND || op == EXPR_OR)
            done = logic(call, out);
        else if (op == EXPR_IS_NULL || op == EXPR_IS_NOT_NULL)
            done = null_tests(call, out);
        else if (op == EXPR_SELECT || op == EXPR_COALESCE)
            done = choose(call, out);
    } else if (any_operand_untyped(call)) {
        set_all_null(out, call->count);
        done = true;
    } else {
        merge_nulls(call, out);
        done = strict(call, out);
    }
    return done ? ERR_NONE : apply_values(call, out);
}
