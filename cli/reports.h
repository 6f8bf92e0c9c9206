/* The named reports: each file of cli/reports, built into the program. */
#ifndef CLI_REPORTS_H
#define CLI_REPORTS_H

#include <stddef.h>

struct report {
    const char *name; /* the file's name without .sql */
    const char *text; /* the whole file: a heading of comment lines, then one or two statements */
};
extern const struct report reports[];
extern const size_t report_count;

#endif
