/* Hand-written queries. */
#ifndef TESTS_SQL_CASES_H
#define TESTS_SQL_CASES_H

struct written_case {
    const char *ours;
    const char *lite;    /* NULL: the same */
    const char *classes; /* of each column: e exact, f folded, n number, r rounded */
    int ordered;
};
extern const struct written_case written_cases[];
extern const int written_case_count;

#endif
