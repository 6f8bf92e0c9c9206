/* What expressions mean: each is prepared, its bytecode run by the scalar interpreter over one row,
 * and its value compared as text. So the binder's casts are tested by their results. */
#include <stdio.h>
#include <stdlib.h>

#include "db/ldm/expr.h"
#include "sql/datetime.h"
#include "sql/format.h"
#include "tests/unit/sql/fixture.h"

/* The one row of table t. */
static struct value row_column(const void *context, uint8_t source, uint16_t column)
{
    const struct table_def *table = context;
    const char *name = table->columns[column].name;
    cr_assert_eq(source, 0);
    if (strcmp(name, "id") == 0) return value_i64(1);
    if (strcmp(name, "i") == 0) return value_i64(-7);
    if (strcmp(name, "b") == 0) return value_i64(9000000000);
    if (strcmp(name, "u") == 0) return value_u64(UINT64_MAX);
    if (strcmp(name, "su") == 0) return value_u64(500);
    if (strcmp(name, "f") == 0) return value_f64(2.5);
    if (strcmp(name, "d") == 0) return value_dec(1234, 2);
    if (strcmp(name, "s") == 0) return value_text("Hello");
    if (strcmp(name, "ci") == 0) return value_text("World");
    if (strcmp(name, "c") == 0) return value_text("abc");
    if (strcmp(name, "x") == 0) return value_str("\x01\x02\x03\x04", 4);
    int64_t number = 0;
    uint8_t digits;
    if (strcmp(name, "dd") == 0) {
        cr_assert(date_parse("2024-02-29", 10, &number));
        return value_i64(number);
    }
    if (strcmp(name, "dt") == 0) {
        cr_assert(datetime_parse("2024-02-29 12:34:56.789", 23, &number, &digits));
        return value_i64(number);
    }
    return value_null();
}

/* The value as text, or the name of the error. */
static const char *evaluate(struct fixture *fixture, const char *expr)
{
    char text[2000];
    snprintf(text, sizeof(text), "SELECT %s FROM t", expr);
    enum err err = fixture_prepare(fixture, text);
    if (err) return arena_printf(&fixture->arena, "%s %s", err_name(err), fixture->diag.text);

    /* What the executor would check before it runs. */
    struct buf buf;
    struct query_tree tree;
    buf_init(&buf);
    query_encode(&fixture->statement.tree, &buf);
    char *bytes = arena_copy(&fixture->arena, buf.bytes, buf.size);
    struct reader reader = reader_of(bytes, buf.size);
    err = query_decode(&reader, &fixture->catalog, &fixture->arena, &tree);
    cr_assert_eq(err, ERR_NONE, "%s does not decode: %s", text, err_name(err));
    buf_fini(&buf);

    const struct query_output *output = &tree.outputs[0];
    const struct table_def *table = catalog_find(&fixture->catalog, "fs", "t");
    struct value value;
    err = expr_eval(&output->expr, row_column, table, &fixture->arena, &value);
    if (err) return err_name(err);
    if (value_is_null(value)) return "NULL";
    cr_assert_eq(value.kind, output->kind, "%s: kind %u, not %u", text, value.kind, output->kind);
    if (value.kind == KIND_DEC) cr_assert_eq(value.scale, output->scale, "%s: scale", text);
    struct format_column column = {.kind = output->kind,
                                   .scale = output->scale,
                                   .display = output->display,
                                   .binary = fixture->statement.plan->binary[0]};
    buf_init(&buf);
    format_value(&column, value, &buf);
    char *result = arena_copy(&fixture->arena, buf.bytes, buf.size);
    buf_fini(&buf);
    return result;
}

struct expected {
    const char *expr;
    const char *value;
};

static void check(struct fixture *fixture, const struct expected *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = evaluate(fixture, expected[i].expr);
        cr_expect_str_eq(value, expected[i].value, "%s gives %s, not %s", expected[i].expr, value,
                         expected[i].value);
    }
}
#define CHECK(...)                                                                                 \
    do {                                                                                           \
        const struct expected list[] = {__VA_ARGS__};                                              \
        check(fixture, list, sizeof(list) / sizeof(list[0]));                                      \
    } while (0)

