/* Who serves the file system: one server at a time, and what becomes of one that was replaced. Two
 * servers on one database in one process stand for two processes that reach it over links. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "metadata/lease.h"
#include "metadata/open.h"
#include "tests/unit/metadata/fixture.h"

static struct store s;
static struct fs *first;
static struct fs_client *first_client;
static atomic_int lost_count;
static char lost_why[200];

static void on_lost(void *context, const char *why)
{
    (void)context;
    snprintf(lost_why, sizeof(lost_why), "%s", why);
    atomic_fetch_add(&lost_count, 1);
}

static enum err open_shared(struct fs **ret_fs, struct diag *diag)
{
    const struct fs_config config = {.db = s.db,
                                     .data_dir = s.data_dir,
                                     .io_threads = 1,
                                     .relatime = true,
                                     .shared = true,
                                     .timeout_ms = 2000,
                                     .lost = on_lost};
    return fs_open(&config, ret_fs, diag);
}

/* A store whose database is open, with one shared server on it. */
static void setup(void)
{
    struct diag diag = {0};
    store_new(&s, 2);
    fs_client_destroy(s.c);
    OK(fs_close(s.fs, &diag));
    lost_count = 0;
    enum err err = open_shared(&first, &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    OK(fs_client_create(first, s.db_client, &first_client));
}

static void teardown(void)
{
    struct diag diag = {0};
    fs_client_destroy(first_client);
    (void)!fs_close(first, &diag);
    db_client_destroy(s.db_client);
    OK(db_close(s.db, &diag));
    store_remove(&s);
}

static enum err create(struct fs_client *client, const char *name)
{
    struct fs_attr attr;
    return fs_mknod(client, &root, FS_ROOT_INO, name, S_IFREG | 0644, 0, &attr);
}

CASE(lease, a_second_server_is_refused_while_the_first_renews)
{
    struct diag diag = {0};
    struct fs *second = NULL;
    FAILS(open_shared(&second, &diag), ERR_IN_USE);
    cr_assert(strstr(diag.text, "already"), "%s", diag.text);
    OK(create(first_client, "still"));
    cr_assert_eq(lost_count, 0);
}

CASE(lease, a_server_that_ended_cleanly_is_followed_at_once)
{
    struct diag diag = {0};
    OK(create(first_client, "kept"));
    fs_client_destroy(first_client);
    OK(fs_close(first, &diag));
    uint64_t before = fs_monotonic_ns();
    OK(open_shared(&first, &diag));
    cr_assert_lt(fs_monotonic_ns() - before, UINT64_C(2000000000));
    OK(fs_client_create(first, s.db_client, &first_client));
    struct fs_attr attr;
    OK(fs_lookup(first_client, FS_ROOT_INO, "kept", &attr));
    fs_forget(first_client, attr.ino, 1);
}

CASE(lease, a_replaced_server_changes_nothing_and_says_so_once)
{
    struct diag diag = {0};
    struct fs_attr dir;
    struct fs_attr link;
    OK(fs_mkdir(first_client, &root, FS_ROOT_INO, "dir", 0755, &dir));
    OK(create(first_client, "file"));
    /* The database's own process takes over without asking. */
    const struct fs_config config = {.db = s.db, .data_dir = s.data_dir, .io_threads = 1};
    struct fs *second;
    OK(fs_open(&config, &second, &diag));
    struct db_client *db_client;
    struct fs_client *client;
    OK(db_client_create(s.db, &db_client));
    OK(fs_client_create(second, db_client, &client));

    /* Every kind of change: prepared programs, others, those over several partitions. */
    cr_assert_neq(create(first_client, "late"), ERR_NONE);
    cr_assert_neq(fs_mkdir(first_client, &root, FS_ROOT_INO, "late", 0755, &dir), ERR_NONE);
    cr_assert_neq(fs_symlink(first_client, &root, FS_ROOT_INO, "late", "x", &link), ERR_NONE);
    cr_assert_neq(fs_unlink(first_client, &root, FS_ROOT_INO, "file"), ERR_NONE);
    cr_assert_neq(fs_rename(first_client, &root, FS_ROOT_INO, "file", FS_ROOT_INO, "late", 0),
                  ERR_NONE);
    cr_assert_neq(fs_rmdir(first_client, &root, FS_ROOT_INO, "dir"), ERR_NONE);
    cr_assert_eq(lost_count, 1);
    cr_assert(strstr(lost_why, "taken over"), "%s", lost_why);
    struct fs_attr attr;
    FAILS(fs_getattr(first_client, FS_ROOT_INO, &attr), ERR_EIO);
    FAILS(fs_sync(first_client), ERR_EIO);

    FAILS(fs_lookup(client, FS_ROOT_INO, "late", &attr), ERR_ENOENT);
    OK(fs_lookup(client, FS_ROOT_INO, "file", &attr));
    fs_forget(client, attr.ino, 1);
    OK(create(client, "new"));
    fs_client_destroy(client);
    db_client_destroy(db_client);
    OK(fs_close(second, &diag));
}

/* The first change alone must do: each program is guarded by itself. */
static void one_change_fails(enum err (*change)(struct fs_client *client, uint64_t ino))
{
    struct diag diag = {0};
    struct fs_attr file;
    OK(fs_mknod(first_client, &root, FS_ROOT_INO, "file", S_IFREG | 0644, 0, &file));
    const struct fs_config config = {.db = s.db, .data_dir = s.data_dir, .io_threads = 1};
    struct fs *second;
    OK(fs_open(&config, &second, &diag));
    cr_assert_neq(change(first_client, file.ino), ERR_NONE);
    cr_assert_eq(lost_count, 1);
    OK(fs_close(second, &diag));
}

static enum err change_create(struct fs_client *client, uint64_t ino)
{
    (void)ino;
    return create(client, "late");
}

static enum err change_unlink(struct fs_client *client, uint64_t ino)
{
    (void)ino;
    return fs_unlink(client, &root, FS_ROOT_INO, "file");
}

static enum err change_mode(struct fs_client *client, uint64_t ino)
{
    struct fs_attr attr = {.mode = 0600};
    return fs_setattr(client, &root, ino, FS_SET_MODE, &attr, &attr);
}

static enum err change_size(struct fs_client *client, uint64_t ino)
{
    struct fs_attr attr = {.size = 5};
    return fs_setattr(client, &root, ino, FS_SET_SIZE, &attr, &attr);
}

static enum err change_xattr(struct fs_client *client, uint64_t ino)
{
    return fs_xattr_set(client, &root, ino, "user.a", "b", 1, 0);
}

CASE(lease, a_replaced_server_creates_nothing)
{
    one_change_fails(change_create);
}

CASE(lease, a_replaced_server_unlinks_nothing)
{
    one_change_fails(change_unlink);
}

CASE(lease, a_replaced_server_changes_no_mode)
{
    one_change_fails(change_mode);
}

CASE(lease, a_replaced_server_changes_no_size)
{
    one_change_fails(change_size);
}

CASE(lease, a_replaced_server_sets_no_attribute)
{
    one_change_fails(change_xattr);
}

CASE(lease, a_process_that_serves_the_database_keeps_others_out_until_its_end)
{
    struct diag diag = {0};
    fs_client_destroy(first_client);
    OK(fs_close(first, &diag));
    const struct fs_config config = {.db = s.db, .data_dir = s.data_dir, .io_threads = 1};
    struct fs *own;
    OK(fs_open(&config, &own, &diag));
    FAILS(open_shared(&first, &diag), ERR_IN_USE);
    cr_assert(strstr(diag.text, "serves the database"), "%s", diag.text);
    OK(fs_close(own, &diag));
    OK(open_shared(&first, &diag));
    OK(fs_client_create(first, s.db_client, &first_client));
}

CASE(lease, the_lease_of_a_crashed_owner_of_the_database_is_reset)
{
    struct diag diag = {0};
    fs_client_destroy(first_client);
    OK(fs_close(first, &diag));
    const struct fs_config config = {.db = s.db, .data_dir = s.data_dir, .io_threads = 1};
    struct fs *own;
    OK(fs_open(&config, &own, &diag));
    /* As `trellis node` does on opening the store. */
    OK(fs_lease_reset(s.db_client, &diag));
    OK(open_shared(&first, &diag));
    OK(fs_client_create(first, s.db_client, &first_client));
    OK(fs_close(own, &diag));
    OK(create(first_client, "works"));
}

CASE(lease, a_path_is_found_without_serving)
{
    struct fs_attr dir;
    struct fs_attr attr;
    OK(fs_mkdir(first_client, &root, FS_ROOT_INO, "a", 0755, &dir));
    OK(fs_mkdir(first_client, &root, dir.ino, "b", 0755, &attr));
    struct fs_attr found;
    OK(fs_path_find(s.db_client, "/a/b", &found));
    cr_assert_eq(found.ino, attr.ino);
    OK(fs_path_find(s.db_client, "/", &found));
    cr_assert_eq(found.ino, FS_ROOT_INO);
    FAILS(fs_path_find(s.db_client, "/a/c", &found), ERR_ENOENT);
}

/* ---- objects, which have no guard ---- */

static struct fs_file *open_with(const char *name, const void *bytes, uint64_t size,
                                 uint64_t *ret_ino)
{
    struct fs_attr attr;
    struct fs_file *file;
    s.c = first_client;
    OK(fs_create_file(first_client, &root, FS_ROOT_INO, name, 0644, O_RDWR, &attr, &file));
    write_at(&s, file, 0, bytes, size);
    *ret_ino = attr.ino;
    return file;
}

/* The server goes on as one that does not know that its lease has ended. */
static void lease_end(void)
{
    lease_stop(first);
    OK(lease_release(first_client));
    FAILS(lease_wait(first), ERR_EIO);
}

CASE(lease, a_read_by_a_replaced_server_cuts_nothing_off)
{
    struct diag diag = {0};
    uint64_t ino;
    struct fs_file *file = open_with("f", "abc", 3, &ino);
    OK(fs_release_file(first_client, file));
    OK(fs_open_file(first_client, ino, O_RDWR, &file));
    lease_end();

    struct fs *second;
    struct fs_client *client;
    struct db_client *db_client;
    struct fs_file *other;
    OK(open_shared(&second, &diag));
    OK(db_client_create(s.db, &db_client));
    OK(fs_client_create(second, db_client, &client));
    OK(fs_open_file(client, ino, O_RDWR, &other));
    s.c = client;
    write_at(&s, other, 0, "0123456789", 10);

    char bytes[20] = {0};
    s.c = first_client;
    struct waited_io read = {.io = {.file = file, .size = 3, .bytes = bytes}};
    FAILS(io_wait(&s, &read, fs_read, NULL), ERR_EIO);
    s.c = client;
    cr_assert_eq(read_at(&s, other, 0, bytes, sizeof(bytes)), 10);
    cr_assert_eq(memcmp(bytes, "0123456789", 10), 0);

    OK(fs_release_file(client, other));
    (void)!fs_release_file(first_client, file);
    fs_client_destroy(client);
    db_client_destroy(db_client);
    OK(fs_close(second, &diag));
}

/* The lease ends while the operation waits for its turn. */
static void waiting_changes_nothing(struct waited_io *w,
                                    void (*start)(struct fs_client *, struct fs_io *))
{
    uint64_t from_ino;
    uint64_t ino;
    struct fs_file *from = open_with("from", "xyz", 3, &from_ino);
    struct fs_file *file = open_with("f", "abc", 3, &ino);
    bool copies = start == fs_copy;
    w->io.file = copies ? from : file;
    w->io.to = copies ? file : NULL;
    w->io.done = waited_done;
    sem_init(&w->done, 0, 0);
    struct open_inode *inode = open_find(first, ino);
    pthread_rwlock_rdlock(&inode->data);
    start(first_client, &w->io);
    usleep(200000);
    lease_end();
    pthread_rwlock_unlock(&inode->data);
    sem_wait(&w->done);
    FAILS(w->io.err, ERR_EIO);
    open_put(inode);
    char bytes[10] = {0};
    cr_assert_eq(read_at(&s, file, 0, bytes, sizeof(bytes)), 3);
    cr_assert_eq(memcmp(bytes, "abc", 3), 0);
    (void)!fs_release_file(first_client, file);
    (void)!fs_release_file(first_client, from);
}

CASE(lease, a_write_that_waited_beyond_the_lease_writes_nothing)
{
    char bytes[] = "12345";
    struct waited_io w = {.io = {.size = 5, .bytes = bytes}};
    waiting_changes_nothing(&w, fs_write);
}

CASE(lease, a_hole_that_waited_beyond_the_lease_is_not_punched)
{
    struct waited_io w = {.io = {.size = 2, .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}};
    waiting_changes_nothing(&w, fs_fallocate);
}

CASE(lease, a_copy_that_waited_beyond_the_lease_copies_nothing)
{
    struct waited_io w = {.io = {.size = 3}};
    waiting_changes_nothing(&w, fs_copy);
}

Test(lease, a_process_is_gone_only_when_that_is_known)
{
    long self = getpid();
    char line[1024] = {0};
    FILE *file = fopen("/proc/self/stat", "r");
    cr_assert(file && fread(line, 1, sizeof(line) - 1, file));
    (void)fclose(file);
    unsigned long long started = 0;
    const char *at = strrchr(line, ')'); /* behind it are the fields from the third on */
    for (int field = 2; field < 22; field++)
        at = strchr(at, ' ') + 1;
    started = strtoull(at, NULL, 10);
    cr_assert(!lease_process_is_gone(self, started));
    cr_assert(lease_process_is_gone(self, started + 1));
    pid_t child = fork();
    if (child == 0) _exit(0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert(lease_process_is_gone(child, started));
    /* No descriptor to look with. */
    struct rlimit none = {0};
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool gone = lease_process_is_gone(self, started);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    cr_assert(!gone);
}
