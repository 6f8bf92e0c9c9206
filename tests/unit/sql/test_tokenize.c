/* Tokens: what is taken as one, where it lies, what is refused. */
#include <string.h>

#include <criterion/criterion.h>

#include "sql/parse.h"
#include "sql/tokenize.h"

struct expected {
    int code;
    const char *text;
};

static void check(const char *text, const struct expected *expected, int count)
{
    struct tokenizer tokenizer = {.text = text, .size = (uint32_t)strlen(text)};
    for (int i = 0; i <= count; i++) {
        struct token token;
        const char *reason = NULL;
        int code = tokenize_next(&tokenizer, &token, &reason);
        if (i == count) {
            cr_assert_eq(code, 0, "%s: a token too many: %.*s", text, (int)token.size, token.text);
            return;
        }
        cr_assert_eq(code, expected[i].code, "%s: token %d is %d (%.*s)", text, i, code,
                     (int)token.size, token.text);
        cr_assert_eq(token.size, strlen(expected[i].text));
        cr_assert_arr_eq(token.text, expected[i].text, token.size);
        cr_assert_eq(token.text, text + token.position);
    }
}
#define CHECK(text, ...)                                                                           \
    do {                                                                                           \
        const struct expected list[] = {__VA_ARGS__};                                              \
        check((text), list, (int)(sizeof(list) / sizeof(list[0])));                                \
    } while (0)

static void check_bad(const char *text, uint32_t size, uint32_t position, const char *want)
{
    struct tokenizer tokenizer = {.text = text, .size = size};
    struct token token;
    const char *reason = NULL;
    int code;
    do
        code = tokenize_next(&tokenizer, &token, &reason);
    while (code > 0);
    cr_assert_eq(code, TOKEN_BAD, "%s", text);
    cr_assert_eq(token.position, position, "%s: at %u", text, token.position);
    cr_assert_str_eq(reason, want);
}

Test(tokenize, keywords_match_in_any_case_and_identifiers_may_contain_them)
{
    CHECK("SeLeCt selected `select` _x $1 naïve", {TK_SELECT, "SeLeCt"}, {TK_ID, "selected"},
          {TK_QUOTED_ID, "`select`"}, {TK_ID, "_x"}, {TK_ID, "$1"}, {TK_ID, "naïve"});
}

Test(tokenize, numbers_are_told_apart_by_their_shape)
{
    CHECK("1 23. .5 1.50 1e5 1.5E-3 .5e+2 7.x", {TK_INTEGER, "1"}, {TK_DECIMAL, "23."},
          {TK_DECIMAL, ".5"}, {TK_DECIMAL, "1.50"}, {TK_FLOAT, "1e5"}, {TK_FLOAT, "1.5E-3"},
          {TK_FLOAT, ".5e+2"}, {TOKEN_BAD, "7.x"});
}

Test(tokenize, strings_end_at_their_own_quote)
{
    CHECK("'a''b' 'a\\'b' \"it's\" 'x\\\\'", {TK_STRING, "'a''b'"}, {TK_STRING, "'a\\'b'"},
          {TK_STRING, "\"it's\""}, {TK_STRING, "'x\\\\'"});
}

Test(tokenize, hexadecimal_strings_have_whole_bytes)
{
    CHECK("X'00fF' x'' 0xAB", {TK_HEX, "X'00fF'"}, {TK_HEX, "x''"}, {TK_HEX, "0xAB"});
    check_bad("X'123'", 6, 0, "a hexadecimal string is pairs of digits between quotes: X'0aff'");
}

Test(tokenize, dates_are_keywords_in_front_of_a_quote_only)
{
    CHECK("DATE '2024-01-01' date timestamp\n'x' timestamp", {TK_DATE, "DATE"},
          {TK_STRING, "'2024-01-01'"}, {TK_ID, "date"}, {TK_TIMESTAMP, "timestamp"},
          {TK_STRING, "'x'"}, {TK_ID, "timestamp"});
}

Test(tokenize, comments_of_all_three_kinds_are_skipped)
{
    CHECK("1 -- x 'y\n2 # z\n3 /* * ' **/ 4 --\n5 --", {TK_INTEGER, "1"}, {TK_INTEGER, "2"},
          {TK_INTEGER, "3"}, {TK_INTEGER, "4"}, {TK_INTEGER, "5"});
    CHECK("1--2", {TK_INTEGER, "1"}, {TK_MINUS, "-"}, {TK_MINUS, "-"}, {TK_INTEGER, "2"});
}

Test(tokenize, operators_take_the_longest_match)
{
    CHECK("<=> <= < <> << != ! >= >> > = || | && & ^ ~ % @", {TK_NULLSAFE, "<=>"}, {TK_LE, "<="},
          {TK_LT, "<"}, {TK_NE, "<>"}, {TK_SHL, "<<"}, {TK_NE, "!="}, {TK_BANG, "!"}, {TK_GE, ">="},
          {TK_SHR, ">>"}, {TK_GT, ">"}, {TK_EQ, "="}, {TK_OR, "||"}, {TK_PIPE, "|"}, {TK_AND, "&&"},
          {TK_AMP, "&"}, {TK_CARET, "^"}, {TK_TILDE, "~"}, {TK_PERCENT, "%"}, {TK_AT, "@"});
}

Test(tokenize, what_does_not_end_is_marked_where_it_starts)
{
    check_bad("a 'bc", 5, 2, "string without an end");
    check_bad("a 'bc\\'", 7, 2, "string without an end");
    check_bad("a \"bc'", 6, 2, "string without an end");
    check_bad("a `bc", 5, 2, "quoted identifier without an end");
    check_bad("a /* bc *", 9, 2, "comment without an end");
    check_bad("``", 2, 0, "quoted identifier without an end");
}

Test(tokenize, what_is_not_of_the_language_is_refused_by_name)
{
    check_bad("a = ?", 5, 4, "placeholders are not supported: write the value");
    check_bad("1x", 2, 0, "malformed number");
    check_bad("/*! 1 */", 8, 0, "version comments /*! */ are not supported");
    check_bad("a->'$.b'", 8, 1, "JSON paths are not supported");
    check_bad("a := 1", 6, 2, "assignments to variables are not supported");
    check_bad("a \\ b", 5, 2, "unexpected character");
}

Test(tokenize, a_nul_byte_is_a_character_and_not_the_end)
{
    check_bad("1 \0 2", 5, 2, "a NUL byte");
    check_bad("'a\0b'", 5, 0, "string without an end");
    check_bad("-- a\0b", 6, 4, "a NUL byte");
}
