/* Where a port listens or connects to, as text:
 *
 *     tcp:HOST:PORT      verbs:HOST:PORT      shm:PATH      sim:NUMBER
 *
 * HOST is a name, an IPv4 address or an IPv6 address in brackets; `tls:HOST:PORT` is tcp with TLS.
 * PATH is that of a socket in the file system, through which two processes of one host hand each
 * other the shared memory. PORT 0, when listening, lets the system choose. */
#ifndef RDMA_ADDRESS_H
#define RDMA_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"

enum link_kind { LINK_TCP = 0, LINK_SHM = 1, LINK_VERBS = 2, LINK_SIM = 3, LINK_KINDS = 4 };

enum { PORT_HOST_SIZE_MAX = 255, PORT_PATH_SIZE_MAX = 4095, PORT_ADDRESS_TEXT_SIZE = 4112 };

struct port_address {
    enum link_kind kind;
    bool tls;      /* LINK_TCP only */
    uint16_t port; /* LINK_TCP, LINK_VERBS */
    uint32_t sim;  /* LINK_SIM: a node of the simulated network */
    char host[PORT_HOST_SIZE_MAX + 1];
    char path[PORT_PATH_SIZE_MAX + 1]; /* LINK_SHM */
};

/* ERR_INVALID with a reason that quotes the text. */
MUST_USE enum err port_address_parse(const char *text, struct port_address *ret_address,
                                     struct diag *diag);
/* The text of an address; always NUL-terminated, and read by port_address_parse as the same. */
void port_address_format(const struct port_address *address, char text[PORT_ADDRESS_TEXT_SIZE]);
const char *link_kind_name(enum link_kind kind);

#endif
