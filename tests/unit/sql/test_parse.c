/* The grammar: precedence, places and texts of nodes, limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/buf.h"
#include "sql/ast.h"
#include "sql/parse.h"

struct parsing {
    struct arena arena;
    struct ast_statement statement;
    struct diag diag;
    uint32_t size;
};

static enum err parse(struct parsing *parsing, const char *text)
{
    arena_init(&parsing->arena, 0);
    parsing->diag = (struct diag){.position = UINT32_MAX};
    return parse_statement(text, (uint32_t)strlen(text), &parsing->arena, &parsing->statement,
                           &parsing->size, &parsing->diag);
}

/* The tree in parentheses: (op a b). */
static void show(const struct ast *ast, const char *text, struct buf *buf)
{
    static const char *const names[] = {[AST_CALL] = "call",
                                        [AST_AND] = "and",
                                        [AST_OR] = "or",
                                        [AST_BETWEEN] = "between",
                                        [AST_IN] = "in",
                                        [AST_LIKE] = "like",
                                        [AST_IS] = "is",
                                        [AST_CASE] = "case",
                                        [AST_CAST] = "cast",
                                        [AST_COLLATE] = "collate",
                                        [AST_INTERVAL] = "interval"};
    if (!ast) {
        buf_printf(buf, "()");
        return;
    }
    if (ast->kind == AST_NAME || ast->kind == AST_LITERAL) {
        buf_put(buf, text + ast->start, ast->end - ast->start);
        return;
    }
    buf_printf(buf, "(%s", ast->negated ? "not-" : "");
    if (ast->kind == AST_UNARY || ast->kind == AST_BINARY) {
        const char *end = text + ast->position;
        do
            buf_put_u8(buf, (uint8_t)*end++);
        while (*end != ' ' && *end != '(' && end[-1] != '-' && end[-1] != '~' && end[-1] != '!');
    } else {
        buf_printf(buf, "%s", names[ast->kind]);
    }
    for (uint32_t i = 0; i < ast->arg_count; i++) {
        buf_put_u8(buf, ' ');
        show(ast->args[i], text, buf);
    }
    buf_put_u8(buf, ')');
}

static void check_expr(const char *expr, const char *expected)
{
    struct parsing parsing;
    char text[512];
    snprintf(text, sizeof(text), "SELECT %s FROM t", expr);
    cr_assert_eq(parse(&parsing, text), ERR_NONE, "%s: %s", text, parsing.diag.text);
    struct buf buf;
    buf_init(&buf);
    show(parsing.statement.select->items.items[0]->args[0], text, &buf);
    buf_put_u8(&buf, 0);
    cr_assert_str_eq((char *)buf.bytes, expected);
    buf_fini(&buf);
    arena_fini(&parsing.arena);
}

Test(parse, operators_bind_as_in_mysql)
{
    check_expr("a OR b AND NOT c = d", "(or a (and b (NOT (= c d))))");
    check_expr("a AND b AND c OR d OR e", "(or (and a b c) d e)");
    check_expr("a XOR b OR c", "(or (XOR a b) c)");
    check_expr("a + b * c - d", "(- (+ a (* b c)) d)");
    check_expr("a | b & c << d + e * f ^ g", "(| a (& b (<< c (+ d (* e (^ f g))))))");
    check_expr("- a * b", "(* (- a) b)");
    check_expr("! a = b", "(= (! a) b)");
    check_expr("NOT a = b", "(NOT (= a b))");
    check_expr("a = b = c", "(= (= a b) c)");
    check_expr("a DIV b MOD c", "(MOD (DIV a b) c)");
    check_expr("a <=> b IS NOT NULL", "(not-is (<=> a b))");
}

Test(parse, predicates_take_bit_expressions)
{
    check_expr("a BETWEEN 1 AND 2 AND b", "(and (between a 1 2) b)");
    check_expr("a + 1 NOT BETWEEN b AND c OR d", "(or (not-between (+ a 1) b c) d)");
    check_expr("a NOT IN (1, b)", "(not-in a 1 b)");
    check_expr("a LIKE 'x' ESCAPE '|' = 1", "(= (like a 'x' '|') 1)");
    check_expr("a IS TRUE IS NOT FALSE", "(not-is (is a))");
    check_expr("a || b && c", "(or a (and b c))");
}

Test(parse, case_holds_operand_branches_and_else)
{
    check_expr("CASE WHEN a THEN b END", "(case () a b ())");
    check_expr("CASE a WHEN 1 THEN b WHEN 2 THEN c ELSE d END", "(case a 1 b 2 c d)");
}

Test(parse, functions_may_be_called_like_reserved_words)
{
    check_expr("IF(a, LEFT(b, 1), MOD(c, 2))", "(call a (call b 1) (call c 2))");
    check_expr("COUNT(*)", "(call)");
    check_expr("SUBSTRING(a FROM 2 FOR 3)", "(call a 2 3)");
    check_expr("date", "date");
    check_expr("DATE(date) - INTERVAL 2 DAY", "(interval (call date) 2)");
    check_expr("CAST(a AS DECIMAL(10,2)) COLLATE utf8mb4_bin", "(collate (cast a))");
}

