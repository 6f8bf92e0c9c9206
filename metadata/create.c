/* mknod, symlink, mkdir, and what a create is made of.
 *
 * A file's inode takes its parent's home, so entry, inode, parent and usage are rows of one
 * partition and a create is one program in one round trip: insert the entry, change the parent,
 * insert the inode, count it. The entry comes first because EEXIST is the error that the caller
 * must see first. A directory gets a home of its own, so a mkdir is usually two sections.
 *
 * Group, setgid and project come from the parent. They are taken from a hint, what the parent
 * looked like when this client last read it, and guarded in the parent's step: constants are
 * cheaper than expressions, and the section of a new directory could not read the parent's row. */
#include "metadata/create.h"

#include <linux/fs.h>
#include <string.h>

#include "metadata/open.h"

void insert_inode(struct fs_client *client, const struct fs_attr *attr)
{
    const struct operand values[INODE_COLUMNS] = {
        [INODE_INO] = operand_u64(attr->ino),
        [INODE_TYPE] = operand_u64(attr_type(attr)),
        [INODE_MODE] = operand_u64(attr->mode & 07777),
        [INODE_UID] = operand_u64(attr->uid),
        [INODE_GID] = operand_u64(attr->gid),
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
        [INODE_PROJECT] = operand_u64(attr->project),
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

/* ---- what a new inode inherits ---- */

void dir_hint_set(struct fs_client *client, const struct fs_attr *attr)
{
    *dir_hint(client, attr->ino) = (struct dir_hint){.ino = attr->ino,
                                                     .mode = attr->mode & 07777,
                                                     .gid = attr->gid,
                                                     .flags = attr->flags,
                                                     .project = attr->project};
}

/* The hint of the parent, read when there is none. ERR_ENOENT, ERR_ENOTDIR. */
static enum err parent_hint(struct fs_client *client, uint64_t parent, struct dir_hint *ret_hint)
{
    struct dir_hint *hint = dir_hint(client, parent);
    if (hint->ino != parent) {
        struct fs_attr attr;
        enum err err = inode_read(client, parent, &attr);
        if (err) return err == ERR_ESTALE ? ERR_ENOENT : err;
        if (!S_ISDIR(attr.mode)) return ERR_ENOTDIR;
        dir_hint_set(client, &attr);
    }
    *ret_hint = *hint;
    return ERR_NONE;
}

/* What the directory's hint says that its new entry gets. */
static struct fs_attr inherit(const struct fs_attr *attr, const struct dir_hint *hint)
{
    struct fs_attr row = *attr;
    row.project = hint->project;
    if (!(hint->mode & S_ISGID)) return row;
    row.gid = hint->gid;
    if (S_ISDIR(row.mode)) row.mode |= S_ISGID;
    return row;
}

/* The parent gets an entry: its times, if it is as the hint says and may have one. Opens the step.
 */
static uint8_t update_parent(struct fs_client *client, const struct dir_hint *hint, int64_t now)
{
    struct program *program = &client->program;
    struct operand key = operand_u64(hint->ino);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ENOENT);
    guard_compare(program, EXPR_GT, step, INODE_NLINK, 0, ERR_ENOENT);
    guard_equal(program, step, INODE_FLAGS, hint->flags, ERR_STALE);
    guard_equal(program, step, INODE_MODE, hint->mode, ERR_STALE);
    guard_equal(program, step, INODE_PROJECT, hint->project, ERR_STALE);
    if (hint->mode & S_ISGID) guard_equal(program, step, INODE_GID, hint->gid, ERR_STALE);
    if (hint->flags & FS_IMMUTABLE_FL) guard_never(program, ERR_EPERM);
    set_i64(program, INODE_MTIME, now);
    set_i64(program, INODE_CTIME, now);
    return step;
}

/* The outcome of what was built on the hint, which goes when it was wrong. */
static enum err hint_checked(struct fs_client *client, const struct dir_hint *hint, enum err err)
{
    if (err == ERR_STALE || err == ERR_ENOENT) dir_hint(client, hint->ino)->ino = 0;
    return err;
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

enum create_param {
    CREATE_PARENT,
    CREATE_HASH,
    CREATE_NAME,
    CREATE_INO,
    CREATE_TYPE,
    CREATE_MODE,
    CREATE_UID,
    CREATE_GID,
    CREATE_NOW,
    CREATE_RDEV,
    CREATE_GENERATION,
    CREATE_PROJECT,
    CREATE_HINT_FLAGS,
    CREATE_HINT_MODE,
    CREATE_HINT_GID,
    CREATE_PARTITION,
    CREATE_SIZE,
    CREATE_TARGET,
    CREATE_PARAMS,
};
enum create_shape {
    CREATE_SYMLINK = 1,
    CREATE_SETGID = 2,    /* the parent gives its group */
    CREATE_IMMUTABLE = 4, /* the parent takes no entries */
};
_Static_assert(PREPARED_CREATE + (CREATE_SYMLINK | CREATE_SETGID | CREATE_IMMUTABLE) <
                   PREPARED_COUNT,
               "a prepared program for each shape");

static void build_create_inode(struct fs_client *client, struct program *program)
{
    const struct operand values[INODE_COLUMNS] = {
        [INODE_INO] = operand_param(CREATE_INO),
        [INODE_TYPE] = operand_param(CREATE_TYPE),
        [INODE_MODE] = operand_param(CREATE_MODE),
        [INODE_UID] = operand_param(CREATE_UID),
        [INODE_GID] = operand_param(CREATE_GID),
        [INODE_NLINK] = operand_u64(1),
        [INODE_SIZE] = operand_param(CREATE_SIZE),
        [INODE_BLOCKS] = operand_u64(0),
        [INODE_ATIME] = operand_param(CREATE_NOW),
        [INODE_MTIME] = operand_param(CREATE_NOW),
        [INODE_CTIME] = operand_param(CREATE_NOW),
        [INODE_BTIME] = operand_param(CREATE_NOW),
        [INODE_RDEV] = operand_param(CREATE_RDEV),
        [INODE_GENERATION] = operand_param(CREATE_GENERATION),
        [INODE_FLAGS] = operand_u64(0),
        [INODE_PROJECT] = operand_param(CREATE_PROJECT),
        [INODE_PARENT] = operand_param(CREATE_PARENT),
        [INODE_LAYOUT_CLASS] = operand_u64(1),
    };
    (void)program_insert(program, client_table(client, TABLE_INODE), values, ERR_CORRUPT);
}

static void build_create_usage(struct fs_client *client, struct program *program, bool sized)
{
    const struct operand values[USAGE_COLUMNS] = {
        [USAGE_SLOT] = operand_param(CREATE_PARTITION),
        [USAGE_PROJECT] = operand_param(CREATE_PROJECT),
        [USAGE_UID] = operand_param(CREATE_UID),
        [USAGE_GID] = operand_param(CREATE_GID),
        [USAGE_FILES] = operand_u64(1),
        [USAGE_BYTES] = operand_param(CREATE_SIZE),
        [USAGE_BLOCKS] = operand_u64(0),
    };
    uint8_t own = program_upsert(program, client_table(client, TABLE_USAGE), values);
    set_add(program, own, USAGE_FILES, 1);
    if (sized) set_add_param(program, own, USAGE_BYTES, CREATE_SIZE);
}

/* The steps of insert_dentry, update_parent, insert_inode and usage_add, over parameters. */
static void build_create(struct fs_client *client, struct program *program, unsigned shape)
{
    uint8_t kinds[CREATE_PARAMS];
    memset(kinds, KIND_U64, sizeof(kinds));
    kinds[CREATE_NAME] = kinds[CREATE_TARGET] = KIND_STR;
    kinds[CREATE_NOW] = KIND_I64;
    program_params(program, kinds, CREATE_PARAMS);
    program_section(program, 0);
    const struct operand dentry[DENTRY_COLUMNS] = {
        [DENTRY_PARENT] = operand_param(CREATE_PARENT), [DENTRY_HASH] = operand_param(CREATE_HASH),
        [DENTRY_NAME] = operand_param(CREATE_NAME),     [DENTRY_INO] = operand_param(CREATE_INO),
        [DENTRY_TYPE] = operand_param(CREATE_TYPE),
    };
    (void)program_insert(program, client_table(client, TABLE_DENTRY), dentry, ERR_EEXIST);

    struct operand key = operand_param(CREATE_PARENT);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ENOENT);
    guard_compare(program, EXPR_GT, step, INODE_NLINK, 0, ERR_ENOENT);
    guard_equal_param(program, step, INODE_FLAGS, CREATE_HINT_FLAGS, ERR_STALE);
    guard_equal_param(program, step, INODE_MODE, CREATE_HINT_MODE, ERR_STALE);
    guard_equal_param(program, step, INODE_PROJECT, CREATE_PROJECT, ERR_STALE);
    if (shape & CREATE_SETGID)
        guard_equal_param(program, step, INODE_GID, CREATE_HINT_GID, ERR_STALE);
    if (shape & CREATE_IMMUTABLE) guard_never(program, ERR_EPERM);
    program_set(program, INODE_MTIME, operand_param(CREATE_NOW));
    program_set(program, INODE_CTIME, operand_param(CREATE_NOW));

    build_create_inode(client, program);
    if (shape & CREATE_SYMLINK) {
        const struct operand values[SYMLINK_COLUMNS] = {
            [SYMLINK_INO] = operand_param(CREATE_INO),
            [SYMLINK_TARGET] = operand_param(CREATE_TARGET),
        };
        (void)program_insert(program, client_table(client, TABLE_SYMLINK), values, ERR_CORRUPT);
    }
    build_create_usage(client, program, shape & CREATE_SYMLINK);
    client_guard_prepared(client, program, CREATE_PARTITION);
}

static enum err create_attempt(struct fs_client *client, struct new_inode *new_inode,
                               const struct fs_attr *attr, struct fs_attr *ret_row)
{
    struct dir_hint hint;
    enum err err = parent_hint(client, attr->parent, &hint);
    if (err) return err;
    struct fs_attr row = inherit(attr, &hint);
    uint16_t slot = ino_home(attr->parent);
    const struct name *name = &new_inode->name;
    const struct value params[CREATE_PARAMS] = {
        [CREATE_PARENT] = value_u64(row.parent),
        [CREATE_HASH] = value_u64(name->hash),
        [CREATE_NAME] = value_str(name->bytes, name->size),
        [CREATE_INO] = value_u64(row.ino),
        [CREATE_TYPE] = value_u64(attr_type(&row)),
        [CREATE_MODE] = value_u64(row.mode & 07777),
        [CREATE_UID] = value_u64(row.uid),
        [CREATE_GID] = value_u64(row.gid),
        [CREATE_NOW] = value_i64(row.mtime_ns),
        [CREATE_RDEV] = value_u64(row.rdev),
        [CREATE_GENERATION] = value_u64(row.generation),
        [CREATE_PROJECT] = value_u64(hint.project),
        [CREATE_HINT_FLAGS] = value_u64(hint.flags),
        [CREATE_HINT_MODE] = value_u64(hint.mode),
        [CREATE_HINT_GID] = value_u64(hint.gid),
        [CREATE_PARTITION] = value_u64(ino_partition(client->fs, attr->parent)),
        [CREATE_SIZE] = value_u64(row.size),
        [CREATE_TARGET] = value_str(new_inode->target, new_inode->target_size),
    };
    unsigned shape = (new_inode->target ? CREATE_SYMLINK : 0u) |
                     (hint.mode & S_ISGID ? CREATE_SETGID : 0u) |
                     (hint.flags & FS_IMMUTABLE_FL ? CREATE_IMMUTABLE : 0u);
    err = client_run_prepared(client, PREPARED_CREATE, shape, build_create, &slot, params);
    if (err) return hint_checked(client, &hint, err);
    *ret_row = row;
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
    nlookup_prefetch(client->fs->nlookup, ino + 1); /* most likely the next one */
    struct retry retry = {0};
    do
        err = create_attempt(client, new_inode, &attr, ret_attr);
    while (client_again(client, &retry, &err));
    if (err) fs_forget(client, ino, 1);
    return err;
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

static enum err mkdir_attempt(struct fs_client *client, const struct name *name,
                              const struct fs_attr *attr, struct fs_attr *ret_row)
{
    struct dir_hint hint;
    enum err err = parent_hint(client, attr->parent, &hint);
    if (err) return err;
    struct fs_attr row = inherit(attr, &hint);
    struct program *program = client_begin(client, ino_home(row.parent));
    insert_dentry(client, row.parent, name, row.ino, FS_DIR);
    uint8_t parent = update_parent(client, &hint, row.mtime_ns);
    guard_compare(program, EXPR_LT, parent, INODE_NLINK, FS_LINK_MAX, ERR_EMLINK);
    set_add(program, parent, INODE_NLINK, 1);

    uint16_t slot = ino_home(row.ino);
    if (slot != ino_home(row.parent)) program_section(program, slot);
    insert_inode(client, &row);
    usage_add(client, slot, &row);
    err = hint_checked(client, &hint, client_run(client));
    if (err) return err;
    dir_hint_set(client, &row); /* it will soon get entries */
    *ret_row = row;
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
        err = mkdir_attempt(client, &checked, &attr, ret_attr);
    while (client_again(client, &retry, &err));
    if (err) fs_forget(client, ino, 1);
    return err;
}
