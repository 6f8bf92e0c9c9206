/* Which process serves a store or mount. */
#ifndef CLI_SERVING_H
#define CLI_SERVING_H

#include <stdbool.h>
#include <sys/types.h>

/* The process that serves the mount, by its control socket's credentials. False when it cannot be
 * told. */
bool serving_pid(const char *mountpoint, pid_t *ret_pid);

#endif
