/* Private to db/ldm: the storage engine's structures, shared by its files.
 *
 *   ldm ─── partition ─── fragment ─── page ─── rows, heap of variable parts
 *    │                       └── index (hash and B+trees)
 *    ├── page_pool: memory of pages          ├── undo_pool: undo records
 *    ├── pins: which old versions are needed └── queue: committed undo records that pins keep
 *
 * A slot of a page is free (not live, no undo), live, or dead (not live, but undo records say what
 * it was). A dead row keeps its values in place and its index entries, so that older versions need
 * not copy them, and an insert of the same primary key takes over the row. */
#ifndef DB_LDM_LDM_H
#define DB_LDM_LDM_H

#include "base/check.h"
#include "db/ldm/btree.h"
#include "db/ldm/hash_index.h"
#include "db/ldm/partition.h"

enum {
    PAGE_SHIFT = 9,
    PAGE_WORDS = FRAGMENT_PAGE_ROWS / 64,
    VAR_INLINE_SIZE_MAX = 1024, /* longer values are blobs, outside the page's heap */
    HEAP_SIZE_MAX = 256 * 1024, /* of one page; what does not fit becomes a blob too */
    BLOBS_MAX = 1 << 20,        /* of one page, with those of old versions */
};
_Static_assert(FRAGMENT_PAGE_ROWS == 1 << PAGE_SHIFT, "row numbers are page and slot");

#define PAGE_NONE UINT32_MAX
/* Undo records of uncommitted changes have this bit and the change set's number as their timestamp:
 * above every commit timestamp. */
#define TS_LOCKED (UINT64_C(1) << 63)

/* ---- memory.c: what is allocated, counted at what the allocator really takes ---- */

void *mem_alloc(uint64_t *counter, size_t size);
void *mem_zalloc(uint64_t *counter, size_t size);
/* NULL: bytes are as before. */
void *mem_realloc(uint64_t *counter, void *bytes, size_t size);
void mem_free(uint64_t *counter, void *bytes); /* NULL is allowed */

/* The memory of pages, and of what else is read at random: carved from large extents that ask for
 * huge pages, recycled by size. */
struct page_pool {
    uint8_t *next; /* of the newest extent's rest */
    uint8_t *end;
    struct page_extent *extents; /* extent_count of them */
    struct page_bin *bins;       /* recycled pages, bin_count sizes */
    uint32_t extent_count;
    uint32_t bin_count;
};
void page_pool_init(struct page_pool *pool);
void page_pool_fini(struct page_pool *pool);
/* Contents undefined. size is a multiple of 64, of which there are few different ones. The counter
 * may be NULL. NULL when there is no memory. */
uint8_t *page_pool_alloc(struct page_pool *pool, uint32_t size, uint64_t *counter);
void page_pool_free(struct page_pool *pool, uint8_t *bytes, uint32_t size, uint64_t *counter);

/* What pooled_alloc really takes for so many bytes. */
size_t pooled_size(size_t size);
/* Bytes that are read at random: large pieces come from the page pool, so that they lie in huge
 * pages, small ones from malloc. Contents undefined. The pool may be NULL: malloc. NULL when there
 * is no memory. */
void *pooled_alloc(struct page_pool *pool, uint64_t *counter, size_t size);
void pooled_free(struct page_pool *pool, uint64_t *counter, void *bytes, size_t size);

/* ---- undo.c: records of what rows were ---- */

enum undo_flag {
    UNDO_WAS_LIVE = 1,
    UNDO_FRESH = 2,  /* the slot was free: there is nothing before it, not even values */
    UNDO_REUSED = 4, /* an index entry of the new version was there already, for an older one */
    UNDO_GONE = 8,   /* merged into another; waits in the queue only to be freed */
};

/* Followed by column_count entries: u8 column, u8 was NULL, then the column's bytes as in the page.
 */
