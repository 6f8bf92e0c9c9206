/* What the operations of the file system share: the server's state, a thread's client, and how a
 * program is run. Private to metadata/.
 *
 * Threads: struct fs is read by all; what changes in it has its own locks, each in its own file. No
 * lock is ever held while a program runs: a worker that waits for a lock whose holder waits for
 * that worker would wait for ever. */
#ifndef METADATA_CLIENT_H
#define METADATA_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "metadata/formula.h"
#include "metadata/fs.h"
#include "metadata/nlookup.h"
#include "metadata/tables.h"

struct background;
struct device;
struct io_pool;
struct lease;
struct open_table;

struct fs {
    struct db *db;
    uint32_t partition_mask; /* partition count - 1 */
    uint32_t life;           /* number of this opening of the store, see life.c */
    bool relatime;
    uint8_t name_key[16];
    uint64_t name_hash_mask;     /* all ones but in tests, which make names collide */
    _Atomic uint64_t flushed_ns; /* monotonic: what committed before it is on disk */
    struct nlookup *nlookup;
    struct device *device;
    struct open_table *opens;
    struct io_pool *io;
    struct background *background;
    struct lease *lease; /* NULL: the database is in this process */
};

/* Inode numbers reserved for a client in one partition. */
struct ino_range {
    uint64_t next;
    uint64_t end;
};

/* What a directory looked like when it was last read: a guess that whoever uses it guards. That it
 * is a directory is certain, since numbers are never given out twice. */
struct dir_hint {
    uint64_t ino; /* 0: none */
    uint32_t mode;
    uint32_t gid;
    uint32_t flags;
    uint32_t project;
};
enum { DIR_HINTS = 64 };

/* Programs that run often are prepared, once for each shape; their parameters are in an enum beside
 * the function that builds them. */
enum fs_prepared {
    PREPARED_INODE_READ,
    PREPARED_LOOKUP,
    PREPARED_UNLINK,                       /* UNLINK_SHAPES of them */
    PREPARED_CREATE = PREPARED_UNLINK + 2, /* CREATE_SHAPES of them */
    PREPARED_COUNT = PREPARED_CREATE + 8,
};

struct fs_client {
    struct fs *fs;
    struct db_client *db;
    const struct catalog *catalog; /* held */
    struct tables tables;          /* of the catalog */
    struct program program;
    struct program_reply reply;
    struct program_prepared prepared[PREPARED_COUNT];
    bool is_prepared[PREPARED_COUNT]; /* for the catalog held */
    struct arena arena;               /* names of the last fs_readdir */
    struct ino_range *ranges;         /* by partition */
    uint64_t random;                  /* state of a generator for homes */
    struct dir_hint hints[DIR_HINTS]; /* by number */
};

static inline const struct table_def *client_table(const struct fs_client *client,
                                                   enum fs_table table)
{
    return client->tables.at[table];
}

static inline uint16_t ino_home(uint64_t ino)
{
    return (uint16_t)(ino >> HOME_SHIFT);
}

static inline uint16_t ino_partition(const struct fs *fs, uint64_t ino)
{
    return (uint16_t)(ino_home(ino) & fs->partition_mask);
}

/* Nanoseconds since 1970. */
int64_t fs_now(void);
uint64_t fs_monotonic_ns(void);

/* Starts the client's program with a section for the slot. */
static inline struct program *client_begin(struct fs_client *client, uint16_t slot)
{
    program_begin(&client->program);
    program_section(&client->program, slot);
    return &client->program;
}

static inline struct operand operand_u64(uint64_t value)
{
    return operand_value(value_u64(value));
}

/* The same with the guard of the lease (lease.h). */
MUST_USE enum err client_run_leased(struct fs_client *client);
MUST_USE enum err client_run_prepared_leased(struct fs_client *client, unsigned number,
                                             const uint16_t *slots, const struct value *params);
/* Of a prepared program that changes something, in its last section, whose partition's number is
 * the parameter. */
void client_guard_prepared(struct fs_client *client, struct program *program, uint16_t param);

/* Runs the client's program; its outputs are in client->reply when it succeeds. */
static inline enum err client_run(struct fs_client *client)
{
    if (__builtin_expect(client->fs->lease != NULL, 0)) return client_run_leased(client);
    return db_run(client->db, &client->program, &client->reply);
}

/* Builds one with program_* calls after program_begin; `shape` counts from its first number. */
typedef void client_build(struct fs_client *client, struct program *program, unsigned shape);
MUST_USE enum err client_prepare_slow(struct fs_client *client, enum fs_prepared first,
                                      unsigned shape, client_build *build);
/* Runs prepared program number first + shape. Otherwise as client_run. */
MUST_USE static inline enum err client_run_prepared(struct fs_client *client,
                                                    enum fs_prepared first, unsigned shape,
                                                    client_build *build, const uint16_t *slots,
                                                    const struct value *params)
{
    unsigned number = (unsigned)first + shape;
    if (__builtin_expect(!client->is_prepared[number], 0)) {
        enum err err = client_prepare_slow(client, first, shape, build);
        if (err) return err;
    }
    if (__builtin_expect(client->fs->lease != NULL, 0))
        return client_run_prepared_leased(client, number, slots, params);
    return db_run_prepared(client->db, &client->prepared[number], slots, params, &client->reply);
}

static inline const struct value *client_row(const struct fs_client *client, uint8_t step)
{
    return program_row(&client->reply, step, 0);
}

