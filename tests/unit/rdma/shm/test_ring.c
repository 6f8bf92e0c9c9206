/* The ring between two processes: order, wrapping, room, who sleeps, and hostile peers. */
#include "rdma/shm/ring.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* A valid batch size in every byte position: payload that looks like a word. */
enum { CAPACITY = 1000, COUNT = 5, LOOKS_LIKE_WORD = 0x60 };

struct fixture {
    struct ring_shared shared;
    struct ring ring;
    struct ring_producer producer;
    struct ring_consumer consumer;
};

static struct fixture *fixture_create(uint32_t capacity, uint32_t count)
{
    struct fixture *fx = aligned_alloc(RING_APART, sizeof(*fx));
    memset(fx, 0, sizeof(*fx));
    uint32_t size = ring_size(capacity, count);
    uint8_t *bytes = aligned_alloc(RING_APART, (size + RING_APART - 1) / RING_APART * RING_APART);
    memset(bytes, 0, size);
    fx->ring = (struct ring){&fx->shared, bytes, size, capacity};
    ring_producer_init(&fx->producer, &fx->ring);
    ring_consumer_init(&fx->consumer, &fx->ring);
    return fx;
}

static void fixture_destroy(struct fixture *fx)
{
    free(fx->ring.bytes);
    free(fx);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Content that tells its number; every aligned word of it could be a batch size. */
static void batch_fill(uint8_t *bytes, uint32_t size, uint64_t number)
{
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = i % 4 == 0 ? (uint8_t)(LOOKS_LIKE_WORD + (number + i / 4) % 64) : 0;
}

static bool batch_is(const uint8_t *bytes, uint32_t size, uint64_t number)
{
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != (i % 4 == 0 ? (uint8_t)(LOOKS_LIKE_WORD + (number + i / 4) % 64) : 0))
            return false;
    return true;
}

static enum err put(struct fixture *fx, uint32_t size, uint64_t number)
{
    uint8_t *bytes;
    enum err err = ring_reserve(&fx->producer, &bytes);
    if (err) return err;
    cr_assert_eq((uintptr_t)bytes % 32, 0);
    cr_assert_geq(bytes, fx->ring.bytes);
    cr_assert_leq(bytes + fx->ring.capacity + RING_LINE, fx->ring.bytes + fx->ring.size);
    batch_fill(bytes, size, number);
    ring_publish(&fx->producer, size);
    return ERR_NONE;
}

static void expect(struct fixture *fx, uint32_t size, uint64_t number)
{
    const uint8_t *bytes;
    uint32_t got;
    cr_assert_eq(ring_next(&fx->consumer, &bytes, &got), ERR_NONE);
    cr_assert_eq(got, size);
    cr_assert(batch_is(bytes, size, number), "batch %llu", (unsigned long long)number);
    ring_release(&fx->consumer);
}

static void expect_nothing(struct fixture *fx)
{
    const uint8_t *bytes;
    uint32_t got;
    cr_assert_eq(ring_next(&fx->consumer, &bytes, &got), ERR_END);
}

Test(ring, fresh_one_is_empty)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    expect_nothing(fx);
    cr_assert_eq(atomic_load(ring_watched(&fx->consumer)), 0);
    fixture_destroy(fx);
}

Test(ring, batch_arrives_whole_and_once)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    cr_assert_eq(put(fx, 104, 7), ERR_NONE);
    cr_assert_neq(atomic_load(ring_watched(&fx->consumer)), 0);
    expect(fx, 104, 7);
    expect_nothing(fx);
    fixture_destroy(fx);
}

Test(ring, reserved_batch_is_not_seen_before_it_is_published)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    uint8_t *bytes;
    cr_assert_eq(ring_reserve(&fx->producer, &bytes), ERR_NONE);
    batch_fill(bytes, CAPACITY, 1);
    expect_nothing(fx);
    ring_publish(&fx->producer, CAPACITY);
    expect(fx, CAPACITY, 1);
    fixture_destroy(fx);
}