FIXTURE_TEST(values, integers_keep_their_signedness)
{
    CHECK({"i + 1", "-6"}, {"i * b", "-63000000000"}, {"b - i", "9000000007"}, {"-i", "7"},
          {"su + 1", "501"}, {"su - 500", "0"}, {"su - 501", "ERR_OUT_OF_RANGE"}, {"su + i", "493"},
          {"i + su", "493"}, {"su - i", "507"}, {"i - su", "ERR_OUT_OF_RANGE"},
          {"b - su", "8999999500"}, {"u + 0", "18446744073709551615"},
          {"u + 1", "ERR_OUT_OF_RANGE"}, {"u + i", "18446744073709551608"}, {"u - u", "0"},
          {"-su", "-500"}, {"-u", "ERR_OUT_OF_RANGE"}, {"su * i", "ERR_OUT_OF_RANGE"},
          {"su * 2", "1000"}, {"- 9223372036854775808", "-9223372036854775808"},
          {"b * b", "ERR_OUT_OF_RANGE"}, {"n + 1", "NULL"}, {"NULL + i", "NULL"});
}

FIXTURE_TEST(values, division_is_decimal_and_by_zero_null)
{
    CHECK({"7 / 2", "3.5000"}, {"i / 2", "-3.5000"}, {"1 / 3", "0.3333"}, {"2 / 3", "0.6667"},
          {"su / 7", "71.4286"}, {"d / 3", "4.113333"}, {"f / 2", "1.25"}, {"i / 0", "NULL"},
          {"f / 0", "NULL"}, {"i DIV 2", "-3"}, {"su DIV 7", "71"}, {"i MOD 4", "-3"},
          {"i % 0", "NULL"}, {"i DIV 0", "NULL"}, {"su % i", "3"}, {"d % 5", "2.34"},
          {"f % 2", "0.5"}, {"MOD(17, 5)", "2"}, {"s / 2", "0"}, {"'5' / 2", "2.5"});
}

FIXTURE_TEST(values, decimals_keep_their_digits)
{
    CHECK({"d + 1", "13.34"}, {"d * d", "152.2756"}, {"d * 2", "24.68"}, {"d - 0.001", "12.339"},
          {"1.10 + 2", "3.10"}, {"0.5 * 0.5", "0.25"}, {"d + f", "14.84"}, {"-d", "-12.34"},
          {"d * 1.0000000001", "12.340000001234"}, {"d * 1.000000000000001", "ERR_OUT_OF_RANGE"},
          {"d * d * d * d * d * d * d * d * d * d",
           "ERR_BIND the product has 20 digits behind the point, more than 18: CAST one side AS "
           "DOUBLE"},
          {"ROUND(d, 1)", "12.3"}, {"ROUND(d)", "12"}, {"ROUND(12.355, 2)", "12.36"},
          {"ROUND(-12.5)", "-13"}, {"FLOOR(-12.1)", "-13"}, {"CEIL(-12.9)", "-12"},
          {"FLOOR(f)", "2"}, {"CEIL(f)", "3"}, {"ABS(-d)", "12.34"}, {"ABS(i)", "7"},
          {"CAST(d AS SIGNED)", "12"}, {"CAST(f AS SIGNED)", "3"}, {"CAST(-2.5 AS SIGNED)", "-3"},
          {"CAST(i AS DECIMAL(10,3))", "-7.000"}, {"CAST(d AS DOUBLE)", "12.34"});
}

FIXTURE_TEST(values, bits_are_unsigned)
{
    CHECK({"su & 15", "4"}, {"i & 255", "249"}, {"~0", "18446744073709551615"},
          {"~su", "18446744073709551115"}, {"i | 0", "18446744073709551609"},
          {"1 << 40", "1099511627776"}, {"su >> 2", "125"}, {"su << 64", "0"},
          {"su >> id + 63", "0"}, {"5 ^ 3", "6"}, {"n & 1", "NULL"},
          {"CAST(i AS UNSIGNED)", "18446744073709551609"}, {"CAST(u AS SIGNED)", "-1"},
          {"CAST(-1 AS UNSIGNED)", "18446744073709551615"},
          {"CAST(18446744073709551615 AS SIGNED)", "-1"}, {"X'ff' + 1", "256"}, {"f & 7", "3"});
}

