/* Looking up the addresses of a name without blocking. Private to rdma/; resolve.c has the
 * reasoning. */
#ifndef RDMA_CORE_RESOLVE_H
#define RDMA_CORE_RESOLVE_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/err.h"

struct resolve;

/* An address written as numbers, at once. ERR_NOT_FOUND: it is a name. The list is the caller's
 * (freeaddrinfo). `passive`: for listening. */
MUST_USE enum err resolve_numeric(const char *host, uint16_t port, bool passive,
                                  struct addrinfo **ret_list);
/* A name or numbers, blocking: for listeners, at start. ERR_NOT_FOUND, ERR_NO_MEMORY. */
MUST_USE enum err resolve_now(const char *host, uint16_t port, bool passive,
                              struct addrinfo **ret_list, struct diag *diag);

/* Starts to look a name up. ERR_BUSY: too many names are being looked up, or no thread or
 * descriptor is left; ERR_NO_MEMORY. */
MUST_USE enum err resolve_start(const char *host, uint16_t port, struct resolve **ret_resolve,
                                struct diag *diag);
/* Readable once it is done. Borrowed until resolve_destroy, before which it is to be taken out of
 * an epoll. */
int resolve_fd(const struct resolve *resolve);
/* When it is done. ERR_NOT_FOUND, ERR_NO_MEMORY. The list becomes the caller's. */
MUST_USE enum err resolve_take(struct resolve *resolve, struct addrinfo **ret_list,
                               struct diag *diag);
/* At any time: what is under way ends by itself. NULL is allowed. */
void resolve_destroy(struct resolve *resolve);

#endif
