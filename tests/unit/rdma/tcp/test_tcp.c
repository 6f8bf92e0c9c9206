/* What a TCP port makes of peers that do not play by the rules: it closes their connections, keeps
 * its memory and descriptors bounded, and goes on serving the others. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/unit/rdma/tcp/raw.h"

/* A server that echoes, and a friend with a link to it. */
struct scene {
    struct world world;
    struct endpoint *server, *friend;
    struct flow *flow;
};

static void scene_init(struct scene *scene, enum test_backend_number backend)
{
    world_init(&scene->world, backend);
    struct endpoint *server = scene->server = endpoint_create(&scene->world);
    scene->friend = endpoint_create(&scene->world);
    server->echo = true;
    server->config.handshake_ms = 300;
    server->config.pending_max = 32;
    endpoint_start(server);
    endpoint_listen(server);
    endpoint_start(scene->friend);
    scene->flow = endpoint_connect(scene->friend, server, NULL);
    UNTIL(&scene->world, scene->flow->link);
}

static struct port_stats stats_of(const struct endpoint *endpoint)
{
    struct port_stats stats;
    port_stats(endpoint->port, &stats);
    return stats;
}

/* The friend is served as ever, and nothing of the others is left. */
static void scene_fini(struct scene *scene)
{
    struct flow *flow = scene->flow;
    UNTIL(&scene->world, stats_of(scene->server).links_pending == 0);
    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(flow_send(flow), ERR_NONE);
    UNTIL(&scene->world, flow->received == flow->sent);
    cr_assert_eq(scene->friend->downs, 0, "%s", scene->friend->last_down.text);
    cr_assert_eq(stats_of(scene->server).links, 1);
    world_fini(&scene->world);
}

/* ---- before authentication ---- */

static void random_bytes(enum test_backend_number backend)
{
    struct scene scene;
    scene_init(&scene, backend);
    for (uint64_t round = 0; round < rounds(300); round++) {
        int fd = raw_connect(scene.server);
        uint8_t bytes[2048];
        size_t size = 64 + (size_t)(hash_u64(round) % (sizeof(bytes) - 64));
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)hash_u64(round * 4096 + i);
        raw_send(fd, bytes, size);
        UNTIL(&scene.world, raw_is_closed(fd));
        close(fd);
    }
    cr_assert_geq(stats_of(scene.server).handshakes_failed, rounds(300));
    scene_fini(&scene);
}

Test(tcp_hostile, random_bytes_close_their_connection)
{
    random_bytes(TEST_TCP);
}

Test(tcp_hostile, random_bytes_close_their_connection_with_tls)
{
    random_bytes(TEST_TLS);
}

Test(tcp_hostile, frames_cut_short_are_forgotten)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    uint8_t hello[256];
    uint32_t size = raw_hello(hello, 0);
    for (uint32_t cut = 0; cut <= size; cut++) {
        int fd = raw_connect(scene.server);
        raw_send(fd, hello, cut);
        world_turn(&scene.world);
        close(fd);
    }
    scene_fini(&scene);
}

Test(tcp_hostile, a_size_that_cannot_be_right_closes_at_once)
{
    static const uint32_t sizes[] = {0,   1,   31,    33,      39,        257,
                                     264, 512, 69632, 1 << 20, 1u << 31u, UINT32_MAX};
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t bytes[256];
        (void)raw_hello(bytes, 0);
        memcpy(bytes, &sizes[i], 4);
        int fd = raw_connect(scene.server);
        uint64_t start = clock_now_ns();
        raw_send(fd, bytes, 32); /* the header is enough */
        UNTIL(&scene.world, raw_is_closed(fd));
        cr_assert_lt(clock_now_ns() - start, 250 * 1000000u, "not by the time limit");
        close(fd);
    }
    cr_assert_geq(stats_of(scene.server).bad_frames, sizeof(sizes) / sizeof(sizes[0]));
    scene_fini(&scene);
}

