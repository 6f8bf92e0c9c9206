/* One adapter, as a port uses it: a protection domain, a completion queue with its channel, a
 * shared receive queue, and two pools of registered memory, for receives and sends.
 *
 * Every port opens a context of its own instead of using librdmacm's, which all ports of a process
 * would share: asynchronous events of a context come out of one descriptor, and a port is one
 * thread's. Queue pairs are therefore made here and not by rdma_create_qp (pair.c).
 *
 * Memory is registered in chunks of CHUNK_BUFFERS buffers, as links come: enough that every link
 * can have all its credits under way, as long as registered_bytes_max allows; three quarters of
 * that are for receiving. Beyond it links share: the receive queue may then run dry while this
 * thread looks away, which the adapter answers with "receiver not ready" and the peer's adapter by
 * trying again, without end. That costs time, never data. A link without even one receive buffer is
 * refused.
 *
 * The completion queue must never overflow: it has room for every posted receive and for every send
 * of every queue pair that exists, those in error included. It starts with room for CQ_LINKS_FIRST
 * and grows only beyond them, which not every adapter can.
 *
 * Receive buffers go round: posted, filled, handled by the core, in `repost`, posted again. Several
 * are given back by one call, unless the queue has become short.
 *
 * A removed adapter is told by its sentinel, an identifier of the connection manager that is bound
 * to it for as long as this port has the adapter open, links or not. Everything of it has to be
 * closed then: the kernel may be waiting for that (connect.c). */
#include "rdma/verbs/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"

enum {
    CHUNK_BYTES = CHUNK_BUFFERS * BATCH_CAPACITY,
    CQ_LINKS_FIRST = 64, /* that the first completion queue has room for */
    SEND_DEPTH_LEAST = 32,
    /* Places in a send queue that are not counted in send_depth: the last empty message, and the
     * one whose end tells that the queue has been flushed. */
    SENDS_EXTRA = 2,
};

/* ---- memory ---- */

static enum err register_failed(int error, struct diag *diag)
{
    struct rlimit limit = {0, 0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    if ((error != ENOMEM && error != EAGAIN && error != EPERM) || limit.rlim_cur == RLIM_INFINITY)
        return diag_set(diag, ERR_NO_MEMORY, "cannot register %d KiB of memory for RDMA: %s",
                        CHUNK_BYTES >> 10, strerror(error));
    return diag_set(diag, ERR_NO_MEMORY,
                    "cannot register %d KiB of memory for RDMA: this process may lock %llu KiB; "
                    "raise `ulimit -l` (memlock in /etc/security/limits.conf, or LimitMEMLOCK= of "
                    "the service)",
                    CHUNK_BYTES >> 10, (unsigned long long)limit.rlim_cur >> 10);
}

static void chunk_fini(struct chunk *chunk)
{
    if (chunk->mr) (void)ibv_dereg_mr(chunk->mr);
    munmap(chunk->bytes, CHUNK_BYTES);
}

static enum err chunk_init(struct verbs_device *device, struct chunk *chunk, struct diag *diag)
{
    void *bytes =
        mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    /* The adapter writes to these pages; a child's copy of them would be of no use. */
    (void)madvise(bytes, CHUNK_BYTES, MADV_DONTFORK);
    struct ibv_mr *mr = ibv_reg_mr(device->pd, bytes, CHUNK_BYTES, IBV_ACCESS_LOCAL_WRITE);
    if (!mr) {
        enum err err = register_failed(errno, diag);
        munmap(bytes, CHUNK_BYTES);
        return err;
    }
    *chunk = (struct chunk){bytes, mr};
    return ERR_NONE;
}

static enum err pool_init(struct pool *pool, uint32_t chunk_count_max)
{
    pool->chunks = calloc(chunk_count_max, sizeof(*pool->chunks));
    pool->free = malloc((size_t)chunk_count_max * CHUNK_BUFFERS * sizeof(*pool->free));
    pool->chunk_count_max = chunk_count_max;
    return pool->chunks && pool->free ? ERR_NONE : ERR_NO_MEMORY;
}

static void pool_fini(struct verbs_device *device, struct pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++) {
        chunk_fini(&pool->chunks[i]);
        device->backend->registered_bytes -= CHUNK_BYTES;
    }
    free(pool->chunks);
    free(pool->free);
    *pool = (struct pool){0};
}

