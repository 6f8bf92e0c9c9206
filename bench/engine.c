/* `bench engine`: file-system programs per second on one core, without FUSE: getattr by inode and
 * create, with interval flush; and their latency. Runs on the worker's own thread, as requests from
 * FUSE do; every operation includes building the program, running it and decoding its reply. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/hist.h"
#include "bench/bench.h"
#include "bench/store.h"

enum { FILES = 1000000, GETATTRS = 3000000, RUNS_MAX = 32 };

struct engine_run {
    uint64_t files;
    uint64_t getattrs;
    uint64_t *inos;
    uint64_t number; /* of the run: names differ */
    double create_rate;
    double getattr_rate;
    struct hist create_ns;
    struct hist getattr_ns;
};

static uint64_t now_ns(void)
{
    return (uint64_t)(bench_now_s() * 1e9);
}

static enum err run_creates(struct bench_store *store, struct engine_run *run)
{
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    char name[32];
    struct fs_attr dir;
    (void)snprintf(name, sizeof(name), "run%012lu", run->number);
    enum err err = fs_mkdir(store->client, &caller, FS_ROOT_INO, name, 0755, &dir);
    double start = bench_now_s();
    uint64_t before = now_ns();
    for (uint64_t i = 0; !err && i < run->files; i++) {
        struct fs_attr attr;
        (void)snprintf(name, sizeof(name), "f%015lu", i);
        err = fs_mknod(store->client, &caller, dir.ino, name, S_IFREG | 0644, 0, &attr);
        run->inos[i] = attr.ino;
        uint64_t after = now_ns();
        hist_add(&run->create_ns, after - before);
        before = after;
    }
    run->create_rate = (double)run->files / (bench_now_s() - start);
    return err;
}

static enum err run_getattrs(struct bench_store *store, struct engine_run *run)
{
    enum err err = ERR_NONE;
    double start = bench_now_s();
    uint64_t before = now_ns();
    for (uint64_t i = 0; !err && i < run->getattrs; i++) {
        struct fs_attr attr;
        err = fs_getattr(store->client, run->inos[hash_u64(i) % run->files], &attr);
        uint64_t after = now_ns();
        hist_add(&run->getattr_ns, after - before);
        before = after;
    }
    run->getattr_rate = (double)run->getattrs / (bench_now_s() - start);
    return err;
}

static enum err run_once(struct bench_store *store, void *context)
{
    /* One core: what the log writer's thread takes counts too. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
    struct engine_run *run = context;
    enum err err = run_creates(store, run);
    return err ? err : run_getattrs(store, run);
}

static void add_latency(struct bench *bench, const char *label, const struct hist *hist)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%s latency %s", label, quantiles[i].name);
        const struct bench_result result = {
            .label = text,
            .value = (double)hist_quantile(hist, quantiles[i].share) / 1000,
            .unit = "us",
            .note = "lower is better"};
        bench_add(bench, &result);
    }
}

enum err bench_engine(struct bench *bench, struct diag *diag)
{
    char *dir = bench_temp_dir(diag);
    if (!dir) return ERR_IO;
    struct engine_run *run = calloc(1, sizeof(*run));
    double creates[RUNS_MAX];
    double getattrs[RUNS_MAX];
    uint32_t runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    struct bench_store store;
    enum err err = bench_store_open(&store, dir, diag);
    if (!err && run) {
        run->files = bench->files ? bench->files : bench->quick ? FILES / 10 : FILES;
        run->getattrs = bench->quick ? GETATTRS / 10 : GETATTRS;
        run->inos = calloc(run->files, sizeof(*run->inos));
        hist_init(&run->create_ns);
        hist_init(&run->getattr_ns);
    }
    if (!err && (!run || !run->inos)) err = diag_set(diag, ERR_NO_MEMORY, "no memory");
    for (uint32_t i = 0; !err && i < runs; i++) {
        run->number = i;
        err = bench_store_run(&store, run_once, run);
        if (err) (void)!diag_set(diag, err, "%s", err_text(err));
        creates[i] = run->create_rate;
        getattrs[i] = run->getattr_rate;
    }
    if (!err) {
        bench_add(bench, &(struct bench_result){.label = "getattr by inode, one core",
                                                .value = bench_median(getattrs, runs),
                                                .unit = "ops/s",
                                                .against = "target",
                                                .against_value = 1e6,
                                                .note = "higher is better"});
        bench_add(bench, &(struct bench_result){.label = "create, interval flush, one core",
                                                .value = bench_median(creates, runs),
                                                .unit = "ops/s",
                                                .against = "target",
                                                .against_value = 250e3,
                                                .note = "higher is better"});
        add_latency(bench, "getattr", &run->getattr_ns);
        add_latency(bench, "create", &run->create_ns);
    }
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    bench_store_remove(&store);
    bench_remove_tree(dir);
    free(dir);
    if (run) free(run->inos);
    free(run);
    return err ? err : close_err;
}
