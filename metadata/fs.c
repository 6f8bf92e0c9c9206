/* Opening and closing the file system of a store.
 *
 * The first opening makes the tables, marks the data directory as this store's, and makes the root.
 * Every step can be repeated: a start that was interrupted is finished by the next one. */
#include "metadata/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "metadata/create.h"
#include "metadata/device.h"
#include "metadata/io.h"
#include "metadata/lease.h"
#include "metadata/life.h"
#include "metadata/open.h"
#include "metadata/orphan.h"

enum { DEVICE_FIRST = 1, DEVICE_DIRECTORY = 1, LAYOUT_FIRST = 1, POOL_FIRST = 1 };

/* What marks the data directory: derived from the store's random key, which it does not reveal. */
static void device_identity(const struct fs *fs, char identity[DEVICE_IDENTITY_SIZE + 1])
{
    static const char high[] = "device identity, high";
    static const char low[] = "device identity, low";
    (void)snprintf(identity, DEVICE_IDENTITY_SIZE + 1, "%016llx%016llx",
                   (unsigned long long)hash_keyed(high, sizeof(high), fs->name_key),
                   (unsigned long long)hash_keyed(low, sizeof(low), fs->name_key));
}

static enum err row_insert(struct fs_client *client, enum fs_table table, const struct value *keys,
                           const struct operand *values)
{
    uint16_t slot;
    enum err err = table_slot(client_table(client, table), keys, &slot);
    if (err) return err;
    struct retry retry = {0};
    do {
        struct program *program = client_begin(client, slot);
        (void)program_insert(program, client_table(client, table), values, ERR_EXISTS);
        program_flags(program, STEP_OPTIONAL);
        err = client_run(client);
    } while (client_again(client, &retry, &err));
    return err;
}

/* Whether the store's device has a row; with the values of its location when it has. */
static enum err device_known(struct fs_client *client, bool *ret_known)
{
    struct value key = value_u64(DEVICE_FIRST);
    uint16_t slot;
    enum err err = table_slot(client_table(client, TABLE_DEVICE), &key, &slot);
    if (err) return err;
    struct retry retry = {0};
    do {
        struct program *program = client_begin(client, slot);
        struct operand operand = operand_value(key);
        uint8_t step =
            program_read(program, client_table(client, TABLE_DEVICE), &operand, ERR_NONE);
        program_flags(program, STEP_OPTIONAL);
        const uint16_t columns[] = {DEVICE_KIND};
        program_output(program, columns, 1);
        err = client_run(client);
        if (!err) {
            const struct value *row = client_row(client, step);
            if (row && row[0].u != DEVICE_DIRECTORY) err = ERR_VERSION;
            *ret_known = row != NULL;
        }
    } while (client_again(client, &retry, &err));
    return err;
}

/* The device's row says where the data directory is now. */
static enum err device_record(struct fs_client *client, const char *identity, const char *location)
{
    struct value key = value_u64(DEVICE_FIRST);
    uint16_t slot;
    enum err err = table_slot(client_table(client, TABLE_DEVICE), &key, &slot);
    if (err) return err;
    struct retry retry = {0};
    do {
        struct program *program = client_begin(client, slot);
        const struct operand values[DEVICE_COLUMNS] = {
            [DEVICE_ID] = operand_u64(DEVICE_FIRST),
            [DEVICE_KIND] = operand_u64(DEVICE_DIRECTORY),
            [DEVICE_POOL] = operand_u64(POOL_FIRST),
            [DEVICE_IDENTITY] = operand_value(value_text(identity)),
            [DEVICE_LOCATION] = operand_value(value_text(location)),
        };
        (void)program_upsert(program, client_table(client, TABLE_DEVICE), values);
        set_value(program, DEVICE_LOCATION, value_text(location));
        err = client_run(client);
    } while (client_again(client, &retry, &err));
    return err;
}

static enum err root_insert(struct fs_client *client)
{
    int64_t now = fs_now();
    struct fs_attr root = {
        .ino = FS_ROOT_INO,
        .atime_ns = now,
        .mtime_ns = now,
        .ctime_ns = now,
        .btime_ns = now,
        .parent = FS_ROOT_INO,
        .mode = S_IFDIR | 0755,
        .uid = geteuid(),
        .gid = getegid(),
        .nlink = 2,
        .generation = client->fs->life,
    };
    struct fs_attr attr;
    struct retry retry = {0};
    enum err err;
    do {
        err = inode_read(client, FS_ROOT_INO, &attr);
        if (err == ERR_ESTALE) {
            (void)client_begin(client, 0);
            insert_inode(client, &root);
            usage_add(client, 0, &root);
            err = client_run(client);
        }
    } while (client_again(client, &retry, &err));
    return err;
}

static enum err layout_insert(struct fs_client *client)
{
    struct value key = value_u64(LAYOUT_FIRST);
    const struct operand values[LAYOUT_CLASS_COLUMNS] = {
        [LAYOUT_CLASS_ID] = operand_u64(LAYOUT_FIRST), [LAYOUT_CLASS_STRIPE_UNIT] = operand_u64(0),
        [LAYOUT_CLASS_WIDTH] = operand_u64(1),         [LAYOUT_CLASS_MIRRORS] = operand_u64(1),
        [LAYOUT_CLASS_POOL] = operand_u64(POOL_FIRST),
    };
    return row_insert(client, TABLE_LAYOUT_CLASS, &key, values);
}

