/* A channel: one thread's links to the workers of a database in another process, and the requests
 * that are under way over them. Private to db/api.
 *
 * A client of its own thread has one; the clients of a loop share the loop's. A request is kept
 * until it is answered, however many links that takes, or until it has waited for a link for too
 * long: so every request ends. */
#ifndef DB_API_CHANNEL_H
#define DB_API_CHANNEL_H

#include <pthread.h>

#include "db/api/client.h"
#include "db/api/remote.h"
#include "db/node/hlc.h"

enum { CLIENT_BUCKETS = 256 };

/* The numbers of requests, and who waits for their answers. */
struct requests {
    uint64_t last;
    uint64_t received; /* signals handed out, ever */
    struct client_listener *listeners[CLIENT_BUCKETS];
};

/* Gives the listener the next number and enters it. */
uint64_t requests_listen(struct requests *requests, struct client_listener *listener);
void requests_unlisten(struct requests *requests, struct client_listener *listener);
static inline struct client_listener *requests_find(const struct requests *requests,
                                                    uint64_t request)
{
    struct client_listener *listener = requests->listeners[request % CLIENT_BUCKETS];
    while (listener && listener->request != request)
        listener = listener->next;
    return listener;
}

/* One link of a channel: to one worker. */
struct conn {
    struct channel *channel;
    uint16_t worker;
    bool up;
    bool refuses;                   /* it is up, but the node is closing */
    struct link *link;              /* NULL: not wanted yet, or to be made again at retry_ns */
    uint64_t retry_ns;              /* 0: the transporter tries by itself */
    uint64_t life;                  /* of the node when the link was last up; 0: it never was */
    uint64_t request_max;           /* the greatest number of a kept request sent to that life */
    uint64_t down_ns;               /* since when requests wait for it */
    unsigned address;               /* which of the remote's it is tried at */
    uint64_t learned;               /* the remote's learned_count when it was last tried */
    struct diag reason;             /* why it is down */
    struct client_listener *oldest; /* kept requests, in the order of their numbers; those before */
    struct client_listener *newest; /* `unsent` were sent over this link */
    struct client_listener *unsent;
};

struct channel {
    struct remote *remote;
    struct requests requests;    /* the owner's */
    struct client_listener info; /* of the request for what the node says of itself */
    uint64_t info_asked;         /* the remote's learned_count when it was made */
    struct signal *held;         /* answers that wait for its answer */
    struct signal *held_next;    /* and for that of the next one */
    struct hlc clock;
    uint16_t worker_count; /* that the requests are spread over */

    pthread_mutex_t mutex; /* guards what follows: the keeper polls the ports of idle threads */
    struct port *port;
    uint64_t client;                 /* our id */
    struct conn *conns[WORKERS_MAX]; /* NULL: never wanted */
    struct signal *inbox;            /* oldest first */
    struct signal **inbox_end;
    uint64_t lost;        /* a bit for each worker whose link went down */
    bool info_wanted;     /* a link came up: ask what is new */
    bool restless;        /* a link is down, or cannot take all: look after deadlines */
    uint64_t turn_ns;     /* of the owner's last turn, roughly; the keeper's business */
    struct channel *next; /* the remote's list */
};

MUST_USE enum err channel_create(struct remote *remote, struct channel **ret_channel,
                                 struct diag *diag);
/* Tells the node that this client ends. NULL is allowed. */
void channel_destroy(struct channel *channel);
/* The keeper looks after it from now on, or not any more. */
void channel_keep(struct channel *channel);
void channel_unkeep(struct channel *channel);

/* Takes the signal, whose type, destination, request, size and body are set. A request that gets
 * one answer must have a listener. */
void channel_send(struct channel *channel, struct signal *signal);
/* The listener is not interested in the answer any more. */
void channel_forget(struct channel *channel, struct client_listener *listener);
/* Hands out what has arrived; when that is nothing waits for up to wait_ns (UINT64_MAX: no limit)
 * for something to happen. Returns how many signals, or losses of links, were handed out. */
uint32_t channel_turn(struct channel *channel, uint64_t wait_ns);
/* Starts to connect to the worker, unless it does already. */
void channel_reach(struct channel *channel, uint16_t worker);
bool channel_is_up(const struct channel *channel, uint16_t worker);
/* Why not. */
void channel_reason(struct channel *channel, uint16_t worker, struct diag *ret_reason);
/* When channel_turn has something to do of its own accord. */
uint64_t channel_due_ns(struct channel *channel);
/* The keeper's: polls it, unless its owner has lately or does now. */
void channel_tend(struct channel *channel, uint64_t now_ns);

#endif
