/* Log lines. One message is one write(2), so lines of several threads or processes never mix, and
 * no lock is held. A descriptor set by log_set_fd gets the same line with a timestamp in front. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_SIZE_MAX = 2000, LINE_SIZE_MAX = 4 * TEXT_SIZE_MAX + 128 };

static atomic_int log_fd = -1;
static atomic_int log_level_min = LOG_INFO;

void log_set_fd(int fd)
{
    atomic_store(&log_fd, fd);
}

void log_set_level(enum log_level level)
{
    atomic_store(&log_level_min, (int)level);
}

static const char *level_prefix(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug: ";
    case LOG_INFO:
        return "";
    case LOG_WARNING:
        return "warning: ";
    case LOG_ERROR:
        return "error: ";
    }
    return "";
}

/* Appends text with control bytes and backslashes as \xNN (a newline as \n); returns the new size.
 * At most four bytes come out of one, which LINE_SIZE_MAX has room for. */
static size_t line_escape(char *line, size_t size, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '\n') {
            line[size++] = '\\';
            line[size++] = 'n';
        } else if (byte < 0x20 || byte == 0x7f) {
            line[size++] = '\\';
            line[size++] = 'x';
            line[size++] = digits[byte >> 4];
            line[size++] = digits[byte & 15];
        } else {
            line[size++] = (char)byte;
        }
    }
    return size;
}

static void write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* a log that cannot be written must not stop the program */
        bytes += written;
        size -= (size_t)written;
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    if ((int)level < atomic_load(&log_level_min)) return;
    int saved_errno = errno;
    char text[TEXT_SIZE_MAX];
    va_list args;
    va_start(args, format);
    int formatted = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (formatted < 0) snprintf(text, sizeof(text), "(message could not be formatted)");

    /* The timestamp is put before the line, so both descriptors share one buffer. */
    enum { STAMP_SIZE = 32 };
    char line[STAMP_SIZE + LINE_SIZE_MAX];
    size_t size = STAMP_SIZE;
    size += (size_t)snprintf(line + size, 64, "trellis: %s", level_prefix(level));
    size = line_escape(line, size, text);
    line[size++] = '\n';
    write_all(STDERR_FILENO, line + STAMP_SIZE, size - STAMP_SIZE);

    int fd = atomic_load(&log_fd);
    if (fd >= 0) {
        struct timespec now;
        struct tm parts;
        char stamp[STAMP_SIZE + 1] = "";
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &parts);
        size_t stamp_size = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &parts);
        stamp_size += (size_t)snprintf(stamp + stamp_size, sizeof(stamp) - stamp_size, ".%03ldZ ",
                                       now.tv_nsec / 1000000);
        char *start = line + STAMP_SIZE - stamp_size;
        memcpy(start, stamp, stamp_size);
        write_all(fd, start, (size_t)(line + size - start));
    }
    errno = saved_errno;
}
