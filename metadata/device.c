/* The local device.
 *
 *     DIR/DEVICE                     one line: the identity, which belongs to one store
 *     DIR/LLLLLLLL/SSSSSS/SS/INO     an object
 *
 * LLLLLLLL is the life in which the inode was made, SSSSSS and SS the bits above the lowest eight
 * of the number's sequence, INO the number; all hexadecimal. Numbers are given out in order, so
 * files made together lie together and few directories are in use at a time. The life is part of
 * the name for two reasons: a number that a crash took back and that is given out again never meets
 * the object of its former life, and after a crash only objects of the last life can have lost
 * their inode (life.c looks for those).
 *
 * A directory is made and its name synced to disk before an object can be in it, under one mutex,
 * so that syncing the directory that holds an object makes the object's whole path durable. */
#include "metadata/device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "db/wire/schema.h"

struct device {
    int fd;
    pthread_mutex_t mutex; /* making directories */
};

enum { PATH_SIZE = 64 };

enum err object_err(int number)
{
    switch (number) {
    case ENOSPC:
        return ERR_ENOSPC;
    case EDQUOT:
        return ERR_EDQUOT;
    case EFBIG:
        return ERR_EFBIG;
    case EOPNOTSUPP:
        return ERR_EOPNOTSUPP;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case EMFILE:
    case ENFILE:
        return ERR_BUSY;
    case ENOENT:
        return ERR_NOT_FOUND;
    default:
        return ERR_EIO;
    }
}

/* ---- opening ---- */

