#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "db/wire/program.h"

static unsigned random_next(uint64_t *seed)
{
    return (unsigned)(hash_u64(++*seed) >> 33);
}

enum { NUMBER_COLUMN, NAME_COLUMN, AMOUNT_COLUMN, RATE_COLUMN, PRICE_COLUMN };

static struct column_def columns[5] = {
    {.name = "number", .type = TYPE_BIGINT_UNSIGNED},
    {.name = "name", .type = TYPE_VARCHAR, .size_max = 400, .nullable = true},
    {.name = "amount", .type = TYPE_BIGINT},
    {.name = "rate", .type = TYPE_DOUBLE},
    {.name = "price", .type = TYPE_DECIMAL, .precision = 10, .scale = 2},
};
static struct table_def item = {
    .database = "shop",
    .name = "item",
    .id = 3,
    .version = 2,
    .column_count = 5,
    .index_count = 2,
    .next_index_id = 2,
    .partition_by = PARTITION_BY_HOME,
    .partition_column_count = 1,
    .columns = columns,
    .indexes =
        {{.name = "PRIMARY", .kind = INDEX_HASH, .column_count = 1},
         {.name = "by_name", .id = 1, .kind = INDEX_ORDERED, .column_count = 2, .columns = {1, 2}}},
};
static struct catalog catalog = {
    .version = 1, .next_table_id = 4, .table_count = 1, .tables = {&item}};

struct fixture {
    struct program program;
    struct arena arena;
    struct program_decoded decoded;
};

static void setup(struct fixture *fx)
{
    program_init(&fx->program);
    arena_init(&fx->arena, 0);
}

static void teardown(struct fixture *fx)
{
    program_fini(&fx->program);
    arena_fini(&fx->arena);
}

static enum err decode(struct fixture *fx)
{
    struct reader reader = reader_of(fx->program.buf.bytes, fx->program.buf.size);
    return program_decode(&reader, &catalog, &fx->arena, &fx->decoded);
}

static struct operand number(uint64_t value)
{
    return operand_value(value_u64(value));
}

static struct expr column_is(struct arena *arena, uint8_t step, uint16_t column, uint64_t value)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, arena);
    uint16_t a = expr_column(&builder, column_kind(&columns[column]), step, column);
    uint16_t b =
        expr_const(&builder, columns[column].type == TYPE_BIGINT ? value_i64((int64_t)value)
                                                                 : value_u64(value));
    expr_op2(&builder, EXPR_EQ, column_kind(&columns[column]), a, b);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    return expr;
}

/* A bit of everything, two sections. */
static void build_all(struct fixture *fx)
{
    struct program *program = &fx->program;
    struct operand key = number(7);
    uint16_t outputs[] = {AMOUNT_COLUMN, NAME_COLUMN};
    program_begin(program);
    program_section(program, 5);
    uint8_t read = program_read(program, &item, &key, ERR_ENOENT);
    program_guard(program, column_is(&fx->arena, read, AMOUNT_COLUMN, 1), ERR_ENOTDIR);
    program_output(program, outputs, 2);
    struct operand values[5] = {number(8), operand_column(read, NAME_COLUMN),
                                operand_value(value_i64(-3)), operand_value(value_f64(0.5)),
                                operand_value(value_dec(1999, 2))};
    program_insert(program, &item, values, ERR_EEXIST);
    program_flags(program, STEP_OPTIONAL);
    uint8_t update = program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_column(update, AMOUNT_COLUMN));
    program_set(program, NAME_COLUMN, operand_value(value_text("text")));
    program_when(program, column_is(&fx->arena, read, AMOUNT_COLUMN, 2));
    program_section(program, 9);
    program_delete(program, &item, &key, ERR_ENOENT);
    uint8_t check = program_check(program);
    cr_assert_eq(check, 4);
    struct operand name = operand_value(value_text("a"));
    struct operand after = operand_value(value_i64(0));
    program_scan(program, &item, 1, &name, 1, &after, 1, true, 10);
    program_output(program, outputs, 2);
    program_scan_lookup(program, &item, NUMBER_COLUMN, outputs, 1);
    program_upsert(program, &item, values);
}

