/* DDL: CREATE TABLE, CREATE INDEX and their DROPs.
 *
 * The binder turns the syntax tree into a struct table_def, so that every rule with a place in the
 * text is reported there; what concerns the definition as a whole is table_def_check's. Defaults:
 * columns are nullable unless they are in the primary key; text is utf8mb4_bin; a primary key
 * without USING is both hashed and ordered, as in NDB; a table without PARTITION BY is partitioned
 * by its whole primary key. */
#include "sql/ddl.h"

#include <stdio.h>
#include <strings.h>

#include "base/check.h"

/* ---- types ---- */

enum size_rule { TAKES_NONE, TAKES_WIDTH, TAKES_DECIMAL, TAKES_FRACTION, TAKES_CHARS, TAKES_BYTES };

struct type_rule {
    const char *name;
    uint8_t type;          /* enum column_type */
    uint8_t type_unsigned; /* 0: no UNSIGNED */
    uint8_t size;          /* enum size_rule */
    uint32_t size_default; /* 0: a size must be given (CHARS, BYTES) */
};

static const struct type_rule type_rules[] = {
    {"TINYINT", TYPE_TINYINT, TYPE_TINYINT_UNSIGNED, TAKES_WIDTH, 0},
    {"BOOL", TYPE_TINYINT, 0, TAKES_NONE, 0},
    {"BOOLEAN", TYPE_TINYINT, 0, TAKES_NONE, 0},
    {"SMALLINT", TYPE_SMALLINT, TYPE_SMALLINT_UNSIGNED, TAKES_WIDTH, 0},
    {"INT", TYPE_INT, TYPE_INT_UNSIGNED, TAKES_WIDTH, 0},
    {"INTEGER", TYPE_INT, TYPE_INT_UNSIGNED, TAKES_WIDTH, 0},
    {"BIGINT", TYPE_BIGINT, TYPE_BIGINT_UNSIGNED, TAKES_WIDTH, 0},
    {"FLOAT", TYPE_FLOAT, 0, TAKES_NONE, 0},
    {"DOUBLE", TYPE_DOUBLE, 0, TAKES_NONE, 0},
    {"REAL", TYPE_DOUBLE, 0, TAKES_NONE, 0},
    {"DECIMAL", TYPE_DECIMAL, 0, TAKES_DECIMAL, 10},
    {"NUMERIC", TYPE_DECIMAL, 0, TAKES_DECIMAL, 10},
    {"DATE", TYPE_DATE, 0, TAKES_NONE, 0},
    {"DATETIME", TYPE_DATETIME, 0, TAKES_FRACTION, 0},
    {"TIMESTAMP", TYPE_TIMESTAMP, 0, TAKES_FRACTION, 0},
    {"CHAR", TYPE_CHAR, 0, TAKES_CHARS, 1},
    {"VARCHAR", TYPE_VARCHAR, 0, TAKES_CHARS, 0},
    {"BINARY", TYPE_BINARY, 0, TAKES_BYTES, 1},
    {"VARBINARY", TYPE_VARBINARY, 0, TAKES_BYTES, 0},
    {"TEXT", TYPE_TEXT, 0, TAKES_BYTES, SCHEMA_VAR_SIZE_MAX},
    {"BLOB", TYPE_BLOB, 0, TAKES_BYTES, SCHEMA_VAR_SIZE_MAX},
};

static const struct type_rule *type_rule_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(type_rules); i++)
        if (strcasecmp(type_rules[i].name, name) == 0) return &type_rules[i];
    return NULL;
}

