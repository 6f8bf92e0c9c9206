/* The lease on the file system of a database.
 *
 * Open files, the kernel's references, orphans and sizes not yet reported are known to one metadata
 * server only, so two must not serve one database at the same time. Table `server` decides: a row
 * for each partition, keyed by its number. Row 0 says who serves and how; all rows have the epoch,
 * which grows whenever another server takes over.
 *
 *   FREE      nobody: the last one ended cleanly
 *   EMBEDDED  the process that has the database; it holds the store's lock, so who finds this state
 *             on opening the store knows that holder to be dead
 *   SHARED    a process that reaches the database over links. It renews the lease by adding to
 *             `renewal` every LEASE_RENEW_MS
 *
 * Clocks of different machines are never compared. Who wants to take over watches the row: a
 * renewal that does not change for LEASE_TAKE_MS of his own time belongs to a dead server; the time
 * begins again whenever the database has not answered for a while. One of this machine whose
 * process is gone is known to be dead at once. Taking over writes the new epoch
 * to row 0 first, which only one of several can do, then to the others, and only then serves.
 *
 * Every program of a shared server has a guard on the epoch in one of its partitions: a program
 * commits as a whole, so one guard protects all of its partitions. Thus a server that was cut off,
 * or asleep, and comes back after another took over changes nothing. What it writes to objects has
 * no such guard: before each step of it, it makes sure that its last renewal began less than
 * LEASE_VALID_MS ago, when nobody can have waited LEASE_TAKE_MS since. The clock for that counts
 * the time in which the machine was suspended. It cannot count what nothing in the machine knows
 * of: a guest that its hypervisor pauses, together with its clock, for longer than the rest of
 * LEASE_TAKE_MS may still write to objects after another server took over.
 *
 * While the database cannot be reached each program waits for it, up to its client's time limit;
 * but once a renewal has waited in vain, programs fail at once until one succeeds, so that a queue
 * of them does not wait for as many time limits.
 *
 * A database that restarts after a crash may have lost the latest changes, although they were
 * acknowledged. What this server and the kernel remember of them would then be wrong, for as long
 * as they remember: the server gives up (`lost`), all operations fail with EIO, and mounting again
 * begins anew from what the database has. */
#include "metadata/lease.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LEASE_RENEW_MS = 2000, LEASE_VALID_MS = 8000, LEASE_TAKE_MS = 10000, LEASE_POLL_MS = 200 };
enum { LEASE_SLOW_MS = 1000 }; /* an answer later than this is of a database that was away */
_Static_assert(LEASE_RENEW_MS * 3 < LEASE_VALID_MS, "a slow renewal or two does no harm");
_Static_assert(LEASE_VALID_MS + 1000 < LEASE_TAKE_MS, "a write that was allowed has ended");
enum { TIMEOUT_MS_DEFAULT = 10000 };
#define MS_NS UINT64_C(1000000)

/* What validity is measured with: it goes on while the machine is suspended. */
static uint64_t lease_clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum lease_state { LEASE_FREE = 0, LEASE_EMBEDDED = 1, LEASE_SHARED = 2 };

struct lease {
    struct fs *fs;
    uint64_t epoch;
    uint64_t timeout_ns;
    uint32_t losses;             /* db_losses at the beginning */
    _Atomic uint64_t reached_ns; /* lease_clock_ns when the last renewal that succeeded began; 0:
                                    given back */
    void (*on_lost)(void *context, const char *why);
    void *context;
    atomic_bool lost;
    atomic_bool away; /* the last renewal waited for the database in vain */
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex;  /* guards what follows */
    pthread_cond_t changed; /* renewed, lost or ending */
    bool ending;
};

/* Row 0. */
struct lease_row {
    bool present;
    uint64_t epoch;
    uint64_t state;
    uint64_t renewal;
    char holder[SERVER_HOLDER_SIZE + 1];
};

/* ---- who ---- */

