/* symlink(2) and readlink(2). */
#include "tests/posix/suite.h"

#include <stdlib.h>

static void expect_target(const char *path, const char *target)
{
    char found[PATH_MAX];
    long size = EXPECT_OK(readlink(path, found, sizeof(found)));
    if (size < 0) return;
    EXPECT_EQ(size, strlen(target));
    EXPECT(strncmp(found, target, strlen(target)) == 0);
}

CASE(symlink, keeps_its_target)
{
    static const char *const targets[] = {
        "x", "../..", "/absolute/path",         "a//b/", " ", "\n\t\\", "\xff\xfe\x01",
        "/", "./.",   "with space and \xc3\xa4"};
    for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        EXPECT_OK(symlink(targets[i], "link"));
        struct stat attr = STAT("link");
        EXPECT(S_ISLNK(attr.st_mode));
        EXPECT_EQ(attr.st_mode & 0777, 0777);
        EXPECT_EQ(attr.st_size, strlen(targets[i]));
        EXPECT_EQ(attr.st_nlink, 1);
        expect_target("link", targets[i]);
        REQUIRE_OK(unlink("link"));
    }
}

CASE(symlink, takes_targets_up_to_4095_bytes)
{
    static const size_t sizes[] = {1, 59, 60, 61, 63, 64, 255, 256, 1023, 1024, 2048, 4000, 4094};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        EXPECT_OK(symlink(long_name(sizes[i]), "link"));
        EXPECT_EQ(STAT("link").st_size, sizes[i]);
        expect_target("link", long_name(sizes[i]));
        REQUIRE_OK(unlink("link"));
    }
    /* Linux takes a path of PATH_MAX bytes, its NUL counted; some file systems keep one byte less.
     */
    if (symlink(long_name(4095), "link") == 0)
        expect_target("link", long_name(4095));
    else
        EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_ERR(symlink(long_name(4096), "longer"), ENAMETOOLONG);
    EXPECT_ERR(symlink(long_name(5000), "longer"), ENAMETOOLONG);
    EXPECT(!exists("longer"));
}

CASE(symlink, refuses_an_empty_target)
{
    EXPECT_ERR(symlink("", "link"), ENOENT);
    EXPECT(!exists("link"));
}

CASE(symlink, ignores_the_umask)
{
    (void)umask(0777);
    EXPECT_OK(symlink("x", "link"));
    EXPECT_EQ(PERMS("link"), 0777);
}

CASE(symlink, belongs_to_the_user)
{
    AS(user_a)
    {
        EXPECT_OK(symlink("x", "link"));
        EXPECT_EQ(STAT("link").st_uid, UID_A);
        EXPECT_EQ(STAT("link").st_gid, GID_A);
    }
}

CASE(symlink, to_a_target_that_comes_and_goes)
{
    REQUIRE_OK(symlink("target", "link"));
    struct stat attr;
    EXPECT_ERR(stat("link", &attr), ENOENT);
    EXPECT_OK(lstat("link", &attr));
    make_file("target", 0644, "content");
    EXPECT_CONTENT("link", "content");
    REQUIRE_OK(unlink("target"));
    EXPECT_ERR(open("link", O_RDONLY), ENOENT);
    make_dir("target", 0755);
    EXPECT_OK(mkdir("link/sub", 0755));
}

CASE(symlink, can_be_replaced_at_once)
{
    make_file("a", 0644, "A");
    make_file("b", 0644, "B");
    REQUIRE_OK(symlink("a", "link"));
    EXPECT_CONTENT("link", "A");
    REQUIRE_OK(symlink("b", "new"));
    REQUIRE_OK(rename("new", "link"));
    EXPECT_CONTENT("link", "B");
    expect_target("link", "b");
    REQUIRE_OK(unlink("link"));
    REQUIRE_OK(symlink("a", "link"));
    EXPECT_CONTENT("link", "A");
}

CASE(readlink, cuts_off_at_the_size_of_the_buffer)
{
    REQUIRE_OK(symlink("0123456789", "link"));
    char found[16];
    memset(found, '!', sizeof(found));
    EXPECT_EQ(readlink("link", found, 4), 4);
    EXPECT(memcmp(found, "0123!!", 6) == 0); /* no NUL either */
    EXPECT_EQ(readlink("link", found, 10), 10);
    EXPECT(memcmp(found, "0123456789!!", 12) == 0);
    EXPECT_EQ(readlink("link", found, 1), 1);
    EXPECT_ERR(readlink("link", found, 0), EINVAL);
}

CASE(readlink, of_anything_else)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK};
    char found[16];
    for (unsigned i = 0; i < 4; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(readlink("node", found, sizeof(found)), EINVAL);
        REQUIRE_OK(remove("node"));
    }
    EXPECT_ERR(readlink(".", found, sizeof(found)), EINVAL);
}

CASE(readlink, needs_no_permission_for_the_link)
{
    need_root();
    REQUIRE_OK(symlink("target", "link"));
    AS(user_b)
    {
        expect_target("link", "target");
    }
}

CASE(symlink, times_and_owner_are_its_own)
{
    make_file("target", 0644, "x");
    REQUIRE_OK(symlink("target", "link"));
    struct stat target = STAT("target");
    const struct timespec times[2] = {{.tv_sec = 1111, .tv_nsec = 222},
                                      {.tv_sec = 3333, .tv_nsec = 444}};
    EXPECT_OK(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW));
    EXPECT_EQ(STAT("link").st_mtim.tv_sec, 3333);
    EXPECT_EQ(STAT("link").st_mtim.tv_nsec, 444);
    EXPECT_EQ(STAT("link").st_atim.tv_sec, 1111);
    EXPECT_OK(lchown("link", geteuid(), getegid()));
    EXPECT_SAME(target, STAT("target"));
    if (geteuid() == 0) {
        EXPECT_OK(lchown("link", UID_A, GID_B));
        EXPECT_EQ(STAT("link").st_uid, UID_A);
        EXPECT_EQ(STAT("link").st_gid, GID_B);
        EXPECT_SAME(target, STAT("target"));
        EXPECT_OK(chown("link", UID_B, GID_A)); /* the target's */
        EXPECT_EQ(STAT("link").st_uid, UID_A);
        EXPECT_EQ(STAT("target").st_uid, UID_B);
    }
}

CASE(symlink, mode_is_not_changed)
{
    make_file("target", 0644, "x");
    REQUIRE_OK(symlink("target", "link"));
    EXPECT_OK(chmod("link", 0600));
    EXPECT_EQ(PERMS("target"), 0600);
    EXPECT_EQ(PERMS("link"), 0777);
    EXPECT_ERR(fchmodat(AT_FDCWD, "link", 0644, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    EXPECT_EQ(PERMS("link"), 0777);
}

CASE(symlink, in_a_removed_directory)
{
    make_dir("d", 0755);
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(rmdir("d"));
    EXPECT_ERR(symlinkat("x", dir, "link"), ENOENT);
}

CASE(symlink, hundreds_with_long_targets)
{
    char name[16];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "l%d", i);
        REQUIRE_OK(symlink(long_name((size_t)(3000 + i)), name));
    }
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "l%d", i);
        expect_target(name, long_name((size_t)(3000 + i)));
    }
}
