/* Programs without waiting.
 *
 * A submitted program is a copy of its bytes and goes through these hands: running (its signal is
 * with a worker, or it was run in the call), deferred (it met a conflict and waits for its next
 * attempt), finished (its reply is there; done is called by the next db_poll, or by the worker's
 * loop for a client on its thread), idle (for reuse). done is never called from within db_submit or
 * a nested turn, so it may use the client as it likes. */
#include <stdlib.h>

#include "base/check.h"
#include "db/api/db_private.h"
#include "db/node/worker_private.h"

struct submit {
    struct client_listener listener;
    struct worker_durable durable;
    struct db_client *client;
    struct submit *next; /* of the list it is in */
    struct submit *next_of_all;
    void (*done)(void *context, struct program_reply *reply);
    void *context;
    struct program_reply reply;
    struct program program; /* its bytes and slots: a finished one */
    unsigned attempt;
    uint64_t begin_ns;
    uint64_t retry_ns;
    bool waits_durable;
};

static void finish(struct submit *one)
{
    struct db_client *client = one->client;
    one->next = NULL;
    if (client->finished)
        client->finished_last->next = one;
    else
        client->finished = one;
    client->finished_last = one;
}

static void defer(struct submit *one, uint64_t now)
{
    struct db_client *client = one->client;
    one->retry_ns = now + client_backoff_ns(client, one->attempt);
    one->next = client->deferred;
    client->deferred = one;
    if (client->worker &&
        (!client->deferred_timer.armed || client->deferred_timer.at_ns > one->retry_ns))
        worker_timer_arm(client->worker, &client->deferred_timer, one->retry_ns);
}

/* The outcome of an attempt is in reply.err. */
static void attempted(struct submit *one)
{
    uint64_t patience = client_patience_ns(one->reply.err);
    if (patience) {
        uint64_t now = client_monotonic_ns(one->client);
        if (one->attempt == 1) one->begin_ns = now;
        if (now - one->begin_ns <= patience) {
            defer(one, now);
            return;
        }
    }
    finish(one);
}

static void on_reply(struct client_listener *listener, struct signal *signal)
{
    struct submit *one = listener->context;
    client_unlisten(one->client, listener);
    enum err err = client_take_reply(signal, &one->reply);
    one->reply.err = err;
    attempted(one);
}

static void on_durable(struct worker_durable *durable, enum err err)
{
    struct submit *one = durable->context;
    one->waits_durable = false;
    if (err) one->reply.err = ERR_OUTCOME_UNKNOWN;
    finish(one);
}

static void attempt_inline(struct submit *one)
{
    struct db_client *client = one->client;
    struct program_reply *reply = &one->reply;
    if (atomic_load_explicit(&client->node->closing, memory_order_relaxed)) {
        reply->err = ERR_CLOSED;
        finish(one);
        return;
    }
    enum err err =
        worker_run_directly(client->worker, one->program.buf.bytes, one->program.buf.size, reply);
    if (!err && reply->commit_ts && client->node->config.flush_always) {
        one->waits_durable = true;
        one->durable =
            (struct worker_durable){.ready = on_durable, .context = one, .ts = reply->commit_ts};
        worker_when_durable(client->worker, &one->durable);
        return;
    }
    attempted(one);
}

static void attempt(struct submit *one)
{
    struct db_client *client = one->client;
    bool is_inline;
    uint16_t target =
        client_target(client, one->program.slots, one->program.section_count, &is_inline);
    one->attempt++;
    if (is_inline) {
        attempt_inline(one);
        return;
    }
    one->listener = (struct client_listener){.receive = on_reply, .context = one};
    uint64_t request = client_listen(client, &one->listener);
    enum err err = client_send_new(client, target, SIGNAL_PROGRAM, request, one->program.buf.bytes,
                                   (uint32_t)one->program.buf.size);
    if (!err) return;
    client_unlisten(client, &one->listener);
    one->reply.err = err;
    finish(one);
}

