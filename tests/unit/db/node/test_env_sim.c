/* The simulator: one seed gives one run; a power cut keeps what was synced, may keep any of the
 * rest, and never makes anything up. */
#include "db/node/sim.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 300, SECTOR = 512 };
static const unsigned create_flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE;

static struct sim *sim_make(uint64_t seed)
{
    struct sim *sim = NULL;
    struct sim_config config = {
        .seed = seed, .disk_latency_ns_min = 1000, .disk_latency_ns_max = 100000};
    cr_assert_eq(sim_create(&config, &sim), ERR_NONE);
    return sim;
}

static struct env_file *open_ok(struct sim *sim, const char *path, unsigned flags)
{
    struct env_file *file = NULL;
    struct env *env = sim_env(sim);
    cr_assert_eq(env->ops->file_open(env, path, flags, &file), ERR_NONE, "open %s", path);
    return file;
}

static void write_ok(struct sim *sim, struct env_file *file, uint8_t byte, size_t size,
                     uint64_t offset)
{
    static uint8_t bytes[64 * 1024];
    cr_assert_leq(size, sizeof(bytes));
    memset(bytes, byte, size);
    cr_assert_eq(sim_env(sim)->ops->file_write(file, bytes, size, offset), ERR_NONE);
}

/* A synced file with a durable name. */
static void file_make(struct sim *sim, const char *path, uint8_t byte, size_t size)
{
    struct env *env = sim_env(sim);
    struct env_file *file = open_ok(sim, path, create_flags);
    write_ok(sim, file, byte, size, 0);
    cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
    env->ops->file_close(file);
    cr_assert_eq(env->ops->dir_sync(env, ""), ERR_NONE);
}

static uint8_t content[64 * 1024];

/* Reads the file into `content`; SIZE_MAX when there is none. */
static size_t file_load(struct sim *sim, const char *path)
{
    struct env *env = sim_env(sim);
    struct env_file *file = NULL;
    enum err err = env->ops->file_open(env, path, ENV_OPEN_READ, &file);
    if (err == ERR_NOT_FOUND) return SIZE_MAX;
    cr_assert_eq(err, ERR_NONE);
    size_t size = 0;
    cr_assert_eq(env->ops->file_read(file, content, sizeof(content), 0, &size), ERR_NONE);
    env->ops->file_close(file);
    return size;
}

/* --- power cuts: files --- */

Test(env_sim, crash_keeps_synced_data_under_a_synced_name)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "file", 'a', 3000);
        sim_crash(sim);
        cr_assert_eq(file_load(sim, "file"), 3000);
        for (size_t i = 0; i < 3000; i++)
            cr_assert_eq(content[i], 'a');
        sim_destroy(sim);
    }
}

Test(env_sim, crash_tears_unsynced_overwrites_at_sectors)
{
    unsigned all = 0, none = 0, torn = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "file", 'a', 8 * SECTOR);
        struct env_file *file = open_ok(sim, "file", ENV_OPEN_WRITE);
        write_ok(sim, file, 'b', 8 * SECTOR, 0);
        sim_crash(sim);
        sim_env(sim)->ops->file_close(file);
        cr_assert_eq(file_load(sim, "file"), 8 * SECTOR);
        unsigned kept = 0;
        for (size_t sector = 0; sector < 8; sector++) {
            uint8_t first = content[sector * SECTOR];
            cr_assert(first == 'a' || first == 'b');
            for (size_t i = 0; i < SECTOR; i++)
                cr_assert_eq(content[sector * SECTOR + i], first, "a sector is never torn");
            kept += first == 'b';
        }
        *(kept == 8 ? &all : kept == 0 ? &none : &torn) += 1;
        sim_destroy(sim);
    }
    cr_assert(all > 10 && none > 10 && torn > 100, "all %u none %u torn %u", all, none, torn);
}

