/* A listening node and peers that know the secret and misbehave: they speak to it through a port of
 * their own, below the client library. Only their own link may suffer. */
#include <time.h>

#include "base/hash.h"
#include "db/node/mailbox.h"
#include "db/wire/info.h"
#include "tests/unit/db/api/remote_fixture.h"

/* A peer made by hand. */
struct peer {
    struct port *port;
    struct link *link;
    uint64_t client;
    unsigned ups;
    unsigned downs;
    unsigned messages;
    uint16_t last_type;
    uint16_t last_err;
    uint64_t last_request;
    uint64_t last_value; /* the commit timestamp of a program's reply */
    struct diag reason;
};

static enum err peer_up(void *context, struct link *link)
{
    struct peer *peer = context;
    (void)link;
    peer->ups++;
    return ERR_NONE;
}

static void peer_down(void *context, struct link *link, const struct diag *reason)
{
    struct peer *peer = context;
    (void)link;
    peer->downs++;
    peer->reason = *reason;
}

static void *peer_alloc(void *context, struct link *link, uint32_t size)
{
    (void)context, (void)link;
    return malloc(size);
}

static void peer_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct peer *peer = context;
    const struct signal_header *header = message;
    (void)link;
    cr_assert_geq(size, sizeof(*header));
    peer->messages++;
    peer->last_type = header->type;
    peer->last_err = header->err;
    peer->last_request = header->request;
    peer->last_value = 0;
    if (size >= sizeof(*header) + PROGRAM_REPLY_HEADER_SIZE)
        memcpy(&peer->last_value, (const uint8_t *)message + sizeof(*header) + 3, 8);
    free(message);
}

static void peer_release(void *context, struct link *link, void *message)
{
    (void)context, (void)link;
    free(message);
}

static const struct port_events peer_events = {
    .up = peer_up,
    .down = peer_down,
    .alloc = peer_alloc,
    .message = peer_message,
    .release = peer_release,
};

static void peer_make(struct peer *peer, const struct remote_fixture *fx, uint64_t client)
{
    struct diag diag = {0};
    memset(peer, 0, sizeof(*peer));
    peer->client = client;
    struct port_config config = {.events = &peer_events, .context = peer};
    memcpy(config.secret, fx->secret, sizeof(config.secret));
    cr_assert_eq(port_create(&config, &peer->port, &diag), ERR_NONE, "%s", diag.text);
}

static void peer_connect_as(struct peer *peer, const struct remote_fixture *fx, const void *hello,
                            size_t hello_size)
{
    struct diag diag = {0};
    struct port_address address = fx->bound;
    if (address.kind == LINK_SHM) strcat(address.path, ".0");
    struct link_options options = {
        .once = true, .report_failures = true, .hello = hello, .hello_size = (uint8_t)hello_size};
    cr_assert_eq(port_connect(peer->port, &address, &options, &peer->link, &diag), ERR_NONE, "%s",
                 diag.text);
    unsigned ups = peer->ups, downs = peer->downs;
    for (int i = 0; i < 1000 && peer->ups == ups && peer->downs == downs; i++)
        port_wait(peer->port, 10000000);
}

static void peer_connect(struct peer *peer, const struct remote_fixture *fx)
{
    uint8_t hello[GREETING_CLIENT_SIZE];
    struct greeting_client greeting = {.client = peer->client};
    greeting_client_encode(&greeting, hello);
    unsigned ups = peer->ups;
    peer_connect_as(peer, fx, hello, sizeof(hello));
    cr_assert_eq(peer->ups, ups + 1, "%s", peer->reason.text);
}

static void peer_end(struct peer *peer)
{
    port_destroy(peer->port);
}

static void peer_send(struct peer *peer, const struct signal_header *header, const void *body,
                      uint32_t body_size)
{
    struct link_piece pieces[2] = {{header, sizeof(*header)}, {body, body_size}};
    cr_assert_eq(link_send(peer->link, pieces, body_size ? 2 : 1), ERR_NONE);
    port_flush(peer->port);
}

