/* The table of calls. Each function makes its call with the path where the table's cases want it,
 * and everything else harmless; open descriptors stay open until the process of the case ends. */
#include "tests/posix/calls.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static long call_open_read(const char *path)
{
    return open(path, O_RDONLY);
}

static long call_open_write(const char *path)
{
    return open(path, O_WRONLY);
}

static long call_open_append(const char *path)
{
    return open(path, O_RDWR | O_APPEND);
}

static long call_open_truncate(const char *path)
{
    return open(path, O_WRONLY | O_TRUNC);
}

static long call_open_create(const char *path)
{
    return open(path, O_CREAT | O_RDWR, 0644);
}

static long call_open_exclusive(const char *path)
{
    return open(path, O_CREAT | O_EXCL | O_RDWR, 0644);
}

static long call_open_directory(const char *path)
{
    return open(path, O_DIRECTORY | O_RDONLY);
}

static long call_open_path(const char *path)
{
    return open(path, O_PATH);
}

static long call_creat(const char *path)
{
    return creat(path, 0644);
}

static long call_mknod_file(const char *path)
{
    return mknod(path, S_IFREG | 0644, 0);
}

static long call_mknod_device(const char *path)
{
    return mknod(path, S_IFCHR | 0644, makedev(1, 3));
}

static long call_mknod_socket(const char *path)
{
    return mknod(path, S_IFSOCK | 0644, 0);
}

static long call_mkfifo(const char *path)
{
    return mkfifo(path, 0644);
}

static long call_mkdir(const char *path)
{
    return mkdir(path, 0755);
}

static long call_rmdir(const char *path)
{
    return rmdir(path);
}

static long call_symlink(const char *path)
{
    return symlink("target", path);
}

static long call_readlink(const char *path)
{
    char target[PATH_MAX];
    return readlink(path, target, sizeof(target));
}

static long call_link_from(const char *path)
{
    return link(path, "another-name");
}

static long call_link_to(const char *path)
{
    return link("source", path);
}

static long call_unlink(const char *path)
{
    return unlink(path);
}

static long call_rename_from(const char *path)
{
    return rename(path, "another-name");
}

static long call_rename_to(const char *path)
{
    return rename("source", path);
}

static long call_rename_noreplace(const char *path)
{
    return renameat2(AT_FDCWD, "source", AT_FDCWD, path, RENAME_NOREPLACE);
}

static long call_rename_exchange(const char *path)
{
    return renameat2(AT_FDCWD, path, AT_FDCWD, "source", RENAME_EXCHANGE);
}

static long call_stat(const char *path)
{
    struct stat attr;
    return stat(path, &attr);
}

static long call_lstat(const char *path)
{
    struct stat attr;
    return lstat(path, &attr);
}

static long call_statx(const char *path)
{
    struct statx attr;
    return statx(AT_FDCWD, path, 0, STATX_ALL, &attr);
}

static long call_statfs(const char *path)
{
    struct statfs info;
    return statfs(path, &info);
}

static long call_access(const char *path)
{
    return access(path, F_OK);
}

static long call_access_write(const char *path)
{
    return access(path, W_OK);
}

static long call_chmod(const char *path)
{
    return chmod(path, 0700);
}

static long call_chown(const char *path)
{
    return chown(path, UID_B, GID_B);
}

static long call_lchown(const char *path)
{
    return lchown(path, UID_B, GID_B);
}

static long call_utimensat(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 1}, {.tv_sec = 2000}};
    return utimensat(AT_FDCWD, path, times, 0);
}

static long call_utimensat_nofollow(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000, .tv_nsec = 999999999}};
    return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

static long call_utimes(const char *path)
{
    const struct timeval times[2] = {{.tv_sec = 5}, {.tv_sec = 6}};
    return utimes(path, times);
}

static long call_utime_now(const char *path)
{
    return utime(path, NULL);
}

static long call_truncate(const char *path)
{
    return truncate(path, 3);
}

static long call_setxattr(const char *path)
{
    return setxattr(path, "user.a", "value", 5, 0);
}

static long call_lsetxattr(const char *path)
{
    return lsetxattr(path, "trusted.a", "value", 5, 0);
}

static long call_getxattr(const char *path)
{
    char value[64];
    return getxattr(path, "user.a", value, sizeof(value));
}

static long call_listxattr(const char *path)
{
    char list[1024];
    return listxattr(path, list, sizeof(list));
}

static long call_llistxattr(const char *path)
{
    char list[1024];
    return llistxattr(path, list, sizeof(list));
}

static long call_removexattr(const char *path)
{
    return removexattr(path, "user.a");
}

static long call_opendir(const char *path)
{
    return opendir(path) ? 0 : -1;
}

static long call_chdir(const char *path)
{
    return chdir(path);
}

