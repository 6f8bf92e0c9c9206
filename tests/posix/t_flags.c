/* ioctl FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, ioctl_iflags(2): immutable and append-only files and
 * directories. */
#include "tests/posix/calls.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { SETTABLE = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL };

static int flags_of(const char *path)
{
    int fd = open_file(path, O_RDONLY | O_NONBLOCK, 0);
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == -1) {
        if (errno == ENOTTY || errno == EOPNOTSUPP) case_skip("no inode flags");
        FAIL("cannot read the flags of %s: %s", path, strerror(errno));
        case_abort();
    }
    REQUIRE_OK(close(fd));
    return flags;
}

static int set_flags(const char *path, int flags)
{
    int others = flags_of(path) & ~SETTABLE; /* such as how the file system stores it */
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd == -1) return -1;
    flags |= others;
    int result = ioctl(fd, FS_IOC_SETFLAGS, &flags);
    int error = errno;
    (void)close(fd);
    errno = error;
    return result;
}

CASE(flags, are_none_at_first)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    EXPECT_EQ(flags_of("f") & SETTABLE, 0);
    EXPECT_EQ(flags_of("d") & SETTABLE, 0);
}

CASE(flags, are_kept)
{
    need_root();
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    static const int values[] = {FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL,
                                 FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL, 0};
    for (unsigned i = 0; i < 5; i++) {
        EXPECT_OK(set_flags("f", values[i]));
        EXPECT_EQ(flags_of("f") & SETTABLE, values[i]);
        EXPECT_OK(set_flags("d", values[i]));
        EXPECT_EQ(flags_of("d") & SETTABLE, values[i]);
    }
}

CASE(flags, of_privilege_are_root_s)
{
    need_root();
    make_file("f", 0644, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    (void)flags_of("f");
    AS(user_a)
    {
        EXPECT_ERR(set_flags("f", FS_IMMUTABLE_FL), EPERM);
        EXPECT_ERR(set_flags("f", FS_APPEND_FL), EPERM);
        EXPECT_OK(set_flags("f", FS_NODUMP_FL));
        EXPECT_EQ(flags_of("f") & SETTABLE, FS_NODUMP_FL);
    }
    AS(user_b)
    {
        EXPECT_ERR2(set_flags("f", 0), EPERM, EACCES);
    }
    REQUIRE_OK(set_flags("f", FS_IMMUTABLE_FL));
    AS(user_a)
    {
        EXPECT_ERR(set_flags("f", 0), EPERM);
    }
    EXPECT_OK(set_flags("f", 0));
}

CASE(flags, change_ctime)
{
    make_file("f", 0644, "x");
    (void)flags_of("f");
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(set_flags("f", FS_NODUMP_FL));
    EXPECT_TIMES(before, STAT("f"), "c");
}

CASE(flags, unknown_commands_and_flags)
{
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    int value = 0;
    EXPECT_ERR2(ioctl(fd, _IOR('f', 199, int), &value), ENOTTY, EOPNOTSUPP);
    EXPECT_ERR2(ioctl(fd, _IOW('z', 77, int), &value), ENOTTY, EOPNOTSUPP);
    EXPECT_ERR(ioctl(99, FS_IOC_GETFLAGS, &value), EBADF);
    value = 1 << 30;
    EXPECT_ERR2(ioctl(fd, FS_IOC_SETFLAGS, &value), EOPNOTSUPP, EINVAL);
}

CASE(flags, extended_form_shows_the_same)
{
    need_root();
    make_file("f", 0644, "x");
    (void)flags_of("f");
    int fd = open_file("f", O_RDONLY, 0);
    struct fsxattr attr;
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) == -1) case_skip("no extended flags");
    EXPECT_EQ(attr.fsx_xflags & (FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND), 0);
    REQUIRE_OK(set_flags("f", FS_APPEND_FL | FS_NODUMP_FL));
    EXPECT_OK(ioctl(fd, FS_IOC_FSGETXATTR, &attr));
    EXPECT(attr.fsx_xflags & FS_XFLAG_APPEND);
    EXPECT(attr.fsx_xflags & FS_XFLAG_NODUMP);
    attr.fsx_xflags &= ~(unsigned)FS_XFLAG_APPEND;
    EXPECT_OK(ioctl(fd, FS_IOC_FSSETXATTR, &attr));
    EXPECT_EQ(flags_of("f") & SETTABLE, FS_NODUMP_FL);
}

