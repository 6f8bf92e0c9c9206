/* Attributes: getattr, setattr, inode flags, statfs.
 *
 * setattr has two ways. A change of mode or times is one program, with the new values as constants.
 * What depends on the row (owner: usage moves with it; size: the object must be cut; clearing of
 * setuid) reads the row first and changes it under the guard that its ctime and size are still the
 * ones read, so every change of an inode gives it another ctime.
 *
 * A truncation (see data.c) goes to the open inode first, so that reads and reports know it, then
 * to the row; when the transaction fails, the open inode gets back what it had, unless it was
 * truncated again in between. */
#include <linux/fs.h>

#include "metadata/device.h"
#include "metadata/open.h"
#include "metadata/orphan.h"

enum { FLAGS_KNOWN = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_NOATIME_FL | FS_NODUMP_FL };
enum { FLAGS_PROTECT = FS_APPEND_FL | FS_IMMUTABLE_FL };

/* Reads again when a report came in between: each attempt sees a newer row, so a few are enough. */
enum { OVERLAY_ATTEMPTS = 16 };

static enum err inode_read_again(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr)
{
    struct retry retry = {0};
    enum err err;
    do
        err = inode_read(client, ino, ret_attr);
    while (client_again(client, &retry, &err));
    return err;
}

enum err fs_getattr(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr)
{
    struct fs_attr attr;
    uint64_t epoch;
    int attempts = 0;
    do {
        epoch = open_epoch(client->fs);
        enum err err = inode_read_again(client, ino, &attr);
        if (err) return err;
    } while (!open_overlay(client->fs, epoch, &attr) && ++attempts < OVERLAY_ATTEMPTS);
    attr_publish(&attr);
    *ret_attr = attr;
    return ERR_NONE;
}

enum err fs_statfs(struct fs_client *client, struct fs_statfs *ret_statfs)
{
    return device_statfs(client->fs->device, ret_statfs);
}

/* ---- setattr ---- */

enum {
    SET_OWNER = FS_SET_UID | FS_SET_GID,
    SET_ATIME = FS_SET_ATIME | FS_SET_ATIME_NOW,
    SET_MTIME = FS_SET_MTIME | FS_SET_MTIME_NOW,
    SET_SIMPLE = FS_SET_MODE | SET_ATIME | SET_MTIME | FS_SET_CTIME,
};

struct setattr {
    uint64_t ino;
    unsigned set;
    int64_t now;
    int64_t atime; /* with SET_ATIME */
    int64_t mtime;
    const struct fs_attr *attr;
    struct open_inode *inode; /* NULL: not open, and the size does not change */
    struct fs_attr *result;
};

/* What explicit times replaced in the open inode. */
struct pending_times {
    unsigned dirty;
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
};

/* Explicit times are the open inode's, too: a later report must not undo them. */
static struct pending_times times_begin(const struct setattr *setattr)
{
    struct open_inode *inode = setattr->inode;
    struct pending_times times = {0};
    if (!inode) return times;
    pthread_mutex_lock(&inode->mutex);
    if (setattr->set & SET_ATIME) {
        times.atime = inode->atime;
        times.dirty |= inode->dirty & DIRTY_ATIME;
        inode->atime = setattr->atime;
        inode->dirty &= ~(unsigned)DIRTY_ATIME;
    }
    if (setattr->set & SET_MTIME) {
        times.mtime = inode->mtime;
        times.dirty |= inode->dirty & DIRTY_MTIME;
        inode->mtime = setattr->mtime;
        inode->dirty &= ~(unsigned)DIRTY_MTIME;
    }
    times.ctime = inode->ctime;
    if (setattr->now > inode->ctime) inode->ctime = setattr->now;
    pthread_mutex_unlock(&inode->mutex);
    return times;
}

/* The row did not take them: what was there before is so again, unless it was replaced since. */
static void times_undo(const struct setattr *setattr, const struct pending_times *times)
{
    struct open_inode *inode = setattr->inode;
    if (!inode) return;
    pthread_mutex_lock(&inode->mutex);
    unsigned dirty = times->dirty & ~inode->dirty;
    if ((setattr->set & SET_ATIME) && !(inode->dirty & DIRTY_ATIME)) inode->atime = times->atime;
    if ((setattr->set & SET_MTIME) && !(inode->dirty & DIRTY_MTIME)) inode->mtime = times->mtime;
    if (inode->ctime == setattr->now) inode->ctime = times->ctime;
    if (dirty) open_mark_dirty(inode, dirty);
    pthread_mutex_unlock(&inode->mutex);
}

