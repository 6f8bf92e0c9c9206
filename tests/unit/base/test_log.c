/* Log lines stay lines; levels filter; a broken invariant ends the process. */
#include "base/log.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

static char text[256 * 1024];

/* Sends stderr and the log descriptor to files, for as long as the test runs. */
struct capture {
    FILE *stderr_file;
    FILE *log_file;
};

static void capture_start(struct capture *capture)
{
    capture->stderr_file = tmpfile();
    capture->log_file = tmpfile();
    cr_assert(capture->stderr_file && capture->log_file);
    dup2(fileno(capture->stderr_file), STDERR_FILENO);
}

static const char *file_text(FILE *file)
{
    rewind(file);
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    return text;
}

Test(log, lines_carry_the_level_and_escape_control_bytes)
{
    struct capture capture;
    capture_start(&capture);
    log_line(LOG_WARNING, "file '%s' is odd", "a\nb\x01");
    log_line(LOG_INFO, "ready");
    log_line(LOG_DEBUG, "not shown");
    cr_assert_str_eq(file_text(capture.stderr_file),
                     "trellis: warning: file 'a\\nb\\x01' is odd\ntrellis: ready\n");
}

Test(log, level_filters)
{
    struct capture capture;
    capture_start(&capture);
    log_set_level(LOG_ERROR);
    log_line(LOG_WARNING, "hidden");
    log_line(LOG_ERROR, "shown");
    log_set_level(LOG_DEBUG);
    log_line(LOG_DEBUG, "fine");
    cr_assert_str_eq(file_text(capture.stderr_file),
                     "trellis: error: shown\ntrellis: debug: fine\n");
}

Test(log, descriptor_gets_the_line_with_a_timestamp)
{
    struct capture capture;
    capture_start(&capture);
    log_set_fd(fileno(capture.log_file));
    log_line(LOG_INFO, "one");
    log_set_fd(-1);
    log_line(LOG_INFO, "two");
    cr_assert_str_eq(file_text(capture.stderr_file), "trellis: one\ntrellis: two\n");
    const char *line = file_text(capture.log_file);
    int year = 0, millisecond = 0, end = 0;
    cr_assert_eq(sscanf(line, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%3dZ trellis: one\n%n", &year,
                        &millisecond, &end),
                 2);
    cr_assert_geq(year, 2024);
    cr_assert_eq((size_t)end, strlen(line));
}

Test(log, long_text_is_cut_not_overrun)
{
    struct capture capture;
    capture_start(&capture);
    static char escapes[10000];
    memset(escapes, '\x02', sizeof(escapes) - 1);
    log_line(LOG_INFO, "%s", escapes);
    const char *line = file_text(capture.stderr_file);
    size_t size = strlen(line);
    cr_assert_gt(size, 4000u);
    cr_assert_eq(line[size - 1], '\n');
    cr_assert_eq(strchr(line, '\n'), line + size - 1);
}

enum { LINES_PER_THREAD = 500 };

static void *log_many(void *argument)
{
    for (int i = 0; i < LINES_PER_THREAD; i++)
        log_line(LOG_INFO, "thread %s says the same long thing again", (const char *)argument);
    return NULL;
}

Test(log, lines_of_threads_do_not_mix)
{
    struct capture capture;
    capture_start(&capture);
    /* The threads share one file offset, as they would a terminal. */
    pthread_t threads[2];
    cr_assert_eq(pthread_create(&threads[0], NULL, log_many, "aaaa"), 0);
    cr_assert_eq(pthread_create(&threads[1], NULL, log_many, "bbbb"), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    char *rest = (char *)file_text(capture.stderr_file);
    int count = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; count++) {
        cr_assert(!strcmp(line, "trellis: thread aaaa says the same long thing again") ||
                  !strcmp(line, "trellis: thread bbbb says the same long thing again"));
    }
    cr_assert_eq(count, 2 * LINES_PER_THREAD);
}

Test(check, failed_assertion_aborts, .signal = SIGABRT)
{
    volatile int one = 1;
    ASSERT(one == 2);
}

Test(check, held_assertion_does_nothing)
{
    volatile int one = 1;
    ASSERT(one == 1);
    ASSERT_SLOW(one == 1);
}
