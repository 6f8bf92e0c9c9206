/* Page-wise reading, for vector execution and checkpoints.
 *
 * A page without undo records is read without a look at versions: the live bits are the selection,
 * and a column is gathered by one loop for its width (over consecutive slots, one that the compiler
 * turns into vector instructions). A page with undo is gathered the same way first; then the few
 * rows that have older versions are read again one by one. */
#include "db/ldm/ldm.h"

static uint32_t live_slots(const struct page *page, uint16_t slots[FRAGMENT_PAGE_ROWS])
{
    uint32_t count = 0;
    for (uint32_t word = 0; word < PAGE_WORDS; word++) {
        uint64_t bits = page_live(page)[word];
        if (bits == UINT64_MAX) {
            for (uint32_t i = 0; i < 64; i++)
                slots[count + i] = (uint16_t)(word * 64 + i);
            count += 64;
            continue;
        }
        for (; bits; bits &= bits - 1)
            slots[count++] = (uint16_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
    }
    return count;
}

uint32_t fragment_page_select(const struct fragment *fragment, uint32_t number, uint64_t ts,
                              uint16_t slots[FRAGMENT_PAGE_ROWS])
{
    const struct page *page = &fragment->pages[number];
    if (!page->used_count) return 0;
    uint32_t count = 0;
    if (!page->undo_count) {
        count = live_slots(page, slots);
    } else {
        for (uint32_t slot = 0; slot < FRAGMENT_PAGE_ROWS; slot++) {
            bool visible = page_undo(page)[slot]
                               ? fragment_visible_at(fragment, number << PAGE_SHIFT | slot, ts)
                               : page_is_live(page, slot);
            if (visible) slots[count++] = (uint16_t)slot;
        }
    }
    if (!fragment->table->ttl_seconds) return count;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct value value = fragment_value_at(fragment, number << PAGE_SHIFT | slots[i],
                                               fragment->table->ttl_column, ts);
        if (!fragment_value_expired(fragment, value)) slots[kept++] = slots[i];
    }
    return kept;
}

/* One loop for each width: consecutive slots of a column that lies alone, or through the selection.
 */
#define GATHER(name, from_type, to_type)                                                           \
    static void name(const uint8_t *column, uint32_t stride, const uint16_t *slots,                \
                     uint32_t count, to_type *out)                                                 \
    {                                                                                              \
        const from_type *from = (const from_type *)(const void *)column;                           \
        if (stride != sizeof(from_type)) {                                                         \
            for (uint32_t i = 0; i < count; i++) {                                                 \
                from_type value;                                                                   \
                memcpy(&value, column + (size_t)slots[i] * stride, sizeof(value));                 \
                out[i] = (to_type)value;                                                           \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        if (count && (uint32_t)(slots[count - 1] - slots[0]) == count - 1) {                       \
            from += slots[0];                                                                      \
            for (uint32_t i = 0; i < count; i++)                                                   \
                out[i] = (to_type)from[i];                                                         \
            return;                                                                                \
        }                                                                                          \
        for (uint32_t i = 0; i < count; i++)                                                       \
            out[i] = (to_type)from[slots[i]];                                                      \
    }
GATHER(gather_i8, int8_t, int64_t)
GATHER(gather_i16, int16_t, int64_t)
GATHER(gather_i32, int32_t, int64_t)
GATHER(gather_i64, int64_t, int64_t)
GATHER(gather_u8, uint8_t, uint64_t)
GATHER(gather_u16, uint16_t, uint64_t)
GATHER(gather_u32, uint32_t, uint64_t)
GATHER(gather_u64, uint64_t, uint64_t)
GATHER(gather_f32, float, double)
GATHER(gather_f64, double, double)

static void gather_binary(const uint8_t *column, uint32_t width, const uint16_t *slots,
                          uint32_t count, struct vector_str *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = (struct vector_str){.bytes = column + (size_t)slots[i] * width, .size = width};
}

static void gather_var(const struct page *page, const uint8_t *column, uint32_t stride,
                       const uint16_t *slots, uint32_t count, struct vector_str *out)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t ref, size;
        memcpy(&ref, column + (size_t)slots[i] * stride, sizeof(ref));
        const uint8_t *bytes = page_var(page, ref, &size);
        out[i] = (struct vector_str){.bytes = bytes, .size = size};
    }
}

static void gather_in_place(const struct page *page, const struct column_layout *layout,
                            const uint16_t *slots, uint32_t count, struct vector *vector)
{
    const uint8_t *column = page->bytes + layout->offset;
    uint32_t stride = layout->stride;
    switch ((enum column_form)layout->form) {
    case FORM_I8:
        gather_i8(column, stride, slots, count, vector->i);
        break;
    case FORM_I16:
        gather_i16(column, stride, slots, count, vector->i);
        break;
    case FORM_I32:
        gather_i32(column, stride, slots, count, vector->i);
        break;
    case FORM_I64:
        gather_i64(column, stride, slots, count, vector->i);
        break;
    case FORM_U8:
        gather_u8(column, stride, slots, count, vector->u);
        break;
    case FORM_U16:
        gather_u16(column, stride, slots, count, vector->u);
        break;
    case FORM_U32:
        gather_u32(column, stride, slots, count, vector->u);
        break;
    case FORM_U64:
        gather_u64(column, stride, slots, count, vector->u);
        break;
    case FORM_F32:
        gather_f32(column, stride, slots, count, vector->f);
        break;
    case FORM_F64:
        gather_f64(column, stride, slots, count, vector->f);
        break;
    case FORM_BINARY:
        gather_binary(column, layout->width, slots, count, vector->str);
        break;
    case FORM_VAR:
        gather_var(page, column, stride, slots, count, vector->str);
        break;
    }
    if (!vector->has_nulls) return;
    const uint64_t *nulls = page_nulls(page, layout);
    for (uint32_t i = 0; i < count; i++)
        vector->nulls[i] = nulls[slots[i] / 64] >> (slots[i] % 64) & 1;
}

static void vector_set(struct vector *vector, uint32_t i, struct value value)
{
    bool is_null = value.kind == KIND_NULL;
    if (vector->has_nulls) vector->nulls[i] = is_null;
    if (vector->kind == KIND_STR)
        vector->str[i] = is_null ? (struct vector_str){0}
                                 : (struct vector_str){.bytes = value.bytes, .size = value.size};
    else
        vector->u[i] = is_null ? 0 : value.u;
}

void fragment_page_gather(const struct fragment *fragment, uint32_t number, uint64_t ts,
                          uint16_t column, const uint16_t *slots, uint32_t count,
                          struct vector *vector)
{
    const struct page *page = &fragment->pages[number];
    const struct column_layout *layout = &fragment->layouts[column];
    vector->kind = layout->kind;
    vector->scale = layout->scale;
    vector->has_nulls = layout->null_offset != 0;
    vector->count = count;
    if (!count) return;
    gather_in_place(page, layout, slots, count, vector);
    if (!page->undo_count) return;
    for (uint32_t i = 0; i < count; i++) {
        if (!page_undo(page)[slots[i]]) continue;
        uint32_t row = number << PAGE_SHIFT | slots[i];
        vector_set(vector, i, fragment_value_at(fragment, row, column, ts));
    }
}
