/* Table definitions and catalogs in memory: lookup, rules, copies.
 *
 * table_def_check is the only place that knows which definitions are allowed; everything below
 * (pages, indexes, codecs) relies on it and only asserts. Called from every thread; definitions are
 * immutable once published, so there is no lock. */
#include "db/wire/schema.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/wire/catalog.h"

/* Fixed columns of one row: bounds a page of FRAGMENT_PAGE_ROWS rows to a few MiB. */
enum { ROW_SIZE_MAX = 8192, BINARY_SIZE_MAX = 255, CHAR_SIZE_MAX = 4 * 255, DEC_DIGITS_MAX = 18 };

static uint8_t lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : (uint8_t)c;
}

bool schema_name_equal(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

const struct table_def *catalog_find(const struct catalog *catalog, const char *database,
                                     const char *name)
{
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        const struct table_def *table = catalog->tables[i];
        if (schema_name_equal(table->name, name) && schema_name_equal(table->database, database))
            return table;
    }
    return NULL;
}

const struct table_def *catalog_find_id(const struct catalog *catalog, uint32_t table_id)
{
    uint32_t low = 0;
    uint32_t high = catalog->table_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (catalog->tables[middle]->id < table_id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < catalog->table_count && catalog->tables[low]->id == table_id;
    return found ? catalog->tables[low] : NULL;
}

int table_def_column(const struct table_def *table, const char *name)
{
    for (int i = 0; i < table->column_count; i++)
        if (schema_name_equal(table->columns[i].name, name)) return i;
    return -1;
}

enum value_kind column_kind(const struct column_def *column)
{
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
    case TYPE_SMALLINT:
    case TYPE_INT:
    case TYPE_BIGINT:
    case TYPE_DATE:
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        return KIND_I64;
    case TYPE_TINYINT_UNSIGNED:
    case TYPE_SMALLINT_UNSIGNED:
    case TYPE_INT_UNSIGNED:
    case TYPE_BIGINT_UNSIGNED:
        return KIND_U64;
    case TYPE_FLOAT:
    case TYPE_DOUBLE:
        return KIND_F64;
    case TYPE_DECIMAL:
        return KIND_DEC;
    case TYPE_CHAR:
    case TYPE_VARCHAR:
    case TYPE_BINARY:
    case TYPE_VARBINARY:
    case TYPE_TEXT:
    case TYPE_BLOB:
        return KIND_STR;
    }
    return KIND_NULL;
}

uint32_t column_width(const struct column_def *column)
{
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
    case TYPE_TINYINT_UNSIGNED:
        return 1;
    case TYPE_SMALLINT:
    case TYPE_SMALLINT_UNSIGNED:
        return 2;
    case TYPE_INT:
    case TYPE_INT_UNSIGNED:
    case TYPE_FLOAT:
    case TYPE_DATE:
        return 4;
    case TYPE_BIGINT:
    case TYPE_BIGINT_UNSIGNED:
    case TYPE_DOUBLE:
    case TYPE_DECIMAL:
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        return 8;
    case TYPE_BINARY:
        return column->size_max;
    case TYPE_CHAR:
    case TYPE_VARCHAR:
    case TYPE_VARBINARY:
    case TYPE_TEXT:
    case TYPE_BLOB:
        return 0;
    }
    return 0;
}

/* Names are shown in messages and results: text without control characters, and without the
 * characters that quote or join names in SQL. `size` includes the terminating NUL's place. */
static bool name_is_valid(const char name[SCHEMA_NAME_SIZE_MAX + 1])
{
    size_t size = strnlen(name, SCHEMA_NAME_SIZE_MAX + 1);
    if (size == 0 || size > SCHEMA_NAME_SIZE_MAX) return false;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)name[i];
        if (c < ' ' || c == 0x7f || c == '`' || c == '.') return false;
    }
    uint32_t count;
    return name[0] != ' ' && name[size - 1] != ' ' &&
           value_utf8_count((const uint8_t *)name, (uint32_t)size, &count);
}

