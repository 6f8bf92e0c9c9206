/* The frames of the handshake, and the proofs in them: pure functions. Private to rdma/;
 * handshake.c has the protocol. */
#ifndef RDMA_CORE_HANDSHAKE_H
#define RDMA_CORE_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rdma/port.h"

enum {
    HANDSHAKE_VERSION = 2, /* of everything that travels on a link */
    HANDSHAKE_NONCE_SIZE = 32,
    HANDSHAKE_PROOF_SIZE = 32,
    /* No batch of the handshake is larger, its header included. */
    HANDSHAKE_BATCH_SIZE_MAX = 256,
    HELLO_FRAME_SIZE = 48,
    CHALLENGE_FRAME_SIZE = 72,
    OFFER_SIZE = 80,
    PROOF_FRAME_SIZE = HANDSHAKE_PROOF_SIZE + OFFER_SIZE,
    WELCOME_FRAME_SIZE = HANDSHAKE_PROOF_SIZE + OFFER_SIZE,
    REFUSE_FRAME_SIZE = HANDSHAKE_PROOF_SIZE + 8,
};

/* One for each role, so that nothing a side says can be sent back to it. */
struct handshake_keys {
    uint8_t connector[32];
    uint8_t acceptor[32];
};

/* What each side says of itself. */
struct offer {
    uint32_t credits;          /* batches that it can take: 1..256 */
    uint32_t message_size_max; /* at most PORT_MESSAGE_SIZE_MAX */
    uint32_t keepalive_ms;     /* how long it bears silence */
    uint32_t hello_size;
    uint8_t hello[PORT_HELLO_SIZE_MAX]; /* zeros after hello_size */
};

/* What both sides know by now; the proofs are over it. */
struct transcript {
    uint8_t connector_nonce[HANDSHAKE_NONCE_SIZE];
    uint8_t acceptor_nonce[HANDSHAKE_NONCE_SIZE];
    uint8_t connector_offer[OFFER_SIZE];
    uint8_t acceptor_offer[OFFER_SIZE];
};

struct hello_frame {
    uint32_t version;
    uint8_t nonce[HANDSHAKE_NONCE_SIZE];
};
struct challenge_frame {
    uint32_t version;
    uint8_t nonce[HANDSHAKE_NONCE_SIZE];
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
};
/* PROOF and WELCOME. */
struct offer_frame {
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    uint8_t offer_bytes[OFFER_SIZE]; /* as they were sent, for the transcript */
    struct offer offer;
};
struct refuse_frame {
    uint8_t proof[HANDSHAKE_PROOF_SIZE];
    enum err err;
};

void handshake_keys_derive(const uint8_t secret[PORT_SECRET_SIZE], struct handshake_keys *ret_keys);
/* A key for another use of the secret, which `label` (at most 64 bytes) names. */
void secret_derive(const uint8_t secret[PORT_SECRET_SIZE], const char *label, uint8_t key[32]);

/* Each writes its frame, exactly as many bytes as its …_FRAME_SIZE. */
void hello_encode(const struct hello_frame *frame, uint8_t *bytes);
void challenge_encode(const struct challenge_frame *frame, uint8_t *bytes);
void offer_frame_encode(const struct offer_frame *frame, uint8_t *bytes);
void refuse_encode(const struct refuse_frame *frame, uint8_t *bytes);
void offer_encode(const struct offer *offer, uint8_t bytes[OFFER_SIZE]);

/* ERR_BAD_FRAME; nothing is written then. */
MUST_USE enum err hello_decode(const uint8_t *bytes, size_t size, struct hello_frame *ret_frame);
MUST_USE enum err challenge_decode(const uint8_t *bytes, size_t size,
                                   struct challenge_frame *ret_frame);
MUST_USE enum err offer_frame_decode(const uint8_t *bytes, size_t size,
                                     struct offer_frame *ret_frame);
MUST_USE enum err refuse_decode(const uint8_t *bytes, size_t size, struct refuse_frame *ret_frame);

/* The proofs that go into the frames. `version` is the acceptor's. */
void challenge_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                     uint32_t version, uint8_t proof[HANDSHAKE_PROOF_SIZE]);
void connector_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                     uint8_t proof[HANDSHAKE_PROOF_SIZE]);
void welcome_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                   uint8_t proof[HANDSHAKE_PROOF_SIZE]);
void refuse_prove(const struct handshake_keys *keys, const struct transcript *transcript,
                  enum err err, uint8_t proof[HANDSHAKE_PROOF_SIZE]);
/* In constant time. */
MUST_USE bool proof_equals(const uint8_t a[HANDSHAKE_PROOF_SIZE],
                           const uint8_t b[HANDSHAKE_PROOF_SIZE]);

#endif
