/* Programs over several workers: two-phase commit by signals. The state machines are db/txn's
 * (coordinator.h, participant.h); this file carries their messages.
 *
 *   client --PROGRAM--> coordinator --PREPARE--> participants (perhaps itself among them)
 *                                   <-PREPARED--   executed, rows locked, log room kept, or rolled
 * back
 *                                   --COMMIT---> logged and committed at the greatest prepare
 * timestamp
 *                                   <-COMMITTED-
 *   client <--PROGRAM_REPLY--
 *
 * (ABORT and ABORTED in place of COMMIT and COMMITTED to those that voted yes when another voted
 * no.)
 *
 * Nothing waits: a prepared row that another program meets is ERR_CONFLICT for that program, so
 * there is no deadlock. Within the process signals are not lost, and none of the later ones needs
 * memory: a decision travels in the block of the vote it answers, an acknowledgement in the block
 * of the decision. A participant that voted yes has reserved its log room, so a commit cannot fail;
 * should the log fail for memory all the same, the transaction is committed here as elsewhere, the
 * node's health turns bad, and since the failed log's horizon stands still, recovery cuts the
 * transaction everywhere. */
#include "db/node/worker_private.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/txn/coordinator.h"

/* One program under coordination. */
struct transaction {
    struct coordinator core;
    struct worker *worker;
    struct signal *request;                     /* the client's, for the answer */
    struct signal *votes[PROGRAM_SECTIONS_MAX]; /* blocks for the decision, by part */
    struct worker_durable durable;
    struct transaction *next;
};

static struct transaction **transaction_link(struct worker *worker, uint64_t txn)
{
    struct transaction **link = &worker->transactions[hash_u64(txn) % TRANSACTION_BUCKETS];
    while (*link && (*link)->core.txn != txn)
        link = &(*link)->next;
    return link;
}

static void transaction_destroy(struct transaction *transaction)
{
    for (uint16_t i = 0; i < PROGRAM_SECTIONS_MAX; i++)
        signal_destroy(transaction->votes[i]);
    signal_destroy(transaction->request);
    coordinator_fini(&transaction->core);
    free(transaction);
}

/* ---- the coordinator ---- */

static void transaction_answer(struct transaction *transaction)
{
    struct worker *worker = transaction->worker;
    struct signal *request = transaction->request;
    transaction->request = NULL;
    const struct buf *reply = coordinator_reply(&transaction->core);
    bool committed = transaction->core.err == ERR_NONE && !transaction->core.only_reads;
    if (reply->failed)
        worker_reply(worker, request, SIGNAL_PROGRAM_REPLY,
                     committed ? ERR_OUTCOME_UNKNOWN : ERR_NO_MEMORY, NULL, 0);
    else
        worker_answer_program(worker, request, reply->bytes, reply->size, committed);
    node_open_end(worker->node);
    transaction_destroy(transaction);
}

static void transaction_durable(struct worker_durable *durable, enum err err)
{
    struct transaction *transaction = durable->context;
    if (!err) {
        transaction_answer(transaction);
        return;
    }
    worker_reply(transaction->worker, transaction->request, SIGNAL_PROGRAM_REPLY,
                 ERR_OUTCOME_UNKNOWN, NULL, 0);
    transaction->request = NULL;
    node_open_end(transaction->worker->node);
    transaction_destroy(transaction);
}

static void transaction_done(struct transaction *transaction)
{
    struct worker *worker = transaction->worker;
    const struct coordinator *core = &transaction->core;
    *transaction_link(worker, core->txn) = transaction->next;
    transaction->next = NULL;
    worker->transaction_count--;
    worker->counters.coordinated++;
    if (core->err) worker->counters.coordinated_aborted++;
    if (core->err == ERR_NONE && !core->only_reads && worker->node->config.flush_always) {
        transaction->durable = (struct worker_durable){
            .ready = transaction_durable, .context = transaction, .ts = core->commit_ts};
        worker_when_durable(worker, &transaction->durable);
        return;
    }
    transaction_answer(transaction);
}