static void set_times(struct program *program, const struct setattr *setattr, int64_t ctime)
{
    if (setattr->set & SET_ATIME) set_i64(program, INODE_ATIME, setattr->atime);
    if (setattr->set & SET_MTIME) set_i64(program, INODE_MTIME, setattr->mtime);
    set_i64(program, INODE_CTIME, ctime);
}

/* Mode and times: one program. */
static enum err setattr_simple(struct fs_client *client, const struct setattr *setattr)
{
    struct program *program = client_begin(client, ino_home(setattr->ino));
    struct operand key = operand_u64(setattr->ino);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    /* Setting times to now is what a writer may do, so append-only files allow it. */
    bool now_only = !(setattr->set & ~(unsigned)(FS_SET_ATIME_NOW | FS_SET_MTIME_NOW));
    guard_clear(program, step, INODE_FLAGS, now_only ? FS_IMMUTABLE_FL : FLAGS_PROTECT, ERR_EPERM);
    if (setattr->set & FS_SET_MODE) set_u64(program, INODE_MODE, setattr->attr->mode & 07777);
    set_times(program, setattr,
              setattr->set & FS_SET_CTIME ? setattr->attr->ctime_ns : setattr->now);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, step);
    if (!row) return ERR_EIO;
    attr_decode(row, setattr->result);
    return ERR_NONE;
}

/* A file has no blocks beyond its end: what truncation leaves at most, until the object was cut and
 * its blocks counted. */
static uint64_t blocks_within(uint64_t blocks, uint64_t size)
{
    uint64_t most = size / 512 + 8;
    most -= most % 8;
    if (size == 0) most = 0;
    return blocks < most ? blocks : most;
}

/* What a truncation changed in the open inode, to take it back. */
struct truncation {
    uint64_t count;
    uint64_t size;
    uint64_t blocks;
    uint64_t truncate_to;
    int64_t since;
    bool cut;    /* the object must be looked at */
    uint64_t to; /* and cut here */
};

static struct truncation truncation_begin(const struct setattr *setattr)
{
    struct open_inode *inode = setattr->inode;
    uint64_t size = setattr->attr->size;
    bool object = open_object_state(inode) != OBJECT_MISSING;
    pthread_mutex_lock(&inode->mutex);
    struct truncation truncation = {.size = inode->size,
                                    .blocks = inode->blocks,
                                    .truncate_to = inode->truncate_to,
                                    .since = inode->truncate_since};
    truncation.to = size < inode->size ? size : inode->size;
    if (inode->truncate_to < truncation.to) truncation.to = inode->truncate_to;
    truncation.cut = object && size != inode->size;
    truncation.count = ++inode->truncate_count;
    inode->size = size;
    inode->blocks = blocks_within(inode->blocks, size);
    inode->truncating++;
    if (truncation.cut) {
        inode->truncate_to = truncation.to;
        inode->truncate_since = setattr->now;
    }
    pthread_mutex_unlock(&inode->mutex);
    return truncation;
}

static void truncation_end(const struct setattr *setattr, const struct truncation *truncation,
                           bool committed)
{
    struct open_inode *inode = setattr->inode;
    pthread_mutex_lock(&inode->mutex);
    if (committed) {
        inode->truncated_ns = fs_monotonic_ns();
    } else if (inode->truncate_count == truncation->count) {
        if (inode->size == setattr->attr->size) inode->size = truncation->size;
        if (inode->blocks == blocks_within(truncation->blocks, setattr->attr->size))
            inode->blocks = truncation->blocks;
        inode->truncate_to = truncation->truncate_to;
        inode->truncate_since = truncation->since;
    }
    if (--inode->truncating == 0) pthread_cond_broadcast(&inode->settled);
    pthread_mutex_unlock(&inode->mutex);
}

static enum err setattr_check(const struct setattr *setattr, const struct fs_attr *row)
{
    const unsigned protect =
        FS_SET_MODE | SET_OWNER | FS_SET_SIZE | FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME;
    if ((row->flags & FS_IMMUTABLE_FL) && (setattr->set & ~(unsigned)FS_SET_KILL_SUID))
        return ERR_EPERM;
    if ((row->flags & FS_APPEND_FL) && (setattr->set & protect)) return ERR_EPERM;
    return ERR_NONE;
}

/* Permission bits after the change: a change of owner, and a write, clear setuid and a
 * group-executable setgid. */
