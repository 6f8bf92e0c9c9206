/* Inode rows as attributes: one, or many at once. */
#include "metadata/client.h"

const uint16_t attr_columns[ATTR_COLUMN_COUNT] = {
    INODE_INO,  INODE_TYPE,       INODE_MODE,  INODE_UID,     INODE_GID,    INODE_NLINK,
    INODE_SIZE, INODE_BLOCKS,     INODE_ATIME, INODE_MTIME,   INODE_CTIME,  INODE_BTIME,
    INODE_RDEV, INODE_GENERATION, INODE_FLAGS, INODE_PROJECT, INODE_PARENT,
};

uint32_t type_mode(enum fs_type type)
{
    static const uint32_t modes[] = {
        [FS_FILE] = S_IFREG, [FS_DIR] = S_IFDIR,     [FS_SYMLINK] = S_IFLNK, [FS_FIFO] = S_IFIFO,
        [FS_CHAR] = S_IFCHR, [FS_SOCKET] = S_IFSOCK, [FS_BLOCK] = S_IFBLK};
    return type < ARRAY_SIZE(modes) ? modes[type] : 0;
}

void attr_decode(const struct value *values, struct fs_attr *ret_attr)
{
    *ret_attr = (struct fs_attr){
        .ino = values[INODE_INO].u,
        .size = values[INODE_SIZE].u,
        .blocks = values[INODE_BLOCKS].u,
        .atime_ns = values[INODE_ATIME].i,
        .mtime_ns = values[INODE_MTIME].i,
        .ctime_ns = values[INODE_CTIME].i,
        .btime_ns = values[INODE_BTIME].i,
        .parent = values[INODE_PARENT].u,
        .mode = type_mode((enum fs_type)values[INODE_TYPE].u) | (uint32_t)values[INODE_MODE].u,
        .uid = (uint32_t)values[INODE_UID].u,
        .gid = (uint32_t)values[INODE_GID].u,
        .nlink = (uint32_t)values[INODE_NLINK].u,
        .rdev = (uint32_t)values[INODE_RDEV].u,
        .generation = (uint32_t)values[INODE_GENERATION].u,
        .flags = (uint32_t)values[INODE_FLAGS].u,
        .project = (uint32_t)values[INODE_PROJECT].u,
    };
}

static void build_inode_read(struct fs_client *client, struct program *program, unsigned shape)
{
    (void)shape;
    const uint8_t kinds[] = {KIND_U64};
    program_params(program, kinds, ARRAY_SIZE(kinds));
    program_section(program, 0);
    struct operand key = operand_param(0);
    (void)program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
}

enum err inode_read(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr)
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    uint16_t slot = ino_home(ino);
    struct value param = value_u64(ino);
    enum err err =
        client_run_prepared(client, PREPARED_INODE_READ, 0, build_inode_read, &slot, &param);
    if (err) return err;
    const struct value *row = client_row(client, 0);
    if (!row) return ERR_EIO;
    attr_decode(row, ret_attr);
    return ERR_NONE;
}

/* ---- many ---- */

enum { READ_STEPS = 60, READ_SECTIONS = PROGRAM_SECTIONS_MAX };

/* What one program reads: inodes of one worker, so that no other takes part. */
struct read_batch {
    size_t at[READ_STEPS]; /* positions in the caller's arrays */
    uint8_t steps[READ_STEPS];
    uint32_t count;
    uint16_t homes[READ_SECTIONS];
    uint32_t home_count;
};

static bool batch_add(struct read_batch *batch, size_t at, uint16_t home)
{
    if (batch->count == READ_STEPS) return false;
    uint32_t known = 0;
    while (known < batch->home_count && batch->homes[known] != home)
        known++;
    if (known == READ_SECTIONS) return false;
    if (known == batch->home_count) batch->homes[batch->home_count++] = home;
    batch->at[batch->count++] = at;
    return true;
}

static enum err batch_run(struct fs_client *client, struct read_batch *batch, const uint64_t *inos,
                          struct fs_attr *attrs, bool *found)
{
    struct program *program = &client->program;
    program_begin(program);
    for (uint32_t i = 0; i < batch->home_count; i++) {
        program_section(program, batch->homes[i]);
        for (uint32_t j = 0; j < batch->count; j++) {
            uint64_t ino = inos[batch->at[j]];
            if (ino_home(ino) != batch->homes[i]) continue;
            struct operand key = operand_u64(ino);
            batch->steps[j] =
                program_read(program, client_table(client, TABLE_INODE), &key, ERR_NONE);
            program_flags(program, STEP_OPTIONAL);
            program_output(program, attr_columns, ATTR_COLUMN_COUNT);
        }
    }
    enum err err = client_run(client);
    if (err) return err;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct value *row = client_row(client, batch->steps[i]);
        found[batch->at[i]] = row != NULL;
        if (row) attr_decode(row, &attrs[batch->at[i]]);
    }
    return ERR_NONE;
}

/* The worker counts in a node that restarts, so one reading of it groups all: with two an inode
 * could be in no group, which must never look like one that has no row. */
enum err inodes_read(struct fs_client *client, const uint64_t *inos, size_t count,
                     struct fs_attr *attrs, bool *found)
{
    const struct fs *fs = client->fs;
    uint16_t workers = db_worker_count(fs->db);
    if (workers == 0) workers = 1;
    size_t left = 0; /* those that no program has asked for yet */
    for (size_t i = 0; i < count; i++) {
        found[i] = false;
        left += !(inos[i] >> INO_BITS);
    }
    for (uint16_t worker = 0; worker < workers; worker++) {
        for (size_t at = 0; at < count;) {
            struct read_batch batch = {0};
            for (; at < count; at++) {
                if (inos[at] >> INO_BITS || inode_group(fs, inos[at], workers) != worker) continue;
                if (!batch_add(&batch, at, ino_home(inos[at]))) break;
            }
            if (batch.count == 0) continue;
            struct retry retry = {0};
            enum err err;
            do
                err = batch_run(client, &batch, inos, attrs, found);
            while (client_again(client, &retry, &err));
            if (err) return err;
            left -= batch.count;
        }
    }
    return left ? ERR_STALE : ERR_NONE;
}