/* Fields of a holder's text, in this order, with blanks between: host, process, boot, namespace of
 * process numbers, start of the process. */
struct holder {
    char host[65];
    char boot[40];
    unsigned long namespace;
    unsigned long long started; /* in clock ticks since the boot */
    long process;
};

/* 0: not known. */
static unsigned long long process_started(long process)
{
    char path[40];
    char line[1024];
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", process);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t size = fread(line, 1, sizeof(line) - 1, file);
    (void)fclose(file);
    line[size] = 0;
    /* The name, in parentheses, may have anything in it. */
    const char *at = strrchr(line, ')');
    unsigned long long started = 0;
    if (!at || sscanf(at + 1,
                      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                      "%*d %llu",
                      &started) != 1)
        return 0;
    return started;
}

static void holder_self(struct holder *ret_holder)
{
    struct holder holder = {.process = getpid(), .boot = "-"};
    if (gethostname(holder.host, sizeof(holder.host) - 1) || !holder.host[0])
        (void)snprintf(holder.host, sizeof(holder.host), "-");
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        if (fscanf(file, "%39s", holder.boot) != 1) (void)snprintf(holder.boot, 2, "-");
        (void)fclose(file);
    }
    struct stat stat_at;
    if (stat("/proc/self/ns/pid", &stat_at) == 0) holder.namespace = stat_at.st_ino;
    holder.started = process_started(holder.process);
    *ret_holder = holder;
}

static void holder_format(const struct holder *holder, char text[SERVER_HOLDER_SIZE + 1])
{
    (void)snprintf(text, SERVER_HOLDER_SIZE + 1, "%s %ld %s %lu %llu", holder->host,
                   holder->process, holder->boot, holder->namespace, holder->started);
}

static bool holder_parse(const char *text, struct holder *ret_holder)
{
    struct holder holder = {0};
    if (sscanf(text, "%64s %ld %39s %lu %llu", holder.host, &holder.process, holder.boot,
               &holder.namespace, &holder.started) != 5)
        return false;
    *ret_holder = holder;
    return true;
}

/* A failure to look, such as for /proc that hides others' processes, says nothing. */
bool lease_process_is_gone(long process, unsigned long long started)
{
    if (process <= 0 || process > INT32_MAX) return false;
    if (kill((pid_t)process, 0) && errno == ESRCH) return true;
    unsigned long long now = process_started(process);
    return now && now != started;
}

/* A process of this machine, visible from here, that is gone. */
static bool holder_is_dead(const char *text)
{
    struct holder self;
    struct holder other;
    holder_self(&self);
    if (!holder_parse(text, &other) || !self.namespace || strcmp(self.boot, "-") == 0) return false;
    if (strcmp(self.boot, other.boot) || self.namespace != other.namespace || !other.started)
        return false;
    return lease_process_is_gone(other.process, other.started);
}

/* ---- rows ---- */

static enum err read_once(struct fs_client *client, struct lease_row *ret_row)
{
    struct program *program = client_begin(client, 0);
    struct operand key = operand_u64(0);
    uint8_t step = program_read(program, client_table(client, TABLE_SERVER), &key, ERR_NONE);
    program_flags(program, STEP_OPTIONAL);
    const uint16_t columns[] = {SERVER_EPOCH, SERVER_STATE, SERVER_RENEWAL, SERVER_HOLDER};
    program_output(program, columns, ARRAY_SIZE(columns));
    enum err err = db_run(client->db, program, &client->reply);
    if (err) return err;
    struct lease_row row = {0};
    const struct value *values = client_row(client, step);
    row.present = values != NULL;
    if (values) {
        if (values[3].kind != KIND_STR || values[3].size > SERVER_HOLDER_SIZE) return ERR_CORRUPT;
        row.epoch = values[0].u;
        row.state = values[1].u;
        row.renewal = values[2].u;
        memcpy(row.holder, values[3].bytes, values[3].size);
    }
    *ret_row = row;
    return ERR_NONE;
}

