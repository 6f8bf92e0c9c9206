/* Random queries: FROM with joins that have keys, conditions, expressions by class, groups and aggregates. Every
 * piece is written to both texts at once, so that they mean the same. */
#include "tests/sql/generate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FROM_MAX = 4, CONDITIONS_MAX = 8, DEPTH_MAX = 3 };

struct generator {
    struct random random;
    struct buf ours;
    struct buf lite;
    int table_count;
    struct {
        const struct test_table *table;
        char alias[8];
    } from[FROM_MAX];
    int condition_count;
    char conditions[CONDITIONS_MAX][80];
    struct query query;
};

static bool chance(struct generator *g, uint32_t percent)
{
    return random_below(&g->random, 100) < percent;
}

static uint32_t pick(struct generator *g, uint32_t limit)
{
    return random_below(&g->random, limit);
}

/* The same text to both. */
__attribute__((format(printf, 2, 3))) static void both(struct generator *g, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof(text)) fail("a piece of a query is too long");
    buf_put(&g->ours, text, (size_t)size);
    buf_put(&g->lite, text, (size_t)size);
}

static void each(struct generator *g, const char *ours, const char *lite)
{
    buf_put(&g->ours, ours, strlen(ours));
    buf_put(&g->lite, lite, strlen(lite));
}

/* ---- columns ---- */

/* Writes a random column of one of the classes (bits); false when FROM has none. */
static bool column_name(struct generator *g, unsigned classes, char name[40],
                        const struct test_column **ret_column)
{
    int found = 0;
    for (int t = 0; t < g->table_count; t++) {
        for (int c = 0; c < g->from[t].table->column_count; c++) {
            const struct test_column *column = &g->from[t].table->columns[c];
            if (!(classes >> column->class & 1)) continue;
            if (pick(g, (uint32_t)++found) != 0) continue;
            snprintf(name, 40, "%s.%s", g->from[t].alias, column->name);
            *ret_column = column;
        }
    }
    return found > 0;
}

/* ---- expressions ---- */

static void int_expr(struct generator *g, int depth);
static void bool_expr(struct generator *g, int depth);
static void text_expr(struct generator *g, int depth);

static void int_constant(struct generator *g)
{
    static const int constants[] = {0, 1, 2, 3, 5, 7, 10, 20, 50, 100, 300, 1000};
    int number = constants[pick(g, 12)];
    both(g, chance(g, 20) ? "(-%d)" : "%d", number);
}

static void int_leaf(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    if (chance(g, 25) || !column_name(g, 1u << CLASS_INT | 1u << CLASS_UINT, name, &column)) {
        int_constant(g);
    } else if (column->class == CLASS_INT) {
        both(g, "%s", name);
    } else {
        char cast[64];
        snprintf(cast, sizeof(cast), "CAST(%s AS SIGNED)", name);
        each(g, cast, name);
    }
}

static void int_choice(struct generator *g, int depth)
{
    switch (pick(g, 5)) {
    case 0:
        both(g, "CASE WHEN ");
        bool_expr(g, depth - 1);
        both(g, " THEN ");
        int_expr(g, depth - 1);
        if (chance(g, 70)) {
            both(g, " ELSE ");
            int_expr(g, depth - 1);
        }
        both(g, " END");
        break;
    case 1:
        each(g, "IF(", "iif(");
        bool_expr(g, depth - 1);
        both(g, ", ");
        int_expr(g, depth - 1);
        both(g, ", ");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 2:
        both(g, chance(g, 50) ? "COALESCE(" : "IFNULL(");
        int_expr(g, depth - 1);
        both(g, ", ");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 3:
        both(g, "NULLIF(");
        int_expr(g, depth - 1);
        both(g, ", ");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    default:
        both(g, "CASE ");
        int_expr(g, depth - 1);
        both(g, " WHEN %u THEN ", pick(g, 5));
        int_expr(g, depth - 1);
        both(g, " WHEN %u THEN ", pick(g, 9));
        int_expr(g, depth - 1);
        both(g, " ELSE NULL END");
        break;
    }
}

static void int_of_text(struct generator *g, int depth)
{
    switch (pick(g, 3)) {
    case 0:
        each(g, "LENGTH(", "length(CAST(");
        text_expr(g, depth - 1);
        each(g, ")", " AS BLOB))");
        break;
    case 1:
        each(g, "CHAR_LENGTH(", "length(");
        text_expr(g, depth - 1);
        both(g, ")");
        break;
    default:
        both(g, "INSTR(");
        text_expr(g, depth - 1);
        both(g, chance(g, 50) ? ", 'b')" : ", 'a')");
        break;
    }
}

