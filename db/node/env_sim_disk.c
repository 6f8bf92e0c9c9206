/* The simulated disk: names over the contents of env_sim_content.c.
 *
 * A directory has live and durable entries; the disk has one list of the directory operations
 * (link, unlink, rename) that are not durable yet, in order. A node (file or directory) lives while
 * a live entry, a durable entry, a pending operation or an open handle refers to it; nodes_sweep
 * frees the others.
 *
 * What a power cut leaves of the directory operations: each is kept or lost as a whole, and kept
 * only when those it depends on are kept (op_depends). Data and names are independent: a file that
 * was renamed into place without a sync of its data may come back with its new name and any of its
 * data missing. */
#include "db/node/env_sim_disk.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/node/env.h"
#include "db/node/env_sim_content.h"

enum { NAME_SIZE_MAX = 255 };
/* Files are kept whole in memory, so one stray offset must not take it all. */
static const uint64_t file_size_max = (uint64_t)1 << 32;

struct entry {
    char *name;
    struct disk_node *node;
};

struct entries {
    struct entry *items;
    size_t count;
    size_t capacity;
};

struct disk_node {
    struct disk_node *next; /* of all nodes of the disk */
    bool is_dir;
    bool marked; /* by nodes_sweep */
    unsigned handles;
    struct content content;      /* of a file */
    struct entries live_entries; /* of a directory, like the next */
    struct entries durable_entries;
};

/* Removes `from` from from_dir (unless that is NULL), then sets `to` in to_dir (unless NULL) to
 * node. */
struct dir_op {
    struct disk_node *from_dir;
    struct disk_node *to_dir;
    char *from;
    char *to;
    struct disk_node *node;
    struct disk_node *gone; /* what lost its name by it, or NULL */
};

struct disk {
    struct sim_rng rng;
    uint64_t size_max;
    struct disk_node *nodes;
    struct disk_node *root;
    struct dir_op *ops;
    size_t op_count;
    size_t op_capacity;
};

static void *grown(void *items, size_t *capacity, size_t count, size_t item_size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? *capacity * 2 : 8;
    items = realloc(items, *capacity * item_size);
    ASSERT(items);
    return items;
}

static char *name_copy(const char *name)
{
    char *copy = strdup(name);
    ASSERT(copy);
    return copy;
}

/* --- directory entries --- */

static struct entry *entries_find(const struct entries *entries, const char *name)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (!strcmp(entries->items[i].name, name)) return &entries->items[i];
    }
    return NULL;
}

static void entries_set(struct entries *entries, const char *name, struct disk_node *node)
{
    struct entry *entry = entries_find(entries, name);
    if (entry) {
        entry->node = node;
        return;
    }
    entries->items =
        grown(entries->items, &entries->capacity, entries->count, sizeof(entries->items[0]));
    entries->items[entries->count++] = (struct entry){.name = name_copy(name), .node = node};
}

static void entries_drop(struct entries *entries, const char *name)
{
    struct entry *entry = entries_find(entries, name);
    if (!entry) return;
    free(entry->name);
    *entry = entries->items[--entries->count];
}

static void entries_clear(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        free(entries->items[i].name);
    free(entries->items);
    *entries = (struct entries){0};
}

/* --- nodes --- */

static struct disk_node *node_create(struct disk *disk, bool is_dir)
{
    struct disk_node *node = calloc(1, sizeof(*node));
    ASSERT(node);
    node->is_dir = is_dir;
    content_init(&node->content);
    node->next = disk->nodes;
    disk->nodes = node;
    return node;
}

static void node_destroy(struct disk_node *node)
{
    content_fini(&node->content);
    entries_clear(&node->live_entries);
    entries_clear(&node->durable_entries);
    free(node);
}

static void node_mark(struct disk_node *node);

static void entries_mark(const struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        node_mark(entries->items[i].node);
}

static void node_mark(struct disk_node *node)
{
    if (!node || node->marked) return;
    node->marked = true;
    entries_mark(&node->live_entries);
    entries_mark(&node->durable_entries);
}

