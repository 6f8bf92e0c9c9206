/* A fragment: one table's rows in one partition, and the three ways to change them.
 *
 * Every change is done in place, with an undo record that says what was before, in three parts:
 * everything that can fail (memory for the record, the change set, variable parts, index entries),
 * then the writing, which cannot, then linking the record into the row's chain and the change set.
 * So a failed change leaves nothing behind, and commit and rollback, which only take things away,
 * cannot fail.
 *
 * An insert of a primary key whose row is dead (deleted, but an old version or this transaction
 * still needs it) takes over that row: the insert is then a change of all columns that makes the
 * row live. So is an insert over a row that has expired but is not purged yet. */
#include "db/ldm/ldm.h"

#include "db/wire/schema.h"

enum { STAGE_SIZE = 8192 }; /* all fixed columns of a row: table_def_check's limit */

enum err fragment_create(struct partition *partition, const struct table_def *table,
                         struct fragment **ret_fragment)
{
    struct ldm *ldm = partition->ldm;
    struct fragment *fragment = mem_zalloc(&ldm->memory.other, sizeof(*fragment));
    if (!fragment) return ERR_NO_MEMORY;
    fragment->ldm = ldm;
    fragment->partition = partition;
    fragment->table = table;
    fragment->table_id = table->id;
    fragment->free_page = PAGE_NONE;
    fragment->empty_page = PAGE_NONE;
    enum err err = fragment_layout(fragment);
    if (!err) err = fragment_indexes_create(fragment);
    if (err) {
        fragment_destroy(fragment);
        return err;
    }
    *ret_fragment = fragment;
    return ERR_NONE;
}

void fragment_destroy(struct fragment *fragment)
{
    if (!fragment) return;
    struct ldm *ldm = fragment->ldm;
    ASSERT(fragment->uncommitted_count == 0);
    ldm_queue_purge(ldm, fragment);
    fragment_indexes_destroy(fragment);
    fragment_pages_destroy(fragment);
    mem_free(&ldm->memory.other, fragment->layouts);
    mem_free(&ldm->memory.other, fragment);
}

const struct table_def *fragment_table(const struct fragment *fragment)
{
    return fragment->table;
}

struct partition *fragment_partition(const struct fragment *fragment)
{
    return fragment->partition;
}

uint64_t fragment_row_count(const struct fragment *fragment)
{
    if (!fragment->table->ttl_seconds) return fragment->live_count;
    uint64_t count = 0;
    for (uint32_t i = 0; i < fragment->page_count; i++) {
        const struct page *page = &fragment->pages[i];
        for (uint32_t slot = 0; page->used_count && slot < FRAGMENT_PAGE_ROWS; slot++)
            if (page_is_live(page, slot) && !fragment_row_expired(fragment, i << PAGE_SHIFT | slot))
                count++;
    }
    return count;
}

bool fragment_value_expired(const struct fragment *fragment, struct value value)
{
    if (value.kind == KIND_NULL) return false;
    uint8_t type = fragment->table->columns[fragment->table->ttl_column].type;
    int64_t limit_us =
        fragment->ldm->now_us - (int64_t)fragment->table->ttl_seconds * INT64_C(1000000);
    if (type == TYPE_DATETIME || type == TYPE_TIMESTAMP) return value.i <= limit_us;
    if (limit_us < 0) return false;
    int64_t limit = limit_us / INT64_C(1000000);
    return value.kind == KIND_U64 ? value.u <= (uint64_t)limit : value.i <= limit;
}

/* ---- finding ---- */

static enum err find_any(const struct fragment *fragment, const struct value *key,
                         const struct read_ahead *ahead, uint32_t *ret_row)
{
    const struct index *primary = fragment->indexes[0];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < primary->column_count; i++) {
        enum err err = fragment_fit(fragment, primary->columns[i], key[i], &values[i]);
        if (err) return err;
    }
    struct primary_key ready;
    enum err err = primary_key_make(fragment, values, &ready);
    if (err) return err;
    return primary_find_ahead(fragment, &ready, ahead, ret_row);
}

enum err fragment_find_any(const struct fragment *fragment, const struct value *key,
                           uint32_t *ret_row)
{
    uint32_t row;
    enum err err = find_any(fragment, key, NULL, &row);
    if (err) return err;
    if (!page_is_live(row_page(fragment, row), row_slot(row))) return ERR_NOT_FOUND;
    *ret_row = row;
    return ERR_NONE;
}

enum err fragment_find(const struct fragment *fragment, const struct change_set *own,
                       const struct value *key, uint32_t *ret_row)
{
    return fragment_find_ahead(fragment, own, key, NULL, ret_row);
}

