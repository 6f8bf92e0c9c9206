/* Constant folding: operations whose operands are literals, so that index bounds, IN lists and LIKE
 * patterns become constants. Exactly what the executor would compute; an operation that is not
 * here, or whose result is not exact here, is left to it. */
#include "sql/bound.h"

#include <math.h>
#include <stdio.h>

#include "sql/literal.h"

#define DEC_LIMIT INT64_C(1000000000000000000) /* 18 digits */

static bool overflow(struct binder *binder)
{
    bind_fail(binder, ERR_OUT_OF_RANGE, UINT32_MAX, "a constant expression is out of range");
    return false;
}

bool fold_rescale(int64_t number, uint8_t from, uint8_t to, bool exact, int64_t *ret_number)
{
    for (; from < to; from++)
        if (__builtin_mul_overflow(number, 10, &number)) return false;
    int64_t half = 0;
    bool lost = false;
    for (; from > to; from--) {
        /* Only the last digit removed decides, as the remainder below it is less than a unit of it.
         */
        half = number % 10;
        lost = lost || half != 0;
        number /= 10;
    }
    if (exact && lost) return false;
    if (half >= 5) number++;
    if (half <= -5) number--;
    if (number <= -DEC_LIMIT || number >= DEC_LIMIT) return false;
    *ret_number = number;
    return true;
}

static double dec_double(struct value value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                    1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
    return (double)value.i / powers[value.scale];
}

static bool cast_to_integer(struct binder *binder, struct value value, bool is_signed,
                            struct value *ret_value)
{
    double number = 0;
    switch ((enum value_kind)value.kind) {
    case KIND_I64:
        if (!is_signed && value.i < 0) return overflow(binder);
        *ret_value = is_signed ? value : value_u64((uint64_t)value.i);
        return true;
    case KIND_U64:
        if (is_signed && value.u > INT64_MAX) return overflow(binder);
        *ret_value = is_signed ? value_i64((int64_t)value.u) : value;
        return true;
    case KIND_DEC:
        if (!fold_rescale(value.i, value.scale, 0, false, &value.i)) return overflow(binder);
        if (!is_signed && value.i < 0) return overflow(binder);
        *ret_value = is_signed ? value_i64(value.i) : value_u64((uint64_t)value.i);
        return true;
    case KIND_F64:
        number = value.f;
        break;
    default:
        return false;
    }
    number = round(number);
    if (is_signed) {
        if (!(number >= -0x1p63 && number < 0x1p63)) return overflow(binder);
        *ret_value = value_i64((int64_t)number);
    } else {
        if (!(number >= 0 && number < 0x1p64)) return overflow(binder);
        *ret_value = value_u64((uint64_t)number);
    }
    return true;
}

static bool cast_to_string(struct binder *binder, struct value value, struct value *ret_value)
{
    char *text;
    if (value.kind == KIND_I64)
        text = arena_printf(binder->arena, "%lld", (long long)value.i);
    else if (value.kind == KIND_U64)
        text = arena_printf(binder->arena, "%llu", (unsigned long long)value.u);
    else
        return false;
    if (!text) return bind_fail(binder, ERR_NO_MEMORY, UINT32_MAX, "out of memory"), false;
    *ret_value = value_text(text);
    return true;
}

bool fold_cast(struct binder *binder, struct value value, enum value_kind kind, uint8_t scale,
               struct value *ret_value)
{
    if (value.kind == KIND_NULL || (value.kind == kind && kind != KIND_DEC)) {
        *ret_value = value;
        return true;
    }
    int64_t number;
    switch (kind) {
    case KIND_I64:
    case KIND_U64:
        return cast_to_integer(binder, value, kind == KIND_I64, ret_value);
    case KIND_F64:
        if (value.kind == KIND_I64)
            *ret_value = value_f64((double)value.i);
        else if (value.kind == KIND_U64)
            *ret_value = value_f64((double)value.u);
        else if (value.kind == KIND_DEC)
            *ret_value = value_f64(dec_double(value));
        else
            *ret_value = value_f64(literal_string_number(value.bytes, value.size));
        return true;
    case KIND_DEC:
        if (value.kind == KIND_U64 && value.u > INT64_MAX) return overflow(binder);
        if (value.kind != KIND_I64 && value.kind != KIND_U64 && value.kind != KIND_DEC)
            return false;
        if (!fold_rescale(value.i, value.kind == KIND_DEC ? value.scale : 0, scale, false, &number))
            return overflow(binder);
        *ret_value = value_dec(number, scale);
        return true;
    case KIND_STR:
        return cast_to_string(binder, value, ret_value);
    case KIND_NULL:
        break;
    }
    return false;
}

