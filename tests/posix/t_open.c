/* open(2) and creat(2). */
#include "tests/posix/suite.h"

#include <stdlib.h>
#include <sys/ioctl.h>

CASE(open, creates_a_file)
{
    struct timespec start;
    (void)clock_gettime(CLOCK_REALTIME, &start);
    int fd = open_file("f", O_CREAT | O_RDWR, 0640);
    struct stat attr = FSTAT(fd);
    EXPECT(S_ISREG(attr.st_mode));
    EXPECT_EQ(attr.st_mode & 07777, 0640);
    EXPECT_EQ(attr.st_size, 0);
    EXPECT_EQ(attr.st_blocks, 0);
    EXPECT_EQ(attr.st_nlink, 1);
    EXPECT_EQ(attr.st_uid, geteuid());
    EXPECT_EQ(attr.st_gid, getegid());
    EXPECT(attr.st_mtim.tv_sec >= start.tv_sec - 1 && attr.st_mtim.tv_sec <= start.tv_sec + 5);
    EXPECT_EQ(time_compare(attr.st_mtim, attr.st_ctim), 0);
    EXPECT_EQ(time_compare(attr.st_atim, attr.st_mtim), 0);
    EXPECT_EQ(STAT("f").st_ino, attr.st_ino);
}

CASE(open, creat_is_open_for_writing_and_truncating)
{
    make_file("f", 0644, "old content");
    int fd = (int)EXPECT_OK(creat("f", 0600));
    EXPECT_EQ(FSTAT(fd).st_size, 0);
    EXPECT_EQ(PERMS("f"), 0644);
    char byte;
    EXPECT_ERR(read(fd, &byte, 1), EBADF);
    EXPECT_EQ(write(fd, "new", 3), 3);
    EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    EXPECT_CONTENT("f", "new");
}

CASE(open, belongs_to_the_user_who_creates)
{
    AS(user_a)
    {
        (void)umask(0);
        int fd = open_file("f", O_CREAT | O_WRONLY, 0666);
        EXPECT_EQ(FSTAT(fd).st_uid, UID_A);
        EXPECT_EQ(FSTAT(fd).st_gid, GID_A);
        EXPECT_EQ(PERMS("f"), 0666);
    }
}

CASE(open, applies_the_umask)
{
    static const struct {
        mode_t mask, mode, made;
    } table[] = {{0, 0777, 0777},   {022, 0666, 0644}, {077, 0777, 0700}, {0777, 0777, 0},
                 {027, 0666, 0640}, {0, 0, 0},         {0111, 0777, 0666}};
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        (void)umask(table[i].mask);
        int fd = open_file("f", O_CREAT | O_EXCL | O_WRONLY, table[i].mode);
        EXPECT_EQ(FSTAT(fd).st_mode & 07777, table[i].made);
        (void)close(fd);
        REQUIRE_OK(unlink("f"));
    }
}

CASE(open, keeps_special_mode_bits)
{
    (void)umask(0);
    int fd = open_file("f", O_CREAT | O_WRONLY, 07777);
    EXPECT_EQ(FSTAT(fd).st_mode & 07777, 07777);
}

CASE(open, exclusive_refuses_what_exists)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 5; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(open("node", O_CREAT | O_EXCL | O_RDONLY, 0644), EEXIST);
        EXPECT_ERR(open("node", O_CREAT | O_EXCL | O_WRONLY | O_TRUNC, 0644), EEXIST);
        REQUIRE_OK(remove("node"));
    }
    make_file("file", 0644, "content");
    REQUIRE_OK(symlink("file", "link"));
    EXPECT_ERR(open("link", O_CREAT | O_EXCL | O_WRONLY | O_TRUNC, 0644), EEXIST);
    EXPECT_CONTENT("file", "content");
}

