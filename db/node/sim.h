/* The simulated environment: one seed decides every latency, torn write and fault, so a failing
 * seed repeats. Single-threaded: the test calls sim_step() until nothing is left to do.
 *
 * Its disk keeps, for every file, what is durable and the writes since the last sync. sim_crash()
 * keeps the durable part and, of the writes not synced, a random subset in 512-byte sectors (a torn
 * or lost write; directory operations not synced by dir_sync are likewise kept or lost, each as a
 * whole and in order of dependency), as disks and file systems may do after a power cut. */
#ifndef DB_NODE_SIM_H
#define DB_NODE_SIM_H

#include <stdbool.h>

#include "db/node/env.h"

struct sim;

struct sim_config {
    uint64_t seed;
    uint64_t disk_latency_ns_min;
    uint64_t disk_latency_ns_max;
    uint64_t disk_size_max;     /* bytes over all files; ERR_NO_SPACE beyond; 0: no limit */
    uint32_t fault_per_million; /* chance of an ERR_IO per file call while faults are on */
};

MUST_USE enum err sim_create(const struct sim_config *config, struct sim **ret_sim);
void sim_destroy(struct sim *sim);
struct env *sim_env(struct sim *sim);
void sim_set_done(struct sim *sim, env_done_fn done, void *node);
void sim_set_wake(struct sim *sim, env_wake_fn wake); /* with the node of sim_set_done */
uint64_t sim_random(struct sim *sim); /* for the test's own choices, from the same seed */
/* Runs the next due job (its run() and then done()), moving the clock to it. False: no job is
 * queued. */
bool sim_step(struct sim *sim);
void sim_advance(struct sim *sim, uint64_t ns);
void sim_faults(struct sim *sim, bool on);
/* The k-th file call from now fails with ERR_IO (k from 1; 0 disarms); sim_fault_fired tells
 * whether it did. */
void sim_fault_arm(struct sim *sim, uint64_t k, enum err err);
bool sim_fault_fired(const struct sim *sim);
/* The power goes at the k-th file call from now (0 disarms): that call (a write or sync: perhaps in
 * part) and every later one fail with ERR_IO and change nothing more, until sim_crash. sim_halted
 * tells whether it did. A sweep over k crashes a program between any two of its file calls, also
 * inside one job. */
void sim_halt_arm(struct sim *sim, uint64_t k);
bool sim_halted(const struct sim *sim);
/* Power cut: queued jobs are dropped without done(), open files become invalid (closing them is
 * still allowed and required), the disk keeps what a disk may keep. The clock and the random stream
 * go on. */
void sim_crash(struct sim *sim);
/* Flips `bits` random bits of the durable content of a file at or after offset. ERR_NOT_FOUND. */
MUST_USE enum err sim_corrupt(struct sim *sim, const char *path, uint64_t offset, unsigned bits);

#endif
