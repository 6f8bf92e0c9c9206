/* The planner: the order of tables, the access to each, where each condition is checked; then the
 * query tree.
 *
 * Rules, since there are no statistics yet. The pipeline starts at the table that constants reach
 * best: by primary key, then by equal leading columns of an index, then by a range, else by a scan;
 * between equals the one written first. Every other table must be a lookup by key from those before
 * it (plan_join.c); they follow in the written order as far as their keys are known, those whose
 * partition the key tells before those that every partition would have to be asked for. When the
 * best start does not reach all tables, the next one is tried. Joins that no key carries are
 * refused: nothing here may turn into a product of two tables. */
#include "sql/plan.h"

#include <stdio.h>

#include "base/check.h"

/* ---- order of tables ---- */

static bool is_placed(const struct plan *plan, uint16_t count, uint16_t table)
{
    for (uint16_t s = 0; s < count; s++)
        if (plan->sources[s].table == table) return true;
    return false;
}

/* The next source behind `at` others; false when no table can follow. */
static bool place_next(struct plan *plan, uint16_t at)
{
    struct plan_source later = {0};
    bool found = false;
    for (uint16_t table = 0; table < plan->query->table_count; table++) {
        struct plan_source source;
        if (is_placed(plan, at, table) || !plan_join(plan, at, table, &source)) continue;
        if (!source.broadcast) {
            plan->sources[at] = source;
            return true;
        }
        if (!found) later = source;
        found = true;
    }
    if (found) plan->sources[at] = later;
    return found;
}

/* Tables reached from the start, with it. */
static uint16_t place_all(struct plan *plan, const struct plan_source *start)
{
    uint16_t count = 1;
    plan->sources[0] = *start;
    while (count < plan->query->table_count && place_next(plan, count))
        count++;
    return count;
}

/* The columns that start an index of the table, as a hint. */
static void describe_keys(const struct table_def *def, char *text, size_t size)
{
    size_t at = 0;
    for (uint32_t i = 0; i < def->index_count && at < size; i++) {
        const struct index_def *index = &def->indexes[i];
        uint32_t count = index->kind == INDEX_HASH ? index->column_count : 1u;
        at += (size_t)snprintf(text + at, size - at, "%s", i ? " or " : "");
        for (uint32_t c = 0; c < count && at < size; c++)
            at += (size_t)snprintf(text + at, size - at, "%s%s", c ? ", " : "",
                                   def->columns[index->columns[c]].name);
    }
}

static enum err fail_join(struct plan *plan, uint16_t reached)
{
    const struct bound_query *query = plan->query;
    uint16_t table = 0;
    while (is_placed(plan, reached, table))
        table++;
    const struct bound_table *missing = &query->tables[table];
    char keys[200];
    describe_keys(missing->def, keys, sizeof(keys));
    return diag_set_at(plan->diag, ERR_NOT_PUSHABLE, missing->position,
                       "no key joins %s to the other tables: equate %s.(%s) with columns of one "
                       "type in them, or CREATE INDEX on the column that is equated",
                       missing->alias, missing->alias, keys);
}

static enum err order_tables(struct plan *plan)
{
    const struct bound_query *query = plan->query;
    struct plan_source starts[QUERY_SOURCES_MAX];
    enum access_class classes[QUERY_SOURCES_MAX];
    for (uint16_t t = 0; t < query->table_count; t++) {
        enum err err = plan_access(plan, t, &classes[t], &starts[t]);
        if (err) return err;
    }
    uint16_t reached_most = 0, best_start = 0;
    for (int class = CLASS_KEYS; class <= CLASS_SCAN; class ++) {
        for (uint16_t t = 0; t < query->table_count; t++) {
            if ((int)classes[t] != class) continue;
            uint16_t reached = place_all(plan, &starts[t]);
            if (reached == query->table_count) return ERR_NONE;
            if (reached <= reached_most) continue;
            reached_most = reached;
            best_start = t;
        }
    }
    return fail_join(plan, place_all(plan, &starts[best_start]));
}

/* ---- conditions ---- */

static void mark_index_use(struct plan *plan, uint32_t conjunct)
{
    plan->uses[conjunct] = CONJUNCT_INDEX;
}

