/* The local data manager's public face: the rows of the partitions one worker owns.
 * Single-threaded: everything here is called on the owning worker's thread only (or before the
 * workers start, on the thread that recovers that partition), so there are no locks.
 *
 * A partition holds, for every table, a fragment: PAX pages of FRAGMENT_PAGE_ROWS rows, a hash
 * index or B+tree (or both) for the primary key, B+trees for the others. Row numbers are stable for
 * a row's life: page row_id / FRAGMENT_PAGE_ROWS, slot row_id % FRAGMENT_PAGE_ROWS.
 *
 * Versions, after HyPer (Neumann, Mühlbauer, Kemper 2015): the newest version is in place; a row
 * that has older ones that somebody may need, or that is uncommitted, carries the number of its
 * newest undo record. An undo record holds what the row was before, and the commit timestamp of the
 * change that replaced it (TS_UNCOMMITTED while it is not committed). Reading at T starts from the
 * row in place and goes back while the record's timestamp is greater than T. A row is locked by a
 * transaction as long as its newest undo record is uncommitted. */
#ifndef DB_LDM_PARTITION_H
#define DB_LDM_PARTITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "base/err.h"
#include "db/wire/schema.h"
#include "db/wire/value.h"

enum { FRAGMENT_PAGE_ROWS = 512 };
#define TS_UNCOMMITTED UINT64_MAX
#define TS_LATEST (UINT64_MAX - 1) /* read the newest committed version */

/* What the partitions of one worker share: the undo store, memory accounting, the oldest pin, the
 * clock for TTL. */
struct ldm;
struct partition;
struct fragment;
struct change_set;

struct ldm_memory {
    uint64_t pages;    /* bytes of PAX pages with their heaps and out-of-page values */
    uint64_t indexes;  /* bytes of hash indexes and B+trees */
    uint64_t versions; /* bytes of undo records */
    uint64_t other;
};

/* memory_max bounds the sum of ldm_memory (0: none): inserts and growing updates beyond it get
 * ERR_NO_SPACE (but see fragment_limit). */
MUST_USE enum err ldm_create(uint64_t memory_max, struct ldm **ret_ldm);
void ldm_destroy(struct ldm *ldm); /* with all its partitions; NULL is allowed */
void ldm_memory(const struct ldm *ldm, struct ldm_memory *ret_memory);
/* Seconds since 1970 that TTL columns are compared with; set once per loop turn. */
void ldm_set_now(struct ldm *ldm, uint64_t realtime_ns);
/* Versions as of ts and later must stay readable until unpinned. Any number of pins; ts at least
 * the newest commit at the time of the call. */
MUST_USE enum err ldm_pin(struct ldm *ldm, uint64_t ts);
/* One that is not restricted. */
void ldm_unpin(struct ldm *ldm, uint64_t ts);
/* The pin made at `from` becomes one at ts, which is not earlier, and from now on only the versions
 * as of exactly ts stay readable through it: a row changed again and again under a long snapshot
 * then keeps one old version, not all. Unpin with ts. For snapshots whose timestamp is settled, and
 * for checkpoints. */
void ldm_pin_settle(struct ldm *ldm, uint64_t from, uint64_t ts);
/* The settled pin at ts reads this partition only, from now on: versions of the others' rows are
 * not kept for it. It is unpinned as a restricted one: others at the same ts stay what they are.
 * For checkpoints. */
void ldm_pin_restrict(struct ldm *ldm, uint64_t ts, const struct partition *partition);
void ldm_unpin_restricted(struct ldm *ldm, uint64_t ts, const struct partition *partition);
/* Frees undo records that no pin needs and index entries and rows that only they needed, and purges
 * expired rows, at most about `budget` of them. Returns how many were handled: 0 means there is
 * nothing to do now. Expired rows are returned through purge (may be NULL: not looked for) for the
 * caller to delete in a logged transaction. */
uint32_t ldm_collect(struct ldm *ldm, uint32_t budget,
                     void (*purge)(void *context, struct fragment *fragment, uint32_t row),
                     void *context);

