/* Creating and opening stores: superblock, catalog, interrupted creation, damage, other versions.
 */
#include <criterion/criterion.h>

#include "base/hash.h"
#include "db/ldm/store_format.h"
#include "tests/unit/db/ldm/durability.h"

static enum err open_store(struct sim *sim, struct store_info *ret_info, struct diag *diag)
{
    struct catalog *catalog;
    enum err err = store_open(sim_env(sim), ret_info, &catalog, diag);
    if (!err) catalog_destroy(catalog);
    return err;
}

static struct catalog *catalog_with_table(uint64_t version)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    struct table_def *table = calloc(1, sizeof(*table));
    table->columns = calloc(2, sizeof(struct column_def));
    cr_assert(catalog && table && table->columns);
    strcpy(table->database, "d");
    strcpy(table->name, "t");
    table->id = 7;
    table->version = 1;
    table->column_count = 2;
    strcpy(table->columns[0].name, "k");
    strcpy(table->columns[1].name, "v");
    table->columns[0].type = table->columns[1].type = TYPE_BIGINT_UNSIGNED;
    table->index_count = 1;
    table->next_index_id = 1;
    strcpy(table->indexes[0].name, "PRIMARY");
    table->indexes[0].kind = INDEX_ORDERED;
    table->indexes[0].unique = true;
    table->indexes[0].column_count = 1;
    table->partition_by = PARTITION_BY_KEY;
    table->partition_column_count = 1;
    struct diag diag;
    cr_assert_eq(table_def_check(table, &diag), ERR_NONE, "%s", diag.text);
    catalog->version = version;
    catalog->next_table_id = 8;
    catalog->table_count = 1;
    catalog->tables[0] = table;
    return catalog;
}

Test(store, created_store_opens_with_what_it_was_given)
{
    struct sim *sim = disk_with_store(1, 8);
    struct store_info info;
    struct catalog *catalog;
    struct diag diag;
    cr_assert_eq(store_open(sim_env(sim), &info, &catalog, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(info.format_version, STORE_FORMAT_VERSION);
    cr_assert_eq(info.partition_count, 8);
    cr_assert_neq(memcmp(info.id, info.key, sizeof(info.id)), 0);
    cr_assert_eq(catalog->table_count, 0);
    cr_assert_eq(catalog->next_table_id, 1);
    catalog_destroy(catalog);
    sim_destroy(sim);
}

Test(store, two_stores_have_different_ids_and_keys)
{
    struct sim *a = disk_with_store(1, 1), *b = disk_with_store(2, 1);
    struct store_info info_a, info_b;
    struct diag diag;
    cr_assert_eq(open_store(a, &info_a, &diag), ERR_NONE);
    cr_assert_eq(open_store(b, &info_b, &diag), ERR_NONE);
    cr_assert_neq(memcmp(info_a.id, info_b.id, sizeof(info_a.id)), 0);
    cr_assert_neq(memcmp(info_a.key, info_b.key, sizeof(info_a.key)), 0);
    sim_destroy(a);
    sim_destroy(b);
}

Test(store, create_is_durable_when_it_returns)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct sim *sim = disk_with_store(seed, 4);
        sim_crash(sim);
        struct store_info info;
        struct diag diag;
        cr_assert_eq(open_store(sim, &info, &diag), ERR_NONE, "%s", diag.text);
        sim_destroy(sim);
    }
}

Test(store, partition_count_must_be_a_power_of_two_within_limits)
{
    static const uint16_t bad[] = {0, 3, 6, 1000, 2048, 65535};
    struct sim *sim = disk_create(1);
    struct diag diag;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(store_create(sim_env(sim), bad[i], &diag), ERR_INVALID);
    cr_assert_eq(store_create(sim_env(sim), PARTITIONS_MAX, &diag), ERR_NONE);
    sim_destroy(sim);
}

Test(store, create_refuses_an_existing_store_and_foreign_files)
{
    struct sim *sim = disk_with_store(1, 4);
    struct diag diag;
    cr_assert_eq(store_create(sim_env(sim), 4, &diag), ERR_EXISTS);
    sim_destroy(sim);

    sim = disk_create(1);
    file_put(sim, "thesis.txt", "x", 1);
    cr_assert_eq(store_create(sim_env(sim), 4, &diag), ERR_EXISTS);
    cr_assert(strstr(diag.text, "thesis.txt"), "%s", diag.text);
    sim_destroy(sim);

    /* A log without a superblock is somebody's data. */
    sim = disk_with_store(1, 4);
    file_put(sim, "redo/0.1", "x", 1);
    cr_assert_eq(sim_env(sim)->ops->remove(sim_env(sim), "trellis"), ERR_NONE);
    cr_assert_eq(store_create(sim_env(sim), 4, &diag), ERR_EXISTS);
    cr_assert(strstr(diag.text, "redo/0.1"), "%s", diag.text);
    sim_destroy(sim);
}

