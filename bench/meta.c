/* `bench meta`: what a metadata operation costs with the database in another process, by the
 * client library: create, lookup, getattr and unlink, one after the other, over every back end that
 * this host has and every way of waiting; and, beside them, with the database in the same process.
 *
 * Each operation is what the metadata server does for it, on a thread of its own: program, reply
 * and the guard of the lease included, FUSE not. Both sides wait in the same way. The server is a
 * process of its own on another core; or, with --peer, one that was started elsewhere with --serve.
 * All runs go round all cases, so a change in the machine's load meets every case alike; figures
 * are medians over the runs. */
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hist.h"
#include "bench/bench.h"
#include "bench/meta.h"
#include "bench/store.h"
#include "bench/transport.h"
#include "metadata/fs.h"

enum { RUNS_MAX = 32, FILES = 20000, QUICK_FILES = 1000, SERIES_MAX = 40 };
enum op { OP_CREATE, OP_LOOKUP, OP_GETATTR, OP_UNLINK, OPS };
enum { QUANTILES = 3 };
static const char *const op_names[OPS] = {"create", "lookup", "getattr", "unlink"};
static const char *const quantile_names[QUANTILES] = {"p50", "p99", "p99.9"};
static const double quantiles[QUANTILES] = {0.5, 0.99, 0.999};

/* One back end with one way of waiting: its figures, run by run, in microseconds. */
struct series {
    char name[48];
    double samples[OPS][QUANTILES][RUNS_MAX];
    double medians[OPS][QUANTILES];
    uint32_t runs;
};

struct measurement {
    struct bench *bench;
    char *folder;
    uint64_t files;
    double seconds; /* of one kind of operation at most */
    uint64_t *inos;
    struct series series[SERIES_MAX];
    unsigned series_count;
    struct meta_server server; /* what the next one is like */
    uint32_t stores;           /* made so far */
    bool foreign;              /* the servers are not ours */
};

static struct series *series_named(struct measurement *measurement, const char *name)
{
    for (unsigned i = 0; i < measurement->series_count; i++)
        if (strcmp(measurement->series[i].name, name) == 0) return &measurement->series[i];
    return NULL;
}

static struct series *series_get(struct measurement *measurement, const char *name)
{
    struct series *series = series_named(measurement, name);
    if (series || measurement->series_count == SERIES_MAX) return series;
    series = &measurement->series[measurement->series_count++];
    (void)snprintf(series->name, sizeof(series->name), "%s", name);
    return series;
}

/* ---- one case ---- */

struct run {
    struct measurement *measurement;
    struct hist *hists; /* OPS of them, in ticks */
};

static enum err run_op(struct fs_client *client, enum op op, uint64_t dir, uint64_t number,
                       uint64_t *inos)
{
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    struct fs_attr attr;
    char name[32];
    enum err err = ERR_NONE;
    if (op != OP_GETATTR) (void)snprintf(name, sizeof(name), "f%015lu", number);
    switch (op) {
    case OP_CREATE:
        err = fs_mknod(client, &caller, dir, name, S_IFREG | 0644, 0, &attr);
        if (!err) inos[number] = attr.ino;
        break;
    case OP_LOOKUP:
        err = fs_lookup(client, dir, name, &attr);
        break;
    case OP_GETATTR:
        err = fs_getattr(client, inos[number], &attr);
        break;
    case OP_UNLINK:
        err = fs_unlink(client, &caller, dir, name);
        break;
    case OPS:
        break;
    }
    return err;
}

/* As many files as are made in the time; then the same number of each of the others. The kernel's
 * references are kept to the end, so that purging does not mix with what is measured. */