static struct signal_header header_of(const struct peer *peer, enum signal_type type,
                                      uint64_t request, uint32_t body_size)
{
    return (struct signal_header){.size = (uint32_t)sizeof(struct signal_header) + body_size,
                                  .type = (uint16_t)type,
                                  .version = SIGNAL_VERSION,
                                  .request = request,
                                  .client = peer->client};
}

static void peer_introduce(struct peer *peer, uint64_t before)
{
    struct signal_header header = header_of(peer, SIGNAL_SESSION_OPEN, 0, sizeof(before));
    peer_send(peer, &header, &before, sizeof(before));
}

static void peer_wait_message(struct peer *peer)
{
    unsigned before = peer->messages, downs = peer->downs;
    for (int i = 0; i < 1000 && peer->messages == before && peer->downs == downs; i++)
        port_wait(peer->port, 10000000);
    cr_assert_gt(peer->messages, before, "%s", peer->reason.text);
}

static void peer_wait_down(struct peer *peer)
{
    unsigned before = peer->downs;
    for (int i = 0; i < 1000 && peer->downs == before; i++)
        port_wait(peer->port, 10000000);
    cr_assert_gt(peer->downs, before);
}

/* What the account's program adds, as bytes. */
static void put_add(struct remote_fixture *fx, struct arena *arena, uint16_t slot, uint32_t id)
{
    program_begin(&fx->far.program);
    program_section(&fx->far.program, slot);
    account_add(&fx->far.program, fx->far.account, arena, slot, id, 1);
    cr_assert_eq(program_finish(&fx->far.program), ERR_NONE);
}

static void expect_others_work(struct remote_fixture *fx, int64_t balance)
{
    int64_t got;
    cr_assert_eq(account_balance(&fx->far, 1, 1, &got), ERR_NONE);
    cr_assert_eq(got, balance);
}

Test(links, a_change_is_done_once_however_often_it_is_sent)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        struct arena arena;
        struct peer peer;
        arena_init(&arena, 0);
        remote_begin(&fx, remote_kinds[kind], 1, 0);
        cr_assert_eq(account_create(&fx.far, 1, 1, 0), ERR_NONE);
        put_add(&fx, &arena, 1, 1);
        const struct buf *bytes = &fx.far.program.buf;
        peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 77);
        peer_connect(&peer, &fx);
        peer_introduce(&peer, 0);
        struct signal_header header = header_of(&peer, SIGNAL_PROGRAM, 10, (uint32_t)bytes->size);
        peer_send(&peer, &header, bytes->bytes, (uint32_t)bytes->size);
        peer_wait_message(&peer);
        cr_assert_eq(peer.last_type, SIGNAL_PROGRAM_REPLY);
        cr_assert_eq(peer.last_err, ERR_NONE);
        uint64_t ts = peer.last_value;
        cr_assert_gt(ts, 0);
        /* Again over the same link, and over the next ones. */
        for (int i = 0; i < 3; i++) {
            header.type = SIGNAL_PROGRAM_AGAIN;
            peer_send(&peer, &header, bytes->bytes, (uint32_t)bytes->size);
            peer_wait_message(&peer);
            cr_assert_eq(peer.last_type, SIGNAL_PROGRAM_REPLY);
            cr_assert_eq(peer.last_err, ERR_NONE);
            cr_assert_eq(peer.last_request, 10);
            cr_assert_eq(peer.last_value, ts, "the first answer");
            link_close(peer.link);
            peer_connect(&peer, &fx);
            peer_introduce(&peer, 10);
        }
        expect_others_work(&fx, 1);
        /* A number that was never seen is run, also as a repetition. */
        put_add(&fx, &arena, 1, 1); /* the balance's program was in the same buffer */
        header.request = 9;
        peer_send(&peer, &header, bytes->bytes, (uint32_t)bytes->size);
        peer_wait_message(&peer);
        cr_assert_eq(peer.last_err, ERR_NONE);
        cr_assert_gt(peer.last_value, ts);
        expect_others_work(&fx, 2);
        peer_end(&peer);
        arena_fini(&arena);
        remote_end(&fx);
    }
}

