/* Processes of a case: with another identity, one after the other (AS, IN_PROCESS) or at once
 * (crews). How one ended is passed on: what aborted or skipped there aborts or skips the case, and
 * an unexpected end is a failure. */
#include "tests/posix/report.h"

#include <grp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

const struct user user_a = {UID_A, GID_A, {GID_A, GID_TEAM, GID_A_ONLY}, 3};
const struct user user_b = {UID_B, GID_B, {GID_B, GID_TEAM}, 2};

void need_root(void)
{
    if (geteuid() != 0) case_skip("needs root");
}

void become(const struct user *user)
{
    REQUIRE_OK(setgroups(user->group_count, user->groups));
    REQUIRE_OK(setresgid(user->gid, user->gid, user->gid));
    REQUIRE_OK(setresuid(user->uid, user->uid, user->uid));
    /* Changing identity closes /proc/self, which some cases go through. */
    REQUIRE_OK(prctl(PR_SET_DUMPABLE, 1));
}

static void wait_for(pid_t pid, struct place place)
{
    int status;
    pid_t ended;
    do
        ended = waitpid(pid, &status, 0);
    while (ended == -1 && errno == EINTR);
    if (ended != pid) {
        fail_at(place, "a process of the case is lost");
    } else if (WIFSIGNALED(status)) {
        fail_at(place, "a process of the case was killed by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) == EXIT_ABORTED || WEXITSTATUS(status) == EXIT_SKIPPED) {
        _exit(WEXITSTATUS(status));
    } else if (WEXITSTATUS(status) != 0) {
        fail_at(place, "a process of the case ended with status %d", WEXITSTATUS(status));
    }
}

bool process_begin(struct place place)
{
    pid_t pid = fork();
    if (pid == -1) {
        fail_at(place, "cannot fork");
        case_abort();
    }
    if (pid == 0) return true;
    wait_for(pid, place);
    return false;
}

bool as_begin(const struct user *user, struct place place)
{
    need_root();
    if (!process_begin(place)) return false;
    become(user);
    return true;
}

bool as_end(void)
{
    _exit(0);
}

void crew_start(struct crew *crew, unsigned count, void (*work)(unsigned index, void *argument),
                void *argument)
{
    crew->count = 0;
    for (unsigned i = 0; i < count; i++) {
        pid_t pid = fork();
        REQUIRE(pid != -1);
        if (pid == 0) {
            work(i, argument);
            _exit(0);
        }
        crew->pids[crew->count++] = pid;
    }
}

void crew_wait(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        wait_for(crew->pids[i], HERE);
    crew->count = 0;
}

void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    return memory;
}
