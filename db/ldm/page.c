/* PAX pages: where columns lie, which slots are free, values to bytes and back.
 *
 * A page's memory is one block (struct page in ldm.h states its layout) for FRAGMENT_PAGE_ROWS
 * rows; it exists only while the page has a row. A fragment fills its pages through two lists:
 * pages with a free slot, and pages without memory. A page leaves the free list only at its head,
 * so the list may hold pages that lost their memory since; they move over when met.
 *
 * A column lies alone, all its values side by side, which is best for scans; or, as its definition
 * says, beside the columns before it, row by row, each row's values within one cache line, which is
 * best for reading one row of many.
 *
 * Columns of the same width follow each other with a cache line between, or the values of one row,
 * 4 KiB apart, would all compete for one set of the first-level cache.
 *
 * A NULL's bytes in a page are zero, so comparing bytes and null bits compares values. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

#include "db/wire/schema.h"

enum { CACHE_LINE = 64, COLUMN_SKEW = CACHE_LINE, FIRST_PAGES = 4 };

static uint8_t form_of(const struct column_def *column)
{
    switch ((enum column_type)column->type) {
    case TYPE_TINYINT:
        return FORM_I8;
    case TYPE_SMALLINT:
        return FORM_I16;
    case TYPE_INT:
    case TYPE_DATE:
        return FORM_I32;
    case TYPE_BIGINT:
    case TYPE_DECIMAL:
    case TYPE_DATETIME:
    case TYPE_TIMESTAMP:
        return FORM_I64;
    case TYPE_TINYINT_UNSIGNED:
        return FORM_U8;
    case TYPE_SMALLINT_UNSIGNED:
        return FORM_U16;
    case TYPE_INT_UNSIGNED:
        return FORM_U32;
    case TYPE_BIGINT_UNSIGNED:
        return FORM_U64;
    case TYPE_FLOAT:
        return FORM_F32;
    case TYPE_DOUBLE:
        return FORM_F64;
    case TYPE_BINARY:
        return FORM_BINARY;
    case TYPE_CHAR:
    case TYPE_VARCHAR:
    case TYPE_VARBINARY:
    case TYPE_TEXT:
    case TYPE_BLOB:
        return FORM_VAR;
    }
    return FORM_VAR;
}

static void layout_fill(const struct column_def *column, struct column_layout *layout)
{
    uint32_t width = column_width(column);
    layout->form = form_of(column);
    layout->kind = (uint8_t)column_kind(column);
    layout->scale = column->type == TYPE_DECIMAL ? column->scale : 0;
    layout->width = (uint16_t)(width ? width : sizeof(uint32_t));
    if (layout->form <= FORM_U64) layout->shift = (uint8_t)(64 - 8 * width);
    layout->mask = UINT64_MAX >> layout->shift;
    if (layout->form < FORM_I64) layout->sign = UINT64_C(1) << (8 * width - 1);
    layout->head = (struct value){.kind = layout->kind, .scale = layout->scale};
    layout->is_plain = column->type >= TYPE_TINYINT && column->type <= TYPE_BIGINT_UNSIGNED;
    if (!layout->is_plain) return;
    uint32_t bits = 8 * width;
    layout->span = UINT64_MAX >> (64 - bits);
    if (layout->kind == KIND_I64) layout->min = 0 - (UINT64_C(1) << (bits - 1));
}

/* Widest first, so that each column is aligned; BINARY columns, of any width, last. */
static uint32_t layout_rank(const struct column_layout *layout)
{
    if (layout->form == FORM_BINARY) return 4;
    return layout->width == 8 ? 0 : layout->width == 4 ? 1 : layout->width == 2 ? 2 : 3;
}

/* Columns [first, end) beside each other from offset on; returns what they take. A row takes a
 * power of two, so that none crosses the end of a cache line. */
static uint32_t beside_place(struct fragment *fragment, uint32_t first, uint32_t end,
                             uint32_t offset)
{
    uint32_t size = 0, stride = 1;
    for (uint32_t rank = 0; rank <= 3; rank++) {
        for (uint32_t i = first; i < end; i++) {
            if (layout_rank(&fragment->layouts[i]) != rank) continue;
            fragment->layouts[i].offset = offset + size;
            size += fragment->layouts[i].width;
        }
    }
    while (stride < size)
        stride *= 2;
    ASSERT(stride <= CACHE_LINE);
    for (uint32_t i = first; i < end; i++)
        fragment->layouts[i].stride = (uint16_t)stride;
    return FRAGMENT_PAGE_ROWS * stride + COLUMN_SKEW;
}

