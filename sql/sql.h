/* RonSQL: text in, pushed-down query trees out. SELECT runs in parallel inside the data nodes or is
 * refused with the place and the reason; there is no slow fallback. DDL (CREATE TABLE, CREATE
 * INDEX, DROP) is for administrators.
 *
 * sql does no I/O: statements come as text, results leave through a sink. */
#ifndef SQL_SQL_H
#define SQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/diag.h"
#include "db/api/db.h"

enum { SQL_TEXT_SIZE_MAX = 1 << 20 };

enum sql_format {
    SQL_FORMAT_TABLE = 0, /* aligned columns with a ruled heading, for people on a terminal */
    SQL_FORMAT_TEXT =
        1, /* tab-separated with a heading line; NULL is the word NULL; \t \n \\ escaped */
    SQL_FORMAT_TEXT_NOHEADER = 2,
    SQL_FORMAT_CSV = 3,  /* RFC 4180 with a heading; NULL is empty, the empty string is "" */
    SQL_FORMAT_JSON = 4, /* {"data":[{"column":value,…}]} one object a line inside; numbers as
                            numbers, text as UTF-8 (invalid bytes as U+FFFD; BINARY and BLOB as
                            lower-case hex; VARBINARY, which holds file names, as text) */
    SQL_FORMAT_JSON_ASCII = 5, /* the same with \u escapes */
};
/* By the names of the command line: "JSON", "JSON_ASCII", "TEXT", "TEXT_NOHEADER", "CSV", "TABLE",
 * any case. */
bool sql_format_by_name(const char *name, enum sql_format *ret_format);

enum sql_explain_mode {
    SQL_EXPLAIN_ALLOW = 0,   /* as the statement says */
    SQL_EXPLAIN_FORBID = 1,  /* an EXPLAIN is an error */
    SQL_EXPLAIN_REQUIRE = 2, /* anything but an EXPLAIN is an error */
    SQL_EXPLAIN_REMOVE = 3,  /* EXPLAIN SELECT runs the SELECT */
    SQL_EXPLAIN_FORCE = 4,   /* a SELECT is explained */
};
bool sql_explain_mode_by_name(const char *name, enum sql_explain_mode *ret_mode);

enum sql_statement_kind {
    SQL_SELECT = 1,
    SQL_EXPLAIN = 2,
    SQL_DDL = 3,
    SQL_USE = 4,
    SQL_SHOW = 5,
    SQL_EMPTY = 6
};

struct sql_statement {
    enum sql_statement_kind kind;
    struct query_tree tree; /* SELECT and EXPLAIN: memory from the arena */
    struct sql_plan *plan;  /* what EXPLAIN prints */
    struct sql_ddl *ddl;
    const char *use; /* USE database */
    size_t size;     /* bytes of text consumed, with the ';' */
    size_t position; /* where its first word is */
};

/* Parses, binds and plans the first statement of the text. The catalog must outlive the statement.
 * On an error diag has the byte position and a reason that says what to do. ERR_SYNTAX, ERR_BIND,
 * ERR_NOT_PUSHABLE, ERR_TABLE_UNKNOWN, ERR_TOO_BIG, ERR_NO_MEMORY. */
MUST_USE enum err sql_prepare(const struct catalog *catalog, uint16_t partition_count,
                              const char *database, const char *text, size_t size,
                              struct arena *arena, struct sql_statement *ret_statement,
                              struct diag *diag);

/* Where output goes, in pieces. A failure (say, a closed pipe) stops the statement with that error.
 */
struct sql_sink {
    enum err (*write)(struct sql_sink *sink, const char *bytes, size_t size);
};

enum { SQL_LABELLED_ROWS_MAX = 100000 };

/* Text shown in place of the whole numbers of a SELECT's column, such as paths for inode numbers. A
 * result that has such a column is held until its query has ended, at most SQL_LABELLED_ROWS_MAX
 * rows (else ERR_TOO_BIG), so that resolve() may run queries on the same client. */
struct sql_labels {
    const char *column; /* by its name in the result */
    /* Gives the text of each number; the texts are the labels' own and stay until the next call. */
    enum err (*resolve)(struct sql_labels *labels, struct db_client *client,
                        const uint64_t *numbers, uint32_t count, const char **ret_texts,
                        struct diag *diag);
};

struct sql_options {
    const char *database; /* NULL: "fs" */
    enum sql_format format;
    enum sql_explain_mode explain_mode;
    bool allow_ddl;            /* the caller is an administrator */
    struct sql_labels *labels; /* NULL: none */
    /* Tables that DROP TABLE refuses (ERR_DENIED), such as those of a file system; NULL: none. */
    bool (*keeps)(const char *database, const char *table);
};

/* Runs every statement of a script, separated by ';', and writes their results. Stops at the first
 * error: diag.text is then one line, and *ret_caret, when not NULL, gets two more lines to show
 * under it: the offending source line and a caret (heap-allocated, for free(); NULL when there is
 * no place). */
MUST_USE enum err sql_run(struct db_client *client, const char *text, size_t size,
                          const struct sql_options *options, struct sql_sink *sink,
                          struct diag *diag, char **ret_caret);

/* For programs: runs one SELECT and calls back with each row (values borrowed for the call). Stops
 * when each() returns an error, which is then the result. */
MUST_USE enum err sql_query(struct db_client *client, const char *database, const char *text,
                            enum err (*each)(void *context, const struct value *row,
                                             uint32_t count),
                            void *context, struct diag *diag);
/* Runs DDL statements (as the file system does to make its tables). */
MUST_USE enum err sql_ddl(struct db_client *client, const char *database, const char *text,
                          struct diag *diag);

#endif
