/* Where two processes of one host find each other: a socket in the file system.
 *
 * A socket address holds 107 bytes, so a longer path is reached through its folder's descriptor in
 * /proc. The file gets its mode (0600) from the socket's own, which bind uses, so it is never open
 * to others, not even for a moment.
 *
 * A socket file outlives its process. Who wants to listen looks whether anybody answers there, and
 * removes the file if not; the folder is locked meanwhile, so that two who start at once do not
 * remove each other's. */
#include "rdma/shm/local_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    LOCK_TRIES = 200,
    LOCK_PAUSE_NS = 5 * 1000 * 1000,
};

/* The folder of a path, opened, and the name in it. */
static enum err open_folder(const char *path, int *ret_dir_fd, const char **ret_name,
                            struct diag *diag)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[4096];
    size_t size = slash ? (size_t)(slash - path) : 0;
    if (!*name || size >= sizeof(folder))
        return diag_set(diag, ERR_INVALID, "shm:%s is not the path of a socket", path);
    memcpy(folder, path, size);
    folder[size] = '\0';
    const char *open_path = slash && !size ? "/" : slash ? folder : ".";
    int dir_fd = open(open_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return diag_set(diag, err_from_errno(errno), "cannot open %s: %s", open_path,
                        strerror(errno));
    *ret_dir_fd = dir_fd;
    *ret_name = name;
    return ERR_NONE;
}

static enum err make_address(const char *path, int dir_fd, const char *name,
                             struct sockaddr_un *ret_address, struct diag *diag)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (size >= (int)sizeof(address.sun_path))
        size = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir_fd,
                        name);
    if (size >= (int)sizeof(address.sun_path))
        return diag_set(diag, ERR_INVALID, "the name of the socket shm:%s is too long", path);
    *ret_address = address;
    return ERR_NONE;
}

static int connect_fd(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

/* Removes what a dead process left. With the folder locked. */
static enum err remove_stale(const char *path, int dir_fd, const char *name,
                             const struct sockaddr_un *address, struct diag *diag)
{
    struct stat stat;
    if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT) return ERR_NONE;
        return diag_set(diag, err_from_errno(errno), "cannot look at %s: %s", path,
                        strerror(errno));
    }
    if (!S_ISSOCK(stat.st_mode))
        return diag_set(diag, ERR_EXISTS, "%s is in the way: it is not a socket", path);
    int fd = connect_fd(address);
    if (fd >= 0 || errno == EAGAIN) {
        if (fd >= 0) (void)close(fd);
        return diag_set(diag, ERR_IN_USE, "another process listens at shm:%s", path);
    }
    if (errno != ECONNREFUSED)
        return diag_set(diag, err_from_errno(errno), "cannot tell whether shm:%s is in use: %s",
                        path, strerror(errno));
    if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
        return diag_set(diag, err_from_errno(errno), "cannot remove the old socket %s: %s", path,
                        strerror(errno));
    return ERR_NONE;
}

static enum err lock_folder(const char *path, int dir_fd, struct diag *diag)
{
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (flock(dir_fd, LOCK_EX | LOCK_NB) == 0) return ERR_NONE;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return diag_set(diag, err_from_errno(errno), "cannot lock the folder of %s: %s", path,
                            strerror(errno));
        (void)nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    return diag_set(diag, ERR_BUSY, "another process keeps the folder of %s locked", path);
}

static enum err bind_listen(const char *path, const struct sockaddr_un *address,
                            struct local_listener *listener, struct diag *diag)
{
    struct stat stat;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return diag_set(diag, ERR_BUSY, "no descriptor for shm:%s: %s", path, strerror(errno));
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        int error = errno;
        (void)close(fd);
        return diag_set(diag, err_from_errno(error), "cannot listen at shm:%s: %s", path,
                        strerror(error));
    }
    if (listen(fd, BACKLOG) < 0 ||
        fstatat(listener->dir_fd, listener->name, &stat, AT_SYMLINK_NOFOLLOW) < 0) {
        int error = errno;
        (void)unlinkat(listener->dir_fd, listener->name, 0);
        (void)close(fd);
        return diag_set(diag, err_from_errno(error), "cannot listen at shm:%s: %s", path,
                        strerror(error));
    }
    listener->fd = fd;
    listener->device = stat.st_dev;
    listener->inode = stat.st_ino;
    return ERR_NONE;
}

