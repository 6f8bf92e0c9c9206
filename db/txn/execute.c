/* The executor of programs: one function per kind of step.
 *
 * A step evaluates its key, finds its row, keeps the columns that later steps refer to (the decoder
 * marked them), checks its guards, changes the row, and appends its output. Values are kept when
 * the row is fetched, so a later step sees them as they were then, whatever was changed in between;
 * strings among them are copied to the arena, since a row's bytes are only borrowed until the
 * fragment changes.
 *
 * What the decoder could not know is checked here: that values fit their columns (value_fit, before
 * they are used as keys; inserts and updates fit their own) and that the row belongs to the
 * section's partition. */
#include "db/txn/execute.h"

#include "base/check.h"
#include "db/ldm/expr.h"
#include "db/txn/scan.h"
#include "db/wire/value_codec.h"

enum { OUTPUT_SIZE_MAX = PROGRAM_REPLY_SIZE_MAX - PROGRAM_REPLY_HEADER_SIZE };

struct step_state {
    bool present; /* the row was there (or is now, of an INSERT) */
    const struct step *step;
    struct value *kept; /* of the columns in step->refs, in order */
};

struct run {
    const struct executor *executor;
    const struct value *params; /* the program's */
    struct change_set *changes;
    struct buf *reply; /* takes the outputs, but for single rows when `direct` does */
    size_t reply_at;
    struct program_reply *direct; /* NULL: none */
    size_t direct_size;           /* bytes of what it has, about as they would be in `reply` */
    struct partition *partition;  /* of the section */
    uint16_t slot;
    /* The step that runs: */
    const struct step *step;
    struct fragment *fragment;
    uint32_t row;
    bool row_here;
    /* Entries of the section's steps so far; others are never read. */
    struct step_state states[PROGRAM_STEPS_MAX];
};

/* ---- operands ---- */

static struct value kept_value(const struct step_state *state, uint16_t column)
{
    if (!state->present) return value_null();
    const uint64_t *refs = state->step->refs;
    unsigned at = 0;
    for (unsigned word = 0; word < column / 64u; word++)
        at += (unsigned)__builtin_popcountll(refs[word]);
    uint64_t below = refs[column / 64] & ((UINT64_C(1) << (column % 64)) - 1);
    return state->kept[at + (unsigned)__builtin_popcountll(below)];
}

static struct value run_column(const void *context, uint8_t source, uint16_t column)
{
    const struct run *run = context;
    if (source == PROGRAM_SOURCE_PARAM) return run->params[column];
    if (source != run->step->number) return kept_value(&run->states[source], column);
    return run->row_here ? fragment_value(run->fragment, run->row, column) : value_null();
}

static inline enum err operand_eval(const struct run *run, const struct operand *operand,
                                    struct value *ret_value)
{
    if (__builtin_expect(operand->tag == OPERAND_CONST, 1)) {
        *ret_value = operand->value;
        return ERR_NONE;
    }
    if (__builtin_expect(operand->tag == OPERAND_PARAM, 1)) {
        *ret_value = run->params[operand->column];
        return ERR_NONE;
    }
    if (operand->tag == OPERAND_COLUMN) {
        *ret_value = run_column(run, operand->step, operand->column);
        return ERR_NONE;
    }
    return expr_eval(&operand->expr, run_column, run, run->executor->arena, ret_value);
}

/* Moves the bytes of a string out of the fragment. */
static enum err value_keep(const struct run *run, struct value *value)
{
    if (value->kind != KIND_STR || value->size == 0) return ERR_NONE;
    uint8_t *bytes = arena_alloc(run->executor->arena, value->size);
    if (!bytes) return ERR_NO_MEMORY;
    memcpy(bytes, value->bytes, value->size);
    value->bytes = bytes;
    return ERR_NONE;
}

/* value_fit, with a short cut for what most keys are. */
static inline enum err fit(const struct column_def *column, struct value value,
                           struct value *ret_value)
{
    if (__builtin_expect(column->type == TYPE_BIGINT_UNSIGNED && value.kind == KIND_U64, 1)) {
        *ret_value = value;
        return ERR_NONE;
    }
    return value_fit(column, value, ret_value);
}

