/* chmod(2) and fchmod(2), setgid inheritance, and when setuid and setgid are taken away. */
#include "tests/posix/suite.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

CASE(chmod, sets_every_mode)
{
    make_file("f", 0644, NULL);
    make_dir("d", 0755);
    for (mode_t mode = 0; mode <= 07777; mode = (mode_t)(mode + (mode & 7 ? 73 : 1))) {
        EXPECT_OK(chmod("f", mode));
        EXPECT_EQ(PERMS("f"), mode);
        EXPECT_OK(chmod("d", mode));
        EXPECT_EQ(PERMS("d"), mode);
    }
    EXPECT(S_ISREG(STAT("f").st_mode) && S_ISDIR(STAT("d").st_mode));
}

CASE(chmod, of_every_type)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < (geteuid() == 0 ? 6 : 4); i++) {
        make_node("node", types[i]);
        struct stat before = STAT("node");
        tick();
        EXPECT_OK(chmod("node", 0421));
        EXPECT_EQ(STAT("node").st_mode, types[i] | 0421);
        EXPECT_TIMES(before, STAT("node"), "c");
        REQUIRE_OK(remove("node"));
    }
}

CASE(chmod, ignores_other_bits)
{
    make_file("f", 0644, NULL);
    EXPECT_OK(chmod("f", S_IFDIR | 0600));
    EXPECT_EQ(STAT("f").st_mode, S_IFREG | 0600);
}

CASE(chmod, through_a_symlink_and_a_descriptor)
{
    make_file("f", 0644, NULL);
    REQUIRE_OK(symlink("f", "l"));
    EXPECT_OK(chmod("l", 0600));
    EXPECT_EQ(PERMS("f"), 0600);
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_OK(fchmod(fd, 0640));
    EXPECT_EQ(PERMS("f"), 0640);
    REQUIRE_OK(rename("f", "g"));
    EXPECT_OK(fchmod(fd, 0604));
    EXPECT_EQ(PERMS("g"), 0604);
    EXPECT_OK(fchmodat(AT_FDCWD, "g", 0611, 0));
    EXPECT_EQ(PERMS("g"), 0611);
    EXPECT_ERR(chmod("l", 0600), ENOENT);
    EXPECT_ERR(fchmod(99, 0600), EBADF);
}

CASE(chmod, is_for_the_owner)
{
    need_root();
    make_file("f", 0666, NULL);
    make_dir("d", 0777);
    REQUIRE_OK(chown("f", UID_A, GID_TEAM));
    AS(user_a)
    {
        EXPECT_OK(chmod("f", 0664));
        EXPECT_ERR(chmod("d", 0700), EPERM);
    }
    AS(user_b) /* of the file's group, and allowed to write it */
    {
        EXPECT_ERR(chmod("f", 0600), EPERM);
        int fd = open_file("f", O_RDWR, 0);
        EXPECT_ERR(fchmod(fd, 0600), EPERM);
    }
    EXPECT_EQ(PERMS("f"), 0664);
    EXPECT_OK(chmod("f", 0600));
}

CASE(chmod, setgid_only_for_the_group_s_members)
{
    need_root();
    make_file("f", 0644, NULL);
    make_dir("d", 0755);
    REQUIRE_OK(chown("f", UID_A, GID_B)); /* user A owns it, but is not of its group */
    REQUIRE_OK(chown("d", UID_A, GID_B));
    AS(user_a)
    {
        EXPECT_OK(chmod("f", 02755)); /* succeeds, without the bit */
        EXPECT_EQ(PERMS("f"), 0755);
        EXPECT_OK(chmod("f", 06711));
        EXPECT_EQ(PERMS("f"), 04711);
        EXPECT_OK(chmod("d", 02775));
        EXPECT_EQ(PERMS("d"), 0775);
    }
    REQUIRE_OK(chown("f", UID_A, GID_TEAM));
    AS(user_a)
    {
        EXPECT_OK(chmod("f", 06755));
        EXPECT_EQ(PERMS("f"), 06755);
    }
}

