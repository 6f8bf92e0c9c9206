/* The configuration file of a cluster's nodes. */
#ifndef CLI_NODE_CONFIG_H
#define CLI_NODE_CONFIG_H

#include "cli/service.h"

/* What the file says of node `id`. ERR_INVALID with the file, and the key that is wrong; errors of
 * reading. The config is to be ended by service_config_fini in any case. */
MUST_USE enum err node_config_read(const char *path, uint64_t id, struct service_config *ret_config,
                                   struct diag *diag);

#endif
