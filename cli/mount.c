/* `trellis mount`: a metadata server and its mount, with the database in this process (--store) or
 * in another (--cluster).
 *
 * With a store the directory has everything: database, file contents, control socket, log. With a
 * cluster the data directory has what is the mount's: file contents, control socket, log. The
 * kernel's mount table shows that directory as the device, and that is how --mount finds the
 * socket.
 *
 * Ending, by SIGTERM, SIGINT, SIGHUP or an unmount: unmount, stop serving, close the file system
 * (sizes become rows), close the database (flush, checkpoint), in that order. Signals are taken
 * with a signalfd on the main thread only. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/control.h"
#include "cli/daemon.h"
#include "cli/mount_options.h"
#include "fuse/mount.h"
#include "metadata/fs.h"

struct serving {
    struct service service; /* of a store in this process */
    struct db *db;          /* the service's, or one connected to */
    char *dir;              /* absolute: of the control socket and the log */
    struct fs *fs;
    struct control *control;
    struct mount *mount;
};

static void on_lost(void *context, const char *why)
{
    (void)context;
    log_line(LOG_ERROR, "the file system ends with EIO: %s", why);
}

/* The database; and what the control socket tells of it, heap. */
static enum err database_start(struct serving *serving, const struct mount_options *options,
                               char **ret_where, struct diag *diag)
{
    enum err err;
    if (!options->cluster) {
        err = service_open(&options->service, &serving->service, diag);
        serving->db = serving->service.db;
        if (!err) err = service_listen(&serving->service, &options->service, diag);
        if (!err) *ret_where = strdup(serving->service.where);
    } else {
        char *secret = realpath(options->service.secret, NULL);
        err = cluster_connect(options->cluster, options->service.secret,
                              (uint16_t)options->service.workers, (uint32_t)options->timeout_ms,
                              &serving->db, diag);
        if (!err && secret) *ret_where = cluster_where(options->cluster, secret);
        free(secret);
    }
    if (!err && !*ret_where) err = diag_set(diag, ERR_INVALID, "a path that is not valid UTF-8");
    return err;
}

static enum err file_system_start(struct serving *serving, const struct mount_options *options,
                                  struct diag *diag)
{
    char *data = NULL;
    if (options->data ? !(data = strdup(options->data))
                      : asprintf(&data, "%s/data", serving->service.store) < 0)
        return diag_set(diag, ERR_NO_MEMORY, "no memory");
    const struct fs_config config = {
        .db = serving->db,
        .data_dir = data,
        .relatime = !options->noatime && !mount_options_has(options, "ro"),
        .shared = options->cluster != NULL,
        .timeout_ms = (uint32_t)options->timeout_ms,
        .lost = on_lost,
    };
    enum err err = fs_open(&config, &serving->fs, diag);
    if (!err) {
        serving->dir = options->cluster ? realpath(data, NULL) : strdup(serving->service.store);
        if (!serving->dir) err = diag_set(diag, ERR_IO, "%s: %s", data, strerror(errno));
    }
    free(data);
    return err;
}

static enum err serving_start(struct serving *serving, const struct mount_options *options,
                              struct diag *diag)
{
    char *where = NULL;
    enum err err = mount_prepare_point(options->mountpoint, diag);
    if (!err) err = database_start(serving, options, &where, diag);
    if (!err) err = file_system_start(serving, options, diag);
    char *mountpoint = err ? NULL : realpath(options->mountpoint, NULL);
    const struct control_config control_config = {.dir = serving->dir,
                                                  .where = where,
                                                  .mountpoint = mountpoint,
                                                  .db = serving->db,
                                                  .fs = serving->fs};
    if (!err) err = control_create(&control_config, &serving->control, diag);
    const struct mount_config mount_config = {
        .db = serving->db,
        .fs = serving->fs,
        .mountpoint = options->mountpoint,
        .source = serving->dir,
        .options = (const char *)options->fuse_options.bytes,
        .entry_timeout_s = options->entry_timeout_s,
        .attr_timeout_s = options->attr_timeout_s,
        .negative_timeout_s = options->negative_timeout_s,
    };
    if (!err) err = mount_create(&mount_config, &serving->mount, diag);
    free(mountpoint);
    free(where);
    return err;
}

/* Ends in the order that loses nothing; the first error is reported. */
static enum err serving_stop(struct serving *serving, struct diag *diag)
{
    mount_destroy(serving->mount);
    control_destroy(serving->control);
    struct diag second;
    enum err err = serving->fs ? fs_close(serving->fs, diag) : ERR_NONE;
    struct diag *db_diag = err ? &second : diag;
    enum err db_err = ERR_NONE;
    if (serving->service.db)
        db_err = service_close(&serving->service, db_diag);
    else if (serving->db)
        db_err = db_close(serving->db, db_diag);
    free(serving->dir);
    return err ? err : db_err;
}

/* Until unmounted or told to end. The signals are blocked in every thread. */
static void wait_for_end(struct serving *serving, int signals)
{
    struct pollfd fds[] = {{.fd = mount_ended_fd(serving->mount), .events = POLLIN},
                           {.fd = signals, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR) break;
    if (fds[0].revents) return;
    struct diag diag;
    enum err err = mount_detach(serving->mount, &diag);
    if (err) log_line(LOG_WARNING, "%s", diag.text);
}

/* Each open file holds its object open. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    if (geteuid() == 0 && limit.rlim_max < (1 << 20)) {
        struct rlimit higher = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
        if (setrlimit(RLIMIT_NOFILE, &higher) == 0) return;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int serve(void *context)
{
    const struct mount_options *options = context;
    int signals = daemon_signals();
    raise_file_limit();
    struct serving serving = {0};
    struct diag diag = {.position = UINT32_MAX};
    enum err err = serving_start(&serving, options, &diag);
    if (!err) err = daemon_ready(serving.dir, &diag);
    int status = err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
    if (!err) wait_for_end(&serving, signals);
    struct diag stop_diag = {.position = UINT32_MAX};
    enum err stop_err = serving_stop(&serving, &stop_diag);
    if (stop_err && !err) {
        log_line(LOG_ERROR, "%s", stop_diag.text);
        status = cli_exit_of(stop_err);
    }
    if (signals >= 0) (void)close(signals);
    return status;
}

int cli_mount(int argc, char **argv)
{
    struct mount_options options;
    int status = mount_options_parse(argc, argv, &options);
    if (status == EXIT_OK) status = daemon_run(options.foreground, serve, &options);
    mount_options_fini(&options);
    return status;
}
