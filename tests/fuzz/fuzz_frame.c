/* The transporter's frames as pure functions: a batch with its fragments, with and without a
 * checksum, and each frame of the handshake. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "rdma/core/batch.h"
#include "rdma/core/handshake.h"
#include "rdma/port.h"
#include "tests/fuzz/fuzz.h"

static void take_batch(uint8_t *bytes, uint32_t size, bool with_check)
{
    /* What a random input never gets right. */
    if (with_check && size >= BATCH_HEADER_SIZE) {
        uint32_t check = batch_checksum(bytes, size);
        memcpy(bytes + 4, &check, sizeof(check));
    }
    struct batch_header header;
    if (batch_check(bytes, size, with_check, &header)) return;
    ASSERT(header.size == size && header.kind <= BATCH_KIND_LAST);
    if (header.kind != BATCH_DATA) return;
    struct fragments fragments = fragments_of(bytes, &header);
    struct fragment fragment;
    uint32_t count = 0;
    enum err err;
    while (!(err = fragments_next(&fragments, &fragment))) {
        ASSERT(fragment.size && fragment.bytes >= bytes + BATCH_HEADER_SIZE);
        ASSERT(fragment.bytes + fragment.size <= bytes + size);
        uint8_t sum = 0;
        for (uint32_t i = 0; i < fragment.size; i++)
            sum = (uint8_t)(sum + fragment.bytes[i]);
        __asm__ volatile("" ::"r"(sum));
        count++;
    }
    ASSERT(count <= header.count);
    ASSERT(err != ERR_END || count == header.count);
}

static void take_handshake(const uint8_t *bytes, size_t size)
{
    struct hello_frame hello;
    struct challenge_frame challenge;
    struct offer_frame offer;
    struct refuse_frame refuse;
    uint8_t again[PROOF_FRAME_SIZE];
    if (hello_decode(bytes, size, &hello) == ERR_NONE) {
        hello_encode(&hello, again);
        ASSERT(memcmp(again, bytes, size) == 0);
    }
    if (challenge_decode(bytes, size, &challenge) == ERR_NONE) {
        challenge_encode(&challenge, again);
        ASSERT(memcmp(again, bytes, size) == 0);
    }
    if (offer_frame_decode(bytes, size, &offer) == ERR_NONE) {
        ASSERT(offer.offer.credits && offer.offer.hello_size <= PORT_HELLO_SIZE_MAX);
        uint8_t encoded[OFFER_SIZE];
        offer_encode(&offer.offer, encoded);
        ASSERT(memcmp(encoded, offer.offer_bytes, OFFER_SIZE) == 0);
    }
    if (refuse_decode(bytes, size, &refuse) == ERR_NONE) ASSERT(err_is_known(refuse.err));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!size) return 0;
    uint8_t *copy = fuzz_copy(bytes + 1, size - 1);
    if (bytes[0] % 3 == 2)
        take_handshake(copy, size - 1);
    else
        take_batch(copy, (uint32_t)(size - 1), bytes[0] % 3 == 1);
    free(copy);
    return 0;
}
