/* Shared memory as a back end: two rings and a socket for each link.
 *
 * Files: ring.c (a ring between two processes), segment.c (the memory), local_socket.c (the socket
 * in the file system), meet.c (how a link comes to be), and here: sending, polling, sleeping and
 * ending.
 *
 * Looking. A link that had traffic is hot: every poll loads the word at which its next batch will
 * appear, which costs a nanosecond while nobody writes there. When many are hot, those that stay
 * silent turn cold again. A cold link's peer is told that it must wake us (ring_rest), so cold
 * links need not be looked at: a poll glances at two of them in turn, which finds within a
 * microsecond what came while we are awake anyway. So an idle poll costs the same with 4 links or
 * with 1,000.
 *
 * Sleeping. arm turns the hot links cold, and looks at each once more in doing so; nothing else has
 * to be announced, because cold links have been resting all the time. Who sends to a resting link
 * writes one byte to its socket; that is an event of that socket alone, so waking up also costs the
 * same with any number of links. Awake, nobody makes a system call.
 *
 * Ending. What was posted lies in memory that the peer has mapped, so closing loses nothing: the
 * peer sees the socket hang up, takes what is left in the ring, and only then reports the link as
 * lost. A peer that was killed looks the same.
 *
 * What a peer can do wrong ends its link only: see ring.c and segment.c. Wakes are sent without
 * waiting; one that fails (the peer has not read for a long time) is tried again every millisecond.
 *
 * The core may close any link during core_batch. The one being served keeps its memory until the
 * core returns; every loop here re-reads the table after each call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "rdma/shm/shm_private.h"

enum {
    HOT_KEPT = 8,         /* that many may stay hot however silent they are */
    IDLE_POLLS = 4096,    /* others turn cold after so many polls without a batch */
    STARVED_CHECK = 256,  /* silent polls between looks at whether the peer waits for room */
    COLD_LOOKS = 2,       /* cold links glanced at in each poll */
    BATCHES_AT_ONCE = 32, /* of one link, before the others have their turn */
};
static_assert((IDLE_POLLS & (IDLE_POLLS - 1)) == 0 && (STARVED_CHECK & (STARVED_CHECK - 1)) == 0,
              "tested with masks");

/* ---- what is to be told at the next poll ---- */

void shm_due(struct backend_link *at)
{
    if (at->is_due) return;
    at->is_due = true;
    at->due_next = at->shm->due;
    at->shm->due = at;
}

static void due_remove(struct backend_link *at)
{
    if (!at->is_due) return;
    struct backend_link **place = &at->shm->due;
    while (*place != at)
        place = &(*place)->due_next;
    *place = at->due_next;
    at->is_due = false;
}

void shm_retry_in(struct backend *shm, uint64_t ns)
{
    uint64_t at_ns = port_now_ns(shm->head.port) + ns;
    if (at_ns < shm->retry_ns) shm->retry_ns = at_ns;
}

/* ---- the table of links: hot ones first ---- */

bool shm_rows_grow(struct backend *shm)
{
    if (shm->count < shm->capacity) return true;
    uint32_t capacity = shm->capacity ? shm->capacity * 2 : 16;
    struct row *rows = reallocarray(shm->rows, capacity, sizeof(*rows));
    if (!rows) return false;
    shm->rows = rows;
    shm->capacity = capacity;
    return true;
}

static void row_put(struct backend *shm, uint32_t index, struct row row)
{
    shm->rows[index] = row;
    row.at->index = index;
}

static void rows_swap(struct backend *shm, uint32_t a, uint32_t b)
{
    struct row row = shm->rows[a];
    row_put(shm, a, shm->rows[b]);
    row_put(shm, b, row);
}

static bool is_hot(const struct backend_link *at)
{
    return at->index < at->shm->hot_count;
}

