/* Opening and closing a store in this process, and what concerns it as a whole.
 *
 * The lock is flock(2) on the store's file `lock`, with the holder's pid as its text, so the kernel
 * releases it however the process ends. It is taken before the store is looked at, also when it is
 * about to be made, and the file stays: removing it would let two processes hold locks on two files
 * of that name. */
#include "db/api/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "db/api/db_private.h"
#include "db/api/loop.h"
#include "db/node/links.h"
#include "db/node/worker_private.h"

static const uint64_t checkpoint_close_bytes = 4u << 20;
static const uint64_t checkpoint_log_bytes_default = UINT64_C(256) << 20;
static const uint64_t checkpoint_interval_ns = 1000000000u;
static const uint64_t query_memory_max_default = UINT64_C(256) << 20;

enum {
    FLUSH_INTERVAL_MS_DEFAULT = 50,
    PARTITION_COUNT_DEFAULT = 8,
    PATH_SIZE_MAX = 4096,
};

/* ---- the directory and its lock ---- */

static enum err path_of(char path[PATH_SIZE_MAX], const char *dir, const char *name,
                        struct diag *diag)
{
    int size = snprintf(path, PATH_SIZE_MAX, "%s/%s", dir, name);
    if (size >= PATH_SIZE_MAX) return diag_set(diag, ERR_INVALID, "%.80s…: path too long", dir);
    return ERR_NONE;
}

