/* `bench transport`: what a message costs over each back end that this host has.
 *
 * For every back end, way of waiting (spinning, sleeping, adaptive), size and depth: the round trip
 * of messages that come back, and how many per second go one way. The answering side is a process
 * of its own on another core; or, with --peer, one that was started elsewhere with --serve. All
 * runs go round all cases, so a change in the machine's load meets every case alike; figures are
 * medians over the runs.
 *
 * Then the comparisons: our tcp with a bare socket, shared memory with tcp, idle links, and RDMA
 * with what another program measured on the same device (--against). */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <math.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "bench/bench.h"
#include "bench/transport.h"

enum { RUNS_MAX = 32, QUICK_RUNS = 3, IDLE_LINKS = 64, FIGURES = 5 };

const uint32_t transport_sizes[TRANSPORT_SIZES] = {64, 512, 4096, 65536};
const uint32_t transport_depths[TRANSPORT_DEPTHS] = {1, 16, 256};
const enum port_spin transport_spins[TRANSPORT_SPINS] = {PORT_SPIN_ALWAYS, PORT_SPIN_NEVER,
                                                         PORT_SPIN_ADAPTIVE};
const char *const transport_spin_names[TRANSPORT_SPINS] = {"spinning", "sleeping", "adaptive"};
enum { SPINNING = 0, SLEEPING = 1, ADAPTIVE = 2 }; /* indexes of the two */

/* One case, run by run: the five figures of a transport_cell. */
struct samples {
    double values[FIGURES][RUNS_MAX];
};

struct measurement {
    struct bench *bench;
    uint32_t runs;
    double seconds; /* of one case */
    char *folder;   /* for the sockets of shared memory */
    uint8_t secret[PORT_SECRET_SIZE];
    struct port_address addresses[TRANSPORT_PEERS_MAX];
    unsigned count;
    bool foreign; /* the servers are not ours */
    struct transport_series series[TRANSPORT_PEERS_MAX];
    struct samples samples[TRANSPORT_PEERS_MAX][TRANSPORT_SPINS][TRANSPORT_SIZES][TRANSPORT_DEPTHS];
};

const char *transport_size_text(uint32_t size, char text[16])
{
    if (size >= 1024)
        (void)snprintf(text, 16, "%u KiB", size / 1024);
    else
        (void)snprintf(text, 16, "%u B", size);
    return text;
}

static void progress(const struct measurement *measurement, uint32_t run, const char *what)
{
    if (isatty(2))
        (void)fprintf(stderr, "\r\033[Krun %u of %u: %s", run + 1, measurement->runs, what);
}

static void progress_end(void)
{
    if (isatty(2)) (void)fprintf(stderr, "\r\033[K");
}

/* ---- who is measured ---- */

static void add_address(struct measurement *measurement, const struct port_address *address)
{
    ASSERT(measurement->count < TRANSPORT_PEERS_MAX);
    struct transport_series *series = &measurement->series[measurement->count];
    (void)snprintf(series->name, sizeof(series->name), "%s",
                   address->tls ? "tls" : link_kind_name(address->kind));
    measurement->addresses[measurement->count++] = *address;
}

static enum err no_up(void *context, struct link *link)
{
    (void)context;
    (void)link;
    return ERR_CLOSED;
}

/* Whether a port can listen there. */
static bool can_listen(const struct port_address *address, struct diag *diag)
{
    static const struct port_events events = {.up = no_up};
    struct port_config config = {.events = &events};
    struct port *port;
    if (port_create(&config, &port, diag)) return false;
    bool can = port_listen(port, address, NULL, diag) == ERR_NONE;
    port_destroy(port);
    return can;
}

/* The address of an RDMA device, if this host has one. */
bool transport_find_verbs(struct port_address *ret_address)
{
    struct ifaddrs *interfaces;
    if (getifaddrs(&interfaces) < 0) return false;
    bool found = false;
    for (const struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET) continue;
        if (!(at->ifa_flags & IFF_UP) || (at->ifa_flags & IFF_LOOPBACK)) continue;
        struct sockaddr_in socket_address;
        memcpy(&socket_address, at->ifa_addr, sizeof(socket_address));
        struct port_address address = {.kind = LINK_VERBS};
        struct diag diag;
        if (!inet_ntop(AF_INET, &socket_address.sin_addr, address.host, INET_ADDRSTRLEN)) continue;
        found = can_listen(&address, &diag);
        if (found) *ret_address = address;
    }
    freeifaddrs(interfaces);
    return found;
}

