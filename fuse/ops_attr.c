/* Callbacks on attributes: getattr, setattr, statfs, access, extended attributes, and ioctl for
 * inode flags.
 *
 * Valid replies: attr or err; statfs or err; err for access; buf, xattr (the size) or err for
 * reading extended attributes; ioctl or err. */
#include "fuse/serve.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)info;
    struct fs_attr attr;
    enum err err = fs_getattr(serve_fs(), ino, &attr);
    if (err)
        serve_reply_err(req, err);
    else
        serve_reply_attr(req, &attr);
}

static int64_t ns_of(struct timespec time)
{
    int64_t ns;
    /* Years beyond what 64 bits of nanoseconds hold (1677 to 2262) stop at the ends, as the kernel
     * does for file systems with a smaller range. */
    if (__builtin_mul_overflow((int64_t)time.tv_sec, (int64_t)1000000000, &ns) ||
        __builtin_add_overflow(ns, (int64_t)time.tv_nsec, &ns))
        return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *stat, int to_set,
                       struct fuse_file_info *info)
{
    (void)info;
    static const struct {
        int fuse;
        unsigned ours;
    } map[] = {
        {FUSE_SET_ATTR_MODE, FS_SET_MODE},
        {FUSE_SET_ATTR_UID, FS_SET_UID},
        {FUSE_SET_ATTR_GID, FS_SET_GID},
        {FUSE_SET_ATTR_SIZE, FS_SET_SIZE},
        {FUSE_SET_ATTR_ATIME, FS_SET_ATIME},
        {FUSE_SET_ATTR_MTIME, FS_SET_MTIME},
        {FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW},
        {FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW},
        {FUSE_SET_ATTR_CTIME, FS_SET_CTIME},
    };
    unsigned set = serve_current->kill_privileges ? FS_SET_KILL_SUID : 0;
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (to_set & map[i].fuse) set |= map[i].ours;
    /* The kernel sends "now" along with the time that it was there. */
    if (set & FS_SET_ATIME_NOW) set &= ~(unsigned)FS_SET_ATIME;
    if (set & FS_SET_MTIME_NOW) set &= ~(unsigned)FS_SET_MTIME;
    struct fs_attr attr = {
        .mode = stat->st_mode,
        .uid = stat->st_uid,
        .gid = stat->st_gid,
        .size = (uint64_t)stat->st_size,
        .atime_ns = ns_of(stat->st_atim),
        .mtime_ns = ns_of(stat->st_mtim),
        .ctime_ns = ns_of(stat->st_ctim),
    };
    struct fs_caller caller = serve_caller(req);
    struct fs_attr result;
    enum err err = fs_setattr(serve_fs(), &caller, ino, set, &attr, &result);
    if (err)
        serve_reply_err(req, err);
    else
        serve_reply_attr(req, &result);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (void)ino;
    struct fs_statfs statfs;
    enum err err = fs_statfs(serve_fs(), &statfs);
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    struct statvfs reply = {
        .f_bsize = statfs.block_size,
        .f_frsize = statfs.block_size,
        .f_blocks = statfs.bytes_total / statfs.block_size,
        .f_bfree = statfs.bytes_free / statfs.block_size,
        .f_bavail = statfs.bytes_available / statfs.block_size,
        .f_files = statfs.files_total,
        .f_ffree = statfs.files_free,
        .f_favail = statfs.files_free,
        .f_namemax = statfs.name_size_max,
    };
    (void)fuse_reply_statfs(req, &reply);
}

/* Only asked when the mount has no default_permissions; then supplementary groups are not known, so
 * this is the coarse rule: the class of the caller by uid and primary gid. */
static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    const struct fuse_ctx *context = fuse_req_ctx(req);
    struct fs_attr attr;
    enum err err = fs_getattr(serve_fs(), ino, &attr);
    if (err || mask == F_OK) {
        serve_reply_err(req, err);
        return;
    }
    unsigned shift = context->uid == attr.uid ? 6 : context->gid == attr.gid ? 3 : 0;
    unsigned granted = (attr.mode >> shift) & 7;
    if (context->uid == 0) granted = S_ISDIR(attr.mode) || (attr.mode & 0111) ? 7 : 6;
    serve_reply_err(req, ((unsigned)mask & ~granted & 7) ? ERR_EACCES : ERR_NONE);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                        size_t size, int flags)
{
    struct fs_caller caller = serve_caller(req);
    serve_reply_err(req, fs_xattr_set(serve_fs(), &caller, ino, name, value, size, flags));
}