static uint32_t setattr_mode(const struct setattr *setattr, const struct fs_attr *row)
{
    if (setattr->set & FS_SET_MODE) return setattr->attr->mode & 07777;
    uint32_t mode = row->mode & 07777;
    bool kill = (setattr->set & (SET_OWNER | FS_SET_KILL_SUID)) && !S_ISDIR(row->mode);
    if (!kill) return mode;
    mode &= ~(uint32_t)S_ISUID;
    if (mode & S_IXGRP) mode &= ~(uint32_t)S_ISGID;
    return mode;
}

/* Steps that mark the object to be cut, on the open section. */
static void add_cut(struct fs_client *client, const struct operand *key, uint64_t to, int64_t now)
{
    struct program *program = &client->program;
    const struct operand values[ORPHAN_COLUMNS] = {
        [ORPHAN_INO] = *key,
        [ORPHAN_SIZE] = operand_u64(to),
        [ORPHAN_SINCE] = operand_value(value_i64(now)),
    };
    uint8_t own = program_upsert(program, client_table(client, TABLE_ORPHAN), values);
    program_flags(program, STEP_FREES);
    struct formula formula;
    formula_begin(&formula);
    uint16_t old = formula_column(&formula, KIND_U64, own, ORPHAN_SIZE);
    uint16_t new = formula_u64(&formula, to);
    uint16_t less = formula_op2(&formula, EXPR_LT, KIND_U64, old, new);
    (void)formula_select(&formula, KIND_U64, less, old, new);
    program_set(program, ORPHAN_SIZE, operand_expr(formula.expr));
    set_i64(program, ORPHAN_SINCE, now);
}

/* The row becomes `next`, if it still is `row`. */
static enum err setattr_run(struct fs_client *client, const struct setattr *setattr,
                            const struct fs_attr *row, const struct fs_attr *next,
                            const struct truncation *truncation)
{
    uint16_t slot = ino_home(row->ino);
    struct program *program = client_begin(client, slot);
    struct operand key = operand_u64(row->ino);
    const struct table_def *table = client_table(client, TABLE_INODE);
    uint8_t step = program_read(program, table, &key, ERR_ESTALE);
    guard_equal_i64(program, step, INODE_CTIME, row->ctime_ns, ERR_STALE);
    guard_equal(program, step, INODE_SIZE, row->size, ERR_STALE);
    guard_equal(program, step, INODE_BLOCKS, row->blocks, ERR_STALE);
    if (next->uid != row->uid || next->gid != row->gid) {
        usage_remove(client, slot, step);
        usage_add(client, slot, next);
    } else if (next->size != row->size || next->blocks != row->blocks) {
        usage_resize(client, slot, step, next->size, next->blocks);
    }
    if (truncation && truncation->cut) add_cut(client, &key, truncation->to, setattr->now);
    (void)program_update(program, table, &key, ERR_ESTALE);
    set_u64(program, INODE_MODE, next->mode & 07777);
    set_u64(program, INODE_UID, next->uid);
    set_u64(program, INODE_GID, next->gid);
    set_u64(program, INODE_SIZE, next->size);
    set_u64(program, INODE_BLOCKS, next->blocks);
    set_times(program, setattr, next->ctime_ns);
    return client_run(client);
}

static enum err setattr_full(struct fs_client *client, const struct setattr *setattr,
                             const struct truncation *truncation)
{
    unsigned set = setattr->set;
    struct fs_attr row;
    enum err err = inode_read(client, setattr->ino, &row);
    if (!err) err = setattr_check(setattr, &row);
    if (err) return err;
    struct fs_attr next = row;
    next.mode = (row.mode & S_IFMT) | setattr_mode(setattr, &row);
    bool changes = next.mode != row.mode || (set & ~(unsigned)FS_SET_KILL_SUID);
    if (!changes) {
        *setattr->result = row;
        return ERR_NONE;
    }
    if (set & FS_SET_UID) next.uid = setattr->attr->uid;
    if (set & FS_SET_GID) next.gid = setattr->attr->gid;
    if (set & FS_SET_SIZE) {
        next.size = setattr->attr->size;
        next.blocks = blocks_within(row.blocks, next.size);
    }
    if (set & SET_ATIME) next.atime_ns = setattr->atime;
    if (set & SET_MTIME) next.mtime_ns = setattr->mtime;
    next.ctime_ns = set & FS_SET_CTIME ? setattr->attr->ctime_ns : setattr->now;
    /* Another ctime each time, see above. */
    if (next.ctime_ns == row.ctime_ns) next.ctime_ns++;
    err = setattr_run(client, setattr, &row, &next, truncation);
    if (!err) *setattr->result = next;
    return err;
}

static enum err setattr_simple_again(struct fs_client *client, const struct setattr *setattr)
{
    struct retry retry = {0};
    enum err err;
    do
        err = setattr_simple(client, setattr);
    while (client_again(client, &retry, &err));
    return err;
}