/* Gives each column its place from offset on; returns where they end. */
static uint32_t columns_place(struct fragment *fragment, uint32_t offset)
{
    const struct column_def *columns = fragment->table->columns;
    offset = (offset + CACHE_LINE - 1) & ~(uint32_t)(CACHE_LINE - 1);
    for (uint32_t first = 0, end; first < fragment->column_count; first = end) {
        for (end = first + 1; end < fragment->column_count && columns[end].beside;)
            end++;
        if (end - first > 1) offset += beside_place(fragment, first, end, offset);
    }
    for (uint32_t rank = 0; rank <= 4; rank++) {
        for (uint32_t i = 0; i < fragment->column_count; i++) {
            struct column_layout *layout = &fragment->layouts[i];
            if (layout->stride || layout_rank(layout) != rank) continue;
            layout->offset = offset;
            layout->stride = layout->width;
            offset += FRAGMENT_PAGE_ROWS * (uint32_t)layout->width;
            if (layout->width >= 4) offset += COLUMN_SKEW;
        }
    }
    return offset;
}

enum err fragment_layout(struct fragment *fragment)
{
    const struct table_def *table = fragment->table;
    uint64_t *counter = &fragment->ldm->memory.other;
    fragment->column_count = table->column_count;
    fragment->layouts = mem_zalloc(counter, table->column_count * sizeof(*fragment->layouts));
    if (!fragment->layouts) return ERR_NO_MEMORY;
    uint32_t offset = FRAGMENT_PAGE_ROWS * sizeof(uint32_t) + PAGE_WORDS * sizeof(uint64_t);
    for (uint32_t i = 0; i < table->column_count; i++) {
        struct column_layout *layout = &fragment->layouts[i];
        layout_fill(&table->columns[i], layout);
        if (layout->form == FORM_VAR) fragment->var_columns[fragment->var_count++] = (uint16_t)i;
        layout->is_word = layout->form <= FORM_F64 && !table->columns[i].nullable;
        if (!table->columns[i].nullable) continue;
        layout->null_offset = offset;
        offset += PAGE_WORDS * (uint32_t)sizeof(uint64_t);
    }
    /* Numbers of any width are read as 8 bytes. */
    offset = columns_place(fragment, offset) + (uint32_t)sizeof(uint64_t);
    fragment->page_size = (offset + CACHE_LINE - 1) & ~(uint32_t)(CACHE_LINE - 1);
    return ERR_NONE;
}

static void list_push(struct fragment *fragment, uint32_t number, enum page_list list)
{
    struct page *page = &fragment->pages[number];
    uint32_t *head = list == PAGE_LIST_FREE ? &fragment->free_page : &fragment->empty_page;
    page->list = (uint8_t)list;
    page->list_next = *head;
    *head = number;
}

static void list_pop(struct fragment *fragment, enum page_list list)
{
    uint32_t *head = list == PAGE_LIST_FREE ? &fragment->free_page : &fragment->empty_page;
    struct page *page = &fragment->pages[*head];
    page->list = PAGE_LIST_NONE;
    *head = page->list_next;
}

static enum err page_map(struct fragment *fragment, struct page *page)
{
    struct ldm *ldm = fragment->ldm;
    enum err err = ldm_check_space(ldm, fragment->page_size);
    if (err) return err;
    page->bytes = page_pool_alloc(&ldm->pages, fragment->page_size, &ldm->memory.pages);
    if (!page->bytes) return ERR_NO_MEMORY;
    /* Undo references, live bits and null bits; the columns are written before they are read. */
    size_t size = FRAGMENT_PAGE_ROWS * sizeof(uint32_t) + PAGE_WORDS * sizeof(uint64_t);
    memset(page->bytes, 0, size);
    for (uint32_t i = 0; i < fragment->column_count; i++)
        if (fragment->layouts[i].null_offset)
            memset(page_nulls(page, &fragment->layouts[i]), 0, PAGE_WORDS * sizeof(uint64_t));
    page->free_word = 0;
    return ERR_NONE;
}

