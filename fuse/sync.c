/* A thread for requests that wait for the disk and have no open file to queue on: fsync of a
 * directory. It has a database client of its own, so that a worker never waits for the disk. */
#include "fuse/serve.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct sync_request {
    struct sync_request *next;
    fuse_req_t req;
    int reply_fd;
};

struct sync_queue {
    struct mount *mount;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct sync_request *first;
    bool ending;
    bool started; /* the thread has its clients, or failed */
    enum err err;
};

/* One flush serves all that were queued before it began: group commit. */
static void serve_batch(struct fs_client *fs, struct sync_request *batch)
{
    enum err err = fs_sync(fs);
    while (batch) {
        struct sync_request *next = batch->next;
        serve_reply_fd = batch->reply_fd;
        (void)fuse_reply_err(batch->req, err_to_errno(err));
        free(batch);
        batch = next;
    }
}

static void *sync_thread(void *argument)
{
    struct sync_queue *queue = argument;
    struct db_client *db_client = NULL;
    struct fs_client *fs = NULL;
    enum err err = db_client_create(queue->mount->db, &db_client);
    if (!err) err = fs_client_create(queue->mount->fs, db_client, &fs);
    pthread_mutex_lock(&queue->mutex);
    queue->started = true;
    queue->err = err;
    pthread_cond_broadcast(&queue->changed);
    while (!err) {
        while (!queue->first && !queue->ending)
            pthread_cond_wait(&queue->changed, &queue->mutex);
        struct sync_request *batch = queue->first;
        queue->first = NULL;
        if (!batch) break;
        pthread_mutex_unlock(&queue->mutex);
        serve_batch(fs, batch);
        pthread_mutex_lock(&queue->mutex);
    }
    pthread_mutex_unlock(&queue->mutex);
    fs_client_destroy(fs);
    db_client_destroy(db_client);
    return NULL;
}

enum err sync_queue_create(struct mount *mount, struct sync_queue **ret_queue)
{
    struct sync_queue *queue = calloc(1, sizeof(*queue));
    if (!queue) return ERR_NO_MEMORY;
    queue->mount = mount;
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->changed, NULL);
    enum err err = ERR_NONE;
    int number = pthread_create(&queue->thread, NULL, sync_thread, queue);
    if (number) {
        err = ERR_NO_MEMORY;
        goto destroy_queue;
    }
    pthread_mutex_lock(&queue->mutex);
    while (!queue->started)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    err = queue->err;
    pthread_mutex_unlock(&queue->mutex);
    if (err) {
        pthread_join(queue->thread, NULL);
        goto destroy_queue;
    }
    *ret_queue = queue;
    return ERR_NONE;
destroy_queue:
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->mutex);
    free(queue);
    return err;
}

void sync_queue_destroy(struct sync_queue *queue)
{
    if (!queue) return;
    pthread_mutex_lock(&queue->mutex);
    queue->ending = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
    pthread_join(queue->thread, NULL);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->mutex);
    free(queue);
}

void sync_queue_add(struct sync_queue *queue, fuse_req_t req, int reply_fd)
{
    struct sync_request *request = malloc(sizeof(*request));
    if (!request) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    *request = (struct sync_request){.req = req, .reply_fd = reply_fd};
    pthread_mutex_lock(&queue->mutex);
    request->next = queue->first;
    queue->first = request;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}
