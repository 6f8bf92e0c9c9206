/* Files that are open here, and what was written to them that their rows do not know yet. Private
 * to metadata/. */
#ifndef METADATA_OPEN_H
#define METADATA_OPEN_H

#include <pthread.h>
#include <stdatomic.h>

#include "metadata/client.h"

struct open_table;

enum open_dirty { DIRTY_SIZE = 1, DIRTY_MTIME = 2, DIRTY_ATIME = 4 };
enum object_state {
    OBJECT_UNKNOWN = 0, /* nobody looked */
    OBJECT_MISSING = 1,
    OBJECT_THERE = 2, /* and no longer than the file was when it was opened here */
};

#define TRUNCATE_NONE UINT64_MAX

/* One per open file, shared by its handles; also while it is dirty or being cut. Fields below
 * `mutex` are its. */
struct open_inode {
    struct fs *fs;
    uint64_t ino;
    uint32_t generation;
    _Atomic uint32_t refs;
    struct open_inode *next; /* the hash chain's */

    /* Held by data operations on I/O threads, shared or exclusive, for as long as they take; never
     * by workers. Order: data, then mutex. */
    pthread_rwlock_t data;

    pthread_mutex_t mutex;  /* short: nothing blocks under it */
    pthread_cond_t settled; /* truncating went to 0; I/O threads wait for it */
    uint32_t flags;         /* inode.flags */
    uint64_t size;          /* what the file's size is */
    uint64_t size_opened; /* what it was when this was made: an object longer than that is of a lost
                             life */
    uint64_t blocks;
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
    unsigned dirty;          /* enum open_dirty: the row is behind in these */
    uint64_t dirty_count;    /* changes since it was made */
    bool listed;             /* in the dirty list, which then holds a reference */
    uint64_t truncate_count; /* truncations since it was made */
    uint64_t
        truncate_to; /* the object's bytes behind it are void and must be cut off; TRUNCATE_NONE */
    int64_t truncate_since; /* orphan.since of that */
    uint64_t truncated_ns;  /* fs_monotonic_ns when the last one's transaction had committed */
    uint32_t truncating;    /* truncations whose transaction is under way */
    enum err error;         /* the last failed sync */
    uint64_t error_count;
    bool name_unsynced; /* the object was made and its name is not known to be on disk */

    /* Of the descriptor cache, under its mutex. */
    enum object_state object;
    int fd; /* -1: not open */
    uint32_t fd_users;
    struct open_inode *fd_older;
    struct open_inode *fd_newer;
    /* Of the dirty list, under its mutex. */
    struct open_inode *dirty_next;
    struct open_inode *dirty_previous;
    uint64_t dirty_since; /* fs_monotonic_ns when it was listed */
};

struct fs_file {
    struct open_inode *inode;
    int flags; /* of open(2) */
    _Atomic uint64_t error_seen;
};

MUST_USE enum err open_table_create(struct open_table **ret_table);
/* NULL is allowed. Inodes still in it (an unmount that closed no files, a report that failed) go,
 * too. */
void open_table_destroy(struct open_table *table);

/* The open inode of a regular file, with a reference; made from its row when there is none.
 * ERR_ESTALE; ERR_EISDIR, ERR_ELOOP, ERR_ENXIO for other types. */
MUST_USE enum err open_acquire(struct fs_client *client, uint64_t ino,
                               struct open_inode **ret_inode);
/* The same for a file that this thread has just made: its row need not be read. `drops` is what
 * open_drops gave before anybody could know the number. */
MUST_USE enum err open_acquire_new(struct fs_client *client, const struct fs_attr *attr,
                                   uint64_t drops, struct open_inode **ret_inode);
uint64_t open_drops(struct fs *fs, uint64_t ino);
/* With a reference; NULL when it is not open here. */
struct open_inode *open_find(struct fs *fs, uint64_t ino);
static inline struct open_inode *open_ref(struct open_inode *inode)
{
    atomic_fetch_add_explicit(&inode->refs, 1, memory_order_relaxed);
    return inode;
}
void open_put(struct open_inode *inode);

/* With inode->mutex held: the row is behind in `dirty`. */
void open_mark_dirty(struct open_inode *inode, unsigned dirty);
/* Makes size, blocks and times rows. ERR_NONE when there is nothing to do, or the inode is gone. */
MUST_USE enum err open_report(struct fs_client *client, struct open_inode *inode);
/* Reports every file that has been dirty since before `before`; the first error. */
MUST_USE enum err open_report_all(struct fs_client *client, uint64_t before);
/* When the oldest dirty file became so (fs_monotonic_ns); UINT64_MAX when none is dirty. */
uint64_t open_dirty_since(struct fs *fs);

/* Rows read between open_epoch and open_overlay, with what open files hold back laid over. False: a
 * report came in between, and the row must be read again. */
uint64_t open_epoch(const struct fs *fs);
bool open_overlay(struct fs *fs, uint64_t epoch, struct fs_attr *attr);

/* ---- descriptors (I/O threads) ---- */

/* The object's descriptor, which stays open until fd_release. create: made when missing; else
 * ERR_NOT_FOUND. Cuts off what a lost life left behind the file's end. object_err's errors. */
MUST_USE enum err fd_acquire(struct open_inode *inode, bool create, int *ret_fd);
/* Only when it is open already: never blocks. -1 otherwise. */
int fd_acquire_open(struct open_inode *inode);
void fd_release(struct open_inode *inode);
enum object_state open_object_state(struct open_inode *inode);

#endif
