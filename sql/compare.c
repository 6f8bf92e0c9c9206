/* Comparisons: =, <, IN, LIKE and their kin, between any two kinds.
 *
 * A constant is brought to the kind of the other side whenever that changes no answer, since only a
 * comparison of a bare column with a constant of its own kind can use an index: `size > 1.5`
 * becomes `size > 1`, `uid = '7'` becomes `uid = 7`, and `uid = -1` of an unsigned column never
 * holds. */
#include "sql/bound.h"

#include <math.h>

#include "base/check.h"
#include "sql/datetime.h"

/* A comparison of operands of one kind. */
static struct bound *compare_same(struct binder *binder, enum expr_op op, struct bound *a,
                                  struct bound *b, uint8_t collation)
{
    if (!a || !b || binder->err) return NULL;
    struct bound node = {.op = (uint8_t)op, .kind = KIND_I64, .args = {a, b}, .arg_count = 2};
    node.truth = node.nonnegative = true;
    node.strength = STRENGTH_NONE;
    node.collation = collation;
    struct value value;
    if (fold_op(binder, &node, &value))
        return value_is_null(value) ? bound_null(binder, KIND_I64) : bound_const(binder, value);
    return binder->err ? NULL : bound_make(binder, node);
}

struct bound *type_never(struct binder *binder, struct bound *a)
{
    return compare_same(binder, EXPR_LT, a, a, COLLATION_BINARY);
}

struct bound *type_always(struct binder *binder, struct bound *a)
{
    return compare_same(binder, EXPR_EQ, a, a, COLLATION_BINARY);
}

static enum expr_op mirror(enum expr_op op)
{
    switch (op) {
    case EXPR_LT:
        return EXPR_GT;
    case EXPR_LE:
        return EXPR_GE;
    case EXPR_GT:
        return EXPR_LT;
    case EXPR_GE:
        return EXPR_LE;
    default:
        return op;
    }
}

/* ---- a number compared with a constant that it may not be able to equal ---- */

/* The constant in the kind of a column, or the largest such number below it. */
struct grid {
    enum { GRID_EXACT, GRID_ABOVE, GRID_BELOW_ALL, GRID_ABOVE_ALL, GRID_OTHER } place;
    struct value value; /* EXACT: the constant; ABOVE: the next lower number of the kind */
};

static struct grid grid_of_integer(struct value whole, bool exact, enum value_kind kind)
{
    struct grid grid = {.place = exact ? GRID_EXACT : GRID_ABOVE, .value = whole};
    if (kind == KIND_I64 && whole.kind == KIND_U64) {
        if (whole.u > INT64_MAX) return (struct grid){.place = GRID_ABOVE_ALL};
        grid.value = value_i64((int64_t)whole.u);
    } else if (kind == KIND_U64 && whole.kind == KIND_I64) {
        if (whole.i < 0) return (struct grid){.place = GRID_BELOW_ALL};
        grid.value = value_u64((uint64_t)whole.i);
    }
    return grid;
}

static struct grid grid_of_double(double number, enum value_kind kind)
{
    double whole = floor(number);
    double low = kind == KIND_I64 ? -0x1p63 : 0, high = kind == KIND_I64 ? 0x1p63 : 0x1p64;
    if (whole < low) return (struct grid){.place = GRID_BELOW_ALL};
    if (whole >= high) return (struct grid){.place = GRID_ABOVE_ALL};
    struct value value = kind == KIND_I64 ? value_i64((int64_t)whole) : value_u64((uint64_t)whole);
    return (struct grid){.place = whole == number ? GRID_EXACT : GRID_ABOVE, .value = value};
}

/* Floor of a decimal at a smaller scale. */
static int64_t dec_floor(int64_t number, uint8_t from, uint8_t to, bool *ret_exact)
{
    *ret_exact = true;
    for (; from > to; from--) {
        int64_t digit = number % 10;
        number /= 10;
        if (digit < 0) number--;
        *ret_exact = *ret_exact && digit == 0;
    }
    return number;
}

