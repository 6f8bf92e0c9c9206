/* Inner nodes of the B+tree and their separators. Layout in btree_node.h.
 *
 * Separators are allocations of their own, so moving them between nodes needs no memory: removing
 * an entry never fails. A node keeps 8-byte heads of its separators behind the prefix that they
 * share, as leaves do, and reads a separator only where its head ties with the key's. */
#include "db/ldm/btree_node.h"

#include "base/check.h"

struct separator *separator_alloc(struct btree *tree, const uint8_t *bytes, uint32_t size,
                                  uint32_t row)
{
    struct separator *separator = tree_alloc(tree, sizeof *separator + size);
    if (!separator) return NULL;
    separator->row = row;
    separator->size = size;
    if (size) memcpy(separator->bytes, bytes, size);
    return separator;
}

struct separator *separator_between(struct btree *tree, const struct entry_key *left,
                                    const struct entry_key *right)
{
    uint32_t common = bytes_common(left->bytes, left->size, right->bytes, right->size);
    if (common == right->size) {
        ASSERT(left->size == right->size && left->row < right->row);
        return separator_alloc(tree, right->bytes, right->size, right->row);
    }
    ASSERT(common == left->size || left->bytes[common] < right->bytes[common]);
    return separator_alloc(tree, right->bytes, common + 1, 0);
}

void separator_free(struct btree *tree, struct separator *separator)
{
    if (separator) tree_free(tree, separator, sizeof *separator + separator->size);
}

static int separator_compare(const struct separator *separator, const struct entry_key *key)
{
    int order = bytes_compare(separator->bytes, separator->size, key->bytes, key->size);
    if (order) return order;
    return (separator->row > key->row) - (separator->row < key->row);
}