FIXTURE_TEST(values, comparisons_are_exact_between_all_kinds_of_numbers)
{
    CHECK({"i < u", "1"}, {"u > i", "1"}, {"u = i", "0"}, {"i <=> u", "0"}, {"i <> u", "1"},
          {"u = 18446744073709551615", "1"}, {"u > 9223372036854775807", "1"}, {"su = 500", "1"},
          {"su > -1", "1"}, {"su = -1", "0"}, {"su <> -1", "1"}, {"su < -1", "0"},
          {"i > -7.5", "1"}, {"i >= -7.5", "1"}, {"i = -7.0", "1"}, {"i = -7.5", "0"},
          {"i < -6.5", "1"}, {"i <= -7.5", "0"}, {"i < 1e30", "1"}, {"i > -1e30", "1"},
          {"su < 1e30", "1"}, {"d = 12.34", "1"}, {"d = 12.340", "1"}, {"d = 12.341", "0"},
          {"d < 12.341", "1"}, {"d > 12.339", "1"}, {"d = 12", "0"}, {"d > 12", "1"},
          {"f = 2.5", "1"}, {"f > 2", "1"}, {"f = su", "0"}, {"d < su", "1"}, {"i = '-7'", "1"},
          {"i = '-7abc'", "1"}, {"s = 0", "1"}, {"n = 1", "NULL"}, {"n <=> NULL", "1"},
          {"i <=> NULL", "0"}, {"n = NULL", "NULL"}, {"u > -1.5", "1"}, {"n > -1.5", "NULL"},
          {"su IN (1, 500.0, -3)", "1"}, {"su IN (1, 500.5)", "0"}, {"su NOT IN (1, NULL)", "NULL"},
          {"su IN (500, NULL)", "1"}, {"i IN (-1, -2.5)", "0"}, {"n IN (1, 2)", "NULL"},
          {"d IN (12.34, 1)", "1"}, {"i IN ('-7', 3)", "1"}, {"i IN (b, -7)", "1"},
          {"i BETWEEN -8 AND -6.5", "1"}, {"i NOT BETWEEN 0 AND 5", "1"},
          {"n BETWEEN 1 AND 2", "NULL"}, {"i BETWEEN 0 AND n", "0"});
}

FIXTURE_TEST(values, text_compares_by_its_collation)
{
    CHECK({"s = 'Hello'", "1"}, {"s = 'hello'", "0"}, {"ci = 'wORLD'", "1"}, {"ci = s", "0"},
          {"s = 'hello' COLLATE utf8mb4_general_ci", "1"},
          {"ci = 'world' COLLATE utf8mb4_bin", "0"}, {"s LIKE 'He%o'", "1"}, {"s LIKE 'he%'", "0"},
          {"ci LIKE 'wor__'", "1"}, {"s LIKE 'Hell'", "0"}, {"s NOT LIKE '%x%'", "1"},
          {"'50%' LIKE '50|%' ESCAPE '|'", "1"}, {"'a_b' LIKE 'a\\_b'", "1"},
          {"'axb' LIKE 'a\\_b'", "0"}, {"i LIKE '-%'", "1"}, {"n LIKE 'x'", "NULL"},
          {"s IN ('a', 'Hello')", "1"}, {"ci IN ('a', 'WORLD')", "1"}, {"s < 'Hf'", "1"},
          {"'a' = 'A'", "0"}, {"INSTR(s, 'l')", "3"}, {"INSTR(ci, 'L')", "4"},
          {"INSTR(s, 'L')", "0"}, {"LOCATE('o', s)", "5"});
}

