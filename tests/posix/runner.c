/* Runs each case in a process group of its own, in a fresh work directory, under a time limit.
 *
 * The runner itself never touches the file system under test: making and removing work directories
 * is done by processes too, so that a file system that hangs costs time limits but not the suite. A
 * process that even SIGKILL does not end ends the suite: what has not run then counts as failed. */
#include "tests/posix/runner.h"

#include <dirent.h>
#include <fnmatch.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/posix/report.h"

enum { REMOVE_SECONDS = 120, KILL_MS = 10000, FAILURES_SHOWN_MAX = 16 };

static struct suite_case *first_case;
static struct suite_case **last_case = &first_case;

void suite_add(struct suite_case *entry)
{
    *last_case = entry;
    last_case = &entry->next;
}

/* ---- selection ---- */

static bool matches(const struct suite_case *entry, const char *const *patterns, unsigned count)
{
    char full[256];
    snprintf(full, sizeof(full), "%s/%s", entry->group, entry->name);
    for (unsigned i = 0; i < count; i++)
        if (fnmatch(patterns[i], entry->group, 0) == 0 || fnmatch(patterns[i], full, 0) == 0)
            return true;
    return false;
}

static bool selected(const struct runner_options *options, const struct suite_case *entry)
{
    if (entry->read_only != options->read_only) return false;
    if (options->quick && entry->slow) return false;
    if (options->only_count && !matches(entry, options->only, options->only_count)) return false;
    return !matches(entry, options->without, options->without_count);
}

int runner_list(const struct runner_options *options)
{
    for (const struct suite_case *entry = first_case; entry; entry = entry->next)
        if (selected(options, entry)) printf("%s/%s\n", entry->group, entry->name);
    return 0;
}

/* ---- processes ---- */

enum end { END_EXIT, END_SIGNAL, END_TIMEOUT, END_STUCK };

/* Waits for a process and ends what is left of its group. */
static enum end finish(pid_t pid, unsigned seconds, int *ret_status)
{
    int pid_fd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = pid_fd, .events = POLLIN};
    bool in_time = pid_fd >= 0 && poll(&ended, 1, (int)seconds * 1000) > 0;
    (void)kill(-pid, SIGKILL);
    (void)kill(pid, SIGKILL);
    bool gone = pid_fd >= 0 && poll(&ended, 1, KILL_MS) > 0;
    if (pid_fd >= 0) (void)close(pid_fd);
    if (!gone) return END_STUCK;
    int status = 0;
    (void)waitpid(pid, &status, 0);
    if (!in_time) return END_TIMEOUT;
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    return WIFEXITED(status) ? END_EXIT : END_SIGNAL;
}

static pid_t fork_group(void)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        (void)setpgid(0, 0);
    else if (pid > 0)
        (void)setpgid(pid, pid);
    return pid;
}

/* ---- removing a work directory ---- */

static void clear_flags(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    int none = 0;
    if (fd == -1) return;
    (void)ioctl(fd, FS_IOC_SETFLAGS, &none);
    (void)close(fd);
}

/* Directory removal is bounded by the depth of descriptors; cases nest less deep than that. */
static bool remove_tree(int dir_fd, const char *name)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) return true;
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0) return true;
    clear_flags(dir_fd, ".");
    clear_flags(dir_fd, name);
    if (unlinkat(dir_fd, name, 0) == 0) return true;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd == -1) return false;
    (void)fchmod(fd, 0700);
    DIR *dir = fdopendir(fd);
    bool good = dir != NULL;
    for (bool removed = true; good && removed;) {
        removed = false;
        rewinddir(dir);
        for (struct dirent *entry; good && (entry = readdir(dir));) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
            good = remove_tree(fd, entry->d_name);
            removed = true;
        }
    }
    if (dir)
        (void)closedir(dir);
    else
        (void)close(fd);
    return good && unlinkat(dir_fd, name, AT_REMOVEDIR) == 0;
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- one case ---- */

_Noreturn static void case_main(const struct runner_options *options,
                                const struct suite_case *entry, const char *work_name)
{
    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    const char *work = options->read_only ? "read-only" : work_name;
    if (chdir(options->dir) == -1 || (!options->read_only && mkdir(work_name, 0777) == -1) ||
        (!options->read_only && chmod(work_name, 0777) == -1) || chdir(work) == -1) {
        FAIL("cannot make the work directory %s/%s: %s", options->dir, work, strerror(errno));
        _exit(EXIT_ABORTED);
    }
    entry->run();
    _exit(0);
}

enum result { RESULT_PASSED, RESULT_FAILED, RESULT_SKIPPED, RESULT_STUCK };

