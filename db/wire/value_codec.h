/* value_encode and value_decode (expr.h) inlined for the common kinds, for the path of every
 * program. The bytes are the same. Private to db/. */
#ifndef DB_WIRE_VALUE_CODEC_H
#define DB_WIRE_VALUE_CODEC_H

#include "db/wire/expr.h"

/* Integers and floats: kind and 8 bytes. */
static inline bool value_is_word(uint8_t kind)
{
    return kind >= KIND_I64 && kind <= KIND_F64;
}

static inline void value_put(struct value value, struct buf *buf)
{
    if (__builtin_expect(value_is_word(value.kind), 1)) {
        uint8_t *at = buf_add(buf, 1 + sizeof(value.u));
        if (!at) return;
        at[0] = value.kind;
        memcpy(at + 1, &value.u, sizeof(value.u));
    } else if (value.kind == KIND_STR && value.size < 128) {
        uint8_t *at = buf_add(buf, 2 + (size_t)value.size);
        if (!at) return;
        at[0] = KIND_STR;
        at[1] = (uint8_t)value.size;
        if (value.size) memcpy(at + 2, value.bytes, value.size);
    } else {
        value_encode(value, buf);
    }
}

static inline struct value value_get(struct reader *reader)
{
    size_t left = reader_left(reader);
    const uint8_t *at = reader->next;
    if (__builtin_expect(left >= 9 && !reader->failed && value_is_word(at[0]), 1)) {
        struct value value = {.kind = at[0]};
        memcpy(&value.u, at + 1, sizeof(value.u));
        reader->next = at + 9;
        return value;
    }
    if (left >= 2 && !reader->failed && at[0] == KIND_STR && at[1] < 128 &&
        left >= 2 + (size_t)at[1]) {
        reader->next = at + 2 + at[1];
        return value_str(at + 2, at[1]);
    }
    return value_decode(reader);
}

#endif