FIXTURE_TEST(values, text_functions_count_code_points)
{
    CHECK({"LENGTH('né')", "3"}, {"CHAR_LENGTH('né')", "2"}, {"UPPER(s)", "HELLO"},
          {"LOWER(s)", "hello"}, {"SUBSTR(s, 2)", "ello"}, {"SUBSTRING(s, 2, 3)", "ell"},
          {"SUBSTRING(s FROM -3 FOR 2)", "ll"}, {"SUBSTR(s, 0)", ""}, {"LEFT(s, 2)", "He"},
          {"LEFT(s, -1)", ""}, {"RIGHT(s, 2)", "lo"}, {"RIGHT(s, 9)", "Hello"}, {"RIGHT(s, 0)", ""},
          {"CONCAT(s, ' ', i, '/', d)", "Hello -7/12.34"}, {"CONCAT(s, n)", "NULL"},
          {"LENGTH(i)", "2"}, {"CAST(f AS CHAR)", "2.5"}, {"CAST(s AS CHAR(3))", "Hel"},
          {"EXTENSION('a.tar.GZ')", "gz"}, {"EXTENSION('.bashrc')", ""}, {"x", "01020304"},
          {"'a' 'b'", "ab"}, {"s + 1", "1"}, {"'12abc' + 1", "13"}, {"n IS NULL", "1"},
          {"s IS NOT NULL", "1"}, {"ISNULL(n)", "1"});
}

FIXTURE_TEST(values, logic_has_three_values)
{
    CHECK({"NULL AND 0", "0"}, {"n AND 0", "0"}, {"n AND 1", "NULL"}, {"n OR 1", "1"},
          {"n OR 0", "NULL"}, {"NOT n", "NULL"}, {"NOT i", "0"}, {"!0", "1"}, {"i AND f", "1"},
          {"i XOR 1", "0"}, {"n XOR 1", "NULL"}, {"0 XOR 5", "1"}, {"i IS TRUE", "1"},
          {"n IS TRUE", "0"}, {"n IS NOT TRUE", "1"}, {"0 IS FALSE", "1"}, {"n IS FALSE", "0"},
          {"n IS UNKNOWN", "1"}, {"s AND 1", "0"}, {"'1' OR 0", "1"}, {"i && 1 || 0", "1"},
          {"i = -7 OR i = 5 OR i IN (1, 2)", "1"}, {"TRUE + TRUE", "2"});
}

FIXTURE_TEST(values, choices_bring_their_branches_to_one_kind)
{
    CHECK({"IF(i < 0, 'neg', 'pos')", "neg"}, {"IF(n, 1, 2)", "2"}, {"IF(1, i, d)", "-7.00"},
          {"IF(i, su, 1)", "500"}, {"IFNULL(n, 3)", "3"}, {"COALESCE(n, NULL, s)", "Hello"},
          {"COALESCE(n, f, 1)", "2.5"}, {"NULLIF(i, -7)", "NULL"}, {"NULLIF(i, 1)", "-7"},
          {"CASE WHEN i > 0 THEN 1 WHEN i < 0 THEN 2.50 END", "2.50"},
          {"CASE i WHEN 1 THEN 'a' WHEN -7 THEN 'b' ELSE 'c' END", "b"},
          {"CASE WHEN n THEN 1 END", "NULL"}, {"CASE n WHEN NULL THEN 1 ELSE 0 END", "0"},
          {"IF(1, s, i)", "Hello"}, {"IF(0, s, i)", "-7"}, {"IF(0, i, su)", "500"},
          {"IF(1, NULL, d)", "NULL"}, {"COALESCE(NULLIF(s, 'Hello'), ci)", "World"},
          {"IF(0, i, u)",
           "ERR_BIND signed and unsigned BIGINTs in one result: CAST one side AS SIGNED or AS "
           "UNSIGNED"});
}

