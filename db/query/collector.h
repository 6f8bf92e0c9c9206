/* Rows collected from batches until there are enough for a message. Their text is copied, so they
 * outlive what they were taken from. */
#ifndef DB_QUERY_COLLECTOR_H
#define DB_QUERY_COLLECTOR_H

#include "db/query/vector.h"

struct collector {
    struct query_memory *memory;
    struct vector_pool *pool;
    uint16_t column_count;
    uint32_t row_count;
    struct vector *vectors;
    struct vector_buffer **buffers; /* acquired with the first row, released with the last */
    struct arena text;
    uint64_t text_size;
};

MUST_USE enum err collector_init(struct collector *collector, struct query_memory *memory,
                                 struct vector_pool *pool, struct arena *arena,
                                 uint16_t column_count);
void collector_fini(struct collector *collector); /* a zeroed one is allowed */
/* Takes rows picks[0..count) (NULL: first, first + 1, …) of the columns, as many as it has room
 * for. ERR_QUERY_MEMORY, ERR_NO_MEMORY: none was taken. */
MUST_USE enum err collector_add(struct collector *collector, const struct vector *const *columns,
                                const uint16_t *picks, uint32_t first, uint32_t count,
                                uint32_t *ret_taken);
bool collector_is_full(const struct collector *collector);
/* All columns, in the form of vector_encode. */
void collector_encode(const struct collector *collector, struct buf *buf);
void collector_clear(struct collector *collector);

#endif
