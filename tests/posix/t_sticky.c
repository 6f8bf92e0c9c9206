/* Who may remove and rename what: the sticky bit, and the permissions of both parents. */
#include "tests/posix/suite.h"

/* A directory with that mode and owner, holding "mine" (of user A), "theirs" (of user B), "root",
 * each as the given type. */
static void make_shared(const char *path, mode_t mode, uid_t owner, mode_t type)
{
    static const struct {
        const char *name;
        uid_t uid;
    } entries[] = {{"mine", UID_A}, {"theirs", UID_B}, {"root", 0}};
    make_dir(path, 0777);
    for (unsigned i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i].name);
        make_node(name, type);
        REQUIRE_OK(lchown(name, entries[i].uid, entries[i].uid));
    }
    REQUIRE_OK(chown(path, owner, 0));
    REQUIRE_OK(chmod(path, mode));
}

static const mode_t kinds[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO};

CASE(sticky, only_ones_own_entries_are_removed)
{
    need_root();
    for (unsigned i = 0; i < 4; i++) {
        make_shared("d", 01777, 0, kinds[i]);
        AS(user_a)
        {
            EXPECT_ERR(remove("d/theirs"), EPERM);
            EXPECT_ERR(remove("d/root"), EPERM);
            EXPECT_OK(remove("d/mine"));
        }
        EXPECT_OK(remove("d/theirs")); /* root may everything */
        EXPECT_OK(remove("d/root"));
        REQUIRE_OK(rmdir("d"));
    }
}

CASE(sticky, owner_of_the_directory_removes_everything)
{
    need_root();
    for (unsigned i = 0; i < 4; i++) {
        make_shared("d", 01777, UID_A, kinds[i]);
        AS(user_a)
        {
            EXPECT_OK(remove("d/theirs"));
            EXPECT_OK(remove("d/root"));
            EXPECT_OK(remove("d/mine"));
        }
        REQUIRE_OK(rmdir("d"));
    }
}

CASE(sticky, without_it_everybody_removes_everything)
{
    need_root();
    make_shared("d", 0777, 0, S_IFREG);
    AS(user_a)
    {
        EXPECT_OK(remove("d/theirs"));
        EXPECT_OK(remove("d/root"));
        EXPECT_OK(remove("d/mine"));
    }
}

CASE(sticky, only_ones_own_entries_are_renamed)
{
    need_root();
    for (unsigned i = 0; i < 4; i++) {
        make_shared("d", 01777, 0, kinds[i]);
        make_dir("open", 0777);
        AS(user_a)
        {
            EXPECT_ERR(rename("d/theirs", "d/x"), EPERM);
            EXPECT_ERR(rename("d/root", "open/x"), EPERM);
            EXPECT_ERR(renameat2(AT_FDCWD, "d/root", AT_FDCWD, "d/x", RENAME_NOREPLACE), EPERM);
            EXPECT_OK(rename("d/mine", "d/x"));
            EXPECT_OK(rename("d/x", "open/x"));
        }
        REQUIRE_OK(remove("open/x"));
        REQUIRE_OK(rmdir("open"));
        REQUIRE_OK(remove("d/theirs"));
        REQUIRE_OK(remove("d/root"));
        REQUIRE_OK(rmdir("d"));
    }
}

CASE(sticky, only_ones_own_entries_are_replaced)
{
    need_root();
    for (unsigned i = 0; i < 4; i++) {
        make_shared("d", 01777, 0, kinds[i]);
        make_dir("open", 0777);
        make_node("open/x", kinds[i]);
        REQUIRE_OK(lchown("open/x", UID_A, GID_A));
        AS(user_a)
        {
            EXPECT_ERR(rename("open/x", "d/theirs"), EPERM);
            EXPECT_ERR(rename("d/mine", "d/root"), EPERM);
            EXPECT_ERR(renameat2(AT_FDCWD, "d/mine", AT_FDCWD, "d/theirs", RENAME_EXCHANGE), EPERM);
            EXPECT_ERR(renameat2(AT_FDCWD, "d/theirs", AT_FDCWD, "d/mine", RENAME_EXCHANGE), EPERM);
            EXPECT_OK(rename("open/x", "d/mine"));
        }
        REQUIRE_OK(rmdir("open"));
        REQUIRE_OK(remove("d/mine"));
        REQUIRE_OK(remove("d/theirs"));
        REQUIRE_OK(remove("d/root"));
        REQUIRE_OK(rmdir("d"));
    }
}