CASE(flags, noatime_records_no_reads)
{
    make_file("f", 0644, "x");
    if (set_flags("f", FS_NOATIME_FL) == -1 && errno == EOPNOTSUPP) case_skip("no such flag");
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    REQUIRE_OK(utimensat(AT_FDCWD, "f", times, 0));
    int fd = open_file("f", O_RDONLY, 0);
    char byte;
    cache_drop(fd);
    EXPECT_EQ(read(fd, &byte, 1), 1);
    EXPECT_EQ(STAT("f").st_atim.tv_sec, 1000);
}

/* ---- immutable ---- */

static bool changes_file(const struct call *call)
{
    /* access(2) is answered from the mode bits alone where the kernel does not know the flags. */
    return (call->traits & (CALL_CHANGES | CALL_REMOVES | CALL_LINKS)) &&
           !(call->traits & CALL_DIRECTORY) && strcmp(call->name, "access_write") != 0 &&
           strcmp(call->name, "utime_now") != 0;
}

static void immutable_file(void)
{
    need_root();
    call_prepare();
    make_file("f", 0666, "content");
    (void)setxattr("f", "user.a", "value", 5, 0);
    REQUIRE_OK(set_flags("f", FS_IMMUTABLE_FL));
    struct stat before = STAT("f");
    tick();
    EXPECT_ERR(case_call()->run("f"), EPERM);
    AS(user_a)
    {
        EXPECT_ERR2(case_call()->run("f"), EPERM, EACCES);
    }
    EXPECT_SAME(before, STAT("f"));
    EXPECT_CONTENT("f", "content");
    REQUIRE_OK(set_flags("f", 0));
    EXPECT_OK(case_call()->run("f"));
}

static bool changes_directory(const struct call *call)
{
    return (call->traits & (CALL_CREATES | CALL_REMOVES)) != 0;
}

static void immutable_directory(void)
{
    need_root();
    call_prepare();
    make_dir("d", 0777);
    bool creates = (case_call()->traits & CALL_CREATES) != 0;
    if (!creates) make_node("d/x", case_call()->traits & CALL_DIRECTORY ? S_IFDIR : S_IFREG);
    REQUIRE_OK(set_flags("d", FS_IMMUTABLE_FL));
    struct stat before = STAT("d");
    tick();
    EXPECT_ERR2(case_call()->run("d/x"), EPERM, EACCES);
    EXPECT_SAME(before, STAT("d"));
    REQUIRE_OK(set_flags("d", 0));
    EXPECT_OK(case_call()->run("d/x"));
}

static void append_only_directory(void)
{
    need_root();
    call_prepare();
    make_dir("d", 0777);
    bool creates = (case_call()->traits & CALL_CREATES) != 0;
    if (!creates) make_node("d/x", case_call()->traits & CALL_DIRECTORY ? S_IFDIR : S_IFREG);
    REQUIRE_OK(set_flags("d", FS_APPEND_FL));
    if (creates) {
        EXPECT_OK(case_call()->run("d/x"));
        EXPECT_ERR(remove("d/x"), EPERM);
    } else {
        EXPECT_ERR(case_call()->run("d/x"), EPERM);
        EXPECT(exists("d/x"));
    }
    REQUIRE_OK(set_flags("d", 0));
}

