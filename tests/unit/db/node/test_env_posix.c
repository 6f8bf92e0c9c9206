/* The real environment's threads: orders are kept, the rest runs in parallel, nothing is lost at
 * the end. */
#include "db/node/env.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_uint done_count;

/* Runs done() at once, on the I/O thread: the fixture has no worker loop. */
static void done_now(void *node, struct env_job *job)
{
    cr_assert_eq(node, &done_count);
    job->done(job);
    atomic_fetch_add(&done_count, 1);
}

static void dir_make(char *dir, size_t size)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, size, "%s/env.XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
}

static struct env *env_make(unsigned io_threads)
{
    struct env *env = NULL;
    struct env_posix_config config = {
        .dir = "/tmp", .io_threads = io_threads, .done = done_now, .node = &done_count};
    cr_assert_eq(env_posix_create(&config, &env), ERR_NONE);
    return env;
}

enum { ORDERS = 5, JOBS_PER_ORDER = 400 };

struct numbered_job {
    struct env_job job;
    unsigned order;
    unsigned number;
};

static struct numbered_job jobs[ORDERS][JOBS_PER_ORDER];
static unsigned next_number[ORDERS]; /* without atomics: an order is one thread at a time */
static unsigned next_done[ORDERS];
static atomic_uint disorder;

static void numbered_run(struct env_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    if (next_number[numbered->order]++ != numbered->number) atomic_fetch_add(&disorder, 1);
}

static void numbered_done(struct env_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    if (next_done[numbered->order]++ != numbered->number) atomic_fetch_add(&disorder, 1);
}

Test(env_posix, jobs_of_one_order_run_and_finish_in_submission_order)
{
    struct env *env = env_make(4);
    for (unsigned number = 0; number < JOBS_PER_ORDER; number++) {
        for (unsigned order = 0; order < ORDERS; order++) {
            struct numbered_job *job = &jobs[order][number];
            *job =
                (struct numbered_job){{.run = numbered_run, .done = numbered_done}, order, number};
            /* One order far away that shares a lane with the first. */
            env->ops->submit(env, &job->job, order == 4 ? 1 + 255 : order + 1);
        }
    }
    env_posix_destroy(env);
    for (unsigned order = 0; order < ORDERS; order++) {
        cr_assert_eq(next_number[order], JOBS_PER_ORDER);
        cr_assert_eq(next_done[order], JOBS_PER_ORDER);
    }
    cr_assert_eq(atomic_load(&disorder), 0);
    cr_assert_eq(atomic_load(&done_count), ORDERS * JOBS_PER_ORDER);
}

/* Two jobs that each wait for the other can only finish in parallel. */
static pthread_barrier_t both;

static void barrier_run(struct env_job *job)
{
    (void)job;
    pthread_barrier_wait(&both);
}

static void parallel_pair(uint32_t first_order, uint32_t second_order)
{
    struct env *env = env_make(2);
    pthread_barrier_init(&both, NULL, 2);
    struct env_job pair[2] = {{.run = barrier_run}, {.run = barrier_run}};
    env->ops->submit(env, &pair[0], first_order);
    env->ops->submit(env, &pair[1], second_order);
    env_posix_destroy(env);
    pthread_barrier_destroy(&both);
}

Test(env_posix, different_orders_run_in_parallel)
{
    parallel_pair(1, 2);
}

Test(env_posix, jobs_without_order_run_in_parallel)
{
    parallel_pair(0, 0);
}

static void free_run(struct env_job *job)
{
    free(job);
    atomic_fetch_add(&done_count, 1);
}

Test(env_posix, job_without_done_may_free_itself)
{
    struct env *env = env_make(2);
    for (unsigned i = 0; i < 100; i++) {
        struct env_job *job = calloc(1, sizeof(*job));
        job->run = free_run;
        env->ops->submit(env, job, i % 3);
    }
    env_posix_destroy(env);
    cr_assert_eq(atomic_load(&done_count), 100);
}

struct chain_job {
    struct env_job job;
    struct env *env;
    unsigned left;
};

static void chain_run(struct env_job *job)
{
    struct chain_job *chain = (struct chain_job *)job;
    atomic_fetch_add(&done_count, 1);
    if (chain->left-- > 0) chain->env->ops->submit(chain->env, job, 1);
}

Test(env_posix, destroy_also_runs_what_jobs_submit)
{
    struct chain_job chain = {{.run = chain_run}, env_make(3), 50};
    chain.env->ops->submit(chain.env, &chain.job, 1);
    env_posix_destroy(chain.env);
    cr_assert_eq(atomic_load(&done_count), 51);
}

