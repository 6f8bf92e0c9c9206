/* `bench fuse`: operations per second through the mount, 1 and 4 callers, ours beside the floor.
 *
 * Ours and the floor are mounted one after the other for each run, in alternation, so that the
 * machine's drift hits both; the figure is the median over the runs. The floor is taken with
 * libfuse's single-threaded and its multi-threaded loop, and the faster one counts. Callers are
 * processes that start together; the time is from the first start to the last end. */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/floor.h"

enum { CALLERS_MAX = 4, LISTED_ENTRIES = 100000, RUNS_MAX = 32 };

struct workload {
    const char *label;
    uint32_t count; /* operations of one caller */
    bool uncached;  /* the kernel keeps nothing */
    double target;
    /* Prepares and measures: both for one caller, in its own directory. */
    bool (*prepare)(const char *dir, int caller, uint32_t count);
    bool (*run)(const char *dir, int caller, uint32_t count);
};

static const char *name_at(char *buffer, size_t size, const char *dir, const char *kind, int caller,
                           uint32_t i)
{
    (void)snprintf(buffer, size, "%s/%s%d-%012u", dir, kind, caller, i);
    return buffer;
}

static bool make_files(const char *dir, int caller, uint32_t count)
{
    char path[900];
    for (uint32_t i = 0; i < count; i++) {
        int fd = open(name_at(path, sizeof(path), dir, "n", caller, i),
                      O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0 || close(fd) < 0) return false;
    }
    return true;
}

static bool make_files_to_find(const char *dir, int caller, uint32_t count)
{
    char path[900];
    for (uint32_t i = 0; i < count; i++) {
        int fd = open(name_at(path, sizeof(path), dir, "f", caller, i),
                      O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0 || close(fd) < 0) return false;
    }
    return true;
}

static bool stat_files(const char *dir, int caller, uint32_t count)
{
    char path[900];
    struct stat stat_at;
    for (uint32_t i = 0; i < count; i++)
        if (stat(name_at(path, sizeof(path), dir, "f", caller, i), &stat_at) < 0) return false;
    return true;
}

static bool unlink_files(const char *dir, int caller, uint32_t count)
{
    char path[900];
    for (uint32_t i = 0; i < count; i++)
        if (unlink(name_at(path, sizeof(path), dir, "n", caller, i)) < 0) return false;
    return true;
}

static bool make_directories(const char *dir, int caller, uint32_t count)
{
    char path[900];
    for (uint32_t i = 0; i < count; i++)
        if (mkdir(name_at(path, sizeof(path), dir, "n", caller, i), 0755) < 0) return false;
    return true;
}

static bool rename_files(const char *dir, int caller, uint32_t count)
{
    char from[900];
    char to[900];
    for (uint32_t i = 0; i < count; i++)
        if (rename(name_at(from, sizeof(from), dir, "n", caller, i),
                   name_at(to, sizeof(to), dir, "nr", caller, i)) < 0)
            return false;
    return true;
}

static bool nothing(const char *dir, int caller, uint32_t count)
{
    (void)dir;
    (void)caller;
    (void)count;
    return true;
}

/* The listing of a directory, in pieces as libc's readdir reads them. Every caller lists all. With
 * `looks` one entry of each piece is looked at, from which the kernel learns that attributes are
 * wanted, and asks for the next piece by READDIRPLUS; without, all but the first are READDIR. */
