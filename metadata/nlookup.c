/* References from the kernel and from open files, a compact concurrent hash.
 *
 * NLOOKUP_SHARDS tables, each under a mutex, of 16-byte entries: open addressing with linear
 * probing, at most three quarters full, entries moved back when one is removed (no tombstones), so
 * a table holding many forgotten inodes is as fast as a fresh one. A table shrinks when it is less
 * than an eighth full.
 *
 * An entry exists while anything refers to its inode. Number 0 is no inode and marks a free place.
 */
#include "metadata/nlookup.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

enum { NLOOKUP_SHARDS = 64, CAPACITY_MIN = 64, ADD_BATCH = 512 };

#define ORPHAN (UINT64_C(1) << 63)
#define OPEN (UINT64_C(1) << 62)
#define LOOKUPS (OPEN - 1)

struct entry {
    uint64_t ino;
    uint64_t state; /* ORPHAN, OPEN, and the number of lookups */
};

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    /* Changed under the mutex; nlookup_prefetch reads them without it. */
    _Atomic(struct entry *) entries;
    _Atomic uint64_t capacity; /* a power of two, or 0 */
    uint64_t used;
};

struct nlookup {
    atomic_bool incomplete; /* a count was lost */
    struct shard shards[NLOOKUP_SHARDS];
};

enum err nlookup_create(struct nlookup **ret_nlookup)
{
    struct nlookup *nlookup = aligned_alloc(64, sizeof(*nlookup));
    if (!nlookup) return ERR_NO_MEMORY;
    atomic_init(&nlookup->incomplete, false);
    for (unsigned i = 0; i < NLOOKUP_SHARDS; i++) {
        struct shard *shard = &nlookup->shards[i];
        atomic_init(&shard->entries, NULL);
        atomic_init(&shard->capacity, 0);
        shard->used = 0;
        pthread_mutex_init(&shard->mutex, NULL);
    }
    *ret_nlookup = nlookup;
    return ERR_NONE;
}

void nlookup_destroy(struct nlookup *nlookup)
{
    if (!nlookup) return;
    for (unsigned i = 0; i < NLOOKUP_SHARDS; i++) {
        pthread_mutex_destroy(&nlookup->shards[i].mutex);
        free(nlookup->shards[i].entries);
    }
    free(nlookup);
}

static struct shard *shard_lock(struct nlookup *nlookup, uint64_t hash)
{
    struct shard *shard = &nlookup->shards[hash >> 58];
    pthread_mutex_lock(&shard->mutex);
    return shard;
}
_Static_assert(NLOOKUP_SHARDS == 1 << (64 - 58), "the top bits of the hash choose the shard");

/* The entry of ino, or the free place where it belongs. The table has a free place. */
static struct entry *entry_at(struct entry *entries, uint64_t capacity, uint64_t hash, uint64_t ino)
{
    uint64_t at = hash & (capacity - 1);
    while (entries[at].ino && entries[at].ino != ino)
        at = (at + 1) & (capacity - 1);
    return &entries[at];
}

static struct entry *entry_find(const struct shard *shard, uint64_t hash, uint64_t ino)
{
    if (!shard->capacity) return NULL;
    struct entry *entry = entry_at(shard->entries, shard->capacity, hash, ino);
    return entry->ino ? entry : NULL;
}

static bool shard_resize(struct shard *shard, uint64_t capacity)
{
    struct entry *entries = calloc(capacity, sizeof(*entries));
    if (!entries) return false;
    for (uint64_t i = 0; i < shard->capacity; i++) {
        const struct entry *old = &shard->entries[i];
        if (old->ino) *entry_at(entries, capacity, hash_u64(old->ino), old->ino) = *old;
    }
    free(shard->entries);
    shard->entries = entries;
    shard->capacity = capacity;
    return true;
}

/* Finds or makes the entry. NULL without memory. */
static struct entry *entry_make(struct shard *shard, uint64_t hash, uint64_t ino)
{
    ASSERT(ino);
    struct entry *entry = NULL;
    if (shard->capacity) {
        entry = entry_at(shard->entries, shard->capacity, hash, ino);
        if (entry->ino) return entry;
    }
    if ((shard->used + 1) * 4 > shard->capacity * 3) {
        uint64_t capacity = shard->capacity ? shard->capacity * 2 : CAPACITY_MIN;
        if (shard_resize(shard, capacity))
            entry = entry_at(shard->entries, shard->capacity, hash, ino);
        /* Without memory go on as long as one place stays free: every search ends there. */
        else if (shard->used + 2 > shard->capacity)
            return NULL;
    }
    *entry = (struct entry){.ino = ino};
    shard->used++;
    return entry;
}

static void entry_remove(struct shard *shard, struct entry *entry)
{
    uint64_t mask = shard->capacity - 1;
    uint64_t hole = (uint64_t)(entry - shard->entries);
    for (uint64_t at = (hole + 1) & mask; shard->entries[at].ino; at = (at + 1) & mask) {
        /* An entry moves into the hole unless its own place lies behind the hole. */
        uint64_t home = hash_u64(shard->entries[at].ino) & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        shard->entries[hole] = shard->entries[at];
        hole = at;
    }
    shard->entries[hole] = (struct entry){0};
    shard->used--;
    if (shard->capacity > CAPACITY_MIN && shard->used * 8 < shard->capacity)
        (void)shard_resize(shard, shard->capacity / 2);
}

