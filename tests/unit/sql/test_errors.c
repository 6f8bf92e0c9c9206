/* Refusals: what each says, which error it is, and under which character the caret stands. */
#include "sql/script.h"
#include "tests/unit/sql/fixture.h"

/* In `text` a '^' stands in front of the place the error must point at. */
static void check(struct fixture *fixture, const char *text, enum err err, const char *reason)
{
    char clean[2000];
    const char *mark = strchr(text, '^');
    size_t at = mark ? (size_t)(mark - text) : 0;
    strcpy(clean, text);
    if (mark) memmove(clean + at, clean + at + 1, strlen(clean + at));
    enum err got = fixture_prepare(fixture, clean);
    cr_expect_eq(got, err, "%s: %s, %s", clean, err_name(got), fixture->diag.text);
    cr_expect_eq(fixture->diag.err, err);
    cr_expect_str_eq(fixture->diag.text, reason, "%s:\n got: %s\nwant: %s", clean,
                     fixture->diag.text, reason);
    if (mark)
        cr_expect_eq(fixture->diag.position, at, "%s: at %u, not %zu", clean,
                     fixture->diag.position, at);
}

FIXTURE_TEST(errors, syntax_errors_name_the_token)
{
    check(fixture, "SELECT i i2 ^i3 FROM t", ERR_SYNTAX, "unexpected 'i3'");
    check(fixture, "SELECT i FRM ^t", ERR_SYNTAX, "unexpected 't'");
    check(fixture, "SELECT i FROM t WHERE ^", ERR_SYNTAX, "the statement ends too early");
    check(fixture, "SELECT i FROM t WHERE i = ^;", ERR_SYNTAX, "the statement ends too early");
    check(fixture, "SELECT i, ^FROM t", ERR_SYNTAX, "unexpected 'FROM'");
    check(fixture, "SELECT i FROM t LIMIT ^-1", ERR_SYNTAX, "unexpected '-'");
    check(fixture, "SELECT ^'abc", ERR_SYNTAX, "string without an end");
    check(fixture, "^SELEC i FROM t", ERR_SYNTAX,
          "a statement starts with SELECT, EXPLAIN, USE, SHOW, DESCRIBE, CREATE or DROP");
    check(fixture, "SELECT i FROM t WHERE dd = DATE ^'2024-13-01'", ERR_SYNTAX,
          "not a date: write DATE 'YYYY-MM-DD'");
    check(fixture, "SHOW ^x", ERR_SYNTAX,
          "SHOW knows TABLES, DATABASES, COLUMNS FROM t and CREATE TABLE t");
    check(fixture, "SELECT ^SUM(*) FROM t", ERR_SYNTAX, "only COUNT takes *");
    check(fixture, "SELECT COUNT(DISTINCT^) FROM t", ERR_SYNTAX, "unexpected ')'");
}

