/* Links: clients of other processes, as endpoints of a worker.
 *
 * Every worker of a listening node has a port, which its loop polls and flushes. A link is bound to
 * a session (session.h), named by the client's id, and the session has an endpoint on this worker
 * while the client is connected or a change of it is under way. A message becomes a signal in one
 * copy: the transporter fills the block that `alloc` gave. The header is then checked and
 * rewritten:
 *
 *   source        the session's endpoint: nobody can answer, or be answered, in another's name
 *   client        the id that the link's greeting gave, which the handshake authenticated
 *   destination   must be this worker; nothing is forwarded
 *   type          one that clients may send
 *
 * and the signal is dispatched as any other. Whatever a peer sends that no correct client could
 * have sent closes its link, and nothing else.
 *
 * Changes (PROGRAM that writes, DDL) pass the session on their way in and out. Their endpoint stays
 * open until they are answered, also when the link goes down meanwhile, so that the answer is kept
 * for the client's next link. Everything else is the client's to ask again.
 *
 * A link that takes its answers too slowly fills its queue and is closed; so does one whose peer is
 * silent (the transporter's keep-alive). When a link is down its queries are forgotten. */
#include "db/node/links.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "db/node/session.h"
#include "db/node/worker_private.h"
#include "db/query/service.h"
#include "db/wire/info.h"

_Static_assert((int)INFO_WORKERS_MAX >= (int)WORKERS_MAX, "every worker's port is told");
_Static_assert((int)SIGNAL_SIZE_MAX <= (int)PORT_MESSAGE_SIZE_MAX, "a signal is one message");
_Static_assert(offsetof(struct signal, body) ==
                   offsetof(struct signal, header) + sizeof(struct signal_header),
               "header and body are one piece");

static const uint64_t log_interval_ns = 1000000000u;

enum { LINKS_MAX = 1024 }; /* of a worker, unless so many leave too few endpoints to the others */

struct links {
    struct worker *worker;
    struct port *port;
    struct sessions sessions;
    struct worker_timer expire; /* armed while clients are gone */
    uint64_t idle_ns;           /* since when the worker had nothing to do; 0: it has */
    uint64_t logged_ns;
    uint64_t unlogged;
    uint64_t dropped;  /* links closed for what their peer did */
    uint64_t replayed; /* answers given again */
};

/* A node need not have the module (tests of other layers). */
static void forget_queries(struct worker *worker, uint64_t client)
{
    const struct node_config *config = &worker->node->config;
    for (unsigned i = 0; i < NODE_MODULES_MAX && config->modules[i]; i++)
        if (config->modules[i] == &query_module) query_service_forget(worker, client);
}

/* ---- closing ---- */

