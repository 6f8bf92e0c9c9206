/* A benchmark forks callers and servers, and mounts, whose processes leave it for a session of
 * their own. Whatever it is doing when somebody is tired of it, this process is there to end all
 * that: as the subreaper of its descendants it is told of each one's end. */
#include "cli/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "fuse/mount.h"

/* Unmounts what is below the directory; busy or not, so that nobody waits for it. */
static void unmount_below(const char *dir)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    size_t dir_size = strlen(dir);
    char *line = NULL;
    size_t room = 0;
    while (table && getline(&line, &room, table) > 0) {
        char point[4096];
        if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1) continue;
        mount_field_unescape(point);
        if (strncmp(point, dir, dir_size) || point[dir_size] != '/') continue;
        if (umount2(point, MNT_DETACH) == 0) continue;
        pid_t child = fork();
        if (child == 0) {
            (void)execlp("fusermount3", "fusermount3", "-uzq", point, (char *)NULL);
            _exit(127);
        }
    }
    free(line);
    if (table) (void)fclose(table);
}

/* Until every descendant has ended. What mounts just now is unmounted in the next round. */
static void clean(const char *dir)
{
    enum { ROUNDS = 200, PAUSE_US = 50 * 1000 };
    for (int i = 0; i < ROUNDS; i++) {
        unmount_below(dir);
        pid_t ended;
        do
            ended = waitpid(-1, NULL, WNOHANG);
        while (ended > 0);
        if (ended < 0) return;
        (void)usleep(PAUSE_US);
    }
}

/* The child's end, or a signal: what to return. */
static int wait_for(pid_t child, const sigset_t *set)
{
    for (;;) {
        int number;
        if (sigwait(set, &number)) continue;
        if (number != SIGCHLD) return 128 + number;
        int status;
        for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
            if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_PERMANENT;
    }
}

int supervise(const char *dir, int (*run)(void *context), void *context)
{
    sigset_t set;
    sigset_t before;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, &before);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)setpgid(0, 0);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        (void)setenv("TMPDIR", dir, 1);
        exit(run(context));
    }
    if (child < 0) return cli_fail(ERR_NO_MEMORY, "cannot fork");
    (void)setpgid(child, child); /* whichever of the two is first */
    int status = wait_for(child, &set);
    (void)kill(-child, SIGKILL);
    clean(dir);
    return status;
}
