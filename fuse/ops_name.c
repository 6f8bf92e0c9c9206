/* Callbacks that work on names: lookup, mknod, mkdir, symlink, link, unlink, rmdir, rename,
 * readlink, forget.
 *
 * Valid replies: entry or err for what makes or finds a name; err for unlink, rmdir and rename;
 * readlink or err; none for forget. */
#include "fuse/serve.h"

#include <stdio.h>

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs_attr attr;
    enum err err = fs_lookup(serve_fs(), parent, name, &attr);
    const struct mount *mount = serve_current->mount;
    if (err == ERR_ENOENT && mount->settings.negative_timeout_s > 0) {
        /* Inode 0 with a timeout lets the kernel remember that the name does not exist. */
        struct fuse_entry_param none = {.entry_timeout = mount->settings.negative_timeout_s};
        (void)fuse_reply_entry(req, &none);
        return;
    }
    if (err)
        serve_reply_err(req, err);
    else
        serve_reply_entry(req, &attr);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    fs_forget(serve_fs(), ino, nlookup);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        fs_forget(serve_fs(), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void reply_made(fuse_req_t req, enum err err, const struct fs_attr *attr)
{
    if (err)
        serve_reply_err(req, err);
    else
        serve_reply_entry(req, attr);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct fs_caller caller = serve_caller(req);
    struct fs_attr attr;
    reply_made(req, fs_mknod(serve_fs(), &caller, parent, name, mode, (uint32_t)rdev, &attr),
               &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs_caller caller = serve_caller(req);
    struct fs_attr attr;
    reply_made(req, fs_mkdir(serve_fs(), &caller, parent, name, mode, &attr), &attr);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = serve_caller(req);
    struct fs_attr attr;
    reply_made(req, fs_symlink(serve_fs(), &caller, parent, name, target, &attr), &attr);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
    struct fs_attr attr;
    reply_made(req, fs_link(serve_fs(), ino, new_parent, new_name, &attr), &attr);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[FS_SYMLINK_SIZE_MAX + 1];
    enum err err = fs_readlink(serve_fs(), ino, target);
    if (err)
        serve_reply_err(req, err);
    else
        (void)fuse_reply_readlink(req, target);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = serve_caller(req);
    serve_reply_err(req, fs_unlink(serve_fs(), &caller, parent, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = serve_caller(req);
    serve_reply_err(req, fs_rmdir(serve_fs(), &caller, parent, name));
}

/* A directory that got another parent has another ".." in its listing, of which the kernel may have
 * a copy. */
static void forget_listing(fuse_ino_t parent, const char *name)
{
    struct fs_attr attr;
    if (fs_lookup(serve_fs(), parent, name, &attr)) return;
    if (S_ISDIR(attr.mode))
        (void)fuse_lowlevel_notify_inval_inode(serve_current->mount->session, attr.ino, 0, 0);
    fs_forget(serve_fs(), attr.ino, 1);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
    struct fs_caller caller = serve_caller(req);
    enum err err = fs_rename(serve_fs(), &caller, parent, name, new_parent, new_name, flags);
    if (!err && parent != new_parent) {
        forget_listing(new_parent, new_name);
        if (flags & RENAME_EXCHANGE) forget_listing(parent, name);
    }
    serve_reply_err(req, err);
}

void serve_ops_name(struct fuse_lowlevel_ops *ops)
{
    ops->lookup = op_lookup;
    ops->forget = op_forget;
    ops->forget_multi = op_forget_multi;
    ops->mknod = op_mknod;
    ops->mkdir = op_mkdir;
    ops->symlink = op_symlink;
    ops->link = op_link;
    ops->readlink = op_readlink;
    ops->unlink = op_unlink;
    ops->rmdir = op_rmdir;
    ops->rename = op_rename;
}
