/* Callbacks on open files: open, create, read, write, flush, release, fsync, fallocate, lseek,
 * copy_file_range.
 *
 * Data requests leave the worker's thread with an fs_io and are answered on the I/O thread that
 * finishes them, through the descriptor their request came from. Their bytes live behind the
 * request; a large write takes the server's whole receive buffer along instead of copying out of
 * it.
 *
 * Valid replies: open or err; create or err; buf or err; write or err; err; lseek or err. */
#include "fuse/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WRITE_TAKES_BUFFER_SIZE = 65536 };

struct data_request {
    struct fs_io io;
    fuse_req_t req;
    struct mount *mount;
    uint8_t *taken; /* the receive buffer of a large write */
    int reply_fd;
    uint8_t bytes[];
};

static struct fs_file *file_of(const struct fuse_file_info *info)
{
    return (struct fs_file *)(uintptr_t)info->fh;
}

static struct data_request *request_new(fuse_req_t req, struct fs_file *file, uint64_t offset,
                                        uint64_t size, size_t bytes_size,
                                        void (*done)(struct fs_io *io))
{
    struct data_request *request = malloc(sizeof(*request) + bytes_size);
    if (!request) {
        (void)fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    memset(request, 0, sizeof(*request));
    request->req = req;
    request->mount = serve_current->mount;
    request->reply_fd = serve_reply_fd;
    request->io.file = file;
    request->io.offset = offset;
    request->io.size = size;
    request->io.bytes = request->bytes;
    request->io.done = done;
    atomic_fetch_add(&request->mount->io_count, 1);
    return request;
}

static struct data_request *request_begin_reply(struct fs_io *io)
{
    struct data_request *request = (struct data_request *)(void *)io;
    serve_reply_fd = request->reply_fd;
    return request;
}

static void request_end(struct data_request *request)
{
    atomic_fetch_sub(&request->mount->io_count, 1);
    free(request->taken);
    free(request);
}

static void done_err(struct fs_io *io)
{
    struct data_request *request = request_begin_reply(io);
    (void)fuse_reply_err(request->req, err_to_errno(io->err));
    request_end(request);
}

static void done_read(struct fs_io *io)
{
    struct data_request *request = request_begin_reply(io);
    if (io->err)
        (void)fuse_reply_err(request->req, err_to_errno(io->err));
    else
        (void)fuse_reply_buf(request->req, io->bytes, io->result);
    request_end(request);
}

static void done_write(struct fs_io *io)
{
    struct data_request *request = request_begin_reply(io);
    if (io->err)
        (void)fuse_reply_err(request->req, err_to_errno(io->err));
    else
        (void)fuse_reply_write(request->req, io->result);
    request_end(request);
}

static void done_seek(struct fs_io *io)
{
    struct data_request *request = request_begin_reply(io);
    if (io->err)
        (void)fuse_reply_err(request->req, err_to_errno(io->err));
    else
        (void)fuse_reply_lseek(request->req, (off_t)io->result);
    request_end(request);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct fs_file *file;
    enum err err = fs_open_file(serve_fs(), ino, info->flags, &file);
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    info->fh = (uintptr_t)file;
    info->keep_cache = 1; /* every change comes through this kernel */
    if (fuse_reply_open(req, info) == -ENOENT) (void)!fs_release_file(serve_fs(), file);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    struct fs_caller caller = serve_caller(req);
    struct fs_attr attr;
    struct fs_file *file;
    enum err err =
        fs_create_file(serve_fs(), &caller, parent, name, mode, info->flags, &attr, &file);
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    info->fh = (uintptr_t)file;
    info->keep_cache = 1;
    struct fuse_entry_param entry;
    serve_entry_param(serve_current->mount, &attr, &entry);
    if (fuse_reply_create(req, &entry, info) == -ENOENT) {
        (void)!fs_release_file(serve_fs(), file);
        fs_forget(serve_fs(), attr.ino, 1);
    }
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    (void)ino;
    if (size > SERVE_WRITE_SIZE_MAX) size = SERVE_WRITE_SIZE_MAX;
    struct data_request *request =
        request_new(req, file_of(info), (uint64_t)offset, size, size, done_read);
    if (request) fs_read(serve_fs(), &request->io);
}

/* What changes content takes setuid and setgid away, unless root does it. The kernel asks for it
 * with a write; with the others we have to know. */
static enum err clear_privileges(fuse_req_t req, uint64_t ino)
{
    struct fs_caller caller = serve_caller(req);
    if (caller.uid == 0) return ERR_NONE;
    struct fs_attr none = {0};
    struct fs_attr result;
    enum err err = fs_setattr(serve_fs(), &caller, ino, FS_SET_KILL_SUID, &none, &result);
    if (!err) serve_forget_attr(ino);
    return err;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    struct server *server = serve_current;
    enum err err = server->kill_privileges ? clear_privileges(req, ino) : ERR_NONE;
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    uint8_t *fresh = size >= WRITE_TAKES_BUFFER_SIZE ? malloc(SERVE_BUFFER_SIZE) : NULL;
    struct data_request *request =
        request_new(req, file_of(info), (uint64_t)offset, size, fresh ? 0 : size, done_write);
    if (!request) {
        free(fresh);
        return;
    }
    if (fresh) {
        request->taken = server->buffer;
        request->io.bytes = (void *)(uintptr_t)bytes; /* within the taken buffer */
        server->buffer = fresh;
    } else {
        memcpy(request->bytes, bytes, size);
    }
    /* The open flags now: O_APPEND can be taken back. */
    request->io.at_offset = !(info->flags & O_APPEND);
    fs_write(server->fs, &request->io);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    serve_reply_err(req, fs_flush_file(serve_fs(), file_of(info)));
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    serve_reply_err(req, fs_release_file(serve_fs(), file_of(info)));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
    (void)ino;
    struct data_request *request = request_new(req, file_of(info), 0, 0, 0, done_err);
    if (!request) return;
    request->io.data_only = data_only != 0;
    fs_fsync(serve_fs(), &request->io);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                         struct fuse_file_info *info)
{
    enum err err = clear_privileges(req, ino);
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    struct data_request *request =
        request_new(req, file_of(info), (uint64_t)offset, (uint64_t)length, 0, done_err);
    if (!request) return;
    request->io.mode = mode;
    fs_fallocate(serve_fs(), &request->io);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                     struct fuse_file_info *info)
{
    (void)ino;
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    struct data_request *request =
        request_new(req, file_of(info), (uint64_t)offset, 0, 0, done_seek);
    if (!request) return;
    request->io.mode = whence;
    fs_seek(serve_fs(), &request->io);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
                               struct fuse_file_info *info_in, fuse_ino_t ino_out, off_t offset_out,
                               struct fuse_file_info *info_out, size_t length, int flags)
{
    (void)ino_in;
    enum err err = flags ? ERR_EINVAL : clear_privileges(req, ino_out);
    if (err) {
        serve_reply_err(req, err);
        return;
    }
    struct data_request *request =
        request_new(req, file_of(info_in), (uint64_t)offset_in, length, 0, done_write);
    if (!request) return;
    request->io.to = file_of(info_out);
    request->io.to_offset = (uint64_t)offset_out;
    fs_copy(serve_fs(), &request->io);
}

void serve_ops_file(struct fuse_lowlevel_ops *ops)
{
    ops->open = op_open;
    ops->create = op_create;
    ops->read = op_read;
    ops->write = op_write;
    ops->flush = op_flush;
    ops->release = op_release;
    ops->fsync = op_fsync;
    ops->fallocate = op_fallocate;
    ops->lseek = op_lseek;
    ops->copy_file_range = op_copy_file_range;
}
