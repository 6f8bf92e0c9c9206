/* Literals: from the text between the tokenizer's borders to values. The tokenizer has checked the
 * shape of a token; what can still be wrong is its size. */
#include "sql/literal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DECIMAL_DIGITS_MAX = 18, NUMBER_TEXT_SIZE_MAX = 400 };

enum err literal_integer(const char *text, size_t size, struct value *ret_value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return ERR_OUT_OF_RANGE;
    }
    *ret_value = number <= INT64_MAX ? value_i64((int64_t)number) : value_u64(number);
    return ERR_NONE;
}

enum err literal_decimal(const char *text, size_t size, struct value *ret_value)
{
    int64_t number = 0;
    unsigned digits = 0;
    uint8_t scale = 0;
    bool behind = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '.') {
            behind = true;
            continue;
        }
        if (digits > 0 || text[i] != '0') digits++;
        if (behind) scale++;
        if (digits > DECIMAL_DIGITS_MAX || scale > DECIMAL_DIGITS_MAX) return ERR_OUT_OF_RANGE;
        number = number * 10 + (text[i] - '0');
    }
    *ret_value = value_dec(number, scale);
    return ERR_NONE;
}

enum err literal_float(const char *text, size_t size, struct arena *arena, struct value *ret_value)
{
    char *copy = arena_copy(arena, text, size);
    if (!copy) return ERR_NO_MEMORY;
    double number = strtod(copy, NULL);
    if (!isfinite(number)) return ERR_OUT_OF_RANGE;
    *ret_value = value_f64(number);
    return ERR_NONE;
}

/* The byte an escape stands for; -1 when the backslash stays (\% and \_, for LIKE). */
static int escape_byte(char c)
{
    switch (c) {
    case '0':
        return 0;
    case 'b':
        return '\b';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'Z':
        return 26;
    case '%':
    case '_':
        return -1;
    default:
        return (unsigned char)c;
    }
}

enum err literal_string(const char *text, size_t size, struct arena *arena, struct value *ret_value)
{
    uint8_t *bytes = arena_alloc(arena, size);
    if (!bytes) return ERR_NO_MEMORY;
    char quote = text[0];
    uint32_t count = 0;
    for (size_t i = 1; i + 1 < size; i++) {
        char c = text[i];
        if (c == '\\' && i + 2 < size) {
            c = text[++i];
            int byte = escape_byte(c);
            if (byte < 0) bytes[count++] = '\\';
            bytes[count++] = byte < 0 ? (uint8_t)c : (uint8_t)byte;
            continue;
        }
        if (c == quote) i++; /* doubled */
        bytes[count++] = (uint8_t)c;
    }
    *ret_value = value_str(bytes, count);
    return ERR_NONE;
}

static uint8_t hex_digit(char c)
{
    if (c <= '9') return (uint8_t)(c - '0');
    return (uint8_t)((c | 0x20) - 'a' + 10);
}

enum err literal_hex(const char *text, size_t size, struct arena *arena, struct value *ret_value)
{
    size_t end = text[size - 1] == '\'' ? size - 1 : size;
    uint8_t *bytes = arena_alloc(arena, size);
    if (!bytes) return ERR_NO_MEMORY;
    uint32_t count = 0;
    for (size_t i = 2; i + 1 < end; i += 2)
        bytes[count++] = (uint8_t)(hex_digit(text[i]) << 4 | hex_digit(text[i + 1]));
    *ret_value = value_str(bytes, count);
    return ERR_NONE;
}

static size_t digits_at(const uint8_t *bytes, size_t size, size_t at)
{
    size_t count = 0;
    while (at + count < size && bytes[at + count] >= '0' && bytes[at + count] <= '9')
        count++;
    return count;
}

double literal_string_number(const uint8_t *bytes, size_t size)
{
    char text[NUMBER_TEXT_SIZE_MAX];
    size_t at = 0;
    while (at < size && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r')))
        at++;
    size_t start = at;
    if (at < size && (bytes[at] == '-' || bytes[at] == '+')) at++;
    size_t whole = digits_at(bytes, size, at);
    at += whole;
    size_t part = 0;
    if (at < size && bytes[at] == '.') {
        part = digits_at(bytes, size, at + 1);
        if (whole + part > 0) at += 1 + part;
    }
    if (whole + part == 0) return 0;
    if (at < size && (bytes[at] | 0x20) == 'e') {
        size_t exponent = at + 1;
        if (exponent < size && (bytes[exponent] == '-' || bytes[exponent] == '+')) exponent++;
        size_t digits = digits_at(bytes, size, exponent);
        if (digits > 0) at = exponent + digits;
    }
    if (at - start >= sizeof(text)) return 0;
    memcpy(text, bytes + start, at - start);
    text[at - start] = '\0';
    double number = strtod(text, NULL);
    return isfinite(number) ? number : (number < 0 ? -__DBL_MAX__ : __DBL_MAX__);
}
