/* Connections, by the connection manager: who asks whom, and its events.
 *
 *     connector                                    acceptor
 *     ADDRESS  resolve the address
 *     ROUTE    resolve the route
 *     ASKED    rdma_connect  ---- request ---->    core_accept, queue pair ready, rdma_accept
 *     UP       queue pair ready, <---- reply ---   ANSWERED: may receive and send
 *              rdma_establish ---- ready  ---->    UP
 *
 * Each side says in the private data of request and reply which protocol it speaks and how large a
 * batch may be that it receives. The bytes are padded on the way, and are checked as what they are:
 * a stranger's.
 *
 *     private data    u32 magic "TRVB", u16 version, u16 0, u32 batch capacity, u32 0;
 * little-endian
 *
 * Every event is acknowledged once, before it is handled: destroying an identifier waits for its
 * events' acknowledgements, and handling one may lead to that. Handlers only mark what failed; the
 * core is told at the next tidying.
 *
 * Removal. The kernel waits for every process to close its contexts of the adapter, unless the
 * driver can do without (Soft-RoCE's cannot). librdmacm has one open, for the whole process, and
 * never closes it when no other adapter is left. So the file behind that context's descriptors is
 * closed here, by putting another one in its place: librdmacm keeps its numbers, and finds that
 * they are of no use any more.
 *
 * A listener at an address of one adapter dies with the adapter, and is tried again until the
 * adapter is back. */
#include "rdma/verbs/verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum {
    PRIVATE_MAGIC = 0x42565254, /* "TRVB" */
    PRIVATE_VERSION = 1,
    PRIVATE_SIZE = 16,
    BACKLOG = 128,
    EVENTS_PER_TURN = 256,
    STRANGERS_MAX = 64, /* ended and not gone; more are rejected */
    REJECT_NOBODY = 8,  /* IBTA 12.6.7.2: invalid service ID */
};

/* ---- addresses ---- */

/* "verbs:10.0.0.1:7000", of the other side. */
static void peer_text_write(struct rdma_cm_id *id, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr *address = rdma_get_peer_addr(id);
    if (address->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, host, sizeof(host));
        snprintf(text, size, "verbs:[%s]:%u", host, ntohs(rdma_get_dst_port(id)));
    } else {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host, sizeof(host));
        snprintf(text, size, "verbs:%s:%u", host, ntohs(rdma_get_dst_port(id)));
    }
}

static enum err no_device(struct diag *diag, const char *host, int error)
{
    switch (error) {
    case ENODEV:
    case EADDRNOTAVAIL:
        return diag_set(
            diag, ERR_UNSUPPORTED,
            "no RDMA device here: none has an address that reaches %s (`rdma link` shows "
            "the devices)",
            host);
    case EADDRINUSE:
        return diag_set(diag, ERR_IN_USE, "the address is in use by another process");
    case EACCES:
    case EPERM:
        return diag_set(diag, ERR_DENIED, "RDMA connections are not allowed: %s", strerror(error));
    case ENOMEM:
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    default:
        return diag_set(diag, ERR_IO, "RDMA to %s: %s", host, strerror(error));
    }
}

/* ---- private data ---- */

static void private_write(uint8_t bytes[PRIVATE_SIZE])
{
    uint32_t words[4] = {PRIVATE_MAGIC, PRIVATE_VERSION, BATCH_CAPACITY, 0};
    memcpy(bytes, words, PRIVATE_SIZE);
}

static enum err private_read(const struct rdma_conn_param *param, uint32_t *ret_capacity,
                             struct diag *diag)
{
    uint32_t words[4];
    if (!param->private_data || param->private_data_len < PRIVATE_SIZE)
        return diag_set(diag, ERR_BAD_FRAME, "a malformed answer: is that a port of trellis?");
    memcpy(words, param->private_data, PRIVATE_SIZE);
    if (words[0] != PRIVATE_MAGIC)
        return diag_set(diag, ERR_BAD_FRAME, "a malformed answer: is that a port of trellis?");
    if ((words[1] & 0xffff) != PRIVATE_VERSION)
        return diag_set(diag, ERR_VERSION,
                        "the peer speaks version %u of the protocol, this program %d",
                        words[1] & 0xffff, PRIVATE_VERSION);
    if (words[2] < BATCH_CAPACITY_LEAST || words[2] > BATCH_CAPACITY_MOST || words[2] % 8)
        return diag_set(diag, ERR_BAD_FRAME, "a malformed answer: batches of %u bytes", words[2]);
    *ret_capacity = words[2] < BATCH_CAPACITY ? words[2] : BATCH_CAPACITY;
    return ERR_NONE;
}

