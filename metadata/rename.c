/* rename(2), with RENAME_NOREPLACE and RENAME_EXCHANGE.
 *
 * Within a directory, to a name that is free, of an inode in the directory's partition: one
 * program. Everything else reads both entries, their inodes and directories, decides, and changes
 * all rows in one transaction under guards (change.h).
 *
 * No cycle can be made. A directory that gets another parent must not become its own ancestor, and
 * two such moves at once could do together what neither does alone. So each of them changes one
 * row, the counter "move", under the guard that it still has the value read before the ancestors
 * were walked. Only such moves change the parent of a directory; so when the guard holds, the
 * ancestors are at commit what they were on the walk. The loser of a race walks again. */
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

#include "metadata/change.h"
#include "metadata/life.h"
#include "metadata/orphan.h"

static const char move_counter[] = "move";

struct rename {
    const struct fs_caller *caller;
    uint64_t parent;
    uint64_t new_parent;
    struct name name;
    struct name new_name;
    unsigned flags;
    uint64_t orphan; /* out: replaced, and without a link now */
};

/* ---- one program ---- */

/* ERR_WRONG_PARTITION or ERR_EXISTS: this way does not do. */
static enum err rename_local(struct fs_client *client, const struct rename *rename)
{
    int64_t now = fs_now();
    struct program *program = client_begin(client, ino_home(rename->parent));
    const struct table_def *inode = client_table(client, TABLE_INODE);
    const struct table_def *dentry = client_table(client, TABLE_DENTRY);
    struct dentry_key key = dentry_key(rename->parent, &rename->name);
    uint8_t entry = program_delete(program, dentry, key.at, ERR_ENOENT);

    struct operand parent_key = operand_u64(rename->parent);
    const uint32_t protect = FS_IMMUTABLE_FL | FS_APPEND_FL;
    uint8_t directory = program_update(program, inode, &parent_key, ERR_ENOENT);
    guard_clear(program, directory, INODE_FLAGS, protect, ERR_EPERM);
    set_i64(program, INODE_MTIME, now);
    set_i64(program, INODE_CTIME, now);

    struct operand moved_key = operand_column(entry, DENTRY_INO);
    uint8_t moved = program_update(program, inode, &moved_key, ERR_EIO);
    guard_clear(program, moved, INODE_FLAGS, protect, ERR_EPERM);
    guard_sticky(program, directory, moved, rename->caller->uid);
    set_i64(program, INODE_CTIME, now);

    struct dentry_key new_key = dentry_key(rename->parent, &rename->new_name);
    const struct operand values[DENTRY_COLUMNS] = {
        [DENTRY_PARENT] = new_key.at[0],
        [DENTRY_HASH] = new_key.at[1],
        [DENTRY_NAME] = new_key.at[2],
        [DENTRY_INO] = moved_key,
        [DENTRY_TYPE] = operand_column(entry, DENTRY_TYPE),
    };
    enum err on_exists = rename->flags & RENAME_NOREPLACE ? ERR_EEXIST : ERR_EXISTS;
    (void)program_insert(program, dentry, values, on_exists);
    return client_run(client);
}

/* ---- the general way ---- */

/* Is `ino` the directory `from` or one of its ancestors? Walked from `from` up to the root. */
static enum err check_ancestors(struct fs_client *client, uint64_t from, uint64_t ino)
{
    while (from != ino) {
        if (from == FS_ROOT_INO) return ERR_NONE;
        struct fs_attr attr;
        enum err err = inode_read(client, from, &attr);
        if (err) return err == ERR_ESTALE ? ERR_STALE : err;
        if (attr.nlink == 0) return ERR_ENOENT; /* removed while we hold it */
        from = attr.parent;
    }
    return ERR_EINVAL;
}

static enum err rename_check(const struct rename *rename, const struct found *from,
                             const struct found *to)
{
    bool exchange = (rename->flags & RENAME_EXCHANGE) != 0;
    enum err err = check_removal(rename->caller, from);
    if (!err) err = to->present ? check_removal(rename->caller, to) : check_addition(&to->parent);
    if (err || !to->present || exchange) return err;
    bool from_dir = S_ISDIR(from->attr.mode);
    bool to_dir = S_ISDIR(to->attr.mode);
    if (from_dir && !to_dir) return ERR_ENOTDIR;
    if (!from_dir && to_dir) return ERR_EISDIR;
    if (to_dir && (to->attr.nlink > 2 || to->attr.ino == rename->parent)) return ERR_ENOTEMPTY;
    return ERR_NONE;
}

/* The moved inode: its ctime, and its parent when that changes. */
static void add_moved(struct change *change, const struct fs_attr *attr, uint64_t from, uint64_t to)
{
    bool is_dir = S_ISDIR(attr->mode);
    struct change_inode *inode = change_inode(change, attr->ino, is_dir);
    inode->guard_alive = true;
    inode->guard_flags = true;
    inode->flags = attr->flags;
    if (from == to) return;
    inode->set_parent = is_dir || attr->parent == from || attr->parent == 0;
    inode->parent = to;
    if (!is_dir) return;
    change_parent(change, from)->nlink_delta--;
    change_parent(change, to)->nlink_delta++;
}

