/* Expectations: each counts itself in the report that the case shares with the runner, and writes a
 * line there when it fails. */
#include "tests/posix/report.h"

#include <stdarg.h>
#include <stdlib.h>

struct report *report;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void fail_at(struct place place, const char *format, ...)
{
    char line[REPORT_LINE_SIZE_MAX];
    int used = snprintf(line, sizeof(line), "%s:%d: ", base_name(place.file), place.line);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, arguments);
    va_end(arguments);
    size_t size = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (size > sizeof(line) - 2) size = sizeof(line) - 2;
    line[size++] = '\n';
    atomic_fetch_add(&report->failures, 1);
    size_t at = atomic_fetch_add(&report->used, size);
    /* Several processes may write; what no longer fits is only counted. */
    if (at + size < sizeof(report->text)) memcpy(report->text + at, line, size);
}

bool expect_at(struct place place, bool good, const char *text)
{
    atomic_fetch_add(&report->checks, 1);
    if (!good) fail_at(place, "not so: %s", text);
    return good;
}

static const char *error_name(int error)
{
    const char *name = error ? strerrorname_np(error) : "success";
    return name ? name : "an unknown error";
}

long expect_ok_at(struct place place, long result, const char *text)
{
    int error = errno;
    atomic_fetch_add(&report->checks, 1);
    if (result == -1) fail_at(place, "%s: failed with %s", text, error_name(error));
    errno = error;
    return result;
}

void expect_err_at(struct place place, long result, int error, int other_error, const char *text)
{
    int found = errno;
    atomic_fetch_add(&report->checks, 1);
    if (result != -1) {
        fail_at(place, "%s: returned %ld instead of failing with %s", text, result,
                error_name(error));
    } else if (found != error && found != other_error) {
        fail_at(place, "%s: failed with %s instead of %s", text, error_name(found),
                error_name(error));
    }
    errno = found;
}

void expect_eq_at(struct place place, long long left, long long right, const char *left_text,
                  const char *right_text)
{
    atomic_fetch_add(&report->checks, 1);
    if (left != right)
        fail_at(place, "%s is %lld (0%llo), not %s = %lld (0%llo)", left_text, left,
                (unsigned long long)left, right_text, right, (unsigned long long)right);
}

void expect_str_at(struct place place, const char *left, const char *right, const char *text)
{
    atomic_fetch_add(&report->checks, 1);
    if (strcmp(left, right) != 0) fail_at(place, "%s is \"%s\", not \"%s\"", text, left, right);
}

void case_skip(const char *reason)
{
    snprintf(report->skip_reason, sizeof(report->skip_reason), "%s", reason);
    _exit(EXIT_SKIPPED);
}

void case_abort(void)
{
    _exit(EXIT_ABORTED);
}

const void *case_context(void)
{
    return report->context;
}

uint64_t case_seed(void)
{
    return report->seed;
}
