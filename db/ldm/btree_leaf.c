/* Leaves of the B+tree: searching, changing and rebuilding them. Layout in btree_node.h.
 *
 * A leaf changes in place while its entries, and with stored keys their tails, fit. Whatever needs
 * memory makes a new leaf from parts of old ones first (leaf_make), and only then is anything
 * linked, so running out of memory leaves the tree as it was.
 *
 * Reading a key without stored keys (key_of) is a cache miss in the row's page or two. It is done
 * only for entries whose head ties with the one looked for (and not when all keys are of one size
 * that heads reach to the end of), and to lengthen a prefix when heads have become too alike to
 * decide. */
#include "db/ldm/btree_node.h"

#include <stdlib.h>

#include "base/check.h"
#include "db/ldm/ldm.h"

enum {
    /* Heads closer than this on average are worth another look at the prefix: random ones that far
     * apart tie with a new one once in 65,536 inserts. */
    HEAD_GAP_BITS = 16,
    HEAD_TIES_SHARE = 16, /* one in so many ties */
};

/* ---- memory ---- */

void *tree_alloc(struct btree *tree, size_t size)
{
    void *memory = malloc(size);
    if (!memory) return NULL;
    tree->bytes += size;
    if (tree->config.memory) *tree->config.memory += size;
    return memory;
}

void tree_free(struct btree *tree, void *memory, size_t size)
{
    if (!memory) return;
    tree->bytes -= size;
    if (tree->config.memory) *tree->config.memory -= size;
    free(memory);
}

void *node_alloc(struct btree *tree, size_t size)
{
    if (!tree->config.pages) return tree_alloc(tree, size);
    void *node = pooled_alloc(tree->config.pages, tree->config.memory, size);
    if (node) tree->bytes += size;
    return node;
}

void node_free(struct btree *tree, void *node, size_t size)
{
    if (!tree->config.pages) {
        tree_free(tree, node, size);
    } else if (node) {
        tree->bytes -= size;
        pooled_free(tree->config.pages, tree->config.memory, node, size);
    }
}

uint32_t leaf_capacity_for(uint32_t count)
{
    if (count <= 8) return 8;
    if (count <= 16) return 16;
    return (count + LEAF_CAPACITY_STEP - 1) / LEAF_CAPACITY_STEP * LEAF_CAPACITY_STEP;
}

static size_t tails_size(uint32_t leaf_capacity, uint32_t capacity)
{
    return sizeof(struct tails) + leaf_capacity * sizeof(uint32_t) + capacity;
}

static uint8_t *tails_records(const struct leaf *leaf)
{
    return (uint8_t *)(leaf->tails->offsets + leaf->capacity);
}

struct leaf *leaf_alloc(struct btree *tree, uint32_t capacity, const uint8_t *prefix,
                        uint32_t prefix_size, bool with_tails, uint32_t tail_bytes)
{
    ASSERT(capacity <= LEAF_CAPACITY_MAX && prefix_size <= SCHEMA_KEY_SIZE_MAX);
    uint32_t room = prefix_size <= LEAF_SHORT_PREFIX ? 0 : (prefix_size + 7) & ~7u;
    struct leaf *leaf = node_alloc(tree, leaf_size(capacity, room));
    if (!leaf) return NULL;
    *leaf = (struct leaf){.capacity = (uint16_t)capacity,
                          .prefix_size = (uint16_t)prefix_size,
                          .prefix_room = (uint16_t)room};
    if (prefix_size) memcpy(leaf_prefix(leaf), prefix, prefix_size);
    if (!with_tails) return leaf;
    leaf->tails = tree_alloc(tree, tails_size(capacity, tail_bytes));
    if (!leaf->tails) {
        node_free(tree, leaf, leaf_size(capacity, room));
        return NULL;
    }
    *leaf->tails = (struct tails){.capacity = tail_bytes};
    return leaf;
}

