/* A node and clients in other processes, over a simulated network that fails: is each change done
 * once?
 *
 *     links_sim [--seeds N] [--first SEED] [--verbose]
 *
 * Each seed makes a store and some clients that are connected to its node over rdma/sim. Every
 * operation of a client marks a row of its own in one or two partitions: the row counts how often
 * that was done. Meanwhile links are cut, go silent, are refused, slow or damaged; clients die; the
 * node loses its power or is stopped, and comes back with another number of workers, at times once
 * more before any client has seen it. Then:
 *
 *   - what was acknowledged was done exactly once (where it must have survived: see below)
 *   - what was refused was not done, what is unknown was done at most once
 *   - an operation over two partitions was done in both or in neither
 *   - every operation ends, within a bounded time, whatever the network does
 *   - after a power cut, with flush policy `always`, all that was acknowledged is there; with
 * interval flushes all that was acknowledged before a flush that the client was told succeeded
 *   - a stop in order loses nothing, and no client is told that it had
 *   - a client of which a power cut took something acknowledged is told, also when it was away and
 *     the node has ended in order since; and when the node has started so often that it cannot know
 *   - when all is over, the node has no query and no pin of any client left
 *
 * Prints the seed of the first failure and exits 1. Ends with "N passed, N failed". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/api/db_private.h"
#include "db/node/sim_node.h"
#include "db/node/worker_private.h"
#include "db/query/service.h"
#include "db/wire/ddl.h"
#include "rdma/sim.h"

enum {
    CLIENTS = 4,
    SLOTS = 8,
    PARTITIONS = 8,
    OPERATIONS_MAX = 1024, /* of all clients */
    UNDER_WAY_MAX = 6,     /* of one */
    NODE_FIRST = 1,        /* numbers in the network */
    CLIENT_FIRST = 100,
    TIMEOUT_MS = 3000,
};
static const uint64_t patience_ns = UINT64_C(90) * 1000000000u;

enum status { UNDER_WAY, ACKNOWLEDGED, REFUSED, UNKNOWN };

struct operation {
    struct world *world;
    struct actor *actor;
    uint16_t slots[2];
    uint16_t slot_count;
    enum status status;
    bool must_be_there;
    uint32_t actor_life;
    uint64_t begin_ns;
};

struct actor {
    struct world *world;
    struct remote *remote;
    struct db *db;
    struct db_client *client;
    uint32_t net_node;
    uint32_t under_way;
    uint32_t life;        /* how many clients it has been */
    uint32_t losses_owed; /* that the client is to be told of, all in all */
    struct client_listener flush;
    struct client_listener query;
    uint32_t flush_to; /* operations acknowledged before it began have smaller places in `acks` */
    uint32_t acks[OPERATIONS_MAX];
    uint32_t ack_count;
};

struct world {
    uint64_t seed;
    struct sim *sim;
    struct sim_net *net;
    struct sim_node *node; /* NULL: it is down */
    struct actor actors[CLIENTS];
    struct operation operations[OPERATIONS_MAX];
    uint32_t operation_count;
    uint32_t net_next;
    bool flush_always;
    bool power_was_cut;
    bool starts_forgotten; /* there were more than the node tells of */
    bool frozen;           /* clients get no turns: nothing new is done */
    uint16_t workers;
    uint8_t secret[PORT_SECRET_SIZE];
    struct program program;
    struct arena arena;
    uint64_t acknowledged, unknown, refused, lives, deaths, losses, faults;
};

static bool verbose;

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct world *world,
                                                                 const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "seed %llu: ", (unsigned long long)world->seed);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    printf("0 passed, 1 failed\n");
    exit(1);
}

static uint32_t pick(struct world *world, uint32_t count)
{
    return (uint32_t)(sim_random(world->sim) % count);
}

static uint64_t now_of(void *context)
{
    struct world *world = context;
    struct env *env = sim_env(world->sim);
    return env->ops->monotonic_ns(env);
}

static void random_of(void *context, void *bytes, size_t size)
{
    struct world *world = context;
    struct env *env = sim_env(world->sim);
    env->ops->random(env, bytes, size);
}

/* ---- letting it run ---- */

