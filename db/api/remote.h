/* A database in another process: what is known of it, and how its parts are reached. Private to
 * db/api.
 *
 * Shared by all threads of the process that use it; what changes is guarded by the mutex or atomic.
 */
#ifndef DB_API_REMOTE_H
#define DB_API_REMOTE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "db/api/db.h"
#include "db/node/catalogs.h"
#include "db/wire/info.h"
#include "rdma/port.h"

struct channel;
struct loop;

enum { REMOTE_ADDRESSES_MAX = 16, REMOTE_LOOPS_MAX = 64, REMOTE_UNLEARNED_MAX = 4 };

struct remote {
    struct port_address *addresses;
    unsigned address_count;
    uint8_t secret[PORT_SECRET_SIZE];
    enum port_spin spin;
    uint64_t timeout_ns;
    /* The real ones, or the simulator's. */
    uint64_t (*monotonic_ns)(void *clock_context);
    void (*random)(void *clock_context, void *bytes, size_t size);
    void *clock_context;
    struct sim_net *sim;
    _Atomic uint32_t sim_node; /* of the next port */

    struct catalogs catalogs;
    _Atomic uint16_t worker_count;
    /* Of the newest info; 0: none came yet, or the next one is being taken. */
    _Atomic uint64_t learned_life;
    _Atomic uint64_t learned_count; /* how many lives were learned */
    /* The greatest commit timestamp that any client was told by that life or an earlier one. */
    _Atomic uint64_t acknowledged;
    _Atomic uint32_t losses; /* restarts of the node that have lost acknowledged changes */
    /* Once learned, these never change. */
    uint16_t partition_count;
    uint8_t key[16];

    pthread_mutex_t mutex; /* guards what follows */
    bool store_known;
    uint8_t store_id[16];
    uint64_t life; /* of the newest greeting */
    /* What lives have acknowledged of which no info has come yet. */
    struct {
        uint64_t life; /* 0: free */
        uint64_t acknowledged;
    } unlearned[REMOTE_UNLEARNED_MAX];
    uint64_t past[REMOTE_UNLEARNED_MAX]; /* lives before the one whose info is newest */
    unsigned past_next;
    struct node_info info;
    struct channel *spare; /* made by db_connect, for the first client */

    pthread_t keeper;
    bool keeper_runs;
    pthread_cond_t keeper_wake;
    pthread_mutex_t keeper_mutex; /* guards what follows; taken before any other */
    bool keeper_stops;
    struct channel *channels; /* of threads of their own: the keeper looks after them */

    uint16_t loop_count;
    struct loop *loops[REMOTE_LOOPS_MAX];
};

/* With the real clock and randomness, nothing connected. ERR_INVALID, ERR_NO_MEMORY. */
MUST_USE enum err remote_create(const struct db_connect_config *config, struct remote **ret_remote,
                                struct diag *diag);
/* Everything that uses it was ended before. NULL is allowed. */
void remote_destroy(struct remote *remote);

static inline uint64_t remote_now(const struct remote *remote)
{
    return remote->monotonic_ns(remote->clock_context);
}
/* The worker at the address that was given for worker 0. False: it is not known, or there is none.
 */
bool remote_address(struct remote *remote, unsigned address, uint16_t worker,
                    struct port_address *ret_address);
/* A link came up: is it the same store? Then it is remembered. ERR_INVALID: it is not. ERR_CLOSED:
 * it is to a process that has ended. */
MUST_USE enum err remote_greeted(struct remote *remote, const struct greeting_node *greeting);
/* Of the newest greeting. */
uint64_t remote_life(struct remote *remote);
/* The node said of itself; takes the catalog, which may be NULL. `asked` is what learned_count was
 * when it was asked for, or REMOTE_UNASKED: an answer of another life than the known one is that of
 * a later one only when it was asked for after that one was known. ERR_BUSY: it may be of an
 * earlier one, nothing was taken, ask again. ERR_INVALID, ERR_BAD_SIGNAL, ERR_NO_MEMORY. */
#define REMOTE_UNASKED UINT64_MAX
MUST_USE enum err remote_learned(struct remote *remote, uint64_t asked,
                                 const struct node_info *info, struct catalog *catalog);
static inline bool remote_is_ready(const struct remote *remote)
{
    return atomic_load(&remote->learned_life) != 0;
}
void remote_acknowledged_early(struct remote *remote, uint64_t life, uint64_t commit_ts);
/* A change was acknowledged by that life. */
static inline void remote_acknowledged(struct remote *remote, uint64_t life, uint64_t commit_ts)
{
    if (life != atomic_load_explicit(&remote->learned_life, memory_order_relaxed)) {
        remote_acknowledged_early(remote, life, commit_ts);
        return;
    }
    uint64_t known = atomic_load_explicit(&remote->acknowledged, memory_order_relaxed);
    while (known < commit_ts &&
           !atomic_compare_exchange_weak(&remote->acknowledged, &known, commit_ts))
        continue;
    /* When the next life was learned meanwhile, that may not have seen this one. It takes the life
     * away before it looks at what was acknowledged, so one of the two sees the other. */
    if (life != atomic_load(&remote->learned_life))
        remote_acknowledged_early(remote, life, commit_ts);
}
static inline uint16_t remote_slot_worker(const struct remote *remote, uint16_t slot)
{
    return (uint16_t)((slot & (remote->partition_count - 1)) %
                      atomic_load_explicit(&remote->worker_count, memory_order_relaxed));
}

/* A database around it, for db_connect and for tests; takes the remote. */
MUST_USE enum err remote_db(struct remote *remote, struct db **ret_db);
enum err remote_health(struct remote *remote, struct diag *diag);
void remote_close(struct remote *remote);

#endif