static void nodes_sweep(struct disk *disk)
{
    node_mark(disk->root);
    for (struct disk_node *node = disk->nodes; node; node = node->next) {
        if (node->handles) node_mark(node);
    }
    for (size_t i = 0; i < disk->op_count; i++) {
        node_mark(disk->ops[i].from_dir);
        node_mark(disk->ops[i].to_dir);
        node_mark(disk->ops[i].node);
        node_mark(disk->ops[i].gone);
    }
    struct disk_node **link = &disk->nodes;
    while (*link) {
        struct disk_node *node = *link;
        if (node->marked) {
            node->marked = false;
            link = &node->next;
        } else {
            *link = node->next;
            node_destroy(node);
        }
    }
}

/* Live bytes: what has a live name or an open handle. */
static uint64_t tree_size(const struct disk_node *node)
{
    if (!node->is_dir) return node->handles ? 0 : node->content.live.size;
    uint64_t size = 0;
    for (size_t i = 0; i < node->live_entries.count; i++)
        size += tree_size(node->live_entries.items[i].node);
    return size;
}

static uint64_t disk_used(const struct disk *disk)
{
    uint64_t size = tree_size(disk->root);
    for (const struct disk_node *node = disk->nodes; node; node = node->next) {
        if (node->handles) size += node->content.live.size;
    }
    return size;
}

/* --- paths --- */

/* The directory that holds the last part of the path, and that part. The root itself has none:
 * *ret_name is then "" and *ret_dir the root. */
static enum err path_walk(const struct disk *disk, const char *path, struct disk_node **ret_dir,
                          char ret_name[NAME_SIZE_MAX + 1])
{
    ASSERT(path[0] != '/');
    struct disk_node *dir = disk->root;
    char name[NAME_SIZE_MAX + 1] = "";
    while (*path) {
        size_t size = strcspn(path, "/");
        if (size > NAME_SIZE_MAX) return ERR_IO;
        if (name[0]) {
            struct entry *entry = entries_find(&dir->live_entries, name);
            if (!entry) return ERR_NOT_FOUND;
            if (!entry->node->is_dir) return ERR_IO;
            dir = entry->node;
            name[0] = '\0';
        }
        bool is_dot = size == 1 && path[0] == '.';
        ASSERT(!(size == 2 && path[0] == '.' && path[1] == '.'));
        if (!is_dot) {
            memcpy(name, path, size);
            name[size] = '\0';
        }
        path += size;
        while (*path == '/')
            path++;
    }
    *ret_dir = dir;
    memcpy(ret_name, name, sizeof(name));
    return ERR_NONE;
}

static enum err path_node(const struct disk *disk, const char *path, struct disk_node **ret_node)
{
    struct disk_node *dir;
    char name[NAME_SIZE_MAX + 1];
    enum err err = path_walk(disk, path, &dir, name);
    if (err) return err;
    if (!name[0]) {
        *ret_node = dir;
        return ERR_NONE;
    }
    struct entry *entry = entries_find(&dir->live_entries, name);
    if (!entry) return ERR_NOT_FOUND;
    *ret_node = entry->node;
    return ERR_NONE;
}

static enum err path_dir(const struct disk *disk, const char *path, struct disk_node **ret_dir)
{
    struct disk_node *node;
    enum err err = path_node(disk, path, &node);
    if (err) return err;
    if (!node->is_dir) return ERR_IO;
    *ret_dir = node;
    return ERR_NONE;
}

/* --- directory operations --- */

/* Does the live change and lists it as pending. */
static void op_add(struct disk *disk, struct disk_node *from_dir, const char *from,
                   struct disk_node *to_dir, const char *to, struct disk_node *node,
                   struct disk_node *gone)
{
    disk->ops = grown(disk->ops, &disk->op_capacity, disk->op_count, sizeof(disk->ops[0]));
    disk->ops[disk->op_count++] = (struct dir_op){
        .from_dir = from_dir,
        .to_dir = to_dir,
        .from = from_dir ? name_copy(from) : NULL,
        .to = to_dir ? name_copy(to) : NULL,
        .node = node,
        .gone = gone,
    };
    if (from_dir) entries_drop(&from_dir->live_entries, from);
    if (to_dir) entries_set(&to_dir->live_entries, to, node);
}

