/* MySQL's rules of kinds, for the accepted subset, as casts around operands.
 *
 * Arithmetic: a double makes it a double; else a DECIMAL makes it a DECIMAL; else BIGINT UNSIGNED
 * when one side is, else BIGINT. Text is a double. `/` of two exact numbers is a DECIMAL with four
 * digits more than its first. A DECIMAL has at most 18 digits here (MySQL: 65), beyond which the
 * executor gives ERR_OUT_OF_RANGE. Dates are no numbers: MySQL's 20240131 is refused with what to
 * write.
 *
 * The bytecode's cast between BIGINT and BIGINT UNSIGNED fails for numbers that do not fit, so
 * where MySQL computes with both at once, the operands are first split into parts that do. */
#include "sql/bound.h"

#include <strings.h>

#include "base/check.h"
#include "sql/datetime.h"
#include "sql/parse.h"

static struct bound *zero(struct binder *binder, enum value_kind kind)
{
    return bound_const(binder, kind == KIND_U64 ? value_u64(0) : value_i64(0));
}

static struct bound *compare_raw(struct binder *binder, enum expr_op op, struct bound *a,
                                 struct bound *b)
{
    return a && b ? bound_op(binder, op, KIND_I64, a, b, NULL) : NULL;
}

struct bound *type_cast(struct binder *binder, struct bound *node, enum value_kind kind,
                        uint8_t scale)
{
    if (!node || binder->err) return NULL;
    if (bound_is_null(node)) {
        struct bound null = {.op = EXPR_CONST, .kind = (uint8_t)kind, .scale = scale};
        null.strength = STRENGTH_NONE;
        return bound_make(binder, null);
    }
    if (node->kind == kind && (kind != KIND_DEC || node->scale == scale)) return node;
    struct bound cast = {.op = EXPR_CAST, .kind = (uint8_t)kind, .args = {node}, .arg_count = 1};
    cast.strength = STRENGTH_NONE;
    if (kind == KIND_DEC) {
        cast.scale = scale;
        cast.x = scale;
    }
    cast.nonnegative = kind == KIND_I64 && node->kind == KIND_U64;
    cast.unsigned_low = kind == KIND_U64 && node->kind == KIND_I64;
    struct value value;
    if (bound_is_const(node) && fold_op(binder, &cast, &value)) return bound_const(binder, value);
    return bound_make(binder, cast);
}

struct bound *type_with_display(struct binder *binder, struct bound *node, uint8_t display,
                                uint8_t digits)
{
    if (!node || binder->err) return NULL;
    struct bound shown = *node;
    shown.display = display;
    shown.scale = digits;
    return bound_make(binder, shown);
}

struct bound *type_number(struct binder *binder, struct bound *node, uint32_t position)
{
    if (!node) return NULL;
    if (node->display)
        return bind_fail(binder, ERR_BIND, position,
                         "a date is no number: use UNIX_TIMESTAMP(x), YEAR(x), or x + INTERVAL n "
                         "DAY");
    if (node->kind != KIND_STR) return node;
    if (node->hex) {
        uint64_t number = 0;
        if (node->value.size > 8)
            return bind_fail(binder, ERR_OUT_OF_RANGE, position,
                             "a hexadecimal number has at most 8 bytes");
        for (uint32_t i = 0; i < node->value.size; i++)
            number = number << 8 | node->value.bytes[i];
        return bound_const(binder, value_u64(number));
    }
    return type_cast(binder, node, KIND_F64, 0);
}

struct bound *type_truth(struct binder *binder, struct bound *node, uint32_t position)
{
    if (!node) return NULL;
    if (bound_is_null(node)) return type_cast(binder, node, KIND_I64, 0);
    if (node->truth) return node;
    node = type_number(binder, node, position);
    if (!node) return NULL;
    struct bound *none =
        type_cast(binder, zero(binder, KIND_I64), (enum value_kind)node->kind, node->scale);
    return compare_raw(binder, EXPR_NE, node, none);
}

