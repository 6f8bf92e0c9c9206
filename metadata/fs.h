/* The file system: POSIX operations as transactions on rows. Nothing here knows FUSE.
 *
 * struct fs is shared by all threads of a metadata server; struct fs_client belongs to one thread
 * and holds its database client and reused memory. Every operation is straight-line: it returns
 * when it is done, with an ERR_E… value (or ERR_NONE), and has then happened as a whole or not at
 * all.
 *
 * Permissions: the caller's identity is passed where ownership, setgid inheritance or sticky rules
 * need it; the kernel checks mode bits (default_permissions), the operations re-check only what a
 * second server could have changed in between (types, emptiness, existence, link counts). */
#ifndef METADATA_FS_H
#define METADATA_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/diag.h"
#include "base/err.h"
#include "db/api/db.h"

enum {
    FS_NAME_SIZE_MAX = 255,
    FS_SYMLINK_SIZE_MAX = 4095,
    FS_XATTR_NAME_SIZE_MAX = 255,
    FS_XATTR_SIZE_MAX = 65536 - 1,
    FS_LINK_MAX = 1000000,
    FS_ROOT_INO = 1,
};
#define FS_FILE_SIZE_MAX ((uint64_t)INT64_MAX)

enum fs_type {
    FS_FILE = 1,
    FS_DIR = 2,
    FS_SYMLINK = 3,
    FS_FIFO = 4,
    FS_SOCKET = 5,
    FS_CHAR = 6,
    FS_BLOCK = 7
};

struct fs;
struct fs_client;

struct fs_caller {
    uint32_t uid;
    uint32_t gid;
    uint32_t umask; /* already applied by the kernel to modes; kept for ACLs to come */
    int32_t pid;
};

struct fs_attr {
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;  /* of 512 bytes */
    int64_t atime_ns; /* since 1970-01-01 UTC; may be negative */
    int64_t mtime_ns;
    int64_t ctime_ns;
    int64_t btime_ns;
    /* Of a directory: its parent; of others: a directory that has an entry for it, or 0 when one of
     * several links was removed and it is not known. */
    uint64_t parent;
    uint32_t mode; /* type and permission bits, as st_mode */
    uint32_t uid;
    uint32_t gid;
    uint32_t nlink;
    uint32_t rdev;
    uint32_t generation;
    uint32_t flags; /* FS_IOC_GETFLAGS bits: APPEND, IMMUTABLE, NOATIME, NODUMP */
    uint32_t project;
};

struct fs_config {
    struct db *db;
    /* The local device: objects are files below it. Made (0700) when the store is new; later it
     * must be the directory that this store marked. */
    const char *data_dir;
    unsigned io_threads; /* 0: 4 */
    bool relatime;       /* atime as relatime does; else never updated by reads */
    /* The database is in another process: this one holds a lease on the file system, so that no
     * other serves it at the same time. */
    bool shared;
    uint32_t timeout_ms; /* how long a change of data waits for the lease; 0: 10000 */
    /* Called once, on any thread, when nothing can be done any more, since another server took over
     * or the database lost what it had acknowledged: from then on everything fails with ERR_EIO.
     * May be NULL. */
    void (*lost)(void *context, const char *why);
    void *lost_context;
};

/* Makes the tables of database `fs` and the root directory when the store is new; purges orphans of
 * a former life. ERR_IN_USE: another server serves it; finding out that it is dead may take ten
 * seconds. */
MUST_USE enum err fs_open(const struct fs_config *config, struct fs **ret_fs, struct diag *diag);
/* Reports pending sizes, ends the I/O threads. All fs_clients destroyed before. */
MUST_USE enum err fs_close(struct fs *fs, struct diag *diag);
/* For the process that has the database, when it opens the store: a server within such a process
 * that had the file system is dead. */
MUST_USE enum err fs_lease_reset(struct db_client *client, struct diag *diag);
MUST_USE enum err fs_client_create(struct fs *fs, struct db_client *client,
                                   struct fs_client **ret_client);
void fs_client_destroy(struct fs_client *client);
/* The serving process only: the number of lookups the kernel holds per inode, so that an unlinked
 * inode lives until it is forgotten. fs_lookup, create, mknod, mkdir, symlink, link and readdirplus
 * entries count one each. */
void fs_forget(struct fs_client *client, uint64_t ino, uint64_t count);
/* Counts one more of each, for the entries that a readdirplus hands out. */
void fs_remember(struct fs_client *client, const uint64_t *inos, uint32_t count);

/* ---- names ---- ENOENT, ENOTDIR, ENAMETOOLONG where a name is looked up */
enum err fs_lookup(struct fs_client *client, uint64_t parent, const char *name,
                   struct fs_attr *ret_attr);
/* A regular file, FIFO, socket or device (mode has the type). EEXIST, EDQUOT, ENOSPC. */
enum err fs_mknod(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name, uint32_t mode, uint32_t rdev, struct fs_attr *ret_attr);
enum err fs_mkdir(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name, uint32_t mode, struct fs_attr *ret_attr); /* EMLINK */
enum err fs_symlink(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                    const char *name, const char *target, struct fs_attr *ret_attr);
enum err fs_readlink(struct fs_client *client, uint64_t ino, char target[FS_SYMLINK_SIZE_MAX + 1]);
enum err fs_link(struct fs_client *client, uint64_t ino, uint64_t parent, const char *name,
                 struct fs_attr *ret_attr); /* EPERM for a directory, EMLINK, EEXIST */
