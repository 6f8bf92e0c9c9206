/* Callbacks on directories: opendir, readdir, readdirplus, releasedir, fsyncdir.
 *
 * Directories have no open state here: a cookie alone says where reading goes on. So opendir
 * answers ENOSYS where the kernel knows what that means (it stops asking, and keeps read
 * directories in its page cache).
 *
 * Valid replies: open or err; buf (empty at the end) or err; err. */
#include "fuse/serve.h"

#include <errno.h>

#include "fuse/wire.h"

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    (void)fuse_reply_err(req, ENOSYS);
}

/* About as many entries as may fit, so that little is read twice. */
static uint32_t entries_fitting(size_t size, bool plus)
{
    size_t each = plus ? 128 + 40 : 40;
    size_t count = size / each + 1;
    return count < SERVE_DIRENTS_MAX ? (uint32_t)count : SERVE_DIRENTS_MAX;
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
    struct server *server = serve_current;
    if (size > server->reply_size) size = server->reply_size;
    size_t used = 0;
    uint32_t listed = 0;
    uint64_t cookie = (uint64_t)offset;
    for (bool full = false; !full;) {
        uint32_t count = 0;
        enum err err = fs_readdir(server->fs, ino, cookie, plus, server->entries,
                                  entries_fitting(size - used, plus), &count);
        if (err && !used) {
            serve_reply_err(req, err);
            return;
        }
        if (err || count == 0) break;
        for (uint32_t i = 0; i < count && !full; i++) {
            const struct fs_dirent *entry = &server->entries[i];
            uint8_t *at = server->reply + used;
            bool counts = false;
            size_t entry_size = plus ? wire_put_direntplus(at, size - used, entry,
                                                           &server->mount->timeouts, &counts)
                                     : wire_put_dirent(at, size - used, entry);
            full = entry_size == 0;
            if (full) break;
            used += entry_size;
            cookie = entry->cookie;
            if (counts) server->listed[listed++] = entry->ino;
        }
        /* One more round only pays when a good part of the buffer is left. */
        if (size - used < size / 4) break;
    }
    /* The kernel's references count before it can give one back. */
    fs_remember(server->fs, server->listed, listed);
    if (fuse_reply_buf(req, (const char *)server->reply, used) != -ENOENT) return;
    for (uint32_t i = 0; i < listed; i++)
        fs_forget(server->fs, server->listed[i], 1);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    (void)info;
    read_directory(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *info)
{
    (void)info;
    read_directory(req, ino, size, offset, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    (void)fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
    (void)ino;
    (void)data_only;
    (void)info;
    sync_queue_add(serve_current->mount->syncs, req, serve_reply_fd);
}

void serve_ops_dir(struct fuse_lowlevel_ops *ops)
{
    ops->opendir = op_opendir;
    ops->readdir = op_readdir;
    ops->readdirplus = op_readdirplus;
    ops->releasedir = op_releasedir;
    ops->fsyncdir = op_fsyncdir;
}
