/* Attributes, extended attributes, flags, usage. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/xattr.h>

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

static struct fs_attr set(uint64_t ino, unsigned what, struct fs_attr attr)
{
    struct fs_attr result;
    OK(fs_setattr(s.c, &root, ino, what, &attr, &result));
    struct fs_attr read = attr_of(&s, ino);
    cr_assert_eq(memcmp(&result, &read, sizeof(read)), 0,
                 "setattr's answer differs from getattr's");
    return read;
}

CASE(attr, chmod_changes_the_mode_and_ctime_only)
{
    uint64_t f = make_file(&s, 1, "f");
    struct fs_attr before = attr_of(&s, f);
    struct fs_attr after = set(f, FS_SET_MODE, (struct fs_attr){.mode = 06711});
    cr_assert_eq(after.mode, S_IFREG | 06711u);
    cr_assert_gt(after.ctime_ns, before.ctime_ns);
    cr_assert_eq(after.mtime_ns, before.mtime_ns);
    cr_assert_eq(after.atime_ns, before.atime_ns);
    cr_assert_eq(after.btime_ns, before.btime_ns);
}

CASE(attr, chown_moves_usage_and_clears_setuid)
{
    uint64_t f = make_file(&s, 1, "f");
    (void)set(f, FS_SET_MODE, (struct fs_attr){.mode = 06755});
    struct fs_attr after = set(f, FS_SET_UID | FS_SET_GID, (struct fs_attr){.uid = 5, .gid = 6});
    cr_assert_eq(after.uid, 5);
    cr_assert_eq(after.gid, 6);
    cr_assert_eq(after.mode, S_IFREG | 0755u);
    check_tree(&s, false);
    /* A setgid that means mandatory locking (no group execute) stays. */
    (void)set(f, FS_SET_MODE, (struct fs_attr){.mode = 02644});
    after = set(f, FS_SET_UID, (struct fs_attr){.uid = 7});
    cr_assert_eq(after.mode, S_IFREG | 02644u);
    cr_assert_eq(after.gid, 6);
    /* Directories keep theirs. */
    uint64_t d = make_dir(&s, 1, "d");
    (void)set(d, FS_SET_MODE, (struct fs_attr){.mode = 02755});
    cr_assert_eq(set(d, FS_SET_GID, (struct fs_attr){.gid = 9}).mode, S_IFDIR | 02755u);
    (void)set(f, FS_SET_MODE, (struct fs_attr){.mode = 04755});
    struct fs_attr ctime = attr_of(&s, f);
    cr_assert_eq(set(f, FS_SET_KILL_SUID, ctime).mode, S_IFREG | 0755u);
    ctime = attr_of(&s, f);
    cr_assert_eq(set(f, FS_SET_KILL_SUID, ctime).ctime_ns, ctime.ctime_ns);
}

CASE(attr, times_are_set_to_the_nanosecond)
{
    uint64_t f = make_file(&s, 1, "f");
    struct fs_attr after = set(f, FS_SET_ATIME | FS_SET_MTIME,
                               (struct fs_attr){.atime_ns = -5, .mtime_ns = 1234567890123456789});
    cr_assert_eq(after.atime_ns, -5);
    cr_assert_eq(after.mtime_ns, 1234567890123456789);
    int64_t now = fs_now();
    after = set(f, FS_SET_ATIME_NOW, (struct fs_attr){.atime_ns = 3});
    cr_assert_geq(after.atime_ns, now);
    cr_assert_eq(after.mtime_ns, 1234567890123456789);
    after = set(f, FS_SET_MTIME_NOW, (struct fs_attr){.mtime_ns = 3});
    cr_assert_geq(after.mtime_ns, now);
    cr_assert_eq(after.mtime_ns, after.ctime_ns);
}

