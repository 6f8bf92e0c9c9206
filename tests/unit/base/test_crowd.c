/* How many threads want to run, with a count that the test makes up. */
#include "base/crowd.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MS = 1000 * 1000 };

static void count_set(const struct crowd *crowd, unsigned runnable)
{
    char text[64];
    int size = snprintf(text, sizeof(text), "0.50 0.40 0.30 %u/321 4711\n", runnable);
    cr_assert_eq(ftruncate(crowd->fd, 0), 0);
    cr_assert_eq(pwrite(crowd->fd, text, (size_t)size, 0), size);
}

static void crowd_make(struct crowd *crowd)
{
    *crowd = (struct crowd){.fd = memfd_create("loadavg", MFD_CLOEXEC), .cores = 2};
    cr_assert_geq(crowd->fd, 0);
}

Test(crowd, two_counts_in_a_row_are_believed)
{
    struct crowd crowd;
    crowd_make(&crowd);
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    cr_assert(!crowd_is_there(&crowd, 10 * MS), "too early for the second count");
    cr_assert(crowd_is_there(&crowd, 11 * MS));
    count_set(&crowd, 2);
    cr_assert(crowd_is_there(&crowd, 110 * MS), "not read again yet");
    cr_assert(!crowd_is_there(&crowd, 112 * MS));
    crowd_fini(&crowd);
}

Test(crowd, a_moment_is_no_crowd)
{
    struct crowd crowd;
    crowd_make(&crowd);
    count_set(&crowd, 30);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    count_set(&crowd, 1);
    cr_assert(!crowd_is_there(&crowd, 12 * MS));
    count_set(&crowd, 30);
    cr_assert(!crowd_is_there(&crowd, 113 * MS));
    crowd_fini(&crowd);
}

Test(crowd, what_cannot_be_read_is_no_crowd)
{
    struct crowd crowd;
    crowd_make(&crowd);
    const char *const texts[] = {"", "1", "a b c", "0.1 0.1 0.1 ", "0.1 0.1 0.1 x/y"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert_eq(ftruncate(crowd.fd, 0), 0);
        cr_assert_eq(pwrite(crowd.fd, texts[i], strlen(texts[i]), 0), (ssize_t)strlen(texts[i]));
        cr_assert(!crowd_is_there(&crowd, (1000 * i + 1) * MS));
        cr_assert(!crowd_is_there(&crowd, (1000 * i + 500) * MS));
    }
    crowd_fini(&crowd);
    cr_assert(!crowd_is_there(&crowd, 100000UL * MS), "closed");
    crowd_fini(&crowd);
    crowd_init(&crowd);
    cr_assert_geq(crowd.fd, 0, "this system counts");
    crowd_fini(&crowd);
}
