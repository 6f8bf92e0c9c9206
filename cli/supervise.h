/* A command that works in a directory of its own, and leaves nothing of it behind. */
#ifndef CLI_SUPERVISE_H
#define CLI_SUPERVISE_H

/* Calls run in a child whose $TMPDIR is dir, and returns what it returned, or 1 when it died. On
 * SIGINT, SIGTERM and SIGHUP the child is killed with its process group, 128 + the signal is
 * returned. Either way whatever was mounted below dir is unmounted, and every process that came
 * from the child has ended or was left after ten seconds. The directory stays. Of a program with
 * one thread. */
int supervise(const char *dir, int (*run)(void *context), void *context);

#endif
