/* Binding expressions: the syntax tree to bound nodes. Operators and functions become operations
 * over operands of the right kinds (types.c, compare.c, functions.c); aggregates open a scope of
 * their own and are left as references. Recursion is bounded by AST_DEPTH_MAX. */
#include "sql/bound.h"

#include <strings.h>

#include "base/check.h"
#include "sql/datetime.h"
#include "sql/parse.h"

/* ---- aggregates ---- */

static bool aggregate_same(const struct bound_aggregate *a, const struct bound_aggregate *b)
{
    return a->fn == b->fn && a->argument == b->argument;
}

/* The result's kind and scale. */
static struct bound aggregate_result(struct bound_aggregate *aggregate)
{
    const struct bound *argument = aggregate->argument;
    struct bound result = {.kind = KIND_I64, .strength = STRENGTH_NONE, .nonnegative = true};
    switch ((enum aggregate_fn)aggregate->fn) {
    case AGG_COUNT_STAR:
    case AGG_COUNT:
    case AGG_COUNT_DISTINCT:
        break;
    case AGG_MIN:
    case AGG_MAX:
        result = *argument;
        break;
    case AGG_SUM:
        result.kind = argument->kind;
        result.scale = argument->scale;
        result.nonnegative = argument->nonnegative;
        break;
    case AGG_AVG:
        result.nonnegative = false;
        result.kind = argument->kind == KIND_F64 ? KIND_F64 : KIND_DEC;
        if (result.kind == KIND_DEC) {
            uint8_t scale = argument->kind == KIND_DEC ? argument->scale : 0;
            result.scale = scale > 14 ? 18 : (uint8_t)(scale + 4);
        }
        break;
    }
    aggregate->out_kind = result.kind;
    aggregate->out_scale = result.kind == KIND_DEC ? result.scale : 0;
    return result;
}

static struct bound *aggregate_argument(struct binder *binder, const struct ast *call, uint8_t fn)
{
    if (call->arg_count != 1)
        return bind_fail(binder,
                         fn == AGG_COUNT && call->arg_count > 1 ? ERR_NOT_PUSHABLE : ERR_BIND,
                         call->position,
                         fn == AGG_COUNT && call->arg_count > 1
                             ? "COUNT(DISTINCT) of several columns is not pushable yet: count one, "
                               "or CONCAT them"
                             : "%s takes one argument",
                         call->name);
    if (call->args[0] && call->args[0]->kind == AST_STAR)
        return bind_fail(binder, ERR_SYNTAX, call->args[0]->position, "only COUNT takes *");
    binder->in_aggregate = true;
    struct bound *argument = bind_expr(binder, call->args[0]);
    binder->in_aggregate = false;
    if (!argument) return NULL;
    if (argument->kind == KIND_NULL) argument = type_cast(binder, argument, KIND_I64, 0);
    if (fn == AGG_SUM || fn == AGG_AVG) argument = type_number(binder, argument, call->position);
    return argument;
}

