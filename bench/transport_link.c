/* The two ends of a measured link: a server that answers as each message asks, and a client that
 * keeps a number of messages under way.
 *
 * The way a server waits (spinning, sleeping) belongs to its port, so a client that wants another
 * one says so, and the server makes its port anew at the same addresses. */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "base/check.h"
#include "bench/bench.h"
#include "bench/transport.h"

enum operation {
    OPERATION_ECHO = 1,  /* comes back as it is */
    OPERATION_COUNT = 2, /* every `value`-th is acknowledged, with the number so far */
    OPERATION_SPIN = 3,  /* from now on wait as `value` says; the link goes down */
    OPERATION_USAGE = 4, /* comes back with the processor time used so far, in ns */
    OPERATION_END = 5,
};

/* A message begins with it. */
struct note {
    uint32_t operation;
    uint32_t reserved;
    uint64_t value;
    uint64_t stamp; /* the sender's ticks */
    uint64_t spare[5];
};
static_assert(sizeof(struct note) == TRANSPORT_SIZE_MIN, "the smallest message is a note");

enum { ANSWER_SECONDS_MAX = 20, UP_SECONDS_MAX = 30 };

/* ---- clocks and cores ---- */

uint64_t transport_ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

double transport_tick_ns(void)
{
#if defined(__x86_64__)
    static double ns;
    if (ns > 0) return ns;
    double start = bench_now_s();
    uint64_t from = transport_ticks();
    (void)usleep(50000);
    uint64_t ticks = transport_ticks() - from;
    ns = (bench_now_s() - start) * 1e9 / (double)ticks;
    return ns;
#else
    return 1;
#endif
}

void transport_pin(unsigned core)
{
    cpu_set_t set;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 2) return;
    CPU_ZERO(&set);
    CPU_SET(core % (unsigned)cores, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

/* Where a message is put together. Every message is dealt with before the next one begins on the
 * same link, and only one link carries large ones. */
static _Alignas(64) uint8_t arrival[TRANSPORT_SIZE_MAX];

static void *take(void *context, struct link *link, uint32_t size)
{
    (void)context;
    (void)link;
    return size >= sizeof(struct note) && size <= sizeof(arrival) ? arrival : NULL;
}

static void drop(void *context, struct link *link, void *message)
{
    (void)context;
    (void)link;
    (void)message;
}

/* ---- server ---- */

struct serving {
    enum port_spin spin;
    bool again; /* with another port that waits so */
    uint64_t counted;
    enum err err; /* of an answer that could not be sent */
    bool ending;
};

static enum err server_up(void *context, struct link *link)
{
    (void)context;
    (void)link;
    return ERR_NONE;
}

static void server_down(void *context, struct link *link, const struct diag *reason)
{
    struct serving *serving = context;
    (void)link;
    (void)reason;
    serving->counted = 0;
}

static void answer(struct serving *serving, struct link *link, const void *bytes, uint32_t size)
{
    enum err err = link_send(link, &(struct link_piece){bytes, size}, 1);
    if (err && err != ERR_CLOSED) serving->err = err;
}

static void server_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct serving *serving = context;
    struct note *note = message;
    switch (note->operation) {
    case OPERATION_ECHO:
        answer(serving, link, message, size);
        return;
    case OPERATION_COUNT:
        serving->counted++;
        if (note->value && serving->counted % note->value == 0) {
            struct note ack = {.operation = OPERATION_COUNT, .value = serving->counted};
            answer(serving, link, &ack, sizeof(ack));
        }
        return;
    case OPERATION_SPIN:
        if (note->value > PORT_SPIN_ALWAYS) return;
        serving->spin = (enum port_spin)note->value;
        serving->again = true;
        return;
    case OPERATION_USAGE:
        note->value = cpu_ns();
        serving->counted = 0;
        answer(serving, link, note, sizeof(*note));
        return;
    case OPERATION_END:
        serving->ending = true;
        return;
    default:
        return;
    }
}

static const struct port_events server_events = {
    .up = server_up,
    .down = server_down,
    .alloc = take,
    .message = server_message,
    .release = drop,
};

static enum err port_make(const struct port_events *events, void *context,
                          const uint8_t secret[PORT_SECRET_SIZE], enum port_spin spin,
                          struct port **ret_port, struct diag *diag)
{
    struct port_config config = {.events = events, .context = context, .spin = spin};
    memcpy(config.secret, secret, PORT_SECRET_SIZE);
    return port_create(&config, ret_port, diag);
}

