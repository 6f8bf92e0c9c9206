/* The environment of a real machine.
 *
 * Files: every path is opened relative to one descriptor of the store directory, so the store stays
 * the same one when the directory is renamed or the process changes its working directory. Reads
 * and writes are positioned and repeated until all is done. A sync is fdatasync(2), which also
 * makes durable the file's size and whatever else is needed to read the data back. A sync that
 * failed once fails for good on that open file: Linux drops the failed pages and reports the error
 * only once, so a later success would say nothing about them.
 *
 * Jobs: an order is a lane, a FIFO queue run by at most one thread at a time; lane 0 (order 0) has
 * no such limit. A lane that has something to run waits in the ready list, so taking a job is O(1).
 * There are LANE_COUNT lanes; orders that share one (they differ by a multiple of LANE_COUNT - 1)
 * also run one after the other, which the contract allows. The mutex guards lanes, ready list and
 * thread count; it is never held while a job runs or its completion is handed over. A job without
 * done() may be freed by its own run(), and one with done() by that, so neither is touched
 * afterwards.
 *
 * Invariants, under the mutex: a lane is in the ready list iff it has jobs and is not running (lane
 * 0: iff it has jobs). Threads start at the first submit, so a program may fork before. */
#include "db/node/env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

enum { LANE_COUNT = 256, IO_THREADS_MAX = 256 };

struct lane {
    struct env_job *first;
    struct env_job *last;
    struct lane *next_ready;
    bool running; /* never set for lane 0 */
};

struct env_posix {
    struct env env;
    int dir_fd;
    env_done_fn done;
    env_wake_fn wake;
    void *node;

    pthread_mutex_t mutex;
    pthread_cond_t work; /* signalled when a lane becomes ready, and at the end */
    struct lane lanes[LANE_COUNT];
    struct lane *ready_first;
    struct lane *ready_last;
    unsigned thread_count_max;
    unsigned thread_count;
    bool started;
    bool stopping;
    pthread_t threads[];
};

struct env_file {
    int fd;
    atomic_int sync_err; /* enum err of the first failed sync */
};

static struct env_posix *posix_of(struct env *env)
{
    return CONTAINER_OF(env, struct env_posix, env);
}

/* --- clock and randomness --- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    ASSERT(!failed);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t posix_monotonic_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t posix_realtime_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME);
}

static void posix_random(struct env *env, void *bytes, size_t size)
{
    (void)env;
    uint8_t *at = bytes;
    while (size) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno == EINTR) continue;
        ASSERT(got > 0); /* with no flags it fails only for a bad pointer */
        at += got;
        size -= (size_t)got;
    }
}

/* --- files --- */

/* The store directory itself may be named "" or ".". */
static const char *path_of(const char *path)
{
    ASSERT(path[0] != '/');
    return path[0] ? path : ".";
}

static enum err posix_file_open(struct env *env, const char *path, unsigned flags,
                                struct env_file **ret)
{
    ASSERT((flags & ENV_OPEN_WRITE) ||
           !(flags & (ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE | ENV_OPEN_TRUNCATE)));
    /* O_NONBLOCK changes nothing for a regular file and keeps a FIFO put there from blocking us. */
    int mode = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    mode |= flags & ENV_OPEN_WRITE ? O_RDWR : O_RDONLY;
    if (flags & ENV_OPEN_CREATE) mode |= O_CREAT;
    if (flags & ENV_OPEN_EXCLUSIVE) mode |= O_EXCL;
    if (flags & ENV_OPEN_TRUNCATE) mode |= O_TRUNC;

    struct env_file *file = malloc(sizeof(*file));
    if (!file) return ERR_NO_MEMORY;
    enum err err;
    int fd;
    do
        fd = openat(posix_of(env)->dir_fd, path_of(path), mode, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        err = err_from_errno(errno);
        goto free_file;
    }
    struct stat stat;
    if (fstat(fd, &stat)) {
        err = err_from_errno(errno);
        goto close_fd;
    }
    if (!S_ISREG(stat.st_mode)) {
        err = ERR_IO;
        goto close_fd;
    }
    file->fd = fd;
    atomic_init(&file->sync_err, ERR_NONE);
    *ret = file;
    return ERR_NONE;

close_fd:
    close(fd);
free_file:
    free(file);
    return err;
}