static enum err run_ops(struct fs_client *client, const struct run *run)
{
    const struct measurement *measurement = run->measurement;
    const struct fs_caller root = {0};
    struct fs_attr dir;
    char name[32];
    (void)snprintf(name, sizeof(name), "run%lx", transport_ticks());
    enum err err = fs_mkdir(client, &root, FS_ROOT_INO, name, 0755, &dir);
    uint64_t count = measurement->files;
    uint64_t limit = (uint64_t)(measurement->seconds * 1e9 / transport_tick_ns());
    for (unsigned op = 0; op < OPS && !err; op++) {
        uint64_t begin = transport_ticks();
        uint64_t before = begin;
        for (uint64_t i = 0; i < count && !err; i++) {
            err = run_op(client, (enum op)op, dir.ino, i, measurement->inos);
            uint64_t after = transport_ticks();
            hist_add(&run->hists[op], after - before);
            before = after;
            if (op == OP_CREATE && after - begin > limit) count = i + 1;
        }
    }
    for (uint64_t i = 0; i < count && !err; i++)
        fs_forget(client, measurement->inos[i], 2);
    return err;
}

static void take_samples(struct series *series, const struct hist *hists)
{
    for (unsigned op = 0; op < OPS; op++)
        for (unsigned q = 0; q < QUANTILES; q++)
            series->samples[op][q][series->runs] =
                (double)hist_quantile(&hists[op], quantiles[q]) * transport_tick_ns() / 1000;
    series->runs++;
}

static struct hist *hists_new(struct diag *diag)
{
    struct hist *hists = calloc(OPS, sizeof(*hists));
    if (!hists) (void)!diag_set(diag, ERR_NO_MEMORY, "no memory");
    for (unsigned op = 0; hists && op < OPS; op++)
        hist_init(&hists[op]);
    return hists;
}

/* ---- with the database in another process ---- */

static enum err measure_client(struct measurement *measurement, struct db *db, const char *data,
                               struct hist *hists, struct diag *diag)
{
    const struct fs_config config = {.db = db, .data_dir = data, .relatime = true, .shared = true};
    struct fs *fs = NULL;
    struct db_client *client = NULL;
    struct fs_client *fs_client = NULL;
    enum err err = fs_open(&config, &fs, diag);
    if (err) return err;
    err = db_client_create(db, &client);
    if (!err) err = fs_client_create(fs, client, &fs_client);
    const struct run run = {.measurement = measurement, .hists = hists};
    /* This thread only: the others are not to wait for one that spins. */
    cpu_set_t everywhere;
    (void)sched_getaffinity(0, sizeof(everywhere), &everywhere);
    transport_pin(0);
    if (!err) err = run_ops(fs_client, &run);
    (void)sched_setaffinity(0, sizeof(everywhere), &everywhere);
    if (err) (void)!diag_set(diag, err, "%s", err_text(err));
    fs_client_destroy(fs_client);
    db_client_destroy(client);
    struct diag second;
    enum err close_err = fs_close(fs, err ? &second : diag);
    return err ? err : close_err;
}

static const char *kind_of(const struct port_address *address)
{
    return address->tls ? "tls" : link_kind_name(address->kind);
}

static enum err measure_address(struct measurement *measurement, const struct port_address *address,
                                unsigned spin, const char *data, struct diag *diag)
{
    char name[48];
    (void)snprintf(name, sizeof(name), "%s %s", kind_of(address), transport_spin_names[spin]);
    if (isatty(STDERR_FILENO)) (void)fprintf(stderr, "\r\033[K%s", name);
    struct series *series = series_get(measurement, name);
    struct hist *hists = hists_new(diag);
    if (!series || !hists) {
        free(hists);
        return diag_set(diag, ERR_NO_MEMORY, "no memory");
    }
    struct db_connect_config config = {
        .addresses = address, .address_count = 1, .spin = transport_spins[spin]};
    memcpy(config.secret, measurement->server.secret, sizeof(config.secret));
    struct db *db = NULL;
    enum err err = db_connect(&config, &db, diag);
    if (!err) err = measure_client(measurement, db, data, hists, diag);
    struct diag second;
    enum err close_err = db ? db_close(db, err ? &second : diag) : ERR_NONE;
    if (!err) err = close_err;
    if (!err) take_samples(series, hists);
    free(hists);
    return err;
}