Test(program, decodes_what_was_built)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    uint16_t outputs[] = {AMOUNT_COLUMN, NAME_COLUMN};
    build_all(&fx);
    /* The last step copied a column of another section: not allowed. Build it without. */
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_BAD_PROGRAM);

    program_begin(&fx.program);
    program_section(&fx.program, 5);
    uint8_t read = program_read(&fx.program, &item, &key, ERR_ENOENT);
    program_guard(&fx.program, column_is(&fx.arena, read, AMOUNT_COLUMN, 1), ERR_ENOTDIR);
    program_output(&fx.program, outputs, 2);
    program_section(&fx.program, 9);
    struct operand name = operand_value(value_text("a"));
    struct operand after = operand_value(value_i64(0));
    uint8_t scan = program_scan(&fx.program, &item, 1, &name, 1, &after, 1, true, 10);
    program_scan_lookup(&fx.program, &item, NUMBER_COLUMN, outputs, 1);
    cr_assert_eq(scan, 1);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE, "finishing twice changes nothing");
    cr_assert_eq(decode(&fx), ERR_NONE);
    cr_assert_eq(fx.decoded.section_count, 2);
    cr_assert_eq(fx.decoded.step_count, 2);
    const struct step *step = &fx.decoded.sections[0].steps[0];
    cr_assert_eq(fx.decoded.sections[0].slot, 5);
    cr_assert_eq(step->kind, STEP_READ);
    cr_assert_eq(step->table, &item);
    cr_assert_eq(step->on_err, ERR_ENOENT);
    cr_assert_eq(step->key[0].value.u, 7);
    cr_assert_eq(step->guard_count, 1);
    cr_assert_eq(step->guards[0].err, ERR_ENOTDIR);
    cr_assert_eq(step->output_count, 2);
    cr_assert_eq(step->outputs[1], NAME_COLUMN);
    step = &fx.decoded.sections[1].steps[0];
    cr_assert_eq(step->number, 1);
    cr_assert_eq(step->kind, STEP_SCAN);
    cr_assert_eq(step->limit, 10);
    cr_assert(step->after_inclusive);
    cr_assert_eq(step->values[0].value.i, 0);
    cr_assert_eq(step->lookup_table, &item);
    cr_assert_eq(step->lookup_output_count, 1);
    teardown(&fx);
}

Test(program, marks_the_columns_that_later_steps_read)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    program_section(&fx.program, 0);
    uint8_t read = program_read(&fx.program, &item, &key, ERR_NONE);
    uint8_t update = program_update(&fx.program, &item, &key, ERR_NONE);
    program_set(&fx.program, AMOUNT_COLUMN, operand_column(read, AMOUNT_COLUMN));
    program_set(&fx.program, RATE_COLUMN, operand_column(update, RATE_COLUMN));
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_NONE);
    const struct step *steps = fx.decoded.sections[0].steps;
    cr_assert_eq(steps[0].refs[0], 1u << AMOUNT_COLUMN);
    cr_assert_eq(steps[1].refs[0], 0, "its own columns need no keeping");
    teardown(&fx);
}

Test(program, tells_which_row_follows_from_a_column)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    program_section(&fx.program, 0);
    uint8_t read = program_read(&fx.program, &item, &key, ERR_NONE);
    struct operand next = operand_column(read, NUMBER_COLUMN);
    uint8_t second = program_read(&fx.program, &item, &next, ERR_NONE);
    uint8_t third = program_read(&fx.program, &item, &next, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_NONE);
    const struct step *steps = fx.decoded.sections[0].steps;
    cr_assert_eq(steps[0].then, &steps[1], "the first of them");
    cr_assert_eq(steps[0].then_column, NUMBER_COLUMN);
    cr_assert_eq(steps[1].number, second);
    cr_assert_eq(steps[2].number, third);
    cr_assert_null(steps[1].then);
    cr_assert_null(steps[2].then);
    teardown(&fx);
}

static void expect_bad(struct fixture *fx, const char *what)
{
    cr_assert_eq(program_finish(&fx->program), ERR_NONE, "%s", what);
    cr_assert_eq(decode(fx), ERR_BAD_PROGRAM, "%s", what);
    program_begin(&fx->program);
    program_section(&fx->program, 0);
}

