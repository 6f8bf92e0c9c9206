/* One link's queue pair: sending, and its ending.
 *
 * Sending. The core fills a buffer of the device's send pool (reserve), and says so (post); posted
 * batches are collected and given to the adapter by one call per flush, or when PENDING_MAX are
 * there. The newest one is kept back until the flush, because only the last one of a flush is
 * "solicited": it alone wakes a receiver that sleeps. What fits inline is copied by that call, and
 * its buffer is free again at once; the others are held until they are known to have arrived.
 *
 * Completions of sends are asked for selectively: for the last of a flush when buffers are held, so
 * that no idle link holds any, and else once per quarter of the send queue. As a queue pair ends
 * its sends in order, one completion ends all before it.
 *
 * When there is no buffer, or the send queue is full, the link is put in device->waiting, and tried
 * again when a completion has freed something.
 *
 * Ending. The core's close gives the link back at once; the queue pair lives on as a zombie:
 *
 *     LEAVING   (drain only) an empty message is sent after what was posted, and its completion
 *               waited for, a second at most: then everything has arrived. The peer takes the empty
 *               message as the end.
 *     FLUSHING  the queue pair is moved to error and the connection is ended; one more send is
 *               posted, and once it has come back, flushed, so have all before it. A receive buffer
 *               that the queue pair had taken from the shared queue comes back too, by the time
 *               that the adapter reports its last receive (not all do) or ZOMBIE_MS has passed.
 *
 * and is then destroyed. So no completion can be taken for one of a later queue pair that got the
 * same number, and no timer of a software adapter finds its queue pair gone. */
#include "rdma/verbs/verbs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* What wr_id of a send holds: its number, and the mark. Receives have their buffer there. */
#define SEND_MARK (UINT64_C(1) << 63)
#define FLUSH_MARK (UINT64_C(1) << 62)

struct backend_link *pair_create(struct backend *backend, struct rdma_cm_id *id)
{
    struct backend_link *pair = calloc(1, sizeof(*pair));
    if (!pair) return NULL;
    list_init(&pair->in_waiting);
    list_init(&pair->in_failed);
    list_append(&backend->links, &pair->in_backend);
    pair->backend = backend;
    pair->id = id;
    pair->reserved = BUFFER_NONE;
    pair->capacity = BATCH_CAPACITY;
    pair->deadline_ns = UINT64_MAX;
    return pair;
}

/* ---- making ---- */

static enum err state_set(struct backend_link *pair, enum ibv_qp_state state, struct diag *diag)
{
    enum {
        /* 4.096 us * 2^17 = 0.54 s without an acknowledgement, seven times. */
        ACK_TIMEOUT = 17,
        ACK_RETRIES = 7,
        NOT_READY_RETRIES = 7, /* without end */
        NOT_READY_WAIT = 8,    /* 0.16 ms */
    };
    struct ibv_qp_attr attributes = {.qp_state = state};
    int mask;
    if (rdma_init_qp_attr(pair->id, &attributes, &mask)) goto failed;
    if (mask & IBV_QP_ACCESS_FLAGS) attributes.qp_access_flags = 0;
    if (mask & IBV_QP_TIMEOUT) attributes.timeout = ACK_TIMEOUT;
    if (mask & IBV_QP_RETRY_CNT) attributes.retry_cnt = ACK_RETRIES;
    if (mask & IBV_QP_RNR_RETRY) attributes.rnr_retry = NOT_READY_RETRIES;
    if (mask & IBV_QP_MIN_RNR_TIMER) attributes.min_rnr_timer = NOT_READY_WAIT;
    if (ibv_modify_qp(pair->qp, &attributes, mask)) goto failed;
    return ERR_NONE;

failed:
    return diag_set(diag, ERR_IO, "cannot set up the queue pair on %s: %s", pair->device->name,
                    strerror(errno));
}

/* The adapter may give less inline space than asked for, or refuse to make the queue pair. */
static struct ibv_qp *queue_pair_create(struct backend_link *pair)
{
    struct verbs_device *device = pair->device;
    for (uint32_t size = device->inline_size;; size /= 2) {
        struct ibv_qp_init_attr attributes = {
            .qp_context = pair,
            .send_cq = device->cq,
            .recv_cq = device->cq,
            .srq = device->srq,
            .qp_type = IBV_QPT_RC,
            .cap = {.max_send_wr = device->send_depth + 2,
                    .max_send_sge = 1,
                    .max_inline_data = size},
        };
        struct ibv_qp *qp = ibv_create_qp(device->pd, &attributes);
        if (qp) {
            pair->inline_size = attributes.cap.max_inline_data < INLINE_SIZE
                                    ? attributes.cap.max_inline_data
                                    : INLINE_SIZE;
            if (pair->inline_size < device->inline_size) device->inline_size = pair->inline_size;
            return qp;
        }
        if (!size) return NULL;
    }
}

