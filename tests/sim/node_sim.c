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
#include "db/api/db_private.h"
#include "db/node/sim_node.h"
#include "db/wire/ddl.h"

enum {
    ACCOUNTS = 24,
    SLOTS = 12,
    CLIENTS = 5,
    BALANCE_FIRST = 100,
    TRANSFERS_MAX = 4096,
    PARTITIONS = 8,
    LIVES = 4,
};

enum status { UNDER_WAY, ACKNOWLEDGED, FAILED, UNKNOWN };

struct transfer {
    uint32_t client;
    uint32_t from;
    uint32_t to;
    int64_t amount;
    enum status status;
    uint64_t commit_ts;
    bool must_be_there; /* acknowledged as durable, or found after a restart */
    bool must_be_gone;  /* not found after a restart */
    bool found;
};

struct actor {
    struct world *world;
    uint32_t number;
    struct db_client *client;
    bool busy;
    uint32_t transfer;               /* under way */
    struct client_listener listener; /* of a flush, checkpoint or DDL */
    uint32_t flush_from; /* transfers acknowledged before it began: up to here in order of ack */
};

struct world {
    uint64_t seed;
    struct sim *sim;
    struct sim_node *node;
    struct db db;
    const struct catalog *catalog;
    const struct table_def *account;
    const struct table_def *journal;
    struct actor actors[CLIENTS];
    struct transfer transfers[TRANSFERS_MAX];
    uint32_t transfer_count;
    uint32_t acknowledged[TRANSFERS_MAX]; /* in order of acknowledgement, of this life */
    uint32_t acknowledged_count;
    bool flush_always;
    bool has_index;
    bool faulty; /* file calls fail: acknowledgements of flushes still bind */
    uint64_t reads_checked;
    uint64_t conflicts;
    struct program program;
    struct arena arena;
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

/* ---- tables ---- */

static struct column_def column(const char *name, enum column_type type)
{
    struct column_def column = {.type = (uint8_t)type};
    snprintf(column.name, sizeof(column.name), "%s", name);
    return column;
}

static uint16_t slot_of(uint32_t account)
{
    return (uint16_t)(account % SLOTS);
}

enum { BALANCE_COLUMN = 2 };

static struct table_def account_def(struct column_def columns[3])
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

static struct table_def journal_def(struct column_def columns[6])
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

static void catalog_refresh(struct world *world)
{
    if (world->catalog) db_catalog_release(&world->db, world->catalog);
    world->catalog = db_catalog_acquire(&world->db);
    world->account = catalog_find(world->catalog, "bank", "account");
    world->journal = catalog_find(world->catalog, "bank", "journal");
}

/* ---- letting it run ---- */

static void world_step(struct world *world)
{
    sim_node_step(world->node);
    struct actor *actor = &world->actors[pick(world, CLIENTS)];
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
    catalog_refresh(world);
    return request.err;
}

/* ---- programs ---- */

/* The sections of a program in a fixed order of slots, each once. */
struct sections {
    uint32_t count;
    uint16_t slots[PROGRAM_SECTIONS_MAX];
};

static void section_add(struct sections *sections, uint16_t slot)
{
    for (uint32_t i = 0; i < sections->count; i++)
        if (sections->slots[i] == slot) return;
    sections->slots[sections->count++] = slot;
}

static void put_change(struct world *world, uint32_t account, int64_t amount)
{
    struct program *program = &world->program;
    struct operand key[2] = {operand_value(value_u64(slot_of(account))),
                             operand_value(value_u64(account))};
    uint8_t step = program_update(program, world->account, key, ERR_NOT_FOUND);
    struct expr_builder builder;
    struct expr sum, guard;
    expr_begin(&builder, &world->arena);
    uint16_t balance = expr_column(&builder, KIND_I64, step, BALANCE_COLUMN);
    uint16_t more = expr_const(&builder, value_i64(amount));
    expr_op2(&builder, EXPR_ADD, KIND_I64, balance, more);
    enum err err = expr_finish(&builder, &sum);
    ASSERT(!err);
    expr_begin(&builder, &world->arena);
    balance = expr_column(&builder, KIND_I64, step, BALANCE_COLUMN);
    more = expr_const(&builder, value_i64(-amount));
    expr_op2(&builder, EXPR_GE, KIND_I64, balance, more);
    err = expr_finish(&builder, &guard);
    ASSERT(!err);
    program_guard(program, guard, ERR_EDQUOT);
    program_set(program, BALANCE_COLUMN, operand_expr(sum));
}

static void put_transfer(struct world *world, uint32_t number)
{
    const struct transfer *transfer = &world->transfers[number];
    struct program *program = &world->program;
    uint16_t journal_slot = (uint16_t)(number % SLOTS);
    struct sections sections = {0};
    section_add(&sections, slot_of(transfer->from));
    section_add(&sections, slot_of(transfer->to));
    section_add(&sections, journal_slot);
    arena_reset(&world->arena);
    program_begin(program);
    for (uint32_t i = 0; i < sections.count; i++) {
        uint16_t slot = sections.slots[i];
        program_section(program, slot);
        if (slot == slot_of(transfer->from)) put_change(world, transfer->from, -transfer->amount);
        if (slot == slot_of(transfer->to)) put_change(world, transfer->to, transfer->amount);
        if (slot != journal_slot) continue;
        struct operand values[5] = {
            operand_value(value_u64(slot)),
            operand_value(value_u64(number)),
            operand_value(value_u64(transfer->from)),
            operand_value(value_u64(transfer->to)),
            operand_value(value_i64(transfer->amount)),
        };
        program_insert(program, world->journal, values, ERR_EXISTS);
    }
}

static void transfer_done(void *context, struct program_reply *reply)
{
    struct actor *actor = context;
    struct world *world = actor->world;
    struct transfer *transfer = &world->transfers[actor->transfer];
    actor->busy = false;
    switch (reply->err) {
    case ERR_NONE:
        transfer->status = ACKNOWLEDGED;
        transfer->commit_ts = reply->commit_ts;
        if (!reply->commit_ts) fail(world, "a transfer has no commit timestamp");
        if (world->flush_always) transfer->must_be_there = true;
        world->acknowledged[world->acknowledged_count++] = actor->transfer;
        break;
    case ERR_OUTCOME_UNKNOWN:
        transfer->status = UNKNOWN;
        break;
    case ERR_CONFLICT:
        world->conflicts++;
        transfer->status = FAILED;
        break;
    case ERR_EDQUOT:
    case ERR_SCHEMA_CHANGED:
    case ERR_IO:
    case ERR_NO_SPACE:
    case ERR_CLOSED:
        transfer->status = FAILED;
        break;
    default:
        fail(world, "a transfer ended with %s", err_name(reply->err));
    }
}

static void transfer_begin(struct actor *actor)
{
    struct world *world = actor->world;
    if (world->transfer_count == TRANSFERS_MAX) return;
    uint32_t number = world->transfer_count++;
    uint32_t from = pick(world, ACCOUNTS);
    uint32_t to = (from + 1 + pick(world, ACCOUNTS - 1)) % ACCOUNTS;
    world->transfers[number] = (struct transfer){
        .client = actor->number,
        .from = from,
        .to = to,
        .amount = 1 + (int64_t)pick(world, 40),
    };
    actor->transfer = number;
    actor->busy = true;
    put_transfer(world, number);
    enum err err = db_submit(actor->client, &world->program, transfer_done, actor);
    if (err) fail(world, "submit: %s", err_name(err));
}

static void put_read_all(struct world *world)
{
    struct program *program = &world->program;
    uint16_t output = BALANCE_COLUMN;
    program_begin(program);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        program_section(program, slot);
        for (uint32_t account = slot; account < ACCOUNTS; account += SLOTS) {
            struct operand key[2] = {operand_value(value_u64(slot)),
                                     operand_value(value_u64(account))};
            program_read(program, world->account, key, ERR_NOT_FOUND);
            program_output(program, &output, 1);
        }
    }
}