static void world_step(struct world *world)
{
    if (world->node)
        sim_node_step(world->node);
    else
        sim_advance(world->sim, 1000 + pick(world, 2000000));
    struct actor *actor = &world->actors[pick(world, CLIENTS)];
    if (actor->client && !world->frozen) db_poll(actor->client, 0);
}

/* ---- the node ---- */

static struct column_def column(const char *name, enum column_type type)
{
    struct column_def column = {.type = (uint8_t)type};
    snprintf(column.name, sizeof(column.name), "%s", name);
    return column;
}

static void node_begin(struct world *world)
{
    world->workers = (uint16_t)(1 + pick(world, 3));
    world->lives++;
    struct sim_node_config config = {
        .sim = world->sim,
        .worker_count = world->workers,
        .partition_count = PARTITIONS,
        .flush_always = world->flush_always,
        .flush_interval_ms = 20,
        .checkpoint_log_bytes = 1 << 20,
        .net = world->net,
        .net_node = NODE_FIRST,
        .modules = {&query_module},
    };
    struct diag diag = {0};
    if (sim_node_create(&config, &world->node, &diag)) fail(world, "start: %s", diag.text);
    struct port_address address = {.kind = LINK_SIM, .sim = NODE_FIRST};
    if (node_listen(sim_node_node(world->node), &address, world->secret, NULL, &diag))
        fail(world, "listen: %s", diag.text);
}

/* A request of the test's own, from inside. */
struct request {
    struct client_listener listener;
    struct signal *reply;
};

static void request_receive(struct client_listener *listener, struct signal *signal)
{
    struct request *request = listener->context;
    request->reply = signal;
}

static struct signal *ask_inside(struct world *world, enum signal_type type, uint16_t worker,
                                 const void *body, size_t size)
{
    struct db db = {.node = sim_node_node(world->node), .lock_fd = -1};
    struct db_client *client;
    if (db_client_create(&db, &client)) fail(world, "no client inside");
    struct request request = {.listener = {.receive = request_receive, .context = &request}};
    uint64_t number = client_listen(client, &request.listener);
    if (client_send_new(client, worker, type, number, body, (uint32_t)size))
        fail(world, "no memory");
    while (!request.reply) {
        world_step(world);
        db_poll(client, 0);
    }
    client_unlisten(client, &request.listener);
    db_client_destroy(client);
    return request.reply;
}

static void table_make(struct world *world)
{
    struct column_def columns[3] = {column("slot", TYPE_SMALLINT_UNSIGNED),
                                    column("id", TYPE_INT_UNSIGNED), column("times", TYPE_BIGINT)};
    struct table_def table = {
        .database = "test",
        .name = "mark",
        .column_count = 3,
        .columns = columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_ORDERED,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 2,
                     .columns = {0, 1}}},
    };
    struct ddl_request ddl = {.op = DDL_CREATE_TABLE, .table = &table};
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    ddl_request_encode(&ddl, &buf);
    struct signal *reply = ask_inside(world, SIGNAL_DDL, 0, buf.bytes, buf.size);
    if (reply->header.err) fail(world, "create table: %s", err_name((enum err)reply->header.err));
    signal_destroy(reply);
    buf_fini(&buf);
}

static void node_power_off(struct world *world)
{
    for (uint32_t w = 0; w < world->workers; w++)
        sim_net_kill(world->net, NODE_FIRST + w);
    sim_node_crash(world->node);
    world->power_was_cut = true;
    world->node = NULL;
}

static void node_stop_in_order(struct world *world)
{
    struct diag diag = {0};
    if (sim_node_stop(world->node, &diag)) fail(world, "stop: %s", diag.text);
    world->node = NULL;
}

/* ---- clients ---- */

static void actor_start(struct world *world, struct actor *actor)
{
    struct port_address address = {.kind = LINK_SIM, .sim = NODE_FIRST};
    struct db_connect_config config = {
        .addresses = &address, .address_count = 1, .timeout_ms = TIMEOUT_MS};
    memcpy(config.secret, world->secret, sizeof(config.secret));
    struct diag diag = {0};
    actor->world = world;
    actor->net_node = world->net_next++;
    actor->life++;
    actor->losses_owed = 0;
    if (remote_create(&config, &actor->remote, &diag)) fail(world, "client: %s", diag.text);
    actor->remote->monotonic_ns = now_of;
    actor->remote->random = random_of;
    actor->remote->clock_context = world;
    actor->remote->sim = world->net;
    actor->remote->sim_node = actor->net_node;
    if (remote_db(actor->remote, &actor->db) || db_client_create(actor->db, &actor->client))
        fail(world, "client: no memory");
    channel_reach(actor->client->channel, 0);
}

