/* A node in a process of its own that is killed at random moments, and clients that are: is every
 * change that was acknowledged there exactly once, and every other at most once?
 *
 * Each client adds 1 to a counter of its own, over and over, and counts in shared memory what it
 * was told. The counter then lies between what was acknowledged and that plus what is unknown. */
#include "tests/unit/db/api/remote_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/hash.h"
#include "tests/unit/sanitized.h"

enum { CLIENTS = 4, SLOT_COUNT = 8 };

struct tally {
    atomic_uint acknowledged[CLIENTS];
    atomic_uint unknown[CLIENTS]; /* told so, or under way when its client was killed */
    atomic_uint refused[CLIENTS];
    atomic_bool stop;
};

struct server {
    char dir[64];
    struct port_address address;
    struct db_config config;
    uint8_t secret[PORT_SECRET_SIZE];
    pid_t pid;
    /* Servers come from a process that has one thread only: a child of one with several may find
     * the memory allocator of a sanitizer locked for ever. */
    pid_t starter;
    int orders;
};

/* To the starter: begin a server at the address, or (signal) end it. */
struct order {
    int signal;
    struct port_address address;
};
struct answer {
    pid_t pid;
    bool up;
    uint16_t port;
    int status; /* how it ended */
};

static void sleep_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

__attribute__((noreturn)) static void server_main(struct server *server, int ready)
{
    struct db *db;
    struct diag diag = {0};
    struct port_address bound;
    struct db_config config = server->config;
    config.dir = server->dir;
    config.create = true;
    enum err err = db_open_embedded(&config, &db, &diag);
    if (!err) err = db_listen(db, &server->address, server->secret, &bound, &diag);
    if (err) {
        fprintf(stderr, "server: %s\n", diag.text);
        _exit(1);
    }
    if (write(ready, &bound.port, sizeof(bound.port)) != sizeof(bound.port)) _exit(1);
    /* Until it is killed, or told to end in order. */
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
    _exit(db_close(db, &diag) ? 1 : 0);
}

/* A server that is ready, or one that was not and has ended. */
static struct answer server_fork(struct server *server)
{
    struct answer answer = {0};
    int ready[2];
    if (pipe(ready)) _exit(1);
    answer.pid = fork();
    if (answer.pid < 0) _exit(1);
    if (answer.pid == 0) {
        sigset_t set;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        close(ready[0]);
        close(server->orders);
        server_main(server, ready[1]);
    }
    close(ready[1]);
    answer.up = read(ready[0], &answer.port, sizeof(answer.port)) == sizeof(answer.port);
    close(ready[0]);
    return answer;
}

__attribute__((noreturn)) static void starter_main(struct server *server)
{
    struct order order;
    struct answer answer = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(server->orders, &order, sizeof(order)) == sizeof(order)) {
        if (order.signal) {
            kill(answer.pid, order.signal);
            if (waitpid(answer.pid, &answer.status, 0) != answer.pid) _exit(1);
        } else {
            server->address = order.address;
            answer = server_fork(server);
        }
        if (write(server->orders, &answer, sizeof(answer)) != sizeof(answer)) _exit(1);
    }
    _exit(0);
}

static struct answer server_order(struct server *server, int how)
{
    struct order order = {.signal = how, .address = server->address};
    struct answer answer;
    cr_assert_eq(write(server->orders, &order, sizeof(order)), (ssize_t)sizeof(order));
    cr_assert_eq(read(server->orders, &answer, sizeof(answer)), (ssize_t)sizeof(answer));
    return answer;
}

static void server_start(struct server *server)
{
    struct answer answer = server_order(server, 0);
    cr_assert(answer.up, "the server did not come up");
    server->pid = answer.pid;
    server->address.port = answer.port; /* it comes back there */
}

static void server_end(struct server *server, int how)
{
    struct answer answer = server_order(server, how);
    if (how == SIGTERM) cr_assert(WIFEXITED(answer.status) && WEXITSTATUS(answer.status) == 0);
}

