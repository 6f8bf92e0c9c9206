/* Cursors over an index range, and over the hash index for a full primary key.
 *
 * A cursor walks from one end of the range to the other by position in the tree. While the tree is
 * unchanged its place and the range's end are positions, and no key is built or compared. When the
 * tree has changed, the end is sought again by its key, and the place by the key of the last row
 * returned (or, before the first, by the range's start): the walk goes on behind that row, or where
 * it would have been. A row that others insert or move behind the place while the walk lasts may or
 * may not be met; in a snapshot that makes no difference.
 *
 * Entries of a secondary index stand for versions. Where a row has undo records, an entry counts
 * only if its key is that of the version asked for; that also makes sure that a row whose key
 * changed is met once. */
#include "db/ldm/ldm.h"

#include "db/wire/schema.h"

static const struct index *cursor_index(const struct index_cursor *cursor)
{
    return cursor->fragment->indexes[cursor->index];
}

/* A place between keys: before those that are at least `bytes`, or behind all that begin with them.
 */
struct edge {
    uint8_t *bytes;
    uint32_t size;
    bool after;
};

/* Appends values of the index columns from number `first` on. */
static enum err edge_append(const struct index_cursor *cursor, uint32_t first,
                            const struct value *values, uint32_t count, struct edge *edge)
{
    const struct index *index = cursor_index(cursor);
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    uint32_t size;
    enum err err =
        key_normalize(cursor->fragment->table, index->columns + first, count, values, bytes, &size);
    if (err) return err;
    if (edge->size + size > SCHEMA_KEY_SIZE_MAX) return ERR_TOO_BIG;
    memcpy(edge->bytes + edge->size, bytes, size);
    edge->size += size;
    return ERR_NONE;
}

/* <0, 0, >0 as edge a is before, at or behind edge b. */
static int edge_compare(const struct edge *a, const struct edge *b)
{
    uint32_t size = a->size < b->size ? a->size : b->size;
    int order = size ? memcmp(a->bytes, b->bytes, size) : 0;
    if (order) return order;
    if (a->size < b->size) return a->after ? 1 : -1;
    if (a->size > b->size) return b->after ? -1 : 1;
    return a->after - b->after;
}

static enum err edges_make(const struct index_cursor *cursor, const struct index_bounds *bounds,
                           struct edge *low, struct edge *high)
{
    const struct index *index = cursor_index(cursor);
    uint32_t eq = bounds->eq_count;
    if (eq + bounds->low_count > index->column_count ||
        eq + bounds->high_count > index->column_count)
        return ERR_INVALID;
    enum err err = edge_append(cursor, 0, bounds->eq, eq, low);
    if (!err) err = edge_append(cursor, 0, bounds->eq, eq, high);
    high->after = true;
    if (!err && bounds->low_count) {
        err = edge_append(cursor, eq, bounds->low, bounds->low_count, low);
        low->after = !bounds->low_inclusive;
    }
    if (!err && bounds->high_count) {
        err = edge_append(cursor, eq, bounds->high, bounds->high_count, high);
        high->after = bounds->high_inclusive;
    }
    /* Nothing compares with NULL, so a range with an upper bound alone starts behind the NULLs. */
    if (!err && bounds->high_count && !bounds->low_count &&
        cursor->fragment->table->columns[index->columns[eq]].nullable) {
        if (low->size == SCHEMA_KEY_SIZE_MAX) return ERR_TOO_BIG;
        low->bytes[low->size++] = 1;
    }
    return err;
}

static void seek_end(struct index_cursor *cursor)
{
    const struct btree *tree = cursor_index(cursor)->tree;
    struct btree_position end;
    btree_seek(tree, cursor->bound, cursor->bound_size, cursor->bound_after, &end);
    cursor->end_leaf = (void *)(uintptr_t)end.leaf;
    cursor->end_position = end.index;
}

