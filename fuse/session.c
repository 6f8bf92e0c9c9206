/* A mount's life: mounting, one server per worker, the receive loop, the end.
 *
 * Receiving is ours rather than libfuse's loop, because each worker reads its own clone of the
 * descriptor from the database's event loop. libfuse parses requests and forms replies; replies
 * leave through custom_writev, which picks the descriptor that the request came from (the kernel
 * looks a reply up in the queue of that descriptor only).
 *
 * Reading: the descriptor does not block. After a request the next one is read at once while that
 * finds one now and then (several callers); with one caller that read would only say EAGAIN, so it
 * is tried after every PROBE_INTERVAL'th request only. Then the worker's loop looks again for a
 * moment (db/node/watch_spin.c), and sleeps in epoll.
 *
 * The end: the kernel answers reads with ENODEV once the file system is unmounted (or its
 * connection aborted). Every server then leaves its loop; the last one makes ended_fd readable. */
#include "fuse/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/protocol.h"
#include "fuse/serve.h"

_Thread_local struct server *serve_current;
_Thread_local int serve_reply_fd = -1;

enum {
    REQUESTS_PER_TURN_MAX = 64,
    PROBE_INTERVAL = 16,
    PROBE_KEEP = 8,
    REPLY_SIZE = 1 << 20,
    IO_END_WAIT_MS_MAX = 30000,
};

static ssize_t custom_read(int fd, void *bytes, size_t size, void *user)
{
    (void)user;
    return read(fd, bytes, size);
}

static ssize_t custom_writev(int fd, struct iovec *iov, int count, void *user)
{
    struct mount *mount = user;
    int to = serve_reply_fd >= 0 ? serve_reply_fd : fd;
    if (mount->init_unique) {
        uint8_t amended[PROTOCOL_INIT_SIZE_MAX];
        size_t size;
        if (protocol_amend_init(iov, count, mount->init_unique, amended, &size)) {
            mount->init_unique = 0;
            return write(to, amended, size);
        }
    }
    return writev(to, iov, count);
}

static void op_init(void *user, struct fuse_conn_info *connection)
{
    (void)user;
    connection->max_write = SERVE_WRITE_SIZE_MAX;
    connection->max_readahead = SERVE_WRITE_SIZE_MAX;
    connection->max_background = 64;
    connection->congestion_threshold = 48;
    connection->time_gran = 1;
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                            FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_IOCTL_DIR | FUSE_CAP_ASYNC_DIO |
                            FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT |
                            FUSE_CAP_EXPORT_SUPPORT;
    /* Replies are built in memory, and automatic invalidation serves file systems that change
     * behind the kernel's back. */
    const unsigned unwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                              FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC;
    connection->want = (connection->want | (connection->capable & wanted)) & ~unwanted;
}

static void server_ended(struct server *server)
{
    struct mount *mount = server->mount;
    if (atomic_fetch_sub(&mount->serving, 1) != 1) return;
    uint64_t one = 1;
    if (write(mount->ended_fd, &one, sizeof(one)) < 0)
        log_line(LOG_ERROR, "cannot signal the end of the mount: %s", strerror(errno));
}

static void handle_init(struct mount *mount, const struct protocol_init *init)
{
    if (init->kills_privileges) {
        mount->init_unique = init->unique;
        mount->kill_privileges = true;
    }
    atomic_store(&mount->direct, mount->may_be_direct && init->is_current);
}

static void handle(struct server *server, size_t size)
{
    struct mount *mount = server->mount;
    if (__builtin_expect(atomic_load_explicit(&mount->direct, memory_order_relaxed), 1) &&
        serve_direct(server, server->buffer, size))
        return;
    struct protocol_init init;
    if (__builtin_expect(protocol_is_init(server->buffer, size, &init), 0))
        handle_init(mount, &init);
    server->kill_privileges =
        mount->kill_privileges && protocol_kills_privileges(server->buffer, size);
    serve_current = server;
    serve_reply_fd = server->watch.fd;
    /* libfuse reads the request from mem; a large write takes the buffer away and leaves a new one.
     */
    struct fuse_buf buf = {.mem = server->buffer, .size = size};
    fuse_session_process_buf(mount->session, &buf);
}