static enum err measure_spin(struct measurement *measurement, unsigned spin, struct diag *diag)
{
    struct meta_server server = measurement->server;
    char data[640];
    pid_t pid = 0;
    server.spin = transport_spins[spin];
    (void)snprintf(server.store, sizeof(server.store), "%.500s/store%u", measurement->folder,
                   measurement->stores++);
    (void)snprintf(data, sizeof(data), "%.500s/objects%u", measurement->folder,
                   measurement->foreign ? 0 : measurement->stores);
    enum err err = measurement->foreign ? ERR_NONE : meta_server_start(&server, &pid, diag);
    for (unsigned i = 0; i < server.count && !err; i++)
        err = measure_address(measurement, &server.addresses[i], spin, data, diag);
    meta_server_end(pid);
    if (!measurement->foreign) {
        bench_remove_tree(server.store);
        bench_remove_tree(data);
    }
    return err;
}

/* ---- with the database in this one ---- */

static enum err run_embedded(struct bench_store *store, void *context)
{
    return run_ops(store->client, context);
}

static enum err measure_embedded(struct measurement *measurement, struct diag *diag)
{
    struct series *series = series_get(measurement, "embedded");
    struct hist *hists = hists_new(diag);
    if (!hists) return ERR_NO_MEMORY;
    struct bench_store store;
    struct run run = {.measurement = measurement, .hists = hists};
    enum err err = bench_store_open(&store, measurement->folder, diag);
    if (!err) {
        err = bench_store_run(&store, run_embedded, &run);
        if (err) (void)!diag_set(diag, err, "%s", err_text(err));
    }
    struct diag second;
    enum err close_err = bench_store_close(&store, err ? &second : diag);
    bench_store_remove(&store);
    char data[640];
    (void)snprintf(data, sizeof(data), "%.600s/data", measurement->folder);
    bench_remove_tree(data);
    if (!err) err = close_err;
    if (!err) take_samples(series, hists);
    free(hists);
    return err;
}

/* ---- who is measured ---- */

static enum err own_addresses(struct measurement *measurement, struct diag *diag)
{
    struct meta_server *server = &measurement->server;
    const char *host = measurement->bench->links.address;
    randombytes_buf(server->secret, sizeof(server->secret));
    struct port_address *address = &server->addresses[server->count++];
    *address = (struct port_address){.kind = LINK_SHM};
    (void)snprintf(address->path, sizeof(address->path), "%s/link", measurement->folder);
    server->addresses[server->count++] =
        (struct port_address){.kind = LINK_TCP, .host = "127.0.0.1"};
    struct port_address verbs = {.kind = LINK_VERBS};
    if (host) {
        if (strlen(host) > PORT_HOST_SIZE_MAX)
            return diag_set(diag, ERR_INVALID, "--address is too long");
        (void)snprintf(verbs.host, sizeof(verbs.host), "%s", host);
    } else if (!transport_find_verbs(&verbs)) {
        (void)printf("no RDMA device here: verbs is not measured\n");
        return ERR_NONE;
    }
    server->addresses[server->count++] = verbs;
    return ERR_NONE;
}

static enum err read_addresses(const char *const *texts, unsigned count, const char *secret,
                               struct meta_server *server, struct diag *diag)
{
    if (!secret)
        return diag_set(diag, ERR_INVALID,
                        "--serve and --peer need --secret FILE, the same on "
                        "both sides");
    for (unsigned i = 0; i < count; i++) {
        enum err err = port_address_parse(texts[i], &server->addresses[server->count++], diag);
        if (err) return err;
    }
    return port_secret_read(secret, server->secret, diag);
}

static enum err serve(struct measurement *measurement, struct diag *diag)
{
    const struct bench_links *links = &measurement->bench->links;
    struct meta_server *server = &measurement->server;
    enum err err = read_addresses(links->serve, links->serve_count, links->secret, server, diag);
    if (err) return err;
    (void)snprintf(server->store, sizeof(server->store), "%.500s/store", measurement->folder);
    (void)printf("serving; SIGTERM ends it\n");
    (void)fflush(stdout);
    return meta_serve(server, -1, diag);
}

/* ---- results ---- */

