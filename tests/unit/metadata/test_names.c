/* Making, finding and removing names: every success, every error. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>

#include "tests/unit/metadata/checker.h"
#include "tests/unit/sanitized.h"

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

static void forget(uint64_t ino)
{
    fs_forget(s.c, ino, 1000);
}

CASE(names, bad_names_are_refused)
{
    struct fs_attr attr;
    char longest[FS_NAME_SIZE_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    longest[FS_NAME_SIZE_MAX + 1] = 0;
    FAILS(fs_mknod(s.c, &root, 1, longest, S_IFREG | 0644, 0, &attr), ERR_ENAMETOOLONG);
    FAILS(fs_lookup(s.c, 1, longest, &attr), ERR_ENAMETOOLONG);
    FAILS(fs_unlink(s.c, &root, 1, longest), ERR_ENAMETOOLONG);
    FAILS(fs_rmdir(s.c, &root, 1, longest), ERR_ENAMETOOLONG);
    FAILS(fs_rename(s.c, &root, 1, longest, 1, "a", 0), ERR_ENAMETOOLONG);
    longest[FS_NAME_SIZE_MAX] = 0;
    OK(fs_mknod(s.c, &root, 1, longest, S_IFREG | 0644, 0, &attr));
    OK(fs_lookup(s.c, 1, longest, &attr));
    FAILS(fs_mknod(s.c, &root, 1, "", S_IFREG | 0644, 0, &attr), ERR_ENOENT);
    FAILS(fs_lookup(s.c, 1, "", &attr), ERR_ENOENT);
    FAILS(fs_mknod(s.c, &root, 1, "a/b", S_IFREG | 0644, 0, &attr), ERR_EINVAL);
    FAILS(fs_mknod(s.c, &root, 1, ".", S_IFREG | 0644, 0, &attr), ERR_EEXIST);
    FAILS(fs_mkdir(s.c, &root, 1, "..", 0755, &attr), ERR_EEXIST);
    FAILS(fs_symlink(s.c, &root, 1, ".", "t", &attr), ERR_EEXIST);
    FAILS(fs_rmdir(s.c, &root, 1, "."), ERR_EINVAL);
    FAILS(fs_rmdir(s.c, &root, 1, ".."), ERR_ENOTEMPTY);
    FAILS(fs_rename(s.c, &root, 1, ".", 1, "x", 0), ERR_EBUSY);
    FAILS(fs_rename(s.c, &root, 1, longest, 1, "..", 0), ERR_EBUSY);
    /* Any bytes but '/' are a name, UTF-8 or not. */
    OK(fs_mknod(s.c, &root, 1, "\xff\xfe\x80", S_IFREG | 0644, 0, &attr));
    OK(fs_lookup(s.c, 1, "\xff\xfe\x80", &attr));
}

CASE(names, dots_lead_to_the_directory_and_its_parent)
{
    struct fs_attr attr;
    uint64_t d = make_dir(&s, 1, "d");
    uint64_t e = make_dir(&s, d, "e");
    OK(fs_lookup(s.c, e, ".", &attr));
    cr_assert_eq(attr.ino, e);
    OK(fs_lookup(s.c, e, "..", &attr));
    cr_assert_eq(attr.ino, d);
    OK(fs_lookup(s.c, 1, "..", &attr));
    cr_assert_eq(attr.ino, 1);
    OK(fs_path_lookup(s.c, "/d/e/../e/", &attr));
    cr_assert_eq(attr.ino, e);
    FAILS(fs_path_lookup(s.c, "/d/x/y", &attr), ERR_ENOENT);
    FAILS(fs_path_lookup(s.c, "d", &attr), ERR_EINVAL);
}

