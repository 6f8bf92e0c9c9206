/* The table of subcommands with their help texts: what `trellis --help`, `--help` of each, and
 * shell completion read. */
#include "cli/cli.h"

#define TARGET_HELP                                                                                \
    "  --store DIR      the store; asked through the process that serves it, if one does\n"        \
    "  --mount DIR      the store behind this mount\n"                                             \
    "                   (neither: $TRELLIS_MOUNT, $TRELLIS_STORE, or the mount that the working\n" \
    "                   directory lies in)\n"

const struct command commands[] = {
    {"mount", cli_mount, "mount a store as a file system",
     "usage: trellis mount --store DIR [OPTIONS] MOUNTPOINT\n\n"
     "Runs database, metadata server and mount in one process and returns once mounted.\n"
     "The store is made when DIR is missing or empty. A dead mount at MOUNTPOINT is replaced.\n\n"
     "  --store DIR      where the database and the file contents lie\n"
     "  --workers N      engine threads, 1 to 64 (default 1)\n"
     "  --flush WHEN     `always`, or every so many milliseconds (default 50)\n"
     "  --memory SIZE    limit of rows and indexes, such as 4G (default: none)\n"
     "  --data DIR       where file contents lie (default: DIR/data of the store)\n"
     "  -f, --foreground stay in the foreground, messages on stderr\n"
     "  -o OPTIONS       comma-separated mount options: ro, noatime, nosuid, nodev, noexec,\n"
     "                   allow_other, entry_timeout=S, attr_timeout=S, negative_timeout=S, and\n"
     "                   those of mount.fuse3. Default: default_permissions, and for root also\n"
     "                   allow_other, suid, dev\n"},
    {"umount", cli_umount, "unmount a mounted store",
     "usage: trellis umount [--lazy] MOUNTPOINT\n\n"
     "Unmounts and waits until everything is on disk and the store is free.\n\n"
     "  --lazy           detach now, end when the last user is gone\n"},
    {"sql", cli_sql, "ask the store in RonSQL",
     "usage: trellis sql [OPTIONS] [-e QUERY | --execute-file FILE]\n\n"
     "Runs the queries given, or those from standard input; a prompt on a terminal.\n\n" TARGET_HELP
     "  -e QUERY         run QUERY (statements separated by ;)\n"
     "  --execute-file F run the statements in F\n"
     "  -D DATABASE      default database (fs)\n"
     "  --output-format  TABLE, TEXT, TEXT_NOHEADER, CSV, JSON or JSON_ASCII\n"
     "                   (default: TABLE on a terminal, else TEXT)\n"
     "  --explain-mode   ALLOW, FORBID, REQUIRE, REMOVE or FORCE (default ALLOW)\n"},
    {"report", cli_report, "print a named usage report",
     "usage: trellis report [OPTIONS] [NAME [ARGUMENTS]]\n\n"
     "No NAME lists the reports. Each is one .sql file whose heading says what it "
     "shows.\n\n" TARGET_HELP "  --output-format  as of `trellis sql`\n"
     "  --show           print the report's SQL instead of running it\n"},
    {"status", cli_status, "show the counters of a store",
     "usage: trellis status [OPTIONS]\n\n" TARGET_HELP "  --json           as JSON\n"},
    {"fsck", cli_fsck, "check the file system's integrity",
     "usage: trellis fsck [OPTIONS]\n\n"
     "Runs the integrity queries on one store, live or not, and prints what they find.\n"
     "Exit status 1 when something is found.\n\n" TARGET_HELP},
    {"bench", cli_bench, "measure",
     "usage: trellis bench [NAME] [OPTIONS]\n\n"
     "No NAME lists the benchmarks. Prints a table; --json FILE also writes one JSON object a\n"
     "line. `trellis bench NAME --help` tells each one's options.\n"},
    {"completion", cli_completion, "print shell completion for bash",
     "usage: trellis completion\n\nIn ~/.bashrc:  source <(trellis completion)\n"},
};
const size_t command_count = sizeof(commands) / sizeof(commands[0]);
