/* The bytes of a checkpoint, checkpoint/P.T: partition P's rows as of timestamp T.
 *
 *     0    header: a frame (store_format.h) with the body
 *              u64 ts, u64 catalog version, u16 partition, u16 x 3 zero
 *     72   blocks, each at a multiple of 8:
 *              0   u8 kind, u8 codec, u16 zero
 *              4   u32 table id
 *              8   u32 table version
 *              12  u32 row count
 *              16  u32 raw size
 *              20  u32 stored size
 *              24  u64 checksum of the stored bytes with their padding
 *              32  u64 chained checksum of the 32 bytes before
 *              40  stored bytes, zeros up to a multiple of 8
 *          and at last an end block (kind 2, plain, table 0) with the body
 *              u64 number of blocks before it, u64 number of rows, u64 size of the file
 *
 * The raw bytes of a block are some pages of one table in fragment_page_encode's form; the blocks
 * of a table follow each other. LZ4 because decompression is on the restart's critical path; what
 * does not shrink is stored plain.
 *
 * The checksum of each block's head is seeded with the one of the block before (the first with the
 * header's), plus its offset. So it covers everything up to there, and a block that is missing,
 * doubled, of another file or of an older file of the same name is noticed. Stored bytes are
 * checked before they are decompressed. The file was synced whole before it got its name, so
 * nothing here can be torn: whatever does not check is damage. */
#include "db/ldm/checkpoint_format.h"

#include <assert.h>

#include "base/check.h"
#include "base/hash.h"

enum { HEADER_BODY_SIZE = 24, BODY_SUM_AT = 24, HEAD_SUM_AT = 32 };
static_assert(CHECKPOINT_HEADER_SIZE == STORE_FRAME_SIZE + HEADER_BODY_SIZE, "disk format");
static_assert(CHECKPOINT_HEADER_SIZE % BLOCK_ALIGN == 0, "disk format");
static_assert(HEAD_SUM_AT + sizeof(uint64_t) == BLOCK_HEAD_SIZE, "disk format");

void checkpoint_header_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                           const struct checkpoint_header *header, uint64_t *ret_chain)
{
    uint8_t body[HEADER_BODY_SIZE] = {0};
    memcpy(body, &header->ts, 8);
    memcpy(body + 8, &header->catalog_version, 8);
    memcpy(body + 16, &header->partition, 2);
    size_t at = buf->size;
    store_frame_put(buf, STORE_CHECKPOINT, id, body, sizeof(body));
    *ret_chain = buf->failed ? 0 : store_frame_checksum(buf->bytes + at);
}

void block_put(struct buf *buf, const struct block_head *head, const void *stored, uint64_t offset,
               uint64_t *chain)
{
    size_t padded = ((size_t)head->stored_size + BLOCK_ALIGN - 1) & ~(size_t)(BLOCK_ALIGN - 1);
    uint8_t *at = buf_add(buf, BLOCK_HEAD_SIZE + padded);
    if (!at) return;
    memset(at, 0, BLOCK_HEAD_SIZE);
    at[0] = head->kind;
    at[1] = head->codec;
    memcpy(at + 4, &head->table_id, 4);
    memcpy(at + 8, &head->table_version, 4);
    memcpy(at + 12, &head->row_count, 4);
    memcpy(at + 16, &head->raw_size, 4);
    memcpy(at + 20, &head->stored_size, 4);
    uint8_t *body = at + BLOCK_HEAD_SIZE;
    if (head->stored_size) memcpy(body, stored, head->stored_size);
    memset(body + head->stored_size, 0, padded - head->stored_size);
    uint64_t sum = hash_checksum(body, padded, 0);
    memcpy(at + BODY_SUM_AT, &sum, sizeof(sum));
    sum = hash_checksum(at, HEAD_SUM_AT, *chain + offset);
    memcpy(at + HEAD_SUM_AT, &sum, sizeof(sum));
    *chain = sum;
}