Test(links, what_a_forgotten_session_had_done_is_unknown)
{
    struct remote_fixture fx;
    struct arena arena;
    struct peer peer;
    arena_init(&arena, 0);
    remote_begin(&fx, LINK_TCP, 1, 0);
    cr_assert_eq(account_create(&fx.far, 1, 1, 0), ERR_NONE);
    put_add(&fx, &arena, 1, 1);
    const struct buf *bytes = &fx.far.program.buf;
    peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 77);
    peer_connect(&peer, &fx);
    /* It says that it has sent up to 10 before, of which this node knows nothing. */
    peer_introduce(&peer, 10);
    struct signal_header header = header_of(&peer, SIGNAL_PROGRAM_AGAIN, 10, (uint32_t)bytes->size);
    peer_send(&peer, &header, bytes->bytes, (uint32_t)bytes->size);
    peer_wait_message(&peer);
    cr_assert_eq(peer.last_err, ERR_OUTCOME_UNKNOWN);
    expect_others_work(&fx, 0);
    /* What is new is run, and the client's end forgets it all. */
    put_add(&fx, &arena, 1, 1); /* the balance's program was in the same buffer */
    header = header_of(&peer, SIGNAL_PROGRAM, 11, (uint32_t)bytes->size);
    peer_send(&peer, &header, bytes->bytes, (uint32_t)bytes->size);
    peer_wait_message(&peer);
    cr_assert_eq(peer.last_err, ERR_NONE);
    header = header_of(&peer, SIGNAL_CLIENT_END, 0, 0);
    peer_send(&peer, &header, NULL, 0);
    link_close(peer.link);
    peer_end(&peer);
    expect_others_work(&fx, 1);
    arena_fini(&arena);
    remote_end(&fx);
}

Test(links, bad_greetings_are_refused_with_their_reason)
{
    struct remote_fixture fx;
    struct peer peer;
    remote_begin(&fx, LINK_TCP, 2, 0);
    peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 5);
    uint8_t hello[GREETING_CLIENT_SIZE];
    struct {
        struct greeting_client greeting;
        size_t size;
        uint8_t version_add;
        enum err err;
    } cases[] = {
        {{.client = 5}, GREETING_CLIENT_SIZE, 0, ERR_BAD_SIGNAL}, /* a local client's id */
        {{.client = CLIENT_REMOTE_BIT}, GREETING_CLIENT_SIZE - 1, 0, ERR_BAD_SIGNAL},
        {{.client = CLIENT_REMOTE_BIT}, 0, 0, ERR_BAD_SIGNAL},
        {{.client = CLIENT_REMOTE_BIT}, GREETING_CLIENT_SIZE, 1, ERR_VERSION},
        {{.client = CLIENT_REMOTE_BIT, .worker = 1}, GREETING_CLIENT_SIZE, 0, ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        greeting_client_encode(&cases[i].greeting, hello);
        hello[4] = (uint8_t)(hello[4] + cases[i].version_add);
        unsigned downs = peer.downs;
        peer_connect_as(&peer, &fx, cases[i].size ? hello : (const void *)"", cases[i].size);
        /* An acceptor refuses after the connector's handshake was done, or within it. */
        if (peer.downs == downs) peer_wait_down(&peer);
        cr_assert_eq(peer.reason.err, cases[i].err, "case %zu: %s: %s", i,
                     err_name(peer.reason.err), peer.reason.text);
        link_close(peer.link);
    }
    peer_end(&peer);
    remote_end(&fx);
}

static void expect_closed_for(struct remote_fixture *fx, struct peer *peer,
                              const struct signal_header *header, const void *body,
                              uint32_t body_size, bool introduce, const char *what)
{
    peer_connect(peer, fx);
    if (introduce) peer_introduce(peer, 0);
    unsigned downs = peer->downs;
    peer_send(peer, header, body, body_size);
    for (int i = 0; i < 1000 && peer->downs == downs; i++)
        port_wait(peer->port, 10000000);
    cr_assert_eq(peer->downs, downs + 1, "%s", what);
    link_close(peer->link);
}

