/* The coordinator of a query: opens the snapshot, starts the workers, takes what they send.
 *
 *   one worker takes part      RUN ─▶                        ◀─ ROWS … ROWS(DONE)
 *   several                    OPEN ─▶ all, ◀─ OPENED with each one's pin; T is the greatest;
 * RUN(T) ─▶ all
 *
 * When joins move rows between workers, each reports when it has run idle, and the reports say when
 * nothing is under way any more (db/query/exec.c has the argument); then MORE(finish) asks all for
 * their results.
 *
 * Every ROWS with a payload is paid for with one credit, given back by a MORE once it was consumed:
 * so a slow reader slows the workers down, and no more than the window lies in the mailbox. The
 * signals that close the query are made at its opening, so that closing cannot fail. */
#include <stdlib.h>

#include "base/check.h"
#include "db/api/client.h"
#include "db/api/db_private.h"
#include "db/query/exec.h"
#include "db/query/finish.h"
#include "db/query/message.h"

enum { ROWS_WINDOW = 8 };

struct participant {
    bool takes_part;
    bool opened;
    bool done;
    bool idle;            /* idle_taken and idle_sent are its newest report */
    uint32_t sequence;    /* of the next ROWS */
    struct signal *close; /* sent at the end, whatever happens; NULL: not needed any more */
    uint64_t rows_scanned;
    uint64_t memory_peak;
    uint64_t idle_taken;
    uint64_t idle_sent[WORKERS_MAX];
};

struct db_query {
    struct db_client *client;
    struct client_listener listener;
    const struct catalog *catalog;
    struct arena arena; /* of the tree */
    struct buf encoded; /* RUN's body; the tree borrows from it */
    struct query_tree tree;
    struct query_finish *finish;
    bool moves; /* reports decide about the end */
    bool finish_told;
    bool ended;          /* all workers are done */
    bool lost;           /* a link to a worker that takes part is */
    struct diag failure; /* err is set: nothing but this comes any more */
    uint64_t ts;
    uint64_t rows_returned;
    uint64_t partitions;
    uint16_t worker_count;
    struct participant *participants; /* of each worker */
    struct signal *received;          /* oldest first */
    struct signal **received_end;
    struct signal *held; /* rows are borrowed from it */
};

/* ---- signals ---- */

static void on_receive(struct client_listener *listener, struct signal *signal)
{
    struct db_query *query = listener->context;
    signal->next = NULL;
    *query->received_end = signal;
    query->received_end = &signal->next;
}

static void on_lost(struct client_listener *listener, uint16_t worker)
{
    struct db_query *query = listener->context;
    if (!query->participants[worker].done) query->lost = true;
}

/* The next signal, waiting for it. */
static enum err take_signal(struct db_query *query, struct signal **ret_signal)
{
    while (!query->received) {
        if (query->lost) return ERR_LINK_LOST;
        enum err err = client_pump(query->client, -1);
        if (err && err != ERR_TIMEOUT) return err;
    }
    struct signal *signal = query->received;
    query->received = signal->next;
    if (!query->received) query->received_end = &query->received;
    signal->next = NULL;
    *ret_signal = signal;
    return ERR_NONE;
}

static enum err fail(struct db_query *query, struct diag *diag, enum err err, const char *text)
{
    if (!query->failure.err) diag_set(&query->failure, err, "%s", text);
    return diag_set(diag, query->failure.err, "%s", query->failure.text);
}

static enum err send_more(struct db_query *query, uint16_t worker, uint32_t credits, bool finish)
{
    struct query_more more = {.credits = credits, .finish = finish};
    struct buf buf;
    buf_init(&buf);
    query_more_encode(&more, &buf);
    enum err err = buf.failed
                       ? ERR_NO_MEMORY
                       : client_send_new(query->client, worker, SIGNAL_QUERY_MORE,
                                         query->listener.request, buf.bytes, (uint32_t)buf.size);
    buf_fini(&buf);
    return err;
}

/* ---- opening ---- */

/* Which workers take part: those that own partitions of the touched slots; all that own any when
 * rows move. By the number that `participants` was made for: the node's may have changed since. */
static void find_participants(struct db_query *query)
{
    struct db *db = db_client_db(query->client);
    const struct query_tree *tree = &query->tree;
    uint16_t partition_count = db_partition_count(db);
    uint8_t touched[PARTITIONS_MAX] = {0};
    for (uint32_t i = 0; i < tree->slot_count; i++)
        touched[tree->slots[i] & (partition_count - 1)] = 1;
    query->moves = query_moves_rows(tree);
    uint16_t count = 0;
    for (uint16_t p = 0; p < partition_count; p++) {
        struct participant *participant = &query->participants[p % query->worker_count];
        bool scanned = !tree->pruned || touched[p];
        query->partitions += scanned || query->moves;
        if ((!scanned && !query->moves) || participant->takes_part) continue;
        participant->takes_part = true;
        count++;
    }
    if (count < 2) query->moves = false;
}

