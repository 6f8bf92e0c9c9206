/* What the tests of store, redo, checkpoint and recovery share: a simulated disk with a store, and
 * files to look into and to damage. */
#ifndef TESTS_DB_LDM_DURABILITY_H
#define TESTS_DB_LDM_DURABILITY_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "db/ldm/redo.h"
#include "db/node/sim.h"

static inline struct sim *disk_create(uint64_t seed)
{
    const struct sim_config config = {
        .seed = seed, .disk_latency_ns_min = 1000, .disk_latency_ns_max = 100000};
    struct sim *sim;
    cr_assert_eq(sim_create(&config, &sim), ERR_NONE);
    return sim;
}

static inline struct sim *disk_with_store(uint64_t seed, uint16_t partition_count)
{
    struct sim *sim = disk_create(seed);
    struct diag diag;
    cr_assert_eq(store_create(sim_env(sim), partition_count, &diag), ERR_NONE, "%s", diag.text);
    return sim;
}

static inline struct store_info info_of(struct sim *sim)
{
    struct store_info info;
    cr_assert_eq(store_read_info(sim_env(sim), &info, NULL), ERR_NONE);
    return info;
}

static inline void jobs_run(struct sim *sim)
{
    while (sim_step(sim))
        ;
}

/* The whole file; asserts that it is there. The caller frees it by buf_fini. */
static inline struct buf file_get(struct sim *sim, const char *path)
{
    struct env *env = sim_env(sim);
    struct env_file *file;
    cr_assert_eq(env->ops->file_open(env, path, ENV_OPEN_READ, &file), ERR_NONE, "%s", path);
    uint64_t size;
    cr_assert_eq(env->ops->file_size(file, &size), ERR_NONE);
    struct buf bytes;
    buf_init(&bytes);
    size_t read = 0;
    uint8_t *at = buf_add(&bytes, (size_t)size);
    if (size) cr_assert_eq(env->ops->file_read(file, at, (size_t)size, 0, &read), ERR_NONE);
    cr_assert_eq(read, size);
    env->ops->file_close(file);
    return bytes;
}

/* Replaces the content, durably. */
static inline void file_put(struct sim *sim, const char *path, const void *bytes, size_t size)
{
    struct env *env = sim_env(sim);
    struct env_file *file;
    unsigned flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_TRUNCATE;
    cr_assert_eq(env->ops->file_open(env, path, flags, &file), ERR_NONE, "%s", path);
    if (size) cr_assert_eq(env->ops->file_write(file, bytes, size, 0), ERR_NONE);
    cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
    env->ops->file_close(file);
    const char *slash = strrchr(path, '/');
    char dir[64];
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    cr_assert_eq(env->ops->dir_sync(env, dir), ERR_NONE);
}

static inline bool file_exists(struct sim *sim, const char *path)
{
    struct env *env = sim_env(sim);
    struct env_file *file;
    if (env->ops->file_open(env, path, ENV_OPEN_READ, &file)) return false;
    env->ops->file_close(file);
    return true;
}

struct name_count {
    const char *part;
    unsigned count;
};

static inline enum err name_counted(void *context, const char *name)
{
    struct name_count *names = context;
    if (strstr(name, names->part)) names->count++;
    return ERR_NONE;
}

/* How many names in the directory contain the part. */
static inline unsigned names_with(struct sim *sim, const char *dir, const char *part)
{
    struct name_count names = {.part = part};
    cr_assert_eq(sim_env(sim)->ops->dir_list(sim_env(sim), dir, name_counted, &names), ERR_NONE);
    return names.count;
}

#endif
