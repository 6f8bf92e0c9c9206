/* Programs on one worker: decode, execute, log, commit, answer.
 *
 * This is the path that nearly every request takes, inline in the client's call when the client is
 * on the worker's own thread, so it allocates nothing once its arena and buffers have grown. The
 * order at the end matters: the redo record is in the log's memory before the change is visible,
 * and nothing can fail after that.
 *
 * A change is refused before it is logged when the log has failed (the health); reads go on. */
#include "db/node/worker_private.h"

#include <stdlib.h>

#include "base/check.h"

enum { KEPT_SIZE_MAX = 1 << 20 }; /* of a buffer between programs */

enum err worker_commit(struct worker *worker, struct change_set *changes, uint64_t *ret_ts)
{
    if (change_set_is_empty(changes)) {
        *ret_ts = 0;
        return ERR_NONE;
    }
    enum err err = node_health(worker->node);
    if (err) goto rollback;
    buf_clear(&worker->redo_body);
    change_set_encode(changes, &worker->redo_body);
    err = ERR_NO_MEMORY;
    if (worker->redo_body.failed) goto rollback;
    uint64_t size = worker->redo_body.size;
    err = ERR_TOO_BIG;
    if (size > UINT32_MAX) goto rollback;
    err = redo_check(worker->redo, size + worker->prepared.redo_size);
    if (err) goto rollback;
    uint64_t ts = worker_clock_next(worker);
    err = redo_append(worker->redo, ts, worker->redo_body.bytes, (uint32_t)size);
    if (err) {
        node_fail(worker->node, err, "redo log %u: %s", (unsigned)worker->index, err_text(err));
        goto rollback;
    }
    change_set_commit(changes, ts);
    worker->counters.commits++;
    flush_note(worker, size);
    *ret_ts = ts;
    return ERR_NONE;

rollback:
    change_set_rollback(changes);
    return err;
}

/* Commits what the program did, or takes it back. */
static enum err program_end(struct worker *worker, enum err err, uint64_t *ret_commit_ts)
{
    *ret_commit_ts = 0;
    if (err)
        change_set_rollback(worker->changes);
    else
        err = worker_commit(worker, worker->changes, ret_commit_ts);
    worker->counters.programs++;
    if (err) worker->counters.programs_failed++;
    return err;
}

void worker_run_program(struct worker *worker, const void *bytes, size_t size, struct buf *reply,
                        enum err *ret_err, uint64_t *ret_commit_ts)
{
    size_t at = reply->size;
    uint8_t failed_step = 0;
    uint64_t commit_ts;
    program_reply_begin(reply);
    arena_reset(&worker->arena);
    struct reader reader = reader_of(bytes, size);
    struct program_decoded program;
    enum err err = program_decode(&reader, worker->catalog, &worker->arena, &program);
    if (!err)
        err = execute_program(&worker->executor, &program, worker->changes, reply, &failed_step);
    err = program_end(worker, err, &commit_ts);
    if (err && reply->size > at + PROGRAM_REPLY_HEADER_SIZE)
        reply->size = at + PROGRAM_REPLY_HEADER_SIZE;
    if (reply->size >= at + PROGRAM_REPLY_HEADER_SIZE)
        program_reply_end(reply, at, err, failed_step, commit_ts);
    *ret_err = err;
    *ret_commit_ts = commit_ts;
}

static enum err run_directly(struct worker *worker, const struct program_decoded *program,
                             struct program_reply *reply, enum err err)
{
    uint8_t failed_step = 0;
    uint64_t commit_ts;
    program_reply_clear(reply);
    if (!err)
        err = execute_program_directly(&worker->executor, program, worker->changes, reply,
                                       &failed_step);
    err = program_end(worker, err, &commit_ts);
    enum err outcome = program_reply_finish(reply, err, failed_step, commit_ts);
    /* It is committed, but there is no memory to say what it gave. */
    if (outcome && commit_ts) outcome = reply->err = ERR_OUTCOME_UNKNOWN;
    return outcome;
}

enum err worker_run_decoded(struct worker *worker, const struct program_decoded *program,
                            struct program_reply *reply)
{
    arena_reset(&worker->arena);
    return run_directly(worker, program, reply, ERR_NONE);
}

