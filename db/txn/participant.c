/* Bookkeeping of prepared transactions: a hash of chains by id, and a list in order of prepare
 * timestamps, which is the order of arrival, since a worker's clock only goes up. Finished ones are
 * kept for reuse in a small stock, with their change sets and buffers, so that a steady load
 * allocates nothing. */
#include "db/txn/participant.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

static struct participant **bucket_of(struct participants *all, uint64_t txn)
{
    return &all->buckets[hash_u64(txn) % PARTICIPANTS_BUCKETS];
}

void participants_init(struct participants *all, struct ldm *ldm)
{
    *all = (struct participants){.ldm = ldm};
}

static void participant_free(struct participant *one)
{
    change_set_destroy(one->changes);
    buf_fini(&one->redo);
    free(one);
}

void participants_fini(struct participants *all)
{
    while (all->oldest) {
        struct participant *one = all->oldest;
        participants_remove(all, one);
        change_set_rollback(one->changes);
        participant_free(one);
    }
    while (all->idle) {
        struct participant *one = all->idle;
        all->idle = one->newer;
        participant_free(one);
    }
    all->idle_count = 0;
}

enum err participant_create(struct participants *all, struct participant **ret)
{
    if (all->count >= PARTICIPANTS_MAX) return ERR_BUSY;
    struct participant *one = all->idle;
    if (one) {
        all->idle = one->newer;
        all->idle_count--;
        one->newer = NULL;
        *ret = one;
        return ERR_NONE;
    }
    one = calloc(1, sizeof(*one));
    if (!one) return ERR_NO_MEMORY;
    buf_init(&one->redo);
    enum err err = change_set_create(all->ldm, &one->changes);
    if (err) {
        free(one);
        return err;
    }
    *ret = one;
    return ERR_NONE;
}

void participant_destroy(struct participants *all, struct participant *one)
{
    ASSERT(change_set_is_empty(one->changes));
    if (all->idle_count == PARTICIPANTS_IDLE_MAX) {
        participant_free(one);
        return;
    }
    buf_clear(&one->redo);
    one->newer = all->idle;
    all->idle = one;
    all->idle_count++;
}

void participants_add(struct participants *all, struct participant *one)
{
    ASSERT(!all->newest || all->newest->prepare_ts < one->prepare_ts);
    struct participant **bucket = bucket_of(all, one->txn);
    one->next_in_bucket = *bucket;
    *bucket = one;
    one->older = all->newest;
    one->newer = NULL;
    if (all->newest)
        all->newest->newer = one;
    else
        all->oldest = one;
    all->newest = one;
    all->count++;
    all->redo_size += one->redo.size;
}

void participants_remove(struct participants *all, struct participant *one)
{
    struct participant **link = bucket_of(all, one->txn);
    while (*link != one)
        link = &(*link)->next_in_bucket;
    *link = one->next_in_bucket;
    if (one->older)
        one->older->newer = one->newer;
    else
        all->oldest = one->newer;
    if (one->newer)
        one->newer->older = one->older;
    else
        all->newest = one->older;
    one->older = one->newer = one->next_in_bucket = NULL;
    all->count--;
    all->redo_size -= one->redo.size;
}

struct participant *participants_find(const struct participants *all, uint64_t txn)
{
    struct participant *one = all->buckets[hash_u64(txn) % PARTICIPANTS_BUCKETS];
    while (one && one->txn != txn)
        one = one->next_in_bucket;
    return one;
}