Test(parse, a_node_knows_its_text_with_parentheses)
{
    struct parsing parsing;
    const char *text = "SELECT  ( a+b ) *c x FROM t WHERE (d = 1) AND e";
    cr_assert_eq(parse(&parsing, text), ERR_NONE);
    const struct ast_select *select = parsing.statement.select;
    const struct ast *item = select->items.items[0];
    cr_assert_str_eq(item->name, "x");
    cr_assert_eq(item->args[0]->start, 8);
    cr_assert_eq(item->args[0]->end, 18);
    cr_assert_eq(item->args[0]->position, 16);
    const struct ast *where = select->where;
    cr_assert_eq(where->kind, AST_AND);
    cr_assert_eq(where->args[0]->start, 34);
    cr_assert_eq(where->args[0]->end, 41);
    arena_fini(&parsing.arena);
}

Test(parse, limit_reads_both_forms)
{
    struct parsing parsing;
    cr_assert_eq(parse(&parsing, "SELECT a FROM t LIMIT 5 OFFSET 7;"), ERR_NONE);
    cr_assert_eq(parsing.statement.select->limit, 5);
    cr_assert_eq(parsing.statement.select->offset, 7);
    arena_fini(&parsing.arena);
    cr_assert_eq(parse(&parsing, "SELECT a FROM t LIMIT 7, 5"), ERR_NONE);
    cr_assert_eq(parsing.statement.select->limit, 5);
    cr_assert_eq(parsing.statement.select->offset, 7);
    arena_fini(&parsing.arena);
}

Test(parse, one_statement_is_consumed_with_its_semicolon)
{
    struct parsing parsing;
    cr_assert_eq(parse(&parsing, " USE x ; SELECT"), ERR_NONE);
    cr_assert_eq(parsing.size, 8);
    cr_assert_eq(parsing.statement.position, 1);
    cr_assert_eq(parsing.statement.kind, AST_STATEMENT_USE);
    arena_fini(&parsing.arena);
    cr_assert_eq(parse(&parsing, " -- nothing\n ; x"), ERR_NONE);
    cr_assert_eq(parsing.size, 14);
    cr_assert_eq(parsing.statement.kind, AST_STATEMENT_EMPTY);
    arena_fini(&parsing.arena);
}

Test(parse, literals_become_values)
{
    struct parsing parsing;
    const char *text =
        "SELECT 'a''\\n\\%' 'b', X'41', 1.50, 18446744073709551615, DATE '1970-01-02', "
        "TIMESTAMP '1970-01-01 00:00:01.5', \"q\", 1e3 FROM t";
    cr_assert_eq(parse(&parsing, text), ERR_NONE, "%s", parsing.diag.text);
    struct ast **items = parsing.statement.select->items.items;
    struct value value = items[0]->args[0]->value;
    cr_assert_eq(value.size, 6);
    cr_assert_arr_eq(value.bytes, "a'\n\\%b", 6);
    cr_assert_eq(items[1]->args[0]->value.bytes[0], 'A');
    cr_assert_eq(items[2]->args[0]->value.i, 150);
    cr_assert_eq(items[2]->args[0]->value.scale, 2);
    cr_assert_eq(items[3]->args[0]->value.u, UINT64_MAX);
    cr_assert_eq(items[4]->args[0]->value.i, 1);
    cr_assert_eq(items[5]->args[0]->value.i, 1500000);
    cr_assert_eq(items[6]->args[0]->value.size, 1);
    cr_assert_eq(items[7]->args[0]->value.f, 1000.0);
    arena_fini(&parsing.arena);
}

static char *repeat(const char *start, const char *piece, int count, const char *end)
{
    size_t size = strlen(start) + strlen(piece) * (size_t)count + strlen(end) + 1;
    char *text = malloc(size);
    cr_assert(text);
    char *at = stpcpy(text, start);
    for (int i = 0; i < count; i++)
        at = stpcpy(at, piece);
    strcpy(at, end);
    return text;
}

static void check_repeated(const char *start, const char *piece, int count, const char *end,
                           enum err expected)
{
    struct parsing parsing;
    char *text = repeat(start, piece, count, end);
    cr_assert_eq(parse(&parsing, text), expected, "%s %d times: %s (%s)", piece, count,
                 parsing.diag.text, err_name(parsing.diag.err));
    arena_fini(&parsing.arena);
    free(text);
}

Test(parse, deep_nesting_is_refused_and_does_not_overflow)
{
    check_repeated("SELECT ", "(", 100000, "1 FROM t", ERR_TOO_BIG);
    check_repeated("SELECT ", "- ", 100000, "1 FROM t", ERR_TOO_BIG);
    check_repeated("SELECT ", "NOT ", 100000, "1 FROM t", ERR_TOO_BIG);
    check_repeated("SELECT 1", " + 1", 100000, " FROM t", ERR_TOO_BIG);
    check_repeated("SELECT ", "ABS(", 100000, "1 FROM t", ERR_TOO_BIG);
    check_repeated("SELECT ", "CASE WHEN ", 100000, "1 FROM t", ERR_TOO_BIG);
    check_repeated("SELECT 1", " IS NULL", 100000, " FROM t", ERR_TOO_BIG);
    check_repeated("SELECT ", "(", 100, "1", ERR_SYNTAX);
}

Test(parse, long_chains_and_lists_are_flat)
{
    check_repeated("SELECT a FROM t WHERE a = 1", " OR a = 1", 20000, "", ERR_NONE);
    check_repeated("SELECT a FROM t WHERE a IN (1", ", 1", 60000, ")", ERR_NONE);
    check_repeated("SELECT a FROM t WHERE a IN (1", ", 1", 300000, ")", ERR_TOO_BIG);
    check_repeated("SELECT a", ", a", 1000, " FROM t", ERR_NONE);
}