/* What rdma_connect and rdma_accept are given; private_bytes must live as long. */
static struct rdma_conn_param param_of(const struct backend_link *pair,
                                       uint8_t private_bytes[PRIVATE_SIZE])
{
    private_write(private_bytes);
    return (struct rdma_conn_param){
        .private_data = private_bytes,
        .private_data_len = PRIVATE_SIZE,
        .flow_control = 1,
        .retry_count = 7,
        .rnr_retry_count = 7,
        .srq = 1,
        .qp_num = pair->qp->qp_num,
    };
}

/* ---- listening ---- */

static enum err listen_at(struct backend *backend, struct listener *listener, struct diag *diag)
{
    const char *host = listener->address.host;
    struct rdma_cm_id *id;
    if (rdma_create_id(backend->channel, &id, NULL, RDMA_PS_TCP))
        return no_device(diag, host, errno);
    if (rdma_bind_addr(id, (struct sockaddr *)&listener->at) || rdma_listen(id, BACKLOG)) {
        enum err err = no_device(diag, host, errno);
        (void)rdma_destroy_id(id);
        return err;
    }
    listener->id = id;
    /* It comes back at the port that the system chose. */
    uint16_t port = rdma_get_src_port(id);
    listener->address.port = ntohs(port);
    if (listener->at.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&listener->at)->sin6_port = port;
    else
        ((struct sockaddr_in *)&listener->at)->sin_port = port;
    return ERR_NONE;
}

