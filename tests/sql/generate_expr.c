/* Expressions by class, in both dialects. */
#include "tests/sql/generator.h"

#include <stdarg.h>

bool chance(struct generator *g, uint32_t percent)
{
    return random_below(&g->random, 100) < percent;
}

uint32_t pick(struct generator *g, uint32_t limit)
{
    return random_below(&g->random, limit);
}

/* The same text to both. */
void both(struct generator *g, const char *format, ...)
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

void each(struct generator *g, const char *ours, const char *lite)
{
    buf_put(&g->ours, ours, strlen(ours));
    buf_put(&g->lite, lite, strlen(lite));
}

/* ---- columns ---- */

/* Writes a random column of one of the classes (bits); false when FROM has none. */
bool column_name(struct generator *g, unsigned classes, char name[40],
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

void int_constant(struct generator *g)
{
    static const int constants[] = {0, 1, 2, 3, 5, 7, 10, 20, 50, 100, 300, 1000};
    int number = constants[pick(g, 12)];
    both(g, chance(g, 20) ? "(-%d)" : "%d", number);
}

void int_leaf(struct generator *g)
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
    static const char *const parts[][2] = {{"YEAR", "%Y"}, {"MONTH", "%m"},  {"DAY", "%d"},
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

void int_expr(struct generator *g, int depth)
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
        if (chance(g, 50))
            both(g, " %% ");
        else
            each(g, " DIV ", " / ");
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
        if (chance(g, 50))
            int_of_text(g, depth);
        else
            int_of_date(g);
        break;
    default:
        int_bits(g);
        break;
    }
}

/* Doubles stay multiples of a quarter. */
void double_expr(struct generator *g, int depth)
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

void text_constant(struct generator *g)
{
    static const char *const constants[] = {"a",         "ab", "Abc", "b_",   "c%",   "file.txt",
                                            "x.TAR.gz1", "",   "zed", "k''q", "m n2", "A"};
    both(g, "'%s'", constants[pick(g, 12)]);
}

static void text_leaf(struct generator *g)
{
    char name[40];
    const struct test_column *column;
    if (chance(g, 15) || !column_name(g, 1u << CLASS_TEXT, name, &column))
        text_constant(g);
    else
        both(g, "%s", name);
}

/* The last n characters; SQLite's substr with a negative start gives less than RIGHT for short
 * text. */
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
    snprintf(lite, sizeof(lite), "CASE WHEN length(%s) <= %u THEN %s ELSE substr(%s, -%u) END",
             name, count, name, name, count);
    each(g, ours, lite);
}

void text_expr(struct generator *g, int depth)
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
        if (chance(g, 50))
            both(g, ", %u)", 1 + pick(g, 5));
        else
            both(g, ", %u, %u)", 1 + pick(g, 5), pick(g, 5));
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

void date_constant(struct generator *g, bool time)
{
    if (time)
        both(g, "'2023-%02u-%02u %02u:%02u:%02u'", 12u, 1 + pick(g, 28), pick(g, 24), pick(g, 60),
             pick(g, 60));
    else
        both(g, "'%u-%02u-%02u'", 2023 + pick(g, 3), 1 + pick(g, 12), 1 + pick(g, 28));
}

/* False, with nothing written, when FROM has no date. */
bool date_expr(struct generator *g, int depth)
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