/* Operands that belong to columns of the table, as values that fit them. */
static enum err operands_fit(const struct run *run, const struct table_def *table,
                             const uint16_t *columns, const struct operand *operands,
                             uint32_t count, struct value *values)
{
    for (uint32_t i = 0; i < count; i++) {
        struct value value;
        enum err err = operand_eval(run, &operands[i], &value);
        if (!err) err = fit(&table->columns[columns[i]], value, &values[i]);
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err expr_check(const struct run *run, const struct expr *expr, bool *ret_holds)
{
    struct value value;
    enum err err = expr_eval(expr, run_column, run, run->executor->arena, &value);
    if (err) return err;
    *ret_holds = expr_holds(value);
    return ERR_NONE;
}

static enum err guards_check(const struct run *run)
{
    const struct step *step = run->step;
    for (uint16_t i = 0; i < step->guard_count; i++) {
        bool holds;
        enum err err = expr_check(run, &step->guards[i].expr, &holds);
        if (err) return err;
        if (!holds) return step->guards[i].err;
    }
    return ERR_NONE;
}

/* ---- rows ---- */

/* Does the row with these primary-key values belong to the section's partition? */
static enum err slot_check(const struct run *run, const struct table_def *table,
                           const struct value *key)
{
    const struct index_def *primary = &table->indexes[0];
    uint16_t slot;
    if (__builtin_expect(table->partition_by == PARTITION_BY_HOME &&
                             table->partition_columns[0] == primary->columns[0] &&
                             key[0].kind == KIND_U64,
                         1)) {
        slot = (uint16_t)(key[0].u >> HOME_SHIFT);
    } else {
        struct value values[SCHEMA_KEY_COLUMNS_MAX];
        for (uint8_t i = 0; i < table->partition_column_count; i++) {
            uint8_t at = 0;
            while (primary->columns[at] != table->partition_columns[i])
                at++;
            values[i] = key[at];
        }
        enum err err = table_slot(table, values, &slot);
        if (err) return err;
    }
    uint16_t mask = (uint16_t)(run->executor->partition_count - 1);
    return ((slot ^ run->slot) & mask) == 0 ? ERR_NONE : ERR_WRONG_PARTITION;
}

/* Finds the step's row. ERR_NOT_FOUND among others. */
static enum err row_find(struct run *run, const struct value *key)
{
    enum err err = slot_check(run, run->step->table, key);
    if (err) return err;
    const struct step *step = run->step, *then = step->then;
    struct read_ahead ahead = {.columns = step->outputs, .count = step->output_count};
    if (then) {
        ahead.then = partition_fragment(run->partition, then->table->id);
        ahead.then_column = step->then_column;
        ahead.then_columns = then->outputs;
        ahead.then_count = then->output_count;
    }
    err = fragment_find_ahead(run->fragment, run->changes, key, &ahead, &run->row);
    run->row_here = err == ERR_NONE;
    return err;
}

/* The row is fetched: remembers what later steps read of it. */
static enum err row_keep(struct run *run)
{
    const struct step *step = run->step;
    struct step_state *state = &run->states[step->number];
    state->present = true;
    unsigned count = 0;
    for (unsigned word = 0; word < ARRAY_SIZE(step->refs); word++)
        count += (unsigned)__builtin_popcountll(step->refs[word]);
    if (count == 0) return ERR_NONE;
    state->kept = arena_alloc(run->executor->arena, count * sizeof(*state->kept));
    if (!state->kept) return ERR_NO_MEMORY;
    unsigned at = 0;
    for (unsigned word = 0; word < ARRAY_SIZE(step->refs); word++) {
        for (uint64_t bits = step->refs[word]; bits; bits &= bits - 1) {
            uint16_t column = (uint16_t)(word * 64 + (unsigned)__builtin_ctzll(bits));
            state->kept[at] = fragment_value(run->fragment, run->row, column);
            enum err err = value_keep(run, &state->kept[at++]);
            if (err) return err;
        }
    }
    return ERR_NONE;
}

static enum err row_lock(struct run *run)
{
    if (!run->executor->lock_reads) return ERR_NONE;
    return fragment_lock(run->fragment, run->changes, run->row);
}

/* The row's strings are only borrowed from it: the reply gets copies. */
static enum err row_output_direct(struct run *run)
{
    const struct step *step = run->step;
    struct program_reply *reply = run->direct;
    struct value *values = program_reply_row(reply, step->number, step->output_count);
    if (!values) return ERR_NO_MEMORY;
    bool strings =
        fragment_values(run->fragment, run->row, step->outputs, step->output_count, values);
    run->direct_size += step->output_count * sizeof(*values);
    if (__builtin_expect(!strings, 1)) return ERR_NONE;
    for (uint16_t i = 0; i < step->output_count; i++) {
        if (values[i].kind != KIND_STR || values[i].size == 0) continue;
        uint8_t *bytes = arena_alloc(&reply->arena, values[i].size);
        if (!bytes) return ERR_NO_MEMORY;
        memcpy(bytes, values[i].bytes, values[i].size);
        values[i].bytes = bytes;
        run->direct_size += values[i].size;
    }
    return run->direct_size > OUTPUT_SIZE_MAX ? ERR_TOO_BIG : ERR_NONE;
}

static enum err row_output(struct run *run)
{
    const struct step *step = run->step;
    if (step->output_count == 0) return ERR_NONE;
    if (run->direct) return row_output_direct(run);
    buf_put_u8(run->reply, step->number);
    buf_put_u32(run->reply, 1);
    buf_put_u16(run->reply, step->output_count);
    for (uint16_t i = 0; i < step->output_count; i++)
        value_put(fragment_value(run->fragment, run->row, step->outputs[i]), run->reply);
    return run->reply->size - run->reply_at > OUTPUT_SIZE_MAX ? ERR_TOO_BIG : ERR_NONE;
}

/* Applies the step's assignments, all computed from the row as it is. */
static enum err row_set(struct run *run)
{
    const struct step *step = run->step;
    uint16_t columns[SCHEMA_COLUMNS_MAX];
    struct value values[SCHEMA_COLUMNS_MAX];
    for (uint16_t i = 0; i < step->set_count; i++) {
        const struct step_set *set = &step->sets[i];
        columns[i] = set->column;
        enum err err = operand_eval(run, &set->operand, &values[i]);
        if (!err && set->operand.tag != OPERAND_CONST) err = value_keep(run, &values[i]);
        if (err) return err;
    }
    if (step->set_count == 0) return ERR_NONE;
    return fragment_update(run->fragment, run->changes, run->row, columns, values, step->set_count);
}

/* ---- steps ---- */

/* READ, UPDATE, DELETE: the row with the step's key. *ret_there false: the step is over. */
static enum err step_fetch(struct run *run, bool *ret_there)
{
    const struct step *step = run->step;
    struct value key[SCHEMA_KEY_COLUMNS_MAX];
    enum err err = operands_fit(run, step->table, step->table->indexes[0].columns, step->key,
                                step->key_count, key);
    if (err) return err;
    err = row_find(run, key);
    if (err == ERR_NOT_FOUND) {
        *ret_there = false;
        return step->flags & STEP_OPTIONAL ? ERR_NONE : step->on_err;
    }
    if (err) return err;
    err = row_keep(run);
    if (!err) err = guards_check(run);
    if (!err) err = row_lock(run);
    if (err) return err;
    *ret_there = true;
    return ERR_NONE;
}

static enum err run_read(struct run *run)
{
    bool there;
    enum err err = step_fetch(run, &there);
    return err || !there ? err : row_output(run);
}

static enum err run_update(struct run *run)
{
    bool there;
    enum err err = step_fetch(run, &there);
    if (err || !there) return err;
    err = row_set(run);
    return err ? err : row_output(run);
}

static enum err run_delete(struct run *run)
{
    bool there;
    enum err err = step_fetch(run, &there);
    if (err || !there) return err;
    err = row_output(run);
    return err ? err : fragment_delete(run->fragment, run->changes, run->row);
}

/* The values of an INSERT or UPSERT, and among them the key, fitted and of the right partition. */
static enum err row_values(struct run *run, struct value *values,
                           struct value key[SCHEMA_KEY_COLUMNS_MAX])
{
    const struct step *step = run->step;
    for (uint16_t i = 0; i < step->value_count; i++) {
        enum err err = operand_eval(run, &step->values[i], &values[i]);
        if (err) return err;
    }
    const struct index_def *primary = &step->table->indexes[0];
    for (uint8_t i = 0; i < primary->column_count; i++) {
        uint16_t column = primary->columns[i];
        enum err err = fit(&step->table->columns[column], values[column], &key[i]);
        if (err) return err;
    }
    return slot_check(run, step->table, key);
}

static enum err row_insert(struct run *run, const struct value *values)
{
    enum err err = fragment_insert(run->fragment, run->changes, values, &run->row);
    if (err) return err;
    run->row_here = true;
    return row_keep(run);
}

static enum err run_insert(struct run *run)
{
    const struct step *step = run->step;
    struct value values[SCHEMA_COLUMNS_MAX];
    struct value key[SCHEMA_KEY_COLUMNS_MAX];
    enum err err = row_values(run, values, key);
    if (!err) err = guards_check(run);
    if (err) return err;
    err = row_insert(run, values);
    if (err == ERR_EXISTS) {
        if (!(step->flags & STEP_OPTIONAL)) return step->on_err;
        err = row_find(run, key);
        if (!err) err = row_keep(run);
    }
    return err ? err : row_output(run);
}

static enum err run_upsert(struct run *run)
{
    struct value values[SCHEMA_COLUMNS_MAX];
    struct value key[SCHEMA_KEY_COLUMNS_MAX];
    enum err err = row_values(run, values, key);
    if (err) return err;
    err = row_find(run, key);
    if (err == ERR_NOT_FOUND) {
        err = row_insert(run, values);
    } else if (!err) {
        err = row_keep(run);
        if (!err) err = guards_check(run);
        if (!err) err = row_lock(run);
        if (!err) err = row_set(run);
    }
    return err ? err : row_output(run);
}

/* ---- scans ---- */

/* The strings of a row are only borrowed: the reply gets copies. */
static enum err scan_keep(struct run *run, const struct scan *scan, struct value *values)
{
    size_t size = scan->columns * sizeof(*values);
    for (uint16_t i = 0; i < scan->string_count; i++) {
        struct value *value = &values[scan->strings[i]];
        if (value->kind != KIND_STR || value->size == 0) continue;
        uint8_t *bytes = arena_alloc(&run->direct->arena, value->size);
        if (!bytes) return ERR_NO_MEMORY;
        memcpy(bytes, value->bytes, value->size);
        value->bytes = bytes;
        size += value->size;
    }
    run->direct_size += size;
    return run->direct_size > OUTPUT_SIZE_MAX ? ERR_END : ERR_NONE;
}

/* ERR_END: it is full. *count grows by the rows that were put. */
static enum err scan_put_direct(struct run *run, const struct scan *scan, uint32_t first,
                                uint32_t row_count, uint32_t *count)
{
    struct step_rows *rows = &run->direct->steps[run->step->number];
    struct value *values =
        program_reply_rows_more(run->direct, run->step->number, row_count, run->step->limit);
    if (!values) return ERR_NO_MEMORY;
    scan_values(scan, first, row_count, values);
    for (uint32_t i = 0; i < row_count; i++) {
        enum err err = scan_keep(run, scan, values + (size_t)i * scan->columns);
        if (err == ERR_END) rows->row_count -= row_count - i;
        if (err) return err;
        (*count)++;
    }
    return ERR_NONE;
}

static enum err scan_put(struct run *run, const struct scan *scan, uint32_t first,
                         uint32_t row_count, uint32_t *count)
{
    struct value values[2 * SCHEMA_COLUMNS_MAX];
    for (uint32_t i = 0; i < row_count; i++) {
        scan_values(scan, first + i, 1, values);
        size_t row_at = run->reply->size;
        for (uint16_t j = 0; j < scan->columns; j++)
            value_put(values[j], run->reply);
        if (run->reply->failed) return ERR_NO_MEMORY;
        if (run->reply->size - run->reply_at > OUTPUT_SIZE_MAX) {
            run->reply->size = row_at;
            return ERR_END;
        }
        (*count)++;
    }
    return ERR_NONE;
}

/* The batch's rows to the reply. ERR_END: it is full. */
static enum err scan_output(struct run *run, const struct scan *scan, uint32_t *count)
{
    /* Guards are checked on what is returned, so one by one where there are any. */
    uint32_t together = run->step->guard_count ? 1 : scan->count;
    for (uint32_t at = 0; at < scan->count; at += together) {
        run->row = scan->rows[at];
        run->row_here = true;
        enum err err = guards_check(run);
        if (err) return err;
        if (scan->columns == 0)
            *count += together;
        else if (run->direct)
            err = scan_put_direct(run, scan, at, together, count);
        else
            err = scan_put(run, scan, at, together, count);
        if (err) return err == ERR_END && *count == 0 ? ERR_TOO_BIG : err;
    }
    return ERR_NONE;
}

static enum err run_scan(struct run *run)
{
    const struct step *step = run->step;
    const struct index_def *index = &step->table->indexes[step->index];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    enum err err =
        operands_fit(run, step->table, index->columns, step->key, step->key_count, values);
    if (err) return err;
    err = operands_fit(run, step->table, index->columns + step->key_count, step->values,
                       step->value_count, values + step->key_count);
    if (err) return err;
    struct index_bounds bounds = {
        .eq = values,
        .eq_count = step->key_count,
        .low = values + step->key_count,
        .low_count = step->value_count,
        .low_inclusive = step->after_inclusive,
    };
    struct scan scan;
    err = scan_open(&scan, run->executor, run->changes, run->fragment, step, &bounds);
    if (err) return err;

    uint16_t columns = scan.columns;
    size_t head_at = run->reply->size;
    bool has_head = columns && !run->direct;
    if (has_head) {
        buf_put_u8(run->reply, step->number);
        buf_put_u32(run->reply, 0);
        buf_put_u16(run->reply, columns);
    } else if (columns) {
        program_reply_rows(run->direct, step->number, columns);
    }
    uint32_t count = 0;
    enum err end = ERR_NONE;
    while (!end) {
        end = scan_next(&scan);
        err = scan_output(run, &scan, &count);
        if (err == ERR_END) break;
        if (err) return err;
    }
    if (end && end != ERR_END) return end;
    if (has_head && !run->reply->failed)
        memcpy(run->reply->bytes + head_at + 1, &count, sizeof(count));
    return ERR_NONE;
}

/* INSERT, UPSERT. */
static enum err run_put(struct run *run)
{
    const struct step *step = run->step;
    enum err err;
    if (step->flags & STEP_FREES) fragment_limit(run->fragment, false);
    err = step->kind == STEP_INSERT ? run_insert(run) : run_upsert(run);
    if (step->flags & STEP_FREES) fragment_limit(run->fragment, true);
    return err;
}

static enum err run_step(struct run *run, const struct step *step)
{
    run->step = step;
    run->row_here = false;
    run->states[step->number] = (struct step_state){.step = step};
    if (step->has_when) {
        bool holds;
        enum err err = expr_check(run, &step->when, &holds);
        if (err || !holds) return err;
    }
    if (step->kind == STEP_CHECK) return guards_check(run);
    run->fragment = partition_fragment(run->partition, step->table->id);
    ASSERT(run->fragment); /* the program was decoded with the catalog the partitions follow */
    switch (step->kind) {
    case STEP_READ:
        return run_read(run);
    case STEP_UPDATE:
        return run_update(run);
    case STEP_DELETE:
        return run_delete(run);
    case STEP_SCAN:
        return run_scan(run);
    default:
        ASSERT(step->kind == STEP_INSERT || step->kind == STEP_UPSERT);
        return run_put(run);
    }
}

/* The rows of later steps whose keys are known: their misses overlap with what comes before. */
static void fetch_ahead(const struct run *run, const struct program_section_decoded *section)
{
    for (uint16_t i = 1; i < section->step_count; i++) {
        const struct step *step = &section->steps[i];
        if (!step->ahead) continue;
        const struct value *key = step->ahead->tag == OPERAND_PARAM
                                      ? &run->params[step->ahead->column]
                                      : &step->ahead->value;
        if (key->kind == KIND_U64)
            fragment_prefetch(partition_fragment(run->partition, step->table->id), key);
    }
}

static enum err execute(struct run *run, const struct executor *executor,
                        const struct program_decoded *program, struct change_set *changes,
                        struct buf *reply, uint8_t *ret_failed_step)
{
    run->executor = executor;
    run->params = program->params;
    run->changes = changes;
    run->reply = reply;
    run->reply_at = reply->size;
    for (uint16_t i = 0; i < program->section_count; i++) {
        const struct program_section_decoded *section = &program->sections[i];
        run->slot = section->slot;
        run->partition = executor->partitions[section->slot & (executor->partition_count - 1)];
        if (run->partition) fetch_ahead(run, section);
        for (uint16_t j = 0; j < section->step_count; j++) {
            const struct step *step = &section->steps[j];
            enum err err = run->partition ? run_step(run, step) : ERR_WRONG_PARTITION;
            if (!err && reply->failed) err = ERR_NO_MEMORY;
            if (err) {
                *ret_failed_step = step->number;
                return err;
            }
        }
    }
    return ERR_NONE;
}

enum err execute_program(const struct executor *executor, const struct program_decoded *program,
                         struct change_set *changes, struct buf *reply, uint8_t *ret_failed_step)
{
    struct run run;
    run.direct = NULL;
    return execute(&run, executor, program, changes, reply, ret_failed_step);
}

enum err execute_program_directly(const struct executor *executor,
                                  const struct program_decoded *program, struct change_set *changes,
                                  struct program_reply *reply, uint8_t *ret_failed_step)
{
    struct run run;
    run.direct = reply;
    run.direct_size = 0;
    return execute(&run, executor, program, changes, &reply->bytes, ret_failed_step);
}
