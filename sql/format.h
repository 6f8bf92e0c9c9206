/* Results as text. Private to sql/. */
#ifndef SQL_FORMAT_H
#define SQL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "db/wire/value.h"
#include "sql/sql.h"

enum {
    FORMAT_PIECE_SIZE = 1 << 16,      /* bytes gathered before the sink gets them */
    FORMAT_TABLE_ROWS_MAX = 2000,     /* rows held to find the widths of columns */
    FORMAT_TABLE_BYTES_MAX = 8 << 20, /* and their text */
    FORMAT_TABLE_WIDTH_MAX = 200,     /* a wider cell does not widen its column */
};

struct format_column {
    const char *name;
    uint8_t kind;
    uint8_t scale;   /* of DEC; digits of a second where display is DATETIME or TIMESTAMP */
    uint8_t display; /* TYPE_DATE, TYPE_DATETIME, TYPE_TIMESTAMP, or 0 */
    bool binary;     /* as hexadecimal */
};

/* One result on its way to a sink. Rows go out as they come; TABLE holds the first ones to find
 * widths, which the later ones then keep. */
struct formatter {
    enum sql_format format;
    struct sql_sink *sink;
    const struct format_column *columns; /* borrowed */
    uint32_t column_count;
    uint64_t row_count;
    struct buf out;
    struct buf cell; /* the text of one value */
    /* TABLE */
    bool streaming; /* widths are decided and the heading is out */
    uint32_t held_count;
    struct buf held; /* cells: u32 size, text */
    uint32_t *widths;
};

/* ERR_NO_MEMORY, or the sink's error. */
MUST_USE enum err formatter_begin(struct formatter *formatter, enum sql_format format,
                                  struct sql_sink *sink, const struct format_column *columns,
                                  uint32_t column_count);
MUST_USE enum err formatter_row(struct formatter *formatter, const struct value *row);
MUST_USE enum err formatter_end(struct formatter *formatter);
void formatter_fini(struct formatter *formatter);

/* format_value.c: the value's plain text: numbers, dates, the bytes of text; nothing for NULL. */
void format_value(const struct format_column *column, struct value value, struct buf *buf);
/* The next code point of bytes[0, size), at least one byte; UINT32_MAX for a byte that is no UTF-8.
 */
uint32_t format_code_point(const uint8_t *bytes, size_t size, uint32_t *ret_size);
/* Columns of a terminal that the code point takes: 0, 1 or 2. */
uint32_t format_width(uint32_t code_point);
/* Whether the column's values stand right-aligned. */
bool format_is_number(const struct format_column *column);

/* format_json.c */
void format_json_begin(struct buf *buf);
void format_json_row(struct formatter *formatter, const struct value *row);
void format_json_end(struct formatter *formatter);

/* format_table.c */
MUST_USE enum err format_table_row(struct formatter *formatter, const struct value *row);
MUST_USE enum err format_table_end(struct formatter *formatter);

#endif
