/* The links of a channel, and the requests that are kept for each (the rules are channel.c's).
 *
 * A worker's kept requests are a list in the order of their numbers. While its link is up, those
 * before `unsent` were sent over it; when it is not, nothing was, and all are sent when it comes
 * up. So what is sent for the first time over a link is always newer than all that went before,
 * which is what the node's sessions rest upon.
 *
 * Everything here is called with the channel's mutex held: by the owner, or from the port's
 * callbacks, which run within the owner's or the keeper's turn. */
#include "db/api/conn.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/node/links.h"
#include "db/wire/program.h"

static const uint64_t retry_next_ns = 50000000u;    /* at another address */
static const uint64_t retry_later_ns = 1000000000u; /* where a peer is not what we look for */

/* ---- kept requests ---- */

bool conn_keeps(uint16_t type)
{
    switch (type) {
    case SIGNAL_PROGRAM:
    case SIGNAL_DDL:
    case SIGNAL_FLUSH:
    case SIGNAL_STATUS:
    case SIGNAL_CHECKPOINT:
    case SIGNAL_INFO:
        return true;
    default:
        return false;
    }
}

/* Would doing it twice be wrong? */
static bool is_change(const struct signal *signal)
{
    if (signal->header.type == SIGNAL_DDL) return true;
    if (signal->header.type != SIGNAL_PROGRAM) return false;
    struct program_outline outline;
    return program_outline_decode(signal->body, signal_body_size(signal), &outline) ||
           !outline.only_reads;
}

/* Into its place by number: at the end, unless its worker has changed. From it on all are to be
 * sent. */
void conn_keep(struct conn *conn, struct client_listener *listener)
{
    struct client_listener *older = conn->newest;
    while (older && older->request > listener->request)
        older = older->kept_older;
    listener->kept_older = older;
    listener->kept_newer = older ? older->kept_newer : conn->oldest;
    if (listener->kept_newer)
        listener->kept_newer->kept_older = listener;
    else
        conn->newest = listener;
    if (older)
        older->kept_newer = listener;
    else
        conn->oldest = listener;
    if (!conn->unsent || conn->unsent->request > listener->request) conn->unsent = listener;
}

struct signal *conn_take(struct conn *conn, struct client_listener *listener)
{
    struct signal *signal = listener->kept;
    if (conn->unsent == listener) conn->unsent = listener->kept_newer;
    if (listener->kept_older)
        listener->kept_older->kept_newer = listener->kept_newer;
    else
        conn->oldest = listener->kept_newer;
    if (listener->kept_newer)
        listener->kept_newer->kept_older = listener->kept_older;
    else
        conn->newest = listener->kept_older;
    listener->kept = NULL;
    listener->kept_older = listener->kept_newer = NULL;
    return signal;
}

static void inbox_put(struct channel *channel, struct signal *signal)
{
    signal->next = NULL;
    *channel->inbox_end = signal;
    channel->inbox_end = &signal->next;
}

/* The request ends here, with an answer of our own in its block. */
void conn_conclude(struct conn *conn, struct client_listener *listener, enum err err)
{
    struct signal *signal = conn_take(conn, listener);
    struct signal_header *header = &signal->header;
    header->type = (uint16_t)(header->type + 1); /* the answers follow their requests */
    header->source = conn->worker;
    header->err = (uint16_t)err;
    header->size = (uint32_t)sizeof(*header);
    inbox_put(conn->channel, signal);
}
_Static_assert(SIGNAL_PROGRAM_REPLY == SIGNAL_PROGRAM + 1 && SIGNAL_DDL_REPLY == SIGNAL_DDL + 1 &&
                   SIGNAL_FLUSH_REPLY == SIGNAL_FLUSH + 1 &&
                   SIGNAL_STATUS_REPLY == SIGNAL_STATUS + 1 &&
                   SIGNAL_CHECKPOINT_REPLY == SIGNAL_CHECKPOINT + 1 &&
                   SIGNAL_INFO_REPLY == SIGNAL_INFO + 1,
               "conn_conclude() relies on it");

static enum err transmit(struct conn *conn, struct client_listener *listener)
{
    struct signal_header *header = &listener->kept->header;
    uint16_t type = header->type;
    if (listener->kept_life == conn->life && is_change(listener->kept))
        header->type = type == SIGNAL_DDL ? SIGNAL_DDL_AGAIN : SIGNAL_PROGRAM_AGAIN;
    header->clock = conn->channel->clock.last;
    struct link_piece piece = {.bytes = header, .size = header->size};
    enum err err = link_send(conn->link, &piece, 1);
    header->type = type;
    if (err) return err;
    listener->kept_again = listener->kept_life == conn->life;
    listener->kept_life = conn->life;
    listener->kept_number = link_sent(conn->link);
    if (listener->request > conn->request_max) conn->request_max = listener->request;
    return ERR_NONE;
}