enum err fragment_find_ahead(const struct fragment *fragment, const struct change_set *own,
                             const struct value *key, const struct read_ahead *ahead,
                             uint32_t *ret_row)
{
    uint32_t row;
    enum err err = find_any(fragment, key, ahead, &row);
    if (err) return err;
    if (row_is_locked(fragment, row, own)) return ERR_CONFLICT;
    if (!page_is_live(row_page(fragment, row), row_slot(row))) return ERR_NOT_FOUND;
    if (fragment_row_expired(fragment, row)) return ERR_NOT_FOUND;
    *ret_row = row;
    return ERR_NONE;
}

/* ---- changing a row ---- */

struct row_change {
    struct fragment *fragment;
    struct change_set *changes;
    uint32_t row;
    uint32_t count; /* of columns that really change */
    uint8_t flags;  /* of the undo record */
    uint16_t columns[SCHEMA_COLUMNS_MAX];
    struct value values[SCHEMA_COLUMNS_MAX]; /* fitted */
    uint32_t refs[SCHEMA_COLUMNS_MAX];       /* of variable parts */
};

/* The column in place has exactly these bytes (of the fitted value). */
static bool column_is_same(const struct fragment *fragment, uint32_t row, uint16_t column,
                           struct value value)
{
    const struct column_layout *layout = &fragment->layouts[column];
    struct value old = row_value(fragment, row, column);
    if (old.kind != value.kind) return false;
    if (old.kind == KIND_NULL) return true;
    if (old.kind != KIND_STR) {
        /* A FLOAT was rounded when it was fitted, so equal bits are equal values. */
        return old.u == value.u;
    }
    if (layout->form != FORM_BINARY)
        return old.size == value.size &&
               (value.size == 0 || memcmp(old.bytes, value.bytes, value.size) == 0);
    if (value.size && memcmp(old.bytes, value.bytes, value.size) != 0) return false;
    for (uint32_t i = value.size; i < old.size; i++)
        if (old.bytes[i]) return false;
    return true;
}

/* BINARY values may be borrowed from columns of the row that are written before they are read. */
static void stage_binary(struct row_change *change, uint8_t stage[STAGE_SIZE])
{
    const struct fragment *fragment = change->fragment;
    uint32_t size = 0;
    for (uint32_t i = 0; i < change->count; i++) {
        struct value *value = &change->values[i];
        if (fragment->layouts[change->columns[i]].form != FORM_BINARY) continue;
        if (value->kind == KIND_NULL || !value->size) continue;
        memcpy(stage + size, value->bytes, value->size);
        value->bytes = stage + size;
        size += value->size;
    }
}

/* Writes the changed columns and what they were into the record. */
static void write_columns(struct row_change *change, struct undo *undo)
{
    struct fragment *fragment = change->fragment;
    struct page *page = row_page(fragment, change->row);
    uint32_t slot = row_slot(change->row);
    uint8_t stage[STAGE_SIZE];
    stage_binary(change, stage);
    uint8_t *save = undo->data;
    for (uint32_t i = 0; i < change->count; i++) {
        const struct column_layout *layout = &fragment->layouts[change->columns[i]];
        bool is_null = change->values[i].kind == KIND_NULL;
        uint8_t *raw = page_raw(page, layout, slot);
        save[0] = (uint8_t)change->columns[i];
        save[1] = page_is_null(page, layout, slot);
        memcpy(save + 2, raw, layout->width);
        save += 2 + layout->width;
        page_set_null(page, layout, slot, is_null);
        if (is_null)
            memset(raw, 0, layout->width);
        else if (layout->form == FORM_VAR)
            memcpy(raw, &change->refs[i], sizeof(change->refs[i]));
        else
            raw_store(layout, change->values[i], raw);
    }
}

static uint32_t undo_size_of(const struct row_change *change)
{
    uint32_t size = (uint32_t)sizeof(struct undo);
    for (uint32_t i = 0; i < change->count; i++)
        size += 2u + change->fragment->layouts[change->columns[i]].width;
    return size;
}

static void free_refs(struct row_change *change)
{
    struct page *page = row_page(change->fragment, change->row);
    for (uint32_t i = 0; i < change->count; i++)
        if (change->refs[i]) page_var_free(change->fragment, page, change->refs[i]);
}

static bool change_has_var(const struct row_change *change)
{
    for (uint32_t i = 0; i < change->count; i++)
        if (change->fragment->layouts[change->columns[i]].form == FORM_VAR) return true;
    return false;
}