enum err pair_make(struct backend_link *pair, struct diag *diag)
{
    struct verbs_device *device = pair->device;
    enum err err = device_grow(device, diag);
    if (err) return err;
    pair->slots = malloc(device->send_depth * sizeof(*pair->slots));
    if (!pair->slots) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    pair->qp = queue_pair_create(pair);
    if (!pair->qp)
        return diag_set(diag, errno == ENOMEM ? ERR_NO_MEMORY : ERR_BUSY,
                        "cannot make a queue pair on %s: %s", device->name, strerror(errno));
    err = device_number_add(device, pair);
    if (err) return diag_set(diag, err, "%s", err_text(err));
    return state_set(pair, IBV_QPS_INIT, diag);
}

enum err pair_ready(struct backend_link *pair, struct diag *diag)
{
    enum err err = state_set(pair, IBV_QPS_RTR, diag);
    if (!err) err = state_set(pair, IBV_QPS_RTS, diag);
    return err;
}

/* ---- failing ---- */

void pair_fail(struct backend_link *pair, enum err err, const char *format, ...)
{
    if (pair->failed || !pair->link) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pair->failed_reason, sizeof(pair->failed_reason), format, arguments);
    va_end(arguments);
    pair->failed = true;
    pair->failed_err = err;
    list_append(&pair->backend->failed, &pair->in_failed);
    pair->backend->untidy = true;
}

static void completion_failed(struct backend_link *pair, enum ibv_wc_status status)
{
    switch (status) {
    case IBV_WC_RETRY_EXC_ERR:
        pair_fail(pair, ERR_TIMEOUT, "the peer does not answer");
        break;
    case IBV_WC_WR_FLUSH_ERR:
        pair_fail(pair, ERR_CLOSED, "the connection was lost");
        break;
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
        pair_fail(pair, ERR_CLOSED, "the peer's adapter refused a batch: %s",
                  ibv_wc_status_str(status));
        break;
    default:
        pair_fail(pair, ERR_IO, "%s: %s", pair->device->name, ibv_wc_status_str(status));
    }
}

/* ---- buffers ---- */

static void buffer_free(struct verbs_device *device, uint32_t buffer)
{
    if (buffer != BUFFER_NONE) device->send.free[device->send.free_count++] = buffer;
}

/* All sends before number `end` have ended. */
static void sends_end(struct backend_link *pair, uint32_t end)
{
    struct verbs_device *device = pair->device;
    for (; pair->ended != end; pair->ended++)
        buffer_free(device, pair->slots[pair->ended % device->send_depth]);
}

static bool may_reserve(const struct backend_link *pair)
{
    uint32_t under_way = pair->sent - pair->ended + pair->pending_count;
    return under_way < pair->device->send_depth && pair->device->send.free_count;
}

bool pair_waits_in_vain(const struct verbs_device *device)
{
    for (const struct list *at = device->waiting.next; at != &device->waiting; at = at->next)
        if (may_reserve(CONTAINER_OF(at, struct backend_link, in_waiting))) return true;
    return false;
}

void pair_wake_waiting(struct verbs_device *device)
{
    struct list woken;
    if (list_is_empty(&device->waiting)) return;
    list_take(&device->waiting, &woken);
    /* Those who find nothing yet come back, at the end of the list. */
    while (!list_is_empty(&woken)) {
        struct backend_link *pair = CONTAINER_OF(woken.next, struct backend_link, in_waiting);
        list_remove(&pair->in_waiting);
        if (pair->link && !pair->failed) core_writable(pair->link);
    }
}

/* ---- sending ---- */

enum err verbs_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity)
{
    struct backend_link *pair = link_backend(link);
    struct verbs_device *device = pair->device;
    if (pair->reserved == BUFFER_NONE) {
        if (!may_reserve(pair)) {
            if (list_is_empty(&pair->in_waiting)) list_append(&device->waiting, &pair->in_waiting);
            return ERR_BUSY;
        }
        pair->reserved = device->send.free[--device->send.free_count];
    }
    *ret_bytes = pool_bytes(&device->send, pair->reserved);
    *ret_capacity = pair->capacity;
    return ERR_NONE;
}