CASE(names, every_type_is_made_with_its_mode)
{
    static const struct {
        uint32_t mode;
        uint32_t rdev;
    } kinds[] = {{S_IFREG | 04755, 0},
                 {S_IFIFO | 0600, 0},
                 {S_IFSOCK | 0777, 0},
                 {S_IFCHR | 0660, 0x103},
                 {S_IFBLK | 0640, 0x802}};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct fs_attr attr;
        char name[8];
        snprintf(name, sizeof(name), "n%zu", i);
        OK(fs_mknod(s.c, &user, 1, name, kinds[i].mode, kinds[i].rdev, &attr));
        attr = attr_of(&s, attr.ino);
        cr_assert_eq(attr.mode, kinds[i].mode);
        cr_assert_eq(attr.rdev, kinds[i].rdev);
        cr_assert_eq(attr.nlink, 1);
        cr_assert_eq(attr.uid, user.uid);
        cr_assert(attr.atime_ns == attr.mtime_ns && attr.mtime_ns == attr.ctime_ns &&
                  attr.ctime_ns == attr.btime_ns);
        struct fs_file *file;
        if (i) FAILS(fs_open_file(s.c, attr.ino, O_RDONLY, &file), ERR_ENXIO);
    }
    struct fs_attr attr;
    FAILS(fs_mknod(s.c, &root, 1, "dir", S_IFDIR | 0755, 0, &attr), ERR_EPERM);
}

CASE(names, parent_times_move_with_its_entries)
{
    uint64_t d = make_dir(&s, 1, "d");
    struct fs_attr before = attr_of(&s, d);
    make_file(&s, d, "f");
    struct fs_attr after = attr_of(&s, d);
    cr_assert_gt(after.mtime_ns, before.mtime_ns);
    cr_assert_eq(after.mtime_ns, after.ctime_ns);
    cr_assert_eq(after.atime_ns, before.atime_ns);
    OK(fs_unlink(s.c, &root, d, "f"));
    cr_assert_gt(attr_of(&s, d).mtime_ns, after.mtime_ns);
}

CASE(names, setgid_directories_hand_down_their_group)
{
    struct fs_attr attr;
    struct fs_attr set = {.mode = S_ISGID | 0777, .gid = 77};
    uint64_t d = make_dir(&s, 1, "d");
    OK(fs_setattr(s.c, &root, d, FS_SET_MODE | FS_SET_GID, &set, &attr));
    OK(fs_mknod(s.c, &user, d, "f", S_IFREG | 0644, 0, &attr));
    cr_assert_eq(attr.gid, 77);
    cr_assert_eq(attr_of(&s, attr.ino).gid, 77);
    OK(fs_mkdir(s.c, &user, d, "sub", 0755, &attr));
    cr_assert_eq(attr.gid, 77);
    cr_assert_eq(attr.mode, S_IFDIR | S_ISGID | 0755u);
    cr_assert_eq(attr_of(&s, attr.ino).mode, S_IFDIR | S_ISGID | 0755u);
    OK(fs_mkdir(s.c, &user, 1, "plain", 0755, &attr));
    cr_assert_eq(attr.gid, user.gid);
    /* The guess that mkdir makes of its parent is corrected when the parent changes. */
    set.mode = 0755;
    OK(fs_mkdir(s.c, &user, d, "sub2", 0755, &attr));
    OK(fs_setattr(s.c, &root, d, FS_SET_MODE, &set, &attr));
    OK(fs_mkdir(s.c, &user, d, "sub3", 0755, &attr));
    cr_assert_eq(attr.gid, user.gid);
}

CASE(names, symbolic_links_keep_their_targets)
{
    struct fs_attr attr;
    char target[FS_SYMLINK_SIZE_MAX + 1];
    OK(fs_symlink(s.c, &user, 1, "l", "some/where", &attr));
    cr_assert_eq(attr.size, 10);
    cr_assert_eq(attr.mode, S_IFLNK | 0777u);
    OK(fs_readlink(s.c, attr.ino, target));
    cr_assert_str_eq(target, "some/where");
    char big[FS_SYMLINK_SIZE_MAX + 2];
    memset(big, 't', sizeof(big));
    big[FS_SYMLINK_SIZE_MAX + 1] = 0;
    FAILS(fs_symlink(s.c, &user, 1, "big", big, &attr), ERR_ENAMETOOLONG);
    big[FS_SYMLINK_SIZE_MAX] = 0;
    OK(fs_symlink(s.c, &user, 1, "big", big, &attr));
    OK(fs_readlink(s.c, attr.ino, target));
    cr_assert_str_eq(target, big);
    FAILS(fs_symlink(s.c, &user, 1, "none", "", &attr), ERR_ENOENT);
    FAILS(fs_symlink(s.c, &user, 1, "l", "x", &attr), ERR_EEXIST);
    FAILS(fs_readlink(s.c, 1, target), ERR_EINVAL);
    struct fs_file *file;
    FAILS(fs_open_file(s.c, attr.ino, O_RDONLY, &file), ERR_ELOOP);
    FAILS(fs_open_file(s.c, 1, O_RDONLY, &file), ERR_EISDIR);
}

