/* truncate(2) and ftruncate(2). */
#include "tests/posix/suite.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

CASE(truncate, shorter_and_longer)
{
    static const off_t sizes[] = {5, 0, 1, 4096, 4095, 4097, 100000, 65536, 3, 8191, 0, 1 << 20};
    make_file("f", 0644, "0123456789");
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        EXPECT_OK(truncate("f", sizes[i]));
        EXPECT_EQ(STAT("f").st_size, sizes[i]);
        struct stat attr = STAT("f");
        EXPECT(attr.st_blocks * 512 <= sizes[i] + 65536);
    }
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_ZEROS(fd, 1 << 20, 0);
}

CASE(truncate, what_was_cut_off_comes_back_as_zeros)
{
    size_t size = 20000;
    char *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, 1);
    static const off_t cuts[] = {0, 1, 100, 4095, 4096, 4097, 8192, 12345, 19999, 20000};
    for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        int fd = open_file("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
        write_all(fd, bytes, size);
        EXPECT_OK(ftruncate(fd, cuts[i]));
        EXPECT_EQ(FSTAT(fd).st_size, cuts[i]);
        EXPECT_OK(ftruncate(fd, (off_t)size + 5000));
        EXPECT_BYTES(fd, bytes, (size_t)cuts[i], 0);
        EXPECT_ZEROS(fd, size + 5000 - (size_t)cuts[i], cuts[i]);
        cache_drop(fd);
        EXPECT_BYTES(fd, bytes, (size_t)cuts[i], 0);
        EXPECT_ZEROS(fd, size + 5000 - (size_t)cuts[i], cuts[i]);
        REQUIRE_OK(close(fd));
    }
    free(bytes);
}

CASE(truncate, read_ends_at_the_new_end)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "0123456789", 10);
    int other = open_file("f", O_RDWR, 0);
    EXPECT_OK(ftruncate(other, 4));
    char bytes[16];
    EXPECT_EQ(pread(fd, bytes, 16, 0), 4);
    EXPECT_EQ(pread(fd, bytes, 16, 4), 0);
    EXPECT_EQ(pread(fd, bytes, 16, 8), 0);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 10); /* the offset stays */
    EXPECT_EQ(write(fd, "x", 1), 1);
    EXPECT_BYTES(fd, "0123\0\0\0\0\0\0x", 11, 0);
    EXPECT_EQ(lseek(fd, 0, SEEK_END), 11);
}

CASE(truncate, beyond_four_gibibytes)
{
    static const off_t sizes[] = {(off_t)1 << 31,       ((off_t)1 << 32) - 1, (off_t)1 << 32,
                                  ((off_t)1 << 32) + 1, (off_t)5 << 30,       (off_t)1 << 40};
    make_file("f", 0644, "x");
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        EXPECT_OK(truncate("f", sizes[i]));
        EXPECT_EQ(STAT("f").st_size, sizes[i]);
        EXPECT(STAT("f").st_blocks < 1000);
    }
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_BYTES(fd, "x", 1, 0);
    EXPECT_ZEROS(fd, 100, ((off_t)1 << 40) - 100);
    EXPECT_OK(ftruncate(fd, 1));
    EXPECT_BYTES(fd, "x", 1, 0);
}

CASE(truncate, to_the_largest_size_or_efbig)
{
    make_file("f", 0644, "x");
    if (truncate("f", INT64_MAX) == -1) {
        EXPECT_EQ(errno, EFBIG);
        EXPECT_EQ(STAT("f").st_size, 1);
    } else {
        EXPECT_EQ(STAT("f").st_size, INT64_MAX);
    }
    EXPECT_OK(truncate("f", 1));
    EXPECT_CONTENT("f", "x");
}

CASE(truncate, invalid_arguments)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(mkfifo("fifo", 0644));
    EXPECT_ERR(truncate("f", -1), EINVAL);
    EXPECT_ERR(truncate("d", 0), EISDIR);
    EXPECT_ERR(truncate("fifo", 0), EINVAL);
    int reader = open_file("f", O_RDONLY, 0);
    int writer = open_file("f", O_RDWR, 0);
    int dir = open_file("d", O_RDONLY, 0);
    EXPECT_ERR(ftruncate(reader, 0), EINVAL);
    EXPECT_ERR(ftruncate(writer, -5), EINVAL);
    EXPECT_ERR(ftruncate(dir, 0), EINVAL);
    EXPECT_ERR(ftruncate(99, 0), EBADF);
    EXPECT_CONTENT("f", "x");
}