/* Conditions that an access answers by itself need no filter. */
static void use_conditions(struct plan *plan)
{
    const struct plan_source *first = &plan->sources[0];
    const struct table_def *def = plan->query->tables[first->table].def;
    if (first->access != ACCESS_SCAN) {
        const struct index_def *index = &def->indexes[first->index];
        for (uint16_t c = 0; c < first->eq_count; c++) {
            const struct column_bounds *bounds = &plan->bounds[first->table][index->columns[c]];
            if (!bounds->derived) mark_index_use(plan, bounds->eq_conjunct);
        }
        if (first->has_range) {
            const struct column_bounds *bounds =
                &plan->bounds[first->table][index->columns[first->eq_count]];
            if (bounds->has_low && !bounds->keep) mark_index_use(plan, bounds->low_conjunct);
            if (bounds->has_high && !bounds->keep) mark_index_use(plan, bounds->high_conjunct);
        }
    }
    for (uint16_t s = 1; s < plan->query->table_count; s++)
        for (uint16_t k = 0; k < plan->sources[s].key_count; k++)
            mark_index_use(plan, plan->sources[s].key_conjuncts[k]);
}

/* The last source that the expression reads. */
static uint16_t source_of(const struct plan *plan, const struct bound *expr)
{
    uint16_t last = 0;
    for (uint16_t t = 0; t < plan->query->table_count; t++)
        if (expr->tables >> t & 1 && plan->position[t] > last) last = plan->position[t];
    return last;
}

/* ---- the tree ---- */

struct building {
    struct plan *plan;
    struct emitter emitter;
    struct binder binder; /* for joining conditions with AND */
    struct query_tree tree;
};

static enum err emit_at(struct building *building, struct bound *node, uint32_t position,
                        struct expr *ret_expr)
{
    enum err err = emit_expr(&building->emitter, node, ret_expr);
    if (err == ERR_TOO_BIG)
        return diag_set_at(building->plan->diag, err, position,
                           "the expression is too big: at most %d operations and %d constants",
                           EXPR_INS_MAX, EXPR_CONSTS_MAX);
    if (err) return diag_set(building->plan->diag, err, "%s", err_text(err));
    return ERR_NONE;
}

static enum err build_filter(struct building *building, uint16_t number,
                             struct query_source *source)
{
    struct plan *plan = building->plan;
    const struct bound_query *query = plan->query;
    struct bound **tests = arena_new(plan->arena, struct bound *, query->conjunct_count);
    uint32_t count = 0, position = 0;
    if (!tests) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    for (uint32_t i = 0; i < query->conjunct_count; i++) {
        const struct conjunct *conjunct = &query->conjuncts[i];
        if (plan->uses[i] != CONJUNCT_FILTER || source_of(plan, conjunct->expr) != number) continue;
        if (count == 0) position = conjunct->start;
        tests[count++] = conjunct->expr;
    }
    if (count == 0) return ERR_NONE;
    struct bound *filter = bound_balanced(&building->binder, EXPR_AND, KIND_I64, tests, count);
    if (!filter) return building->binder.err;
    source->has_filter = true;
    return emit_at(building, filter, position, &source->filter);
}

static enum err build_source(struct building *building, uint16_t number)
{
    struct plan *plan = building->plan;
    const struct plan_source *from = &plan->sources[number];
    struct query_source *source = &building->tree.sources[number];
    const struct table_def *def = plan->query->tables[from->table].def;
    *source = (struct query_source){
        .table_id = def->id,
        .table_version = def->version,
        .access = from->access,
        .index = from->index,
        .local = from->local,
        .range_count = from->range_count,
        .ranges = from->ranges,
        .key_count = from->key_count,
    };
    source->keys = arena_new(plan->arena, struct expr, from->key_count);
    if (!source->keys) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    for (uint16_t k = 0; k < from->key_count; k++) {
        enum err err =
            emit_at(building, from->keys[k], plan->query->conjuncts[from->key_conjuncts[k]].start,
                    &source->keys[k]);
        if (err) return err;
    }
    return build_filter(building, number, source);
}