struct bound *type_string(struct binder *binder, struct bound *node)
{
    if (!node || node->kind == KIND_STR) return node;
    if (!node->display || bound_is_null(node)) return type_cast(binder, node, KIND_STR, 0);
    struct bound text = {.kind = KIND_STR, .args = {node}, .arg_count = 1};
    text.strength = STRENGTH_NONE;
    text.op = node->display == TYPE_DATE ? EXPR_CAST_DATE_STR : EXPR_CAST_DATETIME_STR;
    if (node->display != TYPE_DATE) text.x = node->scale;
    return bound_make(binder, text);
}

struct bound *type_datetime(struct binder *binder, struct bound *node)
{
    if (!node || node->display != TYPE_DATE) return node;
    struct bound *day = bound_const(binder, value_i64(DATETIME_US_PER_DAY));
    struct bound *plain = type_with_display(binder, node, 0, 0);
    if (!plain || !day) return NULL;
    return type_with_display(binder, bound_op(binder, EXPR_MUL, KIND_I64, plain, day, NULL),
                             TYPE_DATETIME, 0);
}

/* ---- between signed and unsigned ---- */

/* node when the condition holds for it, else the constant 0 of its kind; NULL stays. */
static struct bound *part_or_zero(struct binder *binder, enum expr_op op, struct bound *node,
                                  struct bound *limit)
{
    /* The condition is turned round, so that a NULL picks the node itself, which is NULL. */
    static const uint8_t opposite[] = {
        [EXPR_LT] = EXPR_GE, [EXPR_LE] = EXPR_GT, [EXPR_GT] = EXPR_LE, [EXPR_GE] = EXPR_LT};
    struct bound *fails = compare_raw(binder, (enum expr_op)opposite[op], node, limit);
    struct bound *none = zero(binder, (enum value_kind)node->kind);
    if (!fails || !none) return NULL;
    return bound_op(binder, EXPR_SELECT, (enum value_kind)node->kind, fails, none, node);
}

/* max(node, 0) of an I64, as U64. */
static struct bound *positive_part(struct binder *binder, struct bound *node)
{
    if (node->nonnegative) return type_cast(binder, node, KIND_U64, 0);
    struct bound *part = part_or_zero(binder, EXPR_GT, node, zero(binder, KIND_I64));
    return type_cast(binder, part, KIND_U64, 0);
}

/* max(-node, 0) of an I64, as U64. */
static struct bound *negative_part(struct binder *binder, struct bound *node)
{
    struct bound *part = part_or_zero(binder, EXPR_LT, node, zero(binder, KIND_I64));
    if (!part) return NULL;
    return type_cast(binder, bound_op(binder, EXPR_NEG, KIND_I64, part, NULL, NULL), KIND_U64, 0);
}

/* The bits of a signed number: for a negative x they are ~(-(x + 1)). */
struct bound *type_bits(struct binder *binder, struct bound *node, uint32_t position)
{
    node = type_number(binder, node, position);
    if (!node) return NULL;
    if (node->kind == KIND_F64 || node->kind == KIND_DEC)
        node = type_cast(binder, node, KIND_I64, 0);
    if (!node || node->kind == KIND_U64) return node;
    if (node->kind == KIND_NULL || bound_is_null(node)) return type_cast(binder, node, KIND_U64, 0);
    if (bound_is_const(node)) return bound_const(binder, value_u64((uint64_t)node->value.i));
    struct bound *positive = positive_part(binder, node);
    if (node->nonnegative || !positive) return positive;
    struct bound *one = bound_const(binder, value_i64(1));
    struct bound *low = part_or_zero(binder, EXPR_LT, node, zero(binder, KIND_I64));
    struct bound *is_low = compare_raw(binder, EXPR_LT, node, zero(binder, KIND_I64));
    if (!low || !one || !is_low) return NULL;
    /* -(low + 1) is never negative where it counts; where low is 0 it is -1, made 0. */
    struct bound *next = bound_op(binder, EXPR_ADD, KIND_I64, low, one, NULL);
    struct bound *mirrored =
        next ? positive_part(binder, bound_op(binder, EXPR_NEG, KIND_I64, next, NULL, NULL)) : NULL;
    if (!mirrored) return NULL;
    struct bound *inverted = bound_op(binder, EXPR_BIT_NOT, KIND_U64, mirrored, NULL, NULL);
    return inverted ? bound_op(binder, EXPR_SELECT, KIND_U64, is_low, inverted, positive) : NULL;
}

