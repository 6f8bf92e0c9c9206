/* The way to a store for the subcommands that ask it something: over the control socket of the
 * process that serves it, or, when nobody does, by opening it here.
 *
 * Which of the two is decided by connecting: a socket that nobody listens at is a dead process's.
 * Two processes cannot both open a store (its lock decides), so losing a race only gives the error
 * that it is in use. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control_wire.h"
#include "cli/serving.h"

struct cli_store {
    int fd; /* the connection; -1: opened here */
    struct db *db;
    struct db_client *client;
};

/* ERR_NOT_FOUND: nobody serves it. */
static enum err connect_to(const char *dir, int *ret_fd, struct diag *diag)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return diag_set(
            diag, err_from_errno(errno) == ERR_NOT_FOUND ? ERR_INVALID : err_from_errno(errno),
            "cannot open the store %s: %s", dir, strerror(errno));
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir_fd,
                   CONTROL_SOCKET_NAME);
    enum err err = ERR_NONE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err = diag_set(diag, ERR_IO, "cannot make a socket: %s", strerror(errno));
    } else if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        err = errno == ENOENT || errno == ECONNREFUSED ? ERR_NOT_FOUND : err_from_errno(errno);
        (void)!diag_set(diag, err, "cannot reach the process that serves %s: %s", dir,
                        strerror(errno));
        (void)close(fd);
    }
    (void)close(dir_fd);
    if (!err) *ret_fd = fd;
    return err;
}

/* The store behind the mount that the path lies in: its source in the mount table. */
static enum err store_of_mount(const char *mountpoint, char **ret_dir, struct diag *diag)
{
    char *path = realpath(mountpoint, NULL);
    if (!path)
        return diag_set(diag, ERR_INVALID, "cannot find %s: %s", mountpoint, strerror(errno));
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t capacity = 0;
    size_t best = 0;
    char *dir = NULL;
    while (table && getline(&line, &capacity, table) > 0) {
        char point[PATH_MAX];
        char type[64];
        char source[PATH_MAX];
        const char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 ||
            sscanf(dash, " - %63s %4095s", type, source) != 2)
            continue;
        size_t size = strlen(point);
        bool within = strncmp(path, point, size) == 0 &&
                      (path[size] == 0 || path[size] == '/' || strcmp(point, "/") == 0);
        if (!within || size < best) continue;
        best = size;
        free(dir);
        dir = strcmp(type, "fuse.trellis") == 0 ? strdup(source) : NULL;
    }
    free(line);
    if (table) (void)fclose(table);
    free(path);
    if (!dir)
        return diag_set(diag, ERR_INVALID, "%s is not in a mounted trellis file system",
                        mountpoint);
    *ret_dir = dir;
    return ERR_NONE;
}

enum err cli_store_open(const char *dir, const char *mountpoint, struct cli_store **ret_store,
                        struct diag *diag)
{
    char *found = NULL;
    if (mountpoint) {
        enum err err = store_of_mount(mountpoint, &found, diag);
        if (err) return err;
        dir = found;
    }
    struct cli_store *store = calloc(1, sizeof(*store));
    enum err err = ERR_NONE;
    if (!store) {
        err = diag_set(diag, ERR_NO_MEMORY, "no memory");
        goto free_found;
    }
    store->fd = -1;
    err = connect_to(dir, &store->fd, diag);
    if (err == ERR_NOT_FOUND) {
        const struct db_config config = {.dir = dir, .progress = cli_progress};
        struct diag why;
        err = db_open_embedded(&config, &store->db, &why);
        if (err) {
            (void)!diag_set(diag, err, "store %s: %s", dir, why.text);
        } else {
            err = db_client_create(store->db, &store->client);
            if (err) (void)!diag_set(diag, err, "%s", err_text(err));
        }
    }
    if (err) {
        struct diag ignored;
        (void)!cli_store_close(store, &ignored);
    } else {
        *ret_store = store;
    }
free_found:
    free(found);
    return err;
}

enum err cli_store_close(struct cli_store *store, struct diag *diag)
{
    if (!store) return ERR_NONE;
    if (store->fd >= 0) (void)close(store->fd);
    db_client_destroy(store->client);
    enum err err = store->db ? db_close(store->db, diag) : ERR_NONE;
    free(store);
    return err;
}

