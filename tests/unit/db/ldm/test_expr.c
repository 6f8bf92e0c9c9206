/* The scalar interpreter: every operation with its edges, NULLs, errors, and mutated expressions,
 * which must run to some result whatever they are. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/expr.h"
#include "db/ldm/expr_ops.h"
#include "tests/unit/sanitized.h"

static struct arena arena;

static void set_up(void)
{
    arena_init(&arena, 0);
}

static void tear_down(void)
{
    arena_fini(&arena);
}

TestSuite(expr_eval, .init = set_up, .fini = tear_down);

static struct value no_column(const void *context, uint8_t source, uint16_t column)
{
    (void)context;
    cr_assert_fail("column %u.%u was asked for", source, column);
    return value_null();
}

static bool same(struct value a, struct value b)
{
    if (a.kind != b.kind) return false;
    switch ((enum value_kind)a.kind) {
    case KIND_NULL:
        return true;
    case KIND_STR:
        return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
    case KIND_DEC:
        return a.i == b.i && a.scale == b.scale;
    default:
        return a.u == b.u;
    }
}

static const char *show(struct value value)
{
    static char text[4][100];
    static uint32_t next;
    char *at = text[next++ % 4];
    switch ((enum value_kind)value.kind) {
    case KIND_NULL:
        return "NULL";
    case KIND_I64:
        snprintf(at, 100, "I64 %ld", value.i);
        break;
    case KIND_U64:
        snprintf(at, 100, "U64 %lu", value.u);
        break;
    case KIND_F64:
        snprintf(at, 100, "F64 %.17g", value.f);
        break;
    case KIND_DEC:
        snprintf(at, 100, "DEC %ld scale %u", value.i, value.scale);
        break;
    case KIND_STR:
        snprintf(at, 100, "'%.*s'", (int)value.size, (const char *)value.bytes);
        break;
    }
    return at;
}

/* The instruction applied to up to three constants, through the wire and the whole interpreter. */
static enum err run(struct expr_ins ins, struct value a, struct value b, struct value c,
                    struct value *ret_value)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &arena);
    ins.a = expr_const(&builder, a);
    if (ins.op != EXPR_LIKE && ins.op != EXPR_IN) ins.b = expr_const(&builder, b);
    if (ins.op != EXPR_LIKE && ins.op != EXPR_CAST) ins.c = expr_const(&builder, c);
    if (ins.op == EXPR_LIKE) ins.x = expr_constant(&builder, b);
    expr_add(&builder, ins);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    struct buf buf;
    buf_init(&buf);
    expr_encode(&expr, &buf);
    struct reader reader = reader_of(buf.bytes, buf.size);
    enum err err = expr_decode(&reader, &arena, &expr);
    cr_assert_eq(err, ERR_NONE, "op %u is not valid", ins.op);
    err = expr_eval(&expr, no_column, NULL, &arena, ret_value);
    /* Constants live in the message. */
    if (!err && ret_value->kind == KIND_STR && ret_value->size) {
        ret_value->bytes = (const uint8_t *)arena_copy(&arena, ret_value->bytes, ret_value->size);
    }
    buf_fini(&buf);
    return err;
}

static void expect_ins(int line, struct expr_ins ins, struct value a, struct value b,
                       struct value c, struct value expected)
{
    struct value value = {0};
    enum err err = run(ins, a, b, c, &value);
    cr_assert_eq(err, ERR_NONE, "line %d: %s", line, err_name(err));
    cr_assert(same(value, expected), "line %d: %s, not %s", line, show(value), show(expected));
}

static void expect_error(int line, struct expr_ins ins, struct value a, struct value b)
{
    struct value value = {.kind = 99};
    enum err err = run(ins, a, b, value_null(), &value);
    cr_assert_eq(err, ERR_OUT_OF_RANGE, "line %d: %s", line, err_name(err));
    cr_assert_eq(value.kind, 99, "line %d: written on failure", line);
}

#define INS(o, k) ((struct expr_ins){.op = (uint8_t)(o), .kind = (k)})
#define EXPECT1(o, k, a, r) expect_ins(__LINE__, INS(o, k), a, value_null(), value_null(), r)
#define EXPECT2(o, k, a, b, r) expect_ins(__LINE__, INS(o, k), a, b, value_null(), r)
#define EXPECT3(o, k, a, b, c, r) expect_ins(__LINE__, INS(o, k), a, b, c, r)
#define RANGE1(o, k, a) expect_error(__LINE__, INS(o, k), a, value_null())
#define RANGE2(o, k, a, b) expect_error(__LINE__, INS(o, k), a, b)
#define I value_i64
#define U value_u64
#define F value_f64
#define D value_dec
#define S value_text
#define N value_null()

/* ---- arithmetic ---- */

Test(expr_eval, signed_integers_overflow_as_errors)
{
    EXPECT2(EXPR_ADD, KIND_I64, I(40), I(2), I(42));
    EXPECT2(EXPR_ADD, KIND_I64, I(INT64_MAX), I(INT64_MIN), I(-1));
    RANGE2(EXPR_ADD, KIND_I64, I(INT64_MAX), I(1));
    RANGE2(EXPR_ADD, KIND_I64, I(INT64_MIN), I(-1));
    EXPECT2(EXPR_SUB, KIND_I64, I(-5), I(6), I(-11));
    RANGE2(EXPR_SUB, KIND_I64, I(0), I(INT64_MIN));
    EXPECT2(EXPR_SUB, KIND_I64, I(-1), I(INT64_MIN), I(INT64_MAX));
    EXPECT2(EXPR_MUL, KIND_I64, I(-3), I(7), I(-21));
    EXPECT2(EXPR_MUL, KIND_I64, I(INT64_MIN), I(1), I(INT64_MIN));
    RANGE2(EXPR_MUL, KIND_I64, I(INT64_MIN), I(-1));
    RANGE2(EXPR_MUL, KIND_I64, I(INT64_C(1) << 32), I(INT64_C(1) << 31));
    EXPECT2(EXPR_IDIV, KIND_I64, I(-7), I(2), I(-3));
    EXPECT2(EXPR_IDIV, KIND_I64, I(7), I(0), N);
    RANGE2(EXPR_IDIV, KIND_I64, I(INT64_MIN), I(-1));
    EXPECT2(EXPR_MOD, KIND_I64, I(-7), I(2), I(-1));
    EXPECT2(EXPR_MOD, KIND_I64, I(7), I(-2), I(1));
    EXPECT2(EXPR_MOD, KIND_I64, I(INT64_MIN), I(-1), I(0));
    EXPECT2(EXPR_MOD, KIND_I64, I(7), I(0), N);
    EXPECT1(EXPR_NEG, KIND_I64, I(INT64_MAX), I(-INT64_MAX));
    RANGE1(EXPR_NEG, KIND_I64, I(INT64_MIN));
    EXPECT1(EXPR_ABS, KIND_I64, I(-3), I(3));
    RANGE1(EXPR_ABS, KIND_I64, I(INT64_MIN));
}

