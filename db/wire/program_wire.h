/* The byte layout of a program, shared by builder and decoder. Private to db/wire.
 *
 *   program   u16 version, u16 section count, u16 step count, u32 flags; with PROGRAM_HAS_PARAMS:
 *             u16 count (1..), u8 kind of each; sections; with PROGRAM_HAS_PARAMS: count values,
 *             each of its kind or NULL
 *   section   u16 slot, u16 step count, steps
 *   step      u32 size of what follows, struct step_head, keys, values, clauses
 *   operand   u8 tag; CONST: a value (expr.h); COLUMN: u8 step, u16 column; EXPR: an expression;
 *             PARAM: u16 number
 *   clause    u8 tag; WHEN: expression; GUARD: u16 err, expression; SET: u16 column, operand;
 *             OUTPUT: u16 count, u16 columns; LOOKUP: u32 table id, u32 table version, u16 column,
 *             u16 count, u16 columns
 *
 * Clauses come in the order in which the builder's caller added them; the head counts those of each
 * kind, so that the decoder allocates once. */
#ifndef DB_WIRE_PROGRAM_WIRE_H
#define DB_WIRE_PROGRAM_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "db/wire/program.h"

enum { PROGRAM_VERSION = 1, PROGRAM_HEAD_SIZE = 10, SECTION_HEAD_SIZE = 4 };
enum { PROGRAM_FLAGS_AT = 6 };
enum program_flag { PROGRAM_HAS_PARAMS = 1 };

enum step_bit { STEP_HAS_WHEN = 1, STEP_HAS_LOOKUP = 2, STEP_HAS_OUTPUT = 4, STEP_INCLUSIVE = 8 };

struct step_head {
    uint8_t kind;
    uint8_t number;
    uint8_t flags; /* enum step_flag */
    uint8_t index;
    uint8_t bits; /* enum step_bit */
    uint8_t guard_count;
    uint16_t on_err;
    uint16_t key_count;
    uint16_t value_count;
    uint16_t set_count;
    uint16_t reserved; /* 0 */
    uint32_t table_id;
    uint32_t table_version;
    uint32_t limit;
} __attribute__((packed)); /* lies at any address */
_Static_assert(sizeof(struct step_head) == 28, "wire format");

/* The kinds a parameter may be declared with. */
static inline bool param_kind_is_known(uint8_t kind)
{
    return kind > KIND_NULL && kind <= KIND_STR;
}

static inline bool param_fits(uint8_t kind, struct value value)
{
    return value.kind == kind || value.kind == KIND_NULL;
}

enum clause { CLAUSE_WHEN = 1, CLAUSE_GUARD, CLAUSE_SET, CLAUSE_OUTPUT, CLAUSE_LOOKUP };

/* program_decode of a program whose parameters have no values yet: params is NULL. */
MUST_USE enum err program_decode_unbound(struct reader *reader, const struct catalog *catalog,
                                         struct arena *arena, struct program_decoded *ret_program);

#endif
