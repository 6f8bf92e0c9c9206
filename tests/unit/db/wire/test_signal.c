#include <criterion/criterion.h>

#include "db/wire/schema.h"
#include "db/wire/signal.h"

static struct signal_header good(void)
{
    return (struct signal_header){
        .size = sizeof(struct signal_header) + 10,
        .type = SIGNAL_PROGRAM,
        .version = SIGNAL_VERSION,
        .source = ENDPOINT_CLIENT_FIRST,
        .destination = 3,
    };
}

Test(signal, check_takes_a_good_header)
{
    struct signal_header header = good();
    cr_assert_eq(signal_check(&header, header.size), ERR_NONE);
}

Test(signal, check_refuses_sizes_that_disagree_or_pass_the_limit)
{
    struct signal_header header = good();
    cr_assert_eq(signal_check(&header, header.size - 1), ERR_BAD_SIGNAL);
    cr_assert_eq(signal_check(&header, header.size + 1), ERR_BAD_SIGNAL);
    header.size = sizeof(header) - 1;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header.size = SIGNAL_SIZE_MAX + 1;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header.size = SIGNAL_SIZE_MAX;
    cr_assert_eq(signal_check(&header, header.size), ERR_NONE);
}

Test(signal, check_refuses_each_bad_member)
{
    struct signal_header header = good();
    header.type = 0;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header.type = SIGNAL_TYPE_MAX + 1;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.version = SIGNAL_VERSION + 1;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.source = ENDPOINTS_MAX;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.destination = ENDPOINTS_MAX;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.partition = PARTITIONS_MAX;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.reserved = 1;
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
    header = good();
    header.err = 29; /* no error has this number */
    cr_assert_eq(signal_check(&header, header.size), ERR_BAD_SIGNAL);
}
