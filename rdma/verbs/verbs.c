/* The verbs back end: batches over reliable connected queue pairs, by libibverbs and librdmacm.
 *
 * A batch is one SEND into the receiving device's shared queue; so receive memory does not grow
 * with peers, and no remote key leaves this process. The adapter's own checksums and order are the
 * core's: nothing is added here.
 *
 * The turn. poll takes completions of all devices: receives go to the core, sends free their
 * buffers. Everything rarer, connections and the adapters' own events, comes by descriptors of the
 * port's epoll. Nothing in these handlers tells the core that a link was lost, and nothing frees:
 * links that fail are put into backend->failed, and backend_tidy, when nobody walks over anything,
 * tells the core, reaps closed links, lets removed adapters go, and listens again.
 *
 * Sleeping. arm asks each device for an event, for solicited completions only (the last send of a
 * peer's flush), or for all of them while some link waits for a buffer; then looks once more. What
 * it finds waits in the stash for the next poll. An event that was asked for and has not come yet
 * stays asked for: asking is a system call. An event that came is taken just before the next one is
 * asked for, so that a reply does not wait for it. */
#include "rdma/verbs/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/check.h"

/* ---- descriptors ---- */

enum err backend_watch_fd(struct backend *backend, int fd, struct backend_watch *watch)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return ERR_IO;
    return epoll_ctl(backend->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? ERR_BUSY : ERR_NONE;
}

