/* Growable byte buffer and bounded reader: the one codec of wire, redo and checkpoint formats.
 * Little-endian. A writer latches failure (`failed`), so a sequence of puts is checked once at its
 * end; a reader latches it too and then returns zeros, so a sequence of gets is checked once. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct buf {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
    bool failed; /* an allocation failed; contents are unusable until buf_clear */
};

void buf_init(struct buf *buf);
void buf_fini(struct buf *buf);
/* Empties and clears `failed`; keeps the memory. */
void buf_clear(struct buf *buf);
/* Makes room for size more bytes. False (and failed is set) when it cannot. */
bool buf_reserve_slow(struct buf *buf, size_t size);

static inline bool buf_reserve(struct buf *buf, size_t size)
{
    if (__builtin_expect(buf->capacity - buf->size >= size && !buf->failed, 1)) return true;
    return buf_reserve_slow(buf, size);
}

/* Appends size bytes and returns where they start, for the caller to fill; NULL on failure (and
 * perhaps when size is 0). */
static inline uint8_t *buf_add(struct buf *buf, size_t size)
{
    if (!buf_reserve(buf, size)) return NULL;
    if (!buf->bytes) return NULL; /* nothing was asked for */
    uint8_t *at = buf->bytes + buf->size;
    buf->size += size;
    return at;
}

static inline void buf_put(struct buf *buf, const void *bytes, size_t size)
{
    uint8_t *at = size ? buf_add(buf, size) : NULL;
    if (at) memcpy(at, bytes, size);
}

static inline void buf_put_u8(struct buf *buf, uint8_t value)
{
    buf_put(buf, &value, 1);
}
static inline void buf_put_u16(struct buf *buf, uint16_t value)
{
    buf_put(buf, &value, 2);
}
static inline void buf_put_u32(struct buf *buf, uint32_t value)
{
    buf_put(buf, &value, 4);
}
static inline void buf_put_u64(struct buf *buf, uint64_t value)
{
    buf_put(buf, &value, 8);
}

/* LEB128, at most 10 bytes. */
void buf_put_varint(struct buf *buf, uint64_t value);
/* varint size, then the bytes. */
void buf_put_bytes(struct buf *buf, const void *bytes, size_t size);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct reader {
    const uint8_t *next;
    const uint8_t *end;
    bool failed; /* a read went past the end */
};

/* bytes may be NULL when size is 0. */
static inline struct reader reader_of(const void *bytes, size_t size)
{
    if (!size) bytes = "";
    return (struct reader){.next = bytes, .end = (const uint8_t *)bytes + size};
}

static inline size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->next);
}

/* The next size bytes, borrowed from the reader's memory; NULL (and failed) when there are fewer.
 */
static inline const uint8_t *reader_take(struct reader *reader, size_t size)
{
    if (__builtin_expect(reader->failed || reader_left(reader) < size, 0)) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *at = reader->next;
    reader->next += size;
    return at;
}

#define READER_GET(name, type)                                                                     \
    static inline type name(struct reader *reader)                                                 \
    {                                                                                              \
        const uint8_t *at = reader_take(reader, sizeof(type));                                     \
        type value = 0;                                                                            \
        if (at) memcpy(&value, at, sizeof(type));                                                  \
        return value;                                                                              \
    }
READER_GET(reader_u8, uint8_t)
READER_GET(reader_u16, uint16_t)
READER_GET(reader_u32, uint32_t)
READER_GET(reader_u64, uint64_t)
#undef READER_GET

uint64_t reader_varint(struct reader *reader);
/* Reads a varint size of at most size_max and borrows the bytes. NULL and failed otherwise. */
const uint8_t *reader_bytes(struct reader *reader, size_t size_max, size_t *ret_size);

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are written in host order");

#endif