Test(expr_eval, unsigned_integers_overflow_as_errors)
{
    EXPECT2(EXPR_ADD, KIND_U64, U(UINT64_MAX - 1), U(1), U(UINT64_MAX));
    RANGE2(EXPR_ADD, KIND_U64, U(UINT64_MAX), U(1));
    EXPECT2(EXPR_SUB, KIND_U64, U(5), U(5), U(0));
    RANGE2(EXPR_SUB, KIND_U64, U(5), U(6));
    EXPECT2(EXPR_MUL, KIND_U64, U(UINT64_MAX), U(1), U(UINT64_MAX));
    RANGE2(EXPR_MUL, KIND_U64, U(UINT64_MAX), U(2));
    RANGE2(EXPR_MUL, KIND_U64, U(UINT64_MAX), U(UINT64_MAX));
    EXPECT2(EXPR_IDIV, KIND_U64, U(UINT64_MAX), U(2), U(INT64_MAX));
    EXPECT2(EXPR_IDIV, KIND_U64, U(1), U(0), N);
    EXPECT2(EXPR_MOD, KIND_U64, U(UINT64_MAX), U(10), U(5));
    EXPECT1(EXPR_NEG, KIND_U64, U(0), U(0));
    RANGE1(EXPR_NEG, KIND_U64, U(1));
}

Test(expr_eval, doubles_must_stay_finite)
{
    EXPECT2(EXPR_ADD, KIND_F64, F(0.5), F(0.25), F(0.75));
    RANGE2(EXPR_ADD, KIND_F64, F(1e308), F(1e308));
    RANGE2(EXPR_MUL, KIND_F64, F(1e200), F(-1e200));
    EXPECT2(EXPR_DIV, KIND_F64, F(1), F(4), F(0.25));
    EXPECT2(EXPR_DIV, KIND_F64, F(1), F(0), N);
    RANGE2(EXPR_DIV, KIND_F64, F(1e308), F(1e-308));
    EXPECT2(EXPR_MOD, KIND_F64, F(-7.5), F(2), F(-1.5));
    EXPECT2(EXPR_MOD, KIND_F64, F(1), F(0), N);
    EXPECT1(EXPR_NEG, KIND_F64, F(2.5), F(-2.5));
    EXPECT1(EXPR_ABS, KIND_F64, F(-2.5), F(2.5));
}

Test(expr_eval, decimals_have_eighteen_digits)
{
    EXPECT2(EXPR_ADD, KIND_DEC, D(150, 2), D(275, 2), D(425, 2));
    EXPECT2(EXPR_ADD, KIND_DEC, D(15, 1), D(275, 2), D(425, 2));
    EXPECT2(EXPR_SUB, KIND_DEC, D(100, 2), D(275, 2), D(-175, 2));
    RANGE2(EXPR_ADD, KIND_DEC, D(DEC_LIMIT - 1, 0), D(1, 0));
    EXPECT2(EXPR_ADD, KIND_DEC, D(DEC_LIMIT - 2, 3), D(1, 3), D(DEC_LIMIT - 1, 3));
    RANGE2(EXPR_ADD, KIND_DEC, D(DEC_LIMIT - 1, 0), D(1, 18));
    EXPECT2(EXPR_MUL, KIND_DEC, D(-150, 2), D(25, 1), D(-3750, 3));
    RANGE2(EXPR_MUL, KIND_DEC, D(1000000000, 0), D(1000000000, 0));
    EXPECT2(EXPR_MUL, KIND_DEC, D(999999999, 9), D(1000000000, 9), D(999999999000000000, 18));
    RANGE2(EXPR_MUL, KIND_DEC, D(1, 10), D(1, 9));
    EXPECT2(EXPR_MOD, KIND_DEC, D(-75, 1), D(20, 1), D(-15, 1));
    EXPECT2(EXPR_MOD, KIND_DEC, D(75, 1), D(2, 0), D(15, 1));
    EXPECT2(EXPR_MOD, KIND_DEC, D(75, 1), D(0, 0), N);
    EXPECT1(EXPR_NEG, KIND_DEC, D(75, 1), D(-75, 1));
    EXPECT1(EXPR_ABS, KIND_DEC, D(-75, 1), D(75, 1));
}

Test(expr_eval, decimal_division_keeps_four_more_digits_and_rounds_half_away)
{
    EXPECT2(EXPR_DIV, KIND_DEC, D(1, 0), D(3, 0), D(3333, 4));
    EXPECT2(EXPR_DIV, KIND_DEC, D(2, 0), D(3, 0), D(6667, 4));
    EXPECT2(EXPR_DIV, KIND_DEC, D(-2, 0), D(3, 0), D(-6667, 4));
    EXPECT2(EXPR_DIV, KIND_DEC, D(1, 0), D(20000, 0), D(1, 4)); /* 0.00005 */
    EXPECT2(EXPR_DIV, KIND_DEC, D(-1, 0), D(20000, 0), D(-1, 4));
    EXPECT2(EXPR_DIV, KIND_DEC, D(1, 0), D(20001, 0), D(0, 4));
    EXPECT2(EXPR_DIV, KIND_DEC, D(1000, 2), D(4, 1), D(25000000, 6));
    EXPECT2(EXPR_DIV, KIND_DEC, D(5, 0), D(0, 2), N);
    EXPECT2(EXPR_DIV, KIND_DEC, D(DEC_LIMIT - 1, 14), D(DEC_LIMIT - 1, 0), D(10000, 18));
    EXPECT2(EXPR_DIV, KIND_DEC, D(1, 18), D(2, 0), D(1, 18));
    RANGE2(EXPR_DIV, KIND_DEC, D(1, 18), D(1, 18)); /* 1 with scale 18 has 19 digits */
    RANGE2(EXPR_DIV, KIND_DEC, D(DEC_LIMIT - 1, 0), D(1, 18));
}