enum err verbs_listen(struct backend *backend, const struct port_address *address,
                      struct port_address *ret_bound, struct diag *diag)
{
    ASSERT(backend->listener_count < PORT_LISTENERS_MAX);
    struct listener *listener = &backend->listeners[backend->listener_count];
    *listener = (struct listener){.address = *address};
    struct addrinfo *list;
    enum err err = resolve_now(address->host, address->port, true, &list, diag);
    if (err) return err;
    memcpy(&listener->at, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    err = listen_at(backend, listener, diag);
    if (err) return err;
    backend->listener_count++;
    *ret_bound = listener->address;
    return ERR_NONE;
}

void connect_listen_again(struct backend *backend)
{
    bool missing = false;
    for (uint32_t i = 0; i < backend->listener_count; i++) {
        struct listener *listener = &backend->listeners[i];
        if (!listener->id && listen_at(backend, listener, NULL)) missing = true;
    }
    backend->relisten_ns = UINT64_MAX;
    if (!missing) return;
    backend->relisten_ns = port_now_ns(backend->head.port) + (uint64_t)RELISTEN_MS * 1000000u;
    backend_timer_at(backend, backend->relisten_ns);
}

static void listener_lost(struct backend *backend, struct listener *listener)
{
    (void)rdma_destroy_id(listener->id);
    listener->id = NULL;
    backend->relisten_ns = 0;
    backend->untidy = true;
}

/* ---- connecting ---- */

void connect_forget(struct backend_link *pair)
{
    if (pair->resolve) {
        backend_unwatch_fd(pair->backend, resolve_fd(pair->resolve), &pair->resolve_watch);
        resolve_destroy(pair->resolve);
        pair->resolve = NULL;
    }
    if (pair->addresses) freeaddrinfo(pair->addresses);
    pair->addresses = pair->untried = NULL;
}

/* Asks for the adapter that reaches the next of the peer's addresses. */
static enum err address_try(struct backend_link *pair, struct diag *diag)
{
    enum err err = diag_set(diag, ERR_NOT_FOUND, "it has no address");
    if (pair->id) (void)rdma_destroy_id(pair->id);
    pair->id = NULL;
    while (pair->untried) {
        struct addrinfo *at = pair->untried;
        char host[NI_MAXHOST] = "?";
        pair->untried = at->ai_next;
        struct rdma_cm_id *id;
        if (!rdma_create_id(pair->backend->channel, &id, pair, RDMA_PS_TCP)) {
            if (!rdma_resolve_addr(id, NULL, at->ai_addr, RESOLVE_MS)) {
                pair->id = id;
                pair->state = PAIR_ADDRESS;
                return ERR_NONE;
            }
            int error = errno;
            (void)rdma_destroy_id(id);
            errno = error;
        }
        int error = errno;
        (void)getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
        err = no_device(diag, host, error);
    }
    return err;
}

static void name_ready(struct backend_watch *watch, uint32_t events)
{
    struct backend_link *pair = CONTAINER_OF(watch, struct backend_link, resolve_watch);
    struct diag diag;
    (void)events;
    enum err err = resolve_take(pair->resolve, &pair->addresses, &diag);
    backend_unwatch_fd(pair->backend, resolve_fd(pair->resolve), &pair->resolve_watch);
    resolve_destroy(pair->resolve);
    pair->resolve = NULL;
    if (!pair->link || pair->failed) return;
    if (!err) {
        pair->untried = pair->addresses;
        err = address_try(pair, &diag);
    }
    if (err) pair_fail(pair, err, "%s", diag.text);
}

enum err verbs_connect(struct backend *backend, struct link *link,
                       const struct port_address *address, struct diag *diag)
{
    struct backend_link *pair = pair_create(backend, NULL);
    if (!pair) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    pair->link = link;
    pair->known = true;
    enum err err = resolve_numeric(address->host, address->port, false, &pair->addresses);
    if (!err) {
        pair->untried = pair->addresses;
        err = address_try(pair, diag);
    } else if (err == ERR_NOT_FOUND) {
        pair->state = PAIR_NAME;
        pair->resolve_watch.ready = name_ready;
        err = resolve_start(address->host, address->port, &pair->resolve, diag);
        if (!err) {
            err = backend_watch_fd(backend, resolve_fd(pair->resolve), &pair->resolve_watch);
            if (err)
                diag_set(diag, err, "cannot wait for %s to be looked up: %s", address->host,
                         err_text(err));
        }
    } else {
        diag_set(diag, err, "%s", err_text(err));
    }
    if (err) {
        pair_destroy(pair);
        return err;
    }
    link_set_backend(link, pair);
    return ERR_NONE;
}

/* Gives the pair the device of its identifier and a queue pair on it. */
static enum err pair_place(struct backend_link *pair, struct diag *diag)
{
    enum err err = device_of(pair->backend, pair->id, &pair->device, diag);
    if (err) return err;
    pair->device->links++;
    return pair_make(pair, diag);
}

static void route_resolved(struct backend_link *pair)
{
    uint8_t private_bytes[PRIVATE_SIZE];
    struct diag diag;
    enum err err = pair_place(pair, &diag);
    if (err) {
        pair_fail(pair, err, "%s", diag.text);
        return;
    }
    struct rdma_conn_param param = param_of(pair, private_bytes);
    pair->state = PAIR_ASKED;
    if (rdma_connect(pair->id, &param))
        pair_fail(pair, ERR_IO, "cannot ask for a connection: %s", strerror(errno));
}

static void answered(struct backend_link *pair, const struct rdma_conn_param *param)
{
    struct diag diag;
    enum err err = private_read(param, &pair->capacity, &diag);
    if (!err) err = pair_ready(pair, &diag);
    if (!err && rdma_establish(pair->id))
        err = diag_set(&diag, ERR_IO, "cannot complete the connection: %s", strerror(errno));
    if (err) {
        pair_fail(pair, err, "%s", diag.text);
        return;
    }
    pair->state = PAIR_UP;
    core_connected(pair->link);
}

/* ---- accepting ---- */

/* Closed links of peers that never proved themselves, whose queue pairs are not gone yet. The core
 * counts them no more. */
static unsigned strangers_leaving(const struct backend *backend)
{
    unsigned count = 0;
    const struct list *zombies = &backend->zombies;
    for (const struct list *at = zombies->next; at != zombies; at = at->next)
        count += !CONTAINER_OF(at, struct backend_link, in_backend)->known;
    return count;
}

/* A stranger asks. What goes wrong before there is a link is told him by a rejection only. */
static void request_take(struct backend *backend, struct rdma_cm_id *id,
                         const struct rdma_conn_param *param)
{
    uint32_t capacity;
    char text[INET6_ADDRSTRLEN + 32];
    struct backend_link *pair = NULL;
    if (strangers_leaving(backend) < STRANGERS_MAX && !private_read(param, &capacity, NULL))
        pair = pair_create(backend, id);
    if (!pair) {
        (void)rdma_reject(id, NULL, 0);
        (void)rdma_destroy_id(id);
        return;
    }
    id->context = pair;
    pair->capacity = capacity;
    pair->state = PAIR_ANSWERED;
    peer_text_write(id, text, sizeof(text));
    struct link *link = core_accept(backend, pair, text);
    if (!link) {
        (void)rdma_reject(id, NULL, 0);
        pair_destroy(pair);
        return;
    }
    pair->link = link;
    struct diag diag;
    enum err err = pair_place(pair, &diag);
    if (!err) err = pair_ready(pair, &diag);
    if (!err) {
        uint8_t private_bytes[PRIVATE_SIZE];
        struct rdma_conn_param answer = param_of(pair, private_bytes);
        if (rdma_accept(id, &answer))
            err = diag_set(&diag, ERR_IO, "cannot accept a connection: %s", strerror(errno));
    }
    if (err) {
        (void)rdma_reject(id, NULL, 0);
        pair_fail(pair, err, "%s", diag.text);
    }
}

/* ---- events ---- */

static void pair_rejected(struct backend_link *pair, int status)
{
    if (status == REJECT_NOBODY)
        pair_fail(pair, ERR_CLOSED, "nobody listens there");
    else
        pair_fail(pair, ERR_CLOSED, "the peer rejected the connection (reason %d)", status);
}

static void pair_disconnected(struct backend_link *pair)
{
    /* What the peer sent before is in the completion queue by now, and comes first. */
    if (pair->device && !pair->device->dead)
        for (unsigned round = 0; round < 64 && backend_poll_device(pair->device, POLL_COUNT);
             round++)
            ;
    pair_fail(pair, ERR_CLOSED, "the peer closed the connection");
}

static void pair_event(struct backend_link *pair, enum rdma_cm_event_type type, int status,
                       const struct rdma_conn_param *param)
{
    if (!pair->link || pair->failed) return;
    switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        pair->state = PAIR_ROUTE;
        if (rdma_resolve_route(pair->id, RESOLVE_MS))
            pair_fail(pair, ERR_IO, "cannot resolve the route: %s", strerror(errno));
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        route_resolved(pair);
        break;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
        answered(pair, param);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        if (pair->state == PAIR_ANSWERED) pair->state = PAIR_UP;
        break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
        if (pair->untried && !address_try(pair, NULL)) break;
        pair_fail(pair, ERR_TIMEOUT, "no RDMA %s: %s",
                  type == RDMA_CM_EVENT_ADDR_ERROR ? "device reaches the address"
                                                   : "route to the address",
                  strerror(-status));
        break;
    case RDMA_CM_EVENT_UNREACHABLE:
        pair_fail(pair, ERR_TIMEOUT, "the peer cannot be reached: %s", strerror(-status));
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
        pair_fail(pair, ERR_IO, "the connection could not be completed: %s", strerror(-status));
        break;
    case RDMA_CM_EVENT_REJECTED:
        pair_rejected(pair, status);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        pair_disconnected(pair);
        break;
    case RDMA_CM_EVENT_ADDR_CHANGE:
        pair_fail(pair, ERR_CLOSED, "the network interface of the adapter has changed");
        break;
    default:
        break;
    }
}