static int64_t sum_of(struct world *world, const struct program_reply *reply)
{
    int64_t sum = 0;
    for (uint8_t step = 0; step < ACCOUNTS; step++) {
        const struct value *row = program_row(reply, step, 0);
        if (!row) fail(world, "a read of all accounts lacks one");
        if (row->i < 0) fail(world, "a balance is negative");
        sum += row->i;
    }
    return sum;
}

static void read_done(void *context, struct program_reply *reply)
{
    struct actor *actor = context;
    struct world *world = actor->world;
    actor->busy = false;
    if (reply->err == ERR_CONFLICT || reply->err == ERR_SCHEMA_CHANGED || reply->err == ERR_CLOSED)
        return;
    if (reply->err) fail(world, "a read of all accounts ended with %s", err_name(reply->err));
    int64_t sum = sum_of(world, reply);
    if (sum != ACCOUNTS * BALANCE_FIRST)
        fail(world, "a read of all accounts saw a sum of %lld", (long long)sum);
    world->reads_checked++;
}

static void read_begin(struct actor *actor)
{
    put_read_all(actor->world);
    actor->busy = true;
    enum err err = db_submit(actor->client, &actor->world->program, read_done, actor);
    if (err) fail(actor->world, "submit: %s", err_name(err));
}

/* ---- flushes, checkpoints, indexes ---- */