/* Whether the row refuses it, before anybody can see any of it; the change itself looks again. */
static enum err setattr_refused(struct fs_client *client, const struct setattr *setattr)
{
    struct fs_attr row;
    enum err err = inode_read_again(client, setattr->ino, &row);
    return err ? err : setattr_check(setattr, &row);
}

static enum err setattr_full_again(struct fs_client *client, const struct setattr *setattr)
{
    struct truncation truncation;
    bool truncates = (setattr->set & FS_SET_SIZE) != 0;
    if (truncates) truncation = truncation_begin(setattr);
    struct retry retry = {0};
    enum err err;
    do
        err = setattr_full(client, setattr, truncates ? &truncation : NULL);
    while (client_again(client, &retry, &err));
    if (!truncates) return err;
    /* OUTCOME_UNKNOWN: believe in it, the row and its orphan say the same if it happened, and reads
     * are zeros now. */
    bool committed = err == ERR_NONE || err == ERR_OUTCOME_UNKNOWN;
    truncation_end(setattr, &truncation, committed);
    if (committed && truncation.cut) background_cut_later(setattr->inode);
    return err;
}

enum err fs_setattr(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                    unsigned set, const struct fs_attr *attr, struct fs_attr *ret_attr)
{
    (void)caller;
    struct fs_attr result;
    struct setattr setattr = {.ino = ino, .set = set, .attr = attr, .result = &result};
    if (set & FS_SET_SIZE) {
        if (attr->size > FS_FILE_SIZE_MAX) return ERR_EFBIG;
        enum err err = open_acquire(client, ino, &setattr.inode);
        if (err == ERR_ELOOP || err == ERR_ENXIO) return ERR_EINVAL;
        if (err) return err;
        /* A new size is a change of data. */
        if (!(set & SET_MTIME)) setattr.set |= FS_SET_MTIME_NOW;
    } else if (set & (SET_ATIME | SET_MTIME)) {
        setattr.inode = open_find(client->fs, ino);
    }
    setattr.now = fs_now();
    setattr.atime = set & FS_SET_ATIME ? attr->atime_ns : setattr.now;
    setattr.mtime = set & FS_SET_MTIME ? attr->mtime_ns : setattr.now;
    bool simple = setattr.set && !(setattr.set & ~(unsigned)SET_SIMPLE);
    enum err err = setattr.inode && !simple ? setattr_refused(client, &setattr) : ERR_NONE;
    uint64_t epoch = open_epoch(client->fs);
    if (!err) {
        struct pending_times times = times_begin(&setattr);
        err =
            simple ? setattr_simple_again(client, &setattr) : setattr_full_again(client, &setattr);
        if (err) times_undo(&setattr, &times);
    }
    if (setattr.inode) open_put(setattr.inode);
    if (err) return err;
    if (!open_overlay(client->fs, epoch, &result)) return fs_getattr(client, ino, ret_attr);
    attr_publish(&result);
    *ret_attr = result;
    return ERR_NONE;
}

/* ---- flags ---- */

static enum err flags_attempt(struct fs_client *client, const struct fs_caller *caller,
                              uint64_t ino, uint32_t flags)
{
    struct fs_attr row;
    enum err err = inode_read(client, ino, &row);
    if (err) return err;
    uint32_t next = (row.flags & ~(uint32_t)FLAGS_KNOWN) | flags;
    if (caller->uid != 0 && caller->uid != row.uid) return ERR_EPERM;
    if (caller->uid != 0 && ((next ^ row.flags) & FLAGS_PROTECT)) return ERR_EPERM;
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    guard_equal(program, step, INODE_FLAGS, row.flags, ERR_STALE);
    set_u64(program, INODE_FLAGS, next);
    set_i64(program, INODE_CTIME, fs_now());
    return client_run(client);
}

enum err fs_flags_set(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      uint32_t flags)
{
    if (flags & ~(uint32_t)FLAGS_KNOWN) return ERR_EOPNOTSUPP;
    struct retry retry = {0};
    enum err err;
    do
        err = flags_attempt(client, caller, ino, flags);
    while (client_again(client, &retry, &err));
    if (err) return err;
    struct open_inode *inode = open_find(client->fs, ino);
    if (inode) {
        pthread_mutex_lock(&inode->mutex);
        inode->flags = (inode->flags & ~(uint32_t)FLAGS_KNOWN) | flags;
        pthread_mutex_unlock(&inode->mutex);
        open_put(inode);
    }
    return ERR_NONE;
}
