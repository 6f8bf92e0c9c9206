/* Reading directories: order, cookies, seeking, changes meanwhile, and names that share a hash. */
#include <stdio.h>

#include "tests/unit/metadata/checker.h"
#include "tests/unit/sanitized.h"

static struct store s;

static void setup(void)
{
    store_new(&s, 4);
}

static void teardown(void)
{
    check_tree(&s, false);
    store_end(&s);
}

enum { NAMES = 3000 };

/* Reads everything behind the cookie, `batch` entries at a time; how often each of the names
 * nNUMBER came. */
static uint32_t read_all(uint64_t dir, uint64_t cookie, uint32_t batch, bool plus, uint8_t *seen)
{
    struct fs_dirent entries[512];
    uint32_t total = 0;
    for (;;) {
        uint32_t count;
        OK(fs_readdir(s.c, dir, cookie, plus, entries, batch, &count));
        if (count == 0) return total;
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_gt(entries[i].cookie, cookie, "cookies ascend");
            cr_assert_leq(entries[i].cookie, INT64_MAX);
            cr_assert_eq(strlen(entries[i].name), entries[i].name_size);
            cookie = entries[i].cookie;
            if (entries[i].name[0] == 'n' && seen) seen[atoi(entries[i].name + 1)]++;
            if (plus && entries[i].cookie > 2) {
                cr_assert(entries[i].has_attr);
                cr_assert_eq(entries[i].attr.ino, entries[i].ino);
                cr_assert_eq(S_ISDIR(entries[i].attr.mode), entries[i].type == FS_DIR);
            }
        }
        total += count;
    }
}

static uint64_t fill(void)
{
    uint64_t d = make_dir(&s, 1, "d");
    for (int i = 0; i < NAMES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        if (i % 10 == 0)
            make_dir(&s, d, name);
        else
            make_file(&s, d, name);
    }
    return d;
}

CASE(dir, every_entry_comes_once_whatever_the_batch)
{
    uint64_t d = fill();
    static const uint32_t batches[] = {1, 2, 3, 17, 512};
    for (size_t i = 0; i < ARRAY_SIZE(batches); i++) {
        uint8_t seen[NAMES] = {0};
        cr_assert_eq(read_all(d, 0, batches[i], i % 2 == 0, seen), NAMES + 2);
        for (int j = 0; j < NAMES; j++)
            cr_assert_eq(seen[j], 1);
    }
}

CASE(dir, reading_goes_on_anywhere)
{
    uint64_t d = fill();
    struct fs_dirent entries[100];
    uint32_t count;
    uint64_t cookies[100];
    OK(fs_readdir(s.c, d, 0, false, entries, 100, &count));
    cr_assert_eq(count, 100);
    cr_assert_str_eq(entries[0].name, ".");
    cr_assert_str_eq(entries[1].name, "..");
    cr_assert_eq(entries[0].ino, d);
    cr_assert_eq(entries[1].ino, 1);
    cr_assert_eq(entries[0].cookie, 1);
    cr_assert_eq(entries[1].cookie, 2);
    for (int i = 0; i < 100; i++)
        cookies[i] = entries[i].cookie;
    for (uint32_t i = 0; i < 100; i += SANITIZED ? 7 : 1)
        cr_assert_eq(read_all(d, cookies[i], 64, false, NULL), NAMES + 2 - (i + 1));
    OK(fs_readdir(s.c, d, INT64_MAX, false, entries, 100, &count));
    cr_assert_eq(count, 0);
    struct fs_attr attr;
    FAILS(fs_readdir(s.c, make_file(&s, 1, "f"), 0, false, entries, 10, &count), ERR_ENOTDIR);
    FAILS(fs_readdir(s.c, d + 1000000, 0, false, entries, 10, &count), ERR_ESTALE);
    (void)attr;
}

CASE(dir, entries_that_stay_come_once_while_others_come_and_go)
{
    uint64_t d = fill();
    uint8_t seen[NAMES] = {0};
    struct fs_dirent entries[16];
    uint64_t cookie = 0;
    uint32_t count;
    int made = 0;
    unsigned random = 7;
    for (;;) {
        OK(fs_readdir(s.c, d, cookie, false, entries, 16, &count));
        if (count == 0) break;
        for (uint32_t i = 0; i < count; i++) {
            cookie = entries[i].cookie;
            if (entries[i].name[0] == 'n') seen[atoi(entries[i].name + 1)]++;
        }
        /* Odd names that are files go, others are made. */
        for (int i = 0; i < 4; i++) {
            char name[16];
            random = random * 1103515245 + 12345;
            int victim = (int)(random / 65536 % NAMES) | 1;
            snprintf(name, sizeof(name), "n%d", victim);
            if (victim < NAMES && victim % 10) (void)fs_unlink(s.c, &root, d, name);
            snprintf(name, sizeof(name), "x%d", made++);
            make_file(&s, d, name);
        }
    }
    for (int i = 0; i < NAMES; i += 2)
        cr_assert_eq(seen[i], 1, "n%d came %d times", i, seen[i]);
    for (int i = 1; i < NAMES; i += 2)
        cr_assert_leq(seen[i], 1);
}

CASE(dir, names_that_share_a_hash_have_cookies_of_their_own)
{
    s.fs->name_hash_mask = UINT64_C(0x1f) << 59; /* 32 hashes */
    uint64_t d = make_dir(&s, 1, "d");
    enum { MANY = 200 };
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        make_file(&s, d, name);
    }
    for (uint32_t batch = 1; batch < 20; batch++) {
        uint8_t seen[MANY] = {0};
        cr_assert_eq(read_all(d, 0, batch, batch % 2, seen), MANY + 2);
        for (int i = 0; i < MANY; i++)
            cr_assert_eq(seen[i], 1);
    }
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        cr_assert(find(&s, d, name));
        OK(fs_unlink(s.c, &root, d, name));
        cr_assert_eq(find(&s, d, name), 0);
    }
}
