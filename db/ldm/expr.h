/* The scalar interpreter of expression bytecode, for guards and assignments of programs. */
#ifndef DB_LDM_EXPR_H
#define DB_LDM_EXPR_H

#include "base/arena.h"
#include "db/wire/expr.h"

/* column() gives the value of an EXPR_COLUMN. Strings of the result live in the arena or where
 * column() or the constants have theirs. ERR_OUT_OF_RANGE, ERR_NO_MEMORY. */
MUST_USE enum err expr_eval(const struct expr *expr,
                            struct value (*column)(const void *context, uint8_t source,
                                                   uint16_t column),
                            const void *context, struct arena *arena, struct value *ret_value);
bool expr_holds(struct value value);

/* Shared by both interpreters so that they agree: one operation on already evaluated, correctly
 * kinded operands. */
MUST_USE enum err expr_apply(const struct expr *expr, const struct expr_ins *ins, struct value a,
                             struct value b, struct value c, struct arena *arena,
                             struct value *ret_value);

#endif