/* Sends what is not sent, as far as the link takes it. */
void conn_push(struct conn *conn)
{
    while (conn->unsent && conn->up && !conn->refuses) {
        struct client_listener *listener = conn->unsent;
        if (listener->kept_life && listener->kept_life != conn->life && is_change(listener->kept)) {
            conn_conclude(conn, listener, ERR_OUTCOME_UNKNOWN);
            continue;
        }
        if (transmit(conn, listener)) {
            conn->channel->restless = true;
            return;
        }
        conn->unsent = listener->kept_newer;
    }
}

/* When the oldest of those that wait for the link has waited for long enough. */
static uint64_t conn_deadline(const struct conn *conn)
{
    uint64_t timeout = conn->channel->remote->timeout_ns;
    if (!conn->up || conn->refuses) {
        if (!conn->oldest) return UINT64_MAX;
        uint64_t since = conn->oldest->kept_ns;
        return (since > conn->down_ns ? since : conn->down_ns) + timeout;
    }
    return conn->unsent ? conn->unsent->kept_ns + timeout : UINT64_MAX;
}

static void conclude_overdue(struct conn *conn, uint64_t now)
{
    while (conn_deadline(conn) <= now) {
        bool waits_for_link = !conn->up || conn->refuses;
        struct client_listener *listener = waits_for_link ? conn->oldest : conn->unsent;
        bool unknown = listener->kept_life && is_change(listener->kept);
        conn_conclude(conn, listener, unknown ? ERR_OUTCOME_UNKNOWN : ERR_TIMEOUT);
    }
}

/* ---- links ---- */

static void conn_connect(struct conn *conn, uint64_t now)
{
    struct channel *channel = conn->channel;
    conn->learned = atomic_load(&channel->remote->learned_count);
    struct port_address *address = malloc(sizeof(*address));
    uint8_t hello[GREETING_CLIENT_SIZE];
    struct greeting_client greeting = {.worker = conn->worker, .client = channel->client};
    greeting_client_encode(&greeting, hello);
    struct link_options options = {
        .context = conn, .report_failures = true, .hello = hello, .hello_size = sizeof(hello)};
    enum err err = ERR_NO_MEMORY;
    if (!address)
        diag_set(&conn->reason, err, "%s", err_text(err));
    else if (!remote_address(channel->remote, conn->address, conn->worker, address))
        err = diag_set(&conn->reason, ERR_NOT_FOUND, "worker %u has no address",
                       (unsigned)conn->worker);
    else
        err = port_connect(channel->port, address, &options, &conn->link, &conn->reason);
    free(address);
    conn->retry_ns = 0;
    if (err) {
        conn->link = NULL;
        conn->retry_ns = now + retry_later_ns;
        channel->restless = true;
    }
}

void conn_renew(struct conn *conn)
{
    uint64_t now = remote_now(conn->channel->remote);
    link_close(conn->link);
    conn->link = NULL;
    conn->up = false;
    conn->down_ns = now;
    conn->unsent = conn->oldest;
    conn->channel->restless = true;
    conn_connect(conn, now);
}

struct conn *conn_get(struct channel *channel, uint16_t worker)
{
    struct conn *conn = channel->conns[worker];
    if (conn) return conn;
    conn = calloc(1, sizeof(*conn));
    if (!conn) return NULL;
    conn->channel = channel;
    conn->worker = worker;
    conn->down_ns = remote_now(channel->remote);
    channel->conns[worker] = conn;
    channel->restless = true;
    conn_connect(conn, conn->down_ns);
    return conn;
}

static enum err introduce(struct conn *conn)
{
    struct {
        struct signal_header header;
        uint64_t request_max;
    } first = {
        .header = {.size = sizeof(first),
                   .type = SIGNAL_SESSION_OPEN,
                   .version = SIGNAL_VERSION,
                   .destination = conn->worker,
                   .client = conn->channel->client,
                   .clock = conn->channel->clock.last},
        .request_max = conn->request_max,
    };
    _Static_assert(sizeof(first) == sizeof(struct signal_header) + 8, "wire format");
    struct link_piece piece = {.bytes = &first, .size = sizeof(first)};
    return link_send(conn->link, &piece, 1);
}