static enum err own_addresses(struct measurement *measurement, struct diag *diag)
{
    const char *host = measurement->bench->links.address;
    struct port_address address = {.kind = LINK_SHM};
    (void)snprintf(address.path, sizeof(address.path), "%s/socket", measurement->folder);
    add_address(measurement, &address);
    address = (struct port_address){.kind = LINK_TCP, .host = "127.0.0.1"};
    add_address(measurement, &address);
    address.tls = true;
    add_address(measurement, &address);
    address = (struct port_address){.kind = LINK_VERBS};
    if (host) {
        (void)snprintf(address.host, sizeof(address.host), "%s", host);
        if (!can_listen(&address, diag)) return diag->err;
        add_address(measurement, &address);
    } else if (transport_find_verbs(&address)) {
        add_address(measurement, &address);
    } else {
        (void)printf("no RDMA device here: verbs is not measured\n");
    }
    return ERR_NONE;
}

static enum err peer_addresses(struct measurement *measurement, struct diag *diag)
{
    const struct bench_links *links = &measurement->bench->links;
    measurement->foreign = true;
    for (unsigned i = 0; i < links->peer_count; i++) {
        struct port_address address;
        enum err err = port_address_parse(links->peers[i], &address, diag);
        if (err) return err;
        add_address(measurement, &address);
    }
    return ERR_NONE;
}

/* ---- measuring ---- */

static enum err measure_case(struct transport_client *client, const struct transport_load *load,
                             struct samples *samples, uint32_t run, struct diag *diag)
{
    static struct hist hist;
    enum err err = transport_echo(client, load, &hist, &samples->values[3][run], diag);
    if (!err) err = transport_stream(client, load, &samples->values[4][run], diag);
    if (err) return err;
    double microseconds = transport_tick_ns() / 1000;
    samples->values[0][run] = (double)hist_quantile(&hist, 0.5) * microseconds;
    samples->values[1][run] = (double)hist_quantile(&hist, 0.99) * microseconds;
    samples->values[2][run] = (double)hist_quantile(&hist, 0.999) * microseconds;
    return ERR_NONE;
}

/* Every size and depth, with one way of waiting. */
static enum err measure_spin(struct measurement *measurement, unsigned number, unsigned spin,
                             const struct port_address *address, uint32_t run, bool last,
                             struct diag *diag)
{
    struct transport_client *client;
    char what[64];
    (void)snprintf(what, sizeof(what), "%s %s", measurement->series[number].name,
                   transport_spin_names[spin]);
    progress(measurement, run, what);
    enum err err = transport_client_create(address, measurement->secret, transport_spins[spin], 1,
                                           &client, diag);
    if (err) return err;
    for (unsigned size = 0; !err && size < TRANSPORT_SIZES; size++)
        for (unsigned depth = 0; !err && depth < TRANSPORT_DEPTHS; depth++) {
            struct transport_load load = {.size = transport_sizes[size],
                                          .depth = transport_depths[depth],
                                          .seconds = measurement->seconds,
                                          .warm_seconds = measurement->seconds / 4};
            err = measure_case(client, &load, &measurement->samples[number][spin][size][depth], run,
                               diag);
        }
    if (!err && last) transport_client_end_server(client);
    transport_client_destroy(client);
    return err;
}

/* Starts the server for an address of ours; a foreign one is there. */
static enum err peer_begin(const struct measurement *measurement,
                           const struct port_address *address, struct transport_peer *ret_peer,
                           struct diag *diag)
{
    *ret_peer = (struct transport_peer){.pid = 0};
    ret_peer->addresses[0] = *address;
    if (measurement->foreign) return ERR_NONE;
    struct transport_server server = {.count = 1};
    server.addresses[0] = *address;
    memcpy(server.secret, measurement->secret, sizeof(server.secret));
    return transport_peer_start(&server, ret_peer, diag);
}

static enum err measure_all(struct measurement *measurement, struct diag *diag)
{
    enum err err = ERR_NONE;
    for (uint32_t run = 0; !err && run < measurement->runs; run++)
        for (unsigned i = 0; !err && i < measurement->count; i++) {
            struct transport_peer peer;
            err = peer_begin(measurement, &measurement->addresses[i], &peer, diag);
            if (err) break;
            for (unsigned spin = 0; !err && spin < TRANSPORT_SPINS; spin++)
                err = measure_spin(measurement, i, spin, &peer.addresses[0], run,
                                   !measurement->foreign && spin + 1 == TRANSPORT_SPINS, diag);
            transport_peer_end(&peer);
        }
    progress_end();
    return err;
}

