/* Formats: every kind of value in every format, streaming, and what a failing sink does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/sql/fixture.h"

#include "sql/format.h"

struct gathered {
    struct sql_sink sink;
    struct buf text;
    size_t writes;
    enum err fail;
};

static enum err gather(struct sql_sink *sink, const char *bytes, size_t size)
{
    struct gathered *gathered = (struct gathered *)sink;
    gathered->writes++;
    if (gathered->fail) return gathered->fail;
    buf_put(&gathered->text, bytes, size);
    return ERR_NONE;
}

static const struct format_column columns[] = {
    {.name = "n", .kind = KIND_I64},
    {.name = "text", .kind = KIND_STR},
    {.name = "d", .kind = KIND_DEC, .scale = 2},
    {.name = "when", .kind = KIND_I64, .display = TYPE_DATETIME, .scale = 3},
    {.name = "x", .kind = KIND_STR, .binary = true},
};
enum { COLUMNS = 5 };

static void run(struct gathered *gathered, enum sql_format format, const struct value *rows,
                uint32_t count)
{
    struct formatter formatter;
    *gathered = (struct gathered){.sink = {gather}};
    buf_init(&gathered->text);
    cr_assert_eq(formatter_begin(&formatter, format, &gathered->sink, columns, COLUMNS), ERR_NONE);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(formatter_row(&formatter, rows + (size_t)i * COLUMNS), ERR_NONE);
    cr_assert_eq(formatter_end(&formatter), ERR_NONE);
    formatter_fini(&formatter);
    buf_put_u8(&gathered->text, 0);
}

static void check(enum sql_format format, const struct value *rows, uint32_t count,
                  const char *expected)
{
    struct gathered gathered;
    run(&gathered, format, rows, count);
    cr_assert_str_eq((char *)gathered.text.bytes, expected);
    buf_fini(&gathered.text);
}

static const struct value *sample_rows(void)
{
    static struct value rows[2 * COLUMNS];
    rows[0] = value_i64(-12);
    rows[1] = value_text("a\t\"é\",\n\\ \x01\xff");
    rows[2] = value_dec(-5, 2);
    rows[3] = value_i64(1500000);
    rows[4] = value_str("\x00\xab", 2);
    for (int i = 0; i < COLUMNS; i++)
        rows[COLUMNS + i] = value_null();
    rows[COLUMNS + 1] = value_text("");
    return rows;
}

Test(format, table_aligns_numbers_right_and_escapes_what_moves_the_cursor)
{
    check(SQL_FORMAT_TABLE, sample_rows(), 2,
          "   n  text                     d  when                     x\n"
          "----  -------------------  -----  -----------------------  ----\n"
          " -12  a\\t\"é\",\\n\\ \\x01\\xff  -0.05  1970-01-01 00:00:01.500  00ab\n"
          "NULL                        NULL  NULL                     NULL\n");
}

Test(format, text_separates_by_tabs)
{
    check(SQL_FORMAT_TEXT, sample_rows(), 2,
          "n\ttext\td\twhen\tx\n"
          "-12\ta\\t\"é\",\\n\\\\ \x01\xff\t-0.05\t1970-01-01 00:00:01.500\t00ab\n"
          "NULL\t\tNULL\tNULL\tNULL\n");
    check(SQL_FORMAT_TEXT_NOHEADER, sample_rows() + COLUMNS, 1, "NULL\t\tNULL\tNULL\tNULL\n");
}

Test(format, csv_quotes_as_rfc_4180)
{
    check(SQL_FORMAT_CSV, sample_rows(), 2,
          "n,text,d,when,x\r\n"
          "-12,\"a\t\"\"é\"\",\n\\ \x01\xff\",-0.05,1970-01-01 00:00:01.500,00ab\r\n"
          ",\"\",,,\r\n");
}

Test(format, json_has_one_object_a_line)
{
    check(SQL_FORMAT_JSON, sample_rows(), 2,
          "{\"data\":[\n"
          "{\"n\":-12,\"text\":\"a\\t\\\"é\\\",\\n\\\\ \\u0001\xef\xbf\xbd\",\"d\":-0.05,"
          "\"when\":\"1970-01-01 00:00:01.500\",\"x\":\"00ab\"},\n"
          "{\"n\":null,\"text\":\"\",\"d\":null,\"when\":null,\"x\":null}\n]}\n");
    check(SQL_FORMAT_JSON, NULL, 0, "{\"data\":[]}\n");
}

Test(format, json_ascii_escapes_with_surrogates)
{
    struct value row[COLUMNS] = {value_null(), value_text("é😀\xf0\x9f")};
    check(SQL_FORMAT_JSON_ASCII, row, 1,
          "{\"data\":[\n{\"n\":null,\"text\":\"\\u00e9\\ud83d\\ude00\\ufffd\\ufffd\",\"d\":null,"
          "\"when\":null,\"x\":null}\n]}\n");
}

Test(format, an_empty_result_has_a_heading)
{
    check(SQL_FORMAT_TABLE, NULL, 0, "n  text  d  when  x\n-  ----  -  ----  -\n");
    check(SQL_FORMAT_TEXT, NULL, 0, "n\ttext\td\twhen\tx\n");
    check(SQL_FORMAT_CSV, NULL, 0, "n,text,d,when,x\r\n");
    check(SQL_FORMAT_TEXT_NOHEADER, NULL, 0, "");
}

Test(format, wide_and_combining_characters_are_measured)
{
    cr_assert_eq(format_width('a'), 1);
    cr_assert_eq(format_width(0x4e2d), 2);
    cr_assert_eq(format_width(0x301), 0);
    uint32_t size;
    cr_assert_eq(format_code_point((const uint8_t *)"\xc0\x80", 2, &size), UINT32_MAX);
    cr_assert_eq(format_code_point((const uint8_t *)"\xed\xa0\x80", 3, &size), UINT32_MAX);
    cr_assert_eq(format_code_point((const uint8_t *)"\xf4\x90\x80\x80", 4, &size), UINT32_MAX);
    cr_assert_eq(format_code_point((const uint8_t *)"\xe4\xb8\xad", 3, &size), 0x4e2d);
    cr_assert_eq(size, 3);
}

Test(format, doubles_read_back_and_decimals_keep_zeros)
{
    static const struct {
        struct value value;
        const char *text;
    } expected[] = {{{.kind = KIND_F64, .f = 0.1}, "0.1"},
                    {{.kind = KIND_F64, .f = 1e20}, "1e20"},
                    {{.kind = KIND_F64, .f = 1e-7}, "1e-7"},
                    {{.kind = KIND_F64, .f = 1.0 / 3},
                     "0.333333333333333"
                     "3"},
                    {{.kind = KIND_F64, .f = -3}, "-3"},
                    {{.kind = KIND_F64, .f = 5e-324}, "5e-324"},
                    {{.kind = KIND_DEC, .scale = 3, .i = 7}, "0.007"},
                    {{.kind = KIND_DEC, .scale = 0, .i = -70}, "-70"},
                    {{.kind = KIND_DEC, .scale = 18, .i = INT64_C(-999999999999999999)},
                     "-0.999999999999999999"},
                    {{.kind = KIND_U64, .u = UINT64_MAX}, "18446744073709551615"},
                    {{.kind = KIND_I64, .i = INT64_MIN}, "-9223372036854775808"}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct buf buf;
        struct format_column column = {.kind = expected[i].value.kind};
        buf_init(&buf);
        format_value(&column, expected[i].value, &buf);
        buf_put_u8(&buf, 0);
        cr_expect_str_eq((char *)buf.bytes, expected[i].text);
        buf_fini(&buf);
    }
}

Test(format, a_number_that_is_not_finite_is_null_in_json)
{
    struct gathered gathered = {.sink = {gather}};
    struct formatter formatter;
    struct format_column column = {.name = "f", .kind = KIND_F64};
    struct value value = value_f64(INFINITY);
    buf_init(&gathered.text);
    cr_assert_eq(formatter_begin(&formatter, SQL_FORMAT_JSON, &gathered.sink, &column, 1),
                 ERR_NONE);
    cr_assert_eq(formatter_row(&formatter, &value), ERR_NONE);
    cr_assert_eq(formatter_end(&formatter), ERR_NONE);
    formatter_fini(&formatter);
    buf_put_u8(&gathered.text, 0);
    cr_assert_str_eq((char *)gathered.text.bytes, "{\"data\":[\n{\"f\":null}\n]}\n");
    buf_fini(&gathered.text);
}

Test(format, rows_stream_and_a_table_keeps_its_first_widths)
{
    enum { ROWS = 200000 };
    struct format_column column = {.name = "n", .kind = KIND_I64};
    struct gathered gathered = {.sink = {gather}};
    struct formatter formatter;
    buf_init(&gathered.text);
    cr_assert_eq(formatter_begin(&formatter, SQL_FORMAT_TABLE, &gathered.sink, &column, 1),
                 ERR_NONE);
    for (int i = 0; i < ROWS; i++) {
        struct value value = value_i64(i);
        cr_assert_eq(formatter_row(&formatter, &value), ERR_NONE);
        cr_assert_leq(formatter.out.capacity, 4 * FORMAT_PIECE_SIZE);
    }
    cr_assert_gt(gathered.writes, 5);
    cr_assert_eq(formatter_end(&formatter), ERR_NONE);
    formatter_fini(&formatter);
    /* Held rows decided on four columns; later numbers stand out at the right. */
    cr_assert_arr_eq(gathered.text.bytes, "   n\n----\n   0\n", 15);
    cr_assert_arr_eq(gathered.text.bytes + gathered.text.size - 7, "199999\n", 7);
    buf_fini(&gathered.text);
}

Test(format, a_failing_sink_stops_the_result)
{
    struct gathered gathered = {.sink = {gather}, .fail = ERR_CLOSED};
    struct formatter formatter;
    enum err err = formatter_begin(&formatter, SQL_FORMAT_TEXT, &gathered.sink, columns, COLUMNS);
    for (int i = 0; i < 10000 && !err; i++)
        err = formatter_row(&formatter, sample_rows());
    cr_assert_eq(err, ERR_CLOSED);
    cr_assert_eq(gathered.writes, 1);
    formatter_fini(&formatter);
}

Test(format, names_match_in_any_case)
{
    enum sql_format format;
    enum sql_explain_mode mode;
    cr_assert(sql_format_by_name("json_ascii", &format));
    cr_assert_eq(format, SQL_FORMAT_JSON_ASCII);
    cr_assert(sql_format_by_name("TABLE", &format));
    cr_assert_not(sql_format_by_name("XML", &format));
    cr_assert(sql_explain_mode_by_name("Force", &mode));
    cr_assert_eq(mode, SQL_EXPLAIN_FORCE);
    cr_assert_not(sql_explain_mode_by_name("", &mode));
}