MUST_USE enum err partition_create(struct ldm *ldm, uint16_t number, struct partition **ret);
void partition_destroy(struct partition *partition); /* NULL is allowed */
uint16_t partition_number(const struct partition *partition);
uint64_t partition_term(const struct partition *partition);
void partition_set_term(struct partition *partition, uint64_t term);
/* Follows a new catalog: makes fragments for new tables, drops those of dropped ones, builds or
 * drops indexes. The partition keeps pointers into the catalog until the next call. On failure the
 * partition is unchanged. */
MUST_USE enum err partition_set_catalog(struct partition *partition, const struct catalog *catalog);
/* The one set last; NULL before the first. For checkpoints, which list its tables. */
const struct catalog *partition_catalog(const struct partition *partition);
/* NULL when there is no such table. */
struct fragment *partition_fragment(struct partition *partition, uint32_t table_id);

const struct table_def *fragment_table(const struct fragment *fragment);
struct partition *fragment_partition(const struct fragment *fragment);
uint64_t
fragment_row_count(const struct fragment *fragment); /* newest versions, not expired or deleted */

/* ---- writing: everything goes through a change set, which is one transaction's changes on one
 * worker ---- */

MUST_USE enum err change_set_create(struct ldm *ldm, struct change_set **ret_changes);
void change_set_destroy(struct change_set *changes); /* must be empty: committed or rolled back */
bool change_set_is_empty(const struct change_set *changes);

/* One value per column, fitted (value_fit) by the callee; bytes are copied. ERR_EXISTS (an equal
 * primary key, visible or not yet committed by this change set), ERR_CONFLICT (locked by another,
 * or a deleted row that its transaction has not committed), value_fit's errors, ERR_NO_SPACE,
 * ERR_NO_MEMORY. Nothing changes on failure. */
MUST_USE enum err fragment_insert(struct fragment *fragment, struct change_set *changes,
                                  const struct value *values, uint32_t *ret_row);
/* Whether the limit of memory holds for the changes that follow, of any fragment of this worker: it
 * does but between two calls. */
void fragment_limit(struct fragment *fragment, bool holds);
/* Columns of the primary key cannot be updated (ERR_INVALID). ERR_CONFLICT and the rest as above.
 */
MUST_USE enum err fragment_update(struct fragment *fragment, struct change_set *changes,
                                  uint32_t row, const uint16_t *columns, const struct value *values,
                                  uint32_t count);
MUST_USE enum err fragment_delete(struct fragment *fragment, struct change_set *changes,
                                  uint32_t row);
/* Locks the row as a change would, without changing it: for prepared transactions. The errors of
 * fragment_delete. */
MUST_USE enum err fragment_lock(struct fragment *fragment, struct change_set *changes,
                                uint32_t row);
/* Undoes everything since the change set was empty, newest first. Cannot fail. */
void change_set_rollback(struct change_set *changes);
/* Makes the changes visible as of ts, greater than every pin's; unlocks the rows; drops the undo
 * records at once when nothing is pinned. Cannot fail. */
void change_set_commit(struct change_set *changes, uint64_t ts);
/* The redo body of the changes: for each changed row once (its net effect), in the order of first
 * change: u16 partition, u32 table id, u32 table version, u8 op, the primary-key values, then for
 * INSERT all columns, for UPDATE the changed columns with their new values. Called after the last
 * change, before commit. */
void change_set_encode(const struct change_set *changes, struct buf *buf);
/* Replays such a body into the partitions that find returns (NULL: skip that change, such as a
 * partition whose checkpoint is newer, or a dropped table). Idempotence is the caller's: it filters
 * by timestamp. ERR_CORRUPT when the body is malformed or does not fit the rows. */
MUST_USE enum err change_set_replay(struct change_set *changes, struct reader *reader,
                                    struct partition *(*find)(void *context, uint16_t number),
                                    void *context);

/* ---- point reads ---- */