Test(store, directory_without_a_store_is_said_to_be_none)
{
    struct sim *sim = disk_create(1);
    struct store_info info;
    struct diag diag;
    cr_assert_eq(open_store(sim, &info, &diag), ERR_INVALID);
    cr_assert(strstr(diag.text, "no store"), "%s", diag.text);
    sim_destroy(sim);
}

/* Halts at every file call of store_create, loses what a power cut may lose, and tries again. */
Test(store, interrupted_creation_can_be_repeated)
{
    bool halted = true;
    for (uint64_t k = 1; halted; k++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct sim *sim = disk_create(seed);
            struct diag diag;
            sim_halt_arm(sim, k);
            enum err err = store_create(sim_env(sim), 4, &diag);
            halted = sim_halted(sim);
            cr_assert_eq(err != ERR_NONE, halted);
            sim_crash(sim);
            sim_halt_arm(sim, 0);
            struct store_info info;
            err = open_store(sim, &info, &diag);
            if (err) {
                cr_assert_eq(err, ERR_INVALID, "halt at %d: %s", (int)k, diag.text);
                cr_assert_eq(store_create(sim_env(sim), 4, &diag), ERR_NONE, "%s", diag.text);
                cr_assert_eq(open_store(sim, &info, &diag), ERR_NONE, "%s", diag.text);
            }
            cr_assert_eq(info.partition_count, 4);
            sim_destroy(sim);
        }
    }
}

Test(store, every_failed_file_call_is_reported)
{
    static const enum err errs[] = {ERR_IO, ERR_NO_SPACE};
    for (size_t i = 0; i < 2; i++) {
        bool fired = true;
        for (uint64_t k = 1; fired; k++) {
            struct sim *sim = disk_create(k);
            struct diag diag = {0};
            sim_fault_arm(sim, k, errs[i]);
            enum err err = store_create(sim_env(sim), 2, &diag);
            fired = sim_fault_fired(sim);
            sim_fault_arm(sim, 0, ERR_NONE);
            if (fired) {
                cr_assert_eq(err, errs[i]);
                cr_assert_eq(diag.err, errs[i]);
                cr_assert(diag.text[0]);
                /* The superblock may be in place without being known to be durable. */
                struct store_info info;
                if (open_store(sim, &info, &diag))
                    cr_assert_eq(store_create(sim_env(sim), 2, &diag), ERR_NONE, "%s", diag.text);
            } else {
                cr_assert_eq(err, ERR_NONE);
            }
            sim_destroy(sim);
        }
    }
}

Test(store, catalog_is_replaced_atomically_at_every_crash)
{
    struct catalog *catalog = catalog_with_table(5);
    bool halted = true;
    for (uint64_t k = 1; halted; k++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct sim *sim = disk_with_store(seed, 4);
            struct diag diag;
            sim_halt_arm(sim, k);
            enum err err = store_write_catalog(sim_env(sim), catalog, &diag);
            halted = sim_halted(sim);
            cr_assert_eq(err != ERR_NONE, halted);
            sim_crash(sim);
            sim_halt_arm(sim, 0);
            struct store_info info;
            struct catalog *found;
            cr_assert_eq(store_open(sim_env(sim), &info, &found, &diag), ERR_NONE, "%s", diag.text);
            bool is_new = found->version == 5 && found->table_count == 1 &&
                          !strcmp(found->tables[0]->name, "t");
            bool is_old = found->version == 1 && found->table_count == 0;
            cr_assert(is_new || is_old);
            if (!err) cr_assert(is_new);
            catalog_destroy(found);
            sim_destroy(sim);
        }
    }
    catalog_destroy(catalog);
}

