/* Running statements: the public calls of sql.h.
 *
 * Each statement is prepared against the catalog of its moment, run, and written before the next
 * one is read, so that a script may create the tables it then uses. A SELECT whose table changed
 * between preparing and running is prepared again, as long as nothing of it was written. */
#include "sql/sql.h"

#include <strings.h>

#include "base/check.h"
#include "sql/ddl.h"
#include "sql/format.h"
#include "sql/labels.h"
#include "sql/prepare.h"
#include "sql/script.h"

enum {
    STATEMENT_MEMORY_MAX = 512 << 20,
    PREPARE_TRIES_MAX = 5,
};

bool sql_explain_mode_by_name(const char *name, enum sql_explain_mode *ret_mode)
{
    static const char *const names[] = {[SQL_EXPLAIN_ALLOW] = "ALLOW",
                                        [SQL_EXPLAIN_FORBID] = "FORBID",
                                        [SQL_EXPLAIN_REQUIRE] = "REQUIRE",
                                        [SQL_EXPLAIN_REMOVE] = "REMOVE",
                                        [SQL_EXPLAIN_FORCE] = "FORCE"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcasecmp(names[i], name) != 0) continue;
        *ret_mode = (enum sql_explain_mode)i;
        return true;
    }
    return false;
}

/* What one statement needs while it runs. */
struct running {
    struct db_client *client;
    struct script script;
    struct arena arena;
    const struct catalog *catalog; /* acquired */
    struct sql_statement statement;
    const struct sql_options *options;
    struct sql_sink *sink;
    struct diag *diag;
};

static enum err running_init(struct running *running, struct db_client *client, const char *text,
                             size_t size, const char *database, struct diag *diag)
{
    *running = (struct running){.client = client, .diag = diag};
    arena_init(&running->arena, STATEMENT_MEMORY_MAX);
    return script_init(&running->script, text, size, database, prepare_now_us(), diag);
}

static void statement_release(struct running *running)
{
    if (running->catalog) db_catalog_release(db_client_db(running->client), running->catalog);
    running->catalog = NULL;
    arena_reset(&running->arena);
}

static void running_fini(struct running *running)
{
    statement_release(running);
    arena_fini(&running->arena);
    script_fini(&running->script);
}

/* Prepares the next statement of the script against the catalog now. ERR_END when there is none. */
static enum err statement_next(struct running *running)
{
    struct db *db = db_client_db(running->client);
    statement_release(running);
    running->catalog = db_catalog_acquire(db);
    return script_next(&running->script, running->catalog, db_partition_count(db), &running->arena,
                       &running->statement, running->diag);
}

/* The same statement again, from its start. */
static enum err statement_again(struct running *running)
{
    running->script.at = running->script.start;
    return statement_next(running);
}

static uint32_t statement_position(const struct running *running)
{
    return running->script.start + (uint32_t)running->statement.position;
}

/* Starts the SELECT, preparing it again when the catalog moved on in between. */
static enum err query_open(struct running *running, struct db_query **ret_query)
{
    enum err err = ERR_SCHEMA_CHANGED;
    for (int i = 0; i < PREPARE_TRIES_MAX; i++) {
        err = db_query_open(running->client, &running->statement.tree, ret_query, running->diag);
        if (err != ERR_SCHEMA_CHANGED) break;
        enum err again = statement_again(running);
        if (again) return again;
        if (running->statement.kind != SQL_SELECT && running->statement.kind != SQL_EXPLAIN)
            return err;
    }
    return err;
}

/* ---- writing ---- */

static enum err write_all(struct running *running, const char *text)
{
    return running->sink->write(running->sink, text, strlen(text));
}

static enum err write_rows(struct running *running, struct db_query *query,
                           struct formatter *formatter)
{
    for (;;) {
        const struct value *row;
        enum err err = db_query_next(query, &row, running->diag);
        if (err == ERR_END) return formatter_end(formatter);
        if (!err) err = formatter_row(formatter, row);
        if (err) return err;
    }
}

