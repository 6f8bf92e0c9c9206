/* DDL requests and what they make of a catalog.
 *
 *   request  u8 op, bytes database, bytes table name, then
 *            CREATE_TABLE: a catalog of that one table (catalog.c), with ids of no meaning
 *            CREATE_INDEX: bytes name, u8 kind, u8 columns, u16 × columns
 *            DROP_INDEX: bytes name
 *
 * The store gives ids and versions: the next table id of the catalog, index ids from the table's
 * own counter, the table's version one higher with every change of its indexes. Ids are never
 * reused, so a log record or message that speaks of a dropped table can never mean another. */
#include "db/wire/ddl.h"

#include <stdlib.h>
#include <string.h>

#include "db/wire/catalog.h"

void ddl_request_fini(struct ddl_request *request)
{
    table_def_destroy(request->table);
    request->table = NULL;
}

static void put_name(struct buf *buf, const char *name)
{
    buf_put_bytes(buf, name, strnlen(name, SCHEMA_NAME_SIZE_MAX));
}

/* Ids as in a fresh catalog. */
static void table_number(struct table_def *table, uint32_t id)
{
    table->id = id;
    table->version = 1;
    for (uint16_t i = 0; i < table->index_count; i++)
        table->indexes[i].id = i;
    table->next_index_id = table->index_count;
}

void ddl_request_encode(const struct ddl_request *request, struct buf *buf)
{
    buf_put_u8(buf, (uint8_t)request->op);
    put_name(buf, request->database);
    put_name(buf, request->name);
    const struct index_def *index = &request->index;
    switch (request->op) {
    case DDL_CREATE_TABLE: {
        struct table_def *copy = table_def_copy(request->table);
        if (!copy) {
            buf->failed = true;
            return;
        }
        table_number(copy, 1);
        struct catalog one = {.version = 1, .next_table_id = 2, .table_count = 1, .tables = {copy}};
        catalog_encode(&one, buf);
        table_def_destroy(copy);
        break;
    }
    case DDL_CREATE_INDEX:
        put_name(buf, index->name);
        buf_put_u8(buf, index->kind);
        buf_put_u8(buf, index->column_count);
        for (uint8_t i = 0; i < index->column_count && i < SCHEMA_KEY_COLUMNS_MAX; i++)
            buf_put_u16(buf, index->columns[i]);
        break;
    case DDL_DROP_INDEX:
        put_name(buf, index->name);
        break;
    case DDL_DROP_TABLE:
        break;
    }
}

static void get_name(struct reader *reader, char name[SCHEMA_NAME_SIZE_MAX + 1])
{
    size_t size = 0;
    const uint8_t *bytes = reader_bytes(reader, SCHEMA_NAME_SIZE_MAX, &size);
    if (!bytes || memchr(bytes, 0, size)) {
        reader->failed = true;
        return;
    }
    memcpy(name, bytes, size);
    name[size] = '\0';
}

static enum err table_decode(struct reader *reader, struct ddl_request *request, struct diag *diag)
{
    struct catalog *one = NULL;
    enum err err = catalog_decode(reader, &one);
    if (err == ERR_NO_MEMORY) return diag_set(diag, err, "%s", err_text(err));
    if (err || one->table_count != 1) {
        catalog_destroy(one);
        return diag_set(diag, ERR_BAD_SIGNAL, "malformed table definition");
    }
    request->table = one->tables[0];
    one->table_count = 0;
    catalog_destroy(one);
    memcpy(request->database, request->table->database, sizeof(request->database));
    memcpy(request->name, request->table->name, sizeof(request->name));
    return ERR_NONE;
}

enum err ddl_request_decode(struct reader *reader, struct ddl_request *ret_request,
                            struct diag *diag)
{
    struct ddl_request request = {.op = (enum ddl_op)reader_u8(reader)};
    get_name(reader, request.database);
    get_name(reader, request.name);
    struct index_def *index = &request.index;
    switch (request.op) {
    case DDL_CREATE_TABLE: {
        if (reader->failed) break;
        enum err err = table_decode(reader, &request, diag);
        if (err) return err;
        break;
    }
    case DDL_CREATE_INDEX:
        get_name(reader, index->name);
        index->kind = reader_u8(reader);
        index->column_count = reader_u8(reader);
        if (index->column_count > SCHEMA_KEY_COLUMNS_MAX) reader->failed = true;
        for (uint8_t i = 0; i < index->column_count && !reader->failed; i++)
            index->columns[i] = reader_u16(reader);
        break;
    case DDL_DROP_INDEX:
        get_name(reader, index->name);
        break;
    case DDL_DROP_TABLE:
        break;
    default:
        reader->failed = true;
    }
    if (reader->failed || reader_left(reader)) {
        ddl_request_fini(&request);
        return diag_set(diag, ERR_BAD_SIGNAL, "malformed request");
    }
    *ret_request = request;
    return ERR_NONE;
}

/* ---- what a request makes of a catalog ---- */

static enum err create_table(struct catalog *catalog, const struct ddl_request *request,
                             struct diag *diag)
{
    if (catalog_find(catalog, request->database, request->name))
        return diag_set(diag, ERR_EXISTS, "table %s.%s already exists", request->database,
                        request->name);
    if (catalog->table_count == SCHEMA_TABLES_MAX)
        return diag_set(diag, ERR_TOO_BIG, "a store has at most %d tables", SCHEMA_TABLES_MAX);
    struct table_def *table = table_def_copy(request->table);
    if (!table) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    if (catalog->next_table_id == 0) catalog->next_table_id = 1;
    table_number(table, catalog->next_table_id);
    enum err err = table_def_check(table, diag);
    if (err) {
        table_def_destroy(table);
        return err;
    }
    catalog->next_table_id++;
    catalog->tables[catalog->table_count++] = table;
    return ERR_NONE;
}

