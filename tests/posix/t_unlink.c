/* unlink(2), and files that live on without a name. */
#include "tests/posix/suite.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

CASE(unlink, removes_every_type_but_directories)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < (geteuid() == 0 ? 6 : 4); i++) {
        make_node("node", types[i]);
        EXPECT_OK(unlink("node"));
        EXPECT(!exists("node"));
        EXPECT_ERR(unlink("node"), ENOENT);
    }
    EXPECT_EQ(count_entries("."), 0);
}

CASE(unlink, of_a_directory_is_refused)
{
    make_dir("d", 0755);
    EXPECT_ERR(unlink("d"), EISDIR);
    EXPECT_ERR(unlink("d/"), EISDIR);
    EXPECT_ERR(unlink("d/."), EISDIR);
    EXPECT_ERR(unlink("."), EISDIR);
    EXPECT_ERR(unlink("d/.."), EISDIR);
    EXPECT(exists("d"));
}

CASE(unlink, of_a_symlink_keeps_its_target)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(symlink("f", "lf"));
    REQUIRE_OK(symlink("d", "ld"));
    EXPECT_OK(unlink("lf"));
    EXPECT_OK(unlink("ld"));
    EXPECT_CONTENT("f", "x");
    EXPECT(exists("d"));
}

CASE(unlink, counts_down_the_links)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(link("f", "g"));
    REQUIRE_OK(link("f", "h"));
    struct stat before = STAT("g");
    tick();
    EXPECT_OK(unlink("f"));
    EXPECT_EQ(NLINK("g"), 2);
    EXPECT_TIMES(before, STAT("g"), "c");
    EXPECT_OK(unlink("h"));
    EXPECT_EQ(NLINK("g"), 1);
    EXPECT_CONTENT("g", "x");
}

CASE(unlinked, file_goes_on)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "before", 6);
    ino_t ino = FSTAT(fd).st_ino;
    REQUIRE_OK(unlink("f"));
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
    EXPECT_EQ(FSTAT(fd).st_ino, ino);
    EXPECT_BYTES(fd, "before", 6, 0);
    EXPECT_EQ(write(fd, " and after", 10), 10);
    EXPECT_BYTES(fd, "before and after", 16, 0);
    EXPECT_EQ(FSTAT(fd).st_size, 16);
    EXPECT_OK(ftruncate(fd, 3));
    EXPECT_EQ(FSTAT(fd).st_size, 3);
    EXPECT_OK(ftruncate(fd, 10000));
    EXPECT_ZEROS(fd, 9997, 3);
    EXPECT_OK(fsync(fd));
    cache_drop(fd);
    EXPECT_BYTES(fd, "bef", 3, 0);
    EXPECT_OK(close(fd));
}

CASE(unlinked, attributes_can_change)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(unlink("f"));
    EXPECT_OK(fchmod(fd, 0600));
    EXPECT_EQ(FSTAT(fd).st_mode & 07777, 0600);
    const struct timespec times[2] = {{.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = 7, .tv_nsec = 8}};
    EXPECT_OK(futimens(fd, times));
    EXPECT_EQ(FSTAT(fd).st_mtim.tv_sec, 7);
    EXPECT_EQ(FSTAT(fd).st_mtim.tv_nsec, 8);
    EXPECT_OK(fchown(fd, geteuid(), getegid()));
    EXPECT_OK(fsetxattr(fd, "user.late", "value", 5, 0));
    char value[8] = {0};
    EXPECT_EQ(fgetxattr(fd, "user.late", value, sizeof(value)), 5);
    EXPECT_STR(value, "value");
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
}

CASE(unlinked, last_name_of_several)
{
    make_file("f", 0644, "content");
    REQUIRE_OK(link("f", "g"));
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(unlink("f"));
    EXPECT_EQ(FSTAT(fd).st_nlink, 1);
    REQUIRE_OK(unlink("g"));
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
    EXPECT_BYTES(fd, "content", 7, 0);
}

CASE(unlinked, several_descriptors)
{
    make_file("f", 0644, "content");
    int one = open_file("f", O_RDWR, 0);
    int two = open_file("f", O_RDONLY, 0);
    REQUIRE_OK(unlink("f"));
    REQUIRE_OK(close(one));
    cache_drop(two);
    EXPECT_BYTES(two, "content", 7, 0);
    IN_PROCESS
    {
        EXPECT_BYTES(two, "content", 7, 0);
    }
    EXPECT_BYTES(two, "content", 7, 0);
}

