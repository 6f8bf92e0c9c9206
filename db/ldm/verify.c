/* Checking a fragment's invariants: for tests and fsck. Reads everything, changes nothing.
 *
 *   pages     counts match the bits, lists hold every page with a free slot, heaps and blobs
 *             match the references
 *   chains    each record belongs to its row, links go both ways, timestamps fall from newest to
 *             oldest with the uncommitted ones first, a fresh insert is the last, none is marked
 *             as gone
 *   indexes   the trees' own structure; every version of every used row is found under its key,
 *             and there are as many entries as different keys, so there are no others */
#include "db/ldm/ldm.h"

/* What is counted over all pages. */
struct tally {
    uint64_t live;
    uint64_t used;
    uint32_t uncommitted;
    uint32_t reused;
    uint64_t entries[SCHEMA_INDEXES_MAX];
};

static enum err verify_chain(const struct fragment *fragment, uint32_t row, struct tally *tally,
                             struct diag *diag)
{
    const struct page *page = row_page(fragment, row);
    uint32_t newer = 0;
    uint64_t newer_ts = UINT64_MAX;
    uint32_t ref = page_undo(page)[row_slot(row)];
    while (ref) {
        const struct undo *undo = undo_at(fragment->ldm, ref);
        if (undo->fragment != fragment || undo->row != row || undo->newer != newer)
            return diag_set(diag, ERR_CORRUPT, "row %u: undo record %u is not linked to it", row,
                            ref);
        if (undo->ts > newer_ts)
            return diag_set(diag, ERR_CORRUPT, "row %u: undo records are out of order", row);
        if (undo->flags & UNDO_GONE || (undo->flags & UNDO_FRESH && undo->older))
            return diag_set(diag, ERR_CORRUPT, "row %u: undo record %u cannot stand there", row,
                            ref);
        if (undo->ts >= TS_LOCKED) tally->uncommitted++;
        if (undo->flags & UNDO_REUSED) tally->reused++;
        newer = ref;
        newer_ts = undo->ts;
        ref = undo->older;
    }
    return ERR_NONE;
}

/* The tree has an entry of exactly this key and row. */
static bool tree_has(const struct index *index, const uint8_t *key, uint32_t key_size, uint32_t row)
{
    struct btree_position position;
    btree_seek(index->tree, key, key_size, false, &position);
    for (;;) {
        struct btree_position at = position;
        uint32_t found;
        uint8_t other[SCHEMA_KEY_SIZE_MAX];
        if (!btree_next(index->tree, &position, &found)) return false;
        uint32_t size = btree_key_at(index->tree, &at, other);
        if (size != key_size || memcmp(other, key, size) != 0) return false;
        if (found == row) return true;
    }
}

/* Whether a newer version (in place or before a newer record) has the key too, so that it was
 * counted. */
static bool key_counted(const struct index *index, uint32_t row, const struct undo *undo,
                        const uint8_t *key, uint32_t key_size)
{
    const struct fragment *fragment = index->fragment;
    uint8_t other[SCHEMA_KEY_SIZE_MAX];
    while (undo) {
        undo = undo->newer ? undo_at(fragment->ldm, undo->newer) : NULL;
        uint32_t size = index_key_before(index, row, undo, other);
        if (size == key_size && memcmp(other, key, size) == 0) return true;
    }
    return false;
}

static enum err verify_keys(const struct index *index, uint32_t row, uint64_t *entries,
                            struct diag *diag)
{
    const struct fragment *fragment = index->fragment;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    const struct undo *undo = NULL;
    uint32_t ref = page_undo(row_page(fragment, row))[row_slot(row)];
    for (;;) {
        uint32_t size = index_key_before(index, row, undo, key);
        if (!tree_has(index, key, size, row))
            return diag_set(diag, ERR_CORRUPT, "row %u: index %u has no entry for a version", row,
                            index->id);
        if (!key_counted(index, row, undo, key, size)) ++*entries;
        if (!ref) return ERR_NONE;
        undo = undo_at(fragment->ldm, ref);
        if (undo->flags & UNDO_FRESH) return ERR_NONE;
        ref = undo->older;
    }
}

static enum err verify_hash(const struct fragment *fragment, uint32_t row, struct diag *diag)
{
    const struct index *primary = fragment->indexes[0];
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = index_key_before(primary, row, NULL, key);
    uint32_t found;
    if (hash_find_normalized(fragment, key, size, &found) || found != row)
        return diag_set(diag, ERR_CORRUPT, "row %u: the hash index does not find it", row);
    return ERR_NONE;
}

