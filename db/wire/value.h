/* Values and column types: the vocabulary shared by rows, programs, expressions and query results.
 */
#ifndef DB_WIRE_VALUE_H
#define DB_WIRE_VALUE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Column types. Numbers are stored in the catalog. */
enum column_type {
    TYPE_TINYINT = 1,  /* 8 bits signed */
    TYPE_SMALLINT = 2, /* 16 */
    TYPE_INT = 3,      /* 32 */
    TYPE_BIGINT = 4,   /* 64 */
    TYPE_TINYINT_UNSIGNED = 5,
    TYPE_SMALLINT_UNSIGNED = 6,
    TYPE_INT_UNSIGNED = 7,
    TYPE_BIGINT_UNSIGNED = 8,
    TYPE_FLOAT = 9,
    TYPE_DOUBLE = 10,
    TYPE_DECIMAL = 11,   /* precision up to 18: an int64 scaled by 10^scale */
    TYPE_DATE = 12,      /* int32: days since 1970-01-01, proleptic Gregorian */
    TYPE_DATETIME = 13,  /* int64: microseconds since 1970-01-01 00:00:00, no zone */
    TYPE_TIMESTAMP = 14, /* int64: microseconds since 1970-01-01 00:00:00 UTC */
    TYPE_CHAR = 15,      /* UTF-8, stored without trailing spaces */
    TYPE_VARCHAR = 16,   /* UTF-8 */
    TYPE_BINARY = 17,    /* padded with zero bytes to its size */
    TYPE_VARBINARY = 18,
    TYPE_TEXT = 19, /* UTF-8, up to size_max, not in keys */
    TYPE_BLOB = 20,
};

/* How text compares. Binary types and VARBINARY always compare by bytes. */
enum collation {
    COLLATION_BINARY = 0,           /* utf8mb4_bin: by bytes, which is by code point */
    COLLATION_CASE_INSENSITIVE = 1, /* ASCII letters folded; other code points by bytes */
};

/* What an expression computes with. Every column type maps to one kind: signed integers, DATE,
 * DATETIME and TIMESTAMP to I64; unsigned to U64; FLOAT and DOUBLE to F64; DECIMAL to DEC; the rest
 * to STR. */
enum value_kind {
    KIND_NULL = 0,
    KIND_I64 = 1,
    KIND_U64 = 2,
    KIND_F64 = 3,
    KIND_DEC = 4, /* i scaled by 10^scale */
    KIND_STR = 5, /* borrowed bytes */
};

struct value {
    uint8_t kind;  /* enum value_kind */
    uint8_t scale; /* of KIND_DEC: digits behind the point, 0..18 */
    uint16_t reserved;
    uint32_t size; /* of KIND_STR */
    union {
        int64_t i;
        uint64_t u;
        double f;
        const uint8_t *bytes; /* of KIND_STR: borrowed; may be NULL when size is 0 */
    };
};
_Static_assert(sizeof(struct value) == 16, "two words");

static inline struct value value_null(void)
{
    return (struct value){.kind = KIND_NULL};
}
static inline struct value value_i64(int64_t i)
{
    return (struct value){.kind = KIND_I64, .i = i};
}
static inline struct value value_u64(uint64_t u)
{
    return (struct value){.kind = KIND_U64, .u = u};
}
static inline struct value value_f64(double f)
{
    return (struct value){.kind = KIND_F64, .f = f};
}
static inline struct value value_dec(int64_t i, uint8_t scale)
{
    return (struct value){.kind = KIND_DEC, .scale = scale, .i = i};
}
static inline struct value value_str(const void *bytes, uint32_t size)
{
    return (struct value){.kind = KIND_STR, .size = size, .bytes = bytes};
}
static inline struct value value_text(const char *text)
{
    return value_str(text, (uint32_t)strlen(text));
}
static inline bool value_is_null(struct value value)
{
    return value.kind == KIND_NULL;
}

#endif
