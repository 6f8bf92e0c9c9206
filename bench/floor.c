/* A null file system: see floor.h. Inode numbers are hashes of names, attributes are constant. */
#define FUSE_USE_VERSION 312
#include "bench/floor.h"

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"

enum { LISTED_INO = 2, DIRECTORY_BIT = 1 };

static struct floor_config config;
static _Atomic uint64_t next_ino = 1000;
static _Thread_local char listing[1 << 20];

/* Odd numbers above the fixed ones are directories. */
static void fill(fuse_ino_t ino, struct stat *stat)
{
    memset(stat, 0, sizeof(*stat));
    bool is_dir = ino <= LISTED_INO || (ino & DIRECTORY_BIT);
    stat->st_ino = ino;
    stat->st_mode = is_dir ? S_IFDIR | 0755 : S_IFREG | 0644;
    stat->st_nlink = is_dir ? 2 : 1;
    stat->st_size = 4096;
    stat->st_blksize = 4096;
}

static void fill_entry(fuse_ino_t ino, struct fuse_entry_param *entry)
{
    memset(entry, 0, sizeof(*entry));
    entry->ino = ino;
    entry->attr_timeout = config.timeout_s;
    entry->entry_timeout = config.timeout_s;
    fill(ino, &entry->attr);
}

static fuse_ino_t fresh_ino(bool is_dir)
{
    return atomic_fetch_add(&next_ino, 2) / 2 * 2 + (is_dir ? 1 : 0);
}

static void floor_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent;
    struct fuse_entry_param entry;
    if (name[0] == 'n') {
        memset(&entry, 0, sizeof(entry));
        entry.entry_timeout = config.timeout_s;
        if (config.timeout_s > 0)
            (void)fuse_reply_entry(req, &entry);
        else
            (void)fuse_reply_err(req, ENOENT);
        return;
    }
    if (strcmp(name, "listed") == 0)
        fill_entry(LISTED_INO, &entry);
    else
        fill_entry((hash_bytes(name, strlen(name)) & 0xfffffffffffeu) + (name[0] == 'd'), &entry);
    (void)fuse_reply_entry(req, &entry);
}

static void floor_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)info;
    struct stat stat;
    fill(ino, &stat);
    (void)fuse_reply_attr(req, &stat, config.timeout_s);
}

static void floor_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
                          struct fuse_file_info *info)
{
    (void)attr;
    (void)set;
    floor_getattr(req, ino, info);
}

static void floor_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                        dev_t rdev)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)rdev;
    struct fuse_entry_param entry;
    fill_entry(fresh_ino(false), &entry);
    (void)fuse_reply_entry(req, &entry);
}

static void floor_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent;
    (void)name;
    (void)mode;
    struct fuse_entry_param entry;
    fill_entry(fresh_ino(true), &entry);
    (void)fuse_reply_entry(req, &entry);
}

static void floor_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                         struct fuse_file_info *info)
{
    (void)parent;
    (void)name;
    (void)mode;
    struct fuse_entry_param entry;
    fill_entry(fresh_ino(false), &entry);
    (void)fuse_reply_create(req, &entry, info);
}

static void floor_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent;
    (void)name;
    (void)fuse_reply_err(req, 0);
}

static void floor_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                         const char *new_name, unsigned flags)
{
    (void)parent;
    (void)name;
    (void)new_parent;
    (void)new_name;
    (void)flags;
    (void)fuse_reply_err(req, 0);
}

static void floor_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)fuse_reply_open(req, info);
}

static void floor_done(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    (void)fuse_reply_err(req, 0);
}

static void floor_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    (void)fuse_reply_err(req, ENOSYS);
}

static void floor_readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
    size_t used = 0;
    if (size > sizeof(listing)) size = sizeof(listing);
    for (uint64_t i = (uint64_t)offset; ino == LISTED_INO && i < config.listed_entries; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "f%015lu", i);
        struct fuse_entry_param entry;
        fill_entry(1000000 + i * 2, &entry);
        size_t entry_size = plus ? fuse_add_direntry_plus(req, listing + used, size - used, name,
                                                          &entry, (off_t)i + 1)
                                 : fuse_add_direntry(req, listing + used, size - used, name,
                                                     &entry.attr, (off_t)i + 1);
        if (entry_size > size - used) break;
        used += entry_size;
    }
    (void)fuse_reply_buf(req, listing, used);
}

static void floor_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                          struct fuse_file_info *info)
{
    (void)info;
    floor_readdir_any(req, ino, size, offset, false);
}

static void floor_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                              struct fuse_file_info *info)
{
    (void)info;
    floor_readdir_any(req, ino, size, offset, true);
}

static void floor_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    (void)ino;
    (void)name;
    (void)size;
    (void)fuse_reply_err(req, ENODATA);
}

static const struct fuse_lowlevel_ops ops = {
    .lookup = floor_lookup,
    .getattr = floor_getattr,
    .setattr = floor_setattr,
    .mknod = floor_mknod,
    .mkdir = floor_mkdir,
    .create = floor_create,
    .unlink = floor_unlink,
    .rmdir = floor_unlink,
    .rename = floor_rename,
    .open = floor_open,
    .flush = floor_done,
    .release = floor_done,
    .opendir = floor_opendir,
    .readdir = floor_readdir,
    .readdirplus = floor_readdirplus,
    .getxattr = floor_getxattr,
};

static int serve(int ready)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    if (fuse_opt_add_arg(&args, "floor") ||
        fuse_opt_add_arg(&args, "-odefault_permissions,fsname=floor,subtype=trellis-floor"))
        return 1;
    struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
    if (!session || fuse_session_mount(session, config.mountpoint)) return 1;
    uint8_t byte = 1;
    if (write(ready, &byte, 1) != 1) return 1;
    (void)close(ready);
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(loop, 1);
    int failed =
        config.multi_threaded ? fuse_session_loop_mt(session, loop) : fuse_session_loop(session);
    fuse_loop_cfg_destroy(loop);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    fuse_opt_free_args(&args);
    return failed ? 1 : 0;
}

enum err floor_start(const struct floor_config *floor, pid_t *ret_child, struct diag *diag)
{
    int fds[2];
    if (pipe(fds) < 0) return diag_set(diag, ERR_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) return diag_set(diag, ERR_NO_MEMORY, "cannot fork: %s", strerror(errno));
    if (child == 0) {
        (void)close(fds[0]);
        config = *floor;
        _exit(serve(fds[1]));
    }
    (void)close(fds[1]);
    uint8_t byte;
    ssize_t got = read(fds[0], &byte, 1);
    (void)close(fds[0]);
    if (got == 1) {
        *ret_child = child;
        return ERR_NONE;
    }
    (void)waitpid(child, NULL, 0);
    return diag_set(diag, ERR_IO, "the null file system could not mount at %s", floor->mountpoint);
}

void floor_stop(const char *mountpoint, pid_t child)
{
    if (umount2(mountpoint, 0) < 0) (void)kill(child, SIGTERM);
    (void)waitpid(child, NULL, 0);
    (void)umount2(mountpoint, MNT_DETACH);
}
