/* What the conditions say about columns: constants they equal, ranges they lie in, and which
 * columns equal each other.
 *
 * Columns connected by `a.x = b.y`, of one kind and collation, form a class; a constant known for
 * one is known for all, so that `d.parent = 7 AND i.parent = d.parent` finds partition and index of
 * both tables. Values are kept only when the column can hold them exactly, so that a key lookup and
 * the comparison it stands for agree. */
#include "sql/plan.h"

#include <stdlib.h>

#include "base/check.h"

enum fit { FIT_GOOD, FIT_NEVER, FIT_UNSURE };

static const struct column_def *column_def(const struct plan *plan, uint16_t table, uint16_t column)
{
    return &plan->query->tables[table].def->columns[column];
}

/* Can a row of the column equal the value? */
static enum fit fit_equal(const struct column_def *column, struct value value,
                          struct value *ret_value)
{
    struct value fitted;
    enum err err = value_fit(column, value, &fitted);
    if (err == ERR_OUT_OF_RANGE || err == ERR_TOO_BIG) return FIT_NEVER;
    if (err) return FIT_UNSURE;
    /* CHAR without its spaces, FLOAT rounded: not the value of the condition. */
    if (value.kind == KIND_STR && fitted.size != value.size) return FIT_UNSURE;
    if (value.kind == KIND_F64 && fitted.f != value.f) return FIT_NEVER;
    if (column->type == TYPE_BINARY && value.size != column->size_max) return FIT_NEVER;
    *ret_value = fitted;
    return FIT_GOOD;
}

static enum collation column_collation(const struct column_def *column)
{
    return column_kind(column) == KIND_STR ? (enum collation)column->collation : COLLATION_BINARY;
}

/* ---- values ---- */

static int compare_binary(const void *a, const void *b)
{
    return value_compare(*(const struct value *)a, *(const struct value *)b, COLLATION_BINARY);
}

static int compare_folded(const void *a, const void *b)
{
    return value_compare(*(const struct value *)a, *(const struct value *)b,
                         COLLATION_CASE_INSENSITIVE);
}

/* Sorted and without doubles. */
static uint32_t sort_values(struct value *values, uint32_t count, enum collation collation)
{
    uint32_t kept = 0;
    qsort(values, count, sizeof(*values),
          collation == COLLATION_BINARY ? compare_binary : compare_folded);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || value_compare(values[kept - 1], values[i], collation) != 0)
            values[kept++] = values[i];
    return kept;
}

/* Takes the list for the column unless a shorter one is known. An empty list means that nothing
 * matches. */
static enum err bounds_equal(struct plan *plan, uint16_t table, uint16_t number,
                             const struct value *list, uint32_t count, uint32_t conjunct,
                             bool derived)
{
    struct column_bounds *bounds = &plan->bounds[table][number];
    const struct column_def *column = column_def(plan, table, number);
    struct value *values = arena_new(plan->arena, struct value, count);
    if (!values) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum fit fit = fit_equal(column, list[i], &values[kept]);
        if (fit == FIT_UNSURE) return ERR_NONE;
        kept += fit == FIT_GOOD;
    }
    kept = sort_values(values, kept, column_collation(column));
    if (kept == 0) plan->never = true;
    if (bounds->has_eq && bounds->value_count <= kept) return ERR_NONE;
    bounds->has_eq = true;
    bounds->derived = derived;
    bounds->values = values;
    bounds->value_count = kept;
    bounds->eq_conjunct = conjunct;
    return ERR_NONE;
}

/* ---- ranges ---- */

/* Keeps the tighter of two bounds; a bound that is not taken stays a filter. */
static void bounds_low(struct column_bounds *bounds, struct value value, bool inclusive,
                       uint32_t conjunct)
{
    if (bounds->has_low) {
        int order = value_compare(value, bounds->low, COLLATION_BINARY);
        if (order < 0 || (order == 0 && inclusive)) return;
    }
    bounds->has_low = true;
    bounds->low = value;
    bounds->low_inclusive = inclusive;
    bounds->low_conjunct = conjunct;
}

