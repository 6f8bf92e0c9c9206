/* The syntax tree that parse.y builds and everything behind it reads. Private to sql/.
 *
 * All nodes live in the statement's arena. One node type serves expressions and the lists of a
 * SELECT, so that every node knows its place in the text: errors point at `position`, headings and
 * EXPLAIN quote text[start, end). Nesting is bounded by AST_DEPTH_MAX, so that recursion over a
 * tree is; chains of AND and OR are one node with many arguments. */
#ifndef SQL_AST_H
#define SQL_AST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/diag.h"
#include "db/wire/schema.h"
#include "db/wire/value.h"
#include "sql/tokenize.h"

enum {
    AST_DEPTH_MAX = 250,
    AST_NODES_MAX = 200000,
};

enum ast_kind {
    AST_LITERAL = 1, /* value */
    AST_NAME,        /* [[database.]table.]name */
    AST_STAR,        /* *, table.* */
    AST_CALL,        /* name(args), distinct, star */
    AST_AND,         /* args */
    AST_OR,
    AST_UNARY,    /* op, args[0] */
    AST_BINARY,   /* op, args[0], args[1] */
    AST_BETWEEN,  /* args[0] BETWEEN args[1] AND args[2], negated */
    AST_IN,       /* args[0] IN (the rest), negated */
    AST_LIKE,     /* args[0] LIKE args[1] [ESCAPE args[2]], negated */
    AST_IS,       /* args[0] IS [NOT] op (TK_NULL, TK_TRUE, TK_FALSE, TK_UNKNOWN), negated */
    AST_CASE,     /* args[0] operand or NULL, then WHEN, THEN pairs, then ELSE or NULL */
    AST_CAST,     /* args[0], type */
    AST_COLLATE,  /* args[0], name */
    AST_INTERVAL, /* op (TK_PLUS, TK_MINUS), args[0], args[1] the amount, name the unit */
    AST_ITEM,     /* of a select list: args[0], name the alias or NULL */
    AST_TABLE,    /* of FROM: database, name, table the alias; args[0] the ON condition or NULL */
    AST_ORDER,    /* args[0], negated is DESC */
};

struct ast_type {
    const char *name; /* as written */
    uint32_t position;
    bool is_unsigned;
    bool has_size;
    bool has_scale;
    uint32_t size;
    uint32_t scale;
};

struct ast {
    uint8_t kind;
    bool negated;
    bool distinct;
    bool star;
    bool hex; /* of a literal: X'…' */
    uint16_t depth;
    int op;
    uint32_t start;
    uint32_t end;
    uint32_t position;
    uint32_t arg_count;
    uint32_t arg_capacity;
    struct ast **args;
    const char *database;
    const char *table;
    const char *name;
    uint8_t display; /* of a literal: TYPE_DATE or TYPE_TIMESTAMP */
    uint8_t digits;  /* of a TIMESTAMP literal: digits of a second */
    struct value value;
    struct ast_type type;
};

struct ast_list {
    struct ast **items;
    uint32_t count;
    uint32_t capacity;
};

struct ast_select {
    bool distinct;
    bool has_limit;
    uint32_t position;
    uint64_t limit;
    uint64_t offset;
    struct ast_list items;
    struct ast_list tables;
    struct ast *where;
    struct ast_list group;
    struct ast *having;
    struct ast_list order;
};

/* An identifier as it stands in the text, unquoted. */
struct ast_name {
    const char *text;
    uint32_t position;
};
struct ast_names {
    struct ast_name *items;
    uint32_t count;
    uint32_t capacity;
};
struct ast_table_name {
    struct ast_name database; /* text NULL: the current one */
    struct ast_name name;
};

struct ast_column {
    struct ast_column *next;
    struct ast_name name;
    struct ast_type type;
    bool has_null; /* NULL or NOT NULL was said */
    bool nullable;
    bool primary;
    struct ast_name collation; /* text NULL: none said */
};

enum ast_using { AST_USING_NONE = 0, AST_USING_HASH, AST_USING_BTREE, AST_USING_BOTH };

struct ast_index {
    struct ast_index *next;
    bool primary;
    uint8_t using; /* enum ast_using */
    uint32_t position;
    struct ast_name name; /* text NULL: none said */
    struct ast_names columns;
};

