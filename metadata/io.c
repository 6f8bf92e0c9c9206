/* The I/O threads and their queue.
 *
 * One queue, first in first out, for all threads; each has a client of its own, on which it sleeps
 * while a worker runs its program. Workers never wait for an I/O thread, so I/O threads may wait
 * for workers, and no circle can form. */
#include "metadata/io.h"

#include <pthread.h>
#include <stdlib.h>

struct io_pool {
    struct fs *fs;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct fs_io *first;
    struct fs_io *last;
    uint32_t idle;
    bool ending;
    unsigned started; /* threads that have said how their start went */
    enum err start_err;
    unsigned thread_count;
    pthread_t threads[];
};

enum { IO_THREADS_DEFAULT = 4, IO_THREADS_MAX = 256 };

static void serve(struct io_pool *pool, struct fs_client *client)
{
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->first && !pool->ending) {
            pool->idle++;
            pthread_cond_wait(&pool->changed, &pool->mutex);
            pool->idle--;
        }
        struct fs_io *io = pool->first;
        if (!io) break;
        pool->first = io->next;
        if (!pool->first) pool->last = NULL;
        pthread_mutex_unlock(&pool->mutex);
        io_run(client, io);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void *io_thread(void *argument)
{
    struct io_pool *pool = argument;
    struct db_client *db = NULL;
    struct fs_client *client = NULL;
    enum err err = db_client_create(pool->fs->db, &db);
    if (!err) err = fs_client_create(pool->fs, db, &client);
    pthread_mutex_lock(&pool->mutex);
    pool->started++;
    if (err) pool->start_err = err;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
    if (!err) serve(pool, client);
    fs_client_destroy(client);
    db_client_destroy(db);
    return NULL;
}

static void pool_end(struct io_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->ending = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->thread_count; i++)
        (void)pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

enum err io_create(struct fs *fs, unsigned threads)
{
    if (threads == 0) threads = IO_THREADS_DEFAULT;
    if (threads > IO_THREADS_MAX) threads = IO_THREADS_MAX;
    struct io_pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
    if (!pool) return ERR_NO_MEMORY;
    pool->fs = fs;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->changed, NULL);
    enum err err = ERR_NONE;
    while (pool->thread_count < threads && !err) {
        if (pthread_create(&pool->threads[pool->thread_count], NULL, io_thread, pool))
            err = ERR_NO_MEMORY;
        else
            pool->thread_count++;
    }
    pthread_mutex_lock(&pool->mutex);
    while (pool->started < pool->thread_count)
        pthread_cond_wait(&pool->changed, &pool->mutex);
    if (!err) err = pool->start_err;
    pthread_mutex_unlock(&pool->mutex);
    if (err) {
        pool_end(pool);
        return err;
    }
    fs->io = pool;
    return ERR_NONE;
}

void io_destroy(struct fs *fs)
{
    if (!fs->io) return;
    pool_end(fs->io);
    fs->io = NULL;
}

void io_submit(struct fs *fs, struct fs_io *io, enum io_op op)
{
    struct io_pool *pool = fs->io;
    io->op = (uint8_t)op;
    io->next = NULL;
    pthread_mutex_lock(&pool->mutex);
    if (pool->last)
        pool->last->next = io;
    else
        pool->first = io;
    pool->last = io;
    bool wake = pool->idle > 0;
    pthread_mutex_unlock(&pool->mutex);
    if (wake) pthread_cond_signal(&pool->changed);
}
