/* Bound expressions to bytecode: a walk in which every node becomes one instruction, once, since
 * nodes are interned. The recursion is bounded by BOUND_DEPTH_MAX. */
#include "sql/plan.h"

#include "base/check.h"

static bool is_comparison(uint8_t op)
{
    return op >= EXPR_EQ && op <= EXPR_EQ_NULLSAFE;
}

static uint16_t emit_const(struct expr_builder *builder, const struct bound *node)
{
    uint32_t number = expr_constant(builder, node->value);
    return expr_add(builder, (struct expr_ins){.op = EXPR_CONST, .kind = node->kind, .x = number});
}

static uint16_t emit_column(struct emitter *emitter, struct expr_builder *builder,
                            const struct bound *node)
{
    uint16_t source = node->tables ? emitter->position[node->source] : node->source;
    return expr_column(builder, (enum value_kind)node->kind, (uint8_t)source, node->column);
}

static uint32_t emit_list(struct expr_builder *builder, const struct bound *node)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < node->list_count; i++) {
        uint32_t number = expr_constant(builder, node->list[i]);
        if (i == 0) first = number;
    }
    return first;
}

static uint16_t emit_node(struct emitter *emitter, struct expr_builder *builder, struct bound *node)
{
    if (node->epoch == emitter->epoch) return node->reg;
    struct expr_ins ins = {.op = node->op, .kind = node->kind};
    uint16_t registers[3] = {0};
    for (uint32_t i = 0; i < node->arg_count; i++)
        registers[i] = emit_node(emitter, builder, node->args[i]);
    ins.a = registers[0];
    ins.b = registers[1];
    ins.c = registers[2];
    uint16_t reg;
    switch ((enum expr_op)node->op) {
    case EXPR_CONST:
        reg = emit_const(builder, node);
        break;
    case EXPR_COLUMN:
        reg = emit_column(emitter, builder, node);
        break;
    case EXPR_CAST:
        ins.c = node->args[0]->kind;
        ins.x = node->x;
        reg = expr_add(builder, ins);
        break;
    case EXPR_LIKE:
        ins.kind = KIND_STR;
        ins.b = node->collation;
        ins.c = (uint16_t)node->x;
        ins.x = expr_constant(builder, node->value);
        reg = expr_add(builder, ins);
        break;
    case EXPR_IN:
        ins.kind = node->args[0]->kind;
        ins.b = node->collation;
        ins.x = emit_list(builder, node);
        ins.y = node->list_count;
        reg = expr_add(builder, ins);
        break;
    case EXPR_IS_NULL:
    case EXPR_IS_NOT_NULL:
        ins.kind = node->args[0]->kind;
        reg = expr_add(builder, ins);
        break;
    default:
        ins.x = node->x;
        if (is_comparison(node->op)) {
            ins.kind = node->args[0]->kind;
            ins.x = ins.kind == KIND_STR ? node->collation : 0;
        }
        reg = expr_add(builder, ins);
        break;
    }
    node->epoch = emitter->epoch;
    node->reg = reg;
    return reg;
}

enum err emit_expr(struct emitter *emitter, struct bound *root, struct expr *ret_expr)
{
    struct expr_builder builder;
    emitter->epoch++;
    expr_begin(&builder, emitter->arena);
    emit_node(emitter, &builder, root);
    return expr_finish(&builder, ret_expr);
}
