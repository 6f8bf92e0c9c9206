/* Building a B+tree from rows at once: sort (btree_sort.c), fill leaves evenly to about 15/16, then
 * build the inner levels from the bottom up. Nothing of the tree changes until all of it exists.
 *
 * Without stored keys a leaf needs two keys read, its first and its last, which also give the
 * separators; heads come from the sorted windows, unless those are too alike to decide (as in
 * btree_leaf.c). */
#include "db/ldm/btree_node.h"

#include "base/check.h"

/* One level under construction: separators[i] stands between nodes i - 1 and i. */
struct level {
    void **nodes;
    struct separator **separators;
    uint64_t count;    /* filled */
    uint64_t capacity; /* of both arrays */
    uint32_t height;   /* 0: leaves */
};

struct builder {
    struct btree *tree;
    const struct sort_item *items;
    uint32_t offset; /* of the items' windows in the keys */
    struct level level;
    uint8_t first[SCHEMA_KEY_SIZE_MAX];
    uint8_t last[SCHEMA_KEY_SIZE_MAX]; /* of the current leaf, then the one before */
    struct entry_key before;           /* last key of the leaf before, in `last` */
    uint32_t size_min;
    uint32_t size_max;
};

static bool level_init(struct btree *tree, struct level *level, uint64_t capacity, uint32_t height)
{
    *level = (struct level){.capacity = capacity, .height = height};
    level->nodes = tree_alloc(tree, capacity * sizeof(void *));
    level->separators = tree_alloc(tree, capacity * sizeof(void *));
    return level->nodes && level->separators;
}

/* Frees the arrays and what the level still owns: its filled nodes and separators. */
static void level_fini(struct btree *tree, struct level *level)
{
    for (uint64_t i = 0; i < level->count; i++) {
        subtree_free(tree, level->nodes[i], level->height);
        if (i) separator_free(tree, level->separators[i]);
    }
    tree_free(tree, level->nodes, level->capacity * sizeof(void *));
    tree_free(tree, level->separators, level->capacity * sizeof(void *));
    *level = (struct level){0};
}

static uint32_t read_key(const struct btree *tree, uint32_t row, uint8_t *key)
{
    uint32_t size = tree->config.key_of(tree->config.context, row, key);
    ASSERT(size <= SCHEMA_KEY_SIZE_MAX);
    return size;
}

/* The head behind a prefix, from the window; the prefix reaches at most 4 bytes into it. */
static uint64_t window_head(const struct builder *builder, const struct sort_item *item,
                            uint32_t prefix_size)
{
    uint32_t offset = builder->offset;
    if (prefix_size <= offset) {
        return head_shift(builder->first, offset, prefix_size, item->high);
    }
    uint32_t bits = 8 * (prefix_size - offset);
    return item->high << bits | (uint64_t)item->low << 32 >> (64 - bits);
}

static bool heads_crowded(const uint64_t *heads, uint32_t count)
{
    uint32_t ties = 0;
    for (uint32_t i = 1; i < count; i++)
        ties += heads[i] == heads[i - 1];
    return heads[count - 1] - heads[0] < (uint64_t)count << 16 || ties > count / 16;
}

/* Fills a leaf by reading every key. */
static struct leaf *leaf_from_keys(struct builder *builder, const struct sort_item *items,
                                   uint32_t count, uint32_t prefix_size)
{
    struct btree *tree = builder->tree;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t bytes = 0;
    uint32_t key_size = 0;
    bool with_tails = false;
    for (uint32_t i = 0; tree->config.store_keys && i < count; i++) {
        uint32_t size = read_key(tree, items[i].row, key);
        if (i == 0) key_size = size;
        uint32_t end = prefix_size + HEAD_SIZE;
        with_tails |= size != key_size || size > end;
        bytes += (uint32_t)sizeof(uint16_t) + (size > end ? size - end : 0);
    }
    uint32_t capacity = leaf_capacity_for(count);
    uint32_t tail_bytes = bytes + bytes / count * (capacity - count);
    struct leaf *leaf =
        leaf_alloc(tree, capacity, builder->first, prefix_size, with_tails, tail_bytes);
    for (uint32_t i = 0; leaf && i < count; i++) {
        struct entry_key entry = {.bytes = key, .row = items[i].row};
        entry.size = read_key(tree, items[i].row, key);
        if (entry.size < builder->size_min) builder->size_min = entry.size;
        if (entry.size > builder->size_max) builder->size_max = entry.size;
        leaf_append(tree, leaf, &entry);
    }
    return leaf;
}

static struct leaf *leaf_from_windows(struct builder *builder, const struct sort_item *items,
                                      uint32_t count, uint32_t prefix_size)
{
    struct btree *tree = builder->tree;
    struct leaf *leaf =
        leaf_alloc(tree, leaf_capacity_for(count), builder->first, prefix_size, false, 0);
    if (!leaf) return NULL;
    uint64_t *heads = leaf->heads;
    uint32_t *rows = leaf_rows(leaf);
    for (uint32_t i = 0; i < count; i++) {
        heads[i] = window_head(builder, &items[i], prefix_size);
        rows[i] = items[i].row;
    }
    leaf->count = (uint16_t)count;
    leaf_sample(leaf, 0);
    return leaf;
}

