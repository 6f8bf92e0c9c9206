/* Inserting into the B+tree and removing from it.
 *
 * An insert that needs memory takes all of it (leaves, the separator, inner nodes up to a new root)
 * before it links anything. A remove only tidies up with new memory (merging, shrinking) and goes
 * without when there is none, so it never fails for want of it.
 *
 * A full leaf is split in the middle, but at the right edge of the tree it stays full and the new
 * entry starts a leaf of its own, so ascending keys fill leaves. */
#include "db/ldm/btree_node.h"

#include "base/check.h"

/* The inner nodes from the root down to a leaf, and which child was taken in each. */
struct btree_path {
    uint32_t depth;
    uint16_t index[BTREE_DEPTH_MAX];
    struct inner *inner[BTREE_DEPTH_MAX];
};

static struct leaf *descend_path(const struct btree *tree, const struct entry_key *key,
                                 struct btree_path *path)
{
    void *node = tree->root;
    path->depth = tree->depth;
    for (uint32_t i = 0; i < tree->depth; i++) {
        struct inner *inner = node;
        uint32_t index = inner_search(inner, key);
        path->inner[i] = inner;
        path->index[i] = (uint16_t)index;
        node = inner->children[index];
    }
    leaf_prefetch(node);
    return node;
}

/* ---- linking ---- */

static void link_between(struct btree *tree, struct leaf *leaf, struct leaf *previous,
                         struct leaf *next)
{
    leaf->previous = previous;
    leaf->next = next;
    *(previous ? &previous->next : &tree->first) = leaf;
    *(next ? &next->previous : &tree->last) = leaf;
}

static void set_child(struct btree *tree, const struct btree_path *path, void *child)
{
    uint32_t depth = path->depth;
    if (depth) {
        path->inner[depth - 1]->children[path->index[depth - 1]] = child;
    } else {
        tree->root = child;
    }
}

/* A rebuilt leaf takes the place of the old one, which is freed. */
static void replace_leaf(struct btree *tree, const struct btree_path *path, struct leaf *old,
                         struct leaf *leaf)
{
    link_between(tree, leaf, old->previous, old->next);
    set_child(tree, path, leaf);
    leaf_free(tree, old);
}

/* ---- inserting ---- */

/* The inner nodes that a new child at the bottom of the path makes necessary. */
struct spare_inners {
    uint32_t count;
    uint32_t used;
    struct inner *inner[BTREE_DEPTH_MAX + 1];
};

static void spare_free(struct btree *tree, struct spare_inners *spare)
{
    for (uint32_t i = spare->used; i < spare->count; i++)
        node_free(tree, spare->inner[i], sizeof(struct inner));
}

static bool spare_take(struct btree *tree, const struct btree_path *path,
                       struct spare_inners *ret_spare)
{
    struct spare_inners spare = {0};
    uint32_t needed = 0;
    uint32_t level = path->depth;
    while (level > 0 && path->inner[level - 1]->count == INNER_CHILDREN_MAX) {
        needed++;
        level--;
    }
    if (level == 0) needed++; /* a new root */
    for (; spare.count < needed; spare.count++) {
        spare.inner[spare.count] = node_alloc(tree, sizeof(struct inner));
        if (!spare.inner[spare.count]) {
            spare_free(tree, &spare);
            return false;
        }
    }
    *ret_spare = spare;
    return true;
}

/* Puts a child behind the one where the path ends. Splits full nodes, at their right ends when the
 * child comes last in the whole tree. */
static void add_child(struct btree *tree, const struct btree_path *path,
                      struct separator *separator, void *child, bool at_right_edge,
                      struct spare_inners *spare)
{
    for (uint32_t level = path->depth; level > 0; level--) {
        struct inner *inner = path->inner[level - 1];
        uint32_t index = path->index[level - 1];
        if (inner->count < INNER_CHILDREN_MAX) {
            inner_insert(inner, index, separator, child);
            return;
        }
        struct inner *right = spare->inner[spare->used++];
        uint32_t at = at_right_edge ? INNER_CHILDREN_MAX - 8 : INNER_CHILDREN_MAX / 2;
        struct separator *up = inner_split(inner, right, at);
        if (index < at) {
            inner_insert(inner, index, separator, child);
        } else {
            inner_insert(right, index - at, separator, child);
        }
        separator = up;
        child = right;
    }
    ASSERT(tree->depth < BTREE_DEPTH_MAX);
    struct inner *root = spare->inner[spare->used++];
    root->count = 1;
    root->prefix_size = 0;
    root->children[0] = tree->root;
    inner_insert(root, 0, separator, child);
    tree->root = root;
    tree->depth++;
}

