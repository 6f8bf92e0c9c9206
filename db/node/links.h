/* How clients in other processes reach a worker: its port, and the sessions of its clients. Private
 * to db/node, but for node_listen, which is for db/api.
 *
 * Everything here but node_listen is the worker's own thread's. */
#ifndef DB_NODE_LINKS_H
#define DB_NODE_LINKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "base/err.h"
#include "rdma/port.h"

struct links;
struct node;
struct node_info;
struct signal;
struct signal_header;
struct worker;

/* Every worker listens at the address: worker w at the port, or number, + w, or at PATH.w; where
 * the port is 0 each gets one from the system. *ret_bound (may be NULL): worker 0's, with its port;
 * of shm the PATH as given. All calls must give the same secret. From any thread but, once they
 * run, the workers'. Errors of port_listen; ERR_BUSY: too many addresses. When only some of the
 * workers could listen, they go on doing so until the node ends. */
MUST_USE enum err node_listen(struct node *node, const struct port_address *address,
                              const uint8_t secret[PORT_SECRET_SIZE],
                              struct port_address *ret_bound, struct diag *diag);
/* Makes the address of worker 0, as node_listen was given it, that of another: the rule above.
 * False: there is no such address. */
bool links_address(struct port_address *address, uint16_t worker);
/* Of the node, when it is destroyed. */
void listeners_destroy(struct node *node);
/* Where the node listens. Any thread. */
void listeners_info(struct node *node, struct node_info *info);

/* Handles what has arrived. True: that was something. */
bool links_poll(struct links *links);
/* What was sent leaves. */
void links_flush(struct links *links);
/* The descriptor for the worker's epoll. */
int links_fd(const struct links *links);
/* Announces sleep; false: something has arrived after all. After true links_awake is called, with
 * whether the descriptor was readable. */
bool links_sleep(struct links *links);
void links_awake(struct links *links, bool ready);
/* Monotonic time of the next thing to do; UINT64_MAX: none. */
uint64_t links_timer_ns(const struct links *links);
/* The simulator asks: is there something to do at once? */
bool links_is_ready(const struct links *links);
/* The worker had something to do, or had not: true when it should look again rather than sleep. */
bool links_spin(struct links *links, bool busy);
/* Sends the signal, complete but for destination and client, to every client that is connected. */
void links_announce(struct links *links, struct signal_header *header);
/* Appends members of a JSON object: ', "port": {…}, "links": […]'. */
void links_status(const struct links *links, struct buf *buf);
/* Makes the worker's: worker->links. ERR_NO_MEMORY, ERR_BUSY. */
MUST_USE enum err links_create(struct worker *worker, const uint8_t secret[PORT_SECRET_SIZE],
                               struct diag *diag);
MUST_USE enum err links_listen(struct links *links, const struct port_address *address,
                               struct port_address *ret_bound, struct diag *diag);
/* Closes everything. NULL is allowed. */
void links_destroy(struct links *links);

/* Registers the handlers of signals about clients as such. */
void links_start(struct worker *worker);

#endif