/* Whether to read again after the count'th request of a turn. */
static bool read_again(struct server *server, int count)
{
    if (count > 1)
        server->probe = PROBE_KEEP;
    else if (!server->probe && ++server->handled % PROBE_INTERVAL == 0)
        server->probe = 1;
    return server->probe > 0;
}

/* The worker's loop calls this when the descriptor is readable, and when it may be. */
static bool server_ready(struct db_watch *watch)
{
    struct server *server = watch->context;
    int count = 0;
    for (int tries = 0; tries < REQUESTS_PER_TURN_MAX; tries++) {
        if (atomic_load_explicit(&server->mount->stopping, memory_order_relaxed)) break;
        /* The system call itself: libc's read() is a place where threads can be cancelled, and
         * costs twice as much for that. */
        ssize_t size = syscall(SYS_read, watch->fd, server->buffer, (size_t)SERVE_BUFFER_SIZE);
        if (size > 0) {
            watch->found++;
            handle(server, (size_t)size);
            if (!read_again(server, ++count)) return true;
            continue;
        }
        if (size < 0 && errno == EAGAIN) {
            if (count == 1) server->probe--;
            return true;
        }
        /* ENOENT: the request was interrupted before it was read. */
        if (size < 0 && (errno == EINTR || errno == ENOENT)) continue;
        if (size < 0 && errno != ENODEV)
            log_line(LOG_ERROR, "cannot read requests: %s", strerror(errno));
        server_ended(server);
        return false;
    }
    if (!atomic_load(&server->mount->stopping)) return true;
    server_ended(server);
    return false;
}

/* ---- a server's clients are made and freed on its worker's thread ---- */

struct server_start {
    struct server *server;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done;
    bool stop;
    enum err err;
};

static void server_start_run(void *context)
{
    struct server_start *start = context;
    struct server *server = start->server;
    enum err err = ERR_NONE;
    if (start->stop) {
        fs_client_destroy(server->fs);
        db_client_destroy(server->db_client);
        server->fs = NULL;
        server->db_client = NULL;
    } else {
        err = db_client_on_worker(server->mount->db, server->worker, &server->db_client);
        if (!err) err = fs_client_create(server->mount->fs, server->db_client, &server->fs);
    }
    pthread_mutex_lock(&start->mutex);
    start->err = err;
    start->done = true;
    pthread_cond_signal(&start->changed);
    pthread_mutex_unlock(&start->mutex);
}

static enum err server_on_worker(struct server *server, bool stop)
{
    struct server_start start = {.server = server, .stop = stop};
    pthread_mutex_init(&start.mutex, NULL);
    pthread_cond_init(&start.changed, NULL);
    enum err err = db_post(server->mount->db, server->worker, server_start_run, &start);
    if (!err) {
        pthread_mutex_lock(&start.mutex);
        while (!start.done)
            pthread_cond_wait(&start.changed, &start.mutex);
        pthread_mutex_unlock(&start.mutex);
        err = start.err;
    }
    pthread_cond_destroy(&start.changed);
    pthread_mutex_destroy(&start.mutex);
    return err;
}

static enum err server_init(struct server *server, struct mount *mount, uint16_t worker, int fd)
{
    server->mount = mount;
    server->worker = worker;
    server->watch =
        (struct db_watch){.fd = fd, .ready = server_ready, .context = server, .spins = true};
    server->reply_size = REPLY_SIZE;
    server->buffer = malloc(SERVE_BUFFER_SIZE);
    server->reply = malloc(REPLY_SIZE);
    server->entries = calloc(SERVE_DIRENTS_MAX, sizeof(*server->entries));
    server->listed = malloc(REPLY_SIZE / WIRE_DIRENTPLUS_SIZE_MIN * sizeof(*server->listed));
    if (!server->buffer || !server->reply || !server->entries || !server->listed)
        return ERR_NO_MEMORY;
    return server_on_worker(server, false);
}