static enum err run_select(struct running *running)
{
    struct db_query *query = NULL;
    enum err err = query_open(running, &query);
    if (err) return err;
    const struct query_tree *tree = &running->statement.tree;
    struct format_column *columns =
        arena_new(&running->arena, struct format_column, tree->visible_count);
    if (!columns) {
        db_query_close(query);
        return diag_set(running->diag, ERR_NO_MEMORY, "out of memory");
    }
    for (uint16_t i = 0; i < tree->visible_count; i++)
        columns[i] = (struct format_column){.name = tree->outputs[i].name,
                                            .kind = tree->outputs[i].kind,
                                            .scale = tree->outputs[i].scale,
                                            .display = tree->outputs[i].display,
                                            .binary = running->statement.plan->binary[i]};
    uint32_t labelled = labels_column(running->options->labels, columns, tree->visible_count);
    if (labelled != LABELLED_NONE)
        return labels_write(running->options->labels, labelled, running->client, query, columns,
                            tree->visible_count, running->options->format, running->sink,
                            &running->arena, running->diag);
    struct formatter formatter;
    err = formatter_begin(&formatter, running->options->format, running->sink, columns,
                          tree->visible_count);
    if (!err) err = write_rows(running, query, &formatter);
    formatter_fini(&formatter);
    db_query_close(query);
    return err;
}

static enum err write_listing_rows(const struct listing *listing, struct formatter *formatter)
{
    struct value row[16];
    ASSERT(listing->column_count <= ARRAY_SIZE(row));
    for (uint32_t i = 0; i < listing->row_count; i++) {
        const char *const *cells = listing->cells + (size_t)i * listing->column_count;
        for (uint32_t j = 0; j < listing->column_count; j++)
            row[j] = cells[j] ? value_text(cells[j]) : value_null();
        enum err err = formatter_row(formatter, row);
        if (err) return err;
    }
    return formatter_end(formatter);
}

static enum err run_listing(struct running *running)
{
    const struct sql_plan *plan = running->statement.plan;
    const struct listing *listing = &plan->listing;
    if (plan->is_text && running->options->format == SQL_FORMAT_TABLE) {
        enum err err = write_all(running, listing->cells[listing->column_count - 1]);
        return err ? err : write_all(running, "\n");
    }
    struct format_column *columns =
        arena_new(&running->arena, struct format_column, listing->column_count);
    if (!columns) return diag_set(running->diag, ERR_NO_MEMORY, "out of memory");
    for (uint32_t i = 0; i < listing->column_count; i++)
        columns[i] = (struct format_column){.name = listing->columns[i], .kind = KIND_STR};
    struct formatter formatter;
    enum err err = formatter_begin(&formatter, running->options->format, running->sink, columns,
                                   listing->column_count);
    if (!err) err = write_listing_rows(listing, &formatter);
    formatter_fini(&formatter);
    return err;
}

/* ---- statements ---- */

static enum err run_query(struct running *running)
{
    bool explain = running->statement.kind == SQL_EXPLAIN;
    switch (running->options->explain_mode) {
    case SQL_EXPLAIN_ALLOW:
        break;
    case SQL_EXPLAIN_FORBID:
        if (explain)
            return diag_set_at(running->diag, ERR_DENIED, statement_position(running),
                               "EXPLAIN is forbidden here (explain mode FORBID)");
        break;
    case SQL_EXPLAIN_REQUIRE:
        if (!explain)
            return diag_set_at(running->diag, ERR_DENIED, statement_position(running),
                               "only EXPLAIN is allowed here (explain mode REQUIRE)");
        break;
    case SQL_EXPLAIN_REMOVE:
        explain = false;
        break;
    case SQL_EXPLAIN_FORCE:
        explain = true;
        break;
    }
    return explain ? run_listing(running) : run_select(running);
}

static enum err run_statement(struct running *running)
{
    const struct sql_options *options = running->options;
    bool required = options->explain_mode == SQL_EXPLAIN_REQUIRE;
    switch (running->statement.kind) {
    case SQL_EMPTY:
        return ERR_NONE;
    case SQL_USE:
        script_use(&running->script, running->statement.use);
        return ERR_NONE;
    case SQL_SELECT:
    case SQL_EXPLAIN:
        return run_query(running);
    case SQL_SHOW:
    case SQL_DDL:
        break;
    }
    if (required)
        return diag_set_at(running->diag, ERR_DENIED, statement_position(running),
                           "only EXPLAIN is allowed here (explain mode REQUIRE)");
    if (running->statement.kind == SQL_SHOW) return run_listing(running);
    if (!options->allow_ddl)
        return diag_set_at(running->diag, ERR_DENIED, statement_position(running),
                           "CREATE and DROP are for administrators");
    const struct sql_ddl *ddl = running->statement.ddl;
    if (options->keeps && ddl->kind == AST_STATEMENT_DROP_TABLE &&
        options->keeps(ddl->database, ddl->name))
        return diag_set_at(running->diag, ERR_DENIED, statement_position(running),
                           "%s.%s is the file system's own table and stays", ddl->database,
                           ddl->name);
    return ddl_run(running->client, ddl, running->diag);
}

