/* The tables of database `fs`.
 *
 * Columns are ordered by number, as tables.h enumerates them; programs name them by number, SQL by
 * name. An existing table must have exactly these columns first (an administrator may add indexes,
 * a later version columns).
 *
 * The primary key of `inode` is hashed only and `dentry` ordered only, and neither has another
 * index: the budget is 200 bytes for a file, both rows and indexes together. `orphan` and `xattr`
 * are ordered because they are scanned by prefix.
 *
 * Inodes and entries are mostly read one at a time and whole, so what is asked for together lies
 * together; what reports scan (sizes, owners) lies with little else.
 *
 * Names and targets are bytes, not text: VARBINARY refuses none. */
#include "metadata/tables.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "metadata/fs.h"

struct column_spec {
    const char *name;
    uint8_t type;
    uint16_t size_max;
    bool beside; /* read with the one before it */
};

struct table_spec {
    const char *name;
    const struct column_spec *columns;
    uint8_t column_count;
    uint8_t
        key_count; /* the first columns are the primary key; the first of all the partition key */
    uint8_t index_kind;
    uint8_t partition_by;
};

static const struct column_spec inode_columns[] = {
    [INODE_INO] = {"ino", TYPE_BIGINT_UNSIGNED, 0, false},
    [INODE_TYPE] = {"type", TYPE_TINYINT_UNSIGNED, 0, false},
    [INODE_MODE] = {"mode", TYPE_SMALLINT_UNSIGNED, 0, true},
    [INODE_UID] = {"uid", TYPE_INT_UNSIGNED, 0, false},
    [INODE_GID] = {"gid", TYPE_INT_UNSIGNED, 0, true},
    [INODE_NLINK] = {"nlink", TYPE_INT_UNSIGNED, 0, false},
    [INODE_SIZE] = {"size", TYPE_BIGINT_UNSIGNED, 0, false},
    [INODE_BLOCKS] = {"blocks", TYPE_BIGINT_UNSIGNED, 0, true},
    [INODE_ATIME] = {"atime", TYPE_BIGINT, 0, false},
    [INODE_MTIME] = {"mtime", TYPE_BIGINT, 0, true},
    [INODE_CTIME] = {"ctime", TYPE_BIGINT, 0, true},
    [INODE_BTIME] = {"btime", TYPE_BIGINT, 0, true},
    [INODE_RDEV] = {"rdev", TYPE_INT_UNSIGNED, 0, false},
    [INODE_GENERATION] = {"generation", TYPE_INT_UNSIGNED, 0, true},
    [INODE_FLAGS] = {"flags", TYPE_INT_UNSIGNED, 0, true},
    [INODE_PROJECT] = {"project", TYPE_INT_UNSIGNED, 0, true},
    [INODE_PARENT] = {"parent", TYPE_BIGINT_UNSIGNED, 0, false},
    [INODE_LAYOUT_CLASS] = {"layout_class", TYPE_SMALLINT_UNSIGNED, 0, false},
};
_Static_assert(ARRAY_SIZE(inode_columns) == INODE_COLUMNS, "every column has a definition");

