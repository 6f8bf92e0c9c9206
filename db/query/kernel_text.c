/* Kernels over text and sets: LIKE with patterns prepared once, IN by a hash set, LENGTH,
 * EXTENSION.
 *
 * LIKE: a pattern without _ is a list of literal pieces between % signs. Matching is by bytes,
 * which finds the same as by code points: a piece of valid UTF-8 cannot match in the middle of a
 * code point. The first piece is anchored at the start, the last one at the end, those between are
 * found leftmost, which is never worse than further right. Patterns with _ go value by value.
 *
 * IN: numbers are keyed by their 64 bits (a DEC brought to the operand's scale first; one that
 * cannot be cannot match), text by its bytes, folded when the collation ignores case. */
#include "db/query/vexpr.h"

#include "base/check.h"
#include "base/hash.h"

/* ---- LIKE ---- */

struct like_piece {
    const uint8_t *bytes;
    uint32_t size;
};

struct like {
    bool fold;
    uint32_t piece_count; /* at least 1; with one the pattern has no % */
    uint32_t size_min;    /* of all pieces together */
    struct like_piece *pieces;
};

static inline uint8_t fold_byte(uint8_t byte)
{
    return (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

static enum err prepare_like(const struct expr *expr, const struct expr_ins *ins,
                             struct query_memory *memory, struct arena *arena, void **ret_aid)
{
    struct value pattern = expr->consts[ins->x];
    if (pattern.kind != KIND_STR) return ERR_NONE;
    uint32_t percent = 0;
    for (uint32_t i = 0; i < pattern.size; i++)
        percent += pattern.bytes[i] == '%';
    void *at;
    enum err err = query_arena_alloc(
        memory, arena,
        sizeof(struct like) + (percent + 1) * sizeof(struct like_piece) + pattern.size, &at);
    if (err) return err;
    struct like *like = at;
    *like = (struct like){.fold = ins->b == COLLATION_CASE_INSENSITIVE, .piece_count = 1};
    like->pieces = (struct like_piece *)(like + 1);
    uint8_t *out = (uint8_t *)(like->pieces + percent + 1);
    struct like_piece *piece = like->pieces;
    *piece = (struct like_piece){.bytes = out};
    for (uint32_t i = 0; i < pattern.size; i++) {
        uint8_t byte = pattern.bytes[i];
        if (ins->c && byte == ins->c) {
            if (i + 1 == pattern.size) return ERR_NONE; /* its meaning is expr_apply's to say */
            byte = pattern.bytes[++i];
        } else if (byte == '_') {
            return ERR_NONE;
        } else if (byte == '%') {
            *++piece = (struct like_piece){.bytes = out};
            like->piece_count++;
            continue;
        }
        *out++ = like->fold ? fold_byte(byte) : byte;
        piece->size++;
        like->size_min++;
    }
    *ret_aid = like;
    return ERR_NONE;
}

static bool piece_is_at(const struct like *like, const struct like_piece *piece,
                        const uint8_t *bytes)
{
    if (!like->fold) return !piece->size || !memcmp(bytes, piece->bytes, piece->size);
    for (uint32_t i = 0; i < piece->size; i++)
        if (fold_byte(bytes[i]) != piece->bytes[i]) return false;
    return true;
}

/* Where the piece lies first in the text, or NULL. */
static const uint8_t *piece_find(const struct like *like, const struct like_piece *piece,
                                 const uint8_t *bytes, const uint8_t *end)
{
    size_t size = (size_t)(end - bytes);
    if (!piece->size) return bytes;
    if (!like->fold) return memmem(bytes, size, piece->bytes, piece->size);
    for (; size >= piece->size; bytes++, size--)
        if (piece_is_at(like, piece, bytes)) return bytes;
    return NULL;
}

static bool like_matches(const struct like *like, struct vector_str text)
{
    const struct like_piece *first = &like->pieces[0];
    const struct like_piece *last = &like->pieces[like->piece_count - 1];
    if (text.size < like->size_min) return false;
    if (like->piece_count == 1)
        return text.size == first->size && piece_is_at(like, first, text.bytes);
    if (!text.size) return true; /* nothing but % */
    const uint8_t *at = text.bytes;
    const uint8_t *end = text.bytes + text.size;
    if (!piece_is_at(like, first, at) || !piece_is_at(like, last, end - last->size)) return false;
    at += first->size;
    end -= last->size;
    for (const struct like_piece *piece = first + 1; piece < last; piece++) {
        at = piece_find(like, piece, at, end);
        if (!at) return false;
        at += piece->size;
    }
    return true;
}

static void like_loop(const struct kernel_call *call, struct vector *out)
{
    const struct like *like = call->aid;
    for (uint32_t i = 0; i < call->count; i++)
        out->i[i] = !(out->has_nulls && out->nulls[i]) && like_matches(like, call->a->str[i]);
}

/* ---- IN ---- */

struct in_set {
    uint8_t kind;
    bool fold;
    uint32_t mask;       /* slots - 1 */
    uint32_t *slots;     /* number of a constant + 1, or 0 */
    uint64_t *numbers;   /* of constants, for kinds that are numbers */
    struct value *texts; /* for STR, folded */
};

static uint64_t text_hash(const uint8_t *bytes, uint32_t size, bool fold)
{
    if (!fold) return hash_bytes(bytes, size);
    uint64_t hash = size;
    for (uint32_t i = 0; i < size; i++)
        hash = (hash ^ fold_byte(bytes[i])) * UINT64_C(0x9e3779b97f4a7c15);
    return hash_u64(hash);
}

static bool text_equal(const uint8_t *a, struct value folded, uint32_t size, bool fold)
{
    if (size != folded.size) return false;
    if (!fold) return !size || !memcmp(a, folded.bytes, size);
    for (uint32_t i = 0; i < size; i++)
        if (fold_byte(a[i]) != folded.bytes[i]) return false;
    return true;
}

static bool in_set_has_number(const struct in_set *set, uint64_t bits)
{
    for (uint64_t slot = hash_u64(bits);; slot++) {
        uint32_t entry = set->slots[slot & set->mask];
        if (!entry) return false;
        if (set->numbers[entry - 1] == bits) return true;
    }
}

static bool in_set_has_text(const struct in_set *set, const uint8_t *bytes, uint32_t size)
{
    for (uint64_t slot = text_hash(bytes, size, set->fold);; slot++) {
        uint32_t entry = set->slots[slot & set->mask];
        if (!entry) return false;
        if (text_equal(bytes, set->texts[entry - 1], size, set->fold)) return true;
    }
}

/* Brings a DEC constant to the operand's scale; false when no value of that scale equals it. */
static bool dec_to_scale(struct value *value, uint8_t scale)
{
    for (; value->scale < scale; value->scale++)
        if (__builtin_mul_overflow(value->i, 10, &value->i)) return false;
    for (; value->scale > scale; value->scale--) {
        if (value->i % 10) return false;
        value->i /= 10;
    }
    return true;
}

static void in_set_add(struct in_set *set, uint32_t number, uint64_t hash)
{
    uint64_t slot = hash;
    while (set->slots[slot & set->mask])
        slot++;
    set->slots[slot & set->mask] = number + 1;
}

static enum err prepare_in(const struct expr *expr, const struct expr_ins *ins,
                           struct query_type operand, struct query_memory *memory,
                           struct arena *arena, void **ret_aid)
{
    bool text = operand.kind == KIND_STR;
    /* Zeros of two signs and NaN make bits a bad key for F64. */
    if (!text && operand.kind != KIND_I64 && operand.kind != KIND_U64 && operand.kind != KIND_DEC)
        return ERR_NONE;
    uint32_t slot_count = 8;
    while (slot_count < 2 * ins->y)
        slot_count *= 2;
    size_t sizes[] = {sizeof(struct in_set), slot_count * sizeof(uint32_t),
                      ins->y * (text ? sizeof(struct value) : sizeof(uint64_t))};
    void *at[3];
    for (unsigned i = 0; i < 3; i++) {
        enum err err = query_arena_alloc(memory, arena, sizes[i], &at[i]);
        if (err) return err;
        memset(at[i], 0, sizes[i]);
    }
    struct in_set *set = at[0];
    *set = (struct in_set){.kind = operand.kind,
                           .fold = text && ins->b == COLLATION_CASE_INSENSITIVE,
                           .mask = slot_count - 1,
                           .slots = at[1],
                           .numbers = text ? NULL : at[2],
                           .texts = text ? at[2] : NULL};
    for (uint32_t i = 0; i < ins->y; i++) {
        struct value value = expr->consts[ins->x + i];
        if (value.kind != operand.kind) continue; /* NULL equals nothing */
        if (!text) {
            if (value.kind == KIND_DEC && !dec_to_scale(&value, operand.scale)) continue;
            if (in_set_has_number(set, value.u)) continue;
            set->numbers[i] = value.u;
            in_set_add(set, i, hash_u64(value.u));
            continue;
        }
        if (in_set_has_text(set, value.bytes, value.size)) continue;
        enum err err = value_keep(memory, arena, value, &set->texts[i]);
        if (err) return err;
        uint8_t *bytes = (uint8_t *)(uintptr_t)set->texts[i].bytes;
        for (uint32_t k = 0; set->fold && k < value.size; k++)
            bytes[k] = fold_byte(bytes[k]);
        in_set_add(set, i, text_hash(value.bytes, value.size, set->fold));
    }
    *ret_aid = set;
    return ERR_NONE;
}

static void in_loop(const struct kernel_call *call, struct vector *out)
{
    const struct in_set *set = call->aid;
    const struct vector *a = call->a;
    if (set->kind != KIND_STR) {
        for (uint32_t i = 0; i < call->count; i++)
            out->i[i] = in_set_has_number(set, a->u[i]);
        return;
    }
    for (uint32_t i = 0; i < call->count; i++)
        out->i[i] = !(out->has_nulls && out->nulls[i]) &&
                    in_set_has_text(set, a->str[i].bytes, a->str[i].size);
}

/* ---- EXTENSION ---- */

/* False when the result has capitals, so that a copy is needed. */
static bool extension_of(struct vector_str name, struct vector_str *ret_extension)
{
    const uint8_t *dot = name.size ? memrchr(name.bytes, '.', name.size) : NULL;
    *ret_extension = (struct vector_str){0};
    if (!dot || dot == name.bytes) return true;
    ret_extension->bytes = dot + 1;
    ret_extension->size = name.size - (uint32_t)(dot + 1 - name.bytes);
    for (uint32_t i = 0; i < ret_extension->size; i++)
        if ((uint8_t)(dot[1 + i] - 'A') < 26) return false;
    return true;
}

static bool extension_loop(const struct kernel_call *call, struct vector *out)
{
    for (uint32_t i = 0; i < call->count; i++) {
        struct vector_str *extension = &out->str[i];
        if (out->has_nulls && out->nulls[i]) {
            *extension = (struct vector_str){0};
            continue;
        }
        if (extension_of(call->a->str[i], extension)) continue;
        void *at;
        if (query_arena_alloc(call->memory, call->scratch, extension->size, &at)) return false;
        uint8_t *bytes = at;
        for (uint32_t k = 0; k < extension->size; k++)
            bytes[k] = fold_byte(extension->bytes[k]);
        extension->bytes = bytes;
    }
    return true;
}

/* ---- what vexpr.c and kernel.c call ---- */

enum err kernel_prepare(const struct expr *expr, const struct expr_ins *ins,
                        struct query_type operand, struct query_memory *memory, struct arena *arena,
                        void **ret_aid)
{
    *ret_aid = NULL;
    if (ins->op == EXPR_LIKE) return prepare_like(expr, ins, memory, arena, ret_aid);
    if (ins->op == EXPR_IN) return prepare_in(expr, ins, operand, memory, arena, ret_aid);
    return ERR_NONE;
}

bool kernel_text(const struct kernel_call *call, struct vector *out)
{
    switch ((enum expr_op)call->ins->op) {
    case EXPR_LIKE:
        if (!call->aid || call->a->kind != KIND_STR) return false;
        like_loop(call, out);
        return true;
    case EXPR_IN:
        if (!call->aid || call->a->kind != ((struct in_set *)call->aid)->kind) return false;
        in_loop(call, out);
        return true;
    case EXPR_LENGTH:
        if (call->a->kind != KIND_STR) return false;
        for (uint32_t i = 0; i < call->count; i++)
            out->i[i] = out->has_nulls && out->nulls[i] ? 0 : call->a->str[i].size;
        return true;
    case EXPR_EXTENSION:
        return call->a->kind == KIND_STR && extension_loop(call, out);
    default:
        return false;
    }
}