static void int_of_date(struct generator *g)
{
    static const char *const parts[][2] = {{"YEAR", "%Y"}, {"MONTH", "%m"}, {"DAY", "%d"},
                                           {"HOUR", "%H"}, {"MINUTE", "%M"}, {"SECOND", "%S"}};
    char name[40], ours[80], lite[100];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_DATE | 1u << CLASS_TIME, name, &column)) {
        int_leaf(g);
        return;
    }
    const char *const *part = parts[pick(g, 6)];
    snprintf(ours, sizeof(ours), "%s(%s)", part[0], name);
    snprintf(lite, sizeof(lite), "CAST(strftime('%s', %s) AS INTEGER)", part[1], name);
    each(g, ours, lite);
}

static void int_bits(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_UINT, name, &column)) {
        int_leaf(g);
        return;
    }
    static const char *const operators[] = {"&", "|", "<<", ">>"};
    const char *operator= operators[pick(g, 4)];
    each(g, "CAST((", "((");
    both(g, "%s %s %u", name, operator, 1 + pick(g, 6));
    each(g, ") AS SIGNED)", "))");
}

static void int_expr(struct generator *g, int depth)
{
    if (depth <= 0 || chance(g, 30)) {
        int_leaf(g);
        return;
    }
    switch (pick(g, 9)) {
    case 0:
    case 1:
    case 2:
        both(g, "(");
        int_expr(g, depth - 1);
        both(g, chance(g, 50) ? " + " : " - ");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 3:
        both(g, "(");
        int_expr(g, depth - 1);
        both(g, " * %u)", pick(g, 12));
        break;
    case 4:
        both(g, "(");
        int_expr(g, depth - 1);
        if (chance(g, 50)) both(g, " %% ");
        else each(g, " DIV ", " / ");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 5:
        int_choice(g, depth);
        break;
    case 6:
        both(g, chance(g, 50) ? "(- " : "ABS(");
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 7:
        if (chance(g, 50)) int_of_text(g, depth);
        else int_of_date(g);
        break;
    default:
        int_bits(g);
        break;
    }
}

/* Doubles stay multiples of a quarter. */
static void double_expr(struct generator *g, int depth)
{
    char name[40];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_DOUBLE, name, &column)) snprintf(name, sizeof(name), "2.5e0");
    switch (depth > 0 ? pick(g, 6) : 5) {
    case 0:
        both(g, "(%s + ", name);
        int_expr(g, depth - 1);
        both(g, ")");
        break;
    case 1:
        both(g, "(%s * %u)", name, pick(g, 10));
        break;
    case 2:
        both(g, "ABS(%s)", name);
        break;
    case 3:
        both(g, "ROUND(%s)", name);
        break;
    case 4:
        both(g, "(");
        double_expr(g, depth - 1);
        both(g, " - %u.25e0)", pick(g, 5));
        break;
    default:
        both(g, "%s", name);
        break;
    }
}

static void text_constant(struct generator *g)
{
    static const char *const constants[] = {"a", "ab", "Abc", "b_", "c%", "file.txt", "x.TAR.gz1",
                                            "", "zed", "k''q", "m n2", "A"};
    both(g, "'%s'", constants[pick(g, 12)]);
}

static void text_leaf(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    if (chance(g, 15) || !column_name(g, 1u << CLASS_TEXT, name, &column)) text_constant(g);
    else both(g, "%s", name);
}

/* The last n characters; SQLite's substr with a negative start gives less than RIGHT for short text. */
static void text_right(struct generator *g)
{
    char name[40], ours[80], lite[200];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_TEXT, name, &column)) {
        text_leaf(g);
        return;
    }
    unsigned count = 1 + pick(g, 4);
    snprintf(ours, sizeof(ours), "RIGHT(%s, %u)", name, count);
    snprintf(lite, sizeof(lite), "CASE WHEN length(%s) <= %u THEN %s ELSE substr(%s, -%u) END", name,
             count, name, name, count);
    each(g, ours, lite);
}

