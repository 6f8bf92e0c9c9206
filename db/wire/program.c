/* Building programs: a program under construction is its own encoding (layout in program_wire.h),
 * appended to one buffer that is reused from program to program, so building costs no allocation
 * once the buffer has grown.
 *
 * Counts and sizes that are known only later (of sections, steps, clauses) are patched in place. A
 * builder never fails in the middle: it latches the first misuse or failed allocation, ignores the
 * rest, and program_finish reports it. Invariant while err is ERR_NONE: buf holds the head, closed
 * sections and steps, and at most one open step that starts at step_at; everything before is
 * well-formed. */
#include "db/wire/program.h"

#include <stddef.h>

#include "base/check.h"
#include "db/wire/program_wire.h"
#include "db/wire/value_codec.h"

void program_init(struct program *program)
{
    *program = (struct program){0};
    buf_init(&program->buf);
    program_begin(program);
}

void program_fini(struct program *program)
{
    buf_fini(&program->buf);
}

static void program_fail(struct program *program, enum err err)
{
    if (program->err == ERR_NONE) program->err = err;
}

void program_begin(struct program *program)
{
    buf_clear(&program->buf);
    program->err = ERR_NONE;
    program->section_count = 0;
    program->step_count = 0;
    program->section_steps = 0;
    program->section_at = 0;
    program->step_at = 0;
    program->param_count = 0;
    uint8_t *at = buf_add(&program->buf, PROGRAM_HEAD_SIZE);
    if (!at) {
        program_fail(program, ERR_NO_MEMORY);
        return;
    }
    memset(at, 0, PROGRAM_HEAD_SIZE);
    at[0] = PROGRAM_VERSION;
}

static void patch_u16(struct program *program, size_t at, uint16_t value)
{
    memcpy(program->buf.bytes + at, &value, sizeof(value));
}

/* Where the head of the open step lies; NULL (and a latched error) when none is open. */
static struct step_head *step_head(struct program *program)
{
    if (program->err != ERR_NONE) return NULL;
    if (program->buf.failed) {
        program_fail(program, ERR_NO_MEMORY);
        return NULL;
    }
    if (program->step_at == 0) {
        program_fail(program, ERR_INVALID);
        return NULL;
    }
    return (struct step_head *)(void *)(program->buf.bytes + program->step_at + sizeof(uint32_t));
}

static void step_close(struct program *program)
{
    if (program->step_at == 0 || program->err != ERR_NONE || program->buf.failed) return;
    uint32_t size = (uint32_t)(program->buf.size - program->step_at - sizeof(uint32_t));
    memcpy(program->buf.bytes + program->step_at, &size, sizeof(size));
    program->step_at = 0;
    if (program->buf.size > PROGRAM_SIZE_MAX) program_fail(program, ERR_TOO_BIG);
}

static void section_close(struct program *program)
{
    step_close(program);
    if (program->section_at == 0 || program->err != ERR_NONE || program->buf.failed) return;
    patch_u16(program, program->section_at + 2, program->section_steps);
    program->section_at = 0;
}

void program_params(struct program *program, const uint8_t *kinds, uint16_t count)
{
    if (program->err != ERR_NONE) return;
    if (count == 0 || count > PROGRAM_PARAMS_MAX || program->section_count ||
        program->param_count) {
        program_fail(program, ERR_INVALID);
        return;
    }
    for (uint16_t i = 0; i < count; i++)
        if (!param_kind_is_known(kinds[i])) program_fail(program, ERR_INVALID);
    program->param_count = count;
    buf_put_u16(&program->buf, count);
    buf_put(&program->buf, kinds, count);
    if (!program->buf.failed) program->buf.bytes[PROGRAM_FLAGS_AT] = PROGRAM_HAS_PARAMS;
}

