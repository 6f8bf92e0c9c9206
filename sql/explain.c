/* EXPLAIN: the plan as rows, before anything runs.
 *
 * A row for each table in the order of the pipeline, then for aggregation, DISTINCT, sort and
 * limit. Conditions are quoted from the statement's text. No row counts are shown: there are no
 * statistics. */
#include "sql/listing.h"

#include "base/check.h"

static const char *const headings[] = {"step", "operation", "table", "how", "where", "filter"};
enum { EXPLAIN_COLUMNS = ARRAY_SIZE(headings) };

struct explaining {
    const struct plan *plan;
    struct arena *arena;
    struct listing listing;
    struct buf text;
};

/* The slice of the statement on one line. */
static void put_slice(struct explaining *explaining, uint32_t start, uint32_t end)
{
    const char *text = explaining->plan->query->text;
    bool space = false;
    for (uint32_t i = start; i < end; i++) {
        bool white = text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r');
        if (!white && space) buf_put_u8(&explaining->text, ' ');
        if (!white) buf_put_u8(&explaining->text, (uint8_t)text[i]);
        space = white;
    }
}

/* The text so far as a cell; NULL when it is empty. Starts the next one. */
static enum err take_text(struct explaining *explaining, const char **ret_cell)
{
    struct buf *text = &explaining->text;
    if (text->failed) return ERR_NO_MEMORY;
    *ret_cell = "";
    if (text->size) {
        *ret_cell = arena_copy(explaining->arena, text->bytes, text->size);
        if (!*ret_cell) return ERR_NO_MEMORY;
    }
    buf_clear(text);
    return ERR_NONE;
}

static enum err add_step(struct explaining *explaining, const char *operation, const char *table,
                         const char *how, const char *where, const char *filter)
{
    char *step = arena_printf(explaining->arena, "%u", explaining->listing.row_count + 1);
    if (!step) return ERR_NO_MEMORY;
    const char *cells[EXPLAIN_COLUMNS] = {step, operation, table, how, where, filter};
    return listing_add(&explaining->listing, explaining->arena, cells);
}

/* ---- conditions ---- */

/* Conditions whose number is wanted, with AND between them; the two halves of a BETWEEN are one
 * text. */
static void put_conditions(struct explaining *explaining, const bool *wanted)
{
    const struct bound_query *query = explaining->plan->query;
    const struct conjunct *last = NULL;
    for (uint32_t i = 0; i < query->conjunct_count; i++) {
        const struct conjunct *conjunct = &query->conjuncts[i];
        if (!wanted[i] || (last && last->start == conjunct->start)) continue;
        if (last) buf_printf(&explaining->text, " AND ");
        put_slice(explaining, conjunct->start, conjunct->end);
        last = conjunct;
    }
}

static uint16_t source_of(const struct plan *plan, const struct bound *expr)
{
    uint16_t last = 0;
    for (uint16_t t = 0; t < plan->query->table_count; t++)
        if (expr->tables >> t & 1 && plan->position[t] > last) last = plan->position[t];
    return last;
}

static void want_filter(const struct plan *plan, uint16_t number, bool *wanted)
{
    for (uint32_t i = 0; i < plan->query->conjunct_count; i++)
        wanted[i] = plan->uses[i] == CONJUNCT_FILTER &&
                    source_of(plan, plan->query->conjuncts[i].expr) == number;
}

static void want_access(const struct plan *plan, const struct plan_source *source, bool *wanted)
{
    const struct table_def *def = plan->query->tables[source->table].def;
    const struct index_def *index = &def->indexes[source->index];
    memset(wanted, 0, plan->query->conjunct_count * sizeof(*wanted));
    for (uint16_t k = 0; k < source->key_count; k++)
        wanted[source->key_conjuncts[k]] = true;
    if (source->access != ACCESS_RANGES && source->access != ACCESS_KEYS) return;
    for (uint16_t c = 0; c < source->eq_count; c++)
        wanted[plan->bounds[source->table][index->columns[c]].eq_conjunct] = true;
    if (!source->has_range) return;
    const struct column_bounds *bounds =
        &plan->bounds[source->table][index->columns[source->eq_count]];
    if (bounds->has_low) wanted[bounds->low_conjunct] = true;
    if (bounds->has_high) wanted[bounds->high_conjunct] = true;
}

/* ---- steps ---- */

static const char *operation_of(const struct plan *plan, const struct plan_source *source)
{
    const struct table_def *def = plan->query->tables[source->table].def;
    switch ((enum access_kind)source->access) {
    case ACCESS_SCAN:
        return "scan";
    case ACCESS_RANGES:
        return "index range";
    case ACCESS_KEYS:
        return "key lookup";
    case ACCESS_JOIN:
        break;
    }
    bool whole = source->index == 0 && source->key_count == def->indexes[0].column_count;
    return whole ? "join by key" : "join by index";
}

