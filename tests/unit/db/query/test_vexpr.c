/* The vector interpreter against the scalar one: random expressions over random rows must agree on
 * every value, and fail when and only when some row fails. */
#include "tests/unit/db/query/harness.h"

#include <math.h>

#include "db/ldm/expr.h"
#include "db/query/vexpr.h"

enum { COLUMN_COUNT = 8, INS_LIMIT = 400 };

struct world {
    uint64_t random;
    uint32_t row_count;
    struct value rows[QUERY_VECTOR_ROWS][COLUMN_COUNT];
    struct query_memory memory;
    struct vector_pool pool;
    struct vector_buffer *buffers[COLUMN_COUNT];
    struct vector columns[COLUMN_COUNT];
    struct arena texts;
    struct catalog *catalog;
    struct query_scope scope;
    uint32_t row; /* for the scalar interpreter */
};

static const uint8_t column_kinds[COLUMN_COUNT] = {KIND_U64, KIND_U64, KIND_U64, KIND_U64,
                                                   KIND_I64, KIND_F64, KIND_DEC, KIND_STR};

static uint64_t next(struct world *world)
{
    world->random += UINT64_C(0x9e3779b97f4a7c15);
    return hash_u64(world->random);
}

static uint64_t below(struct world *world, uint64_t limit)
{
    return next(world) % limit;
}

static struct value random_text(struct world *world, struct arena *arena)
{
    static const char *const pieces[] = {"a", "B",  "c", ".",  "é", "ab", "x.Y", "%", "_",
                                         " ", "12", "-", ".5", "Z", "日", "\\",  "e", "."};
    char text[64] = "";
    for (uint64_t n = below(world, 6); n > 0; n--)
        strcat(text, pieces[below(world, ARRAY_SIZE(pieces))]);
    return value_str(arena_copy(arena, text, strlen(text)), (uint32_t)strlen(text));
}

static int64_t random_i64(struct world *world)
{
    switch (below(world, 12)) {
    case 0:
        return INT64_MIN;
    case 1:
        return INT64_MAX;
    case 2:
        return (int64_t)next(world);
    case 3:
        return -1;
    case 4:
        return 0;
    default:
        return (int64_t)below(world, 41) - 20;
    }
}

/* Rows that seldom fail are wanted as well as such that do: `calm` has small numbers only. */
static struct value random_value(struct world *world, uint8_t kind, bool calm, struct arena *arena)
{
    switch (kind) {
    case KIND_I64:
        return value_i64(calm ? (int64_t)below(world, 41) - 20 : random_i64(world));
    case KIND_U64:
        return value_u64(calm ? below(world, 70) : (uint64_t)random_i64(world));
    case KIND_F64:
        return value_f64(calm || below(world, 8) ? (double)((int64_t)below(world, 81) - 40) / 4
                                                 : 1e300 * (double)below(world, 1000));
    case KIND_DEC:
        return value_dec(calm || below(world, 8) ? (int64_t)below(world, 2001) - 1000
                                                 : INT64_C(99999999999999999),
                         2);
    default:
        return random_text(world, arena);
    }
}

static void make_rows(struct world *world, bool calm)
{
    arena_reset(&world->texts);
    world->row_count = 1 + (uint32_t)below(world, below(world, 4) ? 40 : QUERY_VECTOR_ROWS);
    for (uint16_t c = 0; c < COLUMN_COUNT; c++) {
        struct vector *vector = &world->columns[c];
        bool nulls = below(world, 2);
        *vector =
            vector_in(world->buffers[c], column_kinds[c], column_kinds[c] == KIND_DEC ? 2 : 0);
        /* What lies under a NULL is arbitrary. */
        memset(world->buffers[c]->data, 0xee, QUERY_VECTOR_ROWS * 16);
        for (uint32_t i = 0; i < world->row_count; i++) {
            struct value value = nulls && below(world, 5) == 0
                                     ? value_null()
                                     : random_value(world, column_kinds[c], calm, &world->texts);
            world->rows[i][c] = value;
            vector_set(vector, i, value);
            if (value_is_null(value) && column_kinds[c] != KIND_STR) vector->u[i] = next(world);
        }
        vector->count = world->row_count;
    }
}

