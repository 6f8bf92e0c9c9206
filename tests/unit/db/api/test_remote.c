/* A database reached over links, in one process: everything the client library does, over every
 * transport that each host has. (test_run.c and test_query_api.c run over links as well, see
 * fixture.h.) */
#include "tests/unit/db/api/remote_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static void sleep_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

Test(remote, programs_run_and_both_sides_see_the_same)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        cr_assert_eq(db_worker_count(fx.far.db), 2);
        cr_assert_eq(db_loop_count(fx.far.db), 0);
        cr_assert_eq(db_partition_count(fx.far.db), 8);
        for (uint16_t slot = 0; slot < 16; slot++)
            cr_assert_eq(db_slot_worker(fx.far.db, slot), db_slot_worker(fx.node.db, slot));
        uint8_t near_key[16], far_key[16];
        db_store_key(fx.node.db, near_key);
        db_store_key(fx.far.db, far_key);
        cr_assert_eq(memcmp(near_key, far_key, 16), 0);
        cr_assert_eq(db_health(fx.far.db, NULL), ERR_NONE);
        int64_t balance = 0;
        for (uint32_t id = 0; id < 20; id++)
            cr_assert_eq(account_create(&fx.far, (uint16_t)id, id, 100 + id), ERR_NONE);
        for (uint32_t id = 0; id < 20; id++) {
            cr_assert_eq(account_balance(&fx.far, (uint16_t)id, id, &balance), ERR_NONE);
            cr_assert_eq(balance, 100 + id);
            cr_assert_eq(account_balance(&fx.node, (uint16_t)id, id, &balance), ERR_NONE);
            cr_assert_eq(balance, 100 + id);
        }
        cr_assert_eq(account_create(&fx.far, 3, 3, 1), ERR_EXISTS);
        cr_assert_eq(db_flush(fx.far.client), ERR_NONE);
        cr_assert_eq(db_checkpoint(fx.far.client), ERR_NONE);
        remote_end(&fx);
    }
}

Test(remote, large_programs_and_answers_pass)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        char note[401] = ""; /* 100 characters of 4 bytes */
        for (int i = 0; i < 100; i++)
            strcat(note, "\xf0\x9f\x98\x80");
        enum { ROWS = 8000 };
        for (uint32_t id = 0; id < ROWS;) {
            program_begin(&fx.far.program);
            program_section(&fx.far.program, 1);
            for (uint32_t i = 0; i < PROGRAM_STEPS_MAX; i++, id++) {
                struct operand values[4] = {
                    operand_value(value_u64(1)), operand_value(value_u64(id)),
                    operand_value(value_i64(1)), operand_value(value_text(note))};
                program_insert(&fx.far.program, fx.far.account, values, ERR_EXISTS);
            }
            enum err err = db_run(fx.far.client, &fx.far.program, &fx.far.reply);
            cr_assert_eq(err, ERR_NONE, "%s", err_name(err));
        }
        struct operand key[1] = {operand_value(value_u64(1))};
        uint16_t columns[2] = {ACCOUNT_ID, ACCOUNT_NOTE};
        program_begin(&fx.far.program);
        program_section(&fx.far.program, 1);
        uint8_t step = program_scan(&fx.far.program, fx.far.account, 0, key, 1, NULL, 0, false,
                                    PROGRAM_SCAN_LIMIT_MAX);
        program_output(&fx.far.program, columns, 2);
        cr_assert_eq(db_run(fx.far.client, &fx.far.program, &fx.far.reply), ERR_NONE);
        cr_assert_eq(fx.far.reply.steps[step].row_count, ROWS);
        cr_assert_eq(program_row(&fx.far.reply, step, ROWS - 1)[0].u, ROWS - 1);
        remote_end(&fx);
    }
}

/* ---- definitions ---- */

