/* utimensat(2), futimens(3), utimes(2), utime(2): values, UTIME_NOW and UTIME_OMIT, and who may set
 * what. */
#include "tests/posix/suite.h"

#include <sys/ioctl.h>
#include <sys/time.h>
#include <utime.h>

static int set_times(const char *path, struct timespec atime, struct timespec mtime)
{
    const struct timespec times[2] = {atime, mtime};
    return utimensat(AT_FDCWD, path, times, 0);
}

static struct timespec at(time_t seconds, long nanoseconds)
{
    return (struct timespec){.tv_sec = seconds, .tv_nsec = nanoseconds};
}

#define NOW at(0, UTIME_NOW)
#define OMIT at(0, UTIME_OMIT)

static void expect_about_now(struct timespec time)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    EXPECT(time.tv_sec >= now.tv_sec - 5 && time.tv_sec <= now.tv_sec + 1);
}

CASE(utimens, keeps_nanoseconds)
{
    static const struct {
        time_t seconds;
        long nanoseconds;
    } values[] = {{0, 0},
                  {0, 1},
                  {1, 999999999},
                  {1234567890, 123456789},
                  {1700000000, 100},
                  {2147483647, 999999999},
                  {2147483648, 1}, /* past 2038 */
                  {4294967295, 5}, /* past 2106 */
                  {4294967296, 500000000},
                  {8589934592, 7}, /* 2242 */
                  {-1, 0},
                  {-1, 999999999},
                  {-86400, 1},
                  {-2147483648, 0}};
    make_file("f", 0644, "x");
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct timespec value = at(values[i].seconds, values[i].nanoseconds);
        struct timespec other = at(1000 + (time_t)i, (long)i);
        EXPECT_OK(set_times("f", value, other));
        EXPECT_EQ(STAT("f").st_atim.tv_sec, value.tv_sec);
        EXPECT_EQ(STAT("f").st_atim.tv_nsec, value.tv_nsec);
        EXPECT_EQ(STAT("f").st_mtim.tv_sec, other.tv_sec);
        EXPECT_EQ(STAT("f").st_mtim.tv_nsec, other.tv_nsec);
        EXPECT_OK(set_times("f", other, value));
        EXPECT_EQ(time_compare(STAT("f").st_mtim, value), 0);
        EXPECT_EQ(time_compare(STAT("f").st_atim, other), 0);
        expect_about_now(STAT("f").st_ctim);
    }
}

CASE(utimens, of_every_type)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < (geteuid() == 0 ? 7 : 5); i++) {
        make_node("node", types[i]);
        struct stat before = STAT("node");
        const struct timespec times[2] = {at(11, 12), at(13, 14)};
        tick();
        EXPECT_OK(utimensat(AT_FDCWD, "node", times, AT_SYMLINK_NOFOLLOW));
        struct stat after = STAT("node");
        EXPECT_EQ(time_compare(after.st_atim, times[0]), 0);
        EXPECT_EQ(time_compare(after.st_mtim, times[1]), 0);
        EXPECT_EQ(time_compare(after.st_ctim, before.st_ctim), 1);
        EXPECT_EQ(after.st_mode, before.st_mode);
        REQUIRE_OK(remove("node"));
    }
}

CASE(utimens, now)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(set_times("f", at(1, 1), at(2, 2)));
    EXPECT_OK(set_times("f", NOW, NOW));
    expect_about_now(STAT("f").st_atim);
    expect_about_now(STAT("f").st_mtim);
    REQUIRE_OK(set_times("f", at(1, 1), at(2, 2)));
    EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, 0));
    expect_about_now(STAT("f").st_atim);
    expect_about_now(STAT("f").st_mtim);
    EXPECT_EQ(time_compare(STAT("f").st_atim, STAT("f").st_mtim), 0);
}

CASE(utimens, one_now_the_other_given)
{
    make_file("f", 0644, "x");
    EXPECT_OK(set_times("f", NOW, at(5, 6)));
    expect_about_now(STAT("f").st_atim);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(5, 6)), 0);
    EXPECT_OK(set_times("f", at(7, 8), NOW));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(7, 8)), 0);
    expect_about_now(STAT("f").st_mtim);
}