CASE(unlinked, name_used_again_is_another_file)
{
    make_file("f", 0644, "old");
    int old = open_file("f", O_RDWR, 0);
    REQUIRE_OK(unlink("f"));
    make_file("f", 0600, "new content");
    EXPECT(STAT("f").st_ino != FSTAT(old).st_ino);
    EXPECT_BYTES(old, "old", 3, 0);
    EXPECT_EQ(pwrite(old, "OLD", 3, 0), 3);
    EXPECT_CONTENT("f", "new content");
    EXPECT_EQ(FSTAT(old).st_size, 3);
    EXPECT_EQ(PERMS("f"), 0600);
}

CASE(unlinked, open_unlink_recreate_many_times)
{
    enum { ROUNDS = 100 };
    int fds[ROUNDS];
    char text[16];
    for (int i = 0; i < ROUNDS; i++) {
        fds[i] = open_file("f", O_CREAT | O_EXCL | O_RDWR, 0644);
        snprintf(text, sizeof(text), "%08d", i);
        write_all(fds[i], text, 8);
        REQUIRE_OK(unlink("f"));
    }
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(text, sizeof(text), "%08d", i);
        EXPECT_BYTES(fds[i], text, 8, 0);
        struct stat attr = FSTAT(fds[i]);
        EXPECT_EQ(attr.st_size, 8);
        EXPECT_EQ(attr.st_nlink, 0);
        for (int j = 0; j < i; j++)
            if (FSTAT(fds[j]).st_ino == attr.st_ino) FAIL("%d and %d have one inode number", i, j);
        if (i > 20) break; /* comparing all with all is slow and shows no more */
    }
    EXPECT_EQ(count_entries("."), 0);
}

CASE(unlinked, mapping_goes_on)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 8192));
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED);
    memcpy(map, "first", 5);
    REQUIRE_OK(unlink("f"));
    memcpy(map + 4096, "second", 6);
    EXPECT_BYTES(fd, "second", 6, 4096);
    REQUIRE_OK(close(fd));
    EXPECT(memcmp(map, "first", 5) == 0);
    map[1] = 'x';
    EXPECT_OK(msync(map, 8192, MS_SYNC));
    EXPECT_OK(munmap(map, 8192));
}

CASE(unlinked, directory_is_empty_at_once)
{
    make_dir("d", 0755);
    int fd = open_file("d/f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "x", 1);
    REQUIRE_OK(unlink("d/f"));
    EXPECT_EQ(count_entries("d"), 0);
    EXPECT_OK(rmdir("d"));
    EXPECT_BYTES(fd, "x", 1, 0);
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
}

CASE(unlinked, file_that_is_executed_or_read_is_unaffected)
{
    size_t size = 3 << 20;
    char *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, 3);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, bytes, size);
    EXPECT_BYTES(fd, bytes, size / 2, 0);
    REQUIRE_OK(unlink("f"));
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, size, 0);
    free(bytes);
}

CASE(unlinked, fifo_goes_on)
{
    REQUIRE_OK(mkfifo("fifo", 0600));
    int fd = open_file("fifo", O_RDWR, 0);
    REQUIRE_OK(unlink("fifo"));
    EXPECT_EQ(write(fd, "through", 7), 7);
    char bytes[8] = {0};
    EXPECT_EQ(read(fd, bytes, 7), 7);
    EXPECT_STR(bytes, "through");
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
}

CASE(unlinked, replaced_by_rename)
{
    make_file("f", 0644, "old");
    make_file("g", 0644, "new");
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(rename("g", "f"));
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
    EXPECT_BYTES(fd, "old", 3, 0);
    EXPECT_EQ(pwrite(fd, "OLDER", 5, 0), 5);
    EXPECT_CONTENT("f", "new");
}

CASE(unlinked, cycle_of_temporary_files_keeps_its_space_bounded)
{
    /* The classical temporary file: made, unlinked, filled, closed. What it held is free again. */
    char *bytes = malloc(1 << 20);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, 1 << 20, 0, 9);
    for (int i = 0; i < 30; i++) {
        int fd = open_file("tmp", O_CREAT | O_EXCL | O_RDWR, 0600);
        REQUIRE_OK(unlink("tmp"));
        write_all(fd, bytes, 1 << 20);
        EXPECT_BYTES(fd, bytes + 500000, 1000, 500000);
        EXPECT(FSTAT(fd).st_blocks >= (1 << 20) / 512);
        REQUIRE_OK(close(fd));
    }
    free(bytes);
}