static enum err on_up(void *context, struct link *link)
{
    struct channel *channel = context;
    struct conn *conn = link_context(link);
    struct greeting_node greeting;
    uint8_t size;
    const uint8_t *hello = link_hello(link, &size);
    enum err err = greeting_node_decode(hello, size, &greeting);
    if (!err && greeting.worker != conn->worker) err = ERR_INVALID;
    if (!err) err = remote_greeted(channel->remote, &greeting);
    if (!err) {
        if (greeting.life != conn->life) conn->request_max = 0;
        conn->life = greeting.life;
        conn->link = link;
        err = introduce(conn);
    }
    if (err) {
        conn->retry_ns = remote_now(channel->remote) + retry_later_ns;
        return err;
    }
    conn->up = true;
    conn->refuses = false;
    conn->retry_ns = 0;
    conn->reason = (struct diag){0};
    conn->unsent = conn->oldest;
    if (conn->worker == 0 || greeting.life != atomic_load(&channel->remote->learned_life))
        channel->info_wanted = true;
    conn_push(conn);
    return ERR_NONE;
}

/* The peer has closed the link and said how much of it it took: what it did not take is as if it
 * had never been sent, but for what an earlier link may have brought to the same life. */
static void take_back(struct conn *conn, const struct link *link)
{
    struct client_listener *listener = conn->oldest;
    for (; listener && listener != conn->unsent; listener = listener->kept_newer)
        if (listener->kept_number > link_taken(link) && !listener->kept_again)
            listener->kept_life = 0;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    struct channel *channel = context;
    struct conn *conn = link_context(link);
    uint64_t now = remote_now(channel->remote);
    if (conn->up) {
        take_back(conn, link);
        channel->lost |= UINT64_C(1) << conn->worker;
        if (!conn->refuses) conn->down_ns = now;
    } else if (channel->remote->address_count > 1 && !conn->retry_ns) {
        conn->retry_ns = now + retry_next_ns;
    }
    conn->up = false;
    conn->refuses = false;
    conn->unsent = conn->oldest;
    conn->reason = *reason;
    channel->restless = true;
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

static bool is_answer(uint16_t type)
{
    switch (type) {
    case SIGNAL_PROGRAM_REPLY:
    case SIGNAL_DDL_REPLY:
    case SIGNAL_FLUSH_REPLY:
    case SIGNAL_STATUS_REPLY:
    case SIGNAL_CHECKPOINT_REPLY:
    case SIGNAL_INFO_REPLY:
    case SIGNAL_QUERY_OPENED:
    case SIGNAL_QUERY_ROWS:
        return true;
    default:
        return false;
    }
}

/* Takes what the node says of itself. */
bool channel_learn(struct remote *remote, uint64_t asked, struct signal *signal)
{
    struct node_info info;
    struct catalog *catalog;
    enum err err = (enum err)signal->header.err;
    if (!err) err = node_info_decode(signal->body, signal_body_size(signal), &info, &catalog);
    bool is_old = false;
    if (!err) {
        err = remote_learned(remote, asked, &info, catalog);
        is_old = err == ERR_BUSY;
    }
    /* After another failure the next link, or the next answer that needs it, asks again. */
    signal_destroy(signal);
    return is_old;
}

/* The node is closing and has not begun the request: back to those that wait for a link. */
static void put_back(struct conn *conn, uint64_t request)
{
    struct client_listener *listener = conn->oldest;
    while (listener && listener->request != request)
        listener = listener->kept_newer;
    if (!listener) return;
    listener->kept_life = 0;
    if (!conn->refuses) conn->down_ns = remote_now(conn->channel->remote);
    conn->refuses = true;
    conn->channel->restless = true;
}

/* What is not an answer to us from this worker is dropped: whoever waits is told by the link's end,
 * or by the deadline. */
static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct channel *channel = context;
    struct conn *conn = link_context(link);
    struct signal *signal = CONTAINER_OF(message, struct signal, header);
    const struct signal_header *header = &signal->header;
    if (size < sizeof(*header) || signal_check(header, size) || header->source != conn->worker ||
        header->client != channel->client || !is_answer(header->type)) {
        signal_destroy(signal);
        return;
    }
    if (header->type == SIGNAL_INFO_REPLY && !header->request) {
        /* Unasked: the catalog has changed. */
        if (channel_learn(channel->remote, REMOTE_UNASKED, signal)) channel->info_wanted = true;
        return;
    }
    /* Judged here, while it is this link's: the inbox may be looked at when another is up. */
    if (header->err == ERR_CLOSED && conn_keeps((uint16_t)(header->type - 1))) {
        put_back(conn, header->request);
        signal_destroy(signal);
        return;
    }
    inbox_put(channel, signal);
}

