/* copy_file_range on a device that fails: each file call of the copying in turn, once or from then
 * on, whether the device copies and punches by itself or not. What was done counts and is there,
 * the rest of the target is as it was, and what is tried again is finished. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

#include "metadata/device.h"
#include "metadata/fsck.h"
#include "tests/unit/metadata/checker.h"

enum {
    K = 1024,
    SOURCE_DATA = 700 * K, /* behind it, to its end, the source is a hole */
    SOURCE_SIZE = 1000 * K,
    FROM = 100 * K,
    TO = 50 * K,
    SIZE = SOURCE_SIZE - FROM,
    TARGET_MAX = 1200 * K,
    CALL_MAX = 150 * K, /* of one call: more are needed */
};

static struct store s;

/* ---- the device ---- */

static struct {
    atomic_bool armed;
    bool copies;
    bool punches;
    int error;
    bool stays;
    unsigned at; /* the call that fails */
    unsigned calls;
} device;

static bool is_object(int fd)
{
    char link[40];
    char path[256];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path));
    return size > 0 && !strncmp(path, s.data_dir, strlen(s.data_dir));
}

static bool fails(void)
{
    device.calls++;
    if (device.calls != device.at && !(device.stays && device.calls > device.at && device.at))
        return false;
    errno = device.error;
    return true;
}

static size_t capped(size_t size)
{
    return size < CALL_MAX ? size : CALL_MAX;
}

ssize_t __real_copy_file_range(int from, off_t *in, int to, off_t *out, size_t size,
                               unsigned flags);
ssize_t __wrap_copy_file_range(int from, off_t *in, int to, off_t *out, size_t size,
                               unsigned flags);
ssize_t __wrap_copy_file_range(int from, off_t *in, int to, off_t *out, size_t size, unsigned flags)
{
    if (!atomic_load(&device.armed)) return __real_copy_file_range(from, in, to, out, size, flags);
    if (!device.copies) {
        errno = EXDEV;
        return -1;
    }
    return fails() ? -1 : __real_copy_file_range(from, in, to, out, capped(size), flags);
}

int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
    if (!atomic_load(&device.armed) || !is_object(fd))
        return __real_fallocate64(fd, mode, offset, size);
    if (!device.punches) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fails() ? -1 : __real_fallocate64(fd, mode, offset, size);
}

ssize_t __real_pread64(int fd, void *bytes, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t size, off_t offset)
{
    if (!atomic_load(&device.armed) || !is_object(fd))
        return __real_pread64(fd, bytes, size, offset);
    return fails() ? -1 : __real_pread64(fd, bytes, capped(size), offset);
}

ssize_t __real_pwrite64(int fd, const void *bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t size, off_t offset)
{
    if (!atomic_load(&device.armed) || !is_object(fd))
        return __real_pwrite64(fd, bytes, size, offset);
    return fails() ? -1 : __real_pwrite64(fd, bytes, capped(size), offset);
}

/* ---- files ---- */

static uint8_t source_bytes[SOURCE_SIZE];
static uint8_t expected[TARGET_MAX];
static uint8_t found[TARGET_MAX + 1];

static struct fs_file *create(const char *name, struct fs_attr *ret_attr)
{
    struct fs_file *file;
    OK(fs_create_file(s.c, &root, FS_ROOT_INO, name, 0600, O_RDWR, ret_attr, &file));
    return file;
}

static enum err copy(struct fs_file *from, struct fs_file *to, uint64_t skip, uint64_t *ret_done)
{
    struct waited_io w = {.io = {.file = from,
                                 .offset = FROM + skip,
                                 .to = to,
                                 .to_offset = TO + skip,
                                 .size = SIZE - skip}};
    return io_wait(&s, &w, fs_copy, ret_done);
}

