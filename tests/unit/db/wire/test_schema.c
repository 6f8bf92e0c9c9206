/* The rules of definitions, and the catalog's codec. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/wire/schema.h"

/* A definition that uses a little of everything and is right. */
static struct table_def *table_create(uint32_t id)
{
    struct table_def *table = calloc(1, sizeof(*table));
    cr_assert(table);
    table->columns = calloc(SCHEMA_COLUMNS_MAX, sizeof(*table->columns));
    cr_assert(table->columns);
    strcpy(table->database, "db");
    snprintf(table->name, sizeof(table->name), "Table%u", id);
    table->id = id;
    table->version = 3;
    static const struct column_def columns[] = {
        {.name = "id", .type = TYPE_BIGINT},
        {.name = "name", .type = TYPE_VARCHAR, .size_max = 400, .collation = 1},
        {.name = "price", .type = TYPE_DECIMAL, .precision = 10, .scale = 2, .nullable = true},
        {.name = "made", .type = TYPE_TIMESTAMP, .scale = 6},
        {.name = "text", .type = TYPE_TEXT, .size_max = 60000, .nullable = true, .beside = true},
        {.name = "bits", .type = TYPE_BINARY, .size_max = 16},
    };
    memcpy(table->columns, columns, sizeof(columns));
    table->column_count = 6;
    table->index_count = 2;
    table->next_index_id = 8;
    strcpy(table->indexes[0].name, "PRIMARY");
    table->indexes[0].kind = INDEX_ORDERED;
    table->indexes[0].has_hash = true;
    table->indexes[0].unique = true;
    table->indexes[0].column_count = 2;
    table->indexes[0].columns[1] = 1;
    strcpy(table->indexes[1].name, "by_price");
    table->indexes[1].kind = INDEX_ORDERED;
    table->indexes[1].id = 7;
    table->indexes[1].column_count = 1;
    table->indexes[1].columns[0] = 2;
    table->partition_by = PARTITION_BY_KEY;
    table->partition_column_count = 1;
    table->partition_columns[0] = 1;
    table->ttl_seconds = 60;
    table->ttl_column = 3;
    return table;
}

static struct catalog *catalog_create(void)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    cr_assert(catalog);
    catalog->version = 9;
    catalog->next_table_id = 100;
    for (uint32_t i = 0; i < 3; i++)
        catalog->tables[catalog->table_count++] = table_create(1 + 10 * i);
    return catalog;
}

Test(schema, finds_by_name_without_regard_to_case_and_by_id)
{
    struct catalog *catalog = catalog_create();
    cr_assert_eq(catalog_find(catalog, "DB", "table11"), catalog->tables[1]);
    cr_assert_null(catalog_find(catalog, "db2", "table11"));
    cr_assert_null(catalog_find(catalog, "db", "table1x"));
    cr_assert_eq(catalog_find_id(catalog, 21), catalog->tables[2]);
    cr_assert_eq(catalog_find_id(catalog, 1), catalog->tables[0]);
    cr_assert_null(catalog_find_id(catalog, 2));
    cr_assert_null(catalog_find_id(catalog, 200));
    cr_assert_eq(table_def_column(catalog->tables[0], "PRICE"), 2);
    cr_assert_eq(table_def_column(catalog->tables[0], "none"), -1);
    catalog_destroy(catalog);
    catalog_destroy(NULL);
    table_def_destroy(NULL);
}

Test(schema, widths_and_kinds)
{
    struct column_def column = {.type = TYPE_DATE};
    cr_assert_eq(column_width(&column), 4);
    cr_assert_eq(column_kind(&column), KIND_I64);
    column = (struct column_def){.type = TYPE_BINARY, .size_max = 16};
    cr_assert_eq(column_width(&column), 16);
    cr_assert_eq(column_kind(&column), KIND_STR);
    column.type = TYPE_VARBINARY;
    cr_assert_eq(column_width(&column), 0);
    column.type = TYPE_SMALLINT_UNSIGNED;
    cr_assert_eq(column_width(&column), 2);
    cr_assert_eq(column_kind(&column), KIND_U64);
}

