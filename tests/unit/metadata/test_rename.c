/* rename: every kind of source, target and flag. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>

#include "tests/unit/metadata/checker.h"

static struct store s;

static void setup(void)
{
    store_new(&s, 2);
}

static void teardown(void)
{
    background_drain(s.fs);
    check_tree(&s, false);
    store_end(&s);
}

#define MOVE(p, a, q, b, flags) fs_rename(s.c, &root, p, a, q, b, flags)

CASE(rename, within_a_directory)
{
    uint64_t f = make_file(&s, 1, "a");
    struct fs_attr before = attr_of(&s, f);
    struct fs_attr dir = attr_of(&s, 1);
    OK(MOVE(1, "a", 1, "b", 0));
    cr_assert_eq(find(&s, 1, "a"), 0);
    cr_assert_eq(find(&s, 1, "b"), f);
    struct fs_attr after = attr_of(&s, f);
    cr_assert_gt(after.ctime_ns, before.ctime_ns);
    cr_assert_eq(after.mtime_ns, before.mtime_ns);
    cr_assert_gt(attr_of(&s, 1).mtime_ns, dir.mtime_ns);
    uint64_t d = make_dir(&s, 1, "d");
    OK(MOVE(1, "d", 1, "e", 0));
    cr_assert_eq(find(&s, 1, "e"), d);
    cr_assert_eq(attr_of(&s, 1).nlink, 3);
    FAILS(MOVE(1, "none", 1, "x", 0), ERR_ENOENT);
    FAILS(MOVE(f, "none", 1, "x", 0), ERR_ENOTDIR);
    FAILS(MOVE(1, "b", f, "x", 0), ERR_ENOTDIR);
    FAILS(MOVE(1, "b", 1, "x/y", 0), ERR_EINVAL);
    FAILS(MOVE(1, "b", 1, "x", RENAME_WHITEOUT), ERR_EINVAL);
    FAILS(MOVE(1, "b", 1, "e", RENAME_NOREPLACE | RENAME_EXCHANGE), ERR_EINVAL);
}

CASE(rename, replaces_a_file)
{
    uint64_t a = make_file(&s, 1, "a");
    uint64_t b = make_file(&s, 1, "b");
    struct fs_attr attr;
    OK(MOVE(1, "a", 1, "b", 0));
    cr_assert_eq(find(&s, 1, "b"), a);
    cr_assert_eq(attr_of(&s, b).nlink, 0);
    fs_forget(s.c, b, 1000);
    background_drain(s.fs);
    FAILS(fs_getattr(s.c, b, &attr), ERR_ESTALE);
    /* A replaced file that has another link keeps it. */
    uint64_t c = make_file(&s, 1, "c");
    OK(fs_link(s.c, c, 1, "c2", &attr));
    OK(MOVE(1, "b", 1, "c", 0));
    cr_assert_eq(attr_of(&s, c).nlink, 1);
    cr_assert_eq(find(&s, 1, "c2"), c);
}

CASE(rename, to_the_same_file_does_nothing)
{
    struct fs_attr attr;
    uint64_t a = make_file(&s, 1, "a");
    OK(fs_link(s.c, a, 1, "b", &attr));
    struct fs_attr before = attr_of(&s, a);
    OK(MOVE(1, "a", 1, "b", 0));
    OK(MOVE(1, "a", 1, "a", 0));
    OK(MOVE(1, "a", 1, "b", RENAME_EXCHANGE));
    FAILS(MOVE(1, "a", 1, "b", RENAME_NOREPLACE), ERR_EEXIST);
    cr_assert_eq(find(&s, 1, "a"), a);
    cr_assert_eq(find(&s, 1, "b"), a);
    cr_assert_eq(attr_of(&s, a).ctime_ns, before.ctime_ns);
    cr_assert_eq(attr_of(&s, a).nlink, 2);
}

CASE(rename, noreplace_leaves_the_target)
{
    uint64_t a = make_file(&s, 1, "a");
    uint64_t b = make_file(&s, 1, "b");
    uint64_t d = make_dir(&s, 1, "d");
    FAILS(MOVE(1, "a", 1, "b", RENAME_NOREPLACE), ERR_EEXIST);
    FAILS(MOVE(1, "d", 1, "b", RENAME_NOREPLACE), ERR_EEXIST);
    OK(MOVE(1, "a", d, "a", RENAME_NOREPLACE));
    FAILS(MOVE(1, "b", d, "a", RENAME_NOREPLACE), ERR_EEXIST);
    OK(MOVE(1, "b", 1, "c", RENAME_NOREPLACE));
    cr_assert_eq(find(&s, d, "a"), a);
    cr_assert_eq(find(&s, 1, "c"), b);
}