/* Whether the send tells its end, as said above. `last` is that of a flush. */
static bool send_is_signalled(struct backend_link *pair, bool held, bool last)
{
    pair->unsignalled++;
    pair->unsignalled_held += held;
    if (!(last && pair->unsignalled_held) && pair->unsignalled < pair->device->send_depth / 4)
        return false;
    pair->unsignalled = pair->unsignalled_held = 0;
    return true;
}

/* Gives the first `count` pending batches to the adapter. */
static void pending_submit(struct backend_link *pair, uint32_t count, bool last)
{
    struct verbs_device *device = pair->device;
    struct ibv_send_wr requests[PENDING_MAX], *bad;
    struct ibv_sge places[PENDING_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct pending *pending = &pair->pending[i];
        bool inlined = pending->size <= pair->inline_size;
        unsigned flags = inlined ? IBV_SEND_INLINE : 0;
        bool end = last && i + 1 == count;
        if (send_is_signalled(pair, !inlined, end)) flags |= IBV_SEND_SIGNALED;
        if (end) flags |= IBV_SEND_SOLICITED;
        places[i] = (struct ibv_sge){
            .addr = (uintptr_t)pool_bytes(&device->send, pending->buffer),
            .length = pending->size,
            .lkey = pool_key(&device->send, pending->buffer),
        };
        requests[i] = (struct ibv_send_wr){
            .wr_id = SEND_MARK | pair->sent,
            .next = i + 1 < count ? &requests[i + 1] : NULL,
            .sg_list = &places[i],
            .num_sge = 1,
            .opcode = IBV_WR_SEND,
            .send_flags = flags,
        };
        pair->slots[pair->sent % device->send_depth] = inlined ? BUFFER_NONE : pending->buffer;
        pair->sent++;
    }
    int error = ibv_post_send(pair->qp, requests, &bad);
    if (error)
        pair_fail(pair, ERR_IO, "%s does not take a send: %s", device->name, strerror(error));
    for (uint32_t i = 0; i < count; i++)
        if (pair->pending[i].size <= pair->inline_size)
            buffer_free(device, pair->pending[i].buffer);
    pair->pending_count -= count;
    if (pair->pending_count)
        memmove(pair->pending, pair->pending + count, pair->pending_count * sizeof(*pair->pending));
}

void verbs_post(struct link *link, uint32_t size)
{
    struct backend_link *pair = link_backend(link);
    ASSERT(pair->reserved != BUFFER_NONE && size <= pair->capacity);
    if (pair->pending_count == PENDING_MAX) pending_submit(pair, PENDING_MAX, false);
    pair->pending[pair->pending_count++] = (struct pending){pair->reserved, size};
    pair->reserved = BUFFER_NONE;
}

void verbs_flush(struct link *link)
{
    struct backend_link *pair = link_backend(link);
    if (pair->pending_count) pending_submit(pair, pair->pending_count, true);
}

/* ---- completions ---- */

static void send_completion(struct backend_link *pair, const struct ibv_wc *wc)
{
    if (wc->wr_id & FLUSH_MARK) {
        pair->drained = true;
        pair->backend->untidy = true;
        return;
    }
    uint32_t number = (uint32_t)wc->wr_id;
    if (pair->state == PAIR_LEAVING && number == pair->sent && wc->status == IBV_WC_SUCCESS) {
        sends_end(pair, number);
        pair->deadline_ns = 0; /* all has arrived */
        pair->backend->untidy = true;
        return;
    }
    if (number - pair->ended < pair->sent - pair->ended) sends_end(pair, number + 1);
    if (wc->status == IBV_WC_SUCCESS) return;
    if (pair->state == PAIR_LEAVING) {
        pair->deadline_ns = 0;
        pair->backend->untidy = true;
    }
    completion_failed(pair, wc->status);
}

static void batch_take(struct backend_link *pair, const uint8_t *bytes, uint32_t size)
{
    core_batch(pair->link, bytes, size);
    if (!pair->known && pair->link && link_is_up(pair->link)) pair->known = true;
}

static void receive_completion(struct verbs_device *device, struct backend_link *pair,
                               const struct ibv_wc *wc)
{
    uint32_t buffer = (uint32_t)wc->wr_id;
    device->receive_posted--;
    if (pair && pair->link && !pair->failed) {
        if (wc->status != IBV_WC_SUCCESS)
            completion_failed(pair, wc->status);
        else if (wc->byte_len && !pair->peer_left)
            batch_take(pair, pool_bytes(&device->receive, buffer), wc->byte_len);
        else if (!wc->byte_len && !pair->peer_left)
            pair->peer_left = true;
        else
            pair_fail(pair, ERR_BAD_FRAME, "a malformed frame: something after the last");
    }
    device_repost(device, buffer);
}