static bool fold_i64(struct binder *binder, enum expr_op op, int64_t a, int64_t b,
                     struct value *ret_value)
{
    int64_t r = 0;
    bool bad = false;
    switch (op) {
    case EXPR_ADD:
        bad = __builtin_add_overflow(a, b, &r);
        break;
    case EXPR_SUB:
        bad = __builtin_sub_overflow(a, b, &r);
        break;
    case EXPR_MUL:
        bad = __builtin_mul_overflow(a, b, &r);
        break;
    case EXPR_IDIV:
    case EXPR_MOD:
        if (b == 0) {
            *ret_value = value_null();
            return true;
        }
        if (b == -1 && op == EXPR_MOD)
            r = 0;
        else if (b == -1)
            bad = __builtin_sub_overflow(0, a, &r);
        else
            r = op == EXPR_IDIV ? a / b : a % b;
        break;
    case EXPR_NEG:
        bad = __builtin_sub_overflow(0, a, &r);
        break;
    case EXPR_ABS:
        bad = a < 0 && __builtin_sub_overflow(0, a, &r);
        if (a >= 0) r = a;
        break;
    default:
        return false;
    }
    if (bad) return overflow(binder);
    *ret_value = value_i64(r);
    return true;
}

static bool fold_u64(struct binder *binder, enum expr_op op, uint64_t a, uint64_t b,
                     struct value *ret_value)
{
    uint64_t r = 0;
    bool bad = false;
    switch (op) {
    case EXPR_ADD:
        bad = __builtin_add_overflow(a, b, &r);
        break;
    case EXPR_SUB:
        bad = __builtin_sub_overflow(a, b, &r);
        break;
    case EXPR_MUL:
        bad = __builtin_mul_overflow(a, b, &r);
        break;
    case EXPR_IDIV:
    case EXPR_MOD:
        if (b == 0) {
            *ret_value = value_null();
            return true;
        }
        r = op == EXPR_IDIV ? a / b : a % b;
        break;
    case EXPR_BIT_AND:
        r = a & b;
        break;
    case EXPR_BIT_OR:
        r = a | b;
        break;
    case EXPR_BIT_XOR:
        r = a ^ b;
        break;
    case EXPR_BIT_NOT:
        r = ~a;
        break;
    case EXPR_SHL:
    case EXPR_SHR:
        if (b > 63) return false;
        r = op == EXPR_SHL ? a << b : a >> b;
        break;
    default:
        return false;
    }
    if (bad) return overflow(binder);
    *ret_value = value_u64(r);
    return true;
}

static bool fold_dec(struct binder *binder, enum expr_op op, struct value a, struct value b,
                     struct value *ret_value)
{
    int64_t r = 0;
    bool bad = false;
    uint8_t scale = a.scale;
    switch (op) {
    case EXPR_ADD:
    case EXPR_SUB:
        if (a.scale != b.scale) return false;
        bad = op == EXPR_ADD ? __builtin_add_overflow(a.i, b.i, &r)
                             : __builtin_sub_overflow(a.i, b.i, &r);
        break;
    case EXPR_MUL:
        scale = (uint8_t)(a.scale + b.scale);
        if (scale > 18) return false;
        bad = __builtin_mul_overflow(a.i, b.i, &r);
        break;
    case EXPR_NEG:
        r = -a.i;
        break;
    case EXPR_ABS:
        r = a.i < 0 ? -a.i : a.i;
        break;
    default:
        return false;
    }
    if (bad || r <= -DEC_LIMIT || r >= DEC_LIMIT) return overflow(binder);
    *ret_value = value_dec(r, scale);
    return true;
}

static bool fold_f64(struct binder *binder, enum expr_op op, double a, double b,
                     struct value *ret_value)
{
    double r = 0;
    switch (op) {
    case EXPR_ADD:
        r = a + b;
        break;
    case EXPR_SUB:
        r = a - b;
        break;
    case EXPR_MUL:
        r = a * b;
        break;
    case EXPR_DIV:
        if (b == 0) {
            *ret_value = value_null();
            return true;
        }
        r = a / b;
        break;
    case EXPR_NEG:
        r = -a;
        break;
    case EXPR_ABS:
        r = fabs(a);
        break;
    default:
        return false;
    }
    if (!isfinite(r)) return overflow(binder);
    *ret_value = value_f64(r);
    return true;
}

