/* One life of a simulated store: its workers with their rows and logs, transactions over them,
 * flushes, checkpoints. */
#ifndef TESTS_SIM_LIFE_H
#define TESTS_SIM_LIFE_H

#include "db/ldm/redo.h"
#include "db/node/sim.h"
#include "tests/sim/model.h"

enum { LIFE_WORKERS_MAX = 3, LIFE_WAITING_MAX = 32 };

struct life_worker {
    struct ldm *ldm;
    struct redo *redo;
    uint64_t clock;
    unsigned open_count; /* shares that are prepared and wait for their commit */
};

/* One worker's part of a transaction. */
struct life_share {
    struct change_set *changes;
    uint64_t prepare_ts;
    uint64_t commit_ts;
    uint16_t worker;
};

/* A checkpoint of a partition that is being taken. */
struct life_checkpoint {
    struct life *life;
    struct checkpoint *checkpoint; /* NULL: none */
    uint64_t ts;
    bool written;
    bool publishing;
};

struct life {
    struct sim *sim;
    struct model *model;
    const struct catalog *catalog;
    uint16_t partition_count;
    uint16_t worker_count;
    struct partition *partitions[MODEL_PARTITIONS_MAX];
    struct ldm *partition_ldm[MODEL_PARTITIONS_MAX];
    struct life_worker workers[LIFE_WORKERS_MAX];
    /* Shares whose commit is decided and on its way. */
    struct life_share waiting[LIFE_WAITING_MAX];
    unsigned waiting_count;
    struct life_checkpoint checkpoints[MODEL_PARTITIONS_MAX];
    uint64_t published[MODEL_PARTITIONS_MAX];
    uint64_t durable; /* everything up to it was acknowledged as durable */
    uint64_t checkpoint_count;
    bool failed; /* a log has failed: nothing more can be done but to start again */
};

/* Empty workers and partitions. */
void life_init(struct life *life, struct sim *sim, struct model *model,
               const struct catalog *catalog, uint16_t partition_count, uint16_t worker_count);
/* After recovery: creates the logs. */
enum err life_start(struct life *life, const struct recovery_result *result,
                    uint64_t segment_size_max);
/* One random thing. */
void life_step(struct life *life);
/* Ends everything that is open and closes the logs. Whether that worked. */
bool life_close(struct life *life);
/* Drops everything, as a crash does. */
void life_fini(struct life *life);

/* The rows of a partition are exactly the model's versions. False: reason says why not. */
bool life_matches(struct life *life, char reason[256]);

#endif
