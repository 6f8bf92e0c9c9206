/* Many rows at a time, for scans that look up a row for each of theirs.
 *
 * One row's look-up is a chain of cache misses: the hash bucket, then the row's key and what tells
 * that it is there, then a line for each column. Here the rows of a batch take each step together,
 * so that a step's misses overlap, and what is the same for all of them is worked out once. The
 * fast way is for tables whose primary key is one 64-bit unsigned number with a hash index, such as
 * inodes; others go through fragment_find one by one. */
#include "db/ldm/ldm.h"

#include "base/hash.h"

static bool is_fast(const struct fragment_lookup *lookup)
{
    const struct fragment *fragment = lookup->fragment;
    return fragment && lookup->key.kind == KIND_U64 && primary_is_number(fragment);
}

static uint64_t key_in_row(const struct fragment *fragment, uint32_t row)
{
    uint64_t key;
    const struct column_layout *layout = &fragment->layouts[fragment->indexes[0]->columns[0]];
    memcpy(&key, page_raw(row_page(fragment, row), layout, row_slot(row)), sizeof(key));
    return key;
}

/* Whether the row that was guessed is the one. */
static enum err settle(struct fragment_lookup *lookup, const struct change_set *own)
{
    const struct fragment *fragment = lookup->fragment;
    if (is_fast(lookup) && key_in_row(fragment, lookup->row) == lookup->key.u) {
        if (row_is_locked(fragment, lookup->row, own)) return ERR_CONFLICT;
        bool there = page_is_live(row_page(fragment, lookup->row), row_slot(lookup->row)) &&
                     !(fragment->table->ttl_seconds && fragment_row_expired(fragment, lookup->row));
        return there ? ERR_NONE : ERR_NOT_FOUND;
    }
    return fragment_find(fragment, own, &lookup->key, &lookup->row);
}

enum err fragment_find_batch(struct fragment_lookup *lookups, uint32_t count,
                             const struct change_set *own, const uint16_t *columns,
                             uint32_t column_count)
{
    for (uint32_t i = 0; i < count; i++)
        if (is_fast(&lookups[i]))
            hash_index_prefetch(lookups[i].fragment->hash, hash_u64(lookups[i].key.u));
    for (uint32_t i = 0; i < count; i++)
        if (is_fast(&lookups[i]) && primary_guess(lookups[i].fragment, lookups[i].key.u, columns,
                                                  column_count, &lookups[i].row))
            lookups[i].fragment = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!lookups[i].fragment) continue;
        enum err err = settle(&lookups[i], own);
        if (err == ERR_NOT_FOUND)
            lookups[i].fragment = NULL;
        else if (err)
            return err;
    }
    return ERR_NONE;
}

void fragment_gather_rows(const struct fragment *fragment, const uint32_t *rows, uint32_t count,
                          const uint16_t *columns, uint32_t column_count, struct value *values,
                          uint32_t stride)
{
    const struct page *pages[FRAGMENT_BATCH_MAX];
    ASSERT(count <= FRAGMENT_BATCH_MAX);
    for (uint32_t i = 0; i < count; i++)
        pages[i] = row_page(fragment, rows[i]);
    for (uint32_t j = 0; j < column_count; j++) {
        const struct column_layout *layout = &fragment->layouts[columns[j]];
        struct value *to = values + j;
        if (!layout->is_word) {
            for (uint32_t i = 0; i < count; i++, to += stride) {
                uint32_t slot = row_slot(rows[i]);
                *to = page_value(pages[i], layout, page_raw(pages[i], layout, slot),
                                 page_is_null(pages[i], layout, slot));
            }
            continue;
        }
        struct value head = layout->head;
        uint64_t mask = layout->mask;
        uint64_t sign = layout->sign;
        size_t offset = layout->offset;
        size_t step = layout->stride;
        for (uint32_t i = 0; i < count; i++, to += stride) {
            uint64_t bits;
            memcpy(&bits, pages[i]->bytes + offset + row_slot(rows[i]) * step, sizeof(bits));
            *to = head;
            to->u = ((bits & mask) ^ sign) - sign;
        }
    }
}
