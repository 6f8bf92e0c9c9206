/* What the files of the executor share. Private to db/query.
 *
 *   exec.c      creation: columns used, expressions prepared, buffers; the scheduler
 *   batch.c     rows under way: references or moved values, their columns on demand
 *   scan.c      source 0: pages, index ranges, keys
 *   join.c      the others: routing rows to the partition that owns the key, index lookups there
 *   move.c      rows to and from other workers
 *   sink.c      the end of the pipeline: aggregation, or rows out */
#ifndef DB_QUERY_PIPELINE_H
#define DB_QUERY_PIPELINE_H

#include "db/query/aggregate.h"
#include "db/query/collector.h"
#include "db/query/exec.h"
#include "db/query/group.h"
#include "db/query/result.h"
#include "db/query/vexpr.h"

/* A column that the query reads. */
struct exec_column {
    uint8_t source;
    uint16_t column;
    struct query_type type;
    uint32_t last_use; /* the last step of the pipeline that reads it */
};

struct exec_source {
    const struct query_source *query;
    struct table_def *table; /* our copy */
    int16_t *columns;        /* of each table column: number of the exec_column, or -1 */
    uint16_t conjunct_count;
    struct vexpr *conjuncts; /* of the filter */
    uint32_t *conjunct_steps;
    struct vexpr *keys; /* JOIN */
    uint32_t key_step;
    bool broadcast;                            /* JOIN: the keys do not tell the partition */
    bool unique;                               /* JOIN: all columns of the primary key are given */
    uint8_t slot_keys[SCHEMA_KEY_COLUMNS_MAX]; /* JOIN: which key is each partition column */
};

/* Rows that came from another worker, held while a batch refers to them. */
struct moved {
    struct moved *next; /* in an inbox */
    uint32_t refs;
    uint16_t from;
    uint8_t source;
    uint32_t row_count;
    uint64_t size; /* of the block */
    struct vector *
        vectors; /* of each exec_column; kind is KIND_NULL and u NULL for those that did not come */
    struct arena arena;
};

enum batch_form {
    BATCH_PAGE,  /* source 0: slots of one page */
    BATCH_ROWS,  /* row numbers */
    BATCH_MOVED, /* elements of moved vectors */
};

struct batch_source {
    enum batch_form form;
    struct fragment *fragment; /* not MOVED */
    uint32_t *rows;            /* ROWS: row numbers. Allocated once for each box and source */
};

/* Up to QUERY_VECTOR_ROWS rows of the sources joined so far. Strings in cached columns are good for
 * one slice of time only, then gathered again. */
struct batch {
    uint32_t count; /* 0: the box is empty */
    uint16_t source_count;
    uint16_t partition; /* where source_count - 1 was read */
    uint32_t page;      /* PAGE */
    uint16_t *slots;    /* PAGE */
    struct moved *moved;
    uint16_t *moved_rows; /* MOVED */
    struct batch_source sources[QUERY_SOURCES_MAX];
    struct vector *vectors;         /* of each exec_column, */
    struct vector_buffer **buffers; /* valid when there is a buffer */
};

/* A batch on its way to the partitions that own its keys: row numbers sorted by partition. */
struct routing {
    bool ready;           /* the rest is filled */
    uint16_t *order;      /* rows of the batch, by partition */
    uint16_t *partitions; /* of each row */
    uint32_t next;        /* position in order, or the partition number when broadcast */
    uint32_t count;       /* rows that have a key */
};

/* Rows of one source on their way to another worker. */
struct outgoing {
    struct collector rows;
    uint32_t in_flight; /* MOVE signals not yet taken */
};

struct stage {          /* of source k > 0 */
    struct batch route; /* came from the sources before */
    struct routing routing;
    struct batch arrive; /* came from another worker */
    struct routing arriving;
    struct batch join;  /* in its partition: being looked up */
    uint32_t join_next; /* row of join to look up next */
    bool cursor_open;
    const struct vector *key_vectors[SCHEMA_KEY_COLUMNS_MAX]; /* of join, during a step */
    struct index_cursor *cursor;
    uint32_t last_match; /* of join row join_next - 1 when unique and found; else UINT32_MAX */
    struct moved *inbox; /* oldest first */
    struct moved **inbox_end;
    struct outgoing *outgoing; /* of each worker, when there are others */
    uint16_t carried_count;
    uint16_t *carried; /* exec_columns that move with the rows */
};

struct scan {
    bool done;
    uint32_t partition_count;
    uint16_t *partitions;      /* of this worker, touched */
    uint32_t partition;        /* position in partitions */
    struct fragment *fragment; /* of that partition; NULL: not begun */
    uint32_t page;
    uint32_t range;
    bool cursor_open;
    struct index_cursor *cursor;
    uint16_t *range_partitions; /* of each range: the one partition it is in, or UINT16_MAX */
    uint8_t *seen;              /* a bit for each row, when several ranges may give the same row */
    uint64_t seen_size;
};

