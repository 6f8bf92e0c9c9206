/* `bench scale`: the cost of create, lookup and unlink as one directory grows from 1,000 to
 * 1,000,000 entries and the store from 10,000 to 10,000,000 files: in the engine and through the
 * mount, whose kernel caches nothing. Each figure is compared with the smallest size of its series.
 * Last come the cache misses that explain the engine's, where valgrind is there to count them
 * (misses.c, `bench misses` alone). */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/probe.h"
#include "bench/store.h"

enum { PROBES = 20000, MOUNT_PROBES = 4000, PER_DIR = 1000, ROUNDS = 5, SIZES = 4 };

struct costs {
    double ns[BENCH_OPERATIONS];
};

struct probe {
    const struct bench_fill *fill; /* what is there */
    struct costs costs;            /* result */
};

/* Creates and unlinks names that sort anywhere among those there (names are hashed), in random
 * directories; looks up random existing names. */
static enum err probe_engine(struct bench_store *store, void *context)
{
    struct probe *probe = context;
    double rounds[BENCH_OPERATIONS][ROUNDS];
    enum err err = ERR_NONE;
    for (uint64_t round = 0; !err && round < ROUNDS; round++) {
        for (int operation = 0; !err && operation < BENCH_OPERATIONS; operation++) {
            double start = bench_now_s();
            for (uint64_t i = 0; !err && i < PROBES; i++)
                err = bench_probe(store, probe->fill, (enum bench_operation)operation,
                                  round * PROBES + i);
            rounds[operation][round] = (bench_now_s() - start) / PROBES * 1e9;
        }
    }
    for (int operation = 0; operation < BENCH_OPERATIONS; operation++)
        probe->costs.ns[operation] = bench_median(rounds[operation], ROUNDS);
    return err;
}

/* The same through a mount, where directory number d is MOUNT/d…. */
static bool mount_operation(const char *mountpoint, const struct bench_fill *fill,
                            enum bench_operation operation, uint64_t i)
{
    char path[700];
    struct stat stat_at;
    uint64_t file = bench_probe_file(fill, operation, i);
    (void)snprintf(path, sizeof(path), "%s/d%015lu/%c%015lu", mountpoint, file / fill->per_dir,
                   operation == BENCH_LOOKUP ? 'f' : 'p', operation == BENCH_LOOKUP ? file : i);
    if (operation == BENCH_LOOKUP) return stat(path, &stat_at) == 0;
    if (operation == BENCH_UNLINK) return unlink(path) == 0;
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    return fd >= 0 && close(fd) == 0;
}

static bool probe_mount(const char *mountpoint, const struct bench_fill *fill,
                        struct costs *ret_costs)
{
    double rounds[BENCH_OPERATIONS][ROUNDS];
    /* One unmeasured round, so that the directories' own lookups are done. */
    for (uint64_t round = 0; round <= ROUNDS; round++) {
        for (int operation = 0; operation < BENCH_OPERATIONS; operation++) {
            double start = bench_now_s();
            for (uint64_t i = 0; i < MOUNT_PROBES; i++)
                if (!mount_operation(mountpoint, fill, (enum bench_operation)operation,
                                     round * MOUNT_PROBES + i))
                    return false;
            if (round) rounds[operation][round - 1] = (bench_now_s() - start) / MOUNT_PROBES * 1e9;
        }
    }
    for (int operation = 0; operation < BENCH_OPERATIONS; operation++)
        ret_costs->ns[operation] = bench_median(rounds[operation], ROUNDS);
    return true;
}

static void add_costs(struct bench *bench, const char *series, uint64_t size,
                      const struct costs *costs, const struct costs *first, uint64_t first_size,
                      double target)
{
    for (int operation = 0; operation < BENCH_OPERATIONS; operation++) {
        char label[96];
        char against[96];
        char note[96];
        (void)snprintf(label, sizeof(label), "%s %s at %lu", series,
                       bench_operation_names[operation], size);
        (void)snprintf(against, sizeof(against), "at %lu", first_size);
        (void)snprintf(note, sizeof(note), "lower is better; at most %.1f", target);
        bench_add(bench, &(struct bench_result){.label = label,
                                                .value = costs->ns[operation],
                                                .unit = "ns",
                                                .against = against,
                                                .against_value = first->ns[operation],
                                                .note = note});
    }
}