/* The inode that another one takes the place of. True: it loses its last link. */
static bool add_replaced(struct change *change, const struct fs_attr *attr, uint64_t parent)
{
    bool is_dir = S_ISDIR(attr->mode);
    struct change_inode *inode = change_inode(change, attr->ino, is_dir);
    inode->guard_nlink = true;
    inode->nlink = attr->nlink;
    inode->guard_flags = true;
    inode->flags = attr->flags;
    inode->guard_empty = is_dir;
    inode->nlink_zero = is_dir || attr->nlink == 1;
    inode->nlink_delta = -1;
    inode->set_parent = !inode->nlink_zero && attr->parent == parent;
    if (is_dir) change_parent(change, parent)->nlink_delta--;
    return inode->nlink_zero;
}

/* Moves that give a directory another parent: the ancestors, and the counter that keeps them as
 * they are. */
static enum err add_move(struct fs_client *client, const struct rename *rename,
                         const struct found *from, const struct found *to, struct change *change)
{
    bool exchange = (rename->flags & RENAME_EXCHANGE) != 0;
    bool from_dir = S_ISDIR(from->attr.mode);
    bool to_dir = exchange && S_ISDIR(to->attr.mode);
    if (rename->parent == rename->new_parent || (!from_dir && !to_dir)) return ERR_NONE;
    enum err err = counter_read(client, move_counter, &change->counter_value);
    change->counter = move_counter;
    if (!err && from_dir) err = check_ancestors(client, rename->new_parent, from->attr.ino);
    if (!err && to_dir) err = check_ancestors(client, rename->parent, to->attr.ino);
    return err;
}

static enum err check_links(const struct change *change, const struct fs_attr *parent)
{
    for (uint32_t i = 0; i < change->inode_count; i++) {
        const struct change_inode *inode = &change->inodes[i];
        if (inode->ino == parent->ino && inode->nlink_delta > 0 && parent->nlink >= FS_LINK_MAX)
            return ERR_EMLINK;
    }
    return ERR_NONE;
}

static enum err rename_attempt(struct fs_client *client, struct rename *rename)
{
    struct found from;
    struct found to;
    enum err err = find_entry(client, rename->parent, &rename->name, &from);
    if (err) return err;
    if (!from.present) return ERR_ENOENT;
    err = find_entry(client, rename->new_parent, &rename->new_name, &to);
    if (err) return err;
    bool exchange = (rename->flags & RENAME_EXCHANGE) != 0;
    if (to.present && (rename->flags & RENAME_NOREPLACE)) return ERR_EEXIST;
    if (!to.present && exchange) return ERR_ENOENT;
    struct change change = {.now = fs_now()};
    err = add_move(client, rename, &from, &to, &change);
    if (err) return err;
    if (to.present && to.attr.ino == from.attr.ino)
        return ERR_NONE; /* the same file: nothing happens */
    err = rename_check(rename, &from, &to);
    if (err) return err;

    (void)change_parent(&change, rename->parent);
    (void)change_parent(&change, rename->new_parent);
    add_moved(&change, &from.attr, rename->parent, rename->new_parent);
    bool orphan = false;
    if (exchange)
        add_moved(&change, &to.attr, rename->new_parent, rename->parent);
    else if (to.present)
        orphan = add_replaced(&change, &to.attr, rename->new_parent);
    err = check_links(&change, &to.parent);
    if (!err && exchange) err = check_links(&change, &from.parent);
    if (err) return err;

    struct change_dentry *old = change_dentry(&change, exchange ? DENTRY_REPLACE : DENTRY_DELETE,
                                              rename->parent, &rename->name);
    old->old_ino = from.attr.ino;
    if (exchange) {
        old->ino = to.attr.ino;
        old->type = attr_type(&to.attr);
    }
    struct change_dentry *new = change_dentry(&change, to.present ? DENTRY_REPLACE : DENTRY_INSERT,
                                              rename->new_parent, &rename->new_name);
    new->old_ino = to.attr.ino;
    new->ino = from.attr.ino;
    new->type = attr_type(&from.attr);
    err = change_run(client, &change);
    if (err) return err;
    rename->orphan = orphan ? to.attr.ino : 0;
    return ERR_NONE;
}

static bool same_name(const struct name *a, const struct name *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

enum err fs_rename(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                   const char *name, uint64_t new_parent, const char *new_name, unsigned flags)
{
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) return ERR_EINVAL;
    if ((flags & RENAME_NOREPLACE) && (flags & RENAME_EXCHANGE)) return ERR_EINVAL;
    struct rename rename = {
        .caller = caller, .parent = parent, .new_parent = new_parent, .flags = flags};
    enum err err = name_check_new(client->fs, name, ERR_EBUSY, &rename.name);
    if (err) return err == ERR_EINVAL ? ERR_ENOENT : err;
    err = name_check_new(client->fs, new_name, flags & RENAME_NOREPLACE ? ERR_EEXIST : ERR_EBUSY,
                         &rename.new_name);
    if (err) return err;
    if (parent >> INO_BITS || new_parent >> INO_BITS) return ERR_ENOENT;
    bool local = parent == new_parent && !(flags & RENAME_EXCHANGE) &&
                 !same_name(&rename.name, &rename.new_name);
    struct retry retry = {0};
    do {
        err = local ? rename_local(client, &rename) : ERR_EXISTS;
        if (err == ERR_WRONG_PARTITION || err == ERR_EXISTS || err == ERR_ENOENT)
            err = rename_attempt(client, &rename);
    } while (client_again(client, &retry, &err));
    if (err) return err;
    if (rename.orphan) orphan_made(client, rename.orphan);
    return ERR_NONE;
}
