/* The rows of a page as bytes, for checkpoints; and loading them again.
 *
 *   varint   row count, 0..512; nothing follows 0
 *   varint   column count
 *   each column:
 *     u8       type (enum column_type), bit 7: nullable
 *     nullable: one bit a row, NULL is 1, least significant first, in whole bytes, the rest zero
 *     fixed:    row count values of the type's width, little-endian; NULL is zero bytes
 *     BINARY:   u8 width, then as fixed
 *     DECIMAL:  u8 scale, then as fixed
 *     variable: row count varint sizes (NULL is 0), then the bytes of all
 *
 * Rows are as of one timestamp, in the order of their slots; which slot they had is not kept.
 * Loading fills pages from front to back, so that a store is dense after a restart, and checks
 * every value as an insert would, but leaves the indexes to fragment_load_end. A column that the
 * table has and the block does not is NULL. Loading is not bound by the memory limit: what was
 * acknowledged must be readable. */
#include "db/ldm/ldm.h"

#include "db/wire/schema.h"

enum { TYPE_NULLABLE = 0x80, TYPE_MASK = 0x7f, BITS_SIZE_MAX = FRAGMENT_PAGE_ROWS / 8 };

/* ---- encoding ---- */

struct page_view {
    const struct fragment *fragment;
    const struct page *page;
    uint32_t number;
    uint64_t ts;
    uint32_t count;
    uint16_t slots[FRAGMENT_PAGE_ROWS];
};

static struct value view_value(const struct page_view *view, uint32_t i, uint16_t column)
{
    uint32_t row = view->number << PAGE_SHIFT | view->slots[i];
    return fragment_value_at(view->fragment, row, column, view->ts);
}

static void nulls_encode(const struct page_view *view, uint16_t column, struct buf *buf)
{
    uint8_t *bits = buf_add(buf, (view->count + 7) / 8);
    if (!bits) return;
    memset(bits, 0, (view->count + 7) / 8);
    for (uint32_t i = 0; i < view->count; i++)
        if (view_value(view, i, column).kind == KIND_NULL) bits[i / 8] |= (uint8_t)(1 << (i % 8));
}

static void fixed_encode(const struct page_view *view, uint16_t column, struct buf *buf)
{
    const struct column_layout *layout = &view->fragment->layouts[column];
    uint32_t width = layout->width;
    uint8_t *out = buf_add(buf, (size_t)view->count * width);
    if (!out) return;
    bool contiguous = (uint32_t)(view->slots[view->count - 1] - view->slots[0]) == view->count - 1;
    if (!view->page->undo_count && contiguous) {
        raws_read(layout, page_raw(view->page, layout, view->slots[0]), view->count, out);
        return;
    }
    for (uint32_t i = 0; i < view->count; i++, out += width) {
        if (!view->page->undo_count) {
            memcpy(out, page_raw(view->page, layout, view->slots[i]), width);
            continue;
        }
        struct value value = view_value(view, i, column);
        if (value.kind == KIND_NULL)
            memset(out, 0, width);
        else
            raw_store(layout, value, out);
    }
}

static void var_encode(const struct page_view *view, uint16_t column, struct buf *buf)
{
    for (uint32_t i = 0; i < view->count; i++) {
        struct value value = view_value(view, i, column);
        buf_put_varint(buf, value.kind == KIND_NULL ? 0 : value.size);
    }
    for (uint32_t i = 0; i < view->count; i++) {
        struct value value = view_value(view, i, column);
        if (value.kind != KIND_NULL) buf_put(buf, value.bytes, value.size);
    }
}

/* As fragment_page_select, but with expired rows: when they are purged, the log says so, and its
 * replay must find them. */
static void view_select(struct page_view *view)
{
    for (uint32_t slot = 0; view->page->used_count && slot < FRAGMENT_PAGE_ROWS; slot++)
        if (fragment_visible_at(view->fragment, view->number << PAGE_SHIFT | slot, view->ts))
            view->slots[view->count++] = (uint16_t)slot;
}

