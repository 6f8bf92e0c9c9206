/* Programs: the unit a client sends. A program has sections, one per slot it touches; a section is
 * a list of steps that run in order on the rows of one partition. All of a program commits or none
 * of it.
 *
 * A step addresses one row by its primary key (or scans a short index range), may state guards with
 * the error a failed one returns, and may be conditional. Operands are constants, columns of rows
 * that earlier steps of the same section fetched, or expressions over those; an UPDATE's own row is
 * addressed by its own step number, with the values from before the update. Step numbers run
 * through the whole program from 0.
 *
 *   section 0, slot 17:
 *     step 0: READ   inode  (ino=…)           guard type = DIR else ERR_ENOTDIR      output mode,
 * gid step 1: INSERT dentry (parent, hash, name, ino, type)    on exists ERR_EEXIST step 2: UPDATE
 * inode  (ino=…)  set mtime = const, nlink = step0.nlink + 1
 *
 * A step's columns, for later steps, are what the step fetched: as they were before its own change
 * and before any later one. A later step cannot refer to a SCAN or a CHECK.
 *
 * Wire format of a program: u16 version (1), u16 section count, u16 step count, u32 flags, then per
 * section: u16 slot, u16 step count, then the steps, each with a u32 byte size in front; every
 * operand is a tag byte and its body (program_wire.h has the rest). Steps carry their numbers,
 * ascending but not necessarily without gaps: the part of a program that one participant of a
 * two-phase commit gets is a program as well. Everything is validated against the limits below and
 * the table definitions (by version) before the first step runs.
 *
 * A program that is run often, with other values each time, has parameters in place of constants
 * and is prepared: built once, decoded and checked once for each catalog where it runs in place,
 * and sent with its values behind it where it does not. */
#ifndef DB_WIRE_PROGRAM_H
#define DB_WIRE_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "db/wire/expr.h"
#include "db/wire/schema.h"

enum {
    PROGRAM_SECTIONS_MAX = 16,
    PROGRAM_STEPS_MAX = 64,
    PROGRAM_GUARDS_MAX = 8, /* of one step */
    PROGRAM_PARAMS_MAX = 64,
    PROGRAM_SCAN_LIMIT_MAX = 8192, /* rows one SCAN step returns */
    PROGRAM_SIZE_MAX = 1 << 20,    /* bytes encoded */
    PROGRAM_REPLY_SIZE_MAX = 4 << 20,
};

enum step_kind {
    STEP_READ = 1,   /* by primary key. Missing row: on_missing */
    STEP_INSERT = 2, /* a value for every column. Row there: on_exists */
    STEP_UPDATE = 3, /* by primary key; assignments to non-key columns */
    STEP_DELETE = 4, /* by primary key */
    STEP_SCAN =
        5, /* an index range in order, at most limit rows, optionally with a lookup per row */
    STEP_UPSERT = 6, /* INSERT, or the assignments when the row is there (its old values under the
                        own step) */
    STEP_CHECK = 7,  /* no row: only guards */
};

enum step_flag {
    STEP_OPTIONAL = 1, /* a missing row is no error: the step's columns read NULL, UPDATE and DELETE
                          do nothing; for INSERT: an existing row is no error and stays */
    STEP_FREES = 2, /* of INSERT and UPSERT: the row notes what is being taken away, so the limit of
                       memory does not hold for it, or a full store could not be emptied. Whoever
                       sets it sees to it that there are no more such rows than things to take */
};

/* In expressions: the source of EXPR_COLUMN that is the program's parameters, the column being a
 * parameter's number. */
enum { PROGRAM_SOURCE_PARAM = 253 };

struct operand {
    enum { OPERAND_CONST = 1, OPERAND_COLUMN = 2, OPERAND_EXPR = 3, OPERAND_PARAM = 4 } tag;
    uint8_t step;    /* of OPERAND_COLUMN */
    uint16_t column; /* of OPERAND_COLUMN; of OPERAND_PARAM: its number */
    struct value value;
    struct expr expr;
};

