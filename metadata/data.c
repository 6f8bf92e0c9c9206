/* File data: one object per file, made at the first write.
 *
 * What a byte of a file is: behind `size` nothing; behind `truncate_to` (when a cut is due) zero;
 * else the object's byte, and zero where the object has none. So an object may be shorter than its
 * file, and, until the cut is made, longer.
 *
 * Truncation. The row gets the new size at once, in a transaction that also makes an orphan row
 * saying where the object must be cut. The cut itself waits until that transaction is on disk
 * (db_flush): a crash before it leaves the old size and all old bytes, a crash after it leaves the
 * orphan row, which makes the next life cut. Writing needs the cut done first; reading only
 * respects it.
 *
 * A write holds `data` exclusively from the choice of its offset (O_APPEND) to the new size, so
 * appends do not mix. A truncation by a worker takes no such lock: it may come while a write is
 * under way, and the write then counts as before it.
 *
 * An object is changed under the lease (lease.c), which may end while a thread waits for `data`, or
 * for the disk: so it is looked at before every step, each of which is of a bounded size.
 *
 * Errors of syncing are kept per file and reported once to every handle, as Linux does. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "metadata/data.h"
#include "metadata/device.h"
#include "metadata/fd.h"
#include "metadata/io.h"
#include "metadata/lease.h"
#include "metadata/open.h"

#define DAY_NS (INT64_C(86400) * 1000000000)

/* ---- sizes and times ---- */

/* Like relatime: when it was not read since the last change, or not for a day. */
static void file_touch_atime(struct open_inode *inode, const struct fs_file *file)
{
    if (!inode->fs->relatime || (file->flags & O_NOATIME)) return;
    pthread_mutex_lock(&inode->mutex);
    int64_t now = fs_now();
    bool due = !(inode->flags & FS_NOATIME_FL) &&
               (inode->atime <= inode->mtime || inode->atime <= inode->ctime ||
                inode->atime < now - DAY_NS);
    if (due) {
        inode->atime = now;
        open_mark_dirty(inode, DIRTY_ATIME);
    }
    pthread_mutex_unlock(&inode->mutex);
}

/* A change of data ended: the size is at least `end`, unless a truncation came in between. */
void data_changed(struct open_inode *inode, int fd, uint64_t end, uint64_t truncate_count)
{
    struct stat stat;
    bool known = fstat(fd, &stat) == 0;
    pthread_mutex_lock(&inode->mutex);
    int64_t now = fs_now();
    if (inode->truncate_count == truncate_count && end > inode->size) inode->size = end;
    if (known) inode->blocks = (uint64_t)stat.st_blocks;
    inode->mtime = now;
    if (now > inode->ctime) inode->ctime = now;
    open_mark_dirty(inode, DIRTY_SIZE | DIRTY_MTIME);
    pthread_mutex_unlock(&inode->mutex);
}

/* ---- cutting ---- */

/* The cut is done: the orphan row goes, or, when the file has no name any more, stays for the
 * purge. Left as it is when a later truncation has made it say something else. */
static enum err cut_settle(struct fs_client *client, struct open_inode *inode, int64_t since)
{
    struct program *program = client_begin(client, ino_home(inode->ino));
    struct operand key = operand_u64(inode->ino);
    const struct table_def *table = client_table(client, TABLE_ORPHAN);
    uint8_t row = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    uint8_t purge = program_update(program, table, &key, ERR_ESTALE);
    when_compare(program, EXPR_EQ, row, INODE_NLINK, 0);
    guard_equal_i64(program, purge, ORPHAN_SINCE, since, ERR_ESTALE);
    set_u64(program, ORPHAN_SIZE, TRUNCATE_NONE);
    uint8_t orphan = program_delete(program, table, &key, ERR_ESTALE);
    when_compare(program, EXPR_GT, row, INODE_NLINK, 0);
    guard_equal_i64(program, orphan, ORPHAN_SINCE, since, ERR_ESTALE);
    enum err err = client_run(client);
    return err == ERR_ESTALE ? ERR_NONE : err;
}

/* With `data` held exclusively. */
static enum err cut(struct fs_client *client, struct open_inode *inode)
{
    pthread_mutex_lock(&inode->mutex);
    while (inode->truncating)
        pthread_cond_wait(&inode->settled, &inode->mutex);
    uint64_t to = inode->truncate_to;
    int64_t since = inode->truncate_since;
    uint64_t truncate_count = inode->truncate_count;
    uint64_t committed = inode->truncated_ns;
    pthread_mutex_unlock(&inode->mutex);
    if (to == TRUNCATE_NONE) return ERR_NONE;