void shm_make_hot(struct backend_link *at)
{
    struct backend *shm = at->shm;
    if (is_hot(at)) return;
    ring_attend(&at->consumer);
    rows_swap(shm, at->index, shm->hot_count);
    shm->rows[shm->hot_count++].idle = 0;
}

/* Without announcing anything. */
static void make_cold(struct backend_link *at)
{
    struct backend *shm = at->shm;
    rows_swap(shm, at->index, --shm->hot_count);
}

void shm_row_add(struct backend_link *at)
{
    struct backend *shm = at->shm;
    ASSERT(shm->count < shm->capacity && at->index == UINT32_MAX);
    row_put(shm, shm->count++, (struct row){.watched = ring_watched(&at->consumer), .at = at});
    shm->memory_bytes += at->segment.size;
}

static void row_remove(struct backend_link *at)
{
    struct backend *shm = at->shm;
    if (at->index == UINT32_MAX) return;
    if (is_hot(at)) make_cold(at);
    rows_swap(shm, at->index, --shm->count);
    at->index = UINT32_MAX;
    shm->memory_bytes -= at->segment.size;
}

/* ---- sending ---- */

static void wake_peer(struct backend_link *at)
{
    ssize_t sent = send(at->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    at->wake_owed = sent < 0 && errno != EPIPE && errno != ECONNRESET;
    at->wakes += sent > 0;
    if (at->wake_owed) shm_retry_in(at->shm, SHM_RETRY_NS);
}

static void link_broken(struct backend_link *at)
{
    at->broken = true;
    shm_due(at);
}

static void set_starved(struct backend_link *at, bool starved)
{
    if (at->starved == starved) return;
    at->starved = starved;
    at->shm->starved += starved ? 1 : UINT32_MAX;
}

static enum err shm_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity)
{
    struct backend_link *at = link_backend(link);
    if (!at->segment.memory || at->broken) return ERR_BUSY;
    enum err err = ring_reserve(&at->producer, ret_bytes);
    set_starved(at, err == ERR_BUSY);
    if (!err) {
        *ret_capacity = SEGMENT_BATCH_SIZE_MAX;
        return ERR_NONE;
    }
    if (err != ERR_BUSY) link_broken(at);
    return ERR_BUSY;
}

static void shm_post(struct link *link, uint32_t size)
{
    struct backend_link *at = link_backend(link);
    ring_publish(&at->producer, size);
    at->posted = true;
}

static void shm_flush(struct link *link)
{
    struct backend_link *at = link_backend(link);
    if (!at->posted) return;
    at->posted = false;
    if (ring_must_wake(&at->producer)) wake_peer(at);
    /* An answer is likely. */
    shm_make_hot(at);
}

/* ---- polling ---- */

/* At most `budget` batches; returns how many there were. */
static uint32_t consume(struct backend_link *at, uint32_t budget)
{
    struct backend *shm = at->shm;
    uint32_t taken = 0;
    ASSERT(!shm->serving);
    shm->serving = at;
    while (taken < budget && !shm->serving_closed) {
        const uint8_t *bytes;
        uint32_t size;
        enum err err = ring_next(&at->consumer, &bytes, &size);
        if (err == ERR_END) break;
        if (err) {
            link_broken(at);
            break;
        }
        taken++;
        core_batch(at->link, bytes, size);
        if (shm->serving_closed) break;
        ring_release(&at->consumer);
        if (!at->hung_up) continue;
        if (!--at->last_batches) {
            link_broken(at); /* somebody else writes into the ring of a dead peer */
            break;
        }
    }
    shm->serving = NULL;
    if (shm->serving_closed) {
        shm->serving_closed = false;
        shm_link_unmake(at);
    } else {
        shm->rows[at->index].watched = ring_watched(&at->consumer);
        if (ring_take_starved(&at->consumer)) wake_peer(at);
    }
    return taken;
}

