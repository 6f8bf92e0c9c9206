/* A node that listens, and a second `struct db` in the same process that is connected to it. */
#ifndef TESTS_UNIT_DB_API_REMOTE_FIXTURE_H
#define TESTS_UNIT_DB_API_REMOTE_FIXTURE_H

#include "tests/unit/db/api/fixture.h"

static const enum link_kind remote_kinds[] = {LINK_TCP, LINK_SHM};

struct remote_fixture {
    struct fixture node;
    struct fixture far; /* its db is connected; client, catalog and tables are the far side's */
    struct port_address bound;
    uint8_t secret[PORT_SECRET_SIZE];
};

static inline struct port_address address_for(enum link_kind kind, const char *dir)
{
    struct port_address address = {.kind = kind};
    if (kind == LINK_TCP)
        strcpy(address.host, "127.0.0.1");
    else
        snprintf(address.path, sizeof(address.path), "%s/link", dir);
    return address;
}

static inline enum err far_connect(struct remote_fixture *fx, uint16_t loops, struct db **ret_db,
                                   struct diag *diag)
{
    struct db_connect_config config = {
        .addresses = &fx->bound, .address_count = 1, .loop_count = loops, .timeout_ms = 5000};
    memcpy(config.secret, fx->secret, sizeof(config.secret));
    return db_connect(&config, ret_db, diag);
}

static inline void node_listen_at(struct remote_fixture *fx, enum link_kind kind)
{
    struct diag diag = {0};
    struct port_address address = address_for(kind, fx->node.dir);
    enum err err = db_listen(fx->node.db, &address, fx->secret, &fx->bound, &diag);
    cr_assert_eq(err, ERR_NONE, "listen: %s", diag.text);
}

static inline void far_open(struct remote_fixture *fx, uint16_t loops)
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

static inline void far_close(struct remote_fixture *fx)
{
    fixture_close(&fx->far);
    program_fini(&fx->far.program);
    program_reply_fini(&fx->far.reply);
}

static inline void remote_begin(struct remote_fixture *fx, enum link_kind kind, uint16_t workers,
                                uint16_t loops)
{
    memset(fx->secret, 7, sizeof(fx->secret));
    fixture_init(&fx->node, (struct db_config){.worker_count = workers, .partition_count = 8});
    node_listen_at(fx, kind);
    far_open(fx, loops);
}

static inline void remote_end(struct remote_fixture *fx)
{
    far_close(fx);
    fixture_fini(&fx->node);
}

#endif
