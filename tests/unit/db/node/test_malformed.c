/* Workers fed with damaged signals: for every signal that a working node sends, some random
 * mutations of it are delivered as well, below the client library. Transactions may then go wrong
 * in ways that a real network's checks would prevent, but no worker may crash, and its storage must
 * stay in order. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "db/api/db_private.h"
#include "db/node/sim_node.h"
#include "db/node/worker_private.h"
#include "db/wire/ddl.h"

enum { WORKERS = 3, ACCOUNTS = 8 };

struct mutator {
    struct sim *sim;
    struct node *node;
    void (*transport)(void *context, struct signal *signal);
    void *transport_context;
    unsigned one_in; /* chance of a mutation */
    uint64_t mutated;
};

static uint32_t pick(struct mutator *mutator, uint32_t count)
{
    return (uint32_t)(sim_random(mutator->sim) % count);
}

/* A damaged copy, in a block that just fits, so that a sanitizer sees any overrun. */
static struct signal *mutate(struct mutator *mutator, const struct signal *signal)
{
    uint32_t body_size = signal_body_size(signal);
    uint32_t size = pick(mutator, 4) == 0 ? pick(mutator, body_size + 1) : body_size;
    struct signal *copy = malloc(sizeof(*copy) + size);
    *copy = *signal;
    copy->capacity = size;
    copy->header.size = (uint32_t)sizeof(copy->header) + size;
    memcpy(copy->body, signal->body, size);
    for (uint32_t i = pick(mutator, 4); i > 0; i--) {
        uint32_t at = pick(mutator, (uint32_t)sizeof(copy->header) + size);
        uint8_t *byte = at < sizeof(copy->header)
                            ? (uint8_t *)&copy->header + at
                            : &copy->body[at - (uint32_t)sizeof(copy->header)];
        if (pick(mutator, 2))
            *byte = (uint8_t)pick(mutator, 256);
        else
            *byte = (uint8_t)(*byte ^ 1u << pick(mutator, 8));
    }
    if (pick(mutator, 8) == 0) copy->header.type = (uint16_t)pick(mutator, SIGNAL_TYPE_MAX + 2);
    if (pick(mutator, 8) == 0) copy->header.destination = pick(mutator, WORKERS);
    if (pick(mutator, 8) == 0) copy->header.source = pick(mutator, WORKERS);
    return copy;
}

static void mutating_transport(void *context, struct signal *signal)
{
    struct mutator *mutator = context;
    if (pick(mutator, mutator->one_in) == 0) {
        mutator->mutated++;
        mutator->transport(mutator->transport_context, mutate(mutator, signal));
    }
    mutator->transport(mutator->transport_context, signal);
}

static struct column_def column(const char *name, enum column_type type)
{
    struct column_def column = {.type = (uint8_t)type};
    strcpy(column.name, name);
    return column;
}

struct world {
    struct sim *sim;
    struct sim_node *sim_node;
    struct db db;
    struct db_client *client;
    struct mutator mutator;
    struct program program;
    unsigned under_way;
    unsigned done;
    unsigned failed;
};

static void step(struct world *world)
{
    sim_node_step(world->sim_node);
    db_poll(world->client, 0);
}

static void signal_reply(struct client_listener *listener, struct signal *signal)
{
    unsigned *answered = listener->context;
    (*answered)++;
    signal_destroy(signal);
}

static void ddl_send(struct world *world, struct client_listener *listener,
                     const struct ddl_request *request)
{
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    ddl_request_encode(request, &buf);
    uint64_t number = client_listen(world->client, listener);
    cr_assert_eq(
        client_send_new(world->client, 0, SIGNAL_DDL, number, buf.bytes, (uint32_t)buf.size),
        ERR_NONE);
    buf_fini(&buf);
}

static void world_begin(struct world *world, uint64_t seed)
{
    struct sim_config sim = {
        .seed = seed, .disk_latency_ns_min = 1000, .disk_latency_ns_max = 100000};
    struct sim_node_config config = {
        .worker_count = WORKERS,
        .partition_count = 4,
        .flush_interval_ms = 2,
        .checkpoint_log_bytes = 4096,
        .flush_always = seed % 2,
        .modules = {&query_module},
    };
    struct diag diag = {0};
    memset(world, 0, sizeof(*world));
    cr_assert_eq(sim_create(&sim, &world->sim), ERR_NONE);
    config.sim = world->sim;
    cr_assert_eq(sim_node_create(&config, &world->sim_node, &diag), ERR_NONE, "%s", diag.text);
    world->db = (struct db){.node = sim_node_node(world->sim_node), .lock_fd = -1};
    cr_assert_eq(db_client_create(&world->db, &world->client), ERR_NONE);
    program_init(&world->program);

    struct column_def columns[3] = {column("slot", TYPE_SMALLINT_UNSIGNED),
                                    column("id", TYPE_INT_UNSIGNED),
                                    column("balance", TYPE_BIGINT)};
    struct table_def table = {
        .database = "bank",
        .name = "account",
        .column_count = 3,
        .columns = columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_ORDERED,
                     .unique = true,
                     .column_count = 2,
                     .columns = {0, 1}}},
    };
    unsigned answered = 0;
    struct client_listener listener = {.receive = signal_reply, .context = &answered};
    struct ddl_request request = {.op = DDL_CREATE_TABLE, .table = &table};
    ddl_send(world, &listener, &request);
    while (!answered)
        step(world);
    client_unlisten(world->client, &listener);

    struct node *node = world->db.node;
    world->mutator = (struct mutator){
        .sim = world->sim,
        .node = node,
        .transport = node->config.transport,
        .transport_context = node->config.transport_context,
        .one_in = 3,
    };
    node->config.transport = mutating_transport;
    node->config.transport_context = &world->mutator;
}

