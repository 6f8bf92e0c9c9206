/* Queries on a worker: the signals, the snapshot's pin, and the task that gives the executor its
 * slices.
 *
 * A query is named by the client id and request number in every signal's header. Its life here:
 *
 *   QUERY_OPEN   pin, answer the timestamp                              (several workers take part)
 *   QUERY_RUN    with the snapshot's T, or 0: pin now, T is that pin    (this worker alone)
 *   settling     until every transaction that may commit at or below T is decided
 *   running      a task; QUERY_MOVE, _MOVED and _MORE go to the executor
 *   the end      the executor has sent its last ROWS, or QUERY_CLOSE comes: everything is given
 * back
 *
 * Batches that other workers move here before this one has settled wait in the order they came. A
 * signal about a query that is not here (any more) is dropped: its sender gets, or has got, a
 * QUERY_CLOSE or the end. */
#include <stdlib.h>

#include "base/check.h"
#include "db/node/worker.h"
#include "db/query/exec.h"
#include "db/query/service.h"

enum { QUERIES_MAX = 256, EARLY_MOVES_MAX = 4096 };
static const uint64_t slice_ns = 150000;

enum query_phase { QUERY_OPENED, QUERY_SETTLING, QUERY_RUNNING };

struct query {
    struct query *next;
    struct worker *worker;
    struct service *service;
    uint64_t client;
    uint64_t request;
    uint32_t coordinator; /* endpoint */
    enum query_phase phase;
    uint64_t pinned_ts;
    struct query_run run_config;
    struct signal *run; /* the tree is decoded from it, and borrows from it */
    struct arena arena;
    struct query_tree tree;
    struct query_exec *exec;
    struct worker_task task;
    struct worker_waiter waiter;
    struct signal *early; /* moves that came before the executor was there, oldest first */
    struct signal **early_end;
    uint32_t early_count;
};

/* Of one worker. */
struct service {
    struct query *queries;
    uint32_t query_count;
};

static struct service *service_of(struct worker *worker)
{
    return worker_module_state(worker, &query_module);
}

static struct query *find(struct worker *worker, const struct signal_header *header)
{
    struct query *query = service_of(worker)->queries;
    while (query && (query->client != header->client || query->request != header->request))
        query = query->next;
    return query;
}

static void query_end(struct query *query)
{
    struct query **link = &query->service->queries;
    while (*link != query)
        link = &(*link)->next;
    *link = query->next;
    query->service->query_count--;
    worker_task_stop(query->worker, &query->task);
    worker_waiter_cancel(query->worker, &query->waiter);
    query_exec_destroy(query->exec);
    while (query->early) {
        struct signal *signal = query->early;
        query->early = signal->next;
        signal_destroy(signal);
    }
    worker_unpin(query->worker, query->pinned_ts);
    signal_destroy(query->run);
    arena_fini(&query->arena);
    free(query);
}

/* ---- what the executor asks for ---- */

static enum err send(const struct query *query, enum signal_type type, uint32_t destination,
                     const struct buf *body)
{
    if (body->size > SIGNAL_BODY_SIZE_MAX) return ERR_TOO_BIG;
    struct signal *signal = signal_create((uint32_t)body->size);
    if (!signal) return ERR_NO_MEMORY;
    signal->header.type = (uint16_t)type;
    signal->header.destination = destination;
    signal->header.request = query->request;
    signal->header.client = query->client;
    if (body->size) memcpy(signal->body, body->bytes, body->size);
    worker_send(query->worker, signal, (uint32_t)body->size);
    return ERR_NONE;
}

static enum err host_send_rows(void *context, const struct buf *body)
{
    const struct query *query = context;
    return send(query, SIGNAL_QUERY_ROWS, query->coordinator, body);
}

static enum err host_send_move(void *context, uint16_t worker, const struct buf *body)
{
    return send(context, SIGNAL_QUERY_MOVE, worker, body);
}

static enum err host_send_moved(void *context, uint16_t worker, const struct buf *body)
{
    return send(context, SIGNAL_QUERY_MOVED, worker, body);
}

static struct partition *host_partition(void *context, uint16_t number)
{
    const struct query *query = context;
    return worker_partition(query->worker, number);
}

static uint16_t host_owner(void *context, uint16_t partition)
{
    const struct query *query = context;
    return worker_partition_owner(query->worker, partition);
}

static uint64_t host_monotonic_ns(void *context)
{
    const struct query *query = context;
    return worker_monotonic_ns(query->worker);
}

/* ---- running ---- */

/* Tells the coordinator that the query has failed, in the block of its own signal, which cannot
 * fail: without memory for the reason, at least the error arrives. */