static inline struct operand operand_value(struct value value)
{
    return (struct operand){.tag = OPERAND_CONST, .value = value};
}
static inline struct operand operand_column(uint8_t step, uint16_t column)
{
    return (struct operand){.tag = OPERAND_COLUMN, .step = step, .column = column};
}
static inline struct operand operand_param(uint16_t number)
{
    return (struct operand){.tag = OPERAND_PARAM, .column = number};
}
static inline struct operand operand_expr(struct expr expr)
{
    return (struct operand){.tag = OPERAND_EXPR, .expr = expr};
}

/* A program under construction is its encoded bytes. Reusable: program_begin starts over with the
 * memory it has. Latches failure (memory, limits): program_finish, called by whoever runs it,
 * reports it. */
struct program {
    struct buf buf;
    enum err err;
    uint16_t section_count;
    uint16_t step_count;
    uint16_t section_steps; /* of the open section */
    size_t section_at;      /* where the open section's header lies */
    size_t step_at;         /* where the open step lies; 0: none is open */
    uint16_t param_count;
    uint16_t slots[PROGRAM_SECTIONS_MAX];
    uint32_t slots_at[PROGRAM_SECTIONS_MAX]; /* where the sections' headers lie */
};

void program_init(struct program *program);
void program_fini(struct program *program);
void program_begin(struct program *program);
/* Before the first section: the program has parameters of these kinds (enum value_kind), whose
 * values, or NULL, come when it is run prepared. */
void program_params(struct program *program, const uint8_t *kinds, uint16_t count);
/* Steps that follow run on the partition of this slot. Sections must have different slots. */
void program_section(struct program *program, uint16_t slot);

/* Each opens a step and returns its number. `key` holds one operand per primary-key column; insert
 * values one per table column. The step stays open for the program_* calls below until the next
 * one. Only OPERAND_CONST and operands over earlier steps of the same section are allowed in keys.
 */
uint8_t program_read(struct program *program, const struct table_def *table,
                     const struct operand *key, enum err on_missing);
uint8_t program_insert(struct program *program, const struct table_def *table,
                       const struct operand *values, enum err on_exists);
uint8_t program_update(struct program *program, const struct table_def *table,
                       const struct operand *key, enum err on_missing);
uint8_t program_delete(struct program *program, const struct table_def *table,
                       const struct operand *key, enum err on_missing);
uint8_t program_upsert(struct program *program, const struct table_def *table,
                       const struct operand *values);
uint8_t program_check(struct program *program);
/* Rows of index `index` (position in table->indexes) whose key starts with the eq_count values
 * `key`, from the first one greater than `after` (or at least, when after_inclusive; after_count
 * further key columns may be 0), in ascending order, at most limit. All operands constants or
 * earlier columns. */
uint8_t program_scan(struct program *program, const struct table_def *table, uint8_t index,
                     const struct operand *key, uint8_t eq_count, const struct operand *after,
                     uint8_t after_count, bool after_inclusive, uint32_t limit);
/* For the open SCAN step: with every row, the row of `table` whose one-column primary key is the
 * scanned row's `column`, when it lives on the same worker; its `columns` follow the scan's output,
 * NULL where it is not. */
void program_scan_lookup(struct program *program, const struct table_def *table, uint16_t column,
                         const uint16_t *columns, uint16_t count);

/* On the open step. Guards are checked in order after the row was fetched and before it is changed;
 * the first that fails aborts the program with its error (ERR_GUARD where that is ERR_NONE). On a
 * SCAN they are checked on every row (so a guard that never holds says that there must be no row).
 * Guards of a step whose row is not there, optionally missing or not yet upserted, are not checked;
 * for those use a CHECK step. INSERT checks its guards always. */
void program_guard(struct program *program, struct expr expr, enum err err);
/* The step is skipped (as if OPTIONAL and missing) unless the expression over earlier steps holds.
 */
void program_when(struct program *program, struct expr expr);
void program_flags(struct program *program, unsigned flags); /* enum step_flag */
/* Of UPDATE and UPSERT. */
void program_set(struct program *program, uint16_t column, struct operand operand);
/* Columns of the step's row to return (as they are after the step; for DELETE before it). */
void program_output(struct program *program, const uint16_t *columns, uint16_t count);

