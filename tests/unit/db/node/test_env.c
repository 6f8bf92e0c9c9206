/* What both environments promise: each case runs on a real directory and on the simulated disk. */
#include "db/node/env.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/node/sim.h"

struct fixture {
    struct env *env;
    struct sim *sim; /* NULL: a real directory */
    char dir[1024];
};

static int file_delete(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)stat, (void)type, (void)walk;
    return remove(path);
}

static void fixture_init(struct fixture *fixture, bool simulated)
{
    memset(fixture, 0, sizeof(*fixture));
    if (simulated) {
        struct sim_config config = {.seed = 7};
        cr_assert_eq(sim_create(&config, &fixture->sim), ERR_NONE);
        fixture->env = sim_env(fixture->sim);
        return;
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(fixture->dir, sizeof(fixture->dir), "%s/env.XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(fixture->dir));
    struct env_posix_config config = {.dir = fixture->dir, .io_threads = 2};
    cr_assert_eq(env_posix_create(&config, &fixture->env), ERR_NONE);
}

static void fixture_fini(struct fixture *fixture)
{
    if (fixture->sim) {
        sim_destroy(fixture->sim);
    } else {
        env_posix_destroy(fixture->env);
        nftw(fixture->dir, file_delete, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* Defines the test `name` for both environments. */
#define TEST_BOTH(name)                                                                            \
    static void name(struct env *env);                                                             \
    Test(env, name##_in_a_real_directory)                                                          \
    {                                                                                              \
        struct fixture fixture;                                                                    \
        fixture_init(&fixture, false);                                                             \
        name(fixture.env);                                                                         \
        fixture_fini(&fixture);                                                                    \
    }                                                                                              \
    Test(env, name##_on_the_simulated_disk)                                                        \
    {                                                                                              \
        struct fixture fixture;                                                                    \
        fixture_init(&fixture, true);                                                              \
        name(fixture.env);                                                                         \
        fixture_fini(&fixture);                                                                    \
    }                                                                                              \
    static void name(struct env *env)

static const unsigned create_flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE;

static struct env_file *open_ok(struct env *env, const char *path, unsigned flags)
{
    struct env_file *file = NULL;
    cr_assert_eq(env->ops->file_open(env, path, flags, &file), ERR_NONE, "open %s", path);
    cr_assert_not_null(file);
    return file;
}

static enum err open_err(struct env *env, const char *path, unsigned flags)
{
    struct env_file *file = NULL;
    enum err err = env->ops->file_open(env, path, flags, &file);
    cr_assert_null(file, "outputs are untouched on failure");
    return err;
}

static void file_make(struct env *env, const char *path, const char *text)
{
    struct env_file *file = open_ok(env, path, create_flags | ENV_OPEN_TRUNCATE);
    cr_assert_eq(env->ops->file_write(file, text, strlen(text), 0), ERR_NONE);
    cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
    env->ops->file_close(file);
}

static bool file_is(struct env *env, const char *path, const char *text)
{
    char bytes[256];
    size_t size = 0;
    struct env_file *file = open_ok(env, path, ENV_OPEN_READ);
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 0, &size), ERR_NONE);
    env->ops->file_close(file);
    return size == strlen(text) && !memcmp(bytes, text, size);
}

TEST_BOTH(reads_give_back_what_writes_put)
{
    struct env_file *file = open_ok(env, "file", create_flags);
    cr_assert_eq(env->ops->file_write(file, "hello world", 11, 0), ERR_NONE);
    cr_assert_eq(env->ops->file_write(file, "W", 1, 6), ERR_NONE);
    char bytes[100];
    size_t size = 0;
    cr_assert_eq(env->ops->file_read(file, bytes, 5, 6, &size), ERR_NONE);
    cr_assert_eq(size, 5);
    cr_assert_eq(memcmp(bytes, "World", 5), 0);
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 6, &size), ERR_NONE);
    cr_assert_eq(size, 5, "fewer bytes only at the end of the file");
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 1000, &size), ERR_NONE);
    cr_assert_eq(size, 0);
    env->ops->file_close(file);
    env->ops->file_close(NULL);
}

TEST_BOTH(writes_beyond_the_end_leave_zeros)
{
    struct env_file *file = open_ok(env, "file", create_flags);
    cr_assert_eq(env->ops->file_write(file, "x", 1, 5000), ERR_NONE);
    uint64_t size = 0;
    cr_assert_eq(env->ops->file_size(file, &size), ERR_NONE);
    cr_assert_eq(size, 5001);
    static uint8_t bytes[6000];
    memset(bytes, 0xff, sizeof(bytes));
    size_t got = 0;
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 0, &got), ERR_NONE);
    cr_assert_eq(got, 5001);
    for (size_t i = 0; i < 5000; i++)
        cr_assert_eq(bytes[i], 0);
    env->ops->file_close(file);
}

