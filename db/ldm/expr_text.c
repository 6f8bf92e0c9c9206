/* Text operations of expressions. Text is UTF-8, but a byte that begins no code point counts as one
 * of its own, so nothing here fails on binary data. Case is folded for ASCII letters alone. */
#include "db/ldm/expr_ops.h"

#include <string.h>

#include "base/check.h"

static uint8_t fold(uint8_t byte)
{
    return (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

uint32_t utf8_step(const uint8_t *bytes, uint32_t left)
{
    uint32_t lead = bytes[0];
    if (lead < 0xc2 || lead > 0xf4) return 1;
    uint32_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (left < size) return 1;
    for (uint32_t i = 1; i < size; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return 1;
    }
    return size;
}

static uint32_t count_points(const uint8_t *bytes, uint32_t size)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < size; count++)
        at += utf8_step(bytes + at, size - at);
    return count;
}

/* ---- LIKE ---- */

/* One element of a pattern: what a stretch of text has to be. */
struct like_element {
    uint32_t size; /* bytes of the pattern */
    bool any_one;  /* _ */
    bool any_many; /* % */
    const uint8_t *point;
    uint32_t point_size;
};

static struct like_element like_element_at(struct value pattern, uint32_t at, uint8_t escape)
{
    const uint8_t *bytes = pattern.bytes + at;
    uint32_t left = pattern.size - at;
    struct like_element element = {.point = bytes};
    if (escape && bytes[0] == escape && left > 1) {
        element.point = bytes + 1;
        element.point_size = utf8_step(bytes + 1, left - 1);
        element.size = 1 + element.point_size;
        return element;
    }
    if (!(escape && bytes[0] == escape)) {
        element.any_many = bytes[0] == '%';
        element.any_one = bytes[0] == '_';
    }
    element.point_size = utf8_step(bytes, left);
    element.size = element.point_size;
    return element;
}

static bool like_point_matches(const struct like_element *element, const uint8_t *point,
                               uint32_t size, bool folded)
{
    if (element->any_one) return true;
    if (size != element->point_size) return false;
    if (size == 1 && folded) return fold(*point) == fold(*element->point);
    return memcmp(point, element->point, size) == 0;
}

/* An escape at the end of the pattern stands for itself. Only the last % seen is ever tried again,
 * since whatever an earlier one could take, the last one can. */
bool text_like(struct value text, struct value pattern, enum collation collation, uint8_t escape)
{
    bool folded = collation == COLLATION_CASE_INSENSITIVE;
    uint32_t at = 0;
    uint32_t pattern_at = 0;
    bool starred = false;
    uint32_t star_at = 0;      /* where the last % took its text to */
    uint32_t star_pattern = 0; /* behind it */
    while (at < text.size) {
        uint32_t size = utf8_step(text.bytes + at, text.size - at);
        bool matches = false;
        if (pattern_at < pattern.size) {
            struct like_element element = like_element_at(pattern, pattern_at, escape);
            if (element.any_many) {
                pattern_at += element.size;
                if (pattern_at == pattern.size) return true;
                starred = true;
                star_at = at;
                star_pattern = pattern_at;
                continue;
            }
            matches = like_point_matches(&element, text.bytes + at, size, folded);
            if (matches) pattern_at += element.size;
        }
        if (matches) {
            at += size;
        } else {
            if (!starred) return false;
            star_at += utf8_step(text.bytes + star_at, text.size - star_at);
            at = star_at;
            pattern_at = star_pattern;
        }
    }
    while (pattern_at < pattern.size && like_element_at(pattern, pattern_at, escape).any_many)
        pattern_at++;
    return pattern_at == pattern.size;
}

/* ---- the others ---- */