enum err transport_serve(struct transport_server *server, int told_fd, struct diag *diag)
{
    struct serving serving = {.spin = PORT_SPIN_ADAPTIVE};
    enum err err = ERR_NONE;
    while (!err && !serving.ending) {
        struct port *port;
        serving.again = false;
        err = port_make(&server_events, &serving, server->secret, serving.spin, &port, diag);
        if (err) return err;
        for (unsigned i = 0; !err && i < server->count; i++)
            err = port_listen(port, &server->addresses[i], &server->addresses[i], diag);
        if (!err && told_fd >= 0) {
            size_t size = server->count * sizeof(server->addresses[0]);
            if (write(told_fd, server->addresses, size) != (ssize_t)size)
                err = diag_set(diag, ERR_IO, "nobody waits for the address: %s", strerror(errno));
            told_fd = -1;
        }
        while (!err && !serving.ending && !serving.again) {
            (void)port_wait(port, UINT64_MAX);
            if (serving.err) err = diag_set(diag, serving.err, "cannot answer");
        }
        port_destroy(port);
    }
    return err;
}

/* ---- the server as a process ---- */

enum err transport_peer_start(const struct transport_server *server,
                              struct transport_peer *ret_peer, struct diag *diag)
{
    int told[2];
    if (pipe(told) < 0) return diag_set(diag, ERR_BUSY, "no pipe: %s", strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        (void)close(told[0]);
        transport_pin(1);
        struct transport_server copy = *server;
        struct diag child_diag = {.position = UINT32_MAX};
        if (transport_serve(&copy, told[1], &child_diag)) {
            (void)fprintf(stderr, "trellis: the answering process: %s\n", child_diag.text);
            _exit(1);
        }
        _exit(0);
    }
    (void)close(told[1]);
    size_t size = server->count * sizeof(server->addresses[0]);
    size_t have = 0;
    while (pid > 0 && have < size) {
        ssize_t got = read(told[0], (uint8_t *)ret_peer->addresses + have, size - have);
        if (got <= 0) break;
        have += (size_t)got;
    }
    (void)close(told[0]);
    if (have == size) {
        ret_peer->pid = pid;
        return ERR_NONE;
    }
    if (pid > 0) (void)waitpid(pid, NULL, 0);
    return diag_set(diag, ERR_IO, "the answering process did not start");
}

void transport_peer_end(struct transport_peer *peer)
{
    if (!peer->pid) return;
    for (unsigned i = 0; i < 100; i++) {
        if (waitpid(peer->pid, NULL, WNOHANG) == peer->pid) return;
        (void)usleep(10000);
    }
    (void)kill(peer->pid, SIGKILL);
    (void)waitpid(peer->pid, NULL, 0);
}

/* ---- client ---- */

struct transport_client {
    struct port *port;
    struct link *links[TRANSPORT_LINKS_MAX];
    bool link_up[TRANSPORT_LINKS_MAX];
    unsigned count, up;
    enum port_spin spin;
    bool server_ended;
    unsigned silent;               /* waits of a second that brought nothing */
    char lost[DIAG_TEXT_SIZE_MAX]; /* why the last attempt or link failed */
    enum err err;
    /* of the measurement that runs */
    bool stopped;         /* nothing more is sent: what is under way comes back */
    bool measuring;       /* after the warming up */
    uint32_t size, under; /* messages under way */
    uint64_t done;        /* that came back, or are known to have arrived, since `measuring` */
    uint64_t acknowledged;
    struct hist *hist;
    struct note usage;
    bool has_usage;
};

static enum err client_up(void *context, struct link *link)
{
    struct transport_client *client = context;
    *(bool *)link_context(link) = true;
    client->up++;
    return ERR_NONE;
}

static void client_down(void *context, struct link *link, const struct diag *reason)
{
    struct transport_client *client = context;
    bool *up = link_context(link);
    client->up -= *up;
    *up = false;
    (void)snprintf(client->lost, sizeof(client->lost), "%s", reason->text);
}

static void send_note(struct transport_client *client, enum operation operation, uint64_t value)
{
    static _Alignas(64) uint8_t bytes[TRANSPORT_SIZE_MAX];
    struct note *note = (struct note *)(void *)bytes;
    *note = (struct note){.operation = operation, .value = value, .stamp = transport_ticks()};
    uint32_t size = operation <= OPERATION_COUNT ? client->size : (uint32_t)sizeof(*note);
    enum err err = link_send(client->links[0], &(struct link_piece){bytes, size}, 1);
    if (err && !client->err) client->err = err;
}

