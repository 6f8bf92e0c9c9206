/* `bench misses`: cache misses per create, lookup and unlink in the engine as a directory and a
 * store grow, which is what makes the same work take longer. Counted by a simulated cache
 * (callgrind of valgrind, which must be installed), since virtual machines seldom have hardware
 * counters: a first level (L1) of 32 KiB and a last one (L2) of 2 MiB, the private caches of a
 * present core.
 *
 * The store is filled as for `bench scale` and closed; then this same program runs under valgrind,
 * named by PROBE_VARIABLE what to do, opens the store, warms its cache with some operations and
 * does as many that are counted: everything below the three functions of bench/probe.c, the
 * inclusive costs of which are read from callgrind_annotate's table. What the simulation does not
 * know are prefetches, which overlap misses but do not avoid them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/probe.h"
#include "bench/store.h"

enum { PROBES = 2000, PER_DIR = 1000, SIZES = 4, EVENTS = 9 };
static const uint64_t FILES_MAX = 1000000; /* more only when asked for: it takes minutes */

#define VALGRIND "/usr/bin/valgrind"

static const uint64_t directory_sizes[SIZES] = {1000, 10000, 100000, 1000000};
static const uint64_t store_sizes[SIZES] = {10000, 100000, 1000000, 10000000};

/* Callgrind's columns, in this order with these options. */
enum event {
    INSTRUCTIONS,
    READS,
    WRITES,
    CODE_D1,
    READS_D1,
    WRITES_D1,
    CODE_LL,
    READS_LL,
    WRITES_LL
};

/* ---- the program that is watched ---- */

static enum err find_dirs(struct bench_store *store, struct bench_fill *fill)
{
    size_t count = fill->per_dir < fill->to ? (size_t)((fill->to - 1) / fill->per_dir + 1) : 1;
    fill->dirs = calloc(count, sizeof(*fill->dirs));
    if (!fill->dirs) return ERR_NO_MEMORY;
    for (; fill->dir_count < count; fill->dir_count++) {
        char name[32];
        struct fs_attr attr;
        (void)snprintf(name, sizeof(name), "d%015zu", fill->dir_count);
        enum err err = fs_lookup(store->client, FS_ROOT_INO, name, &attr);
        if (err) return err;
        fill->dirs[fill->dir_count] = attr.ino;
    }
    return ERR_NONE;
}

/* The first half only fills the caches: other functions, which are not counted, do the same. */
static enum err run_probes(struct bench_store *store, void *context)
{
    struct bench_fill *fill = context;
    enum err err = find_dirs(store, fill);
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    for (uint64_t i = 0; !err && i < PROBES; i++) {
        char name[32];
        struct fs_attr attr;
        uint64_t file = bench_probe_file(fill, BENCH_LOOKUP, PROBES + i);
        (void)snprintf(name, sizeof(name), "f%015lu", file);
        err = fs_lookup(store->client, fill->dirs[file / fill->per_dir], name, &attr);
        if (!err) fs_forget(store->client, attr.ino, 1);
        (void)snprintf(name, sizeof(name), "q%015lu", i);
        uint64_t dir = fill->dirs[file / fill->per_dir];
        if (!err) err = fs_mknod(store->client, &caller, dir, name, 0100644, 0, &attr);
        if (!err) fs_forget(store->client, attr.ino, 1);
        if (!err) err = fs_unlink(store->client, &caller, dir, name);
    }
    for (int operation = 0; !err && operation < BENCH_OPERATIONS; operation++)
        for (uint64_t i = 0; !err && i < PROBES; i++)
            err = bench_probe(store, fill, (enum bench_operation)operation, i);
    return err;
}