static enum err bind_type_size(const struct type_rule *rule, const struct ast_type *type,
                               struct column_def *column, struct diag *diag)
{
    uint32_t size = type->has_size ? type->size : rule->size_default;
    if (type->has_scale && rule->size != TAKES_DECIMAL)
        return diag_set_at(diag, ERR_SYNTAX, type->position, "%s takes one number in parentheses",
                           rule->name);
    switch ((enum size_rule)rule->size) {
    case TAKES_NONE:
        if (type->has_size)
            return diag_set_at(diag, ERR_SYNTAX, type->position, "%s takes no size", rule->name);
        return ERR_NONE;
    case TAKES_WIDTH: /* a display width, of no effect, as in MySQL */
        return ERR_NONE;
    case TAKES_DECIMAL:
        if (size < 1 || size > 18 || type->scale > size)
            return diag_set_at(diag, ERR_INVALID, type->position,
                               "DECIMAL(p,s) has 1 to 18 digits and s at most p");
        column->precision = (uint8_t)size;
        column->scale = (uint8_t)type->scale;
        return ERR_NONE;
    case TAKES_FRACTION:
        if (size > 6)
            return diag_set_at(diag, ERR_INVALID, type->position,
                               "%s has at most 6 digits of a second", rule->name);
        column->scale = (uint8_t)size;
        return ERR_NONE;
    case TAKES_CHARS:
    case TAKES_BYTES:
        break;
    }
    if (size == 0)
        return diag_set_at(diag, ERR_SYNTAX, type->position, "%s needs a size: %s(255)", rule->name,
                           rule->name);
    uint64_t bytes = rule->size == TAKES_CHARS ? (uint64_t)size * 4 : size;
    if (bytes > SCHEMA_VAR_SIZE_MAX)
        return diag_set_at(diag, ERR_INVALID, type->position, "%s is at most %u %s", rule->name,
                           rule->size == TAKES_CHARS ? SCHEMA_VAR_SIZE_MAX / 4
                                                     : SCHEMA_VAR_SIZE_MAX,
                           rule->size == TAKES_CHARS ? "characters" : "bytes");
    column->size_max = (uint32_t)bytes;
    return ERR_NONE;
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcasecmp(text + size - end_size, end) == 0;
}

static enum err bind_collation(const struct ast_column *ast, struct column_def *column,
                               struct diag *diag)
{
    const struct ast_name *name = &ast->collation;
    if (!name->text) return ERR_NONE;
    if (column->type != TYPE_CHAR && column->type != TYPE_VARCHAR && column->type != TYPE_TEXT)
        return diag_set_at(diag, ERR_INVALID, name->position, "only text has a collation");
    if (ends_with(name->text, "_bin") || strcasecmp(name->text, "binary") == 0) {
        column->collation = COLLATION_BINARY;
    } else if (ends_with(name->text, "_ci")) {
        column->collation = COLLATION_CASE_INSENSITIVE;
    } else {
        return diag_set_at(diag, ERR_BIND, name->position,
                           "unknown collation '%s': there are utf8mb4_bin and utf8mb4_general_ci",
                           name->text);
    }
    return ERR_NONE;
}

static enum err copy_name(char *to, const struct ast_name *name, const char *what,
                          struct diag *diag)
{
    size_t size = strlen(name->text);
    if (size == 0 || size > SCHEMA_NAME_SIZE_MAX)
        return diag_set_at(diag, ERR_INVALID, name->position, "the name of %s has 1 to %d bytes",
                           what, SCHEMA_NAME_SIZE_MAX);
    memcpy(to, name->text, size + 1);
    return ERR_NONE;
}

static enum err bind_column(const struct ast_column *ast, struct column_def *column,
                            struct diag *diag)
{
    const struct type_rule *rule = type_rule_find(ast->type.name);
    if (!rule)
        return diag_set_at(
            diag, ERR_BIND, ast->type.position,
            "unknown type '%s': there are TINYINT, SMALLINT, INT, BIGINT [UNSIGNED], "
            "FLOAT, DOUBLE, DECIMAL, DATE, DATETIME, TIMESTAMP, CHAR, VARCHAR, "
            "BINARY, VARBINARY, TEXT and BLOB",
            ast->type.name);
    if (ast->type.is_unsigned && !rule->type_unsigned)
        return diag_set_at(diag, ERR_INVALID, ast->type.position, "%s cannot be UNSIGNED",
                           rule->name);
    column->type = ast->type.is_unsigned ? rule->type_unsigned : rule->type;
    column->nullable = ast->has_null ? ast->nullable : true;
    enum err err = copy_name(column->name, &ast->name, "a column", diag);
    if (!err) err = bind_type_size(rule, &ast->type, column, diag);
    if (!err) err = bind_collation(ast, column, diag);
    return err;
}

