/* The file system as a FUSE mount. Serves requests on the database's worker threads: every worker
 * watches a clone of the mount's descriptor, so that a request on a local partition runs with no
 * hand-over between threads. */
#ifndef FUSE_MOUNT_H
#define FUSE_MOUNT_H

#include <stdbool.h>

#include "base/diag.h"
#include "metadata/fs.h"

struct mount;

struct mount_config {
    struct db *db;
    struct fs *fs;
    const char *mountpoint;    /* an existing directory */
    const char *source;        /* shown as the device in /proc/mounts */
    const char *options;       /* for libfuse and the kernel, comma-separated; may be NULL */
    double entry_timeout_s;    /* how long the kernel may keep names */
    double attr_timeout_s;     /* … and attributes */
    double negative_timeout_s; /* … and that a name does not exist */
};

/* Checks that the mountpoint is a directory which nothing of ours serves, and detaches a dead mount
 * there; mount_create does it too, but a caller wants to know before it opens a store.
 * ERR_NOT_FOUND, ERR_INVALID (no directory), ERR_IN_USE, ERR_DENIED. */
MUST_USE enum err mount_prepare_point(const char *mountpoint, struct diag *diag);

/* Mounts, detaching a dead mount left at the mountpoint by a killed process, and serves until
 * unmounted. Any thread but a worker's. ERR_NOT_FOUND, ERR_DENIED, ERR_IN_USE (a live trellis is
 * mounted there), ERR_IO, ERR_NO_MEMORY with a reason. */
MUST_USE enum err mount_create(const struct mount_config *config, struct mount **ret_mount,
                               struct diag *diag);
/* A descriptor that becomes readable when the kernel has unmounted it. */
int mount_ended_fd(const struct mount *mount);
/* Detaches the mount (as `umount -l`); requests are still served until the last user is gone. Any
 * thread. */
MUST_USE enum err mount_detach(struct mount *mount, struct diag *diag);
/* Stops serving: whoever still uses the mount gets ENOTCONN. Waits for data I/O that is under way.
 * NULL is allowed. */
void mount_destroy(struct mount *mount);

/* Detaches whatever trellis mount is at the path; for a dead one too. ERR_NOT_FOUND: nothing is
 * mounted there; ERR_BUSY, ERR_DENIED. */
MUST_USE enum err mount_detach_path(const char *mountpoint, bool lazy, struct diag *diag);

/* Of a field of /proc/self/mountinfo, in place: blanks, backslashes and the like are \ooo there
 * (proc(5)). */
void mount_field_unescape(char *field);

#endif