CASE(utimens, omit)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(set_times("f", at(1, 2), at(3, 4)));
    EXPECT_OK(set_times("f", OMIT, at(5, 6)));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(1, 2)), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(5, 6)), 0);
    EXPECT_OK(set_times("f", at(7, 8), OMIT));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(7, 8)), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(5, 6)), 0);
    EXPECT_OK(set_times("f", OMIT, NOW));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(7, 8)), 0);
    expect_about_now(STAT("f").st_mtim);
    EXPECT_OK(set_times("f", NOW, OMIT));
    expect_about_now(STAT("f").st_atim);
}

CASE(utimens, omitting_both_does_nothing)
{
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(set_times("f", OMIT, OMIT));
    EXPECT_TIMES(before, STAT("f"), "");
}

CASE(utimens, changes_ctime)
{
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(set_times("f", before.st_atim, before.st_mtim)); /* to what they are */
    EXPECT_TIMES(before, STAT("f"), "c");
}

CASE(utimens, of_descriptors)
{
    make_file("f", 0644, "x");
    const struct timespec times[2] = {at(1, 2), at(3, 4)};
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_OK(futimens(fd, times)); /* needs no descriptor for writing */
    EXPECT_EQ(time_compare(FSTAT(fd).st_mtim, times[1]), 0);
    EXPECT_OK(futimens(fd, NULL));
    expect_about_now(FSTAT(fd).st_mtim);
    REQUIRE_OK(unlink("f"));
    EXPECT_OK(futimens(fd, times));
    EXPECT_EQ(time_compare(FSTAT(fd).st_mtim, times[1]), 0);
    EXPECT_ERR(futimens(99, times), EBADF);
}

CASE(utimens, older_calls)
{
    make_file("f", 0644, "x");
    const struct timeval values[2] = {{.tv_sec = 10, .tv_usec = 999999},
                                      {.tv_sec = 20, .tv_usec = 1}};
    EXPECT_OK(utimes("f", values));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(10, 999999000)), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(20, 1000)), 0);
    const struct utimbuf seconds = {.actime = 30, .modtime = 40};
    EXPECT_OK(utime("f", &seconds));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(30, 0)), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(40, 0)), 0);
    EXPECT_OK(utime("f", NULL));
    expect_about_now(STAT("f").st_mtim);
}

CASE(utimens, symlink_or_its_target)
{
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    struct stat link = STAT("l");
    const struct timespec times[2] = {at(1, 2), at(3, 4)};
    EXPECT_OK(utimensat(AT_FDCWD, "l", times, 0));
    EXPECT_EQ(time_compare(STAT("f").st_mtim, times[1]), 0);
    EXPECT_SAME(link, STAT("l"));
    const struct timespec others[2] = {at(5, 6), at(7, 8)};
    EXPECT_OK(utimensat(AT_FDCWD, "l", others, AT_SYMLINK_NOFOLLOW));
    EXPECT_EQ(time_compare(STAT("l").st_mtim, others[1]), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, times[1]), 0);
}

CASE(utimens, invalid_nanoseconds)
{
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    EXPECT_ERR(set_times("f", at(1, -1), at(1, 0)), EINVAL);
    EXPECT_ERR(set_times("f", at(1, 0), at(1, 1000000000)), EINVAL);
    EXPECT_ERR(set_times("f", at(1, 0), at(1, UTIME_NOW + 5)), EINVAL);
    EXPECT_SAME(before, STAT("f"));
}

