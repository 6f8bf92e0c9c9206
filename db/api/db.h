/* The client library: programs, queries, DDL. Everything outside db/ goes through it.
 *
 * db_open_embedded starts a node in this process. A client belongs to one thread. A client made on
 * a worker's own thread (inside a db_watch callback, or by db_client_on_worker) runs programs for
 * that worker's partitions inline; while it waits for others it pumps its worker's signals, never
 * its watches. */
#ifndef DB_API_DB_H
#define DB_API_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "db/wire/program.h"
#include "db/wire/query.h"
#include "db/wire/schema.h"
#include "rdma/port.h"

struct db;
struct db_client;
struct db_query;
struct env;

enum db_flush_policy {
    DB_FLUSH_INTERVAL = 0, /* every flush_interval_ms */
    DB_FLUSH_ALWAYS = 1,   /* a program is answered when its redo is on disk */
};

struct db_config {
    const char *dir; /* the store directory; created with its parents' last part when create */
    bool create;     /* make the store when the directory is missing or empty */
    uint16_t worker_count;    /* 1..64; 0: 1 */
    uint16_t partition_count; /* of a new store; a power of two; 0: 8 */
    enum db_flush_policy flush_policy;
    uint32_t flush_interval_ms; /* 0: 50 */
    uint64_t
        checkpoint_log_bytes;  /* a checkpoint starts when this much redo was written; 0: 256 MiB */
    uint64_t memory_max;       /* bytes of rows and indexes; beyond it ERR_NO_SPACE; 0: no limit */
    uint64_t query_memory_max; /* bytes of one query; 0: 256 MiB */
    bool pin_workers;          /* each to a core */
    enum port_spin link_spin;  /* how workers wait for clients of other processes (db_listen) */
    struct env *env;           /* NULL: the real one */
    void (*progress)(void *context, const char *what, uint64_t done,
                     uint64_t total); /* may be NULL */
    void *progress_context;
};

/* Recovers the store and starts the workers. Refuses with a one-line reason: a store made by a
 * newer version (ERR_VERSION), one already served (ERR_IN_USE), a directory that is no store
 * (ERR_INVALID), damage with file and offset (ERR_CORRUPT), no memory or space. */
MUST_USE enum err db_open_embedded(const struct db_config *config, struct db **ret_db,
                                   struct diag *diag);
/* Lets other processes reach the embedded database at the address. Worker w listens at PORT + w, or
 * at PATH.w for shm (made 0600); whoever knows the secret may do everything that a client may. May
 * be called several times, for several addresses, with one secret. ret_bound (may be NULL): what to
 * give to db_connect: the address of worker 0, with the port that the system chose (then the
 * others' are told to clients); of shm the PATH as it is. Not from a worker's thread. Ends with
 * db_close. Errors of port_listen. */
MUST_USE enum err db_listen(struct db *db, const struct port_address *address,
                            const uint8_t secret[PORT_SECRET_SIZE], struct port_address *ret_bound,
                            struct diag *diag);

struct db_connect_config {
    const struct port_address *addresses; /* of worker 0 (of shm the PATH that db_listen was given),
                                             tried in this order; copied */
    unsigned address_count;
    uint8_t secret[PORT_SECRET_SIZE];
    /* Threads of this process with an event loop, for db_watch, db_post and db_client_on_worker,
     * which take their index where an embedded database takes a worker's. 0: none. */
    uint16_t loop_count;
    enum port_spin spin;
    uint32_t timeout_ms; /* for the first connection; and how long a lost one is waited for by a
                            request; 0: 10000 */
};
/* A database in another process. The same functions work as on an embedded one, but for db_listen
 * (ERR_UNSUPPORTED). What waits for a link for longer than timeout_ms ends with ERR_TIMEOUT, or
 * ERR_OUTCOME_UNKNOWN; an open query whose link is lost with ERR_LINK_LOST. db_flush fails once
 * with ERR_IO when a restart of the node has lost what was acknowledged here. A request under way
 * when a link is lost is sent again over the next one under its number, and the server answers it
 * once; when the server has lost its memory of it (a restart), the outcome of a change is
 * ERR_OUTCOME_UNKNOWN. No connection within timeout_ms: ERR_TIMEOUT with the reason of the last
 * attempt; a wrong secret: ERR_DENIED at once. */
MUST_USE enum err db_connect(const struct db_connect_config *config, struct db **ret_db,
                             struct diag *diag);
/* Of an embedded database the workers, of a connected one the loops (see db_watch). */
uint16_t db_loop_count(const struct db *db);
/* Stops the workers, flushes, writes what makes the next start quick, releases the store. All
 * clients must be destroyed before. The error is of the flush: what was acknowledged as durable
 * stays so. */
MUST_USE enum err db_close(struct db *db, struct diag *diag);
uint16_t db_worker_count(const struct db *db);
uint16_t db_partition_count(const struct db *db);
/* The worker that owns the slot now. */
uint16_t db_slot_worker(const struct db *db, uint16_t slot);
/* A 128-bit random number fixed when the store was made: the key for keyed name hashes. */
void db_store_key(const struct db *db, uint8_t key[16]);
/* Makes the process-wide failure known: the first error of a background flush or checkpoint
 * (ERR_NONE: none). After a failed flush every change is refused with it. */
enum err db_health(const struct db *db, struct diag *diag);
/* How often a connected database has restarted without changes that it had acknowledged to this
 * process: a crash before they were on disk. Of an embedded one 0. Any thread; costs next to
 * nothing. */
