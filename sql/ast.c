/* The syntax tree: what the grammar's actions call, and the loop that feeds tokens to the parser.
 *
 * The first error wins: it is kept in the parser, and every function here then does nothing, so
 * that the grammar needs no error paths. What stops the parser is told apart here: a token that
 * begins a construct of SQL which cannot be pushed down gets the reason and what to write instead;
 * anything else is a syntax error. */
#include "sql/ast.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/check.h"
#include "sql/datetime.h"
#include "sql/literal.h"
#include "sql/parse.h"

/* Made by lemon from parse.y. */
void *sql_parserAlloc(void *(*allocate)(size_t));
void sql_parser(void *parser, int code, struct token token, struct parser *state);
void sql_parserFree(void *parser, void (*release)(void *));

void parser_fail(struct parser *parser, enum err err, uint32_t position, const char *format, ...)
{
    char text[DIAG_TEXT_SIZE_MAX];
    if (parser->err) return;
    parser->err = err;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)diag_set_at(parser->diag, err, position, "%s", text);
}

static void *parser_alloc(struct parser *parser, size_t size)
{
    if (parser->err) return NULL;
    void *memory = arena_zalloc(parser->arena, size);
    if (!memory) parser_fail(parser, ERR_NO_MEMORY, parser->previous_end, "out of memory");
    return memory;
}

struct ast *ast_new(struct parser *parser, enum ast_kind kind, uint32_t start, uint32_t position)
{
    if (!parser->err && parser->node_count >= AST_NODES_MAX)
        parser_fail(parser, ERR_TOO_BIG, position, "the statement has more than %d parts",
                    AST_NODES_MAX);
    struct ast *node = parser_alloc(parser, sizeof(*node));
    if (!node) return NULL;
    parser->node_count++;
    node->kind = (uint8_t)kind;
    node->depth = 1;
    node->start = start;
    node->end = parser->previous_end;
    node->position = position;
    return node;
}

/* Doubles the array when it is full. */
static bool list_grow(struct parser *parser, struct ast ***items, uint32_t count,
                      uint32_t *capacity)
{
    if (count < *capacity) return true;
    uint32_t wanted = *capacity ? *capacity * 2 : 4;
    struct ast **grown = parser_alloc(parser, wanted * sizeof(struct ast *));
    if (!grown) return false;
    if (count) memcpy(grown, *items, count * sizeof(struct ast *));
    *items = grown;
    *capacity = wanted;
    return true;
}

void ast_list_add(struct parser *parser, struct ast_list *list, struct ast *node)
{
    if (parser->err || !list_grow(parser, &list->items, list->count, &list->capacity)) return;
    list->items[list->count++] = node;
}

void ast_add(struct parser *parser, struct ast *node, struct ast *arg)
{
    if (parser->err || !node) return;
    if (!list_grow(parser, &node->args, node->arg_count, &node->arg_capacity)) return;
    node->args[node->arg_count++] = arg;
    if (arg && arg->depth >= node->depth) node->depth = (uint16_t)(arg->depth + 1);
    if (node->depth > AST_DEPTH_MAX)
        parser_fail(parser, ERR_TOO_BIG, node->position,
                    "the expression is nested more than %d deep", AST_DEPTH_MAX);
    node->end = parser->previous_end;
}

void ast_names_add(struct parser *parser, struct ast_names *names, struct ast_name name)
{
    if (parser->err) return;
    if (names->count == names->capacity) {
        uint32_t wanted = names->capacity ? names->capacity * 2 : 4;
        struct ast_name *grown = parser_alloc(parser, wanted * sizeof(struct ast_name));
        if (!grown) return;
        if (names->count) memcpy(grown, names->items, names->count * sizeof(struct ast_name));
        names->items = grown;
        names->capacity = wanted;
    }
    names->items[names->count++] = name;
}

struct ast *ast_over(struct parser *parser, enum ast_kind kind, struct token op, struct ast *a)
{
    if (!a) return NULL;
    struct ast *node = ast_new(parser, kind, a->start, op.text ? op.position : a->start);
    if (!node) return NULL;
    node->op = op.code;
    ast_add(parser, node, a);
    return parser->err ? NULL : node;
}

struct ast *ast_unary(struct parser *parser, struct token op, struct ast *a)
{
    struct ast *node = ast_over(parser, AST_UNARY, op, a);
    if (node) node->start = op.position;
    return node;
}

