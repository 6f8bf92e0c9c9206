/* Fitting values to columns, and their order. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "db/wire/schema.h"

static struct column_def column(uint8_t type, uint32_t size_max)
{
    return (struct column_def){.name = "c", .type = type, .size_max = size_max};
}

static enum err fit(uint8_t type, struct value value, struct value *ret_value)
{
    struct column_def def = column(type, 0);
    return value_fit(&def, value, ret_value);
}

Test(value, integers_fit_exactly_their_range)
{
    static const struct {
        uint8_t type;
        int64_t min;
        uint64_t max;
    } cases[] = {
        {TYPE_TINYINT, INT8_MIN, INT8_MAX},    {TYPE_SMALLINT, INT16_MIN, INT16_MAX},
        {TYPE_INT, INT32_MIN, INT32_MAX},      {TYPE_BIGINT, INT64_MIN, INT64_MAX},
        {TYPE_TINYINT_UNSIGNED, 0, UINT8_MAX}, {TYPE_SMALLINT_UNSIGNED, 0, UINT16_MAX},
        {TYPE_INT_UNSIGNED, 0, UINT32_MAX},    {TYPE_BIGINT_UNSIGNED, 0, UINT64_MAX},
        {TYPE_DATE, -719528, 2932896},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct value value;
        cr_assert_eq(fit(cases[i].type, value_i64(cases[i].min), &value), ERR_NONE);
        cr_assert_eq(value.i, cases[i].min);
        cr_assert_eq(fit(cases[i].type, value_u64(cases[i].max), &value), ERR_NONE);
        cr_assert_eq(value.u, cases[i].max);
        struct column_def def = column(cases[i].type, 0);
        cr_assert_eq(value.kind, column_kind(&def));
        if (cases[i].max < UINT64_MAX)
            cr_assert_eq(fit(cases[i].type, value_u64(cases[i].max + 1), &value), ERR_OUT_OF_RANGE);
        if (cases[i].min > INT64_MIN)
            cr_assert_eq(fit(cases[i].type, value_i64(cases[i].min - 1), &value), ERR_OUT_OF_RANGE);
        cr_assert_eq(fit(cases[i].type, value_f64(1), &value), ERR_INVALID);
        cr_assert_eq(fit(cases[i].type, value_text("1"), &value), ERR_INVALID);
        cr_assert_eq(fit(cases[i].type, value_dec(300, 2), &value), ERR_NONE);
        cr_assert_eq(value.i, 3);
        cr_assert_eq(fit(cases[i].type, value_dec(301, 2), &value), ERR_OUT_OF_RANGE);
    }
}

Test(value, times_stay_within_years_that_can_be_written)
{
    struct value value;
    int64_t first = INT64_C(-719528) * 86400000000;
    int64_t last = INT64_C(2932897) * 86400000000 - 1;
    cr_assert_eq(fit(TYPE_DATETIME, value_i64(first), &value), ERR_NONE);
    cr_assert_eq(fit(TYPE_DATETIME, value_i64(first - 1), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(fit(TYPE_TIMESTAMP, value_i64(last), &value), ERR_NONE);
    cr_assert_eq(fit(TYPE_TIMESTAMP, value_i64(last + 1), &value), ERR_OUT_OF_RANGE);
}

Test(value, null_fits_nullable_columns_only)
{
    struct column_def def = column(TYPE_INT, 0);
    struct value value = value_i64(5);
    cr_assert_eq(value_fit(&def, value_null(), &value), ERR_NULL_VALUE);
    cr_assert_eq(value.i, 5, "untouched on failure");
    def.nullable = true;
    cr_assert_eq(value_fit(&def, value_null(), &value), ERR_NONE);
    cr_assert(value_is_null(value));
}

Test(value, decimals_convert_only_when_nothing_is_lost)
{
    struct column_def def = column(TYPE_DECIMAL, 0);
    def.precision = 5;
    def.scale = 2;
    struct value value;
    cr_assert_eq(value_fit(&def, value_i64(-999), &value), ERR_NONE);
    cr_assert_eq(value.i, -99900);
    cr_assert_eq(value.scale, 2);
    cr_assert_eq(value_fit(&def, value_i64(1000), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(value_fit(&def, value_dec(12345, 2), &value), ERR_NONE);
    cr_assert_eq(value_fit(&def, value_dec(123450, 3), &value), ERR_NONE);
    cr_assert_eq(value.i, 12345);
    cr_assert_eq(value_fit(&def, value_dec(123451, 3), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(value_fit(&def, value_dec(5, 0), &value), ERR_NONE);
    cr_assert_eq(value.i, 500);
    cr_assert_eq(value_fit(&def, value_u64(UINT64_MAX), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(value_fit(&def, value_dec(1, 19), &value), ERR_INVALID);
    cr_assert_eq(value_fit(&def, value_f64(1), &value), ERR_INVALID);
}

Test(value, floats_are_finite_rounded_and_without_negative_zero)
{
    struct value value;
    cr_assert_eq(fit(TYPE_DOUBLE, value_f64(-0.0), &value), ERR_NONE);
    cr_assert_not(signbit(value.f));
    cr_assert_eq(fit(TYPE_FLOAT, value_f64(0.1), &value), ERR_NONE);
    cr_assert_eq(value.f, (double)0.1f);
    cr_assert_eq(fit(TYPE_FLOAT, value_f64(1e39), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(fit(TYPE_DOUBLE, value_f64(NAN), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(fit(TYPE_DOUBLE, value_f64(INFINITY), &value), ERR_OUT_OF_RANGE);
    cr_assert_eq(fit(TYPE_DOUBLE, value_u64(7), &value), ERR_NONE);
    cr_assert_eq(value.f, 7);
    cr_assert_eq(fit(TYPE_DOUBLE, value_dec(-15, 1), &value), ERR_NONE);
    cr_assert_eq(value.f, -1.5);
    cr_assert_eq(fit(TYPE_DOUBLE, value_text("1"), &value), ERR_INVALID);
}

Test(value, text_is_counted_in_characters_and_must_be_utf8)
{
    struct column_def def = column(TYPE_VARCHAR, 4 * 3);
    struct value value;
    cr_assert_eq(value_fit(&def, value_text("abc"), &value), ERR_NONE);
    cr_assert_eq(value_fit(&def, value_text("abcd"), &value), ERR_TOO_BIG);
    cr_assert_eq(value_fit(&def, value_text("\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9"), &value),
                 ERR_NONE);
    cr_assert_eq(value.size, 9);
    static const char *const bad[] = {"\xff",         "\xc0\x80",         "\xc3",
                                      "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80",
                                      "a\x80",        "\xf0\x80\x80\x80", "\xe2\x82"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(value_fit(&def, value_text(bad[i]), &value), ERR_INVALID, "%zu", i);
    def = column(TYPE_TEXT, 5);
    cr_assert_eq(value_fit(&def, value_text("abcde"), &value), ERR_NONE, "TEXT counts bytes");
    cr_assert_eq(value_fit(&def, value_text("abcdef"), &value), ERR_TOO_BIG);
    /* The word-wise path: a bad byte behind many good ones. */
    def = column(TYPE_TEXT, 100);
    char text[65];
    memset(text, 'x', 64);
    text[64] = 0;
    for (size_t i = 0; i < 64; i++) {
        text[i] = '\x80';
        cr_assert_eq(value_fit(&def, value_text(text), &value), ERR_INVALID);
        text[i] = 'x';
    }
}