static void server_fini(struct server *server, int session_fd)
{
    if (server->fs || server->db_client) (void)!server_on_worker(server, true);
    if (server->watch.fd >= 0 && server->watch.fd != session_fd) (void)close(server->watch.fd);
    free(server->buffer);
    free(server->reply);
    free(server->entries);
    free(server->listed);
}

static enum err set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return ERR_IO;
    return ERR_NONE;
}

static enum err servers_start(struct mount *mount, struct diag *diag)
{
    uint16_t count = db_loop_count(mount->db);
    mount->servers = calloc(count, sizeof(*mount->servers));
    if (!mount->servers) return diag_set(diag, ERR_NO_MEMORY, "no memory for the mount");
    int session_fd = fuse_session_fd(mount->session);
    enum err err = set_nonblocking(session_fd);
    if (err) return diag_set(diag, err, "cannot configure the FUSE descriptor");
    for (uint16_t i = 0; i < count; i++)
        mount->servers[i].watch.fd = -1;
    for (uint16_t i = 0; i < count; i++) {
        int fd = i == 0 ? session_fd : protocol_clone_device(session_fd);
        /* Without access to /dev/fuse (an ordinary user whose mount fusermount3 made) one worker
         * receives all requests and the others serve their partitions for it. */
        if (fd < 0) break;
        mount->server_count = (uint16_t)(i + 1);
        err = server_init(&mount->servers[i], mount, i, fd);
        if (err) return diag_set(diag, err, "cannot start serving: %s", err_text(err));
    }
    atomic_store(&mount->serving, mount->server_count);
    for (uint16_t i = 0; i < mount->server_count; i++) {
        err = db_watch(mount->db, i, &mount->servers[i].watch);
        if (err) {
            atomic_fetch_sub(&mount->serving, (uint32_t)(mount->server_count - i));
            return diag_set(diag, err, "cannot start serving: %s", err_text(err));
        }
    }
    return ERR_NONE;
}

static const struct fuse_custom_io custom_io = {.writev = custom_writev, .read = custom_read};

static enum err session_create(struct mount *mount, const struct mount_config *config,
                               struct diag *diag)
{
    struct fuse_lowlevel_ops ops = {.init = op_init};
    serve_ops_name(&ops);
    serve_ops_attr(&ops);
    serve_ops_dir(&ops);
    serve_ops_file(&ops);

    enum err err = ERR_NO_MEMORY;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    char *options = NULL;
    if (asprintf(&options, "-osubtype=trellis,fsname=%s%s%s", config->source,
                 config->options && *config->options ? "," : "",
                 config->options ? config->options : "") < 0)
        return diag_set(diag, ERR_NO_MEMORY, "no memory for the mount");
    if (fuse_opt_add_arg(&args, "trellis") || fuse_opt_add_arg(&args, options)) goto free_args;
    mount->session = fuse_session_new(&args, &ops, sizeof(ops), mount);
    if (!mount->session) {
        err = diag_set(diag, ERR_INVALID, "mount options not understood: %s", config->options);
        goto free_args;
    }
    if (fuse_session_mount(mount->session, mount->mountpoint)) {
        fuse_session_destroy(mount->session);
        mount->session = NULL;
        err = diag_set(diag, ERR_DENIED,
                       "cannot mount at %s: /dev/fuse must be there and open to you, and "
                       "fusermount3 (package fuse3) installed",
                       mount->mountpoint);
        goto free_args;
    }
    err = fuse_session_custom_io(mount->session, &custom_io, fuse_session_fd(mount->session))
              ? ERR_NO_MEMORY
              : ERR_NONE;
free_args:
    if (err == ERR_NO_MEMORY) (void)!diag_set(diag, err, "no memory for the mount");
    fuse_opt_free_args(&args);
    free(options);
    return err;
}

