/* Linked into the unit tests of a ThreadSanitizer build only.
 *
 * Criterion's process sandbox (BoxFort) places a shared mapping at
 *     0x200000000000 + (rand_r() & 0x3fffff) * 16 MiB
 * and gives up when that fails. ThreadSanitizer leaves a program only a few ranges of addresses;
 * the only one of them that the formula reaches with room to spare is 0x550000000000 to
 * 0x568000000000. So the sandbox gets "random" numbers that point into its upper part, from where
 * retries go on upwards. */
#include <stdlib.h>

enum { FIRST_AT_0x560000000000 = 0x360000, COUNT = 0x7fff };

int rand_r(unsigned int *seed)
{
    *seed += 1;
    return FIRST_AT_0x560000000000 + (int)(*seed % COUNT);
}