Test(value, char_loses_trailing_spaces_and_binary_takes_any_bytes)
{
    struct column_def def = column(TYPE_CHAR, 4 * 2);
    struct value value;
    cr_assert_eq(value_fit(&def, value_text("a      "), &value), ERR_NONE);
    cr_assert_eq(value.size, 1);
    def = column(TYPE_BINARY, 3);
    cr_assert_eq(value_fit(&def, value_text("\xff\x80"), &value), ERR_NONE);
    cr_assert_eq(value.size, 2);
    cr_assert_eq(value_fit(&def, value_text("four"), &value), ERR_TOO_BIG);
    cr_assert_eq(value_fit(&def, value_str(NULL, 0), &value), ERR_NONE);
    cr_assert_eq(value_fit(&def, value_i64(1), &value), ERR_INVALID);
}

Test(value, compare_is_a_total_order)
{
    cr_assert_lt(value_compare(value_i64(-1), value_i64(1), COLLATION_BINARY), 0);
    cr_assert_gt(value_compare(value_u64(UINT64_MAX), value_u64(1), COLLATION_BINARY), 0);
    cr_assert_eq(value_compare(value_dec(10, 1), value_dec(100, 2), COLLATION_BINARY), 0);
    cr_assert_lt(value_compare(value_dec(-1, 18), value_dec(0, 0), COLLATION_BINARY), 0);
    cr_assert_gt(value_compare(value_dec(INT64_MAX, 0), value_dec(INT64_MAX, 18), COLLATION_BINARY),
                 0);
    cr_assert_eq(value_compare(value_f64(NAN), value_f64(NAN), COLLATION_BINARY), 0);
    cr_assert_gt(value_compare(value_f64(NAN), value_f64(INFINITY), COLLATION_BINARY), 0);
    cr_assert_lt(value_compare(value_f64(1), value_f64(NAN), COLLATION_BINARY), 0);
    cr_assert_eq(value_compare(value_text("ABc"), value_text("abC"), COLLATION_CASE_INSENSITIVE),
                 0);
    cr_assert_lt(value_compare(value_text("ABc"), value_text("abC"), COLLATION_BINARY), 0);
    cr_assert_lt(value_compare(value_text("a"), value_text("aa"), COLLATION_BINARY), 0);
    cr_assert_gt(value_compare(value_text("\xc3"), value_text("z"), COLLATION_BINARY), 0);
    cr_assert_lt(value_compare(value_str(NULL, 0), value_text("a"), COLLATION_BINARY), 0);
}
