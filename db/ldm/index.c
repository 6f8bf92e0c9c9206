/* The indexes of a fragment as one thing: a hash index or B+tree (or both) over the primary key,
 * B+trees over the other indexes' columns.
 *
 * The primary key's entry stands for the row, live or dead: all versions of a row have the same
 * normalized key. Its tree keeps no keys of its own; it asks for those of the row in place.
 * Secondary trees keep keys, one entry for each different key among a row's versions (versions.c
 * says when they come and go).
 *
 * The hash of a primary key of one integer column is a mix of the integer, and candidates are
 * compared with the column in place; other keys are hashed and compared in normalized form. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

#include "base/hash.h"

enum { HASH_BATCH = 16, SHORT_ROW_COLUMNS = 8 };

/* The values of the index columns, of the row before the record's change. */
static void key_values(const struct index *index, uint32_t row, const struct undo *undo,
                       struct value values[SCHEMA_KEY_COLUMNS_MAX])
{
    for (uint32_t i = 0; i < index->column_count; i++)
        values[i] = undo ? row_value_before(index->fragment, row, undo, index->columns[i])
                         : row_value(index->fragment, row, index->columns[i]);
}

/* Of values that were normalized before, when they came in. */
static uint32_t key_of_values(const struct index *index, const struct value *values,
                              uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    uint32_t size = 0;
    enum err err = key_normalize_fitted(index->fragment->table, index->columns, index->column_count,
                                        values, key, &size);
    ASSERT(err == ERR_NONE);
    return size;
}

uint32_t index_key_before(const struct index *index, uint32_t row, const struct undo *undo,
                          uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    key_values(index, row, undo, values);
    return key_of_values(index, values, key);
}

uint32_t index_key_at(const struct index *index, uint32_t row, uint64_t ts,
                      uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < index->column_count; i++)
        values[i] = fragment_value_at(index->fragment, row, index->columns[i], ts);
    return key_of_values(index, values, key);
}

/* While the bytes of the key's strings come, the row that is read after this one is on its way. */
static void follow(const struct index *index, const struct page *page, uint32_t row)
{
    const struct read_ahead *ahead = index->ahead;
    const struct fragment *fragment = index->fragment;
    uint32_t slot = row_slot(row), size, then;
    if (!primary_is_number(ahead->then)) return;
    struct value key = row_value(fragment, row, ahead->then_column);
    if (key.kind != KIND_U64) return;
    hash_index_prefetch(ahead->then->hash, hash_u64(key.u));
    for (uint32_t i = 0; i < index->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[index->columns[i]];
        uint32_t ref;
        if (layout->form != FORM_VAR || page_is_null(page, layout, slot)) continue;
        memcpy(&ref, page_raw(page, layout, slot), sizeof(ref));
        __builtin_prefetch(page_var(page, ref, &size));
    }
    (void)!primary_guess(ahead->then, key.u, ahead->then_columns, ahead->then_count, &then);
}

static uint32_t tree_key_of(const void *context, uint32_t row, uint8_t key[SCHEMA_KEY_SIZE_MAX])
{
    /* An entry whose head ties is nearly always the one looked for: all of a short row, the key's
     * columns and the others, is fetched at once. */
    const struct index *index = context;
    const struct fragment *fragment = index->fragment;
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    __builtin_prefetch(&page_live(page)[slot / 64]);
    for (uint32_t i = 0; i < fragment->column_count && i < SHORT_ROW_COLUMNS; i++)
        __builtin_prefetch(page_raw(page, &fragment->layouts[i], slot));
    if (index->ahead && index->ahead->then) follow(index, page, row);
    return index_key_before(context, row, NULL, key);
}

/* Two leading BIGINTs, as of a directory entry's parent and hash, make the whole head without the
 * rest of the key. */
static void tree_head_of(const void *context, uint32_t row, uint8_t head[16])
{
    const struct index *index = context;
    const struct fragment *fragment = index->fragment;
    struct value values[2];
    uint32_t count = index->column_count < 2 ? 1 : 2;
    for (uint32_t i = 0; i < count; i++) {
        const struct column_layout *layout = &fragment->layouts[index->columns[i]];
        values[i] = row_value(fragment, row, index->columns[i]);
        if (layout->form != FORM_U64 || layout->null_offset) count = 0;
    }
    memset(head, 0, 16);
    if (count) {
        for (uint32_t i = 0; i < count; i++) {
            uint64_t word = __builtin_bswap64(values[i].u);
            memcpy(head + 8 * i, &word, sizeof(word));
        }
        if (count == 2 || index->column_count == 1) return;
    }
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = index_key_before(index, row, NULL, key);
    memcpy(head, key, size < 16 ? size : 16);
}