/* ---- results ---- */

static void report_case(struct measurement *measurement, unsigned number, unsigned spin,
                        unsigned size, unsigned depth)
{
    static const char *const names[FIGURES] = {
        "round trip p50", "round trip p99", "round trip p99.9", "round trips", "signals one way"};
    struct samples *samples = &measurement->samples[number][spin][size][depth];
    double medians[FIGURES];
    for (unsigned i = 0; i < FIGURES; i++)
        medians[i] = bench_median(samples->values[i], measurement->runs);
    measurement->series[number].cells[spin][size][depth] =
        (struct transport_cell){medians[0], medians[1], medians[2], medians[3], medians[4]};
    char size_text[16];
    transport_size_text(transport_sizes[size], size_text);
    (void)printf("%-6s %-9s %7s %6u %11.3f %11.3f %11.3f %13.0f %13.0f\n",
                 measurement->series[number].name, transport_spin_names[spin], size_text,
                 transport_depths[depth], medians[0], medians[1], medians[2], medians[3],
                 medians[4]);
    for (unsigned i = 0; i < FIGURES; i++) {
        char label[96];
        (void)snprintf(label, sizeof(label), "%s %s %s depth %u: %s",
                       measurement->series[number].name, transport_spin_names[spin], size_text,
                       transport_depths[depth], names[i]);
        bench_add_json(
            measurement->bench,
            &(struct bench_result){.label = label,
                                   .value = medians[i],
                                   .unit = i < 3 ? "us" : "1/s",
                                   .note = i < 3 ? "lower is better" : "higher is better"});
    }
}

static void report_all(struct measurement *measurement)
{
    (void)printf("%-6s %-9s %7s %6s %35s %13s %13s\n", "", "", "", "", "round trip, us",
                 "round trips", "signals");
    (void)printf("%-6s %-9s %7s %6s %11s %11s %11s %13s %13s\n", "", "waiting", "size", "depth",
                 "p50", "p99", "p99.9", "per second", "per second");
    for (unsigned i = 0; i < measurement->count; i++)
        for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++)
            for (unsigned size = 0; size < TRANSPORT_SIZES; size++)
                for (unsigned depth = 0; depth < TRANSPORT_DEPTHS; depth++)
                    report_case(measurement, i, spin, size, depth);
    (void)printf("\n");
    (void)fflush(stdout);
}

static const struct transport_series *series_named(const struct measurement *measurement,
                                                   const char *name)
{
    for (unsigned i = 0; i < measurement->count; i++)
        if (strcmp(measurement->series[i].name, name) == 0) return &measurement->series[i];
    return NULL;
}

/* One round trip at depth 1 over another: how many times longer it is. */
static void compare(struct measurement *measurement, const char *slow, unsigned slow_spin,
                    const char *fast, unsigned fast_spin, const char *note)
{
    const struct transport_series *a = series_named(measurement, slow);
    const struct transport_series *b = series_named(measurement, fast);
    if (!a || !b) return;
    char label[64];
    char against[64];
    (void)snprintf(label, sizeof(label), "%s %s, 64 B, p50", slow, transport_spin_names[slow_spin]);
    (void)snprintf(against, sizeof(against), "%s %s", fast, transport_spin_names[fast_spin]);
    bench_add(measurement->bench,
              &(struct bench_result){.label = label,
                                     .value = a->cells[slow_spin][0][0].p50,
                                     .unit = "us",
                                     .against = against,
                                     .against_value = b->cells[fast_spin][0][0].p50,
                                     .note = note});
}