static bool is_text(const struct column_def *column)
{
    return column->type == TYPE_CHAR || column->type == TYPE_VARCHAR || column->type == TYPE_TEXT;
}

static bool is_integer(const struct column_def *column)
{
    return column->type >= TYPE_TINYINT && column->type <= TYPE_BIGINT_UNSIGNED;
}

static enum err check_size(const struct column_def *column, struct diag *diag)
{
    uint32_t limit = column->type == TYPE_BINARY ? BINARY_SIZE_MAX
                     : column->type == TYPE_CHAR ? CHAR_SIZE_MAX
                                                 : SCHEMA_VAR_SIZE_MAX;
    if (column->size_max == 0 || column->size_max > limit)
        return diag_set(diag, ERR_INVALID, "column %s: size must be 1 to %u bytes", column->name,
                        limit);
    if ((column->type == TYPE_CHAR || column->type == TYPE_VARCHAR) && column->size_max % 4)
        return diag_set(diag, ERR_INVALID,
                        "column %s: size in bytes must be four times the number of characters",
                        column->name);
    return ERR_NONE;
}

static enum err check_column(const struct column_def *column, struct diag *diag)
{
    if (!name_is_valid(column->name)) return diag_set(diag, ERR_INVALID, "invalid column name");
    if (column->type < TYPE_TINYINT || column->type > TYPE_BLOB)
        return diag_set(diag, ERR_INVALID, "column %s: unknown type %u", column->name,
                        column->type);
    if (column->collation > COLLATION_CASE_INSENSITIVE)
        return diag_set(diag, ERR_INVALID, "column %s: unknown collation %u", column->name,
                        column->collation);
    if (column->collation && !is_text(column))
        return diag_set(diag, ERR_INVALID, "column %s: only text has a collation", column->name);
    if (column_kind(column) == KIND_STR) return check_size(column, diag);
    if (column->type == TYPE_DECIMAL) {
        if (column->precision == 0 || column->precision > DEC_DIGITS_MAX)
            return diag_set(diag, ERR_INVALID, "column %s: precision must be 1 to %d", column->name,
                            DEC_DIGITS_MAX);
        if (column->scale > column->precision)
            return diag_set(diag, ERR_INVALID, "column %s: scale is larger than the precision",
                            column->name);
    }
    bool is_time = column->type == TYPE_DATETIME || column->type == TYPE_TIMESTAMP;
    if (is_time && column->scale > 6)
        return diag_set(diag, ERR_INVALID, "column %s: at most 6 digits of a second", column->name);
    return ERR_NONE;
}

/* The columns that lie beside each other from this one on: what a row's values of them take. */
static enum err check_beside(const struct table_def *table, uint32_t first, struct diag *diag)
{
    uint32_t size = 0;
    for (uint32_t i = first; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        if (i > first && !column->beside) break;
        uint32_t width = column_width(column);
        size += width ? width : SCHEMA_REFERENCE_SIZE;
        if (i > first && (column->type == TYPE_BINARY || table->columns[i - 1].type == TYPE_BINARY))
            return diag_set(diag, ERR_INVALID, "column %s: a BINARY column lies alone",
                            column->name);
        if (i > first && size > SCHEMA_BESIDE_SIZE_MAX)
            return diag_set(diag, ERR_INVALID,
                            "column %s: columns beside each other take more than %d bytes",
                            column->name, SCHEMA_BESIDE_SIZE_MAX);
    }
    return ERR_NONE;
}

static enum err check_columns(const struct table_def *table, struct diag *diag)
{
    uint32_t row_size = 0;
    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        enum err err = check_column(column, diag);
        if (err) return err;
        if (table_def_column(table, column->name) != (int)i)
            return diag_set(diag, ERR_INVALID, "two columns are named %s", column->name);
        if (i == 0 && column->beside)
            return diag_set(diag, ERR_INVALID, "column %s: there is none before it to lie beside",
                            column->name);
        if (!column->beside) err = check_beside(table, i, diag);
        if (err) return err;
        row_size += column_width(column);
    }
    if (row_size > ROW_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "fixed columns take %u bytes a row, more than %d",
                        row_size, ROW_SIZE_MAX);
    return ERR_NONE;
}

