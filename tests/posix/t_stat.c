/* stat(2), statx(2), statfs(2), access(2), and names. */
#include "tests/posix/suite.h"

#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

CASE(stat, of_every_type)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    struct stat here = STAT(".");
    for (unsigned i = 0; i < (geteuid() == 0 ? 7 : 5); i++) {
        make_node("node", types[i]);
        struct stat attr = STAT("node");
        EXPECT_EQ(attr.st_mode & S_IFMT, types[i]);
        EXPECT_EQ(attr.st_dev, here.st_dev);
        EXPECT(attr.st_ino != 0 && attr.st_ino != here.st_ino);
        EXPECT(attr.st_blksize >= 512);
        EXPECT_EQ(attr.st_nlink, types[i] == S_IFDIR ? 2 : 1);
        EXPECT_EQ(attr.st_rdev, types[i] == S_IFCHR || types[i] == S_IFBLK ? makedev(1, 3) : 0);
        if (types[i] == S_IFREG) EXPECT_EQ(attr.st_size, 7);
        if (types[i] == S_IFLNK) EXPECT_EQ(attr.st_size, 6);
        REQUIRE_OK(remove("node"));
    }
}

CASE(stat, follows_and_lstat_does_not)
{
    make_file("f", 0644, "content");
    REQUIRE_OK(symlink("f", "l"));
    REQUIRE_OK(symlink("missing", "dangling"));
    struct stat attr;
    EXPECT_OK(stat("l", &attr));
    EXPECT_EQ(attr.st_ino, STAT("f").st_ino);
    EXPECT(S_ISLNK(STAT("l").st_mode));
    EXPECT_ERR(stat("dangling", &attr), ENOENT);
    EXPECT_OK(lstat("dangling", &attr));
    EXPECT_OK(fstatat(AT_FDCWD, "dangling", &attr, AT_SYMLINK_NOFOLLOW));
    EXPECT_ERR(fstatat(AT_FDCWD, "f", &attr, 0x40000), EINVAL);
    EXPECT_ERR(fstat(99, &attr), EBADF);
}

CASE(stat, needs_search_permission_only)
{
    need_root();
    make_dir("d", 0711);
    make_file("d/secret", 0, "content");
    AS(user_a)
    {
        struct stat attr;
        EXPECT_OK(stat("d/secret", &attr));
        EXPECT_EQ(attr.st_size, 7);
        EXPECT_ERR(stat("d/missing", &attr), ENOENT);
    }
}

CASE(stat, inode_number_stays_over_everything)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    ino_t ino = STAT("f").st_ino;
    REQUIRE_OK(chmod("f", 0600));
    EXPECT_EQ(STAT("f").st_ino, ino);
    REQUIRE_OK(truncate("f", 1000000));
    EXPECT_EQ(STAT("f").st_ino, ino);
    REQUIRE_OK(rename("f", "d/g"));
    EXPECT_EQ(STAT("d/g").st_ino, ino);
    REQUIRE_OK(link("d/g", "h"));
    REQUIRE_OK(unlink("d/g"));
    EXPECT_EQ(STAT("h").st_ino, ino);
    REQUIRE_OK(rename("d", "e"));
    REQUIRE_OK(rename("h", "e/f"));
    EXPECT_EQ(STAT("e/f").st_ino, ino);
}

CASE(statx, agrees_with_stat)
{
    make_file("f", 0640, "content");
    struct stat attr = STAT("f");
    struct statx other;
    EXPECT_OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &other));
    EXPECT_EQ(other.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    EXPECT_EQ(other.stx_ino, attr.st_ino);
    EXPECT_EQ(other.stx_mode, attr.st_mode);
    EXPECT_EQ(other.stx_size, attr.st_size);
    EXPECT_EQ(other.stx_nlink, attr.st_nlink);
    EXPECT_EQ(other.stx_blksize, attr.st_blksize);
    EXPECT_EQ(makedev(other.stx_dev_major, other.stx_dev_minor), attr.st_dev);
    EXPECT_EQ(other.stx_mtime.tv_sec, attr.st_mtim.tv_sec);
    EXPECT_EQ(other.stx_mtime.tv_nsec, attr.st_mtim.tv_nsec);
    EXPECT_ERR(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &other), EINVAL);
    EXPECT_ERR(statx(99, "f", 0, 0, &other), EBADF);
}