/* ---- indexes and options ---- */

/* Column numbers of names, each known and named once. */
static enum err bind_names(const struct table_def *table, const struct ast_names *names,
                           uint16_t columns[SCHEMA_KEY_COLUMNS_MAX], struct diag *diag)
{
    if (names->count > SCHEMA_KEY_COLUMNS_MAX)
        return diag_set_at(diag, ERR_TOO_BIG, names->items[SCHEMA_KEY_COLUMNS_MAX].position,
                           "a key has at most %d columns", SCHEMA_KEY_COLUMNS_MAX);
    for (uint32_t i = 0; i < names->count; i++) {
        const struct ast_name *name = &names->items[i];
        int column = table_def_column(table, name->text);
        if (column < 0)
            return diag_set_at(diag, ERR_BIND, name->position, "unknown column '%s' in table %s",
                               name->text, table->name);
        for (uint32_t j = 0; j < i; j++)
            if (columns[j] == column)
                return diag_set_at(diag, ERR_INVALID, name->position, "column '%s' is named twice",
                                   name->text);
        columns[i] = (uint16_t)column;
    }
    return ERR_NONE;
}

static enum err bind_index(const struct table_def *table, const struct ast_index *ast,
                           struct index_def *ret_index, struct diag *diag)
{
    struct index_def index = {.kind = INDEX_ORDERED};
    if (ast->using == AST_USING_HASH || ast->using == AST_USING_BOTH)
        return diag_set_at(diag, ERR_INVALID, ast->position,
                           "a secondary index is ordered: only the primary key may be hashed");
    enum err err = copy_name(index.name, &ast->name, "an index", diag);
    if (!err) err = bind_names(table, &ast->columns, index.columns, diag);
    if (err) return err;
    index.column_count = (uint8_t)ast->columns.count;
    *ret_index = index;
    return ERR_NONE;
}

static enum err bind_primary(struct table_def *table, const struct ast_index *ast,
                             struct diag *diag)
{
    struct index_def *index = &table->indexes[0];
    enum err err = bind_names(table, &ast->columns, index->columns, diag);
    if (err) return err;
    memcpy(index->name, "PRIMARY", sizeof("PRIMARY"));
    index->kind = ast->using == AST_USING_HASH ? INDEX_HASH : INDEX_ORDERED;
    index->has_hash = ast->using != AST_USING_BTREE;
    index->unique = true;
    index->column_count = (uint8_t)ast->columns.count;
    return ERR_NONE;
}

static enum err bind_indexes(struct table_def *table, const struct ast_table_def *ast,
                             struct diag *diag)
{
    const struct ast_index *primary = NULL;
    for (const struct ast_index *index = ast->indexes; index; index = index->next) {
        if (!index->primary) continue;
        if (primary) return diag_set_at(diag, ERR_SYNTAX, index->position, "a second primary key");
        primary = index;
    }
    if (!primary)
        return diag_set_at(diag, ERR_INVALID, ast->columns->name.position,
                           "a table needs a primary key: PRIMARY KEY (column, …)");
    enum err err = bind_primary(table, primary, diag);
    if (err) return err;
    table->index_count = 1;
    table->next_index_id = 1;
    for (const struct ast_index *index = ast->indexes; index; index = index->next) {
        if (index->primary) continue;
        if (table->index_count == SCHEMA_INDEXES_MAX)
            return diag_set_at(diag, ERR_TOO_BIG, index->position, "a table has at most %d indexes",
                               SCHEMA_INDEXES_MAX);
        struct index_def *def = &table->indexes[table->index_count];
        err = bind_index(table, index, def, diag);
        if (err) return err;
        def->id = table->next_index_id++;
        table->index_count++;
    }
    return ERR_NONE;
}

