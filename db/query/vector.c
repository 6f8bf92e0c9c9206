/* Vector buffers, element access and the wire form of columns: see vector.h.
 *
 * All buffers have one size, room for QUERY_VECTOR_ROWS of the widest element, so that a pool is a
 * free list and a register of an expression can use any of them. */
#include "db/query/vector.h"

#include <stdlib.h>

#include "base/check.h"

enum {
    ELEMENT_SIZE_MAX = 16,
    BUFFER_ALIGN = 64,
    BUFFER_DATA_SIZE = QUERY_VECTOR_ROWS * ELEMENT_SIZE_MAX,
    BUFFER_SIZE = BUFFER_DATA_SIZE + QUERY_VECTOR_ROWS + BUFFER_ALIGN,
};
_Static_assert(sizeof(struct vector_str) == ELEMENT_SIZE_MAX, "widest element");

void vector_pool_init(struct vector_pool *pool, struct query_memory *memory)
{
    *pool = (struct vector_pool){.memory = memory};
}

void vector_pool_fini(struct vector_pool *pool)
{
    ASSERT(!pool->used);
    struct vector_buffer **lists[] = {&pool->free, &pool->shared};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        while (*lists[i]) {
            struct vector_buffer *buffer = *lists[i];
            *lists[i] = buffer->next;
            query_free(pool->memory, buffer->block, BUFFER_SIZE);
            query_free(pool->memory, buffer, sizeof(*buffer));
        }
    }
}

enum err vector_acquire(struct vector_pool *pool, struct vector_buffer **ret_buffer)
{
    struct vector_buffer *buffer = pool->free;
    if (buffer) {
        pool->free = buffer->next;
    } else {
        void *at;
        enum err err = query_alloc(pool->memory, sizeof(*buffer), &at);
        if (err) return err;
        buffer = at;
        err = query_alloc(pool->memory, BUFFER_SIZE, &buffer->block);
        if (err) {
            query_free(pool->memory, buffer, sizeof(*buffer));
            return err;
        }
        uintptr_t start =
            ((uintptr_t)buffer->block + BUFFER_ALIGN - 1) & ~(uintptr_t)(BUFFER_ALIGN - 1);
        buffer->data = (uint8_t *)start;
        buffer->nulls = buffer->data + BUFFER_DATA_SIZE;
        memset(buffer->data, 0, BUFFER_DATA_SIZE + QUERY_VECTOR_ROWS);
    }
    buffer->next = NULL;
    pool->used++;
    *ret_buffer = buffer;
    return ERR_NONE;
}

void vector_release(struct vector_pool *pool, struct vector_buffer *buffer)
{
    if (!buffer) return;
    ASSERT(pool->used);
    pool->used--;
    buffer->next = pool->free;
    pool->free = buffer;
}

enum err vector_acquire_shared(struct vector_pool *pool, struct vector_buffer **ret_buffer)
{
    struct vector_buffer *buffer = pool->shared;
    if (!buffer) return vector_acquire(pool, ret_buffer);
    pool->shared = buffer->next;
    buffer->next = NULL;
    pool->used++;
    *ret_buffer = buffer;
    return ERR_NONE;
}

void vector_release_shared(struct vector_pool *pool, struct vector_buffer *buffer)
{
    if (!buffer) return;
    ASSERT(pool->used);
    pool->used--;
    buffer->next = pool->shared;
    pool->shared = buffer;
}

struct vector vector_in(const struct vector_buffer *buffer, uint8_t kind, uint8_t scale)
{
    return (struct vector){.kind = kind,
                           .scale = scale,
                           .u = (uint64_t *)(void *)buffer->data,
                           .nulls = buffer->nulls};
}

void vector_set(struct vector *vector, uint32_t i, struct value value)
{
    if (value_is_null(value)) {
        if (!vector->has_nulls) {
            memset(vector->nulls, 0, QUERY_VECTOR_ROWS);
            vector->has_nulls = true;
        }
        vector->nulls[i] = 1;
        if (vector->kind == KIND_STR)
            vector->str[i] = (struct vector_str){0};
        else
            vector->u[i] = 0;
        return;
    }
    ASSERT(value.kind == vector->kind);
    if (vector->has_nulls) vector->nulls[i] = 0;
    if (vector->kind == KIND_STR)
        vector->str[i] = (struct vector_str){.bytes = value.bytes, .size = value.size};
    else
        vector->u[i] = value.u;
}

void vector_take(struct vector *to, const struct vector *from, const uint16_t *picks,
                 uint32_t count)
{
    ASSERT(count <= QUERY_VECTOR_ROWS);
    to->kind = from->kind;
    to->scale = from->scale;
    to->has_nulls = from->has_nulls;
    to->count = count;
    /* Picks ascend, so that taking in place is allowed. */
    if (from->kind == KIND_STR) {
        for (uint32_t i = 0; i < count; i++)
            to->str[i] = from->str[picks[i]];
    } else if (from->kind != KIND_NULL) {
        for (uint32_t i = 0; i < count; i++)
            to->u[i] = from->u[picks[i]];
    }
    if (from->has_nulls)
        for (uint32_t i = 0; i < count; i++)
            to->nulls[i] = from->nulls[picks[i]];
}