void leaf_free(struct btree *tree, struct leaf *leaf)
{
    if (!leaf) return;
    if (leaf->tails) {
        tree_free(tree, leaf->tails, tails_size(leaf->capacity, leaf->tails->capacity));
    }
    node_free(tree, leaf, leaf_size(leaf->capacity, leaf->prefix_room));
}

/* ---- entries ---- */

/* The bytes of a key that a leaf with this prefix keeps outside the head. */
static uint32_t tail_size_of(uint32_t key_size, uint32_t prefix_size)
{
    return key_size > prefix_size + HEAD_SIZE ? key_size - prefix_size - HEAD_SIZE : 0;
}

/* With stored keys: an entry's key size and tail. */
static uint32_t stored_size(const struct leaf *leaf, uint32_t index, const uint8_t **ret_tail)
{
    if (!leaf->tails) {
        *ret_tail = NULL;
        return leaf->key_size;
    }
    const uint8_t *record = tails_records(leaf) + leaf->tails->offsets[index];
    uint16_t size;
    memcpy(&size, record, sizeof size);
    *ret_tail = record + sizeof size;
    return size;
}

uint32_t leaf_key(const struct btree *tree, const struct leaf *leaf, uint32_t index,
                  uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    if (!tree->config.store_keys) {
        uint32_t size = tree->config.key_of(tree->config.context, leaf_rows(leaf)[index], key);
        ASSERT(size <= SCHEMA_KEY_SIZE_MAX);
        return size;
    }
    const uint8_t *tail;
    uint32_t size = stored_size(leaf, index, &tail);
    uint32_t at = leaf->prefix_size;
    memcpy(key, leaf_prefix(leaf), at);
    uint8_t head[HEAD_SIZE];
    head_store(leaf->heads[index], head);
    uint32_t head_size = size - at < HEAD_SIZE ? size - at : HEAD_SIZE;
    memcpy(key + at, head, head_size);
    uint32_t tail_size = tail_size_of(size, at);
    if (tail_size) memcpy(key + at + HEAD_SIZE, tail, tail_size);
    return size;
}

/* The order of an entry and a key whose heads are equal. *ret_same: the keys are. */
static int entry_compare(const struct btree *tree, const struct leaf *leaf, uint32_t index,
                         const struct entry_key *key, bool *ret_same)
{
    int order;
    if (tree->config.store_keys) {
        const uint8_t *tail;
        uint32_t size = stored_size(leaf, index, &tail);
        uint32_t at = leaf->prefix_size + (uint32_t)HEAD_SIZE;
        /* Up to `at` they are equal but for their ends. */
        if (size > at && key->size > at) {
            order = bytes_compare(tail, size - at, key->bytes + at, key->size - at);
        } else {
            order = (size > key->size) - (size < key->size);
        }
    } else {
        uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
        uint32_t size = leaf_key(tree, leaf, index, bytes);
        order = bytes_compare(bytes, size, key->bytes, key->size);
    }
    *ret_same = order == 0;
    if (order) return order;
    uint32_t row = leaf_rows(leaf)[index];
    return (row > key->row) - (row < key->row);
}

/* Equal heads mean equal keys: all keys have this size and their heads reach to their ends. */
static bool heads_decide(const struct btree *tree, const struct leaf *leaf, uint32_t key_size)
{
    if (key_size > leaf->prefix_size + (uint32_t)HEAD_SIZE) return false;
    if (tree->config.store_keys) return !leaf->tails && leaf->key_size == key_size;
    return tree->key_size_min == key_size && tree->key_size_max == key_size;
}

/* Compares the key with the leaf's prefix: <0: below all entries, >0: above all, 0: has the prefix.
 */
static int prefix_compare(const struct leaf *leaf, const struct entry_key *key)
{
    uint32_t size = key->size < leaf->prefix_size ? key->size : leaf->prefix_size;
    int order = size ? memcmp(key->bytes, leaf_prefix(leaf), size) : 0;
    if (order) return order;
    return key->size < leaf->prefix_size ? -1 : 0;
}

