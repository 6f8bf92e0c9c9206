/* rename(2) and renameat2(2): what replaces what, and what stays. Permissions are in t_sticky.c and
 * t_paths.c. */
#include "tests/posix/suite.h"

#include <linux/fs.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

CASE(rename, moves_every_type)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    make_dir("d", 0755);
    for (unsigned i = 0; i < (geteuid() == 0 ? 7 : 5); i++) {
        make_node("node", types[i]);
        struct stat before = STAT("node");
        EXPECT_OK(rename("node", "other"));
        EXPECT(!exists("node"));
        EXPECT_OK(rename("other", "d/third"));
        struct stat after = STAT("d/third");
        EXPECT_EQ(after.st_ino, before.st_ino);
        EXPECT_EQ(after.st_mode, before.st_mode);
        EXPECT_EQ(after.st_rdev, before.st_rdev);
        EXPECT_EQ(after.st_nlink, before.st_nlink);
        EXPECT_EQ(time_compare(after.st_mtim, before.st_mtim), 0);
        EXPECT_OK(rename("d/third", "node"));
        REQUIRE_OK(remove("node"));
    }
    EXPECT_EQ(count_entries("d"), 0);
}

CASE(rename, replaces_a_file)
{
    make_file("f", 0600, "new");
    make_file("g", 0644, "old");
    ino_t ino = STAT("f").st_ino;
    EXPECT_OK(rename("f", "g"));
    EXPECT(!exists("f"));
    EXPECT_EQ(STAT("g").st_ino, ino);
    EXPECT_CONTENT("g", "new");
    EXPECT_EQ(PERMS("g"), 0600);
    EXPECT_EQ(count_entries("."), 1);
}

CASE(rename, replaces_any_non_directory_by_any_other)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned j = 0; j < 4; j++) {
            make_node("from", types[i]);
            make_node("to", types[j]);
            ino_t ino = STAT("from").st_ino;
            EXPECT_OK(rename("from", "to"));
            EXPECT_EQ(STAT("to").st_ino, ino);
            EXPECT_EQ(STAT("to").st_mode & S_IFMT, types[i]);
            EXPECT_EQ(count_entries("."), 1);
            REQUIRE_OK(unlink("to"));
        }
    }
}

CASE(rename, replaced_file_with_other_links_lives_on)
{
    make_file("f", 0644, "new");
    make_file("g", 0644, "old");
    REQUIRE_OK(link("g", "h"));
    struct stat before = STAT("h");
    tick();
    EXPECT_OK(rename("f", "g"));
    EXPECT_EQ(NLINK("h"), 1);
    EXPECT_TIMES(before, STAT("h"), "c");
    EXPECT_CONTENT("h", "old");
}

CASE(rename, to_itself_does_nothing)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    struct stat f = STAT("f");
    struct stat d = STAT("d");
    tick();
    EXPECT_OK(rename("f", "f"));
    EXPECT_OK(rename("d", "d"));
    EXPECT_OK(rename("d", "d/../d"));
    EXPECT_SAME(f, STAT("f"));
    EXPECT_SAME(d, STAT("d"));
}

CASE(rename, between_two_links_of_one_file_keeps_both)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(link("f", "g"));
    REQUIRE_OK(link("f", "d/h"));
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(rename("f", "g"));
    EXPECT_OK(rename("g", "d/h"));
    EXPECT(exists("f") && exists("g") && exists("d/h"));
    EXPECT_SAME(before, STAT("f"));
    EXPECT_EQ(NLINK("f"), 3);
}

CASE(rename, of_a_symlink_moves_the_link)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    EXPECT_OK(rename("l", "m"));
    EXPECT(S_ISLNK(STAT("m").st_mode));
    EXPECT_CONTENT("m", "x");
    make_file("g", 0644, "y");
    EXPECT_OK(rename("g", "m")); /* and replaces the link, not its target */
    EXPECT(S_ISREG(STAT("m").st_mode));
    EXPECT_CONTENT("f", "x");
}

CASE(rename, directory_over_an_empty_one)
{
    make_dir("d", 0700);
    make_dir("e", 0755);
    make_file("d/f", 0644, "x");
    ino_t ino = STAT("d").st_ino;
    nlink_t links = STAT(".").st_nlink;
    EXPECT_OK(rename("d", "e"));
    EXPECT_EQ(STAT("e").st_ino, ino);
    EXPECT_EQ(PERMS("e"), 0700);
    EXPECT_CONTENT("e/f", "x");
    EXPECT(!exists("d"));
    EXPECT_EQ(STAT(".").st_nlink, links - 1);
}