struct undo {
    uint64_t ts;
    struct fragment *fragment;
    uint32_t row;
    uint32_t older; /* 0: none */
    uint32_t newer; /* 0: this is the row's newest */
    uint16_t units;
    uint8_t column_count;
    uint8_t flags;
    uint8_t data[];
};
_Static_assert(sizeof(struct undo) == 32, "two units");

enum { UNDO_UNIT = 16, UNDO_CHUNK_SHIFT = 12, UNDO_UNITS_MAX = 640 };

/* Records are named by 32-bit references: chunk and unit. Freed ones are reused by size; chunks
 * without records are given back. */
struct undo_pool {
    uint64_t *counter;
    struct page_pool *pages; /* where chunks come from */
    uint8_t **chunks;        /* by number; NULL: without memory */
    struct undo_chunk *states;
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    uint32_t chunk;       /* carved from, at unit `next`; UINT32_MAX: none */
    uint32_t next;        /* CHUNK_UNITS: full */
    uint32_t blank;       /* list of chunks with memory that are not carved yet, by number + 1 */
    uint32_t blank_count; /* of them */
    uint32_t bare;        /* list of numbers without memory, + 1 */
    uint64_t live_count;
    uint32_t free_lists[UNDO_UNITS_MAX + 1];
};
void undo_pool_init(struct undo_pool *pool, uint64_t *counter, struct page_pool *pages);
void undo_pool_fini(struct undo_pool *pool);
/* The record's reference; 0 when there is no memory. size counts the header. */
uint32_t undo_alloc(struct undo_pool *pool, uint32_t size);
void undo_free(struct undo_pool *pool, uint32_t ref);

/* ---- ldm ---- */

struct pin {
    uint64_t ts;
    const struct partition *only; /* NULL: of every partition */
    bool exact;                   /* read at ts only, not later */
};

struct ldm {
    uint64_t memory_max;
    struct ldm_memory memory;
    bool unlimited; /* memory_max does not hold now: what was acknowledged is being loaded, or a
                       change makes room */
    struct page_pool pages;
    struct undo_pool undo;
    struct pin *pins;
    uint32_t pin_count;
    uint32_t pin_capacity;
    uint64_t pin_min; /* TS_UNCOMMITTED: nothing is pinned */
    /* References of committed undo records in order of commit: a ring with room for every
     * uncommitted record too, so that commit cannot fail. */
    uint32_t *queue;
    uint32_t queue_capacity; /* a power of two, or 0 */
    uint32_t queue_first;
    uint32_t queue_count;
    uint32_t uncommitted_count;
    uint64_t change_set_count; /* ever made: numbers for marks */
    int64_t now_us;
    struct partition *partitions; /* list */
    /* Where the search for expired rows goes on. */
    struct partition *expiry_partition;
    uint32_t expiry_fragment;
    uint32_t expiry_page;
};

static inline uint64_t ldm_memory_total(const struct ldm *ldm)
{
    return ldm->memory.pages + ldm->memory.indexes + ldm->memory.versions + ldm->memory.other;
}

/* ERR_NO_SPACE when so many more bytes of rows would pass the limit. */
static inline enum err ldm_check_space(const struct ldm *ldm, uint64_t size)
{
    if (!ldm->memory_max || ldm->unlimited) return ERR_NONE;
    return ldm_memory_total(ldm) + size > ldm->memory_max ? ERR_NO_SPACE : ERR_NONE;
}

static inline struct undo *undo_at(const struct ldm *ldm, uint32_t ref)
{
    const uint8_t *chunk = ldm->undo.chunks[ref >> UNDO_CHUNK_SHIFT];
    uint32_t unit = ref & ((1u << UNDO_CHUNK_SHIFT) - 1);
    return (struct undo *)(void *)(uintptr_t)(chunk + (size_t)unit * UNDO_UNIT);
}

/* Room in the queue for all uncommitted records and so many more. */
MUST_USE enum err ldm_queue_reserve(struct ldm *ldm, uint32_t count);
void ldm_queue_push(struct ldm *ldm, uint32_t ref);
/* Removes every record of the fragment, freeing it. */
void ldm_queue_purge(struct ldm *ldm, const struct fragment *fragment);
/* Somebody may read the version, of a row of the partition, that was the newest from `from`
 * (inclusive) until `to` (exclusive). */
