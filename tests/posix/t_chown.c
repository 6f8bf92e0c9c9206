/* chown(2), lchown(2), fchown(2), fchownat(2). */
#include "tests/posix/suite.h"

CASE(chown, by_root_sets_anything)
{
    need_root();
    static const struct {
        uid_t uid;
        gid_t gid;
    } owners[] = {{0, 0},
                  {1, 2},
                  {65535, 65536},
                  {UID_A, GID_B},
                  {2147483647, 1},
                  {1, 2147483648u},
                  {4294967294u, 4294967294u}};
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    for (unsigned i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        EXPECT_OK(chown("f", owners[i].uid, owners[i].gid));
        EXPECT_EQ(STAT("f").st_uid, owners[i].uid);
        EXPECT_EQ(STAT("f").st_gid, owners[i].gid);
        EXPECT_OK(chown("d", owners[i].uid, owners[i].gid));
        EXPECT_EQ(STAT("d").st_uid, owners[i].uid);
        EXPECT_EQ(STAT("d").st_gid, owners[i].gid);
    }
}

CASE(chown, of_every_type)
{
    need_root();
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < 7; i++) {
        make_node("node", types[i]);
        struct stat before = STAT("node");
        tick();
        EXPECT_OK(lchown("node", UID_A, GID_B));
        EXPECT_EQ(STAT("node").st_uid, UID_A);
        EXPECT_EQ(STAT("node").st_gid, GID_B);
        EXPECT_EQ(STAT("node").st_mode, before.st_mode);
        EXPECT_TIMES(before, STAT("node"), "c");
        REQUIRE_OK(remove("node"));
    }
}

CASE(chown, minus_one_keeps)
{
    need_root();
    make_file("f", 0644, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    EXPECT_OK(chown("f", (uid_t)-1, GID_B));
    EXPECT_EQ(STAT("f").st_uid, UID_A);
    EXPECT_EQ(STAT("f").st_gid, GID_B);
    EXPECT_OK(chown("f", UID_B, (gid_t)-1));
    EXPECT_EQ(STAT("f").st_uid, UID_B);
    EXPECT_EQ(STAT("f").st_gid, GID_B);
    EXPECT_OK(chown("f", (uid_t)-1, (gid_t)-1));
    EXPECT_EQ(STAT("f").st_uid, UID_B);
    EXPECT_EQ(STAT("f").st_gid, GID_B);
}

CASE(chown, follows_and_lchown_does_not)
{
    need_root();
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    EXPECT_OK(chown("l", UID_A, GID_A));
    EXPECT_EQ(STAT("f").st_uid, UID_A);
    EXPECT_EQ(STAT("l").st_uid, 0);
    EXPECT_OK(lchown("l", UID_B, GID_B));
    EXPECT_EQ(STAT("f").st_uid, UID_A);
    EXPECT_EQ(STAT("l").st_uid, UID_B);
    EXPECT_OK(fchownat(AT_FDCWD, "l", 7, 8, AT_SYMLINK_NOFOLLOW));
    EXPECT_EQ(STAT("l").st_uid, 7);
    EXPECT_EQ(STAT("l").st_gid, 8);
    REQUIRE_OK(symlink("missing", "dangling"));
    EXPECT_ERR(chown("dangling", 1, 1), ENOENT);
    EXPECT_OK(lchown("dangling", 1, 1));
}

CASE(chown, of_descriptors)
{
    need_root();
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDONLY, 0);
    REQUIRE_OK(rename("f", "g"));
    EXPECT_OK(fchown(fd, UID_A, GID_A));
    EXPECT_EQ(STAT("g").st_uid, UID_A);
    EXPECT_OK(fchownat(fd, "", UID_B, GID_B, AT_EMPTY_PATH));
    EXPECT_EQ(STAT("g").st_uid, UID_B);
    EXPECT_ERR(fchown(99, 1, 1), EBADF);
    EXPECT_ERR(fchownat(AT_FDCWD, "g", 1, 1, 0x4), EINVAL);
}

CASE(chown, users_do_not_give_files_away)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    AS(user_a)
    {
        EXPECT_ERR(chown("f", UID_B, (gid_t)-1), EPERM);
        EXPECT_ERR(chown("f", 0, GID_A), EPERM);
        EXPECT_ERR(lchown("f", UID_B, GID_A), EPERM);
        int fd = open_file("f", O_RDWR, 0);
        EXPECT_ERR(fchown(fd, UID_B, GID_B), EPERM);
        EXPECT_OK(chown("f", UID_A, (gid_t)-1)); /* to themselves they may */
    }
    AS(user_b)
    {
        EXPECT_ERR(chown("f", UID_B, GID_B), EPERM);
        EXPECT_ERR(chown("f", UID_A, (gid_t)-1), EPERM);
        EXPECT_ERR(chown("f", (uid_t)-1, GID_B), EPERM);
    }
    EXPECT_EQ(STAT("f").st_uid, UID_A);
    EXPECT_EQ(STAT("f").st_gid, GID_A);
}

