/* The way to a store for the subcommands that ask it something: over links to the process that
 * serves it, or, when nobody does, by opening it here.
 *
 * Which of the two is decided by connecting to the control socket: one that nobody listens at is a
 * dead process's. The serving process says over it how its database is reached: by shared memory,
 * if it can. Statements are planned here and run there. Two processes cannot both open a store (its
 * lock decides), so losing a race only gives the error that it is in use. */
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
#include "cli/cluster.h"
#include "cli/control_wire.h"
#include "cli/serving.h"
#include "fuse/mount.h"

struct cli_store {
    int fd; /* the control connection; -1: there is none */
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
        mount_field_unescape(point);
        mount_field_unescape(source);
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

/* ---- asking the serving process ---- */

/* The question's output, heap and NUL-terminated; NULL when there is none. */
static enum err receive_answer(int fd, char **ret_output, struct diag *diag)
{
    char *output = NULL;
    for (;;) {
        uint8_t type;
        char *bytes;
        size_t size;
        enum err err = control_receive(fd, &type, &bytes, &size);
        if (err) {
            free(output);
            return diag_set(diag, ERR_CLOSED, "the process that serves the store went away");
        }
        if (type == CONTROL_OUTPUT) {
            free(output);
            output = bytes;
            continue;
        }
        json_t *end = type == CONTROL_END ? json_loadb(bytes, size, 0, NULL) : NULL;
        free(bytes);
        json_int_t number = json_integer_value(json_object_get(end, "err"));
        const char *text = json_string_value(json_object_get(end, "text"));
        if (!end || number < 0 || !err_is_known((unsigned)number))
            err = diag_set(diag, ERR_BAD_SIGNAL, "malformed answer from the serving process");
        else if (number)
            err = diag_set(diag, (enum err)number, "%s", text ? text : "");
        json_decref(end);
        if (err)
            free(output);
        else
            *ret_output = output;
        return err;
    }
}

static enum err ask(int fd, const char *question, char **ret_output, struct diag *diag)
{
    char request[64];
    int size = snprintf(request, sizeof(request), "{\"op\":\"%s\"}", question);
    enum err err = control_send(fd, CONTROL_REQUEST, request, (size_t)size);
    if (err) return diag_set(diag, err, "cannot ask the serving process: %s", err_text(err));
    return receive_answer(fd, ret_output, diag);
}

/* ---- opening ---- */

static enum err connect_served(struct cli_store *store, struct diag *diag)
{
    char *where = NULL;
    char *secret = NULL;
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    enum err err = cluster ? ask(store->fd, "where", &where, diag)
                           : diag_set(diag, ERR_NO_MEMORY, "no memory");
    if (!err) err = cluster_from_where(where ? where : "", cluster, &secret, diag);
    if (!err) err = cluster_connect(cluster, secret, 0, 0, &store->db, diag);
    free(secret);
    free(where);
    free(cluster);
    return err;
}

static enum err open_dir(struct cli_store *store, const char *dir, struct diag *diag)
{
    enum err err = connect_to(dir, &store->fd, diag);
    if (!err) return connect_served(store, diag);
    if (err != ERR_NOT_FOUND) return err;
    const struct db_config config = {.dir = dir, .progress = cli_progress};
    struct diag why;
    err = db_open_embedded(&config, &store->db, &why);
    return err ? diag_set(diag, err, "store %s: %s", dir, why.text) : ERR_NONE;
}

static enum err open_cluster(struct cli_store *store, const struct cli_target *target,
                             struct diag *diag)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    if (!cluster) return diag_set(diag, ERR_NO_MEMORY, "no memory");
    enum err err = cluster_parse(target->cluster, NULL, cluster, diag);
    if (!err) err = cluster_connect(cluster, target->secret, 0, 0, &store->db, diag);
    free(cluster);
    return err;
}