CASE(rename, directory_over_one_with_entries)
{
    make_dir("d", 0755);
    make_dir("e", 0755);
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 5; i++) {
        make_node("e/node", types[i]);
        EXPECT_ERR2(rename("d", "e"), ENOTEMPTY, EEXIST);
        REQUIRE_OK(remove("e/node"));
    }
    EXPECT(exists("d"));
    EXPECT_OK(rename("d", "e"));
}

CASE(rename, directory_over_something_else)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK};
    make_dir("d", 0755);
    for (unsigned i = 0; i < 4; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(rename("d", "node"), ENOTDIR);
        EXPECT_ERR(rename("node", "d"), EISDIR);
        EXPECT_EQ(STAT("node").st_mode & S_IFMT, types[i]);
        REQUIRE_OK(unlink("node"));
    }
    make_dir("e", 0755);
    REQUIRE_OK(symlink("e", "l"));
    EXPECT_ERR(rename("d", "l"), ENOTDIR);
    EXPECT(exists("d"));
}

CASE(rename, directory_into_itself)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    make_dir("d/e/f", 0755);
    EXPECT_ERR(rename("d", "d/x"), EINVAL);
    EXPECT_ERR(rename("d", "d/e/x"), EINVAL);
    EXPECT_ERR(rename("d", "d/e/f/x"), EINVAL);
    EXPECT_ERR(rename("d", "d/e"), EINVAL);
    EXPECT_ERR(rename2("d", "d/x", RENAME_NOREPLACE), EINVAL);
    EXPECT_ERR(rename2("d", "d/e", RENAME_EXCHANGE), EINVAL);
    EXPECT_ERR(rename2("d/e/f", "d", RENAME_EXCHANGE), EINVAL);
    EXPECT_ERR2(rename("d/e/f", "d"), ENOTEMPTY, EEXIST); /* onto an ancestor */
    EXPECT_ERR2(rename("d/e/f", "d/e"), ENOTEMPTY, EEXIST);
    EXPECT(exists("d/e/f"));
    EXPECT_EQ(NLINK("d"), 3);
}

CASE(rename, of_dots)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    EXPECT_ERR2(rename("d/.", "x"), EBUSY, EINVAL);
    EXPECT_ERR2(rename("d/e/..", "x"), EBUSY, EINVAL);
    EXPECT_ERR2(rename(".", "x"), EBUSY, EINVAL);
    EXPECT_ERR2(rename("d", "d/e/."), EBUSY, EINVAL);
    EXPECT_ERR2(rename("d/e", "d/.."), EBUSY, EINVAL);
    EXPECT(exists("d/e"));
}

CASE(rename, directory_to_another_parent)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_dir("a/d", 0755);
    make_dir("a/d/e", 0755);
    make_file("a/d/f", 0644, "x");
    EXPECT_EQ(NLINK("a"), 3);
    EXPECT_OK(rename("a/d", "b/d"));
    EXPECT_EQ(NLINK("a"), 2);
    EXPECT_EQ(NLINK("b"), 3);
    EXPECT_EQ(NLINK("b/d"), 3);
    EXPECT_EQ(STAT("b/d/..").st_ino, STAT("b").st_ino);
    EXPECT_EQ(STAT("b/d/e/../..").st_ino, STAT("b").st_ino);
    EXPECT_CONTENT("b/d/f", "x");
    /* Over an empty directory there: its link goes, the moved one's comes. */
    make_dir("a/d", 0755);
    EXPECT_OK(rename("b/d", "a/d"));
    EXPECT_EQ(NLINK("a"), 3);
    EXPECT_EQ(NLINK("b"), 2);
    EXPECT_EQ(STAT("a/d/..").st_ino, STAT("a").st_ino);
    EXPECT_OK(rmdir("b"));
}

CASE(rename, file_to_another_parent_keeps_the_counts)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_file("a/f", 0644, "x");
    make_file("b/g", 0644, "y");
    EXPECT_OK(rename("a/f", "b/g"));
    EXPECT_EQ(NLINK("a"), 2);
    EXPECT_EQ(NLINK("b"), 2);
    EXPECT_EQ(NLINK("b/g"), 1);
    EXPECT_CONTENT("b/g", "x");
    EXPECT_EQ(count_entries("a"), 0);
    EXPECT_EQ(count_entries("b"), 1);
}

CASE(rename, subtree_moved_up_and_down)
{
    make_dir("a", 0755);
    make_dir("a/b", 0755);
    make_dir("a/b/c", 0755);
    make_dir("a/b/c/d", 0755);
    EXPECT_OK(rename("a/b/c/d", "d")); /* out of its subtree */
    EXPECT_OK(rename("a", "d/a"));     /* and the former ancestor into it */
    EXPECT(exists("d/a/b/c"));
    EXPECT_ERR(rename("d", "d/a/b/c/d"), EINVAL);
    EXPECT_OK(rename("d/a/b", "b"));
    EXPECT_OK(rename("d", "b/c/d"));
    EXPECT(exists("b/c/d/a"));
    EXPECT_EQ(NLINK("b/c"), 3);
    EXPECT_EQ(NLINK("b/c/d/a"), 2);
}