Test(remote, definitions_are_made_from_afar_and_changes_are_noticed)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        struct diag diag = {0};
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        struct table_def account, inode;
        struct column_def account_columns[4], inode_columns[4];
        fixture_tables(&account, account_columns, &inode, inode_columns);
        strcpy(account.name, "second");
        cr_assert_eq(db_create_table(fx.far.client, &account, &diag), ERR_NONE, "%s", diag.text);
        const struct catalog *catalog = db_catalog_acquire(fx.far.db);
        cr_assert_not_null(catalog_find(catalog, "bank", "second"));
        db_catalog_release(fx.far.db, catalog);
        catalog = db_catalog_acquire(fx.node.db);
        cr_assert_not_null(catalog_find(catalog, "bank", "second"));
        db_catalog_release(fx.node.db, catalog);
        cr_assert_eq(db_create_table(fx.far.client, &account, &diag), ERR_EXISTS);
        /* What the near side makes becomes known by itself. */
        strcpy(account.name, "third");
        cr_assert_eq(db_create_table(fx.node.client, &account, &diag), ERR_NONE, "%s", diag.text);
        bool known = false;
        for (int tries = 0; tries < 3000 && !known; tries++) {
            db_poll(fx.far.client, 1);
            catalog = db_catalog_acquire(fx.far.db);
            known = catalog_find(catalog, "bank", "third") != NULL;
            db_catalog_release(fx.far.db, catalog);
        }
        cr_assert(known);
        cr_assert_gt(strlen(diag.text), 0);

        /* The near side changes a table: the far one's programs are refused once, and its catalog
         * is the new one by then. */
        struct index_def index = {
            .name = "by_balance", .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}};
        cr_assert_eq(account_create(&fx.far, 1, 1, 50), ERR_NONE);
        cr_assert_eq(db_create_index(fx.node.client, "bank", "account", &index, &diag), ERR_NONE);
        cr_assert_eq(account_create(&fx.far, 2, 2, 50), ERR_SCHEMA_CHANGED);
        fixture_catalog(&fx.far);
        cr_assert_eq(fx.far.account->index_count, 2);
        cr_assert_eq(account_create(&fx.far, 2, 2, 50), ERR_NONE);
        cr_assert_eq(db_drop_index(fx.far.client, "bank", "account", "by_balance", &diag),
                     ERR_NONE);
        fixture_catalog(&fx.far);
        cr_assert_eq(fx.far.account->index_count, 1);
        cr_assert_eq(db_drop_table(fx.far.client, "bank", "second", &diag), ERR_NONE);
        remote_end(&fx);
    }
}

/* ---- status ---- */

Test(remote, status_shows_the_links_of_every_worker)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        cr_assert_eq(account_create(&fx.far, 1, 1, 50), ERR_NONE);
        char *json = NULL;
        cr_assert_eq(db_status_json(fx.far.client, &json), ERR_NONE);
        cr_assert_not_null(strstr(json, "\"workers\": 2"));
        cr_assert_not_null(strstr(json, "\"port\": {"));
        cr_assert_not_null(strstr(json, "\"registered_bytes\": "));
        cr_assert_not_null(strstr(json, "\"links\": [{"));
        cr_assert_not_null(strstr(json, "\"messages_received\": "));
        cr_assert_not_null(strstr(json, kind ? "\"kind\": \"shm\"" : "\"kind\": \"tcp\""));
        free(json);
        cr_assert_eq(db_status_json(fx.node.client, &json), ERR_NONE);
        cr_assert_not_null(strstr(json, "\"links\": [{"));
        free(json);
        remote_end(&fx);
    }
}

/* ---- loops ---- */

struct looping {
    struct remote_fixture *fx;
    struct db_watch watch;
    struct db_client *client;
    struct program program;
    struct program_reply reply;
    uint16_t loop;
    uint32_t next;
    atomic_uint runs, submitted, done;
    atomic_int failed;
    atomic_bool ended;
};

static void looping_submitted(void *context, struct program_reply *reply)
{
    struct looping *at = context;
    if (reply->err) atomic_store(&at->failed, (int)reply->err);
    atomic_fetch_add(&at->done, 1);
}

static bool looping_ready(struct db_watch *watch)
{
    struct looping *at = watch->context;
    char bytes[16];
    ssize_t got = read(watch->fd, bytes, sizeof(bytes));
    for (ssize_t i = 0; i < got; i++) {
        uint16_t slot = (uint16_t)(at->next % 8);
        uint32_t id = at->loop * 100000u + at->next++;
        program_begin(&at->program);
        program_section(&at->program, slot);
        account_insert(&at->program, at->fx->far.account, slot, id, 1);
        if (bytes[i] == 'r') {
            enum err err = db_run(at->client, &at->program, &at->reply);
            if (err) atomic_store(&at->failed, (int)err);
            atomic_fetch_add(&at->runs, 1);
        } else {
            enum err err = db_submit(at->client, &at->program, looping_submitted, at);
            if (err) atomic_store(&at->failed, (int)err);
            atomic_fetch_add(&at->submitted, 1);
        }
    }
    return got > 0;
}

