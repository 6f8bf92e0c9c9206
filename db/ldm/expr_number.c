/* Arithmetic of expressions: integers with overflow checked, decimals through 128 bits, doubles
 * that must stay finite.
 *
 * A DEC is an int64 of at most 18 digits and a scale of at most 18, so two of them brought to one
 * scale stay below 2^63 * 10^18 < 2^123, and their sums and remainders fit in 128 bits; products of
 * two 63-bit numbers do as well. */
#include "db/ldm/expr_ops.h"

#include <math.h>

#include "base/check.h"

static const int64_t powers[EXPR_DEC_SCALE_MAX + 1] = {
    1,
    10,
    100,
    1000,
    10000,
    100000,
    1000000,
    10000000,
    100000000,
    1000000000,
    10000000000,
    100000000000,
    1000000000000,
    10000000000000,
    100000000000000,
    1000000000000000,
    10000000000000000,
    100000000000000000,
    1000000000000000000,
};

int64_t power_of_ten(uint32_t exponent)
{
    ASSERT(exponent < ARRAY_SIZE(powers));
    return powers[exponent];
}

enum err dec_make(__int128 integer, uint32_t scale, struct value *ret_value)
{
    if (scale > EXPR_DEC_SCALE_MAX) return ERR_OUT_OF_RANGE;
    if (integer <= -DEC_LIMIT || integer >= DEC_LIMIT) return ERR_OUT_OF_RANGE;
    *ret_value = value_dec((int64_t)integer, (uint8_t)scale);
    return ERR_NONE;
}

__int128 dec_rescale(__int128 integer, uint32_t from, uint32_t to)
{
    if (to >= from) return integer * power_of_ten(to - from);
    __int128 divisor = power_of_ten(from - to);
    __int128 quotient = integer / divisor;
    __int128 remainder = integer % divisor;
    if (2 * remainder >= divisor) return quotient + 1;
    if (2 * remainder <= -divisor) return quotient - 1;
    return quotient;
}

static enum err f64_make(double f, struct value *ret_value)
{
    if (!isfinite(f)) return ERR_OUT_OF_RANGE;
    *ret_value = value_f64(f);
    return ERR_NONE;
}

static enum err i64_make(__int128 integer, struct value *ret_value)
{
    if (integer < INT64_MIN || integer > INT64_MAX) return ERR_OUT_OF_RANGE;
    *ret_value = value_i64((int64_t)integer);
    return ERR_NONE;
}

static enum err u64_make(__int128 integer, struct value *ret_value)
{
    if (integer < 0 || integer > UINT64_MAX) return ERR_OUT_OF_RANGE;
    *ret_value = value_u64((uint64_t)integer);
    return ERR_NONE;
}

/* ---- arithmetic by kinds ---- */

/* x op y of two 64-bit integers: exact in 128 bits, but for U64 products, which the caller takes.
 */
static bool integer_apply(uint8_t op, __int128 x, __int128 y, __int128 *ret_result)
{
    switch ((enum expr_op)op) {
    case EXPR_ADD:
        *ret_result = x + y;
        return true;
    case EXPR_SUB:
        *ret_result = x - y;
        return true;
    case EXPR_MUL:
        *ret_result = x * y;
        return true;
    case EXPR_IDIV:
        if (y == 0) return false;
        *ret_result = x / y;
        return true;
    default:
        ASSERT(op == EXPR_MOD);
        if (y == 0) return false;
        *ret_result = x % y;
        return true;
    }
}

static enum err arithmetic_i64(uint8_t op, int64_t a, int64_t b, struct value *ret_value)
{
    __int128 result;
    if (!integer_apply(op, a, b, &result)) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    return i64_make(result, ret_value);
}

static enum err arithmetic_u64(uint8_t op, uint64_t a, uint64_t b, struct value *ret_value)
{
    __int128 result;
    if (op == EXPR_MUL) {
        uint64_t product;
        if (__builtin_mul_overflow(a, b, &product)) return ERR_OUT_OF_RANGE;
        *ret_value = value_u64(product);
        return ERR_NONE;
    }
    if (!integer_apply(op, a, b, &result)) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    return u64_make(result, ret_value);
}

