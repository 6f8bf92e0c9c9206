/* A file system opened in this process, without FUSE, for the benchmarks that measure the engine.
 */
#ifndef BENCH_STORE_H
#define BENCH_STORE_H

#include "base/diag.h"
#include "metadata/fs.h"

struct bench_store {
    struct db *db;
    struct fs *fs;
    struct fs_client *client; /* valid on worker 0 only, within bench_store_run */
    char *dir;                /* the store directory; removed by bench_store_remove */
    bool again;               /* set by a function that bench_store_run runs: see there */
};

/* Opens (or makes) the store below parent with one worker. */
MUST_USE enum err bench_store_open(struct bench_store *store, const char *parent,
                                   struct diag *diag);
MUST_USE enum err bench_store_close(struct bench_store *store, struct diag *diag);
void bench_store_remove(struct bench_store *store);
/* Runs fn on worker 0's own thread with a client there: how FUSE requests run. Returns its result.
 * When fn sets store->again it is called again, after the worker's loop has had a turn: long work
 * comes in slices, as requests do, so that flushes, checkpoints and collection get theirs. */
MUST_USE enum err bench_store_run(struct bench_store *store,
                                  enum err (*fn)(struct bench_store *store, void *context),
                                  void *context);
/* Operations between two turns of the loop; of a fill, which should leave checkpoints their share,
 * as requests do that come one in a turn. */
enum { BENCH_SLICE = 256, BENCH_FILL_SLICE = 32 };
/* Makes empty files named f%015u, numbers `from` to `to`; number i lies in dirs[i / per_dir], which
 * is made with its first file. Names have 16 bytes, owners are of 100 kinds so that reports have
 * groups. Runs on worker 0. Progress on a terminal. */
struct bench_fill {
    uint64_t from; /* goes on to `to` */
    uint64_t to;
    uint64_t per_dir;
    uint64_t *dirs; /* inode numbers of the directories made so far; heap, bench_fill_fini */
    size_t dir_count;
    size_t dir_capacity;
};
enum err bench_store_fill(struct bench_store *store, void *fill);
void bench_fill_fini(struct bench_fill *fill);
/* Kilobyte counters of this process: "VmRSS" in bytes. */
uint64_t bench_resident_bytes(void);

#endif