/* Compares with the definition, in 128 bits where that fits. */
Test(expr_eval, decimal_division_agrees_with_exact_arithmetic)
{
    uint64_t random = 7;
    for (uint32_t i = 0; i < (SANITIZED ? 4000 : 20000); i++) {
        random = hash_u64(random + i);
        uint32_t a_scale = (uint32_t)(random % 10);
        uint32_t b_scale = (uint32_t)(random >> 8) % 6;
        int64_t a = (int64_t)hash_u64(random) >> (10 + random % 50);
        int64_t b = (int64_t)hash_u64(random + 1) >> (10 + (random >> 16) % 50);
        if (b == 0) continue;
        __int128 dividend = (__int128)a * power_of_ten(b_scale + 4);
        __int128 quotient = dividend / b;
        __int128 remainder = dividend % b;
        __int128 twice = remainder < 0 ? -2 * remainder : 2 * remainder;
        __int128 size = b < 0 ? -(__int128)b : b;
        if (twice >= size) quotient += (a < 0) != (b < 0) ? -1 : 1;
        struct value value;
        enum err err =
            run(INS(EXPR_DIV, KIND_DEC), D(a, (uint8_t)a_scale), D(b, (uint8_t)b_scale), N, &value);
        if (quotient >= DEC_LIMIT || quotient <= -DEC_LIMIT) {
            cr_assert_eq(err, ERR_OUT_OF_RANGE);
        } else {
            cr_assert_eq(err, ERR_NONE);
            cr_assert(same(value, D((int64_t)quotient, (uint8_t)(a_scale + 4))));
        }
        if (i % 64 == 0) arena_reset(&arena);
    }
}

Test(expr_eval, bits_and_shifts)
{
    EXPECT2(EXPR_BIT_AND, KIND_U64, U(12), U(10), U(8));
    EXPECT2(EXPR_BIT_OR, KIND_U64, U(12), U(10), U(14));
    EXPECT2(EXPR_BIT_XOR, KIND_U64, U(12), U(10), U(6));
    EXPECT1(EXPR_BIT_NOT, KIND_U64, U(0), U(UINT64_MAX));
    EXPECT2(EXPR_SHL, KIND_U64, U(3), U(63), U(UINT64_C(1) << 63));
    EXPECT2(EXPR_SHR, KIND_U64, U(UINT64_MAX), U(63), U(1));
    RANGE2(EXPR_SHL, KIND_U64, U(1), U(64));
    RANGE2(EXPR_SHR, KIND_U64, U(1), U(UINT64_MAX));
    EXPECT1(EXPR_LOG2, KIND_U64, U(0), I(-1));
    EXPECT1(EXPR_LOG2, KIND_U64, U(1), I(0));
    EXPECT1(EXPR_LOG2, KIND_U64, U(4095), I(11));
    EXPECT1(EXPR_LOG2, KIND_U64, U(UINT64_MAX), I(63));
    EXPECT1(EXPR_HOME, KIND_U64, U(UINT64_C(0x1234) << 37 | 99), U(0x1234));
    EXPECT1(EXPR_HOME, KIND_U64, U(UINT64_MAX), U(0xffff));
}

Test(expr_eval, rounding)
{
    EXPECT1(EXPR_FLOOR, KIND_I64, F(-2.5), I(-3));
    EXPECT1(EXPR_CEIL, KIND_I64, F(-2.5), I(-2));
    EXPECT1(EXPR_FLOOR, KIND_I64, D(-250, 2), I(-3));
    EXPECT1(EXPR_CEIL, KIND_I64, D(-250, 2), I(-2));
    EXPECT1(EXPR_FLOOR, KIND_I64, D(299, 2), I(2));
    EXPECT1(EXPR_CEIL, KIND_I64, D(201, 2), I(3));
    EXPECT1(EXPR_CEIL, KIND_I64, D(200, 2), I(2));
    RANGE1(EXPR_FLOOR, KIND_I64, F(1e19));
    RANGE1(EXPR_CEIL, KIND_I64, F(0x1p63));
    EXPECT1(EXPR_FLOOR, KIND_I64, F(-0x1p63), I(INT64_MIN));
    struct expr_ins round2 = {.op = EXPR_ROUND, .kind = KIND_F64, .x = 2};
    expect_ins(__LINE__, round2, F(2.675001), N, N, F(2.68));
    expect_ins(__LINE__, round2, F(-0.125), N, N, F(-0.13));
    expect_ins(__LINE__, round2, F(1e300), N, N, F(1e300));
    round2.kind = KIND_DEC;
    expect_ins(__LINE__, round2, D(12345, 3), N, N, D(1235, 2));
    expect_ins(__LINE__, round2, D(-12345, 3), N, N, D(-1235, 2));
    expect_ins(__LINE__, round2, D(12344, 3), N, N, D(1234, 2));
    expect_ins(__LINE__, round2, D(7, 0), N, N, D(700, 2));
    expect_error(__LINE__, round2, D(DEC_LIMIT - 1, 0), N);
}

/* ---- comparison and logic ---- */

Test(expr_eval, comparisons_of_every_kind)
{
    static const enum expr_op ops[] = {EXPR_EQ, EXPR_NE, EXPR_LT, EXPR_LE, EXPR_GT, EXPR_GE};
    static const int64_t less[] = {0, 1, 1, 1, 0, 0};
    static const int64_t equal[] = {1, 0, 0, 1, 0, 1};
    static const int64_t more[] = {0, 1, 0, 0, 1, 1};
    struct {
        struct value low;
        struct value high;
    } pairs[] = {
        {I(-1), I(1)},       {U(1), U(UINT64_MAX)}, {F(-0.5), F(0.25)},
        {D(15, 1), D(2, 0)}, {S("ab"), S("abc")},   {S("Z"), S("a")},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        for (uint32_t k = 0; k < ARRAY_SIZE(ops); k++) {
            uint8_t kind = pairs[i].low.kind;
            EXPECT2(ops[k], kind, pairs[i].low, pairs[i].high, I(less[k]));
            EXPECT2(ops[k], kind, pairs[i].high, pairs[i].high, I(equal[k]));
            EXPECT2(ops[k], kind, pairs[i].high, pairs[i].low, I(more[k]));
            EXPECT2(ops[k], kind, pairs[i].high, N, N);
            EXPECT2(ops[k], kind, N, pairs[i].high, N);
        }
    }
    EXPECT2(EXPR_EQ, KIND_DEC, D(150, 2), D(15, 1), I(1));
    struct expr_ins folded = {.op = EXPR_EQ, .kind = KIND_STR, .x = COLLATION_CASE_INSENSITIVE};
    expect_ins(__LINE__, folded, S("MiXed"), S("mIxED"), N, I(1));
    folded.x = COLLATION_BINARY;
    expect_ins(__LINE__, folded, S("MiXed"), S("mIxED"), N, I(0));
}

