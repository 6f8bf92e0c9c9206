/* The end of the process when one of our own invariants is broken: one line on stderr, then
 * abort(), so that a core dump or a sanitizer shows where. Going on would risk writing damage to
 * disk; a restart replays what was durable. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *file, int line, const char *what)
{
    /* No stdio stream: its lock may be held by the broken code itself. */
    char text[512];
    int size = snprintf(text, sizeof(text), "trellis: bug: %s:%d: assertion failed: %s\n", file,
                        line, what);
    if (size > 0) {
        size_t length = (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1;
        ssize_t written = write(STDERR_FILENO, text, length);
        (void)written; /* nothing left to try */
    }
    abort();
}