CASE(chown, owners_choose_among_their_groups)
{
    need_root();
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(chown("f", UID_A, GID_A));
    REQUIRE_OK(chown("d", UID_A, GID_A));
    AS(user_a)
    {
        EXPECT_OK(chown("f", (uid_t)-1, GID_TEAM));
        EXPECT_OK(chown("f", UID_A, GID_A_ONLY));
        EXPECT_EQ(STAT("f").st_gid, GID_A_ONLY);
        EXPECT_OK(chown("f", (uid_t)-1, GID_A));
        EXPECT_ERR(chown("f", (uid_t)-1, GID_B), EPERM);
        EXPECT_ERR(chown("f", (uid_t)-1, 0), EPERM);
        EXPECT_OK(chown("d", (uid_t)-1, GID_TEAM));
        EXPECT_ERR(chown("d", (uid_t)-1, GID_B), EPERM);
        EXPECT_OK(chown("f", (uid_t)-1, (gid_t)-1));
    }
    EXPECT_EQ(STAT("f").st_gid, GID_A);
    EXPECT_EQ(STAT("d").st_gid, GID_TEAM);
}

CASE(chown, of_a_foreign_file_to_its_own_group)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(chown("f", UID_B, GID_TEAM));
    AS(user_a)
    {
        EXPECT_ERR(chown("f", (uid_t)-1, GID_TEAM), EPERM);
        EXPECT_ERR(chown("f", (uid_t)-1, GID_A), EPERM);
    }
}

CASE(chown, by_root_clears_setuid_and_setgid)
{
    need_root();
    static const struct {
        mode_t before, after;
    } modes[] = {{04755, 0755}, {02755, 0755},  {06755, 0755},  {06777, 0777},
                 {04644, 0644}, {02644, 02644}, {01755, 01755}, {07711, 01711}};
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        make_file("f", 0644, "x");
        REQUIRE_OK(chmod("f", modes[i].before));
        EXPECT_OK(chown("f", UID_A, GID_A));
        EXPECT_EQ(PERMS("f"), modes[i].after);
        REQUIRE_OK(chmod("f", modes[i].before));
        EXPECT_OK(chown("f", (uid_t)-1, GID_TEAM));
        EXPECT_EQ(PERMS("f"), modes[i].after);
        REQUIRE_OK(chmod("f", modes[i].before));
        EXPECT_OK(chown("f", UID_B, (gid_t)-1));
        EXPECT_EQ(PERMS("f"), modes[i].after);
        REQUIRE_OK(unlink("f"));
    }
}

CASE(chown, by_the_owner_clears_setuid_and_setgid)
{
    need_root();
    make_file("f", 0644, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    AS(user_a)
    {
        REQUIRE_OK(chmod("f", 06755));
        EXPECT_EQ(PERMS("f"), 06755);
        EXPECT_OK(chown("f", (uid_t)-1, GID_TEAM));
        EXPECT_EQ(PERMS("f"), 0755);
        REQUIRE_OK(chmod("f", 04755));
        EXPECT_OK(chown("f", UID_A, (gid_t)-1)); /* changes nothing, and clears all the same */
        EXPECT_EQ(PERMS("f"), 0755);
    }
}

CASE(chown, of_a_directory_keeps_its_bits)
{
    need_root();
    make_dir("d", 0755);
    REQUIRE_OK(chmod("d", 07755));
    EXPECT_OK(chown("d", UID_A, GID_A));
    EXPECT_EQ(PERMS("d"), 07755);
    AS(user_a)
    {
        EXPECT_OK(chown("d", (uid_t)-1, GID_TEAM));
    }
    EXPECT_EQ(PERMS("d"), 07755);
}

CASE(chown, refused_changes_nothing)
{
    need_root();
    make_file("f", 0644, "x");
    REQUIRE_OK(chmod("f", 06755));
    struct stat before = STAT("f");
    tick();
    AS(user_a)
    {
        EXPECT_ERR(chown("f", UID_A, GID_A), EPERM);
        EXPECT_ERR(chown("f", (uid_t)-1, GID_A), EPERM);
    }
    EXPECT_SAME(before, STAT("f"));
}

CASE(chown, changes_who_may_do_what)
{
    need_root();
    make_file("f", 0600, "x");
    AS(user_a)
    {
        EXPECT_ERR(open("f", O_RDONLY), EACCES);
    }
    REQUIRE_OK(chown("f", UID_A, 0));
    AS(user_a)
    {
        EXPECT_OK(open("f", O_RDWR));
        EXPECT_OK(chmod("f", 0060));
        EXPECT_ERR(open("f", O_RDONLY), EACCES);
    }
    REQUIRE_OK(chown("f", 0, GID_TEAM));
    AS(user_b)
    {
        EXPECT_OK(open("f", O_RDWR));
    }
}
