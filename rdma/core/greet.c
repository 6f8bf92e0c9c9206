/* Who sends which frame of the handshake when (core/handshake.c has the frames), and what comes of
 * it: the link is up, refused, or ends.
 *
 * Nothing but the one frame that is due, of its exact size, is looked at. An acceptor tells a peer
 * that has not proved itself nothing: it closes. The connector is told why by its own check. */
#include "rdma/core/port_private.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void greet_broken(struct link *link)
{
    link->port->stats.bad_frames++;
    link_fail(link, ERR_BAD_FRAME, "a malformed handshake: is that a port of trellis?");
}

/* Posts and lets leave at once: the handshake is not batched with anything. */
static bool greet_send(struct link *link, enum batch_kind kind, const void *frame, uint32_t size)
{
    if (!link_post_control(link, kind, frame, size)) {
        link_fail(link, ERR_BUSY, "no buffer for the handshake");
        return false;
    }
    link->ops->flush(link);
    return true;
}

static void own_offer(const struct link *link, uint8_t bytes[OFFER_SIZE])
{
    const struct port_config *config = &link->port->config;
    struct offer offer = {
        .credits = config->link_credits,
        .message_size_max = PORT_MESSAGE_SIZE_MAX,
        .keepalive_ms = config->keepalive_ms,
        .hello_size = config->hello_size,
    };
    memcpy(offer.hello, config->hello, config->hello_size);
    if (!link->accepted && link->hello_size) {
        memset(offer.hello, 0, sizeof(offer.hello));
        memcpy(offer.hello, link->hello, link->hello_size);
        offer.hello_size = link->hello_size;
    }
    offer_encode(&offer, bytes);
}

/* ---- the connector ---- */

void greet_start(struct link *link)
{
    struct hello_frame frame = {.version = HANDSHAKE_VERSION};
    port_random(link->port, frame.nonce, sizeof(frame.nonce));
    memcpy(link->transcript.connector_nonce, frame.nonce, sizeof(frame.nonce));
    uint8_t bytes[HELLO_FRAME_SIZE];
    hello_encode(&frame, bytes);
    link->state = LINK_GREETED;
    (void)greet_send(link, BATCH_HELLO, bytes, sizeof(bytes));
}

static void challenge_take(struct link *link, const uint8_t *body, uint32_t size)
{
    struct challenge_frame challenge;
    if (challenge_decode(body, size, &challenge)) {
        greet_broken(link);
        return;
    }
    struct transcript *transcript = &link->transcript;
    memcpy(transcript->acceptor_nonce, challenge.nonce, sizeof(challenge.nonce));
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    challenge_prove(&link->port->keys, transcript, challenge.version, proof);
    if (!proof_equals(proof, challenge.proof)) {
        link_fail(link, ERR_DENIED, "the peer does not know this cluster's secret");
        return;
    }
    if (challenge.version != HANDSHAKE_VERSION) {
        link_fail(link, ERR_VERSION, "the peer speaks version %u of the protocol, this program %d",
                  challenge.version, HANDSHAKE_VERSION);
        return;
    }
    struct offer_frame frame;
    own_offer(link, transcript->connector_offer);
    memcpy(frame.offer_bytes, transcript->connector_offer, OFFER_SIZE);
    connector_prove(&link->port->keys, transcript, frame.proof);
    uint8_t bytes[PROOF_FRAME_SIZE];
    offer_frame_encode(&frame, bytes);
    link->state = LINK_PROVED;
    (void)greet_send(link, BATCH_PROOF, bytes, sizeof(bytes));
}

static void refuse_take(struct link *link, const uint8_t *body, uint32_t size)
{
    struct refuse_frame refuse;
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    if (refuse_decode(body, size, &refuse)) {
        greet_broken(link);
        return;
    }
    refuse_prove(&link->port->keys, &link->transcript, refuse.err, proof);
    if (!proof_equals(proof, refuse.proof)) {
        link_fail(link, ERR_DENIED, "a refusal that the peer did not make");
        return;
    }
    link_fail(link, refuse.err, "the peer refuses the link: %s", err_text(refuse.err));
}

static void welcome_take(struct link *link, const uint8_t *body, uint32_t size)
{
    struct offer_frame frame;
    if (offer_frame_decode(body, size, &frame)) {
        greet_broken(link);
        return;
    }
    struct transcript *transcript = &link->transcript;
    memcpy(transcript->acceptor_offer, frame.offer_bytes, OFFER_SIZE);
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    welcome_prove(&link->port->keys, transcript, proof);
    if (!proof_equals(proof, frame.proof)) {
        link_fail(link, ERR_DENIED, "a welcome that the peer did not make");
        return;
    }
    struct port *port = link->port;
    link_came_up(link, &frame.offer);
    link->credits = link->window;
    port->callbacks++;
    enum err err = port->config.events->up(port->config.context, link);
    if (err && !link->closed && link->state == LINK_UP) link_refuse(link, err);
}

