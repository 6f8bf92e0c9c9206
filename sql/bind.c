/* Binding a SELECT: tables, outputs, conditions, groups, order, in the order in which names become
 * visible.
 *
 * Everything is first bound over the tables. When the query aggregates, outputs, HAVING and ORDER
 * BY are then rewritten over group keys and aggregates: a subexpression that is a group key becomes
 * a reference to it, and a column left over is refused, as in MySQL's ONLY_FULL_GROUP_BY. A column
 * of a table whose whole primary key is grouped by depends on it: it becomes one more group key. */
#include "sql/bound.h"

#include <strings.h>

#include "base/check.h"
#include "sql/parse.h"

/* ---- FROM ---- */

static bool bind_table(struct binder *binder, const struct ast *ast)
{
    struct bound_query *query = binder->query;
    if (query->table_count == QUERY_SOURCES_MAX) {
        bind_fail(binder, ERR_TOO_BIG, ast->position, "more than %d tables", QUERY_SOURCES_MAX);
        return false;
    }
    const char *database = ast->database ? ast->database : binder->database;
    const struct table_def *def = catalog_find(binder->catalog, database, ast->name);
    if (!def) {
        bind_fail(binder, ERR_TABLE_UNKNOWN, ast->position, "no table %.64s.%.64s", database,
                  ast->name);
        return false;
    }
    struct bound_table table = {.def = def, .position = ast->position};
    table.has_alias = ast->table != NULL;
    table.alias = ast->table ? ast->table : def->name;
    for (uint16_t i = 0; i < query->table_count; i++) {
        if (strcasecmp(query->tables[i].alias, table.alias) != 0) continue;
        bind_fail(binder, ERR_BIND, ast->position,
                  "two tables are called '%.64s': give one an alias", table.alias);
        return false;
    }
    query->tables[query->table_count++] = table;
    return true;
}

/* ---- the select list ---- */

static bool output_add(struct binder *binder, const char *name, struct bound *expr, uint32_t start,
                       uint32_t end)
{
    struct bound_query *query = binder->query;
    if (!expr) return false;
    if (query->output_count == QUERY_OUTPUTS_MAX) {
        bind_fail(binder, ERR_TOO_BIG, start, "more than %d columns in the result",
                  QUERY_OUTPUTS_MAX);
        return false;
    }
    if (expr->kind == KIND_NULL) expr = type_cast(binder, expr, KIND_I64, 0);
    if (!expr) return false;
    query->outputs[query->output_count++] =
        (struct bound_output){.name = name, .expr = expr, .start = start, .end = end};
    return true;
}

static bool bind_star(struct binder *binder, const struct ast *ast)
{
    struct bound_query *query = binder->query;
    bool found = false;
    for (uint16_t i = 0; i < query->table_count; i++) {
        const struct bound_table *table = &query->tables[i];
        if (ast->table && strcasecmp(ast->table, table->alias) != 0) continue;
        if (ast->database &&
            (table->has_alias || strcasecmp(ast->database, table->def->database) != 0))
            continue;
        found = true;
        for (uint16_t j = 0; j < table->def->column_count; j++)
            if (!output_add(binder, table->def->columns[j].name, bound_column(binder, i, j),
                            ast->start, ast->end))
                return false;
    }
    if (!found) bind_fail(binder, ERR_BIND, ast->start, "unknown table '%.64s'", ast->table);
    return found;
}

/* The heading of an item without an alias: a column's own name, a text literal's text, else the
 * expression as it was written. */
static const char *heading(struct binder *binder, const struct ast *ast)
{
    if (ast->kind == AST_NAME) return ast->name;
    const char *text;
    if (ast->kind == AST_LITERAL && ast->value.kind == KIND_STR && !ast->hex && !ast->display)
        text = arena_copy(binder->arena, ast->value.bytes ? (const char *)ast->value.bytes : "",
                          ast->value.size);
    else
        text = arena_copy(binder->arena, binder->query->text + ast->start, ast->end - ast->start);
    if (!text) bind_fail(binder, ERR_NO_MEMORY, ast->start, "out of memory");
    return text;
}

static bool bind_items(struct binder *binder, const struct ast_select *select)
{
    binder->clause = CLAUSE_SELECT;
    for (uint32_t i = 0; i < select->items.count; i++) {
        const struct ast *item = select->items.items[i];
        if (item->kind == AST_STAR) {
            if (!bind_star(binder, item)) return false;
            continue;
        }
        const struct ast *ast = item->args[0];
        struct bound *expr = bind_expr(binder, ast);
        const char *name = !expr ? NULL : item->name ? item->name : heading(binder, ast);
        if (!name || !output_add(binder, name, expr, ast->start, ast->end)) return false;
    }
    binder->query->visible_count = binder->query->output_count;
    return true;
}

