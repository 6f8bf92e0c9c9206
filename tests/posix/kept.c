/* What a file system must keep over an unmount: --populate makes DIR/kept, a tree of everything
 * there is; --describe prints all that can be seen of it, one line per name, the same for the same
 * tree. `run` compares two descriptions.
 *
 * Not described: the access times of directories and symbolic links, which describing changes, and
 * block counts, which the device below may change later. */
#include "tests/posix/runner.h"

#include <dirent.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { KEPT_DIRS = 12, KEPT_FILES = 240, BLOCK = 4096 };

/* ---- populate ---- */

static bool good = true;

/* What fails is told, once. */
static void done(bool success, const char *what)
{
    if (!success && good)
        fprintf(stderr, "posix: cannot populate: %s: %s\n", what, strerror(errno));
    good &= success;
}

static void set_times(const char *path, uint64_t r)
{
    const struct timespec times[2] = {
        {.tv_sec = (time_t)(r % 8000000000u) - 2000000000, .tv_nsec = (long)(r % 999999937)},
        {.tv_sec = (time_t)((r >> 7) % 8000000000u) - 2000000000, .tv_nsec = (long)(r % 99999989)}};
    done(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0, "times");
}

static void random_path(uint64_t *random, unsigned number, char path[400])
{
    uint64_t r = random_next(random);
    size_t used = (size_t)snprintf(path, 400, "d%u/", (unsigned)r % KEPT_DIRS);
    if (r % 17 == 0) {
        memset(path + used, 'n', 255);
        used += 249;
        snprintf(path + used, 7, "%06u", number % 1000000); /* 255 bytes in all */
    } else if (r % 13 == 0) {
        snprintf(path + used, 400 - used, "%c \n\xff%u", (int)(1 + (r >> 20) % 30), number);
    } else {
        snprintf(path + used, 400 - used, "f%u", number);
    }
}

static void make_content(const char *path, uint64_t *random)
{
    uint64_t r = random_next(random);
    size_t size = r % 7 == 0 ? 0 : r % 5 == 0 ? 100000 + r % 300000 : (r >> 8) % 9000;
    char *bytes = malloc(size + 1);
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    done(bytes && fd != -1, "a file");
    if (bytes && fd != -1) {
        pattern_fill(bytes, size, 0, r);
        done(write(fd, bytes, size) == (ssize_t)size, "a write");
        if (r % 11 == 0) done(pwrite(fd, "far", 3, (off_t)1 << 33) == 3, "a hole");
        if (r % 6 == 0) done(ftruncate(fd, (off_t)(size / 2)) == 0, "a truncation");
        if (r % 29 == 0)
            (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                            (off_t)(size / 2 + 1));
        if (r % 31 == 0) done(fsync(fd) == 0, "fsync");
    }
    if (fd != -1) done(close(fd) == 0, "close");
    free(bytes);
}

static void make_entry(unsigned number, uint64_t *random, bool root)
{
    static const mode_t nodes[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    char path[400];
    char other[400];
    uint64_t r = random_next(random);
    random_path(random, number, path);
    switch (r % 10) {
    case 0: {
        char target[4000];
        size_t size = 1 + (r >> 8) % (r % 3 ? 60 : 3999);
        memset(target, 't', size);
        target[size < sizeof(target) ? size : sizeof(target) - 1] = 0;
        done(symlink(target, path) == 0, "a symbolic link");
        break;
    }
    case 1: {
        mode_t type = nodes[(r >> 8) % (root ? 4 : 2)];
        done(mknod(path, type | 0640,
                   makedev((unsigned)(r >> 16) % 4096, (unsigned)(r >> 28) % 1048576)) == 0,
             "a node");
        break;
    }
    default:
        make_content(path, random);
        done(chmod(path, ((mode_t)(r >> 12) & 01777) | (root ? 0 : 0600)) == 0, "chmod");
        if (r % 4 == 0) (void)setxattr(path, "user.note", path, strlen(path), 0);
        if (r % 40 == 2 && root) (void)setxattr(path, "trusted.large", path, strlen(path), 0);
        if (r % 8 == 2) {
            random_path(random, number + 100000, other);
            done(link(path, other) == 0, "a link");
        }
    }
    if (root)
        done(lchown(path, (uid_t)(r >> 20) % 100000, (gid_t)(r >> 30) % 100000) == 0, "chown");
    if (r % 5 == 1) {
        random_path(random, number + 200000, other);
        done(rename(path, other) == 0, "rename");
        memcpy(path, other, sizeof(path));
    }
    if (r % 9 == 3)
        done(unlink(path) == 0, "unlink");
    else if (r % 2)
        set_times(path, r);
}

static void set_flags(const char *path, int flags)
{
    int fd = open(path, O_CREAT | O_RDONLY, 0644);
    done(fd != -1, "a file with flags");
    if (fd == -1) return;
    (void)ioctl(fd, FS_IOC_SETFLAGS, &flags); /* where there are none, none are to be kept */
    (void)close(fd);
}

int kept_populate(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    bool root = geteuid() == 0;
    char path[400];
    (void)umask(022);
    done(chdir(dir) == 0 && mkdir("kept", 0755) == 0 && chdir("kept") == 0, "its directory");
    for (unsigned i = 0; good && i < KEPT_DIRS; i++) {
        snprintf(path, sizeof(path), "d%u", i);
        done(mkdir(path, 0755) == 0 && chmod(path, (mode_t)(0755 | (i % 4) << 9)) == 0,
             "a directory");
    }
    for (unsigned i = 0; good && i < KEPT_FILES; i++)
        make_entry(i, &random, root);
    for (unsigned i = 1; good && i < KEPT_DIRS; i += 2) { /* some become nested */
        char to[400];
        snprintf(path, sizeof(path), "d%u", i);
        snprintf(to, sizeof(to), "d%u/sub%u", i - 1, i);
        done(rename(path, to) == 0, "a moved directory");
        set_times(to, random_next(&random));
    }
    set_flags("immutable", FS_IMMUTABLE_FL);
    set_flags("append-only", FS_APPEND_FL | FS_NODUMP_FL);
    return good ? 0 : 1;
}

/* ---- describe ---- */

static void print_escaped(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte <= ' ' || byte > '~' || byte == '\\')
            printf("\\%03o", byte);
        else
            putchar(byte);
    }
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