CASE(open, exclusive_does_not_create_through_a_dangling_symlink)
{
    REQUIRE_OK(symlink("target", "link"));
    EXPECT_ERR(open("link", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
    EXPECT(!exists("target"));
}

CASE(open, creates_through_a_dangling_symlink)
{
    make_dir("d", 0755);
    REQUIRE_OK(symlink("d/target", "link"));
    int fd = open_file("link", O_CREAT | O_WRONLY, 0644);
    EXPECT_EQ(FSTAT(fd).st_ino, STAT("d/target").st_ino);
    EXPECT(S_ISLNK(STAT("link").st_mode));
}

CASE(open, create_leaves_an_existing_file_alone)
{
    make_file("f", 0604, "content");
    struct stat before = STAT("f");
    tick();
    int fd = open_file("f", O_CREAT | O_RDWR, 0777);
    EXPECT_SAME(before, FSTAT(fd));
    EXPECT_CONTENT("f", "content");
}

CASE(open, truncates)
{
    make_file("f", 0644, "some content");
    struct stat before = STAT("f");
    tick();
    int fd = open_file("f", O_WRONLY | O_TRUNC, 0);
    EXPECT_EQ(FSTAT(fd).st_size, 0);
    EXPECT_EQ(FSTAT(fd).st_blocks, 0);
    EXPECT_TIMES(before, FSTAT(fd), "mc");
    EXPECT_EQ(FSTAT(fd).st_ino, before.st_ino);
}

CASE(open, truncating_an_empty_file_changes_its_times)
{
    make_file("f", 0644, NULL);
    struct stat before = STAT("f");
    tick();
    int fd = open_file("f", O_WRONLY | O_TRUNC, 0);
    EXPECT_TIMES(before, FSTAT(fd), "mc");
}

CASE(open, truncating_needs_write_permission)
{
    make_file("f", 0644, "content");
    AS(user_a)
    {
        EXPECT_ERR(open("f", O_RDONLY | O_TRUNC), EACCES);
        EXPECT_ERR(open("f", O_WRONLY | O_TRUNC), EACCES);
        EXPECT_ERR(open("f", O_CREAT | O_RDONLY | O_TRUNC, 0644), EACCES);
    }
    EXPECT_CONTENT("f", "content");
}

CASE(open, append_writes_at_the_end)
{
    make_file("f", 0644, "one");
    int fd = open_file("f", O_RDWR | O_APPEND, 0);
    int other = open_file("f", O_WRONLY, 0);
    EXPECT_EQ(write(fd, "two", 3), 3);
    EXPECT_EQ(pwrite(other, "three", 5, 6), 5);
    EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
    EXPECT_EQ(write(fd, "four", 4), 4);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 15);
    EXPECT_CONTENT("f", "onetwothreefour");
}

CASE(open, append_wins_over_the_offset_of_pwrite)
{
    make_file("f", 0644, "0123");
    int fd = open_file("f", O_WRONLY | O_APPEND, 0);
    EXPECT_EQ(pwrite(fd, "x", 1, 0), 1);
    EXPECT_CONTENT("f", "0123x");
    EXPECT_OK(fcntl(fd, F_SETFL, 0)); /* the flag can be taken back */
    EXPECT_EQ(pwrite(fd, "y", 1, 0), 1);
    EXPECT_CONTENT("f", "y123x");
}

CASE(open, directory_flag)
{
    make_dir("d", 0755);
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("d", "ld"));
    REQUIRE_OK(symlink("f", "lf"));
    EXPECT_OK(open("d", O_DIRECTORY));
    EXPECT_OK(open("ld", O_DIRECTORY));
    EXPECT_ERR(open("f", O_DIRECTORY), ENOTDIR);
    EXPECT_ERR(open("lf", O_DIRECTORY), ENOTDIR);
    EXPECT_ERR(open("missing", O_DIRECTORY), ENOENT);
}