Test(expr_eval, null_safe_equality_never_gives_null)
{
    EXPECT2(EXPR_EQ_NULLSAFE, KIND_I64, N, N, I(1));
    EXPECT2(EXPR_EQ_NULLSAFE, KIND_I64, I(1), N, I(0));
    EXPECT2(EXPR_EQ_NULLSAFE, KIND_I64, N, I(1), I(0));
    EXPECT2(EXPR_EQ_NULLSAFE, KIND_I64, I(1), I(1), I(1));
    EXPECT2(EXPR_EQ_NULLSAFE, KIND_I64, I(1), I(2), I(0));
}

Test(expr_eval, logic_has_three_values)
{
    struct value values[] = {I(0), I(5), N};
    struct value and[3][3] = {{I(0), I(0), I(0)}, {I(0), I(1), N}, {I(0), N, N}};
    struct value or [3][3] = {{I(0), I(1), N}, {I(1), I(1), I(1)}, {N, I(1), N}};
    struct value xor [3][3] = {{I(0), I(1), N}, {I(1), I(0), N}, {N, N, N}};
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 3; k++) {
            EXPECT2(EXPR_AND, KIND_I64, values[i], values[k], and[i][k]);
            EXPECT2(EXPR_OR, KIND_I64, values[i], values[k], or [i][k]);
            EXPECT2(EXPR_XOR, KIND_I64, values[i], values[k], xor[i][k]);
        }
    }
    EXPECT1(EXPR_NOT, KIND_I64, I(0), I(1));
    EXPECT1(EXPR_NOT, KIND_I64, I(-1), I(0));
    EXPECT1(EXPR_NOT, KIND_I64, N, N);
    EXPECT1(EXPR_IS_NULL, KIND_STR, N, I(1));
    EXPECT1(EXPR_IS_NULL, KIND_STR, S(""), I(0));
    EXPECT1(EXPR_IS_NOT_NULL, KIND_STR, N, I(0));
    EXPECT1(EXPR_IS_NOT_NULL, KIND_STR, S(""), I(1));
}

Test(expr_eval, select_and_coalesce_choose)
{
    EXPECT3(EXPR_SELECT, KIND_STR, I(1), S("yes"), S("no"), S("yes"));
    EXPECT3(EXPR_SELECT, KIND_STR, I(0), S("yes"), S("no"), S("no"));
    EXPECT3(EXPR_SELECT, KIND_STR, N, S("yes"), S("no"), S("no"));
    EXPECT3(EXPR_SELECT, KIND_STR, I(1), N, S("no"), N);
    EXPECT2(EXPR_COALESCE, KIND_I64, N, I(2), I(2));
    EXPECT2(EXPR_COALESCE, KIND_I64, I(1), I(2), I(1));
    EXPECT2(EXPR_COALESCE, KIND_I64, N, N, N);
}

Test(expr_eval, null_operands_give_null)
{
    EXPECT2(EXPR_ADD, KIND_I64, N, I(1), N);
    EXPECT2(EXPR_DIV, KIND_F64, F(1), N, N);
    EXPECT2(EXPR_SHL, KIND_U64, N, U(99), N);
    EXPECT2(EXPR_CONCAT, KIND_STR, S("a"), N, N);
    EXPECT2(EXPR_LIKE, KIND_STR, N, S("%"), N);
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(1), N, N);
    EXPECT1(EXPR_YEAR, KIND_I64, N, N);
    EXPECT1(EXPR_FLOOR, KIND_I64, N, N);
}

Test(expr_eval, holds_is_true_and_not_null)
{
    cr_assert(expr_holds(I(-1)) && expr_holds(U(1)) && expr_holds(F(0.5)) && expr_holds(D(1, 3)));
    cr_assert_not(expr_holds(I(0)) || expr_holds(U(0)) || expr_holds(F(0)) || expr_holds(N));
    cr_assert_not(expr_holds(S("1")));
}

Test(expr_eval, in_looks_through_its_list)
{
    struct value lists[][3] = {
        {I(1), I(2), I(3)},       {U(1), U(2), U(3)},       {D(10, 1), D(20, 1), D(3, 0)},
        {S("a"), S("B"), S("c")}, {F(0.5), F(1.5), F(2.5)},
    };
    struct value inside[] = {I(3), U(2), D(200, 2), S("b"), F(1.5)};
    struct value outside[] = {I(4), U(0), D(21, 1), S("d"), F(1)};
    for (uint32_t i = 0; i < ARRAY_SIZE(lists); i++) {
        for (uint32_t k = 0; k < 3; k++) {
            struct value wanted = k == 0 ? inside[i] : k == 1 ? outside[i] : N;
            struct expr_builder builder;
            struct expr expr;
            expr_begin(&builder, &arena);
            uint32_t first = expr_constant(&builder, lists[i][0]);
            expr_constant(&builder, lists[i][1]);
            expr_constant(&builder, lists[i][2]);
            expr_add(&builder, (struct expr_ins){.op = EXPR_IN,
                                                 .kind = lists[i][0].kind,
                                                 .a = expr_const(&builder, wanted),
                                                 .b = COLLATION_CASE_INSENSITIVE,
                                                 .x = first,
                                                 .y = 3});
            cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
            struct value value;
            cr_assert_eq(expr_eval(&expr, no_column, NULL, &arena, &value), ERR_NONE);
            cr_assert(same(value, k == 2 ? N : I(k == 0)), "list %u: %s", i, show(value));
        }
    }
}

/* ---- casts ---- */

static void expect_cast(int line, struct value from, uint8_t kind, uint32_t scale,
                        struct value expected)
{
    struct expr_ins ins = {.op = EXPR_CAST, .kind = kind, .c = from.kind, .x = scale};
    expect_ins(line, ins, from, N, N, expected);
}

static void expect_cast_error(int line, struct value from, uint8_t kind, uint32_t scale)
{
    struct expr_ins ins = {.op = EXPR_CAST, .kind = kind, .c = from.kind, .x = scale};
    expect_error(line, ins, from, N);
}

#define CAST(from, kind, scale, to) expect_cast(__LINE__, from, kind, scale, to)
#define CAST_RANGE(from, kind, scale) expect_cast_error(__LINE__, from, kind, scale)

