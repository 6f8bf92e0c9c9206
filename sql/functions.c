/* Functions by name: how many arguments each takes and what it becomes. Aggregates are
 * bind_expr.c's, since they open a scope of their own. */
#include "sql/bound.h"

#include <strings.h>

#include "base/check.h"
#include "sql/datetime.h"
#include "sql/parse.h"

struct call {
    const struct ast *ast;
    struct bound **args;
    uint32_t count;
    uint32_t position;
    int variant; /* of the rule */
};

struct function_rule {
    const char *name;
    uint32_t count_min;
    uint32_t count_max;
    struct bound *(*bind)(struct binder *binder, struct call *call);
    int variant;
};

static struct bound *integer(struct binder *binder, int64_t number)
{
    return bound_const(binder, value_i64(number));
}

static struct bound *op1(struct binder *binder, enum expr_op op, enum value_kind kind,
                         struct bound *a)
{
    return a ? bound_op(binder, op, kind, a, NULL, NULL) : NULL;
}

static struct bound *op2(struct binder *binder, enum expr_op op, enum value_kind kind,
                         struct bound *a, struct bound *b)
{
    return a && b ? bound_op(binder, op, kind, a, b, NULL) : NULL;
}

static struct bound *op3(struct binder *binder, enum expr_op op, enum value_kind kind,
                         struct bound *a, struct bound *b, struct bound *c)
{
    return a && b && c ? bound_op(binder, op, kind, a, b, c) : NULL;
}

/* An argument as a signed number, for lengths and positions. */
static struct bound *signed_arg(struct binder *binder, struct call *call, uint32_t i)
{
    return type_signed(binder, call->args[i], call->position);
}

/* ---- choices ---- */

static struct bound *bind_if(struct binder *binder, struct call *call)
{
    struct bound *condition = type_truth(binder, call->args[0], call->position);
    if (!condition || !type_unify(binder, call->args + 1, 2, call->position)) return NULL;
    return op3(binder, EXPR_SELECT, (enum value_kind)call->args[1]->kind, condition, call->args[1],
               call->args[2]);
}

static struct bound *bind_coalesce(struct binder *binder, struct call *call)
{
    if (!type_unify(binder, call->args, call->count, call->position)) return NULL;
    return bound_balanced(binder, EXPR_COALESCE, (enum value_kind)call->args[0]->kind, call->args,
                          call->count);
}

/* NULLIF(a, b): a, or NULL when they are equal. */
static struct bound *bind_nullif(struct binder *binder, struct call *call)
{
    struct bound *a = call->args[0];
    struct bound *same = type_compare(binder, EXPR_EQ, a, call->args[1], call->position);
    if (!same) return NULL;
    enum value_kind kind = a->kind == KIND_NULL ? KIND_I64 : (enum value_kind)a->kind;
    a = type_cast(binder, a, kind, a->scale);
    struct bound null = {.op = EXPR_CONST, .kind = (uint8_t)kind};
    if (!a) return NULL;
    null.scale = kind == KIND_DEC ? a->scale : 0;
    null.collation = a->collation;
    null.strength = STRENGTH_NONE;
    struct bound *nothing = bound_make(binder, null);
    struct bound *result = op3(binder, EXPR_SELECT, kind, same, nothing, a);
    return result && a->display ? type_with_display(binder, result, a->display, a->scale) : result;
}

static struct bound *bind_isnull(struct binder *binder, struct call *call)
{
    struct bound *a = call->args[0];
    if (a->kind == KIND_NULL) a = type_cast(binder, a, KIND_I64, 0);
    return op1(binder, EXPR_IS_NULL, KIND_I64, a);
}

/* ---- numbers ---- */

static struct bound *number_arg(struct binder *binder, struct call *call, uint32_t i)
{
    struct bound *a = type_number(binder, call->args[i], call->position);
    return a && a->kind == KIND_NULL ? type_cast(binder, a, KIND_I64, 0) : a;
}

static struct bound *bind_abs(struct binder *binder, struct call *call)
{
    struct bound *a = number_arg(binder, call, 0);
    return !a || a->kind == KIND_U64 ? a : op1(binder, EXPR_ABS, (enum value_kind)a->kind, a);
}

/* FLOOR and CEIL; the variant is the operation. */
static struct bound *bind_floor(struct binder *binder, struct call *call)
{
    struct bound *a = number_arg(binder, call, 0);
    if (!a || a->kind == KIND_I64 || a->kind == KIND_U64) return a;
    return op1(binder, (enum expr_op)call->variant, KIND_I64, a);
}

