/* JSON: {"data":[ one object a line ]}. Numbers are numbers, DECIMAL with all its digits; dates and
 * text are strings. Bytes that are no UTF-8 become U+FFFD. JSON_ASCII writes everything beyond
 * ASCII as \u escapes, with surrogate pairs. */
#include "sql/format.h"

#include <math.h>

enum { REPLACEMENT = 0xfffd };

static void put_code_point(uint32_t point, const uint8_t *bytes, uint32_t size, bool ascii,
                           struct buf *buf)
{
    static const char replacement[] = "\xef\xbf\xbd";
    bool bad = point == UINT32_MAX;
    if (!ascii) {
        if (bad)
            buf_put(buf, replacement, 3);
        else
            buf_put(buf, bytes, size);
        return;
    }
    if (bad) point = REPLACEMENT;
    if (point < 0x10000) {
        buf_printf(buf, "\\u%04x", point);
        return;
    }
    point -= 0x10000;
    buf_printf(buf, "\\u%04x\\u%04x", 0xd800 + (point >> 10), 0xdc00 + (point & 0x3ff));
}

static void put_string(const uint8_t *bytes, size_t size, bool ascii, struct buf *buf)
{
    buf_put_u8(buf, '"');
    for (size_t i = 0; i < size;) {
        uint32_t step;
        uint32_t point = format_code_point(bytes + i, size - i, &step);
        if (point == '"' || point == '\\') {
            buf_put_u8(buf, '\\');
            buf_put_u8(buf, (uint8_t)point);
        } else if (point == '\n') {
            buf_put(buf, "\\n", 2);
        } else if (point == '\t') {
            buf_put(buf, "\\t", 2);
        } else if (point == '\r') {
            buf_put(buf, "\\r", 2);
        } else if (point < ' ' || point == 0x7f) {
            buf_printf(buf, "\\u%04x", point);
        } else if (point < 0x80) {
            buf_put_u8(buf, (uint8_t)point);
        } else {
            put_code_point(point, bytes + i, step, ascii, buf);
        }
        i += step;
    }
    buf_put_u8(buf, '"');
}

void format_json_begin(struct buf *buf)
{
    buf_printf(buf, "{\"data\":[");
}

void format_json_row(struct formatter *formatter, const struct value *row)
{
    struct buf *buf = &formatter->out;
    bool ascii = formatter->format == SQL_FORMAT_JSON_ASCII;
    buf_printf(buf, "%s\n{", formatter->row_count ? "," : "");
    for (uint32_t i = 0; i < formatter->column_count; i++) {
        const struct format_column *column = &formatter->columns[i];
        if (i) buf_put_u8(buf, ',');
        put_string((const uint8_t *)column->name, strlen(column->name), ascii, buf);
        buf_put_u8(buf, ':');
        if (value_is_null(row[i]) || (row[i].kind == KIND_F64 && !isfinite(row[i].f))) {
            buf_put(buf, "null", 4);
            continue;
        }
        if (format_is_number(column)) {
            format_value(column, row[i], buf);
            continue;
        }
        buf_clear(&formatter->cell);
        format_value(column, row[i], &formatter->cell);
        put_string(formatter->cell.bytes, formatter->cell.size, ascii, buf);
    }
    buf_put_u8(buf, '}');
}

void format_json_end(struct formatter *formatter)
{
    buf_printf(&formatter->out, "%s]}\n", formatter->row_count ? "\n" : "");
}