bool ldm_version_needed(const struct ldm *ldm, const struct partition *partition, uint64_t from,
                        uint64_t to);

/* ---- partition, fragment, page ---- */

enum { PARTITION_BUCKETS = 2 * SCHEMA_TABLES_MAX };

struct partition {
    struct ldm *ldm;
    struct partition *next;
    struct partition **previous_next; /* what points to this one */
    const struct catalog *catalog;    /* NULL before the first */
    uint64_t term;
    uint16_t number;
    uint32_t fragment_count;
    struct fragment *fragments[SCHEMA_TABLES_MAX]; /* in order of table id */
    struct fragment *by_id[PARTITION_BUCKETS];     /* open addressing by table id */
};

struct column_set {
    uint64_t words[SCHEMA_COLUMNS_MAX / 64];
};

static inline void column_set_add(struct column_set *set, uint32_t column)
{
    set->words[column / 64] |= UINT64_C(1) << (column % 64);
}
static inline bool column_set_has(const struct column_set *set, uint32_t column)
{
    return set->words[column / 64] >> (column % 64) & 1;
}
static inline bool column_set_meets(const struct column_set *a, const struct column_set *b)
{
    return ((a->words[0] & b->words[0]) | (a->words[1] & b->words[1])) != 0;
}
_Static_assert(SCHEMA_COLUMNS_MAX == 128, "column_set_meets");

/* How a column lies in a page, and the check that lets most values pass without value_fit. */
enum column_form {
    FORM_I8,
    FORM_I16,
    FORM_I32,
    FORM_I64,
    FORM_U8,
    FORM_U16,
    FORM_U32,
    FORM_U64,
    FORM_F64,
    FORM_F32,
    FORM_BINARY,
    FORM_VAR,
};
struct column_layout {
    uint32_t offset;      /* of slot 0's value */
    uint32_t null_offset; /* of the null bits; 0: NOT NULL */
    uint16_t width;       /* bytes in the page: 4 of a reference to a variable part */
    uint16_t stride;      /* bytes from slot to slot: width, or more with columns beside it */
    uint8_t form;         /* enum column_form */
    uint8_t shift;        /* 64 less the bits of a number */
    uint8_t kind;         /* enum value_kind */
    uint8_t scale;
    bool is_plain; /* an integer column: fits when its kind is right and value - min <= span */
    bool is_word;  /* a number that is never NULL: 8 bytes from its first on, masked and extended */
    uint64_t min;
    uint64_t span;
    uint64_t mask;
    uint64_t sign;     /* the number's sign bit, of signed ones narrower than 64 */
    struct value head; /* a value of the column, but for the number */
};

/* A variable value outside the page. */
struct blob {
    uint32_t size;
    uint8_t bytes[];
};

enum page_list { PAGE_LIST_NONE, PAGE_LIST_FREE, PAGE_LIST_EMPTY };

/* Page memory: u32 undo[512] (0: none), u64 live[8], then the null bits of each nullable column
 * (u64[8]), then the columns that lie beside each other, row by row, then those that lie alone,
 * from the widest to the narrowest. */
struct page {
    uint8_t *bytes; /* NULL: no rows, no memory */
    uint8_t *heap;
    struct blob **blobs;
    uint32_t heap_size; /* with garbage */
    uint32_t heap_capacity;
    uint32_t heap_garbage;
    uint32_t blob_capacity;
    uint32_t blob_count;
    uint32_t list_next;  /* page number */
    uint16_t used_count; /* slots not free */
    uint16_t undo_count; /* slots with undo */
    uint8_t list;        /* enum page_list */
    uint8_t free_word;   /* no word of live bits before it has a free slot */
};

