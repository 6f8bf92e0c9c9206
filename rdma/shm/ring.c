/* The ring: variable-size records in shared memory, from one process to another.
 *
 *     record:  u32 word | 28 bytes unused | batch … | up to the next multiple of 64
 *     word:    0: nothing here yet    RING_SKIP: go on at offset 0    else: bytes of the batch
 *
 * The consumer learns of a batch from the record's own word, not from an index elsewhere: a batch
 * that is alone costs one cache line that both fight for, and the lines of its bytes. The word
 * shares its line with the first 32 bytes of the batch only, which are the batch's header, written
 * last; so a consumer that spins on the word does not take the line away while the producer is
 * still filling in messages.
 *
 * Invariants:
 * - The word at the producer's offset is 0 until the record there is complete. The producer writes
 *   the 0 of the next record before the word of this one, so there is always one line of room
 *   beyond what is in use: what lay there in the last round is never mistaken for a word.
 * - Records are contiguous. The last RING_LINE bytes of the ring never hold more than the word of a
 *   skip, and a record only starts where one of the full capacity would fit; so both sides know
 *   from an offset alone whether a skip must be there.
 * - produced - consumed, skipped bytes included, never exceeds the ring's size less one line.
 *
 * Who sleeps: the consumer stores `attended` 0 and then looks at the word; the producer stores the
 * word and then looks at `attended`. With a full barrier between the two on both sides one of them
 * sees the other. `starved` and `consumed` are the same the other way round.
 *
 * A hostile producer can write any word at any time: its value is copied once, then checked against
 * capacity; offsets are the consumer's own. A hostile consumer can write any `consumed`: it is
 * copied once and must lie between the last one and produced. */
#include "rdma/shm/ring.h"

#include "base/check.h"

enum { RING_SKIP = 0x7FFFFFFF };
static_assert(RING_SKIP > (int)RING_CAPACITY_MAX, "a skip is no size");
static_assert((uint64_t)RING_CAPACITY_MAX * RING_COUNT_MAX <= 1U << 30, "offsets are 32 bits");

#ifdef __SANITIZE_THREAD__
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

/* The thread sanitizer knows no fences, but sees that all accesses are atomic; for it, a relaxed
 * read-modify-write is the same to the processor and orders nothing in its model. */