static enum err posix_file_read(struct env_file *file, void *bytes, size_t size, uint64_t offset,
                                size_t *ret_size)
{
    if (offset > INT64_MAX || size > INT64_MAX - offset) return ERR_INVALID;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(file->fd, (uint8_t *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_from_errno(errno);
        if (got == 0) break;
        done += (size_t)got;
    }
    *ret_size = done;
    return ERR_NONE;
}

static enum err posix_file_write(struct env_file *file, const void *bytes, size_t size,
                                 uint64_t offset)
{
    if (offset > INT64_MAX || size > INT64_MAX - offset) return ERR_INVALID;
    size_t done = 0;
    while (done < size) {
        ssize_t put =
            pwrite(file->fd, (const uint8_t *)bytes + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return err_from_errno(errno);
        if (put == 0) return ERR_IO;
        done += (size_t)put;
    }
    return ERR_NONE;
}

static enum err posix_file_sync(struct env_file *file)
{
    enum err err = (enum err)atomic_load(&file->sync_err);
    if (err) return err;
    int failed;
    do
        failed = fdatasync(file->fd);
    while (failed && errno == EINTR);
    if (!failed) return ERR_NONE;
    err = err_from_errno(errno);
    atomic_store(&file->sync_err, (int)err);
    return err;
}

static enum err posix_file_truncate(struct env_file *file, uint64_t size)
{
    if (size > INT64_MAX) return ERR_INVALID;
    int failed;
    do
        failed = ftruncate(file->fd, (off_t)size);
    while (failed && errno == EINTR);
    return failed ? err_from_errno(errno) : ERR_NONE;
}

static enum err posix_file_size(struct env_file *file, uint64_t *ret_size)
{
    struct stat stat;
    if (fstat(file->fd, &stat)) return err_from_errno(errno);
    *ret_size = (uint64_t)stat.st_size;
    return ERR_NONE;
}

static void posix_file_close(struct env_file *file)
{
    if (!file) return;
    close(file->fd); /* what must be durable was synced; Linux frees the descriptor in any case */
    free(file);
}

/* --- directories --- */

static enum err posix_dir_create(struct env *env, const char *path)
{
    int failed = mkdirat(posix_of(env)->dir_fd, path_of(path), 0700);
    return failed ? err_from_errno(errno) : ERR_NONE;
}

static enum err dir_open(struct env *env, const char *path, int *ret_fd)
{
    int fd;
    do
        fd = openat(posix_of(env)->dir_fd, path_of(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return err_from_errno(errno);
    *ret_fd = fd;
    return ERR_NONE;
}

static enum err posix_dir_list(struct env *env, const char *path,
                               enum err (*each)(void *context, const char *name), void *context)
{
    int fd;
    enum err err = dir_open(env, path, &fd);
    if (err) return err;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno) err = err_from_errno(errno);
            break;
        }
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        err = each(context, entry->d_name);
        if (err) break;
    }
    closedir(dir);
    return err;
}

static enum err posix_dir_sync(struct env *env, const char *path)
{
    int fd;
    enum err err = dir_open(env, path, &fd);
    if (err) return err;
    int failed;
    do
        failed = fsync(fd);
    while (failed && errno == EINTR);
    /* Some file systems keep directories durable by themselves and answer EINVAL. */
    if (failed && errno != EINVAL) err = err_from_errno(errno);
    close(fd);
    return err;
}

static enum err posix_rename(struct env *env, const char *from, const char *to)
{
    int dir_fd = posix_of(env)->dir_fd;
    return renameat(dir_fd, path_of(from), dir_fd, path_of(to)) ? err_from_errno(errno) : ERR_NONE;
}

static enum err posix_remove(struct env *env, const char *path)
{
    int dir_fd = posix_of(env)->dir_fd;
    if (!unlinkat(dir_fd, path_of(path), 0)) return ERR_NONE;
    if (errno == EISDIR && !unlinkat(dir_fd, path_of(path), AT_REMOVEDIR)) return ERR_NONE;
    /* ENOTEMPTY counts as EEXIST on some systems; ours says ERR_IO for both. */
    return errno == EEXIST ? ERR_IO : err_from_errno(errno);
}

static enum err posix_space_free(struct env *env, uint64_t *ret_bytes)
{
    struct statvfs stat;
    if (fstatvfs(posix_of(env)->dir_fd, &stat)) return err_from_errno(errno);
    *ret_bytes = (uint64_t)stat.f_bavail * stat.f_frsize;
    return ERR_NONE;
}

/* --- jobs --- */

static struct lane *lane_of(struct env_posix *posix, uint32_t order)
{
    return &posix->lanes[order ? 1 + (order - 1) % (LANE_COUNT - 1) : 0];
}

static void ready_append(struct env_posix *posix, struct lane *lane)
{
    lane->next_ready = NULL;
    if (posix->ready_last)
        posix->ready_last->next_ready = lane;
    else
        posix->ready_first = lane;
    posix->ready_last = lane;
    pthread_cond_signal(&posix->work);
}

/* Takes the first job of the lane that is ready longest; NULL when there is none. */
static struct env_job *ready_take(struct env_posix *posix, struct lane **ret_lane)
{
    struct lane *lane = posix->ready_first;
    if (!lane) return NULL;
    posix->ready_first = lane->next_ready;
    if (!posix->ready_first) posix->ready_last = NULL;
    struct env_job *job = lane->first;
    lane->first = job->next;
    if (!lane->first) lane->last = NULL;
    if (lane != posix->lanes)
        lane->running = true;
    else if (lane->first)
        ready_append(posix, lane);
    *ret_lane = lane;
    return job;
}

/* Called and returns with the mutex held, which is released while the job runs. */
static void job_run(struct env_posix *posix, struct lane *lane, struct env_job *job)
{
    env_done_fn done = posix->done;
    void *node = posix->node;
    pthread_mutex_unlock(&posix->mutex);
    bool has_done = job->done != NULL;
    job->run(job);
    if (has_done) {
        ASSERT(done);
        done(node, job);
    }
    pthread_mutex_lock(&posix->mutex);
    if (lane->running) {
        lane->running = false;
        if (lane->first) ready_append(posix, lane);
    }
}

static void *io_thread(void *argument)
{
    struct env_posix *posix = argument;
    pthread_mutex_lock(&posix->mutex);
    for (;;) {
        struct lane *lane;
        struct env_job *job = ready_take(posix, &lane);
        if (job)
            job_run(posix, lane, job);
        else if (posix->stopping)
            break; /* what a running job still submits, its own thread takes */
        else
            pthread_cond_wait(&posix->work, &posix->mutex);
    }
    pthread_mutex_unlock(&posix->mutex);
    return NULL;
}

/* With the mutex held. Fewer threads than wished are enough; see submit for none. */
static void threads_start(struct env_posix *posix)
{
    /* Signals are for the program's own threads. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    posix->started = true;
    while (posix->thread_count < posix->thread_count_max) {
        pthread_t *thread = &posix->threads[posix->thread_count];
        if (pthread_create(thread, NULL, io_thread, posix)) break;
        pthread_setname_np(*thread, "trellis-io");
        posix->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void posix_submit(struct env *env, struct env_job *job, uint32_t order)
{
    struct env_posix *posix = posix_of(env);
    job->next = NULL;
    pthread_mutex_lock(&posix->mutex);
    if (!posix->started) threads_start(posix);
    struct lane *lane = lane_of(posix, order);
    bool was_empty = !lane->first;
    if (was_empty)
        lane->first = job;
    else
        lane->last->next = job;
    lane->last = job;
    if (was_empty && !lane->running) ready_append(posix, lane);
    if (posix->thread_count == 0) {
        /* The system gave us no thread at all: blocking the caller is better than never running it.
         */
        struct lane *ready;
        while ((job = ready_take(posix, &ready)) != NULL)
            job_run(posix, ready, job);
    }
    pthread_mutex_unlock(&posix->mutex);
}

