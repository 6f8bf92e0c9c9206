/* unlink and rmdir.
 *
 * A file with one link whose inode is in its directory's partition is removed by one program, which
 * decides everything itself. For others, as for directories, the change is prepared by reading. */
#include <linux/fs.h>

#include "metadata/change.h"
#include "metadata/orphan.h"

enum { PROTECT = FS_IMMUTABLE_FL | FS_APPEND_FL };

enum unlink_param {
    UNLINK_PARENT,
    UNLINK_HASH,
    UNLINK_NAME,
    UNLINK_NOW,
    UNLINK_UID,
    UNLINK_PARTITION,
    UNLINK_PARAMS,
};
enum unlink_step { UNLINK_ENTRY, UNLINK_DIRECTORY, UNLINK_VICTIM };
enum unlink_shape { UNLINK_STICKY = 1 }; /* the caller is subject to the sticky bit */

static void build_unlink(struct fs_client *client, struct program *program, unsigned shape)
{
    uint8_t kinds[UNLINK_PARAMS] = {KIND_U64, KIND_U64, KIND_STR, KIND_I64, KIND_U64, KIND_U64};
    program_params(program, kinds, UNLINK_PARAMS);
    program_section(program, 0);
    const struct table_def *inode = client_table(client, TABLE_INODE);
    const struct operand key[] = {operand_param(UNLINK_PARENT), operand_param(UNLINK_HASH),
                                  operand_param(UNLINK_NAME)};
    uint8_t entry = program_delete(program, client_table(client, TABLE_DENTRY), key, ERR_ENOENT);

    uint8_t directory = program_update(program, inode, &key[0], ERR_ENOENT);
    guard_clear(program, directory, INODE_FLAGS, PROTECT, ERR_EPERM);
    program_set(program, INODE_MTIME, operand_param(UNLINK_NOW));
    program_set(program, INODE_CTIME, operand_param(UNLINK_NOW));

    struct operand victim_key = operand_column(entry, DENTRY_INO);
    uint8_t victim = program_update(program, inode, &victim_key, ERR_EIO);
    if (shape & UNLINK_STICKY) guard_sticky_param(program, directory, victim, UNLINK_UID);
    guard_clear(program, victim, INODE_FLAGS, PROTECT, ERR_EPERM);
    guard_compare(program, EXPR_NE, victim, INODE_TYPE, FS_DIR, ERR_EISDIR);
    guard_equal(program, victim, INODE_NLINK, 1, ERR_GUARD);
    set_u64(program, INODE_NLINK, 0);
    program_set(program, INODE_CTIME, operand_param(UNLINK_NOW));
    const uint16_t columns[] = {INODE_INO};
    program_output(program, columns, 1);
    orphan_insert(client, victim_key, operand_param(UNLINK_NOW));
    client_guard_prepared(client, program, UNLINK_PARTITION);
    ASSERT(entry == UNLINK_ENTRY && directory == UNLINK_DIRECTORY && victim == UNLINK_VICTIM);
}

/* The last link of a file. ERR_WRONG_PARTITION or ERR_GUARD (it has others): this way does not do.
 */
static enum err unlink_local(struct fs_client *client, const struct fs_caller *caller,
                             uint64_t parent, const struct name *name, uint64_t *ret_orphan)
{
    uint16_t slot = ino_home(parent);
    const struct value params[UNLINK_PARAMS] = {
        [UNLINK_PARENT] = value_u64(parent),
        [UNLINK_HASH] = value_u64(name->hash),
        [UNLINK_NAME] = value_str(name->bytes, name->size),
        [UNLINK_NOW] = value_i64(fs_now()),
        [UNLINK_UID] = value_u64(caller->uid),
        [UNLINK_PARTITION] = value_u64(ino_partition(client->fs, parent)),
    };
    enum err err = client_run_prepared(client, PREPARED_UNLINK, caller->uid ? UNLINK_STICKY : 0,
                                       build_unlink, &slot, params);
    if (err) return err;
    const struct value *row = client_row(client, UNLINK_VICTIM);
    if (!row) return ERR_EIO;
    *ret_orphan = row[0].u;
    return ERR_NONE;
}