CASE(rename, to_another_file_system)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/f", other_dir());
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    EXPECT_ERR(rename("f", path), EXDEV);
    EXPECT_ERR(rename("d", path), EXDEV);
    EXPECT_ERR(rename2("f", path, RENAME_NOREPLACE), EXDEV);
    make_file(path, 0644, "y");
    EXPECT_ERR(rename(path, "f"), EXDEV);
    EXPECT_ERR(rename2(path, "f", RENAME_EXCHANGE), EXDEV);
    EXPECT_CONTENT("f", "x");
    EXPECT_CONTENT(path, "y");
}

CASE(rename, long_names)
{
    char name[256];
    snprintf(name, sizeof(name), "%s", long_name(255));
    make_file("f", 0644, "x");
    EXPECT_OK(rename("f", name));
    EXPECT_CONTENT(name, "x");
    name[0] = 'm';
    EXPECT_OK(rename(long_name(255), name));
    EXPECT_ERR(rename(name, long_name(256)), ENAMETOOLONG);
    EXPECT_OK(rename(name, "f"));
    EXPECT_CONTENT("f", "x");
}

CASE(rename, noreplace)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO};
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    make_dir("e", 0755);
    for (unsigned i = 0; i < 4; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(rename2("f", "node", RENAME_NOREPLACE), EEXIST);
        EXPECT_ERR(rename2("f", "f", RENAME_NOREPLACE), EEXIST);
        EXPECT_ERR(rename2("d", "node", RENAME_NOREPLACE), EEXIST);
        REQUIRE_OK(remove("node"));
    }
    EXPECT_ERR(rename2("d", "e", RENAME_NOREPLACE), EEXIST);
    EXPECT_ERR(rename2("missing", "new", RENAME_NOREPLACE), ENOENT);
    EXPECT_OK(rename2("f", "new", RENAME_NOREPLACE));
    EXPECT_CONTENT("new", "x");
    EXPECT_OK(rename2("d", "e/d", RENAME_NOREPLACE));
    EXPECT_EQ(NLINK("e"), 3);
    EXPECT(!exists("f") && !exists("d"));
}

CASE(rename, exchange_of_files)
{
    make_file("f", 0600, "F");
    make_dir("d", 0755);
    make_file("d/g", 0644, "G");
    ino_t f = STAT("f").st_ino;
    ino_t g = STAT("d/g").st_ino;
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(rename2("f", "d/g", RENAME_EXCHANGE));
    EXPECT_EQ(STAT("f").st_ino, g);
    EXPECT_EQ(STAT("d/g").st_ino, f);
    EXPECT_CONTENT("f", "G");
    EXPECT_CONTENT("d/g", "F");
    EXPECT_EQ(PERMS("d/g"), 0600);
    EXPECT_EQ(NLINK("f"), 1);
    EXPECT_EQ(time_compare(before.st_mtim, STAT("d/g").st_mtim), 0);
    EXPECT_OK(rename2("f", "f", RENAME_EXCHANGE));
    EXPECT_CONTENT("f", "G");
}

CASE(rename, exchange_of_a_file_and_a_directory)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_file("a/f", 0644, "x");
    make_dir("b/d", 0755);
    make_file("b/d/inside", 0644, "y");
    EXPECT_OK(rename2("a/f", "b/d", RENAME_EXCHANGE));
    EXPECT_CONTENT("b/d", "x");
    EXPECT_CONTENT("a/f/inside", "y");
    EXPECT_EQ(NLINK("a"), 3);
    EXPECT_EQ(NLINK("b"), 2);
    EXPECT_EQ(STAT("a/f/..").st_ino, STAT("a").st_ino);
    REQUIRE_OK(symlink("nowhere", "l"));
    EXPECT_OK(rename2("l", "a/f", RENAME_EXCHANGE));
    EXPECT(S_ISLNK(STAT("a/f").st_mode));
    EXPECT_EQ(STAT("l/..").st_ino, STAT(".").st_ino);
    EXPECT_EQ(NLINK("a"), 2);
}