static void seek_to(struct index_cursor *cursor, struct btree_position position)
{
    cursor->leaf = (void *)(uintptr_t)position.leaf;
    cursor->position = position.index;
    cursor->change_count = btree_change_count(cursor_index(cursor)->tree);
}

enum err index_cursor_open(struct index_cursor *cursor, const struct fragment *fragment,
                           uint8_t index, const struct index_bounds *bounds, bool descending,
                           uint64_t ts, const struct change_set *own)
{
    if (index >= fragment->index_count) return ERR_INVALID;
    cursor->fragment = fragment;
    cursor->ts = ts;
    cursor->own = own;
    cursor->index = index;
    cursor->descending = descending;
    cursor->done = false;
    cursor->stable = false;
    cursor->started = false;
    cursor->is_point = false;
    const struct btree *tree = cursor_index(cursor)->tree;
    if (!tree) {
        if (bounds->eq_count != cursor_index(cursor)->column_count || bounds->low_count ||
            bounds->high_count)
            return ERR_INVALID;
        struct edge key = {.bytes = cursor->last};
        enum err err = edge_append(cursor, 0, bounds->eq, bounds->eq_count, &key);
        if (err) return err;
        cursor->last_size = key.size;
        cursor->is_point = true;
        return ERR_NONE;
    }
    struct edge low = {.bytes = descending ? cursor->bound : cursor->last};
    struct edge high = {.bytes = descending ? cursor->last : cursor->bound};
    enum err err = edges_make(cursor, bounds, &low, &high);
    if (err) return err;
    const struct edge *first = descending ? &high : &low;
    const struct edge *end = descending ? &low : &high;
    cursor->last_size = first->size;
    cursor->last_after = first->after;
    cursor->bound_size = end->size;
    cursor->bound_after = end->after;
    cursor->done = edge_compare(&low, &high) >= 0;
    if (cursor->done) return ERR_NONE;
    seek_end(cursor);
    struct btree_position start;
    btree_seek(tree, first->bytes, first->size, first->after, &start);
    seek_to(cursor, start);
    return ERR_NONE;
}

/* The entry at the position comes before (or is) the last one returned, in the order (key, row). */
static bool is_behind(const struct index_cursor *cursor, const struct btree_position *position,
                      uint32_t row)
{
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = btree_key_at(cursor_index(cursor)->tree, position, key);
    uint32_t shared = size < cursor->last_size ? size : cursor->last_size;
    int order = shared ? memcmp(key, cursor->last, shared) : 0;
    if (!order) order = (size > cursor->last_size) - (size < cursor->last_size);
    if (!order) order = (row > cursor->last_row) - (row < cursor->last_row);
    return order <= 0;
}

/* Finds the place again in a tree that has changed. */
static void reseek(struct index_cursor *cursor)
{
    const struct btree *tree = cursor_index(cursor)->tree;
    struct btree_position position;
    seek_end(cursor);
    if (!cursor->started) {
        btree_seek(tree, cursor->last, cursor->last_size, cursor->last_after, &position);
        seek_to(cursor, position);
        return;
    }
    /* The first entry behind the last one returned; rows with the same key come in order of row
     * number. */
    btree_seek(tree, cursor->last, cursor->last_size, false, &position);
    for (;;) {
        struct btree_position next = position;
        uint32_t row;
        if (!btree_next(tree, &next, &row)) break;
        if (!is_behind(cursor, &position, row)) break;
        position = next;
    }
    if (cursor->descending) {
        /* A descending walk stands behind the entry it takes next: before the last one, if that is
         * still there. */
        struct btree_position previous = position;
        uint32_t row;
        if (btree_previous(tree, &previous, &row) && row == cursor->last_row) {
            uint8_t key[SCHEMA_KEY_SIZE_MAX];
            uint32_t size = btree_key_at(tree, &previous, key);
            if (size == cursor->last_size && memcmp(key, cursor->last, size) == 0)
                position = previous;
        }
    }
    seek_to(cursor, position);
}