Test(tcp_hostile, every_flipped_bit_of_a_hello_closes)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    uint8_t hello[256];
    uint32_t size = raw_hello(hello, 0);
    for (uint32_t bit = 0; bit < 8 * size; bit += rounds(10) == 10 ? 1 : 7) {
        if (bit < 32) continue; /* sizes: another case */
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int fd = raw_connect(scene.server);
        raw_send(fd, hello, size);
        UNTIL(&scene.world, raw_is_closed(fd));
        close(fd);
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    scene_fini(&scene);
}

Test(tcp_hostile, frames_out_of_turn_close)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    for (uint16_t kind = 0; kind <= BATCH_KIND_LAST + 1; kind++) {
        struct raw_peer peer = {.world = &scene.world, .fd = raw_connect(scene.server)};
        uint8_t body[PROOF_FRAME_SIZE] = {0};
        if (kind == BATCH_HELLO) continue;
        raw_peer_send(&peer, (struct batch_header){.kind = kind}, body,
                      kind == BATCH_PROOF ? sizeof(body) : 0);
        UNTIL(&scene.world, raw_is_closed(peer.fd));
        close(peer.fd);
    }
    /* A second HELLO; and one with a sequence of its own. */
    for (unsigned i = 0; i < 2; i++) {
        uint8_t bytes[512];
        uint32_t size = raw_hello(bytes, i);
        size += raw_hello(bytes + size, 1);
        int fd = raw_connect(scene.server);
        raw_send(fd, bytes, size);
        UNTIL(&scene.world, raw_is_closed(fd));
        close(fd);
    }
    scene_fini(&scene);
}

Test(tcp_hostile, silence_ends_with_the_time_for_the_handshake)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    uint8_t hello[256];
    uint32_t size = raw_hello(hello, 0);
    int fds[3];
    uint64_t start = clock_now_ns();
    for (unsigned i = 0; i < 3; i++)
        fds[i] = raw_connect(scene.server);
    raw_send(fds[1], hello, size); /* is answered, says nothing more */
    unsigned dribbled = 0;
    bool closed = false;
    while (!closed) {
        turn_for_ms(&scene.world, 10);
        if (dribbled < 70) raw_send(fds[2], hello + dribbled++, 1);
        closed = raw_is_closed(fds[0]) && raw_is_closed(fds[1]) && raw_is_closed(fds[2]);
        cr_assert_lt(clock_now_ns() - start, 5000000000u);
    }
    cr_assert_geq(clock_now_ns() - start, 250 * 1000000u);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    scene_fini(&scene);
}

/* ---- the handshake, heard and repeated ---- */

static struct flow *connect_by(struct scene *scene, const struct proxy *proxy)
{
    struct endpoint *by = calloc(1, sizeof(*by));
    by->bound = scene->server->bound;
    by->bound.port = proxy->port;
    struct flow *flow = endpoint_connect(scene->friend, by, NULL);
    free(by);
    return flow;
}

static void flow_close(struct flow *flow)
{
    struct endpoint *endpoint = flow->endpoint;
    for (struct link *link = port_link_next(endpoint->port, NULL); link;
         link = port_link_next(endpoint->port, link)) {
        if (link_context(link) != flow) continue;
        link_close(link);
        *flow = (struct flow){0};
        return;
    }
}

Test(tcp_hostile, a_recorded_handshake_cannot_be_played_again)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    struct proxy proxy;
    proxy_init(&proxy, scene.server);
    struct flow *flow = connect_by(&scene, &proxy);
    while (!flow->link) {
        world_turn(&scene.world);
        proxy_turn(&proxy);
    }
    size_t hello_size = BATCH_HEADER_SIZE + HELLO_FRAME_SIZE;
    size_t proof_size = BATCH_HEADER_SIZE + PROOF_FRAME_SIZE;
    cr_assert_geq(proxy.recorded, hello_size + proof_size);
    uint64_t failed = stats_of(scene.server).handshakes_failed;
    unsigned ups = scene.server->ups;
    int fd = raw_connect(scene.server);
    raw_send(fd, proxy.record, hello_size);
    turn_for_ms(&scene.world, 20);
    cr_assert_not(raw_is_closed(fd), "HELLO alone is fine");
    raw_send(fd, proxy.record + hello_size, proof_size);
    UNTIL(&scene.world, raw_is_closed(fd));
    close(fd);
    /* All at once, too. */
    fd = raw_connect(scene.server);
    raw_send(fd, proxy.record, proxy.recorded);
    UNTIL(&scene.world, raw_is_closed(fd));
    close(fd);
    cr_assert_eq(stats_of(scene.server).handshakes_failed, failed + 2);
    cr_assert_eq(scene.server->ups, ups);
    flow_close(flow);
    proxy_fini(&proxy);
    UNTIL(&scene.world, endpoint_up_count(scene.server) == 1);
    scene_fini(&scene);
}

