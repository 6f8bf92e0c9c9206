/* A small world for the tests of links: endpoints of one back end, all polled by one thread (or
 * each by its own), whose messages carry content that can be checked.
 *
 * Message k of a flow (one direction of one link) has a size and content that follow from k, so the
 * receiver knows whether it is the next one, whole and undamaged. */
#ifndef TESTS_UNIT_RDMA_HARNESS_H
#define TESTS_UNIT_RDMA_HARNESS_H

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rdma/port.h"
#include "rdma/sim.h"
#include "tests/unit/rdma/backends.h"

enum { ENDPOINTS_MAX = 8, FLOWS_MAX = 512 };

struct endpoint;
struct world;

/* What an endpoint knows of one link: its link_context. */
struct flow {
    struct endpoint *endpoint;
    struct link *link; /* NULL: not up, or free */
    bool used;
    bool broken; /* a wrong message arrived */
    uint64_t sent, received, received_bytes;
    unsigned ups, downs;
};

struct endpoint {
    struct world *world;
    struct port *port;
    struct port_config config;
    struct port_address bound; /* when it listens */
    struct flow flows[FLOWS_MAX];
    bool paused;                          /* not polled by world_turn */
    bool echo;                            /* sends every message back */
    bool keep_links;                      /* flows of accepted links stay used when they go down */
    uint32_t (*size_of)(uint64_t number); /* NULL: size_mixed */
    enum err up_answer;
    /* Called instead of the check; owns the message. */
    void (*on_message)(struct flow *flow, uint8_t *message, uint32_t size);
    void (*on_up)(struct flow *flow);
    void (*on_down)(struct flow *flow);
    bool refuse_alloc;
    unsigned ups, downs;
    uint64_t received;
    struct diag last_down;
    atomic_long messages_alive; /* of alloc, neither handed out nor released */
    bool broken;
};

struct world {
    enum test_backend_number backend;
    struct sim_net *net;
    struct endpoint *endpoints[ENDPOINTS_MAX];
    unsigned count;
};

void world_init(struct world *world, enum test_backend_number backend);
/* Destroys what is left and checks that no message's memory was lost. */
void world_fini(struct world *world);
/* Every endpoint: poll, flush. Simulated time moves on. */
void world_turn(struct world *world);
/* A turn of somebody who only waits: when it brought nothing, the core is others' for a moment. */
void world_rest(struct world *world);
uint64_t world_now_ns(const struct world *world);

/* With what every test wants, which it may change before endpoint_start. */
struct endpoint *endpoint_create(struct world *world);
void endpoint_start(struct endpoint *endpoint);
void endpoint_stop(struct endpoint *endpoint); /* destroys the port; it may be started again */
void endpoint_listen(struct endpoint *endpoint);
struct flow *endpoint_connect(struct endpoint *endpoint, const struct endpoint *to,
                              const struct link_options *options);
/* A listening and a connected endpoint with one link that is up. */
struct flow *world_pair(struct world *world, struct endpoint **ret_a, struct endpoint **ret_b);
/* The only flow of the endpoint that is up. */
struct flow *endpoint_flow(struct endpoint *endpoint);
unsigned endpoint_up_count(const struct endpoint *endpoint);

uint32_t size_small(uint64_t number); /* 64 */
uint32_t size_mixed(uint64_t number); /* 1 .. 300 mostly, at times 20,000 */
/* Sends the flow's next message; ERR_BUSY and others are passed on. */
enum err flow_send(struct flow *flow);
/* A message of the harness's content, for those who send by themselves. */
void content_fill(uint64_t number, uint8_t *bytes, uint32_t size);
bool content_is_right(uint64_t number, const uint8_t *bytes, uint32_t size);

/* Rounds of a test: fewer under a sanitizer, or where TRELLIS_TEST_SCALE (a divisor) says so. */
uint64_t rounds(uint64_t count);
uint64_t clock_now_ns(void);

/* Turns until the condition holds; fails the test after 20 seconds (of simulated time, too). */
#define UNTIL(world, condition)                                                                    \
    do {                                                                                           \
        uint64_t until_start_ = world_now_ns(world);                                               \
        uint64_t until_limit_ = (uint64_t)20 * 1000000000u * until_patience();                     \
        while (!(condition)) {                                                                     \
            world_rest(world);                                                                     \
            cr_assert(world_now_ns(world) - until_start_ < until_limit_, "line %d: in vain: %s",   \
                      __LINE__, #condition);                                                       \
        }                                                                                          \
    } while (0)
uint64_t until_patience(void);

void turn_for_ms(struct world *world, uint64_t ms);

/* Defines the case for every back end. */
#define LINK_TEST(name)                                                                            \
    static void name(enum test_backend_number backend);                                            \
    LINK_TEST_ONE(tcp, TEST_TCP, name)                                                             \
    LINK_TEST_ONE(tls, TEST_TLS, name)                                                             \
    LINK_TEST_ONE(sim, TEST_SIM, name)                                                             \
    LINK_TEST_ONE(shm, TEST_SHM, name)                                                             \
    LINK_TEST_ONE(verbs, TEST_VERBS, name)                                                         \
    static void name(enum test_backend_number backend)
/* Only for those whose ports may be in several threads or processes. */
#define LINK_TEST_REAL(name)                                                                       \
    static void name(enum test_backend_number backend);                                            \
    LINK_TEST_ONE(tcp, TEST_TCP, name)                                                             \
    LINK_TEST_ONE(tls, TEST_TLS, name)                                                             \
    LINK_TEST_ONE(shm, TEST_SHM, name)                                                             \
    LINK_TEST_ONE(verbs, TEST_VERBS, name)                                                         \
    static void name(enum test_backend_number backend)
#define LINK_TEST_ONE(suite, number, name)                                                         \
    Test(suite, name)                                                                              \
    {                                                                                              \
        if (!test_backend_runs(number)) cr_skip_test("not available here");                        \
        name(number);                                                                              \
    }

#endif