static void op_make_durable(const struct dir_op *op)
{
    if (op->from_dir) entries_drop(&op->from_dir->durable_entries, op->from);
    if (op->to_dir) entries_set(&op->to_dir->durable_entries, op->to, op->node);
}

static void op_fini(struct dir_op *op)
{
    free(op->from);
    free(op->to);
}

static bool op_touches(const struct dir_op *op, const struct disk_node *dir)
{
    return op->from_dir == dir || op->to_dir == dir;
}

static bool op_names(const struct dir_op *op, const struct disk_node *dir, const char *name)
{
    if (!dir) return false;
    return (op->from_dir == dir && !strcmp(op->from, name)) ||
           (op->to_dir == dir && !strcmp(op->to, name));
}

/* True when `op` cannot be durable without `earlier`: they concern the same name; or op removes a
 * directory whose content earlier changed; or op moves something into a directory that earlier
 * created (a file system does not lose a file by moving it). */
static bool op_depends(const struct dir_op *op, const struct dir_op *earlier)
{
    if (op_names(earlier, op->from_dir, op->from)) return true;
    if (op_names(earlier, op->to_dir, op->to)) return true;
    if (op->gone && op->gone->is_dir && op_touches(earlier, op->gone)) return true;
    return op->from_dir && op->to_dir && op->from_dir != op->to_dir && !earlier->from_dir &&
           earlier->node == op->to_dir;
}

/* Makes the pending operations with keep[i] durable, in order, and forgets them; the others stay
 * pending, or are forgotten too when drop_rest. */
static void ops_settle(struct disk *disk, const bool *keep, bool drop_rest)
{
    size_t left = 0;
    for (size_t i = 0; i < disk->op_count; i++) {
        struct dir_op *op = &disk->ops[i];
        if (keep[i]) op_make_durable(op);
        if (keep[i] || drop_rest)
            op_fini(op);
        else
            disk->ops[left++] = *op;
    }
    disk->op_count = left;
    nodes_sweep(disk);
}

static bool *flags_create(size_t count)
{
    bool *flags = calloc(count + 1, sizeof(*flags));
    ASSERT(flags);
    return flags;
}

enum err disk_dir_create(struct disk *disk, const char *path)
{
    struct disk_node *dir;
    char name[NAME_SIZE_MAX + 1];
    enum err err = path_walk(disk, path, &dir, name);
    if (err) return err;
    if (!name[0] || entries_find(&dir->live_entries, name)) return ERR_EXISTS;
    op_add(disk, NULL, NULL, dir, name, node_create(disk, true), NULL);
    return ERR_NONE;
}

enum err disk_dir_list(struct disk *disk, const char *path,
                       enum err (*each)(void *context, const char *name), void *context)
{
    struct disk_node *dir;
    enum err err = path_dir(disk, path, &dir);
    if (err) return err;
    /* A copy, so that the callback may change the directory; shuffled, because real ones have no
     * order. */
    size_t count = dir->live_entries.count;
    char **names = calloc(count + 1, sizeof(*names));
    ASSERT(names);
    for (size_t i = 0; i < count; i++) {
        size_t other = (size_t)sim_rng_below(&disk->rng, i + 1);
        names[i] = names[other];
        names[other] = name_copy(dir->live_entries.items[i].name);
    }
    for (size_t i = 0; i < count && !err; i++)
        err = each(context, names[i]);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return err;
}

enum err disk_dir_sync(struct disk *disk, const char *path)
{
    struct disk_node *dir;
    enum err err = path_dir(disk, path, &dir);
    if (err) return err;
    bool *keep = flags_create(disk->op_count);
    for (size_t i = disk->op_count; i-- > 0;) {
        if (op_touches(&disk->ops[i], dir)) keep[i] = true;
        for (size_t j = 0; keep[i] && j < i; j++) {
            if (op_depends(&disk->ops[i], &disk->ops[j])) keep[j] = true;
        }
    }
    ops_settle(disk, keep, false);
    free(keep);
    return ERR_NONE;
}

