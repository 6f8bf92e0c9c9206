/* Channels: requests over links that may be lost at any moment.
 *
 * A request with one answer is kept, in its own signal, in the list of the worker that it goes to,
 * in the order of numbers, until the answer is here. When a link comes up, everything in the list
 * is sent, oldest first:
 *
 *   never sent before                 as it is
 *   sent to the same life of the node under the same number; a change as PROGRAM_AGAIN or
 *                                     DDL_AGAIN, which the node does once (db/node/session.c)
 *   sent to an earlier life           a change may have been done there: ERR_OUTCOME_UNKNOWN;
 *                                     anything else as it is
 *
 * The first signal of a link, SESSION_OPEN, tells the greatest number that may come again, so that
 * a node which has dropped our session knows what it cannot know. A node that is closing refuses
 * with ERR_CLOSED, having done nothing, and when it closes the link it says how much of it it took:
 * what was refused or not taken waits for the node's next life like one that was never sent. What
 * has waited for a link for longer than the remote's timeout is answered here: ERR_TIMEOUT when
 * nothing can have happened, ERR_OUTCOME_UNKNOWN when something may have.
 *
 * Signals of queries are not kept: their listener learns that a link was lost. One that a link does
 * not take, because too much waits to be sent over it, ends that link.
 *
 * Definitions: an answer ERR_SCHEMA_CHANGED means that our catalog is old, so it is held back until
 * INFO has brought the new one; then the caller, who acquires the catalog again, finds it. So is
 * the answer of a definition, and that of a flush by a life of the node of which we do not know yet
 * what it has recovered.
 *
 * Threads: the owner's, and for polling only the keeper's (remote.c), so that the link of a thread
 * that does something else for a minute stays up. Port callbacks therefore touch what the mutex
 * guards and put signals into the inbox; listeners are called by the owner alone. */
#include "db/api/channel.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/api/conn.h"
#include "db/wire/program.h"

static const uint64_t tend_ns = 1000000000u; /* an owner away for this long needs the keeper */

static struct conn *conn_of(const struct channel *channel, const struct client_listener *listener)
{
    return channel->conns[listener->kept->header.destination];
}

/* ---- sending ---- */

void channel_send(struct channel *channel, struct signal *signal)
{
    struct signal_header *header = &signal->header;
    header->version = SIGNAL_VERSION;
    header->source = 0; /* the node fills in who we are there */
    header->client = channel->client;
    header->clock = channel->clock.last;
    header->reserved = 0;
    uint16_t worker = (uint16_t)header->destination;
    struct client_listener *listener = requests_find(&channel->requests, header->request);
    pthread_mutex_lock(&channel->mutex);
    struct conn *conn = conn_get(channel, worker);
    if (conn_keeps(header->type)) {
        ASSERT(listener && !listener->kept);
        listener->kept = signal;
        listener->kept_life = 0;
        listener->kept_ns = remote_now(channel->remote);
        if (!conn) {
            /* No memory even for the link: answered here. */
            struct conn none = {.channel = channel, .worker = worker};
            conn_keep(&none, listener);
            conn_conclude(&none, listener, ERR_NO_MEMORY);
        } else {
            conn_keep(conn, listener);
            conn_push(conn);
        }
        pthread_mutex_unlock(&channel->mutex);
        return;
    }
    if (listener) listener->workers |= UINT64_C(1) << worker;
    struct link_piece piece = {.bytes = header, .size = header->size};
    enum err err =
        conn && conn->up && !conn->refuses ? link_send(conn->link, &piece, 1) : ERR_CLOSED;
    if (err) channel->lost |= UINT64_C(1) << worker;
    /* The worker would go on with a query, and hold its snapshot, for a client that has given it
     * up. Only the end of the link is sure to reach it. */
    if (err && err != ERR_CLOSED) conn_renew(conn);
    pthread_mutex_unlock(&channel->mutex);
    signal_destroy(signal);
}

