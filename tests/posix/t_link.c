/* link(2) and linkat(2). */
#include "tests/posix/suite.h"

#include <sys/sysmacros.h>

CASE(link, makes_another_name)
{
    make_file("f", 0640, "content");
    struct stat before = STAT("f");
    EXPECT_OK(link("f", "g"));
    EXPECT_EQ(STAT("g").st_ino, before.st_ino);
    EXPECT_EQ(NLINK("f"), 2);
    EXPECT_EQ(NLINK("g"), 2);
    int fd = open_file("g", O_WRONLY | O_APPEND, 0);
    write_all(fd, " more", 5);
    EXPECT_CONTENT("f", "content more");
    REQUIRE_OK(chmod("f", 0600));
    EXPECT_EQ(PERMS("g"), 0600);
    EXPECT_OK(unlink("f"));
    EXPECT_EQ(NLINK("g"), 1);
    EXPECT_CONTENT("g", "content more");
}

CASE(link, across_directories)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_file("a/f", 0644, "x");
    EXPECT_OK(link("a/f", "b/f"));
    EXPECT_OK(link("b/f", "b/g"));
    EXPECT_OK(link("a/f", "h"));
    EXPECT_EQ(NLINK("a/f"), 4);
    EXPECT_EQ(STAT("b/g").st_ino, STAT("a/f").st_ino);
    REQUIRE_OK(unlink("a/f"));
    REQUIRE_OK(rmdir("a"));
    EXPECT_EQ(NLINK("b/g"), 3);
    EXPECT_CONTENT("h", "x");
}

CASE(link, of_every_type_but_directories)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < (geteuid() == 0 ? 6 : 4); i++) {
        make_node("node", types[i]);
        EXPECT_OK(link("node", "other"));
        EXPECT_EQ(STAT("other").st_ino, STAT("node").st_ino);
        EXPECT_EQ(STAT("other").st_mode & S_IFMT, types[i]);
        EXPECT_EQ(STAT("other").st_rdev, STAT("node").st_rdev);
        EXPECT_EQ(NLINK("node"), 2);
        REQUIRE_OK(unlink("node"));
        EXPECT_EQ(NLINK("other"), 1);
        REQUIRE_OK(unlink("other"));
    }
}

CASE(link, of_a_directory_is_refused)
{
    make_dir("d", 0755);
    EXPECT_ERR(link("d", "e"), EPERM);
    EXPECT_ERR(link(".", "e"), EPERM);
    REQUIRE_OK(symlink("d", "l"));
    EXPECT_ERR(linkat(AT_FDCWD, "l", AT_FDCWD, "e", AT_SYMLINK_FOLLOW), EPERM);
    EXPECT(!exists("e"));
    EXPECT_EQ(NLINK("d"), 2);
}

CASE(link, does_not_follow_a_symlink_unless_told)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    EXPECT_OK(link("l", "to-link"));
    EXPECT(S_ISLNK(STAT("to-link").st_mode));
    EXPECT_EQ(STAT("to-link").st_ino, STAT("l").st_ino);
    EXPECT_EQ(NLINK("l"), 2);
    EXPECT_EQ(NLINK("f"), 1);
    EXPECT_OK(linkat(AT_FDCWD, "l", AT_FDCWD, "to-file", AT_SYMLINK_FOLLOW));
    EXPECT_EQ(STAT("to-file").st_ino, STAT("f").st_ino);
    EXPECT_EQ(NLINK("f"), 2);
    REQUIRE_OK(symlink("missing", "dangling"));
    EXPECT_OK(link("dangling", "to-dangling"));
    EXPECT_ERR(linkat(AT_FDCWD, "dangling", AT_FDCWD, "x", AT_SYMLINK_FOLLOW), ENOENT);
    EXPECT_ERR(linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x100000), EINVAL);
}

CASE(link, existing_name_stays)
{
    make_file("f", 0644, "f");
    make_file("g", 0644, "g");
    EXPECT_ERR(link("f", "g"), EEXIST);
    EXPECT_ERR(link("f", "f"), EEXIST);
    EXPECT_CONTENT("g", "g");
    EXPECT_EQ(NLINK("f"), 1);
    REQUIRE_OK(symlink("missing", "l"));
    EXPECT_ERR(link("f", "l"), EEXIST);
    EXPECT(!exists("missing"));
}