static void compare_series(struct measurement *measurement)
{
    const struct transport_series *shm = series_named(measurement, "shm");
    if (shm) {
        bench_add(measurement->bench,
                  &(struct bench_result){.label = "shm spinning, 64 B, p50",
                                         .value = shm->cells[SPINNING][0][0].p50,
                                         .unit = "us",
                                         .against = "target",
                                         .against_value = 1,
                                         .note = "lower is better"});
        bench_add(measurement->bench,
                  &(struct bench_result){.label = "shm spinning, 64 B x 256, one way",
                                         .value = shm->cells[SPINNING][0][2].signals,
                                         .unit = "1/s",
                                         .against = "target",
                                         .against_value = 3e6,
                                         .note = "higher is better"});
    }
    compare(measurement, "tcp", SLEEPING, "shm", SPINNING, "higher is better; target 10");
    compare(measurement, "tcp", SLEEPING, "shm", SLEEPING, "higher is better");
    compare(measurement, "tcp", SLEEPING, "verbs", SPINNING, "higher is better; target 3");
    compare(measurement, "tcp", SPINNING, "verbs", SPINNING, "higher is better; target 1");
    compare(measurement, "tcp", SLEEPING, "verbs", SLEEPING, "higher is better; target 1");
    compare(measurement, "tls", SLEEPING, "tcp", SLEEPING, "lower is better");
}

/* NAME[:SIZE]=MICROSECONDS, a round trip of another program over the same device. */
static enum err compare_given(struct measurement *measurement, const char *given, struct diag *diag)
{
    char name[48];
    unsigned bytes = 64;
    double value = 0;
    int taken = 0;
    bool good = sscanf(given, "%47[^:=]=%lf%n", name, &value, &taken) == 2 && !given[taken];
    if (!good)
        good =
            sscanf(given, "%47[^:=]:%u=%lf%n", name, &bytes, &value, &taken) == 3 && !given[taken];
    unsigned size = 0;
    while (size < TRANSPORT_SIZES && transport_sizes[size] != bytes)
        size++;
    if (!good || !(value > 0) || size == TRANSPORT_SIZES)
        return diag_set(diag, ERR_INVALID,
                        "--against wants NAME[:SIZE]=MICROSECONDS with a size that is measured, "
                        "not '%s'",
                        given);
    for (unsigned i = 0; i < measurement->count; i++)
        for (unsigned spin = 0; spin < 2; spin++) {
            char label[64];
            char size_text[16];
            (void)snprintf(label, sizeof(label), "%s %s, %s, p50", measurement->series[i].name,
                           transport_spin_names[spin],
                           transport_size_text(transport_sizes[size], size_text));
            bench_add(measurement->bench,
                      &(struct bench_result){
                          .label = label,
                          .value = measurement->series[i].cells[spin][size][0].p50,
                          .unit = "us",
                          .against = name,
                          .against_value = value,
                          .note = "lower is better; the other figure was given with --against"});
        }
    return ERR_NONE;
}

/* ---- our tcp beside a bare socket ---- */

static enum err bare_run(struct measurement *measurement, const struct port_address *tcp,
                         unsigned spin, double *ret_ours, double *ret_bare, struct diag *diag)
{
    struct transport_load load = {.size = 64,
                                  .depth = 1,
                                  .seconds = measurement->seconds,
                                  .warm_seconds = measurement->seconds / 4};
    static struct hist hist;
    struct transport_peer peer;
    struct transport_client *client;
    double rate;
    double microseconds = transport_tick_ns() / 1000;
    enum err err = transport_bare_tcp(spin == SPINNING, &load, &hist, diag);
    if (err) return err;
    *ret_bare = (double)hist_quantile(&hist, 0.5) * microseconds;
    err = peer_begin(measurement, tcp, &peer, diag);
    if (err) return err;
    err = transport_client_create(&peer.addresses[0], measurement->secret, transport_spins[spin], 1,
                                  &client, diag);
    if (!err) {
        err = transport_echo(client, &load, &hist, &rate, diag);
        if (!err) transport_client_end_server(client);
        transport_client_destroy(client);
    }
    transport_peer_end(&peer);
    if (!err) *ret_ours = (double)hist_quantile(&hist, 0.5) * microseconds;
    return err;
}

/* In turns, so that both meet the same moments. */
static enum err compare_bare(struct measurement *measurement, struct diag *diag)
{
    struct port_address tcp = {.kind = LINK_TCP, .host = "127.0.0.1"};
    for (unsigned spin = SPINNING; spin <= SLEEPING; spin++) {
        double ours[RUNS_MAX];
        double bare[RUNS_MAX];
        for (uint32_t run = 0; run < measurement->runs; run++) {
            progress(measurement, run, "tcp beside a bare socket");
            enum err err = bare_run(measurement, &tcp, spin, &ours[run], &bare[run], diag);
            if (err) return err;
        }
        progress_end();
        char label[64];
        (void)snprintf(label, sizeof(label), "tcp %s, 64 B, p50", transport_spin_names[spin]);
        bench_add(measurement->bench,
                  &(struct bench_result){.label = label,
                                         .value = bench_median(ours, measurement->runs),
                                         .unit = "us",
                                         .against = "bare epoll ping-pong",
                                         .against_value = bench_median(bare, measurement->runs),
                                         .note = "lower is better; target 1.15"});
    }
    return ERR_NONE;
}