Test(env_sim, crash_leaves_each_sector_at_one_moment_of_its_past)
{
    /* Two overlapping unsynced writes to one sector: never the second without the first. */
    unsigned seen[3] = {0};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "file", 'a', SECTOR);
        struct env_file *file = open_ok(sim, "file", ENV_OPEN_WRITE);
        write_ok(sim, file, 'b', 200, 0);
        write_ok(sim, file, 'c', 200, 200);
        sim_crash(sim);
        sim_env(sim)->ops->file_close(file);
        cr_assert_eq(file_load(sim, "file"), SECTOR);
        if (content[200] == 'c') cr_assert_eq(content[0], 'b');
        seen[(content[0] == 'b') + (content[200] == 'c')]++;
        sim_destroy(sim);
    }
    cr_assert(seen[0] > 10 && seen[1] > 10 && seen[2] > 10);
}

Test(env_sim, crash_of_an_append_leaves_a_shorter_file_or_zeros)
{
    unsigned shorter = 0, zeros = 0, whole = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "log", 'a', 1000);
        struct env_file *file = open_ok(sim, "log", ENV_OPEN_WRITE);
        for (unsigned i = 0; i < 10; i++)
            write_ok(sim, file, 'b', 300, 1000 + i * 300);
        sim_crash(sim);
        sim_env(sim)->ops->file_close(file);
        size_t size = file_load(sim, "log");
        cr_assert(size >= 1000 && size <= 4000 && (size - 1000) % 300 == 0);
        unsigned zero_count = 0;
        for (size_t i = 0; i < size; i++) {
            if (i < 1000)
                cr_assert_eq(content[i], 'a', "synced bytes stay, also in the appended sector");
            else
                cr_assert(content[i] == 'b' || content[i] == 0);
            zero_count += content[i] == 0;
        }
        shorter += size < 4000;
        zeros += zero_count > 0;
        whole += size == 4000 && zero_count == 0;
        sim_destroy(sim);
    }
    cr_assert(shorter > 50 && zeros > 50 && whole > 10);
}

Test(env_sim, crash_loses_writes_that_follow_a_lost_truncation)
{
    unsigned old = 0, new = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "file", 'a', 2000);
        struct env_file *file = open_ok(sim, "file", ENV_OPEN_WRITE | ENV_OPEN_TRUNCATE);
        write_ok(sim, file, 'b', 2000, 0);
        sim_crash(sim);
        sim_env(sim)->ops->file_close(file);
        size_t size = file_load(sim, "file");
        cr_assert(size == 0 || size == 2000);
        bool has_old = memchr(content, 'a', size) != NULL;
        bool has_new = memchr(content, 'b', size) != NULL;
        cr_assert_not(has_old && has_new);
        old += has_old;
        new += has_new;
        sim_destroy(sim);
    }
    cr_assert(old > 20 && new > 20);
}

Test(env_sim, failed_sync_never_persists_the_rest)
{
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        file_make(sim, "file", 'a', 8 * SECTOR);
        struct env_file *file = open_ok(sim, "file", ENV_OPEN_WRITE);
        write_ok(sim, file, 'b', 8 * SECTOR, 0);
        sim_fault_arm(sim, 1, ERR_IO);
        cr_assert_eq(env->ops->file_sync(file), ERR_IO);
        cr_assert(sim_fault_fired(sim));
        cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
        uint8_t byte = 0;
        size_t size = 0;
        for (unsigned i = 0; i < 8; i++) {
            cr_assert_eq(env->ops->file_read(file, &byte, 1, i * SECTOR, &size), ERR_NONE);
            cr_assert_eq(byte, 'b', "reads still show the written bytes");
        }
        sim_crash(sim);
        env->ops->file_close(file);
        cr_assert_eq(file_load(sim, "file"), 8 * SECTOR);
        lost += memchr(content, 'a', 8 * SECTOR) != NULL;
        sim_destroy(sim);
    }
    cr_assert_gt(lost, 100u, "the later sync must not have saved them");
}