FIXTURE_TEST(errors, what_is_sql_but_not_pushable_says_what_would_work)
{
    check(fixture, "SELECT i FROM t WHERE i IN (^SELECT 1)", ERR_NOT_PUSHABLE,
          "subqueries are not pushable yet: join the table, or run the inner SELECT first");
    check(fixture, "SELECT x FROM ^(SELECT 1) a", ERR_NOT_PUSHABLE,
          "subqueries are not pushable yet: join the table, or run the inner SELECT first");
    check(fixture, "SELECT i FROM t WHERE ^EXISTS (SELECT 1)", ERR_NOT_PUSHABLE,
          "subqueries are not pushable yet: join the table, or run the inner SELECT first");
    check(fixture, "^WITH a AS (SELECT 1) SELECT 1", ERR_NOT_PUSHABLE,
          "common table expressions are not pushable yet: write one SELECT over tables");
    check(fixture, "SELECT i FROM t GROUP BY i ^WITH ROLLUP", ERR_NOT_PUSHABLE,
          "WITH ROLLUP is not pushable yet: run one SELECT for each level");
    check(fixture, "SELECT i FROM t ^UNION ALL SELECT 1", ERR_NOT_PUSHABLE,
          "UNION, INTERSECT and EXCEPT are not pushable yet: run the SELECTs one by one");
    check(fixture, "SELECT i FROM t ^LEFT JOIN users u ON t.i = u.uid", ERR_NOT_PUSHABLE,
          "outer joins are not pushable yet: an inner JOIN is");
    check(fixture, "SELECT i FROM t ^RIGHT OUTER JOIN users u ON t.i = u.uid", ERR_NOT_PUSHABLE,
          "outer joins are not pushable yet: an inner JOIN is");
    check(fixture, "SELECT i FROM t ^NATURAL JOIN users", ERR_NOT_PUSHABLE,
          "NATURAL JOIN is not supported: write JOIN … ON with the columns");
    check(fixture, "SELECT i FROM t JOIN users ^USING (uid)", ERR_NOT_PUSHABLE,
          "USING is not supported: write ON a.column = b.column");
    check(fixture, "SELECT SUM(i) ^OVER (ORDER BY i) FROM t", ERR_NOT_PUSHABLE,
          "window functions are not pushable yet: use GROUP BY, or ORDER BY with LIMIT");
    check(fixture, "SELECT i FROM t WHERE s ^REGEXP 'a'", ERR_NOT_PUSHABLE,
          "regular expressions are not pushable yet: use LIKE");
    check(fixture, "SELECT i FROM t ^FOR UPDATE", ERR_NOT_PUSHABLE,
          "FOR UPDATE locks: a SELECT reads one snapshot and locks nothing");
    check(fixture, "^SELECT 1", ERR_NOT_PUSHABLE,
          "a SELECT without FROM reads no partition: name a table after FROM");
    check(fixture, "SELECT i FROM t WHERE s LIKE ^ci", ERR_NOT_PUSHABLE,
          "LIKE takes a constant pattern here: use INSTR(x, y) > 0, or LEFT(x, n) = y");
    check(fixture, "SELECT ^COUNT(DISTINCT i, b) FROM t", ERR_NOT_PUSHABLE,
          "COUNT(DISTINCT) of several columns is not pushable yet: count one, or CONCAT them");
    check(fixture, "SELECT ^SUM(DISTINCT i) FROM t", ERR_NOT_PUSHABLE,
          "SUM(DISTINCT) is not pushable yet: COUNT(DISTINCT x) is");
    check(fixture, "SELECT ^RAND() FROM t", ERR_NOT_PUSHABLE,
          "there is no function RAND that can run in the partitions");
    check(
        fixture, "SELECT dd ^+ INTERVAL 1 MONTH FROM t", ERR_NOT_PUSHABLE,
        "INTERVAL in months or years is pushable for constants only: add it to the other side, or "
        "use days");
}

FIXTURE_TEST(errors, joins_without_a_key_are_refused)
{
    check(fixture, "SELECT 1 FROM t, ^users", ERR_NOT_PUSHABLE,
          "no key joins users to the other tables: equate users.(uid or name or city) with columns "
          "of one type in them, or CREATE INDEX on the column that is equated");
    check(fixture, "SELECT 1 FROM dentry d JOIN ^inode i ON d.ino < i.ino", ERR_NOT_PUSHABLE,
          "no key joins i to the other tables: equate i.(ino) with columns of one type in them, or "
          "CREATE INDEX on the column that is equated");
    check(fixture, "SELECT 1 FROM users u JOIN users v ON u.uid = v.uid JOIN ^t ON t.n = u.uid",
          ERR_NOT_PUSHABLE,
          "no key joins t to the other tables: equate t.(id or b or s or d or dd) with columns of "
          "one type in them, or CREATE INDEX on the column that is equated");
}

FIXTURE_TEST(errors, statements_that_write_are_refused_by_name)
{
    check(fixture, "^INSERT INTO t VALUES (1)", ERR_NOT_PUSHABLE,
          "INSERT writes: RonSQL only reads; rows change through the file system and programs");
    check(fixture, "^update t set a = 1", ERR_NOT_PUSHABLE,
          "UPDATE writes: RonSQL only reads; rows change through the file system and programs");
    check(fixture, "^DELETE FROM t", ERR_NOT_PUSHABLE,
          "DELETE writes: RonSQL only reads; rows change through the file system and programs");
}

FIXTURE_TEST(errors, names)
{
    check(fixture, "SELECT ^sise FROM inode", ERR_BIND, "unknown column 'sise': is it 'size'?");
    check(fixture, "SELECT ^nothing FROM inode", ERR_BIND, "unknown column 'nothing'");
    check(fixture, "SELECT ^x.size FROM inode", ERR_BIND, "unknown table 'x' in 'x.size'");
    check(fixture, "SELECT 1 FROM ^nowhere", ERR_TABLE_UNKNOWN, "no table fs.nowhere");
    check(fixture, "SELECT 1 FROM ^other.t", ERR_TABLE_UNKNOWN, "no table other.t");
    check(fixture, "SELECT ^uid FROM inode i JOIN users u ON i.uid = u.uid", ERR_BIND,
          "column 'uid' is in i and in u: write i.uid");
    check(fixture, "SELECT 1 FROM t JOIN ^t ON t.id = t.id", ERR_BIND,
          "two tables are called 't': give one an alias");
    check(fixture, "SELECT ^x.* FROM t", ERR_BIND, "unknown table 'x'");
    check(fixture, "SELECT i AS k FROM t WHERE ^k = 1", ERR_BIND,
          "'k' is an alias: WHERE and ON see columns only, repeat the expression or use HAVING");
    check(fixture, "SELECT i AS k, b AS k FROM t ORDER BY ^k", ERR_BIND,
          "'k' names two columns of the result");
    check(fixture, "SELECT i FROM t GROUP BY ^3", ERR_BIND,
          "GROUP BY 3: the result has columns 1 to 1");
    check(fixture, "SELECT i FROM t ORDER BY ^0", ERR_BIND,
          "ORDER BY 0: the result has columns 1 to 1");
    check(fixture, "SHOW CREATE TABLE ^zz", ERR_TABLE_UNKNOWN, "no table fs.zz");
}