/* Position of the request's table; table_count when there is none. */
static uint32_t table_at(const struct catalog *catalog, const struct ddl_request *request)
{
    const struct table_def *table = catalog_find(catalog, request->database, request->name);
    uint32_t at = 0;
    while (at < catalog->table_count && catalog->tables[at] != table)
        at++;
    return at;
}

static void drop_table(struct catalog *catalog, uint32_t at)
{
    table_def_destroy(catalog->tables[at]);
    catalog->table_count--;
    memmove(&catalog->tables[at], &catalog->tables[at + 1],
            (catalog->table_count - at) * sizeof(catalog->tables[0]));
    catalog->tables[catalog->table_count] = NULL;
}

/* Position of the index; index_count when there is none. */
static uint16_t index_at(const struct table_def *table, const char *name)
{
    uint16_t at = 0;
    while (at < table->index_count && !schema_name_equal(table->indexes[at].name, name))
        at++;
    return at;
}

static enum err create_index(struct table_def *table, const struct ddl_request *request,
                             struct diag *diag)
{
    if (index_at(table, request->index.name) < table->index_count)
        return diag_set(diag, ERR_EXISTS, "index %s of table %s.%s already exists",
                        request->index.name, table->database, table->name);
    if (table->index_count == SCHEMA_INDEXES_MAX)
        return diag_set(diag, ERR_TOO_BIG, "a table has at most %d indexes", SCHEMA_INDEXES_MAX);
    if (table->next_index_id == UINT16_MAX)
        return diag_set(diag, ERR_TOO_BIG, "table %s.%s has used up its index ids", table->database,
                        table->name);
    struct index_def *index = &table->indexes[table->index_count++];
    *index = request->index;
    index->id = table->next_index_id++;
    index->has_hash = false;
    index->unique = false;
    table->version++;
    return table_def_check(table, diag);
}

static enum err drop_index(struct table_def *table, const struct ddl_request *request,
                           struct diag *diag)
{
    uint16_t at = index_at(table, request->index.name);
    if (at == table->index_count)
        return diag_set(diag, ERR_NOT_FOUND, "table %s.%s has no index %s", table->database,
                        table->name, request->index.name);
    if (at == 0) return diag_set(diag, ERR_INVALID, "the primary key cannot be dropped");
    table->index_count--;
    memmove(&table->indexes[at], &table->indexes[at + 1],
            (size_t)(table->index_count - at) * sizeof(table->indexes[0]));
    table->indexes[table->index_count] = (struct index_def){0};
    table->version++;
    return ERR_NONE;
}

enum err ddl_apply(const struct catalog *catalog, const struct ddl_request *request,
                   struct catalog **ret_catalog, struct diag *diag)
{
    struct catalog *next = catalog_copy(catalog);
    if (!next) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    next->version++;
    enum err err;
    uint32_t at = table_at(next, request);
    if (request->op == DDL_CREATE_TABLE)
        err = create_table(next, request, diag);
    else if (at == next->table_count)
        err = diag_set(diag, ERR_NOT_FOUND, "there is no table %s.%s", request->database,
                       request->name);
    else if (request->op == DDL_CREATE_INDEX)
        err = create_index(next->tables[at], request, diag);
    else if (request->op == DDL_DROP_INDEX)
        err = drop_index(next->tables[at], request, diag);
    else {
        drop_table(next, at);
        err = ERR_NONE;
    }
    if (err) {
        catalog_destroy(next);
        return err;
    }
    *ret_catalog = next;
    return ERR_NONE;
}

static bool index_is_same(const struct index_def *a, const struct index_def *b)
{
    return a->kind == b->kind && a->has_hash == b->has_hash && a->unique == b->unique &&
           a->column_count == b->column_count &&
           memcmp(a->columns, b->columns, a->column_count * sizeof(a->columns[0])) == 0;
}

static bool column_is_same(const struct column_def *a, const struct column_def *b)
{
    return a->type == b->type && a->collation == b->collation && a->precision == b->precision &&
           a->scale == b->scale && a->nullable == b->nullable && a->beside == b->beside &&
           a->size_max == b->size_max;
}

static bool table_is_same(const struct table_def *a, const struct table_def *b)
{
    if (a->column_count != b->column_count || a->partition_by != b->partition_by ||
        a->partition_column_count != b->partition_column_count ||
        a->ttl_seconds != b->ttl_seconds || a->ttl_column != b->ttl_column ||
        memcmp(a->partition_columns, b->partition_columns,
               a->partition_column_count * sizeof(a->partition_columns[0])) != 0)
        return false;
    for (uint16_t i = 0; i < a->column_count; i++)
        if (!column_is_same(&a->columns[i], &b->columns[i])) return false;
    for (uint16_t i = 0; i < a->index_count; i++)
        for (uint16_t j = 0; j < b->index_count; j++)
            if (a->indexes[i].id == b->indexes[j].id &&
                !index_is_same(&a->indexes[i], &b->indexes[j]))
                return false;
    return true;
}

bool ddl_may_follow(const struct catalog *from, const struct catalog *to)
{
    for (uint32_t i = 0; i < from->table_count; i++) {
        const struct table_def *old = from->tables[i];
        const struct table_def *new = catalog_find_id(to, old->id);
        if (new && !table_is_same(old, new)) return false;
    }
    return true;
}
