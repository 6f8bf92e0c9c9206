/* Damaged statements: tokens of valid ones are removed, doubled, swapped and replaced at random.
 * Each must be prepared or refused with one line and a place inside the text; what is prepared must
 * pass the executor's checks. Under the sanitizers this also finds any read outside the text. */
#include <stdio.h>
#include <stdlib.h>

#include "sql/parse.h"
#include "tests/unit/sql/fixture.h"

static const char *const statements[] = {
    "SELECT DISTINCT i + 1 AS x, t.*, COUNT(*) FROM t JOIN users AS u ON t.id = u.uid WHERE b "
    "BETWEEN "
    "1 AND 2 GROUP BY i, 2 HAVING SUM(d) > 1.5 ORDER BY x DESC, 1 LIMIT 5 OFFSET 2",
    "SELECT CASE WHEN i > 1 THEN 'a' ELSE 'b' END, CASE s WHEN 'x' THEN 1 END FROM t WHERE s LIKE "
    "'a%' ESCAPE '|' AND ci IN ('a', 'B', NULL) OR NOT dd IS NOT NULL XOR u & 3 << 2 = 4",
    "SELECT IF(n, LEFT(s, 2), RIGHT(ci, 1)), COALESCE(d, f, 1e3), CAST(i AS DECIMAL(10,2)), x = "
    "X'00ff' "
    "FROM t WHERE dt > NOW() - INTERVAL 3 DAY AND dd = DATE '2024-01-31' + INTERVAL 1 MONTH",
    "SELECT d.name, SUM(i.size), MAX(EXTENSION(d.name)) FROM dentry d, inode i WHERE i.ino = d.ino "
    "AND "
    "d.parent IN (1, 2, 3) AND HOME(i.ino) <> 5 GROUP BY d.name ORDER BY SUM(i.size) / COUNT(*)",
    "CREATE TABLE IF NOT EXISTS q (a BIGINT UNSIGNED NOT NULL, b VARCHAR(20) COLLATE utf8mb4_bin, "
    "c "
    "DECIMAL(10,2) NULL, PRIMARY KEY (a, b) USING HASH, INDEX k (b)) PARTITION BY KEY(a) TTL=60@a",
    "CREATE INDEX k ON t (i, b)",
    "DROP TABLE IF EXISTS fs.t",
    "DROP INDEX k ON t",
    "EXPLAIN SELECT COUNT(DISTINCT s), AVG(su), MIN(dt), i DIV 2 MOD 3 FROM t GROUP BY i DIV 2",
    "SHOW TABLES FROM fs",
    "SHOW CREATE TABLE t",
    "DESCRIBE users",
    "USE fs",
};
enum { STATEMENTS = sizeof(statements) / sizeof(statements[0]) };

static const char *const words[] = {"SELECT",
                                    "FROM",
                                    "WHERE",
                                    "(",
                                    ")",
                                    ",",
                                    "*",
                                    "-",
                                    "NOT",
                                    "NULL",
                                    "1",
                                    "18446744073709551615",
                                    "9223372036854775807",
                                    "0.1",
                                    "1e308",
                                    "'x'",
                                    "'",
                                    "`",
                                    "/*",
                                    "--",
                                    ";",
                                    "JOIN",
                                    "ON",
                                    "AND",
                                    "OR",
                                    "IN",
                                    "LIKE",
                                    "CASE",
                                    "END",
                                    "COUNT",
                                    "SUM",
                                    "GROUP BY",
                                    "ORDER BY",
                                    "HAVING",
                                    "LIMIT",
                                    "t",
                                    "i",
                                    "u",
                                    "d",
                                    "s",
                                    "dd",
                                    "dt",
                                    "inode",
                                    "X'",
                                    "X'ff'",
                                    "INTERVAL",
                                    "DATE '2024-02-30'",
                                    "UNION",
                                    "<=>",
                                    "/",
                                    "DIV",
                                    "%",
                                    "&",
                                    "~",
                                    "<<",
                                    ".",
                                    "@",
                                    "?",
                                    "\x01",
                                    "\xff",
                                    "é",
                                    "IS",
                                    "BETWEEN",
                                    "COLLATE",
                                    "utf8mb4_bin",
                                    "EXISTS",
                                    "OVER",
                                    "DISTINCT",
                                    "AS",
                                    "CAST",
                                    "IF",
                                    "1000000000000"};
enum { WORDS = sizeof(words) / sizeof(words[0]) };

struct random {
    uint64_t state;
};

static uint32_t random_below(struct random *random, uint32_t limit)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (uint32_t)(random->state >> 32) % limit;
}

enum { PIECES_MAX = 400, PIECE_SIZE_MAX = 64 };

struct pieces {
    char text[PIECES_MAX][PIECE_SIZE_MAX];
    uint32_t count;
};

static void pieces_of(struct pieces *pieces, const char *statement)
{
    struct tokenizer tokenizer = {.text = statement, .size = (uint32_t)strlen(statement)};
    struct token token;
    const char *reason;
    pieces->count = 0;
    while (tokenize_next(&tokenizer, &token, &reason) > 0) {
        memcpy(pieces->text[pieces->count], token.text, token.size);
        pieces->text[pieces->count++][token.size] = '\0';
    }
}