CASE(chmod, of_an_open_file_counts_for_the_next_open)
{
    AS(user_a)
    {
        make_file("f", 0644, "x");
        int fd = open_file("f", O_RDWR, 0);
        REQUIRE_OK(chmod("f", 0));
        EXPECT_ERR(open("f", O_RDONLY), EACCES);
        EXPECT_EQ(pwrite(fd, "y", 1, 0), 1);
        REQUIRE_OK(fchmod(fd, 0400));
        EXPECT_OK(open("f", O_RDONLY));
        EXPECT_ERR(open("f", O_RDWR), EACCES);
    }
}

CASE(chmod, of_a_directory_counts_at_once)
{
    AS(user_a)
    {
        make_dir("d", 0755);
        make_file("d/f", 0644, "x");
        REQUIRE_OK(chmod("d", 0));
        EXPECT_ERR(access("d/f", F_OK), EACCES);
        EXPECT_ERR(open("d", O_RDONLY), EACCES);
        REQUIRE_OK(chmod("d", 0111));
        EXPECT_OK(access("d/f", F_OK));
        EXPECT_ERR(open("d", O_RDONLY), EACCES);
        EXPECT_ERR(unlink("d/f"), EACCES);
        REQUIRE_OK(chmod("d", 0444));
        EXPECT_OK(open("d", O_RDONLY));
        EXPECT_ERR(access("d/f", F_OK), EACCES);
        REQUIRE_OK(chmod("d", 0333));
        EXPECT_OK(unlink("d/f"));
    }
}

/* ---- setgid directories ---- */

static void make_setgid_dir(void)
{
    need_root();
    make_dir("d", 0777);
    REQUIRE_OK(chown("d", 0, GID_TEAM));
    REQUIRE_OK(chmod("d", 02777));
}

CASE(setgid, files_get_the_directory_s_group)
{
    make_setgid_dir();
    AS(user_a)
    {
        EXPECT_OK(open("d/file", O_CREAT | O_WRONLY, 0644));
        EXPECT_OK(mknod("d/mknod", S_IFREG | 0644, 0));
        EXPECT_OK(mkfifo("d/fifo", 0644));
        EXPECT_OK(mknod("d/socket", S_IFSOCK | 0644, 0));
        EXPECT_OK(symlink("x", "d/symlink"));
    }
    static const char *const names[] = {"file", "mknod", "fifo", "socket", "symlink"};
    char path[32];
    for (unsigned i = 0; i < 5; i++) {
        snprintf(path, sizeof(path), "d/%s", names[i]);
        EXPECT_EQ(STAT(path).st_gid, GID_TEAM);
        EXPECT_EQ(STAT(path).st_uid, UID_A);
        EXPECT_EQ(STAT(path).st_mode & S_ISGID, 0);
    }
}

CASE(setgid, directories_get_the_bit_as_well)
{
    make_setgid_dir();
    AS(user_a)
    {
        (void)umask(022);
        EXPECT_OK(mkdir("d/e", 0755));
        EXPECT_OK(mkdir("d/e/f", 0700));
        EXPECT_OK(mknod("d/e/f/g", S_IFREG | 0644, 0));
    }
    EXPECT_EQ(STAT("d/e").st_gid, GID_TEAM);
    EXPECT_EQ(PERMS("d/e"), 02755);
    EXPECT_EQ(STAT("d/e/f").st_gid, GID_TEAM);
    EXPECT_EQ(PERMS("d/e/f"), 02700);
    EXPECT_EQ(STAT("d/e/f/g").st_gid, GID_TEAM);
}

CASE(setgid, also_for_users_who_are_not_of_the_group)
{
    make_setgid_dir();
    REQUIRE_OK(chown("d", 0, GID_A_ONLY));
    REQUIRE_OK(chmod("d", 02777));
    AS(user_b)
    {
        (void)umask(0);
        EXPECT_OK(open("d/f", O_CREAT | O_WRONLY, 0666));
        EXPECT_EQ(STAT("d/f").st_gid, GID_A_ONLY);
        EXPECT_OK(mkdir("d/e", 0777));
        EXPECT_EQ(STAT("d/e").st_gid, GID_A_ONLY);
        EXPECT_EQ(PERMS("d/e"), 02777);
        /* An executable that would run with a foreign group is made without the bit. */
        EXPECT_OK(open("d/x", O_CREAT | O_WRONLY, 02777));
        EXPECT_EQ(PERMS("d/x"), 0777);
        EXPECT_EQ(STAT("d/x").st_gid, GID_A_ONLY);
    }
}

