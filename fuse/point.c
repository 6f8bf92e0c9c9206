/* The mountpoint: is something mounted there, does it still answer, and taking it away.
 *
 * A process killed with -9 leaves its mount behind: every call on it says ENOTCONN. It is
 * recognised by that, and by its type in /proc/self/mountinfo, and detached without asking it
 * anything. Ordinary users detach through fusermount3. */

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse/mount.h"

extern char **environ;

void mount_field_unescape(char *field)
{
    char *to = field;
    for (const char *from = field; *from; from++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

/* An absolute path without asking the file system at its end, which may be dead. */
static char *absolute_path(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    char *copy = strndup(path, size);
    if (!copy) return NULL;
    char *slash = strrchr(copy, '/');
    char *parent;
    const char *last = copy;
    if (!slash) {
        parent = realpath(".", NULL);
    } else if (slash == copy) {
        parent = strdup("/");
        last = copy + 1;
    } else {
        *slash = 0;
        parent = realpath(copy, NULL);
        last = slash + 1;
    }
    char *absolute = NULL;
    bool is_dots = strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
    if (is_dots)
        absolute = realpath(path, NULL);
    else if (parent && asprintf(&absolute, "%s/%s", strcmp(parent, "/") ? parent : "", last) < 0)
        absolute = NULL;
    free(parent);
    free(copy);
    return absolute;
}

/* Is a trellis mount at the path? Looks in the mount table only. */
static bool is_ours(const char *absolute)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table) return false;
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (getline(&line, &capacity, table) > 0) {
        char point[PATH_MAX];
        char type[64];
        const char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 ||
            sscanf(dash, " - %63s", type) != 1)
            continue;
        mount_field_unescape(point);
        /* Later lines lie on top of earlier ones. */
        if (strcmp(point, absolute) == 0) found = strcmp(type, "fuse.trellis") == 0;
    }
    free(line);
    (void)fclose(table);
    return found;
}

static enum err run_fusermount(const char *absolute, bool lazy, struct diag *diag)
{
    char *arguments[] = {
        (char *)"fusermount3",       (char *)"-u", (char *)"-q", (char *)(lazy ? "-z" : "--"),
        (char *)(uintptr_t)absolute, NULL};
    pid_t pid;
    int number = posix_spawnp(&pid, "fusermount3", NULL, NULL, arguments, environ);
    if (number)
        return diag_set(diag, ERR_NOT_FOUND, "cannot run fusermount3: %s; install package fuse3",
                        strerror(number));
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return diag_set(diag, ERR_IO, "lost fusermount3");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ERR_NONE;
    return diag_set(diag, ERR_BUSY, "fusermount3 cannot unmount %s: it is in use or not yours",
                    absolute);
}

enum err mount_detach_path(const char *mountpoint, bool lazy, struct diag *diag)
{
    char *absolute = absolute_path(mountpoint);
    if (!absolute)
        return diag_set(diag, ERR_NOT_FOUND, "%s: no such file or directory", mountpoint);
    enum err err = ERR_NONE;
    if (!is_ours(absolute)) {
        err =
            diag_set(diag, ERR_NOT_FOUND, "%s: no trellis file system is mounted there", absolute);
    } else if (geteuid() != 0) {
        err = run_fusermount(absolute, lazy, diag);
    } else if (umount2(absolute, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0) {
        err = errno == EBUSY
                  ? diag_set(diag, ERR_BUSY,
                             "%s is in use: end what works in it, or detach with --lazy", absolute)
                  : diag_set(diag, err_from_errno(errno), "cannot unmount %s: %s", absolute,
                             strerror(errno));
    }
    free(absolute);
    return err;
}

enum err mount_prepare_point(const char *mountpoint, struct diag *diag)
{
    char *absolute = absolute_path(mountpoint);
    if (!absolute)
        return diag_set(diag, ERR_NOT_FOUND, "mountpoint %s: no such directory", mountpoint);
    struct stat stat_at;
    struct statfs statfs_at;
    enum err err = ERR_NONE;
    /* More than one dead mount can lie on one another. statfs is what tells: the kernel answers
     * stat from the attributes it has, also when nobody serves the mount any more. */
    for (int tries = 0; statfs(absolute, &statfs_at) < 0 || stat(absolute, &stat_at) < 0; tries++) {
        int number = errno;
        if (number == ENOTCONN && tries < 16 && is_ours(absolute)) {
            err = mount_detach_path(absolute, true, diag);
            if (!err) continue;
        } else {
            err = diag_set(diag, err_from_errno(number), "mountpoint %s: %s", absolute,
                           strerror(number));
        }
        goto free_path;
    }
    if (!S_ISDIR(stat_at.st_mode))
        err = diag_set(diag, ERR_INVALID, "mountpoint %s is not a directory", absolute);
    else if (is_ours(absolute))
        err = diag_set(diag, ERR_IN_USE,
                       "a trellis file system is mounted at %s already: `trellis umount` it first",
                       absolute);
free_path:
    free(absolute);
    return err;
}