/* One step; *ret_entry is the position that the entry stands at. False at the end of the range. */
static bool step(struct index_cursor *cursor, struct btree_position *ret_entry, uint32_t *ret_row)
{
    const struct btree *tree = cursor_index(cursor)->tree;
    if (cursor->leaf == cursor->end_leaf && cursor->position == cursor->end_position) return false;
    struct btree_position position = {.leaf = cursor->leaf, .index = cursor->position};
    *ret_entry = position;
    bool stepped = cursor->descending ? btree_previous(tree, &position, ret_row)
                                      : btree_next(tree, &position, ret_row);
    if (!stepped) return false;
    if (cursor->descending) *ret_entry = position;
    cursor->leaf = (void *)(uintptr_t)position.leaf;
    cursor->position = position.index;
    return true;
}

/* Whether the row counts, in the version asked for. entry: NULL for the hash index. */
static enum err row_check(const struct index_cursor *cursor, const struct btree_position *entry,
                          uint32_t row, bool *ret_counts)
{
    const struct fragment *fragment = cursor->fragment;
    const struct index *index = cursor_index(cursor);
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    bool has_undo = page->undo_count && page_undo(page)[slot];
    bool newest = cursor->ts == TS_LATEST;
    *ret_counts = false;
    if (newest && row_is_locked(fragment, row, cursor->own)) return ERR_CONFLICT;
    if (!has_undo || newest) {
        if (!page_is_live(page, slot)) return ERR_NONE;
        if (fragment_row_expired(fragment, row)) return ERR_NONE;
    } else {
        if (!fragment_visible_at(fragment, row, cursor->ts)) return ERR_NONE;
        if (fragment->table->ttl_seconds &&
            fragment_value_expired(
                fragment,
                fragment_value_at(fragment, row, fragment->table->ttl_column, cursor->ts)))
            return ERR_NONE;
    }
    if (has_undo && entry && !index->is_primary) {
        uint8_t key[SCHEMA_KEY_SIZE_MAX];
        uint8_t entry_key[SCHEMA_KEY_SIZE_MAX];
        uint32_t size = newest ? index_key_before(index, row, NULL, key)
                               : index_key_at(index, row, cursor->ts, key);
        uint32_t entry_size = btree_key_at(index->tree, entry, entry_key);
        if (size != entry_size || memcmp(key, entry_key, size) != 0) return ERR_NONE;
    }
    *ret_counts = true;
    return ERR_NONE;
}

/* The one row of a hash primary key: found only now, since it may have come or gone since the
 * cursor was opened. */
static enum err point_next(struct index_cursor *cursor, uint32_t *ret_row)
{
    const struct fragment *fragment = cursor->fragment;
    cursor->done = true;
    uint32_t row;
    bool counts;
    if (hash_find_normalized(fragment, cursor->last, cursor->last_size, &row)) return ERR_END;
    enum err err = row_check(cursor, NULL, row, &counts);
    if (err) return err;
    if (!counts) return ERR_END;
    *ret_row = row;
    return ERR_NONE;
}

enum err index_cursor_next(struct index_cursor *cursor, uint32_t *ret_row)
{
    if (cursor->done) return ERR_END;
    if (cursor->is_point) return point_next(cursor, ret_row);
    bool counts;
    uint32_t row;
    const struct btree *tree = cursor_index(cursor)->tree;
    if (cursor->change_count != btree_change_count(tree)) {
        ASSERT(!cursor->stable);
        reseek(cursor);
    }
    struct btree_position entry;
    while (step(cursor, &entry, &row)) {
        enum err err = row_check(cursor, &entry, row, &counts);
        if (err) {
            cursor->done = true;
            return err;
        }
        if (!counts) continue;
        if (!cursor->stable) {
            cursor->last_size = btree_key_at(tree, &entry, cursor->last);
            cursor->last_row = row;
            cursor->started = true;
        }
        *ret_row = row;
        return ERR_NONE;
    }
    cursor->done = true;
    return ERR_END;
}
