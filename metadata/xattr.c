/* Extended attributes: rows of `xattr`, beside their inode.
 *
 * An inode that ever had one carries INODE_HAS_XATTR, so that purging the others costs no search.
 * Setting and removing changes ctime. Names are those that Linux passes on: user.* (on files and
 * directories only), trusted.* (root only), security.* (the kernel has checked). */
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>

#include "metadata/client.h"

enum { LIST_SIZE_MAX = 65536, LIST_ROWS_MAX = 8192, PROTECT = FS_IMMUTABLE_FL | FS_APPEND_FL };

enum xattr_class { XATTR_USER, XATTR_TRUSTED, XATTR_SECURITY };

static enum err name_class(const char *name, uint32_t *ret_size, enum xattr_class *ret_class)
{
    static const struct {
        const char *prefix;
        enum xattr_class class;
    } classes[] = {
        {"user.", XATTR_USER}, {"trusted.", XATTR_TRUSTED}, {"security.", XATTR_SECURITY}};
    size_t size = strnlen(name, FS_XATTR_NAME_SIZE_MAX + 1);
    if (size == 0 || size > FS_XATTR_NAME_SIZE_MAX) return ERR_ERANGE;
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        size_t prefix = strlen(classes[i].prefix);
        if (strncmp(name, classes[i].prefix, prefix) != 0) continue;
        if (size == prefix) return ERR_EINVAL;
        *ret_size = (uint32_t)size;
        *ret_class = classes[i].class;
        return ERR_NONE;
    }
    return ERR_EOPNOTSUPP;
}

struct xattr_key {
    struct operand at[2];
};

static struct xattr_key xattr_key(uint64_t ino, const char *name, uint32_t size)
{
    return (struct xattr_key){{operand_u64(ino), operand_value(value_str(name, size))}};
}

