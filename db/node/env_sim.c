/* The simulated environment: time, jobs, handles and faults over the disk of env_sim_disk.c.
 *
 * Time stands still but for sim_step, which moves it to the next job's due time, and sim_advance. A
 * job is due a random latency after its submission, never before an earlier job of its order. Jobs
 * that are due at the same time run in the order of submission.
 *
 * Randomness: four streams from the one seed (for the program under test, the disk, the scheduler
 * and faults, and the test itself), so that a test's own choices do not move when the program asks
 * the disk one question more.
 *
 * Faults: every function that returns an enum err counts as one file call (fault_check). A failed
 * write may have written any prefix; a failed sync leaves a random part durable and the rest never;
 * any other failed call changes nothing.
 *
 * A handle remembers the number of crashes when it was opened; after another crash it answers
 * ERR_CLOSED. */
#include "db/node/sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/node/env_sim_content.h"
#include "db/node/env_sim_disk.h"

/* 2024-01-01 00:00:00 UTC, where simulated realtime starts. */
static const uint64_t realtime_start_ns = 1704067200u * (uint64_t)1000000000u;
static const uint64_t monotonic_start_ns = 1000000000u;

struct env_file {
    struct sim *sim;
    struct disk_node *node; /* NULL after a crash */
    struct env_file *next;
    struct env_file **link; /* what points to this one */
    bool writable;
};

struct sim_job {
    struct env_job *job;
    uint64_t due_ns;
    uint64_t number; /* of submission */
    uint32_t order;
};

struct sim {
    struct env env;
    struct sim_config config;
    struct disk *disk;
    struct env_file *files;
    env_done_fn done;
    env_wake_fn wake;
    void *node;
    uint64_t now_ns;

    struct sim_rng program_rng;
    struct sim_rng schedule_rng;
    struct sim_rng test_rng;

    struct sim_job *jobs;
    size_t job_count;
    size_t job_capacity;
    uint64_t job_number;

    bool faults_on;
    uint64_t fault_left; /* file calls until the armed fault; 0: none */
    enum err fault_err;
    bool fault_fired;
    uint64_t halt_left;
    bool halted;
};

static struct sim *sim_of(struct env *env)
{
    return CONTAINER_OF(env, struct sim, env);
}

/* Counts a file call and tells how it fails; ERR_NONE: it does not. */
static enum err fault_check(struct sim *sim)
{
    if (sim->halted) return ERR_IO;
    if (sim->halt_left && --sim->halt_left == 0) {
        sim->halted = true;
        return ERR_IO;
    }
    if (sim->fault_left && --sim->fault_left == 0) {
        sim->fault_fired = true;
        return sim->fault_err;
    }
    if (sim->faults_on &&
        sim_rng_below(&sim->schedule_rng, 1000000) < sim->config.fault_per_million)
        return ERR_IO;
    return ERR_NONE;
}

/* --- clock and randomness --- */

static uint64_t sim_monotonic_ns(struct env *env)
{
    return monotonic_start_ns + sim_of(env)->now_ns;
}

static uint64_t sim_realtime_ns(struct env *env)
{
    return realtime_start_ns + sim_of(env)->now_ns;
}

static void sim_env_random(struct env *env, void *bytes, size_t size)
{
    uint8_t *at = bytes;
    while (size) {
        uint64_t value = sim_rng_next(&sim_of(env)->program_rng);
        size_t part = size < sizeof(value) ? size : sizeof(value);
        memcpy(at, &value, part);
        at += part;
        size -= part;
    }
}

/* --- files --- */

static enum err sim_file_open(struct env *env, const char *path, unsigned flags,
                              struct env_file **ret)
{
    ASSERT((flags & ENV_OPEN_WRITE) ||
           !(flags & (ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE | ENV_OPEN_TRUNCATE)));
    struct sim *sim = sim_of(env);
    enum err err = fault_check(sim);
    if (err) return err;
    struct disk_node *node;
    err = disk_open(sim->disk, path, flags, &node);
    if (err) return err;
    struct env_file *file = malloc(sizeof(*file));
    ASSERT(file);
    *file = (struct env_file){.sim = sim,
                              .node = node,
                              .next = sim->files,
                              .link = &sim->files,
                              .writable = (flags & ENV_OPEN_WRITE) != 0};
    if (sim->files) sim->files->link = &file->next;
    sim->files = file;
    *ret = file;
    return ERR_NONE;
}

static void sim_file_close(struct env_file *file)
{
    if (!file) return;
    if (file->node) disk_release(file->node);
    *file->link = file->next;
    if (file->next) file->next->link = file->link;
    free(file);
}