/* One more chunk, unless the limit is reached; its buffers are free. */
static enum err pool_grow(struct verbs_device *device, struct pool *pool, struct diag *diag)
{
    struct backend *backend = device->backend;
    uint64_t max = port_registered_bytes_max(backend->head.port);
    if (pool->chunk_count == pool->chunk_count_max || backend->registered_bytes + CHUNK_BYTES > max)
        return diag_set(diag, ERR_BUSY,
                        "no more memory may be registered for RDMA: %llu of %llu KiB are in use",
                        (unsigned long long)backend->registered_bytes >> 10,
                        (unsigned long long)max >> 10);
    enum err err = chunk_init(device, &pool->chunks[pool->chunk_count], diag);
    if (err) return err;
    uint32_t first = pool->chunk_count++ * CHUNK_BUFFERS;
    for (uint32_t i = CHUNK_BUFFERS; i-- > 0;)
        pool->free[pool->free_count++] = first + i;
    backend->registered_bytes += CHUNK_BYTES;
    return ERR_NONE;
}

/* ---- receiving ---- */

void device_repost_now(struct verbs_device *device)
{
    struct ibv_recv_wr requests[CHUNK_BUFFERS], *bad;
    struct ibv_sge places[CHUNK_BUFFERS];
    uint32_t count = device->repost_count;
    if (!count || device->dead) return;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t buffer = device->repost[i];
        places[i] = (struct ibv_sge){
            .addr = (uintptr_t)pool_bytes(&device->receive, buffer),
            .length = BATCH_CAPACITY,
            .lkey = pool_key(&device->receive, buffer),
        };
        requests[i] = (struct ibv_recv_wr){
            .wr_id = buffer,
            .next = i + 1 < count ? &requests[i + 1] : NULL,
            .sg_list = &places[i],
            .num_sge = 1,
        };
    }
    int error = ibv_post_srq_recv(device->srq, requests, &bad);
    if (error) {
        device_fail(device, ERR_IO, "cannot post receive buffers: %s", strerror(error));
        return;
    }
    device->receive_posted += count;
    device->repost_count = 0;
}

void device_repost(struct verbs_device *device, uint32_t buffer)
{
    if (device->dead) return;
    ASSERT(device->repost_count < ARRAY_SIZE(device->repost));
    device->repost[device->repost_count++] = buffer;
    bool short_of = device->receive_posted < device->receive.chunk_count * CHUNK_BUFFERS / 2;
    if (device->repost_count >= REPOST_COUNT || short_of) device_repost_now(device);
}

static enum err receive_grow(struct verbs_device *device, struct diag *diag)
{
    enum err err = pool_grow(device, &device->receive, diag);
    if (err) return err;
    while (device->receive.free_count) {
        device_repost(device, device->receive.free[--device->receive.free_count]);
        if (device->dead) return diag_set(diag, device->dead_err, "%s", device->dead_reason);
    }
    return ERR_NONE;
}

/* ---- growing ---- */

static enum err cq_grow(struct verbs_device *device, uint32_t pairs, struct diag *diag)
{
    uint32_t receives = device->receive.chunk_count_max * CHUNK_BUFFERS;
    uint64_t needed = receives + (uint64_t)pairs * (device->send_depth + SENDS_EXTRA);
    if (needed <= (uint64_t)device->cq->cqe) return ERR_NONE;
    if (needed > device->cq_size_max)
        return diag_set(diag, ERR_BUSY,
                        "%s has completion queues of %u entries: enough for %u links", device->name,
                        device->cq_size_max, pairs - 1);
    uint64_t size = needed * 2 > device->cq_size_max ? device->cq_size_max : needed * 2;
    errno = 0;
    int error = ibv_resize_cq(device->cq, (int)size);
    /* Providers answer with a positive error, a negative one, or -1 and errno. */
    if (error == -1 && errno) error = errno;
    if (error < 0) error = -error;
    if (error)
        return diag_set(diag, ERR_BUSY,
                        "the completion queue of %s has room for %u links and cannot be enlarged "
                        "to %llu entries: %s",
                        device->name, pairs - 1, (unsigned long long)size, strerror(error));
    return ERR_NONE;
}

/* Queue pairs whose links have not ended: those that are ending use no memory any more. */
static uint32_t links_alive(const struct verbs_device *device)
{
    uint32_t count = 0;
    const struct list *links = &device->backend->links;
    for (const struct list *at = links->next; at != links; at = at->next) {
        const struct backend_link *pair = CONTAINER_OF(at, struct backend_link, in_backend);
        count += pair->device == device && pair->in_table;
    }
    return count;
}

