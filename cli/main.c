/* `trellis`: finds the subcommand and runs it. Each lives in a file of its own. */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>

static void print_summary(FILE *to)
{
    (void)fputs("usage: trellis COMMAND [OPTIONS] [ARGUMENTS]\n\n", to);
    for (size_t i = 0; i < command_count; i++)
        (void)fprintf(to, "  %-11s %s\n", commands[i].name, commands[i].summary);
    (void)fputs("\n`trellis COMMAND --help` tells more. Exit status: 0 success, 1 permanent error, "
                "2 wrong usage,\n3 retryable error.\n",
                to);
}

static bool asks_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    /* A closed pipe is an error of the write, with a message and a status. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_summary(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_summary(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("trellis %s\n", TRELLIS_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(argv[1], commands[i].name)) continue;
        if (asks_help(argc - 1, argv + 1)) {
            (void)fputs(commands[i].help, stdout);
            return EXIT_OK;
        }
        return commands[i].run(argc - 1, argv + 1);
    }
    (void)fprintf(stderr, "trellis: no command '%s'; `trellis --help` lists them\n", argv[1]);
    return EXIT_USAGE;
}
