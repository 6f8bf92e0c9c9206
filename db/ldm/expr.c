/* The scalar interpreter of expression bytecode: runs the guards and assignments of programs, and
 * is what the vector interpreter falls back to for a single value.
 *
 * Here are evaluation, NULLs, comparison and logic; the other operations are in expr_number.c,
 * expr_cast.c, expr_text.c and expr_date.c. Expressions were validated when decoded
 * (db/wire/expr_codec.c), so wrong kinds are our own bug. Nothing loops without a bound:
 * instructions run once each, and texts have limits. */
#include "db/ldm/expr.h"

#include "base/check.h"
#include "db/ldm/expr_ops.h"
#include "db/wire/expr_rules.h"

enum { REGISTERS_ON_STACK = 64 };

bool expr_holds(struct value value)
{
    switch ((enum value_kind)value.kind) {
    case KIND_I64:
    case KIND_DEC:
        return value.i != 0;
    case KIND_U64:
        return value.u != 0;
    case KIND_F64:
        return value.f != 0;
    default:
        return false;
    }
}

/* ---- NULLs ---- */

/* Operations that look at NULL operands; all others pass them on. */
static bool sees_nulls(uint8_t op)
{
    switch ((enum expr_op)op) {
    case EXPR_CONST:
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_IS_NULL:
    case EXPR_IS_NOT_NULL:
    case EXPR_EQ_NULLSAFE:
    case EXPR_SELECT:
    case EXPR_COALESCE:
        return true;
    default:
        return false;
    }
}

static bool any_null(const struct expr_ins *ins, struct value a, struct value b, struct value c)
{
    uint32_t count = expr_operand_count(ins);
    return (count > 0 && value_is_null(a)) || (count > 1 && value_is_null(b)) ||
           (count > 2 && value_is_null(c));
}

/* The operand that decides alone: a false one of AND, a true one of OR. */
static struct value logic_apply(bool conjunction, struct value a, struct value b)
{
    bool a_decides = !value_is_null(a) && expr_holds(a) != conjunction;
    bool b_decides = !value_is_null(b) && expr_holds(b) != conjunction;
    if (a_decides || b_decides) return value_i64(!conjunction);
    if (value_is_null(a) || value_is_null(b)) return value_null();
    return value_i64(conjunction);
}

static struct value equal_nullsafe(const struct expr_ins *ins, struct value a, struct value b)
{
    if (value_is_null(a) || value_is_null(b)) {
        return value_i64(value_is_null(a) && value_is_null(b));
    }
    return value_i64(value_compare(a, b, (enum collation)ins->x) == 0);
}

static struct value apply_seeing_nulls(const struct expr *expr, const struct expr_ins *ins,
                                       struct value a, struct value b, struct value c)
{
    switch ((enum expr_op)ins->op) {
    case EXPR_CONST:
        return expr->consts[ins->x];
    case EXPR_AND:
        return logic_apply(true, a, b);
    case EXPR_OR:
        return logic_apply(false, a, b);
    case EXPR_IS_NULL:
        return value_i64(value_is_null(a));
    case EXPR_IS_NOT_NULL:
        return value_i64(!value_is_null(a));
    case EXPR_EQ_NULLSAFE:
        return equal_nullsafe(ins, a, b);
    case EXPR_SELECT:
        return expr_holds(a) ? b : c;
    default:
        ASSERT(ins->op == EXPR_COALESCE);
        return value_is_null(a) ? b : a;
    }
}

/* ---- one operation ---- */

static struct value compare(const struct expr_ins *ins, struct value a, struct value b)
{
    int order = value_compare(a, b, (enum collation)ins->x);
    switch ((enum expr_op)ins->op) {
    case EXPR_EQ:
        return value_i64(order == 0);
    case EXPR_NE:
        return value_i64(order != 0);
    case EXPR_LT:
        return value_i64(order < 0);
    case EXPR_LE:
        return value_i64(order <= 0);
    case EXPR_GT:
        return value_i64(order > 0);
    default:
        return value_i64(order >= 0);
    }
}

static struct value is_in(const struct expr *expr, const struct expr_ins *ins, struct value a)
{
    const struct value *list = expr->consts + ins->x;
    for (uint32_t i = 0; i < ins->y; i++) {
        if (value_compare(a, list[i], (enum collation)ins->b) == 0) return value_i64(1);
    }
    return value_i64(0);
}

