/* posix: what Linux and POSIX say of a file system, checked on a directory of it. usage() says how.
 */
#include <getopt.h>
#include <stdlib.h>
#include <time.h>

#include "tests/posix/runner.h"

static int usage(FILE *file, int status)
{
    fputs("usage: posix [OPTIONS] DIR\n"
          "Checks the file system that holds DIR; best as root, which most cases of permissions "
          "need.\n"
          "\n"
          "  --only PATTERN      of groups, or of GROUP/CASE; may be repeated\n"
          "  --without PATTERN   the same, of what to leave out\n"
          "  --quick             leave out what takes long\n"
          "  --known FS          skip the known differences of a reference: ext4, tmpfs\n"
          "  --seed N            of the random operations\n"
          "  --prepare           make DIR/read-only, for --read-only\n"
          "  --read-only         the cases for a file system mounted read-only\n"
          "  --populate          make DIR/kept, a tree of everything\n"
          "  --describe          print what can be seen of it, to be compared later\n"
          "  --list              print the names of the cases\n"
          "  --verbose           print every case, with its checks and its time\n"
          "\n"
          "Each case runs in a directory of its own below DIR, in a process of its own. Ends with "
          "a line\n"
          "'N passed, N failed, N skipped' and status 1 when a case failed.\n",
          file);
    return status;
}

static bool parse_seed(const char *text, uint64_t *ret_seed)
{
    char *end;
    errno = 0;
    uint64_t seed = strtoull(text, &end, 0);
    if (errno || end == text || *end) return false;
    *ret_seed = seed;
    return true;
}

int main(int argc, char **argv)
{
    enum { ONLY = 256, WITHOUT, QUICK, KNOWN, SEED, READ_ONLY, VERBOSE, HELP };
    enum { RUN, LIST, PREPARE, POPULATE, DESCRIBE };
    int action = RUN;
    const struct option long_options[] = {{"only", required_argument, NULL, ONLY},
                                          {"without", required_argument, NULL, WITHOUT},
                                          {"quick", no_argument, NULL, QUICK},
                                          {"known", required_argument, NULL, KNOWN},
                                          {"seed", required_argument, NULL, SEED},
                                          {"prepare", no_argument, &action, PREPARE},
                                          {"populate", no_argument, &action, POPULATE},
                                          {"describe", no_argument, &action, DESCRIBE},
                                          {"read-only", no_argument, NULL, READ_ONLY},
                                          {"list", no_argument, &action, LIST},
                                          {"verbose", no_argument, NULL, VERBOSE},
                                          {"help", no_argument, NULL, HELP},
                                          {0}};
    /* Without what a sanitizer does at the end of a process: it may run with another identity. */
    if (argc > 1 && strcmp(argv[1], "exec-helper") == 0) _exit(exec_helper(argc, argv));
    struct runner_options options = {.seed = (uint64_t)time(NULL)};
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (option) {
        case 0:
            break; /* an action */
        case ONLY:
            if (options.only_count == 64) return usage(stderr, 2);
            options.only[options.only_count++] = optarg;
            break;
        case WITHOUT:
            if (options.without_count == 64) return usage(stderr, 2);
            options.without[options.without_count++] = optarg;
            break;
        case QUICK:
            options.quick = true;
            break;
        case KNOWN:
            options.known = optarg;
            break;
        case SEED:
            if (!parse_seed(optarg, &options.seed)) return usage(stderr, 2);
            break;
        case READ_ONLY:
            options.read_only = true;
            break;
        case VERBOSE:
            options.verbose = true;
            break;
        case HELP:
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    }
    if (action == LIST) return runner_list(&options);
    if (argc - optind != 1) return usage(stderr, 2);
    options.dir = argv[optind];
    switch (action) {
    case PREPARE:
        return readonly_prepare(options.dir);
    case POPULATE:
        return kept_populate(options.dir, options.seed);
    case DESCRIBE:
        return kept_describe(options.dir);
    default:
        return runner_run(&options);
    }
}
