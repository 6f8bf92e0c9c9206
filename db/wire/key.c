/* Normalized keys: bytes whose memcmp order is the order of the keys, and the slot of a row.
 *
 * Column by column, without separators:
 *
 *   nullable column    00 for NULL (nothing follows), 01 before a value
 *   signed integer     its 1, 2, 4 or 8 bytes, big-endian, top bit flipped
 *   DATE               likewise, 4 bytes
 *   DATETIME,          likewise, 8 bytes
 *   TIMESTAMP
 *   DECIMAL            likewise, 8 bytes, at the column's scale
 *   unsigned integer   its 1, 2, 4 or 8 bytes, big-endian
 *   FLOAT, DOUBLE      the 4 or 8 bytes of the IEEE number, big-endian; all bits flipped when
 *                      negative, else the top one
 *   BINARY             its size_max bytes, zero-padded
 *   other strings      the bytes (ASCII letters folded to lower case in a case-insensitive
 *                      column), each 00 written as 00 ff, then 00 00
 *
 * No key is a proper prefix of another of the same columns, so the bytes of a prefix of the columns
 * are a prefix of exactly the keys that start with those values. Slots are stored in the
 * partitioning of every store, so neither these bytes nor the hash over them may ever change. */
#include "db/wire/schema.h"

#include "base/hash.h"

struct writer {
    uint8_t *next;
    uint8_t *end;
};

static inline bool put_big_endian(struct writer *writer, uint64_t value, uint32_t width)
{
    if ((size_t)(writer->end - writer->next) < width) return false;
    value = __builtin_bswap64(value << (64 - 8 * width));
    memcpy(writer->next, &value, width);
    writer->next += width;
    return true;
}

static inline bool put_signed(struct writer *writer, int64_t value, uint32_t width)
{
    return put_big_endian(writer, (uint64_t)value ^ UINT64_C(1) << (8 * width - 1), width);
}

static bool put_float(struct writer *writer, double f)
{
    float narrow = (float)f;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof(bits));
    bits = bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
    return put_big_endian(writer, bits, 4);
}

static bool put_double(struct writer *writer, double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof(bits));
    bits = bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
    return put_big_endian(writer, bits, 8);
}

static bool put_escaped(struct writer *writer, struct value value, bool fold)
{
    size_t room = (size_t)(writer->end - writer->next);
    if (room < (size_t)value.size + 2) return false;
    uint8_t *out = writer->next;
    if (!value.size || !memchr(value.bytes, 0, value.size)) {
        if (value.size) memcpy(out, value.bytes, value.size);
        out += value.size;
    } else {
        for (uint32_t i = 0; i < value.size; i++) {
            if ((size_t)(writer->end - out) < 2) return false;
            *out++ = value.bytes[i];
            if (!value.bytes[i]) *out++ = 0xff;
        }
        if ((size_t)(writer->end - out) < 2) return false;
    }
    if (fold)
        for (uint8_t *at = writer->next; at < out; at++)
            if ((uint8_t)(*at - 'A') < 26) *at |= 0x20;
    out[0] = 0;
    out[1] = 0;
    writer->next = out + 2;
    return true;
}

static bool put_padded(struct writer *writer, struct value value, uint32_t width)
{
    if ((size_t)(writer->end - writer->next) < width) return false;
    if (value.size) memcpy(writer->next, value.bytes, value.size);
    memset(writer->next + value.size, 0, width - value.size);
    writer->next += width;
    return true;
}

/* A fitted value that is not NULL. */
static bool put_value(struct writer *writer, const struct column_def *column, struct value value)
{
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
        return put_signed(writer, value.i, 1);
    case TYPE_SMALLINT:
        return put_signed(writer, value.i, 2);
    case TYPE_INT:
    case TYPE_DATE:
        return put_signed(writer, value.i, 4);
    case TYPE_BIGINT:
    case TYPE_DECIMAL:
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        return put_signed(writer, value.i, 8);
    case TYPE_TINYINT_UNSIGNED:
        return put_big_endian(writer, value.u, 1);
    case TYPE_SMALLINT_UNSIGNED:
        return put_big_endian(writer, value.u, 2);
    case TYPE_INT_UNSIGNED:
        return put_big_endian(writer, value.u, 4);
    case TYPE_BIGINT_UNSIGNED:
        return put_big_endian(writer, value.u, 8);
    case TYPE_FLOAT:
        return put_float(writer, value.f);
    case TYPE_DOUBLE:
        return put_double(writer, value.f);
    case TYPE_BINARY:
        return put_padded(writer, value, column->size_max);
    case TYPE_CHAR:
    case TYPE_VARCHAR:
    case TYPE_TEXT:
        return put_escaped(writer, value, column->collation == COLLATION_CASE_INSENSITIVE);
    case TYPE_VARBINARY:
    case TYPE_BLOB:
        return put_escaped(writer, value, false);
    }
    return false;
}

enum err key_normalize_fitted(const struct table_def *table, const uint16_t *columns,
                              uint32_t count, const struct value *values,
                              uint8_t bytes[SCHEMA_KEY_SIZE_MAX], uint32_t *ret_size)
{
    struct writer writer = {.next = bytes, .end = bytes + SCHEMA_KEY_SIZE_MAX};
    for (uint32_t i = 0; i < count; i++) {
        const struct column_def *column = &table->columns[columns[i]];
        if (column->nullable) {
            if (writer.next == writer.end) return ERR_TOO_BIG;
            *writer.next++ = values[i].kind != KIND_NULL;
            if (values[i].kind == KIND_NULL) continue;
        }
        if (!put_value(&writer, column, values[i])) return ERR_TOO_BIG;
    }
    *ret_size = (uint32_t)(writer.next - bytes);
    return ERR_NONE;
}

enum err key_normalize(const struct table_def *table, const uint16_t *columns, uint32_t count,
                       const struct value *values, uint8_t bytes[SCHEMA_KEY_SIZE_MAX],
                       uint32_t *ret_size)
{
    struct value fitted[SCHEMA_KEY_COLUMNS_MAX];
    if (count > SCHEMA_KEY_COLUMNS_MAX) return ERR_INVALID;
    for (uint32_t i = 0; i < count; i++) {
        enum err err = value_fit(&table->columns[columns[i]], values[i], &fitted[i]);
        if (err) return err;
    }
    return key_normalize_fitted(table, columns, count, fitted, bytes, ret_size);
}

enum err table_slot(const struct table_def *table, const struct value *values, uint16_t *ret_slot)
{
    if (table->partition_by == PARTITION_BY_KEY) {
        uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
        uint32_t size;
        enum err err = key_normalize(table, table->partition_columns, table->partition_column_count,
                                     values, bytes, &size);
        if (err) return err;
        *ret_slot = (uint16_t)hash_bytes(bytes, size);
        return ERR_NONE;
    }
    struct value value;
    enum err err = value_fit(&table->columns[table->partition_columns[0]], values[0], &value);
    if (err) return err;
    if (value.kind != KIND_I64 && value.kind != KIND_U64) return ERR_INVALID;
    uint64_t number = value.kind == KIND_U64 ? value.u : (uint64_t)value.i;
    *ret_slot =
        (uint16_t)(table->partition_by == PARTITION_BY_HOME ? number >> HOME_SHIFT : number);
    return ERR_NONE;
}
