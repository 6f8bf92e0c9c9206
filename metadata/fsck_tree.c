/* The tree of directories: all (ino, parent) pairs are fetched, sorted by ino, and each is followed
 * upwards until something known is met. Every directory is visited once, so the time is that of the
 * sort. */
#include "metadata/fsck_tree.h"

#include <stdlib.h>

#include "metadata/fs.h"
#include "sql/sql.h"

enum state { UNKNOWN, ON_PATH, REACHED, LOST };

struct directory {
    uint64_t ino;
    uint64_t parent;
    uint8_t state;
};

struct directories {
    struct directory *items;
    size_t count;
    size_t capacity;
};

static enum err add(void *context, const struct value *row, uint32_t count)
{
    struct directories *directories = context;
    if (count != 2) return ERR_CORRUPT;
    if (directories->count == directories->capacity) {
        size_t capacity = directories->capacity ? directories->capacity * 2 : 1024;
        struct directory *grown = realloc(directories->items, capacity * sizeof(*grown));
        if (!grown) return ERR_NO_MEMORY;
        directories->items = grown;
        directories->capacity = capacity;
    }
    directories->items[directories->count++] =
        (struct directory){.ino = row[0].u, .parent = row[1].u};
    return ERR_NONE;
}

static int compare(const void *a, const void *b)
{
    const struct directory *x = a;
    const struct directory *y = b;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

static struct directory *find(struct directories *directories, uint64_t ino)
{
    struct directory key = {.ino = ino};
    return bsearch(&key, directories->items, directories->count, sizeof(key), compare);
}

/* Follows from one directory to something known, then gives all on the way that state. */
static void follow(struct directories *directories, struct directory *from)
{
    struct directory *at = from;
    while (at && at->state == UNKNOWN && at->ino != FS_ROOT_INO) {
        at->state = ON_PATH;
        at = find(directories, at->parent);
    }
    enum state end = at && (at->ino == FS_ROOT_INO || at->state == REACHED) ? REACHED : LOST;
    for (at = from; at && at->state == ON_PATH; at = find(directories, at->parent))
        at->state = (uint8_t)end;
}

enum err fsck_tree(struct db_client *client, uint64_t *ret_lost, struct diag *diag)
{
    struct directories directories = {0};
    enum err err =
        sql_query(client, "fs", "SELECT ino, parent FROM inode WHERE type = 2 AND nlink > 0", add,
                  &directories, diag);
    uint64_t lost = 0;
    if (!err && directories.count) {
        qsort(directories.items, directories.count, sizeof(*directories.items), compare);
        for (size_t i = 0; i < directories.count; i++) {
            struct directory *at = &directories.items[i];
            if (at->ino == FS_ROOT_INO) continue;
            follow(&directories, at);
            lost += at->state == LOST;
        }
    }
    free(directories.items);
    if (!err) *ret_lost = lost;
    return err;
}
