/* A port whose peer is hostile. The carrier is made up here: it takes tcp's place when the program
 * is linked, and moves batches between the port under test and the input.
 *
 *   byte 0   bit 0: the peer knows the secret, and does the handshake as it should before it turns
 *            bit 1: it is the acceptor (the port connects), else the connector
 *   then     records of u8 flags, u8 size in 8-byte words, the bytes: one batch each
 *              bits 0-1: of the header, 1: size, sequence and taken are put right; 2: kind DATA
 *                        as well; 3: one fragment is put around the bytes as well
 *              bit 2:    the port's owner sends a message first
 *              bit 3:    the owner closes the link
 *              bit 4:    no buffer is free from now on; bit 5: there is again
 *
 * Whatever comes, the port neither crashes nor leaks, and holds one message's memory at most for a
 * link. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "rdma/core/backend.h"
#include "rdma/core/batch.h"
#include "rdma/core/handshake.h"
#include "tests/fuzz/fuzz.h"

enum { CAPACITY = 4096 };

struct backend {
    struct backend_head head;
};
struct backend_link {
    uint8_t bytes[CAPACITY];
};

static struct carrier {
    struct backend *backend;
    struct link *link; /* the one link under test; NULL: closed */
    struct backend_link backend_link;
    bool full;
    bool connected_due;
    uint8_t posted[CAPACITY]; /* the newest batch of the port */
    uint32_t posted_size;
    uint64_t now_ns;
    uint32_t held; /* messages in the making */
    struct link *up;
} carrier;

/* ---- the carrier ---- */

static enum err carrier_open(struct port *port, int epoll_fd, struct backend **ret_backend,
                             struct diag *diag)
{
    (void)epoll_fd;
    (void)diag;
    struct backend *backend = calloc(1, sizeof(*backend));
    ASSERT(backend);
    backend->head.ops = &tcp_ops;
    backend->head.port = port;
    carrier.backend = backend;
    *ret_backend = backend;
    return ERR_NONE;
}

static void carrier_destroy(struct backend *backend)
{
    free(backend);
}

static enum err carrier_listen(struct backend *backend, const struct port_address *address,
                               struct port_address *ret_bound, struct diag *diag)
{
    (void)backend;
    (void)address;
    (void)ret_bound;
    (void)diag;
    return ERR_NONE;
}

static enum err carrier_connect(struct backend *backend, struct link *link,
                                const struct port_address *address, struct diag *diag)
{
    (void)backend;
    (void)address;
    (void)diag;
    carrier.link = link;
    carrier.connected_due = true;
    link_set_backend(link, &carrier.backend_link);
    return ERR_NONE;
}

static void carrier_close(struct link *link, bool drain)
{
    (void)drain;
    if (link == carrier.link) carrier.link = NULL;
}

static enum err carrier_reserve(struct link *link, uint8_t **ret_bytes, uint32_t *ret_capacity)
{
    (void)link;
    if (carrier.full) return ERR_BUSY;
    *ret_bytes = carrier.backend_link.bytes;
    *ret_capacity = CAPACITY;
    return ERR_NONE;
}

static void carrier_post(struct link *link, uint32_t size)
{
    (void)link;
    ASSERT(size >= BATCH_HEADER_SIZE && size <= CAPACITY);
    struct batch_header header;
    ASSERT(batch_check(carrier.backend_link.bytes, size, false, &header) == ERR_NONE);
    memcpy(carrier.posted, carrier.backend_link.bytes, size);
    carrier.posted_size = size;
}

static void carrier_flush(struct link *link)
{
    (void)link;
}

static bool carrier_poll(struct backend *backend, unsigned budget)
{
    (void)backend;
    (void)budget;
    if (!carrier.connected_due || !carrier.link) return false;
    carrier.connected_due = false;
    core_connected(carrier.link);
    return true;
}

const struct backend_ops tcp_ops = {
    .kind = LINK_TCP,
    .open = carrier_open,
    .destroy = carrier_destroy,
    .listen = carrier_listen,
    .connect = carrier_connect,
    .close = carrier_close,
    .reserve = carrier_reserve,
    .post = carrier_post,
    .flush = carrier_flush,
    .poll = carrier_poll,
};

/* ---- the port's owner ---- */

static enum err on_up(void *context, struct link *link)
{
    (void)context;
    carrier.up = link;
    return ERR_NONE;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    (void)context;
    ASSERT(reason->text[0]);
    if (carrier.up == link) carrier.up = NULL;
}