enum err device_grow(struct verbs_device *device, struct diag *diag)
{
    uint32_t pairs = device->pairs + 1;
    uint64_t wanted = (uint64_t)(links_alive(device) + 1) *
                      (port_link_credits(device->backend->head.port) + BATCHES_SPARE);
    enum err err = ERR_NONE;
    /* Sends wait for a buffer when there is none; they need fewer than receives. */
    while (!err && (uint64_t)device->send.chunk_count * CHUNK_BUFFERS < wanted / 2)
        err = pool_grow(device, &device->send, NULL);
    err = ERR_NONE;
    while (!err && (uint64_t)device->receive.chunk_count * CHUNK_BUFFERS < wanted)
        err = receive_grow(device, diag);
    if (device->dead) return err;
    if (device->receive.chunk_count * CHUNK_BUFFERS < pairs || !device->send.chunk_count)
        return err ? err : diag_set(diag, ERR_BUSY, "no registered memory for another link");
    return cq_grow(device, pairs, diag);
}

/* ---- the table of queue pair numbers ---- */

static uint32_t number_place(const struct verbs_device *device, uint32_t number)
{
    return (number * 2654435761u) & (device->by_number_size - 1);
}

static void number_put(struct verbs_device *device, struct backend_link *pair)
{
    uint32_t at = number_place(device, pair->qp->qp_num);
    while (device->by_number[at])
        at = (at + 1) & (device->by_number_size - 1);
    device->by_number[at] = pair;
}

enum err device_number_add(struct verbs_device *device, struct backend_link *pair)
{
    if (device->pairs * 2 + 2 > device->by_number_size) {
        uint32_t old_size = device->by_number_size, size = old_size ? old_size * 2 : 16;
        struct backend_link **table = calloc(size, sizeof(*table)), **old = device->by_number;
        if (!table) return ERR_NO_MEMORY;
        device->by_number = table;
        device->by_number_size = size;
        for (uint32_t i = 0; i < old_size; i++)
            if (old[i]) number_put(device, old[i]);
        free(old);
    }
    number_put(device, pair);
    device->pairs++;
    pair->in_table = true;
    return ERR_NONE;
}

void device_number_remove(struct verbs_device *device, struct backend_link *pair)
{
    uint32_t mask = device->by_number_size - 1, at = number_place(device, pair->qp->qp_num);
    while (device->by_number[at] != pair)
        at = (at + 1) & mask;
    device->by_number[at] = NULL;
    device->pairs--;
    pair->in_table = false;
    /* What came after it in the same run must not be cut off from its place. */
    for (at = (at + 1) & mask; device->by_number[at]; at = (at + 1) & mask) {
        struct backend_link *moved = device->by_number[at];
        device->by_number[at] = NULL;
        number_put(device, moved);
    }
}

struct backend_link *device_number_find(const struct verbs_device *device, uint32_t number)
{
    if (!device->by_number_size) return NULL;
    uint32_t at = number_place(device, number);
    while (device->by_number[at] && device->by_number[at]->qp->qp_num != number)
        at = (at + 1) & (device->by_number_size - 1);
    return device->by_number[at];
}

/* ---- events ---- */

static void channel_ready(struct backend_watch *watch, uint32_t events)
{
    (void)events;
    /* It is taken when the queue is armed next: not before what it tells of has been handled. */
    CONTAINER_OF(watch, struct verbs_device, channel_watch)->event_pending = true;
}

static void async_pair(struct backend_link *pair, enum ibv_event_type type)
{
    switch (type) {
    case IBV_EVENT_COMM_EST:
        (void)rdma_notify(pair->id, IBV_EVENT_COMM_EST);
        break;
    case IBV_EVENT_QP_LAST_WQE_REACHED:
        pair->last_receive = true;
        pair->backend->untidy = true;
        break;
    default:
        pair_fail(pair, ERR_IO, "the adapter %s reports: %s", pair->device->name,
                  ibv_event_type_str(type));
    }
}

static void async_port_down(struct verbs_device *device, int port)
{
    struct list *at, *next;
    for (at = device->backend->links.next; at != &device->backend->links; at = next) {
        next = at->next;
        struct backend_link *pair = CONTAINER_OF(at, struct backend_link, in_backend);
        if (pair->device == device && pair->id->port_num == port)
            pair_fail(pair, ERR_IO, "port %d of the adapter %s has lost its connection", port,
                      device->name);
    }
}