CASE(rename, moves_directories_between_parents)
{
    uint64_t x = make_dir(&s, 1, "x");
    uint64_t y = make_dir(&s, 1, "y");
    uint64_t d = make_dir(&s, x, "d");
    make_dir(&s, d, "inner");
    OK(MOVE(x, "d", y, "e", 0));
    cr_assert_eq(attr_of(&s, x).nlink, 2);
    cr_assert_eq(attr_of(&s, y).nlink, 3);
    cr_assert_eq(attr_of(&s, d).parent, y);
    cr_assert_eq(attr_of(&s, d).nlink, 3);
    cr_assert_eq(find(&s, d, ".."), y);
    FAILS(MOVE(1, "y", d, "z", 0), ERR_EINVAL);
    FAILS(MOVE(1, "y", y, "z", 0), ERR_EINVAL);
    FAILS(MOVE(y, "e", 1, "y", 0), ERR_ENOTEMPTY);
    FAILS(MOVE(1, "y", d, "inner", RENAME_EXCHANGE), ERR_EINVAL);
    FAILS(MOVE(d, "inner", 1, "y", RENAME_EXCHANGE), ERR_EINVAL);
}

CASE(rename, replaces_only_empty_directories_by_directories)
{
    uint64_t x = make_dir(&s, 1, "x");
    uint64_t y = make_dir(&s, 1, "y");
    uint64_t f = make_file(&s, 1, "f");
    uint64_t in_y = make_file(&s, y, "in");
    (void)f;
    FAILS(MOVE(1, "x", 1, "y", 0), ERR_ENOTEMPTY);
    FAILS(MOVE(1, "x", 1, "f", 0), ERR_ENOTDIR);
    FAILS(MOVE(1, "f", 1, "x", 0), ERR_EISDIR);
    FAILS(MOVE(y, "in", 1, "x", 0), ERR_EISDIR);
    OK(MOVE(1, "y", 1, "x", 0));
    cr_assert_eq(find(&s, 1, "x"), y);
    cr_assert_eq(attr_of(&s, 1).nlink, 3);
    cr_assert_eq(attr_of(&s, x).nlink, 0);
    cr_assert_eq(find(&s, y, "in"), in_y);
    /* Across parents. */
    uint64_t p = make_dir(&s, 1, "p");
    uint64_t q = make_dir(&s, p, "q");
    OK(MOVE(1, "x", p, "q", 0));
    cr_assert_eq(find(&s, p, "q"), y);
    cr_assert_eq(attr_of(&s, p).nlink, 3);
    cr_assert_eq(attr_of(&s, 1).nlink, 3);
    cr_assert_eq(attr_of(&s, q).nlink, 0);
    cr_assert_eq(attr_of(&s, y).parent, p);
}

CASE(rename, exchanges_anything_with_anything)
{
    uint64_t x = make_dir(&s, 1, "x");
    uint64_t y = make_dir(&s, 1, "y");
    uint64_t d = make_dir(&s, x, "d");
    uint64_t f = make_file(&s, y, "f");
    uint64_t g = make_file(&s, x, "g");
    make_file(&s, d, "inside");
    FAILS(MOVE(x, "d", y, "none", RENAME_EXCHANGE), ERR_ENOENT);
    OK(MOVE(x, "d", y, "f", RENAME_EXCHANGE));
    cr_assert_eq(find(&s, x, "d"), f);
    cr_assert_eq(find(&s, y, "f"), d);
    cr_assert_eq(attr_of(&s, x).nlink, 2);
    cr_assert_eq(attr_of(&s, y).nlink, 3);
    cr_assert_eq(attr_of(&s, d).parent, y);
    cr_assert_eq(attr_of(&s, f).parent, x);
    OK(MOVE(x, "d", x, "g", RENAME_EXCHANGE));
    cr_assert_eq(find(&s, x, "d"), g);
    cr_assert_eq(find(&s, x, "g"), f);
    uint64_t e = make_dir(&s, x, "e");
    OK(MOVE(x, "e", y, "f", RENAME_EXCHANGE));
    cr_assert_eq(attr_of(&s, d).parent, x);
    cr_assert_eq(attr_of(&s, e).parent, y);
    cr_assert_eq(attr_of(&s, x).nlink, 3);
    cr_assert_eq(attr_of(&s, y).nlink, 3);
}

CASE(rename, a_moved_file_stays_whole)
{
    struct fs_attr attr;
    struct fs_file *file;
    uint64_t d = make_dir(&s, 1, "d");
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "data", 4);
    OK(MOVE(1, "f", d, "g", 0));
    write_at(&s, file, 4, "data", 4);
    OK(fs_release_file(s.c, file));
    struct fs_attr got;
    OK(fs_lookup(s.c, d, "g", &got));
    cr_assert_eq(got.size, 8);
    cr_assert_eq(got.parent, d);
    /* Its inode is not in its directory's partition now: every operation still finds it. */
    OK(MOVE(d, "g", d, "h", 0));
    OK(fs_link(s.c, got.ino, d, "i", &got));
    OK(fs_unlink(s.c, &root, d, "h"));
    OK(fs_unlink(s.c, &root, d, "i"));
    cr_assert_eq(attr_of(&s, attr.ino).nlink, 0);
    fs_forget(s.c, attr.ino, 1000);
    background_drain(s.fs);
    FAILS(fs_getattr(s.c, attr.ino, &got), ERR_ESTALE);
}
