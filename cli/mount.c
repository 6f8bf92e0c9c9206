/* `trellis mount`: database, metadata server and mount in one process.
 *
 * In the background case the process forks before anything is opened (threads do not survive a
 * fork); the parent waits on a pipe for the byte that says "mounted", or for the child's end, and
 * passes the child's exit status on. The child's messages go to the terminal until it is mounted,
 * then to STORE/trellis.log.
 *
 * Ending, by SIGTERM, SIGINT or an unmount: unmount, stop serving, close the file system (sizes
 * become rows), close the database (flush, checkpoint), in that order. Signals are taken with a
 * signalfd on the main thread only. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "cli/cli.h"
#include "fuse/mount.h"
#include "metadata/fs.h"

struct mount_options {
    const char *store;
    const char *mountpoint;
    const char *data;
    uint64_t workers;
    uint64_t partitions;
    uint64_t memory_max;
    uint64_t flush_ms;
    bool flush_always;
    bool foreground;
    bool noatime;
    double entry_timeout_s;
    double attr_timeout_s;
    double negative_timeout_s;
    struct buf fuse_options; /* NUL-terminated */
};

static bool parse_flush(const char *text, struct mount_options *options)
{
    options->flush_always = strcmp(text, "always") == 0;
    return options->flush_always ||
           (cli_parse_size(text, 3600000, &options->flush_ms) && options->flush_ms > 0);
}

static bool parse_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0) || seconds > 1e9) return false;
    *ret_seconds = seconds;
    return true;
}

/* One of the -o options: ours are taken, the rest goes on to libfuse. False: a bad value. */
static bool take_option(struct mount_options *options, char *option)
{
    char *equals = strchr(option, '=');
    const char *value = equals ? equals + 1 : "";
    size_t size = equals ? (size_t)(equals - option) : strlen(option);
    const struct {
        const char *name;
        double *seconds;
    } timeouts[] = {{"entry_timeout", &options->entry_timeout_s},
                    {"attr_timeout", &options->attr_timeout_s},
                    {"negative_timeout", &options->negative_timeout_s}};
    for (size_t i = 0; i < ARRAY_SIZE(timeouts); i++)
        if (strlen(timeouts[i].name) == size && strncmp(timeouts[i].name, option, size) == 0)
            return parse_seconds(value, timeouts[i].seconds);
    if (strcmp(option, "noatime") == 0) options->noatime = true;
    if (options->fuse_options.size) buf_put_u8(&options->fuse_options, ',');
    buf_put(&options->fuse_options, option, strlen(option));
    return true;
}

static bool take_options(struct mount_options *options, const char *list)
{
    char *copy = strdup(list);
    bool good = copy != NULL;
    char *rest = copy;
    for (char *option; good && (option = strsep(&rest, ","));)
        if (*option) good = take_option(options, option);
    free(copy);
    return good;
}

static bool has_option(const struct mount_options *options, const char *name)
{
    size_t size = strlen(name);
    const char *at = (const char *)options->fuse_options.bytes;
    const char *end = at + options->fuse_options.size;
    while (at && at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t length = comma ? (size_t)(comma - at) : (size_t)(end - at);
        if (length == size && memcmp(at, name, size) == 0) return true;
        at += length + 1;
    }
    return false;
}

static void add_default(struct mount_options *options, const char *name, const char *opposite)
{
    if (has_option(options, name) || has_option(options, opposite)) return;
    if (options->fuse_options.size) buf_put_u8(&options->fuse_options, ',');
    buf_put(&options->fuse_options, name, strlen(name));
}