/* Closes the store, mounts it, probes, unmounts, opens it again. */
static enum err measure_mounted(struct bench *bench, struct bench_store *store, const char *dir,
                                const struct bench_fill *fill, struct costs *ret_costs,
                                struct diag *diag)
{
    char mountpoint[600];
    char data[600];
    char path[600];
    (void)snprintf(mountpoint, sizeof(mountpoint), "%s/mnt", dir);
    (void)snprintf(data, sizeof(data), "%s/data", dir);
    (void)snprintf(path, sizeof(path), "%s/store", dir);
    (void)mkdir(mountpoint, 0755);
    enum err err = bench_store_close(store, diag);
    free(store->dir);
    store->dir = NULL;
    if (err) return err;
    /* The kernel keeps nothing, or it would answer for a small directory and not for a large one.
     */
    const char *const mount[] = {
        bench->program, "mount", "-o",     "entry_timeout=0,attr_timeout=0,negative_timeout=0",
        "--store",      path,    "--data", data,
        mountpoint,     NULL};
    const char *const unmount[] = {bench->program, "umount", mountpoint, NULL};
    if (bench_run_program(mount)) return diag_set(diag, ERR_IO, "cannot mount %s", path);
    bool good = probe_mount(mountpoint, fill, ret_costs);
    if (bench_run_program(unmount) || !good)
        return diag_set(diag, ERR_IO, "operations in %s failed", mountpoint);
    return bench_store_open(store, dir, diag);
}

/* One series: the store grows from size to size; per_dir of the fill says whether in one directory
 * or many. */
static enum err run_series(struct bench *bench, const char *dir, const uint64_t *sizes,
                           uint64_t per_dir, const char *name, struct diag *diag)
{
    struct bench_store store;
    struct bench_fill fill = {.per_dir = per_dir};
    struct costs first_engine = {0};
    struct costs first_mount = {0};
    uint64_t divide = bench->quick ? 10 : 1;
    enum err err = bench_store_open(&store, dir, diag);
    for (size_t i = 0; !err && i < SIZES; i++) {
        uint64_t size = sizes[i] / divide;
        if (bench->files && size > bench->files) break;
        fill.from = fill.to;
        fill.to = size;
        err = bench_store_run(&store, bench_store_fill, &fill);
        struct probe probe = {.fill = &fill};
        if (!err) err = bench_store_run(&store, probe_engine, &probe);
        if (err) {
            (void)!diag_set(diag, err, "in the engine: %s", err_text(err));
            break;
        }
        struct costs mounted;
        err = measure_mounted(bench, &store, dir, &fill, &mounted, diag);
        if (err) break;
        if (i == 0) {
            first_engine = probe.costs;
            first_mount = mounted;
        }
        char series[64];
        (void)snprintf(series, sizeof(series), "engine, %s:", name);
        add_costs(bench, series, size, &probe.costs, &first_engine, sizes[0] / divide, 3);
        (void)snprintf(series, sizeof(series), "mount, %s:", name);
        add_costs(bench, series, size, &mounted, &first_mount, sizes[0] / divide, 1.2);
    }
    bench_fill_fini(&fill);
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    bench_store_remove(&store);
    return err ? err : close_err;
}

static const uint64_t directory_sizes[SIZES] = {1000, 10000, 100000, 1000000};
static const uint64_t store_sizes[SIZES] = {10000, 100000, 1000000, 10000000};

enum err bench_scale(struct bench *bench, struct diag *diag)
{
    enum err err = ERR_NONE;
    for (int series = 0; !err && series < 2; series++) {
        char *dir = bench_temp_dir(diag);
        if (!dir) return ERR_IO;
        if (series == 0)
            err = run_series(bench, dir, directory_sizes, UINT64_MAX, "one directory", diag);
        else
            err = run_series(bench, dir, store_sizes, PER_DIR, "whole store", diag);
        bench_remove_tree(dir);
        free(dir);
    }
    if (err) return err;
    if (!bench_can_count_misses()) {
        (void)fprintf(stderr, "trellis: cache misses are not counted: install valgrind\n");
        return ERR_NONE;
    }
    return bench_misses(bench, diag);
}
