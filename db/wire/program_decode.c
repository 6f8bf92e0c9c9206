/* Decoding and validating programs, the gate between a client's bytes and rows.
 *
 * One linear pass. What passes is safe to execute without further checks of its form: steps,
 * tables, columns and indexes exist, operands refer to earlier steps of the same section (or to the
 * own one, where that means something), kinds of columns in expressions are the table's, counts are
 * within limits. What depends on rows (ranges, sizes, NULLs, the row's slot) is checked as the
 * values are used.
 *
 * Everything is allocated from the caller's arena, in amounts bounded by the limits before they are
 * allocated: a program of the largest size cannot take more than some megabytes. */
#include "db/wire/program.h"

#include "base/check.h"
#include "db/wire/program_wire.h"
#include "db/wire/value_codec.h"

struct decoder {
    struct reader reader;
    const struct catalog *catalog;
    struct arena *arena;
    uint16_t param_count;
    const uint8_t *param_kinds;
    uint64_t known; /* steps of the section so far that later ones may refer to, a bit each */
    struct step *by_number[PROGRAM_STEPS_MAX]; /* those */
    struct step *step;                         /* being decoded */
    bool own_allowed; /* whether an operand may read the step's own row now */
};

/* Where a reference may go: the step's table, and the mark that the column is read. */
static bool column_check(const void *context, uint8_t source, uint16_t column, enum value_kind kind)
{
    const struct decoder *decoder = context;
    struct step *step = decoder->step;
    if (source == PROGRAM_SOURCE_PARAM)
        return column < decoder->param_count && kind == decoder->param_kinds[column];
    if (source != step->number) {
        if (source >= PROGRAM_STEPS_MAX || !(decoder->known >> source & 1)) return false;
        step = decoder->by_number[source];
    } else if (!decoder->own_allowed || !step->table) {
        return false;
    }
    if (column >= step->table->column_count) return false;
    if (kind != KIND_NULL && kind != column_kind(&step->table->columns[column])) return false;
    if (step != decoder->step) step->refs[column / 64] |= UINT64_C(1) << (column % 64);
    return true;
}

static enum err decode_expr(struct decoder *decoder, bool own_allowed, struct expr *ret_expr)
{
    struct expr expr;
    enum err err = expr_decode(&decoder->reader, decoder->arena, &expr);
    if (err) return err;
    decoder->own_allowed = own_allowed;
    err = expr_check_columns(&expr, column_check, decoder);
    if (err) return err;
    *ret_expr = expr;
    return ERR_NONE;
}

static inline enum err decode_operand(struct decoder *decoder, bool own_allowed,
                                      struct operand *operand)
{
    uint8_t tag = reader_u8(&decoder->reader);
    if (__builtin_expect(tag == OPERAND_CONST, 1)) {
        operand->tag = OPERAND_CONST;
        operand->value = value_get(&decoder->reader);
        return decoder->reader.failed ? ERR_BAD_PROGRAM : ERR_NONE;
    }
    switch (tag) {
    case OPERAND_COLUMN:
        operand->tag = OPERAND_COLUMN;
        operand->step = reader_u8(&decoder->reader);
        operand->column = reader_u16(&decoder->reader);
        decoder->own_allowed = own_allowed;
        if (decoder->reader.failed || operand->step == PROGRAM_SOURCE_PARAM ||
            !column_check(decoder, operand->step, operand->column, KIND_NULL))
            return ERR_BAD_PROGRAM;
        return ERR_NONE;
    case OPERAND_PARAM:
        operand->tag = OPERAND_PARAM;
        operand->column = reader_u16(&decoder->reader);
        if (decoder->reader.failed || operand->column >= decoder->param_count)
            return ERR_BAD_PROGRAM;
        return ERR_NONE;
    case OPERAND_EXPR:
        operand->tag = OPERAND_EXPR;
        return decode_expr(decoder, own_allowed, &operand->expr);
    default:
        return ERR_BAD_PROGRAM;
    }
}

