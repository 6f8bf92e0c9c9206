#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "rdma/core/batch.h"
#include "rdma/port.h"

/* A batch with three fragments: a whole message, and the first of a long one's two pieces. */
static uint32_t sample(uint8_t *bytes, bool with_check)
{
    memset(bytes, 0, 256);
    uint32_t words[2][2] = {{5, 5}, {16, 1000}};
    memcpy(bytes + 32, words[0], 8);
    memcpy(bytes + 40, "hello", 5);
    memcpy(bytes + 48, words[1], 8);
    memcpy(bytes + 56, "0123456789abcdef", 16);
    struct batch_header header = {
        .size = 72, .sequence = 7, .kind = BATCH_DATA, .credits = 3, .count = 2};
    batch_seal(bytes, &header, with_check);
    return 72;
}

Test(batch, what_was_sealed_is_read_back)
{
    for (unsigned with_check = 0; with_check < 2; with_check++) {
        uint8_t bytes[256];
        uint32_t size = sample(bytes, with_check);
        cr_assert_eq(batch_size_peek(bytes), size);
        struct batch_header header;
        cr_assert_eq(batch_check(bytes, size, with_check, &header), ERR_NONE);
        cr_assert(header.size == size && header.sequence == 7 && header.kind == BATCH_DATA);
        cr_assert(header.credits == 3 && header.count == 2);
        struct fragments fragments = fragments_of(bytes, &header);
        struct fragment fragment;
        cr_assert_eq(fragments_next(&fragments, &fragment), ERR_NONE);
        cr_assert(fragment.size == 5 && fragment.total == 5 && !memcmp(fragment.bytes, "hello", 5));
        cr_assert_eq(fragments_next(&fragments, &fragment), ERR_NONE);
        cr_assert(fragment.size == 16 && fragment.total == 1000);
        cr_assert_eq(fragments_next(&fragments, &fragment), ERR_END);
    }
}

