/* Results of both engines as rows of cells, and whether they are the same. */
#ifndef TESTS_SQL_COMPARE_H
#define TESTS_SQL_COMPARE_H

#include <stdbool.h>

#include "tests/sql/data.h"

enum { COLUMNS_MAX = 16 };

/* How the values of an output column compare. */
enum output_class {
    OUTPUT_EXACT,  /* as text */
    OUTPUT_FOLDED, /* as text without case */
    OUTPUT_NUMBER, /* as numbers, exactly */
    OUTPUT_ROUND,  /* as numbers, to four digits behind the point and ten in all */
};

struct query {
    char *ours;
    char *lite;
    int column_count;
    enum output_class classes[COLUMNS_MAX];
    bool ordered; /* ORDER BY decides the place of every row */
};

/* Runs the query everywhere. Returns false after printing the query and the results that differ.
 * *ret_skipped: the query is out of range in RonSQL, where SQLite goes on with doubles. */
bool query_check(struct data *data, const struct query *query, bool verbose, bool *ret_skipped);

#endif