static enum err verify_row(const struct fragment *fragment, uint32_t row, struct tally *tally,
                           struct diag *diag)
{
    enum err err = verify_chain(fragment, row, tally, diag);
    if (err) return err;
    if (fragment->hash) err = verify_hash(fragment, row, diag);
    for (uint32_t i = 0; !err && i < fragment->index_count; i++)
        if (fragment->indexes[i]->tree)
            err = verify_keys(fragment->indexes[i], row, &tally->entries[i], diag);
    return err;
}

static enum err verify_page(const struct fragment *fragment, uint32_t number, struct tally *tally,
                            struct diag *diag)
{
    const struct page *page = &fragment->pages[number];
    if (!page->bytes) {
        if (page->used_count || page->undo_count || page->heap || page->blobs)
            return diag_set(diag, ERR_CORRUPT, "page %u has rows but no memory", number);
        if (page->list == PAGE_LIST_NONE)
            return diag_set(diag, ERR_CORRUPT, "page %u is on no list", number);
        return ERR_NONE;
    }
    uint32_t used = 0;
    uint32_t with_undo = 0;
    for (uint32_t slot = 0; slot < FRAGMENT_PAGE_ROWS; slot++) {
        bool live = page_is_live(page, slot);
        bool has_undo = page_undo(page)[slot] != 0;
        tally->live += live;
        with_undo += has_undo;
        if (!live && !has_undo) {
            if (slot / 64 < page->free_word)
                return diag_set(diag, ERR_CORRUPT, "page %u: a free slot is hidden", number);
            continue;
        }
        used++;
        enum err err = verify_row(fragment, number << PAGE_SHIFT | slot, tally, diag);
        if (err) return err;
    }
    tally->used += used;
    if (used != page->used_count || with_undo != page->undo_count)
        return diag_set(diag, ERR_CORRUPT, "page %u: %u used and %u with undo, counted %u and %u",
                        number, used, with_undo, page->used_count, page->undo_count);
    if (used < FRAGMENT_PAGE_ROWS && page->list == PAGE_LIST_NONE)
        return diag_set(diag, ERR_CORRUPT, "page %u is on no list", number);
    return page_heap_verify(fragment, number, diag);
}

static enum err verify_lists(const struct fragment *fragment, struct diag *diag)
{
    uint64_t listed = 0;
    for (uint32_t list = PAGE_LIST_FREE; list <= PAGE_LIST_EMPTY; list++) {
        uint32_t number = list == PAGE_LIST_FREE ? fragment->free_page : fragment->empty_page;
        for (; number != PAGE_NONE; number = fragment->pages[number].list_next) {
            if (number >= fragment->page_count || ++listed > fragment->page_count ||
                fragment->pages[number].list != list)
                return diag_set(diag, ERR_CORRUPT, "the lists of free pages are damaged");
        }
    }
    uint64_t marked = 0;
    for (uint32_t i = 0; i < fragment->page_count; i++)
        marked += fragment->pages[i].list != PAGE_LIST_NONE;
    if (marked != listed) return diag_set(diag, ERR_CORRUPT, "a free page is on no list");
    return ERR_NONE;
}

static enum err verify_counts(const struct fragment *fragment, const struct tally *tally,
                              struct diag *diag)
{
    if (tally->live != fragment->live_count || tally->uncommitted != fragment->uncommitted_count ||
        tally->reused != fragment->reused_count)
        return diag_set(diag, ERR_CORRUPT, "counts of rows or undo records differ");
    if (fragment->hash && hash_index_count(fragment->hash) != tally->used)
        return diag_set(diag, ERR_CORRUPT, "the hash index has entries without rows");
    for (uint32_t i = 0; i < fragment->index_count; i++) {
        const struct btree *tree = fragment->indexes[i]->tree;
        if (tree && btree_count(tree) != tally->entries[i])
            return diag_set(diag, ERR_CORRUPT, "index %u has %llu entries for %llu keys",
                            fragment->indexes[i]->id, (unsigned long long)btree_count(tree),
                            (unsigned long long)tally->entries[i]);
    }
    return ERR_NONE;
}

enum err fragment_verify(const struct fragment *fragment, struct diag *diag)
{
    if (fragment->loading) return diag_set(diag, ERR_CORRUPT, "the fragment is still loading");
    enum err err = ERR_NONE;
    if (fragment->hash) err = hash_index_verify(fragment->hash, diag);
    for (uint32_t i = 0; !err && i < fragment->index_count; i++)
        if (fragment->indexes[i]->tree) err = btree_verify(fragment->indexes[i]->tree, diag);
    if (err) return err;
    struct tally tally = {0};
    for (uint32_t i = 0; !err && i < fragment->page_count; i++)
        err = verify_page(fragment, i, &tally, diag);
    if (!err) err = verify_lists(fragment, diag);
    if (!err) err = verify_counts(fragment, &tally, diag);
    return err;
}
