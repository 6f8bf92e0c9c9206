/* A thread's client: its database client, reused memory, definitions of the tables, and the loop
 * that repeats an attempt which met a change by somebody else. */
#include "metadata/client.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "metadata/lease.h"

/* An attempt is repeated this often and this long before the caller is told to try again himself.
 */
enum { RETRY_COUNT_MAX = 100000, RETRY_MS_MAX = 10000 };

int64_t fs_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t fs_monotonic_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t client_random(struct fs_client *client)
{
    client->random += UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64 (Steele, Lea and Flood, 2014) */
    return hash_u64(client->random);
}

/* Takes the definitions of the catalog now. */
static enum err client_refresh(struct fs_client *client)
{
    struct db *db = client->fs->db;
    const struct catalog *catalog = db_catalog_acquire(db);
    struct tables tables;
    enum err err = tables_find(catalog, &tables);
    if (err) {
        db_catalog_release(db, catalog);
        return err;
    }
    if (client->catalog) db_catalog_release(db, client->catalog);
    client->catalog = catalog;
    client->tables = tables;
    memset(client->is_prepared, 0, sizeof(client->is_prepared));
    return ERR_NONE;
}

enum err client_prepare_slow(struct fs_client *client, enum fs_prepared first, unsigned shape,
                             client_build *build)
{
    unsigned number = (unsigned)first + shape;
    ASSERT(number < PREPARED_COUNT);
    program_begin(&client->program);
    build(client, &client->program, shape);
    enum err err = program_prepare(&client->prepared[number], &client->program);
    client->is_prepared[number] = err == ERR_NONE;
    return err;
}

/* ---- under a lease ---- */

enum err client_run_leased(struct fs_client *client)
{
    struct fs *fs = client->fs;
    struct program *program = &client->program;
    enum err err = lease_check(fs);
    if (err) return err;
    /* Guarding one partition guards all: a program commits as a whole. */
    if (program->section_count) {
        uint32_t slot = program->slots[program->section_count - 1];
        lease_guard(client, program, operand_u64(slot & fs->partition_mask));
    }
    return lease_outcome(fs, db_run(client->db, program, &client->reply));
}

enum err client_run_prepared_leased(struct fs_client *client, unsigned number,
                                    const uint16_t *slots, const struct value *params)
{
    struct fs *fs = client->fs;
    enum err err = lease_check(fs);
    if (err) return err;
    return lease_outcome(
        fs, db_run_prepared(client->db, &client->prepared[number], slots, params, &client->reply));
}

void client_guard_prepared(struct fs_client *client, struct program *program, uint16_t param)
{
    if (client->fs->lease) lease_guard(client, program, operand_param(param));
}

bool client_again_slow(struct fs_client *client, struct retry *retry, enum err *err)
{
    uint64_t now = fs_monotonic_ns();
    if (retry->count == 0) retry->until_ns = now + RETRY_MS_MAX * UINT64_C(1000000);
    if (retry->count++ == RETRY_COUNT_MAX || now > retry->until_ns) {
        *err = ERR_BUSY;
        return false;
    }
    if (*err != ERR_SCHEMA_CHANGED) return true;
    enum err refreshed = client_refresh(client);
    if (refreshed) *err = refreshed;
    return refreshed == ERR_NONE;
}

enum err client_flush(struct fs_client *client)
{
    uint64_t began = fs_monotonic_ns();
    enum err err = db_flush(client->db);
    /* A database that has restarted may have flushed without what was lost. */
    if (!err) err = lease_check(client->fs);
    if (err) return err;
    uint64_t known = atomic_load(&client->fs->flushed_ns);
    while (known < began && !atomic_compare_exchange_weak(&client->fs->flushed_ns, &known, began))
        ;
    return ERR_NONE;
}

enum err fs_client_create(struct fs *fs, struct db_client *db, struct fs_client **ret_client)
{
    struct fs_client *client = calloc(1, sizeof(*client));
    if (!client) return ERR_NO_MEMORY;
    enum err err = ERR_NO_MEMORY;
    client->fs = fs;
    client->db = db;
    client->random = fs_monotonic_ns() ^ (uint64_t)(uintptr_t)client;
    client->ranges = calloc((size_t)fs->partition_mask + 1, sizeof(*client->ranges));
    if (!client->ranges) goto free_client;
    err = client_refresh(client);
    if (err) goto free_ranges;
    program_init(&client->program);
    program_reply_init(&client->reply);
    for (unsigned i = 0; i < PREPARED_COUNT; i++)
        program_prepared_init(&client->prepared[i]);
    arena_init(&client->arena, 0);
    *ret_client = client;
    return ERR_NONE;
free_ranges:
    free(client->ranges);
free_client:
    free(client);
    return err;
}

void fs_client_destroy(struct fs_client *client)
{
    if (!client) return;
    db_catalog_release(client->fs->db, client->catalog);
    program_fini(&client->program);
    program_reply_fini(&client->reply);
    for (unsigned i = 0; i < PREPARED_COUNT; i++)
        program_prepared_fini(&client->prepared[i]);
    arena_fini(&client->arena);
    free(client->ranges);
    free(client);
}
