/* What one file of the simulated disk holds, and what of it a power cut leaves. Used by
 * env_sim_disk.c. */
#ifndef DB_NODE_ENV_SIM_CONTENT_H
#define DB_NODE_ENV_SIM_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"

/* SplitMix64 (Steele, Lea and Flood, 2014): a counter through a bijective mix. */
struct sim_rng {
    uint64_t state;
};

static inline uint64_t sim_rng_next(struct sim_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15u;
    return hash_u64(rng->state);
}

/* In [0, count); count > 0. The bias is below count / 2^64. */
static inline uint64_t sim_rng_below(struct sim_rng *rng, uint64_t count)
{
    return sim_rng_next(rng) % count;
}

struct content_op;

struct content {
    struct buf live;        /* what reads see */
    struct buf durable;     /* what survives any power cut */
    struct content_op *ops; /* writes and truncations that lead from durable to live */
    size_t op_count;
    size_t op_capacity;
};

void content_init(struct content *content);
void content_fini(struct content *content);
/* Returns how many bytes there were to read. */
size_t content_read(const struct content *content, void *bytes, size_t size, uint64_t offset);
/* size > 0. */
void content_write(struct content *content, const void *bytes, size_t size, uint64_t offset);
void content_truncate(struct content *content, uint64_t size);
void content_sync(struct content *content);
/* Makes durable a random part, as a power cut or a failed sync may, and forgets that the rest was
 * ever to be written; reads still see it. */
void content_settle(struct content *content, struct sim_rng *rng);
/* A power cut: settles, and reads see only what is durable. */
void content_crash(struct content *content, struct sim_rng *rng);
/* Flips a bit that is within the durable content. */
void content_flip(struct content *content, uint64_t offset, unsigned bit);

#endif