/* ---- WHERE and ON ---- */

static bool conjunct_add(struct binder *binder, struct bound *expr, uint32_t start, uint32_t end)
{
    struct bound_query *query = binder->query;
    if (!expr) return false;
    /* BETWEEN is one condition in the text and two here: each may bound an index. */
    if (expr->op == EXPR_AND && expr->arg_count == 2)
        return conjunct_add(binder, expr->args[0], start, end) &&
               conjunct_add(binder, expr->args[1], start, end);
    if (query->conjunct_count == query->conjunct_capacity) {
        uint32_t capacity = query->conjunct_capacity ? query->conjunct_capacity * 2 : 16;
        struct conjunct *grown = arena_new(binder->arena, struct conjunct, capacity);
        if (!grown) {
            bind_fail(binder, ERR_NO_MEMORY, start, "out of memory");
            return false;
        }
        if (query->conjunct_count)
            memcpy(grown, query->conjuncts, query->conjunct_count * sizeof(*grown));
        query->conjuncts = grown;
        query->conjunct_capacity = capacity;
    }
    query->conjuncts[query->conjunct_count++] =
        (struct conjunct){.expr = expr, .start = start, .end = end};
    return true;
}

static bool bind_conditions(struct binder *binder, const struct ast *ast)
{
    if (ast->kind == AST_AND) {
        for (uint32_t i = 0; i < ast->arg_count; i++)
            if (!bind_conditions(binder, ast->args[i])) return false;
        return true;
    }
    struct bound *expr = type_truth(binder, bind_expr(binder, ast), ast->position);
    return conjunct_add(binder, expr, ast->start, ast->end);
}

static bool bind_where(struct binder *binder, const struct ast_select *select)
{
    binder->clause = CLAUSE_ON;
    for (uint32_t i = 0; i < select->tables.count; i++) {
        const struct ast *table = select->tables.items[i];
        if (table->arg_count && !bind_conditions(binder, table->args[0])) return false;
    }
    binder->clause = CLAUSE_WHERE;
    return !select->where || bind_conditions(binder, select->where);
}

/* ---- GROUP BY ---- */

/* A position in the select list, 1 and up; false when the expression is no whole number. */
static bool position_of(const struct ast *ast, uint64_t *ret_position)
{
    if (ast->kind != AST_LITERAL || ast->op != TK_INTEGER) return false;
    *ret_position = ast->value.u;
    return true;
}

static struct bound *bind_position(struct binder *binder, const struct ast *ast, uint64_t position,
                                   const char *clause)
{
    const struct bound_query *query = binder->query;
    if (position < 1 || position > query->visible_count)
        return bind_fail(binder, ERR_BIND, ast->position, "%s %llu: the result has columns 1 to %u",
                         clause, (unsigned long long)position, query->visible_count);
    return query->outputs[position - 1].expr;
}

static bool group_add(struct binder *binder, struct bound *expr, const struct ast *ast)
{
    struct bound_query *query = binder->query;
    uint32_t position = ast ? ast->position : UINT32_MAX;
    if (!expr) return false;
    if (expr->kind == KIND_NULL) expr = type_cast(binder, expr, KIND_I64, 0);
    if (!expr) return false;
    for (uint16_t i = 0; i < query->group_count; i++)
        if (query->groups[i] == expr) return true;
    if (query->group_count == QUERY_GROUPS_MAX) {
        bind_fail(binder, ERR_TOO_BIG, position, "more than %d group keys", QUERY_GROUPS_MAX);
        return false;
    }
    query->group_texts[query->group_count] =
        (struct conjunct){.expr = expr, .start = ast ? ast->start : 0, .end = ast ? ast->end : 0};
    query->groups[query->group_count++] = expr;
    return true;
}

static bool bind_groups(struct binder *binder, const struct ast_select *select)
{
    struct bound_query *query = binder->query;
    binder->clause = CLAUSE_GROUP;
    for (uint32_t i = 0; i < select->group.count; i++) {
        const struct ast *ast = select->group.items[i];
        uint64_t position;
        struct bound *expr = position_of(ast, &position)
                                 ? bind_position(binder, ast, position, "GROUP BY")
                                 : bind_expr(binder, ast);
        if (!expr) return false;
        if (expr->group_refs) {
            bind_fail(binder, ERR_BIND, ast->position, "no aggregates in GROUP BY: use HAVING");
            return false;
        }
        if (!group_add(binder, expr, ast)) return false;
        query->has_aggregation = true;
    }
    query->named_group_count = query->group_count;
    return true;
}

