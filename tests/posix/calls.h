/* Every call that takes a path, in one table, for what is the same for all of them: failures of
 * path resolution, permissions of the parent, a read-only file system, immutable files, sticky
 * directories. */
#ifndef TESTS_POSIX_CALLS_H
#define TESTS_POSIX_CALLS_H

#include "tests/posix/suite.h"

enum call_trait {
    CALL_CREATES = 1,      /* makes the name: it must not exist for success */
    CALL_REMOVES = 2,      /* takes the name away */
    CALL_REPLACES = 4,     /* also works on an existing name, which it replaces */
    CALL_CHANGES = 8,      /* changes the inode, or opens it for that */
    CALL_FOLLOWS = 16,     /* follows a symbolic link in the last component */
    CALL_DIRECTORY = 32,   /* works on directories only */
    CALL_SYMLINK = 64,     /* works on symbolic links only */
    CALL_OWNER = 128,      /* only for the owner (and root) */
    CALL_WRITES = 256,     /* needs write permission for the file */
    CALL_READS = 512,      /* needs read permission for the file */
    CALL_ROOT = 1024,      /* only for root */
    CALL_RUNS = 2048,      /* needs execute permission for the file */
    CALL_LINKS = 4096,     /* makes another name for the inode */
    CALL_ATTRIBUTE = 8192, /* needs the attribute user.a */
};

struct call {
    const char *name;
    long (*run)(const char *path);
    unsigned traits;
};

extern const struct call calls[];
extern const unsigned call_count;

/* Registers one case per call for which `fits`, named GROUP/CALL. The case finds its call by
 * case_call(). */
void calls_add(const char *group, void (*run)(void), bool (*fits)(const struct call *call),
               bool read_only);
const struct call *case_call(void);
/* What the calls with two paths use as the other one: makes "source" (a file), if missing. */
void call_prepare(void);

#endif
