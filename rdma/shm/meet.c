/* How two processes get a link of shared memory.
 *
 *     connector                                   acceptor
 *     connects to the socket at PATH          ->  accepts, looks who it is (SO_PEERCRED)
 *     makes the memory, sends setup and       ->  checks the setup and what the descriptor is,
 *     descriptor in one message                   maps it
 *
 * From then on both rings work, and the core's handshake runs in them; the socket stays for waking
 * (one byte, whose value means nothing) and to tell each side that the other is gone. The byte is
 * sent with MSG_DONTWAIT: unlike an eventfd, whose flags belong to both sides, nothing that a peer
 * does to its end can make the call wait.
 *
 * An accepted connection is a link of the core from its first moment, so the core's limits on links
 * in handshake, and on their time, hold before a byte is read.
 *
 * When the process has no descriptors left, connections wait in the socket's backlog: the listener
 * is taken out of the epoll for a while, since it would be readable for ever. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/shm/shm_private.h"

#define SETUP_MAGIC 0x3130306d68736c74u
enum {
    SETUP_VERSION = 1,
    ACCEPTS_MAX = 16,
    WAKES_UNREAD_MAX = 32,
    /* More than a peer that is gone can have left, whose side gave how many credits whatever: the
     * last of these is the one too many. */
    LAST_BATCHES = PORT_LINK_CREDITS_MAX + BATCHES_SPARE + 1,
};

/* The peer is gone, or never was what it should be; told at the next poll. */
static void fail(struct backend_link *at, enum err err, const char *text)
{
    if (at->failure) return;
    at->failure = err;
    at->failure_text = strdup(text); /* without memory the core says less */
    shm_due(at);
}

/* ---- an accepted link gets its memory ---- */

static void take_memory(struct backend_link *at)
{
    struct local_setup setup;
    int memory_fd;
    enum err err = local_receive_setup(at->fd, &setup, &memory_fd);
    if (err == ERR_BUSY) return;
    if (err) {
        fail(at, err, "the connection ended before it became a link of shared memory");
        return;
    }
    struct diag diag = {.position = UINT32_MAX};
    if (setup.magic != SETUP_MAGIC || setup.version != SETUP_VERSION || !setup.credits ||
        setup.credits > PORT_LINK_CREDITS_MAX || setup.batch_size_max != SEGMENT_BATCH_SIZE_MAX ||
        setup.reserved)
        err = diag_set(&diag, ERR_BAD_FRAME, "the peer speaks another protocol or version");
    else if (!shm_rows_grow(at->shm))
        err = diag_set(&diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    else
        err = segment_map(memory_fd, setup.credits, &at->segment, &diag);
    (void)close(memory_fd);
    if (err) {
        fail(at, err, diag.text);
        return;
    }
    at->last_batches = LAST_BATCHES;
    ring_producer_init(&at->producer, &at->segment.rings[1]);
    ring_consumer_init(&at->consumer, &at->segment.rings[0]);
    shm_row_add(at);
}

/* ---- what the socket of a link says ---- */

/* Edge-triggered: each byte that arrives is an event of its own, so they need not be read at once,
 * only before so many lie there that the peer cannot send any more. */
static void link_ready(struct backend_watch *watch, uint32_t events)
{
    struct backend_link *at = CONTAINER_OF(watch, struct backend_link, watch);
    bool fresh = !at->segment.memory;
    if (fresh && (events & EPOLLIN)) take_memory(at);
    if (at->failure) return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        at->hung_up = true;
        shm_due(at);
    } else if (!fresh && ++at->woken % WAKES_UNREAD_MAX == 0) {
        uint8_t bytes[512];
        (void)!recv(at->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    }
    if (at->segment.memory) shm_make_hot(at);
}

static bool link_watch(struct backend_link *at)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = &at->watch};
    return epoll_ctl(at->shm->epoll_fd, EPOLL_CTL_ADD, at->fd, &event) == 0;
}

static struct backend_link *link_make(struct backend *shm, int fd)
{
    struct backend_link *at = calloc(1, sizeof(*at));
    if (!at) return NULL;
    at->watch.ready = link_ready;
    at->shm = shm;
    at->fd = fd;
    at->index = UINT32_MAX;
    return at;
}

void shm_link_unmake(struct backend_link *at)
{
    struct backend *shm = at->shm;
    if (at->fd >= 0) {
        /* A forked child may hold a copy of the descriptor: without the explicit end both epoll and
         * the peer would believe in the link for as long. */
        (void)epoll_ctl(shm->epoll_fd, EPOLL_CTL_DEL, at->fd, NULL);
        (void)shutdown(at->fd, SHUT_RDWR);
        (void)close(at->fd);
    }
    core_unwatch(shm->head.port, &at->watch);
    segment_unmap(&at->segment);
    free(at->failure_text);
    free(at);
}

/* ---- accepting ---- */

static void listener_pause(struct listener *listener)
{
    struct backend *shm = listener->shm;
    (void)epoll_ctl(shm->epoll_fd, EPOLL_CTL_DEL, listener->socket.fd, NULL);
    listener->paused = true;
    shm_retry_in(shm, SHM_PAUSE_NS);
}

