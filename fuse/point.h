/* Private to fuse/: the mountpoint as a place in the kernel's mount table. */
#ifndef FUSE_POINT_H
#define FUSE_POINT_H

#include "base/diag.h"

/* The directory exists and nothing of ours serves it; a dead mount there is detached.
 * ERR_NOT_FOUND, ERR_INVALID (no directory), ERR_IN_USE, ERR_DENIED. */
MUST_USE enum err mount_prepare_point(const char *mountpoint, struct diag *diag);

#endif