/* The newest version of the row with this full primary key. ERR_NOT_FOUND; ERR_CONFLICT when it is
 * locked by a change set other than `own` (may be NULL); ERR_INVALID. Expired rows are not found.
 */
MUST_USE enum err fragment_find(const struct fragment *fragment, const struct change_set *own,
                                const struct value *key, uint32_t *ret_row);
/* What a caller will read once the row is found: the cache misses of that overlap with those of
 * finding it. */
struct read_ahead {
    const uint16_t *columns; /* of the row */
    uint32_t count;
    /* The row of another fragment, whose primary key, one number with a hash index, is in a column
     * of this row, and its columns. NULL: none. */
    const struct fragment *then;
    uint16_t then_column;
    const uint16_t *then_columns;
    uint32_t then_count;
};
/* fragment_find with that fetched ahead. */
MUST_USE enum err fragment_find_ahead(const struct fragment *fragment, const struct change_set *own,
                                      const struct value *key, const struct read_ahead *ahead,
                                      uint32_t *ret_row);
/* The columns in place, into values. True: there are strings among them, which are borrowed until
 * the next change of the fragment. */
bool fragment_values(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                     uint32_t count, struct value *values);
/* The column in place. Borrowed until the next change of the fragment. */
struct value fragment_value(const struct fragment *fragment, uint32_t row, uint16_t column);
/* Hints the caches that these columns of the row will be read or changed soon: their misses then
 * overlap. */
void fragment_prefetch_row(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                           uint32_t count);
/* The same of the bytes that strings among these columns have outside the row, once the columns
 * themselves have come. */
void fragment_prefetch_parts(const struct fragment *fragment, uint32_t row, const uint16_t *columns,
                             uint32_t count);
/* Hints the caches that the row with this key will be looked up soon. */
void fragment_prefetch(const struct fragment *fragment, const struct value *key);

/* Rows that are looked up together, each by a primary key of one column. */
enum { FRAGMENT_BATCH_MAX = 16 };
struct fragment_lookup {
    const struct fragment *fragment; /* NULL: none is looked up; afterwards also: it is not there */
    struct value key;                /* fitted */
    uint32_t row;
};
/* fragment_find of all, with these columns of each fetched ahead. ERR_CONFLICT. */
MUST_USE enum err fragment_find_batch(struct fragment_lookup *lookups, uint32_t count,
                                      const struct change_set *own, const uint16_t *columns,
                                      uint32_t column_count);
/* fragment_values of at most FRAGMENT_BATCH_MAX rows: column j of row i to values[i * stride + j].
 */
void fragment_gather_rows(const struct fragment *fragment, const uint32_t *rows, uint32_t count,
                          const uint16_t *columns, uint32_t column_count, struct value *values,
                          uint32_t stride);

/* As of ts: is there a version? Its column? Uncommitted changes are not seen. Borrowed until the
 * next change of the fragment or collection. */
bool fragment_visible_at(const struct fragment *fragment, uint32_t row, uint64_t ts);
struct value fragment_value_at(const struct fragment *fragment, uint32_t row, uint16_t column,
                               uint64_t ts);

/* ---- index cursors: rows in key order ---- */

struct index_cursor {
    const struct fragment *fragment;
    uint64_t ts; /* rows as of ts; TS_LATEST with `own`: newest versions */
    const struct change_set *own;
    uint8_t index;
    bool descending;
    bool done;
    void *leaf; /* the B+tree's */
    uint32_t position;
    uint64_t change_count; /* of the tree when positioned: cursors of a changed tree find their
                              place again */
    uint32_t
        bound_size; /* normalized: where the range ends (exclusive), 0: at the end of the index */
    uint32_t last_size; /* normalized key of the last row returned, kept when the tree may change in
                           between */
    /* Set by the caller after opening: the fragment does not change between calls, so the cursor
     * need not remember its place by key. */
    bool stable;
    bool started;     /* `last` is a row's key, of last_row; before, where the range starts */
    bool last_after;  /* before the first row: the range starts behind the keys that begin with
                         `last` */
    bool bound_after; /* the range ends behind the keys that begin with `bound` */
    bool is_point;    /* of a hash primary key: at most last_row */
    uint32_t last_row;
    void *end_leaf; /* where the range ends, in the direction of travel */
    uint32_t end_position;
    uint8_t bound[SCHEMA_KEY_SIZE_MAX];
    uint8_t last[SCHEMA_KEY_SIZE_MAX];
};
/* The rows with eq_count leading columns equal to eq and, where given, the next columns above low
 * and below high (low_count and high_count values, inclusive or not), ascending or descending.
 * index is the position in table_def.indexes and must be ORDERED (or the hash primary key with all
 * columns in eq). ERR_INVALID, ERR_TOO_BIG. */