/* An impostor who sends the connector's own words back to it. */
Test(tcp_hostile, what_a_side_says_cannot_be_sent_back_to_it)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    struct endpoint *nobody = endpoint_create(&scene.world);
    nobody->bound = scene.server->bound;
    struct proxy mirror;
    proxy_init(&mirror, scene.server);
    nobody->bound.port = mirror.port;
    struct link_options options = {.report_failures = true, .once = true};
    struct flow *flow = endpoint_connect(scene.friend, nobody, &options);
    int fd = -1;
    while (fd < 0) {
        world_turn(&scene.world);
        fd = accept4(mirror.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    while (!scene.friend->downs) {
        uint8_t bytes[512];
        ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
        if (size > 0) raw_send(fd, bytes, (size_t)size);
        world_turn(&scene.world);
    }
    cr_assert_eq(flow->ups, 0);
    cr_assert_eq(scene.friend->last_down.err, ERR_BAD_FRAME, "%s", scene.friend->last_down.text);
    scene.friend->downs = 0;
    flow_close(flow);
    close(fd);
    proxy_fini(&mirror);
    scene_fini(&scene);
}

/* ---- damage on the way ---- */

static uint32_t size_of_mutation(uint64_t number)
{
    return 1 + (uint32_t)(number * 7919 % 3000);
}

static void flipped_bits(enum test_backend_number backend)
{
    struct scene scene;
    scene_init(&scene, backend);
    scene.server->size_of = scene.friend->size_of = size_of_mutation;
    struct proxy proxy;
    proxy_init(&proxy, scene.server);
    struct flow *flow = connect_by(&scene, &proxy);
    uint64_t lost = 0;
    for (uint64_t round = 0; round < rounds(200); round++) {
        unsigned downs = scene.friend->downs + scene.server->downs;
        uint64_t failed =
            stats_of(scene.server).handshakes_failed + stats_of(scene.friend).handshakes_failed;
        /* In the handshake, or among the messages. */
        if (round % 2) {
            flow_close(flow);
            turn_for_ms(&scene.world, 2);
            flow = connect_by(&scene, &proxy);
        }
        proxy.flip_at = proxy.passed + hash_u64(round) % (round % 2 ? 3000 : 80000);
        uint64_t start = clock_now_ns();
        bool noticed = false;
        while (!noticed) {
            if (flow->link && flow->sent - flow->received < 20) (void)flow_send(flow);
            world_turn(&scene.world);
            proxy_turn(&proxy);
            noticed =
                proxy.flip_at == UINT64_MAX && (scene.friend->downs + scene.server->downs > downs ||
                                                stats_of(scene.server).handshakes_failed +
                                                        stats_of(scene.friend).handshakes_failed >
                                                    failed ||
                                                clock_now_ns() - start > 400 * 1000000u);
        }
        lost += scene.friend->downs + scene.server->downs - downs;
        cr_assert_not(scene.friend->broken || scene.server->broken, "damage got through");
    }
    cr_assert_gt(lost, rounds(200) / 4);
    scene.friend->downs = 0; /* of the link that is not damaged there were none: */
    cr_assert_eq(scene.flow->downs, 0);
    cr_assert_eq(scene.flow->ups, 1);
    flow_close(flow);
    proxy_fini(&proxy);
    UNTIL(&scene.world, endpoint_up_count(scene.server) == 1);
    scene_fini(&scene);
}

Test(tcp_hostile, a_flipped_bit_ends_its_link_only)
{
    flipped_bits(TEST_TCP);
}

Test(tcp_hostile, a_flipped_bit_ends_its_link_only_with_tls)
{
    flipped_bits(TEST_TLS);
}

/* ---- after authentication ---- */

static uint32_t fragment_put(uint8_t *at, uint32_t size, uint32_t total)
{
    memset(at, 0, fragment_space(size));
    memcpy(at, &size, 4);
    memcpy(at + 4, &total, 4);
    return fragment_space(size);
}

/* One thing that an authenticated peer must not do. */
static void misbehave(struct raw_peer *peer, unsigned how)
{
    static uint8_t body[128 << 10];
    uint32_t size;
    struct batch_header data = {.kind = BATCH_DATA, .count = 1};
    switch (how) {
    case 0: /* a batch is missing */
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_CREDIT, .sequence = 1}, NULL, 0);
        break;
    case 1: /* a batch comes twice */
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_CREDIT, .sequence = UINT64_MAX},
                      NULL, 0);
        break;
    case 2: /* more credits than were used */
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_CREDIT, .credits = 1}, NULL, 0);
        break;
    case 3: /* a handshake in the middle */
        size = HELLO_FRAME_SIZE;
        memset(body, 0, size);
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_HELLO}, body, size);
        break;
    case 4: /* a piece of no message */
        size = fragment_put(body, 8, 0);
        raw_peer_send(peer, data, body, size);
        break;
    case 5: /* a message inside another */
        size = fragment_put(body, 8, 100);
        size += fragment_put(body + size, 8, 100);
        data.count = 2;
        raw_peer_send(peer, data, body, size);
        break;
    case 6: /* more than was announced */
        size = fragment_put(body, 8, 20);
        size += fragment_put(body + size, 16, 0);
        data.count = 2;
        raw_peer_send(peer, data, body, size);
        break;
    case 7: /* a message that is too large */
        size = fragment_put(body, 8, PORT_MESSAGE_SIZE_MAX + 1);
        raw_peer_send(peer, data, body, size);
        break;
    case 8: /* more batches than there are credits */
        size = fragment_put(body, 8, 8);
        for (unsigned i = 0; i < 40; i++)
            raw_peer_send(peer, data, body, size);
        break;
    case 9: /* a batch larger than any */
        size = fragment_put(body, 100 << 10, 100 << 10);
        raw_peer_send(peer, data, body, size);
        break;
    case 10: /* PING without end */
        for (unsigned i = 0; i < 40; i++)
            raw_peer_send(peer, (struct batch_header){.kind = BATCH_PING}, NULL, 0);
        break;
    case 11: /* words after the farewell */
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_GOODBYE}, NULL, 0);
        raw_peer_send(peer, (struct batch_header){.kind = BATCH_CREDIT}, NULL, 0);
        break;
    default:
        break;
    }
}
enum { MISDEEDS = 12 };

