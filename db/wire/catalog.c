/* The catalog's encoding: in the catalog file of a store and in DDL signals. Checksums are the
 * container's.
 *
 *   u32 format version (1), u64 catalog version, u32 next table id, u32 table count
 *   each table:
 *     bytes database, bytes name, u32 id, u32 version,
 *     u16 column count, u16 index count, u16 next index id,
 *     u8 partition by, u8 partition column count, u32 TTL seconds, u16 TTL column,
 *     u16 each partition column
 *     each column:
 *       bytes name, u8 type, u8 collation, u8 precision, u8 scale, u8 flags (1 nullable, 2 beside),
 *       u32 size_max
 *     each index:
 *       bytes name, u16 id, u8 kind, u8 flags (1 has_hash, 2 unique),
 *       u8 column count, u16 each column
 *
 * "bytes" is a varint size and the bytes. Tables stand in ascending order of id. A decoded catalog
 * satisfies table_def_check for every table, so whoever gets one may rely on its rules. */
#include "db/wire/catalog.h"

#include <stdlib.h>

#include "db/wire/schema.h"

enum { CATALOG_FORMAT_VERSION = 1, FLAG_HAS_HASH = 1, FLAG_UNIQUE = 2, FLAGS_ALL = 3 };
enum { COLUMN_NULLABLE = 1, COLUMN_BESIDE = 2, COLUMN_FLAGS_ALL = 3 };

static void name_encode(const char *name, struct buf *buf)
{
    buf_put_bytes(buf, name, strlen(name));
}

static void table_encode(const struct table_def *table, struct buf *buf)
{
    name_encode(table->database, buf);
    name_encode(table->name, buf);
    buf_put_u32(buf, table->id);
    buf_put_u32(buf, table->version);
    buf_put_u16(buf, table->column_count);
    buf_put_u16(buf, table->index_count);
    buf_put_u16(buf, table->next_index_id);
    buf_put_u8(buf, table->partition_by);
    buf_put_u8(buf, table->partition_column_count);
    buf_put_u32(buf, table->ttl_seconds);
    buf_put_u16(buf, table->ttl_column);
    for (uint32_t i = 0; i < table->partition_column_count; i++)
        buf_put_u16(buf, table->partition_columns[i]);
    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct column_def *column = &table->columns[i];
        name_encode(column->name, buf);
        buf_put_u8(buf, column->type);
        buf_put_u8(buf, column->collation);
        buf_put_u8(buf, column->precision);
        buf_put_u8(buf, column->scale);
        buf_put_u8(buf, (uint8_t)((column->nullable ? COLUMN_NULLABLE : 0) |
                                  (column->beside ? COLUMN_BESIDE : 0)));
        buf_put_u32(buf, column->size_max);
    }
    for (uint32_t i = 0; i < table->index_count; i++) {
        const struct index_def *index = &table->indexes[i];
        name_encode(index->name, buf);
        buf_put_u16(buf, index->id);
        buf_put_u8(buf, index->kind);
        buf_put_u8(buf, (uint8_t)((index->has_hash ? FLAG_HAS_HASH : 0) |
                                  (index->unique ? FLAG_UNIQUE : 0)));
        buf_put_u8(buf, index->column_count);
        for (uint32_t j = 0; j < index->column_count; j++)
            buf_put_u16(buf, index->columns[j]);
    }
}

void catalog_encode(const struct catalog *catalog, struct buf *buf)
{
    buf_put_u32(buf, CATALOG_FORMAT_VERSION);
    buf_put_u64(buf, catalog->version);
    buf_put_u32(buf, catalog->next_table_id);
    buf_put_u32(buf, catalog->table_count);
    for (uint32_t i = 0; i < catalog->table_count; i++)
        table_encode(catalog->tables[i], buf);
}

static void name_decode(struct reader *reader, char name[SCHEMA_NAME_SIZE_MAX + 1])
{
    size_t size;
    const uint8_t *bytes = reader_bytes(reader, SCHEMA_NAME_SIZE_MAX, &size);
    if (!bytes) return;
    if (memchr(bytes, 0, size)) {
        reader->failed = true;
        return;
    }
    memcpy(name, bytes, size);
    name[size] = '\0';
}

