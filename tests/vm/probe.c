/* A small peer for the guest tests, over any back end.
 *
 *     vm_probe serve ADDRESS [SPIN]             echoes every message, until it is killed; says
 *                                               "serving ADDRESS" once it listens
 *     vm_probe ping ADDRESS SIZE COUNT [SPIN]   so many round trips, one at a time; their latencies
 *     vm_probe flood ADDRESS SIZE COUNT         sends all of them as fast as it can, waits for all
 * echoes vm_probe hold ADDRESS LINKS SECONDS [MS [UPS]]  keeps so many links busy, each with one
 * message under way, and says for how long the longest was down; MS: keep-alive
 *
 * SPIN is spin, sleep or adaptive (the default). Messages carry their number, and every echo is
 * checked: a lost, doubled, disordered or damaged one ends the program with status 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "rdma/port.h"

struct peer {
    struct link *link;
    uint64_t sent, received;
    uint64_t since_ns; /* when the last echo came, or it went down */
    uint64_t longest_ns;
    unsigned ups, downs;
    bool up;
};

static bool serving;
static uint32_t message_size = 64;
static unsigned peer_count;
static struct peer *peers;
static uint8_t *content;
static uint64_t echoes;

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

__attribute__((noreturn)) static void fail(const char *what, const char *why)
{
    fprintf(stderr, "vm_probe: %s: %s\n", what, why);
    exit(1);
}

static void send_next(struct peer *peer)
{
    uint64_t number = peer->sent;
    memcpy(content, &number, sizeof(number));
    struct link_piece piece = {content, message_size};
    enum err err = link_send(peer->link, &piece, 1);
    if (!err)
        peer->sent++;
    else if (err != ERR_BUSY && err != ERR_CLOSED)
        fail("cannot send", err_text(err));
}

static bool all_up(void)
{
    for (unsigned i = 0; i < peer_count; i++)
        if (!peers[i].up) return false;
    return true;
}

static unsigned ups_count(void)
{
    unsigned ups = 0;
    for (unsigned i = 0; i < peer_count; i++)
        ups += peers[i].ups;
    return ups;
}

static enum err on_up(void *context, struct link *link)
{
    (void)context;
    struct peer *peer = link_context(link);
    if (serving) return ERR_NONE;
    peer->up = true;
    peer->ups++;
    if (all_up()) printf("all up, %u times in all\n", ups_count());
    return ERR_NONE;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    (void)context;
    static char last[DIAG_TEXT_SIZE_MAX];
    struct peer *peer = link_context(link);
    if (strcmp(last, reason->text)) {
        snprintf(last, sizeof(last), "%s", reason->text);
        printf("down: %s\n", reason->text);
        fflush(stdout);
    }
    if (serving) return;
    if (peer_count == 1) fail("the link", reason->text);
    peer->downs += peer->up;
    peer->up = false;
    peer->received = peer->sent; /* what was under way may be lost */
}

static void *on_alloc(void *context, struct link *link, uint32_t size)
{
    (void)context, (void)link;
    return malloc(size);
}

static void on_release(void *context, struct link *link, void *message)
{
    (void)context, (void)link;
    free(message);
}

static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    (void)context;
    if (serving) {
        struct link_piece piece = {message, size};
        enum err err = link_send(link, &piece, 1);
        if (err && err != ERR_CLOSED) fail("cannot echo", err_text(err));
        free(message);
        return;
    }
    struct peer *peer = link_context(link);
    uint64_t number;
    memcpy(&number, message, sizeof(number));
    if (number != peer->received || size != message_size ||
        memcmp((uint8_t *)message + 8, content + 8, size - 8) != 0)
        fail("an echo", "lost, doubled, disordered or damaged");
    free(message);
    peer->received++;
    echoes++;
    uint64_t now = now_ns();
    if (now - peer->since_ns > peer->longest_ns) peer->longest_ns = now - peer->since_ns;
    peer->since_ns = now;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void wait_up(struct port *port)
{
    uint64_t begin = now_ns(), end = begin + UINT64_C(60000000000);
    for (unsigned i = 0; i < peer_count; i++)
        while (!peers[i].up) {
            port_wait(port, 100000000);
            if (now_ns() > end) fail("the links", "not up within a minute");
        }
    printf("%u up after %.3f s\n", peer_count, (double)(now_ns() - begin) / 1e9);
}

static void ping(struct port *port, uint32_t count)
{
    double *took = calloc(count, sizeof(*took));
    if (!took) fail("memory", "none");
    for (uint32_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        send_next(&peers[0]);
        while (peers[0].received <= i)
            port_wait(port, 5000000000);
        took[i] = (double)(now_ns() - start) / 1e3;
    }
    qsort(took, count, sizeof(*took), compare);
    struct port_stats stats;
    port_stats(port, &stats);
    printf("ping %u bytes: min %.1f p50 %.1f p90 %.1f p99 %.1f max %.1f us; %" PRIu64
           " sleeps, found %" PRIu64 " times while spinning\n",
           message_size, took[0], took[count / 2], took[count * 9 / 10], took[count * 99 / 100],
           took[count - 1], stats.sleeps, stats.spins);
    free(took);
}