/* Against a queue in ordinary memory: every size, every offset, many rounds. */
Test(ring, random_sizes_keep_their_order_over_many_rounds)
{
    for (uint64_t seed = 1; seed <= 16; seed++) {
        uint64_t random = seed * 0x9E3779B97F4A7C15u;
        uint32_t capacity = 1 + (uint32_t)(random_next(&random) % 2000);
        struct fixture *fx = fixture_create(capacity, 1 + (uint32_t)(random_next(&random) % 6));
        enum { QUEUE = 4096 };
        static uint32_t sizes[QUEUE];
        uint64_t in = 0;
        uint64_t out = 0;
        while (out < 5000) {
            if (random_next(&random) % 2 && in - out < QUEUE) {
                uint32_t size = 1 + (uint32_t)(random_next(&random) % capacity);
                if (random_next(&random) % 8 == 0) size = capacity;
                enum err err = put(fx, size, in);
                if (!err) sizes[in++ % QUEUE] = size;
                cr_assert(!err || (err == ERR_BUSY && in > out), "only a ring in use is full");
            } else if (out < in) {
                expect(fx, sizes[out % QUEUE], out);
                out++;
            } else {
                expect_nothing(fx);
            }
        }
        fixture_destroy(fx);
    }
}

Test(ring, as_many_full_batches_as_promised_fit_from_every_offset)
{
    for (uint32_t start = 0; start < 200; start++) {
        struct fixture *fx = fixture_create(CAPACITY, COUNT);
        for (uint32_t i = 0; i < start; i++) {
            cr_assert_eq(put(fx, 1 + i % 64, i), ERR_NONE);
            expect(fx, 1 + i % 64, i);
        }
        for (uint32_t i = 0; i < COUNT; i++)
            cr_assert_eq(put(fx, CAPACITY, i), ERR_NONE, "batch %u after %u", i, start);
        for (uint32_t i = 0; i < COUNT; i++)
            expect(fx, CAPACITY, i);
        fixture_destroy(fx);
    }
}

Test(ring, full_ring_takes_more_after_a_release_and_asks_for_it)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    uint64_t in = 0;
    uint64_t out = 0;
    cr_assert_not(ring_take_starved(&fx->consumer));
    while (put(fx, CAPACITY, in) == ERR_NONE)
        in++;
    cr_assert_geq(in, COUNT);
    cr_assert(fx->producer.is_starved);
    cr_assert(ring_take_starved(&fx->consumer));
    cr_assert_not(ring_take_starved(&fx->consumer), "only once");
    cr_assert_eq(ring_look_for_room(&fx->producer), ERR_BUSY);
    while (ring_look_for_room(&fx->producer) == ERR_BUSY)
        expect(fx, CAPACITY, out++);
    cr_assert_not(fx->producer.is_starved);
    cr_assert_not(ring_take_starved(&fx->consumer), "taken back");
    cr_assert_eq(put(fx, 10, in), ERR_NONE);
    while (out < in)
        expect(fx, CAPACITY, out++);
    expect(fx, 10, in);
    fixture_destroy(fx);
}

Test(ring, resting_consumer_is_woken_once)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    cr_assert_eq(put(fx, 10, 0), ERR_NONE);
    cr_assert(ring_must_wake(&fx->producer), "nobody attends a fresh ring");
    cr_assert_not(ring_must_wake(&fx->producer));
    expect(fx, 10, 0);
    ring_attend(&fx->consumer);
    cr_assert_eq(put(fx, 10, 1), ERR_NONE);
    cr_assert_not(ring_must_wake(&fx->producer));
    cr_assert_not(ring_rest(&fx->consumer), "something is there");
    cr_assert_not(ring_must_wake(&fx->producer), "so it attends");
    expect(fx, 10, 1);
    cr_assert(ring_rest(&fx->consumer));
    cr_assert_eq(put(fx, 10, 2), ERR_NONE);
    cr_assert(ring_must_wake(&fx->producer));
    fixture_destroy(fx);
}

/* ---- hostile peers ---- */

static void expect_bad(struct fixture *fx, uint32_t word)
{
    atomic_store(ring_word(&fx->ring, fx->consumer.offset), word);
    const uint8_t *bytes;
    uint32_t size;
    cr_assert_eq(ring_next(&fx->consumer, &bytes, &size), ERR_BAD_SIGNAL, "word %#x", word);
}