TEST_BOTH(truncate_shortens_and_extends_with_zeros)
{
    struct env_file *file = open_ok(env, "file", create_flags);
    cr_assert_eq(env->ops->file_write(file, "abcdef", 6, 0), ERR_NONE);
    cr_assert_eq(env->ops->file_truncate(file, 2), ERR_NONE);
    cr_assert_eq(env->ops->file_truncate(file, 4), ERR_NONE);
    char bytes[10];
    size_t size = 0;
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 0, &size), ERR_NONE);
    cr_assert_eq(size, 4);
    cr_assert_eq(memcmp(bytes, "ab\0\0", 4), 0);
    env->ops->file_close(file);
}

TEST_BOTH(open_flags_decide)
{
    cr_assert_eq(open_err(env, "file", ENV_OPEN_READ), ERR_NOT_FOUND);
    cr_assert_eq(open_err(env, "file", ENV_OPEN_WRITE), ERR_NOT_FOUND);
    cr_assert_eq(open_err(env, "no/file", create_flags), ERR_NOT_FOUND);
    file_make(env, "file", "text");
    cr_assert_eq(open_err(env, "file", create_flags | ENV_OPEN_EXCLUSIVE), ERR_EXISTS);
    env->ops->file_close(open_ok(env, "file", create_flags));
    cr_assert(file_is(env, "file", "text"));
    env->ops->file_close(open_ok(env, "file", ENV_OPEN_WRITE | ENV_OPEN_TRUNCATE));
    cr_assert(file_is(env, "file", ""));
    cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_NONE);
    cr_assert_eq(open_err(env, "dir", ENV_OPEN_READ), ERR_IO, "a directory is not a file");
    cr_assert_eq(open_err(env, "file/below", ENV_OPEN_READ), ERR_IO);
}

TEST_BOTH(rename_replaces_and_open_files_stay_readable)
{
    file_make(env, "old", "old");
    file_make(env, "new", "new");
    struct env_file *file = open_ok(env, "old", ENV_OPEN_READ);
    cr_assert_eq(env->ops->rename(env, "new", "old"), ERR_NONE);
    cr_assert_eq(open_err(env, "new", ENV_OPEN_READ), ERR_NOT_FOUND);
    cr_assert(file_is(env, "old", "new"));
    char bytes[10];
    size_t size = 0;
    cr_assert_eq(env->ops->file_read(file, bytes, sizeof(bytes), 0, &size), ERR_NONE);
    cr_assert(size == 3 && !memcmp(bytes, "old", 3), "the replaced file lives while it is open");
    env->ops->file_close(file);
    cr_assert_eq(env->ops->rename(env, "missing", "old"), ERR_NOT_FOUND);
    cr_assert_eq(env->ops->rename(env, "old", "old"), ERR_NONE);
    cr_assert(file_is(env, "old", "new"));
}

TEST_BOTH(rename_moves_between_directories)
{
    cr_assert_eq(env->ops->dir_create(env, "a"), ERR_NONE);
    cr_assert_eq(env->ops->dir_create(env, "b"), ERR_NONE);
    file_make(env, "a/file", "x");
    cr_assert_eq(env->ops->rename(env, "a/file", "b/file"), ERR_NONE);
    cr_assert(file_is(env, "b/file", "x"));
    cr_assert_eq(env->ops->rename(env, "b", "a/b"), ERR_NONE);
    cr_assert(file_is(env, "a/b/file", "x"));
    cr_assert_eq(env->ops->rename(env, "a", "a/b/a"), ERR_IO, "not below itself");
    file_make(env, "plain", "y");
    cr_assert_eq(env->ops->rename(env, "plain", "a"), ERR_IO,
                 "a file does not replace a directory");
    cr_assert_eq(env->ops->rename(env, "a", "plain"), ERR_IO);
}

