/* Changing the catalog: one request at a time, led by worker 0.
 *
 *   client --DDL request--> worker 0: the next catalog is made and checked
 *                           a job writes the catalog file: from here on a restart has it
 *                           --DDL catalog--> every worker (itself included): follows it when
 *                                            nothing that was prepared or checkpointed is in the
 * way
 *                           <--DDL_REPLY---
 *                           the catalog is published to clients
 *   client <--DDL_REPLY---
 *
 * When a worker cannot follow (no memory to build an index), the old definitions come back as a
 * still newer catalog, by the same path, and the client gets the error. It gets ERR_OUTCOME_UNKNOWN
 * whenever the next start may find the change after all; the numbers that such a catalog gave are
 * not given again.
 *
 * While a worker waits to follow, it prepares no transactions of others (they get ERR_CONFLICT and
 * try again), so that it does not wait for ever. Programs on old definitions get ERR_SCHEMA_CHANGED
 * afterwards.
 *
 * SIGNAL_DDL   body: u8 1 and a request (db/wire/ddl.h), or u8 2 and an encoded catalog.
 * SIGNAL_DDL_REPLY  header.err; body: the reason as text. */
#include "db/node/worker_private.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/wire/ddl.h"

enum { TAG_REQUEST = 1, TAG_CATALOG = 2, REQUESTS_MAX = 256 };

struct ddl {
    struct worker *worker;

    /* Every worker: the catalog it is about to follow, and worker 0's signal to answer. */
    struct catalog *coming;
    struct signal *coming_signal;
    struct worker_waiter waiter;

    /* Worker 0: the lead. */
    struct catalog *current; /* published */
    struct signal *requests; /* waiting, oldest first */
    uint32_t request_count;
    struct signal *request; /* under way; NULL: none */
    struct catalog *next;   /* being written and followed */
    struct signal
        *orders[WORKERS_MAX]; /* made before the file is written: sending them cannot fail */
    uint16_t missing;
    bool reverting;
    enum err err;
    struct diag diag;
    struct env_job job;
    bool job_runs;
    struct diag job_diag;
    enum err job_err;
};

static void lead_next(struct ddl *ddl);

/* ---- following ---- */

/* All partitions or none. */
static enum err partitions_follow(struct worker *worker, const struct catalog *catalog)
{
    uint32_t step = worker->node->worker_count;
    for (uint32_t p = worker->index; p < worker->node->partition_count; p += step) {
        enum err err = partition_set_catalog(worker->partitions[p], catalog);
        if (!err) continue;
        while (p > worker->index) {
            p -= step;
            /* Going back only drops what was just made, or finds again what was not touched. */
            enum err back = partition_set_catalog(worker->partitions[p], worker->catalog);
            ASSERT(!back);
        }
        return err;
    }
    return ERR_NONE;
}

static void follow(struct worker_waiter *waiter)
{
    struct ddl *ddl = waiter->context;
    struct worker *worker = ddl->worker;
    for (unsigned i = 0; i < NODE_MODULES_MAX && worker->node->config.modules[i]; i++)
        if (worker->node->config.modules[i]->catalog_changing)
            worker->node->config.modules[i]->catalog_changing(worker, worker->catalog, ddl->coming);
    enum err err = partitions_follow(worker, ddl->coming);
    if (err) {
        catalog_destroy(ddl->coming);
    } else {
        catalog_destroy(worker->catalog);
        worker->catalog = ddl->coming;
        collect_catalog(worker);
    }
    ddl->coming = NULL;
    worker->ddl_block = 0;
    struct signal *signal = ddl->coming_signal;
    ddl->coming_signal = NULL;
    worker_reply(worker, signal, SIGNAL_DDL_REPLY, err, NULL, 0);
    checkpointer_resume(worker);
}

static void follow_when_settled(struct worker *worker)
{
    struct ddl *ddl = worker->ddl;
    ddl->waiter.ts =
        worker_clock_next(worker); /* nothing is prepared any more: this is all there is */
    worker_when_settled(worker, &ddl->waiter);
}

static void on_catalog(struct worker *worker, struct signal *signal, struct reader *reader)
{
    struct ddl *ddl = worker->ddl;
    enum err err = ERR_BAD_SIGNAL;
    /* Only worker 0 says what to follow, one at a time, and versions go up. */
    if (signal->header.source != 0 || ddl->coming) goto refuse;
    struct catalog *catalog;
    err = catalog_decode(reader, &catalog);
    if (err) goto refuse;
    if (reader_left(reader) || catalog->version <= worker->catalog->version ||
        !ddl_may_follow(worker->catalog, catalog)) {
        catalog_destroy(catalog);
        err = ERR_BAD_SIGNAL;
        goto refuse;
    }
    ddl->coming = catalog;
    ddl->coming_signal = signal;
    worker->ddl_block = 1;
    checkpointer_suspend(worker, follow_when_settled);
    return;

refuse:
    worker_reply(worker, signal, SIGNAL_DDL_REPLY, err, NULL, 0);
}

