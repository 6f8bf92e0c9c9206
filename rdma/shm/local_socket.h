/* Unix sockets in the file system, and handing memory over them. Private to rdma/shm. */
#ifndef RDMA_SHM_LOCAL_SOCKET_H
#define RDMA_SHM_LOCAL_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/diag.h"
#include "base/err.h"

struct local_listener {
    int fd;     /* non-blocking; -1: none */
    int dir_fd; /* of the folder that the socket lies in */
    char name[256];
    dev_t device; /* what identifies the file as ours */
    ino_t inode;
};

/* Listens at a path, which only this user and root may connect to; a socket of a dead process that
 * lies there is replaced. ERR_IN_USE: somebody listens there. ERR_EXISTS: what is there is no
 * socket. ERR_INVALID, ERR_NOT_FOUND, ERR_DENIED, ERR_BUSY, ERR_IO. */
MUST_USE enum err local_listen(const char *path, struct local_listener *ret_listener,
                               struct diag *diag);
/* Stops, and removes the file if it is still ours. */
void local_listener_close(struct local_listener *listener);
/* A connected, non-blocking socket. ERR_NOT_FOUND, ERR_CLOSED (nobody listens there), ERR_BUSY,
 * ERR_DENIED, ERR_INVALID, ERR_IO. */
MUST_USE enum err local_connect(const char *path, int *ret_fd, struct diag *diag);

/* Whether the other end belongs to root or to this process's user, by the kernel's word; a process
 * of root may connect to anybody. */
bool local_peer_may(int fd, bool accepted, struct ucred *ret_peer);

/* What goes with the descriptor of the memory; both processes run on the same machine. */
struct local_setup {
    uint64_t magic;
    uint32_t version;
    uint32_t credits;
    uint32_t batch_size_max;
    uint32_t reserved;
};
MUST_USE enum err local_send_setup(int fd, const struct local_setup *setup, int memory_fd,
                                   struct diag *diag);
/* ERR_BUSY: nothing has come yet. ERR_CLOSED: the peer is gone. ERR_BAD_FRAME: anything but one
 * whole setup with one descriptor. */
MUST_USE enum err local_receive_setup(int fd, struct local_setup *ret_setup, int *ret_memory_fd);

#endif
