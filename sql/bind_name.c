/* Names: what a column's name means in the clause it stands in.
 *
 * As in MySQL, an alias of the select list may be used in GROUP BY (where a column of that name
 * comes first), in HAVING (where a column that is grouped by comes first) and in ORDER BY (where
 * the alias comes first), but not in WHERE or ON. */
#include "sql/bound.h"

#include <strings.h>

static bool table_matches(const struct bound_table *table, const struct ast *name)
{
    if (name->table && strcasecmp(name->table, table->alias) != 0) return false;
    if (!name->database) return true;
    return !table->has_alias && strcasecmp(name->database, table->def->database) == 0;
}

static uint32_t edit_distance(const char *a, const char *b)
{
    uint8_t row[SCHEMA_NAME_SIZE_MAX + 1];
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size > SCHEMA_NAME_SIZE_MAX || b_size > SCHEMA_NAME_SIZE_MAX) return UINT32_MAX;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = (uint8_t)j;
    for (size_t i = 1; i <= a_size; i++) {
        uint8_t diagonal = row[0];
        row[0] = (uint8_t)i;
        for (size_t j = 1; j <= b_size; j++) {
            uint8_t above = row[j];
            uint8_t cost = (uint8_t)(diagonal + ((a[i - 1] | 0x20) != (b[j - 1] | 0x20)));
            if (row[j - 1] + 1 < cost) cost = (uint8_t)(row[j - 1] + 1);
            if (above + 1 < cost) cost = (uint8_t)(above + 1);
            row[j] = cost;
            diagonal = above;
        }
    }
    return row[b_size];
}

static void fail_unknown_column(struct binder *binder, const struct ast *name)
{
    const struct bound_query *query = binder->query;
    const char *near = NULL;
    /* A short name resembles too much. */
    uint32_t best = strlen(name->name) <= 3 ? 2 : 3;
    bool table_known = false;
    for (uint32_t i = 0; i < query->table_count; i++) {
        const struct bound_table *table = &query->tables[i];
        if (!table_matches(table, name)) continue;
        table_known = true;
        for (uint32_t j = 0; j < table->def->column_count; j++) {
            uint32_t distance = edit_distance(name->name, table->def->columns[j].name);
            if (distance >= best) continue;
            best = distance;
            near = table->def->columns[j].name;
        }
    }
    if (!table_known)
        bind_fail(binder, ERR_BIND, name->position, "unknown table '%.64s' in '%.64s.%.64s'",
                  name->table, name->table, name->name);
    else if (near)
        bind_fail(binder, ERR_BIND, name->position, "unknown column '%.64s': is it '%s'?",
                  name->name, near);
    else
        bind_fail(binder, ERR_BIND, name->position, "unknown column '%.64s'", name->name);
}

bool bind_column_find(struct binder *binder, const struct ast *name, bool quiet,
                      uint16_t *ret_table, uint16_t *ret_column)
{
    const struct bound_query *query = binder->query;
    int found_table = -1, found_column = -1;
    for (uint16_t i = 0; i < query->table_count; i++) {
        const struct bound_table *table = &query->tables[i];
        if (!table_matches(table, name)) continue;
        int column = table_def_column(table->def, name->name);
        if (column < 0) continue;
        if (found_table >= 0) {
            bind_fail(binder, ERR_BIND, name->position,
                      "column '%s' is in %s and in %s: write %s.%s", name->name,
                      query->tables[found_table].alias, table->alias,
                      query->tables[found_table].alias, name->name);
            return false;
        }
        found_table = i;
        found_column = column;
    }
    if (found_table < 0) {
        if (!quiet) fail_unknown_column(binder, name);
        return false;
    }
    *ret_table = (uint16_t)found_table;
    *ret_column = (uint16_t)found_column;
    return true;
}

/* The select item with this alias; NULL when there is none. */
static struct bound *alias_find(struct binder *binder, const struct ast *name)
{
    if (name->table || binder->in_aggregate) return NULL;
    struct bound *found = NULL;
    for (uint16_t i = 0; i < binder->query->visible_count; i++) {
        const struct bound_output *output = &binder->query->outputs[i];
        if (!output->name || strcasecmp(output->name, name->name) != 0) continue;
        if (found && found != output->expr)
            return bind_fail(binder, ERR_BIND, name->position,
                             "'%s' names two columns of the result", name->name);
        found = output->expr;
    }
    return found;
}

static bool is_group(const struct binder *binder, const struct bound *node)
{
    for (uint16_t i = 0; i < binder->query->group_count; i++)
        if (binder->query->groups[i] == node) return true;
    return false;
}

struct bound *bind_name(struct binder *binder, const struct ast *ast)
{
    uint16_t table, column;
    bool aliases = binder->clause == CLAUSE_GROUP || binder->clause == CLAUSE_HAVING ||
                   binder->clause == CLAUSE_ORDER;
    struct bound *alias = aliases ? alias_find(binder, ast) : NULL;
    if (binder->err) return NULL;
    if (alias && binder->clause == CLAUSE_ORDER) return alias;
    bool found = bind_column_find(binder, ast, true, &table, &column);
    if (binder->err) {
        if (!alias) return NULL;
        /* The alias settles what the tables leave open. */
        binder->err = ERR_NONE;
        return alias;
    }
    if (found) {
        struct bound *node = bound_column(binder, table, column);
        if (alias && binder->clause == CLAUSE_HAVING && node && !is_group(binder, node))
            return alias;
        return node;
    }
    if (alias) return alias;
    struct bound *constant = ast->table ? NULL : function_constant(binder, ast->name);
    if (constant || binder->err) return constant;
    if (!ast->table && binder->clause <= CLAUSE_ON && binder->clause != CLAUSE_SELECT) {
        for (uint16_t i = 0; i < binder->query->visible_count; i++) {
            const char *name = binder->query->outputs[i].name;
            if (name && strcasecmp(name, ast->name) == 0)
                return bind_fail(binder, ERR_BIND, ast->position,
                                 "'%s' is an alias: WHERE and ON see columns only, repeat the "
                                 "expression or use HAVING",
                                 ast->name);
        }
    }
    fail_unknown_column(binder, ast);
    return NULL;
}
