/* What is done in the background: purging inodes that nobody refers to any more, cutting objects of
 * truncated files, reporting files that stay dirty, and cleaning up after a life that ended in a
 * crash. Private to metadata/. */
#ifndef METADATA_ORPHAN_H
#define METADATA_ORPHAN_H

#include "metadata/client.h"

struct background;
struct open_inode;

/* ---- background.c ---- */

/* Starts the thread, which sweeps the lives from `sweep_from` (0: none) to the last one. */
MUST_USE enum err background_create(struct fs *fs, uint32_t sweep_from);
/* Does what is queued and ends. True: no former life is left to be swept. */
bool background_destroy(struct fs *fs);
/* A file became dirty. */
void background_wake(struct fs *fs);
/* Queues a purge. Cannot fail: without memory it is left to the next life. Any thread. */
void orphan_purge_later(struct fs *fs, uint64_t ino);
/* Cuts the object of a truncated file soon, off the worker. */
void background_cut_later(struct open_inode *inode);
/* Waits until there is nothing to do but to wait; for tests. Not on a worker. */
void background_drain(struct fs *fs);

/* ---- orphan.c ---- */

/* A step of the open section that makes the inode with this key operand an orphan. */
void orphan_insert(struct fs_client *client, struct operand key, struct operand since);
/* All orphans of the store get their background work: at fs_open. */
MUST_USE enum err orphan_recover(struct fs_client *client);
/* Purges those that nobody refers to. Not on a worker. */
MUST_USE enum err orphan_purge(struct fs_client *client, const uint64_t *inos, size_t count);

#endif