static uint64_t hash_of_integer(const struct fragment *fragment, uint32_t row)
{
    return hash_u64(row_value(fragment, row, fragment->table->indexes[0].columns[0]).u);
}

/* The same from the normalized key: big-endian, the sign flipped in signed columns. */
static uint64_t hash_of_normalized(const struct fragment *fragment, const uint8_t *bytes)
{
    const struct column_layout *layout = &fragment->layouts[fragment->table->indexes[0].columns[0]];
    uint64_t value = 0;
    for (uint32_t i = 0; i < layout->width; i++)
        value = value << 8 | bytes[i];
    value += layout->min; /* takes the bias of signed columns off */
    return hash_u64(value);
}

static uint64_t tree_hash_of(const void *context, uint32_t row)
{
    const struct fragment *fragment = context;
    if (fragment->hash_by_integer) return hash_of_integer(fragment, row);
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = index_key_before(fragment->indexes[0], row, NULL, key);
    return hash_bytes(key, size);
}

enum err index_create(struct fragment *fragment, const struct index_def *def, bool is_primary,
                      struct index **ret_index)
{
    uint64_t *counter = &fragment->ldm->memory.other;
    struct index *index = mem_zalloc(counter, sizeof(*index));
    if (!index) return ERR_NO_MEMORY;
    index->fragment = fragment;
    index->id = def->id;
    index->is_primary = is_primary;
    index->column_count = def->column_count;
    memcpy(index->columns, def->columns, sizeof(index->columns));
    for (uint32_t i = 0; i < def->column_count; i++)
        column_set_add(&index->column_set, def->columns[i]);
    if (def->kind == INDEX_ORDERED) {
        struct btree_config config = {
            .key_of = tree_key_of,
            .head_of = tree_head_of,
            .context = index,
            .store_keys = !is_primary,
            .memory = &fragment->ldm->memory.indexes,
            .pages = &fragment->ldm->pages,
        };
        enum err err = btree_create(&config, &index->tree);
        if (err) {
            mem_free(counter, index);
            return err;
        }
    }
    *ret_index = index;
    return ERR_NONE;
}

void index_destroy(struct index *index)
{
    if (!index) return;
    btree_destroy(index->tree);
    mem_free(&index->fragment->ldm->memory.other, index);
}

void fragment_indexed_update(struct fragment *fragment)
{
    fragment->indexed = (struct column_set){0};
    for (uint32_t i = 1; i < fragment->index_count; i++)
        for (uint32_t j = 0; j < fragment->indexes[i]->column_count; j++)
            column_set_add(&fragment->indexed, fragment->indexes[i]->columns[j]);
}

enum err fragment_indexes_create(struct fragment *fragment)
{
    const struct table_def *table = fragment->table;
    for (uint32_t i = 0; i < table->index_count; i++) {
        enum err err = index_create(fragment, &table->indexes[i], i == 0, &fragment->indexes[i]);
        if (err) return err;
        fragment->index_count++;
    }
    fragment_indexed_update(fragment);
    fragment->key_columns = fragment->indexes[0]->column_set;
    const struct index_def *primary = &table->indexes[0];
    if (primary->kind != INDEX_HASH && !primary->has_hash) return ERR_NONE;
    uint8_t type = table->columns[primary->columns[0]].type;
    fragment->hash_by_integer = primary->column_count == 1 && type <= TYPE_BIGINT_UNSIGNED;
    struct hash_index_config config = {
        .hash_of = tree_hash_of,
        .context = fragment,
        .memory = &fragment->ldm->memory.indexes,
        .pages = &fragment->ldm->pages,
    };
    return hash_index_create(&config, &fragment->hash);
}

void fragment_indexes_destroy(struct fragment *fragment)
{
    hash_index_destroy(fragment->hash);
    fragment->hash = NULL;
    for (uint32_t i = 0; i < fragment->index_count; i++)
        index_destroy(fragment->indexes[i]);
    fragment->index_count = 0;
}