/* Ascending inserts: the full last leaf stays as it is. */
static enum err split_right_edge(struct btree *tree, const struct btree_path *path,
                                 struct leaf *leaf, const struct entry_key *key)
{
    struct spare_inners spare;
    if (!spare_take(tree, path, &spare)) return ERR_NO_MEMORY;
    uint8_t last[SCHEMA_KEY_SIZE_MAX];
    uint32_t index = leaf->count - 1u;
    struct entry_key left = {.bytes = last, .row = leaf_rows(leaf)[index]};
    left.size = leaf_key(tree, leaf, index, last);
    struct leaf *right = NULL;
    struct separator *separator = separator_between(tree, &left, key);
    if (separator) right = leaf_make(tree, NULL, 0, LEAF_CAPACITY_STEP, key);
    if (!right) {
        separator_free(tree, separator);
        spare_free(tree, &spare);
        return ERR_NO_MEMORY;
    }
    leaf_insert(tree, right, 0, key);
    link_between(tree, right, leaf, NULL);
    add_child(tree, path, separator, right, true, &spare);
    return ERR_NONE;
}

/* Where to split. In the middle; but where many heads tie, at the place not far from it where
 * neighbours differ most: what is on either side, such as the names of two directories, then has a
 * longer prefix of its own, and heads that decide. */
static uint32_t choose_split(const struct leaf *leaf)
{
    uint32_t count = leaf->count;
    uint32_t ties = 0;
    for (uint32_t i = 1; i < count; i++)
        ties += leaf->heads[i] == leaf->heads[i - 1];
    uint32_t best = count / 2;
    if (ties < count / 8) return best;
    uint64_t best_difference = leaf->heads[best] ^ leaf->heads[best - 1];
    for (uint32_t step = 1; step <= count / 4; step++) {
        for (uint32_t side = 0; side < 2; side++) {
            uint32_t at = side ? count / 2 + step : count / 2 - step;
            uint64_t difference = leaf->heads[at] ^ leaf->heads[at - 1];
            /* More by a whole bit at least: nearer is better otherwise. */
            if (difference / 2 < best_difference || difference == 0) continue;
            best = at;
            best_difference = difference;
        }
    }
    return best;
}

/* The full leaf becomes two, and the key goes into one of them. */
static enum err split_leaf(struct btree *tree, const struct btree_path *path, struct leaf *leaf,
                           uint32_t index, const struct entry_key *key)
{
    struct spare_inners spare;
    if (!spare_take(tree, path, &spare)) return ERR_NO_MEMORY;
    uint32_t middle = choose_split(leaf);
    struct leaf *left = NULL;
    struct leaf *right = NULL;
    struct separator *separator = leaf_separate(tree, leaf, middle - 1, leaf, middle);
    if (!separator) goto free_spare;
    int order = bytes_compare(key->bytes, key->size, separator->bytes, separator->size);
    if (order == 0) order = (key->row > separator->row) - (key->row < separator->row);
    bool goes_right = order >= 0;
    struct leaf_part lower = {.leaf = leaf, .from = 0, .to = middle};
    struct leaf_part upper = {.leaf = leaf, .from = middle, .to = leaf->count};
    uint32_t lower_count = middle + !goes_right;
    uint32_t upper_count = leaf->count - middle + goes_right;
    left = leaf_make(tree, &lower, 1, leaf_capacity_for(lower_count), goes_right ? NULL : key);
    if (!left) goto free_separator;
    right = leaf_make(tree, &upper, 1, leaf_capacity_for(upper_count), goes_right ? key : NULL);
    if (!right) goto free_left;

    if (goes_right) {
        leaf_insert(tree, right, index - middle, key);
    } else {
        leaf_insert(tree, left, index, key);
    }
    struct leaf *next = leaf->next;
    link_between(tree, left, leaf->previous, next);
    link_between(tree, right, left, next);
    set_child(tree, path, left);
    leaf_free(tree, leaf);
    add_child(tree, path, separator, right, !next, &spare);
    return ERR_NONE;

free_left:
    leaf_free(tree, left);
free_separator:
    separator_free(tree, separator);
free_spare:
    spare_free(tree, &spare);
    return ERR_NO_MEMORY;
}

/* The leaf has no room in place but is not full. */
static enum err grow_leaf(struct btree *tree, const struct btree_path *path, struct leaf *leaf,
                          uint32_t index, const struct entry_key *key)
{
    struct leaf_part part = {.leaf = leaf, .from = 0, .to = leaf->count};
    struct leaf *grown = leaf_make(tree, &part, 1, leaf_capacity_for(leaf->count + 1u), key);
    if (!grown) return ERR_NO_MEMORY;
    leaf_insert(tree, grown, index, key);
    replace_leaf(tree, path, leaf, grown);
    return ERR_NONE;
}

