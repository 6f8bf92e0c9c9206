/* Random operations on a tree against a model of it in memory: the same outcome, error or success,
 * and the same tree. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "tests/unit/metadata/checker.h"
#include "tests/unit/sanitized.h"

enum { NODES_MAX = 4000, ENTRIES_MAX = 4000, ROUNDS = SANITIZED ? 3000 : 6000, NAMES = 12 };

struct node {
    uint64_t ino;
    bool is_dir;
    uint32_t nlink; /* of a file: entries */
    uint64_t size;
    uint32_t uid;
};

struct entry {
    int parent;
    int node;
    char name[8];
};

struct model {
    int node_count;
    int entry_count;
    struct node nodes[NODES_MAX];
    struct entry entries[ENTRIES_MAX];
};

static struct model model;
static struct store s;
static uint64_t random_state;

static unsigned below(unsigned limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % limit;
}

static int model_find(int parent, const char *name)
{
    for (int i = 0; i < model.entry_count; i++)
        if (model.entries[i].parent == parent && strcmp(model.entries[i].name, name) == 0) return i;
    return -1;
}

static int children(int parent)
{
    int count = 0;
    for (int i = 0; i < model.entry_count; i++)
        count += model.entries[i].parent == parent;
    return count;
}

static int parent_of(int dir)
{
    for (int i = 0; i < model.entry_count; i++)
        if (model.entries[i].node == dir) return model.entries[i].parent;
    return -1;
}

static bool is_ancestor(int node, int of)
{
    for (int at = of; at >= 0; at = parent_of(at))
        if (at == node) return true;
    return false;
}

static void entry_add(int parent, int node, const char *name)
{
    struct entry *entry = &model.entries[model.entry_count++];
    entry->parent = parent;
    entry->node = node;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    if (!model.nodes[node].is_dir) model.nodes[node].nlink++;
}

static void entry_remove(int at)
{
    struct node *node = &model.nodes[model.entries[at].node];
    if (!node->is_dir) node->nlink--;
    model.entries[at] = model.entries[--model.entry_count];
}

static int random_dir(void)
{
    for (int i = 0; i < 50; i++) {
        int node = (int)below((unsigned)model.node_count);
        if (model.nodes[node].is_dir && (node == 0 || parent_of(node) >= 0)) return node;
    }
    return 0;
}

static void random_name(char name[8])
{
    snprintf(name, 8, "n%u", below(NAMES));
}

static void expect(enum err got, enum err want, const char *what, int round)
{
    cr_assert_eq(got, want, "round %d, %s: %s, not %s", round, what, err_name(got), err_name(want));
}

static void op_create(int round)
{
    int parent = random_dir();
    char name[8];
    random_name(name);
    bool is_dir = below(3) == 0;
    struct fs_attr attr;
    struct fs_caller caller = {.uid = below(3), .gid = below(2)};
    uint64_t ino = model.nodes[parent].ino;
    enum err err = is_dir ? fs_mkdir(s.c, &caller, ino, name, 0755, &attr)
                          : fs_mknod(s.c, &caller, ino, name, S_IFREG | 0644, 0, &attr);
    expect(err, model_find(parent, name) >= 0 ? ERR_EEXIST : ERR_NONE, "create", round);
    if (err || model.node_count == NODES_MAX) return;
    model.nodes[model.node_count] =
        (struct node){.ino = attr.ino, .is_dir = is_dir, .uid = caller.uid};
    entry_add(parent, model.node_count++, name);
    fs_forget(s.c, attr.ino, 1);
}

static void op_link(int round)
{
    int parent = random_dir();
    char name[8];
    random_name(name);
    int node = (int)below((unsigned)model.node_count);
    struct node *target = &model.nodes[node];
    if (target->is_dir ? node && parent_of(node) < 0 : target->nlink == 0) return; /* gone */
    struct fs_attr attr;
    enum err err = fs_link(s.c, target->ino, model.nodes[parent].ino, name, &attr);
    enum err want = model_find(parent, name) >= 0 ? ERR_EEXIST
                    : target->is_dir              ? ERR_EPERM
                                                  : ERR_NONE;
    expect(err, want, "link", round);
    if (err) return;
    entry_add(parent, node, name);
    cr_assert_eq(attr.nlink, target->nlink);
    fs_forget(s.c, attr.ino, 1);
}

static void op_remove(int round)
{
    int parent = random_dir();
    char name[8];
    random_name(name);
    bool rmdir = below(2);
    int at = model_find(parent, name);
    uint64_t ino = model.nodes[parent].ino;
    enum err err = rmdir ? fs_rmdir(s.c, &root, ino, name) : fs_unlink(s.c, &root, ino, name);
    enum err want = ERR_NONE;
    if (at < 0)
        want = ERR_ENOENT;
    else if (rmdir && !model.nodes[model.entries[at].node].is_dir)
        want = ERR_ENOTDIR;
    else if (!rmdir && model.nodes[model.entries[at].node].is_dir)
        want = ERR_EISDIR;
    else if (rmdir && children(model.entries[at].node))
        want = ERR_ENOTEMPTY;
    expect(err, want, rmdir ? "rmdir" : "unlink", round);
    if (!err) entry_remove(at);
}

