/* One direction of a shared-memory link: a ring of batches with one producer and one consumer, each
 * in a process of its own. Private to rdma/shm.
 *
 * Nothing that the other side can write is trusted: a position or size from shared memory is copied
 * once and checked before it is used, so the worst that a peer can do is to send nonsense, which
 * its link then ends with. ring.c has the layout and why it is so. */
#ifndef RDMA_SHM_RING_H
#define RDMA_SHM_RING_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    RING_LINE = 64,    /* bytes of a cache line */
    RING_APART = 128,  /* two: processors fetch lines in pairs */
    RING_RECORD = 32,  /* bytes of a record before its batch */
    RING_SIZE_MIN = 1, /* of a batch */
    RING_CAPACITY_MAX = 1 << 20,
    RING_COUNT_MAX = 1 << 10,
};

/* What the two tell each other, zero at first; each line is written by one side (but `attended`).
 */
struct ring_shared {
    /* Consumer: bytes consumed since the beginning, with all that was skipped. */
    _Alignas(RING_APART) _Atomic uint64_t consumed;
    /* Consumer: 1: it looks at the ring by itself; 0: who puts something in must wake it. The
     * producer that is about to do so sets it to 1, so that it happens once. */
    _Alignas(RING_APART) _Atomic uint32_t attended;
    /* Producer: 1: it waits for room. */
    _Alignas(RING_APART) _Atomic uint32_t starved;
};
static_assert(sizeof(struct ring_shared) == 3 * RING_APART, "shared by two processes");

struct ring {
    struct ring_shared *shared;
    uint8_t *bytes; /* aligned to RING_APART */
    uint32_t size;
    uint32_t capacity; /* bytes of the largest batch */
};

/* Bytes that a ring needs, so that `count` batches of `capacity` bytes always fit. */
uint32_t ring_size(uint32_t capacity, uint32_t count);

struct ring_producer {
    struct ring ring;
    uint32_t offset;        /* of the next record */
    bool is_starved;        /* the last reserve found no room */
    uint64_t produced;      /* bytes since the beginning, with all that was skipped */
    uint64_t consumed_seen; /* the newest of ring_shared.consumed that was read and found good */
};

struct ring_consumer {
    struct ring ring;
    uint32_t offset;
    uint32_t taken; /* bytes of the record that ring_next gave; 0: none */
    uint64_t consumed;
};

void ring_producer_init(struct ring_producer *producer, const struct ring *ring);
/* Room for one batch of ring.capacity bytes, aligned to 32. ERR_BUSY: the consumer has to catch up
 * first; it is told so, and wakes us (ring_take_starved). ERR_BAD_SIGNAL: the consumer claims what
 * cannot be. */
MUST_USE enum err ring_reserve(struct ring_producer *producer, uint8_t **ret_bytes);
/* The same without reserving: whether room has come. ERR_BUSY, ERR_BAD_SIGNAL. */
MUST_USE enum err ring_look_for_room(struct ring_producer *producer);
/* The reserved room holds a batch of `size` bytes: the consumer may see it from now on. */
void ring_publish(struct ring_producer *producer, uint32_t size);
/* After some were published: whether the consumer sleeps. True once: who asks must wake it, however
 * long that takes to succeed. */
bool ring_must_wake(struct ring_producer *producer);

void ring_consumer_init(struct ring_consumer *consumer, const struct ring *ring);
/* The next batch, borrowed until ring_release; the peer may change its bytes meanwhile. ERR_END:
 * there is none now. ERR_BAD_SIGNAL: what is there cannot be; the ring is of no more use. */
MUST_USE enum err ring_next(struct ring_consumer *consumer, const uint8_t **ret_bytes,
                            uint32_t *ret_size);
/* The batch that ring_next gave is done with. */
void ring_release(struct ring_consumer *consumer);
/* Says that the consumer looks by itself. */
void ring_attend(struct ring_consumer *consumer);
/* Says that it must be woken, and looks once more: false, something is there (then it counts as
 * attended again). */
bool ring_rest(struct ring_consumer *consumer);
/* Whether the producer waits for room, which there is now: who asks must wake it. To be asked after
 * releases, now and then while nothing arrives, and after ring_rest. */
bool ring_take_starved(struct ring_consumer *consumer);

/* The first word of a record. */
typedef _Atomic uint32_t ring_word_t;
static inline ring_word_t *ring_word(const struct ring *ring, uint32_t offset)
{
    return (ring_word_t *)(void *)(ring->bytes + offset);
}
/* Where the consumer looks next: not zero when something is there. The one load that an idle ring
 * costs. */
static inline const ring_word_t *ring_watched(const struct ring_consumer *consumer)
{
    return ring_word(&consumer->ring, consumer->offset);
}

#endif
