/* flock(2) and fcntl(2) locks between processes. */
#include "tests/posix/suite.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static int set_lock(int fd, int command, short type, off_t start, off_t size)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
    return fcntl(fd, command, &lock);
}

/* What another process would meet: the type of the lock in the way, and whose it is. */
static struct flock lock_in_the_way(int fd, short type, off_t start, off_t size)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
    EXPECT_OK(fcntl(fd, F_GETLK, &lock));
    return lock;
}

CASE(flock, excludes_other_descriptors)
{
    make_file("f", 0644, "x");
    int one = open_file("f", O_RDWR, 0);
    int two = open_file("f", O_RDWR, 0);
    EXPECT_OK(flock(one, LOCK_EX));
    EXPECT_ERR(flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    EXPECT_ERR(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    IN_PROCESS
    {
        int own = open_file("f", O_RDONLY, 0);
        EXPECT_ERR(flock(own, LOCK_SH | LOCK_NB), EWOULDBLOCK);
        EXPECT_OK(flock(one, LOCK_EX | LOCK_NB)); /* an inherited descriptor is the same lock */
    }
    EXPECT_OK(flock(one, LOCK_UN));
    EXPECT_OK(flock(two, LOCK_EX | LOCK_NB));
}

CASE(flock, is_shared_by_readers)
{
    make_file("f", 0644, "x");
    int one = open_file("f", O_RDONLY, 0);
    int two = open_file("f", O_RDONLY, 0);
    int three = open_file("f", O_RDWR, 0);
    EXPECT_OK(flock(one, LOCK_SH));
    EXPECT_OK(flock(two, LOCK_SH | LOCK_NB));
    EXPECT_ERR(flock(three, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    EXPECT_OK(flock(one, LOCK_UN));
    EXPECT_OK(flock(two, LOCK_EX | LOCK_NB)); /* converted */
    EXPECT_ERR(flock(one, LOCK_SH | LOCK_NB), EWOULDBLOCK);
}

CASE(flock, ends_with_the_last_descriptor)
{
    make_file("f", 0644, "x");
    int one = open_file("f", O_RDWR, 0);
    int copy = dup(one);
    int two = open_file("f", O_RDWR, 0);
    EXPECT_OK(flock(one, LOCK_EX));
    REQUIRE_OK(close(one));
    EXPECT_ERR(flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    REQUIRE_OK(close(copy));
    EXPECT_OK(flock(two, LOCK_EX | LOCK_NB));
    REQUIRE_OK(flock(two, LOCK_UN));
    IN_PROCESS
    {
        int own = open_file("f", O_RDWR, 0);
        EXPECT_OK(flock(own, LOCK_EX));
    }
    EXPECT_OK(flock(two, LOCK_EX | LOCK_NB)); /* the process has ended */
}

CASE(flock, of_directories_and_arguments)
{
    make_dir("d", 0755);
    int one = open_file("d", O_RDONLY, 0);
    int two = open_file("d", O_RDONLY, 0);
    EXPECT_OK(flock(one, LOCK_EX));
    EXPECT_ERR(flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    EXPECT_ERR(flock(one, 77), EINVAL);
    EXPECT_ERR(flock(99, LOCK_EX), EBADF);
}

CASE(flock, waits_until_it_is_free)
{
    int *step = shared_memory(sizeof(*step));
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(flock(fd, LOCK_EX));
    struct crew crew = {.count = 1};
    crew.pids[0] = fork();
    if (crew.pids[0] == 0) {
        int own = open_file("f", O_RDWR, 0);
        EXPECT_OK(flock(own, LOCK_EX));
        EXPECT_EQ(*(volatile int *)step, 1);
        _exit(0);
    }
    sleep_ms(50);
    *(volatile int *)step = 1;
    REQUIRE_OK(flock(fd, LOCK_UN));
    crew_wait(&crew);
}

CASE(fcntl_lock, ranges_exclude_other_processes)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 10, 10));
    EXPECT_OK(set_lock(fd, F_SETLK, F_RDLCK, 100, 10));
    pid_t parent = getpid();
    IN_PROCESS
    {
        int own = open_file("f", O_RDWR, 0);
        EXPECT_ERR2(set_lock(own, F_SETLK, F_WRLCK, 10, 10), EAGAIN, EACCES);
        EXPECT_ERR2(set_lock(own, F_SETLK, F_RDLCK, 19, 1), EAGAIN, EACCES);
        EXPECT_ERR2(set_lock(own, F_SETLK, F_WRLCK, 0, 0), EAGAIN, EACCES); /* 0: to the end */
        EXPECT_ERR2(set_lock(own, F_SETLK, F_WRLCK, 105, 1), EAGAIN, EACCES);
        EXPECT_OK(set_lock(own, F_SETLK, F_RDLCK, 105, 1));
        EXPECT_OK(set_lock(own, F_SETLK, F_WRLCK, 0, 10));
        EXPECT_OK(set_lock(own, F_SETLK, F_WRLCK, 20, 80));
        struct flock lock = lock_in_the_way(own, F_WRLCK, 0, 50);
        EXPECT_EQ(lock.l_type, F_WRLCK);
        EXPECT_EQ(lock.l_pid, parent);
        EXPECT_EQ(lock.l_start, 10);
        EXPECT_EQ(lock.l_len, 10);
        EXPECT_EQ(lock_in_the_way(own, F_RDLCK, 100, 10).l_type, F_UNLCK);
        EXPECT_EQ(lock_in_the_way(own, F_WRLCK, 100, 10).l_type, F_RDLCK);
    }
}

CASE(fcntl_lock, ranges_are_split_and_joined)
{
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 100));
    EXPECT_OK(set_lock(fd, F_SETLK, F_UNLCK, 40, 20));
    EXPECT_OK(set_lock(fd, F_SETLK, F_RDLCK, 80, 20));
    IN_PROCESS
    {
        EXPECT_EQ(lock_in_the_way(fd, F_WRLCK, 40, 20).l_type, F_UNLCK);
        struct flock lock = lock_in_the_way(fd, F_WRLCK, 30, 100);
        EXPECT_EQ(lock.l_start, 0);
        EXPECT_EQ(lock.l_len, 40);
        lock = lock_in_the_way(fd, F_WRLCK, 50, 100);
        EXPECT_EQ(lock.l_start, 60);
        EXPECT_EQ(lock.l_len, 20);
        EXPECT_EQ(lock_in_the_way(fd, F_RDLCK, 80, 20).l_type, F_UNLCK);
    }
    EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 20, 80));
    IN_PROCESS
    {
        EXPECT_EQ(lock_in_the_way(fd, F_WRLCK, 0, 0).l_len, 100);
    }
}