static void server_init(struct server *server, enum link_kind kind, struct db_config config)
{
    memset(server, 0, sizeof(*server));
    strcpy(server->dir, "/tmp/trellis-test-XXXXXX");
    cr_assert_not_null(mkdtemp(server->dir));
    server->config = config;
    server->address = address_for(kind, server->dir);
    memset(server->secret, 5, sizeof(server->secret));
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    fflush(NULL);
    server->starter = fork();
    cr_assert_geq(server->starter, 0);
    server->orders = ends[server->starter == 0];
    close(ends[server->starter != 0]);
    if (server->starter == 0) starter_main(server);
    server_start(server);
}

/* The server has ended. */
static void server_fini(struct server *server)
{
    int status;
    close(server->orders);
    cr_assert_eq(waitpid(server->starter, &status, 0), server->starter);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    nftw(server->dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static struct db *server_connect(const struct server *server, uint32_t timeout_ms)
{
    struct db *db = NULL;
    struct diag diag = {0};
    struct db_connect_config config = {
        .addresses = &server->address, .address_count = 1, .timeout_ms = timeout_ms};
    memcpy(config.secret, server->secret, sizeof(config.secret));
    enum err err = db_connect(&config, &db, &diag);
    cr_assert_eq(err, ERR_NONE, "connect: %s", diag.text);
    return db;
}

/* A fixture around a connected database. */
static void far_init(struct fixture *far, const struct server *server, uint32_t timeout_ms)
{
    memset(far, 0, sizeof(*far));
    program_init(&far->program);
    program_reply_init(&far->reply);
    far->db = server_connect(server, timeout_ms);
    cr_assert_eq(db_client_create(far->db, &far->client), ERR_NONE);
    fixture_catalog(far);
}

static void far_fini(struct fixture *far)
{
    struct diag diag = {0};
    db_catalog_release(far->db, far->catalog);
    db_client_destroy(far->client);
    cr_assert_eq(db_close(far->db, &diag), ERR_NONE);
    program_fini(&far->program);
    program_reply_fini(&far->reply);
}

static void make_counters(const struct server *server)
{
    struct fixture far;
    struct diag diag = {0};
    far_init(&far, server, 10000);
    struct table_def account, inode;
    struct column_def account_columns[4], inode_columns[4];
    fixture_tables(&account, account_columns, &inode, inode_columns);
    cr_assert_eq(db_create_table(far.client, &account, &diag), ERR_NONE, "%s", diag.text);
    fixture_catalog(&far);
    for (uint32_t client = 0; client < CLIENTS; client++)
        for (uint16_t slot = 0; slot < SLOT_COUNT; slot++)
            cr_assert_eq(account_create(&far, slot, client, 0), ERR_NONE);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    far_fini(&far);
}

/* Adds until told to stop: in one partition or two. */
static void add_loop(struct fixture *far, struct tally *tally, uint32_t number)
{
    struct arena arena;
    arena_init(&arena, 0);
    for (uint64_t n = 0; !atomic_load(&tally->stop); n++) {
        uint16_t slot = (uint16_t)(hash_u64(n + number * 1000003u) % SLOT_COUNT);
        arena_reset(&arena);
        program_begin(&far->program);
        program_section(&far->program, slot);
        account_add(&far->program, far->account, &arena, slot, number, 1);
        if (n % 3 == 0) {
            uint16_t other = (uint16_t)((slot + 1) % SLOT_COUNT);
            program_section(&far->program, other);
            account_add(&far->program, far->account, &arena, other, number, 0);
        }
        /* Until its end is known it counts as unknown: the process may die meanwhile. */
        atomic_fetch_add(&tally->unknown[number], 1);
        enum err err = db_run(far->client, &far->program, &far->reply);
        if (err == ERR_OUTCOME_UNKNOWN) continue;
        if (err == ERR_NONE)
            atomic_fetch_add(&tally->acknowledged[number], 1);
        else if (err == ERR_TIMEOUT || err == ERR_CONFLICT)
            atomic_fetch_add(&tally->refused[number], 1);
        else
            cr_assert_fail("an addition ended with %s", err_name(err));
        atomic_fetch_sub(&tally->unknown[number], 1);
    }
    arena_fini(&arena);
}

struct adder {
    const struct server *server;
    struct tally *tally;
    uint32_t number;
};

static void *adder_thread(void *context)
{
    struct adder *adder = context;
    struct fixture far;
    far_init(&far, adder->server, 20000);
    add_loop(&far, adder->tally, adder->number);
    far_fini(&far);
    return NULL;
}

static void check_counters(const struct server *server, const struct tally *tally)
{
    struct fixture far;
    far_init(&far, server, 10000);
    for (uint32_t client = 0; client < CLIENTS; client++) {
        int64_t total = 0;
        for (uint16_t slot = 0; slot < SLOT_COUNT; slot++) {
            int64_t balance;
            cr_assert_eq(account_balance(&far, slot, client, &balance), ERR_NONE);
            total += balance;
        }
        int64_t least = atomic_load(&tally->acknowledged[client]);
        int64_t most = least + atomic_load(&tally->unknown[client]);
        cr_assert(total >= least && total <= most, "client %u: %lld is not within %lld and %lld",
                  client, (long long)total, (long long)least, (long long)most);
    }
    far_fini(&far);
}

static struct tally *tally_make(void)
{
    struct tally *tally =
        mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(tally, MAP_FAILED);
    return tally;
}

/* Ends the node and starts it again under clients that change things all the time: in order only,
 * or killed mostly. */
static void end_servers(enum link_kind kind, struct db_config config, int rounds, bool in_order)
{
    struct server server;
    struct tally *tally = tally_make();
    server_init(&server, kind, config);
    make_counters(&server);
    struct adder adders[CLIENTS];
    pthread_t threads[CLIENTS];
    for (uint32_t i = 0; i < CLIENTS; i++) {
        adders[i] = (struct adder){.server = &server, .tally = tally, .number = i};
        cr_assert_eq(pthread_create(&threads[i], NULL, adder_thread, &adders[i]), 0);
    }
    uint64_t random = hash_u64((uint64_t)server.pid);
    for (int round = 0; round < rounds; round++) {
        random = hash_u64(random + 1);
        sleep_ms((long)(random % 120));
        server_end(&server, in_order || round % 4 == 3 ? SIGTERM : SIGKILL);
        if (round % 2) sleep_ms((long)(random >> 20) % 50);
        server_start(&server);
    }
    /* Everybody gets something done again. */
    unsigned before[CLIENTS];
    for (uint32_t i = 0; i < CLIENTS; i++)
        before[i] = atomic_load(&tally->acknowledged[i]);
    for (uint32_t i = 0; i < CLIENTS; i++)
        for (int tries = 0; tries < 4000 && atomic_load(&tally->acknowledged[i]) < before[i] + 5;
             tries++)
            sleep_ms(5);
    atomic_store(&tally->stop, true);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_geq(atomic_load(&tally->acknowledged[i]), before[i] + 5);
    }
    check_counters(&server, tally);
    for (uint32_t i = 0; in_order && i < CLIENTS; i++)
        cr_assert_eq(atomic_load(&tally->unknown[i]), 0, "client %u was told %u times", i,
                     atomic_load(&tally->unknown[i]));
    server_end(&server, SIGTERM);
    server_fini(&server);
}

Test(remote_kill, acknowledged_changes_survive_the_nodes_death_over_tcp, .timeout = 120)
{
    end_servers(LINK_TCP,
                (struct db_config){
                    .worker_count = 1, .partition_count = 8, .flush_policy = DB_FLUSH_ALWAYS},
                12, false);
}

Test(remote_kill, acknowledged_changes_survive_the_nodes_death_over_shm, .timeout = 120)
{
    end_servers(LINK_SHM,
                (struct db_config){
                    .worker_count = 2, .partition_count = 8, .flush_policy = DB_FLUSH_ALWAYS},
                12, false);
}

/* ---- the node ends in order ---- */

Test(remote_kill, a_stop_in_order_leaves_no_outcome_unknown, .timeout = 120)
{
    end_servers(LINK_TCP, (struct db_config){.worker_count = 1, .partition_count = 8}, 8, true);
    end_servers(LINK_SHM, (struct db_config){.worker_count = 2, .partition_count = 8}, 8, true);
}

Test(remote_kill, a_stop_in_order_answers_what_waits_for_the_disk, .timeout = 120)
{
    struct db_config config = {.partition_count = 8, .flush_policy = DB_FLUSH_ALWAYS};
    config.worker_count = 1;
    end_servers(LINK_TCP, config, 12, true);
    config.worker_count = 2;
    end_servers(LINK_SHM, config, 12, true);
}

/* ---- clients die ---- */

Test(remote_kill, killed_clients_leave_nothing_done_twice_or_open, .timeout = 120)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct server server;
        struct tally *tally = tally_make();
        server_init(&server, remote_kinds[kind],
                    (struct db_config){.worker_count = 2, .partition_count = 8});
        /* tcp: the workers after the first have their ports from the system. */
        make_counters(&server);
        uint64_t random = hash_u64((uint64_t)server.pid);
        for (int round = 0; round < (SANITIZED ? 3 : 6); round++) {
            pid_t pids[CLIENTS];
            fflush(NULL);
            for (uint32_t i = 0; i < CLIENTS; i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                    struct fixture far;
                    far_init(&far, &server, 10000);
                    add_loop(&far, tally, i);
                    _exit(0);
                }
            }
            for (uint32_t i = 0; i < CLIENTS; i++) {
                random = hash_u64(random + 1);
                sleep_ms((long)(random % 80));
                kill(pids[i], SIGKILL);
                waitpid(pids[i], NULL, 0);
            }
        }
        check_counters(&server, tally);
        for (uint32_t i = 0; i < CLIENTS; i++)
            cr_assert_gt(atomic_load(&tally->acknowledged[i]), 0);
        server_end(&server, SIGTERM);
        server_fini(&server);
    }
}