static void swallow(struct flow *flow, uint8_t *message, uint32_t size)
{
    (void)flow, (void)size;
    free(message);
}

Test(tcp_hostile, an_authenticated_peer_that_breaks_the_rules_loses_its_link_only)
{
    for (unsigned how = 0; how < MISDEEDS; how++) {
        struct scene scene;
        scene_init(&scene, TEST_TCP);
        scene.server->on_message = swallow;
        struct raw_peer peer;
        raw_peer_join(&peer, &scene.world, scene.server);
        UNTIL(&scene.world, endpoint_up_count(scene.server) == 2);
        uint64_t bad = stats_of(scene.server).bad_frames;
        misbehave(&peer, how);
        UNTIL(&scene.world, scene.server->downs == 1);
        UNTIL(&scene.world, raw_is_closed(peer.fd));
        if (how == 11) {
            cr_assert_eq(scene.server->last_down.err, ERR_CLOSED);
        } else {
            cr_assert_eq(scene.server->last_down.err, ERR_BAD_FRAME, "%u: %s", how,
                         scene.server->last_down.text);
            cr_assert_eq(stats_of(scene.server).bad_frames, bad + 1);
        }
        close(peer.fd);
        scene.server->on_message = NULL;
        scene_fini(&scene);
    }
}

Test(tcp_hostile, an_authenticated_peer_may_behave)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    scene.server->on_message = swallow;
    struct raw_peer peer;
    raw_peer_join(&peer, &scene.world, scene.server);
    uint8_t body[64];
    struct batch_header data = {.kind = BATCH_DATA, .count = 1};
    uint32_t size = fragment_put(body, 8, 24);
    raw_peer_send(&peer, data, body, size);
    size = fragment_put(body, 16, 0);
    raw_peer_send(&peer, data, body, size);
    raw_peer_send(&peer, (struct batch_header){.kind = BATCH_PING}, NULL, 0);
    UNTIL(&scene.world, scene.server->received == 1);
    cr_assert_eq(scene.server->downs, 0);
    close(peer.fd);
    UNTIL(&scene.world, scene.server->downs == 1);
    cr_assert_eq(scene.server->last_down.err, ERR_CLOSED);
    scene.server->on_message = NULL;
    scene_fini(&scene);
}

