/* mknod(2), mkfifo(3), sockets bound to a name, device files. */
#include "tests/posix/suite.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

CASE(mknod, makes_a_regular_file)
{
    (void)umask(027);
    EXPECT_OK(mknod("f", S_IFREG | 0666, 0));
    EXPECT_OK(mknod("g", 0666, 0)); /* no type means a regular file */
    EXPECT(S_ISREG(STAT("f").st_mode) && S_ISREG(STAT("g").st_mode));
    EXPECT_EQ(PERMS("f"), 0640);
    EXPECT_EQ(STAT("f").st_size, 0);
    EXPECT_EQ(NLINK("f"), 1);
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_EQ(write(fd, "usable", 6), 6);
    EXPECT_CONTENT("f", "usable");
}

CASE(mknod, makes_every_type)
{
    need_root();
    static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < 5; i++) {
        EXPECT_OK(mknod("node", types[i] | 0604, makedev(7, 300)));
        struct stat attr = STAT("node");
        EXPECT_EQ(attr.st_mode, types[i] | 0604);
        EXPECT_EQ(attr.st_nlink, 1);
        EXPECT_EQ(attr.st_size, 0);
        if (types[i] == S_IFCHR || types[i] == S_IFBLK) EXPECT_EQ(attr.st_rdev, makedev(7, 300));
        EXPECT_OK(unlink("node"));
    }
}

CASE(mknod, keeps_every_device_number)
{
    need_root();
    static const struct {
        unsigned major, minor;
    } numbers[] = {{0, 1},      {1, 0},      {255, 255},      {256, 256},  {1, 1048575}, {4095, 0},
                   {4095, 255}, {4095, 256}, {4095, 1048575}, {12, 34567}, {300, 65536}};
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        dev_t device = makedev(numbers[i].major, numbers[i].minor);
        EXPECT_OK(mknod("c", S_IFCHR | 0600, device));
        EXPECT_OK(mknod("b", S_IFBLK | 0600, device));
        EXPECT_EQ(major(STAT("c").st_rdev), numbers[i].major);
        EXPECT_EQ(minor(STAT("c").st_rdev), numbers[i].minor);
        EXPECT_EQ(STAT("b").st_rdev, device);
        EXPECT(S_ISBLK(STAT("b").st_mode));
        REQUIRE_OK(unlink("c"));
        REQUIRE_OK(unlink("b"));
    }
}

CASE(mknod, devices_work)
{
    need_root();
    REQUIRE_OK(mknod("zero", S_IFCHR | 0666, makedev(1, 5)));
    REQUIRE_OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    REQUIRE_OK(mknod("full", S_IFCHR | 0666, makedev(1, 7)));
    int zero = open("zero", O_RDWR);
    if (zero == -1 && errno == EACCES) case_skip("mounted with nodev");
    REQUIRE(zero != -1);
    char bytes[16] = "nothing yet";
    EXPECT_EQ(read(zero, bytes, 16), 16);
    EXPECT(memcmp(bytes, (char[16]){0}, 16) == 0);
    int null = open_file("null", O_RDWR, 0);
    EXPECT_EQ(write(null, bytes, 16), 16);
    EXPECT_EQ(read(null, bytes, 16), 0);
    int full = open_file("full", O_WRONLY, 0);
    EXPECT_ERR(write(full, bytes, 1), ENOSPC);
    EXPECT_EQ(STAT("null").st_size, 0);
}

CASE(mknod, device_without_a_driver)
{
    need_root();
    REQUIRE_OK(mknod("c", S_IFCHR | 0666, makedev(4000, 77)));
    EXPECT_ERR(open("c", O_RDONLY), ENXIO);
}

CASE(mknod, devices_are_for_root)
{
    AS(user_a)
    {
        EXPECT_ERR(mknod("c", S_IFCHR | 0666, makedev(1, 3)), EPERM);
        EXPECT_ERR(mknod("b", S_IFBLK | 0666, makedev(7, 0)), EPERM);
        EXPECT_OK(mknod("f", S_IFREG | 0666, 0));
        EXPECT_OK(mknod("p", S_IFIFO | 0666, 0));
        EXPECT_OK(mknod("s", S_IFSOCK | 0666, 0));
        EXPECT_EQ(STAT("p").st_uid, UID_A);
        EXPECT_EQ(STAT("s").st_gid, GID_A);
    }
    EXPECT_EQ(count_entries("."), 3);
}

CASE(mknod, of_other_types_is_refused)
{
    EXPECT_ERR(mknod("d", S_IFDIR | 0755, 0), EPERM);
    EXPECT_ERR(mknod("l", S_IFLNK | 0777, 0), EINVAL);
    EXPECT_ERR(mknod("x", S_IFMT | 0777, 0), EINVAL);
    EXPECT_EQ(count_entries("."), 0);
}

