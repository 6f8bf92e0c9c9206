/* The coordinator's half of a query: merges what the workers send and makes the result rows. It
 * knows nothing of how messages arrive. Single-threaded. */
#ifndef DB_QUERY_FINISH_H
#define DB_QUERY_FINISH_H

#include "base/diag.h"
#include "db/query/message.h"
#include "db/wire/query.h"
#include "db/wire/schema.h"

struct query_finish;

/* tree is decoded against the catalog and stays until query_finish_destroy; the catalog is used
 * here only. memory_max: 0 for no limit. ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err query_finish_create(const struct query_tree *tree, const struct catalog *catalog,
                                      uint64_t memory_max, struct query_finish **ret_finish,
                                      struct diag *diag);
void query_finish_destroy(struct query_finish *finish); /* NULL is allowed */
/* The payload of a ROWS body, whose kind has one. Rows may be borrowed from the bytes until
 * query_finish_next wants the next message. ERR_BAD_SIGNAL, ERR_QUERY_MEMORY, ERR_NO_MEMORY. */
MUST_USE enum err query_finish_take(struct query_finish *finish, enum query_rows_kind kind,
                                    struct reader *reader, struct diag *diag);
/* Everything was taken. ERR_OUT_OF_RANGE and the memory errors. */
MUST_USE enum err query_finish_end(struct query_finish *finish, struct diag *diag);
/* The next row, visible_count values borrowed until the next call. ERR_BUSY: it needs another
 * message, or the end. ERR_END: there is no more, whatever the workers may still send.
 * ERR_OUT_OF_RANGE and the memory errors. */
MUST_USE enum err query_finish_next(struct query_finish *finish, const struct value **ret_row,
                                    struct diag *diag);
uint64_t query_finish_memory_peak(const struct query_finish *finish);

#endif
