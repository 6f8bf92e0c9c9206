/* TCP: batches as a byte stream over a socket, one send per flush and one recv per event.
 *
 * Descriptors are level-triggered and always live, so the back end needs neither arm nor disarm,
 * and a received event is one recv: a second one, to find nothing, is never made. EPOLLOUT is asked
 * for only while a socket is full.
 *
 * Memory. A batch being filled or waiting for the socket is a buffer of the port's pool; credits
 * bound how many a link can hold. All links receive into one area of the port, from which whole
 * batches are handed on; only a batch that came in part is kept by its link. Before a peer is
 * authenticated it may not send more than the small frames of the handshake, so it holds no buffer
 * of the pool.
 *
 * Closing with `drain`: the link lingers without the core: what was posted is sent, the writing
 * side is shut down, and what still arrives is thrown away until the peer closes or a second has
 * passed. (Closing at once would make the kernel send a reset when unread bytes are there, and the
 * peer could lose the batches that were sent last.) When the port ends, it waits for those that
 * linger until the peers' kernels have acknowledged everything. */
#include "rdma/tcp/tcp_private.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/tcp/tls.h"

enum {
    POOL_KEEP = 16, /* free buffers, 1 MiB */
    LINGERING_MAX = 256,
    LINGER_NS = 1000 * 1000 * 1000,
};

static struct tcp *tcp_of(struct backend *backend)
{
    return (struct tcp *)backend;
}

static struct tcp_link *tcp_link_of(const struct link *link)
{
    return (struct tcp_link *)link_backend(link);
}

/* ---- buffers ---- */

struct tcp_buffer *tcp_buffer_take(struct tcp *tcp)
{
    struct tcp_buffer *buffer = tcp->pool;
    if (buffer) {
        tcp->pool = buffer->next;
        tcp->pool_count--;
    } else {
        buffer = malloc(sizeof(*buffer));
        if (!buffer) return NULL;
        tcp->buffer_count++;
    }
    buffer->next = NULL;
    buffer->size = buffer->sent = 0;
    return buffer;
}

void tcp_buffer_give(struct tcp *tcp, struct tcp_buffer *buffer)
{
    if (!buffer) return;
    if (tcp->pool_count == POOL_KEEP) {
        tcp->buffer_count--;
        free(buffer);
        return;
    }
    buffer->next = tcp->pool;
    tcp->pool = buffer;
    tcp->pool_count++;
}

void tcp_timer_at(struct tcp *tcp, uint64_t ns)
{
    if (ns < tcp->timer_ns) tcp->timer_ns = ns;
}

/* ---- links ---- */

static void tcp_ready(struct backend_watch *watch, uint32_t events);

void tcp_want(struct tcp_link *tcp_link, uint32_t events)
{
    if (tcp_link->events == events) return;
    tcp_link->events = events;
    struct epoll_event event = {.events = events, .data.ptr = &tcp_link->watch};
    int failed = epoll_ctl(tcp_link->tcp->epoll_fd, EPOLL_CTL_MOD, tcp_link->fd, &event);
    ASSERT(!failed);
}

struct tcp_link *tcp_link_create(struct tcp *tcp, int fd)
{
    struct tcp_link *tcp_link = calloc(1, sizeof(*tcp_link));
    if (!tcp_link) return NULL;
    tcp_link->watch.ready = tcp_ready;
    tcp_link->tcp = tcp;
    tcp_link->fd = fd;
    tcp_link->wire_tail = &tcp_link->wire;
    tcp_link->next = tcp->links;
    if (tcp->links) tcp->links->previous = tcp_link;
    tcp->links = tcp_link;
    return tcp_link;
}

