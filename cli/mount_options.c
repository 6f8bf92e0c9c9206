/* The options of `trellis mount`: for a store in this process or a database in another; those of -o
 * that are ours are taken, the others go on to libfuse. */
#include "cli/mount_options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli.h"

static bool parse_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0) || seconds > 1e9) return false;
    *ret_seconds = seconds;
    return true;
}

/* One of the -o options. False: a bad value. */
static bool take_mount_option(struct mount_options *options, char *option)
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

static bool take_mount_options(struct mount_options *options, const char *list)
{
    char *copy = strdup(list);
    bool good = copy != NULL;
    char *rest = copy;
    for (char *option; good && (option = strsep(&rest, ","));)
        if (*option) good = take_mount_option(options, option);
    free(copy);
    return good;
}

bool mount_options_has(const struct mount_options *options, const char *name)
{
    size_t size = strlen(name);
    const char *at = (const char *)options->fuse_options.bytes;
    const char *end = at + options->fuse_options.size;
    if (at && at < end && end[-1] == 0) end--;
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
    if (mount_options_has(options, name) || mount_options_has(options, opposite)) return;
    if (options->fuse_options.size) buf_put_u8(&options->fuse_options, ',');
    buf_put(&options->fuse_options, name, strlen(name));
}

enum mount_option {
    OPTION_STORE = 256,
    OPTION_CLUSTER,
    OPTION_TRANSPORT,
    OPTION_LISTEN,
    OPTION_SECRET,
    OPTION_WORKERS,
    OPTION_FLUSH,
    OPTION_MEMORY,
    OPTION_DATA,
    OPTION_PARTITIONS,
    OPTION_TIMEOUT,
    OPTION_FOREGROUND = 'f',
    OPTION_MOUNT = 'o',
};

static const struct option long_options[] = {
    {"store", required_argument, NULL, OPTION_STORE},
    {"cluster", required_argument, NULL, OPTION_CLUSTER},
    {"transport", required_argument, NULL, OPTION_TRANSPORT},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"secret", required_argument, NULL, OPTION_SECRET},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"partitions", required_argument, NULL, OPTION_PARTITIONS},
    {"flush", required_argument, NULL, OPTION_FLUSH},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"data", required_argument, NULL, OPTION_DATA},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"foreground", no_argument, NULL, OPTION_FOREGROUND},
    {0}};

/* What was given, as far as it depends on other options. */
struct given {
    const char *cluster;
    const char *transport;
    const char *of_store; /* an option that only a store in this process has */
    bool timeout;
};

static bool take(struct mount_options *options, enum mount_option option, char *value,
                 struct given *given)
{
    struct service_config *service = &options->service;
    uint64_t seconds;
    switch (option) {
    case OPTION_STORE:
        return service_set(&service->store, value);
    case OPTION_CLUSTER:
        given->cluster = value;
        return true;
    case OPTION_TRANSPORT:
        given->transport = value;
        return strcmp(value, "tcp") == 0 || strcmp(value, "tls") == 0 ||
               strcmp(value, "verbs") == 0 || strcmp(value, "shm") == 0;
    case OPTION_SECRET:
        return service_set(&service->secret, value);
    case OPTION_DATA:
        options->data = value;
        return true;
    case OPTION_WORKERS:
        return cli_parse_size(value, 64, &service->workers) && service->workers > 0;
    case OPTION_TIMEOUT:
        given->timeout = true;
        if (!cli_parse_size(value, 86400, &seconds) || seconds == 0) return false;
        options->timeout_ms = seconds * 1000;
        return true;
    case OPTION_FOREGROUND:
        options->foreground = true;
        return true;
    case OPTION_MOUNT:
        return take_mount_options(options, value);
    case OPTION_LISTEN:
        given->of_store = "--listen";
        return service_add_listen(service, value);
    case OPTION_PARTITIONS:
        given->of_store = "--partitions";
        return service_parse_partitions(value, service);
    case OPTION_FLUSH:
        given->of_store = "--flush";
        return service_parse_flush(value, service);
    case OPTION_MEMORY:
        given->of_store = "--memory";
        return cli_parse_size(value, UINT64_MAX, &service->memory_max);
    }
    return false;
}

static int check_cluster(struct mount_options *options, const struct given *given)
{
    struct diag diag = {.position = UINT32_MAX};
    if (options->service.store) return cli_usage("mount", "give --store or --cluster, not both");
    if (given->of_store)
        return cli_usage("mount", "%s is an option of the node, not of its mount", given->of_store);
    if (!options->service.secret)
        return cli_usage("mount", "--cluster needs the secret: --secret FILE");
    if (!options->data)
        return cli_usage("mount", "--cluster needs a place for file contents: --data DIR");
    options->cluster = calloc(1, sizeof(*options->cluster));
    if (!options->cluster) return cli_fail(ERR_NO_MEMORY, "no memory");
    enum err err = cluster_parse(given->cluster, given->transport, options->cluster, &diag);
    return err ? cli_usage("mount", "%s", diag.text) : EXIT_OK;
}

static int check(struct mount_options *options, const struct given *given)
{
    struct diag diag = {.position = UINT32_MAX};
    if (given->cluster) return check_cluster(options, given);
    if (!options->service.store)
        return cli_usage("mount", "say where the store is: --store DIR, or --cluster ADDRESS");
    if (given->transport || given->timeout)
        return cli_usage("mount", "%s goes with --cluster",
                         given->transport ? "--transport" : "--timeout");
    if (service_check(&options->service, &diag)) return cli_usage("mount", "%s", diag.text);
    return EXIT_OK;
}

int mount_options_parse(int argc, char **argv, struct mount_options *options)
{
    *options = (struct mount_options){.service = {.workers = 1},
                                      .entry_timeout_s = 60,
                                      .attr_timeout_s = 60,
                                      .negative_timeout_s = 60};
    buf_init(&options->fuse_options);
    struct given given = {0};
    for (int option; (option = getopt_long(argc, argv, ":fo:", long_options, NULL)) != -1;) {
        if (option == ':') return cli_usage("mount", "option %s needs a value", argv[optind - 1]);
        if (option == '?') return cli_usage("mount", "unknown option %s", argv[optind - 1]);
        if (!take(options, (enum mount_option)option, optarg, &given))
            return cli_usage("mount", "bad value '%s'", optarg);
    }
    int status = check(options, &given);
    if (status != EXIT_OK) return status;
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

void mount_options_fini(struct mount_options *options)
{
    service_config_fini(&options->service);
    free(options->cluster);
    buf_fini(&options->fuse_options);
}