/* Columns of the primary key are NOT NULL, said or not. */
static enum err bind_primary_not_null(struct table_def *table, const struct ast_table_def *ast,
                                      struct diag *diag)
{
    const struct index_def *primary = &table->indexes[0];
    for (uint32_t i = 0; i < primary->column_count; i++) {
        const struct ast_column *column = ast->columns;
        for (uint32_t j = 0; j < primary->columns[i]; j++)
            column = column->next;
        if (column->has_null && column->nullable)
            return diag_set_at(diag, ERR_INVALID, column->name.position,
                               "column '%s' is in the primary key: it cannot be NULL",
                               column->name.text);
        table->columns[primary->columns[i]].nullable = false;
    }
    return ERR_NONE;
}

static enum err bind_partitioning(struct table_def *table, const struct ast_table_def *ast,
                                  struct diag *diag)
{
    const struct ast_name *by = &ast->partition_by;
    if (!by->text) {
        table->partition_by = PARTITION_BY_KEY;
        table->partition_column_count = table->indexes[0].column_count;
        memcpy(table->partition_columns, table->indexes[0].columns,
               sizeof(table->partition_columns));
        return ERR_NONE;
    }
    if (strcasecmp(by->text, "KEY") == 0)
        table->partition_by = PARTITION_BY_KEY;
    else if (strcasecmp(by->text, "HOME") == 0)
        table->partition_by = PARTITION_BY_HOME;
    else if (strcasecmp(by->text, "SLOT") == 0)
        table->partition_by = PARTITION_BY_SLOT;
    else
        return diag_set_at(diag, ERR_BIND, by->position,
                           "unknown partitioning '%s': there are KEY(…), HOME(c) and SLOT(c)",
                           by->text);
    enum err err = bind_names(table, &ast->partition_columns, table->partition_columns, diag);
    if (err) return err;
    table->partition_column_count = (uint8_t)ast->partition_columns.count;
    const struct index_def *primary = &table->indexes[0];
    for (uint32_t i = 0; i < table->partition_column_count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < primary->column_count; j++)
            found = found || primary->columns[j] == table->partition_columns[i];
        if (!found)
            return diag_set_at(diag, ERR_INVALID, ast->partition_columns.items[i].position,
                               "partition columns must be in the primary key");
    }
    return ERR_NONE;
}

static enum err bind_ttl(struct table_def *table, const struct ast_table_def *ast,
                         struct diag *diag)
{
    if (!ast->has_ttl) return ERR_NONE;
    int column = table_def_column(table, ast->ttl_column.text);
    if (column < 0)
        return diag_set_at(diag, ERR_BIND, ast->ttl_column.position, "unknown column '%s'",
                           ast->ttl_column.text);
    if (ast->ttl_seconds == 0)
        return diag_set_at(diag, ERR_INVALID, ast->ttl_position, "TTL is at least one second");
    table->ttl_seconds = (uint32_t)ast->ttl_seconds;
    table->ttl_column = (uint16_t)column;
    return ERR_NONE;
}

static enum err bind_create_table(const struct ast_statement *statement, const char *database,
                                  struct arena *arena, struct table_def **ret_table,
                                  struct diag *diag)
{
    const struct ast_table_def *ast = statement->definition;
    struct table_def *table = arena_zalloc(arena, sizeof(*table));
    uint32_t count = 0;
    for (const struct ast_column *column = ast->columns; column; column = column->next)
        count++;
    if (count > SCHEMA_COLUMNS_MAX)
        return diag_set_at(diag, ERR_TOO_BIG, statement->table.name.position,
                           "a table has at most %d columns", SCHEMA_COLUMNS_MAX);
    if (count == 0)
        return diag_set_at(diag, ERR_INVALID, statement->table.name.position,
                           "a table needs columns");
    if (!table || !(table->columns = arena_new(arena, struct column_def, count)))
        return diag_set(diag, ERR_NO_MEMORY, "out of memory");

