/* What of a prepared statement only sql/ sees. */
#ifndef SQL_PREPARE_H
#define SQL_PREPARE_H

#include "base/arena.h"
#include "base/diag.h"
#include "sql/listing.h"
#include "sql/sql.h"

struct sql_plan {
    struct listing listing; /* of EXPLAIN, SHOW and DESCRIBE; of a SELECT what EXPLAIN would show */
    bool is_text;           /* the last cell is a text of many lines: SHOW CREATE TABLE */
    bool *binary;           /* SELECT: of each visible output, it is shown as hexadecimal */
};

/* sql_prepare at a given time, of text where text[size] is NUL. */
MUST_USE enum err prepare_at(const struct catalog *catalog, uint16_t partition_count,
                             const char *database, const char *text, uint32_t size, int64_t now_us,
                             struct arena *arena, struct sql_statement *ret_statement,
                             struct diag *diag);
/* Microseconds since 1970-01-01 UTC. */
int64_t prepare_now_us(void);

#endif