Test(ring, word_that_is_no_size_is_refused)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    expect_bad(fx, CAPACITY + 1);
    expect_bad(fx, 0x7FFFFFFF); /* a skip, where a batch would fit */
    expect_bad(fx, 0x7FFFFFFE);
    expect_bad(fx, 0x80000000);
    expect_bad(fx, 0xFFFFFFFF);
    fixture_destroy(fx);
}

Test(ring, size_where_only_a_skip_can_be_is_refused)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    while (fx->ring.size - fx->consumer.offset >= 1088 + RING_LINE) {
        cr_assert_eq(put(fx, CAPACITY, 0), ERR_NONE);
        expect(fx, CAPACITY, 0);
    }
    expect_bad(fx, 1);
    expect_bad(fx, CAPACITY);
    expect_bad(fx, 0xFFFFFFFF);
    /* A skip leads to the start, where another one is refused: no endless loop. */
    atomic_store(ring_word(&fx->ring, 0), 0x7FFFFFFF);
    expect_bad(fx, 0x7FFFFFFF);
    fixture_destroy(fx);
}

Test(ring, consumer_that_claims_what_cannot_be_is_refused)
{
    static const uint64_t claims[] = {UINT64_MAX, 1, 63, 65, (uint64_t)1 << 63, 1 << 30};
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        struct fixture *fx = fixture_create(CAPACITY, COUNT);
        while (put(fx, CAPACITY, 0) == ERR_NONE)
            ;
        atomic_store(&fx->shared.consumed, claims[i]);
        uint8_t *bytes;
        cr_assert_eq(ring_reserve(&fx->producer, &bytes), ERR_BAD_SIGNAL);
        cr_assert_eq(ring_look_for_room(&fx->producer), ERR_BAD_SIGNAL);
        fixture_destroy(fx);
    }
}

Test(ring, consumer_that_goes_back_is_refused)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    for (uint64_t i = 0; i < 100; i++) {
        cr_assert_eq(put(fx, CAPACITY, i), ERR_NONE);
        expect(fx, CAPACITY, i);
    }
    while (put(fx, CAPACITY, 0) == ERR_NONE)
        ;
    atomic_store(&fx->shared.consumed, 64);
    cr_assert_eq(ring_look_for_room(&fx->producer), ERR_BAD_SIGNAL);
    fixture_destroy(fx);
}

/* ---- two threads ---- */

enum { ROUNDS = 100000 };

struct race {
    struct fixture *fx;
    sem_t consumer_wake, producer_wake;
    uint64_t seed;
    bool sleeping; /* else both spin */
};

static void *race_producer(void *argument)
{
    struct race *race = argument;
    struct ring_producer *producer = &race->fx->producer;
    uint64_t random = race->seed;
    for (uint64_t number = 0; number < ROUNDS; number++) {
        uint32_t size = 1 + (uint32_t)(random_next(&random) % (number % 64 ? 100 : CAPACITY));
        uint8_t *bytes;
        enum err err;
        while ((err = ring_reserve(producer, &bytes)) == ERR_BUSY) {
            if (race->sleeping) {
                if (ring_must_wake(producer)) sem_post(&race->consumer_wake);
                sem_wait(&race->producer_wake);
            } else {
                sched_yield();
            }
        }
        ASSERT(!err); /* the framework's assertions are for the main thread */
        batch_fill(bytes, size, number);
        ring_publish(producer, size);
        if (number % 3 && number + 1 < ROUNDS) continue;
        if (ring_must_wake(producer)) sem_post(&race->consumer_wake);
    }
    return NULL;
}

