/* Row versions: reading what a row was, and taking undo records away again.
 *
 * A row's chain of undo records goes from the newest change to the oldest. The version before a
 * record's change is the row in place with the saved columns of the records down to it laid over,
 * later (older) ones on top. A reader at T applies the records whose timestamp is greater than T.
 *
 * Records leave the chain at its end (undo_drop: no pin is older than the change), at its head
 * (undo_revert: rollback), or between (undo_merge: two changes between which nobody reads). In each
 * case one version becomes unreachable, and the index entries that only it had go with it.
 *
 * Index entries: an index holds one entry for each different key among a row's versions that have
 * values, which are all but the nothing before an insert into a free slot. An entry is thus made
 * only by an insert or a change of a key column, and dropped only with the version that had it.
 * That another version has the same key is rare, and known: the change that came back to an old key
 * found the entry there and carries UNDO_REUSED. While no record of a fragment does, entries go
 * without a look at the rest of the chain. */
#include "db/ldm/ldm.h"

const uint8_t *undo_column(const struct undo *undo, uint32_t column, bool *ret_null)
{
    const struct column_layout *layouts = undo->fragment->layouts;
    const uint8_t *at = undo->data;
    for (uint32_t i = 0; i < undo->column_count; i++) {
        if (at[0] == column) {
            *ret_null = at[1];
            return at + 2;
        }
        at += 2 + layouts[at[0]].width;
    }
    return NULL;
}

struct column_set undo_columns(const struct undo *undo)
{
    const struct column_layout *layouts = undo->fragment->layouts;
    struct column_set set = {0};
    const uint8_t *at = undo->data;
    for (uint32_t i = 0; i < undo->column_count; i++) {
        column_set_add(&set, at[0]);
        at += 2 + layouts[at[0]].width;
    }
    return set;
}

static uint32_t undo_size(const struct undo *undo)
{
    const struct column_layout *layouts = undo->fragment->layouts;
    const uint8_t *at = undo->data;
    for (uint32_t i = 0; i < undo->column_count; i++)
        at += 2 + layouts[at[0]].width;
    return (uint32_t)(at - undo->data);
}

static uint32_t row_undo(const struct fragment *fragment, uint32_t row)
{
    const struct page *page = row_page(fragment, row);
    return page->undo_count ? page_undo(page)[row_slot(row)] : 0;
}

bool fragment_visible_at(const struct fragment *fragment, uint32_t row, uint64_t ts)
{
    ts = ts_committed(ts);
    const struct page *page = row_page(fragment, row);
    if (!page->bytes) return false;
    bool live = page_is_live(page, row_slot(row));
    for (uint32_t ref = row_undo(fragment, row); ref;) {
        const struct undo *undo = undo_at(fragment->ldm, ref);
        if (undo->ts <= ts) break;
        live = undo->flags & UNDO_WAS_LIVE;
        ref = undo->older;
    }
    return live;
}

struct value fragment_value_at(const struct fragment *fragment, uint32_t row, uint16_t column,
                               uint64_t ts)
{
    ts = ts_committed(ts);
    const struct page *page = row_page(fragment, row);
    const struct column_layout *layout = &fragment->layouts[column];
    uint32_t slot = row_slot(row);
    const uint8_t *raw = page_raw(page, layout, slot);
    bool is_null = page_is_null(page, layout, slot);
    for (uint32_t ref = row_undo(fragment, row); ref;) {
        const struct undo *undo = undo_at(fragment->ldm, ref);
        if (undo->ts <= ts) break;
        const uint8_t *saved = undo_column(undo, column, &is_null);
        if (saved) raw = saved;
        ref = undo->older;
    }
    return page_value(page, layout, raw, is_null);
}

/* The column's value lies in the oldest record from `undo` towards the newest that saved it, or in
 * place. */
struct value row_value_before(const struct fragment *fragment, uint32_t row,
                              const struct undo *undo, uint32_t column)
{
    while (undo) {
        bool is_null;
        const uint8_t *saved = undo_column(undo, column, &is_null);
        if (saved)
            return page_value(row_page(fragment, row), &fragment->layouts[column], saved, is_null);
        undo = undo->newer ? undo_at(fragment->ldm, undo->newer) : NULL;
    }
    return row_value(fragment, row, column);
}

void row_link(struct fragment *fragment, uint32_t row, uint32_t ref)
{
    struct page *page = row_page(fragment, row);
    uint32_t *head = &page_undo(page)[row_slot(row)];
    struct undo *undo = undo_at(fragment->ldm, ref);
    undo->older = *head;
    undo->newer = 0;
    if (*head)
        undo_at(fragment->ldm, *head)->newer = ref;
    else
        page->undo_count++;
    *head = ref;
    if (undo->flags & UNDO_REUSED) fragment->reused_count++;
}

/* Takes the record out of its row's chain. */
static void row_unlink(struct fragment *fragment, const struct undo *undo)
{
    struct ldm *ldm = fragment->ldm;
    struct page *page = row_page(fragment, undo->row);
    if (undo->older) undo_at(ldm, undo->older)->newer = undo->newer;
    if (undo->newer) {
        undo_at(ldm, undo->newer)->older = undo->older;
        return;
    }
    page_undo(page)[row_slot(undo->row)] = undo->older;
    if (!undo->older) page->undo_count--;
}