static enum err store_open(const struct cli_target *target, struct cli_store **ret_store,
                           struct diag *diag)
{
    struct cli_store *store = calloc(1, sizeof(*store));
    if (!store) return diag_set(diag, ERR_NO_MEMORY, "no memory");
    store->fd = -1;
    char *found = NULL;
    enum err err = ERR_NONE;
    if (target->cluster) {
        err = open_cluster(store, target, diag);
    } else {
        if (target->mount) err = store_of_mount(target->mount, &found, diag);
        if (!err) err = open_dir(store, found ? found : target->store, diag);
    }
    if (!err) {
        err = db_client_create(store->db, &store->client);
        if (err) (void)!diag_set(diag, err, "cannot use the database: %s", err_text(err));
    }
    free(found);
    if (err) {
        struct diag ignored;
        (void)!cli_store_close(store, &ignored);
        return err;
    }
    *ret_store = store;
    return ERR_NONE;
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

/* ---- asking ---- */

/* What was written to open files is seen by what is asked next. */
static void see_open_files(const struct cli_store *store)
{
    if (store->fd < 0) return;
    char *nothing = NULL;
    struct diag diag;
    enum err err = ask(store->fd, "report", &nothing, &diag);
    free(err ? NULL : nothing);
    if (err) (void)fprintf(stderr, "trellis: sizes of open files may be old: %s\n", diag.text);
}

enum err cli_store_sql(struct cli_store *store, const char *text, size_t size,
                       const struct sql_options *options, struct sql_sink *sink, struct diag *diag,
                       char **ret_caret)
{
    if (ret_caret) *ret_caret = NULL;
    see_open_files(store);
    return sql_run(store->client, text, size, options, sink, diag, ret_caret);
}

enum err cli_store_ask(struct cli_store *store, const char *question, const char *argument,
                       struct sql_sink *sink, struct diag *diag)
{
    see_open_files(store);
    return answer_ask(store->client, question, argument, sink, diag);
}

pid_t cli_store_pid(const struct cli_store *store)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (store->fd < 0 || getsockopt(store->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return 0;
    return peer.pid;
}

/* ---- the options of subcommands ---- */

bool cli_target_take(struct cli_target *target, int option, const char *value)
{
    switch (option) {
    case CLI_OPTION_STORE:
        target->store = value;
        return true;
    case CLI_OPTION_MOUNT:
        target->mount = value;
        return true;
    case CLI_OPTION_CLUSTER:
        target->cluster = value;
        return true;
    case CLI_OPTION_SECRET:
        target->secret = value;
        return true;
    default:
        return false;
    }
}

struct cli_store *cli_target_open(const struct cli_target *given, const char *command,
                                  int *ret_status)
{
    struct cli_target target = *given;
    if (!!target.store + !!target.mount + !!target.cluster > 1) {
        *ret_status = cli_usage(command, "give --store or --mount or --cluster, not both");
        return NULL;
    }
    if (!target.cluster != !target.secret) {
        *ret_status =
            cli_usage(command, target.cluster ? "--cluster needs the secret: --secret FILE"
                                              : "--secret goes with --cluster ADDRESS");
        return NULL;
    }
    bool given_none = !target.store && !target.mount && !target.cluster;
    if (given_none) target.mount = getenv("TRELLIS_MOUNT");
    if (given_none && !target.mount) target.store = getenv("TRELLIS_STORE");
    bool guessed = given_none && !target.store && !target.mount;
    if (guessed) target.mount = ".";
    struct cli_store *store = NULL;
    struct diag diag = {.position = UINT32_MAX};
    enum err err = store_open(&target, &store, &diag);
    if (!err) return store;
    *ret_status = guessed && err == ERR_INVALID
                      ? cli_usage(command, "say which store: --store DIR or --mount DIR")
                      : cli_fail(err, "%s", diag.text);
    return NULL;
}

/* The process at the other end serves the mount that lies at the path. After a server has lost its
 * mount to another one with the same directory, the socket is the other one's. */
static bool serves(int fd, const char *mountpoint)
{
    struct diag diag;
    char *served = NULL;
    char *path = realpath(mountpoint, NULL);
    enum err err = path ? ask(fd, "mount", &served, &diag) : ERR_NOT_FOUND;
    bool same = !err && served && strcmp(served, path) == 0;
    free(served);
    free(path);
    return same;
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
    bool known = serves(fd, mountpoint) &&
                 getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0;
    (void)close(fd);
    if (known) *ret_pid = peer.pid;
    return known;
}