static void text_expr(struct generator *g, int depth)
{
    if (depth <= 0 || chance(g, 35)) {
        text_leaf(g);
        return;
    }
    switch (pick(g, 8)) {
    case 0:
        each(g, "CONCAT(", "(");
        text_expr(g, depth - 1);
        each(g, ", ", " || ");
        text_expr(g, depth - 1);
        both(g, ")");
        break;
    case 1:
        both(g, chance(g, 50) ? "UPPER(" : "LOWER(");
        text_expr(g, depth - 1);
        both(g, ")");
        break;
    case 2:
        both(g, "SUBSTR(");
        text_expr(g, depth - 1);
        if (chance(g, 50)) both(g, ", %u)", 1 + pick(g, 5));
        else both(g, ", %u, %u)", 1 + pick(g, 5), pick(g, 5));
        break;
    case 3:
        each(g, "LEFT(", "substr(");
        text_expr(g, depth - 1);
        each(g, ", ", ", 1, ");
        both(g, "%u)", pick(g, 5));
        break;
    case 4:
        text_right(g);
        break;
    case 5:
        both(g, "COALESCE(");
        text_expr(g, depth - 1);
        both(g, ", ");
        text_constant(g);
        both(g, ")");
        break;
    case 6:
        both(g, "CASE WHEN ");
        bool_expr(g, depth - 1);
        both(g, " THEN ");
        text_expr(g, depth - 1);
        both(g, " ELSE ");
        text_expr(g, depth - 1);
        both(g, " END");
        break;
    default:
        both(g, "CAST(");
        int_expr(g, depth - 1);
        each(g, " AS CHAR)", " AS TEXT)");
        break;
    }
}

static void date_constant(struct generator *g, bool time)
{
    if (time)
        both(g, "'2023-%02u-%02u %02u:%02u:%02u'", 12u, 1 + pick(g, 28), pick(g, 24), pick(g, 60),
             pick(g, 60));
    else both(g, "'%u-%02u-%02u'", 2023 + pick(g, 3), 1 + pick(g, 12), 1 + pick(g, 28));
}

/* False, with nothing written, when FROM has no date. */
static bool date_expr(struct generator *g, int depth)
{
    char name[40], ours[80], lite[80];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_DATE | 1u << CLASS_TIME, name, &column)) return false;
    if (depth > 0 && column->class == CLASS_DATE && chance(g, 30)) {
        int days = (int)pick(g, 100) - 50;
        snprintf(ours, sizeof(ours), "(%s + INTERVAL %d DAY)", name, days);
        snprintf(lite, sizeof(lite), "date(%s, '%+d days')", name, days);
        each(g, ours, lite);
    } else if (column->class == CLASS_TIME && depth > 0 && chance(g, 30)) {
        both(g, "DATE(%s)", name);
    } else {
        both(g, "%s", name);
    }
    return true;
}

/* ---- conditions ---- */

static const char *comparison(struct generator *g)
{
    static const char *const operators[] = {"=", "<>", "<", "<=", ">", ">=", "!="};
    return operators[pick(g, 7)];
}

static void int_test(struct generator *g, int depth)
{
    int_expr(g, depth - 1);
    if (chance(g, 8)) each(g, " <=> ", " IS ");
    else both(g, " %s ", comparison(g));
    if (chance(g, 60)) int_constant(g);
    else int_expr(g, depth - 1);
}

/* A bare column, which an index may serve, with constants of several kinds. */
static void column_test(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_INT | 1u << CLASS_UINT, name, &column)) {
        both(g, "1 = 1");
        return;
    }
    uint32_t range = (uint32_t)column->range;
    switch (pick(g, 7)) {
    case 0:
        both(g, "%s = %u", name, pick(g, range + 1));
        break;
    case 1:
        both(g, "%s BETWEEN %u AND %u", name, pick(g, range), pick(g, 2 * range));
        break;
    case 2:
        both(g, "%s%s IN (%u, %u, %d", name, chance(g, 25) ? " NOT" : "", pick(g, range + 1),
             pick(g, range + 1), (int)pick(g, 10) - 8);
        for (uint32_t i = pick(g, 6); i > 0; i--) both(g, ", %u", pick(g, range + 1));
        both(g, chance(g, 15) ? ", NULL)" : ")");
        break;
    case 3:
        both(g, "%s %s %u.5", name, comparison(g), pick(g, range + 1));
        break;
    case 4:
        both(g, "%s %s -%u", name, comparison(g), pick(g, range + 1));
        break;
    case 5:
        both(g, "(%s = %u OR %s = %u)", name, pick(g, range + 1), name, pick(g, range + 1));
        break;
    default:
        both(g, "%s %s %u", name, comparison(g), pick(g, range + 1));
        break;
    }
}

