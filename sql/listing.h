/* Rows known before anything runs: of EXPLAIN, SHOW and DESCRIBE. Private to sql/. */
#ifndef SQL_LISTING_H
#define SQL_LISTING_H

#include "base/arena.h"
#include "base/err.h"
#include "db/wire/schema.h"
#include "sql/ast.h"
#include "sql/plan.h"

struct listing {
    const char *const *columns; /* headings */
    uint32_t column_count;
    uint32_t row_count;
    uint32_t row_capacity;
    const char **cells; /* row by row; NULL is SQL's NULL */
};

/* Adds a row of column_count cells; the strings are borrowed. ERR_NO_MEMORY. */
MUST_USE enum err listing_add(struct listing *listing, struct arena *arena,
                              const char *const *cells);

/* explain.c: what the plan does, a row for each step. ERR_NO_MEMORY. */
MUST_USE enum err explain_plan(const struct plan *plan, struct arena *arena,
                               struct listing *ret_listing);
/* show.c: SHOW and DESCRIBE. ERR_TABLE_UNKNOWN with the place, ERR_NO_MEMORY. */
MUST_USE enum err show_statement(const struct catalog *catalog, const char *database,
                                 const struct ast_statement *statement, struct arena *arena,
                                 struct listing *ret_listing, struct diag *diag);

#endif