static void put_index(struct explaining *explaining, const struct plan_source *source)
{
    const struct table_def *def = explaining->plan->query->tables[source->table].def;
    const struct index_def *index = &def->indexes[source->index];
    buf_printf(&explaining->text, "%s (", index->name);
    for (uint32_t c = 0; c < index->column_count; c++)
        buf_printf(&explaining->text, "%s%s", c ? ", " : "", def->columns[index->columns[c]].name);
    buf_printf(&explaining->text, "): ");
    if (source->range_count > 1)
        buf_printf(&explaining->text, "%u %s, ", source->range_count,
                   source->access == ACCESS_KEYS ? "keys" : "ranges");
}

static uint32_t partitions_touched(const struct plan *plan)
{
    if (!plan->pruned) return plan->partition_count;
    uint8_t seen[PARTITIONS_MAX] = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->slot_count; i++) {
        uint8_t *mark = &seen[plan->slots[i] & (plan->partition_count - 1)];
        count += !*mark;
        *mark = 1;
    }
    return count;
}

static const char *place_of(struct explaining *explaining, uint16_t number)
{
    const struct plan *plan = explaining->plan;
    const struct plan_source *source = &plan->sources[number];
    if (number == 0)
        return arena_printf(explaining->arena, "%u of %u partitions", partitions_touched(plan),
                            plan->partition_count);
    if (source->local) return "local: the same partition";
    return source->broadcast ? "rows go to every partition" : "rows move to the key's partition";
}

static enum err explain_source(struct explaining *explaining, uint16_t number, bool *wanted)
{
    const struct plan *plan = explaining->plan;
    const struct plan_source *source = &plan->sources[number];
    const struct bound_table *table = &plan->query->tables[source->table];
    const char *name, *how, *filter;
    buf_printf(&explaining->text, "%s.%s", table->def->database, table->def->name);
    if (table->has_alias) buf_printf(&explaining->text, " %s", table->alias);
    enum err err = take_text(explaining, &name);
    if (err) return err;
    if (source->access == ACCESS_SCAN) {
        buf_printf(&explaining->text, "all rows");
    } else {
        put_index(explaining, source);
        want_access(plan, source, wanted);
        put_conditions(explaining, wanted);
    }
    err = take_text(explaining, &how);
    if (err) return err;
    want_filter(plan, number, wanted);
    put_conditions(explaining, wanted);
    err = take_text(explaining, &filter);
    const char *where = place_of(explaining, number);
    if (!where) err = ERR_NO_MEMORY;
    if (err) return err;
    return add_step(explaining, operation_of(plan, source), name, how, where, filter);
}

static enum err explain_aggregation(struct explaining *explaining)
{
    const struct bound_query *query = explaining->plan->query;
    const char *how, *filter;
    buf_printf(&explaining->text, query->named_group_count ? "by " : "one row");
    for (uint16_t i = 0; i < query->named_group_count; i++) {
        if (i) buf_printf(&explaining->text, ", ");
        put_slice(explaining, query->group_texts[i].start, query->group_texts[i].end);
    }
    enum err err = take_text(explaining, &how);
    if (err) return err;
    if (query->having) put_slice(explaining, query->having_start, query->having_end);
    err = take_text(explaining, &filter);
    if (err) return err;
    return add_step(explaining, "aggregate", "", how,
                    "partly in each partition, merged by the coordinator", filter);
}

static enum err explain_sort(struct explaining *explaining)
{
    const struct bound_query *query = explaining->plan->query;
    for (uint16_t i = 0; i < query->order_count; i++) {
        if (i) buf_printf(&explaining->text, ", ");
        put_slice(explaining, query->order[i].start, query->order[i].end);
        if (query->order[i].descending) buf_printf(&explaining->text, " DESC");
    }
    const char *how;
    enum err err = take_text(explaining, &how);
    return err ? err : add_step(explaining, "sort", "", how, "coordinator", "");
}

static enum err explain_steps(struct explaining *explaining)
{
    const struct bound_query *query = explaining->plan->query;
    bool *wanted = arena_new(explaining->arena, bool, query->conjunct_count);
    enum err err = wanted ? ERR_NONE : ERR_NO_MEMORY;
    for (uint16_t s = 0; !err && s < query->table_count; s++)
        err = explain_source(explaining, s, wanted);
    if (!err && query->has_aggregation) err = explain_aggregation(explaining);
    if (!err && query->distinct)
        err = add_step(explaining, "distinct", "", "all columns", "coordinator", "");
    if (!err && query->order_count) err = explain_sort(explaining);
    if (err || !query->has_limit) return err;
    const char *how =
        query->offset
            ? arena_printf(explaining->arena, "%llu after %llu", (unsigned long long)query->limit,
                           (unsigned long long)query->offset)
            : arena_printf(explaining->arena, "%llu", (unsigned long long)query->limit);
    return how ? add_step(explaining, "limit", "", how, "coordinator", "") : ERR_NO_MEMORY;
}

enum err explain_plan(const struct plan *plan, struct arena *arena, struct listing *ret_listing)
{
    struct explaining explaining = {.plan = plan, .arena = arena};
    explaining.listing = (struct listing){.columns = headings, .column_count = EXPLAIN_COLUMNS};
    buf_init(&explaining.text);
    enum err err = explain_steps(&explaining);
    buf_fini(&explaining.text);
    if (!err) *ret_listing = explaining.listing;
    return err;
}
