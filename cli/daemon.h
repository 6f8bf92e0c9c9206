/* A subcommand that goes on serving: in the foreground, or in a process of its own whose start is
 * waited for. */
#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include <stdbool.h>

/* Runs serve(context) and returns its exit status. In the background it runs in a forked process
 * without a terminal, and this returns when that has called daemon_ready (EXIT_OK) or has ended
 * (its status). Nothing may be open that a fork does not take along: threads, databases. */
int daemon_run(bool foreground, int (*serve)(void *context), void *context);
/* From within serve: whoever started this may go on. Of a background process the messages go to
 * DIR/trellis.log from now on, and it lets go of the terminal. */
void daemon_ready(const char *log_dir);
/* Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it makes later. A descriptor that is
 * readable when one came; -1 when there is none to be had. */
int daemon_signals(void);

#endif
