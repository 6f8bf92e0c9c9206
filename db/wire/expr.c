/* Building expressions, and what is known about every operation without running it.
 *
 * The rules of kinds are here once: expr_check_ins says whether an instruction fits the kinds of
 * the registers it reads, expr_result_kind what it makes of them. Decoding applies them to what
 * comes from outside (expr_codec.c); the interpreters rely on them. */
#include "db/wire/expr.h"
#include "db/wire/expr_rules.h"

#include "base/check.h"

enum { INS_CAPACITY_FIRST = 16, CONST_CAPACITY_FIRST = 8 };

/* ---- rules ---- */

/* What an operation's operands must be. */
enum operand_rule {
    OPERANDS_NUMBERS = 1, /* of ins->kind: I64, U64, F64, DEC */
    OPERANDS_INTEGERS,    /* of ins->kind: I64, U64 */
    OPERANDS_U64,
    OPERANDS_ANY_SAME, /* of ins->kind, any */
    OPERANDS_TRUTH,    /* I64 or U64 */
    OPERANDS_STR,
    OPERANDS_ANY, /* each of its own */
    OPERANDS_I64,
    OPERANDS_REAL, /* F64 or DEC */
    OPERANDS_OTHER,
};

struct op_rule {
    uint8_t count;    /* of registers, in a, b, c */
    uint8_t operands; /* enum operand_rule */
    uint8_t result;   /* enum value_kind; KIND_NULL: ins->kind */
};

static const struct op_rule rules[EXPR_OP_MAX + 1] = {
    [EXPR_CONST] = {0, OPERANDS_OTHER, KIND_NULL},
    [EXPR_COLUMN] = {0, OPERANDS_OTHER, KIND_NULL},
    [EXPR_ADD] = {2, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_SUB] = {2, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_MUL] = {2, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_DIV] = {2, OPERANDS_REAL, KIND_NULL},
    [EXPR_IDIV] = {2, OPERANDS_INTEGERS, KIND_NULL},
    [EXPR_MOD] = {2, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_NEG] = {1, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_BIT_AND] = {2, OPERANDS_U64, KIND_U64},
    [EXPR_BIT_OR] = {2, OPERANDS_U64, KIND_U64},
    [EXPR_BIT_XOR] = {2, OPERANDS_U64, KIND_U64},
    [EXPR_BIT_NOT] = {1, OPERANDS_U64, KIND_U64},
    [EXPR_SHL] = {2, OPERANDS_U64, KIND_U64},
    [EXPR_SHR] = {2, OPERANDS_U64, KIND_U64},
    [EXPR_EQ] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_NE] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_LT] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_LE] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_GT] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_GE] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_EQ_NULLSAFE] = {2, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_AND] = {2, OPERANDS_TRUTH, KIND_I64},
    [EXPR_OR] = {2, OPERANDS_TRUTH, KIND_I64},
    [EXPR_NOT] = {1, OPERANDS_TRUTH, KIND_I64},
    [EXPR_IS_NULL] = {1, OPERANDS_ANY, KIND_I64},
    [EXPR_IS_NOT_NULL] = {1, OPERANDS_ANY, KIND_I64},
    [EXPR_CAST] = {1, OPERANDS_OTHER, KIND_NULL},
    [EXPR_SELECT] = {3, OPERANDS_OTHER, KIND_NULL},
    [EXPR_COALESCE] = {2, OPERANDS_ANY_SAME, KIND_NULL},
    [EXPR_LIKE] = {1, OPERANDS_STR, KIND_I64},
    [EXPR_IN] = {1, OPERANDS_ANY_SAME, KIND_I64},
    [EXPR_ABS] = {1, OPERANDS_NUMBERS, KIND_NULL},
    [EXPR_LOG2] = {1, OPERANDS_U64, KIND_I64},
    [EXPR_LENGTH] = {1, OPERANDS_STR, KIND_I64},
    [EXPR_CHAR_LENGTH] = {1, OPERANDS_STR, KIND_I64},
    [EXPR_LOWER] = {1, OPERANDS_STR, KIND_STR},
    [EXPR_UPPER] = {1, OPERANDS_STR, KIND_STR},
    [EXPR_SUBSTR] = {3, OPERANDS_OTHER, KIND_STR},
    [EXPR_CONCAT] = {2, OPERANDS_STR, KIND_STR},
    [EXPR_EXTENSION] = {1, OPERANDS_STR, KIND_STR},
    [EXPR_FLOOR] = {1, OPERANDS_REAL, KIND_I64},
    [EXPR_CEIL] = {1, OPERANDS_REAL, KIND_I64},
    [EXPR_ROUND] = {1, OPERANDS_REAL, KIND_NULL},
    [EXPR_YEAR] = {1, OPERANDS_I64, KIND_I64},
    [EXPR_MONTH] = {1, OPERANDS_I64, KIND_I64},
    [EXPR_DAY] = {1, OPERANDS_I64, KIND_I64},
    [EXPR_HOME] = {1, OPERANDS_U64, KIND_U64},
    [EXPR_XOR] = {2, OPERANDS_TRUTH, KIND_I64},
    [EXPR_INSTR] = {2, OPERANDS_STR, KIND_I64},
    [EXPR_CAST_DATETIME_STR] = {1, OPERANDS_I64, KIND_STR},
    [EXPR_CAST_DATE_STR] = {1, OPERANDS_I64, KIND_STR},
};

