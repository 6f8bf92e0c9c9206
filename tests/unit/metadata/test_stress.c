/* Several threads at once on the same names; afterwards every invariant holds. And lives that end
 * without warning. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "tests/unit/metadata/checker.h"
#include "tests/unit/sanitized.h"

enum { THREADS = 4, DIRS = 6, NAMES = 8 };

static struct store s;
static uint64_t dirs[DIRS];

struct worker {
    pthread_t thread;
    void (*run)(struct worker *worker);
    uint64_t random;
    int rounds;
    struct db_client *db;
    struct fs_client *c;
    uint64_t done; /* operations that succeeded */
};

static unsigned below(struct worker *worker, unsigned limit)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(worker->random >> 33) % limit;
}

static void *worker_thread(void *argument)
{
    struct worker *worker = argument;
    OK(db_client_create(s.db, &worker->db));
    OK(fs_client_create(s.fs, worker->db, &worker->c));
    worker->run(worker);
    fs_client_destroy(worker->c);
    db_client_destroy(worker->db);
    return NULL;
}

static void run_threads(void (*run)(struct worker *worker), int rounds, uint64_t seed)
{
    struct worker workers[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].run = run;
        workers[i].rounds = rounds;
        workers[i].random = seed * 1000 + i;
        cr_assert_eq(pthread_create(&workers[i].thread, NULL, worker_thread, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        cr_assert_gt(workers[i].done, 0, "thread %u did nothing", i);
    }
}

/* What a race may end in. */
static bool tolerable(enum err err)
{
    switch ((int)err) {
    case ERR_NONE:
    case ERR_ENOENT:
    case ERR_EEXIST:
    case ERR_ENOTEMPTY:
    case ERR_EISDIR:
    case ERR_ENOTDIR:
    case ERR_EINVAL:
    case ERR_ESTALE:
    case ERR_EPERM:
        return true;
    default:
        return false;
    }
}

static void count(struct worker *worker, enum err err, const char *what)
{
    cr_assert(tolerable(err), "%s: %s", what, err_name(err));
    if (!err) worker->done++;
}

static void random_name(struct worker *worker, char name[8])
{
    snprintf(name, 8, "n%u", below(worker, NAMES));
}

static void mixed(struct worker *worker)
{
    struct fs_attr attr;
    for (int i = 0; i < worker->rounds; i++) {
        uint64_t p = dirs[below(worker, DIRS)];
        uint64_t q = dirs[below(worker, DIRS)];
        char name[8];
        char other[8];
        random_name(worker, name);
        random_name(worker, other);
        struct fs_caller caller = {.uid = 0, .gid = below(worker, 3)};
        enum err err;
        switch (below(worker, 10)) {
        case 0:
        case 1:
            err = fs_mknod(worker->c, &caller, p, name, S_IFREG | 0644, 0, &attr);
            count(worker, err, "mknod");
            if (!err) fs_forget(worker->c, attr.ino, 1);
            break;
        case 2:
            err = fs_mkdir(worker->c, &caller, p, name, 0755, &attr);
            count(worker, err, "mkdir");
            if (!err) fs_forget(worker->c, attr.ino, 1);
            break;
        case 3:
            count(worker, fs_unlink(worker->c, &caller, p, name), "unlink");
            break;
        case 4:
            count(worker, fs_rmdir(worker->c, &caller, p, name), "rmdir");
            break;
        case 5:
            err = fs_lookup(worker->c, p, name, &attr);
            count(worker, err, "lookup");
            if (err) break;
            if (!S_ISDIR(attr.mode)) {
                struct fs_attr linked;
                err = fs_link(worker->c, attr.ino, q, other, &linked);
                count(worker, err, "link");
                if (!err) fs_forget(worker->c, linked.ino, 1);
            }
            fs_forget(worker->c, attr.ino, 1);
            break;
        case 6:
            err = fs_lookup(worker->c, p, name, &attr);
            count(worker, err, "lookup");
            if (err) break;
            struct fs_attr set = {.uid = below(worker, 3), .size = below(worker, 1000)};
            struct fs_attr result;
            unsigned what = S_ISDIR(attr.mode) ? FS_SET_UID : FS_SET_UID | FS_SET_SIZE;
            err = fs_setattr(worker->c, &caller, attr.ino, what, &set, &result);
            count(worker, err, "setattr");
            fs_forget(worker->c, attr.ino, 1);
            break;
        default: {
            static const unsigned flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
            err = fs_rename(worker->c, &caller, p, name, q, other, flags[below(worker, 4)]);
            count(worker, err, "rename");
        }
        }
    }
}

static void open_store(uint16_t workers)
{
    store_new(&s, workers);
    for (unsigned i = 0; i < DIRS; i++) {
        char name[8];
        snprintf(name, sizeof(name), "d%u", i);
        dirs[i] = make_dir(&s, FS_ROOT_INO, name);
    }
}

static void close_store(void)
{
    background_drain(s.fs);
    check_tree(&s, false);
    store_close(&s);
    store_open(&s);
    background_drain(s.fs);
    check_tree(&s, true);
    store_end(&s);
}

static void mixed_with(uint16_t workers)
{
    open_store(workers);
    run_threads(mixed, SANITIZED ? 600 : 1500, workers);
    close_store();
}

Test(stress, mixed_operations_with_one_worker, .timeout = 600)
{
    mixed_with(1);
}

Test(stress, mixed_operations_with_two_workers, .timeout = 600)
{
    mixed_with(2);
}

Test(stress, mixed_operations_with_four_workers, .timeout = 600)
{
    mixed_with(4);
}

/* The same on the engine's own threads, as a mount runs them: each waits for the others, and serves
 * them while it waits. */
struct posted {
    struct worker worker;
    uint16_t index;
    sem_t done;
};

static void run_posted(void *context)
{
    struct posted *posted = context;
    OK(db_client_on_worker(s.db, posted->index, &posted->worker.db));
    OK(fs_client_create(s.fs, posted->worker.db, &posted->worker.c));
    mixed(&posted->worker);
    fs_client_destroy(posted->worker.c);
    db_client_destroy(posted->worker.db);
    sem_post(&posted->done);
}

static void mixed_on_workers(uint16_t workers)
{
    struct posted posted[4];
    open_store(workers);
    memset(posted, 0, sizeof(posted));
    for (uint16_t i = 0; i < workers; i++) {
        posted[i].worker.random = 31u * i + 7;
        posted[i].worker.rounds = SANITIZED ? 600 : 2000;
        posted[i].index = i;
        sem_init(&posted[i].done, 0, 0);
        OK(db_post(s.db, i, run_posted, &posted[i]));
    }
    for (uint16_t i = 0; i < workers; i++) {
        sem_wait(&posted[i].done);
        sem_destroy(&posted[i].done);
        cr_assert_gt(posted[i].worker.done, 0);
    }
    close_store();
}

Test(stress, mixed_operations_on_one_worker_itself, .timeout = 600)
{
    mixed_on_workers(1);
}

Test(stress, mixed_operations_on_two_workers_themselves, .timeout = 600)
{
    mixed_on_workers(2);
}

Test(stress, mixed_operations_on_four_workers_themselves, .timeout = 600)
{
    mixed_on_workers(4);
}

/* Directories are moved into each other from all sides: without care that makes cycles at once. */
static uint64_t movable[DIRS];

static void move(struct worker *worker)
{
    struct fs_attr attr;
    for (int i = 0; i < worker->rounds; i++) {
        unsigned x = below(worker, DIRS);
        unsigned y = below(worker, DIRS);
        char name[8];
        snprintf(name, sizeof(name), "d%u", x);
        enum err err = fs_getattr(worker->c, movable[x], &attr);
        count(worker, err, "getattr");
        if (err) continue;
        uint64_t to = below(worker, 6) == 0 ? FS_ROOT_INO : movable[y];
        unsigned flags = below(worker, 4) == 0 ? RENAME_EXCHANGE : 0;
        char other[8];
        snprintf(other, sizeof(other), "d%u", flags ? y : x);
        struct fs_attr target;
        if (flags) {
            err = fs_getattr(worker->c, movable[y], &target);
            count(worker, err, "getattr");
            to = target.parent;
        }
        err = fs_rename(worker->c, &root, attr.parent, name, to, flags ? other : name, flags);
        count(worker, err, "move");
        if (!err && flags) {
            /* The names were exchanged with the directories: give them back, whoever comes first.
             */
            (void)fs_rename(worker->c, &root, attr.parent, name, to, other, RENAME_EXCHANGE);
        }
    }
}

static void moves_with(uint16_t workers)
{
    open_store(workers);
    memcpy(movable, dirs, sizeof(movable));
    run_threads(move, 400, 77 + workers);
    close_store();
}

Test(stress, crossing_moves_make_no_cycle_with_one_worker, .timeout = 600)
{
    moves_with(1);
}

Test(stress, crossing_moves_make_no_cycle_with_four_workers, .timeout = 600)
{
    moves_with(4);
}

/* Files are written, truncated, removed and looked at while others do the same. */
static void data(struct worker *worker)
{
    struct store mine = s;
    mine.c = worker->c;
    for (int i = 0; i < worker->rounds; i++) {
        char name[8];
        random_name(worker, name);
        struct fs_attr attr;
        struct fs_file *file;
        int flags =
            O_RDWR | (below(worker, 3) == 0 ? O_TRUNC : 0) | (below(worker, 3) == 0 ? O_APPEND : 0);
        enum err err = fs_create_file(worker->c, &root, dirs[0], name, 0600, flags, &attr, &file);
        count(worker, err, "create");
        if (err) continue;
        char bytes[300];
        memset(bytes, (int)worker->random, sizeof(bytes));
        write_at(&mine, file, below(worker, 5000), bytes, 1 + below(worker, 299));
        (void)read_at(&mine, file, below(worker, 5000), bytes, 300);
        if (below(worker, 3) == 0) {
            struct fs_attr size = {.size = below(worker, 6000)};
            struct fs_attr result;
            count(worker, fs_setattr(worker->c, &root, attr.ino, FS_SET_SIZE, &size, &result),
                  "truncate");
        }
        if (below(worker, 3) == 0)
            count(worker, fs_unlink(worker->c, &root, dirs[0], name), "unlink");
        if (below(worker, 2)) OK(fs_flush_file(worker->c, file));
        OK(fs_release_file(worker->c, file));
        fs_forget(worker->c, attr.ino, 1);
    }
}

Test(stress, data_of_shared_files_with_two_workers, .timeout = 600)
{
    open_store(2);
    run_threads(data, SANITIZED ? 150 : 400, 5);
    background_drain(s.fs);
    check_tree(&s, false);
    unsigned objects = count_objects(&s);
    cr_assert_leq(objects, NAMES, "%u objects of %u names", objects, NAMES);
    close_store();
}

/* ---- crashes ---- */

/* A process works on a store and is killed; what it has synced it tells through the pipe before. */
struct synced {
    int number;
    uint64_t ino;
    uint64_t size;
};

static void crashing_life(int pipe, uint64_t seed)
{
    struct worker worker = {.random = seed};
    for (int i = 0;; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%lu-%d", seed, i);
        struct fs_attr attr;
        struct fs_file *file;
        if (fs_create_file(s.c, &root, dirs[i % DIRS], name, 0600, O_RDWR, &attr, &file)) _exit(9);
        static char bytes[5000];
        memset(bytes, i % 251 + 1, sizeof(bytes));
        uint64_t size = 1 + below(&worker, 4999);
        write_at(&s, file, 0, bytes, size);
        if (i % 4 == 0) {
            struct waited_io w = {.io = {.file = file}};
            if (io_wait(&s, &w, fs_fsync, NULL)) _exit(9);
            struct synced synced = {.number = i, .ino = attr.ino, .size = size};
            if (write(pipe, &synced, sizeof(synced)) != sizeof(synced)) _exit(9);
        }
        if (fs_release_file(s.c, file)) _exit(9);
        fs_forget(s.c, attr.ino, 1);
        /* Some go again, some move, some are cut. */
        if (i % 4 == 1 && fs_unlink(s.c, &root, dirs[i % DIRS], name)) _exit(9);
        if (i % 4 == 2 &&
            fs_rename(s.c, &root, dirs[i % DIRS], name, dirs[(i + 1) % DIRS], name, 0))
            _exit(9);
        if (i % 4 == 3) {
            struct fs_attr cut = {.size = below(&worker, 100)};
            if (fs_setattr(s.c, &root, attr.ino, FS_SET_SIZE, &cut, &attr)) _exit(9);
        }
    }
}

static void check_synced(const struct synced *synced, uint64_t seed)
{
    char name[16];
    snprintf(name, sizeof(name), "f%lu-%d", seed, synced->number);
    cr_assert_eq(find(&s, dirs[synced->number % DIRS], name), synced->ino, "%s is lost", name);
    cr_assert_eq(attr_of(&s, synced->ino).size, synced->size);
    struct fs_file *file;
    OK(fs_open_file(s.c, synced->ino, O_RDONLY, &file));
    static char bytes[5000];
    cr_assert_eq(read_at(&s, file, 0, bytes, sizeof(bytes)), synced->size);
    for (uint64_t i = 0; i < synced->size; i++)
        cr_assert_eq(bytes[i], (char)(synced->number % 251 + 1), "%s: byte %lu", name, i);
    OK(fs_release_file(s.c, file));
}

Test(stress, a_killed_process_loses_nothing_synced_and_leaves_nothing_behind, .timeout = 600)
{
#ifdef __SANITIZE_THREAD__
    cr_skip_test("ThreadSanitizer does not follow threads started after a fork");
#endif
    open_store(2);
    store_close(&s);
    for (uint64_t round = 1; round <= 6; round++) {
        int pipes[2];
        cr_assert_eq(pipe(pipes), 0);
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            store_open(&s);
            crashing_life(pipes[1], round);
        }
        close(pipes[1]);
        struct synced synced;
        cr_assert_eq(read(pipes[0], &synced, sizeof(synced)), sizeof(synced));
        usleep((useconds_t)round * 130000);
        kill(pid, SIGKILL);
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFSIGNALED(status), "the process ended by itself: %d", status);
        store_open(&s);
        do
            check_synced(&synced, round);
        while (read(pipes[0], &synced, sizeof(synced)) == sizeof(synced));
        close(pipes[0]);
        background_drain(s.fs);
        check_tree(&s, true);
        /* Every object has its inode. */
        struct dump inodes = dump_table(&s, TABLE_INODE);
        unsigned files = 0;
        for (size_t i = 0; i < inodes.count; i++)
            files += dump_row(&inodes, i)[INODE_TYPE].u == FS_FILE;
        cr_assert_leq(count_objects(&s), files, "objects without inodes");
        dump_free(&inodes);
        store_close(&s);
    }
    store_remove(&s);
}