static void on_done(void *context, struct program_reply *reply)
{
    struct world *world = context;
    world->done++;
    world->failed += reply->err != ERR_NONE;
    world->under_way--;
}

static void submit_some(struct world *world, const struct table_def *account)
{
    struct program *program = &world->program;
    uint32_t sections = 1 + pick(&world->mutator, 3);
    uint16_t slot = (uint16_t)pick(&world->mutator, ACCOUNTS);
    uint16_t output = 2;
    program_begin(program);
    for (uint32_t i = 0; i < sections; i++, slot++) {
        program_section(program, slot);
        struct operand values[3] = {operand_value(value_u64(slot)),
                                    operand_value(value_u64(pick(&world->mutator, 50))),
                                    operand_value(value_i64(5))};
        uint8_t step = program_upsert(program, account, values);
        program_set(program, 2, operand_column(step, 2));
        program_output(program, &output, 1);
        program_scan(program, account, 0, values, 1, NULL, 0, false, 3);
        program_output(program, &output, 1);
        if (pick(&world->mutator, 3) == 0) program_delete(program, account, values, ERR_NOT_FOUND);
    }
    cr_assert_eq(db_submit(world->client, program, on_done, world), ERR_NONE);
    world->under_way++;
}

static void storage_verify(struct world *world)
{
    struct diag diag = {0};
    for (uint16_t p = 0; p < world->db.node->partition_count; p++) {
        struct worker *worker = world->db.node->workers[node_partition_owner(world->db.node, p)];
        for (uint32_t t = 0; t < worker->catalog->table_count; t++) {
            struct fragment *fragment =
                partition_fragment(worker->partitions[p], worker->catalog->tables[t]->id);
            cr_assert_eq(fragment_verify(fragment, &diag), ERR_NONE, "%s", diag.text);
        }
    }
}

static void run_seed(uint64_t seed, uint64_t *mutated, uint64_t *done)
{
    static struct world world;
    world_begin(&world, seed);
    unsigned answered[3] = {0};
    struct client_listener listeners[3];
    struct ddl_request index = {
        .op = DDL_CREATE_INDEX,
        .database = "bank",
        .name = "account",
        .index = {.name = "i", .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}},
    };
    for (unsigned i = 0; i < 4000; i++) {
        const struct catalog *catalog = db_catalog_acquire(&world.db);
        const struct table_def *account = catalog_find(catalog, "bank", "account");
        if (world.under_way < 2000 && account && pick(&world.mutator, 4) == 0)
            submit_some(&world, account);
        db_catalog_release(&world.db, catalog);
        if (i % 1000 == 500) {
            unsigned which = i / 1000 % 3;
            listeners[which] =
                (struct client_listener){.receive = signal_reply, .context = &answered[which]};
            if (which == 0) {
                ddl_send(&world, &listeners[which], &index);
            } else {
                enum signal_type type = which == 1 ? SIGNAL_FLUSH : SIGNAL_STATUS;
                uint64_t number = client_listen(world.client, &listeners[which]);
                cr_assert_eq(client_send_new(world.client, pick(&world.mutator, WORKERS), type,
                                             number, NULL, 0),
                             ERR_NONE);
            }
        }
        step(&world);
    }
    *mutated += world.mutator.mutated;
    *done += world.done;
    storage_verify(&world);
    db_client_destroy(world.client);
    program_fini(&world.program);
    sim_node_crash(world.sim_node);
    sim_destroy(world.sim);
}

Test(malformed, damaged_signals_never_crash_a_worker)
{
    uint64_t mutated = 0, done = 0;
    for (uint64_t seed = 1; seed <= 40; seed++)
        run_seed(seed, &mutated, &done);
    /* It is the damage that is tested, but on a node that works for a while. */
    cr_assert_gt(mutated, 20000);
    cr_assert_gt(done, 1000);
}

/* Nothing but noise, to every handler. */
Test(malformed, noise_never_crashes_a_worker)
{
    static struct world world;
    world_begin(&world, 1);
    for (unsigned i = 0; i < 200000; i++) {
        uint32_t size = pick(&world.mutator, 80);
        struct signal *signal = malloc(sizeof(*signal) + size);
        *signal = (struct signal){
            .capacity = size,
            .header = {.size = (uint32_t)sizeof(signal->header) + size,
                       .type = (uint16_t)(1 + pick(&world.mutator, SIGNAL_TYPE_MAX)),
                       .version = SIGNAL_VERSION,
                       .source = pick(&world.mutator, WORKERS),
                       .destination = pick(&world.mutator, WORKERS)},
        };
        for (uint32_t at = 0; at < size; at++)
            signal->body[at] = (uint8_t)(pick(&world.mutator, 2) ? pick(&world.mutator, 256)
                                                                 : pick(&world.mutator, 3));
        signal->header.request = pick(&world.mutator, 5);
        node_deliver(world.db.node, signal);
        if (i % 16 == 0) step(&world);
    }
    storage_verify(&world);
    db_client_destroy(world.client);
    program_fini(&world.program);
    sim_node_crash(world.sim_node);
    sim_destroy(world.sim);
}
