/* The shared-memory back end where it differs from the others: sockets in the file system, who may
 * come in, what a hostile process can do with its memory and socket, and what polling and waking
 * cost. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "rdma/shm/local_socket.h"
#include "rdma/shm/segment.h"
#include "tests/unit/rdma/harness.h"

static unsigned descriptor_count(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static struct endpoint *listening(struct world *world)
{
    world_init(world, TEST_SHM);
    struct endpoint *endpoint = endpoint_create(world);
    endpoint_start(endpoint);
    endpoint_listen(endpoint);
    return endpoint;
}

/* A process of the right secret still gets in, and its messages through. */
static void expect_service(struct world *world, struct endpoint *server)
{
    struct endpoint *client = endpoint_create(world);
    endpoint_start(client);
    unsigned before = endpoint_up_count(server);
    struct flow *flow = endpoint_connect(client, server, NULL);
    UNTIL(world, flow->link && endpoint_up_count(server) == before + 1);
    uint64_t received = server->received;
    for (unsigned i = 0; i < 50; i++)
        cr_assert_eq(flow_send(flow), ERR_NONE);
    UNTIL(world, server->received == received + 50);
    endpoint_stop(client);
    UNTIL(world, endpoint_up_count(server) == before);
    world->count--;
    free(client);
}

/* ---- sockets in the file system ---- */

Test(shm, socket_is_for_its_owner_only_and_goes_with_its_port)
{
    struct world world;
    struct endpoint *server = listening(&world);
    struct stat stat_at;
    mode_t mask = umask(0);
    (void)umask(mask);
    cr_assert_eq(stat(server->bound.path, &stat_at), 0);
    cr_assert(S_ISSOCK(stat_at.st_mode));
    cr_assert_eq(stat_at.st_mode & 0777, 0600);
    char path[PORT_PATH_SIZE_MAX + 1];
    (void)snprintf(path, sizeof(path), "%s", server->bound.path);
    world_fini(&world);
    cr_assert(stat(path, &stat_at) < 0 && errno == ENOENT);
}

Test(shm, socket_of_a_killed_process_is_replaced)
{
    struct world world;
    world_init(&world, TEST_SHM);
    struct endpoint *server = endpoint_create(&world);
    for (unsigned i = 0; i < 3; i++) {
        int ready[2];
        cr_assert_eq(pipe(ready), 0);
        pid_t child = fork();
        if (child == 0) {
            struct local_listener listener;
            struct diag diag;
            if (local_listen(server->bound.path, &listener, &diag)) _exit(1);
            ASSERT(write(ready[1], "", 1) == 1);
            (void)pause();
        }
        char byte;
        cr_assert_eq(read(ready[0], &byte, 1), 1);
        (void)close(ready[0]);
        (void)close(ready[1]);
        struct diag diag;
        endpoint_start(server);
        cr_assert_eq(port_listen(server->port, &server->bound, NULL, &diag), ERR_IN_USE);
        cr_assert(strstr(diag.text, server->bound.path));
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        struct stat stat_at;
        cr_assert_eq(stat(server->bound.path, &stat_at), 0, "the dead left its socket");
        endpoint_listen(server);
        expect_service(&world, server);
        endpoint_stop(server);
    }
    world_fini(&world);
}

