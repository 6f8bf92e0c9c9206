/* The back ends that the tests of links run over, and where each listens. */
#ifndef TESTS_UNIT_RDMA_BACKENDS_H
#define TESTS_UNIT_RDMA_BACKENDS_H

#include <stdbool.h>

#include "rdma/port.h"

struct test_backend {
    const char *name;
    bool crosses_processes; /* ports of several threads and processes; else of one thread only */
};

enum test_backend_number { TEST_TCP, TEST_TLS, TEST_SIM, TEST_SHM, TEST_VERBS, TEST_BACKENDS };
extern const struct test_backend test_backends[TEST_BACKENDS];

/* Whether it can run here: built in, and for verbs whether TRELLIS_TEST_VERBS_HOST names an address
 * of an RDMA device. */
bool test_backend_runs(enum test_backend_number number);
/* An address to listen at, with port 0 or a fresh path. `node` numbers the ports of a test. */
void test_backend_address(enum test_backend_number number, uint32_t node,
                          struct port_address *ret_address);

#endif
