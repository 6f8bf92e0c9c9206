/* The benchmarks behind `trellis bench` and `./dev bench`: each is a function that measures and
 * adds results. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/diag.h"

enum { BENCH_PEERS_MAX = 8, BENCH_FIGURES_MAX = 16 };

/* Options of `bench transport` and `bench meta`; texts as they were given. */
struct bench_links {
    const char *serve[BENCH_PEERS_MAX];     /* only answer, at these addresses */
    const char *peers[BENCH_PEERS_MAX];     /* measure with these servers, not with our own */
    const char *address;                    /* the host of the RDMA device for verbs */
    const char *secret;                     /* of --serve and --peer: a file */
    const char *plot;                       /* an SVG is written there */
    const char *against[BENCH_FIGURES_MAX]; /* NAME[:SIZE]=MICROSECONDS of another program */
    unsigned serve_count, peer_count, against_count;
};

/* Where results go: a table on stdout, and JSON lines when asked for. */
struct bench {
    const char *name;
    const char *program; /* our own executable, for benchmarks that start a server */
    FILE *json;          /* NULL: none */
    uint32_t runs;       /* how often each case is repeated; medians are reported */
    bool quick;          /* a tenth of the size: to see that it works, not to quote */
    uint64_t files;      /* --files: overrides the sizes of a benchmark; 0: its own */
    struct bench_links links;
    bool headed;
};

/* One figure. `against` names what it is compared with, or is NULL; ratio is value / against_value.
 * The note says which direction is better. */
struct bench_result {
    const char *label;
    double value;
    const char *unit;
    const char *against;
    double against_value;
    const char *note;
};
void bench_add(struct bench *bench, const struct bench_result *result);
/* As JSON only: for a benchmark with a table of its own. */
void bench_add_json(struct bench *bench, const struct bench_result *result);

struct bench_entry {
    const char *name;
    const char *summary;
    enum err (*run)(struct bench *bench, struct diag *diag);
};
extern const struct bench_entry bench_entries[];
extern const size_t bench_entry_count;

enum err bench_fuse(struct bench *bench, struct diag *diag);
enum err bench_engine(struct bench *bench, struct diag *diag);
enum err bench_memory(struct bench *bench, struct diag *diag);
enum err bench_report(struct bench *bench, struct diag *diag);
enum err bench_restart(struct bench *bench, struct diag *diag);
enum err bench_scale(struct bench *bench, struct diag *diag);
enum err bench_misses(struct bench *bench, struct diag *diag);
bool bench_can_count_misses(void); /* valgrind is installed */
enum err bench_idle(struct bench *bench, struct diag *diag);
enum err bench_meta(struct bench *bench, struct diag *diag);
enum err bench_transport(struct bench *bench, struct diag *diag);

double bench_now_s(void);
/* Sorts values and returns the middle one. */
double bench_median(double *values, size_t count);
/* A fresh directory under $TMPDIR or /tmp; heap. NULL with a reason. */
char *bench_temp_dir(struct diag *diag);
/* Removes the directory with everything in it, without crossing into mounts. */
void bench_remove_tree(const char *path);
/* Runs the program, by path, with its NULL-ended arguments and waits: its wait status, -1 when it
 * could not be started. */
int bench_run_program(const char *const arguments[]);

#endif
