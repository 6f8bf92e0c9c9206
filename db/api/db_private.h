/* What the files of the client library share. Private to db/api and to tests that make a db around
 * a node of their own. */
#ifndef DB_API_DB_PRIVATE_H
#define DB_API_DB_PRIVATE_H

#include "db/api/channel.h"
#include "db/node/hlc.h"
#include "db/node/node.h"

struct db {
    struct node *node;     /* NULL: it is in another process, and */
    struct remote *remote; /* this is how it is reached */
    struct env *env;
    bool owns_env;
    int lock_fd;                     /* -1: none */
    uint64_t checkpoint_close_bytes; /* redo beyond which a close writes a checkpoint */
};

struct submit;

enum { CLIENT_SUBMITS_MAX = 4096 };

struct db_client {
    struct db *db;
    struct node *node;
    struct worker *worker; /* whose thread this is; NULL: none's */
    struct endpoint *endpoint;
    struct signal *end; /* tells the workers that the client ends */
    struct hlc clock;   /* of an unbound client; a bound one uses its worker's */
    struct requests own;

    /* Of a database in another process, in place of node, worker and endpoint: */
    struct channel *channel;
    struct loop *loop; /* whose thread this is, and whose channel; NULL: none's */
    struct db_client *loop_next;
    uint32_t losses_seen; /* of the remote's, by this client's flushes */

    struct requests *requests; /* own, or the channel's */
    uint64_t random;
    struct program bound; /* a prepared program on its way to another worker */

    /* submit.c */
    struct submit *finished; /* to be called back, oldest first */
    struct submit *finished_last;
    struct submit *deferred; /* to be tried again later */
    struct submit *idle;
    struct submit *all; /* every one ever made */
    uint32_t submit_count;
    bool delivering;
    struct worker_timer deferred_timer; /* of a bound client */
};

/* Bytes that one query may use. */
uint64_t db_query_memory_max(const struct db *db);
/* Like client_pump, to the nanosecond; UINT64_MAX: no limit. */
MUST_USE enum err client_pump_ns(struct db_client *client, uint64_t timeout_ns);
/* Sends a request and waits for its one answer, whose owner the caller becomes. ERR_NO_MEMORY. */
MUST_USE enum err client_call(struct db_client *client, uint32_t worker, enum signal_type type,
                              const void *body, uint32_t body_size, struct signal **ret_reply);
/* Sends the request to every worker and waits for all answers, of worker w in ret_replies[w].
 * ERR_NO_MEMORY; ERR_BUSY: their number changes all the time. */
MUST_USE enum err client_call_all(struct db_client *client, enum signal_type type,
                                  struct signal *ret_replies[WORKERS_MAX], uint16_t *ret_count);
/* The worker that a program with sections of these slots is sent to, and whether it may be run in
 * the call. */
uint16_t client_target(const struct db_client *client, const uint16_t *slots, uint16_t slot_count,
                       bool *ret_inline);
/* Waits until every worker can be reached; a link that is lost later is another matter. ERR_TIMEOUT
 * with the reason. */
MUST_USE enum err client_reach_all(struct db_client *client, struct diag *diag);
/* How long to wait before attempt number `attempt` (from 1): random, doubling up to some
 * milliseconds. */
uint64_t client_backoff_ns(struct db_client *client, unsigned attempt);
/* Until when an error of a program is worth another attempt, from when it was first run; 0: it is
 * not. */
uint64_t client_patience_ns(enum err err);
/* Takes what a program's answer says; its outcome. */
MUST_USE enum err client_take_reply(struct signal *signal, struct program_reply *reply);

/* submit.c */
void submit_start(struct db_client *client);
void submit_stop(struct db_client *client);
/* Calls back what is finished, tries again what is due; how many were called back. */
uint32_t submit_turn(struct db_client *client);
/* Monotonic time at which submit_turn has something to do; 0: now, UINT64_MAX: never. */
uint64_t submit_due_ns(const struct db_client *client);

#endif