/* ---- over groups ---- */

static int group_find(const struct bound_query *query, const struct bound *node)
{
    for (uint16_t i = 0; i < query->group_count; i++)
        if (query->groups[i] == node) return i;
    return -1;
}

/* Every column of the table's primary key is a group key. */
static bool key_is_grouped(const struct bound_query *query, uint16_t table)
{
    const struct index_def *primary = &query->tables[table].def->indexes[0];
    for (uint32_t i = 0; i < primary->column_count; i++) {
        bool found = false;
        for (uint16_t j = 0; j < query->named_group_count; j++) {
            const struct bound *group = query->groups[j];
            found = found || (group->op == EXPR_COLUMN && group->source == table &&
                              group->column == primary->columns[i]);
        }
        if (!found) return false;
    }
    return true;
}

/* The expression over group keys and aggregates; NULL, without an error, when a column is in
 * neither, which *ret_column then is. */
static struct bound *over_groups(struct binder *binder, struct bound *node,
                                 const struct bound **ret_column)
{
    struct bound_query *query = binder->query;
    if (binder->err) return NULL;
    if (node->rewritten) return node->rewritten;
    int group = group_find(query, node);
    if (group < 0 && node->op == EXPR_COLUMN && node->tables) {
        if (!key_is_grouped(query, node->source)) {
            *ret_column = node;
            return NULL;
        }
        if (!group_add(binder, node, NULL)) return NULL;
        group = query->group_count - 1;
    }
    struct bound *result = node;
    if (group >= 0) {
        result = bound_reference(binder, EXPR_SOURCE_GROUP, (uint16_t)group, node);
    } else if (node->tables) {
        struct bound over = *node;
        over.tables = 0;
        over.rewritten = NULL;
        for (uint32_t i = 0; i < node->arg_count; i++) {
            over.args[i] = over_groups(binder, node->args[i], ret_column);
            if (!over.args[i]) return NULL;
        }
        result = bound_make(binder, over);
    }
    if (result) node->rewritten = result;
    return result;
}

/* The place in the text of the column that is in no group, outside aggregates. */
static uint32_t column_place(struct binder *binder, const struct ast *ast,
                             const struct bound *column)
{
    uint16_t table, number;
    if (!ast) return UINT32_MAX;
    if (ast->kind == AST_NAME) {
        struct binder quiet = *binder;
        quiet.diag = NULL;
        quiet.err = ERR_NONE;
        return bind_column_find(&quiet, ast, true, &table, &number) && table == column->source &&
                       number == column->column
                   ? ast->position
                   : UINT32_MAX;
    }
    if (ast->kind == AST_CALL && function_aggregate(ast->name)) return UINT32_MAX;
    for (uint32_t i = 0; i < ast->arg_count; i++) {
        uint32_t place = column_place(binder, ast->args[i], column);
        if (place != UINT32_MAX) return place;
    }
    return UINT32_MAX;
}

static struct bound *aggregated(struct binder *binder, struct bound *node, const struct ast *ast,
                                uint32_t position)
{
    const struct bound *column = NULL;
    struct bound *result = over_groups(binder, node, &column);
    if (result || binder->err) return result;
    const struct bound_table *table = &binder->query->tables[column->source];
    uint32_t place = column_place(binder, ast, column);
    return bind_fail(binder, ERR_BIND, place == UINT32_MAX ? position : place,
                     "column %s.%s is neither grouped by nor in an aggregate: add it to GROUP BY, "
                     "or use MIN or MAX",
                     table->alias, table->def->columns[column->column].name);
}

/* ---- HAVING ---- */

static bool bind_having(struct binder *binder, const struct ast_select *select)
{
    struct bound_query *query = binder->query;
    const struct ast *ast = select->having;
    if (!ast) return true;
    binder->clause = CLAUSE_HAVING;
    struct bound *having = type_truth(binder, bind_expr(binder, ast), ast->position);
    if (!having) return false;
    /* Without aggregation HAVING is a WHERE that sees aliases. */
    if (!query->has_aggregation) return conjunct_add(binder, having, ast->start, ast->end);
    query->having = having;
    query->having_start = ast->start;
    query->having_end = ast->end;
    return true;
}

/* ---- ORDER BY ---- */

