/* The environment: everything the database core takes from outside itself. Clock, randomness, disk
 * and off-thread work arrive here, so the same code runs on a real machine (env_posix.c) and, from
 * one seed, in the deterministic simulator (env_sim.c).
 *
 * Threads: clock and random from any thread. File calls block, so a worker's loop never makes them:
 * it submits a job, whose run() is called on an I/O thread (in the simulator: at a later simulated
 * time) and may make file calls, and whose done() is called back on the submitting worker's loop.
 * Start-up and recovery, before any loop runs, call the file functions directly. */
#ifndef DB_NODE_ENV_H
#define DB_NODE_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct env;
struct env_file; /* an open file; owned by whoever opened it, closed by file_close */

enum env_open_flags {
    ENV_OPEN_READ = 0,
    ENV_OPEN_WRITE = 1,     /* read and write */
    ENV_OPEN_CREATE = 2,    /* create with mode 0600 when missing; with WRITE */
    ENV_OPEN_EXCLUSIVE = 4, /* with CREATE: ERR_EXISTS when there */
    ENV_OPEN_TRUNCATE = 8,
};

/* Embedded by its owner, who keeps it alive until done() was called. */
struct env_job {
    void (*run)(struct env_job *job); /* on an I/O thread */
    void (*done)(
        struct env_job *job); /* on the loop of `worker`, or NULL: nothing is called back */
    uint16_t worker;          /* index of the worker whose loop gets done() */
    struct env_job *next;     /* the environment's, while queued */
};

struct env_ops {
    /* Nanoseconds since an arbitrary start, never going back. */
    uint64_t (*monotonic_ns)(struct env *env);
    /* Nanoseconds since 1970-01-01 UTC. May step. */
    uint64_t (*realtime_ns)(struct env *env);
    void (*random)(struct env *env, void *bytes, size_t size);

    /* Paths are relative to the store directory, with '/' between parts. Errors: ERR_NOT_FOUND,
     * ERR_EXISTS, ERR_DENIED, ERR_NO_SPACE, ERR_NO_MEMORY, ERR_IO. */
    enum err (*file_open)(struct env *env, const char *path, unsigned flags, struct env_file **ret);
    /* Reads up to size bytes at offset; fewer only at the end of the file. */
    enum err (*file_read)(struct env_file *file, void *bytes, size_t size, uint64_t offset,
                          size_t *ret_size);
    /* Writes all of size or fails; after a failure any part of it may have been written. */
    enum err (*file_write)(struct env_file *file, const void *bytes, size_t size, uint64_t offset);
    /* Data and size are on stable storage when it returns. After a failure nothing about unsynced
     * writes may be assumed, also after a later success; the real environment therefore fails every
     * later sync of the same open file. */
    enum err (*file_sync)(struct env_file *file);
    enum err (*file_truncate)(struct env_file *file, uint64_t size);
    enum err (*file_size)(struct env_file *file, uint64_t *ret_size);
    void (*file_close)(struct env_file *file); /* NULL is allowed */
    enum err (*dir_create)(struct env *env,
                           const char *path); /* mode 0700; ERR_EXISTS is an error */
    /* Calls back with each name in the directory but "." and ".."; stops at the first error
     * returned. */
    enum err (*dir_list)(struct env *env, const char *path,
                         enum err (*each)(void *context, const char *name), void *context);
    /* Creations, renames and removals in the directory are on stable storage when it returns. */
    enum err (*dir_sync)(struct env *env, const char *path);
    enum err (*rename)(struct env *env, const char *from, const char *to); /* replaces `to` */
    enum err (*remove)(struct env *env, const char *path); /* a file or an empty directory */
    /* Bytes free for us on the file system that holds the store. */
    enum err (*space_free)(struct env *env, uint64_t *ret_bytes);

    /* Queues the job. Never fails: the memory is the caller's. Jobs with the same `order` run one
     * after the other in the order of submission; order 0 jobs in any order, in parallel. */
    void (*submit)(struct env *env, struct env_job *job, uint32_t order);
    /* How a finished job, or another thread, gets a worker's attention: the node sets it. Any
     * thread. */
    void (*wake)(struct env *env, uint16_t worker);
};

struct env {
    const struct env_ops *ops;
};

/* What the node gives the environment, so that done() runs in the right loop: called on any thread
 * when a job of that worker is finished; the node queues it to the worker and wakes it. */
typedef void (*env_done_fn)(void *node, struct env_job *job);
/* What ops->wake calls, with the node given beside done: on any thread. */
typedef void (*env_wake_fn)(void *node, uint16_t worker);

struct env_posix_config {
    const char *dir;     /* the store directory, which exists; copied */
    unsigned io_threads; /* at least 1 */
    env_done_fn done;    /* may be set later by env_posix_set_done, before the first submit */
    void *node;
};

/* Files of a real directory (openat under one descriptor), clock_gettime, getrandom, a pool of I/O
 * threads started at the first submit. ERR_NOT_FOUND, ERR_DENIED, ERR_NO_MEMORY. */
MUST_USE enum err env_posix_create(const struct env_posix_config *config, struct env **ret_env);
void env_posix_set_done(struct env *env, env_done_fn done, void *node);
/* Without it ops->wake does nothing. */
void env_posix_set_wake(struct env *env, env_wake_fn wake);
/* Runs the queued jobs to their end and joins the threads. NULL is allowed. */
void env_posix_destroy(struct env *env);

#endif