static void context_abandon(struct ibv_context *context)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0) return;
    (void)dup3(nothing, context->cmd_fd, O_CLOEXEC);
    (void)dup3(nothing, context->async_fd, O_CLOEXEC);
    close(nothing);
}

/* The adapter that the identifier is bound to: a link's, a listener's, or a device's sentinel. */
static void removed(struct backend *backend, struct rdma_cm_id *id)
{
    struct backend_link *pair = id->context;
    if (id->verbs) context_abandon(id->verbs);
    if (pair && pair->device)
        device_fail(pair->device, ERR_IO, "the adapter %s was removed", pair->device->name);
    else if (pair)
        pair_fail(pair, ERR_IO, "the adapter was removed");
    for (struct list *at = backend->devices.next; at != &backend->devices; at = at->next) {
        struct verbs_device *device = CONTAINER_OF(at, struct verbs_device, in_backend);
        if (device->sentinel == id) {
            device_fail(device, ERR_IO, "the adapter %s was removed", device->name);
            return;
        }
    }
    for (uint32_t i = 0; i < backend->listener_count; i++) {
        if (backend->listeners[i].id == id) {
            listener_lost(backend, &backend->listeners[i]);
            return;
        }
    }
}

static void event_handle(struct backend *backend, const struct rdma_cm_event *event,
                         const struct rdma_conn_param *param)
{
    if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST)
        request_take(backend, event->id, param);
    else if (event->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
        removed(backend, event->id);
    else if (event->id->context) /* a link's, not a listener's */
        pair_event(event->id->context, event->event, event->status, param);
}

void connect_ready(struct backend_watch *watch, uint32_t events)
{
    struct backend *backend = CONTAINER_OF(watch, struct backend, channel_watch);
    struct rdma_cm_event *event;
    (void)events;
    for (unsigned i = 0; i < EVENTS_PER_TURN && !rdma_get_cm_event(backend->channel, &event); i++) {
        uint8_t private_bytes[PRIVATE_SIZE];
        struct rdma_cm_event copy = *event;
        struct rdma_conn_param param = event->param.conn;
        if (param.private_data && param.private_data_len >= PRIVATE_SIZE) {
            memcpy(private_bytes, param.private_data, PRIVATE_SIZE);
            param.private_data = private_bytes;
            param.private_data_len = PRIVATE_SIZE;
        } else {
            param.private_data = NULL;
            param.private_data_len = 0;
        }
        rdma_ack_cm_event(event);
        event_handle(backend, &copy, &param);
    }
    if (backend->untidy) backend_tidy(backend);
}
