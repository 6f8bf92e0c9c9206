/* The handshake: both sides prove that they know the cluster's secret, before anything else that
 * they send is looked at.
 *
 *     connector                                    acceptor
 *     HELLO      magic, version, nonce C     ->
 *                                            <-    CHALLENGE  version, nonce A, proof 1
 *     PROOF      proof 2, offer C            ->
 *                                            <-    WELCOME    proof 3, offer A
 *                                            or    REFUSE     proof 4, error
 *
 *     proof 1 = HMAC(acceptor key,  "challenge", C, A, version)
 *     proof 2 = HMAC(connector key, "connector", C, A, offer C)
 *     proof 3 = HMAC(acceptor key,  "welcome",   C, A, offer C, offer A)
 *     proof 4 = HMAC(acceptor key,  "refuse",    C, A, offer C, error)
 *
 * HMAC is HMAC-SHA-256. The two keys are derived from the secret with labels of their own, so a
 * proof cannot be sent back to its maker (reflection), nor be taken for one of another step. Both
 * nonces are in every proof and fresh for every connection, so nothing recorded serves twice. The
 * acceptor proves itself first: a connector with another secret learns so, and has given nothing
 * away. A different version is found before any secret matters, but is believed only when proved.
 *
 * Frames (after the batch header), little-endian, fixed sizes:
 *
 *     HELLO      u64 magic, u32 version, u32 0, 32 nonce
 *     CHALLENGE  u32 version, u32 0, 32 nonce, 32 proof
 *     PROOF      32 proof, offer             WELCOME the same
 *     REFUSE     32 proof, u32 err, u32 0
 *     offer      u32 credits, u32 message_size_max, u32 keepalive_ms, u32 hello_size, 64 hello
 *
 * Everything here is pure; who sends what and when is in core/greet.c. */
#include "rdma/core/handshake.h"

#include <sodium.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"

static const uint64_t HELLO_MAGIC = 0x6b6e696c6c657274u; /* "trellink" as it would be read aloud */

enum { KEEPALIVE_MS_MIN = 30, KEEPALIVE_MS_MAX = 1000 * 1000 };

_Static_assert(crypto_auth_hmacsha256_BYTES == HANDSHAKE_PROOF_SIZE, "proofs are HMAC-SHA-256");

void secret_derive(const uint8_t secret[PORT_SECRET_SIZE], const char *label, uint8_t key[32])
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, secret, PORT_SECRET_SIZE);
    crypto_auth_hmacsha256_update(&state, (const uint8_t *)label, strlen(label) + 1);
    crypto_auth_hmacsha256_final(&state, key);
    sodium_memzero(&state, sizeof(state));
}

void handshake_keys_derive(const uint8_t secret[PORT_SECRET_SIZE], struct handshake_keys *ret_keys)
{
    secret_derive(secret, "trellis link 1 connector", ret_keys->connector);
    secret_derive(secret, "trellis link 1 acceptor", ret_keys->acceptor);
}

/* ---- frames ---- */

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

void hello_encode(const struct hello_frame *frame, uint8_t *bytes)
{
    bytes = put_bytes(bytes, &HELLO_MAGIC, sizeof(HELLO_MAGIC));
    bytes = put_u32(bytes, frame->version);
    bytes = put_u32(bytes, 0);
    put_bytes(bytes, frame->nonce, sizeof(frame->nonce));
}

enum err hello_decode(const uint8_t *bytes, size_t size, struct hello_frame *ret_frame)
{
    if (size != HELLO_FRAME_SIZE) return ERR_BAD_FRAME;
    struct reader reader = reader_of(bytes, size);
    if (reader_u64(&reader) != HELLO_MAGIC) return ERR_BAD_FRAME;
    struct hello_frame frame = {.version = reader_u32(&reader)};
    if (reader_u32(&reader)) return ERR_BAD_FRAME;
    memcpy(frame.nonce, reader_take(&reader, sizeof(frame.nonce)), sizeof(frame.nonce));
    *ret_frame = frame;
    return ERR_NONE;
}

void challenge_encode(const struct challenge_frame *frame, uint8_t *bytes)
{
    bytes = put_u32(bytes, frame->version);
    bytes = put_u32(bytes, 0);
    bytes = put_bytes(bytes, frame->nonce, sizeof(frame->nonce));
    put_bytes(bytes, frame->proof, sizeof(frame->proof));
}

enum err challenge_decode(const uint8_t *bytes, size_t size, struct challenge_frame *ret_frame)
{
    if (size != CHALLENGE_FRAME_SIZE) return ERR_BAD_FRAME;
    struct reader reader = reader_of(bytes, size);
    struct challenge_frame frame = {.version = reader_u32(&reader)};
    if (reader_u32(&reader)) return ERR_BAD_FRAME;
    memcpy(frame.nonce, reader_take(&reader, sizeof(frame.nonce)), sizeof(frame.nonce));
    memcpy(frame.proof, reader_take(&reader, sizeof(frame.proof)), sizeof(frame.proof));
    *ret_frame = frame;
    return ERR_NONE;
}

void offer_encode(const struct offer *offer, uint8_t bytes[OFFER_SIZE])
{
    ASSERT(offer->hello_size <= PORT_HELLO_SIZE_MAX);
    memset(bytes, 0, OFFER_SIZE);
    bytes = put_u32(bytes, offer->credits);
    bytes = put_u32(bytes, offer->message_size_max);
    bytes = put_u32(bytes, offer->keepalive_ms);
    bytes = put_u32(bytes, offer->hello_size);
    put_bytes(bytes, offer->hello, offer->hello_size);
}