static enum err row_read(struct fs_client *client, struct lease_row *ret_row)
{
    struct retry retry = {0};
    enum err err;
    do
        err = read_once(client, ret_row);
    while (client_again(client, &retry, &err));
    return err;
}

/* Row 0 becomes this server's, if it is still as it was seen. ERR_STALE when it is not. */
static enum err first_write(struct fs_client *client, const struct lease_row *seen, uint64_t epoch,
                            enum lease_state state, const char *holder)
{
    struct program *program = client_begin(client, 0);
    const struct table_def *table = client_table(client, TABLE_SERVER);
    const struct operand values[SERVER_COLUMNS] = {
        [SERVER_SLOT] = operand_u64(0),
        [SERVER_EPOCH] = operand_u64(epoch),
        [SERVER_STATE] = operand_u64(state),
        [SERVER_RENEWAL] = operand_u64(0),
        [SERVER_HOLDER] = operand_value(value_text(holder)),
    };
    if (!seen->present) {
        (void)program_insert(program, table, values, ERR_STALE);
    } else {
        uint8_t step = program_update(program, table, &values[SERVER_SLOT], ERR_STALE);
        guard_equal(program, step, SERVER_EPOCH, seen->epoch, ERR_STALE);
        guard_equal(program, step, SERVER_STATE, seen->state, ERR_STALE);
        guard_equal(program, step, SERVER_RENEWAL, seen->renewal, ERR_STALE);
        program_set(program, SERVER_EPOCH, values[SERVER_EPOCH]);
        program_set(program, SERVER_STATE, values[SERVER_STATE]);
        program_set(program, SERVER_HOLDER, values[SERVER_HOLDER]);
    }
    return db_run(client->db, program, &client->reply);
}

/* The rows of the other partitions follow. ERR_IN_USE: somebody was faster. */
static enum err others_write_once(struct fs_client *client, uint32_t from, uint32_t to,
                                  uint64_t epoch)
{
    struct program *program = &client->program;
    const struct table_def *table = client_table(client, TABLE_SERVER);
    program_begin(program);
    for (uint32_t partition = from; partition < to; partition++) {
        program_section(program, (uint16_t)partition);
        const struct operand values[SERVER_COLUMNS] = {
            [SERVER_SLOT] = operand_u64(partition),          [SERVER_EPOCH] = operand_u64(epoch),
            [SERVER_STATE] = operand_u64(LEASE_FREE),        [SERVER_RENEWAL] = operand_u64(0),
            [SERVER_HOLDER] = operand_value(value_text("")),
        };
        uint8_t step = program_upsert(program, table, values);
        guard_compare(program, EXPR_LE, step, SERVER_EPOCH, epoch, ERR_IN_USE);
        program_set(program, SERVER_EPOCH, values[SERVER_EPOCH]);
    }
    return db_run(client->db, program, &client->reply);
}

static enum err others_write(struct fs_client *client, uint64_t epoch)
{
    uint32_t count = client->fs->partition_mask + 1;
    for (uint32_t from = 1; from < count; from += PROGRAM_SECTIONS_MAX) {
        uint32_t to = count - from < PROGRAM_SECTIONS_MAX ? count : from + PROGRAM_SECTIONS_MAX;
        struct retry retry = {0};
        enum err err;
        do
            err = others_write_once(client, from, to, epoch);
        while (client_again(client, &retry, &err));
        if (err) return err;
    }
    return ERR_NONE;
}

/* ---- taking it ---- */

static void sleep_ms(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}

static enum err refuse(const struct lease_row *row, struct diag *diag)
{
    struct holder holder;
    if (row->state == LEASE_EMBEDDED)
        return diag_set(diag, ERR_IN_USE,
                        "the file system is mounted by the process that serves the database");
    if (!holder_parse(row->holder, &holder))
        return diag_set(diag, ERR_IN_USE, "another metadata server has the file system mounted");
    return diag_set(diag, ERR_IN_USE,
                    "the file system is mounted already, by process %ld on %s: unmount it there "
                    "first",
                    holder.process, holder.host);
}