static enum err rename_wanted(int p, int from, int q, int to, unsigned flags)
{
    if (from < 0) return ERR_ENOENT;
    if (to >= 0 && (flags & RENAME_NOREPLACE)) return ERR_EEXIST;
    if (to < 0 && (flags & RENAME_EXCHANGE)) return ERR_ENOENT;
    int x = model.entries[from].node;
    int y = to >= 0 ? model.entries[to].node : -1;
    bool exchange = (flags & RENAME_EXCHANGE) != 0;
    if (model.nodes[x].is_dir && p != q && is_ancestor(x, q)) return ERR_EINVAL;
    if (exchange && model.nodes[y].is_dir && p != q && is_ancestor(y, p)) return ERR_EINVAL;
    if (to < 0 || x == y || exchange) return ERR_NONE;
    if (model.nodes[x].is_dir && !model.nodes[y].is_dir) return ERR_ENOTDIR;
    if (!model.nodes[x].is_dir && model.nodes[y].is_dir) return ERR_EISDIR;
    if (model.nodes[y].is_dir && children(y)) return ERR_ENOTEMPTY;
    return ERR_NONE;
}

static void op_rename(int round)
{
    static const unsigned kinds[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    int p = random_dir();
    int q = below(2) ? p : random_dir();
    char name[8];
    char new_name[8];
    random_name(name);
    random_name(new_name);
    unsigned flags = kinds[below(ARRAY_SIZE(kinds))];
    int from = model_find(p, name);
    int to = model_find(q, new_name);
    enum err want = rename_wanted(p, from, q, to, flags);
    enum err err =
        fs_rename(s.c, &root, model.nodes[p].ino, name, model.nodes[q].ino, new_name, flags);
    expect(err, want, "rename", round);
    if (err) return;
    int x = model.entries[from].node;
    if (to >= 0 && model.entries[to].node == x) return;
    if (flags & RENAME_EXCHANGE) {
        model.entries[from].node = model.entries[to].node;
        model.entries[to].node = x;
        return;
    }
    if (to >= 0) {
        entry_remove(to);
        from = model_find(p, name);
    }
    entry_remove(from);
    entry_add(q, x, new_name);
}

static void op_change(int round)
{
    int node = (int)below((unsigned)model.node_count);
    struct node *target = &model.nodes[node];
    if (target->is_dir ? node && parent_of(node) < 0 : target->nlink == 0) return;
    struct fs_attr attr = {.uid = below(4), .size = below(100000), .mode = below(07777)};
    struct fs_attr result;
    unsigned set = below(2) ? FS_SET_UID : FS_SET_MODE;
    if (!target->is_dir && below(2)) set |= FS_SET_SIZE;
    expect(fs_setattr(s.c, &root, target->ino, set, &attr, &result), ERR_NONE, "setattr", round);
    if (set & FS_SET_UID) target->uid = attr.uid;
    if (set & FS_SET_SIZE) target->size = attr.size;
    if (!target->is_dir && below(4) == 0) {
        struct fs_file *file;
        OK(fs_open_file(s.c, target->ino, O_RDWR, &file));
        uint64_t offset = below(50000);
        write_at(&s, file, offset, "some data", 9);
        if (offset + 9 > target->size) target->size = offset + 9;
        OK(fs_release_file(s.c, file));
    }
}

/* Everything in the model is there, and nothing else. */
static void compare(void)
{
    for (int i = 0; i < model.node_count; i++) {
        const struct node *node = &model.nodes[i];
        bool there = node->is_dir ? i == 0 || parent_of(i) >= 0 : node->nlink > 0;
        struct fs_attr attr;
        enum err err = fs_getattr(s.c, node->ino, &attr);
        cr_assert_eq(err, there ? ERR_NONE : ERR_ESTALE, "node %d: %s", i, err_name(err));
        if (!there) continue;
        cr_assert_eq(S_ISDIR(attr.mode), node->is_dir);
        cr_assert_eq(attr.uid, node->uid);
        if (!node->is_dir) {
            cr_assert_eq(attr.nlink, node->nlink);
            cr_assert_eq(attr.size, node->size);
            continue;
        }
        struct fs_dirent entries[NAMES + 3];
        uint32_t count;
        OK(fs_readdir(s.c, node->ino, 0, true, entries, NAMES + 3, &count));
        cr_assert_eq((int)count - 2, children(i));
        for (uint32_t j = 2; j < count; j++) {
            int at = model_find(i, entries[j].name);
            cr_assert(at >= 0);
            cr_assert_eq(model.nodes[model.entries[at].node].ino, entries[j].ino);
        }
    }
}

static void run(uint16_t workers, uint64_t seed)
{
    random_state = seed;
    store_new(&s, workers);
    model.nodes[0] = (struct node){.ino = FS_ROOT_INO, .is_dir = true, .uid = (uint32_t)geteuid()};
    model.node_count = 1;
    for (int round = 0; round < ROUNDS; round++) {
        switch (below(8)) {
        case 0:
        case 1:
        case 2:
            op_create(round);
            break;
        case 3:
            op_link(round);
            break;
        case 4:
            op_remove(round);
            break;
        case 5:
        case 6:
            op_rename(round);
            break;
        default:
            op_change(round);
        }
        if (round % 2000 == 1999) {
            background_drain(s.fs);
            compare();
            check_tree(&s, true);
        }
        if (round % 3000 == 2999) {
            store_close(&s);
            store_open(&s);
        }
    }
    background_drain(s.fs);
    compare();
    check_tree(&s, true);
    store_end(&s);
}

Test(model, agrees_with_one_worker, .timeout = 300)
{
    run(1, 1);
}

Test(model, agrees_with_two_workers, .timeout = 300)
{
    run(2, 2);
}

Test(model, agrees_with_four_workers, .timeout = 300)
{
    run(4, 3);
}