/* ---- the acceptor ---- */

static void hello_take(struct link *link, const uint8_t *body, uint32_t size)
{
    struct hello_frame hello;
    if (hello_decode(body, size, &hello)) {
        greet_broken(link);
        return;
    }
    struct transcript *transcript = &link->transcript;
    struct challenge_frame challenge = {.version = HANDSHAKE_VERSION};
    memcpy(transcript->connector_nonce, hello.nonce, sizeof(hello.nonce));
    port_random(link->port, challenge.nonce, sizeof(challenge.nonce));
    memcpy(transcript->acceptor_nonce, challenge.nonce, sizeof(challenge.nonce));
    challenge_prove(&link->port->keys, transcript, HANDSHAKE_VERSION, challenge.proof);
    uint8_t bytes[CHALLENGE_FRAME_SIZE];
    challenge_encode(&challenge, bytes);
    link->state = LINK_CHALLENGED;
    (void)greet_send(link, BATCH_CHALLENGE, bytes, sizeof(bytes));
}

static void refuse_send(struct link *link, enum err err)
{
    struct refuse_frame refuse = {.err = err};
    refuse_prove(&link->port->keys, &link->transcript, err, refuse.proof);
    uint8_t bytes[REFUSE_FRAME_SIZE];
    refuse_encode(&refuse, bytes);
    if (greet_send(link, BATCH_REFUSE, bytes, sizeof(bytes))) link_refuse(link, err);
}

static void welcome_send(struct link *link)
{
    struct transcript *transcript = &link->transcript;
    struct offer_frame frame;
    own_offer(link, transcript->acceptor_offer);
    memcpy(frame.offer_bytes, transcript->acceptor_offer, OFFER_SIZE);
    welcome_prove(&link->port->keys, transcript, frame.proof);
    uint8_t bytes[WELCOME_FRAME_SIZE];
    offer_frame_encode(&frame, bytes);
    if (!greet_send(link, BATCH_WELCOME, bytes, sizeof(bytes))) return;
    link->port->stats.accepted++;
    link->credits = link->window;
    link_pump_flush(link); /* what `up` sent */
}

static void proof_take(struct link *link, const uint8_t *body, uint32_t size)
{
    struct port *port = link->port;
    struct offer_frame frame;
    if (offer_frame_decode(body, size, &frame)) {
        greet_broken(link);
        return;
    }
    memcpy(link->transcript.connector_offer, frame.offer_bytes, OFFER_SIZE);
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    connector_prove(&port->keys, &link->transcript, proof);
    if (!proof_equals(proof, frame.proof)) {
        link_fail(link, ERR_DENIED, "the peer does not know this cluster's secret");
        return;
    }
    if (port->links_held >= port->config.links_max) {
        refuse_send(link, ERR_BUSY);
        return;
    }
    /* Until WELCOME has left there are no credits: what `up` sends waits in the queue. */
    link_came_up(link, &frame.offer);
    link->greeting = true;
    port->callbacks++;
    enum err err = port->config.events->up(port->config.context, link);
    link->greeting = false;
    if (link->closed || link->state != LINK_UP) return;
    if (err)
        refuse_send(link, err);
    else
        welcome_send(link);
}

void greet_batch(struct link *link, const struct batch_header *header, const uint8_t *bytes)
{
    uint8_t body[HANDSHAKE_BATCH_SIZE_MAX - BATCH_HEADER_SIZE];
    if (header->size > HANDSHAKE_BATCH_SIZE_MAX || header->credits) {
        greet_broken(link);
        return;
    }
    /* A copy, so that a peer with whom memory is shared cannot change it between the looks. */
    uint32_t size = header->size - BATCH_HEADER_SIZE;
    memcpy(body, bytes + BATCH_HEADER_SIZE, size);
    if (link->state == LINK_ACCEPTED && header->kind == BATCH_HELLO)
        hello_take(link, body, size);
    else if (link->state == LINK_CHALLENGED && header->kind == BATCH_PROOF)
        proof_take(link, body, size);
    else if (link->state == LINK_GREETED && header->kind == BATCH_CHALLENGE)
        challenge_take(link, body, size);
    else if (link->state == LINK_PROVED && header->kind == BATCH_WELCOME)
        welcome_take(link, body, size);
    else if (link->state == LINK_PROVED && header->kind == BATCH_REFUSE)
        refuse_take(link, body, size);
    else
        greet_broken(link);
}
