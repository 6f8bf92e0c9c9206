/* DDL of the client library: a request to worker 0, which leads changes of the catalog, and its
 * answer. */
#include <string.h>

#include "db/api/db_private.h"
#include "db/wire/ddl.h"

enum { TAG_REQUEST = 1 }; /* db/node/ddl.c */

static enum err name_copy(char to[SCHEMA_NAME_SIZE_MAX + 1], const char *from, struct diag *diag)
{
    size_t size = strlen(from);
    if (size > SCHEMA_NAME_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "a name has at most %d bytes", SCHEMA_NAME_SIZE_MAX);
    memcpy(to, from, size + 1);
    return ERR_NONE;
}

static enum err request_run(struct db_client *client, const struct ddl_request *request,
                            struct diag *diag)
{
    struct buf buf;
    struct signal *reply = NULL;
    buf_init(&buf);
    buf_put_u8(&buf, TAG_REQUEST);
    ddl_request_encode(request, &buf);
    enum err err = buf.failed ? ERR_NO_MEMORY : ERR_NONE;
    if (!err) err = client_call(client, 0, SIGNAL_DDL, buf.bytes, (uint32_t)buf.size, &reply);
    buf_fini(&buf);
    if (err) return diag_set(diag, err, "%s", err_text(err));
    err = (enum err)reply->header.err;
    uint32_t size = signal_body_size(reply);
    if (err && size)
        diag_set(diag, err, "%.*s", (int)(size < DIAG_TEXT_SIZE_MAX ? size : DIAG_TEXT_SIZE_MAX),
                 (const char *)reply->body);
    else if (err)
        diag_set(diag, err, "%s", err_text(err));
    signal_destroy(reply);
    return err;
}

enum err db_create_table(struct db_client *client, const struct table_def *table, struct diag *diag)
{
    /* Ids are the store's; the rules are checked here already, where a reason can be given for any
     * of them. */
    struct table_def *copy = table_def_copy(table);
    if (!copy) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    for (uint16_t i = 0; i < copy->index_count && i < SCHEMA_INDEXES_MAX; i++)
        copy->indexes[i].id = i;
    copy->next_index_id = copy->index_count;
    struct ddl_request request = {.op = DDL_CREATE_TABLE, .table = copy};
    enum err err = table_def_check(copy, diag);
    if (!err) {
        memcpy(request.database, copy->database, sizeof(request.database));
        memcpy(request.name, copy->name, sizeof(request.name));
        err = request_run(client, &request, diag);
    }
    ddl_request_fini(&request);
    return err;
}

enum err db_drop_table(struct db_client *client, const char *database, const char *name,
                       struct diag *diag)
{
    struct ddl_request request = {.op = DDL_DROP_TABLE};
    enum err err = name_copy(request.database, database, diag);
    if (!err) err = name_copy(request.name, name, diag);
    return err ? err : request_run(client, &request, diag);
}

enum err db_create_index(struct db_client *client, const char *database, const char *table,
                         const struct index_def *index, struct diag *diag)
{
    struct ddl_request request = {.op = DDL_CREATE_INDEX, .index = *index};
    if (index->column_count > SCHEMA_KEY_COLUMNS_MAX)
        return diag_set(diag, ERR_INVALID, "an index has at most %d columns",
                        SCHEMA_KEY_COLUMNS_MAX);
    enum err err = name_copy(request.database, database, diag);
    if (!err) err = name_copy(request.name, table, diag);
    return err ? err : request_run(client, &request, diag);
}

enum err db_drop_index(struct db_client *client, const char *database, const char *table,
                       const char *index, struct diag *diag)
{
    struct ddl_request request = {.op = DDL_DROP_INDEX};
    enum err err = name_copy(request.database, database, diag);
    if (!err) err = name_copy(request.name, table, diag);
    if (!err) err = name_copy(request.index.name, index, diag);
    return err ? err : request_run(client, &request, diag);
}
