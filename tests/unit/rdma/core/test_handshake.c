#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "rdma/core/handshake.h"

static struct handshake_keys keys_of(uint8_t byte)
{
    uint8_t secret[PORT_SECRET_SIZE];
    memset(secret, byte, sizeof(secret));
    struct handshake_keys keys;
    handshake_keys_derive(secret, &keys);
    return keys;
}

static struct transcript transcript_of(uint8_t byte)
{
    struct transcript transcript;
    memset(&transcript, byte, sizeof(transcript));
    return transcript;
}

Test(handshake, frames_are_read_back_as_they_were_written)
{
    struct hello_frame hello = {.version = 9}, hello_read;
    memset(hello.nonce, 3, sizeof(hello.nonce));
    uint8_t bytes[256];
    hello_encode(&hello, bytes);
    cr_assert_eq(hello_decode(bytes, HELLO_FRAME_SIZE, &hello_read), ERR_NONE);
    cr_assert_eq(memcmp(&hello, &hello_read, sizeof(hello)), 0);

    struct challenge_frame challenge = {.version = 2}, challenge_read;
    memset(challenge.nonce, 4, sizeof(challenge.nonce));
    memset(challenge.proof, 5, sizeof(challenge.proof));
    challenge_encode(&challenge, bytes);
    cr_assert_eq(challenge_decode(bytes, CHALLENGE_FRAME_SIZE, &challenge_read), ERR_NONE);
    cr_assert_eq(memcmp(&challenge, &challenge_read, sizeof(challenge)), 0);

    struct offer_frame offer = {.offer = {16, 1000, 5000, 3, "abc"}}, offer_read;
    memset(offer.proof, 6, sizeof(offer.proof));
    offer_encode(&offer.offer, offer.offer_bytes);
    offer_frame_encode(&offer, bytes);
    cr_assert_eq(offer_frame_decode(bytes, PROOF_FRAME_SIZE, &offer_read), ERR_NONE);
    cr_assert_eq(memcmp(&offer, &offer_read, sizeof(offer)), 0);

    struct refuse_frame refuse = {.err = ERR_OLD_TERM}, refuse_read;
    memset(refuse.proof, 7, sizeof(refuse.proof));
    refuse_encode(&refuse, bytes);
    cr_assert_eq(refuse_decode(bytes, REFUSE_FRAME_SIZE, &refuse_read), ERR_NONE);
    cr_assert_eq(refuse_read.err, ERR_OLD_TERM);
}

Test(handshake, frames_of_another_size_are_refused)
{
    uint8_t bytes[256] = {0};
    struct hello_frame hello = {.version = 1};
    struct challenge_frame challenge;
    struct offer_frame offer;
    struct refuse_frame refuse;
    hello_encode(&hello, bytes);
    for (size_t size = 0; size < sizeof(bytes); size++) {
        if (size != HELLO_FRAME_SIZE)
            cr_assert_eq(hello_decode(bytes, size, &hello), ERR_BAD_FRAME);
        if (size != CHALLENGE_FRAME_SIZE)
            cr_assert_eq(challenge_decode(bytes, size, &challenge), ERR_BAD_FRAME);
        if (size != PROOF_FRAME_SIZE)
            cr_assert_eq(offer_frame_decode(bytes, size, &offer), ERR_BAD_FRAME);
        if (size != REFUSE_FRAME_SIZE)
            cr_assert_eq(refuse_decode(bytes, size, &refuse), ERR_BAD_FRAME);
    }
}

Test(handshake, offers_beyond_the_limits_are_refused)
{
    static const uint32_t bad[][4] = {
        {0, 1000, 5000, 0},
        {257, 1000, 5000, 0},
        {UINT32_MAX, 1000, 5000, 0},
        {16, 0, 5000, 0},
        {16, (8 << 20) + 1, 5000, 0},
        {16, 1000, 0, 0},
        {16, 1000, 29, 0},
        {16, 1000, UINT32_MAX, 0},
        {16, 1000, 5000, 65},
        {16, 1000, 5000, UINT32_MAX},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t bytes[PROOF_FRAME_SIZE] = {0};
        memcpy(bytes + HANDSHAKE_PROOF_SIZE, bad[i], sizeof(bad[i]));
        struct offer_frame frame;
        cr_assert_eq(offer_frame_decode(bytes, sizeof(bytes), &frame), ERR_BAD_FRAME, "%u", i);
    }
    struct offer_frame frame = {.offer = {16, 1000, 5000, 2, "ab"}};
    offer_encode(&frame.offer, frame.offer_bytes);
    frame.offer_bytes[16 + 2] = 1; /* beyond the hello */
    uint8_t bytes[PROOF_FRAME_SIZE];
    offer_frame_encode(&frame, bytes);
    cr_assert_eq(offer_frame_decode(bytes, sizeof(bytes), &frame), ERR_BAD_FRAME);
}

