/* Purging inodes without a name, and cutting truncated objects.
 *
 * The order that loses nothing and leaves nothing behind, whenever the power goes:
 *
 *   1. the transaction that removes the last link makes the row in `orphan`;
 *   2. when nobody refers to the inode any more it is queued, and a batch begins with a flush, if
 * it has any object: the removal of the names is on disk;
 *   3. the objects are removed;
 *   4. one program removes the inode's rows, the orphan row among them, and takes it off usage.
 *
 * A crash before 2 may bring the name back, with its object; a crash after it finds the orphan row
 * and goes on with 3. The same holds for cuts (data.c). */
#include "metadata/orphan.h"

#include <stdlib.h>

#include "metadata/device.h"
#include "metadata/io.h"
#include "metadata/open.h"

enum {
    PURGE_STEPS_EACH = 5,
    PURGE_PROGRAM_MAX = PROGRAM_STEPS_MAX / PURGE_STEPS_EACH,
    XATTR_BATCH = 48
};

void orphan_insert(struct fs_client *client, struct operand key, struct operand since)
{
    struct program *program = &client->program;
    /* One is there already when a cut is due; it then says so still. */
    const struct operand values[ORPHAN_COLUMNS] = {
        [ORPHAN_INO] = key,
        [ORPHAN_SIZE] = operand_u64(TRUNCATE_NONE),
        [ORPHAN_SINCE] = since,
    };
    (void)program_insert(program, client_table(client, TABLE_ORPHAN), values, ERR_EEXIST);
    program_flags(program, STEP_OPTIONAL | STEP_FREES);
}

/* ---- purging ---- */

/* Some of the extended attributes of an orphan; *ret_more: there may be others. */
static enum err purge_xattrs(struct fs_client *client, uint64_t ino, bool *ret_more)
{
    const struct table_def *table = client_table(client, TABLE_XATTR);
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    uint8_t scan = program_scan(program, table, 0, &key, 1, NULL, 0, true, XATTR_BATCH);
    const uint16_t columns[] = {XATTR_NAME};
    program_output(program, columns, 1);
    enum err err = client_run(client);
    if (err) return err;
    /* The names lie in the reply, which the next run overwrites. */
    arena_reset(&client->arena);
    struct value names[XATTR_BATCH];
    uint32_t count = 0;
    const struct value *row;
    for (; count < XATTR_BATCH && (row = program_row(&client->reply, scan, count)); count++) {
        const char *name = arena_copy(&client->arena, row[0].bytes, row[0].size);
        if (!name) return ERR_NO_MEMORY;
        names[count] = value_str(name, row[0].size);
    }
    *ret_more = count == XATTR_BATCH;
    if (count == 0) return ERR_NONE;
    (void)client_begin(client, ino_home(ino));
    for (uint32_t i = 0; i < count; i++) {
        const struct operand keys[] = {key, operand_value(names[i])};
        (void)program_delete(program, table, keys, ERR_NONE);
        program_flags(program, STEP_OPTIONAL);
    }
    return client_run(client);
}

static enum err purge_xattrs_all(struct fs_client *client, uint64_t ino)
{
    enum err err;
    bool more = false;
    do {
        struct retry retry = {0};
        do
            err = purge_xattrs(client, ino, &more);
        while (client_again(client, &retry, &err));
    } while (!err && more);
    return err;
}