enum value_kind expr_result_kind(const struct expr_ins *ins)
{
    if (ins->op == 0 || ins->op > EXPR_OP_MAX) return KIND_NULL;
    uint8_t result = rules[ins->op].result;
    return (enum value_kind)(result ? result : ins->kind);
}

uint32_t expr_operand_count(const struct expr_ins *ins)
{
    return ins->op <= EXPR_OP_MAX ? rules[ins->op].count : 0;
}

/* An untyped NULL fits everywhere. */
static bool fits(uint8_t kind, enum value_kind wanted)
{
    return kind == wanted || kind == KIND_NULL;
}

static bool is_number(uint8_t kind)
{
    return kind >= KIND_I64 && kind <= KIND_DEC;
}

static bool operand_fits(enum operand_rule rule, uint8_t ins_kind, uint8_t kind)
{
    switch (rule) {
    case OPERANDS_NUMBERS:
        return is_number(ins_kind) && fits(kind, (enum value_kind)ins_kind);
    case OPERANDS_INTEGERS:
        return (ins_kind == KIND_I64 || ins_kind == KIND_U64) &&
               fits(kind, (enum value_kind)ins_kind);
    case OPERANDS_U64:
        return fits(kind, KIND_U64);
    case OPERANDS_ANY_SAME:
        return fits(kind, (enum value_kind)ins_kind);
    case OPERANDS_TRUTH:
        return fits(kind, KIND_I64) || kind == KIND_U64;
    case OPERANDS_STR:
        return fits(kind, KIND_STR);
    case OPERANDS_ANY:
        return true;
    case OPERANDS_I64:
        return fits(kind, KIND_I64);
    case OPERANDS_REAL:
        return fits(kind, KIND_F64) || kind == KIND_DEC;
    case OPERANDS_OTHER:
        break;
    }
    return true;
}

/* Rules of single operations beyond their operands' kinds. */
static bool check_details(const struct expr *expr, const struct expr_ins *ins, const uint8_t *kinds)
{
    switch ((enum expr_op)ins->op) {
    case EXPR_CONST:
        return ins->x < expr->const_count &&
               fits(expr->consts[ins->x].kind, (enum value_kind)ins->kind);
    case EXPR_COLUMN:
        return ins->a <= UINT8_MAX && ins->x <= UINT16_MAX && ins->kind != KIND_NULL;
    case EXPR_DIV:
        return (ins->kind == KIND_F64 || ins->kind == KIND_DEC) &&
               fits(kinds[ins->a], (enum value_kind)ins->kind) &&
               fits(kinds[ins->b], (enum value_kind)ins->kind);
    case EXPR_ABS:
        return ins->kind != KIND_U64;
    case EXPR_EQ:
    case EXPR_NE:
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_GT:
    case EXPR_GE:
    case EXPR_EQ_NULLSAFE:
        return ins->kind != KIND_STR || ins->x <= COLLATION_CASE_INSENSITIVE;
    case EXPR_CAST:
        return ins->kind != KIND_NULL && ins->c <= KIND_STR &&
               fits(kinds[ins->a], (enum value_kind)ins->c) &&
               (ins->kind != KIND_DEC || ins->x <= EXPR_DEC_SCALE_MAX);
    case EXPR_SELECT:
        return operand_fits(OPERANDS_TRUTH, 0, kinds[ins->a]) &&
               fits(kinds[ins->b], (enum value_kind)ins->kind) &&
               fits(kinds[ins->c], (enum value_kind)ins->kind);
    case EXPR_LIKE:
        return ins->x < expr->const_count && expr->consts[ins->x].kind == KIND_STR &&
               ins->b <= COLLATION_CASE_INSENSITIVE && ins->c <= UINT8_MAX;
    case EXPR_IN:
        if (ins->x > expr->const_count || ins->y > expr->const_count - ins->x) return false;
        for (uint32_t i = 0; i < ins->y; i++) {
            if (ins->kind == KIND_NULL || expr->consts[ins->x + i].kind != ins->kind) return false;
        }
        return ins->kind != KIND_STR || ins->b <= COLLATION_CASE_INSENSITIVE;
    case EXPR_SUBSTR:
        return fits(kinds[ins->a], KIND_STR) && fits(kinds[ins->b], KIND_I64) &&
               fits(kinds[ins->c], KIND_I64);
    case EXPR_ROUND:
        return (ins->kind == KIND_F64 || ins->kind == KIND_DEC) &&
               fits(kinds[ins->a], (enum value_kind)ins->kind) && ins->x <= EXPR_DEC_SCALE_MAX;
    case EXPR_CAST_DATETIME_STR:
        return ins->x <= 6;
    default:
        return true;
    }
}

