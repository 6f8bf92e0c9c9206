/* Values as text, and what a terminal makes of text. */
#include "sql/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "sql/datetime.h"

/* The shortest text that reads back as the same number, as the executor's cast to text writes it:
 * the exponent is without a plus and leading zeros. */
static void put_double(double number, struct buf *buf)
{
    char text[40];
    for (int digits = fabs(number) < 1e-290 ? 1 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    const char *exponent = strchr(text, 'e');
    size_t size = exponent ? (size_t)(exponent - text) + 1 : strlen(text);
    buf_put(buf, text, size);
    if (!exponent) return;
    exponent++;
    if (*exponent == '-') buf_put_u8(buf, '-');
    exponent++;
    while (*exponent == '0' && exponent[1])
        exponent++;
    buf_put(buf, exponent, strlen(exponent));
}

static void put_decimal(int64_t number, uint8_t scale, struct buf *buf)
{
    char digits[32];
    uint64_t size = number < 0 ? (uint64_t)0 - (uint64_t)number : (uint64_t)number;
    int count = snprintf(digits, sizeof(digits), "%0*llu", scale + 1, (unsigned long long)size);
    if (number < 0) buf_put_u8(buf, '-');
    buf_put(buf, digits, (size_t)(count - scale));
    if (scale == 0) return;
    buf_put_u8(buf, '.');
    buf_put(buf, digits + count - scale, scale);
}

static void put_hex(struct value value, struct buf *buf)
{
    static const char digits[] = "0123456789abcdef";
    for (uint32_t i = 0; i < value.size; i++) {
        buf_put_u8(buf, (uint8_t)digits[value.bytes[i] >> 4]);
        buf_put_u8(buf, (uint8_t)digits[value.bytes[i] & 15]);
    }
}

static void put_date(const struct format_column *column, int64_t number, struct buf *buf)
{
    char text[DATETIME_TEXT_SIZE_MAX];
    size_t size = column->display == TYPE_DATE ? date_format(number, text)
                                               : datetime_format(number, column->scale, text);
    buf_put(buf, text, size);
}

void format_value(const struct format_column *column, struct value value, struct buf *buf)
{
    switch ((enum value_kind)value.kind) {
    case KIND_NULL:
        break;
    case KIND_I64:
        if (column->display)
            put_date(column, value.i, buf);
        else
            buf_printf(buf, "%lld", (long long)value.i);
        break;
    case KIND_U64:
        buf_printf(buf, "%llu", (unsigned long long)value.u);
        break;
    case KIND_F64:
        put_double(value.f, buf);
        break;
    case KIND_DEC:
        put_decimal(value.i, value.scale, buf);
        break;
    case KIND_STR:
        if (column->binary)
            put_hex(value, buf);
        else if (value.size)
            buf_put(buf, value.bytes, value.size);
        break;
    }
}

bool format_is_number(const struct format_column *column)
{
    return column->kind != KIND_STR && !column->display;
}

uint32_t format_code_point(const uint8_t *bytes, size_t size, uint32_t *ret_size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = bytes[0];
    *ret_size = 1;
    if (first < 0x80) return first;
    uint32_t count = first >= 0xf0 && first < 0xf8   ? 4
                     : first >= 0xe0 && first < 0xf0 ? 3
                     : first >= 0xc0 && first < 0xe0 ? 2
                                                     : 0;
    if (count == 0 || count > size) return UINT32_MAX;
    uint32_t point = first & (0x7fu >> count);
    for (uint32_t i = 1; i < count; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return UINT32_MAX;
        point = point << 6 | (bytes[i] & 0x3fu);
    }
    if (point < least[count] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
        return UINT32_MAX;
    *ret_size = count;
    return point;
}

uint32_t format_width(uint32_t code_point)
{
    static const struct {
        uint32_t first, last;
    } none[] = {{0x300, 0x36f}, {0x200b, 0x200f}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}},
      twice[] = {{0x1100, 0x115f},   {0x2e80, 0xa4cf},   {0xac00, 0xd7a3},  {0xf900, 0xfaff},
                 {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},  {0x1f300, 0x1f64f},
                 {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        if (code_point >= none[i].first && code_point <= none[i].last) return 0;
    for (size_t i = 0; i < ARRAY_SIZE(twice); i++)
        if (code_point >= twice[i].first && code_point <= twice[i].last) return 2;
    return 1;
}
