/* A whole node in the simulator: its workers without threads, its signals on a network of random
 * delays, its disk and clock those of a struct sim. One seed decides everything. For tests.
 *
 * Signals between two endpoints keep their order; between different pairs any order may happen. */
#ifndef DB_NODE_SIM_NODE_H
#define DB_NODE_SIM_NODE_H

#include "db/node/node.h"
#include "db/node/sim.h"

struct sim_node;

struct sim_node_config {
    struct sim *sim;
    uint16_t worker_count;
    uint16_t partition_count; /* of a new store */
    bool flush_always;
    uint32_t flush_interval_ms;
    uint64_t checkpoint_log_bytes;
    uint64_t memory_max;
    struct sim_net *net; /* for links with simulated clients; NULL: none */
    uint32_t net_node;   /* worker 0's number in it; the others follow */
    const struct worker_module *modules[NODE_MODULES_MAX];
};

/* Opens (first makes, where there is none) the store on the simulated disk. Errors as of
 * node_create. */
MUST_USE enum err sim_node_create(const struct sim_node_config *config, struct sim_node **ret_node,
                                  struct diag *diag);
struct node *sim_node_node(struct sim_node *self);
/* Lets one thing happen: a signal arrives, a worker takes a turn, a disk job ends, time passes.
 * False: there was nothing to do but to let time pass. */
bool sim_node_step(struct sim_node *self);
/* Signals under way and in mailboxes of workers. */
uint32_t sim_node_signals(const struct sim_node *self);
/* The power goes: what was not on disk is lost, as sim_crash says. The node is gone; self is freed.
 */
void sim_node_crash(struct sim_node *self);
/* Ends in order. Clients are closed before. */
MUST_USE enum err sim_node_stop(struct sim_node *self, struct diag *diag);

#endif