static enum err take_idle(struct db_client *client, struct submit **ret_one)
{
    if (client->submit_count >= CLIENT_SUBMITS_MAX) return ERR_BUSY;
    struct submit *one = client->idle;
    if (one) {
        client->idle = one->next;
    } else {
        one = calloc(1, sizeof(*one));
        if (!one) return ERR_NO_MEMORY;
        one->client = client;
        program_init(&one->program);
        program_reply_init(&one->reply);
        one->next_of_all = client->all;
        client->all = one;
    }
    client->submit_count++;
    *ret_one = one;
    return ERR_NONE;
}

static void give_idle(struct submit *one)
{
    struct db_client *client = one->client;
    client->submit_count--;
    one->next = client->idle;
    client->idle = one;
}

enum err db_submit(struct db_client *client, struct program *program,
                   void (*done)(void *context, struct program_reply *reply), void *context)
{
    enum err err = program_finish(program);
    if (err) return err;
    struct submit *one;
    err = take_idle(client, &one);
    if (err) return err;
    struct buf *bytes = &one->program.buf;
    buf_clear(bytes);
    buf_put(bytes, program->buf.bytes, program->buf.size);
    if (bytes->failed) {
        give_idle(one);
        return ERR_NO_MEMORY;
    }
    one->program.section_count = program->section_count;
    memcpy(one->program.slots, program->slots, sizeof(program->slots));
    one->done = done;
    one->context = context;
    one->attempt = 0;
    attempt(one);
    return ERR_NONE;
}

static void retry_due(struct db_client *client)
{
    if (!client->deferred) return;
    uint64_t now = client_monotonic_ns(client);
    struct submit *all = client->deferred;
    client->deferred = NULL;
    while (all) {
        struct submit *one = all;
        all = one->next;
        if (one->retry_ns <= now) {
            attempt(one);
        } else {
            one->next = client->deferred;
            client->deferred = one;
        }
    }
    uint64_t due = submit_due_ns(client);
    if (client->worker && client->deferred && due)
        worker_timer_arm(client->worker, &client->deferred_timer, due);
}

uint32_t submit_turn(struct db_client *client)
{
    if (!client->finished && !client->deferred) return 0;
    if (client->delivering) return 0; /* from within done */
    client->delivering = true;
    retry_due(client);
    uint32_t count = 0;
    /* Only what is finished now: done may submit more. */
    struct submit *all = client->finished;
    client->finished = NULL;
    while (all) {
        struct submit *one = all;
        all = one->next;
        one->done(one->context, &one->reply);
        give_idle(one);
        count++;
    }
    client->delivering = false;
    return count;
}

uint64_t submit_due_ns(const struct db_client *client)
{
    if (client->finished) return 0;
    uint64_t due = UINT64_MAX;
    for (const struct submit *one = client->deferred; one; one = one->next)
        if (one->retry_ns < due) due = one->retry_ns;
    return due;
}

uint32_t db_poll(struct db_client *client, int timeout_ms)
{
    uint64_t now = client_monotonic_ns(client);
    uint64_t end = timeout_ms < 0 ? UINT64_MAX : now + (uint64_t)timeout_ms * UINT64_C(1000000);
    for (;;) {
        uint64_t due = submit_due_ns(client);
        uint64_t until = due < end ? due : end;
        enum err err = client_pump_ns(client, until == UINT64_MAX ? UINT64_MAX
                                              : until > now       ? until - now
                                                                  : 0);
        (void)err; /* time is looked at below */
        uint32_t count = submit_turn(client);
        if (count) return count;
        if (client->submit_count == 0 && timeout_ms < 0) return 0; /* nothing will ever come */
        now = client_monotonic_ns(client);
        if (now >= end) return 0;
    }
}

static void deferred_fire(struct worker_timer *timer)
{
    (void)timer; /* the loop's turn of the client looks at what is due */
}

void submit_start(struct db_client *client)
{
    client->deferred_timer = (struct worker_timer){.fire = deferred_fire, .context = client};
}

void submit_stop(struct db_client *client)
{
    if (client->worker) worker_timer_disarm(client->worker, &client->deferred_timer);
    while (client->all) {
        struct submit *one = client->all;
        client->all = one->next_of_all;
        if (one->listener.request) client_unlisten(client, &one->listener);
        while (one->waits_durable)
            worker_nested_turn(client->worker, UINT64_MAX);
        program_fini(&one->program);
        program_reply_fini(&one->reply);
        free(one);
    }
}