static void transaction_decide(struct transaction *transaction, enum coordinator_next next)
{
    struct worker *worker = transaction->worker;
    struct coordinator *core = &transaction->core;
    worker_clock_observe(worker, core->commit_ts);
    for (uint16_t i = 0; i < core->part_count; i++) {
        if (!core->parts[i].voted_yes) continue;
        struct signal *signal = transaction->votes[i];
        transaction->votes[i] = NULL;
        uint32_t size = 0;
        signal->header.type = SIGNAL_ABORT;
        if (next == COORDINATOR_COMMIT) {
            signal->header.type = SIGNAL_COMMIT;
            size = sizeof(core->commit_ts);
            memcpy(signal->body, &core->commit_ts, size);
        }
        signal->header.err = ERR_NONE;
        signal->header.destination = core->parts[i].worker;
        worker_send(worker, signal, size);
    }
}

static void transaction_next(struct transaction *transaction, enum coordinator_next next)
{
    if (next == COORDINATOR_COMMIT || next == COORDINATOR_ABORT)
        transaction_decide(transaction, next);
    else if (next == COORDINATOR_DONE)
        transaction_done(transaction);
}

/* Sends the part its sections. On failure the part counts as voted no. */
static enum err prepare_send(struct transaction *transaction, uint16_t part,
                             const struct program_outline *outline)
{
    struct worker *worker = transaction->worker;
    struct coordinator_part *to = &transaction->core.parts[part];
    struct buf *body = &worker->redo_body; /* free at this point, and warm */
    buf_clear(body);
    buf_put_u64(body, transaction->core.txn);
    program_outline_encode(outline, to->sections, body);
    if (body->failed) return ERR_NO_MEMORY;
    return worker_send_new(worker, to->worker, SIGNAL_PREPARE, transaction->core.txn, 0,
                           body->bytes, (uint32_t)body->size);
}

void two_phase_run(struct worker *worker, struct signal *signal,
                   const struct program_outline *outline)
{
    enum err err = ERR_CLOSED;
    if (!node_open_begin(worker->node)) goto refuse;
    err = ERR_BUSY;
    if (worker->transaction_count >= TRANSACTIONS_MAX) goto end;
    struct transaction *transaction = calloc(1, sizeof(*transaction));
    err = ERR_NO_MEMORY;
    if (!transaction) goto end;

    uint16_t owners[PROGRAM_SECTIONS_MAX];
    for (uint16_t i = 0; i < outline->section_count; i++)
        owners[i] = worker_slot_owner(worker, outline->sections[i].slot);
    uint64_t txn = (uint64_t)worker->index << 48 | ++worker->transaction_next;
    coordinator_init(&transaction->core, txn, outline, owners);
    transaction->worker = worker;
    transaction->request = signal;
    transaction->next = worker->transactions[hash_u64(txn) % TRANSACTION_BUCKETS];
    worker->transactions[hash_u64(txn) % TRANSACTION_BUCKETS] = transaction;
    worker->transaction_count++;

    enum coordinator_next next = COORDINATOR_WAIT;
    for (uint16_t i = 0; i < transaction->core.part_count; i++) {
        err = prepare_send(transaction, i, outline);
        if (!err) continue;
        enum err refused = coordinator_vote(&transaction->core, transaction->core.parts[i].worker,
                                            err, NULL, 0, &next);
        ASSERT(!refused);
    }
    /* Only a part that could not be asked has voted by now. */
    transaction_next(transaction, next);
    return;

end:
    node_open_end(worker->node);
refuse:
    worker_reply(worker, signal, SIGNAL_PROGRAM_REPLY, err, NULL, 0);
}

/* Does the vote promise a timestamp that a sane clock gives? A vote that is no reply is
 * coordinator_vote's to refuse. */
