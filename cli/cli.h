/* What the subcommands share: exit statuses, messages, the connection to a store. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/diag.h"
#include "db/api/db.h"
#include "sql/sql.h"

/* The statuses that every subcommand exits with. */
enum cli_exit { EXIT_OK = 0, EXIT_PERMANENT = 1, EXIT_USAGE = 2, EXIT_RETRY = 3 };

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name */
    const char *summary;
    const char *help; /* the whole text of --help */
};
extern const struct command commands[];
extern const size_t command_count;

int cli_mount(int argc, char **argv);
int cli_umount(int argc, char **argv);
int cli_node(int argc, char **argv);
int cli_sql(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_fsck(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_completion(int argc, char **argv);

/* "trellis: text" on stderr and the exit status that belongs to err. */
int cli_fail(enum err err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wrong usage: the text and where to find help; EXIT_USAGE. */
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_exit_of(enum err err);
/* Whole numbers with an optional K, M, G or T (of 1,024). False when it is anything else or over
 * max. */
bool cli_parse_size(const char *text, uint64_t max, uint64_t *ret_size);
/* A bar on stderr when that is a terminal; nothing otherwise. */
void cli_progress(void *context, const char *what, uint64_t done, uint64_t total);
/* A whole file or standard input (path "-"), NUL-terminated, heap. At most size_max bytes:
 * ERR_TOO_BIG. */
MUST_USE enum err cli_read_all(const char *path, size_t size_max, char **ret_text, size_t *ret_size,
                               struct diag *diag);

/* ---- a store: served by another process, or opened here ---- store.c */

struct cli_store;

MUST_USE enum err cli_store_close(struct cli_store *store, struct diag *diag); /* NULL allowed */
/* As sql_run. Sees what was written to files that the mount has open. */
MUST_USE enum err cli_store_sql(struct cli_store *store, const char *text, size_t size,
                                const struct sql_options *options, struct sql_sink *sink,
                                struct diag *diag, char **ret_caret);
/* Other questions by name: "status" (JSON text), "fsck" (finding lines; the err says whether any),
 * "path" (argument: an absolute path within the file system; JSON with its ino), "flush",
 * "checkpoint". The answer goes to the sink. */
MUST_USE enum err cli_store_ask(struct cli_store *store, const char *question, const char *argument,
                                struct sql_sink *sink, struct diag *diag);
/* The process of this machine that serves it; 0: none is known. */
pid_t cli_store_pid(const struct cli_store *store);

/* A sink that collects; fini by free(bytes). */
struct cli_collect {
    struct sql_sink sink;
    char *bytes; /* NUL-terminated */
    size_t size;
};
void cli_collect_init(struct cli_collect *collect);
extern struct sql_sink cli_stdout;
/* How the query subcommands are told where to ask: their options in common. */
struct cli_target {
    const char *store;
    const char *mount;
    const char *cluster;
    const char *secret; /* the file; goes with cluster */
};
enum cli_target_option {
    CLI_OPTION_STORE = 1000,
    CLI_OPTION_MOUNT,
    CLI_OPTION_CLUSTER,
    CLI_OPTION_SECRET,
};
/* For their getopt_long tables. */
#define CLI_TARGET_OPTIONS                                                                         \
    {"store", required_argument, NULL, CLI_OPTION_STORE},                                          \
        {"mount", required_argument, NULL, CLI_OPTION_MOUNT},                                      \
        {"cluster", required_argument, NULL, CLI_OPTION_CLUSTER},                                  \
    {                                                                                              \
        "secret", required_argument, NULL, CLI_OPTION_SECRET                                       \
    }
/* Takes the option if it is one of them. */
bool cli_target_take(struct cli_target *target, int option, const char *value);
/* Opens it, or says what is wrong and returns the exit status in *ret_status (NULL then). A store
 * or mount that is served by a process of this machine is reached over links; a store that is not
 * is opened here (never created). Without any of the options: $TRELLIS_MOUNT or $TRELLIS_STORE, or
 * the working directory if it lies in a trellis mount. */
struct cli_store *cli_target_open(const struct cli_target *target, const char *command,
                                  int *ret_status);

/* ---- answering ---- answer.c */

/* The questions of cli_store_ask, asked here. */
MUST_USE enum err answer_ask(struct db_client *client, const char *question, const char *argument,
                             struct sql_sink *sink, struct diag *diag);

#endif