/* The checks that every call on a handle starts with. */
static enum err file_check(const struct env_file *file)
{
    return file->node ? fault_check(file->sim) : ERR_CLOSED;
}

static enum err sim_file_read(struct env_file *file, void *bytes, size_t size, uint64_t offset,
                              size_t *ret_size)
{
    enum err err = file_check(file);
    if (err) return err;
    if (offset > INT64_MAX || size > INT64_MAX - offset) return ERR_INVALID;
    *ret_size = disk_read(file->node, bytes, size, offset);
    return ERR_NONE;
}

static enum err sim_file_write(struct env_file *file, const void *bytes, size_t size,
                               uint64_t offset)
{
    struct sim *sim = file->sim;
    ASSERT(file->writable);
    bool was_halted = sim->halted;
    enum err err = file_check(file);
    if (err == ERR_CLOSED) return err;
    if (offset > INT64_MAX || size > INT64_MAX - offset) return err ? err : ERR_INVALID;
    if (!err) return disk_write(sim->disk, file->node, bytes, size, offset);
    if (!was_halted) {
        size_t part = (size_t)sim_rng_below(&sim->schedule_rng, size + 1);
        enum err part_err = disk_write(sim->disk, file->node, bytes, part, offset);
        (void)part_err; /* a full disk only makes the part smaller */
    }
    return err;
}

static enum err sim_file_sync(struct env_file *file)
{
    bool was_halted = file->sim->halted;
    enum err err = file_check(file);
    if (err == ERR_CLOSED) return err;
    if (!err)
        disk_sync(file->node);
    else if (!was_halted)
        disk_sync_fail(file->sim->disk, file->node);
    return err;
}

static enum err sim_file_truncate(struct env_file *file, uint64_t size)
{
    ASSERT(file->writable);
    enum err err = file_check(file);
    if (err) return err;
    if (size > INT64_MAX) return ERR_INVALID;
    return disk_truncate(file->sim->disk, file->node, size);
}

static enum err sim_file_size(struct env_file *file, uint64_t *ret_size)
{
    enum err err = file_check(file);
    if (err) return err;
    *ret_size = disk_node_size(file->node);
    return ERR_NONE;
}

/* --- directories --- */

static enum err sim_dir_create(struct env *env, const char *path)
{
    enum err err = fault_check(sim_of(env));
    return err ? err : disk_dir_create(sim_of(env)->disk, path);
}

static enum err sim_dir_list(struct env *env, const char *path,
                             enum err (*each)(void *context, const char *name), void *context)
{
    enum err err = fault_check(sim_of(env));
    return err ? err : disk_dir_list(sim_of(env)->disk, path, each, context);
}

static enum err sim_dir_sync(struct env *env, const char *path)
{
    enum err err = fault_check(sim_of(env));
    return err ? err : disk_dir_sync(sim_of(env)->disk, path);
}

static enum err sim_rename(struct env *env, const char *from, const char *to)
{
    enum err err = fault_check(sim_of(env));
    return err ? err : disk_rename(sim_of(env)->disk, from, to);
}

static enum err sim_remove(struct env *env, const char *path)
{
    enum err err = fault_check(sim_of(env));
    return err ? err : disk_remove(sim_of(env)->disk, path);
}

static enum err sim_space_free(struct env *env, uint64_t *ret_bytes)
{
    enum err err = fault_check(sim_of(env));
    if (err) return err;
    *ret_bytes = disk_space_free(sim_of(env)->disk);
    return ERR_NONE;
}

/* --- jobs --- */

static void sim_submit(struct env *env, struct env_job *job, uint32_t order)
{
    struct sim *sim = sim_of(env);
    if (sim->job_count == sim->job_capacity) {
        sim->job_capacity = sim->job_capacity ? sim->job_capacity * 2 : 16;
        sim->jobs = realloc(sim->jobs, sim->job_capacity * sizeof(sim->jobs[0]));
        ASSERT(sim->jobs);
    }
    uint64_t spread = sim->config.disk_latency_ns_max - sim->config.disk_latency_ns_min;
    uint64_t latency_ns = sim->config.disk_latency_ns_min;
    if (spread) latency_ns += sim_rng_below(&sim->schedule_rng, spread + 1);
    uint64_t due_ns = sim->now_ns + latency_ns;
    for (size_t i = 0; order && i < sim->job_count; i++) {
        const struct sim_job *earlier = &sim->jobs[i];
        if (earlier->order == order && earlier->due_ns > due_ns) due_ns = earlier->due_ns;
    }
    job->next = NULL;
    sim->jobs[sim->job_count++] =
        (struct sim_job){.job = job, .due_ns = due_ns, .number = sim->job_number++, .order = order};
}

