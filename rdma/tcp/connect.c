/* Making TCP connections: listeners, and attempts to connect.
 *
 * A name is looked up aside (core/resolve.h) and may stand for several addresses: they are tried
 * one after the other until one answers. All sockets are non-blocking and have TCP_NODELAY:
 * batching is done above, by flush.
 *
 * When no descriptor is left to accept with, the listener is taken out of the epoll for a while:
 * it would be readable all the time, and the connections wait in the kernel's queue. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/core/resolve.h"
#include "rdma/tcp/tcp_private.h"
#include "rdma/tcp/tls.h"

enum {
    ACCEPTS_PER_TURN = 8,
    ACCEPT_PAUSE_NS = 100 * 1000 * 1000,
    TEXT_SIZE = PORT_HOST_SIZE_MAX + 32,
};

static void address_text(const struct sockaddr *address, socklen_t size, bool tls,
                         char text[TEXT_SIZE])
{
    char host[PORT_HOST_SIZE_MAX + 1], service[16];
    if (getnameinfo(address, size, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV)) {
        snprintf(text, TEXT_SIZE, "%s:?", tls ? "tls" : "tcp");
        return;
    }
    bool six = address->sa_family == AF_INET6;
    snprintf(text, TEXT_SIZE, "%s:%s%s%s:%s", tls ? "tls" : "tcp", six ? "[" : "", host,
             six ? "]" : "", service);
}

static int socket_make(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static bool watch_add(struct tcp *tcp, int fd, struct backend_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(tcp->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* ---- listening ---- */

/* Takes the descriptor over. */
static void accept_one(struct tcp_listener *listener, int fd, const struct sockaddr *address,
                       socklen_t size)
{
    struct tcp *tcp = listener->tcp;
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    char text[TEXT_SIZE];
    address_text(address, size, listener->tls, text);
    struct tcp_link *tcp_link = tcp_link_create(tcp, fd);
    if (!tcp_link) {
        close(fd);
        return;
    }
    tcp_link->state = listener->tls ? TCP_SECURING : TCP_OPEN;
    tcp_link->events = EPOLLIN;
    if (listener->tls) tcp_link->tls = tls_create(tcp, true);
    if ((listener->tls && !tcp_link->tls) || !watch_add(tcp, fd, &tcp_link->watch, EPOLLIN)) {
        tcp_link_destroy(tcp_link);
        return;
    }
    tcp_link->link = core_accept((struct backend *)tcp, (struct backend_link *)tcp_link, text);
    if (!tcp_link->link) tcp_link_destroy(tcp_link);
}

static void listener_ready(struct backend_watch *watch, uint32_t events)
{
    (void)events;
    struct tcp_listener *listener = CONTAINER_OF(watch, struct tcp_listener, watch);
    struct tcp *tcp = listener->tcp;
    for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        int fd =
            accept4(listener->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(listener, fd, (struct sockaddr *)&address, size);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            (void)epoll_ctl(tcp->epoll_fd, EPOLL_CTL_DEL, listener->fd, NULL);
            listener->paused = true;
            tcp_timer_at(tcp, port_now_ns(tcp->head.port) + ACCEPT_PAUSE_NS);
        }
        if (errno != EINTR && errno != ECONNABORTED) return;
    }
}

void tcp_listeners_resume(struct tcp *tcp)
{
    for (unsigned i = 0; i < tcp->listener_count; i++) {
        struct tcp_listener *listener = &tcp->listeners[i];
        if (!listener->paused) continue;
        if (watch_add(tcp, listener->fd, &listener->watch, EPOLLIN))
            listener->paused = false;
        else
            tcp_timer_at(tcp, port_now_ns(tcp->head.port) + ACCEPT_PAUSE_NS);
    }
}

static enum err bind_err(int number)
{
    switch (number) {
    case EADDRINUSE:
        return ERR_IN_USE;
    case EADDRNOTAVAIL:
        return ERR_INVALID;
    default:
        return err_from_errno(number);
    }
}