static void posix_wake(struct env *env, uint16_t worker)
{
    struct env_posix *posix = posix_of(env);
    pthread_mutex_lock(&posix->mutex);
    env_wake_fn wake = posix->wake;
    void *node = posix->node;
    pthread_mutex_unlock(&posix->mutex);
    if (wake) wake(node, worker);
}

/* --- life --- */

static const struct env_ops posix_ops = {
    .monotonic_ns = posix_monotonic_ns,
    .realtime_ns = posix_realtime_ns,
    .random = posix_random,
    .file_open = posix_file_open,
    .file_read = posix_file_read,
    .file_write = posix_file_write,
    .file_sync = posix_file_sync,
    .file_truncate = posix_file_truncate,
    .file_size = posix_file_size,
    .file_close = posix_file_close,
    .dir_create = posix_dir_create,
    .dir_list = posix_dir_list,
    .dir_sync = posix_dir_sync,
    .rename = posix_rename,
    .remove = posix_remove,
    .space_free = posix_space_free,
    .submit = posix_submit,
    .wake = posix_wake,
};

enum err env_posix_create(const struct env_posix_config *config, struct env **ret_env)
{
    if (config->io_threads < 1 || config->io_threads > IO_THREADS_MAX) return ERR_INVALID;
    struct env_posix *posix =
        calloc(1, sizeof(*posix) + config->io_threads * sizeof(posix->threads[0]));
    if (!posix) return ERR_NO_MEMORY;
    enum err err;
    posix->env.ops = &posix_ops;
    posix->done = config->done;
    posix->node = config->node;
    posix->thread_count_max = config->io_threads;
    do
        posix->dir_fd = open(config->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (posix->dir_fd < 0 && errno == EINTR);
    if (posix->dir_fd < 0) {
        err = err_from_errno(errno);
        goto free_posix;
    }
    if (pthread_mutex_init(&posix->mutex, NULL)) {
        err = ERR_NO_MEMORY;
        goto close_dir;
    }
    if (pthread_cond_init(&posix->work, NULL)) {
        err = ERR_NO_MEMORY;
        goto destroy_mutex;
    }
    *ret_env = &posix->env;
    return ERR_NONE;

destroy_mutex:
    pthread_mutex_destroy(&posix->mutex);
close_dir:
    close(posix->dir_fd);
free_posix:
    free(posix);
    return err;
}

void env_posix_set_done(struct env *env, env_done_fn done, void *node)
{
    struct env_posix *posix = posix_of(env);
    pthread_mutex_lock(&posix->mutex);
    posix->done = done;
    posix->node = node;
    pthread_mutex_unlock(&posix->mutex);
}

void env_posix_set_wake(struct env *env, env_wake_fn wake)
{
    struct env_posix *posix = posix_of(env);
    pthread_mutex_lock(&posix->mutex);
    posix->wake = wake;
    pthread_mutex_unlock(&posix->mutex);
}

void env_posix_destroy(struct env *env)
{
    if (!env) return;
    struct env_posix *posix = posix_of(env);
    pthread_mutex_lock(&posix->mutex);
    posix->stopping = true;
    pthread_cond_broadcast(&posix->work);
    pthread_mutex_unlock(&posix->mutex);
    for (unsigned i = 0; i < posix->thread_count; i++)
        pthread_join(posix->threads[i], NULL);
    ASSERT(!posix->ready_first);
    pthread_cond_destroy(&posix->work);
    pthread_mutex_destroy(&posix->mutex);
    close(posix->dir_fd);
    free(posix);
}