static void page_unmap(struct fragment *fragment, struct page *page)
{
    ASSERT_SLOW(page->used_count == 0 && page->undo_count == 0);
    page_heap_fini(fragment, page);
    page_pool_free(&fragment->ldm->pages, page->bytes, fragment->page_size,
                   &fragment->ldm->memory.pages);
    page->bytes = NULL;
}

enum err fragment_page_add(struct fragment *fragment, uint32_t *ret_page)
{
    if (fragment->page_count == UINT32_MAX >> PAGE_SHIFT) return ERR_NO_SPACE;
    if (fragment->page_count == fragment->page_capacity) {
        uint32_t capacity = fragment->page_capacity ? fragment->page_capacity / 2 * 3 : FIRST_PAGES;
        struct page *pages = mem_realloc(&fragment->ldm->memory.pages, fragment->pages,
                                         (size_t)capacity * sizeof(*pages));
        if (!pages) return ERR_NO_MEMORY;
        fragment->pages = pages;
        fragment->page_capacity = capacity;
    }
    struct page *page = &fragment->pages[fragment->page_count];
    *page = (struct page){.list = PAGE_LIST_NONE};
    enum err err = page_map(fragment, page);
    if (err) return err;
    *ret_page = fragment->page_count++;
    return ERR_NONE;
}

void fragment_page_settle(struct fragment *fragment, uint32_t number)
{
    struct page *page = &fragment->pages[number];
    if (page->used_count == 0 && page->bytes) {
        page_unmap(fragment, page);
        if (page->list == PAGE_LIST_NONE) list_push(fragment, number, PAGE_LIST_EMPTY);
    } else if (page->used_count < FRAGMENT_PAGE_ROWS && page->list == PAGE_LIST_NONE) {
        list_push(fragment, number, PAGE_LIST_FREE);
    }
}

/* A page with memory and a free slot, at the head of the free list. */
static enum err free_page_find(struct fragment *fragment, struct page **ret_page)
{
    while (fragment->free_page != PAGE_NONE) {
        uint32_t number = fragment->free_page;
        struct page *page = &fragment->pages[number];
        if (page->bytes && page->used_count < FRAGMENT_PAGE_ROWS) {
            *ret_page = page;
            return ERR_NONE;
        }
        list_pop(fragment, PAGE_LIST_FREE);
        if (!page->bytes) list_push(fragment, number, PAGE_LIST_EMPTY);
    }
    enum err err;
    uint32_t number = fragment->empty_page;
    if (number != PAGE_NONE) {
        err = page_map(fragment, &fragment->pages[number]);
        if (err) return err;
        list_pop(fragment, PAGE_LIST_EMPTY);
    } else {
        err = fragment_page_add(fragment, &number);
        if (err) return err;
    }
    list_push(fragment, number, PAGE_LIST_FREE);
    *ret_page = &fragment->pages[number];
    return ERR_NONE;
}

enum err fragment_slot_find(struct fragment *fragment, uint32_t *ret_row)
{
    struct page *page;
    enum err err = free_page_find(fragment, &page);
    if (err) return err;
    const uint32_t *undo = page_undo(page);
    for (uint32_t word = page->free_word; word < PAGE_WORDS; word++) {
        uint64_t bits = ~page_live(page)[word];
        while (bits) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (!undo[slot]) {
                page->free_word = (uint8_t)word;
                *ret_row = (uint32_t)(page - fragment->pages) << PAGE_SHIFT | slot;
                return ERR_NONE;
            }
            bits &= bits - 1;
        }
    }
    ASSERT(page->used_count == FRAGMENT_PAGE_ROWS);
    return ERR_NO_MEMORY;
}

void fragment_slot_use(struct fragment *fragment, uint32_t row)
{
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    page_live(page)[slot / 64] |= UINT64_C(1) << (slot % 64);
    if (++page->used_count < FRAGMENT_PAGE_ROWS) return;
    if (fragment->free_page == row >> PAGE_SHIFT) list_pop(fragment, PAGE_LIST_FREE);
    page_heap_shrink(fragment, page);
}

void fragment_slot_free(struct fragment *fragment, uint32_t row)
{
    struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    ASSERT_SLOW(!page_is_live(page, slot) && !page_undo(page)[slot]);
    page->used_count--;
    if (page->free_word > slot / 64) page->free_word = (uint8_t)(slot / 64);
    fragment_page_settle(fragment, row >> PAGE_SHIFT);
}