CASE(setgid, also_for_root)
{
    make_setgid_dir();
    make_file("d/f", 0644, "x");
    make_dir("d/e", 0755);
    EXPECT_EQ(STAT("d/f").st_gid, GID_TEAM);
    EXPECT_EQ(STAT("d/e").st_gid, GID_TEAM);
}

CASE(setgid, without_the_bit_the_creator_s_group_counts)
{
    make_setgid_dir();
    REQUIRE_OK(chmod("d", 0777));
    AS(user_a)
    {
        EXPECT_OK(mkdir("d/e", 0755));
        EXPECT_EQ(STAT("d/e").st_gid, GID_A);
        EXPECT_EQ(PERMS("d/e"), 0755);
    }
}

CASE(setgid, what_is_moved_in_keeps_its_group)
{
    make_setgid_dir();
    make_file("f", 0644, "x");
    make_dir("e", 0755);
    EXPECT_OK(rename("f", "d/f"));
    EXPECT_OK(rename("e", "d/e"));
    EXPECT_EQ(STAT("d/f").st_gid, 0);
    EXPECT_EQ(STAT("d/e").st_gid, 0);
    EXPECT_EQ(PERMS("d/e"), 0755);
}

/* ---- taking the bits away ---- */

static void make_setuid_file(const char *path, mode_t mode)
{
    make_file(path, 0777, "content");
    if (geteuid() == 0) REQUIRE_OK(chown(path, UID_A, GID_TEAM));
    REQUIRE_OK(chmod(path, mode));
    REQUIRE(PERMS(path) == mode);
}

static void act_write(int fd)
{
    EXPECT_EQ(write(fd, "x", 1), 1);
}

static void act_pwrite(int fd)
{
    EXPECT_EQ(pwrite(fd, "x", 1, 2), 1);
}

static void act_writev(int fd)
{
    char byte = 'x';
    struct iovec part = {&byte, 1};
    EXPECT_EQ(writev(fd, &part, 1), 1);
}

static void act_ftruncate(int fd)
{
    EXPECT_OK(ftruncate(fd, 2));
}

static void act_extend(int fd)
{
    EXPECT_OK(ftruncate(fd, 200));
}

static void act_truncate(int fd)
{
    (void)fd;
    EXPECT_OK(truncate("f", 1));
}

static void act_open_truncate(int fd)
{
    (void)fd;
    EXPECT_OK(open("f", O_WRONLY | O_TRUNC));
}

static void act_fallocate(int fd)
{
    if (fallocate(fd, 0, 0, 100) == -1) case_skip("no fallocate");
}

static void act_copy(int fd)
{
    int from = open_file("from", O_RDONLY, 0);
    EXPECT_EQ(copy_file_range(from, NULL, fd, NULL, 3, 0), 3);
}

struct act {
    const char *name;
    void (*run)(int fd);
};

static const struct act acts[] = {
    {"write", act_write},
    {"pwrite", act_pwrite},
    {"writev", act_writev},
    {"ftruncate", act_ftruncate},
    {"extend", act_extend},
    {"truncate", act_truncate},
    {"open_truncate", act_open_truncate},
    {"fallocate", act_fallocate},
    {"copy_file_range", act_copy},
};

