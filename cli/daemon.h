/* A subcommand that goes on serving: in the foreground, or in a process of its own whose start is
 * waited for. */
#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include <stdbool.h>

#include "base/diag.h"
#include "base/err.h"

/* Runs serve(context) and returns its exit status. In the background it runs in a forked process
 * without a terminal, and this returns when that has called daemon_ready (EXIT_OK) or has ended
 * (its status). Nothing may be open that a fork does not take along: threads, databases. */
int daemon_run(bool foreground, int (*serve)(void *context), void *context);
/* From within serve: whoever started this may go on. Of a background process the messages go to
 * DIR/trellis.log from now on, and it lets go of the terminal. An error with a reason when there
 * can be no log: nobody is told to go on then, and serve ends with that. */
MUST_USE enum err daemon_ready(const char *log_dir, struct diag *diag);
/* Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it makes later. A descriptor that is
 * readable when one came; -1 when there is none to be had. */
int daemon_signals(void);

#endif