/* --- power cuts: names --- */

Test(env_sim, crash_may_lose_an_unsynced_name_but_not_a_synced_one)
{
    unsigned kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        file_make(sim, "first", 'a', 10);
        struct env_file *file = open_ok(sim, "second", create_flags);
        write_ok(sim, file, 'b', 10, 0);
        cr_assert_eq(sim_env(sim)->ops->file_sync(file), ERR_NONE);
        sim_env(sim)->ops->file_close(file);
        sim_crash(sim);
        cr_assert_eq(file_load(sim, "first"), 10);
        size_t size = file_load(sim, "second");
        cr_assert(size == SIZE_MAX || size == 10, "its data was synced");
        kept += size == 10;
        sim_destroy(sim);
    }
    cr_assert(kept > 50 && kept < SEEDS - 50);
}

Test(env_sim, crash_never_loses_both_sides_of_a_replacing_rename)
{
    unsigned old = 0, new = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        file_make(sim, "current", 'a', 700);
        struct env_file *file = open_ok(sim, "tmp", create_flags);
        write_ok(sim, file, 'b', 700, 0);
        cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
        env->ops->file_close(file);
        cr_assert_eq(env->ops->rename(env, "tmp", "current"), ERR_NONE);
        bool synced = seed & 1;
        if (synced) cr_assert_eq(env->ops->dir_sync(env, "."), ERR_NONE);
        sim_crash(sim);
        cr_assert_eq(file_load(sim, "current"), 700);
        uint8_t byte = content[0];
        cr_assert(byte == 'b' || (byte == 'a' && !synced));
        if (byte == 'b') cr_assert_eq(file_load(sim, "tmp"), SIZE_MAX);
        old += byte == 'a';
        new += byte == 'b' && !synced;
        sim_destroy(sim);
    }
    cr_assert(old > 20 && new > 20);
}

Test(env_sim, crash_after_rename_without_data_sync_may_lose_the_data)
{
    unsigned damaged = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        struct env_file *file = open_ok(sim, "tmp", create_flags);
        write_ok(sim, file, 'b', 700, 0);
        env->ops->file_close(file);
        cr_assert_eq(env->ops->rename(env, "tmp", "current"), ERR_NONE);
        cr_assert_eq(env->ops->dir_sync(env, "."), ERR_NONE);
        sim_crash(sim);
        size_t size = file_load(sim, "current");
        cr_assert_neq(size, SIZE_MAX, "the name was synced");
        damaged += size != 700 || memchr(content, 0, 700) != NULL;
        sim_destroy(sim);
    }
    cr_assert_gt(damaged, 100u);
}

Test(env_sim, crash_never_loses_a_file_by_moving_it)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        file_make(sim, "file", 'a', 10);
        cr_assert_eq(env->ops->dir_create(env, "new"), ERR_NONE);
        cr_assert_eq(env->ops->rename(env, "file", "new/file"), ERR_NONE);
        if (seed & 1) cr_assert_eq(env->ops->dir_sync(env, "new"), ERR_NONE);
        sim_crash(sim);
        bool here = file_load(sim, "file") == 10;
        bool there = file_load(sim, "new/file") == 10;
        cr_assert_neq(here, there);
        if (seed & 1) cr_assert(there);
        sim_destroy(sim);
    }
}

Test(env_sim, crash_never_removes_a_directory_before_its_content)
{
    unsigned removed = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        cr_assert_eq(env->ops->dir_create(env, "dir"), ERR_NONE);
        file_make(sim, "dir/file", 'a', 10);
        cr_assert_eq(env->ops->dir_sync(env, "dir"), ERR_NONE);
        cr_assert_eq(env->ops->rename(env, "dir/file", "saved"), ERR_NONE);
        cr_assert_eq(env->ops->remove(env, "dir"), ERR_NONE);
        sim_crash(sim);
        bool inside = file_load(sim, "dir/file") == 10;
        bool outside = file_load(sim, "saved") == 10;
        cr_assert_neq(inside, outside);
        removed += outside;
        sim_destroy(sim);
    }
    cr_assert(removed > 50 && removed < SEEDS - 50);
}

