/* Random queries: FROM with joins that have keys, conditions, select lists, groups and aggregates.
 * Every piece is written to both texts at once, so that they mean the same. */
#include "tests/sql/generator.h"

/* ---- FROM ---- */

/* A join that an index of the new table carries: {X} is a table before it, {Y} the new one. */
static const struct {
    int from, to;
    const char *condition;
} edges[] = {
    {0, 1, "{Y}.a = {X}.k"},
    {0, 1, "{X}.v = {Y}.a"},
    {0, 0, "{Y}.id = {X}.v"},
    {0, 0, "{X}.id = {Y}.id"},
    {0, 0, "{Y}.k = {X}.v"},
    {0, 2, "{Y}.ino = {X}.u"},
    {0, 3, "{Y}.ino = {X}.u"},
    {1, 0, "{Y}.id = {X}.b"},
    {1, 0, "{X}.a = {Y}.k"},
    {1, 0, "{Y}.k = {X}.a AND {Y}.v = {X}.b"},
    {1, 1, "{Y}.a = {X}.a AND {X}.b = {Y}.b"},
    {1, 1, "{Y}.a = {X}.b"},
    {1, 1, "{Y}.a = {X}.a AND {Y}.b = 3"},
    {1, 0, "{Y}.id = {X}.a + {X}.b"},
    {2, 3, "{Y}.parent = {X}.ino"},
    {2, 3, "{Y}.ino = {X}.ino"},
    {2, 2, "{X}.uid = {Y}.ino"},
    {0, 1, "{Y}.a = {X}.k AND {Y}.b = {X}.id * 50"},
    {0, 4, "{Y}.tn = {X}.id"},
    {0, 4, "{Y}.slot = {X}.u"},
    {0, 4, "{Y}.m = {X}.ci AND {X}.k = 7"},
    {2, 4, "{Y}.slot = {X}.uid"},
    {4, 4, "{X}.slot = {Y}.slot AND {Y}.c = {X}.c"},
    {4, 4, "{Y}.slot = {X}.tu"},
    {4, 0, "{Y}.k = {X}.tn"},
    {3, 2, "{Y}.ino = {X}.ino"},
    {3, 2, "{Y}.ino = {X}.parent"},
    {3, 3, "{Y}.parent = {X}.ino"},
    {3, 3, "{Y}.parent = {X}.parent AND {Y}.h = {X}.h"},
};
enum { EDGES = sizeof(edges) / sizeof(edges[0]) };

static void add_table(struct generator *g, int number)
{
    g->from[g->table_count].table = &test_tables[number];
    snprintf(g->from[g->table_count].alias, sizeof(g->from[0].alias), "x%d", g->table_count);
    g->table_count++;
}