/* ---- leading ---- */

static void lead_answer(struct ddl *ddl, struct signal *signal, enum err err,
                        const struct diag *diag)
{
    uint32_t size = err ? (uint32_t)strlen(diag->text) : 0;
    worker_reply(ddl->worker, signal, SIGNAL_DDL_REPLY, err, diag->text, size);
}

static void orders_destroy(struct ddl *ddl)
{
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        signal_destroy(ddl->orders[i]);
        ddl->orders[i] = NULL;
    }
}

/* The request is over. */
static void lead_end(struct ddl *ddl)
{
    struct signal *signal = ddl->request;
    ddl->request = NULL;
    catalog_destroy(ddl->next);
    ddl->next = NULL;
    orders_destroy(ddl);
    lead_answer(ddl, signal, ddl->err, &ddl->diag);
    node_open_end(ddl->worker->node);
    lead_next(ddl);
}

static enum err orders_make(struct ddl *ddl)
{
    struct buf *buf = &ddl->worker->redo_body;
    buf_clear(buf);
    buf_put_u8(buf, TAG_CATALOG);
    catalog_encode(ddl->next, buf);
    if (buf->failed) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < worker_count(ddl->worker); i++) {
        struct signal *signal = signal_create((uint32_t)buf->size);
        if (!signal) return ERR_NO_MEMORY;
        signal->header.type = SIGNAL_DDL;
        signal->header.destination = i;
        signal->header.request = ddl->next->version;
        memcpy(signal->body, buf->bytes, buf->size);
        ddl->orders[i] = signal;
    }
    return ERR_NONE;
}

static void write_run(struct env_job *job)
{
    struct ddl *ddl = CONTAINER_OF(job, struct ddl, job);
    ddl->job_err = store_write_catalog(ddl->worker->node->env, ddl->next, &ddl->job_diag);
}

static void write_done(struct env_job *job)
{
    struct ddl *ddl = CONTAINER_OF(job, struct ddl, job);
    struct worker *worker = ddl->worker;
    ddl->job_runs = false;
    if (ddl->job_err && !ddl->reverting) {
        ddl->err = ddl->job_err;
        ddl->diag = ddl->job_diag;
        if (ddl->err == ERR_OUTCOME_UNKNOWN) {
            ddl->current->version = ddl->next->version;
            ddl->current->next_table_id = ddl->next->next_table_id;
        }
        lead_end(ddl);
        return;
    }
    /* A file that could not be put back does not keep the workers from going back: the next start
     * finds the definition that this one refused, and tries to follow it then. */
    if (ddl->job_err) {
        node_report(worker->node, ddl->job_err, "catalog: %s", ddl->job_diag.text);
        ddl->err = ddl->diag.err = ERR_OUTCOME_UNKNOWN;
    }
    ddl->missing = worker_count(worker);
    for (uint16_t i = 0; i < worker_count(worker); i++) {
        struct signal *signal = ddl->orders[i];
        ddl->orders[i] = NULL;
        worker_send(worker, signal, signal_body_size(signal));
    }
}

/* Has ddl->next written and followed. */
static enum err lead_publish(struct ddl *ddl)
{
    enum err err = orders_make(ddl);
    if (err) return diag_set(&ddl->diag, err, "%s", err_text(err));
    ddl->job = (struct env_job){.run = write_run, .done = write_done, .worker = ddl->worker->index};
    ddl->job_runs = true;
    ddl->worker->node->env->ops->submit(ddl->worker->node->env, &ddl->job, 0);
    return ERR_NONE;
}

static void lead_begin(struct ddl *ddl)
{
    struct worker *worker = ddl->worker;
    ddl->reverting = false;
    ddl->diag = (struct diag){0};
    struct ddl_request request;
    struct reader reader = reader_of(ddl->request->body + 1, signal_body_size(ddl->request) - 1);
    ddl->err = ERR_CLOSED;
    if (!node_open_begin(worker->node)) {
        diag_set(&ddl->diag, ERR_CLOSED, "%s", err_text(ERR_CLOSED));
        struct signal *signal = ddl->request;
        ddl->request = NULL;
        lead_answer(ddl, signal, ddl->err, &ddl->diag);
        return;
    }
    ddl->err = node_health(worker->node);
    if (ddl->err) {
        diag_set(&ddl->diag, ddl->err, "the store takes no changes: %s", err_text(ddl->err));
        lead_end(ddl);
        return;
    }
    ddl->err = ddl_request_decode(&reader, &request, &ddl->diag);
    if (!ddl->err) {
        ddl->err = ddl_apply(ddl->current, &request, &ddl->next, &ddl->diag);
        ddl_request_fini(&request);
    }
    if (!ddl->err) ddl->err = lead_publish(ddl);
    if (ddl->err) lead_end(ddl);
}