void program_section(struct program *program, uint16_t slot)
{
    section_close(program);
    if (program->err != ERR_NONE) return;
    if (program->section_count == PROGRAM_SECTIONS_MAX) {
        program_fail(program, ERR_TOO_BIG);
        return;
    }
    for (uint16_t i = 0; i < program->section_count; i++) {
        if (program->slots[i] == slot) {
            program_fail(program, ERR_INVALID);
            return;
        }
    }
    program->section_at = program->buf.size;
    program->section_steps = 0;
    program->slots_at[program->section_count] = (uint32_t)program->buf.size;
    program->slots[program->section_count++] = slot;
    buf_put_u16(&program->buf, slot);
    buf_put_u16(&program->buf, 0);
}

static void put_operand(struct program *program, const struct operand *operand)
{
    struct buf *buf = &program->buf;
    buf_put_u8(buf, (uint8_t)operand->tag);
    switch (operand->tag) {
    case OPERAND_CONST:
        value_put(operand->value, buf);
        break;
    case OPERAND_COLUMN:
        buf_put_u8(buf, operand->step);
        buf_put_u16(buf, operand->column);
        break;
    case OPERAND_EXPR:
        expr_encode(&operand->expr, buf);
        break;
    case OPERAND_PARAM:
        buf_put_u16(buf, operand->column);
        break;
    default:
        program_fail(program, ERR_INVALID);
    }
}

/* Opens a step with its key and value operands; its number, 0 after a failure. */
static uint8_t step_open(struct program *program, struct step_head head,
                         const struct table_def *table, const struct operand *keys,
                         const struct operand *values)
{
    step_close(program);
    if (program->err != ERR_NONE) return 0;
    if (program->section_at == 0) {
        program_fail(program, ERR_INVALID);
        return 0;
    }
    if (program->step_count == PROGRAM_STEPS_MAX) {
        program_fail(program, ERR_TOO_BIG);
        return 0;
    }
    head.number = (uint8_t)program->step_count;
    if (table) {
        head.table_id = table->id;
        head.table_version = table->version;
    }
    size_t at = program->buf.size;
    uint8_t *bytes = buf_add(&program->buf, sizeof(uint32_t) + sizeof(head));
    if (!bytes) {
        program_fail(program, ERR_NO_MEMORY);
        return 0;
    }
    memset(bytes, 0, sizeof(uint32_t));
    memcpy(bytes + sizeof(uint32_t), &head, sizeof(head));
    for (uint16_t i = 0; i < head.key_count; i++)
        put_operand(program, &keys[i]);
    for (uint16_t i = 0; i < head.value_count; i++)
        put_operand(program, &values[i]);
    program->step_at = at;
    program->section_steps++;
    program->step_count++;
    return head.number;
}

static uint8_t step_by_key(struct program *program, enum step_kind kind,
                           const struct table_def *table, const struct operand *key,
                           enum err on_missing)
{
    struct step_head head = {
        .kind = (uint8_t)kind,
        .on_err = (uint16_t)on_missing,
        .key_count = table->indexes[0].column_count,
    };
    return step_open(program, head, table, key, NULL);
}

uint8_t program_read(struct program *program, const struct table_def *table,
                     const struct operand *key, enum err on_missing)
{
    return step_by_key(program, STEP_READ, table, key, on_missing);
}

uint8_t program_update(struct program *program, const struct table_def *table,
                       const struct operand *key, enum err on_missing)
{
    return step_by_key(program, STEP_UPDATE, table, key, on_missing);
}

uint8_t program_delete(struct program *program, const struct table_def *table,
                       const struct operand *key, enum err on_missing)
{
    return step_by_key(program, STEP_DELETE, table, key, on_missing);
}

uint8_t program_insert(struct program *program, const struct table_def *table,
                       const struct operand *values, enum err on_exists)
{
    struct step_head head = {
        .kind = STEP_INSERT,
        .on_err = (uint16_t)on_exists,
        .value_count = table->column_count,
    };
    return step_open(program, head, table, NULL, values);
}

uint8_t program_upsert(struct program *program, const struct table_def *table,
                       const struct operand *values)
{
    struct step_head head = {.kind = STEP_UPSERT, .value_count = table->column_count};
    return step_open(program, head, table, NULL, values);
}

uint8_t program_check(struct program *program)
{
    struct step_head head = {.kind = STEP_CHECK};
    return step_open(program, head, NULL, NULL, NULL);
}