struct bound *bind_aggregate(struct binder *binder, const struct ast *call, uint8_t fn)
{
    static const char *const clauses[] = {
        [CLAUSE_SELECT] = "here",       [CLAUSE_WHERE] = "in WHERE", [CLAUSE_ON] = "in ON",
        [CLAUSE_GROUP] = "in GROUP BY", [CLAUSE_HAVING] = "here",    [CLAUSE_ORDER] = "here"};
    struct bound_query *query = binder->query;
    if (binder->in_aggregate)
        return bind_fail(binder, ERR_BIND, call->position, "an aggregate inside an aggregate");
    if (binder->clause == CLAUSE_WHERE || binder->clause == CLAUSE_ON ||
        binder->clause == CLAUSE_GROUP)
        return bind_fail(binder, ERR_BIND, call->position, "no aggregates %s: use HAVING",
                         clauses[binder->clause]);
    struct bound_aggregate aggregate = {.fn = fn, .start = call->start, .end = call->end};
    if (call->star && fn == AGG_COUNT) {
        if (call->distinct)
            return bind_fail(binder, ERR_SYNTAX, call->position, "COUNT(DISTINCT *) counts what?");
        aggregate.fn = AGG_COUNT_STAR;
    } else {
        if (call->star) return bind_fail(binder, ERR_SYNTAX, call->position, "only COUNT takes *");
        aggregate.argument = aggregate_argument(binder, call, fn);
        if (!aggregate.argument) return NULL;
        aggregate.kind = aggregate.argument->kind;
        aggregate.collation = aggregate.argument->collation;
        if (call->distinct && fn == AGG_COUNT) aggregate.fn = AGG_COUNT_DISTINCT;
        if (call->distinct && (fn == AGG_SUM || fn == AGG_AVG))
            return bind_fail(binder, ERR_NOT_PUSHABLE, call->position,
                             "%s(DISTINCT) is not pushable yet: COUNT(DISTINCT x) is", call->name);
    }
    struct bound result = aggregate_result(&aggregate);
    query->has_aggregation = true;
    for (uint16_t i = 0; i < query->aggregate_count; i++)
        if (aggregate_same(&query->aggregates[i], &aggregate))
            return bound_reference(binder, EXPR_SOURCE_AGG, i, &result);
    if (query->aggregate_count == QUERY_AGGREGATES_MAX)
        return bind_fail(binder, ERR_TOO_BIG, call->position, "more than %d aggregates",
                         QUERY_AGGREGATES_MAX);
    uint16_t number = query->aggregate_count++;
    query->aggregates[number] = aggregate;
    return bound_reference(binder, EXPR_SOURCE_AGG, number, &result);
}

/* ---- operators ---- */

static struct bound *bind_literal(struct binder *binder, const struct ast *ast)
{
    if (ast->display) {
        struct bound *node = bound_const(binder, ast->value);
        return type_with_display(binder, node, ast->display, ast->digits);
    }
    struct bound *node = bound_const(binder, ast->value);
    if (!node || !ast->hex) return node;
    struct bound hex = *node;
    hex.hex = true;
    hex.binary = true;
    return bound_make(binder, hex);
}

static struct bound *bind_chain(struct binder *binder, const struct ast *ast)
{
    struct bound **tests = arena_new(binder->arena, struct bound *, ast->arg_count);
    if (!tests) return bind_fail(binder, ERR_NO_MEMORY, ast->position, "out of memory");
    for (uint32_t i = 0; i < ast->arg_count; i++) {
        struct bound *test = bind_expr(binder, ast->args[i]);
        tests[i] = type_truth(binder, test, ast->args[i]->position);
        if (!tests[i]) return NULL;
    }
    if (ast->kind == AST_OR) return type_or(binder, tests, ast->arg_count);
    return bound_balanced(binder, EXPR_AND, KIND_I64, tests, ast->arg_count);
}

static struct bound *bind_unary(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    if (!a) return NULL;
    switch (ast->op) {
    case TK_MINUS:
        return type_negate(binder, a, ast->position);
    case TK_PLUS:
        return a;
    case TK_TILDE:
        a = type_bits(binder, a, ast->position);
        return a ? bound_op(binder, EXPR_BIT_NOT, KIND_U64, a, NULL, NULL) : NULL;
    default:
        a = type_truth(binder, a, ast->position);
        return a ? bound_op(binder, EXPR_NOT, KIND_I64, a, NULL, NULL) : NULL;
    }
}

