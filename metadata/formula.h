/* Small expressions for guards and assignments, built on the stack: program_* copy them into the
 * program at once. Private to metadata/.
 *
 * All columns of the tables are unsigned (KIND_U64) but times (KIND_I64) and names (KIND_STR). */
#ifndef METADATA_FORMULA_H
#define METADATA_FORMULA_H

#include "base/check.h"
#include "db/wire/program.h"

enum { FORMULA_INS_MAX = 32, FORMULA_CONSTS_MAX = 12 };

/* Refers to itself: never copied. */
struct formula {
    struct expr expr;
    struct expr_ins ins[FORMULA_INS_MAX];
    struct value consts[FORMULA_CONSTS_MAX];
};

static inline void formula_begin(struct formula *formula)
{
    formula->expr = (struct expr){.ins = formula->ins, .consts = formula->consts};
}

static inline uint16_t formula_add(struct formula *formula, struct expr_ins ins)
{
    ASSERT(formula->expr.ins_count < FORMULA_INS_MAX);
    formula->ins[formula->expr.ins_count] = ins;
    return (uint16_t)formula->expr.ins_count++;
}

static inline uint16_t formula_const(struct formula *formula, struct value value)
{
    ASSERT(formula->expr.const_count < FORMULA_CONSTS_MAX);
    formula->consts[formula->expr.const_count] = value;
    return formula_add(
        formula,
        (struct expr_ins){.op = EXPR_CONST, .kind = value.kind, .x = formula->expr.const_count++});
}

static inline uint16_t formula_u64(struct formula *formula, uint64_t value)
{
    return formula_const(formula, value_u64(value));
}

static inline uint16_t formula_i64(struct formula *formula, int64_t value)
{
    return formula_const(formula, value_i64(value));
}

static inline uint16_t formula_column(struct formula *formula, enum value_kind kind, uint8_t step,
                                      uint16_t column)
{
    return formula_add(
        formula,
        (struct expr_ins){.op = EXPR_COLUMN, .kind = (uint8_t)kind, .a = step, .x = column});
}

/* A parameter of a prepared program. */
static inline uint16_t formula_param(struct formula *formula, enum value_kind kind, uint16_t number)
{
    return formula_column(formula, kind, PROGRAM_SOURCE_PARAM, number);
}

static inline uint16_t formula_op2(struct formula *formula, enum expr_op op, enum value_kind kind,
                                   uint16_t a, uint16_t b)
{
    return formula_add(formula,
                       (struct expr_ins){.op = (uint8_t)op, .kind = (uint8_t)kind, .a = a, .b = b});
}

static inline uint16_t formula_op1(struct formula *formula, enum expr_op op, enum value_kind kind,
                                   uint16_t a)
{
    return formula_op2(formula, op, kind, a, 0);
}

static inline uint16_t formula_select(struct formula *formula, enum value_kind kind,
                                      uint16_t condition, uint16_t then, uint16_t otherwise)
{
    return formula_add(
        formula,
        (struct expr_ins){
            .op = EXPR_SELECT, .kind = (uint8_t)kind, .a = condition, .b = then, .c = otherwise});
}

/* (step.column & bits) op 0, for op EQ or NE. */
static inline uint16_t formula_bits(struct formula *formula, uint8_t step, uint16_t column,
                                    uint64_t bits, enum expr_op op)
{
    uint16_t value = formula_column(formula, KIND_U64, step, column);
    uint16_t mask = formula_u64(formula, bits);
    uint16_t masked = formula_op2(formula, EXPR_BIT_AND, KIND_U64, value, mask);
    return formula_op2(formula, op, KIND_U64, masked, formula_u64(formula, 0));
}

static inline uint16_t formula_compare(struct formula *formula, enum expr_op op, uint8_t step,
                                       uint16_t column, uint64_t value)
{
    uint16_t a = formula_column(formula, KIND_U64, step, column);
    return formula_op2(formula, op, KIND_U64, a, formula_u64(formula, value));
}

/* ---- on the program's open step ---- */

/* Guard: step.column op value. */
static inline void guard_compare(struct program *program, enum expr_op op, uint8_t step,
                                 uint16_t column, uint64_t value, enum err err)
{
    struct formula formula;
    formula_begin(&formula);
    (void)formula_compare(&formula, op, step, column, value);
    program_guard(program, formula.expr, err);
}

static inline void guard_equal(struct program *program, uint8_t step, uint16_t column,
                               uint64_t value, enum err err)
{
    guard_compare(program, EXPR_EQ, step, column, value, err);
}