void channel_forget(struct channel *channel, struct client_listener *listener)
{
    if (!listener->kept) return;
    pthread_mutex_lock(&channel->mutex);
    struct signal *signal = conn_take(conn_of(channel, listener), listener);
    pthread_mutex_unlock(&channel->mutex);
    signal_destroy(signal);
}

/* ---- handing out ---- */

static void info_ask(struct channel *channel);

static void hand_out(struct channel *channel, struct signal *signal)
{
    struct client_listener *listener = requests_find(&channel->requests, signal->header.request);
    struct signal_header *header = &signal->header;
    /* No info came: the flush was done, but by a life that may have lost what it was asked for. */
    if (listener && header->type == SIGNAL_FLUSH_REPLY && !header->err &&
        listener->kept_life != atomic_load(&channel->remote->learned_life))
        header->err = ERR_OUTCOME_UNKNOWN;
    if (listener)
        listener->receive(listener, signal);
    else
        signal_destroy(signal);
}

static void held_release(struct channel *channel)
{
    struct signal *signal = channel->held;
    channel->held = channel->held_next;
    channel->held_next = NULL;
    while (signal) {
        struct signal *next = signal->next;
        signal->next = NULL;
        hand_out(channel, signal);
        signal = next;
    }
    if (channel->held) info_ask(channel);
}

static void info_receive(struct client_listener *listener, struct signal *signal)
{
    struct channel *channel = listener->context;
    requests_unlisten(&channel->requests, listener);
    if (channel_learn(channel->remote, channel->info_asked, signal))
        info_ask(channel);
    else
        held_release(channel);
}

static void info_ask(struct channel *channel)
{
    if (channel->info.request) return;
    uint64_t known = catalogs_version(&channel->remote->catalogs);
    struct signal *signal = signal_create(sizeof(known));
    if (!signal) {
        held_release(channel); /* the callers will meet the old definitions again */
        return;
    }
    channel->info = (struct client_listener){.receive = info_receive, .context = channel};
    signal->header.request = requests_listen(&channel->requests, &channel->info);
    channel->info_asked = atomic_load(&channel->remote->learned_count);
    signal->header.type = SIGNAL_INFO;
    memcpy(signal->body, &known, sizeof(known));
    channel_send(channel, signal);
}

static void hold(struct channel *channel, struct signal *signal)
{
    struct signal **list = channel->info.request ? &channel->held_next : &channel->held;
    while (*list)
        list = &(*list)->next;
    signal->next = NULL;
    *list = signal;
    info_ask(channel);
}

/* Does the caller need to know what is new before it gets this? */
static bool needs_info(struct channel *channel, const struct signal *signal, uint64_t life)
{
    const struct signal_header *header = &signal->header;
    uint16_t err = header->err;
    switch (header->type) {
    case SIGNAL_PROGRAM_REPLY:
        if (!err && signal_body_size(signal) >= sizeof(err))
            memcpy(&err, signal->body, sizeof(err));
        return err == ERR_SCHEMA_CHANGED;
    case SIGNAL_QUERY_ROWS:
    case SIGNAL_QUERY_OPENED:
        return err == ERR_SCHEMA_CHANGED;
    case SIGNAL_DDL_REPLY:
        return true;
    case SIGNAL_FLUSH_REPLY:
        return !err && life != atomic_load(&channel->remote->learned_life);
    default:
        return false;
    }
}

static void note_commit(struct channel *channel, const struct signal *signal, uint64_t life)
{
    uint64_t commit_ts;
    if (signal->header.err || signal_body_size(signal) < PROGRAM_REPLY_HEADER_SIZE) return;
    memcpy(&commit_ts, signal->body + PROGRAM_REPLY_HEADER_SIZE - sizeof(commit_ts),
           sizeof(commit_ts));
    if (commit_ts) remote_acknowledged(channel->remote, life, commit_ts);
}

