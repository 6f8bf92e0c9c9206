/* TABLE: aligned columns under a ruled heading, for people.
 *
 *     uid  name
 *     ---  -----
 *       7  alice
 *
 * The first rows are held until there are enough to decide the widths, or no more come. Cells are
 * made harmless for a terminal before they are measured: control characters and bytes that are no
 * UTF-8 are written as escapes. */
#include "sql/format.h"

#include <stdlib.h>

static void put_spaces(struct buf *buf, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        buf_put_u8(buf, ' ');
}

/* Appends the text with everything escaped that would move the cursor. */
static void put_printable(const uint8_t *bytes, size_t size, struct buf *buf)
{
    for (size_t i = 0; i < size;) {
        uint32_t step;
        uint32_t point = format_code_point(bytes + i, size - i, &step);
        if (point == '\n')
            buf_put(buf, "\\n", 2);
        else if (point == '\t')
            buf_put(buf, "\\t", 2);
        else if (point < ' ' || point == 0x7f || point == UINT32_MAX)
            buf_printf(buf, "\\x%02x", bytes[i]);
        else if (point >= 0x80 && point < 0xa0)
            buf_printf(buf, "\\u%04x", point);
        else
            buf_put(buf, bytes + i, step);
        i += step;
    }
}

static uint32_t text_width(const uint8_t *bytes, size_t size)
{
    uint32_t width = 0;
    for (size_t i = 0; i < size;) {
        uint32_t step;
        uint32_t point = format_code_point(bytes + i, size - i, &step);
        width += format_width(point);
        i += step;
    }
    return width;
}

/* A line ends with its last visible character. */
static void end_line(struct buf *out)
{
    while (out->size && out->bytes[out->size - 1] == ' ')
        out->size--;
    buf_put_u8(out, '\n');
}

/* One cell; the last column is not padded behind. */
static void put_cell(struct formatter *formatter, uint32_t column, const uint8_t *bytes,
                     size_t size)
{
    struct buf *out = &formatter->out;
    uint32_t width = text_width(bytes, size);
    uint32_t wanted = formatter->widths[column];
    uint32_t missing = width < wanted ? wanted - width : 0;
    bool right = format_is_number(&formatter->columns[column]);
    if (column) put_spaces(out, 2);
    if (right) put_spaces(out, missing);
    buf_put(out, bytes, size);
    if (column + 1 == formatter->column_count)
        end_line(out);
    else if (!right)
        put_spaces(out, missing);
}

static void measure(struct formatter *formatter, uint32_t column, const uint8_t *bytes, size_t size)
{
    uint32_t width = text_width(bytes, size);
    if (width > FORMAT_TABLE_WIDTH_MAX) width = FORMAT_TABLE_WIDTH_MAX;
    if (width > formatter->widths[column]) formatter->widths[column] = width;
}

static void put_heading(struct formatter *formatter)
{
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        const char *name = formatter->columns[i].name;
        buf_clear(&formatter->cell);
        put_printable((const uint8_t *)name, strlen(name), &formatter->cell);
        put_cell(formatter, i, formatter->cell.bytes, formatter->cell.size);
    }
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        if (i) put_spaces(&formatter->out, 2);
        for (uint32_t j = 0; j < formatter->widths[i]; j++)
            buf_put_u8(&formatter->out, '-');
    }
    buf_put_u8(&formatter->out, '\n');
}

/* The widths are decided: the heading and the rows held go out. */
static enum err start_streaming(struct formatter *formatter)
{
    formatter->streaming = true;
    put_heading(formatter);
    struct reader reader = reader_of(formatter->held.bytes, formatter->held.size);
    for (uint32_t i = 0; i < formatter->held_count; i++) {
        for (uint32_t j = 0; j < formatter->column_count; j++) {
            uint32_t size = reader_u32(&reader);
            put_cell(formatter, j, reader_take(&reader, size), size);
        }
    }
    buf_fini(&formatter->held);
    buf_init(&formatter->held);
    return formatter->out.failed ? ERR_NO_MEMORY : ERR_NONE;
}

static enum err measure_headings(struct formatter *formatter)
{
    formatter->widths = calloc(formatter->column_count, sizeof(*formatter->widths));
    if (!formatter->widths) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        const char *name = formatter->columns[i].name;
        buf_clear(&formatter->cell);
        put_printable((const uint8_t *)name, strlen(name), &formatter->cell);
        measure(formatter, i, formatter->cell.bytes, formatter->cell.size);
        if (formatter->widths[i] == 0) formatter->widths[i] = 1;
    }
    return formatter->cell.failed ? ERR_NO_MEMORY : ERR_NONE;
}

enum err format_table_row(struct formatter *formatter, const struct value *row)
{
    enum err err = formatter->widths ? ERR_NONE : measure_headings(formatter);
    struct buf raw;
    buf_init(&raw);
    for (uint32_t i = 0; i < formatter->column_count && !err; i++) {
        struct buf *cell = &formatter->cell;
        buf_clear(&raw);
        buf_clear(cell);
        if (value_is_null(row[i]))
            buf_put(&raw, "NULL", 4);
        else
            format_value(&formatter->columns[i], row[i], &raw);
        put_printable(raw.bytes, raw.size, cell);
        if (raw.failed || cell->failed)
            err = ERR_NO_MEMORY;
        else if (formatter->streaming)
            put_cell(formatter, i, cell->bytes, cell->size);
        else {
            measure(formatter, i, cell->bytes, cell->size);
            buf_put_u32(&formatter->held, (uint32_t)cell->size);
            buf_put(&formatter->held, cell->bytes, cell->size);
        }
    }
    buf_fini(&raw);
    if (!err && formatter->held.failed) err = ERR_NO_MEMORY;
    if (err || formatter->streaming) return err;
    formatter->held_count++;
    bool full = formatter->held_count >= FORMAT_TABLE_ROWS_MAX ||
                formatter->held.size >= FORMAT_TABLE_BYTES_MAX;
    return full ? start_streaming(formatter) : ERR_NONE;
}

enum err format_table_end(struct formatter *formatter)
{
    if (formatter->streaming) return ERR_NONE;
    enum err err = formatter->widths ? ERR_NONE : measure_headings(formatter);
    return err ? err : start_streaming(formatter);
}
