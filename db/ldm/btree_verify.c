/* Checks every invariant of a B+tree: for tests and fsck. Reads every key. */
#include "db/ldm/btree_node.h"

#include <inttypes.h>

#include "base/check.h"

struct verifier {
    const struct btree *tree;
    struct diag *diag;
    const struct leaf *previous; /* the leaf before, in key order */
    uint64_t count;
    uint64_t bytes;
    bool any;
    uint32_t size; /* of key: the entry before */
    uint32_t row;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
};

static int key_compare(const struct entry_key *a, const struct entry_key *b)
{
    int order = bytes_compare(a->bytes, a->size, b->bytes, b->size);
    if (order) return order;
    return (a->row > b->row) - (a->row < b->row);
}

static enum err verify_entry(struct verifier *verifier, const struct leaf *leaf, uint32_t index,
                             const struct separator *low, const struct separator *high)
{
    const struct btree *tree = verifier->tree;
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    struct entry_key key = {.bytes = bytes, .row = leaf_rows(leaf)[index]};
    key.size = leaf_key(tree, leaf, index, bytes);
    struct diag *diag = verifier->diag;
    uint32_t prefix_size = leaf->prefix_size;
    if (key.size < prefix_size ||
        (prefix_size && memcmp(key.bytes, leaf_prefix(leaf), prefix_size) != 0)) {
        return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " lacks the prefix of its leaf", key.row);
    }
    if (leaf->heads[index] != head_at(key.bytes, key.size, prefix_size)) {
        return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " has a wrong head", key.row);
    }
    if (index % HEADS_BLOCK == HEADS_BLOCK - 1 &&
        leaf->samples[index / HEADS_BLOCK] != leaf->heads[index])
        return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " is not the sample", key.row);
    if (key.size < tree->key_size_min || key.size > tree->key_size_max) {
        return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " has a key of unexpected size", key.row);
    }
    struct entry_key before = {.bytes = verifier->key, .size = verifier->size};
    before.row = verifier->row;
    if (verifier->any && key_compare(&before, &key) >= 0) {
        return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " is out of order", key.row);
    }
    if (low) {
        struct entry_key bound = {.bytes = low->bytes, .size = low->size, .row = low->row};
        if (key_compare(&key, &bound) < 0) {
            return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " is below its separator", key.row);
        }
    }
    if (high) {
        struct entry_key bound = {.bytes = high->bytes, .size = high->size, .row = high->row};
        if (key_compare(&key, &bound) >= 0) {
            return diag_set(diag, ERR_CORRUPT, "row %" PRIu32 " is above its separator", key.row);
        }
    }
    memcpy(verifier->key, key.bytes, key.size);
    verifier->size = key.size;
    verifier->row = key.row;
    verifier->any = true;
    verifier->count++;
    return ERR_NONE;
}

/* Records of tails lie within their memory, and what is not garbage is used once. */
static enum err verify_tails(struct verifier *verifier, const struct leaf *leaf)
{
    const struct tails *tails = leaf->tails;
    const uint8_t *records = (const uint8_t *)(tails->offsets + leaf->capacity);
    uint32_t used = 0;
    for (uint32_t i = 0; i < leaf->count; i++) {
        uint32_t offset = tails->offsets[i];
        uint16_t size;
        if (tails->used < sizeof size || offset > tails->used - sizeof size) {
            return diag_set(verifier->diag, ERR_CORRUPT, "a tail lies outside its leaf");
        }
        memcpy(&size, records + offset, sizeof size);
        uint32_t end = leaf->prefix_size + (uint32_t)HEAD_SIZE;
        uint32_t record = (uint32_t)sizeof size + (size > end ? size - end : 0);
        if (size < leaf->prefix_size || size > SCHEMA_KEY_SIZE_MAX ||
            record > tails->used - offset) {
            return diag_set(verifier->diag, ERR_CORRUPT, "a tail has a wrong size");
        }
        used += record;
    }
    if (used + tails->garbage != tails->used || tails->used > tails->capacity) {
        return diag_set(verifier->diag, ERR_CORRUPT, "the tails of a leaf do not add up");
    }
    return ERR_NONE;
}

