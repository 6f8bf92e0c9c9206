/* lookup and readlink, and walking an absolute path.
 *
 * A lookup is one program: the entry, and the inode when it lives in the same partition, as all but
 * directories and files linked or moved from elsewhere do. Only when there is no entry is the
 * parent's row read, to tell ENOTDIR. An inode in another partition takes a second program; it may
 * be gone by then, and then so is the entry: look again. */
#include <linux/fs.h>
#include <string.h>

#include "metadata/open.h"

enum lookup_param { LOOKUP_PARENT, LOOKUP_HASH, LOOKUP_NAME, LOOKUP_HOME, LOOKUP_PARAMS };
enum lookup_step { LOOKUP_ENTRY, LOOKUP_INODE };

/* The entry, and its inode when that has its home in the parent's partition. */
static void build_lookup(struct fs_client *client, struct program *program, unsigned shape)
{
    (void)shape;
    const uint8_t kinds[LOOKUP_PARAMS] = {KIND_U64, KIND_U64, KIND_STR, KIND_U64};
    program_params(program, kinds, LOOKUP_PARAMS);
    program_section(program, 0);
    const struct operand key[] = {operand_param(LOOKUP_PARENT), operand_param(LOOKUP_HASH),
                                  operand_param(LOOKUP_NAME)};
    uint8_t entry = program_read(program, client_table(client, TABLE_DENTRY), key, ERR_ENOENT);
    const uint16_t columns[] = {DENTRY_INO};
    program_output(program, columns, 1);
    struct operand ino = operand_column(entry, DENTRY_INO);
    uint8_t inode = program_read(program, client_table(client, TABLE_INODE), &ino, ERR_EIO);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    ASSERT(entry == LOOKUP_ENTRY && inode == LOOKUP_INODE);
    struct formula formula;
    formula_begin(&formula);
    uint64_t mask = (uint64_t)client->fs->partition_mask << HOME_SHIFT;
    uint16_t number = formula_column(&formula, KIND_U64, entry, DENTRY_INO);
    uint16_t home =
        formula_op2(&formula, EXPR_BIT_AND, KIND_U64, number, formula_u64(&formula, mask));
    (void)formula_op2(&formula, EXPR_EQ, KIND_U64, home,
                      formula_param(&formula, KIND_U64, LOOKUP_HOME));
    program_when(program, formula.expr);
}

/* The entry's inode; its attributes, too, when it is in the same partition (else *ret_attr has only
 * ino). ERR_ENOENT. */
static enum err lookup_entry(struct fs_client *client, uint64_t parent, const struct name *name,
                             bool *ret_has_attr, struct fs_attr *ret_attr)
{
    uint16_t slot = ino_home(parent);
    uint64_t mask = (uint64_t)client->fs->partition_mask << HOME_SHIFT;
    const struct value params[LOOKUP_PARAMS] = {
        [LOOKUP_PARENT] = value_u64(parent),
        [LOOKUP_HASH] = value_u64(name->hash),
        [LOOKUP_NAME] = value_str(name->bytes, name->size),
        [LOOKUP_HOME] = value_u64(parent & mask),
    };
    enum err err = client_run_prepared(client, PREPARED_LOOKUP, 0, build_lookup, &slot, params);
    if (err) return err;
    const struct value *found = client_row(client, LOOKUP_ENTRY);
    if (!found) return ERR_EIO;
    const struct value *attr = client_row(client, LOOKUP_INODE);
    *ret_has_attr = attr != NULL;
    if (attr)
        attr_decode(attr, ret_attr);
    else
        *ret_attr = (struct fs_attr){.ino = found[0].u};
    return ERR_NONE;
}

/* Why there is no such entry: the parent may be no directory. */
static enum err lookup_missing(struct fs_client *client, uint64_t parent)
{
    if (dir_is_known(client, parent)) return ERR_ENOENT;
    struct fs_attr attr;
    enum err err = inode_read(client, parent, &attr);
    if (err) return err == ERR_ESTALE ? ERR_ENOENT : err;
    if (!S_ISDIR(attr.mode)) return ERR_ENOTDIR;
    dir_hint_set(client, &attr);
    return ERR_ENOENT;
}

static enum err lookup_attempt(struct fs_client *client, uint64_t parent, const struct name *name,
                               struct fs_attr *ret_attr)
{
    struct fs *fs = client->fs;
    uint64_t epoch = open_epoch(fs);
    struct fs_attr attr;
    bool has_attr;
    enum err err = lookup_entry(client, parent, name, &has_attr, &attr);
    if (err == ERR_ENOENT) return lookup_missing(client, parent);
    if (!err && !has_attr) err = inode_read(client, attr.ino, &attr);
    if (err == ERR_ESTALE || (!err && attr.nlink == 0)) return ERR_STALE;
    if (err) return err;
    if (!open_overlay(fs, epoch, &attr)) {
        /* A file's size was reported just now: read it again, in the order that fs_getattr keeps.
         */
        err = fs_getattr(client, attr.ino, &attr);
        if (err == ERR_ESTALE) return ERR_STALE;
        if (err) return err;
    }
    attr_publish(&attr);
    *ret_attr = attr;
    return ERR_NONE;
}

