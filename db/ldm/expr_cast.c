/* Casts between the kinds of expressions.
 *
 * Text is read, and doubles are turned into decimals, through one form: the significant decimal
 * digits and where the point is. Rounding half away from zero looks at one digit only, so it is
 * exact whatever the digits behind. A double stands for the shortest decimal that reads back as it
 * (1.005 is 1.005, not 1.00499999…), as in MySQL. */
#include "db/ldm/expr_ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    NUMBER_DIGITS_MAX =
        40, /* more than a 128-bit integer has; the rest never matters to rounding */
    NUMBER_EXPONENT_MAX = 100000,
    NUMBER_ON_STACK_MAX = 128,
};

/* +-0.d1d2d3… * 10^point; d1 is not 0. */
struct number {
    bool negative;
    uint32_t digit_count; /* 0: zero */
    int64_t point;
    uint8_t digits[NUMBER_DIGITS_MAX];
};

/* ---- reading ---- */

static bool is_digit(uint8_t byte)
{
    return (uint8_t)(byte - '0') < 10;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* The exponent at bytes[at], 'e' or 'E' being there; the offset behind it, or `at` when it is none.
 */
static uint32_t read_exponent(const uint8_t *bytes, uint32_t size, uint32_t at,
                              int64_t *ret_exponent)
{
    uint32_t next = at + 1;
    bool negative = next < size && bytes[next] == '-';
    if (next < size && (bytes[next] == '-' || bytes[next] == '+')) next++;
    if (next == size || !is_digit(bytes[next])) return at;
    int64_t exponent = 0;
    for (; next < size && is_digit(bytes[next]); next++) {
        if (exponent < NUMBER_EXPONENT_MAX) exponent = exponent * 10 + (bytes[next] - '0');
    }
    *ret_exponent = negative ? -exponent : exponent;
    return next;
}

/* The longest numeric prefix, behind leading space: [from, to) of the bytes; empty without one. */
static void read_number(const uint8_t *bytes, uint32_t size, struct number *ret_number,
                        uint32_t *ret_from, uint32_t *ret_to)
{
    struct number number = {0};
    uint32_t at = 0;
    while (at < size && is_space(bytes[at]))
        at++;
    uint32_t from = at;
    if (at < size && (bytes[at] == '-' || bytes[at] == '+')) number.negative = bytes[at++] == '-';
    bool any = false;
    bool fraction = false;
    for (; at < size; at++) {
        if (bytes[at] == '.' && !fraction) {
            fraction = true;
            continue;
        }
        if (!is_digit(bytes[at])) break;
        any = true;
        uint8_t digit = (uint8_t)(bytes[at] - '0');
        if (digit || number.digit_count) {
            if (number.digit_count < NUMBER_DIGITS_MAX) number.digits[number.digit_count++] = digit;
            number.point += !fraction;
        } else {
            number.point -= fraction; /* a zero between the point and the first digit */
        }
    }
    if (any && at < size && (bytes[at] | 0x20) == 'e') {
        int64_t exponent = 0;
        at = read_exponent(bytes, size, at, &exponent);
        number.point += exponent;
    }
    if (!any) {
        number = (struct number){0};
        at = from;
    }
    *ret_number = number;
    *ret_from = from;
    *ret_to = at;
}

/* The number times 10^scale as an integer, rounded half away from zero; false when it is too large.
 */
static bool number_to_integer(const struct number *number, uint32_t scale, __int128 *ret_integer)
{
    int64_t point = number->point + scale;
    if (number->digit_count == 0 || point < 0) {
        *ret_integer = 0;
        return true;
    }
    if (point >= NUMBER_DIGITS_MAX - 2) return false; /* at least 10^37, beyond all kinds */
    __int128 integer = 0;
    for (int64_t i = 0; i < point; i++)
        integer = integer * 10 + (i < number->digit_count ? number->digits[i] : 0);
    if (point < number->digit_count && number->digits[point] >= 5) integer++;
    *ret_integer = number->negative ? -integer : integer;
    return true;
}

/* ---- writing ---- */

uint32_t f64_text(double f, char text[F64_TEXT_SIZE_MAX])
{
    int size = 0;
    if (!isfinite(f)) {
        size = snprintf(text, F64_TEXT_SIZE_MAX, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return (uint32_t)size;
    }
    /* 15 digits always survive the way to a double and back, so shorter texts are found with 15
     * (trailing zeros are not printed), but for numbers so small that doubles are denser than that.
     */
    for (int digits = fabs(f) < 1e-290 ? 1 : 15; digits <= 17; digits++) {
        size = snprintf(text, F64_TEXT_SIZE_MAX, "%.*g", digits, f);
        if (strtod(text, NULL) == f) break;
    }
    /* e+20 becomes e20, e-05 e-5. */
    char *exponent = memchr(text, 'e', (size_t)size);
    if (exponent) {
        char *to = exponent + 1;
        char *from = to + 1;
        if (*to == '-') to++;
        while (*from == '0' && from[1])
            from++;
        memmove(to, from, strlen(from) + 1);
    }
    return (uint32_t)strlen(text);
}

static enum err make_text(struct arena *arena, const char *text, uint32_t size,
                          struct value *ret_value)
{
    const char *bytes = arena_copy(arena, text, size);
    if (!bytes) return ERR_NO_MEMORY;
    *ret_value = value_str(bytes, size);
    return ERR_NONE;
}

static enum err to_text(struct value value, struct arena *arena, struct value *ret_value)
{
    char text[64];
    int size = 0;
    switch ((enum value_kind)value.kind) {
    case KIND_I64:
        size = snprintf(text, sizeof text, "%" PRId64, value.i);
        break;
    case KIND_U64:
        size = snprintf(text, sizeof text, "%" PRIu64, value.u);
        break;
    case KIND_F64:
        size = (int)f64_text(value.f, text);
        break;
    case KIND_DEC: {
        uint64_t digits = value.i < 0 ? 0 - (uint64_t)value.i : (uint64_t)value.i;
        uint64_t power = (uint64_t)power_of_ten(value.scale);
        size = snprintf(text, sizeof text, "%s%" PRIu64, value.i < 0 ? "-" : "", digits / power);
        if (value.scale) {
            size += snprintf(text + size, sizeof text - (size_t)size, ".%0*" PRIu64,
                             (int)value.scale, digits % power);
        }
        break;
    }
    default:
        *ret_value = value;
        return ERR_NONE;
    }
    return make_text(arena, text, (uint32_t)size, ret_value);
}

/* ---- to numbers ---- */

/* The value times 10^scale, rounded half away from zero. */
static enum err to_scaled(struct value value, uint32_t scale, __int128 *ret_integer)
{
    struct number number;
    uint32_t from;
    uint32_t to;
    switch ((enum value_kind)value.kind) {
    case KIND_I64:
        *ret_integer = dec_rescale(value.i, 0, scale);
        return ERR_NONE;
    case KIND_U64:
        *ret_integer = dec_rescale(value.u, 0, scale);
        return ERR_NONE;
    case KIND_DEC:
        *ret_integer = dec_rescale(value.i, value.scale, scale);
        return ERR_NONE;
    case KIND_F64: {
        char text[F64_TEXT_SIZE_MAX];
        if (!isfinite(value.f)) return ERR_OUT_OF_RANGE;
        uint32_t size = f64_text(value.f, text);
        read_number((const uint8_t *)text, size, &number, &from, &to);
        break;
    }
    default:
        ASSERT(value.kind == KIND_STR);
        read_number(value.bytes, value.size, &number, &from, &to);
        break;
    }
    return number_to_integer(&number, scale, ret_integer) ? ERR_NONE : ERR_OUT_OF_RANGE;
}

static enum err to_integer(struct value value, enum value_kind kind, struct value *ret_value)
{
    __int128 integer;
    if (value.kind == KIND_F64) {
        double f = round(value.f);
        if (!(f >= -0x1p63 && f < 0x1p64)) return ERR_OUT_OF_RANGE;
        integer = (__int128)f;
    } else {
        enum err err = to_scaled(value, 0, &integer);
        if (err) return err;
    }
    if (kind == KIND_I64) {
        if (integer < INT64_MIN || integer > INT64_MAX) return ERR_OUT_OF_RANGE;
        *ret_value = value_i64((int64_t)integer);
    } else {
        if (integer < 0 || integer > UINT64_MAX) return ERR_OUT_OF_RANGE;
        *ret_value = value_u64((uint64_t)integer);
    }
    return ERR_NONE;
}

static enum err text_to_f64(struct value value, struct arena *arena, struct value *ret_value)
{
    struct number number;
    uint32_t from;
    uint32_t to;
    read_number(value.bytes, value.size, &number, &from, &to);
    /* strtod wants an end, and gets nothing but the number, so it takes no "inf" and no "0x". */
    char on_stack[NUMBER_ON_STACK_MAX];
    char *text = on_stack;
    uint32_t size = to - from;
    if (size < sizeof on_stack) {
        if (size) memcpy(on_stack, value.bytes + from, size);
        on_stack[size] = '\0';
    } else {
        text = arena_copy(arena, value.bytes + from, size);
        if (!text) return ERR_NO_MEMORY;
    }
    double f = size ? strtod(text, NULL) : 0;
    if (!isfinite(f)) return ERR_OUT_OF_RANGE;
    *ret_value = value_f64(f);
    return ERR_NONE;
}

static enum err to_f64(struct value value, struct arena *arena, struct value *ret_value)
{
    switch ((enum value_kind)value.kind) {
    case KIND_I64:
        *ret_value = value_f64((double)value.i);
        return ERR_NONE;
    case KIND_U64:
        *ret_value = value_f64((double)value.u);
        return ERR_NONE;
    case KIND_DEC:
        *ret_value = value_f64((double)value.i / (double)power_of_ten(value.scale));
        return ERR_NONE;
    case KIND_F64:
        *ret_value = value;
        return ERR_NONE;
    default:
        ASSERT(value.kind == KIND_STR);
        return text_to_f64(value, arena, ret_value);
    }
}

enum err cast_apply(const struct expr_ins *ins, struct value value, struct arena *arena,
                    struct value *ret_value)
{
    switch ((enum value_kind)ins->kind) {
    case KIND_I64:
    case KIND_U64:
        return to_integer(value, (enum value_kind)ins->kind, ret_value);
    case KIND_F64:
        return to_f64(value, arena, ret_value);
    case KIND_DEC: {
        __int128 integer;
        enum err err = to_scaled(value, ins->x, &integer);
        return err ? err : dec_make(integer, ins->x, ret_value);
    }
    default:
        ASSERT(ins->kind == KIND_STR);
        return to_text(value, arena, ret_value);
    }
}