/* Every error ends as one line, with a place when there is one. */
static enum err finish(struct diag *diag, enum err err)
{
    if (err == ERR_END) return ERR_NONE;
    if (err && diag->err != err) diag_set(diag, err, "%s", err_text(err));
    return err;
}

enum err sql_run(struct db_client *client, const char *text, size_t size,
                 const struct sql_options *options, struct sql_sink *sink, struct diag *diag,
                 char **ret_caret)
{
    struct diag local = {.position = UINT32_MAX};
    struct running running;
    if (!diag) diag = &local;
    if (ret_caret) *ret_caret = NULL;
    *diag = (struct diag){.position = UINT32_MAX};
    enum err err = running_init(&running, client, text, size, options->database, diag);
    running.options = options;
    running.sink = sink;
    while (!err) {
        err = statement_next(&running);
        if (!err) err = run_statement(&running);
    }
    err = finish(diag, err);
    if (err && ret_caret) *ret_caret = script_caret(&running.script, diag);
    running_fini(&running);
    return err;
}

enum err sql_ddl(struct db_client *client, const char *database, const char *text,
                 struct diag *diag)
{
    struct diag local = {.position = UINT32_MAX};
    struct running running;
    if (!diag) diag = &local;
    *diag = (struct diag){.position = UINT32_MAX};
    enum err err = running_init(&running, client, text, strlen(text), database, diag);
    while (!err) {
        err = statement_next(&running);
        if (err) break;
        if (running.statement.kind == SQL_DDL)
            err = ddl_run(client, running.statement.ddl, diag);
        else if (running.statement.kind == SQL_USE)
            script_use(&running.script, running.statement.use);
        else if (running.statement.kind != SQL_EMPTY)
            err = diag_set_at(diag, ERR_INVALID, statement_position(&running),
                              "expected CREATE or DROP");
    }
    err = finish(diag, err);
    running_fini(&running);
    return err;
}

/* ---- for programs ---- */

static enum err each_row(struct running *running, struct db_query *query,
                         enum err (*each)(void *context, const struct value *row, uint32_t count),
                         void *context)
{
    uint32_t count = running->statement.tree.visible_count;
    for (;;) {
        const struct value *row;
        enum err err = db_query_next(query, &row, running->diag);
        if (!err) err = each(context, row, count);
        if (err) return err;
    }
}

/* Prepares the only statement of the text, which must be a SELECT. */
static enum err prepare_one(struct running *running)
{
    enum err err;
    do
        err = statement_next(running);
    while (!err && running->statement.kind == SQL_EMPTY);
    if (err == ERR_END || (!err && running->statement.kind != SQL_SELECT))
        return diag_set_at(running->diag, ERR_INVALID, 0, "expected a SELECT");
    if (err) return err;
    const char *rest = running->script.text + running->script.at;
    if (rest[strspn(rest, " \t\r\n;")] != '\0')
        return diag_set_at(running->diag, ERR_INVALID, running->script.at,
                           "expected one SELECT only");
    return ERR_NONE;
}

enum err sql_query(struct db_client *client, const char *database, const char *text,
                   enum err (*each)(void *context, const struct value *row, uint32_t count),
                   void *context, struct diag *diag)
{
    struct diag local = {.position = UINT32_MAX};
    struct running running;
    struct db_query *query = NULL;
    if (!diag) diag = &local;
    *diag = (struct diag){.position = UINT32_MAX};
    enum err err = running_init(&running, client, text, strlen(text), database, diag);
    if (!err) err = prepare_one(&running);
    if (!err) err = query_open(&running, &query);
    if (!err) err = each_row(&running, query, each, context);
    db_query_close(query);
    err = finish(diag, err);
    running_fini(&running);
    return err;
}
