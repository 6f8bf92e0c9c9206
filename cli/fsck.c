/* `trellis fsck`: runs the integrity queries and prints what they find. */
#include <getopt.h>

#include "cli/cli.h"

int cli_fsck(int argc, char **argv)
{
    static const struct option options[] = {CLI_TARGET_OPTIONS, {0}};
    struct cli_target target = {0};
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (cli_target_take(&target, option, optarg)) continue;
        switch (option) {
        case ':':
            return cli_usage("fsck", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("fsck", "unknown option %s", argv[optind - 1]);
        }
    }
    if (optind < argc) return cli_usage("fsck", "unexpected argument '%s'", argv[optind]);
    int status = EXIT_OK;
    struct cli_store *store = cli_target_open(&target, "fsck", &status);
    if (!store) return status;
    struct diag diag = {.position = UINT32_MAX};
    enum err err = cli_store_ask(store, "fsck", NULL, &cli_stdout, &diag);
    if (fflush(stdout) && !err) err = diag_set(&diag, ERR_IO, "cannot write the findings");
    if (err) status = cli_fail(err, "%s", diag.text);
    err = cli_store_close(store, &diag);
    return err && status == EXIT_OK ? cli_fail(err, "%s", diag.text) : status;
}
