/* fallocate(2), lseek(2) with SEEK_DATA and SEEK_HOLE, copy_file_range(2). */
#include "tests/posix/suite.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { BLOCK = 4096, MIB = 1 << 20 };

static char *pattern(size_t size, uint64_t seed)
{
    char *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, seed);
    return bytes;
}

static void allocate(int fd, int mode, off_t offset, off_t size)
{
    if (fallocate(fd, mode, offset, size) == -1) {
        if (errno == EOPNOTSUPP) case_skip("this mode of fallocate is not supported");
        FAIL("fallocate: %s", strerror(errno));
        case_abort();
    }
}

/* ---- fallocate ---- */

CASE(fallocate, extends_with_zeros)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    allocate(fd, 0, 0, 100000);
    EXPECT_EQ(FSTAT(fd).st_size, 100000);
    EXPECT(FSTAT(fd).st_blocks * 512 >= 100000);
    EXPECT_BYTES(fd, "content", 7, 0);
    EXPECT_ZEROS(fd, 99993, 7);
    EXPECT_EQ(pwrite(fd, "mid", 3, 50000), 3);
    allocate(fd, 0, 1000, 1000); /* within: nothing changes */
    EXPECT_EQ(FSTAT(fd).st_size, 100000);
    EXPECT_BYTES(fd, "mid", 3, 50000);
    allocate(fd, 0, 200000, 1000);
    EXPECT_EQ(FSTAT(fd).st_size, 201000);
    EXPECT_ZEROS(fd, 101000, 100000);
}

CASE(fallocate, keep_size)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    allocate(fd, FALLOC_FL_KEEP_SIZE, 0, MIB);
    EXPECT_EQ(FSTAT(fd).st_size, 7);
    EXPECT(FSTAT(fd).st_blocks >= MIB / 512);
    EXPECT_CONTENT("f", "content");
    EXPECT_EQ(pwrite(fd, "x", 1, 500000), 1);
    EXPECT_ZEROS(fd, 499993, 7);
}

CASE(fallocate, truncation_to_the_same_size_may_free_what_is_behind)
{
    /* Only the block count may change: what is accounted for it must follow (fsck looks). */
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    allocate(fd, FALLOC_FL_KEEP_SIZE, 0, MIB);
    EXPECT_OK(fsync(fd));
    blkcnt_t blocks = FSTAT(fd).st_blocks;
    EXPECT_OK(ftruncate(fd, 7));
    EXPECT(FSTAT(fd).st_blocks <= blocks);
    EXPECT_CONTENT("f", "content");
    REQUIRE_OK(close(fd));
    EXPECT(STAT("f").st_blocks <= blocks);
}

CASE(fallocate, punch_hole)
{
    char *bytes = pattern(MIB, 1);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, MIB);
    EXPECT_OK(fsync(fd));
    blkcnt_t blocks = FSTAT(fd).st_blocks;
    allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 64 * BLOCK, 64 * BLOCK);
    EXPECT_EQ(FSTAT(fd).st_size, MIB);
    EXPECT(FSTAT(fd).st_blocks <= blocks - 32 * BLOCK / 512);
    EXPECT_BYTES(fd, bytes, 64 * BLOCK, 0);
    EXPECT_ZEROS(fd, 64 * BLOCK, 64 * BLOCK);
    EXPECT_BYTES(fd, bytes + 128 * BLOCK, MIB - 128 * BLOCK, 128 * BLOCK);
    cache_drop(fd);
    EXPECT_ZEROS(fd, 64 * BLOCK, 64 * BLOCK);
    EXPECT_BYTES(fd, bytes + 128 * BLOCK, MIB - 128 * BLOCK, 128 * BLOCK);
    free(bytes);
}