Test(env_sim, many_crashes_and_reuse_of_names_leave_a_consistent_disk)
{
    /* A random program; after each crash the disk must be readable, within its limit, and every
     * file full of bytes that were written to some file of that name. */
    static const char *const names[] = {"a", "b", "d/a", "d/b"};
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct sim *sim = NULL;
        struct sim_config config = {.seed = seed, .disk_size_max = 40000};
        cr_assert_eq(sim_create(&config, &sim), ERR_NONE);
        struct env *env = sim_env(sim);
        cr_assert_eq(env->ops->dir_create(env, "d"), ERR_NONE);
        cr_assert_eq(env->ops->dir_sync(env, ""), ERR_NONE);
        for (unsigned step = 0; step < 400; step++) {
            uint64_t choice = sim_random(sim);
            const char *name = names[choice % 4];
            const char *other = names[choice / 4 % 4];
            struct env_file *file = NULL;
            uint8_t bytes[3000];
            switch (choice / 16 % 8) {
            case 0:
            case 1:
            case 2:
                cr_assert_eq(env->ops->file_open(env, name, create_flags, &file), ERR_NONE);
                memset(bytes, name[strlen(name) - 1], sizeof(bytes));
                enum err err =
                    env->ops->file_write(file, bytes, choice / 128 % 3000, choice / 7 % 9000);
                cr_assert(!err || err == ERR_NO_SPACE);
                if (choice & 1 << 20) cr_assert_eq(env->ops->file_sync(file), ERR_NONE);
                env->ops->file_close(file);
                break;
            case 3:
                (void)env->ops->remove(env, name);
                break;
            case 4:
                /* Only names that end alike, so that the expected bytes stay. */
                if (name[strlen(name) - 1] == other[strlen(other) - 1])
                    (void)env->ops->rename(env, name, other);
                break;
            case 5:
                cr_assert_eq(env->ops->dir_sync(env, choice & 1 << 21 ? "" : "d"), ERR_NONE);
                break;
            case 6:
                if (!env->ops->file_open(env, name, ENV_OPEN_WRITE, &file)) {
                    (void)env->ops->file_truncate(file, choice / 128 % 5000);
                    env->ops->file_close(file);
                }
                break;
            default:
                if (choice % 5 == 0) sim_crash(sim);
                break;
            }
            uint64_t space = 0, used = 0;
            for (unsigned i = 0; i < 4; i++) {
                size_t size = file_load(sim, names[i]);
                if (size == SIZE_MAX) continue;
                used += size;
                char byte = names[i][strlen(names[i]) - 1];
                for (size_t j = 0; j < size; j++)
                    cr_assert(content[j] == byte || content[j] == 0);
            }
            cr_assert_eq(env->ops->space_free(env, &space), ERR_NONE);
            cr_assert_eq(space, used < 40000 ? 40000 - used : 0);
        }
        sim_destroy(sim);
    }
}

Test(env_sim, crash_invalidates_open_files_and_drops_jobs)
{
    struct sim *sim = sim_make(1);
    struct env *env = sim_env(sim);
    struct env_file *file = open_ok(sim, "file", create_flags);
    struct env_job job = {0}; /* must never be called */
    env->ops->submit(env, &job, 0);
    sim_crash(sim);
    uint64_t size = 0;
    cr_assert_eq(env->ops->file_sync(file), ERR_CLOSED);
    cr_assert_eq(env->ops->file_size(file, &size), ERR_CLOSED);
    cr_assert_eq(env->ops->file_write(file, "x", 1, 0), ERR_CLOSED);
    env->ops->file_close(file);
    cr_assert_not(sim_step(sim));
    sim_destroy(sim);
}

