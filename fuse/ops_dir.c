/* Callbacks on directories: opendir, readdir, readdirplus, releasedir, fsyncdir.
 *
 * Directories have no open state here: a cookie alone says where reading goes on. So opendir
 * answers ENOSYS where the kernel knows what that means (it stops asking, and keeps read
 * directories in its page cache).
 *
 * Valid replies: open or err; buf (empty at the end) or err; err. */
#include "fuse/serve.h"

#include <errno.h>
#include <string.h>

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    (void)fuse_reply_err(req, ENOSYS);
}

static mode_t type_mode(uint8_t type)
{
    static const mode_t modes[] = {
        [FS_FILE] = S_IFREG,    [FS_DIR] = S_IFDIR,  [FS_SYMLINK] = S_IFLNK, [FS_FIFO] = S_IFIFO,
        [FS_SOCKET] = S_IFSOCK, [FS_CHAR] = S_IFCHR, [FS_BLOCK] = S_IFBLK};
    return type < sizeof(modes) / sizeof(modes[0]) ? modes[type] : 0;
}

static size_t add_plus(fuse_req_t req, uint8_t *at, size_t left, const struct fs_dirent *entry)
{
    struct fuse_entry_param param;
    bool is_dot = entry->name[0] == '.' &&
                  (entry->name_size == 1 || (entry->name_size == 2 && entry->name[1] == '.'));
    if (entry->has_attr && !is_dot) {
        serve_entry_param(serve_current->mount, &entry->attr, &param);
    } else {
        /* Inode 0 says: no lookup reference is taken, only the type and number in attr are shown.
         */
        memset(&param, 0, sizeof(param));
        param.attr.st_ino = entry->ino;
        param.attr.st_mode = type_mode(entry->type);
    }
    size_t size =
        fuse_add_direntry_plus(req, (char *)at, left, entry->name, &param, (off_t)entry->cookie);
    if (size <= left && param.ino) fs_remember(serve_fs(), param.ino);
    return size;
}

static size_t add_plain(fuse_req_t req, uint8_t *at, size_t left, const struct fs_dirent *entry)
{
    struct stat stat = {.st_ino = entry->ino, .st_mode = type_mode(entry->type)};
    return fuse_add_direntry(req, (char *)at, left, entry->name, &stat, (off_t)entry->cookie);
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
            size_t entry_size = plus ? add_plus(req, server->reply + used, size - used, entry)
                                     : add_plain(req, server->reply + used, size - used, entry);
            full = entry_size > size - used;
            if (full) break;
            used += entry_size;
            cookie = entry->cookie;
        }
        /* One more round only pays when a good part of the buffer is left. */
        if (size - used < size / 4) break;
    }
    (void)fuse_reply_buf(req, (const char *)server->reply, used);
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
