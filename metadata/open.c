/* Open files: a sharded hash of open inodes, and the list of dirty ones.
 *
 * While a file is open here, `size` of its open inode is the truth and the row follows: data
 * operations change the open inode and mark it dirty; a report (at flush, fsync, release, and about
 * once a second) makes rows of it. A change of the size by setattr goes to the open inode first and
 * to the row at once (attr.c).
 *
 * A report is two programs: read the row, then change it under the guard that its ctime and size
 * are still the ones read. Every setattr gives the row another ctime, so a report that was computed
 * before a truncation or utimens can never undo it: it fails and is computed again from the open
 * inode.
 *
 * A stat must see what was written before it, also while the row is behind. Whoever reads a row
 * takes the epoch before and lays over what is dirty after. A report raises the epoch before the
 * inode becomes clean; so if the epoch has not changed, an inode that is clean after the read was
 * clean before it, and the row was up to date.
 *
 * References: a handle's, the dirty list's, a queued cut's, and short ones. The last to go takes
 * the inode out of the table. Between reading the row and putting a new inode into the table
 * another one may have come, written, reported and gone; `drops` of the shard tells, and the row is
 * read again.
 *
 * Locks, in order: shard, then nothing (nlookup's own inside); inode->data, inode->mutex, dirty
 * list. */
#include "metadata/open.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "metadata/fd.h"
#include "metadata/orphan.h"

enum { OPEN_SHARDS = 64, BUCKETS_MIN = 16 };

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    struct open_inode **buckets;
    uint64_t bucket_count; /* a power of two */
    uint64_t count;
    uint64_t drops; /* inodes taken out so far */
};

struct open_table {
    struct shard shards[OPEN_SHARDS];
    _Alignas(64) _Atomic uint64_t epoch;
    _Atomic uint64_t dirty_count;
    pthread_mutex_t dirty_mutex;
    struct open_inode *dirty_first; /* the longest dirty */
    struct open_inode *dirty_last;
};

static void inode_free(struct open_inode *inode)
{
    fd_forget(inode);
    pthread_rwlock_destroy(&inode->data);
    pthread_mutex_destroy(&inode->mutex);
    pthread_cond_destroy(&inode->settled);
    free(inode);
}

enum err open_table_create(struct open_table **ret_table)
{
    struct open_table *table = aligned_alloc(64, sizeof(*table));
    if (!table) return ERR_NO_MEMORY;
    memset(table, 0, sizeof(*table));
    pthread_mutex_init(&table->dirty_mutex, NULL);
    for (unsigned i = 0; i < OPEN_SHARDS; i++)
        pthread_mutex_init(&table->shards[i].mutex, NULL);
    for (unsigned i = 0; i < OPEN_SHARDS; i++) {
        struct shard *shard = &table->shards[i];
        shard->bucket_count = BUCKETS_MIN;
        shard->buckets = calloc(BUCKETS_MIN, sizeof(struct open_inode *));
        if (!shard->buckets) {
            open_table_destroy(table);
            return ERR_NO_MEMORY;
        }
    }
    *ret_table = table;
    return ERR_NONE;
}

void open_table_destroy(struct open_table *table)
{
    if (!table) return;
    for (unsigned i = 0; i < OPEN_SHARDS; i++) {
        struct shard *shard = &table->shards[i];
        for (uint64_t j = 0; shard->buckets && j < shard->bucket_count; j++) {
            for (struct open_inode *inode = shard->buckets[j], *next; inode; inode = next) {
                next = inode->next;
                inode_free(inode);
            }
        }
        pthread_mutex_destroy(&shard->mutex);
        free(shard->buckets);
    }
    pthread_mutex_destroy(&table->dirty_mutex);
    free(table);
}

static struct shard *shard_of(struct fs *fs, uint64_t ino)
{
    return &fs->opens->shards[hash_u64(ino) >> 58];
}

static struct open_inode **bucket_of(const struct shard *shard, uint64_t ino)
{
    return &shard->buckets[hash_u64(ino) & (shard->bucket_count - 1)];
}

static struct open_inode *shard_find(const struct shard *shard, uint64_t ino)
{
    struct open_inode *inode = *bucket_of(shard, ino);
    while (inode && inode->ino != ino)
        inode = inode->next;
    return inode;
}

static void shard_grow(struct shard *shard)
{
    struct open_inode **old = shard->buckets;
    uint64_t old_count = shard->bucket_count;
    struct open_inode **buckets = calloc(old_count * 2, sizeof(struct open_inode *));
    if (!buckets) return; /* longer chains until there is memory */
    shard->buckets = buckets;
    shard->bucket_count = old_count * 2;
    for (uint64_t i = 0; i < old_count; i++) {
        for (struct open_inode *inode = old[i], *next; inode; inode = next) {
            next = inode->next;
            struct open_inode **bucket = bucket_of(shard, inode->ino);
            inode->next = *bucket;
            *bucket = inode;
        }
    }
    free(old);
}

