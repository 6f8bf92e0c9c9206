/* mknod, symlink, mkdir, and what a create is made of.
 *
 * A file's inode takes its parent's home, so entry, inode, parent and usage are rows of one
 * partition and a create is one program in one round trip: insert the entry, change the parent (its
 * row gives setgid, group and project), insert the inode, count it. The entry comes first because
 * EEXIST is the error that the caller must see first.
 *
 * A directory gets a home of its own, so a mkdir is usually two sections. The section of the new
 * inode cannot read the parent's row, so what it inherits is guessed (from the last mkdir's parent,
 * or a read) and guarded in the parent's. */
#include "metadata/create.h"

#include <linux/fs.h>
#include <string.h>

#include "metadata/open.h"

void insert_inode(struct fs_client *client, const struct fs_attr *attr, struct operand gid,
                  struct operand project)
{
    const struct operand values[INODE_COLUMNS] = {
        [INODE_INO] = operand_u64(attr->ino),
        [INODE_TYPE] = operand_u64(attr_type(attr)),
        [INODE_MODE] = operand_u64(attr->mode & 07777),
        [INODE_UID] = operand_u64(attr->uid),
        [INODE_GID] = gid,
        [INODE_NLINK] = operand_u64(attr->nlink),
        [INODE_SIZE] = operand_u64(attr->size),
        [INODE_BLOCKS] = operand_u64(attr->blocks),
        [INODE_ATIME] = operand_value(value_i64(attr->atime_ns)),
        [INODE_MTIME] = operand_value(value_i64(attr->mtime_ns)),
        [INODE_CTIME] = operand_value(value_i64(attr->ctime_ns)),
        [INODE_BTIME] = operand_value(value_i64(attr->btime_ns)),
        [INODE_RDEV] = operand_u64(attr->rdev),
        [INODE_GENERATION] = operand_u64(attr->generation),
        [INODE_FLAGS] = operand_u64(attr->flags),
        [INODE_PROJECT] = project,
        [INODE_PARENT] = operand_u64(attr->parent),
        [INODE_LAYOUT_CLASS] = operand_u64(1),
    };
    /* Numbers are never given out twice. */
    (void)program_insert(&client->program, client_table(client, TABLE_INODE), values, ERR_CORRUPT);
}

static void insert_dentry(struct fs_client *client, uint64_t parent, const struct name *name,
                          uint64_t ino, enum fs_type type)
{
    const struct operand values[DENTRY_COLUMNS] = {
        [DENTRY_PARENT] = operand_u64(parent),
        [DENTRY_HASH] = operand_u64(name->hash),
        [DENTRY_NAME] = operand_value(value_str(name->bytes, name->size)),
        [DENTRY_INO] = operand_u64(ino),
        [DENTRY_TYPE] = operand_u64(type),
    };
    (void)program_insert(&client->program, client_table(client, TABLE_DENTRY), values, ERR_EEXIST);
}

/* The parent gets an entry: checks that it may, and its times. Opens the step. */
static uint8_t update_parent(struct fs_client *client, uint64_t parent, int64_t now)
{
    struct program *program = &client->program;
    struct operand key = operand_u64(parent);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ENOENT);
    guard_equal(program, step, INODE_TYPE, FS_DIR, ERR_ENOTDIR);
    guard_compare(program, EXPR_GT, step, INODE_NLINK, 0, ERR_ENOENT);
    guard_clear(program, step, INODE_FLAGS, FS_IMMUTABLE_FL, ERR_EPERM);
    set_i64(program, INODE_MTIME, now);
    set_i64(program, INODE_CTIME, now);
    return step;
}

static struct fs_attr new_attr(const struct fs_client *client, uint64_t ino,
                               const struct fs_caller *caller, uint64_t parent, uint32_t mode)
{
    int64_t now = fs_now();
    return (struct fs_attr){
        .ino = ino,
        .atime_ns = now,
        .mtime_ns = now,
        .ctime_ns = now,
        .btime_ns = now,
        .parent = parent,
        .mode = mode,
        .uid = caller->uid,
        .gid = caller->gid,
        .nlink = S_ISDIR(mode) ? 2 : 1,
        .generation = client->fs->life,
    };
}