__attribute__((format(printf, 3, 4))) static void
complain(struct links *links, const struct link *link, const char *format, ...)
{
    uint64_t now = worker_monotonic_ns(links->worker);
    links->dropped++;
    if (links->logged_ns && now - links->logged_ns < log_interval_ns) {
        links->unlogged++;
        return;
    }
    char text[DIAG_TEXT_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (links->unlogged)
        log_line(LOG_WARNING, "link to %s closed: %s (and %llu more)", link_peer_text(link), text,
                 (unsigned long long)links->unlogged);
    else
        log_line(LOG_WARNING, "link to %s closed: %s", link_peer_text(link), text);
    links->logged_ns = now;
    links->unlogged = 0;
}

static void expire_arm(struct links *links)
{
    uint64_t due = sessions_expire(&links->sessions, worker_monotonic_ns(links->worker));
    if (due != UINT64_MAX)
        worker_timer_arm(links->worker, &links->expire, due);
    else
        worker_timer_disarm(links->worker, &links->expire);
}

static void expire_fire(struct worker_timer *timer)
{
    expire_arm(timer->context);
}

/* A session without a link and without anything under way needs no endpoint. */
static void session_rest(struct links *links, struct session *session)
{
    if (session->link || session->under_way) return;
    if (session->endpoint) node_endpoint_close(links->worker->node, session->endpoint);
    session->endpoint = NULL;
    session_gone(&links->sessions, session, worker_monotonic_ns(links->worker));
    if (!links->expire.armed) expire_arm(links);
}

/* The link is not the session's any more. */
static void session_detach(struct links *links, struct session *session)
{
    session->link = NULL;
    session->introduced = false;
    forget_queries(links->worker, session->client);
    session_rest(links, session);
}

static void session_close(struct links *links, struct session *session)
{
    link_close(session->link);
    session_detach(links, session);
}

/* ---- sending ---- */

static void session_send(struct links *links, struct session *session,
                         const struct signal_header *header)
{
    if (!session->link || !session->introduced) return;
    struct link_piece piece = {.bytes = header, .size = header->size};
    enum err err = link_send(session->link, &piece, 1);
    if (!err || err == ERR_CLOSED) return; /* `down` is about to tell */
    complain(links, session->link, "%s",
             err == ERR_BUSY ? "its peer does not take what it asked for" : err_text(err));
    session_close(links, session);
}

void links_announce(struct links *links, struct signal_header *header)
{
    struct link *next;
    for (struct link *link = port_link_next(links->port, NULL); link; link = next) {
        next = port_link_next(links->port, link);
        struct session *session = link_is_up(link) ? link_context(link) : NULL;
        if (!session) continue;
        header->destination = session->endpoint->number;
        header->client = session->client;
        session_send(links, session, header);
    }
}

/* Did the program of this answer change something, or might it have? */
static bool answer_tells_change(const struct signal *signal)
{
    const struct signal_header *header = &signal->header;
    if (header->type == SIGNAL_DDL_REPLY) return true;
    if (header->err) return header->err == ERR_OUTCOME_UNKNOWN;
    uint64_t commit_ts;
    if (signal_body_size(signal) < PROGRAM_REPLY_HEADER_SIZE) return true;
    memcpy(&commit_ts, signal->body + PROGRAM_REPLY_HEADER_SIZE - sizeof(commit_ts),
           sizeof(commit_ts));
    return commit_ts != 0;
}

/* A signal for the client. */
static void endpoint_receive(struct endpoint *endpoint, struct signal *signal)
{
    struct session *session = endpoint->context;
    struct links *links = endpoint->worker->links;
    bool ended =
        (signal->header.type == SIGNAL_PROGRAM_REPLY || signal->header.type == SIGNAL_DDL_REPLY) &&
        session_answered(session, &signal->header, answer_tells_change(signal));
    bool connected = session->link != NULL;
    session_send(links, session, &signal->header);
    signal_destroy(signal);
    /* When sending has closed the link, the session was looked at already. */
    if (ended && !connected) session_rest(links, session);
}

/* ---- receiving ---- */

static bool type_is_allowed(uint16_t type)
{
    switch (type) {
    case SIGNAL_PROGRAM:
    case SIGNAL_PROGRAM_AGAIN:
    case SIGNAL_QUERY_OPEN:
    case SIGNAL_QUERY_RUN:
    case SIGNAL_QUERY_MORE:
    case SIGNAL_QUERY_CLOSE:
    case SIGNAL_DDL:
    case SIGNAL_DDL_AGAIN:
    case SIGNAL_FLUSH:
    case SIGNAL_STATUS:
    case SIGNAL_CHECKPOINT:
    case SIGNAL_SESSION_OPEN:
    case SIGNAL_CLIENT_END:
    case SIGNAL_INFO:
        return true;
    default:
        return false;
    }
}

/* Answers in the signal's block. */
static void refuse(struct links *links, struct signal *signal, enum err err)
{
    bool ddl = signal->header.type == SIGNAL_DDL || signal->header.type == SIGNAL_DDL_AGAIN;
    worker_reply(links->worker, signal, ddl ? SIGNAL_DDL_REPLY : SIGNAL_PROGRAM_REPLY, err, NULL,
                 0);
}

/* The node is about to end: nothing is begun any more. */
static bool is_closing(const struct links *links)
{
    return atomic_load_explicit(&links->worker->node->closing, memory_order_relaxed);
}

/* A program or DDL. While the node closes the session is asked all the same: only what it knows to
 * be undone is refused with ERR_CLOSED, which says so. */
static void take_change(struct links *links, struct session *session, struct signal *signal)
{
    struct signal_header *header = &signal->header;
    bool again = header->type == SIGNAL_PROGRAM_AGAIN || header->type == SIGNAL_DDL_AGAIN;
    bool ddl = header->type == SIGNAL_DDL || header->type == SIGNAL_DDL_AGAIN;
    header->type = ddl ? SIGNAL_DDL : SIGNAL_PROGRAM;
    struct program_outline outline;
    if (!ddl && (program_outline_decode(signal->body, signal_body_size(signal), &outline) ||
                 outline.only_reads)) {
        worker_dispatch(links->worker, signal); /* malformed ones are refused there */
        return;
    }
    const struct signal_header *answer;
    switch (session_request(session, header->request, again, &answer)) {
    case SESSION_RUN:
        if (is_closing(links))
            refuse(links, signal, ERR_CLOSED);
        else
            worker_dispatch(links->worker, signal);
        return;
    case SESSION_WAIT:
        signal_destroy(signal);
        return;
    case SESSION_ANSWER:
        links->replayed++;
        signal_destroy(signal);
        session_send(links, session, answer);
        return;
    case SESSION_UNKNOWN:
        refuse(links, signal, ERR_OUTCOME_UNKNOWN);
        return;
    case SESSION_FULL:
        refuse(links, signal, ERR_BUSY);
        return;
    }
}

/* The first signal of a link. */
static enum err take_introduction(struct session *session, const struct signal *signal)
{
    struct reader reader = reader_of(signal->body, signal_body_size(signal));
    uint64_t before = reader_u64(&reader);
    if (reader.failed || reader_left(&reader)) return ERR_BAD_SIGNAL;
    /* What it asked of a session that is not here any more may all have been done. */
    if (session->fresh) session->forgotten = before;
    session->fresh = false;
    session->introduced = true;
    return ERR_NONE;
}

static enum err check(const struct links *links, const struct session *session,
                      const struct signal *signal, uint32_t size)
{
    const struct signal_header *header = &signal->header;
    if (size < sizeof(*header) || signal_check(header, size)) return ERR_BAD_SIGNAL;
    if (!type_is_allowed(header->type) || header->destination != links->worker->index ||
        header->client != session->client || header->err || header->term || header->partition)
        return ERR_BAD_SIGNAL;
    if ((header->type == SIGNAL_SESSION_OPEN) == session->introduced) return ERR_BAD_SIGNAL;
    /* Between workers these mean something else. */
    bool empty = header->type == SIGNAL_FLUSH || header->type == SIGNAL_CHECKPOINT;
    if (empty && signal_body_size(signal)) return ERR_BAD_SIGNAL;
    return ERR_NONE;
}

static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct links *links = context;
    struct session *session = link_context(link);
    struct signal *signal = CONTAINER_OF(message, struct signal, header);
    enum err err = check(links, session, signal, size);
    if (!err && signal->header.type == SIGNAL_SESSION_OPEN)
        err = take_introduction(session, signal);
    if (err) {
        signal_destroy(signal);
        complain(links, link, "%s", err_text(err));
        session_close(links, session);
        return;
    }
    signal->header.source = session->endpoint->number;
    switch (signal->header.type) {
    case SIGNAL_SESSION_OPEN:
        signal_destroy(signal);
        return;
    case SIGNAL_CLIENT_END:
        session->ended = true;
        forget_queries(links->worker, session->client);
        signal_destroy(signal);
        return;
    case SIGNAL_PROGRAM:
    case SIGNAL_PROGRAM_AGAIN:
    case SIGNAL_DDL:
    case SIGNAL_DDL_AGAIN:
        take_change(links, session, signal);
        return;
    default:
        /* Of a closing node the rest is asked again of its next life. */
        if (is_closing(links))
            signal_destroy(signal);
        else
            worker_dispatch(links->worker, signal);
    }
}