static long call_execve(const char *path)
{
    char *arguments[] = {(char *)(uintptr_t) "x", NULL};
    return execve(path, arguments, arguments + 1);
}

#define CHANGE_OWNED (CALL_CHANGES | CALL_OWNER)
#define CHANGE_WRITES (CALL_CHANGES | CALL_WRITES | CALL_FOLLOWS)

const struct call calls[] = {
    {"open_read", call_open_read, CALL_FOLLOWS | CALL_READS},
    {"open_write", call_open_write, CHANGE_WRITES},
    {"open_append", call_open_append, CHANGE_WRITES | CALL_READS},
    {"open_truncate", call_open_truncate, CHANGE_WRITES},
    {"open_create", call_open_create, CALL_CREATES | CALL_FOLLOWS},
    {"open_exclusive", call_open_exclusive, CALL_CREATES},
    {"open_directory", call_open_directory, CALL_FOLLOWS | CALL_DIRECTORY | CALL_READS},
    {"open_path", call_open_path, CALL_FOLLOWS},
    {"creat", call_creat, CALL_CREATES | CALL_FOLLOWS},
    {"mknod_file", call_mknod_file, CALL_CREATES},
    {"mknod_device", call_mknod_device, CALL_CREATES | CALL_ROOT},
    {"mknod_socket", call_mknod_socket, CALL_CREATES},
    {"mkfifo", call_mkfifo, CALL_CREATES},
    {"mkdir", call_mkdir, CALL_CREATES},
    {"rmdir", call_rmdir, CALL_REMOVES | CALL_DIRECTORY},
    {"symlink", call_symlink, CALL_CREATES},
    {"readlink", call_readlink, CALL_SYMLINK},
    {"link_from", call_link_from, CALL_LINKS},
    {"link_to", call_link_to, CALL_CREATES},
    {"unlink", call_unlink, CALL_REMOVES},
    {"rename_from", call_rename_from, CALL_REMOVES},
    {"rename_to", call_rename_to, CALL_CREATES | CALL_REPLACES},
    {"rename_noreplace", call_rename_noreplace, CALL_CREATES},
    {"rename_exchange", call_rename_exchange, CALL_REMOVES},
    {"stat", call_stat, CALL_FOLLOWS},
    {"lstat", call_lstat, 0},
    {"statx", call_statx, CALL_FOLLOWS},
    {"statfs", call_statfs, CALL_FOLLOWS},
    {"access", call_access, CALL_FOLLOWS},
    {"access_write", call_access_write, CHANGE_WRITES},
    {"chmod", call_chmod, CHANGE_OWNED | CALL_FOLLOWS},
    {"chown", call_chown, CALL_CHANGES | CALL_ROOT | CALL_FOLLOWS},
    {"lchown", call_lchown, CALL_CHANGES | CALL_ROOT},
    {"utimensat", call_utimensat, CHANGE_OWNED | CALL_FOLLOWS},
    {"utimensat_nofollow", call_utimensat_nofollow, CHANGE_OWNED},
    {"utimes", call_utimes, CHANGE_OWNED | CALL_FOLLOWS},
    {"utime_now", call_utime_now, CHANGE_WRITES},
    {"truncate", call_truncate, CHANGE_WRITES},
    {"setxattr", call_setxattr, CHANGE_WRITES},
    {"lsetxattr", call_lsetxattr, CALL_CHANGES | CALL_ROOT},
    {"getxattr", call_getxattr, CALL_FOLLOWS | CALL_READS | CALL_ATTRIBUTE},
    {"listxattr", call_listxattr, CALL_FOLLOWS},
    {"llistxattr", call_llistxattr, 0},
    {"removexattr", call_removexattr, CHANGE_WRITES | CALL_ATTRIBUTE},
    {"opendir", call_opendir, CALL_FOLLOWS | CALL_DIRECTORY | CALL_READS},
    {"chdir", call_chdir, CALL_FOLLOWS | CALL_DIRECTORY | CALL_RUNS},
    {"execve", call_execve, CALL_FOLLOWS | CALL_RUNS},
};
const unsigned call_count = sizeof(calls) / sizeof(calls[0]);

void calls_add(const char *group, void (*run)(void), bool (*fits)(const struct call *call),
               bool read_only)
{
    struct suite_case *entries = calloc(call_count, sizeof(*entries));
    if (!entries) abort();
    for (unsigned i = 0; i < call_count; i++) {
        if (!fits(&calls[i])) continue;
        entries[i] = (struct suite_case){.group = group,
                                         .name = calls[i].name,
                                         .run = run,
                                         .context = &calls[i],
                                         .read_only = read_only};
        suite_add(&entries[i]);
    }
}

const struct call *case_call(void)
{
    return case_context();
}

void call_prepare(void)
{
    if (!exists("source")) make_file("source", 0666, "source");
}
