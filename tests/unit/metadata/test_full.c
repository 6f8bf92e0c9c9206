/* A device without space: writes say so, nothing else suffers. Needs to mount a small tmpfs in a
 * namespace of its own, so it is skipped for ordinary users.
 *
 * A database without memory: nothing can be made, everything can be taken away. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "tests/unit/metadata/checker.h"
#include "tests/unit/sanitized.h"

Test(full, a_full_device_is_enospc_and_recovers, .timeout = 120)
{
    static struct store s;
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        cr_skip_test("cannot have a mount namespace");
    s = (struct store){.workers = 1, .relatime = true};
    strcpy(s.dir, "/tmp/trellis-fs-XXXXXX");
    cr_assert(mkdtemp(s.dir));
    snprintf(s.db_dir, sizeof(s.db_dir), "%s/db", s.dir);
    snprintf(s.data_dir, sizeof(s.data_dir), "%s/data", s.dir);
    cr_assert_eq(mkdir(s.data_dir, 0700), 0);
    if (mount("tmpfs", s.data_dir, "tmpfs", 0, "size=512k")) {
        store_remove(&s);
        cr_skip_test("cannot mount a tmpfs");
    }
    store_open(&s);
    struct fs_attr attr;
    struct fs_file *file;
    static char bytes[65536];
    memset(bytes, 'x', sizeof(bytes));
    OK(fs_create_file(s.c, &root, 1, "big", 0600, O_RDWR, &attr, &file));
    enum err err = ERR_NONE;
    uint64_t written = 0;
    while (!err && written < 1 << 20) {
        struct waited_io w = {
            .io = {.file = file, .offset = written, .size = sizeof(bytes), .bytes = bytes}};
        uint64_t done = 0;
        err = io_wait(&s, &w, fs_write, &done);
        written += err ? 0 : done;
    }
    cr_assert_eq(err, ERR_ENOSPC);
    cr_assert_gt(written, 0);
    cr_assert_eq(attr_of(&s, attr.ino).size, written);
    /* Names need no space on the device. */
    make_file(&s, 1, "small");
    (void)make_dir(&s, 1, "d");
    struct fs_statfs statfs;
    OK(fs_statfs(s.c, &statfs));
    cr_assert_lt(statfs.bytes_available, 8192);
    OK(fs_unlink(s.c, &root, 1, "big"));
    OK(fs_release_file(s.c, file));
    fs_forget(s.c, attr.ino, 1);
    background_drain(s.fs);
    OK(fs_create_file(s.c, &root, 1, "again", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, bytes, sizeof(bytes));
    OK(fs_release_file(s.c, file));
    check_tree(&s, false);
    store_close(&s);
    cr_assert_eq(umount(s.data_dir), 0);
    store_remove(&s);
}

static void name_of(char name[16], const char *prefix, uint32_t number)
{
    snprintf(name, 16, "%s%u", prefix, number);
}

Test(full, a_full_database_can_be_emptied_and_filled_again, .timeout = 300)
{
    static struct store s;
    store_new_limited(&s, 2, SANITIZED ? 3 << 20 : 4 << 20);
    struct fs_attr attr;
    struct fs_file *file;
    char name[16];
    static char bytes[65536];
    OK(fs_create_file(s.c, &root, 1, "cut", 0600, O_RDWR, &attr, &file));
    write_at(&s, file, 0, bytes, sizeof(bytes));
    OK(fs_flush_file(s.c, file));
    uint64_t cut = attr.ino;
    for (int round = 0; round < 2; round++) {
        uint32_t files = 0, dirs = 0;
        enum err err = ERR_NONE;
        while (!err) {
            name_of(name, "f", files);
            err = fs_mknod(s.c, &root, 1, name, S_IFREG | 0644, 0, &attr);
            if (!err) fs_forget(s.c, attr.ino, 1);
            files += !err;
            if (err || files % 8) continue;
            name_of(name, "d", dirs);
            err = fs_mkdir(s.c, &root, 1, name, 0755, &attr);
            if (!err) fs_forget(s.c, attr.ino, 1);
            dirs += !err;
        }
        cr_assert_eq(err, ERR_NO_SPACE, "%s", err_name(err));
        cr_assert_gt(files, 1000);
        /* What is there is cut, replaced, and goes. */
        attr = (struct fs_attr){.size = 1000u - (unsigned)round};
        OK(fs_setattr(s.c, &root, cut, FS_SET_SIZE, &attr, &attr));
        OK(fs_rename(s.c, &root, 1, "f1", 1, "f0", 0));
        for (uint32_t i = 0; i < files; i++) {
            if (i == 1) continue;
            name_of(name, "f", i);
            OK(fs_unlink(s.c, &root, 1, name));
        }
        for (uint32_t i = 0; i < dirs; i++) {
            name_of(name, "d", i);
            OK(fs_rmdir(s.c, &root, 1, name));
        }
        background_drain(s.fs);
    }
    OK(fs_release_file(s.c, file));
    fs_forget(s.c, cut, 1);
    check_tree(&s, false);
    store_end(&s);
}