Test(expr_eval, casts_to_integers_round_half_away_from_zero)
{
    CAST(F(2.5), KIND_I64, 0, I(3));
    CAST(F(-2.5), KIND_I64, 0, I(-3));
    CAST(F(0.49999999999999994), KIND_I64, 0, I(0));
    CAST(F(-0.4), KIND_U64, 0, U(0));
    CAST(D(25, 1), KIND_I64, 0, I(3));
    CAST(D(-249, 2), KIND_I64, 0, I(-2));
    CAST(D(5, 1), KIND_U64, 0, U(1));
    CAST(S("12.5"), KIND_I64, 0, I(13));
    CAST(S("-12.5"), KIND_I64, 0, I(-13));
    CAST(S("12.49"), KIND_I64, 0, I(12));
    CAST(U(INT64_MAX), KIND_I64, 0, I(INT64_MAX));
    CAST(I(5), KIND_U64, 0, U(5));
    CAST(F(0x1p63), KIND_U64, 0, U(UINT64_C(1) << 63));
    CAST(F(-0x1p63), KIND_I64, 0, I(INT64_MIN));
    CAST(S("18446744073709551615"), KIND_U64, 0, U(UINT64_MAX));
    CAST(S("-9223372036854775808"), KIND_I64, 0, I(INT64_MIN));
}

Test(expr_eval, casts_beyond_the_range_are_errors)
{
    CAST_RANGE(I(-1), KIND_U64, 0);
    CAST_RANGE(U(UINT64_C(1) << 63), KIND_I64, 0);
    CAST_RANGE(F(-0.5), KIND_U64, 0);
    CAST_RANGE(F(0x1p63), KIND_I64, 0);
    CAST_RANGE(F(0x1p64), KIND_U64, 0);
    CAST_RANGE(F(1e300), KIND_I64, 0);
    CAST_RANGE(F(NAN), KIND_I64, 0);
    CAST_RANGE(F(INFINITY), KIND_DEC, 2);
    CAST_RANGE(S("18446744073709551616"), KIND_U64, 0);
    CAST_RANGE(S("1e40"), KIND_I64, 0);
    CAST_RANGE(S("1e99999999999999999999"), KIND_I64, 0);
    CAST_RANGE(S("1e400"), KIND_F64, 0);
    CAST_RANGE(I(DEC_LIMIT), KIND_DEC, 0);
    CAST_RANGE(U(UINT64_MAX), KIND_DEC, 18);
    CAST_RANGE(I(1), KIND_DEC, 18);
    CAST_RANGE(F(1e18), KIND_DEC, 0);
}

Test(expr_eval, casts_to_decimal_use_the_shortest_text)
{
    CAST(I(-7), KIND_DEC, 2, D(-700, 2));
    CAST(U(7), KIND_DEC, 0, D(7, 0));
    CAST(D(12345, 3), KIND_DEC, 1, D(123, 1));
    CAST(D(12350, 3), KIND_DEC, 1, D(124, 1));
    CAST(D(-12350, 3), KIND_DEC, 1, D(-124, 1));
    CAST(D(123, 1), KIND_DEC, 3, D(12300, 3));
    CAST(F(1.005), KIND_DEC, 2, D(101, 2));
    CAST(F(0.1), KIND_DEC, 18, D(100000000000000000, 18));
    CAST(F(1e-30), KIND_DEC, 18, D(0, 18));
    CAST(F(-123456.789), KIND_DEC, 2, D(-12345679, 2));
    CAST(S("  1.005xyz"), KIND_DEC, 2, D(101, 2));
    CAST(S("0.0000000000000000005"), KIND_DEC, 18, D(1, 18));
    CAST(S("123e-2"), KIND_DEC, 1, D(12, 1));
    CAST(S("1.25E2"), KIND_DEC, 0, D(125, 0));
}

Test(expr_eval, casts_from_text_take_the_longest_number)
{
    CAST(S(""), KIND_I64, 0, I(0));
    CAST(S("abc"), KIND_I64, 0, I(0));
    CAST(S(" \t\n42 apples"), KIND_I64, 0, I(42));
    CAST(S("+5"), KIND_I64, 0, I(5));
    CAST(S("-"), KIND_I64, 0, I(0));
    CAST(S("."), KIND_I64, 0, I(0));
    CAST(S(".5"), KIND_I64, 0, I(1));
    CAST(S("5."), KIND_I64, 0, I(5));
    CAST(S("1e2e3"), KIND_I64, 0, I(100));
    CAST(S("1e"), KIND_I64, 0, I(1));
    CAST(S("1e+"), KIND_I64, 0, I(1));
    CAST(S("0x10"), KIND_I64, 0, I(0));
    CAST(S("1.2.3"), KIND_F64, 0, F(1.2));
    CAST(S("inf"), KIND_F64, 0, F(0));
    CAST(S("nan"), KIND_F64, 0, F(0));
    CAST(S("0x1p4"), KIND_F64, 0, F(0));
    CAST(S("-1.5e-3 m"), KIND_F64, 0, F(-0.0015));
    CAST(value_str(NULL, 0), KIND_F64, 0, F(0));
    CAST(S("00000000000000000000000000000000000000000000000000000000012"), KIND_I64, 0, I(12));
    CAST(S("0.00000000000000000000000000000000000000000000000000000001e57"), KIND_I64, 0, I(10));
    char digits[400];
    memset(digits, '1', sizeof digits);
    digits[1] = '.';
    CAST(value_str(digits, sizeof digits), KIND_F64, 0, F(1.1111111111111112));
    CAST(value_str(digits, sizeof digits), KIND_DEC, 3, D(1111, 3));
}

Test(expr_eval, casts_to_double)
{
    CAST(I(-3), KIND_F64, 0, F(-3));
    CAST(U(UINT64_MAX), KIND_F64, 0, F(0x1p64));
    CAST(D(-12345, 3), KIND_F64, 0, F(-12.345));
}

