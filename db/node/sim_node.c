/* The simulated node's scheduler.
 *
 * There is no order of events but what the seed makes: each step picks at random between delivering
 * the head of some link, giving a worker a turn, finishing the next disk job, and letting time
 * pass. Every interleaving of whole turns that threads could show can come up, and most come up
 * often, since delivery is as likely as work. */
#include "db/node/sim_node.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/node/worker_private.h"

struct link {
    uint32_t source;
    uint32_t destination;
    struct signal *first;
    struct signal *last;
};

struct sim_node {
    struct sim *sim;
    struct node *node;
    struct link *links; /* those with signals come first */
    uint32_t link_count;
    uint32_t link_capacity;
    uint32_t busy_count;
};

static uint32_t pick(struct sim_node *self, uint32_t count)
{
    return (uint32_t)(sim_random(self->sim) % count);
}

/* ---- the network ---- */

static struct link *link_of(struct sim_node *self, uint32_t source, uint32_t destination)
{
    for (uint32_t i = 0; i < self->link_count; i++) {
        struct link *link = &self->links[i];
        if (link->source == source && link->destination == destination) return link;
    }
    if (self->link_count == self->link_capacity) {
        self->link_capacity = self->link_capacity ? self->link_capacity * 2 : 64;
        self->links = realloc(self->links, self->link_capacity * sizeof(*self->links));
        ASSERT(self->links);
    }
    struct link *link = &self->links[self->link_count++];
    *link = (struct link){.source = source, .destination = destination};
    return link;
}

static void link_swap(struct link *a, struct link *b)
{
    struct link saved = *a;
    *a = *b;
    *b = saved;
}

static void transport(void *context, struct signal *signal)
{
    struct sim_node *self = context;
    struct link *link = link_of(self, signal->header.source, signal->header.destination);
    signal->next = NULL;
    if (link->first) {
        link->last->next = signal;
        link->last = signal;
        return;
    }
    link->first = link->last = signal;
    link_swap(link, &self->links[self->busy_count++]);
}

static void deliver_one(struct sim_node *self)
{
    struct link *link = &self->links[pick(self, self->busy_count)];
    struct signal *signal = link->first;
    link->first = signal->next;
    signal->next = NULL;
    if (!link->first) link_swap(link, &self->links[--self->busy_count]);
    node_deliver(self->node, signal);
}

/* ---- life ---- */

static void self_free(struct sim_node *self)
{
    for (uint32_t i = 0; i < self->busy_count; i++) {
        while (self->links[i].first) {
            struct signal *signal = self->links[i].first;
            self->links[i].first = signal->next;
            signal_destroy(signal);
        }
    }
    free(self->links);
    free(self);
}

/* Its own network swallows what the node's last acts send. */
static void node_end(struct sim_node *self)
{
    node_destroy(self->node);
    self_free(self);
}

enum err sim_node_create(const struct sim_node_config *config, struct sim_node **ret_node,
                         struct diag *diag)
{
    struct sim_node *self = calloc(1, sizeof(*self));
    if (!self) return ERR_NO_MEMORY;
    self->sim = config->sim;
    struct env *env = sim_env(config->sim);
    struct env_file *file;
    enum err err = env->ops->file_open(env, "trellis", ENV_OPEN_READ, &file);
    if (!err) {
        env->ops->file_close(file);
    } else if (err == ERR_NOT_FOUND) {
        err = store_create(env, config->partition_count, diag);
        if (err) goto free_self;
    } else {
        goto free_self;
    }
    struct node_config node_config = {
        .env = env,
        .worker_count = config->worker_count,
        .flush_always = config->flush_always,
        .flush_interval_ms = config->flush_interval_ms,
        .checkpoint_log_bytes = config->checkpoint_log_bytes,
        .checkpoint_interval_ns = 1000000,
        .memory_max = config->memory_max,
        .query_memory_max = 64u << 20,
        .sim_net = config->net,
        .sim_net_node = config->net_node,
        .transport = transport,
        .transport_context = self,
    };
    memcpy(node_config.modules, config->modules, sizeof(node_config.modules));
    err = node_create(&node_config, &self->node, diag);
    if (err) goto free_self;
    sim_set_done(config->sim, node_job_done, self->node);
    sim_set_wake(config->sim, node_wake);
    *ret_node = self;
    return ERR_NONE;

free_self:
    self_free(self);
    return err;
}

struct node *sim_node_node(struct sim_node *self)
{
    return self->node;
}

uint32_t sim_node_signals(const struct sim_node *self)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->busy_count; i++)
        for (const struct signal *signal = self->links[i].first; signal; signal = signal->next)
            count++;
    for (uint16_t i = 0; i < self->node->worker_count; i++)
        count += mailbox_count(&self->node->workers[i]->mailbox);
    return count;
}

static bool turn_one(struct sim_node *self)
{
    uint16_t count = self->node->worker_count;
    uint16_t first = (uint16_t)pick(self, count);
    for (uint16_t i = 0; i < count; i++) {
        struct worker *worker = self->node->workers[(first + i) % count];
        if (!worker_is_ready(worker)) continue;
        worker_turn(worker);
        return true;
    }
    return false;
}

bool sim_node_step(struct sim_node *self)
{
    /* Time passes a little with everything, so that no two moments are the same. */
    sim_advance(self->sim, 100 + pick(self, 20000));
    switch (pick(self, 8)) {
    case 0:
    case 1:
    case 2:
        if (self->busy_count) {
            deliver_one(self);
            return true;
        }
        break;
    case 3:
        if (sim_step(self->sim)) return true;
        break;
    default:
        if (turn_one(self)) return true;
    }
    if (self->busy_count) {
        deliver_one(self);
        return true;
    }
    if (turn_one(self)) return true;
    if (sim_step(self->sim)) return true;
    /* Only timers are left. */
    sim_advance(self->sim, 1000000u * (1 + pick(self, 20)));
    return false;
}

void sim_node_crash(struct sim_node *self)
{
    sim_crash(self->sim);
    node_end(self);
}

enum err sim_node_stop(struct sim_node *self, struct diag *diag)
{
    struct node *node = self->node;
    atomic_store(&node->closing, true);
    while (!node_is_idle(node))
        sim_node_step(self);
    enum err err = node_stop(node, diag);
    node_end(self);
    return err;
}
