/* Table definitions: what DDL makes, what the catalog stores and what every other layer binds
 * against. A definition is immutable once published; a change publishes a new one with a higher
 * version. */
#ifndef DB_WIRE_SCHEMA_H
#define DB_WIRE_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/wire/value.h"

enum {
    SCHEMA_NAME_SIZE_MAX = 64, /* bytes without NUL */
    SCHEMA_COLUMNS_MAX = 128,
    SCHEMA_KEY_COLUMNS_MAX = 8,
    SCHEMA_INDEXES_MAX = 16, /* with the primary key, which is index 0 */
    SCHEMA_TABLES_MAX = 256,
    SCHEMA_VAR_SIZE_MAX = 65535, /* of a VARCHAR, VARBINARY, TEXT or BLOB value, bytes */
    SCHEMA_KEY_SIZE_MAX = 1024,  /* of all key columns of one index, normalized, bytes */
    SCHEMA_REFERENCE_SIZE = 4,   /* what a page holds of a variable value, bytes */
    SCHEMA_BESIDE_SIZE_MAX = 64, /* of columns beside each other: a cache line */
    PARTITIONS_MAX = 1024,       /* a power of two; PARTITION_SLOTS is a multiple of it */
    PARTITION_SLOTS = 65536,     /* partition of a row = slot(row) & (partition_count - 1) */
};

struct column_def {
    char name[SCHEMA_NAME_SIZE_MAX + 1];
    uint8_t type;      /* enum column_type */
    uint8_t collation; /* enum collation; of text types */
    uint8_t precision; /* of DECIMAL: digits, 1..18 */
    uint8_t scale;     /* of DECIMAL; of DATETIME and TIMESTAMP: digits of a second shown, 0..6 */
    bool nullable;
    bool beside; /* of rows read one at a time: lies with the column before it, so that a row's
                    values of both are one cache line; a scan of one of them reads both */
    uint32_t size_max; /* bytes, of CHAR (4 per character), VARCHAR (likewise), BINARY, … */
};

enum index_kind {
    INDEX_HASH = 1,
    INDEX_ORDERED = 2,
};

struct index_def {
    char name[SCHEMA_NAME_SIZE_MAX + 1]; /* "PRIMARY" for index 0 */
    uint16_t id;                         /* never reused within the table; 0 is the primary key */
    uint8_t kind;  /* enum index_kind; the primary key may be both: then has_hash is set too */
    bool has_hash; /* of index 0: a hash index stands beside the ordered one */
    bool unique;   /* of index 0 only, for now */
    uint8_t column_count;
    uint16_t columns[SCHEMA_KEY_COLUMNS_MAX]; /* column numbers */
};

/* The partition key. slot(row), 0..65535, is where the row lives, independent of the partition
 * count. */
enum partition_by {
    PARTITION_BY_KEY = 1,  /* hash of the named columns' normalized bytes, low 16 bits */
    PARTITION_BY_HOME = 2, /* (column >> 37) & 0xffff: the home in an inode number */
    PARTITION_BY_SLOT = 3, /* column & 0xffff: the column is the slot */
};

enum { HOME_SHIFT = 37, INO_BITS = 53 };

struct table_def {
    char database[SCHEMA_NAME_SIZE_MAX + 1];
    char name[SCHEMA_NAME_SIZE_MAX + 1];
    uint32_t id;      /* never reused within the store; 1.. */
    uint32_t version; /* of this definition, 1.. */
    uint16_t column_count;
    uint16_t index_count;
    uint16_t next_index_id;
    uint8_t partition_by; /* enum partition_by */
    uint8_t partition_column_count;
    uint16_t partition_columns[SCHEMA_KEY_COLUMNS_MAX]; /* all in the primary key */
    uint32_t ttl_seconds;                               /* 0: rows do not expire */
    uint16_t ttl_column;        /* DATETIME or TIMESTAMP, or an integer of seconds since 1970 */
    struct column_def *columns; /* column_count of them */
    struct index_def indexes[SCHEMA_INDEXES_MAX];
};

/* All tables at one moment; reference-counted by its publisher; immutable. */
struct catalog {
    uint64_t version;
    uint32_t next_table_id;
    uint32_t table_count;
    struct table_def *tables[SCHEMA_TABLES_MAX]; /* dense, in order of id */
};

/* NULL when there is none. Names compare without regard to ASCII case. */
const struct table_def *catalog_find(const struct catalog *catalog, const char *database,
                                     const char *name);
const struct table_def *catalog_find_id(const struct catalog *catalog, uint32_t table_id);
/* Column number, or -1. */
int table_def_column(const struct table_def *table, const char *name);
enum value_kind column_kind(const struct column_def *column);
/* Bytes of a fixed-size column in a page (1, 2, 4, 8, or size_max of BINARY); 0 for variable ones.
 */
uint32_t column_width(const struct column_def *column);
/* Checks every rule of a definition (limits, names, keys NOT NULL and indexable, partition columns
 * within the primary key, TTL column). ERR_INVALID with a reason. */
MUST_USE enum err table_def_check(const struct table_def *table, struct diag *diag);
/* Heap copies, freed by the _destroy functions, which take NULL. */
struct table_def *table_def_copy(const struct table_def *table);
void table_def_destroy(struct table_def *table);
struct catalog *catalog_copy(const struct catalog *catalog);
void catalog_destroy(struct catalog *catalog);
void catalog_encode(const struct catalog *catalog, struct buf *buf);
/* Everything is validated. ERR_CORRUPT, ERR_VERSION, ERR_NO_MEMORY. */
MUST_USE enum err catalog_decode(struct reader *reader, struct catalog **ret_catalog);

/* Order-preserving bytes of a key: memcmp of two gives the order of the keys, column by column
 * (integers big-endian with the sign flipped, floats likewise, strings escaped 00 -> 00 ff and
 * ended by 00 00, NULL as a 00 byte before a nullable column's value and 01 before others).
 * values[i] belongs to columns[i]; a prefix of the index's columns is allowed. ERR_NULL_VALUE,
 * ERR_TOO_BIG, ERR_INVALID (kind does not fit). */
MUST_USE enum err key_normalize(const struct table_def *table, const uint16_t *columns,
                                uint32_t count, const struct value *values,
                                uint8_t bytes[SCHEMA_KEY_SIZE_MAX], uint32_t *ret_size);
/* The same of values that value_fit gave, or that came out of a row. ERR_TOO_BIG. */
MUST_USE enum err key_normalize_fitted(const struct table_def *table, const uint16_t *columns,
                                       uint32_t count, const struct value *values,
                                       uint8_t bytes[SCHEMA_KEY_SIZE_MAX], uint32_t *ret_size);
/* The slot of a row from the values of its partition columns, in the order of partition_columns. */
MUST_USE enum err table_slot(const struct table_def *table, const struct value *values,
                             uint16_t *ret_slot);
/* Checks that a value may be stored in the column and converts its kind to the column's (I64 <->
 * U64 when in range, DEC to the column's scale when exact, any integer to F64). ERR_NULL_VALUE,
 * ERR_OUT_OF_RANGE, ERR_TOO_BIG, ERR_INVALID. */
MUST_USE enum err value_fit(const struct column_def *column, struct value value,
                            struct value *ret_value);
/* Total order of two non-NULL values of the same kind (and DEC of any scales): <0, 0, >0. */
int value_compare(struct value a, struct value b, enum collation collation);

#endif
