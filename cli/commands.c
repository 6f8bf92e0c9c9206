/* The table of subcommands with their help texts: what `trellis --help`, `--help` of each, and
 * shell completion read. */
#include "cli/cli.h"

#define TARGET_HELP                                                                                \
    "  --store DIR      the store; asked through the process that serves it, if one does\n"        \
    "  --mount DIR      the store behind this mount\n"                                             \
    "  --cluster A[,A]  a database in another process: tcp:HOST:PORT (or just HOST:PORT),\n"       \
    "                   tls:HOST:PORT, verbs:HOST:PORT, shm:PATH; needs --secret FILE\n"           \
    "                   (none: $TRELLIS_MOUNT, $TRELLIS_STORE, or the mount that the working\n"    \
    "                   directory lies in)\n"

const struct command commands[] = {
    {"mount", cli_mount, "mount a store as a file system",
     "usage: trellis mount --store DIR [OPTIONS] MOUNTPOINT\n"
     "       trellis mount --cluster ADDRESS[,ADDRESS] --secret FILE --data DIR [OPTIONS] "
     "MOUNTPOINT\n\n"
     "Runs a metadata server and its mount and returns once mounted. With --store the database\n"
     "is in the same process, and is made when DIR is missing or empty; with --cluster it is in\n"
     "another (`trellis node`). A dead mount at MOUNTPOINT is replaced.\n\n"
     "  --store DIR      where the database and the file contents lie\n"
     "  --cluster A[,A]  where the database listens: tcp:HOST:PORT, tls:HOST:PORT,\n"
     "                   verbs:HOST:PORT or shm:PATH; tried in this order\n"
     "  --transport KIND what HOST:PORT alone means: tcp (default), tls, verbs\n"
     "  --secret FILE    the secret that the database knows, 64 hexadecimal digits\n"
     "  --timeout SECS   how long an operation waits for a database that is away (default 10)\n"
     "  --workers N      engine threads, 1 to 64 (default 1)\n"
     "  --listen ADDRESS with --store: also let other processes reach the database there\n"
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
    {"node", cli_node, "serve a store to other processes",
     "usage: trellis node --store DIR --listen ADDRESS [OPTIONS]\n"
     "       trellis node --config FILE --id N [-f]\n\n"
     "Serves a store, without a mount, to `trellis mount --cluster` and others, and returns once\n"
     "it listens. Whoever knows the secret may do everything. SIGTERM ends it cleanly.\n\n"
     "  --store DIR      where the database lies; made when DIR is missing or empty\n"
     "  --listen ADDRESS tcp:HOST:PORT, tls:HOST:PORT, verbs:HOST:PORT or shm:PATH; several are\n"
     "                   allowed. Worker n listens at PORT + n, or PATH.n. Processes of this\n"
     "                   machine always find it at shm:DIR/link\n"
     "  --secret FILE    64 hexadecimal digits (default: DIR/secret, made when it is missing)\n"
     "  --workers N      threads, 1 to 64 (default 1)\n"
     "  --flush WHEN     `always`, or every so many milliseconds (default 50)\n"
     "  --memory SIZE    limit of rows and indexes, such as 4G (default: none)\n"
     "  --partitions N   of a new store: a power of two (default 8)\n"
     "  --config FILE    JSON: {\"secret_file\": PATH, \"nodes\": [{\"id\": N, \"store\": DIR,\n"
     "                   \"listen\": [ADDRESS], \"workers\": N, \"flush\": MS, \"memory\": SIZE,\n"
     "                   \"partitions\": N}]}\n"
     "  --id N           which of the nodes in FILE this is\n"
     "  -f, --foreground stay in the foreground, messages on stderr\n"},
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
     "No NAME lists the benchmarks. Prints a table.\n\n"
     "  --json FILE          also write one JSON object a line\n"
     "  --runs N             repeat each case so often (5); medians are reported\n"
     "  --quick              a tenth of the size: to see that it works\n"
     "  --files N            for those that fill a store\n\n"
     "transport:\n"
     "  --plot FILE          write a plot (SVG)\n"
     "  --address HOST       where the RDMA device is\n"
     "  --serve ADDRESS      only answer there, for a --peer elsewhere; may be repeated\n"
     "  --peer ADDRESS       measure with the server there; may be repeated\n"
     "  --secret FILE        of both\n"
     "  --against NAME[:SIZE]=US   another program's round trip, to compare with\n"},
    {"completion", cli_completion, "print shell completion for bash",
     "usage: trellis completion\n\nIn ~/.bashrc:  source <(trellis completion)\n"},
};
const size_t command_count = sizeof(commands) / sizeof(commands[0]);