static const struct column_spec dentry_columns[] = {
    [DENTRY_PARENT] = {"parent", TYPE_BIGINT_UNSIGNED, 0, false},
    [DENTRY_HASH] = {"hash", TYPE_BIGINT_UNSIGNED, 0, true},
    [DENTRY_NAME] = {"name", TYPE_VARBINARY, FS_NAME_SIZE_MAX, true},
    [DENTRY_INO] = {"ino", TYPE_BIGINT_UNSIGNED, 0, true},
    [DENTRY_TYPE] = {"type", TYPE_TINYINT_UNSIGNED, 0, true},
};
static const struct column_spec symlink_columns[] = {
    [SYMLINK_INO] = {"ino", TYPE_BIGINT_UNSIGNED, 0, false},
    [SYMLINK_TARGET] = {"target", TYPE_VARBINARY, FS_SYMLINK_SIZE_MAX, false},
};
static const struct column_spec xattr_columns[] = {
    [XATTR_INO] = {"ino", TYPE_BIGINT_UNSIGNED, 0, false},
    [XATTR_NAME] = {"name", TYPE_VARBINARY, FS_XATTR_NAME_SIZE_MAX, false},
    [XATTR_VALUE] = {"value", TYPE_BLOB, FS_XATTR_SIZE_MAX, false},
};
static const struct column_spec orphan_columns[] = {
    [ORPHAN_INO] = {"ino", TYPE_BIGINT_UNSIGNED, 0, false},
    [ORPHAN_SIZE] = {"size", TYPE_BIGINT_UNSIGNED, 0, false},
    [ORPHAN_SINCE] = {"since", TYPE_BIGINT, 0, false},
};
static const struct column_spec usage_columns[] = {
    [USAGE_SLOT] = {"slot", TYPE_SMALLINT_UNSIGNED, 0, false},
    [USAGE_PROJECT] = {"project", TYPE_INT_UNSIGNED, 0, false},
    [USAGE_UID] = {"uid", TYPE_INT_UNSIGNED, 0, false},
    [USAGE_GID] = {"gid", TYPE_INT_UNSIGNED, 0, false},
    [USAGE_FILES] = {"files", TYPE_BIGINT_UNSIGNED, 0, false},
    [USAGE_BYTES] = {"bytes", TYPE_BIGINT_UNSIGNED, 0, false},
    [USAGE_BLOCKS] = {"blocks", TYPE_BIGINT_UNSIGNED, 0, false},
};
static const struct column_spec ino_range_columns[] = {
    [INO_RANGE_SLOT] = {"slot", TYPE_SMALLINT_UNSIGNED, 0, false},
    [INO_RANGE_NEXT] = {"next", TYPE_BIGINT_UNSIGNED, 0, false},
};
static const struct column_spec counter_columns[] = {
    [COUNTER_NAME] = {"name", TYPE_VARCHAR, 4 * 32, false},
    [COUNTER_VALUE] = {"value", TYPE_BIGINT_UNSIGNED, 0, false},
};
static const struct column_spec device_columns[] = {
    [DEVICE_ID] = {"id", TYPE_SMALLINT_UNSIGNED, 0, false},
    [DEVICE_KIND] = {"kind", TYPE_TINYINT_UNSIGNED, 0, false},
    [DEVICE_POOL] = {"pool", TYPE_SMALLINT_UNSIGNED, 0, false},
    [DEVICE_IDENTITY] = {"identity", TYPE_VARCHAR, 4 * 32, false},
    [DEVICE_LOCATION] = {"location", TYPE_VARBINARY, 4096, false},
};
static const struct column_spec layout_class_columns[] = {
    [LAYOUT_CLASS_ID] = {"id", TYPE_SMALLINT_UNSIGNED, 0, false},
    [LAYOUT_CLASS_STRIPE_UNIT] = {"stripe_unit", TYPE_INT_UNSIGNED, 0, false},
    [LAYOUT_CLASS_WIDTH] = {"width", TYPE_SMALLINT_UNSIGNED, 0, false},
    [LAYOUT_CLASS_MIRRORS] = {"mirrors", TYPE_TINYINT_UNSIGNED, 0, false},
    [LAYOUT_CLASS_POOL] = {"pool", TYPE_SMALLINT_UNSIGNED, 0, false},
};
static const struct column_spec server_columns[] = {
    [SERVER_SLOT] = {"slot", TYPE_SMALLINT_UNSIGNED, 0, false},
    [SERVER_EPOCH] = {"epoch", TYPE_BIGINT_UNSIGNED, 0, false},
    [SERVER_STATE] = {"state", TYPE_TINYINT_UNSIGNED, 0, false},
    [SERVER_RENEWAL] = {"renewal", TYPE_BIGINT_UNSIGNED, 0, false},
    [SERVER_HOLDER] = {"holder", TYPE_VARBINARY, SERVER_HOLDER_SIZE, false},
};

#define TABLE(name, keys, kind, by)                                                                \
    {                                                                                              \
#name, name##_columns, ARRAY_SIZE(name##_columns), keys, kind, by                          \
    }
