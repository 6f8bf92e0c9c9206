/* Which of atime, mtime and ctime each operation changes, of the file and of its directories, and
 * which it leaves alone.
 *
 * Each row of the table makes "d" with its content, waits for the clock, acts, and compares:
 * letters of the times that must have advanced, for the directory, the object and a second
 * directory; all others must be as they were. */
#include "tests/posix/suite.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/xattr.h>

struct act {
    const char *name;
    void (*run)(int fd); /* fd: d/f, open for reading and writing */
    const char *dir;     /* d */
    const char *file;    /* d/f, by fd */
    const char *other;   /* e */
};

#define ACT(name_, body)                                                                           \
    static void act_##name_(int fd)                                                                \
    {                                                                                              \
        (void)fd;                                                                                  \
        body;                                                                                      \
    }

static char buffer[100];

ACT(open, EXPECT_OK(open("d/f", O_RDWR)))
ACT(open_create_existing, EXPECT_OK(open("d/f", O_RDWR | O_CREAT, 0644)))
ACT(open_create, EXPECT_OK(open("d/new", O_RDWR | O_CREAT, 0644)))
ACT(open_truncate, EXPECT_OK(open("d/f", O_RDWR | O_TRUNC)))
ACT(mknod, EXPECT_OK(mknod("d/new", S_IFREG | 0644, 0)))
ACT(mkfifo, EXPECT_OK(mkfifo("d/new", 0644)))
ACT(mkdir, EXPECT_OK(mkdir("d/new", 0755)))
ACT(symlink, EXPECT_OK(symlink("x", "d/new")))
ACT(link, EXPECT_OK(link("d/f", "e/new")))
ACT(unlink, EXPECT_OK(unlink("d/f")))
ACT(unlink_of_two, EXPECT_OK(unlink("d/twin")))
ACT(rmdir, EXPECT_OK(rmdir("d/sub")))
ACT(rename_within, EXPECT_OK(rename("d/f", "d/new")))
ACT(rename_across, EXPECT_OK(rename("d/f", "e/new")))
ACT(rename_over, EXPECT_OK(rename("e/g", "d/f")))
ACT(rename_directory, EXPECT_OK(rename("d/sub", "e/sub")))
ACT(exchange, EXPECT_OK(renameat2(AT_FDCWD, "d/f", AT_FDCWD, "e/g", RENAME_EXCHANGE)))
ACT(stat, (void)STAT("d/f"))
ACT(access, EXPECT_OK(access("d/f", R_OK)))
ACT(chmod, EXPECT_OK(chmod("d/f", 0600)))
ACT(chmod_same, EXPECT_OK(chmod("d/f", 0644)))
ACT(chown, EXPECT_OK(chown("d/f", getuid(), getgid())))
ACT(write, EXPECT_EQ(write(fd, "x", 1), 1))
ACT(write_nothing, EXPECT_EQ(write(fd, "", 0), 0))
ACT(write_beyond_the_end, EXPECT_EQ(pwrite(fd, "x", 1, 5000), 1))
ACT(write_and_sync, EXPECT_EQ(write(fd, "x", 1), 1); EXPECT_OK(fsync(fd)))
ACT(read, cache_drop(fd); EXPECT_EQ(pread(fd, buffer, 7, 0), 7))
ACT(read_of_nothing, EXPECT_EQ(pread(fd, buffer, 0, 0), 0))
ACT(truncate_shorter, EXPECT_OK(truncate("d/f", 3)))
ACT(truncate_longer, EXPECT_OK(truncate("d/f", 300)))
ACT(ftruncate_same, EXPECT_OK(ftruncate(fd, 7)))
ACT(ftruncate_shorter, EXPECT_OK(ftruncate(fd, 1)))
ACT(fallocate, if (fallocate(fd, 0, 0, 100) == -1) case_skip("no fallocate"))
ACT(punch_hole, if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4) == -1)
                    case_skip("no holes"))
ACT(zero_range, if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4) == -1) case_skip("no zero range"))
ACT(setxattr, EXPECT_OK(setxattr("d/f", "user.a", "b", 1, 0)))
ACT(getxattr, EXPECT_ERR(getxattr("d/f", "user.a", buffer, 10), ENODATA))
ACT(listxattr, EXPECT_OK(listxattr("d/f", buffer, sizeof(buffer))))
ACT(fsync, EXPECT_OK(fsync(fd)))
ACT(lseek, EXPECT_OK(lseek(fd, 0, SEEK_END)))
ACT(lookup_of_nothing, EXPECT(!exists("d/missing")))
ACT(failed_unlink, EXPECT_ERR(unlink("d/missing"), ENOENT))
ACT(failed_mkdir, EXPECT_ERR(mkdir("d/f", 0755), EEXIST))
ACT(failed_rmdir, EXPECT_ERR(rmdir("d"), ENOTEMPTY))
ACT(failed_rename, EXPECT_ERR(rename("d/f", "d/sub"), EISDIR))
ACT(failed_link, EXPECT_ERR(link("d/f", "e/g"), EEXIST))
ACT(copy_into, int from = open_file("e/g", O_RDONLY, 0);
    EXPECT_EQ(copy_file_range(from, NULL, fd, NULL, 2, 0), 2))
