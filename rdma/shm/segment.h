/* The memory of a link: a sealed memory file that both processes map. Private to rdma/shm. */
#ifndef RDMA_SHM_SEGMENT_H
#define RDMA_SHM_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "rdma/shm/ring.h"

enum {
    /* A record of it fills 16 KiB: a large message is copied in and out at the same time, and a
     * ring with the usual 16 credits (350 KiB) stays in the second-level cache. */
    SEGMENT_BATCH_SIZE_MAX = (16 << 10) - RING_RECORD,
};

struct segment {
    uint8_t *memory; /* NULL: none */
    size_t size;
    /* Of the two directions: [0] connector to acceptor, [1] back. */
    struct ring rings[2];
};

/* Bytes of the memory of a link with that many credits (1..PORT_LINK_CREDITS_MAX). */
size_t segment_size(uint32_t credits);
/* Makes and maps one; the descriptor is the caller's. ERR_NO_MEMORY, ERR_BUSY (no descriptors). */
MUST_USE enum err segment_create(uint32_t credits, struct segment *ret_segment, int *ret_fd,
                                 struct diag *diag);
/* Maps one that a peer made. ERR_DENIED: it is not what it must be (not memory, of another size, or
 * the peer could still shrink it under us). ERR_NO_MEMORY. */
MUST_USE enum err segment_map(int fd, uint32_t credits, struct segment *ret_segment,
                              struct diag *diag);
void segment_unmap(struct segment *segment); /* of one without memory: nothing */

#endif