static void async_ready(struct backend_watch *watch, uint32_t events)
{
    struct verbs_device *device = CONTAINER_OF(watch, struct verbs_device, async_watch);
    struct ibv_async_event event;
    (void)events;
    /* Acknowledged before anything is done about it: destroying what it is about waits for that. */
    while (!device->dead && !ibv_get_async_event(device->context, &event)) {
        ibv_ack_async_event(&event);
        switch (event.event_type) {
        case IBV_EVENT_QP_FATAL:
        case IBV_EVENT_QP_REQ_ERR:
        case IBV_EVENT_QP_ACCESS_ERR:
        case IBV_EVENT_PATH_MIG_ERR:
        case IBV_EVENT_COMM_EST:
        case IBV_EVENT_QP_LAST_WQE_REACHED:
            async_pair(event.element.qp->qp_context, event.event_type);
            break;
        case IBV_EVENT_PORT_ERR:
            async_port_down(device, event.element.port_num);
            break;
        case IBV_EVENT_CQ_ERR:
        case IBV_EVENT_SRQ_ERR:
        case IBV_EVENT_DEVICE_FATAL:
            device_fail(device, ERR_IO, "the adapter %s reports: %s", device->name,
                        ibv_event_type_str(event.event_type));
            break;
        default:
            break;
        }
    }
}

void device_fail(struct verbs_device *device, enum err err, const char *format, ...)
{
    if (device->dead) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(device->dead_reason, sizeof(device->dead_reason), format, arguments);
    va_end(arguments);
    device->dead = true;
    device->dead_err = err;
    device->backend->untidy = true;
}

/* ---- making and ending ---- */

static enum err queues_make(struct verbs_device *device, struct diag *diag)
{
    struct backend *backend = device->backend;
    struct ibv_device_attr limits;
    int error = ibv_query_device(device->context, &limits);
    if (error) return diag_set(diag, ERR_IO, "cannot query %s: %s", device->name, strerror(error));
    uint64_t chunks = port_registered_bytes_max(backend->head.port) / CHUNK_BYTES;
    if (chunks > 1 << 16) chunks = 1 << 16;
    if (chunks < 2)
        return diag_set(diag, ERR_INVALID, "RDMA needs at least %d KiB of registered memory",
                        2 * CHUNK_BYTES >> 10);
    uint32_t receives = (uint32_t)(chunks - (chunks + 3) / 4);
    if (limits.max_srq_wr > 0 && receives > (uint32_t)limits.max_srq_wr / CHUNK_BUFFERS)
        receives = (uint32_t)limits.max_srq_wr / CHUNK_BUFFERS;
    if (limits.max_srq <= 0 || !receives)
        return diag_set(diag, ERR_UNSUPPORTED, "the adapter %s has no shared receive queues",
                        device->name);
    if (pool_init(&device->receive, receives) ||
        pool_init(&device->send, (uint32_t)((chunks + 3) / 4)))
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    device->inline_size = INLINE_SIZE;
    device->send_depth = 2 * (port_link_credits(backend->head.port) + BATCHES_SPARE);
    if (device->send_depth < SEND_DEPTH_LEAST) device->send_depth = SEND_DEPTH_LEAST;
    if (device->send_depth + SENDS_EXTRA > (uint32_t)limits.max_qp_wr)
        device->send_depth = (uint32_t)limits.max_qp_wr - SENDS_EXTRA;
    if (device->send_depth < SEND_DEPTH_LEAST || device->send_depth > 1 << 16)
        return diag_set(diag, ERR_UNSUPPORTED, "the adapter %s has send queues of %d entries only",
                        device->name, limits.max_qp_wr);
    device->cq_size_max = (uint32_t)limits.max_cqe;
    /* Not every adapter can enlarge one later. */
    uint64_t cq_size =
        receives * CHUNK_BUFFERS + (uint64_t)CQ_LINKS_FIRST * (device->send_depth + SENDS_EXTRA);
    if (cq_size > device->cq_size_max) cq_size = device->cq_size_max;
    device->pd = ibv_alloc_pd(device->context);
    if (device->pd) device->channel = ibv_create_comp_channel(device->context);
    if (device->channel)
        device->cq = ibv_create_cq(device->context, (int)cq_size, NULL, device->channel, 0);
    struct ibv_srq_init_attr attributes = {
        .attr = {.max_wr = receives * CHUNK_BUFFERS, .max_sge = 1}};
    if (device->cq) device->srq = ibv_create_srq(device->pd, &attributes);
    if (!device->srq)
        return diag_set(diag, errno == ENOMEM ? ERR_NO_MEMORY : ERR_IO,
                        "cannot make the queues of the adapter %s: %s", device->name,
                        strerror(errno));
    return ERR_NONE;
}

