/* Variable parts of a page's rows: a heap of bytes, and blobs beside it.
 *
 * A reference, 32 bits, is what a page (or an undo record) holds for a variable column:
 *
 *   bits 0..10    size, up to VAR_INLINE_SIZE_MAX; 2047: a blob
 *   bits 11..31   offset in the heap, or the blob's number; 0 for the empty string and NULL
 *
 * Every reference owns its bytes. Changing a value moves the old reference into the undo record, so
 * that a rollback only moves it back and can never lack space. Freed bytes are garbage until the
 * heap is next rebuilt, which finds all references in the page's used slots and in their undo
 * records.
 *
 * A heap that must grow or be rebuilt goes into new memory; the old one is handed to the caller,
 * who may still hold values borrowed from it. A heap grows by half while its page fills, and by
 * what the page's free slots will need and a sixteenth afterwards, so that a full page whose rows
 * come and go is not rebuilt for each; a page that becomes full gives back most of what it does not
 * use. Values over VAR_INLINE_SIZE_MAX, and those a heap of HEAP_SIZE_MAX has no room for, are
 * blobs of their own. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

enum {
    REF_SIZE_BITS = 11,
    REF_SIZE_MASK = (1 << REF_SIZE_BITS) - 1,
    REF_BLOB = REF_SIZE_MASK,
    HEAP_SIZE_MIN = 64,
    SLACK_PARTS = 16,
};
_Static_assert((int)VAR_INLINE_SIZE_MAX < (int)REF_BLOB, "sizes are told from the blob mark");
_Static_assert((uint64_t)HEAP_SIZE_MAX << REF_SIZE_BITS <= UINT64_C(1) << 32, "offsets fit");
_Static_assert((uint64_t)BLOBS_MAX << REF_SIZE_BITS <= UINT64_C(1) << 32, "blob numbers fit");

const uint8_t *page_var(const struct page *page, uint32_t ref, uint32_t *ret_size)
{
    uint32_t size = ref & REF_SIZE_MASK;
    uint32_t at = ref >> REF_SIZE_BITS;
    if (__builtin_expect(size == REF_BLOB, 0)) {
        *ret_size = page->blobs[at]->size;
        return page->blobs[at]->bytes;
    }
    *ret_size = size;
    /* A page of empty values has no heap. */
    return size ? page->heap + at : (const uint8_t *)"";
}

void page_var_free(struct fragment *fragment, struct page *page, uint32_t ref)
{
    uint32_t size = ref & REF_SIZE_MASK;
    if (size != REF_BLOB) {
        page->heap_garbage += size;
        return;
    }
    uint32_t at = ref >> REF_SIZE_BITS;
    mem_free(&fragment->ldm->memory.pages, page->blobs[at]);
    page->blobs[at] = NULL;
    page->blob_count--;
}

void page_heap_fini(struct fragment *fragment, struct page *page)
{
    uint64_t *counter = &fragment->ldm->memory.pages;
    for (uint32_t i = 0; i < page->blob_capacity; i++)
        mem_free(counter, page->blobs[i]);
    mem_free(counter, page->blobs);
    pooled_free(&fragment->ldm->pages, counter, page->heap, page->heap_capacity);
    page->heap = NULL;
    page->blobs = NULL;
    page->heap_size = 0;
    page->heap_capacity = 0;
    page->heap_garbage = 0;
    page->blob_capacity = 0;
    page->blob_count = 0;
}

/* ---- finding every reference of a page ---- */

struct ref_visit {
    const struct fragment *fragment;
    const struct page *page;
    void (*each)(struct ref_visit *visit, uint8_t *raw);
    uint8_t *heap;  /* heap_rebuild: where bytes go */
    uint32_t size;  /* heap_rebuild: bytes there; verify: inline bytes met */
    uint32_t blobs; /* verify: blobs met */
    bool damaged;
};

static void visit_undo(struct ref_visit *visit, uint32_t ref)
{
    const struct column_layout *layouts = visit->fragment->layouts;
    while (ref) {
        struct undo *undo = undo_at(visit->fragment->ldm, ref);
        uint8_t *at = undo->data;
        for (uint32_t i = 0; i < undo->column_count; i++) {
            const struct column_layout *layout = &layouts[at[0]];
            if (layout->form == FORM_VAR && !at[1]) visit->each(visit, at + 2);
            at += 2 + layout->width;
        }
        ref = undo->older;
    }
}

