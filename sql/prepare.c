/* Preparing a statement: parse, bind, plan. Nothing runs here; the only thing read from outside is
 * the clock, once. */
#include "sql/prepare.h"

#include <time.h>

#include "sql/ast.h"
#include "sql/ddl.h"

int64_t prepare_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

enum err prepare_at(const struct catalog *catalog, uint16_t partition_count, const char *database,
                    const char *text, uint32_t size, int64_t now_us, struct arena *arena,
                    struct sql_statement *ret_statement, struct diag *diag)
{
    (void)partition_count;
    (void)now_us;
    struct ast_statement ast = {0};
    struct sql_statement statement = {0};
    uint32_t consumed = 0;
    enum err err = parse_statement(text, size, arena, &ast, &consumed, diag);
    if (err) return err;
    switch (ast.kind) {
    case AST_STATEMENT_EMPTY:
        statement.kind = SQL_EMPTY;
        break;
    case AST_STATEMENT_USE:
        statement.kind = SQL_USE;
        statement.use = ast.name.text;
        break;
    case AST_STATEMENT_CREATE_TABLE:
    case AST_STATEMENT_DROP_TABLE:
    case AST_STATEMENT_CREATE_INDEX:
    case AST_STATEMENT_DROP_INDEX:
        statement.kind = SQL_DDL;
        err = ddl_bind(catalog, database, &ast, arena, &statement.ddl, diag);
        break;
    default:
        err = diag_set_at(diag, ERR_UNSUPPORTED, 0, "not supported");
        break;
    }
    if (err) return err;
    statement.size = consumed;
    *ret_statement = statement;
    return ERR_NONE;
}