    int fd;
    enum err err = fd_acquire(inode, false, &fd);
    if (err && err != ERR_NOT_FOUND) return err;
    if (!err) {
        struct stat stat;
        if (fstat(fd, &stat)) err = object_err(errno);
        if (!err && (uint64_t)stat.st_size > to) {
            if (committed >= atomic_load(&inode->fs->flushed_ns)) err = client_flush(client);
            if (!err) err = lease_wait(inode->fs);
            if (!err && ftruncate(fd, (off_t)to)) err = object_err(errno);
            if (!err && fstat(fd, &stat)) err = object_err(errno);
        }
        fd_release(inode);
        if (err) return err;
        pthread_mutex_lock(&inode->mutex);
        if (inode->blocks != (uint64_t)stat.st_blocks) {
            inode->blocks = (uint64_t)stat.st_blocks;
            open_mark_dirty(inode, DIRTY_SIZE);
        }
        pthread_mutex_unlock(&inode->mutex);
    }
    pthread_mutex_lock(&inode->mutex);
    bool current = inode->truncate_count == truncate_count && !inode->truncating;
    if (current) inode->truncate_to = TRUNCATE_NONE;
    pthread_mutex_unlock(&inode->mutex);
    if (!current) return ERR_STALE;
    struct retry retry = {0};
    do
        err = cut_settle(client, inode, since);
    while (client_again(client, &retry, &err));
    return err;
}

/* cut() again as long as truncations come in between. */
enum err data_cut_held(struct fs_client *client, struct open_inode *inode)
{
    enum err err;
    do
        err = cut(client, inode);
    while (err == ERR_STALE);
    return err;
}

enum err data_cut(struct fs_client *client, struct open_inode *inode)
{
    pthread_rwlock_wrlock(&inode->data);
    enum err err = data_cut_held(client, inode);
    pthread_rwlock_unlock(&inode->data);
    return err;
}

/* ---- reading ---- */

struct extent data_extent(struct open_inode *inode)
{
    pthread_mutex_lock(&inode->mutex);
    struct extent extent = {.size = inode->size, .bound = inode->size};
    if (inode->truncate_to < extent.bound) extent.bound = inode->truncate_to;
    pthread_mutex_unlock(&inode->mutex);
    return extent;
}

