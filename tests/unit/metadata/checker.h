/* Reads whole tables and checks every invariant of the file system over them, independently of SQL
 * and of fsck. */
#ifndef TESTS_UNIT_METADATA_CHECKER_H
#define TESTS_UNIT_METADATA_CHECKER_H

#include "tests/unit/metadata/fixture.h"

struct dump {
    uint32_t columns;
    size_t count;
    struct value *values; /* strings are heap copies */
};

static inline struct dump dump_table(struct store *s, enum fs_table number)
{
    struct diag diag = {0};
    const struct table_def *table = client_table(s->c, number);
    struct query_source source = {
        .table_id = table->id, .table_version = table->version, .access = ACCESS_SCAN};
    struct query_output outputs[INODE_COLUMNS] = {0};
    struct expr_ins ins[INODE_COLUMNS] = {0};
    for (uint16_t i = 0; i < table->column_count; i++) {
        uint8_t kind = (uint8_t)column_kind(&table->columns[i]);
        ins[i] = (struct expr_ins){.op = EXPR_COLUMN, .kind = kind, .a = 0, .x = i};
        outputs[i] = (struct query_output){
            .name = table->columns[i].name, .kind = kind, .expr = {.ins_count = 1, .ins = &ins[i]}};
    }
    struct query_tree tree = {
        .catalog_version = s->c->catalog->version,
        .source_count = 1,
        .output_count = table->column_count,
        .visible_count = table->column_count,
        .sources = &source,
        .outputs = outputs,
    };
    struct db_query *query;
    enum err err = db_query_open(s->db_client, &tree, &query, &diag);
    cr_assert_eq(err, ERR_NONE, "%s: %s", err_name(err), diag.text);
    struct dump dump = {.columns = table->column_count};
    const struct value *row;
    while ((err = db_query_next(query, &row, &diag)) == ERR_NONE) {
        if ((dump.count & (dump.count + 1)) == 0 || dump.count == 0)
            dump.values = realloc(dump.values, (dump.count * 2 + 2) * dump.columns * sizeof(*row));
        struct value *to = dump.values + dump.count++ * dump.columns;
        for (uint32_t i = 0; i < dump.columns; i++) {
            to[i] = row[i];
            if (row[i].kind == KIND_STR) {
                uint8_t *copy = malloc(row[i].size + 1u);
                memcpy(copy, row[i].bytes, row[i].size);
                copy[row[i].size] = 0;
                to[i].bytes = copy;
            }
        }
    }
    cr_assert_eq(err, ERR_END, "%s: %s", err_name(err), diag.text);
    db_query_close(query);
    return dump;
}

static inline void dump_free(struct dump *dump)
{
    for (size_t i = 0; i < dump->count * dump->columns; i++)
        if (dump->values[i].kind == KIND_STR) free((void *)(uintptr_t)dump->values[i].bytes);
    free(dump->values);
}

static inline const struct value *dump_row(const struct dump *dump, size_t row)
{
    return dump->values + row * dump->columns;
}

static inline int dump_compare(const void *a, const void *b)
{
    const struct value *x = a;
    const struct value *y = b;
    return (x->u > y->u) - (x->u < y->u);
}

/* Sorts by the first column. */
static inline void dump_sort(struct dump *dump)
{
    if (dump->count)
        qsort(dump->values, dump->count, dump->columns * sizeof(struct value), dump_compare);
}

