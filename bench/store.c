/* A file system without FUSE: see store.h. */
#include "bench/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"

enum { FILL_OWNERS = 100, FILL_PROGRESS = 65536 };

struct posted {
    struct bench_store *store;
    struct db_client *client;
    enum err (*fn)(struct bench_store *store, void *context);
    void *context;
    pthread_mutex_t mutex;
    pthread_cond_t done_changed;
    bool done;
    enum err err;
};

static void run_posted(void *argument)
{
    struct posted *posted = argument;
    struct bench_store *store = posted->store;
    enum err err = ERR_NONE;
    if (!posted->client) err = db_client_on_worker(store->db, 0, &posted->client);
    if (!err && !store->client) err = fs_client_create(store->fs, posted->client, &store->client);
    store->again = false;
    if (!err) err = posted->fn(store, posted->context);
    if (!err && store->again) {
        err = db_post(store->db, 0, run_posted, posted);
        if (!err) return;
    }
    fs_client_destroy(store->client);
    store->client = NULL;
    db_client_destroy(posted->client);
    pthread_mutex_lock(&posted->mutex);
    posted->err = err;
    posted->done = true;
    pthread_cond_signal(&posted->done_changed);
    pthread_mutex_unlock(&posted->mutex);
}

enum err bench_store_run(struct bench_store *store,
                         enum err (*fn)(struct bench_store *store, void *context), void *context)
{
    struct posted posted = {.store = store, .fn = fn, .context = context};
    pthread_mutex_init(&posted.mutex, NULL);
    pthread_cond_init(&posted.done_changed, NULL);
    enum err err = db_post(store->db, 0, run_posted, &posted);
    if (!err) {
        pthread_mutex_lock(&posted.mutex);
        while (!posted.done)
            pthread_cond_wait(&posted.done_changed, &posted.mutex);
        pthread_mutex_unlock(&posted.mutex);
        err = posted.err;
    }
    pthread_cond_destroy(&posted.done_changed);
    pthread_mutex_destroy(&posted.mutex);
    return err;
}

enum err bench_store_open(struct bench_store *store, const char *parent, struct diag *diag)
{
    memset(store, 0, sizeof(*store));
    char *data = NULL;
    if (asprintf(&store->dir, "%s/store", parent) < 0 || asprintf(&data, "%s/data", parent) < 0)
        return diag_set(diag, ERR_NO_MEMORY, "no memory");
    const struct db_config db_config = {.dir = store->dir, .create = true, .worker_count = 1};
    enum err err = db_open_embedded(&db_config, &store->db, diag);
    if (!err) {
        const struct fs_config fs_config = {.db = store->db, .data_dir = data, .relatime = true};
        err = fs_open(&fs_config, &store->fs, diag);
    }
    free(data);
    return err;
}

enum err bench_store_close(struct bench_store *store, struct diag *diag)
{
    enum err err = store->fs ? fs_close(store->fs, diag) : ERR_NONE;
    struct diag second;
    enum err db_err = store->db ? db_close(store->db, err ? &second : diag) : ERR_NONE;
    store->fs = NULL;
    store->db = NULL;
    return err ? err : db_err;
}

void bench_store_remove(struct bench_store *store)
{
    if (store->dir) bench_remove_tree(store->dir);
    free(store->dir);
    store->dir = NULL;
}

static enum err next_dir(struct fs_client *client, struct bench_fill *fill)
{
    if (fill->dir_count == fill->dir_capacity) {
        size_t capacity = fill->dir_capacity ? fill->dir_capacity * 2 : 64;
        uint64_t *grown = realloc(fill->dirs, capacity * sizeof(*grown));
        if (!grown) return ERR_NO_MEMORY;
        fill->dirs = grown;
        fill->dir_capacity = capacity;
    }
    const struct fs_caller root = {0};
    char name[32];
    struct fs_attr attr;
    (void)snprintf(name, sizeof(name), "d%015zu", fill->dir_count);
    enum err err = fs_mkdir(client, &root, FS_ROOT_INO, name, 0755, &attr);
    if (!err) fill->dirs[fill->dir_count++] = attr.ino;
    return err;
}

enum err bench_store_fill(struct bench_store *store, void *context)
{
    struct bench_fill *fill = context;
    uint64_t left = fill->to - fill->from;
    uint64_t to = fill->from + (left < BENCH_FILL_SLICE ? left : BENCH_FILL_SLICE);
    for (uint64_t i = fill->from; i < to; i++) {
        if (i / fill->per_dir == fill->dir_count) {
            enum err err = next_dir(store->client, fill);
            if (err) return err;
        }
        const struct fs_caller caller = {.uid = (uint32_t)(i % FILL_OWNERS) + 1000,
                                         .gid = (uint32_t)(i % 7) + 1000};
        char name[32];
        struct fs_attr attr;
        (void)snprintf(name, sizeof(name), "f%015lu", i);
        enum err err = fs_mknod(store->client, &caller, fill->dirs[i / fill->per_dir], name,
                                S_IFREG | 0644, 0, &attr);
        if (err) return err;
        /* As the kernel would under memory pressure: what it forgets must not count as ours. */
        fs_forget(store->client, attr.ino, 1);
        if (i % FILL_PROGRESS == 0 && isatty(STDERR_FILENO))
            (void)fprintf(stderr, "\r%lu of %lu files\033[K", i, fill->to);
    }
    fill->from = to;
    store->again = to < fill->to;
    if (!store->again && isatty(STDERR_FILENO)) (void)fprintf(stderr, "\r\033[K");
    return ERR_NONE;
}

void bench_fill_fini(struct bench_fill *fill)
{
    free(fill->dirs);
    fill->dirs = NULL;
}

uint64_t bench_resident_bytes(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    if (!status) return 0;
    char line[256];
    uint64_t kib = 0;
    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "VmRSS: %lu", &kib) == 1) break;
    (void)fclose(status);
    return kib * 1024;
}