/* --- faults --- */

/* The safe way to replace a file, as its own small program under test. */
static enum err replace(struct env *env, uint8_t byte)
{
    uint8_t bytes[2 * SECTOR];
    memset(bytes, byte, sizeof(bytes));
    struct env_file *file;
    enum err err = env->ops->file_open(env, "tmp", create_flags | ENV_OPEN_TRUNCATE, &file);
    if (err) return err;
    err = env->ops->file_write(file, bytes, sizeof(bytes), 0);
    if (!err) err = env->ops->file_sync(file);
    env->ops->file_close(file);
    if (!err) err = env->ops->rename(env, "tmp", "current");
    if (!err) err = env->ops->dir_sync(env, "");
    return err;
}

static void current_check(struct sim *sim, bool may_be_old, bool may_be_new)
{
    cr_assert_eq(file_load(sim, "current"), 2 * SECTOR);
    cr_assert((content[0] == 'a' && may_be_old) || (content[0] == 'b' && may_be_new));
    for (size_t i = 0; i < 2 * SECTOR; i++)
        cr_assert_eq(content[i], content[0]);
}

Test(env_sim, armed_fault_fires_at_the_kth_call_and_once)
{
    unsigned fired_count = 0;
    for (uint64_t k = 1;; k++) {
        struct sim *sim = sim_make(k);
        cr_assert_eq(replace(sim_env(sim), 'a'), ERR_NONE);
        sim_fault_arm(sim, k, ERR_NO_SPACE);
        enum err err = replace(sim_env(sim), 'b');
        bool fired = sim_fault_fired(sim);
        sim_fault_arm(sim, 0, ERR_NONE);
        cr_assert_eq(err, fired ? ERR_NO_SPACE : ERR_NONE);
        sim_crash(sim);
        current_check(sim, fired, true);
        sim_destroy(sim);
        if (!fired) break;
        fired_count++;
    }
    cr_assert_eq(fired_count, 5, "open, write, sync, rename, dir_sync");
}

Test(env_sim, power_cut_between_any_two_calls_keeps_old_or_new)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        for (uint64_t k = 1;; k++) {
            struct sim *sim = sim_make(seed);
            cr_assert_eq(replace(sim_env(sim), 'a'), ERR_NONE);
            sim_halt_arm(sim, k);
            enum err err = replace(sim_env(sim), 'b');
            bool halted = sim_halted(sim);
            cr_assert_eq(err, halted ? ERR_IO : ERR_NONE);
            sim_crash(sim);
            cr_assert_not(sim_halted(sim));
            /* Up to the rename's own call nothing of the new file can show. */
            current_check(sim, halted, !halted || k > 4);
            sim_destroy(sim);
            if (!halted) {
                cr_assert_eq(k, 6);
                break;
            }
        }
    }
}

Test(env_sim, random_faults_come_only_while_on)
{
    struct sim *sim = NULL;
    struct sim_config config = {.seed = 3, .fault_per_million = 200000};
    cr_assert_eq(sim_create(&config, &sim), ERR_NONE);
    struct env *env = sim_env(sim);
    struct env_file *file = open_ok(sim, "file", create_flags);
    unsigned failed = 0;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t size;
        sim_faults(sim, i >= 1000);
        enum err err = env->ops->file_size(file, &size);
        cr_assert(!err || (err == ERR_IO && i >= 1000));
        failed += err != ERR_NONE;
    }
    cr_assert(failed > 140 && failed < 260);
    env->ops->file_close(file);
    sim_destroy(sim);
}

