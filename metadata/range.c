/* Ranges of files: reserved, punched, zeroed (fallocate), searched for holes (lseek), copied
 * (copy_file_range). See data.c for what a byte of a file is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/data.h"
#include "metadata/device.h"
#include "metadata/fd.h"
#include "metadata/lease.h"

/* ---- fallocate ---- */

static enum err fallocate_object(int fd, int mode, uint64_t offset, uint64_t size)
{
    int result;
    do
        result = fallocate(fd, mode, (off_t)offset, (off_t)size);
    while (result && errno == EINTR);
    if (result && errno == EOPNOTSUPP && (mode & FALLOC_FL_ZERO_RANGE)) {
        /* Zeros are zeros, allocated or not. */
        do
            result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                               (off_t)size);
        while (result && errno == EINTR);
    }
    return result ? object_err(errno) : ERR_NONE;
}

/* Where to stop on the way from `at` to `end`, so that a range of that size takes few enough steps:
 * making bytes void costs little, but there may be very many of them. */
static uint64_t void_step(uint64_t at, uint64_t end, uint64_t size)
{
    enum { STEPS = 4096 };
    uint64_t step = (size / STEPS / DATA_STEP_SIZE + 1) * DATA_STEP_SIZE;
    uint64_t next = (at / step + 1) * step;
    return next < end ? next : end;
}

/* Under the lease, in steps; *ret_done bytes of the range, also after an error. Reserving destroys
 * nothing that another server may have written, so it is one step, which succeeds or fails as a
 * whole. */
static enum err fallocate_leased(struct fs *fs, int fd, int mode, uint64_t offset, uint64_t size,
                                 uint64_t *ret_done)
{
    bool voids = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
    uint64_t end = offset + size;
    uint64_t at = offset;
    enum err err = ERR_NONE;
    while (at < end) {
        uint64_t next = voids ? void_step(at, end, size) : end;
        err = lease_wait(fs);
        if (!err) err = fallocate_object(fd, mode, at, next - at);
        if (err) break;
        at = next;
    }
    *ret_done = at - offset;
    return err;
}

enum err data_fallocate(struct fs_client *client, struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    const int keep = FALLOC_FL_KEEP_SIZE;
    if (io->mode != 0 && io->mode != keep && io->mode != (FALLOC_FL_PUNCH_HOLE | keep) &&
        io->mode != FALLOC_FL_ZERO_RANGE && io->mode != (FALLOC_FL_ZERO_RANGE | keep))
        return ERR_EOPNOTSUPP;
    if (io->size == 0 || io->offset > INT64_MAX) return ERR_EINVAL;
    if (io->size > FS_FILE_SIZE_MAX || io->offset > FS_FILE_SIZE_MAX - io->size) return ERR_EFBIG;
    pthread_mutex_lock(&inode->mutex);
    bool appends_only = (inode->flags & FS_APPEND_FL) != 0;
    pthread_mutex_unlock(&inode->mutex);
    if (appends_only && (io->mode & ~keep)) return ERR_EPERM;
    enum err err = data_cut_held(client, inode);
    if (err) return err;
    uint64_t cuts = data_truncate_count(inode);
    bool punch = (io->mode & FALLOC_FL_PUNCH_HOLE) != 0;
    int fd;
    err = lease_wait(inode->fs);
    if (err) return err;
    err = fd_acquire(inode, !punch, &fd);
    if (err == ERR_NOT_FOUND && punch) return ERR_NONE; /* all of it is a hole */
    if (err) return err == ERR_NOT_FOUND ? ERR_EIO : err;
    uint64_t done;
    err = fallocate_leased(inode->fs, fd, io->mode, io->offset, io->size, &done);
    bool extends = !err && !(io->mode & keep);
    if (!err || done) data_changed(inode, fd, extends ? io->offset + io->size : 0, cuts);
    fd_release(inode);
    return err;
}

/* ---- holes ---- */