CASE(sticky, owner_of_the_directory_renames_and_replaces)
{
    need_root();
    make_shared("d", 01777, UID_A, S_IFREG);
    AS(user_a)
    {
        EXPECT_OK(rename("d/root", "d/theirs"));
        EXPECT_OK(rename("d/theirs", "d/mine"));
    }
    EXPECT_EQ(STAT("d/mine").st_uid, 0);
}

CASE(sticky, everybody_creates_and_links)
{
    need_root();
    make_shared("d", 01777, 0, S_IFREG);
    REQUIRE_OK(chmod("d/theirs", 0666));
    AS(user_a)
    {
        EXPECT_OK(mkdir("d/new", 0755));
        EXPECT_OK(symlink("x", "d/link"));
        EXPECT_OK(link("d/theirs", "d/their-link")); /* and cannot take it away again */
        EXPECT_ERR(unlink("d/their-link"), EPERM);
    }
}

CASE(rename, needs_write_permission_for_both_parents)
{
    need_root();
    make_dir("from", 0777);
    make_dir("to", 0777);
    make_dir("closed", 0777);
    make_file("from/f", 0666, "x");
    make_file("closed/f", 0666, "x");
    make_file("to/g", 0, "y");
    REQUIRE_OK(chmod("closed", 0755));
    AS(user_a)
    {
        EXPECT_ERR(rename("closed/f", "to/f"), EACCES);
        EXPECT_ERR(rename("from/f", "closed/g"), EACCES);
        EXPECT_ERR(rename("from/f", "closed/f"), EACCES);
        EXPECT_ERR(renameat2(AT_FDCWD, "from/f", AT_FDCWD, "closed/f", RENAME_EXCHANGE), EACCES);
        EXPECT_OK(rename("from/f", "to/g")); /* the files' own permissions do not matter */
    }
    EXPECT_CONTENT("to/g", "x");
}

CASE(rename, directory_moved_elsewhere_must_be_writable)
{
    need_root();
    make_dir("a", 0777);
    make_dir("b", 0777);
    make_dir("a/root", 0755);
    make_dir("a/mine", 0755);
    REQUIRE_OK(chown("a/mine", UID_A, GID_A));
    AS(user_a)
    {
        EXPECT_ERR(rename("a/root", "b/root"), EACCES); /* its ".." would change */
        EXPECT_OK(rename("a/root", "a/root2"));
        EXPECT_OK(rename("a/mine", "b/mine"));
    }
    EXPECT(exists("a/root2") && exists("b/mine"));
}

CASE(rename, exchange_checks_both_directories)
{
    need_root();
    make_dir("a", 0777);
    make_dir("b", 0777);
    make_dir("a/mine", 0755);
    make_dir("b/root", 0755);
    REQUIRE_OK(chown("a/mine", UID_A, GID_A));
    AS(user_a)
    {
        EXPECT_ERR(renameat2(AT_FDCWD, "a/mine", AT_FDCWD, "b/root", RENAME_EXCHANGE), EACCES);
    }
    REQUIRE_OK(chmod("b/root", 0777));
    AS(user_a)
    {
        EXPECT_OK(renameat2(AT_FDCWD, "a/mine", AT_FDCWD, "b/root", RENAME_EXCHANGE));
    }
    EXPECT_EQ(STAT("b/root").st_uid, UID_A);
}

CASE(rename, of_a_foreign_symlink_in_an_open_directory)
{
    need_root();
    make_dir("d", 0777);
    REQUIRE_OK(symlink("x", "d/l"));
    AS(user_a)
    {
        EXPECT_OK(rename("d/l", "d/m"));
        EXPECT_OK(unlink("d/m"));
    }
}