enum err primary_key_make(const struct fragment *fragment, const struct value *values,
                          struct primary_key *key)
{
    const struct index *primary = fragment->indexes[0];
    key->values = values;
    key->size = 0;
    if (fragment->hash_by_integer) key->hash = hash_u64(values[0].u);
    if (fragment->hash_by_integer && !primary->tree) return ERR_NONE;
    enum err err = key_normalize_fitted(fragment->table, primary->columns, primary->column_count,
                                        values, key->bytes, &key->size);
    if (err) return err;
    if (fragment->hash && !fragment->hash_by_integer) key->hash = hash_bytes(key->bytes, key->size);
    return ERR_NONE;
}

struct primary_match {
    const struct fragment *fragment;
    const struct primary_key *key;
    const struct read_ahead *ahead; /* what is read when it matches; NULL: nothing */
};

/* Hints that the row, these columns of it, will be read. */
static inline void row_fetch(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                             uint32_t count)
{
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    __builtin_prefetch(&page_live(page)[slot / 64]);
    for (uint32_t i = 0; i < count; i++)
        __builtin_prefetch(page_raw(page, &fragment->layouts[columns[i]], slot));
}

static bool match_integer(const void *context, uint32_t row)
{
    const struct primary_match *match = context;
    uint16_t column = match->fragment->table->indexes[0].columns[0];
    return row_value(match->fragment, row, column).u == match->key->values[0].u;
}

static bool match_u64(const void *context, uint32_t row)
{
    const struct primary_match *match = context;
    const struct fragment *fragment = match->fragment;
    uint16_t column = fragment->indexes[0]->columns[0];
    const struct page *page = row_page(fragment, row);
    /* A candidate is nearly always the row: what is read of it is fetched while the key is. */
    if (match->ahead) row_fetch(fragment, row, match->ahead->columns, match->ahead->count);
    uint64_t value;
    memcpy(&value, page_raw(page, &fragment->layouts[column], row_slot(row)), sizeof(value));
    return value == match->key->values[0].u;
}

static bool match_key(const void *context, uint32_t row)
{
    const struct primary_match *match = context;
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    uint32_t size = index_key_before(match->fragment->indexes[0], row, NULL, bytes);
    return size == match->key->size && memcmp(bytes, match->key->bytes, size) == 0;
}

/* Column by column, without making the row's key, unless there is text in it. */
static bool match_values(const void *context, uint32_t row)
{
    const struct primary_match *match = context;
    const struct index *primary = match->fragment->indexes[0];
    for (uint32_t i = 0; i < primary->column_count; i++) {
        struct value value = row_value(match->fragment, row, primary->columns[i]);
        if (value.kind == KIND_STR) return match_key(context, row);
        if (value.u != match->key->values[i].u) return false;
    }
    return true;
}

enum err primary_find(const struct fragment *fragment, const struct primary_key *key,
                      uint32_t *ret_row)
{
    return primary_find_ahead(fragment, key, NULL, ret_row);
}

enum err primary_find_ahead(const struct fragment *fragment, const struct primary_key *key,
                            const struct read_ahead *ahead, uint32_t *ret_row)
{
    struct index *primary = fragment->indexes[0];
    if (!fragment->hash) {
        primary->ahead = ahead;
        enum err err = btree_find(primary->tree, key->bytes, key->size, ret_row);
        primary->ahead = NULL;
        if (!err && ahead && ahead->count > 2)
            fragment_prefetch_row(fragment, *ret_row, ahead->columns, ahead->count);
        return err;
    }
    struct primary_match match = {.fragment = fragment, .key = key, .ahead = ahead};
    bool (*matches)(const void *, uint32_t) = match_values;
    if (fragment->hash_by_integer)
        matches =
            fragment->layouts[primary->columns[0]].form == FORM_U64 ? match_u64 : match_integer;
    return hash_index_find(fragment->hash, key->hash, matches, &match, ret_row);
}

bool primary_is_number(const struct fragment *fragment)
{
    return fragment->hash_by_integer && fragment->hash &&
           fragment->layouts[fragment->indexes[0]->columns[0]].form == FORM_U64;
}

static bool take_first(const void *context, uint32_t row)
{
    (void)context;
    (void)row;
    return true;
}

