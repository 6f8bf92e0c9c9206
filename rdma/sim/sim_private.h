/* The insides of the simulated network, shared by the files of sim/. */
#ifndef RDMA_SIM_SIM_PRIVATE_H
#define RDMA_SIM_SIM_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "rdma/core/backend.h"
#include "rdma/core/batch.h"
#include "rdma/sim.h"

struct sim;

enum {
    /* Small, so that messages are cut into pieces often. */
    SIM_BATCH_SIZE_MAX = 2048,
};

enum sim_event_kind {
    SIM_CONNECT,   /* to the acceptor */
    SIM_CONNECTED, /* to the connector */
    SIM_BATCH,
    SIM_LOST,
    SIM_WRITABLE,
};

struct sim_event {
    uint64_t at_ns, serial; /* handled in the order of these */
    enum sim_event_kind kind;
    unsigned end; /* of the wire: whom it is for */
    struct sim_wire *wire;
    uint8_t *bytes;
    uint32_t size;
    enum err err;
    const char *text; /* static */
};

struct sim_posted {
    struct sim_posted *next;
    uint32_t size;
    uint8_t bytes[];
};

/* One side of a connection: the back end's half of a link. */
struct sim_end {
    struct sim_wire *wire;
    unsigned index; /* 0: the connector's */
    uint32_t node;
    struct sim *sim; /* NULL: not there yet, or closed */
    struct link *link;
    uint64_t arrival_ns; /* of the last thing sent to this end: nothing overtakes it */
    uint32_t under_way;  /* batches on their way to this end */
    bool deaf;           /* batches to this end are lost from now on */
    bool lost;           /* SIM_LOST is on its way to it, or was handled */
    bool orphan;         /* the other end is gone without a word */
    uint32_t posts;      /* from this end, ever */
    uint8_t *reserved;
    struct sim_posted *posted, **posted_tail;
};

/* A connection, from its first attempt until both ends and all events are gone. */
struct sim_wire {
    struct sim_net *net;
    struct sim_end ends[2];
    uint32_t references;
    struct sim_wire *next, *previous;
};

/* The back end of one port. */
struct sim {
    struct backend_head head;
    struct sim_net *net;
    uint32_t node;
    bool listening;
    bool dead;                /* killed */
    struct sim_event *events; /* a heap */
    uint32_t event_count, event_capacity;
    struct sim *next; /* in the net */
};

/* What ails the connection between two nodes. */
struct sim_pair {
    uint32_t a, b; /* a <= b */
    bool silence, refuse, slow;
    bool corrupt_to_a, corrupt_to_b;
    struct sim_pair *next;
};

struct sim_net {
    struct sim_net_config config;
    uint64_t random_state;
    uint64_t now_ns;
    uint64_t serial;
    struct sim *sims;
    struct sim_wire *wires;
    struct sim_pair *pairs;
};

/* ---- net.c ---- */
uint64_t sim_net_draw(struct sim_net *net);
uint64_t sim_delay_ns(struct sim_net *net, const struct sim_pair *pair);
/* NULL: nothing ever ailed it. */
struct sim_pair *sim_pair_find(const struct sim_net *net, uint32_t a, uint32_t b);
/* The living port of the node that listens, or NULL. */
struct sim *sim_listener(const struct sim_net *net, uint32_t node);
struct sim_wire *sim_wire_create(struct sim_net *net);
void sim_wire_release(struct sim_wire *wire);
/* Tells the end that its connection is over, at the time given or after what is under way. */
void sim_lose(struct sim_end *end, uint64_t at_ns, enum err err, const char *text);

/* ---- sim.c ---- */
/* Takes a reference to the wire. `bytes` become its. */
void sim_event_push(struct sim *sim, struct sim_event event);

#endif
