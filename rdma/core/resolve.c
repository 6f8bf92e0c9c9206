/* Looking up names.
 *
 * getaddrinfo may take many seconds when a name server does not answer, and a port's thread must
 * not wait for it: it may own partitions, and other links. So a name is looked up by a thread of
 * its own, which ends with it. Whoever asked may lose interest first (the attempt to connect timed
 * out); then the thread frees the answer. At most LOOKUPS_MAX are under way in the process, so that
 * many links with an unknown name do not make many threads. */
#include "rdma/core/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/address.h"

enum { LOOKUPS_MAX = 16, STACK_SIZE = 256 << 10 };

struct resolve {
    atomic_int references; /* the thread's and the asker's */
    int fd;
    enum err err;
    struct diag diag;
    struct addrinfo *list;
    uint16_t port;
    char host[PORT_HOST_SIZE_MAX + 1];
};

static atomic_int lookups;

static int lookup(const char *host, uint16_t port, int flags, struct addrinfo **ret_list)
{
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    return getaddrinfo(host, service, &hints, ret_list);
}

enum err resolve_numeric(const char *host, uint16_t port, bool passive, struct addrinfo **ret_list)
{
    int failed = lookup(host, port, AI_NUMERICHOST | (passive ? AI_PASSIVE : 0), ret_list);
    if (failed == EAI_MEMORY) return ERR_NO_MEMORY;
    return failed ? ERR_NOT_FOUND : ERR_NONE;
}

enum err resolve_now(const char *host, uint16_t port, bool passive, struct addrinfo **ret_list,
                     struct diag *diag)
{
    int failed = lookup(host, port, passive ? AI_PASSIVE : 0, ret_list);
    if (!failed) return ERR_NONE;
    if (failed == EAI_MEMORY) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    const char *why = failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed);
    return diag_set(diag, ERR_NOT_FOUND, "the host '%s' is not known: %s", host, why);
}

static void resolve_release(struct resolve *resolve)
{
    if (atomic_fetch_sub(&resolve->references, 1) > 1) return;
    if (resolve->list) freeaddrinfo(resolve->list);
    close(resolve->fd);
    free(resolve);
}

static void *resolve_run(void *argument)
{
    struct resolve *resolve = argument;
    resolve->err = resolve_now(resolve->host, resolve->port, false, &resolve->list, &resolve->diag);
    uint64_t one = 1;
    ssize_t written = write(resolve->fd, &one, sizeof(one));
    ASSERT(written == (ssize_t)sizeof(one));
    resolve_release(resolve);
    atomic_fetch_sub(&lookups, 1);
    return NULL;
}

/* All signals stay with the program's own threads. */
static int thread_start(struct resolve *resolve)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return ENOMEM;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int failed = pthread_create(&thread, &attributes, resolve_run, resolve);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

enum err resolve_start(const char *host, uint16_t port, struct resolve **ret_resolve,
                       struct diag *diag)
{
    if (atomic_fetch_add(&lookups, 1) >= LOOKUPS_MAX) {
        atomic_fetch_sub(&lookups, 1);
        return diag_set(diag, ERR_BUSY, "%d host names are being looked up already", LOOKUPS_MAX);
    }
    enum err err = ERR_NO_MEMORY;
    struct resolve *resolve = calloc(1, sizeof(*resolve));
    if (!resolve) goto uncount;
    atomic_init(&resolve->references, 2);
    resolve->port = port;
    snprintf(resolve->host, sizeof(resolve->host), "%s", host);
    err = ERR_BUSY;
    resolve->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolve->fd < 0) goto free_resolve;
    if (thread_start(resolve)) goto close_fd;
    *ret_resolve = resolve;
    return ERR_NONE;

close_fd:
    close(resolve->fd);
free_resolve:
    free(resolve);
uncount:
    atomic_fetch_sub(&lookups, 1);
    return diag_set(diag, err, "the host '%s' cannot be looked up: %s", host, err_text(err));
}

int resolve_fd(const struct resolve *resolve)
{
    return resolve->fd;
}

enum err resolve_take(struct resolve *resolve, struct addrinfo **ret_list, struct diag *diag)
{
    /* Reading what the thread wrote last is what makes the rest of its writes visible. */
    uint64_t one;
    ssize_t got = read(resolve->fd, &one, sizeof(one));
    ASSERT(got == (ssize_t)sizeof(one));
    if (resolve->err) return diag_set(diag, resolve->err, "%s", resolve->diag.text);
    *ret_list = resolve->list;
    resolve->list = NULL;
    return ERR_NONE;
}

void resolve_destroy(struct resolve *resolve)
{
    if (resolve) resolve_release(resolve);
}