/* ---- random expressions ---- */

struct gen {
    struct world *world;
    struct expr_builder e;
    bool calm;
};

static uint16_t gen(struct gen *g, uint8_t kind, unsigned depth);

static uint16_t emit(struct gen *g, enum expr_op op, uint8_t kind, uint16_t a, uint16_t b,
                     uint16_t c, uint32_t x, uint32_t y)
{
    return expr_add(
        &g->e,
        (struct expr_ins){.op = (uint8_t)op, .kind = kind, .a = a, .b = b, .c = c, .x = x, .y = y});
}

static uint16_t leaf(struct gen *g, uint8_t kind)
{
    struct world *world = g->world;
    if (below(world, 3)) {
        uint16_t column;
        do
            column = (uint16_t)below(world, COLUMN_COUNT);
        while (column_kinds[column] != kind);
        return expr_column(&g->e, kind, 0, column);
    }
    if (below(world, 12) == 0) {
        uint16_t reg = expr_const(&g->e, value_null());
        if (below(world, 2)) g->e.expr.ins[reg].kind = kind;
        return reg;
    }
    return expr_const(&g->e, random_value(world, kind, g->calm, &world->texts));
}

static uint8_t any_kind(struct gen *g)
{
    return (uint8_t)(KIND_I64 + below(g->world, 5));
}

static uint16_t gen_compare(struct gen *g, unsigned depth)
{
    uint8_t kind = any_kind(g);
    uint16_t a = gen(g, kind, depth);
    uint16_t b = gen(g, kind, depth);
    enum expr_op op = (enum expr_op)(EXPR_EQ + below(g->world, 7));
    return emit(g, op, kind, a, b, 0, kind == KIND_STR ? (uint32_t)below(g->world, 2) : 0, 0);
}

static uint16_t gen_like(struct gen *g, unsigned depth)
{
    uint16_t a = gen(g, KIND_STR, depth);
    static const char *const patterns[] = {"%",     "a%",   "%b",    "%.%", "a",    "",
                                           "%A%b%", "_%",   "%\\%%", "%é%", "B%.%", "__",
                                           "%%",    "\\_%", "ab%ab", "%.Y"};
    const char *pattern = patterns[below(g->world, ARRAY_SIZE(patterns))];
    uint16_t constant = expr_const(&g->e, value_text(pattern));
    uint32_t number = g->e.expr.ins[constant].x;
    return emit(g, EXPR_LIKE, KIND_STR, a, (uint16_t)below(g->world, 2),
                below(g->world, 2) ? '\\' : 0, number, 0);
}

static uint16_t gen_in(struct gen *g, unsigned depth)
{
    uint8_t kind = any_kind(g);
    uint16_t a = gen(g, kind, depth);
    uint32_t count = 1 + (uint32_t)below(g->world, 20);
    uint32_t first = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct value value = random_value(g->world, kind, g->calm, &g->world->texts);
        if (kind == KIND_DEC && below(g->world, 3) == 0) value.scale = 3;
        uint16_t reg = expr_const(&g->e, value);
        if (i == 0) first = g->e.expr.ins[reg].x;
    }
    return emit(g, EXPR_IN, kind, a, kind == KIND_STR ? (uint16_t)below(g->world, 2) : (uint16_t)0,
                0, first, count);
}

