/* `bench memory`: bytes per file, all in: the growth of the process's resident memory over an empty
 * store's, divided by the files. Files have 16-byte names and lie 1,000 to a directory. `bench
 * restart`: how long the same store takes to load and serve. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/store.h"

enum { PER_DIR = 1000, RESTART_FILES = 5000000, RUNS_MAX = 32 };

static const uint64_t sizes[] = {1000000, 5000000, 10000000};

static enum err fill_to(struct bench_store *store, struct bench_fill *fill, uint64_t files,
                        struct diag *diag)
{
    fill->from = fill->to;
    fill->to = files;
    enum err err = bench_store_run(store, bench_store_fill, fill);
    return err ? diag_set(diag, err, "filling the store: %s", err_text(err)) : ERR_NONE;
}

/* Where the bytes are by the store's own accounts: rows, indexes, versions that open snapshots
 * need, the rest. */
static enum err add_accounts(struct bench *bench, struct db_client *client, uint64_t files)
{
    static const char *const names[] = {"memory_pages", "memory_indexes", "memory_versions",
                                        "memory_other"};
    char *text;
    enum err err = db_status_json(client, &text);
    if (err) return err;
    json_t *status = json_loads(text, 0, NULL);
    free(text);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        double bytes = 0;
        size_t index;
        json_t *worker;
        json_array_foreach(json_object_get(status, "worker"), index, worker) bytes +=
            (double)json_integer_value(json_object_get(worker, names[i]));
        char label[64];
        (void)snprintf(label, sizeof(label), "  of these %s", names[i]);
        bench_add(bench, &(struct bench_result){.label = label,
                                                .value = bytes / (double)files,
                                                .unit = "bytes",
                                                .note = "lower is better; accounted"});
    }
    json_decref(status);
    return ERR_NONE;
}

static enum err measure_sizes(struct bench *bench, struct bench_store *store, struct diag *diag)
{
    struct bench_fill fill = {.per_dir = PER_DIR};
    enum err err = fill_to(store, &fill, 1, diag);
    uint64_t empty = bench_resident_bytes();
    for (size_t i = 0; !err && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t files = bench->quick ? sizes[i] / 10 : sizes[i];
        if (bench->files && files > bench->files) break;
        err = fill_to(store, &fill, files, diag);
        if (err) break;
        /* Log buffers of the fill are not the files'. */
        struct db_client *client;
        err = db_client_create(store->db, &client);
        if (err) break;
        err = db_flush(client);
        char label[64];
        (void)snprintf(label, sizeof(label), "bytes per file at %lu files", files);
        bench_add(bench, &(struct bench_result){
                             .label = label,
                             .value = (double)(bench_resident_bytes() - empty) / (double)files,
                             .unit = "bytes",
                             .against = "budget",
                             .against_value = 200,
                             .note = "lower is better; resident memory over an empty store's"});
        if (!err) err = add_accounts(bench, client, files);
        db_client_destroy(client);
    }
    bench_fill_fini(&fill);
    return err;
}

enum err bench_memory(struct bench *bench, struct diag *diag)
{
    char *dir = bench_temp_dir(diag);
    if (!dir) return ERR_IO;
    struct bench_store store;
    enum err err = bench_store_open(&store, dir, diag);
    if (!err) err = measure_sizes(bench, &store, diag);
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    bench_store_remove(&store);
    bench_remove_tree(dir);
    free(dir);
    return err ? err : close_err;
}

static enum err count_entries(struct bench_store *store, void *context)
{
    struct fs_attr attr;
    (void)context;
    return fs_lookup(store->client, FS_ROOT_INO, "d000000000000000", &attr);
}

enum err bench_restart(struct bench *bench, struct diag *diag)
{
    char *dir = bench_temp_dir(diag);
    if (!dir) return ERR_IO;
    struct bench_store store;
    struct bench_fill fill = {.per_dir = PER_DIR};
    uint64_t files = bench->files ? bench->files : RESTART_FILES / (bench->quick ? 10u : 1u);
    double seconds[RUNS_MAX];
    uint32_t runs = bench->runs < RUNS_MAX ? bench->runs : RUNS_MAX;
    enum err err = bench_store_open(&store, dir, diag);
    if (!err) err = fill_to(&store, &fill, files, diag);
    for (uint32_t run = 0; !err && run < runs; run++) {
        err = bench_store_close(&store, diag);
        free(store.dir);
        store.dir = NULL;
        double start = bench_now_s();
        if (!err) err = bench_store_open(&store, dir, diag);
        /* Serving: it answers. */
        if (!err) err = bench_store_run(&store, count_entries, NULL);
        seconds[run] = bench_now_s() - start;
    }
    char label[64];
    (void)snprintf(label, sizeof(label), "start to serving, %lu files", files);
    if (!err)
        bench_add(bench, &(struct bench_result){.label = label,
                                                .value = bench_median(seconds, runs),
                                                .unit = "s",
                                                .against = "target",
                                                .against_value = 5,
                                                .note = "lower is better"});
    bench_fill_fini(&fill);
    struct diag ignored;
    enum err close_err = bench_store_close(&store, err ? &ignored : diag);
    bench_store_remove(&store);
    bench_remove_tree(dir);
    free(dir);
    return err ? err : close_err;
}