static void client_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct transport_client *client = context;
    const struct note *note = message;
    (void)link;
    switch (note->operation) {
    case OPERATION_ECHO:
        if (size != client->size) client->err = ERR_BAD_SIGNAL;
        client->under--;
        if (client->measuring) {
            client->done++;
            hist_add(client->hist, transport_ticks() - note->stamp);
        }
        if (client->stopped) return;
        send_note(client, OPERATION_ECHO, 0);
        client->under++;
        return;
    case OPERATION_COUNT:
        if (client->measuring) client->done += note->value - client->acknowledged;
        client->under -= (uint32_t)(note->value - client->acknowledged);
        client->acknowledged = note->value;
        return;
    case OPERATION_USAGE:
        client->usage = *note;
        client->has_usage = true;
        return;
    default:
        client->err = ERR_BAD_SIGNAL;
    }
}

static const struct port_events client_events = {
    .up = client_up,
    .down = client_down,
    .alloc = take,
    .message = client_message,
    .release = drop,
};

static enum err links_up(struct transport_client *client, const struct port_address *address,
                         enum port_spin spin, unsigned links,
                         const uint8_t secret[PORT_SECRET_SIZE], struct diag *diag)
{
    enum err err = port_make(&client_events, client, secret, spin, &client->port, diag);
    for (client->count = 0; !err && client->count < links;) {
        struct link_options options = {.context = &client->link_up[client->count],
                                       .report_failures = true};
        client->link_up[client->count] = false;
        err = port_connect(client->port, address, &options, &client->links[client->count], diag);
        if (!err) client->count++;
    }
    double end = bench_now_s() + UP_SECONDS_MAX;
    while (!err && client->up < links) {
        (void)port_wait(client->port, 100 * 1000 * 1000);
        if (bench_now_s() < end) continue;
        char text[PORT_ADDRESS_TEXT_SIZE];
        port_address_format(address, text);
        err = diag_set(diag, ERR_TIMEOUT, "no link to %.100s: %s", text, client->lost);
    }
    return err;
}

/* The server goes on with another way of waiting; the link goes down when it does. */
static enum err server_switch(struct transport_client *client, enum port_spin spin,
                              struct diag *diag)
{
    send_note(client, OPERATION_SPIN, spin);
    double end = bench_now_s() + ANSWER_SECONDS_MAX;
    while (client->up && bench_now_s() < end)
        (void)port_wait(client->port, 100 * 1000 * 1000);
    if (client->up) return diag_set(diag, ERR_TIMEOUT, "the server does not change its ways");
    return ERR_NONE;
}

enum err transport_client_create(const struct port_address *address,
                                 const uint8_t secret[PORT_SECRET_SIZE], enum port_spin spin,
                                 unsigned links, struct transport_client **ret_client,
                                 struct diag *diag)
{
    ASSERT(links >= 1 && links <= TRANSPORT_LINKS_MAX);
    (void)transport_tick_ns();
    struct transport_client *client = calloc(1, sizeof(*client));
    if (!client) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    enum err err = links_up(client, address, PORT_SPIN_NEVER, 1, secret, diag);
    if (!err) err = server_switch(client, spin, diag);
    port_destroy(client->port);
    client->port = NULL;
    client->up = 0;
    client->spin = spin;
    if (!err) err = links_up(client, address, spin, links, secret, diag);
    if (err) {
        transport_client_destroy(client);
        return err;
    }
    *ret_client = client;
    return ERR_NONE;
}

void transport_client_destroy(struct transport_client *client)
{
    if (!client) return;
    /* A server that goes on must not spin for nobody. */
    if (client->up && client->spin == PORT_SPIN_ALWAYS && !client->server_ended)
        send_note(client, OPERATION_SPIN, PORT_SPIN_NEVER);
    port_destroy(client->port);
    free(client);
}

void transport_client_end_server(struct transport_client *client)
{
    double end = bench_now_s() + ANSWER_SECONDS_MAX;
    client->server_ended = true;
    send_note(client, OPERATION_END, 0);
    while (client->up && bench_now_s() < end)
        (void)port_wait(client->port, 100 * 1000 * 1000);
}

/* ---- measuring ---- */

/* One wait; an error when the link fails or nothing comes for long. */
static enum err wait_once(struct transport_client *client, struct diag *diag)
{
    uint32_t got = port_wait(client->port, 1000000000u);
    if (client->err) return diag_set(diag, client->err, "cannot send: %s", err_text(client->err));
    if (client->up < client->count)
        return diag_set(diag, ERR_CLOSED, "the link went down: %s", client->lost);
    client->silent = got ? 0 : client->silent + 1;
    if (client->silent > ANSWER_SECONDS_MAX)
        return diag_set(diag, ERR_TIMEOUT, "nothing came back for %d s", ANSWER_SECONDS_MAX);
    return ERR_NONE;
}