CASE(statx, birth_time_stays)
{
    make_file("f", 0644, "x");
    struct statx before;
    struct statx after;
    REQUIRE_OK(statx(AT_FDCWD, "f", 0, STATX_BTIME, &before));
    if (!(before.stx_mask & STATX_BTIME)) case_skip("birth times are not told");
    tick();
    REQUIRE_OK(truncate("f", 100));
    REQUIRE_OK(rename("f", "g"));
    REQUIRE_OK(statx(AT_FDCWD, "g", AT_STATX_FORCE_SYNC, STATX_BTIME, &after));
    EXPECT_EQ(before.stx_btime.tv_sec, after.stx_btime.tv_sec);
    EXPECT_EQ(before.stx_btime.tv_nsec, after.stx_btime.tv_nsec);
}

CASE(statfs, says_what_there_is)
{
    struct statfs info;
    EXPECT_OK(statfs(".", &info));
    EXPECT(info.f_bsize >= 512);
    EXPECT(info.f_blocks > 0);
    EXPECT(info.f_bfree <= info.f_blocks);
    EXPECT(info.f_bavail <= info.f_bfree);
    EXPECT(info.f_ffree <= info.f_files);
    EXPECT_EQ(info.f_namelen, 255);
    struct statvfs posix;
    EXPECT_OK(statvfs(".", &posix));
    EXPECT_EQ(posix.f_namemax, 255);
    EXPECT(posix.f_frsize > 0);
    EXPECT_EQ(posix.f_flag & ST_RDONLY, 0);
    make_file("f", 0644, NULL);
    int fd = open_file("f", O_RDONLY, 0);
    struct statfs other;
    EXPECT_OK(fstatfs(fd, &other));
    EXPECT_EQ(other.f_type, info.f_type);
    EXPECT_EQ(other.f_bsize, info.f_bsize);
    EXPECT_ERR(fstatfs(99, &other), EBADF);
    EXPECT_EQ(pathconf(".", _PC_NAME_MAX), 255);
}

CASE(statfs, counts_files)
{
    struct statfs before;
    struct statfs after;
    REQUIRE_OK(statfs(".", &before));
    if (before.f_files == 0) case_skip("files are not counted");
    make_dir("d", 0755);
    for (int i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "d/f%d", i);
        make_file(name, 0644, NULL);
    }
    REQUIRE_OK(statfs(".", &after));
    EXPECT(after.f_files >= 200);
    /* Others may use the same device: what is free does not grow by much, though, while we take. */
    EXPECT(after.f_ffree < before.f_ffree + 10000);
}

CASE(statfs, for_everybody)
{
    AS(user_a)
    {
        struct statfs info;
        EXPECT_OK(statfs(".", &info));
        EXPECT(info.f_blocks > 0);
    }
}

CASE(statfs, space_comes_back, .seconds = 60, .slow = true)
{
    enum { SIZE = 128 << 20, CHUNK = 1 << 20 };
    struct statfs before;
    struct statfs after;
    char *bytes = malloc(CHUNK);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, CHUNK, 0, 1);
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    for (int i = 0; i < SIZE / CHUNK; i++)
        write_all(fd, bytes, CHUNK);
    free(bytes);
    EXPECT_OK(fsync(fd));
    REQUIRE_OK(statfs(".", &before));
    REQUIRE_OK(unlink("f"));
    EXPECT(FSTAT(fd).st_blocks >= SIZE / 512); /* as long as it is open, it takes its room */
    REQUIRE_OK(close(fd));
    uint64_t freed = 0;
    for (int i = 0; i < 200 && freed < SIZE / 2; i++) { /* others may take some of it */
        REQUIRE_OK(statfs(".", &after));
        freed = after.f_bfree > before.f_bfree
                    ? (uint64_t)(after.f_bfree - before.f_bfree) * (uint64_t)after.f_bsize
                    : 0;
        if (freed < SIZE / 2) sleep_ms(100);
    }
    EXPECT(freed >= SIZE / 2);
}

/* ---- file handles ---- */

struct handle {
    struct file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
};

static void handle_of(const char *path, struct handle *ret_handle)
{
    int mount_id;
    ret_handle->head.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, path, &ret_handle->head, &mount_id, 0) == 0) return;
    if (errno == EOPNOTSUPP) case_skip("no file handles");
    FAIL("name_to_handle_at: %s", strerror(errno));
    case_abort();
}