CASE(utimens, users_who_may_write_may_only_touch)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(set_times("f", at(1, 1), at(2, 2)));
    AS(user_a)
    {
        EXPECT_ERR(set_times("f", at(5, 5), at(6, 6)), EPERM);
        EXPECT_ERR(set_times("f", NOW, at(6, 6)), EPERM);
        EXPECT_ERR(set_times("f", at(5, 5), OMIT), EPERM);
        EXPECT_ERR(set_times("f", NOW, OMIT), EPERM);
        EXPECT_ERR(set_times("f", OMIT, NOW), EPERM);
        EXPECT_OK(set_times("f", OMIT, OMIT));
    }
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(1, 1)), 0);
    EXPECT_EQ(time_compare(STAT("f").st_mtim, at(2, 2)), 0);
    AS(user_a)
    {
        EXPECT_OK(set_times("f", NOW, NOW));
        EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, 0));
    }
    expect_about_now(STAT("f").st_mtim);
}

CASE(utimens, users_who_may_not_write_set_nothing)
{
    need_root();
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    tick();
    AS(user_a)
    {
        EXPECT_ERR(set_times("f", NOW, NOW), EACCES);
        EXPECT_ERR(utimensat(AT_FDCWD, "f", NULL, 0), EACCES);
        EXPECT_ERR(set_times("f", at(5, 5), at(6, 6)), EPERM);
        EXPECT_ERR(set_times("f", NOW, OMIT), EPERM);
        EXPECT_OK(set_times("f", OMIT, OMIT));
        int fd = open_file("f", O_RDONLY, 0);
        EXPECT_ERR(futimens(fd, NULL), EACCES);
    }
    EXPECT_TIMES(before, STAT("f"), "");
}

CASE(utimens, owners_need_no_write_permission)
{
    need_root();
    make_file("f", 0400, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    REQUIRE_OK(chmod("f", 0));
    AS(user_a)
    {
        EXPECT_OK(set_times("f", at(5, 5), at(6, 6)));
        EXPECT_OK(set_times("f", NOW, OMIT));
        EXPECT_OK(set_times("f", NOW, NOW));
    }
}

CASE(utimens, root_sets_everything)
{
    need_root();
    make_file("f", 0, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    EXPECT_OK(set_times("f", at(5, 5), OMIT));
    EXPECT_EQ(time_compare(STAT("f").st_atim, at(5, 5)), 0);
    EXPECT_EQ(STAT("f").st_uid, UID_A);
}

CASE(utimens, directories_keep_what_was_set)
{
    make_dir("d", 0755);
    REQUIRE_OK(set_times("d", at(100, 1), at(200, 2)));
    EXPECT_EQ(time_compare(STAT("d").st_mtim, at(200, 2)), 0);
    (void)exists("d/missing");
    EXPECT_EQ(time_compare(STAT("d").st_mtim, at(200, 2)), 0);
    make_file("d/f", 0644, "x");
    expect_about_now(STAT("d").st_mtim);
    REQUIRE_OK(set_times("d", at(100, 1), at(200, 2)));
    int fd = open_file("d/f", O_WRONLY, 0);
    write_all(fd, "y", 1);
    EXPECT_OK(chmod("d/f", 0600));
    EXPECT_EQ(time_compare(STAT("d").st_mtim, at(200, 2)), 0);
}

CASE(utimens, while_the_file_is_written)
{
    /* What was set after the last write stays, also over the close. */
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    write_all(fd, "some bytes", 10);
    const struct timespec times[2] = {at(1, 2), at(3, 4)};
    EXPECT_OK(futimens(fd, times));
    EXPECT_EQ(time_compare(FSTAT(fd).st_mtim, times[1]), 0);
    REQUIRE_OK(close(fd));
    EXPECT_EQ(time_compare(STAT("f").st_mtim, times[1]), 0);
    EXPECT_EQ(time_compare(STAT("f").st_atim, times[0]), 0);
    EXPECT_EQ(STAT("f").st_size, 10);
    fd = open_file("f", O_RDWR, 0);
    EXPECT_EQ(time_compare(FSTAT(fd).st_mtim, times[1]), 0);
    write_all(fd, "more", 4);
    expect_about_now(FSTAT(fd).st_mtim);
    EXPECT_OK(fsync(fd));
    EXPECT_OK(futimens(fd, times));
    EXPECT_OK(fsync(fd));
    EXPECT_EQ(time_compare(STAT("f").st_mtim, times[1]), 0);
}
