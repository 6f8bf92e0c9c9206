/* Reading a script statement by statement. Private to sql/. */
#ifndef SQL_SCRIPT_H
#define SQL_SCRIPT_H

#include "base/arena.h"
#include "base/diag.h"
#include "sql/sql.h"

struct script {
    char *text; /* a copy that ends with a NUL */
    uint32_t size;
    uint32_t at;          /* where the next statement starts */
    uint32_t start;       /* where the current one does */
    int64_t now_us;       /* what NOW() gives in every statement */
    const char *database; /* the current one; USE changes it */
    char database_name[SCHEMA_NAME_SIZE_MAX + 1];
};

/* ERR_TOO_BIG, ERR_NO_MEMORY, ERR_INVALID (the database's name). */
MUST_USE enum err script_init(struct script *script, const char *text, size_t size,
                              const char *database, int64_t now_us, struct diag *diag);
void script_fini(struct script *script);
/* Prepares the next statement; ERR_END when there is none. Positions in diag count from the
 * script's start. */
MUST_USE enum err script_next(struct script *script, const struct catalog *catalog,
                              uint16_t partition_count, struct arena *arena,
                              struct sql_statement *ret_statement, struct diag *diag);
/* Follows a USE. */
void script_use(struct script *script, const char *database);
/* The source line and a caret under the place of diag; NULL without one or without memory. For
 * free(). */
char *script_caret(const struct script *script, const struct diag *diag);

#endif
