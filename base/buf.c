/* The parts of the byte codec that are too long to inline: growth, varints, sized byte strings.
 *
 * A varint is LEB128: seven bits a byte, lowest first, the high bit set on all but the last. The
 * reader takes only the shortest form of a value, so that one value has one encoding and a checksum
 * over re-encoded bytes cannot differ. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 64, VARINT_SIZE_MAX = 10 };

void buf_init(struct buf *buf)
{
    *buf = (struct buf){0};
}

void buf_fini(struct buf *buf)
{
    free(buf->bytes);
    buf_init(buf);
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

bool buf_reserve_slow(struct buf *buf, size_t size)
{
    if (buf->failed) return false;
    if (buf->capacity - buf->size >= size) return true;
    size_t need;
    if (__builtin_add_overflow(buf->size, size, &need) || need > SIZE_MAX / 2) goto fail;
    size_t capacity = buf->capacity < CAPACITY_MIN ? CAPACITY_MIN : buf->capacity;
    while (capacity < need)
        capacity *= 2;
    uint8_t *bytes = realloc(buf->bytes, capacity);
    if (!bytes) goto fail;
    buf->bytes = bytes;
    buf->capacity = capacity;
    return true;

fail:
    buf->failed = true;
    return false;
}

void buf_put_varint(struct buf *buf, uint64_t value)
{
    uint8_t bytes[VARINT_SIZE_MAX];
    size_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    buf_put(buf, bytes, size);
}

void buf_put_bytes(struct buf *buf, const void *bytes, size_t size)
{
    buf_put_varint(buf, size);
    buf_put(buf, bytes, size);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    if (buf->failed) return;
    size_t room = buf->capacity - buf->size;
    va_list args;
    va_start(args, format);
    int size = vsnprintf(room ? (char *)buf->bytes + buf->size : NULL, room, format, args);
    va_end(args);
    if (size < 0) {
        buf->failed = true;
        return;
    }
    if ((size_t)size >= room) {
        /* vsnprintf also writes a NUL, which is not part of the contents. */
        if (!buf_reserve(buf, (size_t)size + 1)) return;
        va_start(args, format);
        vsnprintf((char *)buf->bytes + buf->size, (size_t)size + 1, format, args);
        va_end(args);
    }
    buf->size += (size_t)size;
}

uint64_t reader_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_SIZE_MAX; i++) {
        const uint8_t *at = reader_take(reader, 1);
        if (!at) return 0;
        uint8_t byte = *at;
        /* The tenth byte holds the 64th bit alone. */
        if (i == VARINT_SIZE_MAX - 1 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            if (byte == 0 && i > 0) break; /* a longer form than needed */
            return value;
        }
    }
    reader->failed = true;
    return 0;
}

const uint8_t *reader_bytes(struct reader *reader, size_t size_max, size_t *ret_size)
{
    uint64_t size = reader_varint(reader);
    if (reader->failed) return NULL;
    if (size > size_max) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *at = reader_take(reader, (size_t)size);
    if (at) *ret_size = (size_t)size;
    return at;
}