enum err mount_create(const struct mount_config *config, struct mount **ret_mount,
                      struct diag *diag)
{
    enum err err = mount_prepare_point(config->mountpoint, diag);
    if (err) return err;
    struct mount *mount = calloc(1, sizeof(*mount));
    if (!mount) return diag_set(diag, ERR_NO_MEMORY, "no memory for the mount");
    mount->settings = (struct mount_settings){.entry_timeout_s = config->entry_timeout_s,
                                              .attr_timeout_s = config->attr_timeout_s,
                                              .negative_timeout_s = config->negative_timeout_s};
    mount->timeouts = (struct wire_timeouts){.entry = wire_timeout(config->entry_timeout_s),
                                             .attr = wire_timeout(config->attr_timeout_s),
                                             .negative = wire_timeout(config->negative_timeout_s)};
    mount->may_be_direct = !config->options || !strstr(config->options, "allow_root");
    mount->db = config->db;
    mount->fs = config->fs;
    mount->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    mount->mountpoint = realpath(config->mountpoint, NULL);
    err = ERR_NO_MEMORY;
    if (mount->ended_fd < 0 || !mount->mountpoint) {
        (void)!diag_set(diag, err, "cannot prepare the mount: %s", strerror(errno));
        goto destroy_mount;
    }
    err = sync_queue_create(mount, &mount->syncs);
    if (err) {
        (void)!diag_set(diag, err, "cannot start the sync thread: %s", err_text(err));
        goto destroy_mount;
    }
    err = session_create(mount, config, diag);
    if (err) goto destroy_mount;
    err = servers_start(mount, diag);
    if (err) goto destroy_mount;
    *ret_mount = mount;
    return ERR_NONE;
destroy_mount:
    mount_destroy(mount);
    return err;
}

int mount_ended_fd(const struct mount *mount)
{
    return mount->ended_fd;
}

static bool wait_ended(const struct mount *mount, int timeout_ms)
{
    struct pollfd ended = {.fd = mount->ended_fd, .events = POLLIN};
    return poll(&ended, 1, timeout_ms) > 0;
}

enum err mount_detach(struct mount *mount, struct diag *diag)
{
    struct diag busy;
    for (int tries = 0; tries < 10; tries++) {
        enum err err = mount_detach_path(mount->mountpoint, false, &busy);
        if (!err && wait_ended(mount, 1000)) return ERR_NONE;
        if (err == ERR_NOT_FOUND) return ERR_NONE;
        if (err != ERR_BUSY) break;
        if (wait_ended(mount, 100)) return ERR_NONE;
    }
    /* Somebody still works in it: cut them off. For root MNT_FORCE aborts the connection, which
     * ends every waiting request; for others closing the descriptor in mount_destroy does. */
    if (geteuid() == 0) (void)umount2(mount->mountpoint, MNT_FORCE);
    enum err err = mount_detach_path(mount->mountpoint, true, diag);
    if (err == ERR_NOT_FOUND) err = ERR_NONE;
    if (!err) (void)wait_ended(mount, 1000);
    return err;
}

void mount_destroy(struct mount *mount)
{
    if (!mount) return;
    if (atomic_load(&mount->serving) && mount->session) {
        struct diag diag;
        (void)!mount_detach(mount, &diag);
        atomic_store(&mount->stopping, true);
        (void)wait_ended(mount, 1000);
    }
    for (int waited = 0; atomic_load(&mount->io_count) && waited < IO_END_WAIT_MS_MAX; waited++)
        (void)poll(NULL, 0, 1);
    sync_queue_destroy(mount->syncs);
    int session_fd = mount->session ? fuse_session_fd(mount->session) : -1;
    for (uint16_t i = 0; i < mount->server_count; i++)
        server_fini(&mount->servers[i], session_fd);
    if (mount->session) {
        fuse_session_unmount(mount->session);
        fuse_session_destroy(mount->session);
    }
    if (mount->ended_fd >= 0) (void)close(mount->ended_fd);
    free(mount->servers);
    free(mount->mountpoint);
    free(mount);
}