static enum err probe_main(const char *what, struct diag *diag)
{
    struct bench_fill fill = {0};
    struct bench_store store;
    int at = 0;
    if (sscanf(what, "%lu %lu %n", &fill.to, &fill.per_dir, &at) != 2 || !at || !fill.to ||
        !fill.per_dir)
        return diag_set(diag, ERR_INVALID, "bad value of " PROBE_VARIABLE);
    enum err err = bench_store_open(&store, what + at, diag);
    if (!err) {
        err = bench_store_run(&store, run_probes, &fill);
        if (err) (void)!diag_set(diag, err, "probing: %s", err_text(err));
    }
    bench_fill_fini(&fill);
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    free(store.dir);
    return err ? err : close_err;
}

/* ---- the one that watches ---- */

/* A line of the table that names the function: its numbers, whose thousands are set off by commas.
 */
static bool line_parse(const char *line, const char *function, double ret_events[EVENTS])
{
    const char *name = strstr(line, function);
    if (!name || name == line || name[-1] != ':') return false;
    size_t size = strlen(function);
    if (name[size] != ' ' && name[size] != '\n' && name[size] != 0) return false;
    const char *at = line;
    for (int event = 0; event < EVENTS; event++) {
        double number = 0;
        while (*at == ' ')
            at++;
        if ((*at < '0' || *at > '9') && *at != '.') return false;
        for (; (*at >= '0' && *at <= '9') || *at == ',' || *at == '.'; at++)
            if (*at >= '0' && *at <= '9') number = number * 10 + (*at - '0');
        ret_events[event] = number;
    }
    return true;
}

static enum err profile_read(const char *profile, double ret_events[BENCH_OPERATIONS][EVENTS],
                             struct diag *diag)
{
    char command[800];
    (void)snprintf(command, sizeof(command),
                   "callgrind_annotate --inclusive=yes --auto=no --show-percs=no --threshold=100 "
                   "'%s' 2>/dev/null",
                   profile);
    FILE *table = popen(command, "re");
    if (!table) return diag_set(diag, ERR_IO, "cannot run callgrind_annotate");
    bool found[BENCH_OPERATIONS] = {false};
    char line[4096];
    while (fgets(line, sizeof(line), table)) {
        for (int operation = 0; operation < BENCH_OPERATIONS; operation++) {
            char function[64];
            (void)snprintf(function, sizeof(function), "bench_probe_%s",
                           bench_operation_names[operation]);
            if (!found[operation])
                found[operation] = line_parse(line, function, ret_events[operation]);
        }
    }
    int status = pclose(table);
    for (int operation = 0; operation < BENCH_OPERATIONS; operation++)
        if (status || !found[operation])
            return diag_set(diag, ERR_IO, "callgrind_annotate gave no costs of %s",
                            bench_operation_names[operation]);
    return ERR_NONE;
}

/* Probes the closed store below dir under valgrind. */
static enum err watch(const struct bench *bench, const char *dir, const struct bench_fill *fill,
                      double ret_events[BENCH_OPERATIONS][EVENTS], struct diag *diag)
{
    char what[700];
    char profile[600];
    char option[700];
    char log[700];
    (void)snprintf(what, sizeof(what), "%lu %lu %s", fill->to, fill->per_dir, dir);
    (void)snprintf(profile, sizeof(profile), "%s/profile", dir);
    (void)snprintf(option, sizeof(option), "--callgrind-out-file=%s", profile);
    (void)snprintf(log, sizeof(log), "--log-file=%s/log", dir);
    if (setenv(PROBE_VARIABLE, what, 1)) return diag_set(diag, ERR_NO_MEMORY, "no memory");
    const char *const arguments[] = {VALGRIND,
                                     "-q",
                                     log,
                                     "--tool=callgrind",
                                     "--cache-sim=yes",
                                     "--I1=32768,8,64",
                                     "--D1=32768,8,64",
                                     "--LL=2097152,16,64",
                                     "--collect-atstart=no",
                                     "--toggle-collect=bench_probe_create",
                                     "--toggle-collect=bench_probe_lookup",
                                     "--toggle-collect=bench_probe_unlink",
                                     option,
                                     bench->program,
                                     "bench",
                                     "misses",
                                     NULL};
    int status = bench_run_program(arguments);
    (void)unsetenv(PROBE_VARIABLE);
    if (status) return diag_set(diag, ERR_IO, "valgrind ended with status %d", status);
    return profile_read(profile, ret_events, diag);
}