Test(program, decode_refuses_references_that_mean_nothing)
{
    struct fixture fx;
    setup(&fx);
    struct program *program = &fx.program;
    struct operand key = number(7);
    struct operand own = operand_column(0, NUMBER_COLUMN);
    program_section(program, 0);
    program_read(program, &item, &own, ERR_NONE);
    expect_bad(&fx, "the own row in a key");
    program_read(program, &item, &key, ERR_NONE);
    program_flags(program, STEP_FREES);
    expect_bad(&fx, "a read that frees");
    program_delete(program, &item, &key, ERR_NONE);
    program_flags(program, 4);
    expect_bad(&fx, "no such flag");
    program_read(program, &item, &key, ERR_NONE);
    program_when(program, column_is(&fx.arena, 0, AMOUNT_COLUMN, 1));
    expect_bad(&fx, "the own row in when");
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_column(1, AMOUNT_COLUMN));
    program_read(program, &item, &key, ERR_NONE);
    expect_bad(&fx, "a later step");
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_column(0, 5));
    expect_bad(&fx, "no such column");
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, NUMBER_COLUMN, number(1));
    expect_bad(&fx, "setting a key column");
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_value(value_i64(1)));
    program_set(program, AMOUNT_COLUMN, operand_value(value_i64(2)));
    expect_bad(&fx, "setting a column twice");
    program_scan(program, &item, 1, NULL, 0, NULL, 0, false, 10);
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_column(0, AMOUNT_COLUMN));
    expect_bad(&fx, "a column of a scan");
    program_check(program);
    program_update(program, &item, &key, ERR_NONE);
    program_set(program, AMOUNT_COLUMN, operand_column(0, AMOUNT_COLUMN));
    expect_bad(&fx, "a column of a check");
    program_scan(program, &item, 2, NULL, 0, NULL, 0, false, 10);
    expect_bad(&fx, "no such index");
    program_scan(program, &item, 0, NULL, 0, NULL, 0, false, 10);
    expect_bad(&fx, "a range of a hash index");
    program_scan(program, &item, 1, NULL, 0, NULL, 0, false, 0);
    expect_bad(&fx, "a scan of no rows");
    program_scan(program, &item, 1, NULL, 0, NULL, 0, false, PROGRAM_SCAN_LIMIT_MAX + 1);
    expect_bad(&fx, "a scan of too many rows");
    /* An expression that says the column is of another kind than it is. */
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &fx.arena);
    expr_column(&builder, KIND_U64, 0, AMOUNT_COLUMN);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    program_read(program, &item, &key, ERR_NONE);
    program_guard(program, expr, ERR_ENOENT);
    expect_bad(&fx, "a column of another kind");
    teardown(&fx);
}

Test(program, decode_tells_other_table_versions_apart)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    struct table_def older = item;
    older.version = 1;
    program_section(&fx.program, 0);
    program_read(&fx.program, &older, &key, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_SCHEMA_CHANGED);
    struct table_def dropped = item;
    dropped.id = 2;
    program_begin(&fx.program);
    program_section(&fx.program, 0);
    program_read(&fx.program, &dropped, &key, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_SCHEMA_CHANGED);
    teardown(&fx);
}

Test(program, builder_latches_misuse)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    program_read(&fx.program, &item, &key, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID, "a step outside of a section");
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_section(&fx.program, 1);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID, "two sections of one slot");
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_set(&fx.program, 0, key);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID, "a clause without a step");
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_read(&fx.program, &item, &key, ERR_NONE);
    program_set(&fx.program, 2, key);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID, "a READ sets nothing");
    program_begin(&fx.program);
    for (uint16_t slot = 0; slot <= PROGRAM_SECTIONS_MAX; slot++)
        program_section(&fx.program, slot);
    cr_assert_eq(program_finish(&fx.program), ERR_TOO_BIG);
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    for (int i = 0; i <= PROGRAM_STEPS_MAX; i++)
        program_check(&fx.program);
    cr_assert_eq(program_finish(&fx.program), ERR_TOO_BIG);
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    char *big = calloc(1, PROGRAM_SIZE_MAX);
    struct operand huge = operand_value(value_str(big, PROGRAM_SIZE_MAX));
    program_read(&fx.program, &item, &huge, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_TOO_BIG);
    free(big);
    program_begin(&fx.program);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE, "begin starts over");
    cr_assert_eq(decode(&fx), ERR_NONE);
    cr_assert_eq(fx.decoded.section_count, 0);
    teardown(&fx);
}