/* Until the row's holder is known to be dead or to live. */
static enum err wait_for_holder(struct fs_client *client, struct lease_row *row, struct diag *diag)
{
    if (!row->present || row->state == LEASE_FREE) return ERR_NONE;
    if (row->state == LEASE_EMBEDDED) return refuse(row, diag);
    uint64_t until = fs_monotonic_ns() + LEASE_TAKE_MS * MS_NS;
    while (!holder_is_dead(row->holder) && fs_monotonic_ns() < until) {
        sleep_ms(LEASE_POLL_MS);
        struct lease_row now;
        uint64_t asked = fs_monotonic_ns();
        enum err err = row_read(client, &now);
        if (err) return diag_set(diag, err, "cannot read the lease: %s", err_text(err));
        if (now.state != LEASE_FREE && (now.epoch != row->epoch || now.renewal != row->renewal))
            return refuse(&now, diag);
        /* While the database did not answer, the holder could not renew either. */
        uint64_t answered = fs_monotonic_ns();
        if (answered - asked > LEASE_SLOW_MS * MS_NS) until = answered + LEASE_TAKE_MS * MS_NS;
        *row = now;
        if (now.state == LEASE_FREE) break;
    }
    return ERR_NONE;
}

static enum err acquire_shared(struct fs_client *client, const char *holder, uint64_t *ret_epoch,
                               uint64_t *ret_begin_ns, struct diag *diag)
{
    for (;;) {
        struct lease_row row;
        enum err err = row_read(client, &row);
        if (err) return diag_set(diag, err, "cannot read the lease: %s", err_text(err));
        err = wait_for_holder(client, &row, diag);
        if (err) return err;
        uint64_t begin = lease_clock_ns();
        uint64_t epoch = row.epoch + 1;
        err = first_write(client, &row, epoch, LEASE_SHARED, holder);
        if (err == ERR_STALE || err == ERR_CONFLICT) continue;
        if (!err) err = others_write(client, epoch);
        if (!err) err = client_flush(client);
        if (err == ERR_IN_USE) return refuse(&row, diag);
        if (err) return diag_set(diag, err, "cannot take the lease: %s", err_text(err));
        *ret_epoch = epoch;
        *ret_begin_ns = begin;
        return ERR_NONE;
    }
}

/* Nobody else can have the database: whoever had the lease is dead, or was cut off when this
 * process opened the store. Only a shared one could come back, and is locked out by another epoch.
 */
static enum err acquire_embedded(struct fs_client *client, const char *holder, struct diag *diag)
{
    struct retry retry = {0};
    struct lease_row row;
    uint64_t epoch = 0;
    enum err err;
    do {
        err = row_read(client, &row);
        if (err) break;
        epoch = row.state == LEASE_SHARED ? row.epoch + 1 : row.epoch;
        err = first_write(client, &row, epoch, LEASE_EMBEDDED, holder);
    } while (client_again(client, &retry, &err));
    if (!err && row.state == LEASE_SHARED) err = others_write(client, epoch);
    return err ? diag_set(diag, err, "cannot take the lease: %s", err_text(err)) : ERR_NONE;
}

enum err fs_lease_reset(struct db_client *db, struct diag *diag)
{
    struct fs fs = {.db = db_client_db(db)};
    fs.partition_mask = db_partition_count(fs.db) - 1u;
    struct fs_client *client = NULL;
    enum err err = fs_client_create(&fs, db, &client);
    /* A store that has no file system yet. */
    if (err == ERR_TABLE_UNKNOWN) return ERR_NONE;
    struct lease_row row;
    if (!err) err = row_read(client, &row);
    if (!err && row.state == LEASE_EMBEDDED)
        err = first_write(client, &row, row.epoch, LEASE_FREE, "");
    fs_client_destroy(client);
    return err ? diag_set(diag, err, "cannot reset the lease of the file system: %s", err_text(err))
               : ERR_NONE;
}

