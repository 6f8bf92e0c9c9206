/* The framework of the POSIX suite: cases, expectations, users, and small tools.
 *
 * A case is a function, run in a process of its own whose current directory is a fresh directory
 * (mode 0777) on the file system under test, with umask 022, as the user who started the suite
 * (root), under a time limit. Expectations record a failure and go on; REQUIREs end the case. Both
 * may be used in processes that a case forks: they write to memory shared with the runner. */
#ifndef TESTS_POSIX_SUITE_H
#define TESTS_POSIX_SUITE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* ---- cases ---- */

struct suite_case {
    const char *group;
    const char *name;
    void (*run)(void);
    const void *context; /* of table-driven cases: case_context() */
    unsigned seconds;    /* 0: CASE_SECONDS */
    bool slow;           /* left out by --quick */
    bool read_only;      /* only run by --read-only, in the tree that --prepare made */
    struct suite_case *next;
};

enum { CASE_SECONDS = 20 };

/* Called before main by constructors; the suite keeps the pointer. */
void suite_add(struct suite_case *entry);

/* CASE(group, name, .seconds = 30) { body } */
#define CASE(group_, name_, ...)                                                                   \
    static void case_##group_##_##name_(void);                                                     \
    static struct suite_case entry_##group_##_##name_ = {                                          \
        .group = #group_, .name = #name_, .run = case_##group_##_##name_, __VA_ARGS__};            \
    __attribute__((constructor)) static void add_##group_##_##name_(void)                          \
    {                                                                                              \
        suite_add(&entry_##group_##_##name_);                                                      \
    }                                                                                              \
    static void case_##group_##_##name_(void)

const void *case_context(void);
/* For random operations; printed with the failures of the run. */
uint64_t case_seed(void);
/* Ends the case as skipped. */
_Noreturn void case_skip(const char *reason);
_Noreturn void case_abort(void);

/* ---- expectations ---- */

struct place {
    const char *file;
    int line;
};
#define HERE ((struct place){__FILE__, __LINE__})

void fail_at(struct place place, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define FAIL(...) fail_at(HERE, __VA_ARGS__)

bool expect_at(struct place place, bool good, const char *text);
long expect_ok_at(struct place place, long result, const char *text);
void expect_err_at(struct place place, long result, int error, int other_error, const char *text);
void expect_eq_at(struct place place, long long left, long long right, const char *left_text,
                  const char *right_text);
void expect_str_at(struct place place, const char *left, const char *right, const char *text);

/* Each evaluates its arguments once. */
#define EXPECT(condition) expect_at(HERE, (condition), #condition)
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!expect_at(HERE, (condition), #condition)) case_abort();                               \
    } while (0)
#define EXPECT_EQ(left, right)                                                                     \
    expect_eq_at(HERE, (long long)(left), (long long)(right), #left, #right)
#define EXPECT_STR(left, right) expect_str_at(HERE, left, right, #left)
/* A system call that returns -1 for failure. EXPECT_OK returns its result. */
#define EXPECT_OK(call) expect_ok_at(HERE, (errno = 0, (long)(call)), #call)
#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        if (expect_ok_at(HERE, (errno = 0, (long)(call)), #call) == -1) case_abort();              \
    } while (0)
#define EXPECT_ERR(call, error) expect_err_at(HERE, (errno = 0, (long)(call)), error, error, #call)
/* Where the manual page names two errors for the same condition. */
#define EXPECT_ERR2(call, error, other)                                                            \
    expect_err_at(HERE, (errno = 0, (long)(call)), error, other, #call)

/* ---- users ---- */

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[3];
    size_t group_count;
};
enum {
    UID_A = 65533,
    UID_B = 65534,
    GID_A = 65533,
    GID_B = 65534,
    GID_TEAM = 64000,
    GID_A_ONLY = 64001
};
extern const struct user user_a; /* groups GID_A, GID_TEAM, GID_A_ONLY */
extern const struct user user_b; /* groups GID_B, GID_TEAM */

/* AS(user_a) { body } runs the body in a forked process with that user's identity, and waits for
 * it. Variables set in the body are lost. Skips the case when the suite does not run as root. No
 * `return`, `break` or `goto` out of the body. */
#define AS(user_) for (bool as_child_ = as_begin(&(user_), HERE); as_child_; as_child_ = as_end())
bool as_begin(const struct user *user, struct place place);
bool as_end(void);
/* For good, in this process. */
void become(const struct user *user);
/* Skips the case unless the suite runs as root. */
void need_root(void);

/* ---- processes ---- */

/* IN_PROCESS { body }: as AS, with the same identity; for what ends or spoils a process. */
#define IN_PROCESS for (bool as_child_ = process_begin(HERE); as_child_; as_child_ = as_end())
bool process_begin(struct place place);

struct crew {
    pid_t pids[16];
    unsigned count;
};
/* Starts a process that runs work(index, argument) at the same time as the others. */
void crew_start(struct crew *crew, unsigned count, void (*work)(unsigned index, void *argument),
                void *argument);
void crew_wait(struct crew *crew);
/* Zeroed memory that processes forked later share; freed at the end of the case. */
void *shared_memory(size_t size);

/* ---- files ---- */

/* open(2); ends the case when it fails. */
int open_file(const char *path, int flags, mode_t mode);
/* A new file with that mode whatever the umask, and that content (NULL for none). */
void make_file(const char *path, mode_t mode, const char *content);
/* A new directory with that mode whatever the umask. */
void make_dir(const char *path, mode_t mode);
/* A regular file, directory, symlink, FIFO, socket or character device at the path, by the type
 * bits. */
void make_node(const char *path, mode_t type);
void write_all(int fd, const void *bytes, size_t size);
void pwrite_all(int fd, const void *bytes, size_t size, off_t offset);
void expect_bytes_at(struct place place, int fd, const void *bytes, size_t size, off_t offset);
#define EXPECT_BYTES(fd, bytes, size, offset) expect_bytes_at(HERE, fd, bytes, size, offset)
void expect_zeros_at(struct place place, int fd, size_t size, off_t offset);
#define EXPECT_ZEROS(fd, size, offset) expect_zeros_at(HERE, fd, size, offset)
/* The whole content of the file is this text. */
void expect_content_at(struct place place, const char *path, const char *text);
#define EXPECT_CONTENT(path, text) expect_content_at(HERE, path, text)
/* Bytes that differ at every offset and for every seed; at `offset` of the endless pattern. */
void pattern_fill(void *bytes, size_t size, uint64_t offset, uint64_t seed);
uint64_t mix64(uint64_t x);
uint64_t random_next(uint64_t *state);
/* Drops the file's clean pages from the kernel's cache, so that the next read asks the file system.
 */
void cache_drop(int fd);
bool exists(const char *path);
/* A name or path component of that many bytes; static, overwritten by the next call. */
const char *long_name(size_t size);
/* A path "./././…" of exactly that many bytes, ending in "name"; static. */
const char *long_path(size_t size, const char *name);
/* A fresh directory on another file system; removed with the case. Skips the case when there is
 * none. */
const char *other_dir(void);
/* Entries without "." and ".."; -1 when it cannot be read. */
long count_entries(const char *path);
/* Sleeps until the clock that file times are taken from has advanced. */
void tick(void);
void sleep_ms(unsigned ms);

/* ---- attributes ---- */

/* lstat, and a check that the kernel's cached attributes are what the file system itself says. */
struct stat stat_at(struct place place, const char *path);
#define STAT(path) stat_at(HERE, path)
struct stat fstat_at(struct place place, int fd);
#define FSTAT(fd) fstat_at(HERE, fd)
#define PERMS(path) ((unsigned)(STAT(path).st_mode & 07777))
#define NLINK(path) ((unsigned long)STAT(path).st_nlink)

/* Of the times "amc" exactly the named ones have advanced, to about now; "?" after a letter: either
 * way. */
void expect_times_at(struct place place, const struct stat *before, const struct stat *after,
                     const char *changed);
#define EXPECT_TIMES(before, after, changed)                                                       \
    do {                                                                                           \
        struct stat times_before_ = (before), times_after_ = (after);                              \
        expect_times_at(HERE, &times_before_, &times_after_, changed);                             \
    } while (0)
/* Nothing that stat shows has changed, access time and block count aside. */
void expect_same_at(struct place place, const struct stat *left, const struct stat *right);
#define EXPECT_SAME(left, right)                                                                   \
    do {                                                                                           \
        struct stat same_left_ = (left), same_right_ = (right);                                    \
        expect_same_at(HERE, &same_left_, &same_right_);                                           \
    } while (0)
int time_compare(struct timespec left, struct timespec right);

#endif
