/* Conditions in both dialects: tests of one column, which an index may answer, of expressions, and
 * their combinations. */
#include "tests/sql/generator.h"

const char *comparison(struct generator *g)
{
    static const char *const operators[] = {"=", "<>", "<", "<=", ">", ">=", "!="};
    return operators[pick(g, 7)];
}

static void int_test(struct generator *g, int depth)
{
    int_expr(g, depth - 1);
    if (chance(g, 8))
        each(g, " <=> ", " IS ");
    else
        both(g, " %s ", comparison(g));
    if (chance(g, 60))
        int_constant(g);
    else
        int_expr(g, depth - 1);
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
        for (uint32_t i = pick(g, 6); i > 0; i--)
            both(g, ", %u", pick(g, range + 1));
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
    if (chance(g, 50))
        int_expr(g, depth - 1);
    else
        both(g, "%u.%s", pick(g, 100), chance(g, 50) ? "5" : "75");
}

static void like_test(struct generator *g, const char *text)
{
    static const char *const patterns[] = {
        "a%", "%b%", "_b%", "%c", "file._xt", "%\\_%", "%\\%%", "", "%", "x.TAR%", "A%", "a", "__"};
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

void bool_expr(struct generator *g, int depth)
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
