/* The floor: a low-level FUSE file system that stores nothing and answers every request at once.
 * What it reaches on a machine is what libfuse and the kernel leave for any file system. */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/diag.h"

struct floor_config {
    const char *mountpoint;
    double timeout_s;        /* of entries, attributes and absent names */
    uint32_t listed_entries; /* in the directory "listed" */
    bool multi_threaded;     /* libfuse's multi-threaded loop */
};

/* Mounts it from a child process and returns when it is mounted. Names beginning with 'n' do not
 * exist until made. */
MUST_USE enum err floor_start(const struct floor_config *config, pid_t *ret_child,
                              struct diag *diag);
void floor_stop(const char *mountpoint, pid_t child);

#endif