static enum err arithmetic_f64(uint8_t op, double a, double b, struct value *ret_value)
{
    switch ((enum expr_op)op) {
    case EXPR_ADD:
        return f64_make(a + b, ret_value);
    case EXPR_SUB:
        return f64_make(a - b, ret_value);
    case EXPR_MUL:
        return f64_make(a * b, ret_value);
    default:
        ASSERT(op == EXPR_DIV || op == EXPR_MOD);
        if (b == 0) {
            *ret_value = value_null();
            return ERR_NONE;
        }
        return f64_make(op == EXPR_DIV ? a / b : fmod(a, b), ret_value);
    }
}

/* a / b with 4 more digits behind the point than a, digit by digit like on paper, since a times the
 * power of ten may not fit in 128 bits. Stops as soon as the quotient is too large in any case. */
static enum err divide_dec(struct value a, struct value b, struct value *ret_value)
{
    if (b.i == 0) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    uint32_t scale = a.scale + 4u;
    uint32_t digits = b.scale + 4u;
    if (scale > EXPR_DEC_SCALE_MAX) {
        digits -= scale - EXPR_DEC_SCALE_MAX; /* 4 at most */
        scale = EXPR_DEC_SCALE_MAX;
    }
    bool negative = (a.i < 0) != (b.i < 0);
    __int128 dividend = a.i < 0 ? -(__int128)a.i : a.i;
    __int128 divisor = b.i < 0 ? -(__int128)b.i : b.i;
    __int128 quotient = dividend / divisor;
    __int128 remainder = dividend % divisor;
    for (uint32_t i = 0; i < digits; i++) {
        if (quotient >= DEC_LIMIT) return ERR_OUT_OF_RANGE;
        quotient = quotient * 10 + remainder * 10 / divisor;
        remainder = remainder * 10 % divisor;
    }
    if (2 * remainder >= divisor) quotient++;
    return dec_make(negative ? -quotient : quotient, scale, ret_value);
}

static enum err arithmetic_dec(uint8_t op, struct value a, struct value b, struct value *ret_value)
{
    uint32_t scale = a.scale > b.scale ? a.scale : b.scale;
    if (op == EXPR_MUL)
        return dec_make((__int128)a.i * b.i, (uint32_t)a.scale + b.scale, ret_value);
    if (op == EXPR_DIV) return divide_dec(a, b, ret_value);
    __int128 result;
    if (!integer_apply(op, dec_rescale(a.i, a.scale, scale), dec_rescale(b.i, b.scale, scale),
                       &result)) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    return dec_make(result, scale, ret_value);
}

static enum err arithmetic(const struct expr_ins *ins, struct value a, struct value b,
                           struct value *ret_value)
{
    ASSERT(a.kind == ins->kind && b.kind == ins->kind);
    switch ((enum value_kind)ins->kind) {
    case KIND_I64:
        return arithmetic_i64(ins->op, a.i, b.i, ret_value);
    case KIND_U64:
        return arithmetic_u64(ins->op, a.u, b.u, ret_value);
    case KIND_F64:
        return arithmetic_f64(ins->op, a.f, b.f, ret_value);
    default:
        ASSERT(ins->kind == KIND_DEC);
        return arithmetic_dec(ins->op, a, b, ret_value);
    }
}

/* ---- one operand ---- */

static enum err negate(struct value a, struct value *ret_value)
{
    switch ((enum value_kind)a.kind) {
    case KIND_I64:
        return i64_make(-(__int128)a.i, ret_value);
    case KIND_U64:
        return u64_make(-(__int128)a.u, ret_value);
    case KIND_F64:
        *ret_value = value_f64(-a.f);
        return ERR_NONE;
    default:
        ASSERT(a.kind == KIND_DEC);
        return dec_make(-(__int128)a.i, a.scale, ret_value);
    }
}