/* ---- keeping it ---- */

/* The first reason is told. */
static void lose(struct lease *lease, const char *why)
{
    if (atomic_exchange(&lease->lost, true)) return;
    pthread_mutex_lock(&lease->mutex);
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
    if (lease->on_lost) lease->on_lost(lease->context, why);
}

static void taken_over(struct lease *lease)
{
    lose(lease, "another metadata server has taken over the file system");
}

static enum err renew_once(struct fs_client *client, uint64_t epoch)
{
    struct program *program = client_begin(client, 0);
    struct operand key = operand_u64(0);
    uint8_t step = program_update(program, client_table(client, TABLE_SERVER), &key, ERR_IN_USE);
    guard_equal(program, step, SERVER_EPOCH, epoch, ERR_IN_USE);
    set_add(program, step, SERVER_RENEWAL, 1);
    return db_run(client->db, program, &client->reply);
}

/* False: nothing is known; the next attempt tells. */
static bool renew(struct lease *lease, struct fs_client *client)
{
    uint64_t begin = lease_clock_ns();
    uint64_t waits_since = fs_monotonic_ns();
    struct retry retry = {0};
    enum err err;
    do
        err = renew_once(client, lease->epoch);
    while (client_again(client, &retry, &err));
    if (err == ERR_IN_USE) taken_over(lease);
    if (!err) atomic_store(&lease->reached_ns, begin);
    /* A failure at once, such as an outcome that is not known, is of a link that was just lost. */
    bool waited = fs_monotonic_ns() - waits_since >= lease->timeout_ns - lease->timeout_ns / 4;
    pthread_mutex_lock(&lease->mutex);
    if (!err || waited) atomic_store(&lease->away, err != ERR_NONE);
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
    return !err;
}

