/* The runner's face towards main. Private to the framework. */
#ifndef TESTS_POSIX_RUNNER_H
#define TESTS_POSIX_RUNNER_H

#include "tests/posix/suite.h"

struct runner_options {
    const char *dir;
    const char *known; /* name of a reference file system, or NULL: known.c */
    const char *only[64];
    unsigned only_count;
    const char *without[64];
    unsigned without_count;
    uint64_t seed;
    bool quick;
    bool read_only;
    bool verbose;
};

/* Runs what the options select and prints the count. The exit status. */
int runner_run(const struct runner_options *options);
/* Prints the names. */
int runner_list(const struct runner_options *options);
/* Makes the tree that --read-only works in (t_readonly.c). */
int readonly_prepare(const char *dir);
/* Makes DIR/kept; prints what can be seen of it (kept.c). */
int kept_populate(const char *dir, uint64_t seed);
int kept_describe(const char *dir);
/* Why the case fails on that file system, or NULL. */
const char *known_difference(const char *fs, const char *group, const char *name);

/* Hidden commands: the suite's executable is what the exec cases run. */
int exec_helper(int argc, char **argv);

#endif