/* getxattr and listxattr: size 0 asks for the size. */
static void reply_xattr(fuse_req_t req, enum err err, const void *bytes, size_t size, size_t result)
{
    if (err)
        serve_reply_err(req, err);
    else if (size == 0)
        (void)fuse_reply_xattr(req, result);
    else
        (void)fuse_reply_buf(req, bytes, result);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct fs_caller caller = serve_caller(req);
    if (size > FS_XATTR_SIZE_MAX + 1) size = FS_XATTR_SIZE_MAX + 1;
    size_t result = 0;
    enum err err =
        fs_xattr_get(serve_fs(), &caller, ino, name, serve_current->reply, size, &result);
    reply_xattr(req, err, serve_current->reply, size, result);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct fs_caller caller = serve_caller(req);
    if (size > serve_current->reply_size) size = serve_current->reply_size;
    size_t result = 0;
    enum err err =
        fs_xattr_list(serve_fs(), &caller, ino, (char *)serve_current->reply, size, &result);
    reply_xattr(req, err, serve_current->reply, size, result);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct fs_caller caller = serve_caller(req);
    serve_reply_err(req, fs_xattr_remove(serve_fs(), &caller, ino, name));
}

/* What FS_IOC_FSGETXATTR calls xflags, by the bits of FS_IOC_GETFLAGS. */
static const struct {
    uint32_t flag;
    uint32_t xflag;
} xflags[] = {
    {FS_APPEND_FL, FS_XFLAG_APPEND},
    {FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    {FS_NOATIME_FL, FS_XFLAG_NOATIME},
    {FS_NODUMP_FL, FS_XFLAG_NODUMP},
};

static enum err flags_set_xflags(struct fs_client *fs, const struct fs_caller *caller, uint64_t ino,
                                 const struct fsxattr *fsx)
{
    struct fs_attr attr;
    enum err err = fs_getattr(fs, ino, &attr);
    if (err) return err;
    if (fsx->fsx_projid != attr.project || fsx->fsx_extsize || fsx->fsx_cowextsize)
        return ERR_EOPNOTSUPP; /* projects come with quotas */
    uint32_t flags = attr.flags;
    uint32_t known = 0;
    for (size_t i = 0; i < sizeof(xflags) / sizeof(xflags[0]); i++) {
        known |= xflags[i].xflag;
        if (fsx->fsx_xflags & xflags[i].xflag)
            flags |= xflags[i].flag;
        else
            flags &= ~xflags[i].flag;
    }
    if (fsx->fsx_xflags & ~known) return ERR_EOPNOTSUPP;
    return flags == attr.flags ? ERR_NONE : fs_flags_set(fs, caller, ino, flags);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *argument,
                     struct fuse_file_info *info, unsigned flags, const void *in, size_t in_size,
                     size_t out_size)
{
    (void)argument;
    (void)info;
    (void)flags;
    struct fs_caller caller = serve_caller(req);
    struct fs_attr attr;
    enum err err;
    uint32_t value;
    switch (command) {
    case FS_IOC_GETFLAGS:
        err = fs_getattr(serve_fs(), ino, &attr);
        if (err) break;
        value = attr.flags;
        (void)fuse_reply_ioctl(req, 0, &value, out_size < sizeof(value) ? out_size : sizeof(value));
        return;
    case FS_IOC_SETFLAGS:
        if (in_size < sizeof(value)) {
            err = ERR_EINVAL;
            break;
        }
        memcpy(&value, in, sizeof(value));
        err = fs_flags_set(serve_fs(), &caller, ino, value);
        if (err) break;
        serve_forget_attr(ino);
        (void)fuse_reply_ioctl(req, 0, NULL, 0);
        return;
    case FS_IOC_FSGETXATTR: {
        err = fs_getattr(serve_fs(), ino, &attr);
        if (err) break;
        struct fsxattr fsx = {.fsx_projid = attr.project};
        for (size_t i = 0; i < sizeof(xflags) / sizeof(xflags[0]); i++)
            if (attr.flags & xflags[i].flag) fsx.fsx_xflags |= xflags[i].xflag;
        (void)fuse_reply_ioctl(req, 0, &fsx, out_size < sizeof(fsx) ? out_size : sizeof(fsx));
        return;
    }
    case FS_IOC_FSSETXATTR: {
        struct fsxattr fsx;
        if (in_size < sizeof(fsx)) {
            err = ERR_EINVAL;
            break;
        }
        memcpy(&fsx, in, sizeof(fsx));
        err = flags_set_xflags(serve_fs(), &caller, ino, &fsx);
        if (err) break;
        serve_forget_attr(ino);
        (void)fuse_reply_ioctl(req, 0, NULL, 0);
        return;
    }
    default:
        (void)fuse_reply_err(req, ENOTTY);
        return;
    }
    serve_reply_err(req, err);
}

void serve_ops_attr(struct fuse_lowlevel_ops *ops)
{
    ops->getattr = op_getattr;
    ops->setattr = op_setattr;
    ops->statfs = op_statfs;
    ops->access = op_access;
    ops->setxattr = op_setxattr;
    ops->getxattr = op_getxattr;
    ops->listxattr = op_listxattr;
    ops->removexattr = op_removexattr;
    ops->ioctl = op_ioctl;
}