Test(program, outline_splits_a_program_into_programs)
{
    struct fixture fx;
    setup(&fx);
    struct operand key = number(7);
    program_section(&fx.program, 5);
    program_read(&fx.program, &item, &key, ERR_NONE);
    program_section(&fx.program, 9);
    program_read(&fx.program, &item, &key, ERR_NONE);
    program_read(&fx.program, &item, &key, ERR_NONE);
    program_section(&fx.program, 2);
    program_delete(&fx.program, &item, &key, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    struct program_outline outline;
    cr_assert_eq(program_outline_decode(fx.program.buf.bytes, fx.program.buf.size, &outline),
                 ERR_NONE);
    cr_assert_eq(outline.section_count, 3);
    cr_assert_not(outline.only_reads);
    struct buf part;
    buf_init(&part);
    program_outline_encode(&outline, 1u << 1 | 1u << 2, &part);
    struct reader reader = reader_of(part.bytes, part.size);
    struct program_decoded decoded;
    cr_assert_eq(program_decode(&reader, &catalog, &fx.arena, &decoded), ERR_NONE);
    cr_assert_eq(decoded.section_count, 2);
    cr_assert_eq(decoded.step_count, 3);
    cr_assert_eq(decoded.sections[0].slot, 9);
    cr_assert_eq(decoded.sections[0].steps[1].number, 2);
    cr_assert_eq(decoded.sections[1].steps[0].number, 3);
    buf_clear(&part);
    program_outline_encode(&outline, 1u << 0, &part);
    cr_assert_eq(program_outline_decode(part.bytes, part.size, &outline), ERR_NONE);
    cr_assert(outline.only_reads);
    buf_fini(&part);
    teardown(&fx);
}

/* Whatever bytes come, the decoder answers with an error or with a program within its limits. */
Test(program, decode_survives_every_cut_and_random_changes)
{
    struct fixture fx;
    setup(&fx);
    build_all(&fx);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    size_t size = fx.program.buf.size;
    uint8_t *good = malloc(size);
    memcpy(good, fx.program.buf.bytes, size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *bytes = malloc(cut ? cut : 1); /* so that a sanitizer sees any overrun */
        memcpy(bytes, good, cut);
        struct reader reader = reader_of(bytes, cut);
        arena_reset(&fx.arena);
        cr_assert_neq(program_decode(&reader, &catalog, &fx.arena, &fx.decoded), ERR_NONE);
        struct program_outline outline;
        cr_assert_eq(program_outline_decode(bytes, cut, &outline), ERR_BAD_PROGRAM);
        free(bytes);
    }
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t *bytes = malloc(size);
        memcpy(bytes, good, size);
        int changes = 1 + random_next(&seed) % 4;
        while (changes--)
            bytes[(size_t)random_next(&seed) % size] = (uint8_t)random_next(&seed);
        struct reader reader = reader_of(bytes, size);
        arena_reset(&fx.arena);
        enum err err = program_decode(&reader, &catalog, &fx.arena, &fx.decoded);
        cr_assert(err == ERR_NONE || err == ERR_BAD_PROGRAM || err == ERR_SCHEMA_CHANGED);
        struct program_outline outline;
        err = program_outline_decode(bytes, size, &outline);
        cr_assert(err == ERR_NONE || err == ERR_BAD_PROGRAM);
        free(bytes);
    }
    free(good);
    teardown(&fx);
}

/* ---- parameters ---- */

enum { PARAM_NUMBER, PARAM_NAME, PARAM_AMOUNT, PARAM_COUNT };
static const uint8_t param_kinds[PARAM_COUNT] = {KIND_U64, KIND_STR, KIND_I64};