static struct bound *bind_round(struct binder *binder, struct call *call)
{
    struct bound *a = number_arg(binder, call, 0);
    struct bound *digits = call->count == 2 ? call->args[1] : integer(binder, 0);
    if (!a || !digits) return NULL;
    if (!bound_is_const(digits) || digits->kind != KIND_I64 || bound_is_null(digits))
        return bind_fail(binder, ERR_NOT_PUSHABLE, call->position,
                         "ROUND takes a constant number of digits");
    if (digits->value.i < 0 || digits->value.i > 18)
        return bind_fail(binder, ERR_NOT_PUSHABLE, call->position,
                         "ROUND keeps 0 to 18 digits: divide first for fewer");
    if (a->kind == KIND_I64 || a->kind == KIND_U64) return a;
    uint32_t keep = (uint32_t)digits->value.i;
    if (a->kind == KIND_DEC && keep >= a->scale) return a;
    struct bound node = {.op = EXPR_ROUND, .kind = a->kind, .args = {a}, .arg_count = 1, .x = keep};
    node.strength = STRENGTH_NONE;
    if (a->kind == KIND_DEC) node.scale = (uint8_t)keep;
    return bound_make(binder, node);
}

static struct bound *bind_mod(struct binder *binder, struct call *call)
{
    return type_arithmetic(binder, TK_MOD, call->args[0], call->args[1], call->position);
}

static struct bound *bind_size_class(struct binder *binder, struct call *call)
{
    struct bound *a = type_number(binder, call->args[0], call->position);
    if (!a) return NULL;
    if (a->kind == KIND_I64 && !a->nonnegative) {
        /* Nothing has a negative size: it counts as 0. */
        struct bound *none = integer(binder, 0);
        struct bound *is_negative = op2(binder, EXPR_LT, KIND_I64, a, none);
        a = op3(binder, EXPR_SELECT, KIND_I64, is_negative, none, a);
    }
    return op1(binder, EXPR_LOG2, KIND_I64, type_cast(binder, a, KIND_U64, 0));
}

static struct bound *bind_log2(struct binder *binder, struct call *call)
{
    return bind_fail(binder, ERR_NOT_PUSHABLE, call->position,
                     "LOG2 is not pushable: SIZE_CLASS(x) is its whole part");
}

static struct bound *bind_home(struct binder *binder, struct call *call)
{
    struct bound *a = type_number(binder, call->args[0], call->position);
    return op1(binder, EXPR_HOME, KIND_U64, type_cast(binder, a, KIND_U64, 0));
}

/* ---- text ---- */

static struct bound *bind_text(struct binder *binder, struct call *call)
{
    struct bound *a = type_string(binder, call->args[0]);
    enum expr_op op = (enum expr_op)call->variant;
    bool counts = op == EXPR_LENGTH || op == EXPR_CHAR_LENGTH;
    return op1(binder, op, counts ? KIND_I64 : KIND_STR, a);
}

static struct bound *substring(struct binder *binder, struct bound *text, struct bound *from,
                               struct bound *length)
{
    return op3(binder, EXPR_SUBSTR, KIND_STR, text, from, length);
}

static struct bound *bind_substr(struct binder *binder, struct call *call)
{
    struct bound *text = type_string(binder, call->args[0]);
    struct bound *from = signed_arg(binder, call, 1);
    struct bound *length =
        call->count == 3 ? signed_arg(binder, call, 2) : integer(binder, INT32_MAX);
    return substring(binder, text, from, length);
}

static struct bound *bind_left(struct binder *binder, struct call *call)
{
    struct bound *text = type_string(binder, call->args[0]);
    return substring(binder, text, integer(binder, 1), signed_arg(binder, call, 1));
}

/* RIGHT(s, n): from max(length - n, 0) + 1; a negative n is 0. */
static struct bound *bind_right(struct binder *binder, struct call *call)
{
    struct bound *text = type_string(binder, call->args[0]);
    struct bound *count = signed_arg(binder, call, 1);
    struct bound *none = integer(binder, 0);
    if (!text || !count || !none) return NULL;
    struct bound *is_negative = op2(binder, EXPR_LT, KIND_I64, count, none);
    count = op3(binder, EXPR_SELECT, KIND_I64, is_negative, none, count);
    struct bound *length = op1(binder, EXPR_CHAR_LENGTH, KIND_I64, text);
    struct bound *before = op2(binder, EXPR_SUB, KIND_I64, length, count);
    struct bound *is_whole = before ? op2(binder, EXPR_LT, KIND_I64, before, none) : NULL;
    before = op3(binder, EXPR_SELECT, KIND_I64, is_whole, none, before);
    struct bound *from = op2(binder, EXPR_ADD, KIND_I64, before, integer(binder, 1));
    return substring(binder, text, from, count);
}

