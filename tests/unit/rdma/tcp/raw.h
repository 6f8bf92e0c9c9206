/* Raw TCP peers for hostile tests: sockets that say what they like, also after they have
 * authenticated themselves, and a proxy that changes or records what passes. */
#ifndef TESTS_UNIT_RDMA_TCP_RAW_H
#define TESTS_UNIT_RDMA_TCP_RAW_H

#include "rdma/core/batch.h"
#include "rdma/core/handshake.h"
#include "tests/unit/rdma/harness.h"

/* A non-blocking socket connected to where the endpoint listens. */
int raw_connect(const struct endpoint *to);
void raw_send(int fd, const void *bytes, size_t size);
/* The other side has closed; what it sent before is thrown away. */
bool raw_is_closed(int fd);

/* A connector made by hand. */
struct raw_peer {
    struct world *world;
    int fd;
    uint64_t sequence;
    struct transcript transcript;
    struct handshake_keys keys;
};
/* Turns the world until the handshake is over. */
void raw_peer_join(struct raw_peer *peer, struct world *world, const struct endpoint *to);
/* Sends a batch; header->sequence is added to the peer's own. */
void raw_peer_send(struct raw_peer *peer, struct batch_header header, const void *body,
                   uint32_t body_size);
/* A batch of one of the frames of the handshake, as a raw peer would send it. */
uint32_t raw_hello(uint8_t *bytes, uint64_t sequence);

/* Forwards connections to the endpoint. */
struct proxy {
    const struct endpoint *to;
    int listener;
    uint16_t port;
    int fds[64][2]; /* the connector's, and ours to the endpoint; -1: free */
    uint64_t passed;
    uint64_t flip_at;     /* the bit of what passes that is flipped; UINT64_MAX: none */
    uint8_t record[4096]; /* what connectors said */
    size_t recorded;
};
void proxy_init(struct proxy *proxy, const struct endpoint *to);
void proxy_fini(struct proxy *proxy);
void proxy_turn(struct proxy *proxy);

#endif