struct index {
    struct fragment *fragment;
    struct btree *tree; /* NULL: the primary key is hashed only */
    uint16_t id;
    bool is_primary;
    uint8_t column_count;
    uint16_t columns[SCHEMA_KEY_COLUMNS_MAX];
    struct column_set column_set;
    const struct read_ahead *ahead; /* of the search that is going on; NULL: none */
};

struct fragment {
    struct ldm *ldm;
    struct partition *partition;
    const struct table_def *table; /* the partition's catalog's */
    uint32_t table_id;
    struct column_layout *layouts;
    struct page *pages;
    uint32_t page_count;
    uint32_t page_capacity;
    uint32_t page_size;
    uint32_t column_count;
    uint32_t free_page;  /* list of pages with free slots (and some that lost their memory since) */
    uint32_t empty_page; /* list of pages without memory */
    uint64_t live_count;
    uint32_t uncommitted_count; /* undo records */
    uint32_t reused_count;      /* undo records with UNDO_REUSED */
    bool loading;
    bool hash_by_integer; /* the hash index is over one integer column */
    uint16_t var_count;
    uint16_t var_columns[SCHEMA_COLUMNS_MAX];
    struct hash_index *hash; /* of the primary key; may be NULL */
    uint32_t index_count;
    struct index *indexes[SCHEMA_INDEXES_MAX];
    struct column_set key_columns; /* of the primary key */
    struct column_set indexed;     /* of all secondary indexes */
};

struct change_set {
    struct ldm *ldm;
    uint64_t mark; /* TS_LOCKED and its number */
    uint32_t *records;
    uint32_t count;
    uint32_t capacity;
};

static inline uint32_t row_slot(uint32_t row)
{
    return row & (FRAGMENT_PAGE_ROWS - 1);
}
static inline struct page *row_page(const struct fragment *fragment, uint32_t row)
{
    return &fragment->pages[row >> PAGE_SHIFT];
}
static inline uint32_t *page_undo(const struct page *page)
{
    return (uint32_t *)(void *)page->bytes;
}
static inline uint64_t *page_live(const struct page *page)
{
    return (uint64_t *)(void *)(page->bytes + sizeof(uint32_t) * FRAGMENT_PAGE_ROWS);
}
static inline bool page_is_live(const struct page *page, uint32_t slot)
{
    return page_live(page)[slot / 64] >> (slot % 64) & 1;
}
static inline uint8_t *page_raw(const struct page *page, const struct column_layout *layout,
                                uint32_t slot)
{
    return page->bytes + layout->offset + (size_t)slot * layout->stride;
}
static inline uint64_t *page_nulls(const struct page *page, const struct column_layout *layout)
{
    return (uint64_t *)(void *)(page->bytes + layout->null_offset);
}
static inline bool page_is_null(const struct page *page, const struct column_layout *layout,
                                uint32_t slot)
{
    return layout->null_offset && (page_nulls(page, layout)[slot / 64] >> (slot % 64) & 1);
}
static inline void page_set_null(struct page *page, const struct column_layout *layout,
                                 uint32_t slot, bool is_null)
{
    if (!layout->null_offset) return;
    uint64_t bit = UINT64_C(1) << (slot % 64);
    uint64_t *word = &page_nulls(page, layout)[slot / 64];
    *word = is_null ? *word | bit : *word & ~bit;
}

/* Bytes of a variable part. */
const uint8_t *page_var(const struct page *page, uint32_t ref, uint32_t *ret_size);

/* The bits of a number (up to FORM_U64), extended by zeros. */
static inline uint64_t raw_bits(const struct column_layout *layout, const uint8_t *raw)
{
    uint64_t bits = 0;
    switch (layout->width) {
    case 8:
        memcpy(&bits, raw, 8);
        break;
    case 4:
        memcpy(&bits, raw, 4);
        break;
    case 2:
        memcpy(&bits, raw, 2);
        break;
    default:
        bits = *raw;
        break;
    }
    return bits;
}

/* The same as a signed number. */
static inline int64_t raw_signed(const struct column_layout *layout, const uint8_t *raw)
{
    return (int64_t)(raw_bits(layout, raw) << layout->shift) >> layout->shift;
}

