/* Sorting rows by key for btree_build: a most-significant-digit radix sort over 12-byte windows of
 * the keys.
 *
 * An item is 16 bytes: 12 bytes of the key, starting behind what all keys share, and the row.
 * Reading keys is what costs, so every row is read once, in the order given (which after a load is
 * the order of the pages); only rows whose windows tie are read again, for the next 12 bytes, and
 * so on, until the keys end. A tie of keys that have all ended is broken by size (zero padding
 * hides it) and row. */
#include "db/ldm/btree_node.h"

#include "base/check.h"

enum {
    WINDOW_SIZE = 12,
    HEAD_OF_SIZE = 16,
    DIGIT_BITS_MAX = 8,
    SMALL_COUNT = 24, /* insertion sort */
};

struct sorter {
    const struct btree *tree;
    struct sort_item *items;
    struct sort_item *temp;
    bool unique;
    uint8_t key[SCHEMA_KEY_SIZE_MAX + WINDOW_SIZE];
};

static bool item_below(const struct sort_item *a, const struct sort_item *b)
{
    if (a->high != b->high) return a->high < b->high;
    return a->low < b->low;
}

static bool item_ties(const struct sort_item *a, const struct sort_item *b)
{
    return a->high == b->high && a->low == b->low;
}

static void insertion_sort(struct sort_item *items, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        struct sort_item item = items[i];
        uint64_t at = i;
        for (; at > 0 && item_below(&item, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

struct digit {
    uint32_t shift; /* from the right of the 96 bits */
    uint32_t count; /* of its values: a power of two */
};

static uint32_t item_digit(const struct sort_item *item, struct digit digit)
{
    uint32_t shift = digit.shift;
    uint64_t bits = shift >= 32 ? item->high >> (shift - 32)
                                : item->high << (32 - shift) | (uint64_t)item->low >> shift;
    return (uint32_t)bits & (digit.count - 1);
}

/* The digit that starts at the highest bit in which items differ; false when none do. About as many
 * values as items for few of them, so that clearing and walking the counters does not cost more
 * than the items. */
static bool find_digit(const struct sort_item *items, uint64_t count, struct digit *ret_digit)
{
    uint64_t high = 0;
    uint32_t low = 0;
    for (uint64_t i = 1; i < count; i++) {
        high |= items[i].high ^ items[0].high;
        low |= items[i].low ^ items[0].low;
    }
    uint32_t top; /* differing bit */
    if (high) {
        top = 95u - (uint32_t)__builtin_clzll(high);
    } else if (low) {
        top = 31u - (uint32_t)__builtin_clz(low);
    } else {
        return false;
    }
    uint32_t bits = 63u - (uint32_t)__builtin_clzll(count);
    if (bits > DIGIT_BITS_MAX) bits = DIGIT_BITS_MAX;
    ret_digit->count = 1u << bits;
    ret_digit->shift = top >= bits - 1 ? top - (bits - 1) : 0;
    return true;
}

/* Sorts by the window. Every level consumes 4 bits or more of the 96, so depth is bounded. */
static void radix_sort(struct sort_item *items, struct sort_item *temp, uint64_t count)
{
    struct digit digit;
    if (count <= SMALL_COUNT) {
        insertion_sort(items, count);
        return;
    }
    if (!find_digit(items, count, &digit)) return;
    uint32_t ends[1 << DIGIT_BITS_MAX];
    memset(ends, 0, digit.count * sizeof ends[0]);
    for (uint64_t i = 0; i < count; i++)
        ends[item_digit(&items[i], digit)]++;
    uint32_t end = 0;
    for (uint32_t i = 0; i < digit.count; i++) {
        uint32_t size = ends[i];
        ends[i] = end;
        end += size;
    }
    for (uint64_t i = 0; i < count; i++)
        temp[ends[item_digit(&items[i], digit)]++] = items[i];
    memcpy(items, temp, count * sizeof *items);
    if (digit.shift == 0) return;
    uint64_t from = 0;
    for (uint32_t i = 0; i < digit.count; i++) {
        if (ends[i] - from > 1) radix_sort(items + from, temp + from, ends[i] - from);
        from = ends[i];
    }
}

static void sort_items(struct sort_item *items, struct sort_item *temp, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        if (item_below(&items[i], &items[i - 1])) {
            radix_sort(items, temp, count);
            return;
        }
    }
}

static uint32_t load_low(const uint8_t *bytes)
{
    uint32_t low;
    memcpy(&low, bytes, sizeof low);
    return __builtin_bswap32(low);
}

/* The key of a row, zero-padded for a window behind its end. */
static uint32_t read_key(struct sorter *sorter, uint32_t row)
{
    const struct btree_config *config = &sorter->tree->config;
    uint32_t size = config->key_of(config->context, row, sorter->key);
    ASSERT(size <= SCHEMA_KEY_SIZE_MAX);
    memset(sorter->key + size, 0, WINDOW_SIZE);
    return size;
}

/* Sorts items whose keys are equal up to offset but for zero padding. */
static enum err sort_ties(struct sorter *sorter, struct sort_item *items, struct sort_item *temp,
                          uint64_t count, uint32_t offset)
{
    uint32_t size_max = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t size = read_key(sorter, items[i].row);
        if (size > size_max) size_max = size;
        uint32_t from = offset < size ? offset : size;
        items[i].high = head_load(sorter->key + from, HEAD_SIZE);
        items[i].low = load_low(sorter->key + from + HEAD_SIZE);
        if (size <= offset) {
            items[i].high = 0;
            items[i].low = 0;
        }
    }
    if (size_max <= offset) {
        for (uint64_t i = 0; i < count; i++) {
            items[i].high = read_key(sorter, items[i].row);
            items[i].low = items[i].row;
        }
        sort_items(items, temp, count);
        for (uint64_t i = 1; sorter->unique && i < count; i++) {
            if (items[i].high == items[i - 1].high) return ERR_EXISTS;
        }
        return ERR_NONE;
    }
    sort_items(items, temp, count);
    for (uint64_t from = 0; from < count;) {
        uint64_t to = from + 1;
        while (to < count && item_ties(&items[from], &items[to]))
            to++;
        if (to - from > 1) {
            enum err err =
                sort_ties(sorter, items + from, temp + from, to - from, offset + WINDOW_SIZE);
            if (err) return err;
        }
        from = to;
    }
    return ERR_NONE;
}

/* The first 16 bytes of every key, as 12 bytes in the item and 4 in rest; returns how many leading
 * bytes all share, at most 16. */
static uint32_t read_heads(struct sorter *sorter, const uint32_t *rows, uint64_t count,
                           uint32_t *rest)
{
    const struct btree_config *config = &sorter->tree->config;
    uint64_t high = 0;
    uint64_t low = 0;
    uint64_t first_high = 0;
    uint64_t first_low = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t head[HEAD_OF_SIZE] = {0};
        if (config->head_of) {
            config->head_of(config->context, rows[i], head);
        } else {
            uint32_t size = read_key(sorter, rows[i]);
            memcpy(head, sorter->key, size < sizeof head ? size : sizeof head);
        }
        uint64_t a = head_load(head, HEAD_SIZE);
        uint64_t b = head_load(head + HEAD_SIZE, HEAD_SIZE);
        sorter->items[i] =
            (struct sort_item){.high = a, .low = (uint32_t)(b >> 32), .row = rows[i]};
        rest[i] = (uint32_t)b;
        if (i == 0) {
            first_high = a;
            first_low = b;
        }
        high |= a ^ first_high;
        low |= b ^ first_low;
    }
    if (high) return (uint32_t)__builtin_clzll(high) / 8;
    if (low) return HEAD_SIZE + (uint32_t)__builtin_clzll(low) / 8;
    return HEAD_OF_SIZE;
}