/* ---- what callers are told ---- */

Test(remote_kill, a_request_ends_when_the_node_stays_away, .timeout = 60)
{
    struct server server;
    server_init(&server, LINK_TCP, (struct db_config){.worker_count = 1, .partition_count = 8});
    make_counters(&server);
    struct fixture far;
    far_init(&far, &server, 700);
    server_end(&server, SIGKILL);
    struct timespec begin, end;
    int64_t balance;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    cr_assert_eq(account_balance(&far, 1, 1, &balance), ERR_TIMEOUT);
    enum err err = account_create(&far, 1, 1000, 1);
    cr_assert(err == ERR_TIMEOUT || err == ERR_OUTCOME_UNKNOWN, "%s", err_name(err));
    cr_assert_eq(account_create(&far, 1, 1001, 1), ERR_TIMEOUT);
    cr_assert_eq(db_flush(far.client), ERR_TIMEOUT);
    char *json;
    cr_assert_eq(db_status_json(far.client, &json), ERR_NONE, "each worker's part is null");
    free(json);
    clock_gettime(CLOCK_MONOTONIC, &end);
    cr_assert_lt(end.tv_sec - begin.tv_sec, 20);
    /* And works again when it is back. */
    server_start(&server);
    cr_assert_eq(account_balance(&far, 1, 1, &balance), ERR_NONE);
    far_fini(&far);
    server_end(&server, SIGTERM);
    server_fini(&server);
}