static enum err insert_at(struct btree *tree, const struct btree_path *path, struct leaf *leaf,
                          uint32_t index, const struct entry_key *key)
{
    if (leaf_has_room(tree, leaf, key)) {
        leaf_insert(tree, leaf, index, key);
        return ERR_NONE;
    }
    if (leaf->count < LEAF_CAPACITY_MAX) return grow_leaf(tree, path, leaf, index, key);
    if (!leaf->next && index == leaf->count) return split_right_edge(tree, path, leaf, key);
    return split_leaf(tree, path, leaf, index, key);
}

/* An entry with this key in the leaf's neighbour, where the key would be at the leaf's edge. */
static bool neighbour_has_key(const struct btree *tree, const struct leaf *leaf, uint32_t index,
                              const struct entry_key *key, uint32_t *ret_row)
{
    struct leaf_place place;
    if (index == 0 && leaf->previous) {
        leaf_search(tree, leaf->previous, key, &place);
        if (place.same_key) {
            *ret_row = place.same_row;
            return true;
        }
    }
    if (index == leaf->count && leaf->next) {
        leaf_search(tree, leaf->next, key, &place);
        if (place.same_key) {
            *ret_row = place.same_row;
            return true;
        }
    }
    return false;
}

static enum err insert_first(struct btree *tree, const struct entry_key *key)
{
    struct leaf *leaf = leaf_make(tree, NULL, 0, leaf_capacity_for(1), key);
    if (!leaf) return ERR_NO_MEMORY;
    leaf_insert(tree, leaf, 0, key);
    link_between(tree, leaf, NULL, NULL);
    tree->root = leaf;
    tree->depth = 0;
    return ERR_NONE;
}

enum err btree_insert(struct btree *tree, const uint8_t *key, uint32_t key_size, uint32_t row,
                      bool unique, uint32_t *ret_existing)
{
    ASSERT(key_size <= SCHEMA_KEY_SIZE_MAX);
    ASSERT(!tree->config.key_size || key_size == tree->config.key_size);
    struct entry_key added = {.bytes = key, .size = key_size, .row = row};
    enum err err;
    if (!tree->root) {
        err = insert_first(tree, &added);
    } else {
        struct btree_path path;
        struct leaf *leaf = descend_path(tree, &added, &path);
        struct leaf_place place;
        leaf_search(tree, leaf, &added, &place);
        uint32_t existing = row;
        bool exists = place.exact;
        if (!exists && unique) {
            exists = place.same_key ||
                     neighbour_has_key(tree, leaf, place.index, &added, &place.same_row);
            existing = place.same_row;
        }
        if (exists) {
            if (ret_existing) *ret_existing = existing;
            return ERR_EXISTS;
        }
        err = insert_at(tree, &path, leaf, place.index, &added);
    }
    if (err) return err;
    tree->count++;
    tree->change_count++;
    if (key_size < tree->key_size_min) tree->key_size_min = key_size;
    if (key_size > tree->key_size_max) tree->key_size_max = key_size;
    return ERR_NONE;
}

/* ---- removing ---- */

/* Inner nodes on the path that have become small are merged with or filled from neighbours; a root
 * with one child gives way to it. */
static void tidy_inners(struct btree *tree, const struct btree_path *path)
{
    for (uint32_t level = path->depth; level > 1; level--) {
        if (path->inner[level - 1]->count >= INNER_LOW) break;
        if (!inner_rebalance(tree, path->inner[level - 2], path->index[level - 2])) break;
    }
    while (tree->depth > 0) {
        struct inner *root = tree->root;
        if (root->count > 1) break;
        tree->root = root->children[0];
        tree->depth--;
        node_free(tree, root, sizeof *root);
    }
}

static void drop_leaf(struct btree *tree, const struct btree_path *path, struct leaf *leaf)
{
    *(leaf->previous ? &leaf->previous->next : &tree->first) = leaf->next;
    *(leaf->next ? &leaf->next->previous : &tree->last) = leaf->previous;
    leaf_free(tree, leaf);
    if (path->depth == 0) {
        tree->root = NULL;
        tree->key_size_min = UINT32_MAX;
        tree->key_size_max = 0;
        return;
    }
    uint32_t bottom = path->depth - 1;
    separator_free(tree, inner_remove(path->inner[bottom], path->index[bottom]));
    tidy_inners(tree, path);
}

