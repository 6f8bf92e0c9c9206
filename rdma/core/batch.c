/* Batches: byte strings that a back end moves whole, once and in order.
 *
 *     header   0 u32 size       of all, a multiple of 8
 *              4 u32 check      low half of XXH3 over bytes 8..size, seeded with size; or 0
 *              8 u64 sequence   0, 1, 2 …: a gap means a broken peer or carrier
 *             16 u16 kind
 *             18 u16 credits    given back to whom this is sent
 *             20 u32 count      fragments
 *             24 u64 taken      GOODBYE: messages of its receiver that were handed out; else 0
 *     body     HELLO … REFUSE:  one frame of core/handshake.h
 *              DATA:            fragments, each
 *                                   u32 size, u32 total, the bytes, zeros up to a multiple of 8
 *                               total is the message's size in its first fragment and 0 in the
 *                               others; messages follow each other whole, so at most one of a link
 *                               is incomplete
 *              the others:      nothing
 *
 * The functions that read are pure: bytes in, a struct or ERR_BAD_FRAME out. The bytes may lie in
 * memory that a peer can still change (shared memory), so every field is loaded once, into a local
 * copy that the compiler must not load again, and only the copy is judged and used. */
#include "rdma/core/batch.h"

#include <string.h>

#include "base/hash.h"
#include "rdma/port.h"

/* From here on the compiler knows nothing about where the value came from. */
#define LOADED(value) __asm__("" : "+r"(value))

uint32_t batch_checksum(const uint8_t *bytes, uint32_t size)
{
    return (uint32_t)hash_checksum(bytes + 8, size - 8, size);
}

void batch_seal(uint8_t *bytes, const struct batch_header *header, bool with_check)
{
    struct batch_header sealed = *header;
    sealed.check = 0;
    memcpy(bytes, &sealed, sizeof(sealed));
    if (!with_check) return;
    sealed.check = batch_checksum(bytes, sealed.size);
    memcpy(bytes + 4, &sealed.check, sizeof(sealed.check));
}

uint32_t batch_size_peek(const uint8_t *bytes)
{
    uint32_t size;
    memcpy(&size, bytes, sizeof(size));
    LOADED(size);
    return size;
}

enum err batch_check(const uint8_t *bytes, uint32_t size, bool with_check,
                     struct batch_header *ret_header)
{
    if (size < BATCH_HEADER_SIZE || size % 8) return ERR_BAD_FRAME;
    uint64_t words[4];
    memcpy(words, bytes, sizeof(words));
    for (unsigned i = 0; i < 4; i++)
        LOADED(words[i]);
    struct batch_header header;
    memcpy(&header, words, sizeof(header));
    if (header.size != size) return ERR_BAD_FRAME;
    if (header.kind < BATCH_HELLO || header.kind > BATCH_KIND_LAST) return ERR_BAD_FRAME;
    if (header.taken && header.kind != BATCH_GOODBYE) return ERR_BAD_FRAME;
    uint32_t body = size - BATCH_HEADER_SIZE;
    if (header.kind == BATCH_DATA) {
        if (!header.count || header.count > body / (FRAGMENT_HEADER_SIZE + 8)) return ERR_BAD_FRAME;
    } else if (header.count || (header.kind > BATCH_DATA && body)) {
        return ERR_BAD_FRAME;
    }
    if (header.check != (with_check ? batch_checksum(bytes, size) : 0)) return ERR_BAD_FRAME;
    *ret_header = header;
    return ERR_NONE;
}

enum err fragments_next(struct fragments *fragments, struct fragment *ret_fragment)
{
    uint64_t room = (uint64_t)(fragments->end - fragments->next);
    if (!fragments->left) return room ? ERR_BAD_FRAME : ERR_END;
    if (room < FRAGMENT_HEADER_SIZE) return ERR_BAD_FRAME;
    uint64_t word;
    memcpy(&word, fragments->next, sizeof(word));
    LOADED(word);
    uint32_t size = (uint32_t)word;
    uint32_t total = (uint32_t)(word >> 32);
    if (!size || size > PORT_MESSAGE_SIZE_MAX || total > PORT_MESSAGE_SIZE_MAX)
        return ERR_BAD_FRAME;
    if (total && size > total) return ERR_BAD_FRAME;
    uint32_t space = fragment_space(size);
    if (space > room) return ERR_BAD_FRAME;
    *ret_fragment = (struct fragment){fragments->next + FRAGMENT_HEADER_SIZE, size, total};
    fragments->next += space;
    fragments->left--;
    return ERR_NONE;
}