enum err fs_unlink(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                   const char *name); /* EISDIR, EPERM (immutable, append-only) */
enum err fs_rmdir(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                  const char *name); /* ENOTDIR, ENOTEMPTY */
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE. EINVAL (into its own subtree), ENOTEMPTY, EISDIR,
 * ENOTDIR, EEXIST. */
enum err fs_rename(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                   const char *name, uint64_t new_parent, const char *new_name, unsigned flags);

/* ---- attributes ---- */
enum err fs_getattr(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr);
enum fs_set {
    FS_SET_MODE = 1,
    FS_SET_UID = 2,
    FS_SET_GID = 4,
    FS_SET_SIZE = 8,
    FS_SET_ATIME = 16,
    FS_SET_MTIME = 32,
    FS_SET_ATIME_NOW = 64,
    FS_SET_MTIME_NOW = 128,
    FS_SET_CTIME = 256,
    FS_SET_KILL_SUID =
        512, /* clear setuid, and setgid of a group-executable file: after a write or chown */
};
enum err fs_setattr(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                    unsigned set, const struct fs_attr *attr, struct fs_attr *ret_attr);
enum err fs_flags_set(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      uint32_t flags);
struct fs_statfs {
    uint64_t bytes_total, bytes_free, bytes_available; /* of the data device */
    uint64_t files_total, files_free;
    uint32_t block_size, name_size_max;
};
enum err fs_statfs(struct fs_client *client, struct fs_statfs *ret_statfs);

/* ---- extended attributes ---- names with their prefix (user., trusted., security.); flags
 * XATTR_CREATE, XATTR_REPLACE. ENODATA, EEXIST, ERANGE (size > 0 and too small), EOPNOTSUPP (other
 * prefixes), EPERM. *ret_size is the value's size. */
enum err fs_xattr_set(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      const char *name, const void *value, size_t size, int flags);
enum err fs_xattr_get(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      const char *name, void *value, size_t size, size_t *ret_size);
enum err fs_xattr_list(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                       char *list, size_t size, size_t *ret_size);
enum err fs_xattr_remove(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                         const char *name);

/* ---- directories ---- entries in the order of their cookies, which stay valid for ever: a
 * seekable, streaming directory. "." has cookie 1, ".." 2; the others are above. */
struct fs_dirent {
    uint64_t ino;
    uint64_t cookie;  /* of this entry: reading goes on behind it */
    const char *name; /* NUL-terminated, borrowed until the next call on this client */
    uint32_t name_size;
    uint8_t type;        /* enum fs_type */
    bool has_attr;       /* of readdirplus; false when the inode was removed meanwhile */
    struct fs_attr attr; /* when has_attr; without btime_ns, flags, project and parent */
};
/* Entries behind `cookie` (0: from the start), at most count. Fewer only at the end: 0 means end.
 * plus: with attributes (fetched from wherever they are). */
enum err fs_readdir(struct fs_client *client, uint64_t ino, uint64_t cookie, bool plus,
                    struct fs_dirent *entries, uint32_t count, uint32_t *ret_count);

/* ---- open files and data ---- a handle is shared by threads; data calls run on the I/O threads
 * and call back there. */
struct fs_file;
enum err fs_open_file(struct fs_client *client, uint64_t ino, int flags, struct fs_file **ret_file);
/* mknod and open in one. */
enum err fs_create_file(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                        const char *name, uint32_t mode, int flags, struct fs_attr *ret_attr,
                        struct fs_file **ret_file);
struct fs_io {
    struct fs_file *file;
    uint64_t offset;
    uint64_t size;
    void *bytes;     /* read into, written from: the caller's until done */
    enum err err;    /* outcome */
    uint64_t result; /* bytes done, or the offset found by seek */
    int mode;        /* of fallocate and seek */
    bool data_only;  /* of fsync */
    bool at_offset;  /* of write: at `offset` though the handle was opened with O_APPEND: the flag
                        was taken back */
    void (*done)(
        struct fs_io *io); /* on an I/O thread, or on this one when it could be answered at once */
    struct fs_io *next;    /* the queue's */
    uint8_t op;            /* the queue's */
    struct fs_file *to;    /* of copy */
    uint64_t to_offset;
};
void fs_read(struct fs_client *client, struct fs_io *io);
void fs_write(struct fs_client *client, struct fs_io *io); /* O_APPEND of the handle is obeyed */
void fs_fallocate(struct fs_client *client,
                  struct fs_io *io); /* KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE; else EOPNOTSUPP */
void fs_seek(struct fs_client *client, struct fs_io *io); /* SEEK_DATA, SEEK_HOLE; ENXIO */
void fs_copy(struct fs_client *client, struct fs_io *io); /* copy_file_range */
void fs_fsync(struct fs_client *client,
              struct fs_io *io); /* object, size and redo on disk when done */
/* Size and times written so far become rows (close(2) of one descriptor). */
enum err fs_flush_file(struct fs_client *client, struct fs_file *file);
enum err fs_release_file(struct fs_client *client, struct fs_file *file);
/* Everything: all pending sizes, redo. For fsync of directories (data_only false) and syncfs. */
enum err fs_sync(struct fs_client *client);

/* An absolute path within the file system to its inode, following no symbolic links; for reports.
 */
enum err fs_path_lookup(struct fs_client *client, const char *path, struct fs_attr *ret_attr);
/* The same for a process that does not serve the file system. */
MUST_USE enum err fs_path_find(struct db_client *client, const char *path,
                               struct fs_attr *ret_attr);
/* The table is the file system's own: without it there is no file system. */
bool fs_table_is_own(const char *database, const char *name);
/* Sizes and times written so far become rows: what a query sees afterwards. */
MUST_USE enum err fs_report(struct fs_client *client);

#endif