static struct grid grid_of_decimal(struct value value, const struct bound *node)
{
    bool exact = true;
    if (node->kind != KIND_DEC) {
        int64_t whole = dec_floor(value.i, value.scale, 0, &exact);
        return grid_of_integer(value_i64(whole), exact, (enum value_kind)node->kind);
    }
    int64_t number;
    if (value.scale > node->scale) {
        number = dec_floor(value.i, value.scale, node->scale, &exact);
    } else if (!fold_rescale(value.i, value.scale, node->scale, true, &number)) {
        return (struct grid){.place = value.i > 0 ? GRID_ABOVE_ALL : GRID_BELOW_ALL};
    }
    return (struct grid){.place = exact ? GRID_EXACT : GRID_ABOVE,
                         .value = value_dec(number, node->scale)};
}

/* Where the constant lies among the numbers that the node's kind has. */
static struct grid grid_place(const struct bound *node, struct value value)
{
    switch ((enum value_kind)node->kind) {
    case KIND_I64:
    case KIND_U64:
        if (value.kind == KIND_F64) return grid_of_double(value.f, (enum value_kind)node->kind);
        if (value.kind == KIND_DEC) return grid_of_decimal(value, node);
        return grid_of_integer(value, true, (enum value_kind)node->kind);
    case KIND_DEC:
        if (value.kind == KIND_F64) return (struct grid){.place = GRID_OTHER};
        if (value.kind == KIND_U64 && value.u > INT64_MAX)
            return (struct grid){.place = GRID_ABOVE_ALL};
        if (value.kind != KIND_DEC) value = value_dec(value.i, 0);
        return grid_of_decimal(value, node);
    default:
        return (struct grid){.place = GRID_OTHER};
    }
}

/* node op constant, where the constant is not of the node's kind or has no equal in it. */
static struct bound *compare_grid(struct binder *binder, enum expr_op op, struct bound *node,
                                  struct grid grid)
{
    bool above = grid.place != GRID_BELOW_ALL; /* the constant is above what it is compared with */
    if (grid.place == GRID_EXACT)
        return compare_same(binder, op, node, bound_const(binder, grid.value), 0);
    switch (op) {
    case EXPR_EQ:
        return type_never(binder, node);
    case EXPR_NE:
        return type_always(binder, node);
    case EXPR_EQ_NULLSAFE:
        return bound_const(binder, value_i64(0));
    default:
        break;
    }
    bool less = op == EXPR_LT || op == EXPR_LE;
    if (grid.place == GRID_ABOVE)
        return compare_same(binder, less ? EXPR_LE : EXPR_GT, node, bound_const(binder, grid.value),
                            0);
    return above == less ? type_always(binder, node) : type_never(binder, node);
}

/* ---- numbers ---- */

/* Two integers of different signedness, neither a constant. */
static struct bound *compare_mixed(struct binder *binder, enum expr_op op, struct bound *a,
                                   struct bound *b)
{
    if (a->kind == KIND_U64) {
        struct bound *swap = a;
        a = b;
        b = swap;
        op = mirror(op);
    }
    if (a->nonnegative) return compare_same(binder, op, type_cast(binder, a, KIND_U64, 0), b, 0);
    if (b->unsigned_low) return compare_same(binder, op, a, type_cast(binder, b, KIND_I64, 0), 0);
    /* A negative a is below every b; else both are unsigned. */
    struct bound *none = bound_const(binder, value_i64(0));
    struct bound *is_negative = compare_same(binder, EXPR_LT, a, none, 0);
    if (!is_negative) return NULL;
    struct bound *part = bound_op(binder, EXPR_SELECT, KIND_I64, is_negative, none, a);
    struct bound *rest = compare_same(binder, op, type_cast(binder, part, KIND_U64, 0), b, 0);
    bool holds = op == EXPR_NE || op == EXPR_LT || op == EXPR_LE;
    struct bound *answer = op == EXPR_EQ_NULLSAFE ? bound_const(binder, value_i64(0))
                           : holds                ? type_always(binder, b)
                                                  : type_never(binder, b);
    if (!rest || !answer) return NULL;
    return bound_op(binder, EXPR_SELECT, KIND_I64, is_negative, answer, rest);
}