static struct expr amount_is_param(struct arena *arena, uint8_t step, enum value_kind kind,
                                   uint16_t param)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, arena);
    uint16_t a = expr_column(&builder, KIND_I64, step, AMOUNT_COLUMN);
    uint16_t b = expr_column(&builder, kind, PROGRAM_SOURCE_PARAM, param);
    if (kind == KIND_I64)
        expr_op2(&builder, EXPR_EQ, KIND_I64, a, b);
    else
        expr_op1(&builder, EXPR_IS_NULL, kind, b);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    return expr;
}

/* Two sections: an update by parameters, and a read. */
static void build_prepared(struct fixture *fx)
{
    struct program *program = &fx->program;
    struct operand key = operand_param(PARAM_NUMBER);
    uint16_t outputs[] = {NAME_COLUMN};
    program_begin(program);
    program_params(program, param_kinds, PARAM_COUNT);
    program_section(program, 1);
    uint8_t update = program_update(program, &item, &key, ERR_ENOENT);
    program_guard(program, amount_is_param(&fx->arena, update, KIND_I64, PARAM_AMOUNT), ERR_EBADF);
    program_set(program, NAME_COLUMN, operand_param(PARAM_NAME));
    program_section(program, 2);
    key = number(9);
    program_read(program, &item, &key, ERR_ENOENT);
    program_output(program, outputs, 1);
}

static const struct value some_params[PARAM_COUNT] = {
    {.kind = KIND_U64, .u = 70},
    {.kind = KIND_STR, .size = 4, .bytes = (const uint8_t *)"name"},
    {.kind = KIND_I64, .i = -5}};

Test(program, a_prepared_program_takes_slots_and_values_with_every_run)
{
    struct fixture fx;
    setup(&fx);
    build_prepared(&fx);
    struct program_prepared prepared;
    program_prepared_init(&prepared);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_BAD_PROGRAM, "without values it is no program");
    struct program bound;
    program_init(&bound);
    const uint16_t slots[] = {40, 41};
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(program_bind(&prepared, slots, some_params, &bound), ERR_NONE);
        cr_assert_eq(program_finish(&bound), ERR_NONE);
        cr_assert_eq(bound.section_count, 2);
        cr_assert_eq(bound.slots[1], 41);
        struct reader reader = reader_of(bound.buf.bytes, bound.buf.size);
        cr_assert_eq(program_decode(&reader, &catalog, &fx.arena, &fx.decoded), ERR_NONE);
        cr_assert_eq(fx.decoded.sections[0].slot, 40);
        cr_assert_eq(fx.decoded.sections[1].slot, 41);
        cr_assert_eq(fx.decoded.param_count, PARAM_COUNT);
        cr_assert_eq(fx.decoded.params[PARAM_NUMBER].u, 70);
        cr_assert_eq(memcmp(fx.decoded.params[PARAM_NAME].bytes, "name", 4), 0);
        cr_assert_eq(fx.decoded.params[PARAM_AMOUNT].i, -5);
        const struct step *update = &fx.decoded.sections[0].steps[0];
        cr_assert_eq(update->key[0].tag, OPERAND_PARAM);
        cr_assert_eq(update->key[0].column, PARAM_NUMBER);
        cr_assert_eq(update->ahead, &update->key[0]);
        cr_assert_eq(update->sets[0].operand.tag, OPERAND_PARAM);
    }
    const struct program_decoded *decoded;
    cr_assert_eq(program_bind_decoded(&prepared, &catalog, slots, some_params, &decoded), ERR_NONE);
    cr_assert_eq(decoded->params, some_params);
    cr_assert_eq(decoded->sections[1].slot, 41);
    const struct step *step = decoded->sections[0].steps;
    const uint16_t others[] = {7, 8};
    cr_assert_eq(program_bind_decoded(&prepared, &catalog, others, some_params, &decoded),
                 ERR_NONE);
    cr_assert_eq(decoded->sections[0].steps, step, "decoded once");
    cr_assert_eq(decoded->sections[0].slot, 7);
    program_prepared_fini(&prepared);
    program_fini(&bound);
    teardown(&fx);
}