#define REFUSES(...)                                                                               \
    do {                                                                                           \
        struct table_def *def = table_create(1);                                                   \
        cr_assert_eq(table_def_check(def, NULL), ERR_NONE);                                        \
        __VA_ARGS__;                                                                               \
        struct diag diag = {0};                                                                    \
        cr_assert_eq(table_def_check(def, &diag), ERR_INVALID, "%s", #__VA_ARGS__);                \
        cr_assert_neq(diag.text[0], 0);                                                            \
        table_def_destroy(def);                                                                    \
    } while (0)

Test(schema, every_rule_is_checked_with_a_reason)
{
    REFUSES(def->name[0] = 0);
    REFUSES(strcpy(def->database, "a.b"));
    REFUSES(strcpy(def->name, "a\nb"));
    REFUSES(strcpy(def->name, "\xff"));
    REFUSES(memset(def->name, 'x', sizeof(def->name)));
    REFUSES(def->column_count = 0);
    REFUSES(def->column_count = SCHEMA_COLUMNS_MAX + 1);
    REFUSES(strcpy(def->columns[1].name, "ID"));
    REFUSES(def->columns[0].type = 0);
    REFUSES(def->columns[0].type = 21);
    REFUSES(def->columns[1].collation = 2);
    REFUSES(def->columns[0].collation = 1);
    REFUSES(def->columns[1].size_max = 0);
    REFUSES(def->columns[1].size_max = 401);
    REFUSES(def->columns[4].size_max = SCHEMA_VAR_SIZE_MAX + 1);
    REFUSES(def->columns[5].size_max = 256);
    REFUSES(def->columns[2].precision = 19);
    REFUSES(def->columns[2].scale = 11);
    REFUSES(def->columns[3].scale = 7);
    REFUSES(def->index_count = 0);
    REFUSES(def->index_count = SCHEMA_INDEXES_MAX + 1);
    REFUSES(strcpy(def->indexes[0].name, "pk"));
    REFUSES(strcpy(def->indexes[1].name, "primary"));
    REFUSES(def->indexes[0].kind = 3);
    REFUSES(def->indexes[1].kind = INDEX_HASH);
    REFUSES(def->indexes[1].has_hash = true);
    REFUSES(def->indexes[1].unique = true);
    REFUSES(def->indexes[1].column_count = 0);
    REFUSES(def->indexes[1].column_count = SCHEMA_KEY_COLUMNS_MAX + 1);
    REFUSES(def->indexes[1].id = 0);
    REFUSES(def->indexes[1].id = 8);
    REFUSES(def->indexes[0].columns[0] = 6);
    REFUSES(def->indexes[0].columns[0] = 1);
    REFUSES(def->indexes[0].columns[0] = 4);
    REFUSES(def->columns[0].nullable = true);
    REFUSES(def->columns[1].size_max = 4 * 300);
    REFUSES(def->columns[0].beside = true);
    REFUSES(def->columns[5].beside = true);
    REFUSES(for (uint16_t i = 6; i < 15; i++) {
        def->columns[i] = (struct column_def){.type = TYPE_BIGINT, .beside = i > 6};
        snprintf(def->columns[i].name, 10, "c%u", i);
        def->column_count = (uint16_t)(i + 1);
    });
    REFUSES(def->partition_by = 4);
    REFUSES(def->partition_column_count = 0);
    REFUSES(def->partition_columns[0] = 2);
    REFUSES(def->partition_by = PARTITION_BY_HOME);
    REFUSES(def->ttl_column = 6);
    REFUSES(def->ttl_column = 1);
    REFUSES(def->partition_column_count = 2; def->partition_columns[1] = 1);
    REFUSES(def->index_count = 3; def->indexes[2] = def->indexes[1]);
    REFUSES(for (uint16_t i = 6; i < 60; i++) {
        def->columns[i] = (struct column_def){.type = TYPE_BINARY, .size_max = 255};
        snprintf(def->columns[i].name, 10, "c%u", i);
        def->column_count = (uint16_t)(i + 1);
    });
}

Test(schema, a_catalog_comes_back_from_its_bytes)
{
    struct catalog *catalog = catalog_create();
    struct buf buf;
    buf_init(&buf);
    catalog_encode(catalog, &buf);
    cr_assert(!buf.failed);
    struct reader reader = reader_of(buf.bytes, buf.size);
    struct catalog *back = NULL;
    cr_assert_eq(catalog_decode(&reader, &back), ERR_NONE);
    cr_assert_eq(reader_left(&reader), 0);
    cr_assert_eq(back->version, 9);
    cr_assert_eq(back->next_table_id, 100);
    cr_assert_eq(back->table_count, 3);
    struct buf again;
    buf_init(&again);
    catalog_encode(back, &again);
    cr_assert_eq(again.size, buf.size);
    cr_assert_arr_eq(again.bytes, buf.bytes, buf.size);
    struct catalog *copy = catalog_copy(back);
    cr_assert(copy);
    cr_assert_neq(copy->tables[0]->columns, back->tables[0]->columns);
    cr_assert_str_eq(copy->tables[2]->name, "Table21");
    catalog_destroy(copy);
    catalog_destroy(back);
    catalog_destroy(catalog);
    buf_fini(&buf);
    buf_fini(&again);
}

Test(schema, damaged_catalogs_are_refused)
{
    struct catalog *catalog = catalog_create();
    struct buf buf;
    buf_init(&buf);
    catalog_encode(catalog, &buf);
    struct catalog *back = NULL;
    for (size_t size = 0; size < buf.size; size++) {
        uint8_t *exact = malloc(size ? size : 1);
        cr_assert(exact);
        memcpy(exact, buf.bytes, size);
        struct reader reader = reader_of(exact, size);
        cr_assert_eq(catalog_decode(&reader, &back), ERR_CORRUPT);
        free(exact);
    }
    for (size_t bit = 0; bit < 8 * buf.size; bit++) {
        buf.bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        struct reader reader = reader_of(buf.bytes, buf.size);
        enum err err = catalog_decode(&reader, &back);
        cr_assert(err == ERR_NONE || err == ERR_CORRUPT || err == ERR_VERSION);
        if (!err) {
            for (uint32_t i = 0; i < back->table_count; i++)
                cr_assert_eq(table_def_check(back->tables[i], NULL), ERR_NONE);
            catalog_destroy(back);
            back = NULL;
        }
        buf.bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    }
    buf.bytes[0] = 2;
    struct reader reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(catalog_decode(&reader, &back), ERR_VERSION);
    cr_assert_null(back);
    /* Two tables of one name, ids out of order, an id to come. */
    strcpy(catalog->tables[1]->name, "TABLE1");
    buf_clear(&buf);
    catalog_encode(catalog, &buf);
    reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(catalog_decode(&reader, &back), ERR_CORRUPT);
    strcpy(catalog->tables[1]->name, "other");
    catalog->tables[1]->id = 1;
    buf_clear(&buf);
    catalog_encode(catalog, &buf);
    reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(catalog_decode(&reader, &back), ERR_CORRUPT);
    catalog->tables[1]->id = 11;
    catalog->next_table_id = 21;
    buf_clear(&buf);
    catalog_encode(catalog, &buf);
    reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(catalog_decode(&reader, &back), ERR_CORRUPT);
    buf_fini(&buf);
    catalog_destroy(catalog);
}