static void flood(struct port *port, uint32_t count)
{
    struct peer *peer = &peers[0];
    uint64_t start = now_ns();
    while (peer->received < count) {
        /* Bounded, so that the echoes that wait in the server stay below its limit. */
        while (peer->sent < count && (peer->sent - peer->received) * message_size < (8 << 20)) {
            uint64_t before = peer->sent;
            send_next(peer);
            if (peer->sent == before) break;
        }
        port_wait(port, 1000000000);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    struct link_stats stats;
    link_stats(peer->link, &stats);
    printf("flood %u bytes: %.0f messages/s, %.1f MB/s each way, %.1f messages per batch, %" PRIu64
           " stalls\n",
           message_size, count / seconds, count / seconds * message_size / 1e6,
           (double)count / (double)stats.batches_sent, stats.stalls);
}

/* Until so many seconds are over, or, when `enough` is given, all links are up and have been up
 * that many times in all. */
static void hold(struct port *port, double seconds, unsigned enough)
{
    uint64_t start = now_ns(), longest = 0;
    unsigned downs = 0;
    for (unsigned i = 0; i < peer_count; i++)
        peers[i].since_ns = start;
    while ((double)(now_ns() - start) < seconds * 1e9 &&
           !(enough && all_up() && ups_count() >= enough)) {
        for (unsigned i = 0; i < peer_count; i++)
            if (peers[i].up && peers[i].received == peers[i].sent) send_next(&peers[i]);
        port_wait(port, 10000000);
    }
    for (unsigned i = 0; i < peer_count; i++) {
        uint64_t silent = now_ns() - peers[i].since_ns;
        if (silent > peers[i].longest_ns) peers[i].longest_ns = silent;
        if (peers[i].longest_ns > longest) longest = peers[i].longest_ns;
        downs += peers[i].downs;
    }
    struct port_stats stats;
    port_stats(port, &stats);
    printf("hold: %u links, %" PRIu64 " echoes, %u ups, %u downs, longest silence %.3f s, %" PRIu64
           " KiB registered\n",
           peer_count, echoes, ups_count(), downs, (double)longest / 1e9,
           stats.registered_bytes >> 10);
}

static enum port_spin spin_of(const char *text)
{
    if (!text || !strcmp(text, "adaptive")) return PORT_SPIN_ADAPTIVE;
    if (!strcmp(text, "spin")) return PORT_SPIN_ALWAYS;
    if (!strcmp(text, "sleep")) return PORT_SPIN_NEVER;
    fail(text, "spin, sleep or adaptive");
}

static uint32_t number_of(const char *text)
{
    if (!text) fail("usage", "a number is missing");
    return (uint32_t)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
    static const struct port_events events = {on_up, on_down, on_alloc, on_message, on_release};
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3) fail("usage", "vm_probe serve|ping|flood|hold ADDRESS …");
    bool pings = !strcmp(argv[1], "ping"), floods = !strcmp(argv[1], "flood");
    bool holds = !strcmp(argv[1], "hold");
    serving = !strcmp(argv[1], "serve");
    const char *spin = serving && argc > 3 ? argv[3] : pings && argc > 5 ? argv[5] : NULL;
    struct port_config config = {.events = &events, .spin = spin_of(spin), .secret = {1, 2, 3}};
    if (serving && argc > 4) config.keepalive_ms = number_of(argv[4]);
    if (holds && argc > 5) config.keepalive_ms = number_of(argv[5]);
    struct diag diag;
    struct port *port;
    struct port_address address;
    if (port_address_parse(argv[2], &address, &diag) || port_create(&config, &port, &diag))
        fail(argv[2], diag.text);
    if (serving) {
        if (port_listen(port, &address, &address, &diag)) fail(argv[2], diag.text);
        char text[PORT_ADDRESS_TEXT_SIZE];
        port_address_format(&address, text);
        printf("serving %s\n", text);
        fflush(stdout);
        for (;;)
            port_wait(port, UINT64_MAX);
    }
    peer_count = holds ? number_of(argv[3]) : 1;
    if (pings || floods) message_size = number_of(argv[3]);
    peers = calloc(peer_count, sizeof(*peers));
    content = malloc(message_size);
    if (!peers || !content || message_size < 8) fail("memory", "none");
    for (uint32_t i = 0; i < message_size; i++)
        content[i] = (uint8_t)(i * 7);
    for (unsigned i = 0; i < peer_count; i++) {
        struct link_options options = {.context = &peers[i], .report_failures = true};
        if (port_connect(port, &address, &options, &peers[i].link, &diag)) fail(argv[2], diag.text);
    }
    wait_up(port);
    if (pings) ping(port, number_of(argc > 4 ? argv[4] : NULL));
    if (floods) flood(port, number_of(argc > 4 ? argv[4] : NULL));
    if (holds)
        hold(port, strtod(argc > 4 ? argv[4] : "1", NULL), argc > 6 ? number_of(argv[6]) : 0);
    port_destroy(port);
    free(peers);
    free(content);
    return 0;
}
