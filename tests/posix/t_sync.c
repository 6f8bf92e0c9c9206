/* fsync(2), fdatasync(2), syncfs(2), sync_file_range(2), sync(2). Whether they keep their promise
 * over a crash is tests/crash's. */
#include "tests/posix/suite.h"

#include <sys/mman.h>

CASE(sync, of_files)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "content", 7);
    EXPECT_OK(fsync(fd));
    EXPECT_EQ(pwrite(fd, "C", 1, 0), 1);
    EXPECT_OK(fdatasync(fd));
    EXPECT_OK(syncfs(fd));
    EXPECT_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    cache_drop(fd);
    EXPECT_CONTENT("f", "Content");
    EXPECT_EQ(STAT("f").st_size, 7);
}

CASE(sync, needs_no_descriptor_for_writing)
{
    make_file("f", 0444, "content");
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_OK(fsync(fd));
    EXPECT_OK(fdatasync(fd));
    EXPECT_OK(syncfs(fd));
}

CASE(sync, of_directories)
{
    make_dir("d", 0755);
    int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    make_file("d/f", 0644, "x");
    EXPECT_OK(fsync(fd));
    EXPECT_OK(fdatasync(fd));
    EXPECT_OK(syncfs(fd));
    REQUIRE_OK(rename("d/f", "d/g"));
    EXPECT_OK(fsync(fd));
    EXPECT(exists("d/g"));
    int root = open_file(".", O_RDONLY | O_DIRECTORY, 0);
    EXPECT_OK(fsync(root));
}

CASE(sync, of_removed_files_and_directories)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    make_dir("d", 0755);
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    write_all(fd, "x", 1);
    REQUIRE_OK(unlink("f"));
    REQUIRE_OK(rmdir("d"));
    EXPECT_OK(fsync(fd));
    EXPECT_OK(fdatasync(fd));
    EXPECT_OK(fsync(dir));
}

CASE(sync, invalid_descriptors)
{
    REQUIRE_OK(mkfifo("fifo", 0644));
    int fifo = open_file("fifo", O_RDWR, 0);
    EXPECT_ERR(fsync(fifo), EINVAL);
    EXPECT_ERR(fdatasync(fifo), EINVAL);
    EXPECT_ERR(fsync(99), EBADF);
    EXPECT_ERR(fdatasync(99), EBADF);
    EXPECT_ERR(syncfs(99), EBADF);
    EXPECT_ERR(fsync(open_file(".", O_PATH, 0)), EBADF);
}

CASE(sync, everything)
{
    make_file("f", 0644, "content");
    sync();
    EXPECT_CONTENT("f", "content");
}

CASE(sync, of_mapped_stores)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 8192));
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED);
    memcpy(map + 4090, "0123456789", 10);
    EXPECT_OK(fsync(fd));
    EXPECT_OK(munmap(map, 8192));
    cache_drop(fd);
    EXPECT_BYTES(fd, "0123456789", 10, 4090);
}

CASE(sync, by_several_processes_at_once)
{
    struct crew crew = {.count = 0};
    for (unsigned i = 0; i < 4; i++) {
        pid_t pid = fork();
        REQUIRE(pid != -1);
        if (pid == 0) {
            char name[16];
            snprintf(name, sizeof(name), "f%u", i);
            int fd = open_file(name, O_CREAT | O_RDWR, 0644);
            for (int round = 0; round < 10; round++) {
                write_all(fd, "0123456789", 10);
                EXPECT_OK(round % 2 ? fsync(fd) : fdatasync(fd));
            }
            EXPECT_EQ(FSTAT(fd).st_size, 100);
            _exit(0);
        }
        crew.pids[crew.count++] = pid;
    }
    crew_wait(&crew);
    EXPECT_EQ(STAT("f3").st_size, 100);
}