FIXTURE_TEST(errors, groups)
{
    check(fixture, "SELECT i, ^b FROM t GROUP BY i", ERR_BIND,
          "column t.b is neither grouped by nor in an aggregate: add it to GROUP BY, or use MIN or "
          "MAX");
    check(fixture, "SELECT SUM(b), 1 + ^b FROM t", ERR_BIND,
          "column t.b is neither grouped by nor in an aggregate: add it to GROUP BY, or use MIN or "
          "MAX");
    check(fixture, "SELECT i FROM t GROUP BY i HAVING ^b > 1", ERR_BIND,
          "column t.b is neither grouped by nor in an aggregate: add it to GROUP BY, or use MIN or "
          "MAX");
    check(fixture, "SELECT i FROM t GROUP BY i ORDER BY ^b", ERR_BIND,
          "column t.b is neither grouped by nor in an aggregate: add it to GROUP BY, or use MIN or "
          "MAX");
    check(
        fixture, "SELECT ^* FROM t GROUP BY i", ERR_BIND,
        "column t.id is neither grouped by nor in an aggregate: add it to GROUP BY, or use MIN or "
        "MAX");
    check(fixture, "SELECT i FROM t WHERE ^COUNT(*) > 1", ERR_BIND,
          "no aggregates in WHERE: use HAVING");
    check(fixture, "SELECT COUNT(*) cnt FROM t GROUP BY ^cnt", ERR_BIND,
          "no aggregates in GROUP BY: use HAVING");
    check(fixture, "SELECT SUM(^MAX(i)) FROM t", ERR_BIND, "an aggregate inside an aggregate");
    check(fixture, "SELECT DISTINCT i FROM t ORDER BY ^b", ERR_BIND,
          "ORDER BY of a SELECT DISTINCT takes columns of the result");
}

FIXTURE_TEST(errors, types)
{
    check(fixture, "SELECT ^SUM(dd) FROM t", ERR_BIND,
          "a date is no number: use UNIX_TIMESTAMP(x), YEAR(x), or x + INTERVAL n DAY");
    check(fixture, "SELECT ^YEAR(i) FROM t", ERR_BIND,
          "YEAR takes a DATE, DATETIME or TIMESTAMP: FROM_UNIXTIME(seconds) makes one");
    check(fixture, "SELECT d ^DIV 2 FROM t", ERR_BIND,
          "DIV takes integers: write FLOOR(a / b), or CAST AS SIGNED");
    check(fixture, "SELECT ^ABS(1, 2) FROM t", ERR_BIND, "ABS takes 1 argument(s), not 2");
    check(fixture, "SELECT ^SUBSTR(s) FROM t", ERR_BIND,
          "SUBSTR takes another number of arguments (from 2), not 1");
    check(fixture, "SELECT ^CASE WHEN i THEN dd ELSE 1 END FROM t", ERR_BIND,
          "dates and numbers in one result: make both text with CAST(x AS CHAR)");
    check(fixture, "SELECT CAST(i AS ^FLOAT) FROM t", ERR_BIND,
          "CAST knows SIGNED, UNSIGNED, DOUBLE, DECIMAL(p,s), CHAR, DATE and DATETIME");
    check(fixture, "SELECT i FROM t WHERE u ^% b = 1", ERR_BIND,
          "MOD of a signed and an unsigned BIGINT: CAST one side AS SIGNED or AS UNSIGNED");
    check(fixture, "SELECT s ^COLLATE latin1 FROM t", ERR_BIND,
          "unknown collation 'latin1': there are utf8mb4_bin and utf8mb4_general_ci");
    check(fixture, "SELECT i FROM t WHERE s COLLATE utf8mb4_bin ^= ci COLLATE utf8mb4_general_ci",
          ERR_BIND, "two different COLLATEs");
}

