/* Buffers for vectors (struct vector of db/ldm/partition.h) and what is done with vectors of any
 * kind. */
#ifndef DB_QUERY_VECTOR_H
#define DB_QUERY_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "db/ldm/partition.h"
#include "db/query/memory.h"
#include "db/wire/query.h"
#include "db/wire/value.h"

/* Room for one vector of any kind. */
struct vector_buffer {
    struct vector_buffer *next; /* the pool's, while free */
    void *block;                /* where malloc put it */
    uint8_t *nulls;             /* QUERY_VECTOR_ROWS bytes */
    uint8_t *data;              /* QUERY_VECTOR_ROWS elements of up to 16 bytes, aligned to 64 */
};

struct vector_pool {
    struct query_memory *memory;
    struct vector_buffer *free;
    struct vector_buffer *shared; /* scratch of all expressions: nobody keeps anything in these */
    uint32_t used;                /* buffers acquired and not released */
};

void vector_pool_init(struct vector_pool *pool, struct query_memory *memory);
/* All buffers must have been released. */
void vector_pool_fini(struct vector_pool *pool);
MUST_USE enum err vector_acquire(struct vector_pool *pool, struct vector_buffer **ret_buffer);
void vector_release(struct vector_pool *pool, struct vector_buffer *buffer); /* NULL is allowed */
/* A buffer for the inside of one evaluation: given back before the evaluation is even prepared to
 * the end, it is handed out to the next expression as scratch, but never by vector_acquire, whose
 * buffers keep their contents. */
MUST_USE enum err vector_acquire_shared(struct vector_pool *pool,
                                        struct vector_buffer **ret_buffer);
void vector_release_shared(struct vector_pool *pool, struct vector_buffer *buffer);
/* An empty vector of this kind in the buffer. */
struct vector vector_in(const struct vector_buffer *buffer, uint8_t kind, uint8_t scale);

static inline bool vector_is_null(const struct vector *vector, uint32_t i)
{
    return vector->kind == KIND_NULL || (vector->has_nulls && vector->nulls[i]);
}

static inline struct value vector_value(const struct vector *vector, uint32_t i)
{
    if (vector_is_null(vector, i)) return value_null();
    if (vector->kind == KIND_STR) return value_str(vector->str[i].bytes, vector->str[i].size);
    return (struct value){.kind = vector->kind,
                          .scale = vector->kind == KIND_DEC ? vector->scale : (uint8_t)0,
                          .u = vector->u[i]};
}

/* Element i becomes the value, which is NULL or of the vector's kind and scale. vector->nulls must
 * be filled up to i when has_nulls is set; it is filled here when the first NULL comes. */
void vector_set(struct vector *vector, uint32_t i, struct value value);
/* to[i] = from[picks[i]]; `to` has a buffer of its own. */
void vector_take(struct vector *to, const struct vector *from, const uint16_t *picks,
                 uint32_t count);
/* `count` elements from `first`, sharing the memory. */
struct vector vector_slice(const struct vector *vector, uint32_t first, uint32_t count);
/* Makes count elements of `to` equal to element 0 of it. */
void vector_fill(struct vector *to, uint32_t count);

/* Blocks of columns on the wire: for each column u8 kind, u8 scale, u8 has nulls, then row_count
 * null bytes if it has, then 8 bytes a row, or for STR a u32 size a row and all the bytes. Elements
 * that are NULL are zeros. */
void vector_encode(const struct vector *vector, struct buf *buf);
/* The vector's memory comes from the arena, strings are borrowed from the reader. ERR_BAD_SIGNAL
 * when malformed or not of this kind and scale. */
MUST_USE enum err vector_decode(struct reader *reader, struct query_memory *memory,
                                struct arena *arena, uint8_t kind, uint8_t scale,
                                uint32_t row_count, struct vector *ret_vector);

/* The value with its bytes copied to the arena. */
MUST_USE enum err value_keep(struct query_memory *memory, struct arena *arena, struct value value,
                             struct value *ret_value);

#endif