static enum result judge(enum end end, int status, unsigned seconds)
{
    switch (end) {
    case END_STUCK:
        FAIL("cannot be ended, even by SIGKILL");
        return RESULT_STUCK;
    case END_TIMEOUT:
        FAIL("has not ended after %u s", seconds);
        break;
    case END_SIGNAL:
        FAIL("was killed by signal %d (%s)", status, strsignal(status));
        break;
    case END_EXIT:
        if (status == EXIT_SKIPPED && !atomic_load(&report->failures)) return RESULT_SKIPPED;
        if (status != 0 && status != EXIT_ABORTED && status != EXIT_SKIPPED)
            FAIL("ended with status %d", status);
        else if (status == EXIT_ABORTED && !atomic_load(&report->failures))
            FAIL("was given up without a reason");
    }
    return atomic_load(&report->failures) ? RESULT_FAILED : RESULT_PASSED;
}

static bool clean_up(const struct runner_options *options, const char *work_name)
{
    pid_t pid = fork_group();
    if (pid == 0) {
        raise_file_limit();
        bool good = true;
        if (report->other_dir[0]) good = remove_tree(AT_FDCWD, report->other_dir);
        if (!options->read_only)
            good &= chdir(options->dir) == 0 && remove_tree(AT_FDCWD, work_name);
        _exit(good ? 0 : 1);
    }
    int status = 1;
    return pid > 0 && finish(pid, REMOVE_SECONDS, &status) == END_EXIT && status == 0;
}

static enum result run_case(const struct runner_options *options, const struct suite_case *entry,
                            unsigned number)
{
    memset(report, 0, sizeof(*report));
    report->seed = mix64(options->seed ^ mix64(number));
    report->context = entry->context;
    char work_name[64];
    snprintf(work_name, sizeof(work_name), "case-%u-%d", number, (int)getpid());
    unsigned seconds = entry->seconds ? entry->seconds : CASE_SECONDS;
    pid_t pid = fork_group();
    if (pid == 0) case_main(options, entry, work_name);
    if (pid == -1) {
        FAIL("cannot fork");
        return RESULT_FAILED;
    }
    int status = 0;
    enum end end = finish(pid, seconds, &status);
    enum result result = judge(end, status, seconds);
    if (result != RESULT_STUCK && !clean_up(options, work_name)) {
        FAIL("the work directory %s cannot be removed", work_name);
        result = RESULT_FAILED;
    }
    return result;
}

static void print_failures(const struct suite_case *entry)
{
    size_t used = atomic_load(&report->used);
    if (used > sizeof(report->text)) used = sizeof(report->text);
    unsigned lines = 0;
    printf("FAIL %s/%s\n", entry->group, entry->name);
    /* Lines that did not fit leave zeros. */
    for (char *line = report->text; line < report->text + used && *line;) {
        char *end = memchr(line, '\n', (size_t)(report->text + used - line));
        if (!end || lines == FAILURES_SHOWN_MAX) break;
        printf("     %.*s\n", (int)(end - line), line);
        line = end + 1;
        lines++;
    }
    if (atomic_load(&report->failures) > lines)
        printf("     and %u more\n", atomic_load(&report->failures) - lines);
}

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int runner_run(const struct runner_options *options)
{
    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        perror("posix: cannot share memory");
        return 1;
    }
    unsigned counts[4] = {0};
    unsigned number = 0;
    unsigned long checks = 0;
    double start = seconds_now();
    bool stuck = false;
    for (const struct suite_case *entry = first_case; entry; entry = entry->next) {
        number++;
        if (!selected(options, entry)) continue;
        if (stuck) {
            printf("FAIL %s/%s\n     not run\n", entry->group, entry->name);
            counts[RESULT_FAILED]++;
            continue;
        }
        const char *known = known_difference(options->known, entry->group, entry->name);
        if (known) {
            printf("skip %s/%s: %s: %s\n", entry->group, entry->name, options->known, known);
            counts[RESULT_SKIPPED]++;
            continue;
        }
        double case_start = seconds_now();
        enum result result = run_case(options, entry, number);
        stuck = result == RESULT_STUCK;
        if (stuck) result = RESULT_FAILED;
        counts[result]++;
        checks += atomic_load(&report->checks);
        if (result == RESULT_FAILED)
            print_failures(entry);
        else if (result == RESULT_SKIPPED)
            printf("skip %s/%s: %s\n", entry->group, entry->name, report->skip_reason);
        else if (options->verbose)
            printf("ok   %s/%s (%u checks, %.0f ms)\n", entry->group, entry->name,
                   atomic_load(&report->checks), (seconds_now() - case_start) * 1000);
    }
    printf("%lu checks in %.1f s, seed %llu\n", checks, seconds_now() - start,
           (unsigned long long)options->seed);
    printf("%u passed, %u failed", counts[RESULT_PASSED], counts[RESULT_FAILED]);
    if (counts[RESULT_SKIPPED]) printf(", %u skipped", counts[RESULT_SKIPPED]);
    printf("\n");
    return counts[RESULT_FAILED] ? 1 : 0;
}