void pair_completion(struct verbs_device *device, const struct ibv_wc *wc)
{
    struct backend_link *pair = device_number_find(device, wc->qp_num);
    if (!(wc->wr_id & SEND_MARK))
        receive_completion(device, pair, wc);
    else if (pair)
        send_completion(pair, wc);
}

/* ---- ending ---- */

static enum err send_empty(struct backend_link *pair, uint64_t id)
{
    struct ibv_send_wr request =
                           {
                               .wr_id = SEND_MARK | id,
                               .opcode = IBV_WR_SEND,
                               .send_flags = IBV_SEND_SIGNALED | IBV_SEND_SOLICITED,
                           },
                       *bad;
    return ibv_post_send(pair->qp, &request, &bad) ? ERR_IO : ERR_NONE;
}

static void flush_begin(struct backend_link *pair, uint64_t now_ns)
{
    struct ibv_qp_attr error = {.qp_state = IBV_QPS_ERR};
    pair->state = PAIR_FLUSHING;
    (void)ibv_modify_qp(pair->qp, &error, IBV_QP_STATE);
    /* Without a connection there is nothing to end: it says so, and that is all. */
    (void)rdma_disconnect(pair->id);
    if (send_empty(pair, FLUSH_MARK)) pair->drained = true;
    pair->deadline_ns = now_ns + (uint64_t)ZOMBIE_MS * 1000000u;
}

void verbs_close(struct link *link, bool drain)
{
    struct backend_link *pair = link_backend(link);
    struct backend *backend = pair->backend;
    struct verbs_device *device = pair->device;
    uint64_t now = backend_clock_ns();
    bool leave = drain && (pair->state == PAIR_ANSWERED || pair->state == PAIR_UP);
    if (leave && !pair->failed && pair->pending_count)
        pending_submit(pair, pair->pending_count, true);
    leave = leave && !pair->failed;
    pair->link = NULL;
    list_remove(&pair->in_failed);
    list_remove(&pair->in_waiting);
    list_remove(&pair->in_backend);
    list_append(&backend->zombies, &pair->in_backend);
    backend->untidy = true;
    if (!pair->qp || !pair->in_table || device->dead) return; /* goes at the next tidying */
    for (uint32_t i = 0; i < pair->pending_count; i++)
        buffer_free(device, pair->pending[i].buffer);
    buffer_free(device, pair->reserved);
    pair->pending_count = 0;
    pair->reserved = BUFFER_NONE;
    if (leave && !send_empty(pair, pair->sent)) {
        pair->state = PAIR_LEAVING;
        pair->deadline_ns = now + (uint64_t)DRAIN_MS * 1000000u;
    } else {
        flush_begin(pair, now);
    }
    backend_timer_at(backend, pair->deadline_ns);
}

void pair_reap(struct backend_link *pair, uint64_t now_ns)
{
    if (!pair->qp || !pair->in_table || pair->device->dead) {
        pair_destroy(pair);
        return;
    }
    if (pair->state == PAIR_LEAVING && now_ns >= pair->deadline_ns) flush_begin(pair, now_ns);
    if (pair->state == PAIR_FLUSHING) {
        bool late = now_ns >= pair->deadline_ns;
        bool too_late =
            now_ns >= pair->deadline_ns + (uint64_t)(ZOMBIE_MS_MAX - ZOMBIE_MS) * 1000000u;
        if ((pair->drained && (pair->last_receive || late)) || too_late) {
            pair_destroy(pair);
            return;
        }
        backend_timer_at(pair->backend,
                         late ? now_ns + (uint64_t)ZOMBIE_MS * 1000000u : pair->deadline_ns);
    } else {
        backend_timer_at(pair->backend, pair->deadline_ns);
    }
}

void pair_destroy(struct backend_link *pair)
{
    struct verbs_device *device = pair->device;
    list_remove(&pair->in_waiting);
    list_remove(&pair->in_failed);
    list_remove(&pair->in_backend);
    if (pair->in_table) device_number_remove(device, pair);
    if (pair->qp) {
        (void)ibv_destroy_qp(pair->qp);
        sends_end(pair, pair->sent);
    }
    for (uint32_t i = 0; device && i < pair->pending_count; i++)
        buffer_free(device, pair->pending[i].buffer);
    if (device) {
        buffer_free(device, pair->reserved);
        device->links--;
        /* What it held is somebody else's now. */
        if (!device->dead && !list_is_empty(&device->waiting)) pair_wake_waiting(device);
    }
    if (pair->id) (void)rdma_destroy_id(pair->id);
    connect_forget(pair);
    free(pair->slots);
    free(pair);
}
