/* Running statements: the public calls of sql.h.
 *
 * Each statement is prepared against the catalog of its moment, run, and written before the next
 * one is read, so that a script may create the tables it then uses. */
#include "sql/sql.h"

#include "sql/ddl.h"
#include "sql/prepare.h"
#include "sql/script.h"

enum { STATEMENT_MEMORY_MAX = 512 << 20 };

/* Prepares the next statement of the script against the catalog now. The catalog stays acquired when there is no
 * error. */
static enum err statement_next(struct script *script, struct db_client *client, struct arena *arena,
                               const struct catalog **ret_catalog,
                               struct sql_statement *ret_statement, struct diag *diag)
{
    struct db *db = db_client_db(client);
    const struct catalog *catalog = db_catalog_acquire(db);
    enum err err =
        script_next(script, catalog, db_partition_count(db), arena, ret_statement, diag);
    if (err) {
        db_catalog_release(db, catalog);
        return err;
    }
    *ret_catalog = catalog;
    return ERR_NONE;
}

enum err sql_ddl(struct db_client *client, const char *database, const char *text,
                 struct diag *diag)
{
    struct script script;
    struct arena arena;
    enum err err = script_init(&script, text, strlen(text), database, prepare_now_us(), diag);
    if (err) return err;
    arena_init(&arena, STATEMENT_MEMORY_MAX);
    for (;;) {
        const struct catalog *catalog;
        struct sql_statement statement;
        err = statement_next(&script, client, &arena, &catalog, &statement, diag);
        if (err) break;
        if (statement.kind == SQL_DDL) err = ddl_run(client, statement.ddl, diag);
        else if (statement.kind == SQL_USE) script_use(&script, statement.use);
        else if (statement.kind != SQL_EMPTY)
            err = diag_set_at(diag, ERR_INVALID, script.start, "expected CREATE or DROP");
        db_catalog_release(db_client_db(client), catalog);
        arena_reset(&arena);
        if (err) break;
    }
    arena_fini(&arena);
    script_fini(&script);
    return err == ERR_END ? ERR_NONE : err;
}
