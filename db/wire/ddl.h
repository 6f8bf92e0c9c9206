/* Changes of the catalog as requests: their encoding, and what each makes of a catalog. */
#ifndef DB_WIRE_DDL_H
#define DB_WIRE_DDL_H

#include "base/buf.h"
#include "base/diag.h"
#include "db/wire/schema.h"

enum ddl_op {
    DDL_CREATE_TABLE = 1,
    DDL_DROP_TABLE = 2,
    DDL_CREATE_INDEX = 3,
    DDL_DROP_INDEX = 4,
};

struct ddl_request {
    enum ddl_op op;
    char database[SCHEMA_NAME_SIZE_MAX + 1];
    char name[SCHEMA_NAME_SIZE_MAX + 1]; /* of the table */
    struct index_def index;              /* CREATE_INDEX; of DROP_INDEX its name */
    struct table_def *table;             /* CREATE_TABLE; heap, the request's */
};

void ddl_request_fini(struct ddl_request *request);
/* Ids, versions and index ids of a table definition are not sent. The buffer latches failure. */
void ddl_request_encode(const struct ddl_request *request, struct buf *buf);
/* ERR_BAD_SIGNAL, ERR_INVALID (a definition against the rules, with the reason), ERR_NO_MEMORY. */
MUST_USE enum err ddl_request_decode(struct reader *reader, struct ddl_request *ret_request,
                                     struct diag *diag);
/* A new catalog, the next version of the given one, with the change. ERR_EXISTS, ERR_NOT_FOUND,
 * ERR_INVALID, ERR_TOO_BIG (too many tables or indexes), ERR_NO_MEMORY; each with a reason. */
MUST_USE enum err ddl_apply(const struct catalog *catalog, const struct ddl_request *request,
                            struct catalog **ret_catalog, struct diag *diag);

/* May a store that has `from` follow `to`? Tables of the same id must have the same columns, keys
 * and partitioning, indexes of the same id the same columns: rows are laid out by them. */
bool ddl_may_follow(const struct catalog *from, const struct catalog *to);

#endif