    struct ast_name database_name = statement->table.database;
    if (!database_name.text) {
        database_name.text = database;
        database_name.position = statement->table.name.position;
    }
    enum err err = copy_name(table->database, &database_name, "a database", diag);
    if (!err) err = copy_name(table->name, &statement->table.name, "a table", diag);
    if (err) return err;
    for (const struct ast_column *column = ast->columns; column; column = column->next) {
        if (table_def_column(table, column->name.text) >= 0)
            return diag_set_at(diag, ERR_INVALID, column->name.position, "a second column '%s'",
                               column->name.text);
        err = bind_column(column, &table->columns[table->column_count], diag);
        if (err) return err;
        table->column_count++;
    }
    err = bind_indexes(table, ast, diag);
    if (!err) err = bind_primary_not_null(table, ast, diag);
    if (!err) err = bind_partitioning(table, ast, diag);
    if (!err) err = bind_ttl(table, ast, diag);
    if (err) return err;
    table->id = 1;
    table->version = 1;
    err = table_def_check(table, diag);
    if (err) {
        if (diag) diag->position = statement->table.name.position;
        return err;
    }
    *ret_table = table;
    return ERR_NONE;
}

/* ---- statements ---- */

static enum err bind_drop_index(const struct table_def *table, const struct ast_name *name,
                                struct index_def *index, struct diag *diag)
{
    for (uint32_t i = 1; i < table->index_count; i++)
        if (strcasecmp(table->indexes[i].name, name->text) == 0)
            return copy_name(index->name, name, "an index", diag);
    if (strcasecmp(name->text, "PRIMARY") == 0)
        return diag_set_at(diag, ERR_INVALID, name->position,
                           "the primary key cannot be dropped: drop the table");
    return diag_set_at(diag, ERR_NOT_FOUND, name->position, "no index %.64s on table %s",
                       name->text, table->name);
}

enum err ddl_bind(const struct catalog *catalog, const char *database,
                  const struct ast_statement *statement, struct arena *arena,
                  struct sql_ddl **ret_ddl, struct diag *diag)
{
    struct sql_ddl *ddl = arena_zalloc(arena, sizeof(*ddl));
    if (!ddl) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    const struct ast_table_name *name = &statement->table;
    ddl->kind = statement->kind;
    ddl->if_exists = statement->if_exists;
    ddl->database = name->database.text ? name->database.text : database;
    ddl->name = name->name.text;
    enum err err = ERR_NONE;
    if (ddl->kind == AST_STATEMENT_CREATE_TABLE) {
        err = bind_create_table(statement, database, arena, &ddl->table, diag);
        if (err) return err;
    } else {
        const struct table_def *table = catalog_find(catalog, ddl->database, ddl->name);
        bool optional = ddl->kind == AST_STATEMENT_DROP_TABLE && ddl->if_exists;
        if (!table && !optional)
            return diag_set_at(diag, ERR_TABLE_UNKNOWN, name->name.position, "no table %.64s.%.64s",
                               ddl->database, ddl->name);
        if (ddl->kind == AST_STATEMENT_CREATE_INDEX)
            err = bind_index(table, statement->index, &ddl->index, diag);
        else if (ddl->kind == AST_STATEMENT_DROP_INDEX)
            err = bind_drop_index(table, &statement->name, &ddl->index, diag);
        if (err) return err;
    }
    *ret_ddl = ddl;
    return ERR_NONE;
}

