/* Receiving: batches into messages.
 *
 * Each batch is checked before anything in it is used: header, checksum, sequence, credits. What is
 * wrong in it ends this link only. Fragments are checked one by one while they are copied, once,
 * from the batch to the memory that the owner gave for the message; a batch whose end is malformed
 * has had the whole messages before that handed out, which is what was sent.
 *
 * A peer holds at most one incomplete message, of PORT_MESSAGE_SIZE_MAX at most, and its memory is
 * asked for only after the peer was authenticated. */
#include "rdma/core/port_private.h"

#include <string.h>

#include "base/check.h"

static void link_broken(struct link *link, const char *what)
{
    link->port->stats.bad_frames++;
    link_fail(link, ERR_BAD_FRAME, "a malformed frame: %s", what);
}

void link_receive_drop(struct link *link)
{
    if (!link->partial) return;
    void *partial = link->partial;
    link->partial = NULL;
    const struct port_config *config = &link->port->config;
    config->events->release(config->context, link, partial);
}

void link_receive_reset(struct link *link)
{
    link->receive_sequence = 0;
    link_receive_drop(link);
}

static void message_give(struct link *link, void *message, uint32_t size)
{
    struct port *port = link->port;
    link->taken_count++;
    link->stats.messages_received++;
    port->messages++;
    port->callbacks++;
    port->config.events->message(port->config.context, link, message, size);
}

/* One fragment. False: the link is down. */
static bool fragment_take(struct link *link, const struct fragment *fragment)
{
    struct port *port = link->port;
    if (fragment->total) {
        if (link->partial) {
            link_broken(link, "a message inside another");
            return false;
        }
        uint8_t *message = port->config.events->alloc(port->config.context, link, fragment->total);
        if (!message) {
            link_fail(link, ERR_NO_MEMORY, "no memory for a message of %u bytes", fragment->total);
            return false;
        }
        if (link->state != LINK_UP) { /* its owner has closed it from within alloc */
            port->config.events->release(port->config.context, link, message);
            return false;
        }
        memcpy(message, fragment->bytes, fragment->size);
        if (fragment->size == fragment->total) {
            message_give(link, message, fragment->total);
            return link->state == LINK_UP;
        }
        link->partial = message;
        link->partial_size = fragment->total;
        link->partial_have = fragment->size;
        return true;
    }
    if (!link->partial || fragment->size > link->partial_size - link->partial_have) {
        link_broken(link, "a fragment of no message");
        return false;
    }
    memcpy(link->partial + link->partial_have, fragment->bytes, fragment->size);
    link->partial_have += fragment->size;
    if (link->partial_have < link->partial_size) return true;
    uint8_t *message = link->partial;
    link->partial = NULL;
    message_give(link, message, link->partial_size);
    return link->state == LINK_UP;
}

/* False: the link is down. */
static bool data_take(struct link *link, const uint8_t *bytes, const struct batch_header *header)
{
    struct fragments fragments = fragments_of(bytes, header);
    struct fragment fragment;
    enum err err;
    link->stats.batches_received++;
    while (!(err = fragments_next(&fragments, &fragment)))
        if (!fragment_take(link, &fragment)) return false;
    if (err == ERR_END) return true;
    link_broken(link, "fragments and size do not agree");
    return false;
}

/* Credits in both directions. False: the link is down. */
static bool credits_take(struct link *link, const struct batch_header *header)
{
    if (header->credits > link->window - link->credits) {
        link_broken(link, "more credits than there are");
        return false;
    }
    link->credits += header->credits;
    if (header->kind != BATCH_DATA && header->kind != BATCH_PING) return true;
    if (!link->receive_left) {
        link_broken(link, "a batch without a credit");
        return false;
    }
    link->receive_left--;
    link->owed++;
    if (link->owed >= link->owed_alone) link_mark_dirty(link);
    return true;
}

void core_batch(struct link *link, const uint8_t *bytes, uint32_t size)
{
    struct port *port = link->port;
    if (link->ending) return; /* closed by its owner in this turn */
    struct batch_header header;
    if (batch_check(bytes, size, link->ops->needs_checksum, &header)) {
        link_broken(link, "its header or checksum is wrong");
        return;
    }
    if (header.sequence != link->receive_sequence) {
        link_broken(link, "batches are missing or were repeated");
        return;
    }
    link->receive_sequence++;
    link->received_ns = port->now_ns;
    link->stats.bytes_received += size;
    if (link->state != LINK_UP && link->state != LINK_DRAINING) {
        greet_batch(link, &header, bytes);
        return;
    }
    if (header.kind < BATCH_DATA) {
        link_broken(link, "a second handshake");
        return;
    }
    if (!credits_take(link, &header)) return;
    if (header.kind == BATCH_GOODBYE) {
        if (header.taken > link->sent_count) {
            link_broken(link, "more messages taken than were sent");
            return;
        }
        link->peer_taken = header.taken;
        link_fail(link, ERR_CLOSED, "the peer closed the link");
        return;
    }
    /* A link that its owner has closed only waits until its queue has left. */
    if (header.kind == BATCH_DATA && link->state == LINK_UP && !data_take(link, bytes, &header))
        return;
    link_pump_flush(link);
}

uint32_t core_batch_size_max(const struct link *link)
{
    bool known = link->state == LINK_UP || link->state == LINK_DRAINING;
    return known ? UINT32_MAX : HANDSHAKE_BATCH_SIZE_MAX;
}