static bool vote_is_plausible(const struct worker *worker, const struct signal *signal)
{
    uint64_t ts;
    if (signal_body_size(signal) < PROGRAM_REPLY_HEADER_SIZE) return true;
    memcpy(&ts, signal->body + PROGRAM_REPLY_HEADER_SIZE - sizeof(ts), sizeof(ts));
    return hlc_is_plausible(&worker->clock, ts, worker_realtime(worker));
}

static void on_prepared(struct worker *worker, struct signal *signal)
{
    struct transaction *transaction = *transaction_link(worker, signal->header.request);
    enum coordinator_next next = COORDINATOR_WAIT;
    if (!transaction || signal->header.source >= worker_count(worker) ||
        !vote_is_plausible(worker, signal) ||
        coordinator_vote(&transaction->core, (uint16_t)signal->header.source,
                         (enum err)signal->header.err, signal->body, signal_body_size(signal),
                         &next)) {
        worker->counters.signals_dropped++;
        signal_destroy(signal);
        return;
    }
    const struct coordinator_part *part =
        coordinator_part_of(&transaction->core, (uint16_t)signal->header.source);
    transaction->votes[part - transaction->core.parts] = signal;
    transaction_next(transaction, next);
}

/* COMMITTED and ABORTED. */
static void on_acknowledged(struct worker *worker, struct signal *signal)
{
    struct transaction *transaction = *transaction_link(worker, signal->header.request);
    enum coordinator_next next = COORDINATOR_WAIT;
    if (!transaction || signal->header.err || signal->header.source >= worker_count(worker) ||
        coordinator_acknowledge(&transaction->core, (uint16_t)signal->header.source, &next))
        worker->counters.signals_dropped++;
    signal_destroy(signal);
    transaction_next(transaction, next);
}

/* ---- the participant ---- */

/* Executes the sections into one's change set; the reply, header included, goes to worker->reply.
 */
static enum err prepare_execute(struct worker *worker, struct participant *one, const void *bytes,
                                size_t size, uint8_t *ret_failed_step)
{
    struct program_outline outline;
    enum err err = program_outline_decode(bytes, size, &outline);
    if (err) return err;
    if (!outline.only_reads) {
        err = node_health(worker->node);
        if (err) return err;
    }
    struct reader reader = reader_of(bytes, size);
    struct program_decoded program;
    arena_reset(&worker->arena);
    err = program_decode(&reader, worker->catalog, &worker->arena, &program);
    if (err) return err;
    struct executor executor = worker->executor;
    executor.lock_reads = true;
    err = execute_program(&executor, &program, one->changes, &worker->reply, ret_failed_step);
    if (err || outline.only_reads) return err;
    change_set_encode(one->changes, &one->redo);
    if (one->redo.failed) return ERR_NO_MEMORY;
    if (one->redo.size > UINT32_MAX) return ERR_TOO_BIG;
    return redo_check(worker->redo, worker->prepared.redo_size + one->redo.size);
}

