/* What a case and its processes share with the runner. Private to the framework. */
#ifndef TESTS_POSIX_REPORT_H
#define TESTS_POSIX_REPORT_H

#include <stdatomic.h>

#include "tests/posix/suite.h"

enum {
    REPORT_LINE_SIZE_MAX = 400,
    REPORT_TEXT_SIZE = 8192,
    EXIT_ABORTED = 70, /* a requirement failed; it is in the report */
    EXIT_SKIPPED = 77,
};

struct report {
    _Atomic unsigned failures;
    _Atomic unsigned checks;
    _Atomic size_t used;
    uint64_t seed;
    const void *context;
    char skip_reason[200];
    char other_dir[PATH_MAX]; /* to be removed after the case */
    char text[REPORT_TEXT_SIZE];
};

extern struct report *report; /* shared memory, made by the runner */

#endif
