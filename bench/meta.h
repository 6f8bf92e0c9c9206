/* The pieces of `bench meta`. */
#ifndef BENCH_META_H
#define BENCH_META_H

#include <sys/types.h>

#include "base/diag.h"
#include "db/api/db.h"

enum { META_ADDRESSES_MAX = 8 };

/* A process that serves a store of its own, one worker, like `trellis node`. */
struct meta_server {
    struct port_address addresses[META_ADDRESSES_MAX]; /* where ports are 0 the system chooses */
    unsigned count;
    uint8_t secret[PORT_SECRET_SIZE];
    enum port_spin spin;
    char store[600];
};
/* Serves until SIGTERM; told_fd (-1: none) gets the addresses once it listens, as they are in
 * memory.
 */
enum err meta_serve(struct meta_server *server, int told_fd, struct diag *diag);
/* The same in a process of its own, which dies with this one; the addresses become those it has. */
enum err meta_server_start(struct meta_server *server, pid_t *ret_pid, struct diag *diag);
void meta_server_end(pid_t pid); /* 0: nothing */

#endif