CASE(attr, truncate_is_for_files)
{
    struct fs_attr result;
    uint64_t f = make_file(&s, 1, "f");
    struct fs_attr before = attr_of(&s, f);
    struct fs_attr after = set(f, FS_SET_SIZE, (struct fs_attr){.size = 1000000});
    cr_assert_eq(after.size, 1000000);
    cr_assert_gt(after.mtime_ns, before.mtime_ns);
    cr_assert_eq(after.mtime_ns, after.ctime_ns);
    uint64_t d = make_dir(&s, 1, "d");
    struct fs_attr size = {.size = 1};
    FAILS(fs_setattr(s.c, &root, d, FS_SET_SIZE, &size, &result), ERR_EISDIR);
    OK(fs_symlink(s.c, &root, 1, "l", "t", &result));
    FAILS(fs_setattr(s.c, &root, result.ino, FS_SET_SIZE, &size, &result), ERR_EINVAL);
    size.size = FS_FILE_SIZE_MAX + 1;
    FAILS(fs_setattr(s.c, &root, f, FS_SET_SIZE, &size, &result), ERR_EFBIG);
    FAILS(fs_setattr(s.c, &root, f + 1000000, FS_SET_SIZE, &size, &result), ERR_EFBIG);
    size.size = 5;
    FAILS(fs_setattr(s.c, &root, f + 1000000, FS_SET_SIZE, &size, &result), ERR_ESTALE);
    FAILS(fs_setattr(s.c, &root, f + 1000000, FS_SET_MODE, &size, &result), ERR_ESTALE);
    FAILS(fs_getattr(s.c, UINT64_MAX, &result), ERR_ESTALE);
}

CASE(attr, written_sizes_show_at_once_and_times_set_later_stay)
{
    struct fs_attr attr;
    struct fs_file *file;
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "0123456789", 10);
    struct fs_attr got;
    OK(fs_lookup(s.c, 1, "f", &got));
    cr_assert_eq(got.size, 10);
    cr_assert_gt(got.mtime_ns, attr.mtime_ns);
    struct fs_dirent entries[8];
    uint32_t count;
    OK(fs_readdir(s.c, 1, 2, true, entries, 8, &count));
    cr_assert_eq(count, 1);
    cr_assert_eq(entries[0].attr.size, 10);
    /* As tar and rsync do it: times after the last write, before the close. */
    (void)set(attr.ino, FS_SET_MTIME | FS_SET_ATIME,
              (struct fs_attr){.mtime_ns = 77, .atime_ns = 88});
    cr_assert_eq(attr_of(&s, attr.ino).size, 10);
    OK(fs_flush_file(s.c, file));
    OK(fs_release_file(s.c, file));
    got = attr_of(&s, attr.ino);
    cr_assert_eq(got.mtime_ns, 77);
    cr_assert_eq(got.atime_ns, 88);
    cr_assert_eq(got.size, 10);
    cr_assert_gt(got.blocks, 0);
}

CASE(attr, statfs_tells_of_the_device)
{
    struct fs_statfs statfs;
    OK(fs_statfs(s.c, &statfs));
    cr_assert_gt(statfs.bytes_total, 0);
    cr_assert_leq(statfs.bytes_available, statfs.bytes_total);
    cr_assert_eq(statfs.name_size_max, 255);
}

CASE(attr, reading_a_link_or_a_directory_touches_its_atime_once)
{
    struct fs_attr attr;
    char target[FS_SYMLINK_SIZE_MAX + 1];
    OK(fs_symlink(s.c, &root, 1, "l", "t", &attr));
    OK(fs_readlink(s.c, attr.ino, target));
    struct fs_attr first = attr_of(&s, attr.ino);
    cr_assert_gt(first.atime_ns, attr.atime_ns);
    OK(fs_readlink(s.c, attr.ino, target));
    cr_assert_eq(attr_of(&s, attr.ino).atime_ns, first.atime_ns);
    uint64_t d = make_dir(&s, 1, "d");
    struct fs_attr before = attr_of(&s, d);
    struct fs_dirent entries[4];
    uint32_t count;
    OK(fs_readdir(s.c, d, 0, false, entries, 4, &count));
    first = attr_of(&s, d);
    cr_assert_gt(first.atime_ns, before.atime_ns);
    cr_assert_eq(first.ctime_ns, before.ctime_ns);
    OK(fs_flags_set(s.c, &root, d, FS_NOATIME_FL));
    make_file(&s, d, "f");
    OK(fs_readdir(s.c, d, 0, false, entries, 4, &count));
    cr_assert_eq(attr_of(&s, d).atime_ns, first.atime_ns);
}

