/* Random operations on names, done alike here and in a directory of another file system (tmpfs,
 * where there is one): results, errors and finally the whole trees must be the same.
 *
 * This finds what a list of cases does not: which of two errors comes first, and what a long
 * history does to counts. Only where POSIX or the manual pages leave a choice, two errors are taken
 * for the same. */
#include "tests/posix/suite.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/xattr.h>

enum { OPERATIONS = 4000, PATH_SIZE_MAX = 64, FILES_MAX = 2000 };

static int same_error(int error)
{
    return error == EEXIST ? ENOTEMPTY : error;
}

/* Paths that something was last made at or moved to. */
struct recent {
    char paths[16][PATH_SIZE_MAX];
    unsigned count;
};

/* A recent path, or one to four components out of few names, so that most operations meet
 * something. */
static void random_path(const struct recent *recent, uint64_t *random, char path[PATH_SIZE_MAX])
{
    if (recent->count && random_next(random) % 2) {
        unsigned limit = recent->count < 16 ? recent->count : 16;
        memcpy(path, recent->paths[random_next(random) % limit], PATH_SIZE_MAX);
        return;
    }
    static const char *const names[] = {"a", "b", "c", "d", "link", "x", "y"};
    static const uint8_t depths[] = {1, 1, 1, 1, 2, 2, 2, 3, 3, 4};
    unsigned depth = depths[random_next(random) % sizeof(depths)];
    size_t used = 0;
    for (unsigned i = 0; i < depth; i++) {
        uint64_t r = random_next(random);
        const char *name = r % 50 == 0 ? ".." : r % 50 == 1 ? "." : names[(r >> 8) % 7];
        used += (size_t)snprintf(path + used, PATH_SIZE_MAX - used, "%s%s", i ? "/" : "", name);
    }
    if (random_next(random) % 40 == 0) (void)snprintf(path + used, PATH_SIZE_MAX - used, "/");
}

struct operation {
    unsigned what;
    char path[PATH_SIZE_MAX];
    char other[PATH_SIZE_MAX];
    uint64_t number;
};

static const char *const operation_names[] = {
    "open",     "open",        "write",     "write",   "mkdir",  "mkdir",
    "mkdir",    "mkdir",       "rmdir",     "unlink",  "rename", "rename",
    "rename",   "exchange",    "noreplace", "link",    "link",   "symlink",
    "mkfifo",   "chmod",       "truncate",  "stat",    "lstat",  "readlink",
    "setxattr", "removexattr", "exclusive", "opendir", "utimes"};
enum { OPERATION_COUNT = sizeof(operation_names) / sizeof(operation_names[0]) };

static long write_to(const char *path, uint64_t number)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
    if (fd == -1) return -1;
    char text[32];
    int size = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    long result = pwrite(fd, text, (size_t)size, (off_t)(number % 50));
    int error = errno;
    (void)close(fd);
    errno = error;
    return result;
}

static long open_and_close(const char *path, int flags)
{
    int fd = open(path, flags | O_NONBLOCK, 0640);
    if (fd == -1) return -1;
    (void)close(fd);
    return 0;
}

/* Whether both sides have attributes of users; else those operations do nothing. */
static bool with_attributes;

static bool has_attributes(const char *dir)
{
    bool has = setxattr(dir, "user.a", "v", 1, 0) == 0;
    if (has) REQUIRE_OK(removexattr(dir, "user.a"));
    return has;
}