static void on_prepare(struct worker *worker, struct signal *signal)
{
    uint8_t failed_step = 0;
    struct participant *one = NULL;
    struct buf *reply = &worker->reply;
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    uint64_t txn = reader_u64(&reader);
    buf_clear(reply);
    program_reply_begin(reply);
    enum err err = ERR_BAD_SIGNAL;
    if (reader.failed || txn != signal->header.request ||
        signal->header.source >= worker_count(worker) || participants_find(&worker->prepared, txn))
        goto refuse;
    err = ERR_CONFLICT;
    if (worker->ddl_block) goto refuse;
    err = participant_create(&worker->prepared, &one);
    if (err) goto refuse;
    err = prepare_execute(worker, one, reader.next, reader_left(&reader), &failed_step);
    if (!err && reply->failed) err = ERR_NO_MEMORY;
    if (err) goto rollback;

    one->txn = txn;
    one->coordinator = signal->header.source;
    one->prepare_ts = worker_clock_next(worker);
    /* The vote must reach the coordinator: its memory is taken before the promise is given. */
    if (reply->size > signal->capacity) {
        struct signal *larger = signal_create((uint32_t)reply->size);
        err = ERR_NO_MEMORY;
        if (!larger) goto rollback;
        larger->header = signal->header;
        signal_destroy(signal);
        signal = larger;
    }
    program_reply_end(reply, 0, ERR_NONE, 0, one->prepare_ts);
    participants_add(&worker->prepared, one);
    worker->counters.prepares++;
    worker_reply(worker, signal, SIGNAL_PREPARED, ERR_NONE, reply->bytes, (uint32_t)reply->size);
    return;

rollback:
    change_set_rollback(one->changes);
    participant_destroy(&worker->prepared, one);
refuse:
    worker->counters.prepares_refused++;
    uint8_t vote[PROGRAM_REPLY_HEADER_SIZE] = {0};
    uint16_t number = (uint16_t)err;
    memcpy(vote, &number, sizeof(number));
    vote[2] = failed_step;
    worker_reply(worker, signal, SIGNAL_PREPARED, ERR_NONE, vote, sizeof(vote));
}

/* The transaction that the decision is about, when the decision is its coordinator's. */
static struct participant *decided(struct worker *worker, const struct signal *signal)
{
    struct participant *one = participants_find(&worker->prepared, signal->header.request);
    return one && one->coordinator == signal->header.source ? one : NULL;
}

static void participant_end(struct worker *worker, struct participant *one)
{
    participants_remove(&worker->prepared, one);
    participant_destroy(&worker->prepared, one);
    snapshot_resolved(worker);
}

static void on_commit(struct worker *worker, struct signal *signal)
{
    struct participant *one = decided(worker, signal);
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    uint64_t ts = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) || !one || ts < one->prepare_ts ||
        !hlc_is_plausible(&worker->clock, ts, worker_realtime(worker))) {
        worker_reply(worker, signal, SIGNAL_COMMITTED, ERR_BAD_SIGNAL, NULL, 0);
        return;
    }
    worker_clock_observe(worker, ts);
    if (one->redo.size == 0) {
        change_set_rollback(one->changes); /* only locks */
    } else {
        uint32_t size = (uint32_t)one->redo.size;
        enum err err = redo_append(worker->redo, ts, one->redo.bytes, size);
        if (err)
            node_fail(worker->node, err, "redo log %u: %s", (unsigned)worker->index, err_text(err));
        change_set_commit(one->changes, ts);
        worker->counters.commits++;
        flush_note(worker, size);
    }
    participant_end(worker, one);
    worker_reply(worker, signal, SIGNAL_COMMITTED, ERR_NONE, NULL, 0);
}

static void on_abort(struct worker *worker, struct signal *signal)
{
    struct participant *one = decided(worker, signal);
    if (!one || signal_body_size(signal) != 0) {
        worker_reply(worker, signal, SIGNAL_ABORTED, ERR_BAD_SIGNAL, NULL, 0);
        return;
    }
    change_set_rollback(one->changes);
    participant_end(worker, one);
    worker_reply(worker, signal, SIGNAL_ABORTED, ERR_NONE, NULL, 0);
}

void two_phase_start(struct worker *worker)
{
    worker_on(worker, SIGNAL_PREPARE, on_prepare);
    worker_on(worker, SIGNAL_PREPARED, on_prepared);
    worker_on(worker, SIGNAL_COMMIT, on_commit);
    worker_on(worker, SIGNAL_COMMITTED, on_acknowledged);
    worker_on(worker, SIGNAL_ABORT, on_abort);
    worker_on(worker, SIGNAL_ABORTED, on_acknowledged);
}

void two_phase_stop(struct worker *worker)
{
    for (unsigned i = 0; i < TRANSACTION_BUCKETS; i++) {
        while (worker->transactions[i]) {
            struct transaction *transaction = worker->transactions[i];
            worker->transactions[i] = transaction->next;
            transaction_destroy(transaction);
        }
    }
}