struct index_bounds {
    const struct value *eq;
    const struct value *low;
    const struct value *high;
    uint16_t eq_count;
    uint16_t low_count;
    uint16_t high_count;
    bool low_inclusive;
    bool high_inclusive;
};
MUST_USE enum err index_cursor_open(struct index_cursor *cursor, const struct fragment *fragment,
                                    uint8_t index, const struct index_bounds *bounds,
                                    bool descending, uint64_t ts, const struct change_set *own);
/* ERR_END after the last; ERR_CONFLICT at a row locked by another when ts is TS_LATEST. */
MUST_USE enum err index_cursor_next(struct index_cursor *cursor, uint32_t *ret_row);

/* ---- page access: for vector execution and checkpoints ---- */

uint32_t fragment_page_count(const struct fragment *fragment);
/* The slots of the page with a version as of ts that has not expired, ascending; returns how many.
 */
uint32_t fragment_page_select(const struct fragment *fragment, uint32_t page, uint64_t ts,
                              uint16_t slots[FRAGMENT_PAGE_ROWS]);

/* Column values of selected rows, as the kind's C type: int64_t, uint64_t, double, or strings. */
struct vector {
    uint8_t kind;
    uint8_t scale;
    bool has_nulls; /* `nulls` is filled */
    uint32_t count;
    union {
        int64_t *i; /* also DEC */
        uint64_t *u;
        double *f;
        struct vector_str {
            const uint8_t *bytes;
            uint32_t size;
            uint32_t reserved;
        } * str;
    };
    uint8_t *nulls; /* a byte per value: 1 is NULL */
};
/* Fills the vector's memory (count elements, provided by the caller, with nulls) with the column of
 * the selected slots as of ts. Strings are borrowed until the next change of the fragment. Fast
 * when the page has no undo. */
void fragment_page_gather(const struct fragment *fragment, uint32_t page, uint64_t ts,
                          uint16_t column, const uint16_t *slots, uint32_t count,
                          struct vector *vector);

/* ---- checkpoints ---- */

/* Appends the page's rows as of ts, column by column, in a self-contained encoding (row count
 * first; 0 rows for an empty page); uncompressed: the caller compresses and checksums. */
void fragment_page_encode(const struct fragment *fragment, uint32_t page, uint64_t ts,
                          struct buf *buf);
/* How many rows that writes: those there as of ts, and expired ones too, since the log may yet
 * purge them. */
uint32_t fragment_page_rows(const struct fragment *fragment, uint32_t page, uint64_t ts);
/* Adds such rows to an empty or loading fragment, without building ordered indexes. table_version
 * is the one that the block was written with; columns added since get NULL. ERR_CORRUPT,
 * ERR_NO_MEMORY, ERR_NO_SPACE. */
MUST_USE enum err fragment_page_load(struct fragment *fragment, struct reader *reader);
/* After the last block: bulk-builds every index from the rows. ERR_CORRUPT on a duplicate key,
 * ERR_NO_MEMORY. */
MUST_USE enum err fragment_load_end(struct fragment *fragment);
/* Checks every invariant: index entries against rows both ways, counts, heaps, chains. For tests
 * and fsck. ERR_CORRUPT with a reason. */
MUST_USE enum err fragment_verify(const struct fragment *fragment, struct diag *diag);

#endif
