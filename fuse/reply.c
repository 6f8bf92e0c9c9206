/* Replies: the one place where our errors and attributes become FUSE's.
 *
 * Every request gets exactly one reply. A reply that cannot be delivered (the caller was
 * interrupted: ENOENT from the kernel) means that the kernel did not take the reference an entry
 * would have given it, so it is forgotten. */
#include "fuse/serve.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

struct fs_caller serve_caller(fuse_req_t req)
{
    const struct fuse_ctx *context = fuse_req_ctx(req);
    return (struct fs_caller){
        .uid = context->uid, .gid = context->gid, .umask = context->umask, .pid = context->pid};
}

void serve_reply_err(fuse_req_t req, enum err err)
{
    (void)fuse_reply_err(req, err_to_errno(err));
}

static struct timespec timespec_of(int64_t ns)
{
    int64_t seconds = ns / 1000000000;
    int64_t rest = ns % 1000000000;
    if (rest < 0) {
        seconds--;
        rest += 1000000000;
    }
    return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

void serve_attr_stat(const struct fs_attr *attr, struct stat *ret_stat)
{
    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->st_ino = attr->ino;
    ret_stat->st_mode = attr->mode;
    ret_stat->st_nlink = attr->nlink;
    ret_stat->st_uid = attr->uid;
    ret_stat->st_gid = attr->gid;
    ret_stat->st_rdev = attr->rdev;
    ret_stat->st_size = (off_t)attr->size;
    ret_stat->st_blocks = (blkcnt_t)attr->blocks;
    ret_stat->st_blksize = 4096;
    ret_stat->st_atim = timespec_of(attr->atime_ns);
    ret_stat->st_mtim = timespec_of(attr->mtime_ns);
    ret_stat->st_ctim = timespec_of(attr->ctime_ns);
}

void serve_entry_param(const struct mount *mount, const struct fs_attr *attr,
                       struct fuse_entry_param *ret_entry)
{
    memset(ret_entry, 0, sizeof(*ret_entry));
    ret_entry->ino = attr->ino;
    ret_entry->generation = attr->generation;
    ret_entry->attr_timeout = mount->settings.attr_timeout_s;
    ret_entry->entry_timeout = mount->settings.entry_timeout_s;
    serve_attr_stat(attr, &ret_entry->attr);
}

void serve_reply_entry(fuse_req_t req, const struct fs_attr *attr)
{
    struct fuse_entry_param entry;
    serve_entry_param(serve_current->mount, attr, &entry);
    if (fuse_reply_entry(req, &entry) == -ENOENT) fs_forget(serve_fs(), attr->ino, 1);
}

void serve_reply_attr(fuse_req_t req, const struct fs_attr *attr)
{
    struct stat stat;
    serve_attr_stat(attr, &stat);
    (void)fuse_reply_attr(req, &stat, serve_current->mount->settings.attr_timeout_s);
}

void serve_forget_attr(uint64_t ino)
{
    /* A negative offset spares the cached content. ENOENT: it has no copy. */
    (void)fuse_lowlevel_notify_inval_inode(serve_current->mount->session, ino, -1, 0);
}