static void race_run(struct race *race)
{
    race->fx = fixture_create(CAPACITY, COUNT);
    sem_init(&race->consumer_wake, 0, 0);
    sem_init(&race->producer_wake, 0, 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, race_producer, race), 0);
    struct ring_consumer *consumer = &race->fx->consumer;
    uint64_t random = race->seed;
    for (uint64_t number = 0; number < ROUNDS;) {
        const uint8_t *bytes;
        uint32_t size;
        enum err err = ring_next(consumer, &bytes, &size);
        if (err == ERR_END) {
            if (!race->sleeping) {
                sched_yield();
                continue;
            }
            if (ring_rest(consumer)) {
                if (ring_take_starved(consumer)) sem_post(&race->producer_wake);
                sem_wait(&race->consumer_wake);
            }
            ring_attend(consumer);
            continue;
        }
        cr_assert_eq(err, ERR_NONE);
        uint32_t want = 1 + (uint32_t)(random_next(&random) % (number % 64 ? 100 : CAPACITY));
        cr_assert_eq(size, want);
        cr_assert(batch_is(bytes, size, number));
        ring_release(consumer);
        number++;
        if (race->sleeping && number % 7 == 0 && ring_take_starved(consumer))
            sem_post(&race->producer_wake);
    }
    pthread_join(thread, NULL);
    fixture_destroy(race->fx);
}

Test(ring, two_spinning_threads_exchange_everything_in_order, .timeout = 300)
{
    race_run(&(struct race){.seed = 88172645463325252u});
}

/* Neither sleeps for ever: a lost wake-up would hang until the time is over. */
Test(ring, two_sleeping_threads_lose_no_wake_up, .timeout = 300)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        race_run(&(struct race){.seed = seed * 77777777777u, .sleeping = true});
}

static _Atomic bool scribbling;

static void *scribble(void *argument)
{
    struct fixture *fx = argument;
    uint64_t random = 4711;
    while (atomic_load(&scribbling)) {
        uint64_t value = random_next(&random);
        uint32_t offset = (uint32_t)(random_next(&random) % (fx->ring.size / 64)) * 64;
        static const uint32_t words[] = {0, 1, 64, CAPACITY, CAPACITY + 1, 0x7FFFFFFF, 0xFFFFFFFF};
        atomic_store(ring_word(&fx->ring, offset), words[value % 7]);
        if (value % 16 == 0) atomic_store(&fx->shared.consumed, random_next(&random) % 8192 & ~63u);
        if (value % 32 == 1) atomic_store(&fx->shared.starved, (uint32_t)value);
        if (value % 32 == 2) atomic_store(&fx->shared.attended, (uint32_t)value);
    }
    return NULL;
}

/* Whatever another process writes meanwhile, what the ring hands out lies inside it. */
Test(ring, scribbling_peer_never_leads_out_of_the_ring, .timeout = 300)
{
    struct fixture *fx = fixture_create(CAPACITY, COUNT);
    atomic_store(&scribbling, true);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, scribble, fx), 0);
    uint64_t batches = 0;
    uint64_t bad = 0;
    const uint8_t *end = fx->ring.bytes + fx->ring.size;
    /* On one core the other thread has to be let in. */
    for (unsigned i = 0; i < 500000 || ((batches <= 1000 || bad <= 1000) && i < UINT32_MAX); i++) {
        const uint8_t *bytes;
        uint8_t *room;
        if (i % 1024 == 0) (void)sched_yield();
        uint32_t size;
        enum err err = ring_next(&fx->consumer, &bytes, &size);
        if (!err) {
            cr_assert(size >= 1 && size <= CAPACITY);
            cr_assert(bytes >= fx->ring.bytes && bytes + size <= end);
            ring_release(&fx->consumer);
            batches++;
        } else if (err != ERR_END) {
            cr_assert_eq(err, ERR_BAD_SIGNAL);
            bad++;
            ring_consumer_init(&fx->consumer, &fx->ring);
        }
        err = ring_reserve(&fx->producer, &room);
        if (!err) {
            cr_assert(room >= fx->ring.bytes && room + CAPACITY <= end);
            ring_publish(&fx->producer, 1 + i % CAPACITY);
        } else if (err != ERR_BUSY) {
            bad++;
            ring_producer_init(&fx->producer, &fx->ring);
        }
        if (i % 64 == 0) (void)ring_must_wake(&fx->producer);
        if (i % 64 == 1) (void)ring_rest(&fx->consumer);
        if (i % 64 == 2) (void)ring_take_starved(&fx->consumer);
    }
    atomic_store(&scribbling, false);
    pthread_join(thread, NULL);
    cr_assert_gt(batches, 1000);
    cr_assert_gt(bad, 1000);
    fixture_destroy(fx);
}
