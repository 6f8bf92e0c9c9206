/* Several processes want the same name, or the end of the same file, at the same moment: exactly
 * one gets a name, and every one its own place at the end. */
#include "tests/posix/suite.h"

#include <sched.h>
#include <stdatomic.h>

enum { PROCESSES = 4 };

static void run_crew(unsigned count, void (*work)(unsigned index, void *argument), void *argument)
{
    struct crew crew;
    crew_start(&crew, count, work, argument);
    crew_wait(&crew);
}

/* Where all processes of a crew of PROCESSES wait for each other, in shared memory. */
static void meet(_Atomic unsigned *arrived, unsigned round)
{
    (void)atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < PROCESSES * (round + 1))
        (void)sched_yield();
}

/* ---- appends ---- */

enum { APPENDED_LINES = 400 };

static void append_lines(unsigned index, void *argument)
{
    (void)argument;
    int fd = open_file("log", O_WRONLY | O_APPEND, 0);
    char line[200];
    for (unsigned i = 0; i < APPENDED_LINES; i++) {
        int size = snprintf(
            line, sizeof(line), "%u %05u %.*s\n", index, i, (int)((i * 37) % 150),
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
        EXPECT_EQ(write(fd, line, (size_t)size), size);
    }
}

CASE(concurrent, appends_lose_no_line, .seconds = 60)
{
    make_file("log", 0644, NULL);
    run_crew(PROCESSES, append_lines, NULL);
    FILE *file = fopen("log", "r");
    REQUIRE(file != NULL);
    unsigned next[PROCESSES] = {0};
    char line[300];
    while (fgets(line, sizeof(line), file)) {
        unsigned index = PROCESSES;
        unsigned number = 0;
        if (sscanf(line, "%u %5u ", &index, &number) != 2 || index >= PROCESSES) {
            FAIL("a torn line: %s", line);
            break;
        }
        /* Each process's own lines come in its order. */
        if (number != next[index])
            FAIL("line %u of %u follows line %u", number, index, next[index]);
        next[index] = number + 1;
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        EXPECT_EQ(next[i], APPENDED_LINES);
    (void)fclose(file);
}

/* ---- exactly one of several succeeds ---- */

struct race {
    _Atomic unsigned arrived;
    _Atomic unsigned winners[64];
    _Atomic unsigned others;
    long (*run)(unsigned index, const char *name);
    int loser_error;
};

enum { RACES = 60 };

static void race_rounds(unsigned index, void *argument)
{
    struct race *race = argument;
    char name[16];
    for (unsigned round = 0; round < RACES; round++) {
        snprintf(name, sizeof(name), "n%u", round);
        meet(&race->arrived, round);
        errno = 0;
        if (race->run(index, name) != -1) {
            (void)atomic_fetch_add(&race->winners[round], 1);
        } else if (errno != race->loser_error) {
            FAIL("%s: a loser got %s", name, strerror(errno));
        }
    }
}

static void expect_one_winner(long (*run)(unsigned index, const char *name), int loser_error)
{
    struct race *race = shared_memory(sizeof(*race));
    race->run = run;
    race->loser_error = loser_error;
    run_crew(PROCESSES, race_rounds, race);
    for (unsigned i = 0; i < RACES; i++)
        if (race->winners[i] != 1) FAIL("n%u has %u winners", i, race->winners[i]);
    EXPECT_EQ(race->arrived, RACES * PROCESSES);
}

static long race_open(unsigned index, const char *name)
{
    (void)index;
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd != -1) (void)close(fd);
    return fd;
}

static long race_mkdir(unsigned index, const char *name)
{
    (void)index;
    return mkdir(name, 0755);
}

static long race_symlink(unsigned index, const char *name)
{
    (void)index;
    return symlink("x", name);
}

static long race_link(unsigned index, const char *name)
{
    char own[16];
    snprintf(own, sizeof(own), "own%u", index);
    return link(own, name);
}

static long race_rename(unsigned index, const char *name)
{
    char own[32];
    snprintf(own, sizeof(own), "%s.%u", name, index);
    return rename(name, own);
}

static long race_noreplace(unsigned index, const char *name)
{
    char own[32];
    snprintf(own, sizeof(own), "%s.%u", name, index);
    return renameat2(AT_FDCWD, own, AT_FDCWD, name, RENAME_NOREPLACE);
}

static long race_unlink(unsigned index, const char *name)
{
    (void)index;
    return unlink(name);
}

static long race_rmdir(unsigned index, const char *name)
{
    (void)index;
    return rmdir(name);
}

static void make_names(mode_t type, bool one_for_each)
{
    char name[32];
    for (unsigned i = 0; i < RACES; i++) {
        for (unsigned index = 0; index < (one_for_each ? PROCESSES : 1); index++) {
            if (one_for_each)
                snprintf(name, sizeof(name), "n%u.%u", i, index);
            else
                snprintf(name, sizeof(name), "n%u", i);
            make_node(name, type);
        }
    }
}

CASE(concurrent, exclusive_creation_has_one_winner)
{
    expect_one_winner(race_open, EEXIST);
    EXPECT_EQ(count_entries("."), RACES);
}

CASE(concurrent, mkdir_has_one_winner)
{
    expect_one_winner(race_mkdir, EEXIST);
    EXPECT_EQ(count_entries("."), RACES);
    EXPECT_EQ(NLINK("."), 2 + RACES);
}

CASE(concurrent, symlink_has_one_winner)
{
    expect_one_winner(race_symlink, EEXIST);
    EXPECT_EQ(count_entries("."), RACES);
}

CASE(concurrent, link_has_one_winner)
{
    nlink_t links = 0;
    char own[16];
    for (unsigned i = 0; i < PROCESSES; i++) {
        snprintf(own, sizeof(own), "own%u", i);
        make_file(own, 0644, NULL);
    }
    expect_one_winner(race_link, EEXIST);
    for (unsigned i = 0; i < PROCESSES; i++) {
        snprintf(own, sizeof(own), "own%u", i);
        links += STAT(own).st_nlink - 1;
    }
    EXPECT_EQ(links, RACES);
}

CASE(concurrent, rename_of_one_source_has_one_winner)
{
    make_names(S_IFREG, false);
    expect_one_winner(race_rename, ENOENT);
    EXPECT_EQ(count_entries("."), RACES);
}

CASE(concurrent, noreplace_has_one_winner)
{
    make_names(S_IFREG, true);
    expect_one_winner(race_noreplace, EEXIST);
    EXPECT_EQ(count_entries("."), RACES * PROCESSES);
}

CASE(concurrent, unlink_has_one_winner)
{
    make_names(S_IFREG, false);
    expect_one_winner(race_unlink, ENOENT);
    EXPECT_EQ(count_entries("."), 0);
}

CASE(concurrent, rmdir_has_one_winner)
{
    make_names(S_IFDIR, false);
    expect_one_winner(race_rmdir, ENOENT);
    EXPECT_EQ(NLINK("."), 2);
}