static void take(struct channel *channel, struct signal *signal)
{
    struct client_listener *listener = requests_find(&channel->requests, signal->header.request);
    hlc_observe(&channel->clock, signal->header.clock);
    if (!listener) {
        signal_destroy(signal);
        return;
    }
    uint64_t life = listener->kept_life;
    channel_forget(channel, listener);
    if (signal->header.type == SIGNAL_PROGRAM_REPLY) note_commit(channel, signal, life);
    if (needs_info(channel, signal, life))
        hold(channel, signal);
    else
        listener->receive(listener, signal);
}

static void tell_lost(struct channel *channel, uint64_t lost)
{
    for (unsigned i = 0; i < CLIENT_BUCKETS; i++) {
        struct client_listener *listener = channel->requests.listeners[i];
        for (; listener; listener = listener->next) {
            uint64_t workers = listener->lost ? listener->workers & lost : 0;
            if (workers) listener->lost(listener, (uint16_t)__builtin_ctzll(workers));
        }
    }
}

uint32_t channel_turn(struct channel *channel, uint64_t wait_ns)
{
    struct remote *remote = channel->remote;
    pthread_mutex_lock(&channel->mutex);
    uint16_t workers = atomic_load_explicit(&remote->worker_count, memory_order_relaxed);
    if (workers != channel->worker_count && workers) conns_spread(channel, workers);
    if (channel->restless) conns_upkeep(channel, remote_now(remote));
    if (!channel->inbox && !channel->lost && !channel->info_wanted) {
        uint64_t due = wait_ns ? conns_due_ns(channel) : 0;
        if (wait_ns && due != UINT64_MAX) {
            uint64_t now = remote_now(remote);
            uint64_t left = due > now ? due - now : 0;
            if (left < wait_ns) wait_ns = left;
        }
        if (wait_ns) {
            port_wait(channel->port, wait_ns);
        } else {
            port_poll(channel->port);
            port_flush(channel->port);
        }
    } else {
        port_flush(channel->port);
    }
    channel->turn_ns = 0;
    bool ask = channel->info_wanted;
    channel->info_wanted = false;
    uint64_t lost = channel->lost;
    channel->lost = 0;
    struct signal *signal = channel->inbox;
    channel->inbox = NULL;
    channel->inbox_end = &channel->inbox;
    pthread_mutex_unlock(&channel->mutex);

    uint32_t count = 0;
    if (ask) info_ask(channel);
    while (signal) {
        struct signal *next = signal->next;
        signal->next = NULL;
        take(channel, signal);
        signal = next;
        count++;
    }
    /* Answers that came before the loss were handed out before. */
    if (lost) {
        tell_lost(channel, lost);
        count++;
    }
    channel->requests.received += count;
    return count;
}

void channel_tend(struct channel *channel, uint64_t now_ns)
{
    if (pthread_mutex_trylock(&channel->mutex)) return;
    if (!channel->turn_ns) {
        channel->turn_ns = now_ns; /* seen first now: its owner was here since the last time */
    } else if (now_ns - channel->turn_ns >= tend_ns) {
        port_poll(channel->port);
        port_flush(channel->port);
    }
    pthread_mutex_unlock(&channel->mutex);
}

/* ---- looking ---- */

void channel_reach(struct channel *channel, uint16_t worker)
{
    pthread_mutex_lock(&channel->mutex);
    (void)conn_get(channel, worker);
    pthread_mutex_unlock(&channel->mutex);
}

bool channel_is_up(const struct channel *channel, uint16_t worker)
{
    struct channel *self = (struct channel *)(uintptr_t)channel;
    pthread_mutex_lock(&self->mutex);
    const struct conn *conn = channel->conns[worker];
    bool up = conn && conn->up && !conn->refuses;
    pthread_mutex_unlock(&self->mutex);
    return up;
}

void channel_reason(struct channel *channel, uint16_t worker, struct diag *ret_reason)
{
    pthread_mutex_lock(&channel->mutex);
    const struct conn *conn = channel->conns[worker];
    *ret_reason = conn ? conn->reason : (struct diag){0};
    pthread_mutex_unlock(&channel->mutex);
}

uint64_t channel_due_ns(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    uint64_t due =
        channel->inbox || channel->lost || channel->info_wanted ? 0 : conns_due_ns(channel);
    pthread_mutex_unlock(&channel->mutex);
    return due;
}

