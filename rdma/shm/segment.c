/* Memory shared by the two processes of a link.
 *
 *     0      struct ring_shared of the connector's direction
 *     384    struct ring_shared of the acceptor's direction
 *     4096   ring of the connector's direction, to the next multiple of 4096
 *            ring of the acceptor's direction
 *
 * The connector makes it, so that a flood of connections costs memory of those who make it. It is a
 * memory file without a name, sealed so that nobody can shrink it: reading beyond the end of a file
 * would kill the reader. The receiver of the descriptor believes none of that: it looks at the
 * seals, the size and the kind of file (pages of a huge-page file can be missing) before it maps.
 * Both sides compute the layout from the number of credits alone. */
#include "rdma/shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/core/backend.h"

enum {
    SEGMENT_PAGE = 4096,
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
};
static_assert(2 * sizeof(struct ring_shared) <= SEGMENT_PAGE, "the rings begin at the second page");
static_assert(PORT_LINK_CREDITS_MAX + BATCHES_SPARE + 1 <= RING_COUNT_MAX, "rings are long enough");

static uint32_t ring_size_of(uint32_t credits)
{
    ASSERT(credits >= 1 && credits <= PORT_LINK_CREDITS_MAX);
    /* One more: a credit may come back before the room of its batch does. */
    return ring_size(SEGMENT_BATCH_SIZE_MAX, credits + BATCHES_SPARE + 1);
}

static size_t ring_pages(uint32_t credits)
{
    return (ring_size_of(credits) + (size_t)SEGMENT_PAGE - 1) / SEGMENT_PAGE * SEGMENT_PAGE;
}

size_t segment_size(uint32_t credits)
{
    return SEGMENT_PAGE + 2 * ring_pages(credits);
}

static enum err map(int fd, uint32_t credits, struct segment *ret_segment, struct diag *diag)
{
    size_t size = segment_size(credits);
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return diag_set(diag, errno == EPERM ? ERR_DENIED : ERR_NO_MEMORY,
                        "cannot map %zu bytes of shared memory: %s", size, strerror(errno));
    *ret_segment = (struct segment){.memory = memory, .size = size};
    struct ring_shared *shared = (struct ring_shared *)(void *)memory;
    for (unsigned i = 0; i < 2; i++)
        ret_segment->rings[i] = (struct ring){
            .shared = shared + i,
            .bytes = memory + SEGMENT_PAGE + i * ring_pages(credits),
            .size = ring_size_of(credits),
            .capacity = SEGMENT_BATCH_SIZE_MAX,
        };
    return ERR_NONE;
}

enum err segment_create(uint32_t credits, struct segment *ret_segment, int *ret_fd,
                        struct diag *diag)
{
    int fd = memfd_create("trellis-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return diag_set(diag, errno == ENOMEM ? ERR_NO_MEMORY : ERR_BUSY,
                        "cannot make shared memory: %s", strerror(errno));
    enum err err = ERR_NONE;
    if (ftruncate(fd, (off_t)segment_size(credits)) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        err =
            diag_set(diag, err_from_errno(errno), "cannot make shared memory: %s", strerror(errno));
    if (!err) err = map(fd, credits, ret_segment, diag);
    if (err)
        (void)close(fd);
    else
        *ret_fd = fd;
    return err;
}

enum err segment_map(int fd, uint32_t credits, struct segment *ret_segment, struct diag *diag)
{
    struct statfs system;
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return diag_set(diag, ERR_DENIED, "the peer's shared memory is not sealed");
    if (fstatfs(fd, &system) < 0 || system.f_type != TMPFS_MAGIC)
        return diag_set(diag, ERR_DENIED, "the peer's shared memory is not ordinary memory");
    if (fstat(fd, &stat) < 0 || (uint64_t)stat.st_size != segment_size(credits))
        return diag_set(diag, ERR_DENIED, "the peer's shared memory has an unexpected size");
    return map(fd, credits, ret_segment, diag);
}

void segment_unmap(struct segment *segment)
{
    if (segment->memory) (void)munmap(segment->memory, segment->size);
    *segment = (struct segment){0};
}