struct ast *ast_binary(struct parser *parser, struct token op, struct ast *a, struct ast *b)
{
    if (!b) return NULL;
    struct ast *node = ast_over(parser, AST_BINARY, op, a);
    ast_add(parser, node, b);
    return parser->err ? NULL : node;
}

struct ast *ast_chain(struct parser *parser, enum ast_kind kind, struct token op, struct ast *a,
                      struct ast *b)
{
    if (!a || !b) return NULL;
    struct ast *node = a->kind == kind ? a : ast_over(parser, kind, op, a);
    ast_add(parser, node, b);
    return parser->err ? NULL : node;
}

struct ast *ast_parenthesized(struct parser *parser, struct token left, struct ast *node)
{
    if (!node) return NULL;
    node->start = left.position;
    node->end = parser->previous_end;
    return node;
}

struct ast_name ast_identifier(struct parser *parser, struct token token)
{
    struct ast_name name = {.position = token.position};
    if (parser->err) return name;
    char first = token.size ? token.text[0] : '\0';
    if (first == '`') {
        char *copy = parser_alloc(parser, token.size);
        if (!copy) return name;
        uint32_t size = 0;
        for (uint32_t i = 1; i + 1 < token.size; i++) {
            copy[size++] = token.text[i];
            if (token.text[i] == '`') i++;
        }
        name.text = copy;
    } else if (first == '\'' || first == '"') {
        struct value value;
        enum err err = literal_string(token.text, token.size, parser->arena, &value);
        if (!err) name.text = arena_copy(parser->arena, value.bytes, value.size);
        if (err || !name.text) parser_fail(parser, ERR_NO_MEMORY, token.position, "out of memory");
    } else {
        name.text = arena_copy(parser->arena, token.text, token.size);
        if (!name.text) parser_fail(parser, ERR_NO_MEMORY, token.position, "out of memory");
    }
    return name;
}

uint64_t ast_unsigned(struct parser *parser, struct token token, uint64_t max)
{
    struct value value = value_i64(0);
    enum err err = literal_integer(token.text, token.size, &value);
    if (err || value.u > max) {
        parser_fail(parser, ERR_OUT_OF_RANGE, token.position, "the number is larger than %llu",
                    (unsigned long long)max);
        return 0;
    }
    return value.u;
}

struct ast *ast_literal(struct parser *parser, struct token token)
{
    struct ast *node = ast_new(parser, AST_LITERAL, token.position, token.position);
    if (!node) return NULL;
    enum err err = ERR_NONE;
    const char *what = "out of memory";
    switch (token.code) {
    case TK_INTEGER:
        what = "the integer is larger than 64 bits";
        err = literal_integer(token.text, token.size, &node->value);
        break;
    case TK_DECIMAL:
        what = "a decimal number has at most 18 digits: write it with an exponent (1.5e0)";
        err = literal_decimal(token.text, token.size, &node->value);
        break;
    case TK_FLOAT:
        what = "the number is larger than a double";
        err = literal_float(token.text, token.size, parser->arena, &node->value);
        break;
    case TK_HEX:
        node->hex = true;
        err = literal_hex(token.text, token.size, parser->arena, &node->value);
        break;
    case TK_TRUE:
    case TK_FALSE:
        node->value = value_i64(token.code == TK_TRUE);
        break;
    case TK_NULL:
        node->value = value_null();
        break;
    default:
        err = literal_string(token.text, token.size, parser->arena, &node->value);
        break;
    }
    node->op = token.code;
    if (err) {
        parser_fail(parser, err, token.position, "%s",
                    err == ERR_NO_MEMORY ? "out of memory" : what);
        return NULL;
    }
    return node;
}