Test(shm, of_many_that_start_at_once_one_listens)
{
    struct world world;
    struct endpoint *server = listening(&world);
    char path[PORT_PATH_SIZE_MAX + 1];
    (void)snprintf(path, sizeof(path), "%s", server->bound.path);
    struct local_listener stale;
    struct diag diag;
    endpoint_stop(server);
    for (unsigned round = 0; round < 10; round++) {
        cr_assert_eq(local_listen(path, &stale, &diag), ERR_NONE);
        (void)close(stale.fd); /* as if it had been killed */
        (void)close(stale.dir_fd);
        int go[2], decided[2];
        cr_assert(pipe(go) == 0 && pipe(decided) == 0);
        pid_t children[8];
        for (unsigned i = 0; i < 8; i++) {
            children[i] = fork();
            if (children[i]) continue;
            char byte;
            struct local_listener listener;
            ASSERT(read(go[0], &byte, 1) == 1);
            char outcome = (char)local_listen(path, &listener, &diag);
            ASSERT(write(decided[1], &outcome, 1) == 1);
            (void)pause(); /* nobody leaves before all have decided */
        }
        cr_assert_eq(write(go[1], "12345678", 8), 8);
        unsigned winners = 0;
        for (unsigned i = 0; i < 8; i++) {
            char outcome;
            cr_assert_eq(read(decided[0], &outcome, 1), 1);
            cr_assert(outcome == ERR_NONE || outcome == ERR_IN_USE);
            winners += outcome == ERR_NONE;
        }
        for (unsigned i = 0; i < 8; i++) {
            (void)kill(children[i], SIGKILL);
            (void)waitpid(children[i], NULL, 0);
        }
        for (unsigned i = 0; i < 2; i++) {
            (void)close(go[i]);
            (void)close(decided[i]);
        }
        cr_assert_eq(winners, 1);
    }
    (void)unlink(path);
    world_fini(&world);
}

Test(shm, what_is_no_socket_is_not_removed)
{
    struct world world;
    world_init(&world, TEST_SHM);
    struct endpoint *server = endpoint_create(&world);
    struct diag diag;
    int fd = open(server->bound.path, O_CREAT | O_WRONLY, 0600);
    cr_assert(fd >= 0);
    (void)close(fd);
    endpoint_start(server);
    cr_assert_eq(port_listen(server->port, &server->bound, NULL, &diag), ERR_EXISTS);
    cr_assert(strstr(diag.text, "not a socket"));
    cr_assert_eq(access(server->bound.path, F_OK), 0);
    (void)unlink(server->bound.path);
    endpoint_listen(server);
    world_fini(&world);
}

Test(shm, socket_that_another_has_put_there_is_left_alone)
{
    struct world world;
    struct endpoint *server = listening(&world);
    char path[PORT_PATH_SIZE_MAX + 1];
    (void)snprintf(path, sizeof(path), "%s", server->bound.path);
    (void)unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    (void)close(fd);
    world_fini(&world);
    cr_assert_eq(access(path, F_OK), 0);
    (void)unlink(path);
}

Test(shm, path_longer_than_a_socket_address_works)
{
    struct world world;
    world_init(&world, TEST_SHM);
    struct endpoint *server = endpoint_create(&world);
    char folder[PORT_PATH_SIZE_MAX + 1];
    size_t size =
        (size_t)snprintf(folder, sizeof(folder), "/tmp/trellis-test-long-%d", (int)getpid());
    cr_assert_eq(mkdir(folder, 0700), 0);
    for (unsigned i = 0; i < 3; i++) {
        size += (size_t)snprintf(folder + size, sizeof(folder) - size, "/%0100u", i);
        cr_assert_eq(mkdir(folder, 0700), 0);
    }
    (void)snprintf(server->bound.path, sizeof(server->bound.path), "%.500s/link", folder);
    endpoint_start(server);
    endpoint_listen(server);
    expect_service(&world, server);
    struct diag diag;
    (void)snprintf(server->bound.path + strlen(server->bound.path), 120, "%0110u", 0);
    cr_assert_eq(port_listen(server->port, &server->bound, NULL, &diag), ERR_INVALID);
    world_fini(&world);
    for (unsigned i = 0; i < 4; i++, *strrchr(folder, '/') = '\0')
        cr_assert_eq(rmdir(folder), 0);
}

/* ---- who may come in ---- */

/* As root: another user is turned away by the mode of the file, and where that was opened up, by
 * the kernel's word on the peer, before anything it sends is read. */