enum err data_seek(struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    if (io->mode != SEEK_DATA && io->mode != SEEK_HOLE) return ERR_EINVAL;
    struct extent extent = data_extent(inode);
    if (io->offset >= extent.size) return ERR_ENXIO;
    bool hole = io->mode == SEEK_HOLE;
    off_t found = -1;
    if (io->offset < extent.bound) {
        int fd;
        enum err err = fd_acquire(inode, false, &fd);
        if (err && err != ERR_NOT_FOUND) return err;
        if (!err) {
            found = lseek(fd, (off_t)io->offset, io->mode);
            int number = errno;
            fd_release(inode);
            if (found < 0 && number != ENXIO) return object_err(number);
        }
    }
    /* Behind what the object has there is nothing but hole. */
    if (found < 0 || (!hole && (uint64_t)found >= extent.bound)) {
        if (!hole) return ERR_ENXIO;
        found = (off_t)io->offset;
    }
    io->result = (uint64_t)found < extent.size ? (uint64_t)found : extent.size;
    return ERR_NONE;
}

/* ---- copying ---- */

enum { COPY_BUFFER_SIZE = 1 << 18 };

/* Under the lease; *ret_done bytes, also after an error. */
static enum err write_object(struct fs *fs, int fd, const uint8_t *bytes, uint64_t offset,
                             size_t size, size_t *ret_done)
{
    size_t done = 0;
    enum err err = lease_wait(fs);
    while (done < size && !err) {
        ssize_t put = pwrite(fd, bytes + done, size - done, (off_t)(offset + done));
        if (put > 0)
            done += (size_t)put;
        else if (put == 0 || errno != EINTR)
            err = put ? object_err(errno) : ERR_EIO;
    }
    *ret_done = done;
    return err;
}