enum err primary_guess(const struct fragment *fragment, uint64_t key, const uint16_t *columns,
                       uint32_t count, uint32_t *ret_row)
{
    enum err err = hash_index_find(fragment->hash, hash_u64(key), take_first, NULL, ret_row);
    if (err) return err;
    row_fetch(fragment, *ret_row, fragment->indexes[0]->columns, 1);
    row_fetch(fragment, *ret_row, columns, count);
    return ERR_NONE;
}

enum err hash_find_normalized(const struct fragment *fragment, const uint8_t *bytes, uint32_t size,
                              uint32_t *ret_row)
{
    struct primary_key key = {.hash = 0};
    memcpy(key.bytes, bytes, size);
    key.size = size;
    struct primary_match match = {.fragment = fragment, .key = &key};
    uint64_t hash = hash_bytes(bytes, size);
    if (fragment->hash_by_integer) hash = hash_of_normalized(fragment, bytes);
    return hash_index_find(fragment->hash, hash, match_key, &match, ret_row);
}

static bool key_ready(const struct fragment *fragment, const struct value *key,
                      struct primary_key *ret_ready)
{
    const struct index *primary = fragment->indexes[0];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < primary->column_count; i++)
        if (fragment_fit(fragment, primary->columns[i], key[i], &values[i])) return false;
    return primary_key_make(fragment, values, ret_ready) == ERR_NONE;
}

void fragment_prefetch(const struct fragment *fragment, const struct value *key)
{
    struct primary_key ready;
    if (!key_ready(fragment, key, &ready)) return;
    if (fragment->hash)
        hash_index_prefetch(fragment->hash, ready.hash);
    else
        btree_prefetch(fragment->indexes[0]->tree, ready.bytes, ready.size);
}

enum err indexes_insert(struct fragment *fragment, uint32_t row, const struct primary_key *key,
                        uint32_t *ret_existing)
{
    struct index *primary = fragment->indexes[0];
    enum err err = ERR_NONE;
    if (primary->tree)
        err = btree_insert(primary->tree, key->bytes, key->size, row, true, ret_existing);
    if (err) return err;
    if (fragment->hash) {
        err = hash_index_insert(fragment->hash, key->hash, row);
        if (err) goto remove_primary;
    }
    uint32_t done = 1;
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    for (; done < fragment->index_count; done++) {
        const struct index *index = fragment->indexes[done];
        struct value values[SCHEMA_KEY_COLUMNS_MAX];
        uint32_t size;
        uint32_t other;
        key_values(index, row, NULL, values);
        err = key_normalize_fitted(fragment->table, index->columns, index->column_count, values,
                                   bytes, &size);
        if (!err) err = btree_insert(index->tree, bytes, size, row, false, &other);
        if (err) goto remove_secondary;
    }
    return ERR_NONE;

remove_secondary:
    while (--done > 0) {
        uint32_t size = index_key_before(fragment->indexes[done], row, NULL, bytes);
        index_drop(fragment->indexes[done], row, bytes, size, false);
    }
    if (fragment->hash) {
        enum err removed = hash_index_remove(fragment->hash, key->hash, row);
        ASSERT(removed == ERR_NONE);
    }
remove_primary:
    if (primary->tree) index_drop(primary, row, key->bytes, key->size, false);
    return err;
}

void indexes_remove(struct fragment *fragment, uint32_t row)
{
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    for (uint32_t i = 0; i < fragment->index_count; i++) {
        struct index *index = fragment->indexes[i];
        if (!index->tree) continue;
        uint32_t size = index_key_before(index, row, NULL, key);
        index_drop(index, row, key, size, false);
    }
    if (!fragment->hash) return;
    enum err err = hash_index_remove(fragment->hash, tree_hash_of(fragment, row), row);
    ASSERT(err == ERR_NONE);
}

/* The row's key when these columns have these values. */
static enum err changed_key(const struct index *index, uint32_t row, const uint16_t *columns,
                            const struct value *values, uint32_t count,
                            uint8_t key[SCHEMA_KEY_SIZE_MAX], uint32_t *ret_size)
{
    struct value mine[SCHEMA_KEY_COLUMNS_MAX];
    key_values(index, row, NULL, mine);
    for (uint32_t i = 0; i < index->column_count; i++)
        for (uint32_t j = 0; j < count; j++)
            if (columns[j] == index->columns[i]) mine[i] = values[j];
    return key_normalize_fitted(index->fragment->table, index->columns, index->column_count, mine,
                                key, ret_size);
}