static enum err prepare_close(struct db_query *query, uint16_t worker)
{
    struct signal *signal = signal_create(0);
    if (!signal) return ERR_NO_MEMORY;
    signal->header.type = SIGNAL_QUERY_CLOSE;
    signal->header.destination = worker;
    signal->header.request = query->listener.request;
    query->participants[worker].close = signal;
    return ERR_NONE;
}

static uint16_t participant_count(const struct db_query *query)
{
    uint16_t count = 0;
    for (uint16_t w = 0; w < query->worker_count; w++)
        count = (uint16_t)(count + query->participants[w].takes_part);
    return count;
}

/* Pins every worker's snapshot and sets T to the greatest. */
static enum err open_snapshot(struct db_query *query, struct diag *diag)
{
    uint16_t waiting = 0;
    for (uint16_t w = 0; w < query->worker_count; w++) {
        if (!query->participants[w].takes_part) continue;
        enum err err =
            client_send_new(query->client, w, SIGNAL_QUERY_OPEN, query->listener.request, NULL, 0);
        if (err) return fail(query, diag, err, err_text(err));
        waiting++;
    }
    while (waiting) {
        struct signal *signal;
        enum err err = take_signal(query, &signal);
        if (err) return fail(query, diag, err, err_text(err));
        uint32_t source = signal->header.source;
        struct reader reader = reader_of(signal->body, signal_body_size(signal));
        uint64_t ts = reader_u64(&reader);
        err = (enum err)signal->header.err;
        if (!err && (signal->header.type != SIGNAL_QUERY_OPENED || source >= query->worker_count ||
                     !query->participants[source].takes_part ||
                     query->participants[source].opened || reader.failed || reader_left(&reader)))
            err = ERR_BAD_SIGNAL;
        signal_destroy(signal);
        if (err) return fail(query, diag, err, err_text(err));
        query->participants[source].opened = true;
        if (ts > query->ts) query->ts = ts;
        waiting--;
    }
    return ERR_NONE;
}

static enum err run_workers(struct db_query *query, struct diag *diag)
{
    struct query_run run = {
        .ts = query->ts,
        .memory_max = db_query_memory_max(query->client->db),
        .window = ROWS_WINDOW,
        .alone = !query->moves,
    };
    struct buf body;
    buf_init(&body);
    query_run_encode(&run, &body);
    buf_put(&body, query->encoded.bytes, query->encoded.size);
    enum err err = body.failed ? ERR_NO_MEMORY : ERR_NONE;
    if (!err && body.size > SIGNAL_BODY_SIZE_MAX) err = ERR_TOO_BIG;
    for (uint16_t w = 0; !err && w < query->worker_count; w++)
        if (query->participants[w].takes_part)
            err = client_send_new(query->client, w, SIGNAL_QUERY_RUN, query->listener.request,
                                  body.bytes, (uint32_t)body.size);
    buf_fini(&body);
    /* With another number of workers each has other partitions than it was chosen for. Links that
     * came up before the sending have told their number, the others are noticed when they go. */
    if (!err && client_worker_count(query->client) != query->worker_count) err = ERR_LINK_LOST;
    return err ? fail(query, diag, err, err_text(err)) : ERR_NONE;
}

/* Our own copy of the tree, checked as the workers will check it. */
static enum err copy_tree(struct db_query *query, const struct query_tree *tree, struct diag *diag)
{
    query_encode(tree, &query->encoded);
    if (query->encoded.failed) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    if (query->encoded.size > QUERY_SIZE_MAX)
        return diag_set(diag, ERR_TOO_BIG, "the query is larger than %d bytes", QUERY_SIZE_MAX);
    struct reader reader = reader_of(query->encoded.bytes, query->encoded.size);
    enum err err = query_decode(&reader, query->catalog, &query->arena, &query->tree);
    return err ? diag_set(diag, err, "%s", err_text(err)) : ERR_NONE;
}

static enum err start(struct db_query *query, struct diag *diag)
{
    find_participants(query);
    uint16_t count = participant_count(query);
    if (!count) {
        query->ended = true;
        return query_finish_end(query->finish, diag);
    }
    for (uint16_t w = 0; w < query->worker_count; w++) {
        if (!query->participants[w].takes_part) continue;
        enum err err = prepare_close(query, w);
        if (err) return diag_set(diag, err, "%s", err_text(err));
    }
    if (count > 1) {
        enum err err = open_snapshot(query, diag);
        if (err) return err;
    }
    return run_workers(query, diag);
}

