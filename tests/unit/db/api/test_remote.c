/* A database reached over links: a node that listens and a second `struct db` that is connected to
 * it, in one process, over every transport that the host has. */
#include "tests/unit/db/api/fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct remote_fixture {
    struct fixture node;
    struct fixture far; /* its db is connected; client, catalog and tables are the far side's */
    struct port_address bound;
    uint8_t secret[PORT_SECRET_SIZE];
};

static enum err far_connect(struct remote_fixture *fx, uint16_t loops, struct db **ret_db,
                            struct diag *diag)
{
    struct db_connect_config config = {
        .addresses = &fx->bound, .address_count = 1, .loop_count = loops, .timeout_ms = 3000};
    memcpy(config.secret, fx->secret, sizeof(config.secret));
    return db_connect(&config, ret_db, diag);
}

static void listen_at(struct remote_fixture *fx, enum link_kind kind)
{
    struct diag diag = {0};
    struct port_address address = {.kind = kind};
    strcpy(address.host, "127.0.0.1");
    snprintf(address.path, sizeof(address.path), "%s/link", fx->node.dir);
    enum err err = db_listen(fx->node.db, &address, fx->secret, &fx->bound, &diag);
    cr_assert_eq(err, ERR_NONE, "listen: %s", diag.text);
}

static void far_open(struct remote_fixture *fx, uint16_t loops)
{
    struct diag diag = {0};
    memset(&fx->far, 0, sizeof(fx->far));
    program_init(&fx->far.program);
    program_reply_init(&fx->far.reply);
    enum err err = far_connect(fx, loops, &fx->far.db, &diag);
    cr_assert_eq(err, ERR_NONE, "connect: %s", diag.text);
    cr_assert_eq(db_client_create(fx->far.db, &fx->far.client), ERR_NONE);
    fixture_catalog(&fx->far);
    cr_assert_not_null(fx->far.account);
}

static void far_close(struct remote_fixture *fx)
{
    fixture_close(&fx->far);
    program_fini(&fx->far.program);
    program_reply_fini(&fx->far.reply);
}

static void begin(struct remote_fixture *fx, enum link_kind kind, uint16_t workers, uint16_t loops)
{
    memset(fx->secret, 7, sizeof(fx->secret));
    fixture_init(&fx->node, (struct db_config){.worker_count = workers, .partition_count = 8});
    listen_at(fx, kind);
    far_open(fx, loops);
}

static void end(struct remote_fixture *fx)
{
    far_close(fx);
    fixture_fini(&fx->node);
}

Test(remote, programs_run_over_tcp)
{
    struct remote_fixture fx;
    begin(&fx, LINK_TCP, 2, 0);
    cr_assert_eq(db_worker_count(fx.far.db), 2);
    cr_assert_eq(db_partition_count(fx.far.db), 8);
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
    end(&fx);
}
