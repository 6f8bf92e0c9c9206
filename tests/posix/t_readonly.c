/* A file system mounted read-only: everything that would change it fails with EROFS, everything
 * else works.
 *
 * readonly_prepare makes the tree while it is still writable; the cases run in it, read-only,
 * without work directories. */
#include "tests/posix/calls.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "tests/posix/runner.h"

static bool make(const char *path, mode_t mode, const char *content)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, mode);
    bool good = fd != -1 && write(fd, content, strlen(content)) == (ssize_t)strlen(content) &&
                fchmod(fd, mode) == 0;
    if (fd != -1) good &= close(fd) == 0;
    return good;
}

int readonly_prepare(const char *dir)
{
    if (chdir(dir) == -1 || mkdir("read-only", 0777) == -1 || chmod("read-only", 0777) == -1 ||
        chdir("read-only") == -1 || !make("source", 0666, "source") ||
        !make("f", 0777, "content") || mkdir("d", 0777) == -1 || mkdir("empty", 0777) == -1 ||
        !make("d/f", 0644, "inside") || symlink("f", "l") == -1 || mkfifo("fifo", 0666) == -1) {
        fprintf(stderr, "posix: cannot prepare %s/read-only: %s\n", dir, strerror(errno));
        return 1;
    }
    (void)setxattr("f", "user.a", "value", 5, 0);
    return 0;
}

static bool changes(const struct call *call)
{
    return (call->traits & (CALL_CREATES | CALL_REMOVES | CALL_CHANGES | CALL_LINKS)) != 0;
}

static void refused(void)
{
    const struct call *call = case_call();
    const char *path = call->traits & CALL_CREATES     ? "new"
                       : call->traits & CALL_DIRECTORY ? "empty"
                                                       : "f";
    struct stat before = STAT("f");
    EXPECT_ERR(call->run(path), EROFS);
    EXPECT_SAME(before, STAT("f"));
    EXPECT(!exists("new"));
}

static bool only_looks(const struct call *call)
{
    return !changes(call) && strcmp(call->name, "execve") != 0;
}

static void allowed(void)
{
    const struct call *call = case_call();
    const char *path = call->traits & CALL_DIRECTORY ? "d"
                       : call->traits & CALL_SYMLINK ? "l"
                                                     : "f";
    EXPECT_OK(call->run(path));
}

__attribute__((constructor)) static void add_readonly(void)
{
    calls_add("read_only_refuses", refused, changes, true);
    calls_add("read_only_allows", allowed, only_looks, true);
}

CASE(read_only, what_fails_anyway_fails_as_ever, .read_only = true)
{
    EXPECT_ERR(mkdir("d", 0755), EEXIST);
    EXPECT_ERR(open("f", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
    EXPECT_ERR(unlink("missing/x"), ENOENT);
    EXPECT_ERR(open("f/x", O_WRONLY), ENOTDIR);
    EXPECT_OK(open("f", O_CREAT | O_RDONLY, 0644)); /* it exists, nothing is to be created */
}

CASE(read_only, descriptors_change_nothing, .read_only = true)
{
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_ERR(fchmod(fd, 0600), EROFS);
    EXPECT_ERR(fchown(fd, 0, 0), EROFS);
    EXPECT_ERR(futimens(fd, NULL), EROFS);
    EXPECT_ERR(fsetxattr(fd, "user.b", "v", 1, 0), EROFS);
    EXPECT_ERR(fremovexattr(fd, "user.a"), EROFS);
    EXPECT_BYTES(fd, "content", 7, 0);
}

CASE(read_only, is_said_by_statvfs_and_access, .read_only = true)
{
    struct statvfs info;
    EXPECT_OK(statvfs(".", &info));
    EXPECT(info.f_flag & ST_RDONLY);
    EXPECT_ERR(access("f", W_OK), EROFS);
    EXPECT_ERR(access("d", W_OK), EROFS);
    EXPECT_OK(access("f", R_OK | X_OK));
}

CASE(read_only, fifo_and_devices_can_still_be_written, .read_only = true)
{
    int fd = open("fifo", O_RDWR | O_NONBLOCK);
    EXPECT(fd != -1);
    EXPECT_EQ(write(fd, "x", 1), 1);
}

CASE(read_only, reading_leaves_the_times, .read_only = true)
{
    struct stat before = STAT("d/f");
    EXPECT_CONTENT("d/f", "inside");
    EXPECT_EQ(count_entries("d"), 1);
    EXPECT_TIMES(before, STAT("d/f"), "");
}

CASE(read_only, mapping, .read_only = true)
{
    int fd = open_file("f", O_RDONLY, 0);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    REQUIRE(map != MAP_FAILED);
    EXPECT(memcmp(map, "content", 7) == 0);
    map[0] = 'C';
    EXPECT_ERR(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    EXPECT_CONTENT("f", "content");
}

CASE(read_only, users_get_the_same_answer, .read_only = true)
{
    AS(user_a)
    {
        EXPECT_ERR(open("f", O_WRONLY), EROFS);
        EXPECT_ERR(mkdir("new", 0755), EROFS);
        EXPECT_ERR(unlink("f"), EROFS);
        EXPECT_CONTENT("f", "content");
    }
}
