/* Probes of a filled store: see probe.h. Names are hashed, so those that are made sort anywhere
 * among those that are there.
 *
 * The functions of the three operations are found by their names in the profiles that `bench
 * misses` has made, so they stay functions. */
#include "bench/probe.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/hash.h"

enum { LOOKUP_SALT = 1000000007 };

const char *const bench_operation_names[BENCH_OPERATIONS] = {"create", "lookup", "unlink"};

uint64_t bench_probe_file(const struct bench_fill *fill, enum bench_operation operation, uint64_t i)
{
    return hash_u64(operation == BENCH_LOOKUP ? i + LOOKUP_SALT : i) % fill->to;
}

__attribute__((noinline)) enum err bench_probe_create(struct bench_store *store,
                                                      const struct bench_fill *fill, uint64_t i)
{
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    char name[32];
    struct fs_attr attr;
    uint64_t file = bench_probe_file(fill, BENCH_CREATE, i);
    (void)snprintf(name, sizeof(name), "p%015lu", i);
    enum err err = fs_mknod(store->client, &caller, fill->dirs[file / fill->per_dir], name,
                            S_IFREG | 0644, 0, &attr);
    if (!err) fs_forget(store->client, attr.ino, 1);
    return err;
}

__attribute__((noinline)) enum err bench_probe_lookup(struct bench_store *store,
                                                      const struct bench_fill *fill, uint64_t i)
{
    char name[32];
    struct fs_attr attr;
    uint64_t file = bench_probe_file(fill, BENCH_LOOKUP, i);
    (void)snprintf(name, sizeof(name), "f%015lu", file);
    enum err err = fs_lookup(store->client, fill->dirs[file / fill->per_dir], name, &attr);
    if (!err) fs_forget(store->client, attr.ino, 1);
    return err;
}

__attribute__((noinline)) enum err bench_probe_unlink(struct bench_store *store,
                                                      const struct bench_fill *fill, uint64_t i)
{
    const struct fs_caller caller = {.uid = 1000, .gid = 1000};
    char name[32];
    uint64_t file = bench_probe_file(fill, BENCH_UNLINK, i);
    (void)snprintf(name, sizeof(name), "p%015lu", i);
    return fs_unlink(store->client, &caller, fill->dirs[file / fill->per_dir], name);
}

enum err bench_probe(struct bench_store *store, const struct bench_fill *fill,
                     enum bench_operation operation, uint64_t i)
{
    static enum err (*const probes[])(struct bench_store *, const struct bench_fill *, uint64_t) = {
        bench_probe_create, bench_probe_lookup, bench_probe_unlink};
    return probes[operation](store, fill, i);
}
