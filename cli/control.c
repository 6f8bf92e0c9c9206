/* The control socket: how `trellis sql`, `report`, `status` and `fsck` reach a store that a process
 * serves.
 *
 * One thread accepts; each connection gets a thread with a database client of its own, at most
 * CONNECTIONS_MAX at a time (more are closed at once, which the caller reports as busy). Who may
 * ask is decided by the kernel's word on the peer (SO_PEERCRED) before a byte is read. Ending: the
 * listening socket and all connections are shut down, then every thread is joined. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/control_wire.h"

enum { CONNECTIONS_MAX = 32, IDLE_SECONDS_MAX = 3600 };

struct connection {
    struct control *control;
    pthread_t thread;
    int fd;     /* -1: the slot is free */
    bool ended; /* the thread is done and can be joined */
};

struct control {
    struct db *db;
    struct fs *fs;
    char *path;
    int listen_fd;
    pthread_t thread;
    bool started;
    bool ending;
    pthread_mutex_t mutex;
    struct connection connections[CONNECTIONS_MAX];
};

struct socket_sink {
    struct sql_sink sink;
    int fd;
};

static enum err socket_write(struct sql_sink *sink, const char *bytes, size_t size)
{
    const struct socket_sink *socket = (const struct socket_sink *)(const void *)sink;
    return size ? control_send(socket->fd, CONTROL_OUTPUT, bytes, size) : ERR_NONE;
}

static enum err send_end(int fd, enum err err, const struct diag *diag, const char *caret)
{
    json_t *end = json_pack("{s:i, s:s, s:I, s:s?}", "err", (int)err, "text", err ? diag->text : "",
                            "position", (json_int_t)diag->position, "caret", caret);
    /* A message may quote bytes that are no UTF-8, which JSON cannot carry. */
    if (!end)
        end = json_pack("{s:i, s:s, s:I}", "err", (int)err, "text", err_text(err), "position",
                        (json_int_t)diag->position);
    char *text = end ? json_dumps(end, JSON_COMPACT) : NULL;
    json_decref(end);
    if (!text) return ERR_NO_MEMORY;
    enum err sent = control_send(fd, CONTROL_END, text, strlen(text));
    free(text);
    return sent;
}

static const char *string_of(const json_t *request, const char *name)
{
    return json_string_value(json_object_get(request, name));
}

static enum err answer_sql(struct control *control, struct db_client *client, const json_t *request,
                           struct sql_sink *sink, struct diag *diag, char **ret_caret)
{
    (void)control;
    const json_t *text = json_object_get(request, "text");
    const char *format = string_of(request, "format");
    const char *mode = string_of(request, "explain_mode");
    struct sql_options options = {.database = string_of(request, "database"), .allow_ddl = true};
    if (!json_is_string(text) || !format || !sql_format_by_name(format, &options.format) || !mode ||
        !sql_explain_mode_by_name(mode, &options.explain_mode))
        return diag_set(diag, ERR_BAD_SIGNAL, "malformed request");
    return sql_run(client, json_string_value(text), json_string_length(text), &options, sink, diag,
                   ret_caret);
}

static enum err answer_request(struct control *control, struct db_client *client, int fd,
                               const char *bytes, size_t size)
{
    struct socket_sink sink = {.sink = {.write = socket_write}, .fd = fd};
    struct diag diag = {.position = UINT32_MAX};
    char *caret = NULL;
    json_error_t json_error;
    json_t *request = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &json_error);
    const char *op = string_of(request, "op");
    enum err err;
    if (!op)
        err = diag_set(&diag, ERR_BAD_SIGNAL, "malformed request");
    else if (strcmp(op, "sql") == 0)
        err = answer_sql(control, client, request, &sink.sink, &diag, &caret);
    else
        err =
            answer_ask(client, control->fs, op, string_of(request, "argument"), &sink.sink, &diag);
    enum err sent = send_end(fd, err, &diag, caret);
    free(caret);
    json_decref(request);
    return sent;
}

static void *connection_thread(void *argument)
{
    struct connection *connection = argument;
    struct control *control = connection->control;
    struct db_client *client = NULL;
    enum err err = db_client_create(control->db, &client);
    if (err) {
        struct diag diag = {.position = UINT32_MAX};
        (void)!diag_set(&diag, err, "the server cannot take more clients: %s", err_text(err));
        (void)!send_end(connection->fd, err, &diag, NULL);
    }
    while (!err) {
        uint8_t type;
        char *bytes;
        size_t size;
        err = control_receive(connection->fd, &type, &bytes, &size);
        if (err) break;
        if (type == CONTROL_REQUEST)
            err = answer_request(control, client, connection->fd, bytes, size);
        else
            err = ERR_BAD_SIGNAL;
        free(bytes);
    }
    db_client_destroy(client);
    pthread_mutex_lock(&control->mutex);
    (void)shutdown(connection->fd, SHUT_RDWR);
    connection->ended = true;
    pthread_mutex_unlock(&control->mutex);
    return NULL;
}