Test(shm, other_users_stay_outside)
{
    if (geteuid() != 0) return;
    struct world world;
    struct endpoint *server = listening(&world);
    for (unsigned opened = 0; opened < 2; opened++) {
        if (opened) cr_assert_eq(chmod(server->bound.path, 0666), 0);
        int told[2];
        cr_assert_eq(pipe(told), 0);
        pid_t child = fork();
        if (child == 0) {
            gid_t none = 65534;
            /* From within its folder, as those above may be closed to others. */
            char *name = strrchr(server->bound.path, '/');
            *name++ = '\0';
            if (chdir(server->bound.path)) _exit(8);
            if (setgroups(1, &none) || setgid(65534) || setuid(65534)) _exit(9);
            struct diag diag;
            int fd;
            enum err err = local_connect(name, &fd, &diag);
            ASSERT(write(told[1], "", 1) == 1);
            if (!opened) _exit(err == ERR_DENIED ? 0 : 1);
            char byte;
            (void)fcntl(fd, F_SETFL, 0);
            /* Ended by the server, with nothing said. */
            _exit(err || read(fd, &byte, 1) != 0 ? 1 : 0);
        }
        char byte;
        cr_assert_eq(read(told[0], &byte, 1), 1);
        int status = 1;
        UNTIL(&world, waitpid(child, &status, WNOHANG) == child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void)close(told[0]);
        (void)close(told[1]);
    }
    struct port_stats stats;
    port_stats(server->port, &stats);
    cr_assert_eq(stats.links_pending, 0);
    cr_assert_eq(stats.buffer_bytes, 0);
    expect_service(&world, server);
    world_fini(&world);
}

/* ---- hostile connections ---- */

static const struct local_setup good_setup = {
    .magic = 0x3130306d68736c74u,
    .version = 1,
    .credits = 16,
    .batch_size_max = SEGMENT_BATCH_SIZE_MAX,
};

static int connect_raw(const struct endpoint *server)
{
    struct diag diag;
    int fd;
    cr_assert_eq(local_connect(server->bound.path, &fd, &diag), ERR_NONE, "%s", diag.text);
    return fd;
}

/* The server ends the connection, and nothing of it remains. */
static void expect_refused(struct world *world, struct endpoint *server, int fd, const char *what)
{
    struct port_stats stats;
    char byte;
    uint64_t start = clock_now_ns();
    ssize_t got;
    while ((got = recv(fd, &byte, 1, MSG_DONTWAIT)) != 0 && (got > 0 || errno == EAGAIN)) {
        world_turn(world);
        cr_assert_lt(clock_now_ns() - start, 3000000000u, "%s: not refused", what);
    }
    (void)close(fd);
    world_turn(world);
    port_stats(server->port, &stats);
    cr_assert_eq(stats.links_pending, 0, "%s", what);
    cr_assert_eq(stats.buffer_bytes, 0, "%s", what);
}