static enum err dir_check(const char *dir, bool create, struct diag *diag)
{
    char path[PATH_SIZE_MAX];
    enum err err = path_of(path, dir, "trellis", diag);
    if (err) return err;
    struct stat status;
    if (create && mkdir(dir, 0700) && errno != EEXIST)
        return diag_set(diag, err_from_errno(errno), "%s: %s", dir, strerror(errno));
    if (stat(dir, &status))
        return diag_set(diag, err_from_errno(errno), "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(status.st_mode)) return diag_set(diag, ERR_INVALID, "%s: not a directory", dir);
    if (!create && stat(path, &status)) {
        if (errno != ENOENT)
            return diag_set(diag, err_from_errno(errno), "%s: %s", path, strerror(errno));
        return diag_set(diag, ERR_INVALID, "%s: there is no store here", dir);
    }
    return ERR_NONE;
}

static enum err lock_take(const char *dir, int *ret_fd, bool *ret_made, struct diag *diag)
{
    char path[PATH_SIZE_MAX];
    enum err err = path_of(path, dir, "lock", diag);
    if (err) return err;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool made = fd < 0 && errno == ENOENT;
    if (made) fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return diag_set(diag, err_from_errno(errno), "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        char pid[32] = "";
        ssize_t size = errno == EWOULDBLOCK ? pread(fd, pid, sizeof(pid) - 1, 0) : -1;
        int number = size > 0 ? atoi(pid) : 0;
        if (errno != EWOULDBLOCK && size < 0)
            err = diag_set(diag, err_from_errno(errno), "%s: %s", path, strerror(errno));
        else if (number > 0)
            err = diag_set(diag, ERR_IN_USE, "%s: the store is in use by process %d", dir, number);
        else
            err = diag_set(diag, ERR_IN_USE, "%s: the store is in use by another process", dir);
        close(fd);
        return err;
    }
    char pid[32];
    int size = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    /* Only for the message above; a lock without a pid is as good. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)size, 0) != size) (void)ftruncate(fd, 0);
    *ret_fd = fd;
    *ret_made = made;
    return ERR_NONE;
}

/* A directory that turned out to be somebody else's is left as it was found. */
static void lock_remove(const char *dir)
{
    char path[PATH_SIZE_MAX];
    struct diag ignored;
    if (path_of(path, dir, "lock", &ignored) == ERR_NONE) (void)unlink(path);
}

/* ---- opening ---- */

static enum err config_check(const struct db_config *config, struct diag *diag)
{
    if (!config->dir || !*config->dir) return diag_set(diag, ERR_INVALID, "no store directory");
    if (config->worker_count > WORKERS_MAX)
        return diag_set(diag, ERR_INVALID, "at most %d workers, not %u", WORKERS_MAX,
                        (unsigned)config->worker_count);
    uint16_t count = config->partition_count;
    if (count & (count - 1) || count > PARTITIONS_MAX)
        return diag_set(diag, ERR_INVALID,
                        "the number of partitions must be a power of two up to %d, not %u",
                        PARTITIONS_MAX, (unsigned)count);
    if (config->flush_policy != DB_FLUSH_INTERVAL && config->flush_policy != DB_FLUSH_ALWAYS)
        return diag_set(diag, ERR_INVALID, "unknown flush policy");
    return ERR_NONE;
}

static struct node_config node_config_of(const struct db_config *config, struct env *env)
{
    return (struct node_config){
        .env = env,
        .worker_count = config->worker_count ? config->worker_count : 1,
        .threads = true,
        .flush_always = config->flush_policy == DB_FLUSH_ALWAYS,
        .pin_workers = config->pin_workers,
        .spin = config->link_spin,
        .flush_interval_ms =
            config->flush_interval_ms ? config->flush_interval_ms : FLUSH_INTERVAL_MS_DEFAULT,
        .checkpoint_log_bytes = config->checkpoint_log_bytes ? config->checkpoint_log_bytes
                                                             : checkpoint_log_bytes_default,
        .checkpoint_interval_ns = checkpoint_interval_ns,
        .memory_max = config->memory_max,
        .query_memory_max =
            config->query_memory_max ? config->query_memory_max : query_memory_max_default,
        .progress = config->progress,
        .progress_context = config->progress_context,
        .modules = {&query_module},
    };
}

/* Makes the store if it is to be made and is not there. */
static enum err store_prepare(struct env *env, const struct db_config *config, struct diag *diag)
{
    if (!config->create) return ERR_NONE;
    struct env_file *file;
    enum err err = env->ops->file_open(env, "trellis", ENV_OPEN_READ, &file);
    if (!err) {
        env->ops->file_close(file);
        return ERR_NONE;
    }
    if (err != ERR_NOT_FOUND)
        return diag_set(diag, err, "%s/trellis: %s", config->dir, err_text(err));
    uint16_t partitions =
        config->partition_count ? config->partition_count : (uint16_t)PARTITION_COUNT_DEFAULT;
    return store_create(env, partitions, diag);
}

enum err db_open_embedded(const struct db_config *config, struct db **ret_db, struct diag *diag)
{
    enum err err = config_check(config, diag);
    if (err) return err;
    struct db *db = calloc(1, sizeof(*db));
    if (!db) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    db->lock_fd = -1;
    db->checkpoint_close_bytes = checkpoint_close_bytes;
    err = dir_check(config->dir, config->create, diag);
    if (err) goto free_db;
    bool lock_made;
    err = lock_take(config->dir, &db->lock_fd, &lock_made, diag);
    if (err) goto free_db;
    db->env = config->env;
    if (!db->env) {
        unsigned workers = config->worker_count ? config->worker_count : 1;
        struct env_posix_config env = {.dir = config->dir, .io_threads = workers + 1};
        err = env_posix_create(&env, &db->env);
        if (err) {
            diag_set(diag, err, "%s: %s", config->dir, err_text(err));
            goto unlock;
        }
        db->owns_env = true;
    }
    err = store_prepare(db->env, config, diag);
    if (err == ERR_EXISTS && lock_made) lock_remove(config->dir);
    if (err) goto destroy_env;
    struct node_config node_config = node_config_of(config, db->env);
    err = node_create(&node_config, &db->node, diag);
    if (err) goto destroy_env;
    env_posix_set_done(db->env, node_job_done, db->node);
    env_posix_set_wake(db->env, node_wake);
    err = node_start(db->node, diag);
    if (err) goto stop_node;
    *ret_db = db;
    return ERR_NONE;

stop_node:
    for (uint16_t i = 0; i < db->node->worker_count; i++)
        worker_join(db->node->workers[i]);
    node_destroy(db->node);
destroy_env:
    if (db->owns_env) env_posix_destroy(db->env);
unlock:
    close(db->lock_fd);
free_db:
    free(db);
    return err;
}

/* Redo since the last checkpoints that a close had better replace by new ones. */
static bool checkpoint_is_worthwhile(const struct db *db)
{
    uint64_t bytes = 0;
    for (uint16_t i = 0; i < db->node->worker_count; i++)
        bytes += atomic_load(&db->node->log_bytes[i]);
    return bytes > db->checkpoint_close_bytes;
}

enum err db_close(struct db *db, struct diag *diag)
{
    if (db->remote) {
        remote_close(db->remote);
        free(db);
        return ERR_NONE;
    }
    struct db_client *client = NULL;
    enum err err = db_client_create(db, &client);
    if (!err) err = db_flush(client);
    if (!err && checkpoint_is_worthwhile(db)) {
        /* A checkpoint that fails costs only time at the next start. */
        enum err failed = db_checkpoint(client);
        (void)failed;
    }
    if (err) diag_set(diag, err, "flush: %s", err_text(err));
    db_client_destroy(client);
    enum err stopped = node_stop(db->node, err ? NULL : diag);
    if (!err) err = stopped;
    node_destroy(db->node);
    if (db->owns_env) env_posix_destroy(db->env);
    if (db->lock_fd >= 0) close(db->lock_fd);
    free(db);
    return err;
}

/* ---- other processes ---- */

enum err db_listen(struct db *db, const struct port_address *address,
                   const uint8_t secret[PORT_SECRET_SIZE], struct port_address *ret_bound,
                   struct diag *diag)
{
    if (db->remote)
        return diag_set(diag, ERR_UNSUPPORTED, "only the process that has the store can listen");
    return node_listen(db->node, address, secret, ret_bound, diag);
}

/* ---- the store as a whole ---- */

uint16_t db_worker_count(const struct db *db)
{
    return db->remote ? atomic_load(&db->remote->worker_count) : db->node->worker_count;
}

uint16_t db_loop_count(const struct db *db)
{
    return db->remote ? db->remote->loop_count : db->node->worker_count;
}

uint64_t db_query_memory_max(const struct db *db)
{
    if (!db->remote) return db->node->config.query_memory_max;
    pthread_mutex_lock(&db->remote->mutex);
    uint64_t memory_max = db->remote->info.query_memory_max;
    pthread_mutex_unlock(&db->remote->mutex);
    return memory_max;
}

uint16_t db_partition_count(const struct db *db)
{
    return db->remote ? db->remote->partition_count : db->node->partition_count;
}

uint16_t db_slot_worker(const struct db *db, uint16_t slot)
{
    return db->remote ? remote_slot_worker(db->remote, slot) : node_slot_owner(db->node, slot);
}

void db_store_key(const struct db *db, uint8_t key[16])
{
    memcpy(key, db->remote ? db->remote->key : db->node->info.key, 16);
}

enum err db_health(const struct db *db, struct diag *diag)
{
    if (db->remote) return remote_health(db->remote, diag);
    struct node *node = db->node;
    pthread_mutex_lock(&node->mutex);
    enum err err = node->health_diag.err;
    if (err && diag) *diag = node->health_diag;
    pthread_mutex_unlock(&node->mutex);
    return err;
}

uint32_t db_losses(const struct db *db)
{
    return db->remote ? atomic_load_explicit(&db->remote->losses, memory_order_relaxed) : 0;
}

static bool watch_ready(void *context)
{
    struct db_watch *watch = context;
    return watch->ready(watch);
}

enum err db_watch(struct db *db, uint16_t worker, struct db_watch *watch)
{
    if (worker >= db_loop_count(db)) return ERR_INVALID;
    if (db->remote) return loop_watch(db->remote->loops[worker], watch);
    return node_watch(db->node, worker, watch->fd, watch_ready, watch,
                      watch->spins ? &watch->found : NULL);
}

enum err db_post(struct db *db, uint16_t worker, void (*fn)(void *context), void *context)
{
    if (worker >= db_loop_count(db)) return ERR_INVALID;
    if (db->remote) return loop_post(db->remote->loops[worker], fn, context);
    return node_post(db->node, worker, fn, context);
}

const struct catalog *db_catalog_acquire(struct db *db)
{
    return catalogs_acquire(db->remote ? &db->remote->catalogs : &db->node->catalogs);
}

void db_catalog_release(struct db *db, const struct catalog *catalog)
{
    catalogs_release(db->remote ? &db->remote->catalogs : &db->node->catalogs, catalog);
}

enum err db_flush(struct db_client *client)
{
    uint16_t target = client->worker ? client->worker->index : 0;
    struct signal *reply;
    enum err err = client_call(client, target, SIGNAL_FLUSH, NULL, 0, &reply);
    if (err) return err;
    err = (enum err)reply->header.err;
    signal_destroy(reply);
    if (err || !client->channel) return err;
    /* It is durable, but is it all? Said once to everybody who asks. */
    uint32_t losses = atomic_load(&client->db->remote->losses);
    if (losses == client->losses_seen) return ERR_NONE;
    client->losses_seen = losses;
    return ERR_IO;
}

enum err db_checkpoint(struct db_client *client)
{
    struct signal *replies[WORKERS_MAX];
    uint16_t count;
    enum err err = client_call_all(client, SIGNAL_CHECKPOINT, replies, &count);
    if (err) return err;
    for (uint16_t i = 0; i < count; i++) {
        if (!err) err = (enum err)replies[i]->header.err;
        signal_destroy(replies[i]);
    }
    return err;
}

static void put_json_text(struct buf *buf, const char *text)
{
    buf_put_u8(buf, '"');
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        if (c < ' ')
            buf_printf(buf, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            buf_printf(buf, "\\%c", c);
        else
            buf_put_u8(buf, c);
    }
    buf_put_u8(buf, '"');
}

/* Of the last start. */
static void recovery_counts(const struct db *db, uint64_t *ret_replayed, uint64_t *ret_dropped)
{
    struct remote *remote = db->remote;
    if (!remote) {
        *ret_replayed = db->node->recovery.replayed_count;
        *ret_dropped = db->node->recovery.dropped_count;
        return;
    }
    pthread_mutex_lock(&remote->mutex);
    *ret_replayed = remote->info.replayed_count;
    *ret_dropped = remote->info.dropped_count;
    pthread_mutex_unlock(&remote->mutex);
}

enum err db_status_json(struct db_client *client, char **ret_json)
{
    struct signal *replies[WORKERS_MAX];
    uint16_t worker_count;
    enum err err = client_call_all(client, SIGNAL_STATUS, replies, &worker_count);
    if (err) return err;
    struct diag health = {0};
    uint64_t replayed, dropped;
    recovery_counts(client->db, &replayed, &dropped);
    db_health(client->db, &health);
    struct buf buf;
    buf_init(&buf);
    buf_printf(&buf,
               "{\"workers\": %u, \"partitions\": %u, \"replayed\": %llu, \"dropped\": %llu, ",
               (unsigned)worker_count, (unsigned)db_partition_count(client->db),
               (unsigned long long)replayed, (unsigned long long)dropped);
    buf_printf(&buf, "\"health\": ");
    put_json_text(&buf, health.err ? health.text : "ok");
    buf_printf(&buf, ", \"worker\": [");
    for (uint16_t i = 0; i < worker_count; i++) {
        if (i) buf_printf(&buf, ", ");
        if (replies[i]->header.err)
            buf_printf(&buf, "null");
        else
            buf_put(&buf, replies[i]->body, signal_body_size(replies[i]));
        signal_destroy(replies[i]);
    }
    buf_printf(&buf, "]}");
    buf_put_u8(&buf, 0);
    if (buf.failed) {
        buf_fini(&buf);
        return ERR_NO_MEMORY;
    }
    *ret_json = (char *)buf.bytes; /* from realloc */
    return ERR_NONE;
}
