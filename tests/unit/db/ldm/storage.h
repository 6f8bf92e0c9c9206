/* What the tests of the storage engine share: a few tables that between them have every kind of key
 * and column, and stores made of them. */
#ifndef TESTS_STORAGE_H
#define TESTS_STORAGE_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/ldm/partition.h"

/* Columns are appended one by one; the definition lives in the catalog. */
static inline struct table_def *test_table(struct catalog *catalog, const char *name)
{
    struct table_def *table = calloc(1, sizeof(*table));
    cr_assert(table);
    table->columns = calloc(SCHEMA_COLUMNS_MAX, sizeof(*table->columns));
    cr_assert(table->columns);
    strcpy(table->database, "test");
    strcpy(table->name, name);
    table->id = ++catalog->next_table_id;
    catalog->next_table_id = table->id;
    table->version = 1;
    table->next_index_id = 1;
    table->partition_by = PARTITION_BY_KEY;
    catalog->tables[catalog->table_count++] = table;
    return table;
}

static inline uint16_t test_column(struct table_def *table, const char *name, uint8_t type,
                                   uint32_t size_max, bool nullable)
{
    struct column_def *column = &table->columns[table->column_count];
    strcpy(column->name, name);
    column->type = type;
    column->size_max = size_max;
    column->nullable = nullable;
    return table->column_count++;
}

static inline struct index_def *test_index(struct table_def *table, const char *name, uint8_t kind,
                                           uint8_t count, uint16_t first, uint16_t second)
{
    struct index_def *index = &table->indexes[table->index_count++];
    *index = (struct index_def){.kind = kind, .column_count = count};
    strcpy(index->name, name);
    index->columns[0] = first;
    index->columns[1] = second;
    if (table->index_count > 1)
        index->id = table->next_index_id++;
    else
        index->unique = true;
    return index;
}

/* A hash primary key; nullable and long variable columns; secondary indexes over NULLs and
 * case-insensitive text; columns that lie beside each other and alone, as in the other tables. */
static inline struct table_def *test_table_hash(struct catalog *catalog)
{
    struct table_def *table = test_table(catalog, "hashed");
    test_column(table, "id", TYPE_BIGINT_UNSIGNED, 0, false);
    test_column(table, "a", TYPE_INT, 0, true);
    test_column(table, "s", TYPE_VARCHAR, 80, true);
    test_column(table, "b", TYPE_VARBINARY, 5000, false);
    test_column(table, "f", TYPE_DOUBLE, 0, true);
    test_column(table, "g", TYPE_FLOAT, 0, false);
    table->columns[2].collation = COLLATION_CASE_INSENSITIVE;
    table->columns[1].beside = true;
    table->columns[5].beside = true;
    test_index(table, "PRIMARY", INDEX_HASH, 1, 0, 0);
    test_index(table, "by_a", INDEX_ORDERED, 1, 1, 0);
    test_index(table, "by_s_a", INDEX_ORDERED, 2, 2, 1);
    table->partition_column_count = 1;
    cr_assert_eq(table_def_check(table, NULL), ERR_NONE);
    return table;
}

/* An ordered primary key with case-insensitive text in it; short types. */
static inline struct table_def *test_table_ordered(struct catalog *catalog)
{
    struct table_def *table = test_table(catalog, "ordered");
    test_column(table, "parent", TYPE_BIGINT_UNSIGNED, 0, false);
    test_column(table, "name", TYPE_VARCHAR, 160, false);
    test_column(table, "v", TYPE_TINYINT, 0, false);
    test_column(table, "bin", TYPE_BINARY, 5, true);
    test_column(table, "d", TYPE_DECIMAL, 0, true);
    test_column(table, "day", TYPE_DATE, 0, true);
    table->columns[1].collation = COLLATION_CASE_INSENSITIVE;
    table->columns[1].beside = true;
    table->columns[2].beside = true;
    table->columns[4].precision = 9;
    table->columns[4].scale = 2;
    test_index(table, "PRIMARY", INDEX_ORDERED, 2, 0, 1);
    test_index(table, "by_v", INDEX_ORDERED, 1, 2, 0);
    test_index(table, "by_bin_d", INDEX_ORDERED, 2, 3, 4);
    table->partition_column_count = 1;
    cr_assert_eq(table_def_check(table, NULL), ERR_NONE);
    return table;
}

/* Both kinds of primary key, over a signed column; rows that expire. */
static inline struct table_def *test_table_ttl(struct catalog *catalog)
{
    struct table_def *table = test_table(catalog, "expiring");
    test_column(table, "k", TYPE_INT, 0, false);
    test_column(table, "made", TYPE_TIMESTAMP, 0, true);
    test_column(table, "note", TYPE_TEXT, 60000, true);
    test_column(table, "n", TYPE_SMALLINT_UNSIGNED, 0, false);
    test_index(table, "PRIMARY", INDEX_ORDERED, 1, 0, 0)->has_hash = true;
    test_index(table, "by_made", INDEX_ORDERED, 1, 1, 0);
    table->partition_column_count = 1;
    table->columns[3].beside = true;
    table->ttl_seconds = 10;
    table->ttl_column = 1;
    cr_assert_eq(table_def_check(table, NULL), ERR_NONE);
    return table;
}

/* The three above, ids 1 to 3. */
static inline struct catalog *test_catalog(void)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    cr_assert(catalog);
    test_table_hash(catalog);
    test_table_ordered(catalog);
    test_table_ttl(catalog);
    catalog->next_table_id++;
    return catalog;
}

struct test_store {
    struct ldm *ldm;
    struct partition *partition;
    struct catalog *catalog;
};

static inline void test_store_init(struct test_store *store, uint64_t memory_max)
{
    store->catalog = test_catalog();
    cr_assert_eq(ldm_create(memory_max, &store->ldm), ERR_NONE);
    cr_assert_eq(partition_create(store->ldm, 5, &store->partition), ERR_NONE);
    cr_assert_eq(partition_set_catalog(store->partition, store->catalog), ERR_NONE);
}

static inline void test_store_fini(struct test_store *store)
{
    ldm_destroy(store->ldm);
    catalog_destroy(store->catalog);
}

static inline struct fragment *test_fragment(struct test_store *store, uint32_t table_id)
{
    struct fragment *fragment = partition_fragment(store->partition, table_id);
    cr_assert(fragment);
    return fragment;
}

static inline void test_verify(struct test_store *store)
{
    for (uint32_t i = 0; i < store->catalog->table_count; i++) {
        struct diag diag = {0};
        enum err err = fragment_verify(test_fragment(store, store->catalog->tables[i]->id), &diag);
        cr_assert_eq(err, ERR_NONE, "table %u: %s", store->catalog->tables[i]->id, diag.text);
    }
}

/* A small generator of its own, so that a seed gives the same test everywhere. */
struct test_random {
    uint64_t state;
};
static inline uint64_t test_next(struct test_random *random)
{
    uint64_t value = random->state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}
static inline uint32_t test_below(struct test_random *random, uint32_t bound)
{
    return (uint32_t)(test_next(random) % bound);
}

#endif