static void signal_done(struct client_listener *listener, struct signal *signal)
{
    struct actor *actor = listener->context;
    struct world *world = actor->world;
    client_unlisten(actor->client, listener);
    actor->busy = false;
    if (signal->header.type == SIGNAL_FLUSH_REPLY && !signal->header.err)
        for (uint32_t i = 0; i < actor->flush_from; i++)
            world->transfers[world->acknowledged[i]].must_be_there = true;
    if (signal->header.err && !world->faulty)
        fail(world, "signal %u: %s", signal->header.type, err_name((enum err)signal->header.err));
    signal_destroy(signal);
}

static void signal_begin(struct actor *actor, enum signal_type type)
{
    struct world *world = actor->world;
    actor->busy = true;
    actor->flush_from = world->acknowledged_count;
    actor->listener = (struct client_listener){.receive = signal_done, .context = actor};
    uint64_t request = client_listen(actor->client, &actor->listener);
    uint32_t worker = pick(world, db_worker_count(&world->db));
    enum err err = client_send_new(actor->client, worker, type, request, NULL, 0);
    ASSERT(!err);
}

static void index_begin(struct actor *actor)
{
    struct world *world = actor->world;
    struct ddl_request ddl = {.database = "bank", .name = "account"};
    ddl.op = world->has_index ? DDL_DROP_INDEX : DDL_CREATE_INDEX;
    snprintf(ddl.index.name, sizeof(ddl.index.name), "by_balance");
    ddl.index.kind = INDEX_ORDERED;
    ddl.index.column_count = 1;
    ddl.index.columns[0] = BALANCE_COLUMN;
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    ddl_request_encode(&ddl, &buf);
    actor->busy = true;
    world->has_index = !world->has_index;
    actor->listener = (struct client_listener){.receive = signal_done, .context = actor};
    uint64_t request = client_listen(actor->client, &actor->listener);
    enum err err =
        client_send_new(actor->client, 0, SIGNAL_DDL, request, buf.bytes, (uint32_t)buf.size);
    ASSERT(!err);
    buf_fini(&buf);
}

static void actor_act(struct actor *actor)
{
    struct world *world = actor->world;
    if (actor->busy) return;
    uint32_t what = pick(world, 100);
    if (actor->number == 0 && what < 4) {
        index_begin(actor);
        return;
    }
    if (what < 80 || actor->number < 3)
        transfer_begin(actor);
    else if (what < 95)
        read_begin(actor);
    else if (what < 98)
        signal_begin(actor, SIGNAL_FLUSH);
    else
        signal_begin(actor, SIGNAL_CHECKPOINT);
}