static bool tree_contains(const struct disk_node *tree, const struct disk_node *node)
{
    if (tree == node) return true;
    for (size_t i = 0; i < tree->live_entries.count; i++) {
        if (tree_contains(tree->live_entries.items[i].node, node)) return true;
    }
    return false;
}

enum err disk_rename(struct disk *disk, const char *from, const char *to)
{
    struct disk_node *from_dir, *to_dir;
    char from_name[NAME_SIZE_MAX + 1], to_name[NAME_SIZE_MAX + 1];
    enum err err = path_walk(disk, from, &from_dir, from_name);
    if (err) return err;
    err = path_walk(disk, to, &to_dir, to_name);
    if (err) return err;
    if (!from_name[0] || !to_name[0]) return ERR_IO;
    struct entry *source = entries_find(&from_dir->live_entries, from_name);
    if (!source) return ERR_NOT_FOUND;
    struct disk_node *node = source->node;
    if (tree_contains(node, to_dir)) return ERR_IO;
    struct entry *target = entries_find(&to_dir->live_entries, to_name);
    struct disk_node *gone = target ? target->node : NULL;
    if (gone == node) return ERR_NONE;
    if (gone && (gone->is_dir != node->is_dir || gone->live_entries.count)) return ERR_IO;
    op_add(disk, from_dir, from_name, to_dir, to_name, node, gone);
    return ERR_NONE;
}

enum err disk_remove(struct disk *disk, const char *path)
{
    struct disk_node *dir;
    char name[NAME_SIZE_MAX + 1];
    enum err err = path_walk(disk, path, &dir, name);
    if (err) return err;
    if (!name[0]) return ERR_IO;
    struct entry *entry = entries_find(&dir->live_entries, name);
    if (!entry) return ERR_NOT_FOUND;
    if (entry->node->live_entries.count) return ERR_IO;
    op_add(disk, dir, name, NULL, NULL, entry->node, entry->node);
    return ERR_NONE;
}

/* --- files --- */

enum err disk_open(struct disk *disk, const char *path, unsigned flags, struct disk_node **ret_node)
{
    struct disk_node *dir;
    char name[NAME_SIZE_MAX + 1];
    enum err err = path_walk(disk, path, &dir, name);
    if (err) return err;
    if (!name[0]) return ERR_IO;
    struct entry *entry = entries_find(&dir->live_entries, name);
    struct disk_node *node;
    if (entry) {
        node = entry->node;
        if ((flags & ENV_OPEN_CREATE) && (flags & ENV_OPEN_EXCLUSIVE)) return ERR_EXISTS;
        if (node->is_dir) return ERR_IO;
        if (flags & ENV_OPEN_TRUNCATE) {
            err = disk_truncate(disk, node, 0);
            ASSERT(!err); /* shrinking takes no space */
        }
    } else {
        if (!(flags & ENV_OPEN_CREATE)) return ERR_NOT_FOUND;
        node = node_create(disk, false);
        op_add(disk, NULL, NULL, dir, name, node, NULL);
    }
    node->handles++;
    *ret_node = node;
    return ERR_NONE;
}

void disk_release(struct disk_node *node)
{
    ASSERT(node->handles > 0);
    node->handles--;
}

uint64_t disk_node_size(const struct disk_node *node)
{
    return node->content.live.size;
}

size_t disk_read(const struct disk_node *node, void *bytes, size_t size, uint64_t offset)
{
    return content_read(&node->content, bytes, size, offset);
}

/* How far the file may grow; UINT64_MAX is capped by file_size_max. */
static uint64_t size_allowed(const struct disk *disk, const struct disk_node *node)
{
    if (!disk->size_max) return file_size_max;
    uint64_t used = disk_used(disk);
    uint64_t allowed =
        node->content.live.size + (disk->size_max > used ? disk->size_max - used : 0);
    return allowed < file_size_max ? allowed : file_size_max;
}