static void *on_alloc(void *context, struct link *link, uint32_t size)
{
    (void)context, (void)link;
    uint32_t head = sizeof(struct signal_header);
    struct signal *signal = signal_create(size < head ? 0 : size - head);
    return signal ? &signal->header : NULL;
}

static void on_release(void *context, struct link *link, void *message)
{
    (void)context, (void)link;
    signal_destroy(CONTAINER_OF(message, struct signal, header));
}

/* ---- links come and go ---- */

static enum err endpoint_make(struct links *links, struct session *session)
{
    if (session->endpoint) return ERR_NONE;
    struct endpoint *endpoint;
    enum err err =
        node_endpoint_open_linked(links->worker->node, links->worker, session->client, &endpoint);
    if (err) return err;
    endpoint->context = session;
    endpoint->receive = endpoint_receive;
    session->endpoint = endpoint;
    return ERR_NONE;
}

static enum err on_up(void *context, struct link *link)
{
    struct links *links = context;
    struct greeting_client greeting;
    uint8_t size;
    const uint8_t *hello = link_hello(link, &size);
    enum err err = greeting_client_decode(hello, size, &greeting);
    if (err) return err;
    if (greeting.worker != links->worker->index) return ERR_INVALID;
    if (is_closing(links)) return ERR_CLOSED;
    struct session *session;
    err = session_acquire(&links->sessions, greeting.client, &session);
    if (err) return err;
    /* The client has a new link: it knows that the old one is dead before we do. */
    if (session->link) {
        link_close(session->link);
        session->link = NULL;
        forget_queries(links->worker, session->client);
    }
    session->introduced = false;
    err = endpoint_make(links, session);
    if (err) {
        session_rest(links, session);
        return err;
    }
    session->link = link;
    link_set_context(link, session);
    return ERR_NONE;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    (void)reason;
    struct session *session = link_context(link);
    ASSERT(session->link == link);
    session_detach(context, session);
}