/* ---- everything but directories ---- */

/* The group: the parent's when that is setgid, else the caller's. */
static struct operand inherited_gid(struct formula *formula, uint8_t parent, uint32_t gid)
{
    formula_begin(formula);
    uint16_t setgid = formula_bits(formula, parent, INODE_MODE, S_ISGID, EXPR_NE);
    uint16_t theirs = formula_column(formula, KIND_U64, parent, INODE_GID);
    (void)formula_select(formula, KIND_U64, setgid, theirs, formula_u64(formula, gid));
    return operand_expr(formula->expr);
}

static enum err create_attempt(struct fs_client *client, struct new_inode *new_inode,
                               struct fs_attr *attr)
{
    uint16_t slot = ino_home(attr->parent);
    struct program *program = client_begin(client, slot);
    insert_dentry(client, attr->parent, &new_inode->name, attr->ino, attr_type(attr));
    uint8_t parent = update_parent(client, attr->parent, attr->mtime_ns);
    const uint16_t columns[] = {INODE_MODE, INODE_GID, INODE_PROJECT};
    program_output(program, columns, 3);
    struct formula formula;
    struct operand gid = inherited_gid(&formula, parent, attr->gid);
    struct operand project = operand_column(parent, INODE_PROJECT);
    insert_inode(client, attr, gid, project);
    if (new_inode->target) {
        const struct operand values[SYMLINK_COLUMNS] = {
            [SYMLINK_INO] = operand_u64(attr->ino),
            [SYMLINK_TARGET] = operand_value(value_str(new_inode->target, new_inode->target_size)),
        };
        (void)program_insert(program, client_table(client, TABLE_SYMLINK), values, ERR_CORRUPT);
    }
    usage_add(client, slot, project, attr->uid, gid, attr->size, 0);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, parent);
    if (!row) return ERR_EIO;
    if (row[0].u & S_ISGID) attr->gid = (uint32_t)row[1].u;
    attr->project = (uint32_t)row[2].u;
    return ERR_NONE;
}

enum err create_inode(struct fs_client *client, struct new_inode *new_inode,
                      struct fs_attr *ret_attr)
{
    if (new_inode->parent >> INO_BITS) return ERR_ENOENT;
    uint64_t ino;
    enum err err = ino_allocate(client, ino_home(new_inode->parent), &ino);
    if (err) return err;
    struct fs_attr attr =
        new_attr(client, ino, new_inode->caller, new_inode->parent, new_inode->mode);
    attr.rdev = new_inode->rdev;
    attr.size = new_inode->target_size;
    if (S_ISREG(attr.mode)) new_inode->drops = open_drops(client->fs, ino);
    /* Before anybody can find it: removed at once, it is purged only when the caller has forgotten
     * it. */
    nlookup_add(client->fs->nlookup, ino, 1);
    struct retry retry = {0};
    do
        err = create_attempt(client, new_inode, &attr);
    while (client_again(client, &retry, &err));
    if (err) {
        fs_forget(client, ino, 1);
        return err;
    }
    *ret_attr = attr;
    return ERR_NONE;
}

enum err fs_mknod(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name, uint32_t mode, uint32_t rdev, struct fs_attr *ret_attr)
{
    bool device = S_ISCHR(mode) || S_ISBLK(mode);
    if (!(mode & S_IFMT)) mode |= S_IFREG;
    if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !device)
        return S_ISDIR(mode) ? ERR_EPERM : ERR_EINVAL;
    struct new_inode new_inode = {.caller = caller,
                                  .parent = parent,
                                  .mode = mode & (S_IFMT | 07777),
                                  .rdev = device ? rdev : 0};
    enum err err = name_check_new(client->fs, name, ERR_EEXIST, &new_inode.name);
    return err ? err : create_inode(client, &new_inode, ret_attr);
}

