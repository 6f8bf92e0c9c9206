/* What may be stored in a column, and how values order.
 *
 * value_fit is the one gate between values that come from outside (programs, SQL, redo) and rows:
 * it converts between kinds only where nothing is lost, checks ranges, sizes and UTF-8, and brings
 * a value to the form in which equal values are equal bytes: CHAR without trailing spaces, no
 * negative zero. BINARY values shorter than their column stay short here, since there is no memory
 * to pad them in: pages and keys pad them.
 *
 * Dates are limited to the years 0000 to 9999, so that each can be written as text.
 *
 * Called from every thread; no state. */
#include "db/wire/value.h"

#include <math.h>

#include "base/check.h"
#include "db/wire/schema.h"

enum { DEC_SCALE_MAX = 18, UTF8_SIZE_MAX = 4 };

#define DAYS_MIN (-719528) /* 0000-01-01 */
#define DAYS_MAX 2932896   /* 9999-12-31 */
#define DAY_US INT64_C(86400000000)

static const int64_t powers_of_ten[DEC_SCALE_MAX + 1] = {
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

/* Reads one code point of two bytes or more; its size, 0 when malformed (overlong, surrogate, above
 * U+10FFFF). */
static uint32_t utf8_size(const uint8_t *at, uint32_t left)
{
    uint32_t lead = at[0];
    uint32_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || left < size) return 0;
    for (uint32_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if (lead == 0xe0 && at[1] < 0xa0) return 0;
    if (lead == 0xed && at[1] > 0x9f) return 0;
    if (lead == 0xf0 && at[1] < 0x90) return 0;
    if (lead == 0xf4 && at[1] > 0x8f) return 0;
    return size;
}

bool value_utf8_count(const uint8_t *bytes, uint32_t size, uint32_t *ret_count)
{
    uint32_t count = 0;
    uint32_t at = 0;
    while (at < size) {
        uint64_t word;
        if (size - at >= sizeof(word)) {
            memcpy(&word, bytes + at, sizeof(word));
            if (!(word & UINT64_C(0x8080808080808080))) {
                at += (uint32_t)sizeof(word);
                count += (uint32_t)sizeof(word);
                continue;
            }
        }
        uint32_t step = bytes[at] < 0x80 ? 1 : utf8_size(bytes + at, size - at);
        if (!step) return false;
        at += step;
        count++;
    }
    *ret_count = count;
    return true;
}

/* A value of any exact kind as an integer. ERR_INVALID for inexact kinds and text, ERR_OUT_OF_RANGE
 * for fractions. */
static enum err integer_of(struct value value, __int128 *ret_integer)
{
    switch (value.kind) {
    case KIND_I64:
        *ret_integer = value.i;
        return ERR_NONE;
    case KIND_U64:
        *ret_integer = value.u;
        return ERR_NONE;
    case KIND_DEC:
        if (value.scale > DEC_SCALE_MAX) return ERR_INVALID;
        if (value.i % powers_of_ten[value.scale]) return ERR_OUT_OF_RANGE;
        *ret_integer = value.i / powers_of_ten[value.scale];
        return ERR_NONE;
    default:
        return ERR_INVALID;
    }
}

static enum err fit_signed(struct value value, int64_t min, int64_t max, struct value *ret_value)
{
    __int128 integer;
    enum err err = integer_of(value, &integer);
    if (err) return err;
    if (integer < min || integer > max) return ERR_OUT_OF_RANGE;
    *ret_value = value_i64((int64_t)integer);
    return ERR_NONE;
}

static enum err fit_unsigned(struct value value, uint64_t max, struct value *ret_value)
{
    __int128 integer;
    enum err err = integer_of(value, &integer);
    if (err) return err;
    if (integer < 0 || integer > max) return ERR_OUT_OF_RANGE;
    *ret_value = value_u64((uint64_t)integer);
    return ERR_NONE;
}

static enum err fit_float(const struct column_def *column, struct value value,
                          struct value *ret_value)
{
    double f;
    switch (value.kind) {
    case KIND_F64:
        f = value.f;
        break;
    case KIND_I64:
        f = (double)value.i;
        break;
    case KIND_U64:
        f = (double)value.u;
        break;
    case KIND_DEC:
        if (value.scale > DEC_SCALE_MAX) return ERR_INVALID;
        f = (double)value.i / (double)powers_of_ten[value.scale];
        break;
    default:
        return ERR_INVALID;
    }
    if (column->type == TYPE_FLOAT) f = (double)(float)f;
    if (!isfinite(f)) return ERR_OUT_OF_RANGE;
    *ret_value = value_f64(f == 0 ? 0 : f);
    return ERR_NONE;
}

static enum err fit_decimal(const struct column_def *column, struct value value,
                            struct value *ret_value)
{
    __int128 digits;
    uint8_t scale = 0;
    switch (value.kind) {
    case KIND_I64:
        digits = value.i;
        break;
    case KIND_U64:
        digits = value.u;
        break;
    case KIND_DEC:
        if (value.scale > DEC_SCALE_MAX) return ERR_INVALID;
        digits = value.i;
        scale = value.scale;
        break;
    default:
        return ERR_INVALID;
    }
    if (scale <= column->scale) {
        digits *= powers_of_ten[column->scale - scale];
    } else {
        int64_t power = powers_of_ten[scale - column->scale];
        if (digits % power) return ERR_OUT_OF_RANGE;
        digits /= power;
    }
    __int128 limit = powers_of_ten[column->precision];
    if (digits <= -limit || digits >= limit) return ERR_OUT_OF_RANGE;
    *ret_value = value_dec((int64_t)digits, column->scale);
    return ERR_NONE;
}

static enum err fit_string(const struct column_def *column, struct value value,
                           struct value *ret_value)
{
    if (value.kind != KIND_STR) return ERR_INVALID;
    if (column->type == TYPE_CHAR)
        while (value.size && value.bytes[value.size - 1] == ' ')
            value.size--;
    if (value.size > column->size_max) return ERR_TOO_BIG;
    if (column->type == TYPE_CHAR || column->type == TYPE_VARCHAR || column->type == TYPE_TEXT) {
        uint32_t count;
        if (!value_utf8_count(value.bytes, value.size, &count)) return ERR_INVALID;
        if (column->type != TYPE_TEXT && count > column->size_max / UTF8_SIZE_MAX)
            return ERR_TOO_BIG;
    }
    *ret_value = value_str(value.bytes, value.size);
    return ERR_NONE;
}

enum err value_fit(const struct column_def *column, struct value value, struct value *ret_value)
{
    if (value.kind == KIND_NULL) {
        if (!column->nullable) return ERR_NULL_VALUE;
        *ret_value = value_null();
        return ERR_NONE;
    }
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
        return fit_signed(value, INT8_MIN, INT8_MAX, ret_value);
    case TYPE_SMALLINT:
        return fit_signed(value, INT16_MIN, INT16_MAX, ret_value);
    case TYPE_INT:
        return fit_signed(value, INT32_MIN, INT32_MAX, ret_value);
    case TYPE_BIGINT:
        return fit_signed(value, INT64_MIN, INT64_MAX, ret_value);
    case TYPE_TINYINT_UNSIGNED:
        return fit_unsigned(value, UINT8_MAX, ret_value);
    case TYPE_SMALLINT_UNSIGNED:
        return fit_unsigned(value, UINT16_MAX, ret_value);
    case TYPE_INT_UNSIGNED:
        return fit_unsigned(value, UINT32_MAX, ret_value);
    case TYPE_BIGINT_UNSIGNED:
        return fit_unsigned(value, UINT64_MAX, ret_value);
    case TYPE_FLOAT:
    case TYPE_DOUBLE:
        return fit_float(column, value, ret_value);
    case TYPE_DECIMAL:
        return fit_decimal(column, value, ret_value);
    case TYPE_DATE:
        return fit_signed(value, DAYS_MIN, DAYS_MAX, ret_value);
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        return fit_signed(value, DAYS_MIN * DAY_US, (DAYS_MAX + 1) * DAY_US - 1, ret_value);
    case TYPE_CHAR:
    case TYPE_VARCHAR:
    case TYPE_BINARY:
    case TYPE_VARBINARY:
    case TYPE_TEXT:
    case TYPE_BLOB:
        return fit_string(column, value, ret_value);
    }
    return ERR_INVALID;
}