static void looping_begin(void *context)
{
    struct looping *at = context;
    program_init(&at->program);
    program_reply_init(&at->reply);
    enum err err = db_client_on_worker(at->fx->far.db, at->loop, &at->client);
    if (!err) err = db_watch(at->fx->far.db, at->loop, &at->watch);
    if (err) atomic_store(&at->failed, (int)err);
    atomic_store(&at->ended, err != ERR_NONE);
}

static void looping_end(void *context)
{
    struct looping *at = context;
    db_client_destroy(at->client);
    program_fini(&at->program);
    program_reply_fini(&at->reply);
    atomic_store(&at->ended, true);
}

Test(remote, loops_watch_and_run_programs)
{
    enum { LOOPS = 2, EACH = 300 };
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        remote_begin(&fx, remote_kinds[kind], 2, LOOPS);
        cr_assert_eq(db_loop_count(fx.far.db), LOOPS);
        struct looping at[LOOPS];
        int pipes[LOOPS][2];
        memset(at, 0, sizeof(at));
        struct db_client *none;
        cr_assert_eq(db_client_on_worker(fx.far.db, 0, &none), ERR_INVALID, "not its thread");
        cr_assert_eq(db_client_on_worker(fx.far.db, LOOPS, &none), ERR_INVALID);
        cr_assert_eq(db_post(fx.far.db, LOOPS, looping_begin, &at[0]), ERR_INVALID);
        for (uint16_t i = 0; i < LOOPS; i++) {
            cr_assert_eq(pipe(pipes[i]), 0);
            cr_assert_eq(fcntl(pipes[i][0], F_SETFL, O_NONBLOCK), 0);
            at[i].fx = &fx;
            at[i].loop = i;
            at[i].watch =
                (struct db_watch){.fd = pipes[i][0], .ready = looping_ready, .context = &at[i]};
            cr_assert_eq(db_post(fx.far.db, i, looping_begin, &at[i]), ERR_NONE);
        }
        for (int n = 0; n < EACH; n++)
            for (int i = 0; i < LOOPS; i++)
                cr_assert_eq(write(pipes[i][1], n % 3 ? "r" : "s", 1), 1);
        double until = seconds() + 30;
        for (int i = 0; i < LOOPS; i++) {
            while (atomic_load(&at[i].runs) + atomic_load(&at[i].done) < EACH && seconds() < until)
                sleep_ms(1);
            cr_assert_eq(atomic_load(&at[i].failed), 0, "%s",
                         err_name((enum err)atomic_load(&at[i].failed)));
            cr_assert_eq(atomic_load(&at[i].runs), EACH - EACH / 3);
            cr_assert_eq(atomic_load(&at[i].done), EACH / 3);
            close(pipes[i][1]); /* ends the watch */
            cr_assert_eq(db_post(fx.far.db, (uint16_t)i, looping_end, &at[i]), ERR_NONE);
            while (!atomic_load(&at[i].ended))
                sleep_ms(1);
            close(pipes[i][0]);
        }
        int64_t balance;
        for (uint32_t n = 0; n < EACH; n++)
            for (uint32_t i = 0; i < LOOPS; i++)
                cr_assert_eq(account_balance(&fx.node, (uint16_t)(n % 8), i * 100000 + n, &balance),
                             ERR_NONE);
        remote_end(&fx);
    }
}

/* ---- who may come in ---- */

Test(remote, a_wrong_secret_is_denied_at_once)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        struct diag diag = {0};
        remote_begin(&fx, remote_kinds[kind], 1, 0);
        uint8_t right[PORT_SECRET_SIZE];
        memcpy(right, fx.secret, sizeof(right));
        fx.secret[0] ^= 1;
        struct db *db = NULL;
        double begin = seconds();
        cr_assert_eq(far_connect(&fx, 0, &db, &diag), ERR_DENIED, "%s", diag.text);
        cr_assert_lt(seconds() - begin, 4);
        cr_assert_gt(strlen(diag.text), 0);
        cr_assert_null(db);
        struct port_address again = address_for(LINK_TCP, "");
        cr_assert_eq(db_listen(fx.node.db, &again, fx.secret, NULL, &diag), ERR_INVALID,
                     "one secret for all addresses");
        memcpy(fx.secret, right, sizeof(right));
        cr_assert_eq(account_create(&fx.far, 1, 1, 1), ERR_NONE);
        remote_end(&fx);
    }
}

