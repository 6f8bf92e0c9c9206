/* The ring of shared memory whose other side writes what it likes. The input is a script: each byte
 * chooses a step of an honest producer or consumer, or a write of the hostile one into what they
 * share; the bytes after it are the step's numbers. The memory has exactly the size of the ring, so
 * a step outside of it is seen. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "rdma/shm/ring.h"
#include "tests/fuzz/fuzz.h"

struct script {
    const uint8_t *next, *end;
};

static uint64_t take(struct script *script, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size && script->next < script->end; i++)
        value |= (uint64_t)*script->next++ << 8 * i;
    return value;
}

static void produce(struct ring_producer *producer, uint32_t size)
{
    uint8_t *bytes;
    enum err err = ring_reserve(producer, &bytes);
    if (err == ERR_BAD_SIGNAL) ring_producer_init(producer, &producer->ring);
    if (err) return;
    ASSERT((uintptr_t)bytes % 32 == 0);
    memset(bytes, (int)size, producer->ring.capacity);
    ring_publish(producer, 1 + size % producer->ring.capacity);
}

static void consume(struct ring_consumer *consumer)
{
    const uint8_t *bytes;
    uint32_t size;
    enum err err = ring_next(consumer, &bytes, &size);
    if (err == ERR_BAD_SIGNAL) ring_consumer_init(consumer, &consumer->ring);
    if (err) return;
    ASSERT(size && size <= consumer->ring.capacity);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    __asm__ volatile("" ::"r"(sum));
    ring_release(consumer);
}

static void step(struct script *script, struct ring_producer *producer,
                 struct ring_consumer *consumer)
{
    const struct ring *ring = &producer->ring;
    switch (take(script, 1) % 10) {
    case 0:
    case 1:
        produce(producer, (uint32_t)take(script, 2));
        return;
    case 2:
    case 3:
        consume(consumer);
        return;
    case 4: {
        uint32_t offset = (uint32_t)take(script, 2) % (ring->size / RING_LINE) * RING_LINE;
        atomic_store(ring_word(ring, offset), (uint32_t)take(script, 4));
        return;
    }
    case 5: /* where the consumer looks */
        atomic_store(ring_word(ring, consumer->offset), (uint32_t)take(script, 4));
        return;
    case 6:
        atomic_store(&ring->shared->consumed, take(script, 8));
        return;
    case 7: /* near the truth */
        atomic_store(&ring->shared->consumed, producer->produced + 512 - take(script, 2));
        return;
    case 8:
        atomic_store(&ring->shared->attended, (uint32_t)take(script, 1));
        atomic_store(&ring->shared->starved, (uint32_t)take(script, 1));
        return;
    default:
        (void)ring_must_wake(producer);
        (void)ring_rest(consumer);
        (void)ring_take_starved(consumer);
        if (ring_look_for_room(producer) == ERR_BAD_SIGNAL) ring_producer_init(producer, ring);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct script script = {bytes, bytes + size};
    uint32_t capacity = 1 + (uint32_t)take(&script, 2) % 600;
    uint32_t length = ring_size(capacity, 1 + (uint32_t)take(&script, 1) % 4);
    struct ring_shared *shared = aligned_alloc(RING_APART, sizeof(*shared));
    uint8_t *memory = aligned_alloc(RING_LINE, length);
    ASSERT(shared && memory);
    memset(shared, 0, sizeof(*shared));
    memset(memory, 0, length);
    struct ring ring = {shared, memory, length, capacity};
    struct ring_producer producer;
    struct ring_consumer consumer;
    ring_producer_init(&producer, &ring);
    ring_consumer_init(&consumer, &ring);
    while (script.next < script.end)
        step(&script, &producer, &consumer);
    free(memory);
    free(shared);
    return 0;
}
