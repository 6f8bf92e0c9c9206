/* Reading directories.
 *
 * Entries come in the order of (hash, name) straight from the primary key of `dentry`, some at a
 * time, so a directory of any size streams. The cookie of an entry is its hash plus its rank among
 * the names with the same hash (0 but in about one directory in a million of a million names; see
 * names.c). Reading behind a cookie starts at its hash and skips what was already given; entries
 * made or removed in between move no other entry, except within such a group.
 *
 * With attributes, the inodes on the same worker come with the scan; the others (subdirectories,
 * mostly) are read after it. */
#include <string.h>

#include "metadata/open.h"

enum { BATCH_ROWS_MAX = 1024 };
enum { COOKIE_DOT = 1, COOKIE_DOT_DOT = 2 };

/* What a listing shows of an inode. Each column is a cache line that probably nobody else has asked
 * for: those that no listing shows are left out. */
static const uint16_t listed_columns[] = {
    INODE_INO,  INODE_TYPE,   INODE_MODE,  INODE_UID,   INODE_GID,   INODE_NLINK,      INODE_SIZE,
    INODE_RDEV, INODE_BLOCKS, INODE_ATIME, INODE_MTIME, INODE_CTIME, INODE_GENERATION,
};
enum listed {
    LISTED_INO,
    LISTED_TYPE,
    LISTED_MODE,
    LISTED_UID,
    LISTED_GID,
    LISTED_NLINK,
    LISTED_SIZE,
    LISTED_RDEV,
    LISTED_BLOCKS,
    LISTED_ATIME,
    LISTED_MTIME,
    LISTED_CTIME,
    LISTED_GENERATION,
    LISTED_COLUMNS
};
_Static_assert(ARRAY_SIZE(listed_columns) == LISTED_COLUMNS, "the enum names the columns");

static void listed_decode(const struct value *values, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .ino = values[LISTED_INO].u,
        .size = values[LISTED_SIZE].u,
        .blocks = values[LISTED_BLOCKS].u,
        .atime_ns = values[LISTED_ATIME].i,
        .mtime_ns = values[LISTED_MTIME].i,
        .ctime_ns = values[LISTED_CTIME].i,
        .mode = type_mode((enum fs_type)values[LISTED_TYPE].u) | (uint32_t)values[LISTED_MODE].u,
        .uid = (uint32_t)values[LISTED_UID].u,
        .gid = (uint32_t)values[LISTED_GID].u,
        .nlink = (uint32_t)values[LISTED_NLINK].u,
        .rdev = (uint32_t)values[LISTED_RDEV].u,
        .generation = (uint32_t)values[LISTED_GENERATION].u,
    };
}

struct listing {
    uint64_t ino;
    bool plus;
    struct fs_dirent *entries;
    uint32_t count_max;
    uint32_t count;
    uint64_t cookie; /* of the last entry */
    bool end;
    bool untouched; /* the access time could not be changed: read without */
    uint64_t epoch;
};

static const char *keep_name(struct fs_client *client, const void *bytes, uint32_t size)
{
    return arena_copy(&client->arena, bytes, size);
}

/* An entry's attributes are complete when nothing was reported since the epoch; else they are read
 * again. */
static void entry_overlay(struct fs_client *client, const struct listing *listing,
                          struct fs_dirent *entry)
{
    if (!entry->has_attr) return;
    if (!open_overlay(client->fs, listing->epoch, &entry->attr))
        entry->has_attr = fs_getattr(client, entry->ino, &entry->attr) == ERR_NONE;
    attr_publish(&entry->attr);
}

/* "." and "..", as far as they are wanted, from the directory's row. */
static enum err add_dots(struct listing *listing, const struct fs_attr *attr)
{
    for (uint64_t cookie = COOKIE_DOT; cookie <= COOKIE_DOT_DOT; cookie++) {
        if (listing->cookie >= cookie || listing->count == listing->count_max) continue;
        bool dot = cookie == COOKIE_DOT;
        listing->entries[listing->count++] = (struct fs_dirent){
            .ino = dot ? attr->ino : attr->parent,
            .cookie = cookie,
            .name = dot ? "." : "..",
            .name_size = dot ? 1 : 2,
            .type = FS_DIR,
            .has_attr = dot && listing->plus,
            .attr = *attr,
        };
        listing->cookie = cookie;
    }
    return ERR_NONE;
}

struct batch {
    uint8_t row; /* step that read the directory's inode, when it did */
    uint8_t scan;
    uint32_t limit;
    uint64_t hash; /* where it starts */
    uint32_t skip; /* so many entries with this very hash were given before */
};

static struct batch batch_begin(struct fs_client *client, const struct listing *listing)
{
    struct program *program = client_begin(client, ino_home(listing->ino));
    struct batch batch = {.hash = listing->cookie};
    if (listing->cookie < COOKIE_DOT_DOT) {
        struct operand key = operand_u64(listing->ino);
        batch.row = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
        guard_equal(program, batch.row, INODE_TYPE, FS_DIR, ERR_ENOTDIR);
        program_output(program, attr_columns, ATTR_COLUMN_COUNT);
        if (client->fs->relatime && listing->cookie == 0 && !listing->untouched)
            touch_atime(client, batch.row, listing->ino, fs_now());
    }
    if (listing->cookie <= COOKIE_DOT_DOT) {
        batch.hash = 0;
    } else {
        batch.hash = listing->cookie & ~(uint64_t)NAME_RANK_MAX;
        batch.skip = (uint32_t)(listing->cookie & NAME_RANK_MAX) + 1;
    }
    uint32_t wanted = listing->count_max - listing->count;
    if (wanted > BATCH_ROWS_MAX) wanted = BATCH_ROWS_MAX;
    batch.limit = wanted + batch.skip;
    const struct operand key = operand_u64(listing->ino);
    const struct operand after = operand_u64(batch.hash);
    batch.scan = program_scan(program, client_table(client, TABLE_DENTRY), 0, &key, 1, &after, 1,
                              true, batch.limit);
    const uint16_t columns[] = {DENTRY_HASH, DENTRY_NAME, DENTRY_INO, DENTRY_TYPE};
    program_output(program, columns, ARRAY_SIZE(columns));
    if (listing->plus)
        program_scan_lookup(program, client_table(client, TABLE_INODE), DENTRY_INO, listed_columns,
                            LISTED_COLUMNS);
    return batch;
}

