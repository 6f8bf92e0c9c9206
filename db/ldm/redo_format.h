/* Private to the durability files of db/ldm: the bytes of a log segment, and reading one. The
 * layout and the reasoning about torn tails are in redo_format.c. */
#ifndef DB_LDM_REDO_FORMAT_H
#define DB_LDM_REDO_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/ldm/store_format.h"

enum {
    SEGMENT_HEADER_SIZE = 512, /* records start here */
    SEGMENT_END_AT = 256,      /* the end slot, within the header */
    REDO_RECORD_SIZE = 32,     /* of a record without its body */
    REDO_ALIGN = 8,
    REDO_FLUSH_MAX = 0xffffff, /* flushes of one segment */
    REDO_BODY_SIZE_MAX = 1 << 30,
};

enum redo_kind {
    REDO_TRANSACTION = 1,
    REDO_HORIZON = 2,
};

struct segment_header {
    uint16_t worker;
    uint16_t worker_count; /* logs of this life; 0: not known */
    uint64_t number;
    uint64_t life; /* number of the life's first segments */
    /* Of the segments of this life before this one, 0 in the first: */
    uint64_t previous_size;    /* the exact size of number - 1 */
    uint64_t previous_ts;      /* no transaction in any of them has a greater timestamp */
    uint64_t previous_horizon; /* the last one in them */
};

/* The end slot: nothing more is written to the segment. */
enum segment_end_kind {
    SEGMENT_CLOSED = 1,    /* the log was closed in order */
    SEGMENT_CONTINUED = 2, /* the next segment exists */
};

struct segment_end {
    enum segment_end_kind kind;
    uint64_t size;   /* of the segment, all of it synced */
    uint64_t ts_max; /* of all transactions of this log's life */
};

/* What record checksums of this segment are seeded with. */
uint64_t segment_seed(const uint8_t id[STORE_ID_SIZE], uint16_t worker, uint64_t number);
/* Appends SEGMENT_HEADER_SIZE bytes with an empty end slot. */
void segment_header_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                        const struct segment_header *header);
/* Appends the end slot, to be written at SEGMENT_END_AT. */
void segment_end_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                     const struct segment_header *header, const struct segment_end *end);

static inline size_t redo_record_size(uint32_t body_size)
{
    return REDO_RECORD_SIZE + (((size_t)body_size + REDO_ALIGN - 1) & ~(size_t)(REDO_ALIGN - 1));
}
/* Appends a record that still lacks its checksums and flush number. */
void redo_record_put(struct buf *buf, enum redo_kind kind, uint64_t ts, const void *body,
                     uint32_t body_size);
/* Completes the records in bytes, which will lie at `offset` of their segment and be written by its
 * flush'th flush (from 1). Returns the greatest timestamp of a transaction among them, or 0. */
uint64_t redo_records_seal(uint8_t *bytes, size_t size, uint64_t seed, uint64_t offset,
                           uint32_t flush);

struct redo_record {
    enum redo_kind kind;
    uint64_t ts;
    uint64_t offset;     /* in the segment */
    uint64_t offset_end; /* of the byte after it */
    uint32_t body_size;
    uint32_t flush;      /* the flush it was written by */
    const uint8_t *body; /* in the reader's window: borrowed until the next call */
};

/* Reads a segment from its start, through a window of memory. Blocks. */
struct segment_reader {
    struct store_window window;
    uint8_t id[STORE_ID_SIZE];
    uint64_t seed;
    uint64_t limit;     /* records are looked for before it; the file's size unless set lower */
    uint64_t offset;    /* of the next record */
    uint32_t flush;     /* that the next record must be of */
    const char *reason; /* why the record at offset does not count, after ERR_CORRUPT */
    struct segment_header header;
    struct segment_end end; /* size 0: the slot is empty or torn */
    char path[STORE_PATH_SIZE];
};

/* Opens the file and nothing more; the reader must not move afterwards (window.path points into
 * it). ERR_NOT_FOUND (diag is not set), ERR_NO_MEMORY, ERR_IO. To be closed after success. */
MUST_USE enum err segment_reader_open(struct segment_reader *reader, struct env *env,
                                      const uint8_t id[STORE_ID_SIZE], uint16_t worker,
                                      uint64_t number, struct diag *diag);
void segment_reader_close(struct segment_reader *reader);
/* Reads header and end slot. ERR_CORRUPT (diag says where), ERR_VERSION, ERR_IO. */
MUST_USE enum err segment_reader_header(struct segment_reader *reader, struct diag *diag);
/* The next record. ERR_END at the limit. ERR_CORRUPT: what is at reader->offset is no valid record,
 * for reader->reason; diag is not set and the reader stays there. ERR_NO_MEMORY, ERR_IO with diag.
 */
MUST_USE enum err segment_reader_next(struct segment_reader *reader, struct redo_record *ret_record,
                                      struct diag *diag);
/* Is there, after `offset`, the head of a record of a flush later than `flush`? It shows that what
 * lies at offset had been synced. ERR_NOT_FOUND: none, so it may be a torn tail. ERR_NO_MEMORY,
 * ERR_IO with diag. */
MUST_USE enum err segment_reader_find_later(struct segment_reader *reader, uint64_t offset,
                                            uint32_t flush, uint64_t *ret_offset,
                                            struct diag *diag);

#endif