static struct bound *compare_numbers(struct binder *binder, enum expr_op op, struct bound *a,
                                     struct bound *b)
{
    if (bound_is_const(a) && !bound_is_const(b)) {
        struct bound *swap = a;
        a = b;
        b = swap;
        op = mirror(op);
    }
    if (bound_is_const(b) && !bound_is_null(b)) {
        struct grid grid = grid_place(a, b->value);
        if (grid.place != GRID_OTHER) return compare_grid(binder, op, a, grid);
    }
    if (a->kind == KIND_F64 || b->kind == KIND_F64) {
        a = type_cast(binder, a, KIND_F64, 0);
        b = type_cast(binder, b, KIND_F64, 0);
        return compare_same(binder, op, a, b, 0);
    }
    if (a->kind == KIND_DEC || b->kind == KIND_DEC) {
        uint8_t a_scale = a->kind == KIND_DEC ? a->scale : 0;
        uint8_t b_scale = b->kind == KIND_DEC ? b->scale : 0;
        uint8_t scale = a_scale > b_scale ? a_scale : b_scale;
        return compare_same(binder, op, type_cast(binder, a, KIND_DEC, scale),
                            type_cast(binder, b, KIND_DEC, scale), 0);
    }
    if (a->kind != b->kind) return compare_mixed(binder, op, a, b);
    return compare_same(binder, op, a, b, 0);
}

/* ---- dates ---- */

/* A text constant as a date or time; NULL with an error latched when it is none. */
static struct bound *date_of_text(struct binder *binder, struct bound *text, uint32_t position)
{
    int64_t number;
    uint8_t digits = 0;
    const char *bytes = (const char *)text->value.bytes;
    if (date_parse(bytes, text->value.size, &number))
        return type_with_display(binder, bound_const(binder, value_i64(number)), TYPE_DATE, 0);
    if (datetime_parse(bytes, text->value.size, &number, &digits))
        return type_with_display(binder, bound_const(binder, value_i64(number)), TYPE_DATETIME,
                                 digits);
    return bind_fail(binder, ERR_BIND, position,
                     "'%.*s' is compared with a date but is none: write 'YYYY-MM-DD' or "
                     "'YYYY-MM-DD hh:mm:ss'",
                     (int)(text->value.size < 40 ? text->value.size : 40), bytes ? bytes : "");
}

static struct bound *date_side(struct binder *binder, struct bound *node, uint32_t position)
{
    if (node->display || bound_is_null(node)) return node;
    if (node->kind == KIND_STR && bound_is_const(node)) return date_of_text(binder, node, position);
    return bind_fail(binder, ERR_BIND, position,
                     node->kind == KIND_STR
                         ? "a date compared with text that is no literal: CAST the date AS CHAR"
                         : "a date compared with a number: write DATE 'YYYY-MM-DD', or compare "
                           "UNIX_TIMESTAMP(x)");
}

static struct bound *compare_dates(struct binder *binder, enum expr_op op, struct bound *a,
                                   struct bound *b, uint32_t position)
{
    a = date_side(binder, a, position);
    b = date_side(binder, b, position);
    if (!a || !b) return NULL;
    if (bound_is_null(a)) a = type_cast(binder, a, KIND_I64, 0);
    if (bound_is_null(b)) b = type_cast(binder, b, KIND_I64, 0);
    if (!a || !b) return NULL;
    bool a_date = a->display == TYPE_DATE || !a->display;
    bool b_date = b->display == TYPE_DATE || !b->display;
    if (a_date == b_date || !a->display || !b->display) return compare_same(binder, op, a, b, 0);
    /* A time at midnight is that day: the column of dates stays bare for its index. */
    struct bound *date = a_date ? a : b, *time = a_date ? b : a;
    if (bound_is_const(time) && time->value.i % DATETIME_US_PER_DAY == 0 && !bound_is_const(date)) {
        struct bound *day = bound_const(binder, value_i64(time->value.i / DATETIME_US_PER_DAY));
        day = type_with_display(binder, day, TYPE_DATE, 0);
        return compare_same(binder, a_date ? op : mirror(op), date, day, 0);
    }
    return compare_same(binder, op, type_datetime(binder, a), type_datetime(binder, b), 0);
}