Test(program, a_prepared_program_follows_the_catalog)
{
    struct fixture fx;
    setup(&fx);
    build_prepared(&fx);
    struct program_prepared prepared;
    program_prepared_init(&prepared);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_NONE);
    const uint16_t slots[] = {1, 2};
    const struct program_decoded *decoded;
    cr_assert_eq(program_bind_decoded(&prepared, &catalog, slots, some_params, &decoded), ERR_NONE);
    cr_assert_eq(decoded->sections[0].steps[0].table, &item);
    /* The same definition in another catalog is at another place. */
    struct table_def moved = item;
    struct catalog next = catalog;
    next.version++;
    next.tables[0] = &moved;
    cr_assert_eq(program_bind_decoded(&prepared, &next, slots, some_params, &decoded), ERR_NONE);
    cr_assert_eq(decoded->sections[0].steps[0].table, &moved);
    moved.version++;
    next.version++;
    cr_assert_eq(program_bind_decoded(&prepared, &next, slots, some_params, &decoded),
                 ERR_SCHEMA_CHANGED);
    cr_assert_eq(program_bind_decoded(&prepared, &catalog, slots, some_params, &decoded), ERR_NONE,
                 "a failure keeps nothing");
    cr_assert_eq(decoded->sections[0].steps[0].table, &item);
    program_prepared_fini(&prepared);
    teardown(&fx);
}

Test(program, bind_refuses_what_the_program_was_not_prepared_for)
{
    struct fixture fx;
    setup(&fx);
    struct program_prepared prepared;
    struct program bound;
    const struct program_decoded *decoded;
    program_prepared_init(&prepared);
    program_init(&bound);
    const uint16_t slots[] = {1, 2};
    cr_assert_eq(program_bind(&prepared, slots, some_params, &bound), ERR_INVALID,
                 "nothing is prepared");
    build_prepared(&fx);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_NONE);
    for (int i = 0; i < PARAM_COUNT; i++) {
        struct value params[PARAM_COUNT];
        memcpy(params, some_params, sizeof(params));
        params[i] = value_null();
        cr_assert_eq(program_bind(&prepared, slots, params, &bound), ERR_NONE, "NULL fits");
        params[i] = value_f64(1);
        cr_assert_eq(program_bind(&prepared, slots, params, &bound), ERR_INVALID);
        cr_assert_eq(program_bind_decoded(&prepared, &catalog, slots, params, &decoded),
                     ERR_INVALID);
    }
    const uint16_t equal[] = {3, 3};
    cr_assert_eq(program_bind(&prepared, equal, some_params, &bound), ERR_INVALID);
    struct value huge[PARAM_COUNT];
    memcpy(huge, some_params, sizeof(huge));
    uint8_t *bytes = calloc(1, PROGRAM_SIZE_MAX);
    huge[PARAM_NAME] = value_str(bytes, PROGRAM_SIZE_MAX);
    cr_assert_eq(program_bind(&prepared, slots, huge, &bound), ERR_TOO_BIG);
    free(bytes);
    /* Misuse of the builder. */
    program_begin(&fx.program);
    program_params(&fx.program, param_kinds, 0);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_INVALID);
    cr_assert_eq(program_bind(&prepared, slots, some_params, &bound), ERR_INVALID,
                 "what was prepared before is gone");
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_params(&fx.program, param_kinds, PARAM_COUNT);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID);
    const uint8_t no_kind[] = {KIND_NULL};
    program_begin(&fx.program);
    program_params(&fx.program, no_kind, 1);
    cr_assert_eq(program_finish(&fx.program), ERR_INVALID);
    program_prepared_fini(&prepared);
    program_fini(&bound);
    teardown(&fx);
}

/* One operand or expression over parameters, bound to some_params. */
static enum err decode_with(struct fixture *fx, struct operand key, const struct expr *guard)
{
    struct program_prepared prepared;
    struct program bound;
    program_prepared_init(&prepared);
    program_init(&bound);
    program_begin(&fx->program);
    program_params(&fx->program, param_kinds, PARAM_COUNT);
    program_section(&fx->program, 1);
    program_read(&fx->program, &item, &key, ERR_NONE);
    if (guard) program_guard(&fx->program, *guard, ERR_NONE);
    cr_assert_eq(program_prepare(&prepared, &fx->program), ERR_NONE);
    const uint16_t slot = 1;
    cr_assert_eq(program_bind(&prepared, &slot, some_params, &bound), ERR_NONE);
    struct reader reader = reader_of(bound.buf.bytes, bound.buf.size);
    enum err err = program_decode(&reader, &catalog, &fx->arena, &fx->decoded);
    program_prepared_fini(&prepared);
    program_fini(&bound);
    return err;
}

