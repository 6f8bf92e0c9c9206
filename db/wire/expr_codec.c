/* The wire format of expressions and values.
 *
 *     expression: varint instruction count | varint constant count
 *                 | instructions, 16 bytes each: u8 op, u8 kind, u16 a, u16 b, u16 c, u32 x, u32 y
 *                 | constants, as values
 *     value:      u8 kind | DEC: u8 scale | I64, U64, F64, DEC: 8 bytes; STR: varint size, bytes
 *
 * Decoding refuses whatever the interpreters do not expect, so they need no checks of their own.
 * Counts are compared with what is left of the message before memory is taken for them. */
#include "db/wire/expr.h"
#include "db/wire/expr_rules.h"

#include "base/check.h"

enum { LISTED_MAX = 4 * EXPR_CONSTS_MAX };

void value_encode(struct value value, struct buf *buf)
{
    ASSERT(value.kind <= KIND_STR);
    buf_put_u8(buf, value.kind);
    switch ((enum value_kind)value.kind) {
    case KIND_NULL:
        return;
    case KIND_STR:
        buf_put_bytes(buf, value.bytes, value.size);
        return;
    case KIND_DEC:
        buf_put_u8(buf, value.scale);
        break;
    case KIND_I64:
    case KIND_U64:
    case KIND_F64:
        break;
    }
    buf_put_u64(buf, value.u);
}

struct value value_decode(struct reader *reader)
{
    struct value value = {.kind = reader_u8(reader)};
    switch ((enum value_kind)value.kind) {
    case KIND_NULL:
        break;
    case KIND_DEC:
        value.scale = reader_u8(reader);
        if (value.scale > EXPR_DEC_SCALE_MAX) reader->failed = true;
        value.u = reader_u64(reader);
        break;
    case KIND_I64:
    case KIND_U64:
    case KIND_F64:
        value.u = reader_u64(reader);
        break;
    case KIND_STR: {
        size_t size = 0;
        value.bytes = reader_bytes(reader, UINT32_MAX, &size);
        if (value.bytes) value.size = (uint32_t)size;
        break;
    }
    default:
        reader->failed = true;
        break;
    }
    return reader->failed ? value_null() : value;
}

void expr_encode(const struct expr *expr, struct buf *buf)
{
    ASSERT(expr->ins_count > 0 && expr->ins_count <= EXPR_INS_MAX);
    buf_put_varint(buf, expr->ins_count);
    buf_put_varint(buf, expr->const_count);
    buf_put(buf, expr->ins, expr->ins_count * sizeof *expr->ins);
    for (uint32_t i = 0; i < expr->const_count; i++)
        value_encode(expr->consts[i], buf);
}

/* A failed reader means the message is malformed. */
static enum err decode_arrays(struct reader *reader, struct arena *arena, struct expr *expr)
{
    uint64_t ins_count = reader_varint(reader);
    uint64_t const_count = reader_varint(reader);
    if (reader->failed || ins_count == 0 || ins_count > EXPR_INS_MAX ||
        const_count > EXPR_CONSTS_MAX || const_count > reader_left(reader)) {
        return ERR_BAD_PROGRAM;
    }
    size_t ins_size = ins_count * sizeof *expr->ins;
    const uint8_t *bytes = reader_take(reader, ins_size);
    if (!bytes) return ERR_BAD_PROGRAM;
    expr->ins_count = (uint32_t)ins_count;
    expr->ins = arena_alloc(arena, ins_size);
    if (!expr->ins) return ERR_NO_MEMORY;
    memcpy(expr->ins, bytes, ins_size);
    if (const_count == 0) return ERR_NONE;
    expr->const_count = (uint32_t)const_count;
    expr->consts = arena_alloc(arena, const_count * sizeof *expr->consts);
    if (!expr->consts) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < expr->const_count; i++)
        expr->consts[i] = value_decode(reader);
    return reader->failed ? ERR_BAD_PROGRAM : ERR_NONE;
}

enum err expr_decode(struct reader *reader, struct arena *arena, struct expr *ret_expr)
{
    struct expr expr = {0};
    enum err err = decode_arrays(reader, arena, &expr);
    if (err) return err;
    uint8_t kinds[EXPR_INS_MAX];
    uint64_t listed =
        0; /* IN lists may share constants, but not without end: each is looked at here */
    for (uint32_t i = 0; i < expr.ins_count; i++) {
        if (expr.ins[i].op == EXPR_IN) listed += expr.ins[i].y;
        if (listed > LISTED_MAX) return ERR_BAD_PROGRAM;
        if (!expr_check_ins(&expr, i, kinds)) return ERR_BAD_PROGRAM;
        kinds[i] = (uint8_t)expr_result_kind(&expr.ins[i]);
    }
    *ret_expr = expr;
    return ERR_NONE;
}

enum err expr_check_columns(const struct expr *expr,
                            bool (*check)(const void *context, uint8_t source, uint16_t column,
                                          enum value_kind kind),
                            const void *context)
{
    for (uint32_t i = 0; i < expr->ins_count; i++) {
        const struct expr_ins *ins = &expr->ins[i];
        if (ins->op != EXPR_COLUMN) continue;
        if (!check(context, (uint8_t)ins->a, (uint16_t)ins->x, (enum value_kind)ins->kind)) {
            return ERR_BAD_PROGRAM;
        }
    }
    return ERR_NONE;
}