/* The position of the row whose first column is `key`; -1. */
static inline ssize_t dump_find(const struct dump *dump, uint64_t key)
{
    size_t low = 0;
    size_t high = dump->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (dump_row(dump, middle)[0].u < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < dump->count && dump_row(dump, low)[0].u == key ? (ssize_t)low : -1;
}

struct usage_total {
    uint64_t slot, project, uid, gid, files, bytes, blocks;
};

static inline void check_usage(struct store *s, const struct dump *inodes)
{
    struct dump usage = dump_table(s, TABLE_USAGE);
    struct usage_total *totals = calloc(inodes->count + 1, sizeof(*totals));
    size_t count = 0;
    for (size_t i = 0; i < inodes->count; i++) {
        const struct value *row = dump_row(inodes, i);
        uint64_t slot = ino_home(row[INODE_INO].u) & s->fs->partition_mask;
        size_t at = 0;
        while (at < count &&
               (totals[at].slot != slot || totals[at].project != row[INODE_PROJECT].u ||
                totals[at].uid != row[INODE_UID].u || totals[at].gid != row[INODE_GID].u))
            at++;
        if (at == count)
            totals[count++] = (struct usage_total){.slot = slot,
                                                   .project = row[INODE_PROJECT].u,
                                                   .uid = row[INODE_UID].u,
                                                   .gid = row[INODE_GID].u};
        totals[at].files++;
        totals[at].bytes += row[INODE_SIZE].u;
        totals[at].blocks += row[INODE_BLOCKS].u;
    }
    size_t matched = 0;
    for (size_t i = 0; i < usage.count; i++) {
        const struct value *row = dump_row(&usage, i);
        struct usage_total none = {0};
        const struct usage_total *total = &none;
        for (size_t at = 0; at < count; at++)
            if (totals[at].slot == row[0].u && totals[at].project == row[1].u &&
                totals[at].uid == row[2].u && totals[at].gid == row[3].u)
                total = &totals[at];
        if (total != &none) matched++;
        cr_assert_eq(row[USAGE_FILES].u, total->files, "files of uid %lu", row[2].u);
        cr_assert_eq(row[USAGE_BYTES].u, total->bytes, "bytes of uid %lu: %lu, not %lu", row[2].u,
                     row[USAGE_BYTES].u, total->bytes);
        cr_assert_eq(row[USAGE_BLOCKS].u, total->blocks, "blocks of uid %lu", row[2].u);
    }
    cr_assert_eq(matched, count, "owners without usage");
    free(totals);
    dump_free(&usage);
}

/* Every invariant. `quiet`: nothing is open or looked up, so there are no orphans either. */
static inline void check_tree(struct store *s, bool quiet)
{
    struct dump inodes = dump_table(s, TABLE_INODE);
    struct dump dentries = dump_table(s, TABLE_DENTRY);
    struct dump orphans = dump_table(s, TABLE_ORPHAN);
    struct dump symlinks = dump_table(s, TABLE_SYMLINK);
    struct dump xattrs = dump_table(s, TABLE_XATTR);
    dump_sort(&inodes);
    dump_sort(&orphans);
    dump_sort(&symlinks);
    uint64_t *links = calloc(inodes.count + 1, sizeof(*links));
    uint64_t *subdirs = calloc(inodes.count + 1, sizeof(*subdirs));
    bool *parent_ok = calloc(inodes.count + 1, sizeof(*parent_ok));
    for (size_t i = 0; i < dentries.count; i++) {
        const struct value *row = dump_row(&dentries, i);
        ssize_t at = dump_find(&inodes, row[DENTRY_INO].u);
        ssize_t dir = dump_find(&inodes, row[DENTRY_PARENT].u);
        cr_assert(at >= 0, "entry %s of %lu has no inode", (const char *)row[DENTRY_NAME].bytes,
                  row[DENTRY_PARENT].u);
        cr_assert(dir >= 0, "entry %s lies in no inode", (const char *)row[DENTRY_NAME].bytes);
        const struct value *inode = dump_row(&inodes, (size_t)at);
        const struct value *parent = dump_row(&inodes, (size_t)dir);
        cr_assert_eq(parent[INODE_TYPE].u, FS_DIR);
        cr_assert_gt(parent[INODE_NLINK].u, 0, "entry %s in a removed directory",
                     (const char *)row[DENTRY_NAME].bytes);
        cr_assert_eq(inode[INODE_TYPE].u, row[DENTRY_TYPE].u);
        links[at]++;
        if (inode[INODE_TYPE].u == FS_DIR) subdirs[dir]++;
        if (inode[INODE_PARENT].u == row[DENTRY_PARENT].u) parent_ok[at] = true;
    }
    for (size_t i = 0; i < inodes.count; i++) {
        const struct value *row = dump_row(&inodes, i);
        uint64_t ino = row[INODE_INO].u;
        bool is_root = ino == FS_ROOT_INO;
        bool is_dir = row[INODE_TYPE].u == FS_DIR;
        bool orphan = row[INODE_NLINK].u == 0;
        if (orphan) cr_assert(dump_find(&orphans, ino) >= 0, "inode %lu is no orphan", ino);
        if (quiet) cr_assert(!orphan, "inode %lu was not purged", ino);
        if (is_dir) {
            cr_assert_eq(links[i], is_root || orphan ? 0 : 1, "directory %lu has %lu entries", ino,
                         links[i]);
            if (!orphan)
                cr_assert_eq(row[INODE_NLINK].u, subdirs[i] + 2,
                             "directory %lu: nlink %lu, %lu subdirectories", ino,
                             row[INODE_NLINK].u, subdirs[i]);
            /* No cycle: the root is reached in fewer steps than there are inodes. */
            uint64_t up = ino;
            size_t steps = 0;
            while (!orphan && up != FS_ROOT_INO && steps <= inodes.count) {
                ssize_t at = dump_find(&inodes, up);
                cr_assert(at >= 0);
                up = dump_row(&inodes, (size_t)at)[INODE_PARENT].u;
                steps++;
            }
            cr_assert(steps <= inodes.count, "directory %lu is its own ancestor", ino);
        } else {
            cr_assert_eq(links[i], row[INODE_NLINK].u, "inode %lu: nlink %lu, %lu entries", ino,
                         row[INODE_NLINK].u, links[i]);
        }
        if (!orphan && !is_root && (is_dir || row[INODE_PARENT].u))
            cr_assert(parent_ok[i], "inode %lu: parent %lu has no entry for it", ino,
                      row[INODE_PARENT].u);
        if (row[INODE_TYPE].u == FS_SYMLINK) cr_assert(dump_find(&symlinks, ino) >= 0);
    }
    for (size_t i = 0; i < orphans.count; i++)
        cr_assert(dump_find(&inodes, dump_row(&orphans, i)[0].u) >= 0, "an orphan without inode");
    for (size_t i = 0; i < symlinks.count; i++)
        cr_assert(dump_find(&inodes, dump_row(&symlinks, i)[0].u) >= 0, "a target without inode");
    for (size_t i = 0; i < xattrs.count; i++)
        cr_assert(dump_find(&inodes, dump_row(&xattrs, i)[0].u) >= 0, "an attribute without inode");
    if (quiet) cr_assert_eq(orphans.count, 0);
    check_usage(s, &inodes);
    free(links);
    free(subdirs);
    free(parent_ok);
    dump_free(&inodes);
    dump_free(&dentries);
    dump_free(&orphans);
    dump_free(&symlinks);
    dump_free(&xattrs);
}

/* How many objects the data directory holds. */
static inline unsigned count_objects(struct store *s)
{
    char command[160];
    snprintf(command, sizeof(command), "find '%s' -mindepth 4 -type f | wc -l", s->data_dir);
    FILE *pipe = popen(command, "r");
    cr_assert(pipe);
    unsigned count = 0;
    cr_assert_eq(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

#endif