struct open_inode *open_find(struct fs *fs, uint64_t ino)
{
    struct shard *shard = shard_of(fs, ino);
    pthread_mutex_lock(&shard->mutex);
    struct open_inode *inode = shard_find(shard, ino);
    if (inode) (void)open_ref(inode);
    pthread_mutex_unlock(&shard->mutex);
    return inode;
}

static struct open_inode *inode_new(struct fs *fs, const struct fs_attr *attr)
{
    struct open_inode *inode = calloc(1, sizeof(*inode));
    if (!inode) return NULL;
    pthread_rwlock_init(&inode->data, NULL);
    pthread_mutex_init(&inode->mutex, NULL);
    pthread_cond_init(&inode->settled, NULL);
    inode->fs = fs;
    inode->ino = attr->ino;
    inode->generation = attr->generation;
    atomic_init(&inode->refs, 1);
    inode->flags = attr->flags;
    inode->size = attr->size;
    inode->size_opened = attr->size;
    inode->blocks = attr->blocks;
    inode->atime = attr->atime_ns;
    inode->mtime = attr->mtime_ns;
    inode->ctime = attr->ctime_ns;
    inode->truncate_to = TRUNCATE_NONE;
    inode->fd = -1;
    return inode;
}

/* Puts a new inode into the table, unless there is one by now. True: *inode is the one to use. */
static bool shard_insert(struct shard *shard, struct open_inode **inode, uint64_t drops)
{
    struct open_inode *made = *inode;
    pthread_mutex_lock(&shard->mutex);
    struct open_inode *other = shard_find(shard, made->ino);
    bool current = other || shard->drops == drops;
    if (other) {
        *inode = open_ref(other);
    } else if (current) {
        if (shard->count >= shard->bucket_count * 2) shard_grow(shard);
        struct open_inode **bucket = bucket_of(shard, made->ino);
        made->next = *bucket;
        *bucket = made;
        shard->count++;
        nlookup_open(made->fs->nlookup, made->ino);
    }
    pthread_mutex_unlock(&shard->mutex);
    if (other || !current) inode_free(made);
    return current;
}

void open_put(struct open_inode *inode)
{
    uint32_t refs = atomic_load_explicit(&inode->refs, memory_order_relaxed);
    while (refs > 1)
        if (atomic_compare_exchange_weak_explicit(&inode->refs, &refs, refs - 1,
                                                  memory_order_release, memory_order_relaxed))
            return;
    struct fs *fs = inode->fs;
    uint64_t ino = inode->ino;
    struct shard *shard = shard_of(fs, ino);
    bool purge = false;
    pthread_mutex_lock(&shard->mutex);
    bool last = atomic_fetch_sub_explicit(&inode->refs, 1, memory_order_acq_rel) == 1;
    if (last) {
        struct open_inode **link = bucket_of(shard, ino);
        while (*link != inode)
            link = &(*link)->next;
        *link = inode->next;
        shard->count--;
        shard->drops++;
        purge = nlookup_close(fs->nlookup, ino);
    }
    pthread_mutex_unlock(&shard->mutex);
    if (last) inode_free(inode);
    if (purge) orphan_purge_later(fs, ino);
}

static enum err type_err(enum fs_type type)
{
    switch (type) {
    case FS_FILE:
        return ERR_NONE;
    case FS_DIR:
        return ERR_EISDIR;
    case FS_SYMLINK:
        return ERR_ELOOP;
    default:
        return ERR_ENXIO;
    }
}

/* Reads the row, and whether its object is still to be cut, into a new inode. */
static enum err inode_load(struct fs_client *client, uint64_t ino, struct open_inode **ret_inode)
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    uint8_t row_step = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    uint8_t orphan_step = program_read(program, client_table(client, TABLE_ORPHAN), &key, ERR_NONE);
    program_flags(program, STEP_OPTIONAL);
    const uint16_t columns[] = {ORPHAN_SIZE, ORPHAN_SINCE};
    program_output(program, columns, 2);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, row_step);
    if (!row) return ERR_EIO;
    struct fs_attr attr;
    attr_decode(row, &attr);
    err = type_err(attr_type(&attr));
    if (err) return err;
    struct open_inode *inode = inode_new(client->fs, &attr);
    if (!inode) return ERR_NO_MEMORY;
    const struct value *orphan = client_row(client, orphan_step);
    if (orphan && !value_is_null(orphan[0])) {
        inode->truncate_to = orphan[0].u;
        inode->truncate_since = orphan[1].i;
        inode->truncated_ns = fs_monotonic_ns(); /* or before: it may not be on disk yet */
    }
    *ret_inode = inode;
    return ERR_NONE;
}