/* ---- the requests' table ---- */

uint64_t requests_listen(struct requests *requests, struct client_listener *listener)
{
    listener->request = ++requests->last;
    struct client_listener **bucket = &requests->listeners[listener->request % CLIENT_BUCKETS];
    listener->next = *bucket;
    *bucket = listener;
    return listener->request;
}

void requests_unlisten(struct requests *requests, struct client_listener *listener)
{
    struct client_listener **link = &requests->listeners[listener->request % CLIENT_BUCKETS];
    while (*link && *link != listener)
        link = &(*link)->next;
    if (*link) *link = listener->next;
    listener->next = NULL;
    listener->request = 0;
}

/* ---- making and ending ---- */

/* A node that is back is to be found before requests give up. */
static uint32_t reconnect_ms(const struct remote *remote)
{
    uint64_t ms = remote->timeout_ns / 1000000 / 4;
    return ms < 10 ? 10 : ms > 500 ? 500 : (uint32_t)ms;
}

enum err channel_create(struct remote *remote, struct channel **ret_channel, struct diag *diag)
{
    struct channel *channel = calloc(1, sizeof(*channel));
    if (!channel) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    channel->remote = remote;
    channel->inbox_end = &channel->inbox;
    channel->worker_count = atomic_load(&remote->worker_count);
    pthread_mutex_init(&channel->mutex, NULL);
    remote->random(remote->clock_context, &channel->client, sizeof(channel->client));
    channel->client |= CLIENT_REMOTE_BIT;
    struct port_config config = {
        .events = &channel_events,
        .context = channel,
        .spin = remote->spin,
        .links_max = WORKERS_MAX * 2,
        .reconnect_ms_max = reconnect_ms(remote),
        .sim = remote->sim,
    };
    if (remote->sim) { /* else the port's own, which cost less */
        config.monotonic_ns = remote->monotonic_ns;
        config.random = remote->random;
        config.clock_context = remote->clock_context;
        config.sim_node = atomic_fetch_add(&remote->sim_node, 1);
    }
    memcpy(config.secret, remote->secret, sizeof(config.secret));
    enum err err = port_create(&config, &channel->port, diag);
    explicit_bzero(config.secret, sizeof(config.secret));
    if (err) {
        pthread_mutex_destroy(&channel->mutex);
        free(channel);
        return err;
    }
    *ret_channel = channel;
    return ERR_NONE;
}

static void say_goodbye(struct conn *conn)
{
    struct signal_header header = {.size = sizeof(header),
                                   .type = SIGNAL_CLIENT_END,
                                   .version = SIGNAL_VERSION,
                                   .destination = conn->worker,
                                   .client = conn->channel->client,
                                   .clock = conn->channel->clock.last};
    struct link_piece piece = {.bytes = &header, .size = sizeof(header)};
    enum err err = link_send(conn->link, &piece, 1);
    (void)err; /* it will find out by the link's end */
}

static void signals_destroy(struct signal *signal)
{
    while (signal) {
        struct signal *next = signal->next;
        signal_destroy(signal);
        signal = next;
    }
}

void channel_destroy(struct channel *channel)
{
    if (!channel) return;
    channel_unkeep(channel);
    if (channel->info.request) {
        channel_forget(channel, &channel->info);
        requests_unlisten(&channel->requests, &channel->info);
    }
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        struct conn *conn = channel->conns[w];
        if (!conn) continue;
        ASSERT(!conn->oldest); /* whoever has asked has left */
        if (conn->up) say_goodbye(conn);
    }
    port_flush(channel->port);
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        if (channel->conns[w] && channel->conns[w]->link) link_close(channel->conns[w]->link);
        free(channel->conns[w]);
    }
    port_destroy(channel->port);
    signals_destroy(channel->inbox);
    signals_destroy(channel->held);
    signals_destroy(channel->held_next);
    pthread_mutex_destroy(&channel->mutex);
    free(channel);
}