static struct bound *bind_binary(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    struct bound *b = a ? bind_expr(binder, ast->args[1]) : NULL;
    if (!a || !b) return NULL;
    switch (ast->op) {
    case TK_EQ:
        return type_compare(binder, EXPR_EQ, a, b, ast->position);
    case TK_NE:
        return type_compare(binder, EXPR_NE, a, b, ast->position);
    case TK_LT:
        return type_compare(binder, EXPR_LT, a, b, ast->position);
    case TK_LE:
        return type_compare(binder, EXPR_LE, a, b, ast->position);
    case TK_GT:
        return type_compare(binder, EXPR_GT, a, b, ast->position);
    case TK_GE:
        return type_compare(binder, EXPR_GE, a, b, ast->position);
    case TK_NULLSAFE:
        return type_compare(binder, EXPR_EQ_NULLSAFE, a, b, ast->position);
    case TK_XOR:
        a = type_truth(binder, a, ast->position);
        b = type_truth(binder, b, ast->position);
        return a && b ? bound_op(binder, EXPR_XOR, KIND_I64, a, b, NULL) : NULL;
    default:
        break;
    }
    if ((a->display || b->display) && (ast->op == TK_PLUS || ast->op == TK_MINUS))
        return bind_fail(binder, ERR_BIND, ast->position,
                         "a date and a number: write x + INTERVAL 1 DAY, or UNIX_TIMESTAMP(x)");
    return type_arithmetic(binder, ast->op, a, b, ast->position);
}

static struct bound *negate_if(struct binder *binder, struct bound *node, bool negated)
{
    if (!node || !negated) return node;
    return bound_op(binder, EXPR_NOT, KIND_I64, node, NULL, NULL);
}

static struct bound *bind_between(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    struct bound *low = a ? bind_expr(binder, ast->args[1]) : NULL;
    struct bound *high = low ? bind_expr(binder, ast->args[2]) : NULL;
    struct bound *above = type_compare(binder, EXPR_GE, a, low, ast->position);
    struct bound *below = type_compare(binder, EXPR_LE, a, high, ast->position);
    if (!above || !below) return NULL;
    struct bound *both = bound_op(binder, EXPR_AND, KIND_I64, above, below, NULL);
    return negate_if(binder, both, ast->negated);
}

static struct bound *bind_in(struct binder *binder, const struct ast *ast)
{
    uint32_t count = ast->arg_count - 1;
    struct bound *a = bind_expr(binder, ast->args[0]);
    struct bound **list = arena_new(binder->arena, struct bound *, count);
    if (!a) return NULL;
    if (!list) return bind_fail(binder, ERR_NO_MEMORY, ast->position, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        list[i] = bind_expr(binder, ast->args[i + 1]);
        if (!list[i]) return NULL;
    }
    return negate_if(binder, type_in(binder, a, list, count, ast->position), ast->negated);
}

static struct bound *bind_like(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    struct bound *pattern = a ? bind_expr(binder, ast->args[1]) : NULL;
    struct bound *escape = NULL;
    if (pattern && ast->arg_count == 3) {
        escape = bind_expr(binder, ast->args[2]);
        if (!escape) return NULL;
    }
    uint32_t position = pattern ? ast->args[1]->position : ast->position;
    return negate_if(binder, type_like(binder, a, pattern, escape, position), ast->negated);
}

static struct bound *bind_is(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    if (!a) return NULL;
    if (ast->op == TK_NULL || ast->op == TK_UNKNOWN) {
        if (ast->op == TK_UNKNOWN) a = type_truth(binder, a, ast->position);
        if (a && a->kind == KIND_NULL) a = type_cast(binder, a, KIND_I64, 0);
        return a ? bound_op(binder, ast->negated ? EXPR_IS_NOT_NULL : EXPR_IS_NULL, KIND_I64, a,
                            NULL, NULL)
                 : NULL;
    }
    struct bound *truth = type_truth(binder, a, ast->position);
    struct bound *none = bound_const(binder, value_i64(0));
    if (truth && ast->op == TK_FALSE)
        truth = bound_op(binder, EXPR_NOT, KIND_I64, truth, NULL, NULL);
    if (!truth || !none) return NULL;
    struct bound *is = bound_op(binder, EXPR_COALESCE, KIND_I64, truth, none, NULL);
    return negate_if(binder, is, ast->negated);
}

