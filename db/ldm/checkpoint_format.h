/* Private to the durability files of db/ldm: the bytes of a checkpoint, and loading one. */
#ifndef DB_LDM_CHECKPOINT_FORMAT_H
#define DB_LDM_CHECKPOINT_FORMAT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/ldm/store_format.h"

enum {
    CHECKPOINT_HEADER_SIZE = STORE_FRAME_SIZE + 24,
    CHECKPOINT_TS_AT = STORE_FRAME_SIZE, /* of the timestamp in the header */
    BLOCK_HEAD_SIZE = 40,
    BLOCK_ALIGN = 8,
    BLOCK_RAW_SIZE_MAX = 1 << 30,
    BLOCK_END_SIZE = 24, /* of an end block's body */
};

enum block_kind {
    BLOCK_ROWS = 1,
    BLOCK_END = 2,
};

enum block_codec {
    BLOCK_PLAIN = 0,
    BLOCK_LZ4 = 1,
};

struct block_head {
    uint8_t kind;
    uint8_t codec;
    uint32_t table_id;
    uint32_t table_version;
    uint32_t row_count;
    uint32_t raw_size;
    uint32_t stored_size; /* without the padding to BLOCK_ALIGN */
};

struct checkpoint_header {
    uint64_t ts;
    uint64_t catalog_version;
    uint16_t partition;
};

/* Appends the header. *ret_chain: what the first block's checksum continues from. */
void checkpoint_header_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                           const struct checkpoint_header *header, uint64_t *ret_chain);
/* Appends a block that will lie at `offset`; continues the chain. */
void block_put(struct buf *buf, const struct block_head *head, const void *stored, uint64_t offset,
               uint64_t *chain);

/* Loads the rows of checkpoint/P.T into the partition and builds its indexes. Blocks of tables that
 * the partition does not have are checked and left out. On failure the partition holds part of
 * them. progress may be NULL: called with the bytes read since the last call. ERR_CORRUPT,
 * ERR_VERSION, ERR_NO_MEMORY, ERR_NO_SPACE, ERR_IO. */
MUST_USE enum err checkpoint_load(struct env *env, const uint8_t id[STORE_ID_SIZE],
                                  struct partition *partition, uint64_t ts,
                                  void (*progress)(void *context, uint64_t size), void *context,
                                  struct diag *diag);

#endif
