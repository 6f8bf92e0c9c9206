/* `bench engine`: file-system programs per second on one core, without FUSE: getattr by inode and
 * create, with interval flush; and their latency. Runs on the worker's own thread, as requests from
 * FUSE do, in slices between which the worker's loop flushes, collects and checkpoints. The whole
 * process has one core: what the log writer's thread takes counts, too. A run's getattrs are of its
 * own files in random order; further runs add their files to those that are there. */
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
    uint64_t *inos;  /* of this run's files */
    uint64_t *drawn; /* the inode numbers to ask for, in this order */
    uint64_t number; /* of the run: names differ */
    uint64_t dir;
    uint64_t at; /* operations done */
    double started;
    double seconds; /* of all of them, with the loop's turns between slices */
    struct hist create_ns;
    struct hist getattr_ns;
};

static uint64_t now_ns(void)
{
    return (uint64_t)(bench_now_s() * 1e9);
}

/* The end of a slice from `at` on; the clock starts with the first. */
static uint64_t slice_begin(struct engine_run *run, uint64_t count)
{
    if (run->at == 0) run->started = bench_now_s();
    return count - run->at < BENCH_SLICE ? count : run->at + BENCH_SLICE;
}

static void slice_end(struct bench_store *store, struct engine_run *run, uint64_t count)
{
    store->again = run->at < count;
    if (!store->again) run->seconds = bench_now_s() - run->started;
}

static enum err run_creates(struct bench_store *store, void *context)
{
    struct engine_run *run = context;
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    char name[32];
    if (run->at == 0) {
        struct fs_attr dir;
        (void)snprintf(name, sizeof(name), "run%012lu", run->number);
        enum err err = fs_mkdir(store->client, &caller, FS_ROOT_INO, name, 0755, &dir);
        if (err) return err;
        run->dir = dir.ino;
    }
    uint64_t end = slice_begin(run, run->files);
    uint64_t before = now_ns();
    for (; run->at < end; run->at++) {
        struct fs_attr attr;
        (void)snprintf(name, sizeof(name), "f%015lu", run->at);
        enum err err = fs_mknod(store->client, &caller, run->dir, name, S_IFREG | 0644, 0, &attr);
        if (err) return err;
        run->inos[run->at] = attr.ino;
        uint64_t after = now_ns();
        hist_add(&run->create_ns, after - before);
        before = after;
    }
    slice_end(store, run, run->files);
    return ERR_NONE;
}

static enum err run_getattrs(struct bench_store *store, void *context)
{
    struct engine_run *run = context;
    uint64_t end = slice_begin(run, run->getattrs);
    uint64_t before = now_ns();
    for (; run->at < end; run->at++) {
        struct fs_attr attr;
        enum err err = fs_getattr(store->client, run->drawn[run->at], &attr);
        if (err) return err;
        uint64_t after = now_ns();
        hist_add(&run->getattr_ns, after - before);
        before = after;
    }
    slice_end(store, run, run->getattrs);
    return ERR_NONE;
}

static enum err run_once(struct bench_store *store, struct engine_run *run, double *ret_creates,
                         double *ret_getattrs)
{
    run->at = 0;
    enum err err = bench_store_run(store, run_creates, run);
    if (err) return err;
    *ret_creates = (double)run->files / run->seconds;
    /* Beforehand: to look a random number up in a large array costs a cache miss itself. */
    for (uint64_t i = 0; i < run->getattrs; i++)
        run->drawn[i] = run->inos[hash_u64(i) % run->files];
    run->at = 0;
    err = bench_store_run(store, run_getattrs, run);
    if (err) return err;
    *ret_getattrs = (double)run->getattrs / run->seconds;
    return ERR_NONE;
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
    cpu_set_t before;
    cpu_set_t one;
    (void)sched_getaffinity(0, sizeof(before), &before);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    (void)sched_setaffinity(0, sizeof(one), &one); /* threads made from now on, too */
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
        run->drawn = calloc(run->getattrs, sizeof(*run->drawn));
        hist_init(&run->create_ns);
        hist_init(&run->getattr_ns);
    }
    if (!err && (!run || !run->inos || !run->drawn))
        err = diag_set(diag, ERR_NO_MEMORY, "no memory");
    for (uint32_t i = 0; !err && i < runs; i++) {
        run->number = i;
        err = run_once(&store, run, &creates[i], &getattrs[i]);
        if (err) (void)!diag_set(diag, err, "%s", err_text(err));
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
    if (run) {
        free(run->inos);
        free(run->drawn);
    }
    free(run);
    (void)sched_setaffinity(0, sizeof(before), &before);
    return err ? err : close_err;
}