/* Every bit of every small file, and every length short of it. */
Test(store, every_flipped_bit_and_every_cut_is_detected_with_its_file)
{
    static const char *const paths[] = {"trellis", "catalog"};
    struct sim *sim = disk_with_store(3, 4);
    struct catalog *catalog = catalog_with_table(2);
    struct diag diag;
    cr_assert_eq(store_write_catalog(sim_env(sim), catalog, &diag), ERR_NONE);
    for (size_t i = 0; i < 2; i++) {
        struct buf bytes = file_get(sim, paths[i]);
        for (size_t bit = 0; bit < bytes.size * 8; bit++) {
            bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            file_put(sim, paths[i], bytes.bytes, bytes.size);
            bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            struct store_info info;
            cr_assert_eq(open_store(sim, &info, &diag), ERR_CORRUPT, "%s bit %zu", paths[i], bit);
            cr_assert(strstr(diag.text, "offset "), "%s", diag.text);
            /* A flipped id of the superblock shows at the next file. */
            cr_assert(strstr(diag.text, paths[i]), "%s", diag.text);
        }
        for (size_t size = 0; size < bytes.size; size++) {
            file_put(sim, paths[i], bytes.bytes, size);
            struct store_info info;
            cr_assert_eq(open_store(sim, &info, &diag), ERR_CORRUPT, "%s size %zu", paths[i], size);
        }
        buf_put_u8(&bytes, 0);
        file_put(sim, paths[i], bytes.bytes, bytes.size);
        struct store_info info;
        cr_assert_eq(open_store(sim, &info, &diag), ERR_CORRUPT);
        file_put(sim, paths[i], bytes.bytes, bytes.size - 1);
        cr_assert_eq(open_store(sim, &info, &diag), ERR_NONE, "%s", diag.text);
        buf_fini(&bytes);
    }
    catalog_destroy(catalog);
    sim_destroy(sim);
}

/* A frame whose head says another version, with a checksum that fits. */
static void version_set(struct buf *file, uint32_t version)
{
    memcpy(file->bytes + 8, &version, sizeof(version));
    uint64_t seed;
    memcpy(&seed, file->bytes, sizeof(seed));
    uint64_t sum = hash_checksum(file->bytes, 40, seed);
    memcpy(file->bytes + 40, &sum, sizeof(sum));
}

Test(store, newer_version_is_refused_and_not_taken_for_damage)
{
    static const char *const paths[] = {"trellis", "catalog"};
    for (size_t i = 0; i < 2; i++) {
        struct sim *sim = disk_with_store(3, 4);
        struct buf bytes = file_get(sim, paths[i]);
        version_set(&bytes, STORE_FORMAT_VERSION + 1);
        file_put(sim, paths[i], bytes.bytes, bytes.size);
        struct store_info info;
        struct diag diag;
        cr_assert_eq(open_store(sim, &info, &diag), ERR_VERSION);
        cr_assert(strstr(diag.text, paths[i]) && strstr(diag.text, "newer"), "%s", diag.text);
        version_set(&bytes, 0);
        file_put(sim, paths[i], bytes.bytes, bytes.size);
        cr_assert_eq(open_store(sim, &info, &diag), ERR_CORRUPT);
        buf_fini(&bytes);
        sim_destroy(sim);
    }
}

Test(store, catalog_of_another_store_is_refused)
{
    struct sim *a = disk_with_store(1, 4), *b = disk_with_store(2, 4);
    struct buf bytes = file_get(a, "catalog");
    file_put(b, "catalog", bytes.bytes, bytes.size);
    buf_fini(&bytes);
    struct store_info info;
    struct diag diag;
    cr_assert_eq(open_store(b, &info, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "another store"), "%s", diag.text);
    cr_assert_eq(sim_env(b)->ops->remove(sim_env(b), "catalog"), ERR_NONE);
    cr_assert_eq(open_store(b, &info, &diag), ERR_CORRUPT);
    cr_assert(strstr(diag.text, "missing"), "%s", diag.text);
    sim_destroy(a);
    sim_destroy(b);
}

Test(store, names_parse_only_as_they_are_written)
{
    uint16_t first;
    uint64_t second;
    cr_assert(store_name_parse("0.1", &first, &second));
    cr_assert(first == 0 && second == 1);
    cr_assert(store_name_parse("65535.18446744073709551615", &first, &second));
    cr_assert(first == 65535 && second == UINT64_MAX);
    static const char *const bad[] = {
        "",       "1",   "1.",  ".1",  "01.1",  "1.01",    "+1.1",    "1.1 ",
        "1.-1",   "1,1", "a.1", "1.b", "1.1.1", "65536.1", "1.1.tmp", "1.18446744073709551616",
        "history"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_not(store_name_parse(bad[i], &first, &second), "%s", bad[i]);
}