uint32_t db_losses(const struct db *db);

/* Calls back on worker `worker`'s thread whenever fd is readable, until it returns false. A watch
 * that says by `found` when it found something is also called without being told, for a moment
 * after it did, as long as that finds more: its fd does not block. Any thread. ERR_NO_MEMORY,
 * ERR_IO. */
struct db_watch {
    int fd;
    bool (*ready)(struct db_watch *watch); /* false: remove the watch */
    void *context;
    bool spins;
    uint32_t found; /* of one that spins: ready adds one for everything it finds */
};
MUST_USE enum err db_watch(struct db *db, uint16_t worker, struct db_watch *watch);
/* Calls fn(context) once on the worker's thread, soon. Any thread. */
MUST_USE enum err db_post(struct db *db, uint16_t worker, void (*fn)(void *context), void *context);

/* For the calling thread. ERR_NO_MEMORY, ERR_BUSY (too many clients). */
MUST_USE enum err db_client_create(struct db *db, struct db_client **ret_client);
/* The same, bound to a worker: must be created and used on that worker's thread (from a watch or
 * post). */
MUST_USE enum err db_client_on_worker(struct db *db, uint16_t worker,
                                      struct db_client **ret_client);
void db_client_destroy(struct db_client *client); /* NULL is allowed */
struct db *db_client_db(struct db_client *client);

/* The catalog now, with a reference for the caller. Any thread. */
const struct catalog *db_catalog_acquire(struct db *db);
void db_catalog_release(struct db *db, const struct catalog *catalog);

/* Runs the program and waits. Retries conflicts with back-off for up to a second. The result is the
 * program's outcome: its own err from a guard, or ERR_CONFLICT, ERR_SCHEMA_CHANGED, ERR_NO_SPACE,
 * ERR_NO_MEMORY, ERR_BAD_PROGRAM, ERR_OUTCOME_UNKNOWN, ERR_CLOSED. reply holds the outputs when
 * ERR_NONE; it is reused as it is. */
MUST_USE enum err db_run(struct db_client *client, struct program *program,
                         struct program_reply *reply);
/* The same of a prepared program, with a slot for each of its sections and a value for each of its
 * parameters; all are borrowed until it returns. On the worker that owns the slots it runs without
 * being encoded, decoded or checked again. Also program_bind's errors. A program with parameters
 * runs in no other way (but by program_bind and db_submit). */
MUST_USE enum err db_run_prepared(struct db_client *client, struct program_prepared *prepared,
                                  const uint16_t *slots, const struct value *params,
                                  struct program_reply *reply);
/* The same without waiting: done is called once, on this thread, from db_poll (or at once). The
 * program's bytes are copied. ERR_BUSY when too many are under way (4,096). */
MUST_USE enum err db_submit(struct db_client *client, struct program *program,
                            void (*done)(void *context, struct program_reply *reply),
                            void *context);
/* Handles what has arrived; waits up to timeout_ms for the first (0: does not, -1: for ever).
 * Returns how many programs were completed. */
uint32_t db_poll(struct db_client *client, int timeout_ms);
/* Everything acknowledged before is on disk when it returns. ERR_IO, ERR_NO_SPACE. From another
 * process also ERR_TIMEOUT, and ERR_OUTCOME_UNKNOWN: a node that was started again has flushed, but
 * did not tell what it had lost. */
MUST_USE enum err db_flush(struct db_client *client);
/* A checkpoint of every partition now; returns when published. */
MUST_USE enum err db_checkpoint(struct db_client *client);

/* DDL, administrators only (the caller checks). A definition's id, version and index ids are given
 * by the store. ERR_EXISTS, ERR_INVALID with a reason, ERR_NO_SPACE, ERR_IO, … and
 * ERR_OUTCOME_UNKNOWN: it is not so now, but the next start may find it done. Durable when it
 * returns. */
MUST_USE enum err db_create_table(struct db_client *client, const struct table_def *table,
                                  struct diag *diag);
MUST_USE enum err db_drop_table(struct db_client *client, const char *database, const char *name,
                                struct diag *diag);
MUST_USE enum err db_create_index(struct db_client *client, const char *database, const char *table,
                                  const struct index_def *index, struct diag *diag);
MUST_USE enum err db_drop_index(struct db_client *client, const char *database, const char *table,
                                const char *index, struct diag *diag);

/* Starts the query on one snapshot over all partitions it touches. */
MUST_USE enum err db_query_open(struct db_client *client, const struct query_tree *tree,
                                struct db_query **ret_query, struct diag *diag);
/* The next row: visible_count values, borrowed until the next call. ERR_END after the last.
 * ERR_OUT_OF_RANGE, ERR_QUERY_MEMORY, ERR_CANCELLED, … with a reason in diag. */
MUST_USE enum err db_query_next(struct db_query *query, const struct value **ret_row,
                                struct diag *diag);
struct db_query_stats {
    uint64_t rows_scanned;
    uint64_t rows_returned;
    uint64_t partitions;
    uint64_t memory_bytes_peak;
    uint64_t snapshot_ts;
};
void db_query_stats(const struct db_query *query, struct db_query_stats *ret_stats);
void db_query_close(struct db_query *query); /* NULL is allowed; cancels what still runs */

/* Counters of the node and its workers as a JSON object text, heap-allocated for the caller to
 * free(). */
MUST_USE enum err db_status_json(struct db_client *client, char **ret_json);

#endif