static void insert_piece(struct pieces *pieces, uint32_t at, const char *text)
{
    if (pieces->count == PIECES_MAX) return;
    memmove(pieces->text[at + 1], pieces->text[at], (pieces->count - at) * PIECE_SIZE_MAX);
    snprintf(pieces->text[at], PIECE_SIZE_MAX, "%s", text);
    pieces->count++;
}

static void mutate(struct pieces *pieces, struct random *random)
{
    char piece[PIECE_SIZE_MAX];
    uint32_t at = random_below(random, pieces->count);
    uint32_t other = random_below(random, pieces->count);
    switch (random_below(random, 5)) {
    case 0:
        memmove(pieces->text[at], pieces->text[at + 1], (pieces->count - at - 1) * PIECE_SIZE_MAX);
        if (pieces->count > 1) pieces->count--;
        break;
    case 1:
        insert_piece(pieces, at, words[random_below(random, WORDS)]);
        break;
    case 2:
        snprintf(pieces->text[at], PIECE_SIZE_MAX, "%s", words[random_below(random, WORDS)]);
        break;
    case 3:
        memcpy(piece, pieces->text[other], PIECE_SIZE_MAX);
        insert_piece(pieces, at, piece);
        break;
    default:
        memcpy(piece, pieces->text[at], PIECE_SIZE_MAX);
        memcpy(pieces->text[at], pieces->text[other], PIECE_SIZE_MAX);
        memcpy(pieces->text[other], piece, PIECE_SIZE_MAX);
        break;
    }
}

static void check_tree(struct fixture *fixture, const char *text)
{
    struct buf buf;
    struct query_tree tree;
    struct arena arena;
    arena_init(&arena, 0);
    buf_init(&buf);
    query_encode(&fixture->statement.tree, &buf);
    struct reader reader = reader_of(buf.bytes, buf.size);
    enum err err = query_decode(&reader, &fixture->catalog, &arena, &tree);
    cr_assert_eq(err, ERR_NONE, "%s: the tree does not decode: %s", text, err_name(err));
    buf_fini(&buf);
    arena_fini(&arena);
}

static void check(struct fixture *fixture, const char *text)
{
    struct arena kept = fixture->arena;
    arena_init(&fixture->arena, 64 << 20);
    enum err err = fixture_prepare(fixture, text);
    if (err) {
        const struct diag *diag = &fixture->diag;
        cr_assert_eq(diag->err, err, "%s: %s but the reason is for %s", text, err_name(err),
                     err_name(diag->err));
        cr_assert_neq(diag->text[0], '\0', "%s: no reason", text);
        cr_assert_null(strchr(diag->text, '\n'), "%s: %s", text, diag->text);
        cr_assert(diag->position == UINT32_MAX || diag->position <= strlen(text), "%s: at %u", text,
                  diag->position);
    } else if (fixture->statement.kind == SQL_SELECT || fixture->statement.kind == SQL_EXPLAIN) {
        check_tree(fixture, text);
    }
    arena_fini(&fixture->arena);
    fixture->arena = kept;
}

static void run(struct fixture *fixture, uint64_t seed, uint32_t count)
{
    struct random random = {.state = seed};
    struct pieces *pieces = malloc(sizeof(*pieces));
    char *text = malloc((size_t)PIECES_MAX * PIECE_SIZE_MAX);
    cr_assert(pieces && text);
    for (uint32_t i = 0; i < count; i++) {
        pieces_of(pieces, statements[random_below(&random, STATEMENTS)]);
        uint32_t changes = 1 + random_below(&random, 4);
        for (uint32_t j = 0; j < changes; j++)
            mutate(pieces, &random);
        char *at = text;
        for (uint32_t j = 0; j < pieces->count; j++)
            at += sprintf(at, "%s ", pieces->text[j]);
        check(fixture, text);
    }
    free(text);
    free(pieces);
}

FIXTURE_TEST(mutate, damaged_statements_are_refused_and_never_crash)
{
    const char *seed = getenv("SQL_MUTATE_SEED");
    const char *count = getenv("SQL_MUTATE_COUNT");
    run(fixture, seed ? strtoull(seed, NULL, 10) : 42, count ? (uint32_t)atoi(count) : 20000);
}

FIXTURE_TEST(mutate, every_prefix_of_a_statement_is_handled)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        char text[1000];
        size_t size = strlen(statements[i]);
        for (size_t j = 0; j <= size; j++) {
            memcpy(text, statements[i], j);
            text[j] = '\0';
            check(fixture, text);
        }
    }
}

FIXTURE_TEST(mutate, random_bytes_are_handled)
{
    struct random random = {.state = 7};
    for (int i = 0; i < 20000; i++) {
        char text[40];
        uint32_t size = random_below(&random, sizeof(text));
        for (uint32_t j = 0; j < size; j++)
            text[j] = (char)(1 + random_below(&random, 255));
        text[size] = '\0';
        check(fixture, text);
    }
}
