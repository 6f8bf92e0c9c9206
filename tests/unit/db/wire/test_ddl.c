#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "db/wire/ddl.h"

static unsigned random_next(uint64_t *seed)
{
    return (unsigned)(hash_u64(++*seed) >> 33);
}

static struct column_def columns[2] = {
    {.name = "id", .type = TYPE_INT},
    {.name = "text", .type = TYPE_VARCHAR, .size_max = 40, .nullable = true},
};

static struct table_def table_of(const char *name)
{
    struct table_def table = {
        .database = "d",
        .column_count = 2,
        .columns = columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_KEY,
        .partition_column_count = 1,
        .indexes = {{.name = "PRIMARY", .kind = INDEX_ORDERED, .unique = true, .column_count = 1}},
    };
    strcpy(table.name, name);
    return table;
}

/* Sends the request through its encoding and applies it to *catalog. */
static enum err apply(struct catalog **catalog, const struct ddl_request *request)
{
    struct buf buf;
    buf_init(&buf);
    ddl_request_encode(request, &buf);
    cr_assert_not(buf.failed);
    struct reader reader = reader_of(buf.bytes, buf.size);
    struct ddl_request decoded;
    struct diag diag = {0};
    enum err err = ddl_request_decode(&reader, &decoded, &diag);
    if (!err) {
        struct catalog *next;
        err = ddl_apply(*catalog, &decoded, &next, &diag);
        ddl_request_fini(&decoded);
        if (!err) {
            catalog_destroy(*catalog);
            *catalog = next;
        }
    }
    if (err) cr_assert_neq(diag.text[0], '\0', "an error has a reason");
    buf_fini(&buf);
    return err;
}

static struct ddl_request on_table(enum ddl_op op, const char *name)
{
    struct ddl_request request = {.op = op, .database = "d"};
    strcpy(request.name, name);
    return request;
}

static struct catalog *catalog_new(void)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    catalog->version = 1;
    catalog->next_table_id = 1;
    return catalog;
}

Test(ddl, gives_ids_that_are_never_reused)
{
    struct catalog *catalog = catalog_new();
    struct table_def table = table_of("a");
    struct ddl_request create = {.op = DDL_CREATE_TABLE, .table = &table};
    cr_assert_eq(apply(&catalog, &create), ERR_NONE);
    cr_assert_eq(apply(&catalog, &create), ERR_EXISTS);
    cr_assert_eq(catalog->tables[0]->id, 1);
    struct ddl_request drop = on_table(DDL_DROP_TABLE, "a");
    cr_assert_eq(apply(&catalog, &drop), ERR_NONE);
    cr_assert_eq(apply(&catalog, &drop), ERR_NOT_FOUND);
    cr_assert_eq(apply(&catalog, &create), ERR_NONE);
    cr_assert_eq(catalog->tables[0]->id, 2);
    cr_assert_eq(catalog->version, 4);
    catalog_destroy(catalog);
}

Test(ddl, makes_and_drops_indexes_with_new_versions)
{
    struct catalog *catalog = catalog_new();
    struct table_def table = table_of("a");
    struct ddl_request create = {.op = DDL_CREATE_TABLE, .table = &table};
    cr_assert_eq(apply(&catalog, &create), ERR_NONE);
    struct ddl_request index = on_table(DDL_CREATE_INDEX, "a");
    index.index = (struct index_def){
        .name = "by_text", .kind = INDEX_ORDERED, .column_count = 1, .columns = {1}};
    cr_assert_eq(apply(&catalog, &index), ERR_NONE);
    cr_assert_eq(apply(&catalog, &index), ERR_EXISTS);
    cr_assert_eq(catalog->tables[0]->version, 2);
    cr_assert_eq(catalog->tables[0]->indexes[1].id, 1);
    struct ddl_request drop = on_table(DDL_DROP_INDEX, "a");
    strcpy(drop.index.name, "by_text");
    cr_assert_eq(apply(&catalog, &drop), ERR_NONE);
    cr_assert_eq(apply(&catalog, &drop), ERR_NOT_FOUND);
    cr_assert_eq(apply(&catalog, &index), ERR_NONE);
    cr_assert_eq(catalog->tables[0]->indexes[1].id, 2);
    cr_assert_eq(catalog->tables[0]->version, 4);
    strcpy(drop.index.name, "PRIMARY");
    cr_assert_eq(apply(&catalog, &drop), ERR_INVALID);
    index.index.columns[0] = 7;
    strcpy(index.index.name, "other");
    cr_assert_eq(apply(&catalog, &index), ERR_INVALID);
    cr_assert_eq(catalog->tables[0]->version, 4, "a refused change leaves nothing behind");
    catalog_destroy(catalog);
}

Test(ddl, decode_survives_every_cut_and_random_changes)
{
    struct table_def table = table_of("a");
    struct ddl_request create = {.op = DDL_CREATE_TABLE, .table = &table};
    struct buf buf;
    buf_init(&buf);
    ddl_request_encode(&create, &buf);
    for (size_t cut = 0; cut < buf.size; cut++) {
        struct reader reader = reader_of(buf.bytes, cut);
        struct ddl_request request;
        cr_assert_neq(ddl_request_decode(&reader, &request, NULL), ERR_NONE);
    }
    uint64_t seed = 1;
    for (int round = 0; round < 5000; round++) {
        uint8_t *bytes = malloc(buf.size);
        memcpy(bytes, buf.bytes, buf.size);
        for (int i = 0; i < 2; i++)
            bytes[(size_t)random_next(&seed) % buf.size] = (uint8_t)random_next(&seed);
        struct reader reader = reader_of(bytes, buf.size);
        struct ddl_request request;
        if (!ddl_request_decode(&reader, &request, NULL)) ddl_request_fini(&request);
        free(bytes);
    }
    buf_fini(&buf);
}