/* The inode's step of a change: checks and ctime. */
static void add_inode_step(struct fs_client *client, uint64_t ino, enum xattr_class class)
{
    struct program *program = &client->program;
    struct operand key = operand_u64(ino);
    uint8_t step = program_update(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    guard_clear(program, step, INODE_FLAGS, PROTECT, ERR_EPERM);
    struct formula formula;
    if (class == XATTR_USER) {
        formula_begin(&formula);
        uint16_t file = formula_compare(&formula, EXPR_EQ, step, INODE_TYPE, FS_FILE);
        uint16_t dir = formula_compare(&formula, EXPR_EQ, step, INODE_TYPE, FS_DIR);
        (void)formula_op2(&formula, EXPR_OR, KIND_I64, file, dir);
        program_guard(program, formula.expr, ERR_EPERM);
    }
    formula_begin(&formula);
    uint16_t flags = formula_column(&formula, KIND_U64, step, INODE_FLAGS);
    (void)formula_op2(&formula, EXPR_BIT_OR, KIND_U64, flags,
                      formula_u64(&formula, INODE_HAS_XATTR));
    program_set(program, INODE_FLAGS, operand_expr(formula.expr));
    set_i64(program, INODE_CTIME, fs_now());
}

/* ---- list ---- */

/* Names into the list as far as it goes; *ret_size is the size of all. `hidden`: without trusted.*
 */
static enum err list_once(struct fs_client *client, uint64_t ino, bool hidden, char *list,
                          size_t size, size_t *ret_size)
{
    struct program *program = client_begin(client, ino_home(ino));
    struct operand key = operand_u64(ino);
    (void)program_read(program, client_table(client, TABLE_INODE), &key, ERR_ESTALE);
    uint8_t scan = program_scan(program, client_table(client, TABLE_XATTR), 0, &key, 1, NULL, 0,
                                true, LIST_ROWS_MAX);
    const uint16_t columns[] = {XATTR_NAME};
    program_output(program, columns, 1);
    enum err err = client_run(client);
    if (err) return err;
    size_t used = 0;
    const struct value *row;
    for (uint32_t i = 0; (row = program_row(&client->reply, scan, i)) != NULL; i++) {
        if (hidden && row[0].size > 8 && memcmp(row[0].bytes, "trusted.", 8) == 0) continue;
        size_t end = used + row[0].size + 1;
        if (end <= size) {
            memcpy(list + used, row[0].bytes, row[0].size);
            list[end - 1] = 0;
        }
        used = end;
    }
    *ret_size = used;
    return ERR_NONE;
}

static enum err list_names(struct fs_client *client, uint64_t ino, bool hidden, char *list,
                           size_t size, size_t *ret_size)
{
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct retry retry = {0};
    enum err err;
    do
        err = list_once(client, ino, hidden, list, size, ret_size);
    while (client_again(client, &retry, &err));
    return err;
}

enum err fs_xattr_list(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                       char *list, size_t size, size_t *ret_size)
{
    size_t used;
    enum err err = list_names(client, ino, caller->uid != 0, list, size, &used);
    if (err) return err;
    if (size && used > size) return ERR_ERANGE;
    *ret_size = used;
    return ERR_NONE;
}

/* ---- set ---- */

static enum err set_once(struct fs_client *client, uint64_t ino, const char *name,
                         uint32_t name_size, enum xattr_class class, struct value value, int flags)
{
    struct program *program = client_begin(client, ino_home(ino));
    const struct table_def *table = client_table(client, TABLE_XATTR);
    struct xattr_key key = xattr_key(ino, name, name_size);
    const struct operand values[XATTR_COLUMNS] = {
        [XATTR_INO] = key.at[0], [XATTR_NAME] = key.at[1], [XATTR_VALUE] = operand_value(value)};
    if (flags & XATTR_REPLACE) {
        (void)program_update(program, table, key.at, ERR_ENODATA);
        set_value(program, XATTR_VALUE, value);
    } else if (flags & XATTR_CREATE) {
        (void)program_insert(program, table, values, ERR_EEXIST);
    } else {
        (void)program_upsert(program, table, values);
        set_value(program, XATTR_VALUE, value);
    }
    add_inode_step(client, ino, class);
    return client_run(client);
}

enum err fs_xattr_set(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      const char *name, const void *value, size_t size, int flags)
{
    uint32_t name_size;
    enum xattr_class class;
    enum err err = name_class(name, &name_size, &class);
    if (err) return err;
    if (flags & ~(XATTR_CREATE | XATTR_REPLACE)) return ERR_EINVAL;
    if ((flags & XATTR_CREATE) && (flags & XATTR_REPLACE)) return ERR_EINVAL;
    if (size > FS_XATTR_SIZE_MAX) return ERR_ENOSPC;
    if (class == XATTR_TRUSTED && caller->uid != 0) return ERR_EPERM;
    if (!(flags & XATTR_REPLACE)) {
        /* listxattr(2) cannot give more than 64 KiB of names. Two at once may pass this by one
         * name; harmless. */
        size_t listed;
        err = list_names(client, ino, false, NULL, 0, &listed);
        if (err) return err;
        if (listed + name_size + 1 > LIST_SIZE_MAX) {
            size_t present;
            err = fs_xattr_get(client, caller, ino, name, NULL, 0, &present);
            if (err) return err == ERR_ENODATA ? ERR_ENOSPC : err;
        }
    }
    struct retry retry = {0};
    do
        err =
            set_once(client, ino, name, name_size, class, value_str(value, (uint32_t)size), flags);
    while (client_again(client, &retry, &err));
    return err;
}

/* ---- get ---- */

static enum err get_once(struct fs_client *client, uint64_t ino, const char *name,
                         uint32_t name_size, void *value, size_t size, size_t *ret_size)
{
    struct program *program = client_begin(client, ino_home(ino));
    struct xattr_key key = xattr_key(ino, name, name_size);
    uint8_t step = program_read(program, client_table(client, TABLE_XATTR), key.at, ERR_ENODATA);
    const uint16_t columns[] = {XATTR_VALUE};
    program_output(program, columns, 1);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, step);
    if (!row) return ERR_EIO;
    if (size && row[0].size > size) return ERR_ERANGE;
    if (size && row[0].size) memcpy(value, row[0].bytes, row[0].size);
    *ret_size = row[0].size;
    return ERR_NONE;
}

enum err fs_xattr_get(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                      const char *name, void *value, size_t size, size_t *ret_size)
{
    uint32_t name_size;
    enum xattr_class class;
    enum err err = name_class(name, &name_size, &class);
    if (err) return err;
    if (class == XATTR_TRUSTED && caller->uid != 0) return ERR_ENODATA;
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct retry retry = {0};
    do
        err = get_once(client, ino, name, name_size, value, size, ret_size);
    while (client_again(client, &retry, &err));
    return err;
}

/* ---- remove ---- */

static enum err remove_once(struct fs_client *client, uint64_t ino, const char *name,
                            uint32_t name_size, enum xattr_class class)
{
    struct program *program = client_begin(client, ino_home(ino));
    struct xattr_key key = xattr_key(ino, name, name_size);
    (void)program_delete(program, client_table(client, TABLE_XATTR), key.at, ERR_ENODATA);
    add_inode_step(client, ino, class);
    return client_run(client);
}

enum err fs_xattr_remove(struct fs_client *client, const struct fs_caller *caller, uint64_t ino,
                         const char *name)
{
    uint32_t name_size;
    enum xattr_class class;
    enum err err = name_class(name, &name_size, &class);
    if (err) return err;
    if (class == XATTR_TRUSTED && caller->uid != 0) return ERR_EPERM;
    if (ino >> INO_BITS) return ERR_ESTALE;
    struct retry retry = {0};
    do
        err = remove_once(client, ino, name, name_size, class);
    while (client_again(client, &retry, &err));
    return err;
}
