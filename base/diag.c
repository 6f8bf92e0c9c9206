/* Fills diagnostics. The text comes partly from outside (names, query text), so it is made one
 * printable line here, once, instead of at every place that prints one: control bytes become '?', a
 * text that does not fit ends in "..." and never in half a UTF-8 sequence. */
#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts text (which vsnprintf truncated at size - 1 bytes) so that "..." fits after whole
 * characters. */
static void text_shorten(char *text, size_t size)
{
    static const char dots[] = "...";
    size_t end = size - sizeof(dots);
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    memcpy(text + end, dots, sizeof(dots));
}

__attribute__((format(printf, 4, 0))) static void
diag_fill(struct diag *diag, enum err err, uint32_t position, const char *format, va_list args)
{
    /* Formatted aside: an argument may be the text of this very diagnostic, being wrapped. */
    char text[DIAG_TEXT_SIZE_MAX];
    int size = vsnprintf(text, sizeof(text), format, args);
    if (size < 0) {
        snprintf(text, sizeof(text), "%s", err_text(err));
    } else if ((size_t)size >= sizeof(text)) {
        text_shorten(text, sizeof(text));
    }
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    }
    diag->err = err;
    diag->position = position;
    memcpy(diag->text, text, sizeof(text));
}

enum err diag_set(struct diag *diag, enum err err, const char *format, ...)
{
    if (diag) {
        va_list args;
        va_start(args, format);
        diag_fill(diag, err, UINT32_MAX, format, args);
        va_end(args);
    }
    return err;
}

enum err diag_set_at(struct diag *diag, enum err err, uint32_t position, const char *format, ...)
{
    if (diag) {
        va_list args;
        va_start(args, format);
        diag_fill(diag, err, position, format, args);
        va_end(args);
    }
    return err;
}