enum err ddl_run(struct db_client *client, const struct sql_ddl *ddl, struct diag *diag)
{
    enum err err = ERR_INVALID;
    switch (ddl->kind) {
    case AST_STATEMENT_CREATE_TABLE:
        err = db_create_table(client, ddl->table, diag);
        return err == ERR_EXISTS && ddl->if_exists ? ERR_NONE : err;
    case AST_STATEMENT_DROP_TABLE:
        err = db_drop_table(client, ddl->database, ddl->name, diag);
        if (ddl->if_exists && (err == ERR_TABLE_UNKNOWN || err == ERR_NOT_FOUND)) return ERR_NONE;
        return err;
    case AST_STATEMENT_CREATE_INDEX:
        return db_create_index(client, ddl->database, ddl->name, &ddl->index, diag);
    case AST_STATEMENT_DROP_INDEX:
        return db_drop_index(client, ddl->database, ddl->name, ddl->index.name, diag);
    default:
        break;
    }
    return err;
}

/* ---- back to text ---- */

void ddl_type_text(const struct column_def *column, struct buf *buf)
{
    const struct type_rule *rule = NULL;
    bool is_unsigned = false;
    for (size_t i = 0; i < ARRAY_SIZE(type_rules) && !rule; i++) {
        is_unsigned = type_rules[i].type_unsigned == column->type;
        if (type_rules[i].type == column->type || is_unsigned) rule = &type_rules[i];
    }
    ASSERT(rule);
    for (const char *c = rule->name; *c; c++)
        buf_put_u8(buf, (uint8_t)(*c | 0x20));
    switch ((enum size_rule)rule->size) {
    case TAKES_DECIMAL:
        buf_printf(buf, "(%u,%u)", column->precision, column->scale);
        break;
    case TAKES_FRACTION:
        if (column->scale) buf_printf(buf, "(%u)", column->scale);
        break;
    case TAKES_CHARS:
        buf_printf(buf, "(%u)", column->size_max / 4);
        break;
    case TAKES_BYTES:
        if (column->size_max != rule->size_default || column->type == TYPE_BINARY)
            buf_printf(buf, "(%u)", column->size_max);
        break;
    case TAKES_NONE:
    case TAKES_WIDTH:
        break;
    }
    if (is_unsigned) buf_printf(buf, " unsigned");
}

static void put_columns(const struct table_def *table, const uint16_t *columns, uint32_t count,
                        struct buf *buf)
{
    buf_printf(buf, "(");
    for (uint32_t i = 0; i < count; i++)
        buf_printf(buf, "%s`%s`", i ? ", " : "", table->columns[columns[i]].name);
    buf_printf(buf, ")");
}

void ddl_create_table_text(const struct table_def *table, struct buf *buf)
{
    static const char *const partitionings[] = {
        [PARTITION_BY_KEY] = "KEY", [PARTITION_BY_HOME] = "HOME", [PARTITION_BY_SLOT] = "SLOT"};
    buf_printf(buf, "CREATE TABLE `%s` (\n", table->name);
    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        buf_printf(buf, "  `%s` ", column->name);
        ddl_type_text(column, buf);
        bool is_text =
            column->type == TYPE_CHAR || column->type == TYPE_VARCHAR || column->type == TYPE_TEXT;
        if (is_text)
            buf_printf(buf, " COLLATE %s",
                       column->collation == COLLATION_BINARY ? "utf8mb4_bin"
                                                             : "utf8mb4_general_ci");
        buf_printf(buf, "%s,\n", column->nullable ? "" : " NOT NULL");
    }
    for (uint32_t i = 0; i < table->index_count; i++) {
        const struct index_def *index = &table->indexes[i];
        if (i == 0)
            buf_printf(buf, "  PRIMARY KEY ");
        else
            buf_printf(buf, ",\n  INDEX `%s` ", index->name);
        put_columns(table, index->columns, index->column_count, buf);
        if (i == 0)
            buf_printf(buf, " USING %s",
                       index->kind == INDEX_HASH ? "HASH" : (index->has_hash ? "BOTH" : "BTREE"));
    }
    buf_printf(buf, "\n) PARTITION BY %s", partitionings[table->partition_by]);
    put_columns(table, table->partition_columns, table->partition_column_count, buf);
    if (table->ttl_seconds)
        buf_printf(buf, " TTL=%u@`%s`", table->ttl_seconds, table->columns[table->ttl_column].name);
}
