/* execve(2) of files, setuid programs, and text that is busy.
 *
 * The program that is executed is a copy of the suite's own executable; called as `x exec-helper …`
 * it does what exec_helper says. */
#include "tests/posix/runner.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

/* exec-helper status N: ends with status N.
 * exec-helper ids FILE: writes "RUID EUID RGID EGID" into the file descriptor 9.
 * exec-helper wait: says so on descriptor 9, then waits until its standard input ends. */
int exec_helper(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[2], "status") == 0) return atoi(argv[3]);
    if (argc >= 3 && strcmp(argv[2], "ids") == 0) {
        return dprintf(9, "%u %u %u %u", (unsigned)getuid(), (unsigned)geteuid(),
                       (unsigned)getgid(), (unsigned)getegid()) > 0
                   ? 0
                   : 1;
    }
    if (argc >= 3 && strcmp(argv[2], "wait") == 0) {
        char byte;
        if (dprintf(9, "running") < 0) return 1;
        while (read(0, &byte, 1) > 0) {
        }
        return 0;
    }
    return 99;
}

static void copy_program(const char *path, mode_t mode)
{
    struct statvfs info;
    REQUIRE_OK(statvfs(".", &info));
    if (info.f_flag & ST_NOEXEC) case_skip("mounted with noexec");
    int from = open_file("/proc/self/exe", O_RDONLY, 0);
    int to = open_file(path, O_CREAT | O_EXCL | O_WRONLY, 0700);
    struct stat attr = {0};
    REQUIRE_OK(fstat(from, &attr));
    for (off_t at = 0; at < attr.st_size;)
        REQUIRE(sendfile(to, from, &at, 1 << 20) > 0);
    REQUIRE_OK(fchmod(to, mode));
    REQUIRE_OK(close(to));
    REQUIRE_OK(close(from));
}

static pid_t start(const char *path, const char *command, const char *argument, int in, int out)
{
    pid_t pid = fork();
    REQUIRE(pid != -1);
    if (pid == 0) {
        if (in >= 0) (void)dup2(in, 0);
        if (out >= 0) (void)dup2(out, 9);
        if (in > 9) (void)close(in);
        (void)execl(path, path, "exec-helper", command, argument, (char *)NULL);
        _exit(100 + (errno & 63));
    }
    return pid;
}