/* Where the device cannot copy by itself. */
static enum err copy_through_memory(struct fs *fs, int from, uint64_t from_offset, int to,
                                    uint64_t to_offset, uint64_t size, uint64_t *ret_done)
{
    uint8_t *buffer = malloc(COPY_BUFFER_SIZE);
    if (!buffer) return ERR_NO_MEMORY;
    uint64_t done = 0;
    enum err err = ERR_NONE;
    while (done < size && !err) {
        size_t want = size - done < COPY_BUFFER_SIZE ? size - done : COPY_BUFFER_SIZE;
        ssize_t got = pread(from, buffer, want, (off_t)(from_offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) err = object_err(errno);
        if (got <= 0) break;
        size_t put;
        err = write_object(fs, to, buffer, to_offset + done, (size_t)got, &put);
        done += put;
    }
    free(buffer);
    *ret_done = done;
    return done ? ERR_NONE : err;
}

/* Copies what the source object has of the range; fewer bytes at its end, or when the rest cannot
 * be copied. */
static enum err copy_objects(struct fs *fs, int from, uint64_t from_offset, int to,
                             uint64_t to_offset, uint64_t size, uint64_t *ret_done)
{
    uint64_t done = 0;
    enum err err = ERR_NONE;
    while (done < size) {
        err = lease_wait(fs);
        if (err) break;
        uint64_t step = size - done < DATA_STEP_SIZE ? size - done : DATA_STEP_SIZE;
        off_t in = (off_t)(from_offset + done);
        off_t out = (off_t)(to_offset + done);
        ssize_t got = copy_file_range(from, &in, to, &out, step, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) break;
        if (got < 0) {
            uint64_t rest = 0;
            if (errno != ENOSPC || !done)
                err = copy_through_memory(fs, from, from_offset + done, to, to_offset + done,
                                          size - done, &rest);
            done += rest;
            break;
        }
        done += (uint64_t)got;
    }
    *ret_done = done;
    return done ? ERR_NONE : err;
}

/* Zeros where the device cannot punch holes. */
static enum err write_zeros(struct fs *fs, int fd, uint64_t offset, uint64_t size,
                            uint64_t *ret_done)
{
    uint8_t *zeros = calloc(1, COPY_BUFFER_SIZE);
    if (!zeros) return ERR_NO_MEMORY;
    uint64_t done = 0;
    enum err err = ERR_NONE;
    while (done < size && !err) {
        size_t want = size - done < COPY_BUFFER_SIZE ? size - done : COPY_BUFFER_SIZE;
        size_t put;
        err = write_object(fs, fd, zeros, offset + done, want, &put);
        done += put;
    }
    free(zeros);
    *ret_done = done;
    return err;
}

/* The range reads as zeros, as it does anyway where the object has nothing. *ret_done bytes of it,
 * also after an error. */
static enum err zero_object(struct fs *fs, int fd, uint64_t offset, uint64_t size,
                            uint64_t *ret_done)
{
    struct stat stat;
    *ret_done = 0;
    if (fstat(fd, &stat)) return object_err(errno);
    uint64_t there = (uint64_t)stat.st_size > offset ? (uint64_t)stat.st_size - offset : 0;
    if (there > size) there = size;
    uint64_t done = 0;
    enum err err =
        fallocate_leased(fs, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, there, &done);
    if (err == ERR_EOPNOTSUPP) {
        uint64_t written = 0;
        err = write_zeros(fs, fd, offset + done, there - done, &written);
        done += written;
    }
    *ret_done = err ? done : size;
    return err;
}

/* The target gets `size` bytes: `there` of them from the source's object, the others zero. What was
 * done before a failure is a success; the rest gets the error when it is tried again. */
static enum err copy_range(struct fs_io *io, uint64_t size, uint64_t there, uint64_t cuts)
{
    struct open_inode *from = io->file->inode;
    struct open_inode *to = io->to->inode;
    struct fs *fs = to->fs;
    int from_fd = -1;
    int to_fd;
    enum err err = there ? fd_acquire(from, false, &from_fd) : ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND) there = 0;
    if (err && err != ERR_NOT_FOUND) return err;
    err = lease_wait(fs);
    if (!err) err = fd_acquire(to, true, &to_fd);
    if (err) {
        err = err == ERR_NOT_FOUND ? ERR_EIO : err;
        goto release_from;
    }
    uint64_t copied = 0;
    if (there) err = copy_objects(fs, from_fd, io->offset, to_fd, io->to_offset, there, &copied);
    /* A short copy of what is there: the source's object ended, and zeros follow, unless the rest
     * could not be copied. */
    struct stat stat;
    if (!err && copied < there && fstat(from_fd, &stat)) err = object_err(errno);
    bool partial = !err && copied < there && io->offset + copied < (uint64_t)stat.st_size;
    uint64_t zeros = 0;
    if (!err && !partial && copied < size)
        err = zero_object(fs, to_fd, io->to_offset + copied, size - copied, &zeros);
    if (copied + zeros) err = ERR_NONE;
    if (!err) {
        io->result = copied + zeros;
        data_changed(to, to_fd, io->to_offset + io->result, cuts);
    }
    fd_release(to);
release_from:
    if (from_fd >= 0) fd_release(from);
    return err;
}

enum err data_copy(struct fs_client *client, struct fs_io *io)
{
    struct open_inode *from = io->file->inode;
    struct open_inode *to = io->to->inode;
    if (io->to->flags & O_APPEND) return ERR_EBADF;
    enum err err = data_cut_held(client, to);
    if (err) return err;
    uint64_t cuts = data_truncate_count(to);
    struct extent extent = data_extent(from);
    io->result = 0;
    if (io->offset >= extent.size || io->size == 0) return ERR_NONE;
    uint64_t size = extent.size - io->offset < io->size ? extent.size - io->offset : io->size;
    if (io->to_offset > FS_FILE_SIZE_MAX || size > FS_FILE_SIZE_MAX - io->to_offset)
        return ERR_EFBIG;
    if (from == to && io->offset < io->to_offset + size && io->to_offset < io->offset + size)
        return ERR_EINVAL;
    uint64_t there = extent.bound <= io->offset         ? 0
                     : extent.bound - io->offset < size ? extent.bound - io->offset
                                                        : size;
    return copy_range(io, size, there, cuts);
}
