/* Sending: messages into batches, batches to the back end, and the flow of credits.
 *
 * A message that fits goes into the open batch; when it does not fit any more, the batch is posted
 * and another is opened. A message larger than a batch is cut into fragments over several. What
 * finds no credit or buffer waits in the link's queue, in order, and so does everything after it,
 * until credits or core_writable let link_pump move on. The queue is bounded: when more than
 * link_queue_bytes wait, link_send refuses.
 *
 * Credits. Each side says in the handshake how many batches it takes (link_credits); that is the
 * other's window. A DATA or PING batch costs one, when it is opened. Its receiver owes it from then
 * on, and gives it back in the header of whatever it posts next. Once half of the window (rounded
 * up) is owed and no batch is about to leave, a CREDIT batch goes by itself; it costs nothing.
 *
 *   - One-way traffic never stalls: a sender without credits has `window` batches under way; when
 *     the receiver has handled them, the whole window is owed, which is at least the half that
 *     travels alone. CREDIT itself needs no credit, only a buffer; when there is none, the back
 *     end's core_writable tries again.
 *   - At most two CREDIT batches are under way per direction: each carries at least half of the
 *     window, the credits in all of them were used up by the other side before, and there are no
 *     more than `window` in all. Besides those there are WELCOME (the first batch that its side
 *     sends for which no credit was given) and GOODBYE (the last): so BATCHES_SPARE is 4.
 *   - PING costs a credit, so a peer that does not take anything is not sent any more of them. A
 *     side without credits need not ping: there is a window of batches under way to the peer, whose
 *     arrival says as much; and as soon as the peer handles half of them it gives credits back.
 */
#include "rdma/core/port_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

_Static_assert(BATCHES_SPARE >= 4, "two of CREDIT, WELCOME, GOODBYE");
_Static_assert((int)BATCH_SIZE_MIN == (int)BATCH_HEADER_SIZE, "the smallest batch is a header");

/* A place in the pieces of a message. */
struct cursor {
    const struct link_piece *pieces;
    uint32_t offset; /* in the first of them */
};

static void cursor_copy(struct cursor *cursor, uint8_t *to, uint32_t size)
{
    while (size) {
        uint32_t left = cursor->pieces->size - cursor->offset;
        uint32_t part = left < size ? left : size;
        if (part) memcpy(to, (const uint8_t *)cursor->pieces->bytes + cursor->offset, part);
        to += part;
        size -= part;
        cursor->offset += part;
        if (cursor->offset == cursor->pieces->size) {
            cursor->pieces++;
            cursor->offset = 0;
        }
    }
}

void link_mark_dirty(struct link *link)
{
    if (link->dirty) return;
    link->dirty = true;
    link->dirty_next = link->port->dirty;
    link->port->dirty = link;
}

/* ---- batches ---- */

static void batch_post(struct link *link, uint8_t *bytes, uint32_t size, enum batch_kind kind,
                       uint32_t count)
{
    struct batch_header header = {
        .size = size,
        .sequence = link->send_sequence++,
        .kind = (uint16_t)kind,
        .credits = (uint16_t)link->owed,
        .count = count,
        .taken = kind == BATCH_GOODBYE ? link->taken_count : 0,
    };
    link->receive_left += link->owed;
    link->owed = 0;
    batch_seal(bytes, &header, link->ops->needs_checksum);
    link->sent_ns = link->port->now_ns;
    link->stats.bytes_sent += size;
    link->stats.batches_sent += kind == BATCH_DATA;
    link->ops->post(link, size);
    link_mark_dirty(link);
}

static void open_post(struct link *link)
{
    uint8_t *bytes = link->open;
    link->open = NULL;
    batch_post(link, bytes, link->open_size, BATCH_DATA, link->open_count);
}

/* False: no credit or no buffer. */
static bool open_begin(struct link *link)
{
    if (!link->credits || link->ops->reserve(link, &link->open, &link->capacity)) return false;
    ASSERT_SLOW(link->capacity >= BATCH_CAPACITY_MIN);
    link->credits--;
    link->open_capacity = link->capacity & ~7u;
    link->open_size = BATCH_HEADER_SIZE;
    link->open_count = 0;
    link_mark_dirty(link);
    return true;
}

/* An open batch stays empty only when its first message could not be sent for want of memory. */
static bool open_has_something(const struct link *link)
{
    return link->open && link->open_count;
}

/* The start of a fragment's bytes in the open batch, which has room for it. */
static inline uint8_t *open_append(struct link *link, uint32_t size, uint32_t total)
{
    uint8_t *at = link->open + link->open_size;
    uint32_t space = fragment_space(size);
    uint32_t words[2] = {size, total};
    memset(at + space - 8, 0, 8); /* the padding; what is not padding is overwritten */
    memcpy(at, words, sizeof(words));
    link->open_size += space;
    link->open_count++;
    return at + FRAGMENT_HEADER_SIZE;
}

bool link_post_control(struct link *link, enum batch_kind kind, const void *body,
                       uint32_t body_size)
{
    if (open_has_something(link)) open_post(link);
    uint8_t *bytes = link->open;
    uint32_t capacity = link->open_capacity;
    if (bytes) {
        link->open = NULL;
        link->credits++;
    } else if (link->ops->reserve(link, &bytes, &capacity)) {
        return false;
    }
    ASSERT(body_size % 8 == 0 && BATCH_HEADER_SIZE + body_size <= capacity);
    if (body_size) memcpy(bytes + BATCH_HEADER_SIZE, body, body_size);
    batch_post(link, bytes, BATCH_HEADER_SIZE + body_size, kind, 0);
    return true;
}