CASE(open, nofollow_refuses_symlinks)
{
    make_file("f", 0644, "x");
    make_dir("d", 0755);
    REQUIRE_OK(symlink("f", "lf"));
    REQUIRE_OK(symlink("d", "ld"));
    REQUIRE_OK(symlink("missing", "dangling"));
    EXPECT_ERR(open("lf", O_RDONLY | O_NOFOLLOW), ELOOP);
    EXPECT_ERR(open("dangling", O_RDONLY | O_NOFOLLOW), ELOOP);
    EXPECT_ERR(open("dangling", O_CREAT | O_WRONLY | O_NOFOLLOW, 0644), ELOOP);
    EXPECT_ERR2(open("ld", O_DIRECTORY | O_NOFOLLOW), ENOTDIR, ELOOP);
    EXPECT_OK(open("f", O_RDONLY | O_NOFOLLOW));
    make_file("d/g", 0644, "x");
    EXPECT_OK(open("ld/g", O_RDONLY | O_NOFOLLOW)); /* only the last component counts */
    EXPECT(!exists("missing"));
}

CASE(open, path_descriptor_names_a_symlink)
{
    REQUIRE_OK(symlink("some target", "link"));
    int fd = (int)EXPECT_OK(open("link", O_PATH | O_NOFOLLOW));
    EXPECT(S_ISLNK(FSTAT(fd).st_mode));
    char target[64] = {0};
    EXPECT_EQ(readlinkat(fd, "", target, sizeof(target)), 11);
    EXPECT_STR(target, "some target");
    EXPECT_OK(fchownat(fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

CASE(open, path_descriptor_reads_and_writes_nothing)
{
    make_file("f", 0, "x"); /* needs no permission either */
    int fd = (int)EXPECT_OK(open("f", O_PATH));
    char byte = 0;
    EXPECT_ERR(read(fd, &byte, 1), EBADF);
    EXPECT_ERR(write(fd, &byte, 1), EBADF);
    EXPECT_ERR(fchmod(fd, 0777), EBADF);
    EXPECT_ERR(fchown(fd, 0, 0), EBADF);
    EXPECT_ERR(ftruncate(fd, 0), EBADF);
    EXPECT_ERR(fsync(fd), EBADF);
    EXPECT_EQ(FSTAT(fd).st_size, 1);
    EXPECT_EQ(FSTAT(fd).st_ino, STAT("f").st_ino);
}

CASE(open, path_descriptor_of_a_directory_is_a_start)
{
    make_dir("d", 0755);
    int fd = (int)EXPECT_OK(open("d", O_PATH | O_DIRECTORY));
    EXPECT_OK(mkdirat(fd, "e", 0755));
    EXPECT_OK(fchdir(fd));
    EXPECT(exists("e"));
}

CASE(open, path_descriptor_needs_only_search)
{
    make_file("secret", 0600, "x");
    AS(user_a)
    {
        EXPECT_ERR(open("secret", O_RDONLY), EACCES);
        int fd = (int)EXPECT_OK(open("secret", O_PATH));
        EXPECT_EQ(FSTAT(fd).st_size, 1);
    }
}

CASE(open, temporary_file_has_no_name_or_is_refused)
{
    make_dir("d", 0755);
    int fd = open("d", O_TMPFILE | O_RDWR, 0600);
    if (fd == -1) {
        EXPECT_EQ(errno, EOPNOTSUPP);
    } else {
        EXPECT_EQ(FSTAT(fd).st_nlink, 0);
        EXPECT_EQ(write(fd, "data", 4), 4);
        EXPECT_EQ(count_entries("d"), 0);
        EXPECT_OK(linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
        EXPECT_CONTENT("named", "data");
    }
    EXPECT_EQ(count_entries("d"), 0);
    EXPECT_ERR(open("d", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

CASE(open, directories_are_not_opened_for_writing)
{
    make_dir("d", 0777);
    EXPECT_ERR(open("d", O_WRONLY), EISDIR);
    EXPECT_ERR(open("d", O_RDWR), EISDIR);
    EXPECT_ERR(open("d", O_CREAT, 0644), EISDIR);
    EXPECT_ERR(open("d", O_CREAT | O_WRONLY, 0644), EISDIR);
    EXPECT_ERR(open("d", O_RDONLY | O_TRUNC), EISDIR);
    EXPECT_ERR(creat("d", 0644), EISDIR);
    EXPECT_ERR(open(".", O_WRONLY), EISDIR);
    EXPECT_ERR(open("d/..", O_RDWR), EISDIR);
}

CASE(open, reading_a_directory_is_refused)
{
    make_dir("d", 0755);
    int fd = open_file("d", O_RDONLY, 0);
    char byte;
    EXPECT_ERR(read(fd, &byte, 1), EISDIR);
    EXPECT_ERR(pread(fd, &byte, 1, 0), EISDIR);
    EXPECT_ERR(write(fd, "x", 1), EBADF);
}

CASE(open, fifo_for_writing_without_a_reader)
{
    REQUIRE_OK(mkfifo("fifo", 0644));
    EXPECT_ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = (int)EXPECT_OK(open("fifo", O_RDONLY | O_NONBLOCK));
    int writer = (int)EXPECT_OK(open("fifo", O_WRONLY | O_NONBLOCK));
    EXPECT_EQ(write(writer, "through", 7), 7);
    char found[8] = {0};
    EXPECT_EQ(read(reader, found, 7), 7);
    EXPECT_STR(found, "through");
    EXPECT_EQ(STAT("fifo").st_size, 0);
}

CASE(open, sockets_are_not_opened)
{
    REQUIRE_OK(mknod("socket", S_IFSOCK | 0666, 0));
    EXPECT_ERR(open("socket", O_RDONLY), ENXIO);
    EXPECT_ERR(open("socket", O_WRONLY), ENXIO);
    EXPECT_OK(open("socket", O_PATH));
}

CASE(open, mode_of_the_new_file_does_not_bind_its_descriptor)
{
    AS(user_a)
    {
        int fd = open_file("f", O_CREAT | O_RDWR, 0);
        EXPECT_EQ(PERMS("f"), 0);
        EXPECT_EQ(write(fd, "x", 1), 1);
        EXPECT_BYTES(fd, "x", 1, 0);
        EXPECT_ERR(open("f", O_RDONLY), EACCES);
        EXPECT_ERR(open("f", O_WRONLY), EACCES);
        EXPECT_ERR(open("f", O_CREAT | O_RDONLY, 0644), EACCES);
    }
}

CASE(open, permissions_are_those_of_the_class)
{
    need_root();
    /* Only the first class that fits counts: an owner without permission is not helped by others'.
     */
    static const struct {
        const char *name;
        uid_t uid;
        gid_t gid;
        int shift;
    } classes[] = {{"owner", UID_A, GID_TEAM, 6},
                   {"group", 0, GID_A, 3},
                   {"supplementary", 0, GID_TEAM, 3},
                   {"other", UID_B, GID_B, 0}};
    for (unsigned c = 0; c < sizeof(classes) / sizeof(classes[0]); c++) {
        for (mode_t bits = 0; bits < 8; bits++) {
            mode_t others = (mode_t)(0777 & ~(7 << classes[c].shift));
            make_file("f", 0600, "x");
            REQUIRE_OK(chown("f", classes[c].uid, classes[c].gid));
            REQUIRE_OK(chmod("f", others | (mode_t)(bits << classes[c].shift)));
            AS(user_a)
            {
                int fd = open("f", O_RDONLY);
                EXPECT_EQ(fd != -1, (bits & 4) != 0);
                EXPECT(fd != -1 || errno == EACCES);
                fd = open("f", O_WRONLY);
                EXPECT_EQ(fd != -1, (bits & 2) != 0);
                EXPECT(fd != -1 || errno == EACCES);
                fd = open("f", O_RDWR);
                EXPECT_EQ(fd != -1, (bits & 6) == 6);
                EXPECT_EQ(access("f", X_OK) == 0, (bits & 1) != 0);
            }
            REQUIRE_OK(unlink("f"));
        }
    }
}

CASE(open, root_needs_no_permission)
{
    need_root();
    make_file("f", 0, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    EXPECT_OK(open("f", O_RDWR));
    make_dir("d", 0);
    REQUIRE_OK(chown("d", UID_A, GID_A));
    int fd = (int)EXPECT_OK(open("d/f", O_CREAT | O_RDWR, 0644));
    EXPECT_EQ(FSTAT(fd).st_uid, 0);
    EXPECT_EQ(count_entries("d"), 1);
}

CASE(open, permission_is_checked_once)
{
    AS(user_a)
    {
        make_file("f", 0600, "content");
        int fd = open_file("f", O_RDWR, 0);
        REQUIRE_OK(chmod("f", 0));
        EXPECT_ERR(open("f", O_RDONLY), EACCES);
        EXPECT_BYTES(fd, "content", 7, 0);
        EXPECT_EQ(pwrite(fd, "C", 1, 0), 1);
        EXPECT_OK(ftruncate(fd, 3));
    }
    EXPECT_CONTENT("f", "Con");
}

CASE(open, noatime_is_for_the_owner)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    AS(user_a)
    {
        EXPECT_OK(open("f", O_RDONLY | O_NOATIME));
    }
    AS(user_b)
    {
        EXPECT_ERR(open("f", O_RDONLY | O_NOATIME), EPERM);
    }
}

CASE(open, descriptors_of_one_file_have_their_own_offsets)
{
    make_file("f", 0644, "0123456789");
    int one = open_file("f", O_RDONLY, 0);
    int two = open_file("f", O_RDONLY, 0);
    int copy = dup(one);
    char bytes[4] = {0};
    EXPECT_EQ(read(one, bytes, 3), 3);
    EXPECT_STR(bytes, "012");
    EXPECT_EQ(read(two, bytes, 3), 3);
    EXPECT_STR(bytes, "012");
    EXPECT_EQ(read(copy, bytes, 3), 3);
    EXPECT_STR(bytes, "345");
    EXPECT_EQ(lseek(one, 0, SEEK_CUR), 6);
}

CASE(open, descriptor_follows_a_rename)
{
    make_file("f", 0644, "content");
    make_dir("d", 0755);
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(rename("f", "d/g"));
    make_file("f", 0644, "another file");
    EXPECT_BYTES(fd, "content", 7, 0);
    EXPECT_EQ(pwrite(fd, "CONTENT", 7, 0), 7);
    EXPECT_CONTENT("d/g", "CONTENT");
    EXPECT_CONTENT("f", "another file");
    EXPECT_EQ(FSTAT(fd).st_ino, STAT("d/g").st_ino);
}

CASE(open, synchronous_writes)
{
    static const int flags[] = {O_SYNC, O_DSYNC, O_SYNC | O_APPEND};
    for (unsigned i = 0; i < 3; i++) {
        int fd = open_file("f", O_CREAT | O_TRUNC | O_RDWR | flags[i], 0644);
        EXPECT_EQ(write(fd, "written through", 15), 15);
        EXPECT_BYTES(fd, "written through", 15, 0);
        EXPECT_EQ(FSTAT(fd).st_size, 15);
        (void)close(fd);
    }
}

CASE(open, direct_io_or_none)
{
    int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
    if (fd == -1) {
        EXPECT_EQ(errno, EINVAL);
        return;
    }
    size_t size = 65536;
    char *bytes = aligned_alloc(4096, size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, 1);
    EXPECT_EQ(pwrite(fd, bytes, size, 0), size);
    EXPECT_EQ(FSTAT(fd).st_size, size);
    char *found = aligned_alloc(4096, size);
    REQUIRE(found != NULL);
    EXPECT_EQ(pread(fd, found, size, 0), size);
    EXPECT(memcmp(bytes, found, size) == 0);
    /* What was written directly is what a cached reader sees, and the other way round. */
    int cached = open_file("f", O_RDWR, 0);
    EXPECT_BYTES(cached, bytes, size, 0);
    pattern_fill(bytes, 4096, 0, 2);
    EXPECT_EQ(pwrite(cached, bytes, 4096, 4096), 4096);
    EXPECT_EQ(pread(fd, found, 4096, 4096), 4096);
    EXPECT(memcmp(bytes, found, 4096) == 0);
    pattern_fill(bytes, 4096, 0, 3);
    EXPECT_EQ(pwrite(fd, bytes, 4096, 8192), 4096);
    EXPECT_BYTES(cached, bytes, 4096, 8192);
    EXPECT_EQ(pread(fd, found, size, (off_t)size), 0);
    free(bytes);
    free(found);
}

CASE(open, many_descriptors_of_one_file)
{
    make_file("f", 0644, "x");
    int fds[500];
    for (int i = 0; i < 500; i++)
        fds[i] = open_file("f", i % 2 ? O_RDONLY : O_RDWR, 0);
    REQUIRE_OK(unlink("f"));
    for (int i = 0; i < 499; i++)
        EXPECT_OK(close(fds[i]));
    EXPECT_BYTES(fds[499], "x", 1, 0);
}

CASE(open, create_fails_in_a_removed_directory)
{
    make_dir("d", 0755);
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(rmdir("d"));
    EXPECT_ERR(openat(dir, "f", O_CREAT | O_WRONLY, 0644), ENOENT);
    EXPECT_ERR(openat(dir, "f", O_RDONLY), ENOENT);
}

CASE(open, of_255_byte_name)
{
    const char *name = long_name(255);
    int fd = open_file(name, O_CREAT | O_EXCL | O_RDWR, 0644);
    EXPECT_EQ(FSTAT(fd).st_ino, STAT(name).st_ino);
    EXPECT_ERR(open(name, O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    EXPECT_OK(unlink(name));
    EXPECT(!exists(name));
}

CASE(open, reopened_through_proc)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDONLY, 0);
    REQUIRE_OK(rename("f", "g"));
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = (int)EXPECT_OK(open(path, O_RDWR));
    EXPECT_EQ(pwrite(again, "X", 1, 0), 1);
    EXPECT_CONTENT("g", "Xontent");
    REQUIRE_OK(unlink("g"));
    int late = (int)EXPECT_OK(open(path, O_RDONLY)); /* also of a file without a name */
    EXPECT_BYTES(late, "Xontent", 7, 0);
}

/* ---- by handle, as an NFS server does ---- */

struct handle {
    struct file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
};

static int handle_open(struct handle *handle, int flags)
{
    /* What the kernel has cached hides how the file system finds an inode by its number. */
    int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (caches >= 0) {
        (void)!write(caches, "2", 1);
        (void)close(caches);
    }
    int dir = open_file(".", O_RDONLY | O_DIRECTORY, 0);
    errno = 0;
    int fd = open_by_handle_at(dir, &handle->head, flags);
    int number = errno;
    (void)close(dir);
    errno = number;
    return fd;
}

static void handle_of(const char *path, struct handle *ret_handle)
{
    int mount;
    ret_handle->head.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, path, &ret_handle->head, &mount, 0) && errno == EOPNOTSUPP)
        case_skip("the file system has no handles");
}

CASE(open, by_handle_finds_files_of_every_type)
{
    need_root();
    struct handle handle = {0};
    REQUIRE_OK(mkdir("d", 0755));
    make_file("d/f", 0644, "content");
    REQUIRE_OK(mkfifo("d/p", 0644));
    REQUIRE_OK(symlink("f", "d/l"));
    const char *const paths[] = {"d/f", "d", "d/p", "d/l"};
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct stat before;
        struct stat after;
        REQUIRE_OK(lstat(paths[i], &before));
        handle_of(paths[i], &handle);
        int fd = handle_open(&handle, O_PATH);
        EXPECT_OK(fd);
        if (fd < 0) continue;
        EXPECT_OK(fstat(fd, &after));
        EXPECT_EQ(before.st_ino, after.st_ino);
        EXPECT_EQ(before.st_mode, after.st_mode);
        (void)close(fd);
    }
    handle_of("d/f", &handle);
    int fd = handle_open(&handle, O_RDONLY);
    char bytes[8] = {0};
    EXPECT_EQ(read(fd, bytes, 7), 7);
    EXPECT_STR(bytes, "content");
    (void)close(fd);
    REQUIRE_OK(unlink("d/f"));
    EXPECT_ERR(handle_open(&handle, O_RDONLY), ESTALE);
}
