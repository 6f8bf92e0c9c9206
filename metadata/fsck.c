/* The checks, in three forms:
 *
 *   none   a query that must return no row; each row is a finding. One query sees one snapshot, so
 * this is exact while the file system is in use. equal  two queries that must return the same rows,
 * in the same order. Each sees a snapshot of its own, so a difference counts only when it is still
 * there after TRIES repetitions. tree   every directory reaches the root through its parents; see
 * fsck_tree.c.
 *
 * RonSQL has inner joins only so far, so "every X has a Y" is a comparison of a count with the
 * count of the join. */
#include "metadata/fsck.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "metadata/fsck_tree.h"
#include "sql/sql.h"

enum { TRIES = 5, TRY_PAUSE_MS = 100, LINES_MAX = 100 };

struct check {
    const char *what;
    const char *query;
    const char *equal; /* NULL: query must return nothing */
};

static const struct check checks[] = {
    {"directory entries whose inode has another type",
     "SELECT d.parent, d.ino, d.type, i.type FROM dentry d JOIN inode i ON i.ino = d.ino "
     "WHERE d.type <> i.type",
     NULL},
    {"directory entries without an inode", "SELECT COUNT(*) FROM dentry",
     "SELECT COUNT(*) FROM dentry d JOIN inode i ON i.ino = d.ino"},
    {"directory entries whose directory has no inode", "SELECT COUNT(*) FROM dentry",
     "SELECT COUNT(*) FROM dentry d JOIN inode p ON p.ino = d.parent"},
    {"entries in something that is no directory, or in a removed one",
     "SELECT d.parent, d.ino FROM dentry d JOIN inode p ON p.ino = d.parent "
     "WHERE p.type <> 2 OR p.nlink = 0",
     NULL},
    {"files with several names whose link count is not the number of their entries",
     "SELECT d.ino, COUNT(*) AS names, MAX(i.nlink) AS links FROM dentry d JOIN inode i "
     "ON i.ino = d.ino WHERE i.type <> 2 AND i.nlink <> 1 GROUP BY d.ino HAVING names <> links",
     NULL},
    {"files with several names and no entry",
     "SELECT COUNT(DISTINCT d.ino) FROM dentry d JOIN inode i "
     "ON i.ino = d.ino WHERE i.type <> 2 AND i.nlink > 1",
     "SELECT COUNT(*) FROM inode WHERE type <> 2 AND nlink > 1"},
    {"files with one name whose entries are not one each",
     "SELECT COUNT(*) FROM dentry d JOIN inode i ON i.ino = d.ino WHERE i.type <> 2 AND i.nlink = "
     "1",
     "SELECT COUNT(*) FROM inode WHERE type <> 2 AND nlink = 1"},
    {"directories whose link count is not 2 and one for each subdirectory",
     "SELECT p.ino, COUNT(*) AS children, MAX(p.nlink) AS links FROM dentry d JOIN inode p "
     "ON p.ino = d.parent WHERE d.type = 2 GROUP BY p.ino HAVING children + 2 <> links",
     NULL},
    {"directories with links from subdirectories that are not there",
     "SELECT COUNT(*) FROM inode WHERE type = 2 AND nlink > 2",
     "SELECT COUNT(DISTINCT parent) FROM dentry WHERE type = 2"},
    {"directories whose parent is not where their entry is",
     "SELECT d.parent, d.ino, i.parent FROM dentry d JOIN inode i ON i.ino = d.ino "
     "WHERE d.type = 2 AND i.parent <> d.parent",
     NULL},
    {"directories, but for the root, whose entries are not one each",
     "SELECT COUNT(*) FROM inode WHERE type = 2 AND nlink > 0 AND ino <> 1",
     "SELECT COUNT(*) FROM dentry WHERE type = 2"},
    {"unlinked inodes that are no orphans", "SELECT COUNT(*) FROM inode WHERE nlink = 0",
     "SELECT COUNT(*) FROM orphan o JOIN inode i ON i.ino = o.ino WHERE i.nlink = 0"},
    {"orphans without an inode", "SELECT COUNT(*) FROM orphan",
     "SELECT COUNT(*) FROM orphan o JOIN inode i ON i.ino = o.ino"},
    /* With a size it is a file with a name whose object is being cut. */
    {"orphans that still have names",
     "SELECT o.ino, i.nlink FROM orphan o JOIN inode i ON i.ino = o.ino "
     "WHERE i.nlink <> 0 AND o.size = 18446744073709551615",
     NULL},
    {"files with one name whose parent is not where their entry is",
     "SELECT d.parent, d.ino, i.parent FROM dentry d JOIN inode i ON i.ino = d.ino "
     "WHERE i.type <> 2 AND i.nlink = 1 AND i.parent <> 0 AND i.parent <> d.parent",
     NULL},
    {"symbolic links without a target", "SELECT COUNT(*) FROM inode WHERE type = 3",
     "SELECT COUNT(*) FROM symlink s JOIN inode i ON i.ino = s.ino WHERE i.type = 3"},
    {"targets without a symbolic link", "SELECT COUNT(*) FROM symlink",
     "SELECT COUNT(*) FROM symlink s JOIN inode i ON i.ino = s.ino WHERE i.type = 3"},
    {"extended attributes without an inode", "SELECT COUNT(*) FROM xattr",
     "SELECT COUNT(*) FROM xattr x JOIN inode i ON i.ino = x.ino"},
    {"usage totals (project, uid, gid, files, bytes, blocks) that are not the sums over the inodes",
     "SELECT project, uid, gid, SUM(files) AS f, SUM(bytes) AS b, SUM(blocks) AS k FROM `usage` "
     "GROUP BY project, uid, gid HAVING f <> 0 OR b <> 0 OR k <> 0 ORDER BY project, uid, gid",
     "SELECT project, uid, gid, COUNT(*) AS f, SUM(size) AS b, SUM(blocks) AS k FROM inode "
     "GROUP BY project, uid, gid ORDER BY project, uid, gid"},
};

