/* Formats: the rows of a result as text, to a sink, in pieces. TEXT and CSV are here; JSON and
 * TABLE have files of their own. */
#include "sql/format.h"

#include <stdlib.h>
#include <strings.h>

#include "base/check.h"

bool sql_format_by_name(const char *name, enum sql_format *ret_format)
{
    static const char *const names[] = {[SQL_FORMAT_TABLE] = "TABLE",
                                        [SQL_FORMAT_TEXT] = "TEXT",
                                        [SQL_FORMAT_TEXT_NOHEADER] = "TEXT_NOHEADER",
                                        [SQL_FORMAT_CSV] = "CSV",
                                        [SQL_FORMAT_JSON] = "JSON",
                                        [SQL_FORMAT_JSON_ASCII] = "JSON_ASCII"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcasecmp(names[i], name) != 0) continue;
        *ret_format = (enum sql_format)i;
        return true;
    }
    return false;
}

/* ---- TEXT: tabs between, one line a row ---- */

static void put_text(const uint8_t *bytes, size_t size, struct buf *buf)
{
    for (size_t i = 0; i < size; i++) {
        switch (bytes[i]) {
        case '\t':
            buf_put(buf, "\\t", 2);
            break;
        case '\n':
            buf_put(buf, "\\n", 2);
            break;
        case '\\':
            buf_put(buf, "\\\\", 2);
            break;
        case '\0':
            buf_put(buf, "\\0", 2);
            break;
        default:
            buf_put_u8(buf, bytes[i]);
            break;
        }
    }
}

static void text_row(struct formatter *formatter, const struct value *row)
{
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        if (i) buf_put_u8(&formatter->out, '\t');
        if (value_is_null(row[i])) {
            buf_put(&formatter->out, "NULL", 4);
            continue;
        }
        buf_clear(&formatter->cell);
        format_value(&formatter->columns[i], row[i], &formatter->cell);
        put_text(formatter->cell.bytes, formatter->cell.size, &formatter->out);
    }
    buf_put_u8(&formatter->out, '\n');
}

/* ---- CSV: RFC 4180 ---- */

static void put_csv(const uint8_t *bytes, size_t size, struct buf *buf)
{
    bool quote = size == 0;
    for (size_t i = 0; i < size && !quote; i++)
        quote = bytes[i] == ',' || bytes[i] == '"' || bytes[i] == '\n' || bytes[i] == '\r' ||
                ((i == 0 || i + 1 == size) && bytes[i] == ' ');
    if (!quote) {
        buf_put(buf, bytes, size);
        return;
    }
    buf_put_u8(buf, '"');
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '"') buf_put_u8(buf, '"');
        buf_put_u8(buf, bytes[i]);
    }
    buf_put_u8(buf, '"');
}

static void csv_row(struct formatter *formatter, const struct value *row)
{
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        if (i) buf_put_u8(&formatter->out, ',');
        if (value_is_null(row[i])) continue;
        buf_clear(&formatter->cell);
        format_value(&formatter->columns[i], row[i], &formatter->cell);
        put_csv(formatter->cell.bytes, formatter->cell.size, &formatter->out);
    }
    buf_put(&formatter->out, "\r\n", 2);
}

static void put_headings(struct formatter *formatter)
{
    bool csv = formatter->format == SQL_FORMAT_CSV;
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        const char *name = formatter->columns[i].name;
        if (i) buf_put_u8(&formatter->out, csv ? ',' : '\t');
        if (csv)
            put_csv((const uint8_t *)name, strlen(name), &formatter->out);
        else
            put_text((const uint8_t *)name, strlen(name), &formatter->out);
    }
    if (csv) buf_put_u8(&formatter->out, '\r');
    buf_put_u8(&formatter->out, '\n');
}

/* ---- any format ---- */

static enum err flush(struct formatter *formatter, size_t least)
{
    struct buf *out = &formatter->out;
    if (out->failed || formatter->cell.failed) return ERR_NO_MEMORY;
    if (out->size < least || out->size == 0) return ERR_NONE;
    enum err err = formatter->sink->write(formatter->sink, (const char *)out->bytes, out->size);
    buf_clear(out);
    return err;
}

enum err formatter_begin(struct formatter *formatter, enum sql_format format, struct sql_sink *sink,
                         const struct format_column *columns, uint32_t column_count)
{
    *formatter = (struct formatter){
        .format = format, .sink = sink, .columns = columns, .column_count = column_count};
    buf_init(&formatter->out);
    buf_init(&formatter->cell);
    buf_init(&formatter->held);
    switch (format) {
    case SQL_FORMAT_TEXT:
    case SQL_FORMAT_CSV:
        put_headings(formatter);
        break;
    case SQL_FORMAT_JSON:
    case SQL_FORMAT_JSON_ASCII:
        format_json_begin(&formatter->out);
        break;
    case SQL_FORMAT_TABLE:
    case SQL_FORMAT_TEXT_NOHEADER:
        break;
    }
    return flush(formatter, FORMAT_PIECE_SIZE);
}

enum err formatter_row(struct formatter *formatter, const struct value *row)
{
    enum err err = ERR_NONE;
    switch (formatter->format) {
    case SQL_FORMAT_TABLE:
        err = format_table_row(formatter, row);
        break;
    case SQL_FORMAT_TEXT:
    case SQL_FORMAT_TEXT_NOHEADER:
        text_row(formatter, row);
        break;
    case SQL_FORMAT_CSV:
        csv_row(formatter, row);
        break;
    case SQL_FORMAT_JSON:
    case SQL_FORMAT_JSON_ASCII:
        format_json_row(formatter, row);
        break;
    }
    formatter->row_count++;
    return err ? err : flush(formatter, FORMAT_PIECE_SIZE);
}

enum err formatter_end(struct formatter *formatter)
{
    enum err err = ERR_NONE;
    if (formatter->format == SQL_FORMAT_TABLE) err = format_table_end(formatter);
    if (formatter->format == SQL_FORMAT_JSON || formatter->format == SQL_FORMAT_JSON_ASCII)
        format_json_end(formatter);
    return err ? err : flush(formatter, 1);
}

void formatter_fini(struct formatter *formatter)
{
    buf_fini(&formatter->out);
    buf_fini(&formatter->cell);
    buf_fini(&formatter->held);
    free(formatter->widths);
    formatter->widths = NULL;
}