static void mask_run(struct env_job *job)
{
    (void)job;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT)) atomic_fetch_add(&done_count, 1);
}

Test(env_posix, io_threads_take_no_signals)
{
    struct env *env = env_make(1);
    struct env_job job = {.run = mask_run};
    env->ops->submit(env, &job, 0);
    env_posix_destroy(env);
    cr_assert_eq(atomic_load(&done_count), 1);
}

static unsigned woken;

static void wake_note(void *node, uint16_t worker)
{
    cr_assert_eq(node, &done_count);
    woken = worker;
}

Test(env_posix, wake_reaches_the_node_once_it_is_set)
{
    struct env *env = env_make(1);
    env->ops->wake(env, 3);
    cr_assert_eq(woken, 0);
    env_posix_set_wake(env, wake_note);
    env->ops->wake(env, 3);
    cr_assert_eq(woken, 3);
    env_posix_destroy(env);
}

Test(env_posix, fifo_in_the_store_is_refused_at_once)
{
    char dir[1024];
    dir_make(dir, sizeof(dir));
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    cr_assert_eq(mkfifoat(dir_fd, "pipe", 0600), 0);
    struct env *env = NULL;
    struct env_posix_config config = {.dir = dir, .io_threads = 1};
    cr_assert_eq(env_posix_create(&config, &env), ERR_NONE);
    struct env_file *file = NULL;
    cr_assert_eq(env->ops->file_open(env, "pipe", ENV_OPEN_READ, &file), ERR_IO);
    cr_assert_eq(env->ops->file_open(env, "pipe", ENV_OPEN_WRITE, &file), ERR_IO);
    cr_assert_null(file);
    env_posix_destroy(env);
    unlinkat(dir_fd, "pipe", 0);
    close(dir_fd);
    rmdir(dir);
}

Test(env_posix, new_files_are_private_and_paths_follow_the_directory)
{
    char dir[1024];
    char moved[sizeof(dir) + 8];
    dir_make(dir, sizeof(dir));
    snprintf(moved, sizeof(moved), "%s.moved", dir);
    struct env *env = NULL;
    struct env_posix_config config = {.dir = dir, .io_threads = 1};
    cr_assert_eq(env_posix_create(&config, &env), ERR_NONE);
    cr_assert_eq(rename(dir, moved), 0);
    umask(0);
    struct env_file *file = NULL;
    cr_assert_eq(env->ops->file_open(env, "file", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file),
                 ERR_NONE);
    env->ops->file_close(file);
    cr_assert_eq(env->ops->dir_create(env, "sub"), ERR_NONE);
    int dir_fd = open(moved, O_RDONLY | O_DIRECTORY);
    struct stat stat;
    cr_assert_eq(fstatat(dir_fd, "file", &stat, 0), 0);
    cr_assert_eq(stat.st_mode & 07777, 0600);
    cr_assert_eq(fstatat(dir_fd, "sub", &stat, 0), 0);
    cr_assert_eq(stat.st_mode & 07777, 0700);
    close(dir_fd);
    cr_assert_eq(env->ops->remove(env, "sub"), ERR_NONE);
    cr_assert_eq(env->ops->remove(env, "file"), ERR_NONE);
    env_posix_destroy(env);
    rmdir(moved);
}

Test(env_posix, failed_sync_stays_failed)
{
    /* A loop device or a full disk is not at hand in a unit test; the kernel's /dev/full cannot be
     * synced. What can be had everywhere is an invalid descriptor: the sync must say so, again and
     * again. */
    char dir[1024];
    dir_make(dir, sizeof(dir));
    struct env *env = NULL;
    struct env_posix_config config = {.dir = dir, .io_threads = 1};
    cr_assert_eq(env_posix_create(&config, &env), ERR_NONE);
    int next_fd = dup(0);
    close(next_fd);
    struct env_file *file = NULL;
    cr_assert_eq(env->ops->file_open(env, "file", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file),
                 ERR_NONE);
    int kept = dup(next_fd);
    close(next_fd);
    cr_assert_eq(env->ops->file_sync(file), ERR_IO);
    dup2(kept, next_fd);
    cr_assert_eq(env->ops->file_sync(file), ERR_IO,
                 "the descriptor is good again, the data may not be");
    close(kept);
    env->ops->file_close(file);
    cr_assert_eq(env->ops->remove(env, "file"), ERR_NONE);
    env_posix_destroy(env);
    rmdir(dir);
}