enum err local_listen(const char *path, struct local_listener *ret_listener, struct diag *diag)
{
    struct local_listener listener = {.fd = -1};
    const char *name;
    enum err err = open_folder(path, &listener.dir_fd, &name, diag);
    if (err) return err;
    struct sockaddr_un address;
    err = make_address(path, listener.dir_fd, name, &address, diag);
    if (err) goto close_folder;
    /* It fits into an address, so it fits here. */
    (void)snprintf(listener.name, sizeof(listener.name), "%s", name);
    err = lock_folder(path, listener.dir_fd, diag);
    if (err) goto close_folder;
    err = remove_stale(path, listener.dir_fd, name, &address, diag);
    if (!err) err = bind_listen(path, &address, &listener, diag);
    (void)flock(listener.dir_fd, LOCK_UN);
    if (err) goto close_folder;
    *ret_listener = listener;
    return ERR_NONE;

close_folder:
    (void)close(listener.dir_fd);
    return err;
}

void local_listener_close(struct local_listener *listener)
{
    if (listener->fd < 0) return;
    struct stat stat;
    if (fstatat(listener->dir_fd, listener->name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
        stat.st_dev == listener->device && stat.st_ino == listener->inode)
        (void)unlinkat(listener->dir_fd, listener->name, 0);
    (void)close(listener->fd);
    (void)close(listener->dir_fd);
    listener->fd = -1;
}

enum err local_connect(const char *path, int *ret_fd, struct diag *diag)
{
    int dir_fd;
    const char *name;
    enum err err = open_folder(path, &dir_fd, &name, diag);
    if (err) return err;
    struct sockaddr_un address;
    err = make_address(path, dir_fd, name, &address, diag);
    int fd = err ? -1 : connect_fd(&address);
    if (!err && fd < 0) {
        if (errno == ECONNREFUSED)
            err = diag_set(diag, ERR_CLOSED, "nobody listens at shm:%s", path);
        else if (errno == EAGAIN || errno == EMFILE || errno == ENFILE)
            err =
                diag_set(diag, ERR_BUSY, "cannot connect to shm:%s now: %s", path, strerror(errno));
        else
            err = diag_set(diag, err_from_errno(errno), "cannot connect to shm:%s: %s", path,
                           strerror(errno));
    }
    (void)close(dir_fd);
    if (!err) *ret_fd = fd;
    return err;
}

bool local_peer_may(int fd, bool accepted, struct ucred *ret_peer)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof(peer))
        return false;
    *ret_peer = peer;
    return peer.uid == 0 || peer.uid == geteuid() || (!accepted && geteuid() == 0);
}

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

enum err local_send_setup(int fd, const struct local_setup *setup, int memory_fd, struct diag *diag)
{
    union control control = {0};
    struct local_setup copy = *setup;
    struct iovec vector = {.iov_base = &copy, .iov_len = sizeof(copy)};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &memory_fd, sizeof(int));
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)sizeof(copy)) return ERR_NONE;
    return diag_set(diag, ERR_CLOSED, "cannot hand over shared memory: %s",
                    sent < 0 ? strerror(errno) : "cut short");
}

/* The one descriptor that came with a message, or -1; when there are more, all are closed. */
static int take_descriptor(struct msghdr *message)
{
    int taken = -1;
    bool too_many = message->msg_flags & MSG_CTRUNC;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            too_many |= taken >= 0;
            if (taken >= 0) (void)close(taken);
            memcpy(&taken, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        }
    }
    if (!too_many) return taken;
    if (taken >= 0) (void)close(taken);
    return -1;
}

enum err local_receive_setup(int fd, struct local_setup *ret_setup, int *ret_memory_fd)
{
    /* Room for one descriptor, or two with the padding: the kernel drops further ones and says so.
     */
    union control control = {0};
    struct local_setup setup;
    struct iovec vector = {.iov_base = &setup, .iov_len = sizeof(setup)};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t got;
    do
        got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return errno == EAGAIN ? ERR_BUSY : ERR_CLOSED;
    int memory_fd = take_descriptor(&message);
    if (got == (ssize_t)sizeof(setup) && memory_fd >= 0) {
        *ret_setup = setup;
        *ret_memory_fd = memory_fd;
        return ERR_NONE;
    }
    if (memory_fd >= 0) (void)close(memory_fd);
    return got ? ERR_BAD_FRAME : ERR_CLOSED;
}