/* LOWER and UPPER; the text itself where nothing changes. */
static enum err change_case(bool up, struct value text, struct arena *arena,
                            struct value *ret_value)
{
    uint8_t first = up ? 'a' : 'A';
    uint32_t at = 0;
    while (at < text.size && (uint8_t)(text.bytes[at] - first) >= 26)
        at++;
    if (at == text.size) {
        *ret_value = text;
        return ERR_NONE;
    }
    uint8_t *bytes = (uint8_t *)arena_copy(arena, text.bytes, text.size);
    if (!bytes) return ERR_NO_MEMORY;
    for (; at < text.size; at++) {
        if ((uint8_t)(bytes[at] - first) < 26) bytes[at] ^= 0x20;
    }
    *ret_value = value_str(bytes, text.size);
    return ERR_NONE;
}

/* As in MySQL: position 0, one outside the text, and a length below 1 give an empty text. */
static struct value substring(struct value text, int64_t position, int64_t length)
{
    if (position == 0 || length <= 0) return value_str(NULL, 0);
    if (position < 0) {
        int64_t count = count_points(text.bytes, text.size);
        if (position < -count) return value_str(NULL, 0);
        position += count + 1;
    }
    uint32_t from = 0;
    for (; position > 1 && from < text.size; position--)
        from += utf8_step(text.bytes + from, text.size - from);
    uint32_t to = from;
    for (; length > 0 && to < text.size; length--)
        to += utf8_step(text.bytes + to, text.size - to);
    return to > from ? value_str(text.bytes + from, to - from) : value_str(NULL, 0);
}

static enum err concatenate(struct value a, struct value b, struct arena *arena,
                            struct value *ret_value)
{
    if ((uint64_t)a.size + b.size > EXPR_STR_SIZE_MAX) return ERR_OUT_OF_RANGE;
    if (a.size == 0 || b.size == 0) {
        *ret_value = a.size ? a : b;
        return ERR_NONE;
    }
    uint8_t *bytes = arena_alloc(arena, a.size + b.size);
    if (!bytes) return ERR_NO_MEMORY;
    memcpy(bytes, a.bytes, a.size);
    memcpy(bytes + a.size, b.bytes, b.size);
    *ret_value = value_str(bytes, a.size + b.size);
    return ERR_NONE;
}

static struct value extension(struct value name)
{
    if (!name.bytes) return value_str(NULL, 0);
    const uint8_t *dot = memrchr(name.bytes, '.', name.size);
    if (!dot || dot == name.bytes) return value_str(NULL, 0);
    uint32_t from = (uint32_t)(dot - name.bytes) + 1;
    return from < name.size ? value_str(name.bytes + from, name.size - from) : value_str(NULL, 0);
}

static struct value find_text(struct value text, struct value wanted)
{
    if (wanted.size == 0) return value_i64(1);
    if (text.size == 0) return value_i64(0);
    const uint8_t *found = memmem(text.bytes, text.size, wanted.bytes, wanted.size);
    if (!found) return value_i64(0);
    return value_i64(count_points(text.bytes, (uint32_t)(found - text.bytes)) + 1);
}

enum err text_apply(const struct expr *expr, const struct expr_ins *ins, struct value a,
                    struct value b, struct value c, struct arena *arena, struct value *ret_value)
{
    ASSERT(a.kind == KIND_STR);
    switch ((enum expr_op)ins->op) {
    case EXPR_LIKE:
        *ret_value =
            value_i64(text_like(a, expr->consts[ins->x], (enum collation)ins->b, (uint8_t)ins->c));
        return ERR_NONE;
    case EXPR_LENGTH:
        *ret_value = value_i64(a.size);
        return ERR_NONE;
    case EXPR_CHAR_LENGTH:
        *ret_value = value_i64(count_points(a.bytes, a.size));
        return ERR_NONE;
    case EXPR_LOWER:
    case EXPR_UPPER:
        return change_case(ins->op == EXPR_UPPER, a, arena, ret_value);
    case EXPR_SUBSTR:
        *ret_value = substring(a, b.i, c.i);
        return ERR_NONE;
    case EXPR_CONCAT:
        return concatenate(a, b, arena, ret_value);
    case EXPR_EXTENSION:
        return change_case(false, extension(a), arena, ret_value);
    default:
        ASSERT(ins->op == EXPR_INSTR);
        *ret_value = find_text(a, b);
        return ERR_NONE;
    }
}