static struct timespec timespec_at(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

static void *lease_thread(void *argument)
{
    struct lease *lease = argument;
    struct db_client *db = NULL;
    struct fs_client *client = NULL;
    pthread_mutex_lock(&lease->mutex);
    uint64_t due = fs_monotonic_ns() + LEASE_RENEW_MS * MS_NS;
    while (!lease->ending && !atomic_load(&lease->lost)) {
        if (fs_monotonic_ns() < due) {
            struct timespec until = timespec_at(due);
            (void)pthread_cond_timedwait(&lease->changed, &lease->mutex, &until);
            continue;
        }
        pthread_mutex_unlock(&lease->mutex);
        due = fs_monotonic_ns() + LEASE_RENEW_MS * MS_NS;
        enum err err = ERR_NONE;
        if (!db) err = db_client_create(lease->fs->db, &db);
        if (!err && !client) err = fs_client_create(lease->fs, db, &client);
        if (err || !renew(lease, client)) due = fs_monotonic_ns() + LEASE_POLL_MS * MS_NS;
        (void)!lease_check(lease->fs);
        pthread_mutex_lock(&lease->mutex);
    }
    pthread_mutex_unlock(&lease->mutex);
    fs_client_destroy(client);
    db_client_destroy(db);
    return NULL;
}

static enum err lease_create(struct fs *fs, const struct fs_config *config, uint64_t epoch,
                             uint64_t begin_ns)
{
    struct lease *lease = calloc(1, sizeof(*lease));
    if (!lease) return ERR_NO_MEMORY;
    lease->fs = fs;
    lease->epoch = epoch;
    lease->timeout_ns = (config->timeout_ms ? config->timeout_ms : TIMEOUT_MS_DEFAULT) * MS_NS;
    lease->on_lost = config->lost;
    lease->context = config->lost_context;
    lease->losses = db_losses(fs->db);
    atomic_store(&lease->reached_ns, begin_ns);
    pthread_mutex_init(&lease->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lease->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    fs->lease = lease;
    if (pthread_create(&lease->thread, NULL, lease_thread, lease)) {
        lease_destroy(fs);
        return ERR_NO_MEMORY;
    }
    lease->started = true;
    return ERR_NONE;
}

enum err lease_acquire(struct fs_client *client, const struct fs_config *config, struct diag *diag)
{
    struct holder self;
    char holder[SERVER_HOLDER_SIZE + 1];
    holder_self(&self);
    holder_format(&self, holder);
    if (!config->shared) return acquire_embedded(client, holder, diag);
    uint64_t epoch = 0;
    uint64_t begin_ns = 0;
    enum err err = acquire_shared(client, holder, &epoch, &begin_ns, diag);
    if (err) return err;
    err = lease_create(client->fs, config, epoch, begin_ns);
    return err ? diag_set(diag, err, "cannot keep the lease: %s", err_text(err)) : ERR_NONE;
}

void lease_stop(struct fs *fs)
{
    struct lease *lease = fs->lease;
    if (!lease || !lease->started) return;
    pthread_mutex_lock(&lease->mutex);
    lease->ending = true;
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mutex);
    (void)pthread_join(lease->thread, NULL);
    lease->started = false;
}

enum err lease_release(struct fs_client *client)
{
    struct lease_row row;
    if (client->fs->lease) atomic_store(&client->fs->lease->reached_ns, 0);
    enum err err = row_read(client, &row);
    if (err) return err;
    const struct lease *lease = client->fs->lease;
    bool own = lease ? row.state == LEASE_SHARED && row.epoch == lease->epoch
                     : row.state == LEASE_EMBEDDED;
    if (!own) return lease ? ERR_IN_USE : ERR_NONE;
    err = first_write(client, &row, row.epoch, LEASE_FREE, "");
    return err == ERR_STALE ? ERR_IN_USE : err;
}

void lease_destroy(struct fs *fs)
{
    struct lease *lease = fs->lease;
    if (!lease) return;
    lease_stop(fs);
    pthread_cond_destroy(&lease->changed);
    pthread_mutex_destroy(&lease->mutex);
    free(lease);
    fs->lease = NULL;
}

/* ---- using it ---- */

void lease_guard(struct fs_client *client, struct program *program, struct operand partition)
{
    uint8_t step =
        program_read(program, client_table(client, TABLE_SERVER), &partition, ERR_IN_USE);
    guard_equal(program, step, SERVER_EPOCH, client->fs->lease->epoch, ERR_IN_USE);
}

enum err lease_check(struct fs *fs)
{
    struct lease *lease = fs->lease;
    if (!lease) return ERR_NONE;
    if (db_losses(fs->db) != lease->losses)
        lose(lease, "the database crashed and lost changes that it had acknowledged: unmount and "
                    "mount again, to begin with what it has");
    if (atomic_load_explicit(&lease->lost, memory_order_relaxed)) return ERR_EIO;
    return atomic_load_explicit(&lease->away, memory_order_relaxed) ? ERR_TIMEOUT : ERR_NONE;
}

enum err lease_outcome(struct fs *fs, enum err err)
{
    if (err == ERR_IN_USE) taken_over(fs->lease);
    return err;
}

static bool is_valid(const struct lease *lease)
{
    uint64_t reached = atomic_load(&lease->reached_ns);
    return reached && !atomic_load(&lease->lost) &&
           lease_clock_ns() < reached + LEASE_VALID_MS * MS_NS;
}

enum err lease_wait(struct fs *fs)
{
    struct lease *lease = fs->lease;
    if (!lease || is_valid(lease)) return ERR_NONE;
    struct timespec until = timespec_at(fs_monotonic_ns() + lease->timeout_ns);
    pthread_mutex_lock(&lease->mutex);
    int timed_out = 0;
    while (!is_valid(lease) && !atomic_load(&lease->lost) && !atomic_load(&lease->away) &&
           !timed_out)
        timed_out = pthread_cond_timedwait(&lease->changed, &lease->mutex, &until);
    pthread_mutex_unlock(&lease->mutex);
    return is_valid(lease) ? ERR_NONE : ERR_EIO;
}