/* The variable parts that belong to the record. */
static void undo_free_vars(struct fragment *fragment, const struct undo *undo)
{
    struct page *page = row_page(fragment, undo->row);
    const uint8_t *at = undo->data;
    for (uint32_t i = 0; i < undo->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[at[0]];
        if (layout->form == FORM_VAR && !at[1]) {
            uint32_t ref;
            memcpy(&ref, at + 2, sizeof(ref));
            page_var_free(fragment, page, ref);
        }
        at += 2 + layout->width;
    }
}

static void undo_finish(struct fragment *fragment, uint32_t ref)
{
    if (undo_at(fragment->ldm, ref)->flags & UNDO_REUSED) fragment->reused_count--;
    undo_free(&fragment->ldm->undo, ref);
}

/* Frees a slot in which nothing is left but the values in place. */
static void row_free(struct fragment *fragment, uint32_t row)
{
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    indexes_remove(fragment, row);
    for (uint32_t i = 0; i < fragment->var_count; i++) {
        const struct column_layout *layout = &fragment->layouts[fragment->var_columns[i]];
        if (page_is_null(page, layout, slot)) continue;
        uint32_t ref;
        memcpy(&ref, page_raw(page, layout, slot), sizeof(ref));
        page_var_free(fragment, page, ref);
    }
    fragment_slot_free(fragment, row);
}

static void set_live(struct fragment *fragment, uint32_t row, bool live)
{
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    uint64_t bit = UINT64_C(1) << (slot % 64);
    uint64_t *word = &page_live(page)[slot / 64];
    if (live == ((*word & bit) != 0)) return;
    *word ^= bit;
    fragment->live_count += live ? 1 : UINT64_MAX;
}

/* Puts the saved columns back in place, freeing what is there. */
static void restore_columns(struct fragment *fragment, const struct undo *undo)
{
    struct page *page = row_page(fragment, undo->row);
    uint32_t slot = row_slot(undo->row);
    const uint8_t *at = undo->data;
    for (uint32_t i = 0; i < undo->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[at[0]];
        uint8_t *raw = page_raw(page, layout, slot);
        if (layout->form == FORM_VAR && !page_is_null(page, layout, slot)) {
            uint32_t ref;
            memcpy(&ref, raw, sizeof(ref));
            page_var_free(fragment, page, ref);
        }
        page_set_null(page, layout, slot, at[1]);
        memcpy(raw, at + 2, layout->width);
        at += 2 + layout->width;
    }
}

/* Keys in secondary indexes of a version that is about to become unreachable. */
struct stale_keys {
    uint32_t sizes[SCHEMA_INDEXES_MAX]; /* 0: not affected */
    uint8_t keys[SCHEMA_INDEXES_MAX][SCHEMA_KEY_SIZE_MAX];
};

/* Of the version before the record (NULL: in place), for indexes with a changed column, and with
 * one that the older neighbour changed: else the version before that has the same key (NULL: there
 * is none). False: none at all. */
static bool stale_collect(const struct fragment *fragment, uint32_t row, const struct undo *undo,
                          const struct column_set *changed, const struct column_set *older_changed,
                          struct stale_keys *stale)
{
    if (!column_set_meets(changed, &fragment->indexed)) return false;
    for (uint32_t i = 1; i < fragment->index_count; i++) {
        const struct index *index = fragment->indexes[i];
        stale->sizes[i] = 0;
        if (column_set_meets(changed, &index->column_set) &&
            (!older_changed || column_set_meets(older_changed, &index->column_set)))
            stale->sizes[i] = index_key_before(index, row, undo, stale->keys[i]);
    }
    return true;
}

static void stale_drop(const struct fragment *fragment, uint32_t row,
                       const struct stale_keys *stale, bool may_share)
{
    for (uint32_t i = 1; i < fragment->index_count; i++)
        if (stale->sizes[i])
            index_drop(fragment->indexes[i], row, stale->keys[i], stale->sizes[i], may_share);
}

static void row_free_if_unused(struct fragment *fragment, uint32_t row)
{
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    if (!page_is_live(page, slot) && !page_undo(page)[slot]) row_free(fragment, row);
}

void undo_revert(struct ldm *ldm, uint32_t ref)
{
    struct undo *undo = undo_at(ldm, ref);
    struct fragment *fragment = undo->fragment;
    uint32_t row = undo->row;
    ASSERT_SLOW(undo->newer == 0);
    if (undo->flags & UNDO_FRESH) {
        row_unlink(fragment, undo);
        undo_finish(fragment, ref);
        set_live(fragment, row, false);
        row_free(fragment, row);
        return;
    }
    struct stale_keys stale;
    struct column_set changed = undo_columns(undo);
    bool is_indexed = stale_collect(fragment, row, NULL, &changed, NULL, &stale);
    restore_columns(fragment, undo);
    row_unlink(fragment, undo);
    set_live(fragment, row, undo->flags & UNDO_WAS_LIVE);
    if (is_indexed) stale_drop(fragment, row, &stale, undo->flags & UNDO_REUSED);
    undo_finish(fragment, ref);
    /* A dead row whose last older version went while an insert had taken it over. */
    row_free_if_unused(fragment, row);
}