static uint16_t gen_i64(struct gen *g, unsigned depth)
{
    struct world *world = g->world;
    uint8_t kind;
    switch (below(world, 24)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: {
        static const enum expr_op ops[] = {EXPR_ADD, EXPR_SUB, EXPR_MUL, EXPR_IDIV, EXPR_MOD};
        enum expr_op op = ops[below(world, ARRAY_SIZE(ops))];
        uint16_t a = gen(g, KIND_I64, depth);
        return emit(g, op, KIND_I64, a, gen(g, KIND_I64, depth), 0, 0, 0);
    }
    case 5:
        return emit(g, below(world, 2) ? EXPR_NEG : EXPR_ABS, KIND_I64, gen(g, KIND_I64, depth), 0,
                    0, 0, 0);
    case 6:
    case 7:
    case 8:
        return gen_compare(g, depth);
    case 9:
    case 10: {
        static const enum expr_op ops[] = {EXPR_AND, EXPR_OR, EXPR_XOR};
        enum expr_op op = ops[below(world, ARRAY_SIZE(ops))];
        uint16_t a = gen(g, below(world, 4) ? KIND_I64 : KIND_U64, depth);
        return emit(g, op, KIND_I64, a, gen(g, KIND_I64, depth), 0, 0, 0);
    }
    case 11:
        return emit(g, EXPR_NOT, KIND_I64, gen(g, KIND_I64, depth), 0, 0, 0, 0);
    case 12:
        kind = any_kind(g);
        return emit(g, below(world, 2) ? EXPR_IS_NULL : EXPR_IS_NOT_NULL, kind, gen(g, kind, depth),
                    0, 0, 0, 0);
    case 13:
    case 14:
        return gen_like(g, depth);
    case 15:
        return gen_in(g, depth);
    case 16: {
        static const enum expr_op ops[] = {EXPR_LENGTH, EXPR_CHAR_LENGTH};
        return emit(g, ops[below(world, 2)], KIND_STR, gen(g, KIND_STR, depth), 0, 0, 0, 0);
    }
    case 17:
        return emit(g, EXPR_LOG2, KIND_U64, gen(g, KIND_U64, depth), 0, 0, 0, 0);
    case 18: {
        uint16_t a = gen(g, KIND_STR, depth);
        return emit(g, EXPR_INSTR, KIND_STR, a, gen(g, KIND_STR, depth), 0, 0, 0);
    }
    case 19:
        kind = below(world, 2) ? KIND_F64 : KIND_DEC;
        return emit(g, below(world, 2) ? EXPR_FLOOR : EXPR_CEIL, KIND_I64, gen(g, kind, depth), 0,
                    0, 0, 0);
    case 20:
        kind = any_kind(g);
        return emit(g, EXPR_CAST, KIND_I64, gen(g, kind, depth), 0, kind, 0, 0);
    case 21: {
        static const enum expr_op ops[] = {EXPR_YEAR, EXPR_MONTH, EXPR_DAY};
        return emit(g, ops[below(world, 3)], KIND_I64, gen(g, KIND_I64, depth), 0, 0, 0, 0);
    }
    case 22: {
        uint16_t a = gen(g, KIND_I64, depth);
        return emit(g, EXPR_COALESCE, KIND_I64, a, gen(g, KIND_I64, depth), 0, 0, 0);
    }
    default: {
        uint16_t a = gen(g, KIND_I64, depth);
        uint16_t b = gen(g, KIND_I64, depth);
        return emit(g, EXPR_SELECT, KIND_I64, a, b, gen(g, KIND_I64, depth), 0, 0);
    }
    }
}

