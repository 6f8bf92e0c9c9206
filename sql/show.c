/* SHOW and DESCRIBE: the catalog as rows. */
#include "sql/listing.h"

#include <stdlib.h>
#include <strings.h>

#include "base/check.h"
#include "sql/ddl.h"

enum err listing_add(struct listing *listing, struct arena *arena, const char *const *cells)
{
    if (listing->row_count == listing->row_capacity) {
        uint32_t capacity = listing->row_capacity ? listing->row_capacity * 2 : 16;
        const char **grown =
            arena_new(arena, const char *, (size_t)capacity * listing->column_count);
        if (!grown) return ERR_NO_MEMORY;
        size_t used = (size_t)listing->row_count * listing->column_count;
        if (used) memcpy(grown, listing->cells, used * sizeof(*grown));
        listing->cells = grown;
        listing->row_capacity = capacity;
    }
    memcpy(listing->cells + (size_t)listing->row_count * listing->column_count, cells,
           listing->column_count * sizeof(*cells));
    listing->row_count++;
    return ERR_NONE;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds the names, sorted and without doubles. */
static enum err add_names(const char **names, uint32_t count, struct arena *arena,
                          struct listing *listing)
{
    enum err err = ERR_NONE;
    qsort(names, count, sizeof(*names), compare_names);
    for (uint32_t i = 0; i < count && !err; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            err = listing_add(listing, arena, &names[i]);
    return err;
}

static enum err show_tables(const struct catalog *catalog, const char *database,
                            struct arena *arena, struct listing *listing)
{
    static const char *const headings[] = {"table"};
    const char *names[SCHEMA_TABLES_MAX];
    uint32_t count = 0;
    listing->columns = headings;
    listing->column_count = ARRAY_SIZE(headings);
    for (uint32_t i = 0; i < catalog->table_count; i++)
        if (strcasecmp(catalog->tables[i]->database, database) == 0)
            names[count++] = catalog->tables[i]->name;
    return add_names(names, count, arena, listing);
}

static enum err show_databases(const struct catalog *catalog, struct arena *arena,
                               struct listing *listing)
{
    static const char *const headings[] = {"database"};
    const char *names[SCHEMA_TABLES_MAX];
    listing->columns = headings;
    listing->column_count = ARRAY_SIZE(headings);
    for (uint32_t i = 0; i < catalog->table_count; i++)
        names[i] = catalog->tables[i]->database;
    return add_names(names, catalog->table_count, arena, listing);
}

static enum err show_create_table(const struct table_def *table, struct arena *arena,
                                  struct listing *listing)
{
    static const char *const headings[] = {"table", "create table"};
    listing->columns = headings;
    listing->column_count = ARRAY_SIZE(headings);
    struct buf buf;
    buf_init(&buf);
    ddl_create_table_text(table, &buf);
    char *text = buf.failed ? NULL : arena_copy(arena, buf.bytes, buf.size);
    buf_fini(&buf);
    if (!text) return ERR_NO_MEMORY;
    const char *cells[] = {table->name, text};
    return listing_add(listing, arena, cells);
}

/* "PRI" for columns of the primary key, "MUL" for the first of another index, as in MySQL. */
static const char *key_mark(const struct table_def *table, uint16_t column)
{
    const char *mark = "";
    for (uint32_t i = 0; i < table->indexes[0].column_count; i++)
        if (table->indexes[0].columns[i] == column) return "PRI";
    for (uint32_t i = 1; i < table->index_count; i++)
        if (table->indexes[i].columns[0] == column) mark = "MUL";
    return mark;
}

static enum err describe(const struct table_def *table, struct arena *arena,
                         struct listing *listing)
{
    static const char *const headings[] = {"column", "type", "null", "key", "collation"};
    listing->columns = headings;
    listing->column_count = ARRAY_SIZE(headings);
    for (uint16_t i = 0; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        struct buf buf;
        buf_init(&buf);
        ddl_type_text(column, &buf);
        char *type = buf.failed ? NULL : arena_copy(arena, buf.bytes, buf.size);
        buf_fini(&buf);
        if (!type) return ERR_NO_MEMORY;
        bool is_text =
            column->type == TYPE_CHAR || column->type == TYPE_VARCHAR || column->type == TYPE_TEXT;
        const char *collation = !is_text                                ? NULL
                                : column->collation == COLLATION_BINARY ? "utf8mb4_bin"
                                                                        : "utf8mb4_general_ci";
        const char *cells[] = {column->name, type, column->nullable ? "YES" : "NO",
                               key_mark(table, i), collation};
        enum err err = listing_add(listing, arena, cells);
        if (err) return err;
    }
    return ERR_NONE;
}

enum err show_statement(const struct catalog *catalog, const char *database,
                        const struct ast_statement *statement, struct arena *arena,
                        struct listing *ret_listing, struct diag *diag)
{
    struct listing listing = {0};
    enum err err;
    if (statement->kind == AST_STATEMENT_SHOW_TABLES) {
        const char *from = statement->name.text ? statement->name.text : database;
        err = show_tables(catalog, from, arena, &listing);
    } else if (statement->kind == AST_STATEMENT_SHOW_DATABASES) {
        err = show_databases(catalog, arena, &listing);
    } else {
        const struct ast_table_name *name = &statement->table;
        const char *from = name->database.text ? name->database.text : database;
        const struct table_def *table = catalog_find(catalog, from, name->name.text);
        if (!table)
            return diag_set_at(diag, ERR_TABLE_UNKNOWN, name->name.position, "no table %.64s.%.64s",
                               from, name->name.text);
        err = statement->kind == AST_STATEMENT_DESCRIBE ? describe(table, arena, &listing)
                                                        : show_create_table(table, arena, &listing);
    }
    if (err) return diag_set(diag, err, "%s", err_text(err));
    *ret_listing = listing;
    return ERR_NONE;
}