static int memory_file(size_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void try_setup(struct world *world, struct endpoint *server, const struct local_setup *setup,
                      int memory_fd, const char *what)
{
    struct diag diag;
    int fd = connect_raw(server);
    cr_assert_eq(local_send_setup(fd, setup, memory_fd, &diag), ERR_NONE);
    expect_refused(world, server, fd, what);
    (void)close(memory_fd);
}

Test(shm, memory_that_is_not_what_it_must_be_is_refused)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
    struct world world;
    struct endpoint *server = listening(&world);
    size_t size = segment_size(16);
    unsigned before = descriptor_count();
    try_setup(&world, server, &good_setup, memory_file(size, 0), "no seals");
    try_setup(&world, server, &good_setup, memory_file(size, F_SEAL_SHRINK | F_SEAL_SEAL),
              "may grow");
    try_setup(&world, server, &good_setup, memory_file(size, F_SEAL_GROW | F_SEAL_SEAL),
              "may shrink");
    try_setup(&world, server, &good_setup, memory_file(size, SEALS & ~F_SEAL_SEAL),
              "may be sealed further");
    try_setup(&world, server, &good_setup, memory_file(size, SEALS | F_SEAL_WRITE), "read only");
    try_setup(&world, server, &good_setup, memory_file(size, SEALS | F_SEAL_FUTURE_WRITE),
              "read only for others");
    try_setup(&world, server, &good_setup, memory_file(size - 4096, SEALS), "too small");
    try_setup(&world, server, &good_setup, memory_file(size + 4096, SEALS), "too large");
    try_setup(&world, server, &good_setup, memory_file(0, SEALS), "empty");
    try_setup(&world, server, &good_setup, open("/dev/null", O_RDWR | O_CLOEXEC), "a device");
    try_setup(&world, server, &good_setup, open("/tmp", O_RDONLY | O_CLOEXEC), "a folder");
    int huge = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (huge >= 0 && ftruncate(huge, 2 << 20) == 0 && fcntl(huge, F_ADD_SEALS, SEALS) == 0)
        try_setup(&world, server, &good_setup, huge, "huge pages");
    else if (huge >= 0)
        (void)close(huge);
    cr_assert_eq(descriptor_count(), before, "a descriptor was lost");
    expect_service(&world, server);
    world_fini(&world);
}

Test(shm, setup_that_is_wrong_is_refused)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
    struct world world;
    struct endpoint *server = listening(&world);
    unsigned before = descriptor_count();
    for (unsigned i = 0; i < 7; i++) {
        struct local_setup setup = good_setup;
        if (i == 0) setup.magic ^= 1;
        if (i == 1) setup.version = 2;
        if (i == 2) setup.credits = 0;
        if (i == 3) setup.credits = 257;
        if (i == 4) setup.credits = UINT32_MAX;
        if (i == 5) setup.batch_size_max += 8;
        if (i == 6) setup.reserved = 1;
        try_setup(&world, server, &setup, memory_file(segment_size(16), SEALS), "setup");
    }
    cr_assert_eq(descriptor_count(), before, "a descriptor was lost");
    expect_service(&world, server);
    world_fini(&world);
}

/* Bytes without or with too many descriptors, cut short, or none at all. */
Test(shm, garbage_on_the_socket_is_refused)
{
    struct world world;
    struct endpoint *server = listening(&world);
    unsigned before = descriptor_count();
    uint8_t garbage[4096];
    memset(garbage, 0xA5, sizeof(garbage));
    static const size_t sizes[] = {1, 23, 24, 25, 64, 4096};
    for (unsigned i = 0; i < 6; i++) {
        int fd = connect_raw(server);
        cr_assert_eq(send(fd, garbage, sizes[i], MSG_NOSIGNAL), (ssize_t)sizes[i]);
        expect_refused(&world, server, fd, "garbage");
        fd = connect_raw(server);
        cr_assert_eq(send(fd, &good_setup, sizeof(good_setup), MSG_NOSIGNAL),
                     (ssize_t)sizeof(good_setup));
        expect_refused(&world, server, fd, "no descriptor");
        fd = connect_raw(server);
        (void)shutdown(fd, SHUT_WR);
        expect_refused(&world, server, fd, "nothing");
    }
    for (unsigned count = 2; count <= 250; count += 62) {
        union {
            struct cmsghdr header;
            char bytes[CMSG_SPACE(250 * sizeof(int))];
        } control = {0};
        struct local_setup setup = good_setup;
        struct iovec vector = {&setup, sizeof(setup)};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = CMSG_SPACE(count * sizeof(int))};
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
        int *fds = (int *)(void *)CMSG_DATA(&control.header);
        for (unsigned i = 0; i < count; i++)
            fds[i] = STDOUT_FILENO;
        int fd = connect_raw(server);
        cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)sizeof(setup));
        expect_refused(&world, server, fd, "many descriptors");
    }
    cr_assert_eq(descriptor_count(), before, "a descriptor was lost");
    expect_service(&world, server);
    world_fini(&world);
}

