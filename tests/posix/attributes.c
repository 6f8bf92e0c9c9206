/* What stat shows, and how it may change. Every look is two: the attributes that the kernel may
 * have cached, and those that the file system gives when it is asked anew; they must be the same,
 * or the file system has failed to tell the kernel of a change. */
#include "tests/posix/report.h"

#include <sys/sysmacros.h>
#include <time.h>

int time_compare(struct timespec left, struct timespec right)
{
    if (left.tv_sec != right.tv_sec) return left.tv_sec < right.tv_sec ? -1 : 1;
    if (left.tv_nsec != right.tv_nsec) return left.tv_nsec < right.tv_nsec ? -1 : 1;
    return 0;
}

static bool same_time(struct timespec time, struct statx_timestamp other)
{
    return time.tv_sec == other.tv_sec && time.tv_nsec == (long)other.tv_nsec;
}

static void compare_cached(struct place place, const struct stat *stat, const struct statx *fresh)
{
    atomic_fetch_add(&report->checks, 1);
    const struct {
        const char *name;
        long long cached, fresh;
    } fields[] = {
        {"mode", (long long)stat->st_mode, fresh->stx_mode},
        {"nlink", (long long)stat->st_nlink, (long long)fresh->stx_nlink},
        {"uid", (long long)stat->st_uid, (long long)fresh->stx_uid},
        {"gid", (long long)stat->st_gid, (long long)fresh->stx_gid},
        {"size", (long long)stat->st_size, (long long)fresh->stx_size},
        {"inode", (long long)stat->st_ino, (long long)fresh->stx_ino},
        {"rdev", (long long)stat->st_rdev,
         (long long)makedev(fresh->stx_rdev_major, fresh->stx_rdev_minor)},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].cached != fields[i].fresh)
            fail_at(place, "the cached %s is %lld, the file system says %lld", fields[i].name,
                    fields[i].cached, fields[i].fresh);
    if (!same_time(stat->st_atim, fresh->stx_atime)) fail_at(place, "the cached atime is old");
    if (!same_time(stat->st_mtim, fresh->stx_mtime)) fail_at(place, "the cached mtime is old");
    if (!same_time(stat->st_ctim, fresh->stx_ctime)) fail_at(place, "the cached ctime is old");
}

struct stat stat_at(struct place place, const char *path)
{
    struct stat stat;
    struct statx fresh;
    if (lstat(path, &stat) == -1 || statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC,
                                          STATX_BASIC_STATS, &fresh) == -1) {
        fail_at(place, "cannot stat %s: %s", path, strerror(errno));
        case_abort();
    }
    compare_cached(place, &stat, &fresh);
    return stat;
}

struct stat fstat_at(struct place place, int fd)
{
    struct stat stat;
    struct statx fresh;
    if (fstat(fd, &stat) == -1 ||
        statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &fresh) == -1) {
        fail_at(place, "cannot fstat: %s", strerror(errno));
        case_abort();
    }
    compare_cached(place, &stat, &fresh);
    return stat;
}

static void expect_time(struct place place, const char *name, struct timespec before,
                        struct timespec after, const char *changed)
{
    const char *letter = strchr(changed, name[0]);
    if (letter && letter[1] == '?') return;
    atomic_fetch_add(&report->checks, 1);
    int order = time_compare(after, before);
    if (!letter) {
        if (order != 0) fail_at(place, "%s has changed", name);
        return;
    }
    if (order == 0) {
        fail_at(place, "%s has not changed", name);
        return;
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (order < 0)
        fail_at(place, "%s has gone back", name);
    else if (after.tv_sec > now.tv_sec || after.tv_sec < now.tv_sec - 10)
        fail_at(place, "%s is %lld, now is %lld", name, (long long)after.tv_sec,
                (long long)now.tv_sec);
}

void expect_times_at(struct place place, const struct stat *before, const struct stat *after,
                     const char *changed)
{
    expect_time(place, "atime", before->st_atim, after->st_atim, changed);
    expect_time(place, "mtime", before->st_mtim, after->st_mtim, changed);
    expect_time(place, "ctime", before->st_ctim, after->st_ctim, changed);
}

void expect_same_at(struct place place, const struct stat *left, const struct stat *right)
{
    expect_eq_at(place, (long long)left->st_ino, (long long)right->st_ino, "inode", "before");
    expect_eq_at(place, left->st_mode, right->st_mode, "mode", "before");
    expect_eq_at(place, (long long)left->st_nlink, (long long)right->st_nlink, "nlink", "before");
    expect_eq_at(place, left->st_uid, right->st_uid, "uid", "before");
    expect_eq_at(place, left->st_gid, right->st_gid, "gid", "before");
    expect_eq_at(place, (long long)left->st_rdev, (long long)right->st_rdev, "rdev", "before");
    expect_eq_at(place, left->st_size, right->st_size, "size", "before");
    expect_time(place, "mtime", left->st_mtim, right->st_mtim, "");
    expect_time(place, "ctime", left->st_ctim, right->st_ctim, "");
}
