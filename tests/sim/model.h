/* What a store must hold: rows of small partitions, and the transactions that made them. The
 * simulation tells the model what it did; after a recovery the model says what must be there. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MODEL_PARTITIONS_MAX = 8,
    MODEL_KEYS = 24, /* of one partition */
    MODEL_CHANGES_MAX = 12,
};

/* A row is named by its partition and key; its content follows from its version; 0: there is none.
 */
struct model_change {
    uint16_t partition;
    uint16_t key;
    uint64_t version;
};

struct model_transaction {
    uint64_t ts;
    uint32_t change_count;
    struct model_change changes[MODEL_CHANGES_MAX];
};

struct model {
    uint64_t versions[MODEL_PARTITIONS_MAX][MODEL_KEYS]; /* without the transactions below */
    struct model_transaction *transactions;              /* since the last recovery */
    size_t transaction_count;
    size_t transaction_capacity;
    uint64_t version; /* the last one given */
};

void model_fini(struct model *model);
void model_add(struct model *model, const struct model_transaction *transaction);
/* A recovery kept what is up to the cut: folds that into versions and forgets the rest. */
void model_cut(struct model *model, uint64_t cut);
/* The greatest timestamp of a transaction, or 0. */
uint64_t model_ts_max(const struct model *model);

#endif