enum err disk_write(struct disk *disk, struct disk_node *node, const void *bytes, size_t size,
                    uint64_t offset)
{
    if (size == 0) return ERR_NONE;
    enum err err = ERR_NONE;
    if (offset >= node->content.live.size || size > node->content.live.size - offset) {
        uint64_t allowed = size_allowed(disk, node);
        if (offset >= allowed) return ERR_NO_SPACE;
        if (size > allowed - offset) {
            size = (size_t)(allowed - offset);
            err = ERR_NO_SPACE;
        }
    }
    content_write(&node->content, bytes, size, offset);
    return err;
}

enum err disk_truncate(struct disk *disk, struct disk_node *node, uint64_t size)
{
    if (size == node->content.live.size) return ERR_NONE;
    if (size > node->content.live.size && size > size_allowed(disk, node)) return ERR_NO_SPACE;
    content_truncate(&node->content, size);
    return ERR_NONE;
}

void disk_sync(struct disk_node *node)
{
    content_sync(&node->content);
}

void disk_sync_fail(struct disk *disk, struct disk_node *node)
{
    content_settle(&node->content, &disk->rng);
}

/* --- the whole disk --- */

struct disk *disk_create(uint64_t seed, uint64_t size_max)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    if (!disk) return NULL;
    disk->rng.state = seed;
    disk->size_max = size_max;
    disk->root = node_create(disk, true);
    return disk;
}

void disk_destroy(struct disk *disk)
{
    if (!disk) return;
    for (size_t i = 0; i < disk->op_count; i++)
        op_fini(&disk->ops[i]);
    free(disk->ops);
    while (disk->nodes) {
        struct disk_node *node = disk->nodes;
        disk->nodes = node->next;
        node_destroy(node);
    }
    free(disk);
}

uint64_t disk_space_free(const struct disk *disk)
{
    uint64_t used = disk_used(disk);
    if (!disk->size_max) return file_size_max;
    return disk->size_max > used ? disk->size_max - used : 0;
}

void disk_crash(struct disk *disk)
{
    /* Of a hundred operations, how many survive when nothing they depend on is lost. */
    static const unsigned survival[] = {0, 50, 90, 100};
    unsigned chance = survival[sim_rng_below(&disk->rng, ARRAY_SIZE(survival))];
    bool *keep = flags_create(disk->op_count);
    for (size_t i = 0; i < disk->op_count; i++) {
        keep[i] = sim_rng_below(&disk->rng, 100) < chance;
        for (size_t j = 0; keep[i] && j < i; j++) {
            if (!keep[j] && op_depends(&disk->ops[i], &disk->ops[j])) keep[i] = false;
        }
    }
    ops_settle(disk, keep, true);
    free(keep);

    for (struct disk_node *node = disk->nodes; node; node = node->next) {
        if (node->is_dir) {
            entries_clear(&node->live_entries);
            for (size_t i = 0; i < node->durable_entries.count; i++) {
                const struct entry *entry = &node->durable_entries.items[i];
                entries_set(&node->live_entries, entry->name, entry->node);
            }
        } else {
            content_crash(&node->content, &disk->rng);
        }
    }
    nodes_sweep(disk);
}

enum err disk_corrupt(struct disk *disk, const char *path, uint64_t offset, unsigned bits)
{
    struct disk_node *node;
    enum err err = path_node(disk, path, &node);
    if (err) return err;
    if (node->is_dir) return ERR_INVALID;
    uint64_t size = node->content.durable.size;
    if (offset > size || bits > (size - offset) * 8) return ERR_INVALID;
    uint64_t *places = calloc((size_t)bits + 1, sizeof(*places));
    ASSERT(places);
    for (unsigned i = 0; i < bits;) {
        uint64_t place = sim_rng_below(&disk->rng, (size - offset) * 8);
        bool taken = false;
        for (unsigned j = 0; j < i; j++)
            taken |= places[j] == place;
        if (taken) continue;
        places[i++] = place;
        content_flip(&node->content, offset + place / 8, (unsigned)(place % 8));
    }
    free(places);
    return ERR_NONE;
}
