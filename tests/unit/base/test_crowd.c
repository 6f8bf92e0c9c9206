/* How many threads want to run and how long this one is kept waiting, as the test makes it up; and
 * once in earnest. */
#include "base/crowd.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MS = 1000 * 1000 };

static void text_set(int fd, const char *text)
{
    cr_assert_eq(ftruncate(fd, 0), 0);
    cr_assert_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void count_set(const struct crowd *crowd, unsigned runnable)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "0.50 0.40 0.30 %u/321 4711\n", runnable);
    text_set(crowd->fd, text);
}

static void delay_set(const struct crowd *crowd, unsigned long ns)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "987654321 %lu 55\n", ns);
    text_set(crowd->delay_fd, text);
}

static void crowd_make(struct crowd *crowd)
{
    *crowd = (struct crowd){.fd = memfd_create("loadavg", MFD_CLOEXEC),
                            .delay_fd = memfd_create("schedstat", MFD_CLOEXEC),
                            .cores = 2};
    cr_assert(crowd->fd >= 0 && crowd->delay_fd >= 0);
    delay_set(crowd, 300 * MS);
}

Test(crowd, two_counts_in_a_row_are_believed)
{
    struct crowd crowd;
    crowd_make(&crowd);
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    delay_set(&crowd, 302 * MS);
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

Test(crowd, who_is_not_kept_waiting_is_in_no_crowd)
{
    struct crowd crowd;
    crowd_make(&crowd);
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    delay_set(&crowd, 301 * MS);
    cr_assert(!crowd_is_there(&crowd, 11 * MS), "1 ms of 10");
    delay_set(&crowd, 313 * MS);
    cr_assert(!crowd_is_there(&crowd, 111 * MS), "12 ms of 100");
    delay_set(&crowd, 326 * MS);
    cr_assert(crowd_is_there(&crowd, 211 * MS), "13 ms of 100");
    crowd_fini(&crowd);
}

Test(crowd, who_sleeps_in_a_crowd_feels_nothing_and_is_in_it_still)
{
    struct crowd crowd;
    crowd_make(&crowd);
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    delay_set(&crowd, 305 * MS);
    cr_assert(crowd_is_there(&crowd, 11 * MS));
    cr_assert(crowd_is_there(&crowd, 111 * MS));
    cr_assert(crowd_is_there(&crowd, 211 * MS));
    count_set(&crowd, 2);
    cr_assert(!crowd_is_there(&crowd, 311 * MS));
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 411 * MS));
    cr_assert(!crowd_is_there(&crowd, 421 * MS), "it is to be felt anew");
    crowd_fini(&crowd);
}

Test(crowd, without_word_of_the_delay_the_counts_decide)
{
    struct crowd crowd;
    crowd_make(&crowd);
    text_set(crowd.delay_fd, "");
    count_set(&crowd, 3);
    cr_assert(!crowd_is_there(&crowd, 1 * MS));
    cr_assert(crowd_is_there(&crowd, 11 * MS));
    crowd_fini(&crowd);
}

/* ---- in earnest ---- */

static atomic_bool busy_end;

static void *be_busy(void *context)
{
    while (!atomic_load_explicit(&busy_end, memory_order_relaxed))
        ;
    return context;
}

static uint64_t clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

Test(crowd, two_busy_threads_for_each_core_are_one, .timeout = 120)
{
    enum { THREADS_MAX = 512 };
    static pthread_t threads[THREADS_MAX];
    struct crowd crowd;
    crowd_init(&crowd);
    unsigned count = 2 * crowd.cores < THREADS_MAX ? 2 * crowd.cores : THREADS_MAX;
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, be_busy, NULL), 0);
    while (!crowd_is_there(&crowd, clock_ns()))
        ;
    atomic_store(&busy_end, true);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    crowd_fini(&crowd);
}

Test(crowd, what_cannot_be_read_is_no_crowd)
{
    struct crowd crowd;
    crowd_make(&crowd);
    const char *const texts[] = {"", "1", "a b c", "0.1 0.1 0.1 ", "0.1 0.1 0.1 x/y"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        text_set(crowd.fd, texts[i]);
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
