/* `bench idle`: what a mounted store costs while nobody uses it, and how long an empty one takes
 * from start to mounted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "cli/serving.h"

enum { IDLE_SECONDS = 20, QUICK_SECONDS = 3, RUNS_MAX = 32 };

/* Seconds of processor time that the process has used; negative when unknown. */
static double process_seconds(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return -1;
    unsigned long user = 0;
    unsigned long system = 0;
    /* The name, in parentheses, has no blank in ours. */
    int got =
        fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    (void)fclose(file);
    return got == 2 ? (double)(user + system) / (double)sysconf(_SC_CLK_TCK) : -1;
}

enum err bench_idle(struct bench *bench, struct diag *diag)
{
    char *dir = bench_temp_dir(diag);
    if (!dir) return ERR_IO;
    char store[600];
    char mountpoint[600];
    (void)snprintf(store, sizeof(store), "%s/store", dir);
    (void)snprintf(mountpoint, sizeof(mountpoint), "%s/mnt", dir);
    (void)mkdir(mountpoint, 0755);
    const char *const mount[] = {bench->program, "mount", "--store", store, mountpoint, NULL};
    const char *const unmount[] = {bench->program, "umount", mountpoint, NULL};
    double starts[RUNS_MAX];
    double busy[RUNS_MAX];
    uint32_t runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    enum err err = ERR_NONE;
    for (uint32_t run = 0; !err && run < runs; run++) {
        bench_remove_tree(store);
        double start = bench_now_s();
        if (bench_run_program(mount)) {
            err = diag_set(diag, ERR_IO, "cannot mount %s", store);
            break;
        }
        starts[run] = bench_now_s() - start;
        pid_t pid = 0;
        bool known = serving_pid(mountpoint, &pid);
        (void)sleep(1);
        double before = process_seconds(pid);
        unsigned seconds = bench->quick ? QUICK_SECONDS : IDLE_SECONDS;
        (void)sleep(seconds);
        double after = process_seconds(pid);
        busy[run] = (after - before) / seconds * 100;
        if (!known || before < 0 || after < 0)
            err = diag_set(diag, ERR_IO, "the serving process went away");
        if (bench_run_program(unmount) && !err)
            err = diag_set(diag, ERR_IO, "cannot unmount %s", mountpoint);
    }
    if (!err) {
        bench_add(bench, &(struct bench_result){.label = "start to mounted, empty store",
                                                .value = bench_median(starts, runs),
                                                .unit = "s",
                                                .against = "target",
                                                .against_value = 0.3,
                                                .note = "lower is better"});
        bench_add(bench, &(struct bench_result){.label = "idle mount",
                                                .value = bench_median(busy, runs),
                                                .unit = "% of core",
                                                .against = "target",
                                                .against_value = 0.5,
                                                .note = "lower is better"});
    }
    bench_remove_tree(dir);
    free(dir);
    return err;
}