Test(expr_eval, casts_to_text_read_back)
{
    CAST(I(INT64_MIN), KIND_STR, 0, S("-9223372036854775808"));
    CAST(U(UINT64_MAX), KIND_STR, 0, S("18446744073709551615"));
    CAST(D(-50, 2), KIND_STR, 0, S("-0.50"));
    CAST(D(5, 0), KIND_STR, 0, S("5"));
    CAST(D(-1, 18), KIND_STR, 0, S("-0.000000000000000001"));
    CAST(D(1230, 2), KIND_STR, 0, S("12.30"));
    CAST(F(0.1), KIND_STR, 0, S("0.1"));
    CAST(F(1), KIND_STR, 0, S("1"));
    CAST(F(-2.5), KIND_STR, 0, S("-2.5"));
    CAST(F(0.1 + 0.2), KIND_STR, 0, S("0.30000000000000004"));
    CAST(F(1e20), KIND_STR, 0, S("1e20"));
    CAST(F(1.5e-7), KIND_STR, 0, S("1.5e-7"));
    CAST(F(5e-324), KIND_STR, 0, S("5e-324"));
    CAST(F(1e100), KIND_STR, 0, S("1e100"));
    CAST(F(1.7976931348623157e308), KIND_STR, 0, S("1.7976931348623157e308"));
    CAST(F(100000), KIND_STR, 0, S("100000"));
    CAST(S("same"), KIND_STR, 0, S("same"));
    uint64_t random = 3;
    for (uint32_t i = 0; i < (SANITIZED ? 4000 : 20000); i++) {
        random = hash_u64(random + i);
        double f;
        memcpy(&f, &random, sizeof f);
        if (!isfinite(f)) continue;
        char text[F64_TEXT_SIZE_MAX];
        uint32_t size = f64_text(f, text);
        cr_assert_eq(size, strlen(text));
        cr_assert_eq(strtod(text, NULL), f, "%s", text);
    }
}

/* ---- text ---- */

static void expect_like(int line, const char *text, const char *pattern, uint16_t collation,
                        uint16_t escape, int64_t expected)
{
    struct expr_ins ins = {.op = EXPR_LIKE, .kind = KIND_STR, .b = collation, .c = escape};
    expect_ins(line, ins, S(text), S(pattern), N, I(expected));
}

#define LIKE(text, pattern, r) expect_like(__LINE__, text, pattern, COLLATION_BINARY, '\\', r)
#define ILIKE(text, pattern, r)                                                                    \
    expect_like(__LINE__, text, pattern, COLLATION_CASE_INSENSITIVE, '\\', r)

Test(expr_eval, like_matches_by_code_point)
{
    LIKE("", "", 1);
    LIKE("", "%", 1);
    LIKE("", "_", 0);
    LIKE("a", "", 0);
    LIKE("abc", "abc", 1);
    LIKE("abc", "ab", 0);
    LIKE("abc", "abcd", 0);
    LIKE("abc", "a%", 1);
    LIKE("abc", "%c", 1);
    LIKE("abc", "%b%", 1);
    LIKE("abc", "%%%", 1);
    LIKE("abc", "___", 1);
    LIKE("abc", "____", 0);
    LIKE("abc", "_%_", 1);
    LIKE("abc", "%_%_%_%", 1);
    LIKE("abc", "%_%_%_%_%", 0);
    LIKE("abcabd", "%abd", 1);
    LIKE("aab", "%ab", 1);
    LIKE("mississippi", "m%iss%ip%i", 1);
    LIKE("mississippi", "m%iss%ips%i", 0);
    LIKE("ABC", "abc", 0);
    ILIKE("ABC", "aBc", 1);
    ILIKE("XYZ", "%y_", 1);
    ILIKE("[", "{", 0);
    LIKE("grün", "gr_n", 1);
    LIKE("grün", "gr__n", 0);
    LIKE("日本語", "___", 1);
    LIKE("日本語", "%本%", 1);
    LIKE("\xff\xfe", "__", 1);
    LIKE("100%", "100\\%", 1);
    LIKE("1000", "100\\%", 0);
    LIKE("a_b", "a\\_b", 1);
    LIKE("axb", "a\\_b", 0);
    LIKE("a\\b", "a\\\\b", 1);
    LIKE("a\\", "a\\", 1);
    expect_like(__LINE__, "a%b", "a!%b", COLLATION_BINARY, '!', 1);
    expect_like(__LINE__, "a\\b", "a\\b", COLLATION_BINARY, 0, 1);
    expect_like(__LINE__, "50%off", "50%%off", COLLATION_BINARY, '%', 1);
}

/* The definition, by recursion, over short texts of few letters. */
static bool like_slow(const char *text, const char *pattern)
{
    if (!*pattern) return !*text;
    if (*pattern == '%')
        return like_slow(text, pattern + 1) || (*text && like_slow(text + 1, pattern));
    return *text && (*pattern == '_' || *pattern == *text) && like_slow(text + 1, pattern + 1);
}

Test(expr_eval, like_agrees_with_its_definition)
{
    uint64_t random = 5;
    for (uint32_t i = 0; i < (SANITIZED ? 20000 : 100000); i++) {
        char text[12] = {0};
        char pattern[9] = {0};
        random = hash_u64(random + i);
        for (uint32_t k = 0; k < random % 11; k++)
            text[k] = (char)('a' + (random >> (8 + k)) % 2);
        random = hash_u64(random);
        for (uint32_t k = 0; k < random % 8; k++)
            pattern[k] = "ab%_"[(random >> (8 + 2 * k)) % 4];
        bool matches = text_like(S(text), S(pattern), COLLATION_BINARY, 0);
        cr_assert_eq(matches, like_slow(text, pattern), "'%s' like '%s'", text, pattern);
    }
}

Test(expr_eval, lengths_count_bytes_and_code_points)
{
    EXPECT1(EXPR_LENGTH, KIND_STR, S("grün"), I(5));
    EXPECT1(EXPR_CHAR_LENGTH, KIND_STR, S("grün"), I(4));
    EXPECT1(EXPR_CHAR_LENGTH, KIND_STR, S(""), I(0));
    EXPECT1(EXPR_CHAR_LENGTH, KIND_STR, S("a\xff\xc3"), I(3));
    EXPECT1(EXPR_CHAR_LENGTH, KIND_STR, S("\xf0\x9f\x98\x80!"), I(2));
}

Test(expr_eval, case_changes_ascii_letters_only)
{
    EXPECT1(EXPR_LOWER, KIND_STR, S("GRÜN 12 [Z]"), S("grÜn 12 [z]"));
    EXPECT1(EXPR_UPPER, KIND_STR, S("grün 12 {z}"), S("GRüN 12 {Z}"));
    EXPECT1(EXPR_LOWER, KIND_STR, S("plain"), S("plain"));
    EXPECT1(EXPR_UPPER, KIND_STR, S(""), S(""));
}