/* ---- checking ---- */

struct wait {
    bool done;
    struct program_reply *reply; /* the caller's: filled by swapping */
    enum err err;
};

static void wait_done(void *context, struct program_reply *reply)
{
    struct wait *wait = context;
    struct program_reply mine = *wait->reply;
    *wait->reply = *reply;
    *reply = mine;
    wait->err = wait->reply->err;
    wait->done = true;
}

/* Runs the world's program to its end. */
static enum err program_run(struct world *world, struct program_reply *reply)
{
    struct wait wait = {.reply = reply};
    enum err err = db_submit(world->actors[0].client, &world->program, wait_done, &wait);
    while (!err && !wait.done)
        world_step(world);
    return err ? err : wait.err;
}

static void find_transfers(struct world *world)
{
    struct program_reply reply;
    program_reply_init(&reply);
    for (uint32_t i = 0; i < world->transfer_count; i++)
        world->transfers[i].found = false;
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        struct operand key = operand_value(value_u64(slot));
        uint16_t outputs[] = {1, 2, 3, 4};
        program_begin(&world->program);
        program_section(&world->program, slot);
        uint8_t step = program_scan(&world->program, world->journal, 0, &key, 1, NULL, 0, false,
                                    PROGRAM_SCAN_LIMIT_MAX);
        program_output(&world->program, outputs, 4);
        enum err err = program_run(world, &reply);
        if (err) fail(world, "reading the journal: %s", err_name(err));
        for (uint32_t row = 0; row < reply.steps[step].row_count; row++) {
            const struct value *values = program_row(&reply, step, row);
            if (values[0].u >= world->transfer_count) fail(world, "an unknown transfer");
            struct transfer *transfer = &world->transfers[values[0].u];
            if (values[1].u != transfer->from || values[2].u != transfer->to ||
                values[3].i != transfer->amount)
                fail(world, "transfer %u is not what it was", (unsigned)values[0].u);
            transfer->found = true;
        }
    }
    program_reply_fini(&reply);
}

static void check_balances(struct world *world)
{
    int64_t balances[ACCOUNTS];
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        balances[i] = BALANCE_FIRST;
    for (uint32_t i = 0; i < world->transfer_count; i++) {
        const struct transfer *transfer = &world->transfers[i];
        if (!transfer->found) continue;
        balances[transfer->from] -= transfer->amount;
        balances[transfer->to] += transfer->amount;
    }
    struct program_reply reply;
    program_reply_init(&reply);
    put_read_all(world);
    enum err err = program_run(world, &reply);
    if (err) fail(world, "reading the accounts: %s", err_name(err));
    uint8_t step = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t account = slot; account < ACCOUNTS; account += SLOTS) {
            int64_t balance = program_row(&reply, step++, 0)->i;
            if (balance != balances[account])
                fail(world, "account %u has %lld, the journal says %lld", account,
                     (long long)balance, (long long)balances[account]);
        }
    }
    program_reply_fini(&reply);
}

/* After a restart. */
static void check_transfers(struct world *world)
{
    uint64_t newest_found = 0;
    uint64_t oldest_lost = UINT64_MAX;
    for (uint32_t i = 0; i < world->transfer_count; i++) {
        struct transfer *transfer = &world->transfers[i];
        if (transfer->must_be_there && !transfer->found)
            fail(world, "transfer %u was durable and is lost", i);
        if (transfer->must_be_gone && transfer->found)
            fail(world, "transfer %u was lost and has come back", i);
        if (transfer->status == FAILED && transfer->found)
            fail(world, "transfer %u failed and is there", i);
        bool known = transfer->status == ACKNOWLEDGED && !transfer->must_be_gone;
        if (known && transfer->found && transfer->commit_ts > newest_found)
            newest_found = transfer->commit_ts;
        if (known && !transfer->found && transfer->commit_ts < oldest_lost)
            oldest_lost = transfer->commit_ts;
    }
    if (newest_found >= oldest_lost)
        fail(world, "a transfer committed at %llu is there, one at %llu is lost",
             (unsigned long long)newest_found, (unsigned long long)oldest_lost);
    for (uint32_t i = 0; i < world->transfer_count; i++) {
        struct transfer *transfer = &world->transfers[i];
        transfer->must_be_there = transfer->found;
        transfer->must_be_gone = !transfer->found;
    }
}

