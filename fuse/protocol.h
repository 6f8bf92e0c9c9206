/* Private to fuse/: the few places where the kernel's protocol (linux/fuse.h) is looked at below
 * libfuse. */
#ifndef FUSE_PROTOCOL_H
#define FUSE_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* The request is INIT: what the kernel can do. */
struct protocol_init {
    uint64_t unique;
    bool kills_privileges; /* clearing of setuid can be left to us (FUSE_HANDLE_KILLPRIV_V2) */
    bool is_current;       /* its structures are those that wire.c puts */
};
bool protocol_is_init(const void *request, size_t size, struct protocol_init *ret_init);
/* The request (WRITE or SETATTR) asks for it. */
bool protocol_kills_privileges(const void *request, size_t size);
/* Adds FUSE_HANDLE_KILLPRIV_V2 to libfuse's answer to INIT: without it the kernel asks for the
 * security.capability attribute before every write. The amended copy goes to storage; false when
 * this reply is not a good INIT reply. */
enum { PROTOCOL_INIT_SIZE_MAX = 256 };
bool protocol_amend_init(const struct iovec *iov, int count, uint64_t init_unique,
                         uint8_t storage[PROTOCOL_INIT_SIZE_MAX], size_t *ret_size);
/* Another descriptor of the same mount, with a request queue of its own. -1 and errno. */
int protocol_clone_device(int session_fd);

#endif
