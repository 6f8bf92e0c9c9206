/* Nodes of bound expressions: making, interning, and what is derived from operands. */
#include "sql/bound.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/hash.h"

void *bind_fail(struct binder *binder, enum err err, uint32_t position, const char *format, ...)
{
    char text[DIAG_TEXT_SIZE_MAX];
    if (binder->err) return NULL;
    binder->err = err;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)diag_set_at(binder->diag, err, position, "%s", text);
    return NULL;
}

/* ---- interning ---- */

static bool value_same(struct value a, struct value b)
{
    if (a.kind != b.kind || a.scale != b.scale) return false;
    if (a.kind == KIND_NULL) return true;
    if (a.kind != KIND_STR) return a.u == b.u; /* bits: -0.0 is not 0.0 here */
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

static uint64_t value_hash(struct value value)
{
    uint64_t hash = hash_u64((uint64_t)value.kind << 8 | value.scale);
    if (value.kind == KIND_STR)
        return hash ^ hash_bytes(value.bytes ? value.bytes : (const uint8_t *)"", value.size);
    return value.kind == KIND_NULL ? hash : hash ^ hash_u64(value.u);
}

static uint64_t node_hash(const struct bound *node)
{
    uint64_t hash =
        hash_u64((uint64_t)node->op << 56 | (uint64_t)node->kind << 48 |
                 (uint64_t)node->scale << 40 | (uint64_t)node->source << 16 | node->column);
    hash = hash_u64(hash ^ ((uint64_t)node->x << 8 | node->collation));
    hash = hash_u64(hash ^ value_hash(node->value));
    for (uint32_t i = 0; i < node->arg_count; i++)
        hash = hash_u64(hash ^ node->args[i]->hash) + i;
    for (uint32_t i = 0; i < node->list_count; i++)
        hash = hash_u64(hash ^ value_hash(node->list[i]));
    return hash;
}

static bool node_same(const struct bound *a, const struct bound *b)
{
    if (a->hash != b->hash || a->op != b->op || a->kind != b->kind || a->scale != b->scale ||
        a->collation != b->collation || a->strength != b->strength || a->display != b->display ||
        a->truth != b->truth || a->hex != b->hex || a->binary != b->binary ||
        a->arg_count != b->arg_count || a->source != b->source || a->column != b->column ||
        a->x != b->x || a->list_count != b->list_count || !value_same(a->value, b->value))
        return false;
    for (uint32_t i = 0; i < a->arg_count; i++)
        if (a->args[i] != b->args[i]) return false;
    for (uint32_t i = 0; i < a->list_count; i++)
        if (!value_same(a->list[i], b->list[i])) return false;
    return true;
}

static bool interned_grow(struct binder *binder)
{
    uint32_t capacity = binder->interned_capacity ? binder->interned_capacity * 2 : 256;
    struct bound **slots = arena_new(binder->arena, struct bound *, capacity);
    if (!slots) return false;
    for (uint32_t i = 0; i < binder->interned_capacity; i++) {
        struct bound *node = binder->interned[i];
        if (!node) continue;
        uint32_t at = (uint32_t)node->hash & (capacity - 1);
        while (slots[at])
            at = (at + 1) & (capacity - 1);
        slots[at] = node;
    }
    binder->interned = slots;
    binder->interned_capacity = capacity;
    return true;
}

static void derive(struct bound *node)
{
    node->depth = 1;
    for (uint32_t i = 0; i < node->arg_count; i++) {
        const struct bound *arg = node->args[i];
        node->tables |= arg->tables;
        node->group_refs |= arg->group_refs;
        if (arg->depth >= node->depth) node->depth = (uint16_t)(arg->depth + 1);
    }
    node->hash = node_hash(node);
}

struct bound *bound_make(struct binder *binder, struct bound node)
{
    if (binder->err) return NULL;
    derive(&node);
    if (node.depth > BOUND_DEPTH_MAX)
        return bind_fail(binder, ERR_TOO_BIG, UINT32_MAX, "the expression is nested too deeply");
    if (binder->interned_count * 2 >= binder->interned_capacity && !interned_grow(binder))
        return bind_fail(binder, ERR_NO_MEMORY, UINT32_MAX, "out of memory");
    uint32_t mask = binder->interned_capacity - 1;
    uint32_t at = (uint32_t)node.hash & mask;
    for (; binder->interned[at]; at = (at + 1) & mask)
        if (node_same(binder->interned[at], &node)) return binder->interned[at];
    struct bound *made = arena_alloc(binder->arena, sizeof(*made));
    if (!made) return bind_fail(binder, ERR_NO_MEMORY, UINT32_MAX, "out of memory");
    *made = node;
    binder->interned[at] = made;
    binder->interned_count++;
    return made;
}

/* ---- leaves ---- */

struct bound *bound_const(struct binder *binder, struct value value)
{
    struct bound node = {.op = EXPR_CONST, .kind = value.kind, .value = value};
    node.strength = STRENGTH_NONE;
    if (value.kind == KIND_DEC) node.scale = value.scale;
    if (value.kind == KIND_I64) {
        node.truth = value.i == 0 || value.i == 1;
        node.nonnegative = value.i >= 0;
    }
    if (value.kind == KIND_U64) node.unsigned_low = value.u <= INT64_MAX;
    return bound_make(binder, node);
}

struct bound *bound_null(struct binder *binder, enum value_kind kind)
{
    struct bound node = {.op = EXPR_CONST, .kind = (uint8_t)kind, .strength = STRENGTH_NONE};
    return bound_make(binder, node);
}

struct bound *bound_column(struct binder *binder, uint16_t table, uint16_t column)
{
    const struct column_def *def = &binder->query->tables[table].def->columns[column];
    struct bound node = {
        .op = EXPR_COLUMN,
        .kind = (uint8_t)column_kind(def),
        .source = table,
        .column = column,
        .tables = UINT32_C(1) << table,
        .strength = STRENGTH_COLUMN,
    };
    switch ((enum column_type)def->type) {
    case TYPE_DECIMAL:
        node.scale = def->scale;
        break;
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        node.scale = def->scale;
        node.display = def->type;
        break;
    case TYPE_DATE:
        node.display = def->type;
        break;
    case TYPE_BINARY:
    case TYPE_BLOB:
        node.binary = true;
        break;
    default:
        if (node.kind == KIND_STR) node.collation = def->collation;
        node.unsigned_low = node.kind == KIND_U64 && def->type != TYPE_BIGINT_UNSIGNED;
        break;
    }
    return bound_make(binder, node);
}

struct bound *bound_reference(struct binder *binder, uint16_t source, uint16_t column,
                              const struct bound *like)
{
    if (!like) return NULL;
    struct bound node = {
        .op = EXPR_COLUMN,
        .kind = like->kind,
        .scale = like->scale,
        .collation = like->collation,
        .strength = like->strength,
        .display = like->display,
        .truth = like->truth,
        .unsigned_low = like->unsigned_low,
        .nonnegative = like->nonnegative,
        .binary = like->binary,
        .source = source,
        .column = column,
        .group_refs = 1,
    };
    return bound_make(binder, node);
}

/* ---- operations ---- */

static bool op_is_truth(enum expr_op op)
{
    switch (op) {
    case EXPR_EQ:
    case EXPR_NE:
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_GT:
    case EXPR_GE:
    case EXPR_EQ_NULLSAFE:
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_NOT:
    case EXPR_XOR:
    case EXPR_IS_NULL:
    case EXPR_IS_NOT_NULL:
    case EXPR_LIKE:
    case EXPR_IN:
        return true;
    default:
        return false;
    }
}

/* What is known of the number beyond its kind. */
static void derive_range(struct bound *node)
{
    const struct bound *a = node->args[0], *b = node->args[1];
    switch ((enum expr_op)node->op) {
    case EXPR_LENGTH:
    case EXPR_CHAR_LENGTH:
    case EXPR_INSTR:
    case EXPR_YEAR:
    case EXPR_MONTH:
    case EXPR_DAY:
        node->nonnegative = true;
        break;
    case EXPR_HOME:
        node->unsigned_low = true;
        break;
    case EXPR_BIT_AND:
        node->unsigned_low = a->unsigned_low || b->unsigned_low;
        break;
    case EXPR_BIT_OR:
    case EXPR_BIT_XOR:
        node->unsigned_low = a->unsigned_low && b->unsigned_low;
        break;
    case EXPR_IDIV:
    case EXPR_MOD:
    case EXPR_SHR:
        node->unsigned_low = node->kind == KIND_U64 && a->unsigned_low;
        break;
    case EXPR_CAST:
        node->nonnegative = node->kind == KIND_I64 && a->kind == KIND_U64;
        node->unsigned_low = node->kind == KIND_U64 && a->kind == KIND_I64;
        break;
    case EXPR_SELECT:
        node->truth = b->truth && node->args[2]->truth;
        node->nonnegative = b->nonnegative && node->args[2]->nonnegative;
        node->unsigned_low = b->unsigned_low && node->args[2]->unsigned_low;
        break;
    case EXPR_COALESCE:
        node->truth = a->truth && b->truth;
        node->nonnegative = a->nonnegative && b->nonnegative;
        node->unsigned_low = a->unsigned_low && b->unsigned_low;
        break;
    default:
        node->truth = op_is_truth((enum expr_op)node->op);
        node->nonnegative = node->truth;
        break;
    }
}

/* The result of an operation that picks one of its operands, or that looks at them alone. */
static struct bound *shortcut(struct binder *binder, const struct bound *node)
{
    struct bound *a = node->args[0], *b = node->args[1], *c = node->args[2];
    if (node->op == EXPR_SELECT && bound_is_const(a))
        return !value_is_null(a->value) && a->value.i != 0 ? b : c;
    if (node->op == EXPR_COALESCE && bound_is_const(a)) return value_is_null(a->value) ? b : a;
    if (node->op == EXPR_NOT && a->op == EXPR_NOT && a->args[0]->truth) return a->args[0];
    struct value value;
    if (!fold_op(binder, node, &value)) return NULL;
    if (value_is_null(value)) return bound_null(binder, (enum value_kind)node->kind);
    return bound_const(binder, value);
}

struct bound *bound_op(struct binder *binder, enum expr_op op, enum value_kind kind,
                       struct bound *a, struct bound *b, struct bound *c)
{
    if (binder->err) return NULL;
    ASSERT(a);
    struct bound node = {.op = (uint8_t)op, .kind = (uint8_t)kind, .args = {a, b, c}};
    node.arg_count = (uint8_t)(1 + (b != NULL) + (c != NULL));
    node.strength = STRENGTH_NONE;
    const struct bound *model = op == EXPR_SELECT ? b : a;
    if (kind == KIND_DEC) node.scale = model->scale;
    if (kind == KIND_STR) {
        node.collation = model->collation;
        node.strength = model->strength;
        node.binary = model->binary;
    }
    if (op == EXPR_SELECT || op == EXPR_COALESCE) {
        node.display = model->display;
        if (model->display) node.scale = model->scale;
    }
    if (op == EXPR_MUL && kind == KIND_DEC) node.scale = (uint8_t)(a->scale + b->scale);
    if (op == EXPR_DIV && kind == KIND_DEC) node.scale = (uint8_t)(a->scale + 4);
    derive_range(&node);
    struct bound *result = shortcut(binder, &node);
    if (binder->err) return NULL;
    return result ? result : bound_make(binder, node);
}

struct bound *bound_balanced(struct binder *binder, enum expr_op op, enum value_kind kind,
                             struct bound **nodes, uint32_t count)
{
    if (binder->err) return NULL;
    ASSERT(count > 0);
    if (count == 1) return nodes[0];
    struct bound *a = bound_balanced(binder, op, kind, nodes, count / 2);
    struct bound *b = bound_balanced(binder, op, kind, nodes + count / 2, count - count / 2);
    if (!a || !b) return NULL;
    return bound_op(binder, op, kind, a, b, NULL);
}