static void number_test(struct generator *g, int depth)
{
    char name[40];
    const struct test_column *column;
    if (chance(g, 50) && column_name(g, 1u << CLASS_DECIMAL, name, &column)) {
        switch (pick(g, 4)) {
        case 0:
            both(g, "%s %s %u.%02u", name, comparison(g), pick(g, 100), pick(g, 100));
            break;
        case 1:
            both(g, "%s %s %u.%03u", name, comparison(g), pick(g, 100), pick(g, 1000));
            break;
        case 2:
            both(g, "%s IN (%u, %u.50, -%u)", name, pick(g, 100), pick(g, 100), pick(g, 100));
            break;
        default:
            both(g, "%s BETWEEN -%u AND %u.25", name, pick(g, 100), pick(g, 100));
            break;
        }
        return;
    }
    double_expr(g, depth - 1);
    both(g, " %s ", comparison(g));
    if (chance(g, 50)) int_expr(g, depth - 1);
    else both(g, "%u.%s", pick(g, 100), chance(g, 50) ? "5" : "75");
}

static void like_test(struct generator *g, const char *text)
{
    static const char *const patterns[] = {"a%", "%b%", "_b%", "%c", "file._xt", "%\\_%", "%\\%%",
                                           "", "%", "x.TAR%", "A%", "a", "__"};
    char ours[120], lite[160];
    const char *pattern = patterns[pick(g, 13)];
    const char *not = chance(g, 25) ? " NOT" : "";
    snprintf(ours, sizeof(ours), "%s%s LIKE '%s'", text, not, pattern);
    snprintf(lite, sizeof(lite), "%s%s LIKE '%s' ESCAPE '\\'", text, not, pattern);
    each(g, ours, lite);
}

static void text_test(struct generator *g, int depth)
{
    char name[40];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_TEXT, name, &column)) snprintf(name, sizeof(name), "'ab'");
    switch (pick(g, 4)) {
    case 0:
        like_test(g, name);
        break;
    case 1:
        both(g, "%s%s IN (", name, chance(g, 25) ? " NOT" : "");
        text_constant(g);
        both(g, ", ");
        text_constant(g);
        both(g, ", ");
        text_constant(g);
        both(g, ")");
        break;
    case 2:
        both(g, "%s %s ", name, comparison(g));
        text_constant(g);
        break;
    default:
        text_expr(g, depth - 1);
        both(g, " %s ", comparison(g));
        text_expr(g, depth - 1);
        break;
    }
}

static void folded_test(struct generator *g)
{
    static const char *const patterns[] = {"A%", "%B%", "_b%", "%C", "FILE%"};
    char name[40], ours[120], lite[160];
    const struct test_column *column;
    if (!column_name(g, 1u << CLASS_FOLDED, name, &column)) {
        column_test(g);
        return;
    }
    switch (pick(g, 3)) {
    case 0:
        both(g, "%s %s ", name, comparison(g));
        text_constant(g);
        break;
    case 1:
        both(g, "%s IN (", name);
        text_constant(g);
        both(g, ", ");
        text_constant(g);
        both(g, ")");
        break;
    default: {
        const char *pattern = patterns[pick(g, 5)];
        snprintf(ours, sizeof(ours), "%s LIKE '%s'", name, pattern);
        snprintf(lite, sizeof(lite), "lower(%s) LIKE lower('%s') ESCAPE '\\'", name, pattern);
        each(g, ours, lite);
        break;
    }
    }
}

static void date_test(struct generator *g, int depth)
{
    char name[40];
    const struct test_column *column;
    bool time = chance(g, 40);
    if (!column_name(g, time ? 1u << CLASS_TIME : 1u << CLASS_DATE, name, &column)) {
        int_test(g, depth);
        return;
    }
    if (chance(g, 30)) {
        both(g, "%s BETWEEN ", name);
        date_constant(g, time);
        both(g, " AND ");
        date_constant(g, time);
        return;
    }
    both(g, "%s %s ", name, comparison(g));
    date_constant(g, time);
}

static void null_test(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    column_name(g, ~0u, name, &column);
    both(g, "%s IS%s NULL", name, chance(g, 50) ? " NOT" : "");
}