/* args: operand or NULL, (WHEN, THEN)…, ELSE or NULL. */
static struct bound *bind_case(struct binder *binder, const struct ast *ast)
{
    uint32_t count = (ast->arg_count - 2) / 2;
    struct bound *operand = NULL;
    struct bound **conditions = arena_new(binder->arena, struct bound *, count);
    struct bound **results = arena_new(binder->arena, struct bound *, count + 1);
    if (!conditions || !results)
        return bind_fail(binder, ERR_NO_MEMORY, ast->position, "out of memory");
    if (ast->args[0]) {
        operand = bind_expr(binder, ast->args[0]);
        if (!operand) return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct ast *when = ast->args[1 + 2 * i];
        struct bound *condition = bind_expr(binder, when);
        conditions[i] = operand ? type_compare(binder, EXPR_EQ, operand, condition, when->position)
                                : type_truth(binder, condition, when->position);
        results[i] = conditions[i] ? bind_expr(binder, ast->args[2 + 2 * i]) : NULL;
        if (!results[i]) return NULL;
    }
    const struct ast *otherwise = ast->args[ast->arg_count - 1];
    results[count] = otherwise ? bind_expr(binder, otherwise) : bound_null(binder, KIND_NULL);
    if (!results[count] || !type_unify(binder, results, count + 1, ast->position)) return NULL;
    struct bound *node = results[count];
    for (uint32_t i = count; node && i-- > 0;)
        node = bound_op(binder, EXPR_SELECT, (enum value_kind)node->kind, conditions[i], results[i],
                        node);
    return node;
}

static struct bound *cast_text(struct binder *binder, const struct ast *ast, struct bound *a)
{
    a = type_string(binder, a);
    if (!a || !ast->type.has_size) return a;
    struct bound *from = bound_const(binder, value_i64(1));
    struct bound *size = bound_const(binder, value_i64(ast->type.size));
    return from && size ? bound_op(binder, EXPR_SUBSTR, KIND_STR, a, from, size) : NULL;
}

static struct bound *cast_date(struct binder *binder, const struct ast *ast, struct bound *a,
                               const char *function)
{
    struct ast call = *ast;
    call.kind = AST_CALL;
    call.name = function;
    struct bound *date = function_bind(binder, &call, &a, 1);
    if (!date || date->display != TYPE_DATE || strcasecmp(ast->type.name, "DATE") == 0) return date;
    return type_datetime(binder, date);
}

static struct bound *bind_cast(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    const char *type = ast->type.name;
    uint32_t position = ast->position;
    if (!a) return NULL;
    if (strcasecmp(type, "CHAR") == 0) return cast_text(binder, ast, a);
    if (strcasecmp(type, "DATE") == 0) return cast_date(binder, ast, a, "DATE");
    if (strcasecmp(type, "DATETIME") == 0)
        return a->display ? type_datetime(binder, a)
                          : bind_fail(binder, ERR_BIND, position,
                                      "CAST AS DATETIME takes a date: write TIMESTAMP '…', or "
                                      "FROM_UNIXTIME(seconds)");
    a = type_number(binder, a, position);
    if (!a) return NULL;
    if (strcasecmp(type, "SIGNED") == 0) return type_signed(binder, a, position);
    if (strcasecmp(type, "UNSIGNED") == 0) return type_bits(binder, a, position);
    if (strcasecmp(type, "DOUBLE") == 0 || strcasecmp(type, "REAL") == 0)
        return type_cast(binder, a, KIND_F64, 0);
    if (strcasecmp(type, "DECIMAL") == 0) {
        uint32_t digits = ast->type.has_size ? ast->type.size : 10;
        if (digits < 1 || digits > 18 || ast->type.scale > digits)
            return bind_fail(binder, ERR_BIND, ast->type.position,
                             "DECIMAL(p,s) has 1 to 18 digits and s at most p");
        return type_cast(binder, a, KIND_DEC, (uint8_t)ast->type.scale);
    }
    return bind_fail(binder, ERR_BIND, ast->type.position,
                     "CAST knows SIGNED, UNSIGNED, DOUBLE, DECIMAL(p,s), CHAR, DATE and DATETIME");
}

