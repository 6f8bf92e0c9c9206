/* fsck finds nothing in a good store, and each kind of damage in a bad one. */
#include <fcntl.h>
#include <stdio.h>

#include "tests/unit/metadata/checker.h"
#include "metadata/fsck.h"

static struct store s;

static void setup(void)
{
    store_new(&s, 2);
}

static void teardown(void)
{
    store_end(&s);
}

struct findings {
    uint64_t count;
    char text[4096];
};

static void add_finding(void *context, const char *line)
{
    struct findings *findings = context;
    size_t used = strlen(findings->text);
    snprintf(findings->text + used, sizeof(findings->text) - used, "%s\n", line);
}

static struct findings fsck(void)
{
    struct findings findings = {0};
    struct diag diag = {0};
    enum err err = fsck_run(s.db_client, add_finding, &findings, &findings.count, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    return findings;
}

static uint64_t d;
static uint64_t f;

static void fill(void)
{
    struct fs_attr attr;
    struct fs_file *file;
    d = make_dir(&s, 1, "d");
    (void)make_dir(&s, d, "sub");
    f = make_file(&s, d, "f");
    OK(fs_link(s.c, f, 1, "g", &attr));
    OK(fs_symlink(s.c, &user, d, "l", "target", &attr));
    OK(fs_xattr_set(s.c, &root, f, "user.x", "1", 1, 0));
    OK(fs_create_file(s.c, &user, d, "data", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "0123456789", 10);
    /* An open orphan, and one that is being cut, are no damage. */
    OK(fs_unlink(s.c, &user, d, "data"));
    struct fs_attr size = {.size = 3};
    OK(fs_setattr(s.c, &root, attr.ino, FS_SET_SIZE, &size, &attr));
    OK(fs_release_file(s.c, file));
}

/* One program of one step on the row. */
static void damage(enum fs_table table, uint64_t ino, uint16_t column, uint64_t value)
{
    struct program *program = client_begin(s.c, ino_home(ino));
    struct operand key = operand_u64(ino);
    if (column == 0) {
        (void)program_delete(program, client_table(s.c, table), &key, ERR_NOT_FOUND);
    } else {
        (void)program_update(program, client_table(s.c, table), &key, ERR_NOT_FOUND);
        set_u64(program, column, value);
    }
    OK(client_run(s.c));
}

static void expect_finding(const char *what)
{
    struct findings findings = fsck();
    cr_assert_gt(findings.count, 0, "nothing found of: %s", what);
    cr_assert(strstr(findings.text, what), "'%s' is not in:\n%s", what, findings.text);
}

CASE(fsck, finds_nothing_in_a_good_store)
{
    struct findings findings = fsck();
    cr_assert_eq(findings.count, 0, "%s", findings.text);
    fill();
    findings = fsck();
    cr_assert_eq(findings.count, 0, "%s", findings.text);
}

CASE(fsck, finds_a_missing_inode)
{
    fill();
    damage(TABLE_INODE, f, 0, 0);
    expect_finding("directory entries without an inode");
    expect_finding("extended attributes without an inode");
}

CASE(fsck, finds_wrong_link_counts)
{
    fill();
    damage(TABLE_INODE, f, INODE_NLINK, 7);
    expect_finding("files with several names whose link count");
    damage(TABLE_INODE, f, INODE_NLINK, 2);
    damage(TABLE_INODE, d, INODE_NLINK, 5);
    expect_finding("directories whose link count");
}

CASE(fsck, finds_wrong_usage)
{
    fill();
    damage(TABLE_INODE, f, INODE_SIZE, 1000);
    expect_finding("usage totals");
}

CASE(fsck, finds_a_cycle)
{
    fill();
    uint64_t e = make_dir(&s, d, "e");
    damage(TABLE_INODE, d, INODE_PARENT, e);
    expect_finding("directories that the root does not reach");
    expect_finding("directories whose parent is not where their entry is");
}

CASE(fsck, finds_an_orphan_without_its_row)
{
    uint64_t g = make_file(&s, 1, "g");
    OK(fs_unlink(s.c, &root, 1, "g"));
    damage(TABLE_ORPHAN, g, 0, 0);
    expect_finding("unlinked inodes that are no orphans");
}
