/* Batches: what travels on a link. Layouts, and pure functions that make and check them. Private to
 * rdma/; batch.c has the layouts. */
#ifndef RDMA_CORE_BATCH_H
#define RDMA_CORE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum batch_kind {
    BATCH_HELLO = 1,
    BATCH_CHALLENGE = 2,
    BATCH_PROOF = 3,
    BATCH_WELCOME = 4,
    BATCH_REFUSE = 5,
    BATCH_DATA = 6,
    BATCH_CREDIT = 7,
    BATCH_PING = 8,
    BATCH_GOODBYE = 9,
    BATCH_KIND_LAST = BATCH_GOODBYE,
};

struct batch_header {
    uint32_t size;     /* of the whole batch, this included; a multiple of 8 */
    uint32_t check;    /* batch_checksum, or 0 where the back end protects the bytes */
    uint64_t sequence; /* of this direction, from 0 */
    uint16_t kind;
    uint16_t credits; /* given back to the receiver */
    uint32_t count;   /* fragments of DATA, else 0 */
    uint64_t taken;   /* GOODBYE: messages of the receiver that were handed out, else 0 */
};

enum {
    BATCH_HEADER_SIZE = 32,
    FRAGMENT_HEADER_SIZE = 8,
    /* The least that a back end's buffers may hold: all frames of the handshake fit. */
    BATCH_CAPACITY_MIN = 512,
};
_Static_assert(sizeof(struct batch_header) == BATCH_HEADER_SIZE, "wire format");

/* Bytes that a fragment takes in a batch, its header included. */
static inline uint32_t fragment_space(uint32_t size)
{
    return FRAGMENT_HEADER_SIZE + ((size + 7) & ~7u);
}

/* The check of a batch of `size` bytes. */
uint32_t batch_checksum(const uint8_t *bytes, uint32_t size);
/* Writes the header of a batch whose body is in place. */
void batch_seal(uint8_t *bytes, const struct batch_header *header, bool with_check);
/* The size field, from the first four bytes of a batch: how many bytes belong to it. */
uint32_t batch_size_peek(const uint8_t *bytes);
/* Checks the `size` bytes of one whole batch as far as its header goes. ERR_BAD_FRAME. */
MUST_USE enum err batch_check(const uint8_t *bytes, uint32_t size, bool with_check,
                              struct batch_header *ret_header);

/* Walks the fragments of a DATA batch that passed batch_check. */
struct fragments {
    const uint8_t *next, *end;
    uint32_t left;
};
struct fragment {
    const uint8_t *bytes; /* borrowed from the batch */
    uint32_t size;        /* at least 1 */
    uint32_t total;       /* of the whole message in its first fragment, else 0 */
};
static inline struct fragments fragments_of(const uint8_t *bytes, const struct batch_header *header)
{
    return (struct fragments){bytes + BATCH_HEADER_SIZE, bytes + header->size, header->count};
}
/* ERR_END after the last, when nothing is left over; ERR_BAD_FRAME. */
MUST_USE enum err fragments_next(struct fragments *fragments, struct fragment *ret_fragment);

#endif