/* Moves the windows, which start at byte 0 of the keys, to the first byte where keys differ. */
static void shift_windows(struct sort_item *items, const uint32_t *rest, uint64_t count,
                          uint32_t offset)
{
    uint32_t shift = offset * 8;
    for (uint64_t i = 0; shift && i < count; i++) {
        uint64_t low = (uint64_t)items[i].low << 32 | rest[i];
        if (shift >= 64) {
            uint64_t high = shift >= 128 ? 0 : low << (shift - 64);
            items[i].high = high;
            items[i].low = 0;
        } else {
            items[i].high = items[i].high << shift | low >> (64 - shift);
            items[i].low = (uint32_t)(low << shift >> 32);
        }
    }
}

enum err btree_sort(struct btree *tree, const uint32_t *rows, uint64_t count, bool unique,
                    struct sort_item **ret_items, uint32_t *ret_offset)
{
    ASSERT(count <= UINT32_MAX); /* rows are numbered by 32 bits */
    size_t size = count * sizeof(struct sort_item);
    enum err err = ERR_NO_MEMORY;
    struct sorter sorter = {.tree = tree, .unique = unique};
    sorter.items = tree_alloc(tree, size);
    if (!sorter.items) return ERR_NO_MEMORY;
    sorter.temp = tree_alloc(tree, size);
    if (!sorter.temp) goto free_items;
    /* Until it is sorted, temp holds bytes 12 to 16 of the heads. */
    uint32_t *rest = (uint32_t *)(void *)sorter.temp;
    uint32_t offset = read_heads(&sorter, rows, count, rest);
    shift_windows(sorter.items, rest, count, offset);
    sort_items(sorter.items, sorter.temp, count);
    /* What the windows have seen for certain: bytes behind a head of 16 are zero in them. */
    uint32_t seen = offset + WINDOW_SIZE < HEAD_OF_SIZE ? offset + WINDOW_SIZE : HEAD_OF_SIZE;
    err = ERR_NONE;
    for (uint64_t from = 0; from < count && !err;) {
        const struct sort_item first = sorter.items[from];
        uint64_t to = from + 1;
        while (to < count && item_ties(&first, &sorter.items[to]))
            to++;
        if (to - from > 1) {
            err = sort_ties(&sorter, sorter.items + from, sorter.temp + from, to - from, seen);
            for (uint64_t i = from; i < to; i++) {
                sorter.items[i].high = first.high;
                sorter.items[i].low = first.low;
            }
        }
        from = to;
    }
    tree_free(tree, sorter.temp, size);
    if (err) goto free_items;
    *ret_items = sorter.items;
    *ret_offset = offset;
    return ERR_NONE;

free_items:
    tree_free(tree, sorter.items, size);
    return err;
}
