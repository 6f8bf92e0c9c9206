/* The background thread: purges, cuts, late reports, and the sweep after a crash.
 *
 * It sleeps without a timeout while there is nothing to do. Purges wait a moment for others to join
 * them, so that one program (and one flush) serves many. What fails is tried again a moment later;
 * only at the end it is left to the next life, which finds its orphan rows. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metadata/io.h"
#include "metadata/life.h"
#include "metadata/open.h"
#include "metadata/orphan.h"

enum { PURGE_BATCH = 512, PURGE_DELAY_MS = 20, REPORT_AFTER_MS = 1000, AGAIN_AFTER_MS = 1000 };
#define MS_NS UINT64_C(1000000)

struct background {
    struct fs *fs;
    pthread_t thread;
    atomic_bool ending;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t *purges;
    size_t purge_count;
    size_t purge_capacity;
    uint64_t purge_at; /* when the next batch is due */
    struct open_inode **cuts;
    size_t cut_count;
    size_t cut_capacity;
    uint64_t cut_at;     /* not before: the last ones failed, and no other came since */
    uint64_t report_at;  /* not before: the last attempt failed */
    bool drain;          /* report at once what is dirty */
    uint32_t sweep_from; /* first life to sweep; 0: none */
    bool sweep_failed;
    bool busy;
    bool started;
    enum err start_err;
};

/* Room for one more. */
static bool reserve(void **array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) return true;
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(*array, wanted * size);
    if (!grown) return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

void orphan_purge_later(struct fs *fs, uint64_t ino)
{
    struct background *background = fs->background;
    if (!background) return;
    pthread_mutex_lock(&background->mutex);
    if (reserve((void **)&background->purges, &background->purge_capacity, background->purge_count,
                sizeof(uint64_t))) {
        background->purges[background->purge_count++] = ino;
        if (background->purge_count == 1) {
            background->purge_at = fs_monotonic_ns() + PURGE_DELAY_MS * MS_NS;
            pthread_cond_signal(&background->changed);
        }
    }
    pthread_mutex_unlock(&background->mutex);
}

void background_cut_later(struct open_inode *inode)
{
    struct background *background = inode->fs->background;
    pthread_mutex_lock(&background->mutex);
    /* Without memory the cut is made by the next write, or in the next life. */
    if (reserve((void **)&background->cuts, &background->cut_capacity, background->cut_count,
                sizeof(struct open_inode *))) {
        background->cuts[background->cut_count++] = open_ref(inode);
        background->cut_at = 0;
        pthread_cond_signal(&background->changed);
    }
    pthread_mutex_unlock(&background->mutex);
}

void background_wake(struct fs *fs)
{
    struct background *background = fs->background;
    if (!background) return;
    pthread_mutex_lock(&background->mutex);
    pthread_cond_signal(&background->changed);
    pthread_mutex_unlock(&background->mutex);
}

/* ---- the thread ---- */

/* Puts a batch back, behind all others. Without memory it is left to the next life. */
static void purges_again(struct background *background, const uint64_t *inos, size_t count)
{
    while (background->purge_capacity < background->purge_count + count)
        if (!reserve((void **)&background->purges, &background->purge_capacity,
                     background->purge_capacity, sizeof(uint64_t)))
            return;
    memmove(background->purges + count, background->purges,
            background->purge_count * sizeof(uint64_t));
    memcpy(background->purges, inos, count * sizeof(uint64_t));
    background->purge_count += count;
    background->purge_at = fs_monotonic_ns() + AGAIN_AFTER_MS * MS_NS;
}

static void run_purges(struct background *background, struct fs_client *client)
{
    uint64_t inos[PURGE_BATCH];
    size_t count = background->purge_count < PURGE_BATCH ? background->purge_count : PURGE_BATCH;
    for (size_t i = 0; i < count; i++)
        inos[i] = background->purges[--background->purge_count];
    pthread_mutex_unlock(&background->mutex);
    /* Again for the whole batch: what was purged is not found any more. */
    enum err err = orphan_purge(client, inos, count);
    pthread_mutex_lock(&background->mutex);
    if (err && !atomic_load(&background->ending)) purges_again(background, inos, count);
}

/* Queues a cut that failed, whose reference goes with it. False: it is left to the next life. */
static bool cut_again(struct background *background, struct open_inode *inode)
{
    pthread_mutex_lock(&background->mutex);
    bool again = !atomic_load(&background->ending) &&
                 reserve((void **)&background->cuts, &background->cut_capacity,
                         background->cut_count, sizeof(struct open_inode *));
    if (again) {
        if (background->cut_count == 0)
            background->cut_at = fs_monotonic_ns() + AGAIN_AFTER_MS * MS_NS;
        background->cuts[background->cut_count++] = inode;
    }
    pthread_mutex_unlock(&background->mutex);
    return again;
}

static void run_cuts(struct background *background, struct fs_client *client)
{
    struct open_inode **cuts = background->cuts;
    size_t count = background->cut_count;
    background->cuts = NULL;
    background->cut_count = 0;
    background->cut_capacity = 0;
    pthread_mutex_unlock(&background->mutex);
    /* One flush for all of them. A cut that fails has its orphan row, and the next write tries it
     * again, too. */
    if (count > 1) (void)!client_flush(client);
    for (size_t i = 0; i < count; i++) {
        enum err err = data_cut(client, cuts[i]);
        (void)!open_report(client, cuts[i]); /* its blocks */
        if (err && cut_again(background, cuts[i])) continue;
        open_put(cuts[i]);
    }
    free(cuts);
    pthread_mutex_lock(&background->mutex);
}