static enum err events_watch(struct verbs_device *device, struct rdma_cm_id *id, struct diag *diag)
{
    struct backend *backend = device->backend;
    device->channel_watch.ready = channel_ready;
    device->async_watch.ready = async_ready;
    enum err err = backend_watch_fd(backend, device->channel->fd, &device->channel_watch);
    if (!err) err = backend_watch_fd(backend, device->context->async_fd, &device->async_watch);
    if (err) return diag_set(diag, err, "no descriptors left for the adapter %s", device->name);
    /* The same address as the link's, any port: so it is bound to the same adapter. */
    struct sockaddr_storage address;
    struct sockaddr *local = rdma_get_local_addr(id);
    size_t size =
        local->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    memset(&address, 0, sizeof(address));
    memcpy(&address, local, size);
    if (local->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)&address)->sin6_port = 0;
    else
        ((struct sockaddr_in *)&address)->sin_port = 0;
    if (rdma_create_id(backend->channel, &device->sentinel, NULL, RDMA_PS_TCP) ||
        rdma_bind_addr(device->sentinel, (struct sockaddr *)&address))
        return diag_set(diag, ERR_IO, "cannot watch the adapter %s: %s", device->name,
                        strerror(errno));
    return ERR_NONE;
}

static enum err device_create(struct backend *backend, struct rdma_cm_id *id,
                              struct verbs_device **ret_device, struct diag *diag)
{
    struct verbs_device *device = calloc(1, sizeof(*device));
    if (!device) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    device->backend = backend;
    list_init(&device->in_backend);
    list_init(&device->waiting);
    snprintf(device->name, sizeof(device->name), "%s", ibv_get_device_name(id->verbs->device));
    enum err err;
    device->context = ibv_open_device(id->verbs->device);
    if (!device->context) {
        err = diag_set(diag, errno == EACCES || errno == EPERM ? ERR_DENIED : ERR_IO,
                       "cannot open the adapter %s: %s", device->name, strerror(errno));
        goto destroy_device;
    }
    err = queues_make(device, diag);
    if (err) goto destroy_device;
    err = events_watch(device, id, diag);
    if (err) goto destroy_device;
    err = receive_grow(device, diag);
    if (!err) err = pool_grow(device, &device->send, diag);
    if (err) goto destroy_device;
    list_append(&backend->devices, &device->in_backend);
    *ret_device = device;
    return ERR_NONE;

destroy_device:
    device_destroy(device);
    return err;
}

void device_destroy(struct verbs_device *device)
{
    ASSERT(!device->pairs && list_is_empty(&device->waiting));
    struct backend *backend = device->backend;
    list_remove(&device->in_backend);
    if (device->context)
        backend_unwatch_fd(backend, device->context->async_fd, &device->async_watch);
    if (device->channel) backend_unwatch_fd(backend, device->channel->fd, &device->channel_watch);
    if (device->sentinel) (void)rdma_destroy_id(device->sentinel);
    /* Of an adapter that is gone these fail, and free all the same. */
    if (device->srq) (void)ibv_destroy_srq(device->srq);
    if (device->cq) (void)ibv_destroy_cq(device->cq);
    if (device->channel) (void)ibv_destroy_comp_channel(device->channel);
    pool_fini(device, &device->receive);
    pool_fini(device, &device->send);
    if (device->pd) (void)ibv_dealloc_pd(device->pd);
    if (device->context) (void)ibv_close_device(device->context);
    free(device->by_number);
    free(device);
}

enum err device_of(struct backend *backend, struct rdma_cm_id *id, struct verbs_device **ret_device,
                   struct diag *diag)
{
    const char *name = ibv_get_device_name(id->verbs->device);
    for (struct list *at = backend->devices.next; at != &backend->devices; at = at->next) {
        struct verbs_device *device = CONTAINER_OF(at, struct verbs_device, in_backend);
        if (device->dead || strcmp(device->name, name) != 0) continue;
        *ret_device = device;
        return ERR_NONE;
    }
    return device_create(backend, id, ret_device, diag);
}