static void column_decode(struct reader *reader, struct column_def *column)
{
    name_decode(reader, column->name);
    column->type = reader_u8(reader);
    column->collation = reader_u8(reader);
    column->precision = reader_u8(reader);
    column->scale = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    if (flags & ~COLUMN_FLAGS_ALL) reader->failed = true;
    column->nullable = flags & COLUMN_NULLABLE;
    column->beside = flags & COLUMN_BESIDE;
    column->size_max = reader_u32(reader);
}

static void index_decode(struct reader *reader, struct index_def *index)
{
    name_decode(reader, index->name);
    index->id = reader_u16(reader);
    index->kind = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    if (flags & ~FLAGS_ALL) reader->failed = true;
    index->has_hash = flags & FLAG_HAS_HASH;
    index->unique = flags & FLAG_UNIQUE;
    index->column_count = reader_u8(reader);
    if (index->column_count > SCHEMA_KEY_COLUMNS_MAX) {
        reader->failed = true;
        index->column_count = 0;
    }
    for (uint32_t i = 0; i < index->column_count; i++)
        index->columns[i] = reader_u16(reader);
}

/* Reads what stands before the arrays, with the counts checked. */
static void table_decode_head(struct reader *reader, struct table_def *table)
{
    name_decode(reader, table->database);
    name_decode(reader, table->name);
    table->id = reader_u32(reader);
    table->version = reader_u32(reader);
    table->column_count = reader_u16(reader);
    table->index_count = reader_u16(reader);
    table->next_index_id = reader_u16(reader);
    table->partition_by = reader_u8(reader);
    table->partition_column_count = reader_u8(reader);
    table->ttl_seconds = reader_u32(reader);
    table->ttl_column = reader_u16(reader);
    if (table->column_count > SCHEMA_COLUMNS_MAX || table->index_count > SCHEMA_INDEXES_MAX ||
        table->partition_column_count > SCHEMA_KEY_COLUMNS_MAX)
        reader->failed = true;
}

static enum err table_decode(struct reader *reader, struct table_def **ret_table)
{
    struct table_def *table = calloc(1, sizeof(*table));
    if (!table) return ERR_NO_MEMORY;
    enum err err = ERR_CORRUPT;
    table_decode_head(reader, table);
    if (reader->failed) goto destroy_table;
    table->columns = calloc(table->column_count ? table->column_count : 1, sizeof(*table->columns));
    if (!table->columns) {
        err = ERR_NO_MEMORY;
        goto destroy_table;
    }
    for (uint32_t i = 0; i < table->partition_column_count; i++)
        table->partition_columns[i] = reader_u16(reader);
    for (uint32_t i = 0; i < table->column_count; i++)
        column_decode(reader, &table->columns[i]);
    for (uint32_t i = 0; i < table->index_count; i++)
        index_decode(reader, &table->indexes[i]);
    if (reader->failed || table->id == 0 || table->version == 0) goto destroy_table;
    if (table_def_check(table, NULL)) goto destroy_table;
    *ret_table = table;
    return ERR_NONE;

destroy_table:
    table_def_destroy(table);
    return err;
}

enum err catalog_decode(struct reader *reader, struct catalog **ret_catalog)
{
    uint32_t format = reader_u32(reader);
    if (reader->failed || format == 0) return ERR_CORRUPT;
    if (format > CATALOG_FORMAT_VERSION) return ERR_VERSION;
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    if (!catalog) return ERR_NO_MEMORY;
    enum err err = ERR_CORRUPT;
    catalog->version = reader_u64(reader);
    catalog->next_table_id = reader_u32(reader);
    uint32_t count = reader_u32(reader);
    if (reader->failed || count > SCHEMA_TABLES_MAX) goto destroy_catalog;
    uint32_t last_id = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct table_def *table;
        err = table_decode(reader, &table);
        if (err) goto destroy_catalog;
        bool taken = catalog_find(catalog, table->database, table->name) != NULL;
        catalog->tables[catalog->table_count++] = table;
        err = ERR_CORRUPT;
        if (taken || table->id <= last_id || table->id >= catalog->next_table_id)
            goto destroy_catalog;
        last_id = table->id;
    }
    *ret_catalog = catalog;
    return ERR_NONE;

destroy_catalog:
    catalog_destroy(catalog);
    return err;
}