static enum err unlink_any(struct fs_client *client, const struct fs_caller *caller,
                           uint64_t parent, const struct name *name, uint64_t *ret_orphan)
{
    struct found found;
    enum err err = find_entry(client, parent, name, &found);
    if (err) return err;
    if (!found.present) return ERR_ENOENT;
    err = check_removal(caller, &found);
    if (err) return err;
    if (S_ISDIR(found.attr.mode)) return ERR_EISDIR;
    if (found.attr.nlink == 0) return ERR_STALE;

    struct change change = {.now = fs_now()};
    change_dentry(&change, DENTRY_DELETE, parent, name)->old_ino = found.attr.ino;
    (void)change_parent(&change, parent);
    struct change_inode *inode = change_inode(&change, found.attr.ino, false);
    inode->guard_nlink = true;
    inode->nlink = found.attr.nlink;
    inode->nlink_zero = found.attr.nlink == 1;
    inode->nlink_delta = -1;
    inode->set_parent = found.attr.nlink > 1 && found.attr.parent == parent;
    err = change_run(client, &change);
    if (err) return err;
    *ret_orphan = inode->nlink_zero ? found.attr.ino : 0;
    return ERR_NONE;
}

enum err fs_unlink(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                   const char *name)
{
    struct name checked;
    enum err err = name_check_new(client->fs, name, ERR_EISDIR, &checked);
    if (err) return err == ERR_EINVAL ? ERR_ENOENT : err;
    if (parent >> INO_BITS) return ERR_ENOENT;
    uint64_t orphan = 0;
    struct retry retry = {0};
    do {
        err = unlink_local(client, caller, parent, &checked, &orphan);
        if (err == ERR_WRONG_PARTITION || err == ERR_GUARD || err == ERR_ENOENT)
            err = unlink_any(client, caller, parent, &checked, &orphan);
    } while (client_again(client, &retry, &err));
    if (err) return err;
    if (orphan) orphan_made(client, orphan);
    return ERR_NONE;
}

/* ---- directories ---- */

static enum err rmdir_attempt(struct fs_client *client, const struct fs_caller *caller,
                              uint64_t parent, const struct name *name, uint64_t *ret_orphan)
{
    struct found found;
    enum err err = find_entry(client, parent, name, &found);
    if (err) return err;
    if (!found.present) return ERR_ENOENT;
    err = check_removal(caller, &found);
    if (err) return err;
    if (!S_ISDIR(found.attr.mode)) return ERR_ENOTDIR;
    if (found.attr.nlink > 2) return ERR_ENOTEMPTY;

    struct change change = {.now = fs_now()};
    change_dentry(&change, DENTRY_DELETE, parent, name)->old_ino = found.attr.ino;
    change_parent(&change, parent)->nlink_delta = -1;
    struct change_inode *inode = change_inode(&change, found.attr.ino, true);
    inode->guard_nlink = true;
    inode->nlink = found.attr.nlink;
    inode->guard_empty = true;
    inode->nlink_zero = true;
    err = change_run(client, &change);
    if (err) return err;
    *ret_orphan = found.attr.ino;
    return ERR_NONE;
}

enum err fs_rmdir(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name)
{
    struct name checked;
    /* "." is EINVAL and ".." ENOTEMPTY, as rmdir(2) has it. */
    enum err on_dots = name[0] == '.' && name[1] == '.' ? ERR_ENOTEMPTY : ERR_EINVAL;
    enum err err = name_check_new(client->fs, name, on_dots, &checked);
    if (err) return err;
    uint64_t orphan = 0;
    struct retry retry = {0};
    do
        err = rmdir_attempt(client, caller, parent, &checked, &orphan);
    while (client_again(client, &retry, &err));
    if (err) return err;
    orphan_made(client, orphan);
    return ERR_NONE;
}
