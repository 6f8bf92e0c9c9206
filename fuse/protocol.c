/* The kernel's side of FUSE, where libfuse 3.14 does not reach: HANDLE_KILLPRIV_V2 (kernel 5.12)
 * and cloned device descriptors used from an event loop of our own. Structures are those of
 * linux/fuse.h, which cannot be included together with libfuse's headers everywhere. */
#include "fuse/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MINOR_CURRENT = 12 }; /* since then what we send has not changed */

static bool header_of(const void *request, size_t size, struct fuse_in_header *ret_header)
{
    if (size < sizeof(*ret_header)) return false;
    memcpy(ret_header, request, sizeof(*ret_header));
    return true;
}

bool protocol_is_init(const void *request, size_t size, struct protocol_init *ret_init)
{
    struct fuse_in_header header;
    if (!header_of(request, size, &header) || header.opcode != FUSE_INIT) return false;
    struct fuse_init_in init = {0};
    size_t body = size - sizeof(header);
    memcpy(&init, (const uint8_t *)request + sizeof(header),
           body < sizeof(init) ? body : sizeof(init));
    *ret_init = (struct protocol_init){
        .unique = header.unique,
        .kills_privileges = (init.flags & FUSE_HANDLE_KILLPRIV_V2) != 0,
        .is_current = init.major == 7 && init.minor >= MINOR_CURRENT,
    };
    return true;
}

bool protocol_kills_privileges(const void *request, size_t size)
{
    struct fuse_in_header header;
    if (!header_of(request, size, &header)) return false;
    const uint8_t *body = (const uint8_t *)request + sizeof(header);
    if (header.opcode == FUSE_WRITE && size >= sizeof(header) + sizeof(struct fuse_write_in)) {
        struct fuse_write_in in;
        memcpy(&in, body, sizeof(in));
        return (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    }
    if (header.opcode == FUSE_SETATTR && size >= sizeof(header) + sizeof(struct fuse_setattr_in)) {
        struct fuse_setattr_in in;
        memcpy(&in, body, sizeof(in));
        return (in.valid & FATTR_KILL_SUIDGID) != 0;
    }
    return false;
}

bool protocol_amend_init(const struct iovec *iov, int count, uint64_t init_unique,
                         uint8_t storage[PROTOCOL_INIT_SIZE_MAX], size_t *ret_size)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > PROTOCOL_INIT_SIZE_MAX - size) return false;
        memcpy(storage + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    struct fuse_out_header header;
    struct fuse_init_out init;
    if (size < sizeof(header) + offsetof(struct fuse_init_out, max_background)) return false;
    memcpy(&header, storage, sizeof(header));
    if (header.unique != init_unique || header.error) return false;
    uint8_t *flags = storage + sizeof(header) + offsetof(struct fuse_init_out, flags);
    memcpy(&init.flags, flags, sizeof(init.flags));
    init.flags |= FUSE_HANDLE_KILLPRIV_V2;
    memcpy(flags, &init.flags, sizeof(init.flags));
    *ret_size = size;
    return true;
}

int protocol_clone_device(int session_fd)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    uint32_t source = (uint32_t)session_fd;
    if (ioctl(fd, FUSE_DEV_IOC_CLONE, &source) < 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}