struct sink {
    struct vexpr *groups;
    struct vexpr *arguments; /* of aggregates; zeroed for COUNT_STAR */
    struct vexpr *outputs;
    struct groups table;
    struct aggregate *aggregates;
    struct result_distinct distinct;
    struct result_sort sort;
    bool has_distinct;
    bool has_sort;
    uint64_t rows_left; /* wanted, when the first rows will do */
    bool full;
    struct collector rows;         /* to be sent: without aggregation */
    const struct vector **vectors; /* scratch: of keys, arguments or outputs */
    bool deduplicated;             /* the last box has gone through distinct */
    uint32_t batch_next;           /* row of the last box to collect next */
    uint32_t step;                 /* the pipeline's last */
    /* Where sending the results is. */
    uint64_t sent;      /* groups, or sorted rows */
    uint16_t aggregate; /* whose distinct values are being sent */
    uint32_t sent_distinct;
    uint32_t piece; /* rows of the last message of groups or distinct values; 0: none yet */
};

struct query_exec {
    const struct query_tree *tree;
    struct query_host host;
    struct query_run run;
    struct query_memory memory;
    struct vector_pool pool; /* of column values */
    /* Of expressions' intermediate results, which expressions share because evaluations never
     * overlap. Columns are fetched in the middle of an evaluation, so they must not come from the
     * same pool. */
    struct vector_pool registers;
    struct arena arena;   /* what lives as long as the executor */
    struct arena scratch; /* results of expressions: reset at every step */
    struct exec_source sources[QUERY_SOURCES_MAX];
    uint16_t column_count;
    struct exec_column *columns;
    uint32_t step_count;
    struct scan scan;
    struct stage *stages; /* of each source; 0 is not used */
    struct batch last;    /* rows of all sources: for the sink */
    struct sink sink;
    struct buf buf;
    uint32_t row_credits;
    uint32_t sequence;
    bool finish;    /* nothing is in flight anywhere: send results */
    bool idle_told; /* and nothing was done since */
    bool done;
    uint64_t rows_scanned;
    uint64_t *moves_sent; /* to each worker */
    uint64_t moves_taken;
    enum err err;
    struct diag diag;
};

/* What one step of the pipeline came to. */
enum step_result {
    STEP_DONE,    /* something was done */
    STEP_NOTHING, /* there is nothing to do, or it has to wait */
    STEP_FAILED,  /* exec->err is set */
};

/* Fails the query and returns STEP_FAILED. */
enum step_result exec_fail(struct query_exec *exec, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
MUST_USE enum err exec_alloc(struct query_exec *exec, size_t size, size_t count, void **ret_at);

/* ---- batch.c ---- */
MUST_USE enum err batch_init(struct query_exec *exec, struct batch *batch, uint16_t source_count);
/* Lets go of columns and moved rows; the box is empty. */
void batch_clear(struct query_exec *exec, struct batch *batch);
/* Forgets columns that may be stale after a pause. */
void batch_pause(struct query_exec *exec, struct batch *batch);
/* Keeps only the picked rows; columns not read after `step` are forgotten. */
void batch_compact(struct query_exec *exec, struct batch *batch, const uint16_t *picks,
                   uint32_t count, uint32_t step);
/* `to`, an empty box, gets the picked rows of `from`, and its columns read after `step`. */
MUST_USE enum err batch_copy(struct query_exec *exec, struct batch *to, const struct batch *from,
                             const uint16_t *picks, uint32_t count, uint32_t step);
/* `to`, an empty box, takes all of `from`, which becomes empty. */
void batch_move(struct batch *to, struct batch *from);
MUST_USE enum err batch_column(struct query_exec *exec, struct batch *batch, uint16_t column,
                               const struct vector **ret_vector);
MUST_USE enum err batch_eval(struct query_exec *exec, struct batch *batch, struct vexpr *vexpr,
                             const struct vector **ret_vector);
/* Applies the filter of the batch's last source. May leave it empty. */
enum step_result batch_filter(struct query_exec *exec, struct batch *batch);
void moved_release(struct query_exec *exec, struct moved *moved);

/* The steps; each does a bounded piece. */
enum step_result scan_step(struct query_exec *exec);
MUST_USE enum err scan_init(struct query_exec *exec);
void scan_fini(struct query_exec *exec);
enum step_result join_step(struct query_exec *exec, uint16_t source);
enum step_result route_step(struct query_exec *exec, uint16_t source);
enum step_result arrive_step(struct query_exec *exec, uint16_t source);
/* The box that rows with sources 0..source-1 go to next. */
struct batch *exec_box(struct query_exec *exec, uint16_t source);

MUST_USE enum err move_init(struct query_exec *exec);
void move_fini(struct query_exec *exec);
/* Takes picked rows of the batch along, as many as there is room for; STEP_NOTHING: none, for now.
 */
enum step_result move_rows(struct query_exec *exec, struct batch *batch, uint16_t source,
                           uint16_t worker, const uint16_t *picks, uint32_t count,
                           uint32_t *ret_taken);
/* Sends what was collected. STEP_NOTHING: all is sent, or has to wait for credits (*ret_waiting).
 */
enum step_result move_flush(struct query_exec *exec, bool *ret_waiting);

MUST_USE enum err sink_init(struct query_exec *exec, const struct query_scope *scope,
                            uint32_t step);
void sink_fini(struct query_exec *exec);
enum step_result sink_step(struct query_exec *exec);
/* Sends one piece of the results; STEP_NOTHING: waits for credit; *ret_end: everything was sent. */
enum step_result sink_send(struct query_exec *exec, bool *ret_end);
/* Begins a ROWS body in exec->buf. */
void exec_rows_begin(struct query_exec *exec, enum query_rows_kind kind);
enum step_result exec_rows_send(struct query_exec *exec);

#endif