__attribute__((constructor)) static void add_immutable(void)
{
    calls_add("immutable_file", immutable_file, changes_file, false);
    calls_add("immutable_directory", immutable_directory, changes_directory, false);
    calls_add("append_only_directory", append_only_directory, changes_directory, false);
}

CASE(immutable, file_is_read_and_looked_at)
{
    need_root();
    make_file("f", 0755, "content");
    REQUIRE_OK(set_flags("f", FS_IMMUTABLE_FL));
    EXPECT_CONTENT("f", "content");
    EXPECT_OK(access("f", R_OK | X_OK));
    char list[100];
    EXPECT_OK(listxattr("f", list, sizeof(list)));
    EXPECT_ERR(open("f", O_RDWR | O_APPEND), EPERM);
    EXPECT_ERR(open("f", O_CREAT | O_WRONLY, 0644), EPERM);
    EXPECT_ERR2(utimensat(AT_FDCWD, "f", NULL, 0), EPERM, EACCES);
}

CASE(immutable, file_is_not_replaced)
{
    need_root();
    make_file("f", 0644, "content");
    make_file("g", 0644, "other");
    REQUIRE_OK(set_flags("f", FS_IMMUTABLE_FL));
    EXPECT_ERR(rename("g", "f"), EPERM);
    EXPECT_ERR(renameat2(AT_FDCWD, "g", AT_FDCWD, "f", RENAME_EXCHANGE), EPERM);
    EXPECT_CONTENT("f", "content");
    EXPECT_CONTENT("g", "other");
}

CASE(immutable, directory_is_not_removed_or_renamed)
{
    need_root();
    make_dir("d", 0755);
    make_file("d/f", 0644, "content");
    REQUIRE_OK(set_flags("d", FS_IMMUTABLE_FL));
    EXPECT_ERR(rename("d", "e"), EPERM);
    EXPECT_ERR(chmod("d", 0700), EPERM);
    int fd = open_file("d/f", O_WRONLY, 0); /* what is in it, is not protected */
    write_all(fd, "changed", 7);
    EXPECT_CONTENT("d/f", "changed");
    REQUIRE_OK(set_flags("d", 0));
    REQUIRE_OK(unlink("d/f"));
    REQUIRE_OK(set_flags("d", FS_IMMUTABLE_FL));
    EXPECT_ERR(rmdir("d"), EPERM);
}

/* ---- append-only ---- */

CASE(append_only, file_only_grows)
{
    need_root();
    make_file("f", 0666, "one");
    REQUIRE_OK(set_flags("f", FS_APPEND_FL));
    EXPECT_ERR(open("f", O_WRONLY), EPERM);
    EXPECT_ERR(open("f", O_RDWR), EPERM);
    EXPECT_ERR(open("f", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
    EXPECT_ERR(truncate("f", 1), EPERM);
    int fd = open_file("f", O_RDWR | O_APPEND, 0);
    write_all(fd, "two", 3);
    EXPECT_ERR(ftruncate(fd, 1), EPERM);
    EXPECT_CONTENT("f", "onetwo");
    EXPECT_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1), EPERM);
}

CASE(append_only, file_is_not_removed_renamed_or_changed)
{
    need_root();
    make_file("f", 0666, "one");
    REQUIRE_OK(set_flags("f", FS_APPEND_FL));
    EXPECT_ERR(unlink("f"), EPERM);
    EXPECT_ERR(rename("f", "g"), EPERM);
    EXPECT_ERR(link("f", "g"), EPERM);
    EXPECT_ERR(chmod("f", 0600), EPERM);
    EXPECT_ERR(chown("f", UID_A, GID_A), EPERM);
    EXPECT_ERR(setxattr("f", "user.a", "v", 1, 0), EPERM);
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    EXPECT_ERR(utimensat(AT_FDCWD, "f", times, 0), EPERM);
    EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, 0)); /* to touch it is allowed */
    EXPECT_CONTENT("f", "one");
}