ACT(store_to_a_mapping, char *map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED); map[0] = 'X'; EXPECT_OK(msync(map, 7, MS_SYNC)))
ACT(store_to_a_private_mapping,
    char *map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    REQUIRE(map != MAP_FAILED); map[0] = 'X'; EXPECT_OK(munmap(map, 7)))

/* "a?": relatime, caches and mappings leave it open whether a read is seen. */
static const struct act acts[] = {
    {"open", act_open, "", "", ""},
    {"open_create_existing", act_open_create_existing, "", "", ""},
    {"open_create", act_open_create, "mc", "", ""},
    {"open_truncate", act_open_truncate, "", "mc", ""},
    {"mknod", act_mknod, "mc", "", ""},
    {"mkfifo", act_mkfifo, "mc", "", ""},
    {"mkdir", act_mkdir, "mc", "", ""},
    {"symlink", act_symlink, "mc", "", ""},
    {"link", act_link, "", "c", "mc"},
    {"unlink", act_unlink, "mc", "c", ""},
    {"unlink_of_two", act_unlink_of_two, "mc", "c", ""},
    {"rmdir", act_rmdir, "mc", "", ""},
    {"rename_within", act_rename_within, "mc", "c?", ""},
    {"rename_across", act_rename_across, "mc", "c?", "mc"},
    {"rename_over", act_rename_over, "mc", "c", "mc"},
    {"rename_directory", act_rename_directory, "mc", "", "mc"},
    {"exchange", act_exchange, "mc", "c?", "mc"},
    {"stat", act_stat, "", "", ""},
    {"access", act_access, "", "", ""},
    {"chmod", act_chmod, "", "c", ""},
    {"chmod_same", act_chmod_same, "", "c", ""},
    {"chown", act_chown, "", "c", ""},
    {"write", act_write, "", "mc", ""},
    {"write_nothing", act_write_nothing, "", "", ""},
    {"write_beyond_the_end", act_write_beyond_the_end, "", "mc", ""},
    {"write_and_sync", act_write_and_sync, "", "mc", ""},
    {"read", act_read, "", "a", ""},
    {"read_of_nothing", act_read_of_nothing, "", "a?", ""},
    {"truncate_shorter", act_truncate_shorter, "", "mc", ""},
    {"truncate_longer", act_truncate_longer, "", "mc", ""},
    {"ftruncate_same", act_ftruncate_same, "", "mc", ""},
    {"ftruncate_shorter", act_ftruncate_shorter, "", "mc", ""},
    {"fallocate", act_fallocate, "", "mc", ""},
    {"punch_hole", act_punch_hole, "", "mc", ""},
    {"zero_range", act_zero_range, "", "mc", ""},
    {"setxattr", act_setxattr, "", "c", ""},
    {"getxattr", act_getxattr, "", "", ""},
    {"listxattr", act_listxattr, "", "", ""},
    {"fsync", act_fsync, "", "", ""},
    {"lseek", act_lseek, "", "", ""},
    {"lookup_of_nothing", act_lookup_of_nothing, "", "", ""},
    {"failed_unlink", act_failed_unlink, "", "", ""},
    {"failed_mkdir", act_failed_mkdir, "", "", ""},
    {"failed_rmdir", act_failed_rmdir, "", "", ""},
    {"failed_rename", act_failed_rename, "", "", ""},
    {"failed_link", act_failed_link, "", "", ""},
    {"copy_into", act_copy_into, "", "mc", ""},
    {"store_to_a_mapping", act_store_to_a_mapping, "", "a?mc", ""},
    {"store_to_a_private_mapping", act_store_to_a_private_mapping, "", "a?", ""},
};

static void change_times(void)
{
    const struct act *act = case_context();
    make_dir("d", 0755);
    make_dir("e", 0755);
    make_file("d/f", 0644, "content");
    make_file("e/g", 0644, "other");
    make_dir("d/sub", 0755);
    if (act->run == act_unlink_of_two) REQUIRE_OK(link("d/f", "d/twin"));
    int fd = open_file("d/f", O_RDWR, 0);
    struct stat dir = STAT("d");
    struct stat file = FSTAT(fd);
    struct stat other = STAT("e");
    tick();
    act->run(fd);
    EXPECT_TIMES(dir, STAT("d"), act->dir);
    EXPECT_TIMES(file, FSTAT(fd), act->file);
    EXPECT_TIMES(other, STAT("e"), act->other);
}