CASE(fcntl_lock, ends_when_any_descriptor_is_closed)
{
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
    int other = open_file("f", O_RDONLY, 0);
    REQUIRE_OK(close(other));
    IN_PROCESS
    {
        EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
    }
    EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0)); /* the other process has ended */
}

CASE(fcntl_lock, needs_a_fitting_descriptor)
{
    make_file("f", 0644, "x");
    int reader = open_file("f", O_RDONLY, 0);
    int writer = open_file("f", O_WRONLY, 0);
    EXPECT_ERR(set_lock(reader, F_SETLK, F_WRLCK, 0, 1), EBADF);
    EXPECT_ERR(set_lock(writer, F_SETLK, F_RDLCK, 0, 1), EBADF);
    EXPECT_OK(set_lock(reader, F_SETLK, F_RDLCK, 0, 1));
    EXPECT_ERR(set_lock(writer, F_SETLK, F_WRLCK, -5, 1), EINVAL);
    EXPECT_ERR(set_lock(99, F_SETLK, F_WRLCK, 0, 1), EBADF);
}

CASE(fcntl_lock, waits_until_it_is_free)
{
    int *step = shared_memory(sizeof(*step));
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(set_lock(fd, F_SETLK, F_WRLCK, 5, 5));
    struct crew crew = {.count = 1};
    crew.pids[0] = fork();
    if (crew.pids[0] == 0) {
        EXPECT_OK(set_lock(fd, F_SETLKW, F_WRLCK, 0, 0));
        EXPECT_EQ(*(volatile int *)step, 1);
        _exit(0);
    }
    sleep_ms(50);
    *(volatile int *)step = 1;
    REQUIRE_OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 0));
    crew_wait(&crew);
}