static uint16_t gen_u64(struct gen *g, unsigned depth)
{
    struct world *world = g->world;
    static const enum expr_op ops[] = {EXPR_ADD, EXPR_SUB,    EXPR_MUL,     EXPR_IDIV,
                                       EXPR_MOD, EXPR_BIT_OR, EXPR_BIT_AND, EXPR_SHL,
                                       EXPR_SHR, EXPR_BIT_XOR};
    uint64_t choice = below(world, 14);
    if (choice < ARRAY_SIZE(ops)) {
        uint16_t a = gen(g, KIND_U64, depth);
        return emit(g, ops[choice], KIND_U64, a, gen(g, KIND_U64, depth), 0, 0, 0);
    }
    if (choice == 10) return emit(g, EXPR_BIT_NOT, KIND_U64, gen(g, KIND_U64, depth), 0, 0, 0, 0);
    if (choice == 11) return emit(g, EXPR_HOME, KIND_U64, gen(g, KIND_U64, depth), 0, 0, 0, 0);
    if (choice == 12) {
        uint8_t kind = any_kind(g);
        return emit(g, EXPR_CAST, KIND_U64, gen(g, kind, depth), 0, kind, 0, 0);
    }
    uint16_t a = gen(g, KIND_I64, depth);
    uint16_t b = gen(g, KIND_U64, depth);
    return emit(g, EXPR_SELECT, KIND_U64, a, b, gen(g, KIND_U64, depth), 0, 0);
}

static uint16_t gen_f64(struct gen *g, unsigned depth)
{
    struct world *world = g->world;
    static const enum expr_op ops[] = {EXPR_ADD, EXPR_SUB, EXPR_MUL, EXPR_DIV, EXPR_MOD};
    uint64_t choice = below(world, 9);
    if (choice < ARRAY_SIZE(ops)) {
        uint16_t a = gen(g, KIND_F64, depth);
        return emit(g, ops[choice], KIND_F64, a, gen(g, KIND_F64, depth), 0, 0, 0);
    }
    if (choice == 5) return emit(g, EXPR_ABS, KIND_F64, gen(g, KIND_F64, depth), 0, 0, 0, 0);
    if (choice == 6) return emit(g, EXPR_ROUND, KIND_F64, gen(g, KIND_F64, depth), 0, 0, 1, 0);
    if (choice == 7) {
        uint16_t a = gen(g, KIND_F64, depth);
        return emit(g, EXPR_COALESCE, KIND_F64, a, gen(g, KIND_F64, depth), 0, 0, 0);
    }
    uint8_t kind = any_kind(g);
    return emit(g, EXPR_CAST, KIND_F64, gen(g, kind, depth), 0, kind, 0, 0);
}

/* Always of scale 2. */
static uint16_t gen_dec(struct gen *g, unsigned depth)
{
    struct world *world = g->world;
    uint16_t a;
    switch (below(world, 7)) {
    case 0:
        a = gen(g, KIND_DEC, depth);
        return emit(g, EXPR_ADD, KIND_DEC, a, gen(g, KIND_DEC, depth), 0, 0, 0);
    case 1:
        a = gen(g, KIND_DEC, depth);
        return emit(g, EXPR_SUB, KIND_DEC, a, gen(g, KIND_DEC, depth), 0, 0, 0);
    case 2:
    case 3: {
        enum expr_op op = below(world, 2) ? EXPR_MUL : EXPR_DIV;
        a = gen(g, KIND_DEC, depth);
        a = emit(g, op, KIND_DEC, a, gen(g, KIND_DEC, depth), 0, 0, 0);
        return emit(g, EXPR_ROUND, KIND_DEC, a, 0, 0, 2, 0);
    }
    case 4: {
        uint8_t kind = any_kind(g);
        return emit(g, EXPR_CAST, KIND_DEC, gen(g, kind, depth), 0, kind, 2, 0);
    }
    case 5: {
        a = gen(g, KIND_I64, depth);
        uint16_t b = gen(g, KIND_DEC, depth);
        return emit(g, EXPR_SELECT, KIND_DEC, a, b, gen(g, KIND_DEC, depth), 0, 0);
    }
    default:
        return emit(g, below(world, 2) ? EXPR_ABS : EXPR_NEG, KIND_DEC, gen(g, KIND_DEC, depth), 0,
                    0, 0, 0);
    }
}