/* The signed number of the same 64 bits: -(~x) - 1 beyond the signed range. */
struct bound *type_signed(struct binder *binder, struct bound *node, uint32_t position)
{
    node = type_number(binder, node, position);
    if (!node) return NULL;
    if (node->kind != KIND_U64 || node->unsigned_low) return type_cast(binder, node, KIND_I64, 0);
    if (bound_is_const(node)) return bound_const(binder, value_i64((int64_t)node->value.u));
    struct bound *max = bound_const(binder, value_u64(INT64_MAX));
    struct bound *is_high = compare_raw(binder, EXPR_GT, node, max);
    struct bound *low = max ? part_or_zero(binder, EXPR_LE, node, max) : NULL;
    struct bound *inverted = bound_op(binder, EXPR_BIT_NOT, KIND_U64, node, NULL, NULL);
    struct bound *mirrored = inverted && max ? part_or_zero(binder, EXPR_LE, inverted, max) : NULL;
    low = type_cast(binder, low, KIND_I64, 0);
    mirrored = type_cast(binder, mirrored, KIND_I64, 0);
    if (!is_high || !low || !mirrored) return NULL;
    struct bound *negative = bound_op(binder, EXPR_NEG, KIND_I64, mirrored, NULL, NULL);
    struct bound *one = bound_const(binder, value_i64(1));
    if (!negative || !one) return NULL;
    negative = bound_op(binder, EXPR_SUB, KIND_I64, negative, one, NULL);
    return negative ? bound_op(binder, EXPR_SELECT, KIND_I64, is_high, negative, low) : NULL;
}

/* ---- arithmetic ---- */

static const char *token_text(int token)
{
    switch (token) {
    case TK_DIV:
        return "DIV";
    case TK_PERCENT:
    case TK_MOD:
        return "MOD";
    default:
        return "the operator";
    }
}

/* u + i, u - i, i + u, i - u of an unsigned and a signed number, unsigned. */
static struct bound *mixed_sum(struct binder *binder, enum expr_op op, struct bound *a,
                               struct bound *b)
{
    bool first_signed = a->kind == KIND_I64;
    struct bound *s = first_signed ? a : b;
    struct bound *u = first_signed ? b : a;
    struct bound *positive = positive_part(binder, s);
    struct bound *negative = s->nonnegative ? zero(binder, KIND_U64) : negative_part(binder, s);
    if (!positive || !negative) return NULL;
    bool minus = op == EXPR_SUB;
    struct bound *sum;
    if (first_signed && minus) {
        sum = bound_op(binder, EXPR_SUB, KIND_U64, positive, u, NULL);
    } else {
        enum expr_op with = minus ? EXPR_SUB : EXPR_ADD;
        sum = bound_op(binder, with, KIND_U64, u, positive, NULL);
    }
    if (s->nonnegative || !sum) return sum;
    enum expr_op without = minus && !first_signed ? EXPR_ADD : EXPR_SUB;
    return bound_op(binder, without, KIND_U64, sum, negative, NULL);
}

