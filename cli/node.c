/* `trellis node`: a process that serves a store to others: the database without a mount.
 *
 * What it serves comes from options, or, for one of several nodes described together, from a file
 * of JSON (node_config.c). Ending, by SIGTERM, SIGINT or SIGHUP: links are closed, everything is
 * flushed, the store is free. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/control.h"
#include "cli/daemon.h"
#include "cli/node_config.h"

static int serve(void *context)
{
    const struct service_config *config = context;
    int signals = daemon_signals();
    struct service service = {0};
    struct control *control = NULL;
    struct db_client *client = NULL;
    struct diag diag = {.position = UINT32_MAX};
    enum err err = signals < 0
                       ? diag_set(&diag, ERR_IO, "cannot wait for signals: %s", strerror(errno))
                       : service_open(config, &service, &diag);
    if (!err) {
        err = db_client_create(service.db, &client);
        if (err) (void)!diag_set(&diag, err, "%s", err_text(err));
    }
    if (!err) err = fs_lease_reset(client, &diag);
    db_client_destroy(client);
    if (!err) err = service_listen(&service, config, &diag);
    if (!err) {
        const struct control_config control_config = {
            .dir = service.store, .where = service.where, .db = service.db};
        err = control_create(&control_config, &control, &diag);
    }
    if (!err) err = daemon_ready(service.store, &diag);
    int status = err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
    if (!err) {
        log_line(LOG_INFO, "serving %s", service.store);
        struct pollfd ended = {.fd = signals, .events = POLLIN};
        while (poll(&ended, 1, -1) < 0 && errno == EINTR)
            continue;
    }
    control_destroy(control);
    struct diag close_diag = {.position = UINT32_MAX};
    enum err close_err = service_close(&service, &close_diag);
    if (close_err && !err) {
        log_line(LOG_ERROR, "%s", close_diag.text);
        status = cli_exit_of(close_err);
    }
    if (signals >= 0) (void)close(signals);
    return status;
}

struct node_options {
    struct service_config service;
    const char *config;
    uint64_t id;
    bool given_id;
    bool given_other; /* an option that a configuration file has */
    bool foreground;
};

enum node_option {
    OPTION_STORE = 256,
    OPTION_LISTEN,
    OPTION_SECRET,
    OPTION_WORKERS,
    OPTION_PARTITIONS,
    OPTION_FLUSH,
    OPTION_MEMORY,
    OPTION_CONFIG,
    OPTION_ID,
};

static bool take_option(struct node_options *options, enum node_option option, const char *value)
{
    struct service_config *service = &options->service;
    if (option != OPTION_CONFIG && option != OPTION_ID) options->given_other = true;
    switch (option) {
    case OPTION_STORE:
        return service_set(&service->store, value);
    case OPTION_LISTEN:
        return service_add_listen(service, value);
    case OPTION_SECRET:
        return service_set(&service->secret, value);
    case OPTION_WORKERS:
        return cli_parse_size(value, 64, &service->workers) && service->workers > 0;
    case OPTION_PARTITIONS:
        return service_parse_partitions(value, service);
    case OPTION_FLUSH:
        return service_parse_flush(value, service);
    case OPTION_MEMORY:
        return cli_parse_size(value, UINT64_MAX, &service->memory_max);
    case OPTION_CONFIG:
        options->config = value;
        return true;
    case OPTION_ID:
        options->given_id = true;
        return cli_parse_size(value, UINT32_MAX, &options->id);
    }
    return false;
}

static int parse(int argc, char **argv, struct node_options *options)
{
    static const struct option long_options[] = {
        {"store", required_argument, NULL, OPTION_STORE},
        {"listen", required_argument, NULL, OPTION_LISTEN},
        {"secret", required_argument, NULL, OPTION_SECRET},
        {"workers", required_argument, NULL, OPTION_WORKERS},
        {"partitions", required_argument, NULL, OPTION_PARTITIONS},
        {"flush", required_argument, NULL, OPTION_FLUSH},
        {"memory", required_argument, NULL, OPTION_MEMORY},
        {"config", required_argument, NULL, OPTION_CONFIG},
        {"id", required_argument, NULL, OPTION_ID},
        {"foreground", no_argument, NULL, 'f'},
        {0}};
    for (int option; (option = getopt_long(argc, argv, ":f", long_options, NULL)) != -1;) {
        if (option == 'f')
            options->foreground = true;
        else if (option == ':')
            return cli_usage("node", "option %s needs a value", argv[optind - 1]);
        else if (option == '?')
            return cli_usage("node", "unknown option %s", argv[optind - 1]);
        else if (!take_option(options, (enum node_option)option, optarg))
            return cli_usage("node", "bad value '%s'", optarg);
    }
    if (optind < argc) return cli_usage("node", "unexpected argument '%s'", argv[optind]);
    if (!options->config != !options->given_id)
        return cli_usage("node", "--config and --id go together");
    if (options->config && options->given_other)
        return cli_usage("node", "with --config everything else is in the file");
    struct diag diag = {.position = UINT32_MAX};
    if (options->config) {
        enum err err = node_config_read(options->config, options->id, &options->service, &diag);
        return err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
    }
    if (!options->service.store)
        return cli_usage("node", "say where the store is: --store DIR, or --config FILE --id N");
    if (service_check(&options->service, &diag)) return cli_usage("node", "%s", diag.text);
    return EXIT_OK;
}

int cli_node(int argc, char **argv)
{
    struct node_options options = {.service = {.workers = 1}};
    int status = parse(argc, argv, &options);
    if (status == EXIT_OK) status = daemon_run(options.foreground, serve, &options.service);
    service_config_fini(&options.service);
    return status;
}