uint32_t fragment_page_rows(const struct fragment *fragment, uint32_t page, uint64_t ts)
{
    struct page_view view = {
        .fragment = fragment, .page = &fragment->pages[page], .number = page, .ts = ts};
    view_select(&view);
    return view.count;
}

void fragment_page_encode(const struct fragment *fragment, uint32_t page, uint64_t ts,
                          struct buf *buf)
{
    struct page_view view = {
        .fragment = fragment, .page = &fragment->pages[page], .number = page, .ts = ts};
    view_select(&view);
    buf_put_varint(buf, view.count);
    if (!view.count) return;
    buf_put_varint(buf, fragment->column_count);
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        const struct column_def *column = &fragment->table->columns[i];
        const struct column_layout *layout = &fragment->layouts[i];
        buf_put_u8(buf, (uint8_t)(column->type | (column->nullable ? TYPE_NULLABLE : 0)));
        if (column->nullable) nulls_encode(&view, (uint16_t)i, buf);
        if (column->type == TYPE_BINARY) buf_put_u8(buf, (uint8_t)layout->width);
        if (column->type == TYPE_DECIMAL) buf_put_u8(buf, column->scale);
        if (layout->form == FORM_VAR)
            var_encode(&view, (uint16_t)i, buf);
        else
            fixed_encode(&view, (uint16_t)i, buf);
    }
}

/* ---- loading ---- */

/* One column of a block. */
struct block_column {
    const uint8_t *null_bits; /* NULL: no NULLs */
    const uint8_t *fixed;
    const uint8_t *var;  /* the bytes of all values */
    struct reader sizes; /* of variable values not yet placed */
    bool missing;        /* all NULL */
};

struct block {
    struct fragment *fragment;
    uint32_t count;
    uint32_t placed;
    struct block_column columns[SCHEMA_COLUMNS_MAX];
};

static bool block_is_null(const struct block_column *column, uint32_t i)
{
    return column->missing || (column->null_bits && (column->null_bits[i / 8] >> (i % 8) & 1));
}

static enum err nulls_read(struct reader *reader, uint32_t count, struct block_column *column)
{
    uint32_t size = (count + 7) / 8;
    column->null_bits = reader_take(reader, size);
    if (!column->null_bits) return ERR_CORRUPT;
    if (count % 8 && column->null_bits[size - 1] >> (count % 8)) return ERR_CORRUPT;
    return ERR_NONE;
}

/* Fixed values whose every bit pattern is right need no look; others are checked one by one. */
static enum err fixed_check(const struct block *block, uint16_t number)
{
    const struct fragment *fragment = block->fragment;
    const struct block_column *column = &block->columns[number];
    const struct column_layout *layout = &fragment->layouts[number];
    const uint8_t *raw = column->fixed;
    bool any_bits = layout->is_plain || layout->form == FORM_BINARY;
    if (any_bits && !column->null_bits) return ERR_NONE;
    for (uint32_t i = 0; i < block->count; i++, raw += layout->width) {
        if (block_is_null(column, i)) {
            for (uint32_t j = 0; j < layout->width; j++)
                if (raw[j]) return ERR_CORRUPT;
            continue;
        }
        if (any_bits) continue;
        struct value value;
        struct value stored = page_value(NULL, layout, raw, false);
        /* Stored values are in the form that fitting gives, such as without a negative zero. */
        if (value_fit(&fragment->table->columns[number], stored, &value) || value.u != stored.u)
            return ERR_CORRUPT;
    }
    return ERR_NONE;
}