CASE(fallocate, punch_hole_off_the_block_borders)
{
    static const struct {
        off_t offset, size;
    } holes[] = {{1, 1},      {10, 5000},   {4095, 2},   {4096, 4095}, {4097, 8000}, {99999, 1},
                 {99990, 10}, {99990, 500}, {0, 100000}, {100000, 10}, {200000, 10}, {50, 100}};
    char *bytes = malloc(100000);
    REQUIRE(bytes != NULL);
    for (unsigned i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
        pattern_fill(bytes, 100000, 0, i);
        int fd = open_file("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
        write_all(fd, bytes, 100000);
        allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, holes[i].offset, holes[i].size);
        for (off_t at = holes[i].offset; at < holes[i].offset + holes[i].size && at < 100000; at++)
            bytes[at] = 0;
        EXPECT_EQ(FSTAT(fd).st_size, 100000);
        EXPECT_BYTES(fd, bytes, 100000, 0);
        cache_drop(fd);
        EXPECT_BYTES(fd, bytes, 100000, 0);
        REQUIRE_OK(close(fd));
    }
    free(bytes);
}

CASE(fallocate, zero_range)
{
    char *bytes = pattern(MIB, 2);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, MIB);
    allocate(fd, FALLOC_FL_ZERO_RANGE, 100, 500000);
    memset(bytes + 100, 0, 500000);
    EXPECT_EQ(FSTAT(fd).st_size, MIB);
    EXPECT_BYTES(fd, bytes, MIB, 0);
    allocate(fd, FALLOC_FL_ZERO_RANGE, MIB - 10, 1000); /* grows the file */
    memset(bytes + MIB - 10, 0, 10);
    EXPECT_EQ(FSTAT(fd).st_size, MIB + 990);
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, MIB, 0);
    EXPECT_ZEROS(fd, 990, MIB);
    free(bytes);
}

CASE(fallocate, zero_range_keeping_the_size)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    allocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 4, 100000);
    EXPECT_EQ(FSTAT(fd).st_size, 10);
    EXPECT_BYTES(fd, "0123\0\0\0\0\0\0", 10, 0);
}

CASE(fallocate, modes_that_do_not_exist_are_refused)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_ERR2(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP, EINVAL);
    EXPECT_ERR2(
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 5),
        EOPNOTSUPP, EINVAL);
    EXPECT_ERR2(fallocate(fd, 0x4000, 0, 5), EOPNOTSUPP, EINVAL);
    EXPECT_CONTENT("f", "0123456789");
}

CASE(fallocate, collapse_and_insert_work_or_are_refused)
{
    static const int modes[] = {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE};
    char *bytes = pattern(16 * BLOCK, 3);
    for (unsigned i = 0; i < 2; i++) {
        int fd = open_file("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
        write_all(fd, bytes, 16 * BLOCK);
        if (fallocate(fd, modes[i], 4 * BLOCK, 4 * BLOCK) == -1) {
            EXPECT_EQ(errno, EOPNOTSUPP);
            EXPECT_BYTES(fd, bytes, 16 * BLOCK, 0);
            EXPECT_EQ(FSTAT(fd).st_size, 16 * BLOCK);
        } else if (i == 0) {
            EXPECT_EQ(FSTAT(fd).st_size, 12 * BLOCK);
            EXPECT_BYTES(fd, bytes + 8 * BLOCK, 8 * BLOCK, 4 * BLOCK);
        } else {
            EXPECT_EQ(FSTAT(fd).st_size, 20 * BLOCK);
            EXPECT_BYTES(fd, bytes + 4 * BLOCK, 12 * BLOCK, 8 * BLOCK);
        }
        REQUIRE_OK(close(fd));
    }
    free(bytes);
}

CASE(fallocate, invalid_arguments)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(mkfifo("fifo", 0644));
    int fd = open_file("f", O_RDWR, 0);
    int reader = open_file("f", O_RDONLY, 0);
    int fifo = open_file("fifo", O_RDWR, 0);
    int dir = open_file("d", O_RDONLY, 0);
    EXPECT_ERR(fallocate(fd, 0, 0, 0), EINVAL);
    EXPECT_ERR(fallocate(fd, 0, 0, -1), EINVAL);
    EXPECT_ERR(fallocate(fd, 0, -1, 10), EINVAL);
    EXPECT_ERR(fallocate(reader, 0, 0, 10), EBADF);
    EXPECT_ERR(fallocate(99, 0, 0, 10), EBADF);
    EXPECT_ERR(fallocate(fifo, 0, 0, 10), ESPIPE);
    EXPECT_ERR2(fallocate(dir, 0, 0, 10), EBADF, EISDIR);
    EXPECT_ERR(fallocate(fd, 0, INT64_MAX - 5, 10), EFBIG);
    EXPECT_EQ(FSTAT(fd).st_size, 1);
}