static struct bound *bind_collate(struct binder *binder, const struct ast *ast)
{
    struct bound *a = bind_expr(binder, ast->args[0]);
    if (!a) return NULL;
    size_t size = strlen(ast->name);
    bool is_ci = size > 3 && strcasecmp(ast->name + size - 3, "_ci") == 0;
    bool is_bin = (size > 4 && strcasecmp(ast->name + size - 4, "_bin") == 0) ||
                  strcasecmp(ast->name, "binary") == 0;
    if (!is_ci && !is_bin)
        return bind_fail(binder, ERR_BIND, ast->position,
                         "unknown collation '%.64s': there are utf8mb4_bin and utf8mb4_general_ci",
                         ast->name);
    struct bound *text = type_string(binder, a);
    if (!text) return NULL;
    struct bound collated = *text;
    collated.collation = is_ci ? COLLATION_CASE_INSENSITIVE : COLLATION_BINARY;
    collated.strength = STRENGTH_EXPLICIT;
    return bound_make(binder, collated);
}

/* ---- INTERVAL ---- */

/* A constant date some calendar months on. */
static struct bound *add_months(struct binder *binder, const struct ast *ast, struct bound *date,
                                int64_t months)
{
    if (!bound_is_const(date))
        return bind_fail(
            binder, ERR_NOT_PUSHABLE, ast->position,
            "INTERVAL in months or years is pushable for constants only: add it to the "
            "other side, or use days");
    bool is_date = date->display == TYPE_DATE;
    int64_t us = is_date ? date->value.i * DATETIME_US_PER_DAY : date->value.i;
    if (!datetime_add_months(us, months, &us))
        return bind_fail(binder, ERR_OUT_OF_RANGE, ast->position, "the date is out of range");
    if (is_date) us /= DATETIME_US_PER_DAY;
    return type_with_display(binder, bound_const(binder, value_i64(us)), date->display,
                             date->scale);
}

static struct bound *bind_interval(struct binder *binder, const struct ast *ast)
{
    static const struct {
        const char *name;
        int64_t us;
        int months;
    } units[] = {
        {"MICROSECOND", 1, 0},
        {"SECOND", DATETIME_US_PER_SECOND, 0},
        {"MINUTE", 60 * DATETIME_US_PER_SECOND, 0},
        {"HOUR", 3600 * DATETIME_US_PER_SECOND, 0},
        {"DAY", DATETIME_US_PER_DAY, 0},
        {"WEEK", 7 * DATETIME_US_PER_DAY, 0},
        {"MONTH", 0, 1},
        {"QUARTER", 0, 3},
        {"YEAR", 0, 12},
    };
    struct bound *date = bind_expr(binder, ast->args[0]);
    struct bound *amount = date ? bind_expr(binder, ast->args[1]) : NULL;
    amount = amount ? type_signed(binder, amount, ast->position) : NULL;
    if (!amount) return NULL;
    if (!date->display)
        return bind_fail(binder, ERR_BIND, ast->position,
                         "INTERVAL is added to a DATE, DATETIME or TIMESTAMP");
    size_t unit = 0;
    while (unit < ARRAY_SIZE(units) && strcasecmp(units[unit].name, ast->name) != 0)
        unit++;
    if (unit == ARRAY_SIZE(units))
        return bind_fail(binder, ERR_BIND, ast->position,
                         "INTERVAL knows MICROSECOND, SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, "
                         "QUARTER and YEAR");
    if (ast->op == TK_MINUS) amount = type_negate(binder, amount, ast->position);
    if (!amount) return NULL;
    if (units[unit].months) {
        if (!bound_is_const(amount) || bound_is_null(amount) || amount->value.i > 100000 ||
            amount->value.i < -100000)
            return bind_fail(binder, ERR_NOT_PUSHABLE, ast->position,
                             "INTERVAL in months or years takes a constant number");
        return add_months(binder, ast, date, amount->value.i * units[unit].months);
    }
    bool in_days = date->display == TYPE_DATE && units[unit].us % DATETIME_US_PER_DAY == 0;
    if (!in_days) date = type_datetime(binder, date);
    if (!date) return NULL;
    int64_t step = in_days ? units[unit].us / DATETIME_US_PER_DAY : units[unit].us;
    struct bound *by = bound_const(binder, value_i64(step));
    struct bound *moved = by ? bound_op(binder, EXPR_MUL, KIND_I64, amount, by, NULL) : NULL;
    struct bound *bare = type_with_display(binder, date, 0, 0);
    if (!moved || !bare) return NULL;
    uint8_t digits = date->scale;
    if (units[unit].us == 1 && !in_days) digits = 6;
    return type_with_display(binder, bound_op(binder, EXPR_ADD, KIND_I64, bare, moved, NULL),
                             in_days ? TYPE_DATE : date->display, digits);
}

