/* Literals: the text of a token to its value. Private to sql/. */
#ifndef SQL_LITERAL_H
#define SQL_LITERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "db/wire/value.h"

/* Digits only: I64 when it fits, else U64. ERR_OUT_OF_RANGE beyond 64 bits. */
MUST_USE enum err literal_integer(const char *text, size_t size, struct value *ret_value);
/* Digits with a point: DEC. ERR_OUT_OF_RANGE beyond 18 digits. */
MUST_USE enum err literal_decimal(const char *text, size_t size, struct value *ret_value);
/* With an exponent: F64. ERR_OUT_OF_RANGE beyond a double, ERR_NO_MEMORY. */
MUST_USE enum err literal_float(const char *text, size_t size, struct arena *arena,
                                struct value *ret_value);
/* '…' or "…" with MySQL's escapes. ERR_NO_MEMORY. */
MUST_USE enum err literal_string(const char *text, size_t size, struct arena *arena,
                                 struct value *ret_value);
/* X'…' or 0x…: bytes. ERR_NO_MEMORY. */
MUST_USE enum err literal_hex(const char *text, size_t size, struct arena *arena,
                              struct value *ret_value);
/* The longest numeric prefix of a string as a double, 0 without one, as MySQL converts. */
double literal_string_number(const uint8_t *bytes, size_t size);

#endif