static void query_answered(struct client_listener *listener, struct signal *signal)
{
    struct actor *actor = CONTAINER_OF(listener, struct actor, query);
    (void)actor; /* it is left open on purpose */
    signal_destroy(signal);
}

static void query_lost(struct client_listener *listener, uint16_t worker)
{
    struct actor *actor = CONTAINER_OF(listener, struct actor, query);
    (void)worker;
    client_unlisten(actor->client, listener);
}

static void actor_end(struct actor *actor, bool in_order)
{
    struct world *world = actor->world;
    if (!in_order) sim_net_kill(world->net, actor->net_node);
    if (actor->flush.request) client_unlisten(actor->client, &actor->flush);
    if (actor->query.request) client_unlisten(actor->client, &actor->query);
    for (uint32_t i = 0; i < world->operation_count; i++) {
        struct operation *one = &world->operations[i];
        if (one->actor != actor || one->status != UNDER_WAY) continue;
        one->status = UNKNOWN;
        world->unknown++;
    }
    actor->under_way = 0;
    actor->ack_count = 0;
    db_client_destroy(actor->client);
    actor->client = NULL;
    struct diag diag;
    enum err err = db_close(actor->db, &diag);
    ASSERT(!err);
}

/* ---- operations ---- */

static const struct table_def *table_of(const struct catalog *catalog)
{
    return catalog_find(catalog, "test", "mark");
}

static void put_mark(struct world *world, const struct table_def *table, uint16_t slot, uint32_t id)
{
    struct program *program = &world->program;
    struct operand values[3] = {operand_value(value_u64(slot)), operand_value(value_u64(id)),
                                operand_value(value_i64(1))};
    program_section(program, slot);
    uint8_t step = program_upsert(program, table, values);
    struct expr_builder builder;
    struct expr sum;
    expr_begin(&builder, &world->arena);
    uint16_t times = expr_column(&builder, KIND_I64, step, 2);
    uint16_t one = expr_const(&builder, value_i64(1));
    expr_op2(&builder, EXPR_ADD, KIND_I64, times, one);
    enum err err = expr_finish(&builder, &sum);
    ASSERT(!err);
    program_set(program, 2, operand_expr(sum));
}

static void operation_done(void *context, struct program_reply *reply)
{
    struct operation *one = context;
    struct world *world = one->world;
    struct actor *actor = one->actor;
    actor->under_way--;
    switch (reply->err) {
    case ERR_NONE:
        one->status = ACKNOWLEDGED;
        one->must_be_there = world->flush_always;
        actor->acks[actor->ack_count++] = (uint32_t)(one - world->operations);
        world->acknowledged++;
        break;
    case ERR_OUTCOME_UNKNOWN:
        one->status = UNKNOWN;
        world->unknown++;
        break;
    case ERR_TIMEOUT:
    case ERR_CONFLICT:
    case ERR_BUSY:
        one->status = REFUSED;
        world->refused++;
        break;
    default:
        fail(world, "an operation ended with %s", err_name(reply->err));
    }
}

static void operation_begin(struct world *world, struct actor *actor)
{
    if (world->operation_count == OPERATIONS_MAX || actor->under_way == UNDER_WAY_MAX) return;
    if (!remote_is_ready(actor->remote)) return;
    uint32_t id = world->operation_count++;
    struct operation *one = &world->operations[id];
    *one = (struct operation){
        .world = world,
        .actor = actor,
        .actor_life = actor->life,
        .begin_ns = now_of(world),
        .slot_count = 1,
    };
    one->slots[0] = (uint16_t)pick(world, SLOTS);
    if (pick(world, 2)) {
        one->slots[1] = (uint16_t)((one->slots[0] + 1 + pick(world, SLOTS - 1)) % SLOTS);
        one->slot_count = 2;
    }
    const struct catalog *catalog = db_catalog_acquire(actor->db);
    arena_reset(&world->arena);
    program_begin(&world->program);
    for (uint16_t i = 0; i < one->slot_count; i++)
        put_mark(world, table_of(catalog), one->slots[i], id);
    actor->under_way++;
    enum err err = db_submit(actor->client, &world->program, operation_done, one);
    if (err) fail(world, "submit: %s", err_name(err));
    db_catalog_release(actor->db, catalog);
}