const struct port_events channel_events = {
    .up = on_up,
    .down = on_down,
    .alloc = on_alloc,
    .message = on_message,
    .release = on_release,
};

/* A port that the system chose is another one in the node's next life, of which worker 0 tells. */
static bool has_moved(const struct conn *conn)
{
    if (conn->up || !conn->worker) return false;
    (void)conn_get(conn->channel, 0);
    return conn->learned != atomic_load(&conn->channel->remote->learned_count);
}

static void conn_again(struct conn *conn, uint64_t now)
{
    if (conn->link) link_close(conn->link);
    conn->link = NULL;
    conn_connect(conn, now);
}

/* What is due without anything having arrived. */
void conns_upkeep(struct channel *channel, uint64_t now)
{
    channel->restless = false;
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        struct conn *conn = channel->conns[w];
        if (!conn) continue;
        if (conn->retry_ns && conn->retry_ns <= now) {
            conn->address = (conn->address + 1) % channel->remote->address_count;
            conn_again(conn, now);
        } else if (has_moved(conn)) {
            conn_again(conn, now);
        }
        conn_push(conn);
        conclude_overdue(conn, now);
        if (!conn->up || conn->refuses || conn->unsent || conn->retry_ns) channel->restless = true;
    }
}

uint64_t conns_due_ns(const struct channel *channel)
{
    uint64_t due = UINT64_MAX;
    if (!channel->restless) return due;
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        const struct conn *conn = channel->conns[w];
        if (!conn) continue;
        uint64_t deadline = conn_deadline(conn);
        if (deadline < due) due = deadline;
        if (conn->retry_ns && conn->retry_ns < due) due = conn->retry_ns;
        /* The link is full: nobody tells when it is not any more. */
        uint64_t soon = conn->up && conn->unsent ? 1000000 : UINT64_MAX;
        if (soon != UINT64_MAX && remote_now(channel->remote) + soon < due)
            due = remote_now(channel->remote) + soon;
    }
    return due;
}

/* Which of so many workers a request goes to: the one that owns its slot; but what this life has
 * got already stays with the worker that got it, whose session alone knows of it. */
static uint32_t worker_for(const struct channel *channel, const struct client_listener *listener,
                           uint16_t count)
{
    const struct signal *signal = listener->kept;
    const struct signal_header *header = &signal->header;
    uint32_t to = header->destination < count ? header->destination : 0;
    if (listener->kept_life == remote_life(channel->remote) && header->destination < count)
        return to;
    struct program_outline outline;
    if (header->type == SIGNAL_PROGRAM &&
        !program_outline_decode(signal->body, signal_body_size(signal), &outline) &&
        outline.section_count)
        to = remote_slot_worker(channel->remote, outline.sections[0].slot);
    return to;
}

/* Who moves is taken from its link. Those that stay keep their places: sent ones are not to be sent
 * again, or the link's end could not tell which of the two came through. */
static struct client_listener *movers_take(struct conn *conn, uint16_t count)
{
    struct client_listener *movers = NULL;
    struct client_listener *newer;
    for (struct client_listener *listener = conn->oldest; listener; listener = newer) {
        newer = listener->kept_newer;
        uint32_t to = worker_for(conn->channel, listener, count);
        if (to == conn->worker) continue;
        struct signal *signal = conn_take(conn, listener);
        signal->header.destination = to;
        listener->kept = signal;
        listener->kept_newer = movers;
        movers = listener;
    }
    return movers;
}

/* The node has, or has again, another number of workers. */
void conns_spread(struct channel *channel, uint16_t count)
{
    struct client_listener *movers[WORKERS_MAX] = {NULL};
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        struct conn *conn = channel->conns[w];
        if (!conn) continue;
        movers[w] = movers_take(conn, count);
        if (w < count) continue;
        /* What a query waits for from there does not come. */
        if (conn->up) channel->lost |= UINT64_C(1) << w;
        if (conn->link) link_close(conn->link);
        free(conn);
        channel->conns[w] = NULL;
    }
    channel->worker_count = count;
    for (unsigned w = 0; w < WORKERS_MAX; w++) {
        while (movers[w]) {
            struct client_listener *listener = movers[w];
            struct signal_header *header = &listener->kept->header;
            movers[w] = listener->kept_newer;
            struct conn *conn = conn_get(channel, (uint16_t)header->destination);
            if (!conn) conn = channel->conns[0]; /* a retry of the caller finds its way */
            header->destination = conn->worker;
            conn_keep(conn, listener);
            channel->restless = true;
        }
    }
}