Test(handshake, unknown_errors_are_refused)
{
    static const uint32_t bad[] = {0, 12345, UINT32_MAX};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t bytes[REFUSE_FRAME_SIZE] = {0};
        memcpy(bytes + HANDSHAKE_PROOF_SIZE, &bad[i], 4);
        struct refuse_frame refuse;
        cr_assert_eq(refuse_decode(bytes, sizeof(bytes), &refuse), ERR_BAD_FRAME);
    }
}

/* All proofs of one transcript under one pair of keys. */
static void prove_all(const struct handshake_keys *keys, const struct transcript *transcript,
                      uint8_t proofs[5][HANDSHAKE_PROOF_SIZE])
{
    challenge_prove(keys, transcript, 1, proofs[0]);
    connector_prove(keys, transcript, proofs[1]);
    welcome_prove(keys, transcript, proofs[2]);
    refuse_prove(keys, transcript, ERR_BUSY, proofs[3]);
    refuse_prove(keys, transcript, ERR_INVALID, proofs[4]);
}

Test(handshake, no_proof_can_stand_for_another)
{
    struct handshake_keys keys = keys_of(1);
    struct transcript transcript = transcript_of(9);
    uint8_t proofs[5][HANDSHAKE_PROOF_SIZE];
    prove_all(&keys, &transcript, proofs);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < 5; k++)
            cr_assert_eq(proof_equals(proofs[i], proofs[k]), i == k);
    /* Not even under keys that are the same for both roles: the labels differ. */
    struct handshake_keys same = keys;
    memcpy(same.connector, same.acceptor, sizeof(same.connector));
    prove_all(&same, &transcript, proofs);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned k = 0; k < i; k++)
            cr_assert_not(proof_equals(proofs[i], proofs[k]));
}

Test(handshake, every_byte_of_keys_and_transcript_matters)
{
    struct handshake_keys keys = keys_of(1);
    struct transcript transcript = transcript_of(9);
    uint8_t before[5][HANDSHAKE_PROOF_SIZE], after[5][HANDSHAKE_PROOF_SIZE];
    prove_all(&keys, &transcript, before);
    /* Both nonces go into all proofs. */
    for (size_t i = 0; i < 64; i++) {
        uint8_t *byte = (uint8_t *)&transcript + i;
        *byte ^= 1;
        prove_all(&keys, &transcript, after);
        *byte ^= 1;
        for (unsigned k = 0; k < 5; k++)
            cr_assert_not(proof_equals(before[k], after[k]), "byte %zu, proof %u", i, k);
    }
    for (size_t i = 0; i < OFFER_SIZE; i++) {
        transcript.connector_offer[i] ^= 1;
        prove_all(&keys, &transcript, after);
        transcript.connector_offer[i] ^= 1;
        for (unsigned k = 1; k < 5; k++)
            cr_assert_not(proof_equals(before[k], after[k]));
        transcript.acceptor_offer[i] ^= 1;
        prove_all(&keys, &transcript, after);
        transcript.acceptor_offer[i] ^= 1;
        cr_assert_not(proof_equals(before[2], after[2]));
    }
    struct handshake_keys other = keys_of(2);
    prove_all(&other, &transcript, after);
    for (unsigned k = 0; k < 5; k++)
        cr_assert_not(proof_equals(before[k], after[k]));
}

Test(handshake, keys_differ_by_role_and_use)
{
    uint8_t secret[PORT_SECRET_SIZE] = {1, 2, 3}, one[32], two[32];
    struct handshake_keys keys;
    handshake_keys_derive(secret, &keys);
    cr_assert_neq(memcmp(keys.connector, keys.acceptor, 32), 0);
    secret_derive(secret, "one", one);
    secret_derive(secret, "two", two);
    cr_assert_neq(memcmp(one, two, 32), 0);
    cr_assert_neq(memcmp(one, secret, 32), 0);
}

Test(handshake, random_frames_never_lead_outside)
{
    for (uint64_t seed = 0; seed < 50000; seed++) {
        size_t size = (size_t)(hash_u64(seed) % 160);
        uint8_t *bytes = malloc(size ? size : 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)hash_u64(seed * 999 + i);
        struct hello_frame hello;
        struct challenge_frame challenge;
        struct offer_frame offer;
        struct refuse_frame refuse;
        cr_assert_eq(hello_decode(bytes, size, &hello), ERR_BAD_FRAME, "the magic is missing");
        (void)!challenge_decode(bytes, size, &challenge);
        if (!offer_frame_decode(bytes, size, &offer))
            cr_assert_leq(offer.offer.credits, PORT_LINK_CREDITS_MAX);
        if (!refuse_decode(bytes, size, &refuse)) cr_assert(err_is_known((unsigned)refuse.err));
        free(bytes);
    }
}
