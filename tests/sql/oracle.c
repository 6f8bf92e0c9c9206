/* The oracle: options, the loop over queries, the summary. See README.md. */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sql/cases.h"
#include "tests/sql/generate.h"

enum { CHANGE_EVERY = 500, FAILURES_MAX = 10 };

struct options {
    uint64_t seed;
    long count;
    long only; /* one query; -1: all */
    bool print;
    const char *dir;
};

struct totals {
    long passed;
    long failed;
    long skipped;
};

static void usage(FILE *file)
{
    fprintf(file,
            "usage: oracle [--count N] [--seed N] [--query N] [--print] DIRECTORY\n"
            "Compares random queries in RonSQL and in SQLite; stores are made in DIRECTORY.\n");
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option longs[] = {
        {"count", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'},
        {"query", required_argument, NULL, 'q'}, {"print", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},        {0}};
    struct options options = {.seed = 1, .count = 5000, .only = -1};
    for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (option) {
        case 'c':
            options.count = strtol(optarg, NULL, 10);
            break;
        case 's':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'q':
            options.only = strtol(optarg, NULL, 10);
            break;
        case 'p':
            options.print = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind + 1 != argc) {
        usage(stderr);
        exit(2);
    }
    options.dir = argv[optind];
    return options;
}

static void count_result(struct totals *totals, bool good, bool skipped)
{
    if (!good)
        totals->failed++;
    else if (skipped)
        totals->skipped++;
    else
        totals->passed++;
}

static void run_cases(struct data *data, const struct options *options, struct totals *totals)
{
    for (int i = 0; i < written_case_count; i++) {
        const struct written_case *written = &written_cases[i];
        struct query query = {.ordered = written->ordered,
                              .column_count = (int)strlen(written->classes)};
        query.ours = (char *)written->ours;
        query.lite = (char *)(written->lite ? written->lite : written->ours);
        for (int j = 0; j < query.column_count; j++) {
            char class = written->classes[j];
            query.classes[j] = class == 'e'   ? OUTPUT_EXACT
                               : class == 'f' ? OUTPUT_FOLDED
                               : class == 'r' ? OUTPUT_ROUND
                                              : OUTPUT_NUMBER;
        }
        bool skipped;
        bool good = query_check(data, &query, options->print, &skipped);
        if (!good) printf("(written query %d)\n\n", i);
        count_result(totals, good && !skipped, false);
    }
}

static void run_random(struct data *data, const struct options *options, struct totals *totals)
{
    for (long i = 0; i < options->count && totals->failed < FAILURES_MAX; i++) {
        if (i && i % CHANGE_EVERY == 0) data_change(data);
        if (options->only >= 0 && i != options->only) continue;
        struct query query;
        bool skipped;
        generate_query(options->seed * UINT64_C(1000003) + (uint64_t)i, &query);
        bool good = query_check(data, &query, options->print || options->only >= 0, &skipped);
        if (!good)
            printf("(again with --seed %llu --query %ld)\n\n", (unsigned long long)options->seed,
                   i);
        count_result(totals, good, skipped);
        free(query.ours);
        free(query.lite);
    }
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    struct totals totals = {0};
    struct data data;
    if (options.only >= options.count) options.count = options.only + 1;
    printf("seed %llu\n", (unsigned long long)options.seed);
    fflush(stdout);
    data_open(&data, options.dir, options.seed);
    if (options.only < 0) run_cases(&data, &options, &totals);
    run_random(&data, &options, &totals);
    data_close(&data);
    /* What overflows in RonSQL shows nothing: too many of those, and the generator has gone astray.
     */
    long ran = totals.passed + totals.failed + totals.skipped;
    if (totals.skipped * 50 > ran) {
        printf("%ld of %ld queries were out of range\n", totals.skipped, ran);
        totals.failed++;
    }
    printf("%ld passed, %ld failed, %ld skipped\n", totals.passed, totals.failed, totals.skipped);
    return totals.failed ? 1 : 0;
}