enum err open_acquire(struct fs_client *client, uint64_t ino, struct open_inode **ret_inode)
{
    struct shard *shard = shard_of(client->fs, ino);
    struct retry retry = {0};
    enum err err;
    do {
        pthread_mutex_lock(&shard->mutex);
        struct open_inode *inode = shard_find(shard, ino);
        if (inode) (void)open_ref(inode);
        uint64_t drops = shard->drops;
        pthread_mutex_unlock(&shard->mutex);
        err = ERR_NONE;
        if (!inode) {
            err = inode_load(client, ino, &inode);
            if (!err && !shard_insert(shard, &inode, drops)) err = ERR_STALE;
        }
        if (!err) *ret_inode = inode;
    } while (client_again(client, &retry, &err));
    return err;
}

uint64_t open_drops(struct fs *fs, uint64_t ino)
{
    struct shard *shard = shard_of(fs, ino);
    pthread_mutex_lock(&shard->mutex);
    uint64_t drops = shard->drops;
    pthread_mutex_unlock(&shard->mutex);
    return drops;
}

enum err open_acquire_new(struct fs_client *client, const struct fs_attr *attr, uint64_t drops,
                          struct open_inode **ret_inode)
{
    struct open_inode *inode = inode_new(client->fs, attr);
    if (!inode) return ERR_NO_MEMORY;
    inode->object = OBJECT_MISSING;
    /* Somebody may have found, opened, written and closed the file already; then the row is no
     * longer what it was. */
    if (shard_insert(shard_of(client->fs, attr->ino), &inode, drops)) {
        *ret_inode = inode;
        return ERR_NONE;
    }
    return open_acquire(client, attr->ino, ret_inode);
}

/* ---- dirty ---- */

void open_mark_dirty(struct open_inode *inode, unsigned dirty)
{
    inode->dirty |= dirty;
    inode->dirty_count++;
    if (inode->listed) return;
    inode->listed = true;
    (void)open_ref(inode);
    struct open_table *table = inode->fs->opens;
    pthread_mutex_lock(&table->dirty_mutex);
    inode->dirty_since = fs_monotonic_ns();
    inode->dirty_next = NULL;
    inode->dirty_previous = table->dirty_last;
    if (table->dirty_last)
        table->dirty_last->dirty_next = inode;
    else
        table->dirty_first = inode;
    table->dirty_last = inode;
    bool first = atomic_fetch_add(&table->dirty_count, 1) == 0;
    pthread_mutex_unlock(&table->dirty_mutex);
    if (first) background_wake(inode->fs);
}

/* With inode->mutex held: the row has caught up. The caller then puts the list's reference. */
static void unlist(struct open_inode *inode)
{
    struct open_table *table = inode->fs->opens;
    atomic_fetch_add(&table->epoch, 1);
    inode->dirty = 0;
    inode->listed = false;
    pthread_mutex_lock(&table->dirty_mutex);
    if (inode->dirty_previous)
        inode->dirty_previous->dirty_next = inode->dirty_next;
    else
        table->dirty_first = inode->dirty_next;
    if (inode->dirty_next)
        inode->dirty_next->dirty_previous = inode->dirty_previous;
    else
        table->dirty_last = inode->dirty_previous;
    atomic_fetch_sub(&table->dirty_count, 1);
    pthread_mutex_unlock(&table->dirty_mutex);
}

uint64_t open_dirty_since(struct fs *fs)
{
    struct open_table *table = fs->opens;
    if (atomic_load(&table->dirty_count) == 0) return UINT64_MAX;
    pthread_mutex_lock(&table->dirty_mutex);
    uint64_t since = table->dirty_first ? table->dirty_first->dirty_since : UINT64_MAX;
    pthread_mutex_unlock(&table->dirty_mutex);
    return since;
}

uint64_t open_epoch(const struct fs *fs)
{
    return atomic_load(&fs->opens->epoch);
}

bool open_overlay(struct fs *fs, uint64_t epoch, struct fs_attr *attr)
{
    struct open_table *table = fs->opens;
    if (atomic_load(&table->dirty_count) != 0 && S_ISREG(attr->mode)) {
        struct open_inode *inode = open_find(fs, attr->ino);
        if (inode) {
            pthread_mutex_lock(&inode->mutex);
            if (inode->dirty & DIRTY_SIZE) {
                attr->size = inode->size;
                attr->blocks = inode->blocks;
            }
            if (inode->dirty & DIRTY_MTIME) attr->mtime_ns = inode->mtime;
            if (inode->dirty & DIRTY_ATIME) attr->atime_ns = inode->atime;
            if ((inode->dirty & (DIRTY_SIZE | DIRTY_MTIME)) && inode->ctime > attr->ctime_ns)
                attr->ctime_ns = inode->ctime;
            pthread_mutex_unlock(&inode->mutex);
            open_put(inode);
        }
    }
    return atomic_load(&table->epoch) == epoch;
}