/* A hot link with nothing to read. */
static void poll_silent(struct backend *shm, struct row *row)
{
    if (++row->idle & (STARVED_CHECK - 1)) return;
    struct backend_link *at = row->at;
    if (ring_take_starved(&at->consumer)) wake_peer(at);
    if (row->idle < IDLE_POLLS || shm->hot_count <= HOT_KEPT) return;
    row->idle = 0;
    if (!ring_rest(&at->consumer)) return;
    make_cold(at);
    if (ring_take_starved(&at->consumer)) wake_peer(at);
}

static bool poll_hot(struct backend *shm, uint32_t *budget)
{
    bool found = false;
    /* Each row once; where a link was closed or turned cold, another one has taken its row. */
    for (uint32_t left = shm->hot_count; left && *budget; left--) {
        if (shm->next_hot >= shm->hot_count) shm->next_hot = 0;
        if (!shm->hot_count) break;
        struct row *row = &shm->rows[shm->next_hot];
        struct backend_link *at = row->at;
        if (!atomic_load_explicit(row->watched, memory_order_relaxed)) {
            poll_silent(shm, row);
        } else {
            row->idle = 0;
            found = true;
            *budget -= consume(at, *budget < BATCHES_AT_ONCE ? *budget : BATCHES_AT_ONCE);
        }
        if (shm->next_hot < shm->hot_count && shm->rows[shm->next_hot].at == at) shm->next_hot++;
    }
    return found;
}

static bool poll_cold(struct backend *shm, uint32_t *budget)
{
    bool found = false;
    for (unsigned i = 0; i < COLD_LOOKS && shm->hot_count < shm->count && *budget; i++) {
        if (shm->next_cold < shm->hot_count || shm->next_cold >= shm->count)
            shm->next_cold = shm->hot_count;
        struct row *row = &shm->rows[shm->next_cold++];
        if (!atomic_load_explicit(row->watched, memory_order_relaxed)) continue;
        struct backend_link *at = row->at;
        found = true;
        shm_make_hot(at);
        *budget -= consume(at, *budget < BATCHES_AT_ONCE ? *budget : BATCHES_AT_ONCE);
    }
    return found;
}

/* One link that has something to tell; it may be gone afterwards. */
static void tell(struct backend_link *at)
{
    if (at->connected_due) {
        at->connected_due = false;
        if (at->hung_up || at->broken) shm_due(at);
        core_connected(at->link);
    } else if (at->failure) {
        core_lost(at->link, at->failure, "%s",
                  at->failure_text ? at->failure_text : err_text(at->failure));
    } else if (at->broken) {
        core_lost(at->link, ERR_BAD_FRAME, "the peer has damaged the shared memory of the link");
    } else if (at->hung_up) {
        if (at->segment.memory && atomic_load(ring_watched(&at->consumer)))
            shm_due(at); /* there is more to read */
        else
            core_lost(at->link, ERR_CLOSED, "the peer has closed the connection or died");
    }
}

static bool poll_due(struct backend *shm)
{
    /* Those that are due again while we walk have their turn in the next poll. */
    struct backend_link *marks[16];
    unsigned count = 0;
    for (struct backend_link *at = shm->due; at && count < ARRAY_SIZE(marks); at = at->due_next)
        marks[count++] = at;
    for (unsigned i = 0; i < count; i++) {
        /* One that was closed meanwhile has left the list. */
        struct backend_link *at = shm->due;
        while (at && at != marks[i])
            at = at->due_next;
        if (!at) continue;
        due_remove(at);
        tell(at);
    }
    return count;
}

/* Producers that waited for room. */
static bool poll_starved(struct backend *shm)
{
    bool found = false;
    for (uint32_t i = 0; i < shm->count && shm->starved; i++) {
        struct backend_link *at = shm->rows[i].at;
        if (!at->starved) continue;
        enum err err = ring_look_for_room(&at->producer);
        if (err == ERR_BUSY) continue;
        set_starved(at, false);
        found = true;
        if (err)
            link_broken(at);
        else
            core_writable(at->link);
    }
    return found;
}