/* A measurement in time: warming up, then what counts. */
struct phase {
    uint64_t warm, end; /* ticks */
    uint64_t began;
};

static struct phase phase_of(const struct transport_load *load)
{
    uint64_t now = transport_ticks();
    uint64_t warm = now + (uint64_t)(load->warm_seconds * 1e9 / transport_tick_ns());
    return (struct phase){.warm = warm,
                          .end = warm + (uint64_t)(load->seconds * 1e9 / transport_tick_ns())};
}

static bool phase_goes_on(struct transport_client *client, struct phase *phase)
{
    uint64_t now = transport_ticks();
    if (!client->measuring && now >= phase->warm) {
        client->measuring = true;
        phase->began = now;
    }
    return !client->measuring || now < phase->end;
}

static double phase_rate(struct transport_client *client, const struct phase *phase)
{
    double seconds = (double)(transport_ticks() - phase->began) * transport_tick_ns() / 1e9;
    return (double)client->done / seconds;
}

static void measurement_reset(struct transport_client *client, const struct transport_load *load)
{
    client->stopped = client->measuring = false;
    client->size = load->size;
    client->under = 0;
    client->done = client->acknowledged = 0;
}

enum err transport_echo(struct transport_client *client, const struct transport_load *load,
                        struct hist *ret_hist, double *ret_rate, struct diag *diag)
{
    struct hist *ticks = calloc(1, sizeof(*ticks));
    if (!ticks) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    hist_init(ticks);
    measurement_reset(client, load);
    client->hist = ticks;
    struct phase phase = phase_of(load);
    for (; client->under < load->depth; client->under++)
        send_note(client, OPERATION_ECHO, 0);
    enum err err = ERR_NONE;
    while (!err && phase_goes_on(client, &phase))
        err = wait_once(client, diag);
    double rate = phase_rate(client, &phase);
    client->stopped = true;
    client->measuring = false;
    while (!err && client->under)
        err = wait_once(client, diag);
    if (!err) {
        *ret_hist = *ticks;
        *ret_rate = rate;
    }
    free(ticks);
    client->hist = NULL;
    return err;
}

/* The server's count starts afresh, and its processor time so far. */
static enum err ask_usage(struct transport_client *client, uint64_t *ret_ns, struct diag *diag)
{
    client->has_usage = false;
    send_note(client, OPERATION_USAGE, 0);
    while (!client->has_usage) {
        enum err err = wait_once(client, diag);
        if (err) return err;
    }
    *ret_ns = client->usage.value;
    return ERR_NONE;
}

enum err transport_stream(struct transport_client *client, const struct transport_load *load,
                          double *ret_rate, struct diag *diag)
{
    uint64_t ignored;
    enum err err = ask_usage(client, &ignored, diag);
    if (err) return err;
    measurement_reset(client, load);
    /* Acknowledged in quarters, so that the sender never waits for the last of them. */
    uint64_t every = load->depth < 4 ? 1 : load->depth / 4;
    struct phase phase = phase_of(load);
    while (!err && phase_goes_on(client, &phase)) {
        for (; client->under < load->depth && !client->err; client->under++)
            send_note(client, OPERATION_COUNT, every);
        err = wait_once(client, diag);
    }
    double rate = phase_rate(client, &phase);
    client->measuring = false;
    /* Fewer than `every` are never acknowledged; the next count starts afresh. */
    while (!err && client->under >= every)
        err = wait_once(client, diag);
    if (!err) *ret_rate = rate;
    return err;
}

enum err transport_idle(struct transport_client *client, double seconds, double *ret_client,
                        double *ret_server, struct diag *diag)
{
    uint64_t before, after;
    enum err err = ask_usage(client, &before, diag);
    if (err) return err;
    /* What the start left behind settles. */
    double settled = bench_now_s() + 0.2;
    while (bench_now_s() < settled)
        (void)port_wait(client->port, 50 * 1000 * 1000);
    err = ask_usage(client, &before, diag);
    if (err) return err;
    uint64_t own = cpu_ns();
    double start = bench_now_s();
    double left;
    while ((left = start + seconds - bench_now_s()) > 0)
        (void)port_wait(client->port, (uint64_t)(left * 1e9));
    double took = bench_now_s() - start;
    own = cpu_ns() - own;
    err = ask_usage(client, &after, diag);
    if (err) return err;
    *ret_client = (double)own / 1e9 / took;
    *ret_server = (double)(after - before) / 1e9 / took;
    return ERR_NONE;
}
