/* Clients: sending, waiting, and running programs synchronously.
 *
 * Two kinds share this code. A client of its own thread has a mailbox and sleeps on its descriptor.
 * A client on a worker's thread has none: its signals come through the worker's mailbox, and
 * waiting means giving the worker nested turns, so that while it waits for others, others are
 * served. Programs that only touch that worker's partitions are run right in the call; that is the
 * fast path, and it sends nothing.
 *
 * A program that meets a row locked by another transaction (ERR_CONFLICT), or a full queue or log
 * buffer (ERR_BUSY), is tried again after a random, growing pause; both errors say that nothing has
 * happened. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/api/db_private.h"
#include "db/api/loop.h"
#include "db/node/worker_private.h"

static const uint64_t backoff_ns_min = 10000;
static const uint64_t backoff_ns_max = 4000000;
static const uint64_t conflict_ns_max = 1000000000u;
static const uint64_t busy_ns_max = 10000000000u;

enum {
    WORKER_QUEUE_MAX = 65536, /* signals in a worker's mailbox beyond which requests are refused */
    CALL_ALL_TRIES = 4,       /* while the number of workers changes */
};

/* ---- making and ending ---- */

static void bound_receive(struct endpoint *endpoint, struct signal *signal);
static void bound_turn(struct endpoint *endpoint);

static enum err create(struct db *db, struct worker *worker, struct db_client **ret_client)
{
    struct db_client *client = calloc(1, sizeof(*client));
    struct signal *end = signal_create(0);
    enum err err = ERR_NO_MEMORY;
    if (!client || !end) goto fail;
    client->db = db;
    client->node = db->node;
    client->worker = worker;
    client->end = end;
    client->requests = &client->own;
    err = node_endpoint_open(db->node, worker, &client->endpoint);
    if (err) goto fail;
    client->endpoint->context = client;
    if (worker) {
        client->endpoint->receive = bound_receive;
        client->endpoint->turn = bound_turn;
    }
    client->random = hash_u64(client->endpoint->client);
    program_init(&client->bound);
    submit_start(client);
    *ret_client = client;
    return ERR_NONE;

fail:
    signal_destroy(end);
    free(client);
    return err;
}

/* Of a database in another process: with a channel of its own, or the loop's. */
static enum err create_remote(struct db *db, struct loop *loop, struct db_client **ret_client)
{
    struct remote *remote = db->remote;
    struct db_client *client = calloc(1, sizeof(*client));
    if (!client) return ERR_NO_MEMORY;
    client->db = db;
    client->loop = loop;
    if (loop) {
        client->channel = loop_channel(loop);
        loop_join(loop, client);
    } else {
        pthread_mutex_lock(&remote->mutex);
        client->channel = remote->spare;
        remote->spare = NULL;
        pthread_mutex_unlock(&remote->mutex);
    }
    if (!client->channel) {
        enum err err = channel_create(remote, &client->channel, NULL);
        if (err) {
            free(client);
            return err;
        }
        channel_keep(client->channel);
    }
    client->requests = &client->channel->requests;
    client->losses_seen = atomic_load(&remote->losses);
    remote->random(remote->clock_context, &client->random, sizeof(client->random));
    program_init(&client->bound);
    submit_start(client);
    *ret_client = client;
    return ERR_NONE;
}

static void destroy_remote(struct db_client *client)
{
    if (client->loop)
        loop_leave(client->loop, client);
    else
        channel_destroy(client->channel);
}

enum err db_client_create(struct db *db, struct db_client **ret_client)
{
    return db->remote ? create_remote(db, NULL, ret_client) : create(db, NULL, ret_client);
}

enum err db_client_on_worker(struct db *db, uint16_t index, struct db_client **ret_client)
{
    if (index >= db_loop_count(db)) return ERR_INVALID;
    if (db->remote) {
        struct loop *loop = db->remote->loops[index];
        return loop_is_own_thread(loop) ? create_remote(db, loop, ret_client) : ERR_INVALID;
    }
    struct worker *worker = db->node->workers[index];
    if (worker->thread_started && !pthread_equal(worker->thread, pthread_self()))
        return ERR_INVALID;
    return create(db, worker, ret_client);
}