CASE(truncate, needs_write_permission)
{
    need_root();
    make_file("f", 0644, "content");
    AS(user_a)
    {
        EXPECT_ERR(truncate("f", 0), EACCES);
        EXPECT_ERR(truncate("f", 7), EACCES);
    }
    REQUIRE_OK(chmod("f", 0622));
    AS(user_a)
    {
        EXPECT_OK(truncate("f", 3));
    }
    EXPECT_CONTENT("f", "con");
}

CASE(truncate, through_a_symlink)
{
    make_file("f", 0644, "content");
    REQUIRE_OK(symlink("f", "l"));
    EXPECT_OK(truncate("l", 3));
    EXPECT_CONTENT("f", "con");
    EXPECT_EQ(STAT("l").st_size, 1);
}

CASE(truncate, by_name_is_seen_by_open_descriptors)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_BYTES(fd, "content", 7, 0);
    EXPECT_OK(truncate("f", 3));
    EXPECT_EQ(FSTAT(fd).st_size, 3);
    char bytes[8];
    EXPECT_EQ(pread(fd, bytes, 8, 0), 3);
    EXPECT_OK(truncate("f", 5));
    EXPECT_BYTES(fd, "con\0\0", 5, 0);
}

CASE(truncate, stays_within_the_limit_of_the_process)
{
    make_file("f", 0644, "0123456789");
    IN_PROCESS
    {
        (void)signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {.rlim_cur = 100, .rlim_max = 100};
        REQUIRE_OK(setrlimit(RLIMIT_FSIZE, &limit));
        EXPECT_ERR(truncate("f", 101), EFBIG);
        EXPECT_OK(truncate("f", 100));
        int fd = open_file("f", O_RDWR, 0);
        EXPECT_ERR(ftruncate(fd, 1000), EFBIG);
        EXPECT_ERR(pwrite(fd, "x", 1, 100), EFBIG);
        EXPECT_EQ(pwrite(fd, "0123456789", 10, 95), 5); /* as far as it goes */
        EXPECT_EQ(FSTAT(fd).st_size, 100);
    }
}

CASE(truncate, mapped_pages_beyond_the_end_are_zero)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    char *bytes = malloc(12288);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 12288, 0, 2);
    write_all(fd, bytes, 12288);
    char *map = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED);
    EXPECT(memcmp(map, bytes, 12288) == 0);
    EXPECT_OK(ftruncate(fd, 5000));
    EXPECT(memcmp(map, bytes, 5000) == 0);
    for (int i = 5000; i < 8192; i++)
        if (map[i] != 0) {
            FAIL("byte %d behind the end is not zero", i);
            break;
        }
    EXPECT_OK(ftruncate(fd, 12288));
    EXPECT(memcmp(map, bytes, 5000) == 0);
    for (int i = 5000; i < 12288; i++)
        if (map[i] != 0) {
            FAIL("byte %d is not zero after growing", i);
            break;
        }
    free(bytes);
}

CASE(truncate, repeated_with_appends)
{
    int fd = open_file("f", O_CREAT | O_RDWR | O_APPEND, 0644);
    for (int i = 0; i < 200; i++) {
        write_all(fd, "0123456789", 10);
        EXPECT_OK(ftruncate(fd, 3));
        EXPECT_EQ(FSTAT(fd).st_size, 3);
        write_all(fd, "abc", 3);
        EXPECT_BYTES(fd, "012abc", 6, 0);
        EXPECT_EQ(FSTAT(fd).st_size, 6);
        EXPECT_OK(ftruncate(fd, 0));
    }
}

CASE(truncate, frees_blocks)
{
    size_t size = 4 << 20;
    char *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, 3);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, size);
    EXPECT_OK(fsync(fd));
    EXPECT(FSTAT(fd).st_blocks >= (blkcnt_t)(size / 512));
    EXPECT(FSTAT(fd).st_blocks < (blkcnt_t)(size / 512 + 2048));
    EXPECT_OK(ftruncate(fd, 1 << 20));
    EXPECT(FSTAT(fd).st_blocks <= (1 << 20) / 512 + 2048);
    EXPECT_BYTES(fd, bytes, 1 << 20, 0);
    EXPECT_OK(ftruncate(fd, 0));
    EXPECT_EQ(FSTAT(fd).st_blocks, 0);
    free(bytes);
}