static void flush_done(struct client_listener *listener, struct signal *signal)
{
    struct actor *actor = CONTAINER_OF(listener, struct actor, flush);
    struct world *world = actor->world;
    enum err err = (enum err)signal->header.err;
    signal_destroy(signal);
    client_unlisten(actor->client, listener);
    uint32_t losses = db_losses(actor->db);
    if (losses != actor->client->losses_seen) {
        /* It is told once; what was acknowledged until now may be gone. */
        actor->client->losses_seen = losses;
        world->losses++;
        if (!world->power_was_cut && !world->starts_forgotten)
            fail(world, "a loss is told, but there was none");
        for (uint32_t i = 0; i < actor->flush_to; i++)
            if (!world->operations[actor->acks[i]].must_be_there)
                world->operations[actor->acks[i]].status = UNKNOWN;
        return;
    }
    if (err) return;
    for (uint32_t i = 0; i < actor->flush_to; i++)
        if (world->operations[actor->acks[i]].status == ACKNOWLEDGED)
            world->operations[actor->acks[i]].must_be_there = true;
}

static void flush_begin(struct actor *actor)
{
    if (actor->flush.request || !remote_is_ready(actor->remote)) return;
    actor->flush = (struct client_listener){.receive = flush_done};
    actor->flush_to = actor->ack_count;
    uint64_t number = client_listen(actor->client, &actor->flush);
    if (client_send_new(actor->client, 0, SIGNAL_FLUSH, number, NULL, 0))
        fail(actor->world, "no memory");
}

/* A query that is opened and then neglected: it must go with its link. */
static void query_begin(struct actor *actor)
{
    if (actor->query.request || !remote_is_ready(actor->remote)) return;
    actor->query = (struct client_listener){.receive = query_answered, .lost = query_lost};
    uint64_t number = client_listen(actor->client, &actor->query);
    uint16_t worker = (uint16_t)pick(actor->world, db_worker_count(actor->db));
    if (client_send_new(actor->client, worker, SIGNAL_QUERY_OPEN, number, NULL, 0))
        fail(actor->world, "no memory");
}

static void actor_act(struct world *world, struct actor *actor)
{
    switch (pick(world, 64)) {
    case 0:
        flush_begin(actor);
        break;
    case 1:
        query_begin(actor);
        break;
    default:
        if (pick(world, 4) == 0) operation_begin(world, actor);
    }
}

/* ---- faults ---- */

static void fault_make(struct world *world)
{
    static const enum sim_fault faults[] = {SIM_FAULT_CUT,    SIM_FAULT_RESET_A, SIM_FAULT_SILENCE,
                                            SIM_FAULT_REFUSE, SIM_FAULT_SLOW,    SIM_FAULT_CORRUPT};
    uint32_t a = NODE_FIRST + pick(world, world->workers);
    uint32_t b = world->actors[pick(world, CLIENTS)].net_node;
    world->faults++;
    enum sim_fault fault = faults[pick(world, ARRAY_SIZE(faults))];
    if (pick(world, 2))
        sim_net_fault(world->net, a, b, fault);
    else
        sim_net_fault(world->net, b, a, fault);
}

static void heal_some(struct world *world, bool all)
{
    for (uint32_t w = 0; w < WORKERS_MAX && w < 3; w++)
        for (uint32_t i = 0; i < CLIENTS; i++)
            if (all || pick(world, 3) == 0)
                sim_net_heal(world->net, NODE_FIRST + w, world->actors[i].net_node);
}

static void check_patience(struct world *world)
{
    uint64_t now = now_of(world);
    for (uint32_t i = 0; i < world->operation_count; i++) {
        const struct operation *one = &world->operations[i];
        if (one->status == UNDER_WAY && now - one->begin_ns > patience_ns)
            fail(world, "operation %u has no end", i);
    }
}