void tcp_socket_close(struct tcp *tcp, int fd)
{
    if (fd < 0) return;
    (void)epoll_ctl(tcp->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    (void)shutdown(fd, SHUT_RDWR);
    close(fd);
}

void tcp_link_destroy(struct tcp_link *tcp_link)
{
    struct tcp *tcp = tcp_link->tcp;
    if (tcp->serving == tcp_link) tcp->serving = NULL;
    tcp->lingering -= tcp_link->state == TCP_LINGERING;
    core_unwatch(tcp->head.port, &tcp_link->watch);
    tcp_resolve_end(tcp_link);
    tcp_socket_close(tcp, tcp_link->fd);
    tcp_buffer_give(tcp, tcp_link->reserved);
    tcp_buffer_give(tcp, tcp_link->large);
    while (tcp_link->wire) {
        struct tcp_buffer *buffer = tcp_link->wire;
        tcp_link->wire = buffer->next;
        tcp_buffer_give(tcp, buffer);
    }
    if (tcp_link->previous)
        tcp_link->previous->next = tcp_link->next;
    else
        tcp->links = tcp_link->next;
    if (tcp_link->next) tcp_link->next->previous = tcp_link->previous;
    tls_destroy(tcp_link->tls);
    free(tcp_link->reason);
    free(tcp_link->addresses);
    free(tcp_link);
}

/* ---- lingering ---- */

static void linger_ready(struct tcp_link *tcp_link)
{
    struct tcp *tcp = tcp_link->tcp;
    if (tcp_link->wire) {
        tcp_send(tcp_link);
        if (!tcp_link->wire) shutdown(tcp_link->fd, SHUT_WR);
    }
    ssize_t size = recv(tcp_link->fd, tcp->receive, TCP_RECEIVE_SIZE, 0);
    bool over = size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
    if (over || tcp_link->send_errno) tcp_link_destroy(tcp_link);
}

/* Ends the one that has lingered for longest. */
static void linger_drop(struct tcp *tcp)
{
    struct tcp_link *oldest = NULL;
    for (struct tcp_link *at = tcp->links; at; at = at->next)
        if (at->state == TCP_LINGERING &&
            (!oldest || at->linger_until_ns <= oldest->linger_until_ns))
            oldest = at;
    tcp_link_destroy(oldest);
}

static void linger_start(struct tcp_link *tcp_link)
{
    struct tcp *tcp = tcp_link->tcp;
    if (tcp->serving == tcp_link) tcp->serving = NULL;
    tcp_link->state = TCP_LINGERING;
    tcp_link->link = NULL;
    tcp->lingering++;
    tcp_buffer_give(tcp, tcp_link->reserved);
    tcp_link->reserved = NULL;
    tcp_send(tcp_link);
    if (tcp_link->send_errno) {
        tcp_link_destroy(tcp_link);
        return;
    }
    if (!tcp_link->wire) shutdown(tcp_link->fd, SHUT_WR);
    tcp_link->linger_until_ns = port_now_ns(tcp->head.port) + LINGER_NS;
    tcp_timer_at(tcp, tcp_link->linger_until_ns);
    /* At the end of the port all may linger: nobody else will want their descriptors. */
    if (tcp->lingering > LINGERING_MAX && !port_is_closing(tcp->head.port)) linger_drop(tcp);
}

static void tcp_close(struct link *link, bool drain)
{
    struct tcp_link *tcp_link = tcp_link_of(link);
    link_set_backend(link, NULL);
    if (drain && tcp_link->state == TCP_OPEN)
        linger_start(tcp_link);
    else
        tcp_link_destroy(tcp_link);
}

/* ---- sending ---- */

static enum err tcp_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity)
{
    struct tcp_link *tcp_link = tcp_link_of(link);
    ASSERT(!tcp_link->reserved);
    tcp_link->reserved = tcp_buffer_take(tcp_link->tcp);
    if (!tcp_link->reserved) {
        tcp_link->starved = tcp_link->tcp->starved = true;
        return ERR_BUSY;
    }
    *ret_bytes = tcp_link->reserved->bytes;
    *ret_capacity = TCP_BATCH_SIZE_MAX;
    return ERR_NONE;
}

static void tcp_post(struct link *link, uint32_t size)
{
    /* More than this is not kept until the flush. */
    enum { WIRE_MAX = 4 };
    struct tcp_link *tcp_link = tcp_link_of(link);
    struct tcp_buffer *buffer = tcp_link->reserved;
    ASSERT(buffer && size <= TCP_BATCH_SIZE_MAX);
    tcp_link->reserved = NULL;
    buffer->size = size;
    if (tcp_link->tls)
        tls_encrypt(tcp_link, buffer);
    else
        tcp_wire_append(tcp_link, buffer);
    if (tcp_link->wire_count > WIRE_MAX && !(tcp_link->events & EPOLLOUT)) tcp_send(tcp_link);
}

static void tcp_flush(struct link *link)
{
    struct tcp_link *tcp_link = tcp_link_of(link);
    if (tcp_link->wire && !(tcp_link->events & EPOLLOUT)) tcp_send(tcp_link);
}

/* ---- the turn ---- */

static void tcp_ready(struct backend_watch *watch, uint32_t events)
{
    struct tcp_link *tcp_link = CONTAINER_OF(watch, struct tcp_link, watch);
    struct tcp *tcp = tcp_link->tcp;
    if (tcp_link->state == TCP_LINGERING) {
        linger_ready(tcp_link);
        return;
    }
    tcp->serving = tcp_link;
    if (tcp_link->state == TCP_RESOLVING) {
        tcp_resolve_ready(tcp_link);
    } else if (tcp_link->state == TCP_CONNECTING) {
        tcp_connect_ready(tcp_link);
    } else {
        if (events & EPOLLOUT) tcp_send(tcp_link);
        if (events & ~(uint32_t)EPOLLOUT) tcp_receive(tcp_link);
    }
    tcp->serving = NULL;
}