static const struct port_events events = {
    .up = on_up,
    .down = on_down,
    .alloc = on_alloc,
    .message = on_message,
    .release = on_release,
};

/* ---- the loop ---- */

bool links_poll(struct links *links)
{
    return port_poll(links->port) > 0;
}

void links_flush(struct links *links)
{
    port_flush(links->port);
}

int links_fd(const struct links *links)
{
    return port_fd(links->port);
}

bool links_sleep(struct links *links)
{
    return port_sleep(links->port);
}

void links_awake(struct links *links, bool ready)
{
    port_awake(links->port, ready);
}

uint64_t links_timer_ns(const struct links *links)
{
    return port_timer_ns(links->port);
}

bool links_is_ready(const struct links *links)
{
    return port_timer_ns(links->port) <= worker_monotonic_ns(links->worker);
}

bool links_spin(struct links *links, bool busy)
{
    if (busy) {
        links->idle_ns = 0;
        return false;
    }
    uint64_t spin_ns = port_spin_ns(links->port);
    if (!spin_ns) return false;
    uint64_t now = worker_monotonic_ns(links->worker);
    if (!links->idle_ns) links->idle_ns = now;
    return now - links->idle_ns < spin_ns;
}

/* ---- status ---- */

static void put(struct buf *buf, const char *name, uint64_t value)
{
    bool first = buf->size && buf->bytes[buf->size - 1] == '{';
    buf_printf(buf, "%s\"%s\": %llu", first ? "" : ", ", name, (unsigned long long)value);
}

static void put_link(const struct link *link, struct buf *buf)
{
    struct link_stats stats;
    link_stats(link, &stats);
    const struct session *session = link_context(link);
    buf_printf(buf, "{\"kind\": \"%s\", \"peer\": ", link_kind_name(link_kind(link)));
    status_put_text(buf, link_peer_text(link));
    buf_printf(buf, ", \"client\": \"%016llx\"",
               (unsigned long long)(session ? session->client : 0));
    put(buf, "messages_sent", stats.messages_sent);
    put(buf, "messages_received", stats.messages_received);
    put(buf, "batches_sent", stats.batches_sent);
    put(buf, "batches_received", stats.batches_received);
    put(buf, "bytes_sent", stats.bytes_sent);
    put(buf, "bytes_received", stats.bytes_received);
    put(buf, "credit_batches_sent", stats.credit_batches_sent);
    put(buf, "stalls", stats.stalls);
    put(buf, "wakeups_sent", stats.wakeups_sent);
    put(buf, "reconnects", stats.reconnects);
    put(buf, "queue_bytes", stats.queue_bytes);
    put(buf, "answers_kept", session ? session->answer_count : 0);
    buf_printf(buf, "}");
}