/* Bytes a normalized key column takes at most, when it has no zero bytes to escape. */
static uint32_t key_column_size(const struct column_def *column)
{
    uint32_t width = column_width(column);
    return (column->nullable ? 1 : 0) + (width ? width : column->size_max + 2);
}

static enum err check_index_columns(const struct table_def *table, const struct index_def *index,
                                    struct diag *diag)
{
    uint32_t key_size = 0;
    for (uint32_t i = 0; i < index->column_count; i++) {
        uint16_t number = index->columns[i];
        if (number >= table->column_count)
            return diag_set(diag, ERR_INVALID, "index %s: there is no column %u", index->name,
                            number);
        const struct column_def *column = &table->columns[number];
        for (uint32_t j = 0; j < i; j++)
            if (index->columns[j] == number)
                return diag_set(diag, ERR_INVALID, "index %s names column %s twice", index->name,
                                column->name);
        if (column->type == TYPE_TEXT || column->type == TYPE_BLOB)
            return diag_set(diag, ERR_INVALID, "index %s: column %s is TEXT or BLOB", index->name,
                            column->name);
        if (index == &table->indexes[0] && column->nullable)
            return diag_set(diag, ERR_INVALID, "primary key: column %s may be NULL", column->name);
        key_size += key_column_size(column);
    }
    if (key_size > SCHEMA_KEY_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "index %s: its columns take %u bytes, more than %d",
                        index->name, key_size, SCHEMA_KEY_SIZE_MAX);
    return ERR_NONE;
}

static enum err check_index(const struct table_def *table, uint32_t position, struct diag *diag)
{
    const struct index_def *index = &table->indexes[position];
    if (!name_is_valid(index->name)) return diag_set(diag, ERR_INVALID, "invalid index name");
    if (schema_name_equal(index->name, "PRIMARY") != (position == 0))
        return diag_set(diag, ERR_INVALID, "PRIMARY is the name of the primary key, index 0");
    if (index->kind != INDEX_ORDERED && index->kind != INDEX_HASH)
        return diag_set(diag, ERR_INVALID, "index %s: unknown kind %u", index->name, index->kind);
    if (position && (index->kind != INDEX_ORDERED || index->has_hash))
        return diag_set(diag, ERR_INVALID, "index %s: only the primary key may be hashed",
                        index->name);
    if (position && index->unique)
        return diag_set(diag, ERR_INVALID, "index %s: only the primary key may be unique",
                        index->name);
    if (index->column_count == 0 || index->column_count > SCHEMA_KEY_COLUMNS_MAX)
        return diag_set(diag, ERR_INVALID, "index %s: 1 to %d columns", index->name,
                        SCHEMA_KEY_COLUMNS_MAX);
    if (position ? index->id == 0 || index->id >= table->next_index_id : index->id != 0)
        return diag_set(diag, ERR_INVALID, "index %s: bad index id %u", index->name, index->id);
    for (uint32_t i = 0; i < position; i++) {
        if (schema_name_equal(table->indexes[i].name, index->name))
            return diag_set(diag, ERR_INVALID, "two indexes are named %s", index->name);
        if (table->indexes[i].id == index->id)
            return diag_set(diag, ERR_INVALID, "two indexes have the id %u", index->id);
    }
    return check_index_columns(table, index, diag);
}

