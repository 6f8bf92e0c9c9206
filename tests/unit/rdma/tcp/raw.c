#include "tests/unit/rdma/tcp/raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int raw_connect(const struct endpoint *to)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    struct sockaddr_in address = loopback(to->bound.port);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0, "%s",
                 strerror(errno));
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

void raw_send(int fd, const void *bytes, size_t size)
{
    /* A peer that has closed already makes this fail, as it should. */
    (void)!send(fd, bytes, size, MSG_NOSIGNAL);
}

bool raw_is_closed(int fd)
{
    uint8_t bytes[4096];
    ssize_t size;
    do {
        size = recv(fd, bytes, sizeof(bytes), 0);
    } while (size > 0);
    return size == 0 || errno != EAGAIN;
}

/* ---- a peer by hand ---- */

static uint32_t batch_make(uint8_t *bytes, struct batch_header header, const void *body,
                           uint32_t body_size)
{
    if (body_size) memcpy(bytes + BATCH_HEADER_SIZE, body, body_size);
    header.size = BATCH_HEADER_SIZE + body_size;
    batch_seal(bytes, &header, true);
    return header.size;
}

uint32_t raw_hello(uint8_t *bytes, uint64_t sequence)
{
    struct hello_frame frame = {.version = HANDSHAKE_VERSION, .nonce = {1, 2, 3}};
    uint8_t body[HELLO_FRAME_SIZE];
    hello_encode(&frame, body);
    struct batch_header header = {.kind = BATCH_HELLO, .sequence = sequence};
    return batch_make(bytes, header, body, sizeof(body));
}

void raw_peer_send(struct raw_peer *peer, struct batch_header header, const void *body,
                   uint32_t body_size)
{
    uint8_t *bytes = malloc(BATCH_HEADER_SIZE + body_size);
    cr_assert_not_null(bytes);
    header.sequence += peer->sequence++;
    raw_send(peer->fd, bytes, batch_make(bytes, header, body, body_size));
    free(bytes);
}

/* The next batch, whose body must be that long. */
static void peer_receive(struct raw_peer *peer, uint8_t *body, size_t body_size)
{
    uint8_t bytes[512];
    size_t size = 0;
    uint64_t start = clock_now_ns();
    while (size < BATCH_HEADER_SIZE + body_size) {
        ssize_t got = recv(peer->fd, bytes + size, BATCH_HEADER_SIZE + body_size - size, 0);
        cr_assert(got > 0 || (got < 0 && errno == EAGAIN), "closed");
        if (got > 0) size += (size_t)got;
        world_turn(peer->world);
        cr_assert_lt(clock_now_ns() - start, 10000000000u);
    }
    struct batch_header header;
    cr_assert_eq(batch_check(bytes, (uint32_t)size, true, &header), ERR_NONE);
    memcpy(body, bytes + BATCH_HEADER_SIZE, body_size);
}

void raw_peer_join(struct raw_peer *peer, struct world *world, const struct endpoint *to)
{
    *peer = (struct raw_peer){.world = world, .fd = raw_connect(to)};
    handshake_keys_derive(to->config.secret, &peer->keys);
    uint8_t body[256];
    struct hello_frame hello = {.version = HANDSHAKE_VERSION, .nonce = {9}};
    memcpy(peer->transcript.connector_nonce, hello.nonce, sizeof(hello.nonce));
    hello_encode(&hello, body);
    raw_peer_send(peer, (struct batch_header){.kind = BATCH_HELLO}, body, HELLO_FRAME_SIZE);
    struct challenge_frame challenge;
    peer_receive(peer, body, CHALLENGE_FRAME_SIZE);
    cr_assert_eq(challenge_decode(body, CHALLENGE_FRAME_SIZE, &challenge), ERR_NONE);
    memcpy(peer->transcript.acceptor_nonce, challenge.nonce, sizeof(challenge.nonce));
    struct offer_frame proof = {.offer = {16, PORT_MESSAGE_SIZE_MAX, 10000, 0, {0}}};
    offer_encode(&proof.offer, proof.offer_bytes);
    memcpy(peer->transcript.connector_offer, proof.offer_bytes, OFFER_SIZE);
    connector_prove(&peer->keys, &peer->transcript, proof.proof);
    offer_frame_encode(&proof, body);
    raw_peer_send(peer, (struct batch_header){.kind = BATCH_PROOF}, body, PROOF_FRAME_SIZE);
    peer_receive(peer, body, WELCOME_FRAME_SIZE);
    struct offer_frame welcome;
    cr_assert_eq(offer_frame_decode(body, WELCOME_FRAME_SIZE, &welcome), ERR_NONE);
}

/* ---- the proxy ---- */

void proxy_init(struct proxy *proxy, const struct endpoint *to)
{
    *proxy = (struct proxy){.to = to, .flip_at = UINT64_MAX};
    for (unsigned i = 0; i < 64; i++)
        proxy->fds[i][0] = proxy->fds[i][1] = -1;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    cr_assert_eq(bind(proxy->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(proxy->listener, 64), 0);
    cr_assert_eq(getsockname(proxy->listener, (struct sockaddr *)&address, &size), 0);
    proxy->port = ntohs(address.sin_port);
}

static void pair_close(int fds[2])
{
    for (unsigned i = 0; i < 2; i++) {
        if (fds[i] >= 0) close(fds[i]);
        fds[i] = -1;
    }
}

void proxy_fini(struct proxy *proxy)
{
    for (unsigned i = 0; i < 64; i++)
        pair_close(proxy->fds[i]);
    close(proxy->listener);
}

/* False: one side has closed. */
static bool proxy_pass(struct proxy *proxy, int from, int to, bool from_connector)
{
    uint8_t bytes[16384];
    ssize_t size = recv(from, bytes, sizeof(bytes), 0);
    if (size < 0 && errno == EAGAIN) return true;
    if (size <= 0) return false;
    if (from_connector) {
        size_t room = sizeof(proxy->record) - proxy->recorded;
        size_t part = (size_t)size < room ? (size_t)size : room;
        memcpy(proxy->record + proxy->recorded, bytes, part);
        proxy->recorded += part;
    }
    uint64_t bits = 8 * (uint64_t)size;
    if (proxy->flip_at >= proxy->passed && proxy->flip_at < proxy->passed + bits) {
        uint64_t bit = proxy->flip_at - proxy->passed;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        proxy->flip_at = UINT64_MAX;
    }
    proxy->passed += bits;
    for (ssize_t sent = 0; sent < size;) {
        ssize_t part = send(to, bytes + sent, (size_t)(size - sent), MSG_NOSIGNAL);
        if (part < 0 && errno == EAGAIN) {
            world_turn(proxy->to->world);
            continue;
        }
        if (part < 0) return false;
        sent += part;
    }
    return true;
}

void proxy_turn(struct proxy *proxy)
{
    for (unsigned i = 0; i < 64; i++) {
        int *fds = proxy->fds[i];
        if (fds[0] < 0) {
            fds[0] = accept4(proxy->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fds[0] < 0) continue;
            fds[1] = raw_connect(proxy->to);
        }
        if (!proxy_pass(proxy, fds[0], fds[1], true) || !proxy_pass(proxy, fds[1], fds[0], false))
            pair_close(fds);
    }
}