/* ---- the queue ---- */

static struct queued *queued_create(uint32_t size)
{
    struct queued *queued = malloc(sizeof(*queued) + size);
    if (!queued) return NULL;
    queued->next = NULL;
    queued->size = size;
    queued->sent = 0;
    return queued;
}

static void queue_push(struct link *link, struct queued *queued)
{
    if (!link->queue) {
        link->queue_tail = &link->queue;
        link->stats.stalls++;
    }
    *link->queue_tail = queued;
    link->queue_tail = &queued->next;
    link->queue_bytes += queued->size;
    link->port->queue_bytes += queued->size;
}

static void queue_pop(struct link *link)
{
    struct queued *queued = link->queue;
    link->queue = queued->next;
    link->queue_bytes -= queued->size;
    link->port->queue_bytes -= queued->size;
    free(queued);
}

/* How much of `left` bytes the open batch takes now, opening one if need be; 0: nothing can be sent
 * now. The rest of a nearly full batch is not worth a fragment. */
static uint32_t open_room(struct link *link, uint32_t left)
{
    enum { WORTHWHILE = 64 };
    if (link->open) {
        uint32_t room = link->open_capacity - link->open_size;
        if (room >= fragment_space(left < WORTHWHILE ? left : WORTHWHILE)) {
            room -= FRAGMENT_HEADER_SIZE;
            return left < room ? left : room;
        }
        open_post(link);
    }
    if (!open_begin(link)) return 0;
    uint32_t room = link->open_capacity - BATCH_HEADER_SIZE - FRAGMENT_HEADER_SIZE;
    return left < room ? left : room;
}

void link_pump(struct link *link)
{
    while (link->queue) {
        struct queued *queued = link->queue;
        uint32_t size = open_room(link, queued->size - queued->sent);
        if (!size) return;
        uint8_t *at = open_append(link, size, queued->sent ? 0 : queued->size);
        memcpy(at, queued->bytes + queued->sent, size);
        queued->sent += size;
        if (queued->sent == queued->size) queue_pop(link);
    }
}

void link_pump_flush(struct link *link)
{
    if (!link->queue || link->ending) return;
    link_pump(link);
    link_flush(link);
    link_drained(link);
}

/* ---- messages ---- */

/* A message that needs more than one batch, or has to wait. */
static enum err send_long(struct link *link, struct cursor cursor, uint32_t total)
{
    if (link->queue_bytes >= link->port->config.link_queue_bytes) return ERR_BUSY;
    /* Before anything of it leaves, there is memory for all that may have to wait. It is touched
     * only as far as it is used. */
    struct queued *queued = queued_create(total);
    if (!queued) return ERR_NO_MEMORY;
    while (!link->queue && queued->sent < total) {
        uint32_t size = open_room(link, total - queued->sent);
        if (!size) break;
        cursor_copy(&cursor, open_append(link, size, queued->sent ? 0 : total), size);
        queued->sent += size;
    }
    if (queued->sent == total) {
        free(queued);
        return ERR_NONE;
    }
    cursor_copy(&cursor, queued->bytes + queued->sent, total - queued->sent);
    queue_push(link, queued);
    return ERR_NONE;
}

static void note_sent(struct link *link)
{
    link->sent_count++;
    link->stats.messages_sent++;
}

enum err link_send(struct link *link, const struct link_piece *pieces, unsigned count)
{
    if (link->state != LINK_UP) return ERR_CLOSED;
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += pieces[i].size;
    if (!total) return ERR_INVALID;
    if (total > link->peer_offer.message_size_max) return ERR_TOO_BIG;
    struct cursor cursor = {pieces, 0};
    uint32_t size = (uint32_t)total;
    uint32_t space = fragment_space(size);
    if (link->queue || (link->capacity && space > (link->capacity & ~7u) - BATCH_HEADER_SIZE))
        goto send_long;
    if (link->open && space > link->open_capacity - link->open_size) open_post(link);
    if (!link->open && !open_begin(link)) goto send_long;
    if (space > link->open_capacity - link->open_size) goto send_long;
    cursor_copy(&cursor, open_append(link, size, size), size);
    note_sent(link);
    return ERR_NONE;

send_long:;
    enum err err = send_long(link, cursor, size);
    if (!err) note_sent(link);
    return err;
}

/* ---- flushing ---- */

void link_give_credits(struct link *link)
{
    if (link->owed < link->owed_alone || !link->backend_link) return;
    if (open_has_something(link)) return; /* they travel with it */
    if (link->state != LINK_UP && link->state != LINK_DRAINING) return;
    if (!link_post_control(link, BATCH_CREDIT, NULL, 0)) return; /* until core_writable */
    link->stats.credit_batches_sent++;
    link->ops->flush(link);
}

void link_flush(struct link *link)
{
    if (!link->backend_link) return;
    if (open_has_something(link)) open_post(link);
    link_give_credits(link);
    link->ops->flush(link);
}

void core_writable(struct link *link)
{
    if (!link->backend_link) return;
    link_give_credits(link);
    link_pump_flush(link);
}

void link_send_reset(struct link *link)
{
    while (link->queue)
        queue_pop(link);
    link->open = NULL;
    link->capacity = 0;
    link->credits = 0;
    link->owed = 0;
    link->owed_alone = UINT32_MAX;
    link->receive_left = 0;
    link->send_sequence = 0;
}