Test(program, decode_refuses_references_to_parameters_that_are_not_there)
{
    struct fixture fx;
    setup(&fx);
    cr_assert_eq(decode_with(&fx, operand_param(PARAM_COUNT - 1), NULL), ERR_NONE);
    cr_assert_eq(decode_with(&fx, operand_param(PARAM_COUNT), NULL), ERR_BAD_PROGRAM);
    cr_assert_eq(decode_with(&fx, operand_column(PROGRAM_SOURCE_PARAM, 0), NULL), ERR_BAD_PROGRAM,
                 "a parameter is no step");
    struct expr expr = amount_is_param(&fx.arena, 0, KIND_I64, PARAM_AMOUNT);
    cr_assert_eq(decode_with(&fx, number(1), &expr), ERR_NONE);
    expr = amount_is_param(&fx.arena, 0, KIND_U64, PARAM_AMOUNT);
    cr_assert_eq(decode_with(&fx, number(1), &expr), ERR_BAD_PROGRAM, "another kind");
    expr = amount_is_param(&fx.arena, 0, KIND_I64, PARAM_COUNT);
    cr_assert_eq(decode_with(&fx, number(1), &expr), ERR_BAD_PROGRAM);
    /* The same in a program that has no parameters. */
    struct operand key = operand_param(0);
    program_begin(&fx.program);
    program_section(&fx.program, 1);
    program_read(&fx.program, &item, &key, ERR_NONE);
    cr_assert_eq(program_finish(&fx.program), ERR_NONE);
    cr_assert_eq(decode(&fx), ERR_BAD_PROGRAM);
    teardown(&fx);
}

Test(program, decode_survives_every_cut_and_random_changes_of_parameters)
{
    struct fixture fx;
    setup(&fx);
    build_prepared(&fx);
    struct program_prepared prepared;
    struct program bound;
    program_prepared_init(&prepared);
    program_init(&bound);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_NONE);
    const uint16_t slots[] = {1, 2};
    cr_assert_eq(program_bind(&prepared, slots, some_params, &bound), ERR_NONE);
    size_t size = bound.buf.size;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *bytes = malloc(cut ? cut : 1);
        memcpy(bytes, bound.buf.bytes, cut);
        struct reader reader = reader_of(bytes, cut);
        arena_reset(&fx.arena);
        cr_assert_eq(program_decode(&reader, &catalog, &fx.arena, &fx.decoded), ERR_BAD_PROGRAM);
        free(bytes);
    }
    buf_put_u8(&bound.buf, KIND_NULL);
    struct reader longer = reader_of(bound.buf.bytes, size + 1);
    cr_assert_eq(program_decode(&longer, &catalog, &fx.arena, &fx.decoded), ERR_BAD_PROGRAM,
                 "a value too many");
    uint64_t seed = 3;
    for (int round = 0; round < 20000; round++) {
        uint8_t *bytes = malloc(size);
        memcpy(bytes, bound.buf.bytes, size);
        int changes = 1 + random_next(&seed) % 4;
        while (changes--)
            bytes[(size_t)random_next(&seed) % size] = (uint8_t)random_next(&seed);
        struct reader reader = reader_of(bytes, size);
        arena_reset(&fx.arena);
        enum err err = program_decode(&reader, &catalog, &fx.arena, &fx.decoded);
        cr_assert(err == ERR_NONE || err == ERR_BAD_PROGRAM || err == ERR_SCHEMA_CHANGED);
        for (uint16_t i = 0; !err && i < fx.decoded.param_count; i++)
            cr_assert(fx.decoded.params[i].kind == KIND_NULL ||
                      fx.decoded.params[i].kind == fx.decoded.param_kinds[i]);
        free(bytes);
    }
    program_prepared_fini(&prepared);
    program_fini(&bound);
    teardown(&fx);
}

