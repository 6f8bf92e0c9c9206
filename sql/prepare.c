/* Preparing a statement: parse, bind, plan. Nothing runs here; the only thing read from outside is
 * the clock, once for a script. */
#include "sql/prepare.h"

#include <time.h>

#include "base/check.h"
#include "sql/ast.h"
#include "sql/bound.h"
#include "sql/ddl.h"
#include "sql/plan.h"

int64_t prepare_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct preparing {
    const struct catalog *catalog;
    uint16_t partition_count;
    const char *database;
    const char *text;
    int64_t now_us;
    struct arena *arena;
    struct diag *diag;
};

static enum err prepare_select(const struct preparing *preparing, const struct ast_select *select,
                               struct sql_statement *statement)
{
    struct bound_query *query;
    struct plan *plan;
    struct arena *arena = preparing->arena;
    enum err err = bind_select(preparing->catalog, preparing->database, preparing->now_us,
                               preparing->text, select, arena, &query, preparing->diag);
    if (err) return err;
    err = plan_query(preparing->catalog, preparing->partition_count, query, arena, &statement->tree,
                     &plan, preparing->diag);
    if (err) return err;
    statement->plan = arena_zalloc(arena, sizeof(*statement->plan));
    bool *binary = arena_new(arena, bool, query->visible_count);
    if (!statement->plan || !binary)
        return diag_set(preparing->diag, ERR_NO_MEMORY, "out of memory");
    for (uint16_t i = 0; i < query->visible_count; i++) {
        const struct bound *expr = query->outputs[i].expr;
        binary[i] = expr->kind == KIND_STR && expr->binary;
    }
    statement->plan->binary = binary;
    err = explain_plan(plan, arena, &statement->plan->listing);
    return err ? diag_set(preparing->diag, err, "%s", err_text(err)) : ERR_NONE;
}

static enum err prepare_show(const struct preparing *preparing, const struct ast_statement *ast,
                             struct sql_statement *statement)
{
    statement->plan = arena_zalloc(preparing->arena, sizeof(*statement->plan));
    if (!statement->plan) return diag_set(preparing->diag, ERR_NO_MEMORY, "out of memory");
    statement->plan->is_text = ast->kind == AST_STATEMENT_SHOW_CREATE_TABLE;
    return show_statement(preparing->catalog, preparing->database, ast, preparing->arena,
                          &statement->plan->listing, preparing->diag);
}

static enum err prepare_use(const struct preparing *preparing, const struct ast_name *name,
                            struct sql_statement *statement)
{
    if (strlen(name->text) > SCHEMA_NAME_SIZE_MAX)
        return diag_set_at(preparing->diag, ERR_INVALID, name->position,
                           "the name of a database has at most %d bytes", SCHEMA_NAME_SIZE_MAX);
    statement->use = name->text;
    return ERR_NONE;
}

enum err prepare_at(const struct catalog *catalog, uint16_t partition_count, const char *database,
                    const char *text, uint32_t size, int64_t now_us, struct arena *arena,
                    struct sql_statement *ret_statement, struct diag *diag)
{
    struct preparing preparing = {.catalog = catalog,
                                  .partition_count = partition_count,
                                  .database = database,
                                  .text = text,
                                  .now_us = now_us,
                                  .arena = arena,
                                  .diag = diag};
    struct ast_statement ast = {0};
    struct sql_statement statement = {0};
    uint32_t consumed = 0;
    enum err err = parse_statement(text, size, arena, &ast, &consumed, diag);
    if (err) return err;
    switch (ast.kind) {
    case AST_STATEMENT_EMPTY:
        statement.kind = SQL_EMPTY;
        break;
    case AST_STATEMENT_SELECT:
    case AST_STATEMENT_EXPLAIN:
        statement.kind = ast.kind == AST_STATEMENT_SELECT ? SQL_SELECT : SQL_EXPLAIN;
        err = prepare_select(&preparing, ast.select, &statement);
        break;
    case AST_STATEMENT_USE:
        statement.kind = SQL_USE;
        err = prepare_use(&preparing, &ast.name, &statement);
        break;
    case AST_STATEMENT_SHOW_TABLES:
    case AST_STATEMENT_SHOW_DATABASES:
    case AST_STATEMENT_SHOW_CREATE_TABLE:
    case AST_STATEMENT_DESCRIBE:
        statement.kind = SQL_SHOW;
        err = prepare_show(&preparing, &ast, &statement);
        break;
    case AST_STATEMENT_CREATE_TABLE:
    case AST_STATEMENT_DROP_TABLE:
    case AST_STATEMENT_CREATE_INDEX:
    case AST_STATEMENT_DROP_INDEX:
        statement.kind = SQL_DDL;
        err = ddl_bind(catalog, database, &ast, arena, &statement.ddl, diag);
        break;
    }
    if (err) return err;
    statement.size = consumed;
    statement.position = ast.position;
    *ret_statement = statement;
    return ERR_NONE;
}

enum err sql_prepare(const struct catalog *catalog, uint16_t partition_count, const char *database,
                     const char *text, size_t size, struct arena *arena,
                     struct sql_statement *ret_statement, struct diag *diag)
{
    if (size > SQL_TEXT_SIZE_MAX)
        return diag_set(diag, ERR_TOO_BIG, "the statement is larger than %d bytes",
                        SQL_TEXT_SIZE_MAX);
    char *copy = arena_copy(arena, text, size);
    if (!copy) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    if (diag) diag->position = UINT32_MAX;
    return prepare_at(catalog, partition_count, database ? database : "fs", copy, (uint32_t)size,
                      prepare_now_us(), arena, ret_statement, diag);
}
