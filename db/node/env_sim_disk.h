/* The simulator's disk: files and directories in memory that forget, at a power cut, what was not
 * synced. Used by env_sim.c only, which adds handles, faults and time. Single-threaded.
 *
 * The simulator has no memory limit of its own: when the machine has no memory left, it ends the
 * test. Every enum err returned here is thus one that a real disk gives. */
#ifndef DB_NODE_ENV_SIM_DISK_H
#define DB_NODE_ENV_SIM_DISK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct disk;
struct disk_node;

/* size_max: bytes over all files (0: no limit). NULL: no memory. */
struct disk *disk_create(uint64_t seed, uint64_t size_max);
void disk_destroy(struct disk *disk);

/* Paths and flags are those of env_ops. The node is borrowed until disk_release. */
enum err disk_open(struct disk *disk, const char *path, unsigned flags,
                   struct disk_node **ret_node);
void disk_release(struct disk_node *node);

uint64_t disk_node_size(const struct disk_node *node);
size_t disk_read(const struct disk_node *node, void *bytes, size_t size, uint64_t offset);
/* ERR_NO_SPACE: as much as fitted was written. */
enum err disk_write(struct disk *disk, struct disk_node *node, const void *bytes, size_t size,
                    uint64_t offset);
enum err disk_truncate(struct disk *disk, struct disk_node *node, uint64_t size);
void disk_sync(struct disk_node *node);
/* A sync that failed: a random part of the unsynced writes is durable, the rest never will be,
 * though reads still show it, as the page cache of Linux does. */
void disk_sync_fail(struct disk *disk, struct disk_node *node);

enum err disk_dir_create(struct disk *disk, const char *path);
enum err disk_dir_list(struct disk *disk, const char *path,
                       enum err (*each)(void *context, const char *name), void *context);
enum err disk_dir_sync(struct disk *disk, const char *path);
enum err disk_rename(struct disk *disk, const char *from, const char *to);
enum err disk_remove(struct disk *disk, const char *path);

uint64_t disk_space_free(const struct disk *disk);
void disk_crash(struct disk *disk);
/* ERR_NOT_FOUND, ERR_INVALID (fewer than `bits` bits from offset on). */
enum err disk_corrupt(struct disk *disk, const char *path, uint64_t offset, unsigned bits);

#endif
