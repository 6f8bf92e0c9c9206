/* Usage: for each partition, project, user and group the number of inodes and the sums of their
 * sizes and blocks, changed in the transaction that changes the inode, so that they equal a recount
 * at every moment (fsck.c has the query).
 *
 * A new total is computed as total + new - old, in that order: unsigned and never below zero on the
 * way. */
#include "metadata/client.h"

static struct operand usage_sum(struct formula *formula, uint8_t own, uint16_t column, uint64_t add,
                                uint8_t step, uint16_t subtract)
{
    formula_begin(formula);
    uint16_t total = formula_column(formula, KIND_U64, own, column);
    uint16_t more = formula_op2(formula, EXPR_ADD, KIND_U64, total, formula_u64(formula, add));
    uint16_t less = formula_column(formula, KIND_U64, step, subtract);
    (void)formula_op2(formula, EXPR_SUB, KIND_U64, more, less);
    return operand_expr(formula->expr);
}

static uint8_t usage_update(struct fs_client *client, uint16_t slot, uint8_t step)
{
    const struct operand key[] = {
        operand_u64(slot & client->fs->partition_mask),
        operand_column(step, INODE_PROJECT),
        operand_column(step, INODE_UID),
        operand_column(step, INODE_GID),
    };
    return program_update(&client->program, client_table(client, TABLE_USAGE), key, ERR_CORRUPT);
}

void usage_remove(struct fs_client *client, uint16_t slot, uint8_t step)
{
    struct program *program = &client->program;
    struct formula formula;
    uint8_t own = usage_update(client, slot, step);
    set_add(program, own, USAGE_FILES, -1);
    program_set(program, USAGE_BYTES, usage_sum(&formula, own, USAGE_BYTES, 0, step, INODE_SIZE));
    program_set(program, USAGE_BLOCKS,
                usage_sum(&formula, own, USAGE_BLOCKS, 0, step, INODE_BLOCKS));
}

void usage_add(struct fs_client *client, uint16_t slot, const struct fs_attr *attr)
{
    struct program *program = &client->program;
    const struct operand values[USAGE_COLUMNS] = {
        [USAGE_SLOT] = operand_u64(slot & client->fs->partition_mask),
        [USAGE_PROJECT] = operand_u64(attr->project),
        [USAGE_UID] = operand_u64(attr->uid),
        [USAGE_GID] = operand_u64(attr->gid),
        [USAGE_FILES] = operand_u64(1),
        [USAGE_BYTES] = operand_u64(attr->size),
        [USAGE_BLOCKS] = operand_u64(attr->blocks),
    };
    uint8_t own = program_upsert(program, client_table(client, TABLE_USAGE), values);
    set_add(program, own, USAGE_FILES, 1);
    if (attr->size) set_add(program, own, USAGE_BYTES, (int64_t)attr->size);
    if (attr->blocks) set_add(program, own, USAGE_BLOCKS, (int64_t)attr->blocks);
}

void usage_resize(struct fs_client *client, uint16_t slot, uint8_t step, uint64_t bytes,
                  uint64_t blocks)
{
    struct program *program = &client->program;
    struct formula formula;
    uint8_t own = usage_update(client, slot, step);
    program_set(program, USAGE_BYTES,
                usage_sum(&formula, own, USAGE_BYTES, bytes, step, INODE_SIZE));
    program_set(program, USAGE_BLOCKS,
                usage_sum(&formula, own, USAGE_BLOCKS, blocks, step, INODE_BLOCKS));
}