/* ---- floods ---- */

Test(tcp_hostile, a_flood_of_connections_is_bounded_and_locks_nobody_out)
{
    enum { OPEN = 600 };
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    scene.server->config.handshake_ms = 5000;
    uint8_t hello[256];
    uint32_t hello_size = raw_hello(hello, 0);
    static int fds[OPEN];
    memset(fds, -1, sizeof(fds));
    struct flow *late = NULL;
    uint64_t count = rounds(5000) < 1000 ? 1000 : rounds(5000), came_in = 0;
    for (uint64_t i = 0; i < count; i++) {
        int *fd = &fds[i % OPEN];
        if (*fd >= 0) close(*fd);
        *fd = raw_connect(scene.server);
        /* Some say nothing, some begin well, some talk nonsense. */
        if (i % 3 == 0) raw_send(*fd, hello, hello_size);
        if (i % 3 == 1) raw_send(*fd, "GET / HTTP/1.1\r\n\r\n nonsense without end", 38);
        world_turn(&scene.world);
        struct port_stats stats = stats_of(scene.server);
        cr_assert_leq(stats.links_pending, 32);
        cr_assert_leq(stats.buffer_bytes, 4 << 20);
        if (i == count / 2) late = endpoint_connect(scene.friend, scene.server, NULL);
        if (late && late->link && !came_in) came_in = i;
    }
    UNTIL(&scene.world, late->link);
    for (unsigned i = 0; i < OPEN; i++)
        if (fds[i] >= 0) close(fds[i]);
    cr_assert_gt(stats_of(scene.server).refused, 0);
    flow_close(late);
    UNTIL(&scene.world, endpoint_up_count(scene.server) == 1);
    scene_fini(&scene);
}

Test(tcp_hostile, running_out_of_descriptors_is_survived)
{
    struct scene scene;
    scene_init(&scene, TEST_TCP);
    struct rlimit limit, before;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 200;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), copies[200], count = 0;
    cr_assert_geq(fd, 0);
    while ((copies[count] = dup(fd)) >= 0)
        count++;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(scene.server->bound.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    uint64_t sleeps = stats_of(scene.server).sleeps;
    uint64_t start = clock_now_ns();
    while (clock_now_ns() - start < 500 * 1000000u)
        (void)port_wait(scene.server->port, 100 * 1000000);
    cr_assert_leq(stats_of(scene.server).sleeps - sleeps, 100, "it does not run hot");
    while (count)
        close(copies[--count]);
    raw_send(fd, "nonsense that is longer than a header of a batch is", 50);
    UNTIL(&scene.world, raw_is_closed(fd));
    close(fd);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    scene_fini(&scene);
}

/* ---- addresses and TLS ---- */