/* The entries [*ret_from, *ret_to) whose heads equal the key's; the key has the prefix. */
static void leaf_ties(const struct leaf *leaf, const struct entry_key *key, uint32_t *ret_from,
                      uint32_t *ret_to)
{
    const uint64_t *heads = leaf->heads;
    uint32_t count = leaf->count;
    uint64_t head = head_at(key->bytes, key->size, leaf->prefix_size);
    uint32_t base = leaf_block(leaf, head);
    __builtin_prefetch(heads + base);
    __builtin_prefetch(heads + base + HEADS_BLOCK - 1);
    __builtin_prefetch(leaf_rows(leaf) + base);
    uint32_t from = heads_below_from(heads, count, base, head);
    uint32_t to = from;
    while (to < count && heads[to] == head) {
        if (++to - from >= 4) {
            to = head == UINT64_MAX ? count
                                    : from + heads_below(heads + from, count - from, head + 1);
            break;
        }
    }
    *ret_from = from;
    *ret_to = to;
}

void leaf_search(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key,
                 struct leaf_place *ret_place)
{
    *ret_place = (struct leaf_place){0};
    int order = prefix_compare(leaf, key);
    if (order) {
        ret_place->index = order < 0 ? 0 : leaf->count;
        return;
    }
    uint32_t from;
    uint32_t to;
    leaf_ties(leaf, key, &from, &to);
    if (from == to) {
        ret_place->index = from;
        return;
    }
    const uint32_t *rows = leaf_rows(leaf);
    bool decided = heads_decide(tree, leaf, key->size);
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        bool same = decided;
        int entry = decided ? (rows[middle] > key->row) - (rows[middle] < key->row)
                            : entry_compare(tree, leaf, middle, key, &same);
        if (same) {
            ret_place->same_key = true;
            ret_place->same_row = rows[middle];
        }
        if (entry < 0) {
            from = middle + 1;
        } else {
            to = middle;
            ret_place->exact = entry == 0;
            ret_place->same_at_index = same;
        }
    }
    ret_place->index = from;
}