Test(shm, flood_of_silent_connections_is_bounded_and_shuts_nobody_out, .timeout = 120)
{
    enum { FLOOD = 300, PENDING = 16 };
    struct world world;
    world_init(&world, TEST_SHM);
    struct endpoint *server = endpoint_create(&world);
    server->config.pending_max = PENDING;
    endpoint_start(server);
    endpoint_listen(server);
    int fds[FLOOD];
    struct port_stats stats;
    for (unsigned i = 0; i < FLOOD; i++) {
        fds[i] = connect_raw(server);
        if (i % 10 == 0) turn_for_ms(&world, 2);
        port_stats(server->port, &stats);
        cr_assert_leq(stats.links_pending, PENDING);
        if (i % 100 == 50) expect_service(&world, server);
    }
    cr_assert_eq(stats.buffer_bytes, 0);
    for (unsigned i = 0; i < FLOOD; i++)
        (void)close(fds[i]);
    UNTIL(&world, (port_stats(server->port, &stats), stats.links_pending == 0));
    world_fini(&world);
}

Test(shm, connections_wait_while_there_are_no_descriptors, .timeout = 60)
{
    struct world world;
    struct endpoint *server = listening(&world);
    int dirty = connect_raw(server); /* everything is opened that is opened late */
    turn_for_ms(&world, 5);
    (void)close(dirty);
    struct port_stats stats;
    UNTIL(&world, (port_stats(server->port, &stats), stats.links_pending == 0));
    pid_t child = fork();
    if (child == 0) {
        (void)usleep(50000);
        struct diag diag;
        int fd;
        char byte;
        if (local_connect(server->bound.path, &fd, &diag)) _exit(1);
        /* Accepted once there are descriptors, and then refused for the nonsense that it says. */
        if (send(fd, "nonsense", 8, MSG_NOSIGNAL) != 8) _exit(2);
        (void)fcntl(fd, F_SETFL, 0);
        _exit(read(fd, &byte, 1) == 0 ? 0 : 3);
    }
    int fds[1024];
    unsigned count = 0;
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit low = {.rlim_cur = 64, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (count < 1024 && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    struct rusage before, after;
    (void)getrusage(RUSAGE_SELF, &before);
    uint64_t end = clock_now_ns() + 400000000u;
    while (clock_now_ns() < end)
        (void)port_wait(server->port, 50000000u);
    (void)getrusage(RUSAGE_SELF, &after);
    uint64_t busy_us = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000u +
                       (uint64_t)(after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000u +
                       (uint64_t)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
                                  after.ru_stime.tv_usec - before.ru_stime.tv_usec);
    cr_assert_lt(busy_us, 200000u, "a socket that cannot be accepted must not spin");
    int status = 1;
    cr_assert_eq(waitpid(child, &status, WNOHANG), 0, "it waits (%#x)", status);
    while (count)
        (void)close(fds[--count]);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    UNTIL(&world, waitpid(child, &status, WNOHANG) == child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d", status);
    expect_service(&world, server);
    world_fini(&world);
}

/* ---- hostile memory ---- */

struct raw_link {
    int fd;
    struct segment segment;
};

static void raw_link_open(struct world *world, struct endpoint *server, struct raw_link *raw)
{
    struct diag diag;
    int memory_fd;
    struct port_stats stats;
    raw->fd = connect_raw(server);
    cr_assert_eq(segment_create(16, &raw->segment, &memory_fd, &diag), ERR_NONE);
    cr_assert_eq(local_send_setup(raw->fd, &good_setup, memory_fd, &diag), ERR_NONE);
    (void)close(memory_fd);
    UNTIL(world, (port_stats(server->port, &stats), stats.buffer_bytes > 0));
}

static void raw_link_close(struct raw_link *raw)
{
    segment_unmap(&raw->segment);
}

Test(shm, nonsense_in_the_ring_ends_that_link_only)
{
    struct world world;
    struct endpoint *server = listening(&world);
    static const uint32_t words[] = {
        1, 31, 32, 48, SEGMENT_BATCH_SIZE_MAX, SEGMENT_BATCH_SIZE_MAX + 1, 0x7FFFFFFF, 0xFFFFFFFF};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct raw_link raw;
        raw_link_open(&world, server, &raw);
        atomic_store(ring_word(&raw.segment.rings[0], 0), words[i]);
        expect_refused(&world, server, raw.fd, "word");
        raw_link_close(&raw);
    }
    expect_service(&world, server);
    world_fini(&world);
}

/* The memory changes all the time, at random, while the server works with it. */
Test(shm, memory_scribbled_over_by_another_process_harms_nobody_else, .timeout = 120)
{
    struct world world;
    struct endpoint *server = listening(&world);
    struct endpoint *client = endpoint_create(&world);
    endpoint_start(client);
    struct flow *flow = endpoint_connect(client, server, NULL);
    UNTIL(&world, flow->link && endpoint_up_count(server) == 1);
    pid_t child = fork();
    if (child == 0) {
        uint64_t random = 0x9E3779B97F4A7C15u;
        for (;;) {
            struct diag diag;
            struct segment segment;
            int fd, memory_fd;
            if (local_connect(server->bound.path, &fd, &diag)) continue;
            if (segment_create(16, &segment, &memory_fd, &diag)) _exit(1);
            (void)!local_send_setup(fd, &good_setup, memory_fd, &diag);
            for (unsigned i = 0; i < 3000; i++) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                uint64_t at = random % (i % 4 ? 768 : segment.size) & ~7u;
                memcpy(segment.memory + at, &random, 8);
                atomic_store(ring_word(&segment.rings[0], (uint32_t)(random % 64) * 64),
                             (uint32_t)(random >> 40) % 200);
                if (i % 64 == 0) (void)!send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            }
            segment_unmap(&segment);
            (void)close(memory_fd);
            (void)close(fd);
        }
    }
    uint64_t want = 0;
    uint64_t count = rounds(20000);
    struct port_stats stats;
    while (want < count) {
        if (flow_send(flow) == ERR_NONE) want++;
        if (want % 8 == 0) world_turn(&world);
    }
    /* Until it has been at work for a while, too. */
    UNTIL(&world, server->received == want &&
                      (port_stats(server->port, &stats), stats.handshakes_failed > 20));
    cr_assert_eq(flow->ups, 1);
    cr_assert_eq(flow->downs, 0, "the honest link stays up");
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    endpoint_stop(client);
    UNTIL(&world, (port_stats(server->port, &stats), !stats.buffer_bytes && !stats.links_pending));
    world_fini(&world);
}

/* After the handshake: the peer's view of the ring is damaged in the middle of traffic. */
Test(shm, link_whose_memory_goes_bad_comes_up_again)
{
    struct world world;
    struct endpoint *a, *b;
    world_init(&world, TEST_SHM);
    struct flow *flow = world_pair(&world, &a, &b);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(flow_send(flow), ERR_NONE);
        world_turn(&world);
    }
    unsigned ups = flow->ups;
    /* All of this process's segments are mappings of memory files of that name. */
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned damaged = 0;
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        if (!strstr(line, "trellis-link") || sscanf(line, "%lx-%lx", &from, &to) != 2) continue;
        struct ring_shared *shared = (struct ring_shared *)from;
        for (unsigned i = 0; i < 2; i++)
            atomic_store(&shared[i].consumed, UINT64_MAX / 2);
        for (unsigned long at = from + 4096; at + 64 <= to; at += 64)
            atomic_store((_Atomic uint32_t *)at, 0xDEADBEEF);
        damaged++;
        break; /* the other one is the same memory */
    }
    (void)fclose(maps);
    cr_assert_eq(damaged, 1);
    UNTIL(&world, flow->ups == ups + 1 && flow->link && endpoint_up_count(b) == 1);
    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(flow_send(flow), ERR_NONE);
    UNTIL(&world, endpoint_flow(b)->received == 100);
    world_fini(&world);
}

