/* Expression bytecode: guards and assignments of programs, and filters, keys, projections and
 * aggregate inputs of queries. One format, two interpreters (scalar in db/ldm/expr.c, vectors in
 * db/query/), which must agree on every value.
 *
 * A register machine in single-assignment form: instruction i writes register i and reads registers
 * below i, so a validated expression always ends and never reads what is not written. The result is
 * the last register. Every instruction states the kind it works in; the builder's caller (SQL's
 * binder, the file system) inserts casts, the interpreters do not guess.
 *
 * NULL: any NULL operand gives NULL, but for AND, OR (three-valued), IS_NULL, EQ_NULLSAFE, SELECT,
 * COALESCE. Truth values are I64 0 and 1. A guard or filter holds when its result is not NULL and
 * not 0. Integer overflow, a DEC result beyond 18 digits or scale 18, an F64 result that is not
 * finite, a number that a cast cannot hold and a shift count > 63 are ERR_OUT_OF_RANGE; division by
 * zero gives NULL, as MySQL does in SELECT. A register may be of kind NULL (a constant NULL without
 * a kind): it fits every operand. */
#ifndef DB_WIRE_EXPR_H
#define DB_WIRE_EXPR_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "db/wire/value.h"

enum {
    EXPR_INS_MAX = 4096,     /* instructions (= registers) of one expression */
    EXPR_CONSTS_MAX = 65536, /* an IN list is constants */
    EXPR_SOURCES_MAX = 32,
    EXPR_DEC_SCALE_MAX = 18,
    EXPR_STR_SIZE_MAX =
        1 << 20, /* bytes of a STR that an expression makes; beyond: ERR_OUT_OF_RANGE */
};

enum expr_op {
    EXPR_CONST = 1,  /* x: constant number */
    EXPR_COLUMN = 2, /* a: source, x: column. In a program a source is a step number; in a query a
                        table of the pipeline in order, or EXPR_SOURCE_GROUP / EXPR_SOURCE_AGG */
    EXPR_ADD = 3,    /* a, b: registers; kinds I64, U64, F64, DEC (equal scales) */
    EXPR_SUB = 4,
    EXPR_MUL = 5, /* DEC: the result's scale is the sum */
    EXPR_DIV =
        6, /* F64; DEC: result scale = a's scale + 4, 18 at most, rounded half away from zero */
    EXPR_IDIV = 7, /* I64, U64: truncates */
    EXPR_MOD = 8,  /* I64, U64, F64, DEC: sign of the dividend */
    EXPR_NEG = 9,
    EXPR_BIT_AND = 10, /* U64 */
    EXPR_BIT_OR = 11,
    EXPR_BIT_XOR = 12,
    EXPR_BIT_NOT = 13,
    EXPR_SHL = 14,
    EXPR_SHR = 15,
    EXPR_EQ = 16, /* kind is the operands'; x: enum collation for STR; result I64 */
    EXPR_NE = 17,
    EXPR_LT = 18,
    EXPR_LE = 19,
    EXPR_GT = 20,
    EXPR_GE = 21,
    EXPR_EQ_NULLSAFE = 22,
    EXPR_AND = 23, /* I64 */
    EXPR_OR = 24,
    EXPR_NOT = 25,
    EXPR_IS_NULL = 26, /* any kind, result I64 never NULL */
    EXPR_IS_NOT_NULL = 27,
    EXPR_CAST =
        28, /* a; kind: to; c: from (enum value_kind); x: scale when to DEC. To an integer rounds
               half away from zero; from STR takes the longest numeric prefix, 0 without one; to STR
               is the shortest text that reads back (DEC: all digits of the scale) */
    EXPR_SELECT = 29,   /* a ? b : c; kind is b's and c's */
    EXPR_COALESCE = 30, /* a, or b when a is NULL */
    EXPR_LIKE = 31, /* STR a; x: constant pattern; b: enum collation; c: escape byte or 0. % _ by
                       code point */
    EXPR_IN =
        32, /* a; x: first constant; y: how many (none NULL); kind is the operands'; b: collation */
    EXPR_ABS = 33,         /* I64, F64, DEC */
    EXPR_LOG2 = 34,        /* U64 -> I64: floor(log2(a)), -1 for 0 */
    EXPR_LENGTH = 35,      /* STR -> I64 bytes */
    EXPR_CHAR_LENGTH = 36, /* STR -> I64 code points */
    EXPR_LOWER = 37,       /* STR, ASCII letters */
    EXPR_UPPER = 38,
    EXPR_SUBSTR = 39, /* STR a, I64 b from 1 (negative from the end), I64 c length; code points */
    EXPR_CONCAT = 40, /* STR a, b */
    EXPR_EXTENSION = 41, /* STR a -> what follows the last dot of a file name, without the dot,
                            ASCII-lowered; empty when there is none or the only dot leads */
    EXPR_FLOOR = 42,     /* F64, DEC -> kind I64 */
    EXPR_CEIL = 43,
    EXPR_ROUND = 44, /* F64, DEC; x: digits kept; result same kind (DEC: scale x) */
    EXPR_YEAR = 45,  /* I64 microseconds -> I64 */
    EXPR_MONTH = 46,
    EXPR_DAY = 47,
    EXPR_HOME = 48, /* U64 inode number -> U64 home */
    EXPR_XOR = 49,  /* I64 truth values, three-valued */
    EXPR_INSTR =
        50, /* STR a, STR b -> I64 position of b in a from 1 in code points, 0 when absent */
    EXPR_CAST_DATETIME_STR =
        51,                  /* I64 microseconds -> STR 'YYYY-MM-DD hh:mm:ss[.ffffff]'; x: digits */
    EXPR_CAST_DATE_STR = 52, /* I64 days -> STR 'YYYY-MM-DD' */
    EXPR_OP_MAX = 52,
};