/* Of the bytes that are not in blocks of zeros, with their places: the same for holes and for
 * zeros. */
static uint64_t hash_content(int fd)
{
    static char block[BLOCK];
    static const char zeros[BLOCK];
    uint64_t hash = 0xcbf29ce484222325u;
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) != -1;) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        at -= at % BLOCK;
        for (; at < end; at += BLOCK) {
            ssize_t size = pread(fd, block, BLOCK, at);
            if (size <= 0) return 0;
            if (memcmp(block, zeros, (size_t)size) == 0) continue;
            hash = hash_bytes(hash, &at, sizeof(at));
            hash = hash_bytes(hash, block, (size_t)size);
        }
        at = end;
    }
    return hash;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void print_attributes(const char *path)
{
    static char list[65536];
    static char value[65536];
    const char *names[100];
    unsigned count = 0;
    ssize_t size = llistxattr(path, list, sizeof(list));
    for (ssize_t at = 0; at < size && count < 100; at += (ssize_t)strlen(list + at) + 1)
        names[count++] = list + at;
    qsort(names, count, sizeof(names[0]), compare_names);
    for (unsigned i = 0; i < count; i++) {
        ssize_t value_size = lgetxattr(path, names[i], value, sizeof(value));
        printf(" %s=", names[i]);
        if (value_size > 0) print_escaped(value, (size_t)value_size);
    }
}

static bool describe(const char *path, const struct stat *attr)
{
    print_escaped(path, strlen(path));
    printf(" mode=%o links=%lu owner=%u:%u inode=%llu mtime=%lld.%09ld ctime=%lld.%09ld",
           attr->st_mode, (unsigned long)attr->st_nlink, attr->st_uid, attr->st_gid,
           (unsigned long long)attr->st_ino, (long long)attr->st_mtim.tv_sec, attr->st_mtim.tv_nsec,
           (long long)attr->st_ctim.tv_sec, attr->st_ctim.tv_nsec);
    if (S_ISCHR(attr->st_mode) || S_ISBLK(attr->st_mode))
        printf(" device=%u:%u", major(attr->st_rdev), minor(attr->st_rdev));
    if (S_ISLNK(attr->st_mode)) {
        char target[PATH_MAX];
        ssize_t size = readlink(path, target, sizeof(target));
        if (size < 0) return false;
        printf(" target=");
        print_escaped(target, (size_t)size);
    }
    if (S_ISREG(attr->st_mode) || S_ISDIR(attr->st_mode)) {
        int fd = open(path, O_RDONLY | O_NOATIME);
        int flags = 0;
        if (fd == -1) return false;
        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) printf(" flags=%x", (unsigned)flags);
        if (S_ISREG(attr->st_mode))
            printf(" size=%lld atime=%lld.%09ld content=%016llx", (long long)attr->st_size,
                   (long long)attr->st_atim.tv_sec, attr->st_atim.tv_nsec,
                   (unsigned long long)hash_content(fd));
        (void)close(fd);
    }
    print_attributes(path);
    putchar('\n');
    return true;
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);
}

static bool describe_tree(const char *path)
{
    struct stat attr;
    if (lstat(path, &attr) == -1 || !describe(path, &attr)) {
        fprintf(stderr, "posix: cannot describe %s: %s\n", path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(attr.st_mode)) return true;
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    bool success = count >= 0;
    for (int i = 0; i < count; i++) {
        char below[PATH_MAX];
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            snprintf(below, sizeof(below), "%.3000s/%s", path, name);
            success &= describe_tree(below);
        }
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return success;
}

int kept_describe(const char *dir)
{
    if (chdir(dir) == -1) {
        perror("posix: cannot enter the directory");
        return 1;
    }
    return describe_tree("kept") && fflush(stdout) == 0 ? 0 : 1;
}