CASE(fallocate, posix_interface)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(posix_fallocate(fd, 100, 100000), 0);
    EXPECT_EQ(FSTAT(fd).st_size, 100100);
    EXPECT_EQ(posix_fallocate(fd, 0, 0), EINVAL);
    EXPECT_ZEROS(fd, 100100, 0);
}

CASE(fallocate, stays_within_the_limit_of_the_process)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    allocate(fd, 0, 0, 10);
    IN_PROCESS
    {
        (void)signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {.rlim_cur = 1000, .rlim_max = 1000};
        REQUIRE_OK(setrlimit(RLIMIT_FSIZE, &limit));
        EXPECT_ERR(fallocate(fd, 0, 0, 2000), EFBIG);
        EXPECT_OK(fallocate(fd, 0, 0, 1000));
    }
    EXPECT_EQ(FSTAT(fd).st_size, 1000);
}

CASE(fallocate, hole_and_store_many_times)
{
    enum { SIZE = 64 * BLOCK };
    char *bytes = pattern(SIZE, 4);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, SIZE);
    for (int i = 0; i < 64; i += 2) {
        allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * BLOCK, BLOCK);
        memset(bytes + i * BLOCK, 0, BLOCK);
    }
    EXPECT_BYTES(fd, bytes, SIZE, 0);
    for (int i = 0; i < 64; i += 4) {
        pattern_fill(bytes + i * BLOCK, 100, (uint64_t)i, 5);
        EXPECT_EQ(pwrite(fd, bytes + i * BLOCK, 100, i * BLOCK), 100);
    }
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, SIZE, 0);
    free(bytes);
}

/* ---- lseek ---- */

CASE(lseek, plain)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_EQ(lseek(fd, 3, SEEK_SET), 3);
    EXPECT_EQ(lseek(fd, 4, SEEK_CUR), 7);
    EXPECT_EQ(lseek(fd, -2, SEEK_CUR), 5);
    EXPECT_EQ(lseek(fd, -3, SEEK_END), 7);
    EXPECT_EQ(lseek(fd, 100, SEEK_END), 110); /* beyond the end is a place too */
    EXPECT_EQ(lseek(fd, (off_t)1 << 40, SEEK_SET), (off_t)1 << 40);
    EXPECT_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    EXPECT_ERR(lseek(fd, -11, SEEK_END), EINVAL);
    EXPECT_ERR(lseek(fd, 0, 77), EINVAL);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)1 << 40); /* failures leave it */
    EXPECT_ERR(lseek(99, 0, SEEK_SET), EBADF);
    int ends[2];
    REQUIRE_OK(pipe(ends));
    EXPECT_ERR(lseek(ends[0], 0, SEEK_SET), ESPIPE);
}

CASE(lseek, end_is_where_others_have_written)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    int other = open_file("f", O_WRONLY | O_APPEND, 0);
    for (int i = 1; i < 20; i++) {
        write_all(other, "0123456789", 10);
        EXPECT_EQ(lseek(fd, 0, SEEK_END), 10 * i);
    }
    REQUIRE_OK(truncate("f", 33));
    EXPECT_EQ(lseek(fd, 0, SEEK_END), 33);
}

