/* A finished program's bytes without a look into its steps: an outline for coordinators, which send
 * each worker its sections, and prepared programs, whose bytes stay and whose slots and values come
 * with every run.
 *
 * Invariant of a prepared program: bytes is a finished program, or empty; slots_at and param_kinds
 * are of it. The decoded form is of the catalog version it names, and goes with the arena. */
#include "db/wire/program.h"

#include "db/wire/program_wire.h"
#include "db/wire/value_codec.h"

/* ---- outline ---- */

enum err program_outline_decode(const void *bytes, size_t size, struct program_outline *ret_outline)
{
    if (size > PROGRAM_SIZE_MAX) return ERR_BAD_PROGRAM;
    struct reader reader = reader_of(bytes, size);
    struct program_outline outline = {.only_reads = true};
    uint16_t version = reader_u16(&reader);
    outline.section_count = reader_u16(&reader);
    outline.step_count = reader_u16(&reader);
    uint32_t flags = reader_u32(&reader);
    if (reader.failed || version != PROGRAM_VERSION || (flags & ~(uint32_t)PROGRAM_HAS_PARAMS) ||
        outline.section_count > PROGRAM_SECTIONS_MAX || outline.step_count > PROGRAM_STEPS_MAX)
        return ERR_BAD_PROGRAM;
    if (flags) {
        outline.params = reader.next;
        if (!reader_take(&reader, reader_u16(&reader))) return ERR_BAD_PROGRAM;
        outline.params_size = (uint32_t)(reader.next - outline.params);
    }
    unsigned steps = 0;
    for (uint16_t i = 0; i < outline.section_count; i++) {
        struct program_outline_section *section = &outline.sections[i];
        section->bytes = reader.next;
        section->slot = reader_u16(&reader);
        section->step_count = reader_u16(&reader);
        for (uint16_t j = 0; j < section->step_count && !reader.failed; j++) {
            const uint8_t *step = reader_take(&reader, reader_u32(&reader));
            if (!step || reader.next == step) return ERR_BAD_PROGRAM;
            if (step[0] != STEP_READ && step[0] != STEP_SCAN && step[0] != STEP_CHECK)
                outline.only_reads = false;
        }
        if (reader.failed) return ERR_BAD_PROGRAM;
        section->size = (uint32_t)(reader.next - section->bytes);
        steps += section->step_count;
    }
    if (outline.params) {
        outline.values = reader.next;
        outline.values_size = (uint32_t)reader_left(&reader);
        reader.next = reader.end;
    }
    if (reader_left(&reader) || steps != outline.step_count) return ERR_BAD_PROGRAM;
    *ret_outline = outline;
    return ERR_NONE;
}

void program_outline_encode(const struct program_outline *outline, uint32_t mask, struct buf *buf)
{
    uint16_t sections = 0;
    uint16_t steps = 0;
    for (uint16_t i = 0; i < outline->section_count; i++) {
        if (!(mask & (1u << i))) continue;
        sections++;
        steps = (uint16_t)(steps + outline->sections[i].step_count);
    }
    buf_put_u16(buf, PROGRAM_VERSION);
    buf_put_u16(buf, sections);
    buf_put_u16(buf, steps);
    buf_put_u32(buf, outline->params ? PROGRAM_HAS_PARAMS : 0);
    if (outline->params) buf_put(buf, outline->params, outline->params_size);
    for (uint16_t i = 0; i < outline->section_count; i++)
        if (mask & (1u << i)) buf_put(buf, outline->sections[i].bytes, outline->sections[i].size);
    if (outline->params) buf_put(buf, outline->values, outline->values_size);
}

/* ---- prepared programs ---- */

void program_prepared_init(struct program_prepared *prepared)
{
    *prepared = (struct program_prepared){0};
    buf_init(&prepared->bytes);
    arena_init(&prepared->arena, 0);
}

void program_prepared_fini(struct program_prepared *prepared)
{
    buf_fini(&prepared->bytes);
    arena_fini(&prepared->arena);
}

enum err program_prepare(struct program_prepared *prepared, struct program *program)
{
    buf_clear(&prepared->bytes);
    prepared->is_decoded = false;
    prepared->section_count = 0;
    prepared->param_count = 0;
    enum err err = program_finish(program);
    if (err) return err;
    buf_put(&prepared->bytes, program->buf.bytes, program->buf.size);
    if (prepared->bytes.failed) {
        buf_clear(&prepared->bytes);
        return ERR_NO_MEMORY;
    }
    prepared->section_count = program->section_count;
    prepared->param_count = program->param_count;
    memcpy(prepared->slots_at, program->slots_at, sizeof(prepared->slots_at));
    const uint8_t *kinds = prepared->bytes.bytes + PROGRAM_HEAD_SIZE + sizeof(uint16_t);
    if (program->param_count) memcpy(prepared->param_kinds, kinds, program->param_count);
    return ERR_NONE;
}

static enum err bind_check(const struct program_prepared *prepared, const uint16_t *slots,
                           const struct value *params)
{
    if (prepared->bytes.size == 0) return ERR_INVALID;
    for (uint16_t i = 0; i < prepared->param_count; i++)
        if (!param_fits(prepared->param_kinds[i], params[i])) return ERR_INVALID;
    for (uint16_t i = 1; i < prepared->section_count; i++)
        for (uint16_t j = 0; j < i; j++)
            if (slots[i] == slots[j]) return ERR_INVALID;
    return ERR_NONE;
}

enum err program_bind(const struct program_prepared *prepared, const uint16_t *slots,
                      const struct value *params, struct program *ret_program)
{
    enum err err = bind_check(prepared, slots, params);
    if (err) return err;
    program_begin(ret_program);
    struct buf *buf = &ret_program->buf;
    buf_clear(buf);
    buf_put(buf, prepared->bytes.bytes, prepared->bytes.size);
    for (uint16_t i = 0; i < prepared->param_count; i++)
        value_put(params[i], buf);
    if (buf->failed) return ERR_NO_MEMORY;
    if (buf->size > PROGRAM_SIZE_MAX) return ERR_TOO_BIG;
    for (uint16_t i = 0; i < prepared->section_count; i++)
        memcpy(buf->bytes + prepared->slots_at[i], &slots[i], sizeof(slots[i]));
    uint16_t steps;
    memcpy(&steps, buf->bytes + 2 * sizeof(steps), sizeof(steps));
    ret_program->step_count = steps;
    ret_program->section_count = prepared->section_count;
    memcpy(ret_program->slots, slots, prepared->section_count * sizeof(*slots));
    return ERR_NONE;
}

enum err program_bind_decoded(struct program_prepared *prepared, const struct catalog *catalog,
                              const uint16_t *slots, const struct value *params,
                              const struct program_decoded **ret_program)
{
    enum err err = bind_check(prepared, slots, params);
    if (err) return err;
    struct program_decoded *decoded = &prepared->decoded;
    if (__builtin_expect(!prepared->is_decoded || prepared->catalog_version != catalog->version,
                         0)) {
        prepared->is_decoded = false;
        arena_reset(&prepared->arena);
        struct reader reader = reader_of(prepared->bytes.bytes, prepared->bytes.size);
        err = program_decode_unbound(&reader, catalog, &prepared->arena, decoded);
        if (err) return err;
        prepared->is_decoded = true;
        prepared->catalog_version = catalog->version;
    }
    for (uint16_t i = 0; i < prepared->section_count; i++)
        decoded->sections[i].slot = slots[i];
    decoded->params = params;
    *ret_program = decoded;
    return ERR_NONE;
}