/* Appends the leaf of these items to the level. False when out of memory. */
static bool add_leaf(struct builder *builder, const struct sort_item *items, uint32_t count)
{
    struct btree *tree = builder->tree;
    struct level *level = &builder->level;
    struct entry_key first = {.bytes = builder->first, .row = items[0].row};
    memset(builder->first, 0, sizeof builder->first);
    first.size = read_key(tree, items[0].row, builder->first);
    struct separator *separator = NULL;
    if (level->count) {
        separator = separator_between(tree, &builder->before, &first);
        if (!separator) return false;
    }
    builder->before = (struct entry_key){.bytes = builder->last, .row = items[count - 1].row};
    builder->before.size = read_key(tree, builder->before.row, builder->last);
    uint32_t common = bytes_common(first.bytes, first.size, builder->last, builder->before.size);
    if (count == 1) common = common > HEAD_SIZE ? common - HEAD_SIZE : 0;
    struct leaf *leaf;
    uint32_t known = builder->offset + 4 < 8 ? builder->offset + 4 : 8;
    uint32_t prefix_size = common < known ? common : known;
    if (tree->config.store_keys) {
        leaf = leaf_from_keys(builder, items, count, common);
    } else {
        leaf = leaf_from_windows(builder, items, count, prefix_size);
        if (leaf && common > prefix_size && heads_crowded(leaf->heads, count)) {
            leaf_free(tree, leaf);
            leaf = leaf_from_keys(builder, items, count, common);
        }
    }
    if (!leaf) {
        separator_free(tree, separator);
        return false;
    }
    level->nodes[level->count] = leaf;
    level->separators[level->count] = separator;
    level->count++;
    return true;
}

/* Item i of `parts` even shares of count starts here. */
static uint64_t share_start(uint64_t count, uint64_t parts, uint64_t i)
{
    uint64_t size = count / parts;
    uint64_t larger = count % parts;
    return i * size + (i < larger ? i : larger);
}

static bool build_leaves(struct builder *builder, uint64_t count)
{
    uint64_t leaf_count = (count + LEAF_BUILD_COUNT - 1) / LEAF_BUILD_COUNT;
    if (!level_init(builder->tree, &builder->level, leaf_count, 0)) return false;
    for (uint64_t i = 0; i < leaf_count; i++) {
        uint64_t from = share_start(count, leaf_count, i);
        uint64_t to = share_start(count, leaf_count, i + 1);
        if (!add_leaf(builder, builder->items + from, (uint32_t)(to - from))) return false;
    }
    return true;
}

/* Puts inner nodes over the level, which they take over. On failure some nodes belong to `above`
 * and the rest still to the level, so nothing is freed twice. */
static bool build_inners(struct btree *tree, struct level *level, struct level *above)
{
    uint64_t node_count = (level->count + INNER_BUILD_COUNT - 1) / INNER_BUILD_COUNT;
    if (!level_init(tree, above, node_count, level->height + 1)) return false;
    for (uint64_t i = 0; i < node_count; i++) {
        above->nodes[i] = node_alloc(tree, sizeof(struct inner));
        if (!above->nodes[i]) {
            while (i-- > 0)
                node_free(tree, above->nodes[i], sizeof(struct inner));
            return false;
        }
    }
    for (uint64_t i = 0; i < node_count; i++) {
        struct inner *inner = above->nodes[i];
        uint64_t from = share_start(level->count, node_count, i);
        uint64_t to = share_start(level->count, node_count, i + 1);
        inner->count = (uint16_t)(to - from);
        above->separators[i] = level->separators[from];
        for (uint64_t k = from; k < to; k++) {
            inner->children[k - from] = level->nodes[k];
            if (k > from) inner->separators[k - from - 1] = level->separators[k];
        }
        inner_refresh(inner);
    }
    above->count = node_count;
    level->count = 0;
    return true;
}

static void link_leaves(struct btree *tree, const struct level *level)
{
    struct leaf *previous = NULL;
    for (uint64_t i = 0; i < level->count; i++) {
        struct leaf *leaf = level->nodes[i];
        leaf->previous = previous;
        *(previous ? &previous->next : &tree->first) = leaf;
        previous = leaf;
    }
    tree->last = previous;
}

enum err btree_build(struct btree *tree, uint32_t *rows, uint64_t count, bool unique)
{
    ASSERT(!tree->root && tree->config.key_of);
    if (count == 0) return ERR_NONE;
    struct sort_item *items;
    struct builder builder = {.tree = tree, .size_min = UINT32_MAX};
    enum err err = btree_sort(tree, rows, count, unique, &items, &builder.offset);
    if (err) return err;
    builder.items = items;
    bool built = build_leaves(&builder, count);
    tree_free(tree, items, count * sizeof *items);
    struct level *level = &builder.level;
    if (built) link_leaves(tree, level);
    while (built && level->count > 1) {
        struct level above;
        built = build_inners(tree, level, &above);
        level_fini(tree, built ? level : &above);
        if (built) *level = above;
    }
    if (!built) {
        level_fini(tree, level);
        tree->first = NULL;
        tree->last = NULL;
        return ERR_NO_MEMORY;
    }
    tree->root = level->nodes[0];
    tree->depth = level->height;
    level->count = 0;
    level_fini(tree, level);
    tree->count = count;
    tree->change_count++;
    /* Sizes are known only where every key was read, or by the owner. */
    uint32_t key_size = tree->config.key_size;
    bool all_read = tree->config.store_keys;
    tree->key_size_min = key_size ? key_size : all_read ? builder.size_min : 0;
    tree->key_size_max = key_size ? key_size : all_read ? builder.size_max : SCHEMA_KEY_SIZE_MAX;
    return ERR_NONE;
}