static bool fold_comparison(const struct bound *node, struct value *ret_value)
{
    struct value a = node->args[0]->value, b = node->args[1]->value;
    if (a.kind != b.kind || (a.kind == KIND_DEC && a.scale != b.scale)) return false;
    int order = value_compare(a, b, (enum collation)node->collation);
    bool holds;
    switch ((enum expr_op)node->op) {
    case EXPR_EQ:
    case EXPR_EQ_NULLSAFE:
        holds = order == 0;
        break;
    case EXPR_NE:
        holds = order != 0;
        break;
    case EXPR_LT:
        holds = order < 0;
        break;
    case EXPR_LE:
        holds = order <= 0;
        break;
    case EXPR_GT:
        holds = order > 0;
        break;
    case EXPR_GE:
        holds = order >= 0;
        break;
    default:
        return false;
    }
    *ret_value = value_i64(holds);
    return true;
}

static bool fold_concat(struct binder *binder, struct value a, struct value b,
                        struct value *ret_value)
{
    uint8_t *bytes = arena_alloc(binder->arena, (size_t)a.size + b.size + 1);
    if (!bytes) {
        bind_fail(binder, ERR_NO_MEMORY, UINT32_MAX, "out of memory");
        return false;
    }
    if (a.size) memcpy(bytes, a.bytes, a.size);
    if (b.size) memcpy(bytes + a.size, b.bytes, b.size);
    *ret_value = value_str(bytes, a.size + b.size);
    return true;
}

/* NULL for any NULL operand, whatever the others are. */
static bool op_is_strict(enum expr_op op)
{
    switch (op) {
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_IS_NULL:
    case EXPR_IS_NOT_NULL:
    case EXPR_EQ_NULLSAFE:
    case EXPR_SELECT:
    case EXPR_COALESCE:
        return false;
    default:
        return true;
    }
}

/* AND and OR are decided by one constant side, or pass the other on. */
static bool fold_logic(const struct bound *node, struct value *ret_value)
{
    bool is_and = node->op == EXPR_AND;
    const struct bound *a = node->args[0], *b = node->args[1];
    for (int i = 0; i < 2; i++) {
        const struct value *value = &node->args[i]->value;
        if (!bound_is_const(node->args[i]) || value_is_null(*value)) continue;
        if (is_and ? value->i == 0 : value->i != 0) {
            *ret_value = value_i64(!is_and);
            return true;
        }
    }
    if (!bound_is_const(a) || !bound_is_const(b)) return false;
    *ret_value =
        value_is_null(a->value) || value_is_null(b->value) ? value_null() : value_i64(is_and);
    return true;
}

bool fold_op(struct binder *binder, const struct bound *node, struct value *ret_value)
{
    enum expr_op op = (enum expr_op)node->op;
    const struct bound *a = node->args[0], *b = node->args[1];
    if (op == EXPR_AND || op == EXPR_OR) return fold_logic(node, ret_value);
    if (op == EXPR_SELECT || op == EXPR_COALESCE) return false;
    bool all = true;
    for (uint32_t i = 0; i < node->arg_count; i++) {
        if (bound_is_null(node->args[i]) && op_is_strict(op)) {
            *ret_value = value_null();
            return true;
        }
        all = all && bound_is_const(node->args[i]);
    }
    if (!all) return false;
    if (op == EXPR_IS_NULL || op == EXPR_IS_NOT_NULL) {
        *ret_value = value_i64(value_is_null(a->value) == (op == EXPR_IS_NULL));
        return true;
    }
    if (op == EXPR_EQ_NULLSAFE && (value_is_null(a->value) || value_is_null(b->value))) {
        *ret_value = value_i64(value_is_null(a->value) && value_is_null(b->value));
        return true;
    }
    if (op >= EXPR_EQ && op <= EXPR_EQ_NULLSAFE) return fold_comparison(node, ret_value);
    if (op == EXPR_NOT) {
        *ret_value = value_i64(a->value.i == 0);
        return true;
    }
    if (op == EXPR_CONCAT) return fold_concat(binder, a->value, b->value, ret_value);
    if (op == EXPR_CAST)
        return fold_cast(binder, a->value, (enum value_kind)node->kind, node->scale, ret_value);
    if (b && b->kind != a->kind) return false;
    struct value other = b ? b->value : value_null();
    switch ((enum value_kind)a->kind) {
    case KIND_I64:
        return fold_i64(binder, op, a->value.i, other.i, ret_value);
    case KIND_U64:
        return fold_u64(binder, op, a->value.u, other.u, ret_value);
    case KIND_DEC:
        return fold_dec(binder, op, a->value, other, ret_value);
    case KIND_F64:
        return fold_f64(binder, op, a->value.f, other.f, ret_value);
    case KIND_STR:
    case KIND_NULL:
        break;
    }
    return false;
}