enum err indexes_change(struct fragment *fragment, uint32_t row, const uint16_t *columns,
                        const struct value *values, uint32_t count, bool *ret_reused)
{
    struct column_set changed = {0};
    for (uint32_t i = 0; i < count; i++)
        column_set_add(&changed, columns[i]);
    *ret_reused = false;
    if (!column_set_meets(&changed, &fragment->indexed)) return ERR_NONE;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size;
    bool inserted[SCHEMA_INDEXES_MAX] = {false};
    bool reused = false;
    enum err err = ERR_NONE;
    uint32_t at = 1;
    for (; at < fragment->index_count; at++) {
        struct index *index = fragment->indexes[at];
        if (!column_set_meets(&changed, &index->column_set)) continue;
        err = changed_key(index, row, columns, values, count, key, &size);
        if (err) break;
        uint32_t other;
        err = btree_insert(index->tree, key, size, row, false, &other);
        inserted[at] = err == ERR_NONE;
        if (err == ERR_EXISTS) {
            reused = true;
            err = ERR_NONE;
        }
        if (err) break;
    }
    if (err) {
        while (--at > 0) {
            if (!inserted[at]) continue;
            struct index *index = fragment->indexes[at];
            enum err same = changed_key(index, row, columns, values, count, key, &size);
            ASSERT(same == ERR_NONE);
            index_drop(index, row, key, size, false);
        }
        return err;
    }
    *ret_reused = reused;
    return ERR_NONE;
}

/* Some version of the row, in place or before one of its changes, has this key. */
static bool key_is_used(const struct index *index, uint32_t row, const uint8_t *key,
                        uint32_t key_size)
{
    const struct fragment *fragment = index->fragment;
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    uint8_t other[SCHEMA_KEY_SIZE_MAX];
    key_values(index, row, NULL, values);
    uint32_t size = key_of_values(index, values, other);
    const struct page *page = row_page(fragment, row);
    uint32_t ref = page_undo(page)[row_slot(row)];
    for (;;) {
        if (size == key_size && memcmp(other, key, size) == 0) return true;
        bool changed = false;
        while (ref && !changed) {
            const struct undo *undo = undo_at(fragment->ldm, ref);
            if (undo->flags & UNDO_FRESH) return false;
            for (uint32_t i = 0; i < index->column_count; i++) {
                bool is_null;
                const uint8_t *raw = undo_column(undo, index->columns[i], &is_null);
                if (!raw) continue;
                values[i] = page_value(page, &fragment->layouts[index->columns[i]], raw, is_null);
                changed = true;
            }
            ref = undo->older;
        }
        if (!changed) return false;
        size = key_of_values(index, values, other);
    }
}

void index_drop(struct index *index, uint32_t row, const uint8_t *key, uint32_t key_size,
                bool may_share)
{
    if (may_share && key_is_used(index, row, key, key_size)) return;
    enum err err = btree_remove(index->tree, key, key_size, row);
    ASSERT(err == ERR_NONE);
}

/* ---- building from rows ---- */

/* Every used slot, live or dead: malloc'ed for the caller. */
static enum err rows_list(const struct fragment *fragment, uint32_t **ret_rows, uint64_t *ret_count)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < fragment->page_count; i++)
        count += fragment->pages[i].used_count;
    uint32_t *rows = malloc((count ? count : 1) * sizeof(*rows));
    if (!rows) return ERR_NO_MEMORY;
    uint64_t at = 0;
    for (uint32_t i = 0; i < fragment->page_count; i++) {
        const struct page *page = &fragment->pages[i];
        for (uint32_t slot = 0; page->used_count && slot < FRAGMENT_PAGE_ROWS; slot++)
            if (page_is_live(page, slot) || page_undo(page)[slot])
                rows[at++] = i << PAGE_SHIFT | slot;
    }
    ASSERT(at == count);
    *ret_rows = rows;
    *ret_count = count;
    return ERR_NONE;
}

