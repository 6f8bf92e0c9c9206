/* mkdir(2) and rmdir(2). */
#include "tests/posix/suite.h"

#include <dirent.h>

CASE(mkdir, makes_an_empty_directory)
{
    EXPECT_OK(mkdir("d", 0750));
    struct stat attr = STAT("d");
    EXPECT(S_ISDIR(attr.st_mode));
    EXPECT_EQ(attr.st_mode & 07777, 0750);
    EXPECT_EQ(attr.st_nlink, 2);
    EXPECT_EQ(attr.st_uid, geteuid());
    EXPECT_EQ(attr.st_gid, getegid());
    EXPECT_EQ(count_entries("d"), 0);
    EXPECT_EQ(STAT("d/.").st_ino, attr.st_ino);
    EXPECT_EQ(STAT("d/..").st_ino, STAT(".").st_ino);
    EXPECT_EQ(time_compare(attr.st_mtim, attr.st_ctim), 0);
    EXPECT_EQ(time_compare(attr.st_mtim, attr.st_atim), 0);
}

CASE(mkdir, counts_in_the_links_of_its_parent)
{
    nlink_t links = STAT(".").st_nlink;
    for (int i = 1; i <= 5; i++) {
        char name[16];
        snprintf(name, sizeof(name), "d%d", i);
        REQUIRE_OK(mkdir(name, 0755));
        EXPECT_EQ(STAT(".").st_nlink, links + (nlink_t)i);
    }
    make_file("f", 0644, NULL);
    REQUIRE_OK(symlink("d1", "l"));
    EXPECT_EQ(STAT(".").st_nlink, links + 5);
    REQUIRE_OK(rmdir("d3"));
    EXPECT_EQ(STAT(".").st_nlink, links + 4);
}

CASE(mkdir, applies_the_umask)
{
    static const struct {
        mode_t mask, mode, made;
    } table[] = {{0, 0777, 0777}, {022, 0777, 0755}, {077, 0777, 0700},
                 {0777, 0777, 0}, {002, 0775, 0775}, {0, 01777, 01777}};
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        (void)umask(table[i].mask);
        EXPECT_OK(mkdir("d", table[i].mode));
        EXPECT_EQ(PERMS("d"), table[i].made);
        REQUIRE_OK(rmdir("d"));
    }
}

CASE(mkdir, ignores_setuid_and_setgid)
{
    /* Only the permission bits and the sticky bit of the argument count. */
    (void)umask(0);
    EXPECT_OK(mkdir("d", 06777));
    EXPECT_EQ(PERMS("d"), 0777);
}

CASE(mkdir, in_a_loop_of_dots)
{
    make_dir("d", 0755);
    EXPECT_ERR(mkdir("d/.", 0755), EEXIST);
    EXPECT_ERR(mkdir("d/..", 0755), EEXIST);
    EXPECT_ERR(mkdir("/", 0755), EEXIST);
    EXPECT_ERR(mkdir("missing/.", 0755), ENOENT);
}

CASE(mkdir, over_a_dangling_symlink)
{
    REQUIRE_OK(symlink("missing", "link"));
    EXPECT_ERR(mkdir("link", 0755), EEXIST);
    EXPECT_ERR(mkdir("link/", 0755), EEXIST);
    EXPECT(!exists("missing"));
}

CASE(mkdir, through_a_symlink)
{
    make_dir("d", 0755);
    REQUIRE_OK(symlink("d", "link"));
    EXPECT_OK(mkdir("link/e", 0755));
    EXPECT(S_ISDIR(STAT("d/e").st_mode));
    EXPECT_EQ(NLINK("d"), 3);
}

CASE(mkdir, in_a_removed_directory)
{
    make_dir("d", 0755);
    REQUIRE_OK(chdir("d"));
    REQUIRE_OK(rmdir("../d"));
    EXPECT_ERR(mkdir("e", 0755), ENOENT);
    EXPECT_ERR(mkdir("../e/f", 0755), ENOENT);
}