/* Guard: step.column = the parameter. */
static inline void guard_equal_param(struct program *program, uint8_t step, uint16_t column,
                                     uint16_t param, enum err err)
{
    struct formula formula;
    formula_begin(&formula);
    uint16_t a = formula_column(&formula, KIND_U64, step, column);
    (void)formula_op2(&formula, EXPR_EQ, KIND_U64, a, formula_param(&formula, KIND_U64, param));
    program_guard(program, formula.expr, err);
}

static inline void guard_equal_i64(struct program *program, uint8_t step, uint16_t column,
                                   int64_t value, enum err err)
{
    struct formula formula;
    formula_begin(&formula);
    uint16_t a = formula_column(&formula, KIND_I64, step, column);
    (void)formula_op2(&formula, EXPR_EQ, KIND_I64, a, formula_i64(&formula, value));
    program_guard(program, formula.expr, err);
}

/* Guard: none of the bits is set. */
static inline void guard_clear(struct program *program, uint8_t step, uint16_t column,
                               uint64_t bits, enum err err)
{
    struct formula formula;
    formula_begin(&formula);
    (void)formula_bits(&formula, step, column, bits, EXPR_EQ);
    program_guard(program, formula.expr, err);
}

/* Guard that never holds: of a SCAN, that there is no row. */
static inline void guard_never(struct program *program, enum err err)
{
    struct formula formula;
    formula_begin(&formula);
    (void)formula_i64(&formula, 0);
    program_guard(program, formula.expr, err);
}

/* Skip the open step unless step.column op value. */
static inline void when_compare(struct program *program, enum expr_op op, uint8_t step,
                                uint16_t column, uint64_t value)
{
    struct formula formula;
    formula_begin(&formula);
    (void)formula_compare(&formula, op, step, column, value);
    program_when(program, formula.expr);
}

/* Skip the open step unless the inode number in step.column has its home in the partition of `ino`.
 */
static inline void when_same_partition(struct program *program, uint8_t step, uint16_t column,
                                       uint64_t ino, uint32_t partition_mask)
{
    uint64_t mask = (uint64_t)partition_mask << HOME_SHIFT;
    struct formula formula;
    formula_begin(&formula);
    uint16_t number = formula_column(&formula, KIND_U64, step, column);
    uint16_t home =
        formula_op2(&formula, EXPR_BIT_AND, KIND_U64, number, formula_u64(&formula, mask));
    (void)formula_op2(&formula, EXPR_EQ, KIND_U64, home, formula_u64(&formula, ino & mask));
    program_when(program, formula.expr);
}

static inline void set_value(struct program *program, uint16_t column, struct value value)
{
    program_set(program, column, operand_value(value));
}

static inline void set_u64(struct program *program, uint16_t column, uint64_t value)
{
    set_value(program, column, value_u64(value));
}

static inline void set_i64(struct program *program, uint16_t column, int64_t value)
{
    set_value(program, column, value_i64(value));
}

/* column = own column + delta, for the step `own`. */
static inline void set_add(struct program *program, uint8_t own, uint16_t column, int64_t delta)
{
    struct formula formula;
    formula_begin(&formula);
    uint16_t old = formula_column(&formula, KIND_U64, own, column);
    uint64_t size = delta < 0 ? 0 - (uint64_t)delta : (uint64_t)delta;
    (void)formula_op2(&formula, delta < 0 ? EXPR_SUB : EXPR_ADD, KIND_U64, old,
                      formula_u64(&formula, size));
    program_set(program, column, operand_expr(formula.expr));
}

/* column = own column + the parameter. */
static inline void set_add_param(struct program *program, uint8_t own, uint16_t column,
                                 uint16_t param)
{
    struct formula formula;
    formula_begin(&formula);
    uint16_t old = formula_column(&formula, KIND_U64, own, column);
    (void)formula_op2(&formula, EXPR_ADD, KIND_U64, old, formula_param(&formula, KIND_U64, param));
    program_set(program, column, operand_expr(formula.expr));
}

/* column = the later of its own value and `time`. */
static inline void set_later(struct program *program, uint8_t own, uint16_t column, int64_t time)
{
    struct formula formula;
    formula_begin(&formula);
    uint16_t old = formula_column(&formula, KIND_I64, own, column);
    uint16_t value = formula_i64(&formula, time);
    uint16_t newer = formula_op2(&formula, EXPR_GT, KIND_I64, old, value);
    (void)formula_select(&formula, KIND_I64, newer, old, value);
    program_set(program, column, operand_expr(formula.expr));
}

#endif
