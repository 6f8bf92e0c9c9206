/* Changes over several partitions: collecting what happens to each row, and writing it down as one
 * program with a section for each home. */
#include "metadata/change.h"

#include <linux/fs.h>

#include "metadata/life.h"
#include "metadata/orphan.h"

struct change_inode *change_inode(struct change *change, uint64_t ino, bool is_dir)
{
    for (uint32_t i = 0; i < change->inode_count; i++)
        if (change->inodes[i].ino == ino) return &change->inodes[i];
    ASSERT(change->inode_count < CHANGE_INODES_MAX);
    struct change_inode *inode = &change->inodes[change->inode_count++];
    *inode = (struct change_inode){.ino = ino, .is_dir = is_dir};
    return inode;
}

struct change_inode *change_parent(struct change *change, uint64_t ino)
{
    struct change_inode *inode = change_inode(change, ino, true);
    inode->guard_alive = true;
    inode->touch_data = true;
    return inode;
}

struct change_dentry *change_dentry(struct change *change, enum change_dentry_kind kind,
                                    uint64_t parent, const struct name *name)
{
    ASSERT(change->dentry_count < CHANGE_DENTRIES_MAX);
    struct change_dentry *dentry = &change->dentries[change->dentry_count++];
    *dentry = (struct change_dentry){
        .kind = kind, .parent = parent, .name = *name, .on_exists = ERR_STALE};
    return dentry;
}

/* ---- writing the program ---- */

static void add_inode(struct fs_client *client, const struct change_inode *inode, int64_t now)
{
    struct program *program = &client->program;
    const struct table_def *table = client_table(client, TABLE_INODE);
    struct operand key = operand_u64(inode->ino);
    if (inode->guard_empty) {
        (void)program_scan(program, client_table(client, TABLE_DENTRY), 0, &key, 1, NULL, 0, true,
                           1);
        guard_never(program, ERR_ENOTEMPTY);
    }
    if (inode->nlink_zero) orphan_insert(client, key, operand_value(value_i64(now)));
    uint8_t own = program_update(program, table, &key, ERR_STALE);
    guard_compare(program, inode->is_dir ? EXPR_EQ : EXPR_NE, own, INODE_TYPE, FS_DIR, ERR_STALE);
    if (inode->guard_nlink) guard_equal(program, own, INODE_NLINK, inode->nlink, ERR_STALE);
    if (inode->guard_alive) guard_compare(program, EXPR_GT, own, INODE_NLINK, 0, ERR_STALE);
    if (inode->guard_flags) guard_equal(program, own, INODE_FLAGS, inode->flags, ERR_STALE);
    if (inode->nlink_zero)
        set_u64(program, INODE_NLINK, 0);
    else if (inode->nlink_delta)
        set_add(program, own, INODE_NLINK, inode->nlink_delta);
    if (inode->set_parent) set_u64(program, INODE_PARENT, inode->parent);
    if (inode->touch_data) set_i64(program, INODE_MTIME, now);
    set_i64(program, INODE_CTIME, now);
}

static void add_dentry(struct fs_client *client, const struct change_dentry *dentry)
{
    struct program *program = &client->program;
    const struct table_def *table = client_table(client, TABLE_DENTRY);
    struct dentry_key key = dentry_key(dentry->parent, &dentry->name);
    uint8_t own;
    switch (dentry->kind) {
    case DENTRY_INSERT: {
        const struct operand values[DENTRY_COLUMNS] = {
            [DENTRY_PARENT] = key.at[0],
            [DENTRY_HASH] = key.at[1],
            [DENTRY_NAME] = key.at[2],
            [DENTRY_INO] = operand_u64(dentry->ino),
            [DENTRY_TYPE] = operand_u64(dentry->type),
        };
        (void)program_insert(program, table, values, dentry->on_exists);
        break;
    }
    case DENTRY_DELETE:
        own = program_delete(program, table, key.at, ERR_STALE);
        guard_equal(program, own, DENTRY_INO, dentry->old_ino, ERR_STALE);
        break;
    case DENTRY_REPLACE:
        own = program_update(program, table, key.at, ERR_STALE);
        guard_equal(program, own, DENTRY_INO, dentry->old_ino, ERR_STALE);
        set_u64(program, DENTRY_INO, dentry->ino);
        set_u64(program, DENTRY_TYPE, dentry->type);
        break;
    }
}

static void add_counter(struct fs_client *client, const struct change *change)
{
    struct program *program = &client->program;
    const struct operand values[COUNTER_COLUMNS] = {
        [COUNTER_NAME] = operand_value(value_text(change->counter)),
        [COUNTER_VALUE] = operand_u64(1),
    };
    /* A missing counter is 0. */
    uint8_t own = program_upsert(program, client_table(client, TABLE_COUNTER), values);
    guard_equal(program, own, COUNTER_VALUE, change->counter_value, ERR_STALE);
    set_add(program, own, COUNTER_VALUE, 1);
}

struct slots {
    uint32_t count;
    uint16_t at[PROGRAM_SECTIONS_MAX];
};

/* In ascending order, so that transactions which meet do so in the same order everywhere. */
static void slots_add(struct slots *slots, uint16_t slot)
{
    uint32_t at = 0;
    while (at < slots->count && slots->at[at] < slot)
        at++;
    if (at < slots->count && slots->at[at] == slot) return;
    ASSERT(slots->count < PROGRAM_SECTIONS_MAX);
    for (uint32_t i = slots->count++; i > at; i--)
        slots->at[i] = slots->at[i - 1];
    slots->at[at] = slot;
}

