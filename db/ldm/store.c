/* Superblock and catalog of a store, and how a store comes into being.
 *
 *     trellis      the superblock: a frame (store_format.h) with the body
 *                      u16 partition count, u16 x 3 zero, key[16]
 *                  The store id is in the frame. Written once.
 *     catalog      a frame with the encoded catalog (db/wire/schema.h); replaced at every DDL
 *     lock         whoever serves the store locks it: not ours, it needs a process
 *     redo/        history (redo_history.c), segments and notes of lives (redo_format.c)
 *     checkpoint/  checkpoints (checkpoint_format.c)
 *
 * A store exists when its superblock does: everything else is made and synced before it, so a crash
 * while it is made leaves a directory that is not a store and that can be made one by the next
 * attempt, which knows the leftovers. For anything else in the directory we refuse: it belongs to
 * somebody. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/redo_history.h"
#include "db/ldm/store_format.h"

enum { SUPERBLOCK_BODY_SIZE = 24 };
static const char superblock_path[] = "trellis";
static const char catalog_path[] = "catalog";

/* ---- what may already be in the directory ---- */

struct leftovers {
    struct diag *diag;
    bool in_redo;
};

static enum err leftover_refuse(struct diag *diag, const char *dir, const char *name)
{
    return diag_set(diag, ERR_EXISTS, "the directory is not empty: it holds %s%.64s", dir, name);
}

static enum err root_listed(void *context, const char *name)
{
    struct leftovers *left = context;
    /* Ours from an interrupted attempt; the lock of whoever is making the store; and what the
     * root of a fresh file system holds. */
    static const char *const known[] = {"redo",        "checkpoint", "catalog",   "catalog.tmp",
                                        "trellis.tmp", "lock",       "lost+found"};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (!strcmp(name, known[i])) return ERR_NONE;
    return leftover_refuse(left->diag, "", name);
}

static enum err inner_listed(void *context, const char *name)
{
    struct leftovers *left = context;
    if (left->in_redo && (!strcmp(name, "history") || !strcmp(name, "history.tmp")))
        return ERR_NONE;
    return leftover_refuse(left->diag, left->in_redo ? "redo/" : "checkpoint/", name);
}

static enum err dir_list_checked(struct env *env, const char *path,
                                 enum err (*each)(void *context, const char *name),
                                 struct leftovers *left)
{
    enum err err = env->ops->dir_list(env, path, each, left);
    if (err == ERR_NONE || err == ERR_EXISTS) return err;
    return store_failed(left->diag, err, path);
}

/* Makes the directory, or finds it without anything that we did not put there. */
static enum err dir_prepare(struct env *env, const char *path, struct leftovers *left)
{
    enum err err = env->ops->dir_create(env, path);
    if (err == ERR_EXISTS) return dir_list_checked(env, path, inner_listed, left);
    return err ? store_failed(left->diag, err, path) : ERR_NONE;
}

/* ---- superblock ---- */

static bool partition_count_is_valid(uint16_t count)
{
    return count >= 1 && count <= PARTITIONS_MAX && (count & (count - 1)) == 0;
}

static enum err superblock_write(struct env *env, const struct store_info *info, struct diag *diag)
{
    struct buf body, file;
    buf_init(&body);
    buf_init(&file);
    buf_put_u16(&body, info->partition_count);
    buf_put(&body, (const uint8_t[6]){0}, 6);
    buf_put(&body, info->key, sizeof(info->key));
    if (!body.failed) store_frame_put(&file, STORE_SUPERBLOCK, info->id, body.bytes, body.size);
    file.failed |= body.failed;
    enum err err = store_file_replace(env, ".", superblock_path, &file, NULL, diag);
    buf_fini(&body);
    buf_fini(&file);
    return err;
}

enum err store_read_info(struct env *env, struct store_info *ret_info, struct diag *diag)
{
    struct buf file;
    buf_init(&file);
    enum err err =
        store_file_read(env, superblock_path, STORE_FRAME_SIZE + STORE_BODY_SIZE_MAX, &file, diag);
    if (err == ERR_NOT_FOUND)
        err =
            diag_set(diag, ERR_INVALID, "there is no store here: no file \"%s\"", superblock_path);
    if (err) goto free_file;
    struct reader reader = reader_of(file.bytes, file.size);
    const uint8_t *body;
    size_t size;
    err = store_frame_get(&reader, STORE_SUPERBLOCK, NULL, superblock_path, 0, &body, &size, diag);
    if (err) goto free_file;
    if (size != SUPERBLOCK_BODY_SIZE || reader_left(&reader)) {
        err = store_damaged(diag, superblock_path, STORE_FRAME_SIZE, "the size is wrong");
        goto free_file;
    }
    struct store_info info = {.format_version = STORE_FORMAT_VERSION};
    memcpy(info.id, store_frame_id(file.bytes), sizeof(info.id));
    reader = reader_of(body, size);
    info.partition_count = reader_u16(&reader);
    reader_take(&reader, 6);
    memcpy(info.key, reader_take(&reader, sizeof(info.key)), sizeof(info.key));
    if (!partition_count_is_valid(info.partition_count)) {
        err = store_damaged(diag, superblock_path, STORE_FRAME_SIZE, "%u partitions",
                            (unsigned)info.partition_count);
        goto free_file;
    }
    *ret_info = info;

free_file:
    buf_fini(&file);
    return err;
}

