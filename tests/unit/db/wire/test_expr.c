/* Building expressions and their wire format: round trips, every rule of validation, and mutations
 * of valid encodings, which must decode to something valid or be refused. */
#include <criterion/criterion.h>

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/wire/expr.h"

static struct arena arena;
static struct buf buf;

static void set_up(void)
{
    arena_init(&arena, 0);
    buf_init(&buf);
}

static void tear_down(void)
{
    arena_fini(&arena);
    buf_fini(&buf);
}

TestSuite(expr, .init = set_up, .fini = tear_down);
TestSuite(value_codec, .init = set_up, .fini = tear_down);

static bool same_value(struct value a, struct value b)
{
    if (a.kind != b.kind) return false;
    if (a.kind == KIND_STR)
        return a.size == b.size && (!a.size || !memcmp(a.bytes, b.bytes, a.size));
    return a.kind == KIND_NULL || (a.u == b.u && a.scale == b.scale);
}

static enum err decode(struct expr *ret_expr)
{
    struct reader reader = reader_of(buf.bytes, buf.size);
    enum err err = expr_decode(&reader, &arena, ret_expr);
    if (!err) cr_assert_eq(reader_left(&reader), 0);
    return err;
}

/* Encodes what the builder holds and decodes it. */
static enum err through_wire(struct expr_builder *builder, struct expr *ret_expr)
{
    struct expr expr;
    cr_assert_eq(expr_finish(builder, &expr), ERR_NONE);
    buf_clear(&buf);
    expr_encode(&expr, &buf);
    cr_assert_not(buf.failed);
    return decode(ret_expr);
}

static struct expr_builder begin(void)
{
    struct expr_builder builder;
    expr_begin(&builder, &arena);
    return builder;
}

/* ---- values ---- */

Test(value_codec, values_of_every_kind_survive)
{
    struct value values[] = {
        value_null(),          value_i64(INT64_MIN),   value_u64(UINT64_MAX), value_f64(-0.1),
        value_dec(-12345, 18), value_str("abc\0d", 5), value_str(NULL, 0),
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++)
        value_encode(values[i], &buf);
    struct reader reader = reader_of(buf.bytes, buf.size);
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++)
        cr_assert(same_value(value_decode(&reader), values[i]), "value %u", i);
    cr_assert_not(reader.failed);
    cr_assert_eq(reader_left(&reader), 0);
}

Test(value_codec, every_truncation_is_refused)
{
    struct value values[] = {value_i64(1), value_u64(1), value_f64(1), value_dec(1, 1),
                             value_text("some text")};
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++) {
        buf_clear(&buf);
        value_encode(values[i], &buf);
        for (size_t size = 0; size < buf.size; size++) {
            struct reader reader = reader_of(buf.bytes, size);
            cr_assert(value_is_null(value_decode(&reader)));
            cr_assert(reader.failed);
        }
    }
}

Test(value_codec, unknown_kinds_and_scales_are_refused)
{
    uint8_t kind[] = {6, 0, 0, 0, 0, 0, 0, 0, 0};
    struct reader reader = reader_of(kind, sizeof kind);
    value_decode(&reader);
    cr_assert(reader.failed);
    uint8_t scale[] = {KIND_DEC, 19, 0, 0, 0, 0, 0, 0, 0, 0};
    reader = reader_of(scale, sizeof scale);
    value_decode(&reader);
    cr_assert(reader.failed);
}

/* ---- building ---- */

Test(expr, builder_numbers_registers_and_copies_text)
{
    char text[] = "hello";
    struct expr_builder builder = begin();
    cr_assert_eq(expr_const(&builder, value_text(text)), 0);
    cr_assert_eq(expr_column(&builder, KIND_STR, 3, 9), 1);
    cr_assert_eq(expr_op2(&builder, EXPR_CONCAT, KIND_STR, 0, 1), 2);
    memset(text, 'x', sizeof text);
    struct expr expr;
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr.ins_count, 3);
    cr_assert_eq(expr.const_count, 1);
    cr_assert(same_value(expr.consts[0], value_text("hello")));
    cr_assert_eq(expr.ins[1].a, 3);
    cr_assert_eq(expr.ins[1].x, 9);
    cr_assert_eq(expr_kind(&expr), KIND_STR);
}

Test(expr, builder_refuses_more_instructions_than_there_are_registers)
{
    struct expr_builder builder = begin();
    uint16_t last = expr_const(&builder, value_i64(1));
    for (uint32_t i = 1; i < EXPR_INS_MAX; i++)
        last = expr_op1(&builder, EXPR_NEG, KIND_I64, last);
    struct expr expr;
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr.ins_count, EXPR_INS_MAX);
    expr_op1(&builder, EXPR_NEG, KIND_I64, last);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_TOO_BIG);
    expr_op1(&builder, EXPR_NEG, KIND_I64, last);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_TOO_BIG);
}

