/* One-line messages to stderr for the program's outer layers (node, fuse, cli). Library code
 * returns errors instead. Thread-safe. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* Also takes log lines to this file descriptor (for a daemon); -1: only stderr, the default. */
void log_set_fd(int fd);
void log_set_level(enum log_level level);
/* "trellis: warning: text\n", with a timestamp when the descriptor was set. Newlines and control
 * bytes in the formatted text are escaped, so that a line stays a line. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