static void visit_refs(struct ref_visit *visit)
{
    const struct fragment *fragment = visit->fragment;
    const struct page *page = visit->page;
    const uint32_t *undo = page_undo(page);
    for (uint32_t word = 0; word < PAGE_WORDS; word++) {
        uint64_t used = page_live(page)[word];
        for (uint32_t i = 0; page->undo_count && i < 64; i++)
            used |= (uint64_t)(undo[word * 64 + i] != 0) << i;
        for (; used; used &= used - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(used);
            for (uint32_t i = 0; i < fragment->var_count; i++) {
                const struct column_layout *layout = &fragment->layouts[fragment->var_columns[i]];
                if (!page_is_null(page, layout, slot))
                    visit->each(visit, page_raw(page, layout, slot));
            }
            visit_undo(visit, undo[slot]);
        }
    }
}

/* ---- growing ---- */

static void move_ref(struct ref_visit *visit, uint8_t *raw)
{
    uint32_t ref;
    memcpy(&ref, raw, sizeof(ref));
    uint32_t size = ref & REF_SIZE_MASK;
    if (size == 0 || size == REF_BLOB) return;
    memcpy(visit->heap + visit->size, visit->page->heap + (ref >> REF_SIZE_BITS), size);
    ref = visit->size << REF_SIZE_BITS | size;
    memcpy(raw, &ref, sizeof(ref));
    visit->size += size;
}

/* New memory of this capacity for the heap, without garbage when that is worth the walk. */
static enum err heap_move(struct fragment *fragment, struct page *page, uint32_t capacity,
                          struct old_heap *ret_old)
{
    struct ldm *ldm = fragment->ldm;
    capacity = (uint32_t)pooled_size(capacity);
    if (capacity > page->heap_capacity) {
        enum err err = ldm_check_space(ldm, capacity - page->heap_capacity);
        if (err) return err;
    }
    uint8_t *heap = pooled_alloc(&ldm->pages, &ldm->memory.pages, capacity);
    if (!heap) return ERR_NO_MEMORY;
    if (page->heap_garbage) {
        struct ref_visit visit = {
            .fragment = fragment, .page = page, .each = move_ref, .heap = heap};
        visit_refs(&visit);
        ASSERT(visit.size == page->heap_size - page->heap_garbage);
        page->heap_size = visit.size;
        page->heap_garbage = 0;
    } else if (page->heap_size) {
        memcpy(heap, page->heap, page->heap_size);
    }
    *ret_old = (struct old_heap){.bytes = page->heap, .capacity = page->heap_capacity};
    page->heap = heap;
    page->heap_capacity = capacity;
    return ERR_NONE;
}

/* Room for size more bytes. False when only blobs are left, because the heap may not grow so far.
 */
static enum err heap_reserve(struct fragment *fragment, struct page *page, uint32_t size,
                             struct old_heap *ret_old, bool *ret_room)
{
    *ret_room = true;
    if (page->heap_capacity - page->heap_size >= size) return ERR_NONE;
    uint32_t used = page->heap_size - page->heap_garbage;
    uint32_t need = used + size;
    if (need > HEAP_SIZE_MAX) {
        *ret_room = false;
        return ERR_NONE;
    }
    uint32_t slots_left = FRAGMENT_PAGE_ROWS - page->used_count;
    uint32_t slack = slots_left > FRAGMENT_PAGE_ROWS / 4
                         ? need / 2
                         : need / SLACK_PARTS + need * slots_left / FRAGMENT_PAGE_ROWS;
    uint32_t capacity = (need + slack + HEAP_SIZE_MIN - 1) & ~(uint32_t)(HEAP_SIZE_MIN - 1);
    if (capacity > HEAP_SIZE_MAX) capacity = HEAP_SIZE_MAX;
    return heap_move(fragment, page, capacity, ret_old);
}

static enum err blob_number(struct fragment *fragment, struct page *page, uint32_t *ret_number)
{
    if (page->blob_count == page->blob_capacity) {
        if (page->blob_capacity == BLOBS_MAX) return ERR_NO_SPACE;
        uint32_t capacity = page->blob_capacity ? page->blob_capacity * 2 : 4;
        struct blob **blobs =
            mem_realloc(&fragment->ldm->memory.pages, page->blobs, capacity * sizeof(*page->blobs));
        if (!blobs) return ERR_NO_MEMORY;
        memset(blobs + page->blob_capacity, 0,
               (capacity - page->blob_capacity) * sizeof(*page->blobs));
        page->blobs = blobs;
        *ret_number = page->blob_capacity;
        page->blob_capacity = capacity;
        return ERR_NONE;
    }
    uint32_t number = 0;
    while (page->blobs[number])
        number++;
    *ret_number = number;
    return ERR_NONE;
}