Test(env_sim, failed_write_may_leave_a_prefix)
{
    unsigned partial = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct sim *sim = sim_make(seed);
        struct env *env = sim_env(sim);
        file_make(sim, "file", 'a', 1000);
        struct env_file *file = open_ok(sim, "file", ENV_OPEN_WRITE);
        uint8_t bytes[1000];
        memset(bytes, 'b', sizeof(bytes));
        sim_fault_arm(sim, 1, ERR_IO);
        cr_assert_eq(env->ops->file_write(file, bytes, sizeof(bytes), 0), ERR_IO);
        env->ops->file_close(file);
        cr_assert_eq(file_load(sim, "file"), 1000);
        size_t written = 0;
        while (written < 1000 && content[written] == 'b')
            written++;
        cr_assert_null(memchr(content + written, 'b', 1000 - written));
        partial += written > 0 && written < 1000;
        sim_destroy(sim);
    }
    cr_assert_gt(partial, 40u);
}

Test(env_sim, full_disk_writes_what_fits_and_removal_frees)
{
    struct sim *sim = NULL;
    struct sim_config config = {.seed = 1, .disk_size_max = 1000};
    cr_assert_eq(sim_create(&config, &sim), ERR_NONE);
    struct env *env = sim_env(sim);
    struct env_file *file = open_ok(sim, "file", create_flags);
    uint8_t bytes[1500] = {0};
    uint64_t size = 0;
    cr_assert_eq(env->ops->file_write(file, bytes, 1500, 0), ERR_NO_SPACE);
    cr_assert_eq(env->ops->file_size(file, &size), ERR_NONE);
    cr_assert_eq(size, 1000);
    cr_assert_eq(env->ops->file_write(file, bytes, 1000, 0), ERR_NONE, "overwriting takes none");
    cr_assert_eq(env->ops->file_write(file, bytes, 1, 1000), ERR_NO_SPACE);
    cr_assert_eq(env->ops->file_truncate(file, 1001), ERR_NO_SPACE);
    cr_assert_eq(env->ops->remove(env, "file"), ERR_NONE);
    cr_assert_eq(env->ops->space_free(env, &size), ERR_NONE);
    cr_assert_eq(size, 0, "an open file keeps its space");
    env->ops->file_close(file);
    cr_assert_eq(env->ops->space_free(env, &size), ERR_NONE);
    cr_assert_eq(size, 1000);
    sim_destroy(sim);
}

Test(env_sim, corrupt_flips_exactly_the_bits_asked_for)
{
    struct sim *sim = sim_make(9);
    file_make(sim, "file", 0, 2000);
    cr_assert_eq(sim_corrupt(sim, "none", 0, 1), ERR_NOT_FOUND);
    cr_assert_eq(sim_corrupt(sim, "file", 2001, 1), ERR_INVALID);
    cr_assert_eq(sim_corrupt(sim, "file", 1999, 9), ERR_INVALID);
    cr_assert_eq(sim_corrupt(sim, "file", 1900, 17), ERR_NONE);
    for (unsigned crash = 0; crash < 2; crash++) {
        cr_assert_eq(file_load(sim, "file"), 2000);
        unsigned bits = 0;
        for (size_t i = 0; i < 2000; i++) {
            if (i < 1900) cr_assert_eq(content[i], 0);
            bits += (unsigned)__builtin_popcount(content[i]);
        }
        cr_assert_eq(bits, 17);
        sim_crash(sim);
    }
    sim_destroy(sim);
}

/* --- jobs and time --- */

struct sim_note {
    struct env_job job;
    struct env *env;
    unsigned id;
};

static unsigned ran[64], ran_count;
static uint64_t ran_at[64];

static void note_run(struct env_job *job)
{
    struct sim_note *note = (struct sim_note *)job;
    ran[ran_count] = note->id;
    ran_at[ran_count++] = note->env->ops->monotonic_ns(note->env);
}

static unsigned done_total;

static void note_done(struct env_job *job)
{
    (void)job;
    done_total++;
}

