/* Diagnostics stay one printable line, whatever they quote. */
#include "base/diag.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(diag, set_returns_the_error_and_fills)
{
    struct diag diag;
    cr_assert_eq(diag_set(&diag, ERR_SYNTAX, "expected %s", "FROM"), ERR_SYNTAX);
    cr_assert_eq(diag.err, ERR_SYNTAX);
    cr_assert_eq(diag.position, UINT32_MAX);
    cr_assert_str_eq(diag.text, "expected FROM");
    cr_assert_eq(diag_set_at(&diag, ERR_BIND, 17, "x"), ERR_BIND);
    cr_assert_eq(diag.position, 17);
}

Test(diag, null_only_passes_the_error_on)
{
    cr_assert_eq(diag_set(NULL, ERR_IO, "x"), ERR_IO);
    cr_assert_eq(diag_set_at(NULL, ERR_IO, 1, "x"), ERR_IO);
}

Test(diag, control_bytes_do_not_break_the_line)
{
    struct diag diag;
    (void)diag_set(&diag, ERR_BIND, "no column '%s'", "a\nb\x1b[31m\x7f");
    cr_assert_str_eq(diag.text, "no column 'a?b?[31m?'");
}

Test(diag, long_text_is_cut_between_characters)
{
    char name[DIAG_TEXT_SIZE_MAX * 2];
    struct diag diag;
    for (size_t shift = 0; shift < 2; shift++) {
        memset(name, 'x', sizeof(name));
        for (size_t i = shift; i + 2 < sizeof(name); i += 2)
            memcpy(name + i, "\xc3\xa9", 2);
        name[sizeof(name) - 1] = '\0';
        (void)diag_set(&diag, ERR_BIND, "%s", name);
        size_t size = strlen(diag.text);
        cr_assert_lt(size, (size_t)DIAG_TEXT_SIZE_MAX);
        cr_assert_geq(size, (size_t)DIAG_TEXT_SIZE_MAX - 4);
        cr_assert_str_eq(diag.text + size - 3, "...");
        unsigned char last = (unsigned char)diag.text[size - 4];
        cr_assert(last == 'x' || last == 0xa9, "the character before the dots is whole");
    }
}

Test(diag, can_wrap_its_own_text)
{
    struct diag diag;
    (void)diag_set(&diag, ERR_IO, "inner");
    (void)diag_set(&diag, ERR_CORRUPT, "outer: %s", diag.text);
    cr_assert_str_eq(diag.text, "outer: inner");
}
