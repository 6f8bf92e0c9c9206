/* Collecting rows for messages: see collector.h. A collector is full at QUERY_VECTOR_ROWS rows, or
 * when its text reaches the size that messages aim at; one more row always fits an empty one. */
#include "db/query/collector.h"

#include "base/check.h"
#include "db/query/message.h"

enum err collector_init(struct collector *collector, struct query_memory *memory,
                        struct vector_pool *pool, struct arena *arena, uint16_t column_count)
{
    *collector = (struct collector){.memory = memory, .pool = pool, .column_count = column_count};
    arena_init(&collector->text, 0);
    void *at;
    enum err err = query_arena_alloc(memory, arena, column_count * sizeof(struct vector), &at);
    if (err) return err;
    collector->vectors = at;
    err = query_arena_alloc(memory, arena, column_count * sizeof(struct vector_buffer *), &at);
    if (err) return err;
    collector->buffers = at;
    memset(at, 0, column_count * sizeof(struct vector_buffer *));
    return ERR_NONE;
}

void collector_clear(struct collector *collector)
{
    for (uint16_t c = 0; collector->buffers && c < collector->column_count; c++) {
        vector_release(collector->pool, collector->buffers[c]);
        collector->buffers[c] = NULL;
    }
    collector->row_count = 0;
    collector->text_size = 0;
    query_arena_reset(collector->memory, &collector->text);
}

void collector_fini(struct collector *collector)
{
    if (!collector->memory) return;
    collector_clear(collector);
    query_arena_fini(collector->memory, &collector->text);
    *collector = (struct collector){0};
}

bool collector_is_full(const struct collector *collector)
{
    return collector->row_count == QUERY_VECTOR_ROWS || collector->text_size >= QUERY_MESSAGE_SIZE;
}

static inline uint32_t pick(const uint16_t *picks, uint32_t first, uint32_t i)
{
    return picks ? picks[i] : first + i;
}

/* How many of the rows fit, and the bytes of their text. */
static uint32_t room(const struct collector *collector, const struct vector *const *columns,
                     const uint16_t *picks, uint32_t first, uint32_t count, uint64_t *ret_text_size)
{
    uint32_t rows = QUERY_VECTOR_ROWS - collector->row_count;
    if (rows > count) rows = count;
    uint64_t text_size = 0;
    bool has_text = false;
    for (uint16_t c = 0; c < collector->column_count; c++)
        has_text |= columns[c]->kind == KIND_STR;
    for (uint32_t i = 0; has_text && i < rows; i++) {
        if (collector->text_size + text_size >= QUERY_MESSAGE_SIZE) {
            rows = i;
            break;
        }
        uint32_t row = pick(picks, first, i);
        for (uint16_t c = 0; c < collector->column_count; c++)
            if (columns[c]->kind == KIND_STR && !vector_is_null(columns[c], row))
                text_size += columns[c]->str[row].size;
    }
    *ret_text_size = text_size;
    return rows;
}

static void add_column(struct vector *to, uint32_t at, const struct vector *from,
                       const uint16_t *picks, uint32_t first, uint32_t count, uint8_t **text)
{
    if (from->kind == KIND_STR) {
        for (uint32_t i = 0; i < count; i++) {
            struct value value = vector_value(from, pick(picks, first, i));
            if (value.kind == KIND_STR) {
                if (value.size) memcpy(*text, value.bytes, value.size);
                value.bytes = *text;
                if (value.size) *text += value.size; /* there may be no text at all */
            }
            vector_set(to, at + i, value);
        }
    } else if (from->kind == KIND_NULL || from->has_nulls || to->has_nulls) {
        for (uint32_t i = 0; i < count; i++)
            vector_set(to, at + i, vector_value(from, pick(picks, first, i)));
    } else {
        for (uint32_t i = 0; i < count; i++)
            to->u[at + i] = from->u[pick(picks, first, i)];
    }
    to->count = at + count;
}

enum err collector_add(struct collector *collector, const struct vector *const *columns,
                       const uint16_t *picks, uint32_t first, uint32_t count, uint32_t *ret_taken)
{
    if (!collector->row_count) {
        for (uint16_t c = 0; c < collector->column_count; c++) {
            if (!collector->buffers[c]) {
                enum err err = vector_acquire(collector->pool, &collector->buffers[c]);
                if (err) return err;
            }
            collector->vectors[c] =
                vector_in(collector->buffers[c], columns[c]->kind, columns[c]->scale);
        }
    }
    uint64_t text_size;
    uint32_t taken = room(collector, columns, picks, first, count, &text_size);
    void *text = NULL;
    if (text_size) {
        enum err err = query_arena_alloc(collector->memory, &collector->text, text_size, &text);
        if (err) return err;
    }
    uint8_t *next = text;
    for (uint16_t c = 0; c < collector->column_count; c++)
        add_column(&collector->vectors[c], collector->row_count, columns[c], picks, first, taken,
                   &next);
    collector->row_count += taken;
    collector->text_size += text_size;
    *ret_taken = taken;
    return ERR_NONE;
}

void collector_encode(const struct collector *collector, struct buf *buf)
{
    for (uint16_t c = 0; c < collector->column_count; c++)
        vector_encode(&collector->vectors[c], buf);
}
