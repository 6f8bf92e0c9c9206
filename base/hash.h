/* Hashes: xxHash for index lookups and checksums of our own data, SipHash for what an outsider
 * chooses. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A bijective mix of 64 bits (Stafford's variant 13 of the MurmurHash3 finalizer). */
static inline uint64_t hash_u64(uint64_t value)
{
    value ^= value >> 30;
    value *= 0xbf58476d1ce4e5b9u;
    value ^= value >> 27;
    value *= 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* XXH3, 64 bits: not for keys that an attacker chooses. */
uint64_t hash_bytes(const void *bytes, size_t size);
/* XXH3, 64 bits, seeded: the checksum of redo records, checkpoints and frames. */
uint64_t hash_checksum(const void *bytes, size_t size, uint64_t seed);

enum { HASH_KEY_SIZE = 16 };
/* SipHash-2-4 (Aumasson and Bernstein, 2012) by libsodium: collisions cannot be aimed without the
 * key. */
uint64_t hash_keyed(const void *bytes, size_t size, const uint8_t key[HASH_KEY_SIZE]);

#endif