TEST_BOTH(remove_takes_files_and_empty_directories)
{
    cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_NONE);
    cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_EXISTS);
    cr_assert_eq(env->ops->dir_create(env, "no/dir"), ERR_NOT_FOUND);
    file_make(env, "dir/file", "x");
    cr_assert_eq(env->ops->remove(env, "dir"), ERR_IO, "not empty");
    cr_assert_eq(env->ops->remove(env, "dir/file"), ERR_NONE);
    cr_assert_eq(env->ops->remove(env, "dir/file"), ERR_NOT_FOUND);
    cr_assert_eq(env->ops->remove(env, "dir"), ERR_NONE);
    cr_assert_eq(open_err(env, "dir/file", ENV_OPEN_READ), ERR_NOT_FOUND);
}

struct names {
    unsigned seen; /* bit i: the name "f<i>" */
    unsigned count;
    unsigned stop_at;
};

static enum err name_note(void *context, const char *name)
{
    struct names *names = context;
    if (name[0] == 'f') names->seen |= 1u << (name[1] - '0');
    return ++names->count == names->stop_at ? ERR_CANCELLED : ERR_NONE;
}

TEST_BOTH(dir_list_gives_each_name_and_stops_at_an_error)
{
    cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_NONE);
    char path[] = "dir/f0";
    for (; path[5] < '8'; path[5]++)
        file_make(env, path, "");
    struct names names = {0};
    cr_assert_eq(env->ops->dir_list(env, "dir", name_note, &names), ERR_NONE);
    cr_assert_eq(names.count, 8);
    cr_assert_eq(names.seen, 0xff);
    names = (struct names){.stop_at = 3};
    cr_assert_eq(env->ops->dir_list(env, "dir", name_note, &names), ERR_CANCELLED);
    cr_assert_eq(names.count, 3);
    names = (struct names){0};
    cr_assert_eq(env->ops->dir_list(env, ".", name_note, &names), ERR_NONE);
    cr_assert_eq(names.count, 1, "the store directory is \".\"");
    cr_assert_eq(env->ops->dir_list(env, "none", name_note, &names), ERR_NOT_FOUND);
    cr_assert_eq(env->ops->dir_list(env, "dir/f0", name_note, &names), ERR_IO);
}

TEST_BOTH(syncs_of_directories_succeed)
{
    cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_NONE);
    cr_assert_eq(env->ops->dir_sync(env, "dir"), ERR_NONE);
    cr_assert_eq(env->ops->dir_sync(env, ""), ERR_NONE);
    cr_assert_eq(env->ops->dir_sync(env, "."), ERR_NONE);
    cr_assert_eq(env->ops->dir_sync(env, "none"), ERR_NOT_FOUND);
}

TEST_BOTH(clocks_advance_and_randomness_varies)
{
    uint64_t first = env->ops->monotonic_ns(env);
    cr_assert_geq(env->ops->monotonic_ns(env), first);
    /* After 2023 and before 2262, when the signed count of nanoseconds ends. */
    cr_assert_gt(env->ops->realtime_ns(env), 1700000000u * (uint64_t)1000000000u);
    uint8_t one[33] = {0}, two[33] = {0};
    env->ops->random(env, one, 32);
    env->ops->random(env, two, 32);
    cr_assert_neq(memcmp(one, two, 32), 0);
    cr_assert_eq(one[32], 0, "no byte beyond the size is written");
    uint64_t space = 0;
    cr_assert_eq(env->ops->space_free(env, &space), ERR_NONE);
    cr_assert_gt(space, 0);
}

TEST_BOTH(offsets_out_of_range_are_refused)
{
    struct env_file *file = open_ok(env, "file", create_flags);
    size_t size = 77;
    char byte = 'x';
    cr_assert_eq(env->ops->file_read(file, &byte, 1, UINT64_MAX, &size), ERR_INVALID);
    cr_assert_eq(size, 77);
    cr_assert_eq(env->ops->file_write(file, &byte, 1, UINT64_MAX), ERR_INVALID);
    cr_assert_eq(env->ops->file_truncate(file, UINT64_MAX), ERR_INVALID);
    env->ops->file_close(file);
}

Test(env, create_in_a_real_directory_needs_the_directory)
{
    struct env *env = NULL;
    struct env_posix_config config = {.dir = "/nonexistent/store", .io_threads = 1};
    cr_assert_eq(env_posix_create(&config, &env), ERR_NOT_FOUND);
    config = (struct env_posix_config){.dir = "/tmp", .io_threads = 0};
    cr_assert_eq(env_posix_create(&config, &env), ERR_INVALID);
    cr_assert_null(env);
    env_posix_destroy(NULL);
}