CASE(lseek, data_and_hole_of_a_file_without_holes)
{
    char *bytes = pattern(100000, 1);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, 100000);
    static const off_t offsets[] = {0, 1, 4096, 50000, 99999};
    for (unsigned i = 0; i < 5; i++) {
        EXPECT_EQ(lseek(fd, offsets[i], SEEK_DATA), offsets[i]);
        EXPECT_EQ(lseek(fd, offsets[i], SEEK_HOLE), 100000); /* the end counts as a hole */
    }
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 100000);
    free(bytes);
}

CASE(lseek, data_and_hole_beyond_the_end)
{
    make_file("f", 0644, "0123456789");
    make_file("empty", 0644, NULL);
    int fd = open_file("f", O_RDWR, 0);
    int empty = open_file("empty", O_RDWR, 0);
    REQUIRE_OK(lseek(fd, 5, SEEK_SET));
    EXPECT_ERR(lseek(fd, 10, SEEK_DATA), ENXIO);
    EXPECT_ERR(lseek(fd, 10, SEEK_HOLE), ENXIO);
    EXPECT_ERR(lseek(fd, 1000, SEEK_DATA), ENXIO);
    EXPECT_ERR(lseek(fd, 1000, SEEK_HOLE), ENXIO);
    EXPECT_ERR(lseek(fd, -1, SEEK_DATA), ENXIO);
    EXPECT_ERR(lseek(fd, -1, SEEK_HOLE), ENXIO);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5);
    EXPECT_ERR(lseek(empty, 0, SEEK_DATA), ENXIO);
    EXPECT_ERR(lseek(empty, 0, SEEK_HOLE), ENXIO);
}

/* What SEEK_DATA and SEEK_HOLE show must cover every byte that is not zero; holes may be smaller
 * than they were made. */
static void expect_map(int fd, const char *bytes, off_t size)
{
    off_t at = 0;
    int steps = 0;
    while (at < size && steps++ < 1000) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data == -1) {
            EXPECT_EQ(errno, ENXIO);
            data = size;
        }
        EXPECT(data >= at && data <= size);
        for (off_t i = at; i < data; i++)
            if (bytes[i] != 0) {
                FAIL("byte %lld is not zero but in a hole", (long long)i);
                return;
            }
        if (data >= size) return;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        EXPECT(hole > data && hole <= size);
        if (hole <= data) return;
        at = hole;
    }
    EXPECT(steps < 1000);
}

CASE(lseek, data_and_hole_of_a_sparse_file)
{
    enum { SIZE = 8 * MIB };
    char *bytes = calloc(1, SIZE);
    REQUIRE(bytes != NULL);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, SIZE));
    static const struct {
        off_t offset;
        size_t size;
    } parts[] = {{MIB, 65536}, {3 * MIB, 65536}, {SIZE - 65536, 65536}};
    for (unsigned i = 0; i < 3; i++) {
        pattern_fill(bytes + parts[i].offset, parts[i].size, (uint64_t)parts[i].offset, 7);
        pwrite_all(fd, bytes + parts[i].offset, parts[i].size, parts[i].offset);
    }
    expect_map(fd, bytes, SIZE);
    off_t data = lseek(fd, 0, SEEK_DATA);
    EXPECT(data > 0 && data <= MIB); /* there is a hole, and it is found */
    EXPECT_EQ(lseek(fd, MIB, SEEK_DATA), MIB);
    off_t hole = lseek(fd, MIB, SEEK_HOLE);
    EXPECT(hole >= MIB + 65536 && hole < 3 * MIB);
    EXPECT_EQ(lseek(fd, 3 * MIB + 5, SEEK_DATA), 3 * MIB + 5);
    EXPECT_EQ(lseek(fd, SIZE - 1, SEEK_HOLE), SIZE);
    EXPECT_OK(fsync(fd));
    expect_map(fd, bytes, SIZE);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * MIB, 65536) == 0) {
        memset(bytes + 3 * MIB, 0, 65536);
        expect_map(fd, bytes, SIZE);
        data = lseek(fd, 2 * MIB, SEEK_DATA);
        EXPECT(data > 3 * MIB);
    }
    free(bytes);
}