struct ast *ast_typed_literal(struct parser *parser, struct token type, struct token token)
{
    struct ast *node = ast_new(parser, AST_LITERAL, type.position, type.position);
    if (!node) return NULL;
    struct value text;
    enum err err = literal_string(token.text, token.size, parser->arena, &text);
    if (err) {
        parser_fail(parser, err, token.position, "out of memory");
        return NULL;
    }
    bool is_date = type.code == TK_DATE;
    int64_t number = 0;
    bool good = is_date
                    ? date_parse((const char *)text.bytes, text.size, &number)
                    : datetime_parse((const char *)text.bytes, text.size, &number, &node->digits);
    if (!good) {
        parser_fail(parser, ERR_SYNTAX, token.position,
                    is_date ? "not a date: write DATE 'YYYY-MM-DD'"
                            : "not a time: write TIMESTAMP 'YYYY-MM-DD hh:mm:ss[.ffffff]'");
        return NULL;
    }
    node->op = type.code;
    node->value = value_i64(number);
    node->display = is_date ? TYPE_DATE : TYPE_DATETIME;
    return node;
}

struct ast *ast_string_append(struct parser *parser, struct ast *node, struct token token)
{
    struct ast *more = ast_literal(parser, token);
    if (!node || !more) return NULL;
    size_t size = (size_t)node->value.size + more->value.size;
    uint8_t *bytes = parser_alloc(parser, size + 1);
    if (!bytes) return NULL;
    if (node->value.size) memcpy(bytes, node->value.bytes, node->value.size);
    if (more->value.size) memcpy(bytes + node->value.size, more->value.bytes, more->value.size);
    node->value = value_str(bytes, (uint32_t)size);
    node->end = parser->previous_end;
    return node;
}

struct ast *ast_name_node(struct parser *parser, const struct ast_name *database,
                          const struct ast_name *table, struct ast_name name)
{
    uint32_t start = database ? database->position : table ? table->position : name.position;
    struct ast *node = ast_new(parser, AST_NAME, start, start);
    if (!node) return NULL;
    node->database = database ? database->text : NULL;
    node->table = table ? table->text : NULL;
    node->name = name.text;
    return node;
}

struct ast *ast_call(struct parser *parser, struct ast_name name, struct ast_list args)
{
    struct ast *node = ast_new(parser, AST_CALL, name.position, name.position);
    if (!node) return NULL;
    node->name = name.text;
    for (uint32_t i = 0; i < args.count; i++)
        ast_add(parser, node, args.items[i]);
    return parser->err ? NULL : node;
}

struct ast_column *ast_column_add(struct parser *parser, struct ast_name name, struct ast_type type)
{
    struct ast_table_def *table = parser->definition;
    struct ast_column *column = table ? parser_alloc(parser, sizeof(*column)) : NULL;
    if (!column) return NULL;
    column->name = name;
    column->type = type;
    if (table->last_column)
        table->last_column->next = column;
    else
        table->columns = column;
    table->last_column = column;
    return column;
}

void ast_index_add(struct parser *parser, bool primary, struct token token, struct ast_name name,
                   struct ast_names columns, int using)
{
    struct ast_table_def *table = parser->definition;
    struct ast_index *index = table ? parser_alloc(parser, sizeof(*index)) : NULL;
    if (!index) return;
    *index = (struct ast_index){.primary = primary,
                                .using = (uint8_t) using,
                                .position = name.text ? name.position : token.position,
                                .name = name,
                                .columns = columns};
    if (table->last_index)
        table->last_index->next = index;
    else
        table->indexes = index;
    table->last_index = index;
}

/* ---- what stops the parser ---- */

static const char *refusal(int code, const struct token *next)
{
    bool joins = next->code == TK_JOIN || (next->code == TK_ID && next->size == 5 &&
                                           strncasecmp(next->text, "OUTER", 5) == 0);
    switch (code) {
    case TK_SELECT:
    case TK_EXISTS:
        return "subqueries are not pushable yet: join the table, or run the inner SELECT first";
    case TK_UNION:
    case TK_INTERSECT:
    case TK_EXCEPT:
        return "UNION, INTERSECT and EXCEPT are not pushable yet: run the SELECTs one by one";
    case TK_WITH:
        if (next->code == TK_ID && next->size == 6 && strncasecmp(next->text, "ROLLUP", 6) == 0)
            return "WITH ROLLUP is not pushable yet: run one SELECT for each level";
        return "common table expressions are not pushable yet: write one SELECT over tables";
    case TK_OVER:
        return "window functions are not pushable yet: use GROUP BY, or ORDER BY with LIMIT";
    case TK_LEFT:
    case TK_RIGHT:
    case TK_FULL:
        return joins ? "outer joins are not pushable yet: an inner JOIN is" : NULL;
    case TK_NATURAL:
        return "NATURAL JOIN is not supported: write JOIN … ON with the columns";
    case TK_STRAIGHT_JOIN:
        return "STRAIGHT_JOIN is not supported: write JOIN, the order is chosen by the keys";
    case TK_USING:
        return "USING is not supported: write ON a.column = b.column";
    case TK_REGEXP:
        return "regular expressions are not pushable yet: use LIKE";
    case TK_INTO:
        return "SELECT INTO writes: RonSQL only reads";
    case TK_FOR:
        return "FOR UPDATE locks: a SELECT reads one snapshot and locks nothing";
    default:
        return NULL;
    }
}