Test(batch, every_flipped_bit_is_found_by_the_checksum)
{
    uint8_t bytes[256];
    uint32_t size = sample(bytes, true);
    for (uint32_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct batch_header header = {.size = 1};
        cr_assert_eq(batch_check(bytes, size, true, &header), ERR_BAD_FRAME, "bit %u", bit);
        cr_assert_eq(header.size, 1, "nothing is written on failure");
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(batch, wrong_headers_are_refused_also_without_a_checksum)
{
    struct batch_header good = {.size = 72, .kind = BATCH_DATA, .count = 2}, header;
    uint8_t bytes[256];
    (void)sample(bytes, false);
    struct batch_header bad[] = {
        {.size = 64, .kind = BATCH_DATA, .count = 2},
        {.size = 80, .kind = BATCH_DATA, .count = 2},
        {.size = 72, .kind = 0, .count = 2},
        {.size = 72, .kind = BATCH_KIND_LAST + 1, .count = 2},
        {.size = 72, .kind = BATCH_DATA, .count = 0},
        {.size = 72, .kind = BATCH_DATA, .count = 3},
        {.size = 72, .kind = BATCH_DATA, .count = UINT32_MAX},
        {.size = 72, .kind = BATCH_DATA, .count = 2, .taken = 1},
        {.size = 72, .kind = BATCH_CREDIT},
        {.size = 72, .kind = BATCH_PING},
        {.size = 72, .kind = BATCH_HELLO, .count = 1},
    };
    batch_seal(bytes, &good, false);
    cr_assert_eq(batch_check(bytes, 72, false, &header), ERR_NONE);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        batch_seal(bytes, &bad[i], false);
        cr_assert_eq(batch_check(bytes, 72, false, &header), ERR_BAD_FRAME, "number %u", i);
    }
    batch_seal(bytes, &good, true);
    cr_assert_eq(batch_check(bytes, 72, false, &header), ERR_BAD_FRAME, "a check out of place");
    for (uint32_t size = 0; size < 40; size++)
        cr_assert(size == 32 || batch_check(bytes, size, true, &header) == ERR_BAD_FRAME);
}

Test(batch, only_a_goodbye_says_what_was_taken)
{
    for (uint16_t kind = BATCH_CREDIT; kind <= BATCH_KIND_LAST; kind++) {
        uint8_t bytes[BATCH_HEADER_SIZE];
        struct batch_header sealed = {.size = sizeof(bytes), .kind = kind, .taken = UINT64_MAX};
        struct batch_header header = {.taken = 5};
        batch_seal(bytes, &sealed, false);
        enum err err = batch_check(bytes, sizeof(bytes), false, &header);
        cr_assert_eq(err, kind == BATCH_GOODBYE ? ERR_NONE : ERR_BAD_FRAME, "kind %u", kind);
        cr_assert_eq(header.taken, kind == BATCH_GOODBYE ? UINT64_MAX : 5);
    }
}

Test(batch, fragments_that_do_not_fit_are_refused)
{
    static const uint32_t bad[][2] = {
        {0, 5},
        {0, 0},
        {40, 40},
        {33, 33},
        {UINT32_MAX, UINT32_MAX},
        {UINT32_MAX - 7, 0},
        {9, 8},
        {5, PORT_MESSAGE_SIZE_MAX + 1},
        {PORT_MESSAGE_SIZE_MAX + 1, 0},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t bytes[256];
        uint32_t size = sample(bytes, false);
        memcpy(bytes + 32, bad[i], 8);
        struct batch_header header;
        cr_assert_eq(batch_check(bytes, size, false, &header), ERR_NONE);
        struct fragments fragments = fragments_of(bytes, &header);
        struct fragment fragment = {.size = 77};
        cr_assert_eq(fragments_next(&fragments, &fragment), ERR_BAD_FRAME, "number %u", i);
        cr_assert_eq(fragment.size, 77);
    }
}

Test(batch, bytes_that_are_left_over_are_refused)
{
    uint8_t bytes[256];
    uint32_t size = sample(bytes, false);
    struct batch_header header = {.size = size, .kind = BATCH_DATA, .count = 1};
    batch_seal(bytes, &header, false);
    cr_assert_eq(batch_check(bytes, size, false, &header), ERR_NONE);
    struct fragments fragments = fragments_of(bytes, &header);
    struct fragment fragment;
    cr_assert_eq(fragments_next(&fragments, &fragment), ERR_NONE);
    cr_assert_eq(fragments_next(&fragments, &fragment), ERR_BAD_FRAME);
}

Test(batch, random_bytes_never_lead_outside)
{
    for (uint64_t seed = 0; seed < 200000; seed++) {
        uint32_t size = (uint32_t)(hash_u64(seed) % 32) * 8;
        /* Of exactly that size, so that a sanitizer sees every step beyond. */
        uint8_t *bytes = malloc(size ? size : 1);
        for (uint32_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)hash_u64(seed * 1000 + i);
        if (size >= 32) {
            struct batch_header header = {
                .size = size, .kind = BATCH_DATA, .count = (uint32_t)(hash_u64(seed + 1) % 8)};
            batch_seal(bytes, &header, false);
            for (uint32_t i = 32; i + 8 <= size; i += 8) {
                uint32_t words[2] = {(uint32_t)(hash_u64(seed + i) % 40),
                                     (uint32_t)(hash_u64(seed - i) % 60)};
                if (hash_u64(seed ^ i) % 2) memcpy(bytes + i, words, 8);
            }
        }
        struct batch_header header;
        if (!batch_check(bytes, size, false, &header)) {
            struct fragments fragments = fragments_of(bytes, &header);
            struct fragment fragment;
            uint32_t count = 0;
            while (!fragments_next(&fragments, &fragment)) {
                cr_assert(fragment.bytes >= bytes + 40);
                cr_assert(fragment.bytes + fragment.size <= bytes + size);
                count++;
            }
            cr_assert_leq(count, header.count);
        }
        free(bytes);
    }
}
