/* Paths of directories, found from their inode numbers upwards.
 *
 * A directory's row names its parent, and the parent's entries hold its name. All directories of a
 * level are asked for together: one statement for their parents, one for their names among the
 * parents' entries, which reads each parent's entries once. The parents not known yet are the next
 * level. So the cost is two statements a level, whatever the number of directories.
 *
 * Each statement sees the file system of its own moment. What is moved in between may get a path
 * that mixes old and new names, or none; what is removed in between has no row, or no name, and
 * ends the path as removed. Nothing of that can loop: paths are at most PATHS_DEPTH_MAX levels. */
#include "cli/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/hash.h"
#include "metadata/fs.h"

enum {
    NUMBERS_PER_QUERY = 2048, /* in an IN list: bounds the statement's size */
    MEMORY_MAX = 512 << 20,
};

struct node {
    uint64_t ino; /* 0: a free place */
    uint64_t parent;
    const char *name; /* NULL: not known, or gone */
};

struct paths {
    struct sql_labels labels;
    struct arena arena; /* names and texts of this call */
    struct node *nodes; /* open addressing; a power of two */
    uint32_t capacity;
    uint32_t count;
    uint64_t *level; /* the directories asked for now */
    uint32_t level_count;
    uint32_t level_capacity;
};

/* ---- nodes ---- */

/* The directory's node, or the free place for it. */
static struct node *node_place(struct node *nodes, uint32_t capacity, uint64_t ino)
{
    uint32_t at = (uint32_t)hash_u64(ino) & (capacity - 1);
    while (nodes[at].ino && nodes[at].ino != ino)
        at = (at + 1) & (capacity - 1);
    return &nodes[at];
}

static struct node *node_find(const struct paths *paths, uint64_t ino)
{
    if (!paths->capacity) return NULL;
    struct node *node = node_place(paths->nodes, paths->capacity, ino);
    return node->ino ? node : NULL;
}

static enum err nodes_grow(struct paths *paths)
{
    uint32_t capacity = paths->capacity ? paths->capacity * 2 : 256;
    struct node *nodes = calloc(capacity, sizeof(*nodes));
    if (!nodes) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < paths->capacity; i++)
        if (paths->nodes[i].ino)
            *node_place(nodes, capacity, paths->nodes[i].ino) = paths->nodes[i];
    free(paths->nodes);
    paths->nodes = nodes;
    paths->capacity = capacity;
    return ERR_NONE;
}

static enum err level_add(struct paths *paths, uint64_t ino)
{
    if (paths->level_count == paths->level_capacity) {
        uint32_t capacity = paths->level_capacity ? paths->level_capacity * 2 : 64;
        uint64_t *level = realloc(paths->level, capacity * sizeof(*level));
        if (!level) return ERR_NO_MEMORY;
        paths->level = level;
        paths->level_capacity = capacity;
    }
    paths->level[paths->level_count++] = ino;
    return ERR_NONE;
}

/* A new directory, to be asked for; nothing happens when it is known. */
static enum err node_want(struct paths *paths, uint64_t ino)
{
    if (ino == 0 || ino == FS_ROOT_INO || node_find(paths, ino)) return ERR_NONE;
    if (paths->count == PATHS_COUNT_MAX) return ERR_TOO_BIG;
    if (paths->count * 2 >= paths->capacity) {
        enum err err = nodes_grow(paths);
        if (err) return err;
    }
    enum err err = level_add(paths, ino);
    if (err) return err;
    *node_place(paths->nodes, paths->capacity, ino) = (struct node){.ino = ino};
    paths->count++;
    return ERR_NONE;
}

/* ---- asking ---- */

static enum err take_parent(void *context, const struct value *row, uint32_t count)
{
    struct paths *paths = context;
    if (count != 2) return ERR_BAD_SIGNAL;
    struct node *node = node_find(paths, row[0].u);
    if (node) node->parent = row[1].u;
    return ERR_NONE;
}

static enum err take_name(void *context, const struct value *row, uint32_t count)
{
    struct paths *paths = context;
    if (count != 3 || row[2].kind != KIND_STR) return ERR_BAD_SIGNAL;
    struct node *node = node_find(paths, row[1].u);
    if (!node || node->parent != row[0].u) return ERR_NONE;
    node->name = arena_copy(&paths->arena, row[2].bytes, row[2].size);
    return node->name ? ERR_NONE : ERR_NO_MEMORY;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void put_list(struct buf *text, const uint64_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!i || numbers[i] != numbers[i - 1]) buf_printf(text, "%s%lu", i ? "," : "", numbers[i]);
}

static enum err run_text(struct paths *paths, struct db_client *client, struct buf *text,
                         enum err (*each)(void *, const struct value *, uint32_t),
                         struct diag *diag)
{
    buf_put_u8(text, 0);
    if (text->failed) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    return sql_query(client, NULL, (const char *)text->bytes, each, paths, diag);
}

