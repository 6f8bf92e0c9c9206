/* A store in a temporary directory with a file system on it, for the tests of metadata/. */
#ifndef TESTS_UNIT_METADATA_FIXTURE_H
#define TESTS_UNIT_METADATA_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/client.h"
#include "metadata/orphan.h"

struct store {
    char dir[64];
    char db_dir[96];
    char data_dir[96];
    uint16_t workers;
    bool relatime;
    uint64_t memory_max; /* of the database; 0: none */
    struct db *db;
    struct fs *fs;
    struct db_client *db_client;
    struct fs_client *c; /* of the test's thread */
};

static const struct fs_caller root = {.uid = 0, .gid = 0};
static const struct fs_caller user = {.uid = 1000, .gid = 100};

#define OK(call)                                                                                   \
    do {                                                                                           \
        enum err err_ = (call);                                                                    \
        cr_assert_eq(err_, ERR_NONE, "%s: %s", #call, err_name(err_));                             \
    } while (0)
#define FAILS(call, wanted)                                                                        \
    do {                                                                                           \
        enum err err_ = (call);                                                                    \
        cr_assert_eq(err_, wanted, "%s: %s, not %s", #call, err_name(err_), #wanted);              \
    } while (0)

static inline void store_open(struct store *store)
{
    struct diag diag = {0};
    struct db_config config = {.dir = store->db_dir,
                               .create = true,
                               .worker_count = store->workers,
                               .memory_max = store->memory_max};
    enum err err = db_open_embedded(&config, &store->db, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    struct fs_config fs_config = {
        .db = store->db, .data_dir = store->data_dir, .io_threads = 2, .relatime = store->relatime};
    err = fs_open(&fs_config, &store->fs, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    OK(db_client_create(store->db, &store->db_client));
    OK(fs_client_create(store->fs, store->db_client, &store->c));
}

static inline void store_new_limited(struct store *store, uint16_t workers, uint64_t memory_max)
{
    *store = (struct store){.workers = workers, .relatime = true, .memory_max = memory_max};
    strcpy(store->dir, "/tmp/trellis-fs-XXXXXX");
    cr_assert(mkdtemp(store->dir));
    snprintf(store->db_dir, sizeof(store->db_dir), "%s/db", store->dir);
    snprintf(store->data_dir, sizeof(store->data_dir), "%s/data", store->dir);
    store_open(store);
}

static inline void store_close(struct store *store)
{
    struct diag diag = {0};
    fs_client_destroy(store->c);
    db_client_destroy(store->db_client);
    enum err err = fs_close(store->fs, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    err = db_close(store->db, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
}

static inline void store_new(struct store *store, uint16_t workers)
{
    store_new_limited(store, workers, 0);
}

static inline void store_remove(struct store *store)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", store->dir);
    cr_assert_eq(system(command), 0);
}

static inline void store_end(struct store *store)
{
    store_close(store);
    store_remove(store);
}

static inline uint64_t make_file(struct store *s, uint64_t parent, const char *name)
{
    struct fs_attr attr;
    OK(fs_mknod(s->c, &root, parent, name, S_IFREG | 0644, 0, &attr));
    return attr.ino;
}

static inline uint64_t make_dir(struct store *s, uint64_t parent, const char *name)
{
    struct fs_attr attr;
    OK(fs_mkdir(s->c, &root, parent, name, 0755, &attr));
    return attr.ino;
}

static inline struct fs_attr attr_of(struct store *s, uint64_t ino)
{
    struct fs_attr attr;
    OK(fs_getattr(s->c, ino, &attr));
    return attr;
}

static inline uint64_t find(struct store *s, uint64_t parent, const char *name)
{
    struct fs_attr attr;
    enum err err = fs_lookup(s->c, parent, name, &attr);
    if (err == ERR_ENOENT) return 0;
    OK(err);
    fs_forget(s->c, attr.ino, 1);
    return attr.ino;
}

/* A test between setup() and teardown(), whose assertions count like its own. */
#define CASE(suite, name)                                                                          \
    static void suite##_##name(void);                                                              \
    Test(suite, name, .timeout = 300)                                                              \
    {                                                                                              \
        setup();                                                                                   \
        suite##_##name();                                                                          \
        teardown();                                                                                \
    }                                                                                              \
    static void suite##_##name(void)

/* ---- data, waited for ---- */

#include <semaphore.h>

struct waited_io {
    struct fs_io io;
    sem_t done;
};

static inline void waited_done(struct fs_io *io)
{
    sem_post(&((struct waited_io *)(void *)io)->done);
}

static inline enum err io_wait(struct store *s, struct waited_io *w,
                               void (*start)(struct fs_client *, struct fs_io *),
                               uint64_t *ret_result)
{
    sem_init(&w->done, 0, 0);
    w->io.done = waited_done;
    start(s->c, &w->io);
    sem_wait(&w->done);
    sem_destroy(&w->done);
    if (ret_result) *ret_result = w->io.result;
    return w->io.err;
}

static inline void write_at(struct store *s, struct fs_file *file, uint64_t offset,
                            const void *bytes, uint64_t size)
{
    struct waited_io w = {
        .io = {.file = file, .offset = offset, .size = size, .bytes = (void *)(uintptr_t)bytes}};
    uint64_t done;
    OK(io_wait(s, &w, fs_write, &done));
    cr_assert_eq(done, size);
}

static inline uint64_t read_at(struct store *s, struct fs_file *file, uint64_t offset, void *bytes,
                               uint64_t size)
{
    struct waited_io w = {.io = {.file = file, .offset = offset, .size = size, .bytes = bytes}};
    uint64_t done;
    OK(io_wait(s, &w, fs_read, &done));
    return done;
}

#endif
