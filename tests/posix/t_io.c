/* read(2), write(2) and their kin: positions, sizes, holes, vectors, limits, and that bytes stay
 * what they were. */
#include "tests/posix/suite.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

CASE(io, bytes_come_back)
{
    static const size_t sizes[] = {1,     7,     511,   512,    4095,   4096,    4097,
                                   65535, 65536, 65537, 131072, 131073, 1048576, 3000001};
    char *bytes = malloc(3000001);
    REQUIRE(bytes != NULL);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pattern_fill(bytes, sizes[i], 0, i);
        int fd = open_file("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
        EXPECT_EQ(write(fd, bytes, sizes[i]), sizes[i]);
        EXPECT_EQ(FSTAT(fd).st_size, sizes[i]);
        EXPECT_BYTES(fd, bytes, sizes[i], 0);
        REQUIRE_OK(close(fd));
        fd = open_file("f", O_RDONLY, 0);
        cache_drop(fd);
        EXPECT_BYTES(fd, bytes, sizes[i], 0);
        EXPECT_EQ(FSTAT(fd).st_size, sizes[i]);
        REQUIRE_OK(close(fd));
    }
    free(bytes);
}

CASE(io, every_alignment_around_page_borders)
{
    char *bytes = malloc(20000);
    REQUIRE(bytes != NULL);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    static const int deltas[] = {-2, -1, 0, 1, 2, 100};
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned j = 0; j < 6; j++) {
            off_t start = 4096 + deltas[i];
            size_t size = (size_t)(8192 + deltas[j] - deltas[i]);
            pattern_fill(bytes, size, (uint64_t)start, i * 6 + j);
            EXPECT_EQ(pwrite(fd, bytes, size, start), size);
            cache_drop(fd);
            EXPECT_BYTES(fd, bytes, size, start);
        }
    }
    EXPECT_ZEROS(fd, 4094, 0);
    free(bytes);
}

CASE(io, offsets_advance)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(write(fd, "01234", 5), 5);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5);
    EXPECT_EQ(pwrite(fd, "xx", 2, 1), 2);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5); /* positioned calls leave it */
    EXPECT_EQ(write(fd, "56789", 5), 5);
    EXPECT_EQ(lseek(fd, 3, SEEK_SET), 3);
    char bytes[16] = {0};
    EXPECT_EQ(read(fd, bytes, 4), 4);
    EXPECT_STR(bytes, "3456");
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 7);
    EXPECT_EQ(pread(fd, bytes, 2, 0), 2);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 7);
    EXPECT_EQ(read(fd, bytes, 16), 3); /* to the end, then nothing */
    EXPECT_EQ(read(fd, bytes, 16), 0);
    EXPECT_CONTENT("f", "0xx3456789");
}

CASE(io, reading_at_and_beyond_the_end)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    char bytes[16];
    EXPECT_EQ(pread(fd, bytes, 16, 0), 10);
    EXPECT_EQ(pread(fd, bytes, 16, 9), 1);
    EXPECT_EQ(pread(fd, bytes, 16, 10), 0);
    EXPECT_EQ(pread(fd, bytes, 16, 11), 0);
    EXPECT_EQ(pread(fd, bytes, 16, (off_t)1 << 40), 0);
    EXPECT_EQ(pread(fd, bytes, 0, 0), 0);
    EXPECT_EQ(write(fd, bytes, 0), 0);
    EXPECT_EQ(pwrite(fd, bytes, 0, 1000), 0);
    EXPECT_EQ(FSTAT(fd).st_size, 10);
}

CASE(io, writing_beyond_the_end_leaves_a_hole)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(pwrite(fd, "end", 3, 1000000), 3);
    EXPECT_EQ(FSTAT(fd).st_size, 1000003);
    EXPECT_ZEROS(fd, 1000000, 0);
    EXPECT_BYTES(fd, "end", 3, 1000000);
    EXPECT(FSTAT(fd).st_blocks * 512 < 500000);
    EXPECT_EQ(pwrite(fd, "mid", 3, 500000), 3);
    cache_drop(fd);
    EXPECT_ZEROS(fd, 500000, 0);
    EXPECT_BYTES(fd, "mid", 3, 500000);
    EXPECT_ZEROS(fd, 499997, 500003);
}

CASE(io, beyond_four_gibibytes)
{
    static const off_t offsets[] = {(off_t)1 << 31, ((off_t)1 << 32) - 5,
                                    (off_t)1 << 32, ((off_t)1 << 33) + 77,
                                    (off_t)1 << 40, ((off_t)1 << 43) - 50};
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char bytes[10];
    for (unsigned i = 0; i < 6; i++) {
        pattern_fill(bytes, 10, (uint64_t)offsets[i], 1);
        EXPECT_EQ(pwrite(fd, bytes, 10, offsets[i]), 10);
        EXPECT_EQ(FSTAT(fd).st_size, offsets[i] + 10);
    }
    cache_drop(fd);
    for (unsigned i = 0; i < 6; i++) {
        pattern_fill(bytes, 10, (uint64_t)offsets[i], 1);
        EXPECT_BYTES(fd, bytes, 10, offsets[i]);
    }
    EXPECT_ZEROS(fd, 100, (off_t)1 << 30);
    EXPECT(FSTAT(fd).st_blocks < 2000);
    EXPECT_EQ(lseek(fd, 0, SEEK_END), offsets[5] + 10);
}

