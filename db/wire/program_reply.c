/* What a program returns: written by the executor, merged by a coordinator, parsed by the client.
 *
 *   reply   u16 err, u8 failed step, u64 commit timestamp, outputs
 *   output  u8 step, u32 row count, u16 column count, row count * column count values (expr.h)
 *
 * The reader trusts nothing: a step may come once, counts are bounded by the limits and by the
 * bytes that are there. A reply that is reused keeps its memory, so parsing costs no allocation. */
#include "db/wire/program.h"

#include "base/check.h"
#include "db/wire/value_codec.h"

enum {
    REPLY_COLUMNS_MAX = 2 * SCHEMA_COLUMNS_MAX, /* of a scan with a lookup */
    ROWS_FIRST = 256,                           /* room for a scan's rows at first */
};

void program_reply_begin(struct buf *buf)
{
    uint8_t *at = buf_add(buf, PROGRAM_REPLY_HEADER_SIZE);
    if (at) memset(at, 0, PROGRAM_REPLY_HEADER_SIZE);
}

void program_reply_end(struct buf *buf, size_t at, enum err err, uint8_t failed_step,
                       uint64_t commit_ts)
{
    ASSERT(at + PROGRAM_REPLY_HEADER_SIZE <= buf->size);
    uint8_t *header = buf->bytes + at;
    uint16_t number = (uint16_t)err;
    memcpy(header, &number, sizeof(number));
    header[2] = failed_step;
    memcpy(header + 3, &commit_ts, sizeof(commit_ts));
}

void program_reply_init(struct program_reply *reply)
{
    memset(reply, 0, sizeof(*reply));
    buf_init(&reply->bytes);
    arena_init(&reply->arena, 0);
}

void program_reply_fini(struct program_reply *reply)
{
    buf_fini(&reply->bytes);
    arena_fini(&reply->arena);
}

static void forget_rows(struct program_reply *reply)
{
    for (uint64_t mask = reply->step_mask; mask; mask &= mask - 1)
        reply->steps[__builtin_ctzll(mask)] = (struct step_rows){0};
    reply->step_mask = 0;
    arena_reset(&reply->arena);
}

static enum err decode_rows(struct program_reply *reply, struct reader *reader)
{
    uint8_t step = reader_u8(reader);
    uint32_t row_count = reader_u32(reader);
    uint16_t column_count = reader_u16(reader);
    if (reader->failed || step >= PROGRAM_STEPS_MAX || row_count > PROGRAM_SCAN_LIMIT_MAX ||
        column_count > REPLY_COLUMNS_MAX || (reply->step_mask & (UINT64_C(1) << step)))
        return ERR_BAD_SIGNAL;
    size_t count = (size_t)row_count * column_count;
    if (count > reader_left(reader)) return ERR_BAD_SIGNAL; /* a value takes a byte at least */
    struct value *values = arena_alloc(&reply->arena, count * sizeof(*values));
    if (!values) return ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        values[i] = value_get(reader);
    if (reader->failed) return ERR_BAD_SIGNAL;
    reply->steps[step] = (struct step_rows){row_count, column_count, 0, values};
    reply->step_mask |= UINT64_C(1) << step;
    return ERR_NONE;
}

/* Outputs up to the end. */
static enum err decode_outputs(struct program_reply *reply, struct reader *reader)
{
    while (reader_left(reader)) {
        enum err err = decode_rows(reply, reader);
        if (err) return err;
    }
    return ERR_NONE;
}

void program_reply_clear(struct program_reply *reply)
{
    forget_rows(reply);
    buf_clear(&reply->bytes);
}

struct value *program_reply_row(struct program_reply *reply, uint8_t step, uint16_t column_count)
{
    ASSERT_SLOW(!(reply->step_mask & UINT64_C(1) << step));
    struct value *values = arena_alloc(&reply->arena, column_count * sizeof(*values));
    if (!values) return NULL;
    reply->steps[step] = (struct step_rows){1, column_count, 0, values};
    reply->step_mask |= UINT64_C(1) << step;
    return values;
}

void program_reply_rows(struct program_reply *reply, uint8_t step, uint16_t column_count)
{
    ASSERT_SLOW(!(reply->step_mask & UINT64_C(1) << step));
    reply->steps[step] = (struct step_rows){.column_count = column_count};
    reply->step_mask |= UINT64_C(1) << step;
}

struct value *program_reply_rows_more(struct program_reply *reply, uint8_t step, uint32_t count,
                                      uint32_t row_max)
{
    struct step_rows *rows = &reply->steps[step];
    ASSERT(count <= row_max - rows->row_count);
    if (rows->row_count + count > rows->row_capacity) {
        uint32_t capacity = rows->row_capacity ? rows->row_capacity * 2 : ROWS_FIRST;
        if (capacity < rows->row_count + count) capacity = rows->row_count + count;
        if (capacity > row_max) capacity = row_max;
        size_t row_size = rows->column_count * sizeof(*rows->values);
        struct value *values = arena_alloc(&reply->arena, capacity * row_size);
        if (!values) return NULL;
        if (rows->row_count) memcpy(values, rows->values, rows->row_count * row_size);
        rows->values = values;
        rows->row_capacity = capacity;
    }
    struct value *values = rows->values + (size_t)rows->row_count * rows->column_count;
    rows->row_count += count;
    return values;
}

enum err program_reply_finish(struct program_reply *reply, enum err err, uint8_t failed_step,
                              uint64_t commit_ts)
{
    if (!err && __builtin_expect(reply->bytes.size > 0, 0)) {
        struct reader reader = reader_of(reply->bytes.bytes, reply->bytes.size);
        err = reply->bytes.failed ? ERR_NO_MEMORY : decode_outputs(reply, &reader);
    }
    if (__builtin_expect(err != ERR_NONE, 0)) forget_rows(reply);
    reply->err = err;
    reply->failed_step = failed_step;
    reply->commit_ts = commit_ts;
    return err;
}

enum err program_reply_decode(struct program_reply *reply)
{
    forget_rows(reply);
    struct reader reader = reader_of(reply->bytes.bytes, reply->bytes.size);
    uint16_t number = reader_u16(&reader);
    uint8_t failed_step = reader_u8(&reader);
    uint64_t commit_ts = reader_u64(&reader);
    if (reader.failed || reply->bytes.size > PROGRAM_REPLY_SIZE_MAX || !err_is_known(number))
        return ERR_BAD_SIGNAL;
    enum err err = decode_outputs(reply, &reader);
    if (err) {
        forget_rows(reply);
        return err;
    }
    reply->err = (enum err)number;
    reply->failed_step = failed_step;
    reply->commit_ts = commit_ts;
    return ERR_NONE;
}