static enum err decode_operands(struct decoder *decoder, uint16_t count,
                                struct operand **ret_operands)
{
    struct operand *operands = arena_alloc(decoder->arena, count * sizeof(*operands));
    if (!operands) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < count; i++) {
        enum err err = decode_operand(decoder, false, &operands[i]);
        if (err) return err;
    }
    *ret_operands = operands;
    return ERR_NONE;
}

static enum err find_table(const struct decoder *decoder, uint32_t id, uint32_t version,
                           const struct table_def **ret_table)
{
    const struct catalog *catalog = decoder->catalog;
    const struct table_def *table = NULL;
    if (id - 1 < catalog->table_count && catalog->tables[id - 1]->id == id)
        table = catalog->tables[id - 1];
    else
        table = catalog_find_id(catalog, id);
    if (!table || table->version != version) return ERR_SCHEMA_CHANGED;
    *ret_table = table;
    return ERR_NONE;
}

static enum err decode_columns(struct decoder *decoder, const struct table_def *table,
                               uint16_t *ret_count, uint16_t **ret_columns)
{
    uint16_t count = reader_u16(&decoder->reader);
    if (count > SCHEMA_COLUMNS_MAX) return ERR_BAD_PROGRAM;
    const uint8_t *bytes = reader_take(&decoder->reader, count * sizeof(uint16_t));
    if (!bytes) return ERR_BAD_PROGRAM;
    uint16_t *columns = arena_alloc(decoder->arena, count * sizeof(*columns));
    if (!columns) return ERR_NO_MEMORY;
    memcpy(columns, bytes, count * sizeof(*columns));
    for (uint16_t i = 0; i < count; i++)
        if (columns[i] >= table->column_count) return ERR_BAD_PROGRAM;
    *ret_columns = columns;
    *ret_count = count;
    return ERR_NONE;
}

static enum err decode_lookup(struct decoder *decoder, struct step *step)
{
    uint32_t id = reader_u32(&decoder->reader);
    uint32_t version = reader_u32(&decoder->reader);
    uint16_t column = reader_u16(&decoder->reader);
    if (decoder->reader.failed || column >= step->table->column_count) return ERR_BAD_PROGRAM;
    enum err err = find_table(decoder, id, version, &step->lookup_table);
    if (err) return err;
    if (step->lookup_table->indexes[0].column_count != 1) return ERR_BAD_PROGRAM;
    step->lookup_column = column;
    return decode_columns(decoder, step->lookup_table, &step->lookup_output_count,
                          &step->lookup_outputs);
}

static bool is_key_column(const struct table_def *table, uint16_t column)
{
    const struct index_def *primary = &table->indexes[0];
    for (uint8_t i = 0; i < primary->column_count; i++)
        if (primary->columns[i] == column) return true;
    return false;
}

static enum err decode_set(struct decoder *decoder, struct step *step,
                           uint64_t seen[SCHEMA_COLUMNS_MAX / 64])
{
    struct step_set *set = &step->sets[step->set_count++];
    set->column = reader_u16(&decoder->reader);
    if (decoder->reader.failed || set->column >= step->table->column_count ||
        is_key_column(step->table, set->column))
        return ERR_BAD_PROGRAM;
    uint64_t bit = UINT64_C(1) << (set->column % 64);
    if (seen[set->column / 64] & bit) return ERR_BAD_PROGRAM;
    seen[set->column / 64] |= bit;
    return decode_operand(decoder, true, &set->operand);
}

static enum err decode_guard(struct decoder *decoder, struct step *step)
{
    struct step_guard *guard = &step->guards[step->guard_count++];
    uint16_t number = reader_u16(&decoder->reader);
    if (!err_is_known(number)) return ERR_BAD_PROGRAM;
    guard->err = number ? (enum err)number : ERR_GUARD;
    return decode_expr(decoder, true, &guard->expr);
}