CASE(io, at_the_largest_offsets)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char byte = 'x';
    EXPECT_ERR(pwrite(fd, &byte, 1, -1), EINVAL);
    EXPECT_ERR(pread(fd, &byte, 1, -1), EINVAL);
    EXPECT_ERR2(pwrite(fd, &byte, 1, INT64_MAX), EFBIG, EINVAL);
    EXPECT_EQ(FSTAT(fd).st_size, 0);
}

CASE(io, descriptors_without_the_right)
{
    make_file("f", 0644, "x");
    int reader = open_file("f", O_RDONLY, 0);
    int writer = open_file("f", O_WRONLY, 0);
    char byte = 0;
    EXPECT_ERR(write(reader, &byte, 1), EBADF);
    EXPECT_ERR(pwrite(reader, &byte, 1, 0), EBADF);
    EXPECT_ERR(read(writer, &byte, 1), EBADF);
    EXPECT_ERR(pread(writer, &byte, 1, 0), EBADF);
    EXPECT_ERR(read(99, &byte, 1), EBADF);
    EXPECT_ERR(write(reader, &byte, 0), EBADF);
}

CASE(io, vectors)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char one[] = "one", two[] = "two", three[] = "three", nothing[1];
    struct iovec out[] = {{one, 3}, {nothing, 0}, {two, 3}, {three, 5}};
    EXPECT_EQ(writev(fd, out, 4), 11);
    EXPECT_CONTENT("f", "onetwothree");
    EXPECT_EQ(pwritev(fd, out + 2, 2, 100), 8);
    EXPECT_EQ(FSTAT(fd).st_size, 108);
    EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
    char a[2], b[5], c[200];
    struct iovec in[] = {{a, 2}, {b, 5}, {c, 200}};
    EXPECT_EQ(readv(fd, in, 3), 108);
    EXPECT(memcmp(a, "on", 2) == 0);
    EXPECT(memcmp(b, "etwot", 5) == 0);
    EXPECT(memcmp(c, "hree\0", 5) == 0);
    EXPECT_EQ(preadv(fd, in, 1, 3), 2);
    EXPECT(memcmp(a, "tw", 2) == 0);
    volatile int negative = -1;
    EXPECT_ERR(writev(fd, out, negative), EINVAL);
    EXPECT_ERR(preadv(fd, in, 1, -2), EINVAL);
}

CASE(io, vector_of_many_parts)
{
    enum { PARTS = 1000, PART = 333 };
    char *bytes = malloc(PARTS * PART);
    struct iovec *parts = calloc(PARTS, sizeof(*parts));
    REQUIRE(bytes && parts);
    pattern_fill(bytes, PARTS * PART, 0, 5);
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){bytes + i * PART, PART};
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(writev(fd, parts, PARTS), PARTS * PART);
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, PARTS * PART, 0);
    free(bytes);
    free(parts);
}

CASE(io, flags_of_pwritev2)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char text[] = "text";
    struct iovec part = {text, 4};
    EXPECT_EQ(pwritev2(fd, &part, 1, 0, RWF_DSYNC), 4);
    EXPECT_EQ(pwritev2(fd, &part, 1, 0, RWF_APPEND), 4);
    EXPECT_CONTENT("f", "texttext");
    EXPECT_EQ(preadv2(fd, &part, 1, 2, 0), 4);
    EXPECT(memcmp(text, "xtte", 4) == 0);
}

CASE(io, two_descriptors_see_each_other)
{
    int writer = open_file("f", O_CREAT | O_WRONLY, 0644);
    int reader = open_file("f", O_RDONLY, 0);
    char found[16] = {0};
    for (int i = 0; i < 50; i++) {
        char text[16];
        snprintf(text, sizeof(text), "line %05d\n", i);
        EXPECT_EQ(write(writer, text, 11), 11);
        EXPECT_EQ(read(reader, found, sizeof(found)), 11);
        EXPECT_STR(found, text);
        EXPECT_EQ(FSTAT(reader).st_size, 11 * (i + 1));
    }
}

CASE(io, two_processes_see_each_other)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "0123456789", 10);
    IN_PROCESS
    {
        int own = open_file("f", O_RDWR, 0);
        EXPECT_BYTES(own, "0123456789", 10, 0);
        EXPECT_EQ(pwrite(own, "child", 5, 3), 5);
        EXPECT_EQ(pwrite(own, "more", 4, 20), 4);
    }
    EXPECT_BYTES(fd, "012child89", 10, 0);
    EXPECT_EQ(FSTAT(fd).st_size, 24);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 10);
}

CASE(io, shared_offset_of_an_inherited_descriptor)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    IN_PROCESS
    {
        write_all(fd, "child ", 6);
    }
    write_all(fd, "parent", 6);
    EXPECT_CONTENT("f", "child parent");
}