CASE(mknod, fifo_carries_bytes_between_processes)
{
    REQUIRE_OK(mkfifo("fifo", 0600));
    EXPECT(S_ISFIFO(STAT("fifo").st_mode));
    struct crew crew = {.count = 0};
    pid_t pid = fork();
    REQUIRE(pid != -1);
    if (pid == 0) {
        int fd = open_file("fifo", O_WRONLY, 0);
        for (int i = 0; i < 100; i++)
            write_all(fd, "0123456789", 10);
        _exit(0);
    }
    crew.pids[crew.count++] = pid;
    int fd = open_file("fifo", O_RDONLY, 0);
    char bytes[64];
    size_t total = 0;
    for (ssize_t size; (size = read(fd, bytes, sizeof(bytes))) > 0; total += (size_t)size)
        for (ssize_t i = 0; i < size; i++)
            if (bytes[i] != (char)('0' + (total + (size_t)i) % 10)) FAIL("a wrong byte");
    EXPECT_EQ(total, 1000);
    crew_wait(&crew);
    EXPECT_EQ(STAT("fifo").st_size, 0);
}

CASE(mknod, fifo_changes_its_times_when_used)
{
    REQUIRE_OK(mkfifo("fifo", 0600));
    int fd = open_file("fifo", O_RDWR, 0);
    struct stat before = FSTAT(fd);
    EXPECT_EQ(before.st_size, 0);
    EXPECT_EQ(write(fd, "x", 1), 1);
    EXPECT_EQ(FSTAT(fd).st_ino, before.st_ino);
    EXPECT_ERR(lseek(fd, 0, SEEK_SET), ESPIPE);
    char byte;
    EXPECT_ERR(pread(fd, &byte, 1, 0), ESPIPE);
    EXPECT_ERR(pwrite(fd, "x", 1, 0), ESPIPE);
    EXPECT_ERR(ftruncate(fd, 0), EINVAL);
    EXPECT_ERR(fsync(fd), EINVAL);
}

CASE(mknod, fifo_permissions)
{
    need_root();
    REQUIRE_OK(mkfifo("fifo", 0600));
    REQUIRE_OK(chown("fifo", UID_B, GID_TEAM));
    REQUIRE_OK(chmod("fifo", 0640));
    AS(user_a)
    {
        EXPECT_OK(open("fifo", O_RDONLY | O_NONBLOCK));
        EXPECT_ERR(open("fifo", O_RDWR | O_NONBLOCK), EACCES);
    }
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    return address;
}

static int bind_to(int fd, const char *path)
{
    struct sockaddr_un address = address_of(path);
    return bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static int connect_to(int fd, const char *path)
{
    struct sockaddr_un address = address_of(path);
    return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

CASE(socket, is_bound_and_connected_by_name)
{
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(server != -1);
    (void)umask(027);
    EXPECT_OK(bind_to(server, "socket"));
    EXPECT(S_ISSOCK(STAT("socket").st_mode));
    EXPECT_EQ(PERMS("socket"), 0750);
    REQUIRE_OK(listen(server, 1));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_OK(connect_to(client, "socket"));
    int accepted = accept(server, NULL, NULL);
    REQUIRE(accepted != -1);
    EXPECT_EQ(write(client, "hello", 5), 5);
    char bytes[6] = {0};
    EXPECT_EQ(read(accepted, bytes, 5), 5);
    EXPECT_STR(bytes, "hello");
    /* The name may move; the socket is found behind it. */
    REQUIRE_OK(rename("socket", "moved"));
    int second = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT_OK(connect_to(second, "moved"));
    int third = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_ERR(connect_to(third, "socket"), ENOENT);
}

CASE(socket, bind_fails_where_a_name_exists)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 5; i++) {
        make_node("node", types[i]);
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        EXPECT_ERR(bind_to(fd, "node"), EADDRINUSE);
        REQUIRE_OK(remove("node"));
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    EXPECT_ERR(bind_to(fd, "missing/socket"), ENOENT);
    make_file("f", 0644, NULL);
    EXPECT_ERR(bind_to(fd, "f/socket"), ENOTDIR);
}

CASE(socket, without_a_listener_refuses)
{
    make_node("node", S_IFSOCK);
    make_file("f", 0666, NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_ERR(connect_to(fd, "node"), ECONNREFUSED);
    EXPECT_ERR(connect_to(fd, "f"), ECONNREFUSED);
}

CASE(socket, connecting_needs_write_permission)
{
    need_root();
    int server = socket(AF_UNIX, SOCK_DGRAM, 0);
    REQUIRE_OK(bind_to(server, "socket"));
    REQUIRE_OK(chmod("socket", 0755));
    make_dir("d", 0755);
    AS(user_a)
    {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        EXPECT_ERR(connect_to(fd, "socket"), EACCES);
        EXPECT_ERR(bind_to(fd, "d/socket"), EACCES);
    }
    REQUIRE_OK(chmod("socket", 0777));
    AS(user_a)
    {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        EXPECT_OK(connect_to(fd, "socket"));
        EXPECT_EQ(send(fd, "x", 1, 0), 1);
    }
}
