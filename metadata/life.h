/* Lives: the openings of a store, counted. Private to metadata/. */
#ifndef METADATA_LIFE_H
#define METADATA_LIFE_H

#include "metadata/client.h"

/* Begins a new life, durably; sets fs->life. *ret_unclean_first is the first of the lives before it
 * that did not end cleanly (0: all did). */
MUST_USE enum err life_begin(struct fs_client *client, uint32_t *ret_unclean_first);
/* Every life up to this one is known to have left no object without an inode. */
MUST_USE enum err life_clean(struct fs_client *client, uint32_t life);
/* Removes the objects of this life that have no inode, until *ending. ERR_CANCELLED. */
MUST_USE enum err life_sweep(struct fs_client *client, uint32_t life, const atomic_bool *ending);
/* The value of a counter, 0 when it has no row. */
MUST_USE enum err counter_read(struct fs_client *client, const char *name, uint64_t *ret_value);
/* The key operand of a counter, and its slot. */
uint16_t counter_slot(const struct fs_client *client, const char *name);

#endif
