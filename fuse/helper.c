/* fusermount3: it opens /dev/fuse and mounts with its own rights, and sends the descriptor over a
 * socket whose number it finds in _FUSE_COMMFD (the convention of libfuse's util/fusermount.c).
 * libfuse does this itself only where the user may open /dev/fuse, which not every system allows.
 */
#include "fuse/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The one descriptor that comes with a byte; -1 when the other side has closed. */
static int receive_fd(int socket)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got;
    while ((got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    const struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* The environment with _FUSE_COMMFD=number in front; heap, the strings borrowed but for the first.
 */
static char **environment_with(int number)
{
    size_t count = 0;
    while (environ[count])
        count++;
    char **copy = calloc(count + 2, sizeof(*copy));
    if (!copy) return NULL;
    if (asprintf(&copy[0], "_FUSE_COMMFD=%d", number) < 0) {
        free(copy);
        return NULL;
    }
    memcpy(copy + 1, environ, count * sizeof(*copy));
    return copy;
}

enum err helper_mount(const char *mountpoint, const char *options, int *ret_fd, struct diag *diag)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return diag_set(diag, ERR_IO, "cannot make a socket: %s", strerror(errno));
    /* fusermount3 inherits its end. */
    (void)fcntl(sockets[0], F_SETFD, 0);
    char **environment = environment_with(sockets[0]);
    char *const arguments[] = {(char *)"fusermount3",         (char *)"-o",
                               (char *)(uintptr_t)options,    (char *)"--",
                               (char *)(uintptr_t)mountpoint, NULL};
    pid_t pid;
    int number = environment ? posix_spawnp(&pid, "fusermount3", NULL, NULL, arguments, environment)
                             : ENOMEM;
    (void)close(sockets[0]);
    enum err err = ERR_NONE;
    if (number) {
        err = diag_set(diag, ERR_NOT_FOUND, "cannot run fusermount3: %s; install package fuse3",
                       strerror(number));
    } else {
        int fd = receive_fd(sockets[1]);
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
        if (fd < 0)
            err = diag_set(diag, ERR_DENIED, "fusermount3 would not mount at %s", mountpoint);
        else
            *ret_fd = fd;
    }
    (void)close(sockets[1]);
    if (environment) free(environment[0]);
    free(environment);
    return err;
}