static struct bound *integer_arithmetic(struct binder *binder, enum expr_op op, int token,
                                        struct bound *a, struct bound *b, uint32_t position)
{
    if (a->kind == b->kind) return bound_op(binder, op, (enum value_kind)a->kind, a, b, NULL);
    if (op == EXPR_ADD || op == EXPR_SUB) return mixed_sum(binder, op, a, b);
    struct bound *s = a->kind == KIND_I64 ? a : b;
    struct bound *u = a->kind == KIND_I64 ? b : a;
    if (op == EXPR_MUL || s->nonnegative) {
        a = type_cast(binder, a, KIND_U64, 0);
        b = type_cast(binder, b, KIND_U64, 0);
        return a && b ? bound_op(binder, op, KIND_U64, a, b, NULL) : NULL;
    }
    if (!u->unsigned_low)
        return bind_fail(binder, ERR_BIND, position,
                         "%s of a signed and an unsigned BIGINT: CAST one side AS SIGNED or AS "
                         "UNSIGNED",
                         token_text(token));
    a = type_cast(binder, a, KIND_I64, 0);
    b = type_cast(binder, b, KIND_I64, 0);
    return a && b ? bound_op(binder, op, KIND_I64, a, b, NULL) : NULL;
}

static struct bound *decimal_arithmetic(struct binder *binder, enum expr_op op, struct bound *a,
                                        struct bound *b, uint32_t position)
{
    uint8_t a_scale = a->kind == KIND_DEC ? a->scale : 0;
    uint8_t b_scale = b->kind == KIND_DEC ? b->scale : 0;
    if (op == EXPR_MUL) {
        if (a_scale + b_scale > 18)
            return bind_fail(binder, ERR_BIND, position,
                             "the product has %d digits behind the point, more than 18: CAST one "
                             "side AS DOUBLE",
                             a_scale + b_scale);
    } else if (op == EXPR_DIV) {
        /* The result has four digits more. */
        if (a_scale > 14) a_scale = 14;
    } else {
        a_scale = b_scale = a_scale > b_scale ? a_scale : b_scale;
    }
    a = type_cast(binder, a, KIND_DEC, a_scale);
    b = type_cast(binder, b, KIND_DEC, b_scale);
    return a && b ? bound_op(binder, op, KIND_DEC, a, b, NULL) : NULL;
}

/* A shift by more than 63 gives 0, as in MySQL; the bytecode would call it out of range. */
static struct bound *shift(struct binder *binder, enum expr_op op, struct bound *a, struct bound *b)
{
    struct bound *max = bound_const(binder, value_u64(63));
    struct bound *none = zero(binder, KIND_U64);
    if (!max || !none) return NULL;
    struct bound *emptied = bound_op(binder, EXPR_BIT_AND, KIND_U64, a, none, NULL);
    if (bound_is_const(b) && !bound_is_null(b))
        return b->value.u > 63 ? emptied : bound_op(binder, op, KIND_U64, a, b, NULL);
    struct bound *is_far = compare_raw(binder, EXPR_GT, b, max);
    struct bound *near = part_or_zero(binder, EXPR_LE, b, max);
    if (!is_far || !near || !emptied) return NULL;
    struct bound *shifted = bound_op(binder, op, KIND_U64, a, near, NULL);
    return shifted ? bound_op(binder, EXPR_SELECT, KIND_U64, is_far, emptied, shifted) : NULL;
}

static struct bound *bit_arithmetic(struct binder *binder, enum expr_op op, struct bound *a,
                                    struct bound *b, uint32_t position)
{
    a = type_bits(binder, a, position);
    b = type_bits(binder, b, position);
    if (!a || !b) return NULL;
    if (op == EXPR_SHL || op == EXPR_SHR) return shift(binder, op, a, b);
    return bound_op(binder, op, KIND_U64, a, b, NULL);
}

static enum expr_op token_op(int token)
{
    switch (token) {
    case TK_PLUS:
        return EXPR_ADD;
    case TK_MINUS:
        return EXPR_SUB;
    case TK_STAR:
        return EXPR_MUL;
    case TK_SLASH:
        return EXPR_DIV;
    case TK_DIV:
        return EXPR_IDIV;
    case TK_PERCENT:
    case TK_MOD:
        return EXPR_MOD;
    case TK_AMP:
        return EXPR_BIT_AND;
    case TK_PIPE:
        return EXPR_BIT_OR;
    case TK_CARET:
        return EXPR_BIT_XOR;
    case TK_SHL:
        return EXPR_SHL;
    default:
        ASSERT(token == TK_SHR);
        return EXPR_SHR;
    }
}