enum err expr_apply(const struct expr *expr, const struct expr_ins *ins, struct value a,
                    struct value b, struct value c, struct arena *arena, struct value *ret_value)
{
    if (sees_nulls(ins->op)) {
        *ret_value = apply_seeing_nulls(expr, ins, a, b, c);
        return ERR_NONE;
    }
    if (any_null(ins, a, b, c)) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    switch ((enum expr_op)ins->op) {
    case EXPR_EQ:
    case EXPR_NE:
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_GT:
    case EXPR_GE:
        *ret_value = compare(ins, a, b);
        return ERR_NONE;
    case EXPR_NOT:
        *ret_value = value_i64(!expr_holds(a));
        return ERR_NONE;
    case EXPR_XOR:
        *ret_value = value_i64(expr_holds(a) != expr_holds(b));
        return ERR_NONE;
    case EXPR_IN:
        *ret_value = is_in(expr, ins, a);
        return ERR_NONE;
    case EXPR_CAST:
        return cast_apply(ins, a, arena, ret_value);
    case EXPR_LIKE:
    case EXPR_LENGTH:
    case EXPR_CHAR_LENGTH:
    case EXPR_LOWER:
    case EXPR_UPPER:
    case EXPR_SUBSTR:
    case EXPR_CONCAT:
    case EXPR_EXTENSION:
    case EXPR_INSTR:
        return text_apply(expr, ins, a, b, c, arena, ret_value);
    case EXPR_YEAR:
    case EXPR_MONTH:
    case EXPR_DAY:
    case EXPR_CAST_DATETIME_STR:
    case EXPR_CAST_DATE_STR:
        return date_apply(ins, a, arena, ret_value);
    default:
        return number_apply(ins, a, b, ret_value);
    }
}

/* ---- whole expressions ---- */

/* What guards and assignments mostly are: comparisons, sums, differences and bits of two integers.
 * False: something else, or not within range. */
static inline bool integer_apply(const struct expr_ins *ins, const struct value *registers,
                                 struct value *ret_value)
{
    if (ins->kind != KIND_U64 && ins->kind != KIND_I64) return false;
    bool is_compare = ins->op >= EXPR_EQ && ins->op <= EXPR_GE;
    if (!is_compare && ins->op != EXPR_ADD && ins->op != EXPR_SUB && ins->op != EXPR_BIT_AND)
        return false;
    const struct value *a = &registers[ins->a];
    const struct value *b = &registers[ins->b];
    if (a->kind != ins->kind || b->kind != ins->kind) return false; /* NULLs */
    bool is_signed = ins->kind == KIND_I64;
    if (ins->op == EXPR_BIT_AND) {
        *ret_value = (struct value){.kind = ins->kind, .u = a->u & b->u};
        return true;
    }
    if (!is_compare) {
        struct value sum = {.kind = ins->kind};
        bool overflow;
        if (ins->op == EXPR_ADD)
            overflow = is_signed ? __builtin_add_overflow(a->i, b->i, &sum.i)
                                 : __builtin_add_overflow(a->u, b->u, &sum.u);
        else
            overflow = is_signed ? __builtin_sub_overflow(a->i, b->i, &sum.i)
                                 : __builtin_sub_overflow(a->u, b->u, &sum.u);
        if (overflow) return false;
        *ret_value = sum;
        return true;
    }
    bool less = is_signed ? a->i < b->i : a->u < b->u;
    bool equal = a->u == b->u;
    bool holds;
    switch ((enum expr_op)ins->op) {
    case EXPR_EQ:
        holds = equal;
        break;
    case EXPR_NE:
        holds = !equal;
        break;
    case EXPR_LT:
        holds = less;
        break;
    case EXPR_LE:
        holds = less || equal;
        break;
    case EXPR_GT:
        holds = !less && !equal;
        break;
    default:
        holds = !less;
        break;
    }
    *ret_value = value_i64(holds);
    return true;
}

enum err expr_eval(const struct expr *expr,
                   struct value (*column)(const void *context, uint8_t source, uint16_t column),
                   const void *context, struct arena *arena, struct value *ret_value)
{
    struct value on_stack[REGISTERS_ON_STACK];
    struct value *registers = on_stack;
    ASSERT(expr->ins_count > 0);
    if (expr->ins_count > REGISTERS_ON_STACK) {
        registers = arena_new(arena, struct value, expr->ins_count);
        if (!registers) return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < expr->ins_count; i++) {
        const struct expr_ins *ins = &expr->ins[i];
        if (ins->op == EXPR_COLUMN) {
            registers[i] = column(context, (uint8_t)ins->a, (uint16_t)ins->x);
            ASSERT(value_is_null(registers[i]) || registers[i].kind == ins->kind);
            continue;
        }
        if (ins->op == EXPR_CONST) {
            registers[i] = expr->consts[ins->x];
            continue;
        }
        if (integer_apply(ins, registers, &registers[i])) continue;
        uint32_t count = expr_operand_count(ins);
        struct value a = count > 0 ? registers[ins->a] : value_null();
        struct value b = count > 1 ? registers[ins->b] : value_null();
        struct value c = count > 2 ? registers[ins->c] : value_null();
        enum err err = expr_apply(expr, ins, a, b, c, arena, &registers[i]);
        if (err) return err;
    }
    *ret_value = registers[expr->ins_count - 1];
    return ERR_NONE;
}