CASE(lseek, file_of_a_hole_only)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 10 * MIB));
    EXPECT_ERR(lseek(fd, 0, SEEK_DATA), ENXIO);
    EXPECT_EQ(lseek(fd, 0, SEEK_HOLE), 0);
    EXPECT_EQ(lseek(fd, 5 * MIB, SEEK_HOLE), 5 * MIB);
}

CASE(lseek, data_not_yet_synced_is_found)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(pwrite(fd, "x", 1, 2 * MIB), 1);
    off_t data = lseek(fd, 0, SEEK_DATA);
    EXPECT(data > 0 && data <= 2 * MIB);
    EXPECT_EQ(lseek(fd, 2 * MIB, SEEK_DATA), 2 * MIB);
    EXPECT_EQ(lseek(fd, 2 * MIB, SEEK_HOLE), 2 * MIB + 1);
}

/* ---- copy_file_range ---- */

CASE(copy, of_whole_files)
{
    static const size_t sizes[] = {1, 4095, 4096, 4097, 100000, 3 * MIB + 17};
    for (unsigned i = 0; i < 6; i++) {
        char *bytes = pattern(sizes[i], i);
        int from = open_file("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
        int to = open_file("g", O_CREAT | O_TRUNC | O_RDWR, 0644);
        write_all(from, bytes, sizes[i]);
        off_t in = 0, out = 0;
        for (size_t left = sizes[i]; left > 0;) {
            ssize_t done = copy_file_range(from, &in, to, &out, left, 0);
            REQUIRE(done > 0);
            left -= (size_t)done;
        }
        EXPECT_EQ(in, sizes[i]);
        EXPECT_EQ(out, sizes[i]);
        EXPECT_EQ(FSTAT(to).st_size, sizes[i]);
        EXPECT_BYTES(to, bytes, sizes[i], 0);
        cache_drop(to);
        EXPECT_BYTES(to, bytes, sizes[i], 0);
        EXPECT_EQ(copy_file_range(from, &in, to, &out, 100, 0), 0); /* at the end: nothing */
        free(bytes);
        REQUIRE_OK(close(from));
        REQUIRE_OK(close(to));
    }
}

CASE(copy, offsets_and_positions)
{
    make_file("f", 0644, "0123456789");
    make_file("g", 0644, "abcdefghij");
    int from = open_file("f", O_RDONLY, 0);
    int to = open_file("g", O_RDWR, 0);
    off_t in = 2, out = 5;
    EXPECT_EQ(copy_file_range(from, &in, to, &out, 3, 0), 3);
    EXPECT_EQ(in, 5);
    EXPECT_EQ(out, 8);
    EXPECT_EQ(lseek(from, 0, SEEK_CUR), 0);
    EXPECT_CONTENT("g", "abcde234ij");
    EXPECT_EQ(copy_file_range(from, NULL, to, NULL, 4, 0), 4);
    EXPECT_EQ(lseek(from, 0, SEEK_CUR), 4);
    EXPECT_EQ(lseek(to, 0, SEEK_CUR), 4);
    EXPECT_CONTENT("g", "0123e234ij");
    in = 8;
    EXPECT_EQ(copy_file_range(from, &in, to, NULL, 100, 0), 2); /* less at the end */
    EXPECT_CONTENT("g", "01238934ij");
}

CASE(copy, within_one_file)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    off_t in = 0, out = 5;
    EXPECT_EQ(copy_file_range(fd, &in, fd, &out, 5, 0), 5);
    EXPECT_CONTENT("f", "0123401234");
    in = 0;
    out = 3;
    EXPECT_ERR(copy_file_range(fd, &in, fd, &out, 5, 0), EINVAL); /* overlapping */
    in = 5;
    out = 20;
    EXPECT_EQ(copy_file_range(fd, &in, fd, &out, 5, 0), 5);
    EXPECT_EQ(FSTAT(fd).st_size, 25);
    EXPECT_ZEROS(fd, 10, 10);
    EXPECT_BYTES(fd, "01234", 5, 20);
}