/* Value from its bytes in a page or an undo record. */
static inline struct value page_value(const struct page *page, const struct column_layout *layout,
                                      const uint8_t *raw, bool is_null)
{
    if (is_null) return value_null();
    struct value value = {.kind = layout->kind, .scale = layout->scale};
    if (layout->form <= FORM_I64) {
        value.i = raw_signed(layout, raw);
    } else if (layout->form <= FORM_F64) {
        value.u = raw_bits(layout, raw);
    } else if (layout->form == FORM_F32) {
        float narrow;
        memcpy(&narrow, raw, sizeof(narrow));
        value.f = (double)narrow;
    } else if (layout->form == FORM_BINARY) {
        value.bytes = raw;
        value.size = layout->width;
    } else {
        uint32_t ref;
        memcpy(&ref, raw, sizeof(ref));
        value.bytes = page_var(page, ref, &value.size);
    }
    return value;
}

/* The column in place. */
static inline struct value row_value(const struct fragment *fragment, uint32_t row, uint32_t column)
{
    const struct page *page = row_page(fragment, row);
    const struct column_layout *layout = &fragment->layouts[column];
    uint32_t slot = row_slot(row);
    return page_value(page, layout, page_raw(page, layout, slot), page_is_null(page, layout, slot));
}

/* Of FORM_F32 and FORM_BINARY. */
void raw_store_slow(const struct column_layout *layout, struct value value, uint8_t *raw);
/* Stores a fitted fixed-size value that is not NULL. */
static inline void raw_store(const struct column_layout *layout, struct value value, uint8_t *raw)
{
    if (layout->form > FORM_F64) {
        raw_store_slow(layout, value, raw);
        return;
    }
    switch (layout->width) {
    case 1:
        *raw = (uint8_t)value.u;
        break;
    case 2:
        memcpy(raw, &value.u, 2);
        break;
    case 4:
        memcpy(raw, &value.u, 4);
        break;
    default:
        memcpy(raw, &value.u, 8);
        break;
    }
}

/* The column's bytes of count consecutive slots, from raw on, side by side; back; and all zero. */
void raws_read(const struct column_layout *layout, const uint8_t *raw, uint32_t count,
               uint8_t *out);
void raws_write(const struct column_layout *layout, const uint8_t *in, uint32_t count,
                uint8_t *raw);
void raws_clear(const struct column_layout *layout, uint32_t count, uint8_t *raw);

/* value_fit with a short cut. */
MUST_USE static inline enum err fragment_fit(const struct fragment *fragment, uint32_t column,
                                             struct value value, struct value *ret_value)
{
    const struct column_layout *layout = &fragment->layouts[column];
    if (layout->is_plain && value.kind == layout->kind) {
        if (value.u - layout->min > layout->span) return ERR_OUT_OF_RANGE;
        *ret_value = value;
        return ERR_NONE;
    }
    return value_fit(&fragment->table->columns[column], value, ret_value);
}

/* The undo record of the row is uncommitted, by another change set than own (may be NULL). */
static inline bool row_is_locked(const struct fragment *fragment, uint32_t row,
                                 const struct change_set *own)
{
    const struct page *page = row_page(fragment, row);
    if (!page->undo_count) return false;
    uint32_t ref = page_undo(page)[row_slot(row)];
    if (!ref) return false;
    uint64_t ts = undo_at(fragment->ldm, ref)->ts;
    return ts >= TS_LOCKED && !(own && ts == own->mark);
}

/* ---- page.c ---- */

/* Fills layouts and page_size. */
MUST_USE enum err fragment_layout(struct fragment *fragment);
/* A free slot, not yet marked as used. ERR_NO_SPACE, ERR_NO_MEMORY. */
MUST_USE enum err fragment_slot_find(struct fragment *fragment, uint32_t *ret_row);
void fragment_slot_use(struct fragment *fragment, uint32_t row);
/* The slot must be neither live nor have undo; its variable parts must be freed. */
void fragment_slot_free(struct fragment *fragment, uint32_t row);
/* A page more, with memory, on no list. */
MUST_USE enum err fragment_page_add(struct fragment *fragment, uint32_t *ret_page);
/* Puts the page on the free list when it has free slots and is on none; releases the memory of an
 * unused one. */