FIXTURE_TEST(values, dates_are_shown_and_moved_as_dates)
{
    CHECK(
        {"dd", "2024-02-29"}, {"dt", "2024-02-29 12:34:56.789"}, {"DATE(dt)", "2024-02-29"},
        {"YEAR(dt)", "2024"}, {"MONTH(dd)", "2"}, {"DAY(dt)", "29"}, {"HOUR(dt)", "12"},
        {"MINUTE(dt)", "34"}, {"SECOND(dt)", "56"}, {"dd + INTERVAL 1 DAY", "2024-03-01"},
        {"dd - INTERVAL i DAY", "2024-03-07"},
        {"dt + INTERVAL 90 MINUTE", "2024-02-29 14:04:56.789"},
        {"dd + INTERVAL 1 HOUR", "2024-02-29 01:00:00"},
        {"DATE '2024-01-31' + INTERVAL 1 MONTH", "2024-02-29"},
        {"DATE '2024-02-29' - INTERVAL 1 YEAR", "2023-02-28"},
        {"TIMESTAMP '1969-12-31 23:59:58.5'", "1969-12-31 23:59:58.5"},
        {"DATE(TIMESTAMP '1969-12-31 23:59:58.5')", "1969-12-31"},
        {"HOUR(TIMESTAMP '1969-12-31 23:59:58')", "23"},
        {"UNIX_TIMESTAMP(TIMESTAMP '1970-01-02 00:00:01')", "86401"},
        {"UNIX_TIMESTAMP(dt)", "1709210096.789000"}, {"UNIX_TIMESTAMP()", "1700000000"},
        {"NOW()", "2023-11-14 22:13:20"}, {"NOW(3)", "2023-11-14 22:13:20.000"},
        {"CURRENT_TIMESTAMP", "2023-11-14 22:13:20"}, {"CURDATE()", "2023-11-14"},
        {"FROM_UNIXTIME(1700000000)", "2023-11-14 22:13:20"},
        {"FROM_UNIXTIME(b)", "2255-03-14 16:00:00"},
        {"FROM_UNIXTIME(1.25)", "1970-01-01 00:00:01.250000"}, {"dd = '2024-02-29'", "1"},
        {"dt > '2024-02-29'", "1"}, {"dt > dd", "1"}, {"dd = '2024-02-29 00:00:00'", "1"},
        {"dd < '2024-02-29 10:00:00'", "1"}, {"dt BETWEEN '2024-02-01' AND '2024-03-01'", "1"},
        {"dd IN ('2024-02-29', '2024-01-01')", "1"}, {"CAST(dd AS CHAR)", "2024-02-29"},
        {"CONCAT(dt, '')", "2024-02-29 12:34:56.789"}, {"IF(1, dd, dt)", "2024-02-29 00:00:00.000"},
        {"IFNULL(NULL, dd)", "2024-02-29"}, {"CAST(dt AS DATE)", "2024-02-29"},
        {"n + INTERVAL 1 DAY", "ERR_BIND INTERVAL is added to a DATE, DATETIME or TIMESTAMP"},
        {"dd + 1", "ERR_BIND a date and a number: write x + INTERVAL 1 DAY, or UNIX_TIMESTAMP(x)"},
        {"dd = 20240229",
         "ERR_BIND a date compared with a number: write DATE 'YYYY-MM-DD', or compare "
         "UNIX_TIMESTAMP(x)"},
        {"dd = 'x'",
         "ERR_BIND 'x' is compared with a date but is none: write 'YYYY-MM-DD' or 'YYYY-MM-DD "
         "hh:mm:ss'"});
}

FIXTURE_TEST(values, file_system_functions)
{
    CHECK({"HOME(u)", "65535"}, {"HOME(137438953472)", "1"}, {"SIZE_CLASS(1)", "0"},
          {"SIZE_CLASS(0)", "-1"}, {"SIZE_CLASS(4096)", "12"}, {"SIZE_CLASS(4097)", "12"},
          {"SIZE_CLASS(i)", "-1"}, {"SIZE_CLASS(u)", "63"},
          {"LOG2(8)", "ERR_NOT_PUSHABLE LOG2 is not pushable: SIZE_CLASS(x) is its whole part"});
}

FIXTURE_TEST(values, constants_out_of_range_are_found_when_preparing)
{
    CHECK({"9223372036854775807 + 1", "ERR_OUT_OF_RANGE a constant expression is out of range"},
          {"18446744073709551616", "ERR_OUT_OF_RANGE the integer is larger than 64 bits"},
          {"1e308 * 10", "ERR_OUT_OF_RANGE a constant expression is out of range"},
          {"1.0000000000000000001",
           "ERR_OUT_OF_RANGE a decimal number has at most 18 digits: write it with an exponent "
           "(1.5e0)"});
}