uint32_t inner_search(const struct inner *inner, const struct entry_key *key)
{
    uint32_t count = inner->count - 1u;
    uint32_t size = key->size < inner->prefix_size ? key->size : inner->prefix_size;
    int order = size ? memcmp(key->bytes, inner->prefix, size) : 0;
    if (order == 0 && key->size < inner->prefix_size) order = -1;
    if (order) return order < 0 ? 0 : count;
    uint64_t head = head_at(key->bytes, key->size, inner->prefix_size);
    uint32_t base = heads_block(inner->heads, count, head);
    __builtin_prefetch(inner->heads + base);
    __builtin_prefetch(inner->heads + base + HEADS_BLOCK - 1);
    __builtin_prefetch(inner->children + base);
    __builtin_prefetch(inner->children + base + HEADS_BLOCK / 2);
    __builtin_prefetch(inner->children + base + HEADS_BLOCK);
    uint32_t from = heads_below_from(inner->heads, count, base, head);
    uint32_t to = from;
    while (to < count && inner->heads[to] == head)
        to++;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (separator_compare(inner->separators[middle], key) <= 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

void inner_refresh(struct inner *inner)
{
    uint32_t count = inner->count - 1u;
    inner->prefix_size = 0;
    if (count == 0) return;
    const struct separator *first = inner->separators[0];
    const struct separator *last = inner->separators[count - 1];
    uint32_t common = bytes_common(first->bytes, first->size, last->bytes, last->size);
    if (count == 1) common = common > HEAD_SIZE ? common - HEAD_SIZE : 0;
    if (common > INNER_PREFIX_MAX) common = INNER_PREFIX_MAX;
    memcpy(inner->prefix, first->bytes, common);
    inner->prefix_size = (uint16_t)common;
    for (uint32_t i = 0; i < count; i++) {
        const struct separator *separator = inner->separators[i];
        inner->heads[i] = head_at(separator->bytes, separator->size, common);
    }
}

/* Makes the prefix one that this separator has too. */
static void inner_admit(struct inner *inner, const struct separator *separator)
{
    uint32_t common =
        bytes_common(inner->prefix, inner->prefix_size, separator->bytes, separator->size);
    if (common == inner->prefix_size) return;
    for (uint32_t i = 0; i + 1 < inner->count; i++)
        inner->heads[i] = head_shift(inner->prefix, inner->prefix_size, common, inner->heads[i]);
    inner->prefix_size = (uint16_t)common;
}

void inner_insert(struct inner *inner, uint32_t index, struct separator *separator, void *child)
{
    ASSERT(inner->count < INNER_CHILDREN_MAX && index < inner->count);
    uint32_t behind = inner->count - 1u - index;
    inner_admit(inner, separator);
    memmove(inner->heads + index + 1, inner->heads + index, behind * sizeof inner->heads[0]);
    memmove(inner->separators + index + 1, inner->separators + index, behind * sizeof(void *));
    memmove(inner->children + index + 2, inner->children + index + 1, behind * sizeof(void *));
    inner->heads[index] = head_at(separator->bytes, separator->size, inner->prefix_size);
    inner->separators[index] = separator;
    inner->children[index + 1] = child;
    inner->count++;
    /* While it is small the prefix may still get longer at little cost, and so it is at a few
     * larger sizes. */
    uint32_t count = inner->count;
    if (count <= 4 || (count & (count - 1)) == 0) inner_refresh(inner);
}

struct separator *inner_remove(struct inner *inner, uint32_t index)
{
    ASSERT(index < inner->count);
    uint32_t at = index ? index - 1 : 0; /* of the separator */
    uint32_t children_behind = inner->count - 1u - index;
    memmove(inner->children + index, inner->children + index + 1, children_behind * sizeof(void *));
    struct separator *separator = NULL;
    if (inner->count > 1) {
        separator = inner->separators[at];
        uint32_t behind = inner->count - 2u - at;
        memmove(inner->heads + at, inner->heads + at + 1, behind * sizeof inner->heads[0]);
        memmove(inner->separators + at, inner->separators + at + 1, behind * sizeof(void *));
    }
    inner->count--;
    return separator;
}

struct separator *inner_split(struct inner *inner, struct inner *right, uint32_t at)
{
    ASSERT(at >= 1 && at < inner->count);
    uint32_t moved = inner->count - at;
    struct separator *separator = inner->separators[at - 1];
    memcpy(right->children, inner->children + at, moved * sizeof(void *));
    memcpy(right->separators, inner->separators + at, (moved - 1) * sizeof(void *));
    right->count = (uint16_t)moved;
    inner->count = (uint16_t)at;
    inner_refresh(inner);
    inner_refresh(right);
    return separator;
}

/* The children of right, and the separator between, go to the end of left. */
static void inner_join(struct inner *left, struct inner *right, struct separator *between)
{
    uint32_t count = left->count;
    left->separators[count - 1] = between;
    memcpy(left->separators + count, right->separators, (right->count - 1u) * sizeof(void *));
    memcpy(left->children + count, right->children, right->count * sizeof(void *));
    left->count = (uint16_t)(count + right->count);
    inner_refresh(left);
}

/* Moves children over the border of two neighbours until they have about as many. */
static struct separator *inner_share(struct inner *left, struct inner *right,
                                     struct separator *between)
{
    void *children[2 * INNER_CHILDREN_MAX];
    struct separator *separators[2 * INNER_CHILDREN_MAX];
    uint32_t total = (uint32_t)left->count + right->count;
    memcpy(children, left->children, left->count * sizeof(void *));
    memcpy(children + left->count, right->children, right->count * sizeof(void *));
    memcpy(separators, left->separators, (left->count - 1u) * sizeof(void *));
    separators[left->count - 1] = between;
    memcpy(separators + left->count, right->separators, (right->count - 1u) * sizeof(void *));
    uint32_t half = total / 2;
    left->count = (uint16_t)half;
    right->count = (uint16_t)(total - half);
    memcpy(left->children, children, half * sizeof(void *));
    memcpy(left->separators, separators, (half - 1) * sizeof(void *));
    memcpy(right->children, children + half, right->count * sizeof(void *));
    memcpy(right->separators, separators + half, (right->count - 1u) * sizeof(void *));
    inner_refresh(left);
    inner_refresh(right);
    return separators[half - 1];
}

bool inner_rebalance(struct btree *tree, struct inner *parent, uint32_t index)
{
    if (parent->count < 2) return false;
    uint32_t at = index ? index - 1 : 0; /* the left one of the pair, and the separator between */
    struct inner *left = parent->children[at];
    struct inner *right = parent->children[at + 1];
    struct separator *between = parent->separators[at];
    if ((uint32_t)left->count + right->count <= INNER_CHILDREN_MAX * 3 / 4) {
        inner_join(left, right, between);
        (void)inner_remove(parent, at + 1); /* its separator went into left */
        node_free(tree, right, sizeof *right);
        return true;
    }
    parent->separators[at] = inner_share(left, right, between);
    inner_refresh(parent);
    return false;
}