/* ---- catalog ---- */

static enum err catalog_write(struct env *env, const struct store_info *info,
                              const struct catalog *catalog, bool *ret_renamed, struct diag *diag)
{
    *ret_renamed = false;
    struct buf body, file;
    buf_init(&body);
    buf_init(&file);
    catalog_encode(catalog, &body);
    enum err err;
    if (!body.failed && body.size > STORE_BODY_SIZE_MAX) {
        err = store_failed(diag, ERR_TOO_BIG, catalog_path);
        goto free_bufs;
    }
    if (!body.failed) store_frame_put(&file, STORE_CATALOG, info->id, body.bytes, body.size);
    file.failed |= body.failed;
    err = store_file_replace(env, ".", catalog_path, &file, ret_renamed, diag);

free_bufs:
    buf_fini(&body);
    buf_fini(&file);
    return err;
}

static enum err catalog_read(struct env *env, const struct store_info *info,
                             struct catalog **ret_catalog, struct diag *diag)
{
    struct buf file;
    buf_init(&file);
    enum err err =
        store_file_read(env, catalog_path, STORE_FRAME_SIZE + STORE_BODY_SIZE_MAX, &file, diag);
    if (err == ERR_NOT_FOUND) err = store_damaged(diag, catalog_path, 0, "the file is missing");
    if (err) goto free_file;
    struct reader reader = reader_of(file.bytes, file.size);
    const uint8_t *body;
    size_t size;
    err = store_frame_get(&reader, STORE_CATALOG, info->id, catalog_path, 0, &body, &size, diag);
    if (err) goto free_file;
    if (reader_left(&reader)) {
        err = store_damaged(diag, catalog_path, STORE_FRAME_SIZE + size,
                            "bytes follow the end of the content");
        goto free_file;
    }
    reader = reader_of(body, size);
    struct catalog *catalog;
    err = catalog_decode(&reader, &catalog);
    if (!err && reader_left(&reader)) {
        catalog_destroy(catalog);
        err = ERR_CORRUPT;
    }
    if (err == ERR_CORRUPT)
        err = store_damaged(diag, catalog_path, STORE_FRAME_SIZE + (uint64_t)(reader.next - body),
                            "the table definitions are malformed");
    else if (err)
        err = store_failed(diag, err, catalog_path);
    else
        *ret_catalog = catalog;

free_file:
    buf_fini(&file);
    return err;
}

/* ---- public ---- */

enum err store_create(struct env *env, uint16_t partition_count, struct diag *diag)
{
    if (!partition_count_is_valid(partition_count))
        return diag_set(diag, ERR_INVALID,
                        "the number of partitions must be a power of two up to %d, not %u",
                        PARTITIONS_MAX, (unsigned)partition_count);
    struct leftovers left = {.diag = diag};
    enum err err = dir_list_checked(env, ".", root_listed, &left);
    if (err) return err;
    err = dir_prepare(env, "checkpoint", &left);
    if (err) return err;
    left.in_redo = true;
    err = dir_prepare(env, "redo", &left);
    if (err) return err;

    struct store_info info = {.format_version = STORE_FORMAT_VERSION,
                              .partition_count = partition_count};
    env->ops->random(env, info.id, sizeof(info.id));
    env->ops->random(env, info.key, sizeof(info.key));
    const struct history history = {.next_segment = 1};
    err = history_write(env, &info, &history, diag);
    if (err) return err;
    const struct catalog catalog = {.version = 1, .next_table_id = 1};
    bool renamed; /* no matter: without a superblock there is no store */
    err = catalog_write(env, &info, &catalog, &renamed, diag);
    if (err) return err;
    return superblock_write(env, &info, diag);
}

enum err store_open(struct env *env, struct store_info *ret_info, struct catalog **ret_catalog,
                    struct diag *diag)
{
    struct store_info info;
    enum err err = store_read_info(env, &info, diag);
    if (err) return err;
    err = catalog_read(env, &info, ret_catalog, diag);
    if (err) return err;
    *ret_info = info;
    return ERR_NONE;
}

enum err store_write_catalog(struct env *env, const struct catalog *catalog, struct diag *diag)
{
    struct store_info info;
    enum err err = store_read_info(env, &info, diag);
    if (err) return err;
    bool renamed;
    err = catalog_write(env, &info, catalog, &renamed, diag);
    if (err && renamed) err = diag->err = ERR_OUTCOME_UNKNOWN;
    return err;
}