/* ---- idle links ---- */

static enum err measure_idle(struct measurement *measurement, unsigned number, struct diag *diag)
{
    struct transport_peer peer;
    struct transport_client *client;
    double sides[2];
    double seconds = measurement->bench->quick ? 2 : 10;
    enum err err = peer_begin(measurement, &measurement->addresses[number], &peer, diag);
    if (err) return err;
    progress(measurement, 0, "idle links");
    err = transport_client_create(&peer.addresses[0], measurement->secret, PORT_SPIN_ADAPTIVE,
                                  IDLE_LINKS, &client, diag);
    if (!err) {
        err = transport_idle(client, seconds, &sides[0], &sides[1], diag);
        if (!err && !measurement->foreign) transport_client_end_server(client);
        transport_client_destroy(client);
    }
    transport_peer_end(&peer);
    progress_end();
    for (unsigned side = 0; !err && side < 2; side++) {
        char label[64];
        (void)snprintf(label, sizeof(label), "%s, %u idle links, %s",
                       measurement->series[number].name, IDLE_LINKS,
                       side ? "accepted" : "connected");
        bench_add(measurement->bench, &(struct bench_result){.label = label,
                                                             .value = sides[side] * 100,
                                                             .unit = "% of core",
                                                             .against = "target",
                                                             .against_value = 0.5,
                                                             .note = "lower is better"});
    }
    return err;
}

/* ---- the benchmark ---- */

static enum err serve(struct measurement *measurement, struct diag *diag)
{
    const struct bench_links *links = &measurement->bench->links;
    struct transport_server server = {.count = links->serve_count};
    memcpy(server.secret, measurement->secret, sizeof(server.secret));
    for (unsigned i = 0; i < links->serve_count; i++) {
        enum err err = port_address_parse(links->serve[i], &server.addresses[i], diag);
        if (err) return err;
    }
    return transport_serve(&server, -1, diag);
}

static enum err run_all(struct measurement *measurement, struct diag *diag)
{
    const struct bench_links *links = &measurement->bench->links;
    enum err err =
        links->peer_count ? peer_addresses(measurement, diag) : own_addresses(measurement, diag);
    if (!err && !measurement->foreign) transport_pin(0);
    if (!err) err = measure_all(measurement, diag);
    if (err) return err;
    report_all(measurement);
    compare_series(measurement);
    for (unsigned i = 0; !err && i < links->against_count; i++)
        err = compare_given(measurement, links->against[i], diag);
    if (!err && !measurement->foreign) err = compare_bare(measurement, diag);
    for (unsigned i = 0; !err && i < measurement->count; i++)
        err = measure_idle(measurement, i, diag);
    if (!err && links->plot) {
        char note[64];
        (void)snprintf(note, sizeof(note), "medians of %u run%s", measurement->runs,
                       measurement->runs == 1 ? "" : "s");
        err = transport_plot(links->plot, measurement->series, measurement->count, note, diag);
    }
    return err;
}

enum err bench_transport(struct bench *bench, struct diag *diag)
{
    struct measurement *measurement = calloc(1, sizeof(*measurement));
    if (!measurement) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    measurement->bench = bench;
    measurement->runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    if (bench->quick && measurement->runs > QUICK_RUNS) measurement->runs = QUICK_RUNS;
    measurement->seconds = bench->quick ? 0.02 : 0.15;
    enum err err = ERR_NONE;
    /* Between processes of one benchmark any secret will do. */
    memcpy(measurement->secret, "a benchmark guards nothing......", PORT_SECRET_SIZE);
    if (bench->links.secret) err = port_secret_read(bench->links.secret, measurement->secret, diag);
    if (!err && bench->links.serve_count) {
        err = serve(measurement, diag);
    } else if (!err) {
        measurement->folder = bench_temp_dir(diag);
        err = measurement->folder ? run_all(measurement, diag) : ERR_IO;
        if (measurement->folder) bench_remove_tree(measurement->folder);
        free(measurement->folder);
    }
    free(measurement);
    return err;
}