CASE(names, hard_links_count)
{
    struct fs_attr attr;
    uint64_t f = make_file(&s, 1, "f");
    uint64_t d = make_dir(&s, 1, "d");
    struct fs_attr before = attr_of(&s, f);
    OK(fs_link(s.c, f, d, "g", &attr));
    cr_assert_eq(attr.nlink, 2);
    cr_assert_eq(attr.ino, f);
    cr_assert_gt(attr.ctime_ns, before.ctime_ns);
    cr_assert_eq(attr.mtime_ns, before.mtime_ns);
    cr_assert_eq(find(&s, d, "g"), f);
    FAILS(fs_link(s.c, f, d, "g", &attr), ERR_EEXIST);
    FAILS(fs_link(s.c, d, 1, "e", &attr), ERR_EPERM);
    FAILS(fs_link(s.c, f, f, "e", &attr), ERR_ENOTDIR);
    FAILS(fs_link(s.c, f + 1000000, 1, "e", &attr), ERR_ENOENT);
    OK(fs_unlink(s.c, &root, 1, "f"));
    cr_assert_eq(attr_of(&s, f).nlink, 1);
    cr_assert_eq(attr_of(&s, f).parent, 0); /* not known any more */
    check_tree(&s, false);
    OK(fs_link(s.c, f, 1, "again", &attr));
    cr_assert_eq(attr.parent, 1);
    OK(fs_unlink(s.c, &root, d, "g"));
    OK(fs_unlink(s.c, &root, 1, "again"));
    cr_assert_eq(attr_of(&s, f).nlink, 0);
    FAILS(fs_link(s.c, f, 1, "ghost", &attr), ERR_ENOENT);
    forget(f);
    background_drain(s.fs);
    FAILS(fs_getattr(s.c, f, &attr), ERR_ESTALE);
}

CASE(names, seventy_thousand_links_are_allowed)
{
    /* Only the number itself is of interest, and the build without sanitizers has it. */
    enum { LINKS = SANITIZED ? 2000 : 70000 };
    struct fs_attr attr;
    uint64_t f = make_file(&s, 1, "f");
    uint64_t d = make_dir(&s, 1, "d");
    for (int i = 0; i < LINKS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        OK(fs_link(s.c, f, d, name, &attr));
    }
    cr_assert_eq(attr_of(&s, f).nlink, LINKS + 1);
}

CASE(names, unlink_reports_its_errors)
{
    uint64_t d = make_dir(&s, 1, "d");
    uint64_t f = make_file(&s, 1, "f");
    FAILS(fs_unlink(s.c, &root, 1, "none"), ERR_ENOENT);
    FAILS(fs_unlink(s.c, &root, 1, "d"), ERR_EISDIR);
    FAILS(fs_unlink(s.c, &root, f, "x"), ERR_ENOTDIR);
    FAILS(fs_rmdir(s.c, &root, 1, "none"), ERR_ENOENT);
    FAILS(fs_rmdir(s.c, &root, 1, "f"), ERR_ENOTDIR);
    make_file(&s, d, "inside");
    FAILS(fs_rmdir(s.c, &root, 1, "d"), ERR_ENOTEMPTY);
    OK(fs_unlink(s.c, &root, d, "inside"));
    make_dir(&s, d, "sub");
    FAILS(fs_rmdir(s.c, &root, 1, "d"), ERR_ENOTEMPTY);
    OK(fs_rmdir(s.c, &root, d, "sub"));
    OK(fs_rmdir(s.c, &root, 1, "d"));
    cr_assert_eq(attr_of(&s, 1).nlink, 2);
}