CASE(rename, exchange_of_full_directories)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_dir("a/d", 0755);
    make_dir("b/e", 0755);
    make_file("a/d/one", 0644, "1");
    make_dir("b/e/two", 0755);
    EXPECT_OK(rename2("a/d", "b/e", RENAME_EXCHANGE));
    EXPECT_CONTENT("b/e/one", "1");
    EXPECT(exists("a/d/two"));
    EXPECT_EQ(STAT("a/d/..").st_ino, STAT("a").st_ino);
    EXPECT_EQ(STAT("b/e/..").st_ino, STAT("b").st_ino);
    EXPECT_EQ(NLINK("a"), 3);
    EXPECT_EQ(NLINK("b"), 3);
    EXPECT_EQ(NLINK("a/d"), 3);
    EXPECT_OK(rename2("a", "b", RENAME_EXCHANGE));
    EXPECT(exists("b/d/two"));
}

CASE(rename, exchange_needs_both)
{
    make_file("f", 0644, "x");
    EXPECT_ERR(rename2("f", "missing", RENAME_EXCHANGE), ENOENT);
    EXPECT_ERR(rename2("missing", "f", RENAME_EXCHANGE), ENOENT);
    EXPECT_CONTENT("f", "x");
}

CASE(rename, exchange_of_two_links_of_one_file)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(link("f", "g"));
    EXPECT_OK(rename2("f", "g", RENAME_EXCHANGE));
    EXPECT(exists("f") && exists("g"));
    EXPECT_EQ(NLINK("f"), 2);
}

CASE(rename, flags_that_do_not_go_together)
{
    make_file("f", 0644, "x");
    make_file("g", 0644, "y");
    EXPECT_ERR(rename2("f", "g", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
    EXPECT_ERR(rename2("f", "g", RENAME_EXCHANGE | RENAME_WHITEOUT), EINVAL);
    EXPECT_ERR(rename2("f", "g", 1u << 10), EINVAL);
    EXPECT_CONTENT("f", "x");
    EXPECT_CONTENT("g", "y");
}

CASE(rename, whiteout_or_none)
{
    need_root();
    make_file("f", 0644, "x");
    if (rename2("f", "g", RENAME_WHITEOUT) == -1) {
        EXPECT_EQ(errno, EINVAL);
        EXPECT_CONTENT("f", "x");
        EXPECT(!exists("g"));
        return;
    }
    EXPECT_CONTENT("g", "x");
    EXPECT(S_ISCHR(STAT("f").st_mode));
    EXPECT_EQ(STAT("f").st_rdev, 0);
}

CASE(rename, into_a_removed_directory)
{
    make_dir("d", 0755);
    make_file("f", 0644, "x");
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(rmdir("d"));
    EXPECT_ERR(renameat(AT_FDCWD, "f", dir, "f"), ENOENT);
    EXPECT_ERR(renameat(dir, "f", AT_FDCWD, "f"), ENOENT);
    EXPECT_CONTENT("f", "x");
}

CASE(rename, between_descriptors_of_directories)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_file("a/f", 0644, "x");
    int a = open_file("a", O_RDONLY | O_DIRECTORY, 0);
    int b = open_file("b", O_PATH | O_DIRECTORY, 0);
    EXPECT_OK(renameat(a, "f", b, "g"));
    EXPECT_CONTENT("b/g", "x");
    EXPECT_OK(renameat2(b, "g", a, "h", RENAME_NOREPLACE));
    EXPECT_CONTENT("a/h", "x");
    EXPECT_ERR(renameat(a, "missing", b, "g"), ENOENT);
}

CASE(rename, files_beneath_are_unaffected)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    int fd = open_file("d/e/f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "before", 6);
    REQUIRE_OK(rename("d", "g"));
    write_all(fd, " after", 6);
    EXPECT_CONTENT("g/e/f", "before after");
    EXPECT_ERR(open("d/e/f", O_RDONLY), ENOENT);
    make_dir("d", 0755);
    EXPECT_ERR(open("d/e/f", O_RDONLY), ENOENT);
}

CASE(rename, thousand_times)
{
    make_dir("a", 0755);
    make_dir("b", 0755);
    make_file("a/0", 0644, "x");
    ino_t ino = STAT("a/0").st_ino;
    char from[16] = "a/0";
    for (int i = 1; i <= 1000; i++) {
        char to[16];
        snprintf(to, sizeof(to), "%c/%d", i % 3 ? 'a' : 'b', i);
        REQUIRE_OK(rename(from, to));
        memcpy(from, to, sizeof(from));
    }
    EXPECT_EQ(STAT("a/1000").st_ino, ino);
    EXPECT_EQ(count_entries("a"), 1);
    EXPECT_EQ(count_entries("b"), 0);
}

CASE(rename, swaps_through_a_third_name)
{
    make_file("f", 0644, "F");
    make_file("g", 0644, "G");
    for (int i = 0; i < 51; i++) {
        REQUIRE_OK(rename("f", "t"));
        REQUIRE_OK(rename("g", "f"));
        REQUIRE_OK(rename("t", "g"));
    }
    EXPECT_CONTENT("f", "G");
    EXPECT_CONTENT("g", "F");
}
