/* The executor: one query on one worker. It knows partitions and expressions, and nothing of
 * threads or sockets: whoever drives it (service.c on a worker, a test) gives it time and takes its
 * messages. Single-threaded. */
#ifndef DB_QUERY_EXEC_H
#define DB_QUERY_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "db/ldm/partition.h"
#include "db/query/message.h"
#include "db/wire/query.h"
#include "db/wire/schema.h"

/* Where the executor runs. All calls are made from within query_exec_* functions. */
struct query_host {
    uint16_t worker;
    uint16_t worker_count;
    uint16_t partition_count;
    /* NULL when the partition belongs to another worker. */
    struct partition *(*partition)(void *context, uint16_t number);
    uint16_t (*owner)(void *context, uint16_t partition);
    uint64_t (*monotonic_ns)(void *context);
    /* Sends a ROWS body to the coordinator, a MOVE or MOVED body to a worker; copies the bytes.
     * ERR_NO_MEMORY, ERR_TOO_BIG. */
    enum err (*send_rows)(void *context, const struct buf *body);
    enum err (*send_move)(void *context, uint16_t worker, const struct buf *body);
    enum err (*send_moved)(void *context, uint16_t worker, const struct buf *body);
    void *context;
};

struct query_exec_config {
    const struct query_tree *tree; /* decoded; stays until query_exec_destroy */
    const struct catalog
        *catalog;         /* what the tree was decoded against; used during creation only */
    struct query_run run; /* ts is set */
    struct query_host host;
};

struct query_exec;

/* ERR_QUERY_MEMORY, ERR_NO_MEMORY, ERR_SCHEMA_CHANGED. */
MUST_USE enum err query_exec_create(const struct query_exec_config *config,
                                    struct query_exec **ret_exec, struct diag *diag);
void query_exec_destroy(struct query_exec *exec); /* NULL is allowed */

enum query_exec_state {
    QUERY_EXEC_MORE,   /* there is more to do at once */
    QUERY_EXEC_WAIT,   /* for credits, moves, or the word to finish */
    QUERY_EXEC_DONE,   /* the last ROWS was sent */
    QUERY_EXEC_FAILED, /* query_exec_failure says why: the caller tells the coordinator */
};
/* Works until about deadline_ns. Between two calls the partitions may change. */
enum query_exec_state query_exec_run(struct query_exec *exec, uint64_t deadline_ns);
/* A MOVE body from another worker. The bytes are copied. A malformed one fails the query. */
void query_exec_move(struct query_exec *exec, uint16_t from, const uint8_t *body, size_t size);
void query_exec_moved(struct query_exec *exec, uint16_t from, const uint8_t *body, size_t size);
void query_exec_more(struct query_exec *exec, const uint8_t *body, size_t size);
/* Ends it with this error. */
void query_exec_fail(struct query_exec *exec, enum err err, const char *reason);
/* Why it failed; stays until query_exec_destroy. */
const struct diag *query_exec_failure(const struct query_exec *exec);
/* Whether workers besides those that own the touched slots take part: a join moves rows. */
bool query_moves_rows(const struct query_tree *tree);

#endif