static void bounds_high(struct column_bounds *bounds, struct value value, bool inclusive,
                        uint32_t conjunct)
{
    if (bounds->has_high) {
        int order = value_compare(value, bounds->high, COLLATION_BINARY);
        if (order > 0 || (order == 0 && inclusive)) return;
    }
    bounds->has_high = true;
    bounds->high = value;
    bounds->high_inclusive = inclusive;
    bounds->high_conjunct = conjunct;
}

static bool range_is_usable(const struct column_def *column)
{
    /* The executor brings a bound to the column's values; padded and stripped types are left to the
     * filter. */
    return column->type != TYPE_CHAR && column->type != TYPE_BINARY;
}

static void note_range(struct plan *plan, const struct bound *test, uint32_t conjunct)
{
    const struct bound *a = test->args[0];
    struct column_bounds *bounds = &plan->bounds[a->source][a->column];
    const struct column_def *column = column_def(plan, a->source, a->column);
    struct value value = test->args[1]->value;
    if (!range_is_usable(column) || column_collation(column) != COLLATION_BINARY) return;
    switch ((enum expr_op)test->op) {
    case EXPR_LT:
    case EXPR_LE:
        bounds_high(bounds, value, test->op == EXPR_LE, conjunct);
        break;
    case EXPR_GT:
    case EXPR_GE:
        bounds_low(bounds, value, test->op == EXPR_GE, conjunct);
        break;
    default:
        break;
    }
}

/* LIKE 'abc%' lies between 'abc' and 'abd'. */
static enum err note_like(struct plan *plan, const struct bound *test, uint32_t conjunct)
{
    const struct bound *a = test->args[0];
    struct column_bounds *bounds = &plan->bounds[a->source][a->column];
    const struct column_def *column = column_def(plan, a->source, a->column);
    if (test->collation != COLLATION_BINARY || column_collation(column) != COLLATION_BINARY ||
        !range_is_usable(column) || bounds->has_low || bounds->has_high)
        return ERR_NONE;
    uint8_t *prefix = arena_alloc(plan->arena, (size_t)test->value.size * 2 + 2);
    if (!prefix) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    uint32_t size = 0;
    for (uint32_t i = 0; i < test->value.size; i++) {
        uint8_t byte = test->value.bytes[i];
        if (byte == test->x && byte != 0) break;
        if (byte == '%' || byte == '_') break;
        prefix[size++] = byte;
    }
    /* The successor must be text as well: only an ASCII character is simply followed by another. */
    if (size == 0 || prefix[size - 1] >= 0x7e) return ERR_NONE;
    uint8_t *next = prefix + size;
    memcpy(next, prefix, size);
    next[size - 1]++;
    bounds_low(bounds, value_str(prefix, size), true, conjunct);
    bounds_high(bounds, value_str(next, size), false, conjunct);
    bounds->keep = true;
    return ERR_NONE;
}

/* ---- conditions ---- */

static bool is_table_column(const struct bound *node)
{
    return node->op == EXPR_COLUMN && node->tables;
}

static enum err note_conjunct(struct plan *plan, uint32_t number)
{
    const struct bound *test = plan->query->conjuncts[number].expr;
    if (bound_is_const(test)) {
        if (value_is_null(test->value) || test->value.i == 0) plan->never = true;
        return ERR_NONE;
    }
    if (test->arg_count == 0 || !is_table_column(test->args[0])) return ERR_NONE;
    const struct bound *a = test->args[0];
    /* compare.c writes what can never hold as x < x. */
    if (test->op == EXPR_LT && a == test->args[1]) plan->never = true;
    const struct column_def *column = column_def(plan, a->source, a->column);
    if (test->op == EXPR_LIKE) return note_like(plan, test, number);
    bool is_text = a->kind == KIND_STR;
    if (is_text && test->collation != column_collation(column)) return ERR_NONE;
    if (test->op == EXPR_IN)
        return bounds_equal(plan, a->source, a->column, test->list, test->list_count, number,
                            false);
    if (test->arg_count != 2 || !bound_is_const(test->args[1])) return ERR_NONE;
    struct value value = test->args[1]->value;
    if (value_is_null(value)) {
        if (test->op != EXPR_EQ_NULLSAFE) plan->never = true;
        return ERR_NONE;
    }
    if (test->op == EXPR_EQ || test->op == EXPR_EQ_NULLSAFE)
        return bounds_equal(plan, a->source, a->column, &value, 1, number, false);
    note_range(plan, test, number);
    return ERR_NONE;
}