uint8_t program_scan(struct program *program, const struct table_def *table, uint8_t index,
                     const struct operand *key, uint8_t eq_count, const struct operand *after,
                     uint8_t after_count, bool after_inclusive, uint32_t limit)
{
    struct step_head head = {
        .kind = STEP_SCAN,
        .index = index,
        .bits = after_inclusive ? STEP_INCLUSIVE : 0,
        .key_count = eq_count,
        .value_count = after_count,
        .limit = limit,
    };
    return step_open(program, head, table, key, after);
}

static void put_columns(struct program *program, const uint16_t *columns, uint16_t count)
{
    buf_put_u16(&program->buf, count);
    buf_put(&program->buf, columns, (size_t)count * sizeof(*columns));
}

void program_scan_lookup(struct program *program, const struct table_def *table, uint16_t column,
                         const uint16_t *columns, uint16_t count)
{
    struct step_head *head = step_head(program);
    if (!head) return;
    if (head->kind != STEP_SCAN || (head->bits & STEP_HAS_LOOKUP) || count > SCHEMA_COLUMNS_MAX) {
        program_fail(program, ERR_INVALID);
        return;
    }
    head->bits |= STEP_HAS_LOOKUP;
    buf_put_u8(&program->buf, CLAUSE_LOOKUP);
    buf_put_u32(&program->buf, table->id);
    buf_put_u32(&program->buf, table->version);
    buf_put_u16(&program->buf, column);
    put_columns(program, columns, count);
}

void program_guard(struct program *program, struct expr expr, enum err err)
{
    struct step_head *head = step_head(program);
    if (!head) return;
    if (head->guard_count == PROGRAM_GUARDS_MAX) {
        program_fail(program, ERR_TOO_BIG);
        return;
    }
    head->guard_count++;
    buf_put_u8(&program->buf, CLAUSE_GUARD);
    buf_put_u16(&program->buf, (uint16_t)err);
    expr_encode(&expr, &program->buf);
}

void program_when(struct program *program, struct expr expr)
{
    struct step_head *head = step_head(program);
    if (!head) return;
    if (head->bits & STEP_HAS_WHEN) {
        program_fail(program, ERR_INVALID);
        return;
    }
    head->bits |= STEP_HAS_WHEN;
    buf_put_u8(&program->buf, CLAUSE_WHEN);
    expr_encode(&expr, &program->buf);
}

void program_flags(struct program *program, unsigned flags)
{
    struct step_head *head = step_head(program);
    if (head) head->flags = (uint8_t)flags;
}

void program_set(struct program *program, uint16_t column, struct operand operand)
{
    struct step_head *head = step_head(program);
    if (!head) return;
    if (head->kind != STEP_UPDATE && head->kind != STEP_UPSERT) {
        program_fail(program, ERR_INVALID);
        return;
    }
    if (head->set_count == SCHEMA_COLUMNS_MAX) {
        program_fail(program, ERR_TOO_BIG);
        return;
    }
    head->set_count++;
    buf_put_u8(&program->buf, CLAUSE_SET);
    buf_put_u16(&program->buf, column);
    put_operand(program, &operand);
}

void program_output(struct program *program, const uint16_t *columns, uint16_t count)
{
    struct step_head *head = step_head(program);
    if (!head) return;
    if ((head->bits & STEP_HAS_OUTPUT) || count > SCHEMA_COLUMNS_MAX || head->kind == STEP_CHECK) {
        program_fail(program, ERR_INVALID);
        return;
    }
    head->bits |= STEP_HAS_OUTPUT;
    buf_put_u8(&program->buf, CLAUSE_OUTPUT);
    put_columns(program, columns, count);
}

enum err program_finish(struct program *program)
{
    section_close(program);
    if (program->buf.failed) program_fail(program, ERR_NO_MEMORY);
    if (program->err != ERR_NONE) return program->err;
    patch_u16(program, 2, program->section_count);
    patch_u16(program, 4, program->step_count);
    return ERR_NONE;
}