enum err fs_symlink(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                    const char *name, const char *target, struct fs_attr *ret_attr)
{
    size_t size = strnlen(target, FS_SYMLINK_SIZE_MAX + 1);
    if (size == 0) return ERR_ENOENT;
    if (size > FS_SYMLINK_SIZE_MAX) return ERR_ENAMETOOLONG;
    struct new_inode new_inode = {.caller = caller,
                                  .parent = parent,
                                  .mode = S_IFLNK | 0777,
                                  .target = target,
                                  .target_size = (uint32_t)size};
    enum err err = name_check_new(client->fs, name, ERR_EEXIST, &new_inode.name);
    return err ? err : create_inode(client, &new_inode, ret_attr);
}

/* ---- directories ---- */

static enum err hint_refresh(struct fs_client *client, uint64_t parent)
{
    struct fs_attr attr;
    enum err err = inode_read(client, parent, &attr);
    if (err) return err == ERR_ESTALE ? ERR_ENOENT : err;
    client->parent_hint.ino = parent;
    client->parent_hint.mode = attr.mode;
    client->parent_hint.gid = attr.gid;
    client->parent_hint.project = attr.project;
    return ERR_NONE;
}

static enum err mkdir_attempt(struct fs_client *client, const struct name *name,
                              struct fs_attr *attr)
{
    enum err err = ERR_NONE;
    if (client->parent_hint.ino != attr->parent) err = hint_refresh(client, attr->parent);
    if (err) return err;
    uint32_t setgid = client->parent_hint.mode & S_ISGID;
    uint32_t gid = setgid ? client->parent_hint.gid : attr->gid;
    uint32_t project = client->parent_hint.project;
    uint16_t slot = ino_home(attr->ino);
    client->parent_hint.ino = 0; /* until it has proved right */

    struct program *program = client_begin(client, ino_home(attr->parent));
    insert_dentry(client, attr->parent, name, attr->ino, FS_DIR);
    uint8_t parent = update_parent(client, attr->parent, attr->mtime_ns);
    guard_compare(program, EXPR_LT, parent, INODE_NLINK, FS_LINK_MAX, ERR_EMLINK);
    struct formula formula;
    formula_begin(&formula);
    (void)formula_bits(&formula, parent, INODE_MODE, S_ISGID, setgid ? EXPR_NE : EXPR_EQ);
    program_guard(program, formula.expr, ERR_STALE);
    if (setgid) guard_equal(program, parent, INODE_GID, gid, ERR_STALE);
    guard_equal(program, parent, INODE_PROJECT, project, ERR_STALE);
    set_add(program, parent, INODE_NLINK, 1);

    if (slot != ino_home(attr->parent)) program_section(program, slot);
    struct fs_attr row = *attr;
    row.mode |= setgid;
    insert_inode(client, &row, operand_u64(gid), operand_u64(project));
    usage_add(client, slot, operand_u64(project), row.uid, operand_u64(gid), 0, 0);
    err = client_run(client);
    if (err) return err;
    client->parent_hint.ino = attr->parent;
    row.gid = gid;
    row.project = project;
    *attr = row;
    return ERR_NONE;
}

enum err fs_mkdir(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name, uint32_t mode, struct fs_attr *ret_attr)
{
    struct name checked;
    enum err err = name_check_new(client->fs, name, ERR_EEXIST, &checked);
    if (err) return err;
    if (parent >> INO_BITS) return ERR_ENOENT;
    uint64_t ino;
    err = ino_allocate(client, (uint16_t)client_random(client), &ino);
    if (err) return err;
    struct fs_attr attr = new_attr(client, ino, caller, parent, S_IFDIR | (mode & 07777));
    nlookup_add(client->fs->nlookup, ino, 1);
    struct retry retry = {0};
    do
        err = mkdir_attempt(client, &checked, &attr);
    while (client_again(client, &retry, &err));
    if (err) {
        fs_forget(client, ino, 1);
        return err;
    }
    *ret_attr = attr;
    return ERR_NONE;
}
