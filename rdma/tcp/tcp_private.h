/* The insides of the TCP back end, shared by the files of tcp/. */
#ifndef RDMA_TCP_TCP_PRIVATE_H
#define RDMA_TCP_TCP_PRIVATE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "rdma/core/backend.h"
#include "rdma/core/batch.h"
#include "rdma/core/handshake.h"

struct resolve;
struct tls;
struct tls_context;

enum {
    /* A message of 64 KiB fits into one batch, with its headers. */
    TCP_BATCH_SIZE_MAX = 68 << 10,
    TCP_RECEIVE_SIZE = 256 << 10,
    TCP_ADDRESSES_MAX = 8,
};

/* One batch on its way out, or one that is coming in by pieces. Pooled per port. */
struct tcp_buffer {
    struct tcp_buffer *next;
    uint32_t size, sent;
    uint8_t bytes[TCP_BATCH_SIZE_MAX] __attribute__((aligned(8)));
};

struct tcp_address {
    struct sockaddr_storage address;
    socklen_t size;
};

struct tcp_listener {
    struct backend_watch watch;
    struct tcp *tcp;
    int fd;
    bool tls;
    bool paused; /* no descriptors were left: not accepted from until tcp->timer_ns */
};

enum tcp_state { TCP_RESOLVING, TCP_CONNECTING, TCP_SECURING, TCP_OPEN, TCP_LINGERING };

/* The back end's half of a link. */
struct tcp_link {
    struct backend_watch watch;
    struct tcp *tcp;
    struct link *link; /* NULL while lingering */
    enum tcp_state state;
    int fd;
    uint32_t events; /* asked of epoll */
    int send_errno;  /* sending is over */
    bool starved;    /* waits for memory */
    bool failed;     /* the attempt ended before it began: told by the next poll */
    struct diag *reason;

    struct tcp_buffer *reserved;
    struct tcp_buffer *wire, **wire_tail; /* to be sent */
    uint32_t wire_count;

    /* The batch that came in part: in small, or in large when it does not fit there. */
    uint32_t have, need; /* need is 0 until the header is there */
    struct tcp_buffer *large;
    uint8_t small[HANDSHAKE_BATCH_SIZE_MAX] __attribute__((aligned(8)));

    struct tls *tls;
    struct tcp_address *addresses; /* connecting: to try, one after the other */
    unsigned address_count, address_next;
    struct resolve *resolve; /* the name is being looked up */
    uint64_t linger_until_ns;
    struct tcp_link *next, *previous;
};

struct tcp {
    struct backend_head head;
    int epoll_fd;
    struct tcp_listener listeners[PORT_LISTENERS_MAX];
    unsigned listener_count;
    struct tcp_link *links;   /* also those that linger */
    struct tcp_link *serving; /* its ready function runs; NULL: it was closed meanwhile */
    unsigned lingering;
    uint64_t timer_ns;
    bool starved;
    struct tcp_buffer *pool;
    unsigned pool_count, buffer_count;
    struct tls_context *tls;
    uint8_t *receive; /* TCP_RECEIVE_SIZE */
};

/* ---- tcp.c ---- */
struct tcp_buffer *tcp_buffer_take(struct tcp *tcp);
void tcp_buffer_give(struct tcp *tcp, struct tcp_buffer *buffer);
void tcp_timer_at(struct tcp *tcp, uint64_t ns);
struct tcp_link *tcp_link_create(struct tcp *tcp, int fd);
/* Ends a socket that is watched; -1 is allowed. A forked child may hold a copy of the descriptor:
 * without the explicit end, epoll would go on naming the freed link, and the peer would take it for
 * alive. */
void tcp_socket_close(struct tcp *tcp, int fd);
void tcp_link_destroy(struct tcp_link *tcp_link);
void tcp_want(struct tcp_link *tcp_link, uint32_t events);

/* ---- connect.c ---- */
enum err tcp_listen(struct backend *backend, const struct port_address *address,
                    struct port_address *ret_bound, struct diag *diag);
enum err tcp_connect(struct backend *backend, struct link *link, const struct port_address *address,
                     struct diag *diag);
/* The descriptor of a connecting link became writable. */
void tcp_connect_ready(struct tcp_link *tcp_link);
/* The name of a connecting link was looked up. */
void tcp_resolve_ready(struct tcp_link *tcp_link);
void tcp_resolve_end(struct tcp_link *tcp_link);
void tcp_listeners_resume(struct tcp *tcp);

/* ---- stream.c ---- */
void tcp_send(struct tcp_link *tcp_link);
void tcp_receive(struct tcp_link *tcp_link);
/* Hands on what is whole; false: the link is gone. */
bool tcp_take(struct tcp_link *tcp_link, const uint8_t *bytes, size_t size);
void tcp_wire_append(struct tcp_link *tcp_link, struct tcp_buffer *buffer);

#endif
