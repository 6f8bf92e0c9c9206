/* Making files, comparing their bytes, waiting, names of any length. */
#include "tests/posix/report.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>

int open_file(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags, mode);
    if (fd == -1) {
        FAIL("cannot open %s: %s", path, strerror(errno));
        case_abort();
    }
    return fd;
}

void write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t done = write(fd, at, size);
        if (done == -1 && errno == EINTR) continue;
        REQUIRE(done > 0);
        at += done;
        size -= (size_t)done;
    }
}

void pwrite_all(int fd, const void *bytes, size_t size, off_t offset)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t done = pwrite(fd, at, size, offset);
        if (done == -1 && errno == EINTR) continue;
        REQUIRE(done > 0);
        at += done;
        offset += done;
        size -= (size_t)done;
    }
}

void make_file(const char *path, mode_t mode, const char *content)
{
    int fd = open_file(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (content) write_all(fd, content, strlen(content));
    REQUIRE_OK(fchmod(fd, mode));
    REQUIRE_OK(close(fd));
}

void make_dir(const char *path, mode_t mode)
{
    REQUIRE_OK(mkdir(path, 0700));
    REQUIRE_OK(chmod(path, mode));
}

void make_node(const char *path, mode_t type)
{
    switch (type) {
    case S_IFREG:
        make_file(path, 0644, "content");
        break;
    case S_IFDIR:
        make_dir(path, 0755);
        break;
    case S_IFLNK:
        REQUIRE_OK(symlink("target", path));
        break;
    case S_IFIFO:
        REQUIRE_OK(mkfifo(path, 0644));
        break;
    case S_IFSOCK:
        REQUIRE_OK(mknod(path, S_IFSOCK | 0644, 0));
        break;
    default:
        REQUIRE_OK(mknod(path, type | 0644, makedev(1, 3)));
    }
}

void expect_bytes_at(struct place place, int fd, const void *bytes, size_t size, off_t offset)
{
    char *found = malloc(size + 1);
    size_t used = 0;
    REQUIRE(found != NULL);
    while (used < size) {
        ssize_t done = pread(fd, found + used, size - used, offset + (off_t)used);
        if (done == -1) {
            fail_at(place, "cannot read %zu bytes at %lld: %s", size, (long long)offset,
                    strerror(errno));
            free(found);
            return;
        }
        if (done == 0) break;
        used += (size_t)done;
    }
    size_t same = 0;
    while (same < used && found[same] == ((const char *)bytes)[same])
        same++;
    if (same < used)
        fail_at(place, "byte %lld is 0x%02x, not 0x%02x", (long long)offset + (long long)same,
                (unsigned char)found[same], ((const unsigned char *)bytes)[same]);
    else
        expect_at(place, used == size, "the file is long enough");
    free(found);
}

void expect_zeros_at(struct place place, int fd, size_t size, off_t offset)
{
    char *zeros = calloc(1, size + 1);
    REQUIRE(zeros != NULL);
    expect_bytes_at(place, fd, zeros, size, offset);
    free(zeros);
}

void expect_content_at(struct place place, const char *path, const char *text)
{
    int fd = open(path, O_RDONLY);
    if (fd == -1) {
        fail_at(place, "cannot open %s: %s", path, strerror(errno));
        return;
    }
    struct stat stat;
    if (fstat(fd, &stat) == -1 || stat.st_size != (off_t)strlen(text))
        fail_at(place, "%s has %lld bytes, not %zu", path, (long long)stat.st_size, strlen(text));
    else
        expect_bytes_at(place, fd, text, strlen(text), 0);
    (void)close(fd);
}

uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return mix64(*state);
}

void pattern_fill(void *bytes, size_t size, uint64_t offset, uint64_t seed)
{
    uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++) {
        uint64_t position = offset + i;
        at[i] = (uint8_t)(mix64((position >> 3) + seed * 0x100000001b3u) >> (8 * (position & 7)));
    }
}

void cache_drop(int fd)
{
    /* Only clean pages can be dropped. */
    (void)sync_file_range(
        fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

bool exists(const char *path)
{
    struct stat stat;
    return lstat(path, &stat) == 0;
}

const char *long_name(size_t size)
{
    static char name[PATH_MAX * 2];
    REQUIRE(size < sizeof(name));
    memset(name, 'n', size);
    name[size] = 0;
    return name;
}

const char *long_path(size_t size, const char *name)
{
    static char path[PATH_MAX * 2];
    size_t name_size = strlen(name);
    REQUIRE(size < sizeof(path) && name_size < size);
    size_t prefix = size - name_size;
    for (size_t i = 0; i < prefix; i++)
        path[i] = i % 2 ? '/' : '.';
    if (prefix % 2) path[prefix - 1] = '/'; /* an odd count ends in "//" */
    memcpy(path + prefix, name, name_size + 1);
    return path;
}

const char *other_dir(void)
{
    static const char *const places[] = {"/dev/shm", "/run", "/tmp", "/var/tmp", "/"};
    struct stat here;
    struct stat there;
    REQUIRE_OK(stat(".", &here));
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (stat(places[i], &there) == -1 || there.st_dev == here.st_dev) continue;
        snprintf(report->other_dir, sizeof(report->other_dir), "%s/posix-XXXXXX", places[i]);
        if (mkdtemp(report->other_dir)) {
            REQUIRE_OK(chmod(report->other_dir, 0777));
            return report->other_dir;
        }
        report->other_dir[0] = 0;
    }
    case_skip("no other file system to write to");
}

long count_entries(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) return -1;
    long count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(dir);
    return count;
}

void sleep_ms(unsigned ms)
{
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) == -1 && errno == EINTR) {
    }
}

void tick(void)
{
    struct timespec start;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &start);
    do {
        sleep_ms(1);
        (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
}
