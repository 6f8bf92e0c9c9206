/* Where a node listens: every worker at an address of its own.
 *
 * A port belongs to its worker's thread, so listening is asked for by a posted function, and the
 * caller waits. The ports that the system chose are remembered and told to clients, who know worker
 * 0's address only. */
#include "db/node/links.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/node/worker_private.h"
#include "db/wire/info.h"

_Static_assert((int)INFO_WORKERS_MAX >= (int)WORKERS_MAX, "every worker's port is told");

struct listeners {
    pthread_mutex_t mutex;
    uint8_t secret[PORT_SECRET_SIZE];
    uint8_t count;
    struct info_listener all[INFO_LISTENERS_MAX];
};

bool links_address(struct port_address *address, uint16_t worker)
{
    size_t size;
    switch (address->kind) {
    case LINK_SHM:
        size = strlen(address->path);
        return (size_t)snprintf(address->path + size, sizeof(address->path) - size, ".%u",
                                (unsigned)worker) < sizeof(address->path) - size;
    case LINK_SIM:
        address->sim += worker;
        return true;
    default:
        if (!address->port) return true;
        if (address->port > UINT16_MAX - worker) return false;
        address->port = (uint16_t)(address->port + worker);
        return true;
    }
}

/* One worker's part of node_listen, on its thread. */
struct listen_request {
    struct worker *worker;
    struct listeners *listeners;
    struct port_address address;
    struct port_address bound;
    enum err err;
    struct diag diag;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void listen_run(void *context)
{
    struct listen_request *request = context;
    struct worker *worker = request->worker;
    enum err err = ERR_NONE;
    if (!worker->links) err = links_create(worker, request->listeners->secret, &request->diag);
    if (!err) err = links_listen(worker->links, &request->address, &request->bound, &request->diag);
    pthread_mutex_lock(&request->mutex);
    request->err = err;
    request->done = true;
    pthread_cond_signal(&request->cond);
    pthread_mutex_unlock(&request->mutex);
}

static enum err listen_one(struct worker *worker, struct listeners *listeners,
                           const struct port_address *address, struct port_address *ret_bound,
                           struct diag *diag)
{
    struct listen_request *request = calloc(1, sizeof(*request));
    if (!request) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    request->worker = worker;
    request->listeners = listeners;
    pthread_mutex_init(&request->mutex, NULL);
    pthread_cond_init(&request->cond, NULL);
    request->address = *address;
    enum err err = ERR_INVALID;
    if (!links_address(&request->address, worker->index)) {
        diag_set(diag, err, "there is no address for worker %u beyond this one",
                 (unsigned)worker->index);
        goto free_request;
    }
    if (worker->thread_started) {
        err = node_post(worker->node, worker->index, listen_run, request);
        if (err) {
            diag_set(diag, err, "%s", err_text(err));
            goto free_request;
        }
        pthread_mutex_lock(&request->mutex);
        while (!request->done)
            pthread_cond_wait(&request->cond, &request->mutex);
        pthread_mutex_unlock(&request->mutex);
    } else {
        listen_run(request);
    }
    err = request->err;
    if (err)
        diag_set(diag, err, "%s", request->diag.text);
    else
        *ret_bound = request->bound;

free_request:
    pthread_cond_destroy(&request->cond);
    pthread_mutex_destroy(&request->mutex);
    free(request);
    return err;
}

static enum err listeners_make(struct node *node, const uint8_t secret[PORT_SECRET_SIZE],
                               struct diag *diag)
{
    if (node->listeners) {
        if (memcmp(node->listeners->secret, secret, PORT_SECRET_SIZE) == 0) return ERR_NONE;
        return diag_set(diag, ERR_INVALID, "all addresses of a node have the same secret");
    }
    struct listeners *listeners = calloc(1, sizeof(*listeners));
    if (!listeners) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    pthread_mutex_init(&listeners->mutex, NULL);
    memcpy(listeners->secret, secret, PORT_SECRET_SIZE);
    atomic_store(&node->listeners, listeners);
    return ERR_NONE;
}

enum err node_listen(struct node *node, const struct port_address *address,
                     const uint8_t secret[PORT_SECRET_SIZE], struct port_address *ret_bound,
                     struct diag *diag)
{
    enum err err = listeners_make(node, secret, diag);
    if (err) return err;
    struct listeners *listeners = node->listeners;
    if (listeners->count == INFO_LISTENERS_MAX)
        return diag_set(diag, ERR_BUSY, "at most %d addresses", INFO_LISTENERS_MAX);
    struct info_listener listener = {.kind = (uint8_t)address->kind, .tls = address->tls};
    struct port_address first = *address;
    for (uint16_t w = 0; w < node->worker_count; w++) {
        struct port_address bound = {0};
        err = listen_one(node->workers[w], listeners, address, &bound, diag);
        if (err) return err;
        listener.ports[w] = bound.port;
        if (w == 0 && address->kind != LINK_SHM) first = bound;
    }
    pthread_mutex_lock(&listeners->mutex);
    listeners->all[listeners->count++] = listener;
    pthread_mutex_unlock(&listeners->mutex);
    if (ret_bound) *ret_bound = first;
    return ERR_NONE;
}

void listeners_info(struct node *node, struct node_info *info)
{
    struct listeners *listeners = atomic_load(&node->listeners);
    info->listener_count = 0;
    if (!listeners) return;
    pthread_mutex_lock(&listeners->mutex);
    info->listener_count = listeners->count;
    memcpy(info->listeners, listeners->all, sizeof(info->listeners));
    pthread_mutex_unlock(&listeners->mutex);
}

void listeners_destroy(struct node *node)
{
    struct listeners *listeners = node->listeners;
    if (!listeners) return;
    explicit_bzero(listeners->secret, sizeof(listeners->secret));
    pthread_mutex_destroy(&listeners->mutex);
    free(listeners);
    node->listeners = NULL;
}
