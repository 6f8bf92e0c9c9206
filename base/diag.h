/* A diagnostic: an error with the one line a person sees and, for text input, where it is. */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <stdint.h>

#include "base/err.h"

enum { DIAG_TEXT_SIZE_MAX = 400 };

struct diag {
    enum err err;
    uint32_t position; /* byte offset in the text it is about, UINT32_MAX where there is none */
    char text[DIAG_TEXT_SIZE_MAX]; /* one line, no newline, no trailing full stop; NUL-terminated */
};

/* Fills diag (which may be NULL) and returns err, so that `return diag_set(…)` unwinds with a
 * reason. */
enum err diag_set(struct diag *diag, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum err diag_set_at(struct diag *diag, enum err err, uint32_t position, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
