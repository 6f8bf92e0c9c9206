/* Private to fuse/: mounting for an ordinary user, through the setuid program fusermount3. */
#ifndef FUSE_HELPER_H
#define FUSE_HELPER_H

#include "base/diag.h"

/* Mounts at the path and gives the FUSE descriptor, which is the caller's. options:
 * comma-separated. ERR_DENIED, ERR_NOT_FOUND (no fusermount3). */
MUST_USE enum err helper_mount(const char *mountpoint, const char *options, int *ret_fd,
                               struct diag *diag);

#endif