CASE(mkdir, belongs_to_the_user)
{
    AS(user_a)
    {
        EXPECT_OK(mkdir("d", 0755));
        EXPECT_EQ(STAT("d").st_uid, UID_A);
        EXPECT_EQ(STAT("d").st_gid, GID_A);
        EXPECT_OK(mkdir("d/e", 0755));
    }
    AS(user_b)
    {
        EXPECT_ERR(mkdir("d/f", 0755), EACCES);
    }
}

CASE(mkdir, of_255_byte_name)
{
    EXPECT_OK(mkdir(long_name(255), 0755));
    EXPECT_ERR(mkdir(long_name(255), 0755), EEXIST);
    EXPECT_OK(chdir(long_name(255)));
    EXPECT_OK(mkdir(long_name(255), 0755));
    EXPECT_OK(rmdir(long_name(255)));
    EXPECT_EQ(count_entries("."), 0);
}

CASE(mkdir, thousand_in_one_directory)
{
    char name[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "d%d", i);
        REQUIRE_OK(mkdir(name, 0755));
    }
    EXPECT_EQ(NLINK("."), 1002);
    EXPECT_EQ(count_entries("."), 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "d%d", i);
        REQUIRE_OK(rmdir(name));
    }
    EXPECT_EQ(NLINK("."), 2);
    EXPECT_EQ(count_entries("."), 0);
}

CASE(rmdir, removes_an_empty_directory)
{
    make_dir("d", 0755);
    nlink_t links = STAT(".").st_nlink;
    EXPECT_OK(rmdir("d"));
    EXPECT(!exists("d"));
    EXPECT_EQ(STAT(".").st_nlink, links - 1);
    EXPECT_ERR(rmdir("d"), ENOENT);
}

CASE(rmdir, refuses_one_with_entries)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    make_dir("d", 0755);
    for (unsigned i = 0; i < 5; i++) {
        make_node("d/node", types[i]);
        EXPECT_ERR2(rmdir("d"), ENOTEMPTY, EEXIST);
        EXPECT_ERR2(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR), ENOTEMPTY, EEXIST);
        REQUIRE_OK(remove("d/node"));
    }
    EXPECT_OK(rmdir("d"));
}

CASE(rmdir, of_dots)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    EXPECT_ERR(rmdir("d/e/."), EINVAL);
    EXPECT_ERR(rmdir("."), EINVAL);
    EXPECT_ERR2(rmdir("d/e/.."), ENOTEMPTY, EINVAL);
    EXPECT(exists("d/e"));
}

CASE(rmdir, of_a_symlink_to_a_directory)
{
    make_dir("d", 0755);
    REQUIRE_OK(symlink("d", "link"));
    EXPECT_ERR(rmdir("link"), ENOTDIR);
    EXPECT_ERR(rmdir("link/"), ENOTDIR);
    EXPECT(exists("d") && exists("link"));
}

CASE(rmdir, flags_of_unlinkat)
{
    make_dir("d", 0755);
    make_file("f", 0644, NULL);
    EXPECT_ERR(unlinkat(AT_FDCWD, "d", 0), EISDIR);
    EXPECT_ERR(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
    EXPECT_ERR(unlinkat(AT_FDCWD, "f", 0x4000), EINVAL);
    EXPECT_OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    EXPECT_OK(unlinkat(AT_FDCWD, "f", 0));
}

CASE(rmdir, leaves_an_open_directory_empty)
{
    make_dir("d", 0755);
    int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    ino_t ino = FSTAT(fd).st_ino;
    REQUIRE_OK(rmdir("d"));
    EXPECT_EQ(FSTAT(fd).st_ino, ino);
    EXPECT_EQ(FSTAT(fd).st_nlink, 0);
    DIR *dir = fdopendir(fd);
    REQUIRE(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));)
        EXPECT(entry->d_name[0] == '.'); /* if anything, the dots */
    EXPECT_ERR(mkdirat(fd, "e", 0755), ENOENT);
    EXPECT_ERR(openat(fd, "f", O_CREAT | O_WRONLY, 0644), ENOENT);
    EXPECT_ERR(symlinkat("x", fd, "s"), ENOENT);
    EXPECT_ERR(mknodat(fd, "n", S_IFREG | 0644, 0), ENOENT);
    EXPECT_ERR(unlinkat(fd, "x", 0), ENOENT);
    make_file("g", 0644, NULL);
    EXPECT_ERR(linkat(AT_FDCWD, "g", fd, "g", 0), ENOENT);
    EXPECT_ERR(renameat(AT_FDCWD, "g", fd, "g"), ENOENT);
    EXPECT_OK(fchmod(fd, 0700));
    (void)closedir(dir);
}

