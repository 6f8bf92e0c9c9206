/* The serving side of `bench meta`: see meta.h. */
#include "bench/meta.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/transport.h"

enum err meta_serve(struct meta_server *server, int told_fd, struct diag *diag)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    const struct db_config config = {
        .dir = server->store, .create = true, .worker_count = 1, .link_spin = server->spin};
    struct db *db = NULL;
    enum err err = db_open_embedded(&config, &db, diag);
    for (unsigned i = 0; i < server->count && !err; i++) {
        struct port_address bound;
        err = db_listen(db, &server->addresses[i], server->secret, &bound, diag);
        if (!err) server->addresses[i] = bound;
    }
    if (!err && told_fd >= 0) {
        size_t size = server->count * sizeof(server->addresses[0]);
        if (write(told_fd, server->addresses, size) != (ssize_t)size)
            err = diag_set(diag, ERR_IO, "nobody waits for the server");
        (void)close(told_fd);
    }
    int number;
    if (!err) (void)sigwait(&set, &number);
    struct diag second;
    enum err close_err = db ? db_close(db, err ? &second : diag) : ERR_NONE;
    return err ? err : close_err;
}

enum err meta_server_start(struct meta_server *server, pid_t *ret_pid, struct diag *diag)
{
    int told[2];
    if (pipe(told) < 0) return diag_set(diag, ERR_BUSY, "no pipe: %s", strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        (void)close(told[0]);
        struct diag child_diag = {.position = UINT32_MAX};
        if (meta_serve(server, told[1], &child_diag)) {
            (void)fprintf(stderr, "trellis: the serving process: %s\n", child_diag.text);
            _exit(1);
        }
        _exit(0);
    }
    (void)close(told[1]);
    size_t size = server->count * sizeof(server->addresses[0]);
    size_t have = 0;
    while (pid > 0 && have < size) {
        ssize_t got = read(told[0], (uint8_t *)server->addresses + have, size - have);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        have += (size_t)got;
    }
    (void)close(told[0]);
    if (have == size) {
        *ret_pid = pid;
        return ERR_NONE;
    }
    if (pid > 0) (void)waitpid(pid, NULL, 0);
    return diag_set(diag, ERR_IO, "the serving process did not start");
}

void meta_server_end(pid_t pid)
{
    if (pid <= 0) return;
    (void)kill(pid, SIGTERM);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