static void check_storage(struct world *world)
{
    struct node *node = sim_node_node(world->node);
    struct diag diag;
    for (uint16_t p = 0; p < node->partition_count; p++) {
        const struct table_def *tables[2] = {world->account, world->journal};
        for (unsigned t = 0; t < 2; t++) {
            struct fragment *fragment = partition_fragment(node->partitions[p], tables[t]->id);
            if (fragment_verify(fragment, &diag))
                fail(world, "partition %u, table %s: %s", p, tables[t]->name, diag.text);
        }
    }
}

/* ---- lives ---- */

static void life_begin(struct world *world, bool first)
{
    struct sim_node_config config = {
        .sim = world->sim,
        .worker_count = (uint16_t)(1 + pick(world, 4)),
        .partition_count = PARTITIONS,
        .flush_always = world->flush_always = pick(world, 3) == 0,
        .flush_interval_ms = 1 + pick(world, 20),
        .checkpoint_log_bytes = pick(world, 2) ? 4096 : 1 << 20,
    };
    struct diag diag = {0};
    enum err err = sim_node_create(&config, &world->node, &diag);
    if (err) fail(world, "start: %s", diag.text);
    world->db = (struct db){.node = sim_node_node(world->node), .lock_fd = -1};
    world->acknowledged_count = 0;
    world->catalog = NULL;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        world->actors[i] = (struct actor){.world = world, .number = i};
        err = db_client_create(&world->db, &world->actors[i].client);
        if (err) fail(world, "client: %s", err_name(err));
    }
    catalog_refresh(world);
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
    if (err) fail(world, "create table: %s", err_name(err));
    table = journal_def(columns);
    err = ddl_run(world, &ddl);
    if (err) fail(world, "create table: %s", err_name(err));
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
    if (err) fail(world, "making accounts: %s", err_name(err));
    program_reply_fini(&reply);
    struct db_client *client = world->actors[0].client;
    struct request request = {.listener = {.receive = request_done, .context = &request}};
    uint64_t number = client_listen(client, &request.listener);
    err = client_send_new(client, 0, SIGNAL_FLUSH, number, NULL, 0);
    ASSERT(!err);
    while (!request.done)
        world_step(world);
    client_unlisten(client, &request.listener);
    if (request.err) fail(world, "flush: %s", err_name(request.err));
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
    if (sim_node_stop(world->node, &diag)) fail(world, "stop: %s", diag.text);
}

static void life_run(struct world *world)
{
    uint32_t steps = 500 + pick(world, 6000);
    /* Sometimes the power goes between two file calls rather than between two steps. */
    uint32_t trouble = pick(world, 6);
    if (trouble < 2) sim_halt_arm(world->sim, 1 + pick(world, 300));
    /* And sometimes file calls fail: the store then refuses changes, but keeps its word until it is
     * restarted. */
    world->faulty = trouble == 2;
    sim_faults(world->sim, world->faulty);
    for (uint32_t i = 0; i < steps && !sim_halted(world->sim); i++) {
        actor_act(&world->actors[pick(world, CLIENTS)]);
        world_step(world);
        /* A power cut is seen as failing calls for a moment: nobody may be told wrong things in it.
         */
        if (sim_halted(world->sim)) world->faulty = true;
    }
    if (!sim_halted(world->sim))
        sim_halt_arm(world->sim, 0);
    else
        for (uint32_t i = pick(world, 60); i > 0; i--)
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
    uint32_t lives = 2 + pick(&world, LIVES - 1);
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
        if (!world.faulty && pick(&world, 4) == 0) {
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