static void report_series(struct measurement *measurement, struct series *series)
{
    (void)printf("%-18s", series->name);
    for (unsigned op = 0; op < OPS; op++) {
        for (unsigned q = 0; q < QUANTILES; q++) {
            series->medians[op][q] = bench_median(series->samples[op][q], series->runs);
            (void)printf(" %8.1f", series->medians[op][q]);
            char label[96];
            (void)snprintf(label, sizeof(label), "%s over %s: %s", op_names[op], series->name,
                           quantile_names[q]);
            bench_add_json(measurement->bench,
                           &(struct bench_result){.label = label,
                                                  .value = series->medians[op][q],
                                                  .unit = "us",
                                                  .note = "lower is better"});
        }
        (void)printf(" ");
    }
    (void)printf("\n");
}

/* How many times faster each operation is. */
static void compare(struct measurement *measurement, const char *slow, const char *fast,
                    const char *note)
{
    const struct series *a = series_named(measurement, slow);
    const struct series *b = series_named(measurement, fast);
    if (!a || !b) return;
    for (unsigned op = 0; op < OPS; op++)
        for (unsigned q = 0; q < 2; q++) {
            char label[96];
            (void)snprintf(label, sizeof(label), "%s over %s, %s", op_names[op], slow,
                           quantile_names[q]);
            bench_add(measurement->bench, &(struct bench_result){.label = label,
                                                                 .value = a->medians[op][q],
                                                                 .unit = "us",
                                                                 .against = fast,
                                                                 .against_value = b->medians[op][q],
                                                                 .note = note});
        }
}

static void report(struct measurement *measurement)
{
    if (isatty(STDERR_FILENO)) (void)fprintf(stderr, "\r\033[K");
    (void)printf("%-18s", "microseconds");
    for (unsigned op = 0; op < OPS; op++)
        (void)printf(" %-27s", op_names[op]);
    (void)printf("\n%-18s", "");
    for (unsigned op = 0; op < OPS; op++) {
        for (unsigned q = 0; q < QUANTILES; q++)
            (void)printf(" %8s", quantile_names[q]);
        (void)printf(" ");
    }
    (void)printf("\n");
    for (unsigned i = 0; i < measurement->series_count; i++)
        report_series(measurement, &measurement->series[i]);
    (void)printf("\n");
    compare(measurement, "tcp sleeping", "verbs adaptive", "higher is better; target 3");
    compare(measurement, "tcp sleeping", "shm adaptive", "higher is better");
}

static enum err measure(struct measurement *measurement, struct diag *diag)
{
    const struct bench_links *links = &measurement->bench->links;
    uint32_t runs = measurement->bench->runs < RUNS_MAX ? measurement->bench->runs : RUNS_MAX;
    measurement->foreign = links->peer_count > 0;
    enum err err = measurement->foreign ? read_addresses(links->peers, links->peer_count,
                                                         links->secret, &measurement->server, diag)
                                        : own_addresses(measurement, diag);
    for (uint32_t run = 0; run < runs && !err; run++) {
        for (unsigned spin = 0; spin < TRANSPORT_SPINS && !err; spin++)
            err = measure_spin(measurement, spin, diag);
        if (!err) err = measure_embedded(measurement, diag);
    }
    if (!err) report(measurement);
    return err;
}

enum err bench_meta(struct bench *bench, struct diag *diag)
{
    struct measurement *measurement = calloc(1, sizeof(*measurement));
    if (!measurement) return diag_set(diag, ERR_NO_MEMORY, "no memory");
    measurement->bench = bench;
    measurement->files = bench->files ? bench->files : bench->quick ? QUICK_FILES : FILES;
    measurement->seconds = bench->quick ? 0.2 : 1;
    measurement->inos = calloc(measurement->files, sizeof(*measurement->inos));
    measurement->folder = bench_temp_dir(diag);
    enum err err = ERR_NONE;
    if (!measurement->folder)
        err = ERR_IO;
    else if (!measurement->inos)
        err = diag_set(diag, ERR_NO_MEMORY, "no memory");
    else
        err = bench->links.serve_count ? serve(measurement, diag) : measure(measurement, diag);
    if (measurement->folder) bench_remove_tree(measurement->folder);
    free(measurement->folder);
    free(measurement->inos);
    sodium_memzero(&measurement->server, sizeof(measurement->server));
    free(measurement);
    return err;
}