/* Passes OUTPUT frames to the sink until END tells how it went. */
static enum err receive_answer(int fd, struct sql_sink *sink, struct diag *diag, char **ret_caret)
{
    enum err sunk = ERR_NONE;
    for (;;) {
        uint8_t type;
        char *bytes;
        size_t size;
        enum err err = control_receive(fd, &type, &bytes, &size);
        if (err) return diag_set(diag, ERR_CLOSED, "the process that serves the store went away");
        if (type == CONTROL_OUTPUT) {
            if (!sunk) sunk = sink->write(sink, bytes, size);
            free(bytes);
            if (sunk) return diag_set(diag, sunk, "cannot write the result: %s", err_text(sunk));
            continue;
        }
        json_t *end = type == CONTROL_END ? json_loadb(bytes, size, 0, NULL) : NULL;
        free(bytes);
        json_int_t number = json_integer_value(json_object_get(end, "err"));
        const char *text = json_string_value(json_object_get(end, "text"));
        const char *caret = json_string_value(json_object_get(end, "caret"));
        if (!end || number < 0 || !err_is_known((unsigned)number)) {
            json_decref(end);
            return diag_set(diag, ERR_BAD_SIGNAL, "malformed answer from the serving process");
        }
        err = (enum err)number;
        if (err) {
            (void)!diag_set(diag, err, "%s", text ? text : err_text(err));
            diag->position = (uint32_t)json_integer_value(json_object_get(end, "position"));
            if (ret_caret) *ret_caret = caret ? strdup(caret) : NULL;
        }
        json_decref(end);
        return err;
    }
}

static enum err ask_remote(int fd, json_t *request, struct sql_sink *sink, struct diag *diag,
                           char **ret_caret)
{
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text) return diag_set(diag, ERR_INVALID, "the request is not valid UTF-8");
    enum err err = strlen(text) > CONTROL_FRAME_SIZE_MAX
                       ? ERR_TOO_BIG
                       : control_send(fd, CONTROL_REQUEST, text, strlen(text));
    free(text);
    if (err) return diag_set(diag, err, "cannot ask the serving process: %s", err_text(err));
    return receive_answer(fd, sink, diag, ret_caret);
}

static const char *const format_names[] = {[SQL_FORMAT_TABLE] = "TABLE",
                                           [SQL_FORMAT_TEXT] = "TEXT",
                                           [SQL_FORMAT_TEXT_NOHEADER] = "TEXT_NOHEADER",
                                           [SQL_FORMAT_CSV] = "CSV",
                                           [SQL_FORMAT_JSON] = "JSON",
                                           [SQL_FORMAT_JSON_ASCII] = "JSON_ASCII"};
static const char *const mode_names[] = {[SQL_EXPLAIN_ALLOW] = "ALLOW",
                                         [SQL_EXPLAIN_FORBID] = "FORBID",
                                         [SQL_EXPLAIN_REQUIRE] = "REQUIRE",
                                         [SQL_EXPLAIN_REMOVE] = "REMOVE",
                                         [SQL_EXPLAIN_FORCE] = "FORCE"};

enum err cli_store_sql(struct cli_store *store, const char *text, size_t size,
                       const struct sql_options *options, struct sql_sink *sink, struct diag *diag,
                       char **ret_caret)
{
    if (ret_caret) *ret_caret = NULL;
    if (store->fd < 0) return sql_run(store->client, text, size, options, sink, diag, ret_caret);
    json_t *request =
        json_pack("{s:s, s:s%, s:s?, s:s, s:s}", "op", "sql", "text", text, size, "database",
                  options->database, "format", format_names[options->format], "explain_mode",
                  mode_names[options->explain_mode]);
    return ask_remote(store->fd, request, sink, diag, ret_caret);
}

enum err cli_store_ask(struct cli_store *store, const char *question, const char *argument,
                       struct sql_sink *sink, struct diag *diag)
{
    if (store->fd < 0) return answer_ask(store->client, NULL, question, argument, sink, diag);
    json_t *request = json_pack("{s:s, s:s?}", "op", question, "argument", argument);
    return ask_remote(store->fd, request, sink, diag, NULL);
}

struct cli_store *cli_target_open(const struct cli_target *target, const char *command,
                                  int *ret_status)
{
    const char *dir = target->store;
    const char *mount = target->mount;
    if (dir && mount) {
        *ret_status = cli_usage(command, "give --store or --mount, not both");
        return NULL;
    }
    if (!dir && !mount) mount = getenv("TRELLIS_MOUNT");
    if (!dir && !mount) dir = getenv("TRELLIS_STORE");
    struct cli_store *store = NULL;
    struct diag diag = {.position = UINT32_MAX};
    bool guessed = !dir && !mount;
    enum err err = cli_store_open(dir, guessed ? "." : mount, &store, &diag);
    if (!err) return store;
    *ret_status = guessed ? cli_usage(command, "say which store: --store DIR or --mount DIR")
                          : cli_fail(err, "%s", diag.text);
    return NULL;
}

bool serving_pid(const char *mountpoint, pid_t *ret_pid)
{
    struct diag diag;
    char *dir;
    int fd;
    if (store_of_mount(mountpoint, &dir, &diag)) return false;
    enum err err = connect_to(dir, &fd, &diag);
    free(dir);
    if (err) return false;
    struct ucred peer;
    socklen_t size = sizeof(peer);
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0;
    (void)close(fd);
    if (known) *ret_pid = peer.pid;
    return known;
}