/* ---- classes ---- */

/* Equal values of the two have equal normalized bytes, up to their width. */
static bool same_domain(const struct plan *plan, const struct bound *a, const struct bound *b)
{
    const struct column_def *x = column_def(plan, a->source, a->column);
    const struct column_def *y = column_def(plan, b->source, b->column);
    if (a->kind != b->kind) return false;
    if (a->kind == KIND_STR) return column_collation(x) == column_collation(y);
    if (a->kind == KIND_DEC) return x->scale == y->scale;
    return a->kind != KIND_F64;
}

static void join_classes(struct plan *plan, uint16_t from, uint16_t to)
{
    for (uint16_t t = 0; t < plan->query->table_count; t++)
        for (uint16_t c = 0; c < plan->query->tables[t].def->column_count; c++)
            if (plan->classes[t][c] == from) plan->classes[t][c] = to;
}

static void find_classes(struct plan *plan)
{
    const struct bound_query *query = plan->query;
    for (uint32_t i = 0; i < query->conjunct_count; i++) {
        const struct bound *test = query->conjuncts[i].expr;
        if (test->op != EXPR_EQ || !is_table_column(test->args[0]) ||
            !is_table_column(test->args[1]))
            continue;
        const struct bound *a = test->args[0], *b = test->args[1];
        if (!same_domain(plan, a, b)) continue;
        if (a->kind == KIND_STR &&
            test->collation != column_collation(column_def(plan, a->source, a->column)))
            continue;
        join_classes(plan, plan->classes[a->source][a->column],
                     plan->classes[b->source][b->column]);
    }
}

/* Gives every column of a class the constants of the one with fewest. */
static enum err spread_constants(struct plan *plan)
{
    const struct bound_query *query = plan->query;
    for (uint16_t t = 0; t < query->table_count; t++) {
        for (uint16_t c = 0; c < query->tables[t].def->column_count; c++) {
            const struct column_bounds *bounds = &plan->bounds[t][c];
            if (!bounds->has_eq || bounds->derived) continue;
            for (uint16_t u = 0; u < query->table_count; u++) {
                for (uint16_t d = 0; d < query->tables[u].def->column_count; d++) {
                    if (plan->classes[u][d] != plan->classes[t][c] || (u == t && d == c)) continue;
                    enum err err = bounds_equal(plan, u, d, bounds->values, bounds->value_count,
                                                bounds->eq_conjunct, true);
                    if (err) return err;
                }
            }
        }
    }
    return ERR_NONE;
}

enum err plan_bounds(struct plan *plan)
{
    const struct bound_query *query = plan->query;
    uint16_t class = 0;
    for (uint16_t t = 0; t < query->table_count; t++) {
        uint16_t count = query->tables[t].def->column_count;
        plan->bounds[t] = arena_new(plan->arena, struct column_bounds, count);
        plan->classes[t] = arena_new(plan->arena, uint16_t, count);
        if (!plan->bounds[t] || !plan->classes[t])
            return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
        for (uint16_t c = 0; c < count; c++)
            plan->classes[t][c] = class ++;
    }
    for (uint32_t i = 0; i < query->conjunct_count; i++) {
        enum err err = note_conjunct(plan, i);
        if (err) return err;
    }
    find_classes(plan);
    return spread_constants(plan);
}