static enum err listener_open(const struct addrinfo *info, int *ret_fd)
{
    int fd = socket_make(info->ai_family);
    if (fd < 0) return err_from_errno(errno);
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, info->ai_addr, info->ai_addrlen) || listen(fd, SOMAXCONN)) {
        int number = errno;
        close(fd);
        errno = number;
        return bind_err(number);
    }
    *ret_fd = fd;
    return ERR_NONE;
}

static uint16_t listener_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &size)) return 0;
    if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

enum err tcp_listen(struct backend *backend, const struct port_address *address,
                    struct port_address *ret_bound, struct diag *diag)
{
    struct tcp *tcp = (struct tcp *)backend;
    struct tcp_listener *listener = &tcp->listeners[tcp->listener_count];
    ASSERT(tcp->listener_count < PORT_LISTENERS_MAX);
    enum err err = address->tls ? tls_context_of(tcp, diag) : ERR_NONE;
    if (err) return err;
    struct addrinfo *list;
    err = resolve_now(address->host, address->port, true, &list, diag);
    if (err) return err;
    int fd = -1;
    err = listener_open(list, &fd);
    int number = errno;
    freeaddrinfo(list);
    if (err) {
        const char *hint = err == ERR_IN_USE    ? "another process listens there"
                           : err == ERR_INVALID ? "it is not an address of this host"
                                                : strerror(number);
        return diag_set(diag, err, "cannot listen at %s port %u: %s", address->host, address->port,
                        hint);
    }
    *listener = (struct tcp_listener){
        .watch.ready = listener_ready, .tcp = tcp, .fd = fd, .tls = address->tls};
    if (!watch_add(tcp, fd, &listener->watch, EPOLLIN)) {
        err = err_from_errno(errno);
        close(fd);
        return diag_set(diag, err, "cannot watch a listening socket: %s", err_text(err));
    }
    tcp->listener_count++;
    ret_bound->port = listener_port(fd);
    return ERR_NONE;
}

/* ---- connecting ---- */

/* Starts with the next address that can be started with; the errno of the last, or 0. */
static int connect_next(struct tcp_link *tcp_link)
{
    int number = ENOENT;
    while (tcp_link->address_next < tcp_link->address_count) {
        const struct tcp_address *to = &tcp_link->addresses[tcp_link->address_next++];
        tcp_socket_close(tcp_link->tcp, tcp_link->fd);
        tcp_link->fd = socket_make(to->address.ss_family);
        if (tcp_link->fd < 0) {
            number = errno;
            continue;
        }
        int failed = connect(tcp_link->fd, (const struct sockaddr *)&to->address, to->size);
        if (failed && errno != EINPROGRESS && errno != EINTR) {
            number = errno;
            continue;
        }
        tcp_link->events = EPOLLOUT;
        if (watch_add(tcp_link->tcp, tcp_link->fd, &tcp_link->watch, EPOLLOUT)) return 0;
        number = errno;
    }
    return number;
}

static enum err addresses_copy(struct tcp_link *tcp_link, const struct addrinfo *list)
{
    tcp_link->addresses = calloc(TCP_ADDRESSES_MAX, sizeof(*tcp_link->addresses));
    if (!tcp_link->addresses) return ERR_NO_MEMORY;
    for (; list && tcp_link->address_count < TCP_ADDRESSES_MAX; list = list->ai_next) {
        struct tcp_address *to = &tcp_link->addresses[tcp_link->address_count++];
        memcpy(&to->address, list->ai_addr, list->ai_addrlen);
        to->size = list->ai_addrlen;
    }
    return ERR_NONE;
}

/* The attempt is over before it began; the core learns it in the next turn. */
static enum err connect_fail_later(struct tcp_link *tcp_link, const struct diag *reason)
{
    tcp_link->reason = malloc(sizeof(*reason));
    if (!tcp_link->reason) return ERR_NO_MEMORY;
    *tcp_link->reason = *reason;
    tcp_link->failed = true;
    tcp_timer_at(tcp_link->tcp, 0);
    return ERR_NONE;
}