struct bound *type_arithmetic(struct binder *binder, int token, struct bound *a, struct bound *b,
                              uint32_t position)
{
    if (!a || !b) return NULL;
    enum expr_op op = token_op(token);
    if (op >= EXPR_BIT_AND && op <= EXPR_SHR) return bit_arithmetic(binder, op, a, b, position);
    a = type_number(binder, a, position);
    b = type_number(binder, b, position);
    if (!a || !b) return NULL;
    if (bound_is_null(a))
        a = type_cast(binder, a, b->kind ? (enum value_kind)b->kind : KIND_I64, b->scale);
    if (bound_is_null(b)) b = type_cast(binder, b, (enum value_kind)a->kind, a->scale);
    if (!a || !b) return NULL;
    bool is_double = a->kind == KIND_F64 || b->kind == KIND_F64;
    bool is_decimal = a->kind == KIND_DEC || b->kind == KIND_DEC;
    if (op == EXPR_IDIV && (is_double || is_decimal))
        return bind_fail(binder, ERR_BIND, position,
                         "DIV takes integers: write FLOOR(a / b), or CAST AS SIGNED");
    if (is_double) {
        a = type_cast(binder, a, KIND_F64, 0);
        b = type_cast(binder, b, KIND_F64, 0);
        return a && b ? bound_op(binder, op, KIND_F64, a, b, NULL) : NULL;
    }
    if (is_decimal || op == EXPR_DIV) return decimal_arithmetic(binder, op, a, b, position);
    return integer_arithmetic(binder, op, token, a, b, position);
}

struct bound *type_negate(struct binder *binder, struct bound *a, uint32_t position)
{
    a = type_number(binder, a, position);
    if (!a) return NULL;
    if (bound_is_null(a))
        return type_cast(binder, a, a->kind ? (enum value_kind)a->kind : KIND_I64, a->scale);
    if (a->kind == KIND_U64) {
        /* -9223372036854775808 is a literal of 2^63 with a minus. */
        if (bound_is_const(a) && a->value.u == UINT64_C(1) << 63)
            return bound_const(binder, value_i64(INT64_MIN));
        a = type_cast(binder, a, KIND_I64, 0);
    }
    return a ? bound_op(binder, EXPR_NEG, (enum value_kind)a->kind, a, NULL, NULL) : NULL;
}

/* ---- one kind for several ---- */

struct kinds {
    bool has_str, has_f64, has_dec, has_u64, has_i64, has_display;
    bool i64_nonnegative, u64_low;
    bool has_date, has_datetime, has_timestamp;
    uint8_t scale;  /* the largest of a DEC */
    uint8_t digits; /* the most of a second */
};

static struct kinds kinds_of(struct bound *const *nodes, uint32_t count)
{
    struct kinds kinds = {.i64_nonnegative = true, .u64_low = true};
    for (uint32_t i = 0; i < count; i++) {
        const struct bound *node = nodes[i];
        if (bound_is_null(node)) continue;
        if (node->display) {
            kinds.has_display = true;
            kinds.has_date = kinds.has_date || node->display == TYPE_DATE;
            kinds.has_datetime = kinds.has_datetime || node->display == TYPE_DATETIME;
            kinds.has_timestamp = kinds.has_timestamp || node->display == TYPE_TIMESTAMP;
            if (node->display != TYPE_DATE && node->scale > kinds.digits)
                kinds.digits = node->scale;
            continue;
        }
        kinds.has_str = kinds.has_str || node->kind == KIND_STR;
        kinds.has_f64 = kinds.has_f64 || node->kind == KIND_F64;
        kinds.has_dec = kinds.has_dec || node->kind == KIND_DEC;
        if (node->kind == KIND_DEC && node->scale > kinds.scale) kinds.scale = node->scale;
        if (node->kind == KIND_U64) {
            kinds.has_u64 = true;
            kinds.u64_low = kinds.u64_low && node->unsigned_low;
        }
        if (node->kind == KIND_I64) {
            kinds.has_i64 = true;
            kinds.i64_nonnegative = kinds.i64_nonnegative && node->nonnegative;
        }
    }
    return kinds;
}