/* The state lost a reference: removes the entry when none is left. True: it was an orphan's. */
static bool entry_released(struct nlookup *nlookup, struct shard *shard, struct entry *entry)
{
    if (entry->state & ~ORPHAN) return false;
    bool orphan = (entry->state & ORPHAN) != 0;
    entry_remove(shard, entry);
    return orphan && !atomic_load_explicit(&nlookup->incomplete, memory_order_relaxed);
}

void nlookup_prefetch(const struct nlookup *nlookup, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    const struct shard *shard = &nlookup->shards[hash >> 58];
    struct entry *entries = atomic_load_explicit(&shard->entries, memory_order_relaxed);
    uint64_t capacity = atomic_load_explicit(&shard->capacity, memory_order_relaxed);
    /* Read without the mutex, the two may not belong together: an address, not an access. */
    if (capacity) __builtin_prefetch(entries + (hash & (capacity - 1)));
}

void nlookup_add(struct nlookup *nlookup, uint64_t ino, uint64_t count)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    struct entry *entry = entry_make(shard, hash, ino);
    if (entry)
        entry->state += count;
    else
        atomic_store(&nlookup->incomplete, true);
    pthread_mutex_unlock(&shard->mutex);
}

/* At most a batch: shard by shard, so that each is locked once and the cache misses of its entries
 * overlap. */
static void add_batch(struct nlookup *nlookup, const uint64_t *inos, uint32_t count)
{
    uint64_t hashes[ADD_BATCH];
    uint16_t order[ADD_BATCH];
    uint16_t ends[NLOOKUP_SHARDS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        hashes[i] = hash_u64(inos[i]);
        ends[hashes[i] >> 58]++;
    }
    for (unsigned i = 1; i < NLOOKUP_SHARDS; i++)
        ends[i] = (uint16_t)(ends[i] + ends[i - 1]);
    for (uint32_t i = count; i-- > 0;)
        order[--ends[hashes[i] >> 58]] = (uint16_t)i;
    /* ends[] are now where the shards begin. */
    for (unsigned i = 0; i < NLOOKUP_SHARDS; i++) {
        uint32_t begin = ends[i];
        uint32_t end = i + 1 < NLOOKUP_SHARDS ? ends[i + 1] : count;
        if (begin == end) continue;
        struct shard *shard = shard_lock(nlookup, (uint64_t)i << 58);
        for (uint32_t at = begin; shard->capacity && at < end; at++)
            __builtin_prefetch(&shard->entries[hashes[order[at]] & (shard->capacity - 1)], 1);
        for (uint32_t at = begin; at < end; at++) {
            struct entry *entry = entry_make(shard, hashes[order[at]], inos[order[at]]);
            if (entry)
                entry->state++;
            else
                atomic_store(&nlookup->incomplete, true);
        }
        pthread_mutex_unlock(&shard->mutex);
    }
}

void nlookup_add_each(struct nlookup *nlookup, const uint64_t *inos, uint32_t count)
{
    for (uint32_t at = 0; at < count; at += ADD_BATCH)
        add_batch(nlookup, inos + at, count - at < ADD_BATCH ? count - at : ADD_BATCH);
}

bool nlookup_forget(struct nlookup *nlookup, uint64_t ino, uint64_t count)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    struct entry *entry = entry_find(shard, hash, ino);
    bool free = false;
    if (entry) {
        /* A kernel that forgets more than it was given is not trusted with the rest. */
        uint64_t lookups = entry->state & LOOKUPS;
        entry->state -= count < lookups ? count : lookups;
        free = entry_released(nlookup, shard, entry);
    }
    pthread_mutex_unlock(&shard->mutex);
    return free;
}

void nlookup_open(struct nlookup *nlookup, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    struct entry *entry = entry_make(shard, hash, ino);
    if (entry)
        entry->state |= OPEN;
    else
        atomic_store(&nlookup->incomplete, true);
    pthread_mutex_unlock(&shard->mutex);
}

bool nlookup_close(struct nlookup *nlookup, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    struct entry *entry = entry_find(shard, hash, ino);
    bool free = false;
    if (entry) {
        entry->state &= ~OPEN;
        free = entry_released(nlookup, shard, entry);
    }
    pthread_mutex_unlock(&shard->mutex);
    return free;
}

bool nlookup_is_free(struct nlookup *nlookup, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    struct entry *entry = entry_find(shard, hash, ino);
    if (entry) entry->state |= ORPHAN;
    pthread_mutex_unlock(&shard->mutex);
    return !entry && !atomic_load(&nlookup->incomplete);
}

uint64_t nlookup_count(struct nlookup *nlookup, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    struct shard *shard = shard_lock(nlookup, hash);
    const struct entry *entry = entry_find(shard, hash, ino);
    uint64_t count = entry ? entry->state & LOOKUPS : 0;
    pthread_mutex_unlock(&shard->mutex);
    return count;
}