/* The clauses behind the operands, up to `end`. The head said how many there are of each kind. */
static enum err decode_clauses(struct decoder *decoder, const struct step_head *head,
                               const uint8_t *end)
{
    struct step *step = decoder->step;
    uint64_t seen[SCHEMA_COLUMNS_MAX / 64] = {0};
    unsigned bits = 0;
    while (decoder->reader.next < end) {
        enum err err = ERR_BAD_PROGRAM;
        switch (reader_u8(&decoder->reader)) {
        case CLAUSE_WHEN:
            if (bits & STEP_HAS_WHEN) return ERR_BAD_PROGRAM;
            bits |= STEP_HAS_WHEN;
            step->has_when = true;
            err = decode_expr(decoder, false, &step->when);
            break;
        case CLAUSE_GUARD:
            if (step->guard_count == head->guard_count) return ERR_BAD_PROGRAM;
            err = decode_guard(decoder, step);
            break;
        case CLAUSE_SET:
            if (step->set_count == head->set_count) return ERR_BAD_PROGRAM;
            err = decode_set(decoder, step, seen);
            break;
        case CLAUSE_OUTPUT:
            if ((bits & STEP_HAS_OUTPUT) || !step->table) return ERR_BAD_PROGRAM;
            bits |= STEP_HAS_OUTPUT;
            err = decode_columns(decoder, step->table, &step->output_count, &step->outputs);
            break;
        case CLAUSE_LOOKUP:
            if ((bits & STEP_HAS_LOOKUP) || step->kind != STEP_SCAN) return ERR_BAD_PROGRAM;
            bits |= STEP_HAS_LOOKUP;
            err = decode_lookup(decoder, step);
            break;
        default:
            break;
        }
        if (err) return err;
        if (decoder->reader.failed) return ERR_BAD_PROGRAM;
    }
    const unsigned clauses = STEP_HAS_WHEN | STEP_HAS_OUTPUT | STEP_HAS_LOOKUP;
    if (decoder->reader.next != end || step->guard_count != head->guard_count ||
        step->set_count != head->set_count || bits != (head->bits & clauses))
        return ERR_BAD_PROGRAM;
    return ERR_NONE;
}

/* Do the counts fit the kind and the table? */
static bool head_fits(const struct step_head *head, const struct table_def *table)
{
    if (head->reserved || head->guard_count > PROGRAM_GUARDS_MAX ||
        head->set_count > SCHEMA_COLUMNS_MAX ||
        (head->flags & ~(unsigned)(STEP_OPTIONAL | STEP_FREES)) || !err_is_known(head->on_err) ||
        (head->bits &
         ~(unsigned)(STEP_HAS_WHEN | STEP_HAS_LOOKUP | STEP_HAS_OUTPUT | STEP_INCLUSIVE)))
        return false;
    bool puts = head->kind == STEP_INSERT || head->kind == STEP_UPSERT;
    if (!puts && (head->flags & STEP_FREES)) return false;
    bool sets = head->kind == STEP_UPDATE || head->kind == STEP_UPSERT;
    if (!sets && head->set_count) return false;
    if (head->kind != STEP_SCAN && (head->index || head->limit || (head->bits & STEP_INCLUSIVE)))
        return false;
    switch (head->kind) {
    case STEP_READ:
    case STEP_UPDATE:
    case STEP_DELETE:
        return head->key_count == table->indexes[0].column_count && head->value_count == 0;
    case STEP_INSERT:
    case STEP_UPSERT:
        return head->key_count == 0 && head->value_count == table->column_count;
    case STEP_SCAN: {
        if (head->index >= table->index_count || head->limit == 0 ||
            head->limit > PROGRAM_SCAN_LIMIT_MAX)
            return false;
        const struct index_def *index = &table->indexes[head->index];
        if (index->kind != INDEX_ORDERED)
            return head->key_count == index->column_count && head->value_count == 0;
        return (unsigned)head->key_count + head->value_count <= index->column_count;
    }
    case STEP_CHECK:
        return head->key_count == 0 && head->value_count == 0 && head->table_id == 0;
    default:
        return false;
    }
}