static int status_of(pid_t pid)
{
    int status = -1;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int run(const char *path, const char *command, const char *argument)
{
    return status_of(start(path, command, argument, -1, -1));
}

CASE(exec, runs_a_program)
{
    copy_program("program", 0755);
    EXPECT_EQ(run("./program", "status", "42"), 42);
    REQUIRE_OK(rename("program", "renamed"));
    EXPECT_EQ(run("./renamed", "status", "7"), 7);
    REQUIRE_OK(symlink("renamed", "link"));
    EXPECT_EQ(run("./link", "status", "8"), 8);
    int fd = open_file("renamed", O_RDONLY, 0);
    cache_drop(fd);
    REQUIRE_OK(close(fd));
    EXPECT_EQ(run("./renamed", "status", "9"), 9);
}

CASE(exec, runs_a_script)
{
    make_file("script", 0755, "#!/bin/sh\nexit 33\n");
    EXPECT_EQ(run("./script", "x", "y"), 33);
    make_file("lost", 0755, "#!/nonexistent/interpreter\n");
    EXPECT_EQ(run("./lost", "x", "y"), 100 + ENOENT);
}

CASE(exec, needs_execute_permission)
{
    copy_program("program", 0644);
    char *arguments[] = {(char *)(uintptr_t) "x", NULL};
    EXPECT_ERR(execv("./program", arguments), EACCES); /* root is no exception */
    REQUIRE_OK(chmod("program", 0100));
    if (geteuid() != 0) return;
    AS(user_a)
    {
        EXPECT_ERR(execv("./program", arguments), EACCES);
    }
    REQUIRE_OK(chmod("program", 0711)); /* execution without reading */
    AS(user_a)
    {
        EXPECT_ERR(open("program", O_RDONLY), EACCES);
        EXPECT_EQ(run("./program", "status", "5"), 5);
    }
}

CASE(exec, of_what_is_no_program)
{
    char *arguments[] = {(char *)(uintptr_t) "x", NULL};
    make_dir("d", 0755);
    make_file("empty", 0755, "");
    make_file("garbage", 0755, "\x01\x02 nothing that can be executed");
    REQUIRE_OK(mkfifo("fifo", 0755));
    EXPECT_ERR(execv("d", arguments), EACCES);
    EXPECT_ERR(execv("empty", arguments), ENOEXEC);
    EXPECT_ERR(execv("garbage", arguments), ENOEXEC);
    EXPECT_ERR(execv("fifo", arguments), EACCES);
}

CASE(exec, of_a_descriptor)
{
    copy_program("program", 0755);
    int fd = open_file("program", O_RDONLY, 0);
    REQUIRE_OK(unlink("program"));
    pid_t pid = fork();
    REQUIRE(pid != -1);
    if (pid == 0) {
        char *arguments[] = {(char *)(uintptr_t) "x", (char *)(uintptr_t) "exec-helper",
                             (char *)(uintptr_t) "status", (char *)(uintptr_t) "21", NULL};
        (void)fexecve(fd, arguments, arguments + 4);
        _exit(100);
    }
    EXPECT_EQ(status_of(pid), 21);
}

static void expect_ids(const struct user *user, uid_t euid, gid_t egid)
{
    int ends[2];
    REQUIRE_OK(pipe(ends));
    AS(*user)
    {
        (void)dup2(ends[1], 9);
        EXPECT_EQ(run("./program", "ids", NULL), 0);
    }
    REQUIRE_OK(close(ends[1]));
    char found[100] = {0};
    char expected[100];
    EXPECT(read(ends[0], found, sizeof(found) - 1) > 0);
    snprintf(expected, sizeof(expected), "%u %u %u %u", (unsigned)user->uid, (unsigned)euid,
             (unsigned)user->gid, (unsigned)egid);
    EXPECT_STR(found, expected);
    REQUIRE_OK(close(ends[0]));
}

static void need_suid(void)
{
    struct statvfs info;
    REQUIRE_OK(statvfs(".", &info));
    if (info.f_flag & ST_NOSUID) case_skip("mounted with nosuid");
}

CASE(exec, setuid_and_setgid_programs)
{
    need_root();
    need_suid();
    copy_program("program", 0755);
    expect_ids(&user_a, UID_A, GID_A);
    REQUIRE_OK(chown("program", UID_B, GID_B));
    REQUIRE_OK(chmod("program", 04755));
    expect_ids(&user_a, UID_B, GID_A);
    REQUIRE_OK(chmod("program", 02755));
    expect_ids(&user_a, UID_A, GID_B);
    REQUIRE_OK(chmod("program", 06755));
    expect_ids(&user_a, UID_B, GID_B);
    REQUIRE_OK(chown("program", 0, 0)); /* clears the bits */
    expect_ids(&user_a, UID_A, GID_A);
    REQUIRE_OK(chmod("program", 04755));
    expect_ids(&user_b, 0, GID_B);
}

CASE(exec, setuid_is_lost_when_the_program_is_written)
{
    need_root();
    need_suid();
    copy_program("program", 0755);
    REQUIRE_OK(chown("program", UID_A, GID_A));
    REQUIRE_OK(chmod("program", 04755));
    expect_ids(&user_b, UID_A, GID_B);
    AS(user_a)
    {
        int fd = open_file("program", O_WRONLY | O_APPEND, 0);
        write_all(fd, "more", 4);
        REQUIRE_OK(close(fd));
    }
    expect_ids(&user_b, UID_B, GID_B);
}

CASE(exec, running_program_is_busy)
{
    copy_program("program", 0755);
    int in[2], out[2];
    REQUIRE_OK(pipe(in));
    REQUIRE_OK(pipe(out));
    (void)fcntl(in[1], F_SETFD, FD_CLOEXEC);
    pid_t pid = start("./program", "wait", NULL, in[0], out[1]);
    char word[16] = {0};
    REQUIRE(read(out[0], word, 7) == 7);
    EXPECT_ERR(open("program", O_WRONLY), ETXTBSY);
    EXPECT_ERR(open("program", O_RDWR), ETXTBSY);
    EXPECT_ERR(open("program", O_WRONLY | O_TRUNC), ETXTBSY);
    EXPECT_ERR(truncate("program", 0), ETXTBSY);
    EXPECT_OK(open("program", O_RDONLY));
    EXPECT_OK(chmod("program", 0711));
    EXPECT_OK(rename("program", "renamed"));
    EXPECT_OK(unlink("renamed")); /* its name may go, it runs on */
    REQUIRE_OK(close(in[1]));
    EXPECT_EQ(status_of(pid), 0);
}

CASE(exec, program_open_for_writing_is_busy)
{
    copy_program("program", 0755);
    int fd = open_file("program", O_RDWR, 0);
    char *arguments[] = {(char *)(uintptr_t) "x", NULL};
    EXPECT_ERR(execv("./program", arguments), ETXTBSY);
    REQUIRE_OK(close(fd));
    EXPECT_EQ(run("./program", "status", "3"), 3);
    fd = open_file("program", O_RDWR, 0);
    EXPECT_EQ(pwrite(fd, "x", 1, FSTAT(fd).st_size), 1);
}