void db_client_destroy(struct db_client *client)
{
    if (!client) return;
    submit_stop(client);
    if (client->channel) {
        destroy_remote(client);
    } else {
        client->end->header.type = SIGNAL_CLIENT_END;
        client_send(client, client->end, 0); /* from worker 0 to the others */
        node_endpoint_close(client->node, client->endpoint);
    }
    program_fini(&client->bound);
    free(client);
}

struct db *db_client_db(struct db_client *client)
{
    return client->db;
}

/* ---- signals ---- */

uint64_t client_listen(struct db_client *client, struct client_listener *listener)
{
    return requests_listen(client->requests, listener);
}

void client_unlisten(struct db_client *client, struct client_listener *listener)
{
    if (listener->kept) channel_forget(client->channel, listener);
    requests_unlisten(client->requests, listener);
}

static void receive(struct db_client *client, struct signal *signal)
{
    client->requests->received++;
    struct client_listener *listener = requests_find(client->requests, signal->header.request);
    if (listener)
        listener->receive(listener, signal);
    else
        signal_destroy(signal);
}

static void bound_receive(struct endpoint *endpoint, struct signal *signal)
{
    receive(endpoint->context, signal);
}

static void bound_turn(struct endpoint *endpoint)
{
    submit_turn(endpoint->context);
}

void client_send(struct db_client *client, struct signal *signal, uint32_t body_size)
{
    ASSERT(body_size <= signal->capacity);
    struct signal_header *header = &signal->header;
    header->size = (uint32_t)sizeof(*header) + body_size;
    if (client->channel) {
        channel_send(client->channel, signal);
        return;
    }
    header->version = SIGNAL_VERSION;
    header->source = client->endpoint->number;
    header->client = client->endpoint->client;
    header->clock = client_clock(client);
    header->reserved = 0;
    node_send(client->node, signal);
}

enum err client_send_new(struct db_client *client, uint32_t destination, enum signal_type type,
                         uint64_t request, const void *body, uint32_t body_size)
{
    struct signal *signal = signal_create(body_size);
    if (!signal) return ERR_NO_MEMORY;
    signal->header.type = (uint16_t)type;
    signal->header.destination = destination;
    signal->header.request = request;
    if (body_size) memcpy(signal->body, body, body_size);
    client_send(client, signal, body_size);
    return ERR_NONE;
}

/* ---- waiting ---- */