static struct bound *bind_concat(struct binder *binder, struct call *call)
{
    for (uint32_t i = 0; i < call->count; i++) {
        call->args[i] = type_string(binder, call->args[i]);
        if (!call->args[i]) return NULL;
    }
    struct bound *result = bound_balanced(binder, EXPR_CONCAT, KIND_STR, call->args, call->count);
    if (!result || bound_is_const(result)) return result;
    struct bound whole = *result;
    for (uint32_t i = 0; i < call->count; i++)
        if (!type_collation(binder, &whole, call->args[i], call->position, &whole.collation,
                            &whole.strength))
            return NULL;
    return bound_make(binder, whole);
}

/* INSTR(text, part); LOCATE has the arguments the other way round. */
static struct bound *bind_instr(struct binder *binder, struct call *call)
{
    struct bound *text = type_string(binder, call->args[call->variant ? 1 : 0]);
    struct bound *part = type_string(binder, call->args[call->variant ? 0 : 1]);
    uint8_t collation, strength;
    if (!text || !part) return NULL;
    if (!type_collation(binder, text, part, call->position, &collation, &strength)) return NULL;
    if (collation == COLLATION_CASE_INSENSITIVE) {
        text = op1(binder, EXPR_LOWER, KIND_STR, text);
        part = op1(binder, EXPR_LOWER, KIND_STR, part);
    }
    return op2(binder, EXPR_INSTR, KIND_I64, text, part);
}

/* ---- dates ---- */

/* An argument that is a date, a time, or a literal text of one. */
static struct bound *date_arg(struct binder *binder, struct call *call, uint32_t i)
{
    struct bound *a = call->args[i];
    if (bound_is_null(a)) return type_cast(binder, a, KIND_I64, 0);
    if (a->display) return a;
    if (a->kind == KIND_STR && bound_is_const(a)) {
        int64_t number;
        uint8_t digits;
        const char *text = (const char *)a->value.bytes;
        if (date_parse(text, a->value.size, &number))
            return type_with_display(binder, integer(binder, number), TYPE_DATE, 0);
        if (datetime_parse(text, a->value.size, &number, &digits))
            return type_with_display(binder, integer(binder, number), TYPE_DATETIME, digits);
    }
    return bind_fail(binder, ERR_BIND, call->position,
                     "%s takes a DATE, DATETIME or TIMESTAMP: FROM_UNIXTIME(seconds) makes one",
                     call->ast->name);
}

static struct bound *plain(struct binder *binder, struct bound *node)
{
    return node && node->display ? type_with_display(binder, node, 0, 0) : node;
}

static struct bound *bind_date_part(struct binder *binder, struct call *call)
{
    struct bound *a = date_arg(binder, call, 0);
    a = plain(binder, type_datetime(binder, a));
    return op1(binder, (enum expr_op)call->variant, KIND_I64, a);
}

/* HOUR, MINUTE, SECOND: the variant is the unit in seconds, its parent being 24 or 60 of them. */
static struct bound *bind_time_part(struct binder *binder, struct call *call)
{
    struct bound *a = plain(binder, type_datetime(binder, date_arg(binder, call, 0)));
    if (!a) return NULL;
    int64_t unit = call->variant * DATETIME_US_PER_SECOND;
    int64_t parent = call->variant == 3600 ? DATETIME_US_PER_DAY : unit * 60;
    struct bound *rest = op2(binder, EXPR_MOD, KIND_I64, a, integer(binder, parent));
    struct bound *none = integer(binder, 0);
    /* Times before 1970 are negative: the remainder is brought to the parent's range. */
    struct bound *is_negative = rest ? op2(binder, EXPR_LT, KIND_I64, rest, none) : NULL;
    struct bound *raised =
        rest ? op2(binder, EXPR_ADD, KIND_I64, rest, integer(binder, parent)) : NULL;
    rest = op3(binder, EXPR_SELECT, KIND_I64, is_negative, raised, rest);
    return rest ? op2(binder, EXPR_IDIV, KIND_I64, rest, integer(binder, unit)) : NULL;
}