static void *on_alloc(void *context, struct link *link, uint32_t size)
{
    (void)context;
    (void)link;
    ASSERT(size && size <= PORT_MESSAGE_SIZE_MAX && carrier.held == 0);
    carrier.held++;
    return malloc(size);
}

static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    (void)context;
    (void)link;
    ASSERT(size);
    carrier.held--;
    free(message);
}

static void on_release(void *context, struct link *link, void *message)
{
    (void)context;
    (void)link;
    carrier.held--;
    free(message);
}

static const struct port_events events = {
    .up = on_up, .down = on_down, .alloc = on_alloc, .message = on_message, .release = on_release};

static uint64_t on_clock(void *context)
{
    (void)context;
    return carrier.now_ns;
}

static void on_random(void *context, void *bytes, size_t size)
{
    (void)context;
    memset(bytes, 7, size);
}

/* ---- the peer ---- */

static void give(const uint8_t *bytes, uint32_t size)
{
    if (!carrier.link) return;
    uint8_t *copy = fuzz_copy(bytes, size);
    core_batch(carrier.link, copy, size);
    free(copy);
}

static void give_frame(uint64_t sequence, enum batch_kind kind, const void *frame, uint32_t size)
{
    uint8_t bytes[BATCH_CAPACITY_MIN];
    memcpy(bytes + BATCH_HEADER_SIZE, frame, size);
    struct batch_header header = {
        .size = BATCH_HEADER_SIZE + size, .sequence = sequence, .kind = (uint16_t)kind};
    batch_seal(bytes, &header, false);
    give(bytes, header.size);
}

static struct offer_frame offer_make(void)
{
    struct offer_frame frame = {
        .offer = {.credits = 4, .message_size_max = 1 << 16, .keepalive_ms = 1000}};
    offer_encode(&frame.offer, frame.offer_bytes);
    return frame;
}

/* As the connector. */
static void shake_connecting(const struct handshake_keys *keys)
{
    struct transcript transcript = {0};
    struct hello_frame hello = {.version = HANDSHAKE_VERSION};
    memset(hello.nonce, 3, sizeof(hello.nonce));
    memcpy(transcript.connector_nonce, hello.nonce, sizeof(hello.nonce));
    uint8_t bytes[PROOF_FRAME_SIZE];
    hello_encode(&hello, bytes);
    give_frame(0, BATCH_HELLO, bytes, HELLO_FRAME_SIZE);
    struct challenge_frame challenge;
    ASSERT(challenge_decode(carrier.posted + BATCH_HEADER_SIZE,
                            carrier.posted_size - BATCH_HEADER_SIZE, &challenge) == ERR_NONE);
    memcpy(transcript.acceptor_nonce, challenge.nonce, sizeof(challenge.nonce));
    struct offer_frame frame = offer_make();
    memcpy(transcript.connector_offer, frame.offer_bytes, OFFER_SIZE);
    connector_prove(keys, &transcript, frame.proof);
    offer_frame_encode(&frame, bytes);
    give_frame(1, BATCH_PROOF, bytes, PROOF_FRAME_SIZE);
    ASSERT(carrier.up);
}

/* As the acceptor. */
static void shake_accepting(const struct handshake_keys *keys)
{
    struct transcript transcript = {0};
    struct hello_frame hello;
    ASSERT(hello_decode(carrier.posted + BATCH_HEADER_SIZE, carrier.posted_size - BATCH_HEADER_SIZE,
                        &hello) == ERR_NONE);
    memcpy(transcript.connector_nonce, hello.nonce, sizeof(hello.nonce));
    struct challenge_frame challenge = {.version = HANDSHAKE_VERSION};
    memset(challenge.nonce, 5, sizeof(challenge.nonce));
    memcpy(transcript.acceptor_nonce, challenge.nonce, sizeof(challenge.nonce));
    challenge_prove(keys, &transcript, challenge.version, challenge.proof);
    uint8_t bytes[PROOF_FRAME_SIZE];
    challenge_encode(&challenge, bytes);
    give_frame(0, BATCH_CHALLENGE, bytes, CHALLENGE_FRAME_SIZE);
    struct offer_frame theirs;
    ASSERT(offer_frame_decode(carrier.posted + BATCH_HEADER_SIZE,
                              carrier.posted_size - BATCH_HEADER_SIZE, &theirs) == ERR_NONE);
    memcpy(transcript.connector_offer, theirs.offer_bytes, OFFER_SIZE);
    struct offer_frame frame = offer_make();
    memcpy(transcript.acceptor_offer, frame.offer_bytes, OFFER_SIZE);
    welcome_prove(keys, &transcript, frame.proof);
    offer_frame_encode(&frame, bytes);
    give_frame(1, BATCH_WELCOME, bytes, WELCOME_FRAME_SIZE);
    ASSERT(carrier.up);
}

