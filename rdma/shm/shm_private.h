/* The insides of the shared-memory back end, shared by its files. The essay is in shm.c. */
#ifndef RDMA_SHM_SHM_PRIVATE_H
#define RDMA_SHM_SHM_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "rdma/core/backend.h"
#include "rdma/shm/local_socket.h"
#include "rdma/shm/ring.h"
#include "rdma/shm/segment.h"

struct backend_link {
    struct backend_watch watch; /* of fd */
    struct backend *shm;
    struct link *link;
    int fd;
    uint32_t index;        /* in shm->rows; UINT32_MAX: not there, it has no memory yet */
    bool starved;          /* no room was left: core_writable is to be called */
    bool posted;           /* since the last flush */
    bool connected_due;    /* core_connected is to be called */
    bool hung_up;          /* the peer is gone: what it left in the ring is still delivered */
    bool broken;           /* the peer has claimed what cannot be */
    bool wake_owed;        /* waking the peer has failed and is tried again */
    bool is_due;           /* in shm->due */
    uint32_t last_batches; /* that are still taken after hung_up */
    uint32_t woken;        /* times; every so often the socket is emptied */
    uint64_t wakes;        /* system calls that woke the peer */
    enum err failure;      /* core_lost is to be called with it */
    char *failure_text;    /* heap */
    struct backend_link *due_next;
    struct segment segment;
    struct ring_producer producer;
    struct ring_consumer consumer;
};

/* A link with memory. The first hot_count are looked at in every poll, the others only now and
 * then: their peers wake us. */
struct row {
    const ring_word_t *watched;
    struct backend_link *at;
    uint32_t idle; /* polls in a row that found nothing */
};

struct listener {
    struct backend_watch watch;
    struct backend *shm;
    struct local_listener socket;
    bool paused; /* no descriptors were left: tried again at retry_ns */
};

struct backend {
    struct backend_head head;
    int epoll_fd;
    struct row *rows;
    uint32_t count, hot_count, capacity;
    uint32_t next_hot, next_cold; /* where the next poll begins */
    uint32_t starved;             /* links whose producer waits for room */
    struct backend_link *serving; /* whose batch is with the core right now */
    bool serving_closed;          /* it was closed meanwhile: freed when the core returns */
    struct backend_link *due;     /* have something to tell at the next poll */
    uint64_t retry_ns;            /* wakes that are owed and paused listeners; UINT64_MAX: none */
    size_t memory_bytes;          /* of all segments */
    struct listener *listeners[PORT_LISTENERS_MAX];
    uint32_t listener_count;
};

enum { SHM_RETRY_NS = 1000 * 1000, SHM_PAUSE_NS = 100 * 1000 * 1000 };

/* ---- shm.c ---- */
void shm_due(struct backend_link *at);
void shm_retry_in(struct backend *shm, uint64_t ns);
/* Room for one more row. */
MUST_USE bool shm_rows_grow(struct backend *shm);
/* The link has its memory: it is looked at from now on. */
void shm_row_add(struct backend_link *at);
void shm_make_hot(struct backend_link *at);

/* ---- meet.c ---- */
enum err shm_listen(struct backend *shm, const struct port_address *address,
                    struct port_address *ret_bound, struct diag *diag);
enum err shm_connect(struct backend *shm, struct link *link, const struct port_address *address,
                     struct diag *diag);
/* Gives back everything of a link that is in no list any more. */
void shm_link_unmake(struct backend_link *at);
void shm_listener_destroy(struct listener *listener);
/* Listeners that were paused accept again. */
void shm_listeners_resume(struct backend *shm);

#endif
