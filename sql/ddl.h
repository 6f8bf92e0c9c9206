/* DDL: from the syntax tree to table definitions, and the calls that make them. Private to sql/. */
#ifndef SQL_DDL_H
#define SQL_DDL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/diag.h"
#include "db/api/db.h"
#include "sql/ast.h"

struct sql_ddl {
    enum ast_statement_kind kind;
    const char *database;
    const char *name;        /* of the table */
    bool if_exists;          /* IF EXISTS, IF NOT EXISTS */
    struct table_def *table; /* CREATE TABLE; in the arena */
    struct index_def index;  /* CREATE INDEX, DROP INDEX (only its name) */
};

/* ERR_SYNTAX, ERR_BIND, ERR_INVALID, ERR_TABLE_UNKNOWN, ERR_NO_MEMORY with the place. The
 * definition is checked by table_def_check. */
MUST_USE enum err ddl_bind(const struct catalog *catalog, const char *database,
                           const struct ast_statement *statement, struct arena *arena,
                           struct sql_ddl **ret_ddl, struct diag *diag);
MUST_USE enum err ddl_run(struct db_client *client, const struct sql_ddl *ddl, struct diag *diag);
/* The CREATE TABLE statement that makes the table again. */
void ddl_create_table_text(const struct table_def *table, struct buf *buf);
/* "bigint unsigned", "varchar(255)": as DESCRIBE shows a column's type. */
void ddl_type_text(const struct column_def *column, struct buf *buf);

#endif