CASE(attr, an_index_made_meanwhile_changes_nothing)
{
    struct diag diag = {0};
    uint64_t f = make_file(&s, 1, "f");
    const struct table_def *table = client_table(s.c, TABLE_INODE);
    struct index_def index = {.kind = INDEX_ORDERED, .column_count = 1, .columns = {INODE_UID}};
    strcpy(index.name, "by_uid");
    enum err err = db_create_index(s.db_client, table->database, table->name, &index, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    /* The client's definitions are old now; every operation gets the new ones by itself. */
    cr_assert_eq(find(&s, 1, "f"), f);
    uint64_t d = make_dir(&s, 1, "d");
    make_file(&s, d, "g");
    OK(fs_rename(s.c, &root, 1, "f", d, "f", 0));
    (void)set(f, FS_SET_UID, (struct fs_attr){.uid = 3});
    OK(fs_unlink(s.c, &root, d, "g"));
    store_close(&s);
    store_open(&s);
    cr_assert_eq(find(&s, d, "f"), f);
}

/* ---- extended attributes ---- */

CASE(xattr, are_set_read_listed_and_removed)
{
    char value[64];
    char list[64];
    size_t size;
    uint64_t f = make_file(&s, 1, "f");
    struct fs_attr before = attr_of(&s, f);
    OK(fs_xattr_list(s.c, &root, f, list, sizeof(list), &size));
    cr_assert_eq(size, 0);
    OK(fs_xattr_set(s.c, &user, f, "user.a", "one", 3, 0));
    cr_assert_gt(attr_of(&s, f).ctime_ns, before.ctime_ns);
    cr_assert_eq(attr_of(&s, f).flags, 0);
    OK(fs_xattr_get(s.c, &user, f, "user.a", value, sizeof(value), &size));
    cr_assert(size == 3 && memcmp(value, "one", 3) == 0);
    OK(fs_xattr_get(s.c, &user, f, "user.a", NULL, 0, &size));
    cr_assert_eq(size, 3);
    FAILS(fs_xattr_get(s.c, &user, f, "user.a", value, 2, &size), ERR_ERANGE);
    FAILS(fs_xattr_set(s.c, &user, f, "user.a", "x", 1, XATTR_CREATE), ERR_EEXIST);
    FAILS(fs_xattr_set(s.c, &user, f, "user.b", "x", 1, XATTR_REPLACE), ERR_ENODATA);
    OK(fs_xattr_set(s.c, &user, f, "user.b", "", 0, XATTR_CREATE));
    OK(fs_xattr_set(s.c, &user, f, "user.a", "longer", 6, XATTR_REPLACE));
    OK(fs_xattr_set(s.c, &root, f, "trusted.t", "t", 1, 0));
    OK(fs_xattr_set(s.c, &root, f, "security.s", "s", 1, 0));
    OK(fs_xattr_list(s.c, &user, f, list, sizeof(list), &size));
    cr_assert_eq(size, 11 + 7 + 7);
    OK(fs_xattr_list(s.c, &root, f, list, sizeof(list), &size));
    cr_assert_eq(size, 11 + 7 + 7 + 10);
    FAILS(fs_xattr_list(s.c, &root, f, list, 5, &size), ERR_ERANGE);
    OK(fs_xattr_remove(s.c, &user, f, "user.a"));
    FAILS(fs_xattr_remove(s.c, &user, f, "user.a"), ERR_ENODATA);
    FAILS(fs_xattr_get(s.c, &user, f, "user.a", value, sizeof(value), &size), ERR_ENODATA);
}

CASE(xattr, classes_have_their_rules)
{
    char value[8];
    size_t size;
    struct fs_attr attr;
    uint64_t f = make_file(&s, 1, "f");
    FAILS(fs_xattr_set(s.c, &root, f, "system.posix_acl_access", "x", 1, 0), ERR_EOPNOTSUPP);
    FAILS(fs_xattr_set(s.c, &root, f, "nothing", "x", 1, 0), ERR_EOPNOTSUPP);
    FAILS(fs_xattr_set(s.c, &root, f, "user.", "x", 1, 0), ERR_EINVAL);
    FAILS(fs_xattr_set(s.c, &root, f, "", "x", 1, 0), ERR_ERANGE);
    FAILS(fs_xattr_set(s.c, &root, f, "user.a", "x", 1, 8), ERR_EINVAL);
    FAILS(fs_xattr_set(s.c, &user, f, "trusted.a", "x", 1, 0), ERR_EPERM);
    OK(fs_xattr_set(s.c, &root, f, "trusted.a", "x", 1, 0));
    FAILS(fs_xattr_get(s.c, &user, f, "trusted.a", value, 8, &size), ERR_ENODATA);
    FAILS(fs_xattr_remove(s.c, &user, f, "trusted.a"), ERR_EPERM);
    OK(fs_symlink(s.c, &root, 1, "l", "t", &attr));
    FAILS(fs_xattr_set(s.c, &root, attr.ino, "user.a", "x", 1, 0), ERR_EPERM);
    OK(fs_xattr_set(s.c, &root, attr.ino, "trusted.a", "x", 1, 0));
    FAILS(fs_xattr_set(s.c, &root, f + 1000000, "user.a", "x", 1, 0), ERR_ESTALE);
    char name[300];
    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[256] = 0;
    FAILS(fs_xattr_set(s.c, &root, f, name, "x", 1, 0), ERR_ERANGE);
    name[255] = 0;
    OK(fs_xattr_set(s.c, &root, f, name, "x", 1, 0));
}

CASE(xattr, large_values_and_many_names_fit_to_their_limits)
{
    static char value[FS_XATTR_SIZE_MAX + 1];
    static char back[FS_XATTR_SIZE_MAX + 1];
    size_t size;
    uint64_t f = make_file(&s, 1, "f");
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i * 31);
    OK(fs_xattr_set(s.c, &root, f, "user.big", value, FS_XATTR_SIZE_MAX, 0));
    OK(fs_xattr_get(s.c, &root, f, "user.big", back, sizeof(back), &size));
    cr_assert(size == FS_XATTR_SIZE_MAX && memcmp(value, back, size) == 0);
    FAILS(fs_xattr_set(s.c, &root, f, "user.big", value, FS_XATTR_SIZE_MAX + 1, 0), ERR_ENOSPC);
    OK(fs_xattr_remove(s.c, &root, f, "user.big"));
    enum err err = ERR_NONE;
    int count = 0;
    for (; !err && count < 1000; count++) {
        char name[FS_XATTR_NAME_SIZE_MAX + 1];
        memset(name, 'n', sizeof(name));
        snprintf(name, sizeof(name), "user.%0250d", count);
        err = fs_xattr_set(s.c, &root, f, name, "x", 1, 0);
    }
    cr_assert_eq(err, ERR_ENOSPC);
    cr_assert_eq(count, 257);
    OK(fs_xattr_list(s.c, &root, f, NULL, 0, &size));
    cr_assert_eq(size, 65536);
    OK(fs_unlink(s.c, &root, 1, "f"));
    fs_forget(s.c, f, 100);
    background_drain(s.fs);
    struct fs_attr attr;
    FAILS(fs_getattr(s.c, f, &attr), ERR_ESTALE);
}
