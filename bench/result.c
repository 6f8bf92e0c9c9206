/* Results as a table and as JSON lines, and the small things all benchmarks share. */
#include "bench/bench.h"

#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const struct bench_entry bench_entries[] = {
    {"fuse", "operations per second through a mount, beside a null file system", bench_fuse},
    {"engine", "programs per second on one core, without FUSE", bench_engine},
    {"memory", "bytes per file at 1, 5 and 10 million files", bench_memory},
    {"report", "usage by owner over 5 million inodes, beside SQLite", bench_report},
    {"restart", "time to load and serve 5 million files", bench_restart},
    {"scale", "cost per operation as directories and stores grow", bench_scale},
    {"misses", "cache misses per operation as they grow, by simulation", bench_misses},
    {"idle", "processor use of an idle mount; time to mount", bench_idle},
    {"meta", "create, lookup, getattr, unlink with the database in another process", bench_meta},
    {"transport", "latency and rate of links: shared memory, TCP, TLS, RDMA", bench_transport},
};
const size_t bench_entry_count = sizeof(bench_entries) / sizeof(bench_entries[0]);

void bench_add(struct bench *bench, const struct bench_result *result)
{
    if (!bench->headed)
        (void)printf("%-34s %14s %-10s %-24s %14s %8s\n", bench->name, "value", "unit", "against",
                     "value", "ratio");
    bench->headed = true;
    double ratio = result->against ? result->value / result->against_value : NAN;
    (void)printf("%-34s %14.6g %-10s ", result->label, result->value, result->unit);
    if (result->against)
        (void)printf("%-24s %14.6g %8.3f", result->against, result->against_value, ratio);
    (void)printf("\n");
    (void)fflush(stdout);
    bench_add_json(bench, result);
}

void bench_add_json(struct bench *bench, const struct bench_result *result)
{
    if (!bench->json) return;
    double ratio = result->against ? result->value / result->against_value : NAN;
    json_t *line = json_pack("{s:s, s:s, s:f, s:s, s:I, s:s}", "bench", bench->name, "case",
                             result->label, "value", result->value, "unit", result->unit, "runs",
                             (json_int_t)bench->runs, "note", result->note);
    if (line && result->against) {
        (void)json_object_set_new(line, "against", json_string(result->against));
        (void)json_object_set_new(line, "against_value", json_real(result->against_value));
        if (isfinite(ratio)) (void)json_object_set_new(line, "ratio", json_real(ratio));
    }
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (text) (void)fprintf(bench->json, "%s\n", text);
    (void)fflush(bench->json);
    free(text);
    json_decref(line);
}

double bench_now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    if (!count) return NAN;
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

char *bench_temp_dir(struct diag *diag)
{
    const char *parent = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/trellis-bench.XXXXXX", parent && *parent ? parent : "/tmp") < 0) {
        (void)!diag_set(diag, ERR_NO_MEMORY, "no memory");
        return NULL;
    }
    if (mkdtemp(path)) return path;
    (void)!diag_set(diag, err_from_errno(errno), "cannot make a directory %s: %s", path,
                    strerror(errno));
    free(path);
    return NULL;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)stat;
    (void)type;
    (void)walk;
    return remove(path) && errno != ENOENT ? -1 : 0;
}

void bench_remove_tree(const char *path)
{
    struct stat stat_at;
    if (lstat(path, &stat_at)) return;
    if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
        (void)fprintf(stderr, "trellis: cannot remove %s: %s\n", path, strerror(errno));
}

int bench_run_program(const char *const arguments[])
{
    pid_t child = fork();
    if (child == 0) {
        (void)execv(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    int status;
    return child < 0 || waitpid(child, &status, 0) < 0 ? -1 : status;
}
