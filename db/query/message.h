/* The bodies of the query signals: see message.c for their layouts. */
#ifndef DB_QUERY_MESSAGE_H
#define DB_QUERY_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/wire/query.h"

enum {
    QUERY_ROWS_WINDOW_MAX = 64, /* ROWS signals with payload that a worker may have in flight */
    QUERY_MOVE_WINDOW = 4, /* MOVE signals in flight from one worker to another for one source */
    QUERY_MESSAGE_SIZE = 256 << 10, /* what a ROWS or MOVE body aims at, at most, in bytes */
};

/* RUN */
struct query_run {
    uint64_t ts;         /* 0: of the receiver's own snapshot, which it takes now */
    uint64_t memory_max; /* bytes on each worker */
    uint16_t window;     /* ROWS signals with payload in flight, 1..QUERY_ROWS_WINDOW_MAX */
    bool
        alone; /* no rows move between workers: the receiver knows by itself when it has finished */
};
void query_run_encode(const struct query_run *run, struct buf *buf); /* then the tree */
MUST_USE enum err query_run_decode(struct reader *reader, struct query_run *ret_run);

/* ROWS */
enum query_rows_kind {
    QUERY_ROWS_BATCH = 1,  /* u32 row count, the output vectors */
    QUERY_ROWS_GROUPS = 2, /* u32 group count, the key vectors, then each aggregate's states */
    QUERY_ROWS_DISTINCT =
        3,               /* u16 aggregate, u32 row count, the key vectors, the argument's vector */
    QUERY_ROWS_IDLE = 4, /* nothing left to do for now: u64 moves taken, u16 worker count, u64 moves
                            sent to each */
    QUERY_ROWS_DONE = 5, /* the last one */
    QUERY_ROWS_FAILED = 6, /* the last one; header.err, and the reason as a varint size and text */
};
struct query_rows {
    uint8_t kind;
    uint32_t sequence;     /* from 0 */
    uint64_t ts;           /* of the snapshot */
    uint64_t rows_scanned; /* so far, as the next */
    uint64_t memory_peak;
};
void query_rows_encode(const struct query_rows *rows, struct buf *buf); /* then the payload */
MUST_USE enum err query_rows_decode(struct reader *reader, struct query_rows *ret_rows);
static inline bool query_rows_has_payload(uint8_t kind)
{
    return kind <= QUERY_ROWS_DISTINCT;
}

/* MORE */
struct query_more {
    uint32_t credits;
    bool finish; /* every worker is idle and nothing is in flight: send the results */
};
void query_more_encode(const struct query_more *more, struct buf *buf);
MUST_USE enum err query_more_decode(struct reader *reader, struct query_more *ret_more);

/* MOVE: u8 source, u32 row count, then the vectors of the columns that source and what follows
 * need. MOVED: u8 source. */
struct query_move {
    uint8_t source; /* the rows are to be joined with this one */
    uint32_t row_count;
};
void query_move_encode(const struct query_move *move, struct buf *buf);
MUST_USE enum err query_move_decode(struct reader *reader, struct query_move *ret_move);

#endif