static enum err build_aggregation(struct building *building)
{
    struct plan *plan = building->plan;
    const struct bound_query *query = plan->query;
    struct query_tree *tree = &building->tree;
    tree->has_aggregation = query->has_aggregation;
    if (!query->has_aggregation) return ERR_NONE;
    tree->group_count = query->group_count;
    tree->aggregate_count = query->aggregate_count;
    tree->groups = arena_new(plan->arena, struct query_group, query->group_count);
    tree->aggregates = arena_new(plan->arena, struct query_aggregate, query->aggregate_count);
    if (!tree->groups || !tree->aggregates)
        return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    for (uint16_t i = 0; i < query->group_count; i++) {
        tree->groups[i].collation = query->groups[i]->collation;
        enum err err =
            emit_at(building, query->groups[i], query->group_texts[i].start, &tree->groups[i].expr);
        if (err) return err;
    }
    for (uint16_t i = 0; i < query->aggregate_count; i++) {
        const struct bound_aggregate *from = &query->aggregates[i];
        struct query_aggregate *aggregate = &tree->aggregates[i];
        *aggregate = (struct query_aggregate){
            .fn = from->fn,
            .kind = from->kind,
            .out_kind = from->out_kind,
            .out_scale = from->out_scale,
            .collation = from->collation,
        };
        if (!from->argument) continue;
        enum err err = emit_at(building, from->argument, from->start, &aggregate->argument);
        if (err) return err;
    }
    tree->has_having = query->having != NULL;
    if (!query->having) return ERR_NONE;
    return emit_at(building, query->having, query->having_start, &tree->having);
}

static enum err build_outputs(struct building *building)
{
    struct plan *plan = building->plan;
    const struct bound_query *query = plan->query;
    struct query_tree *tree = &building->tree;
    tree->output_count = query->output_count;
    tree->visible_count = query->visible_count;
    tree->order_count = query->order_count;
    tree->outputs = arena_new(plan->arena, struct query_output, query->output_count);
    tree->order = arena_new(plan->arena, struct query_order, query->order_count);
    if (!tree->outputs || !tree->order) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    for (uint16_t i = 0; i < query->output_count; i++) {
        const struct bound_output *from = &query->outputs[i];
        tree->outputs[i] = (struct query_output){
            .name = from->name,
            .kind = from->expr->kind,
            .scale = from->expr->scale,
            .collation = from->expr->collation,
            .display = from->expr->display,
        };
        enum err err = emit_at(building, from->expr, from->start, &tree->outputs[i].expr);
        if (err) return err;
    }
    for (uint16_t i = 0; i < query->order_count; i++) {
        const struct bound_order *from = &query->order[i];
        tree->order[i] = (struct query_order){
            .output = from->output,
            .descending = from->descending,
            .collation = tree->outputs[from->output].collation,
        };
    }
    return ERR_NONE;
}

static enum err build_tree(struct plan *plan, struct query_tree *ret_tree)
{
    const struct bound_query *query = plan->query;
    struct building building = {.plan = plan};
    building.emitter = (struct emitter){.arena = plan->arena, .position = plan->position};
    building.binder =
        (struct binder){.arena = plan->arena, .diag = plan->diag, .query = plan->query};
    struct query_tree *tree = &building.tree;
    tree->catalog_version = plan->catalog->version;
    tree->source_count = query->table_count;
    tree->distinct = query->distinct;
    tree->has_limit = query->has_limit;
    tree->limit = query->limit;
    tree->offset = query->offset;
    tree->pruned = plan->pruned;
    tree->slot_count = plan->slot_count;
    tree->slots = plan->slots;
    tree->sources = arena_new(plan->arena, struct query_source, query->table_count);
    if (!tree->sources) return diag_set(plan->diag, ERR_NO_MEMORY, "out of memory");
    enum err err = ERR_NONE;
    for (uint16_t s = 0; !err && s < query->table_count; s++)
        err = build_source(&building, s);
    if (!err) err = build_aggregation(&building);
    if (!err) err = build_outputs(&building);
    if (!err) *ret_tree = *tree;
    return err;
}

enum err plan_query(const struct catalog *catalog, uint16_t partition_count,
                    struct bound_query *query, struct arena *arena, struct query_tree *ret_tree,
                    struct plan **ret_plan, struct diag *diag)
{
    struct plan *plan = arena_zalloc(arena, sizeof(*plan));
    uint8_t *uses = arena_new(arena, uint8_t, query->conjunct_count);
    if (!plan || !uses) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    plan->catalog = catalog;
    plan->query = query;
    plan->arena = arena;
    plan->diag = diag;
    plan->partition_count = partition_count;
    plan->uses = uses;
    enum err err = plan_bounds(plan);
    if (!err) err = order_tables(plan);
    if (err) return err;
    for (uint16_t s = 0; s < query->table_count; s++)
        plan->position[plan->sources[s].table] = s;
    use_conditions(plan);
    err = plan_slots(plan, plan->sources[0].table, &plan->pruned, &plan->slot_count, &plan->slots);
    if (err) return err;
    struct query_tree tree;
    err = build_tree(plan, &tree);
    if (err) return err;
    *ret_tree = tree;
    *ret_plan = plan;
    return ERR_NONE;
}
