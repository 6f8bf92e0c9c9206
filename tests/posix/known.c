/* Where the reference file systems differ from what the suite asks for, so that it can be checked
 * against them. */
#include "tests/posix/runner.h"

#include <fnmatch.h>

static const struct {
    const char *fs;
    const char *pattern;
    const char *reason;
} known[] = {
    {"tmpfs", "mmap/stores_behind_the_end_do_not_reach_the_file",
     "its page cache is the file, also behind the end"},
};

const char *known_difference(const char *fs, const char *group, const char *name)
{
    char full[256];
    snprintf(full, sizeof(full), "%s/%s", group, name);
    for (unsigned i = 0; fs && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].fs, fs) == 0 && fnmatch(known[i].pattern, full, 0) == 0)
            return known[i].reason;
    return NULL;
}
