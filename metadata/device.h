/* The local device: a directory of objects, one per file that was ever written. Private to
 * metadata/. Any thread; calls block on the disk, so workers make none of them but device_statfs.
 */
#ifndef METADATA_DEVICE_H
#define METADATA_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"
#include "metadata/fs.h"

struct device;

enum { DEVICE_IDENTITY_SIZE = 32 }; /* hexadecimal digits */

/* Opens the directory `dir`, which must carry the identity. `fresh`: the store has no device yet;
 * then the directory is made when it is missing (0700), and marked. ERR_NOT_FOUND, ERR_INVALID
 * (another store's, or not a device), ERR_DENIED, ERR_IO, … with a reason. */
MUST_USE enum err device_open(const char *dir, const char identity[DEVICE_IDENTITY_SIZE + 1],
                              bool fresh, struct device **ret_device, struct diag *diag);
void device_close(struct device *device); /* NULL is allowed */
MUST_USE enum err device_statfs(struct device *device, struct fs_statfs *ret_statfs);
/* Everything written to objects so far is on disk when it returns. */
MUST_USE enum err device_sync(struct device *device);

/* What names an object: an inode number and the life it was made in. */
struct object_id {
    uint64_t ino;
    uint32_t life;
};

/* Opens for reading and writing. create: makes it when it is missing (*ret_created). ERR_NOT_FOUND;
 * ERR_BUSY (too many open files); what object_err gives. */
MUST_USE enum err object_open(struct device *device, struct object_id id, bool create,
                              bool *ret_created, int *ret_fd);
bool object_exists(struct device *device, struct object_id id);
/* A missing one is no error. */
MUST_USE enum err object_remove(struct device *device, struct object_id id);
/* The object's name is on disk when it returns. */
MUST_USE enum err object_sync_name(struct device *device, struct object_id id);
/* Calls back with each object made by inodes of this life, until an error, which is returned. */
MUST_USE enum err device_each(struct device *device, uint32_t life,
                              enum err (*each)(void *context, struct object_id id), void *context);
/* An errno of a call on an object, for the file's user: ERR_ENOSPC, ERR_EDQUOT, ERR_EFBIG,
 * ERR_EOPNOTSUPP, ERR_NO_MEMORY, ERR_BUSY (EMFILE, ENFILE), else ERR_EIO. */
enum err object_err(int number);

#endif
