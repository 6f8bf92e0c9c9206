/* The descriptor cache.
 *
 * One for the process, as the limit it watches over is: a list of open descriptors, the one used
 * longest ago first. When there are as many as allowed (half of what the process may have), or the
 * system refuses another, the oldest that no operation is using is closed; its inode opens it again
 * when it needs it.
 *
 * Opening blocks on the disk, so it is done without the lock; of two that open the same object at
 * once the second closes its own again. The first opening in a life looks at the object's length:
 * what lies behind the size that the row had then was written by a life that ended before it could
 * report it, and is cut off. The caller holds inode->data, so nobody writes meanwhile. */
#include "metadata/fd.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/device.h"
#include "metadata/lease.h"

static struct {
    pthread_mutex_t mutex;
    struct open_inode *oldest;
    struct open_inode *newest;
    uint32_t count; /* open, or about to be */
    uint32_t count_max;
} cache = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void cache_unlink(struct open_inode *inode)
{
    if (inode->fd_older)
        inode->fd_older->fd_newer = inode->fd_newer;
    else
        cache.oldest = inode->fd_newer;
    if (inode->fd_newer)
        inode->fd_newer->fd_older = inode->fd_older;
    else
        cache.newest = inode->fd_older;
    inode->fd_older = NULL;
    inode->fd_newer = NULL;
}

static void cache_append(struct open_inode *inode)
{
    inode->fd_older = cache.newest;
    inode->fd_newer = NULL;
    if (cache.newest)
        cache.newest->fd_newer = inode;
    else
        cache.oldest = inode;
    cache.newest = inode;
}

static uint32_t count_limit(void)
{
    struct rlimit limit;
    uint64_t files = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) files = limit.rlim_cur;
    if (files > 1 << 20) files = 1 << 20;
    return files < 64 ? 32 : (uint32_t)files / 2;
}

/* Takes the oldest idle descriptor out; -1 when all are in use. */
static int cache_evict(void)
{
    struct open_inode *inode = cache.oldest;
    while (inode && inode->fd_users)
        inode = inode->fd_newer;
    if (!inode) return -1;
    cache_unlink(inode);
    int fd = inode->fd;
    inode->fd = -1;
    cache.count--;
    return fd;
}

/* With the lock held; it is let go to close. */
static bool cache_close_one(void)
{
    int fd = cache_evict();
    if (fd < 0) return false;
    pthread_mutex_unlock(&cache.mutex);
    (void)close(fd);
    pthread_mutex_lock(&cache.mutex);
    return true;
}

static int use(struct open_inode *inode)
{
    if (inode->fd < 0) return -1;
    inode->fd_users++;
    if (inode->fd_newer) {
        cache_unlink(inode);
        cache_append(inode);
    }
    return inode->fd;
}

int fd_acquire_open(struct open_inode *inode)
{
    pthread_mutex_lock(&cache.mutex);
    int fd = use(inode);
    pthread_mutex_unlock(&cache.mutex);
    return fd;
}

void fd_release(struct open_inode *inode)
{
    pthread_mutex_lock(&cache.mutex);
    inode->fd_users--;
    pthread_mutex_unlock(&cache.mutex);
}

enum object_state open_object_state(struct open_inode *inode)
{
    pthread_mutex_lock(&cache.mutex);
    enum object_state state = inode->object;
    pthread_mutex_unlock(&cache.mutex);
    return state;
}

void fd_forget(struct open_inode *inode)
{
    pthread_mutex_lock(&cache.mutex);
    int fd = inode->fd;
    ASSERT(inode->fd_users == 0);
    if (fd >= 0) {
        cache_unlink(inode);
        inode->fd = -1;
        cache.count--;
    }
    pthread_mutex_unlock(&cache.mutex);
    if (fd >= 0) (void)close(fd);
}

/* Opens the object; closes others as long as there are none to be had. */
static enum err open_object(struct open_inode *inode, bool create, bool *ret_created, int *ret_fd)
{
    struct object_id id = {.ino = inode->ino, .life = inode->generation};
    for (;;) {
        enum err err = object_open(inode->fs->device, id, create, ret_created, ret_fd);
        if (err != ERR_BUSY) return err;
        pthread_mutex_lock(&cache.mutex);
        bool closed = cache_close_one();
        pthread_mutex_unlock(&cache.mutex);
        if (!closed) return ERR_BUSY;
    }
}

static enum err cut_leftover(const struct open_inode *inode, int fd)
{
    struct stat stat;
    if (fstat(fd, &stat)) return object_err(errno);
    if ((uint64_t)stat.st_size <= inode->size_opened) return ERR_NONE;
    /* Or another server has written it since. */
    enum err err = lease_wait(inode->fs);
    if (err) return err;
    return ftruncate(fd, (off_t)inode->size_opened) ? object_err(errno) : ERR_NONE;
}

/* What to tell of a missing object: one that was there is damage. */
static enum err missing(struct open_inode *inode)
{
    if (inode->object == OBJECT_THERE) return ERR_EIO;
    inode->object = OBJECT_MISSING;
    return ERR_NOT_FOUND;
}

enum err fd_acquire(struct open_inode *inode, bool create, int *ret_fd)
{
    pthread_mutex_lock(&cache.mutex);
    if (!cache.count_max) cache.count_max = count_limit();
    int fd = use(inode);
    enum object_state state = inode->object;
    if (fd >= 0 || (state == OBJECT_MISSING && !create)) {
        pthread_mutex_unlock(&cache.mutex);
        if (fd < 0) return ERR_NOT_FOUND;
        *ret_fd = fd;
        return ERR_NONE;
    }
    while (cache.count >= cache.count_max && cache_close_one())
        ;
    cache.count++;
    pthread_mutex_unlock(&cache.mutex);

    bool created = false;
    /* What has been there and is gone is damage, not a file to make anew. */
    enum err err = open_object(inode, create && state != OBJECT_THERE, &created, &fd);
    bool opened = err == ERR_NONE;
    if (opened && state == OBJECT_UNKNOWN && !created) err = cut_leftover(inode, fd);
    if (created) {
        pthread_mutex_lock(&inode->mutex);
        inode->name_unsynced = true;
        pthread_mutex_unlock(&inode->mutex);
    }

    pthread_mutex_lock(&cache.mutex);
    int unwanted = -1;
    if (err) {
        cache.count--;
        unwanted = opened ? fd : -1;
        if (err == ERR_NOT_FOUND) err = missing(inode);
    } else {
        inode->object = OBJECT_THERE;
        if (inode->fd >= 0) {
            cache.count--;
            unwanted = fd;
        } else {
            inode->fd = fd;
            cache_append(inode);
        }
        *ret_fd = use(inode);
    }
    pthread_mutex_unlock(&cache.mutex);
    if (unwanted >= 0) (void)close(unwanted);
    return err;
}