/* In the current directory. */
static long perform(const struct operation *operation)
{
    static const char *const targets[] = {"a", "../b", "c/d", "link", "missing/x", "."};
    const char *name = operation_names[operation->what];
    const char *path = operation->path;
    const char *other = operation->other;
    struct stat attr;
    char target[PATH_MAX];
    if (strcmp(name, "open") == 0) return open_and_close(path, O_CREAT | O_WRONLY);
    if (strcmp(name, "exclusive") == 0) return open_and_close(path, O_CREAT | O_EXCL | O_WRONLY);
    if (strcmp(name, "opendir") == 0) return open_and_close(path, O_DIRECTORY | O_RDONLY);
    if (strcmp(name, "write") == 0) return write_to(path, operation->number);
    if (strcmp(name, "mkdir") == 0) return mkdir(path, 0750);
    if (strcmp(name, "rmdir") == 0) return rmdir(path);
    if (strcmp(name, "unlink") == 0) return unlink(path);
    if (strcmp(name, "rename") == 0) return rename(path, other);
    if (strcmp(name, "exchange") == 0)
        return renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
    if (strcmp(name, "noreplace") == 0)
        return renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_NOREPLACE);
    if (strcmp(name, "link") == 0) return link(path, other);
    if (strcmp(name, "symlink") == 0) return symlink(targets[operation->number % 6], path);
    if (strcmp(name, "mkfifo") == 0) return mkfifo(path, 0604);
    if (strcmp(name, "chmod") == 0) return chmod(path, 0700 | (mode_t)(operation->number % 64));
    if (strcmp(name, "truncate") == 0) return truncate(path, (off_t)(operation->number % 70));
    if (strcmp(name, "stat") == 0) return stat(path, &attr);
    if (strcmp(name, "lstat") == 0) return lstat(path, &attr);
    if (strcmp(name, "readlink") == 0) return readlink(path, target, sizeof(target));
    if (!with_attributes && strstr(name, "xattr")) return 0;
    if (strcmp(name, "setxattr") == 0) return setxattr(path, "user.a", path, strlen(path), 0);
    if (strcmp(name, "removexattr") == 0) return removexattr(path, "user.a");
    return utimensat(AT_FDCWD, path, NULL, 0);
}

/* ---- comparing trees ---- */

struct pair {
    ino_t here, there;
};
struct comparison {
    struct pair files[FILES_MAX]; /* what was met, so that hard links can be told */
    unsigned count;
    unsigned differences;
};

static void expect_same_file(struct comparison *comparison, const char *here, const char *there,
                             const char *path)
{
    char one[PATH_MAX], two[PATH_MAX];
    struct stat a = {0}, b = {0};
    snprintf(one, sizeof(one), "%s/%s", here, path);
    snprintf(two, sizeof(two), "%s/%s", there, path);
    if (lstat(one, &a) == -1 || lstat(two, &b) == -1) {
        FAIL("%s is missing on one side", path);
        comparison->differences++;
        return;
    }
    bool same = a.st_mode == b.st_mode && a.st_nlink == b.st_nlink && a.st_uid == b.st_uid;
    if (!S_ISDIR(a.st_mode)) same &= a.st_size == b.st_size;
    if (!same) {
        FAIL("%s: mode 0%o, links %lu, size %lld, not 0%o, %lu, %lld", path, a.st_mode,
             (unsigned long)a.st_nlink, (long long)a.st_size, b.st_mode, (unsigned long)b.st_nlink,
             (long long)b.st_size);
        comparison->differences++;
    }
    for (unsigned i = 0; i < comparison->count; i++)
        if ((comparison->files[i].here == a.st_ino) != (comparison->files[i].there == b.st_ino)) {
            FAIL("%s is not linked to the same files", path);
            comparison->differences++;
            return;
        }
    if (comparison->count < FILES_MAX)
        comparison->files[comparison->count++] = (struct pair){a.st_ino, b.st_ino};
    char bytes[2][256] = {{0}};
    ssize_t sizes[2] = {0};
    for (int side = 0; side < 2; side++) {
        const char *name = side ? two : one;
        if (S_ISLNK(a.st_mode)) {
            sizes[side] = readlink(name, bytes[side], 256);
        } else if (S_ISREG(a.st_mode)) {
            int fd = open_file(name, O_RDONLY, 0);
            sizes[side] = pread(fd, bytes[side], 256, 0);
            REQUIRE_OK(close(fd));
        }
    }
    if (sizes[0] != sizes[1] || memcmp(bytes[0], bytes[1], 256) != 0) {
        FAIL("%s has other bytes", path);
        comparison->differences++;
    }
    char value[2][PATH_SIZE_MAX] = {{0}};
    if (S_ISLNK(a.st_mode)) return;
    sizes[0] = getxattr(one, "user.a", value[0], PATH_SIZE_MAX);
    sizes[1] = getxattr(two, "user.a", value[1], PATH_SIZE_MAX);
    if (sizes[0] != sizes[1] || memcmp(value[0], value[1], PATH_SIZE_MAX) != 0) {
        FAIL("%s has another attribute", path);
        comparison->differences++;
    }
}