/* Whether an attempt that ended with *err is to be made again from its start: after ERR_STALE,
 * ERR_CONFLICT and ERR_SCHEMA_CHANGED (with the new definitions), within bounds. Else *err is what
 * the caller gets; ERR_BUSY when the bounds are passed.
 *
 *     struct retry retry = {0};
 *     do err = attempt(…); while (client_again(client, &retry, &err)); */
struct retry {
    uint32_t count;
    uint64_t until_ns;
};
bool client_again_slow(struct fs_client *client, struct retry *retry, enum err *err);
static inline bool client_again(struct fs_client *client, struct retry *retry, enum err *err)
{
    if (__builtin_expect(*err != ERR_STALE && *err != ERR_CONFLICT && *err != ERR_SCHEMA_CHANGED,
                         1))
        return false;
    return client_again_slow(client, retry, err);
}

/* db_flush, and notes how far it reached in fs->flushed_ns. Not on a worker. */
MUST_USE enum err client_flush(struct fs_client *client);

/* A pseudo-random number, for spreading load only. */
uint64_t client_random(struct fs_client *client);

/* ---- ino.c ---- */

/* A number never used before with this home. ERR_NO_SPACE when the partition has no more. */
MUST_USE enum err ino_allocate(struct fs_client *client, uint16_t home, uint64_t *ret_ino);

/* ---- create.c ---- */

static inline struct dir_hint *dir_hint(struct fs_client *client, uint64_t ino)
{
    return &client->hints[(ino ^ ino >> HOME_SHIFT) % DIR_HINTS];
}
/* Known to be a directory without asking. */
static inline bool dir_is_known(struct fs_client *client, uint64_t ino)
{
    return dir_hint(client, ino)->ino == ino;
}
void dir_hint_set(struct fs_client *client, const struct fs_attr *attr);

/* ---- names.c ---- */

struct name {
    const char *bytes;
    uint32_t size;
    uint64_t hash;
};
enum { NAME_RANK_BITS = 4, NAME_RANK_MAX = (1 << NAME_RANK_BITS) - 1 };
/* For looking a name up. ERR_ENOENT (empty), ERR_ENAMETOOLONG; a name with '/' is ERR_ENOENT. */
MUST_USE enum err name_check(const struct fs *fs, const char *bytes, struct name *ret_name);
/* For making a name: '/' is ERR_EINVAL, "." and ".." are on_dots. */
MUST_USE enum err name_check_new(const struct fs *fs, const char *bytes, enum err on_dots,
                                 struct name *ret_name);
/* The three key operands of the entry. */
struct dentry_key {
    struct operand at[3];
};
static inline struct dentry_key dentry_key(uint64_t parent, const struct name *name)
{
    return (struct dentry_key){{operand_u64(parent), operand_u64(name->hash),
                                operand_value(value_str(name->bytes, name->size))}};
}

/* ---- inode.c ---- */

enum { ATTR_COLUMN_COUNT = INODE_PARENT + 1 };
extern const uint16_t attr_columns[ATTR_COLUMN_COUNT]; /* INODE_INO .. INODE_PARENT in order */
/* Of a row with these columns; fs_attr.flags are the stored ones, with ours. */
void attr_decode(const struct value *values, struct fs_attr *ret_attr);
/* For callers: hides our flags. */
static inline void attr_publish(struct fs_attr *attr)
{
    attr->flags &= ~(uint32_t)INODE_HAS_XATTR;
}
static inline enum fs_type attr_type(const struct fs_attr *attr)
{
    static const uint8_t types[16] = {[S_IFREG >> 12] = FS_FILE,    [S_IFDIR >> 12] = FS_DIR,
                                      [S_IFLNK >> 12] = FS_SYMLINK, [S_IFIFO >> 12] = FS_FIFO,
                                      [S_IFSOCK >> 12] = FS_SOCKET, [S_IFCHR >> 12] = FS_CHAR,
                                      [S_IFBLK >> 12] = FS_BLOCK};
    return (enum fs_type)types[(attr->mode >> 12) & 15];
}
uint32_t type_mode(enum fs_type type); /* S_IFREG, … */
/* The row as stored, without what open files hold back. ERR_ESTALE when there is none. One attempt.
 */
MUST_USE enum err inode_read(struct fs_client *client, uint64_t ino, struct fs_attr *ret_attr);

/* Which of so many groups an inode is read with: those of one worker are together when there are as
 * many as workers. It depends on nothing that changes, so every inode is in one group. */
static inline uint16_t inode_group(const struct fs *fs, uint64_t ino, uint16_t groups)
{
    return (uint16_t)(ino_partition(fs, ino) % groups);
}

/* Many at once, in as few programs as can be; found[i] says whether there is a row inos[i], which
 * was asked for each when there is no error. Retries. */
MUST_USE enum err inodes_read(struct fs_client *client, const uint64_t *inos, size_t count,
                              struct fs_attr *attrs, bool *found);

/* ---- lookup.c ---- */

/* A step of the open section that sets the inode's atime when relatime's rules say so; `step` has
 * fetched its row. */
void touch_atime(struct fs_client *client, uint8_t step, uint64_t ino, int64_t now);

/* ---- usage.c ---- */

/* Steps of the open section, which is the inode's partition. The owner is the one of the row that
 * `step` has fetched (project, uid, gid, and for usage_remove size and blocks). */
void usage_remove(struct fs_client *client, uint16_t slot, uint8_t step);
/* One more inode: its owner, size and blocks. */
void usage_add(struct fs_client *client, uint16_t slot, const struct fs_attr *attr);
/* The inode of `step` gets these bytes and blocks instead of what its row has. */
void usage_resize(struct fs_client *client, uint16_t slot, uint8_t step, uint64_t bytes,
                  uint64_t blocks);

#endif