Test(expr_eval, substrings_follow_mysql)
{
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("Quadratisch"), I(5), I(6), S("ratisc"));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("Sakila"), I(-3), I(10), S("ila"));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("Sakila"), I(-5), I(3), S("aki"));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(0), I(2), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(1), I(0), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(1), I(-1), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(4), I(1), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(-4), I(2), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(1), I(INT64_MAX), S("abc"));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(INT64_MAX), I(INT64_MAX), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("abc"), I(INT64_MIN), I(1), S(""));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("grün"), I(3), I(1), S("ü"));
    EXPECT3(EXPR_SUBSTR, KIND_STR, S("grün"), I(-1), I(1), S("n"));
}

Test(expr_eval, texts_join_up_to_their_limit)
{
    EXPECT2(EXPR_CONCAT, KIND_STR, S("ab"), S("cd"), S("abcd"));
    EXPECT2(EXPR_CONCAT, KIND_STR, S(""), S("cd"), S("cd"));
    EXPECT2(EXPR_CONCAT, KIND_STR, S(""), S(""), S(""));
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &arena);
    uint16_t last = expr_const(&builder, S("0123456789abcdef"));
    for (uint32_t i = 0; i < 16; i++)
        last = expr_op2(&builder, EXPR_CONCAT, KIND_STR, last, last);
    struct value value;
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr_eval(&expr, no_column, NULL, &arena, &value), ERR_NONE);
    cr_assert_eq(value.size, EXPR_STR_SIZE_MAX);
    expr_op2(&builder, EXPR_CONCAT, KIND_STR, last, last);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    cr_assert_eq(expr_eval(&expr, no_column, NULL, &arena, &value), ERR_OUT_OF_RANGE);
}

Test(expr_eval, extensions_of_file_names)
{
    EXPECT1(EXPR_EXTENSION, KIND_STR, S("main.c"), S("c"));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S("ARCHIVE.TAR.GZ"), S("gz"));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S("Makefile"), S(""));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S(".bashrc"), S(""));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S(".config.json"), S("json"));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S("odd."), S(""));
    EXPECT1(EXPR_EXTENSION, KIND_STR, S(""), S(""));
}

Test(expr_eval, instr_counts_code_points)
{
    EXPECT2(EXPR_INSTR, KIND_STR, S("foobarbar"), S("bar"), I(4));
    EXPECT2(EXPR_INSTR, KIND_STR, S("xbar"), S("foobar"), I(0));
    EXPECT2(EXPR_INSTR, KIND_STR, S("grün"), S("n"), I(4));
    EXPECT2(EXPR_INSTR, KIND_STR, S("abc"), S(""), I(1));
    EXPECT2(EXPR_INSTR, KIND_STR, S(""), S("a"), I(0));
}

/* ---- dates ---- */

static int64_t day_us(int64_t days)
{
    return days * INT64_C(86400000000);
}

Test(expr_eval, dates_are_gregorian)
{
    struct {
        int64_t days;
        const char *text;
    } cases[] = {
        {0, "1970-01-01"},        {-1, "1969-12-31"},      {59, "1970-03-01"},
        {11016, "2000-02-29"},    {11017, "2000-03-01"},   {-25509, "1900-02-28"},
        {-25508, "1900-03-01"},   {20513, "2026-03-01"},   {2932896, "9999-12-31"},
        {2932897, "10000-01-01"}, {-719528, "0000-01-01"}, {-719529, "-0001-12-31"},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        EXPECT1(EXPR_CAST_DATE_STR, KIND_STR, I(cases[i].days), S(cases[i].text));
    }
    RANGE1(EXPR_CAST_DATE_STR, KIND_STR, I(INT64_MAX));
    RANGE1(EXPR_CAST_DATE_STR, KIND_STR, I(INT64_MIN));
}

/* Walks day by day over 800 years with the calendar's own rules. */
Test(expr_eval, every_day_follows_the_one_before)
{
    static const uint32_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year = 1600;
    uint32_t month = 1;
    uint32_t day = 1;
    for (int64_t days = -135140; year < 2400; days++) {
        struct civil_date date = civil_from_days(days);
        cr_assert(date.year == year && date.month == month && date.day == day, "day %ld", days);
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        if (++day > lengths[month - 1] + (leap && month == 2)) {
            day = 1;
            if (++month > 12) {
                month = 1;
                year++;
            }
        }
    }
}

Test(expr_eval, parts_of_a_datetime)
{
    int64_t when = day_us(11016) + INT64_C(86399999999);
    EXPECT1(EXPR_YEAR, KIND_I64, I(when), I(2000));
    EXPECT1(EXPR_MONTH, KIND_I64, I(when), I(2));
    EXPECT1(EXPR_DAY, KIND_I64, I(when), I(29));
    EXPECT1(EXPR_YEAR, KIND_I64, I(-1), I(1969));
    EXPECT1(EXPR_DAY, KIND_I64, I(-1), I(31));
    EXPECT1(EXPR_YEAR, KIND_I64, I(INT64_MIN), I(-290308));
    EXPECT1(EXPR_YEAR, KIND_I64, I(INT64_MAX), I(294247));
}

Test(expr_eval, datetimes_as_text)
{
    struct expr_ins ins = {.op = EXPR_CAST_DATETIME_STR, .kind = KIND_STR};
    int64_t when = day_us(11016) + INT64_C(86399123456);
    expect_ins(__LINE__, ins, I(when), N, N, S("2000-02-29 23:59:59"));
    ins.x = 6;
    expect_ins(__LINE__, ins, I(when), N, N, S("2000-02-29 23:59:59.123456"));
    ins.x = 3;
    expect_ins(__LINE__, ins, I(when), N, N, S("2000-02-29 23:59:59.123"));
    expect_ins(__LINE__, ins, I(-1), N, N, S("1969-12-31 23:59:59.999"));
    ins.x = 1;
    expect_ins(__LINE__, ins, I(0), N, N, S("1970-01-01 00:00:00.0"));
    expect_ins(__LINE__, ins, I(INT64_MAX), N, N, S("294247-01-10 04:00:54.7"));
    expect_ins(__LINE__, ins, I(INT64_MIN), N, N, S("-290308-12-21 19:59:05.2"));
}

/* ---- whole expressions ---- */

static struct value row_column(const void *context, uint8_t source, uint16_t column)
{
    const struct value *rows = context;
    return rows[source * 4 + column];
}