static void clears_for_users(void)
{
    need_root();
    const struct act *act = case_context();
    static const struct {
        mode_t before, after;
    } modes[] = {{04777, 0777}, {02777, 0777}, {06777, 0777}, {06775, 0775}, {04666, 0666}};
    make_file("from", 0644, "from");
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        make_setuid_file("f", modes[i].before);
        AS(user_b) /* may write, as others or as one of the group */
        {
            act->run(open_file("f", O_WRONLY, 0));
        }
        EXPECT_EQ(PERMS("f"), modes[i].after);
        REQUIRE_OK(unlink("f"));
        make_setuid_file("f", modes[i].before);
        AS(user_a) /* the owner is no exception */
        {
            act->run(open_file("f", O_WRONLY, 0));
        }
        EXPECT_EQ(PERMS("f"), modes[i].after);
        REQUIRE_OK(unlink("f"));
    }
}

static void keeps_for_root(void)
{
    need_root();
    const struct act *act = case_context();
    make_file("from", 0644, "from");
    make_setuid_file("f", 06777);
    act->run(open_file("f", O_WRONLY, 0));
    EXPECT_EQ(PERMS("f"), 06777);
}

static void keeps_plain_setgid(void)
{
    need_root();
    const struct act *act = case_context();
    make_file("from", 0644, "from");
    /* setgid without group execution marks something else (mandatory locks, once). */
    make_setuid_file("f", 02666);
    AS(user_a)
    {
        act->run(open_file("f", O_WRONLY, 0));
    }
    EXPECT_EQ(PERMS("f"), 02666);
}

__attribute__((constructor)) static void add_acts(void)
{
    enum { COUNT = sizeof(acts) / sizeof(acts[0]) };
    static struct suite_case entries[3][COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        entries[0][i] = (struct suite_case){.group = "setuid_cleared_by_users",
                                            .name = acts[i].name,
                                            .run = clears_for_users,
                                            .context = &acts[i]};
        entries[1][i] = (struct suite_case){.group = "setuid_kept_by_root",
                                            .name = acts[i].name,
                                            .run = keeps_for_root,
                                            .context = &acts[i]};
        entries[2][i] = (struct suite_case){.group = "setgid_without_execution_kept",
                                            .name = acts[i].name,
                                            .run = keeps_plain_setgid,
                                            .context = &acts[i]};
        for (unsigned group = 0; group < 3; group++)
            suite_add(&entries[group][i]);
    }
}

CASE(setuid, is_cleared_once_for_many_writes)
{
    make_setuid_file("f", 06777);
    AS(user_b)
    {
        int fd = open_file("f", O_WRONLY | O_APPEND, 0);
        for (int i = 0; i < 100; i++)
            EXPECT_EQ(write(fd, "line\n", 5), 5);
    }
    EXPECT_EQ(PERMS("f"), 0777);
    REQUIRE_OK(chmod("f", 06777)); /* set again, cleared again */
    AS(user_b)
    {
        int fd = open_file("f", O_WRONLY, 0);
        act_write(fd);
    }
    EXPECT_EQ(PERMS("f"), 0777);
}

CASE(setuid, clearing_changes_ctime_with_the_write)
{
    make_setuid_file("f", 04777);
    struct stat before = STAT("f");
    tick();
    AS(user_b)
    {
        int fd = open_file("f", O_WRONLY, 0);
        act_write(fd);
    }
    EXPECT_TIMES(before, STAT("f"), "mc");
}

CASE(setuid, of_a_file_only_read_stays)
{
    make_setuid_file("f", 06777);
    AS(user_b)
    {
        int fd = open_file("f", O_RDWR, 0);
        EXPECT_BYTES(fd, "content", 7, 0);
        EXPECT_EQ(write(fd, "", 0), 0);
        EXPECT_OK(fsync(fd));
    }
    EXPECT_EQ(PERMS("f"), 06777);
}

CASE(setuid, is_cleared_for_a_mapped_writer_or_kept)
{
    /* Stores through a mapping may be seen too late to be blamed on somebody: either is allowed,
     * the content must arrive. */
    make_setuid_file("f", 04777);
    AS(user_b)
    {
        int fd = open_file("f", O_RDWR, 0);
        char *map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        REQUIRE(map != MAP_FAILED);
        map[0] = 'C';
        EXPECT_OK(msync(map, 7, MS_SYNC));
    }
    EXPECT_CONTENT("f", "Content");
    EXPECT_EQ(PERMS("f") & 0777, 0777);
}