Test(remote_kill, a_flush_tells_once_that_acknowledged_changes_were_lost, .timeout = 60)
{
    struct server server;
    server_init(
        &server, LINK_TCP,
        (struct db_config){.worker_count = 1, .partition_count = 8, .flush_interval_ms = 3600000});
    make_counters(&server);
    struct fixture far;
    far_init(&far, &server, 10000);
    cr_assert_eq(account_create(&far, 1, 2000, 1), ERR_NONE);
    server_end(&server, SIGTERM);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_NONE, "a stop in order loses nothing");
    cr_assert_eq(account_create(&far, 1, 2001, 1), ERR_NONE);
    server_end(&server, SIGKILL);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_IO);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    int64_t balance;
    cr_assert_eq(account_balance(&far, 1, 2000, &balance), ERR_NONE);
    cr_assert_eq(account_balance(&far, 1, 2001, &balance), ERR_NOT_FOUND);
    /* What was flushed is not lost. */
    cr_assert_eq(account_create(&far, 1, 2002, 1), ERR_NONE);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    server_end(&server, SIGKILL);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    cr_assert_eq(account_balance(&far, 1, 2002, &balance), ERR_NONE);
    far_fini(&far);
    server_end(&server, SIGTERM);
    server_fini(&server);
}

/* A life of the node that no client sees: it listens where nobody looks. */
static void server_live_unseen(struct server *server, int how)
{
    struct port_address usual = server->address;
    server->address.port = 0;
    server_start(server);
    server_end(server, how);
    server->address = usual;
}