/* Does a prepared change and adds it to the change set. Nothing changes on failure. */
static enum err change_apply(struct row_change *change)
{
    struct fragment *fragment = change->fragment;
    struct ldm *ldm = fragment->ldm;
    struct page *page = row_page(fragment, change->row);
    struct old_heap old = {0};
    bool reused = false;
    enum err err = change_set_reserve(change->changes);
    if (err) return err;
    uint32_t ref = undo_alloc(&ldm->undo, undo_size_of(change));
    if (!ref) return ERR_NO_MEMORY;
    bool has_var = change_has_var(change);
    if (has_var) {
        err = page_vars_put(fragment, page, change->columns, change->values, change->count,
                            change->refs, &old);
        if (err) goto free_undo;
    }
    err = indexes_change(fragment, change->row, change->columns, change->values, change->count,
                         &reused);
    if (err) goto free_vars;

    struct undo *undo = undo_at(ldm, ref);
    undo->column_count = (uint8_t)change->count;
    undo->flags = change->flags | (reused ? UNDO_REUSED : 0);
    write_columns(change, undo);
    old_heap_free(fragment, &old);
    change_set_add(change->changes, fragment, change->row, ref);
    return ERR_NONE;

free_vars:
    if (has_var) free_refs(change);
    old_heap_free(fragment, &old);
free_undo:
    undo_free(&ldm->undo, ref);
    return err;
}

enum err fragment_update(struct fragment *fragment, struct change_set *changes, uint32_t row,
                         const uint16_t *columns, const struct value *values, uint32_t count)
{
    if (row_is_locked(fragment, row, changes)) return ERR_CONFLICT;
    if (!page_is_live(row_page(fragment, row), row_slot(row))) return ERR_NOT_FOUND;
    struct row_change change;
    change.fragment = fragment;
    change.changes = changes;
    change.row = row;
    change.flags = UNDO_WAS_LIVE;
    change.count = 0;
    struct column_set seen = {0};
    for (uint32_t i = 0; i < count; i++) {
        if (columns[i] >= fragment->column_count || column_set_has(&seen, columns[i]) ||
            column_set_has(&fragment->key_columns, columns[i]))
            return ERR_INVALID;
        column_set_add(&seen, columns[i]);
        struct value value;
        enum err err = fragment_fit(fragment, columns[i], values[i], &value);
        if (err) return err;
        if (column_is_same(fragment, row, columns[i], value)) continue;
        change.columns[change.count] = columns[i];
        change.values[change.count++] = value;
    }
    return change.count ? change_apply(&change) : ERR_NONE;
}

enum err fragment_delete(struct fragment *fragment, struct change_set *changes, uint32_t row)
{
    if (row_is_locked(fragment, row, changes)) return ERR_CONFLICT;
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    if (!page_is_live(page, slot)) return ERR_NOT_FOUND;
    enum err err = change_set_reserve(changes);
    if (err) return err;
    uint32_t ref = undo_alloc(&fragment->ldm->undo, sizeof(struct undo));
    if (!ref) return ERR_NO_MEMORY;
    struct undo *undo = undo_at(fragment->ldm, ref);
    undo->column_count = 0;
    undo->flags = UNDO_WAS_LIVE;
    page_live(page)[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    fragment->live_count--;
    change_set_add(changes, fragment, row, ref);
    return ERR_NONE;
}

/* ---- inserting ---- */

/* The primary key's row exists: dead, expired or in the way. values: all columns, fitted. */
static enum err insert_over(struct fragment *fragment, struct change_set *changes,
                            const struct value *values, uint32_t row)
{
    if (row_is_locked(fragment, row, changes)) return ERR_CONFLICT;
    bool live = page_is_live(row_page(fragment, row), row_slot(row));
    if (live && !fragment_row_expired(fragment, row)) return ERR_EXISTS;
    uint32_t record_count = changes->count;
    enum err err = live ? fragment_delete(fragment, changes, row) : ERR_NONE;
    if (err) return err;
    struct row_change change;
    change.fragment = fragment;
    change.changes = changes;
    change.row = row;
    change.flags = 0;
    change.count = 0;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        if (column_is_same(fragment, row, (uint16_t)i, values[i])) continue;
        change.columns[change.count] = (uint16_t)i;
        change.values[change.count++] = values[i];
    }
    err = change_apply(&change);
    if (err) {
        change_set_revert_to(changes, record_count);
        return err;
    }
    uint32_t slot = row_slot(row);
    page_live(row_page(fragment, row))[slot / 64] |= UINT64_C(1) << (slot % 64);
    fragment->live_count++;
    return ERR_NONE;
}

/* Writes all columns into a free slot. */
static void write_row(struct fragment *fragment, uint32_t row, const struct value *values,
                      const uint32_t *refs)
{
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    uint32_t var = 0;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[i];
        uint8_t *raw = page_raw(page, layout, slot);
        if (layout->is_word) {
            raw_store(layout, values[i], raw);
            continue;
        }
        bool is_null = values[i].kind == KIND_NULL;
        page_set_null(page, layout, slot, is_null);
        if (layout->form == FORM_VAR)
            memcpy(raw, &refs[var++], sizeof(*refs));
        else if (is_null)
            memset(raw, 0, layout->width);
        else
            raw_store(layout, values[i], raw);
    }
}