/* ---- what is there ---- */

static int64_t times_of(struct world *world, uint16_t slot, uint32_t id)
{
    struct node *node = sim_node_node(world->node);
    const struct catalog *catalog = node_catalog_acquire(node);
    struct operand key[2] = {operand_value(value_u64(slot)), operand_value(value_u64(id))};
    uint16_t output = 2;
    program_begin(&world->program);
    program_section(&world->program, slot);
    program_read(&world->program, table_of(catalog), key, ERR_NOT_FOUND);
    program_output(&world->program, &output, 1);
    enum err err = program_finish(&world->program);
    ASSERT(!err);
    struct signal *signal = ask_inside(world, SIGNAL_PROGRAM, node_slot_owner(node, slot),
                                       world->program.buf.bytes, world->program.buf.size);
    struct program_reply reply;
    program_reply_init(&reply);
    err = client_take_reply(signal, &reply);
    int64_t times = 0;
    if (!err)
        times = program_row(&reply, 0, 0)->i;
    else if (err != ERR_NOT_FOUND)
        fail(world, "reading: %s", err_name(err));
    program_reply_fini(&reply);
    node_catalog_release(node, catalog);
    return times;
}

static void loss_owe(struct actor *actor)
{
    actor->losses_owed = db_losses(actor->db) + 1;
}

static void check_operation(struct world *world, uint32_t id)
{
    struct operation *one = &world->operations[id];
    int64_t times = times_of(world, one->slots[0], id);
    if (one->slot_count == 2 && times_of(world, one->slots[1], id) != times)
        fail(world, "operation %u is half there", id);
    if (times > 1) fail(world, "operation %u was done %lld times", id, (long long)times);
    if (times && one->status == REFUSED) fail(world, "operation %u was refused, and done", id);
    if (!times && one->must_be_there) fail(world, "operation %u is lost", id);
    /* Without a flush a power cut may take what was acknowledged; what is found then stays. */
    if (!times && one->status == ACKNOWLEDGED) {
        one->status = UNKNOWN;
        /* Clients stand still: this one has not met the life that lost it. */
        if (one->actor_life == one->actor->life) loss_owe(one->actor);
    }
    if (times) one->must_be_there = true;
}

static void check_all(struct world *world, bool nothing_lost)
{
    world->frozen = true;
    for (uint32_t i = 0; i < world->operation_count; i++) {
        if (world->operations[i].status == UNDER_WAY) continue;
        if (nothing_lost && world->operations[i].status == ACKNOWLEDGED)
            world->operations[i].must_be_there = true;
        check_operation(world, i);
    }
    world->frozen = false;
}

static bool all_ended(const struct world *world)
{
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (world->actors[i].under_way || world->actors[i].flush.request) return false;
    return true;
}

/* Nothing of clients that are gone is left on the workers. */
static void check_nothing_left(struct world *world)
{
    struct node *node = sim_node_node(world->node);
    for (int i = 0; i < 100000; i++) {
        bool clean = true;
        for (uint16_t w = 0; w < node->worker_count; w++)
            clean &= !query_service_count(node->workers[w]) && !node->workers[w]->pin_count;
        if (clean) return;
        sim_node_step(world->node);
    }
    fail(world, "a query of a client that is gone is still open");
}

/* ---- lives ---- */

static void live(struct world *world, bool faulty)
{
    uint32_t steps = 1000 + pick(world, 8000);
    for (uint32_t i = 0; i < steps; i++) {
        if (faulty && pick(world, 300) == 0) fault_make(world);
        if (faulty && pick(world, 500) == 0) heal_some(world, false);
        if (faulty && pick(world, 4000) == 0) {
            struct actor *actor = &world->actors[pick(world, CLIENTS)];
            actor_end(actor, pick(world, 2));
            actor_start(world, actor);
            world->deaths++;
        }
        actor_act(world, &world->actors[pick(world, CLIENTS)]);
        world_step(world);
        if (i % 256 == 0) check_patience(world);
    }
}

static void settle(struct world *world)
{
    heal_some(world, true);
    while (!all_ended(world)) {
        world_step(world);
        check_patience(world);
    }
}

