/* Hashes against published vectors. */
#include "base/hash.h"

#include <criterion/criterion.h>

Test(hash, keyed_is_siphash_2_4)
{
    /* Appendix A of Aumasson and Bernstein, "SipHash", 2012. */
    uint8_t key[HASH_KEY_SIZE], message[15];
    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    for (uint8_t i = 0; i < sizeof(message); i++)
        message[i] = i;
    cr_assert_eq(hash_keyed(message, sizeof(message), key), 0xa129ca6149be45e5u);
    key[0] ^= 1;
    cr_assert_neq(hash_keyed(message, sizeof(message), key), 0xa129ca6149be45e5u);
}

Test(hash, bytes_is_xxh3_and_stays_so)
{
    /* XXH3_64bits of no bytes, from the xxHash specification's test vectors: formats depend on it.
     */
    cr_assert_eq(hash_bytes("", 0), 0x2d06800538d394c2u);
    cr_assert_eq(hash_bytes("abc", 3), hash_checksum("abc", 3, 0));
    cr_assert_neq(hash_checksum("abc", 3, 1), hash_checksum("abc", 3, 2));
}

Test(hash, u64_does_not_collide_on_small_numbers)
{
    /* The mix is bijective; its inverse, step by step, must give the number back. */
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t value = hash_u64(i * 0x10001);
        value ^= (value >> 31) ^ (value >> 62);
        value *= 0x319642b2d24d8ec3u;
        value ^= (value >> 27) ^ (value >> 54);
        value *= 0x96de1b173f119089u;
        value ^= (value >> 30) ^ (value >> 60);
        cr_assert_eq(value, i * 0x10001);
    }
}