static void add_misses(struct bench *bench, const char *series, uint64_t size,
                       double events[BENCH_OPERATIONS][EVENTS],
                       double first[BENCH_OPERATIONS][EVENTS], uint64_t first_size)
{
    char against[64];
    (void)snprintf(against, sizeof(against), "at %lu", first_size);
    for (int operation = 0; operation < BENCH_OPERATIONS; operation++) {
        const struct {
            const char *what;
            double value;
            double first;
        } figures[] = {
            {"L2 misses", events[operation][READS_LL] + events[operation][WRITES_LL],
             first[operation][READS_LL] + first[operation][WRITES_LL]},
            {"L1 misses", events[operation][READS_D1] + events[operation][WRITES_D1],
             first[operation][READS_D1] + first[operation][WRITES_D1]},
            {"instructions", events[operation][INSTRUCTIONS], first[operation][INSTRUCTIONS]},
        };
        for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
            char label[128];
            (void)snprintf(label, sizeof(label), "%s %s at %lu: %s", series,
                           bench_operation_names[operation], size, figures[i].what);
            bench_add(bench, &(struct bench_result){.label = label,
                                                    .value = figures[i].value / PROBES,
                                                    .unit = "per op",
                                                    .against = against,
                                                    .against_value = figures[i].first / PROBES,
                                                    .note = "lower is better; simulated cache"});
        }
    }
}

static enum err run_series(struct bench *bench, const char *dir, const uint64_t *sizes,
                           uint64_t per_dir, const char *series, struct diag *diag)
{
    struct bench_fill fill = {.per_dir = per_dir};
    double first[BENCH_OPERATIONS][EVENTS];
    uint64_t first_size = 0;
    enum err err = ERR_NONE;
    for (size_t i = 0; !err && i < SIZES; i++) {
        uint64_t size = sizes[i] / (bench->quick ? 10u : 1u);
        if (size > (bench->files ? bench->files : FILES_MAX)) break;
        struct bench_store store;
        err = bench_store_open(&store, dir, diag);
        fill.from = fill.to;
        fill.to = size;
        if (!err) {
            err = bench_store_run(&store, bench_store_fill, &fill);
            if (err) (void)!diag_set(diag, err, "filling the store: %s", err_text(err));
        }
        struct diag ignored;
        enum err close_err = bench_store_close(&store, err ? &ignored : diag);
        free(store.dir);
        if (!err) err = close_err;
        double events[BENCH_OPERATIONS][EVENTS];
        if (!err) err = watch(bench, dir, &fill, events, diag);
        if (err) break;
        if (i == 0) {
            memcpy(first, events, sizeof(first));
            first_size = size;
        }
        add_misses(bench, series, size, events, first, first_size);
    }
    bench_fill_fini(&fill);
    return err;
}

bool bench_can_count_misses(void)
{
    return access(VALGRIND, X_OK) == 0;
}

enum err bench_misses(struct bench *bench, struct diag *diag)
{
    const char *what = getenv(PROBE_VARIABLE);
    if (what) return probe_main(what, diag);
    if (!bench_can_count_misses())
        return diag_set(diag, ERR_NOT_FOUND, "needs " VALGRIND ": install the package valgrind");
    enum err err = ERR_NONE;
    for (int series = 0; !err && series < 2; series++) {
        char *dir = bench_temp_dir(diag);
        if (!dir) return ERR_IO;
        if (series == 0)
            err = run_series(bench, dir, directory_sizes, UINT64_MAX, "directory", diag);
        else
            err = run_series(bench, dir, store_sizes, PER_DIR, "store", diag);
        bench_remove_tree(dir);
        free(dir);
    }
    return err;
}