static enum err read_object(int fd, uint8_t *bytes, uint64_t offset, uint64_t size)
{
    while (size) {
        ssize_t got = pread(fd, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return object_err(errno);
        if (got == 0) break;
        bytes += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    memset(bytes, 0, size);
    return ERR_NONE;
}

static enum err run_read(struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    struct extent extent = data_extent(inode);
    io->result = 0;
    if (io->offset >= extent.size || io->size == 0) return ERR_NONE;
    uint64_t size = extent.size - io->offset < io->size ? extent.size - io->offset : io->size;
    uint64_t there = extent.bound <= io->offset         ? 0
                     : extent.bound - io->offset < size ? extent.bound - io->offset
                                                        : size;
    int fd = -1;
    enum err err = there ? fd_acquire(inode, false, &fd) : ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND) {
        there = 0;
        err = ERR_NONE;
    }
    if (!err && there) err = read_object(fd, io->bytes, io->offset, there);
    if (fd >= 0) fd_release(inode);
    if (err) return err;
    memset((uint8_t *)io->bytes + there, 0, size - there);
    io->result = size;
    return ERR_NONE;
}

/* Reads what the page cache has, without ever blocking. False: the I/O threads must do it. */
static bool read_at_once(struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    if (pthread_rwlock_tryrdlock(&inode->data)) return false;
    bool done = false;
    struct extent extent = data_extent(inode);
    if (io->offset >= extent.size || io->size == 0) {
        io->result = 0;
        done = true;
    } else {
        uint64_t size = extent.size - io->offset < io->size ? extent.size - io->offset : io->size;
        int fd = io->offset + size <= extent.bound ? fd_acquire_open(inode) : -1;
        if (fd >= 0) {
            struct iovec iovec = {.iov_base = io->bytes, .iov_len = size};
            ssize_t got = preadv2(fd, &iovec, 1, (off_t)io->offset, RWF_NOWAIT);
            done = got >= 0 && (uint64_t)got == size;
            io->result = size;
            fd_release(inode);
        }
    }
    pthread_rwlock_unlock(&inode->data);
    return done;
}

/* ---- writing ---- */

static bool writes(const struct fs_file *file)
{
    return (file->flags & O_ACCMODE) != O_RDONLY;
}

static bool reads(const struct fs_file *file)
{
    return (file->flags & O_ACCMODE) != O_WRONLY;
}

uint64_t data_truncate_count(struct open_inode *inode)
{
    pthread_mutex_lock(&inode->mutex);
    uint64_t count = inode->truncate_count;
    pthread_mutex_unlock(&inode->mutex);
    return count;
}

static enum err run_write(struct fs_client *client, struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    enum err err = data_cut_held(client, inode);
    if (err) return err;
    uint64_t cuts = data_truncate_count(inode);
    uint64_t offset =
        (io->file->flags & O_APPEND) && !io->at_offset ? data_extent(inode).size : io->offset;
    io->result = 0;
    if (io->size == 0) return ERR_NONE;
    if (offset >= FS_FILE_SIZE_MAX) return ERR_EFBIG;
    uint64_t size = FS_FILE_SIZE_MAX - offset < io->size ? FS_FILE_SIZE_MAX - offset : io->size;
    err = lease_wait(inode->fs);
    if (err) return err;
    int fd;
    err = fd_acquire(inode, true, &fd);
    if (err) return err == ERR_NOT_FOUND ? ERR_EIO : err;
    uint64_t done = 0;
    while (done < size && !err) {
        err = lease_wait(inode->fs);
        if (err) break;
        uint64_t step = size - done < DATA_STEP_SIZE ? size - done : DATA_STEP_SIZE;
        ssize_t put = pwrite(fd, (const uint8_t *)io->bytes + done, step, (off_t)(offset + done));
        if (put > 0)
            done += (uint64_t)put;
        else if (put == 0)
            err = ERR_EIO;
        else if (errno != EINTR)
            err = object_err(errno);
    }
    if (done) {
        data_changed(inode, fd, offset + done, cuts);
        err = ERR_NONE; /* a part is a success; the rest gets the error when it is tried again */
    }
    fd_release(inode);
    io->result = done;
    return err;
}

/* ---- syncing ---- */

static void error_record(struct open_inode *inode, enum err err)
{
    pthread_mutex_lock(&inode->mutex);
    inode->error = err;
    inode->error_count++;
    pthread_mutex_unlock(&inode->mutex);
}

/* An error that this handle has not been told yet. */
static enum err error_take(struct fs_file *file)
{
    struct open_inode *inode = file->inode;
    pthread_mutex_lock(&inode->mutex);
    enum err err = ERR_NONE;
    if (atomic_load(&file->error_seen) != inode->error_count) {
        err = inode->error;
        atomic_store(&file->error_seen, inode->error_count);
    }
    pthread_mutex_unlock(&inode->mutex);
    return err;
}

static enum err sync_object(struct open_inode *inode)
{
    int fd;
    /* Only for the descriptor: others go on writing while this waits for the disk. */
    pthread_rwlock_rdlock(&inode->data);
    enum err err = fd_acquire(inode, false, &fd);
    pthread_rwlock_unlock(&inode->data);
    if (err) return err == ERR_NOT_FOUND ? ERR_NONE : err;
    if (fdatasync(fd)) err = object_err(errno);
    fd_release(inode);
    pthread_mutex_lock(&inode->mutex);
    bool name = inode->name_unsynced;
    pthread_mutex_unlock(&inode->mutex);
    if (err || !name) return err;
    err = object_sync_name(inode->fs->device,
                           (struct object_id){.ino = inode->ino, .life = inode->generation});
    if (err) return err;
    pthread_mutex_lock(&inode->mutex);
    inode->name_unsynced = false;
    pthread_mutex_unlock(&inode->mutex);
    return ERR_NONE;
}

enum err data_sync(struct fs_client *client, struct open_inode *inode)
{
    enum err err = sync_object(inode);
    if (err) error_record(inode, err);
    if (!err) err = open_report(client, inode);
    if (!err) err = client_flush(client);
    return err;
}

static enum err run_fsync(struct fs_client *client, struct fs_file *file)
{
    enum err err = data_sync(client, file->inode);
    enum err recorded = error_take(file);
    return err ? err : recorded;
}

/* ---- operations ---- */

/* Both locks, the lower address first. */
static void copy_lock(struct open_inode *from, struct open_inode *to)
{
    if (from < to) pthread_rwlock_rdlock(&from->data);
    pthread_rwlock_wrlock(&to->data);
    if (from > to) pthread_rwlock_rdlock(&from->data);
}

static void copy_unlock(struct open_inode *from, struct open_inode *to)
{
    pthread_rwlock_unlock(&to->data);
    if (from != to) pthread_rwlock_unlock(&from->data);
}

static bool syncs(const struct fs_file *file)
{
    return (file->flags & (O_SYNC | O_DSYNC)) != 0;
}

void io_run(struct fs_client *client, struct fs_io *io)
{
    struct open_inode *inode = io->file->inode;
    enum err err = ERR_NONE;
    switch ((enum io_op)io->op) {
    case IO_READ:
        pthread_rwlock_rdlock(&inode->data);
        err = run_read(io);
        pthread_rwlock_unlock(&inode->data);
        if (!err && io->result) file_touch_atime(inode, io->file);
        break;
    case IO_WRITE:
        err = lease_wait(client->fs);
        if (err) break;
        pthread_rwlock_wrlock(&inode->data);
        err = run_write(client, io);
        pthread_rwlock_unlock(&inode->data);
        if (!err && syncs(io->file)) err = run_fsync(client, io->file);
        break;
    case IO_FALLOCATE:
        err = lease_wait(client->fs);
        if (err) break;
        pthread_rwlock_wrlock(&inode->data);
        err = data_fallocate(client, io);
        pthread_rwlock_unlock(&inode->data);
        if (!err && syncs(io->file)) err = run_fsync(client, io->file);
        break;
    case IO_SEEK:
        pthread_rwlock_rdlock(&inode->data);
        err = data_seek(io);
        pthread_rwlock_unlock(&inode->data);
        break;
    case IO_COPY:
        err = lease_wait(client->fs);
        if (err) break;
        copy_lock(inode, io->to->inode);
        err = data_copy(client, io);
        copy_unlock(inode, io->to->inode);
        if (!err && io->result && syncs(io->to)) err = run_fsync(client, io->to);
        if (!err && io->result) file_touch_atime(inode, io->file);
        break;
    case IO_FSYNC:
        err = run_fsync(client, io->file);
        break;
    }
    io->err = err;
    io->done(io);
}

static void refuse(struct fs_io *io, enum err err)
{
    io->err = err;
    io->result = 0;
    io->done(io);
}

void fs_read(struct fs_client *client, struct fs_io *io)
{
    if (!reads(io->file)) {
        refuse(io, ERR_EBADF);
        return;
    }
    if (lease_check(client->fs)) {
        refuse(io, ERR_EIO);
        return;
    }
    if (read_at_once(io)) {
        io->err = ERR_NONE;
        if (io->result) file_touch_atime(io->file->inode, io->file);
        io->done(io);
        return;
    }
    io_submit(client->fs, io, IO_READ);
}

void fs_write(struct fs_client *client, struct fs_io *io)
{
    if (!writes(io->file))
        refuse(io, ERR_EBADF);
    else
        io_submit(client->fs, io, IO_WRITE);
}

void fs_fallocate(struct fs_client *client, struct fs_io *io)
{
    if (!writes(io->file))
        refuse(io, ERR_EBADF);
    else
        io_submit(client->fs, io, IO_FALLOCATE);
}

void fs_seek(struct fs_client *client, struct fs_io *io)
{
    io_submit(client->fs, io, IO_SEEK);
}

void fs_copy(struct fs_client *client, struct fs_io *io)
{
    if (!reads(io->file) || !writes(io->to))
        refuse(io, ERR_EBADF);
    else
        io_submit(client->fs, io, IO_COPY);
}

void fs_fsync(struct fs_client *client, struct fs_io *io)
{
    io_submit(client->fs, io, IO_FSYNC);
}

enum err fs_flush_file(struct fs_client *client, struct fs_file *file)
{
    enum err err = open_report(client, file->inode);
    enum err recorded = error_take(file);
    return err ? err : recorded;
}

enum err fs_release_file(struct fs_client *client, struct fs_file *file)
{
    /* What cannot be reported now stays in the dirty list, which holds the inode, and is tried
     * again. */
    enum err err = open_report(client, file->inode);
    open_put(file->inode);
    free(file);
    return err;
}

enum err fs_report(struct fs_client *client)
{
    return open_report_all(client, UINT64_MAX);
}

enum err fs_sync(struct fs_client *client)
{
    enum err err = open_report_all(client, UINT64_MAX);
    enum err flushed = client_flush(client);
    return err ? err : flushed;
}
