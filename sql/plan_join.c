/* Joins: the index by which a table is looked up from the tables before it, and whether its rows
 * are where the pipeline already is.
 *
 * A table can be joined when conditions equate the whole of its primary key, or leading columns of
 * an ordered index, with expressions over tables before it (or constants, for some of the columns).
 * The join is local when its partition columns equal, one by one, those of a table that was read in
 * the partition where the rows now are: equal partition keys are one partition. */
#include "sql/plan.h"

#include "base/check.h"

static uint32_t placed_tables(const struct plan *plan, uint16_t at)
{
    uint32_t placed = 0;
    for (uint16_t s = 0; s < at; s++)
        placed |= UINT32_C(1) << plan->sources[s].table;
    return placed;
}

/* The expression over placed tables that the condition equates with the column; NULL when it does
 * not. */
static struct bound *equated_with(const struct plan *plan, const struct bound *test, uint16_t table,
                                  uint16_t column, uint32_t placed)
{
    if (test->op != EXPR_EQ) return NULL;
    const struct column_def *def = &plan->query->tables[table].def->columns[column];
    for (int side = 0; side < 2; side++) {
        const struct bound *a = test->args[side];
        struct bound *b = test->args[1 - side];
        if (a->op != EXPR_COLUMN || !a->tables || a->source != table || a->column != column)
            continue;
        if (b->tables & ~placed) continue;
        if (a->kind == KIND_STR && test->collation != def->collation) continue;
        /* A FLOAT column holds no double exactly; CHAR and BINARY hold text in another form. */
        if (def->type == TYPE_FLOAT || def->type == TYPE_CHAR || def->type == TYPE_BINARY) {
            bool same = b->op == EXPR_COLUMN && b->tables;
            if (same) {
                const struct column_def *other =
                    &plan->query->tables[b->source].def->columns[b->column];
                same = other->type == def->type && other->size_max == def->size_max;
            }
            if (!same) continue;
        }
        return b;
    }
    return NULL;
}

/* Leading columns of the index with a key expression; at least one of them over a placed table. */
static uint16_t join_prefix(const struct plan *plan, uint16_t table, const struct index_def *index,
                            uint32_t placed, struct plan_source *source)
{
    const struct bound_query *query = plan->query;
    uint16_t count = 0;
    bool connects = false;
    for (; count < index->column_count; count++) {
        struct bound *key = NULL;
        uint32_t number = 0;
        for (uint32_t i = 0; i < query->conjunct_count; i++) {
            struct bound *other =
                equated_with(plan, query->conjuncts[i].expr, table, index->columns[count], placed);
            /* Another table's column rather than a constant: it is what makes this a join. */
            if (!other || (key && !(other->tables && !key->tables))) continue;
            key = other;
            number = i;
        }
        if (!key) break;
        connects = connects || key->tables;
        source->keys[count] = key;
        source->key_conjuncts[count] = number;
    }
    return connects ? count : 0;
}

/* Do the key's columns tell the partition? */
static bool tells_partition(const struct table_def *def, const struct index_def *index,
                            uint16_t key_count)
{
    for (uint32_t p = 0; p < def->partition_column_count; p++) {
        bool found = false;
        for (uint16_t k = 0; k < key_count; k++)
            found = found || index->columns[k] == def->partition_columns[p];
        if (!found) return false;
    }
    return true;
}

/* Equal values of the two partition columns hash alike. */
static bool same_form(const struct column_def *a, const struct column_def *b, uint8_t partition_by)
{
    if (partition_by != PARTITION_BY_KEY) return true; /* the number itself decides */
    if (a->type != b->type) return false;
    return a->type != TYPE_BINARY || a->size_max == b->size_max;
}

static bool is_copartitioned(const struct plan *plan, uint16_t a, uint16_t b)
{
    const struct table_def *x = plan->query->tables[a].def;
    const struct table_def *y = plan->query->tables[b].def;
    if (x->partition_by != y->partition_by ||
        x->partition_column_count != y->partition_column_count)
        return false;
    for (uint32_t p = 0; p < x->partition_column_count; p++) {
        uint16_t c = x->partition_columns[p], d = y->partition_columns[p];
        if (plan->classes[a][c] != plan->classes[b][d]) return false;
        if (!same_form(&x->columns[c], &y->columns[d], x->partition_by)) return false;
    }
    return true;
}

/* The rows of source `at` are where those of the sources before it are. */
static bool is_local(const struct plan *plan, uint16_t at, uint16_t table)
{
    for (uint16_t s = at; s-- > 0;) {
        if (is_copartitioned(plan, plan->sources[s].table, table)) return true;
        /* Before a move the rows were elsewhere. */
        if (plan->sources[s].access == ACCESS_JOIN && !plan->sources[s].local) return false;
    }
    return false;
}

bool plan_join(struct plan *plan, uint16_t at, uint16_t table, struct plan_source *ret_source)
{
    const struct table_def *def = plan->query->tables[table].def;
    uint32_t placed = placed_tables(plan, at);
    struct plan_source best = {.table = table, .access = ACCESS_JOIN};
    for (uint8_t i = 0; i < def->index_count; i++) {
        const struct index_def *index = &def->indexes[i];
        struct plan_source source = {.table = table, .access = ACCESS_JOIN, .index = i};
        uint16_t count = join_prefix(plan, table, index, placed, &source);
        if (count == 0 || (index->kind != INDEX_ORDERED && count < index->column_count)) continue;
        source.key_count = count;
        source.broadcast = !tells_partition(def, index, count);
        bool whole_primary =
            best.key_count && best.index == 0 && best.key_count == def->indexes[0].column_count;
        if (whole_primary) continue;
        bool better = best.key_count == 0 || (best.broadcast && !source.broadcast) ||
                      (best.broadcast == source.broadcast && count > best.key_count);
        if (better) best = source;
    }
    if (best.key_count == 0) return false;
    best.local = is_local(plan, at, table);
    if (best.local) best.broadcast = false;
    *ret_source = best;
    return true;
}
