/* How long to look before sleeping. Private to rdma/; spin.c has the reasoning. */
#ifndef RDMA_CORE_SPIN_H
#define RDMA_CORE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/crowd.h"
#include "rdma/port.h"

struct spin {
    enum port_spin mode;
    uint64_t cost_ns;     /* of a sleep and wake-up */
    uint32_t gain;        /* share of the recent waits that a spin would have shortened, of 65536 */
    uint64_t idle_ns;     /* when there was nothing left to do; 0: busy */
    uint64_t budget_ns;   /* what was given last */
    uint64_t saved_ns;    /* how long may be looked in one wait, as those before took less */
    uint64_t slept_ns;    /* how long waits with a sleep in them took lately */
    uint32_t trial_left;  /* waits of the trial under way */
    uint32_t trial_waits; /* since the last one */
    uint32_t trial_gap;   /* how many it takes */
    struct crowd crowd;
};

void spin_init(struct spin *spin, enum port_spin mode);
void spin_fini(struct spin *spin);
/* The wait is over: something came. */
void spin_found(struct spin *spin, uint64_t now_ns);
/* There is nothing to do now. */
static inline void spin_idle(struct spin *spin, uint64_t now_ns)
{
    if (spin->mode == PORT_SPIN_ADAPTIVE && !spin->idle_ns) spin->idle_ns = now_ns;
}
/* How long to look from now on before sleeping; UINT64_MAX: do not sleep. */
uint64_t spin_budget_ns(struct spin *spin, uint64_t now_ns);

#endif