static inline void full_barrier(void)
{
#ifdef WITH_TSAN
    static _Atomic uint32_t any;
    (void)atomic_fetch_add_explicit(&any, 1, memory_order_relaxed);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Bytes that a record with a batch of `size` bytes takes. */
static inline uint32_t record_size(uint32_t size)
{
    return (RING_RECORD + size + RING_LINE - 1) & ~(uint32_t)(RING_LINE - 1);
}

/* Whether no record starts at the offset: a skip is there. */
static inline bool is_skipped(const struct ring *ring, uint32_t offset)
{
    return ring->size - offset < record_size(ring->capacity) + RING_LINE;
}

uint32_t ring_size(uint32_t capacity, uint32_t count)
{
    ASSERT(capacity >= RING_SIZE_MIN && capacity <= RING_CAPACITY_MAX);
    ASSERT(count >= 1 && count <= RING_COUNT_MAX);
    /* The one more is what a skip can waste, the line what follows the newest record. */
    return (count + 1) * record_size(capacity) + 2 * RING_LINE;
}

static void check_ring(const struct ring *ring)
{
    ASSERT(ring->capacity >= RING_SIZE_MIN && ring->capacity <= RING_CAPACITY_MAX);
    ASSERT(ring->size >= ring_size(ring->capacity, 1) && ring->size % RING_LINE == 0);
    ASSERT((uintptr_t)ring->bytes % RING_LINE == 0);
}

/* ---- producer ---- */

void ring_producer_init(struct ring_producer *producer, const struct ring *ring)
{
    check_ring(ring);
    *producer = (struct ring_producer){.ring = *ring};
}

/* Whether `bytes` more and the line after them fit, as far as is known. */
static inline bool fits(const struct ring_producer *producer, uint32_t bytes)
{
    uint64_t used = producer->produced - producer->consumed_seen;
    return used + bytes + RING_LINE <= producer->ring.size;
}

static enum err look_at_consumed(struct ring_producer *producer)
{
    uint64_t consumed =
        atomic_load_explicit(&producer->ring.shared->consumed, memory_order_acquire);
    if (consumed < producer->consumed_seen || consumed > producer->produced ||
        consumed % RING_LINE != 0)
        return ERR_BAD_SIGNAL;
    producer->consumed_seen = consumed;
    return ERR_NONE;
}

/* Makes sure of room for `bytes`; announces that it waits when there is none. */
static enum err find_room(struct ring_producer *producer, uint32_t bytes)
{
    if (fits(producer, bytes)) return ERR_NONE;
    enum err err = look_at_consumed(producer);
    if (err) return err;
    if (fits(producer, bytes)) return ERR_NONE;
    atomic_store_explicit(&producer->ring.shared->starved, 1, memory_order_relaxed);
    full_barrier();
    err = look_at_consumed(producer);
    if (err) return err;
    return fits(producer, bytes) ? ERR_NONE : ERR_BUSY;
}

/* Looks for room for one batch of the full capacity, and for the skip before it if there must be
 * one. */
static enum err look_for_room(struct ring_producer *producer, uint32_t *ret_skipped)
{
    const struct ring *ring = &producer->ring;
    bool skip = is_skipped(ring, producer->offset);
    uint32_t skipped = skip ? ring->size - producer->offset : 0;
    enum err err = find_room(producer, skipped + record_size(ring->capacity));
    if (!err && producer->is_starved)
        atomic_store_explicit(&ring->shared->starved, 0, memory_order_relaxed);
    producer->is_starved = err == ERR_BUSY;
    if (!err) *ret_skipped = skipped;
    return err;
}

enum err ring_look_for_room(struct ring_producer *producer)
{
    uint32_t skipped;
    return look_for_room(producer, &skipped);
}

enum err ring_reserve(struct ring_producer *producer, uint8_t **ret_bytes)
{
    const struct ring *ring = &producer->ring;
    uint32_t skipped = 0;
    enum err err = look_for_room(producer, &skipped);
    if (err) return err;
    if (skipped) {
        atomic_store_explicit(ring_word(ring, 0), 0, memory_order_relaxed);
        atomic_store_explicit(ring_word(ring, producer->offset), RING_SKIP, memory_order_release);
        producer->produced += skipped;
        producer->offset = 0;
    }
    *ret_bytes = ring->bytes + producer->offset + RING_RECORD;
    return ERR_NONE;
}

void ring_publish(struct ring_producer *producer, uint32_t size)
{
    const struct ring *ring = &producer->ring;
    ASSERT(size >= RING_SIZE_MIN && size <= ring->capacity);
    uint32_t taken = record_size(size);
    atomic_store_explicit(ring_word(ring, producer->offset + taken), 0, memory_order_relaxed);
    atomic_store_explicit(ring_word(ring, producer->offset), size, memory_order_release);
    producer->offset += taken;
    producer->produced += taken;
}

bool ring_must_wake(struct ring_producer *producer)
{
    _Atomic uint32_t *attended = &producer->ring.shared->attended;
    full_barrier();
    if (atomic_load_explicit(attended, memory_order_relaxed)) return false;
    return atomic_exchange_explicit(attended, 1, memory_order_relaxed) == 0;
}

/* ---- consumer ---- */

void ring_consumer_init(struct ring_consumer *consumer, const struct ring *ring)
{
    check_ring(ring);
    *consumer = (struct ring_consumer){.ring = *ring};
}

static inline void advance(struct ring_consumer *consumer, uint32_t bytes)
{
    consumer->consumed += bytes;
    atomic_store_explicit(&consumer->ring.shared->consumed, consumer->consumed,
                          memory_order_release);
}

enum err ring_next(struct ring_consumer *consumer, const uint8_t **ret_bytes, uint32_t *ret_size)
{
    const struct ring *ring = &consumer->ring;
    ASSERT_SLOW(!consumer->taken);
    uint32_t word = atomic_load_explicit(ring_watched(consumer), memory_order_acquire);
    if (!word) return ERR_END;
    if (is_skipped(ring, consumer->offset)) {
        if (word != RING_SKIP) return ERR_BAD_SIGNAL;
        uint32_t skipped = ring->size - consumer->offset;
        consumer->offset = 0;
        advance(consumer, skipped);
        /* Offset 0 is never skipped, so this happens once. */
        word = atomic_load_explicit(ring_watched(consumer), memory_order_acquire);
        if (!word) return ERR_END;
    }
    if (word < RING_SIZE_MIN || word > ring->capacity) return ERR_BAD_SIGNAL;
    const uint8_t *bytes = ring->bytes + consumer->offset + RING_RECORD;
    __builtin_prefetch(bytes + RING_RECORD);
    __builtin_prefetch(bytes + RING_RECORD + RING_LINE);
    consumer->taken = record_size(word);
    *ret_bytes = bytes;
    *ret_size = word;
    return ERR_NONE;
}

void ring_release(struct ring_consumer *consumer)
{
    ASSERT_SLOW(consumer->taken);
    consumer->offset += consumer->taken;
    advance(consumer, consumer->taken);
    consumer->taken = 0;
}

void ring_attend(struct ring_consumer *consumer)
{
    atomic_store_explicit(&consumer->ring.shared->attended, 1, memory_order_relaxed);
}

bool ring_rest(struct ring_consumer *consumer)
{
    atomic_store_explicit(&consumer->ring.shared->attended, 0, memory_order_relaxed);
    full_barrier();
    if (!atomic_load_explicit(ring_watched(consumer), memory_order_relaxed)) return true;
    ring_attend(consumer);
    return false;
}

bool ring_take_starved(struct ring_consumer *consumer)
{
    _Atomic uint32_t *starved = &consumer->ring.shared->starved;
    if (!atomic_load_explicit(starved, memory_order_relaxed)) return false;
    return atomic_exchange_explicit(starved, 0, memory_order_relaxed) != 0;
}