Test(expr, builder_refuses_too_many_constants)
{
    struct expr_builder builder = begin();
    for (uint32_t i = 0; i < EXPR_CONSTS_MAX; i++)
        cr_assert_eq(expr_constant(&builder, value_u64(i)), i);
    uint16_t column = expr_column(&builder, KIND_U64, 0, 0);
    expr_add(&builder,
             (struct expr_ins){.op = EXPR_IN, .kind = KIND_U64, .a = column, .y = EXPR_CONSTS_MAX});
    struct expr expr;
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr.const_count, EXPR_CONSTS_MAX);
    cr_assert_eq(expr.consts[4711].u, 4711);
    expr_constant(&builder, value_u64(1));
    cr_assert_eq(expr_finish(&builder, &expr), ERR_TOO_BIG);
}

Test(expr, builder_reports_that_memory_ran_out)
{
    struct arena small;
    arena_init(&small, 4096);
    struct expr_builder builder;
    expr_begin(&builder, &small);
    for (uint32_t i = 0; i < 1000; i++)
        expr_const(&builder, value_u64(i));
    struct expr expr;
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NO_MEMORY);
    arena_fini(&small);
}

Test(expr, kind_is_that_of_the_result)
{
    struct {
        enum expr_op op;
        enum value_kind kind;
        enum value_kind result;
    } cases[] = {
        {EXPR_ADD, KIND_DEC, KIND_DEC},   {EXPR_EQ, KIND_STR, KIND_I64},
        {EXPR_AND, KIND_I64, KIND_I64},   {EXPR_LENGTH, KIND_STR, KIND_I64},
        {EXPR_FLOOR, KIND_F64, KIND_I64}, {EXPR_FLOOR, KIND_I64, KIND_I64},
        {EXPR_HOME, KIND_U64, KIND_U64},  {EXPR_LOG2, KIND_U64, KIND_I64},
        {EXPR_CAST, KIND_F64, KIND_F64},  {EXPR_CAST_DATE_STR, KIND_I64, KIND_STR},
        {EXPR_LIKE, KIND_STR, KIND_I64},  {EXPR_COALESCE, KIND_STR, KIND_STR},
        {EXPR_IN, KIND_U64, KIND_I64},    {EXPR_EXTENSION, KIND_STR, KIND_STR},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct expr_ins ins = {.op = (uint8_t)cases[i].op, .kind = (uint8_t)cases[i].kind};
        struct expr expr = {.ins_count = 1, .ins = &ins};
        cr_assert_eq(expr_kind(&expr), cases[i].result, "case %u", i);
    }
}

/* ---- the wire ---- */

/* An expression with every kind of constant and many operations. */
static void build_large(struct expr_builder *builder)
{
    *builder = begin();
    uint16_t name = expr_column(builder, KIND_STR, 0, 1);
    uint16_t size = expr_column(builder, KIND_U64, 1, 2);
    uint16_t price = expr_column(builder, KIND_DEC, 2, 3);
    uint16_t ratio = expr_column(builder, KIND_F64, 3, 4);
    uint16_t when = expr_column(builder, KIND_I64, 4, 5);
    uint32_t pattern = expr_constant(builder, value_text("%.t_t%"));
    uint16_t like = expr_add(builder, (struct expr_ins){.op = EXPR_LIKE,
                                                        .kind = KIND_STR,
                                                        .a = name,
                                                        .b = COLLATION_CASE_INSENSITIVE,
                                                        .c = '\\',
                                                        .x = pattern});
    uint32_t first = expr_constant(builder, value_u64(1));
    expr_constant(builder, value_u64(2));
    uint16_t in = expr_add(
        builder, (struct expr_ins){.op = EXPR_IN, .kind = KIND_U64, .a = size, .x = first, .y = 2});
    uint16_t both = expr_op2(builder, EXPR_OR, KIND_I64, like, in);
    uint16_t tax = expr_const(builder, value_dec(119, 2));
    uint16_t gross = expr_op2(builder, EXPR_MUL, KIND_DEC, price, tax);
    uint16_t as_f64 = expr_add(
        builder, (struct expr_ins){.op = EXPR_CAST, .kind = KIND_F64, .a = gross, .c = KIND_DEC});
    uint16_t sum = expr_op2(builder, EXPR_ADD, KIND_F64, as_f64, ratio);
    uint16_t none = expr_const(builder, value_null());
    uint16_t chosen = expr_select(builder, KIND_F64, both, sum, none);
    uint16_t large =
        expr_op2(builder, EXPR_GT, KIND_F64, chosen, expr_const(builder, value_f64(0.5)));
    uint16_t year = expr_op1(builder, EXPR_YEAR, KIND_I64, when);
    uint16_t recent =
        expr_op2(builder, EXPR_GE, KIND_I64, year, expr_const(builder, value_i64(2020)));
    uint16_t ext = expr_op1(builder, EXPR_EXTENSION, KIND_STR, name);
    uint16_t same = expr_add(builder, (struct expr_ins){.op = EXPR_EQ,
                                                        .kind = KIND_STR,
                                                        .a = ext,
                                                        .b = expr_const(builder, value_text("c")),
                                                        .x = COLLATION_CASE_INSENSITIVE});
    expr_op2(builder, EXPR_AND, KIND_I64, expr_op2(builder, EXPR_AND, KIND_I64, large, recent),
             same);
}