Test(links, what_no_client_would_send_closes_that_link_only)
{
    for (size_t kind = 0; kind < ARRAY_SIZE(remote_kinds); kind++) {
        struct remote_fixture fx;
        struct peer peer;
        remote_begin(&fx, remote_kinds[kind], 2, 0);
        cr_assert_eq(account_create(&fx.far, 1, 1, 4), ERR_NONE);
        peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 6);
        uint64_t value = 1;
        struct signal_header header = header_of(&peer, SIGNAL_STATUS, 1, 0);
        expect_closed_for(&fx, &peer, &header, NULL, 0, false, "not introduced");
        header = header_of(&peer, SIGNAL_SESSION_OPEN, 0, 8);
        expect_closed_for(&fx, &peer, &header, &value, 8, true, "introduced twice");
        static const uint16_t foreign[] = {
            SIGNAL_PROGRAM_REPLY, SIGNAL_QUERY_MOVE,  SIGNAL_QUERY_MOVED, SIGNAL_PREPARE,
            SIGNAL_PREPARED,      SIGNAL_COMMIT,      SIGNAL_COMMITTED,   SIGNAL_ABORT,
            SIGNAL_DDL_REPLY,     SIGNAL_FLUSH_REPLY, SIGNAL_INFO_REPLY,  SIGNAL_TYPE_MAX};
        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
            header = header_of(&peer, (enum signal_type)foreign[i], 1, 0);
            expect_closed_for(&fx, &peer, &header, NULL, 0, true, "another's signal");
        }
        header = header_of(&peer, SIGNAL_STATUS, 1, 0);
        header.destination = 1;
        expect_closed_for(&fx, &peer, &header, NULL, 0, true, "to another worker");
        header.destination = ENDPOINT_CLIENT_FIRST;
        expect_closed_for(&fx, &peer, &header, NULL, 0, true, "to another client");
        header = header_of(&peer, SIGNAL_STATUS, 1, 0);
        header.client = CLIENT_REMOTE_BIT | 7;
        expect_closed_for(&fx, &peer, &header, NULL, 0, true, "in another's name");
        header = header_of(&peer, SIGNAL_STATUS, 1, 0);
        header.size++;
        expect_closed_for(&fx, &peer, &header, NULL, 0, true, "a wrong size");
        header = header_of(&peer, SIGNAL_STATUS, 1, 0);
        header.version = 9;
        expect_closed_for(&fx, &peer, &header, NULL, 0, true, "a wrong version");
        header = header_of(&peer, SIGNAL_FLUSH, 1, 8);
        expect_closed_for(&fx, &peer, &header, &value, 8, true, "a worker's flush");
        struct link_piece piece = {.bytes = &value, .size = 3};
        peer_connect(&peer, &fx);
        cr_assert_eq(link_send(peer.link, &piece, 1), ERR_NONE);
        port_flush(peer.port);
        peer_wait_down(&peer);
        link_close(peer.link);
        expect_others_work(&fx, 4);
        peer_end(&peer);
        remote_end(&fx);
    }
}

