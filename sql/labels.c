/* Labels: text in place of the whole numbers of one column, such as paths for inode numbers.
 *
 * What the numbers stand for is asked of the database as well, and by then the rows must not be
 * under way any more: so the result is read whole into the statement's arena, its query is closed,
 * the numbers are resolved in one call, and then the rows are formatted with the column as text.
 * Only run.c calls. NULL stays NULL. */
#include "sql/labels.h"

#include <string.h>

#include "base/check.h"

/* Rows, one after another, copied out of the query's memory. */
struct held {
    struct value *values;
    uint32_t row_count;
    uint32_t capacity; /* rows */
};

uint32_t labels_column(const struct sql_labels *labels, const struct format_column *columns,
                       uint32_t column_count)
{
    for (uint32_t i = 0; labels && i < column_count; i++)
        if (strcmp(columns[i].name, labels->column) == 0 &&
            (columns[i].kind == KIND_U64 || columns[i].kind == KIND_I64))
            return i;
    return LABELLED_NONE;
}

static enum err held_grow(struct held *held, uint32_t column_count, struct arena *arena)
{
    uint32_t capacity = held->capacity ? held->capacity * 2 : 64;
    struct value *values = arena_new(arena, struct value, (size_t)capacity * column_count);
    if (!values) return ERR_NO_MEMORY;
    if (held->row_count)
        memcpy(values, held->values, (size_t)held->row_count * column_count * sizeof(*values));
    held->values = values;
    held->capacity = capacity;
    return ERR_NONE;
}

static enum err held_add(struct held *held, const struct value *row, uint32_t column_count,
                         struct arena *arena)
{
    if (held->row_count == held->capacity && held_grow(held, column_count, arena))
        return ERR_NO_MEMORY;
    struct value *to = held->values + (size_t)held->row_count * column_count;
    for (uint32_t i = 0; i < column_count; i++) {
        to[i] = row[i];
        if (row[i].kind != KIND_STR || !row[i].size) continue;
        to[i].bytes = (const uint8_t *)arena_copy(arena, row[i].bytes, row[i].size);
        if (!to[i].bytes) return ERR_NO_MEMORY;
    }
    held->row_count++;
    return ERR_NONE;
}

static enum err hold_all(struct db_query *query, uint32_t column_count, struct arena *arena,
                         struct held *held, struct diag *diag)
{
    for (;;) {
        const struct value *row;
        enum err err = db_query_next(query, &row, diag);
        if (err == ERR_END) return ERR_NONE;
        if (err) return err;
        if (held->row_count == SQL_LABELLED_ROWS_MAX)
            return diag_set(diag, ERR_TOO_BIG, "more than %d rows to show with names",
                            SQL_LABELLED_ROWS_MAX);
        err = held_add(held, row, column_count, arena);
        if (err) return diag_set(diag, err, "out of memory");
    }
}

/* Puts the texts where the numbers are. */
static enum err replace(struct sql_labels *labels, uint32_t column, struct db_client *client,
                        uint32_t column_count, struct arena *arena, struct held *held,
                        struct diag *diag)
{
    uint64_t *numbers = arena_new(arena, uint64_t, held->row_count);
    const char **texts = arena_new(arena, const char *, held->row_count);
    uint32_t count = 0;
    if (!numbers || !texts) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    for (uint32_t i = 0; i < held->row_count; i++) {
        const struct value *value = &held->values[(size_t)i * column_count + column];
        if (!value_is_null(*value)) numbers[count++] = value->u;
    }
    enum err err = labels->resolve(labels, client, numbers, count, texts, diag);
    if (err) return err;
    count = 0;
    for (uint32_t i = 0; i < held->row_count; i++) {
        struct value *value = &held->values[(size_t)i * column_count + column];
        if (!value_is_null(*value)) *value = value_text(texts[count++]);
    }
    return ERR_NONE;
}

enum err labels_write(struct sql_labels *labels, uint32_t column, struct db_client *client,
                      struct db_query *query, struct format_column *columns, uint32_t column_count,
                      enum sql_format format, struct sql_sink *sink, struct arena *arena,
                      struct diag *diag)
{
    ASSERT(column < column_count);
    struct held held = {0};
    enum err err = hold_all(query, column_count, arena, &held, diag);
    db_query_close(query);
    if (!err && held.row_count)
        err = replace(labels, column, client, column_count, arena, &held, diag);
    if (err) return err;
    columns[column].kind = KIND_STR;
    columns[column].scale = columns[column].display = 0;
    struct formatter formatter;
    err = formatter_begin(&formatter, format, sink, columns, column_count);
    for (uint32_t i = 0; !err && i < held.row_count; i++)
        err = formatter_row(&formatter, held.values + (size_t)i * column_count);
    if (!err) err = formatter_end(&formatter);
    formatter_fini(&formatter);
    return err;
}
