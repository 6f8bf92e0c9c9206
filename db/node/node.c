/* The node: bringing a store up, carrying signals between its endpoints, and taking it down.
 *
 * Start: superblock and catalog; a worker with its partitions and memory accounting each; recovery
 * into those partitions; new logs; handlers; then threads. Nothing is served before all of that has
 * succeeded.
 *
 * Stop: new work is refused; what several workers are in the middle of ends and is answered (`open`
 * counts it, also answers that wait until their change is durable);
 * threads end when no job of theirs is in flight; then, with no transaction open anywhere, the logs
 * are closed, which makes everything committed durable. A thread that counts itself into `open`
 * looks at `closing` afterwards, and a worker that is told to stop looks at `open` after that, so
 * none ends while another still needs it.
 *
 * Endpoints are never freed while the node lives: a sender may hold one that its client has just
 * closed. The client id in each signal tells a stale one. */
#include "db/node/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "db/node/worker_private.h"

enum { REPLAYED_SIZE = 128 }; /* of an average redo record: a guess that starts checkpoints */

/* ---- creation ---- */

static enum err partitions_create(struct node *node, const struct catalog *catalog)
{
    for (uint16_t i = 0; i < node->worker_count; i++) {
        enum err err = worker_create(node, i, &node->workers[i]);
        if (err) return err;
        struct worker *worker = node->workers[i];
        worker->catalog = catalog_copy(catalog);
        if (!worker->catalog) return ERR_NO_MEMORY;
    }
    for (uint32_t p = 0; p < node->partition_count; p++) {
        struct worker *worker = node->workers[node_partition_owner(node, (uint16_t)p)];
        struct partition *partition;
        enum err err = partition_create(worker->ldm, (uint16_t)p, &partition);
        if (err) return err;
        worker->partitions[p] = node->partitions[p] = partition;
        err = partition_set_catalog(partition, worker->catalog);
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err node_recover(struct node *node, struct diag *diag)
{
    struct ldm *ldms[PARTITIONS_MAX];
    for (uint32_t p = 0; p < node->partition_count; p++)
        ldms[p] = node->workers[node_partition_owner(node, (uint16_t)p)]->ldm;
    struct recovery_config config = {
        .env = node->env,
        .partition_count = node->partition_count,
        .partitions = node->partitions,
        .partition_ldm = ldms,
        .threads = node->config.threads ? node->worker_count : 1,
        .progress = node->config.progress,
        .progress_context = node->config.progress_context,
    };
    enum err err = recovery_run(&config, &node->recovery, diag);
    if (err) return err;
    for (uint32_t p = 0; p < node->partition_count; p++)
        atomic_store(&node->checkpoint_ts[p], node->recovery.checkpoint_ts[p]);
    for (uint16_t i = 0; i < node->worker_count; i++) {
        struct worker *worker = node->workers[i];
        worker->clock.last = node->recovery.clock;
        /* What was replayed is log that a checkpoint has yet to replace. */
        atomic_store(&node->log_bytes[i],
                     node->recovery.replayed_count * REPLAYED_SIZE / node->worker_count);
        struct redo_config redo = {
            .env = node->env,
            .worker = i,
            .worker_count = node->worker_count,
            .first_segment = node->recovery.next_segment,
        };
        err = redo_create(&redo, &worker->redo);
        if (err) return diag_set(diag, err, "redo log %u: %s", (unsigned)i, err_text(err));
    }
    return ERR_NONE;
}

static enum err workers_prepare(struct node *node)
{
    for (uint16_t i = 0; i < node->worker_count; i++) {
        struct worker *worker = node->workers[i];
        programs_start(worker);
        two_phase_start(worker);
        flush_start(worker);
        status_start(worker);
        info_start(worker);
        links_start(worker);
        enum err err = checkpointer_start(worker);
        if (!err) err = ddl_start(worker);
        if (err) return err;
        snapshot_start(worker);
        for (;
             worker->module_count < NODE_MODULES_MAX && node->config.modules[worker->module_count];
             worker->module_count++) {
            err = node->config.modules[worker->module_count]->start(worker);
            if (err) return err;
        }
    }
    return ERR_NONE;
}

enum err node_create(const struct node_config *config, struct node **ret_node, struct diag *diag)
{
    ASSERT(config->worker_count >= 1 && config->worker_count <= WORKERS_MAX);
    struct node *node = calloc(1, sizeof(*node));
    if (!node) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    pthread_mutex_init(&node->mutex, NULL);
    catalogs_init(&node->catalogs);
    node->config = *config;
    node->env = config->env;
    node->worker_count = config->worker_count;
    node->client_next = 1;
    struct catalog *catalog = NULL;
    enum err err = store_open(node->env, &node->info, &catalog, diag);
    if (err) goto destroy_node;
    node->partition_count = node->info.partition_count;
    err = partitions_create(node, catalog);
    if (err) goto say;
    err = node_recover(node, diag);
    if (err) goto destroy_node;
    err = workers_prepare(node);
    if (!err) err = node_catalog_publish(node, catalog);
    if (err) goto say;
    *ret_node = node;
    return ERR_NONE;

say:
    diag_set(diag, err, "%s", err_text(err));
destroy_node:
    catalog_destroy(catalog);
    node_destroy(node);
    return err;
}

enum err node_start(struct node *node, struct diag *diag)
{
    if (!node->config.threads) return ERR_NONE;
    for (uint16_t i = 0; i < node->worker_count; i++) {
        enum err err = worker_start_thread(node->workers[i]);
        if (err) return diag_set(diag, err, "cannot start worker threads: %s", err_text(err));
    }
    return ERR_NONE;
}

/* ---- the end ---- */

bool node_open_begin(struct node *node)
{
    atomic_fetch_add(&node->open, 1);
    if (!atomic_load(&node->closing)) return true;
    node_open_end(node);
    return false;
}

void node_open_end(struct node *node)
{
    if (atomic_fetch_sub(&node->open, 1) != 1 || !atomic_load(&node->closing)) return;
    for (uint16_t i = 0; i < node->worker_count; i++)
        mailbox_wake(&node->workers[i]->mailbox);
}

bool node_is_idle(const struct node *node)
{
    if (atomic_load(&node->open)) return false;
    for (uint16_t i = 0; i < node->worker_count; i++)
        if (!worker_is_idle(node->workers[i])) return false;
    return true;
}

enum err node_stop(struct node *node, struct diag *diag)
{
    atomic_store(&node->closing, true);
    for (uint16_t i = 0; i < node->worker_count; i++) {
        atomic_store(&node->workers[i]->stopping, true);
        mailbox_wake(&node->workers[i]->mailbox);
    }
    for (uint16_t i = 0; i < node->worker_count; i++)
        worker_join(node->workers[i]);
    ASSERT(node_is_idle(node));
    enum err first = ERR_NONE;
    for (uint16_t i = 0; i < node->worker_count; i++) {
        enum err err = redo_close(node->workers[i]->redo);
        if (err && !first)
            first = diag_set(diag, err, "closing redo log %u: %s", (unsigned)i, err_text(err));
    }
    return first;
}

static void workers_stop(struct node *node)
{
    for (uint16_t i = 0; i < node->worker_count; i++) {
        struct worker *worker = node->workers[i];
        if (!worker) continue;
        if (worker->ddl) flush_stop(worker); /* all were started, up to here */
        links_destroy(worker->links);
        worker->links = NULL;
        while (worker->module_count)
            node->config.modules[--worker->module_count]->stop(worker);
        two_phase_stop(worker);
        checkpointer_stop(worker);
        ddl_stop(worker);
        snapshot_stop(worker);
    }
}

void node_destroy(struct node *node)
{
    if (!node) return;
    for (uint16_t i = 0; i < node->worker_count; i++)
        ASSERT(!node->workers[i] || !node->workers[i]->thread_started);
    workers_stop(node);
    for (uint16_t i = 0; i < node->worker_count; i++)
        worker_destroy(node->workers[i]);
    while (node->watches) {
        struct watch *watch = node->watches;
        node->watches = watch->next;
        free(watch);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(node->endpoints); i++) {
        struct endpoint *endpoint = atomic_load(&node->endpoints[i]);
        if (!endpoint) continue;
        mailbox_fini(&endpoint->mailbox);
        free(endpoint);
    }
    catalogs_fini(&node->catalogs);
    listeners_destroy(node);
    pthread_mutex_destroy(&node->mutex);
    free(node);
}

/* ---- carrying ---- */

void node_job_done(void *context, struct env_job *job)
{
    struct node *node = context;
    struct worker *worker = node->workers[job->worker];
    struct env_job *head = atomic_load_explicit(&worker->jobs, memory_order_relaxed);
    do {
        job->next = head;
    } while (!atomic_compare_exchange_weak(&worker->jobs, &head, job));
    mailbox_wake(&worker->mailbox);
}

void node_wake(void *context, uint16_t worker)
{
    struct node *node = context;
    mailbox_wake(&node->workers[worker]->mailbox);
}

void node_send(struct node *node, struct signal *signal)
{
    if (node->config.transport)
        node->config.transport(node->config.transport_context, signal);
    else
        node_deliver(node, signal);
}

void node_deliver(struct node *node, struct signal *signal)
{
    uint32_t to = signal->header.destination;
    struct mailbox *mailbox = NULL;
    if (to < node->worker_count) {
        mailbox = &node->workers[to]->mailbox;
    } else if (to >= ENDPOINT_CLIENT_FIRST && to < ENDPOINTS_MAX) {
        struct endpoint *endpoint = atomic_load(&node->endpoints[to - ENDPOINT_CLIENT_FIRST]);
        if (endpoint && atomic_load(&endpoint->open))
            mailbox = endpoint->worker ? &endpoint->worker->mailbox : &endpoint->mailbox;
    }
    if (!mailbox) {
        signal_destroy(signal);
        return;
    }
    mailbox_push(mailbox, signal);
    mailbox_wake(mailbox);
}

enum err node_post(struct node *node, uint16_t index, void (*fn)(void *context), void *context)
{
    struct post *post = malloc(sizeof(*post));
    if (!post) return ERR_NO_MEMORY;
    struct worker *worker = node->workers[index];
    *post = (struct post){.fn = fn, .context = context};
    struct post *head = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak(&worker->posts, &head, post));
    mailbox_wake(&worker->mailbox);
    return ERR_NONE;
}

enum err node_watch(struct node *node, uint16_t index, int fd, bool (*ready)(void *context),
                    void *context, const uint32_t *found)
{
    struct watch *watch = malloc(sizeof(*watch));
    if (!watch) return ERR_NO_MEMORY;
    struct worker *worker = node->workers[index];
    *watch = (struct watch){
        .worker = worker, .fd = fd, .ready = ready, .context = context, .found = found};
    pthread_mutex_lock(&node->mutex);
    watch->next = node->watches;
    node->watches = watch;
    pthread_mutex_unlock(&node->mutex);
    /* One request wakes one worker where several watch the same source. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = watch};
    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return ERR_NONE;
    node_unwatch(node, watch);
    return ERR_IO;
}

void node_unwatch(struct node *node, struct watch *watch)
{
    if (watch->worker->hot == watch) watch->worker->hot = NULL;
    epoll_ctl(watch->worker->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    pthread_mutex_lock(&node->mutex);
    struct watch **link = &node->watches;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    pthread_mutex_unlock(&node->mutex);
    free(watch);
}

/* ---- endpoints ---- */

/* A closed one that can be used again for a client of this worker (NULL: of none). */
static struct endpoint *endpoint_reuse(struct node *node, const struct worker *worker, bool linked)
{
    for (uint32_t i = 0; i < node->endpoint_count; i++) {
        struct endpoint *endpoint = atomic_load(&node->endpoints[i]);
        if (!atomic_load(&endpoint->open) && endpoint->worker == worker &&
            endpoint->linked == linked)
            return endpoint;
    }
    return NULL;
}

uint32_t node_linked_max(const struct node *node)
{
    return (uint32_t)(ARRAY_SIZE(node->endpoints) - ENDPOINTS_LOCAL) / node->worker_count;
}

static enum err endpoint_create(struct node *node, struct worker *worker, bool linked,
                                struct endpoint **ret_endpoint)
{
    if (node->endpoint_count == ARRAY_SIZE(node->endpoints)) return ERR_BUSY;
    if (linked && node->linked_count[worker->index] >= node_linked_max(node)) return ERR_BUSY;
    struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
    if (!endpoint) return ERR_NO_MEMORY;
    endpoint->worker = worker;
    endpoint->linked = linked;
    enum err err = mailbox_init(&endpoint->mailbox, node->config.threads && !worker);
    if (err) {
        free(endpoint);
        return err;
    }
    endpoint->number = ENDPOINT_CLIENT_FIRST + node->endpoint_count;
    atomic_store(&node->endpoints[node->endpoint_count++], endpoint);
    if (linked) node->linked_count[worker->index]++;
    if (worker && !linked) {
        endpoint->next_bound = worker->bound;
        worker->bound = endpoint;
    }
    *ret_endpoint = endpoint;
    return ERR_NONE;
}

/* client 0: the next one of our own. */
static enum err endpoint_open(struct node *node, struct worker *worker, bool linked,
                              uint64_t client, struct endpoint **ret_endpoint)
{
    pthread_mutex_lock(&node->mutex);
    enum err err = ERR_NONE;
    struct endpoint *endpoint = endpoint_reuse(node, worker, linked);
    if (!endpoint) err = endpoint_create(node, worker, linked, &endpoint);
    if (!err) {
        endpoint->client = client ? client : node->client_next++;
        endpoint->receive = NULL;
        endpoint->turn = NULL;
        atomic_store(&endpoint->open, true);
        *ret_endpoint = endpoint;
    }
    pthread_mutex_unlock(&node->mutex);
    return err;
}

enum err node_endpoint_open(struct node *node, struct worker *worker,
                            struct endpoint **ret_endpoint)
{
    return endpoint_open(node, worker, false, 0, ret_endpoint);
}

enum err node_endpoint_open_linked(struct node *node, struct worker *worker, uint64_t client,
                                   struct endpoint **ret_endpoint)
{
    return endpoint_open(node, worker, true, client, ret_endpoint);
}

void node_endpoint_close(struct node *node, struct endpoint *endpoint)
{
    pthread_mutex_lock(&node->mutex);
    struct signal *signal;
    while ((signal = mailbox_pop(&endpoint->mailbox)))
        signal_destroy(signal);
    atomic_store(&endpoint->open, false);
    pthread_mutex_unlock(&node->mutex);
}

/* ---- catalogs ---- */

const struct catalog *node_catalog_acquire(struct node *node)
{
    return catalogs_acquire(&node->catalogs);
}

void node_catalog_release(struct node *node, const struct catalog *catalog)
{
    catalogs_release(&node->catalogs, catalog);
}

enum err node_catalog_publish(struct node *node, struct catalog *catalog)
{
    return catalogs_publish(&node->catalogs, catalog);
}

/* ---- health ---- */

static void report(struct node *node, enum err err, const char *format, va_list args)
{
    char text[DIAG_TEXT_SIZE_MAX];
    vsnprintf(text, sizeof(text), format, args);
    pthread_mutex_lock(&node->mutex);
    if (!node->health_diag.err) diag_set(&node->health_diag, err, "%s", text);
    pthread_mutex_unlock(&node->mutex);
}

void node_fail(struct node *node, enum err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(node, err, format, args);
    va_end(args);
    int none = ERR_NONE;
    atomic_compare_exchange_strong(&node->health, &none, (int)err);
}

void node_report(struct node *node, enum err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(node, err, format, args);
    va_end(args);
}
