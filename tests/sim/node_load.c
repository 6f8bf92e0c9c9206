/* What the clients of the whole-node simulation do: transfers, reads of everything, flushes,
 * checkpoints, an index. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "tests/sim/node_world.h"

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
        if (!reply->commit_ts) world_fail(world, "a transfer has no commit timestamp");
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
        world_fail(world, "a transfer ended with %s", err_name(reply->err));
    }
}

static void transfer_begin(struct actor *actor)
{
    struct world *world = actor->world;
    if (world->transfer_count == TRANSFERS_MAX) return;
    uint32_t number = world->transfer_count++;
    uint32_t from = world_pick(world, ACCOUNTS);
    uint32_t to = (from + 1 + world_pick(world, ACCOUNTS - 1)) % ACCOUNTS;
    world->transfers[number] = (struct transfer){
        .client = actor->number,
        .from = from,
        .to = to,
        .amount = 1 + (int64_t)world_pick(world, 40),
    };
    actor->transfer = number;
    actor->busy = true;
    put_transfer(world, number);
    enum err err = db_submit(actor->client, &world->program, transfer_done, actor);
    if (err) world_fail(world, "submit: %s", err_name(err));
}

void put_read_all(struct world *world)
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
        if (!row) world_fail(world, "a read of all accounts lacks one");
        if (row->i < 0) world_fail(world, "a balance is negative");
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
    if (reply->err) world_fail(world, "a read of all accounts ended with %s", err_name(reply->err));
    int64_t sum = sum_of(world, reply);
    if (sum != ACCOUNTS * BALANCE_FIRST)
        world_fail(world, "a read of all accounts saw a sum of %lld", (long long)sum);
    world->reads_checked++;
}

static void read_begin(struct actor *actor)
{
    put_read_all(actor->world);
    actor->busy = true;
    enum err err = db_submit(actor->client, &actor->world->program, read_done, actor);
    if (err) world_fail(actor->world, "submit: %s", err_name(err));
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
        world_fail(world, "signal %u: %s", signal->header.type,
                   err_name((enum err)signal->header.err));
    signal_destroy(signal);
}

static void signal_begin(struct actor *actor, enum signal_type type)
{
    struct world *world = actor->world;
    actor->busy = true;
    actor->flush_from = world->acknowledged_count;
    actor->listener = (struct client_listener){.receive = signal_done, .context = actor};
    uint64_t request = client_listen(actor->client, &actor->listener);
    uint32_t worker = world_pick(world, db_worker_count(&world->db));
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

void actor_act(struct actor *actor)
{
    struct world *world = actor->world;
    if (actor->busy) return;
    uint32_t what = world_pick(world, 100);
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