static int parse(int argc, char **argv, struct mount_options *options)
{
    enum {
        OPTION_STORE = 256,
        OPTION_WORKERS,
        OPTION_FLUSH,
        OPTION_MEMORY,
        OPTION_DATA,
        OPTION_PARTITIONS
    };
    static const struct option long_options[] = {
        {"store", required_argument, NULL, OPTION_STORE},
        {"workers", required_argument, NULL, OPTION_WORKERS},
        {"partitions", required_argument, NULL, OPTION_PARTITIONS},
        {"flush", required_argument, NULL, OPTION_FLUSH},
        {"memory", required_argument, NULL, OPTION_MEMORY},
        {"data", required_argument, NULL, OPTION_DATA},
        {"foreground", no_argument, NULL, 'f'},
        {0}};
    for (int option; (option = getopt_long(argc, argv, ":fo:", long_options, NULL)) != -1;) {
        bool good = true;
        switch (option) {
        case OPTION_STORE:
            options->store = optarg;
            break;
        case OPTION_DATA:
            options->data = optarg;
            break;
        case OPTION_WORKERS:
            good = cli_parse_size(optarg, 64, &options->workers) && options->workers > 0;
            break;
        case OPTION_PARTITIONS:
            good = cli_parse_size(optarg, PARTITIONS_MAX, &options->partitions) &&
                   options->partitions > 0 &&
                   (options->partitions & (options->partitions - 1)) == 0;
            break;
        case OPTION_FLUSH:
            good = parse_flush(optarg, options);
            break;
        case OPTION_MEMORY:
            good = cli_parse_size(optarg, UINT64_MAX, &options->memory_max);
            break;
        case 'f':
            options->foreground = true;
            break;
        case 'o':
            good = take_options(options, optarg);
            break;
        case ':':
            return cli_usage("mount", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("mount", "unknown option %s", argv[optind - 1]);
        }
        if (!good) return cli_usage("mount", "bad value '%s'", optarg);
    }
    if (!options->store) return cli_usage("mount", "say where the store is: --store DIR");
    if (argc - optind != 1) return cli_usage("mount", "give one mountpoint");
    options->mountpoint = argv[optind];
    add_default(options, "default_permissions", "nodefault_permissions");
    if (geteuid() == 0) {
        add_default(options, "allow_other", "allow_root");
        add_default(options, "suid", "nosuid");
        add_default(options, "dev", "nodev");
    }
    buf_put_u8(&options->fuse_options, 0);
    if (options->fuse_options.failed) return cli_fail(ERR_NO_MEMORY, "no memory");
    return EXIT_OK;
}

/* ---- serving ---- */

struct serving {
    struct db *db;
    struct fs *fs;
    struct control *control;
    struct mount *mount;
};

static enum err serving_start(struct serving *serving, const struct mount_options *options,
                              struct diag *diag)
{
    const struct db_config db_config = {
        .dir = options->store,
        .create = true,
        .worker_count = (uint16_t)options->workers,
        .partition_count = (uint16_t)options->partitions,
        .flush_policy = options->flush_always ? DB_FLUSH_ALWAYS : DB_FLUSH_INTERVAL,
        .flush_interval_ms = (uint32_t)options->flush_ms,
        .memory_max = options->memory_max,
        .progress = cli_progress,
    };
    enum err err = mount_prepare_point(options->mountpoint, diag);
    if (err) return err;
    struct diag why;
    err = db_open_embedded(&db_config, &serving->db, &why);
    if (err) return diag_set(diag, err, "store %s: %s", options->store, why.text);
    /* The kernel's table shows the store as the device, and that is how --mount finds it. */
    char *store = realpath(options->store, NULL);
    char *data = NULL;
    if (!store || asprintf(&data, "%s/data", store) < 0) {
        free(store);
        return diag_set(diag, ERR_NO_MEMORY, "no memory");
    }
    const struct fs_config fs_config = {.db = serving->db,
                                        .data_dir = options->data ? options->data : data,
                                        .relatime =
                                            !options->noatime && !has_option(options, "ro")};
    err = fs_open(&fs_config, &serving->fs, diag);
    if (!err) err = control_create(serving->db, serving->fs, store, &serving->control, diag);
    const struct mount_config mount_config = {
        .db = serving->db,
        .fs = serving->fs,
        .mountpoint = options->mountpoint,
        .source = store,
        .options = (const char *)options->fuse_options.bytes,
        .entry_timeout_s = options->entry_timeout_s,
        .attr_timeout_s = options->attr_timeout_s,
        .negative_timeout_s = options->negative_timeout_s,
    };
    if (!err) err = mount_create(&mount_config, &serving->mount, diag);
    free(data);
    free(store);
    return err;
}

/* Ends in the order that loses nothing; the first error is reported. */
static enum err serving_stop(struct serving *serving, struct diag *diag)
{
    mount_destroy(serving->mount);
    control_destroy(serving->control);
    struct diag second;
    enum err err = serving->fs ? fs_close(serving->fs, diag) : ERR_NONE;
    enum err db_err = serving->db ? db_close(serving->db, err ? &second : diag) : ERR_NONE;
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

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void leave_terminal(const char *store)
{
    char *path;
    if (asprintf(&path, "%s/trellis.log", store) >= 0) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0) log_set_fd(fd);
        free(path);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(null, STDERR_FILENO);
    (void)close(null);
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

/* ready: written to once mounted, -1 in the foreground. */
static int serve(const struct mount_options *options, int ready)
{
    int signals = block_signals();
    raise_file_limit();
    struct serving serving = {0};
    struct diag diag = {.position = UINT32_MAX};
    enum err err = serving_start(&serving, options, &diag);
    int status = err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
    if (!err) {
        if (ready >= 0) {
            leave_terminal(options->store);
            uint8_t one = 1;
            if (write(ready, &one, 1) < 0) log_line(LOG_WARNING, "nobody waits for the mount");
            (void)close(ready);
        }
        wait_for_end(&serving, signals);
    }
    struct diag stop_diag = {.position = UINT32_MAX};
    enum err stop_err = serving_stop(&serving, &stop_diag);
    if (stop_err && !err) {
        log_line(LOG_ERROR, "%s", stop_diag.text);
        status = cli_exit_of(stop_err);
    }
    if (signals >= 0) (void)close(signals);
    return status;
}

static int serve_in_background(const struct mount_options *options)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return cli_fail(ERR_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) return cli_fail(ERR_NO_MEMORY, "cannot fork: %s", strerror(errno));
    if (child == 0) {
        (void)close(pipe_fds[0]);
        (void)setsid();
        exit(serve(options, pipe_fds[1]));
    }
    (void)close(pipe_fds[1]);
    uint8_t byte;
    ssize_t got;
    while ((got = read(pipe_fds[0], &byte, 1)) < 0 && errno == EINTR)
        continue;
    (void)close(pipe_fds[0]);
    if (got == 1) return EXIT_OK;
    int wait_status;
    while (waitpid(child, &wait_status, 0) < 0)
        if (errno != EINTR) return EXIT_PERMANENT;
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status)) return WEXITSTATUS(wait_status);
    return cli_fail(ERR_IO, "the serving process died before it had mounted");
}

int cli_mount(int argc, char **argv)
{
    struct mount_options options = {
        .workers = 1, .entry_timeout_s = 60, .attr_timeout_s = 60, .negative_timeout_s = 60};
    buf_init(&options.fuse_options);
    int status = parse(argc, argv, &options);
    if (status == EXIT_OK)
        status = options.foreground ? serve(&options, -1) : serve_in_background(&options);
    buf_fini(&options.fuse_options);
    return status;
}
