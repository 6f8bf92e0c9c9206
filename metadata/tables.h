/* The tables of database `fs`: their columns, and how they are made. Private to metadata/.
 *
 * Where rows live: an inode in the partition of its home (bits 37 to 52 of its number), a
 * directory's entries with the directory's inode, everything about one inode with that inode. usage
 * and ino_range have a row set per partition. */
#ifndef METADATA_TABLES_H
#define METADATA_TABLES_H

#include "base/diag.h"
#include "base/err.h"
#include "db/api/db.h"

#define FS_DATABASE "fs"

enum inode_column {
    INODE_INO,
    INODE_TYPE, /* enum fs_type */
    INODE_MODE, /* permission bits, 07777 */
    INODE_UID,
    INODE_GID,
    INODE_NLINK,
    INODE_SIZE,
    INODE_BLOCKS,
    INODE_ATIME,
    INODE_MTIME,
    INODE_CTIME,
    INODE_BTIME,
    INODE_RDEV,
    INODE_GENERATION, /* the life (see life.c) in which it was made */
    INODE_FLAGS,      /* FS_IOC_GETFLAGS bits and enum inode_flag */
    INODE_PROJECT,
    INODE_PARENT, /* a directory that has an entry for it; 0: not known (one of several links was
                     removed) */
    INODE_LAYOUT_CLASS,
    INODE_COLUMNS,
};

/* Bits of inode.flags that are ours: chosen where Linux has none that a user may set. */
enum inode_flag { INODE_HAS_XATTR = 1 << 30 };

enum dentry_column {
    DENTRY_PARENT,
    DENTRY_HASH,
    DENTRY_NAME,
    DENTRY_INO,
    DENTRY_TYPE,
    DENTRY_COLUMNS
};
enum symlink_column { SYMLINK_INO, SYMLINK_TARGET, SYMLINK_COLUMNS };
enum xattr_column { XATTR_INO, XATTR_NAME, XATTR_VALUE, XATTR_COLUMNS };
/* An inode with background work to do on its object. With nlink 0: to be purged when nobody has it
 * open. Else: bytes of the object behind `size` are of before a truncation and must be cut off. */
enum orphan_column { ORPHAN_INO, ORPHAN_SIZE, ORPHAN_SINCE, ORPHAN_COLUMNS };
enum usage_column {
    USAGE_SLOT, /* the partition's number */
    USAGE_PROJECT,
    USAGE_UID,
    USAGE_GID,
    USAGE_FILES, /* inodes of every type */
    USAGE_BYTES, /* the sum of their sizes */
    USAGE_BLOCKS,
    USAGE_COLUMNS,
};
enum ino_range_column { INO_RANGE_SLOT, INO_RANGE_NEXT, INO_RANGE_COLUMNS };
/* Single values: "life", "life_clean" (life.c), "move" (rename.c). */
enum counter_column { COUNTER_NAME, COUNTER_VALUE, COUNTER_COLUMNS };
enum device_column {
    DEVICE_ID,
    DEVICE_KIND,
    DEVICE_POOL,
    DEVICE_IDENTITY,
    DEVICE_LOCATION,
    DEVICE_COLUMNS
};
enum layout_class_column {
    LAYOUT_CLASS_ID,
    LAYOUT_CLASS_STRIPE_UNIT, /* 0: the whole file is one stripe */
    LAYOUT_CLASS_WIDTH,
    LAYOUT_CLASS_MIRRORS,
    LAYOUT_CLASS_POOL,
    LAYOUT_CLASS_COLUMNS,
};

/* Which metadata server serves the file system (lease.c): row 0; the others, one for each
 * partition, have its epoch only. */
enum server_column {
    SERVER_SLOT, /* the partition's number */
    SERVER_EPOCH,
    SERVER_STATE,
    SERVER_RENEWAL,
    SERVER_HOLDER,
    SERVER_COLUMNS,
};
enum { SERVER_HOLDER_SIZE = 255 };

enum fs_table {
    TABLE_INODE,
    TABLE_DENTRY,
    TABLE_SYMLINK,
    TABLE_XATTR,
    TABLE_ORPHAN,
    TABLE_USAGE,
    TABLE_INO_RANGE,
    TABLE_COUNTER,
    TABLE_DEVICE,
    TABLE_LAYOUT_CLASS,
    TABLE_SERVER,
    TABLE_COUNT,
};

/* Definitions as of one catalog, borrowed from it. */
struct tables {
    const struct table_def *at[TABLE_COUNT];
};

/* Makes those that are missing. ERR_VERSION when one is there that this program does not know; what
 * db_create_table returns. */
MUST_USE enum err tables_create(struct db_client *client, struct diag *diag);
/* ERR_TABLE_UNKNOWN when one is missing. */
MUST_USE enum err tables_find(const struct catalog *catalog, struct tables *ret_tables);

#endif