/* ---- what polling, waking and memory cost ---- */

Test(shm, sides_that_poll_make_no_system_calls_to_wake_each_other)
{
    struct world world;
    struct endpoint *a, *b;
    world_init(&world, TEST_SHM);
    struct flow *flow = world_pair(&world, &a, &b);
    b->echo = true;
    struct link_stats before, after;
    link_stats(flow->link, &before);
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t received = a->received;
        cr_assert_eq(flow_send(flow), ERR_NONE);
        UNTIL(&world, a->received > received);
    }
    link_stats(flow->link, &after);
    cr_assert_eq(after.wakeups_sent, before.wakeups_sent);
    cr_assert_leq(after.wakeups_sent, 3);
    world_fini(&world);
}

/* More links than are kept hot: the silent ones turn cold, and are still served. */
Test(shm, link_that_was_silent_for_long_is_heard_again)
{
    enum { LINKS = 40 };
    struct world world;
    world_init(&world, TEST_SHM);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *flows[LINKS];
    for (unsigned i = 0; i < LINKS; i++)
        flows[i] = endpoint_connect(a, b, NULL);
    UNTIL(&world, endpoint_up_count(a) == LINKS && endpoint_up_count(b) == LINKS);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 20000; i++)
            world_turn(&world);
        for (unsigned i = 0; i < LINKS; i++) {
            uint64_t received = b->received;
            cr_assert_eq(flow_send(flows[i]), ERR_NONE);
            port_flush(a->port);
            unsigned turns = 0;
            while (b->received == received && turns < 100) {
                (void)port_poll(b->port);
                turns++;
            }
            cr_assert_lt(turns, 100, "link %u", i);
        }
    }
    world_fini(&world);
}