/* ---- everything ---- */

struct bound *type_compare(struct binder *binder, enum expr_op op, struct bound *a, struct bound *b,
                           uint32_t position)
{
    if (!a || !b) return NULL;
    if (a->display || b->display) return compare_dates(binder, op, a, b, position);
    if (bound_is_null(a) || bound_is_null(b)) {
        if (bound_is_null(a))
            a = type_cast(binder, a, b->kind ? (enum value_kind)b->kind : KIND_I64, b->scale);
        if (bound_is_null(b) && a) b = type_cast(binder, b, (enum value_kind)a->kind, a->scale);
        return compare_same(binder, op, a, b, a ? a->collation : 0);
    }
    if (a->kind == KIND_STR && b->kind == KIND_STR) {
        uint8_t collation, strength;
        if (!type_collation(binder, a, b, position, &collation, &strength)) return NULL;
        if (bound_is_const(a) && !bound_is_const(b))
            return compare_same(binder, mirror(op), b, a, collation);
        return compare_same(binder, op, a, b, collation);
    }
    a = type_number(binder, a, position);
    b = type_number(binder, b, position);
    return a && b ? compare_numbers(binder, op, a, b) : NULL;
}

/* The list as constants of a's kind, without those that nothing of that kind equals. False when it
 * takes more than a comparison with each. */
static bool in_constants(struct binder *binder, const struct bound *a, struct bound **list,
                         uint32_t count, struct value *values, uint32_t *ret_count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (bound_is_null(list[i])) continue;
        if (!bound_is_const(list[i]) || list[i]->display || list[i]->hex) return false;
        struct value value = list[i]->value;
        bool is_text = value.kind == KIND_STR;
        if (is_text != (a->kind == KIND_STR)) return false;
        if (is_text) {
            if (list[i]->strength < a->strength) return false;
            values[kept++] = value;
            continue;
        }
        if (a->kind == KIND_F64) {
            if (!fold_cast(binder, value, KIND_F64, 0, &values[kept])) return false;
            kept++;
            continue;
        }
        struct grid grid = grid_place(a, value);
        if (grid.place == GRID_OTHER) return false;
        if (grid.place == GRID_EXACT) values[kept++] = grid.value;
    }
    *ret_count = kept;
    return true;
}

/* x = a OR x IN (b, c) as x IN (a, b, c), which an index can answer; NULL, without an error, when
 * the tests are not all of that kind. */
static struct bound *merge_equalities(struct binder *binder, struct bound **tests, uint32_t count)
{
    const struct bound *first = tests[0];
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct bound *test = tests[i];
        bool is_equal =
            test->op == EXPR_EQ && bound_is_const(test->args[1]) && !bound_is_null(test->args[1]);
        if (!is_equal && test->op != EXPR_IN) return NULL;
        if (test->args[0] != first->args[0] || test->collation != first->collation) return NULL;
        total += is_equal ? 1 : test->list_count;
    }
    struct value *values = arena_new(binder->arena, struct value, total);
    if (!values) return bind_fail(binder, ERR_NO_MEMORY, UINT32_MAX, "out of memory");
    total = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct bound *test = tests[i];
        if (test->op == EXPR_EQ) {
            values[total++] = test->args[1]->value;
            continue;
        }
        memcpy(values + total, test->list, test->list_count * sizeof(*values));
        total += test->list_count;
    }
    struct bound node = *first;
    node.op = EXPR_IN;
    node.args[1] = NULL;
    node.arg_count = 1;
    node.list = values;
    node.list_count = total;
    return bound_make(binder, node);
}