enum { EXPR_SOURCE_GROUP = 254, EXPR_SOURCE_AGG = 255 };

struct expr_ins {
    uint8_t op;
    uint8_t kind; /* enum value_kind */
    uint16_t a;
    uint16_t b;
    uint16_t c;
    uint32_t x;
    uint32_t y;
};
_Static_assert(sizeof(struct expr_ins) == 16, "wire format");

/* Immutable when built. Constants' bytes are borrowed from the arena or the message it was decoded
 * from. */
struct expr {
    uint32_t ins_count;
    uint32_t const_count;
    struct expr_ins *ins;
    struct value *consts;
};

/* The last instruction's result kind. */
enum value_kind expr_kind(const struct expr *expr);

/* Building: every add returns the new register. A builder latches failure; expr_finish reports it.
 */
struct expr_builder {
    struct arena *arena;
    struct expr expr;
    uint32_t ins_capacity;
    uint32_t const_capacity;
    enum err err;
};
void expr_begin(struct expr_builder *builder, struct arena *arena);
uint16_t expr_add(struct expr_builder *builder, struct expr_ins ins);
uint16_t expr_const(struct expr_builder *builder, struct value value); /* str bytes are copied */
/* A constant without an instruction, for EXPR_LIKE and EXPR_IN: its number, for x. Those added one
 * after the other get successive numbers. */
uint32_t expr_constant(struct expr_builder *builder, struct value value); /* str bytes are copied */
uint16_t expr_column(struct expr_builder *builder, enum value_kind kind, uint8_t source,
                     uint16_t column);
uint16_t expr_op1(struct expr_builder *builder, enum expr_op op, enum value_kind kind, uint16_t a);
uint16_t expr_op2(struct expr_builder *builder, enum expr_op op, enum value_kind kind, uint16_t a,
                  uint16_t b);
uint16_t expr_select(struct expr_builder *builder, enum value_kind kind, uint16_t condition,
                     uint16_t then, uint16_t otherwise);
/* ERR_NO_MEMORY, ERR_TOO_BIG. */
MUST_USE enum err expr_finish(struct expr_builder *builder, struct expr *ret_expr);

void expr_encode(const struct expr *expr, struct buf *buf);
/* Validates everything that does not need table definitions: operations, registers below, constant
 * numbers, kinds, limits. Memory from the arena; constant bytes borrowed from the reader.
 * ERR_BAD_PROGRAM, ERR_NO_MEMORY. */
MUST_USE enum err expr_decode(struct reader *reader, struct arena *arena, struct expr *ret_expr);
/* For each EXPR_COLUMN calls check(context, source, column, kind): a false makes it
 * ERR_BAD_PROGRAM. */
MUST_USE enum err expr_check_columns(const struct expr *expr,
                                     bool (*check)(const void *context, uint8_t source,
                                                   uint16_t column, enum value_kind kind),
                                     const void *context);

/* Values on the wire: kind u8, then scale u8 for DEC, then 8 bytes or varint size and bytes. */
void value_encode(struct value value, struct buf *buf);
/* Bytes borrowed. The reader latches failure on an unknown kind. */
struct value value_decode(struct reader *reader);

#endif