static enum err check_partitioning(const struct table_def *table, struct diag *diag)
{
    uint32_t count = table->partition_column_count;
    const struct index_def *primary = &table->indexes[0];
    if (table->partition_by < PARTITION_BY_KEY || table->partition_by > PARTITION_BY_SLOT)
        return diag_set(diag, ERR_INVALID, "unknown partitioning %u", table->partition_by);
    if (count == 0 || count > SCHEMA_KEY_COLUMNS_MAX)
        return diag_set(diag, ERR_INVALID, "1 to %d partition columns", SCHEMA_KEY_COLUMNS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < primary->column_count; j++)
            found |= primary->columns[j] == table->partition_columns[i];
        if (!found)
            return diag_set(diag, ERR_INVALID, "partition columns must be in the primary key");
        for (uint32_t j = 0; j < i; j++)
            if (table->partition_columns[j] == table->partition_columns[i])
                return diag_set(diag, ERR_INVALID, "a partition column is named twice");
    }
    if (table->partition_by == PARTITION_BY_KEY) return ERR_NONE;
    if (count != 1 || !is_integer(&table->columns[table->partition_columns[0]]))
        return diag_set(diag, ERR_INVALID, "this partitioning takes one integer column");
    return ERR_NONE;
}

static enum err check_ttl(const struct table_def *table, struct diag *diag)
{
    if (!table->ttl_seconds) return ERR_NONE;
    if (table->ttl_column >= table->column_count)
        return diag_set(diag, ERR_INVALID, "TTL: there is no column %u", table->ttl_column);
    const struct column_def *column = &table->columns[table->ttl_column];
    if (!is_integer(column) && column->type != TYPE_DATETIME && column->type != TYPE_TIMESTAMP)
        return diag_set(diag, ERR_INVALID,
                        "TTL: column %s is no DATETIME, TIMESTAMP or integer of seconds",
                        column->name);
    return ERR_NONE;
}

enum err table_def_check(const struct table_def *table, struct diag *diag)
{
    if (!name_is_valid(table->database))
        return diag_set(diag, ERR_INVALID, "invalid database name");
    if (!name_is_valid(table->name)) return diag_set(diag, ERR_INVALID, "invalid table name");
    if (table->column_count == 0 || table->column_count > SCHEMA_COLUMNS_MAX || !table->columns)
        return diag_set(diag, ERR_INVALID, "a table has 1 to %d columns", SCHEMA_COLUMNS_MAX);
    if (table->index_count == 0)
        return diag_set(diag, ERR_INVALID, "a table must have a primary key");
    if (table->index_count > SCHEMA_INDEXES_MAX)
        return diag_set(diag, ERR_INVALID, "a table has at most %d indexes", SCHEMA_INDEXES_MAX);
    enum err err = check_columns(table, diag);
    for (uint32_t i = 0; !err && i < table->index_count; i++)
        err = check_index(table, i, diag);
    if (!err) err = check_partitioning(table, diag);
    if (!err) err = check_ttl(table, diag);
    return err;
}

struct table_def *table_def_copy(const struct table_def *table)
{
    struct table_def *copy = malloc(sizeof(*copy));
    if (!copy) return NULL;
    *copy = *table;
    /* At least one element, so that NULL always means failure. */
    size_t count = table->column_count ? table->column_count : 1;
    copy->columns = calloc(count, sizeof(*copy->columns));
    if (!copy->columns) {
        free(copy);
        return NULL;
    }
    if (table->column_count)
        memcpy(copy->columns, table->columns, table->column_count * sizeof(*copy->columns));
    return copy;
}

void table_def_destroy(struct table_def *table)
{
    if (!table) return;
    free(table->columns);
    free(table);
}

struct catalog *catalog_copy(const struct catalog *catalog)
{
    struct catalog *copy = calloc(1, sizeof(*copy));
    if (!copy) return NULL;
    copy->version = catalog->version;
    copy->next_table_id = catalog->next_table_id;
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        copy->tables[i] = table_def_copy(catalog->tables[i]);
        if (!copy->tables[i]) {
            catalog_destroy(copy);
            return NULL;
        }
        copy->table_count++;
    }
    return copy;
}

void catalog_destroy(struct catalog *catalog)
{
    if (!catalog) return;
    for (uint32_t i = 0; i < catalog->table_count; i++)
        table_def_destroy(catalog->tables[i]);
    free(catalog);
}