/* Parents and names of the directories level[from, from + count). */
static enum err ask(struct paths *paths, struct db_client *client, uint32_t from, uint32_t count,
                    struct diag *diag)
{
    const uint64_t *inos = paths->level + from;
    uint64_t *parents = arena_new(&paths->arena, uint64_t, count);
    if (!parents) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    struct buf text;
    buf_init(&text);
    buf_printf(&text, "SELECT ino, parent FROM inode WHERE type = 2 AND ino IN (");
    put_list(&text, inos, count);
    buf_printf(&text, ")");
    enum err err = run_text(paths, client, &text, take_parent, diag);
    uint32_t parent_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct node *node = node_find(paths, inos[i]);
        if (node->parent) parents[parent_count++] = node->parent;
    }
    if (!err && parent_count) {
        qsort(parents, parent_count, sizeof(*parents), compare_numbers);
        buf_clear(&text);
        buf_printf(&text, "SELECT parent, ino, name FROM dentry WHERE type = 2 AND parent IN (");
        put_list(&text, parents, parent_count);
        buf_printf(&text, ") AND ino IN (");
        put_list(&text, inos, count);
        buf_printf(&text, ")");
        err = run_text(paths, client, &text, take_name, diag);
    }
    buf_fini(&text);
    return err;
}

/* Finds everything above what is wanted. */
static enum err climb(struct paths *paths, struct db_client *client, struct diag *diag)
{
    for (int depth = 0; paths->level_count && depth < PATHS_DEPTH_MAX; depth++) {
        uint32_t asked = paths->level_count;
        for (uint32_t from = 0; from < asked; from += NUMBERS_PER_QUERY) {
            uint32_t count = asked - from < NUMBERS_PER_QUERY ? asked - from : NUMBERS_PER_QUERY;
            enum err err = ask(paths, client, from, count, diag);
            if (err) return err;
        }
        /* The next level takes this one's place. */
        for (uint32_t i = 0; i < asked; i++) {
            enum err err = node_want(paths, node_find(paths, paths->level[i])->parent);
            if (err)
                return diag_set(diag, err, "cannot find the directories' paths: %s", err_text(err));
        }
        paths->level_count -= asked;
        memmove(paths->level, paths->level + asked, paths->level_count * sizeof(*paths->level));
    }
    return ERR_NONE;
}

/* ---- texts ---- */

/* Written from its end; what has no room or is too deep is "...". */
static const char *path_text(struct paths *paths, uint64_t ino)
{
    char text[PATHS_SIZE_MAX];
    char *at = text + sizeof(text) - 1;
    char head[64] = "";
    *at = 0;
    if (ino == FS_ROOT_INO) return "/";
    for (int depth = 0; ino != FS_ROOT_INO; depth++) {
        const struct node *node = node_find(paths, ino);
        if (!node && depth == 0) break; /* no inode number at all */
        size_t size = node && node->name ? strlen(node->name) : 0;
        if (node && !node->name && depth < PATHS_DEPTH_MAX) {
            (void)snprintf(head, sizeof(head), "(removed directory %lu)", ino);
            break;
        }
        if (!node || depth == PATHS_DEPTH_MAX || size + 1 + sizeof(head) > (size_t)(at - text)) {
            (void)snprintf(head, sizeof(head), "...");
            break;
        }
        at -= size;
        memcpy(at, node->name, size);
        *--at = '/';
        ino = node->parent;
    }
    size_t size = strlen(head);
    at -= size;
    memcpy(at, head, size);
    return arena_copy(&paths->arena, at, strlen(at));
}

static enum err resolve(struct sql_labels *labels, struct db_client *client,
                        const uint64_t *numbers, uint32_t count, const char **ret_texts,
                        struct diag *diag)
{
    struct paths *paths = (struct paths *)labels;
    arena_reset(&paths->arena);
    if (paths->capacity) memset(paths->nodes, 0, paths->capacity * sizeof(*paths->nodes));
    paths->count = paths->level_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum err err = node_want(paths, numbers[i]);
        if (err) return diag_set(diag, err, "cannot find paths: %s", err_text(err));
    }
    enum err err = climb(paths, client, diag);
    if (err) return err;
    for (uint32_t i = 0; i < count; i++) {
        ret_texts[i] = path_text(paths, numbers[i]);
        if (!ret_texts[i]) return diag_set(diag, ERR_NO_MEMORY, "out of memory");
    }
    return ERR_NONE;
}

/* ---- life ---- */

_Static_assert(offsetof(struct paths, labels) == 0, "labels are a paths");

enum err paths_create(const char *column, struct sql_labels **ret_labels)
{
    struct paths *paths = calloc(1, sizeof(*paths));
    if (!paths) return ERR_NO_MEMORY;
    paths->labels = (struct sql_labels){.column = column, .resolve = resolve};
    arena_init(&paths->arena, MEMORY_MAX);
    *ret_labels = &paths->labels;
    return ERR_NONE;
}

void paths_destroy(struct sql_labels *labels)
{
    struct paths *paths = (struct paths *)labels;
    if (!paths) return;
    arena_fini(&paths->arena);
    free(paths->nodes);
    free(paths->level);
    free(paths);
}
