/* Single operations on random files of a filled store: what `bench scale` times and `bench misses`
 * counts cache misses of. */
#ifndef BENCH_PROBE_H
#define BENCH_PROBE_H

#include "bench/store.h"

/* `bench misses` runs this program in a simulator, and tells it by this what to do. */
#define PROBE_VARIABLE "TRELLIS_BENCH_PROBE"

enum bench_operation { BENCH_CREATE, BENCH_LOOKUP, BENCH_UNLINK, BENCH_OPERATIONS };
extern const char *const bench_operation_names[BENCH_OPERATIONS];

/* The number of a random file of the fill, for the i'th probe. */
uint64_t bench_probe_file(const struct bench_fill *fill, enum bench_operation operation,
                          uint64_t i);
/* Creates file p<i> in the directory of a random file, looks up a random file, unlinks what the
 * create of the same number made. The kernel's references are given back at once. */
enum err bench_probe_create(struct bench_store *store, const struct bench_fill *fill, uint64_t i);
enum err bench_probe_lookup(struct bench_store *store, const struct bench_fill *fill, uint64_t i);
enum err bench_probe_unlink(struct bench_store *store, const struct bench_fill *fill, uint64_t i);
enum err bench_probe(struct bench_store *store, const struct bench_fill *fill,
                     enum bench_operation operation, uint64_t i);

#endif
