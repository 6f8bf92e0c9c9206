/* Private to the scalar interpreter: the operations by families. Operands are not NULL and of the
 * kinds that db/wire/expr_rules.h states; results are written only on success. */
#ifndef DB_LDM_EXPR_OPS_H
#define DB_LDM_EXPR_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "db/wire/expr.h"
#include "db/wire/schema.h"

/* ---- numbers (expr_number.c) ---- */

#define DEC_LIMIT INT64_C(1000000000000000000) /* a DEC has at most 18 digits */

/* 10 to the power of 0..18. */
int64_t power_of_ten(uint32_t exponent);
/* ERR_OUT_OF_RANGE beyond 18 digits or scale 18. */
MUST_USE enum err dec_make(__int128 integer, uint32_t scale, struct value *ret_value);
/* The same number with another scale, 0..18, rounded half away from zero. */
__int128 dec_rescale(__int128 integer, uint32_t from, uint32_t to);
/* ADD to NEG, BIT_AND to SHR, ABS, LOG2, FLOOR to ROUND, HOME. b is NULL where there is none; a
 * division by zero gives NULL. ERR_OUT_OF_RANGE. */
MUST_USE enum err number_apply(const struct expr_ins *ins, struct value a, struct value b,
                               struct value *ret_value);

/* ---- casts (expr_cast.c) ---- */

enum { F64_TEXT_SIZE_MAX = 32 };
/* The shortest text that reads back, NUL-terminated; its size. */
uint32_t f64_text(double f, char text[F64_TEXT_SIZE_MAX]);
/* To ins->kind and, of DEC, scale ins->x. ERR_OUT_OF_RANGE, ERR_NO_MEMORY. */
MUST_USE enum err cast_apply(const struct expr_ins *ins, struct value value, struct arena *arena,
                             struct value *ret_value);

/* ---- text (expr_text.c) ---- */

/* The bytes of the code point at bytes, of which there are left > 0; 1 for a byte that begins none.
 */
uint32_t utf8_step(const uint8_t *bytes, uint32_t left);
bool text_like(struct value text, struct value pattern, enum collation collation, uint8_t escape);
/* LIKE, LENGTH to EXTENSION, INSTR. ERR_OUT_OF_RANGE (a text too long), ERR_NO_MEMORY. */
MUST_USE enum err text_apply(const struct expr *expr, const struct expr_ins *ins, struct value a,
                             struct value b, struct value c, struct arena *arena,
                             struct value *ret_value);

/* ---- dates (expr_date.c) ---- */

struct civil_date {
    int64_t year; /* astronomical: 0 is 1 BC */
    uint32_t month;
    uint32_t day;
};
/* The proleptic Gregorian date of a day number since 1970-01-01; of any that microseconds in an
 * int64 reach and far beyond: within +-2^60. */
struct civil_date civil_from_days(int64_t days);
/* YEAR, MONTH, DAY, CAST_DATETIME_STR, CAST_DATE_STR. ERR_OUT_OF_RANGE, ERR_NO_MEMORY. */
MUST_USE enum err date_apply(const struct expr_ins *ins, struct value a, struct arena *arena,
                             struct value *ret_value);

#endif