static void accept_one(struct backend *shm, int fd)
{
    struct ucred peer;
    struct backend_link *at = NULL;
    if (local_peer_may(fd, true, &peer)) at = link_make(shm, fd);
    if (!at) {
        (void)close(fd);
        return;
    }
    if (!link_watch(at)) {
        shm_link_unmake(at);
        return;
    }
    char text[64];
    (void)snprintf(text, sizeof(text), "shm: process %d of user %u", (int)peer.pid, peer.uid);
    at->link = core_accept(shm, at, text);
    if (!at->link) shm_link_unmake(at);
}

static void listener_ready(struct backend_watch *watch, uint32_t events)
{
    (void)events;
    struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            accept_one(listener->shm, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            listener_pause(listener);
        if (errno != ECONNABORTED && errno != EINTR) return;
    }
}

static bool listener_watch(struct listener *listener)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener->watch};
    return epoll_ctl(listener->shm->epoll_fd, EPOLL_CTL_ADD, listener->socket.fd, &event) == 0;
}

void shm_listeners_resume(struct backend *shm)
{
    for (uint32_t i = 0; i < shm->listener_count; i++) {
        struct listener *listener = shm->listeners[i];
        if (!listener->paused) continue;
        listener->paused = !listener_watch(listener);
        if (listener->paused) shm_retry_in(shm, SHM_PAUSE_NS);
    }
}

enum err shm_listen(struct backend *shm, const struct port_address *address,
                    struct port_address *ret_bound, struct diag *diag)
{
    if (shm->listener_count == PORT_LISTENERS_MAX)
        return diag_set(diag, ERR_BUSY, "no more than %d addresses", PORT_LISTENERS_MAX);
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    listener->watch.ready = listener_ready;
    listener->shm = shm;
    enum err err = local_listen(address->path, &listener->socket, diag);
    if (err) {
        free(listener);
        return err;
    }
    if (!listener_watch(listener)) {
        err = diag_set(diag, err_from_errno(errno), "cannot watch shm:%s: %s", address->path,
                       strerror(errno));
        shm_listener_destroy(listener);
        return err;
    }
    shm->listeners[shm->listener_count++] = listener;
    *ret_bound = *address;
    return ERR_NONE;
}

void shm_listener_destroy(struct listener *listener)
{
    core_unwatch(listener->shm->head.port, &listener->watch);
    (void)epoll_ctl(listener->shm->epoll_fd, EPOLL_CTL_DEL, listener->socket.fd, NULL);
    local_listener_close(&listener->socket);
    free(listener);
}

/* ---- connecting ---- */

/* Gives the connector's side its memory and hands it over. */
static enum err give_memory(struct backend_link *at, struct diag *diag)
{
    struct local_setup setup = {
        .magic = SETUP_MAGIC,
        .version = SETUP_VERSION,
        .credits = port_link_credits(at->shm->head.port),
        .batch_size_max = SEGMENT_BATCH_SIZE_MAX,
    };
    int memory_fd;
    struct segment segment;
    enum err err = segment_create(setup.credits, &segment, &memory_fd, diag);
    if (err) return err;
    err = local_send_setup(at->fd, &setup, memory_fd, diag);
    (void)close(memory_fd);
    if (err) {
        segment_unmap(&segment);
        return err;
    }
    at->segment = segment;
    at->last_batches = LAST_BATCHES;
    ring_producer_init(&at->producer, &at->segment.rings[0]);
    ring_consumer_init(&at->consumer, &at->segment.rings[1]);
    shm_row_add(at);
    return ERR_NONE;
}

/* The connection as far as it gets; *at is there even when it fails. */
static enum err call(struct backend_link *at, const char *path, struct diag *diag)
{
    struct ucred peer;
    int fd;
    enum err err = local_connect(path, &fd, diag);
    if (err) return err;
    if (!local_peer_may(fd, false, &peer)) {
        (void)close(fd);
        return diag_set(diag, ERR_DENIED, "shm:%s is served by another user", path);
    }
    at->fd = fd;
    if (!link_watch(at))
        return diag_set(diag, ERR_NO_MEMORY, "cannot watch a descriptor: %s", strerror(errno));
    return give_memory(at, diag);
}

enum err shm_connect(struct backend *shm, struct link *link, const struct port_address *address,
                     struct diag *diag)
{
    struct backend_link *at = shm_rows_grow(shm) ? link_make(shm, -1) : NULL;
    if (!at) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    struct diag reason = {.position = UINT32_MAX};
    enum err err = call(at, address->path, &reason);
    if (err == ERR_INVALID || err == ERR_DENIED) {
        shm_link_unmake(at);
        return diag_set(diag, err, "%s", reason.text);
    }
    at->link = link;
    link_set_backend(link, at);
    if (err) {
        /* Not there yet, perhaps: a failed attempt like any other. */
        fail(at, err, reason.text);
    } else {
        at->connected_due = true;
        shm_due(at);
    }
    return ERR_NONE;
}
