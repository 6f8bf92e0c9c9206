/* The control socket: how the subcommands find the database of a store or mount that a process
 * serves, and ask that process for what only it can do.
 *
 * One thread accepts; each connection gets a thread, at most CONNECTIONS_MAX at a time (more are
 * closed at once, which the caller reports as busy). Who may ask is decided by the kernel's word on
 * the peer (SO_PEERCRED) before a byte is read. Ending: the listening socket and all connections
 * are shut down, then every thread is joined. */
#include "cli/control.h"

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
    char *where;
    char *mountpoint;
    char *path;
    struct stat socket; /* what was bound there */
    int listen_fd;
    pthread_t thread;
    bool started;
    bool ending;
    pthread_mutex_t mutex;
    struct connection connections[CONNECTIONS_MAX];
};

static enum err send_end(int fd, enum err err, const struct diag *diag)
{
    json_t *end = json_pack("{s:i, s:s}", "err", (int)err, "text", err ? diag->text : "");
    /* A message may quote bytes that are no UTF-8, which JSON cannot carry. */
    if (!end) end = json_pack("{s:i, s:s}", "err", (int)err, "text", err_text(err));
    char *text = end ? json_dumps(end, JSON_COMPACT) : NULL;
    json_decref(end);
    if (!text) return ERR_NO_MEMORY;
    enum err sent = control_send(fd, CONTROL_END, text, strlen(text));
    free(text);
    return sent;
}

static enum err answer_report(const struct control *control, struct diag *diag)
{
    if (!control->fs) return ERR_NONE;
    struct db_client *client = NULL;
    struct fs_client *fs_client = NULL;
    enum err err = db_client_create(control->db, &client);
    if (!err) err = fs_client_create(control->fs, client, &fs_client);
    if (!err) err = fs_report(fs_client);
    fs_client_destroy(fs_client);
    db_client_destroy(client);
    return err ? diag_set(diag, err, "cannot report the sizes of open files: %s", err_text(err))
               : ERR_NONE;
}

static enum err answer_request(struct control *control, int fd, const char *bytes, size_t size)
{
    struct diag diag = {.position = UINT32_MAX};
    json_error_t json_error;
    json_t *request = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &json_error);
    const char *op = json_string_value(json_object_get(request, "op"));
    enum err err;
    if (op && strcmp(op, "where") == 0)
        err = control_send(fd, CONTROL_OUTPUT, control->where, strlen(control->where));
    else if (op && strcmp(op, "mount") == 0)
        err = control_send(fd, CONTROL_OUTPUT, control->mountpoint, strlen(control->mountpoint));
    else if (op && strcmp(op, "report") == 0)
        err = answer_report(control, &diag);
    else
        err = diag_set(&diag, ERR_BAD_SIGNAL, "malformed request");
    json_decref(request);
    return send_end(fd, err, &diag);
}

static void *connection_thread(void *argument)
{
    struct connection *connection = argument;
    struct control *control = connection->control;
    enum err err = ERR_NONE;
    while (!err) {
        uint8_t type;
        char *bytes;
        size_t size;
        err = control_receive(connection->fd, &type, &bytes, &size);
        if (err) break;
        if (type == CONTROL_REQUEST)
            err = answer_request(control, connection->fd, bytes, size);
        else
            err = ERR_BAD_SIGNAL;
        free(bytes);
    }
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
    /* The store's lock, or the file system's lease, is ours, so a socket that lies here belongs to
     * a process that is dead or has lost it. */
    (void)unlinkat(dir_fd, CONTROL_SOCKET_NAME, 0);
    enum err err = ERR_NONE;
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    if (control->listen_fd < 0 ||
        bind(control->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(control->listen_fd, 16) < 0)
        err = diag_set(diag, err_from_errno(errno), "cannot listen at %s/%s: %s", dir,
                       CONTROL_SOCKET_NAME, strerror(errno));
    if (!err && fstatat(dir_fd, CONTROL_SOCKET_NAME, &control->socket, AT_SYMLINK_NOFOLLOW))
        control->socket = (struct stat){0};
    (void)umask(mask);
    (void)close(dir_fd);
    return err;
}

enum err control_create(const struct control_config *config, struct control **ret_control,
                        struct diag *diag)
{
    struct control *control = calloc(1, sizeof(*control));
    if (!control) return diag_set(diag, ERR_NO_MEMORY, "no memory for the control socket");
    control->db = config->db;
    control->fs = config->fs;
    control->where = strdup(config->where);
    control->mountpoint = strdup(config->mountpoint ? config->mountpoint : "");
    control->listen_fd = -1;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        control->connections[i].fd = -1;
    pthread_mutex_init(&control->mutex, NULL);
    enum err err = ERR_NONE;
    if (asprintf(&control->path, "%s/%s", config->dir, CONTROL_SOCKET_NAME) < 0)
        control->path = NULL;
    if (!control->path || !control->where || !control->mountpoint)
        err = diag_set(diag, ERR_NO_MEMORY, "no memory for the control socket");
    if (!err) err = listen_at(control, config->dir, diag);
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
    /* Unless another process has put its own there. */
    struct stat stat_at;
    if (control->started && lstat(control->path, &stat_at) == 0 &&
        stat_at.st_ino == control->socket.st_ino && stat_at.st_dev == control->socket.st_dev)
        (void)unlink(control->path);
    free(control->path);
    free(control->where);
    free(control->mountpoint);
    pthread_mutex_destroy(&control->mutex);
    free(control);
}