static void timer_run(struct tcp *tcp, uint64_t now)
{
    tcp->timer_ns = UINT64_MAX;
    tcp_listeners_resume(tcp);
    struct tcp_link *next;
    for (struct tcp_link *tcp_link = tcp->links; tcp_link; tcp_link = next) {
        next = tcp_link->next;
        if (tcp_link->failed) {
            struct diag reason = *tcp_link->reason;
            core_lost(tcp_link->link, reason.err, "%s", reason.text);
        } else if (tcp_link->state == TCP_LINGERING) {
            if (tcp_link->linger_until_ns <= now)
                tcp_link_destroy(tcp_link);
            else
                tcp_timer_at(tcp, tcp_link->linger_until_ns);
        }
    }
}

static bool tcp_poll(struct backend *backend, unsigned budget)
{
    (void)budget; /* descriptors are served by tcp_ready, one recv each */
    struct tcp *tcp = tcp_of(backend);
    uint64_t now = port_now_ns(tcp->head.port);
    if (tcp->timer_ns <= now) timer_run(tcp, now);
    if (!tcp->starved) return false;
    tcp->starved = false;
    struct tcp_link *next;
    for (struct tcp_link *tcp_link = tcp->links; tcp_link; tcp_link = next) {
        next = tcp_link->next;
        if (!tcp_link->starved) continue;
        tcp_link->starved = false;
        if (tcp_link->link) core_writable(tcp_link->link);
    }
    return true;
}

static uint64_t tcp_timer_ns(const struct backend *backend)
{
    const struct tcp *tcp = (const struct tcp *)backend;
    return tcp->starved ? port_now_ns(tcp->head.port) : tcp->timer_ns;
}

static void tcp_stats(const struct backend *backend, struct port_stats *stats)
{
    const struct tcp *tcp = (const struct tcp *)backend;
    stats->buffer_bytes += tcp->buffer_count * sizeof(struct tcp_buffer) + TCP_RECEIVE_SIZE;
    for (const struct tcp_link *link = tcp->links; link; link = link->next)
        stats->buffer_bytes += sizeof(*link);
}

/* ---- making and ending ---- */

/* What a lingering link sent last is the peer's, or its kernel's: an end by reset, for what is
 * unread here, cannot take it back. */
static bool linger_is_safe(const struct tcp_link *tcp_link)
{
    int unacknowledged;
    return !tcp_link->wire && !ioctl(tcp_link->fd, SIOCOUTQ, &unacknowledged) && !unacknowledged;
}

static uint64_t linger_clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Serves those that linger, until nothing of any can be lost, or a second has passed. */
static void linger_all(struct tcp *tcp)
{
    enum { WAIT_MS = 2, FIRST_COUNT = 64 };
    uint64_t until = linger_clock_ns() + LINGER_NS;
    for (;;) {
        struct pollfd fds[FIRST_COUNT];
        nfds_t count = 0;
        struct tcp_link *next;
        for (struct tcp_link *at = tcp->links; at; at = next) {
            next = at->next;
            if (at->state != TCP_LINGERING) continue;
            if (linger_is_safe(at)) {
                tcp_link_destroy(at);
                continue;
            }
            if (count < FIRST_COUNT)
                fds[count++] = (struct pollfd){
                    .fd = at->fd, .events = (short)(at->wire ? POLLIN | POLLOUT : POLLIN)};
            linger_ready(at);
        }
        if (!count || linger_clock_ns() >= until) return;
        (void)poll(fds, count, WAIT_MS); /* an acknowledgement wakes nobody */
    }
}

static void tcp_destroy(struct backend *backend)
{
    struct tcp *tcp = tcp_of(backend);
    linger_all(tcp);
    while (tcp->links)
        tcp_link_destroy(tcp->links);
    for (unsigned i = 0; i < tcp->listener_count; i++)
        tcp_socket_close(tcp, tcp->listeners[i].fd);
    while (tcp->pool) {
        struct tcp_buffer *buffer = tcp->pool;
        tcp->pool = buffer->next;
        free(buffer);
    }
    tls_context_destroy(tcp->tls);
    free(tcp->receive);
    free(tcp);
}

static enum err tcp_open(struct port *port, int epoll_fd, struct backend **ret_backend,
                         struct diag *diag)
{
    struct tcp *tcp = calloc(1, sizeof(*tcp));
    uint8_t *receive = malloc(TCP_RECEIVE_SIZE);
    if (!tcp || !receive) {
        free(tcp);
        free(receive);
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    tcp->head = (struct backend_head){.ops = &tcp_ops, .port = port};
    tcp->epoll_fd = epoll_fd;
    tcp->timer_ns = UINT64_MAX;
    tcp->receive = receive;
    *ret_backend = (struct backend *)tcp;
    return ERR_NONE;
}

const struct backend_ops tcp_ops = {
    .kind = LINK_TCP,
    .needs_checksum = true,
    .open = tcp_open,
    .destroy = tcp_destroy,
    .listen = tcp_listen,
    .connect = tcp_connect,
    .close = tcp_close,
    .reserve = tcp_reserve,
    .post = tcp_post,
    .flush = tcp_flush,
    .poll = tcp_poll,
    .stats = tcp_stats,
    .timer_ns = tcp_timer_ns,
};