/* The operand that is all of the key, an integer, of a hashed row. NULL: there is none. */
static const struct operand *key_single(const struct step *step)
{
    if (!step->table || step->kind == STEP_SCAN) return NULL;
    const struct index_def *primary = &step->table->indexes[0];
    if (primary->column_count != 1 || (primary->kind != INDEX_HASH && !primary->has_hash) ||
        column_kind(&step->table->columns[primary->columns[0]]) != KIND_U64)
        return NULL;
    return step->key_count ? step->key : &step->values[primary->columns[0]];
}

/* The same when it is known before the program runs. */
static const struct operand *key_known(const struct step *step)
{
    const struct operand *key = key_single(step);
    return key && (key->tag == OPERAND_CONST || key->tag == OPERAND_PARAM) ? key : NULL;
}

/* Tells the step whose row has the key of this one's. */
static void key_follow(const struct decoder *decoder, const struct step *step)
{
    const struct operand *key = key_single(step);
    if (!key || !step->key_count || key->tag != OPERAND_COLUMN) return;
    if (!(decoder->known >> key->step & 1)) return;
    struct step *source = decoder->by_number[key->step];
    if (source->then || source->kind != STEP_READ) return;
    source->then = step;
    source->then_column = key->column;
}

static enum err decode_step(struct decoder *decoder, struct step *step, int number_min)
{
    uint32_t size = reader_u32(&decoder->reader);
    if (decoder->reader.failed || size > reader_left(&decoder->reader)) return ERR_BAD_PROGRAM;
    const uint8_t *end = decoder->reader.next + size;
    struct step_head head;
    const uint8_t *bytes = reader_take(&decoder->reader, sizeof(head));
    if (!bytes) return ERR_BAD_PROGRAM;
    memcpy(&head, bytes, sizeof(head));
    if (head.number >= PROGRAM_STEPS_MAX || head.number < number_min) return ERR_BAD_PROGRAM;
    const struct table_def *table = NULL;
    if (head.kind != STEP_CHECK) {
        enum err err = find_table(decoder, head.table_id, head.table_version, &table);
        if (err) return err;
    }
    if (!head_fits(&head, table)) return ERR_BAD_PROGRAM;

    *step = (struct step){
        .kind = head.kind,
        .flags = head.flags,
        .number = head.number,
        .index = head.index,
        .table = table,
        .key_count = head.key_count,
        .value_count = head.value_count,
        .after_inclusive = (head.bits & STEP_INCLUSIVE) != 0,
        .limit = head.limit,
        .on_err = (enum err)head.on_err,
    };
    if (step->on_err == ERR_NONE)
        step->on_err = step->kind == STEP_INSERT ? ERR_EXISTS : ERR_NOT_FOUND;
    decoder->step = step;
    enum err err = decode_operands(decoder, head.key_count, &step->key);
    if (err) return err;
    err = decode_operands(decoder, head.value_count, &step->values);
    if (err) return err;
    step->ahead = key_known(step);
    if (head.guard_count) {
        step->guards = arena_alloc(decoder->arena, head.guard_count * sizeof(*step->guards));
        if (!step->guards) return ERR_NO_MEMORY;
    }
    if (head.set_count) {
        step->sets = arena_alloc(decoder->arena, head.set_count * sizeof(*step->sets));
        if (!step->sets) return ERR_NO_MEMORY;
    }
    /* Operands must not have run into the next step. */
    if (decoder->reader.next > end) return ERR_BAD_PROGRAM;
    return decode_clauses(decoder, &head, end);
}

static enum err decode_section(struct decoder *decoder, struct program_section_decoded *section,
                               unsigned step_count_max, int *number_min)
{
    section->slot = reader_u16(&decoder->reader);
    section->step_count = reader_u16(&decoder->reader);
    if (decoder->reader.failed || section->step_count > step_count_max) return ERR_BAD_PROGRAM;
    section->steps = arena_alloc(decoder->arena, section->step_count * sizeof(*section->steps));
    if (!section->steps) return ERR_NO_MEMORY;
    decoder->known = 0;
    for (uint16_t i = 0; i < section->step_count; i++) {
        struct step *step = &section->steps[i];
        enum err err = decode_step(decoder, step, *number_min);
        if (err) return err;
        *number_min = step->number + 1;
        key_follow(decoder, step);
        if (step->kind == STEP_CHECK || step->kind == STEP_SCAN) continue;
        decoder->known |= UINT64_C(1) << step->number;
        decoder->by_number[step->number] = step;
    }
    return ERR_NONE;
}