CASE(names, removed_directories_live_until_they_are_forgotten)
{
    struct fs_attr attr;
    uint64_t d = make_dir(&s, 1, "d");
    OK(fs_rmdir(s.c, &root, 1, "d"));
    background_drain(s.fs);
    cr_assert_eq(attr_of(&s, d).nlink, 0);
    FAILS(fs_mknod(s.c, &root, d, "f", S_IFREG | 0644, 0, &attr), ERR_ENOENT);
    FAILS(fs_mkdir(s.c, &root, d, "e", 0755, &attr), ERR_ENOENT);
    FAILS(fs_lookup(s.c, d, "f", &attr), ERR_ENOENT);
    uint64_t f = make_file(&s, 1, "f");
    FAILS(fs_link(s.c, f, d, "f", &attr), ERR_ENOENT);
    FAILS(fs_rename(s.c, &root, 1, "f", d, "f", 0), ERR_ENOENT);
    struct fs_dirent entries[4];
    uint32_t count;
    OK(fs_readdir(s.c, d, 0, false, entries, 4, &count));
    cr_assert_eq(count, 2);
    forget(d);
    background_drain(s.fs);
    FAILS(fs_getattr(s.c, d, &attr), ERR_ESTALE);
}

CASE(names, sticky_directories_protect_the_files_of_others)
{
    struct fs_attr attr;
    struct fs_attr set = {.mode = S_ISVTX | 0777};
    static const struct fs_caller other = {.uid = 2000, .gid = 2000};
    uint64_t d = make_dir(&s, 1, "d");
    OK(fs_setattr(s.c, &root, d, FS_SET_MODE, &set, &attr));
    OK(fs_mknod(s.c, &user, d, "f", S_IFREG | 0644, 0, &attr));
    OK(fs_mknod(s.c, &other, d, "g", S_IFREG | 0644, 0, &attr));
    OK(fs_mkdir(s.c, &user, d, "sub", 0777, &attr));
    FAILS(fs_unlink(s.c, &other, d, "f"), ERR_EPERM);
    FAILS(fs_rmdir(s.c, &other, d, "sub"), ERR_EPERM);
    FAILS(fs_rename(s.c, &other, d, "f", d, "h", 0), ERR_EPERM);
    FAILS(fs_rename(s.c, &other, d, "f", 1, "h", 0), ERR_EPERM);
    FAILS(fs_rename(s.c, &other, d, "g", d, "f", 0), ERR_EPERM);
    OK(fs_rename(s.c, &user, d, "f", d, "h", 0));
    OK(fs_unlink(s.c, &user, d, "h"));
    OK(fs_unlink(s.c, &root, d, "g"));
}