/* Without counting the lookup. */
static enum err lookup(struct fs_client *client, uint64_t parent, const char *name,
                       struct fs_attr *ret_attr)
{
    if (parent >> INO_BITS) return ERR_ESTALE;
    struct name checked;
    enum err err = name_check(client->fs, name, &checked);
    if (err) return err;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        struct fs_attr attr;
        err = fs_getattr(client, parent, &attr);
        if (err) return err;
        if (name[1] == 0) {
            /* The kernel asks so for a file of any type that it has a handle of (NFS). */
            if (attr.nlink == 0) return ERR_ESTALE;
            *ret_attr = attr;
            return ERR_NONE;
        }
        if (!S_ISDIR(attr.mode)) return ERR_ENOTDIR;
        return fs_getattr(client, attr.parent, ret_attr);
    }
    struct retry retry = {0};
    do
        err = lookup_attempt(client, parent, &checked, ret_attr);
    while (client_again(client, &retry, &err));
    return err;
}

enum err fs_lookup(struct fs_client *client, uint64_t parent, const char *name,
                   struct fs_attr *ret_attr)
{
    struct fs_attr attr;
    enum err err = lookup(client, parent, name, &attr);
    if (err) return err;
    nlookup_add(client->fs->nlookup, attr.ino, 1);
    *ret_attr = attr;
    return ERR_NONE;
}

enum err fs_path_lookup(struct fs_client *client, const char *path, struct fs_attr *ret_attr)
{
    if (path[0] != '/') return ERR_EINVAL;
    struct fs_attr attr;
    enum err err = fs_getattr(client, FS_ROOT_INO, &attr);
    while (!err) {
        path += strspn(path, "/");
        size_t size = strcspn(path, "/");
        if (size == 0) break;
        if (size > FS_NAME_SIZE_MAX) return ERR_ENAMETOOLONG;
        char name[FS_NAME_SIZE_MAX + 1];
        memcpy(name, path, size);
        name[size] = 0;
        path += size;
        if (strcmp(name, ".") == 0 && !S_ISDIR(attr.mode)) return ERR_ENOTDIR;
        err = lookup(client, attr.ino, name, &attr);
    }
    if (err) return err;
    *ret_attr = attr;
    return ERR_NONE;
}

/* ---- readlink ---- */

enum { ATIME_DAY_S = 86400 };

void touch_atime(struct fs_client *client, uint8_t step, uint64_t ino, int64_t now)
{
    struct program *program = &client->program;
    struct operand key = operand_u64(ino);
    (void)program_update(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    struct formula formula;
    formula_begin(&formula);
    uint16_t atime = formula_column(&formula, KIND_I64, step, INODE_ATIME);
    uint16_t mtime = formula_column(&formula, KIND_I64, step, INODE_MTIME);
    uint16_t ctime = formula_column(&formula, KIND_I64, step, INODE_CTIME);
    uint16_t day = formula_i64(&formula, now - ATIME_DAY_S * INT64_C(1000000000));
    uint16_t modified = formula_op2(&formula, EXPR_LE, KIND_I64, atime, mtime);
    uint16_t changed = formula_op2(&formula, EXPR_LE, KIND_I64, atime, ctime);
    uint16_t old = formula_op2(&formula, EXPR_LT, KIND_I64, atime, day);
    uint16_t either = formula_op2(&formula, EXPR_OR, KIND_I64, modified, changed);
    uint16_t due = formula_op2(&formula, EXPR_OR, KIND_I64, either, old);
    uint16_t wanted = formula_bits(&formula, step, INODE_FLAGS, FS_NOATIME_FL, EXPR_EQ);
    (void)formula_op2(&formula, EXPR_AND, KIND_I64, due, wanted);
    program_when(program, formula.expr);
    set_i64(program, INODE_ATIME, now);
}

static enum err readlink_attempt(struct fs_client *client, uint64_t ino,
                                 char target[FS_SYMLINK_SIZE_MAX + 1])
{
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    uint8_t row = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    guard_equal(program, row, INODE_TYPE, FS_SYMLINK, ERR_EINVAL);
    uint8_t link = program_read(program, client_table(client, TABLE_SYMLINK), &key, ERR_EIO);
    const uint16_t columns[] = {SYMLINK_TARGET};
    program_output(program, columns, 1);
    if (client->fs->relatime) touch_atime(client, row, ino, fs_now());
    enum err err = client_run(client);
    if (err) return err;
    const struct value *value = client_row(client, link);
    if (!value || value[0].kind != KIND_STR || value[0].size > FS_SYMLINK_SIZE_MAX) return ERR_EIO;
    memcpy(target, value[0].bytes, value[0].size);
    target[value[0].size] = 0;
    return ERR_NONE;
}

enum err fs_readlink(struct fs_client *client, uint64_t ino, char target[FS_SYMLINK_SIZE_MAX + 1])
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct retry retry = {0};
    enum err err;
    do
        err = readlink_attempt(client, ino, target);
    while (client_again(client, &retry, &err));
    return err;
}