bool expr_check_ins(const struct expr *expr, uint32_t index, const uint8_t *kinds)
{
    const struct expr_ins *ins = &expr->ins[index];
    if (ins->op == 0 || ins->op > EXPR_OP_MAX || ins->kind > KIND_STR) return false;
    const struct op_rule *rule = &rules[ins->op];
    const uint16_t operands[] = {ins->a, ins->b, ins->c};
    for (uint32_t i = 0; i < rule->count; i++) {
        if (operands[i] >= index) return false;
        if (!operand_fits((enum operand_rule)rule->operands, ins->kind, kinds[operands[i]])) {
            return false;
        }
    }
    return check_details(expr, ins, kinds);
}

enum value_kind expr_kind(const struct expr *expr)
{
    ASSERT(expr->ins_count > 0);
    return expr_result_kind(&expr->ins[expr->ins_count - 1]);
}

/* ---- building ---- */

void expr_begin(struct expr_builder *builder, struct arena *arena)
{
    *builder = (struct expr_builder){.arena = arena};
}

/* An array of twice the size with the old elements; NULL when the arena has no memory. */
static void *grown(struct expr_builder *builder, const void *old, uint32_t count, uint32_t capacity,
                   size_t size)
{
    void *array = arena_alloc(builder->arena, capacity * size);
    if (!array) {
        builder->err = ERR_NO_MEMORY;
        return NULL;
    }
    if (count) memcpy(array, old, count * size);
    return array;
}

uint16_t expr_add(struct expr_builder *builder, struct expr_ins ins)
{
    struct expr *expr = &builder->expr;
    if (builder->err) return 0;
    if (expr->ins_count == EXPR_INS_MAX) {
        builder->err = ERR_TOO_BIG;
        return 0;
    }
    if (expr->ins_count == builder->ins_capacity) {
        uint32_t capacity = builder->ins_capacity ? builder->ins_capacity * 2 : INS_CAPACITY_FIRST;
        struct expr_ins *array = grown(builder, expr->ins, expr->ins_count, capacity, sizeof ins);
        if (!array) return 0;
        expr->ins = array;
        builder->ins_capacity = capacity;
    }
    expr->ins[expr->ins_count] = ins;
    return (uint16_t)expr->ins_count++;
}

uint32_t expr_constant(struct expr_builder *builder, struct value value)
{
    struct expr *expr = &builder->expr;
    if (builder->err) return 0;
    if (expr->const_count == EXPR_CONSTS_MAX) {
        builder->err = ERR_TOO_BIG;
        return 0;
    }
    if (expr->const_count == builder->const_capacity) {
        uint32_t capacity =
            builder->const_capacity ? builder->const_capacity * 2 : CONST_CAPACITY_FIRST;
        struct value *array =
            grown(builder, expr->consts, expr->const_count, capacity, sizeof value);
        if (!array) return 0;
        expr->consts = array;
        builder->const_capacity = capacity;
    }
    if (value.kind == KIND_STR && value.size) {
        value.bytes = (const uint8_t *)arena_copy(builder->arena, value.bytes, value.size);
        if (!value.bytes) {
            builder->err = ERR_NO_MEMORY;
            return 0;
        }
    }
    expr->consts[expr->const_count] = value;
    return expr->const_count++;
}

uint16_t expr_const(struct expr_builder *builder, struct value value)
{
    uint32_t number = expr_constant(builder, value);
    return expr_add(builder, (struct expr_ins){.op = EXPR_CONST, .kind = value.kind, .x = number});
}

uint16_t expr_column(struct expr_builder *builder, enum value_kind kind, uint8_t source,
                     uint16_t column)
{
    return expr_add(
        builder,
        (struct expr_ins){.op = EXPR_COLUMN, .kind = (uint8_t)kind, .a = source, .x = column});
}

uint16_t expr_op1(struct expr_builder *builder, enum expr_op op, enum value_kind kind, uint16_t a)
{
    return expr_add(builder, (struct expr_ins){.op = (uint8_t)op, .kind = (uint8_t)kind, .a = a});
}

uint16_t expr_op2(struct expr_builder *builder, enum expr_op op, enum value_kind kind, uint16_t a,
                  uint16_t b)
{
    return expr_add(builder,
                    (struct expr_ins){.op = (uint8_t)op, .kind = (uint8_t)kind, .a = a, .b = b});
}

uint16_t expr_select(struct expr_builder *builder, enum value_kind kind, uint16_t condition,
                     uint16_t then, uint16_t otherwise)
{
    return expr_add(
        builder,
        (struct expr_ins){
            .op = EXPR_SELECT, .kind = (uint8_t)kind, .a = condition, .b = then, .c = otherwise});
}

enum err expr_finish(struct expr_builder *builder, struct expr *ret_expr)
{
    if (builder->err) return builder->err;
    ASSERT(builder->expr.ins_count > 0);
    *ret_expr = builder->expr;
    return ERR_NONE;
}
