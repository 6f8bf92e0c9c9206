/* Catalogs are immutable and counted: the publication holds one reference of the newest, everybody
 * who acquired one another. A catalog is freed when it is neither. Programs and queries acquire one
 * for their life only, so there are few at any time and a list will do. */
#include "db/node/catalogs.h"

#include <stdlib.h>

struct catalog_holder {
    struct catalog_holder *next;
    struct catalog *catalog;
    uint32_t refs; /* one is the publication's */
};

void catalogs_init(struct catalogs *catalogs)
{
    pthread_mutex_init(&catalogs->mutex, NULL);
    catalogs->holders = NULL;
}

void catalogs_fini(struct catalogs *catalogs)
{
    while (catalogs->holders) {
        struct catalog_holder *holder = catalogs->holders;
        catalogs->holders = holder->next;
        catalog_destroy(holder->catalog);
        free(holder);
    }
    pthread_mutex_destroy(&catalogs->mutex);
}

const struct catalog *catalogs_acquire(struct catalogs *catalogs)
{
    pthread_mutex_lock(&catalogs->mutex);
    struct catalog_holder *holder = catalogs->holders;
    holder->refs++;
    pthread_mutex_unlock(&catalogs->mutex);
    return holder->catalog;
}

static void holder_release(struct catalogs *catalogs, const struct catalog *catalog)
{
    struct catalog_holder **link = &catalogs->holders;
    while ((*link)->catalog != catalog)
        link = &(*link)->next;
    struct catalog_holder *holder = *link;
    if (--holder->refs) return;
    *link = holder->next;
    catalog_destroy(holder->catalog);
    free(holder);
}

void catalogs_release(struct catalogs *catalogs, const struct catalog *catalog)
{
    pthread_mutex_lock(&catalogs->mutex);
    holder_release(catalogs, catalog);
    pthread_mutex_unlock(&catalogs->mutex);
}

uint64_t catalogs_version(struct catalogs *catalogs)
{
    pthread_mutex_lock(&catalogs->mutex);
    uint64_t version = catalogs->holders ? catalogs->holders->catalog->version : 0;
    pthread_mutex_unlock(&catalogs->mutex);
    return version;
}

enum err catalogs_publish(struct catalogs *catalogs, struct catalog *catalog)
{
    struct catalog_holder *holder = malloc(sizeof(*holder));
    if (!holder) return ERR_NO_MEMORY;
    pthread_mutex_lock(&catalogs->mutex);
    const struct catalog *old = catalogs->holders ? catalogs->holders->catalog : NULL;
    *holder = (struct catalog_holder){.next = catalogs->holders, .catalog = catalog, .refs = 1};
    catalogs->holders = holder;
    if (old) holder_release(catalogs, old);
    pthread_mutex_unlock(&catalogs->mutex);
    return ERR_NONE;
}