/* The first word of a statement that is none of ours. */
static bool fail_statement(struct parser *parser, const struct token *token)
{
    static const char *const writes[] = {"INSERT", "UPDATE", "DELETE",  "REPLACE",
                                         "MERGE",  "LOAD",   "TRUNCATE"};
    for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
        if (token->size != strlen(writes[i]) || strncasecmp(token->text, writes[i], token->size))
            continue;
        parser_fail(parser, ERR_NOT_PUSHABLE, token->position,
                    "%s writes: RonSQL only reads; rows change through the file system and "
                    "programs",
                    writes[i]);
        return true;
    }
    if (token->code == TK_WITH || token->code == TK_LP) return false;
    parser_fail(parser, ERR_SYNTAX, token->position,
                "a statement starts with SELECT, EXPLAIN, USE, SHOW, DESCRIBE, CREATE or DROP");
    return true;
}

void parser_unexpected(struct parser *parser, struct token token)
{
    if (parser->err) return;
    if (token.code == 0 || token.code == TK_SEMI) {
        parser_fail(parser, ERR_SYNTAX, token.position, "the statement ends too early");
        return;
    }
    if (parser->previous_end == 0 && fail_statement(parser, &token)) return;
    struct tokenizer peek = parser->tokenizer;
    struct token next = {0};
    const char *reason = NULL;
    (void)tokenize_next(&peek, &next, &reason);
    reason = refusal(token.code, &next);
    if (reason) {
        parser_fail(parser, ERR_NOT_PUSHABLE, token.position, "%s", reason);
        return;
    }
    char word[48];
    uint32_t size = token.size < sizeof(word) - 1 ? token.size : (uint32_t)sizeof(word) - 1;
    for (uint32_t i = 0; i < size; i++)
        word[i] = (unsigned char)token.text[i] < ' ' ? ' ' : token.text[i];
    word[size] = '\0';
    parser_fail(parser, ERR_SYNTAX, token.position, "unexpected '%s'", word);
}

/* ---- the loop ---- */

static void parse_tokens(struct parser *parser, void *machine)
{
    while (!parser->err) {
        struct token token = {0};
        const char *reason = NULL;
        int code = tokenize_next(&parser->tokenizer, &token, &reason);
        if (code == TOKEN_BAD) {
            parser_fail(parser, ERR_SYNTAX, token.position, "%s", reason);
            return;
        }
        if (code == 0 || code == TK_SEMI) {
            sql_parser(machine, 0, token, parser);
            return;
        }
        sql_parser(machine, code, token, parser);
        parser->previous_end = token.position + token.size;
    }
}

/* Skips the empty statement: nothing but white space and comments before the ';' or the end. */
static bool parse_empty(struct parser *parser)
{
    struct tokenizer peek = parser->tokenizer;
    struct token token = {0};
    const char *reason = NULL;
    int code = tokenize_next(&peek, &token, &reason);
    parser->statement.position = token.position;
    if (code != 0 && code != TK_SEMI) return false;
    parser->tokenizer = peek;
    return true;
}

enum err parse_statement(const char *text, uint32_t size, struct arena *arena,
                         struct ast_statement *ret_statement, uint32_t *ret_size, struct diag *diag)
{
    struct parser parser = {.arena = arena, .text = text, .size = size, .diag = diag};
    parser.tokenizer = (struct tokenizer){.text = text, .size = size};
    if (!parse_empty(&parser)) {
        void *machine = sql_parserAlloc(malloc);
        if (!machine) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
        parse_tokens(&parser, machine);
        sql_parserFree(machine, free);
    }
    if (parser.err) return parser.err;
    *ret_statement = parser.statement;
    *ret_size = parser.tokenizer.at;
    return ERR_NONE;
}
