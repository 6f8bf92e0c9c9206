/* What must hold after a restart of the simulated node: the journal against the balances, the
 * transfers against what clients were told, the storage against itself. */
#include "tests/sim/node_world.h"

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
enum err program_run(struct world *world, struct program_reply *reply)
{
    struct wait wait = {.reply = reply};
    enum err err = db_submit(world->actors[0].client, &world->program, wait_done, &wait);
    while (!err && !wait.done)
        world_step(world);
    return err ? err : wait.err;
}

void find_transfers(struct world *world)
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
        if (err) world_fail(world, "reading the journal: %s", err_name(err));
        for (uint32_t row = 0; row < reply.steps[step].row_count; row++) {
            const struct value *values = program_row(&reply, step, row);
            if (values[0].u >= world->transfer_count) world_fail(world, "an unknown transfer");
            struct transfer *transfer = &world->transfers[values[0].u];
            if (values[1].u != transfer->from || values[2].u != transfer->to ||
                values[3].i != transfer->amount)
                world_fail(world, "transfer %u is not what it was", (unsigned)values[0].u);
            transfer->found = true;
        }
    }
    program_reply_fini(&reply);
}

void check_balances(struct world *world)
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
    if (err) world_fail(world, "reading the accounts: %s", err_name(err));
    uint8_t step = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t account = slot; account < ACCOUNTS; account += SLOTS) {
            int64_t balance = program_row(&reply, step++, 0)->i;
            if (balance != balances[account])
                world_fail(world, "account %u has %lld, the journal says %lld", account,
                           (long long)balance, (long long)balances[account]);
        }
    }
    program_reply_fini(&reply);
}

/* After a restart. */
void check_transfers(struct world *world)
{
    uint64_t newest_found = 0;
    uint64_t oldest_lost = UINT64_MAX;
    for (uint32_t i = 0; i < world->transfer_count; i++) {
        struct transfer *transfer = &world->transfers[i];
        if (transfer->must_be_there && !transfer->found)
            world_fail(world, "transfer %u was durable and is lost", i);
        if (transfer->must_be_gone && transfer->found)
            world_fail(world, "transfer %u was lost and has come back", i);
        if (transfer->status == FAILED && transfer->found)
            world_fail(world, "transfer %u failed and is there", i);
        bool known = transfer->status == ACKNOWLEDGED && !transfer->must_be_gone;
        if (known && transfer->found && transfer->commit_ts > newest_found)
            newest_found = transfer->commit_ts;
        if (known && !transfer->found && transfer->commit_ts < oldest_lost)
            oldest_lost = transfer->commit_ts;
    }
    if (newest_found >= oldest_lost)
        world_fail(world, "a transfer committed at %llu is there, one at %llu is lost",
                   (unsigned long long)newest_found, (unsigned long long)oldest_lost);
    for (uint32_t i = 0; i < world->transfer_count; i++) {
        struct transfer *transfer = &world->transfers[i];
        transfer->must_be_there = transfer->found;
        transfer->must_be_gone = !transfer->found;
    }
}

void check_storage(struct world *world)
{
    struct node *node = sim_node_node(world->node);
    struct diag diag;
    for (uint16_t p = 0; p < node->partition_count; p++) {
        const struct table_def *tables[2] = {world->account, world->journal};
        for (unsigned t = 0; t < 2; t++) {
            struct fragment *fragment = partition_fragment(node->partitions[p], tables[t]->id);
            if (fragment_verify(fragment, &diag))
                world_fail(world, "partition %u, table %s: %s", p, tables[t]->name, diag.text);
        }
    }
}
