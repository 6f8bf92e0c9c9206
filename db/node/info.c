/* What a client has to know of the node: answered by any worker, to any client (db/wire/info.h).
 *
 * The catalog is sent only when the client has another version: clients ask again after every
 * reconnect and whenever a definition turned out to be old. When the catalog changes, worker 0
 * sends the answer unasked, under request number 0, to those it has links to. */
#include <stdlib.h>

#include "db/node/worker_private.h"
#include "db/wire/info.h"

_Static_assert((int)INFO_STARTS_MAX >= (int)STORE_STARTS_MAX, "all that is known is told");

static void starts_put(const struct recovery_result *recovery, struct node_info *info)
{
    info->start_count = (uint8_t)recovery->start_count;
    for (uint16_t i = 0; i < recovery->start_count; i++)
        info->starts[i] =
            (struct info_start){.life = recovery->starts[i].id, .cut = recovery->starts[i].cut};
}

/* Without the catalog when its version is `known`. ERR_NO_MEMORY, ERR_TOO_BIG. */
static enum err info_put(struct node *node, uint64_t known, struct buf *body)
{
    struct node_info info = {
        .worker_count = node->worker_count,
        .partition_count = node->partition_count,
        .query_memory_max = node->config.query_memory_max,
        .replayed_count = node->recovery.replayed_count,
        .dropped_count = node->recovery.dropped_count,
    };
    memcpy(info.key, node->info.key, sizeof(info.key));
    starts_put(&node->recovery, &info);
    listeners_info(node, &info);
    pthread_mutex_lock(&node->mutex);
    info.health = node->health_diag.err;
    if (info.health) memcpy(info.health_text, node->health_diag.text, sizeof(info.health_text));
    pthread_mutex_unlock(&node->mutex);
    const struct catalog *catalog = node_catalog_acquire(node);
    info.catalog_version = catalog->version;
    node_info_encode(&info, catalog->version == known ? NULL : catalog, body);
    node_catalog_release(node, catalog);
    if (body->failed) return ERR_NO_MEMORY;
    return body->size > SIGNAL_BODY_SIZE_MAX ? ERR_TOO_BIG : ERR_NONE;
}

static void on_info(struct worker *worker, struct signal *signal)
{
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    uint64_t known = reader_u64(&reader);
    if (reader.failed || reader_left(&reader)) {
        worker_reply(worker, signal, SIGNAL_INFO_REPLY, ERR_BAD_SIGNAL, NULL, 0);
        return;
    }
    struct buf body;
    buf_init(&body);
    enum err err = info_put(worker->node, known, &body);
    worker_reply(worker, signal, SIGNAL_INFO_REPLY, err, body.bytes, err ? 0 : (uint32_t)body.size);
    buf_fini(&body);
}

void info_announce(struct worker *worker)
{
    if (!worker->links) return;
    struct buf body;
    buf_init(&body);
    /* Without memory for it they will find out by ERR_SCHEMA_CHANGED. */
    struct signal *signal = NULL;
    if (!info_put(worker->node, 0, &body)) signal = signal_create((uint32_t)body.size);
    if (signal) {
        signal->header.type = SIGNAL_INFO_REPLY;
        signal->header.source = worker->index;
        signal->header.clock = worker->clock.last;
        memcpy(signal->body, body.bytes, body.size);
        links_announce(worker->links, &signal->header);
    }
    signal_destroy(signal);
    buf_fini(&body);
}

void info_start(struct worker *worker)
{
    worker_on(worker, SIGNAL_INFO, on_info);
}