static bool order_add(struct binder *binder, struct bound *expr, const struct ast *order,
                      bool distinct)
{
    struct bound_query *query = binder->query;
    const struct ast *ast = order->args[0];
    uint16_t output = 0;
    while (output < query->output_count && query->outputs[output].expr != expr)
        output++;
    if (output == query->output_count) {
        if (distinct) {
            bind_fail(binder, ERR_BIND, ast->position,
                      "ORDER BY of a SELECT DISTINCT takes columns of the result");
            return false;
        }
        if (!output_add(binder, "", expr, ast->start, ast->end)) return false;
    }
    for (uint16_t i = 0; i < query->order_count; i++)
        if (query->order[i].output == output) return true; /* decided already */
    query->order[query->order_count++] = (struct bound_order){
        .output = output, .descending = order->negated, .start = ast->start, .end = ast->end};
    return true;
}

/* Binds ORDER BY over the tables; the caller rewrites it when the query aggregates. */
static bool bind_order_exprs(struct binder *binder, const struct ast_select *select,
                             struct bound **exprs)
{
    binder->clause = CLAUSE_ORDER;
    for (uint32_t i = 0; i < select->order.count; i++) {
        const struct ast *ast = select->order.items[i]->args[0];
        uint64_t position;
        exprs[i] = position_of(ast, &position) ? bind_position(binder, ast, position, "ORDER BY")
                                               : bind_expr(binder, ast);
        if (!exprs[i]) return false;
    }
    return true;
}

static bool bind_order(struct binder *binder, const struct ast_select *select, struct bound **exprs)
{
    for (uint32_t i = 0; i < select->order.count; i++) {
        const struct ast *order = select->order.items[i];
        if (bound_is_const(exprs[i])) continue;
        struct bound *expr = exprs[i];
        if (binder->query->has_aggregation)
            expr = aggregated(binder, expr, order->args[0], order->args[0]->position);
        if (!expr || !order_add(binder, expr, order, select->distinct)) return false;
    }
    return true;
}

/* ---- all of it ---- */

static bool aggregate_outputs(struct binder *binder, const struct ast_select *select)
{
    struct bound_query *query = binder->query;
    if (!query->has_aggregation) return true;
    uint16_t output = 0;
    for (uint32_t i = 0; i < select->items.count; i++) {
        const struct ast *item = select->items.items[i];
        bool star = item->kind == AST_STAR;
        uint16_t end = (uint16_t)(output + 1);
        if (star) /* as many outputs as came from this item */
            while (end < query->visible_count && query->outputs[end].start == item->start)
                end++;
        for (; output < end; output++) {
            struct bound *expr = aggregated(binder, query->outputs[output].expr,
                                            star ? NULL : item->args[0], item->position);
            if (!expr) return false;
            query->outputs[output].expr = expr;
        }
    }
    if (!query->having) return true;
    query->having = aggregated(binder, query->having, select->having, select->having->position);
    return query->having != NULL;
}

static bool bind_all(struct binder *binder, const struct ast_select *select)
{
    struct bound_query *query = binder->query;
    if (select->tables.count == 0) {
        bind_fail(binder, ERR_NOT_PUSHABLE, select->position,
                  "a SELECT without FROM reads no partition: name a table after FROM");
        return false;
    }
    for (uint32_t i = 0; i < select->tables.count; i++)
        if (!bind_table(binder, select->tables.items[i])) return false;
    if (select->order.count > QUERY_OUTPUTS_MAX) {
        bind_fail(binder, ERR_TOO_BIG, select->order.items[0]->position, "more than %d order terms",
                  QUERY_OUTPUTS_MAX);
        return false;
    }
    struct bound **order = arena_new(binder->arena, struct bound *, select->order.count);
    if (!order) {
        bind_fail(binder, ERR_NO_MEMORY, select->position, "out of memory");
        return false;
    }
    query->distinct = select->distinct;
    query->has_limit = select->has_limit;
    query->limit = select->limit;
    query->offset = select->offset;
    return bind_items(binder, select) && bind_where(binder, select) &&
           bind_groups(binder, select) && bind_having(binder, select) &&
           bind_order_exprs(binder, select, order) && aggregate_outputs(binder, select) &&
           bind_order(binder, select, order);
}

enum err bind_select(const struct catalog *catalog, const char *database, int64_t now_us,
                     const char *text, const struct ast_select *select, struct arena *arena,
                     struct bound_query **ret_query, struct diag *diag)
{
    struct bound_query *query = arena_zalloc(arena, sizeof(*query));
    if (!query) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    query->text = text;
    struct binder binder = {.arena = arena,
                            .diag = diag,
                            .catalog = catalog,
                            .database = database,
                            .now_us = now_us,
                            .query = query};
    if (!bind_all(&binder, select)) {
        ASSERT(binder.err);
        return binder.err;
    }
    *ret_query = query;
    return ERR_NONE;
}