/* One row of the scan becomes an entry. */
static enum err add_entry(struct fs_client *client, struct listing *listing,
                          const struct value *values, uint64_t cookie)
{
    const struct value *attr = values + 4;
    struct fs_dirent *entry = &listing->entries[listing->count];
    entry->ino = values[2].u;
    entry->cookie = cookie;
    entry->name = keep_name(client, values[1].bytes, values[1].size);
    entry->name_size = values[1].size;
    entry->type = (uint8_t)values[3].u;
    entry->has_attr = listing->plus && !value_is_null(attr[LISTED_INO]);
    if (!entry->name) return ERR_NO_MEMORY;
    if (entry->has_attr) listed_decode(attr, &entry->attr);
    listing->count++;
    listing->cookie = cookie;
    return ERR_NONE;
}

static enum err add_rows(struct fs_client *client, struct listing *listing,
                         const struct batch *batch)
{
    uint64_t hash = 0;
    uint64_t rank = 0;
    uint32_t at = 0;
    const struct value *values;
    for (; (values = program_row(&client->reply, batch->scan, at)) != NULL; at++) {
        if (values[1].kind != KIND_STR) return ERR_EIO;
        rank = values[0].u == hash ? rank + 1 : 0;
        hash = values[0].u;
        if (hash == batch->hash && rank < batch->skip) continue;
        if (listing->count == listing->count_max) return ERR_NONE;
        uint64_t cookie = hash | (rank < NAME_RANK_MAX ? rank : NAME_RANK_MAX);
        enum err err = add_entry(client, listing, values, cookie);
        if (err) return err;
    }
    if (at < batch->limit) listing->end = true;
    return ERR_NONE;
}

static enum err list_attempt(struct fs_client *client, struct listing *listing)
{
    struct batch batch = batch_begin(client, listing);
    listing->epoch = open_epoch(client->fs);
    uint32_t first = listing->count;
    bool dots = listing->cookie < COOKIE_DOT_DOT;
    enum err err = client_run(client);
    if (err) return err;
    if (dots) {
        const struct value *row = client_row(client, batch.row);
        if (!row) return ERR_EIO;
        struct fs_attr attr;
        attr_decode(row, &attr);
        err = add_dots(listing, &attr);
        /* The batch asked for too many entries, not for too few. */
        if (!err && listing->count == listing->count_max) return ERR_NONE;
    }
    if (!err) err = add_rows(client, listing, &batch);
    for (uint32_t i = first; !err && listing->plus && i < listing->count; i++)
        entry_overlay(client, listing, &listing->entries[i]);
    return err;
}

/* ---- inodes of other workers ---- */

static enum err read_remote(struct fs_client *client, struct listing *listing)
{
    enum { BATCH = 48 };
    uint64_t inos[BATCH];
    struct fs_dirent *entries[BATCH];
    struct fs_attr attrs[BATCH];
    bool found[BATCH];
    for (uint32_t at = 0; at < listing->count;) {
        size_t count = 0;
        for (; at < listing->count && count < BATCH; at++) {
            struct fs_dirent *entry = &listing->entries[at];
            if (entry->has_attr || entry->cookie <= COOKIE_DOT_DOT) continue;
            entries[count] = entry;
            inos[count++] = entry->ino;
        }
        listing->epoch = open_epoch(client->fs);
        enum err err = inodes_read(client, inos, count, attrs, found);
        if (err) return err;
        for (size_t i = 0; i < count; i++) {
            if (!found[i]) continue; /* removed meanwhile */
            entries[i]->attr = attrs[i];
            entries[i]->has_attr = true;
            entry_overlay(client, listing, entries[i]);
        }
    }
    return ERR_NONE;
}

enum err fs_readdir(struct fs_client *client, uint64_t ino, uint64_t cookie, bool plus,
                    struct fs_dirent *entries, uint32_t count, uint32_t *ret_count)
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct listing listing = {
        .ino = ino, .plus = plus, .entries = entries, .count_max = count, .cookie = cookie};
    arena_reset(&client->arena);
    enum err err = ERR_NONE;
    bool missing = false;
    while (!err && !listing.end && listing.count < count) {
        struct retry retry = {0};
        do
            err = list_attempt(client, &listing);
        while (client_again(client, &retry, &err));
        /* A store that takes no changes (a full disk) can still be read. */
        if (err && listing.cookie == 0 && !listing.untouched) {
            listing.untouched = true;
            err = ERR_NONE;
        }
    }
    for (uint32_t i = 0; plus && i < listing.count; i++)
        missing |= !entries[i].has_attr && entries[i].cookie > COOKIE_DOT_DOT;
    if (!err && missing) err = read_remote(client, &listing);
    if (err) return err;
    *ret_count = listing.count;
    return ERR_NONE;
}
