/* Codecs of the query signals' bodies. A query is known by the client id and request number that
 * every signal's header carries.
 *
 *   QUERY_OPEN    empty
 *   QUERY_OPENED  u64 pinned timestamp
 *   QUERY_RUN     u64 snapshot timestamp, u64 memory limit, u16 window, u8 alone, the query tree
 *   QUERY_ROWS    u8 kind, u32 sequence, u64 snapshot timestamp, u64 rows scanned, u64 memory peak,
 * the payload (message.h) QUERY_MORE    u32 credits, u8 finish QUERY_MOVE    u8 source, u32 row
 * count, vectors QUERY_MOVED   u8 source QUERY_CLOSE   empty */
#include "db/query/message.h"

void query_run_encode(const struct query_run *run, struct buf *buf)
{
    buf_put_u64(buf, run->ts);
    buf_put_u64(buf, run->memory_max);
    buf_put_u16(buf, run->window);
    buf_put_u8(buf, run->alone);
}

enum err query_run_decode(struct reader *reader, struct query_run *ret_run)
{
    struct query_run run = {.ts = reader_u64(reader)};
    run.memory_max = reader_u64(reader);
    run.window = reader_u16(reader);
    uint8_t alone = reader_u8(reader);
    if (reader->failed || !run.window || run.window > QUERY_ROWS_WINDOW_MAX || alone > 1)
        return ERR_BAD_SIGNAL;
    /* Timestamps near the end are markers of the storage layer. */
    if (run.ts >= UINT64_MAX - 1 || (!run.ts && !alone)) return ERR_BAD_SIGNAL;
    run.alone = alone;
    *ret_run = run;
    return ERR_NONE;
}

void query_rows_encode(const struct query_rows *rows, struct buf *buf)
{
    buf_put_u8(buf, rows->kind);
    buf_put_u32(buf, rows->sequence);
    buf_put_u64(buf, rows->ts);
    buf_put_u64(buf, rows->rows_scanned);
    buf_put_u64(buf, rows->memory_peak);
}

enum err query_rows_decode(struct reader *reader, struct query_rows *ret_rows)
{
    struct query_rows rows = {.kind = reader_u8(reader)};
    rows.sequence = reader_u32(reader);
    rows.ts = reader_u64(reader);
    rows.rows_scanned = reader_u64(reader);
    rows.memory_peak = reader_u64(reader);
    if (reader->failed || rows.kind < QUERY_ROWS_BATCH || rows.kind > QUERY_ROWS_FAILED)
        return ERR_BAD_SIGNAL;
    *ret_rows = rows;
    return ERR_NONE;
}

void query_more_encode(const struct query_more *more, struct buf *buf)
{
    buf_put_u32(buf, more->credits);
    buf_put_u8(buf, more->finish);
}

enum err query_more_decode(struct reader *reader, struct query_more *ret_more)
{
    struct query_more more = {.credits = reader_u32(reader)};
    uint8_t finish = reader_u8(reader);
    if (reader->failed || reader_left(reader) || finish > 1 || more.credits > QUERY_ROWS_WINDOW_MAX)
        return ERR_BAD_SIGNAL;
    more.finish = finish;
    *ret_more = more;
    return ERR_NONE;
}

void query_move_encode(const struct query_move *move, struct buf *buf)
{
    buf_put_u8(buf, move->source);
    buf_put_u32(buf, move->row_count);
}

enum err query_move_decode(struct reader *reader, struct query_move *ret_move)
{
    struct query_move move = {.source = reader_u8(reader)};
    move.row_count = reader_u32(reader);
    if (reader->failed || !move.source || move.source >= QUERY_SOURCES_MAX || !move.row_count ||
        move.row_count > QUERY_VECTOR_ROWS)
        return ERR_BAD_SIGNAL;
    *ret_move = move;
    return ERR_NONE;
}