static uint16_t gen_str(struct gen *g, unsigned depth)
{
    struct world *world = g->world;
    static const enum expr_op ops[] = {EXPR_LOWER, EXPR_UPPER, EXPR_EXTENSION};
    uint64_t choice = below(world, 8);
    if (choice < 4) return emit(g, ops[choice % 3], KIND_STR, gen(g, KIND_STR, depth), 0, 0, 0, 0);
    uint16_t a;
    uint16_t b;
    switch (choice) {
    case 4:
        a = gen(g, KIND_STR, depth);
        return emit(g, EXPR_CONCAT, KIND_STR, a, gen(g, KIND_STR, depth), 0, 0, 0);
    case 5:
        a = gen(g, KIND_STR, depth);
        b = gen(g, KIND_I64, depth);
        return emit(g, EXPR_SUBSTR, KIND_STR, a, b, gen(g, KIND_I64, depth), 0, 0);
    case 6: {
        uint8_t kind = any_kind(g);
        return emit(g, EXPR_CAST, KIND_STR, gen(g, kind, depth), 0, kind, 0, 0);
    }
    default:
        a = gen(g, KIND_I64, depth);
        b = gen(g, KIND_STR, depth);
        return emit(g, EXPR_SELECT, KIND_STR, a, b, gen(g, KIND_STR, depth), 0, 0);
    }
}

static uint16_t gen(struct gen *g, uint8_t kind, unsigned depth)
{
    if (depth == 0 || below(g->world, 8) == 0 || g->e.expr.ins_count > INS_LIMIT)
        return leaf(g, kind);
    switch (kind) {
    case KIND_I64:
        return gen_i64(g, depth - 1);
    case KIND_U64:
        return gen_u64(g, depth - 1);
    case KIND_F64:
        return gen_f64(g, depth - 1);
    case KIND_DEC:
        return gen_dec(g, depth - 1);
    default:
        return gen_str(g, depth - 1);
    }
}

/* ---- both interpreters ---- */

static struct value scalar_column(const void *context, uint8_t source, uint16_t column)
{
    const struct world *world = context;
    cr_assert_eq(source, 0);
    return world->rows[world->row][column];
}

static enum err vector_column(void *context, uint8_t source, uint16_t column,
                              const struct vector **ret_vector)
{
    struct world *world = context;
    cr_assert_eq(source, 0);
    *ret_vector = &world->columns[column];
    return ERR_NONE;
}

static bool same(struct value a, struct value b)
{
    if (a.kind != b.kind) return false;
    if (a.kind == KIND_NULL) return true;
    if (a.kind == KIND_STR)
        return a.size == b.size && (!a.size || !memcmp(a.bytes, b.bytes, a.size));
    if (a.kind == KIND_F64) return a.f == b.f || (isnan(a.f) && isnan(b.f));
    if (a.kind == KIND_DEC && a.scale != b.scale) return false;
    return a.u == b.u;
}

/* True when no row failed. */
static bool compare_interpreters(struct world *world, const struct expr *expr)
{
    struct arena arena;
    arena_init(&arena, 0);
    struct arena scratch;
    arena_init(&scratch, 0);
    struct vexpr vexpr;
    enum err err = vexpr_init(&vexpr, expr, (uint16_t)(expr->ins_count - 1), &world->scope,
                              &world->pool, &world->memory, &arena);
    cr_assert_eq(err, ERR_NONE, "%s", err_text(err));
    struct vexpr_input input = {.column = vector_column,
                                .context = world,
                                .count = world->row_count,
                                .memory = &world->memory,
                                .scratch = &scratch};
    bool failed = false;
    /* Twice: what was kept from the first time must not matter. */
    for (int round = 0; round < 2; round++) {
        const struct vector *result;
        enum err vector_err = vexpr_eval(&vexpr, &input, &result);
        enum err scalar_err = ERR_NONE;
        for (uint32_t i = 0; i < world->row_count && !scalar_err; i++) {
            struct value expected;
            struct arena one;
            arena_init(&one, 0);
            world->row = i;
            scalar_err = expr_eval(expr, scalar_column, world, &one, &expected);
            if (!scalar_err && !vector_err)
                cr_assert(same(expected, vector_value(result, i)), "row %u of %u, last op %u", i,
                          world->row_count, expr->ins[expr->ins_count - 1].op);
            arena_fini(&one);
        }
        cr_assert_eq(vector_err != ERR_NONE, scalar_err != ERR_NONE, "vector %s, scalar %s",
                     err_text(vector_err), err_text(scalar_err));
        failed = scalar_err != ERR_NONE;
    }
    vexpr_fini(&vexpr);
    query_arena_fini(&world->memory, &arena);
    query_arena_fini(&world->memory, &scratch);
    return !failed;
}

