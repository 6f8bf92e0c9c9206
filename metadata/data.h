/* What the operations on data share. Private to metadata/; I/O threads only.
 *
 * `held`: the caller holds inode->data exclusively. */
#ifndef METADATA_DATA_H
#define METADATA_DATA_H

#include "metadata/open.h"

struct extent {
    uint64_t size;  /* of the file */
    uint64_t bound; /* the object counts up to here */
};
struct extent data_extent(struct open_inode *inode);
/* A change of data through fd ended: the size is at least `end`, unless a truncation came since
 * data_truncate_count gave truncate_count. */
void data_changed(struct open_inode *inode, int fd, uint64_t end, uint64_t truncate_count);
uint64_t data_truncate_count(struct open_inode *inode);
/* What one step of changing an object moves at most, before the lease is looked at again. */
enum { DATA_STEP_SIZE = 8 << 20 };
/* Cuts off what truncations voided; held. */
MUST_USE enum err data_cut_held(struct fs_client *client, struct open_inode *inode);

/* ---- range.c ---- */

/* Held: io->file's inode. */
MUST_USE enum err data_fallocate(struct fs_client *client, struct fs_io *io);
/* With inode->data held shared. */
MUST_USE enum err data_seek(struct fs_io *io);
/* Held: io->to's inode; io->file's is held shared. */
MUST_USE enum err data_copy(struct fs_client *client, struct fs_io *io);

#endif
