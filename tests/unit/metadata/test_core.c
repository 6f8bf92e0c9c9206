/* The shortest way through everything a mount needs first. */
#include <fcntl.h>

#include "tests/unit/metadata/fixture.h"

static void run_core(uint16_t workers)
{
    struct store s;
    store_new(&s, workers);
    struct fs_attr attr;
    OK(fs_getattr(s.c, FS_ROOT_INO, &attr));
    cr_assert_eq(attr.nlink, 2);
    cr_assert(S_ISDIR(attr.mode));

    OK(fs_mknod(s.c, &user, FS_ROOT_INO, "a", S_IFREG | 0640, 0, &attr));
    cr_assert_eq(attr.uid, 1000);
    cr_assert_eq(attr.gid, 100);
    uint64_t a = attr.ino;
    FAILS(fs_mknod(s.c, &user, FS_ROOT_INO, "a", S_IFREG | 0640, 0, &attr), ERR_EEXIST);
    struct fs_attr got;
    OK(fs_lookup(s.c, FS_ROOT_INO, "a", &got));
    cr_assert_eq(got.ino, a);
    cr_assert_eq(got.mode, S_IFREG | 0640u);
    FAILS(fs_lookup(s.c, FS_ROOT_INO, "b", &got), ERR_ENOENT);
    FAILS(fs_lookup(s.c, a, "b", &got), ERR_ENOTDIR);
    FAILS(fs_lookup(s.c, a, "..", &got), ERR_ENOTDIR);
    OK(fs_lookup(s.c, a, ".", &got));
    cr_assert_eq(got.ino, a);
    FAILS(fs_path_lookup(s.c, "/a/.", &got), ERR_ENOTDIR);
    OK(fs_path_lookup(s.c, "/.", &got));

    uint64_t d = make_dir(&s, FS_ROOT_INO, "d");
    cr_assert_eq(attr_of(&s, FS_ROOT_INO).nlink, 3);
    OK(fs_lookup(s.c, FS_ROOT_INO, "d", &got));
    cr_assert_eq(got.ino, d);
    cr_assert_eq(got.parent, FS_ROOT_INO);
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%d", i);
        make_file(&s, d, name);
    }
    uint64_t cookie = 0;
    uint32_t total = 0;
    for (;;) {
        struct fs_dirent entries[37];
        uint32_t count;
        OK(fs_readdir(s.c, d, cookie, true, entries, 37, &count));
        if (count == 0) break;
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_gt(entries[i].cookie, cookie);
            cookie = entries[i].cookie;
            total++;
            if (entries[i].name[0] == 'f') cr_assert(entries[i].has_attr);
        }
    }
    cr_assert_eq(total, 302);

    struct fs_file *file;
    OK(fs_create_file(s.c, &root, d, "data", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, "hello", 5);
    write_at(&s, file, 100, "world", 5);
    cr_assert_eq(attr_of(&s, attr.ino).size, 105);
    char bytes[200];
    cr_assert_eq(read_at(&s, file, 0, bytes, sizeof(bytes)), 105);
    cr_assert(memcmp(bytes, "hello\0\0", 7) == 0 && memcmp(bytes + 100, "world", 5) == 0);
    OK(fs_flush_file(s.c, file));
    OK(fs_release_file(s.c, file));
    cr_assert_eq(attr_of(&s, attr.ino).size, 105);

    store_close(&s);
    store_open(&s);
    cr_assert_eq(find(&s, FS_ROOT_INO, "a"), a);
    uint64_t data = find(&s, d, "data");
    cr_assert_eq(attr_of(&s, data).size, 105);
    OK(fs_open_file(s.c, data, O_RDONLY, &file));
    cr_assert_eq(read_at(&s, file, 0, bytes, sizeof(bytes)), 105);
    cr_assert(memcmp(bytes, "hello\0\0", 7) == 0 && memcmp(bytes + 100, "world", 5) == 0);
    OK(fs_release_file(s.c, file));
    store_end(&s);
}

Test(core, works_with_one_worker)
{
    run_core(1);
}

Test(core, works_with_two_workers)
{
    run_core(2);
}

Test(core, works_with_four_workers)
{
    run_core(4);
}

/* The count of workers in a node that is started again changes at any moment. */
Test(core, an_inode_is_in_one_group_whatever_the_count_of_workers_becomes)
{
    struct store s;
    store_new(&s, 3);
    const struct fs apart = {.partition_mask = s.fs->partition_mask}; /* without a database */
    for (uint64_t home = 0; home < 1 << 16; home += 7) {
        uint64_t ino = home << HOME_SHIFT | 5;
        cr_assert_eq(inode_group(s.fs, ino, 3), db_slot_worker(s.db, (uint16_t)home));
        for (uint16_t groups = 1; groups <= 64; groups *= 2) {
            cr_assert_lt(inode_group(&apart, ino, groups), groups);
            cr_assert_eq(inode_group(&apart, ino, groups), inode_group(s.fs, ino, groups));
        }
    }
    store_end(&s);
}
