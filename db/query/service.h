/* The query module of a worker, beyond query_module itself (db/node/worker.h). On the worker's
 * thread. */
#ifndef DB_QUERY_SERVICE_H
#define DB_QUERY_SERVICE_H

#include <stdint.h>

struct worker;

/* The client is gone: ends its queries and gives their pins back. */
void query_service_forget(struct worker *worker, uint64_t client);
/* How many queries the worker has, in any phase. */
uint32_t query_service_count(const struct worker *worker);

#endif
