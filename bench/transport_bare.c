/* What a round trip over TCP costs with nothing around it: two processes, one connection over
 * loopback, and per message one epoll_wait, one recv and one send on each side, as in any event
 * loop. Our tcp is measured against it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/transport.h"

struct bare {
    int fd, epoll_fd;
    int timeout_ms; /* 0: spinning */
    uint32_t size;
    uint8_t bytes[TRANSPORT_SIZE_MAX];
};

static bool watch(struct bare *bare)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN};
    bare->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return bare->epoll_fd >= 0 &&
           setsockopt(bare->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           epoll_ctl(bare->epoll_fd, EPOLL_CTL_ADD, bare->fd, &event) == 0;
}

static bool send_one(struct bare *bare)
{
    for (uint32_t done = 0; done < bare->size;) {
        ssize_t sent = send(bare->fd, bare->bytes + done, bare->size - done, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        done += (uint32_t)sent;
    }
    return true;
}

static bool receive_one(struct bare *bare)
{
    for (uint32_t done = 0; done < bare->size;) {
        struct epoll_event event;
        int ready = epoll_wait(bare->epoll_fd, &event, 1, bare->timeout_ms);
        if (ready < 0 && errno != EINTR) return false;
        if (ready <= 0) continue;
        ssize_t got = recv(bare->fd, bare->bytes + done, bare->size - done, MSG_DONTWAIT);
        if (got <= 0) return false;
        done += (uint32_t)got;
    }
    return true;
}

/* A listening socket on loopback. */
static int listen_anywhere(struct sockaddr_in *ret_address)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        listen(fd, 1) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
        *ret_address = address;
        return fd;
    }
    if (fd >= 0) (void)close(fd);
    return -1;
}

static void answer_all(struct bare *bare, int listen_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    transport_pin(1);
    bare->fd = accept(listen_fd, NULL, NULL);
    if (bare->fd < 0 || !watch(bare) || send(bare->fd, "", 1, MSG_NOSIGNAL) != 1) _exit(1);
    while (receive_one(bare) && send_one(bare))
        ;
    _exit(0);
}

/* The other side is on its core: with real-time priorities it could not get there any more once
 * this side spins. */
static bool wait_for_other(const struct bare *bare)
{
    uint8_t byte;
    return recv(bare->fd, &byte, 1, 0) == 1;
}

static bool measure(struct bare *bare, const struct transport_load *load, struct hist *hist)
{
    uint64_t start = transport_ticks();
    uint64_t warm = start + (uint64_t)(load->warm_seconds * 1e9 / transport_tick_ns());
    uint64_t end = warm + (uint64_t)(load->seconds * 1e9 / transport_tick_ns());
    for (uint64_t sent = start; sent < end;) {
        if (!send_one(bare) || !receive_one(bare)) return false;
        uint64_t back = transport_ticks();
        if (sent >= warm) hist_add(hist, back - sent);
        sent = back;
    }
    return true;
}

enum err transport_bare_tcp(bool spinning, const struct transport_load *load, struct hist *ret_hist,
                            struct diag *diag)
{
    struct sockaddr_in address;
    struct bare *bare = calloc(1, sizeof(*bare));
    if (!bare) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    *bare = (struct bare){.fd = -1, .epoll_fd = -1, .size = load->size};
    bare->timeout_ms = spinning ? 0 : 20000;
    int listen_fd = listen_anywhere(&address);
    pid_t child = listen_fd < 0 ? -1 : fork();
    if (child == 0) answer_all(bare, listen_fd);
    struct hist hist;
    hist_init(&hist);
    bool good = child > 0;
    if (good) bare->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    good = good && bare->fd >= 0 &&
           connect(bare->fd, (struct sockaddr *)&address, sizeof(address)) == 0 && watch(bare) &&
           wait_for_other(bare) && measure(bare, load, &hist);
    enum err err = ERR_NONE;
    if (!good)
        err = diag_set(diag, ERR_IO, "the bare connection failed: %s", strerror(errno));
    else
        *ret_hist = hist;
    if (bare->fd >= 0) (void)close(bare->fd);
    if (bare->epoll_fd >= 0) (void)close(bare->epoll_fd);
    if (listen_fd >= 0) (void)close(listen_fd);
    if (child > 0) {
        if (!good) (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    free(bare);
    return err;
}
