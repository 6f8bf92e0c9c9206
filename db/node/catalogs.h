/* The published catalog and the earlier ones that somebody still uses. Any thread. Private to db/.
 */
#ifndef DB_NODE_CATALOGS_H
#define DB_NODE_CATALOGS_H

#include <pthread.h>

#include "base/err.h"
#include "db/wire/schema.h"

struct catalog_holder;

struct catalogs {
    pthread_mutex_t mutex;
    struct catalog_holder *holders; /* newest first: the published one */
};

void catalogs_init(struct catalogs *catalogs);
/* Destroys all of them, whoever holds references. */
void catalogs_fini(struct catalogs *catalogs);
/* The published one, with a reference for the caller. One was published before. */
const struct catalog *catalogs_acquire(struct catalogs *catalogs);
void catalogs_release(struct catalogs *catalogs, const struct catalog *catalog);
/* Version of the published one; 0: none was. */
uint64_t catalogs_version(struct catalogs *catalogs);
/* Takes the catalog, heap-allocated, and makes it the published one. ERR_NO_MEMORY: not taken. */
MUST_USE enum err catalogs_publish(struct catalogs *catalogs, struct catalog *catalog);

#endif