/* Closes the encoding. ERR_TOO_BIG, ERR_NO_MEMORY, ERR_INVALID (misuse, such as two sections of one
 * slot). */
MUST_USE enum err program_finish(struct program *program);

/* Decoded form, for the executor: all memory from the arena, bytes borrowed from the message. */
struct step_guard {
    struct expr expr;
    enum err err;
};
struct step_set {
    uint16_t column;
    struct operand operand;
};
struct step {
    uint8_t kind;
    uint8_t flags;
    uint8_t number;
    uint8_t index; /* SCAN */
    const struct table_def *table;
    uint16_t key_count;   /* operands in key: primary-key columns, or eq_count of a SCAN */
    uint16_t value_count; /* INSERT, UPSERT: columns; SCAN: after_count */
    struct operand *key;
    struct operand *values;
    bool after_inclusive;
    uint32_t limit;
    const struct table_def *lookup_table;
    uint16_t lookup_column;
    uint16_t lookup_output_count;
    uint16_t *lookup_outputs;
    enum err on_err; /* on_missing or on_exists */
    bool has_when;
    struct expr when;
    uint16_t guard_count;
    struct step_guard *guards;
    uint16_t set_count;
    struct step_set *sets;
    uint16_t output_count;
    uint16_t *outputs;
    /* The key, one integer that the program states, of a row in a hash index: such a row can be
     * fetched ahead. NULL: it is not so. */
    const struct operand *ahead;
    /* The first later step whose row's key, one integer in a hash index, is a column of this step's
     * row (then_column): that row can be fetched while this one is being compared. NULL: none. */
    const struct step *then;
    uint16_t then_column;
    /* Columns of this step that later ones read, a bit each: the executor keeps their values from
     * when the row was fetched. */
    uint64_t refs[SCHEMA_COLUMNS_MAX / 64];
};
struct program_section_decoded {
    uint16_t slot;
    uint16_t step_count;
    struct step *steps;
};
struct program_decoded {
    uint16_t section_count;
    uint16_t step_count;
    uint16_t param_count;
    struct program_section_decoded *sections;
    const uint8_t *param_kinds;
    const struct value *params;
};
/* Validates everything against the limits and the catalog. ERR_BAD_PROGRAM, ERR_SCHEMA_CHANGED (the
 * table version differs), ERR_NO_MEMORY. */
MUST_USE enum err program_decode(struct reader *reader, const struct catalog *catalog,
                                 struct arena *arena, struct program_decoded *ret_program);

/* A prepared program. It belongs to one thread. Between runs in place it keeps its decoded form,
 * which borrows from the catalog it was decoded with and is made again when that has another
 * version. */
struct program_prepared {
    struct buf bytes; /* finished, without values */
    struct arena arena;
    struct program_decoded decoded;
    bool is_decoded;
    uint64_t catalog_version; /* that decoded is of */
    uint16_t section_count;
    uint16_t param_count;
    uint32_t slots_at[PROGRAM_SECTIONS_MAX];
    uint8_t param_kinds[PROGRAM_PARAMS_MAX];
};
void program_prepared_init(struct program_prepared *prepared);
void program_prepared_fini(struct program_prepared *prepared);
/* Takes over a program that was just built (its sections' slots do not matter, but must differ),
 * in place of what was prepared before. program_finish's errors; then nothing is prepared. */
MUST_USE enum err program_prepare(struct program_prepared *prepared, struct program *program);
/* The complete program with these slots and values: one of each section, and of each parameter, of
 * its kind or NULL. ERR_INVALID (a wrong kind, two equal slots), ERR_TOO_BIG, ERR_NO_MEMORY. */
MUST_USE enum err program_bind(const struct program_prepared *prepared, const uint16_t *slots,
                               const struct value *params, struct program *ret_program);
/* The same in decoded form, to be run at once, before the catalog changes; borrowed until the next
 * call. program_decode's errors, and ERR_INVALID. */
MUST_USE enum err program_bind_decoded(struct program_prepared *prepared,
                                       const struct catalog *catalog, const uint16_t *slots,
                                       const struct value *params,
                                       const struct program_decoded **ret_program);

