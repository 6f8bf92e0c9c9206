/* The table of references against a plain array. */
#include <pthread.h>
#include <stdio.h>

#include "tests/unit/metadata/fixture.h"
#include "metadata/nlookup.h"

Test(nlookup, counts_as_an_array_does)
{
    enum { INOS = 5000, ROUNDS = 400000 };
    static uint64_t counts[INOS];
    static bool orphans[INOS];
    static bool opens[INOS];
    struct nlookup *nlookup;
    uint64_t random = 1;
    OK(nlookup_create(&nlookup));
    for (int round = 0; round < ROUNDS; round++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        unsigned at = (unsigned)(random >> 40) % INOS;
        uint64_t ino = ((uint64_t)at << 30) + 1;
        bool last;
        switch ((random >> 33) % 6) {
        case 0:
        case 1:
            nlookup_add(nlookup, ino, 3);
            counts[at] += 3;
            break;
        case 2:
        case 3: {
            uint64_t count = (random >> 20) % 5;
            if (counts[at] == 0 && !opens[at]) break;
            uint64_t taken = count < counts[at] ? count : counts[at];
            counts[at] -= taken;
            last = !counts[at] && !opens[at];
            cr_assert_eq(nlookup_forget(nlookup, ino, count), last && orphans[at]);
            if (last) orphans[at] = false;
            break;
        }
        case 4:
            if (opens[at]) {
                opens[at] = false;
                last = !counts[at];
                cr_assert_eq(nlookup_close(nlookup, ino), last && orphans[at]);
                if (last) orphans[at] = false;
            } else {
                opens[at] = true;
                nlookup_open(nlookup, ino);
            }
            break;
        default:
            cr_assert_eq(nlookup_is_free(nlookup, ino), !counts[at] && !opens[at]);
            orphans[at] = counts[at] || opens[at];
        }
        cr_assert_eq(nlookup_count(nlookup, ino), counts[at]);
    }
    nlookup_destroy(nlookup);
}

Test(nlookup, counts_many_as_one_after_the_other)
{
    enum { COUNT = 3000, DIFFERENT = 300 };
    static uint64_t inos[COUNT];
    uint64_t expected[DIFFERENT] = {0};
    struct nlookup *nlookup;
    OK(nlookup_create(&nlookup));
    /* In no order, and several times each. */
    for (unsigned i = 0; i < COUNT; i++)
        inos[i] = ((uint64_t)(i * 7919u % DIFFERENT) << 30) + 1;
    for (uint32_t count = 0; count <= COUNT; count = count * 3 + 1) {
        nlookup_add_each(nlookup, inos, count);
        for (uint32_t i = 0; i < count; i++)
            expected[inos[i] >> 30]++;
    }
    for (uint64_t i = 0; i < DIFFERENT; i++)
        cr_assert_eq(nlookup_count(nlookup, (i << 30) + 1), expected[i]);
    nlookup_destroy(nlookup);
}

Test(nlookup, forgetting_too_much_is_harmless)
{
    struct nlookup *nlookup;
    OK(nlookup_create(&nlookup));
    cr_assert_not(nlookup_forget(nlookup, 5, 1));
    nlookup_add(nlookup, 5, 2);
    cr_assert_not(nlookup_is_free(nlookup, 5));
    cr_assert(nlookup_forget(nlookup, 5, 100));
    cr_assert(nlookup_is_free(nlookup, 5));
    nlookup_destroy(nlookup);
}