bool sim_step(struct sim *sim)
{
    if (!sim->job_count) return false;
    size_t best = 0;
    for (size_t i = 1; i < sim->job_count; i++) {
        const struct sim_job *a = &sim->jobs[i];
        const struct sim_job *b = &sim->jobs[best];
        if (a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number)) best = i;
    }
    struct sim_job next = sim->jobs[best];
    sim->jobs[best] = sim->jobs[--sim->job_count];
    if (next.due_ns > sim->now_ns) sim->now_ns = next.due_ns;

    struct env_job *job = next.job;
    bool has_done = job->done != NULL; /* without done(), run() may free the job */
    job->run(job);
    if (has_done && sim->done)
        sim->done(sim->node, job);
    else if (has_done)
        job->done(job);
    return true;
}

static void sim_wake(struct env *env, uint16_t worker)
{
    struct sim *sim = sim_of(env);
    if (sim->wake) sim->wake(sim->node, worker);
}

/* --- for the test --- */

static const struct env_ops sim_ops = {
    .monotonic_ns = sim_monotonic_ns,
    .realtime_ns = sim_realtime_ns,
    .random = sim_env_random,
    .file_open = sim_file_open,
    .file_read = sim_file_read,
    .file_write = sim_file_write,
    .file_sync = sim_file_sync,
    .file_truncate = sim_file_truncate,
    .file_size = sim_file_size,
    .file_close = sim_file_close,
    .dir_create = sim_dir_create,
    .dir_list = sim_dir_list,
    .dir_sync = sim_dir_sync,
    .rename = sim_rename,
    .remove = sim_remove,
    .space_free = sim_space_free,
    .submit = sim_submit,
    .wake = sim_wake,
};

enum err sim_create(const struct sim_config *config, struct sim **ret_sim)
{
    if (config->disk_latency_ns_max < config->disk_latency_ns_min) return ERR_INVALID;
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim) return ERR_NO_MEMORY;
    struct sim_rng seeds = {config->seed};
    sim->env.ops = &sim_ops;
    sim->config = *config;
    sim->program_rng.state = sim_rng_next(&seeds);
    sim->schedule_rng.state = sim_rng_next(&seeds);
    sim->test_rng.state = sim_rng_next(&seeds);
    sim->disk = disk_create(sim_rng_next(&seeds), config->disk_size_max);
    if (!sim->disk) {
        free(sim);
        return ERR_NO_MEMORY;
    }
    *ret_sim = sim;
    return ERR_NONE;
}

void sim_destroy(struct sim *sim)
{
    if (!sim) return;
    ASSERT(!sim->files); /* a program under test closes what it opens */
    free(sim->jobs);
    disk_destroy(sim->disk);
    free(sim);
}

struct env *sim_env(struct sim *sim)
{
    return &sim->env;
}

void sim_set_done(struct sim *sim, env_done_fn done, void *node)
{
    sim->done = done;
    sim->node = node;
}

void sim_set_wake(struct sim *sim, env_wake_fn wake)
{
    sim->wake = wake;
}

uint64_t sim_random(struct sim *sim)
{
    return sim_rng_next(&sim->test_rng);
}

void sim_advance(struct sim *sim, uint64_t ns)
{
    sim->now_ns += ns;
}

void sim_faults(struct sim *sim, bool on)
{
    sim->faults_on = on;
}

void sim_fault_arm(struct sim *sim, uint64_t k, enum err err)
{
    sim->fault_left = k;
    sim->fault_err = err;
    sim->fault_fired = false;
}

bool sim_fault_fired(const struct sim *sim)
{
    return sim->fault_fired;
}

void sim_halt_arm(struct sim *sim, uint64_t k)
{
    sim->halt_left = k;
}

bool sim_halted(const struct sim *sim)
{
    return sim->halted;
}

void sim_crash(struct sim *sim)
{
    sim->job_count = 0;
    for (struct env_file *file = sim->files; file; file = file->next) {
        if (!file->node) continue;
        disk_release(file->node);
        file->node = NULL;
    }
    disk_crash(sim->disk);
    sim->halted = false;
    sim->halt_left = 0;
}

enum err sim_corrupt(struct sim *sim, const char *path, uint64_t offset, unsigned bits)
{
    return disk_corrupt(sim->disk, path, offset, bits);
}
