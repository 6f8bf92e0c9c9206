/* The pieces of `bench transport`: what its files share. */
#ifndef BENCH_TRANSPORT_H
#define BENCH_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/diag.h"
#include "base/hist.h"
#include "rdma/port.h"

enum {
    TRANSPORT_PEERS_MAX = 8,
    TRANSPORT_SIZE_MIN = 64,
    TRANSPORT_SIZE_MAX = 64 << 10,
    TRANSPORT_LINKS_MAX = 64,
};

/* Who answers: a port that listens at some addresses and does what the messages say. */
struct transport_server {
    struct port_address addresses[TRANSPORT_PEERS_MAX];
    unsigned count;
    uint8_t secret[PORT_SECRET_SIZE];
};
/* Serves until a client says that it is enough. Addresses with port 0 get one, which stays the same
 * from then on; told_fd (-1: none) then gets the addresses, as they are in memory. */
enum err transport_serve(struct transport_server *server, int told_fd, struct diag *diag);

/* The same in a process of its own, which dies with this one. */
struct transport_peer {
    struct port_address addresses[TRANSPORT_PEERS_MAX];
    pid_t pid;
};
enum err transport_peer_start(const struct transport_server *server,
                              struct transport_peer *ret_peer, struct diag *diag);
/* Waits for it; it was told to end or is killed. A pid of 0: nothing. */
void transport_peer_end(struct transport_peer *peer);

/* Who asks. One port, with one link or several to one server. */
struct transport_client;
/* Both sides then wait as `spin` says, the server too. Up when it returns. */
enum err transport_client_create(const struct port_address *address,
                                 const uint8_t secret[PORT_SECRET_SIZE], enum port_spin spin,
                                 unsigned links, struct transport_client **ret_client,
                                 struct diag *diag);
void transport_client_destroy(struct transport_client *client);
/* The server ends; then the client is only good for being destroyed. */
void transport_client_end_server(struct transport_client *client);

struct transport_load {
    uint32_t size;  /* of a message, both ways in an echo */
    uint32_t depth; /* messages under way */
    double seconds;
    double warm_seconds; /* before that, not counted */
};
/* `depth` messages are always under way and come back: the time each takes, in ticks
 * (transport_tick_ns); *ret_rate: round trips per second. */
enum err transport_echo(struct transport_client *client, const struct transport_load *load,
                        struct hist *ret_hist, double *ret_rate, struct diag *diag);
/* Messages go one way, at most `depth` not yet known to have arrived: messages per second. */
enum err transport_stream(struct transport_client *client, const struct transport_load *load,
                          double *ret_rate, struct diag *diag);
/* Nothing is sent for so long: the share of a core that each side uses meanwhile. */
enum err transport_idle(struct transport_client *client, double seconds, double *ret_client,
                        double *ret_server, struct diag *diag);

/* The comparison for tcp at depth 1: two processes, a bare socket pair over loopback, epoll_wait,
 * recv, send; `spinning`: epoll_wait never sleeps. */
enum err transport_bare_tcp(bool spinning, const struct transport_load *load, struct hist *ret_hist,
                            struct diag *diag);

/* What is measured: every back end, way of waiting, size and depth. */
enum { TRANSPORT_SPINS = 3, TRANSPORT_SIZES = 4, TRANSPORT_DEPTHS = 3 };
extern const uint32_t transport_sizes[TRANSPORT_SIZES];
extern const uint32_t transport_depths[TRANSPORT_DEPTHS];
extern const enum port_spin transport_spins[TRANSPORT_SPINS];
extern const char *const transport_spin_names[TRANSPORT_SPINS];

/* Medians over the runs; microseconds, and per second. */
struct transport_cell {
    double p50, p99, p999, round_trips, signals;
};
struct transport_series {
    char name[16]; /* of the back end */
    struct transport_cell cells[TRANSPORT_SPINS][TRANSPORT_SIZES][TRANSPORT_DEPTHS];
};
/* Writes the plot as an SVG. */
enum err transport_plot(const char *path, const struct transport_series *series, unsigned count,
                        const char *note, struct diag *diag);
/* "4 KiB" */
const char *transport_size_text(uint32_t size, char text[16]);

/* A clock that costs little, also where reading the time is a system call. */
uint64_t transport_ticks(void);
double transport_tick_ns(void);
/* An address of this host's RDMA device, with port 0. False: it has none. */
bool transport_find_verbs(struct port_address *ret_address);
/* Binds this process to the core, if there are several. */
void transport_pin(unsigned core);

#endif