/* Hands out what is in the client's own mailbox; how many. */
static unsigned drain(struct db_client *client)
{
    unsigned count = 0;
    struct signal *signal;
    while ((signal = mailbox_pop(&client->endpoint->mailbox))) {
        const struct signal_header *header = &signal->header;
        if (signal_check(header, header->size) || signal_body_size(signal) > signal->capacity ||
            header->client != client->endpoint->client) {
            signal_destroy(signal);
            continue;
        }
        hlc_observe(&client->clock, header->clock);
        receive(client, signal);
        count++;
    }
    return count;
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

static void sleep_own(struct db_client *client, uint64_t timeout_ns)
{
    struct mailbox *mailbox = &client->endpoint->mailbox;
    if (mailbox->wake_fd < 0 || !mailbox_sleep(mailbox)) return;
    struct pollfd fd = {.fd = mailbox->wake_fd, .events = POLLIN};
    struct timespec timeout = timespec_of(timeout_ns);
    int ready = ppoll(&fd, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    ASSERT(ready >= 0 || errno == EINTR);
    mailbox_awake(mailbox);
    if (ready > 0) mailbox_drain(mailbox);
}

enum err client_pump_ns(struct db_client *client, uint64_t timeout_ns)
{
    uint64_t before = client->requests->received;
    uint64_t now = timeout_ns && timeout_ns != UINT64_MAX ? client_monotonic_ns(client) : 0;
    uint64_t end = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    for (;;) {
        uint64_t left = end == UINT64_MAX ? UINT64_MAX : end > now ? end - now : 0;
        if (client->worker) {
            worker_nested_turn(client->worker, left);
        } else if (client->channel) {
            channel_turn(client->channel, left);
        } else if (!drain(client) && left) {
            sleep_own(client, left);
            drain(client);
        }
        if (client->requests->received != before) return ERR_NONE;
        if (timeout_ns == 0) return ERR_TIMEOUT;
        if (timeout_ns == UINT64_MAX) continue;
        now = client_monotonic_ns(client);
        if (now >= end) return ERR_TIMEOUT;
    }
}

enum err client_pump(struct db_client *client, int timeout_ms)
{
    return client_pump_ns(client,
                          timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * UINT64_C(1000000));
}

struct call {
    struct client_listener listener;
    struct signal *reply;
};

static void call_receive(struct client_listener *listener, struct signal *signal)
{
    struct call *call = listener->context;
    signal_destroy(call->reply);
    call->reply = signal;
}

static enum err call_begin(struct db_client *client, struct call *call, uint32_t worker,
                           enum signal_type type, const void *body, uint32_t body_size)
{
    *call = (struct call){.listener = {.receive = call_receive, .context = call}};
    uint64_t request = client_listen(client, &call->listener);
    enum err err = client_send_new(client, worker, type, request, body, body_size);
    if (err) client_unlisten(client, &call->listener);
    return err;
}

static enum err call_end(struct db_client *client, struct call *call)
{
    enum err err = ERR_NONE;
    while (!call->reply && !err)
        err = client_pump_ns(client, UINT64_MAX);
    client_unlisten(client, &call->listener);
    return call->reply ? ERR_NONE : err;
}

enum err client_call(struct db_client *client, uint32_t worker, enum signal_type type,
                     const void *body, uint32_t body_size, struct signal **ret_reply)
{
    struct call call;
    enum err err = call_begin(client, &call, worker, type, body, body_size);
    if (!err) err = call_end(client, &call);
    if (!err) *ret_reply = call.reply;
    return err;
}

static enum err call_all(struct db_client *client, enum signal_type type, uint16_t count,
                         struct signal *ret_replies[WORKERS_MAX])
{
    struct call calls[WORKERS_MAX];
    uint16_t begun = 0;
    enum err err = ERR_NONE;
    while (begun < count && !err) {
        err = call_begin(client, &calls[begun], begun, type, NULL, 0);
        if (!err) begun++;
    }
    for (uint16_t i = 0; i < begun; i++) {
        enum err one = call_end(client, &calls[i]);
        if (one && !err) err = one;
    }
    for (uint16_t i = 0; i < begun; i++) {
        if (err)
            signal_destroy(calls[i].reply);
        else
            ret_replies[i] = calls[i].reply;
    }
    return err;
}

enum err client_call_all(struct db_client *client, enum signal_type type,
                         struct signal *ret_replies[WORKERS_MAX], uint16_t *ret_count)
{
    for (int tries = 0; tries < CALL_ALL_TRIES; tries++) {
        uint16_t count = client_worker_count(client);
        enum err err = call_all(client, type, count, ret_replies);
        if (err) return err;
        if (count == client_worker_count(client)) {
            *ret_count = count;
            return ERR_NONE;
        }
        /* The node came back with another number of them: those were not all, or not each once. */
        for (uint16_t w = 0; w < count; w++)
            signal_destroy(ret_replies[w]);
    }
    return ERR_BUSY;
}

enum err client_reach_all(struct db_client *client, struct diag *diag)
{
    struct channel *channel = client->channel;
    if (!channel) return ERR_NONE;
    uint64_t end = client_monotonic_ns(client) + client->db->remote->timeout_ns;
    for (uint16_t w = 0; w < client_worker_count(client); w++)
        channel_reach(channel, w);
    for (uint16_t w = 0; w < client_worker_count(client);) {
        if (channel_is_up(channel, w)) {
            w++;
            continue;
        }
        uint64_t now = client_monotonic_ns(client);
        if (now >= end) {
            struct diag reason;
            channel_reason(channel, w, &reason);
            return diag_set(diag, ERR_TIMEOUT, "no connection to worker %u: %s", (unsigned)w,
                            reason.err ? reason.text : "it does not answer");
        }
        channel_reach(channel, w); /* their number may have changed */
        channel_turn(channel, end - now);
    }
    return ERR_NONE;
}

uint16_t client_worker_count(const struct db_client *client)
{
    return db_worker_count(client->db);
}

struct worker *client_worker(const struct db_client *client)
{
    return client->worker;
}

uint64_t client_clock(const struct db_client *client)
{
    if (client->channel) return client->channel->clock.last;
    return client->worker ? client->worker->clock.last : client->clock.last;
}

void client_clock_observe(struct db_client *client, uint64_t ts)
{
    struct hlc *clock = client->channel  ? &client->channel->clock
                        : client->worker ? &client->worker->clock
                                         : &client->clock;
    hlc_observe(clock, ts);
}

uint64_t client_monotonic_ns(const struct db_client *client)
{
    if (client->channel) return remote_now(client->db->remote);
    return client->node->env->ops->monotonic_ns(client->node->env);
}

/* ---- programs ---- */

uint64_t client_backoff_ns(struct db_client *client, unsigned attempt)
{
    unsigned shift = attempt > 16 ? 16 : attempt;
    uint64_t limit = backoff_ns_min << shift;
    if (limit > backoff_ns_max) limit = backoff_ns_max;
    client->random = hash_u64(client->random + UINT64_C(0x9e3779b97f4a7c15));
    return client->random % limit + 1;
}

uint64_t client_patience_ns(enum err err)
{
    if (err == ERR_CONFLICT) return conflict_ns_max;
    return err == ERR_BUSY ? busy_ns_max : 0;
}

uint16_t client_target(const struct db_client *client, const uint16_t *slots, uint16_t slot_count,
                       bool *ret_inline)
{
    const struct node *node = client->node;
    *ret_inline = false;
    if (client->channel)
        return slot_count ? remote_slot_worker(client->db->remote, slots[0]) : (uint16_t)0;
    if (slot_count == 0) {
        *ret_inline = client->worker != NULL;
        return client->worker ? client->worker->index : 0;
    }
    uint16_t first = node_slot_owner(node, slots[0]);
    if (!client->worker) return first;
    uint16_t own = client->worker->index;
    uint16_t owned = 0;
    for (uint16_t i = 0; i < slot_count; i++)
        owned = (uint16_t)(owned + (node_slot_owner(node, slots[i]) == own));
    *ret_inline = owned == slot_count;
    return owned ? own : first;
}

enum err client_take_reply(struct signal *signal, struct program_reply *reply)
{
    enum err err = (enum err)signal->header.err;
    buf_clear(&reply->bytes);
    if (!err) {
        buf_put(&reply->bytes, signal->body, signal_body_size(signal));
        /* It came, but there is no memory to look at it. */
        if (reply->bytes.failed)
            err = ERR_OUTCOME_UNKNOWN;
        else
            err = program_reply_decode(reply);
        if (!err) err = reply->err;
    }
    reply->err = err;
    signal_destroy(signal);
    return err;
}

struct durable_wait {
    struct worker_durable durable;
    bool done;
    enum err err;
};

static void durable_ready(struct worker_durable *durable, enum err err)
{
    struct durable_wait *wait = durable->context;
    wait->done = true;
    wait->err = err;
}

/* Policy `always`: waits until it is on disk. */
static enum err wait_durable(struct worker *worker, uint64_t ts)
{
    struct durable_wait wait = {
        .durable = {.ready = durable_ready, .context = &wait, .ts = ts},
    };
    worker_when_durable(worker, &wait.durable);
    while (!wait.done)
        worker_nested_turn(worker, UINT64_MAX);
    return wait.err ? ERR_OUTCOME_UNKNOWN : ERR_NONE;
}

/* What db_run and db_run_prepared run: a program, or a prepared one with what belongs to it. */
struct attempt {
    const struct program *program; /* NULL: prepared, run in place */
    struct program_prepared *prepared;
    const uint16_t *slots;
    const struct value *params;
};

static enum err run_inline(struct db_client *client, const struct attempt *attempt,
                           struct program_reply *reply)
{
    struct worker *worker = client->worker;
    if (atomic_load_explicit(&client->node->closing, memory_order_relaxed)) return ERR_CLOSED;
    enum err err;
    if (attempt->program) {
        const struct buf *bytes = &attempt->program->buf;
        err = worker_run_directly(worker, bytes->bytes, bytes->size, reply);
    } else {
        const struct program_decoded *decoded;
        err = program_bind_decoded(attempt->prepared, worker->catalog, attempt->slots,
                                   attempt->params, &decoded);
        if (err) return err;
        err = worker_run_decoded(worker, decoded, reply);
    }
    if (!err && reply->commit_ts && client->node->config.flush_always)
        err = reply->err = wait_durable(worker, reply->commit_ts);
    return err;
}

static enum err run_remote(struct db_client *client, const struct program *program, uint16_t target,
                           struct program_reply *reply)
{
    if (!client->channel &&
        mailbox_count(&client->node->workers[target]->mailbox) > WORKER_QUEUE_MAX)
        return ERR_BUSY;
    struct signal *signal;
    enum err err = client_call(client, target, SIGNAL_PROGRAM, program->buf.bytes,
                               (uint32_t)program->buf.size, &signal);
    return err ? err : client_take_reply(signal, reply);
}

/* Waits that long, while serving the worker when there is one. */
static void pause_for(struct db_client *client, uint64_t ns)
{
    uint64_t end = client_monotonic_ns(client) + ns;
    if (client->channel) {
        for (uint64_t now = end - ns; now < end; now = client_monotonic_ns(client))
            channel_turn(client->channel, end - now);
        return;
    }
    if (!client->worker) {
        struct timespec left = timespec_of(ns);
        while (nanosleep(&left, &left) && errno == EINTR)
            continue;
        return;
    }
    for (uint64_t now = end - ns; now < end; now = client_monotonic_ns(client))
        worker_nested_turn(client->worker, end - now);
}

/* Attempts until one says more than "try again". */
static enum err run(struct db_client *client, const struct attempt *attempt, bool is_inline,
                    uint16_t target, struct program_reply *reply)
{
    uint64_t begin_ns = 0;
    for (unsigned count = 1;; count++) {
        enum err err = is_inline ? run_inline(client, attempt, reply)
                                 : run_remote(client, attempt->program, target, reply);
        if (__builtin_expect(err == ERR_NONE, 1)) return ERR_NONE;
        uint64_t patience = client_patience_ns(err);
        if (!patience) return err;
        uint64_t now = client_monotonic_ns(client);
        if (count == 1) begin_ns = now;
        if (now - begin_ns > patience) return err;
        pause_for(client, client_backoff_ns(client, count));
    }
}

enum err db_run(struct db_client *client, struct program *program, struct program_reply *reply)
{
    enum err err = program_finish(program);
    if (err) return err;
    bool is_inline;
    uint16_t target = client_target(client, program->slots, program->section_count, &is_inline);
    const struct attempt attempt = {.program = program};
    return run(client, &attempt, is_inline, target, reply);
}

enum err db_run_prepared(struct db_client *client, struct program_prepared *prepared,
                         const uint16_t *slots, const struct value *params,
                         struct program_reply *reply)
{
    bool is_inline;
    uint16_t target = client_target(client, slots, prepared->section_count, &is_inline);
    struct attempt attempt = {.prepared = prepared, .slots = slots, .params = params};
    if (!is_inline) {
        enum err err = program_bind(prepared, slots, params, &client->bound);
        if (err) return err;
        attempt.program = &client->bound;
    }
    return run(client, &attempt, is_inline, target, reply);
}