Test(shm, memory_of_links_is_counted_and_given_back)
{
    struct world world;
    struct endpoint *a, *b;
    world_init(&world, TEST_SHM);
    (void)world_pair(&world, &a, &b);
    struct port_stats stats;
    port_stats(a->port, &stats);
    cr_assert_eq(stats.buffer_bytes, segment_size(16));
    port_stats(b->port, &stats);
    cr_assert_eq(stats.buffer_bytes, segment_size(16));
    endpoint_stop(a);
    UNTIL(&world, endpoint_up_count(b) == 0);
    port_stats(b->port, &stats);
    cr_assert_eq(stats.buffer_bytes, 0);
    world_fini(&world);
}

Test(shm, links_leave_no_descriptors_behind)
{
    struct world world;
    struct endpoint *server = listening(&world);
    expect_service(&world, server);
    unsigned before = descriptor_count();
    for (unsigned i = 0; i < 20; i++)
        expect_service(&world, server);
    cr_assert_eq(descriptor_count(), before);
    world_fini(&world);
}

/* Both sides may differ in the credits they give; the rings have room for the smaller number. */
Test(shm, sides_with_different_credits_understand_each_other)
{
    static const uint32_t credits[][2] = {{1, 256}, {256, 1}, {3, 16}, {16, 3}};
    for (unsigned i = 0; i < 4; i++) {
        struct world world;
        world_init(&world, TEST_SHM);
        struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
        a->config.link_credits = credits[i][0];
        b->config.link_credits = credits[i][1];
        endpoint_start(a);
        endpoint_start(b);
        endpoint_listen(b);
        struct flow *flow = endpoint_connect(a, b, NULL);
        UNTIL(&world, flow->link && endpoint_up_count(b));
        b->echo = true;
        for (unsigned message = 0; message < 2000; message++)
            cr_assert_eq(flow_send(flow), ERR_NONE);
        UNTIL(&world, a->received == 2000);
        world_fini(&world);
    }
}