static enum err blob_put(struct fragment *fragment, struct page *page, struct value value,
                         uint32_t *ret_ref)
{
    size_t size = sizeof(struct blob) + value.size;
    enum err err = ldm_check_space(fragment->ldm, size);
    if (err) return err;
    uint32_t number;
    err = blob_number(fragment, page, &number);
    if (err) return err;
    struct blob *blob = mem_alloc(&fragment->ldm->memory.pages, size);
    if (!blob) return ERR_NO_MEMORY;
    blob->size = value.size;
    memcpy(blob->bytes, value.bytes, value.size);
    page->blobs[number] = blob;
    page->blob_count++;
    *ret_ref = number << REF_SIZE_BITS | REF_BLOB;
    return ERR_NONE;
}

static bool is_var(const struct fragment *fragment, uint16_t column, struct value value)
{
    return fragment->layouts[column].form == FORM_VAR && value.kind != KIND_NULL;
}

enum err page_vars_put(struct fragment *fragment, struct page *page, const uint16_t *columns,
                       const struct value *values, uint32_t count, uint32_t *ret_refs,
                       struct old_heap *ret_old)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        if (is_var(fragment, columns[i], values[i]) && values[i].size <= VAR_INLINE_SIZE_MAX)
            size += values[i].size;
    bool room;
    struct old_heap old = {0};
    enum err err = heap_reserve(fragment, page, size, &old, &room);
    if (err) return err;
    uint32_t i;
    for (i = 0; i < count; i++) {
        ret_refs[i] = 0;
        if (!is_var(fragment, columns[i], values[i]) || values[i].size == 0) continue;
        if (values[i].size > VAR_INLINE_SIZE_MAX || !room) {
            err = blob_put(fragment, page, values[i], &ret_refs[i]);
            if (err) goto free_refs;
            continue;
        }
        memcpy(page->heap + page->heap_size, values[i].bytes, values[i].size);
        ret_refs[i] = page->heap_size << REF_SIZE_BITS | values[i].size;
        page->heap_size += values[i].size;
    }
    *ret_old = old;
    return ERR_NONE;

free_refs:
    while (i--)
        page_var_free(fragment, page, ret_refs[i]);
    old_heap_free(fragment, &old);
    return err;
}

void old_heap_free(struct fragment *fragment, struct old_heap *old)
{
    struct ldm *ldm = fragment->ldm;
    pooled_free(&ldm->pages, &ldm->memory.pages, old->bytes, old->capacity);
    *old = (struct old_heap){0};
}

void page_heap_shrink(struct fragment *fragment, struct page *page)
{
    uint32_t slack = page->heap_capacity - page->heap_size;
    if (slack < HEAP_SIZE_MIN || slack <= page->heap_size / SLACK_PARTS * 2) return;
    struct ldm *ldm = fragment->ldm;
    uint32_t capacity = (uint32_t)pooled_size(page->heap_size);
    if (capacity >= page->heap_capacity) return;
    uint8_t *heap = NULL;
    if (capacity) {
        heap = pooled_alloc(&ldm->pages, &ldm->memory.pages, capacity);
        if (!heap) return;
        memcpy(heap, page->heap, page->heap_size);
    }
    pooled_free(&ldm->pages, &ldm->memory.pages, page->heap, page->heap_capacity);
    page->heap = heap;
    page->heap_capacity = capacity;
}

/* ---- verification ---- */

static void check_ref(struct ref_visit *visit, uint8_t *raw)
{
    uint32_t ref;
    memcpy(&ref, raw, sizeof(ref));
    uint32_t size = ref & REF_SIZE_MASK;
    uint32_t at = ref >> REF_SIZE_BITS;
    if (size == REF_BLOB) {
        if (at >= visit->page->blob_capacity || !visit->page->blobs[at]) visit->damaged = true;
        visit->blobs++;
        return;
    }
    if (size > VAR_INLINE_SIZE_MAX || (uint64_t)at + size > visit->page->heap_size)
        visit->damaged = true;
    visit->size += size;
}

enum err page_heap_verify(const struct fragment *fragment, uint32_t number, struct diag *diag)
{
    const struct page *page = &fragment->pages[number];
    struct ref_visit visit = {.fragment = fragment, .page = page, .each = check_ref};
    visit_refs(&visit);
    if (visit.damaged)
        return diag_set(diag, ERR_CORRUPT, "page %u: a reference points outside the heap", number);
    if (visit.size != page->heap_size - page->heap_garbage)
        return diag_set(diag, ERR_CORRUPT, "page %u: %u heap bytes in use, counted %u", number,
                        visit.size, page->heap_size - page->heap_garbage);
    if (visit.blobs != page->blob_count)
        return diag_set(diag, ERR_CORRUPT, "page %u: %u blobs in use, counted %u", number,
                        visit.blobs, page->blob_count);
    return ERR_NONE;
}