void undo_drop(struct ldm *ldm, uint32_t ref)
{
    struct undo *undo = undo_at(ldm, ref);
    struct fragment *fragment = undo->fragment;
    uint32_t row = undo->row;
    ASSERT_SLOW(undo->older == 0 && undo->ts < TS_LOCKED);
    if (undo->column_count) {
        struct stale_keys stale;
        struct column_set changed = undo_columns(undo);
        bool is_indexed = stale_collect(fragment, row, undo, &changed, NULL, &stale);
        row_unlink(fragment, undo);
        if (is_indexed) stale_drop(fragment, row, &stale, fragment->reused_count > 0);
        undo_free_vars(fragment, undo);
    } else {
        row_unlink(fragment, undo);
    }
    undo_finish(fragment, ref);
    row_free_if_unused(fragment, row);
}

/* Copies the entries of `newer` that `older` does not have behind those of `into`, and frees the
 * variable parts of the others. */
static void merge_entries(struct fragment *fragment, const struct undo *newer,
                          const struct column_set *in_older, struct undo *into)
{
    struct page *page = row_page(fragment, newer->row);
    uint8_t *out = into ? into->data + undo_size(into) : NULL;
    const uint8_t *at = newer->data;
    for (uint32_t i = 0; i < newer->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[at[0]];
        uint32_t size = 2u + layout->width;
        if (into && !column_set_has(in_older, at[0])) {
            memcpy(out, at, size);
            out += size;
            into->column_count++;
        } else if (layout->form == FORM_VAR && !at[1]) {
            uint32_t ref;
            memcpy(&ref, at + 2, sizeof(ref));
            page_var_free(fragment, page, ref);
        }
        at += size;
    }
}

/* Makes a record with the older one's entries and room for the newer one's, in the older one's
 * place in the chain and at the end of the queue. The older one stays in the queue, marked as gone.
 * 0 when there is no memory. */
static uint32_t undo_widen(struct fragment *fragment, uint32_t older_ref, uint32_t size_more)
{
    struct ldm *ldm = fragment->ldm;
    uint32_t size = undo_size(undo_at(ldm, older_ref));
    uint32_t ref = undo_alloc(&ldm->undo, (uint32_t)sizeof(struct undo) + size + size_more);
    if (!ref) return 0;
    struct undo *older = undo_at(ldm, older_ref);
    struct undo *wide = undo_at(ldm, ref);
    uint16_t units = wide->units;
    memcpy(wide, older, sizeof(struct undo) + size);
    wide->units = units;
    if (wide->older) undo_at(ldm, wide->older)->newer = ref;
    if (wide->newer) undo_at(ldm, wide->newer)->older = ref;
    ASSERT(wide->newer);
    older->flags = UNDO_GONE;
    older->column_count = 0;
    ldm_queue_push(ldm, ref);
    return ref;
}

/* Bytes of the entries for columns that are not in the set. */
static uint32_t entries_size(const struct undo *undo, const struct column_set *without)
{
    const struct column_layout *layouts = undo->fragment->layouts;
    const uint8_t *at = undo->data;
    uint32_t size = 0;
    for (uint32_t i = 0; i < undo->column_count; i++) {
        uint32_t entry_size = 2u + layouts[at[0]].width;
        if (!column_set_has(without, at[0])) size += entry_size;
        at += entry_size;
    }
    return size;
}

bool undo_merge(struct ldm *ldm, uint32_t ref)
{
    struct undo *undo = undo_at(ldm, ref);
    struct fragment *fragment = undo->fragment;
    uint32_t row = undo->row;
    if (!undo->older || (undo->flags & UNDO_FRESH)) return false;
    struct undo *older = undo_at(ldm, undo->older);
    if (older->ts >= TS_LOCKED || ldm_version_needed(ldm, fragment->partition, older->ts, undo->ts))
        return false;
    struct column_set in_older = undo_columns(older);
    uint32_t more = entries_size(undo, &in_older);
    /* What was before a fresh insert has no values to keep. */
    if (older->flags & UNDO_FRESH) more = 0;
    if (more) {
        uint32_t wide = undo_widen(fragment, undo->older, more);
        if (!wide) return false;
        older = undo_at(ldm, wide);
    }
    struct stale_keys stale;
    struct column_set changed = undo_columns(undo);
    bool is_fresh = older->flags & UNDO_FRESH;
    bool is_indexed =
        stale_collect(fragment, row, undo, &changed, is_fresh ? NULL : &in_older, &stale);
    merge_entries(fragment, undo, &in_older, more ? older : NULL);
    row_unlink(fragment, undo);
    if (is_indexed) stale_drop(fragment, row, &stale, fragment->reused_count > 0);
    if (undo->flags & UNDO_REUSED && !(older->flags & UNDO_REUSED)) {
        older->flags |= UNDO_REUSED;
        fragment->reused_count++;
    }
    undo_finish(fragment, ref);
    return true;
}
