/* Access to the first table by constants: primary keys, ranges of an ordered index, or a scan; and
 * the partitions that can hold its rows. */
#include "sql/plan.h"

#include "base/check.h"

/* How well an index serves. */
struct choice {
    enum access_class class;
    uint16_t eq_count;
    uint8_t bound_count; /* 0, 1 or 2 bounds on the column behind */
    uint32_t range_count;
    uint8_t index;
};

/* Leading columns that equal constants, as long as their combinations stay within the limit. */
static uint16_t equal_prefix(const struct plan *plan, uint16_t table, const struct index_def *index,
                             uint32_t *ret_ranges)
{
    uint64_t ranges = 1;
    uint16_t count = 0;
    while (count < index->column_count) {
        const struct column_bounds *bounds = &plan->bounds[table][index->columns[count]];
        if (!bounds->has_eq || ranges * bounds->value_count > QUERY_RANGES_MAX) break;
        ranges *= bounds->value_count;
        count++;
    }
    *ret_ranges = (uint32_t)ranges;
    return count;
}

static bool choose(const struct plan *plan, uint16_t table, uint8_t number,
                   struct choice *ret_choice)
{
    const struct index_def *index = &plan->query->tables[table].def->indexes[number];
    struct choice choice = {.index = number};
    choice.eq_count = equal_prefix(plan, table, index, &choice.range_count);
    bool whole = choice.eq_count == index->column_count;
    if (index->kind != INDEX_ORDERED && !whole) return false;
    if (!whole) {
        const struct column_bounds *next = &plan->bounds[table][index->columns[choice.eq_count]];
        choice.bound_count = (uint8_t)(next->has_low + next->has_high);
    }
    if (choice.eq_count == 0 && choice.bound_count == 0) return false;
    choice.class = whole && number == 0  ? CLASS_KEYS
                   : choice.eq_count > 0 ? CLASS_EQUAL
                                         : CLASS_RANGE;
    *ret_choice = choice;
    return true;
}

static bool is_better(const struct choice *a, const struct choice *b)
{
    if (a->class != b->class) return a->class < b->class;
    if (a->eq_count != b->eq_count) return a->eq_count > b->eq_count;
    return a->bound_count > b->bound_count;
}

/* Every combination of the columns' constants is a range. */
static enum err build_ranges(struct plan *plan, uint16_t table, const struct choice *choice,
                             struct plan_source *source)
{
    const struct index_def *index = &plan->query->tables[table].def->indexes[choice->index];
    const struct column_bounds *next = NULL;
    if (choice->bound_count) next = &plan->bounds[table][index->columns[choice->eq_count]];
    size_t count = choice->range_count;
    source->ranges = arena_new(plan->arena, struct index_range, count);
    struct value *values = arena_new(plan->arena, struct value, count * choice->eq_count);
    if (!source->ranges || !values) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    for (uint32_t r = 0; r < count; r++) {
        struct index_range *range = &source->ranges[r];
        range->eq_count = choice->eq_count;
        range->eq = values + (size_t)r * choice->eq_count;
        uint32_t rest = r;
        for (uint16_t c = choice->eq_count; c-- > 0;) {
            const struct column_bounds *bounds = &plan->bounds[table][index->columns[c]];
            range->eq[c] = bounds->values[rest % bounds->value_count];
            rest /= bounds->value_count;
        }
        if (!next) continue;
        range->has_low = next->has_low;
        range->low = next->low;
        range->low_inclusive = next->low_inclusive;
        range->has_high = next->has_high;
        range->high = next->high;
        range->high_inclusive = next->high_inclusive;
    }
    source->range_count = choice->range_count;
    source->eq_count = choice->eq_count;
    source->has_range = next != NULL;
    return ERR_NONE;
}

enum err plan_access(struct plan *plan, uint16_t table, enum access_class *ret_class,
                     struct plan_source *ret_source)
{
    const struct table_def *def = plan->query->tables[table].def;
    struct choice best = {.class = CLASS_SCAN};
    for (uint8_t i = 0; i < def->index_count; i++) {
        struct choice choice;
        if (choose(plan, table, i, &choice) && is_better(&choice, &best)) best = choice;
    }
    struct plan_source source = {.table = table, .access = ACCESS_SCAN};
    if (best.class != CLASS_SCAN) {
        source.access = best.class == CLASS_KEYS ? ACCESS_KEYS : ACCESS_RANGES;
        source.index = best.index;
        enum err err = build_ranges(plan, table, &best, &source);
        if (err) return err;
    }
    *ret_class = best.class;
    *ret_source = source;
    return ERR_NONE;
}