/* All values as they fit their columns: the given ones, or, when some have to be changed, copies.
 */
static enum err values_fit(const struct fragment *fragment, const struct value *values,
                           struct value copies[SCHEMA_COLUMNS_MAX], const struct value **ret_fitted)
{
    const struct value *fitted = values;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[i];
        if (layout->is_plain && values[i].kind == layout->kind) {
            if (values[i].u - layout->min > layout->span) return ERR_OUT_OF_RANGE;
            continue;
        }
        struct value value;
        enum err err = value_fit(&fragment->table->columns[i], values[i], &value);
        if (err) return err;
        if (value.kind == values[i].kind && value.size == values[i].size &&
            value.u == values[i].u && value.scale == values[i].scale)
            continue;
        if (fitted == values) memcpy(copies, values, fragment->column_count * sizeof(*copies));
        fitted = copies;
        copies[i] = value;
    }
    *ret_fitted = fitted;
    return ERR_NONE;
}

/* Into a free slot. ERR_EXISTS (only where the primary key is a tree alone): *ret_row has the key.
 */
static enum err insert_fresh(struct fragment *fragment, struct change_set *changes,
                             const struct value *values, const struct primary_key *key,
                             uint32_t *ret_row)
{
    struct ldm *ldm = fragment->ldm;
    uint32_t row;
    enum err err = change_set_reserve(changes);
    if (err) return err;
    uint32_t ref = undo_alloc(&ldm->undo, sizeof(struct undo));
    if (!ref) return ERR_NO_MEMORY;
    err = fragment_slot_find(fragment, &row);
    if (err) goto free_undo;
    struct page *page = row_page(fragment, row);
    uint32_t refs[SCHEMA_COLUMNS_MAX];
    struct old_heap old = {0};
    if (fragment->var_count) {
        struct value vars[SCHEMA_COLUMNS_MAX];
        for (uint32_t i = 0; i < fragment->var_count; i++)
            vars[i] = values[fragment->var_columns[i]];
        err = page_vars_put(fragment, page, fragment->var_columns, vars, fragment->var_count, refs,
                            &old);
        if (err) goto free_undo;
    }
    write_row(fragment, row, values, refs);
    err = indexes_insert(fragment, row, key, ret_row);
    if (err) goto free_vars;

    struct undo *undo = undo_at(ldm, ref);
    undo->column_count = 0;
    undo->flags = UNDO_FRESH;
    fragment_slot_use(fragment, row);
    fragment->live_count++;
    old_heap_free(fragment, &old);
    change_set_add(changes, fragment, row, ref);
    *ret_row = row;
    return ERR_NONE;

free_vars:
    for (uint32_t i = 0; i < fragment->var_count; i++)
        if (refs[i]) page_var_free(fragment, page, refs[i]);
    old_heap_free(fragment, &old);
free_undo:
    undo_free(&ldm->undo, ref);
    return err;
}

void fragment_limit(struct fragment *fragment, bool holds)
{
    struct ldm *ldm = fragment->ldm;
    ASSERT(ldm->unlimited == holds);
    ldm->unlimited = !holds;
}

enum err fragment_insert(struct fragment *fragment, struct change_set *changes,
                         const struct value *values, uint32_t *ret_row)
{
    ASSERT_SLOW(!fragment->loading);
    const struct index *primary = fragment->indexes[0];
    struct value key_values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < primary->column_count; i++) {
        uint16_t column = primary->columns[i];
        enum err err = fragment_fit(fragment, column, values[column], &key_values[i]);
        if (err) return err;
    }
    struct primary_key key;
    enum err err = primary_key_make(fragment, key_values, &key);
    if (err) return err;
    /* The bucket is on its way while the values are checked. */
    if (fragment->hash) hash_index_prefetch(fragment->hash, key.hash);
    struct value copies[SCHEMA_COLUMNS_MAX];
    const struct value *fitted;
    err = values_fit(fragment, values, copies, &fitted);
    if (err) return err;
    uint32_t row;
    bool exists = fragment->hash && primary_find(fragment, &key, &row) == ERR_NONE;
    if (!exists) {
        err = insert_fresh(fragment, changes, fitted, &key, &row);
        exists = err == ERR_EXISTS;
        /* Whoever inserts a key that is there learns that, also from a full store. */
        if (err && !exists && !fragment->hash)
            exists = primary_find(fragment, &key, &row) == ERR_NONE;
        if (!exists) {
            if (!err) *ret_row = row;
            return err;
        }
    }
    err = insert_over(fragment, changes, fitted, row);
    if (!err) *ret_row = row;
    return err;
}