/* Random damage to signals of every type that a client may send. */
Test(links, damaged_signals_harm_nobody_else)
{
    struct remote_fixture fx;
    struct peer peer;
    struct arena arena;
    arena_init(&arena, 0);
    remote_begin(&fx, LINK_SHM, 2, 0);
    cr_assert_eq(account_create(&fx.far, 1, 1, 4), ERR_NONE);
    put_add(&fx, &arena, 2, 2); /* an account that is not there */
    struct buf program;
    buf_init(&program);
    buf_put(&program, fx.far.program.buf.bytes, fx.far.program.buf.size);
    peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 8);
    static const uint16_t types[] = {SIGNAL_PROGRAM,    SIGNAL_PROGRAM_AGAIN, SIGNAL_QUERY_OPEN,
                                     SIGNAL_QUERY_RUN,  SIGNAL_QUERY_MORE,    SIGNAL_QUERY_CLOSE,
                                     SIGNAL_DDL,        SIGNAL_DDL_AGAIN,     SIGNAL_FLUSH,
                                     SIGNAL_STATUS,     SIGNAL_CHECKPOINT,    SIGNAL_SESSION_OPEN,
                                     SIGNAL_CLIENT_END, SIGNAL_INFO};
    uint64_t random = 1;
    for (int round = 0; round < 3000; round++) {
        if (!peer.link || !link_is_up(peer.link)) {
            if (peer.link) link_close(peer.link);
            peer_connect(&peer, &fx);
            peer_introduce(&peer, hash_u64(random++) % 3 ? 0 : UINT64_MAX);
        }
        uint64_t r = hash_u64(random++);
        uint8_t body[2048];
        uint32_t size = (uint32_t)(r % 3 ? program.size : r / 3 % 64);
        memcpy(body, program.bytes, size);
        struct signal_header header =
            header_of(&peer, types[r / 7 % ARRAY_SIZE(types)], r / 1000 % 50, size);
        for (uint64_t flips = r / 200 % 4; flips; flips--) {
            uint64_t at = hash_u64(random++);
            if (size && at % 4)
                body[at / 4 % size] ^= (uint8_t)(1u << at / 8000 % 8);
            else if (at / 4 % 8 == 0)
                ((uint8_t *)&header)[at / 64 % sizeof(header)] ^= (uint8_t)(1u << at / 8000 % 8);
        }
        struct link_piece pieces[2] = {{&header, sizeof(header)}, {body, size}};
        enum err err = link_send(peer.link, pieces, size ? 2 : 1);
        cr_assert(err == ERR_NONE || err == ERR_CLOSED || err == ERR_BUSY);
        port_flush(peer.port);
        if (round % 16 == 0)
            port_wait(peer.port, 2000000);
        else
            port_poll(peer.port);
        if (round % 500 == 0) expect_others_work(&fx, 4);
    }
    cr_assert_gt(peer.ups, 4, "some were bad enough");
    expect_others_work(&fx, 4);
    buf_fini(&program);
    peer_end(&peer);
    arena_fini(&arena);
    remote_end(&fx);
}

/* A peer that asks much and takes nothing. */
Test(links, a_peer_that_does_not_take_its_answers_is_closed)
{
    struct remote_fixture fx;
    struct peer peer;
    remote_begin(&fx, LINK_TCP, 1, 0);
    cr_assert_eq(account_create(&fx.far, 1, 1, 4), ERR_NONE);
    peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 9);
    peer_connect(&peer, &fx);
    peer_introduce(&peer, 0);
    char note[401] = "";
    for (int i = 0; i < 100; i++)
        strcat(note, "\xf0\x9f\x98\x80");
    program_begin(&fx.far.program);
    program_section(&fx.far.program, 2);
    for (uint32_t i = 0; i < PROGRAM_STEPS_MAX; i++) {
        struct operand values[4] = {operand_value(value_u64(2)), operand_value(value_u64(i)),
                                    operand_value(value_i64(1)), operand_value(value_text(note))};
        program_insert(&fx.far.program, fx.far.account, values, ERR_EXISTS);
    }
    cr_assert_eq(db_run(fx.far.client, &fx.far.program, &fx.far.reply), ERR_NONE);
    struct operand key[1] = {operand_value(value_u64(2))};
    uint16_t column = ACCOUNT_NOTE;
    program_begin(&fx.far.program);
    program_section(&fx.far.program, 2);
    program_scan(&fx.far.program, fx.far.account, 0, key, 1, NULL, 0, false, PROGRAM_STEPS_MAX);
    program_output(&fx.far.program, &column, 1);
    cr_assert_eq(program_finish(&fx.far.program), ERR_NONE);
    const struct buf *bytes = &fx.far.program.buf;
    /* Each is answered with 25 KiB. */
    for (uint64_t i = 1; i <= 10000; i++) {
        struct signal_header header = header_of(&peer, SIGNAL_PROGRAM, i, (uint32_t)bytes->size);
        struct link_piece pieces[2] = {{&header, sizeof(header)},
                                       {bytes->bytes, (uint32_t)bytes->size}};
        if (link_send(peer.link, pieces, 2)) break;
        if (i % 500 == 0) port_flush(peer.port);
    }
    port_flush(peer.port);
    char *json = NULL;
    struct timespec pause = {.tv_nsec = 20000000};
    for (int i = 0; i < 500; i++) {
        free(json);
        cr_assert_eq(db_status_json(fx.node.client, &json), ERR_NONE);
        if (strstr(json, "\"links_closed_for_cause\": 1")) break;
        nanosleep(&pause, NULL);
    }
    cr_assert_not_null(strstr(json, "\"links_closed_for_cause\": 1"), "%s", json);
    free(json);
    expect_others_work(&fx, 4);
    peer_end(&peer);
    remote_end(&fx);
}