static enum err absolute(struct value a, struct value *ret_value)
{
    if (a.kind == KIND_F64) {
        *ret_value = value_f64(fabs(a.f));
        return ERR_NONE;
    }
    ASSERT(a.kind == KIND_I64 || a.kind == KIND_DEC);
    if (a.i < 0) return negate(a, ret_value);
    *ret_value = a;
    return ERR_NONE;
}

/* FLOOR and CEIL. */
static enum err to_integer(bool up, struct value a, struct value *ret_value)
{
    if (a.kind == KIND_F64) {
        double f = up ? ceil(a.f) : floor(a.f);
        if (!(f >= -0x1p63 && f < 0x1p63)) return ERR_OUT_OF_RANGE;
        *ret_value = value_i64((int64_t)f);
        return ERR_NONE;
    }
    ASSERT(a.kind == KIND_DEC);
    int64_t divisor = power_of_ten(a.scale);
    int64_t quotient = a.i / divisor;
    int64_t remainder = a.i % divisor;
    if (up && remainder > 0) quotient++;
    if (!up && remainder < 0) quotient--;
    *ret_value = value_i64(quotient);
    return ERR_NONE;
}

static enum err round_digits(const struct expr_ins *ins, struct value a, struct value *ret_value)
{
    if (a.kind == KIND_DEC) return dec_make(dec_rescale(a.i, a.scale, ins->x), ins->x, ret_value);
    ASSERT(a.kind == KIND_F64);
    double power = (double)power_of_ten(ins->x);
    double scaled = a.f * power;
    /* From 2^52 on a double has no fraction left to round. */
    *ret_value = fabs(scaled) < 0x1p52 ? value_f64(round(scaled) / power) : a;
    return ERR_NONE;
}

static enum err shift(const struct expr_ins *ins, uint64_t a, uint64_t count,
                      struct value *ret_value)
{
    if (count > 63) return ERR_OUT_OF_RANGE;
    *ret_value = value_u64(ins->op == EXPR_SHL ? a << count : a >> count);
    return ERR_NONE;
}

enum err number_apply(const struct expr_ins *ins, struct value a, struct value b,
                      struct value *ret_value)
{
    switch ((enum expr_op)ins->op) {
    case EXPR_ADD:
    case EXPR_SUB:
    case EXPR_MUL:
    case EXPR_DIV:
    case EXPR_IDIV:
    case EXPR_MOD:
        return arithmetic(ins, a, b, ret_value);
    case EXPR_NEG:
        return negate(a, ret_value);
    case EXPR_ABS:
        return absolute(a, ret_value);
    case EXPR_FLOOR:
    case EXPR_CEIL:
        return to_integer(ins->op == EXPR_CEIL, a, ret_value);
    case EXPR_ROUND:
        return round_digits(ins, a, ret_value);
    case EXPR_SHL:
    case EXPR_SHR:
        return shift(ins, a.u, b.u, ret_value);
    case EXPR_BIT_AND:
        *ret_value = value_u64(a.u & b.u);
        return ERR_NONE;
    case EXPR_BIT_OR:
        *ret_value = value_u64(a.u | b.u);
        return ERR_NONE;
    case EXPR_BIT_XOR:
        *ret_value = value_u64(a.u ^ b.u);
        return ERR_NONE;
    case EXPR_BIT_NOT:
        *ret_value = value_u64(~a.u);
        return ERR_NONE;
    case EXPR_LOG2:
        *ret_value = value_i64(a.u ? 63 - __builtin_clzll(a.u) : -1);
        return ERR_NONE;
    case EXPR_HOME:
        *ret_value = value_u64(a.u >> HOME_SHIFT & (PARTITION_SLOTS - 1));
        return ERR_NONE;
    default:
        ASSERT(ins->op == EXPR_ADD); /* an operation that no family has */
        return ERR_INVALID;
    }
}