/* Floor of a by a constant, of numbers of either sign. */
static struct bound *floor_divide(struct binder *binder, struct bound *a, int64_t unit)
{
    struct bound *by = integer(binder, unit);
    struct bound *none = integer(binder, 0);
    if (!a || !by || !none) return NULL;
    struct bound *quotient = op2(binder, EXPR_IDIV, KIND_I64, a, by);
    struct bound *rest = op2(binder, EXPR_MOD, KIND_I64, a, by);
    struct bound *is_low = rest ? op2(binder, EXPR_LT, KIND_I64, rest, none) : NULL;
    struct bound *lower =
        quotient ? op2(binder, EXPR_SUB, KIND_I64, quotient, integer(binder, 1)) : NULL;
    return op3(binder, EXPR_SELECT, KIND_I64, is_low, lower, quotient);
}

static struct bound *bind_date(struct binder *binder, struct call *call)
{
    struct bound *a = date_arg(binder, call, 0);
    if (!a || a->display == TYPE_DATE) return a;
    struct bound *days = floor_divide(binder, plain(binder, a), DATETIME_US_PER_DAY);
    return type_with_display(binder, days, TYPE_DATE, 0);
}

static struct bound *bind_unix_timestamp(struct binder *binder, struct call *call)
{
    if (call->count == 0) return integer(binder, binder->now_us / DATETIME_US_PER_SECOND);
    struct bound *a = date_arg(binder, call, 0);
    if (!a) return NULL;
    bool has_fraction = a->display != TYPE_DATE && a->scale > 0;
    a = plain(binder, type_datetime(binder, a));
    if (!has_fraction) return floor_divide(binder, a, DATETIME_US_PER_SECOND);
    struct bound *micro = bound_const(binder, value_dec(1, 6));
    a = type_cast(binder, a, KIND_DEC, 0);
    return op2(binder, EXPR_MUL, KIND_DEC, a, micro);
}

static struct bound *bind_from_unixtime(struct binder *binder, struct call *call)
{
    struct bound *a = type_number(binder, call->args[0], call->position);
    struct bound *million = integer(binder, DATETIME_US_PER_SECOND);
    bool has_fraction = a && (a->kind == KIND_F64 || a->kind == KIND_DEC);
    if (has_fraction) {
        if (a->kind == KIND_DEC && a->scale > 6) a = type_cast(binder, a, KIND_DEC, 6);
        a = type_arithmetic(binder, TK_STAR, a, million, call->position);
        a = type_cast(binder, a, KIND_I64, 0);
    } else {
        a = op2(binder, EXPR_MUL, KIND_I64, type_cast(binder, a, KIND_I64, 0), million);
    }
    return type_with_display(binder, a, TYPE_DATETIME, has_fraction ? 6 : 0);
}

static struct bound *now(struct binder *binder, unsigned digits)
{
    int64_t unit = DATETIME_US_PER_SECOND;
    for (unsigned i = 0; i < digits; i++)
        unit /= 10;
    struct bound *time = integer(binder, binder->now_us / unit * unit);
    return type_with_display(binder, time, TYPE_DATETIME, (uint8_t)digits);
}

static struct bound *today(struct binder *binder)
{
    return type_with_display(binder, integer(binder, binder->now_us / DATETIME_US_PER_DAY),
                             TYPE_DATE, 0);
}

static struct bound *bind_now(struct binder *binder, struct call *call)
{
    int64_t digits = 0;
    if (call->count == 1) {
        if (!bound_is_const(call->args[0]) || call->args[0]->kind != KIND_I64)
            return bind_fail(binder, ERR_BIND, call->position, "NOW takes 0 to 6 digits");
        digits = call->args[0]->value.i;
    }
    if (digits < 0 || digits > 6)
        return bind_fail(binder, ERR_BIND, call->position, "NOW takes 0 to 6 digits");
    return now(binder, (unsigned)digits);
}

static struct bound *bind_curdate(struct binder *binder, struct call *call)
{
    (void)call;
    return today(binder);
}

struct bound *function_constant(struct binder *binder, const char *name)
{
    if (strcasecmp(name, "CURRENT_TIMESTAMP") == 0) return now(binder, 0);
    if (strcasecmp(name, "CURRENT_DATE") == 0) return today(binder);
    return NULL;
}

/* ---- the table ---- */

enum { MANY = 1000 };

