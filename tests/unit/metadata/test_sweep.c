/* What a mount that died left behind is cleared away by the next one, whose database ends and comes
 * back, with another number of workers each time, while it does so. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "metadata/life.h"
#include "tests/unit/metadata/checker.h"

enum { KEPT = 100, HELD = 600, LOST = 600, RESTART_EVERY = 130 };

static struct store s;
static struct db *node;
static uint8_t secret[PORT_SECRET_SIZE] = {9};

static void content(char text[32], const char *name, unsigned number)
{
    snprintf(text, 32, "%s%u", name, number);
}

/* ---- the mount that dies ---- */

static struct fs_file *file_made(const char *name, unsigned number, uint64_t *ret_ino)
{
    char text[32];
    struct fs_attr attr;
    struct fs_file *file;
    content(text, name, number);
    OK(fs_create_file(s.c, &root, FS_ROOT_INO, text, 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, text, strlen(text));
    if (ret_ino) *ret_ino = attr.ino;
    return file;
}

/* Files that stay, open files without a name, and files that the crash takes back. */
__attribute__((noreturn)) static void former_mount(void)
{
    struct diag diag = {0};
    struct db_config config = {
        .dir = s.db_dir, .create = true, .worker_count = 2, .flush_interval_ms = 3600000};
    OK(db_open_embedded(&config, &s.db, &diag));
    OK(fs_open(&(struct fs_config){.db = s.db, .data_dir = s.data_dir, .io_threads = 1}, &s.fs,
               &diag));
    OK(db_client_create(s.db, &s.db_client));
    OK(fs_client_create(s.fs, s.db_client, &s.c));
    for (unsigned i = 0; i < KEPT; i++)
        OK(fs_release_file(s.c, file_made("kept", i, NULL)));
    for (unsigned i = 0; i < HELD; i++) {
        char name[32];
        content(name, "held", i);
        (void)file_made("held", i, NULL);
        OK(fs_unlink(s.c, &root, FS_ROOT_INO, name));
    }
    OK(fs_sync(s.c));
    for (unsigned i = 0; i < LOST; i++)
        OK(fs_release_file(s.c, file_made("lost", i, NULL)));
    kill(getpid(), SIGKILL);
    abort();
}

/* ---- the database ---- */

static void node_open(uint16_t workers)
{
    struct diag diag = {0};
    struct db_config config = {.dir = s.db_dir, .worker_count = workers};
    enum err err = db_open_embedded(&config, &node, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    struct db_client *client;
    OK(db_client_create(node, &client));
    OK(fs_lease_reset(client, &diag));
    db_client_destroy(client);
    struct port_address address = {.kind = LINK_SHM}, bound;
    snprintf(address.path, sizeof(address.path), "%s/link", s.dir);
    err = db_listen(node, &address, secret, &bound, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
}

static void node_close(void)
{
    struct diag diag = {0};
    enum err err = db_close(node, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
}

static unsigned removals;
static unsigned restarts;

/* Objects are removed by one thread, of the mount, which waits here for its database. */
int __real_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags)
{
    static const uint16_t workers[] = {3, 1, 4, 2};
    enum { OBJECT_PATH = sizeof("00000001/000000/00/00000000000000") - 1 };
    if (strlen(path) == OBJECT_PATH && ++removals % RESTART_EVERY == 0) {
        node_close();
        node_open(workers[restarts++ % 4]);
    }
    return __real_unlinkat(dir, path, flags);
}

/* ---- the mount that clears away ---- */

static void mount_open(void)
{
    struct diag diag = {0};
    struct port_address address = {.kind = LINK_SHM};
    snprintf(address.path, sizeof(address.path), "%s/link", s.dir);
    struct db_connect_config config = {.addresses = &address, .address_count = 1};
    memcpy(config.secret, secret, sizeof(secret));
    enum err err = db_connect(&config, &s.db, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    const struct fs_config fs_config = {
        .db = s.db, .data_dir = s.data_dir, .io_threads = 1, .shared = true};
    err = fs_open(&fs_config, &s.fs, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    OK(db_client_create(s.db, &s.db_client));
    OK(fs_client_create(s.fs, s.db_client, &s.c));
}

static void check_content(struct fs_file *file, const char *expected)
{
    char bytes[64] = "";
    cr_assert_eq(read_at(&s, file, 0, bytes, sizeof(bytes)), strlen(expected));
    cr_assert_str_eq(bytes, expected);
}

static void check_file(const char *name, unsigned number)
{
    char text[32];
    struct fs_attr attr;
    struct fs_file *file;
    content(text, name, number);
    OK(fs_lookup(s.c, FS_ROOT_INO, text, &attr));
    OK(fs_open_file(s.c, attr.ino, O_RDONLY, &file));
    check_content(file, text);
    OK(fs_release_file(s.c, file));
    fs_forget(s.c, attr.ino, 1);
}

static void setup(void)
{
    strcpy(s.dir, "/tmp/trellis-fs-XXXXXX");
    cr_assert(mkdtemp(s.dir));
    snprintf(s.db_dir, sizeof(s.db_dir), "%s/db", s.dir);
    snprintf(s.data_dir, sizeof(s.data_dir), "%s/data", s.dir);
    fflush(NULL);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) former_mount();
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    cr_assert_eq(count_objects(&s), KEPT + HELD + LOST);
    node_open(2);
    mount_open();
}

static void teardown(void)
{
    store_close(&s);
    node_close();
    store_remove(&s);
}

CASE(sweep, goes_on_and_ends_when_the_database_is_restarted_with_other_workers)
{
    uint64_t ino;
    struct fs_file *held = file_made("open", 1, &ino);
    OK(fs_unlink(s.c, &root, FS_ROOT_INO, "open1"));
    OK(fs_release_file(s.c, file_made("new", 1, NULL)));
    background_drain(s.fs);
    cr_assert_eq(removals, HELD + LOST);
    cr_assert_eq(restarts, (HELD + LOST) / RESTART_EVERY);
    /* This thread has links of its own, which end when they are looked at; a query would end, too.
     */
    OK(db_checkpoint(s.db_client));
    /* All of that, and no more. */
    cr_assert_eq(count_objects(&s), KEPT + 2);
    check_tree(&s, false);
    struct dump orphans = dump_table(&s, TABLE_ORPHAN);
    cr_assert_eq(orphans.count, 1);
    cr_assert_eq(dump_row(&orphans, 0)[0].u, ino);
    dump_free(&orphans);
    for (unsigned i = 0; i < KEPT; i++)
        check_file("kept", i);
    check_file("new", 1);
    check_content(held, "open1");
    OK(fs_release_file(s.c, held));
    /* The life that died needs no other sweep. */
    uint64_t clean;
    OK(counter_read(s.c, "life_clean", &clean));
    cr_assert_eq(clean, s.fs->life - 1);
}
