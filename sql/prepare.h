/* What of a prepared statement only sql/ sees. */
#ifndef SQL_PREPARE_H
#define SQL_PREPARE_H

#include "base/arena.h"
#include "base/diag.h"
#include "sql/sql.h"

/* Rows known before anything runs: of EXPLAIN, SHOW and DESCRIBE. */
struct listing {
    const char *const *columns;
    uint32_t column_count;
    uint32_t row_count;
    uint32_t row_capacity;
    const char **cells; /* row by row; NULL is SQL's NULL */
};

/* How an output column is shown, beside what its struct query_output says. */
struct sql_plan {
    struct listing listing;
    bool *binary; /* a flag for each visible output: a BINARY type */
};

/* Adds a row of column_count cells; the strings are borrowed. ERR_NO_MEMORY. */
MUST_USE enum err listing_add(struct listing *listing, struct arena *arena,
                              const char *const *cells);

/* sql_prepare at a given time, of text where text[size] is NUL. */
MUST_USE enum err prepare_at(const struct catalog *catalog, uint16_t partition_count,
                             const char *database, const char *text, uint32_t size, int64_t now_us,
                             struct arena *arena, struct sql_statement *ret_statement,
                             struct diag *diag);
int64_t prepare_now_us(void);

#endif