void backend_unwatch_fd(struct backend *backend, int fd, struct backend_watch *watch)
{
    (void)epoll_ctl(backend->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    core_unwatch(backend->head.port, watch);
}

void backend_timer_at(struct backend *backend, uint64_t ns)
{
    if (ns < backend->timer_ns) backend->timer_ns = ns;
}

/* ---- tidying ---- */

static void failed_tell(struct backend *backend)
{
    while (!list_is_empty(&backend->failed)) {
        struct backend_link *pair =
            CONTAINER_OF(backend->failed.next, struct backend_link, in_failed);
        list_remove(&pair->in_failed);
        /* The core closes it; the reason outlives that, as zombies are freed only later. */
        if (pair->link) core_lost(pair->link, pair->failed_err, "%s", pair->failed_reason);
    }
}

static void dead_devices_fail_links(struct backend *backend)
{
    struct list *at, *next;
    for (at = backend->links.next; at != &backend->links; at = next) {
        next = at->next;
        struct backend_link *pair = CONTAINER_OF(at, struct backend_link, in_backend);
        if (pair->device && pair->device->dead)
            pair_fail(pair, pair->device->dead_err, "%s", pair->device->dead_reason);
    }
}

static void zombies_reap(struct backend *backend, uint64_t now_ns)
{
    struct list *at, *next;
    for (at = backend->zombies.next; at != &backend->zombies; at = next) {
        next = at->next;
        pair_reap(CONTAINER_OF(at, struct backend_link, in_backend), now_ns);
    }
}

static void dead_devices_destroy(struct backend *backend)
{
    struct list *at, *next;
    for (at = backend->devices.next; at != &backend->devices; at = next) {
        next = at->next;
        struct verbs_device *device = CONTAINER_OF(at, struct verbs_device, in_backend);
        if (device->dead && !device->links) device_destroy(device);
    }
}

void backend_tidy(struct backend *backend)
{
    uint64_t now = port_now_ns(backend->head.port);
    backend->untidy = false;
    backend->timer_ns = UINT64_MAX;
    dead_devices_fail_links(backend);
    failed_tell(backend);
    zombies_reap(backend, now);
    dead_devices_destroy(backend);
    if (backend->relisten_ns <= now)
        connect_listen_again(backend);
    else if (backend->relisten_ns != UINT64_MAX)
        backend_timer_at(backend, backend->relisten_ns);
}

/* ---- completions ---- */

static void completions_handle(struct verbs_device *device, const struct ibv_wc *wcs,
                               unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pair_completion(device, &wcs[i]);
}

unsigned backend_poll_device(struct verbs_device *device, unsigned budget)
{
    struct ibv_wc wcs[POLL_COUNT];
    unsigned done = 0;
    if (device->stash_count) {
        /* Copied, as handling them may lead here again. */
        done = device->stash_count;
        memcpy(wcs, device->stash, done * sizeof(*wcs));
        device->stash_count = 0;
        completions_handle(device, wcs, done);
    }
    while (done < budget && !device->dead) {
        int count = ibv_poll_cq(device->cq, POLL_COUNT, wcs);
        if (count < 0) {
            device_fail(device, ERR_IO, "the completion queue of %s has failed", device->name);
            break;
        }
        completions_handle(device, wcs, (unsigned)count);
        done += (unsigned)count;
        if (count < POLL_COUNT) break;
    }
    /* Receive buffers go back when there is nothing better to do: a reply comes first. */
    if (!done && device->repost_count) device_repost_now(device);
    if (!list_is_empty(&device->waiting) && (done || pair_waits_in_vain(device)))
        pair_wake_waiting(device);
    return done;
}

static bool verbs_poll(struct backend *backend, unsigned budget)
{
    unsigned done = 0;
    for (struct list *at = backend->devices.next; at != &backend->devices; at = at->next)
        done += backend_poll_device(CONTAINER_OF(at, struct verbs_device, in_backend), budget);
    if (backend->untidy || port_now_ns(backend->head.port) >= backend->timer_ns) {
        backend_tidy(backend);
        done++;
    }
    return done > 0;
}

/* ---- sleeping ---- */

/* Takes the event that came; at most one can have. */
static void event_take(struct verbs_device *device)
{
    struct ibv_cq *cq;
    void *context;
    device->event_pending = false;
    if (ibv_get_cq_event(device->channel, &cq, &context)) return;
    ibv_ack_cq_events(cq, 1);
    device->armed = false;
}

static bool device_arm(struct verbs_device *device)
{
    bool all = !list_is_empty(&device->waiting);
    if (device->repost_count) device_repost_now(device);
    if (device->event_pending) event_take(device);
    if (!device->armed || (all && !device->armed_all)) {
        if (ibv_req_notify_cq(device->cq, !all)) {
            device_fail(device, ERR_IO, "cannot ask %s for events: %s", device->name,
                        strerror(errno));
            return false;
        }
        device->armed = true;
        device->armed_all = all;
    }
    int count = ibv_poll_cq(device->cq, POLL_COUNT, device->stash);
    device->stash_count = count > 0 ? (unsigned)count : 0;
    return !count;
}

static bool verbs_arm(struct backend *backend)
{
    if (backend->untidy) return false;
    for (struct list *at = backend->devices.next; at != &backend->devices; at = at->next) {
        struct verbs_device *device = CONTAINER_OF(at, struct verbs_device, in_backend);
        if (device->stash_count || pair_waits_in_vain(device) || !device_arm(device)) return false;
    }
    return !backend->untidy;
}

static void verbs_disarm(struct backend *backend)
{
    (void)backend; /* an event that comes anyway is taken when armed next */
}

/* ---- making and ending ---- */

static enum err verbs_open(struct port *port, int epoll_fd, struct backend **ret_backend,
                           struct diag *diag)
{
    struct backend *backend = calloc(1, sizeof(*backend));
    if (!backend) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    backend->head = (struct backend_head){&verbs_ops, port};
    backend->epoll_fd = epoll_fd;
    backend->relisten_ns = backend->timer_ns = UINT64_MAX;
    list_init(&backend->devices);
    list_init(&backend->links);
    list_init(&backend->zombies);
    list_init(&backend->failed);
    enum err err;
    backend->channel = rdma_create_event_channel();
    if (!backend->channel) {
        int error = errno;
        if (error == EACCES || error == EPERM || error == EMFILE || error == ENFILE)
            err = diag_set(diag, error == EMFILE || error == ENFILE ? ERR_BUSY : ERR_DENIED,
                           "cannot use RDMA: /dev/infiniband/rdma_cm: %s", strerror(error));
        else
            err = diag_set(diag, ERR_UNSUPPORTED,
                           "no RDMA device here: %s (the kernel module rdma_ucm and an adapter's "
                           "driver are needed; `rdma link` shows what there is)",
                           strerror(error));
        free(backend);
        return err;
    }
    backend->channel_watch.ready = connect_ready;
    err = backend_watch_fd(backend, backend->channel->fd, &backend->channel_watch);
    if (err) {
        rdma_destroy_event_channel(backend->channel);
        free(backend);
        return diag_set(diag, err, "no descriptor left for RDMA connections");
    }
    *ret_backend = backend;
    return ERR_NONE;
}

uint64_t backend_clock_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Zombies get the time that they have: what was flushed still leaves. */
static void zombies_wait(struct backend *backend)
{
    while (!list_is_empty(&backend->zombies)) {
        struct timespec pause = {0, 200 * 1000};
        for (struct list *at = backend->devices.next; at != &backend->devices; at = at->next)
            (void)backend_poll_device(CONTAINER_OF(at, struct verbs_device, in_backend), 256);
        zombies_reap(backend, backend_clock_ns());
        if (!list_is_empty(&backend->zombies)) nanosleep(&pause, NULL);
    }
}

static void verbs_destroy(struct backend *backend)
{
    ASSERT(list_is_empty(&backend->links));
    for (uint32_t i = 0; i < backend->listener_count; i++)
        if (backend->listeners[i].id) (void)rdma_destroy_id(backend->listeners[i].id);
    zombies_wait(backend);
    while (!list_is_empty(&backend->devices))
        device_destroy(CONTAINER_OF(backend->devices.next, struct verbs_device, in_backend));
    backend_unwatch_fd(backend, backend->channel->fd, &backend->channel_watch);
    rdma_destroy_event_channel(backend->channel);
    free(backend);
}

/* ---- looking ---- */

static void verbs_stats(const struct backend *backend, struct port_stats *stats)
{
    stats->registered_bytes += backend->registered_bytes;
}

static uint64_t verbs_timer_ns(const struct backend *backend)
{
    return backend->untidy ? 0 : backend->timer_ns;
}

const struct backend_ops verbs_ops = {
    .kind = LINK_VERBS,
    .needs_checksum = false,
    .open = verbs_open,
    .destroy = verbs_destroy,
    .listen = verbs_listen,
    .connect = verbs_connect,
    .close = verbs_close,
    .reserve = verbs_reserve,
    .post = verbs_post,
    .flush = verbs_flush,
    .poll = verbs_poll,
    .arm = verbs_arm,
    .disarm = verbs_disarm,
    .stats = verbs_stats,
    .timer_ns = verbs_timer_ns,
};
