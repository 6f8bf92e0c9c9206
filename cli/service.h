/* A store served by this process to others: the database opened, and where it listens. What
 * `trellis mount --store` and `trellis node` have in common. */
#ifndef CLI_SERVICE_H
#define CLI_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "db/api/db.h"

enum { SERVICE_LISTEN_MAX = PORT_LISTENERS_MAX - 1 }; /* one is for this machine */

struct service_config {
    char *store;
    char *secret;                     /* NULL: STORE/secret, made when it is missing */
    char *listen[SERVICE_LISTEN_MAX]; /* as cluster_address_parse takes them */
    unsigned listen_count;
    uint64_t workers;
    uint64_t partitions; /* of a new store; 0: default */
    uint64_t memory_max;
    uint64_t flush_ms; /* 0: default */
    bool flush_always;
};

struct service {
    struct db *db;
    char *store;  /* absolute */
    char *secret; /* the secret file's absolute path; NULL when it does not listen */
    char *where;  /* how this machine's processes reach it: cluster_where */
};

void service_config_fini(struct service_config *config);
/* Values of options. False: a bad one, or no memory. */
bool service_set(char **to, const char *text); /* store, secret */
bool service_add_listen(struct service_config *config, const char *text);
bool service_parse_flush(const char *text, struct service_config *config);
bool service_parse_partitions(const char *text, struct service_config *config);
/* Checks what can be checked before anything is opened. ERR_INVALID. */
MUST_USE enum err service_check(const struct service_config *config, struct diag *diag);
/* Opens the store, which is made when it is missing. The service is to be ended in any case. */
MUST_USE enum err service_open(const struct service_config *config, struct service *ret_service,
                               struct diag *diag);
/* Listens for this machine's processes at STORE/link, and at the addresses. Where the first cannot
 * be, that is logged, and TCP on the loopback does; failures of the others are errors. */
MUST_USE enum err service_listen(struct service *service, const struct service_config *config,
                                 struct diag *diag);
MUST_USE enum err service_close(struct service *service, struct diag *diag);

#endif