static bool list_pieces(const char *dir, uint32_t count, bool looks)
{
    enum { PIECE_SIZE = 32768 };
    static _Alignas(struct dirent64) char piece[PIECE_SIZE];
    char path[900];
    (void)snprintf(path, sizeof(path), "%s/../listed", dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    uint32_t seen = 0;
    ssize_t size;
    while ((size = getdents64(fd, piece, sizeof(piece))) > 0) {
        bool looked = !looks;
        for (ssize_t at = 0; at < size;) {
            const struct dirent64 *entry = (const void *)(piece + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.') continue;
            struct stat stat_at;
            if (!looked && fstatat(fd, entry->d_name, &stat_at, 0) < 0) size = -1;
            looked = true;
            seen++;
        }
        if (size < 0) break;
    }
    (void)close(fd);
    return size == 0 && seen == count;
}

static bool list_directory(const char *dir, int caller, uint32_t count)
{
    (void)caller;
    return list_pieces(dir, count, false);
}

static bool list_directory_plus(const char *dir, int caller, uint32_t count)
{
    (void)caller;
    return list_pieces(dir, count, true);
}

static bool is_listing(const struct workload *workload)
{
    return workload->run == list_directory || workload->run == list_directory_plus;
}

static const struct workload workloads[] = {
    {"lookup+getattr uncached", 20000, true, 0.9, make_files_to_find, stat_files},
    {"create+close", 20000, false, 0.8, nothing, make_files},
    {"unlink", 20000, false, 0.8, make_files, unlink_files},
    {"mkdir", 10000, false, 0.8, nothing, make_directories},
    {"rename", 20000, false, 0.8, make_files, rename_files},
    {"readdirplus 100,000", LISTED_ENTRIES, false, 0.8, nothing, list_directory_plus},
    {"readdir 100,000", LISTED_ENTRIES, false, 0.8, nothing, list_directory},
};

struct start_line {
    _Atomic int ready;
    _Atomic int go;
};

/* Operations per second of all callers together; NAN on failure. */
static double run_callers(const struct workload *workload, const char *dir, int callers,
                          uint32_t count)
{
    struct start_line *line =
        mmap(NULL, sizeof(*line), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (line == MAP_FAILED) return NAN;
    pid_t children[CALLERS_MAX];
    for (int i = 0; i < callers; i++) {
        children[i] = fork();
        if (children[i]) continue;
        bool good = workload->prepare(dir, i, count);
        line->ready++;
        while (!line->go)
            (void)usleep(100);
        _exit(good && workload->run(dir, i, count) ? 0 : 1);
    }
    while (line->ready < callers)
        (void)usleep(1000);
    double start = bench_now_s();
    line->go = 1;
    bool good = true;
    for (int i = 0; i < callers; i++) {
        int status;
        good &= children[i] > 0 && waitpid(children[i], &status, 0) > 0 && status == 0;
    }
    double seconds = bench_now_s() - start;
    (void)munmap(line, sizeof(*line));
    return good ? (double)count * callers / seconds : NAN;
}

enum target { OURS, FLOOR_SINGLE, FLOOR_MULTI, TARGETS };

struct place {
    char *dir; /* temporary */
    char store[600];
    char mountpoint[600];
    char work[640];
};

static bool mount_target(const struct bench *bench, struct place *place, enum target target,
                         bool uncached, pid_t *ret_child, struct diag *diag)
{
    if (target == OURS) {
        const char *const arguments[] = {
            bench->program,
            "mount",
            "--store",
            place->store,
            "-o",
            uncached ? "entry_timeout=0,attr_timeout=0,negative_timeout=0" : "entry_timeout=60",
            place->mountpoint,
            NULL};
        if (bench_run_program(arguments)) {
            (void)!diag_set(diag, ERR_IO, "cannot mount %s", place->mountpoint);
            return false;
        }
        return true;
    }
    const struct floor_config config = {.mountpoint = place->mountpoint,
                                        .timeout_s = uncached ? 0 : 60,
                                        .listed_entries = LISTED_ENTRIES,
                                        .multi_threaded = target == FLOOR_MULTI};
    return floor_start(&config, ret_child, diag) == ERR_NONE;
}

static void unmount_target(const struct bench *bench, struct place *place, enum target target,
                           pid_t child)
{
    if (target != OURS) {
        floor_stop(place->mountpoint, child);
        return;
    }
    const char *const arguments[] = {bench->program, "umount", place->mountpoint, NULL};
    if (bench_run_program(arguments)) {
        const char *const lazy[] = {bench->program, "umount", "--lazy", place->mountpoint, NULL};
        (void)bench_run_program(lazy);
    }
}

static double measure(const struct bench *bench, struct place *place,
                      const struct workload *workload, enum target target, int callers,
                      struct diag *diag)
{
    uint32_t count = bench->quick && !is_listing(workload) ? workload->count / 10 : workload->count;
    pid_t child = 0;
    if (!mount_target(bench, place, target, workload->uncached, &child, diag)) return NAN;
    double rate = NAN;
    (void)snprintf(place->work, sizeof(place->work), "%s/dw", place->mountpoint);
    char listed[700];
    (void)snprintf(listed, sizeof(listed), "%s/listed", place->mountpoint);
    bool good = target != OURS || mkdir(place->work, 0755) == 0;
    if (good && target == OURS && is_listing(workload)) {
        good = mkdir(listed, 0755) == 0 && make_files(listed, 0, count);
        /* What was just made is cached: the next mount starts cold. */
        unmount_target(bench, place, target, child);
        good = good && mount_target(bench, place, target, false, &child, diag);
    }
    if (good) rate = run_callers(workload, place->work, callers, count);
    if (isnan(rate))
        (void)!diag_set(diag, ERR_IO, "%s failed on %s", workload->label,
                        target == OURS ? "trellis" : "the floor");
    unmount_target(bench, place, target, child);
    bench_remove_tree(place->store);
    return rate;
}

static enum err run_workload(struct bench *bench, struct place *place,
                             const struct workload *workload, int callers, struct diag *diag)
{
    double rates[TARGETS][RUNS_MAX];
    uint32_t runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    for (uint32_t run = 0; run < runs; run++) {
        for (int target = 0; target < TARGETS; target++) {
            rates[target][run] =
                measure(bench, place, workload, (enum target)target, callers, diag);
            if (isnan(rates[target][run])) return ERR_IO;
        }
    }
    double ours = bench_median(rates[OURS], runs);
    double single = bench_median(rates[FLOOR_SINGLE], runs);
    double multi = bench_median(rates[FLOOR_MULTI], runs);
    char label[96];
    char note[96];
    (void)snprintf(label, sizeof(label), "%s, %d caller%s", workload->label, callers,
                   callers > 1 ? "s" : "");
    (void)snprintf(note, sizeof(note), "higher is better; at least %.1f", workload->target);
    const struct bench_result result = {.label = label,
                                        .value = ours,
                                        .unit = is_listing(workload) ? "entries/s" : "ops/s",
                                        .against =
                                            multi > single ? "null fs (multi)" : "null fs (single)",
                                        .against_value = multi > single ? multi : single,
                                        .note = note};
    bench_add(bench, &result);
    return ERR_NONE;
}

enum err bench_fuse(struct bench *bench, struct diag *diag)
{
    struct place place = {.dir = bench_temp_dir(diag)};
    if (!place.dir) return ERR_IO;
    (void)snprintf(place.store, sizeof(place.store), "%s/store", place.dir);
    (void)snprintf(place.mountpoint, sizeof(place.mountpoint), "%s/mnt", place.dir);
    enum err err = mkdir(place.mountpoint, 0755)
                       ? diag_set(diag, ERR_IO, "cannot make %s", place.mountpoint)
                       : ERR_NONE;
    static const int callers[] = {1, CALLERS_MAX};
    for (size_t c = 0; !err && c < 2; c++)
        for (size_t w = 0; !err && w < sizeof(workloads) / sizeof(workloads[0]); w++)
            err = run_workload(bench, &place, &workloads[w], callers[c], diag);
    bench_remove_tree(place.dir);
    free(place.dir);
    return err;
}
