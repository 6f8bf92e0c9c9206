/* Serving a store to other processes.
 *
 * Whoever serves a store always listens at STORE/link over shared memory, so that `trellis sql`,
 * `report`, `fsck` and `status` on the same machine find it; the secret lies beside it, and the
 * store's directory is its owner's only. Further addresses come from the command line. */
#include "cli/service.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/cluster.h"

void service_config_fini(struct service_config *config)
{
    free(config->store);
    free(config->secret);
    for (unsigned i = 0; i < SERVICE_LISTEN_MAX; i++)
        free(config->listen[i]);
    *config = (struct service_config){0};
}

bool service_set(char **to, const char *text)
{
    free(*to);
    *to = strdup(text);
    return *to != NULL;
}

bool service_add_listen(struct service_config *config, const char *text)
{
    if (config->listen_count == SERVICE_LISTEN_MAX) return false;
    char **at = &config->listen[config->listen_count];
    *at = strdup(text);
    if (*at) config->listen_count++;
    return *at != NULL;
}

bool service_parse_partitions(const char *text, struct service_config *config)
{
    return cli_parse_size(text, PARTITIONS_MAX, &config->partitions) && config->partitions > 0 &&
           (config->partitions & (config->partitions - 1)) == 0;
}

bool service_parse_flush(const char *text, struct service_config *config)
{
    config->flush_always = strcmp(text, "always") == 0;
    return config->flush_always ||
           (cli_parse_size(text, 3600000, &config->flush_ms) && config->flush_ms > 0);
}

enum err service_check(const struct service_config *config, struct diag *diag)
{
    for (unsigned i = 0; i < config->listen_count; i++) {
        struct port_address address;
        enum err err = cluster_address_parse(config->listen[i], NULL, &address, diag);
        if (err) return err;
        bool has_port = address.kind != LINK_SHM;
        if (has_port && address.port == 0)
            return diag_set(diag, ERR_INVALID, "'%s': clients need to know the port: give one",
                            config->listen[i]);
        if (has_port && address.port + config->workers - 1 > UINT16_MAX)
            return diag_set(diag, ERR_INVALID,
                            "'%s': each of the %lu workers needs a port from there on",
                            config->listen[i], config->workers);
    }
    return ERR_NONE;
}

enum err service_open(const struct service_config *config, struct service *ret_service,
                      struct diag *diag)
{
    const struct db_config db_config = {
        .dir = config->store,
        .create = true,
        .worker_count = (uint16_t)config->workers,
        .partition_count = (uint16_t)config->partitions,
        .flush_policy = config->flush_always ? DB_FLUSH_ALWAYS : DB_FLUSH_INTERVAL,
        .flush_interval_ms = (uint32_t)config->flush_ms,
        .memory_max = config->memory_max,
        .progress = cli_progress,
    };
    *ret_service = (struct service){0};
    struct diag why;
    enum err err = db_open_embedded(&db_config, &ret_service->db, &why);
    if (err) return diag_set(diag, err, "store %s: %s", config->store, why.text);
    ret_service->store = realpath(config->store, NULL);
    return ret_service->store
               ? ERR_NONE
               : diag_set(diag, ERR_IO, "store %s: %s", config->store, strerror(errno));
}

static enum err read_secret(struct service *service, const struct service_config *config,
                            uint8_t secret[PORT_SECRET_SIZE], struct diag *diag)
{
    enum err err;
    char *made = NULL;
    if (config->secret) {
        err = port_secret_read(config->secret, secret, diag);
    } else if (asprintf(&made, "%s/secret", service->store) < 0) {
        made = NULL;
        err = diag_set(diag, ERR_NO_MEMORY, "no memory");
    } else {
        err = port_secret_make(made, secret, diag);
    }
    if (!err) service->secret = realpath(made ? made : config->secret, NULL);
    free(made);
    if (!err && !service->secret) err = diag_set(diag, ERR_IO, "cannot find the secret file again");
    return err;
}

/* For this machine: over TCP where there is no shared memory. */
static void listen_near(struct service *service, const uint8_t secret[PORT_SECRET_SIZE],
                        struct cluster *near)
{
    struct port_address *address = &near->addresses[near->count];
    *address = (struct port_address){.kind = LINK_SHM};
    struct diag why;
    int size = snprintf(address->path, sizeof(address->path), "%s/link", service->store);
    enum err err = size > 0 && (size_t)size < sizeof(address->path)
                       ? db_listen(service->db, address, secret, NULL, &why)
                       : diag_set(&why, ERR_INVALID, "its path is too long");
    if (err) {
        const struct port_address loopback = {.kind = LINK_TCP, .host = "127.0.0.1"};
        struct diag second;
        log_line(LOG_WARNING, "no shared memory for other processes: %s", why.text);
        err = db_listen(service->db, &loopback, secret, address, &second);
        if (err) log_line(LOG_WARNING, "nor can they connect over TCP: %s", second.text);
    }
    if (!err) near->count++;
}

/* Where this machine reaches what listens everywhere. */
static void add_near(const struct port_address *address, struct cluster *near)
{
    struct port_address *copy = &near->addresses[near->count++];
    *copy = *address;
    if (strcmp(copy->host, "0.0.0.0") == 0)
        memcpy(copy->host, "127.0.0.1", sizeof("127.0.0.1"));
    else if (strcmp(copy->host, "::") == 0)
        memcpy(copy->host, "::1", sizeof("::1"));
}

enum err service_listen(struct service *service, const struct service_config *config,
                        struct diag *diag)
{
    uint8_t secret[PORT_SECRET_SIZE];
    struct cluster *near = calloc(1, sizeof(*near));
    if (!near) return diag_set(diag, ERR_NO_MEMORY, "no memory");
    enum err err = read_secret(service, config, secret, diag);
    if (!err) listen_near(service, secret, near);
    for (unsigned i = 0; i < config->listen_count && !err; i++) {
        struct port_address address;
        err = cluster_address_parse(config->listen[i], NULL, &address, diag);
        if (!err) err = db_listen(service->db, &address, secret, NULL, diag);
        if (!err) add_near(&address, near);
    }
    sodium_memzero(secret, sizeof(secret));
    if (!err && !(service->where = cluster_where(near, service->secret)))
        err = diag_set(diag, ERR_INVALID, "the store's path is not valid UTF-8");
    free(near);
    return err;
}

enum err service_close(struct service *service, struct diag *diag)
{
    enum err err = service->db ? db_close(service->db, diag) : ERR_NONE;
    free(service->store);
    free(service->secret);
    free(service->where);
    *service = (struct service){0};
    return err;
}