/* Two neighbours under one parent become one. False when there is no memory for it. */
static bool merge_leaves(struct btree *tree, const struct btree_path *path, uint32_t at)
{
    uint32_t bottom = path->depth - 1;
    struct inner *parent = path->inner[bottom];
    struct leaf *left = parent->children[at];
    struct leaf *right = parent->children[at + 1];
    struct leaf_part parts[2] = {{.leaf = left, .to = left->count},
                                 {.leaf = right, .to = right->count}};
    uint32_t capacity = leaf_capacity_for((uint32_t)left->count + right->count);
    struct leaf *merged = leaf_make(tree, parts, 2, capacity, NULL);
    if (!merged) return false;
    link_between(tree, merged, left->previous, right->next);
    leaf_free(tree, left);
    leaf_free(tree, right);
    parent->children[at] = merged;
    separator_free(tree, inner_remove(parent, at + 1));
    tidy_inners(tree, path);
    return true;
}

/* Two neighbours under one parent get as many entries each. Nothing changes when there is no memory
 * for it. */
static void share_leaves(struct btree *tree, const struct btree_path *path, uint32_t at)
{
    struct inner *parent = path->inner[path->depth - 1];
    struct leaf *left = parent->children[at];
    struct leaf *right = parent->children[at + 1];
    uint32_t half = ((uint32_t)left->count + right->count) / 2;
    struct leaf_part lower[2] = {{.leaf = left, .to = left->count}, {.leaf = right}};
    struct leaf_part upper[2] = {{.leaf = left, .from = left->count, .to = left->count},
                                 {.leaf = right, .to = right->count}};
    bool moves_left = left->count < half;
    if (moves_left) {
        lower[1].to = half - left->count;
        upper[1].from = lower[1].to;
    } else {
        lower[0].to = half;
        upper[0].from = half;
    }
    uint32_t total = (uint32_t)left->count + right->count;
    struct leaf *new_left =
        leaf_make(tree, lower, moves_left ? 2 : 1, leaf_capacity_for(half), NULL);
    struct leaf *new_right = leaf_make(tree, moves_left ? upper + 1 : upper, moves_left ? 1 : 2,
                                       leaf_capacity_for(total - half), NULL);
    struct separator *separator = NULL;
    if (new_left && new_right) {
        separator = leaf_separate(tree, new_left, half - 1, new_right, 0);
    }
    if (!separator) {
        leaf_free(tree, new_left);
        leaf_free(tree, new_right);
        return;
    }
    struct leaf *next = right->next;
    link_between(tree, new_left, left->previous, next);
    link_between(tree, new_right, new_left, next);
    leaf_free(tree, left);
    leaf_free(tree, right);
    separator_free(tree, parent->separators[at]);
    parent->separators[at] = separator;
    parent->children[at] = new_left;
    parent->children[at + 1] = new_right;
    inner_refresh(parent);
}

/* A leaf that has got small, or much smaller than its memory. */
static void tidy_leaf(struct btree *tree, const struct btree_path *path, struct leaf *leaf)
{
    if (leaf->count < LEAF_LOW && path->depth > 0) {
        uint32_t bottom = path->depth - 1;
        struct inner *parent = path->inner[bottom];
        uint32_t index = path->index[bottom];
        struct leaf *before = index > 0 ? parent->children[index - 1] : NULL;
        struct leaf *behind = index + 1u < parent->count ? parent->children[index + 1] : NULL;
        if (before || behind) {
            uint32_t at = !behind || (before && before->count <= behind->count) ? index - 1 : index;
            const struct leaf *other = at == index ? behind : before;
            if ((uint32_t)leaf->count + other->count <= LEAF_MERGED_MAX) {
                (void)merge_leaves(tree, path, at);
                return;
            }
            if (leaf->count < LEAF_STARVED) {
                share_leaves(tree, path, at);
                return;
            }
        }
    }
    uint32_t capacity = leaf_capacity_for(leaf->count + LEAF_CAPACITY_STEP / 4u);
    bool wasteful = leaf->tails && leaf->tails->garbage > leaf->tails->capacity / 2;
    if (leaf->capacity < 2 * LEAF_CAPACITY_STEP + capacity && !wasteful) return;
    struct leaf_part part = {.leaf = leaf, .to = leaf->count};
    struct leaf *smaller = leaf_make(tree, &part, 1, capacity, NULL);
    if (smaller) replace_leaf(tree, path, leaf, smaller);
}

enum err btree_remove(struct btree *tree, const uint8_t *key, uint32_t key_size, uint32_t row)
{
    if (!tree->root) return ERR_NOT_FOUND;
    struct entry_key removed = {.bytes = key, .size = key_size, .row = row};
    struct btree_path path;
    struct leaf *leaf = descend_path(tree, &removed, &path);
    uint32_t index;
    if (!leaf_search_row(tree, leaf, &removed, &index)) return ERR_NOT_FOUND;
    leaf_remove(leaf, index);
    tree->count--;
    tree->change_count++;
    if (leaf->count == 0) {
        drop_leaf(tree, &path, leaf);
    } else {
        tidy_leaf(tree, &path, leaf);
    }
    return ERR_NONE;
}