static enum err verify_leaf(struct verifier *verifier, const struct leaf *leaf,
                            const struct separator *low, const struct separator *high)
{
    struct diag *diag = verifier->diag;
    if (leaf->previous != verifier->previous ||
        (leaf->previous ? leaf->previous->next : verifier->tree->first) != leaf) {
        return diag_set(diag, ERR_CORRUPT, "leaves are not linked in order");
    }
    if (leaf->count == 0 || leaf->count > leaf->capacity || leaf->capacity > LEAF_CAPACITY_MAX) {
        return diag_set(diag, ERR_CORRUPT, "a leaf has %u of %u entries", leaf->count,
                        leaf->capacity);
    }
    uint32_t room = leaf->prefix_room ? leaf->prefix_room : LEAF_SHORT_PREFIX;
    if (leaf->prefix_size > room) {
        return diag_set(diag, ERR_CORRUPT, "a leaf has a prefix of %u bytes in %u",
                        leaf->prefix_size, room);
    }
    verifier->bytes += leaf_size(leaf->capacity, leaf->prefix_room);
    if (leaf->tails) {
        verifier->bytes +=
            sizeof(struct tails) + leaf->capacity * sizeof(uint32_t) + leaf->tails->capacity;
        enum err err = verify_tails(verifier, leaf);
        if (err) return err;
    }
    for (uint32_t i = 0; i < leaf->count; i++) {
        enum err err = verify_entry(verifier, leaf, i, low, high);
        if (err) return err;
    }
    verifier->previous = leaf;
    return ERR_NONE;
}

static enum err verify_inner(struct verifier *verifier, const struct inner *inner, bool is_root)
{
    struct diag *diag = verifier->diag;
    if (inner->count < (is_root ? 2 : 1) || inner->count > INNER_CHILDREN_MAX) {
        return diag_set(diag, ERR_CORRUPT, "an inner node has %u children", inner->count);
    }
    verifier->bytes += sizeof *inner;
    for (uint32_t i = 0; i + 1 < inner->count; i++) {
        const struct separator *separator = inner->separators[i];
        verifier->bytes += sizeof *separator + separator->size;
        if (separator->size < inner->prefix_size ||
            memcmp(separator->bytes, inner->prefix, inner->prefix_size) != 0) {
            return diag_set(diag, ERR_CORRUPT, "a separator lacks the prefix of its node");
        }
        uint64_t head = head_at(separator->bytes, separator->size, inner->prefix_size);
        if (inner->heads[i] != head) {
            return diag_set(diag, ERR_CORRUPT, "a separator has a wrong head");
        }
    }
    return ERR_NONE;
}

static enum err verify_node(struct verifier *verifier, const void *node, uint32_t level,
                            const struct separator *low, const struct separator *high)
{
    if (level == 0) return verify_leaf(verifier, node, low, high);
    const struct inner *inner = node;
    enum err err = verify_inner(verifier, inner, node == verifier->tree->root);
    for (uint32_t i = 0; i < inner->count && !err; i++) {
        const struct separator *left = i ? inner->separators[i - 1] : low;
        const struct separator *right = i + 1 < inner->count ? inner->separators[i] : high;
        err = verify_node(verifier, inner->children[i], level - 1, left, right);
    }
    return err;
}

enum err btree_verify(const struct btree *tree, struct diag *diag)
{
    struct verifier verifier = {.tree = tree, .diag = diag, .bytes = sizeof *tree};
    if (!tree->root) {
        if (tree->count || tree->first || tree->last || tree->depth) {
            return diag_set(diag, ERR_CORRUPT, "an empty tree is not empty");
        }
    } else {
        enum err err = verify_node(&verifier, tree->root, tree->depth, NULL, NULL);
        if (err) return err;
    }
    if (tree->last != verifier.previous || (tree->last && tree->last->next)) {
        return diag_set(diag, ERR_CORRUPT, "the last leaf is not the last");
    }
    if (verifier.count != tree->count) {
        return diag_set(diag, ERR_CORRUPT, "%" PRIu64 " entries are counted as %" PRIu64,
                        verifier.count, tree->count);
    }
    if (verifier.bytes != tree->bytes) {
        return diag_set(diag, ERR_CORRUPT, "%" PRIu64 " bytes are counted as %" PRIu64,
                        verifier.bytes, tree->bytes);
    }
    return ERR_NONE;
}