CASE(names, immutable_and_append_only_are_respected)
{
    struct fs_attr attr;
    uint64_t d = make_dir(&s, 1, "d");
    uint64_t f = make_file(&s, d, "f");
    FAILS(fs_flags_set(s.c, &user, f, FS_IMMUTABLE_FL), ERR_EPERM);
    FAILS(fs_flags_set(s.c, &root, f, FS_COMPR_FL), ERR_EOPNOTSUPP);
    OK(fs_flags_set(s.c, &root, f, FS_IMMUTABLE_FL));
    cr_assert_eq(attr_of(&s, f).flags, FS_IMMUTABLE_FL);
    FAILS(fs_unlink(s.c, &root, d, "f"), ERR_EPERM);
    FAILS(fs_rename(s.c, &root, d, "f", d, "g", 0), ERR_EPERM);
    FAILS(fs_rename(s.c, &root, d, "f", 1, "g", 0), ERR_EPERM);
    FAILS(fs_link(s.c, f, d, "g", &attr), ERR_EPERM);
    struct fs_attr set = {.mode = 0600, .size = 10};
    FAILS(fs_setattr(s.c, &root, f, FS_SET_MODE, &set, &attr), ERR_EPERM);
    FAILS(fs_setattr(s.c, &root, f, FS_SET_SIZE, &set, &attr), ERR_EPERM);
    FAILS(fs_setattr(s.c, &root, f, FS_SET_UID, &set, &attr), ERR_EPERM);
    FAILS(fs_setattr(s.c, &root, f, FS_SET_MTIME_NOW, &set, &attr), ERR_EPERM);
    FAILS(fs_xattr_set(s.c, &root, f, "user.a", "1", 1, 0), ERR_EPERM);
    struct fs_file *file;
    FAILS(fs_open_file(s.c, f, O_WRONLY, &file), ERR_EPERM);
    OK(fs_open_file(s.c, f, O_RDONLY, &file));
    OK(fs_release_file(s.c, file));
    OK(fs_flags_set(s.c, &root, f, FS_APPEND_FL));
    FAILS(fs_open_file(s.c, f, O_WRONLY, &file), ERR_EPERM);
    FAILS(fs_open_file(s.c, f, O_WRONLY | O_APPEND | O_TRUNC, &file), ERR_EPERM);
    OK(fs_open_file(s.c, f, O_WRONLY | O_APPEND, &file));
    OK(fs_release_file(s.c, file));
    FAILS(fs_unlink(s.c, &root, d, "f"), ERR_EPERM);
    OK(fs_setattr(s.c, &root, f, FS_SET_MTIME_NOW, &set, &attr));
    FAILS(fs_setattr(s.c, &root, f, FS_SET_MTIME, &set, &attr), ERR_EPERM);
    OK(fs_flags_set(s.c, &root, f, FS_NODUMP_FL));
    OK(fs_flags_set(s.c, &root, d, FS_IMMUTABLE_FL));
    FAILS(fs_mknod(s.c, &root, d, "g", S_IFREG | 0644, 0, &attr), ERR_EPERM);
    FAILS(fs_mknod(s.c, &root, d, "f", S_IFREG | 0644, 0, &attr), ERR_EEXIST);
    FAILS(fs_mkdir(s.c, &root, d, "g", 0755, &attr), ERR_EPERM);
    FAILS(fs_unlink(s.c, &root, d, "f"), ERR_EPERM);
    FAILS(fs_rename(s.c, &root, d, "f", 1, "f", 0), ERR_EPERM);
    uint64_t g = make_file(&s, 1, "g");
    FAILS(fs_rename(s.c, &root, 1, "g", d, "g", 0), ERR_EPERM);
    FAILS(fs_link(s.c, g, d, "g", &attr), ERR_EPERM);
    FAILS(fs_rmdir(s.c, &root, 1, "d"), ERR_EPERM);
    OK(fs_flags_set(s.c, &root, d, FS_APPEND_FL));
    make_file(&s, d, "added");
    FAILS(fs_unlink(s.c, &root, d, "added"), ERR_EPERM);
    FAILS(fs_rename(s.c, &root, d, "added", d, "x", 0), ERR_EPERM);
    OK(fs_flags_set(s.c, &root, d, 0));
    OK(fs_unlink(s.c, &root, d, "added"));
}

CASE(names, files_live_as_long_as_somebody_refers_to_them)
{
    struct fs_attr attr;
    struct fs_file *file;
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "data", 4);
    OK(fs_unlink(s.c, &root, 1, "f"));
    forget(attr.ino);
    background_drain(s.fs);
    cr_assert_eq(attr_of(&s, attr.ino).nlink, 0); /* it is open */
    char bytes[8];
    cr_assert_eq(read_at(&s, file, 0, bytes, 8), 4);
    write_at(&s, file, 4, "more", 4);
    cr_assert_eq(read_at(&s, file, 0, bytes, 8), 8);
    cr_assert_eq(count_objects(&s), 1);
    OK(fs_release_file(s.c, file));
    background_drain(s.fs);
    struct fs_attr gone;
    FAILS(fs_getattr(s.c, attr.ino, &gone), ERR_ESTALE);
    cr_assert_eq(count_objects(&s), 0);
}

CASE(names, create_opens_what_exists_unless_exclusive)
{
    struct fs_attr attr;
    struct fs_attr again;
    struct fs_file *file;
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "data", 4);
    OK(fs_release_file(s.c, file));
    FAILS(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR | O_EXCL, &again, &file), ERR_EEXIST);
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR, &again, &file));
    cr_assert_eq(again.ino, attr.ino);
    cr_assert_eq(again.size, 4);
    OK(fs_release_file(s.c, file));
    OK(fs_create_file(s.c, &root, 1, "f", 0600, O_RDWR | O_TRUNC, &again, &file));
    cr_assert_eq(again.size, 0);
    OK(fs_release_file(s.c, file));
    make_dir(&s, 1, "d");
    FAILS(fs_create_file(s.c, &root, 1, "d", 0600, O_RDWR, &again, &file), ERR_EISDIR);
}
