/* A whole node in the simulator, under load, through crashes: does it keep its promises?
 *
 *     node_sim [--seeds N] [--first SEED] [--verbose]
 *
 * Each seed makes a store with accounts in several partitions and lives through a few starts with a
 * random number of workers. In each life some clients move money between random accounts, each
 * transfer one program over up to three partitions (two accounts and a journal row), while others
 * read all accounts at once, flush, take checkpoints, make and drop an index. Then the power goes,
 * at a random moment, or the node is stopped in order. What must hold:
 *
 *   - a read of all accounts in one program always sees the whole sum
 *   - after a restart the balances are exactly what the journal's transfers make of the first ones
 * (each transfer is there whole or not at all)
 *   - what is there is a prefix: no transfer is missing that committed before one that is there
 *   - what was acknowledged before a flush began that succeeded is there; with flush policy
 * `always`, all that was acknowledged; after a stop in order, too
 *   - what was once lost or once there after a restart stays so
 *   - every storage structure verifies
 *
 * Prints the seed of the first failure and exits 1. Ends with "N passed, N failed". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/sim/node_world.h"

static bool verbose;

__attribute__((noreturn, format(printf, 2, 3))) void world_fail(const struct world *world,
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

uint32_t world_pick(struct world *world, uint32_t count)
{
    return (uint32_t)(sim_random(world->sim) % count);
}

/* ---- tables ---- */

static struct column_def column(const char *name, enum column_type type)
{
    struct column_def column = {.type = (uint8_t)type};
    snprintf(column.name, sizeof(column.name), "%s", name);
    return column;
}

uint16_t slot_of(uint32_t account)
{
    return (uint16_t)(account % SLOTS);
}

struct table_def account_def(struct column_def columns[3])
{
    columns[0] = column("slot", TYPE_SMALLINT_UNSIGNED);
    columns[1] = column("id", TYPE_INT_UNSIGNED);
    columns[2] = column("balance", TYPE_BIGINT);
    return (struct table_def){
        .database = "bank",
        .name = "account",
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
}

struct table_def journal_def(struct column_def columns[6])
{
    columns[0] = column("slot", TYPE_SMALLINT_UNSIGNED);
    columns[1] = column("number", TYPE_INT_UNSIGNED);
    columns[2] = column("source", TYPE_INT_UNSIGNED);
    columns[3] = column("destination", TYPE_INT_UNSIGNED);
    columns[4] = column("amount", TYPE_BIGINT);
    return (struct table_def){
        .database = "bank",
        .name = "journal",
        .column_count = 5,
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
}

void world_catalog(struct world *world)
{
    if (world->catalog) db_catalog_release(&world->db, world->catalog);
    world->catalog = db_catalog_acquire(&world->db);
    world->account = catalog_find(world->catalog, "bank", "account");
    world->journal = catalog_find(world->catalog, "bank", "journal");
}

/* ---- letting it run ---- */

void world_step(struct world *world)
{
    sim_node_step(world->node);
    struct actor *actor = &world->actors[world_pick(world, CLIENTS)];
    if (actor->client) db_poll(actor->client, 0);
}

/* ---- requests that are no programs ---- */

struct request {
    struct client_listener listener;
    bool done;
    enum err err;
};

static void request_done(struct client_listener *listener, struct signal *signal)
{
    struct request *request = listener->context;
    request->done = true;
    request->err = (enum err)signal->header.err;
    signal_destroy(signal);
}

static enum err ddl_run(struct world *world, const struct ddl_request *ddl)
{
    struct db_client *client = world->actors[0].client;
    struct request request = {.listener = {.receive = request_done, .context = &request}};
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    ddl_request_encode(ddl, &buf);
    uint64_t number = client_listen(client, &request.listener);
    enum err err = client_send_new(client, 0, SIGNAL_DDL, number, buf.bytes, (uint32_t)buf.size);
    ASSERT(!err);
    buf_fini(&buf);
    while (!request.done)
        world_step(world);
    client_unlisten(client, &request.listener);
    world_catalog(world);
    return request.err;
}

/* ---- lives ---- */

static void life_begin(struct world *world, bool first)
{
    struct sim_node_config config = {
        .sim = world->sim,
        .worker_count = (uint16_t)(1 + world_pick(world, 4)),
        .partition_count = PARTITIONS,
        .flush_always = world->flush_always = world_pick(world, 3) == 0,
        .flush_interval_ms = 1 + world_pick(world, 20),
        .checkpoint_log_bytes = world_pick(world, 2) ? 4096 : 1 << 20,
    };
    struct diag diag = {0};
    enum err err = sim_node_create(&config, &world->node, &diag);
    if (err) world_fail(world, "start: %s", diag.text);
    world->db = (struct db){.node = sim_node_node(world->node), .lock_fd = -1};
    world->acknowledged_count = 0;
    world->catalog = NULL;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        world->actors[i] = (struct actor){.world = world, .number = i};
        err = db_client_create(&world->db, &world->actors[i].client);
        if (err) world_fail(world, "client: %s", err_name(err));
    }
    world_catalog(world);
    if (!first) {
        int at = -1;
        for (uint16_t i = 0; i < world->account->index_count; i++)
            if (strcmp(world->account->indexes[i].name, "by_balance") == 0) at = i;
        world->has_index = at >= 0;
        return;
    }
    struct column_def columns[6];
    struct table_def table = account_def(columns);
    struct ddl_request ddl = {.op = DDL_CREATE_TABLE, .table = &table};
    err = ddl_run(world, &ddl);
    if (err) world_fail(world, "create table: %s", err_name(err));
    table = journal_def(columns);
    err = ddl_run(world, &ddl);
    if (err) world_fail(world, "create table: %s", err_name(err));
}

static void accounts_make(struct world *world)
{
    struct program_reply reply;
    program_reply_init(&reply);
    program_begin(&world->program);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        program_section(&world->program, slot);
        for (uint32_t account = slot; account < ACCOUNTS; account += SLOTS) {
            struct operand values[3] = {operand_value(value_u64(slot)),
                                        operand_value(value_u64(account)),
                                        operand_value(value_i64(BALANCE_FIRST))};
            program_insert(&world->program, world->account, values, ERR_EXISTS);
        }
    }
    enum err err = program_run(world, &reply);
    if (err) world_fail(world, "making accounts: %s", err_name(err));
    program_reply_fini(&reply);
    struct db_client *client = world->actors[0].client;
    struct request request = {.listener = {.receive = request_done, .context = &request}};
    uint64_t number = client_listen(client, &request.listener);
    err = client_send_new(client, 0, SIGNAL_FLUSH, number, NULL, 0);
    ASSERT(!err);
    while (!request.done)
        world_step(world);
    client_unlisten(client, &request.listener);
    if (request.err) world_fail(world, "flush: %s", err_name(request.err));
}