Test(expr, survives_the_wire)
{
    struct expr_builder builder;
    struct expr expr;
    build_large(&builder);
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr.ins_count, builder.expr.ins_count);
    cr_assert_eq(expr.const_count, builder.expr.const_count);
    size_t size = expr.ins_count * sizeof *expr.ins;
    cr_assert_eq(memcmp(expr.ins, builder.expr.ins, size), 0);
    for (uint32_t i = 0; i < expr.const_count; i++)
        cr_assert(same_value(expr.consts[i], builder.expr.consts[i]));
}

Test(expr, every_truncation_is_refused)
{
    struct expr_builder builder;
    struct expr expr;
    build_large(&builder);
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    for (size_t size = 0; size < buf.size; size++) {
        struct reader reader = reader_of(buf.bytes, size);
        cr_assert_eq(expr_decode(&reader, &arena, &expr), ERR_BAD_PROGRAM, "at %zu", size);
    }
}

Test(expr, decoding_needs_memory)
{
    struct expr_builder builder = begin();
    for (uint32_t i = 0; i < 1000; i++)
        expr_const(&builder, value_i64(i));
    struct expr expr;
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    struct arena small;
    arena_init(&small, 4096);
    struct reader reader = reader_of(buf.bytes, buf.size);
    cr_assert_eq(expr_decode(&reader, &small, &expr), ERR_NO_MEMORY);
    arena_fini(&small);
}

Test(expr, counts_beyond_the_message_are_refused)
{
    struct expr expr;
    uint64_t counts[][2] = {{0, 0},          {EXPR_INS_MAX + 1, 0}, {1, EXPR_CONSTS_MAX + 1},
                            {UINT64_MAX, 0}, {1, UINT64_MAX},       {1, 60000}};
    for (uint32_t i = 0; i < ARRAY_SIZE(counts); i++) {
        buf_clear(&buf);
        buf_put_varint(&buf, counts[i][0]);
        buf_put_varint(&buf, counts[i][1]);
        struct expr_ins ins = {.op = EXPR_COLUMN, .kind = KIND_I64};
        buf_put(&buf, &ins, sizeof ins);
        cr_assert_eq(decode(&expr), ERR_BAD_PROGRAM, "case %u", i);
    }
}

/* Decodes an instruction over registers of kinds NULL, I64, U64, F64, DEC, STR (numbers 0 to 5),
 * with constants of the same kinds and numbers. */
static enum err decode_last(struct expr_ins ins)
{
    struct expr_builder builder = begin();
    expr_const(&builder, value_null());
    expr_const(&builder, value_i64(1));
    expr_const(&builder, value_u64(1));
    expr_const(&builder, value_f64(1));
    expr_const(&builder, value_dec(1, 0));
    expr_const(&builder, value_text("1"));
    expr_add(&builder, ins);
    struct expr expr;
    return through_wire(&builder, &expr);
}

enum { R_NULL, R_I64, R_U64, R_F64, R_DEC, R_STR, R_SELF };

