/* References to inodes from outside the database: how many lookups the kernel holds of each, and
 * whether it is open here. They decide when an inode whose last link is gone may be purged. Private
 * to metadata/. Any thread. */
#ifndef METADATA_NLOOKUP_H
#define METADATA_NLOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct nlookup;

MUST_USE enum err nlookup_create(struct nlookup **ret_nlookup);
void nlookup_destroy(struct nlookup *nlookup); /* NULL is allowed */
/* Hints the caches that the inode will be added soon. */
void nlookup_prefetch(const struct nlookup *nlookup, uint64_t ino);
/* Counts lookups. Cannot fail: a count that no memory could be had for keeps every unlinked inode
 * alive until the next start (nlookup_is_free never holds again). */
void nlookup_add(struct nlookup *nlookup, uint64_t ino, uint64_t count);
/* One lookup more of each of these; much cheaper than one call for each. */
void nlookup_add_each(struct nlookup *nlookup, const uint64_t *inos, uint32_t count);
/* Takes lookups back. True when the inode is an orphan that nothing refers to any more. */
bool nlookup_forget(struct nlookup *nlookup, uint64_t ino, uint64_t count);
/* It is open here (one reference, however many handles). */
void nlookup_open(struct nlookup *nlookup, uint64_t ino);
/* True as nlookup_forget. */
bool nlookup_close(struct nlookup *nlookup, uint64_t ino);
/* Nothing refers to the orphan now: it may be purged. Else it is marked, so that the last reference
 * to go says so. */
bool nlookup_is_free(struct nlookup *nlookup, uint64_t ino);
/* Lookups counted now; for tests and status. */
uint64_t nlookup_count(struct nlookup *nlookup, uint64_t ino);

#endif
