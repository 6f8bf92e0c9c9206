/* Serving in the background.
 *
 * The process forks before anything is opened, since threads do not survive a fork. The parent
 * waits on a pipe for the byte that says "serving", or for the child's end, and passes the child's
 * exit status on. The child's messages go to the terminal until then, and to a log file after. */
#include "cli/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"

static int ready_fd = -1; /* the parent waits at its other end; -1: nobody waits */

static int wait_for_child(pid_t child, int fd)
{
    uint8_t byte;
    ssize_t got;
    while ((got = read(fd, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (got == 1) return EXIT_OK;
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return EXIT_PERMANENT;
    if (WIFEXITED(status) && WEXITSTATUS(status)) return WEXITSTATUS(status);
    return cli_fail(ERR_IO, "the serving process died before it served");
}

int daemon_run(bool foreground, int (*serve)(void *context), void *context)
{
    if (foreground) return serve(context);
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return cli_fail(ERR_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) {
        int number = errno;
        (void)close(fds[0]);
        (void)close(fds[1]);
        return cli_fail(ERR_NO_MEMORY, "cannot fork: %s", strerror(number));
    }
    if (child == 0) {
        (void)close(fds[0]);
        ready_fd = fds[1];
        (void)setsid();
        exit(serve(context));
    }
    (void)close(fds[1]);
    int status = wait_for_child(child, fds[0]);
    (void)close(fds[0]);
    return status;
}

static enum err log_open(const char *log_dir, int *ret_fd, struct diag *diag)
{
    char *path;
    if (asprintf(&path, "%s/trellis.log", log_dir) < 0)
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    enum err err = ERR_NONE;
    if (fd < 0)
        err = diag_set(diag, ERR_IO,
                       "cannot write the log %s: %s: make it a file that this user may write, or "
                       "serve in the foreground with -f",
                       path, strerror(errno));
    else
        *ret_fd = fd;
    free(path);
    return err;
}

static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(null, STDERR_FILENO);
    (void)close(null);
}

enum err daemon_ready(const char *log_dir, struct diag *diag)
{
    if (ready_fd < 0) return ERR_NONE;
    int log = -1;
    enum err err = log_open(log_dir, &log, diag);
    if (err) return err;
    log_set_fd(log);
    leave_terminal();
    uint8_t one = 1;
    if (write(ready_fd, &one, 1) < 0) log_line(LOG_WARNING, "nobody waits for the start");
    (void)close(ready_fd);
    ready_fd = -1;
    return ERR_NONE;
}

int daemon_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
