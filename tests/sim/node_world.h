/* The world of the whole-node simulation (node_sim.c): a simulated node, its clients, and what they
 * know of the transfers they made. Shared by the files of that test. */
#ifndef TESTS_SIM_NODE_WORLD_H
#define TESTS_SIM_NODE_WORLD_H

#include "db/api/db_private.h"
#include "db/node/sim_node.h"
#include "db/wire/ddl.h"

enum {
    ACCOUNTS = 24,
    SLOTS = 12,
    CLIENTS = 5,
    BALANCE_FIRST = 100,
    TRANSFERS_MAX = 4096,
    PARTITIONS = 8,
    LIVES = 4,
};

enum status { UNDER_WAY, ACKNOWLEDGED, FAILED, UNKNOWN };

struct transfer {
    uint32_t client;
    uint32_t from;
    uint32_t to;
    int64_t amount;
    enum status status;
    uint64_t commit_ts;
    bool must_be_there; /* acknowledged as durable, or found after a restart */
    bool must_be_gone;  /* not found after a restart */
    bool found;
};

struct actor {
    struct world *world;
    uint32_t number;
    struct db_client *client;
    bool busy;
    uint32_t transfer;               /* under way */
    struct client_listener listener; /* of a flush, checkpoint or DDL */
    uint32_t flush_from; /* transfers acknowledged before it began: up to here in order of ack */
};

struct world {
    uint64_t seed;
    struct sim *sim;
    struct sim_node *node;
    struct db db;
    const struct catalog *catalog;
    const struct table_def *account;
    const struct table_def *journal;
    struct actor actors[CLIENTS];
    struct transfer transfers[TRANSFERS_MAX];
    uint32_t transfer_count;
    uint32_t acknowledged[TRANSFERS_MAX]; /* in order of acknowledgement, of this life */
    uint32_t acknowledged_count;
    bool flush_always;
    bool has_index;
    bool faulty; /* file calls fail: acknowledgements of flushes still bind */
    uint64_t reads_checked;
    uint64_t conflicts;
    struct program program;
    struct arena arena;
};

/* Says what went wrong, with the seed, and ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void world_fail(const struct world *world,
                                                                const char *format, ...);
uint32_t world_pick(struct world *world, uint32_t count);
/* One thing happens in the node, and one client looks at what it got. */
void world_step(struct world *world);
void world_catalog(struct world *world); /* acquires the newest */

enum { BALANCE_COLUMN = 2 };
struct table_def account_def(struct column_def columns[3]);
struct table_def journal_def(struct column_def columns[6]);
uint16_t slot_of(uint32_t account);

/* node_load.c: what the clients do. */
void actor_act(struct actor *actor); /* when it is not busy */
void put_read_all(
    struct world *world); /* the world's program: all balances, a step each, by slot */

/* node_check.c */
enum err program_run(struct world *world,
                     struct program_reply *reply); /* the world's program, to its end */
void find_transfers(struct world *world);
void check_balances(struct world *world);
void check_transfers(struct world *world); /* after a restart */
void check_storage(struct world *world);

#endif