/* Values that are there already may have no key: too many zero bytes to escape. */
static enum err keys_check(const struct index *index, const uint32_t *rows, uint64_t count)
{
    bool has_var = false;
    for (uint32_t i = 0; i < index->column_count; i++)
        has_var |= index->fragment->layouts[index->columns[i]].form == FORM_VAR;
    if (!has_var) return ERR_NONE;
    const struct fragment *fragment = index->fragment;
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t size;
    for (uint64_t i = 0; i < count; i++) {
        const struct undo *undo = NULL;
        uint32_t ref = page_undo(row_page(fragment, rows[i]))[row_slot(rows[i])];
        for (;;) {
            key_values(index, rows[i], undo, values);
            enum err err = key_normalize_fitted(fragment->table, index->columns,
                                                index->column_count, values, key, &size);
            if (err) return err;
            if (!ref) break;
            undo = undo_at(fragment->ldm, ref);
            if (undo->flags & UNDO_FRESH) break;
            ref = undo->older;
        }
    }
    return ERR_NONE;
}

/* Entries of versions before the rows' changes. A key that is there already marks the row's changes
 * as reusing, as indexes_change would have. */
static enum err old_versions_insert(struct index *index, uint32_t row)
{
    struct fragment *fragment = index->fragment;
    struct ldm *ldm = fragment->ldm;
    uint8_t key[SCHEMA_KEY_SIZE_MAX];
    uint32_t head = page_undo(row_page(fragment, row))[row_slot(row)];
    bool reused = false;
    for (uint32_t ref = head; ref;) {
        const struct undo *undo = undo_at(ldm, ref);
        if (undo->flags & UNDO_FRESH) break;
        struct column_set changed = undo_columns(undo);
        ref = undo->older;
        if (!column_set_meets(&changed, &index->column_set)) continue;
        uint32_t size = index_key_before(index, row, undo, key);
        uint32_t other;
        enum err err = btree_insert(index->tree, key, size, row, false, &other);
        if (err == ERR_EXISTS)
            reused = true;
        else if (err)
            return err;
    }
    for (uint32_t ref = head; reused && ref;) {
        struct undo *undo = undo_at(ldm, ref);
        if (!(undo->flags & UNDO_REUSED)) fragment->reused_count++;
        undo->flags |= UNDO_REUSED;
        ref = undo->older;
    }
    return ERR_NONE;
}

enum err index_build(struct index *index)
{
    const struct fragment *fragment = index->fragment;
    uint32_t *rows;
    uint64_t count;
    enum err err = rows_list(fragment, &rows, &count);
    if (err) return err;
    if (!index->is_primary) err = keys_check(index, rows, count);
    if (!err && count) err = btree_build(index->tree, rows, count, index->is_primary);
    /* The build reordered the rows, which does not matter here. */
    for (uint64_t i = 0; !err && !index->is_primary && i < count; i++)
        if (row_page(fragment, rows[i])->undo_count) err = old_versions_insert(index, rows[i]);
    free(rows);
    return err;
}

static enum err hash_insert_unique(struct fragment *fragment, uint32_t row, uint64_t hash)
{
    const struct index_def *primary = &fragment->table->indexes[0];
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < primary->column_count; i++)
        values[i] = row_value(fragment, row, primary->columns[i]);
    struct primary_key key;
    uint32_t existing;
    enum err err = primary_key_make(fragment, values, &key);
    ASSERT(err == ERR_NONE && key.hash == hash);
    if (primary_find(fragment, &key, &existing) == ERR_NONE) return ERR_EXISTS;
    return hash_index_insert(fragment->hash, hash, row);
}

enum err hash_build(struct fragment *fragment)
{
    uint32_t *rows;
    uint64_t count;
    enum err err = rows_list(fragment, &rows, &count);
    if (err) return err;
    err = hash_index_reserve(fragment->hash, count);
    for (uint64_t i = 0; !err && i < count; i += HASH_BATCH) {
        uint64_t hashes[HASH_BATCH];
        uint32_t batch = count - i < HASH_BATCH ? (uint32_t)(count - i) : HASH_BATCH;
        for (uint32_t j = 0; j < batch; j++) {
            hashes[j] = tree_hash_of(fragment, rows[i + j]);
            hash_index_prefetch(fragment->hash, hashes[j]);
        }
        for (uint32_t j = 0; !err && j < batch; j++)
            err = hash_insert_unique(fragment, rows[i + j], hashes[j]);
    }
    free(rows);
    return err;
}