static void clients_end(struct world *world)
{
    db_catalog_release(&world->db, world->catalog);
    world->catalog = NULL;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct actor *actor = &world->actors[i];
        if (actor->busy && world->transfer_count) {
            struct transfer *transfer = &world->transfers[actor->transfer];
            if (transfer->status == UNDER_WAY) transfer->status = UNKNOWN;
        }
        db_client_destroy(actor->client);
        actor->client = NULL;
    }
}

static bool all_idle(const struct world *world)
{
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (world->actors[i].busy) return false;
    return true;
}

/* Lets everybody finish, and everything that was acknowledged with them must survive an orderly
 * stop. */
static void life_stop(struct world *world)
{
    while (!all_idle(world))
        world_step(world);
    check_storage(world);
    for (uint32_t i = 0; i < world->acknowledged_count; i++)
        world->transfers[world->acknowledged[i]].must_be_there = true;
    clients_end(world);
    struct diag diag = {0};
    if (sim_node_stop(world->node, &diag)) world_fail(world, "stop: %s", diag.text);
}

static void life_run(struct world *world)
{
    uint32_t steps = 500 + world_pick(world, 6000);
    /* Sometimes the power goes between two file calls rather than between two steps. */
    uint32_t trouble = world_pick(world, 6);
    if (trouble < 2) sim_halt_arm(world->sim, 1 + world_pick(world, 300));
    /* And sometimes file calls fail: the store then refuses changes, but keeps its word until it is
     * restarted. */
    world->faulty = trouble == 2;
    sim_faults(world->sim, world->faulty);
    for (uint32_t i = 0; i < steps && !sim_halted(world->sim); i++) {
        actor_act(&world->actors[world_pick(world, CLIENTS)]);
        world_step(world);
        /* A power cut is seen as failing calls for a moment: nobody may be told wrong things in it.
         */
        if (sim_halted(world->sim)) world->faulty = true;
    }
    if (!sim_halted(world->sim))
        sim_halt_arm(world->sim, 0);
    else
        for (uint32_t i = world_pick(world, 60); i > 0; i--)
            world_step(world);
}

static void seed_run(uint64_t seed)
{
    static struct world world;
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    struct sim_config config = {
        .seed = seed,
        .disk_latency_ns_min = 10000,
        .disk_latency_ns_max = 3000000,
        .fault_per_million = 3000,
    };
    enum err err = sim_create(&config, &world.sim);
    ASSERT(!err);
    program_init(&world.program);
    arena_init(&world.arena, 0);
    uint32_t lives = 2 + world_pick(&world, LIVES - 1);
    for (uint32_t life = 0; life < lives; life++) {
        life_begin(&world, life == 0);
        if (life == 0) {
            accounts_make(&world);
        } else {
            check_storage(&world);
            find_transfers(&world);
            check_balances(&world);
            check_transfers(&world);
        }
        if (life + 1 == lives) {
            life_stop(&world);
            break;
        }
        life_run(&world);
        sim_faults(world.sim, false);
        if (!world.faulty && world_pick(&world, 4) == 0) {
            life_stop(&world);
            continue;
        }
        clients_end(&world);
        sim_node_crash(world.node);
        world.faulty = false;
        sim_halt_arm(world.sim, 0);
    }
    if (verbose)
        printf("seed %llu: %u lives, %u transfers, %llu reads, %llu conflicts\n",
               (unsigned long long)seed, lives, world.transfer_count,
               (unsigned long long)world.reads_checked, (unsigned long long)world.conflicts);
    arena_fini(&world.arena);
    program_fini(&world.program);
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
            fprintf(stderr, "usage: node_sim [--seeds N] [--first SEED] [--verbose]\n");
            return 2;
        }
    }
    for (uint64_t seed = first; seed < first + seeds; seed++)
        seed_run(seed);
    printf("%llu passed, 0 failed\n", (unsigned long long)seeds);
    return 0;
}
