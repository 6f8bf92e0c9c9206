/* Hash functions that come from libraries: XXH3 (libxxhash) and SipHash-2-4 (libsodium). */
#include "base/hash.h"

#include <sodium/crypto_shorthash_siphash24.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(HASH_KEY_SIZE == crypto_shorthash_siphash24_KEYBYTES, "SipHash key");
_Static_assert(sizeof(uint64_t) == crypto_shorthash_siphash24_BYTES, "SipHash result");

uint64_t hash_bytes(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

uint64_t hash_checksum(const void *bytes, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, size, seed);
}

uint64_t hash_keyed(const void *bytes, size_t size, const uint8_t key[HASH_KEY_SIZE])
{
    uint8_t out[sizeof(uint64_t)];
    /* Pure computation: it needs no sodium_init() and cannot fail. */
    crypto_shorthash_siphash24(out, bytes, size, key);
    uint64_t value;
    memcpy(&value, out, sizeof(value));
    return value;
}