struct ast_table_def {
    struct ast_column *columns; /* in order of definition */
    struct ast_column *last_column;
    struct ast_index *indexes;
    struct ast_index *last_index;
    struct ast_name partition_by; /* KEY, HOME or SLOT; text NULL: none said */
    struct ast_names partition_columns;
    bool has_ttl;
    uint64_t ttl_seconds;
    uint32_t ttl_position;
    struct ast_name ttl_column;
};

enum ast_statement_kind {
    AST_STATEMENT_EMPTY = 0,
    AST_STATEMENT_SELECT,
    AST_STATEMENT_EXPLAIN,
    AST_STATEMENT_USE,
    AST_STATEMENT_SHOW_TABLES,
    AST_STATEMENT_SHOW_DATABASES,
    AST_STATEMENT_SHOW_CREATE_TABLE,
    AST_STATEMENT_DESCRIBE,
    AST_STATEMENT_CREATE_TABLE,
    AST_STATEMENT_DROP_TABLE,
    AST_STATEMENT_CREATE_INDEX,
    AST_STATEMENT_DROP_INDEX,
};

struct ast_statement {
    enum ast_statement_kind kind;
    uint32_t position; /* of its first word */
    struct ast_select *select;
    struct ast_table_name table;
    struct ast_name name; /* of the database (USE, SHOW TABLES FROM) or the index */
    bool if_exists;       /* IF EXISTS, IF NOT EXISTS */
    struct ast_table_def *definition;
    struct ast_index *index;
};

/* State of one parse. */
struct parser {
    struct arena *arena;
    const char *text;
    uint32_t size;
    struct diag *diag;
    enum err err;          /* the first error; nothing is built after it */
    uint32_t previous_end; /* where the last token taken by the grammar ends */
    uint32_t node_count;
    struct tokenizer tokenizer;
    struct ast_statement statement;
    struct ast_table_def *definition; /* of the CREATE TABLE being read */
};

/* Parses the first statement of text[0, size), where text[size] is NUL. *ret_size gets the bytes
 * consumed, with the
 * ';'. ERR_SYNTAX, ERR_NOT_PUSHABLE (a known construct that cannot run), ERR_OUT_OF_RANGE (a
 * literal), ERR_TOO_BIG, ERR_NO_MEMORY; diag has the place. */
MUST_USE enum err parse_statement(const char *text, uint32_t size, struct arena *arena,
                                  struct ast_statement *ret_statement, uint32_t *ret_size,
                                  struct diag *diag);

/* For the grammar's actions. All return NULL, with parser->err set, on a failure; they take NULL
 * arguments that came from one. */
struct ast *ast_new(struct parser *parser, enum ast_kind kind, uint32_t start, uint32_t position);
void ast_add(struct parser *parser, struct ast *node, struct ast *arg);
struct ast *ast_unary(struct parser *parser, struct token op, struct ast *a);
struct ast *ast_binary(struct parser *parser, struct token op, struct ast *a, struct ast *b);
/* AND and OR: a chain becomes one node. */
struct ast *ast_chain(struct parser *parser, enum ast_kind kind, struct token op, struct ast *a,
                      struct ast *b);
struct ast *ast_over(struct parser *parser, enum ast_kind kind, struct token op, struct ast *a);
struct ast *ast_literal(struct parser *parser, struct token token);
struct ast *ast_typed_literal(struct parser *parser, struct token type, struct token token);
struct ast *ast_string_append(struct parser *parser, struct ast *node, struct token token);
struct ast *ast_name_node(struct parser *parser, const struct ast_name *database,
                          const struct ast_name *table, struct ast_name name);
struct ast *ast_call(struct parser *parser, struct ast_name name, struct ast_list args);
struct ast *ast_parenthesized(struct parser *parser, struct token left, struct ast *node);
void ast_list_add(struct parser *parser, struct ast_list *list, struct ast *node);
void ast_names_add(struct parser *parser, struct ast_names *names, struct ast_name name);
struct ast_name ast_identifier(struct parser *parser, struct token token);
uint64_t ast_unsigned(struct parser *parser, struct token token, uint64_t max);
struct ast_column *ast_column_add(struct parser *parser, struct ast_name name,
                                  struct ast_type type);
void ast_index_add(struct parser *parser, bool primary, struct token token, struct ast_name name,
                   struct ast_names columns, int using);
void parser_fail(struct parser *parser, enum err err, uint32_t position, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The grammar cannot take this token: says why, with the reason for what is SQL but not pushable.
 */
void parser_unexpected(struct parser *parser, struct token token);

#endif