/* The rows of a query as lines of tab-separated values. */
static void add_value(struct buf *buf, const struct value *value)
{
    switch (value->kind) {
    case KIND_NULL:
        buf_printf(buf, "NULL");
        break;
    case KIND_I64:
        buf_printf(buf, "%ld", value->i);
        break;
    case KIND_U64:
        buf_printf(buf, "%lu", value->u);
        break;
    case KIND_F64:
        buf_printf(buf, "%g", value->f);
        break;
    case KIND_DEC:
        buf_printf(buf, "%lde-%u", value->i, value->scale);
        break;
    default:
        buf_put(buf, value->bytes, value->size);
        break;
    }
}

static enum err add_row(void *context, const struct value *row, uint32_t count)
{
    struct buf *buf = context;
    for (uint32_t i = 0; i < count; i++) {
        if (i) buf_put_u8(buf, ' ');
        add_value(buf, &row[i]);
    }
    buf_put_u8(buf, '\n');
    return buf->failed ? ERR_NO_MEMORY : ERR_NONE;
}

static enum err rows_of(struct db_client *client, const char *query, struct buf *buf,
                        struct diag *diag)
{
    buf_clear(buf);
    struct diag why;
    enum err err = sql_query(client, "fs", query, add_row, buf, &why);
    if (!err && buf->failed) err = ERR_NO_MEMORY;
    if (err) (void)!diag_set(diag, err, "the check '%.200s' cannot run: %.150s", query, why.text);
    return err;
}

struct reporter {
    void (*finding)(void *context, const char *line);
    void *context;
    uint64_t count;
};

static void report(struct reporter *reporter, const char *what, const char *row, int size)
{
    char line[600];
    reporter->count++;
    if (reporter->count > LINES_MAX) return; /* counted, but nobody reads a million lines */
    (void)snprintf(line, sizeof(line), "%s: %.*s", what, size, row);
    reporter->finding(reporter->context, line);
}

/* Each line of `rows` that is not the line of `others` at the same place. */
static void report_rows(struct reporter *reporter, const char *what, const struct buf *rows,
                        const struct buf *others)
{
    if (!rows->size) return;
    const char *at = (const char *)rows->bytes;
    const char *end = at + rows->size;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        int size = (int)(newline - at);
        if (!others || !others->bytes || !memmem(others->bytes, others->size, at, (size_t)size + 1))
            report(reporter, what, at, size);
        at = newline + 1;
    }
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0);
}

static enum err run_check(struct db_client *client, const struct check *check, struct buf *first,
                          struct buf *second, struct reporter *reporter, struct diag *diag)
{
    enum err err = rows_of(client, check->query, first, diag);
    if (err) return err;
    if (!check->equal) {
        report_rows(reporter, check->what, first, NULL);
        return ERR_NONE;
    }
    for (int tries = 0; tries < TRIES; tries++) {
        if (tries) {
            (void)poll(NULL, 0, TRY_PAUSE_MS);
            err = rows_of(client, check->query, first, diag);
            if (err) return err;
        }
        err = rows_of(client, check->equal, second, diag);
        if (err || same(first, second)) return err;
    }
    uint64_t before = reporter->count;
    report_rows(reporter, check->what, first, second);
    report_rows(reporter, check->what, second, first);
    /* The same lines in another order or number. */
    if (reporter->count == before) report(reporter, check->what, "the rows differ", 15);
    return ERR_NONE;
}

enum err fsck_run(struct db_client *client, void (*finding)(void *context, const char *line),
                  void *context, uint64_t *ret_findings, struct diag *diag)
{
    struct reporter reporter = {.finding = finding, .context = context};
    struct buf first;
    struct buf second;
    buf_init(&first);
    buf_init(&second);
    enum err err = ERR_NONE;
    for (size_t i = 0; !err && i < ARRAY_SIZE(checks); i++)
        err = run_check(client, &checks[i], &first, &second, &reporter, diag);
    uint64_t lost = 0;
    if (!err) err = fsck_tree(client, &lost, diag);
    if (!err && lost) {
        char text[32];
        int size = snprintf(text, sizeof(text), "%lu", lost);
        report(&reporter, "directories that the root does not reach", text, size);
    }
    buf_fini(&first);
    buf_fini(&second);
    if (!err) *ret_findings = reporter.count;
    return err;
}