static void world_init(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->random = seed;
    query_memory_init(&world->memory, 0);
    vector_pool_init(&world->pool, &world->memory);
    arena_init(&world->texts, 0);
    world->catalog = harness_catalog();
    world->scope = (struct query_scope){.source_count = 1, .tables = {world->catalog->tables[0]}};
    for (uint16_t c = 0; c < COLUMN_COUNT; c++)
        cr_assert_eq(vector_acquire(&world->pool, &world->buffers[c]), ERR_NONE);
}

static void world_fini(struct world *world)
{
    for (uint16_t c = 0; c < COLUMN_COUNT; c++)
        vector_release(&world->pool, world->buffers[c]);
    vector_pool_fini(&world->pool);
    arena_fini(&world->texts);
    catalog_destroy(world->catalog);
    cr_assert_eq(world->memory.used, 0);
}

Test(vexpr, agrees_with_the_scalar_interpreter_on_random_expressions)
{
    static struct world world;
    uint32_t succeeded = 0;
    enum { ROUNDS = 6000 };
    world_init(&world, 42);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        bool calm = below(&world, 3) != 0;
        make_rows(&world, calm);
        struct arena arena;
        arena_init(&arena, 0);
        struct gen g = {.world = &world, .calm = calm};
        expr_begin(&g.e, &arena);
        uint8_t kind = any_kind(&g);
        uint16_t root = gen(&g, kind, (unsigned)below(&world, 5));
        struct expr expr;
        cr_assert_eq(expr_finish(&g.e, &expr), ERR_NONE);
        cr_assert_eq(root, expr.ins_count - 1);
        /* The expression is one that may come over the wire. */
        struct buf buf;
        buf_init(&buf);
        expr_encode(&expr, &buf);
        struct reader reader = reader_of(buf.bytes, buf.size);
        struct expr decoded;
        cr_assert_eq(expr_decode(&reader, &arena, &decoded), ERR_NONE);
        succeeded += compare_interpreters(&world, &decoded);
        buf_fini(&buf);
        arena_fini(&arena);
    }
    /* Both outcomes were tried often. */
    cr_assert_gt(succeeded, ROUNDS / 2);
    cr_assert_lt(succeeded, ROUNDS);
    world_fini(&world);
}