enum err change_run(struct fs_client *client, const struct change *change)
{
    struct slots slots = {0};
    uint16_t counter = change->counter ? counter_slot(client, change->counter) : 0;
    for (uint32_t i = 0; i < change->dentry_count; i++)
        slots_add(&slots, ino_home(change->dentries[i].parent));
    for (uint32_t i = 0; i < change->inode_count; i++)
        slots_add(&slots, ino_home(change->inodes[i].ino));
    if (change->counter) slots_add(&slots, counter);

    struct program *program = &client->program;
    program_begin(program);
    for (uint32_t s = 0; s < slots.count; s++) {
        uint16_t slot = slots.at[s];
        program_section(program, slot);
        if (change->counter && slot == counter) add_counter(client, change);
        for (uint32_t i = 0; i < change->dentry_count; i++)
            if (ino_home(change->dentries[i].parent) == slot)
                add_dentry(client, &change->dentries[i]);
        for (uint32_t i = 0; i < change->inode_count; i++)
            if (ino_home(change->inodes[i].ino) == slot)
                add_inode(client, &change->inodes[i], change->now);
    }
    return client_run(client);
}

/* ---- reading ---- */

enum err find_entry(struct fs_client *client, uint64_t parent, const struct name *name,
                    struct found *ret_found)
{
    struct fs *fs = client->fs;
    if (parent >> INO_BITS) return ERR_ENOENT;
    struct program *program = client_begin(client, ino_home(parent));
    const struct table_def *table = client_table(client, TABLE_INODE);
    struct operand key = operand_u64(parent);
    uint8_t directory = program_read(program, table, &key, ERR_ENOENT);
    guard_equal(program, directory, INODE_TYPE, FS_DIR, ERR_ENOTDIR);
    guard_compare(program, EXPR_GT, directory, INODE_NLINK, 0, ERR_ENOENT);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    struct dentry_key entry_key = dentry_key(parent, name);
    uint8_t entry =
        program_read(program, client_table(client, TABLE_DENTRY), entry_key.at, ERR_NONE);
    program_flags(program, STEP_OPTIONAL);
    const uint16_t columns[] = {DENTRY_INO};
    program_output(program, columns, 1);
    struct operand ino = operand_column(entry, DENTRY_INO);
    uint8_t inode = program_read(program, table, &ino, ERR_EIO);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    when_same_partition(program, entry, DENTRY_INO, parent, fs->partition_mask);
    enum err err = client_run(client);
    if (err) return err;

    struct found found = {0};
    const struct value *row = client_row(client, directory);
    if (!row) return ERR_EIO;
    attr_decode(row, &found.parent);
    row = client_row(client, entry);
    found.present = row != NULL;
    if (found.present) {
        found.attr.ino = row[0].u;
        row = client_row(client, inode);
        if (row)
            attr_decode(row, &found.attr);
        else
            err = inode_read(client, found.attr.ino, &found.attr);
        if (err == ERR_ESTALE) return ERR_STALE;
        if (err) return err;
        /* Read after the entry, from another partition: the entry is gone by now. */
        if (found.attr.nlink == 0) return ERR_STALE;
    }
    *ret_found = found;
    return ERR_NONE;
}

enum err check_removal(const struct fs_caller *caller, const struct found *found)
{
    const uint32_t protect = FS_IMMUTABLE_FL | FS_APPEND_FL;
    if ((found->parent.flags | found->attr.flags) & protect) return ERR_EPERM;
    bool sticky = (found->parent.mode & S_ISVTX) && caller->uid != 0 &&
                  caller->uid != found->parent.uid && caller->uid != found->attr.uid;
    return sticky ? ERR_EPERM : ERR_NONE;
}

/* With the user's number in register `uid`. */
static void sticky(struct program *program, struct formula *formula, uint16_t uid, uint8_t parent,
                   uint8_t victim)
{
    uint16_t plain = formula_bits(formula, parent, INODE_MODE, S_ISVTX, EXPR_EQ);
    uint16_t parents = formula_op2(formula, EXPR_EQ, KIND_U64,
                                   formula_column(formula, KIND_U64, parent, INODE_UID), uid);
    uint16_t victims = formula_op2(formula, EXPR_EQ, KIND_U64,
                                   formula_column(formula, KIND_U64, victim, INODE_UID), uid);
    uint16_t either = formula_op2(formula, EXPR_OR, KIND_I64, parents, victims);
    (void)formula_op2(formula, EXPR_OR, KIND_I64, plain, either);
    program_guard(program, formula->expr, ERR_EPERM);
}

void guard_sticky(struct program *program, uint8_t parent, uint8_t victim, uint32_t uid)
{
    struct formula formula;
    if (uid == 0) return;
    formula_begin(&formula);
    sticky(program, &formula, formula_u64(&formula, uid), parent, victim);
}

void guard_sticky_param(struct program *program, uint8_t parent, uint8_t victim, uint16_t param)
{
    struct formula formula;
    formula_begin(&formula);
    sticky(program, &formula, formula_param(&formula, KIND_U64, param), parent, victim);
}

enum err check_addition(const struct fs_attr *parent)
{
    return parent->flags & FS_IMMUTABLE_FL ? ERR_EPERM : ERR_NONE;
}

void orphan_made(struct fs_client *client, uint64_t ino)
{
    if (nlookup_is_free(client->fs->nlookup, ino)) orphan_purge_later(client->fs, ino);
}
