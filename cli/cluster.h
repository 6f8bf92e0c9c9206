/* Databases in other processes, as the command line names them: addresses and a secret file. */
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#include "base/diag.h"
#include "db/api/db.h"

enum { CLUSTER_ADDRESSES_MAX = 16 };

struct cluster {
    struct port_address addresses[CLUSTER_ADDRESSES_MAX];
    unsigned count;
};

/* One address: KIND:… as rdma/address.h has it, or HOST:PORT, which is of `transport` (a kind's
 * name or "tls"; NULL: tcp). ERR_INVALID. */
MUST_USE enum err cluster_address_parse(const char *text, const char *transport,
                                        struct port_address *ret_address, struct diag *diag);
/* Several with commas between, tried in this order. */
MUST_USE enum err cluster_parse(const char *text, const char *transport,
                                struct cluster *ret_cluster, struct diag *diag);
/* Connects with the secret in the file. ERR_DENIED with what to do when it is not the database's;
 * errors of port_secret_read and db_connect. */
MUST_USE enum err cluster_connect(const struct cluster *cluster, const char *secret_path,
                                  uint16_t loop_count, uint32_t timeout_ms, struct db **ret_db,
                                  struct diag *diag);

/* What a serving process tells others of this machine: JSON {"addresses": […], "secret": path},
 * heap. NULL: no memory, or a path that is no UTF-8. */
char *cluster_where(const struct cluster *cluster, const char *secret_path);
/* Reads it; *ret_secret_path is heap. ERR_BAD_SIGNAL; ERR_NOT_FOUND: there are no addresses. */
MUST_USE enum err cluster_from_where(const char *where, struct cluster *ret_cluster,
                                     char **ret_secret_path, struct diag *diag);

#endif
