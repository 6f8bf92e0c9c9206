/* A client as the parts of the client library see it: programs (client.c), queries (query.c), DDL.
 * Private to db/api.
 *
 * A client is an endpoint with a mailbox of its own, used by one thread. Requests get numbers; what
 * comes back is handed, by its request number, to the listener that asked. A client bound to a
 * worker shares that worker's thread: while it waits it gives the worker's loop nested turns. */
#ifndef DB_API_CLIENT_H
#define DB_API_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "db/api/db.h"
#include "db/node/mailbox.h"
#include "db/node/worker.h"

/* Embedded by its owner. receive() owns the signal; it is called from client_pump, on the client's
 * thread. It may send, but not pump. */
struct client_listener {
    void (*receive)(struct client_listener *listener, struct signal *signal);
    void *context;
    uint64_t request; /* 0: it does not listen */
    struct client_listener *next;

    /* Over links. A listener of many signals (a query's) says what to do when a link to a worker
     * that it has sent to is lost: nothing more may come from there. Not called while another
     * signal is being handed out. */
    void (*lost)(struct client_listener *listener, uint16_t worker);
    uint64_t workers; /* those, a bit each */
    /* A request with one answer is kept until that comes (channel.c). */
    struct signal *kept;
    struct client_listener *kept_older;
    struct client_listener *kept_newer;
    uint64_t kept_life;   /* of the node that it was last sent to; 0: it was not yet */
    uint64_t kept_number; /* among the messages of the link that it was last sent over */
    bool kept_again;      /* that life was sent it before, over another link */
    uint64_t kept_ns;     /* since when */
};

/* Gives the listener a fresh request number; what arrives with it goes to the listener until it is
 * taken off. What arrives for nobody is destroyed. */
uint64_t client_listen(struct db_client *client, struct client_listener *listener);
void client_unlisten(struct db_client *client, struct client_listener *listener);

/* Takes the signal, whose type, destination (a worker), request and body are set; fills in size,
 * version, source, client and clock. Cannot fail. */
void client_send(struct db_client *client, struct signal *signal, uint32_t body_size);
/* With a fresh block. ERR_NO_MEMORY. */
MUST_USE enum err client_send_new(struct db_client *client, uint32_t destination,
                                  enum signal_type type, uint64_t request, const void *body,
                                  uint32_t body_size);
/* Hands out what has arrived; when that is nothing, waits for up to timeout_ms (0: does not, -1:
 * for ever) for a first one. ERR_TIMEOUT: nothing arrived. */
MUST_USE enum err client_pump(struct db_client *client, int timeout_ms);

uint16_t client_worker_count(const struct db_client *client);
/* The worker whose thread this is, or NULL. */
struct worker *client_worker(const struct db_client *client);
uint64_t client_clock(const struct db_client *client);
void client_clock_observe(struct db_client *client, uint64_t ts);
uint64_t client_monotonic_ns(const struct db_client *client);

#endif