bool leaf_search_row(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key,
                     uint32_t *ret_index)
{
    if (tree->config.store_keys) {
        struct leaf_place place;
        leaf_search(tree, leaf, key, &place);
        if (!place.exact) return false;
        *ret_index = place.index;
        return true;
    }
    if (prefix_compare(leaf, key)) return false;
    uint32_t from;
    uint32_t to;
    leaf_ties(leaf, key, &from, &to);
    const uint32_t *rows = leaf_rows(leaf);
    for (uint32_t i = from; i < to; i++) {
        if (rows[i] == key->row) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

/* ---- changing in place ---- */

bool leaf_has_room(const struct btree *tree, const struct leaf *leaf, const struct entry_key *key)
{
    if (leaf->count == leaf->capacity) return false;
    if (!tree->config.store_keys) return true;
    uint32_t prefix = leaf->prefix_size;
    if (bytes_common(leaf_prefix(leaf), prefix, key->bytes, key->size) < prefix) return false;
    if (!leaf->tails) return key->size == leaf->key_size && key->size <= prefix + HEAD_SIZE;
    uint32_t size = (uint32_t)sizeof(uint16_t) + tail_size_of(key->size, prefix);
    return leaf->tails->capacity - leaf->tails->used >= size;
}

/* Without stored keys: the new key does not share the whole prefix. */
static void leaf_shorten_prefix(struct leaf *leaf, uint32_t size)
{
    uint64_t *heads = leaf->heads;
    for (uint32_t i = 0; i < leaf->count; i++)
        heads[i] = head_shift(leaf_prefix(leaf), leaf->prefix_size, size, heads[i]);
    leaf->prefix_size = (uint16_t)size;
    leaf_sample(leaf, 0);
}

/* The record of a new key; its offset. */
static uint32_t tails_add(struct leaf *leaf, const uint8_t *key, uint32_t key_size)
{
    struct tails *tails = leaf->tails;
    uint32_t tail_size = tail_size_of(key_size, leaf->prefix_size);
    uint32_t offset = tails->used;
    uint16_t size = (uint16_t)key_size;
    ASSERT(tails->capacity - offset >= sizeof size + tail_size);
    uint8_t *record = tails_records(leaf) + offset;
    memcpy(record, &size, sizeof size);
    if (tail_size) {
        memcpy(record + sizeof size, key + leaf->prefix_size + HEAD_SIZE, tail_size);
    }
    tails->used += (uint32_t)sizeof size + tail_size;
    return offset;
}

void leaf_insert(struct btree *tree, struct leaf *leaf, uint32_t index, const struct entry_key *key)
{
    ASSERT(leaf->count < leaf->capacity && index <= leaf->count);
    uint32_t common = bytes_common(leaf_prefix(leaf), leaf->prefix_size, key->bytes, key->size);
    if (common < leaf->prefix_size) {
        ASSERT(!tree->config.store_keys);
        leaf_shorten_prefix(leaf, common);
    }
    uint64_t *heads = leaf->heads;
    uint32_t *rows = leaf_rows(leaf);
    uint32_t behind = leaf->count - index;
    memmove(heads + index + 1, heads + index, behind * sizeof *heads);
    memmove(rows + index + 1, rows + index, behind * sizeof *rows);
    heads[index] = head_at(key->bytes, key->size, leaf->prefix_size);
    rows[index] = key->row;
    if (leaf->tails) {
        uint32_t *offsets = leaf->tails->offsets;
        memmove(offsets + index + 1, offsets + index, behind * sizeof *offsets);
        offsets[index] = tails_add(leaf, key->bytes, key->size);
    } else if (leaf->count == 0) {
        leaf->key_size = (uint16_t)key->size;
    }
    leaf->count++;
    leaf_sample(leaf, index);
}

void leaf_append(struct btree *tree, struct leaf *leaf, const struct entry_key *key)
{
    leaf_insert(tree, leaf, leaf->count, key);
}

void leaf_remove(struct leaf *leaf, uint32_t index)
{
    ASSERT(index < leaf->count);
    uint64_t *heads = leaf->heads;
    uint32_t *rows = leaf_rows(leaf);
    uint32_t behind = leaf->count - index - 1u;
    if (leaf->tails) {
        struct tails *tails = leaf->tails;
        const uint8_t *tail;
        uint32_t size = stored_size(leaf, index, &tail);
        tails->garbage += (uint32_t)sizeof(uint16_t) + tail_size_of(size, leaf->prefix_size);
        memmove(tails->offsets + index, tails->offsets + index + 1, behind * sizeof(uint32_t));
    }
    memmove(heads + index, heads + index + 1, behind * sizeof *heads);
    memmove(rows + index, rows + index + 1, behind * sizeof *rows);
    leaf->count--;
    leaf_sample(leaf, index);
    if (leaf->count == 0 && leaf->tails) {
        leaf->tails->used = 0;
        leaf->tails->garbage = 0;
    }
}

/* ---- making leaves ---- */

/* Without stored keys: the heads are so alike that a longer prefix, and with it new heads, pays. */
static bool part_is_crowded(const struct leaf_part *part, const struct entry_key *extra)
{
    const struct leaf *leaf = part->leaf;
    const uint64_t *heads = leaf->heads;
    uint64_t count = part->to - part->from;
    if (count < 2) return false;
    uint64_t first = heads[part->from];
    uint64_t last = heads[part->to - 1];
    if ((first ^ last) >> 56) return false; /* the prefix cannot grow */
    if (extra) {
        if (prefix_compare(leaf, extra)) return false;
        uint64_t head = head_at(extra->bytes, extra->size, leaf->prefix_size);
        if ((first ^ head) >> 56) return false;
    }
    if (last - first < count << HEAD_GAP_BITS) return true;
    uint32_t ties = 0;
    for (uint32_t i = part->from + 1; i < part->to; i++)
        ties += heads[i] == heads[i - 1];
    return ties * HEAD_TIES_SHARE > count;
}

/* How long a prefix the new leaf gets, and its bytes. */
static uint32_t choose_prefix(const struct btree *tree, const struct leaf_part *parts,
                              uint32_t part_count, const struct entry_key *extra,
                              uint8_t prefix[SCHEMA_KEY_SIZE_MAX])
{
    if (part_count == 0) {
        uint32_t size = extra->size > HEAD_SIZE ? extra->size - HEAD_SIZE : 0;
        memcpy(prefix, extra->bytes, size);
        return size;
    }
    const struct leaf_part *first = &parts[0];
    const struct leaf_part *last = &parts[part_count - 1];
    uint32_t size = bytes_common(leaf_prefix(first->leaf), first->leaf->prefix_size,
                                 leaf_prefix(last->leaf), last->leaf->prefix_size);
    memcpy(prefix, leaf_prefix(first->leaf), size);
    uint32_t longest = tree->key_size_max;
    if (extra && extra->size > longest) longest = extra->size;
    bool grows = longest > size + HEAD_SIZE;
    if (grows && !tree->config.store_keys) {
        grows = part_count == 1 && part_is_crowded(first, extra);
    }
    if (grows) {
        uint8_t key[SCHEMA_KEY_SIZE_MAX];
        uint32_t first_size = leaf_key(tree, first->leaf, first->from, prefix);
        uint32_t last_size = leaf_key(tree, last->leaf, last->to - 1, key);
        size = bytes_common(prefix, first_size, key, last_size);
        bool alone = part_count == 1 && first->to - first->from == 1 && !extra;
        if (alone) size = size > HEAD_SIZE ? size - HEAD_SIZE : 0;
    }
    if (extra) size = bytes_common(prefix, size, extra->bytes, extra->size);
    return size;
}

static uint64_t entry_head(const struct btree *tree, const struct leaf *leaf, uint32_t index,
                           uint32_t prefix_size)
{
    if (prefix_size <= leaf->prefix_size) {
        return head_shift(leaf_prefix(leaf), leaf->prefix_size, prefix_size, leaf->heads[index]);
    }
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    const struct btree_config *config = &tree->config;
    if (!config->store_keys && config->head_of && prefix_size + HEAD_SIZE <= 16) {
        config->head_of(config->context, leaf_rows(leaf)[index], key);
        return head_load(key + prefix_size, HEAD_SIZE);
    }
    uint32_t size = leaf_key(tree, leaf, index, key);
    ASSERT(size >= prefix_size);
    return head_at(key, size, prefix_size);
}

/* Whether keys need tails behind this prefix, and how many bytes their records take. */
static bool measure_tails(const struct leaf_part *parts, uint32_t part_count,
                          const struct entry_key *extra, uint32_t prefix_size, uint32_t *ret_bytes)
{
    uint32_t bytes = 0;
    uint32_t key_size = UINT32_MAX;
    bool needed = false;
    if (extra) {
        key_size = extra->size;
        bytes = (uint32_t)sizeof(uint16_t) + tail_size_of(key_size, prefix_size);
        needed = key_size > prefix_size + HEAD_SIZE;
    }
    for (uint32_t k = 0; k < part_count; k++) {
        for (uint32_t i = parts[k].from; i < parts[k].to; i++) {
            const uint8_t *tail;
            uint32_t size = stored_size(parts[k].leaf, i, &tail);
            if (key_size == UINT32_MAX) key_size = size;
            needed |= size != key_size || size > prefix_size + HEAD_SIZE;
            bytes += (uint32_t)sizeof(uint16_t) + tail_size_of(size, prefix_size);
        }
    }
    *ret_bytes = bytes;
    return needed;
}

static void copy_entry_tails(const struct btree *tree, struct leaf *leaf,
                             const struct leaf_part *part, uint32_t at)
{
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    for (uint32_t i = part->from; i < part->to; i++) {
        uint32_t size = leaf_key(tree, part->leaf, i, key);
        leaf->tails->offsets[at++] = tails_add(leaf, key, size);
    }
}

struct leaf *leaf_make(struct btree *tree, const struct leaf_part *parts, uint32_t part_count,
                       uint32_t capacity, const struct entry_key *extra)
{
    uint8_t prefix[SCHEMA_KEY_SIZE_MAX];
    uint32_t prefix_size = choose_prefix(tree, parts, part_count, extra, prefix);
    bool with_tails = false;
    uint32_t tail_bytes = 0;
    if (tree->config.store_keys) {
        with_tails = measure_tails(parts, part_count, extra, prefix_size, &tail_bytes);
        if (with_tails) {
            /* Room for the entries to come, as large as those that are here. */
            uint32_t count = extra ? 1 : 0;
            for (uint32_t k = 0; k < part_count; k++)
                count += parts[k].to - parts[k].from;
            tail_bytes += tail_bytes / count * (capacity - count) + tail_bytes / 16;
        }
    }
    struct leaf *leaf = leaf_alloc(tree, capacity, prefix, prefix_size, with_tails, tail_bytes);
    if (!leaf) return NULL;
    uint64_t *heads = leaf->heads;
    uint32_t *rows = leaf_rows(leaf);
    uint32_t at = 0;
    for (uint32_t k = 0; k < part_count; k++) {
        const struct leaf_part *part = &parts[k];
        uint32_t count = part->to - part->from;
        ASSERT(at + count <= capacity);
        if (prefix_size == part->leaf->prefix_size) {
            memcpy(heads + at, part->leaf->heads + part->from, count * sizeof *heads);
        } else {
            for (uint32_t i = 0; i < count; i++)
                heads[at + i] = entry_head(tree, part->leaf, part->from + i, prefix_size);
        }
        memcpy(rows + at, leaf_rows(part->leaf) + part->from, count * sizeof *rows);
        if (leaf->tails) copy_entry_tails(tree, leaf, part, at);
        at += count;
    }
    leaf->count = (uint16_t)at;
    leaf_sample(leaf, 0);
    if (tree->config.store_keys && !leaf->tails) {
        const uint8_t *tail;
        uint32_t size = at      ? stored_size(parts[0].leaf, parts[0].from, &tail)
                        : extra ? extra->size
                                : 0;
        leaf->key_size = (uint16_t)size;
    }
    return leaf;
}

struct separator *leaf_separate(struct btree *tree, const struct leaf *left, uint32_t left_index,
                                const struct leaf *right, uint32_t right_index)
{
    uint64_t left_head = left->heads[left_index];
    uint64_t right_head = right->heads[right_index];
    uint8_t right_key[SCHEMA_KEY_SIZE_MAX + HEAD_SIZE];
    if (left == right && left_head != right_head) {
        /* The first byte where they differ is above zero on the right, so it is no padding. */
        uint32_t equal = (uint32_t)__builtin_clzll(left_head ^ right_head) / 8;
        memcpy(right_key, leaf_prefix(right), right->prefix_size);
        head_store(right_head, right_key + right->prefix_size);
        return separator_alloc(tree, right_key, right->prefix_size + equal + 1, 0);
    }
    uint8_t left_key[SCHEMA_KEY_SIZE_MAX];
    struct entry_key a = {.bytes = left_key, .row = leaf_rows(left)[left_index]};
    struct entry_key b = {.bytes = right_key, .row = leaf_rows(right)[right_index]};
    a.size = leaf_key(tree, left, left_index, left_key);
    b.size = leaf_key(tree, right, right_index, right_key);
    return separator_between(tree, &a, &b);
}