Test(expr, instructions_that_fit_are_accepted)
{
    struct expr_ins good[] = {
        {.op = EXPR_ADD, .kind = KIND_I64, .a = R_I64, .b = R_I64},
        {.op = EXPR_ADD, .kind = KIND_U64, .a = R_U64, .b = R_NULL},
        {.op = EXPR_DIV, .kind = KIND_DEC, .a = R_DEC, .b = R_DEC},
        {.op = EXPR_IDIV, .kind = KIND_U64, .a = R_U64, .b = R_U64},
        {.op = EXPR_SHL, .kind = KIND_U64, .a = R_U64, .b = R_U64},
        {.op = EXPR_EQ, .kind = KIND_STR, .a = R_STR, .b = R_STR, .x = 1},
        {.op = EXPR_AND, .kind = KIND_I64, .a = R_I64, .b = R_NULL},
        {.op = EXPR_IS_NULL, .kind = KIND_STR, .a = R_STR},
        {.op = EXPR_CAST, .kind = KIND_DEC, .a = R_STR, .c = KIND_STR, .x = 18},
        {.op = EXPR_SELECT, .kind = KIND_F64, .a = R_I64, .b = R_F64, .c = R_NULL},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_STR, .b = 1, .c = 255, .x = 5},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 1, .y = 1},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 6, .y = 0},
        {.op = EXPR_SUBSTR, .kind = KIND_STR, .a = R_STR, .b = R_I64, .c = R_I64},
        {.op = EXPR_FLOOR, .kind = KIND_I64, .a = R_DEC},
        {.op = EXPR_FLOOR, .kind = KIND_F64, .a = R_F64},
        {.op = EXPR_ROUND, .kind = KIND_F64, .a = R_F64, .x = 2},
        {.op = EXPR_HOME, .kind = KIND_U64, .a = R_U64},
        {.op = EXPR_COLUMN, .kind = KIND_DEC, .a = EXPR_SOURCE_AGG, .x = UINT16_MAX},
        {.op = EXPR_CONST, .kind = KIND_STR, .x = 0},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(good); i++)
        cr_assert_eq(decode_last(good[i]), ERR_NONE, "case %u", i);
}

Test(expr, instructions_that_do_not_fit_are_refused)
{
    struct expr_ins bad[] = {
        {.op = 0, .kind = KIND_I64},
        {.op = EXPR_OP_MAX + 1, .kind = KIND_I64},
        {.op = EXPR_NEG, .kind = 6, .a = R_I64},
        {.op = EXPR_NEG, .kind = KIND_I64, .a = R_SELF},
        {.op = EXPR_NEG, .kind = KIND_I64, .a = 4000},
        {.op = EXPR_ADD, .kind = KIND_I64, .a = R_I64, .b = R_SELF},
        {.op = EXPR_SELECT, .kind = KIND_I64, .a = R_I64, .b = R_I64, .c = R_SELF},
        {.op = EXPR_ADD, .kind = KIND_I64, .a = R_I64, .b = R_U64},
        {.op = EXPR_ADD, .kind = KIND_STR, .a = R_STR, .b = R_STR},
        {.op = EXPR_ADD, .kind = KIND_NULL, .a = R_NULL, .b = R_NULL},
        {.op = EXPR_DIV, .kind = KIND_I64, .a = R_I64, .b = R_I64},
        {.op = EXPR_DIV, .kind = KIND_F64, .a = R_DEC, .b = R_F64},
        {.op = EXPR_IDIV, .kind = KIND_F64, .a = R_F64, .b = R_F64},
        {.op = EXPR_BIT_AND, .kind = KIND_U64, .a = R_I64, .b = R_U64},
        {.op = EXPR_EQ, .kind = KIND_STR, .a = R_STR, .b = R_STR, .x = 2},
        {.op = EXPR_EQ, .kind = KIND_I64, .a = R_STR, .b = R_STR},
        {.op = EXPR_AND, .kind = KIND_I64, .a = R_STR, .b = R_I64},
        {.op = EXPR_CAST, .kind = KIND_I64, .a = R_STR, .c = KIND_I64},
        {.op = EXPR_CAST, .kind = KIND_NULL, .a = R_STR, .c = KIND_STR},
        {.op = EXPR_CAST, .kind = KIND_DEC, .a = R_STR, .c = KIND_STR, .x = 19},
        {.op = EXPR_CAST, .kind = KIND_DEC, .a = R_STR, .c = 77},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_STR, .x = 1},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_STR, .x = 6},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_STR, .x = 5, .b = 2},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_STR, .x = 5, .c = 256},
        {.op = EXPR_LIKE, .kind = KIND_STR, .a = R_I64, .x = 5},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 1, .y = 2},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 0, .y = 2},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 6, .y = 1},
        {.op = EXPR_IN, .kind = KIND_I64, .a = R_I64, .x = 2, .y = UINT32_MAX},
        {.op = EXPR_IN, .kind = KIND_STR, .a = R_STR, .x = 5, .y = 1, .b = 9},
        {.op = EXPR_ABS, .kind = KIND_U64, .a = R_U64},
        {.op = EXPR_LOG2, .kind = KIND_U64, .a = R_I64},
        {.op = EXPR_SUBSTR, .kind = KIND_STR, .a = R_STR, .b = R_U64, .c = R_I64},
        {.op = EXPR_FLOOR, .kind = KIND_I64, .a = R_I64},
        {.op = EXPR_ROUND, .kind = KIND_DEC, .a = R_DEC, .x = 19},
        {.op = EXPR_ROUND, .kind = KIND_DEC, .a = R_F64, .x = 1},
        {.op = EXPR_YEAR, .kind = KIND_I64, .a = R_U64},
        {.op = EXPR_CAST_DATETIME_STR, .kind = KIND_STR, .a = R_I64, .x = 7},
        {.op = EXPR_COLUMN, .kind = KIND_NULL, .a = 0},
        {.op = EXPR_COLUMN, .kind = KIND_I64, .a = 256},
        {.op = EXPR_COLUMN, .kind = KIND_I64, .a = 0, .x = UINT16_MAX + 1},
        {.op = EXPR_CONST, .kind = KIND_I64, .x = 6},
        {.op = EXPR_CONST, .kind = KIND_I64, .x = 2},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++)
        cr_assert_eq(decode_last(bad[i]), ERR_BAD_PROGRAM, "case %u", i);
}