static void refuse(struct worker *worker, struct signal *signal, enum err err, const char *text)
{
    struct query_rows rows = {.kind = QUERY_ROWS_FAILED};
    struct buf body;
    buf_init(&body);
    query_rows_encode(&rows, &body);
    buf_put_bytes(&body, text, strlen(text));
    /* Without memory for the reason the error alone says it. */
    if (body.failed) buf_clear(&body);
    worker_reply(worker, signal, SIGNAL_QUERY_ROWS, err, body.bytes, (uint32_t)body.size);
    buf_fini(&body);
}

/* Ends the query with an answer to its RUN. */
static void fail(struct query *query, enum err err, const char *text)
{
    struct worker *worker = query->worker;
    struct signal *run = query->run;
    query->run = NULL;
    query_end(query);
    refuse(worker, run, err, text);
}

static bool step(struct worker_task *task)
{
    struct query *query = task->context;
    uint64_t deadline = worker_monotonic_ns(query->worker) + slice_ns;
    enum query_exec_state state = query_exec_run(query->exec, deadline);
    if (state == QUERY_EXEC_DONE) {
        query_end(query);
    } else if (state == QUERY_EXEC_FAILED) {
        struct diag diag = *query_exec_failure(query->exec);
        fail(query, diag.err, diag.text);
    }
    return state == QUERY_EXEC_MORE;
}

static enum err make_exec(struct query *query, struct diag *diag)
{
    const struct signal *run = query->run;
    struct reader reader = reader_of(run->body, signal_body_size(run));
    const struct catalog *catalog = worker_catalog(query->worker);
    enum err err = query_run_decode(&reader, &query->run_config);
    if (!err) err = query_decode(&reader, catalog, &query->arena, &query->tree);
    if (err) return diag_set(diag, err, "%s", err_text(err));
    query->run_config.ts = query->pinned_ts;
    uint64_t memory_max = worker_query_memory_max(query->worker);
    uint64_t *run_max = &query->run_config.memory_max;
    if (memory_max && (!*run_max || *run_max > memory_max)) *run_max = memory_max;
    struct query_exec_config config = {
        .tree = &query->tree,
        .catalog = catalog,
        .run = query->run_config,
        .host = {.worker = worker_index(query->worker),
                 .worker_count = worker_count(query->worker),
                 .partition_count = worker_partition_count(query->worker),
                 .partition = host_partition,
                 .owner = host_owner,
                 .monotonic_ns = host_monotonic_ns,
                 .send_rows = host_send_rows,
                 .send_move = host_send_move,
                 .send_moved = host_send_moved,
                 .context = query},
    };
    return query_exec_create(&config, &query->exec, diag);
}

static void on_settled(struct worker_waiter *waiter)
{
    struct query *query = waiter->context;
    struct diag diag;
    enum err err = make_exec(query, &diag);
    if (err) {
        fail(query, err, diag.text);
        return;
    }
    query->phase = QUERY_RUNNING;
    while (query->early) {
        struct signal *signal = query->early;
        query->early = signal->next;
        query_exec_move(query->exec, (uint16_t)signal->header.source, signal->body,
                        signal_body_size(signal));
        signal_destroy(signal);
    }
    worker_task_start(query->worker, &query->task);
}

/* ---- signals ---- */

static enum err open_query(struct worker *worker, const struct signal *signal,
                           struct query **ret_query)
{
    struct service *service = service_of(worker);
    if (find(worker, &signal->header)) return ERR_EXISTS;
    if (service->query_count == QUERIES_MAX) return ERR_BUSY;
    struct query *query = calloc(1, sizeof(*query));
    if (!query) return ERR_NO_MEMORY;
    enum err err = worker_pin(worker, &query->pinned_ts);
    if (err) {
        free(query);
        return err;
    }
    query->worker = worker;
    query->service = service;
    query->client = signal->header.client;
    query->request = signal->header.request;
    query->coordinator = signal->header.source;
    query->early_end = &query->early;
    query->task = (struct worker_task){.step = step, .context = query};
    query->waiter = (struct worker_waiter){.ready = on_settled, .context = query};
    arena_init(&query->arena, 0);
    query->next = service->queries;
    service->queries = query;
    service->query_count++;
    *ret_query = query;
    return ERR_NONE;
}

static void on_open(struct worker *worker, struct signal *signal)
{
    struct query *query;
    enum err err = signal_body_size(signal) ? ERR_BAD_SIGNAL : open_query(worker, signal, &query);
    uint64_t ts = err ? 0 : query->pinned_ts;
    worker_reply(worker, signal, SIGNAL_QUERY_OPENED, err, &ts, err ? 0 : sizeof(ts));
}

