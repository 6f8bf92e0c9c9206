/* The B+tree as a whole: making one, finding, and walking entries. Changes are in btree_change.c,
 * nodes in btree_leaf.c and btree_inner.c, layouts in btree_node.h.
 *
 * Called by fragments (db/ldm) for ordered primary keys and secondary indexes, on the thread that
 * owns the partition.
 *
 * Invariants that btree_verify checks: no empty leaf; entries strictly ascending by (key, row);
 * every entry within the separators above it; all leaves at one depth and linked in order; the root
 * inner node has two children or more. */
#include "db/ldm/btree_node.h"

#include <stdlib.h>

#include "base/check.h"

MUST_USE enum err btree_create(const struct btree_config *config, struct btree **ret_tree)
{
    ASSERT(config->key_of || config->store_keys);
    struct btree *tree = calloc(1, sizeof *tree);
    if (!tree) return ERR_NO_MEMORY;
    tree->config = *config;
    tree->bytes = sizeof *tree;
    if (config->memory) *config->memory += sizeof *tree;
    tree->key_size_min = UINT32_MAX;
    *ret_tree = tree;
    return ERR_NONE;
}

void subtree_free(struct btree *tree, void *node, uint32_t level)
{
    if (level == 0) {
        leaf_free(tree, node);
        return;
    }
    struct inner *inner = node;
    for (uint32_t i = 0; i < inner->count; i++) {
        subtree_free(tree, inner->children[i], level - 1);
        if (i + 1 < inner->count) separator_free(tree, inner->separators[i]);
    }
    node_free(tree, inner, sizeof *inner);
}

void btree_destroy(struct btree *tree)
{
    if (!tree) return;
    if (tree->root) subtree_free(tree, tree->root, tree->depth);
    ASSERT(tree->bytes == sizeof *tree);
    if (tree->config.memory) *tree->config.memory -= sizeof *tree;
    free(tree);
}

uint64_t btree_count(const struct btree *tree)
{
    return tree->count;
}

uint64_t btree_change_count(const struct btree *tree)
{
    return tree->change_count;
}

/* ---- finding ---- */

static struct leaf *descend(const struct btree *tree, const struct entry_key *key)
{
    void *node = tree->root;
    for (uint32_t level = tree->depth; level > 0; level--) {
        const struct inner *inner = node;
        node = inner->children[inner_search(inner, key)];
    }
    leaf_prefetch(node);
    return node;
}

enum err btree_find(const struct btree *tree, const uint8_t *key, uint32_t key_size,
                    uint32_t *ret_row)
{
    if (!tree->root) return ERR_NOT_FOUND;
    struct entry_key wanted = {.bytes = key, .size = key_size};
    const struct leaf *leaf = descend(tree, &wanted);
    struct leaf_place place;
    leaf_search(tree, leaf, &wanted, &place);
    if (place.index == leaf->count) {
        /* A separator with a row may have sent us to the left of the key's entries. */
        leaf = leaf->next;
        if (!leaf) return ERR_NOT_FOUND;
        leaf_search(tree, leaf, &wanted, &place);
        if (place.index != 0) return ERR_NOT_FOUND;
    }
    if (!place.same_at_index) return ERR_NOT_FOUND;
    *ret_row = leaf_rows(leaf)[place.index];
    return ERR_NONE;
}

void btree_prefetch(const struct btree *tree, const uint8_t *key, uint32_t key_size)
{
    if (!tree->root) return;
    struct entry_key wanted = {.bytes = key, .size = key_size};
    const struct leaf *leaf = descend(tree, &wanted);
    leaf_prefetch(leaf);
}

void btree_seek(const struct btree *tree, const uint8_t *key, uint32_t key_size, bool after,
                struct btree_position *ret_position)
{
    uint8_t bound[SCHEMA_KEY_SIZE_MAX];
    struct entry_key wanted = {.bytes = key, .size = key_size};
    *ret_position = (struct btree_position){0};
    if (!tree->root) return;
    if (after) {
        /* The least key above all that start with this one: its last byte plus one. */
        ASSERT(key_size <= sizeof bound);
        while (wanted.size && key[wanted.size - 1] == 0xff)
            wanted.size--;
        if (wanted.size == 0) return;
        memcpy(bound, key, wanted.size);
        bound[wanted.size - 1]++;
        wanted.bytes = bound;
    }
    const struct leaf *leaf = tree->first;
    struct leaf_place place = {0};
    if (wanted.size) {
        leaf = descend(tree, &wanted);
        leaf_search(tree, leaf, &wanted, &place);
    }
    if (place.index == leaf->count) {
        leaf = leaf->next;
        place.index = 0;
    }
    ret_position->leaf = leaf;
    ret_position->index = place.index;
}

bool btree_next(const struct btree *tree, struct btree_position *position, uint32_t *ret_row)
{
    (void)tree;
    const struct leaf *leaf = position->leaf;
    if (!leaf) return false;
    *ret_row = leaf_rows(leaf)[position->index];
    if (++position->index == leaf->count) {
        position->leaf = leaf->next;
        position->index = 0;
        if (leaf->next) __builtin_prefetch(leaf->next->next);
    }
    return true;
}

bool btree_previous(const struct btree *tree, struct btree_position *position, uint32_t *ret_row)
{
    const struct leaf *leaf = position->leaf;
    uint32_t index = position->index;
    if (!leaf || index == 0) {
        leaf = leaf ? leaf->previous : tree->last;
        if (!leaf) return false;
        index = leaf->count;
        if (leaf->previous) __builtin_prefetch(leaf->previous);
    }
    index--;
    *ret_row = leaf_rows(leaf)[index];
    position->leaf = leaf;
    position->index = index;
    return true;
}

uint32_t btree_key_at(const struct btree *tree, const struct btree_position *position,
                      uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    if (!position->leaf) return 0;
    return leaf_key(tree, position->leaf, position->index, key);
}