static void add_condition(struct generator *g, const char *condition, const char *x, const char *y)
{
    char *to = g->conditions[g->condition_count++];
    for (const char *from = condition; *from; from++) {
        if (*from == '{') {
            to = stpcpy(to, from[1] == 'X' ? x : y);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void choose_tables(struct generator *g)
{
    add_table(g, (int)pick(g, TABLES));
    uint32_t joins = chance(g, 60) ? 0 : 1 + pick(g, 2);
    for (int tries = 0; joins > 0 && tries < 50; tries++) {
        uint32_t edge = pick(g, EDGES);
        uint32_t placed = pick(g, (uint32_t)g->table_count);
        if (g->from[placed].table != &test_tables[edges[edge].from]) continue;
        add_table(g, edges[edge].to);
        add_condition(g, edges[edge].condition, g->from[placed].alias,
                      g->from[g->table_count - 1].alias);
        joins--;
    }
}

/* FROM and WHERE: joins with ON, or with commas in any order. */
static void from_where(struct generator *g)
{
    bool commas = chance(g, 50);
    both(g, " FROM ");
    if (commas) {
        int start = (int)pick(g, (uint32_t)g->table_count);
        for (int i = 0; i < g->table_count; i++) {
            int t = (start + i) % g->table_count;
            both(g, "%s%s %s", i ? ", " : "", g->from[t].table->name, g->from[t].alias);
        }
    } else {
        for (int t = 0; t < g->table_count; t++) {
            if (t) both(g, chance(g, 30) ? " INNER JOIN " : " JOIN ");
            both(g, "%s%s %s", g->from[t].table->name, chance(g, 30) ? " AS" : "",
                 g->from[t].alias);
            if (t) both(g, " ON %s", g->conditions[t - 1]);
        }
    }
    const char *word = " WHERE ";
    for (int i = 0; commas && i < g->condition_count; i++) {
        both(g, "%s%s", word, g->conditions[i]);
        word = " AND ";
    }
    uint32_t tests = chance(g, 20) ? 0 : 1 + pick(g, 2);
    for (uint32_t i = 0; i < tests; i++) {
        both(g, "%s", word);
        /* AND binds stronger than OR. */
        both(g, "(");
        bool_expr(g, DEPTH_MAX - 1);
        both(g, ")");
        word = " AND ";
    }
}

/* ---- select lists ---- */

static void output_begin(struct generator *g)
{
    if (g->query.column_count) both(g, ", ");
}

static void output_end(struct generator *g, enum output_class class)
{
    both(g, " AS c%d", g->query.column_count + 1);
    g->query.classes[g->query.column_count++] = class;
}

static void rounded_output(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    bool decimal = column_name(g, 1u << CLASS_DECIMAL, name, &column);
    switch (decimal ? pick(g, 4) : 3) {
    case 0:
        both(g, "%s", name);
        break;
    case 1:
        both(g, "(%s * 1.5 + ", name);
        int_expr(g, 1);
        both(g, ")");
        break;
    case 2:
        both(g, "(%s - %u.05)", name, pick(g, 10));
        break;
    default:
        each(g, "(", "(CAST(");
        int_expr(g, 2);
        each(g, " / ", " AS REAL) / ");
        int_expr(g, 2);
        both(g, ")");
        break;
    }
}

static bool has_rounded(const struct generator *g)
{
    for (int i = 0; i < g->query.column_count; i++)
        if (g->query.classes[i] == OUTPUT_ROUND) return true;
    return false;
}

/* Any expression but rounded ones when exact. One rounded column a query, so that sorting brings
 * rows that are the same but for rounding to the same place. */
static void output(struct generator *g, bool exact)
{
    char name[40];
    const struct test_column *column;
    enum output_class class = OUTPUT_NUMBER;
    output_begin(g);
    switch (pick(g, exact || has_rounded(g) ? 6 : 7)) {
    case 0:
    case 1:
        int_expr(g, DEPTH_MAX);
        break;
    case 2:
        text_expr(g, DEPTH_MAX - 1);
        class = OUTPUT_EXACT;
        break;
    case 3:
        if (date_expr(g, 1))
            class = OUTPUT_EXACT;
        else
            int_leaf(g);
        break;
    case 4:
        double_expr(g, 2);
        break;
    case 5:
        if (column_name(g, 1u << CLASS_FOLDED, name, &column)) {
            both(g, "%s", name);
            class = OUTPUT_FOLDED;
        } else {
            both(g, "(");
            bool_expr(g, 1);
            both(g, ")");
        }
        break;
    default:
        rounded_output(g);
        class = OUTPUT_ROUND;
        break;
    }
    output_end(g, class);
}

static void aggregate(struct generator *g)
{
    enum output_class class = OUTPUT_NUMBER;
    char name[40];
    const struct test_column *column;
    output_begin(g);
    switch (pick(g, 10)) {
    case 0:
        both(g, "COUNT(*)");
        break;
    case 1:
        both(g, "COUNT(");
        int_expr(g, 2);
        both(g, ")");
        break;
    case 2:
    case 3:
        both(g, "SUM(");
        int_expr(g, 2);
        both(g, ")");
        break;
    case 4:
        both(g, "%s(", chance(g, 50) ? "MIN" : "MAX");
        int_expr(g, 2);
        both(g, ")");
        break;
    case 5:
        both(g, "%s(", chance(g, 50) ? "MIN" : "MAX");
        text_expr(g, 1);
        both(g, ")");
        class = OUTPUT_EXACT;
        break;
    case 6:
        if (has_rounded(g)) {
            both(g, "COUNT(*)");
            break;
        }
        both(g, "AVG(");
        int_expr(g, 2);
        both(g, ")");
        class = OUTPUT_ROUND;
        break;
    case 7:
        both(g, "COUNT(DISTINCT ");
        if (chance(g, 50))
            int_expr(g, 1);
        else if (column_name(g, 1u << CLASS_FOLDED, name, &column))
            both(g, "%s", name);
        else
            text_expr(g, 1);
        both(g, ")");
        break;
    case 8:
        both(g, "%s(", chance(g, 50) ? "SUM" : "MAX");
        double_expr(g, 1);
        both(g, ")");
        break;
    default:
        if (!has_rounded(g) && column_name(g, 1u << CLASS_DECIMAL, name, &column)) {
            both(g, "%s(%s)", chance(g, 50) ? "SUM" : "AVG", name);
            class = OUTPUT_ROUND;
        } else if (column_name(g, 1u << CLASS_UINT, name, &column)) {
            both(g, "SUM(%s)", name);
        } else {
            both(g, "COUNT(*)");
        }
        break;
    }
    output_end(g, class);
}

/* ---- the ends of queries ---- */

static void order_limit(struct generator *g)
{
    if (has_rounded(g) || chance(g, 40)) return;
    g->query.ordered = true;
    both(g, " ORDER BY ");
    int first = (int)pick(g, (uint32_t)g->query.column_count);
    both(g, chance(g, 50) ? "c%d" : "%d", first + 1);
    both(g, "%s", chance(g, 50) ? " DESC" : chance(g, 50) ? " ASC" : "");
    for (int i = 0; i < g->query.column_count; i++)
        if (i != first) both(g, ", %d%s", i + 1, chance(g, 30) ? " DESC" : "");
    if (chance(g, 50)) return;
    unsigned limit = pick(g, 40), offset = pick(g, 20);
    switch (pick(g, 3)) {
    case 0:
        both(g, " LIMIT %u", limit);
        break;
    case 1:
        both(g, " LIMIT %u OFFSET %u", limit, offset);
        break;
    default:
        both(g, " LIMIT %u, %u", offset, limit);
        break;
    }
}

static void plain_query(struct generator *g)
{
    bool distinct = chance(g, 15);
    uint32_t outputs = 1 + pick(g, 4);
    both(g, "SELECT %s", distinct ? "DISTINCT " : "");
    for (uint32_t i = 0; i < outputs; i++)
        output(g, distinct);
    from_where(g);
    order_limit(g);
}

static void having(struct generator *g)
{
    if (!chance(g, 40)) return;
    both(g, " HAVING ");
    switch (pick(g, 4)) {
    case 0:
        both(g, "COUNT(*) %s %u", comparison(g), 1 + pick(g, 5));
        break;
    case 1:
        both(g, "SUM(");
        int_expr(g, 1);
        both(g, ") %s ", comparison(g));
        int_constant(g);
        break;
    case 2:
        both(g, "MAX(");
        int_expr(g, 1);
        both(g, ") IS NOT NULL AND COUNT(*) > %u", pick(g, 3));
        break;
    default:
        if (g->query.classes[0] == OUTPUT_NUMBER)
            both(g, "c1 %s %u", comparison(g), pick(g, 50));
        else
            both(g, "c1 IS NOT NULL");
        break;
    }
}

static void grouped_query(struct generator *g)
{
    uint32_t keys = pick(g, 4);
    uint32_t aggregates = 1 + pick(g, 4);
    both(g, "SELECT ");
    for (uint32_t i = 0; i < keys; i++)
        output(g, true);
    for (uint32_t i = 0; i < aggregates; i++)
        aggregate(g);
    from_where(g);
    for (uint32_t i = 0; i < keys; i++) {
        both(g, i ? ", " : " GROUP BY ");
        both(g, chance(g, 50) ? "%u" : "c%u", i + 1);
    }
    if (keys) having(g);
    order_limit(g);
}

void generate_query(uint64_t seed, struct query *ret_query)
{
    struct generator g = {.random = {seed}};
    buf_init(&g.ours);
    buf_init(&g.lite);
    choose_tables(&g);
    if (chance(&g, 55))
        plain_query(&g);
    else
        grouped_query(&g);
    buf_put_u8(&g.ours, 0);
    buf_put_u8(&g.lite, 0);
    if (g.ours.failed || g.lite.failed) fail("out of memory");
    g.query.ours = (char *)g.ours.bytes;
    g.query.lite = (char *)g.lite.bytes;
    *ret_query = g.query;
}