Test(expr, lists_shared_without_end_are_refused)
{
    struct expr_builder builder = begin();
    uint16_t column = expr_column(&builder, KIND_U64, 0, 0);
    for (uint32_t i = 0; i < 40000; i++)
        expr_constant(&builder, value_u64(i));
    for (uint32_t i = 0; i < 30; i++)
        expr_add(&builder,
                 (struct expr_ins){.op = EXPR_IN, .kind = KIND_U64, .a = column, .y = 40000});
    struct expr expr;
    cr_assert_eq(through_wire(&builder, &expr), ERR_BAD_PROGRAM);
}

struct seen {
    uint32_t count;
    uint32_t refuse_at;
};

static bool check_column(const void *context, uint8_t source, uint16_t column, enum value_kind kind)
{
    static const enum value_kind kinds[] = {KIND_STR, KIND_U64, KIND_DEC, KIND_F64, KIND_I64};
    struct seen *seen = (struct seen *)(uintptr_t)context;
    cr_assert_eq(source, seen->count);
    cr_assert_eq(column, source + 1);
    cr_assert_eq(kind, kinds[source]);
    return ++seen->count != seen->refuse_at;
}

Test(expr, columns_are_shown_to_the_check)
{
    struct expr_builder builder;
    build_large(&builder);
    struct seen seen = {0};
    cr_assert_eq(expr_check_columns(&builder.expr, check_column, &seen), ERR_NONE);
    cr_assert_eq(seen.count, 5);
    seen = (struct seen){.refuse_at = 3};
    cr_assert_eq(expr_check_columns(&builder.expr, check_column, &seen), ERR_BAD_PROGRAM);
    cr_assert_eq(seen.count, 3);
}

Test(expr, mutated_encodings_are_refused_or_valid)
{
    struct expr_builder builder;
    struct expr expr;
    build_large(&builder);
    cr_assert_eq(through_wire(&builder, &expr), ERR_NONE);
    size_t size = buf.size;
    uint8_t original[2048];
    cr_assert_lt(size, sizeof original);
    memcpy(original, buf.bytes, size);
    uint64_t random = 1;
    uint32_t accepted = 0;
    for (uint32_t round = 0; round < 200000; round++) {
        memcpy(buf.bytes, original, size);
        random = hash_u64(random + round);
        uint64_t choice = random;
        for (uint32_t i = 0; i <= (choice & 3); i++) {
            random = hash_u64(random + 1);
            buf.bytes[(random >> 8) % size] = (uint8_t)(random & 64 ? random : random & 7);
        }
        struct reader reader = reader_of(buf.bytes, size - (choice >> 60 ? 0 : choice % size));
        enum err err = expr_decode(&reader, &arena, &expr);
        cr_assert(err == ERR_NONE || err == ERR_BAD_PROGRAM);
        if (!err) {
            /* What is accepted must read the same again. */
            struct buf again;
            struct expr copy;
            buf_init(&again);
            expr_encode(&expr, &again);
            struct reader second = reader_of(again.bytes, again.size);
            cr_assert_eq(expr_decode(&second, &arena, &copy), ERR_NONE);
            cr_assert_eq(copy.ins_count, expr.ins_count);
            buf_fini(&again);
            accepted++;
        }
        if (round % 256 == 0) arena_reset(&arena);
    }
    cr_assert_gt(accepted, 1000);
}