static enum err var_read(struct block *block, uint16_t number, struct reader *reader)
{
    const struct fragment *fragment = block->fragment;
    struct block_column *column = &block->columns[number];
    column->sizes = *reader;
    uint64_t total = 0;
    for (uint32_t i = 0; i < block->count; i++) {
        uint64_t size = reader_varint(reader);
        if (reader->failed || size > SCHEMA_VAR_SIZE_MAX) return ERR_CORRUPT;
        if (size && block_is_null(column, i)) return ERR_CORRUPT;
        total += size;
    }
    column->var = reader_take(reader, total);
    if (!column->var) return ERR_CORRUPT;
    struct reader sizes = column->sizes;
    const uint8_t *bytes = column->var;
    for (uint32_t i = 0; i < block->count; i++) {
        uint32_t size = (uint32_t)reader_varint(&sizes);
        struct value value = value_str(bytes, size);
        bytes += size;
        if (block_is_null(column, i)) continue;
        struct value fitted;
        /* A CHAR that ends in spaces would not be the same row after the next checkpoint. */
        if (value_fit(&fragment->table->columns[number], value, &fitted) || fitted.size != size)
            return ERR_CORRUPT;
    }
    return ERR_NONE;
}

static enum err column_read(struct block *block, uint16_t number, struct reader *reader)
{
    const struct fragment *fragment = block->fragment;
    const struct column_def *def = &fragment->table->columns[number];
    const struct column_layout *layout = &fragment->layouts[number];
    struct block_column *column = &block->columns[number];
    uint8_t type = reader_u8(reader);
    if (reader->failed || (type & TYPE_MASK) != def->type ||
        ((type & TYPE_NULLABLE) != 0) != def->nullable)
        return ERR_CORRUPT;
    enum err err = ERR_NONE;
    if (def->nullable) err = nulls_read(reader, block->count, column);
    if (!err && def->type == TYPE_BINARY && reader_u8(reader) != layout->width) err = ERR_CORRUPT;
    if (!err && def->type == TYPE_DECIMAL && reader_u8(reader) != def->scale) err = ERR_CORRUPT;
    if (err) return err;
    if (layout->form == FORM_VAR) return var_read(block, number, reader);
    column->fixed = reader_take(reader, (size_t)block->count * layout->width);
    return column->fixed ? fixed_check(block, number) : ERR_CORRUPT;
}

static enum err block_read(struct block *block, struct reader *reader)
{
    struct fragment *fragment = block->fragment;
    uint64_t columns = reader_varint(reader);
    if (reader->failed || columns == 0 || columns > fragment->column_count) return ERR_CORRUPT;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        block->columns[i] = (struct block_column){.missing = i >= columns};
        if (i < columns) {
            enum err err = column_read(block, (uint16_t)i, reader);
            if (err) return err;
        } else if (!fragment->table->columns[i].nullable) {
            return ERR_CORRUPT;
        }
    }
    return ERR_NONE;
}

static void nulls_place(const struct block *block, uint16_t number, struct page *page,
                        uint32_t slot, uint32_t count)
{
    const struct column_layout *layout = &block->fragment->layouts[number];
    const struct block_column *column = &block->columns[number];
    if (!layout->null_offset) return;
    for (uint32_t i = 0; i < count; i++)
        page_set_null(page, layout, slot + i, block_is_null(column, block->placed + i));
}

/* Values and references of one variable column. Those placed in columns before stay when this
 * fails: the page is not in use yet, and goes with its heap. */
static enum err var_place(struct block *block, uint16_t number, struct page *page, uint32_t slot,
                          uint32_t count)
{
    struct fragment *fragment = block->fragment;
    struct block_column *column = &block->columns[number];
    const struct column_layout *layout = &fragment->layouts[number];
    if (column->missing) {
        raws_clear(layout, count, page_raw(page, layout, slot));
        return ERR_NONE;
    }
    uint16_t columns[FRAGMENT_PAGE_ROWS];
    struct value values[FRAGMENT_PAGE_ROWS];
    uint32_t refs[FRAGMENT_PAGE_ROWS];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = (uint32_t)reader_varint(&column->sizes);
        columns[i] = number;
        values[i] =
            block_is_null(column, block->placed + i) ? value_null() : value_str(column->var, size);
        column->var += size;
    }
    struct old_heap old = {0};
    enum err err = page_vars_put(fragment, page, columns, values, count, refs, &old);
    if (err) return err;
    old_heap_free(fragment, &old);
    raws_write(layout, (const uint8_t *)refs, count, page_raw(page, layout, slot));
    return ERR_NONE;
}