static void check_target(struct fs_file *file, uint64_t ino, uint64_t size)
{
    cr_assert_eq(attr_of(&s, ino).size, size);
    cr_assert_eq(read_at(&s, file, 0, found, sizeof(found)), size);
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(found[i], expected[i], "byte %zu of %zu is %d, not %d; call %u failed", i,
                     (size_t)size, found[i], expected[i], device.at);
    /* The space is that of the object. */
    struct fs_attr attr = attr_of(&s, ino);
    struct stat stat = {0};
    int fd;
    bool created;
    enum err err =
        object_open(s.fs->device, (struct object_id){.ino = ino, .life = attr.generation}, false,
                    &created, &fd);
    if (!err) {
        cr_assert_eq(fstat(fd, &stat), 0);
        cr_assert_eq(close(fd), 0);
    }
    cr_assert_eq(attr.blocks, (uint64_t)stat.st_blocks);
}

/* One copy, of which one call fails. False: there were fewer calls. */
static bool trial(struct fs_file *source, uint64_t old_size)
{
    struct fs_attr attr;
    struct fs_file *target = create("target", &attr);
    memset(expected, 0, sizeof(expected));
    memset(expected, 'y', old_size);
    if (old_size) write_at(&s, target, 0, expected, old_size);

    uint64_t done = 0;
    device.calls = 0;
    atomic_store(&device.armed, true);
    enum err err = copy(source, target, 0, &done);
    atomic_store(&device.armed, false);
    bool fired = device.at && device.calls >= device.at;
    if (err) {
        cr_assert_eq(err, device.error == EIO ? ERR_EIO : ERR_ENOSPC, "%s", err_name(err));
        cr_assert(fired);
        done = 0;
    } else {
        cr_assert(done && done <= SIZE);
        if (!fired) cr_assert_eq(done, SIZE);
    }
    memcpy(expected + TO, source_bytes + FROM, done);
    uint64_t size = done && TO + done > old_size ? TO + done : old_size;
    check_target(target, attr.ino, size);

    while (done < SIZE) {
        uint64_t more;
        OK(copy(source, target, done, &more));
        cr_assert_gt(more, 0);
        done += more;
    }
    memcpy(expected + TO, source_bytes + FROM, SIZE);
    check_target(target, attr.ino, TO + SIZE > old_size ? TO + SIZE : old_size);
    OK(fs_unlink(s.c, &root, FS_ROOT_INO, "target"));
    OK(fs_release_file(s.c, target));
    fs_forget(s.c, attr.ino, 1);
    return fired;
}

static void add_finding(void *context, const char *line)
{
    (void)context;
    cr_assert_fail("%s", line);
}

static void sweep(bool copies, bool punches)
{
    static const uint64_t old_sizes[] = {0, TARGET_MAX};
    static const int errors[] = {ENOSPC, EIO};
    struct fs_attr attr;
    struct fs_file *source = create("source", &attr);
    for (size_t i = 0; i < SOURCE_DATA; i++)
        source_bytes[i] = (uint8_t)(i % 251 + 1);
    write_at(&s, source, 0, source_bytes, SOURCE_DATA);
    struct fs_attr size = {.size = SOURCE_SIZE};
    OK(fs_setattr(s.c, &root, attr.ino, FS_SET_SIZE, &size, &attr));
    for (unsigned i = 0; i < 8; i++) {
        device.copies = copies;
        device.punches = punches;
        device.error = errors[i & 1];
        device.stays = i & 2;
        device.at = 1;
        while (trial(source, old_sizes[i >> 2]))
            device.at++;
        cr_assert_geq(device.at, 4, "%u calls", device.at);
        background_drain(s.fs);
        uint64_t count = 0;
        struct diag diag = {0};
        enum err err = fsck_run(s.db_client, add_finding, NULL, &count, &diag);
        cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
        cr_assert_eq(count, 0);
        check_tree(&s, false);
    }
    OK(fs_release_file(s.c, source));
}

static void setup(void)
{
    store_new(&s, 2);
}

static void teardown(void)
{
    store_end(&s);
}

CASE(copy_faults, of_a_device_that_copies_and_punches)
{
    sweep(true, true);
}

CASE(copy_faults, of_a_device_that_cannot_copy)
{
    sweep(false, true);
}

CASE(copy_faults, of_a_device_that_cannot_punch)
{
    sweep(true, false);
}

CASE(copy_faults, of_a_device_that_can_neither)
{
    sweep(false, false);
}