/* Queries of a client that is gone give their pins back. */
Test(links, the_queries_of_a_lost_link_are_forgotten)
{
    struct remote_fixture fx;
    struct peer peer;
    remote_begin(&fx, LINK_TCP, 1, 0);
    peer_make(&peer, &fx, CLIENT_REMOTE_BIT | 10);
    for (int way = 0; way < 2; way++) {
        peer_connect(&peer, &fx);
        peer_introduce(&peer, 0);
        for (uint64_t i = 1; i <= 5; i++) {
            struct signal_header header = header_of(&peer, SIGNAL_QUERY_OPEN, i, 0);
            peer_send(&peer, &header, NULL, 0);
            peer_wait_message(&peer);
            cr_assert_eq(peer.last_type, SIGNAL_QUERY_OPENED);
        }
        char *json;
        cr_assert_eq(db_status_json(fx.node.client, &json), ERR_NONE);
        cr_assert_not_null(strstr(json, "\"pins\": 5"), "%s", json);
        free(json);
        struct signal_header header = header_of(&peer, SIGNAL_CLIENT_END, 0, 0);
        if (way)
            peer_send(&peer, &header, NULL, 0);
        else
            link_close(peer.link);
        struct timespec pause = {.tv_nsec = 5000000};
        json = NULL;
        for (int i = 0; i < 1000; i++) {
            port_wait(peer.port, 1000000);
            free(json);
            cr_assert_eq(db_status_json(fx.node.client, &json), ERR_NONE);
            if (strstr(json, "\"pins\": 0")) break;
            nanosleep(&pause, NULL);
        }
        cr_assert_not_null(strstr(json, "\"pins\": 0"), "%s", json);
        free(json);
        if (way) link_close(peer.link);
    }
    peer_end(&peer);
    remote_end(&fx);
}

Test(links, the_queries_of_a_local_client_that_ends_are_forgotten)
{
    struct fixture fx;
    fixture_init(&fx, (struct db_config){.worker_count = 3, .partition_count = 8});
    /* Below db_query_open, which would close it. */
    struct db *db = fx.served ? fx.served : fx.db;
    struct db_client *client;
    cr_assert_eq(db_client_create(db, &client), ERR_NONE);
    extern enum err client_send_new(struct db_client *, uint32_t, enum signal_type, uint64_t,
                                    const void *, uint32_t);
    for (uint32_t w = 0; w < 3; w++)
        cr_assert_eq(client_send_new(client, w, SIGNAL_QUERY_OPEN, 1 + w, NULL, 0), ERR_NONE);
    char *json;
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(db_status_json(fx.client, &json), ERR_NONE);
        bool all = !strstr(json, "\"pins\": 0");
        free(json);
        if (all) break;
    }
    db_client_destroy(client);
    bool none = false;
    for (int i = 0; i < 2000 && !none; i++) {
        cr_assert_eq(db_status_json(fx.client, &json), ERR_NONE);
        none = !strstr(json, "\"pins\": 1");
        free(json);
    }
    cr_assert(none);
    fixture_fini(&fx);
}