/* Bytes of variable values of the next count rows go in one piece, so the heap grows once. */
static enum err rows_place(struct block *block, struct page *page, uint32_t slot, uint32_t count)
{
    struct fragment *fragment = block->fragment;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        const struct column_layout *layout = &fragment->layouts[i];
        const struct block_column *column = &block->columns[i];
        nulls_place(block, (uint16_t)i, page, slot, count);
        if (layout->form == FORM_VAR) {
            enum err err = var_place(block, (uint16_t)i, page, slot, count);
            if (err) return err;
        } else if (column->missing) {
            raws_clear(layout, count, page_raw(page, layout, slot));
        } else {
            raws_write(layout, column->fixed + (size_t)block->placed * layout->width, count,
                       page_raw(page, layout, slot));
        }
    }
    return ERR_NONE;
}

/* Fills the last page, then a new one. */
static enum err block_place(struct block *block)
{
    struct fragment *fragment = block->fragment;
    while (block->placed < block->count) {
        uint32_t number = fragment->page_count - 1;
        if (fragment->page_count == 0 || fragment->pages[number].used_count == FRAGMENT_PAGE_ROWS) {
            enum err err = fragment_page_add(fragment, &number);
            if (err) return err;
        }
        struct page *page = &fragment->pages[number];
        uint32_t slot = page->used_count;
        uint32_t room = FRAGMENT_PAGE_ROWS - slot;
        uint32_t count = block->count - block->placed;
        if (count > room) count = room;
        enum err err = rows_place(block, page, slot, count);
        if (err) return err;
        for (uint32_t i = slot; i < slot + count; i++)
            page_live(page)[i / 64] |= UINT64_C(1) << (i % 64);
        page->used_count = (uint16_t)(page->used_count + count);
        fragment->live_count += count;
        block->placed += count;
        if (page->used_count == FRAGMENT_PAGE_ROWS) page_heap_shrink(fragment, page);
    }
    return ERR_NONE;
}

enum err fragment_page_load(struct fragment *fragment, struct reader *reader)
{
    if (!fragment->loading) {
        ASSERT(fragment->page_count == 0);
        fragment->loading = true;
    }
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > FRAGMENT_PAGE_ROWS) return ERR_CORRUPT;
    if (count == 0) return ERR_NONE;
    struct block block;
    block.fragment = fragment;
    block.count = (uint32_t)count;
    block.placed = 0;
    enum err err = block_read(&block, reader);
    if (err) return err;
    struct ldm *ldm = fragment->ldm;
    bool unlimited = ldm->unlimited;
    ldm->unlimited = true;
    err = block_place(&block);
    ldm->unlimited = unlimited;
    return err;
}

enum err fragment_load_end(struct fragment *fragment)
{
    if (!fragment->loading) return ERR_NONE;
    enum err err = ERR_NONE;
    if (fragment->hash) err = hash_build(fragment);
    for (uint32_t i = 0; !err && i < fragment->index_count; i++)
        if (fragment->indexes[i]->tree) err = index_build(fragment->indexes[i]);
    /* Keys that are equal, or too long: nothing that was in the table. */
    if (err == ERR_EXISTS || err == ERR_TOO_BIG) return ERR_CORRUPT;
    if (err) return err;
    for (uint32_t i = 0; i < fragment->page_count; i++)
        fragment_page_settle(fragment, i);
    fragment->loading = false;
    return ERR_NONE;
}