/* The sections of an encoded program, of the steps only their sizes and kinds: what a coordinator
 * needs. */
struct program_outline {
    uint16_t section_count;
    uint16_t step_count;
    bool only_reads;       /* no INSERT, UPDATE, DELETE or UPSERT */
    const uint8_t *params; /* the count and kinds of parameters, borrowed; NULL: there are none */
    const uint8_t *values; /* of the parameters, behind the sections */
    uint32_t params_size;
    uint32_t values_size;
    struct program_outline_section {
        uint16_t slot;
        uint16_t step_count;
        const uint8_t *bytes; /* from the section's header on, borrowed */
        uint32_t size;
    } sections[PROGRAM_SECTIONS_MAX];
};
/* ERR_BAD_PROGRAM. */
MUST_USE enum err program_outline_decode(const void *bytes, size_t size,
                                         struct program_outline *ret_outline);
/* Appends a program of those of the outline's sections whose bit in `mask` is set. */
void program_outline_encode(const struct program_outline *outline, uint32_t mask, struct buf *buf);

/* What comes back: u16 err, u8 failed step, u64 commit timestamp, then for each step with outputs,
 * in the order they ran: u8 step, u32 row count, u16 column count, then the values row by row. A
 * step that was skipped, or whose optional row is missing, has no rows. A scan returns fewer rows
 * than its limit when there are no more, or when the reply would pass PROGRAM_REPLY_SIZE_MAX (then
 * at least one). */
struct program_reply {
    struct buf bytes; /* owned; the values of rows point into it */
    enum err err;
    uint8_t failed_step; /* when err is set */
    uint64_t commit_ts;  /* 0 for a program that only reads */
    struct step_rows {
        uint32_t row_count;
        uint32_t column_count;
        uint32_t row_capacity; /* of program_reply_rows_more */
        struct value *values;  /* row_count * column_count, from `arena` */
    } steps[PROGRAM_STEPS_MAX];
    uint64_t step_mask; /* the steps that have an entry above */
    struct arena arena;
};
/* Writing one: the header with ERR_NONE; program_reply_end fills it in. */
enum { PROGRAM_REPLY_HEADER_SIZE = 11 };
void program_reply_begin(struct buf *buf);
/* buf may have been cut back to the header: nothing but err and failed_step matter when err is set.
 */
void program_reply_end(struct buf *buf, size_t at, enum err err, uint8_t failed_step,
                       uint64_t commit_ts);
/* A reply that is filled where the program runs, without bytes in between. */
void program_reply_clear(struct program_reply *reply);
/* Room for the step's one row, which the caller fills before the next call. NULL: no memory. */
struct value *program_reply_row(struct program_reply *reply, uint8_t step, uint16_t column_count);
/* The same for a scan's rows: none at first, then `count` more of at most row_max with each call.
 */
void program_reply_rows(struct program_reply *reply, uint8_t step, uint16_t column_count);
struct value *program_reply_rows_more(struct program_reply *reply, uint8_t step, uint32_t count,
                                      uint32_t row_max);
/* Parses what is in `bytes` and sets the outcome; with an err there are no rows. The errors of
 * program_reply_decode, which also replace an `err` of ERR_NONE. */
MUST_USE enum err program_reply_finish(struct program_reply *reply, enum err err,
                                       uint8_t failed_step, uint64_t commit_ts);
void program_reply_init(struct program_reply *reply);
void program_reply_fini(struct program_reply *reply);
/* Parses reply->bytes. ERR_BAD_SIGNAL, ERR_NO_MEMORY; else reply->err, the program's own outcome,
 * is set. */
MUST_USE enum err program_reply_decode(struct program_reply *reply);
/* The row'th row of the step's output (0 for READ): its column_count values; NULL when there is no
 * such row. */
static inline const struct value *program_row(const struct program_reply *reply, uint8_t step,
                                              uint32_t row)
{
    const struct step_rows *rows = &reply->steps[step];
    return row < rows->row_count ? rows->values + (size_t)row * rows->column_count : NULL;
}

#endif