CASE(rmdir, name_can_be_used_again)
{
    make_dir("d", 0755);
    int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(rmdir("d"));
    make_dir("d", 0700);
    make_file("d/f", 0644, "new");
    EXPECT(FSTAT(fd).st_ino != STAT("d").st_ino);
    EXPECT_ERR(openat(fd, "f", O_RDONLY), ENOENT);
    REQUIRE_OK(unlink("d/f"));
    REQUIRE_OK(rmdir("d"));
    make_file("d", 0644, "now a file");
    EXPECT_CONTENT("d", "now a file");
}

CASE(rmdir, needs_write_permission_for_the_parent_only)
{
    need_root();
    make_dir("parent", 0755);
    make_dir("parent/d", 0777);
    make_dir("open", 0777);
    make_dir("open/d", 0);
    AS(user_a)
    {
        EXPECT_ERR(rmdir("parent/d"), EACCES);
        EXPECT_OK(rmdir("open/d"));
    }
}

CASE(cwd, goes_on_when_removed)
{
    make_dir("d", 0755);
    REQUIRE_OK(chdir("d"));
    REQUIRE_OK(rmdir("../d"));
    char buffer[PATH_MAX];
    EXPECT(getcwd(buffer, sizeof(buffer)) == NULL && errno == ENOENT);
    struct stat attr;
    EXPECT_OK(stat(".", &attr));
    EXPECT_EQ(attr.st_nlink, 0);
    EXPECT_ERR(open("f", O_CREAT | O_WRONLY, 0644), ENOENT);
    EXPECT_ERR(open("f", O_RDONLY), ENOENT);
    EXPECT_ERR(symlink("x", "s"), ENOENT);
    EXPECT_EQ(count_entries("."), 0);
    EXPECT_OK(chdir(".."));
    EXPECT(getcwd(buffer, sizeof(buffer)) != NULL);
}

CASE(cwd, follows_a_rename)
{
    make_dir("d", 0755);
    make_dir("e", 0755);
    REQUIRE_OK(chdir("d"));
    make_file("f", 0644, "x");
    REQUIRE_OK(rename("../d", "../e/moved"));
    EXPECT_CONTENT("f", "x");
    EXPECT_EQ(STAT("..").st_ino, STAT("../../e").st_ino);
    char buffer[PATH_MAX];
    EXPECT(getcwd(buffer, sizeof(buffer)) != NULL);
    size_t size = strlen(buffer);
    EXPECT(size > 8 && strcmp(buffer + size - 8, "/e/moved") == 0);
}

CASE(cwd, needs_search_permission)
{
    need_root();
    make_dir("d", 0766);
    make_dir("e", 0711);
    make_file("f", 0777, NULL);
    AS(user_a)
    {
        EXPECT_ERR(chdir("d"), EACCES);
        EXPECT_ERR(chdir("f"), ENOTDIR);
        int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
        EXPECT_ERR(fchdir(fd), EACCES);
        EXPECT_OK(chdir("e"));
        EXPECT_ERR(open(".", O_RDONLY | O_DIRECTORY), EACCES);
    }
}
