/* `trellis bench`: runs one of the benchmarks in bench/, in a directory that goes with it, whatever
 * ends it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/probe.h"
#include "cli/cli.h"
#include "cli/supervise.h"

static int list_benches(void)
{
    for (size_t i = 0; i < bench_entry_count; i++)
        (void)printf("%-10s %s\n", bench_entries[i].name, bench_entries[i].summary);
    return EXIT_OK;
}

/* One more of an option that may be repeated. */
static bool take_text(const char **texts, unsigned *count, unsigned max)
{
    if (*count == max) return false;
    texts[(*count)++] = optarg;
    return true;
}

struct run {
    struct bench *bench;
    const struct bench_entry *entry;
    const char *json; /* the name of the file, or NULL */
};

static int run_one(void *context)
{
    const struct run *run = context;
    struct diag diag = {.position = UINT32_MAX};
    enum err err = run->entry->run(run->bench, &diag);
    int status = err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
    if (run->json && fclose(run->bench->json) && !err)
        status = cli_fail(ERR_IO, "cannot write %s: %s", run->json, strerror(errno));
    return status;
}

int cli_bench(int argc, char **argv)
{
    enum {
        OPTION_JSON = 256,
        OPTION_RUNS,
        OPTION_QUICK,
        OPTION_FILES,
        OPTION_PLOT,
        OPTION_SERVE,
        OPTION_PEER,
        OPTION_ADDRESS,
        OPTION_SECRET,
        OPTION_AGAINST,
    };
    static const struct option options[] = {{"json", required_argument, NULL, OPTION_JSON},
                                            {"runs", required_argument, NULL, OPTION_RUNS},
                                            {"files", required_argument, NULL, OPTION_FILES},
                                            {"quick", no_argument, NULL, OPTION_QUICK},
                                            {"plot", required_argument, NULL, OPTION_PLOT},
                                            {"serve", required_argument, NULL, OPTION_SERVE},
                                            {"peer", required_argument, NULL, OPTION_PEER},
                                            {"address", required_argument, NULL, OPTION_ADDRESS},
                                            {"secret", required_argument, NULL, OPTION_SECRET},
                                            {"against", required_argument, NULL, OPTION_AGAINST},
                                            {0}};
    const char *json = NULL;
    uint64_t runs = 5;
    struct bench bench = {0};
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        bool good = true;
        switch (option) {
        case OPTION_JSON:
            json = optarg;
            break;
        case OPTION_QUICK:
            bench.quick = true;
            break;
        case OPTION_RUNS:
            good = cli_parse_size(optarg, 32, &runs) && runs > 0;
            break;
        case OPTION_FILES:
            good = cli_parse_size(optarg, UINT32_MAX, &bench.files);
            break;
        case OPTION_PLOT:
            bench.links.plot = optarg;
            break;
        case OPTION_ADDRESS:
            bench.links.address = optarg;
            break;
        case OPTION_SECRET:
            bench.links.secret = optarg;
            break;
        case OPTION_SERVE:
            good = take_text(bench.links.serve, &bench.links.serve_count, BENCH_PEERS_MAX);
            break;
        case OPTION_PEER:
            good = take_text(bench.links.peers, &bench.links.peer_count, BENCH_PEERS_MAX);
            break;
        case OPTION_AGAINST:
            good = take_text(bench.links.against, &bench.links.against_count, BENCH_FIGURES_MAX);
            break;
        case ':':
            return cli_usage("bench", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("bench", "unknown option %s", argv[optind - 1]);
        }
        if (!good) return cli_usage("bench", "bad value '%s'", optarg);
    }
    if (optind == argc) return list_benches();
    if (argc - optind > 1) return cli_usage("bench", "unexpected argument '%s'", argv[optind + 1]);
    const struct bench_entry *entry = NULL;
    for (size_t i = 0; i < bench_entry_count && !entry; i++)
        if (strcmp(bench_entries[i].name, argv[optind]) == 0) entry = &bench_entries[i];
    if (!entry)
        return cli_usage("bench", "no benchmark '%s'; `trellis bench` lists them", argv[optind]);
    char program[PATH_MAX] = {0};
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return cli_fail(ERR_IO, "cannot find this program: %s", strerror(errno));
    bench.name = entry->name;
    bench.program = program;
    bench.runs = (uint32_t)runs;
    if (json && !(bench.json = fopen(json, "we")))
        return cli_fail(ERR_IO, "cannot write %s: %s", json, strerror(errno));
    struct run run = {.bench = &bench, .entry = entry, .json = json};
    /* A server ends by a signal in its own way, and what runs in the simulator is somebody's child
     * already. */
    if (bench.links.serve_count || getenv(PROBE_VARIABLE)) return run_one(&run);
    struct diag diag = {.position = UINT32_MAX};
    char *dir = bench_temp_dir(&diag);
    if (!dir) return cli_fail(ERR_IO, "%s", diag.text);
    int status = supervise(dir, run_one, &run);
    bench_remove_tree(dir);
    free(dir);
    return status;
}