static const struct function_rule rules[] = {
    {"ABS", 1, 1, bind_abs, 0},
    {"CEIL", 1, 1, bind_floor, EXPR_CEIL},
    {"CEILING", 1, 1, bind_floor, EXPR_CEIL},
    {"CHAR_LENGTH", 1, 1, bind_text, EXPR_CHAR_LENGTH},
    {"CHARACTER_LENGTH", 1, 1, bind_text, EXPR_CHAR_LENGTH},
    {"COALESCE", 1, MANY, bind_coalesce, 0},
    {"CONCAT", 1, MANY, bind_concat, 0},
    {"CURDATE", 0, 0, bind_curdate, 0},
    {"CURRENT_DATE", 0, 0, bind_curdate, 0},
    {"CURRENT_TIMESTAMP", 0, 1, bind_now, 0},
    {"DATE", 1, 1, bind_date, 0},
    {"DAY", 1, 1, bind_date_part, EXPR_DAY},
    {"DAYOFMONTH", 1, 1, bind_date_part, EXPR_DAY},
    {"EXTENSION", 1, 1, bind_text, EXPR_EXTENSION},
    {"FLOOR", 1, 1, bind_floor, EXPR_FLOOR},
    {"FROM_UNIXTIME", 1, 1, bind_from_unixtime, 0},
    {"HOME", 1, 1, bind_home, 0},
    {"HOUR", 1, 1, bind_time_part, 3600},
    {"IF", 3, 3, bind_if, 0},
    {"IFNULL", 2, 2, bind_coalesce, 0},
    {"INSTR", 2, 2, bind_instr, 0},
    {"ISNULL", 1, 1, bind_isnull, 0},
    {"LCASE", 1, 1, bind_text, EXPR_LOWER},
    {"LEFT", 2, 2, bind_left, 0},
    {"LENGTH", 1, 1, bind_text, EXPR_LENGTH},
    {"LOCATE", 2, 2, bind_instr, 1},
    {"LOG2", 1, 1, bind_log2, 0},
    {"LOWER", 1, 1, bind_text, EXPR_LOWER},
    {"MINUTE", 1, 1, bind_time_part, 60},
    {"MOD", 2, 2, bind_mod, 0},
    {"MONTH", 1, 1, bind_date_part, EXPR_MONTH},
    {"NOW", 0, 1, bind_now, 0},
    {"NULLIF", 2, 2, bind_nullif, 0},
    {"OCTET_LENGTH", 1, 1, bind_text, EXPR_LENGTH},
    {"RIGHT", 2, 2, bind_right, 0},
    {"ROUND", 1, 2, bind_round, 0},
    {"SECOND", 1, 1, bind_time_part, 1},
    {"SIZE_CLASS", 1, 1, bind_size_class, 0},
    {"SUBSTR", 2, 3, bind_substr, 0},
    {"SUBSTRING", 2, 3, bind_substr, 0},
    {"UCASE", 1, 1, bind_text, EXPR_UPPER},
    {"UNIX_TIMESTAMP", 0, 1, bind_unix_timestamp, 0},
    {"UPPER", 1, 1, bind_text, EXPR_UPPER},
    {"YEAR", 1, 1, bind_date_part, EXPR_YEAR},
};

static const struct function_rule *rule_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
        if (strcasecmp(rules[i].name, name) == 0) return &rules[i];
    return NULL;
}

uint8_t function_aggregate(const char *name)
{
    static const struct {
        const char *name;
        uint8_t fn;
    } aggregates[] = {{"COUNT", AGG_COUNT},
                      {"SUM", AGG_SUM},
                      {"MIN", AGG_MIN},
                      {"MAX", AGG_MAX},
                      {"AVG", AGG_AVG}};
    for (size_t i = 0; i < ARRAY_SIZE(aggregates); i++)
        if (strcasecmp(aggregates[i].name, name) == 0) return aggregates[i].fn;
    return 0;
}

struct bound *function_bind(struct binder *binder, const struct ast *ast, struct bound **args,
                            uint32_t count)
{
    const struct function_rule *rule = rule_find(ast->name);
    if (!rule)
        return bind_fail(binder, ERR_NOT_PUSHABLE, ast->position,
                         "there is no function %.64s that can run in the partitions", ast->name);
    if (ast->distinct || ast->star)
        return bind_fail(binder, ERR_SYNTAX, ast->position, "%s is no aggregate: no %s", rule->name,
                         ast->star ? "*" : "DISTINCT");
    if (count < rule->count_min || count > rule->count_max)
        return bind_fail(binder, ERR_BIND, ast->position,
                         rule->count_min == rule->count_max
                             ? "%s takes %u argument(s), not %u"
                             : "%s takes another number of arguments (from %u), not %u",
                         rule->name, rule->count_min, count);
    struct call call = {.ast = ast,
                        .args = args,
                        .count = count,
                        .position = ast->position,
                        .variant = rule->variant};
    return rule->bind(binder, &call);
}
