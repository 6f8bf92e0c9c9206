/* The byte codec: round trips, latched failures, refused encodings. */
#include "base/buf.h"

#include <criterion/criterion.h>

static const uint64_t varints[] = {
    0, 1, 127, 128, 16383, 16384, UINT32_MAX, 1ull << 35, (1ull << 63) - 1, 1ull << 63, UINT64_MAX,
};

Test(buf, integers_and_strings_round_trip)
{
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 0xfe);
    buf_put_u16(&buf, 0xfedc);
    buf_put_u32(&buf, 0xfedcba98u);
    buf_put_u64(&buf, 0xfedcba9876543210u);
    buf_put_bytes(&buf, "hello", 5);
    buf_put_bytes(&buf, NULL, 0);
    cr_assert_not(buf.failed);

    struct reader reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(reader_u8(&reader), 0xfe);
    cr_assert_eq(reader_u16(&reader), 0xfedc);
    cr_assert_eq(reader_u32(&reader), 0xfedcba98u);
    cr_assert_eq(reader_u64(&reader), 0xfedcba9876543210u);
    size_t size = 0;
    const uint8_t *bytes = reader_bytes(&reader, 5, &size);
    cr_assert_eq(size, 5);
    cr_assert_eq(memcmp(bytes, "hello", 5), 0);
    cr_assert_not_null(reader_bytes(&reader, 5, &size));
    cr_assert_eq(size, 0);
    cr_assert_eq(reader_left(&reader), 0);
    cr_assert_not(reader.failed);
    buf_fini(&buf);
}

Test(buf, integers_are_little_endian)
{
    struct buf buf;
    buf_init(&buf);
    buf_put_u32(&buf, 0x04030201);
    cr_assert_eq(memcmp(buf.bytes, "\1\2\3\4", 4), 0);
    buf_fini(&buf);
}

Test(buf, varints_round_trip_in_their_shortest_form)
{
    static const size_t sizes[] = {1, 1, 1, 2, 2, 3, 5, 6, 9, 10, 10};
    struct buf buf;
    buf_init(&buf);
    for (size_t i = 0; i < sizeof(varints) / sizeof(varints[0]); i++) {
        buf_clear(&buf);
        buf_put_varint(&buf, varints[i]);
        cr_assert_eq(buf.size, sizes[i], "value %zu", i);
        struct reader reader = reader_of(buf.bytes, buf.size);
        cr_assert_eq(reader_varint(&reader), varints[i]);
        cr_assert_eq(reader_left(&reader), 0);
        cr_assert_not(reader.failed);
        reader = reader_of(buf.bytes, buf.size - 1);
        cr_assert_eq(reader_varint(&reader), 0);
        cr_assert(reader.failed, "cut short");
    }
    buf_fini(&buf);
}

static void varint_refused(const char *bytes, size_t size)
{
    struct reader reader = reader_of(bytes, size);
    cr_assert_eq(reader_varint(&reader), 0);
    cr_assert(reader.failed);
}

Test(buf, reader_refuses_varints_too_long_or_too_large)
{
    varint_refused("\x80\x00", 2);
    varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);
    varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11);
    varint_refused("", 0);
}

Test(buf, reader_latches_failure_and_then_returns_zeros)
{
    struct reader reader = reader_of("\1\2\3\4\5", 5);
    cr_assert_eq(reader_u64(&reader), 0);
    cr_assert(reader.failed);
    cr_assert_eq(reader_u8(&reader), 0, "five bytes are left, but the reader has failed");
    cr_assert_null(reader_take(&reader, 0));
}

Test(buf, reader_bytes_enforces_its_limit)
{
    struct reader reader = reader_of("\5hello", 6);
    size_t size = 77;
    cr_assert_null(reader_bytes(&reader, 4, &size));
    cr_assert(reader.failed);
    cr_assert_eq(size, 77, "outputs are untouched on failure");
    reader = reader_of("\6hello", 6);
    cr_assert_null(reader_bytes(&reader, 100, &size));
    cr_assert_eq(size, 77);
}

Test(buf, printf_appends_and_grows)
{
    struct buf buf;
    buf_init(&buf);
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%03d,", i);
    cr_assert_eq(buf.size, 4000);
    cr_assert_eq(memcmp(buf.bytes + 3996, "999,", 4), 0);
    buf_fini(&buf);
}

Test(buf, size_that_overflows_latches_failure_until_clear)
{
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    cr_assert_null(buf_add(&buf, SIZE_MAX));
    cr_assert(buf.failed);
    buf_put_u8(&buf, 2);
    buf_printf(&buf, "x");
    cr_assert_eq(buf.size, 1, "nothing is appended after a failure");
    buf_clear(&buf);
    buf_put_u8(&buf, 3);
    cr_assert_not(buf.failed);
    cr_assert_eq(buf.bytes[0], 3);
    buf_fini(&buf);
}