void links_status(const struct links *links, struct buf *buf)
{
    struct port_stats stats;
    port_stats(links->port, &stats);
    buf_printf(buf, ", \"port\": {");
    put(buf, "links_up", stats.links_up);
    put(buf, "links_pending", stats.links_pending);
    put(buf, "registered_bytes", stats.registered_bytes);
    put(buf, "registered_bytes_max", stats.registered_bytes_max);
    put(buf, "buffer_bytes", stats.buffer_bytes);
    put(buf, "sleeps", stats.sleeps);
    put(buf, "wakeups", stats.wakeups);
    put(buf, "spins", stats.spins);
    put(buf, "accepted", stats.accepted);
    put(buf, "refused", stats.refused);
    put(buf, "handshakes_failed", stats.handshakes_failed);
    put(buf, "bad_frames", stats.bad_frames);
    put(buf, "links_lost", stats.links_lost);
    put(buf, "links_closed_for_cause", links->dropped);
    put(buf, "sessions", links->sessions.count);
    put(buf, "sessions_gone", links->sessions.gone_count);
    put(buf, "answers_repeated", links->replayed);
    buf_printf(buf, "}, \"links\": [");
    bool first = true;
    for (struct link *link = port_link_next(links->port, NULL); link;
         link = port_link_next(links->port, link)) {
        if (!link_is_up(link)) continue;
        if (!first) buf_printf(buf, ", ");
        first = false;
        put_link(link, buf);
    }
    buf_printf(buf, "]");
}

/* ---- making and ending ---- */

static uint64_t env_now(void *context)
{
    struct env *env = context;
    return env->ops->monotonic_ns(env);
}

static void env_random(void *context, void *bytes, size_t size)
{
    struct env *env = context;
    env->ops->random(env, bytes, size);
}

enum err links_create(struct worker *worker, const uint8_t secret[PORT_SECRET_SIZE],
                      struct diag *diag)
{
    struct node *node = worker->node;
    struct links *links = calloc(1, sizeof(*links));
    if (!links) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    links->worker = worker;
    links->expire = (struct worker_timer){.fire = expire_fire, .context = links};
    sessions_init(&links->sessions);
    uint32_t linked_max = node_linked_max(node);
    struct port_config config = {
        .events = &events,
        .context = links,
        .hello_size = GREETING_NODE_SIZE,
        .links_max = linked_max < LINKS_MAX ? linked_max : LINKS_MAX,
        .spin = node->config.spin,
        .sim = node->config.sim_net,
        .sim_node = node->config.sim_net_node + worker->index,
    };
    if (node->config.sim_net) { /* else the port's own, which cost less */
        config.monotonic_ns = env_now;
        config.random = env_random;
        config.clock_context = node->env;
    }
    struct greeting_node greeting = {
        .worker = worker->index, .worker_count = node->worker_count, .life = node_life(node)};
    memcpy(greeting.store_id, node->info.id, sizeof(greeting.store_id));
    greeting_node_encode(&greeting, config.hello);
    memcpy(config.secret, secret, sizeof(config.secret));
    enum err err = port_create(&config, &links->port, diag);
    explicit_bzero(config.secret, sizeof(config.secret));
    if (err) goto free_links;
    if (worker->epoll_fd >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = links};
        err = ERR_BUSY;
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, links_fd(links), &event)) {
            diag_set(diag, err, "worker %u cannot watch its port", (unsigned)worker->index);
            goto destroy_port;
        }
    }
    worker->links = links;
    return ERR_NONE;

destroy_port:
    port_destroy(links->port);
free_links:
    free(links);
    return err;
}

void links_destroy(struct links *links)
{
    if (!links) return;
    worker_timer_disarm(links->worker, &links->expire);
    port_destroy(links->port);
    sessions_fini(&links->sessions);
    free(links);
}

enum err links_listen(struct links *links, const struct port_address *address,
                      struct port_address *ret_bound, struct diag *diag)
{
    return port_listen(links->port, address, ret_bound, diag);
}

/* ---- clients of this process ---- */

/* A client has ended, perhaps with queries open: each worker in turn forgets them, in the one block
 * that the client had made for it. */
static void on_client_end(struct worker *worker, struct signal *signal)
{
    forget_queries(worker, signal->header.client);
    uint16_t next = (uint16_t)(worker->index + 1);
    if (signal_body_size(signal) || next >= worker_count(worker)) {
        signal_destroy(signal);
        return;
    }
    signal->header.destination = next;
    worker_send(worker, signal, 0);
}

void links_start(struct worker *worker)
{
    worker_on(worker, SIGNAL_CLIENT_END, on_client_end);
}