static void logic(struct generator *g, int depth)
{
    switch (pick(g, 7)) {
    case 0:
    case 1:
    case 2:
        both(g, "(");
        bool_expr(g, depth - 1);
        both(g, chance(g, 50) ? " AND " : " OR ");
        bool_expr(g, depth - 1);
        both(g, ")");
        break;
    case 3:
        both(g, "NOT (");
        bool_expr(g, depth - 1);
        both(g, ")");
        break;
    case 4:
        both(g, "((");
        bool_expr(g, depth - 1);
        both(g, ")%s)", chance(g, 50) ? " IS TRUE" : " IS NOT FALSE");
        break;
    case 5:
        each(g, "((", "(((");
        bool_expr(g, depth - 1);
        each(g, ") XOR (", ") <> 0) <> ((");
        bool_expr(g, depth - 1);
        each(g, "))", ") <> 0))");
        break;
    default:
        int_expr(g, depth - 1);
        both(g, "%s BETWEEN ", chance(g, 30) ? " NOT" : "");
        int_expr(g, depth - 1);
        both(g, " AND ");
        int_expr(g, depth - 1);
        break;
    }
}

static void bool_expr(struct generator *g, int depth)
{
    if (depth > 0 && chance(g, 35)) {
        logic(g, depth);
        return;
    }
    switch (pick(g, 9)) {
    case 0:
    case 1:
        int_test(g, depth);
        break;
    case 2:
    case 3:
        column_test(g);
        break;
    case 4:
        number_test(g, depth);
        break;
    case 5:
        text_test(g, depth);
        break;
    case 6:
        folded_test(g);
        break;
    case 7:
        date_test(g, depth);
        break;
    default:
        null_test(g);
        break;
    }
}

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
            both(g, "%s%s %s", g->from[t].table->name, chance(g, 30) ? " AS" : "", g->from[t].alias);
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

/* Any expression but rounded ones when exact. */
static void output(struct generator *g, bool exact)
{
    char name[40];
    const struct test_column *column;
    enum output_class class = OUTPUT_NUMBER;
    output_begin(g);
    switch (pick(g, exact ? 6 : 7)) {
    case 0:
    case 1:
        int_expr(g, DEPTH_MAX);
        break;
    case 2:
        text_expr(g, DEPTH_MAX - 1);
        class = OUTPUT_EXACT;
        break;
    case 3:
        if (date_expr(g, 1)) class = OUTPUT_EXACT;
        else int_leaf(g);
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
        both(g, "AVG(");
        int_expr(g, 2);
        both(g, ")");
        class = OUTPUT_ROUND;
        break;
    case 7:
        both(g, "COUNT(DISTINCT ");
        if (chance(g, 50)) int_expr(g, 1);
        else if (column_name(g, 1u << CLASS_FOLDED, name, &column)) both(g, "%s", name);
        else text_expr(g, 1);
        both(g, ")");
        break;
    case 8:
        both(g, "%s(", chance(g, 50) ? "SUM" : "MAX");
        double_expr(g, 1);
        both(g, ")");
        break;
    default:
        if (column_name(g, 1u << CLASS_DECIMAL, name, &column)) {
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

static bool has_rounded(const struct generator *g)
{
    for (int i = 0; i < g->query.column_count; i++)
        if (g->query.classes[i] == OUTPUT_ROUND) return true;
    return false;
}

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
    for (uint32_t i = 0; i < outputs; i++) output(g, distinct);
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
        if (g->query.classes[0] == OUTPUT_NUMBER) both(g, "c1 %s %u", comparison(g), pick(g, 50));
        else both(g, "c1 IS NOT NULL");
        break;
    }
}

static void grouped_query(struct generator *g)
{
    uint32_t keys = pick(g, 4);
    uint32_t aggregates = 1 + pick(g, 4);
    both(g, "SELECT ");
    for (uint32_t i = 0; i < keys; i++) output(g, true);
    for (uint32_t i = 0; i < aggregates; i++) aggregate(g);
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
    if (chance(&g, 55)) plain_query(&g);
    else grouped_query(&g);
    buf_put_u8(&g.ours, 0);
    buf_put_u8(&g.lite, 0);
    if (g.ours.failed || g.lite.failed) fail("out of memory");
    g.query.ours = (char *)g.ours.bytes;
    g.query.lite = (char *)g.lite.bytes;
    *ret_query = g.query;
}