static enum err offer_decode(const uint8_t bytes[OFFER_SIZE], struct offer *ret_offer)
{
    struct reader reader = reader_of(bytes, OFFER_SIZE);
    struct offer offer = {0};
    offer.credits = reader_u32(&reader);
    offer.message_size_max = reader_u32(&reader);
    offer.keepalive_ms = reader_u32(&reader);
    offer.hello_size = reader_u32(&reader);
    if (!offer.credits || offer.credits > PORT_LINK_CREDITS_MAX) return ERR_BAD_FRAME;
    if (!offer.message_size_max || offer.message_size_max > PORT_MESSAGE_SIZE_MAX)
        return ERR_BAD_FRAME;
    if (offer.keepalive_ms < KEEPALIVE_MS_MIN || offer.keepalive_ms > KEEPALIVE_MS_MAX)
        return ERR_BAD_FRAME;
    if (offer.hello_size > PORT_HELLO_SIZE_MAX) return ERR_BAD_FRAME;
    memcpy(offer.hello, reader_take(&reader, sizeof(offer.hello)), sizeof(offer.hello));
    for (uint32_t i = offer.hello_size; i < PORT_HELLO_SIZE_MAX; i++)
        if (offer.hello[i]) return ERR_BAD_FRAME;
    *ret_offer = offer;
    return ERR_NONE;
}

void offer_frame_encode(const struct offer_frame *frame, uint8_t *bytes)
{
    bytes = put_bytes(bytes, frame->proof, sizeof(frame->proof));
    put_bytes(bytes, frame->offer_bytes, sizeof(frame->offer_bytes));
}

enum err offer_frame_decode(const uint8_t *bytes, size_t size, struct offer_frame *ret_frame)
{
    if (size != PROOF_FRAME_SIZE) return ERR_BAD_FRAME;
    struct offer_frame frame;
    memcpy(frame.proof, bytes, sizeof(frame.proof));
    memcpy(frame.offer_bytes, bytes + sizeof(frame.proof), sizeof(frame.offer_bytes));
    enum err err = offer_decode(frame.offer_bytes, &frame.offer);
    if (err) return err;
    *ret_frame = frame;
    return ERR_NONE;
}

void refuse_encode(const struct refuse_frame *frame, uint8_t *bytes)
{
    bytes = put_bytes(bytes, frame->proof, sizeof(frame->proof));
    bytes = put_u32(bytes, (uint32_t)frame->err);
    put_u32(bytes, 0);
}

enum err refuse_decode(const uint8_t *bytes, size_t size, struct refuse_frame *ret_frame)
{
    if (size != REFUSE_FRAME_SIZE) return ERR_BAD_FRAME;
    struct reader reader = reader_of(bytes, size);
    struct refuse_frame frame;
    memcpy(frame.proof, reader_take(&reader, sizeof(frame.proof)), sizeof(frame.proof));
    uint32_t number = reader_u32(&reader);
    if (reader_u32(&reader) || !number || !err_is_known(number)) return ERR_BAD_FRAME;
    frame.err = (enum err)number;
    *ret_frame = frame;
    return ERR_NONE;
}

/* ---- proofs ---- */

static void prove_begin(crypto_auth_hmacsha256_state *state, const uint8_t key[32],
                        const char *label, const struct transcript *transcript)
{
    crypto_auth_hmacsha256_init(state, key, 32);
    crypto_auth_hmacsha256_update(state, (const uint8_t *)label, strlen(label) + 1);
    crypto_auth_hmacsha256_update(state, transcript->connector_nonce, HANDSHAKE_NONCE_SIZE);
    crypto_auth_hmacsha256_update(state, transcript->acceptor_nonce, HANDSHAKE_NONCE_SIZE);
}

static void prove_u32(crypto_auth_hmacsha256_state *state, uint32_t value)
{
    uint8_t bytes[sizeof(value)];
    memcpy(bytes, &value, sizeof(value));
    crypto_auth_hmacsha256_update(state, bytes, sizeof(bytes));
}

void challenge_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                     uint32_t version, uint8_t proof[HANDSHAKE_PROOF_SIZE])
{
    crypto_auth_hmacsha256_state state;
    prove_begin(&state, keys->acceptor, "challenge", transcript);
    prove_u32(&state, version);
    crypto_auth_hmacsha256_final(&state, proof);
}

void connector_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                     uint8_t proof[HANDSHAKE_PROOF_SIZE])
{
    crypto_auth_hmacsha256_state state;
    prove_begin(&state, keys->connector, "connector", transcript);
    crypto_auth_hmacsha256_update(&state, transcript->connector_offer, OFFER_SIZE);
    crypto_auth_hmacsha256_final(&state, proof);
}

void welcome_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                   uint8_t proof[HANDSHAKE_PROOF_SIZE])
{
    crypto_auth_hmacsha256_state state;
    prove_begin(&state, keys->acceptor, "welcome", transcript);
    crypto_auth_hmacsha256_update(&state, transcript->connector_offer, OFFER_SIZE);
    crypto_auth_hmacsha256_update(&state, transcript->acceptor_offer, OFFER_SIZE);
    crypto_auth_hmacsha256_final(&state, proof);
}

void refuse_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                  enum err err, uint8_t proof[HANDSHAKE_PROOF_SIZE])
{
    crypto_auth_hmacsha256_state state;
    prove_begin(&state, keys->acceptor, "refuse", transcript);
    crypto_auth_hmacsha256_update(&state, transcript->connector_offer, OFFER_SIZE);
    prove_u32(&state, (uint32_t)err);
    crypto_auth_hmacsha256_final(&state, proof);
}

bool proof_equals(const uint8_t a[HANDSHAKE_PROOF_SIZE], const uint8_t b[HANDSHAKE_PROOF_SIZE])
{
    return sodium_memcmp(a, b, HANDSHAKE_PROOF_SIZE) == 0;
}
