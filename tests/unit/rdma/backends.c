#include "tests/unit/rdma/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

const struct test_backend test_backends[TEST_BACKENDS] = {
    [TEST_TCP] = {"tcp", true}, [TEST_TLS] = {"tls", true},     [TEST_SIM] = {"sim", false},
    [TEST_SHM] = {"shm", true}, [TEST_VERBS] = {"verbs", true},
};

static enum link_kind kind_of(enum test_backend_number number)
{
    static const enum link_kind kinds[TEST_BACKENDS] = {LINK_TCP, LINK_TCP, LINK_SIM, LINK_SHM,
                                                        LINK_VERBS};
    return kinds[number];
}

void test_backend_address(enum test_backend_number number, uint32_t node,
                          struct port_address *ret_address)
{
    static unsigned count;
    struct port_address address = {.kind = kind_of(number), .tls = number == TEST_TLS};
    const char *host = number == TEST_VERBS ? getenv("TRELLIS_TEST_VERBS_HOST") : "127.0.0.1";
    const char *folder = getenv("TMPDIR");
    if (host) snprintf(address.host, sizeof(address.host), "%s", host);
    snprintf(address.path, sizeof(address.path), "%s/trellis-test-%d-%u", folder ? folder : "/tmp",
             (int)getpid(), count++);
    address.sim = node;
    *ret_address = address;
}

static void ignore_down(void *context, struct link *link, const struct diag *reason)
{
    (void)context, (void)link, (void)reason;
}

bool test_backend_runs(enum test_backend_number number)
{
    if (number == TEST_SIM) return true;
    if (number == TEST_VERBS && !getenv("TRELLIS_TEST_VERBS_HOST")) return false;
    static const struct port_events events = {.down = ignore_down};
    struct port_config config = {.events = &events};
    struct port *port;
    struct diag diag;
    if (port_create(&config, &port, &diag)) return false;
    struct port_address address;
    test_backend_address(number, 0, &address);
    enum err err = port_listen(port, &address, NULL, &diag);
    port_destroy(port);
    return !err;
}