/* ---- the rest ---- */

static struct bound *bind_call(struct binder *binder, const struct ast *ast)
{
    uint8_t fn = function_aggregate(ast->name);
    if (fn) return bind_aggregate(binder, ast, fn);
    struct bound **args = arena_new(binder->arena, struct bound *, ast->arg_count);
    if (!args) return bind_fail(binder, ERR_NO_MEMORY, ast->position, "out of memory");
    for (uint32_t i = 0; i < ast->arg_count; i++) {
        args[i] = bind_expr(binder, ast->args[i]);
        if (!args[i]) return NULL;
    }
    return function_bind(binder, ast, args, ast->arg_count);
}

/* Errors of the folder and of limits have no place of their own: they get the expression's. */
static void place_error(struct binder *binder, const struct ast *ast)
{
    if (binder->err && binder->diag && binder->diag->position == UINT32_MAX)
        binder->diag->position = ast->position;
}

struct bound *bind_expr(struct binder *binder, const struct ast *ast)
{
    struct bound *node = NULL;
    if (binder->err) return NULL;
    switch ((enum ast_kind)ast->kind) {
    case AST_LITERAL:
        node = bind_literal(binder, ast);
        break;
    case AST_NAME:
        node = bind_name(binder, ast);
        break;
    case AST_CALL:
        node = bind_call(binder, ast);
        break;
    case AST_AND:
    case AST_OR:
        node = bind_chain(binder, ast);
        break;
    case AST_UNARY:
        node = bind_unary(binder, ast);
        break;
    case AST_BINARY:
        node = bind_binary(binder, ast);
        break;
    case AST_BETWEEN:
        node = bind_between(binder, ast);
        break;
    case AST_IN:
        node = bind_in(binder, ast);
        break;
    case AST_LIKE:
        node = bind_like(binder, ast);
        break;
    case AST_IS:
        node = bind_is(binder, ast);
        break;
    case AST_CASE:
        node = bind_case(binder, ast);
        break;
    case AST_CAST:
        node = bind_cast(binder, ast);
        break;
    case AST_COLLATE:
        node = bind_collate(binder, ast);
        break;
    case AST_INTERVAL:
        node = bind_interval(binder, ast);
        break;
    case AST_STAR:
    case AST_ITEM:
    case AST_TABLE:
    case AST_ORDER:
        bind_fail(binder, ERR_SYNTAX, ast->position, "unexpected '*'");
        break;
    }
    place_error(binder, ast);
    return binder->err ? NULL : node;
}
