/* Random queries in both dialects. */
#ifndef TESTS_SQL_GENERATE_H
#define TESTS_SQL_GENERATE_H

#include "tests/sql/compare.h"

/* The query of this seed; its texts are for free(). */
void generate_query(uint64_t seed, struct query *ret_query);

#endif