Test(expr_eval, columns_come_from_the_caller)
{
    struct value rows[8] = {[1] = I(40), [6] = I(2)};
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &arena);
    uint16_t a = expr_column(&builder, KIND_I64, 0, 1);
    uint16_t b = expr_column(&builder, KIND_I64, 1, 2);
    expr_op2(&builder, EXPR_ADD, KIND_I64, a, b);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    struct value value;
    cr_assert_eq(expr_eval(&expr, row_column, rows, &arena, &value), ERR_NONE);
    cr_assert(same(value, I(42)));
    rows[6] = N;
    cr_assert_eq(expr_eval(&expr, row_column, rows, &arena, &value), ERR_NONE);
    cr_assert(value_is_null(value));
}

Test(expr_eval, long_expressions_take_registers_from_the_arena)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &arena);
    uint16_t one = expr_const(&builder, I(1));
    uint16_t sum = one;
    for (uint32_t i = 1; i < EXPR_INS_MAX; i++)
        sum = expr_op2(&builder, EXPR_ADD, KIND_I64, sum, one);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    struct value value;
    cr_assert_eq(expr_eval(&expr, no_column, NULL, &arena, &value), ERR_NONE);
    cr_assert(same(value, I(EXPR_INS_MAX)));
    struct arena small;
    arena_init(&small, 4096);
    cr_assert_eq(expr_eval(&expr, no_column, NULL, &small, &value), ERR_NO_MEMORY);
    arena_fini(&small);
}

Test(expr_eval, results_that_need_memory_report_that_there_is_none)
{
    struct arena none;
    arena_init(&none, 1);
    struct {
        struct expr_ins ins;
        struct value a;
    } cases[] = {
        {INS(EXPR_CONCAT, KIND_STR), S("a")},
        {INS(EXPR_UPPER, KIND_STR), S("a")},
        {INS(EXPR_CAST_DATE_STR, KIND_STR), I(0)},
        {INS(EXPR_CAST_DATETIME_STR, KIND_STR), I(0)},
        {{.op = EXPR_CAST, .kind = KIND_STR, .c = KIND_I64}, I(0)},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct expr expr = {0};
        struct value value;
        enum err err = expr_apply(&expr, &cases[i].ins, cases[i].a, cases[i].a, N, &none, &value);
        cr_assert_eq(err, ERR_NO_MEMORY, "case %u", i);
    }
    arena_fini(&none);
}

static struct value any_column(const void *context, uint8_t source, uint16_t column)
{
    const struct expr *expr = context;
    for (uint32_t i = 0; i < expr->ins_count; i++) {
        const struct expr_ins *ins = &expr->ins[i];
        if (ins->op != EXPR_COLUMN || ins->a != source || ins->x != column) continue;
        struct value values[] = {N,         I(INT64_MIN),        U(UINT64_MAX),
                                 F(-1e308), D(DEC_LIMIT - 1, 9), S("grün.TXT")};
        return values[ins->kind];
    }
    return N;
}

/* All columns of one number have one kind, as a table's do. */
static bool column_is_consistent(const void *context, uint8_t source, uint16_t column,
                                 enum value_kind kind)
{
    struct value value = any_column(context, source, column);
    return value.kind == kind;
}

/* Random expressions, made valid by the decoder, run without a fault whatever they compute. */
Test(expr_eval, random_expressions_end)
{
    static const uint8_t kinds[] = {KIND_I64, KIND_U64, KIND_F64, KIND_DEC, KIND_STR};
    static const char *texts[] = {"", "%", "12.5e3x", "-99999999999999999999", "a_b%", "\xff"};
    uint64_t random = 11;
    uint64_t ran = 0;
    struct buf buf;
    buf_init(&buf);
    for (uint32_t round = 0; round < (SANITIZED ? 15000 : 60000); round++) {
        struct expr_builder builder;
        struct expr expr;
        expr_begin(&builder, &arena);
        random = hash_u64(random + round);
        expr_const(&builder, I((int64_t)random >> (random & 63)));
        expr_const(&builder, U(hash_u64(random) >> (random >> 8 & 63)));
        expr_const(&builder, F((double)(int64_t)hash_u64(random + 1) * 1e-10));
        expr_const(&builder, D((int64_t)hash_u64(random + 2) >> 5, (uint8_t)(random >> 16) % 19));
        expr_const(&builder, S(texts[random % ARRAY_SIZE(texts)]));
        expr_column(&builder, (enum value_kind)kinds[random % 5], 0, 3);
        expr_const(&builder, N);
        /* Of each register as many tries as it takes to find an instruction that is valid. */
        for (uint32_t tries = 0; tries < 24; tries++) {
            random = hash_u64(random + tries);
            uint16_t registers = (uint16_t)builder.expr.ins_count;
            struct expr_ins ins = {.op = (uint8_t)(1 + random % EXPR_OP_MAX),
                                   .kind = kinds[(random >> 8) % 5],
                                   .a = (uint16_t)((random >> 16) % registers),
                                   .b = (uint16_t)((random >> 24) % registers),
                                   .c = (uint16_t)((random >> 32) % registers),
                                   .x = (uint32_t)(random >> 40) % 7,
                                   .y = (uint32_t)(random >> 48) % 2};
            if (ins.op == EXPR_COLUMN) continue;
            if (ins.op == EXPR_CAST) {
                struct expr prefix = builder.expr;
                prefix.ins_count = ins.a + 1u;
                ins.c = (uint16_t)expr_kind(&prefix);
            }
            struct expr_builder before = builder;
            expr_add(&builder, ins);
            cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
            buf_clear(&buf);
            expr_encode(&expr, &buf);
            struct reader reader = reader_of(buf.bytes, buf.size);
            enum err err = expr_decode(&reader, &arena, &expr);
            if (!err) err = expr_check_columns(&expr, column_is_consistent, &expr);
            if (err) {
                cr_assert_eq(err, ERR_BAD_PROGRAM);
                builder = before;
                continue;
            }
            struct value value;
            err = expr_eval(&expr, any_column, &expr, &arena, &value);
            cr_assert(err == ERR_NONE || err == ERR_OUT_OF_RANGE);
            if (err) {
                builder = before;
                continue;
            }
            enum value_kind kind = expr_kind(&expr);
            cr_assert(value_is_null(value) || value.kind == kind, "op %u gives %s", ins.op,
                      show(value));
            cr_assert(value.kind != KIND_F64 || isfinite(value.f));
            ran++;
        }
        arena_reset(&arena);
    }
    cr_assert_gt(ran, SANITIZED ? 25000 : 100000);
    buf_fini(&buf);
}
