/* What `trellis mount` is told. */
#ifndef CLI_MOUNT_OPTIONS_H
#define CLI_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/cluster.h"
#include "cli/service.h"

struct mount_options {
    struct service_config service; /* of a store in this process; store is NULL with a cluster */
    struct cluster *cluster;       /* NULL: a store in this process */
    const char *mountpoint;
    const char *data;    /* NULL: STORE/data */
    uint64_t timeout_ms; /* of requests to a cluster */
    bool foreground;
    bool noatime;
    double entry_timeout_s;
    double attr_timeout_s;
    double negative_timeout_s;
    struct buf fuse_options; /* NUL-terminated */
};

/* Returns an exit status; what is wrong was said. To be ended by mount_options_fini in any case. */
int mount_options_parse(int argc, char **argv, struct mount_options *ret_options);
void mount_options_fini(struct mount_options *options);
/* Is the mount option in the list? */
bool mount_options_has(const struct mount_options *options, const char *name);

#endif