CASE(link, to_another_file_system)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/f", other_dir());
    make_file("f", 0644, "x");
    EXPECT_ERR(link("f", path), EXDEV);
    EXPECT(!exists(path));
    make_file(path, 0644, "x");
    EXPECT_ERR(link(path, "g"), EXDEV);
    EXPECT_EQ(NLINK("f"), 1);
}

CASE(link, of_a_descriptor)
{
    need_root();
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_OK(linkat(fd, "", AT_FDCWD, "g", AT_EMPTY_PATH));
    EXPECT_EQ(STAT("g").st_ino, FSTAT(fd).st_ino);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    EXPECT_OK(linkat(AT_FDCWD, path, AT_FDCWD, "h", AT_SYMLINK_FOLLOW));
    EXPECT_EQ(FSTAT(fd).st_nlink, 3);
}

CASE(link, does_not_revive_an_unlinked_file)
{
    need_root();
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(unlink("f"));
    EXPECT_ERR(linkat(fd, "", AT_FDCWD, "g", AT_EMPTY_PATH), ENOENT);
    EXPECT(!exists("g"));
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
}

CASE(link, of_a_foreign_file_may_be_forbidden)
{
    need_root();
    int protect = open("/proc/sys/fs/protected_hardlinks", O_RDONLY);
    char value = '0';
    bool protected = protect != -1 && read(protect, &value, 1) == 1 && value == '1';
    make_file("readable", 0644, "x");
    make_file("writable", 0666, "x");
    AS(user_a)
    {
        if (protected)
            EXPECT_ERR(link("readable", "one"), EPERM);
        else
            EXPECT_OK(link("readable", "one"));
        EXPECT_OK(link("writable", "two"));
    }
}

CASE(link, needs_permissions)
{
    need_root();
    make_dir("from", 0777);
    make_dir("to", 0755);
    make_dir("open", 0777);
    make_file("from/f", 0666, "x");
    AS(user_a)
    {
        EXPECT_ERR(link("from/f", "to/f"), EACCES);
        EXPECT_OK(link("from/f", "open/f"));
    }
    REQUIRE_OK(chmod("from", 0766));
    AS(user_a)
    {
        EXPECT_ERR(link("from/f", "open/g"), EACCES);
    }
}

CASE(link, hundreds_in_many_directories)
{
    make_file("f", 0644, "x");
    char name[32];
    for (int d = 0; d < 20; d++) {
        snprintf(name, sizeof(name), "d%d", d);
        make_dir(name, 0755);
        for (int i = 0; i < 20; i++) {
            snprintf(name, sizeof(name), "d%d/l%d", d, i);
            REQUIRE_OK(link("f", name));
        }
        EXPECT_EQ(NLINK("f"), 1 + 20 * (d + 1));
    }
    for (int d = 0; d < 20; d++) {
        for (int i = 0; i < 20; i++) {
            snprintf(name, sizeof(name), "d%d/l%d", d, i);
            REQUIRE_OK(unlink(name));
        }
    }
    EXPECT_EQ(NLINK("f"), 1);
    EXPECT_CONTENT("f", "x");
}

CASE(link, counts_to_65000, .seconds = 120, .slow = true)
{
    make_file("f", 0644, "x");
    char name[16];
    for (int i = 2; i <= 65000; i++) {
        snprintf(name, sizeof(name), "%d", i);
        REQUIRE_OK(link("f", name));
    }
    EXPECT_EQ(NLINK("f"), 65000);
    /* One more is for the file system to allow or refuse. */
    if (link("f", "more") == 0)
        EXPECT_EQ(NLINK("f"), 65001);
    else
        EXPECT_EQ(errno, EMLINK);
    REQUIRE_OK(unlink("65000"));
    REQUIRE_OK(unlink("2"));
    nlink_t links = exists("more") ? 64999 : 64998;
    EXPECT_EQ(NLINK("f"), links);
    EXPECT_OK(link("f", "again"));
}