CASE(handle, finds_a_file_wherever_it_is)
{
    need_root();
    struct handle file;
    struct handle dir;
    make_dir("d", 0755);
    make_file("d/f", 0644, "content");
    handle_of("d/f", &file);
    handle_of("d", &dir);
    int root = open_file(".", O_RDONLY | O_DIRECTORY, 0);
    int fd = (int)EXPECT_OK(open_by_handle_at(root, &file.head, O_RDWR));
    EXPECT_EQ(FSTAT(fd).st_ino, STAT("d/f").st_ino);
    EXPECT_BYTES(fd, "content", 7, 0);
    REQUIRE_OK(rename("d/f", "g"));
    REQUIRE_OK(rename("d", "e"));
    fd = (int)EXPECT_OK(open_by_handle_at(root, &file.head, O_RDONLY));
    EXPECT_EQ(FSTAT(fd).st_ino, STAT("g").st_ino);
    fd = (int)EXPECT_OK(open_by_handle_at(root, &dir.head, O_RDONLY | O_DIRECTORY));
    EXPECT_OK(mkdirat(fd, "sub", 0755));
    EXPECT(exists("e/sub"));
}

CASE(handle, of_what_is_gone_is_stale)
{
    need_root();
    struct handle handle;
    make_file("f", 0644, "content");
    handle_of("f", &handle);
    int root = open_file(".", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(unlink("f"));
    make_file("f", 0644, "another");
    EXPECT_ERR2(open_by_handle_at(root, &handle.head, O_RDONLY), ESTALE, ENOENT);
    AS(user_a)
    {
        EXPECT_ERR(open_by_handle_at(root, &handle.head, O_RDONLY), EPERM);
    }
}

/* ---- access ---- */

CASE(access, checks_each_class)
{
    need_root();
    static const struct {
        uid_t uid;
        gid_t gid;
        int shift;
    } classes[] = {{UID_A, GID_B, 6}, {UID_B, GID_A, 3}, {UID_B, GID_TEAM, 3}, {UID_B, GID_B, 0}};
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    for (unsigned c = 0; c < 4; c++) {
        REQUIRE_OK(chown("f", classes[c].uid, classes[c].gid));
        REQUIRE_OK(chown("d", classes[c].uid, classes[c].gid));
        for (mode_t bits = 0; bits < 8; bits++) {
            mode_t mode = (mode_t)((0777 & ~(7 << classes[c].shift)) | (bits << classes[c].shift));
            REQUIRE_OK(chmod("f", mode));
            REQUIRE_OK(chmod("d", mode));
            AS(user_a)
            {
                EXPECT_OK(access("f", F_OK));
                for (int wanted = 1; wanted < 8; wanted++) {
                    if ((bits & (mode_t)wanted) == (mode_t)wanted) {
                        EXPECT_OK(access("f", wanted));
                        EXPECT_OK(access("d", wanted));
                        EXPECT_OK(faccessat(AT_FDCWD, "f", wanted, AT_EACCESS));
                    } else {
                        EXPECT_ERR(access("f", wanted), EACCES);
                        EXPECT_ERR(access("d", wanted), EACCES);
                        EXPECT_ERR(faccessat(AT_FDCWD, "f", wanted, AT_EACCESS), EACCES);
                    }
                }
            }
        }
    }
}

CASE(access, of_root)
{
    need_root();
    make_file("f", 0, "x");
    make_dir("d", 0);
    EXPECT_OK(access("f", R_OK | W_OK));
    EXPECT_ERR(access("f", X_OK), EACCES); /* nobody executes what is not executable */
    EXPECT_OK(access("d", R_OK | W_OK | X_OK));
    REQUIRE_OK(chmod("f", 0001));
    EXPECT_OK(access("f", X_OK));
}

CASE(access, is_about_the_real_user)
{
    need_root();
    make_file("f", 0600, "x");
    IN_PROCESS
    {
        REQUIRE_OK(setresuid(UID_A, 0, 0));
        EXPECT_ERR(access("f", R_OK), EACCES);
        EXPECT_OK(open("f", O_RDONLY));
        EXPECT_OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    }
}

CASE(access, arguments)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    REQUIRE_OK(symlink("missing", "dangling"));
    EXPECT_OK(access("l", R_OK));
    EXPECT_ERR(access("dangling", F_OK), ENOENT);
    EXPECT_ERR(access("f", 8), EINVAL);
    EXPECT_ERR(faccessat(99, "f", F_OK, 0), EBADF);
    EXPECT_OK(faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
}

/* ---- names ---- */

CASE(name, of_any_bytes)
{
    static const char *const names[] = {" ",
                                        "  leading and trailing  ",
                                        "\n",
                                        "\x01\x02",
                                        "\xff",
                                        "\xc3\xa4",
                                        "a\xcc\x88",
                                        "...",
                                        "....",
                                        ".hidden",
                                        "-rf",
                                        "*",
                                        "?",
                                        "a:b",
                                        "a\\b",
                                        "\"",
                                        "'",
                                        "~",
                                        "#x#",
                                        "%00",
                                        "con",
                                        "a.",
                                        "\xed\xa0\x80",
                                        "\x7f",
                                        "\xe2\x80\xae-"};
    unsigned count = sizeof(names) / sizeof(names[0]);
    for (unsigned i = 0; i < count; i++)
        make_file(names[i], 0644, names[i]);
    EXPECT_EQ(count_entries("."), count);
    for (unsigned i = 0; i < count; i++)
        EXPECT_CONTENT(names[i], names[i]);
    for (unsigned i = 0; i < count; i++)
        EXPECT_OK(unlink(names[i]));
    EXPECT_EQ(count_entries("."), 0);
}

CASE(name, case_and_normalization_are_kept)
{
    make_file("name", 0644, "lower");
    make_file("NAME", 0644, "upper");
    make_file("\xc3\xa4", 0644, "composed");
    make_file("a\xcc\x88", 0644, "decomposed");
    EXPECT_EQ(count_entries("."), 4);
    EXPECT_CONTENT("name", "lower");
    EXPECT_CONTENT("NAME", "upper");
    EXPECT_CONTENT("\xc3\xa4", "composed");
    EXPECT_ERR(access("Name", F_OK), ENOENT);
    EXPECT_OK(rename("name", "Name"));
    EXPECT_ERR(access("name", F_OK), ENOENT);
}

CASE(name, of_every_length)
{
    for (size_t size = 1; size <= 255; size++) {
        REQUIRE_OK(mknod(long_name(size), S_IFREG | 0644, 0));
        EXPECT_ERR(mknod(long_name(size), S_IFREG | 0644, 0), EEXIST);
    }
    EXPECT_EQ(count_entries("."), 255);
    for (size_t size = 255; size >= 1; size--)
        REQUIRE_OK(unlink(long_name(size)));
    EXPECT_EQ(count_entries("."), 0);
}

CASE(name, long_ones_that_differ_at_the_end)
{
    char name[256];
    memset(name, 'x', 255);
    name[255] = 0;
    for (int i = 0; i < 100; i++) {
        name[254] = (char)('0' + i % 10);
        name[253] = (char)('0' + i / 10);
        make_file(name, 0644, name + 253);
    }
    EXPECT_EQ(count_entries("."), 100);
    for (int i = 0; i < 100; i++) {
        name[254] = (char)('0' + i % 10);
        name[253] = (char)('0' + i / 10);
        EXPECT_CONTENT(name, name + 253);
    }
}

CASE(name, negative_lookups_are_forgotten_when_it_comes)
{
    for (int i = 0; i < 20; i++) {
        struct stat attr;
        EXPECT_ERR(stat("f", &attr), ENOENT);
        EXPECT_ERR(stat("f", &attr), ENOENT);
        make_file("f", 0644, "x");
        EXPECT_OK(stat("f", &attr));
        REQUIRE_OK(unlink("f"));
        EXPECT_ERR(stat("f", &attr), ENOENT);
        make_file("g", 0644, "y");
        REQUIRE_OK(rename("g", "f"));
        EXPECT_OK(stat("f", &attr));
        EXPECT_ERR(stat("g", &attr), ENOENT);
        REQUIRE_OK(link("f", "g"));
        EXPECT_OK(stat("g", &attr));
        REQUIRE_OK(unlink("f"));
        REQUIRE_OK(unlink("g"));
        REQUIRE_OK(mkdir("f", 0755));
        EXPECT_OK(stat("f", &attr));
        REQUIRE_OK(rmdir("f"));
    }
}
