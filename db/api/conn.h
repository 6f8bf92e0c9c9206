/* The links of a channel, and the requests that are kept for each. With the channel's mutex held.
 * Private to db/api/channel.c and conn.c. */
#ifndef DB_API_CONN_H
#define DB_API_CONN_H

#include "db/api/channel.h"

/* Of the channel's port. */
extern const struct port_events channel_events;

/* The worker's, which is made, and begins to connect, when there is none. NULL: no memory. */
struct conn *conn_get(struct channel *channel, uint16_t worker);
/* Closes the link, which is up, and begins to connect again: the node then forgets the queries of
 * this client, and the kept requests are sent again. */
void conn_renew(struct conn *conn);
/* Sends what is not sent, as far as the link takes it. */
void conn_push(struct conn *conn);

/* Requests of this type have one answer, and are kept until it comes. */
bool conn_keeps(uint16_t type);
/* Puts the request, which is listener->kept, into its place. */
void conn_keep(struct conn *conn, struct client_listener *listener);
/* Takes it out. The caller gets its signal. */
struct signal *conn_take(struct conn *conn, struct client_listener *listener);
/* The request ends here, with an answer of our own in its block, which goes to the inbox. */
void conn_conclude(struct conn *conn, struct client_listener *listener, enum err err);

/* Of all links: what is due without anything having arrived, and when that is. */
void conns_upkeep(struct channel *channel, uint64_t now);
uint64_t conns_due_ns(const struct channel *channel);
/* The node was started again with another number of workers. */
void conns_spread(struct channel *channel, uint16_t count);

/* Takes an INFO_REPLY: what the node says of itself, and `asked` (remote_learned). True: it may be
 * of an earlier life than the known one, so it must be asked for again. */
MUST_USE bool channel_learn(struct remote *remote, uint64_t asked, struct signal *signal);

#endif