Test(remote_kill, a_loss_that_no_client_saw_happen_is_told_all_the_same, .timeout = 60)
{
    struct server server;
    server_init(
        &server, LINK_TCP,
        (struct db_config){.worker_count = 1, .partition_count = 8, .flush_interval_ms = 3600000});
    make_counters(&server);
    struct fixture far;
    far_init(&far, &server, 10000);
    /* Clean ends alone lose nothing, however many of them are missed. */
    cr_assert_eq(account_create(&far, 1, 2000, 1), ERR_NONE);
    server_end(&server, SIGTERM);
    server_live_unseen(&server, SIGTERM);
    server_live_unseen(&server, SIGTERM);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    /* The node dies with a change, starts, ends in order, and starts. */
    cr_assert_eq(account_create(&far, 1, 2001, 1), ERR_NONE);
    server_end(&server, SIGKILL);
    server_live_unseen(&server, SIGTERM);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_IO);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    int64_t balance;
    cr_assert_eq(account_balance(&far, 1, 2000, &balance), ERR_NONE);
    cr_assert_eq(account_balance(&far, 1, 2001, &balance), ERR_NOT_FOUND);
    /* What was flushed stays, and a life that dies without having done anything loses nothing. */
    cr_assert_eq(account_create(&far, 1, 2002, 1), ERR_NONE);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    server_end(&server, SIGKILL);
    server_live_unseen(&server, SIGKILL);
    server_start(&server);
    cr_assert_eq(db_flush(far.client), ERR_NONE);
    cr_assert_eq(account_balance(&far, 1, 2002, &balance), ERR_NONE);
    far_fini(&far);
    server_end(&server, SIGTERM);
    server_fini(&server);
}

/* Ports that the system chose are known from what worker 0 tells. */
Test(remote_kill, a_worker_that_comes_back_at_another_port_is_found_there, .timeout = 60)
{
    struct server server;
    server_init(&server, LINK_TCP, (struct db_config){.worker_count = 2, .partition_count = 8});
    make_counters(&server);
    struct fixture far;
    far_init(&far, &server, 10000);
    int64_t balance;
    for (uint16_t slot = 0; slot < SLOT_COUNT; slot++)
        cr_assert_eq(account_balance(&far, slot, 1, &balance), ERR_NONE);
    /* It comes back at the port behind worker 0's. */
    for (int round = 0; round < 2; round++) {
        server_end(&server, round ? SIGKILL : SIGTERM);
        server_start(&server);
        for (uint16_t slot = 0; slot < SLOT_COUNT; slot++) {
            enum err err = account_balance(&far, slot, 1, &balance);
            cr_assert_eq(err, ERR_NONE, "slot %u: %s", (unsigned)slot, err_name(err));
        }
    }
    far_fini(&far);
    server_end(&server, SIGTERM);
    server_fini(&server);
}
