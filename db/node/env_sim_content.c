/* The content of a simulated file: live bytes, durable bytes, and the writes and truncations
 * between them.
 *
 * What a power cut leaves (content_settle). A disk writes whole 512-byte sectors, at any time and
 * in any order, each with the content that it had at some moment: so every sector gets the writes
 * up to a random point of the list, its own cut. The size is metadata, journaled in order: it gets
 * one cut for the file. Sectors that are within the size but were never written read as zeros. A
 * truncation that is lost takes everything after it along, because later writes went to blocks that
 * the old file never had. */
#include "db/node/env_sim_content.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { SECTOR_SIZE = 512 };

struct content_op {
    uint64_t offset;
    size_t size;
    uint8_t *bytes; /* NULL: a truncation to offset */
};

static void bytes_resize(struct buf *bytes, uint64_t size)
{
    if (size > bytes->size) {
        size_t added = (size_t)size - bytes->size;
        uint8_t *at = buf_add(bytes, added);
        ASSERT(at);
        memset(at, 0, added);
    }
    bytes->size = (size_t)size;
}

static void bytes_write(struct buf *bytes, const uint8_t *from, size_t size, uint64_t offset)
{
    if (size == 0) return;
    if (bytes->size < offset + size) bytes_resize(bytes, offset + size);
    memcpy(bytes->bytes + offset, from, size);
}

static void op_apply(struct buf *bytes, const struct content_op *op)
{
    if (op->bytes)
        bytes_write(bytes, op->bytes, op->size, op->offset);
    else
        bytes_resize(bytes, op->offset);
}

static void op_add(struct content *content, struct content_op op)
{
    if (content->op_count == content->op_capacity) {
        content->op_capacity = content->op_capacity ? content->op_capacity * 2 : 8;
        content->ops = realloc(content->ops, content->op_capacity * sizeof(content->ops[0]));
        ASSERT(content->ops);
    }
    content->ops[content->op_count++] = op;
    op_apply(&content->live, &op);
}

static void ops_clear(struct content *content)
{
    for (size_t i = 0; i < content->op_count; i++)
        free(content->ops[i].bytes);
    content->op_count = 0;
}

void content_init(struct content *content)
{
    *content = (struct content){0};
    buf_init(&content->live);
    buf_init(&content->durable);
}

void content_fini(struct content *content)
{
    ops_clear(content);
    free(content->ops);
    buf_fini(&content->live);
    buf_fini(&content->durable);
}

size_t content_read(const struct content *content, void *bytes, size_t size, uint64_t offset)
{
    if (offset >= content->live.size) return 0;
    size_t left = content->live.size - (size_t)offset;
    if (size > left) size = left;
    if (size) memcpy(bytes, content->live.bytes + offset, size);
    return size;
}

void content_write(struct content *content, const void *bytes, size_t size, uint64_t offset)
{
    ASSERT(size > 0);
    struct content_op op = {.offset = offset, .size = size, .bytes = malloc(size)};
    ASSERT(op.bytes);
    memcpy(op.bytes, bytes, size);
    op_add(content, op);
}

void content_truncate(struct content *content, uint64_t size)
{
    op_add(content, (struct content_op){.offset = size});
}

void content_sync(struct content *content)
{
    for (size_t i = 0; i < content->op_count; i++)
        op_apply(&content->durable, &content->ops[i]);
    ops_clear(content);
}

/* A cut in [0, count]: a third of them none, a third all, a third in between. */
static uint64_t cut_of(uint64_t random, uint64_t count)
{
    switch (random % 3) {
    case 0:
        return 0;
    case 1:
        return count;
    default:
        return (random >> 8) % (count + 1);
    }
}

/* Applies the sectors of the index-th operation, a write, whose own cut lies behind it. */
static void settle_write(struct content *content, size_t index, uint64_t sector_seed)
{
    const struct content_op *op = &content->ops[index];
    uint64_t end = op->offset + op->size;
    for (uint64_t at = op->offset; at < end;) {
        uint64_t sector = at / SECTOR_SIZE;
        uint64_t next = (sector + 1) * SECTOR_SIZE;
        if (next > end) next = end;
        if (index < cut_of(hash_u64(sector_seed + sector), content->op_count))
            bytes_write(&content->durable, op->bytes + (at - op->offset), (size_t)(next - at), at);
        at = next;
    }
}

void content_settle(struct content *content, struct sim_rng *rng)
{
    uint64_t mode = sim_rng_below(rng, 8);
    if (mode == 0) { /* everything reached the disk in time */
        content_sync(content);
        return;
    }
    if (mode == 1) { /* nothing did */
        ops_clear(content);
        return;
    }
    size_t size_cut = (size_t)cut_of(sim_rng_next(rng), content->op_count);
    uint64_t size = content->durable.size;
    for (size_t i = 0; i < size_cut; i++) {
        const struct content_op *op = &content->ops[i];
        if (!op->bytes)
            size = op->offset;
        else if (size < op->offset + op->size)
            size = op->offset + op->size;
    }
    uint64_t sector_seed = sim_rng_next(rng);
    for (size_t i = 0; i < content->op_count; i++) {
        if (content->ops[i].bytes)
            settle_write(content, i, sector_seed);
        else if (i < size_cut)
            bytes_resize(&content->durable, content->ops[i].offset);
        else
            break;
    }
    bytes_resize(&content->durable, size);
    ops_clear(content);
}

void content_crash(struct content *content, struct sim_rng *rng)
{
    content_settle(content, rng);
    bytes_resize(&content->live, 0);
    bytes_write(&content->live, content->durable.bytes, content->durable.size, 0);
}

void content_flip(struct content *content, uint64_t offset, unsigned bit)
{
    uint8_t mask = (uint8_t)(1u << bit);
    content->durable.bytes[offset] ^= mask;
    if (offset < content->live.size) content->live.bytes[offset] ^= mask;
}