static bool unify_collations(struct binder *binder, struct bound **nodes, uint32_t count,
                             uint32_t position)
{
    struct bound all = *nodes[0];
    for (uint32_t i = 1; i < count; i++)
        if (!type_collation(binder, &all, nodes[i], position, &all.collation, &all.strength))
            return false;
    for (uint32_t i = 0; i < count; i++) {
        struct bound same = *nodes[i];
        same.collation = all.collation;
        same.strength = all.strength;
        nodes[i] = bound_make(binder, same);
        if (!nodes[i]) return false;
    }
    return true;
}

static struct bound *unify_dates(struct binder *binder, const struct kinds *kinds,
                                 struct bound *node)
{
    if (bound_is_null(node)) {
        node = type_cast(binder, node, KIND_I64, 0);
    } else if (kinds->has_datetime || kinds->has_timestamp) {
        node = type_datetime(binder, node);
    }
    if (!kinds->has_datetime && !kinds->has_timestamp)
        return type_with_display(binder, node, TYPE_DATE, 0);
    return type_with_display(binder, node, kinds->has_datetime ? TYPE_DATETIME : TYPE_TIMESTAMP,
                             kinds->digits);
}

bool type_unify(struct binder *binder, struct bound **nodes, uint32_t count, uint32_t position)
{
    for (uint32_t i = 0; i < count; i++)
        if (!nodes[i]) return false;
    struct kinds kinds = kinds_of(nodes, count);
    bool has_number = kinds.has_f64 || kinds.has_dec || kinds.has_u64 || kinds.has_i64;
    if (kinds.has_display && has_number) {
        bind_fail(binder, ERR_BIND, position,
                  "dates and numbers in one result: make both text with CAST(x AS CHAR)");
        return false;
    }
    bool is_date = kinds.has_display && !kinds.has_str;
    enum value_kind kind = kinds.has_str   ? KIND_STR
                           : kinds.has_f64 ? KIND_F64
                           : kinds.has_dec ? KIND_DEC
                           : kinds.has_u64 ? KIND_U64
                                           : KIND_I64;
    if (kind == KIND_U64 && kinds.has_i64 && !kinds.i64_nonnegative) {
        if (!kinds.u64_low) {
            bind_fail(binder, ERR_BIND, position,
                      "signed and unsigned BIGINTs in one result: CAST one side AS SIGNED or AS "
                      "UNSIGNED");
            return false;
        }
        kind = KIND_I64;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (is_date)
            nodes[i] = unify_dates(binder, &kinds, nodes[i]);
        else if (kind == KIND_STR)
            nodes[i] = type_string(binder, nodes[i]);
        else
            nodes[i] = type_cast(binder, nodes[i], kind, kinds.scale);
        if (!nodes[i]) return false;
    }
    return kind != KIND_STR || unify_collations(binder, nodes, count, position);
}

bool type_collation(struct binder *binder, const struct bound *a, const struct bound *b,
                    uint32_t position, uint8_t *ret_collation, uint8_t *ret_strength)
{
    uint8_t strength = a->strength < b->strength ? a->strength : b->strength;
    uint8_t collation = a->strength <= b->strength ? a->collation : b->collation;
    if (a->strength == b->strength && a->collation != b->collation) {
        if (strength == STRENGTH_EXPLICIT) {
            bind_fail(binder, ERR_BIND, position, "two different COLLATEs");
            return false;
        }
        collation = COLLATION_BINARY; /* of two columns the _bin one decides, as in MySQL */
    }
    *ret_collation = collation;
    *ret_strength = strength;
    return true;
}