static void run_reports(struct background *background, struct fs_client *client, uint64_t now)
{
    uint64_t before = background->drain ? UINT64_MAX : now - REPORT_AFTER_MS * MS_NS;
    pthread_mutex_unlock(&background->mutex);
    enum err err = open_report_all(client, before);
    pthread_mutex_lock(&background->mutex);
    if (err) background->report_at = fs_monotonic_ns() + REPORT_AFTER_MS * MS_NS;
}

static void run_sweep(struct background *background, struct fs_client *client)
{
    uint32_t life = background->sweep_from;
    uint32_t last = background->fs->life - 1;
    pthread_mutex_unlock(&background->mutex);
    enum err err = life_sweep(client, life, &background->ending);
    if (!err) err = life_clean(client, life);
    pthread_mutex_lock(&background->mutex);
    /* What failed is left to the next life, which begins with this one. */
    background->sweep_failed = err != ERR_NONE;
    background->sweep_from = err || life == last ? 0 : life + 1;
}

/* When there is something to do; UINT64_MAX: nothing is known of. */
static uint64_t next_due(struct background *background)
{
    uint64_t due = UINT64_MAX;
    if (background->sweep_from) return 0;
    if (background->purge_count) due = background->purge_at;
    if (background->cut_count && background->cut_at < due) due = background->cut_at;
    uint64_t dirty = open_dirty_since(background->fs);
    if (dirty != UINT64_MAX) {
        if (!background->drain) dirty += REPORT_AFTER_MS * MS_NS;
        if (dirty < background->report_at) dirty = background->report_at;
        if (dirty < due) due = dirty;
    }
    return due;
}

static void wait_until(struct background *background, uint64_t due)
{
    background->busy = false;
    pthread_cond_broadcast(&background->changed); /* for background_drain */
    if (due == UINT64_MAX) {
        pthread_cond_wait(&background->changed, &background->mutex);
    } else {
        struct timespec until = {.tv_sec = (time_t)(due / 1000000000u),
                                 .tv_nsec = (long)(due % 1000000000u)};
        (void)pthread_cond_timedwait(&background->changed, &background->mutex, &until);
    }
    background->busy = true;
}

static void serve(struct background *background, struct fs_client *client)
{
    pthread_mutex_lock(&background->mutex);
    background->busy = true;
    for (;;) {
        bool ending = atomic_load(&background->ending);
        uint64_t now = fs_monotonic_ns();
        uint64_t due = next_due(background);
        if (background->cut_count && (ending || background->cut_at <= now))
            run_cuts(background, client);
        else if (background->purge_count && (ending || background->purge_at <= now))
            run_purges(background, client);
        else if (ending)
            break;
        else if (due > now)
            wait_until(background, due);
        else if (background->sweep_from)
            run_sweep(background, client);
        else
            run_reports(background, client, now);
    }
    background->busy = false;
    pthread_mutex_unlock(&background->mutex);
}

static void *background_thread(void *argument)
{
    struct background *background = argument;
    struct db_client *db = NULL;
    struct fs_client *client = NULL;
    enum err err = db_client_create(background->fs->db, &db);
    if (!err) err = fs_client_create(background->fs, db, &client);
    pthread_mutex_lock(&background->mutex);
    background->started = true;
    background->start_err = err;
    pthread_cond_broadcast(&background->changed);
    pthread_mutex_unlock(&background->mutex);
    if (!err) serve(background, client);
    fs_client_destroy(client);
    db_client_destroy(db);
    return NULL;
}

static void background_free(struct background *background)
{
    pthread_cond_destroy(&background->changed);
    pthread_mutex_destroy(&background->mutex);
    for (size_t i = 0; i < background->cut_count; i++)
        open_put(background->cuts[i]);
    free(background->cuts);
    free(background->purges);
    free(background);
}

enum err background_create(struct fs *fs, uint32_t sweep_from)
{
    struct background *background = calloc(1, sizeof(*background));
    if (!background) return ERR_NO_MEMORY;
    background->fs = fs;
    background->sweep_from = sweep_from;
    pthread_mutex_init(&background->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&background->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&background->thread, NULL, background_thread, background)) {
        background_free(background);
        return ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&background->mutex);
    while (!background->started)
        pthread_cond_wait(&background->changed, &background->mutex);
    enum err err = background->start_err;
    pthread_mutex_unlock(&background->mutex);
    if (err) {
        (void)pthread_join(background->thread, NULL);
        background_free(background);
        return err;
    }
    fs->background = background;
    return ERR_NONE;
}

bool background_destroy(struct fs *fs)
{
    struct background *background = fs->background;
    if (!background) return false;
    atomic_store(&background->ending, true);
    pthread_mutex_lock(&background->mutex);
    pthread_cond_broadcast(&background->changed);
    pthread_mutex_unlock(&background->mutex);
    (void)pthread_join(background->thread, NULL);
    bool swept = !background->sweep_from && !background->sweep_failed;
    fs->background = NULL;
    background_free(background);
    return swept;
}

void background_drain(struct fs *fs)
{
    struct background *background = fs->background;
    pthread_mutex_lock(&background->mutex);
    background->drain = true;
    while (background->busy || background->purge_count || background->cut_count ||
           background->sweep_from || open_dirty_since(fs) != UINT64_MAX) {
        background->purge_at = 0;
        background->cut_at = 0;
        pthread_cond_broadcast(&background->changed);
        pthread_cond_wait(&background->changed, &background->mutex);
    }
    background->drain = false;
    pthread_mutex_unlock(&background->mutex);
}
