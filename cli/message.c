/* Messages, exit statuses, numbers and progress: small things that every subcommand needs. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_exit_of(enum err err)
{
    if (!err) return EXIT_OK;
    return err_is_retryable(err) || err == ERR_IN_USE || err == ERR_TIMEOUT ||
                   err == ERR_OUTCOME_UNKNOWN
               ? EXIT_RETRY
               : EXIT_PERMANENT;
}

int cli_fail(enum err err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("trellis: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    return cli_exit_of(err);
}

int cli_usage(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("trellis: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "; see `trellis %s --help`\n", command);
    va_end(arguments);
    return EXIT_USAGE;
}

bool cli_parse_size(const char *text, uint64_t max, uint64_t *ret_size)
{
    if (!isdigit((unsigned char)text[0])) return false;
    char *end;
    errno = 0;
    uint64_t size = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end) {
        const char *units = "KMGT";
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || end[1]) return false;
        shift = 10u * (unsigned)(unit - units + 1);
    }
    if (errno || size > max >> shift) return false;
    *ret_size = size << shift;
    return true;
}

void cli_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)context;
    if (!isatty(STDERR_FILENO)) return;
    enum { WIDTH = 40 };
    uint64_t of = total ? total : 1;
    if (done > of) done = of;
    int filled = (int)((double)done / (double)of * WIDTH);
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = 0;
    (void)fprintf(stderr, "\r%-20.20s [%s] %3d%%", what, bar, (int)(done * 100 / of));
    if (done == of) (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
}

enum err cli_read_all(const char *path, size_t size_max, char **ret_text, size_t *ret_size,
                      struct diag *diag)
{
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0)
        return diag_set(diag, err_from_errno(errno), "cannot read %s: %s", path, strerror(errno));
    size_t size = 0;
    size_t capacity = 4096;
    char *text = malloc(capacity);
    enum err err = text ? ERR_NONE : diag_set(diag, ERR_NO_MEMORY, "no memory to read %s", path);
    while (!err) {
        ssize_t got = read(fd, text + size, capacity - size - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            err =
                diag_set(diag, err_from_errno(errno), "cannot read %s: %s", path, strerror(errno));
        if (got <= 0) break;
        size += (size_t)got;
        if (size > size_max) {
            err = diag_set(diag, ERR_TOO_BIG, "%s is larger than %zu bytes", path, size_max);
        } else if (capacity - size < 2) {
            capacity *= 2;
            char *grown = realloc(text, capacity);
            if (grown)
                text = grown;
            else
                err = diag_set(diag, ERR_NO_MEMORY, "no memory to read %s", path);
        }
    }
    if (fd != STDIN_FILENO) (void)close(fd);
    if (err) {
        free(text);
        return err;
    }
    text[size] = 0;
    *ret_text = text;
    *ret_size = size;
    return ERR_NONE;
}

static enum err stdout_write(struct sql_sink *sink, const char *bytes, size_t size)
{
    (void)sink;
    return fwrite(bytes, 1, size, stdout) == size ? ERR_NONE : ERR_CLOSED;
}

struct sql_sink cli_stdout = {.write = stdout_write};

static enum err collect_write(struct sql_sink *sink, const char *bytes, size_t size)
{
    struct cli_collect *collect = (struct cli_collect *)(void *)sink;
    char *grown = realloc(collect->bytes, collect->size + size + 1);
    if (!grown) return ERR_NO_MEMORY;
    collect->bytes = grown;
    memcpy(grown + collect->size, bytes, size);
    collect->size += size;
    grown[collect->size] = 0;
    return ERR_NONE;
}

void cli_collect_init(struct cli_collect *collect)
{
    *collect = (struct cli_collect){.sink = {.write = collect_write}};
}