CASE(fcntl_lock, deadlock_is_found)
{
    int *ready = shared_memory(sizeof(*ready));
    make_file("f", 0644, "x");
    int fd = open_file("f", O_RDWR, 0);
    REQUIRE_OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 1));
    struct crew crew = {.count = 1};
    crew.pids[0] = fork();
    if (crew.pids[0] == 0) {
        EXPECT_OK(set_lock(fd, F_SETLK, F_WRLCK, 1, 1));
        *(volatile int *)ready = 1;
        EXPECT_OK(set_lock(fd, F_SETLKW, F_WRLCK, 0, 1));
        _exit(0);
    }
    while (!*(volatile int *)ready)
        sleep_ms(1);
    sleep_ms(50);
    EXPECT_ERR(set_lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    REQUIRE_OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 1));
    crew_wait(&crew);
}

CASE(fcntl_lock, of_open_file_descriptions)
{
    make_file("f", 0644, "x");
    int one = open_file("f", O_RDWR, 0);
    int two = open_file("f", O_RDWR, 0);
    EXPECT_OK(set_lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
    EXPECT_ERR(set_lock(two, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    EXPECT_OK(set_lock(two, F_OFD_SETLK, F_WRLCK, 10, 1));
    int copy = dup(one);
    REQUIRE_OK(close(one));
    EXPECT_ERR(set_lock(two, F_OFD_SETLK, F_RDLCK, 5, 1), EAGAIN);
    REQUIRE_OK(close(copy));
    EXPECT_OK(set_lock(two, F_OFD_SETLK, F_RDLCK, 5, 1));
}

CASE(fcntl_lock, lockf)
{
    make_file("f", 0644, "0123456789");
    int fd = open_file("f", O_RDWR, 0);
    EXPECT_OK(lockf(fd, F_TLOCK, 5));
    IN_PROCESS
    {
        int own = open_file("f", O_RDWR, 0);
        EXPECT_ERR2(lockf(own, F_TEST, 5), EACCES, EAGAIN);
        EXPECT_ERR2(lockf(own, F_TLOCK, 0), EACCES, EAGAIN);
        REQUIRE_OK(lseek(own, 5, SEEK_SET));
        EXPECT_OK(lockf(own, F_TLOCK, 0));
    }
    EXPECT_OK(lockf(fd, F_ULOCK, 0));
}

CASE(lock, protects_a_counter, .seconds = 60)
{
    /* Four processes read, add one and write back, under a lock. */
    make_file("counter", 0644, "000000");
    struct crew crew = {.count = 0};
    for (unsigned i = 0; i < 4; i++) {
        pid_t pid = fork();
        REQUIRE(pid != -1);
        if (pid == 0) {
            int fd = open_file("counter", O_RDWR, 0);
            for (int round = 0; round < 100; round++) {
                char text[16] = {0};
                int number;
                if (i % 2)
                    REQUIRE_OK(set_lock(fd, F_SETLKW, F_WRLCK, 0, 0));
                else
                    REQUIRE_OK(set_lock(fd, F_OFD_SETLKW, F_WRLCK, 0, 0));
                REQUIRE(pread(fd, text, 6, 0) == 6);
                REQUIRE(sscanf(text, "%d", &number) == 1);
                snprintf(text, sizeof(text), "%06d", number + 1);
                REQUIRE(pwrite(fd, text, 6, 0) == 6);
                REQUIRE_OK(set_lock(fd, i % 2 ? F_SETLK : F_OFD_SETLK, F_UNLCK, 0, 0));
            }
            _exit(0);
        }
        crew.pids[crew.count++] = pid;
    }
    crew_wait(&crew);
    EXPECT_CONTENT("counter", "000400");
}