Test(remote, nobody_there_is_a_timeout_with_a_reason)
{
    struct diag diag = {0};
    struct db *db = NULL;
    struct port_address nobody[2] = {address_for(LINK_TCP, ""), address_for(LINK_SHM, "/nowhere")};
    nobody[0].port = 1;
    struct db_connect_config config = {.addresses = nobody, .address_count = 2, .timeout_ms = 300};
    double begin = seconds();
    cr_assert_eq(db_connect(&config, &db, &diag), ERR_TIMEOUT);
    double took = seconds() - begin;
    cr_assert(took >= 0.29 && took < 5, "%f s", took);
    cr_assert_not_null(strstr(diag.text, "tcp:127.0.0.1:1"), "%s", diag.text);
    config.address_count = 0;
    cr_assert_eq(db_connect(&config, &db, &diag), ERR_INVALID);
    cr_assert_null(db);
}

Test(remote, addresses_are_tried_in_turn)
{
    struct remote_fixture fx;
    struct diag diag = {0};
    remote_begin(&fx, LINK_TCP, 2, 0);
    node_listen_at(&fx, LINK_SHM);
    struct port_address addresses[3] = {address_for(LINK_TCP, ""),
                                        address_for(LINK_SHM, "/nowhere"), fx.bound};
    addresses[0].port = 1;
    struct db_connect_config config = {
        .addresses = addresses, .address_count = 3, .timeout_ms = 5000};
    memcpy(config.secret, fx.secret, sizeof(config.secret));
    struct db *db = NULL;
    cr_assert_eq(db_connect(&config, &db, &diag), ERR_NONE, "%s", diag.text);
    struct db_client *client;
    cr_assert_eq(db_client_create(db, &client), ERR_NONE);
    cr_assert_eq(db_flush(client), ERR_NONE);
    struct port_address none = address_for(LINK_TCP, "");
    cr_assert_eq(db_listen(db, &none, fx.secret, NULL, &diag), ERR_UNSUPPORTED);
    db_client_destroy(client);
    cr_assert_eq(db_close(db, &diag), ERR_NONE);
    remote_end(&fx);
}

/* ---- many ---- */

struct crowd {
    struct remote_fixture *fx;
    uint32_t number;
    bool own_connection;
    enum err err;
};

static void *crowd_run(void *context)
{
    struct crowd *one = context;
    struct db *db = one->fx->far.db;
    struct diag diag;
    struct db_client *client;
    struct program program;
    struct program_reply reply;
    program_init(&program);
    program_reply_init(&reply);
    if (one->own_connection) one->err = far_connect(one->fx, 0, &db, &diag);
    if (!one->err) one->err = db_client_create(db, &client);
    if (!one->err) {
        for (uint32_t i = 0; i < 50 && !one->err; i++) {
            uint16_t slot = (uint16_t)(i % 8);
            program_begin(&program);
            program_section(&program, slot);
            account_insert(&program, one->fx->far.account, slot, one->number * 1000 + i, 1);
            one->err = db_run(client, &program, &reply);
        }
        db_client_destroy(client);
    }
    if (one->own_connection && db && !one->err) one->err = db_close(db, &diag);
    program_fini(&program);
    program_reply_fini(&reply);
    return NULL;
}

Test(remote, many_clients_at_once_and_none_of_them_stays)
{
    enum { CROWD = 40 };
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        static struct crowd crowd[CROWD];
        pthread_t threads[CROWD];
        for (uint32_t i = 0; i < CROWD; i++) {
            crowd[i] = (struct crowd){.fx = &fx, .number = i, .own_connection = i % 2};
            cr_assert_eq(pthread_create(&threads[i], NULL, crowd_run, &crowd[i]), 0);
        }
        for (uint32_t i = 0; i < CROWD; i++) {
            pthread_join(threads[i], NULL);
            cr_assert_eq(crowd[i].err, ERR_NONE, "client %u: %s", i, err_name(crowd[i].err));
        }
        int64_t balance;
        for (uint32_t i = 0; i < CROWD; i++)
            for (uint32_t k = 0; k < 50; k++)
                cr_assert_eq(account_balance(&fx.node, (uint16_t)(k % 8), i * 1000 + k, &balance),
                             ERR_NONE);
        /* They said that they end: nothing is remembered of them. */
        char *json = NULL;
        for (int tries = 0; tries < 500; tries++) {
            free(json);
            cr_assert_eq(db_status_json(fx.far.client, &json), ERR_NONE);
            if (strstr(json, "\"sessions\": 1,") && !strstr(json, "\"links_up\": 2")) break;
            sleep_ms(10);
        }
        cr_assert_not_null(strstr(json, "\"sessions\": 1,"), "%s", json);
        cr_assert_not_null(strstr(json, "\"sessions_gone\": 0"), "%s", json);
        free(json);
        remote_end(&fx);
    }
}