static void run_notes(uint64_t seed, uint32_t orders)
{
    struct sim *sim = sim_make(seed);
    struct env *env = sim_env(sim);
    static struct sim_note notes[32];
    ran_count = done_total = 0;
    for (unsigned i = 0; i < 32; i++) {
        notes[i] = (struct sim_note){{.run = note_run, .done = note_done}, env, i};
        env->ops->submit(env, &notes[i].job, orders ? 1 + i % orders : 0);
    }
    uint64_t start = env->ops->monotonic_ns(env);
    uint64_t before = start;
    while (sim_step(sim)) {
        uint64_t now = env->ops->monotonic_ns(env);
        cr_assert_geq(now, before);
        before = now;
    }
    cr_assert_eq(ran_count, 32);
    cr_assert_eq(done_total, 32);
    cr_assert(ran_at[0] >= start + 1000 && before <= start + 100000);
    sim_destroy(sim);
}

Test(env_sim, jobs_of_one_order_keep_it_and_others_do_not)
{
    bool reordered = false;
    run_notes(5, 2);
    unsigned next[2] = {0, 1};
    for (unsigned i = 0; i < 32; i++) {
        cr_assert_eq(ran[i], next[ran[i] % 2]);
        next[ran[i] % 2] += 2;
    }
    run_notes(5, 0);
    for (unsigned i = 0; i < 32; i++)
        reordered |= ran[i] != i;
    cr_assert(reordered);
}

Test(env_sim, same_seed_repeats_and_another_differs)
{
    unsigned first[32];
    uint64_t first_at[32];
    run_notes(5, 0);
    memcpy(first, ran, sizeof(first));
    memcpy(first_at, ran_at, sizeof(first_at));
    run_notes(5, 0);
    cr_assert_eq(memcmp(first, ran, sizeof(first)), 0);
    cr_assert_eq(memcmp(first_at, ran_at, sizeof(first_at)), 0);
    run_notes(6, 0);
    cr_assert_neq(memcmp(first_at, ran_at, sizeof(first_at)), 0);
}

Test(env_sim, clock_stands_still_but_for_steps_and_advances)
{
    struct sim *sim = sim_make(5);
    struct env *env = sim_env(sim);
    uint64_t start = env->ops->monotonic_ns(env);
    uint64_t real = env->ops->realtime_ns(env);
    cr_assert_eq(env->ops->monotonic_ns(env), start);
    sim_advance(sim, 12345);
    cr_assert_eq(env->ops->monotonic_ns(env), start + 12345);
    cr_assert_eq(env->ops->realtime_ns(env), real + 12345);
    cr_assert_not(sim_step(sim));
    cr_assert_eq(env->ops->monotonic_ns(env), start + 12345);
    sim_destroy(sim);
}

static struct env_job *handed_over;
static unsigned woken;

static void done_take(void *node, struct env_job *job)
{
    cr_assert_eq(node, &handed_over);
    handed_over = job;
}

static void wake_note(void *node, uint16_t worker)
{
    cr_assert_eq(node, &handed_over);
    woken = worker;
}

Test(env_sim, finished_jobs_are_handed_to_the_node)
{
    struct sim *sim = sim_make(5);
    struct env *env = sim_env(sim);
    sim_set_done(sim, done_take, &handed_over);
    sim_set_wake(sim, wake_note);
    struct sim_note note = {{.run = note_run, .done = note_done}, env, 1};
    env->ops->submit(env, &note.job, 1);
    cr_assert(sim_step(sim));
    cr_assert_eq(handed_over, &note.job);
    cr_assert_eq(done_total, 0, "the node's loop calls done()");
    env->ops->wake(env, 2);
    cr_assert_eq(woken, 2);
    sim_destroy(sim);
}

Test(env_sim, create_refuses_latencies_out_of_order)
{
    struct sim *sim = NULL;
    struct sim_config config = {.disk_latency_ns_min = 2, .disk_latency_ns_max = 1};
    cr_assert_eq(sim_create(&config, &sim), ERR_INVALID);
    cr_assert_null(sim);
    sim_destroy(NULL);
}