CASE(copy, beyond_the_end_and_far_away)
{
    make_file("f", 0644, "0123456789");
    int from = open_file("f", O_RDONLY, 0);
    int to = open_file("g", O_CREAT | O_RDWR, 0644);
    off_t in = 100, out = 0;
    EXPECT_EQ(copy_file_range(from, &in, to, &out, 10, 0), 0);
    in = 0;
    out = (off_t)5 << 30;
    EXPECT_EQ(copy_file_range(from, &in, to, &out, 10, 0), 10);
    EXPECT_EQ(FSTAT(to).st_size, ((off_t)5 << 30) + 10);
    EXPECT_BYTES(to, "0123456789", 10, (off_t)5 << 30);
    EXPECT_EQ(copy_file_range(from, &in, to, &out, 0, 0), 0);
}

CASE(copy, of_what_was_just_written_or_mapped)
{
    int from = open_file("f", O_CREAT | O_RDWR, 0644);
    int to = open_file("g", O_CREAT | O_RDWR, 0644);
    for (int i = 0; i < 20; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%07d", i);
        EXPECT_EQ(pwrite(from, text, 7, 0), 7);
        off_t in = 0, out = 0;
        EXPECT_EQ(copy_file_range(from, &in, to, &out, 7, 0), 7);
        EXPECT_BYTES(to, text, 7, 0);
    }
}

CASE(copy, invalid_arguments)
{
    make_file("f", 0644, "0123456789");
    make_dir("d", 0755);
    REQUIRE_OK(mkfifo("fifo", 0644));
    int reader = open_file("f", O_RDONLY, 0);
    int writer = open_file("f", O_WRONLY, 0);
    int to = open_file("g", O_CREAT | O_RDWR, 0644);
    int append = open_file("g", O_WRONLY | O_APPEND, 0);
    int dir = open_file("d", O_RDONLY, 0);
    int fifo = open_file("fifo", O_RDWR, 0);
    EXPECT_ERR(copy_file_range(writer, NULL, to, NULL, 5, 0), EBADF);
    EXPECT_ERR(copy_file_range(to, NULL, reader, NULL, 5, 0), EBADF);
    EXPECT_ERR(copy_file_range(reader, NULL, append, NULL, 5, 0), EBADF);
    EXPECT_ERR(copy_file_range(dir, NULL, to, NULL, 5, 0), EISDIR);
    EXPECT_ERR2(copy_file_range(reader, NULL, dir, NULL, 5, 0), EISDIR, EBADF);
    EXPECT_ERR(copy_file_range(fifo, NULL, to, NULL, 5, 0), EINVAL);
    EXPECT_ERR(copy_file_range(reader, NULL, fifo, NULL, 5, 0), EINVAL);
    EXPECT_ERR(copy_file_range(reader, NULL, to, NULL, 5, 1), EINVAL);
    EXPECT_ERR(copy_file_range(99, NULL, to, NULL, 5, 0), EBADF);
    EXPECT_EQ(FSTAT(to).st_size, 0);
}

CASE(copy, between_file_systems)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/f", other_dir());
    make_file("f", 0644, "0123456789");
    int from = open_file("f", O_RDONLY, 0);
    int to = open_file(path, O_CREAT | O_RDWR, 0644);
    off_t in = 0, out = 0;
    EXPECT_ERR(copy_file_range(from, &in, to, &out, 10, 0), EXDEV);
    EXPECT_ERR(copy_file_range(to, &in, from, &out, 10, 0), EBADF);
}