/* Results live side by side: computing one expression must leave those of the others alone. */
Test(vexpr, expressions_that_share_buffers_do_not_disturb_each_other)
{
    enum { EXPRESSIONS = 7, ROUNDS = 400 };
    static struct world world;
    uint32_t compared = 0;
    world_init(&world, 4711);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        make_rows(&world, true);
        struct arena arena;
        struct arena scratch;
        struct arena built;
        arena_init(&arena, 0);
        arena_init(&scratch, 0);
        arena_init(&built, 0);
        struct expr exprs[EXPRESSIONS];
        struct vexpr vexprs[EXPRESSIONS];
        const struct vector *results[EXPRESSIONS];
        enum err errs[EXPRESSIONS];
        for (int k = 0; k < EXPRESSIONS; k++) {
            struct gen g = {.world = &world, .calm = true};
            expr_begin(&g.e, &built);
            gen(&g, any_kind(&g), 3);
            cr_assert_eq(expr_finish(&g.e, &exprs[k]), ERR_NONE);
            cr_assert_eq(vexpr_init(&vexprs[k], &exprs[k], (uint16_t)(exprs[k].ins_count - 1),
                                    &world.scope, &world.pool, &world.memory, &arena),
                         ERR_NONE);
        }
        struct vexpr_input input = {.column = vector_column,
                                    .context = &world,
                                    .count = world.row_count,
                                    .memory = &world.memory,
                                    .scratch = &scratch};
        /* In any order, of which the reverse of their making is the hardest. */
        for (int n = 0; n < EXPRESSIONS; n++) {
            int k = round % 2 ? n : EXPRESSIONS - 1 - n;
            errs[k] = vexpr_eval(&vexprs[k], &input, &results[k]);
        }
        for (int k = 0; k < EXPRESSIONS; k++) {
            for (uint32_t i = 0; !errs[k] && i < world.row_count; i++) {
                struct value expected;
                world.row = i;
                cr_assert_eq(expr_eval(&exprs[k], scalar_column, &world, &built, &expected),
                             ERR_NONE);
                cr_assert(same(expected, vector_value(results[k], i)), "expression %d, row %u", k,
                          i);
                compared++;
            }
        }
        for (int k = 0; k < EXPRESSIONS; k++)
            vexpr_fini(&vexprs[k]);
        arena_fini(&built);
        query_arena_fini(&world.memory, &arena);
        query_arena_fini(&world.memory, &scratch);
    }
    cr_assert_gt(compared, 10000);
    world_fini(&world);
}

Test(vexpr, select_picks_rows_that_are_true_and_not_null)
{
    int64_t numbers[] = {1, 0, -1, 5, 0, 2};
    uint8_t nulls[] = {0, 0, 0, 1, 1, 0};
    struct vector vector = {.kind = KIND_I64, .count = 6, .i = numbers, .nulls = nulls};
    uint16_t picks[QUERY_VECTOR_ROWS];
    cr_assert_eq(vexpr_select(&vector, 6, picks), 4);
    vector.has_nulls = true;
    cr_assert_eq(vexpr_select(&vector, 6, picks), 3);
    cr_assert_eq(picks[0], 0);
    cr_assert_eq(picks[1], 2);
    cr_assert_eq(picks[2], 5);
    double reals[] = {0.0, -0.0, 0.25, 1, 1, 0};
    struct vector real = {
        .kind = KIND_F64, .count = 6, .f = reals, .nulls = nulls, .has_nulls = true};
    cr_assert_eq(vexpr_select(&real, 6, picks), 1);
    cr_assert_eq(picks[0], 2);
}

Test(vexpr, a_plain_column_is_borrowed)
{
    static struct world world;
    world_init(&world, 7);
    make_rows(&world, true);
    struct arena arena;
    arena_init(&arena, 0);
    struct arena expr_arena;
    arena_init(&expr_arena, 0);
    struct expr_builder e;
    struct expr expr;
    expr_begin(&e, &expr_arena);
    expr_column(&e, KIND_U64, 0, 3);
    cr_assert_eq(expr_finish(&e, &expr), ERR_NONE);
    struct vexpr vexpr;
    cr_assert_eq(vexpr_init(&vexpr, &expr, 0, &world.scope, &world.pool, &world.memory, &arena),
                 ERR_NONE);
    struct vexpr_input input = {.column = vector_column,
                                .context = &world,
                                .count = world.row_count,
                                .memory = &world.memory,
                                .scratch = &arena};
    const struct vector *result;
    cr_assert_eq(vexpr_eval(&vexpr, &input, &result), ERR_NONE);
    cr_assert_eq(result->u, world.columns[3].u);
    vexpr_fini(&vexpr);
    arena_fini(&expr_arena);
    query_arena_fini(&world.memory, &arena);
    world_fini(&world);
}