static void compare_trees(struct comparison *comparison, const char *here, const char *there,
                          const char *path)
{
    char full[PATH_MAX];
    char two[PATH_MAX];
    expect_same_file(comparison, here, there, path);
    snprintf(full, sizeof(full), "%s/%s", here, path);
    snprintf(two, sizeof(two), "%s/%s", there, path);
    struct stat attr;
    if (comparison->differences > 5 || lstat(full, &attr) == -1 || !S_ISDIR(attr.st_mode)) return;
    EXPECT_EQ(count_entries(full), count_entries(two));
    DIR *dir = opendir(full);
    REQUIRE(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char below[PATH_MAX];
        snprintf(below, sizeof(below), "%.2000s/%s", path, entry->d_name);
        compare_trees(comparison, here, there, below);
    }
    (void)closedir(dir);
}

/* ---- the case ---- */

static void random_operation(const struct recent *recent, uint64_t *random,
                             struct operation *operation)
{
    operation->what = (unsigned)(random_next(random) % OPERATION_COUNT);
    operation->number = random_next(random) >> 16;
    random_path(recent, random, operation->path);
    random_path(recent, random, operation->other);
}

/* In that directory as the root of the process, so that ".." and symbolic links stay within. */
static long perform_in(int dir, const struct operation *operation, int *ret_error)
{
    REQUIRE_OK(fchdir(dir));
    REQUIRE_OK(chroot("."));
    errno = 0;
    long result = perform(operation);
    *ret_error = result == -1 ? errno : 0;
    return result;
}

static const char *outcome(int error)
{
    return error ? strerrorname_np(error) : "success";
}

/* Makes DIRS/name and runs the operations in both. Returns how many have succeeded. */
static unsigned run_alike(const char *const dirs[2], const char *name, uint64_t seed,
                          unsigned operations)
{
    char paths[2][PATH_MAX];
    int fds[2];
    int root = open_file("/", O_RDONLY | O_DIRECTORY, 0);
    for (int side = 0; side < 2; side++) {
        snprintf(paths[side], PATH_MAX, "%s/%s", dirs[side], name);
        make_dir(paths[side], 0755);
        fds[side] = open_file(paths[side], O_RDONLY | O_DIRECTORY, 0);
    }
    with_attributes = has_attributes(paths[0]) && has_attributes(paths[1]);
    uint64_t random = seed;
    struct recent recent = {.count = 0};
    unsigned succeeded = 0;
    unsigned differences = 0;
    for (unsigned step = 0; step < operations && differences < 5; step++) {
        struct operation operation;
        int errors[2];
        random_operation(&recent, &random, &operation);
        long there = perform_in(fds[1], &operation, &errors[1]);
        long here = perform_in(fds[0], &operation, &errors[0]);
        if (errors[1] == 0) {
            const char *made = step % 2 ? operation.path : operation.other;
            memcpy(recent.paths[recent.count++ % 16], made, PATH_SIZE_MAX);
            succeeded++;
        }
        if (same_error(errors[0]) == same_error(errors[1]) && here == there) continue;
        FAIL("step %u: %s %s %s: %ld, %s, not %ld, %s (seed %llu)", step,
             operation_names[operation.what], operation.path, operation.other, here,
             outcome(errors[0]), there, outcome(errors[1]), (unsigned long long)seed);
        differences++;
    }
    REQUIRE_OK(fchdir(root));
    REQUIRE_OK(chroot("."));
    REQUIRE_OK(close(root));
    struct comparison *comparison = calloc(1, sizeof(*comparison));
    REQUIRE(comparison != NULL);
    compare_trees(comparison, dirs[0], dirs[1], name);
    free(comparison);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return succeeded;
}

CASE(tree, random_operations_do_the_same_as_elsewhere, .seconds = 60)
{
    need_root();
    char here[PATH_MAX];
    REQUIRE(getcwd(here, sizeof(here)) != NULL);
    const char *const dirs[2] = {here, other_dir()};
    unsigned succeeded = run_alike(dirs, "long", case_seed(), OPERATIONS);
    EXPECT(succeeded > OPERATIONS / 10); /* else the trees were hardly ever touched */
}

CASE(tree, short_histories_end_the_same, .seconds = 60)
{
    need_root();
    char here[PATH_MAX];
    char name[16];
    REQUIRE(getcwd(here, sizeof(here)) != NULL);
    const char *const dirs[2] = {here, other_dir()};
    unsigned succeeded = 0;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "run%u", i);
        succeeded += run_alike(dirs, name, case_seed() + i, 200);
    }
    EXPECT(succeeded > 20 * 200 / 10);
}