Test(program, outline_gives_each_part_the_parameters)
{
    struct fixture fx;
    setup(&fx);
    build_prepared(&fx);
    struct program_prepared prepared;
    struct program bound;
    program_prepared_init(&prepared);
    program_init(&bound);
    cr_assert_eq(program_prepare(&prepared, &fx.program), ERR_NONE);
    const uint16_t slots[] = {11, 12};
    cr_assert_eq(program_bind(&prepared, slots, some_params, &bound), ERR_NONE);
    struct program_outline outline;
    cr_assert_eq(program_outline_decode(bound.buf.bytes, bound.buf.size, &outline), ERR_NONE);
    cr_assert_eq(outline.section_count, 2);
    struct buf part;
    buf_init(&part);
    for (uint16_t i = 0; i < 2; i++) {
        buf_clear(&part);
        program_outline_encode(&outline, 1u << i, &part);
        struct reader reader = reader_of(part.bytes, part.size);
        struct program_decoded decoded;
        cr_assert_eq(program_decode(&reader, &catalog, &fx.arena, &decoded), ERR_NONE);
        cr_assert_eq(decoded.section_count, 1);
        cr_assert_eq(decoded.sections[0].slot, slots[i]);
        cr_assert_eq(decoded.params[PARAM_AMOUNT].i, -5);
    }
    buf_fini(&part);
    program_prepared_fini(&prepared);
    program_fini(&bound);
    teardown(&fx);
}

/* ---- replies ---- */

static void put_rows(struct buf *buf, uint8_t step, uint32_t rows, uint16_t count)
{
    buf_put_u8(buf, step);
    buf_put_u32(buf, rows);
    buf_put_u16(buf, count);
}

Test(program_reply, gives_rows_back)
{
    struct program_reply reply;
    program_reply_init(&reply);
    program_reply_begin(&reply.bytes);
    put_rows(&reply.bytes, 4, 2, 2);
    value_encode(value_u64(1), &reply.bytes);
    value_encode(value_text("one"), &reply.bytes);
    value_encode(value_u64(2), &reply.bytes);
    value_encode(value_null(), &reply.bytes);
    program_reply_end(&reply.bytes, 0, ERR_NONE, 0, 77);
    cr_assert_eq(program_reply_decode(&reply), ERR_NONE);
    cr_assert_eq(reply.commit_ts, 77);
    cr_assert_eq(program_row(&reply, 4, 0)[0].u, 1);
    cr_assert_eq(program_row(&reply, 4, 0)[1].size, 3);
    cr_assert(value_is_null(program_row(&reply, 4, 1)[1]));
    cr_assert_null(program_row(&reply, 4, 2));
    cr_assert_null(program_row(&reply, 0, 0));
    buf_clear(&reply.bytes);
    program_reply_begin(&reply.bytes);
    program_reply_end(&reply.bytes, 0, ERR_ENOENT, 9, 0);
    cr_assert_eq(program_reply_decode(&reply), ERR_NONE);
    cr_assert_eq(reply.err, ERR_ENOENT);
    cr_assert_eq(reply.failed_step, 9);
    cr_assert_null(program_row(&reply, 4, 0), "rows of an earlier reply are gone");
    program_reply_fini(&reply);
}

Test(program_reply, refuses_malformed_bytes)
{
    struct program_reply reply;
    program_reply_init(&reply);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "empty");
    program_reply_begin(&reply.bytes);
    put_rows(&reply.bytes, 64, 1, 0);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "a step beyond the last");
    reply.bytes.size = PROGRAM_REPLY_HEADER_SIZE;
    put_rows(&reply.bytes, 1, PROGRAM_SCAN_LIMIT_MAX, 200);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "more values than bytes");
    reply.bytes.size = PROGRAM_REPLY_HEADER_SIZE;
    put_rows(&reply.bytes, 1, 1, 0);
    put_rows(&reply.bytes, 1, 1, 0);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "a step twice");
    reply.bytes.size = PROGRAM_REPLY_HEADER_SIZE;
    put_rows(&reply.bytes, 1, 1, 1);
    buf_put_u8(&reply.bytes, 99);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "no such kind");
    reply.bytes.size = PROGRAM_REPLY_HEADER_SIZE;
    program_reply_end(&reply.bytes, 0, (enum err)999, 0, 0);
    cr_assert_eq(program_reply_decode(&reply), ERR_BAD_SIGNAL, "no such error");
    program_reply_fini(&reply);
}