void fragment_page_settle(struct fragment *fragment, uint32_t page);
void fragment_pages_destroy(struct fragment *fragment);
/* ---- heap.c: variable parts ---- */

/* One that was replaced, until nothing borrowed from it is needed any more. */
struct old_heap {
    uint8_t *bytes; /* NULL: none was */
    uint32_t capacity;
};
void old_heap_free(struct fragment *fragment, struct old_heap *old);
/* Copies the variable, non-NULL ones of count values (of these columns) into the page and returns
 * their references. *ret_old: the old heap when it had to move, for the caller to free when it no
 * longer needs values borrowed from it. ERR_NO_SPACE, ERR_NO_MEMORY: nothing changed. */
MUST_USE enum err page_vars_put(struct fragment *fragment, struct page *page,
                                const uint16_t *columns, const struct value *values, uint32_t count,
                                uint32_t *ret_refs, struct old_heap *ret_old);
void page_var_free(struct fragment *fragment, struct page *page, uint32_t ref);
/* Gives back what the heap does not use. */
void page_heap_shrink(struct fragment *fragment, struct page *page);
/* Frees heap and blobs. */
void page_heap_fini(struct fragment *fragment, struct page *page);
/* Bytes of the heap and blobs that the references of the page account for; for fragment_verify.
 * ERR_CORRUPT. */
MUST_USE enum err page_heap_verify(const struct fragment *fragment, uint32_t page,
                                   struct diag *diag);

/* ---- versions.c: reading old versions, dropping undo records ---- */

/* The bytes that the record saved of the column; NULL when the change did not touch it. */
const uint8_t *undo_column(const struct undo *undo, uint32_t column, bool *ret_null);
struct column_set undo_columns(const struct undo *undo);
/* Column of the row as the undo record (NULL: in place) has it before its change. */
struct value row_value_before(const struct fragment *fragment, uint32_t row,
                              const struct undo *undo, uint32_t column);
/* Puts a record in front of the row's chain. */
void row_link(struct fragment *fragment, uint32_t row, uint32_t ref);
/* Reverts the newest record of a row and frees it. */
void undo_revert(struct ldm *ldm, uint32_t ref);
/* Frees a committed record that is the oldest of its row, and the row when nothing is left of it.
 */
void undo_drop(struct ldm *ldm, uint32_t ref);
/* Tries to make the chain one shorter by merging a just committed record with the next older one,
 * when nobody can read the version between. True: the record is gone. */
bool undo_merge(struct ldm *ldm, uint32_t ref);
static inline uint64_t ts_committed(uint64_t ts)
{
    return ts < TS_LOCKED ? ts : TS_LOCKED - 1;
}

/* ---- ttl ---- */

/* The TTL column's value is old enough. */
bool fragment_value_expired(const struct fragment *fragment, struct value value);
static inline bool fragment_row_expired(const struct fragment *fragment, uint32_t row)
{
    if (!fragment->table->ttl_seconds) return false;
    return fragment_value_expired(fragment, row_value(fragment, row, fragment->table->ttl_column));
}

/* ---- index.c ---- */

/* A full primary key, ready for lookups. */
struct primary_key {
    const struct value *values; /* fitted, in the order of the key */
    uint64_t hash;
    uint32_t size; /* of bytes; 0 when only the hash is needed */
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
};

MUST_USE enum err fragment_indexes_create(struct fragment *fragment);
void fragment_indexes_destroy(struct fragment *fragment);
MUST_USE enum err index_create(struct fragment *fragment, const struct index_def *def,
                               bool is_primary, struct index **ret_index);