void fragment_pages_destroy(struct fragment *fragment)
{
    for (uint32_t i = 0; i < fragment->page_count; i++) {
        struct page *page = &fragment->pages[i];
        if (!page->bytes) continue;
        page_heap_fini(fragment, page);
        page_pool_free(&fragment->ldm->pages, page->bytes, fragment->page_size,
                       &fragment->ldm->memory.pages);
    }
    mem_free(&fragment->ldm->memory.pages, fragment->pages);
    fragment->pages = NULL;
    fragment->page_count = 0;
    fragment->page_capacity = 0;
}

/* Of a number or a reference: calls of memcpy for so few bytes would be most of the work. */
static inline void raw_copy(uint32_t width, const uint8_t *from, uint8_t *to)
{
    switch (width) {
    case 8:
        memcpy(to, from, 8);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    default:
        memcpy(to, from, width);
        break;
    }
}

void raw_store_slow(const struct column_layout *layout, struct value value, uint8_t *raw)
{
    if (layout->form == FORM_F32) {
        float narrow = (float)value.f;
        memcpy(raw, &narrow, sizeof(narrow));
        return;
    }
    ASSERT(layout->form == FORM_BINARY);
    /* memmove: the value may be borrowed from these very bytes. */
    if (value.size) memmove(raw, value.bytes, value.size);
    memset(raw + value.size, 0, layout->width - value.size);
}

/* count values of this width, each so many bytes after the one before. */
static void raws_copy(uint32_t width, uint32_t count, const uint8_t *from, uint32_t from_step,
                      uint8_t *to, uint32_t to_step)
{
    if (from_step == to_step) {
        memcpy(to, from, (size_t)count * width);
        return;
    }
    for (uint32_t i = 0; i < count; i++, from += from_step, to += to_step)
        raw_copy(width, from, to);
}

void raws_read(const struct column_layout *layout, const uint8_t *raw, uint32_t count, uint8_t *out)
{
    raws_copy(layout->width, count, raw, layout->stride, out, layout->width);
}

void raws_write(const struct column_layout *layout, const uint8_t *in, uint32_t count, uint8_t *raw)
{
    raws_copy(layout->width, count, in, layout->width, raw, layout->stride);
}

void raws_clear(const struct column_layout *layout, uint32_t count, uint8_t *raw)
{
    for (uint32_t i = 0; i < count; i++, raw += layout->stride)
        memset(raw, 0, layout->width);
}

uint32_t fragment_page_count(const struct fragment *fragment)
{
    return fragment->page_count;
}

struct value fragment_value(const struct fragment *fragment, uint32_t row, uint16_t column)
{
    return row_value(fragment, row, column);
}

bool fragment_values(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                     uint32_t count, struct value *values)
{
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    bool strings = false;
    const uint8_t *bytes = page->bytes;
    const struct column_layout *layouts = fragment->layouts;
    for (uint32_t i = 0; i < count; i++) {
        const struct column_layout *layout = &layouts[columns[i]];
        const uint8_t *raw = bytes + layout->offset + (size_t)slot * layout->stride;
        if (__builtin_expect(!layout->is_word, 0)) {
            values[i] = page_value(page, layout, raw, page_is_null(page, layout, slot));
            strings |= values[i].kind == KIND_STR;
            continue;
        }
        uint64_t bits;
        memcpy(&bits, raw, sizeof(bits));
        memcpy(&values[i], &layout->head, sizeof(values[i]));
        values[i].u = ((bits & layout->mask) ^ layout->sign) - layout->sign;
    }
    return strings;
}

void fragment_prefetch_row(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                           uint32_t count)
{
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    for (uint32_t i = 0; i < count; i++)
        __builtin_prefetch(page_raw(page, &fragment->layouts[columns[i]], slot));
}

void fragment_prefetch_parts(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                             uint32_t count)
{
    const struct page *page = row_page(fragment, row);
    uint32_t slot = row_slot(row);
    for (uint32_t i = 0; i < count; i++) {
        const struct column_layout *layout = &fragment->layouts[columns[i]];
        if (layout->form != FORM_VAR || page_is_null(page, layout, slot)) continue;
        uint32_t ref;
        uint32_t size;
        memcpy(&ref, page_raw(page, layout, slot), sizeof(ref));
        const uint8_t *bytes = page_var(page, ref, &size);
        __builtin_prefetch(bytes);
        if (size) __builtin_prefetch(bytes + size - 1);
    }
}