static void add_purge(struct fs_client *client, const struct fs_attr *attr)
{
    struct program *program = &client->program;
    struct operand key = operand_u64(attr->ino);
    uint8_t row = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    guard_equal(program, row, INODE_NLINK, 0, ERR_ESTALE);
    usage_remove(client, ino_home(attr->ino), row);
    (void)program_delete(program, client_table(client, TABLE_ORPHAN), &key, ERR_NONE);
    program_flags(program, STEP_OPTIONAL);
    if (S_ISLNK(attr->mode)) {
        (void)program_delete(program, client_table(client, TABLE_SYMLINK), &key, ERR_NONE);
        program_flags(program, STEP_OPTIONAL);
    }
    (void)program_delete(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
}

/* Inodes of one home, in one program. */
static enum err purge_rows(struct fs_client *client, const struct fs_attr *attrs, size_t count)
{
    struct retry retry = {0};
    enum err err;
    do {
        (void)client_begin(client, ino_home(attrs[0].ino));
        for (size_t i = 0; i < count; i++)
            add_purge(client, &attrs[i]);
        err = client_run(client);
    } while (client_again(client, &retry, &err));
    return err;
}

static int compare_attr(const void *a, const void *b)
{
    uint64_t x = ((const struct fs_attr *)a)->ino;
    uint64_t y = ((const struct fs_attr *)b)->ino;
    return (x > y) - (x < y);
}

/* Rows of all, sorted by number, a program for each group of one home. One that fails does not keep
 * its neighbours. */
static enum err purge_groups(struct fs_client *client, const struct fs_attr *attrs, size_t count)
{
    enum err result = ERR_NONE;
    for (size_t at = 0; at < count;) {
        size_t size = 1;
        while (at + size < count && size < PURGE_PROGRAM_MAX &&
               ino_home(attrs[at + size].ino) == ino_home(attrs[at].ino))
            size++;
        enum err err = purge_rows(client, attrs + at, size);
        if (err && size > 1) {
            err = ERR_NONE;
            for (size_t i = 0; i < size; i++) {
                enum err one = purge_rows(client, attrs + at + i, 1);
                if (one && one != ERR_ESTALE) err = one;
            }
        }
        if (err && err != ERR_ESTALE) result = err;
        at += size;
    }
    return result;
}

/* Keeps those that may be purged now; what they have besides rows goes. */
static enum err purge_prepare(struct fs_client *client, struct fs_attr *attrs, size_t *count)
{
    struct device *device = client->fs->device;
    bool objects = false;
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (attrs[i].nlink != 0 || !nlookup_is_free(client->fs->nlookup, attrs[i].ino)) continue;
        struct object_id id = {.ino = attrs[i].ino, .life = attrs[i].generation};
        objects = objects || (S_ISREG(attrs[i].mode) && object_exists(device, id));
        attrs[kept++] = attrs[i];
    }
    *count = kept;
    enum err err = objects ? client_flush(client) : ERR_NONE;
    if (err) return err;
    enum err result = ERR_NONE;
    kept = 0;
    for (size_t i = 0; i < *count; i++) {
        struct object_id id = {.ino = attrs[i].ino, .life = attrs[i].generation};
        err = objects && S_ISREG(attrs[i].mode) ? object_remove(device, id) : ERR_NONE;
        if (!err && (attrs[i].flags & INODE_HAS_XATTR))
            err = purge_xattrs_all(client, attrs[i].ino);
        if (err)
            result = err; /* this one stays an orphan */
        else
            attrs[kept++] = attrs[i];
    }
    *count = kept;
    return result;
}

enum err orphan_purge(struct fs_client *client, const uint64_t *inos, size_t count)
{
    struct fs_attr *attrs = calloc(count, sizeof(*attrs));
    bool *found = calloc(count, sizeof(*found));
    enum err err = attrs && found ? ERR_NONE : ERR_NO_MEMORY;
    if (!err) err = inodes_read(client, inos, count, attrs, found);
    if (!err) {
        size_t kept = 0;
        for (size_t i = 0; i < count; i++)
            if (found[i]) attrs[kept++] = attrs[i];
        err = purge_prepare(client, attrs, &kept);
        qsort(attrs, kept, sizeof(*attrs), compare_attr);
        enum err purged = purge_groups(client, attrs, kept);
        if (!err) err = purged;
    }
    free(found);
    free(attrs);
    return err;
}

/* ---- at the start ---- */

/* One page of a partition's orphans, behind *after. */
static enum err recover_page(struct fs_client *client, uint16_t partition, uint64_t *after,
                             bool *ret_more)
{
    enum { PAGE = 512 };
    struct retry retry = {0};
    uint64_t inos[PAGE];
    bool linked[PAGE];
    uint32_t count = 0;
    enum err err;
    do {
        struct program *program = client_begin(client, partition);
        const struct operand behind = operand_u64(*after);
        uint8_t scan = program_scan(program, client_table(client, TABLE_ORPHAN), 0, NULL, 0,
                                    &behind, 1, false, PAGE);
        const uint16_t columns[] = {ORPHAN_INO};
        program_output(program, columns, 1);
        const uint16_t links[] = {INODE_NLINK};
        program_scan_lookup(program, client_table(client, TABLE_INODE), ORPHAN_INO, links, 1);
        err = client_run(client);
        const struct value *row;
        for (count = 0; !err && (row = program_row(&client->reply, scan, count)); count++) {
            inos[count] = row[0].u;
            linked[count] = !value_is_null(row[1]) && row[1].u > 0;
        }
    } while (client_again(client, &retry, &err));
    for (uint32_t i = 0; i < count && !err; i++) {
        *after = inos[i];
        if (!linked[i]) {
            orphan_purge_later(client->fs, inos[i]);
            continue;
        }
        struct open_inode *inode;
        err = open_acquire(client, inos[i], &inode);
        if (err) break;
        background_cut_later(inode);
        open_put(inode);
    }
    *ret_more = count == PAGE;
    return err;
}

enum err orphan_recover(struct fs_client *client)
{
    for (uint32_t partition = 0; partition <= client->fs->partition_mask; partition++) {
        uint64_t after = 0;
        bool more = true;
        while (more) {
            enum err err = recover_page(client, (uint16_t)partition, &after, &more);
            if (err) return err;
        }
    }
    return ERR_NONE;
}