/* Every worker has answered. */
static void lead_followed(struct ddl *ddl)
{
    struct node *node = ddl->worker->node;
    if (ddl->err && !ddl->reverting) {
        /* Back to the old definitions, under a newer version. */
        ddl->reverting = true;
        struct catalog *old = catalog_copy(ddl->current);
        if (old) {
            old->version = ddl->next->version + 1;
            old->next_table_id = ddl->next->next_table_id;
            catalog_destroy(ddl->next);
            ddl->next = old;
            if (!lead_publish(ddl)) return;
        }
        /* Some follow it and the file has it: so may the next start. */
        node_fail(node, ERR_NO_MEMORY, "catalog: %s", err_text(ERR_NO_MEMORY));
        ddl->err = ddl->diag.err = ERR_OUTCOME_UNKNOWN;
        lead_end(ddl);
        return;
    }
    struct catalog *published = catalog_copy(ddl->next);
    enum err err = published ? node_catalog_publish(node, published) : ERR_NO_MEMORY;
    if (err) {
        catalog_destroy(published);
        node_fail(node, err, "catalog: %s", err_text(err));
        /* The file has it and all follow it; nobody is told, and the next start finds it. */
        ddl->err = diag_set(&ddl->diag, ERR_OUTCOME_UNKNOWN, "%s", err_text(err));
    } else {
        catalog_destroy(ddl->current);
        ddl->current = ddl->next;
        ddl->next = NULL;
        info_announce(ddl->worker);
    }
    lead_end(ddl);
}

static void lead_next(struct ddl *ddl)
{
    while (!ddl->request && ddl->requests) {
        ddl->request = ddl->requests;
        ddl->requests = ddl->request->next;
        ddl->request->next = NULL;
        ddl->request_count--;
        lead_begin(ddl);
    }
}

static void on_request(struct worker *worker, struct signal *signal)
{
    struct ddl *ddl = worker->ddl;
    if (worker->index != 0 || ddl->request_count >= REQUESTS_MAX) {
        worker_reply(worker, signal, SIGNAL_DDL_REPLY, worker->index ? ERR_BAD_SIGNAL : ERR_BUSY,
                     NULL, 0);
        return;
    }
    struct signal **link = &ddl->requests;
    while (*link)
        link = &(*link)->next;
    signal->next = NULL;
    *link = signal;
    ddl->request_count++;
    lead_next(ddl);
}

static void on_ddl(struct worker *worker, struct signal *signal)
{
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    uint8_t tag = reader_u8(&reader);
    if (!reader.failed && tag == TAG_REQUEST)
        on_request(worker, signal);
    else if (!reader.failed && tag == TAG_CATALOG)
        on_catalog(worker, signal, &reader);
    else
        worker_reply(worker, signal, SIGNAL_DDL_REPLY, ERR_BAD_SIGNAL, NULL, 0);
}

static void on_ddl_reply(struct worker *worker, struct signal *signal)
{
    struct ddl *ddl = worker->ddl;
    bool awaited = ddl->missing && ddl->next && !ddl->job_runs &&
                   signal->header.source < worker_count(worker) &&
                   signal->header.request == ddl->next->version;
    enum err err = (enum err)signal->header.err;
    signal_destroy(signal);
    if (!awaited) {
        worker->counters.signals_dropped++;
        return;
    }
    if (err && !ddl->err)
        ddl->err = diag_set(&ddl->diag, err, "a worker cannot follow: %s", err_text(err));
    if (--ddl->missing == 0) lead_followed(ddl);
}

bool ddl_is_idle(const struct worker *worker)
{
    return !worker->ddl->job_runs;
}

enum err ddl_start(struct worker *worker)
{
    struct ddl *ddl = calloc(1, sizeof(*ddl));
    if (!ddl) return ERR_NO_MEMORY;
    ddl->worker = worker;
    ddl->waiter = (struct worker_waiter){.ready = follow, .context = ddl};
    worker->ddl = ddl;
    if (worker->index == 0) {
        ddl->current = catalog_copy(worker->catalog);
        if (!ddl->current) return ERR_NO_MEMORY;
    }
    worker_on(worker, SIGNAL_DDL, on_ddl);
    worker_on(worker, SIGNAL_DDL_REPLY, on_ddl_reply);
    return ERR_NONE;
}

void ddl_stop(struct worker *worker)
{
    struct ddl *ddl = worker->ddl;
    if (!ddl) return;
    worker_waiter_cancel(worker, &ddl->waiter);
    while (ddl->requests) {
        struct signal *signal = ddl->requests;
        ddl->requests = signal->next;
        signal_destroy(signal);
    }
    signal_destroy(ddl->request);
    signal_destroy(ddl->coming_signal);
    catalog_destroy(ddl->coming);
    catalog_destroy(ddl->next);
    catalog_destroy(ddl->current);
    orders_destroy(ddl);
    free(ddl);
    worker->ddl = NULL;
}
