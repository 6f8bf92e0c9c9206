/* Errors: texts, names, conversions, classes. */
#include "base/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

static const enum err all[] = {
#define ERR_VALUE(name, number, text) name,
    ERR_LIST(ERR_VALUE)
#undef ERR_VALUE
};
enum { ALL_COUNT = sizeof(all) / sizeof(all[0]) };

Test(err, every_error_has_a_name_and_a_text)
{
    for (int i = 0; i < ALL_COUNT; i++) {
        cr_assert_eq(strncmp(err_name(all[i]), "ERR_", 4), 0);
        cr_assert_str_neq(err_name(all[i]), "ERR_UNKNOWN");
        cr_assert_str_neq(err_text(all[i]), "unknown error");
        cr_assert(err_is_known((unsigned)all[i]));
    }
    cr_assert_str_eq(err_name(ERR_NOT_FOUND), "ERR_NOT_FOUND");
    cr_assert_str_eq(err_text(ERR_ENOENT), "no such file or directory");
}

Test(err, numbers_outside_the_list_are_unknown)
{
    cr_assert_not(err_is_known(29));
    cr_assert_not(err_is_known(1000));
    cr_assert_not(err_is_known(1003));
    cr_assert_not(err_is_known(UINT32_MAX));
    cr_assert_str_eq(err_text((enum err)29), "unknown error");
    cr_assert_str_eq(err_name((enum err)29), "ERR_UNKNOWN");
}

Test(err, errno_of_a_failed_call_becomes_ours)
{
    cr_assert_eq(err_from_errno(0), ERR_IO, "a failed call never becomes success");
    cr_assert_eq(err_from_errno(ENOSPC), ERR_NO_SPACE);
    cr_assert_eq(err_from_errno(EDQUOT), ERR_NO_SPACE);
    cr_assert_eq(err_from_errno(ENOMEM), ERR_NO_MEMORY);
    cr_assert_eq(err_from_errno(ENOENT), ERR_NOT_FOUND);
    cr_assert_eq(err_from_errno(EEXIST), ERR_EXISTS);
    cr_assert_eq(err_from_errno(EACCES), ERR_DENIED);
    cr_assert_eq(err_from_errno(EPERM), ERR_DENIED);
    cr_assert_eq(err_from_errno(ENOTDIR), ERR_IO);
}

Test(err, file_system_errors_keep_their_errno)
{
    cr_assert_eq(err_to_errno(ERR_NONE), 0);
    cr_assert_eq(err_to_errno(ERR_ENOTEMPTY), ENOTEMPTY);
    cr_assert_eq(err_to_errno(ERR_EDQUOT), EDQUOT);
    cr_assert_eq(err_to_errno(ERR_NO_SPACE), ENOSPC);
    cr_assert_eq(err_to_errno(ERR_CONFLICT), EAGAIN);
    cr_assert_eq(err_to_errno(ERR_CORRUPT), EIO);
    for (int i = 0; i < ALL_COUNT; i++) {
        int number = err_to_errno(all[i]);
        cr_assert(number >= 0 && number < 4096);
        cr_assert_eq(number == 0, all[i] == ERR_NONE, "an error never becomes success");
    }
}

Test(err, unknown_outcome_is_not_retryable)
{
    cr_assert_not(err_is_retryable(ERR_OUTCOME_UNKNOWN));
    cr_assert_not(err_is_retryable(ERR_NONE));
    cr_assert_not(err_is_retryable(ERR_GUARD));
    cr_assert(err_is_retryable(ERR_CONFLICT));
    cr_assert(err_is_retryable(ERR_BUSY));
}