static enum err write_identity(int fd, const char *identity)
{
    char line[DEVICE_IDENTITY_SIZE + 2];
    int size = snprintf(line, sizeof(line), "%s\n", identity);
    int file = openat(fd, "DEVICE.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return err_from_errno(errno);
    bool written = write(file, line, (size_t)size) == size && fsync(file) == 0;
    int number = errno;
    if (close(file) || !written) return err_from_errno(written ? errno : number);
    if (renameat(fd, "DEVICE.new", fd, "DEVICE") || fsync(fd)) return err_from_errno(errno);
    return ERR_NONE;
}

static enum err check_identity(int fd, const char *dir, const char *identity, bool fresh,
                               struct diag *diag)
{
    int file = openat(fd, "DEVICE", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0 && errno == ENOENT && fresh) {
        enum err err = write_identity(fd, identity);
        return err ? diag_set(diag, err, "%s: cannot mark the data directory: %s", dir,
                              err_text(err))
                   : ERR_NONE;
    }
    if (file < 0 && errno == ENOENT)
        return diag_set(diag, ERR_INVALID,
                        "%s does not hold this store's data: it has no file DEVICE", dir);
    if (file < 0)
        return diag_set(diag, err_from_errno(errno), "%s/DEVICE: %s", dir, strerror(errno));
    char line[DEVICE_IDENTITY_SIZE + 1];
    ssize_t size = read(file, line, sizeof(line));
    (void)close(file);
    if (size != (ssize_t)sizeof(line) || memcmp(line, identity, DEVICE_IDENTITY_SIZE) != 0)
        return diag_set(diag, ERR_INVALID, "%s holds the data of another store", dir);
    return ERR_NONE;
}

enum err device_open(const char *dir, const char identity[DEVICE_IDENTITY_SIZE + 1], bool fresh,
                     struct device **ret_device, struct diag *diag)
{
    if (fresh && mkdir(dir, 0700) && errno != EEXIST)
        return diag_set(diag, err_from_errno(errno), "%s: %s", dir, strerror(errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return diag_set(diag, err_from_errno(errno), "%s: %s", dir, strerror(errno));
    enum err err = check_identity(fd, dir, identity, fresh, diag);
    if (err) goto close_fd;
    struct device *device = malloc(sizeof(*device));
    if (!device) {
        err = diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
        goto close_fd;
    }
    device->fd = fd;
    pthread_mutex_init(&device->mutex, NULL);
    *ret_device = device;
    return ERR_NONE;
close_fd:
    (void)close(fd);
    return err;
}

void device_close(struct device *device)
{
    if (!device) return;
    (void)close(device->fd);
    pthread_mutex_destroy(&device->mutex);
    free(device);
}

enum err device_statfs(struct device *device, struct fs_statfs *ret_statfs)
{
    struct statvfs stat;
    if (fstatvfs(device->fd, &stat)) return object_err(errno);
    uint64_t unit = stat.f_frsize ? stat.f_frsize : stat.f_bsize;
    /* Some file systems have no fixed number of inodes and say 0. */
    bool counts_files = stat.f_files != 0;
    *ret_statfs = (struct fs_statfs){
        .bytes_total = stat.f_blocks * unit,
        .bytes_free = stat.f_bfree * unit,
        .bytes_available = stat.f_bavail * unit,
        .files_total = counts_files ? stat.f_files : UINT64_C(1) << HOME_SHIFT,
        .files_free = counts_files ? stat.f_ffree : UINT64_C(1) << HOME_SHIFT,
        .block_size = 4096,
        .name_size_max = FS_NAME_SIZE_MAX,
    };
    return ERR_NONE;
}

enum err device_sync(struct device *device)
{
    return syncfs(device->fd) ? object_err(errno) : ERR_NONE;
}

/* ---- objects ---- */

/* Depth 1 to 3: a directory on the way; 4: the object. */
static void object_path(struct object_id id, int depth, char path[PATH_SIZE])
{
    uint64_t sequence = id.ino & ((UINT64_C(1) << HOME_SHIFT) - 1);
    static const uint8_t sizes[] = {0, 8, 15, 18, 33};
    int size =
        snprintf(path, PATH_SIZE, "%08x/%06x/%02x/%014llx", id.life, (unsigned)(sequence >> 16),
                 (unsigned)(sequence >> 8 & 0xff), (unsigned long long)id.ino);
    (void)size;
    path[sizes[depth]] = 0;
}

/* Makes a directory durable by syncing the one that holds it. */
static enum err dir_sync(struct device *device, const char *path)
{
    int fd = openat(device->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return object_err(errno);
    enum err err = fsync(fd) ? object_err(errno) : ERR_NONE;
    (void)close(fd);
    return err;
}

static enum err dirs_make(struct device *device, struct object_id id)
{
    char path[PATH_SIZE];
    char above[PATH_SIZE] = ".";
    enum err err = ERR_NONE;
    pthread_mutex_lock(&device->mutex);
    for (int depth = 1; depth <= 3 && !err; depth++) {
        object_path(id, depth, path);
        if (mkdirat(device->fd, path, 0700) == 0)
            err = dir_sync(device, above);
        else if (errno != EEXIST)
            err = object_err(errno);
        memcpy(above, path, sizeof(above));
    }
    pthread_mutex_unlock(&device->mutex);
    return err;
}

enum err object_open(struct device *device, struct object_id id, bool create, bool *ret_created,
                     int *ret_fd)
{
    char path[PATH_SIZE];
    object_path(id, 4, path);
    int fd = openat(device->fd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool created = false;
    if (fd < 0 && errno == ENOENT && create) {
        const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
        fd = openat(device->fd, path, flags, 0600);
        if (fd < 0 && errno == ENOENT) {
            enum err err = dirs_make(device, id);
            if (err) return err;
            fd = openat(device->fd, path, flags, 0600);
        }
        created = fd >= 0;
    }
    if (fd < 0) return object_err(errno);
    *ret_created = created;
    *ret_fd = fd;
    return ERR_NONE;
}

bool object_exists(struct device *device, struct object_id id)
{
    char path[PATH_SIZE];
    object_path(id, 4, path);
    return faccessat(device->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

enum err object_remove(struct device *device, struct object_id id)
{
    char path[PATH_SIZE];
    object_path(id, 4, path);
    return unlinkat(device->fd, path, 0) && errno != ENOENT ? object_err(errno) : ERR_NONE;
}

enum err object_sync_name(struct device *device, struct object_id id)
{
    /* A thread that is making the directory has synced its name before it lets go. */
    pthread_mutex_lock(&device->mutex);
    pthread_mutex_unlock(&device->mutex);
    char path[PATH_SIZE];
    object_path(id, 3, path);
    return dir_sync(device, path);
}

/* ---- walking ---- */

/* Calls back for each name of `digits` hexadecimal digits in the directory. */
static enum err each_number(int parent, const char *path, size_t digits,
                            enum err (*each)(void *context, int dir, const char *name),
                            void *context)
{
    int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return errno == ENOENT ? ERR_NONE : object_err(errno);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_NONE;
    const struct dirent *entry;
    while (!err && (entry = readdir(dir))) {
        if (strlen(entry->d_name) != digits || strspn(entry->d_name, "0123456789abcdef") != digits)
            continue; /* not ours */
        err = each(context, fd, entry->d_name);
    }
    (void)closedir(dir);
    return err;
}

struct walk {
    uint32_t life;
    enum err (*each)(void *context, struct object_id id);
    void *context;
};

static enum err walk_object(void *context, int dir, const char *name)
{
    (void)dir;
    const struct walk *walk = context;
    struct object_id id = {.ino = strtoull(name, NULL, 16), .life = walk->life};
    return walk->each(walk->context, id);
}

static enum err walk_low(void *context, int dir, const char *name)
{
    return each_number(dir, name, 14, walk_object, context);
}

static enum err walk_high(void *context, int dir, const char *name)
{
    return each_number(dir, name, 2, walk_low, context);
}

enum err device_each(struct device *device, uint32_t life,
                     enum err (*each)(void *context, struct object_id id), void *context)
{
    struct walk walk = {.life = life, .each = each, .context = context};
    char path[PATH_SIZE];
    object_path((struct object_id){.life = life}, 1, path);
    return each_number(device->fd, path, 6, walk_high, &walk);
}