static void expect_failure(const char *text, enum err err, const char *reason)
{
    struct world world;
    world_init(&world, TEST_TCP);
    struct endpoint *a = endpoint_create(&world), *to = endpoint_create(&world);
    endpoint_start(a);
    struct diag diag;
    cr_assert_eq(port_address_parse(text, &to->bound, &diag), ERR_NONE);
    struct link_options options = {.report_failures = true, .once = true};
    (void)endpoint_connect(a, to, &options);
    UNTIL(&world, a->downs == 1);
    cr_assert_eq(a->last_down.err, err, "%s", a->last_down.text);
    cr_assert_not_null(strstr(a->last_down.text, reason), "%s", a->last_down.text);
    world_fini(&world);
}

Test(tcp, failures_to_connect_have_reasons)
{
    expect_failure("tcp:127.0.0.1:1", ERR_IO, "refused");
    expect_failure("tcp:no-such-host.invalid:1", ERR_NOT_FOUND, "no-such-host.invalid");
    expect_failure("tls:127.0.0.1:1", ERR_IO, "refused");
}

static void names(const char *listen, const char *connect)
{
    struct world world;
    world_init(&world, TEST_TCP);
    struct endpoint *a = endpoint_create(&world), *b = endpoint_create(&world);
    endpoint_start(a);
    endpoint_start(b);
    struct diag diag;
    cr_assert_eq(port_address_parse(listen, &b->bound, &diag), ERR_NONE);
    endpoint_listen(b);
    uint16_t port = b->bound.port;
    cr_assert_neq(port, 0);
    cr_assert_eq(port_address_parse(connect, &b->bound, &diag), ERR_NONE);
    b->bound.port = port;
    struct flow *flow = endpoint_connect(a, b, NULL);
    UNTIL(&world, flow->link && endpoint_up_count(b));
    world_fini(&world);
}

Test(tcp, names_and_both_families_work)
{
    names("tcp:127.0.0.1:0", "tcp:localhost:1");
    names("tcp:0.0.0.0:0", "tcp:127.0.0.1:1");
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_six = fd >= 0 && !bind(fd, (struct sockaddr *)&six, sizeof(six));
    if (fd >= 0) close(fd);
    if (!has_six) return;
    names("tcp:[::1]:0", "tcp:[::1]:1");
    names("tls:[::]:0", "tls:127.0.0.1:1");
}

Test(tcp, listening_at_a_foreign_address_is_refused)
{
    struct world world;
    world_init(&world, TEST_TCP);
    struct endpoint *a = endpoint_create(&world);
    endpoint_start(a);
    struct port_address address;
    struct diag diag;
    cr_assert_eq(port_address_parse("tcp:192.0.2.1:0", &address, &diag), ERR_NONE);
    cr_assert_eq(port_listen(a->port, &address, NULL, &diag), ERR_INVALID, "%s", diag.text);
    cr_assert_not_null(strstr(diag.text, "not an address of this host"), "%s", diag.text);
    cr_assert_eq(port_address_parse("tcp:no-such-host.invalid:0", &address, &diag), ERR_NONE);
    cr_assert_eq(port_listen(a->port, &address, NULL, &diag), ERR_NOT_FOUND, "%s", diag.text);
    world_fini(&world);
}

/* One side speaks TLS and the other does not. */
static void mixed(bool server_tls)
{
    struct scene scene;
    scene_init(&scene, server_tls ? TEST_TLS : TEST_TCP);
    struct endpoint *to = endpoint_create(&scene.world);
    to->bound = scene.server->bound;
    to->bound.tls = !server_tls;
    struct link_options options = {.report_failures = true, .once = true};
    struct flow *flow = endpoint_connect(scene.friend, to, &options);
    UNTIL(&scene.world, scene.friend->downs == 1);
    cr_assert_eq(flow->ups, 0);
    cr_assert_gt(strlen(scene.friend->last_down.text), 10);
    scene.friend->downs = 0;
    flow_close(flow);
    scene_fini(&scene);
}

Test(tcp, tls_and_plain_do_not_understand_each_other)
{
    mixed(false);
    mixed(true);
}