/* ---- partitions ---- */

/* HOME(column) = constant, for a table partitioned by the home of that column. */
static bool home_slots(const struct plan *plan, uint16_t table, const struct value **ret_values,
                       uint32_t *ret_count)
{
    const struct table_def *def = plan->query->tables[table].def;
    if (def->partition_by != PARTITION_BY_HOME) return false;
    for (uint32_t i = 0; i < plan->query->conjunct_count; i++) {
        const struct bound *test = plan->query->conjuncts[i].expr;
        if (test->arg_count == 0 || test->args[0]->op != EXPR_HOME) continue;
        const struct bound *column = test->args[0]->args[0];
        if (column->op != EXPR_COLUMN || !column->tables || column->source != table ||
            column->column != def->partition_columns[0])
            continue;
        if (test->op == EXPR_IN) {
            *ret_values = test->list;
            *ret_count = test->list_count;
            return true;
        }
        if (test->op == EXPR_EQ && bound_is_const(test->args[1]) && !bound_is_null(test->args[1])) {
            *ret_values = &test->args[1]->value;
            *ret_count = 1;
            return true;
        }
    }
    return false;
}

static void add_slot(uint16_t *slots, uint32_t *count, uint16_t slot)
{
    for (uint32_t i = 0; i < *count; i++)
        if (slots[i] == slot) return;
    slots[(*count)++] = slot;
}

/* The slots of all combinations of the partition columns' constants. */
static enum err combine_slots(struct plan *plan, uint16_t table, uint32_t combinations,
                              uint16_t *slots, uint32_t *ret_count)
{
    const struct table_def *def = plan->query->tables[table].def;
    for (uint32_t r = 0; r < combinations; r++) {
        struct value values[SCHEMA_KEY_COLUMNS_MAX];
        uint32_t rest = r;
        for (uint32_t p = 0; p < def->partition_column_count; p++) {
            const struct column_bounds *bounds = &plan->bounds[table][def->partition_columns[p]];
            values[p] = bounds->values[rest % bounds->value_count];
            rest /= bounds->value_count;
        }
        uint16_t slot;
        enum err err = table_slot(def, values, &slot);
        if (err) return diag_set(plan->diag, err, "a partition key is not usable");
        add_slot(slots, ret_count, slot);
    }
    return ERR_NONE;
}

enum err plan_slots(struct plan *plan, uint16_t table, bool *ret_pruned, uint32_t *ret_count,
                    uint16_t **ret_slots)
{
    const struct table_def *def = plan->query->tables[table].def;
    const struct value *homes = NULL;
    uint32_t home_count = 0, count = 0;
    uint64_t combinations = 1;
    bool bound = true;
    for (uint32_t p = 0; p < def->partition_column_count && bound; p++) {
        const struct column_bounds *bounds = &plan->bounds[table][def->partition_columns[p]];
        bound = bounds->has_eq;
        combinations *= bounds->value_count;
        if (combinations > PLAN_SLOTS_MAX) bound = false;
    }
    bool by_home = !bound && home_slots(plan, table, &homes, &home_count);
    *ret_pruned = (bound || by_home || plan->never) && home_count <= PLAN_SLOTS_MAX;
    *ret_count = 0;
    *ret_slots = NULL;
    if (!*ret_pruned || plan->never) return ERR_NONE;
    uint32_t capacity = by_home ? home_count : (uint32_t)combinations;
    uint16_t *slots = arena_new(plan->arena, uint16_t, capacity);
    if (!slots) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    if (by_home) {
        for (uint32_t i = 0; i < home_count; i++)
            if (homes[i].u < PARTITION_SLOTS) add_slot(slots, &count, (uint16_t)homes[i].u);
    } else {
        enum err err = combine_slots(plan, table, (uint32_t)combinations, slots, &count);
        if (err) return err;
    }
    *ret_count = count;
    *ret_slots = slots;
    return ERR_NONE;
}