CASE(io, overwriting_keeps_the_rest)
{
    char *bytes = malloc(100000);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 100000, 0, 1);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, 100000);
    REQUIRE_OK(close(fd));
    fd = open_file("f", O_WRONLY,
                   0); /* a writer that cannot read: pages are completed all the same */
    for (off_t at = 10; at < 100000; at += 4999) {
        memset(bytes + at, 'w', 3);
        EXPECT_EQ(pwrite(fd, "www", 3, at), 3);
    }
    REQUIRE_OK(close(fd));
    fd = open_file("f", O_RDONLY, 0);
    EXPECT_BYTES(fd, bytes, 100000, 0);
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, 100000, 0);
    free(bytes);
}

CASE(io, many_small_writes)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char *bytes = malloc(70000);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 70000, 0, 8);
    for (size_t at = 0; at < 70000;) {
        size_t size = 1 + at % 61;
        if (size > 70000 - at) size = 70000 - at;
        EXPECT_EQ(write(fd, bytes + at, size), size);
        at += size;
    }
    EXPECT_EQ(FSTAT(fd).st_size, 70000);
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, 70000, 0);
    for (size_t at = 70000; at > 0;) { /* and backwards, byte by byte over some pages */
        at -= at > 700 ? 700 : at;
        EXPECT_EQ(pwrite(fd, bytes + at, 1, (off_t)at), 1);
    }
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, 70000, 0);
    free(bytes);
}

CASE(io, large_file, .slow = true)
{
    size_t chunk = 1 << 20;
    char *bytes = malloc(chunk);
    REQUIRE(bytes != NULL);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    for (unsigned i = 0; i < 48; i++) {
        pattern_fill(bytes, chunk, i * chunk, 4);
        write_all(fd, bytes, chunk);
    }
    EXPECT_EQ(FSTAT(fd).st_size, 48 * chunk);
    cache_drop(fd);
    for (unsigned i = 0; i < 48; i += 5) {
        pattern_fill(bytes, chunk, i * chunk, 4);
        EXPECT_BYTES(fd, bytes, chunk, (off_t)(i * chunk));
    }
    EXPECT(FSTAT(fd).st_blocks >= 48 * 2048);
    free(bytes);
}

CASE(io, sendfile_and_splice)
{
    char *bytes = malloc(300000);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 300000, 0, 6);
    int from = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(from, bytes, 300000);
    int to = open_file("g", O_CREAT | O_RDWR, 0644);
    off_t at = 0;
    while (at < 300000) {
        ssize_t done = sendfile(to, from, &at, (size_t)(300000 - at));
        REQUIRE(done > 0);
    }
    EXPECT_BYTES(to, bytes, 300000, 0);
    int ends[2];
    REQUIRE_OK(pipe(ends));
    int third = open_file("h", O_CREAT | O_RDWR, 0644);
    off_t in = 1000;
    for (size_t moved = 0; moved < 100000;) {
        ssize_t size = splice(from, &in, ends[1], NULL, 30000, 0);
        REQUIRE(size > 0);
        while (size > 0) {
            ssize_t out = splice(ends[0], NULL, third, NULL, (size_t)size, 0);
            REQUIRE(out > 0);
            size -= out;
            moved += (size_t)out;
        }
    }
    EXPECT_BYTES(third, bytes + 1000, 100000, 0);
    free(bytes);
}

CASE(io, bad_addresses)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "0123456789", 10);
    void *forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(forbidden != MAP_FAILED);
    EXPECT_ERR(pread(fd, forbidden, 10, 0), EFAULT);
    EXPECT_ERR(pwrite(fd, forbidden, 10, 0), EFAULT);
    EXPECT_CONTENT("f", "0123456789");
}

CASE(io, sparse_file_takes_few_blocks)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    for (off_t i = 0; i < 10; i++)
        EXPECT_EQ(pwrite(fd, "x", 1, i << 24), 1);
    EXPECT_OK(fsync(fd));
    struct stat attr = FSTAT(fd);
    EXPECT_EQ(attr.st_size, (9 << 24) + 1);
    EXPECT(attr.st_blocks >= 10);
    EXPECT(attr.st_blocks <= 10 * 2 * 128);
    REQUIRE_OK(close(fd));
    EXPECT_EQ(STAT("f").st_blocks, attr.st_blocks);
}

CASE(io, blocks_are_those_of_the_bytes)
{
    char *bytes = malloc(1 << 20);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 1 << 20, 0, 1);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, 1 << 20);
    EXPECT_OK(fsync(fd));
    EXPECT(FSTAT(fd).st_blocks >= 2048);
    EXPECT(FSTAT(fd).st_blocks <= 2048 + 512);
    write_all(fd, bytes, 1 << 20);
    EXPECT_OK(fsync(fd));
    REQUIRE_OK(close(fd));
    EXPECT(STAT("f").st_blocks >= 4096);
    EXPECT(STAT("f").st_blocks <= 4096 + 512);
    free(bytes);
}