enum err worker_run_directly(struct worker *worker, const void *bytes, size_t size,
                             struct program_reply *reply)
{
    arena_reset(&worker->arena);
    struct reader reader = reader_of(bytes, size);
    struct program_decoded program;
    enum err err = program_decode(&reader, worker->catalog, &worker->arena, &program);
    return run_directly(worker, &program, reply, err);
}

void worker_answer_program(struct worker *worker, struct signal *signal, const void *reply,
                           size_t size, bool committed)
{
    if (size > signal->capacity) {
        struct signal *larger = size <= SIGNAL_BODY_SIZE_MAX ? signal_create((uint32_t)size) : NULL;
        if (!larger) {
            worker_reply(worker, signal, SIGNAL_PROGRAM_REPLY,
                         committed ? ERR_OUTCOME_UNKNOWN : ERR_NO_MEMORY, NULL, 0);
            return;
        }
        larger->header = signal->header;
        signal_destroy(signal);
        signal = larger;
    }
    worker_reply(worker, signal, SIGNAL_PROGRAM_REPLY, ERR_NONE, reply, (uint32_t)size);
}

/* A reply that is held back until the transaction is durable. */
struct durable_reply {
    struct worker_durable durable;
    struct worker *worker;
    struct signal *signal;
    struct buf reply;
};

static void reply_durable(struct worker_durable *durable, enum err err)
{
    struct durable_reply *held = durable->context;
    /* It is committed in memory and cannot be taken back: whether it is found after a restart is
     * open. */
    if (err)
        worker_reply(held->worker, held->signal, SIGNAL_PROGRAM_REPLY, ERR_OUTCOME_UNKNOWN, NULL,
                     0);
    else
        worker_answer_program(held->worker, held->signal, held->reply.bytes, held->reply.size,
                              true);
    buf_fini(&held->reply);
    node_open_end(held->worker->node);
    free(held);
}

/* The node's end waits for the reply from here on (the caller's node_open_begin). */
static void reply_when_durable(struct worker *worker, struct signal *signal, uint64_t ts)
{
    struct durable_reply *held = calloc(1, sizeof(*held));
    if (!held) {
        worker_reply(worker, signal, SIGNAL_PROGRAM_REPLY, ERR_OUTCOME_UNKNOWN, NULL, 0);
        node_open_end(worker->node);
        return;
    }
    held->worker = worker;
    held->signal = signal;
    held->reply = worker->reply;
    buf_init(&worker->reply);
    held->durable = (struct worker_durable){.ready = reply_durable, .context = held, .ts = ts};
    worker_when_durable(worker, &held->durable);
}

static void on_program(struct worker *worker, struct signal *signal)
{
    enum err err = ERR_CLOSED;
    if (atomic_load_explicit(&worker->node->closing, memory_order_relaxed)) goto refuse;
    struct program_outline outline;
    uint32_t size = signal_body_size(signal);
    err = program_outline_decode(signal->body, size, &outline);
    if (err) goto refuse;
    for (uint16_t i = 0; i < outline.section_count; i++) {
        if (worker_slot_owner(worker, outline.sections[i].slot) == worker->index) continue;
        two_phase_run(worker, signal, &outline);
        return;
    }
    /* Its reply may be held back; a node that closes waits for that. */
    bool held = !outline.only_reads && worker->node->config.flush_always;
    err = ERR_CLOSED;
    if (held && !node_open_begin(worker->node)) goto refuse;
    buf_clear(&worker->reply);
    uint64_t commit_ts;
    worker_run_program(worker, signal->body, size, &worker->reply, &err, &commit_ts);
    if (held && commit_ts && !worker->reply.failed) {
        reply_when_durable(worker, signal, commit_ts);
        return;
    }
    if (held) node_open_end(worker->node);
    if (worker->reply.failed) {
        err = commit_ts ? ERR_OUTCOME_UNKNOWN : ERR_NO_MEMORY;
        goto refuse;
    }
    worker_answer_program(worker, signal, worker->reply.bytes, worker->reply.size, commit_ts != 0);
    if (worker->reply.capacity > KEPT_SIZE_MAX) buf_fini(&worker->reply);
    return;

refuse:
    worker_reply(worker, signal, SIGNAL_PROGRAM_REPLY, err, NULL, 0);
}

void programs_start(struct worker *worker)
{
    worker_on(worker, SIGNAL_PROGRAM, on_program);
}