struct bound *type_or(struct binder *binder, struct bound **tests, uint32_t count)
{
    struct bound *merged = count > 1 ? merge_equalities(binder, tests, count) : NULL;
    if (merged || binder->err) return merged;
    return bound_balanced(binder, EXPR_OR, KIND_I64, tests, count);
}

/* x IN (a, b) as x = a OR x = b, for what is no list of constants. */
static struct bound *in_chain(struct binder *binder, struct bound *a, struct bound **list,
                              uint32_t count, uint32_t position)
{
    struct bound **tests = arena_new(binder->arena, struct bound *, count);
    if (!tests) return bind_fail(binder, ERR_NO_MEMORY, position, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        tests[i] = type_compare(binder, EXPR_EQ, a, list[i], position);
        if (!tests[i]) return NULL;
    }
    return type_or(binder, tests, count);
}

struct bound *type_in(struct binder *binder, struct bound *a, struct bound **list, uint32_t count,
                      uint32_t position)
{
    if (!a) return NULL;
    bool has_null = false;
    for (uint32_t i = 0; i < count; i++) {
        if (!list[i]) return NULL;
        has_null = has_null || bound_is_null(list[i]);
    }
    struct value *values = arena_new(binder->arena, struct value, count);
    if (!values) return bind_fail(binder, ERR_NO_MEMORY, position, "out of memory");
    uint32_t kept = 0;
    if (count == 1 || a->display || bound_is_null(a) || bound_is_const(a) ||
        !in_constants(binder, a, list, count, values, &kept))
        return binder->err ? NULL : in_chain(binder, a, list, count, position);

    struct bound *test;
    if (kept == 0) {
        test = type_never(binder, a);
    } else if (kept == 1) {
        test = compare_same(binder, EXPR_EQ, a, bound_const(binder, values[0]), a->collation);
    } else {
        struct bound node = {.op = EXPR_IN, .kind = KIND_I64, .args = {a}, .arg_count = 1};
        node.truth = node.nonnegative = true;
        node.strength = STRENGTH_NONE;
        node.collation = a->collation;
        node.list = values;
        node.list_count = kept;
        test = bound_make(binder, node);
    }
    if (!has_null || !test) return test;
    struct bound *null = bound_null(binder, KIND_I64);
    return null ? bound_op(binder, EXPR_OR, KIND_I64, test, null, NULL) : NULL;
}

struct bound *type_like(struct binder *binder, struct bound *a, struct bound *pattern,
                        struct bound *escape, uint32_t position)
{
    a = type_string(binder, a);
    pattern = type_string(binder, pattern);
    if (!a || !pattern) return NULL;
    uint32_t escape_byte = '\\';
    if (escape) {
        if (!bound_is_const(escape) || escape->kind != KIND_STR || escape->value.size > 1)
            return bind_fail(binder, ERR_BIND, position, "ESCAPE takes one ASCII character");
        escape_byte = escape->value.size ? escape->value.bytes[0] : 0;
        if (escape_byte >= 0x80)
            return bind_fail(binder, ERR_BIND, position, "ESCAPE takes one ASCII character");
    }
    if (bound_is_null(a) || bound_is_null(pattern)) return bound_null(binder, KIND_I64);
    if (!bound_is_const(pattern))
        return bind_fail(binder, ERR_NOT_PUSHABLE, position,
                         "LIKE takes a constant pattern here: use INSTR(x, y) > 0, or LEFT(x, n) = "
                         "y");
    struct bound node = {.op = EXPR_LIKE, .kind = KIND_I64, .args = {a}, .arg_count = 1};
    uint8_t strength;
    if (!type_collation(binder, a, pattern, position, &node.collation, &strength)) return NULL;
    node.truth = node.nonnegative = true;
    node.strength = STRENGTH_NONE;
    node.value = pattern->value;
    node.x = escape_byte;
    return bound_make(binder, node);
}