/* ---- reporting ---- */

struct report {
    unsigned dirty;
    uint64_t dirty_count;
    uint64_t size;
    uint64_t blocks;
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
};

/* False: nothing is dirty; the inode is off the list. */
static bool report_take(struct open_inode *inode, struct report *ret_report)
{
    pthread_mutex_lock(&inode->mutex);
    bool dirty = inode->dirty != 0;
    bool listed = inode->listed;
    if (!dirty && listed) unlist(inode);
    *ret_report = (struct report){.dirty = inode->dirty,
                                  .dirty_count = inode->dirty_count,
                                  .size = inode->size,
                                  .blocks = inode->blocks,
                                  .atime = inode->atime,
                                  .mtime = inode->mtime,
                                  .ctime = inode->ctime};
    pthread_mutex_unlock(&inode->mutex);
    if (!dirty && listed) open_put(inode);
    return dirty;
}

static enum err report_run(struct fs_client *client, struct open_inode *inode,
                           const struct report *report, const struct fs_attr *row)
{
    uint16_t slot = ino_home(inode->ino);
    struct program *program = client_begin(client, slot);
    struct operand key = operand_u64(inode->ino);
    const struct table_def *table = client_table(client, TABLE_INODE);
    uint8_t step = program_read(program, table, &key, ERR_ESTALE);
    guard_equal_i64(program, step, INODE_CTIME, row->ctime_ns, ERR_STALE);
    guard_equal(program, step, INODE_SIZE, row->size, ERR_STALE);
    bool resize = (report->dirty & DIRTY_SIZE) &&
                  (report->size != row->size || report->blocks != row->blocks);
    if (resize) usage_resize(client, slot, step, report->size, report->blocks);
    uint8_t own = program_update(program, table, &key, ERR_ESTALE);
    if (resize) {
        set_u64(program, INODE_SIZE, report->size);
        set_u64(program, INODE_BLOCKS, report->blocks);
    }
    if (report->dirty & DIRTY_MTIME) set_i64(program, INODE_MTIME, report->mtime);
    if (report->dirty & DIRTY_ATIME) set_i64(program, INODE_ATIME, report->atime);
    if (report->dirty & (DIRTY_SIZE | DIRTY_MTIME))
        set_later(program, own, INODE_CTIME, report->ctime);
    return client_run(client);
}

/* Takes the inode off the list when nothing was changed since the report was taken. */
static void report_done(struct open_inode *inode, const struct report *report)
{
    pthread_mutex_lock(&inode->mutex);
    bool clean = inode->listed && inode->dirty_count == report->dirty_count;
    if (clean) unlist(inode);
    pthread_mutex_unlock(&inode->mutex);
    if (clean) open_put(inode);
}

enum err open_report(struct fs_client *client, struct open_inode *inode)
{
    struct retry retry = {0};
    struct report report;
    enum err err;
    do {
        if (!report_take(inode, &report)) return ERR_NONE;
        struct fs_attr row;
        err = inode_read(client, inode->ino, &row);
        /* Again, now that the row is read: what is taken must not be older than the row. */
        if (!err && !report_take(inode, &report)) return ERR_NONE;
        if (!err) err = report_run(client, inode, &report, &row);
    } while (client_again(client, &retry, &err));
    if (err == ERR_ESTALE) err = ERR_NONE; /* purged: nobody can see it any more */
    if (!err) report_done(inode, &report);
    return err;
}

enum err open_report_all(struct fs_client *client, uint64_t before)
{
    enum { BATCH = 64 };
    struct open_table *table = client->fs->opens;
    struct open_inode *batch[BATCH];
    enum err result = ERR_NONE;
    uint64_t left =
        atomic_load(&table->dirty_count) + BATCH; /* new ones must not keep this going */
    size_t count;
    do {
        count = 0;
        pthread_mutex_lock(&table->dirty_mutex);
        for (struct open_inode *inode = table->dirty_first;
             inode && inode->dirty_since <= before && count < BATCH; inode = inode->dirty_next)
            batch[count++] = open_ref(inode);
        pthread_mutex_unlock(&table->dirty_mutex);
        for (size_t i = 0; i < count; i++) {
            enum err err = result ? ERR_NONE : open_report(client, batch[i]);
            if (err) result = err;
            open_put(batch[i]);
        }
        left = left > count ? left - count : 0;
    } while (count == BATCH && left && !result);
    return result;
}
