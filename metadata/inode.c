/* An inode's row as attributes. */
#include "metadata/client.h"

const uint16_t attr_columns[ATTR_COLUMN_COUNT] = {
    INODE_INO,   INODE_TYPE,  INODE_MODE,  INODE_UID,        INODE_GID,   INODE_NLINK,
    INODE_SIZE,  INODE_BLOCKS, INODE_ATIME, INODE_MTIME,     INODE_CTIME, INODE_BTIME,
    INODE_RDEV,  INODE_GENERATION, INODE_FLAGS, INODE_PROJECT, INODE_PARENT,
};

uint32_t type_mode(enum fs_type type)
{
    static const uint32_t modes[] = {
        [FS_FILE] = S_IFREG, [FS_DIR] = S_IFDIR,    [FS_SYMLINK] = S_IFLNK, [FS_FIFO] = S_IFIFO,
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

enum err inode_read(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr)
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    uint8_t step = program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    program_output(program, attr_columns, ATTR_COLUMN_COUNT);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, step);
    if (!row) return ERR_EIO;
    attr_decode(row, ret_attr);
    return ERR_NONE;
}