void index_destroy(struct index *index); /* NULL is allowed */
/* Recomputes fragment->indexed. */
void fragment_indexed_update(struct fragment *fragment);

/* values: fitted, of the key columns; borrowed. */
MUST_USE enum err primary_key_make(const struct fragment *fragment, const struct value *values,
                                   struct primary_key *key);
/* The row in the primary index: live or dead. ERR_NOT_FOUND. */
MUST_USE enum err primary_find(const struct fragment *fragment, const struct primary_key *key,
                               uint32_t *ret_row);
/* The same, with this (NULL: nothing) and what tells whether the row is there fetched ahead. */
MUST_USE enum err primary_find_ahead(const struct fragment *fragment, const struct primary_key *key,
                                     const struct read_ahead *ahead, uint32_t *ret_row);
/* The first candidate for the row with this number as its key, which is nearly always the row, with
 * its columns and what tells whether it is there on their way. ERR_NOT_FOUND: there is none.
 * Needs primary_is_number. */
MUST_USE enum err primary_guess(const struct fragment *fragment, uint64_t key,
                                const uint16_t *columns, uint32_t count, uint32_t *ret_row);
/* The primary key is one 64-bit unsigned number with a hash index. */
bool primary_is_number(const struct fragment *fragment);
/* The same through the hash index, by the normalized key alone. */
MUST_USE enum err hash_find_normalized(const struct fragment *fragment, const uint8_t *bytes,
                                       uint32_t size, uint32_t *ret_row);
/* Enters a row whose values are in place in every index. ERR_EXISTS: of the primary key, with the
 * row. Nothing changes on failure. */
MUST_USE enum err indexes_insert(struct fragment *fragment, uint32_t row,
                                 const struct primary_key *key, uint32_t *ret_existing);
/* Removes the entries of the values in place, of a row that has no other versions. */
void indexes_remove(struct fragment *fragment, uint32_t row);
/* Before a row's columns change to these values: enters the new keys. *ret_reused: some were there
 * for an older version. Nothing changes on failure. */
MUST_USE enum err indexes_change(struct fragment *fragment, uint32_t row, const uint16_t *columns,
                                 const struct value *values, uint32_t count, bool *ret_reused);
/* The normalized key of the row before the record's change (NULL: in place); its size. */
uint32_t index_key_before(const struct index *index, uint32_t row, const struct undo *undo,
                          uint8_t key[SCHEMA_KEY_SIZE_MAX]);
/* The normalized key of the version as of ts. */
uint32_t index_key_at(const struct index *index, uint32_t row, uint64_t ts,
                      uint8_t key[SCHEMA_KEY_SIZE_MAX]);
/* Removes the row's entry with this key, unless (looked for only when may_share) a version that is
 * left has it too. */
void index_drop(struct index *index, uint32_t row, const uint8_t *key, uint32_t key_size,
                bool may_share);
/* Builds a tree from all rows in place, and entries of their old versions. ERR_TOO_BIG, ERR_EXISTS,
 * ERR_NO_MEMORY. */
MUST_USE enum err index_build(struct index *index);
/* The hash index likewise. ERR_EXISTS. */
MUST_USE enum err hash_build(struct fragment *fragment);

/* ---- fragment.c, change_set.c ---- */

MUST_USE enum err fragment_create(struct partition *partition, const struct table_def *table,
                                  struct fragment **ret_fragment);
/* With all its undo records, which must be committed. NULL is allowed. */
void fragment_destroy(struct fragment *fragment);
/* Also finds expired rows; ERR_NOT_FOUND, never ERR_CONFLICT. */
MUST_USE enum err fragment_find_any(const struct fragment *fragment, const struct value *key,
                                    uint32_t *ret_row);
/* Room for one more record. */
MUST_USE enum err change_set_reserve(struct change_set *changes);
void change_set_add(struct change_set *changes, struct fragment *fragment, uint32_t row,
                    uint32_t ref);
/* Reverts the newest records until count are left. */
void change_set_revert_to(struct change_set *changes, uint32_t count);

#endif
