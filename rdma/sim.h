/* A simulated network between ports of one thread: deterministic, from one seed and one clock
 * (which the ports in it use too, unless they have port_config.monotonic_ns).
 *
 * Batches take a random time and arrive in order per link; what else happens is asked for by
 * the test: the faults below. Ports in it are created with port_config.sim and sim_node. Simulated
 * time only moves by sim_net_advance; ports are polled by the test (or by the simulated nodes). */
#ifndef RDMA_SIM_H
#define RDMA_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sim_net;

struct sim_net_config {
    uint64_t seed;
    uint64_t delay_ns_min; /* of a batch; */
    uint64_t delay_ns_max; /* uniformly between the two */
    /* NULL: the network has a clock of its own. Else the simulator's. */
    uint64_t (*monotonic_ns)(void *clock_context);
    void *clock_context;
};

MUST_USE enum err sim_net_create(const struct sim_net_config *config, struct sim_net **ret_net);
/* After every port in it was destroyed. NULL is allowed. */
void sim_net_destroy(struct sim_net *net);

uint64_t sim_net_now_ns(const struct sim_net *net);
/* Bytes of the network's generator: what its ports use unless they have port_config.random. */
void sim_net_random(struct sim_net *net, void *bytes, size_t size);
/* When the next batch or event arrives; UINT64_MAX: none is under way. */
uint64_t sim_net_next_ns(const struct sim_net *net);
/* Moves the network's own clock forward. */
void sim_net_advance(struct sim_net *net, uint64_t ns);

/* Faults between two nodes, in both directions. */
enum sim_fault {
    SIM_FAULT_CUT = 0,     /* every link goes down now, on both sides; new ones come up */
    SIM_FAULT_RESET_A = 1, /* as seen by `a` only; `b` finds out when it sends or by keep-alive */
    SIM_FAULT_SILENCE = 2, /* until healed, everything sent is lost without a word */
    SIM_FAULT_REFUSE = 3,  /* until healed, new links are refused */
    SIM_FAULT_SLOW = 4,    /* until healed, delays are 100 times longer */
    SIM_FAULT_CORRUPT = 5, /* one bit of the next batch from a to b is flipped */
};
void sim_net_fault(struct sim_net *net, uint32_t a, uint32_t b, enum sim_fault fault);
void sim_net_heal(struct sim_net *net, uint32_t a, uint32_t b);
/* The node is gone (crashed): its ports get and send nothing any more; peers see a cut. */
void sim_net_kill(struct sim_net *net, uint32_t node);

#endif