FIXTURE_TEST(errors, ddl)
{
    check(fixture, "CREATE TABLE x (a INT, ^a INT, PRIMARY KEY (a))", ERR_INVALID,
          "a second column 'a'");
    check(fixture, "CREATE TABLE x (a INT, PRIMARY KEY (^b))", ERR_BIND,
          "unknown column 'b' in table x");
    check(fixture, "CREATE TABLE x (^a INT)", ERR_INVALID,
          "a table needs a primary key: PRIMARY KEY (column, …)");
    check(
        fixture, "CREATE TABLE x (a ^JSON PRIMARY KEY)", ERR_BIND,
        "unknown type 'JSON': there are TINYINT, SMALLINT, INT, BIGINT [UNSIGNED], FLOAT, DOUBLE, "
        "DECIMAL, DATE, DATETIME, TIMESTAMP, CHAR, VARCHAR, BINARY, VARBINARY, TEXT and BLOB");
    check(fixture, "CREATE TABLE x (^a INT NULL PRIMARY KEY)", ERR_INVALID,
          "column 'a' is in the primary key: it cannot be NULL");
    check(fixture, "CREATE TABLE x (a INT PRIMARY KEY, b INT) PARTITION BY KEY(^b)", ERR_INVALID,
          "partition columns must be in the primary key");
    check(fixture, "CREATE TABLE x (a INT PRIMARY KEY) TTL=5@^b", ERR_BIND, "unknown column 'b'");
    check(fixture, "CREATE TABLE x (a INT PRIMARY KEY) ^ENGINE=x", ERR_SYNTAX,
          "unknown table option 'ENGINE': there are PARTITION BY and TTL=seconds@column");
    check(fixture, "CREATE TABLE x (a INT ^AUTO_INCREMENT PRIMARY KEY)", ERR_SYNTAX,
          "unknown column option 'AUTO_INCREMENT': there are UNSIGNED, NULL, NOT NULL, COLLATE and "
          "PRIMARY KEY");
    check(fixture, "CREATE ^UNIQUE INDEX x ON t (i)", ERR_NOT_PUSHABLE,
          "unique secondary indexes are not supported: make it the primary key");
    check(fixture, "CREATE INDEX x ON ^zz (i)", ERR_TABLE_UNKNOWN, "no table fs.zz");
    check(fixture, "DROP TABLE ^zz", ERR_TABLE_UNKNOWN, "no table fs.zz");
    check(fixture, "DROP INDEX ^zz ON t", ERR_NOT_FOUND, "no index zz on table t");
    check(fixture, "DROP INDEX ^`primary` ON t", ERR_INVALID,
          "the primary key cannot be dropped: drop the table");
    check(fixture, "CREATE INDEX ^x ON t (i) USING HASH", ERR_INVALID,
          "a secondary index is ordered: only the primary key may be hashed");
    check(fixture, "CREATE TABLE ^x (a TEXT PRIMARY KEY)", ERR_INVALID,
          "index PRIMARY: column a is TEXT or BLOB");
    check(fixture, "CREATE TABLE x (a ^DECIMAL(20) PRIMARY KEY)", ERR_INVALID,
          "DECIMAL(p,s) has 1 to 18 digits and s at most p");
    check(fixture, "CREATE ^VIEW x AS SELECT 1", ERR_SYNTAX, "CREATE knows TABLE and INDEX");
}

/* ---- carets ---- */

static void check_caret(const char *text, uint32_t position, const char *expected)
{
    struct script script;
    struct diag diag = {.position = position};
    cr_assert_eq(script_init(&script, text, strlen(text), NULL, 0, NULL), ERR_NONE);
    char *caret = script_caret(&script, &diag);
    if (expected)
        cr_assert_str_eq(caret, expected);
    else
        cr_assert_null(caret);
    free(caret);
    script_fini(&script);
}

Test(caret, stands_under_the_place_in_its_line)
{
    check_caret("SELECT x\nFROM  y\nWHERE z", 15, "FROM  y\n      ^");
    check_caret("abc", 0, "abc\n^");
    check_caret("abc", 3, "abc\n   ^");
    check_caret("abc", UINT32_MAX, NULL);
    check_caret("a\tb\x01"
                "c",
                4, "a b c\n    ^");
}

Test(caret, counts_characters_and_not_bytes)
{
    check_caret("'né' x", 6, "'né' x\n     ^");
}

Test(caret, shows_a_part_of_a_long_line)
{
    char text[400];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[300] = 'X';
    struct script script;
    struct diag diag = {.position = 300};
    cr_assert_eq(script_init(&script, text, strlen(text), NULL, 0, NULL), ERR_NONE);
    char *caret = script_caret(&script, &diag);
    cr_assert_not_null(caret);
    char *second = strchr(caret, '\n') + 1;
    cr_assert_eq((size_t)(second - caret), 101);
    cr_assert_eq(caret[strcspn(second, "^")], 'X');
    free(caret);
    script_fini(&script);
}