static const struct table_spec specs[TABLE_COUNT] = {
    [TABLE_INODE] = TABLE(inode, 1, INDEX_HASH, PARTITION_BY_HOME),
    [TABLE_DENTRY] = TABLE(dentry, 3, INDEX_ORDERED, PARTITION_BY_HOME),
    [TABLE_SYMLINK] = TABLE(symlink, 1, INDEX_HASH, PARTITION_BY_HOME),
    [TABLE_XATTR] = TABLE(xattr, 2, INDEX_ORDERED, PARTITION_BY_HOME),
    [TABLE_ORPHAN] = TABLE(orphan, 1, INDEX_ORDERED, PARTITION_BY_HOME),
    [TABLE_USAGE] = TABLE(usage, 4, INDEX_HASH, PARTITION_BY_SLOT),
    [TABLE_INO_RANGE] = TABLE(ino_range, 1, INDEX_HASH, PARTITION_BY_SLOT),
    [TABLE_COUNTER] = TABLE(counter, 1, INDEX_HASH, PARTITION_BY_KEY),
    [TABLE_DEVICE] = TABLE(device, 1, INDEX_HASH, PARTITION_BY_KEY),
    [TABLE_LAYOUT_CLASS] = TABLE(layout_class, 1, INDEX_HASH, PARTITION_BY_KEY),
    [TABLE_SERVER] = TABLE(server, 1, INDEX_HASH, PARTITION_BY_SLOT),
};
#undef TABLE

bool fs_table_is_own(const char *database, const char *name)
{
    if (strcmp(database, FS_DATABASE) != 0) return false;
    for (unsigned i = 0; i < TABLE_COUNT; i++)
        if (strcmp(specs[i].name, name) == 0) return true;
    return false;
}

static enum err table_create(struct db_client *client, const struct table_spec *spec,
                             struct diag *diag)
{
    struct column_def columns[INODE_COLUMNS] = {0};
    for (unsigned i = 0; i < spec->column_count; i++) {
        (void)snprintf(columns[i].name, sizeof(columns[i].name), "%s", spec->columns[i].name);
        columns[i].type = spec->columns[i].type;
        columns[i].collation = COLLATION_BINARY;
        columns[i].size_max = spec->columns[i].size_max;
        columns[i].beside = spec->columns[i].beside;
    }
    struct table_def table = {
        .column_count = spec->column_count,
        .index_count = 1,
        .next_index_id = 1,
        .partition_by = spec->partition_by,
        .partition_column_count = 1,
        .columns = columns,
    };
    (void)snprintf(table.database, sizeof(table.database), "%s", FS_DATABASE);
    (void)snprintf(table.name, sizeof(table.name), "%s", spec->name);
    struct index_def *primary = &table.indexes[0];
    (void)snprintf(primary->name, sizeof(primary->name), "PRIMARY");
    primary->kind = spec->index_kind;
    primary->unique = true;
    primary->column_count = spec->key_count;
    for (uint16_t i = 0; i < spec->key_count; i++)
        primary->columns[i] = i;
    enum err err = db_create_table(client, &table, diag);
    return err == ERR_EXISTS ? ERR_NONE : err;
}

static bool table_fits(const struct table_def *table, const struct table_spec *spec)
{
    if (table->column_count < spec->column_count || table->partition_by != spec->partition_by ||
        table->indexes[0].column_count != spec->key_count)
        return false;
    for (int i = 0; i < spec->column_count; i++)
        if (table_def_column(table, spec->columns[i].name) != i ||
            table->columns[i].type != spec->columns[i].type)
            return false;
    return true;
}

enum err tables_create(struct db_client *client, struct diag *diag)
{
    struct db *db = db_client_db(client);
    for (unsigned i = 0; i < TABLE_COUNT; i++) {
        const struct catalog *catalog = db_catalog_acquire(db);
        const struct table_def *table = catalog_find(catalog, FS_DATABASE, specs[i].name);
        enum err err = ERR_NONE;
        bool missing = !table;
        if (table && !table_fits(table, &specs[i]))
            err = diag_set(diag, ERR_VERSION,
                           "table %s.%s has other columns than this version of trellis expects",
                           FS_DATABASE, specs[i].name);
        db_catalog_release(db, catalog);
        if (missing) err = table_create(client, &specs[i], diag);
        if (err) return err;
    }
    return ERR_NONE;
}

enum err tables_find(const struct catalog *catalog, struct tables *ret_tables)
{
    struct tables tables;
    for (unsigned i = 0; i < TABLE_COUNT; i++) {
        tables.at[i] = catalog_find(catalog, FS_DATABASE, specs[i].name);
        if (!tables.at[i] || !table_fits(tables.at[i], &specs[i])) return ERR_TABLE_UNKNOWN;
    }
    *ret_tables = tables;
    return ERR_NONE;
}