static void poll_retry(struct backend *shm)
{
    if (port_now_ns(shm->head.port) < shm->retry_ns) return;
    shm->retry_ns = UINT64_MAX;
    for (uint32_t i = 0; i < shm->count; i++)
        if (shm->rows[i].at->wake_owed) wake_peer(shm->rows[i].at);
    shm_listeners_resume(shm);
}

static bool shm_poll(struct backend *shm, unsigned budget)
{
    uint32_t left = budget;
    bool found = shm->hot_count && poll_hot(shm, &left);
    if (shm->hot_count < shm->count) found |= poll_cold(shm, &left);
    if (shm->starved) found |= poll_starved(shm);
    if (shm->due) found |= poll_due(shm);
    if (shm->retry_ns != UINT64_MAX) poll_retry(shm);
    return found;
}

/* ---- sleeping ---- */

static bool shm_arm(struct backend *shm)
{
    if (shm->due) return false;
    for (uint32_t i = 0; shm->starved && i < shm->count; i++) {
        struct backend_link *at = shm->rows[i].at;
        /* Having announced that it waits, the producer looks once more: see ring.c. */
        if (at->starved && ring_look_for_room(&at->producer) != ERR_BUSY) return false;
    }
    while (shm->hot_count) {
        struct backend_link *at = shm->rows[shm->hot_count - 1].at;
        if (!ring_rest(&at->consumer)) return false;
        make_cold(at);
        if (ring_take_starved(&at->consumer)) wake_peer(at);
    }
    return true;
}

/* The links stay cold until their peers or we send. */
static void shm_disarm(struct backend *shm)
{
    (void)shm;
}

static uint64_t shm_timer_ns(const struct backend *shm)
{
    return shm->retry_ns;
}

/* ---- life ---- */

static enum err shm_open(struct port *port, int epoll_fd, struct backend **ret_backend,
                         struct diag *diag)
{
    struct backend *shm = calloc(1, sizeof(*shm));
    if (!shm) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    shm->head = (struct backend_head){.ops = &shm_ops, .port = port};
    shm->epoll_fd = epoll_fd;
    shm->retry_ns = UINT64_MAX;
    *ret_backend = shm;
    return ERR_NONE;
}

static void shm_destroy(struct backend *shm)
{
    ASSERT(!shm->count && !shm->due && !shm->serving);
    for (uint32_t i = 0; i < shm->listener_count; i++)
        shm_listener_destroy(shm->listeners[i]);
    free(shm->rows);
    free(shm);
}

static void shm_close(struct link *link, bool drain)
{
    (void)drain; /* what was posted is in the peer's hands */
    struct backend_link *at = link_backend(link);
    struct backend *shm = at->shm;
    link_set_backend(link, NULL);
    due_remove(at);
    set_starved(at, false);
    row_remove(at);
    if (shm->serving == at)
        shm->serving_closed = true; /* the core still reads from its memory */
    else
        shm_link_unmake(at);
}

static void shm_stats(const struct backend *shm, struct port_stats *stats)
{
    stats->buffer_bytes += shm->memory_bytes;
}

static void shm_link_stats(const struct link *link, struct link_stats *stats)
{
    const struct backend_link *at = link_backend(link);
    if (at) stats->wakeups_sent += at->wakes;
}

const struct backend_ops shm_ops = {
    .kind = LINK_SHM,
    .needs_checksum = false,
    .open = shm_open,
    .destroy = shm_destroy,
    .listen = shm_listen,
    .connect = shm_connect,
    .close = shm_close,
    .reserve = shm_reserve,
    .post = shm_post,
    .flush = shm_flush,
    .poll = shm_poll,
    .arm = shm_arm,
    .disarm = shm_disarm,
    .stats = shm_stats,
    .link_stats = shm_link_stats,
    .timer_ns = shm_timer_ns,
};
