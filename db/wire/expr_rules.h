/* Private to expression code of db/: what is known about an operation without running it. */
#ifndef DB_WIRE_EXPR_RULES_H
#define DB_WIRE_EXPR_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "db/wire/expr.h"

/* The kind of the register that the instruction writes; KIND_NULL: always NULL (or no known
 * operation). */
enum value_kind expr_result_kind(const struct expr_ins *ins);
/* How many registers it reads: a, then b, then c. */
uint32_t expr_operand_count(const struct expr_ins *ins);
/* Whether instruction `index` is one that the interpreters can run: kinds[i] is register i's kind,
 * i < index. */
bool expr_check_ins(const struct expr *expr, uint32_t index, const uint8_t *kinds);

#endif