static void node_end(struct world *world, bool in_order)
{
    if (in_order)
        node_stop_in_order(world);
    else
        node_power_off(world);
}

/* Lives of the node that no client sees, at times more than it remembers. */
static void live_unseen(struct world *world)
{
    bool many = pick(world, 50) == 0;
    uint32_t count = many ? STORE_STARTS_MAX : pick(world, 4);
    for (uint32_t i = 0; i < count; i++) {
        bool in_order = pick(world, 3) != 0;
        node_end(world, in_order);
        node_begin(world);
    }
    check_all(world, true);
    if (!many) return;
    world->starts_forgotten = true;
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (atomic_load(&world->actors[i].remote->acknowledged)) loss_owe(&world->actors[i]);
}

/* Every client has met the node as it is now, and knows what it has lost. */
static void check_losses(struct world *world)
{
    uint64_t life = node_life(sim_node_node(world->node));
    uint64_t begin = now_of(world);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        const struct actor *actor = &world->actors[i];
        while (atomic_load(&actor->remote->learned_life) != life) {
            world_step(world);
            if (now_of(world) - begin > patience_ns) fail(world, "client %u is never back", i);
        }
        uint32_t losses = db_losses(actor->db);
        if (losses < actor->losses_owed) fail(world, "client %u is not told of a loss", i);
        if (losses && !actor->losses_owed) fail(world, "client %u is told of a loss too many", i);
    }
}

static void seed_run(uint64_t seed)
{
    static struct world world;
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.net_next = CLIENT_FIRST;
    struct sim_config config = {
        .seed = seed, .disk_latency_ns_min = 10000, .disk_latency_ns_max = 2000000};
    enum err err = sim_create(&config, &world.sim);
    ASSERT(!err);
    struct sim_net_config net = {.seed = hash_u64(seed),
                                 .delay_ns_min = 5000,
                                 .delay_ns_max = 5000 + pick(&world, 2000000),
                                 .monotonic_ns = now_of,
                                 .clock_context = &world};
    err = sim_net_create(&net, &world.net);
    ASSERT(!err);
    random_of(&world, world.secret, sizeof(world.secret));
    program_init(&world.program);
    arena_init(&world.arena, 0);
    world.flush_always = pick(&world, 2);
    node_begin(&world);
    table_make(&world);
    for (uint32_t i = 0; i < CLIENTS; i++)
        actor_start(&world, &world.actors[i]);
    uint32_t lives = 1 + pick(&world, 3);
    for (uint32_t life = 0;; life++) {
        live(&world, pick(&world, 8) != 0);
        if (life + 1 == lives) break;
        bool in_order = pick(&world, 2);
        node_end(&world, in_order);
        /* Some time without a node: short, or longer than anybody waits. */
        for (uint32_t i = pick(&world, pick(&world, 3) ? 300 : 6000); i; i--)
            world_step(&world);
        node_begin(&world);
        check_all(&world, in_order);
        live_unseen(&world);
    }
    settle(&world);
    check_losses(&world);
    check_all(&world, true);
    for (uint32_t i = 0; i < CLIENTS; i++)
        actor_end(&world.actors[i], pick(&world, 2));
    check_nothing_left(&world);
    node_stop_in_order(&world);
    if (verbose)
        printf(
            "seed %llu: %u operations, %llu acknowledged, %llu unknown, %llu refused, %llu lives, "
            "%llu deaths, %llu faults, %llu losses\n",
            (unsigned long long)seed, world.operation_count, (unsigned long long)world.acknowledged,
            (unsigned long long)world.unknown, (unsigned long long)world.refused,
            (unsigned long long)world.lives, (unsigned long long)world.deaths,
            (unsigned long long)world.faults, (unsigned long long)world.losses);
    arena_fini(&world.arena);
    program_fini(&world.program);
    sim_net_destroy(world.net);
    sim_destroy(world.sim);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 200;
    uint64_t first = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--first") == 0 && i + 1 < argc)
            first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else {
            fprintf(stderr, "usage: links_sim [--seeds N] [--first SEED] [--verbose]\n");
            return 2;
        }
    }
    for (uint64_t seed = first; seed < first + seeds; seed++)
        seed_run(seed);
    printf("%llu passed, 0 failed\n", (unsigned long long)seeds);
    return 0;
}