static void on_run(struct worker *worker, struct signal *signal)
{
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    struct query_run run;
    enum err err = query_run_decode(&reader, &run);
    struct query *query = find(worker, &signal->header);
    if (!err && !query && !run.ts) err = open_query(worker, signal, &query);
    /* Of a query that was opened, only its coordinator's first RUN counts, with a T that the pin
     * covers. */
    if (!err && (!query || query->phase != QUERY_OPENED || (run.ts && run.ts < query->pinned_ts)))
        err = ERR_BAD_SIGNAL;
    if (err) {
        refuse(worker, signal, err, err_text(err));
        return;
    }
    query->run = signal;
    query->phase = QUERY_SETTLING;
    uint64_t ts = run.ts ? run.ts : query->pinned_ts;
    worker_pin_settle(worker, query->pinned_ts, ts);
    query->pinned_ts = ts;
    query->waiter.ts = ts;
    worker_when_settled(worker, &query->waiter);
}

static void on_more(struct worker *worker, struct signal *signal)
{
    struct query *query = find(worker, &signal->header);
    if (query && query->exec) {
        query_exec_more(query->exec, signal->body, signal_body_size(signal));
        worker_task_start(worker, &query->task);
    }
    signal_destroy(signal);
}

static void on_move(struct worker *worker, struct signal *signal)
{
    struct query *query = find(worker, &signal->header);
    if (query && query->exec) {
        query_exec_move(query->exec, (uint16_t)signal->header.source, signal->body,
                        signal_body_size(signal));
        worker_task_start(worker, &query->task);
    } else if (query && query->early_count < EARLY_MOVES_MAX) {
        signal->next = NULL;
        *query->early_end = signal;
        query->early_end = &signal->next;
        query->early_count++;
        return;
    }
    signal_destroy(signal);
}

static void on_moved(struct worker *worker, struct signal *signal)
{
    struct query *query = find(worker, &signal->header);
    if (query && query->exec) {
        query_exec_moved(query->exec, (uint16_t)signal->header.source, signal->body,
                         signal_body_size(signal));
        worker_task_start(worker, &query->task);
    }
    signal_destroy(signal);
}

static void on_close(struct worker *worker, struct signal *signal)
{
    struct query *query = find(worker, &signal->header);
    if (query) query_end(query);
    signal_destroy(signal);
}

/* ---- the module ---- */

void query_service_forget(struct worker *worker, uint64_t client)
{
    struct service *service = service_of(worker);
    struct query *query = service ? service->queries : NULL;
    while (query) {
        struct query *next = query->next;
        if (query->client == client) query_end(query);
        query = next;
    }
}

uint32_t query_service_count(const struct worker *worker)
{
    const struct service *service = worker_module_state(worker, &query_module);
    return service ? service->query_count : 0;
}

static enum err start(struct worker *worker)
{
    struct service *service = calloc(1, sizeof(*service));
    if (!service) return ERR_NO_MEMORY;
    worker_set_module_state(worker, &query_module, service);
    worker_on(worker, SIGNAL_QUERY_OPEN, on_open);
    worker_on(worker, SIGNAL_QUERY_RUN, on_run);
    worker_on(worker, SIGNAL_QUERY_MORE, on_more);
    worker_on(worker, SIGNAL_QUERY_MOVE, on_move);
    worker_on(worker, SIGNAL_QUERY_MOVED, on_moved);
    worker_on(worker, SIGNAL_QUERY_CLOSE, on_close);
    return ERR_NONE;
}

static void stop(struct worker *worker)
{
    struct service *service = service_of(worker);
    if (!service) return;
    while (service->queries)
        query_end(service->queries);
    worker_set_module_state(worker, &query_module, NULL);
    free(service);
}

static bool reads_changed_table(const struct query *query, const struct catalog *to)
{
    for (uint16_t i = 0; i < query->tree.source_count; i++) {
        const struct query_source *source = &query->tree.sources[i];
        const struct table_def *table = catalog_find_id(to, source->table_id);
        if (!table || table->version != source->table_version) return true;
    }
    return false;
}

/* Queries that only wait for their snapshot look at the catalog when they start. */
static void catalog_changing(struct worker *worker, const struct catalog *from,
                             const struct catalog *to)
{
    (void)from;
    for (struct query *query = service_of(worker)->queries; query; query = query->next) {
        if (!query->exec || !reads_changed_table(query, to)) continue;
        query_exec_fail(query->exec, ERR_SCHEMA_CHANGED, err_text(ERR_SCHEMA_CHANGED));
        worker_task_start(worker, &query->task);
    }
}

const struct worker_module query_module = {
    .start = start,
    .stop = stop,
    .catalog_changing = catalog_changing,
};