__attribute__((constructor)) static void add_acts(void)
{
    enum { COUNT = sizeof(acts) / sizeof(acts[0]) };
    static struct suite_case entries[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        entries[i] = (struct suite_case){
            .group = "times", .name = acts[i].name, .run = change_times, .context = &acts[i]};
        suite_add(&entries[i]);
    }
}

CASE(times, of_a_new_file_are_those_of_the_change_of_its_directory)
{
    tick();
    make_file("f", 0644, NULL);
    struct stat dir = STAT(".");
    struct stat file = STAT("f");
    EXPECT(time_compare(file.st_mtim, dir.st_mtim) <= 0 ||
           file.st_mtim.tv_sec == dir.st_mtim.tv_sec);
    EXPECT_EQ(time_compare(dir.st_mtim, dir.st_ctim), 0);
}

CASE(times, go_forward_with_every_write)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    struct stat before = FSTAT(fd);
    for (int i = 0; i < 10; i++) {
        tick();
        write_all(fd, "x", 1);
        EXPECT_TIMES(before, FSTAT(fd), "mc");
        before = FSTAT(fd);
        EXPECT_EQ(time_compare(before.st_mtim, before.st_ctim), 0);
    }
}

CASE(times, of_a_written_file_are_the_same_through_its_path)
{
    make_file("f", 0644, NULL);
    REQUIRE_OK(link("f", "g"));
    int fd = open_file("f", O_RDWR, 0);
    tick();
    write_all(fd, "some bytes", 10);
    struct stat open_one = FSTAT(fd);
    EXPECT_SAME(open_one, STAT("f"));
    EXPECT_SAME(open_one, STAT("g"));
    EXPECT_OK(fsync(fd));
    EXPECT_SAME(open_one, STAT("g"));
    REQUIRE_OK(close(fd));
    EXPECT_SAME(open_one, STAT("f"));
}

CASE(times, close_changes_nothing)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "some bytes", 10);
    struct stat before = FSTAT(fd);
    sleep_ms(30);
    REQUIRE_OK(close(fd));
    EXPECT_TIMES(before, STAT("f"), "");
    sleep_ms(30);
    EXPECT_TIMES(before, STAT("f"), "");
}

/* relatime: a read is recorded when the recorded one is not newer than the last change, or a day
 * old. */

static void read_freshly(const char *path)
{
    int fd = open_file(path, O_RDONLY, 0);
    char byte;
    cache_drop(fd);
    EXPECT_EQ(read(fd, &byte, 1), 1);
    REQUIRE_OK(close(fd));
}

static void set_times(const char *path, time_t atime, time_t mtime)
{
    const struct timespec times[2] = {{.tv_sec = atime}, {.tv_sec = mtime}};
    REQUIRE_OK(utimensat(AT_FDCWD, path, times, 0));
}

CASE(times, relatime_records_the_first_read_after_a_change)
{
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    tick();
    read_freshly("f");
    EXPECT_TIMES(before, STAT("f"), "a");
    before = STAT("f");
    tick();
    read_freshly("f");
    EXPECT_TIMES(before, STAT("f"), ""); /* the second says nothing new */
    tick();
    REQUIRE_OK(chmod("f", 0600));
    before = STAT("f");
    tick();
    read_freshly("f");
    EXPECT_TIMES(before, STAT("f"), "a");
}

CASE(times, relatime_records_a_read_once_a_day)
{
    make_file("f", 0644, "x");
    time_t now = time(NULL);
    set_times("f", now - 90000, now - 200000);
    struct stat before = STAT("f");
    tick();
    read_freshly("f");
    EXPECT_TIMES(before, STAT("f"), "a");
}

CASE(times, noatime_descriptor_records_nothing)
{
    make_file("f", 0644, "x");
    time_t now = time(NULL);
    set_times("f", now - 90000, now - 200000);
    struct stat before = STAT("f");
    tick();
    int fd = open_file("f", O_RDONLY | O_NOATIME, 0);
    char byte;
    cache_drop(fd);
    EXPECT_EQ(read(fd, &byte, 1), 1);
    EXPECT_TIMES(before, STAT("f"), "");
}

CASE(times, readdir_and_readlink_change_nothing_but_atime)
{
    make_dir("d", 0755);
    make_file("d/f", 0644, "x");
    REQUIRE_OK(symlink("f", "d/l"));
    struct stat dir = STAT("d");
    struct stat link = STAT("d/l");
    tick();
    EXPECT_EQ(count_entries("d"), 2);
    char target[8];
    EXPECT_EQ(readlink("d/l", target, sizeof(target)), 1);
    EXPECT_TIMES(dir, STAT("d"), "a?");
    EXPECT_TIMES(link, STAT("d/l"), "a?");
}