static bool peer_may(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

/* Joins threads that have ended. With the mutex held; those threads no longer take it. */
static void reap(struct control *control)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &control->connections[i];
        if (connection->fd < 0 || !connection->ended) continue;
        pthread_join(connection->thread, NULL);
        (void)close(connection->fd);
        connection->fd = -1;
    }
}

static void accept_one(struct control *control, int fd)
{
    struct timeval idle = {.tv_sec = IDLE_SECONDS_MAX};
    if (!peer_may(fd) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle)) < 0) {
        (void)close(fd);
        return;
    }
    pthread_mutex_lock(&control->mutex);
    reap(control);
    struct connection *slot = NULL;
    for (int i = 0; i < CONNECTIONS_MAX && !slot; i++)
        if (control->connections[i].fd < 0) slot = &control->connections[i];
    if (slot && !control->ending) {
        *slot = (struct connection){.control = control, .fd = fd};
        if (pthread_create(&slot->thread, NULL, connection_thread, slot) == 0)
            fd = -1;
        else
            slot->fd = -1;
    }
    pthread_mutex_unlock(&control->mutex);
    if (fd >= 0) (void)close(fd);
}

static void *accept_thread(void *argument)
{
    struct control *control = argument;
    for (;;) {
        int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(control, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            (void)usleep(100000);
            continue;
        }
        return NULL; /* EINVAL: shut down */
    }
}

/* Binding goes through a short relative path, because a socket address holds 107 bytes only. */
static enum err listen_at(struct control *control, const char *dir, struct diag *diag)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return diag_set(diag, err_from_errno(errno), "cannot open %s: %s", dir, strerror(errno));
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir_fd,
                   CONTROL_SOCKET_NAME);
    /* The store's lock is ours, so a socket that lies here is a dead process's. */
    (void)unlinkat(dir_fd, CONTROL_SOCKET_NAME, 0);
    enum err err = ERR_NONE;
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    if (control->listen_fd < 0 ||
        bind(control->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(control->listen_fd, 16) < 0)
        err = diag_set(diag, err_from_errno(errno), "cannot listen at %s/%s: %s", dir,
                       CONTROL_SOCKET_NAME, strerror(errno));
    (void)umask(mask);
    (void)close(dir_fd);
    return err;
}

enum err control_create(struct db *db, struct fs *fs, const char *dir, struct control **ret_control,
                        struct diag *diag)
{
    struct control *control = calloc(1, sizeof(*control));
    if (!control) return diag_set(diag, ERR_NO_MEMORY, "no memory for the control socket");
    control->db = db;
    control->fs = fs;
    control->listen_fd = -1;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        control->connections[i].fd = -1;
    pthread_mutex_init(&control->mutex, NULL);
    enum err err = ERR_NONE;
    if (asprintf(&control->path, "%s/%s", dir, CONTROL_SOCKET_NAME) < 0) {
        control->path = NULL;
        err = diag_set(diag, ERR_NO_MEMORY, "no memory for the control socket");
    }
    if (!err) err = listen_at(control, dir, diag);
    if (!err && pthread_create(&control->thread, NULL, accept_thread, control))
        err = diag_set(diag, ERR_NO_MEMORY, "cannot start the control thread");
    if (err) {
        control_destroy(control);
        return err;
    }
    control->started = true;
    *ret_control = control;
    return ERR_NONE;
}

void control_destroy(struct control *control)
{
    if (!control) return;
    pthread_mutex_lock(&control->mutex);
    control->ending = true;
    pthread_mutex_unlock(&control->mutex);
    if (control->started) {
        (void)shutdown(control->listen_fd, SHUT_RDWR);
        pthread_join(control->thread, NULL);
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &control->connections[i];
        if (connection->fd < 0) continue;
        (void)shutdown(connection->fd, SHUT_RDWR);
        pthread_join(connection->thread, NULL);
        (void)close(connection->fd);
    }
    if (control->listen_fd >= 0) (void)close(control->listen_fd);
    if (control->started) (void)unlink(control->path);
    free(control->path);
    pthread_mutex_destroy(&control->mutex);
    free(control);
}
