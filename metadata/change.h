/* A change of several rows in several partitions, as one transaction. Private to metadata/.
 *
 * The way of everything that one partition cannot decide alone: read what matters, decide, then run
 * one program that changes the rows under guards which say that what was read still holds;
 * ERR_STALE sends the caller back to reading. Rows of one home form a section. */
#ifndef METADATA_CHANGE_H
#define METADATA_CHANGE_H

#include "metadata/client.h"

enum { CHANGE_INODES_MAX = 8, CHANGE_DENTRIES_MAX = 4 };

/* What happens to an inode. Guards first (ERR_STALE when they fail). */
struct change_inode {
    uint64_t ino;
    bool is_dir;      /* guard: it is (not) a directory */
    bool guard_nlink; /* guard: as `nlink` */
    bool guard_alive; /* guard: nlink > 0 */
    bool guard_empty; /* guard: a directory without entries, else ERR_ENOTEMPTY */
    bool guard_flags; /* guard: as `flags` */
    uint32_t nlink;
    uint32_t flags;
    int32_t nlink_delta;
    bool nlink_zero; /* nlink becomes 0, and the inode an orphan */
    bool touch_data; /* mtime, as of a directory whose entries change */
    bool set_parent;
    uint64_t parent;
};

enum change_dentry_kind { DENTRY_INSERT = 1, DENTRY_DELETE, DENTRY_REPLACE };

struct change_dentry {
    enum change_dentry_kind kind;
    uint64_t parent;
    struct name name;
    uint64_t old_ino; /* DELETE, REPLACE; guard */
    uint64_t ino;     /* INSERT, REPLACE */
    enum fs_type type;
    enum err on_exists; /* of INSERT */
};

struct change {
    int64_t now;
    uint32_t inode_count;
    uint32_t dentry_count;
    struct change_inode inodes[CHANGE_INODES_MAX];
    struct change_dentry dentries[CHANGE_DENTRIES_MAX];
    const char
        *counter; /* one that must still be counter_value, and is then one more; NULL: none */
    uint64_t counter_value;
};

/* The inode's part of the change, a new one when it has none yet. */
struct change_inode *change_inode(struct change *change, uint64_t ino, bool is_dir);
/* A directory whose entries change: alive, and its times. */
struct change_inode *change_parent(struct change *change, uint64_t ino);
struct change_dentry *change_dentry(struct change *change, enum change_dentry_kind kind,
                                    uint64_t parent, const struct name *name);
/* One attempt. ERR_STALE: read again. ERR_ENOTEMPTY, on_exists. */
MUST_USE enum err change_run(struct fs_client *client, const struct change *change);

/* ---- reading what is to be changed ---- */

struct found {
    bool present;        /* there is such an entry */
    struct fs_attr attr; /* of its inode */
    struct fs_attr parent;
};
/* The entry, its inode and its directory. ERR_ENOENT (no such directory, or removed), ERR_ENOTDIR;
 * ERR_STALE when it changed in between. One attempt. */
MUST_USE enum err find_entry(struct fs_client *client, uint64_t parent, const struct name *name,
                             struct found *ret_found);
/* May the caller remove the entry from its directory? ERR_EPERM: immutable, append-only, or sticky
 * and not his. */
MUST_USE enum err check_removal(const struct fs_caller *caller, const struct found *found);
/* The sticky part of that as a guard on the victim's step: the directory is not sticky, or one of
 * the two is the caller's. */
void guard_sticky(struct program *program, uint8_t parent, uint8_t victim, uint32_t uid);
/* The same for the user in a parameter, who is not root. */
void guard_sticky_param(struct program *program, uint8_t parent, uint8_t victim, uint16_t param);
/* May entries be added? ERR_EPERM: immutable. */
MUST_USE enum err check_addition(const struct fs_attr *parent);
/* The last link of these inodes may have gone: marks them, and queues those that nobody refers to.
 */
void orphan_made(struct fs_client *client, uint64_t ino);

#endif