struct vector vector_slice(const struct vector *vector, uint32_t first, uint32_t count)
{
    struct vector slice = *vector;
    slice.count = count;
    if (slice.kind == KIND_STR)
        slice.str += first;
    else if (slice.kind != KIND_NULL)
        slice.u += first;
    if (slice.has_nulls) slice.nulls += first;
    return slice;
}

void vector_fill(struct vector *to, uint32_t count)
{
    ASSERT(count <= QUERY_VECTOR_ROWS);
    to->count = count;
    if (to->kind == KIND_STR) {
        for (uint32_t i = 1; i < count; i++)
            to->str[i] = to->str[0];
    } else if (to->kind != KIND_NULL) {
        for (uint32_t i = 1; i < count; i++)
            to->u[i] = to->u[0];
    }
    if (to->has_nulls) memset(to->nulls, to->nulls[0], count);
}

void vector_encode(const struct vector *vector, struct buf *buf)
{
    uint32_t count = vector->count;
    bool has_nulls = vector->has_nulls && vector->kind != KIND_NULL;
    buf_put_u8(buf, vector->kind);
    buf_put_u8(buf, vector->kind == KIND_DEC ? vector->scale : 0);
    buf_put_u8(buf, has_nulls);
    if (vector->kind == KIND_NULL) return;
    if (has_nulls) {
        uint8_t *nulls = buf_add(buf, count);
        for (uint32_t i = 0; nulls && i < count; i++)
            nulls[i] = vector->nulls[i] != 0;
    }
    if (vector->kind != KIND_STR) {
        uint8_t *at = buf_add(buf, (size_t)count * sizeof(uint64_t));
        for (uint32_t i = 0; at && i < count; i++) {
            uint64_t bits = has_nulls && vector->nulls[i] ? 0 : vector->u[i];
            memcpy(at + (size_t)i * sizeof(bits), &bits, sizeof(bits));
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        buf_put_u32(buf, has_nulls && vector->nulls[i] ? 0 : vector->str[i].size);
    for (uint32_t i = 0; i < count; i++)
        if (!has_nulls || !vector->nulls[i])
            buf_put(buf, vector->str[i].bytes, vector->str[i].size);
}

enum err vector_decode(struct reader *reader, struct query_memory *memory, struct arena *arena,
                       uint8_t kind, uint8_t scale, uint32_t row_count, struct vector *ret_vector)
{
    ASSERT(row_count <= QUERY_VECTOR_ROWS);
    struct vector vector = {.kind = reader_u8(reader)};
    vector.scale = reader_u8(reader);
    uint8_t has_nulls = reader_u8(reader);
    if (reader->failed || vector.kind != kind || has_nulls > 1) return ERR_BAD_SIGNAL;
    if (vector.kind == KIND_DEC && vector.scale != scale) return ERR_BAD_SIGNAL;
    vector.count = row_count;
    vector.has_nulls = has_nulls;
    if (kind != KIND_NULL) {
        /* Null bytes are only read, so they may stay where they are. */
        const uint8_t *nulls = has_nulls ? reader_take(reader, row_count) : NULL;
        bool text = kind == KIND_STR;
        size_t width = text ? sizeof(uint32_t) : sizeof(uint64_t);
        const uint8_t *at = reader_take(reader, row_count * width);
        if (!at || (has_nulls && !nulls)) return ERR_BAD_SIGNAL;
        void *data;
        enum err err = query_arena_alloc(
            memory, arena, row_count * (text ? sizeof(struct vector_str) : sizeof(uint64_t)),
            &data);
        if (err) return err;
        vector.u = data;
        vector.nulls = (uint8_t *)(uintptr_t)nulls;
        if (!text && row_count) memcpy(data, at, row_count * width);
        for (uint32_t i = 0; text && i < row_count; i++) {
            uint32_t size;
            memcpy(&size, at + i * sizeof(size), sizeof(size));
            const uint8_t *bytes = reader_take(reader, size);
            if (!bytes) return ERR_BAD_SIGNAL;
            vector.str[i] = (struct vector_str){.bytes = bytes, .size = size};
        }
    }
    *ret_vector = vector;
    return ERR_NONE;
}

enum err value_keep(struct query_memory *memory, struct arena *arena, struct value value,
                    struct value *ret_value)
{
    if (value.kind == KIND_STR && value.size) {
        void *at;
        enum err err = query_arena_alloc(memory, arena, value.size, &at);
        if (err) return err;
        memcpy(at, value.bytes, value.size);
        value.bytes = at;
    }
    *ret_value = value;
    return ERR_NONE;
}