/* The head, and how many steps the sections must have. */
static enum err decode_head(struct decoder *decoder, struct program_decoded *program)
{
    uint16_t version = reader_u16(&decoder->reader);
    program->section_count = reader_u16(&decoder->reader);
    program->step_count = reader_u16(&decoder->reader);
    uint32_t flags = reader_u32(&decoder->reader);
    if (decoder->reader.failed || version != PROGRAM_VERSION ||
        (flags & ~(uint32_t)PROGRAM_HAS_PARAMS) || program->section_count > PROGRAM_SECTIONS_MAX ||
        program->step_count > PROGRAM_STEPS_MAX)
        return ERR_BAD_PROGRAM;
    if (!flags) return ERR_NONE;
    uint16_t count = reader_u16(&decoder->reader);
    if (count == 0 || count > PROGRAM_PARAMS_MAX) return ERR_BAD_PROGRAM;
    const uint8_t *kinds = reader_take(&decoder->reader, count);
    if (!kinds) return ERR_BAD_PROGRAM;
    for (uint16_t i = 0; i < count; i++)
        if (!param_kind_is_known(kinds[i])) return ERR_BAD_PROGRAM;
    decoder->param_count = program->param_count = count;
    decoder->param_kinds = program->param_kinds = kinds;
    return ERR_NONE;
}

static enum err decode_params(struct decoder *decoder, struct program_decoded *program)
{
    if (program->param_count == 0) return ERR_NONE;
    struct value *params = arena_alloc(decoder->arena, program->param_count * sizeof(*params));
    if (!params) return ERR_NO_MEMORY;
    for (uint16_t i = 0; i < program->param_count; i++) {
        params[i] = value_get(&decoder->reader);
        if (decoder->reader.failed || !param_fits(program->param_kinds[i], params[i]))
            return ERR_BAD_PROGRAM;
    }
    program->params = params;
    return ERR_NONE;
}

static enum err decode(struct reader *reader, const struct catalog *catalog, struct arena *arena,
                       bool with_params, struct program_decoded *ret_program)
{
    if (reader_left(reader) > PROGRAM_SIZE_MAX) return ERR_BAD_PROGRAM;
    struct decoder decoder;
    decoder.reader = *reader;
    decoder.catalog = catalog;
    decoder.arena = arena;
    decoder.param_count = 0;
    struct program_decoded program = {0};
    enum err err = decode_head(&decoder, &program);
    if (err) return err;
    program.sections = arena_alloc(arena, program.section_count * sizeof(*program.sections));
    if (!program.sections) return ERR_NO_MEMORY;
    unsigned left = program.step_count;
    int number_min = 0;
    for (uint16_t i = 0; i < program.section_count; i++) {
        struct program_section_decoded *section = &program.sections[i];
        err = decode_section(&decoder, section, left, &number_min);
        if (err) return err;
        left -= section->step_count;
    }
    if (with_params) err = decode_params(&decoder, &program);
    if (err) return err;
    if (left || reader_left(&decoder.reader)) return ERR_BAD_PROGRAM;
    *reader = decoder.reader;
    *ret_program = program;
    return ERR_NONE;
}

enum err program_decode(struct reader *reader, const struct catalog *catalog, struct arena *arena,
                        struct program_decoded *ret_program)
{
    return decode(reader, catalog, arena, true, ret_program);
}

enum err program_decode_unbound(struct reader *reader, const struct catalog *catalog,
                                struct arena *arena, struct program_decoded *ret_program)
{
    return decode(reader, catalog, arena, false, ret_program);
}
