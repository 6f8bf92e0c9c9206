/* Inode numbers: home (16 bits) << 37 | sequence (37 bits).
 *
 * The sequence is unique within a partition, not only within a home, so that a partition needs one
 * counter however many homes it holds; when partitions are split, both halves go on from the same
 * counter and stay unique, because homes differ. Every client reserves INO_RANGE_SIZE numbers at a
 * time with one program, and loses what it has not used when it ends: a number is never given out
 * twice. The reservation commits before any use of its numbers in the same partition, so a
 * recovered store has the reservation of every number it knows. */
#include "metadata/client.h"

enum { INO_RANGE_SIZE = 4096 };
#define INO_SEQUENCE_MAX ((UINT64_C(1) << HOME_SHIFT) - 1)
/* Sequence 1 of home 0 is the root; small numbers of all homes are kept free. */
#define INO_SEQUENCE_FIRST 1024

static enum err range_reserve(struct fs_client *client, uint16_t partition)
{
    struct program *program = client_begin(client, partition);
    const struct operand values[INO_RANGE_COLUMNS] = {
        [INO_RANGE_SLOT] = operand_u64(partition),
        [INO_RANGE_NEXT] = operand_u64(INO_SEQUENCE_FIRST + INO_RANGE_SIZE),
    };
    uint8_t step = program_upsert(program, client_table(client, TABLE_INO_RANGE), values);
    guard_compare(program, EXPR_LE, step, INO_RANGE_NEXT, INO_SEQUENCE_MAX - INO_RANGE_SIZE,
                  ERR_NO_SPACE);
    set_add(program, step, INO_RANGE_NEXT, INO_RANGE_SIZE);
    const uint16_t columns[] = {INO_RANGE_NEXT};
    program_output(program, columns, 1);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, step);
    if (!row || row[0].u < INO_RANGE_SIZE) return ERR_CORRUPT;
    client->ranges[partition] =
        (struct ino_range){.next = row[0].u - INO_RANGE_SIZE, .end = row[0].u};
    return ERR_NONE;
}

enum err ino_allocate(struct fs_client *client, uint16_t home, uint64_t *ret_ino)
{
    uint16_t partition = (uint16_t)(home & client->fs->partition_mask);
    struct ino_range *range = &client->ranges[partition];
    if (range->next == range->end) {
        struct retry retry = {0};
        enum err err;
        do
            err = range_reserve(client, partition);
        while (client_again(client, &retry, &err));
        if (err) return err;
    }
    *ret_ino = (uint64_t)home << HOME_SHIFT | range->next++;
    return ERR_NONE;
}