enum err db_query_open(struct db_client *client, const struct query_tree *tree,
                       struct db_query **ret_query, struct diag *diag)
{
    enum err err = client_reach_all(client, diag);
    if (err) return err;
    struct db_query *query = calloc(1, sizeof(*query));
    uint16_t worker_count = client_worker_count(client);
    struct participant *participants = calloc(worker_count, sizeof(*participants));
    if (!query || !participants) {
        free(query);
        free(participants);
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    query->client = client;
    query->worker_count = worker_count;
    query->participants = participants;
    query->received_end = &query->received;
    arena_init(&query->arena, 0);
    buf_init(&query->encoded);
    query->listener =
        (struct client_listener){.receive = on_receive, .lost = on_lost, .context = query};
    client_listen(client, &query->listener);
    query->catalog = db_catalog_acquire(db_client_db(client));
    err = copy_tree(query, tree, diag);
    if (!err)
        err = query_finish_create(&query->tree, query->catalog, db_query_memory_max(client->db),
                                  &query->finish, diag);
    if (!err) err = start(query, diag);
    if (err) {
        db_query_close(query);
        return err;
    }
    *ret_query = query;
    return ERR_NONE;
}

/* ---- taking rows ---- */

static enum err take_idle(struct db_query *query, struct participant *participant,
                          struct reader *reader)
{
    participant->idle_taken = reader_u64(reader);
    uint16_t count = reader_u16(reader);
    if (reader->failed || count != query->worker_count || !query->moves) return ERR_BAD_SIGNAL;
    for (uint16_t w = 0; w < count; w++)
        participant->idle_sent[w] = reader_u64(reader);
    if (reader->failed || reader_left(reader)) return ERR_BAD_SIGNAL;
    participant->idle = true;
    return ERR_NONE;
}

/* Every batch that was sent to a worker was taken by it, over the newest reports of all. */
static bool moves_are_over(const struct db_query *query)
{
    for (uint16_t to = 0; to < query->worker_count; to++) {
        uint64_t sent = 0;
        for (uint16_t from = 0; from < query->worker_count; from++) {
            const struct participant *participant = &query->participants[from];
            if (!participant->takes_part) continue;
            if (!participant->idle) return false;
            sent += participant->idle_sent[to];
        }
        if (sent != query->participants[to].idle_taken) return false;
    }
    return true;
}

static enum err tell_finish(struct db_query *query)
{
    if (query->finish_told || !moves_are_over(query)) return ERR_NONE;
    query->finish_told = true;
    enum err err = ERR_NONE;
    for (uint16_t w = 0; !err && w < query->worker_count; w++)
        if (query->participants[w].takes_part) err = send_more(query, w, 0, true);
    return err;
}

static enum err take_failure(struct db_query *query, struct signal *signal, struct reader *reader,
                             struct diag *diag)
{
    enum err err = (enum err)signal->header.err;
    size_t size = 0;
    const uint8_t *text = reader_bytes(reader, DIAG_TEXT_SIZE_MAX, &size);
    char reason[DIAG_TEXT_SIZE_MAX + 1] = {0};
    if (text && size) memcpy(reason, text, size);
    if (!err) err = ERR_BAD_SIGNAL;
    return fail(query, diag, err, size ? reason : err_text(err));
}

/* What can be said about a ROWS before its payload is looked at. */
static enum err check_rows(struct db_query *query, const struct signal *signal,
                           const struct query_rows *rows)
{
    if (signal->header.type != SIGNAL_QUERY_ROWS || signal->header.source >= query->worker_count)
        return ERR_BAD_SIGNAL;
    struct participant *participant = &query->participants[signal->header.source];
    if (!participant->takes_part || participant->done || rows->sequence != participant->sequence)
        return ERR_BAD_SIGNAL;
    participant->sequence++;
    participant->rows_scanned = rows->rows_scanned;
    participant->memory_peak = rows->memory_peak;
    if (rows->ts > query->ts) query->ts = rows->ts;
    return ERR_NONE;
}

static enum err take_payload(struct db_query *query, struct signal *signal,
                             const struct query_rows *rows, struct reader *reader,
                             struct diag *diag)
{
    enum err err = query_finish_take(query->finish, (enum query_rows_kind)rows->kind, reader, diag);
    if (!err && rows->kind == QUERY_ROWS_BATCH) {
        query->held = signal; /* the credit goes back when its rows are used up */
        return ERR_NONE;
    }
    if (!err) {
        err = send_more(query, (uint16_t)signal->header.source, 1, false);
        if (err) diag_set(diag, err, "%s", err_text(err));
    }
    signal_destroy(signal);
    return err;
}

static enum err take_end(struct db_query *query, struct participant *participant, struct diag *diag)
{
    participant->done = true;
    signal_destroy(participant->close);
    participant->close = NULL;
    for (uint16_t w = 0; w < query->worker_count; w++)
        if (query->participants[w].takes_part && !query->participants[w].done) return ERR_NONE;
    query->ended = true;
    return query_finish_end(query->finish, diag);
}

/* Handles one signal of a worker. */
static enum err take_rows(struct db_query *query, struct signal *signal, struct diag *diag)
{
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    struct query_rows rows;
    enum err err = ERR_NONE;
    if (signal->header.err) {
        if (query_rows_decode(&reader, &rows)) reader.failed = true;
        err = take_failure(query, signal, &reader, diag);
        signal_destroy(signal);
        return err;
    }
    err = query_rows_decode(&reader, &rows);
    if (!err) err = check_rows(query, signal, &rows);
    struct participant *participant = &query->participants[err ? 0 : signal->header.source];
    if (!err && query_rows_has_payload(rows.kind))
        return take_payload(query, signal, &rows, &reader, diag);
    if (!err && rows.kind == QUERY_ROWS_IDLE) {
        err = take_idle(query, participant, &reader);
        if (!err) err = tell_finish(query);
    } else if (!err && rows.kind == QUERY_ROWS_DONE) {
        signal_destroy(signal);
        return take_end(query, participant, diag);
    } else if (!err) {
        err = ERR_BAD_SIGNAL; /* a failure without an error */
    }
    signal_destroy(signal);
    return err ? diag_set(diag, err, "%s", err_text(err)) : ERR_NONE;
}

static enum err release_held(struct db_query *query)
{
    struct signal *held = query->held;
    if (!held) return ERR_NONE;
    query->held = NULL;
    enum err err = send_more(query, (uint16_t)held->header.source, 1, false);
    signal_destroy(held);
    return err;
}

static enum err next(struct db_query *query, const struct value **ret_row, struct diag *diag)
{
    for (;;) {
        enum err err = query_finish_next(query->finish, ret_row, diag);
        if (err != ERR_BUSY) return err;
        ASSERT(!query->ended);
        err = release_held(query);
        struct signal *signal;
        if (!err) err = take_signal(query, &signal);
        if (err) return diag_set(diag, err, "%s", err_text(err));
        err = take_rows(query, signal, diag);
        if (err) return err;
    }
}

/* Workers that are not needed any more. */
static void close_workers(struct db_query *query)
{
    for (uint16_t w = 0; w < query->worker_count; w++) {
        struct signal *signal = query->participants[w].close;
        query->participants[w].close = NULL;
        if (signal) client_send(query->client, signal, 0);
    }
}

enum err db_query_next(struct db_query *query, const struct value **ret_row, struct diag *diag)
{
    if (query->failure.err) return diag_set(diag, query->failure.err, "%s", query->failure.text);
    struct diag reason = {.err = ERR_NONE};
    enum err err = next(query, ret_row, &reason);
    if (!err) {
        query->rows_returned++;
        return ERR_NONE;
    }
    /* At the end, by LIMIT or by failure, whoever still runs may stop. */
    close_workers(query);
    if (err == ERR_END) return err;
    return fail(query, diag, err, reason.err ? reason.text : err_text(err));
}

void db_query_stats(const struct db_query *query, struct db_query_stats *ret_stats)
{
    struct db_query_stats stats = {
        .rows_returned = query->rows_returned,
        .partitions = query->partitions,
        .memory_bytes_peak = query->finish ? query_finish_memory_peak(query->finish) : 0,
        .snapshot_ts = query->ts,
    };
    for (uint16_t w = 0; w < query->worker_count; w++) {
        stats.rows_scanned += query->participants[w].rows_scanned;
        stats.memory_bytes_peak += query->participants[w].memory_peak;
    }
    *ret_stats = stats;
}

void db_query_close(struct db_query *query)
{
    if (!query) return;
    close_workers(query);
    client_unlisten(query->client, &query->listener);
    while (query->received) {
        struct signal *signal = query->received;
        query->received = signal->next;
        signal_destroy(signal);
    }
    signal_destroy(query->held);
    query_finish_destroy(query->finish);
    if (query->catalog) db_catalog_release(db_client_db(query->client), query->catalog);
    arena_fini(&query->arena);
    buf_fini(&query->encoded);
    free(query->participants);
    free(query);
}