static int compare_dec(struct value a, struct value b)
{
    ASSERT(a.scale <= DEC_SCALE_MAX && b.scale <= DEC_SCALE_MAX);
    __int128 x = a.i;
    __int128 y = b.i;
    /* At most 2^63 * 10^18, which 128 bits hold. */
    if (a.scale < b.scale) x *= powers_of_ten[b.scale - a.scale];
    if (b.scale < a.scale) y *= powers_of_ten[a.scale - b.scale];
    return (x > y) - (x < y);
}

static inline uint8_t fold(uint8_t byte)
{
    return (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

static int compare_str(struct value a, struct value b, enum collation collation)
{
    uint32_t size = a.size < b.size ? a.size : b.size;
    if (collation == COLLATION_CASE_INSENSITIVE) {
        for (uint32_t i = 0; i < size; i++) {
            int difference = fold(a.bytes[i]) - fold(b.bytes[i]);
            if (difference) return difference;
        }
    } else if (size) {
        int difference = memcmp(a.bytes, b.bytes, size);
        if (difference) return difference;
    }
    return (a.size > b.size) - (a.size < b.size);
}

int value_compare(struct value a, struct value b, enum collation collation)
{
    ASSERT(a.kind == b.kind);
    switch ((enum value_kind)a.kind) {
    case KIND_I64:
        return (a.i > b.i) - (a.i < b.i);
    case KIND_U64:
        return (a.u > b.u) - (a.u < b.u);
    case KIND_F64:
        /* NaN, which a column never holds but an expression may yield, comes last and equals
         * itself. */
        if (isnan(a.f) || isnan(b.f)) return (isnan(a.f) != 0) - (isnan(b.f) != 0);
        return (a.f > b.f) - (a.f < b.f);
    case KIND_DEC:
        return compare_dec(a, b);
    case KIND_STR:
        return compare_str(a, b, collation);
    case KIND_NULL:
        break;
    }
    ASSERT(a.kind != KIND_NULL);
    return 0;
}