static enum err connect_start(struct tcp_link *tcp_link, const struct addrinfo *list)
{
    enum err err = addresses_copy(tcp_link, list);
    if (err) return err;
    int number = connect_next(tcp_link);
    if (!number) return ERR_NONE;
    struct diag reason;
    diag_set(&reason, err_from_errno(number), "%s", strerror(number));
    return connect_fail_later(tcp_link, &reason);
}

/* The attempt, as far as it goes at once. */
static enum err attempt(struct tcp_link *tcp_link, const struct port_address *address)
{
    struct addrinfo *list;
    enum err err = resolve_numeric(address->host, address->port, false, &list);
    if (!err) {
        err = connect_start(tcp_link, list);
        freeaddrinfo(list);
        return err;
    }
    if (err != ERR_NOT_FOUND) return err;
    struct diag reason;
    tcp_link->state = TCP_RESOLVING;
    err = resolve_start(address->host, address->port, &tcp_link->resolve, &reason);
    if (err) return connect_fail_later(tcp_link, &reason);
    bool watched =
        watch_add(tcp_link->tcp, resolve_fd(tcp_link->resolve), &tcp_link->watch, EPOLLIN);
    return watched ? ERR_NONE : ERR_NO_MEMORY;
}

enum err tcp_connect(struct backend *backend, struct link *link, const struct port_address *address,
                     struct diag *diag)
{
    struct tcp *tcp = (struct tcp *)backend;
    enum err err = address->tls ? tls_context_of(tcp, diag) : ERR_NONE;
    if (err) return err;
    err = ERR_NO_MEMORY;
    struct tcp_link *tcp_link = tcp_link_create(tcp, -1);
    if (!tcp_link) return diag_set(diag, err, "%s", err_text(err));
    tcp_link->link = link;
    tcp_link->state = TCP_CONNECTING;
    if (address->tls) tcp_link->tls = tls_create(tcp, false);
    if (!address->tls || tcp_link->tls) err = attempt(tcp_link, address);
    if (err) {
        tcp_link_destroy(tcp_link);
        return diag_set(diag, err, "%s", err_text(err));
    }
    link_set_backend(link, (struct backend_link *)tcp_link);
    return ERR_NONE;
}

void tcp_resolve_ready(struct tcp_link *tcp_link)
{
    struct addrinfo *list;
    struct diag reason;
    enum err err = resolve_take(tcp_link->resolve, &list, &reason);
    tcp_resolve_end(tcp_link);
    if (err) {
        core_lost(tcp_link->link, err, "%s", reason.text);
        return;
    }
    tcp_link->state = TCP_CONNECTING;
    err = connect_start(tcp_link, list);
    freeaddrinfo(list);
    if (err) core_lost(tcp_link->link, err, "%s", err_text(err));
}

void tcp_resolve_end(struct tcp_link *tcp_link)
{
    if (!tcp_link->resolve) return;
    (void)epoll_ctl(tcp_link->tcp->epoll_fd, EPOLL_CTL_DEL, resolve_fd(tcp_link->resolve), NULL);
    resolve_destroy(tcp_link->resolve);
    tcp_link->resolve = NULL;
}

void tcp_connect_ready(struct tcp_link *tcp_link)
{
    int number = 0;
    socklen_t size = sizeof(number);
    if (getsockopt(tcp_link->fd, SOL_SOCKET, SO_ERROR, &number, &size)) number = errno;
    if (number) {
        if (tcp_link->address_next < tcp_link->address_count && !connect_next(tcp_link)) return;
        core_lost(tcp_link->link, err_from_errno(number), "%s", strerror(number));
        return;
    }
    free(tcp_link->addresses);
    tcp_link->addresses = NULL;
    tcp_want(tcp_link, EPOLLIN);
    if (tcp_link->tls) {
        tcp_link->state = TCP_SECURING;
        (void)tls_handshake(tcp_link);
        return;
    }
    tcp_link->state = TCP_OPEN;
    core_connected(tcp_link->link);
}