/* One batch of the input, helped along as its flags say. */
static void give_record(uint8_t flags, const uint8_t *bytes, uint32_t size, uint64_t *sequence)
{
    uint8_t batch[BATCH_HEADER_SIZE + FRAGMENT_HEADER_SIZE + 255 * 8] = {0};
    unsigned help = flags & 3;
    if (help == 3) {
        uint32_t words[2] = {size, size};
        if (size > 2 && bytes[0] & 1) words[1] = (uint32_t)bytes[1] << 8; /* one of several */
        memcpy(batch + BATCH_HEADER_SIZE, words, sizeof(words));
        if (size) memcpy(batch + BATCH_HEADER_SIZE + FRAGMENT_HEADER_SIZE, bytes, size);
        size += BATCH_HEADER_SIZE + FRAGMENT_HEADER_SIZE;
    } else if (size) {
        memcpy(batch, bytes, size);
    }
    if (help && size >= BATCH_HEADER_SIZE) {
        struct batch_header header;
        memcpy(&header, batch, sizeof(header));
        header.size = size;
        header.sequence = *sequence;
        header.check = 0;
        if (help >= 2) header.kind = BATCH_DATA;
        if (header.kind != BATCH_GOODBYE) header.taken = 0;
        if (help == 3) header.count = 1;
        memcpy(batch, &header, sizeof(header));
    }
    (*sequence)++;
    give(batch, size);
}

static void owner_act(uint8_t flags)
{
    if (flags & 16) carrier.full = true;
    if (flags & 32) {
        carrier.full = false;
        if (carrier.link) core_writable(carrier.link);
    }
    if (!carrier.up) return;
    if (flags & 4) {
        static const uint8_t message[5000] = {1, 2, 3};
        struct link_piece piece = {message, flags & 64 ? sizeof(message) : 9};
        enum err err = link_send(carrier.up, &piece, 1);
        ASSERT(!err || err == ERR_BUSY || err == ERR_TOO_BIG || err == ERR_CLOSED);
    }
    if (flags & 8) {
        link_close(carrier.up);
        carrier.up = NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!size) return 0;
    carrier = (struct carrier){.now_ns = 1000000000u};
    struct port_config config = {.events = &events,
                                 .spin = PORT_SPIN_NEVER,
                                 .link_queue_bytes = 1 << 16,
                                 .monotonic_ns = on_clock,
                                 .random = on_random};
    memset(config.secret, 9, sizeof(config.secret));
    struct port *port;
    struct diag diag;
    ASSERT(port_create(&config, &port, &diag) == ERR_NONE);
    struct port_address address = {.kind = LINK_TCP, .port = 1, .host = "x"};
    struct handshake_keys keys;
    handshake_keys_derive(config.secret, &keys);
    uint64_t sequence = 0;
    if (bytes[0] & 2) {
        struct link *link;
        ASSERT(port_connect(port, &address, NULL, &link, &diag) == ERR_NONE);
        (void)port_poll(port);
        if (bytes[0] & 1) shake_accepting(&keys);
    } else {
        ASSERT(port_listen(port, &address, NULL, &diag) == ERR_NONE);
        carrier.link = core_accept(carrier.backend, &carrier.backend_link, "peer");
        ASSERT(carrier.link);
        if (bytes[0] & 1) shake_connecting(&keys);
    }
    if (bytes[0] & 1) sequence = 2;
    for (size_t at = 1; at + 2 <= size;) {
        uint8_t flags = bytes[at];
        uint32_t length = bytes[at + 1] * 8u;
        at += 2;
        if (length > size - at) length = (uint32_t)(size - at) & ~7u;
        owner_act(flags);
        give_record(flags, bytes + at, length, &sequence);
        at += length;
        carrier.now_ns += 1000000;
        port_flush(port);
        (void)port_poll(port);
    }
    port_destroy(port);
    ASSERT(carrier.held == 0);
    return 0;
}