/* Device, life, root; then the threads and what former lives left to do. */
static enum err start_leased(struct fs *fs, struct fs_client *client,
                             const struct fs_config *config, struct diag *diag)
{
    char identity[DEVICE_IDENTITY_SIZE + 1];
    device_identity(fs, identity);
    bool known = false;
    enum err err = device_known(client, &known);
    if (err) return diag_set(diag, err, "cannot read the store's device: %s", err_text(err));
    err = device_open(config->data_dir, identity, !known, &fs->device, diag);
    if (err) return err;
    uint32_t unclean = 0;
    err = life_begin(client, &unclean);
    if (!err) err = root_insert(client);
    if (!err) err = layout_insert(client);
    if (!err) err = device_record(client, identity, config->data_dir);
    if (!err) err = client_flush(client);
    if (!err) err = io_create(fs, config->io_threads);
    if (!err) err = background_create(fs, unclean);
    if (!err) err = orphan_recover(client);
    return err ? diag_set(diag, err, "cannot start the file system: %s", err_text(err)) : ERR_NONE;
}

static enum err fs_start(struct fs *fs, struct fs_client *client, const struct fs_config *config,
                         struct diag *diag)
{
    enum err err = lease_acquire(client, config, diag);
    if (err) return err;
    err = start_leased(fs, client, config, diag);
    if (!err) return ERR_NONE;
    /* What it had begun ends under the lease, which is given back so that the next attempt need not
     * wait for its end. */
    (void)background_destroy(fs);
    io_destroy(fs);
    lease_stop(fs);
    (void)!lease_release(client);
    return err;
}

static void fs_free(struct fs *fs)
{
    (void)background_destroy(fs);
    io_destroy(fs);
    lease_destroy(fs);
    open_table_destroy(fs->opens);
    nlookup_destroy(fs->nlookup);
    device_close(fs->device);
    free(fs);
}

enum err fs_open(const struct fs_config *config, struct fs **ret_fs, struct diag *diag)
{
    struct fs *fs = calloc(1, sizeof(*fs));
    if (!fs) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    fs->db = config->db;
    fs->partition_mask = db_partition_count(config->db) - 1u;
    fs->relatime = config->relatime;
    fs->name_hash_mask = UINT64_MAX;
    db_store_key(config->db, fs->name_key);
    struct db_client *db = NULL;
    struct fs_client *client = NULL;
    enum err err = nlookup_create(&fs->nlookup);
    if (!err) err = open_table_create(&fs->opens);
    if (!err) err = db_client_create(config->db, &db);
    if (err) {
        (void)diag_set(diag, err, "%s", err_text(err));
        goto free_fs;
    }
    err = tables_create(db, diag);
    if (err) goto destroy_client;
    err = fs_client_create(fs, db, &client);
    if (err)
        (void)diag_set(diag, err, "%s", err_text(err));
    else
        err = fs_start(fs, client, config, diag);
destroy_client:
    fs_client_destroy(client);
    db_client_destroy(db);
free_fs:
    if (err)
        fs_free(fs);
    else
        *ret_fs = fs;
    return err;
}

enum err fs_close(struct fs *fs, struct diag *diag)
{
    bool swept = background_destroy(fs);
    io_destroy(fs);
    struct db_client *db = NULL;
    struct fs_client *client = NULL;
    enum err err = db_client_create(fs->db, &db);
    if (!err) err = fs_client_create(fs, db, &client);
    if (!err) err = fs_sync(client);
    if (!err) err = device_sync(fs->device);
    /* From here on a crash takes nothing back. */
    if (!err && swept) err = life_clean(client, fs->life);
    if (!err) err = client_flush(client);
    lease_stop(fs);
    if (!err) err = lease_release(client);
    if (!err) err = client_flush(client);
    fs_client_destroy(client);
    db_client_destroy(db);
    if (err) (void)diag_set(diag, err, "what was written last may be lost: %s", err_text(err));
    fs_free(fs);
    return err;
}

enum err fs_path_find(struct db_client *db, const char *path, struct fs_attr *ret_attr)
{
    struct fs *fs = calloc(1, sizeof(*fs));
    if (!fs) return ERR_NO_MEMORY;
    fs->db = db_client_db(db);
    fs->partition_mask = db_partition_count(fs->db) - 1u;
    fs->name_hash_mask = UINT64_MAX;
    db_store_key(fs->db, fs->name_key);
    struct fs_client *client = NULL;
    enum err err = open_table_create(&fs->opens);
    if (!err) err = fs_client_create(fs, db, &client);
    if (!err) err = fs_path_lookup(client, path, ret_attr);
    fs_client_destroy(client);
    open_table_destroy(fs->opens);
    free(fs);
    return err;
}

void fs_forget(struct fs_client *client, uint64_t ino, uint64_t count)
{
    if (ino == 0 || ino >> INO_BITS) return;
    if (nlookup_forget(client->fs->nlookup, ino, count)) orphan_purge_later(client->fs, ino);
}

void fs_remember(struct fs_client *client, const uint64_t *inos, uint32_t count)
{
    nlookup_add_each(client->fs->nlookup, inos, count);
}
